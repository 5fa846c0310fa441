/* SPDX-License-Identifier: Apache-2.0 */
/* JavaScript expressions over events (`scope events --eval`), with MuJS: ECMAScript 5, no files, no network. An expression
 * may take 256 MiB, and 2 s of CPU time for one event; else the whole command ends with a message. */
#ifndef SCOPE_CLI_EVAL_H
#define SCOPE_CLI_EVAL_H

#include <jansson.h>

struct eval;

/* Compiles an expression. NULL with *ret_error (malloc'ed) set if it isn't one. */
struct eval *eval_new(const char *expression, char **ret_error);
/* Evaluates it with the members of `globals` as global variables. 1: truthy, 0: not, -1: it threw; the text of the
 * first exception is kept for eval_error(). */
int eval_match(struct eval *, json_t *globals);
/* Text of the first exception, or NULL; valid until eval_free(). */
const char *eval_error(const struct eval *);
void eval_free(struct eval *);

#endif
