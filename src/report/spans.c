/* SPDX-License-Identifier: Apache-2.0 */
#include "report/spans.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>

#include "base/mem.h"
#include "base/pool.h"
#include "model/clock.h"
#include "report/fields.h"
#include "report/pipeline.h"

/* --- ids --- */

/* Where the kernel has nothing (as long as it has just booted): unlikely to be the same twice, and no more than that. */
static void guess(uint8_t *to, size_t len)
{
    static uint64_t state;

    for (size_t i = 0; i < len; i++) {
        uint64_t z = state += clock_now_mono() | 1; /* SplitMix64 */

        z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
        to[i] = (uint8_t)(z ^ z >> 31);
    }
}

void span_random(uint8_t *to, size_t len)
{
    if (getrandom(to, len, GRND_NONBLOCK) != (ssize_t)len)
        guess(to, len);
}

/* Never 0. Ids have to be unique, not secret: Lehmer's generator, of whose 128 bits the upper half is used. */
static uint64_t random_id(void)
{
    static __uint128_t state;
    uint64_t id;

    if (!state) {
        span_random((uint8_t *)&state, sizeof(state));
        state |= 1;
    }
    do {
        state *= UINT64_C(0xda942042e4dd58b5);
        id = (uint64_t)(state >> 64);
    } while (!id);
    return id;
}

uint64_t span_shared_id(void)
{
    static uint64_t last;

    return ++last;
}

/* Whoever samples less of the same traces takes some of ours, and no others: what counts are the last 8 bytes of the
 * id, as in most SDKs. */
static bool in_ratio(const uint8_t trace_id[16], double ratio)
{
    uint64_t n = 0;

    if (ratio >= 1)
        return true;
    for (int i = 8; i < 16; i++)
        n = n << 8 | trace_id[i];
    return (double)n < ratio * 0x1p64;
}

void span_begin(struct span *s, const struct pipeline *pl, const struct span_parent *parent)
{
    uint64_t span_id;
    bool sampled;

    *s = (struct span){0};
    if (parent) {
        memcpy(s->id.trace_id, parent->id->trace_id, sizeof(s->id.trace_id));
        memcpy(s->parent_id, parent->id->span_id, sizeof(s->parent_id));
        s->id.flags = parent->id->flags;
        s->has_remote = true;
        s->remote = parent->remote;
        s->link = span_link_ref(parent->link);
    } else {
        uint64_t trace_id[2] = {random_id(), random_id()};

        memcpy(s->id.trace_id, trace_id, sizeof(s->id.trace_id));
    }
    span_id = random_id();
    memcpy(s->id.span_id, &span_id, sizeof(s->id.span_id));
    sampled = parent && parent->decided && pl->cfg->otlp.parent_based ? parent->id->flags & 1
                                                                      : in_ratio(s->id.trace_id, pl->cfg->otlp.ratio);
    s->id.flags = (uint8_t)((s->id.flags & ~1) | sampled);
}

/* --- traces that aren't certain yet --- */

struct span_link {
    struct span_link *next, **at; /* of those that wait to be met; at NULL: it doesn't */
    struct span_link *up;         /* of the client's span, whose trace counts; NULL: ours does */
    unsigned refs;
    bool met;
    uint8_t trace_id[16], flags;
    uint8_t server[8], client[8]; /* their spans */
    uint64_t since, tag;          /* CLOCK_MONOTONIC */
};

/* One that has ended, and waits. */
struct pending {
    struct pending *next;
    size_t bytes;
    struct proc *p;
    struct span span;
    struct tm_span told;
    struct tm_field fields[]; /* behind them the texts */
};

static struct pool links = POOL(struct span_link);
static struct span_link *waiting, **waiting_end = &waiting;
static struct pending *pending, **pending_end = &pending;
static unsigned pending_count;
static size_t pending_bytes;

struct span_link *span_link_ref(struct span_link *l)
{
    if (l)
        l->refs++;
    return l;
}

static void settle(struct span_link *l)
{
    if (!l->at)
        return;
    *l->at = l->next;
    *(l->next ? &l->next->at : &waiting_end) = l->at;
    l->at = NULL;
}

void span_link_unref(struct span_link *l)
{
    while (l && !--l->refs) {
        struct span_link *up = l->up;

        settle(l);
        pool_put(&links, l);
        l = up;
    }
}

/* The one whose trace counts. */
static const struct span_link *top(const struct span_link *l)
{
    while (l->up)
        l = l->up;
    return l;
}

/* Whether that is certain. */
static bool certain(const struct span_link *l)
{
    for (; l; l = l->up)
        if (l->at)
            return false;
    return true;
}

struct span_link *span_link_new(struct span *s, uint64_t tag)
{
    struct span_link *l = pool_get(&links);

    l->refs = 2;
    l->since = clock_now_mono();
    l->tag = tag;
    memcpy(l->trace_id, s->id.trace_id, sizeof(l->trace_id));
    memcpy(l->server, s->id.span_id, sizeof(l->server));
    l->flags = s->id.flags;
    l->at = waiting_end;
    *waiting_end = l;
    waiting_end = &l->next;
    s->link = l;
    return l;
}

void span_link_meet(struct span_link *l, struct span *client)
{
    const struct span_link *up = client->link;

    if (!l->at)
        return;
    for (; up; up = up->up)
        if (up == l) /* it can't be its own cause */
            return;
    if (client->has_remote) {
        memcpy(l->trace_id, client->id.trace_id, sizeof(l->trace_id));
        l->flags = client->id.flags;
        l->up = span_link_ref(client->link);
    } else {
        memcpy(client->id.trace_id, l->trace_id, sizeof(l->trace_id));
        client->id.flags = l->flags;
    }
    memcpy(l->client, client->id.span_id, sizeof(l->client));
    l->met = true;
    settle(l);
}

struct tm_context span_context(const struct span *s)
{
    struct tm_context id = s->id;

    if (s->link) {
        const struct span_link *l = top(s->link);

        memcpy(id.trace_id, l->trace_id, sizeof(id.trace_id));
        id.flags = l->flags;
    }
    return id;
}

static void tell(struct proc *p, const struct span *s, struct tm_span *t)
{
    const struct span_link *l = s->link;

    t->id = span_context(s);
    memcpy(t->parent_id, s->parent_id, sizeof(t->parent_id));
    t->has_remote = s->has_remote;
    t->remote = s->remote;
    if (l && l->met && !memcmp(s->id.span_id, l->server, sizeof(l->server))) {
        memcpy(t->parent_id, l->client, sizeof(t->parent_id));
        t->has_remote = t->remote = true;
    }
    if (t->end_ns < t->start_ns)
        t->end_ns = t->start_ns;
    if (t->id.flags & 1)
        telemetry_span(p->pl->tm, &p->tm, t);
}

static size_t text_size(const struct tm_field *fields, size_t count)
{
    size_t size = 0;

    for (size_t i = 0; i < count; i++) {
        const struct tm_field *f = &fields[i];

        size += f->type == TM_STR ? f->v.str.len : 0;
        for (size_t k = 0; f->type == TM_STRLIST && k < f->v.list.count; k++)
            size += strlen(f->v.list.p[k]) + 1;
        size += f->type == TM_STRLIST ? (f->v.list.count + 1) * sizeof(char *) : 0;
    }
    return size;
}

static struct tm_str copy_text(char **to, const char *p, size_t len)
{
    char *copy = *to;

    if (len)
        memcpy(copy, p, len);
    *to += len;
    return (struct tm_str){copy, len};
}

/* A list, and its texts behind it. */
static void copy_list(struct tm_field *f, char **to)
{
    const char **list = (const char **)(void *)(((uintptr_t)*to + sizeof(char *) - 1) & ~(sizeof(char *) - 1));

    *to = (char *)(list + f->v.list.count);
    for (size_t k = 0; k < f->v.list.count; k++)
        list[k] = copy_text(to, f->v.list.p[k], strlen(f->v.list.p[k]) + 1).p;
    f->v.list.p = list;
}

static void copy_fields(struct tm_field *copy, const struct tm_field *fields, size_t count, char **to)
{
    for (size_t i = 0; i < count; i++) {
        struct tm_field *f = &copy[i];

        *f = fields[i];
        if (f->type == TM_STR)
            f->v.str.p = copy_text(to, f->v.str.p, f->v.str.len).p;
        else if (f->type == TM_STRLIST)
            copy_list(f, to);
    }
}

static void keep(struct proc *p, const struct span *s, const struct tm_span *t)
{
    static const struct tm_shared none;
    const struct tm_shared *shared = t->shared ? t->shared : &none;
    size_t count = t->field_count + shared->field_count;
    size_t bytes = sizeof(struct pending) + count * sizeof(struct tm_field) + t->name.len + t->state.len +
                   text_size(t->fields, t->field_count) + text_size(shared->fields, shared->field_count);
    struct pending *k = xmalloc(bytes);
    char *to = (char *)(k->fields + count);

    k->next = NULL;
    k->bytes = bytes;
    k->p = p;
    k->span = *s;
    span_link_ref(s->link);
    k->told = *t;
    k->told.fields = k->fields;
    k->told.field_count = count;
    k->told.shared = NULL;
    k->told.name = copy_text(&to, t->name.p, t->name.len);
    k->told.state = copy_text(&to, t->state.p, t->state.len);
    copy_fields(k->fields, t->fields, t->field_count, &to);
    copy_fields(k->fields + t->field_count, shared->fields, shared->field_count, &to);
    *pending_end = k;
    pending_end = &k->next;
    pending_count++;
    pending_bytes += bytes;
}

/* Tells those that are certain; of p (not NULL) all. */
static void tell_pending(const struct proc *p)
{
    struct pending **at = &pending, *k;

    while ((k = *at)) {
        if (k->p != p && !certain(k->span.link)) {
            at = &k->next;
            continue;
        }
        *at = k->next;
        pending_count--;
        pending_bytes -= k->bytes;
        tell(k->p, &k->span, &k->told);
        span_link_unref(k->span.link);
        free(k);
    }
    pending_end = at;
}

void span_links_sweep(uint64_t now, void (*alone)(uint64_t tag))
{
    bool many = pending_count > LINK_PENDING_MAX / 2 || pending_bytes > LINK_PENDING_BYTES / 2;
    uint64_t wait = many ? LINK_WAIT_NS / 10 : LINK_WAIT_NS;
    struct span_link *l;

    while ((l = waiting) && now - l->since >= wait) {
        alone(l->tag);
        settle(l);
    }
    if (pending)
        tell_pending(NULL);
}

void spans_flush(struct proc *p)
{
    if (pending)
        tell_pending(p);
}

void span_tell(struct proc *p, const struct span *s, struct tm_span *t)
{
    if (!s->link || certain(s->link) || pending_count >= LINK_PENDING_MAX || pending_bytes >= LINK_PENDING_BYTES)
        tell(p, s, t);
    else
        keep(p, s, t);
}

/* --- threads --- */

#define THREADS 64u        /* lists of a process's; a power of two */
#define ANY_THREAD UINT32_MAX

/* One that serves requests. */
struct span_thread {
    struct span_thread *next, **at; /* of its process; at NULL: that is gone */
    uint32_t tid;
    unsigned open;                  /* requests that it serves */
    bool mixed;                     /* there were several at once: nobody knows which of them it is busy with */
    const struct span *first;       /* of them */
};

struct proc_spans {
    struct span process;            /* of its image; begun: start_ns isn't 0 */
    uint64_t start_ns;
    bool forked;                    /* it is a copy of its parent's, which may be on the way to another program */
    struct span_thread *threads[THREADS];
};

static struct pool threads = POOL(struct span_thread);

static struct proc_spans *spans_of(struct proc *p)
{
    if (!p->spans)
        p->spans = xcalloc(1, sizeof(*p->spans));
    return p->spans;
}

static struct span_thread *find_thread(struct proc_spans *all, uint32_t tid)
{
    struct span_thread *t = all->threads[tid % THREADS];

    while (t && t->tid != tid)
        t = t->next;
    return t;
}

void span_enter(struct span *s, struct proc *p, uint32_t tid)
{
    struct proc_spans *all;
    struct span_thread *t;

    if (p->go)
        tid = ANY_THREAD;
    if (!tid)
        return;
    all = spans_of(p);
    t = find_thread(all, tid);
    if (!t) {
        t = pool_get(&threads);
        t->tid = tid;
        t->at = &all->threads[tid % THREADS];
        t->next = *t->at;
        if (t->next)
            t->next->at = &t->next;
        *t->at = t;
        t->first = s;
    }
    t->mixed |= t->open++ > 0;
    s->thread = t;
}

static void unlist(struct span_thread *t)
{
    if (!t->at)
        return;
    *t->at = t->next;
    if (t->next)
        t->next->at = t->at;
    t->at = NULL;
}

void span_leave(struct span *s)
{
    struct span_thread *t = s->thread;

    s->thread = NULL;
    span_link_unref(s->link);
    s->link = NULL;
    if (!t || --t->open)
        return;
    unlist(t);
    pool_put(&threads, t);
}

const struct span *span_inside(const struct proc *p, uint32_t tid)
{
    const struct span_thread *t;

    if (!p->spans)
        return NULL;
    t = find_thread(p->spans, p->go ? ANY_THREAD : tid);
    return t && !t->mixed ? t->first : NULL;
}

void spans_forget(struct proc *p)
{
    if (!p->spans)
        return;
    for (unsigned i = 0; i < THREADS; i++)
        while (p->spans->threads[i])
            unlist(p->spans->threads[i]);
    free(p->spans);
    p->spans = NULL;
}

/* --- processes --- */

static void begin(struct proc *p, const struct span *parent, uint64_t time_ns)
{
    struct proc_spans *all = spans_of(p);
    struct span_parent of = {.id = parent ? &parent->id : NULL, .decided = true, .remote = true};

    span_begin(&all->process, p->pl, parent ? &of : NULL);
    all->start_ns = time_ns;
}

void span_process_begin(struct proc *p, const char *start, uint64_t time_ns)
{
    const struct proc_spans *parent = p->parent ? p->parent->spans : NULL;

    if (!p->pl->spans || !p->pl->cfg->otlp.processes)
        return;
    begin(p, parent && parent->start_ns ? &parent->process : NULL, time_ns);
    p->spans->forked = !strcmp(start, "fork");
}

static void tell_process(struct proc *p, const struct span *s, uint64_t start_ns, uint64_t end_ns, int code,
                         const char *error)
{
    struct tm_span t = {.kind = TM_SPAN_INTERNAL, .name = {p->tm.proc, p->tm.proc ? strlen(p->tm.proc) : 0},
                        .start_ns = start_ns, .end_ns = end_ns};

    FIELDS(f, 8);
    if (p->tm.proc)
        add_str(&f, "process.executable.name", 0, p->tm.proc);
    if (p->tm.exe)
        add_str(&f, "process.executable.path", 0, p->tm.exe);
    add_uint(&f, "process.pid", 0, p->tm.pid);
    add_uint(&f, "process.parent_pid", 0, p->tm.ppid);
    if (code >= 0)
        add_int(&f, "process.exit.code", 0, code);
    if (error) {
        add_str(&f, "error.type", 0, error);
        t.status = TM_SPAN_ERROR;
    }
    t.fields = f.f;
    t.field_count = f.n;
    span_tell(p, s, &t);
}

void span_process_end(struct proc *p, bool known, int status, uint64_t time_ns)
{
    const struct proc_spans *all = p->spans;
    const char *error = NULL;
    int code = known && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    char text[24];

    if (!all || !all->start_ns || !span_sampled(&all->process))
        return;
    if (code > 0) {
        snprintf(text, sizeof(text), "%d", code);
        error = text;
    } else if (known && WIFSIGNALED(status)) {
        error = signal_text(WTERMSIG(status), text);
    }
    tell_process(p, &all->process, all->start_ns, time_ns, code, error);
}

void span_process_exec(struct proc *p, uint64_t time_ns)
{
    struct proc_spans *all = p->spans;

    if (!all || !all->start_ns)
        return;
    if (!all->forked && span_sampled(&all->process))
        tell_process(p, &all->process, all->start_ns, time_ns, -1, NULL);
}
