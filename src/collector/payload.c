/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/payload.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "collector/core.h"
#include "protocol/tls.h"

#define OPEN_MAX_FILES 512u /* kept open; those above are opened for each piece */
#define INDEX "index.ndjson"

struct side {
    int fd;                   /* -1: not open */
    uint64_t at;              /* size of the file */
    bool begun;               /* the index tells that the connection begins here */
    uint8_t held[TLS_DETECT]; /* first bytes that may be TLS */
    uint8_t held_len;
};

struct payload {
    char *dir, *name; /* name: without .in or .out */
    uint64_t channel;
    bool refused, decided;
    struct side side[PROTO_DIRS];
};

static unsigned open_files;
static bool told; /* that files can't be written */

/* --- names --- */

static void add_end(struct buf *b, const struct sock *s, const union address *a, uint64_t channel, bool plain)
{
    char text[INET6_ADDRSTRLEN];

    if (s && s->domain == AF_UNIX && (a == &s->peer ? s->peer_ino : s->ino))
        buf_printf(b, "af_unix:%" PRIu64, a == &s->peer ? s->peer_ino : s->ino);
    else if (s && a->family == AF_INET && inet_ntop(AF_INET, &a->in.sin_addr, text, sizeof(text)))
        buf_printf(b, "%s:%u", text, ntohs(a->in.sin_port));
    else if (s && a->family == AF_INET6 && inet_ntop(AF_INET6, &a->in6.sin6_addr, text, sizeof(text)))
        buf_printf(b, "%s:%u", text, ntohs(a->in6.sin6_port));
    else
        buf_printf(b, "%s:%" PRIu64, plain ? "tls" : "net", channel); /* nothing is known but that it is another one */
}

struct payload *payload_new(const struct proc *p, const struct sock *sock, uint64_t channel, bool plain)
{
    struct payload *f = xcalloc(1, sizeof(*f));
    struct buf b = BUF_INIT;

    buf_printf(&b, "%u_", p->pid);
    add_end(&b, sock, sock ? &sock->peer : NULL, channel, plain);
    buf_char(&b, '_');
    add_end(&b, sock, sock ? &sock->local : NULL, channel, plain);
    f->name = xstrdup(buf_cstr(&b));
    buf_free(&b);
    f->dir = xstrdup(p->pl->cfg->payload.dir);
    f->channel = channel;
    f->decided = plain;
    f->side[PROTO_RX].fd = f->side[PROTO_TX].fd = -1;
    return f;
}

static void side_close(struct side *s)
{
    if (s->fd < 0)
        return;
    close(s->fd);
    s->fd = -1;
    open_files--;
}

void payload_free(struct payload *f)
{
    if (!f)
        return;
    side_close(&f->side[PROTO_RX]);
    side_close(&f->side[PROTO_TX]);
    free(f->dir);
    free(f->name);
    free(f);
}

bool payload_refused(const struct payload *f)
{
    return f->refused;
}

/* --- files --- */

/* The directory may be anybody's: a file there must be ours. */
static int open_file(struct payload *f, const char *name, uint64_t *ret_size)
{
    char *path = xasprintf("%s/%s", f->dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600), err = errno;
    struct stat st;

    if (fd >= 0 && (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_uid != geteuid())) {
        close(fd);
        fd = -1;
        err = EPERM;
    }
    if (fd < 0 && !told)
        log_warning("payload %s: %s; it and others that fail count as lost", path, strerror(err));
    told |= fd < 0;
    if (fd >= 0)
        *ret_size = (uint64_t)st.st_size;
    free(path);
    return fd;
}

static bool write_all(int fd, const void *data, size_t len)
{
    const char *p = data;

    while (len) {
        ssize_t n = write(fd, p, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        p += n;
        len -= (size_t)n;
    }
    return true;
}

/* A line of the index: at this byte of the file a connection begins, or `missing` bytes weren't captured. */
static void tell_index(struct payload *f, enum proto_dir dir, uint64_t missing, uint64_t time_ns)
{
    struct buf b = BUF_INIT;
    uint64_t size;
    int fd = open_file(f, INDEX, &size);

    if (fd < 0)
        return;
    buf_str(&b, "{\"file\":");
    buf_json_str(&b, f->name);
    b.len--; /* its quote */
    buf_printf(&b, "%s\",\"_channel\":\"%" PRIu64 "\",\"offset\":%" PRIu64, dir == PROTO_RX ? ".in" : ".out",
               f->channel, f->side[dir].at);
    if (missing)
        buf_printf(&b, ",\"missing\":%" PRIu64, missing);
    buf_str(&b, ",\"_time\":");
    buf_time(&b, time_ns);
    buf_str(&b, "}\n");
    write_all(fd, b.p, b.len);
    close(fd);
    buf_free(&b);
}

/* False: none of it, or not all of it, could be written. */
static bool put(struct payload *f, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    struct side *s = &f->side[dir];
    char *name = NULL;
    bool ok = true;

    if (s->fd < 0) {
        name = xasprintf("%s%s", f->name, dir == PROTO_RX ? ".in" : ".out");
        s->fd = open_file(f, name, &s->at);
        free(name);
        if (s->fd < 0)
            return false;
        open_files++;
    }
    if (!s->begun)
        tell_index(f, dir, 0, time_ns);
    s->begun = true;
    if (data && (ok = write_all(s->fd, data, (size_t)len)))
        s->at += len;
    else
        tell_index(f, dir, len, time_ns);
    if (open_files > OPEN_MAX_FILES)
        side_close(s);
    return ok && data;
}

/* The bytes that were held back while they could have been the beginning of TLS. */
static void release(struct payload *f, struct proc *p, uint64_t time_ns)
{
    f->decided = true;
    for (enum proto_dir dir = 0; dir < PROTO_DIRS; dir++) {
        struct side *s = &f->side[dir];

        if (s->held_len && !put(f, dir, s->held, s->held_len, time_ns))
            report_loss(p->c, p, LK_TRAFFIC, s->held_len);
        s->held_len = 0;
    }
}

void payload_pass(struct payload *f, struct proc *p, enum proto_dir dir, const uint8_t *data, uint64_t len,
                  uint64_t time_ns)
{
    struct side *s = &f->side[dir];

    if (f->refused || !len)
        return;
    if (!f->decided && data) {
        uint8_t start[TLS_DETECT];
        size_t n = s->held_len, more = len < sizeof(start) - n ? (size_t)len : sizeof(start) - n;
        int is;

        memcpy(start, s->held, n);
        memcpy(start + n, data, more);
        is = tls_detect(start, n + more);
        if (is > 0) {
            f->refused = true;
            return;
        }
        if (is < 0 && n + len < sizeof(start)) {
            memcpy(s->held, start, n + more);
            s->held_len = (uint8_t)(n + more);
            return;
        }
    }
    if (!f->decided)
        release(f, p, time_ns);
    if (!put(f, dir, data, len, time_ns))
        report_loss(p->c, p, LK_TRAFFIC, len);
}
