/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys that a process has set up, of which nobody knows whose they are: candidates
 * for the connections of TLS whose library has no names (protocol/tls_open.h). Most
 * are those of random number generators. Each is kept for TLS_KEYS_NS, or until it
 * has opened a connection; then it is wiped here. The memory is locked as far as
 * that is allowed, and not part of a core. Single-threaded.
 */
#ifndef SCOPE_TRAFFIC_TLS_KEYS_H
#define SCOPE_TRAFFIC_TLS_KEYS_H

#include "protocol/tls_open.h"

/* Then the oldest goes. A random number generator may take 40 keys for each handshake (BoringSSL), and a connection's last
 * key may be of use only when a hundred others have begun. */
#define TLS_KEYS_MAX 16384u
#define TLS_KEYS_NS UINT64_C(30000000000)
/* So many are given out from one sweep to the next: each costs its taker the opening of a record, some 5 us. */
#define TLS_KEYS_LOOKS 131072u

struct tls_keys;

/* NULL: there is no memory. Freed with tls_keys_free(), for which NULL is fine. */
struct tls_keys *tls_keys_new(void);
void tls_keys_free(struct tls_keys *k);
/* len: 16 or 32 bytes, else it is none. caller: where it was set up, as good as any other number. time_ns: CLOCK_REALTIME. */
void tls_keys_add(struct tls_keys *k, const uint8_t *bytes, uint64_t len, uint64_t caller, uint64_t time_ns);
/* The same for one that is in the memory of the process, and in use: nobody knows since when, nor who has set it up. It is given
 * out to all. One that is there already is not added. */
void tls_keys_found(struct tls_keys *k, const uint8_t *bytes, uint64_t len, uint64_t time_ns);
/* Adds those of a parent, which a connection that it has made may need when its child goes on with it. */
void tls_keys_copy(struct tls_keys *to, const struct tls_keys *from);
/* So many were never seen. */
void tls_keys_missed(struct tls_keys *k, uint64_t count);
/* How many that are. */
uint64_t tls_keys_lost(const struct tls_keys *k);
/* The one behind number *at that was set up at `since_ns` or later (tls_open_sink.key). Unless `all`: if one of a caller's
 * has ever opened anything, only those of such callers. False: there is none, or TLS_KEYS_LOOKS were given. */
bool tls_keys_next(struct tls_keys *k, uint64_t since_ns, bool all, uint64_t *at, struct tls_open_key *ret);
/* The last one costs its taker as much as so many more. */
void tls_keys_charge(struct tls_keys *k, unsigned looks);
/* It has opened a connection: nobody else gets it. */
void tls_keys_take(struct tls_keys *k, uint64_t at);
/* Wipes what is too old at time_ns. False: none are left. */
bool tls_keys_sweep(struct tls_keys *k, uint64_t time_ns);

#endif
