/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests of the collector: a telemetry that writes down what it is given,
 * and a writer of segments that does what a probe would. Include once.
 */
#ifndef SCOPE_TESTS_COLLECTOR_FAKE_H
#define SCOPE_TESTS_COLLECTOR_FAKE_H

#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "collector/core.h"
#include "collector/ends.h"
#include "collector/forks.h"
#include "collector/guests.h"
#include "collector/segments.h"
#include "collector/work.h"
#include "model/fds.h"
#include "collector/peer.h"

/* --- telemetry --- */

/* What was told, one line each: "SOURCE pid=N name=value ...", "metric NAME pid=N value=N numops=N ...",
 * "message SOURCE pid=N TEXT", "loss KIND N", "begin pid=N PROC", "end pid=N". */
static char **told;
static size_t told_count;
static int fake_fd = -1;          /* lines also go here, for a collector in another process */
static bool fake_per_op[TM_METRIC_MAX];
static bool fake_wants_nothing;   /* no event, no metric */
static uint64_t fake_sum[TM_METRIC_MAX], fake_ops[TM_METRIC_MAX];

static const char *told_only;     /* keep just the lines that contain it */

static void tell(struct buf *b)
{
    if (fake_fd >= 0) {
        buf_char(b, '\n');
        if (write(fake_fd, b->p, b->len) < 0)
            abort();
        b->len--;
    }
    if (told_count < 200000 && (!told_only || strstr(buf_cstr(b), told_only))) {
        if (!(told_count & (told_count - 1))) /* 0, 1, 2, 4, ... */
            told = xrealloc(told, told_count ? told_count * 2 : 1, sizeof(*told));
        told[told_count++] = xstrdup(buf_cstr(b));
    }
    buf_free(b);
}

static void told_clear(void)
{
    for (size_t i = 0; i < told_count; i++)
        free(told[i]);
    free(told);
    told = NULL;
    told_count = 0;
    memset(fake_sum, 0, sizeof(fake_sum));
    memset(fake_ops, 0, sizeof(fake_ops));
}

static void tell_fields(struct buf *b, const struct tm_field *f, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        buf_printf(b, " %s=", f[i].name);
        switch (f[i].type) {
        case TM_STR: buf_add(b, f[i].v.str.p, f[i].v.str.len); break;
        case TM_INT: case TM_HUNDREDTHS: buf_int(b, f[i].v.i); break;
        case TM_UINT: buf_uint(b, f[i].v.u); break;
        case TM_NUM: buf_printf(b, "%f", f[i].v.num); break;
        case TM_BOOL: buf_str(b, f[i].v.b ? "true" : "false"); break;
        case TM_WHO: case TM_OWNER: break; /* as tm_process says */
        case TM_STRLIST:
            for (size_t k = 0; k < f[i].v.list.count; k++)
                buf_printf(b, "%s%s", k ? "," : "", f[i].v.list.p[k]);
            break;
        }
    }
}

static const char *const metric_name[TM_METRIC_MAX] = {
    "fs.open", "fs.close", "fs.read", "fs.write", "fs.seek", "fs.stat", "fs.duration", "fs.error", "fs.delete",
    "fs.create", "fs.rename", "fs.change", "fs.sync", "net.rx", "net.tx", "net.open", "net.close", "net.duration",
    "net.port", "net.tcp", "net.udp", "net.other", "net.error", "http.req", "http.duration.server", "http.duration.client",
    "http.req.content_length", "http.resp.content_length", "dns.req", "dns.duration", "proc.start", "proc.cpu", "proc.cpu_perc", "proc.mem",
    "proc.thread", "proc.fd", "proc.child", "scope.lost",
};

static bool fake_spans; /* they are wanted, as this says: */
static struct cfg_otlp fake_otlp = {.ratio = 1, .parent_based = true};

struct telemetry *telemetry_new(struct event_base *base, const struct config *cfg)
{
    (void)base;
    ((struct config *)cfg)->otlp.ratio = fake_otlp.ratio;
    ((struct config *)cfg)->otlp.parent_based = fake_otlp.parent_based;
    ((struct config *)cfg)->otlp.processes = fake_otlp.processes;
    return xcalloc(1, 1);
}

void telemetry_free(struct telemetry *t, unsigned wait_ms)
{
    (void)wait_ms;
    free(t);
}

void telemetry_process_start(struct telemetry *t, struct tm_process *p)
{
    struct buf b = BUF_INIT;

    (void)t;
    if (p->aggregate && p->aggregate != (void *)p)
        abort();                                                                       /* another's */
    buf_printf(&b, "%s pid=%u %s", p->aggregate ? "again" : "begin", p->pid, p->proc); /* with another number or name */
    p->aggregate = (void *)p;
    tell(&b);
}

void telemetry_process_end(struct telemetry *t, struct tm_process *p, uint64_t time_ns)
{
    struct buf b = BUF_INIT;

    (void)t;
    (void)time_ns;
    if (!p->aggregate)
        abort(); /* ended twice */
    p->aggregate = NULL;
    buf_printf(&b, "end pid=%u", p->pid);
    tell(&b);
}

bool telemetry_wants_event(const struct telemetry *t, enum cfg_event_watch watch, const char *source, size_t len)
{
    (void)t;
    if (fake_wants_nothing)
        return false;
    return watch != CFG_EW_FILE || (len > 4 && !memcmp(source + len - 4, ".log", 4));
}

bool telemetry_wants_metric(const struct telemetry *t, enum tm_metric m)
{
    (void)t;
    (void)m;
    return !fake_wants_nothing;
}

bool telemetry_per_op(const struct telemetry *t, enum tm_metric m)
{
    (void)t;
    return fake_per_op[m];
}

static uint64_t fake_ahead_ns; /* a test pretends that it is so much later */

void telemetry_event(struct telemetry *t, struct tm_process *p, const struct tm_event *e)
{
    struct buf b = BUF_INIT;

    (void)t;
    if (!p->aggregate || e->time_ns < UINT64_C(1000000000000000000) ||
        e->time_ns > clock_now_real() + fake_ahead_ns + 1000000000)
        abort();
    buf_printf(&b, "%s%s pid=%u", e->watch == CFG_EW_SYSCALL ? "syscall " : "", e->source, p->pid);
    tell_fields(&b, e->fields, e->field_count);
    tell(&b);
}

void telemetry_notice(struct telemetry *t, struct tm_process *p, struct tm_rule *rule, const struct tm_event *e)
{
    (void)rule;
    telemetry_event(t, p, e);
}

static void tell_hex(struct buf *b, const char *name, const uint8_t *p, size_t n)
{
    buf_printf(b, " %s=", name);
    for (size_t i = 0; i < n; i++)
        buf_printf(b, "%02x", p[i]);
}

enum tm_text telemetry_message(struct telemetry *t, struct tm_process *p, enum cfg_event_watch watch, const char *source,
                       uint64_t time_ns, uint64_t channel, const char *text, size_t len, uint64_t more,
                       const struct tm_context *trace)
{
    struct buf b = BUF_INIT;

    (void)t;
    (void)time_ns;
    (void)channel;
    buf_printf(&b, "message %s %s pid=%u ", watch == CFG_EW_CONSOLE ? "console" : "file", source, p->pid);
    buf_add(&b, text, len);
    if (trace)
        tell_hex(&b, "span", trace->span_id, sizeof(trace->span_id));
    if (more)
        buf_printf(&b, " and %llu more", (unsigned long long)more);
    tell(&b);
    return len && memchr(text, 0, len); /* binary */
}

void telemetry_sample(struct telemetry *t, struct tm_process *p, const struct tm_sample *s)
{
    struct buf b = BUF_INIT;

    (void)t;
    if (!p->aggregate)
        abort();
    fake_sum[s->metric] += (uint64_t)s->value;
    fake_ops[s->metric] += s->numops;
    buf_printf(&b, "metric %s pid=%u value=%lld numops=%llu", metric_name[s->metric], p->pid, (long long)s->value,
               (unsigned long long)s->numops);
    if (s->class_)
        buf_printf(&b, " class=%s", s->class_);
    tell_fields(&b, s->fields, s->field_count);
    tell(&b);
}

bool telemetry_wants_spans(const struct telemetry *t)
{
    (void)t;
    return fake_spans;
}

/* "span NAME pid=N kind=N status=N ms=N trace=HEX id=HEX parent=HEX flags=N remote=TEXT state=TEXT name=value ..." */
void telemetry_span(struct telemetry *t, struct tm_process *p, const struct tm_span *s)
{
    struct buf b = BUF_INIT;

    (void)t;
    if (!p->aggregate)
        abort();
    buf_str(&b, "span ");
    buf_add(&b, s->name.p, s->name.len);
    buf_printf(&b, " pid=%u kind=%d status=%d ms=%llu", p->pid, (int)s->kind, (int)s->status,
               (unsigned long long)(s->end_ns - s->start_ns) / 1000000);
    tell_hex(&b, "trace", s->id.trace_id, sizeof(s->id.trace_id));
    tell_hex(&b, "id", s->id.span_id, sizeof(s->id.span_id));
    tell_hex(&b, "parent", s->parent_id, sizeof(s->parent_id));
    buf_printf(&b, " flags=%u remote=%s state=", s->id.flags, s->has_remote ? s->remote ? "yes" : "no" : "none");
    buf_add(&b, s->state.p, s->state.len);
    tell_fields(&b, s->fields, s->field_count);
    if (s->shared)
        tell_fields(&b, s->shared->fields, s->shared->field_count);
    tell(&b);
}

void telemetry_captured(struct telemetry *t, struct tm_process *p, const struct tm_captured *m)
{
    struct buf b = BUF_INIT;

    (void)t;
    buf_printf(&b, "captured %s pid=%u value=%s type=%s", m->name, p->pid, m->text, m->type);
    tell_fields(&b, m->fields, m->field_count);
    tell(&b);
}

void telemetry_summarise(struct telemetry *t, struct tm_process *p, uint64_t time_ns)
{
    (void)t;
    (void)p;
    (void)time_ns;
}

void telemetry_loss(struct telemetry *t, struct tm_process *p, const char *kind, uint64_t count, uint64_t time_ns)
{
    struct buf b = BUF_INIT;

    (void)t;
    (void)p;
    (void)time_ns;
    buf_printf(&b, "loss %s %llu", kind, (unsigned long long)count);
    tell(&b);
}

void telemetry_end(struct telemetry *t)
{
    (void)t;
}

bool telemetry_finish(struct telemetry *t, unsigned wait_ms)
{
    (void)t;
    (void)wait_ms;
    return true;
}

void telemetry_stats(const struct telemetry *t, struct tm_stats *ret)
{
    (void)t;
    *ret = (struct tm_stats){.events = told_count};
}

bool telemetry_flush(struct telemetry *t)
{
    (void)t;
    return true;
}

void telemetry_describe(const struct telemetry *t, struct buf *b)
{
    (void)t;
    (void)b;
}

const char *telemetry_metric_url(const struct telemetry *t)
{
    (void)t;
    return NULL;
}

bool telemetry_awaited(const struct telemetry *t, uint64_t since_ms)
{
    (void)t;
    (void)since_ms;
    return false;
}

void telemetry_forget_rules(struct telemetry *t)
{
    (void)t;
}

char *telemetry_payload_start(const struct telemetry *t)
{
    (void)t;
    return xstrdup("{\"format\":\"scope\"}\n");
}

/* --- segments --- */

#define FAKE_CELLS 4096u
#define FAKE_FDS 256u

struct writer {
    struct segment_header *h;
    size_t size;
    int fd;
    uint32_t owner, pid; /* whose segment, and who writes: another is a guest */
    uint32_t tid;        /* 0: its first thread */
    uint32_t fd_off, ring_off; /* h's may be scribbled over */
};

/* A process hands over its segment, one of this user's. */
static __attribute__((unused)) int fake_join(struct collector *c, int fd, pid_t pid)
{
    struct peer from = {.pid = pid, .uid = geteuid(), .gid = getegid(), .pidfd = -1};

    int ret = segment_attach(c, fd, &from);

    /* Mapped by need alone: how fast the machine is must not make a difference. */
    if (ret == 0 && c->segments && c->segments->map.map_at)
        c->segments->map.map_at = UINT64_MAX;
    return ret;
}

static struct writer writer_new(uint32_t pid, enum seg_start start, const char *argv, size_t argv_len)
{
    struct writer w = {.owner = pid, .pid = pid};
    uint32_t fd_off = (uint32_t)((sizeof(struct segment_header) + 4095) & ~4095ul);

    w.size = fd_off + FAKE_FDS * (sizeof(struct fd_entry) + sizeof(struct fd_skip)) + FAKE_CELLS * RING_CELL;
    w.fd = memfd_create(SEG_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (w.fd < 0 || ftruncate(w.fd, (off_t)w.size) || fcntl(w.fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
        abort();
    w.h = mmap(NULL, w.size, PROT_READ | PROT_WRITE, MAP_SHARED, w.fd, 0);
    if (w.h == MAP_FAILED)
        abort();
    w.h->magic = SEG_MAGIC;
    w.h->version = SEG_VERSION;
    w.h->start = start;
    w.h->seg_size = w.size;
    w.h->table_hash = syscall_table_hash();
    w.h->fd_off = fd_off;
    w.h->fd_cap = FAKE_FDS;
    w.h->skip_off = fd_off + FAKE_FDS * (uint32_t)sizeof(struct fd_entry);
    w.h->ring_off = w.h->skip_off + FAKE_FDS * (uint32_t)sizeof(struct fd_skip);
    w.h->ring_cells = FAKE_CELLS;
    w.fd_off = w.h->fd_off;
    w.ring_off = w.h->ring_off;
    w.h->clock = SEG_CLOCK_MONO;
    w.h->pid = pid;
    w.h->ppid = 1;
    w.h->start_time = clock_now_mono();
    snprintf(w.h->exe, sizeof(w.h->exe), "%s%s", argv[0] == '/' ? "" : "/usr/bin/", argv);
    strcpy(w.h->cwd, "/home/u");
    w.h->argv_len = (uint32_t)argv_len;
    memcpy(w.h->argv, argv, argv_len);
    return w;
}

static void writer_free(struct writer *w)
{
    munmap(w->h, w->size);
    close(w->fd);
}

static __attribute__((unused)) struct fd_entry *writer_fd(struct writer *w, unsigned fd)
{
    if (fd >= w->h->fd_high)
        w->h->fd_high = fd + 1;
    return (struct fd_entry *)(void *)((char *)w->h + w->fd_off) + fd;
}

static void *writer_cell(struct writer *w, uint64_t pos)
{
    return (char *)w->h + w->ring_off + pos % FAKE_CELLS * RING_CELL;
}

/* Reserves room for `size` bytes: position, or UINT64_MAX if the ring is full. */
static uint64_t writer_reserve(struct writer *w, uint32_t size)
{
    uint32_t n = (size + RING_CELL - 1) / RING_CELL;

    for (;;) {
        uint64_t head = __atomic_load_n(&w->h->ring_head, __ATOMIC_RELAXED);
        uint64_t tail = __atomic_load_n(&w->h->ring_tail, __ATOMIC_ACQUIRE);
        uint32_t at = (uint32_t)(head % FAKE_CELLS), pad = at + n > FAKE_CELLS ? FAKE_CELLS - at : 0;

        if (head - tail + pad + n > FAKE_CELLS)
            return UINT64_MAX;
        if (!__atomic_compare_exchange_n(&w->h->ring_head, &head, head + pad + n, false, __ATOMIC_ACQ_REL,
                                         __ATOMIC_RELAXED))
            continue;
        if (pad) {
            struct record *r = writer_cell(w, head);

            r->size = pad * RING_CELL;
            r->kind = REC_PAD;
            __atomic_store_n(&r->seq, head + 1, __ATOMIC_RELEASE);
        }
        return head + pad;
    }
}

struct item {
    enum item_type type;
    const void *p;
    size_t len;
};
#define TEXT(type, s) {type, s, sizeof(s) - 1}

/* Writes a record with up to 4 items (type 0 ends). False if the ring is full. */
static bool writer_put(struct writer *w, enum rec_kind kind, enum op_id op, int64_t ret, const uint64_t *args,
                       uint8_t flags, const struct item *items)
{
    uint32_t size = sizeof(struct record), n = 0;
    struct record *r;
    uint64_t pos;
    char *p;

    for (; items && n < 4 && items[n].type; n++)
        size += 8 + (uint32_t)((items[n].len + 7) & ~7ul);
    pos = writer_reserve(w, size);
    if (pos == UINT64_MAX) {
        __atomic_fetch_add(&w->h->loss[LOSS_RECORD], 1, __ATOMIC_RELAXED);
        return false;
    }
    r = writer_cell(w, pos);
    r->size = size;
    r->kind = (uint8_t)kind;
    r->flags = flags;
    if (w->pid != w->owner)
        r->flags |= REC_F_BORROWED;
    r->op = (uint16_t)op;
    r->pid = w->pid;
    r->tid = w->tid ? w->tid : w->pid;
    r->time = clock_now_mono();
    r->ret = ret;
    r->ticks = flags & REC_F_TIMED ? 1000 : 0;
    memset(r->arg, 0, sizeof(r->arg));
    if (args)
        memcpy(r->arg, args, sizeof(r->arg));
    p = (char *)(r + 1);
    for (uint32_t i = 0; i < n; i++) {
        struct rec_item h = {(uint16_t)items[i].type, 0, (uint32_t)items[i].len};

        memcpy(p, &h, sizeof(h));
        memcpy(p + 8, items[i].p, items[i].len);
        p += 8 + ((items[i].len + 7) & ~7ul);
    }
    __atomic_store_n(&r->seq, pos + 1, __ATOMIC_RELEASE);
    return true;
}

#define ARGS(...) ((const uint64_t[6]){__VA_ARGS__})
#define ITEMS(...) ((const struct item[5]){__VA_ARGS__})

#endif
