/* SPDX-License-Identifier: Apache-2.0 */
/* What a program without a dynamic loader sees of itself, and its heap. */
#include "behave.h"

#include <dirent.h>
#include <elf.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

extern char **environ;

static void show_link(const char *path)
{
    char text[4096];
    ssize_t n = readlink(path, text, sizeof(text));

    MUST(n >= 0);
    printf("%s %.*s\n", path, (int)n, text);
}

static void show_file(const char *path, const char *only)
{
    char line[4096];
    FILE *f = fopen(path, "r");

    MUST(f);
    while (fgets(line, sizeof(line), f))
        if (!only || strncmp(line, only, strlen(only)) == 0)
            printf("%s", line);
    fclose(f);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Values that differ from run to run are left out: addresses. */
static int view(int argc, char **argv)
{
    unsigned char regs_seen = 0;
    sigset_t blocked;
    stack_t stack;
    struct dirent *e;
    Elf64_auxv_t a;
    char *names[512];
    size_t count = 0;
    DIR *d = opendir("/proc/self/fd");
    int fd = open("/proc/self/auxv", O_RDONLY);

    for (int i = 0; i < argc; i++)
        printf("argument %s\n", argv[i]);
    show_link("/proc/self/exe");
    show_link("/proc/self/cwd");
    show_file("/proc/self/status", "TracerPid:");
    show_file("/proc/self/status", "Threads:");
    show_file("/proc/self/status", "SigPnd:");
    show_file("/proc/self/status", "SigBlk:");
    show_file("/proc/self/status", "SigIgn:");
    show_file("/proc/self/status", "SigCgt:");
    show_file("/proc/self/status", "ShdPnd:");
    show_file("/proc/self/comm", NULL);
    printf("parent %d\n", getppid() > 0);
    while (read(fd, &a, sizeof(a)) == sizeof(a)) {
        printf("auxv %lu", (unsigned long)a.a_type);
        switch (a.a_type) {
        case AT_PHENT: case AT_PHNUM: case AT_PAGESZ: case AT_FLAGS: case AT_UID: case AT_EUID: case AT_GID:
        case AT_EGID: case AT_SECURE: case AT_HWCAP: case AT_HWCAP2: case AT_CLKTCK: case AT_BASE:
            printf(" %lx", (unsigned long)a.a_un.a_val);
        }
        printf("\n");
    }
    close(fd);
    MUST(d);
    while ((e = readdir(d)))
        if (*e->d_name != '.')
            MUST((names[count++] = strdup(e->d_name)));
    closedir(d);
    qsort(names, count, sizeof(*names), by_name);
    for (size_t i = 0; i < count; i++)
        printf("descriptor %s\n", names[i]);
    count = 0;
    for (char **v = environ; *v && count < 512; v++)
        if (strncmp(*v, "SCOPE_", 6) != 0 && strncmp(*v, "LD_PRELOAD=", 11) != 0)
            names[count++] = *v;
    qsort(names, count, sizeof(*names), by_name);
    for (size_t i = 0; i < count; i++)
        printf("variable %s\n", names[i]);
    MUST(sigprocmask(SIG_SETMASK, NULL, &blocked) == 0 && sigaltstack(NULL, &stack) == 0);
    for (int i = 1; i < 65; i++)
        regs_seen |= sigismember(&blocked, i) == 1;
    printf("blocked %d, stack %d\n", regs_seen, stack.ss_flags);
    return 0;
}

/* The heap grows in one piece, as far as it is asked to, and holds what was put into it. */
static int heap(int argc, char **argv)
{
    enum { STEP = 16 << 20, STEPS = 48 };
    char *start = (char *)syscall(SYS_brk, 0), *at = start; /* musl's sbrk() doesn't grow anything */

    (void)argc;
    (void)argv;
    for (int i = 0; i < STEPS; i++) {
        MUST((char *)syscall(SYS_brk, at + STEP) == at + STEP);
        at[0] = at[STEP - 1] = (char)i;
        at += STEP;
    }
    for (int i = 0; i < STEPS; i++)
        MUST(start[(size_t)i * STEP] == (char)i && start[(size_t)(i + 1) * STEP - 1] == (char)i);
    MUST((char *)syscall(SYS_brk, start) == start);
    printf("grew and shrank by %d MiB\n", STEP / (1 << 20) * STEPS);
    return 0;
}

/* dies N: of that signal, by its own hand. */
static int dies(int argc, char **argv)
{
    MUST(argc > 2);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    printf("about to end\n");
    raise(atoi(argv[2]));
    return 0;
}

/* Execs that fail one after the other, of a static program: each leaves the process as it was; then one that works. */
static int in_vain(int argc, char **argv)
{
    char *huge = malloc(200 << 10), *none[] = {NULL};
    int fds[2];

    (void)argc;
    MUST(huge);
    memset(huge, 'x', (200 << 10) - 1);
    huge[(200 << 10) - 1] = 0;
    for (int i = 0; i < 20; i++) {
        char *words[] = {argv[0], huge, NULL};

        MUST(execve(argv[0], words, environ) == -1 && errno == E2BIG);
        MUST(execve("/proc/self/exe/none", none, environ) == -1 && errno == ENOTDIR);
        MUST(pipe(fds) == 0); /* the lowest numbers are free again */
        printf("%d %d\n", fds[0], fds[1]);
        close(fds[0]);
        close(fds[1]);
        show_file("/proc/self/status", "TracerPid:");
    }
    fflush(stdout);
    execl(argv[0], argv[0], "dies", "9", (char *)NULL);
    return 98;
}

/* vfork and exec of itself, from several depths of the stack. */
static int vforks(int argc, char **argv)
{
    int status;

    (void)argc;
    for (int i = 0; i < 50; i++) {
        pid_t pid = vfork();

        if (pid == 0) {
            if (i % 3 == 2)
                execl("/nonexistent", "none", (char *)NULL);
            execl(argv[0], argv[0], "ends", i % 2 ? "3" : "4", (char *)NULL);
            _exit(98);
        }
        MUST(pid > 0 && waitpid(pid, &status, 0) == pid);
        MUST(WIFEXITED(status) && WEXITSTATUS(status) == (i % 2 ? 3 : 4));
    }
    printf("all came back\n");
    return 0;
}

static int rights(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    printf("%u %u %lu\n", geteuid(), getegid(), getauxval(AT_SECURE));
    return 0;
}

static int ends(int argc, char **argv)
{
    return argc > 2 ? atoi(argv[2]) : 0;
}

/* chain WORD...: execs the first with the rest, until nothing is left. */
static int chain(int argc, char **argv)
{
    printf("%s: %d left\n", strrchr(argv[0], '/') + 1, argc - 2);
    fflush(stdout);
    if (argc < 3)
        return 17;
    char **words = calloc((size_t)argc, sizeof(char *));

    MUST(words);
    words[0] = argv[2];
    words[1] = argv[1];
    memcpy(words + 2, argv + 3, (size_t)(argc - 3) * sizeof(char *));
    execve(words[0], words, argc % 2 ? environ : (char *[]){"ONLY=this", NULL});
    return 98;
}

int main(int argc, char **argv)
{
    static const struct behave_case cases[] = {
        {"view", view}, {"heap", heap}, {"dies", dies}, {"in-vain", in_vain}, {"vforks", vforks}, {"ends", ends},
        {"chain", chain}, {"rights", rights}, {0},
    };

    return behave_main(cases, argc, argv);
}
