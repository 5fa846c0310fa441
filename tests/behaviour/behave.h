/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs whose output must be the same whether they are observed or not.
 * Each file is one program with several cases, chosen by argv[1].
 */
#ifndef TESTS_BEHAVE_H
#define TESTS_BEHAVE_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Ends the program with 99 if something that the case relies on does not hold. */
#define MUST(c) ((c) ? (void)0 : (fprintf(stderr, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #c, errno), _exit(99)))

struct behave_case {
    const char *name;
    int (*run)(int argc, char **argv);
};

static inline int behave_main(const struct behave_case *cases, int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (; argc > 1 && cases->name; cases++)
        if (strcmp(cases->name, argv[1]) == 0)
            return cases->run(argc, argv);
    fprintf(stderr, "no such case\n");
    return 98;
}

#endif
