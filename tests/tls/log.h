/* SPDX-License-Identifier: Apache-2.0 */
/* What the programs here print: "ADDRESS tx|rx HEX" for each call, ADDRESS being that of the TLS object. */
#ifndef TESTS_TLS_LOG_H
#define TESTS_TLS_LOG_H

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define NEED(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno); \
            exit(1); \
        } \
    } while (0)

static inline void print_bytes(const void *object, const char *direction, const void *data, size_t size)
{
    const unsigned char *p = data;

    flockfile(stdout);
    printf("%p %s ", object, direction);
    for (size_t i = 0; i < size; i++)
        printf("%02x", p[i]);
    printf("\n");
    funlockfile(stdout);
}

/* Says that all is done, and stays until stdin ends: what is mapped can be looked at meanwhile. */
static inline void print_end(void)
{
    char c;

    puts("end");
    fflush(stdout);
    while (read(0, &c, 1) > 0)
        ;
}

#endif
