/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/key_scan.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"
#include "inject/process.h"
#include "model/clock.h"
#include "traffic/aes_schedule.h"

#define PIECE 262144u            /* bytes that are read at once */
#define ENTRIES 4096u            /* of pagemap */
#define USED (UINT64_C(3) << 62) /* in RAM, in swap (Documentation/admin-guide/mm/pagemap.rst) */

struct key_scan {
    int mem, pagemap;
    struct process_maps maps;
    size_t map;             /* being read */
    uint64_t at;            /* address in it that comes next */
    uint64_t page;          /* bytes of one */
    uint64_t left, used_ns; /* of the bounds */
    unsigned found;
    bool cut;
    uint64_t entries[ENTRIES]; /* of the pages from `known` on */
    uint64_t known;
    size_t count;
    uint8_t *piece;
    void (*fn)(void *ctx, const uint8_t *key, size_t len);
    void *ctx;
};

static int open_file(pid_t pid, const char *name)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    return open(path, O_RDONLY | O_CLOEXEC);
}

static bool has_ended(int pidfd)
{
    struct pollfd p = {.fd = pidfd, .events = POLLIN};

    return poll(&p, 1, 0) != 0;
}

/* The files stay those of the memory that they were opened for, whatever becomes of the number. */
static int open_all(struct key_scan *s, pid_t pid, int pidfd)
{
    int err;

    s->mem = open_file(pid, "mem");
    if (s->mem < 0)
        return -errno;
    s->pagemap = open_file(pid, "pagemap");
    if (s->pagemap < 0)
        return -errno;
    err = process_maps(pid, &s->maps);
    if (err)
        return err;
    s->piece = mmap(NULL, PIECE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (s->piece == MAP_FAILED) {
        s->piece = NULL;
        return -ENOMEM;
    }
    madvise(s->piece, PIECE, MADV_DONTDUMP); /* there are keys in it, and what not */
    madvise(s->piece, PIECE, MADV_WIPEONFORK);
    mlock2(s->piece, PIECE, MLOCK_ONFAULT);
    return has_ended(pidfd) ? -ESRCH : 0;
}

struct key_scan *key_scan_new(pid_t pid, int pidfd, uint64_t from, int *ret_err)
{
    struct key_scan *s = xcalloc(1, sizeof(*s));
    uint64_t before = clock_used();

    s->mem = s->pagemap = -1;
    s->page = (uint64_t)sysconf(_SC_PAGESIZE);
    s->left = KEY_SCAN_BYTES;
    *ret_err = open_all(s, pid, pidfd);
    if (*ret_err) {
        key_scan_free(s);
        return NULL;
    }
    while (s->map < s->maps.count && s->maps.v[s->map].hi <= from)
        s->map++;
    s->at = from;
    s->used_ns = clock_used() - before;
    return s;
}

void key_scan_free(struct key_scan *s)
{
    if (!s)
        return;
    if (s->mem >= 0)
        close(s->mem);
    if (s->pagemap >= 0)
        close(s->pagemap);
    process_maps_free(&s->maps);
    if (s->piece) {
        explicit_bzero(s->piece, PIECE);
        munmap(s->piece, PIECE);
    }
    free(s);
}

static bool may_hold_keys(const struct process_map *m)
{
    return m->read && m->write && !m->shared && m->name[0] != '/'; /* files' data is static: no connection's */
}

/* Whether there is anything in the page at this address: reading others would make the process get them. */
static bool is_used(struct key_scan *s, uint64_t at, uint64_t end)
{
    uint64_t n = (at - s->known) / s->page;

    if (at < s->known || n >= s->count) {
        uint64_t want = (end - at) / s->page < ENTRIES ? (end - at) / s->page : ENTRIES;
        ssize_t got =
            pread(s->pagemap, s->entries, want * sizeof(*s->entries), (off_t)(at / s->page * sizeof(*s->entries)));

        s->known = at;
        s->count = got > 0 ? (size_t)got / sizeof(*s->entries) : 0;
        n = 0;
    }
    return n < s->count && s->entries[n] & USED;
}

static void found(void *ctx, const uint8_t *key, size_t len)
{
    struct key_scan *s = ctx;

    if (s->found < KEY_SCAN_FOUND) {
        s->found++;
        s->fn(s->ctx, key, len);
    }
}

/* Reads used pages from s->at on, and looks at them. */
static void read_pages(struct key_scan *s, uint64_t end)
{
    uint64_t to = s->at + s->page - s->at % s->page;
    ssize_t n;

    while (to < end && to - s->at + s->page <= PIECE && is_used(s, to, end))
        to += s->page;
    n = pread(s->mem, s->piece, to - s->at, (off_t)s->at);
    s->left = s->left > to - s->at ? s->left - (to - s->at) : 0;
    if (n > 0) {
        aes_schedules(s->piece, (size_t)n, found, s);
        explicit_bzero(s->piece, (size_t)n);
    }
    /* One may go on behind it. */
    s->at = to < end && to % s->page == 0 && to - s->at > s->page && is_used(s, to, end) ? to - AES_SCHEDULE_MAX : to;
}

/* As far as the next used page, or the end of the mapping, or of what is known. */
static void pass_unused(struct key_scan *s, uint64_t end)
{
    do
        s->at += s->page - s->at % s->page;
    while (s->at < end && s->at - s->known < s->count * s->page && !is_used(s, s->at, end));
}

/* A bit of the mapping. False: that was all of it. */
static bool step(struct key_scan *s)
{
    const struct process_map *m = &s->maps.v[s->map];

    if (s->at < m->lo)
        s->at = m->lo;
    if (!may_hold_keys(m) || s->at >= m->hi)
        return false;
    if (is_used(s, s->at - s->at % s->page, m->hi))
        read_pages(s, m->hi);
    else
        pass_unused(s, m->hi);
    return s->at < m->hi;
}

bool key_scan_step(struct key_scan *s, uint64_t ns, void (*fn)(void *ctx, const uint8_t *key, size_t len), void *ctx)
{
    uint64_t begin = clock_used(), now = begin, before = s->used_ns;

    s->fn = fn;
    s->ctx = ctx;
    while (s->map < s->maps.count && now - begin < ns && !s->cut) {
        if (!step(s))
            s->map++;
        now = clock_used();
        s->used_ns = before + (now - begin);
        s->cut = (s->used_ns >= KEY_SCAN_NS || !s->left || s->found >= KEY_SCAN_FOUND) && s->map < s->maps.count;
    }
    return s->map < s->maps.count && !s->cut;
}

uint64_t key_scan_cut(const struct key_scan *s)
{
    return s->cut ? s->at : 0;
}

uint64_t key_scan_used(const struct key_scan *s)
{
    return s->used_ns;
}
