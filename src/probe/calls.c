/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hooks: what is done before and after an observed system call, by the
 * shape of its arguments (wire/syscalls.h). Entered from arch/<arch>/entry.S on
 * the program's stack.
 *
 * Memory of the program is read directly where the kernel has just read it too
 * (the call succeeded, or failed in a way that comes after reading), otherwise
 * after mem_readable().
 */
#include <asm/errno.h>
#include <asm/socket.h>
#include <asm/stat.h>
#include <linux/close_range.h>
#include <linux/fcntl.h>
#include <linux/mman.h>
#include <linux/prctl.h>
#include <linux/resource.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/stat.h>

#include "aio.h"
#include "calls.h"
#include "exec.h"
#include "functions.h"
#include "images.h"
#include "ring.h"
#include "traffic.h"
#include "uring.h"

#define HIDDEN __attribute__((visibility("hidden")))

/* Values of the socket ABI that no UAPI header exports. */
#define MSG_PEEK 2
#define MSG_TRUNC 0x20
#define MSG_ERRQUEUE 0x2000
#define MSG_ASIDE (MSG_PEEK | MSG_ERRQUEUE) /* what is received so stays, or isn't what the peer sent */
#define MSG_CMSG_CLOEXEC 0x40000000
#define SOCK_CLOEXEC 02000000
#define SCM_RIGHTS 1
#define SOCK_STREAM 1
#define AF_UNIX 1
#define F_DUPFD_CLOEXEC_ 1030
#define FIOCLEX_ 0x5451
#define FIONCLEX_ 0x5450
#define FD_CLOEXEC_ 1
#define PR_SET_SYSCALL_USER_DISPATCH_ 59
#define SANDBOX_FDS 32
#define DESCRIPTOR_SIZE 2048 /* of the C library's thread descriptor, at the thread pointer: no more of it than that */
#define ITEMS 6

_Static_assert(sizeof(struct regs) == 96 && offsetof(struct regs, slot) == 56 && offsetof(struct regs, sp) == 64 &&
                   offsetof(struct regs, stash_key) == 80,
               "entry.S knows struct regs");
_Static_assert(offsetof(struct plan_slot, tail) == 8 && offsetof(struct plan_slot, flags) == 20 &&
                   offsetof(struct plan_slot, site_pc) == 24,
               "entry.S knows struct plan_slot");

_Static_assert(PLAN_F_NR_KEPT == 0x100 && OP_NR_MAX == 512 && SCF_ENTER == 2 && SCF_TIMED == 4 &&
                   offsetof(struct probe, timing) == 41,
               "entry.S knows what to do before a call");

/* For entry.S, by number: 0 if the call isn't observed, else 1 with the flags that matter before it. */
extern const uint8_t scope_nr_flags[OP_NR_MAX] __attribute__((visibility("hidden")));
const uint8_t scope_nr_flags[OP_NR_MAX] = {
#define SYSCALL(name, group, shape, paths, flags) [__NR_##name] = 1 | ((flags) & (SCF_ENTER | SCF_TIMED)),
#include "wire/syscalls.def"
#undef SYSCALL
};

void scope_hook_exit(struct regs *r, const struct plan_slot *slot);
void scope_hook_enter(struct regs *r, const struct plan_slot *slot);

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

static void call_item(struct call *c, enum item_type type, const void *data, uint32_t len)
{
    if (c->items < ITEMS && len)
        c->item[c->items++] = (struct ring_item){(uint16_t)type, len, data};
}

static void call_record(struct call *c, enum rec_kind kind)
{
    struct record r = {
        .kind = (uint8_t)kind, .flags = c->flags, .op = (uint16_t)c->op, .time = now(), .ret = c->ret, .ticks = c->ticks,
        .arg = {c->r->arg0, c->r->arg1, c->r->arg2, c->r->arg3, c->has_arg4 ? c->arg4 : c->r->arg4, c->has_arg5 ? c->arg5 : c->r->arg5},
    };

    ring_write(c->s, &r, c->item, c->items);
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

/* ---- descriptors ---- */

static inline void fd_seen(struct segment_header *s, int fd)
{
    uint64_t high = __atomic_load_n(&s->fd_high, __ATOMIC_RELAXED);

    while (unlikely((uint64_t)fd >= high))
        if (__atomic_compare_exchange_n(&s->fd_high, &high, (uint64_t)fd + 1, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            break;
}

#define GUEST_FDS 4096
#define GUEST_ASKED 256   /* of these it asks before it enters one itself */
#define GUEST_READS 0x80u /* the kernel certainly reads what is written to it */

/* enum fd_kind of each descriptor of a process in a sandbox that has no table in its segment, and can't ask. Its parent
 * has filled it in before the fork. */
static uint8_t guest_fds[GUEST_FDS];

/* True in a forked process in a sandbox. A vfork child has descriptors of its own in the memory of its parent. */
static bool is_guest(void)
{
    return probe.sandboxed && process->slow & SLOW_BORROWED;
}

static enum fd_kind guest_kind(int fd)
{
    return is_guest() && (unsigned)fd < GUEST_FDS ? guest_fds[fd] & ~GUEST_READS : FDK_UNKNOWN;
}

static bool guest_reads(int fd)
{
    return is_guest() && (unsigned)fd < GUEST_FDS && guest_fds[fd] & GUEST_READS;
}

static void guest_began(int64_t fd, enum fd_kind kind)
{
    if (is_guest() && (uint64_t)fd < GUEST_FDS)
        guest_fds[fd] = (uint8_t)(kind | (kind == FDK_SOCKET || kind == FDK_PIPE || kind == FDK_MEMFD ? GUEST_READS : 0));
}

static void guest_copied(int from, int to)
{
    if (is_guest() && (unsigned)to < GUEST_FDS)
        guest_fds[to] = (unsigned)from < GUEST_FDS ? guest_fds[from] : FDK_UNKNOWN;
}

/* Before a fork by the owner of the table, in a sandbox. */
static void guest_prepare(struct segment_header *s)
{
    for (unsigned fd = 0; fd < GUEST_FDS && fd < s->fd_high; fd++) {
        const struct fd_entry *e = fd_entry(s, fd);

        guest_fds[fd] = e ? (uint8_t)(e->kind | (e->state & FDS_READS || e->kind == FDK_SOCKET ? GUEST_READS : 0)) : 0;
    }
}

/* True when this call belongs to another process than the segment's owner: its descriptors aren't in our table. */
static bool foreign(void)
{
    struct thread *t;

    if (likely(!process_slow()))
        return false;
    if (process->slow & SLOW_BORROWED)
        return true;
    t = thread_get(process);
    return t && t->child_pid;
}

static void counters_of(const struct fd_entry *e, int fd, struct rec_counters *ret)
{
    *ret = (struct rec_counters){fd, e->gen, e->read_bytes, e->read_ops, e->read_ticks,
                                 e->write_bytes, e->write_ops, e->write_ticks, e->state, 0};
}

/* A number now means another descriptor. Returns its generation. */
static uint32_t fd_begin(struct segment_header *s, int64_t fd, enum fd_kind kind, bool cloexec, bool writable)
{
    struct fd_entry *e = fd_entry(s, fd);

    if (!e)
        return 0;
    fd_seen(s, (int)fd);
    e->kind = (uint8_t)kind;
    e->undecided = 0;
    e->unsaid = 0;
    e->state = (uint8_t)(FDS_OPEN | (cloexec ? FDS_CLOEXEC : 0) | (writable ? FDS_WRITABLE : 0));
    return add32(&e->gen, 1);
}

static void fd_end(struct fd_entry *e)
{
    e->state = 0;
    e->kind = FDK_UNKNOWN;
    add32(&e->gen, 1);
}

/* The call made one descriptor, its result. */
static void call_made(struct call *c, enum fd_kind kind, bool cloexec, bool writable)
{
    guest_began(c->ret, kind);
    c->has_arg5 = true;
    c->arg5 = foreign() ? 0 : fd_begin(c->s, c->ret, kind, cloexec, writable);
}

/* /dev/null, and who knows what other device, doesn't read what is written to it, and takes any address. */
HIDDEN enum fd_kind kind_of_fd(int fd, struct fd_entry *e)
{
    struct stat st;
    uint64_t major;
    bool terminal;

    if (probe.sandboxed)
        return e ? FDK_UNKNOWN : guest_kind(fd);
    if (SYS2(__NR_fstat, fd, &st) < 0)
        return FDK_UNKNOWN;
    major = (st.st_rdev >> 8) & 0xfff;
    terminal = major == 4 || major == 5 || (major >= 136 && major <= 143); /* admin-guide/devices.txt */
    if (e && ((st.st_mode & 0170000) != 0020000 || terminal))
        e->state |= FDS_READS;
    switch (st.st_mode & 0170000) {
    case 0100000: return FDK_FILE;
    case 0040000: return FDK_DIR;
    case 0010000: return FDK_PIPE;
    case 0140000: return FDK_SOCKET;
    default: return FDK_OTHER;
    }
}

/* Not captured while nobody had decided: a loss if it turns out to be wanted. */
static void fd_unsaid(struct fd_entry *e, uint64_t n)
{
    n += e->unsaid;
    e->unsaid = n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
}

/* The same for a guest, whose descriptors have no entry: the reader knows whether they were wanted. */
static void guest_unsaid(struct call *c, int fd, uint64_t at, size_t len)
{
    struct record r = {.kind = REC_DATA, .op = (uint16_t)c->op, .time = now(), .ret = (int64_t)len,
                       .arg = {(uint64_t)fd, at}};

    ring_write(c->s, &r, NULL, 0);
}

/* Written bytes [data, +len) at offset `at` of the call: kept if somebody wants them or may want them. */
static void capture(struct call *c, int fd, struct fd_entry *e, uint64_t at, const char *data, size_t len)
{
    uint32_t want = e ? __atomic_load_n(&e->want, __ATOMIC_RELAXED) : 0, decision = FDW_UNDECIDED;
    bool standard;

    if (e && want >> 2 == (e->gen & 0x3fffffff))
        decision = want & 3;
    if (decision == FDW_NONE || (decision == FDW_SAMPLE && at >= FD_SAMPLE))
        return;
    standard = fd == 1 || fd == 2 || (e && (e->state & FDS_STD));
    if (decision == FDW_UNDECIDED && !standard) { /* only standard output and regular files can be wanted */
        enum fd_kind kind = e ? e->kind : FDK_UNKNOWN;

        if (kind == FDK_UNKNOWN) {
            kind = kind_of_fd(fd, e);
            if (e)
                e->kind = (uint8_t)kind;
        }
        /* or what was inherited: it may be a duplicate of the former */
        if (kind != FDK_UNKNOWN && kind != FDK_FILE && !((kind == FDK_PIPE || kind == FDK_OTHER) && e && !e->gen))
            return;
    }
    if (!e && !standard && ring_half_full(c->s)) {
        guest_unsaid(c, fd, at, len);
        return;
    }
    if (decision == FDW_UNDECIDED && e && !standard) {
        size_t used = (size_t)e->undecided * FD_UNDECIDED_UNIT, room = used < FD_UNDECIDED_MAX ? FD_UNDECIDED_MAX - used : 0;

        if (ring_half_full(c->s)) /* what is certainly wanted goes first */
            room = 0;
        if (len > room) {
            fd_unsaid(e, len - room);
            len = room;
        }
        e->undecided = (uint16_t)(e->undecided + (len + FD_UNDECIDED_UNIT - 1) / FD_UNDECIDED_UNIT);
    }
    if (len && (!e || !(e->state & FDS_READS))) {
        if (e)
            kind_of_fd(fd, e);
        if ((e ? !(e->state & FDS_READS) : !guest_reads(fd)) && !mem_readable(data, len)) {
            if (probe.sandboxed && (standard || decision == FDW_CAPTURE))
                count_loss(c->s, LOSS_DATA, len);
            else if (probe.sandboxed && e)
                fd_unsaid(e, len);
            else if (probe.sandboxed)
                guest_unsaid(c, fd, at, len);
            return;
        }
    }
    if (decision == FDW_SAMPLE) {
        bool cut = (uint64_t)c->ret > FD_SAMPLE && at + len >= FD_SAMPLE;

        len = MIN(len, (size_t)(FD_SAMPLE - at));
        if (ring_data(c->s, c->op, fd, at, c->ret, data, len, cut ? REC_F_CUT : 0) && cut)
            count_loss(c->s, LOSS_DATA, (uint64_t)c->ret - FD_SAMPLE);
        return;
    }
    if (decision == FDW_CAPTURE || standard) {
        ring_data(c->s, c->op, fd, at, c->ret, data, len, 0);
        return;
    }
    len = ring_data(c->s, c->op, fd, at, c->ret, data, len, REC_F_UNASKED);
    if (len && e)
        fd_unsaid(e, len);
    else if (len)
        guest_unsaid(c, fd, at, len);
}

/* Bytes that went to fd without passing through memory that we could look at: a loss if they are wanted. */
static void unseen(struct call *c, int fd, struct fd_entry *e, uint32_t mode, uint64_t bytes)
{
    uint32_t want = e ? __atomic_load_n(&e->want, __ATOMIC_RELAXED) : 0;
    struct record r = {.kind = REC_DATA, .op = (uint16_t)c->op, .time = now(), .ret = (int64_t)bytes,
                       .arg = {(uint64_t)fd, 0, 0, DATA_FILE, 1}};

    if (!(mode & SEG_M_CAPTURE) || !bytes)
        return;
    if (e && want == (e->gen << 2 | FDW_NONE))
        return;
    if (e && (want >> 2 != (e->gen & 0x3fffffff) || !(want & 3)) && fd != 1 && fd != 2 && !(e->state & FDS_STD) && e->kind > FDK_FILE && e->gen)
        return; /* as in capture() */
    ring_write(c->s, &r, NULL, 0);
}

static void capture_iov(struct call *c, int fd, struct fd_entry *e, const struct iovec *iov, size_t count, uint64_t bytes)
{
    uint64_t at = 0;

    for (size_t i = 0; i < count && at < bytes; i++) {
        size_t n = MIN(iov[i].len, (size_t)(bytes - at));

        if (n)
            capture(c, fd, e, at, iov[i].base, n);
        at += n;
    }
}

enum direction { DIR_READ, DIR_WRITE };

/* Counts one more transfer, whose bytes are counted already. */
static inline void count_op(struct segment_header *s, struct fd_entry *e, int fd, enum direction dir, bool timed,
                            uint64_t ticks)
{
    fd_seen(s, fd);
    add64(dir == DIR_READ ? &e->read_ops : &e->write_ops, 1);
    if (timed)
        add64(dir == DIR_READ ? &e->read_ticks : &e->write_ticks, ticks);
}

/* Counts a transfer on a descriptor. Returns its entry if it was counted there. */
static inline struct fd_entry *transfer(struct call *c, int fd, enum direction dir, uint64_t bytes)
{
    struct fd_entry *e;

    if (unlikely(process_slow()) && foreign())
        return NULL;
    e = fd_entry(c->s, fd);
    if (unlikely(!e))
        return NULL;
    if (dir == DIR_READ && unlikely(!bytes) && (c->r->arg2 || c->desc->shape == SHP_RECVMSG)) /* it asked for something */
        e->state |= FDS_EOF;
    c->position = fetch_add64(dir == DIR_READ ? &e->read_bytes : &e->write_bytes, bytes);
    count_op(c->s, e, fd, dir, c->flags & REC_F_TIMED, c->ticks);
    c->flags |= REC_F_COUNTED;
    return e;
}

/* Whether nothing of what goes through a descriptor has to be looked at. files: the same for what is written to one. */
static inline bool quiet(const struct fd_entry *e, uint32_t mode, uint32_t files)
{
    return !(mode & (SEG_M_TRAFFIC | files)) || (!(mode & files) && e->kind > FDK_SOCKET) ||
           e->want == (e->gen << 2 | FDW_NONE);
}

/* ---- sockets ---- */

struct addresses {
    char peer[ADDR_MAX], local[ADDR_MAX];
};

static void call_name(struct call *c, long nr, int fd, enum item_type type, char *buf)
{
    uint32_t len = ADDR_MAX;

    if (probe.sandboxed || SYS3(nr, fd, buf, &len) < 0)
        return;
    call_item(c, type, buf, MIN(len, ADDR_MAX));
}

/* The peer, as accept(2) has told it to the program: the kernel can't be asked. What it says is the length of the address,
 * not how much of it had room: of what lies behind the page where it begins nothing is known. */
static void call_accepted(struct call *c)
{
    const char *address = (const char *)c->r->arg1;
    uint32_t len = 0;

    if (!address || !c->r->arg2)
        return;
    __builtin_memcpy(&len, (const void *)c->r->arg2, 4);
    if (len && len <= ADDR_MAX && ((uint64_t)address & (PROBE_PAGE - 1)) + len <= PROBE_PAGE)
        call_item(c, ITEM_ADDR, address, len);
}

static void call_inode(struct call *c, int fd, const char *address, struct rec_stat *st)
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

static void call_address(struct call *c, uint64_t ptr, uint64_t len)
{
    if (!ptr || !len || len > ADDR_MAX)
        return;
    if ((address_was_read(c->ret) && c->desc->shape != SHP_RECVFROM && c->desc->shape != SHP_RECVMSG &&
         c->desc->shape != SHP_RECVMMSG) ||
        mem_readable((const void *)ptr, len))
        call_item(c, ITEM_ADDR, (const void *)ptr, (uint32_t)len);
}

/* First time that a datagram socket tells its partner: worth a record. What the kernel says is the length of an
 * address received, not how much of it had room: that far the memory may not even be there. */
static bool first_address(struct call *c, struct fd_entry *e, uint64_t ptr, uint64_t len, char *local)
{
    if (!e || !ptr || !len || len > ADDR_MAX || (e->state & FDS_ADDR))
        return false;
    e->state |= FDS_ADDR;
    call_address(c, ptr, len);
    call_name(c, __NR_getsockname, arg_fd(c, 0), ITEM_LOCAL, local);
    return true;
}

/* Descriptors that came with a message (cmsg(3)). */
static unsigned received(struct call *c, const struct msghdr *m, struct rec_fd *fds, unsigned max)
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
                fds[n].gen = guest ? 0
                                   : fd_begin(c->s, fds[n].fd, FDK_UNKNOWN,
                                              regs_arg(c->r, c->op == OP_recvmmsg ? 3 : 2) & MSG_CMSG_CLOEXEC, true);
            }
        p += ROUND_UP(h->len, sizeof(size_t));
    }
    return n;
}

/* Whether what goes through e (NULL: it has no entry) may be wanted, if that is a socket. */
static inline bool watched(const struct call *c, const struct fd_entry *e)
{
    return c->mode & SEG_M_TRAFFIC && !(e && quiet(e, c->mode, 0));
}

/* What went through a socket is kept if somebody wants it or may want it. iov NULL: where it was isn't known. */
static __attribute__((noinline)) void traffic(struct call *c, int fd, struct fd_entry *e, enum data_source source,
                                              const struct iovec *iov, size_t count, uint64_t bytes)
{
    struct traffic t;

    if (!bytes || !traffic_socket(c->s, fd, e))
        return;
    t = (struct traffic){.s = c->s, .op = c->op, .source = source, .fd = fd, .sp = c->r->sp, .e = e,
                         .position = c->position, .bytes = bytes, .iov = iov, .count = count};
    traffic_passed(&t, c->mode);
}

/* The same with the other side's address; messages of one call follow each other. */
static __attribute__((noinline)) void message(struct call *c, struct fd_entry *e, enum data_source source,
                                              const struct msghdr *m, uint64_t bytes)
{
    struct traffic t = {.s = c->s, .op = c->op, .source = source, .fd = arg_fd(c, 0), .sp = c->r->sp, .e = e,
                        .position = c->position, .bytes = bytes, .iov = m->iov, .count = m->iovlen, .name = m->name,
                        .name_len = m->name && m->namelen <= ADDR_MAX ? m->namelen : 0, .name_sure = source == DATA_TX};

    if (e && e->kind == FDK_UNKNOWN)
        traffic_socket(c->s, t.fd, e);
    if (bytes)
        traffic_passed(&t, c->mode);
    c->position += bytes;
}

/* Receiving with MSG_TRUNC, a stream throws away what it says that it has passed (tcp(7)). */
static bool discards(struct call *c, uint64_t flags)
{
    int type = SOCK_STREAM;
    uint32_t len = sizeof(type);

    if (!(flags & MSG_TRUNC))
        return false;
    if (!probe.sandboxed)
        SYS6(__NR_getsockopt, arg_fd(c, 0), SOL_SOCKET, SO_TYPE, &type, &len, 0);
    return type == SOCK_STREAM;
}

/* ---- after the call ---- */

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

static uint64_t clone_flags(const struct regs *r, enum op_id op)
{
    uint64_t f = 0;

    switch (op) {
    case OP_clone: return r->arg0;
    case OP_vfork: return CLONE_VM | CLONE_VFORK;
    case OP_clone3:
        if (r->arg1 >= 8 && (probe.sandboxed ? mem_plausible((const void *)r->arg0) : mem_readable((const void *)r->arg0, 8)))
            __builtin_memcpy(&f, (const void *)r->arg0, 8);
        return f;
    default: return 0;
    }
}

static void after_clone(struct call *c, struct thread *t, bool constant)
{
    uint64_t flags = clone_flags(c->r, c->op);

    c->has_arg5 = true;
    c->arg5 = t && !(flags & CLONE_THREAD) ? t->fork : 0;
    if (t)
        t->fork = 0;
    if (c->ret < 0 && !constant && (flags & (CLONE_VM | CLONE_VFORK)) == CLONE_VM)
        __atomic_fetch_sub(&process->clones, 1, __ATOMIC_RELAXED);
    if ((flags & (CLONE_VM | CLONE_VFORK)) == (CLONE_VM | CLONE_VFORK)) { /* the child is gone or has exec'ed */
        if (t) {
            t->child_pid = 0;
            call_drop_child(t);
            if (t->traced && (flags & CLONE_FILES)) /* the exec gave the child a table of its own */
                own_close(t->traced - 1);
            exec_release(t);
        }
        if (process->vforks) /* not one that began before we came */
            __atomic_fetch_sub(&process->vforks, 1, __ATOMIC_RELAXED);
    }
    call_record(c, REC_CALL);
}

/* What the kernel has told a forked child of its number: the C library has it written into its thread descriptor. 0: no
 * more can be read safely. */
static uint32_t own_number(const struct regs *r, enum op_id op, uint64_t flags)
{
    uint64_t at = 0, descriptor = arch_thread_pointer();

    if (flags & CLONE_CHILD_SETTID)
        at = op == OP_clone ? r->arg3 : op == OP_clone3 && r->arg1 >= 24 ? ((const uint64_t *)r->arg0)[2] : 0;
    return at >= descriptor && at - descriptor < DESCRIPTOR_SIZE && at % 4 == 0 ? *(const uint32_t *)at : 0;
}

/* The new task's first instruction of ours. */
static void born(const struct regs *r, enum op_id op)
{
    uint64_t flags = clone_flags(r, op);
    struct process *p = process;
    struct thread *t;

    if (!(flags & CLONE_VM)) { /* a process of its own, in a copy of our memory */
        if (!p->segment)
            process_forked(probe.sandboxed ? own_number(r, op, flags) : 0);
        return;
    }
    if (flags & CLONE_VFORK) { /* runs on the parent thread's slot until it execs or exits */
        uint32_t tid, pid;

        if (probe.sandboxed) {
            t = thread_left();
            if (t && t->fork && t->owner == p->pid) { /* else a thread, whose creator went on (below) */
                t->child_tid = 0;
                t->child_pid = REC_PID_FORK | t->fork;
            }
            return;
        }
        tid = (uint32_t)SYS1(__NR_gettid, 0);
        pid = (uint32_t)SYS1(__NR_getpid, 0);
        t = tid == pid ? thread_get(p) : NULL; /* else a thread, whose creator went on and wrote over clone3's flags */
        if (t) {
            t->child_tid = tid;
            t->child_pid = pid;
        }
        return;
    }
    /* A thread, or a stranger in our memory: its thread pointer may still be its parent's (no CLONE_SETTLS), so
     * nothing is touched here; it gets a slot at its first observed call. */
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

/* The larger part of the exit hook: everything that isn't a plain read or write of a known descriptor. */
static __attribute__((noinline)) void call_end(struct call *c)
{
    const struct regs *r = c->r;
    struct rec_stat st;
    struct rec_counters closed;
    struct rec_fd fds[64];
    struct addresses a;
    struct iovec one;
    struct msghdr m;
    int32_t status;
    struct fd_entry *e = NULL;
    bool record = c->ret < 0 ? !benign(c->ret) || (c->mode & SEG_M_REC_ALL)
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
            if (c->ret == -EINPROGRESS)
                call_name(c, __NR_getsockname, arg_fd(c, 0), ITEM_LOCAL, a.local);
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
        if (!transfer(c, arg_fd(c, 1), DIR_READ, (uint64_t)c->ret))
            record = true;
        e = transfer(c, arg_fd(c, 0), DIR_WRITE, (uint64_t)c->ret);
        if (!e)
            record = true;
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

        e = transfer(c, arg_fd(c, 0), DIR_WRITE, (uint64_t)c->ret);
        if (!e)
            record = true;
        if (first_address(c, e, (uint64_t)its->name, its->namelen, a.local))
            record = true;
        else if (record)
            call_address(c, (uint64_t)its->name, its->namelen);
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
            if (!sends && all[i].hdr.controllen && got < sizeof(fds) / sizeof(fds[0]))
                got += received(c, &all[i].hdr, fds + got, (unsigned)(sizeof(fds) / sizeof(fds[0])) - got);
        }
        c->has_arg5 = true;
        c->arg5 = bytes;
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
        if (c->ret && first_address(c, e, (uint64_t)all[0].hdr.name, all[0].hdr.namelen, a.local))
            record = true;
        else if (record && c->ret)
            call_address(c, (uint64_t)all[0].hdr.name, all[0].hdr.namelen);
        break;
    }
    case SHP_OPEN:
        after_open(c, &st);
        break;
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
            fds[n] = (struct rec_fd){fd[n], guest ? 0 : fd_begin(c->s, fd[n], kind, cloexec, true)};
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
            if (e)
                e->state |= FDS_ADDR;
        }
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
            image_mapped(c->s, (uint64_t)c->ret, r->arg1, arg_fd(c, 4), r->arg5);
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
    /* A guest has nothing that would remember for later that these are to be told. */
    if (unlikely(got) && c->mode & SEG_M_TRAFFIC && foreign())
        for (unsigned i = 0; i < got; i++)
            traffic_tell_socket(c->s, fds[i].fd, 0);
}

/* A call inside a function of a TLS library says which socket that uses. */
static __attribute__((noinline)) void inside_function(struct segment_header *s, enum op_id op, const struct regs *r)
{
    int fd = (int)r->arg0;
    struct fd_entry *e;
    bool sends;

    switch (op_table[op].shape) {
    case SHP_READ: case SHP_READV: case SHP_RECVFROM: case SHP_RECVMSG:
        sends = false;
        break;
    case SHP_WRITE: case SHP_WRITEV: case SHP_SENDTO: case SHP_SENDMSG:
        sends = true;
        break;
    default:
        return;
    }
    e = foreign() ? NULL : fd_entry(s, fd);
    if (!e)
        return;
    if (e->kind == FDK_UNKNOWN)
        e->kind = (uint8_t)kind_of_fd(fd, e);
    if (e->kind == FDK_SOCKET)
        function_socket(fd, e, sends, r->sp);
}

/* Successful calls of which nothing but the number is wanted: most. */
static inline bool only_counted(enum op_id op, uint32_t mode)
{
    const struct op_desc *d = &op_table[op];

    return d->shape <= SHP_PATHS && !(d->flags & SCF_RECORD) && op != OP_io_uring_register &&
           !(mode & (SEG_M_REC_RW | SEG_M_REC_SEEK | SEG_M_REC_STAT | SEG_M_REC_ALL));
}

/* Calls that have moved bytes and tell nothing else. */
static inline bool only_reads(uint8_t shape, const struct regs *r)
{
    return shape == SHP_READ || shape == SHP_READV ||
           (shape == SHP_RECVFROM && !r->arg4 && !(r->arg3 & (MSG_ASIDE | MSG_TRUNC))) ||
           (shape == SHP_RECVMSG && !(r->arg2 & MSG_ASIDE) && !((const struct msghdr *)r->arg1)->name &&
            !((const struct msghdr *)r->arg1)->controllen);
}

static inline bool only_writes(uint8_t shape, const struct regs *r)
{
    return shape == SHP_WRITE || shape == SHP_WRITEV || (shape == SHP_SENDTO && !r->arg4) ||
           (shape == SHP_SENDMSG && !((const struct msghdr *)r->arg1)->name);
}

/* Counts a transfer of which nothing else is wanted; false if that isn't so. */
static inline __attribute__((always_inline)) bool count_transfer(struct segment_header *s, int fd, enum direction dir,
                                                                 int64_t ret, uint32_t mode, bool timed, uint64_t ticks)
{
    struct fd_entry *e = fd_entry(s, fd);

    if (unlikely(mode & (SEG_M_REC_RW | SEG_M_REC_ALL) || process_slow() || !e) ||
        !quiet(e, mode, dir == DIR_WRITE ? SEG_M_CAPTURE : 0))
        return false;
    add64(dir == DIR_READ ? &e->read_bytes : &e->write_bytes, (uint64_t)ret);
    count_op(s, e, fd, dir, timed, ticks);
    return true;
}

HIDDEN void call_completed(struct segment_header *s, enum op_id op, struct regs *r, int64_t ret)
{
    struct call c = {.op = op, .desc = &op_table[op], .r = r, .s = s, .ret = ret,
                     .mode = __atomic_load_n(&s->mode, __ATOMIC_RELAXED)};

    if (c.desc->shape == SHP_WRITE && ret > 0) {
        struct fd_entry *e = fd_entry(s, (int)r->arg0);

        if (!e || e->kind != FDK_SOCKET)
            unseen(&c, (int)r->arg0, e, c.mode, (uint64_t)ret);
    } else if (c.desc->shape == SHP_SPLICE && ret > 0) {
        unseen(&c, (int)r->arg2, fd_entry(s, (int)r->arg2), c.mode, (uint64_t)ret);
    } else if (c.desc->shape == SHP_TEE && ret > 0) {
        unseen(&c, (int)r->arg1, fd_entry(s, (int)r->arg1), c.mode, (uint64_t)ret);
    }
    c.mode &= ~(uint32_t)(SEG_M_CAPTURE | SEG_M_TRAFFIC); /* of a socket, its counters tell what was missed */
    call_end(&c);
}

static bool was_timed; /* before a call that may forbid reading the time stamp counter */

/* The result of giving them up. Many ask only what the kernel knows, by calls that must fail (libseccomp). */
static void leave_prctl(struct segment_header *s, int64_t ret)
{
    probe.sandboxed = ret >= 0;
    if (ret < 0) {
        if (was_timed)
            probe_no_ticks = 0;
        s->wakes = 1;
        return;
    }
    ring_note(s, NOTE_SECCOMP, NULL, 0);
    if (uring_count)
        ring_note(s, NOTE_IO_URING, NULL, 0);
}

HIDDEN __attribute__((used)) void scope_hook_exit(struct regs *r, const struct plan_slot *slot)
{
    enum op_id op = slot->flags >> 24;
    struct process *p = process;
    struct segment_header *s;
    struct thread *t = NULL;
    struct call c;
    int64_t ret = (int64_t)r->result;
    uint64_t began = 0;
    uint8_t flags = 0;

    if (op_table[op].shape == SHP_CLONE && ret == 0) {
        born(r, op);
        return;
    }
    s = p->segment;
    if (unlikely(!s) && !(s = process_forked(0)))
        return;
    if (slot->flags & PLAN_F_NR_UNKNOWN) {
        int64_t nr;

        if (slot->flags & PLAN_F_NR_KEPT) {
            nr = (int64_t)(r->stash_key ^ CALL_KEY(r->sp, -1, 0u)) - 1;
            nr = nr < OP_NR_MAX ? nr : -1;
            began = r->stash_time;
        } else {
            t = thread_get(p);
            if (!t)
                return;
            nr = call_pop(t, r->sp, &began);
            if (unlikely(t->child_pid && probe.sandboxed) && ret >= 0 && nr >= 0 &&
                op_table[op_of_nr(nr)].shape == SHP_EXEC)
                nr = call_pop(t, r->sp, &began); /* its vfork child's exec, which doesn't come back: it is the parent */
        }
        if (nr < 0) {
            if (ret == 0 && __atomic_load_n(&p->clones, __ATOMIC_RELAXED))
                __atomic_fetch_sub(&p->clones, 1, __ATOMIC_RELAXED);
            else if (__atomic_load_n(&p->begun, __ATOMIC_RELAXED))
                __atomic_fetch_sub(&p->begun, 1, __ATOMIC_RELAXED);
            else
                count_loss(s, LOSS_NR, 1);
            return;
        }
        op = op_of_nr(nr);
        if (op == OP_NONE)
            return;
        if (op_table[op].shape == SHP_CLONE && ret == 0) {
            if (t && (clone_flags(r, op) & CLONE_VFORK)) /* the parent comes here next, at the same stack pointer */
                call_push(t, r->sp, nr, began);
            born(r, op);
            return;
        }
    } else if (r->stash_key == (r->stash_time ^ r->sp)) {
        began = r->stash_time;
    }
    c.mode = __atomic_load_n(&s->mode, __ATOMIC_RELAXED);
    if (!(c.mode & SEG_M_ON))
        return;
    if (unlikely(p->slow & SLOW_BORROWED))
        s = process_borrow(s);
    if (unlikely(functions_used) && ret > 0)
        inside_function(s, op, r);
    c.desc = &op_table[op];
    if (ret >= 0 && only_counted(op, c.mode)) {
        add64(&s->op[op].calls, 1);
        return;
    }
    c.ticks = 0;
    if (began && (c.desc->flags & SCF_TIMED)) {
        uint64_t end = now();

        r->stash_key = 0;
        if (end > began) {
            c.ticks = end - began;
            flags = REC_F_TIMED;
        }
    }
    if (ret > 0) {
        if (only_reads(c.desc->shape, r)) {
            if (likely(count_transfer(s, (int)r->arg0, DIR_READ, ret, c.mode, flags, c.ticks)))
                return;
        } else if (only_writes(c.desc->shape, r)) {
            if (likely(count_transfer(s, (int)r->arg0, DIR_WRITE, ret, c.mode, flags, c.ticks)))
                return;
        }
    }
    c.op = op;
    c.r = r;
    c.s = s;
    c.ret = ret;
    c.flags = flags;
    c.has_arg4 = c.has_arg5 = false;
    c.items = 0;
    if (c.desc->shape == SHP_CLONE) {
        after_clone(&c, thread_get(p), !(slot->flags & PLAN_F_NR_UNKNOWN));
        return;
    }
    if (c.desc->shape == SHP_EXEC)
        c.ret = exec_failed(thread_get(p), op, r);
    if (op == OP_close) {
        if (!t)
            t = thread_get(p);
        if (t && call_pop(t, ~r->sp, &began) == 1) {
            c.flags |= REC_F_SAID;
            if (ret >= 0 && !(c.mode & SEG_M_REC_ALL)) {
                add64(&s->op[OP_close].calls, 1);
                return;
            }
        }
    }
    if ((op == OP_prctl || op == OP_seccomp) && probe.sandboxed == 2)
        leave_prctl(s, ret);
    call_end(&c);
}

/* ---- before the call ---- */

static void enter_close(struct segment_header *s, struct thread *t, struct regs *r)
{
    int fd = (int)r->arg0;
    struct fd_entry *e = foreign() ? NULL : fd_entry(s, fd);
    struct rec_counters closed;
    struct record rec = {.kind = REC_ENTER, .op = OP_close, .arg = {r->arg0}};
    struct ring_item item = {ITEM_COUNTERS, sizeof(closed), &closed};

    if (!e || !(e->state & FDS_OPEN))
        return;
    if (unlikely(uring_count))
        uring_closed(s, fd);
    counters_of(e, fd, &closed);
    fd_end(e);
    rec.time = now();
    ring_write(s, &rec, &item, 1);
    if (t) /* tells the exit hook; the complement of sp can't be the key of a call */
        call_push(t, ~r->sp, 1, 0);
}

#define RANGE_CHUNK 16

static void enter_close_range(struct segment_header *s, struct regs *r)
{
    uint32_t first = (uint32_t)r->arg0, last = (uint32_t)r->arg1;
    struct rec_counters closed[RANGE_CHUNK];
    struct ring_item item[RANGE_CHUNK];
    struct record rec = {.kind = REC_ENTER, .op = OP_close_range, .arg = {r->arg0, r->arg1, r->arg2}};
    unsigned n = 0;

    if (((uint32_t)r->arg2 & ~(uint32_t)CLOSE_RANGE_UNSHARE) || first > last)
        return;
    for (uint64_t fd = first; is_guest() && fd <= last && fd < GUEST_FDS; fd++)
        guest_fds[fd] = FDK_UNKNOWN;
    for (uint64_t fd = first; fd <= last && fd < s->fd_high && !foreign(); fd++) {
        struct fd_entry *e = fd_entry(s, (int64_t)fd);

        if (!e || (!e->state && !e->read_ops && !e->write_ops))
            continue;
        counters_of(e, (int)fd, &closed[n]);
        fd_end(e);
        item[n] = (struct ring_item){ITEM_COUNTERS, sizeof(closed[n]), &closed[n]};
        if (++n == RANGE_CHUNK) {
            rec.time = now();
            ring_write(s, &rec, item, n);
            n = 0;
        }
    }
    rec.time = now();
    ring_write(s, &rec, item, n);
}

static void enter_clone(struct segment_header *s, enum op_id op, struct thread *t, struct regs *r, bool constant)
{
    struct process *p = process;
    uint64_t flags = clone_flags(r, op);
    struct record rec = {.kind = REC_ENTER, .op = (uint16_t)op, .time = now(),
                         .arg = {flags, r->arg1, r->arg2, r->arg3, r->arg4}};

    if (t && !(flags & CLONE_THREAD)) {
        do
            rec.arg[5] = (__atomic_fetch_add(&s->forks, 1, __ATOMIC_RELAXED) + 1) & ~REC_PID_FORK;
        while (!rec.arg[5]);
    }
    if (t)
        t->fork = (uint32_t)rec.arg[5];
    if (probe.sandboxed && !(flags & CLONE_VM) && !foreign())
        guest_prepare(s);
    if ((flags & CLONE_VM) && (flags & CLONE_VFORK)) {
        __atomic_fetch_add(&p->vforks, 1, __ATOMIC_RELAXED);
    } else if (flags & CLONE_VM) {
        p->multi = 1;
        if (!constant)
            __atomic_fetch_add(&p->clones, 1, __ATOMIC_RELAXED);
        if (!(flags & CLONE_THREAD))
            __atomic_fetch_or(&p->slow, SLOW_FOREIGN, __ATOMIC_RELAXED);
        if (flags & CLONE_SETTLS) { /* a thread pointer may be used again before its old slot was freed */
            if (op == OP_clone)
                thread_stale(r->arg4);
            else if (r->arg1 >= 64 && mem_readable((const void *)r->arg0, 64))
                thread_stale(((const uint64_t *)r->arg0)[7]);
        }
    }
    if (!(flags & CLONE_THREAD))
        ring_write(s, &rec, NULL, 0);
}

static void enter_exit(struct segment_header *s, enum op_id op, struct thread *t, struct regs *r)
{
    struct record rec = {.kind = REC_ENTER, .op = (uint16_t)op, .time = now(), .arg = {r->arg0}};
    struct rec_usage usage;
    struct ring_item item = {ITEM_USAGE, sizeof(usage), &usage};
    struct rusage ru;

    if (unlikely(uring_count) && !foreign())
        uring_reap_all(s);
    if (!foreign())
        aio_last(s);
    if (op == OP_exit_group && !probe.sandboxed && SYS2(__NR_getrusage, RUSAGE_SELF, &ru) == 0) {
        usage.cpu_us = (uint64_t)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) * 1000000 +
                       (uint64_t)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec);
        usage.maxrss_kib = (uint64_t)ru.ru_maxrss;
        ring_write(s, &rec, &item, 1);
    } else {
        ring_write(s, &rec, NULL, 0);
    }
    /* Not if the slot may be another task's too, which goes on. */
    if (op == OP_exit && t && !t->child_pid && !(process->slow & SLOW_FOREIGN))
        thread_forget(t);
}

/* The program is about to give up rights that our own system calls need, or the time stamp counter. */
static void enter_prctl(struct segment_header *s, enum op_id op, struct regs *r)
{
    uint32_t what = (uint32_t)r->arg0; /* int: the kernel doesn't look at the upper half */
    bool strict = op == OP_prctl ? what == PR_SET_SECCOMP && r->arg1 == SECCOMP_MODE_STRICT
                                 : what == SECCOMP_SET_MODE_STRICT;
    bool filter = op == OP_prctl ? what == PR_SET_SECCOMP && r->arg1 == SECCOMP_MODE_FILTER
                                 : what == SECCOMP_SET_MODE_FILTER;

    /* Calls of ours would come to the program as SIGSYS. */
    if (op == OP_prctl && what == PR_SET_SYSCALL_USER_DISPATCH_ && r->arg1)
        filter = true;
    if (op == OP_prctl && what == PR_SET_TSC && (int)r->arg1 == PR_TSC_SIGSEGV)
        probe_no_ticks = 1;
    if (op == OP_prctl && what == PR_SET_TSC && (int)r->arg1 == PR_TSC_ENABLE && probe.clock == SEG_CLOCK_TSC)
        probe_no_ticks = 0;
    if ((strict || filter) && !probe.sandboxed) {
        for (int fd = 0; fd < SANDBOX_FDS && !foreign(); fd++) { /* the last chance to learn this */
            struct fd_entry *e = fd_entry(s, fd);

            if (e && !(e->state & FDS_READS))
                kind_of_fd(fd, e);
        }
        for (int fd = 0; fd < GUEST_ASKED && process->slow & SLOW_BORROWED; fd++) {
            struct fd_entry e = {0};
            enum fd_kind kind = kind_of_fd(fd, &e);

            guest_fds[fd] = (uint8_t)(kind | (e.state & FDS_READS ? GUEST_READS : 0));
        }
        was_timed = !probe_no_ticks;
        if (strict) /* it disables the counter too, if the kernel was built so */
            probe_no_ticks = 1;
        s->wakes = 0; /* no writer may wake the collector any more: it stays awake from now on */
        ring_rouse(s);
        probe.sandboxed = 2; /* until the result is known */
    }
}

HIDDEN __attribute__((used)) void scope_hook_enter(struct regs *r, const struct plan_slot *slot)
{
    enum op_id op = slot->flags >> 24;
    struct process *p = process;
    struct segment_header *s = p->segment;
    struct thread *t = NULL;

    if (unlikely(!s) && !(s = process_forked(0)))
        return;
    if (slot->flags & PLAN_F_SP_BIAS8)
        r->sp += 8;
    if (slot->flags & PLAN_F_NR_UNKNOWN) {
        int64_t nr = regs_nr(r);

        op = op_of_nr(nr);
        if (!(slot->flags & PLAN_F_NR_KEPT))
            t = thread_get(p);
        if (t && nr >= 0 && nr < 0x7fff && !(op_table[op].flags & SCF_NORETURN))
            call_push(t, r->sp, nr, probe.timing && (op_table[op].flags & SCF_TIMED) ? now() : 0);
    }
    if (!(op_table[op].flags & SCF_ENTER) || !(__atomic_load_n(&s->mode, __ATOMIC_RELAXED) & SEG_M_ON))
        return;
    if (!t)
        t = thread_get(p);
    switch (op_table[op].shape) {
    case SHP_CLOSE:
        enter_close(s, t, r);
        break;
    case SHP_CLOSE_RANGE:
        enter_close_range(s, r);
        break;
    case SHP_CLONE:
        enter_clone(s, op, t, r, !(slot->flags & PLAN_F_NR_UNKNOWN));
        break;
    case SHP_EXEC:
        exec_enter(s, t, op, r);
        break;
    case SHP_EXIT:
        enter_exit(s, op, t, r);
        break;
    case SHP_PRCTL:
        enter_prctl(s, op, r);
        break;
    case SHP_URING_ENTER:
        if (uring_count && !foreign())
            uring_enter(s, (int)r->arg0, (uint32_t)r->arg1);
        break;
    case SHP_AIO:
        if (!foreign())
            aio_enter(s, op, r);
        break;
    }
}
