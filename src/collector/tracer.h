/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers TRACE requests (wire/join.h): a worker process for each becomes the
 * tracer of the thread, for as long as its exec takes, and brings the probe into
 * the new image. It may die at any moment without harm to the program
 * (inject/trace.h). Single-threaded.
 */
#ifndef SCOPE_COLLECTOR_TRACER_H
#define SCOPE_COLLECTOR_TRACER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct tracer;

struct tracer *tracer_new(void);
/* Ends running workers. */
void tracer_free(struct tracer *tr);
/* sock, on which the answer is sent, is taken. from: the asker, who is traced with its own rights unless it is trusted:
 * the kernel refuses if it has gained others since it connected (peer_become()), and gives it none while it is traced.
 * lib: the probe's file, for the environment of the new image's children. What fails after the answer is logged. */
struct join_request;
struct peer;
void tracer_request(struct tracer *tr, int sock, const struct peer *from, bool trusted, const char *lib,
                    const struct join_request *req);
/* Call on SIGCHLD. unseen: called for each process whose new image is not observed, which has been logged. */
void tracer_reap(struct tracer *tr, void (*unseen)(void *ctx, pid_t pid), void *ctx);
/* Call now and then: ends workers whose time is over. A guest can stop a process that has become the guest. */
void tracer_sweep(struct tracer *tr);
bool tracer_busy(const struct tracer *tr);
/* Calls fn with each JOIN_MAIL that a new image has left in its join_load. True: there may be more soon. */
bool tracer_mail(struct tracer *tr, void (*fn)(void *ctx, pid_t pid, uint64_t mail), void *ctx);

/* Our number of the thread of a process that has the number tid as it sees itself, or -ESRCH. max: among so many threads,
 * if that is another number. */
pid_t tracer_thread(pid_t pid, uint32_t tid, unsigned max);

#endif
