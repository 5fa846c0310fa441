/* SPDX-License-Identifier: Apache-2.0 */
/* What the benchmark programs share: a clock, a checked call, and robust figures. */
#ifndef SCOPE_BENCH_TIMING_H
#define SCOPE_BENCH_TIMING_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* CLOCK_MONOTONIC in nanoseconds; reading it makes no system call. */
static inline uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Ends the program if a call failed: a benchmark of failing calls measures something else. */
static inline long must(long ret, const char *what)
{
    if (ret < 0) {
        fprintf(stderr, "%s: %s\n", what, strerror(errno));
        exit(1);
    }
    return ret;
}

static inline int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* A whole number from a command line, at least 1. */
static inline long number(const char *text)
{
    char *end;
    long n = strtol(text, &end, 10);

    if (*end || end == text || n < 1) {
        fprintf(stderr, "not a positive number: %s\n", text);
        exit(2);
    }
    return n;
}

/* Sorts; prints the lowest and the middle of n figures on one line. Interruptions by other work only ever add
 * time, so the lowest is the cost itself. */
static inline void print_low_and_median(double *v, size_t n)
{
    qsort(v, n, sizeof(*v), compare_double);
    printf("%.2f %.2f\n", v[0], v[n / 2]);
}

#endif
