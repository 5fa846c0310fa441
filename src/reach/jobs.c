/* SPDX-License-Identifier: Apache-2.0 */
#include "reach/jobs.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "inject/attach.h"
#include "inject/worker.h"
#include "reach/wanted.h"

#define TIME_MAX (UINT64_C(60) * 1000000000u)  /* planning a large program takes seconds */
#define DEATH_MAX (UINT64_C(2) * 1000000000u)

struct running {
    pid_t worker;          /* 0: the place is free */
    int result;            /* pipe */
    uint64_t since, killed; /* CLOCK_MONOTONIC ns; killed 0: not yet */
    bool lost;
    struct job_order order;
    void *owner;
};

struct jobs {
    const char *socket, *lib, *plans;
    int proc;
    struct running v[JOBS_PLACES];
};

struct jobs *jobs_new(const char *socket, const char *lib, const char *plans, int proc)
{
    struct jobs *j = xcalloc(1, sizeof(*j));

    j->socket = socket;
    j->lib = lib;
    j->plans = plans;
    j->proc = proc;
    return j;
}

/* --- in the worker --- */

/* Whether an active probe is there, and whether it has joined this collector. */
static bool has_probe(pid_t pid, const char *socket, bool *ret_ours)
{
    struct process_probe probe;
    struct process_maps m;
    bool found;

    *ret_ours = false;
    if (process_maps(pid, &m) < 0)
        return false;
    found = process_find_probe(pid, &m, &probe, NULL);
    process_maps_free(&m);
    if (found) {
        probe.probe.socket[sizeof(probe.probe.socket) - 1] = '\0';
        *ret_ours = strcmp(probe.probe.socket, socket) == 0;
    }
    return found;
}

static bool may_pass(int rc)
{
    return rc != -ENOTSUP && rc != -ELIBEXEC && rc != -ENOEXEC && rc != -ELIBBAD && rc != -EPERM && rc != -EACCES;
}

static bool is_another(const struct jobs *j, const struct job_order *o)
{
    return o->signature && wanted_signature(j->proc, o->pid, NULL) != o->signature;
}

static int detach(const struct jobs *j, pid_t pid, char **ret_why)
{
    struct attach_result r;
    int rc = detach_run(pid, j->plans, &r, ret_why);

    return rc == -EALREADY || rc == -ENOENT ? 0 : rc;
}

static int attach(const struct jobs *j, const struct job_order *o, bool *ret_again, char **ret_why)
{
    struct attach_result r = {0};
    struct attach *a;
    bool ours;
    int rc;

    if (has_probe(o->pid, j->socket, &ours)) {
        if (!ours || !o->renew) {
            *ret_again = ours;
            *ret_why = xstrdup("it is observed by a session of its own");
            return -EALREADY;
        }
        rc = detach(j, o->pid, ret_why);
        free(rc < 0 ? NULL : *ret_why);
        if (rc < 0)
            return rc;
        *ret_why = NULL;
    }
    rc = attach_prepare(o->pid, j->plans, o->mode, &a, ret_why);
    if (rc == 0) {
        rc = attach_run(a, j->socket, j->lib, &r, ret_why);
        attach_free(a);
    }
    if (rc == -EALREADY) /* since we looked: its loader has brought a probe, most probably */
        *ret_again = has_probe(o->pid, j->socket, &ours) && ours;
    if (rc == 0 && is_another(j, o)) { /* it may be one that is none of our business */
        char *why = NULL;

        rc = detach(j, o->pid, &why);
        free(why);
        return rc < 0 ? rc : -ESTALE;
    }
    return rc;
}

static void work(const struct jobs *j, const struct job_order *o, int to)
{
    struct job_result r = {0};
    char *why = NULL, *tracer;

    if (is_another(j, o))
        r.rc = -ESTALE;
    else
        r.rc = o->kind == JOB_ATTACH ? attach(j, o, &r.again, &why) : detach(j, o->pid, &why);
    if (r.rc < 0 && r.rc != -EALREADY && r.rc != -ESTALE) {
        tracer = process_tracer(o->pid);
        r.again = tracer || may_pass(r.rc);
        free(tracer);
    }
    snprintf(r.why, sizeof(r.why), "%s", why ? why : r.rc < 0 ? strerror(-r.rc) : "");
    free(why);
    if (write(to, &r, sizeof(r)) != (ssize_t)sizeof(r)) {
        /* Nobody reads it any more. */
    }
}

/* Signals are as a process begins with them. */
static void become_worker(pid_t parent)
{
    sigset_t none;

    setpgid(0, 0); /* with the child that attaches, so that both can be killed */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    signal(SIGTERM, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    signal(SIGCHLD, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* --- outside --- */

unsigned jobs_running(const struct jobs *j)
{
    unsigned n = 0;

    for (size_t i = 0; i < sizeof(j->v) / sizeof(*j->v); i++)
        n += j->v[i].worker && !j->v[i].lost;
    return n;
}

static struct running *free_place(struct jobs *j)
{
    for (size_t i = 0; i < sizeof(j->v) / sizeof(*j->v); i++)
        if (!j->v[i].worker)
            return &j->v[i];
    return NULL;
}

static bool is_slow(const struct running *r, uint64_t now)
{
    return r->worker && now - r->since > JOBS_SLOW_MS * UINT64_C(1000000);
}

bool jobs_room(const struct jobs *j)
{
    const uint64_t now = worker_now();
    unsigned quick = 0;

    for (size_t i = 0; i < sizeof(j->v) / sizeof(*j->v); i++)
        quick += j->v[i].worker && !is_slow(&j->v[i], now);
    return quick < JOBS_MAX && free_place((struct jobs *)j);
}

/* A user can make attaching to its own processes take as long as it likes (a file system that doesn't answer): that
 * shall not be at the cost of others. */
static bool has_room(const struct jobs *j, uid_t user)
{
    const uint64_t now = worker_now();
    unsigned slow = 0, taken = 0;

    for (size_t i = 0; i < sizeof(j->v) / sizeof(*j->v); i++) {
        taken += j->v[i].worker != 0;
        slow += j->v[i].order.user == user && is_slow(&j->v[i], now);
    }
    return user == 0 || (slow < JOBS_SLOW_MAX && taken < JOBS_PLACES - JOBS_ROOM);
}

int jobs_start(struct jobs *j, const struct job_order *order, void *owner)
{
    const pid_t self = getpid();
    struct running *r = free_place(j);
    int pipe[2];

    if (!r || !jobs_room(j) || !has_room(j, order->user))
        return -EAGAIN;
    for (size_t i = 0; i < sizeof(j->v) / sizeof(*j->v); i++)
        if (j->v[i].worker && j->v[i].order.pid == order->pid)
            return -EAGAIN;
    if (pipe2(pipe, O_CLOEXEC | O_NONBLOCK) < 0)
        return -errno;
    *r = (struct running){.result = pipe[0], .since = worker_now(), .order = *order, .owner = owner};
    r->worker = fork();
    if (r->worker == 0) {
        become_worker(self);
        close(pipe[0]);
        work(j, order, pipe[1]);
        _exit(0);
    }
    close(pipe[1]);
    if (r->worker < 0) {
        int rc = -errno;

        close(pipe[0]);
        r->worker = 0;
        return rc;
    }
    setpgid(r->worker, r->worker);
    return 0;
}

void jobs_forget(struct jobs *j, const void *owner)
{
    for (size_t i = 0; i < sizeof(j->v) / sizeof(*j->v); i++)
        if (j->v[i].worker && j->v[i].owner == owner)
            j->v[i].owner = NULL;
}

static void kill_one(const struct running *r)
{
    kill(-r->worker, SIGKILL);
    kill(r->worker, SIGKILL);
}

static void take_result(struct running *r, bool ended, struct job_result *ret)
{
    if (!ended || read(r->result, ret, sizeof(*ret)) != (ssize_t)sizeof(*ret))
        *ret = (struct job_result){.rc = -ETIMEDOUT, .again = ended};
    ret->why[sizeof(ret->why) - 1] = '\0';
    if (!*ret->why && ret->rc < 0)
        snprintf(ret->why, sizeof(ret->why), "%s",
                 r->killed ? "the attempt took longer than 60 seconds" : "the attempt ended before it was done");
}

bool jobs_next(struct jobs *j, struct job_order *ret_order, struct job_result *ret, void **ret_owner)
{
    const uint64_t now = worker_now();

    for (size_t i = 0; i < sizeof(j->v) / sizeof(*j->v); i++) {
        struct running *r = &j->v[i];
        bool ended, was_lost = r->lost;

        if (!r->worker)
            continue;
        ended = waitpid(r->worker, NULL, WNOHANG) == r->worker;
        if (!ended && !r->killed && now - r->since > TIME_MAX) {
            kill_one(r);
            r->killed = now;
        }
        r->lost |= !ended && r->killed && now - r->killed > DEATH_MAX;
        if (!ended && (!r->lost || was_lost))
            continue;
        if (!was_lost) {
            take_result(r, ended, ret);
            *ret_order = r->order;
            *ret_owner = r->owner;
        }
        r->owner = NULL;
        if (ended) {
            close(r->result);
            r->worker = 0;
        }
        if (!was_lost)
            return true;
    }
    return false;
}

void jobs_free(struct jobs *j)
{
    for (size_t i = 0; i < sizeof(j->v) / sizeof(*j->v); i++)
        if (j->v[i].worker) {
            kill_one(&j->v[i]);
            close(j->v[i].result);
        }
    for (size_t i = 0; i < sizeof(j->v) / sizeof(*j->v); i++)
        if (j->v[i].worker && !j->v[i].lost)
            waitpid(j->v[i].worker, NULL, 0);
    free(j);
}
