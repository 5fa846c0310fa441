/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Alternate signal stacks that the probe has given to threads (src/probe/crash.h), taken away from outside: a program
 * without a probe must have none of them, or sigaltstack(2) would tell of it, and its handlers with SA_ONSTACK run
 * there. All threads stand.
 */
#ifndef SCOPE_INJECT_STACKS_H
#define SCOPE_INJECT_STACKS_H

#include <stdbool.h>

#include "inject/process.h"
#include "inject/trace.h"
#include "wire/probe.h"

struct stacks {
    struct probe_crash crash;
    uint64_t *at;   /* malloc'ed: crash.stack_count, 0: none there */
    unsigned count; /* that are there */
};

/* Reads where they are. 0, or an error of the trace. Undo: stacks_free(). */
TRACE_CHECK int stacks_read(struct stacks *s, const struct trace *t, const struct probe_info *info);
void stacks_free(struct stacks *s);

/*
 * Takes them away from all threads, none of which is borrowed, and out of what handlers that are under way will put
 * back when they return (sigreturn(2)). No thread gets another one. *ret_used: one may still be used, by a handler that
 * runs there, or by a thread that can't be asked now; then all of them have to stay mapped. 0, or an error of the
 * trace.
 */
TRACE_CHECK int stacks_take(struct stacks *s, struct trace *t, const struct process_maps *m,
                            struct trace_thread *threads, size_t count, bool go, uint64_t vdso, bool *ret_used);

/* Unmaps them, by a borrowed thread. 0, or an error of the trace. */
TRACE_CHECK int stacks_unmap(struct stacks *s, struct trace *t, struct trace_thread *th);

#endif
