/* SPDX-License-Identifier: Apache-2.0 */
/* Who a process is: what events say of it, from what its probe has told and the kernel knows. */
#ifndef SCOPE_COLLECTOR_IDENTIFY_H
#define SCOPE_COLLECTOR_IDENTIFY_H

struct proc;
struct segment_info;

/* Who the image of a segment is. Returns its environment, to be freed with free(3), or NULL. */
char **identify(struct proc *p, const struct segment_info *info);
/* A forked child is its parent, but for pid and uuid. */
void identify_child(struct proc *p, const struct proc *parent);

#endif
