/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Notices: what somebody should look at (docs/notices.md). The collector hands
 * over what happens anyway, where a pipeline has notices; nothing here blocks, and
 * files are asked about only when a program begins. Single-threaded.
 */
#ifndef SCOPE_REPORT_NOTICES_H
#define SCOPE_REPORT_NOTICES_H

#include "model/process.h"
#include "report/pipeline.h"
#include "wire/record.h"

struct dns_message;
struct fields;

/* Makes pl->notices of the configuration if they are on. Frees them; behind the end of the pipeline's telemetry. */
void notices_prepare(struct pipeline *pl);
void notices_unprepare(struct pipeline *pl);
/* Whether DNS messages have to be decoded for them. */
bool notices_want_dns(const struct pipeline *pl);

/* What follows is called only where p->pl->notices isn't NULL. op: name of the call. */

/* A file was opened with these flags of open(2); st: owner and mode, NULL: not known. */
void notices_open(struct proc *p, const struct desc *d, uint64_t flags, const struct rec_stat *st, const char *op,
                  uint64_t time_ns);
/* A name was removed, changed or made, or what it names was changed: as report_names() has it. */
void notices_names(struct proc *p, enum tm_metric metric, const char *op, const char *file, size_t len, const char *file_to,
                   size_t to_len, unsigned unresolved, uint64_t time_ns);
/* A file gets this mode. */
void notices_mode(struct proc *p, uint32_t mode, const char *op, const char *file, size_t len, uint64_t time_ns);
/* A program begins, or was found running: p->tm.exe. name: of the file that was executed, NULL: not known. */
void notices_exec(struct proc *p, const char *name, uint64_t time_ns);
/* A program begins that isn't observed. */
void notices_exec_unobserved(struct proc *p, const char *name, size_t len, uint64_t time_ns);
/* The end of a summary period. */
void notices_period(struct proc *p, uint64_t time_ns);
/* The process begins a connection to this peer, or tries to, or sends a first datagram. */
void notices_connect(struct proc *p, const struct desc *d, const union address *peer, uint64_t time_ns);
/* The kernel has copied bytes of a file to a socket; to NULL: nobody knows which. */
void notices_sent(struct proc *p, const struct desc *from, const struct desc *to, uint64_t bytes, const char *op,
                  uint64_t time_ns);
/* A DNS message that the process has sent, or received. net: addresses, fields of the event. */
void notices_dns(struct proc *p, const struct dns_message *m, bool sent, uint64_t channel, const struct fields *net,
                 uint64_t time_ns);
/* ... one that can't be read at all. */
void notices_dns_unreadable(struct proc *p, uint64_t channel, const struct fields *net, uint64_t time_ns);

#endif
