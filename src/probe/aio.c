/* SPDX-License-Identifier: Apache-2.0 */
#include "aio.h"

#include <linux/aio_abi.h>

#include "calls.h"

#define HIDDEN __attribute__((visibility("hidden")))
#define CONTEXTS 16u
#define PENDING 1024u /* operations in flight that are remembered; a power of two */
#define PROBES 64u    /* places that one may have among them */
#define RING_MAGIC 0xa10a10a1u
#define EVENTS_MAX (1u << 20)

/* What is at the address of a context; user space may read it (fs/aio.c of the kernel, libaio). */
struct aio_ring {
    uint32_t id, nr, head, tail, magic, compat_features, incompat_features, header_length;
    struct io_event events[];
};

struct context {
    uint64_t id;   /* its address; 0: free */
    uint32_t busy; /* a thread is reading it */
    uint32_t seen; /* place in its ring up to which events are known */
};

struct pending {
    uint64_t iocb; /* 0: free */
    int32_t fd;
    uint32_t op; /* enum op_id */
};

static struct context contexts[CONTEXTS];
static struct pending pending[PENDING];
HOT_DATA static uint32_t owner; /* process.pid that these are of: forked children have no part in them */

static enum op_id op_of(uint16_t opcode)
{
    switch (opcode) {
    case IOCB_CMD_PREAD:
    case IOCB_CMD_PREADV:
        return OP_pread64;
    case IOCB_CMD_PWRITE:
    case IOCB_CMD_PWRITEV:
        return OP_pwrite64;
    case IOCB_CMD_FSYNC:
        return OP_fsync;
    case IOCB_CMD_FDSYNC:
        return OP_fdatasync;
    default:
        return OP_NONE;
    }
}

/* Whether there is anything of this process. begin: there will be. */
static bool ours(bool begin)
{
    if (likely(owner == process->pid))
        return true;
    if (!begin)
        return false;
    if (owner) {
        for (unsigned i = 0; i < CONTEXTS; i++)
            contexts[i] = (struct context){0};
        for (unsigned i = 0; i < PENDING; i++)
            pending[i].iocb = 0;
    }
    owner = process->pid;
    return true;
}

/* ---- submissions ---- */

static struct pending *place(uint64_t iocb, uint64_t with)
{
    uint32_t h = (uint32_t)((iocb * UINT64_C(0x9e3779b97f4a7c15)) >> 54);

    for (uint32_t i = 0; i < PROBES; i++) {
        struct pending *p = &pending[(h + i) & (PENDING - 1)];

        if (__atomic_load_n(&p->iocb, __ATOMIC_ACQUIRE) == with)
            return p;
    }
    return NULL;
}

static void remember(struct segment_header *s, const struct iocb *io)
{
    enum op_id op = op_of(io->aio_lio_opcode);
    struct pending *p;
    uint64_t none = 0;

    if (op == OP_NONE)
        return;
    /* 1: taken, but not filled in yet */
    while ((p = place((uint64_t)io, 0)) &&
           !__atomic_compare_exchange_n(&p->iocb, &none, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        none = 0;
    if (!p) {
        count_loss(s, LOSS_RECORD, 1);
        return;
    }
    p->fd = (int32_t)io->aio_fildes;
    p->op = op;
    __atomic_store_n(&p->iocb, (uint64_t)io, __ATOMIC_RELEASE);
}

/* Takes one back. False if it isn't known: it was told already, or submitted before our time. */
static bool recall(uint64_t iocb, struct pending *ret)
{
    struct pending *p;

    while (iocb && (p = place(iocb, iocb))) {
        uint64_t same = iocb;

        *ret = (struct pending){iocb, p->fd, p->op};
        if (__atomic_compare_exchange_n(&p->iocb, &same, 0, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
            return true;
    }
    return false;
}

/* Calls are about to be made, or have failed: nobody but us has read this memory yet. */
static bool each_iocb(struct segment_header *s, const struct regs *r, int64_t first, bool submit)
{
    const struct iocb *const *list = (const struct iocb *const *)r->arg2;
    int64_t n = (int64_t)r->arg1 < EVENTS_MAX ? (int64_t)r->arg1 : EVENTS_MAX;
    uint64_t known = 0; /* end of a page that can be read */
    struct pending was;

    if (first >= n)
        return true;
    if (!mem_readable(list + first, (size_t)(n - first) * sizeof(*list)))
        return false;
    for (int64_t i = first; i < n; i++) {
        uint64_t at = (uint64_t)list[i];

        if (!submit) {
            recall(at, &was);
            continue;
        }
        if ((!known || at < known - PROBE_PAGE || at + sizeof(struct iocb) > known) &&
            !mem_readable(list[i], sizeof(struct iocb)))
            return false;
        known = ROUND_UP(at + 1, PROBE_PAGE);
        remember(s, list[i]);
    }
    return true;
}

/* ---- completions ---- */

static void told(struct segment_header *s, const struct io_event *e)
{
    struct regs r = {.arg2 = 1}; /* no pointer into the program's memory: it may be gone */
    struct pending p;

    if (!recall(e->obj, &p))
        return;
    r.arg0 = (uint64_t)(int64_t)p.fd;
    call_completed(s, (enum op_id)p.op, &r, e->res);
}

static struct context *context_find(uint64_t id)
{
    for (unsigned i = 0; i < CONTEXTS; i++)
        if (id && contexts[i].id == id)
            return &contexts[i];
    return NULL;
}

/* Events of a context that is alive. */
static void look(struct segment_header *s, struct context *c)
{
    const struct aio_ring *ring;
    uint32_t idle = 0, tail;

    if (!c || !__atomic_compare_exchange_n(&c->busy, &idle, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        return;
    ring = (const struct aio_ring *)c->id;
    if (ring && ring->magic == RING_MAGIC && !ring->incompat_features && ring->header_length == sizeof(*ring)) {
        tail = __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);
        while (ring->nr <= EVENTS_MAX && tail < ring->nr && c->seen < ring->nr && c->seen != tail) {
            told(s, &ring->events[c->seen]);
            c->seen = c->seen + 1 < ring->nr ? c->seen + 1 : 0;
        }
    }
    __atomic_store_n(&c->busy, 0, __ATOMIC_RELEASE);
}

HIDDEN void aio_last(struct segment_header *s)
{
    for (unsigned i = 0; i < CONTEXTS && ours(false); i++)
        if (contexts[i].id)
            look(s, &contexts[i]);
}

HIDDEN void aio_enter(struct segment_header *s, enum op_id op, const struct regs *r)
{
    struct context *c;

    if (op == OP_io_submit) {
        if ((int64_t)r->arg1 <= 0)
            return;
        ours(true);
        look(s, context_find(r->arg0));
        if (!each_iocb(s, r, 0, true) && probe.sandboxed)
            count_loss(s, LOSS_COPY, 1);
    } else if (op == OP_io_destroy && ours(false) && (c = context_find(r->arg0))) {
        look(s, c);
        c->id = 0;
    }
}

HIDDEN void aio_exit(struct segment_header *s, enum op_id op, const struct regs *r, int64_t ret)
{
    const struct io_event *events = (const struct io_event *)r->arg3;

    switch (op) {
    case OP_io_setup: {
        uint64_t id;

        if (ret < 0)
            return;
        ours(true);
        __builtin_memcpy(&id, (const void *)r->arg1, sizeof(id));
        for (unsigned i = 0; i < CONTEXTS; i++) {
            uint64_t none = 0;

            if (contexts[i].id || contexts[i].busy)
                continue;
            contexts[i].seen = 0;
            if (__atomic_compare_exchange_n(&contexts[i].id, &none, id, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
                return;
        }
        return;
    }
    case OP_io_submit:
        if (ours(false)) {
            each_iocb(s, r, ret < 0 ? 0 : ret, false); /* those that weren't taken */
            look(s, ret > 0 ? context_find(r->arg0) : NULL);
        }
        return;
    case OP_io_getevents:
    case OP_io_pgetevents:
        if (!ours(false))
            return;
        for (int64_t i = 0; i < ret; i++)
            told(s, &events[i]);
        look(s, ret >= 0 ? context_find(r->arg0) : NULL);
        return;
    default:
        return;
    }
}
