/* SPDX-License-Identifier: Apache-2.0 */
#include "sockets.h"

#include <asm/errno.h>
#include <asm/socket.h>
#include <linux/fcntl.h>
#include <linux/stat.h>

#include "descriptors.h"

#define HIDDEN __attribute__((visibility("hidden")))

/* Values of the socket ABI that no UAPI header exports. */
#define MSG_CMSG_CLOEXEC 0x40000000
#define SCM_RIGHTS 1
#define MSG_FASTOPEN 0x20000000
#define SOCK_STREAM 1
#define AF_UNIX 1

HIDDEN void call_name(struct call *c, long nr, int fd, enum item_type type, char *buf)
{
    uint32_t len = ADDR_MAX;

    if (probe.sandboxed || SYS3(nr, fd, buf, &len) < 0)
        return;
    call_item(c, type, buf, MIN(len, ADDR_MAX));
}

HIDDEN void call_accepted(struct call *c)
{
    const char *address = (const char *)c->r->arg1;
    uint32_t len = 0;

    if (!address || !c->r->arg2)
        return;
    __builtin_memcpy(&len, (const void *)c->r->arg2, 4);
    if (len && len <= ADDR_MAX && ((uint64_t)address & (PROBE_PAGE - 1)) + len <= PROBE_PAGE)
        call_item(c, ITEM_ADDR, address, len);
}

HIDDEN void call_inode(struct call *c, int fd, const char *address, struct rec_stat *st)
{
    struct statx x;
    uint16_t family = 0;

    if (address)
        __builtin_memcpy(&family, address, 2);
    if (family != AF_UNIX || probe.sandboxed ||
        SYS6(__NR_statx, fd, "", AT_EMPTY_PATH, STATX_INO, &x, 0) < 0)
        return;
    *st = (struct rec_stat){.mode = x.stx_mode, .ino = x.stx_ino};
    call_item(c, ITEM_STAT, st, sizeof(*st));
}

static bool address_was_read(int64_t ret)
{
    return ret >= 0 || (ret != -EFAULT && ret != -EINVAL && ret != -EBADF && ret != -ENOTSOCK && ret != -ENAMETOOLONG);
}

HIDDEN void call_address(struct call *c, uint64_t ptr, uint64_t len)
{
    if (!ptr || !len || len > ADDR_MAX)
        return;
    if ((address_was_read(c->ret) && c->desc->shape != SHP_RECVFROM && c->desc->shape != SHP_RECVMSG &&
         c->desc->shape != SHP_RECVMMSG) ||
        mem_readable((const void *)ptr, len))
        call_item(c, ITEM_ADDR, (const void *)ptr, (uint32_t)len);
}

HIDDEN void fast_open(struct call *c, uint64_t flags, const void *name, uint32_t len)
{
    struct fd_entry *e = foreign() ? NULL : fd_entry(c->s, arg_fd(c, 0));

    if (!(flags & MSG_FASTOPEN) || !name || !len || len > ADDR_MAX || (e && e->state & FDS_ADDR) ||
        (c->ret < 0 && !mem_readable(name, len)))
        return;
    if (e)
        e->state |= FDS_ADDR;
    traffic_connect(c->s, c->op, arg_fd(c, 0), e, c->ret < 0 ? c->ret : 0, name, len);
}

HIDDEN void asked_error(struct call *c)
{
    struct fd_entry *e = foreign() ? NULL : fd_entry(c->s, arg_fd(c, 0));
    int32_t error;
    uint32_t len;

    if ((uint32_t)c->r->arg1 != SOL_SOCKET || (uint32_t)c->r->arg2 != SO_ERROR)
        return;
    __builtin_memcpy(&len, (const void *)c->r->arg4, sizeof(len));
    if (len < sizeof(error))
        return;
    __builtin_memcpy(&error, (const void *)c->r->arg3, sizeof(error));
    c->has_arg5 = true;
    c->arg5 = (uint32_t)error;
    if ((!e || e->state & FDS_PENDING) && (error || probe.sandboxed || traffic_connected(arg_fd(c, 0))))
        traffic_connect(c->s, c->op, arg_fd(c, 0), e, -error, NULL, 0);
}

HIDDEN bool first_address(struct call *c, struct fd_entry *e, uint64_t ptr, uint64_t len, char *local)
{
    if (!e || !ptr || !len || len > ADDR_MAX || (e->state & FDS_ADDR))
        return false;
    e->state |= FDS_ADDR;
    call_address(c, ptr, len);
    call_name(c, __NR_getsockname, arg_fd(c, 0), ITEM_LOCAL, local);
    return true;
}

/* What a socket is known by, whoever has it; 0: it is none, or the kernel can't be asked. */
static uint64_t socket_inode(int fd)
{
    struct statx x;

    if (probe.sandboxed || SYS6(__NR_statx, fd, "", AT_EMPTY_PATH, STATX_INO | STATX_TYPE, &x, 0) < 0 ||
        (x.stx_mode & 0170000) != 0140000)
        return 0;
    return x.stx_ino;
}

HIDDEN unsigned sent(const struct call *c, const struct msghdr *m, struct rec_fd *fds, unsigned max)
{
    const char *p = m->control, *end = p + m->controllen;
    unsigned n = 0;
    bool guest = foreign();

    while (p && p + sizeof(struct cmsghdr) <= end) {
        const struct cmsghdr *h = (const struct cmsghdr *)(const void *)p;

        if (h->len < sizeof(*h) || h->len > (size_t)(end - p))
            break;
        for (size_t i = 0; h->level == SOL_SOCKET && h->type == SCM_RIGHTS && i < (h->len - sizeof(*h)) / sizeof(int) && n < max;
             i++) {
            int fd = ((const int *)(const void *)(h + 1))[i];
            const struct fd_entry *e = guest ? NULL : fd_entry(c->s, fd);

            fds[n] = (struct rec_fd){fd, e ? e->gen : 0, socket_inode(fd)};
            n += fds[n].ino != 0;
        }
        p += ROUND_UP(h->len, sizeof(size_t));
    }
    return n;
}

HIDDEN unsigned received(const struct call *c, const struct msghdr *m, struct rec_fd *fds, unsigned max)
{
    const char *p = m->control, *end = p + m->controllen;
    unsigned n = 0;
    bool guest = foreign();

    while (p && p + sizeof(struct cmsghdr) <= end) {
        const struct cmsghdr *h = (const struct cmsghdr *)(const void *)p;

        if (h->len < sizeof(*h) || h->len > (size_t)(end - p))
            break;
        if (h->level == SOL_SOCKET && h->type == SCM_RIGHTS)
            for (size_t i = 0; i < (h->len - sizeof(*h)) / sizeof(int) && n < max; i++, n++) {
                fds[n].fd = ((const int *)(const void *)(h + 1))[i];
                guest_began(fds[n].fd, FDK_UNKNOWN);
                fds[n].ino = socket_inode(fds[n].fd);
                fds[n].gen = guest ? 0
                                   : fd_begin(c->s, fds[n].fd, fds[n].ino ? FDK_SOCKET : FDK_UNKNOWN,
                                              regs_arg(c->r, c->op == OP_recvmmsg ? 3 : 2) & MSG_CMSG_CLOEXEC, true);
            }
        p += ROUND_UP(h->len, sizeof(size_t));
    }
    return n;
}

HIDDEN __attribute__((noinline)) void traffic(struct call *c, int fd, struct fd_entry *e, enum data_source source,
                                              const struct iovec *iov, size_t count, uint64_t bytes)
{
    struct traffic t;

    if (!bytes || !traffic_socket(c->s, fd, e))
        return;
    t = (struct traffic){.s = c->s, .op = c->op, .source = source, .fd = fd, .r = c->r, .e = e,
                         .position = c->position, .bytes = bytes, .iov = iov, .count = count};
    traffic_passed(&t, c->mode);
}

HIDDEN __attribute__((noinline)) void message(struct call *c, struct fd_entry *e, enum data_source source,
                                              const struct msghdr *m, uint64_t bytes)
{
    struct traffic t = {.s = c->s, .op = c->op, .source = source, .fd = arg_fd(c, 0), .r = c->r, .e = e,
                        .position = c->position, .bytes = bytes, .iov = m->iov, .count = m->iovlen, .name = m->name,
                        .name_len = m->name && m->namelen <= ADDR_MAX ? m->namelen : 0, .name_sure = source == DATA_TX};

    if (e && e->kind == FDK_UNKNOWN)
        traffic_socket(c->s, t.fd, e);
    if (bytes)
        traffic_passed(&t, c->mode);
    c->position += bytes;
}

HIDDEN bool discards(struct call *c, uint64_t flags)
{
    int type = SOCK_STREAM;
    uint32_t len = sizeof(type);

    if (!(flags & MSG_TRUNC))
        return false;
    if (!probe.sandboxed)
        SYS6(__NR_getsockopt, arg_fd(c, 0), SOL_SOCKET, SO_TYPE, &type, &len, 0);
    return type == SOCK_STREAM;
}
