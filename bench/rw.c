/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rw read|write BATCHES CALLS
 *
 * Reads single bytes from /dev/zero, or writes them to /dev/null: the cheapest
 * transfers there are, so that what is added to them is seen best. Prints the
 * lowest and the median batch in nanoseconds per call.
 */
#include <fcntl.h>
#include <unistd.h>

#include "timing.h"

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: rw read|write BATCHES CALLS\n");
        return 2;
    }
    int writing = strcmp(argv[1], "write") == 0;
    long batches = number(argv[2]), calls = number(argv[3]);
    double *ns = calloc((size_t)batches, sizeof(*ns));
    int fd = (int)must(open(writing ? "/dev/null" : "/dev/zero", writing ? O_WRONLY : O_RDONLY), "open");
    char byte = 0;

    if (!ns)
        return 1;
    for (long b = 0; b < batches; b++) {
        uint64_t start = now_ns();

        for (long i = 0; i < calls; i++)
            must(writing ? write(fd, &byte, 1) : read(fd, &byte, 1), argv[1]);
        ns[b] = (double)(now_ns() - start) / (double)calls;
    }
    print_low_and_median(ns, (size_t)batches);
    free(ns);
    return 0;
}
