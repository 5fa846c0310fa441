/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/tracer.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/closing.h"
#include "base/log.h"
#include "base/mem.h"
#include "model/clock.h"
#include "collector/kept.h"
#include "collector/named.h"
#include "collector/peer.h"
#include "collector/planner.h"
#include "inject/load.h"
#include "inject/yama.h"
#include "wire/join.h"

#define WORKERS_MAX 512u
#define GUEST_WORKERS_MAX 256u /* a process has one at a time */
#define MAIL_US 300u
#define WORKER_NS ((uint64_t)(TRACE_MS + JOIN_WAIT_MS + 2000) * 1000000)
#define TRACE_MS 10000u  /* from the answer until the new image is loaded; then it is let go of */

/* What the worker tells the collector. */
struct shared {
    uint64_t mail;           /* the new image's JOIN_MAIL; 0 again when the collector has taken it */
    bool loaded;             /* there may be some */
    char name[PATH_MAX];     /* of the program, for people */
};

struct job {
    struct job *next;
    int sock;
    pid_t worker, pid;
    uint64_t since;          /* CLOCK_MONOTONIC ns */
    bool trusted;
    struct shared *shared;
};

struct tracer {
    struct job *jobs;
    unsigned running, guests;
    struct kept kept;
};

struct tracer *tracer_new(void)
{
    return xcalloc(1, sizeof(struct tracer));
}

/* --- in the worker --- */

/* A line of /proc/PID/task/TID/status, from behind its name and the tab: false if there is none. */
static bool status_line(pid_t pid, pid_t tid, const char *name, char *buf, size_t size)
{
    char path[64];
    size_t len = strlen(name);
    bool found = false;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/status", (int)pid, (int)tid);
    f = fopen(path, "re");
    while (f && !found && fgets(buf, (int)size, f))
        found = strncmp(buf, name, len) == 0;
    if (f)
        fclose(f);
    if (found)
        memmove(buf, buf + len, strlen(buf + len) + 1);
    return found;
}

/* A thread's number as it sees itself: the last of the line NSpid (proc(5)). 0 if it can't be read. */
static uint64_t inner_tid(pid_t pid, pid_t tid)
{
    char line[512], *last;

    if (!status_line(pid, tid, "NSpid:", line, sizeof(line)))
        return 0;
    last = strrchr(line, '\t');
    return last ? strtoull(last + 1, NULL, 10) : 0;
}

pid_t tracer_thread(pid_t pid, uint32_t tid, unsigned max)
{
    pid_t found = -ESRCH;
    char path[64];
    struct dirent *e;
    DIR *d;

    if (tid && tid <= INT_MAX && inner_tid(pid, (pid_t)tid) == tid)
        return (pid_t)tid;
    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    d = opendir(path);
    while (d && found < 0 && max && (e = readdir(d))) {
        pid_t t = (pid_t)strtol(e->d_name, NULL, 10);

        max -= t > 0;
        if (t > 0 && inner_tid(pid, t) == tid)
            found = t;
    }
    if (d)
        closedir(d);
    return found;
}

/* EPERM means: Yama would allow it if the process asked for it. */
static int refused(pid_t pid, pid_t tid)
{
    char line[64];

    if (status_line(pid, tid, "TracerPid:", line, sizeof(line)) && strtol(line, NULL, 10) != 0)
        return -EBUSY;
    return yama_scope() == YAMA_RELATIVES ? -EPERM : -EACCES;
}

/* Passes on what the new image, which runs by now, leaves behind the probe for the collector, until it has joined. */
static void carry_mail(const struct trace *t, uint64_t addr, struct shared *shared)
{
    const uint64_t none = 0;
    uint64_t mail = 0, carried = 0;

    shared->loaded = true;
    for (unsigned us = 0; us < JOIN_WAIT_MS * 1000; us += MAIL_US) {
        if (trace_read(t, addr, &mail, sizeof(mail)) < 0 || mail == JOIN_MAIL_NONE)
            return;
        if (mail && mail == carried && !__atomic_load_n(&shared->mail, __ATOMIC_ACQUIRE)) {
            if (trace_write(t, addr, &none, sizeof(none)) < 0)
                return;
            carried = 0;
        } else if (mail && mail != carried) {
            carried = mail;
            __atomic_store_n(&shared->mail, mail, __ATOMIC_RELEASE);
        }
        usleep(MAIL_US);
    }
}

/* Until the probe is in the new image: 0, also if no exec came; or -errno. */
static int follow(struct trace *t, struct trace_thread *th, int sock, const struct join_request *req, const char *lib,
                  struct shared *shared)
{
    int ret = trace_until_exec(t, th, sock);
    struct load_told told = {.lib = lib};
    uint64_t mail = 0;
    char link[64];
    ssize_t n;

    if (ret == -ECANCELED || ret == -ESRCH)
        return 0;
    if (ret < 0)
        return ret;
    snprintf(link, sizeof(link), "/proc/%d/exe", (int)t->pid);
    n = readlink(link, shared->name, sizeof(shared->name) - 1);
    if (n > 0)
        shared->name[n] = '\0';
    ret = req->flags & JOIN_F_HOST ? named_by_rules(t, &told) : 0;
    if (ret == -ENOENT) /* then it is nobody's */
        return trace_detach(th) < 0 ? -ESRCH : 0;
    if (ret == 0)
        ret = load_at_exec(t, th, req->flags & JOIN_F_LOADER, &told, &mail);
    if (trace_detach(th) < 0 && ret == 0)
        ret = -ESRCH;
    if (ret == 0)
        carry_mail(t, mail, shared);
    return ret == -ENOEXEC ? 0 : ret; /* another file than the asker saw: it has a loader, or can't be helped */
}

/* Its exit status is what the collector has to tell, 0 or an errno. */
static _Noreturn void work(const struct job *job, const struct peer *from, const struct join_request *req, const char *lib)
{
    struct peer peer = *from;
    struct trace t;
    struct trace_thread th;
    int ret = load_possible(), sock = 0;
    pid_t thread;

    /* Nothing of the collector's is held longer than by itself: its lock, sockets, files. */
    log_setup(stderr, LOGL_NONE, NULL);
    if (dup2(job->sock, sock) < 0 || (peer.pidfd >= 0 && dup2(peer.pidfd, 1) < 0))
        _exit(EBADF);
    peer.pidfd = peer.pidfd >= 0 ? 1 : -1;
    close_range(peer.pidfd >= 0 ? 2 : 1, ~0u, 0);
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    if (ret == 0 && !job->trusted)
        ret = peer_become(&peer, sock);
    trace_init(&t, job->pid, TRACE_MS);
    thread = ret == 0 ? tracer_thread(job->pid, req->tid, UINT_MAX) : 0;
    if (ret == 0)
        ret = thread < 0 ? thread : trace_seize(&th, thread);
    if (ret == 0 && !peer_lives(&peer)) /* another has its number by now; it goes on when we have ended */
        ret = -ESRCH;
    if (ret == -EPERM)
        ret = refused(job->pid, thread);
    if (planner_reply(sock, ret, -1) < 0 || (ret < 0 && !(req->flags & JOIN_F_TELL)))
        _exit(0);
    _exit(ret < 0 ? -ret : -follow(&t, &th, sock, req, lib, job->shared));
}

/* --- in the collector --- */

static void job_free(struct tracer *tr, struct job *job)
{
    struct job **at = &tr->jobs;

    while (*at != job)
        at = &(*at)->next;
    *at = job->next;
    tr->running--;
    tr->guests -= !job->trusted;
    munmap(job->shared, sizeof(*job->shared));
    if (job->trusted) /* who waits for the end of being traced sees it now: the worker has ended */
        close(job->sock);
    else
        close_later(job->sock);
    free(job);
}

static bool has_room(struct tracer *tr, const struct peer *from, bool trusted)
{
    if (tr->running >= WORKERS_MAX || (!trusted && (tr->guests >= GUEST_WORKERS_MAX || worker_kept_max(&tr->kept))))
        return false;
    for (const struct job *job = tr->jobs; job && !trusted; job = job->next)
        if (job->pid == from->pid)
            return false;
    return true;
}

void tracer_request(struct tracer *tr, int sock, const struct peer *from, bool trusted, const char *lib,
                    const struct join_request *req)
{
    struct shared *shared = MAP_FAILED;
    struct job *job;
    int rc = from->pid <= 0 ? -ESRCH : !lib ? -ENOENT : !has_room(tr, from, trusted) ? -EAGAIN : 0;

    if (rc == 0)
        shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        planner_reply(sock, rc < 0 ? rc : -EAGAIN, -1);
        close_later(sock);
        return;
    }
    snprintf(shared->name, sizeof(shared->name), "%.*s", (int)sizeof(req->key), req->key);
    job = xcalloc(1, sizeof(*job));
    *job = (struct job){.next = tr->jobs, .sock = sock, .pid = from->pid, .since = clock_now_mono(), .trusted = trusted,
                         .shared = shared};
    tr->jobs = job;
    tr->running++;
    tr->guests += !trusted;
    job->worker = fork();
    if (job->worker == 0)
        work(job, from, req, lib);
    if (job->worker < 0) {
        log_warning("can't start a process to trace an exec: %s", strerror(errno));
        planner_reply(sock, -EAGAIN, -1);
        job_free(tr, job);
    }
}

void tracer_reap(struct tracer *tr, void (*unseen)(void *ctx, pid_t pid), void *ctx)
{
    struct job *job, *next;
    int status;

    for (job = tr->jobs; job; job = next) {
        next = job->next;
        if (waitpid(job->worker, &status, WNOHANG) != job->worker)
            continue;
        if (WIFEXITED(status) && WEXITSTATUS(status))
            log_warning("process %d starts a program that is not observed: %s: %s", (int)job->pid,
                        load_reason(WEXITSTATUS(status)), job->shared->name);
        else if (WIFSIGNALED(status))
            log_warning("process %d starts a program that is perhaps not observed: its tracer was killed (signal %d): %s",
                        (int)job->pid, WTERMSIG(status), job->shared->name);
        if (status)
            unseen(ctx, job->pid);
        job_free(tr, job);
    }
}

bool tracer_mail(struct tracer *tr, void (*fn)(void *ctx, pid_t pid, uint64_t mail), void *ctx)
{
    bool more = false;

    for (const struct job *job = tr->jobs; job; job = job->next) {
        uint64_t mail = __atomic_load_n(&job->shared->mail, __ATOMIC_ACQUIRE);

        more |= __atomic_load_n(&job->shared->loaded, __ATOMIC_RELAXED);
        if (!mail)
            continue;
        fn(ctx, job->pid, mail);
        __atomic_store_n(&job->shared->mail, 0, __ATOMIC_RELEASE);
    }
    return more;
}

void tracer_sweep(struct tracer *tr)
{
    uint64_t now = clock_now_mono();
    struct job *job, *next;

    worker_kept_max(&tr->kept);
    for (job = tr->jobs; job; job = next) {
        next = job->next;
        if (now - job->since < WORKER_NS)
            continue;
        worker_end(&tr->kept, job->worker);
        job_free(tr, job);
    }
}

bool tracer_busy(const struct tracer *tr)
{
    return tr->jobs != NULL;
}

void tracer_free(struct tracer *tr)
{
    while (tr->jobs) {
        worker_end(&tr->kept, tr->jobs->worker);
        job_free(tr, tr->jobs);
    }
    free(tr);
}
