/* SPDX-License-Identifier: Apache-2.0 */
/* The probe's handlers of fatal signals (src/probe/crash.h), set and taken away from outside. All threads stand. */
#ifndef SCOPE_INJECT_HANDLERS_H
#define SCOPE_INJECT_HANDLERS_H

#include "inject/trace.h"
#include "wire/probe.h"

/* By a borrowed thread, where the program has SIG_DFL. Without alternate stacks: threads may have their own, and the
 * program handlers that rely on these. 0, or an error of the trace; then some may be set, which does no harm as long as
 * the probe stays. */
TRACE_CHECK int handlers_install(struct trace *t, struct trace_thread *th, const struct probe_info *info);

/* Whether there may be any. */
TRACE_CHECK int handlers_are_set(const struct trace *t, const struct probe_info *info, bool *ret);

/* Puts back what the program believes to be there. 0, or an error of the trace. */
TRACE_CHECK int handlers_restore(struct trace *t, struct trace_thread *th, const struct probe_info *info);

#endif
