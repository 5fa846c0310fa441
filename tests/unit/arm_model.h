/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small exhaustive checker of programs of a few threads under the memory model of Armv8 (Arm ARM, B2.3), as a machine
 * that does things out of order: memory is one for all (the architecture is other-multi-copy atomic); a thread fetches
 * along guessed branches, and loads and stores of it are done in any order that these rules leave:
 *
 *   - a load or store waits for the registers that its address and value come from;
 *   - two of the same address are done in order; a load may take the value of an earlier store of its thread that isn't
 *     done yet;
 *   - a store waits until all branches before it are decided; a load doesn't;
 *   - what follows a load with acquire waits for it; a store with release waits for all that lies before it; a load
 *     with __ATOMIC_SEQ_CST (LDAR), or the load of a read-modify-write with acquire, waits for earlier stores with release;
 *     one with __ATOMIC_ACQUIRE only (LDAPR) doesn't;
 *   - a read-modify-write is a load and a store (LDXR, STXR) with nobody's store between, not one step; the acquire is
 *     the load's, the release the store's;
 *   - a barrier separates all before it from all behind it (DMB ISH), or the loads before it (DMB ISHLD).
 *
 * Somewhat stronger than the architecture: accesses wait for all earlier ones whose addresses aren't known, and two loads
 * of one address are in order even where nobody could tell. Instructions of the program itself are fetched (FETCH) in any
 * order, whatever the barriers of data, but not before a context synchronization event (ISB).
 */
#ifndef SCOPE_TESTS_ARM_MODEL_H
#define SCOPE_TESTS_ARM_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AM_THREADS 4
#define AM_REGS    10
#define AM_WORDS   16
#define AM_CODE    64
#define AM_WINDOW  14 /* instructions that are under way in a thread */

enum am_op {
    AM_LOAD, AM_STORE, AM_CAS, AM_SWAP, AM_ADD, AM_FENCE, AM_ISB, AM_FETCH, /* of memory */
    AM_SET,                      /* dst = a + b */
    AM_JUMP_EQ, AM_JUMP_NE, AM_JUMP_GT, /* a, b: to `to` */
    AM_ASSUME_EQ, AM_ASSUME_NE,  /* else this execution is of no interest */
    AM_ASSERT_EQ, AM_ASSERT_NE,  /* else it is a fault */
    AM_END,
};

/* A number, or a register. */
struct am_val {
    int8_t n;
    int8_t reg; /* -1: none; else it is added */
    int8_t mod; /* 0: none; else the register counts modulo this */
};
#define N(x) ((struct am_val){(int8_t)(x), -1, 0})
#define R(r) ((struct am_val){0, (int8_t)(r), 0})
#define RN(r, x) ((struct am_val){(int8_t)(x), (int8_t)(r), 0}) /* register + number */
#define RMOD(x, r, m) ((struct am_val){(int8_t)(x), (int8_t)(r), (int8_t)(m)}) /* number + register modulo m */

struct am_insn {
    enum am_op op;
    int dst;            /* register; -1: none */
    struct am_val at;   /* address */
    struct am_val a, b; /* value stored, or compared; CAS: a expected, b new */
    int order;          /* __ATOMIC_* */
    int to;
};

struct am_program {
    int threads;
    int count[AM_THREADS];
    struct am_insn code[AM_THREADS][AM_CODE];
    int8_t memory[AM_WORDS];
    /* Called when all is done; registers of the threads, memory. False: a fault. NULL: none. */
    bool (*final)(const int8_t regs[AM_THREADS][AM_REGS], const int8_t memory[AM_WORDS]);
    int t;              /* the thread that am_*() add to */
};

struct am_result {
    bool fault;
    unsigned ends;      /* executions' ends that differ */
    unsigned states;
};

/* Goes through all executions, or until a fault. */
struct am_result am_check(const struct am_program *p);

/* Building a thread: the index of the instruction. */
int am_emit(struct am_program *p, struct am_insn i);
static inline int am_load(struct am_program *p, int dst, struct am_val at, int order)
{
    return am_emit(p, (struct am_insn){.op = AM_LOAD, .dst = dst, .at = at, .order = order});
}
static inline int am_store(struct am_program *p, struct am_val at, struct am_val v, int order)
{
    return am_emit(p, (struct am_insn){.op = AM_STORE, .dst = -1, .at = at, .a = v, .order = order});
}
/* dst: what was there before: it was exchanged if that is `expect`. */
static inline int am_cas(struct am_program *p, int dst, struct am_val at, struct am_val expect, struct am_val v, int order)
{
    return am_emit(p, (struct am_insn){.op = AM_CAS, .dst = dst, .at = at, .a = expect, .b = v, .order = order});
}
static inline int am_swap(struct am_program *p, int dst, struct am_val at, struct am_val v, int order)
{
    return am_emit(p, (struct am_insn){.op = AM_SWAP, .dst = dst, .at = at, .a = v, .order = order});
}
/* dst: what was there before. */
static inline int am_add(struct am_program *p, int dst, struct am_val at, struct am_val n, int order)
{
    return am_emit(p, (struct am_insn){.op = AM_ADD, .dst = dst, .at = at, .a = n, .order = order});
}
static inline int am_fence(struct am_program *p, int order)
{
    return am_emit(p, (struct am_insn){.op = AM_FENCE, .dst = -1, .order = order});
}
static inline int am_isb(struct am_program *p)
{
    return am_emit(p, (struct am_insn){.op = AM_ISB, .dst = -1});
}
static inline int am_fetch(struct am_program *p, int dst, struct am_val at)
{
    return am_emit(p, (struct am_insn){.op = AM_FETCH, .dst = dst, .at = at});
}
static inline int am_set(struct am_program *p, int dst, struct am_val v)
{
    return am_emit(p, (struct am_insn){.op = AM_SET, .dst = dst, .a = v, .b = N(0)});
}
/* Jumps, assumptions, assertions: a against b. */
static inline int am_test(struct am_program *p, enum am_op op, struct am_val a, struct am_val b)
{
    return am_emit(p, (struct am_insn){.op = op, .dst = -1, .a = a, .b = b, .to = -1});
}
static inline int am_end(struct am_program *p)
{
    return am_emit(p, (struct am_insn){.op = AM_END, .dst = -1});
}
/* That jump comes here. */
static inline void am_here(struct am_program *p, int jump)
{
    p->code[p->t][jump].to = p->count[p->t];
}

#endif
