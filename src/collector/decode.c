/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/decode.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <linux/falloc.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "collector/ends.h"
#include "collector/forks.h"
#include "collector/guests.h"
#include "collector/life.h"
#include "collector/segments.h"
#include "collector/state.h"
#include "model/account.h"
#include "model/fds.h"
#include "model/path.h"
#include "report/report.h"
#include "traffic/stream.h"
#include "model/names.h"
#include "model/owner.h"
#include "collector/passed.h"
#include "model/images.h"
#include "model/procinfo.h"
#include "traffic/tls_objects.h"
#include "inject/load.h"
#include "plan/plan.h"

#define ERRNO_MAX 4095
#define SELF_EXE "/proc/self/exe"
#define SAMPLE_FROM (4 * (int64_t)FD_SAMPLE) /* writes of binary data from this size on need not be captured whole */
#define TRAFFIC_MAX (INT64_MAX / 4) /* no counter of bytes gets there; sums don't overflow */

/* Everything that a record carries, found once. Pointers lead into the record. */
struct parts {
    const char *path, *path2;
    uint32_t path_len, path2_len;
    const void *addr, *local, *data;
    uint32_t addr_len, local_len, data_len;
    const struct rec_fd *fds;
    uint32_t fd_count;
    const struct rec_sites *sites;
    bool has_stat, has_status, has_usage;
    struct rec_stat stat;
    int32_t status;
    struct rec_usage usage;
};

/* One record on its way through. */
struct ctx {
    struct collector *c;
    struct segment *seg;
    struct proc *p;
    const struct record *r;
    uint32_t size;
    const struct op_desc *desc;
    enum op_id op;
    const char *name;          /* of the call */
    uint64_t time;             /* CLOCK_REALTIME ns */
    uint64_t ns;               /* duration */
    struct parts in;
    const char *file, *file2;  /* resolved (names.h) */
    size_t file_len, file2_len;
    uint32_t plain, tail;      /* of file, as in struct name */
};

static void parse(struct ctx *x)
{
    struct parts *in = &x->in;
    struct rec_item item;
    const void *data;
    uint32_t at = 0;

    while (record_item(x->r, x->size, &at, &item, &data)) {
        switch (item.type) {
        case ITEM_PATH:
            in->path = data;
            in->path_len = item.len;
            break;
        case ITEM_PATH2:
            in->path2 = data;
            in->path2_len = item.len;
            break;
        case ITEM_ADDR:
            in->addr = data;
            in->addr_len = item.len;
            break;
        case ITEM_LOCAL:
            in->local = data;
            in->local_len = item.len;
            break;
        case ITEM_DATA:
            in->data = data;
            in->data_len = item.len;
            break;
        case ITEM_FDS:
            in->fds = data;
            in->fd_count = item.len / (uint32_t)sizeof(struct rec_fd);
            break;
        case ITEM_STAT:
            if ((in->has_stat = item.len >= sizeof(in->stat)))
                memcpy(&in->stat, data, sizeof(in->stat));
            break;
        case ITEM_STATUS:
            if ((in->has_status = item.len >= sizeof(in->status)))
                memcpy(&in->status, data, sizeof(in->status));
            break;
        case ITEM_SITES:
            in->sites = item.len >= sizeof(*in->sites) ? data : NULL;
            break;
        case ITEM_USAGE:
            if ((in->has_usage = item.len >= sizeof(in->usage)))
                memcpy(&in->usage, data, sizeof(in->usage));
            break;
        default:
            break;
        }
    }
}

static int32_t arg_int(const struct ctx *x, unsigned n)
{
    return (int32_t)x->r->arg[n];
}

/* --- names --- */

/* Where the directory descriptor of a path argument is, from the row's bits: the argument before it, in "at" calls. */
static int64_t dirfd_of(const struct ctx *x, bool second)
{
    unsigned bits = x->desc->paths, first = bits ? (unsigned)__builtin_ctz(bits) : 0, n;

    if (!second)
        return first == 1 ? arg_int(x, 0) : AT_FDCWD;
    bits &= bits - 1;
    n = bits ? (unsigned)__builtin_ctz(bits) : 0;
    return n >= 2 ? arg_int(x, n - 1) : AT_FDCWD;
}

static bool takes_fd(const struct ctx *x)
{
    switch (x->desc->shape) {
    case SHP_NONE: case SHP_ARGS: case SHP_PATHS: case SHP_OPEN: case SHP_CLOSE_RANGE: case SHP_READLINK:
    case SHP_PIPE: case SHP_SOCKET: case SHP_SOCKETPAIR: case SHP_CLONE: case SHP_EXEC: case SHP_EXIT: case SHP_WAIT:
    case SHP_PRCTL: case SHP_URING_SETUP: case SHP_AIO:
        return false;
    case SHP_MAKE:
        return false;
    default:
        return true;
    }
}

static int64_t fd_of(const struct ctx *x)
{
    if (!takes_fd(x))
        return -1;
    return x->desc->shape == SHP_MMAP ? arg_int(x, 4) : arg_int(x, 0);
}

/* Flags of a call that opened something by name, as open(2) has them. */
static uint64_t open_flags(const struct ctx *x)
{
    switch (x->op) {
    case OP_openat: case OP_open_by_handle_at: return x->r->arg[2];
    case OP_openat2: return (uint32_t)x->r->arg[4];
#ifdef __NR_creat
    case OP_creat: return O_CREAT | O_WRONLY | O_TRUNC;
#endif
    default: return x->r->arg[1];
    }
}

static void resolve_file(struct ctx *x, const char *path, size_t len)
{
    struct name_use use = {.dirfd = dirfd_of(x, false), .path = path, .len = len, .fd = -1};
    struct name name;

    if (x->desc->shape == SHP_OPEN && x->r->ret >= 0) {
        uint64_t flags = open_flags(x), how = x->op == OP_openat2 ? x->r->arg[4] >> 32 : 0;

        use.fd = x->r->ret;
        use.gen = x->p->borrowed ? 0 : (uint32_t)x->r->arg[5];
        use.real = flags & O_NOFOLLOW && (flags & O_DIRECTORY || !(flags & O_PATH));
        use.all_real = how & RESOLVE_NO_SYMLINKS;
        use.in_root = how & RESOLVE_IN_ROOT;
    }
    names_resolve(x->p, &use, 0, &name);
    x->file = name.p;
    x->file_len = name.len;
    x->plain = name.plain;
    x->tail = name.tail;
}

static void resolve(struct ctx *x)
{
    if (x->op == OP_symlinkat || x->op == OP_symlink) { /* the target is text, not a name */
        x->file = x->in.path;
        x->file_len = x->in.path_len;
    } else if (x->in.path && x->op != OP_memfd_create) {
        resolve_file(x, x->in.path, x->in.path_len);
    } else if (x->desc->paths && x->desc->shape != SHP_OPEN && x->op != OP_memfd_create && dirfd_of(x, false) >= 0 &&
               x->r->ret >= 0) {
        /* utimensat(fd, NULL) and the like, or an empty name */
        resolve_file(x, "", 0);
    } else if (takes_fd(x)) {
        const struct desc *d = fd_get(&x->p->fds, fd_of(x), false);

        if (d && d->file)
            x->file = fds_name(d, &x->file_len);
    }
    if (x->in.path2) {
        struct name_use use = {.dirfd = dirfd_of(x, true), .path = x->in.path2, .len = x->in.path2_len, .fd = -1};
        struct name name;

        names_resolve(x->p, &use, 1, &name);
        x->file2 = name.p;
        x->file2_len = name.len;
    }
}

/* Which of its names aren't known for sure. A symbolic link's target is none. */
static unsigned unresolved(const struct ctx *x)
{
    bool link = x->op == OP_symlinkat || x->op == OP_symlink, second = x->file2 && !path_resolved(x->file2, x->file2_len);
    const struct desc *d;

    if (!x->file)
        return NAME_FIRST;
    if (link)
        return second ? NAME_SECOND : 0;
    if (x->in.path)
        return (path_resolved(x->file, x->file_len) ? 0 : NAME_FIRST) | (second ? NAME_SECOND : 0);
    d = x->desc->paths ? fd_get(&x->p->fds, dirfd_of(x, false), false) : takes_fd(x) ? fd_get(&x->p->fds, fd_of(x), false) : NULL;
    return (d && fds_unresolved(d) ? NAME_FIRST : 0) | (second ? NAME_SECOND : 0);
}

/* --- event source syscall --- */

static int64_t bytes_of(const struct ctx *x)
{
    if (x->r->ret < 0 || (x->desc->group != OPG_READ_WRITE && x->desc->group != OPG_RX_TX))
        return -1;
    if (x->desc->shape == SHP_SENDMMSG || x->desc->shape == SHP_RECVMMSG)
        return x->r->arg[5] < INT64_MAX ? (int64_t)x->r->arg[5] : 0;
    return x->r->ret;
}

static void tell_syscall(struct ctx *x)
{
    struct report_call call = {
        .op = x->op, .tid = x->r->tid, .args = x->r->arg, .path = x->in.path, .path_len = x->in.path_len,
        .path2 = x->in.path2, .path2_len = x->in.path2_len, .file = x->file, .file_len = x->file_len,
        .addr = x->in.addr, .addr_len = x->in.addr_len, .fd = fd_of(x), .result = x->r->ret, .bytes = bytes_of(x), .has_result = x->r->kind == REC_CALL,
        .timed = x->r->flags & REC_F_TIMED, .duration_ns = x->ns,
    };

    if (x->op == OP_close && x->p->closed_file && x->p->closed_fd == call.fd) {
        call.file = x->p->closed_file->path;
        call.file_len = x->p->closed_file->path_len;
    }
    call.unresolved = x->file && unresolved(x) & NAME_FIRST;
    report_syscall(x->p, &call, x->time);
}

/* --- descriptors --- */

/* Counters in the record, of descriptors of the segment's owner. */
static void take_counters(struct ctx *x, bool close_them)
{
    struct rec_item item;
    const void *data;
    uint32_t at = 0;

    while (record_item(x->r, x->size, &at, &item, &data)) {
        struct rec_counters n;
        struct io_count cum;
        struct desc *d;
        bool stale, known;

        if (item.type != ITEM_COUNTERS || item.len < sizeof(n) || x->r->flags & REC_F_BORROWED || x->p->borrowed)
            continue;
        memcpy(&n, data, sizeof(n));
        d = fd_get(&x->p->fds, n.fd, true);
        if (!d)
            continue;
        known = d->file || !n.gen; /* not: its open was lost */
        stale = d->file && d->gen != n.gen; /* what is closed isn't what we know: a close and an open were lost */
        if (stale)
            d->flags |= DF_BLIND;
        else if (d->file && d->file->sock && d->file->sock->type == SOCK_STREAM && n.state & FDS_EOF)
            d->file->sock->flags |= SOCKF_REMOTE;
        d->next_gen = n.gen + 2;
        cum = (struct io_count){n.read_bytes, n.read_ops, n.read_ticks, n.write_bytes, n.write_ops, n.write_ticks};
        account_counters(x->p, n.fd, d, &cum, x->p->seg->map.info.clock, known);
        if (stale)
            fds_forget(x->p, n.fd);
        else if (close_them)
            fds_close(x->p, n.fd, x->name, x->time, true);
    }
}

static uint32_t made_gen(const struct ctx *x)
{
    return x->p->borrowed ? 0 : (uint32_t)x->r->arg[5];
}

static bool fs_like(const struct file *f)
{
    return f->kind == FDK_FILE || f->kind == FDK_DIR || f->kind == FDK_MEMFD || f->kind == FDK_UNKNOWN;
}

static void do_open(struct ctx *x)
{
    uint64_t flags = open_flags(x);
    struct file *f;
    struct desc *d;

    f = file_new(&x->c->model, (flags & O_DIRECTORY) && (flags & O_TMPFILE) != O_TMPFILE ? FDK_DIR : FDK_FILE, x->file,
                 x->file ? x->file_len : 0);
    f->plain = x->plain;
    f->tail = x->tail;
    if (!x->file) { /* by handle, or the name couldn't be read */
        char text[PATH_MAX];
        int n = names_of_fd(x->p, x->r->ret, made_gen(x), false, text, sizeof(text));

        if (n > 0) {
            file_unref(&x->c->model, f);
            f = file_new(&x->c->model, FDK_FILE, text, (size_t)n);
            f->plain = f->tail = (uint32_t)n;
        }
    }
    if (!x->in.has_stat && (x->p->pl->mode & SEG_M_ENHANCEFS) && x->file)
        x->in.has_stat = owner_lookup(x->p, x->file, x->file_len, &x->in.stat);
    if (x->in.has_stat) {
        f->has_stat = true;
        f->perms = x->in.stat.mode & 0777;
        f->uid = x->in.stat.uid;
        f->gid = x->in.stat.gid;
        f->dev = x->in.stat.dev;
        f->ino = x->in.stat.ino;
        f->sink = fds_sink(x->in.stat.mode, x->in.stat.rdev);
        if (S_ISDIR(x->in.stat.mode))
            f->kind = FDK_DIR;
    }
    f->read_only = (flags & O_ACCMODE) == O_RDONLY;
    d = fds_open(x->p, x->r->ret, f, made_gen(x), flags & O_CLOEXEC, x->time);
    if (!d)
        return;
    fds_reopened(x->p, d);
    if (d->flags & DF_STREAM)
        fds_decide(x->p, x->r->ret, d);
    d->flags |= DF_REPORTED;
    report_open(x->p, x->r->ret, d, x->name, x->time);
}

/* newfd becomes another name for what oldfd refers to. */
static void do_dup(struct ctx *x, int64_t oldfd, int64_t newfd, bool cloexec)
{
    struct desc *from = fds_lookup(x->p, oldfd), *d;
    uint8_t label = 0, flags = 0;
    struct file *f;

    if (!from || !from->file || oldfd == newfd)
        return;
    f = file_ref(from->file);
    if (from->flags & DF_STREAM) {
        flags = from->flags & (DF_LABEL | DF_STREAM);
        label = fds_label(x->p, from, newfd);
    }
    if (x->desc->shape == SHP_DUP2)
        fds_close(x->p, newfd, x->name, x->time, true);
    d = fds_open(x->p, newfd, f, made_gen(x), cloexec, x->time);
    if (!d)
        return;
    d->flags |= flags;
    d->label = label;
    if (f->kind != FDK_SOCKET)
        d->channel = ++x->c->model.last_channel; /* a socket's is that of its connection */
    if (flags)
        fds_decide(x->p, newfd, d);
    if (fs_like(f) && !(flags & DF_LABEL)) {
        d->flags |= DF_REPORTED;
        report_open(x->p, newfd, d, x->name, x->time);
    }
}

static void do_make(struct ctx *x)
{
    static const char *const names[] = {
        [FDK_EPOLL] = "anon_inode:[eventpoll]", [FDK_EVENTFD] = "anon_inode:[eventfd]",
        [FDK_TIMERFD] = "anon_inode:[timerfd]", [FDK_SIGNALFD] = "anon_inode:[signalfd]",
        [FDK_INOTIFY] = "anon_inode:inotify",   [FDK_PIDFD] = "anon_inode:[pidfd]",
        [FDK_IO_URING] = "anon_inode:[io_uring]",
    };
    enum fd_kind kind = FDK_OTHER;
    bool cloexec = false;
    struct file *f;

    switch (x->op) {
    case OP_memfd_create: kind = FDK_MEMFD; cloexec = x->r->arg[1] & MFD_CLOEXEC; break;
    case OP_eventfd2: cloexec = x->r->arg[1] & O_CLOEXEC; /* fall through */
    case OP_eventfd: kind = FDK_EVENTFD; break;
    case OP_timerfd_create: kind = FDK_TIMERFD; cloexec = x->r->arg[1] & O_CLOEXEC; break;
    case OP_signalfd4: cloexec = x->r->arg[3] & O_CLOEXEC; /* fall through */
    case OP_signalfd:
        kind = FDK_SIGNALFD;
        if (arg_int(x, 0) >= 0) /* a new mask for an old descriptor */
            return;
        break;
    case OP_epoll_create1: cloexec = x->r->arg[0] & O_CLOEXEC; /* fall through */
    case OP_epoll_create: kind = FDK_EPOLL; break;
    case OP_inotify_init1: cloexec = x->r->arg[0] & O_CLOEXEC; /* fall through */
    case OP_inotify_init: kind = FDK_INOTIFY; break;
    case OP_pidfd_open: kind = FDK_PIDFD; cloexec = true; break;
    case OP_pidfd_getfd: cloexec = true; break;
    case OP_io_uring_setup: kind = FDK_IO_URING; cloexec = true; break;
    default: break;
    }
    if (kind == FDK_MEMFD) {
        char text[300] = "/memfd:";
        size_t len = x->in.path_len < 255 ? x->in.path_len : 255;

        if (len)
            memcpy(text + 7, x->in.path, len);
        f = file_new(&x->c->model, kind, text, 7 + len);
    } else {
        const char *name = kind < sizeof(names) / sizeof(names[0]) && names[kind] ? names[kind] : "";

        f = file_new(&x->c->model, kind, name, strlen(name));
    }
    fds_open(x->p, x->r->ret, f, made_gen(x), cloexec, x->time);
}

static void do_pair(struct ctx *x)
{
    bool sock = x->desc->shape == SHP_SOCKETPAIR;
    bool cloexec = sock ? x->r->arg[1] & SOCK_CLOEXEC : x->op == OP_pipe2 && (x->r->arg[1] & O_CLOEXEC);

    for (uint32_t i = 0; i < x->in.fd_count && i < 2; i++) {
        struct rec_fd fd;
        struct file *f = sock ? file_new(&x->c->model, FDK_SOCKET, "socket", 6) : file_new(&x->c->model, FDK_PIPE, "pipe", 4);

        memcpy(&fd, x->in.fds + i, sizeof(fd));
        if (sock)
            file_sock(f, arg_int(x, 0), arg_int(x, 1) & 0xf, arg_int(x, 2));
        fds_open(x->p, fd.fd, f, x->p->borrowed ? 0 : fd.gen, cloexec, x->time);
    }
}

/* Sockets whose descriptors went with a message. */
static void do_passed(struct ctx *x)
{
    for (uint32_t i = 0; i < x->in.fd_count && i < 4096; i++) {
        struct rec_fd fd;
        struct desc *d;

        memcpy(&fd, x->in.fds + i, sizeof(fd));
        d = fd.ino ? fds_lookup_gen(x->p, fd.fd, x->p->borrowed ? 0 : fd.gen) : NULL;
        if (!d || !d->file || (d->gen != fd.gen && !x->p->borrowed) ||
            (d->file->kind != FDK_SOCKET && d->file->kind != FDK_UNKNOWN))
            continue;
        if (!d->file->sock)
            file_sock(d->file, 0, 0, 0)->flags |= SOCKF_JOINED;
        passed_sent(x->p, fd.fd, d, fd.ino);
    }
}

/* Descriptors that came over a unix socket. */
static void do_received(struct ctx *x)
{
    bool cloexec = x->r->arg[x->op == OP_recvmmsg ? 3 : 2] & MSG_CMSG_CLOEXEC;

    for (uint32_t i = 0; i < x->in.fd_count && i < 4096; i++) {
        struct rec_fd fd;
        struct desc *d;

        memcpy(&fd, x->in.fds + i, sizeof(fd));
        fds_close(x->p, fd.fd, "close", x->time, false);
        d = fds_lookup_gen(x->p, fd.fd, x->p->borrowed ? 0 : fd.gen);
        if (!d)
            continue;
        d->flags = (uint8_t)((cloexec ? DF_CLOEXEC : 0) | (d->gen && d->gen != (d->next_gen ? d->next_gen : 1) ? DF_BLIND : 0));
        d->open_ns = x->time;
        if (!d->file->path_len) {
            struct file *f = file_new(&x->c->model, d->file->kind, "Received_File_Descriptor", 24);

            file_unref(&x->c->model, d->file);
            d->file = f;
            d->channel = f->channel;
        }
        if (fd.ino && (d->file->kind == FDK_SOCKET || d->file->kind == FDK_UNKNOWN || d->file->kind == FDK_OTHER) &&
            d->file->refs == 1) {
            if (!d->file->sock)
                file_sock(d->file, 0, 0, 0)->flags |= SOCKF_JOINED;
            d->file->sock->ino = fd.ino;
            passed_received(x->p, d, fd.ino);
        }
        fds_decide(x->p, fd.fd, d);
        if (d->file->kind != FDK_SOCKET) {
            d->flags |= DF_REPORTED;
            report_open(x->p, fd.fd, d, x->name, x->time);
        }
    }
}

/* --- sockets --- */

/* The socket behind fd; made if it was inherited or its record lost. */
static struct desc *sock_desc(struct ctx *x, int64_t fd)
{
    struct desc *d = fds_lookup(x->p, fd);

    if (!d || !d->file)
        return NULL;
    if (!d->file->sock)
        file_sock(d->file, 0, 0, 0);
    return d;
}

/* Fills in what an address says about a socket of which nothing else is known. */
static void guess_domain(struct sock *s, int type)
{
    if (!s->domain)
        s->domain = s->local.family ? s->local.family : s->peer.family;
    if (!s->type)
        s->type = type;
}

static void take_addresses(struct ctx *x, struct sock *s)
{
    if (x->in.addr)
        address_set(&s->peer, x->in.addr, x->in.addr_len);
    if (x->in.local)
        address_set(&s->local, x->in.local, x->in.local_len);
    if (x->in.has_stat)
        s->ino = x->in.stat.ino;
}

static bool inet(const struct sock *s)
{
    return s->domain == AF_INET || s->domain == AF_INET6;
}

static bool unspec(const struct ctx *x)
{
    sa_family_t family = AF_UNSPEC;

    if (x->in.addr && x->in.addr_len >= sizeof(family))
        memcpy(&family, x->in.addr, sizeof(family));
    return x->in.addr && family == AF_UNSPEC;
}

static void do_socket(struct ctx *x)
{
    struct file *f = file_new(&x->c->model, FDK_SOCKET, "socket", 6);

    file_sock(f, arg_int(x, 0), arg_int(x, 1) & 0xf, arg_int(x, 2));
    fds_open(x->p, x->r->ret, f, made_gen(x), x->r->arg[1] & SOCK_CLOEXEC, x->time);
}

static void do_bind(struct ctx *x)
{
    struct desc *d = sock_desc(x, arg_int(x, 0));
    const void *p = x->in.local ? x->in.local : x->in.addr;
    struct sock *s;

    if (!d || !p)
        return;
    s = d->file->sock;
    address_set(&s->local, p, x->in.local ? x->in.local_len : x->in.addr_len);
    guess_domain(s, 0);
    if (inet(s))
        fds_gauge(x->p, d, DF_PORT, arg_int(x, 0), x->time);
}

static void do_connect(struct ctx *x)
{
    struct desc *d = sock_desc(x, arg_int(x, 0));
    struct sock *s;

    if (!d || unspec(x))
        return;
    s = d->file->sock;
    take_addresses(x, s);
    guess_domain(s, SOCK_STREAM);
    if (s->domain == AF_NETLINK || (s->flags & SOCKF_OPEN))
        return;
    if (!(s->flags & SOCKF_PENDING)) /* else this is the second call, which tells the outcome of the first */
        s->open_ns = x->time;
    s->flags |= SOCKF_CONNECTED;
    if (inet(s))
        fds_gauge(x->p, d, DF_PORT, arg_int(x, 0), x->time);
    if (x->r->ret < 0 || (x->r->kind == REC_CALL && x->r->arg[5] == 1))
        s->flags |= SOCKF_PENDING;
    else
        report_net_open(x->p, arg_int(x, 0), d, s->open_ns);
}

/* A connection that was begun hasn't come about. err 0: nobody knows why. */
static void connect_failed(struct ctx *x, struct sock *s, int err)
{
    s->flags &= (uint16_t)~SOCKF_PENDING;
    report_error(x->p, ERR_CONNECTION, op_name(OP_connect), err, "", 0, s, x->time);
}

/* What has become of a connection, or that one was begun by sending. */
static void connection_told(struct ctx *x)
{
    int64_t fd = (int64_t)x->r->arg[0];
    struct desc *d = fds_lookup_gen(x->p, fd, x->p->borrowed ? 0 : (uint32_t)x->r->arg[5]);
    struct sock *s;

    if (!d || !d->file || (d->gen != (uint32_t)x->r->arg[5] && !x->p->borrowed) ||
        (x->in.addr ? d->file->kind != FDK_SOCKET && d->file->kind != FDK_UNKNOWN : !d->file->sock))
        return;
    if (x->in.addr && (x->r->ret == 0 || x->r->ret == -EINPROGRESS)) {
        do_connect(x);
        return;
    }
    s = d->file->sock;
    if (!s || !(s->flags & SOCKF_PENDING))
        return;
    if (x->in.local)
        address_set(&s->local, x->in.local, x->in.local_len);
    if (x->r->ret == 0)
        report_net_open(x->p, fd, d, s->open_ns);
    else if (x->r->ret > -ERRNO_MAX - 1 && x->r->ret < 0)
        connect_failed(x, s, x->r->ret == -EIO ? 0 : (int)-x->r->ret);
}

#define PEER_LOOK_SHARE 20 /* part of the collector's time that may go into such looks: one in so many */

/* In a sandbox the probe can't ask who the other side of a connection is. */
static void ask_peer(struct ctx *x, struct sock *s)
{
    uint64_t now = clock_now_mono();
    struct sockaddr_storage peer;
    struct fd_entry e;

    if (!inet(s) || x->p->host_pid <= 0 || x->p->dead || x->p->borrowed || now < x->c->next_peer_look)
        return;
    if (!pi_tcp_peer(x->p->host_pid, (int)x->r->ret, s->domain, &peer) &&
        segment_fd(&x->seg->map, (uint64_t)x->r->ret, &e) && e.gen == made_gen(x)) /* it was that connection's till now */
        address_set(&s->peer, &peer, sizeof(peer));
    x->c->next_peer_look = now + (clock_now_mono() - now) * PEER_LOOK_SHARE;
}

static void do_accept(struct ctx *x)
{
    struct desc *listener = sock_desc(x, arg_int(x, 0)), *d;
    struct file *f = file_new(&x->c->model, FDK_SOCKET, "socket", 6);
    struct sock *s;
    const struct sock *from = listener ? listener->file->sock : NULL;

    s = file_sock(f, from ? from->domain : 0, from && from->type ? from->type : SOCK_STREAM, from ? from->protocol : 0);
    if (from)
        s->local = from->local;
    take_addresses(x, s);
    guess_domain(s, SOCK_STREAM);
    if (!x->in.addr && !x->in.local)
        ask_peer(x, s);
    s->open_ns = x->time;
    s->flags |= SOCKF_ACCEPTED;
    d = fds_open(x->p, x->r->ret, f, made_gen(x), x->op == OP_accept4 && (x->r->arg[3] & SOCK_CLOEXEC), x->time);
    if (!d)
        return;
    if (inet(s))
        fds_gauge(x->p, d, DF_PORT, x->r->ret, x->time);
    report_net_open(x->p, x->r->ret, d, x->time);
}

/* --- transfers --- */

/* `bytes` went through fd. counted: they are in the segment's counters. */
static void transferred(struct ctx *x, int64_t fd, bool out, uint64_t bytes)
{
    const struct pipeline *pl = x->p->pl;
    bool counted = x->r->flags & REC_F_COUNTED && !x->p->borrowed, sock;
    struct desc *d = fds_lookup(x->p, fd);
    struct io_count n = {0}, metric;
    size_t len;
    const char *name;

    if (!d || !d->file)
        return;
    if (out)
        n = (struct io_count){.wb = bytes, .wo = 1, .wt = x->ns};
    else
        n = (struct io_count){.rb = bytes, .ro = 1, .rt = x->ns};
    if (!counted)
        account_desc(d, &n);
    sock = d->file->kind == FDK_SOCKET;
    metric = n;
    if (sock ? pl->per_op[out ? TM_NET_TX : TM_NET_RX] : pl->per_op[out ? TM_FS_WRITE : TM_FS_READ]) {
        name = fds_name(d, &len);
        report_op(x->p, sock ? (out ? TM_NET_TX : TM_NET_RX) : out ? TM_FS_WRITE : TM_FS_READ, bytes, fd, d, x->name,
                  name, len, x->time);
        if (!sock && pl->per_op[TM_FS_DURATION] && x->ns)
            report_op(x->p, TM_FS_DURATION, x->ns / 1000 ? x->ns / 1000 : 1, fd, d, x->name, name, len, x->time);
        if (counted) { /* the counters will show it once more */
            d->said.rb += n.rb;
            d->said.ro += n.ro;
            d->said.rt += n.rt;
            d->said.wb += n.wb;
            d->said.wo += n.wo;
            d->said.wt += n.wt;
        }
    } else if (!counted) {
        account_sums(x->p, d, &metric);
    }
    if (d->file->sock && d->file->sock->flags & SOCKF_PENDING)
        report_net_open(x->p, fd, d, d->file->sock->open_ns);
    if (d->file->sock && !out && !bytes && d->file->sock->type == SOCK_STREAM)
        d->file->sock->flags |= SOCKF_REMOTE;
}

/* What was received stays, or isn't what the peer sent. */
static bool peeked(const struct ctx *x)
{
    switch (x->desc->shape) {
    case SHP_RECVFROM: case SHP_RECVMMSG: return x->r->arg[3] & (MSG_PEEK | MSG_ERRQUEUE);
    case SHP_RECVMSG: return x->r->arg[2] & (MSG_PEEK | MSG_ERRQUEUE);
    default: return false;
    }
}

/* A datagram socket without connection: its first partner makes a flow. */
static void flow(struct ctx *x, int64_t fd)
{
    struct desc *d;
    struct sock *s;

    if (!x->in.addr)
        return;
    d = sock_desc(x, fd);
    if (!d)
        return;
    s = d->file->sock;
    if ((s->flags & SOCKF_OPEN) || (s->type && s->type != SOCK_DGRAM) || unspec(x))
        return;
    take_addresses(x, s);
    guess_domain(s, SOCK_DGRAM);
    if (s->domain == AF_NETLINK || s->type != SOCK_DGRAM)
        return;
    s->open_ns = x->time;
    report_net_open(x->p, fd, d, x->time);
}

static void do_transfer(struct ctx *x)
{
    uint64_t bytes = (uint64_t)x->r->ret;

    switch (x->desc->shape) {
    case SHP_READ: case SHP_READV:
        transferred(x, arg_int(x, 0), false, bytes);
        break;
    case SHP_WRITE: case SHP_WRITEV: case SHP_VMSPLICE:
        transferred(x, arg_int(x, 0), true, bytes);
        break;
    case SHP_SENDFILE:
        transferred(x, arg_int(x, 1), false, bytes);
        transferred(x, arg_int(x, 0), true, bytes);
        break;
    case SHP_SPLICE: case SHP_COPY:
        transferred(x, arg_int(x, 0), false, bytes);
        transferred(x, arg_int(x, 2), true, bytes);
        break;
    case SHP_TEE:
        transferred(x, arg_int(x, 1), true, bytes);
        break;
    case SHP_SENDMMSG: case SHP_RECVMMSG:
        bytes = x->r->arg[5];
        /* fall through */
    case SHP_SENDTO: case SHP_SENDMSG: case SHP_RECVFROM: case SHP_RECVMSG:
        flow(x, arg_int(x, 0));
        if (!peeked(x)) {
            bool out = x->desc->shape == SHP_SENDTO || x->desc->shape == SHP_SENDMSG || x->desc->shape == SHP_SENDMMSG;

            if (x->desc->shape == SHP_RECVFROM && x->r->arg[3] & MSG_TRUNC && bytes > x->r->arg[2])
                bytes = x->r->arg[2];
            transferred(x, arg_int(x, 0), out, bytes);
        }
        if (x->in.fds && (x->desc->shape == SHP_SENDMSG || x->desc->shape == SHP_SENDMMSG))
            do_passed(x);
        else if (x->in.fds)
            do_received(x);
        break;
    default:
        break;
    }
}

/* What went through a socket. */
static void do_traffic(struct ctx *x)
{
    const struct record *r = x->r;
    int64_t fd = (int64_t)r->arg[0];
    uint32_t gen = (uint32_t)r->arg[5];
    struct desc *d = fd >= 0 ? fds_lookup(x->p, fd) : NULL;
    struct traffic t = {
        .dir = r->arg[3] == DATA_TX || r->arg[3] == DATA_TLS_TX || r->arg[3] == DATA_HELLO_TX ? PROTO_TX : PROTO_RX,
        .tls = r->arg[3] == DATA_TLS_TX || r->arg[3] == DATA_TLS_RX, .object = r->arg[4],
        .placed = r->arg[2] < TRAFFIC_MAX && r->arg[1] < TRAFFIC_MAX && r->ret >= 0 && r->ret < TRAFFIC_MAX,
        .position = r->arg[2], .offset = r->arg[1], .bytes = r->ret > 0 ? (uint64_t)r->ret : 0,
        .data = x->in.data, .len = x->in.data_len, .name = x->in.addr, .name_len = x->in.addr_len, .time_ns = x->time,
    };

    t.life = t.tls ? (uint32_t)r->arg[2] : 0;
    x->p->tls_read |= t.tls && (r->ret || t.data || !t.object); /* not: an object begins, or ends */
    if (r->arg[3] == DATA_HELLO_TX || r->arg[3] == DATA_HELLO_RX) {
        tls_object_hello(x->p, &t);
        return;
    }
    if (t.tls && !r->ret && !t.data) {
        if (t.object)
            tls_object_end(x->p, t.object, x->time);
        else
            tls_objects_missed(x->p, x->time);
        return;
    }
    if (d && d->file && d->gen != gen && !t.tls && !x->p->borrowed) { /* its close, and an open, were lost */
        fds_forget(x->p, fd);
        d = fds_lookup_gen(x->p, fd, gen);
    }
    if (!d || !d->file) {
        if (t.tls)
            tls_object_data(x->p, &t);
        return;
    }
    if (d->file->kind != FDK_SOCKET && d->file->kind != FDK_UNKNOWN) /* if we know nothing, the probe knew better */
        return;
    if (!d->file->sock)
        file_sock(d->file, 0, 0, 0)->flags |= SOCKF_JOINED;
    if (d->file->sock->flags & SOCKF_PENDING) /* a process that shares it has begun it */
        report_net_open(x->p, fd, d, d->file->sock->open_ns);
    if (t.tls && (!d->file->sock->plain || d->file->sock->plain->object != t.object))
        tls_object_at(x->p, &t, fd, d->file->channel);
    stream_data(x->p, fd, d, &t);
}

/* A socket of which no call was seen that made it. */
static void socket_told(struct ctx *x)
{
    const struct record *r = x->r;
    uint32_t gen = (uint32_t)r->arg[5];
    struct desc *d = fds_lookup_gen(x->p, (int64_t)r->arg[0], x->p->borrowed ? 0 : gen);
    struct sock *s;

    if (!d || !d->file || (d->gen != gen && !x->p->borrowed) ||
        (d->file->kind != FDK_SOCKET && d->file->kind != FDK_UNKNOWN) || (d->file->sock && d->file->sock->domain))
        return;
    s = file_sock(d->file, (int)r->arg[1], (int)r->arg[2], (int)r->arg[3]);
    s->flags |= SOCKF_JOINED;
    take_addresses(x, s);
    if (s->flags & SOCKF_RECEIVED && x->in.addr && s->domain != AF_NETLINK) { /* its end will be told */
        s->flags |= SOCKF_OPEN;
        s->open_ns = x->time;
        fds_gauge(x->p, d, DF_CONN, (int64_t)r->arg[0], x->time);
    }
}

static void do_data(struct ctx *x)
{
    int64_t fd = (int64_t)x->r->arg[0];
    struct desc *d;
    const char *name;
    char source[NAME_BYTES + 1];
    uint64_t more;
    enum tm_text kind;
    size_t len;

    if (x->r->arg[3] != DATA_FILE)
        do_traffic(x);
    if (x->r->arg[3] > DATA_TX)
        return;
    d = fds_lookup(x->p, fd);
    if (!d || !d->file || (x->r->arg[3] == DATA_TX && !report_is_console(x->p, d)))
        return;
    if (d->want == FDW_UNDECIDED)
        fds_decide(x->p, fd, d);
    if (d->want != FDW_CAPTURE && d->want != FDW_SAMPLE)
        return;
    if (!x->in.data) { /* nobody could see it, or a guest in a full ring could only say that there was something */
        bool moved = x->r->arg[3] == DATA_FILE ? x->r->arg[4] == 1
                                               : x->desc->shape == SHP_SENDFILE || x->desc->shape == SHP_SPLICE;

        if (x->r->ret > 0 && (x->r->arg[3] == DATA_FILE || x->r->arg[1] < (uint64_t)x->r->ret))
            model_loss(&x->c->model, x->p, moved ? LK_MOVED : LK_DATA,
                        (uint64_t)x->r->ret - (x->r->arg[3] == DATA_FILE ? 0 : x->r->arg[1]));
        return;
    }
    name = d->flags & DF_STREAM ? fds_stream(d, &len) : fds_name(d, &len);
    if (len > NAME_BYTES)
        len = NAME_BYTES;
    if (len)
        memcpy(source, name, len);
    source[len] = 0;
    more = x->r->flags & REC_F_CUT && x->r->ret > 0 ? (uint64_t)x->r->ret : 0;
    more = more > x->r->arg[1] + x->in.data_len ? more - x->r->arg[1] - x->in.data_len : 0;
    kind = telemetry_message(x->p->pl->tm, &x->p->tm, d->flags & DF_STREAM ? CFG_EW_CONSOLE : CFG_EW_FILE, source, x->time,
                               d->channel, x->in.data, x->in.data_len, more);
    if (kind == TM_LINES && more)
        model_loss(&x->c->model, x->p, LK_DATA, more);
    if (x->r->arg[3] == DATA_FILE)
        fds_sample(x->p, fd, d, kind == TM_DATA && x->r->ret >= SAMPLE_FROM);
}

/* --- single operations on files --- */

static void count_op(struct ctx *x, enum tm_metric m)
{
    const struct desc *d = takes_fd(x) ? fd_get(&x->p->fds, fd_of(x), false) : NULL;

    if (x->p->pl->per_op[m])
        report_op(x->p, m, 1, fd_of(x), d, x->name, x->file, x->file ? x->file_len : 0, x->time);
    else
        x->p->sums.value[m]++;
}

#define FLAGS_MAX 9

/* The flags that a call on names was given, as in its manual page: what it does depends on them. Returns how many; number:
 * room for bits without a name. */
static size_t flag_names(const struct ctx *x, const char *ret[FLAGS_MAX], char number[24])
{
    static const struct {
        enum op_id op;
        uint8_t arg;
        uint32_t bit;
        const char *name;
    } all[] = {
        {OP_renameat2, 4, RENAME_NOREPLACE, "RENAME_NOREPLACE"}, {OP_renameat2, 4, RENAME_EXCHANGE, "RENAME_EXCHANGE"},
        {OP_renameat2, 4, RENAME_WHITEOUT, "RENAME_WHITEOUT"},
        {OP_linkat, 4, AT_SYMLINK_FOLLOW, "AT_SYMLINK_FOLLOW"}, {OP_linkat, 4, AT_EMPTY_PATH, "AT_EMPTY_PATH"},
        {OP_unlinkat, 2, AT_REMOVEDIR, "AT_REMOVEDIR"},
        {OP_fchownat, 4, AT_SYMLINK_NOFOLLOW, "AT_SYMLINK_NOFOLLOW"}, {OP_fchownat, 4, AT_EMPTY_PATH, "AT_EMPTY_PATH"},
        {OP_fchmodat2, 3, AT_SYMLINK_NOFOLLOW, "AT_SYMLINK_NOFOLLOW"}, {OP_fchmodat2, 3, AT_EMPTY_PATH, "AT_EMPTY_PATH"},
        {OP_utimensat, 3, AT_SYMLINK_NOFOLLOW, "AT_SYMLINK_NOFOLLOW"}, {OP_utimensat, 3, AT_EMPTY_PATH, "AT_EMPTY_PATH"},
        {OP_fallocate, 1, FALLOC_FL_KEEP_SIZE, "FALLOC_FL_KEEP_SIZE"},
        {OP_fallocate, 1, FALLOC_FL_PUNCH_HOLE, "FALLOC_FL_PUNCH_HOLE"},
        {OP_fallocate, 1, FALLOC_FL_COLLAPSE_RANGE, "FALLOC_FL_COLLAPSE_RANGE"},
        {OP_fallocate, 1, FALLOC_FL_ZERO_RANGE, "FALLOC_FL_ZERO_RANGE"},
        {OP_fallocate, 1, FALLOC_FL_INSERT_RANGE, "FALLOC_FL_INSERT_RANGE"},
        {OP_fallocate, 1, FALLOC_FL_UNSHARE_RANGE, "FALLOC_FL_UNSHARE_RANGE"},
    };
    uint32_t rest = 0;
    size_t n = 0;

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (all[i].op != x->op)
            continue;
        if (!i || all[i - 1].op != x->op)
            rest = (uint32_t)x->r->arg[all[i].arg];
        if (rest & all[i].bit)
            ret[n++] = all[i].name;
        rest &= ~all[i].bit;
    }
    if (rest) {
        snprintf(number, 24, "0x%x", rest);
        ret[n++] = number;
    }
    return n;
}

static void do_names(struct ctx *x)
{
    const char *file = x->file ? x->file : "";
    size_t len = x->file ? x->file_len : 0;
    const char *flags[FLAGS_MAX];
    char number[24];
    size_t n = flag_names(x, flags, number);
    unsigned un = unresolved(x);

    switch (x->desc->group) {
    case OPG_STAT:
        count_op(x, TM_FS_STAT);
        break;
    case OPG_DELETE:
        report_names(x->p, TM_FS_DELETE, "fs.delete", x->name, file, len, NULL, 0, un, flags, n, x->time);
        break;
    case OPG_RENAME:
        report_names(x->p, TM_FS_RENAME, "fs.rename", x->name, file, len, x->file2, x->file2_len, un, flags, n,
                     x->time);
        break;
    case OPG_CREATE:
        if (x->file2) /* what is made is the second name */
            report_names(x->p, TM_FS_CREATE, "fs.create", x->name, x->file2, x->file2_len, file, len,
                         (un & NAME_FIRST ? NAME_SECOND : 0) | (un & NAME_SECOND ? NAME_FIRST : 0), flags, n, x->time);
        else
            report_names(x->p, TM_FS_CREATE, "fs.create", x->name, file, len, NULL, 0, un, flags, n, x->time);
        break;
    case OPG_CHANGE:
        report_names(x->p, TM_FS_CHANGE, "fs.change", x->name, file, len, NULL, 0, un, flags, n, x->time);
        break;
    default:
        break;
    }
    if (x->op == OP_chroot) {
        x->p->root = ROOT_UNKNOWN;
        names_set_root(x->p, &(struct name){file, len, x->plain, x->tail});
    }
    if (x->op == OP_chdir)
        names_set_cwd(x->p, &(struct name){file, len, x->plain, x->tail});
}

static void do_fdop(struct ctx *x)
{
    const char *flags[FLAGS_MAX];
    char number[24];
    struct desc *d;

    switch (x->op) {
    case OP_fsync: case OP_fdatasync:
        count_op(x, TM_FS_SYNC);
        return;
    case OP_lseek:
        count_op(x, TM_FS_SEEK);
        return;
    case OP_fchdir:
        d = fd_get(&x->p->fds, arg_int(x, 0), false);
        if (d && d->file)
            names_set_cwd(x->p, &(struct name){d->file->path, d->file->path_len, d->file->plain, d->file->tail});
        else
            names_set_cwd(x->p, &(struct name){"", 0, 0, 0});
        return;
    case OP_listen:
        d = sock_desc(x, arg_int(x, 0));
        if (!d)
            return;
        d->file->sock->flags |= SOCKF_LISTENING;
        if (inet(d->file->sock))
            fds_gauge(x->p, d, DF_PORT, arg_int(x, 0), x->time);
        guess_domain(d->file->sock, SOCK_STREAM);
        fds_gauge(x->p, d, DF_CONN, arg_int(x, 0), x->time);
        return;
    default:
        if (x->desc->group == OPG_STAT)
            count_op(x, TM_FS_STAT);
        else if (x->desc->group == OPG_CHANGE)
            report_names(x->p, TM_FS_CHANGE, "fs.change", x->name, x->file ? x->file : "", x->file ? x->file_len : 0, NULL,
                         0, unresolved(x), flags, flag_names(x, flags, number), x->time);
    }
}

static void do_fcntl(struct ctx *x)
{
    struct desc *d;

    switch (arg_int(x, 1)) {
    case F_DUPFD:
        do_dup(x, arg_int(x, 0), x->r->ret, false);
        break;
    case F_DUPFD_CLOEXEC:
        do_dup(x, arg_int(x, 0), x->r->ret, true);
        break;
    case F_SETFD:
        d = fds_lookup(x->p, arg_int(x, 0));
        if (d && d->file)
            d->flags = (uint8_t)((d->flags & ~DF_CLOEXEC) | (x->r->arg[2] & FD_CLOEXEC ? DF_CLOEXEC : 0));
        break;
    default:
        break;
    }
}

static void do_ioctl(struct ctx *x)
{
    struct desc *d;

    if ((uint32_t)x->r->arg[1] != FIOCLEX && (uint32_t)x->r->arg[1] != FIONCLEX)
        return;
    d = fds_lookup(x->p, arg_int(x, 0));
    if (d && d->file)
        d->flags = (uint8_t)((d->flags & ~DF_CLOEXEC) | ((uint32_t)x->r->arg[1] == FIOCLEX ? DF_CLOEXEC : 0));
}

struct range {
    struct ctx *x;
    uint32_t first, last;
    bool cloexec;
};

static void range_one(void *arg, int fd, struct desc *d)
{
    struct range *w = arg;

    if ((uint32_t)fd < w->first || (uint32_t)fd > w->last)
        return;
    if (w->cloexec)
        d->flags |= DF_CLOEXEC;
    else
        fds_close(w->x->p, fd, w->x->name, w->x->time, true);
}

static void do_range(struct ctx *x, bool cloexec)
{
    struct range w = {x, (uint32_t)x->r->arg[0], (uint32_t)x->r->arg[1], cloexec};

    fd_table_each(&x->p->fds, range_one, &w);
}

/* Before the call; descriptors in use come with their counters, at most 16 in a record, fewer in the last one. */
static void enter_range(struct ctx *x)
{
    struct rec_item item;
    const void *data;
    uint32_t at = 0, n = 0;

    if (x->r->arg[2] & CLOSE_RANGE_CLOEXEC)
        return;
    while (record_item(x->r, x->size, &at, &item, &data))
        n += item.type == ITEM_COUNTERS;
    take_counters(x, true);
    if (n < 16)
        do_range(x, false);
}

/* --- failures --- */

static bool benign(int err)
{
    return err == EAGAIN || err == EINTR || err == EINPROGRESS || err == EALREADY;
}

static uint32_t fork_id(const struct ctx *x)
{
    return (uint32_t)x->r->arg[5] & ~REC_PID_FORK;
}

/* Whether the failure of a call on a socket says what has become of its connection. */
static bool ends_connect(const struct ctx *x, int err)
{
    if (x->desc->shape == SHP_CONNECT)
        return true;
    switch (err) {
    case ECONNREFUSED: case ECONNRESET: case ETIMEDOUT: case EHOSTUNREACH: case ENETUNREACH: case EHOSTDOWN: case ENETDOWN:
        return x->desc->group == OPG_READ_WRITE || x->desc->group == OPG_RX_TX;
    default:
        return false;
    }
}

/* Whether the call was to begin a connection by what it sends (tcp(7)). */
static bool fast_open(const struct ctx *x)
{
    return (x->desc->shape == SHP_SENDTO && x->r->arg[3] & MSG_FASTOPEN) ||
           (x->desc->shape == SHP_SENDMSG && x->r->arg[2] & MSG_FASTOPEN);
}

static void failed(struct ctx *x)
{
    const struct desc *d = takes_fd(x) ? fd_get(&x->p->fds, fd_of(x), false) : NULL;
    struct sock *s = d && d->file ? d->file->sock : NULL;
    int err = (int)-x->r->ret;
    enum err_class k;

    if (x->desc->shape == SHP_CONNECT && (err == EINPROGRESS || err == EINTR)) {
        do_connect(x);
        return;
    }
    if (x->desc->shape == SHP_CONNECT && err == EISCONN && s && s->flags & SOCKF_PENDING) {
        report_net_open(x->p, fd_of(x), (struct desc *)d, s->open_ns);
        return;
    }
    if (s && s->flags & SOCKF_PENDING && !benign(err) && ends_connect(x, err)) {
        connect_failed(x, s, err);
        return;
    }
    if (x->desc->shape == SHP_CLONE)
        forks_told(x->c, x->p, x->r->tid, fork_id(x), x->r->ret, x->time);
    if (x->desc->shape == SHP_EXEC) {
        free(x->p->pending_exec);
        free(x->p->exec_path);
        x->p->pending_exec = x->p->exec_path = NULL;
    }
    if (err > ERRNO_MAX || benign(err))
        return;
    if (s && (err == EPIPE || err == ECONNRESET))
        s->flags |= SOCKF_REMOTE;
    if (x->desc->group == OPG_DESC && (x->desc->shape == SHP_IOCTL ||
                                       (x->desc->shape == SHP_FCNTL && arg_int(x, 1) != F_DUPFD &&
                                        arg_int(x, 1) != F_DUPFD_CLOEXEC)))
        return; /* questions, such as whether it is a terminal */
    k = err_class_of(x->desc->group);
    if (k == ERR_READ_WRITE && d && d->file && d->file->kind == FDK_SOCKET)
        k = ERR_RX_TX;
    if (k == ERR_RX_TX && fast_open(x) && !(s && s->flags & SOCKF_OPEN))
        k = ERR_CONNECTION;
    if (k == ERR_MAX)
        return;
    report_error(x->p, k, x->name, err, x->file ? x->file : "", x->file ? x->file_len : 0, s, x->time);
}

/* --- calls --- */

static void do_wait(struct ctx *x)
{
    uint32_t pid = x->op == OP_waitid ? (uint32_t)x->r->arg[5] : (uint32_t)x->r->ret;
    bool ours = x->p->host_pid == (pid_t)x->p->pid; /* its numbers are ours */
    struct proc *p = ours ? proc_by_host_pid(&x->c->model, (pid_t)pid) : NULL;

    if (!x->in.has_status || !pid || (!WIFEXITED(x->in.status) && !WIFSIGNALED(x->in.status)))
        return;
    if (!p || p->parent != x->p || p->waited)
        for (p = x->p->children; p && (p->pid != pid || p->waited); p = p->sibling_next)
            ;
    if (!p)
        return;
    p->waited = true;
    p->wait_status = x->in.status;
    if (p->host_pid <= 0 && !p->exec_op) /* nothing else would tell; but see core_turn() */
        proc_died(p);
}

static bool is_single(const struct proc *p)
{
    struct pi_stat st;

    return p->host_pid > 0 && !pi_stat(p->host_pid, &st) && st.threads == 1;
}

static void completed(struct ctx *x)
{
    if (x->op == OP_setns || x->op == OP_unshare) {
        x->p->root = ROOT_UNKNOWN;
        if (x->op == OP_setns && (!x->r->arg[1] || x->r->arg[1] & CLONE_NEWNS)) /* may be a mount namespace: begins anew */
            names_set_root(x->p, NULL);
        else
            x->p->view = VIEW_UNKNOWN;
        if (x->op == OP_unshare && x->r->arg[0] & CLONE_FS && (x->r->tid != x->r->pid || !is_single(x->p))) {
            /* each thread may go elsewhere by itself from now on */
            x->p->own_cwds = true;
            names_set_cwd(x->p, &(struct name){"", 0, 0, 0});
        }
        x->p->new_pids |= x->op == OP_setns || (x->r->arg[0] & CLONE_NEWPID);
    }
    switch (x->desc->shape) {
    case SHP_OPEN:
        do_open(x);
        break;
    case SHP_CLOSE:
        take_counters(x, false);
        if (!fd_get(&x->p->fds, arg_int(x, 0), false) || !fd_get(&x->p->fds, arg_int(x, 0), false)->file)
            fds_lookup(x->p, arg_int(x, 0)); /* it was open: something inherited */
        fds_close(x->p, arg_int(x, 0), x->name, x->time, true);
        break;
    case SHP_CLOSE_RANGE:
        if (x->r->arg[2] & CLOSE_RANGE_CLOEXEC)
            do_range(x, true);
        break;
    case SHP_READ: case SHP_READV: case SHP_WRITE: case SHP_WRITEV: case SHP_SENDFILE: case SHP_SPLICE: case SHP_TEE:
    case SHP_VMSPLICE: case SHP_COPY: case SHP_SENDTO: case SHP_RECVFROM: case SHP_SENDMSG: case SHP_RECVMSG:
    case SHP_SENDMMSG: case SHP_RECVMMSG:
        do_transfer(x);
        break;
    case SHP_FDOP:
        do_fdop(x);
        break;
    case SHP_PATHS: case SHP_READLINK:
        do_names(x);
        break;
    case SHP_DUP:
        do_dup(x, arg_int(x, 0), x->r->ret, false);
        break;
    case SHP_DUP2:
        take_counters(x, false);
        do_dup(x, arg_int(x, 0), arg_int(x, 1), x->op == OP_dup3 && (x->r->arg[2] & O_CLOEXEC));
        break;
    case SHP_FCNTL:
        do_fcntl(x);
        break;
    case SHP_IOCTL:
        do_ioctl(x);
        break;
    case SHP_PIPE: case SHP_SOCKETPAIR:
        do_pair(x);
        break;
    case SHP_MAKE: case SHP_URING_SETUP:
        do_make(x);
        break;
    case SHP_SOCKET:
        do_socket(x);
        break;
    case SHP_ADDRESS:
        do_bind(x);
        break;
    case SHP_CONNECT:
        do_connect(x);
        break;
    case SHP_ACCEPT:
        do_accept(x);
        break;
    case SHP_CLONE:
        forks_told(x->c, x->p, x->r->tid, fork_id(x), x->r->ret, x->time);
        break;
    case SHP_WAIT:
        do_wait(x);
        break;
    default:
        break;
    }
}

/* flags: of clone(2) */
static void begin_fork(const struct ctx *x, uint64_t flags)
{
    struct fork_pending *f =
        fork_begin(x->p, x->r->tid, fork_id(x), x->op == OP_vfork || (flags & CLONE_VFORK), (flags & CLONE_PARENT) != 0,
                   x->time);

    f->new_pids = (flags & CLONE_NEWPID) != 0;
}

static void entered(struct ctx *x)
{
    struct proc *p = x->p;
    const struct desc *d;

    switch (x->desc->shape) {
    case SHP_CLOSE:
        if (p->pl->event[CFG_EW_SYSCALL] && (d = fd_get(&p->fds, arg_int(x, 0), false)) && d->file) {
            if (p->closed_file)
                file_unref(&x->c->model, p->closed_file);
            p->closed_file = NULL;
            if (d->file->kind != FDK_SOCKET) /* a reference would keep a connection open */
                p->closed_file = file_ref(d->file);
            p->closed_fd = arg_int(x, 0);
        }
        take_counters(x, false);
        fds_close(p, arg_int(x, 0), x->name, x->time, true);
        break;
    case SHP_CLOSE_RANGE:
        enter_range(x);
        break;
    case SHP_CLONE:
        if (!(x->r->arg[0] & CLONE_THREAD) || x->op == OP_fork || x->op == OP_vfork)
            begin_fork(x, x->op == OP_fork || x->op == OP_vfork ? 0 : x->r->arg[0]);
        break;
    case SHP_EXEC:
        free(p->pending_exec);
        free(p->exec_path);
        p->pending_exec = p->exec_path = NULL;
        if (x->in.path) {
            struct name_use use = {.dirfd = x->op == OP_execveat ? arg_int(x, 0) : AT_FDCWD, .path = x->in.path,
                                   .len = x->in.path_len, .fd = -1};
            struct name name;

            names_resolve(p, &use, 0, &name);
            p->pending_exec = xstrndup(name.p, name.len);
            p->exec_path = xstrndup(x->in.path, x->in.path_len);
        }
        p->exec_ns = x->time;
        p->exec_tid = x->r->tid;
        p->exec_op = x->r->op;
        p->exec_told = false;
        memcpy(p->exec_args, x->r->arg, sizeof(p->exec_args));
        break;
    case SHP_EXIT:
        if (p->pl->event[CFG_EW_SYSCALL])
            tell_syscall(x);
        if (x->in.has_usage && x->in.usage.cpu_us < UINT64_MAX / 1000) {
            if (x->in.usage.cpu_us * 1000 > p->cpu_ns)
                p->cpu_ns = x->in.usage.cpu_us * 1000;
            p->peak_rss_kib = x->in.usage.maxrss_kib;
        }
        if (x->op == OP_exit_group) {
            p->exit_recorded = true;
            p->exit_code = arg_int(x, 0) & 0xff;
            p->exit_ns = x->time;
            if (p->host_pid <= 0)
                proc_died(p);
        } else if (x->r->tid == p->pid) {
            p->leader_exit = true;
            p->leader_code = arg_int(x, 0) & 0xff;
            p->exit_ns = x->time;
        }
        break;
    default:
        break;
    }
}

#define EXE_LINK "/proc/self/exe"

/* Why code could not be changed (error of mprotect(2) or mmap(2)). */
static const char *code_reason(int err)
{
    switch (err) {
    case EACCES:
        return "MemoryDenyWriteExecute (PR_SET_MDWE) or SELinux (execmem, execmod) forbids it, and /proc/self/mem can't be "
               "written to";
    case EPERM:
        return "a seccomp filter forbids it (MemoryDenyWriteExecute), and /proc/self/mem can't be written to";
    case ENOMEM:
        return "there is no memory for ours within 2 GiB of it";
    default:
        return strerror(err);
    }
}

static void noted(struct ctx *x)
{
    static const char *const texts[] = {
        [NOTE_EXEC_STATIC] = "starts a static program: not observed",
        [NOTE_EXEC_32BIT] = "starts a 32-bit program: not observed",
        [NOTE_EXEC_SETID] = "starts a program with set-user-ID, set-group-ID or file capabilities: left alone",
        [NOTE_EXEC_ARCH] = "starts a program for another architecture: not observed",
        [NOTE_EXEC_LIB] = "starts a program that can't reach the probe's file or the collector (other root, namespace or permissions): not observed",
        [NOTE_IMAGE_NOPLAN] = "no patch plan in time: calls made in this image are not observed",
        [NOTE_IMAGE_PATCH] = "code can't be changed: calls made in this image are not observed",
        [NOTE_SECCOMP] = "entered seccomp: its children share its ring, paths may be missing",
        [NOTE_IO_URING] = "uses io_uring with rings that can't be read: what is submitted through them is not observed",
        [NOTE_NO_SEGMENT] = "a child got no memory for a segment of its own: it shares its parent's",
        [NOTE_IMAGE_GO] = "Go code needs Linux 5.9 and a CPU with FSGSBASE: calls made in this image are not observed",
        [NOTE_DISPATCH] = "uses Syscall User Dispatch: what the program could not be asked for is missing, such as some paths",
        [NOTE_IMAGE_NO_SITE] = "no system call was found that can be observed: the program is packed or makes its code as it runs",
    };
    uint64_t code = x->r->arg[0];
    const char *text = code < sizeof(texts) / sizeof(texts[0]) && texts[code] ? texts[code] : "something is not observed";
    const char *file = x->in.path;
    size_t len = x->in.path_len;
    char why[256];

    if ((code == NOTE_EXEC_STATIC || code == NOTE_EXEC_LIB) && x->r->arg[1] && x->r->arg[1] <= ERRNO_MAX) {
        snprintf(why, sizeof(why), "%s: %s", text, load_reason((int)x->r->arg[1]));
        text = why;
    } else if (code == NOTE_IMAGE_PATCH && x->r->arg[1] && x->r->arg[1] <= ERRNO_MAX) {
        snprintf(why, sizeof(why), "%s (%s)", text, code_reason((int)x->r->arg[1]));
        text = why;
    }
    x->p->sandboxed |= code == NOTE_SECCOMP;
    x->p->images_missed |= code == NOTE_IMAGE_NOPLAN;
    if (code == NOTE_EXEC_LISTS) { /* nothing is missing: the program doesn't run */
        x->p->exec_told = true;
        return;
    }
    if (code >= NOTE_EXEC_STATIC && code <= NOTE_EXEC_LIB) {
        x->p->exec_told = true;
        if (file) {
            struct name_use use = {.dirfd = x->p->exec_op == OP_execveat ? (int32_t)x->p->exec_args[0] : AT_FDCWD,
                                   .path = file, .len = len, .fd = -1};
            struct name name;

            names_resolve(x->p, &use, 0, &name);
            file = name.p;
            len = name.len;
        }
    }
    /* What the probe has instead of a name. */
    if (file && x->p->tm.exe && len == sizeof(EXE_LINK) - 1 && memcmp(file, EXE_LINK, len) == 0) {
        file = x->p->tm.exe;
        len = strlen(file);
    }
    report_note(x->p, text, file, file ? len : 0, x->time);
}

/* Calls that are made at some places of an image aren't seen: told once in a session for each image. Why all of an image
 * isn't observed the probe has told itself. */
static void tell_hidden(const struct ctx *x, const char *name, size_t len)
{
    const struct rec_sites *sites = x->in.sites;
    uint32_t n = plan_sites_hidden(&sites->sites);
    struct buf text = BUF_INIT;

    if (!n || images_has(x->c->model.hidden, name, len, sites) || images_unlisted(x->c->model.hidden))
        return;
    images_add(&x->c->model.hidden, name, len, sites);
    model_loss(&x->c->model, x->p, LK_SITE, n);
    if (sites->sites.refused[PLAN_R_PROTECTED] || sites->sites.refused[PLAN_R_NO_POINTER])
        return;
    buf_printf(&text, "calls made at %u place%s of this image are not observed (", n, n == 1 ? "" : "s");
    for (unsigned i = 0, any = 0; i < PLAN_REASON_MAX; i++)
        if (sites->sites.refused[i] && plan_reason_hides(i))
            buf_printf(&text, "%s%u: %s", any++ ? "; " : "", sites->sites.refused[i], plan_reason_name(i));
    buf_char(&text, ')');
    report_note(x->p, buf_cstr(&text), name, len, x->time);
    buf_free(&text);
}

/* An image that the process runs; the probe knows no better name of the program than the kernel's link to it. */
static void image_seen(const struct ctx *x)
{
    const struct parts *in = &x->in;
    const char *exe = x->p->tm.exe, *name = in->path ? in->path : "";
    size_t len = in->path ? in->path_len : 0;

    if (!in->sites)
        return;
    if (exe && in->path_len == strlen(SELF_EXE) && memcmp(in->path, SELF_EXE, in->path_len) == 0) {
        name = exe;
        len = strlen(exe);
    }
    images_add(&x->p->images, name, len, in->sites);
    tell_hidden(x, name, len);
    log_debug("%s[%u]: %.*s: %u sites observed, %u left alone", x->p->tm.proc, x->p->pid, (int)in->path_len,
              in->path ? in->path : "", plan_sites_patched(&in->sites->sites), plan_sites_refused(&in->sites->sites));
}

void decode_record(struct collector *c, struct segment *seg, const struct record *r, uint32_t size, uint64_t arrival)
{
    struct ctx x = {.c = c, .seg = seg, .r = r, .size = size};

    x.time = clock_to_real(&c->model.clock, seg->map.info.clock, r->time, arrival);
    x.p = segment_find(seg, r->pid, r->flags & REC_F_BORROWED);
    if ((r->flags & REC_F_BORROWED) && (!x.p || forks_reused(x.p, x.time)))
        x.p = forks_borrower(c, seg, r->pid, r->flags & REC_F_VFORK, x.time);
    if (!x.p || !x.p->pl)
        return;
    c->records++;
    if (r->kind == REC_UPGRADE) {
        life_upgrade(x.p);
        return;
    }
    x.op = r->op < OP_MAX ? (enum op_id)r->op : OP_NONE;
    x.desc = &op_table[x.op];
    x.name = op_name(x.op);
    if (r->flags & REC_F_TIMED)
        x.ns = clock_ticks_ns(&c->model.clock, seg->map.info.clock, r->ticks);
    parse(&x);
    switch (r->kind) {
    case REC_CALL:
        if (x.op == OP_NONE)
            return;
        resolve(&x);
        if (x.p->pl->event[CFG_EW_SYSCALL])
            tell_syscall(&x);
        if (r->ret < 0 && r->ret >= -ERRNO_MAX)
            failed(&x);
        else if (!(r->flags & REC_F_SAID))
            completed(&x);
        break;
    case REC_ENTER:
        if (x.op != OP_NONE)
            entered(&x);
        break;
    case REC_DATA:
        do_data(&x);
        break;
    case REC_IMAGE:
        image_seen(&x);
        break;
    case REC_NOTE:
        noted(&x);
        break;
    case REC_SOCKET:
        socket_told(&x);
        break;
    case REC_CONNECT:
        connection_told(&x);
        break;
    default:
        break;
    }
}
