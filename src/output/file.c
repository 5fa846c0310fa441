/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files, and the collector's own stdout and stderr. Appending; lines stay whole
 * also on a full disk: a line that was written in part is finished later, or
 * cut off again when the output is closed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/job.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/safe_path.h"
#include "output/internal.h"

#define CHECK_MS 1000u /* how often the name is compared with what is open */
/* A disk that is busy makes its writers wait. Once a call has lasted so long, what is much at once is written by a thread
 * for some time; not always, as that costs a tenth more: bytes wait longer, and leave the CPU's cache. */
#define SLOW_MS 10u
#define ASIDE_FOR_MS 30000u
#define ASIDE_MIN ((size_t)128 << 10)
#define ASIDE_MAX ((size_t)1 << 20)
#define ASIDE_MS 2u /* how often it is asked whether it is done */

struct file {
    bool regular;
    bool named;          /* has a path that can be looked up again */
    bool is_socket;
    bool said_full;
    dev_t dev;
    ino_t ino;
    uint64_t checked;    /* monotonic ms */
    uint64_t aside_until; /* monotonic ms */
    struct job *job;     /* for writing aside, NULL: it wasn't needed yet */
    char *bytes;         /* ASIDE_MAX: a copy of what is at the head of the queue */
    size_t len, written; /* len 0: nothing is under way, or its result is not to be taken any more */
    int fd, err;         /* for the thread; why it has written less */
};

static bool always_busy;

void output_disks_are_busy(bool always)
{
    always_busy = always;
}

static int standard_stream(const char *path)
{
    return strcmp(path, "stdout") == 0 ? STDOUT_FILENO : strcmp(path, "stderr") == 0 ? STDERR_FILENO : -1;
}

/* A descriptor of our own, so that O_NONBLOCK doesn't reach the programs that share the stream. Regular files
 * are duplicated instead: they share the offset, so nobody overwrites what the other wrote. */
static int open_standard(int fd, bool *ret_socket)
{
    char name[32];
    struct stat st;
    int own = -1;

    if (fstat(fd, &st) < 0)
        return -errno;
    *ret_socket = S_ISSOCK(st.st_mode);
    if (!S_ISREG(st.st_mode) && !*ret_socket) {
        snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
        own = open(name, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    }
    if (own < 0)
        own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    return own < 0 ? -errno : own;
}

/* A new file obeys the umask, as that of a shell would; one that was moved away gets the mode that it had. */
static int open_path(const struct output *o, char **ret_why)
{
    return safe_file(o->cfg.path, O_WRONLY | O_APPEND | O_CREAT, o->file_mode ? o->file_mode : 0666 | SAFE_UMASK, ret_why);
}

static int file_open(struct output *o)
{
    int std = standard_stream(o->cfg.path), fd, rc;
    struct file *f;
    struct stat st;
    char *why = NULL;
    bool is_socket = false;

    fd = std >= 0 ? open_standard(std, &is_socket) : open_path(o, &why);
    if (fd < 0) {
        rc = fd;
        if (why)
            output_failed(o, "can't write to %s: %s", o->cfg.path, why);
        else
            output_failed(o, "can't open %s for writing: %s", o->cfg.path, strerror(-rc));
        free(why);
        return rc;
    }
    if (fstat(fd, &st) < 0) {
        rc = -errno;
        close(fd);
        output_failed(o, "%s: %s", o->cfg.path, strerror(-rc));
        return rc;
    }
    f = xcalloc(1, sizeof(*f));
    f->regular = S_ISREG(st.st_mode);
    f->named = std < 0 && f->regular;
    if (f->named)
        o->file_mode = st.st_mode & 0777;
    f->is_socket = is_socket;
    f->dev = st.st_dev;
    f->ino = st.st_ino;
    f->checked = monotonic_ms();
    o->priv = f;
    o->fd = fd;
    o->want = 0;
    o->io_pollable = !f->regular; /* epoll refuses regular files, which never block anyway */
    return 0;
}

/* In the thread. */
static void write_aside(void *arg)
{
    struct file *f = arg;

    while (f->written < f->len) {
        ssize_t n = write(f->fd, f->bytes + f->written, f->len - f->written);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            f->err = -errno;
            break;
        }
        f->written += (size_t)n;
    }
}

/* Has the next bytes written by the thread. False if there is no need, or no thread. */
static bool start_aside(struct output *o, struct file *f)
{
    struct iovec part[2];
    int parts;
    size_t len = 0;

    if (!always_busy && (!f->aside_until || monotonic_ms() >= f->aside_until))
        return false;
    parts = queue_peek(&o->queue, ASIDE_MAX, part);
    for (int i = 0; i < parts; i++)
        len += part[i].iov_len;
    if (!f->regular || len < ASIDE_MIN || (!f->job && !(f->job = job_new())))
        return false;
    if (!f->bytes)
        f->bytes = xmalloc(ASIDE_MAX);
    f->len = f->written = 0;
    for (int i = 0; i < parts; i++) {
        memcpy(f->bytes + f->len, part[i].iov_base, part[i].iov_len);
        f->len += part[i].iov_len;
    }
    f->err = 0;
    f->fd = o->fd;
    job_run(f->job, write_aside, f);
    return true;
}

/* What the thread has done: 0 or -errno. */
static int end_aside(struct output *o, struct file *f)
{
    if (!f->len)
        return 0;
    job_wait(f->job);
    f->len = 0;
    output_sent(o, f->written);
    queue_release(&o->queue, 0);
    return f->err;
}

static void file_close(struct output *o)
{
    struct file *f = o->priv;

    if (f) {
        end_aside(o, f);
        job_free(f->job);
        free(f->bytes);
    }
    if (f && f->named && queue_inside(&o->queue)) {
        /* Part of a line is at the end of the file: take it away, if nobody has appended since. */
        off_t part = (off_t)(o->queue.next - o->queue.next_start), end = lseek(o->fd, 0, SEEK_CUR);
        struct stat st;

        if (fstat(o->fd, &st) == 0 && st.st_size == end && end >= part && ftruncate(o->fd, end - part) < 0)
            log_debug("%s: a partial line stays at the end: %s", o->cfg.path, strerror(errno));
    }
    if (o->fd >= 0)
        close(o->fd);
    free(f);
    o->priv = NULL;
    o->fd = -1;
}

/* True if the file was renamed or removed since it was opened (log rotation). */
static bool moved_away(struct output *o, struct file *f)
{
    struct stat st;
    uint64_t now = monotonic_ms();
    int rc;

    if (!f->named || now - f->checked < CHECK_MS)
        return false;
    f->checked = now;
    rc = safe_stat(o->cfg.path, &st); /* a link that isn't followed leads nowhere: the file stays */
    if (rc == 0)
        return st.st_dev != f->dev || st.st_ino != f->ino;
    return rc == -ENOENT;
}

static ssize_t put(struct output *o, struct file *f, struct iovec *part, int parts)
{
    struct msghdr m = {.msg_iov = part, .msg_iovlen = (size_t)parts};
    uint64_t began = f->regular ? monotonic_ms() : 0, now;
    ssize_t n;

    do
        n = f->is_socket ? sendmsg(o->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) : writev(o->fd, part, parts);
    while (n < 0 && errno == EINTR);
    n = n < 0 ? -errno : n;
    if (f->regular && (now = monotonic_ms()) - began >= SLOW_MS)
        f->aside_until = now + ASIDE_FOR_MS;
    return n;
}

/* Some errors pass. */
static int failed(struct output *o, struct file *f, int rc)
{
    output_failed(o, "can't write to %s: %s", o->cfg.path, strerror(-rc));
    if (rc != -ENOSPC && rc != -EDQUOT && rc != -EFBIG && rc != -EIO && rc != -ENOMEM && rc != -ENOBUFS)
        return rc;
    if (!f->said_full)
        log_warning("%s; records are kept while the queue has room", o->failure);
    f->said_full = true;
    return -EAGAIN;
}

static int file_send(struct output *o)
{
    struct file *f = o->priv;
    struct iovec part[2];
    int parts, rc;

    o->want = 0;
    if (f->len && job_busy(f->job)) {
        o->retry_ms = ASIDE_MS;
        return -EAGAIN;
    }
    if ((rc = end_aside(o, f)) < 0)
        return failed(o, f, rc);
    if (!queue_inside(&o->queue) && o->preamble_sent == 0 && moved_away(o, f)) {
        output_failed(o, "%s was moved away", o->cfg.path);
        return -ESTALE;
    }
    for (;;) {
        bool preamble = o->preamble_sent < o->preamble.len;
        ssize_t n;

        if (!preamble && start_aside(o, f)) {
            o->retry_ms = ASIDE_MS;
            return -EAGAIN;
        }
        if (preamble) {
            part[0] = (struct iovec){.iov_base = o->preamble.p + o->preamble_sent,
                                     .iov_len = o->preamble.len - o->preamble_sent};
            parts = 1;
        } else {
            parts = queue_peek(&o->queue, SIZE_MAX, part);
        }
        if (!parts)
            break;
        n = put(o, f, part, parts);
        if (n == -EAGAIN) {
            o->want = POLLOUT;
            return -EAGAIN;
        }
        if (n < 0)
            return failed(o, f, (int)n);
        if (preamble) {
            o->preamble_sent += (size_t)n;
            o->stats.bytes += (uint64_t)n;
            continue;
        }
        output_sent(o, (size_t)n);
        queue_release(&o->queue, 0);
    }
    if (f->said_full)
        log_info("%s: writing again", o->cfg.path);
    f->said_full = false;
    o->failure[0] = 0;
    return 0;
}

static bool file_settle(struct output *o)
{
    struct file *f = o->priv;

    if (!f->len)
        return false;
    job_wait(f->job);
    return true;
}

static int file_ready(struct output *o, short events)
{
    return 0;
}

static int file_input(struct output *o)
{
    return 0;
}

const struct transport transport_file = {
    .open = file_open,
    .ready = file_ready,
    .input = file_input,
    .send = file_send,
    .settle = file_settle,
    .close = file_close,
};
