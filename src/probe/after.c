/* SPDX-License-Identifier: Apache-2.0 */
#include "after.h"

#include <asm/errno.h>
#include <asm/socket.h>
#include <asm/stat.h>
#include <linux/close_range.h>
#include <linux/fcntl.h>
#include <linux/mman.h>

#include "aio.h"
#include "contents.h"
#include "descriptors.h"
#include "images.h"
#include "sockets.h"
#include "uring.h"

#define HIDDEN __attribute__((visibility("hidden")))

/* Values of the ABI that no UAPI header exports, or none that can be included beside ours. */
#define SOCK_CLOEXEC 02000000
#define F_DUPFD_CLOEXEC_ 1030
#define FIOCLEX_ 0x5451
#define FIONCLEX_ 0x5450

HOT_DATA HIDDEN uint8_t pending_seen;

HIDDEN void call_record(struct call *c, enum rec_kind kind)
{
    uint32_t size = sizeof(struct record);
    uint64_t time = now(), pos;
    struct record *to;
    char *w;

    for (unsigned i = 0; i < c->items; i++)
        size += ring_item_size(c->item[i].len);
    to = ring_place(c->s, size, ring_kind(kind, c->flags, c->op), 0, &pos);
    if (unlikely(!to))
        return;
    to->time = time;
    to->ret = c->ret;
    to->ticks = c->ticks;
    to->arg[0] = c->r->arg0;
    to->arg[1] = c->r->arg1;
    to->arg[2] = c->r->arg2;
    to->arg[3] = c->r->arg3;
    to->arg[4] = c->has_arg4 ? c->arg4 : c->r->arg4;
    to->arg[5] = c->has_arg5 ? c->arg5 : c->r->arg5;
    w = (char *)(to + 1);
    for (unsigned i = 0; i < c->items; i++) {
        copy_padded(ring_item(w, c->item[i].type, c->item[i].len), c->item[i].data, c->item[i].len);
        w += ring_item_size(c->item[i].len);
    }
    ring_commit(c->s, to, pos, size);
}

/* Results after which the kernel has certainly read the path arguments. Of two it may have looked up the first, and
 * failed, before it saw that the second can't be read. */
static bool path_was_read(int64_t ret, uint8_t paths)
{
    if (ret < 0 && (paths & (paths - 1)))
        return false;
    switch (-ret) {
    case ENOENT: case EACCES: case ENOTDIR: case EEXIST: case ELOOP: case EISDIR: case EROFS: case ENOTEMPTY:
    case EXDEV: case ENXIO: case ENOSPC: case ETXTBSY:
        return true;
    default:
        return ret >= 0;
    }
}

static void call_paths(struct call *c)
{
    enum item_type type = ITEM_PATH;

    for (unsigned left = c->desc->paths; left; left &= left - 1) {
        const char *p = (const char *)regs_arg(c->r, (unsigned)__builtin_ctz(left));
        size_t n;

        if (path_was_read(c->ret, c->desc->paths)) {
            n = p ? str_len(p, SEG_PATH_MAX) : 0; /* NULL is legal for some *at calls */
        } else {
            n = mem_string(p, SEG_PATH_MAX);
        }
        if (n == MEM_BAD) {
            if (probe.sandboxed)
                count_loss(c->s, LOSS_COPY, 1);
        } else {
            call_item(c, type, p, (uint32_t)n);
        }
        type = ITEM_PATH2;
    }
}

/* The call made one descriptor, its result. */
static inline void call_made(struct call *c, enum fd_kind kind, bool cloexec, bool writable)
{
    bool other = false;

    if (unlikely(process_slow())) {
        guest_began(c->ret, kind);
        other = foreign();
    }
    c->has_arg5 = true;
    c->arg5 = other ? 0 : fd_begin(c->s, c->ret, kind, cloexec, writable);
}

static bool wanted_in_mode(const struct call *c)
{
    if (c->mode & SEG_M_REC_ALL)
        return true;
    switch (c->desc->group) {
    case OPG_READ_WRITE: case OPG_RX_TX:
        return c->mode & SEG_M_REC_RW;
    case OPG_SEEK:
        return c->mode & SEG_M_REC_SEEK;
    case OPG_STAT:
        return c->mode & SEG_M_REC_STAT;
    }
    return false;
}

/* Results that are no failure of anything. */
static bool benign(int64_t ret)
{
    return ret == -EAGAIN || ret == -EINTR || ret == -EALREADY;
}

static enum fd_kind made_kind(enum op_id op)
{
    switch (op) {
    case OP_memfd_create: return FDK_MEMFD;
    case OP_eventfd: case OP_eventfd2: return FDK_EVENTFD;
    case OP_timerfd_create: return FDK_TIMERFD;
    case OP_signalfd: case OP_signalfd4: return FDK_SIGNALFD;
    case OP_epoll_create: case OP_epoll_create1: return FDK_EPOLL;
    case OP_inotify_init: case OP_inotify_init1: return FDK_INOTIFY;
    case OP_pidfd_open: return FDK_PIDFD;
    default: return FDK_OTHER;
    }
}

/* Flags argument of the call that made a descriptor: is it close-on-exec? All these constants equal O_CLOEXEC. */
static bool made_cloexec(const struct call *c)
{
    switch (c->op) {
    case OP_memfd_create: return regs_arg(c->r, 1) & 1; /* MFD_CLOEXEC */
    case OP_eventfd2: return regs_arg(c->r, 1) & O_CLOEXEC;
    case OP_timerfd_create: return regs_arg(c->r, 1) & O_CLOEXEC;
    case OP_signalfd4: return regs_arg(c->r, 3) & O_CLOEXEC;
    case OP_epoll_create1: case OP_inotify_init1: return regs_arg(c->r, 0) & O_CLOEXEC;
    case OP_pidfd_open: case OP_pidfd_getfd: return true;
    default: return false;
    }
}

static void after_open(struct call *c, struct rec_stat *st)
{
    uint64_t flags = regs_arg(c->r, 1);
    struct stat x;

    if (c->op == OP_openat || c->op == OP_open_by_handle_at)
        flags = regs_arg(c->r, 2);
    else if (c->op == OP_openat2) {
        uint64_t how[3]; /* flags, mode, resolve */

        __builtin_memcpy(how, (const void *)regs_arg(c->r, 2), sizeof(how));
        flags = how[0];
        c->has_arg4 = true;
        c->arg4 = (uint32_t)flags | how[2] << 32;
    } else if (c->op == OP_creat)
        flags = O_CREAT | O_WRONLY | O_TRUNC;
    call_made(c, (flags & O_DIRECTORY) && (flags & O_TMPFILE) != O_TMPFILE ? FDK_DIR : FDK_FILE, flags & O_CLOEXEC,
              (flags & O_ACCMODE) != O_RDONLY);
    /* Who owns a file that is only read, the collector finds out by its name. */
    if ((c->mode & SEG_M_ENHANCEFS) && ((flags & O_ACCMODE) != O_RDONLY || (flags & O_CREAT)) && !probe.sandboxed &&
        SYS2(__NR_fstat, c->ret, &x) == 0) {
        *st = (struct rec_stat){x.st_mode, x.st_uid, x.st_gid, (uint32_t)x.st_rdev, x.st_ino, x.st_dev};
        call_item(c, ITEM_STAT, st, sizeof(*st));
    }
}

/* newfd of dup2/dup3 stopped being what it was and became a copy of oldfd. */
static void after_dup(struct call *c, int oldfd, int newfd, bool cloexec, struct rec_counters *closed)
{
    struct fd_entry *from, *to;

    c->has_arg5 = true;
    c->arg5 = 0;
    guest_copied(oldfd, newfd);
    if (foreign() || (c->desc->shape == SHP_DUP2 && oldfd == newfd))
        return;
    from = fd_entry(c->s, oldfd);
    to = fd_entry(c->s, newfd);
    if (c->desc->shape == SHP_DUP2 && to) {
        counters_of(to, newfd, closed);
        call_item(c, ITEM_COUNTERS, closed, sizeof(*closed));
        fd_end(to);
    }
    c->arg5 = fd_begin(c->s, newfd, from ? from->kind : FDK_UNKNOWN, cloexec,
                       !from || !(from->state & FDS_OPEN) || (from->state & FDS_WRITABLE));
    to = fd_entry(c->s, newfd);
    if (to && (oldfd == 1 || oldfd == 2 || (from && (from->state & FDS_STD))))
        to->state |= FDS_STD;
}

/* siginfo_t of waitid(2): signo, errno, code, padding, then pid, uid, status. */
static void after_waitid(struct call *c, int32_t *status)
{
    const int32_t *info = (const int32_t *)regs_arg(c->r, 2);
    int code, value;

    if (c->ret != 0 || !info || !info[4])
        return;
    code = info[2];
    value = info[6];
    if (code < 1 || code > 3) /* CLD_EXITED, CLD_KILLED, CLD_DUMPED: the others are no ends */
        return;
    *status = code == 1 ? (value & 0xff) << 8 : code == 3 ? (value & 0x7f) | 0x80 : value & 0x7f;
    c->has_arg5 = true;
    c->arg5 = (uint32_t)info[4];
    call_item(c, ITEM_STATUS, status, sizeof(*status));
}

static const struct iovec *plain_buffer(const struct call *c, struct iovec *ret)
{
    *ret = (struct iovec){(const char *)c->r->arg1, c->r->arg2};
    return ret;
}

/* A socket's bytes are traffic, also if it is the console. */
static void after_write(struct call *c, struct fd_entry *e, const struct iovec *iov, size_t count)
{
    if (watched(c, e) && traffic_socket(c->s, arg_fd(c, 0), e))
        traffic(c, arg_fd(c, 0), e, DATA_TX, iov, count, (uint64_t)c->ret);
    else if (c->mode & SEG_M_CAPTURE)
        capture_iov(c, arg_fd(c, 0), e, iov, count, (uint64_t)c->ret);
}

/* A record of each would cost a web server more than all else about the request: it is told when the file is closed. */
static void sent_file(struct fd_entry *file, const struct fd_entry *to, int fd)
{
    if (to->kind != FDK_SOCKET || file->kind == FDK_SOCKET)
        return;
    file->state |= FDS_SENT;
    if (!(file->state & FDS_WRITABLE)) /* so that nothing is captured of it */
        file->undecided = fd >= 0 && fd < UINT16_MAX ? (uint16_t)(fd + 1) : 0;
}

/* Whatever the shape. */
static __attribute__((noinline)) void end_any(struct call *c)
{
    const struct regs *r = c->r;
    struct rec_stat st;
    struct rec_counters closed;
    struct rec_fd fds[SENT_MAX];
    struct addresses a;
    struct iovec one;
    struct msghdr m;
    int32_t status;
    struct fd_entry *e = NULL, *from;
    bool record = c->ret < 0 ? !benign(c->ret) || (c->ret == -EINTR && c->desc->shape == SHP_CONNECT) ||
                                   (c->mode & SEG_M_REC_ALL)
                             : (c->desc->flags & SCF_RECORD) || wanted_in_mode(c);
    unsigned got = 0; /* descriptors received */

    if (unlikely(c->desc->shape == SHP_AIO) && !foreign())
        aio_exit(c->s, c->op, r, c->ret);
    if (c->ret < 0) {
        if (c->desc->shape == SHP_FCNTL || c->desc->shape == SHP_IOCTL) {
            uint32_t cmd = (uint32_t)r->arg1;

            if (c->op == OP_fcntl ? cmd != F_DUPFD && cmd != F_DUPFD_CLOEXEC_ && cmd != F_SETFD
                                  : cmd != FIOCLEX_ && cmd != FIONCLEX_)
                return;
        }
        if (c->desc->shape == SHP_MMAP && ((r->arg3 & MAP_ANONYMOUS) || (int)r->arg4 < 0))
            return;
        if (c->desc->shape == SHP_SOCKOPT && !(c->mode & SEG_M_REC_ALL))
            return;
        if (!record && c->desc->shape != SHP_EXEC)
            return;
        if ((op_failure_counted(c->op) ? !(c->mode & (SEG_M_REC_ERROR | SEG_M_REC_ALL))
                                       : c->op == OP_close && c->ret == -EBADF && !(c->mode & SEG_M_REC_ALL)) &&
            !foreign()) { /* counters are the segment's owner's */
            add64(&c->s->op[c->op].failed, 1);
            return;
        }
        call_paths(c);
        if (c->desc->shape == SHP_CONNECT || c->desc->shape == SHP_ADDRESS) {
            call_address(c, r->arg1, (uint32_t)r->arg2);
            if (c->ret == -EINPROGRESS || c->ret == -EINTR)
                call_name(c, __NR_getsockname, arg_fd(c, 0), ITEM_LOCAL, a.local);
            e = c->desc->shape == SHP_CONNECT && !foreign() ? fd_entry(c->s, arg_fd(c, 0)) : NULL;
            if (c->ret == -EINPROGRESS || c->ret == -EINTR)
                pending_seen = 1;
            if (e && (c->ret == -EINPROGRESS || c->ret == -EINTR))
                e->state |= FDS_PENDING | FDS_ADDR;
            else if (e && c->ret != -EALREADY)
                e->state &= (uint8_t)~FDS_PENDING;
        }
        if (c->ret == -EINPROGRESS && c->desc->shape == SHP_SENDTO) {
            fast_open(c, r->arg3, (const void *)r->arg4, (uint32_t)r->arg5);
        } else if (c->ret == -EINPROGRESS && c->desc->shape == SHP_SENDMSG && mem_readable((const void *)r->arg1, sizeof(m))) {
            __builtin_memcpy(&m, (const void *)r->arg1, sizeof(m));
            fast_open(c, r->arg2, m.name, m.namelen);
        }
        call_record(c, REC_CALL);
        return;
    }

    switch (c->desc->shape) {
    case SHP_READ: case SHP_READV:
        e = transfer(c, arg_fd(c, 0), DIR_READ, (uint64_t)c->ret);
        if (!e)
            record = true;
        if (!watched(c, e))
            break;
        if (c->desc->shape == SHP_READ)
            traffic(c, arg_fd(c, 0), e, DATA_RX, plain_buffer(c, &one), 1, (uint64_t)c->ret);
        else
            traffic(c, arg_fd(c, 0), e, DATA_RX, (const struct iovec *)r->arg1, r->arg2, (uint64_t)c->ret);
        break;
    case SHP_WRITE: case SHP_WRITEV: case SHP_VMSPLICE:
        e = transfer(c, arg_fd(c, 0), DIR_WRITE, (uint64_t)c->ret);
        if (!e)
            record = true;
        if (c->desc->shape == SHP_VMSPLICE) /* pages that the program may still write to */
            unseen(c, arg_fd(c, 0), e, c->mode, (uint64_t)c->ret);
        if (c->desc->shape == SHP_VMSPLICE || !(c->mode & (SEG_M_CAPTURE | SEG_M_TRAFFIC)))
            break;
        after_write(c, e, c->desc->shape == SHP_WRITE ? plain_buffer(c, &one) : (const struct iovec *)r->arg1,
                    c->desc->shape == SHP_WRITE ? 1 : r->arg2);
        break;
    case SHP_SENDFILE:
        from = transfer(c, arg_fd(c, 1), DIR_READ, (uint64_t)c->ret);
        if (!from)
            record = true;
        e = transfer(c, arg_fd(c, 0), DIR_WRITE, (uint64_t)c->ret);
        if (!e)
            record = true;
        if (c->mode & SEG_M_SENT && !record && c->ret)
            sent_file(from, e, arg_fd(c, 0));
        if (watched(c, e) && traffic_socket(c->s, arg_fd(c, 0), e))
            traffic(c, arg_fd(c, 0), e, DATA_TX, NULL, 0, (uint64_t)c->ret);
        else
            unseen(c, arg_fd(c, 0), e, c->mode, (uint64_t)c->ret);
        break;
    case SHP_SPLICE: case SHP_COPY:
        e = transfer(c, arg_fd(c, 0), DIR_READ, (uint64_t)c->ret);
        if (!e)
            record = true;
        if (c->desc->shape == SHP_SPLICE && watched(c, e))
            traffic(c, arg_fd(c, 0), e, DATA_RX, NULL, 0, (uint64_t)c->ret);
        e = transfer(c, arg_fd(c, 2), DIR_WRITE, (uint64_t)c->ret);
        if (!e)
            record = true;
        if (c->desc->shape == SHP_SPLICE && watched(c, e) && traffic_socket(c->s, arg_fd(c, 2), e))
            traffic(c, arg_fd(c, 2), e, DATA_TX, NULL, 0, (uint64_t)c->ret);
        else
            unseen(c, arg_fd(c, 2), e, c->mode, (uint64_t)c->ret);
        break;
    case SHP_TEE: /* what is read stays in the pipe */
        e = transfer(c, arg_fd(c, 1), DIR_WRITE, (uint64_t)c->ret);
        if (!e)
            record = true;
        unseen(c, arg_fd(c, 1), e, c->mode, (uint64_t)c->ret);
        break;
    case SHP_SENDTO:
        fast_open(c, r->arg3, (const void *)r->arg4, (uint32_t)r->arg5);
        e = transfer(c, arg_fd(c, 0), DIR_WRITE, (uint64_t)c->ret);
        if (!e)
            record = true;
        if (first_address(c, e, r->arg4, (uint32_t)r->arg5, a.local))
            record = true;
        else if (record)
            call_address(c, r->arg4, (uint32_t)r->arg5);
        if (watched(c, e)) {
            m = (struct msghdr){(void *)r->arg4, (uint32_t)r->arg5, plain_buffer(c, &one), 1, NULL, 0, 0};
            message(c, e, DATA_TX, &m, (uint64_t)c->ret);
        }
        break;
    case SHP_RECVFROM: {
        uint64_t bytes = (r->arg3 & MSG_TRUNC) ? MIN((uint64_t)c->ret, r->arg2) : (uint64_t)c->ret;
        uint32_t len = 0;

        if (r->arg4 && r->arg5)
            __builtin_memcpy(&len, (const void *)r->arg5, 4);
        if (!(r->arg3 & MSG_ASIDE)) {
            e = transfer(c, arg_fd(c, 0), DIR_READ, bytes);
            if (!e)
                record = true;
            if (watched(c, e)) {
                plain_buffer(c, &one);
                m = (struct msghdr){(void *)r->arg4, len, discards(c, r->arg3) ? NULL : &one, 1, NULL, 0, 0};
                message(c, e, DATA_RX, &m, bytes);
            }
        }
        if (first_address(c, e, r->arg4, len, a.local))
            record = true;
        else if (record)
            call_address(c, r->arg4, len);
        break;
    }
    case SHP_SENDMSG: {
        const struct msghdr *its = (const struct msghdr *)r->arg1;

        fast_open(c, r->arg2, its->name, its->namelen);
        e = transfer(c, arg_fd(c, 0), DIR_WRITE, (uint64_t)c->ret);
        if (!e)
            record = true;
        if (first_address(c, e, (uint64_t)its->name, its->namelen, a.local))
            record = true;
        else if (record)
            call_address(c, (uint64_t)its->name, its->namelen);
        if (its->controllen && (got = sent(c, its, fds, sizeof(fds) / sizeof(fds[0])))) {
            call_item(c, ITEM_FDS, fds, got * (uint32_t)sizeof(fds[0]));
            got = 0;
            record = true;
        }
        if (watched(c, e))
            message(c, e, DATA_TX, its, (uint64_t)c->ret);
        break;
    }
    case SHP_RECVMSG: {
        const struct msghdr *its = (const struct msghdr *)r->arg1;

        if (!(r->arg2 & MSG_ASIDE)) {
            e = transfer(c, arg_fd(c, 0), DIR_READ, (uint64_t)c->ret);
            if (!e)
                record = true;
            if (!watched(c, e))
                ;
            else if (discards(c, r->arg2))
                traffic(c, arg_fd(c, 0), e, DATA_RX, NULL, 0, (uint64_t)c->ret);
            else
                message(c, e, DATA_RX, its, (uint64_t)c->ret);
        }
        if (its->controllen && (got = received(c, its, fds, sizeof(fds) / sizeof(fds[0])))) {
            call_item(c, ITEM_FDS, fds, got * (uint32_t)sizeof(fds[0]));
            record = true;
        }
        if (first_address(c, e, (uint64_t)its->name, its->namelen, a.local))
            record = true;
        else if (record)
            call_address(c, (uint64_t)its->name, its->namelen);
        break;
    }
    case SHP_SENDMMSG: case SHP_RECVMMSG: {
        const struct mmsghdr *all = (const struct mmsghdr *)r->arg1;
        bool sends = c->desc->shape == SHP_SENDMMSG;
        uint64_t bytes = 0;

        for (int64_t i = 0; i < c->ret; i++) {
            bytes += all[i].len;
            if (all[i].hdr.controllen && got < sizeof(fds) / sizeof(fds[0]))
                got += sends ? sent(c, &all[i].hdr, fds + got, SENT_MAX - got) : received(c, &all[i].hdr, fds + got, SENT_MAX - got);
        }
        c->has_arg5 = true;
        c->arg5 = bytes;
        if (sends && c->ret)
            fast_open(c, r->arg3, all[0].hdr.name, all[0].hdr.namelen);
        if (sends || !(r->arg3 & MSG_ASIDE)) {
            e = transfer(c, arg_fd(c, 0), sends ? DIR_WRITE : DIR_READ, bytes);
            if (!e)
                record = true;
            if (!watched(c, e))
                ;
            else if (!sends && discards(c, r->arg3))
                traffic(c, arg_fd(c, 0), e, DATA_RX, NULL, 0, bytes);
            else
                for (int64_t i = 0; i < c->ret; i++)
                    message(c, e, sends ? DATA_TX : DATA_RX, &all[i].hdr, all[i].len);
        }
        if (got) {
            call_item(c, ITEM_FDS, fds, got * (uint32_t)sizeof(fds[0]));
            record = true;
        }
        if (sends)
            got = 0;
        if (c->ret && first_address(c, e, (uint64_t)all[0].hdr.name, all[0].hdr.namelen, a.local))
            record = true;
        else if (record && c->ret)
            call_address(c, (uint64_t)all[0].hdr.name, all[0].hdr.namelen);
        break;
    }
    case SHP_CLOSE:
        guest_began(arg_fd(c, 0), FDK_UNKNOWN);
        e = foreign() ? NULL : fd_entry(c->s, arg_fd(c, 0));
        if (c->flags & REC_F_SAID) {
            record = c->mode & SEG_M_REC_ALL;
            break;
        }
        record = true;
        if (e) {
            counters_of(e, arg_fd(c, 0), &closed);
            call_item(c, ITEM_COUNTERS, &closed, sizeof(closed));
            fd_end(e);
        }
        break;
    case SHP_DUP:
        after_dup(c, arg_fd(c, 0), (int)c->ret, false, &closed);
        break;
    case SHP_DUP2:
        after_dup(c, arg_fd(c, 0), arg_fd(c, 1), c->op == OP_dup3 && (r->arg2 & O_CLOEXEC), &closed);
        break;
    case SHP_FCNTL:
        if ((uint32_t)r->arg1 == F_DUPFD || (uint32_t)r->arg1 == F_DUPFD_CLOEXEC_)
            after_dup(c, arg_fd(c, 0), (int)c->ret, (uint32_t)r->arg1 == F_DUPFD_CLOEXEC_, &closed);
        else if ((uint32_t)r->arg1 != F_SETFD)
            return;
        record = true;
        break;
    case SHP_IOCTL:
        if ((uint32_t)r->arg1 != FIOCLEX_ && (uint32_t)r->arg1 != FIONCLEX_)
            return;
        record = true;
        break;
    case SHP_PIPE: case SHP_SOCKETPAIR: {
        const int *fd = (const int *)regs_arg(r, c->desc->shape == SHP_PIPE ? 0 : 3);
        bool cloexec = c->op == OP_pipe2 ? r->arg1 & O_CLOEXEC : c->op == OP_socketpair && (r->arg1 & SOCK_CLOEXEC);
        enum fd_kind kind = c->desc->shape == SHP_PIPE ? FDK_PIPE : FDK_SOCKET;
        bool guest = foreign();

        for (unsigned n = 0; n < 2; n++) {
            guest_began(fd[n], kind);
            fds[n] = (struct rec_fd){fd[n], guest ? 0 : fd_begin(c->s, fd[n], kind, cloexec, true), 0};
        }
        call_item(c, ITEM_FDS, fds, 2 * sizeof(fds[0]));
        break;
    }
    case SHP_MAKE:
        call_made(c, made_kind(c->op), made_cloexec(c), true);
        break;
    case SHP_SOCKET:
        call_made(c, FDK_SOCKET, r->arg1 & SOCK_CLOEXEC, true);
        break;
    case SHP_ADDRESS: case SHP_CONNECT:
        call_address(c, r->arg1, (uint32_t)r->arg2);
        call_name(c, __NR_getsockname, arg_fd(c, 0), ITEM_LOCAL, a.local);
        if (c->desc->shape == SHP_CONNECT) {
            call_inode(c, arg_fd(c, 0), c->items ? c->item[0].data : NULL, &st);
            e = foreign() ? NULL : fd_entry(c->s, arg_fd(c, 0));
            c->has_arg5 = true;
            c->arg5 = !probe.sandboxed && !traffic_connected(arg_fd(c, 0));
            if (e)
                e->state = (uint8_t)((e->state & ~FDS_PENDING) | FDS_ADDR | (c->arg5 ? FDS_PENDING : 0));
        }
        break;
    case SHP_SOCKOPT:
        asked_error(c);
        break;
    case SHP_ACCEPT:
        call_made(c, FDK_SOCKET, c->op == OP_accept4 && (r->arg3 & SOCK_CLOEXEC), true);
        if (probe.sandboxed)
            call_accepted(c);
        call_name(c, __NR_getpeername, (int)c->ret, ITEM_ADDR, a.peer);
        call_name(c, __NR_getsockname, (int)c->ret, ITEM_LOCAL, a.local);
        call_inode(c, (int)c->ret, a.local, &st);
        e = foreign() ? NULL : fd_entry(c->s, c->ret);
        if (e)
            e->state |= FDS_ADDR;
        break;
    case SHP_READLINK:
        if (record && c->ret <= (int64_t)SEG_PATH_MAX)
            call_item(c, ITEM_LINK, (const void *)regs_arg(r, c->op == OP_readlink ? 1 : 2), (uint32_t)c->ret);
        break;
    case SHP_MMAP:
        if ((r->arg3 & MAP_ANONYMOUS) || (int)r->arg4 < 0)
            return;
        if (unlikely(uring_count))
            uring_mapped(arg_fd(c, 4), r->arg5, (uint64_t)c->ret);
        /* A shared mapping is the file itself; one that may be written is for the program to write. */
        if ((r->arg2 & (PROT_EXEC | PROT_WRITE)) == PROT_EXEC && (r->arg3 & MAP_TYPE) == MAP_PRIVATE)
            image_mapped(c->s, (uint64_t)c->ret, r->arg1, (int)r->arg2, arg_fd(c, 4), r->arg5);
        break;
    case SHP_WAIT:
        if (c->op == OP_wait4 && c->ret > 0 && r->arg1) {
            __builtin_memcpy(&status, (const void *)r->arg1, sizeof(status));
            call_item(c, ITEM_STATUS, &status, sizeof(status));
        } else if (c->op == OP_waitid) {
            after_waitid(c, &status);
        }
        if (c->items)
            record = true;
        break;
    case SHP_CLOSE_RANGE:
        record = c->mode & SEG_M_REC_ALL;
        if ((r->arg2 & CLOSE_RANGE_CLOEXEC))
            record = true;
        break;
    case SHP_PRCTL:
        break;
    case SHP_URING_SETUP:
        call_made(c, FDK_IO_URING, true, true);
        if (!foreign())
            uring_made(c->s, (int)c->ret, (const void *)r->arg1);
        break;
    case SHP_URING_ENTER:
        if (uring_count && !foreign())
            uring_reap(c->s, arg_fd(c, 0));
        break;
    }
    if (c->op == OP_io_uring_register && uring_count && !foreign())
        uring_registered(arg_fd(c, 0), (uint32_t)r->arg1, (const void *)r->arg2, (uint32_t)r->arg3);
    if (!record) {
        if (!(c->flags & REC_F_COUNTED))
            add64(&c->s->op[c->op].calls, 1);
        return;
    }
    call_paths(c);
    call_record(c, REC_CALL);
    for (unsigned i = 0; unlikely(i < got); i++)
        if (fds[i].ino)
            traffic_tell_socket(c->s, fds[i].fd, fds[i].gen);
}

HIDDEN void call_end(struct call *c)
{
    struct rec_stat st;

    /* What most records tell; it needs nothing of the large frame that others do. */
    if (likely(c->desc->shape == SHP_OPEN && c->ret >= 0)) {
        after_open(c, &st);
        call_paths(c);
        call_record(c, REC_CALL);
        return;
    }
    end_any(c);
}
