/* SPDX-License-Identifier: Apache-2.0 */
#include "traffic.h"

#include <asm/errno.h>
#include <asm/socket.h>

#include "calls.h"
#include "functions.h"

#define HIDDEN __attribute__((visibility("hidden")))

#define TAIL 256u       /* ... and what ends a message, where its middle is left out */
#define THRIFTY 4096u /* of a call, when the ring is filling up: heads of messages, not the whole of a body */
#define VERY_THRIFTY 512u

/* Values of the socket ABI that no UAPI header exports, or none that can be included beside ours. */
#define IPPROTO_TCP_ 6
#define TCP_INFO_ 11
#define TCP_CLOSE_ 7

static uint64_t socket_option(int fd, int option)
{
    int value = 0;
    uint32_t len = sizeof(value);

    return SYS6(__NR_getsockopt, fd, SOL_SOCKET, option, &value, &len, 0) < 0 ? 0 : (uint64_t)value;
}

HIDDEN __attribute__((noinline)) void traffic_tell_socket(struct segment_header *s, int fd, uint32_t gen)
{
    uint64_t domain = probe.sandboxed ? 0 : socket_option(fd, SO_DOMAIN); /* a sandbox may kill who asks */
    char address[2][ADDR_MAX];
    static const struct {
        long nr;
        enum item_type type;
    } ends[] = {{__NR_getsockname, ITEM_LOCAL}, {__NR_getpeername, ITEM_ADDR}};
    struct ring_item items[2];
    unsigned n = 0;
    struct record r;

    if (!domain)
        return;
    for (unsigned i = 0; i < 2; i++) {
        uint32_t len = ADDR_MAX;

        if (SYS3(ends[i].nr, fd, address[i], &len) == 0)
            items[n++] = (struct ring_item){ends[i].type, MIN(len, ADDR_MAX), address[i]};
    }
    r = (struct record){
        .kind = REC_SOCKET,
        .time = now(),
        .arg = {(uint64_t)fd, domain, socket_option(fd, SO_TYPE), socket_option(fd, SO_PROTOCOL), 0, gen},
    };
    ring_write(s, &r, items, n);
}

HIDDEN bool traffic_socket(struct segment_header *s, int fd, struct fd_entry *e)
{
    enum fd_kind kind = e ? e->kind : FDK_UNKNOWN;

    if (kind == FDK_UNKNOWN) {
        kind = kind_of_fd(fd, e);
        if (e) {
            e->kind = (uint8_t)kind;
            if (kind == FDK_SOCKET)
                traffic_tell_socket(s, fd, e->gen);
        }
    }
    return kind == FDK_SOCKET;
}

HIDDEN bool traffic_connected(int fd)
{
    char peer[ADDR_MAX];
    uint32_t len = ADDR_MAX;

    return SYS3(__NR_getpeername, fd, peer, &len) == 0;
}

HIDDEN __attribute__((noinline)) void traffic_connect(struct segment_header *s, enum op_id op, int fd, struct fd_entry *e,
                                                      int64_t result, const void *peer, uint32_t len)
{
    struct record r = {.kind = REC_CONNECT, .op = (uint16_t)op, .time = now(), .ret = result,
                       .arg = {(uint64_t)fd, 0, 0, 0, 0, e ? e->gen : 0}};
    char local[ADDR_MAX];
    uint32_t local_len = ADDR_MAX;
    struct ring_item items[2];
    unsigned n = 0;

    if (peer)
        items[n++] = (struct ring_item){ITEM_ADDR, len, peer};
    if ((result == 0 || peer) && !probe.sandboxed && SYS3(__NR_getsockname, fd, local, &local_len) == 0)
        items[n++] = (struct ring_item){ITEM_LOCAL, MIN(local_len, ADDR_MAX), local};
    if (e && result != -EINPROGRESS)
        e->state &= (uint8_t)~FDS_PENDING;
    else if (e)
        e->state |= FDS_PENDING;
    ring_write(s, &r, items, n);
}

HIDDEN void traffic_connect_end(struct segment_header *s, int fd, struct fd_entry *e)
{
    uint8_t state = 0; /* tcpi_state, the first byte of struct tcp_info (linux/tcp.h) */
    uint32_t len = sizeof(state);

    if (probe.sandboxed)
        return;
    if (traffic_connected(fd))
        traffic_connect(s, OP_NONE, fd, e, 0, NULL, 0);
    else if (SYS6(__NR_getsockopt, fd, IPPROTO_TCP_, TCP_INFO_, &state, &len, 0) == 0 && state == TCP_CLOSE_)
        traffic_connect(s, OP_NONE, fd, e, -EIO, NULL, 0); /* its error may be asked for by who has another descriptor */
}

static size_t vector_size(const struct iovec *iov, size_t count, size_t max)
{
    size_t n = 0;

    for (size_t i = 0; iov && i < count && n < max; i++)
        n += MIN(iov[i].len, max - n);
    return n;
}

/* How much of a call fits into what is left of the ring. Bodies go first: of one whose length was stated the decoder
 * doesn't miss them. Those of connections that nobody has looked at yet are many at once, when there are many new ones.
 * Other records must find room, too. */
static size_t thrift(const struct segment_header *s, uint32_t decision, size_t len)
{
    uint64_t taken = ring_taken(s);

    if (taken > RING_CELLS / 16 * 15)
        return MIN(len, (size_t)VERY_THRIFTY);
    if (taken > RING_CELLS / 8 * 7)
        return MIN(len, decision == FDW_CAPTURE ? (size_t)THRIFTY : (size_t)VERY_THRIFTY);
    return taken > RING_CELLS / 4 && decision != FDW_CAPTURE ? MIN(len, (size_t)THRIFTY) : len;
}

/* How much of `len` bytes nobody has asked for may be kept, where the program doesn't wait for who decides. */
static size_t undecided_room(struct fd_entry *e, size_t len)
{
    size_t used = (size_t)e->undecided * FD_UNDECIDED_UNIT;

    len = used < FD_UNDECIDED_SOCKET ? MIN(len, FD_UNDECIDED_SOCKET - used) : 0;
    e->undecided = (uint16_t)(e->undecided + (len + FD_UNDECIDED_UNIT - 1) / FD_UNDECIDED_UNIT);
    return len;
}

HIDDEN void traffic_passed(const struct traffic *t, uint32_t mode)
{
    struct fd_entry *e = t->e;
    uint32_t want = e ? __atomic_load_n(&e->want, __ATOMIC_RELAXED) : 0, decision = FDW_UNDECIDED;
    bool console = t->source == DATA_TX && (t->fd == 1 || t->fd == 2 || (e && e->state & FDS_STD));
    uint64_t skip = 0;
    size_t all, len, lost;
    struct ring_item name = {ITEM_ADDR, t->name_len, t->name};
    struct record r;

    if (e && want >> 2 == (e->gen & 0x3fffffff))
        decision = want & 3;
    if (decision == FDW_NONE)
        return;
    if (mode & SEG_M_PAYLOADS) {
        decision = FDW_CAPTURE;
    } else if (e && decision == FDW_CAPTURE) {
        const struct fd_skip *to = fd_skip(t->s, t->fd);

        skip =
            skip_left(__atomic_load_n(t->source == DATA_TX ? &to->tx : &to->rx, __ATOMIC_RELAXED), e->gen, t->position);
        if (skip >= t->bytes)
            return;
    }
    all = vector_size(t->iov, t->count, t->bytes);
    len = all > skip ? all - (size_t)skip : 0;
    if (!console && !(mode & (SEG_M_LOSSLESS | SEG_M_PAYLOADS)))
        len = thrift(t->s, decision, len);
    if (len && e && decision == FDW_UNDECIDED && !console && !(mode & SEG_M_LOSSLESS))
        len = undecided_room(e, len);
    if (!len && e && decision == FDW_UNDECIDED) /* its position will tell */
        return;
    if (name.len && !t->name_sure && !mem_readable(name.data, name.len))
        name.len = 0;
    /* Whether it is a loss depends on what was in it, and the reader sees what is missing. */
    r = (struct record){
        .kind = REC_DATA,
        .flags = console ? 0 : REC_F_UNASKED,
        .op = (uint16_t)t->op,
        .time = now(),
        .ret = (int64_t)t->bytes,
        .arg = {(uint64_t)t->fd, skip, e ? t->position : REC_NO_POSITION, t->source,
                t->r ? function_object(t->r) : 0, e ? e->gen : 0}};
    lost = len ? ring_vector(t->s, &r, name.len ? &name : NULL, t->iov, (size_t)skip, len) : 0;
    if (e && len && !lost && skip + len < all) {
        size_t tail = MIN(all - (size_t)skip - len, (size_t)TAIL);

        ring_vector(t->s, &r, name.len ? &name : NULL, t->iov, all - tail, tail);
    }
    if ((e && len) || (!e && len == t->bytes && !lost))
        return;
    r.arg[1] = skip + len - lost;
    r.flags = e ? REC_F_UNASKED : 0;
    ring_write(t->s, &r, NULL, 0);
}
