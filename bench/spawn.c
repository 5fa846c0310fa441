/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spawn COUNT [NAME=VALUE...] PROGRAM [ARGUMENT...]
 *
 * Starts PROGRAM and waits for it, COUNT times, with the given variables added
 * to its environment but not to this program's. Prints the lowest and the
 * median time from start to end, in microseconds.
 */
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "timing.h"

int main(int argc, char **argv)
{
    int at = 2;
    size_t vars = 0;
    char *env[64];

    if (argc < 3)
        goto usage;
    for (char **e = environ; *e && vars < 32; e++)
        env[vars++] = *e;
    while (at < argc && strchr(argv[at], '=') && vars < 63)
        env[vars++] = argv[at++];
    env[vars] = NULL;
    if (at >= argc)
        goto usage;

    size_t count = (size_t)number(argv[1]);
    double *us = calloc(count, sizeof(*us));

    if (!us)
        return 1;
    for (size_t i = 0; i < count; i++) {
        uint64_t start = now_ns();
        pid_t pid;
        int status;

        errno = posix_spawn(&pid, argv[at], NULL, NULL, argv + at, env);
        must(errno ? -1 : 0, argv[at]);
        must(waitpid(pid, &status, 0), "waitpid");
        us[i] = (double)(now_ns() - start) / 1e3;
        if (status) {
            fprintf(stderr, "%s: wait status %#x\n", argv[at], (unsigned)status);
            exit(1);
        }
    }
    print_low_and_median(us, count);
    free(us);
    return 0;

usage:
    fprintf(stderr, "usage: spawn COUNT [NAME=VALUE...] PROGRAM [ARGUMENT...]\n");
    return 2;
}
