/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What TLS objects are owed: records about them that found no room in the ring.
 * Plaintext has no position of its own, as bytes of a socket have by its
 * counters: the reader can only glue pieces together. So before the next record
 * of the object and direction goes a gap as long as what was lost, and, where an
 * object's end was lost, that end. Who owes nothing pays one look at debts_open.
 *
 * No locks; safe in signal handlers and with several threads. The libraries let
 * one thread use an object at a time, or (GnuTLS) one each direction: an entry
 * has one user.
 */
#ifndef SCOPE_PROBE_DEBTS_H
#define SCOPE_PROBE_DEBTS_H

#include "ring.h"
#include "wire/source.h"

/* Entries in use, and 1 while debts_all is set. May be too high (a handler was left by longjmp), never too low. */
extern uint32_t debts_open __attribute__((visibility("hidden")));

/* So many bytes of the object, which follow what was told of it in this direction, are missing. */
void debt_add(uint64_t object, enum data_source source, uint64_t bytes);
/* What was missing of the object has no place any more: what it belongs to is over. */
void debt_forgive(uint64_t object);
/* Likewise, and that end is missing, too, or the beginning of another connection. */
void debt_end(uint64_t object);

/*
 * Writes what must come before a record like r, made from it. False if that finds no room either: then r must not be
 * written, but be added to the debt. Where the table was full, it is told that some bytes are missing somewhere, in any
 * object of the process: a record that begins or ends the object 0.
 */
bool debts_pay(struct segment_header *s, const struct record *r);
static inline bool debts_paid(struct segment_header *s, const struct record *r)
{
    return likely(!__atomic_load_n(&debts_open, __ATOMIC_RELAXED)) || debts_pay(s, r);
}

/* A child owes nothing of what its parent does. */
void debts_forked(void);

#endif
