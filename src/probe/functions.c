/* SPDX-License-Identifier: Apache-2.0 */
#include "functions.h"

#include "debts.h"
#include "go_functions.h"
#include "jsse.h"
#include "ring.h"
#include "wire/functions.h"
#include "wire/plan_format.h"

#define HIDDEN __attribute__((visibility("hidden")))
#define BOTH (SEG_M_ON | SEG_M_TRAFFIC)
#define SAME_STACK (1u << 20)   /* a call inside a function is at most so many bytes below it */
#define DATA_CHUNK 32768u
#define THRIFTY 4096u           /* of a call, when the ring is filling up: other records must find room, too */
#define TLS_HANDSHAKE 22        /* ContentType, RFC 8446, section 5.1 */
#define TRIALS 16               /* calls of a function until its arguments are taken for what they should be */

_Static_assert(sizeof(struct function_regs) == FUNCTION_FRAME && offsetof(struct function_regs, result) == 0 &&
                   offsetof(struct function_regs, slot) == 56 && offsetof(struct function_regs, sp) == 64 &&
                   offsetof(struct function_regs, saved) == 72,
               "entry.S knows struct function_regs");
_Static_assert((FUNCTION_FRAME + ARCH_RETURN_SIZE) % 16 == 0, "the original finds the stack aligned as its caller left it");

HOT_DATA uint8_t functions_used;
struct function_shard function_shards[FUNCTION_SHARDS];

bool scope_hook_function_enter(struct function_regs *r, const struct plan_slot *slot);
void scope_hook_function_exit(struct function_regs *r, const struct plan_slot *slot);

/* ---- which descriptors connections use ---- */

/*
 * A table without locks: `check` is object ^ value, so that a pair of which two writers have written a half each is
 * nobody's. Where two objects want the same place the later one has it: the other is told again by its next socket
 * call. An object has an entry for each direction, as it may read from one descriptor and write to another.
 */
#define OBJECTS 1024u
static struct object {
    uint64_t check, value;      /* value: fd_entry.gen << 32 | descriptor + 1; 0: none */
} objects[OBJECTS];

/* Objects are aligned: the lowest bits are the direction, or: */
#define KEY_HELLO 2u /* value: bytes told as DATA_HELLO_* << 1 | whether they were sent */
static uint64_t object_key(uint64_t object, unsigned which)
{
    return (object & ~UINT64_C(3)) | which;
}

static struct object *object_at(uint64_t key)
{
    return &objects[(key * UINT64_C(0x9e3779b97f4a7c15)) >> 54];
}

static uint64_t object_get(uint64_t key)
{
    const struct object *o = object_at(key);
    uint64_t value = __atomic_load_n(&o->value, __ATOMIC_RELAXED);

    return (__atomic_load_n(&o->check, __ATOMIC_RELAXED) ^ value) == key ? value : 0;
}

static void object_set(uint64_t key, uint64_t value)
{
    struct object *o = object_at(key);

    __atomic_store_n(&o->value, value, __ATOMIC_RELAXED);
    __atomic_store_n(&o->check, key ^ value, __ATOMIC_RELAXED);
}

static void object_forget(uint64_t object)
{
    for (unsigned which = 0; which <= KEY_HELLO; which++)
        if (object_get(object_key(object, which)))
            object_set(object_key(object, which), 0);
}

static uint64_t object_value(int fd, const struct fd_entry *e)
{
    return (uint64_t)__atomic_load_n(&e->gen, __ATOMIC_RELAXED) << 32 | ((uint32_t)fd + 1);
}

/* The program says which descriptor it is. */
static void object_uses(struct segment_header *s, uint64_t object, bool sends, uint64_t fd)
{
    const struct fd_entry *e = fd_entry(s, (int64_t)fd);

    if (e && (e->kind == FDK_SOCKET || e->kind == FDK_UNKNOWN)) /* not a pointer that happens to be small */
        object_set(object_key(object, sends), object_value((int)fd, e));
}

/* The descriptor of an object and its generation; -1 if none is known or it means another by now. */
static inline int object_fd(struct segment_header *s, uint64_t object, bool sends, uint32_t *ret_gen)
{
    for (int other = 0; other < 2; other++) { /* nearly always the same in both directions */
        uint64_t value = object_get(object_key(object, sends ^ other));
        int fd = (int)(uint32_t)value - 1;
        const struct fd_entry *e = value ? fd_entry(s, fd) : NULL;

        /* A forked child has its parent's descriptors, whatever the parent, whose table it uses, does with them. */
        if (e && (e->gen == value >> 32 || (process->slow & SLOW_BORROWED))) {
            *ret_gen = (uint32_t)(value >> 32);
            return fd;
        }
    }
    *ret_gen = 0;
    return -1;
}

/* ---- calls under way ---- */

/* Whether the frame of a noted call, above sp, is still there: it may have been left by longjmp(3), and its stack be
 * another's, or no memory any more. In a sandbox, where nobody can be asked, only what is near counts. */
static bool note_stands(const struct function_note *n, uint64_t sp)
{
    const struct function_regs *r = (const struct function_regs *)(n->sp - FUNCTION_FRAME);

    return (probe.sandboxed ? n->sp - sp < PROBE_PAGE : mem_readable(r, sizeof(*r))) && r->sp == n->sp && r->slot;
}

/* The innermost that a call at sp is made in, if it still stands (note_stands()); NULL: none. */
static struct function_note *note_inside(struct thread *t, uint64_t sp)
{
    for (uint32_t i = MIN(t->functions, FUNCTION_NOTES); i > 0; i--)
        if (t->function[i - 1].sp - sp <= SAME_STACK)
            return &t->function[i - 1];
    return NULL;
}

/* The call was made by code that goroutines run. */
static bool is_go(const struct regs *r)
{
    const struct plan_slot *slot = (const struct plan_slot *)r->slot;

    return slot && slot->flags & PLAN_F_GO;
}

HIDDEN void function_socket(int fd, const struct fd_entry *e, bool sends, const struct regs *r)
{
    struct thread *t = is_go(r) ? NULL : thread_get(process);
    const struct function_note *n = t ? note_inside(t, r->sp) : NULL;
    uint64_t object = is_go(r) ? go_functions_object(r) : n ? n->object : 0, key, value;

    if (!object)
        return;
    key = object_key(object, sends);
    value = object_value(fd, e);
    if (object_get(key) != value && (!n || note_stands(n, r->sp)))
        object_set(key, value);
}

HIDDEN uint64_t function_object(const struct regs *r)
{
    struct thread *t = functions_used && !is_go(r) ? thread_get(process) : NULL;
    const struct function_note *n = t ? note_inside(t, r->sp) : NULL;

    if (functions_used && is_go(r))
        return go_functions_object(r);
    return n && note_stands(n, r->sp) ? n->object : 0;
}

/* Those at or below sp are gone: this call's frame lies where theirs was. A handler of the program that interrupts and
 * makes such calls leaves the number as it was. */
static void note_push(struct thread *t, uint64_t sp, uint64_t object, enum fn_id fn)
{
    uint32_t n = MIN(t->functions, FUNCTION_NOTES);

    while (n && t->function[n - 1].sp <= sp)
        n--;
    if (n == FUNCTION_NOTES) /* deeper than anything sane: the innermost is replaced */
        n--;
    t->function[n] = (struct function_note){.sp = sp, .object = object, .fn = (uint16_t)fn};
    __atomic_signal_fence(__ATOMIC_RELEASE); /* counted when it is whole, for a handler that interrupts here */
    t->functions = n + 1;
}

/* Takes the note of this call off; *ret is a copy. False if it is lost. */
static bool note_pop(struct thread *t, uint64_t sp, struct function_note *ret)
{
    for (uint32_t n = MIN(t->functions, FUNCTION_NOTES); n > 0; n--)
        if (t->function[n - 1].sp == sp) {
            *ret = t->function[n - 1];
            __atomic_signal_fence(__ATOMIC_RELEASE);
            t->functions = n - 1;
            return true;
        }
    return false;
}

/* The note of a call for the same object around this one, if any: the innermost, or the innermost of a shape. */
#define ANY_SHAPE 0xffu
static struct function_note *note_around(struct thread *t, uint64_t sp, uint64_t object, uint8_t shape)
{
    for (uint32_t i = MIN(t->functions, FUNCTION_NOTES); i > 0; i--) {
        struct function_note *n = &t->function[i - 1];

        if (n->sp > sp && n->object == object && (shape == ANY_SHAPE || shape == fn_table[n->fn].shape))
            return n;
    }
    return NULL;
}

/* The note of a call for a BIO that is a connection, made by this call's library around it. */
static struct function_note *note_bio(struct thread *t, uint64_t sp)
{
    struct function_note *n = note_inside(t, sp);

    return n && n->sp > sp && fn_table[n->fn].shape == FNS_CIPHER ? n : NULL;
}

/* ---- arguments ---- */

/*
 * That the program has functions which are called like those of a library doesn't make them these. So what they say is
 * at first taken with care; who calls a function that has kept its word so often has just let it read or write there.
 */
static uint8_t trusted[FN_MAX];

HIDDEN bool function_may_read(enum fn_id fn, const void *p, size_t n)
{
    if (!mem_plausible(p))
        return false;
    if (trusted[fn] >= TRIALS || probe.sandboxed)
        return true;
    if (!mem_readable(p, n))
        return false;
    trusted[fn]++;
    return true;
}

static uint64_t function_arg(const struct function_regs *r, unsigned n)
{
    return n < FN_RESULT ? (&r->arg0)[n] : 0;
}

/* What stands for the connection: in calls that make one, known afterwards only. */
static inline uint64_t object_of(const struct function_regs *r, const struct fn_desc *d, enum fn_id fn, bool after)
{
    const uint64_t *out;

    if (d->object < FN_RESULT)
        return function_arg(r, d->object);
    if (!after)
        return 0;
    if (d->object == FN_RESULT)
        return r->result;
    out = (const uint64_t *)function_arg(r, d->object - FN_OUT(0));
    return (int)r->result >= 0 && function_may_read(fn, out, sizeof(*out)) ? *out : 0;
}

static inline int64_t bytes_moved(const struct function_regs *r, const struct fn_desc *d, enum fn_id fn)
{
    const uint64_t *out;

    switch (d->result) {
    case FNR_NONE:
        return 0;
    case FNR_INT:
        return (int)r->result;
    case FNR_LONG:
        return (int64_t)r->result;
    case FNR_ALL:
        return (int)r->result == 0 ? (int64_t)function_arg(r, d->length) : 0;
    default:
        out = (const uint64_t *)function_arg(r, d->result - FNR_OUT0);
        return (int)r->result == 1 && function_may_read(fn, out, sizeof(*out)) ? (int64_t)*out : 0;
    }
}

/* The methods of NSS's layer, once a descriptor has got it. */
static uint64_t layer_methods;

/* ... of OpenSSL's BIOs that are connections, once the program has asked for them. */
static uint64_t bio_methods;

/* A BIO begins with the pointer to its methods or, since OpenSSL 3.0, has one to its context in front of that
 * (struct bio_st, crypto/bio/bio_local.h). */
static inline bool is_connection_bio(uint64_t object)
{
    const uint64_t *words = (const uint64_t *)object;

    return unlikely(bio_methods) && mem_plausible(words) && (words[0] == bio_methods || words[1] == bio_methods);
}

/* Whether an object is a connection: NSPR's functions serve files, too. They begin with reading this word. */
static bool is_connection(uint64_t object, const struct fn_desc *d)
{
    if (d->flags & FNX_BIO)
        return is_connection_bio(object);
    if (!(d->flags & FNX_LAYER) || d->shape == FNS_NEW)
        return true;
    return layer_methods && mem_plausible((const void *)object) && *(const uint64_t *)object == layer_methods;
}

/* ---- telling ---- */

/* It is an object's place from now on, or of one more connection of the same object. One thread at a time: what was said
 * of one life is not said of another. 0 if others are at it. Who is interrupted for ever leaves the place so: all that is
 * told there is captured. */
static __attribute__((noinline)) uint32_t object_begins(struct tls_want *w, uint64_t object)
{
    uint64_t was = __atomic_load_n(&w->object, __ATOMIC_RELAXED);
    uint32_t life;

    if (was == TLS_CHANGING ||
        !__atomic_compare_exchange_n(&w->object, &was, TLS_CHANGING, false, ORDER_TLS_LOCK, __ATOMIC_RELAXED))
        return 0;
    life = add32(&w->life, 1);
    __atomic_store_n(&w->object, object, ORDER_TLS_OBJECT); /* behind it: nothing that is done is this object's */
    return life;
}

/* Which of the connections that had this address it is: tls_want.life; 0 where the table is another process's. begins: it
 * is one more. */
static inline uint32_t object_life(struct segment_header *s, uint64_t object, bool begins)
{
    struct tls_want *w = &s->tls[tls_want_at(object)];

    if (unlikely(process->slow & SLOW_BORROWED))
        return 0;
    if (likely(!begins && __atomic_load_n(&w->object, ORDER_TLS_LOOK) == object))
        return __atomic_load_n(&w->life, ORDER_TLS_LOOK);
    return object_begins(w, object);
}

/* The collector has said so. If it has, the place is looked at once more: it may have been another object's between two
 * looks at it, but it was not while `life` stayed the same. */
static inline bool object_done(const struct segment_header *s, uint64_t object, uint32_t life)
{
    const struct tls_want *w = &s->tls[tls_want_at(object)];

    return life && __atomic_load_n(&w->done, ORDER_TLS_LOOK) == life &&
           __atomic_load_n(&w->object, ORDER_TLS_LOOK) == object && __atomic_load_n(&w->life, __ATOMIC_RELAXED) == life;
}

/* One record, behind what the object is owed. n: bytes that are at stake. */
static inline void tell_piece(struct segment_header *s, struct record *r, const char *data, uint64_t n)
{
    struct ring_item item = {ITEM_DATA, (uint32_t)n, data};

    if (!debts_paid(s, r))
        count_loss(s, LOSS_DATA, n);
    else if (likely(ring_write(s, r, &item, data ? 1 : 0)))
        return;
    else if (!data)
        count_loss(s, LOSS_DATA, n);
    debt_add(r->arg[4], (enum data_source)r->arg[3], n);
}

/* Inlined: a call of its own costs some 15 ns here (bench/tls.c). */
static inline __attribute__((always_inline)) void tell(struct segment_header *s, enum data_source source,
                                                       enum data_way way, uint64_t object, int64_t bytes, const char *data)
{
    uint32_t mode = __atomic_load_n(&s->mode, __ATOMIC_RELAXED), life = object_life(s, object, false), gen;
    bool all = mode & (SEG_M_PAYLOADS | SEG_M_LOSSLESS) || !ring_half_full(s);
    size_t keep = !data ? 0 : all ? (size_t)bytes : MIN((size_t)bytes, (size_t)THRIFTY);
    int fd = object_fd(s, object, source == DATA_TLS_TX, &gen);
    struct record r = {.kind = REC_DATA, .time = now(), .ret = bytes,
                       .arg = {(uint64_t)fd, 0, life | (uint64_t)way << DATA_WAY_SHIFT, source, object, gen}};

    if (object_done(s, object, life) && !(mode & SEG_M_PAYLOADS))
        return;
    for (size_t n; r.arg[1] < keep; r.arg[1] += n) {
        n = MIN(keep - r.arg[1], DATA_CHUNK);
        tell_piece(s, &r, data + r.arg[1], n);
    }
    if (keep < (size_t)bytes) /* the rest is a gap */
        tell_piece(s, &r, NULL, (uint64_t)bytes - keep);
}

/* Else the next one, which will say so itself, tells of an end that finds no room now. */
HIDDEN void function_other(struct segment_header *s, uint64_t object, bool remains)
{
    bool had = object_get(object_key(object, false)) || object_get(object_key(object, true));
    uint32_t gen;
    int fd = object_fd(s, object, false, &gen);
    struct record r = {.kind = REC_DATA, .time = now(), .arg = {(uint64_t)fd, 0, 0, DATA_TLS_TX, object, gen}};
    bool paid;

    functions_used = 1;
    if (had && fd < 0) /* its descriptor was closed, and ended the rest */
        debt_forgive(object);
    paid = debts_paid(s, &r);
    r.arg[3] = DATA_TLS_RX;
    paid = paid && debts_paid(s, &r);
    object_forget(object);
    object_life(s, object, true);
    r.arg[0] = (uint64_t)-1;
    r.arg[5] = 0;
    if (paid && ring_write(s, &r, NULL, 0))
        return;
    if (remains)
        debt_end(object);
    else
        debt_forgive(object);
}

HIDDEN void function_tell(struct segment_header *s, enum data_source source, enum data_way way, uint64_t object,
                          int64_t bytes, const char *data)
{
    if (unlikely(process->slow & SLOW_BORROWED))
        s = process_borrow(s);
    tell(s, source, way, object, bytes, data);
}

HIDDEN bool function_has_socket(struct segment_header *s, uint64_t object)
{
    uint32_t gen;

    return object_fd(s, object, false, &gen) >= 0;
}

static struct function_shard *shard(const struct thread *t)
{
    return &function_shards[(size_t)(t - threads) % FUNCTION_SHARDS];
}

/* Whose keys are no part of a core of this process: a child of fork(2) inherits both this and that. */
static const struct segment_header *undumped;

HIDDEN void functions_forked(void)
{
    struct thread *t = functions_used ? thread_get(process) : NULL;

    if (!functions_used)
        return;
    debts_forked();
    memset(function_shards, 0, sizeof(function_shards));
    if (t) /* it may have forked inside of some */
        shard(t)->calls = t->functions;
}

HIDDEN void functions_upgraded(struct segment_header *own)
{
    undumped = NULL;
    for (uint32_t i = 0; functions_used && i < OBJECTS; i++) {
        uint64_t value = objects[i].value, key = objects[i].check ^ value;
        int fd = (int)(uint32_t)value - 1;
        const struct fd_entry *e = value ? fd_entry(own, fd) : NULL;

        if (e && !(key & KEY_HELLO))
            object_set(key, object_value(fd, e));
    }
}

/* ---- first encrypted bytes ---- */

enum hello_state { HELLO_UNKNOWN, HELLO_WANTED, HELLO_OVER };

/* Whether the connection of this call still lacks its first bytes: not where its socket is known. */
static bool hello_wanted(struct segment_header *s, struct function_note *n)
{
    uint32_t gen;

    if (n->hello == HELLO_UNKNOWN)
        n->hello = n->object && fn_table[n->fn].family == FNF_OPENSSL &&
                           object_get(object_key(n->object, KEY_HELLO)) >> 1 < DATA_HELLO_BYTES &&
                           object_fd(s, n->object, false, &gen) < 0
                       ? HELLO_WANTED
                       : HELLO_OVER;
    return n->hello == HELLO_WANTED;
}

/* These have passed, or are about to. */
static void hello_passed(struct segment_header *s, struct function_note *n, const struct function_regs *r, enum fn_id fn,
                         uint64_t bytes)
{
    const struct fn_desc *d = &fn_table[fn];
    const char *data = (const char *)function_arg(r, d->buffer);
    uint64_t key = object_key(n->object, KEY_HELLO), was = object_get(key), told = was >> 1;
    bool sends = d->source == DATA_HELLO_TX;
    struct ring_item item = {ITEM_DATA, (uint32_t)MIN(bytes, DATA_HELLO_BYTES - told), data};
    struct record to = {.kind = REC_DATA, .time = now(), .ret = item.len,
                        .arg = {(uint64_t)-1, told, 0, d->source, n->object, 0}};
    uint32_t gen;

    if (told >= DATA_HELLO_BYTES || object_fd(s, n->object, sends, &gen) >= 0) { /* a call inside has told */
        n->hello = HELLO_OVER;
        return;
    }
    if (!note_stands(n, r->sp) || !function_may_read(fn, data, item.len))
        return;
    if (told ? sends == (was & 1) : *data == TLS_HANDSHAKE) {
        ring_write(s, &to, &item, 1);
        told += item.len;
    } else { /* something else, or its beginning was not seen */
        told = DATA_HELLO_BYTES;
    }
    if (told == DATA_HELLO_BYTES)
        n->hello = HELLO_OVER;
    object_set(key, told << 1 | sends);
}

/* Most calls end here: this must cost next to nothing. */
static bool cipher_enter(struct segment_header *s, const struct function_regs *r, enum fn_id fn)
{
    const struct fn_desc *d = &fn_table[fn];
    struct thread *t = likely(functions_used) ? thread_get(process) : NULL;
    struct function_note *n = t ? note_inside(t, r->sp) : NULL;
    uint64_t length;

    if (!n || likely(n->hello == HELLO_OVER) || !hello_wanted(s, n))
        return false;
    if (d->source == DATA_HELLO_RX) {
        add64(&shard(t)->calls, 1);
        return true;
    }
    length = function_arg(r, d->length);
    if (d->result == FNR_INT)
        length = (int)length > 0 ? (uint64_t)(int)length : 0;
    if (length)
        hello_passed(s, n, r, fn, length);
    return false;
}

static void cipher_exit(struct segment_header *s, struct thread *t, const struct function_regs *r, enum fn_id fn)
{
    struct function_note *n = note_inside(t, r->sp);
    int64_t bytes = bytes_moved(r, &fn_table[fn], fn);

    if (n && bytes > 0 && hello_wanted(s, n))
        hello_passed(s, n, r, fn, (uint64_t)bytes);
}

/* A call for a BIO that is a connection, by the program. */
static bool carries_plaintext(const struct function_regs *r)
{
    const struct function_note *n;
    struct thread *t;

    if (!is_connection_bio(function_arg(r, 0)) || !(t = thread_get(process)))
        return false;
    n = note_inside(t, r->sp);
    return !n || !note_stands(n, r->sp);
}

/* ---- keys ---- */

#ifndef MADV_DONTDUMP
#define MADV_DONTDUMP 16
#endif

/* A key of AES is being set up. Not inlined: other functions shall not need more stack for it. */
static __attribute__((noinline)) void key_put(struct segment_header *s, const struct function_regs *r, const struct fn_desc *d)
{
    const uint64_t *from = (const uint64_t *)function_arg(r, d->object);
    uint32_t bits = (uint32_t)function_arg(r, d->length);
    struct seg_key *k;
    uint64_t n;

    if ((bits != 128 && bits != 256) || !mem_plausible(from))
        return;
    if (undumped != s && probe.sandboxed) /* it can't be kept out of cores any more: it isn't put there */
        return;
    if (undumped != s) {
        SYS3(__NR_madvise, s->key, sizeof(s->key), MADV_DONTDUMP);
        undumped = s;
    }
    n = __atomic_fetch_add(&s->key_head, 1, __ATOMIC_RELAXED);
    k = &s->key[n % SEG_KEYS];
    __atomic_store_n(&k->commit, 0, ORDER_KEY_TAKEN);
    __atomic_thread_fence(__ATOMIC_RELEASE); /* before the stores that follow */
    k->time = now();
    k->caller = function_caller(r);
    k->len = bits / 8;
    memcpy(k->key, from, k->len); /* the function reads it next */
    __atomic_store_n(&k->commit, n + 1, ORDER_KEY_COMMIT);
}

/* ---- hooks ---- */

HIDDEN struct segment_header *functions_telling(void)
{
    struct segment_header *s = process->segment;

    if (unlikely(!s) && !(s = process_forked(0)))
        return NULL;
    return (__atomic_load_n(&s->mode, __ATOMIC_RELAXED) & BOTH) == BOTH ? s : NULL;
}

/* Before the function. False: it needs no hook behind it, and runs as if called by its caller. */
HIDDEN __attribute__((used)) bool scope_hook_function_enter(struct function_regs *r, const struct plan_slot *slot)
{
    enum fn_id fn = (enum fn_id)slot->nr;
    const struct fn_desc *d = &fn_table[fn];
    struct segment_header *s;
    struct thread *t;
    uint64_t object;

    if (fn < FN_MAX && d->shape == FNS_JNI) {
        if (fn == FN_Java_sun_nio_ch_Net_pollinValue)
            jsse_event(r, slot->site_pc);
        else
            jsse_network((void *)r->arg0);
        return false;
    }
    s = functions_telling();
    if (!s || probe.leaving || fn >= FN_MAX)
        return false;
    if (d->shape == FNS_KEY) {
        key_put(s, r, d);
        return false;
    }
    if (d->shape == FNS_CIPHER && likely(!carries_plaintext(r)))
        return cipher_enter(s, r, fn);
    object = d->shape == FNS_CIPHER ? function_arg(r, 0) : object_of(r, d, fn, false);
    if (!is_connection(object, d) || (!object && d->object < FN_RESULT)) /* free(NULL) is no end of anything */
        return false;
    if (d->shape == FNS_FD) {
        if (d->buffer < FN_RESULT)
            object_uses(s, object, false, function_arg(r, d->buffer));
        if (d->length < FN_RESULT)
            object_uses(s, object, true, function_arg(r, d->length));
        return false;
    }
    t = thread_get(process);
    if (!t)
        return false;
    if (d->shape == FNS_END) {
        const struct function_note *around = note_around(t, r->sp, object, ANY_SHAPE);

        if (!around)
            around = note_around(t, r->sp, 0, FNS_NEW);
        if (!around || !note_stands(around, r->sp)) /* not SSL_clear as part of a handshake, or of SSL_new */
            function_other(s, object, d->flags & FNX_AGAIN);
        return false;
    }
    if (unlikely(!functions_used))
        functions_used = 1;
    add64(&shard(t)->calls, 1);
    note_push(t, r->sp, object, fn);
    return true;
}

/* The first n bytes of several buffers; what can't be read is a gap. */
static __attribute__((noinline)) void tell_vector(struct segment_header *s, const struct function_regs *r, enum fn_id fn, uint64_t object,
                        int64_t n)
{
    const struct fn_desc *d = &fn_table[fn];
    const struct fn_vector *v = (const struct fn_vector *)function_arg(r, d->buffer);
    int count = MIN((int)function_arg(r, d->length), 16); /* PR_MAX_IOVECTOR_SIZE */

    for (int i = 0; n > 0 && i < count && function_may_read(fn, &v[i], sizeof(v[i])); i++) {
        int64_t len = MIN((int64_t)v[i].len, n);

        if (len <= 0)
            continue;
        tell(s, d->source, DATA_WAY_LIBRARY, object, len, function_may_read(fn, v[i].data, (size_t)len) ? v[i].data : NULL);
        n -= len;
    }
    if (n > 0)
        tell(s, d->source, DATA_WAY_LIBRARY, object, n, NULL);
}

/* After it. */
HIDDEN __attribute__((used)) void scope_hook_function_exit(struct function_regs *r, const struct plan_slot *slot)
{
    enum fn_id fn = (enum fn_id)slot->nr;
    const struct fn_desc *d = &fn_table[fn];
    struct segment_header *s = functions_telling();
    struct thread *t = thread_get(process);
    enum data_source source = (enum data_source)d->source;
    struct function_note note, *around;
    const char *data = NULL;
    bool mine, told;
    uint64_t object;
    int64_t n;

    if (!t)
        return;
    add64(&shard(t)->calls, (uint64_t)-1);
    mine = note_pop(t, r->sp, &note);
    if (d->shape == FNS_CIPHER && !mine) {
        if (s && fn < FN_MAX)
            cipher_exit(s, t, r, fn);
        return;
    }
    if (d->shape == FNS_CIPHER)
        source = source == DATA_HELLO_TX ? DATA_TLS_TX : DATA_TLS_RX;
    told = mine && (note.told & 1u << source);
    if (!s || fn >= FN_MAX)
        return;
    if (unlikely(process->slow & SLOW_BORROWED))
        s = process_borrow(s);
    if (d->shape == FNS_METHODS) {
        bio_methods = r->result;
        return;
    }
    object = d->shape == FNS_CIPHER ? note.object : object_of(r, d, fn, true);
    if (d->shape == FNS_NEW) {
        if (object && (d->flags & FNX_LAYER) && function_may_read(fn, (const void *)object, sizeof(object)))
            layer_methods = *(const uint64_t *)object;
        if (object)
            function_other(s, object, true);
        return;
    }
    n = bytes_moved(r, d, fn);
    if (n <= 0 || ((d->flags & FNX_PEEK) && (r->arg3 & FN_PEEK)))
        return;
    around = note_around(t, r->sp, object, ANY_SHAPE);
    if (around) /* a function of the library that calls another one */
        around->told |= (uint8_t)(1u << source);
    else if (unlikely(bio_methods) && (around = note_bio(t, r->sp))) /* older ones: for such a BIO, too */
        around->told |= (uint8_t)(1u << source);
    if (told)
        return;
    around = around ? note_around(t, r->sp, object, FNS_FLUSH) : NULL;
    if (around && note_stands(around, r->sp))
        return;
    if (d->shape == FNS_VECTOR) {
        tell_vector(s, r, fn, object, n);
        return;
    }
    if (d->shape == FNS_DATA || d->shape == FNS_CIPHER) {
        uint64_t room = function_arg(r, d->length);

        if (d->result == FNR_INT)
            room = (uint32_t)room;
        /* More than there was room for: it continues an earlier call, with bytes that it was given then. */
        if ((uint64_t)n <= room)
            data = (const char *)function_arg(r, d->buffer);
        if (data && !function_may_read(fn, data, (size_t)n)) {
            data = NULL;
            count_loss(s, LOSS_COPY, 1);
        }
    }
    tell(s, source, DATA_WAY_LIBRARY, object, n, data);
}

/* ---- for who learns plaintext in another way ---- */

HIDDEN bool function_wanted(struct segment_header *s, uint64_t object)
{
    return (__atomic_load_n(&s->mode, __ATOMIC_RELAXED) & SEG_M_PAYLOADS) ||
           !object_done(s, object, object_life(s, object, false));
}

HIDDEN void function_uses(struct segment_header *s, uint64_t object, int fd)
{
    if (fd >= 0) {
        object_uses(s, object, false, (uint64_t)fd);
        object_uses(s, object, true, (uint64_t)fd);
    }
}

HIDDEN void function_hello(struct segment_header *s, uint64_t object, bool sends, const char *data)
{
    struct ring_item item = {ITEM_DATA, DATA_HELLO_BYTES, data};
    struct record r = {.kind = REC_DATA, .time = now(), .ret = DATA_HELLO_BYTES,
                       .arg = {(uint64_t)-1, 0, 0, sends ? DATA_HELLO_TX : DATA_HELLO_RX, object, 0}};

    if (unlikely(process->slow & SLOW_BORROWED))
        s = process_borrow(s);
    ring_write(s, &r, &item, 1);
}

HIDDEN void functions_hold(bool on)
{
    __atomic_fetch_add(&function_shards[0].calls, on ? 1 : (uint64_t)-1, __ATOMIC_RELAXED);
}
