/* SPDX-License-Identifier: Apache-2.0 */
/* Reading captured traffic. Everything in the files may be wrong: they lie where others can write, too. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/lines.h"
#include "base/mem.h"
#include "base/safe_path.h"
#include "session/payload.h"
#include "session/payload_files.h"

#define FILES_MAX 128u

/* A flow in an index. */
struct read_flow {
    struct payload_entry entry;
    struct payload_file file[PAYLOAD_DIRS];
    uint64_t next[PAYLOAD_DIRS]; /* where the next chunk can begin */
};

struct payload_reader {
    struct payload_files files;
    uint64_t session, start_ns;
    unsigned index; /* number of the file that is read */
    struct lines lines;
    uint64_t line_count, damaged;
    struct read_flow **of_index; /* by their numbers in this index, from 1 */
    uint64_t index_cap;
    struct read_flow **all;
    uint64_t count, cap;
};

static int64_t integer(const json_t *o, const char *key, int64_t missing)
{
    const json_t *v = json_object_get(o, key);

    return json_is_integer(v) ? json_integer_value(v) : missing;
}

/* Those that can't be negative: -1 if it is missing or is. */
static int64_t natural(const json_t *o, const char *key)
{
    int64_t v = integer(o, key, -1);

    return v < 0 ? -1 : v;
}

static const char *text(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

static void add_saturated(uint64_t *sum, uint64_t n)
{
    if (__builtin_add_overflow(*sum, n, sum))
        *sum = UINT64_MAX;
}

/* --- index files --- */

/* The next complete line as an object; *ret is NULL for one that isn't. 1, 0, -errno. */
static int next_object(struct payload_reader *r, json_t **ret)
{
    char *line;
    size_t len;
    int rc = lines_next(&r->lines, &line, &len);

    *ret = NULL;
    if (rc != 1)
        return rc;
    r->line_count++;
    *ret = json_loadb(line, len, 0, NULL);
    if (*ret && !json_is_object(*ret)) {
        json_decref(*ret);
        *ret = NULL;
    }
    return 1;
}

static bool is_ours(struct payload_reader *r)
{
    json_t *o;
    bool ours = false;

    if (next_object(r, &o) == 1) {
        const char *type = text(o, "type");

        ours = type && strcmp(type, "index") == 0 && integer(o, "version", 0) == 1 &&
               natural(o, "session") == (int64_t)r->session &&
               (!r->start_ns || natural(o, "start_ns") == (int64_t)r->start_ns);
    }
    json_decref(o);
    return ours;
}

/* Opens the next index of the session: 1, 0 if there is none, -errno. */
static int next_index(struct payload_reader *r)
{
    char name[64] = PAYLOAD_INDEX;

    lines_close(&r->lines);
    while (r->index < PAYLOAD_INDEX_LAST) {
        int rc;

        if (++r->index > 1)
            snprintf(name, sizeof(name), PAYLOAD_INDEX_NEXT, r->index);
        rc = lines_open_at(&r->lines, r->files.dir, name);
        if (rc == -ENOENT && r->index > 1)
            return 0;
        r->line_count = 0;
        if (rc == 0 && is_ours(r)) {
            if (r->index_cap)
                memset(r->of_index, 0, r->index_cap * sizeof(struct read_flow *));
            return 1;
        }
        lines_close(&r->lines);
    }
    return 0;
}

int payload_reader_new(const char *dir, uint64_t session, uint64_t start_ns, struct payload_reader **ret)
{
    struct payload_reader *r;
    int fd = safe_dir(dir, SAFE_NAMED, 0, NULL);

    *ret = NULL;
    if (fd < 0)
        return fd;
    r = xcalloc(1, sizeof(*r));
    r->files = (struct payload_files){.dir = fd, .max = FILES_MAX};
    r->session = session;
    r->start_ns = start_ns;
    r->lines.fd = -1;
    if (next_index(r) == 0) {
        payload_reader_free(r);
        return -ENOENT;
    }
    *ret = r;
    return 0;
}

int payload_reader_dir(const struct payload_reader *r)
{
    return r->files.dir;
}

static void free_texts(struct payload_entry *e)
{
    payload_id_free(&e->id);
}

void payload_reader_free(struct payload_reader *r)
{
    if (!r)
        return;
    lines_close(&r->lines);
    for (uint64_t i = 0; i < r->count; i++) {
        struct read_flow *f = r->all[i];

        for (int d = 0; d < PAYLOAD_DIRS; d++)
            payload_file_clear(&r->files, &f->file[d]);
        free_texts(&f->entry);
        free((char *)f->entry.reason);
        free(f);
    }
    close(r->files.dir);
    free(r->of_index);
    free(r->all);
    free(r);
}

/* --- lines --- */

static struct read_flow *find(const struct payload_reader *r, int64_t number)
{
    return number > 0 && (uint64_t)number < r->index_cap ? r->of_index[number] : NULL;
}

/* A flow that may be new. Each has a line, so none has a number above that of its line: that bounds the table. */
static struct read_flow *find_or_add(struct payload_reader *r, int64_t number)
{
    struct read_flow *f = find(r, number);

    if (f || number < 1 || (uint64_t)number >= r->line_count)
        return f;
    if ((uint64_t)number >= r->index_cap) {
        uint64_t cap = (uint64_t)number * 2 + 64;

        r->of_index = xrealloc(r->of_index, cap, sizeof(struct read_flow *));
        memset(r->of_index + r->index_cap, 0, (cap - r->index_cap) * sizeof(struct read_flow *));
        r->index_cap = cap;
    }
    if (r->count == r->cap) {
        r->cap = r->cap ? r->cap * 2 : 64;
        r->all = xrealloc(r->all, r->cap, sizeof(struct read_flow *));
    }
    f = xcalloc(1, sizeof(*f));
    r->of_index[number] = f;
    r->all[r->count++] = f;
    f->entry.number = r->count;
    return f;
}

static void read_end(const json_t *o, const char *ip, const char *port, const char *inode, struct payload_addr *ret)
{
    const char *addr = text(o, ip);
    int64_t n = natural(o, port);

    *ret = (struct payload_addr){.family = AF_UNSPEC};
    if (addr && n >= 0 && n <= UINT16_MAX) {
        ret->family = inet_pton(AF_INET, addr, ret->ip) == 1    ? AF_INET
                      : inet_pton(AF_INET6, addr, ret->ip) == 1 ? AF_INET6
                                                                : AF_UNSPEC;
        ret->port = ret->family == AF_UNSPEC ? 0 : (uint16_t)n;
    } else if ((n = natural(o, inode)) >= 0) {
        ret->family = AF_UNIX;
        ret->inode = (uint64_t)n;
    }
}

/* Names that lead out of the directory aren't used. */
static void read_name(struct payload_reader *r, const json_t *o, const char *key, struct payload_file *file)
{
    const char *name = text(o, key);

    if (file->name && name && strcmp(file->name, name) == 0)
        return;
    payload_file_clear(&r->files, file);
    if (name && *name && *name != '.' && !strchr(name, '/'))
        file->name = xstrdup(name);
}

static bool read_flow(struct payload_reader *r, const json_t *o, struct payload_record *ret)
{
    struct read_flow *f = find_or_add(r, integer(o, "flow", 0));
    const char *role = text(o, "role"), *channel = text(o, "channel");
    struct payload_entry *e;

    if (!f)
        return false;
    e = &f->entry;
    free_texts(e);
    e->id = (struct payload_id){.pid = integer(o, "pid", 0),
                                .ppid = integer(o, "ppid", 0),
                                .fd = integer(o, "fd", -1),
                                .channel = channel ? strtoull(channel, NULL, 10) : 0,
                                .proc = xstrdup(text(o, "proc")),
                                .ident = xstrdup(text(o, "id")),
                                .transport = xstrdup(text(o, "net_transport")),
                                .protocol = xstrdup(text(o, "net_protocol")),
                                .tls = json_is_true(json_object_get(o, "tls")),
                                .plaintext = xstrdup(text(o, "tls_plaintext")),
                                .unread = xstrdup(text(o, "tls_unread"))};
    e->id.role = !role                         ? PAYLOAD_UNKNOWN
                 : strcmp(role, "client") == 0 ? PAYLOAD_CLIENT
                 : strcmp(role, "server") == 0 ? PAYLOAD_SERVER
                                               : PAYLOAD_UNKNOWN;
    read_end(o, "net_peer_ip", "net_peer_port", "unix_peer_inode", &e->id.peer);
    read_end(o, "net_host_ip", "net_host_port", "unix_local_inode", &e->id.host);
    e->begin_ns = natural(o, "time_ns") > 0 ? (uint64_t)natural(o, "time_ns") : 0;
    read_name(r, o, "in_file", &f->file[PAYLOAD_IN]);
    read_name(r, o, "out_file", &f->file[PAYLOAD_OUT]);
    for (int d = 0; d < PAYLOAD_DIRS; d++)
        e->file[d] = f->file[d].name;
    *ret = (struct payload_record){.kind = PAYLOAD_FLOW, .flow = e, .time_ns = e->begin_ns};
    return true;
}

static bool read_range(struct payload_reader *r, const json_t *o, enum payload_kind kind, struct payload_record *ret)
{
    struct read_flow *f = find(r, integer(o, "flow", 0));
    const char *dir = text(o, "dir");
    enum payload_dir d = dir && strcmp(dir, "out") == 0 ? PAYLOAD_OUT : PAYLOAD_IN;
    int64_t at = natural(o, "at"), len = natural(o, "len"), time_ns = natural(o, "time_ns");
    uint64_t end;

    if (!f || !dir || (d == PAYLOAD_IN && strcmp(dir, "in") != 0) || at < 0 || len < 0 || time_ns < 0)
        return false;
    end = (uint64_t)at + (uint64_t)len; /* both are below 2^63 */
    if (kind == PAYLOAD_DATA) {
        /* Chunks follow one another, so there can't be more bytes than the file has. */
        if ((uint64_t)at < f->next[d] || end > INT64_MAX)
            return false;
        f->next[d] = end;
        add_saturated(&f->entry.bytes[d], (uint64_t)len);
    } else {
        add_saturated(&f->entry.missing[d], (uint64_t)len);
    }
    f->entry.last_ns[d] = (uint64_t)time_ns;
    *ret = (struct payload_record){.kind = kind,
                                   .flow = &f->entry,
                                   .time_ns = (uint64_t)time_ns,
                                   .dir = d,
                                   .at = (uint64_t)at,
                                   .len = (uint64_t)len};
    return true;
}

static bool read_ended(struct payload_reader *r, const json_t *o, struct payload_record *ret)
{
    struct read_flow *f = find(r, integer(o, "flow", 0));
    int64_t time_ns = natural(o, "time_ns");

    if (!f || time_ns < 0)
        return false;
    f->entry.end_ns = (uint64_t)time_ns;
    free((char *)f->entry.reason);
    f->entry.reason = xstrdup(text(o, "reason"));
    *ret = (struct payload_record){.kind = PAYLOAD_END, .flow = &f->entry, .time_ns = (uint64_t)time_ns};
    return true;
}

static bool read_line(struct payload_reader *r, const json_t *o, struct payload_record *ret)
{
    const char *type = text(o, "type");

    if (!type)
        return false;
    if (strcmp(type, "flow") == 0)
        return read_flow(r, o, ret);
    if (strcmp(type, "data") == 0)
        return read_range(r, o, PAYLOAD_DATA, ret);
    if (strcmp(type, "gap") == 0)
        return read_range(r, o, PAYLOAD_GAP, ret);
    return strcmp(type, "end") == 0 && read_ended(r, o, ret);
}

int payload_next(struct payload_reader *r, struct payload_record *ret)
{
    for (;;) {
        json_t *o;
        int rc = r->lines.fd >= 0 ? next_object(r, &o) : 0;

        if (rc < 0)
            return rc;
        if (rc == 0) {
            r->damaged += r->lines.too_long;
            r->lines.too_long = 0;
            if (next_index(r) == 0)
                return 0;
            continue;
        }
        bool good = read_line(r, o, ret);

        json_decref(o);
        if (good)
            return 1;
        r->damaged++;
    }
}

uint64_t payload_damaged(const struct payload_reader *r)
{
    return r->damaged + r->lines.too_long;
}

struct payload_entry *payload_entry(const struct payload_reader *r, uint64_t number)
{
    return number >= 1 && number <= r->count ? &r->all[number - 1]->entry : NULL;
}

/* --- bytes --- */

static int use_file(struct payload_reader *r, struct payload_file *file)
{
    int fd;

    if (!file->name)
        return -ENOENT;
    fd = payload_file_use(&r->files, file);
    if (fd >= 0)
        return fd;
    fd = safe_read_at(r->files.dir, file->name);
    if (fd < 0)
        return fd;
    payload_file_opened(&r->files, file, fd);
    return fd;
}

ssize_t payload_read(struct payload_reader *r, struct payload_entry *e, enum payload_dir dir, uint64_t at, void *buf,
                     size_t size)
{
    struct read_flow *f = r->all[e->number - 1];
    int fd = use_file(r, &f->file[dir]);
    ssize_t n;

    if (fd < 0)
        return fd;
    if (at > INT64_MAX)
        return 0;
    do
        n = pread(fd, buf, size, (off_t)at);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}
