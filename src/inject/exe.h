/* SPDX-License-Identifier: Apache-2.0 */
/* The few facts about an ELF file that launching needs; elf(5). Only what was checked to lie in the file is read. */
#ifndef SCOPE_INJECT_EXE_H
#define SCOPE_INJECT_EXE_H

#include <stdbool.h>
#include <stddef.h>

enum exe_kind {
    EXE_DYNAMIC, /* 64-bit ELF of this architecture with an interpreter */
    EXE_STATIC,
    EXE_32BIT,
    EXE_OTHER_ARCH,
    EXE_SETID,   /* setuid, setgid or file capabilities that take effect */
    EXE_UNKNOWN, /* not ELF and not a script: the kernel decides */
};

struct exe {
    enum exe_kind kind; /* without EXE_SETID, which is no property of the contents */
    char *interpreter;  /* PT_INTERP, or NULL */
    char **needed;      /* DT_NEEDED names */
    size_t needed_count;
};

/* Reads the headers of an open file. 0, or -errno if reading fails. A file that isn't ELF is EXE_UNKNOWN. */
int exe_read(int fd, struct exe *ret);
void exe_clear(struct exe *);

/* Looks at the file that exec of `path` would run, through `#!` lines (at most 4). *ret_image (malloc'ed, may be
 * asked for with NULL) is the ELF file in the end. 0 or -errno of the file that could not be opened or read;
 * a file that may be run but not read is EXE_UNKNOWN. */
int launch_classify(const char *path, enum exe_kind *ret_kind, char **ret_image);

/* For people: why a program of this kind is left alone ("is statically linked"), NULL if it isn't. */
const char *launch_reason(enum exe_kind);

/* True if the dynamic loader may be told about the probe: not where it would complain (32-bit) or ignore it (setuid).
 * Static programs get the variable for the sake of their children. */
bool launch_preloads(enum exe_kind);

#endif
