/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations that pass through Linux AIO (io_submit(2)): those that were
 * submitted are remembered by the address of their iocb, and told as the
 * corresponding system call when they are seen to be complete: by what
 * io_getevents returns, and by the context's ring of events, which some
 * programs read themselves instead of calling that. What is written so is
 * counted but not captured.
 *
 * Not followed: operations of contexts that were made before the probe came
 * and whose completions the program reads itself, and those whose completion
 * nobody has taken when the context is destroyed.
 */
#ifndef SCOPE_PROBE_AIO_H
#define SCOPE_PROBE_AIO_H

#include "state.h"

/* Before io_submit and io_destroy. */
void aio_enter(struct segment_header *s, enum op_id op, const struct regs *r);
/* After any call of that family, also one that has failed. */
void aio_exit(struct segment_header *s, enum op_id op, const struct regs *r, int64_t ret);
/* Before the process goes. */
void aio_last(struct segment_header *s);

#endif
