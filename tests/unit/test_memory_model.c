/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The orders of wire/order.h, under all executions that arm64 allows (arm_model.h). Each model is the same steps in the
 * same order as the functions that it names. Each is checked with the orders as they are: no fault; and with one of
 * them weakened, or a step left out: a fault must be found, or the model shows nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "arm_model.h"
#include "wire/order.h"
#include "wire/segment.h"

#define RELAXED __ATOMIC_RELAXED
#define NONE 99 /* leaves the step out */

enum order {
    RING_ROOM,
    RING_TAKE,
    RING_COMMIT,
    RING_COMMITTED,
    RING_GIVE_BACK,
    RING_HEAD,
    ASLEEP_SET,
    ASLEEP_LOOK,
    ASLEEP_CLEAR,
    WAKES_SET,
    WAKES_LOOK,
    CRASH_TELL,
    CRASH_LOOK,
    GEN_RAISE,
    GEN_READ,
    TLS_LOCK,
    TLS_LIFE,
    TLS_OBJECT,
    TLS_LOOK,
    TLS_DONE,
    TLS_AGAIN,
    SEGMENT_SWITCH,
    THREAD_TAKE,
    THREAD_FREE,
    DEBT_TAKE,
    DEBT_FREE,
    MAIL_PUT,
    MAIL_TAKE,
    TAIL_CHECK,
    CODE_BARRIER,
    CODE_SYNC,
    WANT_GEN,
    FENCE_COPY,
    FENCE_ENTRY,
    ORDERS,
};

static const int as_they_are[ORDERS] = {
    [RING_ROOM] = ORDER_RING_ROOM,
    [RING_TAKE] = ORDER_RING_TAKE,
    [RING_COMMIT] = ORDER_RING_COMMIT,
    [RING_COMMITTED] = ORDER_RING_COMMITTED,
    [RING_GIVE_BACK] = ORDER_RING_GIVE_BACK,
    [RING_HEAD] = ORDER_RING_HEAD,
    [ASLEEP_SET] = ORDER_ASLEEP_SET,
    [ASLEEP_LOOK] = ORDER_ASLEEP_LOOK,
    [ASLEEP_CLEAR] = ORDER_ASLEEP_CLEAR,
    [WAKES_SET] = ORDER_WAKES_SET,
    [WAKES_LOOK] = ORDER_WAKES_LOOK,
    [CRASH_TELL] = ORDER_CRASH_TELL,
    [CRASH_LOOK] = ORDER_CRASH_LOOK,
    [GEN_RAISE] = ORDER_GEN_RAISE,
    [GEN_READ] = ORDER_GEN_READ,
    [TLS_LOCK] = ORDER_TLS_LOCK,
    [TLS_LIFE] = ORDER_TLS_LIFE,
    [TLS_OBJECT] = ORDER_TLS_OBJECT,
    [TLS_LOOK] = ORDER_TLS_LOOK,
    [TLS_DONE] = ORDER_TLS_DONE,
    [TLS_AGAIN] = ORDER_TLS_LOOK,
    [SEGMENT_SWITCH] = ORDER_SEGMENT_SWITCH,
    [THREAD_TAKE] = ORDER_THREAD_TAKE,
    [THREAD_FREE] = ORDER_THREAD_FREE,
    [DEBT_TAKE] = ORDER_DEBT_TAKE,
    [DEBT_FREE] = ORDER_DEBT_FREE,
    [MAIL_PUT] = ORDER_MAIL_PUT,
    [MAIL_TAKE] = ORDER_MAIL_TAKE,
    /* Steps that have no order of their own. */
    [TAIL_CHECK] = RELAXED,
    [CODE_BARRIER] = __ATOMIC_SEQ_CST,
    [CODE_SYNC] = RELAXED,
    [WANT_GEN] = RELAXED,
    [FENCE_COPY] = ORDER_RING_COMMITTED,
    [FENCE_ENTRY] = __ATOMIC_ACQUIRE,
};

static const int *o; /* the orders that models are built with */

static void thread(struct am_program *p, int t)
{
    p->t = t;
    if (p->threads <= t)
        p->threads = t + 1;
}

/* ---- the ring: ring_place(), ring_reserve(), ring_commit(); ring_next(), uncommitted(), pass_torn(), ring_release()
 * ---- */

#define CELLS 2
enum {
    HEAD,
    TAIL,
    SEQ,
    PAYLOAD = SEQ + CELLS,
    LOSS = PAYLOAD + CELLS,
    RING_WORDS
}; /* PAYLOAD: what lies in the cell */
enum { POS, OLD, TAKEN_, OTHER, ROOM, GAVE_UP = 8 };

/* Reserves a cell: its position in `pos`. Where there is no room that is counted, and jumps to the end: *ret_full.
 * Where others were faster: *ret_lost. */
static void reserve(struct am_program *p, int pos, int old, int *ret_full, int *ret_lost)
{
    am_load(p, pos, N(HEAD), RELAXED);
    am_load(p, TAKEN_, N(TAIL), o[RING_ROOM]);
    am_emit(p, (struct am_insn){.op = AM_SET, .dst = ROOM, .a = RN(TAKEN_, CELLS - 1), .b = N(0)});
    *ret_full = am_test(p, AM_JUMP_GT, R(pos), R(ROOM));
    am_cas(p, old, N(HEAD), R(pos), RN(pos, 1), o[RING_TAKE]);
    *ret_lost = am_test(p, AM_JUMP_NE, R(old), R(pos));
}

static void commit(struct am_program *p, int pos)
{
    int late = -1;

    am_store(p, RMOD(PAYLOAD, pos, CELLS), RN(pos, 1), RELAXED);
    if (o[TAIL_CHECK] != NONE) {
        am_load(p, TAKEN_, N(TAIL), RELAXED);
        late = am_test(p, AM_JUMP_GT, R(TAKEN_), R(pos));
    }
    am_store(p, RMOD(SEQ, pos, CELLS), RN(pos, 1), o[RING_COMMIT]);
    if (late >= 0)
        am_here(p, late);
}

static void count_loss(struct am_program *p)
{
    am_add(p, OTHER, N(LOSS), N(1), RELAXED);
}

/* A record of its own thread. Who loses the exchange tries once more (ring_reserve()), and then leaves it: an execution
 * of no interest. */
static void write_record(struct am_program *p, bool again)
{
    int full, lost, full2 = -1, lost2 = -1, over;

    reserve(p, POS, OLD, &full, &lost);
    commit(p, POS);
    over = am_test(p, AM_JUMP_EQ, N(0), N(0));
    if (again) {
        am_here(p, lost);
        reserve(p, POS, OLD, &full2, &lost2);
        commit(p, POS);
        lost = lost2;
        am_here(p, over);
        over = am_test(p, AM_JUMP_EQ, N(0), N(0));
    }
    am_here(p, full);
    if (full2 >= 0)
        am_here(p, full2);
    count_loss(p);
    am_here(p, over);
    over = am_test(p, AM_JUMP_EQ, N(0), N(0));
    am_here(p, lost);
    am_set(p, GAVE_UP, N(1));
    am_here(p, over);
}

static void read_record(struct am_program *p, int pos)
{
    am_load(p, OLD, N(SEQ + pos % CELLS), o[RING_COMMITTED]);
    am_test(p, AM_ASSUME_EQ, R(OLD), N(pos + 1));
    am_load(p, OTHER, N(PAYLOAD + pos % CELLS), RELAXED);
    am_test(p, AM_ASSERT_EQ, R(OTHER), N(pos + 1));
    am_store(p, N(TAIL), N(pos + 1), o[RING_GIVE_BACK]);
}

/* Two writers, the ring goes round: the third record lies where the first was. */
static void ring(struct am_program *p)
{
    thread(p, 0);
    write_record(p, false);
    write_record(p, false);
    thread(p, 1);
    write_record(p, true);
    thread(p, 2);
    for (int pos = 0; pos < 3; pos++)
        read_record(p, pos);
}

/* Each record is in the ring, or counted. */
static bool all_counted(const int8_t regs[AM_THREADS][AM_REGS], const int8_t memory[AM_WORDS])
{
    return regs[0][GAVE_UP] || regs[1][GAVE_UP] || memory[HEAD] + memory[LOSS] == 3;
}

/* Nobody reads. */
static void ring_full(struct am_program *p)
{
    p->final = all_counted;
    thread(p, 0);
    write_record(p, true);
    write_record(p, true);
    thread(p, 1);
    write_record(p, true);
}

/* A signal handler writes a record between reservation and commit of the thread that it interrupts, or (early) between
 * the load of ring_head and the exchange, which then fails. */
static void ring_handler(struct am_program *p, bool early)
{
    int full, lost, full2, lost2;

    thread(p, 0);
    if (early) {
        am_load(p, 5, N(HEAD), RELAXED);
        reserve(p, POS, OLD, &full, &lost);
        commit(p, POS);
        am_here(p, full);
        am_here(p, lost);
        am_cas(p, OLD, N(HEAD), R(5), RN(5, 1), o[RING_TAKE]);
        am_test(p, AM_ASSERT_NE, R(OLD), R(5)); /* it must not get what the handler has */
        reserve(p, POS, OLD, &full, &lost);
        commit(p, POS);
    } else {
        reserve(p, 5, OLD, &full, &lost);
        reserve(p, POS, OLD, &full2, &lost2);
        commit(p, POS);
        commit(p, 5);
        am_here(p, full2);
        am_here(p, lost2);
    }
    am_here(p, full);
    am_here(p, lost);
    thread(p, 1);
    read_record(p, 0);
    read_record(p, 1);
}

static void ring_in_handler(struct am_program *p)
{
    ring_handler(p, false);
}
static void ring_in_handler_early(struct am_program *p)
{
    ring_handler(p, true);
}

/* A writer dies between reservation and commit: the next record is found (pass_torn()), and is whole. */
static void ring_torn(struct am_program *p)
{
    int full, lost;

    thread(p, 0);
    reserve(p, POS, OLD, &full, &lost);
    am_here(p, full);
    am_here(p, lost);
    thread(p, 1);
    write_record(p, true);
    thread(p, 2);
    am_load(p, OLD, N(SEQ), o[RING_COMMITTED]);
    am_test(p, AM_ASSUME_EQ, R(OLD), N(0));
    am_load(p, OTHER, N(HEAD), o[RING_HEAD]);
    am_test(p, AM_ASSUME_EQ, R(OTHER), N(2));
    read_record(p, 1);
}

/* One that was only held up for long finds that it was given up, and does not write where others do by now. What it
 * finds is what the debugger that held it has let it find: the reader's step lies before, and others write after. */
static void ring_late(struct am_program *p)
{
    thread(p, 0);
    am_load(p, TAKEN_, N(6), __ATOMIC_ACQUIRE); /* it goes on behind all else */
    am_test(p, AM_ASSUME_EQ, R(TAKEN_), N(1));
    am_set(p, POS, N(0));
    am_load(p, TAKEN_, N(TAIL), RELAXED);
    if (o[TAIL_CHECK] == NONE)
        am_set(p, TAKEN_, N(0));
    int late = am_test(p, AM_JUMP_GT, R(TAKEN_), R(POS));
    am_store(p, RMOD(SEQ, POS, CELLS), RN(POS, 1), o[RING_COMMIT]);
    am_here(p, late);
    am_store(p, N(7), N(1), __ATOMIC_RELEASE);
    thread(p, 1);
    am_store(p, N(TAIL), N(2), o[RING_GIVE_BACK]); /* move_on(), ring_release() */
    am_store(p, N(HEAD), N(3), RELAXED);           /* the next lap has come round to its cell */
    am_store(p, N(SEQ), N(3), o[RING_COMMIT]);
    am_store(p, N(6), N(1), __ATOMIC_RELEASE);
    am_load(p, TAKEN_, N(7), __ATOMIC_ACQUIRE);
    am_test(p, AM_ASSUME_EQ, R(TAKEN_), N(1));
    am_load(p, OLD, N(SEQ), o[RING_COMMITTED]);
    am_test(p, AM_ASSERT_EQ, R(OLD), N(3));
}

/* A segment that isn't mapped is copied out of the file twice (look_ahead()): what the kernel copies has no order, but
 * the first words that the first copy has lie before all of the second. */
static void ring_copied(struct am_program *p)
{
    thread(p, 0);
    write_record(p, false);
    thread(p, 1);
    am_load(p, OLD, N(SEQ), RELAXED);
    am_test(p, AM_ASSUME_EQ, R(OLD), N(1));
    if (o[FENCE_COPY] != NONE)
        am_fence(p, o[FENCE_COPY]);
    am_load(p, OTHER, N(PAYLOAD), RELAXED);
    am_load(p, OLD, N(SEQ), RELAXED);
    am_test(p, AM_ASSERT_EQ, R(OTHER), N(1));
}

/* ---- sleep and wake: ring_commit(), ring_rouse(), ring_rouse_slow(); fall_asleep(), segments_sleep(),
 * segment_has_news() ---- */

enum { W_HEAD, W_SEQ, W_ASLEEP, W_WOKEN, W_WAKES, W_CRASH };
enum { SLEEPS = 9 };

static void rouse_slow(struct am_program *p)
{
    int awake;

    am_swap(p, OLD, N(W_ASLEEP), N(SEG_AWAKE), o[ASLEEP_CLEAR]);
    awake = am_test(p, AM_JUMP_EQ, R(OLD), N(SEG_AWAKE));
    am_store(p, N(W_WOKEN), N(1), RELAXED); /* futex(2) */
    am_here(p, awake);
}

static void publish(struct am_program *p, int nth)
{
    int awake;

    am_cas(p, OLD, N(W_HEAD), N(nth), N(nth + 1), o[RING_TAKE]);
    am_test(p, AM_ASSUME_EQ, R(OLD), N(nth));
    am_store(p, N(W_SEQ), N(nth + 1), o[RING_COMMIT]);
    am_load(p, OLD, N(W_ASLEEP), o[ASLEEP_LOOK]);
    awake = am_test(p, AM_JUMP_EQ, R(OLD), N(SEG_AWAKE));
    rouse_slow(p);
    am_here(p, awake);
}

static void sleep_unless(struct am_program *p, int word, int is, int order)
{
    int news;

    am_store(p, N(W_ASLEEP), N(SEG_ASLEEP), o[ASLEEP_SET]);
    am_load(p, OTHER, N(word), order == NONE ? RELAXED : order);
    if (order == NONE)
        am_set(p, OTHER, N(is));
    news = am_test(p, AM_JUMP_NE, R(OTHER), N(is));
    am_set(p, SLEEPS, N(1));
    am_here(p, news);
}

/* Who sleeps is woken: the collector is thread 0. */
static bool is_woken(const int8_t regs[AM_THREADS][AM_REGS], const int8_t memory[AM_WORDS])
{
    return !regs[0][SLEEPS] || memory[W_WOKEN];
}

static void wake(struct am_program *p)
{
    p->final = is_woken;
    thread(p, 0);
    sleep_unless(p, W_HEAD, 0, o[RING_HEAD]);
    thread(p, 1);
    publish(p, 0);
}

/* Two writers: one has seen the second's record, or the collector, or the second wakes it. */
static void wake_two(struct am_program *p)
{
    wake(p);
    thread(p, 2);
    publish(p, 1);
}

/* enter_prctl(): the last that can wake it. segment_may_sleep() has found `wakes` set. */
static void wake_sandbox(struct am_program *p)
{
    p->final = is_woken;
    p->memory[W_WAKES] = 1;
    thread(p, 0);
    am_load(p, OTHER, N(W_WAKES), RELAXED);
    am_test(p, AM_ASSUME_EQ, R(OTHER), N(1));
    sleep_unless(p, W_WAKES, 1, o[WAKES_LOOK]);
    thread(p, 1);
    am_store(p, N(W_WAKES), N(0), o[WAKES_SET]);
    rouse_slow(p);
}

/* place_tell(); look() in crashes.c has found nothing before. */
static void wake_crash(struct am_program *p)
{
    p->final = is_woken;
    thread(p, 0);
    sleep_unless(p, W_CRASH, CRASH_FREE, o[CRASH_LOOK]);
    thread(p, 1);
    am_store(p, N(W_CRASH), N(CRASH_TOLD), o[CRASH_TELL]);
    rouse_slow(p);
}

/* ---- descriptors: fd_begin(), fd_end(); segment_fd(), segment_want(); traffic_passed(), settle_one() ---- */

enum { F_KIND, F_STATE, F_GEN, F_WANT, F_HEAD, F_MADE };

/* Who reads a generation reads what the entry said when it began, or something newer. */
static void generation(struct am_program *p)
{
    thread(p, 0);
    am_store(p, N(F_KIND), N(2), RELAXED);
    am_store(p, N(F_STATE), N(2), RELAXED);
    am_add(p, OLD, N(F_GEN), N(1), o[GEN_RAISE]);
    thread(p, 1);
    am_load(p, POS, N(F_GEN), o[GEN_READ]);
    am_load(p, OLD, N(F_KIND), RELAXED);
    am_load(p, OTHER, N(F_STATE), RELAXED);
    am_test(p, AM_ASSUME_EQ, R(POS), N(1));
    am_test(p, AM_ASSERT_EQ, R(OLD), N(2));
    am_test(p, AM_ASSERT_EQ, R(OTHER), N(2));
}

/* What the collector has decided about a descriptor is never applied to the next one of that number, which another
 * thread opens meanwhile. */
static void want(struct am_program *p)
{
    int other;

    p->memory[F_GEN] = 1;
    thread(p, 0); /* the collector: nothing of generation 1 is wanted */
    am_load(p, OLD, N(F_GEN), o[GEN_READ]);
    am_test(p, AM_ASSUME_EQ, R(OLD), N(1));
    am_store(p, N(F_WANT), N(1), __ATOMIC_RELEASE);
    thread(p, 1); /* closes it and opens generation 2 */
    am_add(p, OLD, N(F_GEN), N(1), o[GEN_RAISE]);
    am_store(p, N(F_MADE), N(1), __ATOMIC_RELEASE); /* the program's own */
    thread(p, 2);                                   /* writes to it: must not be left out */
    am_load(p, OLD, N(F_MADE), __ATOMIC_ACQUIRE);
    am_test(p, AM_ASSUME_EQ, R(OLD), N(1));
    am_load(p, POS, N(F_WANT), RELAXED);
    am_load(p, OLD, N(F_GEN), RELAXED);
    if (o[WANT_GEN] == NONE)
        am_set(p, OLD, N(1));
    other = am_test(p, AM_JUMP_NE, R(POS), R(OLD));
    am_test(p, AM_ASSERT_EQ, N(0), N(1));
    am_here(p, other);
}

/* Whoever reads an entry and then finds the ring empty has seen all records that led to it but those under way: here
 * the entry has a second change, behind the record of the first. */
static void entry(struct am_program *p)
{
    thread(p, 0);
    am_add(p, OLD, N(F_GEN), N(1), o[GEN_RAISE]);
    am_cas(p, OLD, N(F_HEAD), N(0), N(1), o[RING_TAKE]);
    am_add(p, OLD, N(F_GEN), N(1), o[GEN_RAISE]);
    thread(p, 1);
    am_load(p, POS, N(F_GEN), RELAXED); /* as copied out of the file */
    if (o[FENCE_ENTRY] != NONE)
        am_fence(p, o[FENCE_ENTRY]);
    am_load(p, OTHER, N(F_HEAD), o[RING_HEAD]);
    am_test(p, AM_ASSUME_EQ, R(POS), N(2));
    am_test(p, AM_ASSERT_EQ, R(OTHER), N(1));
}

/* ---- TLS objects: object_begins(), object_life(), object_done(); segment_tls_done() ---- */

enum { T_OBJECT, T_LIFE, T_DONE, T_RECORD };
enum { NOBODY, CHANGING, OURS, THEIRS };
enum { LIFE = 5, FIRST = 6 };

/* The place becomes an object's: its life in LIFE, 0 if others are at it. */
static void begins(struct am_program *p, int object)
{
    int busy, raced;

    am_set(p, LIFE, N(0));
    if (o[TLS_LOCK] == NONE) { /* as it was before */
        am_add(p, OLD, N(T_LIFE), N(1), RELAXED);
        am_set(p, LIFE, RN(OLD, 1));
        am_store(p, N(T_OBJECT), N(object), o[TLS_OBJECT]);
        return;
    }
    am_load(p, POS, N(T_OBJECT), RELAXED);
    busy = am_test(p, AM_JUMP_EQ, R(POS), N(CHANGING));
    am_cas(p, OLD, N(T_OBJECT), R(POS), N(CHANGING), o[TLS_LOCK]);
    raced = am_test(p, AM_JUMP_NE, R(OLD), R(POS));
    am_add(p, OLD, N(T_LIFE), N(1), o[TLS_LIFE]);
    am_set(p, LIFE, RN(OLD, 1));
    am_store(p, N(T_OBJECT), N(object), o[TLS_OBJECT]);
    am_here(p, busy);
    am_here(p, raced);
}

/* object_done(): a fault, as nobody has said so of OURS. */
static void must_not_be_done(struct am_program *p)
{
    int none, not, changed = -1, raised = -1;

    none = am_test(p, AM_JUMP_EQ, R(LIFE), N(0));
    am_load(p, OLD, N(T_DONE), o[TLS_LOOK]);
    not = am_test(p, AM_JUMP_NE, R(OLD), R(LIFE));
    if (o[TLS_AGAIN] != NONE) {
        am_load(p, OLD, N(T_OBJECT), o[TLS_AGAIN]);
        changed = am_test(p, AM_JUMP_NE, R(OLD), N(OURS));
        am_load(p, OLD, N(T_LIFE), RELAXED);
        raised = am_test(p, AM_JUMP_NE, R(OLD), R(LIFE));
    }
    am_test(p, AM_ASSERT_EQ, N(0), N(1));
    if (changed >= 0) {
        am_here(p, changed);
        am_here(p, raised);
    }
    am_here(p, none);
    am_here(p, not );
}

/* THEIRS begins and tells; the collector wants nothing more of it. */
static void theirs(struct am_program *p)
{
    int none;

    begins(p, THEIRS);
    none = am_test(p, AM_JUMP_EQ, R(LIFE), N(0));
    am_store(p, N(T_RECORD), R(LIFE), o[RING_COMMIT]);
    am_here(p, none);
}

static void collector_done(struct am_program *p)
{
    am_load(p, FIRST, N(T_RECORD), o[RING_COMMITTED]);
    am_test(p, AM_ASSUME_NE, R(FIRST), N(0));
    am_load(p, OLD, N(T_OBJECT), o[TLS_LOOK]);
    am_test(p, AM_ASSUME_EQ, R(OLD), N(THEIRS));
    am_load(p, OTHER, N(T_LIFE), o[TLS_LOOK]);
    am_test(p, AM_ASSUME_EQ, R(OTHER), R(FIRST));
    am_store(p, N(T_DONE), R(FIRST), o[TLS_DONE]);
}

/* Two objects want the same place at once; then OURS is told of. */
static void tls_begin(struct am_program *p)
{
    int other;

    thread(p, 0);
    begins(p, OURS);
    am_load(p, OLD, N(T_OBJECT), o[TLS_LOOK]);
    other = am_test(p, AM_JUMP_NE, R(OLD), N(OURS));
    am_load(p, LIFE, N(T_LIFE), o[TLS_LOOK]);
    must_not_be_done(p);
    am_here(p, other);
    thread(p, 1);
    theirs(p);
    thread(p, 2);
    collector_done(p);
}

/* The place is OURS and becomes another's while OURS is told of, by a thread that looks at it in between. */
static void tls_tell(struct am_program *p)
{
    int other;

    p->memory[T_OBJECT] = OURS;
    p->memory[T_LIFE] = 1;
    thread(p, 0);
    am_load(p, OLD, N(T_OBJECT), o[TLS_LOOK]);
    other = am_test(p, AM_JUMP_NE, R(OLD), N(OURS));
    am_load(p, LIFE, N(T_LIFE), o[TLS_LOOK]);
    must_not_be_done(p);
    am_here(p, other);
    thread(p, 1);
    theirs(p);
    thread(p, 2);
    collector_done(p);
}

/* ---- inside of a process ---- */

enum { P_SEGMENT, P_HEADER };

/* process_borrow(), describe(); process_segment(), loads by the pointer. A segment of our own is P_HEADER + 1. */
static void segment_switch(struct am_program *p)
{
    p->memory[P_HEADER] = 1;
    thread(p, 0);
    am_store(p, N(P_HEADER + 1), N(1), RELAXED);
    am_store(p, N(P_SEGMENT), N(1), o[SEGMENT_SWITCH]);
    thread(p, 1);
    am_load(p, POS, N(P_SEGMENT), RELAXED);
    am_load(p, OLD, RN(POS, P_HEADER), RELAXED); /* its address depends on the former */
    am_test(p, AM_ASSERT_EQ, R(OLD), N(1));
}

/* Word of a connection: connect_by_mail(), take_mails(); the same for a header that is handed over with the descriptor.
 */
static void mail(struct am_program *p)
{
    thread(p, 0);
    am_store(p, N(P_HEADER), N(1), RELAXED);
    am_cas(p, OLD, N(P_SEGMENT), N(0), N(1), o[MAIL_PUT]);
    thread(p, 1);
    am_load(p, POS, N(P_SEGMENT), o[MAIL_TAKE]);
    am_load(p, OLD, N(P_HEADER), RELAXED);
    am_test(p, AM_ASSUME_EQ, R(POS), N(1));
    am_test(p, AM_ASSERT_EQ, R(OLD), N(1));
}

/* thread_forget(), thread_find(): the last user of a slot writes nothing into the next one's. */
static void slot(struct am_program *p, enum order free, enum order take)
{
    p->memory[0] = 1;
    thread(p, 0);
    am_store(p, N(1), N(7), RELAXED);
    am_store(p, N(0), N(2), o[free]);
    thread(p, 1);
    am_cas(p, OLD, N(0), N(2), N(3), o[take]);
    am_test(p, AM_ASSUME_EQ, R(OLD), N(2));
    am_store(p, N(1), N(0), RELAXED);
    am_load(p, OTHER, N(1), RELAXED);
    am_test(p, AM_ASSERT_EQ, R(OTHER), N(0));
}

static bool slot_is_new(const int8_t regs[AM_THREADS][AM_REGS], const int8_t memory[AM_WORDS])
{
    return memory[1] == 0;
}

static void thread_slot(struct am_program *p)
{
    p->final = slot_is_new;
    slot(p, THREAD_FREE, THREAD_TAKE);
}

/* debt_drop(), debt_make(), debt_add(). */
static bool debt_is_there(const int8_t regs[AM_THREADS][AM_REGS], const int8_t memory[AM_WORDS])
{
    return regs[1][OLD] != 1 || memory[1] == 5;
}

static void debt(struct am_program *p)
{
    int taken;

    p->final = debt_is_there;
    p->memory[0] = 1;
    p->memory[1] = 3;
    thread(p, 0);
    am_store(p, N(1), N(0), RELAXED);
    am_store(p, N(0), N(0), o[DEBT_FREE]);
    thread(p, 1);
    am_cas(p, POS, N(0), N(0), N(2), o[DEBT_TAKE]);
    taken = am_test(p, AM_JUMP_NE, R(POS), N(0));
    am_add(p, OTHER, N(1), N(5), RELAXED);
    am_set(p, OLD, N(1));
    am_here(p, taken);
}

/* ---- patching ---- */

enum { C_SLOT, C_SITE, C_BEHIND, C_STOPPED, C_GO };

/* plan_apply() in a process that has threads: the jump is there only where the slot is (arch_sync_code() of the slots
 * ends with a barrier, before the first patch is written). Whoever fetches the jump comes to the slot by it: the fetch
 * of its target is a later one, and nothing of new memory was fetched before. */
static void slots_first(struct am_program *p)
{
    int old;

    thread(p, 0);
    am_store(p, N(C_SLOT), N(1), RELAXED);
    if (o[CODE_BARRIER] != NONE)
        am_fence(p, o[CODE_BARRIER]);
    am_store(p, N(C_SITE), N(1), RELAXED);
    thread(p, 1);
    am_fetch(p, POS, N(C_SITE));
    old = am_test(p, AM_JUMP_EQ, R(POS), N(0));
    am_isb(p); /* that the target is fetched behind */
    am_fetch(p, OLD, N(C_SLOT));
    am_test(p, AM_ASSERT_EQ, R(OLD), N(1));
    am_here(p, old);
}

/* Attach and detach: all threads are stopped (SIGSTOP by ptrace(2)), code is written through the kernel, they go on.
 * They return from an exception, which synchronizes their context: both patches of a site are there, or none. */
static void stopped(struct am_program *p)
{
    thread(p, 0);
    am_load(p, POS, N(C_STOPPED), __ATOMIC_ACQUIRE);
    am_test(p, AM_ASSUME_EQ, R(POS), N(1));
    am_store(p, N(C_SITE), N(1), RELAXED);
    am_store(p, N(C_BEHIND), N(1), RELAXED);
    am_fence(p, __ATOMIC_SEQ_CST);
    am_store(p, N(C_GO), N(1), __ATOMIC_RELEASE);
    thread(p, 1);
    am_fetch(p, POS, N(C_SITE));
    am_fetch(p, OLD, N(C_BEHIND));
    am_test(p, AM_ASSERT_EQ, R(POS), R(OLD));
    if (o[CODE_SYNC] != NONE)
        am_isb(p); /* into the kernel */
    am_store(p, N(C_STOPPED), N(1), __ATOMIC_RELEASE);
    am_load(p, OTHER, N(C_GO), __ATOMIC_ACQUIRE);
    am_test(p, AM_ASSUME_EQ, R(OTHER), N(1));
    if (o[CODE_SYNC] != NONE)
        am_isb(p); /* and back */
    am_fetch(p, POS, N(C_SITE));
    am_fetch(p, OLD, N(C_BEHIND));
    am_test(p, AM_ASSERT_EQ, R(POS), N(1));
    am_test(p, AM_ASSERT_EQ, R(OLD), N(1));
}

/* ---- all of them ---- */

static const struct model {
    const char *name;
    void (*build)(struct am_program *p);
    struct {
        enum order which;
        int to;
    } broken[10]; /* a fault is found with this */
} models[] = {
    {"ring", ring, {{RING_COMMIT, RELAXED}, {RING_COMMITTED, RELAXED}, {RING_GIVE_BACK, RELAXED}}},
    {"ring_full", ring_full, {{ORDERS, 0}}},
    {"ring_in_handler", ring_in_handler, {{RING_COMMIT, RELAXED}, {RING_COMMITTED, RELAXED}}},
    {"ring_in_handler_early", ring_in_handler_early, {{RING_COMMIT, RELAXED}}},
    {"ring_torn", ring_torn, {{RING_COMMIT, RELAXED}, {RING_COMMITTED, RELAXED}}},
    {"ring_late", ring_late, {{TAIL_CHECK, NONE}}},
    {"ring_copied", ring_copied, {{FENCE_COPY, NONE}, {RING_COMMIT, RELAXED}}},
    {"wake",
     wake,
     {{ASLEEP_LOOK, RELAXED},
      {ASLEEP_LOOK, __ATOMIC_ACQUIRE},
      {ASLEEP_SET, RELAXED},
      {RING_HEAD, RELAXED},
      {RING_HEAD, __ATOMIC_ACQUIRE}}},
    {"wake_two", wake_two, {{RING_HEAD, RELAXED}}},
    {"wake_sandbox", wake_sandbox, {{WAKES_LOOK, NONE}, {WAKES_LOOK, __ATOMIC_ACQUIRE}}},
    {"wake_crash", wake_crash, {{CRASH_LOOK, NONE}, {CRASH_LOOK, __ATOMIC_ACQUIRE}}},
    {"generation", generation, {{GEN_RAISE, RELAXED}, {GEN_READ, RELAXED}}},
    {"want", want, {{WANT_GEN, NONE}}},
    {"entry", entry, {{FENCE_ENTRY, NONE}}},
    {"tls_begin", tls_begin, {{TLS_LOCK, NONE}}},
    {"tls_tell", tls_tell, {{TLS_AGAIN, NONE}}},
    {"segment_switch", segment_switch, {{SEGMENT_SWITCH, RELAXED}}},
    {"mail", mail, {{MAIL_PUT, RELAXED}, {MAIL_TAKE, RELAXED}}},
    {"thread_slot", thread_slot, {{THREAD_FREE, RELAXED}}},
    {"debt", debt, {{DEBT_FREE, RELAXED}}},
    {"slots_first", slots_first, {{CODE_BARRIER, NONE}}},
    {"stopped", stopped, {{CODE_SYNC, NONE}}},
};

static struct am_result run(const struct model *m, const int *orders)
{
    struct am_program p;
    struct am_result r;

    memset(&p, 0, sizeof(p));
    o = orders;
    m->build(&p);
    r = am_check(&p);
    return r;
}

static void orders_hold(void **state)
{
    for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
        struct am_result r = run(&models[i], as_they_are);

        print_message("%-24s %8u states %6u ends\n", models[i].name, r.states, r.ends);
        if (r.fault)
            fail_msg("%s: a fault", models[i].name);
        if (!r.ends)
            fail_msg("%s: no execution comes to its end: it shows nothing", models[i].name);
    }
}

static void weaker_orders_are_found(void **state)
{
    for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++)
        for (size_t k = 0; k < 10 && (models[i].broken[k].which || models[i].broken[k].to); k++) {
            int orders[ORDERS];

            if (models[i].broken[k].which == ORDERS)
                continue;
            memcpy(orders, as_they_are, sizeof(orders));
            orders[models[i].broken[k].which] = models[i].broken[k].to;
            if (!run(&models[i], orders).fault)
                fail_msg("%s: with change %zu no fault is found", models[i].name, k);
        }
}

/* ---- the checker itself: what Armv8 allows, and what it doesn't (Arm ARM, K13) ---- */

enum { X, Y };

/* Whether both loads can be 0: store buffering. */
static bool store_buffering(int store, int load)
{
    struct am_program p;

    memset(&p, 0, sizeof(p));
    p.final = NULL;
    thread(&p, 0);
    am_store(&p, N(X), N(1), store);
    am_load(&p, 0, N(Y), load);
    am_store(&p, RN(0, 2), N(1), __ATOMIC_RELEASE); /* word 2 or 3 */
    thread(&p, 1);
    am_store(&p, N(Y), N(1), store);
    am_load(&p, 0, N(X), load);
    am_store(&p, RN(0, 4), N(1), __ATOMIC_RELEASE);
    thread(&p, 2);
    am_load(&p, 0, N(2), __ATOMIC_ACQUIRE);
    am_test(&p, AM_ASSUME_EQ, R(0), N(1));
    am_load(&p, 1, N(4), __ATOMIC_ACQUIRE);
    am_test(&p, AM_ASSERT_EQ, R(1), N(0));
    return am_check(&p).fault;
}

/* Whether data can be missed behind a flag; ctrl: a branch between the loads. */
static bool message_passing(int store, int load, bool ctrl)
{
    struct am_program p;
    int over;

    memset(&p, 0, sizeof(p));
    thread(&p, 0);
    am_store(&p, N(X), N(1), RELAXED);
    am_store(&p, N(Y), N(1), store);
    thread(&p, 1);
    am_load(&p, 0, N(Y), load);
    over = ctrl ? am_test(&p, AM_JUMP_NE, R(0), N(1)) : am_test(&p, AM_ASSUME_EQ, R(0), N(1));
    am_load(&p, 1, N(X), RELAXED);
    am_test(&p, AM_ASSERT_EQ, R(1), N(1));
    if (ctrl)
        am_here(&p, over);
    return am_check(&p).fault;
}

/* Load buffering: whether both loads can be 1; dependent: what is stored is what was loaded. */
static bool load_buffering(bool dependent)
{
    struct am_program p;

    memset(&p, 0, sizeof(p));
    for (int t = 0; t < 2; t++) {
        thread(&p, t);
        am_load(&p, 0, N(t), RELAXED);
        am_store(&p, N(1 - t), dependent && t ? R(0) : N(1), RELAXED);
        am_store(&p, N(2 + t), R(0), __ATOMIC_RELEASE);
    }
    if (dependent) { /* both: then nothing comes out of the air */
        p.code[0][1].a = R(0);
    }
    thread(&p, 2);
    am_load(&p, 0, N(2), __ATOMIC_ACQUIRE);
    am_load(&p, 1, N(3), __ATOMIC_ACQUIRE);
    am_test(&p, AM_ASSUME_EQ, R(0), N(1));
    am_test(&p, AM_ASSERT_NE, R(1), N(1));
    return am_check(&p).fault;
}

/* Whether two threads can both take what is free. */
static bool both_take(void)
{
    struct am_program p;

    memset(&p, 0, sizeof(p));
    for (int t = 0; t < 2; t++) {
        thread(&p, t);
        am_cas(&p, 0, N(X), N(0), N(1 + t), RELAXED);
        am_test(&p, AM_ASSUME_EQ, R(0), N(0));
        am_store(&p, N(2 + t), N(1), RELAXED);
    }
    thread(&p, 2);
    am_load(&p, 0, N(2), __ATOMIC_ACQUIRE);
    am_load(&p, 1, N(3), __ATOMIC_ACQUIRE);
    am_test(&p, AM_ASSUME_EQ, R(0), N(1));
    am_test(&p, AM_ASSERT_NE, R(1), N(1));
    return am_check(&p).fault;
}

static void litmus_tests(void **state)
{
    assert_true(store_buffering(RELAXED, RELAXED));
    assert_true(store_buffering(__ATOMIC_RELEASE, __ATOMIC_ACQUIRE));
    assert_true(store_buffering(__ATOMIC_SEQ_CST, __ATOMIC_ACQUIRE));
    assert_false(store_buffering(__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    assert_true(message_passing(RELAXED, RELAXED, false));
    assert_true(message_passing(RELAXED, __ATOMIC_ACQUIRE, false));
    assert_true(message_passing(__ATOMIC_RELEASE, RELAXED, false));
    assert_true(message_passing(__ATOMIC_RELEASE, RELAXED, true));
    assert_false(message_passing(__ATOMIC_RELEASE, __ATOMIC_ACQUIRE, false));
    assert_true(load_buffering(false));
    assert_false(load_buffering(true));
    assert_false(both_take());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(litmus_tests),
        cmocka_unit_test(orders_hold),
        cmocka_unit_test(weaker_orders_are_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
