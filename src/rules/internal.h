/* SPDX-License-Identifier: Apache-2.0 */
/* Private to src/rules. */
#ifndef SCOPE_RULES_INTERNAL_H
#define SCOPE_RULES_INTERNAL_H

#include <stddef.h>
#include <sys/types.h>

#include "base/buf.h"
#include "rules/rules.h"

#define MAX_PLANS_PATH 4096u

/* Bytes of a compiled file without rules; plans NULL: at most. */
size_t rules_size_without(const char *plans);
/* A document in one line, as a flow; "" if it isn't YAML. */
void rules_flatten(struct buf *, const char *yaml);
/* A text in quotes, for YAML. */
void rules_quote(struct buf *, const char *text);

/* The text of a rules file, which nobody but root or we may have written, and its mode. -ENOENT, -EPERM with the reason,
 * or -errno. Of a file that is too long only somewhat more than TREE_MAX_FILE. */
int rules_load(const char *path, struct buf *ret, mode_t *ret_mode, char **ret_why);
void rules_tell_unreadable(const char *path, int error, const char *why, cfg_problem_fn fn, void *ctx);

#endif
