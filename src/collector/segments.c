/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/segments.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "collector/key_scan.h"
#include "collector/left.h"
#include "collector/peer.h"
#include "collector/state.h"
#include "model/procinfo.h"
#include "traffic/tls_keys.h"

#define MS UINT64_C(1000000)
#define AFTER_NS (3000 * MS)  /* ... that a process waits for what it had recorded elsewhere before */
#define SHORT_NS (50 * MS)    /* a process that lives longer is not a short one: its segment gets a mapping */
#define HOLD_NS (500 * MS)    /* longest time that a forked child's own ring waits for its last record in the old one */
#define ORPHAN_NS (3000 * MS) /* how long a ring is kept for children that nobody has announced */

struct segment **segments_by_pid(struct collector *c, pid_t host_pid)
{
    return &c->segments_by_pid[model_hash(&c->model, (uint32_t)host_pid) & (PROC_BUCKETS - 1)];
}

/* One of those whose segments are guests; shared by these. */
struct guest_user {
    struct guest_user *next;
    uid_t uid;
    unsigned refs;
    uint64_t ns;              /* as collector.guest_ns */
    size_t bytes;             /* as collector.guest_bytes */
    uint64_t round;           /* of collector.drain_round, in which they were counted last */
    unsigned seen, busy;      /* segments that had something to tell: in that round so far, and in the one before */
};

static struct guest_user *user_ref(struct collector *c, uid_t uid)
{
    struct guest_user *u = c->guest_users;

    while (u && u->uid != uid)
        u = u->next;
    if (!u) {
        u = xcalloc(1, sizeof(*u));
        *u = (struct guest_user){.next = c->guest_users, .uid = uid};
        c->guest_users = u;
    }
    u->refs++;
    return u;
}

static void user_unref(struct collector *c, struct guest_user *u)
{
    struct guest_user **at = &c->guest_users;

    if (!u || --u->refs)
        return;
    while (*at != u)
        at = &(*at)->next;
    *at = u->next;
    free(u);
}

void segment_unref(struct collector *c, struct segment *seg)
{
    if (--seg->refs)
        return;
    c->indebted -= seg->debt_ns > 0;
    segment_unmap(&seg->map);
    if (seg->pidfd >= 0)
        close(seg->pidfd);
    if (seg->after)
        segment_unref(c, seg->after);
    user_unref(c, seg->user);
    free(seg->crashes);
    tls_keys_free(seg->keys);
    key_scan_free(seg->search.scan);
    free(seg);
}

static void unlist(struct collector *c, struct segment *seg)
{
    struct segment **at = segments_by_pid(c, seg->host_pid);

    if (!seg->listed)
        return;
    if (seg->group)
        c->rouse(seg);
    if (c->drain_from == seg)
        c->drain_from = seg->next;
    while (*at != seg)
        at = &(*at)->pid_next;
    *at = seg->pid_next;
    if (seg->prev)
        seg->prev->next = seg->next;
    else
        c->segments = seg->next;
    if (seg->next)
        seg->next->prev = seg->prev;
    seg->listed = false;
    c->segment_count--;
    segment_unref(c, seg);
}

void segment_losses(struct collector *c, struct segment *seg)
{
    static const enum loss_kind kinds[LOSS_MAX] = {
        [LOSS_RECORD] = LK_RECORD, [LOSS_DATA] = LK_DATA, [LOSS_NR] = LK_CALL, [LOSS_SLOT] = LK_SLOT,
        [LOSS_COPY] = LK_COPY,
    };
    const struct segment_header *h = segment_numbers(&seg->map);
    struct proc *p = seg->owner ? seg->owner : seg->borrowers;

    for (int i = 0; i < LOSS_COPY + 1; i++) {
        uint64_t n = __atomic_load_n(&h->loss[i], __ATOMIC_RELAXED);

        if (n > seg->loss_seen[i] && n - seg->loss_seen[i] < UINT64_C(1) << 48)
            model_loss(&c->model, p, kinds[i], n - seg->loss_seen[i]);
        seg->loss_seen[i] = n;
    }
    if (seg->map.ring.torn > seg->torn_seen)
        model_loss(&c->model, p, LK_TORN, seg->map.ring.torn - seg->torn_seen);
    seg->torn_seen = seg->map.ring.torn;
}

/* Whether the log may say something about it. */
static bool may_tell(const struct segment *seg)
{
    return !seg->guest || door_says(&seg->c->guest_lines);
}

/* --- shares of the backlog --- */

static uint64_t *expected_ns(const struct segment *seg)
{
    return seg->guest ? &seg->c->guest_ns : &seg->c->owner_ns;
}

static void enqueued(struct segment *seg, uint32_t bytes)
{
    seg->refs++;
    seg->queued++;
    seg->queued_bytes += bytes;
    *expected_ns(seg) += seg->record_ns;
    if (!seg->guest)
        return;
    seg->c->guest_bytes += bytes;
    seg->user->bytes += bytes;
    seg->user->ns += seg->record_ns;
}

void segment_unqueue(struct segment *seg, uint32_t bytes)
{
    seg->queued--;
    seg->queued_bytes -= bytes;
    *expected_ns(seg) -= seg->record_ns;
    if (!seg->guest)
        return;
    seg->c->guest_bytes -= bytes;
    seg->user->bytes -= bytes;
    seg->user->ns -= seg->record_ns;
}

/* Another mean: also for what is queued already. */
static void expect(struct segment *seg, uint64_t record_ns)
{
    *expected_ns(seg) += seg->queued * (record_ns - seg->record_ns); /* modulo 2^64 */
    if (seg->guest)
        seg->user->ns += seg->queued * (record_ns - seg->record_ns);
    seg->record_ns = record_ns;
}

/* What the records of all guests in the backlog may take. */
static uint64_t guests_share(const struct collector *c)
{
    if (!c->owner_ns || c->owner_ns > GUEST_MOST_NS)
        return GUEST_MOST_NS;
    return c->owner_ns < GUEST_LEAST_NS ? GUEST_LEAST_NS : c->owner_ns;
}

bool segment_delays(const struct segment *seg)
{
    return seg->guest || seg->c->backlog.bytes > BEHIND_BYTES;
}

/* Of a host's users each gets the same part, and of that each of its rings, but always one record while it has got less. One
 * alone leaves room for another. */
static bool has_room_on_host(const struct collector *c, const struct segment *seg)
{
    const struct guest_user *u = seg->user;
    uint64_t users = c->busy_users ? c->busy_users : 1, share = guests_share(c) / users;

    if (u->bytes >= GUEST_BYTES / (users + 1))
        return false;
    if (seg->too_dear)
        return true;
    return u->ns < share && (!seg->queued || seg->queued * seg->record_ns * u->busy < share);
}

/* Whether there is room for a record of this ring. It may fill as much of the backlog as is left to the others, so that
 * none of them can starve. */
static bool has_room(const struct collector *c, const struct segment *seg)
{
    uint64_t share;

    if (c->backlog.bytes + c->waiting_bytes + seg->queued_bytes >= BACKLOG_MAX ||
        (seg->held && seg->waiting.bytes >= WAITING_MAX))
        return false;
    if (!seg->guest || c->stopping)
        return true;
    if (c->guest_bytes >= GUEST_BYTES)
        return false;
    if (c->opt && c->opt->host)
        return has_room_on_host(c, seg);
    if (seg->too_dear) /* dropping them takes no time */
        return true;
    share = guests_share(c);
    return !seg->queued || (c->guest_ns < share && seg->queued * seg->record_ns * c->busy_guests < share);
}

void segment_charge(struct segment *seg, unsigned records, uint64_t ns, uint64_t cpu)
{
    struct collector *c = seg->c;
    int64_t others = c->indebted ? c->indebted : 1; /* all together get what one alone would */
    int64_t back = seg->debt_at && cpu > seg->debt_at ? (int64_t)(cpu - seg->debt_at) / 10 / others : 0;
    bool was = seg->debt_ns > 0;

    if (!seg->too_dear || !segment_delays(seg)) { /* else they were dropped */
        back += records * RECORD_NS;
        if (records)
            expect(seg, (7 * seg->record_ns + ns / records) / 8);
    }
    seg->debt_at = cpu;
    seg->debt_ns += (int64_t)ns - back;
    if (seg->debt_ns < 0)
        seg->debt_ns = 0;
    c->indebted += (seg->debt_ns > 0) - was;
    if (!seg->too_dear && seg->debt_ns > DEBT_NS / others) {
        if (may_tell(seg))
            log_warning("process %d: what it records takes too long to look at: it is dropped for some seconds, and counted",
                        (int)seg->host_pid);
        seg->too_dear = true;
    } else if (seg->debt_ns < DEBT_NS / others / 2) {
        seg->too_dear = false;
    }
}

/* What is in it can't be trusted: the process goes on without being observed. */
static void give_up(struct collector *c, struct segment *seg)
{
    if (seg->broken)
        return;
    seg->broken = true;
    segment_set_mode(&seg->map, 0);
    if (may_tell(seg))
        log_warning("process %d: its shared segment makes no sense any more: what it does is no longer observed",
                    (int)seg->host_pid);
    model_loss(&c->model, seg->owner ? seg->owner : seg->borrowers, LK_SEGMENT, 1);
}

/* A reservation stays uncommitted: who can have made it? The only thread of a process that sleeps in a system call has
 * left it behind: writing needs none. One that waits for a CPU, or was stopped, will go on. */
static void look_into_stall(struct segment *seg, uint64_t now)
{
    struct pi_stat st;

    if (!seg->map.ring.stalled_ns) {
        seg->map.single = false;
        seg->stall_look = 0;
        return;
    }
    if (!seg->stall_look)
        seg->stall_look = now + RING_SINGLE_MS / 2 * MS;
    if (seg->map.single || now < seg->stall_look)
        return;
    seg->stall_look = now + RING_SINGLE_MS / 2 * MS;
    seg->map.single =
        seg->owner && !seg->borrowers && !pi_stat(seg->host_pid, &st) && st.threads == 1 && st.state == 'S';
}

/* One ring into the backlog. Returns the number of records. */
static uint64_t drain(struct collector *c, struct segment *seg, uint64_t now, uint64_t real, bool last)
{
    struct backlog *to = seg->held ? &seg->waiting : &c->backlog;
    size_t waited = seg->waiting.bytes;
    uint64_t n = 0, from = seg->map.ring.pos;

    while (has_room(c, seg) && seg->map.ring.pos - from < seg->map.ring_cells) {
        const void *shared;
        struct record *r;
        uint32_t size;
        enum ring_state st = ring_next(&seg->map, now, last, &shared, &size);

        if (st == RING_BROKEN)
            give_up(c, seg);
        if (st != RING_RECORD)
            break;
        r = backlog_add(to, BL_RECORD, seg, real, size);
        memcpy(r, shared, size);
        r->size = size;
        enqueued(seg, size);
        ring_advance(&seg->map, size);
        n++;
    }
    c->waiting_bytes += seg->waiting.bytes - waited;
    ring_release(&seg->map, now);
    if (seg->map.fresh) { /* for whatever reason: its writers can wake us from now on */
        seg->map.fresh = false;
        c->nap_count = UINT_MAX;
    }
    look_into_stall(seg, now);
    return n;
}

/* The busiest program fills its ring from silence in some 12 ms (2 MiB, an open and a close in 2 us), and whoever looks
 * may have to wait for a CPU. */
#define LOOK_MAX_NS (5 * MS)
/* Where a writer wakes us that has filled a part of it (segments_nap()): how old what is told may get. */
#define LOOK_NAP_NS (10 * MS)
#define QUIET_NS (1000 * MS) /* then it is cheaper to be woken */

/* How soon to look again, by how much was there: at least once a millisecond where a good part of the ring fills
 * meanwhile. Each look takes a CPU away from somebody: where we are woken in time, it is only to be sooner than that,
 * which costs the writer a system call, and soon enough for who watches. */
static void schedule(struct segment *seg, uint64_t now, uint64_t cells)
{
    const bool naps = seg->naps && __atomic_load_n(&segment_hdr(&seg->map)->wakes, __ATOMIC_RELAXED);
    /* Records without time get that of the look. */
    const bool timed = seg->map.info.clock == SEG_CLOCK_TSC;
    const uint64_t ring = seg->map.ring_cells, most = naps && timed ? LOOK_NAP_NS : LOOK_MAX_NS;

    if (cells > (naps ? SEG_NAP_CELLS : ring / 16))
        seg->interval = cells > ring / 4 ? MS : seg->interval / 2;
    else if (cells < (naps ? SEG_NAP_CELLS / 3 : ring / 64))
        seg->interval *= 2;
    seg->interval = seg->interval < MS ? MS : seg->interval > most ? most : seg->interval;
    seg->next_poll = now + seg->interval;
}

/* What a ring holds that isn't looked at yet is left there as long as its writers have room. */
static bool is_filling(const struct segment *seg)
{
    return segment_head(&seg->map) - seg->map.ring.pos > seg->map.ring_cells / 4;
}

struct round {
    uint64_t now, real, records;
    unsigned guests, users;   /* that have something to tell */
    struct segment *cut;      /* the first guest for which there was no room at all */
    bool all;
};

static void count_guest(struct collector *c, struct round *r, struct guest_user *u)
{
    r->guests++;
    if (u->round != c->drain_round) {
        u->busy = u->seen;
        u->seen = 0;
        u->round = c->drain_round;
        r->users++;
    }
    u->seen++;
}

static void drain_range(struct collector *c, struct round *r, struct segment *seg, const struct segment *end)
{
    for (; seg != end; seg = seg->next) {
        uint64_t from = seg->map.ring.pos;

        if (seg->guest && seg->queued)
            count_guest(c, r, seg->user);
        if (seg->broken || (seg->held ? !is_filling(seg) : !r->all && seg->next_poll > r->now))
            continue;
        r->records += drain(c, seg, r->now, r->real, false);
        if (seg->map.ring.pos != from)
            seg->busy_ns = r->now;
        else if (seg->guest && !r->cut && (c->guest_bytes >= GUEST_BYTES || (c->opt && c->opt->host && !has_room(c, seg))))
            r->cut = seg;
        schedule(seg, r->now, seg->map.ring.pos - from);
    }
}

static uint64_t drain_awake(struct collector *c, bool all)
{
    struct round r = {.now = clock_now_mono(), .real = clock_now_real(), .all = all};
    struct segment *first = c->drain_from;

    c->drain_round++;
    if (first)
        drain_range(c, &r, first, NULL);
    drain_range(c, &r, c->segments, first);
    c->drain_from = r.cut;
    c->busy_guests = r.guests;
    c->busy_users = r.users;
    return r.records;
}

uint64_t segments_drain(struct collector *c, bool all)
{
    if (all && c->asleep)
        c->rouse_written(c->sleepers);
    return drain_awake(c, all);
}

uint64_t segments_due(const struct collector *c)
{
    uint64_t now = clock_now_mono(), due = 1000 * MS;

    for (const struct segment *seg = c->segments; seg; seg = seg->next) {
        if (seg->broken)
            continue;
        if (seg->held) {
            due = due < 2 * MS ? due : 2 * MS;
            continue;
        }
        if (seg->next_poll <= now)
            return 0;
        if (seg->next_poll - now < due)
            due = seg->next_poll - now;
    }
    return due;
}

bool segment_may_sleep(const struct segment *seg, uint64_t now)
{
    return !seg->held && seg->attached && !seg->search.asked && !seg->search.scan && now - seg->busy_ns >= QUIET_NS && seg->map.base &&
           __atomic_load_n(&segment_hdr(&seg->map)->wakes, __ATOMIC_RELAXED);
}

size_t segments_sleep(struct collector *c, uint32_t *words[], size_t max)
{
    uint64_t now = clock_now_mono();
    size_t count = 0;

    for (const struct segment *seg = c->segments; seg; seg = seg->next)
        if (!seg->broken && (!segment_may_sleep(seg, now) || count++ == max))
            return 0;
    count = 0;
    for (struct segment *seg = c->segments; seg; seg = seg->next) {
        uint32_t *word;

        if (seg->broken)
            continue;
        word = &segment_hdr(&seg->map)->asleep;
        words[count++] = word;
        __atomic_store_n(word, SEG_ASLEEP, ORDER_ASLEEP_SET);
        if (segment_has_news(&seg->map)) { /* or its writer may not have seen that */
            segments_wake(c);
            return 0;
        }
    }
    return count;
}

size_t segments_nap(struct collector *c, uint32_t *words[], size_t max)
{
    uint64_t latest = clock_now_mono() + LOOK_MAX_NS;
    size_t count = 0;

    for (struct segment *seg = c->segments; seg; seg = seg->next) {
        struct segment_header *h = seg->map.base ? segment_hdr(&seg->map) : NULL; /* those wait for their turn */
        bool naps = h && count < max && !seg->broken && !seg->held && __atomic_load_n(&h->wakes, __ATOMIC_RELAXED);

        if (seg->naps && !naps && seg->next_poll > latest) /* there was room for it before, not now: nobody waits for its word */
            seg->next_poll = latest;
        seg->naps = naps;
        if (!naps)
            continue;
        __atomic_store_n(&h->asleep, SEG_NAPPING, __ATOMIC_RELAXED); /* seen soon: the nap is short */
        words[count++] = &h->asleep;
    }
    c->nap_count = c->segment_count;
    return count;
}

void segments_hurry(struct collector *c)
{
    uint64_t latest = clock_now_mono() + LOOK_MAX_NS;

    for (struct segment *seg = c->segments; seg; seg = seg->next) {
        if (seg->map.base && __atomic_load_n(&segment_hdr(&seg->map)->asleep, __ATOMIC_RELAXED) == SEG_AWAKE)
            seg->next_poll = 0;
        else if (seg->naps && seg->next_poll > latest)
            seg->next_poll = latest;
        seg->naps = false; /* until the next nap nobody wakes us */
    }
}

void segments_wake(struct collector *c)
{
    c->nap_count = UINT_MAX; /* over, too */
    for (struct segment *seg = c->segments; seg; seg = seg->next) {
        if (seg->map.base)
            __atomic_store_n(&segment_hdr(&seg->map)->asleep, SEG_AWAKE, __ATOMIC_RELAXED);
        seg->next_poll = 0;
        seg->interval = MS;
        seg->naps = false;
    }
}

/* The last ring that a process has handed over, whether it has come up yet or not; or NULL. */
static struct segment *last_of(struct collector *c, pid_t host_pid)
{
    struct segment *seg = *segments_by_pid(c, host_pid);

    while (seg && seg->host_pid != host_pid)
        seg = seg->pid_next;
    return seg;
}

/* Where the process wrote before (its old image, or its parent's ring): a writer that was interrupted there may still
 * keep some of it from being read, and a ring that waits itself is not read at all. */
static void wait_for(struct collector *c, struct segment *seg)
{
    struct proc *p = proc_by_host_pid(&c->model, seg->host_pid), *parent;
    struct segment *before = last_of(c, seg->host_pid);
    struct pi_stat st;
    uint64_t now = clock_now_mono();

    if (!before && p) {
        before = p->seg;
    } else if (!before) {
        pid_t ppid = (pid_t)seg->map.info.pid == seg->host_pid ? (pid_t)seg->map.info.ppid : 0;

        if (!pi_stat(seg->host_pid, &st)) /* else it is over already */
            ppid = st.ppid;
        before = ppid > 1 ? last_of(c, ppid) : NULL;
        parent = ppid > 1 && !before ? proc_by_host_pid(&c->model, ppid) : NULL;
        if (parent)
            before = parent->seg;
    }
    if (!before || before->broken)
        return;
    if (p && before->owner == p && !before->borrowers && seg->map.info.start == SEG_START_EXEC)
        drain(c, before, now, clock_now_real(), true); /* the exec has ended all its threads */
    seg->after_head = segment_head(&before->map);
    if (before->broken || (before->map.ring.pos >= seg->after_head && !before->waiting.bytes))
        return;
    seg->after = before;
    before->refs++;
    seg->held = true;
    seg->held_until = now + AFTER_NS;
}

/* Whether a ring that its process had before has not come up yet. A forked child's may be put off for long, until its
 * last record in its parent's has been read; the image that it has exec'ed meanwhile must not overtake it. */
static bool has_earlier(struct collector *c, const struct segment *seg)
{
    for (const struct segment *other = *segments_by_pid(c, seg->host_pid); other; other = other->pid_next)
        if (other->id < seg->id && other->host_pid == seg->host_pid && !other->attached)
            return true;
    return false;
}

/* True while it must not be looked at yet. */
bool segment_waits(struct collector *c, struct segment *seg)
{
    struct segment *before = seg->after;
    bool again;

    if (!c->stopping && has_earlier(c, seg))
        return true;
    if (!before)
        return false;
    if (!before->broken && before->listed && (before->map.ring.pos < seg->after_head || before->waiting.bytes) &&
        clock_now_mono() < seg->held_until && seg->waiting.bytes < WAITING_MAX && !c->stopping)
        return true;
    again = before->queued && !c->stopping; /* what was read last stands behind this in the backlog: once more */
    seg->after = NULL;
    segment_unref(c, before);
    return again;
}

void segment_release(struct segment *seg)
{
    seg->held = false;
    seg->c->waiting_bytes -= seg->waiting.bytes;
    backlog_move(&seg->c->backlog, &seg->waiting);
}

/* Of whom nothing is known has ended: it was given by the tool, and can't do much any more. */
static bool is_guest(const struct peer *from)
{
    uid_t uid = from->uid == (uid_t)-1 ? (uid_t)pi_euid(from->pid) : from->uid;

    return uid != 0 && uid != geteuid() && uid != (uid_t)-1;
}

/* Where many users are guests, the last quarter of their places is for those who have few. */
static bool has_his_share(const struct collector *c, uid_t uid)
{
    const unsigned all = SEGMENTS_MAX / 2;
    unsigned own = 0;

    if (!c->opt || !c->opt->host || c->segment_count < all - all / 4)
        return false;
    for (unsigned i = 0; i < PROC_BUCKETS && own < GUEST_SEGMENTS_LEAST; i++)
        for (const struct segment *s = c->segments_by_pid[i]; s; s = s->pid_next)
            own += s->guest && s->uid == uid;
    return own >= GUEST_SEGMENTS_LEAST;
}

/* Why there is no place for another segment; NULL: there is. */
static const char *no_place(struct collector *c, pid_t host_pid, bool guest, uid_t uid)
{
    unsigned part = guest ? 2 : 1, own = 0;

    if (c->segment_count >= SEGMENTS_MAX / part || c->model.proc_count >= PROCS_MAX / part)
        return "too many processes at once";
    if (guest && has_his_share(c, uid))
        return "too many processes of this user at once";
    for (const struct segment *s = guest ? *segments_by_pid(c, host_pid) : NULL; s; s = s->pid_next)
        own += s->host_pid == host_pid;
    return own >= GUEST_SEGMENTS_MAX ? "too many of this process at once" : NULL;
}

/* The rings that whatever led to this may lie in, where there are too many asleep to look at all of them. */
static void rouse_kin(struct collector *c, const struct segment *seg, pid_t host_pid)
{
    pid_t kin[2] = {host_pid, (pid_t)seg->map.info.ppid};
    struct pi_stat st;

    if (!c->asleep)
        return;
    if (!pi_stat(host_pid, &st))
        kin[1] = st.ppid;
    for (unsigned i = 0; i < 2; i++) {
        struct proc *p = kin[i] > 1 ? proc_by_host_pid(&c->model, kin[i]) : NULL;

        if (p && p->seg && p->seg->group)
            c->rouse(p->seg);
    }
}

int segment_attach(struct collector *c, int fd, struct peer *from)
{
    const pid_t host_pid = from->pid;
    struct segment *seg;
    bool guest = is_guest(from);
    const char *why = no_place(c, host_pid, guest, from->uid);
    uint64_t real = clock_now_real(), now;
    int ret = -EMFILE;

    seg = xcalloc(1, sizeof(*seg));
    seg->c = c;
    seg->guest = guest;
    seg->uid = from->uid;
    seg->record_ns = RECORD_NS / 4;
    if (!why)
        ret = segment_open(&seg->map, fd, guest ? 0 : clock_now_mono() + SHORT_NS, &why);
    if (ret) {
        if (may_tell(seg))
            log_warning("process %d can't be observed: its segment: %s", (int)host_pid, why);
        free(seg);
        model_loss(&c->model, NULL, LK_SEGMENT, 1);
        return ret;
    }
    peer_identify(from, &seg->map);
    /* Whatever led to this (its parent's fork, its own exec) lies in rings that must be read first. */
    rouse_kin(c, seg, host_pid);
    drain_awake(c, true);
    if (seg->map.info.start == SEG_START_ATTACH) {
        left_remove(c, host_pid);
    } else if (seg->map.info.start == SEG_START_EXEC && c->opt->host) {
        left_remove(c, host_pid); /* the rules have decided about this program */
    } else if (seg->map.info.start == SEG_START_EXEC &&
               left_begot(c, host_pid, (pid_t)seg->map.info.pid == host_pid ? (pid_t)seg->map.info.ppid : 0)) {
        log_info("process %d was started by one that was detached: it is not observed", (int)host_pid);
        left_add(c, host_pid);
        segment_set_mode(&seg->map, 0);
        segment_unmap(&seg->map);
        free(seg);
        return 0;
    }
    if (guest)
        seg->user = user_ref(c, from->uid);
    now = clock_now_mono();
    seg->id = ++c->last_segment;
    seg->host_pid = host_pid;
    seg->pidfd = from->pidfd;
    from->pidfd = -1;
    seg->refs = 2; /* the list, the entry */
    seg->interval = MS;
    seg->busy_ns = now;
    seg->held = seg->map.info.start == SEG_START_FORK || has_earlier(c, seg);
    seg->held_until = now + HOLD_NS;
    wait_for(c, seg);
    if ((seg->held || seg->map.info.start != SEG_START_EXEC) && !segment_need(&seg->map))
        give_up(c, seg);
    seg->listed = true;
    seg->pid_next = *segments_by_pid(c, host_pid);
    *segments_by_pid(c, host_pid) = seg;
    seg->next = c->segments;
    if (seg->next)
        seg->next->prev = seg;
    c->segments = seg;
    c->segment_count++;
    c->attaching++;
    c->seen_process = true;
    c->alone_since = 0;
    ring_release(&seg->map, now);
    backlog_add(&c->backlog, BL_ATTACH, seg, real, 0);
    return 0;
}

void segment_leave(struct collector *c, struct segment *seg)
{
    uint64_t now = clock_now_mono();

    if (!seg->attached || seg->owner || seg->borrowers || seg->queued || !seg->listed)
        return;
    if (!seg->left_ns)
        seg->left_ns = now;
    if (seg->orphans && now - seg->left_ns < ORPHAN_NS && !c->stopping)
        return;
    if (!seg->broken && (drain(c, seg, now, clock_now_real(), true) || !has_room(c, seg)))
        return; /* something was left: once more when it has been looked at */
    segment_losses(c, seg);
    unlist(c, seg);
}

/* Reads everything that a process that has died may have left. True if nothing of it is missing. */
bool segment_last_words(struct collector *c, struct segment *seg, uint64_t head, uint64_t since)
{
    uint64_t now = clock_now_mono();
    bool alone = !seg->borrowers || (seg->borrowers->dead && !seg->borrowers->borrow_next);

    if (seg->broken)
        return true;
    if (seg->held)
        return now > seg->held_until + HOLD_NS;
    if (seg->words_look != c->model.now_mono) /* once a turn, however many have died */
        drain(c, seg, now, clock_now_real(), false);
    seg->words_look = c->model.now_mono;
    if (seg->broken || seg->map.ring.pos >= head)
        return true;
    /* A record that isn't committed now never will be, unless it is that of a child of which nothing was read yet: the
     * fork is in what was read before. */
    if (alone && !seg->queued && (!seg->owner || (seg->owner->dead && !seg->owner->forks))) {
        drain(c, seg, now, clock_now_real(), true);
        if (seg->broken || seg->map.ring.pos >= head)
            return true;
    }
    return now - since > 2 * RING_PATIENT_MS * MS;
}
