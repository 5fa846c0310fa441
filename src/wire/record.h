/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records in the ring. A record is a header, then items (type, length, bytes),
 * each padded to 8 bytes; the whole is padded to RING_CELL. An item never
 * extends past `size`; readers skip item types that they don't know.
 */
#ifndef SCOPE_WIRE_RECORD_H
#define SCOPE_WIRE_RECORD_H

#include <stdint.h>

#include "wire/plan_format.h"
#include "wire/source.h"

enum rec_kind {
    REC_PAD = 1,   /* filler up to the end of the ring; only seq, size, kind are valid */
    REC_CALL,      /* a completed call: op, ret, arg, items */
    REC_ENTER,     /* a call that is about to run: fork, exec and exit families, close of a descriptor that is
                    * known to be open (close of any other has a REC_CALL with ITEM_COUNTERS); ret is 0 */
    REC_DATA,      /* bytes that went through a descriptor. arg[0]: descriptor (-1: not known); arg[1]: offset in the call;
                    * arg[2]: value of the descriptor's counter of that direction before the call (DATA_TX, DATA_RX;
                    * REC_NO_POSITION: it has none); arg[3]: enum data_source; arg[4]: address of the TLS object (of
                    * DATA_TX, DATA_RX: in a function of whose library the call was made), 0: none;
                    * arg[5]: fd_entry.gen. ret: bytes of the call (of each message in calls that pass several).
                    * DATA_TLS_*: arg[2] is the object's tls_want.life (segment.h), 0: not known, and enum data_way <<
                    * DATA_WAY_SHIFT.
                    * DATA_HELLO_*: arg[1] counts from the first such byte of the object, ret those told by this record. Of one
                    * that was there before us: from the first byte of a record of data.
                    * DATA_FILE: arg[4] 1: content that nobody could see, as the kernel moved it, or took it later.
                    * ITEM_DATA: what of it was captured, ITEM_ADDR: whom a datagram came from or went to. Without
                    * ITEM_DATA: from arg[1] on nothing was captured, a loss if it is wanted (DATA_FILE: `ret` bytes). */
    REC_IMAGE,     /* an image was looked at: ITEM_PATH, ITEM_SITES; arg[0] its bias */
    REC_NOTE,      /* something could not be observed: arg[0] enum note_code; ITEM_PATH if it has a name */
    REC_UPGRADE,   /* a borrowing child moves to a segment of its own; nothing of it follows in this ring */
    REC_SOCKET,    /* a socket that another process has made, before its first REC_DATA: arg[0] descriptor, arg[1] to
                    * arg[3] SO_DOMAIN, SO_TYPE, SO_PROTOCOL (socket(7)), arg[5] fd_entry.gen; ITEM_LOCAL, ITEM_ADDR */
    REC_CONNECT,   /* what has become of a connection that was begun before (FDS_PENDING), before anything that tells of
                    * its use: arg[0] descriptor, arg[5] fd_entry.gen. ret 0: it is there; -errno: it isn't, and why
                    * (-EIO: nobody knows). With ITEM_ADDR another call than connect(2) has begun it just now (`op`;
                    * MSG_FASTOPEN), ret -EINPROGRESS: without an outcome so far. ITEM_LOCAL */
};

#define REC_NO_POSITION UINT64_MAX
#define REC_PID_FORK    UINT32_C(0x80000000) /* no pid has this bit */

enum rec_flag {
    REC_F_BORROWED = 1u << 0, /* made by another process than the segment's owner; pid says which */
    REC_F_VFORK    = 1u << 1, /* ... which shares the owner's memory until it execs */
    REC_F_TIMED    = 1u << 2, /* `ticks` is valid */
    REC_F_COUNTED  = 1u << 3, /* the bytes of this call are in the fd_entry counters already */
    REC_F_CUT      = 1u << 4, /* an item was shortened: REC_DATA, the rest of the call's bytes wasn't wanted */
    REC_F_UNASKED  = 1u << 6, /* REC_DATA that may turn out to be unwanted: dropping it isn't counted by the writer */
    REC_F_SAID     = 1u << 5, /* REC_CALL of a close whose REC_ENTER told everything: only for the event source syscall */
};

enum item_type {
    ITEM_PATH = 1, /* first path argument, no NUL */
    ITEM_PATH2,    /* second path argument */
    ITEM_ADDR,     /* struct sockaddr given or returned: the peer, or the address bound to */
    ITEM_LOCAL,    /* struct sockaddr of the local end */
    ITEM_DATA,     /* payload bytes */
    ITEM_COUNTERS, /* struct rec_counters of the descriptor that is being closed or replaced */
    ITEM_FDS,      /* struct rec_fd[]: descriptors received, sent or made (pipe, socketpair, SCM_RIGHTS) */
    ITEM_STAT,     /* struct rec_stat */
    ITEM_LINK,     /* target of a symbolic link, text */
    ITEM_STATUS,   /* int32_t wait status */
    ITEM_USAGE,    /* struct rec_usage, with REC_ENTER of exit_group */
    ITEM_SITES,    /* struct rec_sites */
};

struct rec_item {
    uint16_t type;
    uint16_t reserved;
    uint32_t len;  /* bytes that follow, padding excluded */
};

struct rec_counters {
    int32_t fd;
    uint32_t gen;  /* generation that ends */
    uint64_t read_bytes, read_ops, read_ticks, write_bytes, write_ops, write_ticks; /* cumulative, as fd_entry */
    uint32_t state; /* enum fd_state that ends */
    uint32_t undecided; /* as fd_entry: of interest with FDS_SENT */
};

struct rec_fd {
    int32_t fd;
    uint32_t gen;  /* fd_entry.gen that begins; of one that is sent the present one */
    uint64_t ino;  /* of a socket that is sent or received: by which it is the same in both processes. 0: not known */
};

struct rec_stat {
    uint32_t mode, uid, gid, rdev; /* rdev as makedev(3) */
    uint64_t ino, dev;
};

struct rec_usage { /* getrusage(2), RUSAGE_SELF: since the process (pid) began, execs included */
    uint64_t cpu_us;       /* user and system */
    uint64_t maxrss_kib;
};

struct rec_sites {
    char key[PLAN_KEY_MAX]; /* plan_header.key */
    struct plan_sites sites;
};

enum note_code {
    NOTE_EXEC_STATIC = 1, /* the new image is static and could not be traced (arg[1]: errno): will not be observed */
    NOTE_EXEC_32BIT,
    NOTE_EXEC_SETID,      /* setuid/setgid or file capabilities */
    NOTE_EXEC_ARCH,       /* other architecture */
    NOTE_EXEC_LIB,        /* the probe's file, or the collector, can't be reached from there, nor could it be traced (likewise) */
    NOTE_IMAGE_NOPLAN,    /* no plan for an image in time */
    NOTE_IMAGE_PATCH,     /* text could not be changed (arg[1]: errno) */
    NOTE_SECCOMP,         /* the program entered seccomp: no new segment for its children */
    NOTE_IO_URING,        /* io_uring in use whose rings can't be read: its I/O is not seen */
    NOTE_NO_SEGMENT,      /* a child could not get a segment of its own: arg[1] errno */
    NOTE_IMAGE_GO,        /* Go code, and the kernel doesn't let programs read the thread pointer (FSGSBASE) */
    NOTE_DISPATCH,        /* calls of the program come to itself (Syscall User Dispatch): what the probe can't ask is missing */
    NOTE_IMAGE_NO_SITE,   /* a static program without a call that can be observed: packed, or making its code as it runs */
    NOTE_EXEC_LISTS,      /* the loader only lists the libraries of the new image: it is not loaded with ours */
    NOTE_JSSE,            /* Java's own TLS isn't seen: what of the class library isn't as it is known (ITEM_PATH) */
};

struct record {
    uint64_t seq;   /* position + 1 once committed */
    uint32_t size;  /* bytes, header and items, without the padding to RING_CELL */
    uint8_t kind;   /* enum rec_kind */
    uint8_t flags;  /* enum rec_flag */
    uint16_t op;    /* enum op_id */
    uint32_t pid;   /* as the process itself sees it; REC_PID_FORK | number of its fork: it can't know (seccomp) */
    uint32_t tid;
    uint64_t time;  /* clock of the segment, when the call had ended (REC_ENTER: began) */
    int64_t ret;    /* kernel result: -errno on failure */
    uint64_t ticks; /* duration, if REC_F_TIMED */
    uint64_t arg[6];/* raw argument registers. In the REC_CALL of a successful call that makes one descriptor
                     * (its result), arg[5] is the fd_entry.gen that begins with it; no such call has six arguments.
                     * In the REC_ENTER and REC_CALL of a fork arg[5] is its number, 0: not known.
                     * Of openat2, arg[4] is its flags, and its resolve << 32.
                     * Of connect: 1 if it has succeeded without a connection (TCP_FASTOPEN_CONNECT). Of getsockopt that
                     * has succeeded: the value, if it is SO_ERROR. */
};

_Static_assert(sizeof(struct record) == 96, "record is shared");
_Static_assert(sizeof(struct rec_item) == 8, "rec_item is shared");
_Static_assert(sizeof(struct rec_counters) == 64, "rec_counters is shared");

#endif
