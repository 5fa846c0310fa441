/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "journal/press.h"
#include "journal/scan.h"
#include "journal/store.h"

#define QUEUE_BYTES (16u << 20) /* that wait or are being written */
#define FREE_BLOCKS 2u          /* kept to be used again: their pages are warm */
#define PRESS_MIN   (32u << 10) /* bodies that are compressed */
#define PRESS_QUEUE (1u << 20)  /* ... while no more than that waits behind them */
#define PRESS_MS    20u

struct store {
    int fd;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t more, less; /* for the thread; for who waits */
    struct store_block *first, **end, *free;
    unsigned free_count;
    size_t bytes;              /* in the queue, with what is being written */
    unsigned waiting;          /* who wants to see the end of the queue */
    bool quit, done;
    struct press *press;
    struct journal_stats stats;
    _Atomic uint64_t lost_group;
    /* The thread's own. */
    uint64_t offset, number, group_at;
    int lost_error; /* why lost_group was lost */
};

/* --- the thread --- */

/* 0 or -errno: then the file ends where it did. */
static int put_at(int fd, const uint8_t *p, size_t n, uint64_t offset)
{
    uint64_t begin = offset;

    while (n) {
        ssize_t done = pwrite(fd, p, n, (off_t)offset);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0) {
            int rc = done < 0 ? -errno : -EIO;

            if (ftruncate(fd, (off_t)begin) < 0)
                return rc; /* a torn block at the end: the next one is written over it */
            return rc;
        }
        p += done;
        n -= (size_t)done;
        offset += (uint64_t)done;
    }
    return 0;
}

/* Where there is time for it. */
static void compress(struct store *s, struct store_block *b)
{
    uint8_t *body = b->bytes + BLOCK_HEAD;
    uint32_t len = b->head.body_len;
    size_t to;

    if (!s->press)
        s->press = press_new();
    to = s->press ? press_body(s->press, body, len, PRESS_MS) : 0;
    if (!to)
        return;
    memmove(body + to, body + len, b->head.index_len);
    b->head.body_len = (uint32_t)to;
    b->head.flags |= BLOCK_F_ZSTD;
}

static void complete(struct store *s, struct store_block *b)
{
    struct block_head *h = &b->head;
    uint8_t *body = b->bytes + BLOCK_HEAD, *index = body + h->body_len, *trail = index + h->index_len;

    h->number = s->number;
    h->back = h->flags & BLOCK_F_CONTINUES ? s->offset - s->group_at : 0;
    h->len = BLOCK_HEAD + h->body_len + h->index_len + BLOCK_TRAIL;
    h->body_crc = crc32c(body, h->body_len);
    h->index_crc = crc32c(index, h->index_len);
    block_head_put(b->bytes, h);
    put_u32(trail, h->len);
    put_u32(trail + 4, BLOCK_END);
}

static int write_block(struct store *s, struct store_block *b, bool haste)
{
    int rc;

    if (b->head.flags & BLOCK_F_CONTINUES && store_has_lost(s, b->group))
        return -s->lost_error;
    if (s->offset == 0) {
        uint8_t head[JOURNAL_HEAD];

        journal_head_put(head);
        rc = put_at(s->fd, head, sizeof(head), 0);
        if (rc < 0)
            return rc;
        s->offset = sizeof(head);
    }
    if (!haste && b->head.body_len >= PRESS_MIN)
        compress(s, b);
    complete(s, b);
    rc = put_at(s->fd, b->bytes, b->head.len, s->offset);
    if (rc < 0)
        return rc;
    if (!(b->head.flags & BLOCK_F_CONTINUES))
        s->group_at = s->offset;
    s->offset += b->head.len;
    s->number++;
    return 0;
}

static void release(struct store *s, struct store_block *b)
{
    s->bytes -= b->size;
    if (s->free_count < FREE_BLOCKS) {
        b->next = s->free;
        s->free = b;
        s->free_count++;
    } else {
        free(b);
    }
}

static void *run(void *arg)
{
    struct store *s = arg;

    pthread_mutex_lock(&s->lock);
    for (;;) {
        struct store_block *b = s->first;
        bool haste;
        int rc;

        if (!b) {
            pthread_cond_broadcast(&s->less);
            if (s->quit)
                break;
            pthread_cond_wait(&s->more, &s->lock);
            continue;
        }
        haste = s->quit || s->waiting || s->bytes > PRESS_QUEUE;
        pthread_mutex_unlock(&s->lock);
        rc = write_block(s, b, haste);
        if (rc < 0) {
            s->lost_error = -rc;
            atomic_store(&s->lost_group, b->group);
        }
        pthread_mutex_lock(&s->lock);
        s->first = b->next;
        if (!s->first)
            s->end = &s->first;
        s->stats.queued -= b->head.records;
        s->stats.error = -rc;
        if (rc < 0) {
            s->stats.lost_destination += b->head.records;
        } else {
            s->stats.records += b->head.records;
            s->stats.bytes += b->head.len;
        }
        release(s, b);
    }
    s->done = true;
    pthread_cond_broadcast(&s->less);
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* --- the writer's side --- */

/* A disk that can't be read now must not cost what is on it. */
static int can_read(int fd, uint64_t from, uint64_t size)
{
    uint8_t piece[4096];

    while (from < size) {
        ssize_t n = read_at(fd, piece, sizeof(piece), from);

        if (n <= 0)
            return n < 0 ? (int)n : 0;
        from += (uint64_t)n;
    }
    return 0;
}

/* Where the last whole block ends; what is behind it is cut off. */
static int find_end(struct store *s)
{
    uint8_t head[JOURNAL_HEAD];
    struct block_head h;
    struct stat st;
    uint64_t at, size;
    unsigned version;
    ssize_t n;
    int rc;

    if (fstat(s->fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return -EINVAL;
    size = (uint64_t)st.st_size;
    n = read_at(s->fd, head, sizeof(head), 0);
    if (n < 0)
        return (int)n;
    if (n < (ssize_t)sizeof(head)) { /* nothing, or a torn head */
        uint8_t ours[JOURNAL_HEAD];

        journal_head_put(ours);
        return memcmp(head, ours, (size_t)n) == 0 ? 0 : -EBADMSG;
    }
    rc = journal_head_get(head, &version);
    if (rc < 0)
        return rc;
    s->offset = JOURNAL_HEAD;
    if (block_before(s->fd, size, &at, &h) && block_whole(s->fd, at, &h)) {
        s->offset = size;
        s->number = h.number + 1;
        return 0;
    }
    for (uint64_t from = JOURNAL_HEAD; block_find(s->fd, from, size, &at, &h); from = at + h.len)
        if (block_whole(s->fd, at, &h)) {
            s->offset = at + h.len;
            s->number = h.number + 1;
        }
    rc = can_read(s->fd, s->offset, size);
    if (rc < 0)
        return rc;
    return size > s->offset && ftruncate(s->fd, (off_t)s->offset) < 0 ? -errno : 0;
}

static int start(struct store *s)
{
    sigset_t all, old;
    int rc;

    /* SIGXFSZ among them: the file size limit is an error like others. */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    rc = pthread_create(&s->thread, NULL, run, s);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return -rc;
}

struct store *store_new(int fd)
{
    struct store *s = xcalloc(1, sizeof(*s));
    pthread_condattr_t attr;
    int rc;

    s->fd = fd;
    s->end = &s->first;
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->more, &attr);
    pthread_cond_init(&s->less, &attr);
    pthread_condattr_destroy(&attr);
    rc = flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK ? -EWOULDBLOCK : find_end(s);
    if (rc == 0)
        rc = start(s);
    if (rc < 0) {
        close(fd);
        free(s);
        errno = -rc;
        return NULL;
    }
    return s;
}

static struct timespec deadline(unsigned ms)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += ms / 1000;
    t.tv_nsec += (long)(ms % 1000) * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    return t;
}

bool store_wait(struct store *s, unsigned ms)
{
    struct timespec until = deadline(ms);
    bool empty;

    pthread_mutex_lock(&s->lock);
    s->waiting++;
    while (s->first && pthread_cond_timedwait(&s->less, &s->lock, &until) == 0)
        ;
    s->waiting--;
    empty = !s->first;
    pthread_mutex_unlock(&s->lock);
    return empty;
}

static void free_blocks(struct store_block *b)
{
    for (struct store_block *next; b; b = next) {
        next = b->next;
        free(b);
    }
}

bool store_trim(struct store *s)
{
    struct store_block *b;
    bool empty;

    pthread_mutex_lock(&s->lock);
    b = s->free;
    s->free = NULL;
    s->free_count = 0;
    empty = !s->first;
    pthread_mutex_unlock(&s->lock);
    free_blocks(b);
    return !empty;
}

void store_free(struct store *s, unsigned ms)
{
    struct timespec until = deadline(ms);
    bool done;

    pthread_mutex_lock(&s->lock);
    s->quit = true;
    pthread_cond_signal(&s->more);
    while (!s->done && pthread_cond_timedwait(&s->less, &s->lock, &until) == 0)
        ;
    done = s->done;
    pthread_mutex_unlock(&s->lock);
    if (!done) { /* the disk holds it: it goes on as long as this process lives */
        pthread_detach(s->thread);
        return;
    }
    pthread_join(s->thread, NULL);
    press_free(s->press);
    free_blocks(s->free);
    close(s->fd);
    pthread_cond_destroy(&s->more);
    pthread_cond_destroy(&s->less);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

bool store_has_room(const struct store *cs, size_t size)
{
    struct store *s = (struct store *)cs;
    bool room;

    pthread_mutex_lock(&s->lock);
    room = s->bytes == 0 || s->bytes + size <= QUEUE_BYTES;
    pthread_mutex_unlock(&s->lock);
    return room;
}

struct store_block *store_block_new(struct store *s, size_t size)
{
    struct store_block *b;

    pthread_mutex_lock(&s->lock);
    b = s->free;
    if (b) {
        s->free = b->next;
        s->free_count--;
    }
    pthread_mutex_unlock(&s->lock);
    if (!b || b->room < size) {
        size_t room = size + size / 8;

        free(b);
        b = xmalloc(sizeof(*b) + room);
        b->room = room;
    }
    b->next = NULL;
    b->size = size;
    return b;
}

void store_put(struct store *s, struct store_block *b)
{
    pthread_mutex_lock(&s->lock);
    *s->end = b;
    s->end = &b->next;
    s->bytes += b->size;
    s->stats.queued += b->head.records;
    pthread_cond_signal(&s->more);
    pthread_mutex_unlock(&s->lock);
}

bool store_has_lost(const struct store *s, uint64_t group)
{
    return atomic_load_explicit(&s->lost_group, memory_order_relaxed) == group;
}

void store_lose(struct store *s, uint64_t records)
{
    pthread_mutex_lock(&s->lock);
    s->stats.lost_destination += records;
    pthread_mutex_unlock(&s->lock);
}

void store_stats(const struct store *cs, struct journal_stats *ret)
{
    struct store *s = (struct store *)cs;

    pthread_mutex_lock(&s->lock);
    *ret = s->stats;
    pthread_mutex_unlock(&s->lock);
}
