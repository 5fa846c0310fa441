/* SPDX-License-Identifier: Apache-2.0 */
/* Prints what the planner decides about ELF files, of any architecture that it knows: plan-explain [-t | -o PLAN] FILE...
 * -t: the time it took, no table; -o: stores the plan of the last one in a file, too. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "plan/plan.h"

int main(int argc, char **argv)
{
    int first = 1, time_only = 0, status = 0;
    const char *store = NULL;

    if (argc > 1 && strcmp(argv[1], "-t") == 0) {
        time_only = 1;
        first = 2;
    } else if (argc > 2 && strcmp(argv[1], "-o") == 0) {
        store = argv[2];
        first = 3;
    }
    if (first >= argc) {
        fprintf(stderr, "usage: plan-explain [-t | -o PLAN] FILE...\n");
        return 2;
    }
    for (int i = first; i < argc; i++) {
        struct timespec a, b;
        void *plan = NULL;
        size_t size = 0;
        int fd = open(argv[i], O_RDONLY | O_CLOEXEC), r;

        clock_gettime(CLOCK_MONOTONIC, &a);
        r = fd < 0 ? -errno : plan_file(fd, "explain", &plan, &size);
        clock_gettime(CLOCK_MONOTONIC, &b);
        if (fd >= 0)
            close(fd);
        if (r < 0) {
            fprintf(stderr, "plan-explain: %s: %s\n", argv[i], strerror(-r));
            status = 1;
            continue;
        }
        printf("%s: planned in %.1f ms\n", argv[i],
               (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6);
        if (!time_only)
            plan_explain(plan, size, stdout);
        if (store) {
            FILE *to = fopen(store, "wb");

            if (!to || fwrite(plan, 1, size, to) != size || fclose(to) != 0) {
                perror(store);
                status = 1;
            }
        }
        free(plan);
    }
    return status;
}
