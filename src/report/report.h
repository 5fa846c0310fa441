/* SPDX-License-Identifier: Apache-2.0 */
/* From the model to telemetry: what is told of processes, files and connections (docs/data-model.md). */
#ifndef SCOPE_REPORT_REPORT_H
#define SCOPE_REPORT_REPORT_H

#include <netinet/in.h>

#include "model/process.h"
#include "model/loss.h"
#include "wire/syscalls.h"

struct fields;

void report_event(struct proc *p, enum cfg_event_watch watch, const char *source, uint64_t channel, uint64_t time_ns,
                  const struct fields *f);
/* numops: operations that value stands for; f: tags (may be NULL); summary_only: value sums up many. */
void report_sample(struct proc *p, enum tm_metric m, int64_t value, uint64_t numops, const char *class_,
                   const struct fields *f, bool summary_only, uint64_t time_ns);
/* A request that has its response: TM_HTTP_DURATION_*, TM_DNS_DURATION, in microseconds; TM_HTTP_*_LENGTH. */
void report_exchange(struct proc *p, enum tm_metric m, int64_t value, const struct tm_exchange *x, const struct fields *f,
                     uint64_t time_ns);
/* net_transport and addresses; the texts belong to t. */
struct address_texts {
    char peer[INET6_ADDRSTRLEN], local[INET6_ADDRSTRLEN], client[INET6_ADDRSTRLEN];
    unsigned peer_port, local_port, client_port;
};
/* Port and text of an internet address, and the text's length; 0: it is none. IPv4 in IPv6 is shown as IPv4 (RFC 4291,
 * 2.5.5.2). */
size_t report_address(const union address *a, char text[INET6_ADDRSTRLEN], unsigned *ret_port);
const char *report_transport(const struct sock *s); /* net_transport: "IP.TCP" */
void report_net_fields(struct fields *f, const struct sock *s, const union address *peer, struct address_texts *t);
/* more: what else is known of it, NULL: nothing. */
void report_net_app(struct proc *p, int64_t fd, uint64_t channel, const char *protocol, const struct fields *more,
                    uint64_t time_ns);
/* Its arguments: NUL-separated, terminated; cut: there were more. */
struct report_args {
    const char *argv;
    size_t len;
    bool cut;
};
/* start: how it began: "exec", "fork", "attach". */
void report_start(struct proc *p, const struct report_args *args, const char *start, uint64_t time_ns);
void report_exit(struct proc *p, bool known, int wait_status, uint64_t time_ns);
void report_note(struct proc *p, const char *text, const char *file, size_t file_len, uint64_t time_ns);
/* flags: names of those that say what may become of the file; none: only read, or not known. */
void report_open(struct proc *p, int64_t fd, const struct desc *d, const char *op, const char *const *flags,
                 size_t flag_count, uint64_t time_ns);
void report_close(struct proc *p, int64_t fd, const struct desc *d, const char *op, uint64_t time_ns);
/* unresolved: which of the names are not (model/path.h); flags: names of those of the call. */
#define NAME_FIRST 1u
#define NAME_SECOND 2u
void report_names(struct proc *p, enum tm_metric metric, const char *source, const char *op, const char *file, size_t len,
                  const char *file_to, size_t to_len, unsigned unresolved, const char *const *flags, size_t flag_count,
                  uint64_t time_ns);
void report_net_open(struct proc *p, int64_t fd, struct desc *d, uint64_t time_ns);
/* The socket begins to listen. */
void report_net_listen(struct proc *p, const struct desc *d, uint64_t time_ns);
void report_net_close(struct proc *p, int64_t fd, const struct desc *d, uint64_t time_ns);
/* What failed calls of a group are counted as; ERR_MAX: processes and io_uring are neither files nor network. */
enum err_class err_class_of(enum op_group group);
/* A query of this process's was refused, or not answered. */
void report_dns_error(struct proc *p, const char *domain, size_t len, uint64_t time_ns);
void report_error(struct proc *p, enum err_class class_, const char *op, int err, const char *file, size_t len,
                  const struct sock *s, uint64_t time_ns);
/* An observed call, for the event source syscall. Strings may be NULL. has_result: it came back. */
struct report_call {
    enum op_id op;
    uint32_t tid;
    const uint64_t *args;
    const char *path, *path2, *file;
    size_t path_len, path2_len, file_len;
    const void *addr;               /* struct sockaddr, NULL if none */
    size_t addr_len;
    int64_t fd, result;             /* fd: -1 if it takes none */
    int64_t bytes;                  /* -1 if it transfers none */
    bool has_result, timed;
    bool unresolved;                /* file is a name that isn't resolved (model/path.h) */
    uint64_t duration_ns;
};
void report_syscall(struct proc *p, const struct report_call *call, uint64_t time_ns);
/* One operation: TM_FS_SEEK, TM_FS_STAT, TM_FS_SYNC, TM_FS_READ, ... */
void report_op(struct proc *p, enum tm_metric metric, uint64_t value, int64_t fd, const struct desc *d, const char *op,
               const char *file, size_t len, uint64_t time_ns);
void report_gauge(struct proc *p, enum tm_metric metric, uint64_t value, int64_t fd, const struct desc *d,
                  uint64_t time_ns);
const char *report_loss_name(enum loss_kind kind);
/* What has been counted (model_loss()): to telemetry, if it is p's. */
void report_lost(struct proc *p, enum loss_kind kind, uint64_t count);
/* Sums, gauges and process metrics of a period. last: the process has ended. */
void report_period(struct proc *p, uint64_t time_ns, bool last);
const char *err_name(int err);   /* "ENOENT"; "E<number>" if it has no name */


/* Whether what is written to d is wanted as output of the console. */
bool report_is_console(const struct proc *p, const struct desc *d);
/* Whether what is written to d, a file or something like it, is wanted as text: FDW_CAPTURE or FDW_NONE. */
enum fd_want report_wants(const struct proc *p, const struct desc *d);

#endif
