/* SPDX-License-Identifier: Apache-2.0 */
/* Processes that the kernel kills for a call too many: seccomp strict and filters, and PR_SET_TSC. */
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "behave.h"
#include "later.h"

static void finish(int status) /* exit() is exit_group(), which strict mode kills */
{
    syscall(SYS_exit, status);
}

static int strict(int argc, char **argv)
{
    int fd = open("/dev/zero", O_RDONLY);
    char b;

    (void)argc, (void)argv;
    MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0) == 0);
    for (int i = 0; i < 1000; i++)
        if (read(fd, &b, 1) != 1)
            finish(1);
    if (write(1, "alive\n", 6) != 6)
        finish(2);
    finish(5);
    return 0;
}

/* The first calls of a forked child are already inside. */
static int strict_after_fork(int argc, char **argv)
{
    int status;
    pid_t p = fork();

    (void)argc, (void)argv;
    if (p == 0) {
        syscall(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0);
        if (write(1, "alive\n", 6) != 6)
            finish(2);
        finish(6);
    }
    MUST(waitpid(p, &status, 0) == p);
    printf("%x\n", status);
    return 0;
}

/* Allows a few calls and kills the process for any other: gettid, futex, mmap, clock_gettime... */
static void filter(const int *allowed, int n, unsigned otherwise)
{
    struct sock_filter code[64];
    struct sock_fprog program = {.filter = code};
    unsigned short k = 0;

    code[k++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0 /* seccomp_data.nr */);
    for (int i = 0; i < n; i++) {
        code[k++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)allowed[i], 0, 1);
        code[k++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    code[k++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, otherwise);
    program.len = k;
    MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0);
}

/* Quiet long enough for the collector to sleep; then most of what a ring holds, and again as soon as one who is awake
 * must have read that. Several times: one who sleeps comes round now and then. */
static void quiet_then_busy(void)
{
    for (long round = 0; round < 4; round++) {
        struct timespec quiet = {1, 300000000 + round * 30000000}, pause = {0, 15000000};

        syscall(SYS_nanosleep, &quiet, NULL);
        for (int i = 0; i < 3; i++) {
            for (int k = 0; k < 5000; k++)
                if (syscall(SYS_close, syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDONLY)) != 0)
                    _exit(1);
            syscall(SYS_nanosleep, &pause, NULL);
        }
    }
}

static int quiet(int argc, char **argv)
{
    (void)argc, (void)argv;
    quiet_then_busy();
    puts("alive");
    return 0;
}

/* In a sandbox that nobody can be woken from. */
static int quiet_filter(int argc, char **argv)
{
    static const int allowed[] = {SYS_write, SYS_exit, SYS_exit_group, SYS_openat, SYS_close, SYS_nanosleep};

    (void)argc, (void)argv;
    usleep(1500000);
    filter(allowed, 6, SECCOMP_RET_KILL_PROCESS);
    quiet_then_busy();
    if (write(1, "alive\n", 6) != 6)
        _exit(2);
    _exit(13);
}

static int kill_filter(int argc, char **argv)
{
    static const int allowed[] = {SYS_read, SYS_write, SYS_exit, SYS_exit_group, SYS_openat, __NR_open, SYS_close};
    int fd;
    char b;

    (void)argc, (void)argv;
    filter(allowed, 7, SECCOMP_RET_KILL_PROCESS);
    for (int i = 0; i < 1000; i++) {
        fd = (int)syscall(SYS_openat, AT_FDCWD, "/dev/zero", O_RDONLY);
        if (fd < 0 || read(fd, &b, 1) != 1 || close(fd) != 0)
            _exit(1);
    }
    if (write(1, "alive\n", 6) != 6)
        _exit(2);
    _exit(8);
}

/* A forked child works on inside the parent's filter, and outgrows what it may borrow. */
static int filter_then_fork(int argc, char **argv)
{
    static const int allowed[] = {SYS_read,           SYS_write,           SYS_exit,   SYS_exit_group,
                                  SYS_openat,         SYS_close,           SYS_clone,  __NR_fork,
                                  SYS_wait4,          SYS_set_robust_list, SYS_gettid, SYS_rt_sigprocmask,
                                  SYS_set_tid_address};
    int status, fd;
    pid_t p;
    char b;

    (void)argc, (void)argv;
    filter(allowed, 13, SECCOMP_RET_KILL_PROCESS);
    p = fork();
    if (p == 0) {
        for (int i = 0; i < 3000; i++) {
            fd = (int)syscall(SYS_openat, AT_FDCWD, "/dev/zero", O_RDONLY);
            if (fd < 0 || read(fd, &b, 1) != 1 || close(fd) != 0)
                _exit(1);
        }
        if (write(1, "child alive\n", 12) != 12)
            _exit(2);
        _exit(9);
    }
    if (p < 0 || wait4(p, &status, 0, NULL) != p || status != 9 << 8)
        _exit(3);
    if (write(1, "parent alive\n", 13) != 13)
        _exit(4);
    _exit(10);
}

static void answer(int connection)
{
    static const char text[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi\n";
    char request[256];

    if (read(connection, request, sizeof(request)) <= 0 || write(connection, text, sizeof(text) - 1) != sizeof(text) - 1)
        _exit(1);
}

#define HEIRS 3

/* A server in a sandbox, each of whose connections a child has: by fork(), by a call of which the C library knows nothing
 * ("raw"), or, but for the answer, by vfork(). "itself": each child enters the sandbox, not the server. "later": they are
 * there when somebody comes to attach. */
static int heirs(int argc, char **argv)
{
    static const int allowed[] = {SYS_read,   SYS_write, SYS_exit,  SYS_exit_group,      SYS_openat, SYS_close,
                                  SYS_accept, SYS_clone, __NR_fork,  __NR_vfork,           SYS_wait4,  SYS_set_robust_list,
                                  SYS_gettid, __NR_open,  SYS_rseq,  SYS_rt_sigprocmask};
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    int client[HEIRS], listener = socket(AF_INET, SOCK_STREAM, 0), status;
    int accepted[HEIRS] = {-1, -1, -1};
    bool raw = argc > 2 && !strcmp(argv[2], "raw"), vforks = argc > 2 && !strcmp(argv[2], "vfork"),
         itself = argc > 2 && !strcmp(argv[2], "itself"), later = argc > 2 && !strcmp(argv[2], "later");
    char text[256];

    MUST(bind(listener, (struct sockaddr *)&at, sizeof(at)) == 0 && listen(listener, HEIRS) == 0);
    MUST(getsockname(listener, (struct sockaddr *)&at, &len) == 0);
    for (int i = 0; i < HEIRS; i++) {
        client[i] = socket(AF_INET, SOCK_STREAM, 0);
        MUST(connect(client[i], (struct sockaddr *)&at, sizeof(at)) == 0);
        snprintf(text, sizeof(text), "GET /%d HTTP/1.1\r\nHost: here\r\n\r\n", i);
        MUST(write(client[i], text, strlen(text)) == (ssize_t)strlen(text));
    }
    if (later)
        for (int i = 0; i < HEIRS; i++)
            accepted[i] = accept(listener, NULL, NULL);
    if (!itself)
        filter(allowed, sizeof(allowed) / sizeof(allowed[0]), SECCOMP_RET_KILL_PROCESS);
    if (later && write(1, "ready\n", 6) != 6)
        _exit(5);
    if (later && open("go", O_RDONLY) < 0) /* a FIFO */
        _exit(6);
    for (int i = 0; i < HEIRS; i++) {
        struct sockaddr_in peer = {0};
        socklen_t peer_len = sizeof(peer);
        int connection = later ? accepted[i] : accept(listener, (struct sockaddr *)&peer, &peer_len);
        volatile int copy = connection;
        pid_t p = raw ? (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) : vforks ? vfork() : fork();

        if (p == 0) {
            if (itself)
                filter(allowed, sizeof(allowed) / sizeof(allowed[0]), SECCOMP_RET_KILL_PROCESS);
            if (vforks)
                close(copy);
            else
                answer(copy);
            if (open("/dev/null", O_RDONLY) < 0)
                _exit(2);
            _exit(20);
        }
        if (vforks)
            answer(connection);
        close(connection);
        if (p < 0 || wait4(p, &status, 0, NULL) != p || status != 20 << 8 || read(client[i], text, sizeof(text)) <= 0)
            _exit(3);
        len = (socklen_t)snprintf(text, sizeof(text), "%d %d\n", (int)p, ntohs(peer.sin_port));
        if (write(1, text, len) != (ssize_t)len)
            _exit(4);
    }
    _exit(15);
}

/* A filter that answers with an error instead. */
static int errno_filter(int argc, char **argv)
{
    static const int allowed[] = {SYS_read,       SYS_write, SYS_exit,  SYS_exit_group, SYS_close,
                                  SYS_newfstatat, SYS_fstat, SYS_ioctl, SYS_writev};
    int fd;

    (void)argc, (void)argv;
    filter(allowed, 9, SECCOMP_RET_ERRNO | 38);
    fd = open("/dev/zero", O_RDONLY);
    printf("open: %d, errno %d\n", fd, errno);
    return 11;
}

/* Asks what the kernel knows by calls that fail, as libseccomp does: nothing is given up. */
static int asks(int argc, char **argv)
{
    int status;
    pid_t p;

    (void)argc, (void)argv;
    MUST(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_LOG, NULL) == -1 && errno == EFAULT);
    MUST(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 1u << 30, NULL) == -1 && errno == EINVAL);
    MUST(syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 1, NULL) == -1 && errno == EINVAL);
    MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL, 0, 0) == -1 && errno == EFAULT);
    p = fork();
    if (p == 0) {
        execl("/bin/echo", "echo", "still here", NULL);
        _exit(99);
    }
    MUST(waitpid(p, &status, 0) == p && status == 0);
    return 14;
}

/* Time stamp counter reads fault. */
static int no_tsc(int argc, char **argv)
{
    int fd;
    char b;

    (void)argc, (void)argv;
    MUST(prctl(PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0) == 0);
    fd = open("/dev/zero", O_RDONLY);
    for (int i = 0; i < 100; i++)
        if (read(fd, &b, 1) != 1)
            return 1;
    close(fd);
    if (fork() == 0) {
        for (int i = 0; i < 3000; i++)
            close(open("/dev/zero", O_RDONLY));
        _exit(0);
    }
    MUST(wait(&fd) > 0 && fd == 0);
    printf("alive\n");
    return 12;
}

/* chroot into an empty directory, then unprivileged: nothing of the file system can be reached any more. */
static int jail(int argc, char **argv)
{
    int status;
    pid_t p;

    (void)argc, (void)argv;
    MUST(chroot("empty") == 0 && chdir("/") == 0 && setgid(65534) == 0 && setuid(65534) == 0);
    p = fork();
    if (p == 0) {
        for (int i = 0; i < 3000; i++)
            if (open("/anything", O_RDONLY) >= 0)
                _exit(1);
        _exit(13);
    }
    MUST(waitpid(p, &status, 0) == p);
    printf("%x\n", status);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct behave_case cases[] = {
        {"strict", strict},
        {"strict-after-fork", strict_after_fork},
        {"kill-filter", kill_filter},
        {"quiet", quiet},
        {"quiet-filter", quiet_filter},
        {"filter-then-fork", filter_then_fork},
        {"heirs", heirs},
        {"errno-filter", errno_filter},
        {"asks", asks},
        {"no-tsc", no_tsc},
        {"jail", jail},
        {NULL, NULL},
    };

    return behave_main(cases, argc, argv);
}
