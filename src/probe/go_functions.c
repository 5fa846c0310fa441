/* SPDX-License-Identifier: Apache-2.0 */
#include "go_functions.h"

#include <linux/mman.h>

#include "functions.h"
#include "ring.h"
#include "wire/functions.h"
#include "wire/plan_format.h"

#define HIDDEN __attribute__((visibility("hidden")))

void scope_hook_go_function(struct regs *r, const struct plan_slot *slot);

/* The first words of a goroutine's descriptor: runtime.g.stack. Descriptors are never freed (runtime.allgs). */
struct go_g {
    uint64_t lo, hi;
};

/* ---- calls under way ---- */

/* One for each call; each connection that waits for data is one. `g` is written last, and 0 first. */
struct go_note {
    uint64_t g;      /* the goroutine; 0: free */
    uint64_t object; /* the connection */
    uint64_t buffer; /* its address, or (on_stack) its distance from the stack's upper end */
    uint64_t length;
    uint64_t caller; /* return address: a call that has ended without one (a panic) has left another there */
    uint64_t sum;    /* of what is to be sent */
    uint32_t depth;  /* of its stack pointer, in words below the stack's upper end */
    uint16_t fn;     /* enum fn_id */
    bool on_stack;
    bool copied; /* buffer is a copy of ours, or NULL: there could be none */
} __attribute__((aligned(64)));
_Static_assert(sizeof(struct go_note) == 64, "a cache line each");

/*
 * Descriptors of goroutines lie side by side and take some 7 lines each, so their notes lie so, too: no more memory is
 * touched than the goroutines themselves take. Where a place's neighbours are taken, the call is not noted.
 */
#define NOTES (GO_NOTES_SIZE / sizeof(struct go_note))
#define NEIGHBOURS 8u
uint64_t go_notes;

/* Before Go 1.17 a system call's registers don't hold the goroutine. */
static bool on_thread;

static struct go_note *all_notes(void)
{
    return (struct go_note *)__atomic_load_n(&go_notes, __ATOMIC_ACQUIRE);
}

HIDDEN void go_functions_open(void)
{
    uint64_t none = 0;
    long at;

    if (all_notes())
        return;
    at = SYS6(__NR_mmap, 0, GO_NOTES_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (sys_failed(at))
        return;
    SYS3(__NR_madvise, at, GO_NOTES_SIZE, 15 /* MADV_NOHUGEPAGE */);
    if (!__atomic_compare_exchange_n(&go_notes, &none, (uint64_t)at, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
        SYS2(__NR_munmap, at, GO_NOTES_SIZE); /* another thread was first */
}

static struct go_note *note_at(struct go_note *all, uint64_t g, unsigned neighbour)
{
    return &all[((g >> 7) + (g >> 25) * 0x9e3b + neighbour) % NOTES];
}

static uint64_t note_g(const struct go_note *n)
{
    return __atomic_load_n(&n->g, __ATOMIC_RELAXED);
}

/* Takes a free place, for which another goroutine may ask, too. It gets its name (`g`) when all of it is written: what
 * is in it now belongs to an older call. */
static bool note_take(struct go_note *n)
{
    uint64_t none = 0;

    return !note_g(n) && __atomic_compare_exchange_n(&n->g, &none, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

static void copy_free(const struct go_note *n)
{
    if (n->copied && n->buffer)
        SYS2(__NR_munmap, n->buffer, n->length);
}

static void note_free(struct go_note *n)
{
    __atomic_store_n(&n->g, 0, __ATOMIC_RELEASE);
}

/* Keeps a note of the call. Those of this goroutine that lie as deep or deeper are over: it was called again behind
 * the growth of its stack, or they have ended by a panic. False: there is no room. */
static bool note_keep(const struct go_note *call)
{
    struct go_note *all = all_notes(), *at = NULL;

    for (unsigned i = 0; all && i < NEIGHBOURS; i++) {
        struct go_note *n = note_at(all, call->g, i);

        if (note_g(n) == call->g && n->depth >= call->depth) {
            copy_free(n);
            note_free(n);
        }
    }
    for (unsigned i = 0; all && i < NEIGHBOURS && !at; i++)
        if (note_take(note_at(all, call->g, i)))
            at = note_at(all, call->g, i);
    if (!at)
        return false;
    at->object = call->object;
    at->buffer = call->buffer;
    at->length = call->length;
    at->caller = call->caller;
    at->sum = call->sum;
    at->depth = call->depth;
    at->fn = call->fn;
    at->on_stack = call->on_stack;
    at->copied = call->copied;
    __atomic_store_n(&at->g, call->g, __ATOMIC_RELEASE);
    return true;
}

/* Takes the note of a call that returns. False: it was not noted. */
static bool note_take_back(uint64_t g, uint32_t depth, enum fn_id fn, struct go_note *ret)
{
    struct go_note *all = all_notes();

    for (unsigned i = 0; all && i < NEIGHBOURS; i++) {
        struct go_note *n = note_at(all, g, i);

        if (note_g(n) != g || n->depth != depth || n->fn != fn)
            continue;
        *ret = *n;
        note_free(n);
        return true;
    }
    return false;
}

HIDDEN uint64_t go_functions_object(const struct regs *r)
{
    struct go_note *all = all_notes(), *inner = NULL;
    uint64_t g = all && on_thread ? arch_go_thread_word() : r->go_g, hi = 0;

    /* Only what a function was called with is looked at as a goroutine. */
    for (unsigned i = 0; all && i < NEIGHBOURS; i++) {
        struct go_note *n = note_at(all, g, i);

        if (g < PROBE_PAGE || note_g(n) != g)
            continue;
        hi = ((const struct go_g *)g)->hi;
        if (r->sp <= ((const struct go_g *)g)->lo || r->sp >= hi)
            return 0;
        if (n->depth < (hi - r->sp) / 8 && *(const uint64_t *)(hi - n->depth * UINT64_C(8)) == n->caller &&
            (!inner || n->depth > inner->depth))
            inner = n;
    }
    return inner ? inner->object : 0;
}

/* ---- what is told ---- */

/* Of bytes that are to be sent. Go doesn't keep them for us until the call returns: its last use over, the memory may
 * be another's. Four lanes: it has to keep up with ciphers. */
static uint64_t sum_of(const void *p, uint64_t n)
{
    const uint64_t prime = UINT64_C(0x9e3779b97f4a7c15);
    const char *b = p;
    uint64_t lane[4] = {n, 1, 2, 3}, w = 0;

    for (; n >= 32; n -= 32, b += 32)
        for (unsigned k = 0; k < 4; k++) {
            __builtin_memcpy(&w, b + 8 * k, 8);
            lane[k] = ((lane[k] ^ w) * prime) ^ (lane[k] >> 29);
        }
    for (; n; n--, b++)
        lane[n & 3] = ((lane[n & 3] ^ (uint8_t)*b) * prime) ^ (lane[n & 3] >> 29);
    return lane[0] ^ (lane[1] << 1) ^ (lane[2] << 2) ^ (lane[3] << 3);
}

/*
 * Whether memory that is to be sent may be gone when the call returns: another goroutine may know by then that it is no
 * longer needed. What Go's own allocator has got stays mapped, and where that is is a habit of its (arenaHints of
 * runtime/malloc.go, since Go 1.11): if it changes, more is copied than need be, and nothing else.
 */
#define GO_HEAP UINT64_C(0xc000000000)
#define GO_HEAP_END (GO_HEAP + (UINT64_C(1) << 40))
#define COPY_MAX (UINT64_C(1) << 24) /* bytes of a call: more would be felt by the program */

static bool may_be_gone(uint64_t p, uint64_t n)
{
    return p < GO_HEAP || p >= GO_HEAP_END || n > GO_HEAP_END - p;
}

/* Of the buffer, while the caller waits for the call and so has it; only calls that sandboxes allow anyway. */
static void copy_take(struct go_note *n)
{
    long at = n->length > COPY_MAX
                  ? -1
                  : SYS6(__NR_mmap, 0, n->length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    n->copied = true;
    if (sys_failed(at)) {
        n->buffer = 0;
        return;
    }
    __builtin_memcpy((void *)at, (const void *)n->buffer, n->length);
    n->buffer = (uint64_t)at;
}

/* The goroutine that a call is made on: false if these are not its registers. */
static bool on_goroutine(enum fn_id fn, const struct go_call *call, uint64_t sp)
{
    const struct go_g *g = (const struct go_g *)call->g;

    return function_may_read(fn, g, sizeof(*g)) && sp > g->lo && sp < g->hi;
}

static uint32_t depth_of(const struct go_call *call, uint64_t sp)
{
    return (uint32_t)((((const struct go_g *)call->g)->hi - sp) / 8);
}

/* Places were wanting: a write without a note may have been told of when it began. */
static bool no_room;

static void go_enter(struct segment_header *s, enum fn_id fn, const struct go_call *call, uint64_t sp)
{
    const struct go_g *g = (const struct go_g *)call->g;
    struct go_note n = {.g = call->g,
                        .object = call->object,
                        .buffer = call->buffer,
                        .length = call->length,
                        .caller = call->caller,
                        .depth = depth_of(call, sp),
                        .fn = (uint16_t)fn};

    functions_used = 1;
    if (fn == FN_go_tls_close) {
        function_other(s, call->object, false);
        return;
    }
    /* It begins, unless it is known to be under way: TLS 1.2 may repeat its handshake. */
    if (fn_table[fn].shape == FNS_INSIDE && !function_has_socket(s, call->object))
        function_other(s, call->object, true);
    n.on_stack = n.buffer - g->lo < g->hi - g->lo;
    if (fn == FN_go_tls_write && function_wanted(s, n.object) && function_may_read(fn, (const void *)n.buffer, n.length)) {
        if (!n.on_stack && n.length && may_be_gone(n.buffer, n.length))
            copy_take(&n);
        else
            n.sum = sum_of((const void *)n.buffer, n.length);
    }
    if (n.on_stack)
        n.buffer = g->hi - n.buffer;
    if (note_keep(&n))
        return;
    copy_free(&n);
    __atomic_store_n(&no_room, true, __ATOMIC_RELAXED);
    if (fn == FN_go_tls_write) /* a write that doesn't move all of it is the connection's last */
        function_tell(s, (enum data_source)fn_table[fn].source, DATA_WAY_GO, n.object, (int64_t)n.length, NULL);
}

/* A call that was not noted: it began before we were there, or found no room. */
static void note_anew(uint64_t sp, struct go_note *ret)
{
    const uint64_t *words = (const uint64_t *)sp;

    *ret = (struct go_note){.object = words[1], .buffer = words[2], .length = words[3]};
}

/* kept: where arguments are kept, they are what they were at the entry. */
static void go_exit(struct segment_header *s, enum fn_id fn, const struct go_call *call, uint64_t sp, bool kept)
{
    const struct go_g *g = (const struct go_g *)call->g;
    struct go_note n;
    const char *data;

    if (!note_take_back(call->g, depth_of(call, sp), fn, &n)) {
        if (fn == FN_go_tls_write && !kept && call->result > 0 && !__atomic_load_n(&no_room, __ATOMIC_RELAXED))
            count_loss(s, LOSS_DATA, (uint64_t)call->result); /* it began before us, and nobody knows of which connection */
        if (!kept || g->hi - sp < 4 * sizeof(uint64_t))
            return;
        note_anew(sp, &n);
    }
    data = (const char *)(n.on_stack ? g->hi - n.buffer : n.buffer);
    /* The sum of much takes long, and nobody may stop this goroutine meanwhile. */
    if (fn_table[fn].shape == FNS_DATA && call->result > 0 && (uint64_t)call->result <= n.length &&
        function_wanted(s, n.object)) {
        if (!n.copied && (!function_may_read(fn, data, n.length) || (fn == FN_go_tls_write && sum_of(data, n.length) != n.sum)))
            data = NULL;
        if (!data)
            count_loss(s, LOSS_COPY, 1);
        function_tell(s, (enum data_source)fn_table[fn].source, DATA_WAY_GO, n.object, call->result, data);
    }
    copy_free(&n);
}

HIDDEN __attribute__((used)) void scope_hook_go_function(struct regs *r, const struct plan_slot *slot)
{
    enum fn_id fn = (enum fn_id)slot->nr;
    struct segment_header *s = functions_telling();
    struct go_call call;

    if (!s || fn >= FN_MAX)
        return;
    on_thread = slot->flags & PLAN_F_GO_STACK;
    arch_go_call(r, on_thread, &call);
    if (!on_goroutine(fn, &call, r->sp))
        return;
    if (slot->flags & PLAN_F_ENTER)
        go_enter(s, fn, &call, r->sp);
    else
        go_exit(s, fn, &call, r->sp, slot->flags & PLAN_F_GO_KEPT);
}
