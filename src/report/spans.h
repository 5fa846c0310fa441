/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Spans (struct tm_span): their ids, what is sampled, which span a thread is
 * inside of, and those of processes. docs/otlp-traces.md says what is told.
 * Single-threaded.
 */
#ifndef SCOPE_REPORT_SPANS_H
#define SCOPE_REPORT_SPANS_H

#include "model/process.h"
#include "telemetry/telemetry.h"

struct span_link;
struct span_thread;

/* One that has begun, and ends with span_leave(). */
struct span {
    struct tm_context id;
    uint8_t parent_id[8];
    bool has_remote, remote;    /* as in struct tm_span */
    struct span_thread *thread; /* that is inside of it, NULL: none, or not known */
    struct span_link *link;     /* its trace isn't certain yet; NULL: it is */
};

/* Whose child a span is to be. */
struct span_parent {
    const struct tm_context *id;
    bool decided; /* id->flags says whether it is sampled */
    bool remote;  /* it is another process's */
    struct span_link *link; /* as in struct span */
};

/* Fresh ids, and whether it is sampled (otlp.ratio, otlp.parent_based). parent NULL: it is a root. */
void span_begin(struct span *s, const struct pipeline *pl, const struct span_parent *parent);
static inline bool span_sampled(const struct span *s)
{
    return s->id.flags & 1 || s->link;
}
/* Its ids, as far as they are known by now. */
struct tm_context span_context(const struct span *s);
/* Sets the ids in t, and hands it on; of one with a link later, if need be. */
void span_tell(struct proc *p, const struct span *s, struct tm_span *t);

/* The thread serves this request from here on, until span_leave(), before which s must not move. tid 0: not known. */
void span_enter(struct span *s, struct proc *p, uint32_t tid);
void span_leave(struct span *s);
/* What a thread is inside of, beyond doubt: it serves one request, and has served no other since that began. Of Go
 * programs, whose goroutines go from thread to thread, all threads count as one. NULL: nothing, or not known. */
const struct span *span_inside(const struct proc *p, uint32_t tid);

/*
 * Of a connection of which both ends are observed the server's request may be read before the client's, as each stands in
 * a ring of its own. So the server's span begins as a root with a link, which its children share. When the client's request
 * comes, the two meet: the server's span becomes a child of the client's, in whose trace all of them are. If that hasn't
 * happened after a while (LINK_WAIT_NS), or more of them have ended than are kept (LINK_PENDING_MAX, LINK_PENDING_BYTES),
 * they stay as they are.
 */
#define LINK_WAIT_NS UINT64_C(2000000000)
#define LINK_PENDING_MAX 4096u
#define LINK_PENDING_BYTES (16u << 20) /* what peers send is in them */
/* s: a root. tag: what span_links_sweep() tells of one that nobody has met. Referenced for s, and for the caller. */
struct span_link *span_link_new(struct span *s, uint64_t tag);
struct span_link *span_link_ref(struct span_link *l); /* NULL is fine, here and in the next one */
void span_link_unref(struct span_link *l);
/* client: its span; one that is a root takes over the server's trace. */
void span_link_meet(struct span_link *l, struct span *client);
/* Gives up those that nobody has met until now (CLOCK_MONOTONIC), and tells what has waited for it. */
void span_links_sweep(uint64_t now, void (*alone)(uint64_t tag));
/* Its telemetry ends: what waits is told as it is. */
void spans_flush(struct proc *p);

/* A process's image has begun; its process has ended. Told if the configuration says so (otlp.processes). */
void span_process_begin(struct proc *p, const char *start, uint64_t time_ns);
void span_process_end(struct proc *p, bool known, int wait_status, uint64_t time_ns);
/* Another image takes the place of this one. */
void span_process_exec(struct proc *p, uint64_t time_ns);

/* It is about to be freed. */
void spans_forget(struct proc *p);

/* For struct tm_shared: another one each time. */
uint64_t span_shared_id(void);

/* len bytes, 256 at most, that nobody can guess. */
void span_random(uint8_t *to, size_t len);

#endif
