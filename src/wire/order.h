/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory orders (__ATOMIC_*) of what several threads or processes share without a lock, where another order would be
 * wrong on a CPU that does more out of order than x86. docs/memory-model.md says why each is what it is;
 * tests/unit/test_memory_model.c checks them, and that a weaker one is found: it takes them from here.
 *
 * The probe and the collector map the same file at different addresses: memory is ordered by what it is, not by the
 * address that it has in a process (Arm ARM, B2.3: ordering is that of Locations).
 *
 * On x86 all loads are the same instruction, and so are all stores but those with __ATOMIC_SEQ_CST, and all read-modify-
 * writes. On arm64 a load or store with an order is one instruction, too: LDAR waits for earlier STLR to be seen by all,
 * so a store and a later load, both __ATOMIC_SEQ_CST, need no barrier between them.
 */
#ifndef SCOPE_WIRE_ORDER_H
#define SCOPE_WIRE_ORDER_H

/* ---- the ring (wire/segment.h) ---- */
#define ORDER_RING_ROOM      __ATOMIC_ACQUIRE /* writer loads ring_tail: cells before it were read */
#define ORDER_RING_TAKE      __ATOMIC_SEQ_CST /* writer changes ring_head */
#define ORDER_RING_COMMIT    __ATOMIC_RELEASE /* writer stores the first word: the rest is there */
#define ORDER_RING_COMMITTED __ATOMIC_ACQUIRE /* reader loads it */
#define ORDER_RING_GIVE_BACK __ATOMIC_RELEASE /* reader stores ring_tail: it has read what lies before */
#define ORDER_RING_HEAD      __ATOMIC_SEQ_CST /* reader loads ring_head; also when it has fallen asleep */

/* ---- sleep and wake: two words, each stored by one side and then the other's loaded; one sees the other ---- */
#define ORDER_ASLEEP_SET     __ATOMIC_SEQ_CST /* collector stores `asleep`, before it looks once more at what may be new */
#define ORDER_ASLEEP_LOOK    __ATOMIC_SEQ_CST /* writer loads it behind what it has told */
#define ORDER_ASLEEP_CLEAR   __ATOMIC_SEQ_CST /* writer exchanges it for SEG_AWAKE */
#define ORDER_WAKES_SET      __ATOMIC_SEQ_CST /* writer stores `wakes`: from now on nobody wakes the collector */
#define ORDER_WAKES_LOOK     __ATOMIC_SEQ_CST /* collector loads it, once more when it has fallen asleep */
#define ORDER_CRASH_TELL     __ATOMIC_SEQ_CST /* thread stores CRASH_TOLD */
#define ORDER_CRASH_LOOK     __ATOMIC_SEQ_CST /* collector loads seg_crash.state */

/* ---- descriptors ---- */
#define ORDER_GEN_RAISE      __ATOMIC_RELEASE /* probe adds to fd_entry.gen what the entry says by now */
#define ORDER_GEN_READ       __ATOMIC_ACQUIRE /* collector loads it before the rest */

/* ---- TLS objects (struct tls_want) ---- */
#define ORDER_TLS_LOCK       __ATOMIC_ACQUIRE /* probe takes a place: object -> TLS_CHANGING */
#define ORDER_TLS_LIFE       __ATOMIC_RELEASE /* ... raises `life` */
#define ORDER_TLS_OBJECT     __ATOMIC_RELEASE /* ... stores whose it is from now on */
#define ORDER_TLS_LOOK       __ATOMIC_ACQUIRE /* either loads object, life or done, before another of them */
#define ORDER_TLS_DONE       __ATOMIC_RELEASE /* collector stores `done` */

/* ---- keys (struct seg_key) ---- */
#define ORDER_KEY_TAKEN      __ATOMIC_RELEASE /* either stores 0 in `commit`: nothing that is there belongs together */
#define ORDER_KEY_COMMIT     __ATOMIC_RELEASE /* writer stores number + 1: the rest is there */
#define ORDER_KEY_COMMITTED  __ATOMIC_ACQUIRE /* reader looks at it before it takes the key out */

/* ---- inside of an observed process ---- */
#define ORDER_SEGMENT_SWITCH __ATOMIC_RELEASE /* process.segment: others use it by its address, which orders their loads */
#define ORDER_THREAD_KEY     __ATOMIC_ACQUIRE /* thread.key is loaded before the rest of the slot */
#define ORDER_THREAD_TAKE    __ATOMIC_ACQ_REL
#define ORDER_THREAD_FREE    __ATOMIC_RELEASE
#define ORDER_DEBT_TAKE      __ATOMIC_ACQUIRE /* debt.key: 0 -> key; the place's last user is done with it */
#define ORDER_DEBT_FREE      __ATOMIC_RELEASE

/* ---- word of a connection (JOIN_MAIL) ---- */
#define ORDER_MAIL_PUT       __ATOMIC_RELEASE
#define ORDER_MAIL_TAKE      __ATOMIC_ACQUIRE

#endif
