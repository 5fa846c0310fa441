/* SPDX-License-Identifier: Apache-2.0 */
/*
 * opens FILE BATCHES CALLS
 *
 * open, fstat, close in a loop: two recorded calls and one counted call a
 * round. Prints the lowest and the median batch in nanoseconds per round.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "timing.h"

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: opens FILE BATCHES CALLS\n");
        return 2;
    }
    long batches = number(argv[2]), calls = number(argv[3]);
    double *ns = calloc((size_t)batches, sizeof(*ns));
    struct stat st;

    if (!ns)
        return 1;
    for (long b = 0; b < batches; b++) {
        uint64_t start = now_ns();

        for (long i = 0; i < calls; i++) {
            int fd = (int)must(open(argv[1], O_RDONLY | O_CLOEXEC), argv[1]);

            must(fstat(fd, &st), "fstat");
            must(close(fd), "close");
        }
        ns[b] = (double)(now_ns() - start) / (double)calls;
    }
    print_low_and_median(ns, (size_t)batches);
    free(ns);
    return 0;
}
