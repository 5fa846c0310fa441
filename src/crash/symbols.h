/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Modules of a process as libdwfl knows them, and what their files tell of addresses. Only in the process that may die
 * of it.
 */
#ifndef SCOPE_CRASH_SYMBOLS_H
#define SCOPE_CRASH_SYMBOLS_H

#include <elfutils/libdwfl.h>

#include "crash/look.h"
#include "crash/results.h"

struct symbols;

/* NULL if libdwfl can't be set up. */
struct symbols *symbols_new(const struct look *l);
Dwfl *symbols_dwfl(struct symbols *s);

/* Whether there is unwind information for the code at the address. */
bool symbols_has_cfi(struct symbols *s, uint64_t pc);
/* Bytes of code, out of the file. */
bool symbols_code(struct symbols *s, uint64_t address, void *to, size_t size);
/* The function that holds the address: name as it stands in the file, "" if unknown, and its start. */
const char *symbols_function(struct symbols *s, uint64_t address, uint64_t *ret_start);
/* Whether it is Go's, by its table of functions: then how far the stack pointer is below the return address at this
 * point of it, -1 if unknown. */
bool symbols_go_frame(struct symbols *s, uint64_t address, int64_t *ret_size);
/* The place of a goroutine's number in Go's description of it (struct g), as debug information has it: 0 if unknown. */
uint64_t symbols_goid_place(struct symbols *s);
/* Adds the named frames for a bare one: inlined functions first. */
void symbols_name(struct symbols *s, struct results *r, const struct result_frame *bare);

#endif
