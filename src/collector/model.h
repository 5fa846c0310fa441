/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The model: what processes there are, which descriptors each has open, and
 * what those refer to. Built from records (decode.c), reported by report.c.
 * Single-threaded; objects are owned as stated.
 */
#ifndef SCOPE_COLLECTOR_MODEL_H
#define SCOPE_COLLECTOR_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <netinet/in.h>

#include "collector/backlog.h"
#include "collector/clock.h"
#include "collector/images.h"
#include "collector/segment.h"
#include "telemetry/telemetry.h"

struct collector;
struct event;

#define FD_LIMIT (1 << 20)  /* descriptors from here on are not modelled (fs.nr_open of a usual kernel) */

/* A socket address as far as it is of interest: of other families than the two only the family. 0: unknown. Connections
 * are many, so there is no room for the path of a unix socket, which nothing tells. */
union address {
    sa_family_t family;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
};

enum sock_flag {
    SOCKF_LISTENING = 1 << 0,
    SOCKF_PENDING   = 1 << 1, /* connect() said EINPROGRESS */
    SOCKF_OPEN      = 1 << 2, /* net.open was reported: net.close will be */
    SOCKF_REMOTE    = 1 << 3, /* the peer ended it */
    SOCKF_JOINED    = 1 << 5, /* inherited, received or attached to: something may have passed before */
    SOCKF_ACCEPTED  = 1 << 6,
    SOCKF_CONNECTED = 1 << 7, /* connect() was called */
    SOCKF_HTTP      = 1 << 9, /* HTTP was recognised on it */
    SOCKF_PLAIN     = 1 << 10, /* the plaintext of its TLS was seen, or would be: a library that is observed uses it */
    SOCKF_RECEIVED  = 1 << 8, /* with a message, of somebody who isn't known to have sent it (passed.h) */
};

struct stream;

struct sock {
    unsigned refs;            /* files that are this socket: of processes that have passed it on */
    uint16_t domain, protocol;
    uint16_t flags;           /* enum sock_flag */
    uint8_t type;
    union address local, peer;
    uint64_t open_ns;         /* of the connection */
    uint64_t channel;         /* of the file as which it was opened, if it is several (passed.h); 0: that of its file */
    uint64_t close_ns;        /* when a descriptor was closed that wasn't the last one */
    uint64_t rx_bytes, rx_ops, tx_bytes, tx_ops;
    uint64_t ino, peer_ino;   /* of unix sockets; the first one also of others that were inherited or received */
    union address *client;    /* who is behind a proxy, as its PROXY header says; NULL: there was none */
    struct stream *stream;    /* what is spoken, NULL: nothing was captured yet (stream.h) */
    struct stream *plain;     /* ... inside of TLS */
};

/* What a descriptor refers to; shared by its duplicates here and in children. */
struct file {
    unsigned refs;
    uint8_t kind;             /* enum fd_kind */
    bool has_stat;
    bool read_only;           /* as it was opened: nothing can be written through it */
    bool sink;                /* a device that isn't a terminal, such as /dev/null: nobody reads what is written to it */
    uint32_t perms, uid, gid;
    uint32_t path_len, path_cap;
    uint32_t plain, tail;     /* as in struct name (names.h) */
    uint64_t dev, ino;        /* ino 0: not known */
    char *path;               /* not terminated */
    uint64_t channel;
    struct sock *sock;        /* NULL if it is none */
    struct file *next_free;
};

enum desc_flag {
    DF_CLOEXEC  = 1 << 0,
    DF_REPORTED = 1 << 1, /* fs.open was reported by this process */
    DF_PORT     = 1 << 2, /* counts in net.port of this process */
    DF_CONN     = 1 << 3, /* counts in net.tcp, net.udp or net.other of this process */
    DF_BLIND    = 1 << 5, /* records before it were lost: the next difference of counters isn't only its own */
    DF_LABEL    = 1 << 4, /* one of the three standard streams, or a duplicate: known by the stream's name */
    DF_STREAM   = 1 << 6, /* ... or the same file, opened once more, which has its own name */
};

/* Counters of one descriptor: bytes, operations and nanoseconds, each way. */
struct io_count {
    uint64_t rb, ro, rt, wb, wo, wt;
};

/* A descriptor number of a process. */
struct desc {
    struct file *file;        /* NULL: not open as far as we know */
    uint32_t gen;             /* fd_entry.gen that began with it */
    uint8_t flags;            /* enum desc_flag */
    uint8_t want;             /* enum fd_want */
    uint8_t label;            /* DF_STREAM: 0, 1, 2 */
    uint64_t channel, open_ns;
    struct io_count n;        /* since it was opened (by this process, since it was inherited) */
    /* These belong to the number, not to what it refers to: */
    struct io_count seen;     /* fd_entry values accounted for, ticks as such; of the process's own segment */
    uint32_t next_gen;        /* generation that the next open of this number begins, if none is missed */
    struct io_count said;     /* part of what seen doesn't contain yet that records have reported one by one */
    uint32_t unsaid_seen, unsaid_gen;
    /* A socket's, by enum proto_dir: */
    uint64_t pos[2];          /* value of the counter up to which its stream knows what passed, or, of datagrams, that it
                               * would have if only those had passed that the stream knows; DESC_NO_POS: not known */
    uint64_t skip[2];         /* ... up to which the probe was told not to capture */
};
#define DESC_NO_POS UINT64_MAX

#define FD_PAGE 64
/* Of all descriptors of a process, of its forks that are under way and of the children that share its ring: what records
 * claim costs a process nothing. */
#define FD_PAGES_MAX 4096u
struct fd_budget {
    unsigned refs, pages;
};

struct fd_table {
    struct desc **page;       /* FD_PAGE descriptors each, NULL where none is open */
    unsigned pages;
    struct fd_budget *budget; /* NULL as long as there are no pages */
};

/* What a standard stream was when the image began. channel: that of its file, 0: there was none. */
struct std_file {
    uint64_t channel, dev, ino;
};

/* A fork that is under way. */
struct fork_pending {
    struct fork_pending *next;
    uint32_t tid;             /* of the caller; 0: not known (seccomp) */
    uint32_t id;              /* its number among those of the segment, 0: not known */
    uint32_t child;           /* the number in its records if it has shown itself, else 0 */
    bool vfork, parent_too;   /* CLONE_VFORK; CLONE_PARENT */
    bool new_pids;            /* CLONE_NEWPID */
    uint64_t time_ns;
    struct fd_table fds;
    struct tls_objects *tls;
    char *cwd;
};

enum err_class {
    ERR_OPEN_CLOSE, ERR_READ_WRITE, ERR_SYNC, ERR_SEEK, ERR_STAT, ERR_DELETE, ERR_CREATE, ERR_RENAME, ERR_CHANGE,
    ERR_DESC, ERR_MAP, ERR_CONNECTION, ERR_RX_TX, ERR_DNS, ERR_MAX
};
enum net_class { NETC_INET_TCP, NETC_INET_UDP, NETC_UNIX_TCP, NETC_UNIX_UDP, NETC_OTHER, NETC_MAX };

/* What has been counted since the last summary. */
struct sums {
    uint64_t value[TM_METRIC_MAX], ops[TM_METRIC_MAX];
    uint64_t net[2][NETC_MAX], net_ops[2][NETC_MAX]; /* received, sent */
    uint64_t error[ERR_MAX];
};

/* Equal configurations share one. */
struct pipeline {
    struct pipeline *next;
    struct config *cfg;
    struct telemetry *tm;
    uint32_t mode;                      /* enum seg_mode for its processes */
    bool event[CFG_EW_MAX];             /* watched at all */
    bool metric[TM_METRIC_MAX], per_op[TM_METRIC_MAX];
    bool ev_fs_open, ev_fs_close, ev_fs_delete, ev_fs_rename, ev_fs_create, ev_fs_change, ev_net_open, ev_net_close,
        ev_proc_start, ev_proc_exit, ev_proc_note, ev_net_app, ev_http_req, ev_http_resp, ev_http_note, ev_dns_req, ev_dns_resp;
    bool http, dns, statsd;             /* events or metrics are made from it */
    bool payloads;                      /* of all connections, or of some protocol */
    struct detect_rules *detect;
    struct header_rule *headers;        /* http.c; NULL: none */
    struct payload_target *payload_to;  /* payloads.c; NULL: not known yet */
};

enum proc_root { ROOT_UNKNOWN, ROOT_OURS, ROOT_OTHER };
enum proc_view { VIEW_UNKNOWN, VIEW_OURS, VIEW_OTHER }; /* which files names lead to: ours, or those of another root */

/* A segment and who writes to it. */
struct segment {
    struct collector *c;
    struct segment *next, *prev;
    struct segment *pid_next; /* by host_pid */
    struct segment_map map;
    unsigned refs;            /* queued entries, processes, the list itself */
    struct proc *owner;       /* NULL before its process is known and after it left */
    pid_t host_pid;
    struct proc *borrowers;   /* linked by borrow_next */
    unsigned borrower_count;
    unsigned inner_guests;    /* borrowers with inner_pid */
    struct proc *last_found;
    bool attached;            /* BL_ATTACH was processed */
    bool held;                /* wait for REC_UPGRADE in another ring before reading */
    bool broken;
    bool listed;              /* in collector.segments */
    uint64_t held_until;      /* CLOCK_MONOTONIC ns */
    uint64_t left_ns;         /* CLOCK_MONOTONIC ns when owner and last borrower had left; 0: not */
    uint64_t id;              /* of the session's segments, from 1 */
    int pidfd;                /* of the process, from its connection; -1: none. Given to its object. */
    bool attach_again;        /* BL_ATTACH was put off */
    struct segment *after;    /* where its process wrote before; NULL: nothing of that is missing */
    uint64_t after_head;      /* ring position up to which that must be read first */
    uint64_t stall_look;      /* CLOCK_MONOTONIC ns: when to look into the present stall of the ring; 0: there is none */
    bool orphans;             /* the owner left while it was forking: unknown borrowers may follow */
    bool guest;               /* of another user than the collector's, whose share is bounded: core.h */
    uint64_t queued, queued_bytes; /* records in the backlog, and in `waiting` */
    uint64_t record_ns;       /* what a record of its takes to look at: a running mean */
    struct backlog waiting;   /* records that were read while it was held, so that its writers need not wait */
    int64_t debt_ns;          /* what its records took beyond RECORD_NS each; segment_charge() */
    uint64_t debt_at;         /* CPU time of this thread, ns: when that was looked at last */
    bool too_dear;            /* its records are dropped */
    uint64_t next_poll, interval; /* CLOCK_MONOTONIC ns */
    bool naps;                /* whoever fills a part of it wakes us: segments_nap() */
    uint64_t busy_ns;         /* CLOCK_MONOTONIC: when something was last found in its ring */
    uint64_t words_look;      /* collector.now_mono when it was last read for one that has died */
    uint64_t shared_look;     /* CLOCK_MONOTONIC ns: when it was last asked whether anybody still has it mapped */
    uint64_t loss_seen[LOSS_MAX], torn_seen;
    uint64_t op_seen[OP_MAX], failed_seen[OP_MAX];
};

struct proc {
    struct proc *next, *prev;         /* all */
    struct proc *hash_next;           /* by host pid */
    struct proc *borrow_next, *borrow_prev; /* of segment.borrowers */
    struct guest_key {                /* by segment and the number in its records, while it borrows */
        struct proc *p;
        struct guest_key *next;
        uint32_t number;              /* 0: not listed */
    } guest[2];                       /* its pid; or that of its fork, with REC_PID_FORK */
    uint32_t fork_id;                 /* number of the fork that it comes from; 0: not known */
    struct collector *c;
    struct tm_process tm;             /* strings are owned by this object */
    struct pipeline *pl;              /* NULL before telemetry started */
    const struct config_sources *config; /* NULL: the session's */
    bool command_refused;             /* a command file that can't be trusted was told of */
    struct segment *seg;              /* own, or the one that is borrowed */
    struct proc *parent;              /* NULL if unknown or gone */
    struct proc *children, *sibling_next, *sibling_prev; /* whose parent this is, dead ones included */
    struct proc *forker_next, *forker_prev; /* of collector.forkers */
    struct proc *dying_next, *dying_prev;   /* of collector.dying_procs */
    unsigned live_children;
    uint32_t pid;                     /* as the process sees it */
    bool over;                        /* seems to have ended, but had begun an exec */
    bool new_pids;                    /* its children may be in a pid namespace of their own */
    bool inner_pid;                   /* its parent may know it by another number than it does itself, and that one isn't
                                       * known */
    pid_t host_pid;                   /* ours; 0 if unknown */
    uint64_t start_ticks;             /* pi_stat.start_ticks, 0 if unknown */
    bool borrowed;                    /* seg is somebody else's */
    uint64_t origin;                  /* id of the segment that it borrowed last, 0: none */
    bool hashed;
    bool dead;                        /* pidfd said so */
    bool end_queued;
    bool end_reached;                 /* BL_END came up, but the wait status isn't known yet */
    int pidfd;
    bool unwatched;                   /* no pidfd to spare: /proc is looked at now and then */
    uint64_t status_look, status_wait; /* end_reached: CLOCK_MONOTONIC ns when to ask again; ns between two times */
    struct event *death;
    uint64_t death_ns;                /* CLOCK_REALTIME, when noticed */
    uint64_t death_mono;              /* CLOCK_MONOTONIC, when noticed */
    const struct segment *death_seg;  /* whose ring_head then was */
    uint64_t death_head;
    struct fd_table fds;
    struct std_file std[3];
    struct tls_objects *tls;          /* whose descriptor the probe doesn't know (tls_objects.h); NULL: none */
    bool tls_read;                    /* plaintext of TLS was seen in this image, or is known to be missing */
    bool tls_told;                    /* that TLS of this image can't be read */
    bool images_missed;               /* there was no plan for some of its code */
    uint64_t tls_unread_ns;           /* CLOCK_REALTIME: since when data pass that can't be read (stream.h); 0: none do */
    struct stream *asking;            /* those with DNS queries outstanding that it used last (stream.h) */
    char *cwd;                        /* never NULL after start; "" if it isn't known */
    uint32_t cwd_plain, cwd_tail;     /* as in struct name (names.h) */
    bool own_cwds;                    /* its threads have working directories of their own: cwd isn't known (CLONE_FS) */
    enum proc_view view;
    uint64_t ask_again;               /* CLOCK_MONOTONIC ns: not before is anything asked about it (ask.h) */
    enum proc_root root;              /* do its names mean to us what they mean to it? */
    char *pending_exec;               /* path of an exec under way, absolute */
    char *exec_path;                  /* ... as passed */
    uint64_t exec_ns;                 /* when it began */
    uint32_t exec_tid;
    uint16_t exec_op;
    uint64_t exec_args[6];
    bool sandboxed;                   /* it, or a parent, has entered seccomp */
    bool exec_told;                   /* why the image of the exec under way isn't observed */
    struct file *closed_file;         /* event source syscall: what the close under way closes */
    int64_t closed_fd;
    char **outer;                     /* names of ancestors that aren't observed, NULL-terminated, or NULL */
    struct fork_pending *forks;
    uint64_t birth_ns;                /* CLOCK_REALTIME of fork, or of the first exec that we saw */
    uint64_t image_ns;                /* ... of this image */
    bool exit_recorded;
    int exit_code;
    uint64_t exit_ns;                 /* ... of its exit record */
    bool leader_exit;
    int leader_code;
    bool waited;
    int wait_status;                  /* from the parent's wait record */
    uint64_t cpu_base_ns;                /* what others had used under this pid before: not counted */
    uint64_t cpu_seen_ns, cpu_ns, cpu_at_ns;
    uint64_t next_summary, last_summary; /* CLOCK_MONOTONIC ns */
    uint64_t next_look;                  /* ... at these, before the first summary; 0, 0, -1: not known */
    uint64_t peak_rss_kib;               /* 0: not known */
    int64_t known_rss, known_threads, known_fds;
    struct images *images;               /* that it runs */
    unsigned gauge_port, gauge_conn[3];  /* tcp, udp, other */
    bool gauge_said[4];
    bool all_recorded;                /* table overflow was reported */
    struct sums sums;
};

/* --- descriptors --- */
/* The slot of fd, or NULL if there is none (create: or fd is impossible, or there are too many). */
struct desc *fd_get(struct fd_table *t, int64_t fd, bool create);
/* What there is no room for is left out. */
void fd_table_copy(struct fd_table *to, const struct fd_table *from);
void fd_table_free(struct collector *c, struct fd_table *t);
/* It counts for nobody else any more. */
void fd_table_part(struct fd_table *t);
/* Calls fn for each open descriptor. */
void fd_table_each(struct fd_table *t, void (*fn)(void *ctx, int fd, struct desc *d), void *ctx);

/* Names longer than NAME_SHORT share LONG_NAMES_MAX bytes; what doesn't fit has no name, which is counted. */
#define NAME_SHORT 1024u
#define LONG_NAMES_MAX ((size_t)64 << 20)
struct file *file_new(struct collector *c, enum fd_kind kind, const char *path, size_t len);
static inline struct file *file_ref(struct file *f)
{
    f->refs++;
    return f;
}
void file_unref(struct collector *c, struct file *f);
void sock_unref(struct sock *s);
/* What events of the connection have as _channel. */
static inline uint64_t sock_channel(const struct file *f)
{
    return f->sock && f->sock->channel ? f->sock->channel : f->channel;
}
/* Whether what it refers to goes on when this reference is dropped. */
static inline bool file_shared(const struct file *f)
{
    return f->refs > 1 || (f->sock && f->sock->refs > 1);
}
struct sock *file_sock(struct file *f, int domain, int type, int protocol);

/* Takes an address of len bytes (hostile). */
void address_set(union address *a, const void *p, size_t len);

/* --- processes --- */
struct proc *proc_new(struct collector *c, uint32_t pid, pid_t host_pid);
void proc_free(struct proc *p);
struct proc *proc_by_host_pid(struct collector *c, pid_t host_pid);
/* Where the list of those with such a number begins; others may be in it. */
struct segment **segments_by_pid(struct collector *c, pid_t host_pid);
void proc_set_host_pid(struct proc *p, pid_t host_pid);
void proc_set_parent(struct proc *p, struct proc *parent);
void proc_borrow(struct proc *p, struct segment *seg);
void proc_unborrow(struct proc *p);
/* The number that a process sees itself under, and that its records have from now on. */
void proc_set_pid(struct proc *p, uint32_t pid);
/* Its own number is one that its parent doesn't know, or (false) is known. */
void proc_set_inner(struct proc *p, bool inner);
/* Marks it dead or not at all: on the list of those whose end is to be told. */
void proc_set_dying(struct proc *p);
/* The number of the fork that it comes from, by which its records may call it. */
void proc_set_fork(struct proc *p, uint32_t id);
/* Who writes under this number there: a guest, or the owner. Both may have the same one, in pid namespaces of their
 * own. */
struct proc *segment_find(struct segment *seg, uint32_t pid, bool guest);

/* Drops tables and names of an image; keeps identity. */
void tm_clear(struct tm_process *tm);

struct fork_pending *fork_begin(struct proc *p, uint32_t tid, uint32_t id, bool vfork, bool parent_too, uint64_t time_ns);
void fork_drop(struct proc *p, struct fork_pending *f);

#endif
