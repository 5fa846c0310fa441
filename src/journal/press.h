/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compresses bodies of blocks in a thread that the kernel lets run only where a
 * CPU has nothing else to do (SCHED_IDLE, sched(7)). It may be stopped for long
 * at any place, so it holds no lock that anybody waits for.
 */
#ifndef SCOPE_JOURNAL_PRESS_H
#define SCOPE_JOURNAL_PRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct press;

/* NULL: there can be no such thread. */
struct press *press_new(void);
/* Waits for nothing: the thread frees what it uses. */
void press_free(struct press *p);
/* Compresses `body` in place. Its new length, or 0: there was no time for it within ms milliseconds, or nothing to gain;
 * then the body is as it was. */
size_t press_body(struct press *p, uint8_t *body, size_t len, unsigned ms);

#endif
