/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that succeed, or fail, without the kernel having read everything that their arguments point to; mappings that
 * belong to the program; stacks and rings that it has given back. */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "behave.h"

#define BAD ((void *)8)

extern char **environ;

/* The last n bytes before a hole. */
static void *before_hole(size_t n)
{
    char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    MUST(p != MAP_FAILED && munmap(p + 4096, 4096) == 0);
    return p + 4096 - n;
}

/* A socket with one datagram waiting. */
static int datagram(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof(a);
    int to = socket(AF_INET, SOCK_DGRAM, 0), from = socket(AF_INET, SOCK_DGRAM, 0);

    MUST(bind(to, (struct sockaddr *)&a, sizeof(a)) == 0 && getsockname(to, (struct sockaddr *)&a, &len) == 0);
    MUST(sendto(from, "x", 1, 0, (struct sockaddr *)&a, sizeof(a)) == 1);
    return to;
}

static int unread(int argc, char **argv)
{
    struct iovec bad = {BAD, 100}, good;
    struct msghdr m = {.msg_name = BAD, .msg_iov = &good, .msg_iovlen = 1};
    struct mmsghdr mm = {.msg_hdr = m};
    socklen_t none = 0, little = 4;
    char b[4];
    uint64_t *flags = before_hole(8);
    int null = open("/dev/null", O_WRONLY), r;

    (void)argc, (void)argv;
    good = (struct iovec){b, 4};
    r = rename("/nonexistent/x", BAD);
    printf("rename %d %d\n", r, errno);
    r = link("/nonexistent/x", BAD);
    printf("link %d %d\n", r, errno);
    printf("write %zd\n", write(null, BAD, 100));
    printf("writev %zd\n", writev(null, &bad, 1));
    printf("recvfrom %zd %d\n", recvfrom(datagram(), b, 4, 0, BAD, &none), (int)none);
    printf("recvfrom %zd %d\n", recvfrom(datagram(), b, 4, 0, before_hole(4), &little), (int)little);
    printf("recvmsg %zd\n", recvmsg(datagram(), &m, 0));
    printf("recvmmsg %d\n", (int)syscall(SYS_recvmmsg, datagram(), &mm, 1, 0, NULL));
    *flags = CLONE_VM | CLONE_SETTLS | CLONE_THREAD;
    r = (int)syscall(SYS_clone3, flags, 88);
    printf("clone3 %d %d\n", r, errno);
    dup2(null, 1);
    return write(1, BAD, 100) == 100 ? 0 : 1;
}

/* Maps the text of the library argv[2]: shared, so that a change would go to the file, and private but writable. */
static int own_mappings(int argc, char **argv)
{
    int fd = open(argv[2], O_RDWR), found = 0;
    Elf64_Ehdr e;
    Elf64_Phdr ph;

    MUST(argc > 2 && fd >= 0 && pread(fd, &e, sizeof(e), 0) == sizeof(e));
    for (unsigned i = 0; i < e.e_phnum; i++) {
        off_t off;
        size_t len;
        char *shared, *private, *read_back;

        MUST(pread(fd, &ph, sizeof(ph), (off_t)(e.e_phoff + i * sizeof(ph))) == sizeof(ph));
        if (ph.p_type != PT_LOAD || !(ph.p_flags & PF_X))
            continue;
        off = (off_t)(ph.p_offset & ~4095UL);
        len = ph.p_filesz + (ph.p_offset & 4095);
        read_back = malloc(len);
        MUST(read_back && pread(fd, read_back, len, off) == (ssize_t)len);
        shared = mmap(NULL, len, PROT_READ | PROT_EXEC, MAP_SHARED, fd, off);
        private = mmap(NULL, len, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE, fd, off);
        MUST(shared != MAP_FAILED && private != MAP_FAILED);
        found += memcmp(shared, read_back, len) == 0 && memcmp(private, read_back, len) == 0;
        private[0] = 1;
        free(read_back);
    }
    printf("%d as in the file\n", found);
    return 0;
}

static void *nothing(void *arg)
{
    return arg;
}

/* Nobody waits for these: their stacks go when they end. */
static int detached(int argc, char **argv)
{
    pthread_attr_t a;

    (void)argc, (void)argv;
    MUST(pthread_attr_init(&a) == 0 && pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED) == 0);
    for (int i = 0; i < 500; i++) {
        pthread_t t;

        while (pthread_create(&t, &a, nothing, NULL))
            usleep(1000);
    }
    usleep(50000);
    printf("done\n");
    return 0;
}

/* A ring is unmapped, then closed, which is how liburing does it; a child has none of it. */
static int ring_unmapped(int argc, char **argv)
{
    struct io_uring_params p = {0};
    int fd = (int)syscall(SYS_io_uring_setup, 4, &p), status;
    size_t size = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe), sqes = p.sq_entries * sizeof(struct io_uring_sqe);
    void *ring, *entries;
    pid_t child;

    (void)argc, (void)argv;
    if (fd < 0) { /* not everywhere allowed */
        printf("done\n");
        return 0;
    }
    ring = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, IORING_OFF_SQ_RING);
    entries = mmap(NULL, sqes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, IORING_OFF_SQES);
    MUST(ring != MAP_FAILED && entries != MAP_FAILED && madvise(ring, size, MADV_DONTFORK) == 0);
    MUST(syscall(SYS_io_uring_enter, fd, 0, 0, 0, NULL, 0) == 0);
    child = fork();
    if (child == 0) {
        for (int i = 0; i < 1000; i++)
            close(open("/dev/null", O_RDONLY));
        _exit(3);
    }
    MUST(waitpid(child, &status, 0) == child);
    printf("child %x\n", status);
    MUST(munmap(ring, size) == 0 && munmap(entries, sqes) == 0);
    syscall(SYS_io_uring_enter, fd, 0, 0, 0, NULL, 0);
    close(fd);
    printf("done\n");
    return 0;
}

/* exec inside a filter that lets everything pass that exec and the loader need, and kills for the rest. */
static int exec_filtered(int argc, char **argv)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigprocmask, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};
    char *args[] = {"/bin/echo", "came through", NULL}, *other[] = {"A=b", NULL};

    (void)argv;
    MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0);
    execve("/no/such/program", args, environ);
    execve("/bin/echo", args, argc > 2 ? other : environ);
    return 1;
}

/* Strict mode asked for with rubbish in the upper half of an int: the kernel doesn't look there. */
static int strict_rubbish(int argc, char **argv)
{
    int fd = open("/dev/zero", O_RDONLY);
    char b;

    (void)argc, (void)argv;
    MUST(syscall(SYS_prctl, (long)PR_SET_SECCOMP | 1L << 32, SECCOMP_MODE_STRICT, 0, 0, 0) == 0);
    for (int i = 0; i < 100; i++)
        if (read(fd, &b, 1) != 1 || write(70000, &b, 1) != -1)
            syscall(SYS_exit, 1);
    syscall(SYS_exit, 6);
    return 0;
}

/* Two LD_PRELOAD: the loader takes the last, which is argv[2]. */
static int preloads(int argc, char **argv)
{
    static char last[4200];
    char *env[] = {"LD_PRELOAD=libm.so.6", last, "X=y", NULL}, *args[] = {argv[0], "own-preloads", NULL};

    MUST(argc > 2);
    snprintf(last, sizeof(last), "LD_PRELOAD=%s", argv[2]);
    execve(argv[0], args, env);
    return 90;
}

static int own_preloads(int argc, char **argv)
{
    (void)argc, (void)argv;
    printf("%d\n", (int)getpid());
    return 0;
}

/* The library argv[2] reads by itself, as many bytes as it is told. */
static int relocated(int argc, char **argv)
{
    void *library;
    long (*reads)(int, char *, long);
    char b[8];

    MUST(argc > 2);
    library = dlopen(argv[2], RTLD_NOW);
    MUST(library);
    reads = (long (*)(int, char *, long))dlsym(library, "library_reads");
    MUST(reads);
    printf("%ld\n", reads(open("/dev/zero", O_RDONLY), b, 8));
    return 0;
}

static sigjmp_buf again;

static void jump(int unused)
{
    (void)unused;
    siglongjmp(again, 1);
}

/* Handlers that jump out of calls of exec that fail: nothing may be left open. */
static int exec_jumps(int argc, char **argv)
{
    char *args[] = {"x", NULL};
    struct itimerval never = {{0, 0}, {0, 0}};

    (void)argc, (void)argv;
    MUST(signal(SIGALRM, jump) != SIG_ERR);
    for (volatile int i = 0; i < 2000; i++) {
        struct itimerval once = {{0, 0}, {0, 20 + i % 60}};

        if (sigsetjmp(again, 1) == 0) {
            MUST(setitimer(ITIMER_REAL, &once, NULL) == 0);
            for (;;)
                execve("/etc/passwd", args, environ);
        }
    }
    setitimer(ITIMER_REAL, &never, NULL);
    for (int fd = 3; fd < 100; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            printf("%d is open\n", fd);
    printf("done\n");
    return 0;
}

int main(int argc, char **argv)
{
    static const struct behave_case cases[] = {
        {"unread", unread},
        {"own-mappings", own_mappings},
        {"detached", detached},
        {"ring-unmapped", ring_unmapped},
        {"exec-filtered", exec_filtered},
        {"strict-rubbish", strict_rubbish},
        {"preloads", preloads},
        {"own-preloads", own_preloads},
        {"relocated", relocated},
        {"exec-jumps", exec_jumps},
        {NULL, NULL},
    };

    return behave_main(cases, argc, argv);
}
