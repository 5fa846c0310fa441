/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that finds the shared segment in its own memory and writes random
 * bytes over it, all over and in turn with ordinary work. argv[2]: seed.
 */
#include <fcntl.h>
#include <stdint.h>

#include "behave.h"

static uint64_t state;

static uint64_t random64(void) /* xorshift64* (Vigna) */
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * UINT64_C(0x2545F4914F6CDD1D);
}

static int scribble(int argc, char **argv)
{
    FILE *f = fopen("/proc/self/maps", "r");
    char line[500];
    unsigned char *segment = NULL;
    size_t size = 0;

    MUST(f && argc > 2);
    state = (uint64_t)atoi(argv[2]) * 7919 + 1;
    while (fgets(line, sizeof(line), f)) {
        unsigned long from, to;
        char mode[5];

        if (strstr(line, "memfd:scope") && sscanf(line, "%lx-%lx %4s", &from, &to, mode) == 3 && mode[1] == 'w' &&
            to - from > size) {
            segment = (unsigned char *)from;
            size = to - from;
        }
    }
    fclose(f);
    if (!segment) {
        printf("no segment\n");
        return 5;
    }
    for (int round = 0; round < 300; round++) {
        for (int i = 0; i < 200; i++) {
            /* Everywhere, but half of it in the header and the first cells of the ring. */
            size_t at = random64() % (i & 1 ? size : size < 65536 ? size : 65536) & ~(size_t)7;
            uint64_t v = random64() >> random64() % 64;

            if (at + 8 <= size)
                memcpy(segment + at, &v, 8);
        }
        close(open("/dev/null", O_RDONLY));
        if (round % 50 == 0)
            usleep(5000);
    }
    printf("done\n");
    return 0;
}

int main(int argc, char **argv)
{
    static const struct behave_case cases[] = {{"scribble", scribble}, {NULL, NULL}};

    return behave_main(cases, argc, argv);
}
