/* SPDX-License-Identifier: Apache-2.0 */
#include "arm_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { READ = 1, WRITTEN = 2, GUESSED = 4, TAKEN = 8 };

/* An instruction under way. */
struct flight {
    int8_t pc;
    int8_t done;  /* READ, WRITTEN; branches: GUESSED, TAKEN */
    int8_t value; /* of dst */
};

struct thread_state {
    int8_t pc; /* of what is fetched next; -1: nothing */
    int8_t count;
    int8_t regs[AM_REGS];
    struct flight in[AM_WINDOW];
};

struct state {
    int8_t memory[AM_WORDS];
    struct thread_state t[AM_THREADS];
};

struct checker {
    const struct am_program *p;
    struct state *known, *stack;
    uint8_t *used;
    size_t known_size, known_count, stack_size, stack_count;
    struct am_result r;
};

int am_emit(struct am_program *p, struct am_insn i)
{
    int at = p->count[p->t];

    if (at >= AM_CODE || p->t >= AM_THREADS) {
        fprintf(stderr, "arm_model: program is too long\n");
        abort();
    }
    p->code[p->t][at] = i;
    p->count[p->t]++;
    return at;
}

static bool is_rmw(const struct am_insn *i)
{
    return i->op == AM_CAS || i->op == AM_SWAP || i->op == AM_ADD;
}
static bool reads(const struct am_insn *i)
{
    return i->op == AM_LOAD || is_rmw(i);
}
static bool is_jump(const struct am_insn *i)
{
    return i->op >= AM_JUMP_EQ && i->op <= AM_JUMP_GT;
}
static bool is_decision(const struct am_insn *i)
{
    return i->op >= AM_JUMP_EQ && i->op <= AM_ASSUME_NE;
}
static bool acquires(const struct am_insn *i)
{
    return reads(i) && (i->order == __ATOMIC_ACQUIRE || i->order == __ATOMIC_ACQ_REL || i->order == __ATOMIC_SEQ_CST);
}
static bool releases(const struct am_insn *i)
{
    return (i->op == AM_STORE || is_rmw(i)) &&
           (i->order == __ATOMIC_RELEASE || i->order == __ATOMIC_ACQ_REL || i->order == __ATOMIC_SEQ_CST);
}
/* LDAR, LDAXR: not LDAPR. */
static bool waits_for_release(const struct am_insn *i)
{
    return is_rmw(i) ? acquires(i) : i->op == AM_LOAD && i->order == __ATOMIC_SEQ_CST;
}

static const struct am_insn *insn(const struct checker *c, int t, int pc)
{
    return &c->p->code[t][pc];
}

/* What a register has before instruction n in flight; false: not known yet. */
static bool reg_before(const struct checker *c, const struct thread_state *t, int thread, int n, int reg, int *ret)
{
    for (int i = n - 1; i >= 0; i--) {
        const struct am_insn *in = insn(c, thread, t->in[i].pc);

        if (in->dst == reg) {
            *ret = t->in[i].value;
            return t->in[i].done & READ;
        }
    }
    *ret = t->regs[reg];
    return true;
}

static bool value(const struct checker *c, const struct thread_state *t, int thread, int n, struct am_val v, int *ret)
{
    int r = 0;

    if (v.reg >= 0 && !reg_before(c, t, thread, n, v.reg, &r))
        return false;
    if (v.mod)
        r %= v.mod;
    *ret = v.n + r;
    return true;
}

static bool compare(enum am_op op, int a, int b)
{
    switch (op) {
    case AM_JUMP_EQ:
    case AM_ASSUME_EQ:
    case AM_ASSERT_EQ:
        return a == b;
    case AM_JUMP_GT:
        return a > b;
    default:
        return a != b;
    }
}

/* Whether the store of a read-modify-write is still to come. */
static bool to_write(const struct checker *c, const struct thread_state *t, int thread, int n)
{
    const struct flight *f = &t->in[n];
    const struct am_insn *i = insn(c, thread, f->pc);
    int expect;

    if (f->done & WRITTEN)
        return false;
    if (i->op == AM_STORE)
        return true;
    if (!is_rmw(i))
        return false;
    return !(i->op == AM_CAS && f->done & READ && value(c, t, thread, n, i->a, &expect) && f->value != expect);
}

static bool is_done(const struct checker *c, const struct thread_state *t, int thread, int n)
{
    const struct am_insn *i = insn(c, thread, t->in[n].pc);
    const struct flight *f = &t->in[n];

    if (i->op == AM_STORE || is_rmw(i))
        return (i->op == AM_STORE || f->done & READ) && !to_write(c, t, thread, n);
    return f->done & READ;
}

/* Whether instruction n may load now; *ret: what. */
static bool may_read(const struct checker *c, const struct state *s, int thread, int n, int *ret)
{
    const struct thread_state *t = &s->t[thread];
    const struct am_insn *i = insn(c, thread, t->in[n].pc);
    bool forwarded = false;
    int at, x;

    if (t->in[n].done & READ || !value(c, t, thread, n, i->at, &at))
        return false;
    if (is_rmw(i) && (!value(c, t, thread, n, i->a, &x) || (i->op == AM_CAS && !value(c, t, thread, n, i->b, &x))))
        return false;
    for (int j = n - 1; j >= 0; j--) {
        const struct am_insn *before = insn(c, thread, t->in[j].pc);
        const struct flight *f = &t->in[j];
        int other, stored;

        if (before->op == AM_ISB && !(f->done & READ))
            return false;
        if (before->op == AM_FENCE && !(f->done & READ))
            return false;
        if (!(reads(before) || before->op == AM_STORE))
            continue;
        if (!value(c, t, thread, j, before->at, &other))
            return false;
        if (reads(before) && !(f->done & READ) && (acquires(before) || other == at))
            return false;
        if (!to_write(c, t, thread, j))
            continue;
        if (releases(before) && waits_for_release(i))
            return false;
        if (other != at || forwarded)
            continue;
        if (is_rmw(before) || is_rmw(i) || !value(c, t, thread, j, before->a, &stored))
            return false;
        forwarded = true;
        *ret = stored;
    }
    if (!forwarded)
        *ret = s->memory[at];
    return true;
}

/* A store breaks the pairs of others: they would begin anew, which is another execution. False: there was one. */
static bool pairs_stand(const struct checker *c, const struct state *s, int writer, int at)
{
    for (int k = 0; k < c->p->threads; k++)
        for (int n = 0; k != writer && n < s->t[k].count; n++) {
            const struct am_insn *i = insn(c, k, s->t[k].in[n].pc);
            int other;

            if (is_rmw(i) && s->t[k].in[n].done & READ && to_write(c, &s->t[k], k, n) &&
                value(c, &s->t[k], k, n, i->at, &other) && other == at)
                return false;
        }
    return true;
}

static bool may_write(const struct checker *c, const struct state *s, int thread, int n, int *ret_at, int *ret)
{
    const struct thread_state *t = &s->t[thread];
    const struct am_insn *i = insn(c, thread, t->in[n].pc);

    if (!to_write(c, t, thread, n) || (is_rmw(i) && !(t->in[n].done & READ)))
        return false;
    if (!value(c, t, thread, n, i->at, ret_at) || !value(c, t, thread, n, i->op == AM_CAS ? i->b : i->a, ret))
        return false;
    if (i->op == AM_ADD)
        *ret += t->in[n].value;
    for (int j = n - 1; j >= 0; j--) {
        const struct am_insn *before = insn(c, thread, t->in[j].pc);
        const struct flight *f = &t->in[j];
        int other;

        if ((is_decision(before) || before->op == AM_ISB || before->op == AM_FENCE) && !(f->done & READ))
            return false;
        if (!(reads(before) || before->op == AM_STORE))
            continue;
        if (!value(c, t, thread, j, before->at, &other))
            return false;
        if (reads(before) && !(f->done & READ) &&
            (releases(i) || is_rmw(before) || acquires(before) || other == *ret_at))
            return false;
        if (to_write(c, t, thread, j) && (releases(i) || other == *ret_at))
            return false;
        /* May be seen before the store of an earlier pair, whose success it depends on: that is certain from now on. */
        if (is_rmw(before) && to_write(c, t, thread, j) && !pairs_stand(c, s, thread, other))
            return false;
    }
    return true;
}

/* A barrier is passed. */
static bool may_pass(const struct checker *c, const struct state *s, int thread, int n)
{
    const struct thread_state *t = &s->t[thread];
    const struct am_insn *i = insn(c, thread, t->in[n].pc);

    if (t->in[n].done & READ)
        return false;
    for (int j = 0; j < n; j++) {
        const struct am_insn *before = insn(c, thread, t->in[j].pc);

        if (i->op == AM_ISB                ? is_decision(before) && !(t->in[j].done & READ)
            : i->order == __ATOMIC_ACQUIRE ? reads(before) && !(t->in[j].done & READ)
                                           : !is_decision(before) && !is_done(c, t, thread, j))
            return false;
        if ((before->op == AM_ISB || (i->op == AM_ISB && before->op == AM_FETCH)) && !(t->in[j].done & READ))
            return false;
    }
    return true;
}

/* An instruction of the program is fetched: neither data dependencies nor barriers matter, but an ISB before it. */
static bool may_fetch(const struct checker *c, const struct state *s, int thread, int n)
{
    const struct thread_state *t = &s->t[thread];

    for (int j = 0; j < n; j++)
        if (insn(c, thread, t->in[j].pc)->op == AM_ISB && !(t->in[j].done & READ))
            return false;
    return !(t->in[n].done & READ);
}

/* What needs no choice: registers, branches that are decided, instructions at the front that are over, fetching. False:
 * a guess was wrong, or this is of no interest. *ret_fault: an assertion. */
static bool settle(const struct checker *c, struct state *s, bool *ret_fault)
{
    for (int k = 0; k < c->p->threads; k++) {
        struct thread_state *t = &s->t[k];
        bool again = true;

        while (again) {
            again = false;
            for (int n = 0; n < t->count; n++) {
                struct flight *f = &t->in[n];
                const struct am_insn *i = insn(c, k, f->pc);
                int a, b;

                if (f->done & READ || !(i->op >= AM_SET))
                    continue;
                if (i->op != AM_END && (!value(c, t, k, n, i->a, &a) || !value(c, t, k, n, i->b, &b)))
                    continue;
                f->done |= READ;
                again = true;
                if (i->op == AM_SET)
                    f->value = (int8_t)(a + b);
                else if (is_jump(i) && compare(i->op, a, b) != !!(f->done & TAKEN))
                    return false;
                else if ((i->op == AM_ASSUME_EQ || i->op == AM_ASSUME_NE) && !compare(i->op, a, b))
                    return false;
                else if (i->op == AM_ASSERT_EQ || i->op == AM_ASSERT_NE)
                    f->value = compare(i->op, a, b);
            }
            while (t->count && is_done(c, t, k, 0)) {
                const struct am_insn *i = insn(c, k, t->in[0].pc);

                if ((i->op == AM_ASSERT_EQ || i->op == AM_ASSERT_NE) && !t->in[0].value) {
                    *ret_fault = true;
                    return true;
                }
                if (i->dst >= 0)
                    t->regs[i->dst] = t->in[0].value;
                t->count--;
                memmove(t->in, t->in + 1, sizeof(t->in[0]) * (size_t)t->count);
                memset(&t->in[t->count], 0, sizeof(t->in[0]));
                again = true;
            }
            while (t->pc >= 0 && t->count < AM_WINDOW) {
                const struct am_insn *i = t->pc < c->p->count[k] ? insn(c, k, t->pc) : NULL;
                struct flight *f = &t->in[t->count];
                int a, b;

                if (!i || i->op == AM_END) {
                    t->pc = -1;
                    break;
                }
                if (is_jump(i) && (!value(c, t, k, t->count, i->a, &a) || !value(c, t, k, t->count, i->b, &b)))
                    break; /* to be guessed */
                *f = (struct flight){.pc = t->pc};
                t->count++;
                again = true;
                if (is_jump(i)) {
                    f->done = (int8_t)(READ | (compare(i->op, a, b) ? TAKEN : 0));
                    t->pc = (int8_t)(compare(i->op, a, b) ? i->to : t->pc + 1);
                } else {
                    t->pc++;
                }
            }
        }
    }
    return true;
}

static uint64_t hash_of(const struct state *s)
{
    const unsigned char *p = (const unsigned char *)s;
    uint64_t h = 0xcbf29ce484222325;

    for (size_t i = 0; i < sizeof(*s); i++)
        h = (h ^ p[i]) * 0x100000001b3;
    return h ^ h >> 29;
}

static bool is_new(struct checker *c, const struct state *s)
{
    size_t at;

    if (c->known_count * 2 >= c->known_size) {
        struct state *old = c->known;
        uint8_t *old_used = c->used;
        size_t old_size = c->known_size;

        c->known_size = old_size ? 2 * old_size : 1 << 12;
        c->known = calloc(c->known_size, sizeof(*s));
        c->used = calloc(c->known_size, 1);
        if (!c->known || !c->used)
            abort();
        for (size_t i = 0; i < old_size; i++)
            if (old_used[i]) {
                for (at = hash_of(&old[i]) % c->known_size; c->used[at]; at = (at + 1) % c->known_size)
                    ;
                c->known[at] = old[i];
                c->used[at] = 1;
            }
        free(old);
        free(old_used);
    }
    for (at = hash_of(s) % c->known_size; c->used[at]; at = (at + 1) % c->known_size)
        if (!memcmp(&c->known[at], s, sizeof(*s)))
            return false;
    c->known[at] = *s;
    c->used[at] = 1;
    c->known_count++;
    return true;
}

static void push(struct checker *c, struct state *s)
{
    bool fault = false;

    if (!settle(c, s, &fault))
        return;
    if (fault) {
        c->r.fault = true;
        return;
    }
    if (!is_new(c, s))
        return;
    if (c->stack_count == c->stack_size) {
        c->stack_size = c->stack_size ? 2 * c->stack_size : 1024;
        c->stack = realloc(c->stack, c->stack_size * sizeof(*s));
        if (!c->stack)
            abort();
    }
    c->stack[c->stack_count++] = *s;
}

static void step(struct checker *c, const struct state *s)
{
    bool over = true;

    for (int k = 0; k < c->p->threads; k++) {
        const struct thread_state *t = &s->t[k];

        over = over && t->pc < 0 && !t->count;
        for (int n = 0; n < t->count; n++) {
            const struct am_insn *i = insn(c, k, t->in[n].pc);
            struct state next = *s;
            int at, v;

            if (i->op == AM_FENCE || i->op == AM_ISB ? may_pass(c, s, k, n) : false) {
                next.t[k].in[n].done |= READ;
                push(c, &next);
            } else if (i->op == AM_FETCH && may_fetch(c, s, k, n)) {
                next.t[k].in[n].done |= READ;
                next.t[k].in[n].value = s->memory[i->at.n];
                push(c, &next);
            } else if (reads(i) && may_read(c, s, k, n, &v)) {
                next.t[k].in[n].done |= READ;
                next.t[k].in[n].value = (int8_t)v;
                push(c, &next);
            }
            if (may_write(c, s, k, n, &at, &v) && pairs_stand(c, s, k, at)) {
                next = *s;
                next.t[k].in[n].done |= WRITTEN;
                next.memory[at] = (int8_t)v;
                push(c, &next);
            }
        }
        if (t->pc >= 0 && t->count < AM_WINDOW && is_jump(insn(c, k, t->pc)))
            for (int taken = 0; taken < 2; taken++) {
                struct state next = *s;
                struct thread_state *to = &next.t[k];

                to->in[to->count++] = (struct flight){.pc = t->pc, .done = (int8_t)(GUESSED | (taken ? TAKEN : 0))};
                to->pc = (int8_t)(taken ? insn(c, k, t->pc)->to : t->pc + 1);
                push(c, &next);
            }
    }
    if (!over)
        return;
    c->r.ends++;
    if (c->p->final) {
        int8_t regs[AM_THREADS][AM_REGS];

        for (int k = 0; k < AM_THREADS; k++)
            memcpy(regs[k], s->t[k].regs, sizeof(regs[k]));
        if (!c->p->final(regs, s->memory))
            c->r.fault = true;
    }
}

struct am_result am_check(const struct am_program *p)
{
    struct checker c = {.p = p};
    struct state s;

    memset(&s, 0, sizeof(s));
    memcpy(s.memory, p->memory, sizeof(s.memory));
    push(&c, &s);
    while (c.stack_count && !c.r.fault) {
        s = c.stack[--c.stack_count];
        step(&c, &s);
    }
    c.r.states = (unsigned)c.known_count;
    free(c.known);
    free(c.used);
    free(c.stack);
    return c.r;
}
