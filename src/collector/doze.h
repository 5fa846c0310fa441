/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waiting for words of shared memory in an event loop. A program that has been
 * quiet for a while may begin to write at any moment, and fills its ring before
 * a lazy reader comes round; so the reader sets segment_header.asleep, and the
 * next writer clears it and wakes whoever waits for it, as futex(2) has it. A
 * thread does nothing but wait, and makes a descriptor readable. It shares
 * nothing else with the event loop, whose thread makes all calls below.
 */
#ifndef SCOPE_COLLECTOR_DOZE_H
#define SCOPE_COLLECTOR_DOZE_H

#include <stddef.h>
#include <stdint.h>

#define DOZE_MAX 127u /* words; FUTEX_WAITV_MAX is 128, and one is ours */

struct doze;

/* NULL if it can't be done: before Linux 5.16 (futex_waitv(2)), or for want of a thread. Undo: doze_free(). */
struct doze *doze_new(void);
void doze_free(struct doze *d);
/* Readable (eventfd(2)) once one of the words has another value, or can't be waited for. The reader empties it. */
int doze_fd(const struct doze *d);
/* From now on these are waited for, until one is found that isn't `value`; 0: nothing is. Memory that is unmapped
 * meanwhile counts as found. */
void doze_wait(struct doze *d, uint32_t value, uint32_t *const words[], size_t count);

#endif
