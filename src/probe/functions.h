/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hooks of functions of TLS libraries (wire/functions.h): what the program gives
 * and gets there becomes REC_DATA. While such a function runs, a note of it in
 * the thread's slot lets the socket calls inside tell which descriptor serves
 * the connection.
 */
#ifndef SCOPE_PROBE_FUNCTIONS_H
#define SCOPE_PROBE_FUNCTIONS_H

#include "state.h"

/* A function of a TLS library has run in this process. */
extern uint8_t functions_used __attribute__((visibility("hidden")));

/*
 * Calls that are under way, for who wants to take the code away that they will return to: the sum of all `calls`. It
 * never becomes 0 again once a call was left by longjmp(3), an exception or the end of its thread: too high is safe.
 * Many threads would fight for one counter.
 */
#define FUNCTION_SHARDS 32u
struct function_shard {
    uint64_t calls;
    uint64_t unused[7];
};
extern struct function_shard function_shards[FUNCTION_SHARDS] __attribute__((visibility("hidden")));

/* In a forked child, at its first hook: the calls of other threads are not under way here. */
void functions_forked(void);

/* The child is about to use a segment of its own, in which generations of descriptors begin anew. Objects that another
 * thread uses just now are told again by their next socket call. */
void functions_upgraded(struct segment_header *own);

/* A call at stack pointer sp has moved bytes through a socket whose entry is e; sends: it wrote. */
void function_socket(int fd, const struct fd_entry *e, bool sends, uint64_t sp);

/* The TLS object that a call at stack pointer sp is made for, inside of a function of its library; 0: none. */
uint64_t function_object(uint64_t sp);

#endif
