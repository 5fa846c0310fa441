/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The collector's state and what its parts offer each other. Single-threaded:
 * everything runs in the event loop (loop.c).
 */
#ifndef SCOPE_COLLECTOR_CORE_H
#define SCOPE_COLLECTOR_CORE_H

#include "collector/collector.h"
#include "collector/door.h"
#include "collector/model.h"

struct event_base;

#define BACKLOG_MAX ((size_t)64 << 20)    /* bytes; then the rings fill and the probes count what doesn't fit */
#define SLICE_NS UINT64_C(2000000)        /* longest time spent on the backlog before the rings are looked at again */
#define BORROWERS_MAX 32768u              /* processes that one ring may claim to have forked */
#define PROCS_MAX 131072u
#define PROC_BUCKETS 8192u                /* a power of two */
#define SEGMENTS_MAX 32768u               /* mappings: vm.max_map_count is 65530 by default */

enum loss_kind {
    LK_RECORD, LK_DATA, LK_CALL, LK_SLOT, LK_COPY, LK_TORN, LK_SEGMENT, LK_DESCRIPTOR, LK_QUEUE, LK_DESTINATION,
    LK_TRAFFIC, LK_MESSAGE, LK_PAYLOAD, LK_PAYLOAD_DESTINATION, LK_ANSWER, LK_MOVED, LK_SITE,
    LK_MAX
};

#define UNSEEN_MAX 64

struct collector {
    const struct collector_options *opt;
    struct event_base *base;
    struct clock_map clock;
    struct backlog backlog;
    struct segment *segments;
    unsigned nap_count;               /* segments that there were when segments_nap() was called last */
    unsigned segment_count;
    struct segment *drain_from;       /* with whom the next round begins; NULL: the newest */
    int indebted;                     /* segments whose debt_ns isn't 0 */
    size_t waiting_bytes;             /* in all segments' `waiting` */
    size_t guest_bytes;               /* queued by guests */
    uint64_t guest_ns, owner_ns;      /* what the records queued by guests, and by others, will take */
    unsigned busy_guests;             /* guests that had something to tell when all were looked at last */
    struct door_log guest_lines;      /* what the log says about segments of guests */
    struct proc *procs;
    unsigned proc_count;
    uint32_t seed;                    /* of what follows: numbers are what processes claim */
    struct proc *by_pid[PROC_BUCKETS];   /* by host_pid */
    struct segment *segments_by_pid[PROC_BUCKETS]; /* those in the list, by host_pid, newest first */
    struct guest_key *by_guest[PROC_BUCKETS]; /* those that borrow, by segment and number */
    struct proc *forkers;             /* those with forks under way */
    struct proc *dying_procs;         /* dead ones that aren't told yet */
    struct proc *unwatched_next;      /* whom to look at next; NULL: begin anew */
    unsigned unwatched;               /* processes whose death nothing tells us */
    struct file *free_files;
    unsigned free_file_count;
    size_t long_names;                /* bytes: NAME_SHORT */
    uint64_t last_channel;
    struct passed *passed;            /* passed.h; NULL: none so far */
    struct pipeline *pipelines;
    struct left *left;                /* processes that go on without us */
    uint64_t left_sweep;              /* CLOCK_MONOTONIC ns: when to look which of them have ended */
    struct payload_target *payload_targets; /* payloads.c */
    struct config_list *configs;      /* of processes that have got another than the session's */
    uint64_t processes;               /* that were observed so far */
    uint64_t lost[LK_MAX];
    struct images *hidden;            /* of which was told that some of their calls aren't seen */
    struct images *unread;            /* programs of which was told that their TLS can't be read */
    uint64_t records;
    uint64_t last_segment;            /* id */
    unsigned attaching;               /* segments whose BL_ATTACH hasn't come up */
    unsigned dying;                   /* processes that are dead and not yet told */
    uint64_t ends_look;               /* CLOCK_MONOTONIC ns: not before is it looked which dead processes are told */
    uint64_t shared_look;             /* CLOCK_MONOTONIC ns: not before is it asked who maps a ring */
    uint64_t next_check;              /* CLOCK_MONOTONIC ns: summaries and old segments */
    uint64_t now_mono;                /* CLOCK_MONOTONIC ns at the start of this turn */
    uint64_t alone_since;             /* CLOCK_MONOTONIC ns since when there is no process; 0: there is */
    bool seen_process, stopping;
    bool root_ended, root_known;
    int root_status;                  /* wait status of the session's program, if root_known */
    uint64_t end_ns;                  /* CLOCK_REALTIME when the last process had ended */
    int root_pidfd;                   /* of the session's program, whether observed or not; -1: none */
    struct {
        pid_t pid;
        uint64_t time_ns; /* CLOCK_REALTIME */
    } unseen[UNSEEN_MAX]; /* images whose tracer has told why they aren't observed: the last ones */
    unsigned unseen_next;
    uint64_t next_peer_look;          /* CLOCK_MONOTONIC ns: when the kernel's list of connections may be read again */
    int diag_fd;                      /* NETLINK_SOCK_DIAG, -1 not opened yet, -2 can't be */
    char *scratch[2];                 /* 2 * NAME_BYTES each: names being put together (names.h) */
    void (*sync_done)(void *client);  /* a BL_SYNC came up */
    void (*watch_death)(struct proc *p); /* arrange that proc_died() is called; NULL in tests */
};

void core_init(struct collector *c, const struct collector_options *opt, struct event_base *base);
/* Tells the ends of everything; processes that still run go on unobserved. Telemetry can still be flushed. */
void core_end(struct collector *c);
void core_free(struct collector *c);

/* --- segments (attach.c) --- */
struct peer;
/* Takes a segment that a process handed over: `from`, or the tool that has brought the probe into it. fd stays the
 * caller's; from->pidfd is taken if all is well (and is -1 then). 0 or -errno, logged. One that nobody wants any more
 * (left.h) is switched off. */
int segment_attach(struct collector *c, int fd, struct peer *from);
void segment_unref(struct collector *c, struct segment *seg);
/* One of its records has come up, or is dropped: `bytes` of data. */
void segment_unqueue(struct segment *seg, uint32_t bytes);
/* It is held no longer: what was read meanwhile goes into the backlog. */
void segment_release(struct segment *seg);
/* Whether others wait for what is looked at in order. Guests always take CPU time from others: ours comes first. */
bool segment_delays(const struct segment *seg);
bool segment_waits(struct collector *c, struct segment *seg); /* for what its process recorded elsewhere before */
/* Reads what the rings hold into the backlog; all: also those that aren't due. Returns the number of records. */
uint64_t segments_drain(struct collector *c, bool all);
/* Tells the writers of all segments that nobody looks soon, if all have been quiet for a while, and can and need do no
 * more than wake us. Returns how many words are to be waited for (doze.h), at most max; 0: not now. */
size_t segments_sleep(struct collector *c, uint32_t *words[], size_t max);
void segments_wake(struct collector *c);
/* Tells the writers of all segments, as far as they may, that we are to be woken when much is in the ring before we come
 * round to it. Returns how many words are to be waited for with SEG_NAPPING, at most max. */
size_t segments_nap(struct collector *c, uint32_t *words[], size_t max);
/* Those whose writers have woken us are due. */
void segments_hurry(struct collector *c);
/* ns until the next ring is due. */
uint64_t segments_due(const struct collector *c);
/* Nobody writes any more: reads the rest, takes the loss counters and lets go. */
void segment_leave(struct collector *c, struct segment *seg);
/* Reads what a process that died at `since` (CLOCK_MONOTONIC ns), with ring_head at `head`, may have left. True if
 * nothing of it is missing any more. */
bool segment_last_words(struct collector *c, struct segment *seg, uint64_t head, uint64_t since);
/*
 * So many records of its were looked at, which took that much CPU time. A record may take RECORD_NS (the usual one takes
 * a tenth of it); rings whose records take more share DEBT_NS, of which a tenth of ours comes back. When one has
 * used up its part they are dropped, and counted, until half of it has come back, as long as more than BEHIND_BYTES are
 * in the backlog: others wait for what is looked at in order. cpu: CPU time of this thread, ns.
 */
#define RECORD_NS INT64_C(20000)
#define DEBT_NS INT64_C(2000000000)
#define BEHIND_BYTES (BACKLOG_MAX / 8)
/*
 * Guests (segment.guest) may use a part of the backlog, in bytes and in the time that it will take: half of the bytes,
 * and as much time as the others use, but at least GUEST_LEAST_NS, or GUEST_MOST_NS where nobody else has anything to
 * tell. Each of those that have something may use the same part of that, but always one record. More stays in their
 * rings: then it is their own writers that wait, or drop and count. Of the places for segments and processes, too, one
 * half is not theirs.
 */
#define GUEST_LEAST_NS UINT64_C(100000000)
#define GUEST_MOST_NS UINT64_C(500000000)
#define GUEST_BYTES (BACKLOG_MAX / 2)
#define GUEST_SEGMENTS_MAX 64u /* of one process: its images that come one after the other */
#define WAITING_MAX ((size_t)8 << 20) /* bytes that are read of a ring that is held; then it is held no longer */
void segment_charge(struct segment *seg, unsigned records, uint64_t ns, uint64_t cpu);
/* Takes over the loss counters. */
void segment_losses(struct collector *c, struct segment *seg);

/* --- processing --- */
/* Works through the backlog until it is empty or the deadline (CLOCK_MONOTONIC ns) has passed. True if empty. */
bool core_process(struct collector *c, uint64_t deadline);
/* Periodic work: ends of processes, summaries, old segments. Call each turn. */
void core_turn(struct collector *c);
/* A process is no longer observed but goes on: it is forgotten once everything that it recorded was looked at. */
void core_leave(struct collector *c, pid_t host_pid);
/* A process was found dead: its end is queued behind everything that it recorded. */
void proc_died(struct proc *p);
/* True if something is still to be told about a process that died before. */
bool core_endings(const struct collector *c);

/* One record (decode.c). r is private memory of `size` bytes. */
void decode_record(struct collector *c, struct segment *seg, const struct record *r, uint32_t size, uint64_t arrival);

/* --- life of processes (life.c) --- */
void life_attach(struct collector *c, struct segment *seg, uint64_t arrival);
struct proc *life_borrower(struct collector *c, struct segment *seg, uint32_t pid, bool vfork, uint64_t time_ns);
/* id: number of the fork, 0: not known. */
void life_forked(struct collector *c, struct proc *parent, uint32_t tid, uint32_t id, int64_t child, uint64_t time_ns);
void life_upgrade(struct proc *p);
/* Whether p, who borrows its ring, was dead by that time (CLOCK_REALTIME ns): then its number is another process's. */
bool life_reused(const struct proc *p, uint64_t time_ns);
/* The configuration of a process: the session's, or what was laid over it since. */
const struct config_sources *life_config(const struct proc *p);
/* Another one for it and the children that it will have; taken, and kept for the session. The session's totals go on. */
void life_reconfigure(struct proc *p, struct config_sources *config);
/* Tells the end of a process; false if its status isn't known yet and may still come. */
bool life_end(struct proc *p, bool force);
/* It has been told why the image that a process has just exec'ed isn't observed. */
void life_unseen(struct collector *c, pid_t pid);

/* --- I/O counters (account.c) --- */
/* Something was transferred through a descriptor: the descriptor's and the connection's totals. */
void account_desc(struct desc *d, const struct io_count *n);
/* The period's metrics. */
void account_sums(struct proc *p, const struct desc *d, const struct io_count *n);
/* Takes the difference of cumulative counters (ticks) since they were last looked at. known: of what the descriptor is
 * now, or can be looked up in /proc; else it counts for the process only. */
void account_counters(struct proc *p, int fd, struct desc *d, const struct io_count *cumulative, bool known);
/* Takes over all counters of a process's own segment, if nothing unread would be attributed wrongly (final: anyhow). */
void account_settle(struct proc *p, bool final);
enum net_class net_class_of(const struct sock *s);

/* --- descriptors coming and going (fds.c) --- */
struct desc *fds_open(struct proc *p, int64_t fd, struct file *f /* taken */, uint32_t gen, bool cloexec, uint64_t time_ns);
/* Ends a descriptor: reports fs.close, net.close as due. op names the reason. */
void fds_close(struct proc *p, int64_t fd, const char *op, uint64_t time_ns, bool explicit_);
/* Drops a descriptor whose close was lost, without a word: what it transferred is not known. */
void fds_forget(struct proc *p, int64_t fd);
/* What an inherited or missed descriptor is, from /proc; never NULL unless fd is impossible. */
struct desc *fds_lookup(struct proc *p, int64_t fd);
struct desc *fds_lookup_gen(struct proc *p, int64_t fd, uint32_t gen); /* not inherited, but of that generation */
/* Reads what a process that we know nothing about has open. */
void fds_snapshot(struct proc *p, uint64_t time_ns);
/* More about what it had open when it was attached to: close-on-exec, addresses of sockets. pidfd: of the process. */
void fds_attached(struct proc *p, int pidfd, uint64_t time_ns);
/* Close-on-exec; names the standard streams, by their numbers. */
void fds_exec(struct proc *p, uint64_t time_ns);
/* Everything that is still open at the end. */
void fds_end(struct proc *p, const char *op, uint64_t time_ns);
/* Decides whether what is written to d shall be captured, and tells the probe. */
void fds_decide(struct proc *p, int64_t fd, struct desc *d);
/* Of what is written to d, the beginning of each call is enough for now, or not any more. */
void fds_sample(struct proc *p, int64_t fd, struct desc *d, bool enough);
bool fds_is_console(const struct proc *p, const struct desc *d); /* what is written to it is wanted as output */
const char *fds_stream(const struct desc *d, size_t *ret_len); /* DF_STREAM: stdin, stdout, stderr */
/* The image begins: remembers what its standard streams are, and finds others of its descriptors that are the same. */
void fds_streams(struct proc *p);
/* d has just been opened by that name: is it one of the standard streams once more? */
void fds_reopened(struct proc *p, struct desc *d);
/* Which stream a duplicate of `from` is that has the number fd. */
uint8_t fds_label(const struct proc *p, const struct desc *from, int64_t fd);
/* A device that isn't a terminal. rdev: in the kernel's encoding (makedev(3)). */
bool fds_sink(uint32_t mode, uint64_t rdev);
bool fds_unresolved(const struct desc *d); /* it has a name in the file system that isn't what that should be (names.h) */
const char *fds_name(const struct desc *d, size_t *ret_len); /* for events: path, or stdout */
void fds_gauge(struct proc *p, struct desc *d, uint8_t flag, int64_t fd, uint64_t time_ns); /* DF_PORT or DF_CONN begins */

/* --- what is told (report.c) --- */
struct pipeline *pipeline_for(struct collector *c, const struct config_sources *config, const struct cfg_process *who);
struct fields;
void report_event(struct proc *p, enum cfg_event_watch watch, const char *source, uint64_t channel, uint64_t time_ns,
                  const struct fields *f);
/* numops: operations that value stands for; f: tags (may be NULL); summary_only: value sums up many. */
void report_sample(struct proc *p, enum tm_metric m, int64_t value, uint64_t numops, const char *class_,
                   const struct fields *f, bool summary_only, uint64_t time_ns);
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
void report_start(struct proc *p, const char *start, uint64_t time_ns);
void report_exit(struct proc *p, bool known, int wait_status, uint64_t time_ns);
void report_note(struct proc *p, const char *text, const char *file, size_t file_len, uint64_t time_ns);
void report_open(struct proc *p, int64_t fd, const struct desc *d, const char *op, uint64_t time_ns);
void report_close(struct proc *p, int64_t fd, const struct desc *d, const char *op, uint64_t time_ns);
/* unresolved: which of the names are not (names.h); flags: names of those of the call. */
#define NAME_FIRST 1u
#define NAME_SECOND 2u
void report_names(struct proc *p, enum tm_metric metric, const char *source, const char *op, const char *file, size_t len,
                  const char *file_to, size_t to_len, unsigned unresolved, const char *const *flags, size_t flag_count,
                  uint64_t time_ns);
void report_net_open(struct proc *p, int64_t fd, struct desc *d, uint64_t time_ns);
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
    bool unresolved;                /* file is a name that isn't resolved (names.h) */
    uint64_t duration_ns;
};
void report_syscall(struct proc *p, const struct report_call *call, uint64_t time_ns);
/* One operation: TM_FS_SEEK, TM_FS_STAT, TM_FS_SYNC, TM_FS_READ, ... */
void report_op(struct proc *p, enum tm_metric metric, uint64_t value, int64_t fd, const struct desc *d, const char *op,
               const char *file, size_t len, uint64_t time_ns);
void report_gauge(struct proc *p, enum tm_metric metric, uint64_t value, int64_t fd, const struct desc *d,
                  uint64_t time_ns);
const char *report_loss_name(enum loss_kind kind);
void report_loss(struct collector *c, struct proc *p, enum loss_kind kind, uint64_t count);
/* Sums, gauges and process metrics of a period. last: the process has ended. */
void report_period(struct proc *p, uint64_t time_ns, bool last);
const char *err_name(int err);   /* "ENOENT"; "E<number>" if it has no name */

/* unix(7) sockets by sock_diag(7): the inode of the peer, 0 if unknown. */
uint64_t diag_unix_peer(struct collector *c, uint64_t ino);

#endif
