/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/closing.h"
#include "base/mem.h"

#define MS UINT64_C(1000000)

/* What is read of segments that aren't mapped. */
static struct segment_header numbers; /* segment_numbers(), and segments that arrive */

#define WINDOW_CELLS 512u
static struct {                       /* a piece of a ring: committed records */
    const struct segment_map *of;     /* NULL: nobody's */
    uint64_t from, to;                /* positions */
    uint8_t cells[WINDOW_CELLS * RING_CELL] __attribute__((aligned(64)));
} window;

/* A piece of the file of one that isn't mapped; false: it can't be read. */
static bool copy_out(const struct segment_map *m, uint64_t at, void *to, size_t size)
{
    return m->fd >= 0 && pread(m->fd, to, size, (off_t)at) == (ssize_t)size;
}

/* A word into it. That it can't be written is the fault of who made it. */
static void copy_in(const struct segment_map *m, uint64_t at, uint32_t word)
{
    if (m->fd >= 0 && pwrite(m->fd, &word, sizeof(word), (off_t)at) < 0)
        return;
}

static char *copy_text(const char *shared, size_t max)
{
    size_t len = strnlen(shared, max);
    char *s = xmalloc(len + 1);

    memcpy(s, shared, len);
    s[len] = 0;
    return s;
}

static void copy_info(struct segment_info *info, const struct segment_header *h)
{
    uint32_t argv_len = __atomic_load_n(&h->argv_len, __ATOMIC_RELAXED);

    if (argv_len > SEG_ARGV_MAX)
        argv_len = SEG_ARGV_MAX;
    info->start = h->start;
    info->clock = h->clock;
    info->pid = h->pid;
    info->ppid = h->ppid;
    info->uid = h->uid;
    info->gid = h->gid;
    info->euid = h->euid;
    info->egid = h->egid;
    info->start_time = h->start_time;
    info->start_cpu_us = h->start_cpu_us < UINT64_MAX / 1000 ? h->start_cpu_us : 0;
    memcpy(info->uuid, h->uuid, sizeof(info->uuid));
    memcpy(info->comm, h->comm, sizeof(info->comm) - 1); /* the rest of *info is 0 */
    info->exe = copy_text(h->exe, sizeof(h->exe));
    info->cwd = copy_text(h->cwd, sizeof(h->cwd));
    info->argv = xmalloc(argv_len + 1);
    memcpy(info->argv, h->argv, argv_len);
    info->argv[argv_len] = 0;
    info->argv_len = argv_len;
    info->argv_cut = h->argv_cut != 0;
}

uint64_t segment_table_hash(void)
{
    static uint64_t hash;

    if (!hash)
        hash = syscall_table_hash();
    return hash;
}

/* Layout as the header states it; all sums in 64 bits. */
static const char *check_layout(struct segment_map *m, const struct segment_header *h)
{
    uint64_t fd_end, skip_end, ring_end;

    if (h->magic != SEG_MAGIC)
        return "no segment (magic)";
    if (h->version != SEG_VERSION)
        return "version of another release";
    if (h->table_hash != segment_table_hash())
        return "table of system calls differs: probe and collector are of different builds";
    if (h->seg_size != m->size)
        return "size differs from the file's";
    m->fd_off = h->fd_off;
    m->fd_cap = h->fd_cap;
    m->skip_off = h->skip_off;
    m->ring_off = h->ring_off;
    m->ring_cells = h->ring_cells;
    fd_end = (uint64_t)m->fd_off + (uint64_t)m->fd_cap * sizeof(struct fd_entry);
    ring_end = (uint64_t)m->ring_off + (uint64_t)m->ring_cells * RING_CELL;
    skip_end = (uint64_t)m->skip_off + (uint64_t)m->fd_cap * sizeof(struct fd_skip);
    if (m->fd_off < sizeof(*h) || m->fd_off % 64 || m->fd_cap > FD_CAP_MAX || fd_end > m->skip_off || m->skip_off % 64 ||
        skip_end > m->ring_off)
        return "descriptor table out of bounds";
    if (m->ring_off % 64 || m->ring_cells < RING_CELLS_MIN || m->ring_cells > RING_CELLS || ring_end > m->size)
        return "ring out of bounds";
    return NULL;
}

bool segment_need(struct segment_map *m)
{
    void *at;

    if (m->base)
        return true;
    if (m->fd < 0)
        return false;
    at = mmap(NULL, m->size, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd, 0);
    close(m->fd);
    m->fd = -1;
    if (at == MAP_FAILED)
        return false;
    madvise(at, m->size, MADV_DONTFORK); /* who still maps it is asked when its process is gone: no worker of ours */
    madvise(at, m->size, MADV_DONTDUMP); /* keys of the program's (wire/segment.h), and what was captured of it */
    m->base = at;
    m->fresh = true;
    if (m->ring.pos) /* wasn't told yet */
        __atomic_store_n(&segment_hdr(m)->ring_tail, m->ring.pos, ORDER_RING_GIVE_BACK);
    return true;
}

struct segment_header *segment_hdr(const struct segment_map *m)
{
    static struct segment_header nobodys;

    if (!m->base)
        segment_need((struct segment_map *)(uintptr_t)m);
    return m->base ? (struct segment_header *)(void *)m->base : &nobodys;
}

#define NUMBERS_SIZE offsetof(struct segment_header, comm)

const struct segment_header *segment_numbers(const struct segment_map *m)
{
    if (m->base)
        return (const struct segment_header *)(const void *)m->base;
    if (!copy_out(m, 0, &numbers, NUMBERS_SIZE))
        memset(&numbers, 0, NUMBERS_SIZE);
    return &numbers;
}

uint32_t segment_crashes_refused(const struct segment_map *m)
{
    uint32_t n;

    if (m->base)
        return __atomic_load_n(&segment_hdr(m)->crashes_refused, __ATOMIC_RELAXED);
    return copy_out(m, offsetof(struct segment_header, crashes_refused), &n, sizeof(n)) ? n : 0;
}

bool segment_crashes(const struct segment_map *m)
{
    struct seg_crash crash[SEG_CRASHES];

    if (m->base)
        return true;
    if (!copy_out(m, offsetof(struct segment_header, crash), crash, sizeof(crash)))
        return false;
    for (unsigned i = 0; i < SEG_CRASHES; i++)
        if (crash[i].state != CRASH_FREE)
            return true;
    return false;
}

void segment_set_mode(struct segment_map *m, uint32_t mode)
{
    if (m->base)
        __atomic_store_n(&segment_hdr(m)->mode, mode, __ATOMIC_RELAXED);
    else if ((mode ^ m->mode) & ~(SEG_M_TSC | SEG_M_POINTER)) /* these are for the start only */
        copy_in(m, offsetof(struct segment_header, mode), mode);
    m->mode = mode;
}

int segment_open(struct segment_map *m, int fd, uint64_t map_at, const char **ret_why)
{
    const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    struct statfs fs;
    struct stat st;
    int has;

    *m = (struct segment_map){.fd = -1};
    /* First: only files in memory have seals. The file system of any other could keep fstat(2) waiting. */
    *ret_why = "not sealed against changes of its size";
    has = fcntl(fd, F_GET_SEALS);
    if (has < 0 || (has & seals) != seals)
        return -EPERM;
    *ret_why = "can't be examined";
    if (fstat(fd, &st) || fstatfs(fd, &fs))
        return -errno;
    *ret_why = "not of ordinary memory"; /* of huge pages, there may be none left when one is looked at: SIGBUS */
    if (fs.f_type != TMPFS_MAGIC)
        return -EINVAL;
    *ret_why = "size is impossible";
    if (st.st_size < (off_t)sizeof(struct segment_header) || (uint64_t)st.st_size > segment_size(FD_CAP_MAX))
        return -EINVAL;
    *ret_why = "can't be mapped";
    m->size = (size_t)st.st_size;
    m->ino = st.st_ino;
    m->map_at = map_at;
    m->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (m->fd < 0)
        return -errno;
    if (!copy_out(m, 0, &numbers, offsetof(struct segment_header, tls))) {
        segment_unmap(m);
        return -EACCES;
    }
    *ret_why = check_layout(m, &numbers);
    if (*ret_why) {
        segment_unmap(m);
        return -EINVAL;
    }
    copy_info(&m->info, &numbers);
    m->mode = numbers.mode;
    *ret_why = "can't be mapped";
    if ((!map_at || fd_is_spare(m->fd)) && !segment_need(m)) {
        segment_unmap(m);
        return -ENOMEM;
    }
    return 0;
}

int segment_map(struct segment_map *m, int fd, const char **ret_why)
{
    return segment_open(m, fd, 0, ret_why);
}

void segment_unmap(struct segment_map *m)
{
    if (m->base)
        munmap(m->base, m->size);
    if (m->fd >= 0)
        close(m->fd);
    if (window.of == m)
        window.of = NULL;
    free(m->info.exe);
    free(m->info.cwd);
    free(m->info.argv);
    *m = (struct segment_map){.fd = -1};
}

static uint64_t fd_at(const struct segment_map *m, uint64_t fd)
{
    return m->fd_off + fd * sizeof(struct fd_entry);
}

bool segment_fd(const struct segment_map *m, uint64_t fd, struct fd_entry *ret)
{
    const struct fd_entry *e;

    if (fd >= m->fd_cap)
        return false;
    if (!m->base) { /* as far as that is possible: it was not ordered */
        if (!copy_out(m, fd_at(m, fd), ret, sizeof(*ret)))
            return false;
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        return true;
    }
    e = (const struct fd_entry *)(const void *)(m->base + fd_at(m, fd));
    ret->gen = __atomic_load_n(&e->gen, ORDER_GEN_READ);
    ret->read_bytes = __atomic_load_n(&e->read_bytes, __ATOMIC_RELAXED);
    ret->read_ops = __atomic_load_n(&e->read_ops, __ATOMIC_RELAXED);
    ret->read_ticks = __atomic_load_n(&e->read_ticks, __ATOMIC_RELAXED);
    ret->write_bytes = __atomic_load_n(&e->write_bytes, __ATOMIC_RELAXED);
    ret->write_ops = __atomic_load_n(&e->write_ops, __ATOMIC_RELAXED);
    ret->write_ticks = __atomic_load_n(&e->write_ticks, __ATOMIC_RELAXED);
    ret->kind = __atomic_load_n(&e->kind, __ATOMIC_RELAXED);
    ret->state = __atomic_load_n(&e->state, __ATOMIC_RELAXED);
    ret->undecided = __atomic_load_n(&e->undecided, __ATOMIC_RELAXED);
    ret->want = __atomic_load_n(&e->want, __ATOMIC_RELAXED);
    ret->unsaid = __atomic_load_n(&e->unsaid, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_ACQUIRE); /* who then finds the ring empty has seen all that led to this */
    return true;
}

uint32_t segment_fd_high(const struct segment_map *m)
{
    uint64_t high = __atomic_load_n(&segment_numbers(m)->fd_high, __ATOMIC_RELAXED);

    return high > m->fd_cap ? m->fd_cap : (uint32_t)high;
}

void segment_want(const struct segment_map *m, uint64_t fd, uint32_t gen, enum fd_want want)
{
    uint32_t word = gen << 2 | (uint32_t)want;
    struct fd_entry *e;

    if (fd >= m->fd_cap)
        return;
    if (!m->base) { /* the probe looks at the generation itself */
        copy_in(m, fd_at(m, fd) + offsetof(struct fd_entry, want), word);
        return;
    }
    e = (struct fd_entry *)(void *)(m->base + fd_at(m, fd));
    /* a number that was reused since belongs to a record that is still to come */
    if (__atomic_load_n(&e->gen, ORDER_GEN_READ) == gen)
        __atomic_store_n(&e->want, word, __ATOMIC_RELEASE);
}

void segment_skip(const struct segment_map *m, uint64_t fd, uint32_t gen, bool tx, uint64_t to)
{
    struct segment_header *h = segment_hdr(m);
    struct fd_skip *s = (struct fd_skip *)(void *)((uint8_t *)h + m->skip_off) + fd;

    if (fd < m->fd_cap && m->base)
        __atomic_store_n(tx ? &s->tx : &s->rx, to ? skip_word(gen, to) : 0, __ATOMIC_RELEASE);
}

void segment_tls_done(const struct segment_map *m, uint64_t object, uint32_t life)
{
    struct tls_want *w = &segment_hdr(m)->tls[tls_want_at(object)];

    if (__atomic_load_n(&w->object, ORDER_TLS_LOOK) == object && __atomic_load_n(&w->life, ORDER_TLS_LOOK) == life &&
        __atomic_load_n(&w->done, __ATOMIC_RELAXED) != life)
        __atomic_store_n(&w->done, life, ORDER_TLS_DONE);
}

bool segment_has_news(const struct segment_map *m)
{
    const struct segment_header *h = segment_hdr(m);

    if (segment_head(m) != m->ring.pos || !__atomic_load_n(&h->wakes, ORDER_WAKES_LOOK))
        return true;
    for (unsigned i = 0; m->mode & SEG_M_CRASH && i < SEG_CRASHES; i++)
        if (__atomic_load_n(&h->crash[i].state, ORDER_CRASH_LOOK) == CRASH_TOLD)
            return true;
    return false;
}

uint64_t segment_head(const struct segment_map *m)
{
    uint64_t head;

    if (m->base)
        return __atomic_load_n(&segment_hdr(m)->ring_head, ORDER_RING_HEAD);
    return copy_out(m, offsetof(struct segment_header, ring_head), &head, sizeof(head)) ? head : m->ring.pos;
}

static bool in_window(const struct segment_map *m, uint64_t pos)
{
    return window.of == m && pos >= window.from && pos < window.to;
}

/* The cell of a position: in the mapping, or in the window. */
static const uint64_t *cell(const struct segment_map *m, uint64_t pos)
{
    if (!m->base)
        return (const uint64_t *)(const void *)(window.cells + (pos - window.from) * RING_CELL);
    return (const uint64_t *)(m->base + m->ring_off + pos % m->ring_cells * RING_CELL);
}

static bool committed(const struct segment_map *m, uint64_t pos)
{
    return __atomic_load_n(cell(m, pos), ORDER_RING_COMMITTED) == pos + 1;
}

static void move_on(struct segment_map *m, uint64_t pos)
{
    m->ring.pos = pos;
    m->ring.stalled_ns = m->ring.search_ns = m->ring.search_wait_ns = 0;
}

/* Looks for the record behind a reservation that stays uncommitted. */
static bool pass_torn(struct segment_map *m, uint64_t head, uint64_t now)
{
    struct ring *r = &m->ring;

    for (uint64_t pos = m->ring.pos + 1; pos < head; pos++) {
        if (committed(m, pos)) {
            move_on(m, pos);
            r->torn++;
            return true;
        }
    }
    r->search_wait_ns = r->search_wait_ns ? 2 * r->search_wait_ns : RING_SEARCH_MS * MS;
    if (r->search_wait_ns > RING_SEARCH_MAX_MS * MS)
        r->search_wait_ns = RING_SEARCH_MAX_MS * MS;
    r->search_ns = now + r->search_wait_ns;
    return false;
}

static unsigned patience_ms(const struct segment_map *m, uint64_t head)
{
    if (m->single)
        return RING_SINGLE_MS;
    if (head - m->ring.pos < m->ring_cells / 2)
        return RING_PATIENT_MS;
    return m->lossless ? RING_LOSSLESS_MS : RING_STALL_MS;
}

/* What to make of a cell that isn't committed; RING_RECORD: look again. Not inlined, as it is rare and large. */
static __attribute__((noinline)) enum ring_state uncommitted(struct segment_map *m, uint64_t now, bool last)
{
    uint64_t pos = m->ring.pos, head = segment_head(m);

    if (head < pos || head - pos > m->ring_cells)
        return RING_BROKEN;
    if (head == pos) {
        m->ring.stalled_ns = 0;
        return RING_EMPTY;
    }
    if (!last) {
        if (!m->ring.stalled_ns)
            m->ring.stalled_ns = now;
        if (now - m->ring.stalled_ns < patience_ms(m, head) * MS || now < m->ring.search_ns)
            return RING_EMPTY;
    }
    if (pass_torn(m, head, now))
        return RING_RECORD;
    if (!last)
        return RING_EMPTY;
    move_on(m, head);
    m->ring.torn++;
    return RING_EMPTY;
}

/* Cells of whole records from a position on, of `count` that were copied into the window, all committed by now. */
static uint32_t committed_cells(uint64_t pos, uint32_t count)
{
    uint32_t at = 0;

    while (at < count) {
        const struct record *r = (const struct record *)(const void *)(window.cells + (size_t)at * RING_CELL);
        uint64_t cells = ((uint64_t)r->size + RING_CELL - 1) / RING_CELL;

        if (r->seq != pos + at + 1 || !cells || cells > count - at)
            break;
        at += (uint32_t)cells;
    }
    return at;
}

/* Copies what is next in the ring of a segment that isn't mapped into the window. RING_RECORD: it is there, or the
 * segment was mapped because it must be looked at more closely. */
static enum ring_state look_ahead(struct segment_map *m, uint64_t now, bool last)
{
    const uint64_t pos = m->ring.pos;
    const size_t mail_at = offsetof(struct segment_header, mail) - offsetof(struct segment_header, ring_head);
    uint8_t lines[offsetof(struct segment_header, mail) + 8 - offsetof(struct segment_header, ring_head)];
    uint64_t head, mail, at;
    uint32_t count, cells;

    if (!last && now >= m->map_at)
        return segment_need(m) ? RING_RECORD : RING_BROKEN;
    if (!copy_out(m, offsetof(struct segment_header, ring_head), lines, sizeof(lines)))
        return RING_BROKEN;
    memcpy(&head, lines, sizeof(head));
    memcpy(&mail, lines + mail_at, sizeof(mail));
    if (head < pos || head - pos > m->ring_cells)
        return RING_BROKEN;
    if (mail || head > m->ring_cells / 16) /* its writers need to know what they may write over */
        return segment_need(m) ? RING_RECORD : RING_BROKEN;
    if (head == pos)
        return RING_EMPTY;
    count = head - pos < WINDOW_CELLS ? (uint32_t)(head - pos) : WINDOW_CELLS;
    if (count > m->ring_cells - pos % m->ring_cells)
        count = (uint32_t)(m->ring_cells - pos % m->ring_cells);
    at = m->ring_off + pos % m->ring_cells * RING_CELL;
    window.of = NULL;
    if (!copy_out(m, at, window.cells, (size_t)count * RING_CELL))
        return RING_BROKEN;
    cells = committed_cells(pos, count);
    /* Once more: a record's first word may have been copied after, and its rest before it was written. What the kernel
     * loads for us is ordered as if we did. */
    __atomic_thread_fence(ORDER_RING_COMMITTED);
    if (!cells || !copy_out(m, at, window.cells, (size_t)cells * RING_CELL))
        return segment_need(m) ? RING_RECORD : RING_BROKEN;
    window.of = m;
    window.from = pos;
    window.to = pos + cells;
    return RING_RECORD;
}

enum ring_state ring_next(struct segment_map *m, uint64_t now, bool last, const void **ret_shared, uint32_t *ret_size)
{
    for (;;) {
        uint64_t pos = m->ring.pos;
        const struct record *r;
        uint32_t size, room;
        uint8_t kind;

        if (!m->base && !in_window(m, pos)) {
            enum ring_state st = look_ahead(m, now, last);

            if (st != RING_RECORD)
                return st;
        }
        r = (const struct record *)(const void *)cell(m, pos);
        if (!m->base && (!committed(m, pos) || r->size > (window.to - pos) * RING_CELL)) { /* changed meanwhile */
            if (!segment_need(m))
                return RING_BROKEN;
            continue;
        }
        if (__builtin_expect(!committed(m, pos), 0)) {
            enum ring_state st = uncommitted(m, now, last);

            if (st != RING_RECORD)
                return st;
            continue;
        }
        move_on(m, pos);
        size = __atomic_load_n(&r->size, __ATOMIC_RELAXED);
        kind = __atomic_load_n(&r->kind, __ATOMIC_RELAXED);
        room = (uint32_t)(m->ring_cells - pos % m->ring_cells) * RING_CELL;
        if (size > room || size < (kind == REC_PAD ? 16 : sizeof(struct record)))
            return RING_BROKEN;
        if (kind == REC_PAD) {
            if (size != room) /* it fills up to the end: once a lap */
                return RING_BROKEN;
            ring_advance(m, size);
            continue;
        }
        *ret_shared = r;
        *ret_size = size;
        return RING_RECORD;
    }
}

void ring_release(struct segment_map *m, uint64_t now)
{
    struct segment_header *h;

    if (!m->base) /* there is room for long */
        return;
    h = segment_hdr(m);
    __atomic_store_n(&h->ring_tail, m->ring.pos, ORDER_RING_GIVE_BACK);
    __atomic_store_n(&h->heartbeat, now / 1000000, __ATOMIC_RELAXED);
}

/* Copies a key and wipes it there. False: it isn't complete, or another one's by now. */
static bool take_key(struct seg_key *k, uint64_t number, struct seg_key *ret)
{
    uint64_t commit = __atomic_load_n(&k->commit, ORDER_KEY_COMMITTED);

    if (commit != number + 1)
        return false;
    memcpy(ret, k, sizeof(*ret));
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (!__atomic_compare_exchange_n(&k->commit, &commit, 0, false, ORDER_KEY_TAKEN, __ATOMIC_RELAXED))
        return false;
    explicit_bzero(k->key, sizeof(k->key));
    return true;
}

/* Those that are there by now. Returns how many won't come. */
static uint64_t fill_holes(struct segment_header *h, struct key_reader *r, uint64_t head,
                           void (*fn)(void *ctx, const struct seg_key *key), void *ctx)
{
    unsigned left = 0;
    struct seg_key key;
    uint64_t lost = 0;

    for (unsigned i = 0; i < r->hole_count; i++) {
        uint64_t n = r->holes[i];

        if (head - n > SEG_KEYS)
            lost++;
        else if (take_key(&h->key[n % SEG_KEYS], n, &key))
            fn(ctx, &key);
        else
            r->holes[left++] = n;
    }
    r->hole_count = left;
    explicit_bzero(&key, sizeof(key));
    return lost;
}

/* True: for another one, which is no longer waited for. */
static bool add_hole(struct key_reader *r, uint64_t number)
{
    bool full = r->hole_count == KEY_HOLES;

    if (full)
        memmove(r->holes, r->holes + 1, --r->hole_count * sizeof(*r->holes));
    r->holes[r->hole_count++] = number;
    return full;
}

uint64_t segment_keys(struct segment_map *m, struct key_reader *r, void (*fn)(void *ctx, const struct seg_key *key), void *ctx)
{
    struct segment_header *h;
    uint64_t head, lost = 0;
    struct seg_key key;

    if (!m->base && (!copy_out(m, offsetof(struct segment_header, key_head), &head, sizeof(head)) || (head == r->next && !r->hole_count)))
        return 0;
    h = segment_hdr(m);
    head = __atomic_load_n(&h->key_head, __ATOMIC_ACQUIRE);
    if (head < r->next) { /* it lies */
        r->next = head;
        r->hole_count = 0;
    }
    lost = fill_holes(h, r, head, fn, ctx);
    if (head - r->next > SEG_KEYS) {
        lost += head - r->next - SEG_KEYS;
        r->next = head - SEG_KEYS;
    }
    for (; r->next < head; r->next++) {
        if (take_key(&h->key[r->next % SEG_KEYS], r->next, &key))
            fn(ctx, &key);
        else /* it is being written; or never will be */
            lost += add_hole(r, r->next);
    }
    explicit_bzero(&key, sizeof(key));
    return lost;
}
