/* SPDX-License-Identifier: Apache-2.0 */
/* Compiled rules, as src/wire/rules.h has them: rules FILE SOCKET PLANS GENERATION [allow|deny NAME ARG]..., "-": any. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "wire/rules.h"
#include "wire/segment.h"
#include "wire/syscalls.h"

static char bytes[RULES_SIZE_MAX];
static uint32_t size;

static uint32_t put(const char *text)
{
    uint32_t at = size;

    if (strcmp(text, "-") == 0)
        return 0;
    memcpy(bytes + size, text, strlen(text) + 1);
    size += (uint32_t)strlen(text) + 1;
    return at;
}

int main(int argc, char **argv)
{
    struct rules_head *h = (void *)bytes;
    struct rules_entry *e = (void *)(h + 1);
    char name[4096];
    FILE *f;

    h->magic = RULES_MAGIC;
    h->table_hash = syscall_table_hash();
    h->generation = strtoull(argv[4], NULL, 10);
    h->count = (uint32_t)(argc - 5) / 3;
    size = sizeof(*h) + h->count * sizeof(*e);
    h->socket = put(argv[2]);
    h->plans = put(argv[3]);
    for (uint32_t i = 0; i < h->count; i++) {
        char **words = argv + 5 + 3 * i;

        e[i].kind = strcmp(words[0], "deny") == 0 ? RULES_DENY : RULES_ALLOW;
        e[i].name = put(words[1]);
        e[i].arg = put(words[2]);
        e[i].mode = SEG_M_ON | SEG_M_TSC;
    }
    h->size = size;
    snprintf(name, sizeof(name), "%s.new", argv[1]);
    f = fopen(name, "w");
    if (!f || fwrite(bytes, 1, size, f) != size || fclose(f) || chmod(name, 0644) || rename(name, argv[1])) {
        perror(argv[1]);
        return 1;
    }
    return 0;
}
