/* SPDX-License-Identifier: Apache-2.0 */
/* Putting together the fields of an event or the tags of a metric; values are kept by reference. */
#ifndef SCOPE_REPORT_FIELDS_H
#define SCOPE_REPORT_FIELDS_H

#include <stdio.h>
#include <string.h>

#include "telemetry/telemetry.h"

struct fields {
    struct tm_field *f;
    size_t n, max; /* further ones are left out */
};

/* A local list with room for so many, and one to spare; nobody fills it with zeros first. */
#define FIELDS(name, size)                   \
    struct tm_field name##_room[(size) + 1]; \
    struct fields name = {.f = name##_room, .max = size}

/* The next field, to be given its value in place: whole fields aren't copied. Inlined, so that the length of a name is
 * known when this is compiled. */
#define INLINE static inline __attribute__((always_inline))
INLINE struct tm_field *add(struct fields *f, const char *name, enum tm_type type, uint8_t level)
{
    struct tm_field *field = &f->f[f->n];

    f->n += f->n < f->max;
    field->name = name;
    field->name_len = 0;
    if (__builtin_constant_p(strlen(name)))
        field->name_len = (uint8_t)strlen(name);
    field->type = type;
    field->level = level;
    return field;
}

/* A copy of another. */
static inline void add_field(struct fields *f, const struct tm_field *field)
{
    f->f[f->n] = *field;
    f->n += f->n < f->max;
}

INLINE void add_mem(struct fields *f, const char *name, uint8_t level, const char *p, size_t len)
{
    struct tm_field *field = add(f, name, TM_STR, level);

    field->v.str.p = p ? p : "";
    field->v.str.len = p ? len : 0;
}

INLINE void add_str(struct fields *f, const char *name, uint8_t level, const char *s)
{
    add_mem(f, name, level, s, s ? strlen(s) : 0);
}

INLINE void add_int(struct fields *f, const char *name, uint8_t level, int64_t v)
{
    add(f, name, TM_INT, level)->v.i = v;
}

INLINE void add_uint(struct fields *f, const char *name, uint8_t level, uint64_t v)
{
    add(f, name, TM_UINT, level)->v.u = v;
}

INLINE void add_list(struct fields *f, const char *name, const char *const *p, size_t count)
{
    struct tm_field *field = add(f, name, TM_STRLIST, 0);

    field->v.list.p = p;
    field->v.list.count = count;
}

/* As events and spans call a signal: "SIGKILL", or "SIG" and its number if it has no name. Returns buf. */
static inline const char *signal_text(int sig, char buf[24])
{
    const char *name = sigabbrev_np(sig);

    if (name)
        snprintf(buf, 24, "SIG%s", name);
    else
        snprintf(buf, 24, "SIG%d", sig);
    return buf;
}

#endif
