/* SPDX-License-Identifier: Apache-2.0 */
/* Putting together the fields of an event or the tags of a metric; values are kept by reference. */
#ifndef SCOPE_COLLECTOR_FIELDS_H
#define SCOPE_COLLECTOR_FIELDS_H

#include <string.h>

#include "telemetry/telemetry.h"

struct fields {
    struct tm_field *f;
    size_t n, max; /* further ones are left out */
};

/* A local one with room for so many. */
#define FIELDS(name, size)                 \
    struct tm_field name##_room[size];     \
    struct fields name = {.f = name##_room, .max = size}

static inline void add(struct fields *f, struct tm_field field)
{
    if (f->n < f->max)
        f->f[f->n++] = field;
}

static inline void add_mem(struct fields *f, const char *name, uint8_t level, const char *p, size_t len)
{
    add(f, (struct tm_field){.name = name, .type = TM_STR, .level = level, .v.str = {p ? p : "", p ? len : 0}});
}

static inline void add_str(struct fields *f, const char *name, uint8_t level, const char *s)
{
    add_mem(f, name, level, s, s ? strlen(s) : 0);
}

static inline void add_int(struct fields *f, const char *name, uint8_t level, int64_t v)
{
    add(f, (struct tm_field){.name = name, .type = TM_INT, .level = level, .v.i = v});
}

static inline void add_uint(struct fields *f, const char *name, uint8_t level, uint64_t v)
{
    add(f, (struct tm_field){.name = name, .type = TM_UINT, .level = level, .v.u = v});
}

#endif
