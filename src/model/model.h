/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The model: what processes there are (process.h), which descriptors each has
 * open (desc.h, fds.h) and what those refer to (file.h). Here is what all of it
 * has in common, and whom it tells.
 *
 * The model knows nothing of rings, streams or telemetry. Whoever must act when
 * a descriptor opens, closes or is counted has registered a function; what
 * others hang onto a socket or a process is a pointer that the model doesn't
 * follow, and ends by such a function, too. Single-threaded.
 */
#ifndef SCOPE_MODEL_MODEL_H
#define SCOPE_MODEL_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "event/event.h"
#include "event/unread.h"
#include "model/clock.h"
#include "model/loss.h"
#include "wire/segment.h"

struct desc;
struct file;
struct images;
struct model;
struct payloads;
struct proc;
struct sock;
struct tls_keys;
struct tls_objects;

/* Of a search for keys of TLS. */
enum tls_search {
    TLS_SEARCH_WAIT,  /* it comes, or is under way */
    TLS_SEARCH_DONE,
    TLS_SEARCH_NEVER, /* there won't be any */
};

#define PROC_BUCKETS 8192u /* a power of two */

/* Who is told. All are set; times are CLOCK_REALTIME ns. */
struct model_watch {
    /* Something is lost, which was counted: p's, or (NULL) nobody's in particular. */
    void (*lost)(struct proc *p, enum loss_kind kind, uint64_t count);

    /* Descriptors. What shall be captured of d? */
    enum fd_want (*wants)(const struct proc *p, const struct desc *d);
    /* One is about to be closed; op names the reason. is_explicit: by a call that says so. */
    void (*closing)(struct proc *p, int64_t fd, struct desc *d, const char *op, uint64_t time_ns, bool is_explicit);
    /* Something has passed through a socket whose connection was under way: it is there. */
    void (*connected)(struct proc *p, int64_t fd, struct desc *d, uint64_t time_ns);
    /* So many ports or connections has it now (TM_NET_PORT, TM_NET_TCP, TM_NET_UDP, TM_NET_OTHER), by d. */
    void (*gauge)(struct proc *p, enum tm_metric m, uint64_t value, int64_t fd, const struct desc *d, uint64_t time_ns);

    /* What the observed process itself knows of its descriptors, and is told. */
    /* Its number of openings of fd (fd_entry.gen); false: it doesn't say. */
    bool (*generation)(const struct proc *p, int64_t fd, uint32_t *ret);
    /* d->want is another one. */
    void (*tell_want)(struct proc *p, int64_t fd, const struct desc *d);
    /* Of what fd receives (tx: sends) nothing is needed up to this value of its counter. False: it can't be told. */
    bool (*tell_skip)(struct proc *p, int64_t fd, uint32_t gen, bool tx, uint64_t to);
    /* Nothing more of a TLS object's plaintext is wanted, as long as it is that connection's. */
    void (*tell_tls_done)(struct proc *p, uint64_t object, uint32_t life);
    /* Whether some of its records could not be written, or data in them. */
    bool (*lost_records)(const struct proc *p);

    /* The keys that it has set up so far (traffic/tls_keys.h), the newest included; NULL: none are known. */
    struct tls_keys *(*tls_keys)(struct proc *p);
    /* Has the process's memory searched for keys that are in use, which then are among these. *ticket 0: asks for a search
     * that has not begun yet, and sets it; then it is asked with that how far this is. NULL: whether there may be any. */
    enum tls_search (*tls_search)(struct proc *p, uint64_t *ticket);

    /* What others hang onto it. A socket's last reference goes: */
    void (*sock_last)(struct model *m, struct sock *s);
    /* ... and it is freed: sock.stream, sock.plain. */
    void (*sock_end)(struct sock *s);
    /* A process is about to be freed, with all that is marked as others' in struct proc. */
    void (*proc_end)(struct proc *p);
    /* What a fork inherits of proc.tls (NULL: nothing), and its end when the child was never seen. */
    struct tls_objects *(*tls_inherit)(const struct proc *p);
    void (*tls_free)(struct tls_objects *t);
};

struct model {
    const struct model_watch *watch;
    struct clock_map clock;
    uint64_t now_mono;                /* CLOCK_MONOTONIC ns at the start of this turn */
    struct proc *procs;
    unsigned proc_count;
    uint32_t seed;                    /* of tables: numbers are what processes claim */
    struct proc *by_pid[PROC_BUCKETS]; /* by host_pid */
    struct proc *forkers;             /* those with forks under way */
    struct file *free_files;
    unsigned free_file_count;
    size_t long_names;                /* bytes: NAME_SHORT */
    uint64_t last_channel;
    uint64_t lost[LK_MAX];
    uint64_t unread_count[UNREAD_MAX]; /* connections of TLS that have ended and could not be read */
    struct images *hidden;            /* of which was told that some of their calls aren't seen */
    struct images *unread;            /* programs of which was told that their TLS can't be read */
    struct payloads *payloads;        /* others': where captured traffic goes */
    int diag_fd;                      /* NETLINK_SOCK_DIAG, -1 not opened yet, -2 can't be */
    char *scratch[2];                 /* 2 * NAME_BYTES each: names being put together (names.h) */
};

/* Counts a loss, and has it told. p may be NULL. */
static inline void model_loss(struct model *m, struct proc *p, enum loss_kind kind, uint64_t count)
{
    m->lost[kind] += count;
    m->watch->lost(p, kind, count);
}

/* Whoever doesn't know the seed can't choose numbers that fall together. (The finaliser of MurmurHash3, a bijection.) */
static inline uint32_t model_hash(const struct model *m, uint32_t n)
{
    n ^= m->seed;
    n = (n ^ n >> 16) * 0x85ebca6bu;
    n = (n ^ n >> 13) * 0xc2b2ae35u;
    return n ^ n >> 16;
}

/* Lists: whatever is done for each process must not take longer the more of them there are. */
#define LIST_ADD(head, p, next, prev)   \
    do {                                \
        (p)->prev = NULL;               \
        (p)->next = (head);             \
        if ((p)->next)                  \
            (p)->next->prev = (p);      \
        (head) = (p);                   \
    } while (0)

#define LIST_DEL(head, p, next, prev)        \
    do {                                     \
        if ((p)->prev)                       \
            (p)->prev->next = (p)->next;     \
        else                                 \
            (head) = (p)->next;              \
        if ((p)->next)                       \
            (p)->next->prev = (p)->prev;     \
        (p)->next = (p)->prev = NULL;        \
    } while (0)

#endif
