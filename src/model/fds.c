/* SPDX-License-Identifier: Apache-2.0 */
#include "model/fds.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "model/ask.h"
#include "model/model.h"
#include "model/procinfo.h"
#include "protocol/protocol.h"

static const char *const label_name[] = {"stdin", "stdout", "stderr"};

const char *fds_label_name(const struct desc *d, size_t *ret_len)
{
    *ret_len = strlen(label_name[d->label]);
    return label_name[d->label];
}

bool fds_unresolved(const struct desc *d)
{
    const struct file *f = d->file;

    return f && !(d->flags & DF_LABEL) && (f->kind == FDK_FILE || f->kind == FDK_DIR || f->kind == FDK_UNKNOWN) &&
           !f->resolved;
}

void fds_gauge(struct proc *p, struct desc *d, uint8_t flag, int64_t fd, uint64_t time_ns)
{
    unsigned *n = &p->gauge_port;
    enum tm_metric m = TM_NET_PORT;

    if (d->flags & flag)
        return;
    if (flag == DF_CONN) {
        int k = d->file->sock->type == SOCK_STREAM ? 0 : d->file->sock->type == SOCK_DGRAM ? 1 : 2;

        n = &p->gauge_conn[k];
        m = TM_NET_TCP + k;
    }
    d->flags |= flag;
    p->m->watch->gauge(p, m, ++*n, fd, d, time_ns);
}

static void gauge_end(struct proc *p, struct desc *d, uint8_t flag, int64_t fd, uint64_t time_ns)
{
    unsigned *n = &p->gauge_port;
    enum tm_metric m = TM_NET_PORT;

    if (!(d->flags & flag))
        return;
    if (flag == DF_CONN) {
        int k = d->file->sock->type == SOCK_STREAM ? 0 : d->file->sock->type == SOCK_DGRAM ? 1 : 2;

        n = &p->gauge_conn[k];
        m = TM_NET_TCP + k;
    }
    d->flags &= (uint8_t)~flag;
    if (*n)
        --*n;
    p->m->watch->gauge(p, m, *n, fd, d, time_ns);
}

/* --- standard streams: docs/data-model.md, "Console and file events" --- */

bool fds_sink(uint32_t mode, uint64_t rdev)
{
    unsigned major = major(rdev);

    /* admin-guide/devices.txt of the kernel: terminals, /dev/tty and /dev/console, pseudo-terminals */
    return S_ISCHR(mode) && major != 4 && major != 5 && !(major >= 136 && major <= 143);
}

const char *fds_stream(const struct desc *d, size_t *ret_len)
{
    *ret_len = strlen(label_name[d->label]);
    return label_name[d->label];
}

/* Whether f is what the standard stream n of this image is. */
static bool is_std(const struct proc *p, int64_t n, const struct file *f)
{
    const struct std_file *s = &p->std[n];

    return s->channel && (s->channel == f->channel || (f->ino && s->ino == f->ino && s->dev == f->dev));
}

static void set_std(struct proc *p, int64_t n, const struct file *f)
{
    p->std[n] = (struct std_file){f->channel, f->dev, f->ino};
}

/* Where two of them are the same file, as with 2>&1, the number says which one is meant. */
uint8_t fds_label(const struct proc *p, const struct desc *from, int64_t fd)
{
    return fd >= 0 && fd <= 2 && is_std(p, fd, from->file) && is_std(p, from->label, from->file) ? (uint8_t)fd : from->label;
}

/* "/proc/self/fd/2" and the like: the number, or -1. */
static int64_t named_fd(const struct proc *p, const char *path, size_t len)
{
    static const char *const names[] = {"/dev/stdin", "/dev/stdout", "/dev/stderr"};
    char own[40], text[64];
    const char *const dirs[] = {"/dev/fd/", "/proc/self/fd/", "/proc/thread-self/fd/", own};

    if (!len || len >= sizeof(text))
        return -1;
    memcpy(text, path, len);
    text[len] = 0;
    for (int i = 0; i < 3; i++)
        if (!strcmp(text, names[i]))
            return i;
    snprintf(own, sizeof(own), "/proc/%u/fd/", p->pid);
    for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
        const char *number = text + strlen(dirs[i]);
        char *end;
        unsigned long fd;

        if (strncmp(text, dirs[i], strlen(dirs[i])) != 0 || *number < '0' || *number > '9')
            continue;
        fd = strtoul(number, &end, 10);
        return *end || fd >= FD_LIMIT ? -1 : (int64_t)fd;
    }
    return -1;
}

void fds_reopened(struct proc *p, struct desc *d)
{
    static const uint8_t order[] = {1, 2, 0}; /* stdout, if that is the same as stderr and nothing says which is meant */
    struct file *f = d->file;
    const struct desc *from;

    if (f->read_only || f->sink || f->kind == FDK_DIR)
        return;
    from = fd_get(&p->fds, named_fd(p, f->path, f->path_len), false);
    if (from && from != d && from->file && from->flags & DF_STREAM) {
        d->flags |= DF_STREAM;
        d->label = from->label;
        return;
    }
    for (size_t i = 0; f->ino && i < sizeof(order); i++) {
        if (is_std(p, order[i], f)) {
            d->flags |= DF_STREAM;
            d->label = order[i];
            return;
        }
    }
}

static void stream_one(void *ctx, int fd, struct desc *d)
{
    if (fd > 2 && !(d->flags & DF_STREAM) && d->file->kind != FDK_SOCKET)
        fds_reopened(ctx, d);
}

void fds_streams(struct proc *p)
{
    for (int n = 0; n <= 2; n++) {
        const struct desc *d = fd_get(&p->fds, n, false);

        p->std[n] = (struct std_file){0};
        if (d && d->file)
            set_std(p, n, d->file);
    }
    fd_table_each(&p->fds, stream_one, p);
}

void fds_decide(struct proc *p, int64_t fd, struct desc *d)
{
    enum fd_want want = p->m->watch->wants(p, d);

    if (want == d->want)
        return;
    d->want = (uint8_t)want;
    /* Nothing can be written there. The probe's entry is in its CPU's cache and is better left alone. */
    if (d->file->read_only && want == FDW_NONE)
        return;
    p->m->watch->tell_want(p, fd, d);
}

void fds_sample(struct proc *p, int64_t fd, struct desc *d, bool enough)
{
    enum fd_want want = enough ? FDW_SAMPLE : FDW_CAPTURE;

    if (d->want == want || (d->want != FDW_CAPTURE && d->want != FDW_SAMPLE))
        return;
    d->want = (uint8_t)want;
    p->m->watch->tell_want(p, fd, d);
}

/* Where the counters of a socket stand when it begins. */
static void start_position(const struct proc *p, struct desc *d)
{
    bool known = !p->borrowed && !(d->flags & DF_BLIND);

    d->pos[PROTO_RX] = known ? (d->gen ? d->seen.rb : 0) : DESC_NO_POS;
    d->pos[PROTO_TX] = known ? (d->gen ? d->seen.wb : 0) : DESC_NO_POS;
    d->skip[PROTO_RX] = d->skip[PROTO_TX] = 0;
}

struct desc *fds_open(struct proc *p, int64_t fd, struct file *f, uint32_t gen, bool cloexec, uint64_t time_ns)
{
    struct desc *d;

    d = fd_get(&p->fds, fd, false);
    if (d && d->file && gen)
        fds_forget(p, fd); /* its close was lost */
    else if (d && d->file)
        fds_close(p, fd, "close", time_ns, false);
    d = fd_get(&p->fds, fd, true);
    if (!d) {
        file_unref(p->m, f);
        if (!p->all_recorded)
            model_loss(p->m, p, LK_DESCRIPTOR, 1);
        p->all_recorded = true;
        return NULL;
    }
    d->file = f;
    d->gen = gen;
    d->flags = (uint8_t)((cloexec ? DF_CLOEXEC : 0) | (gen && gen != (d->next_gen ? d->next_gen : 1) ? DF_BLIND : 0));
    d->want = FDW_UNDECIDED;
    d->label = 0;
    d->channel = f->channel;
    d->open_ns = time_ns;
    d->n = (struct io_count){0};
    start_position(p, d);
    fds_decide(p, fd, d);
    return d;
}

void fds_close(struct proc *p, int64_t fd, const char *op, uint64_t time_ns, bool explicit_)
{
    struct desc *d = fd_get(&p->fds, fd, false);
    struct file *f;

    if (!d || !d->file)
        return;
    f = d->file;
    if (f->kind == FDK_SOCKET) {
        gauge_end(p, d, DF_PORT, fd, time_ns);
        if (f->sock)
            gauge_end(p, d, DF_CONN, fd, time_ns);
    }
    p->m->watch->closing(p, fd, d, op, time_ns, explicit_);
    d->file = NULL;
    d->flags = 0;
    d->n = (struct io_count){0};
    file_unref(p->m, f);
}

void fds_forget(struct proc *p, int64_t fd)
{
    struct desc *d = fd_get(&p->fds, fd, false);
    struct file *f = d ? d->file : NULL;

    if (!f)
        return;
    if (f->kind == FDK_SOCKET) { /* a connection ends all the same */
        fds_close(p, fd, "close", p->image_ns, false);
        return;
    }
    d->file = NULL;
    d->flags = 0;
    d->n = (struct io_count){0};
    file_unref(p->m, f);
}

static enum fd_kind kind_of_link(const char *text, const struct stat *st)
{
    static const struct {
        const char *text;
        enum fd_kind kind;
    } anon[] = {{"anon_inode:[eventpoll]", FDK_EPOLL},   {"anon_inode:[eventfd]", FDK_EVENTFD},
                {"anon_inode:[timerfd]", FDK_TIMERFD},   {"anon_inode:[signalfd]", FDK_SIGNALFD},
                {"anon_inode:inotify", FDK_INOTIFY},     {"anon_inode:[io_uring]", FDK_IO_URING},
                {"anon_inode:[pidfd]", FDK_PIDFD},       {"/memfd:", FDK_MEMFD}};

    for (size_t i = 0; i < sizeof(anon) / sizeof(anon[0]); i++)
        if (!strncmp(text, anon[i].text, strlen(anon[i].text)))
            return anon[i].kind;
    switch (st->st_mode & S_IFMT) {
    case S_IFREG: case S_IFCHR: case S_IFBLK: return FDK_FILE;
    case S_IFDIR: return FDK_DIR;
    case S_IFSOCK: return FDK_SOCKET;
    case S_IFIFO: return FDK_PIPE;
    default: return text[0] == '/' ? FDK_FILE : FDK_OTHER;
    }
}

/* Whether /proc still shows the descriptor of that generation. */
static bool still(const struct proc *p, int fd, uint32_t gen)
{
    uint32_t now;

    if (p->host_pid <= 0 || p->dead)
        return false;
    return !p->m->watch->generation(p, fd, &now) || now == gen;
}

/* A file made from what /proc tells about fd, if that is still the one that is meant. */
static struct file *file_from_proc(struct proc *p, int fd, uint32_t gen)
{
    char text[PATH_MAX];
    struct stat st = {0};
    int n = still(p, fd, gen) ? pi_fd_link(p->host_pid, fd, text, sizeof(text), &st) : -ESRCH;
    struct file *f;

    if (n > 0 && !st.st_mode && ask_stat_fd(p, fd, &st))
        st = (struct stat){0};
    if (n < 0 || !still(p, fd, gen)) {
        st.st_mode = 0;
        f = file_new(p->m, FDK_UNKNOWN, "", 0);
    } else {
        f = file_new(p->m, kind_of_link(text, &st), text, (size_t)n);
        f->plain = f->tail = (uint32_t)n;
    }
    if (f->kind == FDK_SOCKET) {
        file_sock(f, 0, 0, 0)->ino = st.st_ino;
        f->sock->flags |= SOCKF_JOINED;
    }
    if (st.st_mode) {
        f->dev = st.st_dev;
        f->ino = st.st_ino;
        f->sink = fds_sink(st.st_mode, st.st_rdev);
        f->has_stat = true;
        f->perms = st.st_mode & 0777;
        f->uid = st.st_uid;
        f->gid = st.st_gid;
    }
    return f;
}

/* inetd(8) and its like give a connection as standard input and output: one socket, that each direction uses another
 * descriptor of. Returns what f, of fd, becomes. */
static struct file *same_socket(struct proc *p, int64_t fd, struct file *f)
{
    for (int64_t other = 0; f->kind == FDK_SOCKET && f->sock->ino && other < fd && fd <= 2; other++) {
        const struct desc *d = fd_get(&p->fds, other, false);

        if (d && d->file && d->file->kind == FDK_SOCKET && d->file->sock && d->file->sock->ino == f->sock->ino) {
            file_unref(p->m, f);
            return file_ref(d->file);
        }
    }
    return f;
}

struct desc *fds_look(struct proc *p, int64_t fd, uint32_t gen)
{
    struct desc *d = fd_get(&p->fds, fd, true);

    if (!d || d->file)
        return d;
    d->file = same_socket(p, fd, file_from_proc(p, (int)fd, gen));
    d->gen = gen;
    d->flags = 0;
    d->want = FDW_UNDECIDED;
    d->channel = d->file->channel;
    d->open_ns = p->image_ns;
    d->n = (struct io_count){0};
    start_position(p, d);
    if (fd <= 2 && !gen) { /* inherited */
        d->flags |= DF_LABEL | DF_STREAM;
        d->label = (uint8_t)fd;
        if (!p->std[fd].channel)
            set_std(p, fd, d->file);
    }
    return d;
}

struct snapshot {
    struct proc *p;
    uint64_t time_ns;
};

static void snapshot_one(void *ctx, int fd)
{
    struct snapshot *s = ctx;
    uint32_t gen;
    char text[64];

    /* opened since the probe started: its record is on the way */
    if (fd > 2 && s->p->m->watch->generation(s->p, fd, &gen) && gen)
        return;

    /* the segment itself isn't the program's */
    if (pi_fd_link(s->p->host_pid, fd, text, sizeof(text), NULL) >= 13 && !strncmp(text, "/memfd:scope ", 13))
        return;
    fds_lookup(s->p, fd);
}

void fds_snapshot(struct proc *p, uint64_t time_ns)
{
    struct snapshot s = {p, time_ns};

    if (p->host_pid > 0)
        pi_each_fd(p->host_pid, snapshot_one, &s);
}

struct walk {
    struct proc *p;
    uint64_t time_ns;
    const char *op;
};

struct attached {
    struct proc *p;
    int pidfd;
    uint64_t time_ns;
};

/* A socket that is there already: what the calls that made it would have told. */
static void socket_attached(struct attached *at, int fd, struct desc *d)
{
    struct file *f = d->file;
    int own = pi_fd_copy(at->pidfd, fd), listening = 0, domain = 0, type = 0, protocol = 0;
    union {
        struct sockaddr_storage any;
        struct sockaddr addr;
    } a;
    socklen_t len = sizeof(int);
    struct sock *s;

    if (own < 0)
        return;
    getsockopt(own, SOL_SOCKET, SO_DOMAIN, &domain, &len);
    getsockopt(own, SOL_SOCKET, SO_TYPE, &type, &len);
    getsockopt(own, SOL_SOCKET, SO_PROTOCOL, &protocol, &len);
    getsockopt(own, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len);
    s = f->sock;
    s->domain = domain;
    s->type = type;
    s->protocol = protocol;
    len = sizeof(a);
    if (!getsockname(own, &a.addr, &len))
        address_set(&s->local, &a, len < sizeof(a) ? len : sizeof(a));
    len = sizeof(a);
    if (listening) {
        s->flags |= SOCKF_LISTENING;
    } else if (!getpeername(own, &a.addr, &len)) { /* its end will be told; its beginning was before our time */
        address_set(&s->peer, &a, len < sizeof(a) ? len : sizeof(a));
        s->flags |= SOCKF_OPEN;
        s->open_ns = at->time_ns;
    }
    close(own);
    if (listening && (domain == AF_INET || domain == AF_INET6))
        fds_gauge(at->p, d, DF_PORT, fd, at->time_ns);
    if (s->flags & SOCKF_OPEN)
        fds_gauge(at->p, d, DF_CONN, fd, at->time_ns);
}

static void attached_one(void *ctx, int fd, struct desc *d)
{
    struct attached *at = ctx;
    int flags = pi_fd_flags(at->p->host_pid, fd);

    if (flags >= 0 && (flags & O_CLOEXEC))
        d->flags |= DF_CLOEXEC;
    if (flags >= 0 && d->file->kind == FDK_FILE && (flags & O_ACCMODE) == O_RDONLY)
        d->file->read_only = true;
    if (d->file->kind == FDK_SOCKET && d->file->sock)
        socket_attached(at, fd, d);
}

void fds_attached(struct proc *p, int pidfd, uint64_t time_ns)
{
    struct attached at = {p, pidfd, time_ns};

    if (p->host_pid > 0)
        fd_table_each(&p->fds, attached_one, &at);
}

static void exec_one(void *ctx, int fd, struct desc *d)
{
    struct walk *w = ctx;

    if (d->flags & DF_CLOEXEC) {
        fds_close(w->p, fd, w->op, w->time_ns, false);
        return;
    }
    d->gen = 0; /* numbers of the new segment */
    d->pos[PROTO_RX] = d->pos[PROTO_TX] = d->skip[PROTO_RX] = d->skip[PROTO_TX] = 0;
    d->want = FDW_UNDECIDED;
    if (fd <= 2) {
        d->flags |= DF_LABEL | DF_STREAM;
        d->label = (uint8_t)fd;
    }
}

void fds_exec(struct proc *p, uint64_t time_ns)
{
    struct walk w = {p, time_ns, "exec"};

    fd_table_each(&p->fds, exec_one, &w);
}

static void end_one(void *ctx, int fd, struct desc *d)
{
    struct walk *w = ctx;

    (void)d;
    fds_close(w->p, fd, w->op, w->time_ns, false);
}

void fds_end(struct proc *p, const char *op, uint64_t time_ns)
{
    struct walk w = {p, time_ns, op};

    fd_table_each(&p->fds, end_one, &w);
}
