/* SPDX-License-Identifier: Apache-2.0 */
#include "reach/reach.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "inject/worker.h"
#include "reach/exec_events.h"
#include "reach/jobs.h"
#include "reach/memory.h"
#include "reach/processes.h"
#include "reach/told.h"
#include "reach/wanted.h"
#include "session/session.h"
#include "wire/join.h"

#define JOIN_MS 100u            /* a program that the loader has brought the probe into has joined by then */
#define ASKS_MAX 16             /* at once */
#define ASK_MS 2000u            /* for an answer */
#define PAUSE_MS 500u           /* after the collector did not answer */
#define EXECS_MAX 65536u        /* that wait to be looked at; a power of two */
#define EXECS_TURN 4096         /* read in one go, so that the rest isn't kept waiting */
#define EVENTS_MS 20u           /* between two looks at events, which wait anyway */
#define SCAN_MIN_MS 1000u       /* between two looks through /proc */
#define SCAN_SHARE 20u          /* of the time, at most one part is spent on them */
#define SCAN_FULL_MS 60000u     /* where events tell of everything: for what they could not */
#define SWEEP_MS 2000u          /* looks for those that have ended */
#define TELL_MS 1000u
#define RETRY_MS 1000u          /* doubles each time */
#define RENEW_TRIES 2u          /* then a probe that the collector doesn't know is no longer one that is joining */
#define RETRY_MAX_MS 30000u

struct ask {
    int fd;                     /* -1: free */
    pid_t pid;
    uint64_t until_ms;
};

struct exec {
    pid_t pid;
    uint64_t due_ms;
};

/* What was seen of each process at the last look through /proc, so that only what is new is looked at. */
struct seen {
    struct { pid_t pid; uint64_t signature; } *v;
    size_t slots, count;        /* slots: a power of two */
};

struct reach {
    const struct reach_args *args;
    int proc, events, signals;  /* events -1: scans take their place */
    struct wanted wanted;
    struct processes processes;
    struct jobs *jobs;
    struct memory *memory;
    struct ask asks[ASKS_MAX];
    struct exec *execs;         /* a ring */
    uint32_t exec_head, exec_tail;
    struct seen seen;
    bool rescan;                /* something was lost, or may have come by unseen */
    uint64_t scan_ms, scan_after_ms, scan_full_ms; /* when the last was; when the next may be, and must be */
    uint64_t pause_ms;          /* the collector isn't asked before */
    uint64_t sweep_ms, tell_ms, later_ms, events_ms;
    bool changed;               /* since it was told */
    pid_t checked;              /* the observed process that was asked about last to see whether the collector is anew */
    struct told told;
    bool ending;
};

static uint64_t now_ms(void)
{
    return worker_now() / 1000000u;
}

/* --- what becomes of a process --- */

static void set_state(struct reach *r, struct reached *p, enum reach_state state)
{
    processes_move(&r->processes, p, state);
    r->changed = true;
}

static void drop(struct reach *r, struct reached *p)
{
    jobs_forget(r->jobs, p);
    processes_remove(&r->processes, p);
    r->changed = true;
}

static void later(struct reach *r, struct reached *p, uint64_t due_ms)
{
    p->due_ms = due_ms;
    if (due_ms < r->later_ms)
        r->later_ms = due_ms;
    set_state(r, p, REACH_LATER);
}

static void retry(struct reach *r, struct reached *p, const char *why)
{
    uint64_t wait = RETRY_MS << (p->tries < 6 ? p->tries : 6);

    p->tries++;
    reached_set_reason(p, why);
    later(r, p, now_ms() + (wait < RETRY_MAX_MS ? wait : RETRY_MAX_MS));
}

static void leave_alone(struct reach *r, struct reached *p, const char *why)
{
    reached_set_reason(p, why);
    set_state(r, p, REACH_ALONE);
}

static void is_observed(struct reach *r, struct reached *p, enum reach_state how)
{
    p->tries = 0;
    reached_set_reason(p, NULL);
    set_state(r, p, how);
}

static void remember_exec(struct reach *r, pid_t pid)
{
    if (r->exec_tail - r->exec_head >= EXECS_MAX) {
        r->rescan = true;
        r->told.overflows++;
        return;
    }
    r->execs[r->exec_tail++ & (EXECS_MAX - 1)] = (struct exec){pid, now_ms() + JOIN_MS};
}

/* Looks at a process that may be new, or have executed another program. ready_ms: it is not attached to before. all: also
 * if no rule names it, as the collector may observe it from when one did. */
static void look(struct reach *r, pid_t pid, uint64_t signature, uint64_t ready_ms, bool all)
{
    struct reached *p = processes_find(&r->processes, pid);
    struct subject s = {0};
    uint32_t rule = wanted_process(&r->wanted, r->proc, r->memory, pid, &s);
    char name[16] = "";

    if (!signature && (p || rule != RULES_NONE || all))
        signature = wanted_signature(r->proc, pid, name);
    if (p && p->signature != signature) { /* another program, or another process */
        drop(r, p);
        p = NULL;
    }
    if (p && rule == RULES_NONE && p->subject.exe)
        rule = wanted_subject(&r->wanted, &p->subject); /* its command line may have changed since */
    if (!p && signature && (rule != RULES_NONE || all)) {
        p = processes_add(&r->processes, pid);
        if (!p) {
            r->told.beyond++;
            subject_clear(&s);
            return;
        }
        if (!*name)
            wanted_signature(r->proc, pid, name);
        memcpy(p->name, name, sizeof(p->name));
        p->signature = signature;
        p->user = memory_user(r->proc, pid);
        p->subject = s;
        s = (struct subject){0};
        p->ready_ms = ready_ms;
        r->changed = true;
    } else if (p && all && (p->state != REACH_BUSY && p->state != REACH_ASKED)) { /* the rules have changed */
        if (rule == RULES_NONE && (p->state == REACH_LOADER || p->state == REACH_ATTACHED))
            set_state(r, p, REACH_DETACH);
        else if (p->state != REACH_LOADER && p->state != REACH_ATTACHED)
            set_state(r, p, REACH_ASK);
    }
    if (p)
        p->rule = rule;
    subject_clear(&s);
}

/* --- asking the collector --- */

static void no_answer(struct reach *r)
{
    if (r->told.answers)
        log_warning("the collector does not answer at %s; it is asked again", r->args->socket);
    r->changed |= r->told.answers;
    r->told.answers = false;
    r->pause_ms = now_ms() + PAUSE_MS;
}

/* All that were observed: by a collector that isn't there any more, or that has lost them. */
static void ask_anew(struct reach *r)
{
    static const enum reach_state observed[] = {REACH_LOADER, REACH_ATTACHED};

    log_warning("the collector doesn't know processes that it observed: it was started again");
    for (size_t i = 0; i < sizeof(observed) / sizeof(*observed); i++)
        while (r->processes.by_state[observed[i]].first)
            set_state(r, r->processes.by_state[observed[i]].first, REACH_ASK);
}

/* The collector knows processes. Of one that has executed something where its probe could not tell, and no loader has
 * brought another, it doesn't know yet that nobody observes it any more. */
static int check_probe(struct reach *r, const struct reached *p, enum memory_probe *ret)
{
    return memory_probe(r->memory, p->pid, ret, NULL) == 0 && *ret == MEMORY_NO_PROBE ? -ESRCH : 0;
}

static void answered(struct reach *r, struct reached *p, int status)
{
    const uint64_t now = now_ms();
    enum memory_probe how = MEMORY_NO_PROBE;

    if (status == 0 && p->rule != RULES_NONE)
        status = check_probe(r, p, &how);
    if (p->rule == RULES_NONE) { /* it is to be left if it is observed, and forgotten */
        if (status == 0)
            set_state(r, p, REACH_DETACH);
        else
            drop(r, p);
    } else if (status == 0) {
        is_observed(r, p, how == MEMORY_LOADED ? REACH_LOADER : REACH_ATTACHED);
    } else if (status == -ECANCELED) {
        leave_alone(r, p, "`scope detach` has ended its observation");
    } else if (now < p->ready_ms) {
        later(r, p, p->ready_ms);
    } else {
        set_state(r, p, REACH_ATTACH);
    }
}

static void end_ask(struct reach *r, struct ask *a, int status)
{
    struct reached *p = processes_find(&r->processes, a->pid);
    const bool good = status == 0 || status == -ESRCH || status == -ECANCELED;

    close(a->fd);
    a->fd = -1;
    if (good) {
        r->changed |= !r->told.answers;
        r->told.answers = true;
    } else {
        no_answer(r);
    }
    if (p && (p->state == REACH_LOADER || p->state == REACH_ATTACHED)) { /* check_collector() */
        if (status == -ESRCH && wanted_signature(r->proc, p->pid, NULL) == p->signature)
            ask_anew(r);
        else if (status == -ECANCELED)
            answered(r, p, status);
    } else if (p && p->state == REACH_ASKED) {
        if (good)
            answered(r, p, status);
        else
            set_state(r, p, REACH_ASK);
    }
}

/* False: not now. */
static bool ask(struct reach *r, pid_t pid)
{
    static struct join_request req;
    struct ask *a = r->asks;

    while (a < r->asks + ASKS_MAX && a->fd >= 0)
        a++;
    if (a == r->asks + ASKS_MAX || now_ms() < r->pause_ms)
        return false;
    req = (struct join_request){.type = JOIN_KNOWN, .tid = (uint32_t)pid};
    a->fd = session_send(r->args->socket, &req, NULL, 0, 0);
    if (a->fd < 0) {
        no_answer(r);
        return false;
    }
    a->pid = pid;
    a->until_ms = now_ms() + ASK_MS;
    return true;
}

static void ask_waiting(struct reach *r)
{
    struct reached *p;

    while ((p = r->processes.by_state[REACH_ASK].first) && ask(r, p->pid))
        set_state(r, p, REACH_ASKED);
}

static void read_answers(struct reach *r, const struct pollfd *polled)
{
    const uint64_t now = now_ms();

    for (size_t i = 0; i < ASKS_MAX; i++) {
        if (r->asks[i].fd < 0)
            continue;
        if (polled[i].fd == r->asks[i].fd && polled[i].revents)
            end_ask(r, &r->asks[i], session_answer(r->asks[i].fd, 0));
        else if (now >= r->asks[i].until_ms)
            end_ask(r, &r->asks[i], -ETIMEDOUT);
    }
}

/* --- attaching and detaching --- */

static uint32_t mode_of(const struct reach *r, const struct reached *p)
{
    return ((const struct rules_entry *)(const void *)(r->wanted.rules + 1))[p->rule].mode;
}

static void start_jobs(struct reach *r, enum reach_state state, enum job_kind kind)
{
    struct reached *p = r->processes.by_state[state].first, *behind;

    for (; p && jobs_room(r->jobs); p = behind) {
        struct job_order order = {.kind = kind, .pid = p->pid, .user = p->user, .signature = p->signature, .renew = p->tries >= RENEW_TRIES};

        behind = p->behind;
        if (kind == JOB_ATTACH)
            order.mode = mode_of(r, p);
        if (jobs_start(r->jobs, &order, p) == 0)
            set_state(r, p, REACH_BUSY);
    }
}

static void attached(struct reach *r, struct reached *p, const struct job_result *got)
{
    if (got->rc == 0) {
        log_info("pid %d (%s): attached to", (int)p->pid, p->name);
        r->rescan = true; /* children that it had before may run unobserved */
        if (p->rule == RULES_NONE)
            set_state(r, p, REACH_DETACH);
        else
            is_observed(r, p, REACH_ATTACHED);
        return;
    }
    if (p->rule == RULES_NONE) {
        set_state(r, p, REACH_ASK);
    } else if (got->rc == -EALREADY && !got->again) {
        leave_alone(r, p, got->why);
    } else if (got->rc == -EALREADY) { /* it joins just now, or the collector has lost it */
        retry(r, p, p->tries >= RENEW_TRIES ? "it is observed by a collector that has ended" : NULL);
    } else if (got->again) {
        retry(r, p, got->why);
    } else {
        log_warning("pid %d (%s): can't attach to it: %s", (int)p->pid, p->name, got->why);
        reached_set_reason(p, got->why);
        set_state(r, p, REACH_FAILED);
    }
}

static void detached(struct reach *r, struct reached *p, const struct job_result *got)
{
    if (p->rule != RULES_NONE) { /* it is named again meanwhile */
        set_state(r, p, REACH_ASK);
    } else if (got->rc == 0) {
        log_info("pid %d (%s): detached from, as no rule names it any more", (int)p->pid, p->name);
        drop(r, p);
    } else if (got->again && p->tries < 5) {
        retry(r, p, got->why);
    } else {
        log_warning("pid %d (%s): no rule names it any more, but it can't be detached from: %s", (int)p->pid, p->name,
                    got->why);
        drop(r, p);
    }
}

static void take_results(struct reach *r)
{
    struct job_order order;
    struct job_result got;
    void *owner;

    while (jobs_next(r->jobs, &order, &got, &owner)) {
        struct reached *p = owner;

        if (!p)
            continue;
        r->changed = true;
        if (got.rc == -ESRCH || got.rc == -ESTALE) {
            if (got.rc == -ESTALE)
                remember_exec(r, p->pid);
            drop(r, p);
        } else if (order.kind == JOB_ATTACH) {
            attached(r, p, &got);
        } else {
            detached(r, p, &got);
        }
    }
}

/* --- what begins --- */

static void read_events(struct reach *r)
{
    enum { ROOM = 64 };
    pid_t pids[ROOM];
    int n = ROOM;

    r->events_ms = now_ms() + EVENTS_MS;
    for (size_t count = 0; count < EXECS_TURN && n == ROOM; count += ROOM) {
        n = exec_events_read(r->events, pids, ROOM);
        if (n == -ENOBUFS) {
            r->rescan = true;
            r->told.overflows++;
            r->changed = true;
            n = ROOM;
            continue;
        }
        if (n < 0) {
            log_error("the kernel tells of no programs any more: %s; /proc is looked through instead", strerror(-n));
            close(r->events);
            r->events = -1;
            r->told.by = "scans";
            r->told.why = strerror(-n);
            r->rescan = true;
        }
        if (n <= 0)
            return;
        for (int i = 0; i < n; i++)
            remember_exec(r, pids[i]);
    }
}

static void look_at_execs(struct reach *r)
{
    const uint64_t now = now_ms();

    for (int i = 0; i < EXECS_TURN && r->exec_head != r->exec_tail; i++) {
        struct exec e = r->execs[r->exec_head & (EXECS_MAX - 1)];

        if (e.due_ms > now)
            return;
        r->exec_head++;
        look(r, e.pid, 0, 0, false);
    }
}

static size_t seen_at(const struct seen *s, pid_t pid)
{
    size_t i = (size_t)hash_mix((uint64_t)pid, 1) & (s->slots - 1);

    while (s->v[i].pid && s->v[i].pid != pid)
        i = (i + 1) & (s->slots - 1);
    return i;
}

static void seen_add(struct seen *s, pid_t pid, uint64_t signature)
{
    size_t i;

    if (2 * (s->count + 1) > s->slots) {
        struct seen more = {.slots = s->slots ? 2 * s->slots : 1024};

        more.v = xcalloc(more.slots, sizeof(*more.v));
        for (size_t k = 0; k < s->slots; k++)
            if (s->v[k].pid)
                seen_add(&more, s->v[k].pid, s->v[k].signature);
        free(s->v);
        *s = more;
    }
    i = seen_at(s, pid);
    s->count += !s->v[i].pid;
    s->v[i].pid = pid;
    s->v[i].signature = signature;
}

/* Looks through /proc for what is new, or (all) at everything. */
static void scan(struct reach *r, bool all)
{
    const uint64_t began = now_ms();
    struct seen now = {0};
    int fd = openat(r->proc, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *e;

    r->told.beyond = 0;
    while (d && (e = readdir(d))) {
        pid_t pid = (pid_t)strtol(e->d_name, NULL, 10);
        uint64_t signature;

        if (!isdigit((unsigned char)*e->d_name) || pid <= 0)
            continue;
        signature = wanted_signature(r->proc, pid, NULL);
        if (!signature)
            continue;
        if (all)
            look(r, pid, signature, began + JOIN_MS, true);
        else if (!r->seen.slots || r->seen.v[seen_at(&r->seen, pid)].signature != signature)
            remember_exec(r, pid);
        seen_add(&now, pid, signature);
    }
    if (d)
        closedir(d);
    else if (fd >= 0)
        close(fd);
    free(r->seen.v);
    r->seen = now;
    r->rescan = false;
    r->scan_ms = now_ms();
    r->scan_after_ms = r->scan_ms + (r->scan_ms - began) * SCAN_SHARE;
    if (r->scan_after_ms < r->scan_ms + SCAN_MIN_MS)
        r->scan_after_ms = r->scan_ms + SCAN_MIN_MS;
    r->scan_full_ms = r->scan_ms + SCAN_FULL_MS;
}

static void load_rules(struct reach *r)
{
    int rc = wanted_load(&r->wanted);

    if (rc < 0)
        log_error("%s can't be used: %s; the rules of before stay in force", HOST_RULES_MAPPED,
                  rc == -ESTALE  ? "it was made by another version"
                  : rc == -EINVAL ? "it is damaged"
                                  : strerror(-rc));
    scan(r, true);
    r->changed = true; /* which rules are in force */
}

/* --- from time to time --- */

static void look_again(struct reach *r)
{
    const uint64_t now = now_ms();
    struct reached *p, *behind;

    if (now < r->later_ms)
        return;
    r->later_ms = UINT64_MAX;
    for (p = r->processes.by_state[REACH_LATER].first; p; p = behind) {
        behind = p->behind;
        if (p->due_ms <= now)
            set_state(r, p, REACH_ASK);
        else if (p->due_ms < r->later_ms)
            r->later_ms = p->due_ms;
    }
}

/* One of those that are observed is asked about, each time another: a collector that was started again knows none. */
static void check_collector(struct reach *r)
{
    struct reached *p = r->processes.by_state[REACH_ATTACHED].first;

    if (!p || p->pid == r->checked)
        p = r->processes.by_state[REACH_LOADER].first ? r->processes.by_state[REACH_LOADER].first : p;
    if (!p || !ask(r, p->pid))
        return;
    r->checked = p->pid;
    processes_move(&r->processes, p, p->state);
}

static void sweep(struct reach *r)
{
    for (int state = 0; state < REACH_STATES; state++) {
        struct reached *p = r->processes.by_state[state].first, *behind;

        for (; p; p = behind) {
            behind = p->behind;
            if (kill(p->pid, 0) < 0 && errno == ESRCH)
                drop(r, p);
        }
    }
    check_collector(r);
}

static void tell(struct reach *r)
{
    int rc;

    r->told.unanswered = memory_timeouts(r->memory);
    rc = told_write(HOST_REACH, &r->told, &r->wanted, &r->processes);
    if (rc < 0)
        log_warning("%s can't be written: %s", HOST_REACH, strerror(-rc));
    r->changed = false;
}

static void read_signals(struct reach *r)
{
    struct signalfd_siginfo s;

    while (read(r->signals, &s, sizeof(s)) == (ssize_t)sizeof(s)) {
        if (s.ssi_signo == SIGHUP)
            load_rules(r);
        else if (s.ssi_signo != SIGCHLD)
            r->ending = true;
    }
}

static void no_later_than(uint64_t *at, uint64_t ms)
{
    if (ms < *at)
        *at = ms;
}

/* How long nothing is to be done unless something comes. */
static int timeout(const struct reach *r)
{
    const uint64_t now = now_ms();
    uint64_t at = r->sweep_ms;

    if (r->exec_head != r->exec_tail)
        no_later_than(&at, r->execs[r->exec_head & (EXECS_MAX - 1)].due_ms);
    no_later_than(&at, r->later_ms);
    if (r->events >= 0 && r->events_ms > now)
        no_later_than(&at, r->events_ms);
    no_later_than(&at, r->rescan || r->events < 0 ? r->scan_after_ms : r->scan_full_ms);
    if (r->changed)
        no_later_than(&at, r->tell_ms);
    if (r->processes.by_state[REACH_ASK].first)
        no_later_than(&at, r->pause_ms > now ? r->pause_ms : at);
    for (size_t i = 0; i < ASKS_MAX; i++)
        if (r->asks[i].fd >= 0)
            no_later_than(&at, r->asks[i].until_ms);
    return at <= now ? 0 : (int)(at - now);
}

static void wait_for_something(struct reach *r)
{
    struct pollfd fds[2 + ASKS_MAX];

    fds[0] = (struct pollfd){.fd = r->signals, .events = POLLIN};
    fds[1] = (struct pollfd){.fd = now_ms() < r->events_ms ? -1 : r->events, .events = POLLIN};
    for (size_t i = 0; i < ASKS_MAX; i++)
        fds[2 + i] = (struct pollfd){.fd = r->asks[i].fd, .events = POLLIN};
    if (poll(fds, 2 + ASKS_MAX, timeout(r)) < 0)
        return;
    if (fds[0].revents)
        read_signals(r);
    if (fds[1].revents)
        read_events(r);
    read_answers(r, fds + 2);
}

static void turn(struct reach *r)
{
    uint64_t now;

    wait_for_something(r);
    take_results(r);
    look_at_execs(r);
    look_again(r);
    now = now_ms();
    if (now >= r->sweep_ms) {
        sweep(r);
        r->sweep_ms = now + SWEEP_MS;
    }
    if (now >= (r->rescan || r->events < 0 ? r->scan_after_ms : r->scan_full_ms))
        scan(r, false);
    ask_waiting(r);
    start_jobs(r, REACH_DETACH, JOB_DETACH);
    start_jobs(r, REACH_ATTACH, JOB_ATTACH);
    if (r->changed && now >= r->tell_ms) {
        tell(r);
        r->tell_ms = now_ms() + TELL_MS;
    }
}

/* The numbers of processes there must be those that we know them by. */
static int open_proc(const char *path)
{
    char self[16] = "";
    int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    if (readlinkat(fd, "self", self, sizeof(self) - 1) <= 0 || strtol(self, NULL, 10) != getpid()) {
        close(fd);
        return -EXDEV;
    }
    return fd;
}

static void begin(struct reach *r)
{
    r->events = exec_events_open(r->proc);
    r->told = (struct told){.by = r->events >= 0 ? "events" : "scans", .answers = true};
    if (r->events < 0) {
        r->told.why = strerror(-r->events);
        r->events = -1;
        log_warning("the kernel does not tell which programs begin (%s); /proc is looked through every second", r->told.why);
    }
    for (size_t i = 0; i < ASKS_MAX; i++)
        r->asks[i].fd = -1;
    r->execs = xcalloc(EXECS_MAX, sizeof(*r->execs));
    r->later_ms = UINT64_MAX;
    r->jobs = jobs_new(r->args->socket, r->args->lib, r->args->plans, r->proc);
    r->memory = memory_new(r->proc);
    r->changed = true;
    processes_init(&r->processes);
    load_rules(r);
}

int reach_run(const struct reach_args *args)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGCHLD};
    struct reach r = {.args = args};
    sigset_t set, was;

    r.proc = open_proc(args->proc);
    if (r.proc < 0) {
        log_error("%s: %s", args->proc,
                  r.proc == -EXDEV ? "its numbers aren't those of this pid namespace" : strerror(-r.proc));
        return 1;
    }
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++)
        sigaddset(&set, signals[i]);
    sigprocmask(SIG_BLOCK, &set, &was);
    r.signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (r.signals < 0) {
        log_error("signalfd: %s", strerror(errno));
        close(r.proc);
        return 1;
    }
    begin(&r);
    while (!r.ending)
        turn(&r);
    jobs_free(r.jobs);
    memory_free(r.memory);
    for (size_t i = 0; i < ASKS_MAX; i++)
        if (r.asks[i].fd >= 0)
            close(r.asks[i].fd);
    processes_free(&r.processes);
    wanted_free(&r.wanted);
    free(r.seen.v);
    free(r.execs);
    if (r.events >= 0)
        close(r.events);
    close(r.signals);
    close(r.proc);
    sigprocmask(SIG_SETMASK, &was, NULL);
    return 0;
}
