/* SPDX-License-Identifier: Apache-2.0 */
/* Arbitrary bytes as compiled rules (wire/rules.h), and the rest of them as a program that they are asked about. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "wire/rules.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct rules_subject s = {.exe = "/usr/bin/nginx", .execfn = "./app"};
    struct rules_head *h;
    size_t size;

    if (len < 2)
        return 0;
    size = (size_t)(data[0] | data[1] << 8) % (len - 1);
    h = malloc(size ? size : 1);
    if (!h)
        return 0;
    memcpy(h, data + 2, size);
    if (size >= sizeof(*h)) { /* else hardly anything would be valid */
        h->magic = RULES_MAGIC;
        h->size = (uint32_t)size;
    }
    s.args = (const char *)data + 2 + size;
    s.args_len = len - 2 - size;
    if (rules_valid(h, size)) {
        uint32_t found = rules_match(h, &s);

        if (found != RULES_NONE && found >= h->count)
            abort();
    }
    free(h);
    return 0;
}
