/* SPDX-License-Identifier: Apache-2.0 */
/* The few facts about an ELF file that launching needs; elf(5). Only what was checked to lie in the file is read. */
#ifndef SCOPE_INJECT_EXE_H
#define SCOPE_INJECT_EXE_H

#include <stddef.h>

#include "inject/launch.h"

struct exe {
    enum exe_kind kind; /* without EXE_SETID, which is no property of the contents */
    char *interpreter;  /* PT_INTERP, or NULL */
    char **needed;      /* DT_NEEDED names */
    size_t needed_count;
};

/* Reads the headers of an open file. 0, or -errno if reading fails. A file that isn't ELF is EXE_UNKNOWN. */
int exe_read(int fd, struct exe *ret);
void exe_clear(struct exe *);

#endif
