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

struct span_thread;

/* One that has begun. */
struct span {
    struct tm_context id;
    uint8_t parent_id[8];
    bool has_remote, remote;    /* as in struct tm_span */
    struct span_thread *thread; /* that is inside of it, NULL: none, or not known */
};

/* Whose child a span is to be. */
struct span_parent {
    const struct tm_context *id;
    bool decided; /* id->flags says whether it is sampled */
    bool remote;  /* it is another process's */
};

/* Fresh ids, and whether it is sampled (otlp.ratio, otlp.parent_based). parent NULL: it is a root. */
void span_begin(struct span *s, const struct pipeline *pl, const struct span_parent *parent);
static inline bool span_sampled(const struct span *s)
{
    return s->id.flags & 1;
}
/* Sets the ids in t, and hands it on. */
void span_tell(struct proc *p, const struct span *s, struct tm_span *t);

/* The thread serves this request from here on, until span_leave(), before which s must not move. tid 0: not known. */
void span_enter(struct span *s, struct proc *p, uint32_t tid);
void span_leave(struct span *s);
/* What a thread is inside of, beyond doubt: it serves one request, and has served no other since that began. Of Go
 * programs, whose goroutines go from thread to thread, all threads count as one. NULL: nothing, or not known. */
const struct span *span_inside(const struct proc *p, uint32_t tid);

/* A process's image has begun; its process has ended. Told if the configuration says so (otlp.processes). */
void span_process_begin(struct proc *p, const char *start, uint64_t time_ns);
void span_process_end(struct proc *p, bool known, int wait_status, uint64_t time_ns);
/* Another image takes the place of this one. */
void span_process_exec(struct proc *p, uint64_t time_ns);

/* It is about to be freed. */
void spans_forget(struct proc *p);

/* len bytes, not all of them 0, that nobody can guess. */
void span_random(uint8_t *to, size_t len);

#endif
