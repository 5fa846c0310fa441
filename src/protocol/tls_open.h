/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens the records of a TLS connection (RFC 8446, section 5; RFC 5246, section
 * 6.2; RFC 5288) with keys that nobody has said whose they are: candidates are
 * tried until one is proven by the record itself. AES-128 and AES-256 in Galois/
 * Counter Mode, of TLS 1.3 and 1.2; other suites are refused.
 *
 * With nothing but an AES key a record of GCM tells its own nonce: its tag is
 * GHASH(record) xor E(K, nonce || 1), so nonce || 1 = D(K, tag xor GHASH(record)).
 * Of a wrong key the last 32 bits are not 1, but once in 2^32. TLS 1.2 sends 64
 * bits of the nonce, which must agree, too. TLS 1.3 sends none: there the content
 * must be one that is allowed, and each later record must have the nonce that
 * follows from this one. A key is only tried where a new one may begin, or where
 * the one that was used doesn't open a record. So no salt, sequence number or
 * secret is needed, and key updates, early data and gaps need no code of their own.
 *
 * Bytes are hostile, as protocol.h has it. What waits for a key is bounded by
 * TLS_OPEN_KEPT bytes, TLS_OPEN_WAIT_NS and TLS_OPEN_TRIALS for each direction; then
 * the direction is given up. Memory: TLS_OPEN_KEPT + TLS_OPEN_RECORD bytes for each direction at
 * most, 16 KiB in each as a rule. Keys and plaintext are wiped when they are no
 * longer needed. Time is linear in the bytes and the candidates. Single-threaded.
 */
#ifndef SCOPE_PROTOCOL_TLS_OPEN_H
#define SCOPE_PROTOCOL_TLS_OPEN_H

#include <stdbool.h>

#include "protocol/protocol.h"

#define TLS_OPEN_RECORD (5u + 16384u + 2048u)   /* bytes of a record: what TLS 1.2 allows, header included */
#define TLS_OPEN_KEPT 262144u
#define TLS_OPEN_TRIALS 16384u
#define TLS_OPEN_WAIT_NS UINT64_C(30000000000)
#define TLS_OPEN_GUESSING 16u /* trials that one costs in which numbers are guessed, too */
#define TLS_OPEN_NUMBER_BITS 12u /* of numbers of records of TLS 1.2 that are guessed */

struct tls_open_key {
    uint8_t len;       /* 16 or 32 bytes */
    uint8_t bytes[32];
};

/* All are called from the functions below only, and must not call those. */
struct tls_open_sink {
    /* The candidate behind *at, in whatever order the owner likes, always the same; *at becomes its number, which isn't
     * 0. At first *at is 0. False: there is none for now. */
    bool (*key)(void *owner, uint64_t *at, struct tls_open_key *ret);
    /* This one is a key of this connection: nobody else's. */
    void (*fits)(void *owner, uint64_t at);
    /* Data of the application, in order; data NULL: so many bytes could not be read. */
    void (*plain)(void *owner, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns);
    /* From here on something is missing, and nobody knows how much. */
    void (*missed)(void *owner, enum proto_dir dir, uint64_t time_ns);
};

enum tls_open_state {
    TLS_OPEN_WAITS,  /* nothing was opened so far, but may be */
    TLS_OPEN_READS,  /* something was opened, and more may be */
    TLS_OPEN_SUITE,  /* over: not a suite that can be opened */
    TLS_OPEN_NO_KEY, /* over: no candidate fitted in time, or before too many bytes had passed */
    TLS_OPEN_LOST,   /* over: too much was not captured */
};

struct tls_open;

/* sink is kept by reference. The connection is seen from its first byte, unless tls_open_join() is called. Never NULL. */
struct tls_open *tls_open_new(const struct tls_open_sink *sink, void *owner);
/* Before anything else: it was joined half-way, perhaps in the middle of a record. The first record that a candidate opens
 * says the rest. Of TLS 1.2 that must be one whose explicit nonce is its number (BoringSSL, Go), or whose number has
 * no more than TLS_OPEN_NUMBER_BITS. */
void tls_open_join(struct tls_open *o);
/* Before anything else: candidates aren't there as soon as records are under them. Those for which there is none are left out
 * by tls_open_leave(). */
void tls_open_late(struct tls_open *o);
/* Wipes all of it. NULL is fine. */
void tls_open_free(struct tls_open *o);
/* What the ServerHello says: until then what is encrypted is kept. */
void tls_open_agreed(struct tls_open *o, uint16_t version, uint16_t cipher);
/* As http1_feed(): bytes that passed, data NULL: a gap. */
void tls_open_feed(struct tls_open *o, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns);
/* There may be more candidates, or time has passed. anew: all of them are to be looked at, whatever their numbers. */
void tls_open_retry(struct tls_open *o, bool anew, uint64_t time_ns);
/* Of one that was joined or is late: whether records wait for a key. All candidates that they may be under are about to be
 * offered. */
bool tls_open_mark(struct tls_open *o);
/* They were: what was waiting then, and still does, is left out. Numbers are guessed here. */
void tls_open_leave(struct tls_open *o, uint64_t time_ns);
/* Nothing more comes: what waits for the other direction only is told. */
void tls_open_end(struct tls_open *o, uint64_t time_ns);
/* Bytes that wait, for a key or for those of the other direction. */
size_t tls_open_waiting(const struct tls_open *o);
/* Gives up both directions, and wipes what waits. */
void tls_open_give_up(struct tls_open *o);
enum tls_open_state tls_open_state(const struct tls_open *o);
/* Whether bytes of this direction are of use still. */
bool tls_open_wants(const struct tls_open *o, enum proto_dir dir);

#endif
