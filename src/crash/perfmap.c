/* SPDX-License-Identifier: Apache-2.0 */
#include "crash/perfmap.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define NAME_LEN_MAX 1024u

/* A hexadecimal number, with 0x or without, and the blank behind it. */
static bool take_number(const char **p, const char *end, uint64_t *ret)
{
    const char *s = *p;
    uint64_t v = 0;
    unsigned digits = 0;

    if (end - s > 2 && s[0] == '0' && (s[1] == 'x' || s[1] == 'X'))
        s += 2;
    for (; s < end; s++, digits++) {
        char c = *s;
        int d = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;

        if (d < 0)
            break;
        v = v << 4 | (uint64_t)d;
    }
    if (!digits || digits > 16 || s == end || *s != ' ')
        return false;
    *p = s + 1;
    *ret = v;
    return true;
}

void perfmap_read(struct perfmap *m, const char *text, size_t size)
{
    const char *end = text + size;
    size_t room = 0;

    *m = (struct perfmap){0};
    while (text < end && m->count < PERFMAP_ENTRIES) {
        const char *stop = memchr(text, '\n', (size_t)(end - text)), *p = text;
        uint64_t lo, len;

        stop = stop ? stop : end;
        if (take_number(&p, stop, &lo) && take_number(&p, stop, &len) && len && len <= UINT64_MAX - lo && p < stop) {
            size_t n = (size_t)(stop - p);

            if (m->count == room) {
                room = room ? 2 * room : 1024;
                m->v = xrealloc(m->v, room, sizeof(*m->v));
            }
            m->v[m->count++] =
                (struct perfmap_entry){lo, lo + len, p, (uint32_t)(n < NAME_LEN_MAX ? n : NAME_LEN_MAX)};
        }
        text = stop + 1;
    }
}

const struct perfmap_entry *perfmap_at(const struct perfmap *m, uint64_t address)
{
    for (size_t i = m->count; i-- > 0;)
        if (address - m->v[i].lo < m->v[i].hi - m->v[i].lo)
            return &m->v[i];
    return NULL;
}

void perfmap_free(struct perfmap *m)
{
    free(m->v);
    *m = (struct perfmap){0};
}
