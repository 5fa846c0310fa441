/* SPDX-License-Identifier: Apache-2.0 */
#include "reach/reach.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "inject/worker.h"
#include "reach/jobs.h"
#include "reach/memory.h"
#include "reach/wanted.h"

#define LOOKS_MAX 32 /* one that can't be detached from may start others for ever */
#define POLL_MS 2
#define OTHERS_MS 300 /* for another that detaches from the same process, as reach does without rules */
#define AGAIN_MS 500
#define ANSWER_MS 12000u  /* so long they are asked again whose memory doesn't answer; whom memory.h shuns, too */
#define LEAVE_MS 300000u  /* for all of it, whatever they do that are to be left */
#define LATE_USERS 64

struct one {
    pid_t pid; /* 0: dealt with */
    uid_t user;
};

struct found {
    struct one *v;
    size_t count;
};

struct leave {
    const struct reach_args *args;
    int proc;
    struct memory *memory;
    struct jobs *jobs;
    uint64_t began_ms;
    struct found now, failed; /* observed by this collector; could not be detached from, and not tried again */
    struct found silent;      /* whose memory didn't answer at the last look */
    uid_t late[LATE_USERS];     /* whose processes took all the time that there is for one */
    size_t late_count;
};

static uint64_t now_ms(void)
{
    return worker_now() / 1000000u;
}

static void add(struct found *f, pid_t pid, uid_t user)
{
    f->v = xrealloc(f->v, f->count + 1, sizeof(*f->v));
    f->v[f->count++] = (struct one){pid, user};
}

static bool has(const struct found *f, pid_t pid)
{
    for (size_t i = 0; i < f->count; i++)
        if (f->v[i].pid == pid)
            return true;
    return false;
}

/* 1: by this collector, 0: not, or -errno: it doesn't say. */
static int is_observed(struct leave *l, pid_t pid)
{
    enum memory_probe how;
    const char *socket;
    int rc = memory_probe(l->memory, pid, &how, &socket);

    return rc == -ESRCH ? 0 : rc < 0 ? rc : how != MEMORY_NO_PROBE && strcmp(socket, l->args->socket) == 0;
}

/* True if there are some, or may be. */
static bool find(struct leave *l)
{
    DIR *d = opendir(l->args->proc);
    struct dirent *e;

    l->now.count = l->silent.count = 0;
    while (d && (e = readdir(d))) {
        pid_t pid = (pid_t)strtol(e->d_name, NULL, 10);
        int is;

        if (!isdigit((unsigned char)*e->d_name) || pid <= 0 || pid == getpid() || has(&l->failed, pid))
            continue;
        is = is_observed(l, pid);
        if (is)
            add(is < 0 ? &l->silent : &l->now, pid, memory_user(l->proc, pid));
    }
    if (d)
        closedir(d);
    return l->now.count || l->silent.count;
}

static void say(pid_t pid, const char *why)
{
    struct buf b = BUF_INIT;

    buf_visible(&b, why, strlen(why));
    fprintf(stderr, "scope: can't detach from pid %d: %s\n", (int)pid, buf_cstr(&b));
    buf_free(&b);
}

static void has_failed(struct leave *l, pid_t pid, uid_t user, const char *why)
{
    say(pid, why);
    add(&l->failed, pid, user);
}

static bool is_late(const struct leave *l, uid_t user)
{
    for (size_t i = 0; i < l->late_count; i++)
        if (l->late[i] == user)
            return true;
    return false;
}

/* Starts as many as there is room for: how many there are still to be started. */
static size_t start_some(struct leave *l)
{
    bool over = now_ms() - l->began_ms > LEAVE_MS;
    size_t left = 0;

    for (size_t i = 0; i < l->now.count; i++) {
        struct one *o = &l->now.v[i];
        int rc;

        if (!o->pid)
            continue;
        if (over || is_late(l, o->user)) {
            has_failed(l, o->pid, o->user, over ? "there was no time left for it" : "another process of its user took too long");
            o->pid = 0;
            continue;
        }
        rc = jobs_start(l->jobs, &(struct job_order){.kind = JOB_DETACH, .pid = o->pid, .user = o->user}, NULL);
        if (rc < 0 && jobs_running(l->jobs)) {
            left++;
            continue;
        }
        if (rc < 0) /* no process can be made, or what was tried before hangs in the kernel */
            has_failed(l, o->pid, o->user, strerror(-rc));
        o->pid = 0;
    }
    return left;
}

/* Detaches from all that were found. */
static void detach_all(struct leave *l)
{
    struct job_order order;
    struct job_result got;
    void *owner;

    while (start_some(l) || jobs_running(l->jobs)) {
        if (now_ms() - l->began_ms > LEAVE_MS + OTHERS_MS)
            return; /* what runs still is killed */
        while (jobs_next(l->jobs, &order, &got, &owner)) {
            if (got.rc == 0 || got.rc == -ESRCH)
                continue;
            poll(NULL, 0, OTHERS_MS);
            if (got.rc == -ETIMEDOUT && order.user != 0 && l->late_count < LATE_USERS)
                l->late[l->late_count++] = order.user;
            if (is_observed(l, order.pid))
                has_failed(l, order.pid, order.user, got.why);
        }
        poll(NULL, 0, POLL_MS);
    }
}

int reach_leave_all(const struct reach_args *args)
{
    struct leave l = {.args = args, .proc = open(args->proc, O_PATH | O_DIRECTORY | O_CLOEXEC), .began_ms = now_ms()};
    int count;

    if (l.proc < 0)
        return -errno;
    l.memory = memory_new(l.proc);
    l.jobs = jobs_new(args->socket, args->lib, args->plans, l.proc);
    for (int i = 0; i < LOOKS_MAX && find(&l); i++) {
        if (l.now.count)
            detach_all(&l);
        else if (now_ms() - l.began_ms > ANSWER_MS)
            break;
        else
            i--, poll(NULL, 0, AGAIN_MS);
    }
    jobs_free(l.jobs);
    memory_free(l.memory);
    if (l.silent.count)
        fprintf(stderr, "scope: the memory of %zu process%s, pid %d%s, doesn't answer: whether %s observed isn't known\n",
                l.silent.count, l.silent.count == 1 ? "" : "es", (int)l.silent.v[0].pid, l.silent.count == 1 ? "" : " and others",
                l.silent.count == 1 ? "it is" : "they are");
    count = (int)(l.now.count + l.failed.count);
    free(l.now.v);
    free(l.failed.v);
    free(l.silent.v);
    close(l.proc);
    return count;
}
