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
#include "wire/functions.h"

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

/* The call of these registers has moved bytes through a socket whose entry is e; sends: it wrote. */
void function_socket(int fd, const struct fd_entry *e, bool sends, const struct regs *r);

/* The TLS object that the call of these registers is made for, inside of a function of its library; 0: none. */
uint64_t function_object(const struct regs *r);

/*
 * --- for those who learn otherwise what passes (go_functions.h, jsse.h) ---
 *
 * `object` is a number that no other connection has, a multiple of 4. On the thread that the bytes pass on; from signal
 * handlers, too.
 */

/* The segment to tell to, or NULL if nothing shall be told. */
struct segment_header *functions_telling(void);
/* Whether more of an object's bytes are wanted: else the caller may spare itself to copy them. */
bool function_wanted(struct segment_header *s, uint64_t object);
/* Whether the function may read there: asked of the kernel until it has kept its word often enough. */
bool function_may_read(enum fn_id fn, const void *p, size_t n);
/* So many bytes of the object have passed, source: DATA_TLS_*. data NULL: they can't be had, which is a gap. */
void function_tell(struct segment_header *s, enum data_source source, enum data_way way, uint64_t object, int64_t bytes,
                   const char *data);
/* What the object stood for is over. remains: it is another connection from now on. */
void function_other(struct segment_header *s, uint64_t object, bool remains);
/* Whether a socket of the object is known that is still open. */
bool function_has_socket(struct segment_header *s, uint64_t object);
/* It uses this descriptor. -1: none, which changes nothing. */
void function_uses(struct segment_header *s, uint64_t object, int fd);
/* The DATA_HELLO_BYTES encrypted bytes that its transport has got or given first; of a connection that was there before us,
 * those that a record of data begins with. */
void function_hello(struct segment_header *s, uint64_t object, bool sends, const char *data);
/* The probe's code is on a thread's stack, or may be called at any time, from now on (on), or no longer so: until then it
 * stays, also when the process is let go of. */
void functions_hold(bool on);

#endif
