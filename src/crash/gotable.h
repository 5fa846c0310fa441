/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Go's table of functions (.gopclntab): names, lines and sizes of frames, which every Go program has, stripped or not.
 * Four formats since Go 1.2: src/debug/gosym/pclntab.go and src/runtime/symtab.go of each release. The bytes are the
 * program's: every place is checked, and what doesn't fit isn't there. Pure.
 */
#ifndef SCOPE_CRASH_GOTABLE_H
#define SCOPE_CRASH_GOTABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gotable {
    const uint8_t *bytes;
    size_t size;
    unsigned format; /* 2, 16, 18 */
    uint64_t text;   /* what distances count from; formats 2 and 16 have addresses */
    uint64_t count, functions, names, units, files, values; /* places in the table */
};

struct gofunction {
    uint64_t entry, end;
    const char *name;
    uint64_t at; /* of its entry in the table */
};

/* The bytes stay the caller's. text: the start of Go's text where the table doesn't tell it (0: unknown). False: it is
 * no such table. */
bool gotable_open(struct gotable *t, const void *bytes, size_t size, uint64_t text);
/* Whether the start of the text is needed, which is to be relocated: its place in the table, 0: it isn't. */
size_t gotable_text_place(const void *bytes, size_t size);
/* The function that holds an address, as in the file. */
bool gotable_function(const struct gotable *t, uint64_t address, struct gofunction *ret);
/* The line of an address in it; *ret_file is in the table, NULL if unknown. 0: unknown. */
unsigned gotable_line(const struct gotable *t, const struct gofunction *f, uint64_t address, const char **ret_file);
/* How far the stack pointer is below the return address: -1 if unknown. */
int64_t gotable_frame_size(const struct gotable *t, const struct gofunction *f, uint64_t address);

#endif
