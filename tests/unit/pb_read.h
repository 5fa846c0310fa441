/* SPDX-License-Identifier: Apache-2.0 */
/* Reads protocol buffers for tests: knows nothing of how they were written. */
#ifndef TESTS_PB_READ_H
#define TESTS_PB_READ_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct pb_msg {
    const uint8_t *p, *end;
};

struct pb_field {
    unsigned number, type;
    uint64_t n;           /* varint, fixed64, fixed32 */
    struct pb_msg bytes;  /* LEN */
};

static inline bool pb_read_varint(struct pb_msg *m, uint64_t *ret)
{
    *ret = 0;
    for (unsigned shift = 0; m->p < m->end && shift < 70; shift += 7) {
        uint8_t c = *m->p++;

        *ret |= (uint64_t)(c & 0x7f) << shift;
        if (!(c & 0x80))
            return shift == 0 || c; /* the shortest form */
    }
    return false;
}

/* The next field; false at the end, and where it isn't one (then m->p isn't m->end). */
static inline bool pb_read(struct pb_msg *m, struct pb_field *f)
{
    const uint8_t *begin = m->p;
    uint64_t tag;

    if (m->p == m->end)
        return false;
    *f = (struct pb_field){0};
    if (!pb_read_varint(m, &tag) || !(tag >> 3))
        goto wrong;
    f->number = (unsigned)(tag >> 3);
    f->type = tag & 7;
    switch (f->type) {
    case 0:
        if (!pb_read_varint(m, &f->n))
            goto wrong;
        return true;
    case 1:
    case 5: {
        size_t n = f->type == 1 ? 8 : 4;

        if ((size_t)(m->end - m->p) < n)
            goto wrong;
        memcpy(&f->n, m->p, n);
        m->p += n;
        return true;
    }
    case 2:
        if (!pb_read_varint(m, &f->n) || f->n > (uint64_t)(m->end - m->p))
            goto wrong;
        f->bytes = (struct pb_msg){m->p, m->p + f->n};
        m->p += f->n;
        return true;
    }
wrong:
    m->p = begin;
    return false;
}

/* The index-th field of that number; false: there is none. */
static inline bool pb_find(struct pb_msg m, unsigned number, size_t index, struct pb_field *f)
{
    while (pb_read(&m, f))
        if (f->number == number && index-- == 0)
            return true;
    return false;
}

static inline size_t pb_count(struct pb_msg m, unsigned number)
{
    struct pb_field f;
    size_t n = 0;

    while (pb_read(&m, &f))
        n += f.number == number;
    return n;
}

static inline struct pb_msg pb_sub(struct pb_msg m, unsigned number, size_t index)
{
    struct pb_field f;

    return pb_find(m, number, index, &f) && f.type == 2 ? f.bytes : (struct pb_msg){0};
}

static inline uint64_t pb_number(struct pb_msg m, unsigned number)
{
    struct pb_field f;

    return pb_find(m, number, 0, &f) ? f.n : 0;
}

static inline bool pb_is(struct pb_msg m, const char *text)
{
    return (size_t)(m.end - m.p) == strlen(text) && (m.p == m.end || memcmp(m.p, text, strlen(text)) == 0);
}

/* The AnyValue of the attribute with that key among the fields `number`; *ret_count says how many have it. */
static inline struct pb_msg pb_attribute(struct pb_msg m, unsigned number, const char *key, size_t *ret_count)
{
    struct pb_msg value = {0};
    struct pb_field f;
    size_t n = 0;

    while (pb_read(&m, &f))
        if (f.number == number && f.type == 2 && pb_is(pb_sub(f.bytes, 1, 0), key) && n++ == 0)
            value = pb_sub(f.bytes, 2, 0);
    if (ret_count)
        *ret_count = n;
    return value;
}

#endif
