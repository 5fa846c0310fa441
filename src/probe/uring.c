/* SPDX-License-Identifier: Apache-2.0 */
#include "uring.h"

#include <linux/fcntl.h>
#include <linux/io_uring.h>
#include <linux/mman.h>

#include "calls.h"
#include "ring.h"

#define HIDDEN __attribute__((visibility("hidden")))
#define URINGS 16
#define PENDING 1024u /* operations in flight that are remembered per ring; a power of two */
#define FILES 256u    /* registered files that are known */
#define NAME_MAX_ 160u
#define SETUP_NO_MMAP (1u << 14)
#define SETUP_NO_SQARRAY (1u << 16)

struct pending {
    uint64_t user_data;
    uint32_t order;      /* of submission; 0: free */
    uint16_t op;         /* enum op_id */
    uint16_t name_len;
    int32_t fd;
    uint64_t arg[4];     /* as the system call takes them after the descriptor or directory */
    char name[NAME_MAX_];/* path or address: the program may reuse its memory once it was submitted */
};

struct uring {
    int fd;              /* -1: free */
    uint32_t pid;        /* process.pid of the process that made it: forked children have no part in it */
    uint32_t busy;       /* a thread is reading it */
    struct io_uring_params p;
    char *sq, *cq, *sqes;
    uint32_t parsed;     /* submission queue position up to which entries are known */
    uint32_t reaped;     /* completion queue position likewise */
    uint32_t order, used;
    struct pending *pending;
    uint32_t file_count;
    int files[FILES];
};

static struct uring rings[URINGS]; /* a place that was never used has pid 0, as if another process had filled it */
HOT_DATA uint32_t uring_count;

/* The operations that correspond to an observed call. */
static enum op_id op_of_sqe(uint8_t opcode)
{
    switch (opcode) {
    case IORING_OP_READ: case IORING_OP_READ_FIXED: case IORING_OP_READV: return OP_pread64;
    case IORING_OP_WRITE: case IORING_OP_WRITE_FIXED: case IORING_OP_WRITEV: return OP_pwrite64;
    case IORING_OP_FSYNC: return OP_fsync;
    case IORING_OP_SEND: case IORING_OP_SENDMSG: return OP_sendto;
    case IORING_OP_RECV: case IORING_OP_RECVMSG: return OP_recvfrom;
    case IORING_OP_ACCEPT: return OP_accept4;
    case IORING_OP_CONNECT: return OP_connect;
    case IORING_OP_FALLOCATE: return OP_fallocate;
    case IORING_OP_OPENAT: case IORING_OP_OPENAT2: return OP_openat;
    case IORING_OP_CLOSE: return OP_close;
    case IORING_OP_STATX: return OP_statx;
    case IORING_OP_SPLICE: return OP_splice;
    case IORING_OP_TEE: return OP_tee;
    case IORING_OP_SHUTDOWN: return OP_shutdown;
    case IORING_OP_RENAMEAT: return OP_renameat2;
    case IORING_OP_UNLINKAT: return OP_unlinkat;
    case IORING_OP_MKDIRAT: return OP_mkdirat;
    case IORING_OP_SYMLINKAT: return OP_symlinkat;
    case IORING_OP_LINKAT: return OP_linkat;
    case IORING_OP_SOCKET: return OP_socket;
    default: return OP_NONE;
    }
}

static struct uring *uring_find(int fd)
{
    for (unsigned i = 0; i < URINGS; i++)
        if (rings[i].fd == fd && fd >= 0 && rings[i].pid == process->pid)
            return &rings[i];
    return NULL;
}

static uint32_t ring_word(const char *base, uint32_t offset)
{
    return __atomic_load_n((const uint32_t *)(const void *)(base + offset), __ATOMIC_ACQUIRE);
}

static void uring_unlock(struct uring *u)
{
    __atomic_store_n(&u->busy, 0, __ATOMIC_RELEASE);
}

/* Programs unmap their rings when they like (liburing does before it closes them), which isn't observed: the head of
 * each ring tells whether it is still there. */
static bool uring_lock(struct uring *u)
{
    uint32_t idle = 0;

    if (!u || !u->sq || !u->cq || !u->sqes ||
        !__atomic_compare_exchange_n(&u->busy, &idle, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        return false;
    if (mem_readable(u->sq, PROBE_PAGE) && (u->cq == u->sq || mem_readable(u->cq, PROBE_PAGE)) &&
        ring_word(u->sq, u->p.sq_off.ring_entries) == u->p.sq_entries &&
        ring_word(u->cq, u->p.cq_off.ring_entries) == u->p.cq_entries &&
        ring_word(u->cq, u->p.cq_off.ring_mask) == u->p.cq_entries - 1)
        return true;
    u->sq = u->cq = u->sqes = NULL;
    uring_unlock(u);
    return false;
}

/* ---- submissions ---- */

static void remember_name(struct pending *p, uint64_t address, size_t len)
{
    const char *s = (const char *)address;
    size_t n = len ? (mem_readable(s, len) ? len : MEM_BAD) : mem_string(s, NAME_MAX_ - 1);

    p->name_len = 0;
    if (n == MEM_BAD || n >= NAME_MAX_)
        return;
    memcpy(p->name, s, n);
    p->name[n] = 0;
    p->name_len = (uint16_t)(n + 1);
}

static struct pending *pending_new(struct segment_header *s, struct uring *u, uint64_t user_data)
{
    uint32_t h = (uint32_t)((user_data * UINT64_C(0x9e3779b97f4a7c15)) >> 54);
    struct pending *oldest = NULL;

    for (uint32_t i = 0; i < PENDING; i++) {
        struct pending *p = &u->pending[(h + i) & (PENDING - 1)];

        if (!p->order) {
            u->used++;
            return p;
        }
        if (!oldest || p->order - oldest->order > UINT32_MAX / 2)
            oldest = p;
    }
    count_loss(s, LOSS_RECORD, 1);
    return oldest;
}

static void submitted(struct segment_header *s, struct uring *u, const struct io_uring_sqe *e)
{
    enum op_id op = op_of_sqe(e->opcode);
    struct pending *p;
    int fd = e->fd;

    if (op == OP_NONE)
        return;
    /* Registered files that are made or closed have no descriptor: what would be one is 0. */
    if (e->file_index && (op == OP_openat || op == OP_accept4 || op == OP_socket || op == OP_close))
        return;
    if (e->flags & IOSQE_FIXED_FILE)
        fd = (uint32_t)fd < u->file_count ? u->files[fd] : -1;
    p = pending_new(s, u, e->user_data);
    *p = (struct pending){.user_data = e->user_data, .op = (uint16_t)op, .fd = fd};
    p->order = ++u->order ? u->order : ++u->order;
    switch (op) {
    case OP_openat:
        p->arg[1] = e->opcode == IORING_OP_OPENAT ? e->open_flags : 0;
        if (e->opcode == IORING_OP_OPENAT2 && mem_readable((const void *)e->addr2, 8))
            p->arg[1] = *(const uint64_t *)e->addr2;
        p->arg[2] = e->len;
        remember_name(p, e->addr, 0);
        break;
    case OP_statx: case OP_unlinkat: case OP_mkdirat:
        p->arg[1] = op == OP_unlinkat ? e->unlink_flags : op == OP_statx ? e->statx_flags : e->len;
        remember_name(p, e->addr, 0);
        break;
    case OP_renameat2: case OP_linkat: case OP_symlinkat: {
        /* Both names in one buffer: first, NUL, second. */
        size_t first;

        remember_name(p, e->addr, 0);
        first = p->name_len;
        if (first && first < NAME_MAX_) {
            size_t n = mem_string((const char *)e->addr2, NAME_MAX_ - first - 1);

            if (n != MEM_BAD && first + n < NAME_MAX_) {
                memcpy(p->name + first, (const char *)e->addr2, n);
                p->name[first + n] = 0;
                p->arg[3] = first;
            } else {
                p->name_len = 0;
            }
        }
        p->arg[1] = e->len; /* new directory */
        p->arg[2] = op == OP_renameat2 ? e->rename_flags : op == OP_linkat ? e->hardlink_flags : 0;
        break;
    }
    case OP_connect:
        p->arg[1] = e->off;
        remember_name(p, e->addr, MIN(e->off, (uint64_t)128));
        break;
    case OP_accept4:
        p->arg[2] = e->accept_flags;
        break;
    case OP_socket:
        p->arg[0] = e->off; /* type; fd is the domain, len the protocol */
        p->arg[1] = e->len;
        break;
    case OP_splice: case OP_tee:
        p->arg[0] = (uint64_t)e->splice_fd_in;
        break;
    case OP_fallocate:
        p->arg[0] = e->len;
        p->arg[1] = e->off;
        p->arg[2] = e->addr;
        break;
    default:
        p->arg[1] = e->len;
        p->arg[2] = e->off;
        break;
    }
}

HIDDEN void uring_enter(struct segment_header *s, int fd, uint32_t to_submit)
{
    struct uring *u = uring_find(fd);
    uint32_t head, tail, mask;

    uring_reap(s, fd);
    if (!to_submit || !uring_lock(u))
        return;
    head = ring_word(u->sq, u->p.sq_off.head);
    tail = ring_word(u->sq, u->p.sq_off.tail);
    mask = u->p.sq_entries - 1;
    if ((int32_t)(u->parsed - head) < 0)
        u->parsed = head;
    if (tail - head > u->p.sq_entries) /* not a state that the kernel would accept */
        tail = head;
    for (; u->parsed != tail && u->parsed - head < to_submit; u->parsed++) {
        uint32_t index = u->parsed & mask;

        if (!(u->p.flags & SETUP_NO_SQARRAY))
            index = ring_word(u->sq, u->p.sq_off.array + index * 4);
        if (index < u->p.sq_entries)
            submitted(s, u, (const struct io_uring_sqe *)(const void *)(u->sqes + (size_t)index *
                                                                                      (u->p.flags & IORING_SETUP_SQE128 ? 128 : 64)));
    }
    uring_unlock(u);
}

/* ---- completions ---- */

static struct pending *pending_find(struct uring *u, uint64_t user_data)
{
    uint32_t h = (uint32_t)((user_data * UINT64_C(0x9e3779b97f4a7c15)) >> 54), left = u->used;
    struct pending *found = NULL;

    for (uint32_t i = 0; i < PENDING && left; i++) {
        struct pending *p = &u->pending[(h + i) & (PENDING - 1)];

        if (!p->order)
            continue;
        left--;
        if (p->user_data == user_data && (!found || found->order - p->order < UINT32_MAX / 2))
            found = p;
    }
    return found;
}

static void completed(struct segment_header *s, const struct pending *p, int32_t result)
{
    struct regs r = {.arg0 = (uint64_t)(int64_t)p->fd};
    uint64_t name = p->name_len ? (uint64_t)p->name : 0;

    switch (p->op) {
    case OP_openat:
        r.arg1 = name;
        r.arg2 = p->arg[1];
        r.arg3 = p->arg[2];
        break;
    case OP_statx: case OP_unlinkat: case OP_mkdirat:
        r.arg1 = name;
        r.arg2 = p->arg[1];
        break;
    case OP_renameat2: case OP_linkat:
        r.arg1 = name;
        r.arg2 = (uint64_t)(int64_t)(int32_t)p->arg[1];
        r.arg3 = name ? name + p->arg[3] : 0;
        r.arg4 = p->arg[2];
        break;
    case OP_symlinkat:
        r.arg0 = name;
        r.arg1 = (uint64_t)(int64_t)p->fd;
        r.arg2 = name ? name + p->arg[3] : 0;
        break;
    case OP_connect:
        r.arg1 = name;
        r.arg2 = name ? p->arg[1] : 0;
        break;
    case OP_accept4:
        r.arg3 = p->arg[2];
        break;
    case OP_socket:
        r.arg1 = p->arg[0];
        r.arg2 = p->arg[1];
        break;
    case OP_splice:
        r.arg0 = p->arg[0];
        r.arg2 = (uint64_t)(int64_t)p->fd;
        break;
    case OP_tee:
        r.arg0 = p->arg[0];
        r.arg1 = (uint64_t)(int64_t)p->fd;
        break;
    case OP_fallocate:
        r.arg1 = p->arg[0];
        r.arg2 = p->arg[1];
        r.arg3 = p->arg[2];
        break;
    default: /* no pointer into the program's memory: it may be gone */
        r.arg2 = p->op == OP_sendto || p->op == OP_recvfrom ? (uint64_t)(result > 0 ? result : 0) : p->arg[1];
        break;
    }
    call_completed(s, (enum op_id)p->op, &r, result);
}

HIDDEN void uring_reap(struct segment_header *s, int fd)
{
    struct uring *u = uring_find(fd);
    uint32_t tail, size;

    if (!uring_lock(u))
        return;
    tail = ring_word(u->cq, u->p.cq_off.tail);
    size = u->p.flags & IORING_SETUP_CQE32 ? 32 : 16;
    if (tail - u->reaped > u->p.cq_entries) { /* the program took more without a call than the ring holds */
        count_loss(s, LOSS_RECORD, tail - u->reaped - u->p.cq_entries);
        u->reaped = tail - u->p.cq_entries;
    }
    for (; u->reaped != tail; u->reaped++) {
        const struct io_uring_cqe *e =
            (const void *)(u->cq + u->p.cq_off.cqes + (size_t)(u->reaped & (u->p.cq_entries - 1)) * size);
        struct pending *p = pending_find(u, e->user_data);

        if (!p)
            continue;
        completed(s, p, e->res);
        if (!(e->flags & IORING_CQE_F_MORE)) {
            p->order = 0;
            u->used--;
        }
    }
    uring_unlock(u);
}

HIDDEN void uring_reap_all(struct segment_header *s)
{
    for (unsigned i = 0; i < URINGS; i++)
        if (rings[i].fd >= 0 && rings[i].pid == process->pid)
            uring_reap(s, rings[i].fd);
}

/* ---- the rings themselves ---- */

static void uring_free(struct uring *u)
{
    /* Its memory stays until the place is taken again: another thread may be reading. */
    __atomic_store_n(&u->fd, -1, __ATOMIC_RELEASE);
    __atomic_fetch_sub(&uring_count, 1, __ATOMIC_RELAXED);
}

HIDDEN void uring_made(struct segment_header *s, int fd, const void *params)
{
    const struct io_uring_params *p = params;
    struct uring *u = NULL;
    long at;

    s->uring_seen++;
    for (unsigned i = 0; i < URINGS && !u; i++) {
        int free = rings[i].fd;
        uint32_t idle = 0;

        if (free < 0 ? free != -1 : rings[i].pid == process->pid)
            continue;
        if (!__atomic_compare_exchange_n(&rings[i].fd, &free, -2, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            continue;
        if (free >= 0 && rings[i].pid) { /* inherited: counted in the parent, and nobody here holds it */
            __atomic_fetch_sub(&uring_count, 1, __ATOMIC_RELAXED);
            rings[i].busy = 0;
        }
        if (__atomic_compare_exchange_n(&rings[i].busy, &idle, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            u = &rings[i];
        else
            __atomic_store_n(&rings[i].fd, -1, __ATOMIC_RELEASE);
    }
    if (u && u->pending && !probe.sandboxed)
        SYS2(__NR_munmap, u->pending, PENDING * sizeof(struct pending));
    at = u && !probe.sandboxed && !(p->flags & (IORING_SETUP_SQPOLL | SETUP_NO_MMAP))
             ? SYS6(__NR_mmap, 0, PENDING * sizeof(struct pending), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
             : -1;
    if (sys_failed(at)) {
        if (u) {
            u->pending = NULL;
            uring_unlock(u);
            __atomic_store_n(&u->fd, -1, __ATOMIC_RELEASE);
        }
        ring_note(s, NOTE_IO_URING, NULL, p->flags);
        return;
    }
    u->p = *p;
    u->pending = (struct pending *)at;
    u->sq = u->cq = u->sqes = NULL;
    u->parsed = u->reaped = u->order = u->used = u->file_count = 0;
    u->pid = process->pid;
    uring_unlock(u);
    __atomic_fetch_add(&uring_count, 1, __ATOMIC_RELAXED);
    __atomic_store_n(&u->fd, fd, __ATOMIC_RELEASE);
}

HIDDEN void uring_mapped(int fd, uint64_t offset, uint64_t addr)
{
    struct uring *u = uring_find(fd);

    if (!u)
        return;
    switch (offset & IORING_OFF_MMAP_MASK) {
    case IORING_OFF_SQ_RING:
        u->sq = (char *)addr;
        if (u->p.features & IORING_FEAT_SINGLE_MMAP)
            u->cq = u->sq;
        break;
    case IORING_OFF_CQ_RING:
        u->cq = (char *)addr;
        break;
    case IORING_OFF_SQES:
        u->sqes = (char *)addr;
        break;
    }
}

HIDDEN void uring_registered(int fd, uint32_t opcode, const void *arg, uint32_t count)
{
    struct uring *u = uring_find(fd);

    if (!u)
        return;
    if (opcode == IORING_REGISTER_FILES) {
        u->file_count = MIN(count, FILES);
        memcpy(u->files, arg, u->file_count * sizeof(int));
    } else if (opcode == IORING_UNREGISTER_FILES) {
        u->file_count = 0;
    } else if (opcode == IORING_REGISTER_FILES_UPDATE) {
        const struct io_uring_files_update *up = arg;
        const int *fds = (const int *)up->fds;

        for (uint32_t i = 0; i < count && up->offset + i < u->file_count; i++)
            if (fds[i] != -2 /* IORING_REGISTER_FILES_SKIP */)
                u->files[up->offset + i] = fds[i];
    }
}

HIDDEN void uring_closed(struct segment_header *s, int fd)
{
    struct uring *u = uring_find(fd);

    if (!u)
        return;
    uring_reap(s, fd);
    uring_free(u);
}
