/* SPDX-License-Identifier: Apache-2.0 */
/* Fatal signals, and what a program sees of its signal handlers and alternate stacks. Prints no address. */
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "behave.h"
#include "faults.h"

extern char **environ;

static const int fatal[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP};
#define FATAL (sizeof(fatal) / sizeof(fatal[0]))

/* As the kernel has it: C libraries hide members and signals. */
struct action {
    void (*handler)(int);
    unsigned long flags;
    void *restorer;
    uint64_t mask;
};

static long action(int sig, const void *new_, void *old)
{
    return syscall(SYS_rt_sigaction, sig, new_, old, 8);
}

static void some_handler(int sig)
{
    (void)sig;
}

static void other_handler(int sig)
{
    (void)sig;
}

static char restorer[1];

static const char *name_of(void (*handler)(int))
{
    return handler == SIG_DFL         ? "default"
           : handler == SIG_IGN       ? "ignored"
           : handler == some_handler  ? "some"
           : handler == other_handler ? "other"
                                      : "FOREIGN";
}

static void show(const char *when, int sig, const struct action *a)
{
    printf("%s %d: %s flags %lx mask %llx restorer %s\n", when, sig, name_of(a->handler), a->flags,
           (unsigned long long)a->mask,
           !a->restorer              ? "none"
           : a->restorer == restorer ? "given"
                                     : "FOREIGN");
}

static void set(int sig, void (*handler)(int), unsigned long flags, uint64_t mask)
{
    struct action a = {handler, flags | 0x04000000, restorer, mask}, old = {0}, now = {0}, same = a;

    MUST(action(sig, &a, &old) == 0 && action(sig, NULL, &now) == 0);
    show("was", sig, &old);
    show("is", sig, &now);
    MUST(action(sig, &same, &same) == 0); /* one place for both */
    show("was again", sig, &same);
    MUST(a.handler == handler && a.mask == mask);
}

static void *show_all(void *unused)
{
    struct action a;

    for (int sig = 1; sig <= 64; sig++)
        if (action(sig, NULL, &a) == 0 && (a.handler != SIG_DFL || a.flags || a.mask))
            show("all", sig, &a);
    return unused;
}

static void wait_for(pid_t pid)
{
    int status;

    MUST(waitpid(pid, &status, 0) > 0);
    printf("status %d\n", status & ~0x80); /* whether there is a core is a matter of the host's core_pattern */
}

static void each_way(int sig)
{
    set(sig, SIG_DFL, 0, 0);
    set(sig, SIG_DFL, SA_RESTART | SA_NOCLDWAIT, 0xffffffff);
    set(sig, SIG_DFL, SA_ONSTACK | SA_RESETHAND | 0x20000000 | 0x400, ~UINT64_C(0));
    set(sig, some_handler, SA_ONSTACK | SA_SIGINFO, 0x1000);
    set(sig, other_handler, SA_RESETHAND | SA_ONSTACK, 1);
    set(sig, other_handler, SA_RESETHAND | SA_ONSTACK | 0x20000000, ~UINT64_C(0));
    set(sig, some_handler, 0x400 | 0x20000000, 3);
    set(sig, SIG_IGN, SA_ONSTACK | SA_NODEFER, 0xff);
    set(sig, some_handler, SA_ONSTACK | SA_RESTART, 0);
    set(sig, SIG_DFL, SA_NODEFER, 0x10);
}

/* What rt_sigaction(2) says, whatever is asked in whatever order. */
static int actions(int argc, char **argv)
{
    struct action a = {SIG_DFL, 0, NULL, 0};
    char *words[] = {"true", NULL};
    pthread_t t;
    pid_t pid;

    (void)argc, (void)argv;
    show_all(NULL);
    for (unsigned i = 0; i < FATAL; i++)
        each_way(fatal[i]);
    each_way(SIGUSR1);
    each_way(64);
    errno = 0;
    printf("%ld %d\n", action(SIGSEGV, (void *)8, NULL), errno);
    printf("%ld %d\n", action(SIGSEGV, NULL, (void *)8), errno);
    printf("%ld %d\n", action(SIGSEGV, &a, (void *)8), errno);
    printf("%ld %d\n", action(0, &a, NULL), errno);
    printf("%ld %d\n", action(65, &a, NULL), errno);
    printf("%ld %d\n", action(SIGKILL, &a, NULL), errno);
    printf("%ld\n", action(SIGKILL, NULL, &a));
    printf("%ld %d\n", syscall(SYS_rt_sigaction, SIGSEGV, &a, &a, 16), errno);
    show_all(NULL);
    set(SIGBUS, some_handler, SA_ONSTACK, 7);
    set(SIGHUP, some_handler, SA_ONSTACK, 7);
    set(SIGSEGV, SIG_DFL, SA_NODEFER, 0x70);
    MUST(pthread_create(&t, NULL, show_all, NULL) == 0 && pthread_join(t, NULL) == 0);
    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        show_all(NULL);
        set(SIGILL, SIG_DFL, SA_RESTART, 5);
        set(SIGBUS, SIG_DFL, 0, 5);
        show_all(NULL);
        fflush(stdout);
        _exit(3);
    }
    wait_for(pid);
    pid = vfork();
    if (pid == 0) { /* its handlers are its own, its memory isn't */
        static struct action b, c;

        for (unsigned i = 0; i < FATAL; i++)
            action(fatal[i], &b, NULL);
        action(SIGHUP, NULL, &c);
        _exit(c.handler == some_handler && c.flags & SA_ONSTACK ? 4 : 5);
    }
    wait_for(pid);
    show_all(NULL);
    MUST(posix_spawnp(&pid, "true", NULL, NULL, words, environ) == 0);
    wait_for(pid);
    printf("system %d\n", system("exit 6"));
    show_all(NULL);
    return 0;
}

static void show_stack(const char *when, const stack_t *st, const void *own)
{
    printf("%s: sp %s flags %x size %zu\n", when,
           !st->ss_sp         ? "none"
           : st->ss_sp == own ? "own"
                              : "FOREIGN",
           st->ss_flags, st->ss_size);
}

static char room[2][65536];
static pthread_barrier_t barrier;

static int in_room(const void *p)
{
    return (const char *)p >= room[0] && (const char *)p < room[2];
}

static const char *base; /* somewhere on the stack of the thread that is to get a signal */

static void where(int sig)
{
    char here;
    stack_t st;

    MUST(syscall(SYS_sigaltstack, NULL, &st) == 0);
    printf("%d runs on %s", sig,
           in_room(&here)                ? "its own stack"
           : llabs(&here - base) < 60000 ? "the thread's"
                                         : "ANOTHER");
    show_stack("", &st, room[0]);
}

static void hit(int sig)
{
    char here;

    base = &here;
    MUST(syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), sig) == 0);
}

static void *other_thread(void *unused)
{
    stack_t st;

    MUST(syscall(SYS_sigaltstack, NULL, &st) == 0);
    show_stack("thread", &st, NULL);
    hit(SIGUSR1);
    return unused;
}

static void thread(void *(*run)(void *))
{
    pthread_t t;

    MUST(pthread_create(&t, NULL, run, NULL) == 0 && pthread_join(t, NULL) == 0);
}

/* What sigaltstack(2) says, and where handlers run. */
static int altstack(int argc, char **argv)
{
    stack_t st, own = {.ss_sp = room[0], .ss_size = sizeof(room[0])}, none = {.ss_flags = SS_DISABLE};
    struct sigaction sa = {.sa_handler = where, .sa_flags = SA_ONSTACK};

    (void)argc, (void)argv;
    MUST(sigaction(SIGUSR1, &sa, NULL) == 0 && sigaction(SIGTRAP, &sa, NULL) == 0);
    MUST(syscall(SYS_sigaltstack, NULL, &st) == 0);
    show_stack("first", &st, NULL);
    hit(SIGUSR1);
    hit(SIGTRAP);
    thread(other_thread);
    MUST(syscall(SYS_sigaltstack, &none, &st) == 0);
    show_stack("disabled", &st, NULL);
    MUST(syscall(SYS_sigaltstack, &none, &st) == 0);
    show_stack("again", &st, NULL);
    hit(SIGUSR1);
    errno = 0;
    printf("%ld %d\n", syscall(SYS_sigaltstack, (void *)8, NULL), errno);
    printf("%ld %d\n", syscall(SYS_sigaltstack, NULL, (void *)8), errno);
    own.ss_size = 100;
    printf("%ld %d\n", syscall(SYS_sigaltstack, &own, &st), errno);
    hit(SIGUSR1);
    own.ss_size = sizeof(room[0]);
    MUST(syscall(SYS_sigaltstack, &own, &own) == 0);
    show_stack("set", &own, NULL);
    MUST(syscall(SYS_sigaltstack, NULL, &st) == 0);
    show_stack("own", &st, room[0]);
    hit(SIGUSR1);
    hit(SIGTRAP);
    thread(other_thread);
    MUST(syscall(SYS_sigaltstack, &none, &st) == 0);
    show_stack("ended", &st, room[0]);
    hit(SIGUSR1);
    MUST(sigaction(SIGUSR1, NULL, &sa) == 0);
    printf("%x\n", sa.sa_flags & SA_ONSTACK);
    return 0;
}

/* ---- deaths ---- */

static int trap_filter(int nr)
{
    struct sock_filter f[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)nr, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = {4, f};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0;
}

/* A vfork child gives up rights that its parent keeps, and execs. */
static void visit(const char *what)
{
    pid_t pid = vfork();

    if (pid == 0) {
        if (!strcmp(what, "filter"))
            MUST(trap_filter(SYS_getppid));
        else if (!strcmp(what, "dispatch"))
            MUST(prctl(59 /* PR_SET_SYSCALL_USER_DISPATCH */, 1, 0, ~0UL >> 1, NULL) == 0);
        else if (!strcmp(what, "refused"))
            MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL) < 0);
        else
            MUST(prctl(PR_SET_TSC, PR_TSC_SIGSEGV) == 0);
        execlp("true", "true", NULL);
        _exit(96);
    }
    wait_for(pid);
}

static volatile int depth = 1 << 30;

static __attribute__((noinline)) int deep(int n)
{
    volatile char here[512];

    here[0] = (char)n;
    return n < depth ? deep(n + 1) + here[0] : 0;
}

static void fault(int sig)
{
    volatile int zero = 0;
    char *p;
    int fd;

    switch (sig) {
    case SIGSEGV:
        *(volatile int *)(uintptr_t)(zero + 16) = 1;
        break;
    case SIGBUS:
        fd = open("empty", O_RDWR | O_CREAT | O_TRUNC, 0600);
        p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        MUST(fd >= 0 && p != MAP_FAILED);
        *(volatile char *)p = 1;
        break;
    case SIGILL:
        ILLEGAL();
        break;
    case SIGFPE:
        zero = 1 / zero;
        DIVIDE_BY_ZERO();
        break;
    case SIGTRAP:
        TRAP();
        break;
    case SIGABRT:
        abort();
    case SIGSYS:
        MUST(trap_filter(SYS_getppid));
        getppid();
        break;
    }
}

static void perish(const char *how, int sig)
{
    union sigval v = {.sival_int = 5};
    siginfo_t info = {.si_signo = sig, .si_code = SEGV_MAPERR};

    if (!strcmp(how, "fault"))
        fault(sig);
    else if (!strcmp(how, "raise"))
        raise(sig);
    else if (!strcmp(how, "kill"))
        kill(getpid(), sig);
    else if (!strcmp(how, "queue"))
        sigqueue(getpid(), sig, v);
    else if (!strcmp(how, "thread"))
        pthread_kill(pthread_self(), sig);
    else if (!strcmp(how, "forged"))
        syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), sig, &info);
    else if (!strcmp(how, "abort"))
        abort();
    else if (!strcmp(how, "gp"))
        *(volatile int *)(UINT64_C(1) << 62) = 1;
    else if (!strcmp(how, "stack"))
        deep(0);
    else if (!strcmp(how, "jump"))
        ((void (*)(void))(uintptr_t)16)();
    else if (!strcmp(how, "nowhere")) /* the frame of a handler finds no room */
        FAULT_WITHOUT_STACK();
}

static struct {
    const char *how;
    int sig;
} job;

static void *perish_thread(void *unused)
{
    perish(job.how, job.sig);
    return unused;
}

static void perish_handler(int unused)
{
    (void)unused;
    perish(job.how, job.sig);
}

static void *perish_together(void *unused)
{
    pthread_barrier_wait(&barrier);
    perish(job.how, job.sig);
    for (;;)
        pause();
    return unused;
}

static void leaves(int unused)
{
    (void)unused;
    _exit(42);
}

/* die HOW WHERE SIGNAL */
static int die(int argc, char **argv)
{
    const char *at = argc > 3 ? argv[3] : "main";
    pthread_t t;
    pid_t pid;

    job.how = argv[2];
    job.sig = argc > 4 ? atoi(argv[4]) : SIGSEGV;
    printf("begins\n");
    if (!strcmp(at, "main")) {
        perish(job.how, job.sig);
    } else if (!strcmp(at, "thread")) {
        thread(perish_thread);
    } else if (!strcmp(at, "handler")) {
        signal(SIGUSR1, perish_handler);
        raise(SIGUSR1);
    } else if (!strcmp(at, "fork")) {
        pid = fork();
        if (pid == 0)
            perish(job.how, job.sig);
        wait_for(pid);
        return 0;
    } else if (!strcmp(at, "vfork")) {
        pid = vfork();
        if (pid == 0) {
            perish(job.how, job.sig);
            _exit(0);
        }
        wait_for(pid);
        return 0;
    } else if (!strcmp(at, "two")) {
        MUST(pthread_barrier_init(&barrier, NULL, 2) == 0);
        MUST(pthread_create(&t, NULL, perish_together, NULL) == 0);
        perish_together(NULL);
    } else if (!strcmp(at, "blocked")) {
        sigset_t s;

        sigfillset(&s);
        sigprocmask(SIG_BLOCK, &s, NULL);
        perish(job.how, job.sig);
        printf("blocked\n");
        sigprocmask(SIG_UNBLOCK, &s, NULL);
    } else if (!strcmp(at, "sandbox")) {
        MUST(trap_filter(SYS_getppid));
        perish(job.how, job.sig);
    } else if (!strncmp(at, "visited-", 8)) {
        visit(at + 8);
        show_all(NULL);
        perish(job.how, job.sig);
    } else if (!strcmp(at, "visitor")) { /* a vfork child in a sandbox */
        pid = vfork();
        if (pid == 0) {
            MUST(trap_filter(SYS_getppid));
            perish(job.how, job.sig);
            _exit(0);
        }
        wait_for(pid);
        show_all(NULL);
        perish(job.how, job.sig);
    } else if (!strcmp(at, "once-visitor")) { /* a vfork child that has a handler for once */
        struct sigaction sa = {.sa_handler = leaves, .sa_flags = SA_RESETHAND};

        pid = vfork();
        if (pid == 0) {
            MUST(sigaction(job.sig, &sa, NULL) == 0);
            perish(job.how, job.sig);
            _exit(0);
        }
        wait_for(pid);
        show_all(NULL);
        perish(job.how, job.sig);
    } else if (!strcmp(at, "strict")) {
        fflush(stdout);
        MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0);
        perish(job.how, job.sig);
    } else if (!strcmp(at, "refused")) { /* asks what the kernel can, and stays as it was */
        MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL) < 0);
        show_all(NULL);
        perish(job.how, job.sig);
    } else {
        return 97;
    }
    printf("lives\n");
    return 0;
}

static sigjmp_buf back;
static volatile int called;

static void says(int sig)
{
    static const char line[] = "the program's own handler\n";

    (void)sig;
    called++;
    MUST(write(1, line, sizeof(line) - 1) > 0);
}

static void jumps(int sig)
{
    says(sig);
    siglongjmp(back, 1);
}

static void says_and_raises(int sig)
{
    says(sig);
    signal(sig, SIG_DFL);
    raise(sig);
}

static void passes_on(int sig, siginfo_t *info, void *unused)
{
    struct sigaction sa = {.sa_handler = SIG_DFL};

    (void)unused;
    says(sig);
    sigaction(sig, &sa, NULL);
    syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), sig, info);
}

/* own WHAT HOW SIGNAL: the program has a handler of its own */
static int own(int argc, char **argv)
{
    struct sigaction sa = {.sa_handler = says}, old;
    const char *what = argv[2];
    int sig = argc > 4 ? atoi(argv[4]) : SIGSEGV;

    if (!strcmp(what, "once") || !strcmp(what, "once-onstack")) {
        sa.sa_flags = SA_RESETHAND | (what[4] ? SA_ONSTACK : 0);
    } else if (!strcmp(what, "jumps") || !strcmp(what, "then-default")) {
        sa.sa_handler = jumps;
    } else if (!strcmp(what, "raises")) {
        sa.sa_handler = says_and_raises;
    } else if (!strcmp(what, "passes-on")) {
        sa.sa_sigaction = passes_on;
        sa.sa_flags = SA_SIGINFO | SA_ONSTACK;
    } else if (!strcmp(what, "ignores")) {
        sa.sa_handler = SIG_IGN;
    }
    MUST(sigaction(sig, &sa, NULL) == 0);
    if (!sigsetjmp(back, 1))
        perish(argv[3], sig);
    printf("called %d\n", called);
    MUST(sigaction(sig, NULL, &old) == 0);
    printf("now %s flags %x\n",
           old.sa_handler == SIG_DFL         ? "default"
           : old.sa_handler == sa.sa_handler ? "the same"
                                             : "OTHER",
           (unsigned)old.sa_flags & (SA_RESETHAND | SA_ONSTACK | SA_SIGINFO));
    if (strcmp(what, "then-default") == 0) {
        signal(sig, SIG_DFL);
        perish(argv[3], sig);
    } else if (!strncmp(what, "once", 4)) {
        perish(argv[3], sig);
    }
    printf("lives\n");
    return 0;
}

/* Dies when it is told to. */
static int waits(int argc, char **argv)
{
    char b[1];

    printf("ready\n");
    MUST(read(0, b, 1) == 1);
    argv[1] = "die";
    return die(argc, argv);
}

/* What is in the register of an argument after the call, made where its number can be seen. */
static void kept(int sig, void (*handler)(int), unsigned long flags)
{
    struct action a = {handler, flags | 0x04000000, restorer, 0};
    const void *at = &a;
    long ret;

    SIGACTION_KEEPS(ret, sig, at);
    printf("%ld, its argument is %s\n", ret, at == &a ? "kept" : "CHANGED");
}

/* Sees and sets handlers when it is told to, and dies. */
static int later(int argc, char **argv)
{
    struct sigaction sa = {.sa_handler = some_handler}, old;
    char b[1];

    printf("ready\n");
    MUST(read(0, b, 1) == 1);
    show_all(NULL);
    for (unsigned i = 0; i < FATAL; i++) {
        MUST(sigaction(fatal[i], &sa, &old) == 0);
        printf("was %s", name_of(old.sa_handler));
        MUST(signal(fatal[i], SIG_DFL) == some_handler && sigaction(fatal[i], NULL, &old) == 0);
        printf(", is %s\n", name_of(old.sa_handler));
        kept(fatal[i], SIG_DFL, 0);
        kept(fatal[i], some_handler, SA_ONSTACK | SA_RESETHAND);
        each_way(fatal[i]);
    }
    visit("filter");
    show_all(NULL);
    argv[1] = "die";
    return die(argc, argv);
}

/* Runs a program after a vfork child has given up rights. */
static int visited(int argc, char **argv)
{
    (void)argc;
    visit(argv[2]);
    printf("system %d\n", system("expr 1 + 1"));
    return 0;
}

/* crowd N: so many children die together. */
static int crowd(int argc, char **argv)
{
    int n = argc > 2 ? atoi(argv[2]) : 1;
    char b[1];

    printf("ready\n");
    MUST(read(0, b, 1) == 1);
    fflush(stdout);
    for (int i = 0; i < n; i++)
        if (fork() == 0)
            perish("fault", SIGSEGV);
    for (int i = 0; i < n; i++)
        wait_for(-1);
    return 0;
}

#define JOBS 512

/* each N: runs itself with the words of each line of the input, N at a time, each in a directory of its own; says at
 * last what they said and how they ended. */
static int each(int argc, char **argv)
{
    static struct {
        char line[128];
        pid_t pid;
        int status;
    } jobs[JOBS];
    int count = 0, running = 0, most = argc > 2 ? atoi(argv[2]) : 1;
    char text[4096], name[32];

    while (count < JOBS && fgets(jobs[count].line, sizeof(jobs[0].line), stdin))
        count++;
    for (int i = 0; i < count || running;) {
        int status;
        pid_t pid;

        if (i < count && running < most) {
            snprintf(name, sizeof(name), "job-%d", i);
            MUST(mkdir(name, 0700) == 0);
            jobs[i].pid = fork();
            if (jobs[i].pid == 0) {
                char *words[16] = {argv[0]}, *rest = jobs[i].line;
                int n = 1, fd;

                while (n < 15 && (words[n] = strsep(&rest, " \n")) && *words[n])
                    n++;
                words[n] = NULL;
                MUST(chdir(name) == 0 && (fd = open("out", O_WRONLY | O_CREAT | O_TRUNC, 0600)) >= 0);
                MUST(dup2(fd, 1) == 1 && dup2(fd, 2) == 2);
                execv("/proc/self/exe", words);
                _exit(98);
            }
            i++;
            running++;
            continue;
        }
        pid = wait(&status);
        for (int k = 0; k < i; k++)
            if (jobs[k].pid == pid)
                jobs[k].status = status;
        running--;
    }
    for (int i = 0; i < count; i++) {
        FILE *f;
        size_t n;

        snprintf(name, sizeof(name), "job-%d/out", i);
        MUST((f = fopen(name, "r")) != NULL);
        n = fread(text, 1, sizeof(text), f);
        fclose(f);
        printf("%s%.*s%s %d\n", jobs[i].line, (int)n, text, WIFSIGNALED(jobs[i].status) ? "signal" : "status",
               WIFSIGNALED(jobs[i].status) ? WTERMSIG(jobs[i].status) : WEXITSTATUS(jobs[i].status));
    }
    return 0;
}

static int status(int argc, char **argv);

/* Sets handlers, and says what they are when it is told to. */
static int keeps(int argc, char **argv)
{
    struct action a = {some_handler, SA_ONSTACK | 0x04000000, restorer, 7},
                  b = {SIG_DFL, SA_RESTART | 0x04000000, restorer, 9};
    struct action c = {other_handler, SA_RESETHAND | 0x04000000, restorer, 0};
    char byte[1];
    stack_t st;

    (void)argc, (void)argv;
    MUST(action(SIGUSR1, &a, NULL) == 0 && action(SIGBUS, &a, NULL) == 0 && action(SIGILL, &b, NULL) == 0);
    MUST(action(SIGFPE, &c, NULL) == 0);
    printf("ready\n");
    MUST(read(0, byte, 1) == 1);
    show_all(NULL);
    MUST(syscall(SYS_sigaltstack, NULL, &st) == 0);
    printf("stack %s\n", st.ss_sp ? "FOREIGN" : "none");
    return status(argc, argv);
}

#define RESTING 4
static struct rest {
    int wake[2], arrived[2];
    unsigned number;
} rests[RESTING];
static _Thread_local struct rest *resting;

static void rest(struct rest *r)
{
    char byte;
    ssize_t n;

    MUST(write(r->arrived[1], "x", 1) == 1);
    do
        n = read(r->wake[0], &byte, 1);
    while (n < 0 && errno == EINTR);
    MUST(n == 1);
}

static void rest_in_handler(int sig)
{
    (void)sig;
    rest(resting);
}

/* Waits in a system call; in that of a handler; in that of one with SA_ONSTACK; in the second of two, one in the other. */
static void *rests_somewhere(void *arg)
{
    static const int sig[RESTING] = {0, SIGUSR1, SIGUSR2, SIGCONT};
    stack_t st;

    resting = arg;
    if (sig[resting->number])
        MUST(pthread_kill(pthread_self(), sig[resting->number]) == 0);
    else
        rest(resting);
    MUST(syscall(SYS_sigaltstack, NULL, &st) == 0);
    printf("thread %u: stack %s\n", resting->number, st.ss_sp ? "FOREIGN" : "none");
    if (resting->number == RESTING - 1)
        deep(0);
    return NULL;
}

static void goes_on(int sig)
{
    (void)sig;
    MUST(pthread_kill(pthread_self(), SIGUSR2) == 0);
}

/* Threads that wait in all kinds of places until main is told to go on; the last one overflows its stack. */
static int leaves_threads(int argc, char **argv)
{
    struct sigaction plain = {.sa_handler = rest_in_handler}, onstack = {.sa_handler = rest_in_handler, .sa_flags = SA_ONSTACK};
    struct sigaction two = {.sa_handler = goes_on, .sa_flags = SA_ONSTACK};
    pthread_t t[RESTING];
    char byte;

    (void)argc, (void)argv;
    MUST(sigaction(SIGUSR1, &plain, NULL) == 0 && sigaction(SIGUSR2, &onstack, NULL) == 0 && sigaction(SIGCONT, &two, NULL) == 0);
    for (unsigned i = 0; i < RESTING; i++) {
        rests[i].number = i;
        MUST(pipe(rests[i].wake) == 0 && pipe(rests[i].arrived) == 0);
        MUST(pthread_create(&t[i], NULL, rests_somewhere, &rests[i]) == 0);
        MUST(read(rests[i].arrived[0], &byte, 1) == 1);
    }
    printf("ready\n");
    MUST(read(0, &byte, 1) == 1);
    for (unsigned i = 0; i < RESTING; i++) {
        MUST(write(rests[i].wake[1], "x", 1) == 1);
        MUST(pthread_join(t[i], NULL) == 0);
    }
    return 0;
}

static int status(int argc, char **argv)
{
    char line[256];
    FILE *f = fopen("/proc/self/status", "r");

    (void)argc, (void)argv;
    MUST(f != NULL);
    while (fgets(line, sizeof(line), f))
        if (!strncmp(line, "Sig", 3) && strncmp(line, "SigQ", 4))
            printf("%s", line);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct behave_case cases[] = {
        {"actions", actions}, {"altstack", altstack}, {"die", die},       {"own", own}, {"each", each},
        {"waits", waits},     {"keeps", keeps},       {"status", status}, {"later", later}, {"visited", visited},
        {"crowd", crowd},     {"leaves-threads", leaves_threads},
        {NULL, NULL},
    };

    const struct rlimit none = {0, 0};

    MUST(setrlimit(RLIMIT_CORE, &none) == 0);
    return behave_main(cases, argc, argv);
}
