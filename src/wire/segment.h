/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shared segment: one memfd per observed process, written by the probe in
 * that process and read by the collector.
 *
 *   0          segment_header   cache lines with one writer each; tls_want[]: which plaintext of TLS need not be captured
 *   fd_off     fd_entry[fd_cap] counters per descriptor (sparse: untouched pages cost nothing)
 *   skip_off   fd_skip[fd_cap] what need not be captured of it (sparse, written by the collector)
 *   ring_off   ring of ring_cells cells of RING_CELL bytes
 *   seg_size
 *
 * Trust. The observed program can write here. The collector keeps its own
 * copies of everything that it needs to stay safe (sizes, its read position)
 * and checks every value at each use; what it writes into the segment is
 * advice to the probe. The memfd is sealed (F_SEAL_SHRINK|GROW|SEAL) before it
 * is handed over, so mapping it can't fault.
 *
 * Ring. Positions count cells from 0 and never wrap (64 bits); the cell of
 * position p is p % ring_cells. A writer
 *     1. reads ring_head (h) and ring_tail; if the record does not fit before
 *        tail + ring_cells it counts a loss (or waits, in lossless mode),
 *     2. compare-and-swaps ring_head from h to h + n,
 *     3. writes the record except its first word,
 *     4. stores h + 1 in the record's first word (release): committed.
 * A record does not straddle the end: a writer that would cross it reserves
 * the rest too and commits it as REC_PAD. Each cell-aligned word that isn't a
 * committed position is either payload, stale, or a reservation. A writer that
 * was interrupted for ever (a signal handler longjmp'ed out, a vfork child was
 * killed) leaves a reservation that is never committed: the reader that has
 * seen ring_head ahead of an uncommitted cell for RING_STALL_MS scans forward
 * for the next cell whose first word is its own position + 1, and counts one
 * torn record.
 */
#ifndef SCOPE_WIRE_SEGMENT_H
#define SCOPE_WIRE_SEGMENT_H

#include <stdint.h>

#include "wire/crash.h"
#include "wire/order.h"
#include "wire/syscalls.h"

#define SEG_MAGIC    UINT64_C(0x3147455365706353) /* "ScpeSEG1" */
#define SEG_VERSION  9u
#define SEG_NAME     "scope" /* memfd name; seen in /proc/PID/maps as /memfd:scope */

#define RING_CELL      32u
#define RING_CELLS     65536u /* 2 MiB */
#define RING_STALL_MS  200u
#define FD_CAP_MAX     65536u /* descriptors above it are recorded call by call */
#define SEG_ARGV_MAX   8192u  /* bytes of command line kept */
#define SEG_PATH_MAX   4096u

/* segment_header.mode, written by the collector (and initialised from the join reply or config). */
enum seg_mode {
    SEG_M_ON        = 1u << 0, /* off: hooks return at once */
    SEG_M_LOSSLESS  = 1u << 1, /* writers wait for room, at most SEG_WAIT_MS in a row */
    SEG_M_TIMING    = 1u << 2, /* time read/write calls */
    SEG_M_REC_RW    = 1u << 3, /* a record for each read/write-like call (verbosity 9) */
    SEG_M_REC_SEEK  = 1u << 4, /* ... seek (8) */
    SEG_M_REC_STAT  = 1u << 5, /* ... successful stat-like call (7) */
    SEG_M_REC_ALL   = 1u << 6, /* ... every observed call (event source syscall) */
    SEG_M_CAPTURE   = 1u << 7, /* written data may be captured (console/file events) */
    SEG_M_ENHANCEFS = 1u << 8, /* add owner and mode to records of files opened for writing (one fstat) */
    SEG_M_REC_ERROR = 1u << 12, /* ... failed call that changes nothing (op_failure_counted()) */
    SEG_M_TSC       = 1u << 9, /* at start only: the CPU's counter is good for time stamps (see launch_mode()) */
    SEG_M_POINTER   = 1u << 13, /* at start only: the thread pointer can be read with an instruction, whatever AT_HWCAP2 says */
    SEG_M_TRAFFIC   = 1u << 10, /* what goes through sockets may be captured */
    SEG_M_PAYLOADS  = 1u << 11, /* ... and all of it is wanted */
    SEG_M_SENT      = 1u << 15, /* note which files the kernel sends through sockets (FDS_SENT) */
    SEG_M_CRASH     = 1u << 14, /* at start only: threads say that they are about to die of a signal (wire/crash.h) */
};
#define SEG_WAIT_MS 1000u /* lossless: after waiting this long in a row the writer gives up and drops */

enum seg_sleep {
    SEG_AWAKE,
    SEG_ASLEEP,   /* nobody looks at the ring soon: whoever writes shall wake the reader */
    SEG_NAPPING,  /* it is looked at now and then: the reader is to be woken if more than SEG_NAP_CELLS wait for it */
};
#define SEG_NAP_CELLS (RING_CELLS / 8)

enum seg_clock { SEG_CLOCK_TSC = 1, SEG_CLOCK_MONO = 2, SEG_CLOCK_NONE = 3 };

enum seg_start { /* why this segment exists */
    SEG_START_EXEC = 1,  /* a new image began */
    SEG_START_FORK = 2,  /* a forked child outgrew its parent's ring */
    SEG_START_ATTACH = 3,/* the probe was brought into a running process */
};

/* Kinds of descriptor, as the probe can tell from the call that made it. Those that may be sockets come first. */
enum fd_kind {
    FDK_UNKNOWN, FDK_SOCKET, FDK_FILE, FDK_DIR, FDK_PIPE, FDK_EPOLL, FDK_EVENTFD, FDK_TIMERFD,
    FDK_SIGNALFD, FDK_INOTIFY, FDK_MEMFD, FDK_IO_URING, FDK_PIDFD, FDK_OTHER,
};

/* fd_entry.state bits, written by the probe */
enum fd_state {
    FDS_OPEN     = 1u << 0, /* known to be open */
    FDS_CLOEXEC  = 1u << 1,
    FDS_WRITABLE = 1u << 2, /* opened for writing, or not known to be read-only */
    FDS_ADDR     = 1u << 3, /* socket: addresses were already recorded */
    FDS_SENT     = FDS_ADDR, /* file: sent through a socket by the kernel; `undecided` is that descriptor + 1, if it is known
                              * and the file isn't writable */
    FDS_STD      = 1u << 4, /* a copy of descriptor 1 or 2 */
    FDS_READS    = 1u << 5, /* the kernel certainly reads what is written to it */
    FDS_EOF      = 1u << 6, /* a read has returned 0: a stream's peer has ended it */
    FDS_PENDING  = 1u << 7, /* a connection was begun, and nobody knows yet what has become of it */
};

/* fd_entry.want, written by the collector: generation << 2 | decision */
enum fd_want {
    FDW_UNDECIDED,       /* nobody looked yet: capture so many bytes at most, and while the ring has room */
    FDW_NONE,            /* do not capture what is written, or what goes through a socket */
    FDW_CAPTURE,         /* capture everything */
    FDW_SAMPLE,          /* capture the first FD_SAMPLE bytes of each call: enough to see whether it is still binary data */
};
#define FD_SAMPLE 512u
#define FD_UNDECIDED_MAX 65536u   /* written to a file */
#define FD_UNDECIDED_SOCKET 262144u /* both ways of a socket: a busy one is done with small messages in no time */
#define FD_UNDECIDED_UNIT 16u

/*
 * Bytes of a socket that the collector doesn't need although it wants the rest: bodies whose length it knows. For each
 * direction up to which value of the counter (fd_entry.read_bytes, write_bytes), with the generation that it is meant
 * for. One word, so that neither side ever sees half of it. Advice: capturing more is right.
 */
struct fd_skip {
    uint64_t rx, tx;          /* skip_word() */
};
#define SKIP_BITS 40          /* of the position; what is left are bits of the generation */
#define SKIP_MAX (UINT64_C(1) << (SKIP_BITS - 1)) /* bytes ahead at most */

static inline uint64_t skip_word(uint32_t gen, uint64_t to)
{
    return (uint64_t)gen << SKIP_BITS | (to & ((UINT64_C(1) << SKIP_BITS) - 1));
}

/* How many bytes from `position` on need not be captured. */
static inline uint64_t skip_left(uint64_t word, uint32_t gen, uint64_t position)
{
    uint64_t ahead = (word - position) & ((UINT64_C(1) << SKIP_BITS) - 1);

    return word && word >> SKIP_BITS == (gen & ((UINT32_C(1) << (64 - SKIP_BITS)) - 1)) && ahead <= SKIP_MAX ? ahead : 0;
}

/* Counters never go back while the process lives: closing a descriptor does
 * not clear them; records carry their values, and readers take differences.
 * Times are in ticks of the segment's clock. */
struct fd_entry {
    uint64_t read_bytes, read_ops, read_ticks;
    uint64_t write_bytes, write_ops, write_ticks;
    uint32_t gen;             /* raised by each open and each close of this number */
    uint8_t kind;             /* enum fd_kind */
    uint8_t state;            /* enum fd_state */
    uint16_t undecided;       /* captured while undecided, in units of FD_UNDECIDED_UNIT bytes, this generation */
    uint32_t want;            /* enum fd_want, written by the collector */
    uint32_t unsaid;          /* bytes (saturating) not captured while undecided, this generation */
};

/*
 * Of which TLS objects nothing (more) is wanted, at tls_want_at(). Where two objects want the same place the later one has
 * it. Whatever one side sees of what the other is writing: done is `life` only for the very connection that the reader
 * meant. So one thread at a time makes a place another's: it stores TLS_CHANGING as the object meanwhile, and each life
 * is one object's. Who finds that has no life to tell. Advice: capturing more is right.
 */
struct tls_want {
    uint64_t object;          /* whose it is, or TLS_CHANGING; written by the probe, as life is */
    uint32_t life;            /* raised when it becomes another object's, or the object another connection's; at first 0 */
    uint32_t done;            /* written by the collector: life of a connection of which nothing is wanted */
};
#define TLS_WANTS 1024u
#define TLS_CHANGING 1u /* no object: they are aligned */
static inline unsigned tls_want_at(uint64_t object)
{
    return (unsigned)((object * UINT64_C(0x9e3779b97f4a7c15)) >> 54);
}

/*
 * Keys of AES that the process has set up, with SEG_M_TRAFFIC, where its TLS library has no names (wire/functions.h,
 * FNS_KEY). That of number n is at n % SEG_KEYS. A writer takes a number, stores 0 in `commit`, then the rest, then
 * number + 1. The reader takes a key out: it stores 0 in `commit` and wipes the rest. A key that nobody has taken out is
 * overwritten in the end; the reader sees that by the numbers. Secret: the pages are not part of a core
 * (MADV_DONTDUMP), and nothing of this goes anywhere but into the collector's memory (docs/security.md).
 */
struct seg_key {
    uint64_t commit;
    uint64_t time;            /* of the segment's clock */
    uint64_t caller;          /* where the call returns to */
    uint64_t len;             /* bytes of the key: 16 or 32 */
    uint8_t key[32];
};
#define SEG_KEYS 2048u

struct op_counter {
    uint64_t calls;           /* successful calls that have no record of their own */
    uint64_t failed;          /* calls that failed (not for EAGAIN and the like) and have no record of their own:
                               * programs look for files in many places, daemons close every possible number */
};

enum seg_loss {
    LOSS_RECORD,              /* records that did not fit into the ring */
    LOSS_DATA,                /* captured bytes that did not fit */
    LOSS_NR,                  /* calls whose number was lost between enter and exit */
    LOSS_SLOT,                /* calls by threads that found no slot */
    LOSS_COPY,                /* arguments that could not be read */
    LOSS_MAX = 8,
};

struct segment_header {
    /* --- written once by the probe, before the memfd is handed over --- */
    uint64_t magic;
    uint32_t version;
    uint32_t start;           /* enum seg_start */
    uint64_t seg_size;
    uint64_t table_hash;      /* syscall_table_hash(): both sides must have the same table */
    uint32_t fd_off, fd_cap;
    uint32_t skip_off, reserved;
    uint32_t ring_off, ring_cells;
    uint32_t clock;           /* enum seg_clock */
    uint32_t pid, ppid, uid, gid, euid, egid; /* as the process sees them */
    uint32_t argv_len;        /* bytes used in argv[], NUL-separated like /proc/PID/cmdline */
    uint32_t argv_cut;        /* 1 if the command line was longer */
    uint64_t start_time;      /* clock value when the probe started */
    uint64_t start_cpu_us;    /* CPU time that this process (pid) had used by then: before an exec, before a fork's upgrade */
    uint8_t uuid[16];         /* random, version 4 */

    /* --- written by the collector --- */
    uint32_t mode __attribute__((aligned(64))); /* enum seg_mode */
    uint32_t asleep;          /* enum seg_sleep; a writer that makes it 0 wakes who waits (futex(2)) */
    uint64_t heartbeat;       /* CLOCK_MONOTONIC ms of the last drain */
    uint64_t ring_tail __attribute__((aligned(64)));

    /* --- written by the probe --- */
    uint64_t ring_head __attribute__((aligned(128)));
    uint64_t loss[LOSS_MAX] __attribute__((aligned(64)));
    uint64_t fd_high __attribute__((aligned(64))); /* highest descriptor used so far, plus one */
    uint32_t images, sites_patched, sites_left, uring_seen;
    uint64_t mail;            /* JOIN_MAIL (wire/join.h), 0 when the collector has come for it */
    uint32_t forks;           /* how many have begun, of the owner and those who borrow: each has a number */
    uint32_t wakes;           /* 1: writers look at `asleep`; 0: they may make no system calls (seccomp) */
    uint32_t crashes_refused; /* threads that found no place in `crash` */
    uint64_t key_head;        /* number of the next key of `key`; here, as that would be a page that nobody has */
    struct op_counter op[OP_MAX] __attribute__((aligned(64)));

    /* --- written once by the probe, long and mostly empty: untouched pages cost nothing --- */
    char comm[16];            /* as the kernel named the program when it began, or when it was attached to */
    char exe[SEG_PATH_MAX];   /* /proc/self/exe */
    char cwd[SEG_PATH_MAX];
    char argv[SEG_ARGV_MAX];

    /* --- written by both; at the end, so that the start of a process fills no pages with it --- */
    struct tls_want tls[TLS_WANTS] __attribute__((aligned(64)));
    struct seg_crash crash[SEG_CRASHES] __attribute__((aligned(64)));
    struct seg_key key[SEG_KEYS] __attribute__((aligned(4096))); /* whole pages of their own */
};

_Static_assert(sizeof(struct fd_entry) == 64, "one cache line per descriptor");
_Static_assert(sizeof(struct seg_key) == 64, "keys fill whole pages");
_Static_assert(sizeof(struct fd_skip) == 16, "fd_skip is shared");

#define SEG_PAGE 4096u
#define SEG_ROUND(n) (((uint64_t)(n) + SEG_PAGE - 1) & ~(uint64_t)(SEG_PAGE - 1))

/* Where the parts of a segment with so many descriptor entries begin. */
#define SEG_FDS SEG_ROUND(sizeof(struct segment_header))

static inline uint64_t segment_skips(uint32_t fd_cap)
{
    return SEG_FDS + SEG_ROUND((uint64_t)fd_cap * sizeof(struct fd_entry));
}

static inline uint64_t segment_ring(uint32_t fd_cap)
{
    return segment_skips(fd_cap) + SEG_ROUND((uint64_t)fd_cap * sizeof(struct fd_skip));
}

/* Its size. */
static inline uint64_t segment_size(uint32_t fd_cap)
{
    return segment_ring(fd_cap) + (uint64_t)RING_CELLS * RING_CELL;
}

/* What a header says of the segment's layout. */
static inline void segment_layout(struct segment_header *h, uint32_t fd_cap, uint64_t table_hash)
{
    h->magic = SEG_MAGIC;
    h->version = SEG_VERSION;
    h->table_hash = table_hash;
    h->fd_cap = fd_cap;
    h->fd_off = (uint32_t)SEG_FDS;
    h->skip_off = (uint32_t)segment_skips(fd_cap);
    h->ring_off = (uint32_t)segment_ring(fd_cap);
    h->ring_cells = RING_CELLS;
    h->seg_size = segment_size(fd_cap);
}

#endif
