/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/keys.h"

#include <string.h>
#include <sys/resource.h>

#include "base/log.h"
#include "collector/key_scan.h"
#include "collector/segments.h"
#include "collector/state.h"
#include "traffic/tls_keys.h"

#define MS UINT64_C(1000000)
#define SEARCH_STEP_NS (10 * MS)  /* others wait for so long */
#define SEARCH_AGAIN_NS (1000 * MS) /* between two of a process */
#define SEARCH_SHARE 20 /* they take that part of the time at most */
#define SEARCHES_MAX 64u /* of a process, each of which costs some 50 ms and finds what connections that were idle use */

static void add_key(void *ctx, const struct seg_key *key)
{
    struct segment *seg = ctx;

    tls_keys_add(seg->keys, key->key, key->len, key->caller,
                 clock_to_real(&seg->c->model.clock, seg->map.info.clock, key->time, clock_now_real()));
}

/* Not even parts of keys that are in use, in a core of ours: 1 byte also keeps those away that go to a program (core(5)). */
static void no_core(void)
{
    static const struct rlimit none = {1, 1};

    setrlimit(RLIMIT_CORE, &none);
}

static void look(struct segment *seg)
{
    tls_keys_missed(seg->keys, segment_keys(&seg->map, &seg->key_reader, add_key, seg));
}

static void prepare(struct segment *seg)
{
    const struct proc *parent = seg->owner ? seg->owner->parent : NULL;

    if (seg->keys)
        return;
    no_core();
    seg->keys = tls_keys_new();
    /* A connection that it has from its parent. */
    if (seg->keys && seg->map.info.start == SEG_START_FORK && parent && parent->seg && parent->seg->keys && parent->seg != seg) {
        if (!parent->seg->broken)
            look(parent->seg);
        tls_keys_copy(seg->keys, parent->seg->keys);
    }
}

struct tls_keys *keys_of(struct proc *p)
{
    struct segment *seg = p->seg;

    if (!seg || seg->broken)
        return NULL;
    prepare(seg);
    if (seg->keys)
        look(seg);
    return seg->keys;
}

/* --- keys in memory --- */

/* Its own segment, in which the state of its search is kept; NULL: there is none. */
static struct segment *searched(const struct proc *p)
{
    return p->seg && !p->borrowed && !p->seg->broken ? p->seg : NULL;
}

enum tls_search keys_search(struct proc *p, uint64_t *ticket)
{
    struct segment *seg = searched(p);

    /* What is done for a guest is done by a process that has become the guest. */
    if (!seg || seg->guest || seg->search.never || p->dead || p->pidfd < 0 ||
        (ticket && *ticket > seg->search.begun && !seg->search.asked))
        return TLS_SEARCH_NEVER;
    if (!ticket)
        return TLS_SEARCH_WAIT;
    if (*ticket)
        return seg->search.done >= *ticket ? TLS_SEARCH_DONE : TLS_SEARCH_WAIT;
    *ticket = seg->search.begun + 1;
    seg->search.asked = true;
    return TLS_SEARCH_WAIT;
}

static void add_found(void *ctx, const uint8_t *key, size_t len)
{
    struct segment *seg = ctx;

    tls_keys_found(seg->keys, key, len, clock_now_real());
}

static void no_more(struct segment *seg, const char *why)
{
    seg->search.never = true;
    log_info("process %d: its memory is not searched for keys of TLS: %s", (int)seg->host_pid, why);
}

static void begin_search(struct segment *seg)
{
    const struct proc *p = seg->owner;
    struct key_search *s = &seg->search;
    int err;

    s->asked = false;
    prepare(seg);
    if (s->begun == SEARCHES_MAX || !p || p->pidfd < 0 || !seg->keys) {
        no_more(seg, s->begun == SEARCHES_MAX ? "this was done often enough" : "there is nobody to watch, or no memory");
        return;
    }
    s->scan = key_scan_new(p->host_pid, p->pidfd, s->from, &err);
    if (s->scan)
        s->begun++;
    else
        no_more(seg, strerror(-err));
}

static void end_search(struct segment *seg, uint64_t now)
{
    struct key_search *s = &seg->search;
    uint64_t used = key_scan_used(s->scan);

    if (key_scan_cut(s->scan) && !s->from)
        log_info("process %d: its memory is too much to be searched for keys of TLS at once: the next search goes on where this "
                 "one ends", (int)seg->host_pid);
    s->from = key_scan_cut(s->scan);
    s->done = s->begun;
    s->next_ns = now + (SEARCH_SHARE * used > SEARCH_AGAIN_NS ? SEARCH_SHARE * used : SEARCH_AGAIN_NS);
    key_scan_free(s->scan);
    s->scan = NULL;
}

/* Whose memory it is pays for it. */
static void search(struct segment *seg)
{
    struct key_search *s = &seg->search;
    uint64_t before = clock_used(), now = clock_now_mono();

    if (seg->too_dear || (!s->scan && now < s->next_ns))
        return;
    if (!s->scan)
        begin_search(seg);
    if (s->scan && !key_scan_step(s->scan, SEARCH_STEP_NS, add_found, seg))
        end_search(seg, now);
    segment_charge(seg, 0, clock_used() - before, clock_used());
}

void keys_sweep(struct segment *seg)
{
    bool some = !seg->broken && seg->map.base && segment_hdr(&seg->map)->key_head;

    if (some && seg->map.mode & SEG_M_TRAFFIC) /* whatever it has put there: nothing was wanted */
        prepare(seg);
    if (some && seg->keys)
        look(seg);
    if (seg->keys)
        tls_keys_sweep(seg->keys, clock_now_real());
    if (seg->search.asked || seg->search.scan)
        search(seg);
}
