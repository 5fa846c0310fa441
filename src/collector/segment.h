/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mapping and reading the segment of a process (wire/segment.h). Everything in
 * the mapping can change at any time and may be a lie: this module copies what
 * it needs once, checks the copy, and never follows a value that it reads
 * twice. Single-threaded.
 */
#ifndef SCOPE_COLLECTOR_SEGMENT_H
#define SCOPE_COLLECTOR_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "wire/record.h"
#include "wire/segment.h"

/* Larger segments than a probe makes (segment_size(FD_CAP_MAX), RING_CELLS) are refused: what is in one is looked at
 * again and again. */
#define RING_CELLS_MIN   64u

/* What the header said when the segment arrived; own copies, strings terminated. */
struct segment_info {
    uint32_t start, clock;           /* enum seg_start, enum seg_clock */
    uint32_t pid, ppid, uid, gid, euid, egid;
    uint64_t start_time;             /* segment's clock */
    uint64_t start_cpu_us;           /* CPU time that the pid had used by then */
    uint8_t uuid[16];
    char *exe, *cwd;                 /* never NULL */
    char *argv;                      /* NUL-separated, terminated */
    size_t argv_len;
    bool argv_cut;
    char comm[16];
};

struct ring {
    uint64_t pos;                    /* next cell to read */
    uint64_t torn;                   /* reservations that were never committed */
    uint64_t stalled_ns;             /* CLOCK_MONOTONIC since when the cell at pos is reserved but not committed; 0: not */
    uint64_t search_ns;              /* CLOCK_MONOTONIC: not before is a record behind it looked for again; 0: at once */
    uint64_t search_wait_ns;         /* how long that was put off last */
};

/* How long a reservation may stay uncommitted before it is given up: RING_STALL_MS when the ring is filling up behind
 * it, else longer, since on a busy machine its writer may just be waiting for a processor. */
#define RING_PATIENT_MS 2000u
#define RING_SINGLE_MS 50u   /* the only writer sleeps in a system call: a signal handler did not return to its record */
#define RING_LOSSLESS_MS 900u /* writers that wait for room give up after SEG_WAIT_MS */
/* Nothing behind it is committed: each search reads all of the ring, so the next one is put off, twice as long each
 * time. What is found is read anyway: on the whole no cell is looked at more often than it is written. */
#define RING_SEARCH_MS 10u
#define RING_SEARCH_MAX_MS 1000u

/*
 * Most processes are short: they are over before anything had to be told to them, and have left some records. To map a
 * segment, touch pages of it and unmap it again costs the kernel much more than to copy what is needed out of the file
 * and a word or two into it. So the segment of a new image is mapped when it has lived for a while (map_at), or when
 * something is wanted of it that needs a mapping; until then all functions here do without.
 */
struct segment_map {
    uint8_t *base;                   /* shared mapping; NULL: not mapped (yet) */
    int fd;                          /* of the memfd, ours, as long as it is not mapped; -1: none */
    uint64_t map_at;                 /* CLOCK_MONOTONIC ns: whoever lives then is worth a mapping */
    uint32_t mode;                   /* as it was told last, while not mapped */
    size_t size;
    uint64_t ino;                    /* of the memfd */
    uint32_t fd_off, fd_cap, skip_off, ring_off, ring_cells;
    struct segment_info info;
    bool lossless;                   /* nothing may be given up lightly */
    bool fresh;                      /* was mapped; whoever wants to know that takes it back */
    bool single;                     /* one thread writes: what it wrote later proves that it left a reservation */
    struct ring ring;
};

/* syscall_table_hash(), worked out once. */
uint64_t segment_table_hash(void);

/* Checks a segment, and maps it. fd stays the caller's. Returns 0, or -errno with *ret_why set to static text. */
int segment_map(struct segment_map *m, int fd, const char **ret_why);
/* The same for one that is mapped when it is needed, or at that time (CLOCK_MONOTONIC ns; 0: now); at once if descriptors
 * are scarce. */
int segment_open(struct segment_map *m, int fd, uint64_t map_at, const char **ret_why);
void segment_unmap(struct segment_map *m);
/* Maps it if it isn't yet. False: it can't be; nothing can be read from it any more. */
bool segment_need(struct segment_map *m);

/* Its header; maps it if need be. Where that fails: some memory that is nobody's. */
struct segment_header *segment_hdr(const struct segment_map *m);
/* The header up to the counters of operations, to be read only: in the mapping, or a copy that is good until this is
 * called the next time, for whatever segment. */
const struct segment_header *segment_numbers(const struct segment_map *m);
/* Whether a thread may have something to say in segment_header.crash: true if it is mapped, where that can be seen. */
bool segment_crashes(const struct segment_map *m);
/* How many found no place there so far. */
uint32_t segment_crashes_refused(const struct segment_map *m);
/* Tells the probe its mode. */
void segment_set_mode(struct segment_map *m, uint32_t mode);

/* Consistent copy of a descriptor's entry as far as that is possible; false if fd has none. */
bool segment_fd(const struct segment_map *m, uint64_t fd, struct fd_entry *ret);
/* Number of descriptor entries that may be in use. */
uint32_t segment_fd_high(const struct segment_map *m);
/* Tells the probe whether to capture what is written to fd, if it is still of that generation. */
void segment_want(const struct segment_map *m, uint64_t fd, uint32_t gen, enum fd_want want);
/* Tells the probe that it need not capture what fd receives (tx: sends) up to this value of its counter. */
void segment_skip(const struct segment_map *m, uint64_t fd, uint32_t gen, bool tx, uint64_t to);
/* Tells the probe that nothing more of a TLS object's plaintext is wanted, as long as it is that connection's. */
void segment_tls_done(const struct segment_map *m, uint64_t object, uint32_t life);
uint64_t segment_head(const struct segment_map *m);
/* Whether something came, of a mapped segment, before its writers could see that the collector has fallen asleep: to be
 * asked behind the store of SEG_ASLEEP. Else whoever writes wakes it. */
bool segment_has_news(const struct segment_map *m);

enum ring_state {
    RING_RECORD,   /* *ret is a record */
    RING_EMPTY,    /* nothing more now */
    RING_BROKEN,   /* the ring makes no sense: give the segment up */
};

/*
 * The next record. On RING_RECORD the record lies at *ret_shared (still in
 * shared memory), has *ret_size bytes, and is a multiple of 8 inside the
 * mapping; copy it before looking at it, then call ring_advance(). Padding and
 * torn reservations are passed over. now: CLOCK_MONOTONIC ns. last: no writer
 * is left, don't wait for reservations.
 */
enum ring_state ring_next(struct segment_map *m, uint64_t now, bool last, const void **ret_shared, uint32_t *ret_size);
/* Passes over the record that ring_next() returned; its room becomes free at the next ring_release(). */
static inline void ring_advance(struct segment_map *m, uint32_t size)
{
    m->ring.pos += ((uint64_t)size + RING_CELL - 1) / RING_CELL;
}
/* Gives what was read back to the writers and says that the collector is alive. */
void ring_release(struct segment_map *m, uint64_t now);

/*
 * Steps through the items of a record of `size` bytes in private memory.
 * *at starts as 0. Returns false at the end or when what follows is malformed.
 */
static inline bool record_item(const struct record *r, uint32_t size, uint32_t *at, struct rec_item *ret,
                               const void **ret_data)
{
    uint32_t off = *at ? *at : (uint32_t)sizeof(*r);

    if (off > size || size - off < sizeof(*ret))
        return false;
    memcpy(ret, (const uint8_t *)r + off, sizeof(*ret));
    off += (uint32_t)sizeof(*ret);
    if (ret->len > size - off)
        return false;
    *ret_data = (const uint8_t *)r + off;
    off += ret->len;
    *at = (off + 7) & ~7u;
    return true;
}

/* How far the keys of a segment were taken out: all zero at first. */
#define KEY_HOLES 16u
struct key_reader {
    uint64_t next;             /* number */
    uint64_t holes[KEY_HOLES]; /* numbers before that whose keys were not there yet: their writers may have died */
    unsigned hole_count;
};
/* Takes the keys out (wire/segment.h, struct seg_key) that r hasn't had: calls fn for each, oldest first, but for those
 * that come late. Returns how many were overwritten before, or are no longer waited for. Maps the segment, if any were put
 * there. */
uint64_t segment_keys(struct segment_map *m, struct key_reader *r, void (*fn)(void *ctx, const struct seg_key *key), void *ctx);

#endif
