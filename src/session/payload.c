/* SPDX-License-Identifier: Apache-2.0 */
/* Writing captured traffic. */
#include "session/payload.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "session/payload_files.h"

#define FILES_MAX 128u
#define NAMES_TRIED 100u
#define INDEX_BUFFER ((size_t)64 << 10)
#define INDEX_DATA_MAX ((size_t)1 << 20) /* of it unwritten: no more data is written, which nobody could find */
#define INDEX_MAX ((size_t)4 << 20)      /* ... no more lines are kept */

/* --- identities and the header --- */

void payload_id_copy(struct payload_id *to, const struct payload_id *from)
{
    *to = *from;
    to->proc = xstrdup(from->proc);
    to->ident = xstrdup(from->ident);
    to->transport = xstrdup(from->transport);
    to->protocol = xstrdup(from->protocol);
}

void payload_id_free(struct payload_id *id)
{
    free((char *)id->proc);
    free((char *)id->ident);
    free((char *)id->transport);
    free((char *)id->protocol);
}

struct payload_addr payload_addr(const struct sockaddr *addr, socklen_t len)
{
    struct payload_addr a = {.family = AF_UNSPEC};
    struct sockaddr_in in;
    struct sockaddr_in6 in6;

    if (!addr || len < sizeof(sa_family_t))
        return a;
    if (addr->sa_family == AF_INET && len >= sizeof(in)) {
        memcpy(&in, addr, sizeof(in));
        a.family = AF_INET;
        a.port = ntohs(in.sin_port);
        memcpy(a.ip, &in.sin_addr, 4);
    } else if (addr->sa_family == AF_INET6 && len >= sizeof(in6)) {
        memcpy(&in6, addr, sizeof(in6));
        a.port = ntohs(in6.sin6_port);
        a.family = IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr) ? AF_INET : AF_INET6;
        if (a.family == AF_INET)
            memcpy(a.ip, in6.sin6_addr.s6_addr + 12, 4);
        else
            memcpy(a.ip, &in6.sin6_addr, 16);
    } else if (addr->sa_family == AF_UNIX) {
        a.family = AF_UNIX;
    }
    return a;
}

const char *payload_addr_text(const struct payload_addr *a, char text[PAYLOAD_ADDR_TEXT])
{
    if ((a->family != AF_INET && a->family != AF_INET6) || !inet_ntop(a->family, a->ip, text, PAYLOAD_ADDR_TEXT))
        *text = '\0';
    return text;
}

bool payload_is_stream(const char *transport)
{
    size_t len = transport ? strlen(transport) : 0;

    return !transport || (len >= 4 && strcmp(transport + len - 4, ".TCP") == 0);
}

static const char *source_word(bool tls, enum payload_dir dir)
{
    return tls ? (dir == PAYLOAD_IN ? "tlsrx" : "tlstx") : dir == PAYLOAD_IN ? "netrx" : "nettx";
}

/* What stands for an end in names of files and in headers: text, and number behind the colon. */
static const char *end_text(const struct payload_addr *a, const char *word, char text[PAYLOAD_ADDR_TEXT], uint64_t *ret)
{
    *ret = a->family == AF_UNIX ? a->inode : a->port;
    if (a->family == AF_UNIX)
        return "af_unix";
    payload_addr_text(a, text);
    if (*text)
        return text;
    *ret = 0;
    return word;
}

void payload_header(struct buf *b, const struct payload_id *id, enum payload_dir dir, uint64_t time_ns, size_t len,
                    const struct payload_place *place)
{
    const char *word = source_word(id->tls, dir), *ip;
    char text[PAYLOAD_ADDR_TEXT];
    uint64_t port;

    buf_str(b, "{\"type\":\"payload\",\"id\":");
    buf_json_str(b, id->ident ? id->ident : "");
    buf_printf(b, ",\"pid\":%lld,\"ppid\":%lld,\"fd\":%lld,\"src\":\"%s\",\"_channel\":\"%llu\",\"len\":%zu",
               (long long)id->pid, (long long)id->ppid, (long long)id->fd, word, (unsigned long long)id->channel, len);
    ip = end_text(&id->host, word, text, &port);
    buf_printf(b, ",\"localip\":\"%s\",\"localp\":%llu", ip, (unsigned long long)port);
    ip = end_text(&id->peer, word, text, &port);
    buf_printf(b, ",\"remoteip\":\"%s\",\"remotep\":%llu,\"protocol\":", ip, (unsigned long long)port);
    buf_json_str(b, id->protocol ? id->protocol : "");
    buf_str(b, ",\"_time\":");
    buf_time(b, time_ns);
    if (place)
        buf_printf(b, ",\"offset\":%llu", (unsigned long long)place->offset);
    if (place && place->missing)
        buf_printf(b, ",\"missing\":%llu", (unsigned long long)place->missing);
    buf_char(b, '}');
}

/* --- the index --- */

struct payload_store {
    struct payload_files files;
    int index;
    struct buf pending; /* lines of the index that aren't written yet */
    struct buf header;
    bool headers;
    uint64_t flows, lost;
    struct payload_flow *first; /* those that haven't ended */
};

/* A file that is written, and what could not be. */
struct output {
    struct payload_file file; /* first: found again from the list of open ones */
    uint64_t size;
    uint64_t failed, failed_ns; /* bytes since the last chunk, not told in the index yet */
    dev_t dev;
    ino_t ino;
};

struct payload_flow {
    struct payload_store *store;
    struct payload_flow *next, **link;
    uint64_t number, begin_ns;
    struct payload_id id; /* texts are malloc'ed */
    bool told;            /* the index has it as it is now */
    struct output out[PAYLOAD_DIRS];
};

int payload_flush(struct payload_store *s)
{
    size_t done = 0;
    int rc = 0;

    while (done < s->pending.len) {
        ssize_t n = write(s->index, s->pending.p + done, s->pending.len - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            rc = -errno;
            break;
        }
        done += (size_t)n;
    }
    if (done) {
        memmove(s->pending.p, s->pending.p + done, s->pending.len - done);
        s->pending.len -= done;
    }
    return rc;
}

/* Before a line of the index: 0, or -errno if there are too many already that can't be written. */
static int line_begin(struct payload_store *s)
{
    int rc = s->pending.len > INDEX_MAX ? payload_flush(s) : 0;

    if (s->pending.len <= INDEX_MAX)
        return 0;
    s->lost++;
    return rc;
}

/* What can't be written now stays. */
static void line_end(struct payload_store *s)
{
    buf_str(&s->pending, "}\n");
    if (s->pending.len >= INDEX_BUFFER)
        payload_flush(s);
}

static void add_text(struct buf *b, const char *key, const char *text)
{
    if (!text)
        return;
    buf_printf(b, ",\"%s\":", key);
    buf_json_str(b, text);
}

static void add_end(struct buf *b, const char *side, const char *unix_side, const struct payload_addr *a)
{
    char text[PAYLOAD_ADDR_TEXT];

    if (a->family == AF_UNIX)
        buf_printf(b, ",\"unix_%s_inode\":%llu", unix_side, (unsigned long long)a->inode);
    else if (*payload_addr_text(a, text))
        buf_printf(b, ",\"net_%s_ip\":\"%s\",\"net_%s_port\":%u", side, text, side, a->port);
}

static int tell_flow(struct payload_flow *f)
{
    static const char *const roles[] = {NULL, "client", "server"};
    static const char *const keys[] = {"in_file", "out_file"};
    struct buf *b = &f->store->pending;
    int rc = f->told ? 0 : line_begin(f->store);

    if (f->told || rc < 0)
        return rc;
    buf_printf(b, "{\"type\":\"flow\",\"flow\":%llu,\"time_ns\":%llu,\"pid\":%lld,\"fd\":%lld",
               (unsigned long long)f->number, (unsigned long long)f->begin_ns, (long long)f->id.pid,
               (long long)f->id.fd);
    if (f->id.ppid)
        buf_printf(b, ",\"ppid\":%lld", (long long)f->id.ppid);
    if (f->id.channel)
        buf_printf(b, ",\"channel\":\"%llu\"", (unsigned long long)f->id.channel);
    add_text(b, "proc", f->id.proc);
    add_text(b, "id", f->id.ident);
    add_text(b, "net_transport", f->id.transport);
    add_text(b, "net_protocol", f->id.protocol);
    buf_printf(b, ",\"tls\":%s", f->id.tls ? "true" : "false");
    add_text(b, "role", roles[f->id.role]);
    add_end(b, "peer", "peer", &f->id.peer);
    add_end(b, "host", "local", &f->id.host);
    for (int d = 0; d < PAYLOAD_DIRS; d++)
        add_text(b, keys[d], f->out[d].file.name);
    line_end(f->store);
    f->told = true;
    return 0;
}

static void add_number(struct buf *b, const char *key, uint64_t n)
{
    buf_str(b, key);
    buf_uint(b, n);
}

/* There are two or more of these for each request: printf(3) would show. */
static int tell_range(struct payload_flow *f, const char *type, enum payload_dir dir, uint64_t time_ns, uint64_t at,
                      uint64_t len)
{
    struct buf *b = &f->store->pending;
    int rc = tell_flow(f);

    if (rc == 0)
        rc = line_begin(f->store);
    if (rc < 0)
        return rc;
    buf_str(b, "{\"type\":\"");
    buf_str(b, type);
    add_number(b, "\",\"flow\":", f->number);
    buf_str(b, dir == PAYLOAD_IN ? ",\"dir\":\"in\"" : ",\"dir\":\"out\"");
    add_number(b, ",\"time_ns\":", time_ns);
    add_number(b, ",\"at\":", at);
    add_number(b, ",\"len\":", len);
    line_end(f->store);
    return 0;
}

/* What could not be written before is a gap where it should be. */
static int tell_failed(struct payload_flow *f, enum payload_dir dir)
{
    struct output *o = &f->out[dir];
    int rc;

    if (!o->failed)
        return 0;
    rc = tell_range(f, "gap", dir, o->failed_ns, o->size, o->failed);
    if (rc == 0)
        o->failed = 0;
    return rc;
}

static int make_index(struct payload_store *s)
{
    char name[64] = PAYLOAD_INDEX;

    for (unsigned n = 2; n <= PAYLOAD_INDEX_LAST; n++) {
        s->index = openat(s->files.dir, name, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (s->index >= 0)
            return 0;
        if (errno != EEXIST)
            return -errno;
        snprintf(name, sizeof(name), PAYLOAD_INDEX_NEXT, n);
    }
    return -EEXIST;
}

int payload_open(const struct payload_options *o, struct payload_store **ret)
{
    struct payload_store *s;
    int rc = make_dirs(o->dir, 0700), dir;

    *ret = NULL;
    if (rc < 0)
        return rc;
    dir = open(o->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return -errno;
    s = xcalloc(1, sizeof(*s));
    s->files = (struct payload_files){.dir = dir, .max = o->max_files ? o->max_files : FILES_MAX};
    s->headers = o->headers;
    rc = make_index(s);
    if (rc < 0) {
        close(dir);
        free(s);
        return rc;
    }
    buf_printf(&s->pending, "{\"type\":\"index\",\"version\":1,\"session\":%llu,\"start_ns\":%llu",
               (unsigned long long)o->session, (unsigned long long)o->start_ns);
    line_end(s);
    payload_flush(s); /* who looks finds whose it is; a full disk may have room later */
    *ret = s;
    return 0;
}

/* --- flows --- */

struct payload_flow *payload_begin(struct payload_store *s, const struct payload_id *id, uint64_t time_ns)
{
    struct payload_flow *f = xcalloc(1, sizeof(*f));

    f->store = s;
    f->number = ++s->flows;
    f->begin_ns = time_ns;
    payload_id_copy(&f->id, id);
    f->next = s->first;
    f->link = &s->first;
    if (s->first)
        s->first->link = &f->next;
    s->first = f;
    return f;
}

void payload_update(struct payload_flow *f, const struct payload_id *id)
{
    struct payload_id old = f->id;

    payload_id_copy(&f->id, id); /* what it points to may be in the old one */
    payload_id_free(&old);
    f->told = false;
}

static void free_flow(struct payload_flow *f)
{
    *f->link = f->next;
    if (f->next)
        f->next->link = f->link;
    for (int d = 0; d < PAYLOAD_DIRS; d++)
        payload_file_clear(&f->store->files, &f->out[d].file);
    payload_id_free(&f->id);
    free(f);
}

static char *file_name(const struct payload_flow *f, enum payload_dir dir, unsigned attempt)
{
    const char *word = source_word(f->id.tls, dir), *ip;
    char text[PAYLOAD_ADDR_TEXT];
    struct buf b = BUF_INIT;
    uint64_t port;

    buf_printf(&b, "%lld", (long long)f->id.pid);
    ip = end_text(&f->id.peer, word, text, &port);
    buf_printf(&b, "_%s:%llu", ip, (unsigned long long)port);
    ip = end_text(&f->id.host, word, text, &port);
    buf_printf(&b, "_%s:%llu", ip, (unsigned long long)port);
    if (attempt > 0)
        buf_printf(&b, ".%llu", (unsigned long long)f->number);
    if (attempt > 1)
        buf_printf(&b, ".%u", attempt);
    buf_str(&b, dir == PAYLOAD_IN ? ".in" : ".out");
    return buf_cstr(&b);
}

/* Makes both files of a flow under names that nobody has: 0 or -errno, then neither. */
static int make_pair(struct payload_flow *f, unsigned attempt)
{
    struct payload_store *s = f->store;
    char *name[PAYLOAD_DIRS];
    int fd[PAYLOAD_DIRS] = {-1, -1}, rc = 0;

    for (enum payload_dir d = 0; d < PAYLOAD_DIRS; d++) {
        name[d] = file_name(f, d, attempt);
        if (rc == 0)
            fd[d] =
                openat(s->files.dir, name[d], O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (rc == 0 && fd[d] < 0)
            rc = -errno;
    }
    for (enum payload_dir d = 0; d < PAYLOAD_DIRS; d++) {
        struct output *o = &f->out[d];
        struct stat st;

        if (rc == 0 && fstat(fd[d], &st) == 0) {
            o->file.name = name[d];
            o->dev = st.st_dev;
            o->ino = st.st_ino;
            payload_file_opened(&s->files, &o->file, fd[d]);
            continue;
        }
        if (fd[d] >= 0) {
            unlinkat(s->files.dir, name[d], 0);
            close(fd[d]);
        }
        free(name[d]);
    }
    return rc;
}

static int make_files(struct payload_flow *f)
{
    int rc = -EEXIST;

    for (unsigned attempt = 0; rc == -EEXIST && attempt < NAMES_TRIED; attempt++)
        rc = make_pair(f, attempt);
    f->told = f->told && rc < 0;
    return rc;
}

/* The descriptor to write to, or -errno. A file that isn't the one that was left is not written to. */
static int use_file(struct payload_flow *f, struct output *o)
{
    struct payload_store *s = f->store;
    struct stat st;
    int fd, rc;

    if (!o->file.name && (rc = make_files(f)) < 0)
        return rc;
    fd = payload_file_use(&s->files, &o->file);
    if (fd >= 0)
        return fd;
    fd = openat(s->files.dir, o->file.name, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0 || st.st_dev != o->dev || st.st_ino != o->ino || (uint64_t)st.st_size != o->size) {
        close(fd);
        return -ESTALE;
    }
    payload_file_opened(&s->files, &o->file, fd);
    return fd;
}

/* Appends header and data; *ret is how much of the data there is then. 0 or -errno. */
static int append(int fd, struct output *o, const struct buf *header, const void *data, size_t len, size_t *ret)
{
    size_t total = header->len + len, done = 0;
    int rc = 0;

    while (done < total) {
        struct iovec v[2] = {{header->p + done, header->len - done}, {(char *)data, len}};
        struct iovec rest = {(char *)data + (done - header->len), total - done};
        ssize_t n = done < header->len ? writev(fd, v, 2) : writev(fd, &rest, 1);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            rc = -errno;
            break;
        }
        done += (size_t)n;
    }
    o->size += done;
    *ret = done > header->len ? done - header->len : 0;
    return rc;
}

static int failed(struct payload_flow *f, enum payload_dir dir, uint64_t time_ns, uint64_t len, int rc)
{
    struct output *o = &f->out[dir];

    if (!o->failed)
        o->failed_ns = time_ns;
    o->failed += len;
    f->store->lost += len;
    return rc;
}

int payload_data(struct payload_flow *f, enum payload_dir dir, uint64_t time_ns, const void *data, size_t len)
{
    struct payload_store *s = f->store;
    struct output *o = &f->out[dir];
    size_t written = 0;
    int fd, rc;

    if (s->pending.len > INDEX_DATA_MAX && (rc = payload_flush(s)) < 0)
        return failed(f, dir, time_ns, len, rc);
    fd = use_file(f, o);
    if (fd < 0)
        return failed(f, dir, time_ns, len, fd);
    rc = tell_failed(f, dir);
    if (rc < 0)
        return failed(f, dir, time_ns, len, rc);
    buf_reset(&s->header);
    if (s->headers)
        payload_header(&s->header, &f->id, dir, time_ns, len, NULL);
    rc = append(fd, o, &s->header, data, len, &written);
    if (written || rc == 0) {
        /* There is room for this line: see above. */
        int told = tell_range(f, "data", dir, time_ns, o->size - written, written);

        rc = rc ? rc : told;
    }
    return rc < 0 ? failed(f, dir, time_ns, len - written, rc) : 0;
}

int payload_gap(struct payload_flow *f, enum payload_dir dir, uint64_t time_ns, uint64_t len)
{
    int rc;

    if (!len)
        return 0;
    rc = tell_failed(f, dir);
    if (rc == 0)
        rc = tell_range(f, "gap", dir, time_ns, f->out[dir].size, len);
    if (rc < 0) {
        f->out[dir].failed += len;
        f->out[dir].failed_ns = time_ns;
    }
    return rc;
}

int payload_end(struct payload_flow *f, uint64_t time_ns, const char *reason)
{
    struct payload_store *s = f->store;
    int rc = 0, one;

    for (enum payload_dir d = 0; d < PAYLOAD_DIRS; d++)
        if ((one = tell_failed(f, d)) < 0)
            rc = one;
    if (rc == 0)
        rc = tell_flow(f);
    if (rc == 0)
        rc = line_begin(s);
    if (rc == 0) {
        buf_printf(&s->pending, "{\"type\":\"end\",\"flow\":%llu,\"time_ns\":%llu", (unsigned long long)f->number,
                   (unsigned long long)time_ns);
        add_text(&s->pending, "reason", reason);
        line_end(s);
    }
    free_flow(f);
    return rc;
}

uint64_t payload_lost(const struct payload_store *s)
{
    return s->lost;
}

int payload_close(struct payload_store *s)
{
    int rc = 0, one;

    for (struct payload_flow *f = s->first, *next; f; f = next) {
        next = f->next;
        for (enum payload_dir d = 0; d < PAYLOAD_DIRS; d++)
            if ((one = tell_failed(f, d)) < 0)
                rc = one;
        free_flow(f);
    }
    one = payload_flush(s);
    rc = one < 0 ? one : rc;
    close(s->index);
    close(s->files.dir);
    buf_free(&s->pending);
    buf_free(&s->header);
    free(s);
    return rc;
}
