/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/crashes.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/safe_path.h"
#include "collector/door.h"
#include "collector/guests.h"
#include "collector/kept.h"
#include "collector/peer.h"
#include "collector/segments.h"
#include "collector/state.h"
#include "collector/tracer.h"
#include "crash/crash.h"
#include "crash/words.h"
#include "model/procinfo.h"
#include "report/crash.h"
#include "report/pipeline.h"
#include "sink/flight.h"

#define MS UINT64_C(1000000)
#define SWEEP_NS (100 * MS)       /* places of threads that are gone are looked for */
#define HELD_NS (4000 * MS)       /* a ring that is held isn't waited for any longer */
#define FLUSH_NS (2000 * MS)      /* the journal takes nothing (a full disk): what is in it will do */
#define LIVES_ON_NS (1000 * MS)   /* who has been let go and is there for longer didn't die of it */
#define FLIGHT_CPU_S 5
#if defined(__SANITIZE_ADDRESS__)
#define FLIGHT_BYTES RLIM_INFINITY
#else
#define FLIGHT_BYTES ((rlim_t)1 << 30)
#endif
#define CRASH_DIR "crash"
#define GUEST_THREADS_MAX 1000u   /* among whom one is looked for that calls itself by another number */
#define LOOK_SHARE 20             /* one part in so many of the time may be spent on looking for guests in /proc */

enum stage {
    WAITS,    /* for a worker */
    RUNS,     /* the worker has the process */
    IS_OVER,  /* what is known is known; everything recorded before must be told first */
    COMES_UP, /* ... that is in the backlog */
    FLUSHES,  /* it was told; the journal is being written */
    FLIGHT,   /* the flight record is */
};

struct crash {
    struct crash *next;
    struct crashes *all;
    enum stage stage;
    struct segment *seg;      /* referenced */
    unsigned place;
    bool let_go;
    uint64_t since;           /* CLOCK_MONOTONIC ns: when it was seen; of FLUSHES and FLIGHT, when that began */
    enum crash_kind kind;
    struct crash_cause cause;
    struct crash_wishes wishes;
    uint32_t pid, tid;        /* as the process sees them */
    bool guest;
    struct peer who;          /* that very process; of guests the user that the segment came from, whom the worker becomes */
    char thread[16];
    uint64_t number;          /* of the session's */
    char name[48];            /* of its directory */
    char *path;               /* absolute; NULL: there is none */
    int dir;                  /* -1: none */
    struct crash_job *job;
    struct event *event;
    struct crash_summary sum;
    const char *why;          /* static; why it wasn't looked at; NULL: it was */
    int why_errno;            /* 0: why says it all */
    /* for the flight record, when the process is long gone */
    char *journal;            /* NULL: there is none */
    struct telemetry *tm;
    struct flight flight;
    pid_t writer;
};

struct crashes {
    struct collector *c;
    void (*wake)(void *ctx);
    void *ctx;
    struct crash *list;       /* oldest first */
    unsigned running, guests_running, count;
    unsigned writers, guest_writers;
    unsigned dirs, guest_dirs;
    uint64_t guest_text;      /* bytes of guests' files other than cores */
    uint64_t look;            /* CLOCK_MONOTONIC ns: when the next guest's may be looked for */
    bool looks_wait;          /* one waits for that */
    uint64_t budget[2];       /* of all, of guests: CLOCK_MONOTONIC ns, passes() */
    uint64_t sweep;           /* CLOCK_MONOTONIC ns: when to look for free places */
    uint64_t number;          /* of the last directory */
    uint64_t core_bytes[2];   /* of the cores so far: guests' in [1] */
    int dir;                  /* "crash" in the session's directory; -1: not made yet */
    struct door_log lines;    /* places that made no sense */
    struct kept kept;
};

/* What is known of a segment's places; there is none until one was taken. Freed with the segment. */
struct crash_places {
    uint64_t budget;
    struct {
        pid_t pid, tid;       /* ours, of who has it; 0: unknown */
        uint64_t done_ns;     /* CLOCK_MONOTONIC: when it was let go; 0: it wasn't yet */
    } of[SEG_CRASHES];
};

/* --- budgets --- */

/* Whether one more is allowed: `burst` at once, and one each step_ns. */
static bool passes(uint64_t *budget, uint64_t now, uint64_t step_ns, unsigned burst)
{
    uint64_t at = *budget > now ? *budget : now;

    if (at - now >= burst * step_ns)
        return false;
    *budget = at + step_ns;
    return true;
}

static bool within_budget(struct crashes *cs, const struct segment *seg, uint64_t now)
{
    return (!seg->guest || passes(&cs->budget[1], now, CRASH_GUEST_NS, CRASH_GUEST_BURST)) &&
           passes(&cs->budget[0], now, CRASH_ALL_NS, CRASH_ALL_BURST);
}

/* --- places --- */

static struct seg_crash *place_of(const struct segment *seg, unsigned i)
{
    return &segment_hdr(&seg->map)->crash[i];
}

static void set_state(struct segment *seg, unsigned i, uint32_t state)
{
    uint32_t *at = &place_of(seg, i)->state;

    __atomic_store_n(at, state, __ATOMIC_RELEASE);
    syscall(SYS_futex, at, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* Whether its processes are to be looked at: some configuration says so, and so does that of who writes to it. */
static bool wants_crashes(const struct segment *seg)
{
    const struct proc *p = seg->owner ? seg->owner : seg->borrowers;

    return !seg->broken && p && p->pl && (p->pl->mode & SEG_M_CRASH);
}

static bool thread_is_there(pid_t pid, pid_t tid)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/task/%d", (int)pid, (int)tid);
    return access(path, F_OK) == 0;
}

/* Whether it is more than a zombie, which is its parent's to remove. */
static bool thread_lives(pid_t tid)
{
    struct pi_stat st;

    return pi_stat(tid, &st) == 0 && st.state != 'Z' && st.state != 'X';
}

/* Whether somebody who said before that he is about to die goes on: of who has this place, and of others after a while. */
static bool lives_on(const struct segment *seg, unsigned place, uint64_t now)
{
    for (unsigned i = 0; i < SEG_CRASHES; i++) {
        uint64_t done = seg->crashes->of[i].done_ns;

        if (seg->crashes->of[i].tid && (i == place || (done && now > done && now - done > LIVES_ON_NS)) &&
            thread_lives(seg->crashes->of[i].tid))
            return true;
    }
    return false;
}

/* Those whose threads have died since. */
static void free_places(struct segment *seg)
{
    for (unsigned i = 0; i < SEG_CRASHES; i++) {
        uint32_t state = __atomic_load_n(&place_of(seg, i)->state, __ATOMIC_ACQUIRE);
        const pid_t pid = seg->crashes->of[i].pid, tid = seg->crashes->of[i].tid;

        if (state == CRASH_DONE && (!pid || !thread_is_there(pid, tid)) &&
            __atomic_compare_exchange_n(&place_of(seg, i)->state, &state, CRASH_FREE, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
            seg->crashes->of[i].pid = seg->crashes->of[i].tid = 0; /* which may soon be another's */
    }
}

/* --- who it is --- */

/* The process in the model; NULL: it is gone, or was never known. */
static struct proc *process_of(const struct crash *crash)
{
    struct proc *p = crash->cause.pid ? proc_by_host_pid(&crash->all->c->model, crash->cause.pid) : NULL;

    return p ? p : segment_find(crash->seg, crash->pid, false);
}

/* In the worker, which has none of our descriptors. */
static int become(void *ctx)
{
    return peer_become(&((const struct crash *)ctx)->who, -1);
}

/* In the worker, while its threads stand: an exec gives it another memory, and its number may be another's. */
static int still(void *ctx)
{
    const struct crash *crash = ctx;

    return pi_maps(crash->who.pid, crash->seg->map.ino) && peer_lives(&crash->who) ? 0 : -ESRCH;
}

/* Keeps hold of that very process. NULL; or why it can't be looked at. */
static const char *take_hold(struct peer *who, const struct segment *seg, pid_t pid)
{
    struct pi_ids ids;

    *who = (struct peer){.pid = pid, .uid = seg->map.info.euid, .gid = seg->map.info.egid, .pidfd = pi_pidfd(pid)};
    if (who->pidfd < 0 && who->pidfd != -ENOSYS)
        return who->pidfd == -ESRCH ? "its thread is gone, or never was" : "there is no descriptor left to hold it";
    if (who->pidfd < 0)
        who->pidfd = -1; /* before Linux 5.3 */
    if (!seg->guest || geteuid() != 0)
        return NULL;
    if (who->pidfd < 0 || pi_ids(pid, &ids) || ids.euid != who->uid || ids.egid != who->gid)
        return "its user or group has changed";
    return NULL;
}

/* The worker must have no rights that the process hasn't. */
static void choose_rights(struct crash *crash)
{
    if (crash->guest && geteuid() == 0)
        crash->wishes.become = become;
    crash->wishes.still = still;
    crash->wishes.ctx = crash;
    crash->wishes.keep_fd = crash->who.pidfd;
}

/* --- its directory --- */

static int crash_dir(struct crashes *cs)
{
    const struct session *s = cs->c->opt->session;
    int top;

    if (cs->dir >= 0)
        return cs->dir;
    if (!s)
        return -ENODEV;
    top = safe_dir(s->dir, SAFE_OURS, 0, NULL);
    if (top < 0)
        return top;
    cs->dir = safe_make_dir(top, CRASH_DIR, 0700);
    close(top);
    return cs->dir;
}

static int make_dir(struct crash *crash)
{
    struct crashes *cs = crash->all;
    int dir = crash_dir(cs);

    if (dir < 0)
        return dir;
    if (cs->dirs >= CRASH_DIRS_MAX ||
        (crash->guest && (cs->guest_dirs >= CRASH_GUEST_DIRS_MAX || cs->guest_text >= CRASH_GUEST_TEXT_MAX)))
        return -EDQUOT;
    crash->number = ++cs->number;
    snprintf(crash->name, sizeof(crash->name), "%u-%llu", crash->pid, (unsigned long long)crash->number);
    crash->dir = safe_make_dir(dir, crash->name, 0700);
    if (crash->dir < 0)
        return crash->dir;
    cs->dirs++;
    cs->guest_dirs += crash->guest;
    crash->path = xasprintf("%s/" CRASH_DIR "/%s", cs->c->opt->session->dir, crash->name);
    return 0;
}

static void drop_dir(struct crash *crash)
{
    if (crash->dir >= 0)
        close(crash->dir);
    crash->dir = -1;
    if (crash->path) {
        safe_remove_tree(crash->all->dir, crash->name, NULL);
        crash->all->dirs--;
        crash->all->guest_dirs -= crash->guest;
    }
    free(crash->path);
    crash->path = NULL;
}

/* Bytes of a file of it: on disk, or (a text) in it. */
static uint64_t file_bytes(const struct crash *crash, const char *name, bool on_disk)
{
    struct stat st;

    if (crash->dir < 0 || fstatat(crash->dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return 0;
    return on_disk ? (uint64_t)st.st_blocks * 512 : (uint64_t)st.st_size;
}

/* What the worker has left, whatever it says, or nothing if it was killed. */
static void count_files(struct crash *crash)
{
    struct crashes *cs = crash->all;

    cs->core_bytes[crash->guest] += file_bytes(crash, "core", true);
    if (crash->guest)
        cs->guest_text += file_bytes(crash, "snapshot.json", false) + file_bytes(crash, "backtrace.txt", false);
}

/* --- steps --- */

/* Nobody has looked: whoever else could keep this crash (scope daemon) sees it by this. */
static void not_seen(struct segment *seg, unsigned i)
{
    __atomic_store_n(&place_of(seg, i)->kind, 0, __ATOMIC_RELAXED);
}

static void let_go(struct crash *crash)
{
    if (crash->let_go)
        return;
    crash->let_go = true;
    crash->seg->crashes->of[crash->place].done_ns = clock_now_mono();
    set_state(crash->seg, crash->place, CRASH_DONE);
}

/* Nothing (more) of it is looked at. */
static void give_up(struct crash *crash, const char *why, int err)
{
    crash->why = why;
    crash->why_errno = err;
    if (!crash->let_go)
        not_seen(crash->seg, crash->place);
    let_go(crash);
    drop_dir(crash);
    crash->stage = IS_OVER;
}

static void crash_end(struct crashes *cs, struct crash *crash)
{
    struct crash **at = &cs->list;

    let_go(crash);
    while (*at != crash)
        at = &(*at)->next;
    *at = crash->next;
    cs->count--;
    peer_clear(&crash->who);
    if (crash->guest)
        cs->guest_text += file_bytes(crash, "events.json", false);
    if (crash->dir >= 0)
        close(crash->dir);
    segment_unref(cs->c, crash->seg);
    free(crash->path);
    free(crash->journal);
    free(crash);
}

static void stop_job(struct crash *crash)
{
    struct crashes *cs = crash->all;
    pid_t left;

    if (crash->event)
        event_free(crash->event);
    crash->event = NULL;
    left = crash_free(crash->job);
    if (left > 0)
        worker_end(&cs->kept, left);
    crash->job = NULL;
    count_files(crash);
    cs->running--;
    cs->guests_running -= crash->guest;
}

static void advance(struct crash *crash)
{
    enum crash_step step = crash_step(crash->job, &crash->sum);

    if (step == CRASH_BUSY)
        return;
    if (step == CRASH_OVER && !crash->let_go && crash->sum.backtrace_error)
        not_seen(crash->seg, crash->place);
    let_go(crash);
    if (step != CRASH_OVER)
        return;
    stop_job(crash);
    crash->stage = IS_OVER;
    if (crash->wishes.if_panic && !crash->sum.panicked) {
        drop_dir(crash);
        crash_end(crash->all, crash);
    }
}

static void on_step(evutil_socket_t fd, short what, void *arg)
{
    struct crash *crash = arg;
    struct crashes *cs = crash->all;

    (void)fd;
    (void)what;
    advance(crash);
    cs->wake(cs->ctx);
}

/* NULL: all of the segment's processes are gone, or none is known yet. */
static const struct config *config_of(const struct crash *crash)
{
    const struct proc *p = process_of(crash), *other = crash->seg->owner ? crash->seg->owner : crash->seg->borrowers;

    if (!p || !p->pl)
        p = other;
    return p && p->pl ? p->pl->cfg : NULL;
}

static void start_job(struct crash *crash)
{
    struct crashes *cs = crash->all;
    const struct config *cfg = config_of(crash);
    int rc;

    if (!cfg || !thread_is_there(crash->cause.pid, crash->cause.tid)) {
        give_up(crash, "it had died before it could be looked at", 0);
        return;
    }
    rc = make_dir(crash);
    if (rc == -EDQUOT) {
        give_up(crash, "this session keeps as many crashes as it may", 0);
        return;
    }
    if (rc < 0) {
        give_up(crash, rc == -ENODEV ? "there is no session to keep it in" : "its directory can't be made", rc == -ENODEV ? 0 : -rc);
        return;
    }
    choose_rights(crash);
    crash->wishes.backtrace = true;
    crash->wishes.core = cfg->libscope.snapshot.coredump;
    crash->wishes.core_max = cfg->libscope.snapshot.coremax;
    if (crash->wishes.core && cs->core_bytes[crash->guest] >=
                                  (crash->guest ? CRASH_GUEST_CORES_MAX : CRASH_CORES_MAX) * crash->wishes.core_max) {
        crash->wishes.core = false;
        crash->why = "no core: those of this session take enough room";
    }
    crash->wishes.if_panic = crash->kind == CRASH_EXIT;
    crash->job = crash_begin(&crash->cause, &crash->wishes, crash->dir, geteuid(), getegid(), CRASH_TIMEOUT_MS);
    if (!crash->job) {
        rc = errno;
        give_up(crash, "no process can be started to look at it", rc);
        return;
    }
    peer_clear(&crash->who); /* the worker has it */
    crash->stage = RUNS;
    cs->running++;
    cs->guests_running += crash->guest;
    crash->event = event_new(cs->c->base, crash_fd(crash->job), EV_READ | EV_PERSIST, on_step, crash);
    if (crash->event && event_add(crash->event, NULL)) { /* then turns look */
        event_free(crash->event);
        crash->event = NULL;
    }
}

static void read_name(struct crash *crash)
{
    char path[64];
    ssize_t n;
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/comm", (int)crash->cause.pid, (int)crash->cause.tid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    n = read(fd, crash->thread, sizeof(crash->thread) - 1);
    close(fd);
    crash->thread[n > 0 ? n - (crash->thread[n - 1] == '\n') : 0] = '\0';
}

/* A process that says so, but isn't looked at: what is told of it at its end. */
static void remember(struct segment *seg, uint32_t pid, const char *why)
{
    struct proc *p = segment_find(seg, pid, false);

    if (p)
        p->crash_missed = why;
}

static void refuse(struct crashes *cs, struct segment *seg, unsigned i, uint32_t pid, const char *why)
{
    if (!seg->crashes->of[i].tid || !thread_lives(seg->crashes->of[i].tid)) /* else it still has the place */
        seg->crashes->of[i].pid = seg->crashes->of[i].tid = 0;
    not_seen(seg, i);
    set_state(seg, i, CRASH_DONE);
    remember(seg, pid, why);
    if (door_says(&cs->lines))
        log_warning("process %d says that a thread is about to die: %s", (int)seg->host_pid, why);
}

/* A thread says that it is about to die. `told` is a copy of what it has written. */
static void take(struct crashes *cs, struct segment *seg, unsigned i, const struct seg_crash *told, uint64_t now)
{
    struct crash *crash, **at = &cs->list;
    struct peer who = {.pidfd = -1};
    const char *why;
    pid_t pid, tid;

    if (!passes(&seg->crashes->budget, now, CRASH_EACH_NS, CRASH_EACH_BURST)) {
        refuse(cs, seg, i, told->pid, "there were too many crashes in a short time");
        return;
    }
    if (seg->guest && lives_on(seg, i, now)) {
        refuse(cs, seg, i, told->pid, "a thread that said so before goes on");
        return;
    }
    if (!within_budget(cs, seg, now)) {
        refuse(cs, seg, i, told->pid, "there were too many crashes in a short time");
        return;
    }
    if ((told->kind != CRASH_SIGNAL && told->kind != CRASH_EXIT) ||
        (told->kind == CRASH_SIGNAL && (told->signo <= 0 || told->signo >= _NSIG))) {
        refuse(cs, seg, i, told->pid, "what it has written makes no sense");
        return;
    }
    pid = segment_find_process(seg, told->pid);
    tid = pid <= 0 ? -ESRCH : told->tid ? tracer_thread(pid, told->tid, seg->guest ? GUEST_THREADS_MAX : UINT_MAX) : pid; /* in a sandbox it may not know */
    if (pid <= 0 || tid <= 0) {
        refuse(cs, seg, i, told->pid, "its thread is gone, or never was");
        return;
    }
    why = take_hold(&who, seg, pid);
    if (why) {
        peer_clear(&who);
        refuse(cs, seg, i, told->pid, why);
        return;
    }
    seg->crashes->of[i].pid = pid;
    seg->crashes->of[i].tid = tid;
    seg->crashes->of[i].done_ns = 0;
    crash = xcalloc(1, sizeof(*crash));
    *crash = (struct crash){.all = cs, .stage = WAITS, .seg = seg, .place = i, .since = now, .kind = told->kind,
                            .pid = told->pid, .tid = told->tid, .guest = seg->guest, .who = who, .dir = -1};
    crash->cause = (struct crash_cause){.pid = pid, .tid = tid, .code = told->code, .err = told->err, .addr = told->addr,
                                        .sender = told->sender, .sender_uid = told->sender_uid, .context = told->context,
                                        .time_ns = clock_to_real(&cs->c->model.clock, seg->map.info.clock, told->ticks,
                                                                 clock_now_real())};
    if (told->kind == CRASH_SIGNAL)
        crash->cause.signo = told->signo;
    else
        crash->cause.status = told->status & 0xff;
    read_name(crash);
    seg->refs++;
    while (*at)
        at = &(*at)->next;
    *at = crash;
    cs->count++;
}

static void look(struct crashes *cs, struct segment *seg, uint64_t now)
{
    bool on = wants_crashes(seg);

    for (unsigned i = 0; i < SEG_CRASHES; i++) {
        uint32_t state = __atomic_load_n(&place_of(seg, i)->state, __ATOMIC_ACQUIRE);
        struct seg_crash told;

        if (state != CRASH_TOLD || (!on && !seg->crashes))
            continue;
        if (on && seg->guest && now < cs->look) { /* which they can make long: it waits for an answer meanwhile */
            cs->looks_wait = true;
            continue;
        }
        memcpy(&told, place_of(seg, i), sizeof(told));
        if (!__atomic_compare_exchange_n(&place_of(seg, i)->state, &state, CRASH_SEEN, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
            continue;
        set_state(seg, i, CRASH_SEEN);
        if (!seg->crashes)
            seg->crashes = xcalloc(1, sizeof(*seg->crashes));
        if (on) {
            uint64_t before = clock_now_mono(), after;

            take(cs, seg, i, &told, now);
            after = clock_now_mono();
            if (seg->guest)
                cs->look = after + (after - before) * LOOK_SHARE;
        } else {
            set_state(seg, i, CRASH_DONE);
        }
    }
}

/* A guest that has one, while another user waits. */
static bool another_is_first(const struct crashes *cs, const struct crash *crash)
{
    bool has = false, waits = false;

    for (const struct crash *other = cs->list; other; other = other->next) {
        has |= other->guest && other->stage == RUNS && other->who.uid == crash->who.uid;
        waits |= other->guest && other->stage == WAITS && other->who.uid != crash->who.uid;
    }
    return has && waits;
}

static bool worker_is_free(struct crashes *cs, const struct crash *crash)
{
    return cs->running < CRASH_WORKERS && (!crash->guest || (cs->guests_running < CRASH_GUEST_WORKERS &&
                                                             !another_is_first(cs, crash) && !worker_kept_max(&cs->kept)));
}

/* All that it has recorded will come up before this entry of the backlog. */
static void queue(struct crash *crash, uint64_t now)
{
    struct collector *c = crash->all->c;

    if (crash->seg->held && now - crash->since < HELD_NS && !c->stopping)
        return;
    segments_drain(c, true);
    crash->stage = COMES_UP;
    backlog_add(&c->backlog, BL_CRASH, crash, clock_now_real(), 0);
}

/* --- telling --- */

static void frame_text(const struct crash_frame *f, char *to, size_t size)
{
    int n;

    if (f->function[0])
        n = snprintf(to, size, "%s+0x%llx", f->function, (unsigned long long)f->offset);
    else if (f->module[0])
        n = snprintf(to, size, "0x%llx", (unsigned long long)f->pc);
    else
        n = snprintf(to, size, "0x%llx, which is no code", (unsigned long long)f->pc);
    if (n > 0 && (size_t)n < size && f->file[0])
        n += snprintf(to + n, size - (size_t)n, " at %s:%u", f->file, f->line);
    if (n > 0 && (size_t)n < size && f->module[0]) {
        if (f->function[0])
            n += snprintf(to + n, size - (size_t)n, " in %s", f->module);
        else
            n += snprintf(to + n, size - (size_t)n, " in %s+0x%llx", f->module, (unsigned long long)f->offset);
    }
    if (n > 0 && (size_t)n < size && f->guessed)
        snprintf(to + n, size - (size_t)n, " (guessed)");
}

static bool begins_with_one(const char *text, const char *const *list)
{
    for (; *list; list++)
        if (strncmp(text, *list, strlen(*list)) == 0)
            return true;
    return false;
}

/* Part of how languages give up by themselves, not of what has gone wrong. */
static bool is_giving_up(const struct crash_frame *f)
{
    static const char *const modules[] = {"libc.", "libc-", "ld-musl", "libpthread", "libstdc++", "libgcc_s", NULL};
    static const char *const functions[] = {
        "abort", "raise", "__pthread_kill", "pthread_kill", "tkill", "tgkill", "__GI_", "__assert", "__libc_message", "__fortify_fail",
        "__stack_chk_fail", "std::", "core::", "alloc::", "<", "__cxa_", "__gnu_cxx::", "__cxxabiv1::", "rust_", "__rust", "panic_abort", "runtime.",
        NULL};

    return !f->function[0] || begins_with_one(f->module, modules) || begins_with_one(f->function, functions);
}

/* The frame that says most of where it is: of a fault the innermost one. */
static size_t telling_frame(const struct crash *crash)
{
    bool by_itself = !crash->cause.signo || crash->cause.code == SI_TKILL;

    for (size_t i = 0; by_itself && i < crash->sum.top_count && i < CRASH_TOP; i++)
        if (!is_giving_up(&crash->sum.top[i]))
            return i;
    return 0;
}

/* Why something is missing: what the worker says, or we. */
static const char *missing_text(const struct crash *crash, char *to, size_t size)
{
    const char *worker = crash->sum.why;
    int err = crash->sum.backtrace_error ? crash->sum.backtrace_error : crash->sum.core_error;

    if (crash->why && crash->why_errno)
        snprintf(to, size, "%s: %s", crash->why, strerror(crash->why_errno));
    else if (crash->why)
        snprintf(to, size, "%s%s%s", crash->why, *worker ? "; " : "", worker);
    else if (*worker)
        snprintf(to, size, "%s", worker);
    else if (err)
        snprintf(to, size, "%s: %s", crash->sum.backtrace_error ? "the trace" : "the core", strerror(-err));
    else
        return NULL;
    return to;
}

static size_t list_files(const struct crash *crash, const char *ret[4])
{
    static const char *const names[] = {"snapshot.json", "backtrace.txt", "core"};
    size_t n = 0;

    for (size_t i = 0; i < sizeof(names) / sizeof(*names) && crash->dir >= 0; i++)
        if (faccessat(crash->dir, names[i], F_OK, AT_SYMLINK_NOFOLLOW) == 0)
            ret[n++] = names[i];
    if (crash->journal)
        ret[n++] = "events.json";
    return n;
}

/* For the log. */
static const char *crash_name(const struct crash *crash, char buf[24])
{
    const char *name = sigabbrev_np(crash->cause.signo);

    if (!crash->cause.signo)
        snprintf(buf, 24, "exit status %d", crash->cause.status);
    else if (name)
        snprintf(buf, 24, "SIG%s", name);
    else
        snprintf(buf, 24, "signal %d", crash->cause.signo);
    return buf;
}

/* si_code of sigaction(2): si_pid and si_uid tell who has. */
static bool is_sent(int code)
{
    return code == SI_USER || code == SI_TKILL || code == SI_QUEUE;
}

static void tell(struct crash *crash, struct proc *p)
{
    char texts[CRASH_TOP][400], missing[400], name[24], code[128] = "";
    const char *frames[CRASH_TOP], *files[4];
    const struct crash_summary *sum = &crash->sum;
    struct report_crash r = {
        .signo = crash->cause.signo, .status = crash->cause.status, .code = code, .addr = crash->cause.addr,
        .has_addr = words_has_address(crash->cause.signo, crash->cause.code), .sender = crash->cause.sender,
        .sent = crash->cause.signo && is_sent(crash->cause.code), .sender_uid = crash->cause.sender_uid, .tid = crash->tid, .thread = crash->thread, .where = sum->where, .goroutine = sum->goroutine, .threads = sum->threads,
        .stopped_ns = sum->stopped_ns, .dir = crash->path, .core_bytes = sum->core_bytes,
    };

    if (crash->cause.signo)
        snprintf(code, sizeof(code), "%s%s%s", words_code_name(crash->cause.signo, crash->cause.code),
                 *words_code_name(crash->cause.signo, crash->cause.code) ? ": " : "",
                 words_code(crash->cause.signo, crash->cause.code));
    for (; r.frame_count < sum->top_count && r.frame_count < CRASH_TOP; r.frame_count++) {
        frame_text(&sum->top[r.frame_count], texts[r.frame_count], sizeof(texts[0]));
        frames[r.frame_count] = texts[r.frame_count];
    }
    r.frames = frames;
    r.at = telling_frame(crash);
    r.files = files;
    r.file_count = list_files(crash, files);
    r.missing = missing_text(crash, missing, sizeof(missing));
    report_crash(p, &r, crash->cause.time_ns);
    log_warning("%s[%u] has crashed: %s%s%s%s%s", p->tm.proc ? p->tm.proc : "?", crash->pid, crash_name(crash, name),
                r.frame_count ? " in " : "", r.frame_count ? frames[r.at] : "", r.missing ? ": " : "", r.missing ? r.missing : "");
}

void crashes_reached(struct crashes *cs, struct crash *crash)
{
    struct proc *p = process_of(crash);

    (void)cs;
    crash->since = clock_now_mono();
    crash->stage = FLUSHES;
    if (!p || !p->pl)
        return;
    if (crash->dir >= 0 && p->pl->cfg->event.enable && p->pl->cfg->event.transport.type == CFG_JOURNAL &&
        !p->pl->cfg->cribl.enable)
        crash->journal = xstrdup(p->pl->cfg->event.transport.path);
    crash->tm = p->pl->tm;
    crash->flight = (struct flight){.pid = p->pid, .host_pid = p->tm.host_pid, .from_ns = p->birth_ns};
    p->crash_told = true;
    tell(crash, p);
}

/* Whether one of those that found no place isn't told yet. Which one it was they could not say. */
static bool found_no_place(struct segment *seg)
{
    if (segment_crashes_refused(&seg->map) == seg->refused_seen)
        return false;
    seg->refused_seen++;
    return true;
}

void crashes_ended(struct proc *p, int status, uint64_t time_ns)
{
    struct report_crash r = {.missing = p->crash_missed};

    if (!p->pl || !(p->pl->mode & SEG_M_CRASH) || p->crash_told || !WIFSIGNALED(status) || !report_is_crash(WTERMSIG(status)))
        return;
    r.signo = WTERMSIG(status);
    if (!r.missing)
        r.missing = p->sandboxed ? "no trace: it had entered seccomp, where nothing of ours may act"
                    : !p->seg    ? "no trace: the program wasn't observed any more"
                    : found_no_place(p->seg) ? "no trace: too many crashed at once"
                                 : "no trace: it has died without being able to say so";
    report_crash(p, &r, time_ns);
}

/* --- the flight record --- */

static _Noreturn void write_flight(const struct crash *crash)
{
    struct rlimit cpu = {FLIGHT_CPU_S, FLIGHT_CPU_S}, space = {FLIGHT_BYTES, FLIGHT_BYTES};
    int journal, lines, text;

    log_setup(stderr, LOGL_NONE, NULL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    setrlimit(RLIMIT_CPU, &cpu);
    setrlimit(RLIMIT_AS, &space);
    journal = safe_read(crash->journal);
    lines = safe_create(crash->dir, "events.json", 0600);
    text = openat(crash->dir, "backtrace.txt", O_WRONLY | O_APPEND | O_NOFOLLOW | O_CLOEXEC);
    if (journal < 0 || lines < 0)
        _exit(1);
    _exit(flight_write(journal, &crash->flight, lines, text) < 0);
}

static void start_flight(struct crash *crash)
{
    crash->since = clock_now_mono();
    crash->stage = FLIGHT;
    crash->all->writers++;
    crash->all->guest_writers += crash->guest;
    crash->writer = fork();
    if (crash->writer == 0)
        write_flight(crash);
}

static bool writer_is_free(const struct crash *crash)
{
    const struct crashes *cs = crash->all;

    return cs->writers < CRASH_WRITERS && (!crash->guest || cs->guest_writers < CRASH_GUEST_WRITERS);
}

/* False: it writes on. */
static bool flight_is_over(struct crash *crash, bool wait)
{
    struct crashes *cs = crash->all;

    if (crash->writer > 0 && waitpid(crash->writer, NULL, WNOHANG) == 0) {
        if (wait)
            return false;
        worker_end(&cs->kept, crash->writer);
    }
    cs->writers--;
    cs->guest_writers -= crash->guest;
    return true;
}

/* Its time is over before it was one's turn. */
static void do_without_flight(const struct crash *crash)
{
    if (door_says(&crash->all->lines))
        log_warning("%s has no flight record: too many others have crashed at the same time", crash->name);
}

/* --- a turn --- */

static bool somebody_wants(const struct collector *c)
{
    for (const struct pipeline *pl = c->pipelines.first; pl; pl = pl->next)
        if (pl->mode & SEG_M_CRASH)
            return true;
    return false;
}

static void go_to_flight(struct crash *crash, uint64_t now)
{
    if (writer_is_free(crash)) {
        start_flight(crash);
    } else if (now - crash->since > CRASH_QUEUE_MS * MS) {
        do_without_flight(crash);
        crash_end(crash->all, crash);
    }
}

static void go_on(struct crash *crash, uint64_t now)
{
    struct crashes *cs = crash->all;

    switch (crash->stage) {
    case WAITS:
        if (worker_is_free(cs, crash))
            start_job(crash);
        else if (now - crash->since > CRASH_QUEUE_MS * MS)
            give_up(crash, "too many others have crashed at the same time", 0);
        if (crash->stage == IS_OVER)
            queue(crash, now);
        return;
    case RUNS:
        advance(crash); /* may end it */
        return;
    case IS_OVER:
        queue(crash, now);
        return;
    case COMES_UP:
        return;
    case FLUSHES:
        if (!crash->journal)
            crash_end(crash->all, crash);
        else if (telemetry_flush(crash->tm) || telemetry_stuck(crash->tm) || now - crash->since > FLUSH_NS)
            go_to_flight(crash, now);
        return;
    case FLIGHT:
        if (flight_is_over(crash, now - crash->since < CRASH_FLIGHT_MS * MS))
            crash_end(cs, crash);
        return;
    }
}

void crashes_turn(struct crashes *cs)
{
    uint64_t now;
    bool sweep;

    if (!cs || (!cs->list && !somebody_wants(cs->c)))
        return;
    now = clock_now_mono();
    sweep = now >= cs->sweep;
    if (sweep) {
        cs->sweep = now + SWEEP_NS;
        worker_kept_max(&cs->kept);
    }
    cs->looks_wait = false;
    for (struct segment *seg = cs->c->segments; seg; seg = seg->next) {
        if ((!seg->crashes && !wants_crashes(seg)) || !segment_crashes(&seg->map))
            continue;
        look(cs, seg, now);
        if (sweep && seg->crashes)
            free_places(seg);
    }
    for (struct crash *crash = cs->list, *next; crash; crash = next) {
        next = crash->next;
        go_on(crash, now);
    }
    door_sum(&cs->lines, false);
}

bool crashes_busy(const struct crashes *cs)
{
    return cs && cs->list;
}

bool crashes_wait(const struct crashes *cs)
{
    for (const struct crash *crash = cs ? cs->list : NULL; crash; crash = crash->next)
        if (crash->stage != RUNS)
            return true;
    return cs && cs->looks_wait;
}

bool crashes_hold(const struct crashes *cs, const struct proc *p)
{
    for (const struct crash *crash = cs ? cs->list : NULL; crash; crash = crash->next)
        if (crash->stage < FLUSHES && p->host_pid > 0 && crash->cause.pid == p->host_pid)
            return true;
    return false;
}

/* --- the end --- */

void crashes_finish(struct crashes *cs)
{
    uint64_t until = clock_now_mono() + CRASH_END_MS * MS, now;

    crashes_turn(cs);
    for (;;) {
        struct pollfd fds[CRASH_WORKERS];
        nfds_t n = 0;

        now = clock_now_mono();
        for (struct crash *crash = cs->list, *next; crash; crash = next) {
            next = crash->next;
            if (crash->stage == WAITS)
                give_up(crash, "the session was ended", 0);
            if (crash->stage == RUNS && now >= until) {
                stop_job(crash);
                crash->why = "the session was ended";
                let_go(crash);
                crash->stage = IS_OVER;
            } else if (crash->stage == RUNS && n < CRASH_WORKERS) {
                fds[n++] = (struct pollfd){.fd = crash_fd(crash->job), .events = POLLIN};
            }
        }
        if (!n)
            break;
        poll(fds, n, (int)((until - now) / MS) < 100 ? (int)((until - now) / MS) + 1 : 100);
        for (struct crash *crash = cs->list, *next; crash; crash = next) {
            next = crash->next;
            if (crash->stage == RUNS)
                advance(crash);
        }
    }
    cs->c->stopping = true;
    for (struct crash *crash = cs->list; crash; crash = crash->next)
        if (crash->stage == IS_OVER)
            queue(crash, now);
}

void crashes_last(struct crashes *cs)
{
    uint64_t until = clock_now_mono() + CRASH_FLIGHT_MS * MS;

    while (cs->list) {
        bool in_time = clock_now_mono() < until;

        for (struct crash *crash = cs->list, *next; crash; crash = next) {
            bool wants = crash->stage == FLUSHES && crash->journal;

            next = crash->next;
            if (wants && in_time) {
                if (writer_is_free(crash))
                    start_flight(crash);
                continue;
            }
            if (wants)
                do_without_flight(crash);
            if (crash->stage != FLIGHT || flight_is_over(crash, in_time))
                crash_end(cs, crash);
        }
        if (cs->list)
            usleep(1000);
    }
}

struct crashes *crashes_new(struct collector *c, void (*wake)(void *ctx), void *ctx)
{
    struct crashes *cs = xcalloc(1, sizeof(*cs));

    *cs = (struct crashes){.c = c, .wake = wake, .ctx = ctx, .dir = -1,
                           .lines.what = "crashes were said that could not be looked at"};
    return cs;
}

void crashes_free(struct crashes *cs)
{
    if (!cs)
        return;
    door_sum(&cs->lines, true);
    while (cs->list) {
        if (cs->list->job)
            stop_job(cs->list);
        crash_end(cs, cs->list);
    }
    if (cs->dir >= 0)
        close(cs->dir);
    free(cs);
}
