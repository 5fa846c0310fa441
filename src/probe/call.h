/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One observed call on its way through the exit hook, and what the parts of the
 * hooks do with it: calls.c has the hooks themselves, after.h the shapes of
 * calls, descriptors.h what numbers mean, contents.h what is written to files
 * and the console, sockets.h addresses and messages, tasks.h what becomes of
 * forks, rights.h what a program gives up.
 */
#ifndef SCOPE_PROBE_CALL_H
#define SCOPE_PROBE_CALL_H

#include "ring.h"

#define ITEMS 6

struct msghdr {
    void *name;
    uint32_t namelen;
    const struct iovec *iov;
    size_t iovlen;
    void *control;
    size_t controllen;
    uint32_t flags;
};

struct mmsghdr {
    struct msghdr hdr;
    uint32_t len;
};

struct cmsghdr {
    size_t len;
    int level, type;
};

/* One call on its way through the exit hook. */
struct call {
    enum op_id op;
    const struct op_desc *desc;
    struct regs *r;
    struct segment_header *s;
    int64_t ret;
    uint32_t mode;
    uint64_t ticks;             /* duration, if timed */
    uint8_t flags;              /* enum rec_flag */
    uint64_t position;          /* of the counter before the transfer, if there is one */
    uint64_t arg4, arg5;        /* replace arguments in the record if has_arg4, has_arg5 */
    bool has_arg4, has_arg5;
    unsigned items;
    struct ring_item item[ITEMS];
};

static inline int arg_fd(const struct call *c, unsigned n)
{
    return (int)regs_arg(c->r, n);
}

static inline void call_item(struct call *c, enum item_type type, const void *data, uint32_t len)
{
    if (c->items < ITEMS && len)
        c->item[c->items++] = (struct ring_item){(uint16_t)type, len, data};
}

/* Values of the socket ABI that no UAPI header exports. */
#define MSG_PEEK 2
#define MSG_TRUNC 0x20
#define MSG_ERRQUEUE 0x2000
#define MSG_ASIDE (MSG_PEEK | MSG_ERRQUEUE) /* what is received so stays, or isn't what the peer sent */

/* Writes the record of the call, with its items. */
void call_record(struct call *c, enum rec_kind kind);

#endif
