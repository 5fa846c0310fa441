/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What processes there are: who each is, its descendants and forks, what it
 * was doing. Objects are owned as stated. What belongs to others is marked:
 * the model keeps it, but doesn't look at it.
 */
#ifndef SCOPE_MODEL_PROCESS_H
#define SCOPE_MODEL_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "event/event.h"
#include "model/desc.h"
#include "model/sums.h"

struct config_sources;
struct event;
struct images;
struct model;
struct pipeline;
struct proc_spans;
struct segment;
struct stream_wait;
struct tls_objects;

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

enum proc_root { ROOT_UNKNOWN, ROOT_OURS, ROOT_OTHER };
enum proc_view { VIEW_UNKNOWN, VIEW_OURS, VIEW_OTHER }; /* which files names lead to: ours, or those of another root */

struct proc {
    struct proc *next, *prev;         /* all */
    /* What is looked at of each once a second, however many there are: side by side, in one line of the CPU's cache. */
    struct pipeline *pl;              /* others': what is told of it and where to; NULL before that has begun */
    uint64_t next_summary, last_summary; /* CLOCK_MONOTONIC ns */
    uint64_t next_look;               /* ... at known_rss..., before the first summary */
    char *pending_exec;               /* path of an exec under way, absolute */
    struct stream_wait *asking;       /* others': streams that wait for something, and that it used last */
    struct stream_wait *asking_next;  /* that is looked at next, while they are */
    pid_t host_pid;                   /* ours; 0 if unknown */
    bool dead;                        /* pidfd said so */
    bool borrowed;                    /* seg is somebody else's */
    struct proc *hash_next;           /* by host pid */
    struct proc *borrow_next, *borrow_prev; /* of segment.borrowers */
    struct guest_key {                /* by segment and the number in its records, while it borrows */
        struct proc *p;
        struct guest_key *next;
        uint32_t number;              /* 0: not listed */
    } guest[2];                       /* its pid; or that of its fork, with REC_PID_FORK */
    uint32_t fork_id;                 /* number of the fork that it comes from; 0: not known */
    struct model *m;
    struct tm_process tm;             /* strings are owned by this object */
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
    uint64_t start_ticks;             /* pi_stat.start_ticks, 0 if unknown */
    uint64_t origin;                  /* id of the segment that it borrowed last, 0: none */
    bool hashed;
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
    uint8_t tls_ways;                 /* bit of each enum tls_way (stream.h) by which some was seen */
    bool tls_told;                    /* that TLS of this image can't be read */
    bool exe_gone;                    /* others': that its file was removed has been told */
    bool jsse_refused;                /* Java's own TLS isn't as it is known */
    bool images_missed;               /* there was no plan for some of its code */
    uint64_t tls_unread_ns;           /* CLOCK_REALTIME: since when data pass that can't be read (stream.h); 0: none do */
    char *cwd;                        /* never NULL after start; "" if it isn't known */
    uint32_t cwd_plain, cwd_tail;     /* as in struct name (names.h) */
    bool own_cwds;                    /* its threads have working directories of their own: cwd isn't known (CLONE_FS) */
    enum proc_view view;
    uint64_t ask_again;               /* CLOCK_MONOTONIC ns: not before is anything asked about it (ask.h) */
    enum proc_root root;              /* do its names mean to us what they mean to it? */
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
    struct proc_spans *spans;         /* others': report/spans.h; NULL: none */
    bool go;                          /* it runs Go code, whose goroutines go from thread to thread */
    bool crash_told;                  /* others': what it dies of is told */
    int crash_signo;                  /* others': the signal it has said it dies of; 0: none */
    const char *crash_missed;         /* others': why that it crashes can't be told; NULL: it could. Static. */
    bool waited;
    int wait_status;                  /* from the parent's wait record */
    uint64_t cpu_base_ns;                /* what others had used under this pid before: not counted */
    uint64_t cpu_seen_ns, cpu_ns, cpu_at_ns;
    uint64_t cpu_settled_ns;             /* before its counters were last read; 0: they weren't */
    uint64_t look_wait;                  /* ns between two looks at known_rss... */
    uint64_t peak_rss_kib;               /* 0: not known */
    int64_t known_rss, known_threads, known_fds; /* 0, 0, -1: not known */
    struct images *images;               /* that it runs */
    unsigned gauge_port, gauge_conn[3];  /* tcp, udp, other */
    bool gauge_said[4];
    bool all_recorded;                /* table overflow was reported */
    struct sums sums;
};

struct proc *proc_new(struct model *m, uint32_t pid, pid_t host_pid);
void proc_free(struct proc *p);
struct proc *proc_by_host_pid(struct model *m, pid_t host_pid);
void proc_set_host_pid(struct proc *p, pid_t host_pid);
void proc_set_parent(struct proc *p, struct proc *parent);
/* Drops tables and names of an image; keeps identity. */
void tm_clear(struct tm_process *tm);

struct fork_pending *fork_begin(struct proc *p, uint32_t tid, uint32_t id, bool vfork, bool parent_too, uint64_t time_ns);
void fork_drop(struct proc *p, struct fork_pending *f);

#endif
