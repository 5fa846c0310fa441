/* SPDX-License-Identifier: Apache-2.0 */
/* Out of descriptors, out of memory, many descriptors. */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "behave.h"

static void limit(int what, rlim_t n)
{
    struct rlimit r = {n, n};

    MUST(setrlimit(what, &r) == 0);
}

static int no_descriptors(int argc, char **argv)
{
    int n = 0, fd, status;
    pid_t p;

    (void)argc, (void)argv;
    limit(RLIMIT_NOFILE, 40);
    while ((fd = open("/dev/null", O_RDONLY)) >= 0)
        n++;
    printf("%d more, last %d, errno %d\n", n, fd, errno);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    printf("socket %d errno %d\n", fd, errno);
    fd = dup(0);
    printf("dup %d errno %d\n", fd, errno);
    p = fork();
    if (p == 0) {
        for (int i = 0; i < 2000; i++) /* enough to want a segment of its own, which it can't get */
            close(open("/dev/null", O_RDONLY)), lseek(3, 0, SEEK_CUR);
        for (int i = 20; i < 40; i++)
            close(i);
        execl("/bin/echo", "echo", "from a child that had no free descriptor", (char *)NULL);
        _exit(errno);
    }
    MUST(waitpid(p, &status, 0) == p);
    printf("child %x\n", status);
    close(20);
    printf("freed: %d\n", open("/dev/null", O_RDONLY));
    return 0;
}

/* Descriptors beyond 1,024, in number and in value. */
static int many_descriptors(int argc, char **argv)
{
    static int fds[3000];
    struct rlimit r;
    char b[3];

    (void)argc, (void)argv;
    MUST(getrlimit(RLIMIT_NOFILE, &r) == 0);
    r.rlim_cur = r.rlim_max < 20000 ? r.rlim_max : 20000;
    MUST(setrlimit(RLIMIT_NOFILE, &r) == 0);
    for (int i = 0; i < 3000; i++)
        MUST((fds[i] = open("/dev/zero", O_RDONLY)) >= 0);
    for (int i = 0; i < 3000; i++)
        MUST(read(fds[i], b, 3) == 3);
    for (int i = 0; i < 3000; i++)
        MUST(close(fds[i]) == 0);
    if (r.rlim_cur > 5000) {
        int fd = fcntl(0, F_DUPFD, (int)r.rlim_cur - 1);

        printf("highest is the limit: %d\n", fd == (int)r.rlim_cur - 1);
    }
    printf("done\n");
    return 0;
}

static int no_memory(int argc, char **argv)
{
    int status;
    pid_t p;
    void *m;

    (void)argc, (void)argv;
    limit(RLIMIT_AS, 64 << 20);
    while ((m = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) != MAP_FAILED)
        ;
    for (int i = 0; i < 100; i++) {
        int fd = open("/dev/null", O_RDONLY);

        MUST(fd >= 0 && close(fd) == 0);
    }
    p = fork();
    if (p == 0) {
        for (int i = 0; i < 3000; i++)
            close(open("/dev/null", O_RDONLY));
        _exit(7);
    }
    MUST(p > 0 && waitpid(p, &status, 0) == p);
    printf("child %x\n", status);
    return 0;
}

/* A process whose limit is so small that the segment can't be mapped at all. */
static int exec_in_little(int argc, char **argv)
{
    (void)argc;
    limit(RLIMIT_AS, 12 << 20);
    limit(RLIMIT_NOFILE, 8);
    limit(RLIMIT_FSIZE, 100000);
    execl(argv[0], argv[0], "little", (char *)NULL);
    return 90;
}

static int little(int argc, char **argv)
{
    (void)argc, (void)argv;
    for (int i = 0; i < 5; i++)
        MUST(close(open("/dev/null", O_RDONLY)) == 0);
    printf("runs\n");
    return 4;
}

int main(int argc, char **argv)
{
    static const struct behave_case cases[] = {{"nofile", no_descriptors}, {"many", many_descriptors},
                                               {"nomem", no_memory},       {"exec-in-little", exec_in_little},
                                               {"little", little},         {NULL, NULL}};

    return behave_main(cases, argc, argv);
}
