/* SPDX-License-Identifier: Apache-2.0 */
/* Process trees: storms of vfork, posix_spawn and clone, forks in threads, daemons, every form of exec. */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "behave.h"

extern char **environ;
static char *self;

static int wait_status(pid_t p)
{
    int status;

    MUST(p > 0 && waitpid(p, &status, 0) == p);
    return status;
}

static void say(const char *text)
{
    MUST(write(1, text, strlen(text)) == (ssize_t)strlen(text));
}

/* What exec'ed copies do: write the rest of their words, read a file, end with a status of their own. */
static int leaf(int argc, char **argv)
{
    int fd = open("/dev/zero", O_RDONLY);
    char b[10];

    for (int i = 2; i < argc; i++) {
        say(argv[i]);
        say(i + 1 < argc ? " " : "\n");
    }
    MUST(fd >= 0 && read(fd, b, 10) == 10 && close(fd) == 0);
    return 17;
}

static int quiet_leaf(int argc, char **argv)
{
    (void)argc, (void)argv;
    return 17;
}

static int vforks(int argc, char **argv)
{
    char *const args[] = {self, "quiet-leaf", NULL};
    int n = argc > 2 ? atoi(argv[2]) : 300;
    volatile int shared = 0, good = 0;

    for (volatile int i = 0; i < n; i++) {
        pid_t p = vfork();

        if (p == 0) {
            shared++; /* seen by the parent: the memory is the same */
            close(open("/dev/null", O_RDONLY));
            execve(self, args, environ);
            _exit(1);
        }
        good += wait_status(p) == 17 << 8;
    }
    printf("%d of %d, shared %d\n", good, n, shared);
    good = 0;
    for (volatile int i = 0; i < n; i++) {
        pid_t p = vfork();

        if (p == 0) {
            if (execve("/no/such/program", args, environ) < 0)
                _exit(errno);
        }
        good += wait_status(p) == ENOENT << 8;
    }
    printf("%d failed execs\n", good);
    return 0;
}

static int spawns(int argc, char **argv)
{
    char *const args[] = {self, "quiet-leaf", NULL};
    int n = argc > 2 ? atoi(argv[2]) : 300, good = 0;

    for (int i = 0; i < n; i++) {
        posix_spawn_file_actions_t a;
        pid_t p;

        MUST(posix_spawn_file_actions_init(&a) == 0);
        posix_spawn_file_actions_addopen(&a, 1, "/dev/null", O_WRONLY, 0);
        MUST(posix_spawn(&p, self, &a, NULL, args, environ) == 0);
        posix_spawn_file_actions_destroy(&a);
        good += wait_status(p) == 17 << 8;
    }
    printf("%d of %d\n", good, n);
    return 0;
}

static atomic_int in_clones;
static int write_end;

static int shares_memory(void *arg)
{
    int fd = open("/dev/zero", O_RDONLY);
    char b[4];

    (void)arg;
    if (fd >= 0 && read(fd, b, 4) == 4 && close(fd) == 0 && write(write_end, "x", 1) == 1)
        in_clones++;
    return 3;
}

/* Processes that share memory with a parent that goes on running. */
static int clones(int argc, char **argv)
{
    enum { SIZE = 65536, AT_A_TIME = 4 };
    int n = argc > 2 ? atoi(argv[2]) : 400, good = 0, p[2], z = open("/dev/zero", O_RDONLY);
    char *stacks = mmap(NULL, SIZE * AT_A_TIME, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), b[4];

    MUST(stacks != MAP_FAILED && pipe(p) == 0);
    write_end = p[1];
    for (int i = 0; i < n; i += AT_A_TIME) {
        pid_t c[AT_A_TIME];

        for (int k = 0; k < AT_A_TIME; k++)
            MUST((c[k] = clone(shares_memory, stacks + SIZE * (k + 1), CLONE_VM | SIGCHLD, NULL)) > 0);
        for (int k = 0; k < AT_A_TIME; k++)
            MUST(read(z, b, 4) == 4 && read(p[0], b, 1) == 1);
        for (int k = 0; k < AT_A_TIME; k++)
            good += wait_status(c[k]) == 3 << 8;
    }
    printf("%d of %d, %d did their work\n", good, n, in_clones);
    return 0;
}

static void *forker(void *arg)
{
    int *good = arg, fd = open("/dev/zero", O_RDONLY);
    char b[4];

    for (int i = 0; i < 60; i++) {
        pid_t p = fork();

        if (p == 0) {
            for (int k = 0; k < (i % 10 == 0 ? 1000 : 3); k++) /* some outgrow what they borrow */
                if (read(fd, b, 4) != 4)
                    _exit(1);
            close(open("/dev/null", O_RDONLY));
            if (i % 5 == 0)
                execl(self, self, "quiet-leaf", (char *)NULL);
            _exit(17);
        }
        *good += wait_status(p) == 17 << 8;
        MUST(read(fd, b, 4) == 4);
    }
    close(fd);
    return NULL;
}

static int forks_in_threads(int argc, char **argv)
{
    enum { N = 6 };
    int good[N] = {0}, sum = 0;
    pthread_t t[N];

    (void)argc, (void)argv;
    for (int i = 0; i < N; i++)
        MUST(pthread_create(&t[i], NULL, forker, &good[i]) == 0);
    for (int i = 0; i < N; i++) {
        MUST(pthread_join(t[i], NULL) == 0);
        sum += good[i];
    }
    printf("%d of %d\n", sum, N * 60);
    return 0;
}

/* Forks in forks, 12 deep, each with its own status. */
static int deep(int argc, char **argv)
{
    int level = 0;

    (void)argc, (void)argv;
    while (level < 12) {
        pid_t p = fork();

        if (p == 0) {
            level++;
            continue;
        }
        int status = wait_status(p);

        if (level == 0)
            printf("innermost %x\n", status);
        _exit(level == 0 ? 0 : WEXITSTATUS(status) + 1);
    }
    _exit(1);
}

/* A daemon as the book has it: forks twice, closes everything, and works on. The file that it writes is argv[2]. */
static int daemonise(int argc, char **argv)
{
    MUST(argc > 2);
    if (fork())
        return 0;
    setsid();
    if (fork())
        _exit(0);
    for (int fd = 0; fd < 1024; fd++)
        close(fd);
    MUST(open("/dev/null", O_RDWR) == 0 && dup(0) == 1 && dup(0) == 2 && chdir("/") == 0);
    umask(0);
    for (int i = 0; i < 2000; i++)
        close(open("/dev/null", O_RDONLY));
    int fd = open(argv[2], O_CREAT | O_WRONLY | O_EXCL, 0600);

    MUST(fd == 3 && write(fd, "daemon was here\n", 16) == 16 && close(fd) == 0);
    return 0;
}

/* exec with an environment that the program made itself. argv[2]: which. */
static int exec_with(int argc, char **argv)
{
    char *own[] = {"ONLY=this", NULL}, *none[] = {NULL}, *preload[] = {"A=b", "LD_PRELOAD=", NULL};
    char *args[] = {self, "leaf", "came", "through", NULL};
    const char *how = argc > 2 ? argv[2] : "";

    if (strcmp(how, "own") == 0)
        execve(self, args, own);
    else if (strcmp(how, "none") == 0)
        execve(self, args, none);
    else if (strcmp(how, "null") == 0)
        execve(self, args, NULL);
    else if (strcmp(how, "preload") == 0)
        execve(self, args, preload);
    else if (strcmp(how, "clearenv") == 0)
        clearenv(), execv(self, args);
    else if (strcmp(how, "at") == 0)
        syscall(SYS_execveat, AT_FDCWD, self, args, environ, 0);
    else if (strcmp(how, "fd") == 0)
        syscall(SYS_execveat, open(self, O_RDONLY | O_CLOEXEC), "", args, environ, AT_EMPTY_PATH);
    else if (strcmp(how, "fexecve") == 0)
        fexecve(open(self, O_RDONLY | O_CLOEXEC), args, environ);
    else if (strcmp(how, "memfd") == 0) {
        int from = open(self, O_RDONLY), to = (int)syscall(SYS_memfd_create, "image", 1);
        char b[4096];
        ssize_t n;

        while ((n = read(from, b, sizeof(b))) > 0)
            MUST(write(to, b, (size_t)n) == n);
        syscall(SYS_execveat, to, "", args, environ, AT_EMPTY_PATH);
    } else if (strcmp(how, "deleted") == 0) {
        char copy[] = "copy-of-self";
        int from = open(self, O_RDONLY), to = open(copy, O_CREAT | O_WRONLY | O_EXCL, 0700), fd;
        char b[4096];
        ssize_t n;

        while ((n = read(from, b, sizeof(b))) > 0)
            MUST(write(to, b, (size_t)n) == n);
        close(to);
        fd = open(copy, O_RDONLY | O_CLOEXEC);
        MUST(unlink(copy) == 0);
        syscall(SYS_execveat, fd, "", args, environ, AT_EMPTY_PATH);
    }
    return 90 + errno;
}

static void *exec_now(void *arg)
{
    char *args[] = {self, "leaf", "from a thread", NULL};

    (void)arg;
    execve(self, args, environ);
    return NULL;
}

static void *wait_for_ever(void *arg)
{
    char b;

    MUST(read(*(int *)arg, &b, 1) < 0);
    return NULL;
}

/* exec by a thread other than the first, while others are blocked in calls. */
static int exec_thread(int argc, char **argv)
{
    pthread_t t;
    int p[2];

    (void)argc, (void)argv;
    MUST(pipe(p) == 0);
    for (int i = 0; i < 5; i++)
        MUST(pthread_create(&t, NULL, wait_for_ever, &p[0]) == 0);
    MUST(pthread_create(&t, NULL, exec_now, NULL) == 0);
    pause();
    return 1;
}

/* The last thread is not the first: the process ends when that one does. */
static void *outlive(void *arg)
{
    (void)arg;
    usleep(50000);
    say("the last one\n");
    exit(6);
}

static int main_ends_first(int argc, char **argv)
{
    pthread_t t;

    (void)argc, (void)argv;
    MUST(pthread_create(&t, NULL, outlive, NULL) == 0);
    pthread_exit(NULL);
}

static int vfork_then_signal(int argc, char **argv)
{
    (void)argc, (void)argv;
    for (volatile int i = 0; i < 100; i++) {
        pid_t p = vfork();

        if (p == 0) {
            close(open("/dev/null", O_RDONLY));
            kill(getpid(), SIGKILL);
            _exit(1);
        }
        MUST(wait_status(p) == SIGKILL);
    }
    for (int i = 0; i < 1000; i++)
        MUST(close(open("/dev/null", O_RDONLY)) == 0);
    printf("done\n");
    return 0;
}

static int waits(int argc, char **argv)
{
    siginfo_t info;
    struct rusage usage;
    int status;
    pid_t p = fork();

    (void)argc, (void)argv;
    if (p == 0)
        _exit(200);
    MUST(wait4(p, &status, 0, &usage) == p);
    printf("wait4 %x\n", status);
    p = fork();
    if (p == 0) {
        kill(getpid(), SIGTERM);
        pause();
    }
    MUST(waitid(P_PID, (id_t)p, &info, WEXITED) == 0);
    printf("waitid %d %d\n", info.si_code, info.si_status);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct behave_case cases[] = {
        {"leaf", leaf},
        {"quiet-leaf", quiet_leaf},
        {"vforks", vforks},
        {"spawns", spawns},
        {"clones", clones},
        {"forks-in-threads", forks_in_threads},
        {"deep", deep},
        {"daemon", daemonise},
        {"exec", exec_with},
        {"exec-thread", exec_thread},
        {"main-ends-first", main_ends_first},
        {"vfork-then-signal", vfork_then_signal},
        {"waits", waits},
        {NULL, NULL},
    };

    self = argv[0];
    return behave_main(cases, argc, argv);
}
