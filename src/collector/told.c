/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/told.h"

#include <fcntl.h>
#include <linux/openat2.h>

#include "collector/segments.h"
#include "model/fds.h"
#include "model/names.h"
#include "model/path.h"
#include "traffic/tls_objects.h"

void told_parse(struct told *x)
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

int32_t told_int(const struct told *x, unsigned n)
{
    return (int32_t)x->r->arg[n];
}

/* --- names --- */

/* Where the directory descriptor of a path argument is, from the row's bits: the argument before it, in "at" calls. */
static int64_t dirfd_of(const struct told *x, bool second)
{
    unsigned bits = x->desc->paths, first = bits ? (unsigned)__builtin_ctz(bits) : 0, n;

    if (!second)
        return first == 1 ? told_int(x, 0) : AT_FDCWD;
    bits &= bits - 1;
    n = bits ? (unsigned)__builtin_ctz(bits) : 0;
    return n >= 2 ? told_int(x, n - 1) : AT_FDCWD;
}

bool told_takes_fd(const struct told *x)
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

int64_t told_fd(const struct told *x)
{
    if (!told_takes_fd(x))
        return -1;
    return x->desc->shape == SHP_MMAP ? told_int(x, 4) : told_int(x, 0);
}

/* Flags of a call that opened something by name, as open(2) has them. */
uint64_t told_open_flags(const struct told *x)
{
    switch (x->op) {
    case OP_openat: case OP_open_by_handle_at: return x->r->arg[2];
    case OP_openat2: return (uint32_t)x->r->arg[4];
    case OP_creat: return O_CREAT | O_WRONLY | O_TRUNC;
    default: return x->r->arg[1];
    }
}

size_t told_open_flag_names(uint64_t flags, const char *ret[TOLD_OPEN_FLAGS_MAX])
{
    static const struct {
        uint64_t mask, value;
        const char *name;
    } all[] = {
        {O_ACCMODE, O_WRONLY, "O_WRONLY"},   {O_ACCMODE, O_RDWR, "O_RDWR"},
        {O_CREAT, O_CREAT, "O_CREAT"},       {O_EXCL, O_EXCL, "O_EXCL"},
        {O_TRUNC, O_TRUNC, "O_TRUNC"},       {O_APPEND, O_APPEND, "O_APPEND"},
        {O_PATH, O_PATH, "O_PATH"},          {O_TMPFILE, O_TMPFILE, "O_TMPFILE"},
        {O_TMPFILE, O_DIRECTORY, "O_DIRECTORY"},
    };
    size_t n = 0;

    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        if ((flags & all[i].mask) == all[i].value)
            ret[n++] = all[i].name;
    return n;
}

static void resolve_file(struct told *x, const char *path, size_t len)
{
    struct name_use use = {.dirfd = dirfd_of(x, false), .path = path, .len = len, .fd = -1};
    struct name name;

    if (x->desc->shape == SHP_OPEN && x->r->ret >= 0) {
        uint64_t flags = told_open_flags(x), how = x->op == OP_openat2 ? x->r->arg[4] >> 32 : 0;

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

void told_resolve(struct told *x)
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
    } else if (told_takes_fd(x)) {
        const struct desc *d = fd_get(&x->p->fds, told_fd(x), false);

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
unsigned told_unresolved(const struct told *x)
{
    bool link = x->op == OP_symlinkat || x->op == OP_symlink, second = x->file2 && !path_resolved(x->file2, x->file2_len);
    const struct desc *d;

    if (!x->file)
        return NAME_FIRST;
    if (link)
        return second ? NAME_SECOND : 0;
    if (x->in.path)
        return (path_resolved(x->file, x->file_len) ? 0 : NAME_FIRST) | (second ? NAME_SECOND : 0);
    d = x->desc->paths ? fd_get(&x->p->fds, dirfd_of(x, false), false) : told_takes_fd(x) ? fd_get(&x->p->fds, told_fd(x), false) : NULL;
    return (d && fds_unresolved(d) ? NAME_FIRST : 0) | (second ? NAME_SECOND : 0);
}

/* --- event source syscall --- */

static int64_t bytes_of(const struct told *x)
{
    if (x->r->ret < 0 || (x->desc->group != OPG_READ_WRITE && x->desc->group != OPG_RX_TX))
        return -1;
    if (x->desc->shape == SHP_SENDMMSG || x->desc->shape == SHP_RECVMMSG)
        return x->r->arg[5] < INT64_MAX ? (int64_t)x->r->arg[5] : 0;
    return x->r->ret;
}

void told_syscall(struct told *x)
{
    struct report_call call = {
        .op = x->op, .tid = x->r->tid, .args = x->r->arg, .path = x->in.path, .path_len = x->in.path_len,
        .path2 = x->in.path2, .path2_len = x->in.path2_len, .file = x->file, .file_len = x->file_len,
        .addr = x->in.addr, .addr_len = x->in.addr_len, .fd = told_fd(x), .result = x->r->ret, .bytes = bytes_of(x), .has_result = x->r->kind == REC_CALL,
        .timed = x->r->flags & REC_F_TIMED, .duration_ns = x->ns,
    };

    if (x->op == OP_close && x->p->closed_file && x->p->closed_fd == call.fd) {
        call.file = x->p->closed_file->path;
        call.file_len = x->p->closed_file->path_len;
    }
    call.unresolved = x->file && told_unresolved(x) & NAME_FIRST;
    report_syscall(x->p, &call, x->time);
}

/* --- descriptors --- */

uint32_t told_made_gen(const struct told *x)
{
    return x->p->borrowed ? 0 : (uint32_t)x->r->arg[5];
}
