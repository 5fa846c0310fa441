/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What would be seen of a program's TLS, without running it: the planner's
 * answer for its file and for the libraries that it is linked with. The loader
 * is not asked, as that would run what the program names as its loader.
 */
#ifndef SCOPE_INJECT_FORESEE_H
#define SCOPE_INJECT_FORESEE_H

#include <stdbool.h>
#include <stddef.h>

#include "inject/exe.h"

/* The program's own file, or a library. */
struct foreseen {
    char *path;         /* of a library that wasn't found only its name */
    int error;          /* 0, or the errno for which it couldn't be looked at; ENOENT: a library that wasn't found */
    unsigned functions; /* of TLS libraries that can be hooked; Go's not among them */
    unsigned go;        /* ... of Go's crypto/tls */
    unsigned keys;      /* places where keys are set up, in a form that is known */
    unsigned left;      /* functions, Go's among them, that can't be hooked */
    bool unknown_form;  /* keys are set up in a form that isn't known */
    bool checks_itself; /* it checks its own code, and is left alone */
    bool is_go;         /* it has Go code */
};

/* Libraries are looked for as by the loader (ld.so(8)) in LD_LIBRARY_PATH, in the directories of /etc/ld.so.conf.d and
 * in the usual ones; not by the program's own search path (DT_RUNPATH). The first is the program's file itself. *ret is
 * freed with foresee_free(). 0, or -errno if the program's file can't be read; then *ret_kind isn't set. */
int foresee(const char *program, enum exe_kind *ret_kind, struct foreseen **ret, size_t *ret_count);
void foresee_free(struct foreseen *v, size_t n);

#endif
