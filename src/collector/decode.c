/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/decode.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "base/log.h"
#include "base/mem.h"
#include "collector/ends.h"
#include "collector/forks.h"
#include "collector/guests.h"
#include "collector/life.h"
#include "collector/segments.h"
#include "collector/sockets.h"
#include "collector/state.h"
#include "collector/transfers.h"
#include "inject/load.h"
#include "model/account.h"
#include "model/fds.h"
#include "model/images.h"
#include "model/names.h"
#include "model/owner.h"
#include "model/procinfo.h"
#include "plan/plan.h"
#include "report/notices.h"

#define ERRNO_MAX 4095
#define SELF_EXE "/proc/self/exe"

/* Counters in the record, of descriptors of the segment's owner. */
static void take_counters(struct told *x, bool close_them)
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
        if (n.state & FDS_SENT && x->p->pl->notices && d->file && d->file->kind != FDK_SOCKET && !stale)
            transfers_sent_file(x->p, d, n.state, n.undecided, x->time);
        if (stale)
            fds_forget(x->p, n.fd);
        else if (close_them)
            fds_close(x->p, n.fd, x->name, x->time, true);
    }
}

static bool fs_like(const struct file *f)
{
    return f->kind == FDK_FILE || f->kind == FDK_DIR || f->kind == FDK_MEMFD || f->kind == FDK_UNKNOWN;
}

static void do_open(struct told *x)
{
    uint64_t flags = told_open_flags(x);
    const char *names[TOLD_OPEN_FLAGS_MAX];
    struct file *f;
    struct desc *d;

    f = file_new(&x->c->model, (flags & O_DIRECTORY) && (flags & O_TMPFILE) != O_TMPFILE ? FDK_DIR : FDK_FILE, x->file,
                 x->file ? x->file_len : 0);
    f->plain = x->plain;
    f->tail = x->tail;
    if (!x->file) { /* by handle, or the name couldn't be read */
        char text[PATH_MAX];
        int n = names_of_fd(x->p, x->r->ret, told_made_gen(x), false, text, sizeof(text));

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
    d = fds_open(x->p, x->r->ret, f, told_made_gen(x), flags & O_CLOEXEC, x->time);
    if (!d)
        return;
    fds_reopened(x->p, d);
    if (d->flags & DF_STREAM)
        fds_decide(x->p, x->r->ret, d);
    d->flags |= DF_REPORTED;
    report_open(x->p, x->r->ret, d, x->name, names, told_open_flag_names(flags, names), x->time);
    if (x->p->pl->notices)
        notices_open(x->p, d, flags, x->in.has_stat ? &x->in.stat : NULL, x->name, x->time);
}

/* newfd becomes another name for what oldfd refers to. */
static void do_dup(struct told *x, int64_t oldfd, int64_t newfd, bool cloexec)
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
    d = fds_open(x->p, newfd, f, told_made_gen(x), cloexec, x->time);
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
        report_open(x->p, newfd, d, x->name, NULL, 0, x->time);
    }
}

static void do_make(struct told *x)
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
        if (told_int(x, 0) >= 0) /* a new mask for an old descriptor */
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
    fds_open(x->p, x->r->ret, f, told_made_gen(x), cloexec, x->time);
}

static void do_pair(struct told *x)
{
    bool sock = x->desc->shape == SHP_SOCKETPAIR;
    bool cloexec = sock ? x->r->arg[1] & SOCK_CLOEXEC : x->op == OP_pipe2 && (x->r->arg[1] & O_CLOEXEC);

    for (uint32_t i = 0; i < x->in.fd_count && i < 2; i++) {
        struct rec_fd fd;
        struct file *f = sock ? file_new(&x->c->model, FDK_SOCKET, "socket", 6) : file_new(&x->c->model, FDK_PIPE, "pipe", 4);

        memcpy(&fd, x->in.fds + i, sizeof(fd));
        if (sock)
            file_sock(f, told_int(x, 0), told_int(x, 1) & 0xf, told_int(x, 2));
        fds_open(x->p, fd.fd, f, x->p->borrowed ? 0 : fd.gen, cloexec, x->time);
    }
}

static void count_op(struct told *x, enum tm_metric m)
{
    const struct desc *d = told_takes_fd(x) ? fd_get(&x->p->fds, told_fd(x), false) : NULL;

    if (x->p->pl->per_op[m])
        report_op(x->p, m, 1, told_fd(x), d, x->name, x->file, x->file ? x->file_len : 0, x->time);
    else
        x->p->sums.value[m]++;
}

#define FLAGS_MAX 9

/* The flags that a call on names was given, as in its manual page: what it does depends on them. Returns how many; number:
 * room for bits without a name. */
static size_t flag_names(const struct told *x, const char *ret[FLAGS_MAX], char number[24])
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

/* Names of a call that has removed, renamed, made or changed something. */
static void tell_names(struct told *x, enum tm_metric metric, const char *source, const char *file, size_t len,
                       const char *file_to, size_t to_len, unsigned unresolved)
{
    const char *flags[FLAGS_MAX];
    char number[24];

    report_names(x->p, metric, source, x->name, file, len, file_to, to_len, unresolved, flags, flag_names(x, flags, number),
                 x->time);
    if (!x->p->pl->notices)
        return;
    notices_names(x->p, metric, x->name, file, len, file_to, to_len, unresolved, x->time);
    switch (x->op) {
    case OP_fchmod:
    case OP_chmod:
        notices_mode(x->p, (uint32_t)x->r->arg[1], x->name, file, len, x->time);
        break;
    case OP_fchmodat: case OP_fchmodat2:
        notices_mode(x->p, (uint32_t)x->r->arg[2], x->name, file, len, x->time);
        break;
    default:
        break;
    }
}

static void do_names(struct told *x)
{
    const char *file = x->file ? x->file : "";
    size_t len = x->file ? x->file_len : 0;
    unsigned un = told_unresolved(x);

    switch (x->desc->group) {
    case OPG_STAT:
        count_op(x, TM_FS_STAT);
        break;
    case OPG_DELETE:
        tell_names(x, TM_FS_DELETE, "fs.delete", file, len, NULL, 0, un);
        break;
    case OPG_RENAME:
        tell_names(x, TM_FS_RENAME, "fs.rename", file, len, x->file2, x->file2_len, un);
        break;
    case OPG_CREATE:
        if (x->file2) /* what is made is the second name */
            tell_names(x, TM_FS_CREATE, "fs.create", x->file2, x->file2_len, file, len,
                       (un & NAME_FIRST ? NAME_SECOND : 0) | (un & NAME_SECOND ? NAME_FIRST : 0));
        else
            tell_names(x, TM_FS_CREATE, "fs.create", file, len, NULL, 0, un);
        break;
    case OPG_CHANGE:
        tell_names(x, TM_FS_CHANGE, "fs.change", file, len, NULL, 0, un);
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

static void do_fdop(struct told *x)
{
    struct desc *d;
    bool listens;

    switch (x->op) {
    case OP_fsync: case OP_fdatasync:
        count_op(x, TM_FS_SYNC);
        return;
    case OP_lseek:
        count_op(x, TM_FS_SEEK);
        return;
    case OP_fchdir:
        d = fd_get(&x->p->fds, told_int(x, 0), false);
        if (d && d->file)
            names_set_cwd(x->p, &(struct name){d->file->path, d->file->path_len, d->file->plain, d->file->tail});
        else
            names_set_cwd(x->p, &(struct name){"", 0, 0, 0});
        return;
    case OP_listen:
        d = sockets_desc(x, told_int(x, 0));
        if (!d)
            return;
        listens = d->file->sock->flags & SOCKF_LISTENING;
        d->file->sock->flags |= SOCKF_LISTENING;
        if (sockets_is_inet(d->file->sock))
            fds_gauge(x->p, d, DF_PORT, told_int(x, 0), x->time);
        sockets_guess_domain(d->file->sock, SOCK_STREAM);
        fds_gauge(x->p, d, DF_CONN, told_int(x, 0), x->time);
        if (!listens) /* again only makes room for more */
            report_net_listen(x->p, d, x->time);
        return;
    default:
        if (x->desc->group == OPG_STAT)
            count_op(x, TM_FS_STAT);
        else if (x->desc->group == OPG_CHANGE)
            tell_names(x, TM_FS_CHANGE, "fs.change", x->file ? x->file : "", x->file ? x->file_len : 0, NULL, 0,
                       told_unresolved(x));
    }
}

static void do_fcntl(struct told *x)
{
    struct desc *d;

    switch (told_int(x, 1)) {
    case F_DUPFD:
        do_dup(x, told_int(x, 0), x->r->ret, false);
        break;
    case F_DUPFD_CLOEXEC:
        do_dup(x, told_int(x, 0), x->r->ret, true);
        break;
    case F_SETFD:
        d = fds_lookup(x->p, told_int(x, 0));
        if (d && d->file)
            d->flags = (uint8_t)((d->flags & ~DF_CLOEXEC) | (x->r->arg[2] & FD_CLOEXEC ? DF_CLOEXEC : 0));
        break;
    default:
        break;
    }
}

static void do_ioctl(struct told *x)
{
    struct desc *d;

    if ((uint32_t)x->r->arg[1] != FIOCLEX && (uint32_t)x->r->arg[1] != FIONCLEX)
        return;
    d = fds_lookup(x->p, told_int(x, 0));
    if (d && d->file)
        d->flags = (uint8_t)((d->flags & ~DF_CLOEXEC) | ((uint32_t)x->r->arg[1] == FIOCLEX ? DF_CLOEXEC : 0));
}

struct range {
    struct told *x;
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

static void do_range(struct told *x, bool cloexec)
{
    struct range w = {x, (uint32_t)x->r->arg[0], (uint32_t)x->r->arg[1], cloexec};

    fd_table_each(&x->p->fds, range_one, &w);
}

/* Before the call; descriptors in use come with their counters, at most 16 in a record, fewer in the last one. */
static void enter_range(struct told *x)
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

static uint32_t fork_id(const struct told *x)
{
    return (uint32_t)x->r->arg[5] & ~REC_PID_FORK;
}

/* Whether the failure of a call on a socket says what has become of its connection. */
static bool ends_connect(const struct told *x, int err)
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
static bool fast_open(const struct told *x)
{
    return (x->desc->shape == SHP_SENDTO && x->r->arg[3] & MSG_FASTOPEN) ||
           (x->desc->shape == SHP_SENDMSG && x->r->arg[2] & MSG_FASTOPEN);
}

static void failed(struct told *x)
{
    const struct desc *d = told_takes_fd(x) ? fd_get(&x->p->fds, told_fd(x), false) : NULL;
    struct sock *s = d && d->file ? d->file->sock : NULL;
    int err = (int)-x->r->ret;
    enum err_class k;

    if (x->desc->shape == SHP_CONNECT && (err == EINPROGRESS || err == EINTR)) {
        sockets_connect(x);
        return;
    }
    if (x->desc->shape == SHP_CONNECT && err == EISCONN && s && s->flags & SOCKF_PENDING) {
        report_net_open(x->p, told_fd(x), (struct desc *)d, s->open_ns);
        return;
    }
    if (s && s->flags & SOCKF_PENDING && !benign(err) && ends_connect(x, err)) {
        sockets_connect_failed(x, s, err);
        return;
    }
    if (x->desc->shape == SHP_CONNECT && x->p->pl->notices && s && x->in.addr && !benign(err) && err != EISCONN)
        sockets_notice(x, d);
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
                                       (x->desc->shape == SHP_FCNTL && told_int(x, 1) != F_DUPFD &&
                                        told_int(x, 1) != F_DUPFD_CLOEXEC)))
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

static void do_wait(struct told *x)
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

static void completed(struct told *x)
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
        if (!fd_get(&x->p->fds, told_int(x, 0), false) || !fd_get(&x->p->fds, told_int(x, 0), false)->file)
            fds_lookup(x->p, told_int(x, 0)); /* it was open: something inherited */
        fds_close(x->p, told_int(x, 0), x->name, x->time, true);
        break;
    case SHP_CLOSE_RANGE:
        if (x->r->arg[2] & CLOSE_RANGE_CLOEXEC)
            do_range(x, true);
        break;
    case SHP_READ: case SHP_READV: case SHP_WRITE: case SHP_WRITEV: case SHP_SENDFILE: case SHP_SPLICE: case SHP_TEE:
    case SHP_VMSPLICE: case SHP_COPY: case SHP_SENDTO: case SHP_RECVFROM: case SHP_SENDMSG: case SHP_RECVMSG:
    case SHP_SENDMMSG: case SHP_RECVMMSG:
        transfers_call(x);
        break;
    case SHP_FDOP:
        do_fdop(x);
        break;
    case SHP_PATHS: case SHP_READLINK:
        do_names(x);
        break;
    case SHP_DUP:
        do_dup(x, told_int(x, 0), x->r->ret, false);
        break;
    case SHP_DUP2:
        take_counters(x, false);
        do_dup(x, told_int(x, 0), told_int(x, 1), x->op == OP_dup3 && (x->r->arg[2] & O_CLOEXEC));
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
        sockets_made(x);
        break;
    case SHP_ADDRESS:
        sockets_bound(x);
        break;
    case SHP_CONNECT:
        sockets_connect(x);
        break;
    case SHP_ACCEPT:
        sockets_accepted(x);
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
static void begin_fork(const struct told *x, uint64_t flags)
{
    struct fork_pending *f =
        fork_begin(x->p, x->r->tid, fork_id(x), x->op == OP_vfork || (flags & CLONE_VFORK), (flags & CLONE_PARENT) != 0,
                   x->time);

    f->new_pids = (flags & CLONE_NEWPID) != 0;
}

static void entered(struct told *x)
{
    struct proc *p = x->p;
    const struct desc *d;

    switch (x->desc->shape) {
    case SHP_CLOSE:
        if (p->pl->event[CFG_EW_SYSCALL] && (d = fd_get(&p->fds, told_int(x, 0), false)) && d->file) {
            if (p->closed_file)
                file_unref(&x->c->model, p->closed_file);
            p->closed_file = NULL;
            if (d->file->kind != FDK_SOCKET) /* a reference would keep a connection open */
                p->closed_file = file_ref(d->file);
            p->closed_fd = told_int(x, 0);
        }
        take_counters(x, false);
        fds_close(p, told_int(x, 0), x->name, x->time, true);
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
            struct name_use use = {.dirfd = x->op == OP_execveat ? told_int(x, 0) : AT_FDCWD, .path = x->in.path,
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
            told_syscall(x);
        if (x->in.has_usage && x->in.usage.cpu_us < UINT64_MAX / 1000) {
            if (x->in.usage.cpu_us * 1000 > p->cpu_ns)
                p->cpu_ns = x->in.usage.cpu_us * 1000;
            p->peak_rss_kib = x->in.usage.maxrss_kib;
        }
        if (x->op == OP_exit_group) {
            p->exit_recorded = true;
            p->exit_code = told_int(x, 0) & 0xff;
            p->exit_ns = x->time;
            if (p->host_pid <= 0)
                proc_died(p);
        } else if (x->r->tid == p->pid) {
            p->leader_exit = true;
            p->leader_code = told_int(x, 0) & 0xff;
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

static void noted(struct told *x)
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
        [NOTE_JSSE] = "TLS of Java's class library is not read: this is not as it is known",
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
    x->p->jsse_refused |= code == NOTE_JSSE;
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
    if (file && code >= NOTE_EXEC_STATIC && code <= NOTE_EXEC_LIB && x->p->pl->notices)
        notices_exec_unobserved(x->p, file, len, x->time);
}

/* Calls that are made at some places of an image aren't seen: told once in a session for each image. Why all of an image
 * isn't observed the probe has told itself. */
static void tell_hidden(const struct told *x, const char *name, size_t len)
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
static void image_seen(const struct told *x)
{
    const struct parts *in = &x->in;
    const char *exe = x->p->tm.exe, *name = in->path ? in->path : "";
    size_t len = in->path ? in->path_len : 0;

    if (!in->sites)
        return;
    if (exe && in->path && in->path_len == strlen(SELF_EXE) && memcmp(in->path, SELF_EXE, in->path_len) == 0) {
        name = exe;
        len = strlen(exe);
    }
    images_add(&x->p->images, name, len, in->sites);
    x->p->go |= in->sites->sites.go > 0;
    tell_hidden(x, name, len);
    log_debug("%s[%u]: %.*s: %u sites observed, %u left alone", x->p->tm.proc, x->p->pid, (int)in->path_len,
              in->path ? in->path : "", plan_sites_patched(&in->sites->sites), plan_sites_refused(&in->sites->sites));
}

void decode_record(struct collector *c, struct segment *seg, const struct record *r, uint32_t size, uint64_t arrival)
{
    struct told x;

    memset(&x, 0, offsetof(struct told, in.stat));
    x.c = c;
    x.seg = seg;
    x.r = r;
    x.size = size;
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
    told_parse(&x);
    switch (r->kind) {
    case REC_CALL:
        if (x.op == OP_NONE)
            return;
        told_resolve(&x);
        if (x.p->pl->event[CFG_EW_SYSCALL])
            told_syscall(&x);
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
        transfers_data(&x);
        break;
    case REC_IMAGE:
        image_seen(&x);
        break;
    case REC_NOTE:
        noted(&x);
        break;
    case REC_SOCKET:
        sockets_told(&x);
        break;
    case REC_CONNECT:
        sockets_connection_told(&x);
        break;
    default:
        break;
    }
}
