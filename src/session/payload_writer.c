/* SPDX-License-Identifier: Apache-2.0 */
/* Writing captured traffic. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/safe_path.h"
#include "session/payload.h"
#include "session/payload_files.h"

#define FILES_MAX 128u
#define NAMES_TRIED 100u
#define QUEUE_ITEMS 2048u                /* their lines have room between these two: */
#define INDEX_DATA_MAX ((size_t)1 << 20) /* of it unwritten: no more data is written, which nobody could find */
#define INDEX_MAX ((size_t)4 << 20)      /* ... no more lines are kept */
#define INDEX_BUFFER ((size_t)64 << 10)
#define WRITE_PIECES 512 /* of one writev(2) */

enum item_kind { ITEM_DATA, ITEM_GAP, ITEM_END };

/* Something to be written or told. */
struct item {
    struct payload_flow *flow;
    uint64_t time_ns;
    enum item_kind kind;
    enum payload_dir dir; /* of data and gaps */
    uint64_t len;
    const void *head, *data; /* of data: in the queue, or the caller's until it returns */
    size_t head_len;
    struct item *next;  /* data for the same file */
    uint64_t written;   /* ... of its len */
    uint64_t end;       /* ... how long the file was then */
    int rc;             /* ... why there isn't all of it */
    const char *reason; /* of an end */
};

struct payload_store {
    struct payload_files files;
    int index;
    struct buf pending; /* lines of the index that aren't written yet */
    struct buf header;
    bool headers;
    uint64_t flows, lost;
    struct payload_flow *first; /* those that haven't ended */
    struct item *items;         /* QUEUE_ITEMS */
    unsigned count;
    uint8_t *queue; /* what they need to be kept */
    size_t size, used;
    struct output *waiting, *last_waiting; /* for which there are data in it, in the order in which that came */
};

/* A file that is written, and what could not be. */
struct output {
    struct payload_file file; /* first: found again from the list of open ones */
    uint64_t size, told;      /* as it is; as the index knows it */
    uint64_t failed, failed_ns; /* bytes since the last chunk, not told in the index yet */
    dev_t dev;
    ino_t ino;
    struct item *items, *last; /* that wait */
    struct output *next;       /* another that has some */
};

struct payload_flow {
    struct payload_store *store;
    struct payload_flow *next, **link;
    uint64_t number; /* in the index; 0: it has none yet */
    uint64_t begin_ns;
    struct payload_id id; /* texts are malloc'ed */
    bool told;            /* the index has it as it is now */
    struct output out[PAYLOAD_DIRS];
};

/* --- the index --- */

static int index_flush(struct payload_store *s)
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
    int rc = s->pending.len > INDEX_MAX ? index_flush(s) : 0;

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
        index_flush(s);
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

/* Given when it is needed first, which is directly before the flow is told: a flow whose number is above that of its line
 * in the index is no flow. */
static uint64_t number_of(struct payload_flow *f)
{
    if (!f->number)
        f->number = ++f->store->flows;
    return f->number;
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
               (unsigned long long)number_of(f), (unsigned long long)f->begin_ns, (long long)f->id.pid,
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
    add_text(b, "tls_plaintext", f->id.plaintext);
    add_text(b, "tls_unread", f->id.unread);
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
    rc = tell_range(f, "gap", dir, o->failed_ns, o->told, o->failed);
    if (rc == 0)
        o->failed = 0;
    return rc;
}

static int make_index(struct payload_store *s)
{
    char name[64] = PAYLOAD_INDEX;

    for (unsigned n = 2; n <= PAYLOAD_INDEX_LAST; n++) {
        s->index = safe_create(s->files.dir, name, 0600);
        if (s->index >= 0)
            return 0;
        if (s->index != -EEXIST)
            return s->index;
        snprintf(name, sizeof(name), PAYLOAD_INDEX_NEXT, n);
    }
    return -EEXIST;
}

int payload_open(const struct payload_options *o, struct payload_store **ret)
{
    struct payload_store *s;
    char *why = NULL;
    int dir = safe_dir(o->dir, SAFE_NAMED, 0700, &why), rc;

    *ret = NULL;
    if (dir < 0) {
        if (why)
            log_warning("%s", why);
        free(why);
        return dir;
    }
    s = xcalloc(1, sizeof(*s));
    s->files = (struct payload_files){.dir = dir, .max = o->max_files ? o->max_files : FILES_MAX};
    s->headers = o->headers;
    s->size = o->queue;
    s->items = xcalloc(QUEUE_ITEMS, sizeof(*s->items));
    s->queue = o->queue ? xmalloc(o->queue) : NULL;
    rc = make_index(s);
    if (rc < 0) {
        close(dir);
        free(s->queue);
        free(s->items);
        free(s);
        return rc;
    }
    buf_printf(&s->pending, "{\"type\":\"index\",\"version\":1,\"session\":%llu,\"start_ns\":%llu",
               (unsigned long long)o->session, (unsigned long long)o->start_ns);
    line_end(s);
    index_flush(s); /* who looks finds whose it is; a full disk may have room later */
    *ret = s;
    return 0;
}

/* --- flows --- */

struct payload_flow *payload_begin(struct payload_store *s, const struct payload_id *id, uint64_t time_ns)
{
    struct payload_flow *f = xcalloc(1, sizeof(*f));

    f->store = s;
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

/* Makes both files of a flow under names that nobody has: 0 or -errno, then neither. */
static int make_pair(struct payload_flow *f, unsigned attempt)
{
    struct payload_store *s = f->store;
    char *name[PAYLOAD_DIRS];
    int fd[PAYLOAD_DIRS] = {-1, -1}, rc = 0;

    for (enum payload_dir d = 0; d < PAYLOAD_DIRS; d++) {
        name[d] = payload_file_name(&f->id, attempt ? number_of(f) : 0, d, attempt);
        if (rc == 0)
            fd[d] = safe_create(s->files.dir, name[d], 0600);
        if (rc == 0 && fd[d] < 0)
            rc = fd[d];
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

/* ... and tells it: the names may have taken a number. */
static int make_files(struct payload_flow *f)
{
    uint64_t number = f->number;
    int rc = -EEXIST;

    for (unsigned attempt = 0; rc == -EEXIST && attempt < NAMES_TRIED; attempt++)
        rc = make_pair(f, attempt);
    if (rc == 0) {
        f->told = false;
        return tell_flow(f);
    }
    if (f->number != number) { /* the last one */
        f->number = 0;
        f->store->flows--;
    }
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

/* --- the queue --- */

/* Appends pieces. Returns how many of their bytes are in the file then; *ret: 0 or -errno. */
static size_t append(int fd, struct iovec *v, int n, int *ret)
{
    size_t total = 0;

    *ret = 0;
    while (n > 0) {
        ssize_t done = writev(fd, v, n);

        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0) {
            *ret = -errno;
            break;
        }
        total += (size_t)done;
        for (; n > 0 && (size_t)done >= v->iov_len; v++, n--)
            done -= (ssize_t)v->iov_len;
        if (n > 0) {
            v->iov_base = (char *)v->iov_base + done;
            v->iov_len -= (size_t)done;
        }
    }
    return total;
}

/* As much of what waits for a file as one call takes. Returns the first item that isn't among it. */
static struct item *gather(struct item *it, struct iovec *v, int *ret)
{
    int n = 0;

    for (; it && n + 2 <= WRITE_PIECES; it = it->next) {
        if (it->head_len)
            v[n++] = (struct iovec){(void *)it->head, it->head_len};
        if (it->len)
            v[n++] = (struct iovec){(void *)it->data, it->len};
    }
    *ret = n;
    return it;
}

/* Writes what waits for a file. rc: 0, or why nothing may be written. */
static void write_output(struct output *o, int rc)
{
    struct iovec v[WRITE_PIECES];
    struct item *it = o->items;
    int fd = rc < 0 ? rc : use_file(it->flow, o), n;

    rc = fd < 0 ? fd : 0;
    while (it && rc == 0) {
        struct item *end = gather(it, v, &n);
        size_t done = append(fd, v, n, &rc);

        for (; it != end; it = it->next) {
            uint64_t all = it->head_len + it->len, part = done < all ? done : all;

            done -= part;
            o->size += part;
            it->end = o->size;
            it->written = part > it->head_len ? part - it->head_len : 0;
            it->rc = part < all ? rc : 0;
        }
    }
    for (; it; it = it->next) {
        it->end = o->size;
        it->rc = rc;
    }
    o->items = o->last = NULL;
}

static void failed(struct payload_flow *f, enum payload_dir dir, uint64_t time_ns, uint64_t len)
{
    struct output *o = &f->out[dir];

    if (!o->failed)
        o->failed_ns = time_ns;
    o->failed += len;
}

static int tell_data(const struct item *it)
{
    struct payload_flow *f = it->flow;
    struct output *o = &f->out[it->dir];
    int rc = 0;

    if (it->written || it->rc == 0) {
        rc = tell_failed(f, it->dir);
        if (rc == 0)
            rc = tell_range(f, "data", it->dir, it->time_ns, it->end - it->written, it->written);
    }
    o->told = it->end;
    if (it->rc < 0) {
        failed(f, it->dir, it->time_ns, it->len - it->written);
        f->store->lost += it->len - it->written;
    }
    return it->rc < 0 ? it->rc : rc;
}

static int tell_gap(const struct item *it)
{
    struct payload_flow *f = it->flow;
    int rc = tell_failed(f, it->dir);

    if (rc == 0)
        rc = tell_range(f, "gap", it->dir, it->time_ns, f->out[it->dir].told, it->len);
    if (rc < 0)
        failed(f, it->dir, it->time_ns, it->len);
    return rc;
}

static int tell_end(const struct item *it)
{
    struct payload_flow *f = it->flow;
    struct buf *b = &f->store->pending;
    int rc = 0, one;

    for (enum payload_dir d = 0; d < PAYLOAD_DIRS; d++)
        if ((one = tell_failed(f, d)) < 0)
            rc = one;
    if (rc == 0)
        rc = tell_flow(f);
    if (rc == 0)
        rc = line_begin(f->store);
    if (rc == 0) {
        buf_printf(b, "{\"type\":\"end\",\"flow\":%llu,\"time_ns\":%llu", (unsigned long long)f->number,
                   (unsigned long long)it->time_ns);
        add_text(b, "reason", it->reason);
        line_end(f->store);
    }
    free_flow(f);
    return rc;
}

/* Writes what waits, a file at a time, and tells it in the index in the order in which it came. 0, or the first -errno. */
static int write_queue(struct payload_store *s)
{
    static int (*const tell[])(const struct item *) = {[ITEM_DATA] = tell_data, [ITEM_GAP] = tell_gap, [ITEM_END] = tell_end};
    int rc = 0, one;

    if (s->waiting && s->pending.len > INDEX_DATA_MAX)
        rc = index_flush(s);
    for (struct output *o = s->waiting; o; o = o->next)
        write_output(o, rc);
    for (unsigned i = 0; i < s->count; i++)
        if ((one = tell[s->items[i].kind](&s->items[i])) < 0 && rc == 0)
            rc = one;
    s->waiting = NULL;
    s->count = 0;
    s->used = 0;
    return rc;
}

/* The next item; *rc: of what had to be written to make room for it and `size` bytes. */
static struct item *queue_add(struct payload_flow *f, enum item_kind kind, uint64_t time_ns, size_t size, int *rc)
{
    struct payload_store *s = f->store;
    struct item *it;

    *rc = s->count == QUEUE_ITEMS || size > s->size - s->used ? write_queue(s) : 0;
    it = &s->items[s->count++];
    *it = (struct item){.flow = f, .time_ns = time_ns, .kind = kind};
    return it;
}

/* An item is complete. It is written at once if nothing may wait, or it can't be kept. */
static int queue_added(struct payload_store *s, bool kept, int rc)
{
    int now = kept && s->size ? 0 : write_queue(s);

    return now < 0 ? now : rc;
}

static void wait_for_file(struct payload_store *s, struct output *o, struct item *it)
{
    if (o->items) {
        o->last->next = it;
    } else {
        o->items = it;
        o->next = NULL;
        if (s->waiting)
            s->last_waiting->next = o;
        else
            s->waiting = o;
        s->last_waiting = o;
    }
    o->last = it;
}

/* A copy in the queue. */
static const void *keep(struct payload_store *s, const void *p, size_t len)
{
    void *to = s->queue + s->used;

    memcpy(to, p, len);
    s->used += len;
    return to;
}

int payload_data(struct payload_flow *f, enum payload_dir dir, uint64_t time_ns, const void *data, size_t len)
{
    struct payload_store *s = f->store;
    struct item *it;
    bool kept;
    int rc;

    buf_reset(&s->header);
    if (s->headers)
        payload_header(&s->header, &f->id, dir, time_ns, len, NULL);
    it = queue_add(f, ITEM_DATA, time_ns, s->header.len + len, &rc);
    it->dir = dir;
    it->len = len;
    it->head_len = s->header.len;
    kept = s->header.len + len <= s->size;
    it->head = kept && it->head_len ? keep(s, s->header.p, it->head_len) : s->header.p;
    it->data = kept && len ? keep(s, data, len) : data;
    wait_for_file(s, &f->out[dir], it);
    return queue_added(s, kept, rc);
}

int payload_gap(struct payload_flow *f, enum payload_dir dir, uint64_t time_ns, uint64_t len)
{
    struct item *it;
    int rc;

    if (!len)
        return 0;
    it = queue_add(f, ITEM_GAP, time_ns, 0, &rc);
    it->dir = dir;
    it->len = len;
    return queue_added(f->store, true, rc);
}

int payload_end(struct payload_flow *f, uint64_t time_ns, const char *reason)
{
    struct payload_store *s = f->store;
    int rc;

    queue_add(f, ITEM_END, time_ns, 0, &rc)->reason = reason;
    return queue_added(s, true, rc);
}

int payload_flush(struct payload_store *s)
{
    int rc = write_queue(s), index = index_flush(s);

    return rc < 0 ? rc : index;
}

uint64_t payload_lost(const struct payload_store *s)
{
    return s->lost;
}

int payload_close(struct payload_store *s)
{
    int rc = write_queue(s), one;

    for (struct payload_flow *f = s->first, *next; f; f = next) {
        next = f->next;
        for (enum payload_dir d = 0; d < PAYLOAD_DIRS; d++)
            if ((one = tell_failed(f, d)) < 0)
                rc = one;
        free_flow(f);
    }
    one = index_flush(s);
    rc = one < 0 ? one : rc;
    close(s->index);
    close(s->files.dir);
    buf_free(&s->pending);
    buf_free(&s->header);
    free(s->queue);
    free(s->items);
    free(s);
    return rc;
}
