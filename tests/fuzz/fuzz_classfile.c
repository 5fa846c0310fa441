/* SPDX-License-Identifier: Apache-2.0 */
/* Arbitrary bytes as a class file. What is made of it is a class again, in which the same finds its place. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "probe/classfile.h"

#define ROOM (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const struct class_site all = {.enter = {.name = "in", .type = "()V"}, .leave = {.name = "out", .type = "()V"}};
    static const struct class_site one = {"read", "([BII)I", {0}, {"read", "(ILjava/lang/Object;[BI)V", {0x59, 0x2a, 0x2b, 0x1c}, 4, 4}};
    static struct class_scratch scratch;
    static uint8_t first[ROOM], second[ROOM];
    size_t room = len > 2 ? (data[len - 1] << 8 | data[len - 2]) * 16u : ROOM, n;
    uint8_t *small;

    n = class_rewrite(data, len, "a/Helper", NULL, 0, &all, &scratch, first, sizeof(first));
    if (n && n < len)
        abort();
    /* Too many constants, or branches too long: then nothing. Else each call has been put in once more. */
    if (n) {
        size_t again = class_rewrite(first, n, "a/Helper", NULL, 0, &all, &scratch, second, sizeof(second));

        if (again && again <= n)
            abort();
    }
    class_rewrite(data, len, "a/Helper", &one, 1, NULL, &scratch, second, sizeof(second));
    small = malloc(room ? room : 1); /* whose end is watched */
    if (small)
        class_rewrite(data, len, "a/Helper", NULL, 0, &all, &scratch, small, room);
    free(small);
    return 0;
}
