/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/planner.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/closing.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/safe_path.h"
#include "model/clock.h"
#include "collector/kept.h"
#include "collector/peer.h"
#include "inject/launch.h"
#include "plan/plan.h"
#include "wire/join.h"

#define WORKERS_MAX 2u
#define JOBS_MAX 1024u
#define WORKER_CPU_S 60
/* Of guests (door.h), who may have made the image as dear as can be: */
#define GUEST_WORKERS_MAX 3u      /* of different users */
#define GUEST_JOBS_MAX 256u
#define GUEST_PROCESS_JOBS_MAX 4u /* a process asks for one after the other */
#define GUEST_CPU_S 20
/* An image may lie in a file system that doesn't answer, and a guest may stop a process that has become the guest. */
#define WORKER_NS UINT64_C(180000000000)
#define GUEST_NS UINT64_C(30000000000)
#if defined(__SANITIZE_ADDRESS__)
#define WORKER_BYTES RLIM_INFINITY /* the sanitizer's shadow is address space, too */
#define GUEST_BYTES RLIM_INFINITY
#else
#define WORKER_BYTES ((rlim_t)4 << 30)
#define GUEST_BYTES ((rlim_t)1 << 30)
#endif

struct job {
    struct job *next;
    int sock, image_fd;
    struct peer from;      /* pidfd: a copy */
    pid_t worker;          /* 0: waits */
    uint64_t since;        /* CLOCK_MONOTONIC ns: that it runs */
    bool trusted;
    char key[PLAN_KEY_MAX];
};

struct planner {
    char *dir;
    struct job *jobs;      /* oldest first */
    unsigned running, count, guests_running, guests; /* running: without guests' */
    struct kept kept;
};

struct planner *planner_new(const char *plan_dir)
{
    struct planner *pl = xcalloc(1, sizeof(*pl));

    pl->dir = xstrdup(plan_dir ? plan_dir : "");
    return pl;
}

int planner_reply(int sock, int32_t status, int fd)
{
    struct join_reply reply = {JOIN_MAGIC, status};
    struct iovec iov = {&reply, sizeof(reply)};
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {{0}};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

    if (fd >= 0) {
        m.msg_control = control.bytes;
        m.msg_controllen = sizeof(control.bytes);
        CMSG_FIRSTHDR(&m)->cmsg_level = SOL_SOCKET;
        CMSG_FIRSTHDR(&m)->cmsg_type = SCM_RIGHTS;
        CMSG_FIRSTHDR(&m)->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), &fd, sizeof(fd));
    }
    if (sendmsg(sock, &m, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
        int err = errno;

        log_debug("an asker didn't wait: %s", strerror(err));
        return -err;
    }
    return 0;
}

/* The program of a process that has no /proc to open it by. */
static int open_exe(pid_t pid)
{
    char path[40];
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static _Noreturn void work(const struct planner *pl, const struct job *job)
{
    const rlim_t seconds = job->trusted ? WORKER_CPU_S : GUEST_CPU_S, bytes = job->trusted ? WORKER_BYTES : GUEST_BYTES;
    struct rlimit cpu = {seconds, seconds}, space = {bytes, bytes}, core = {0, 0};
    /* Only the trusted write to the cache: by a descriptor, as the path begins at one of those that are closed here. */
    int image = job->image_fd, fd, dir = job->trusted && pl->dir ? safe_dir(pl->dir, SAFE_OURS, 0, NULL) : -1;

    /* An image that takes this process over shall find nothing of the collector's in it. */
    log_setup(stderr, LOGL_NONE, NULL);
    launch_close_others((const int[]){job->sock, job->image_fd, job->from.pidfd, dir}, 4);
    if (dir >= 0)
        safe_keep(pl->dir, dir);
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    signal(SIGCHLD, SIG_DFL);
    setrlimit(RLIMIT_CPU, &cpu);
    setrlimit(RLIMIT_AS, &space);
    setrlimit(RLIMIT_CORE, &core);
    fd = job->trusted ? 0 : peer_become(&job->from, job->sock);
    if (fd == 0 && image < 0)
        image = open_exe(job->from.pid);
    if (fd == 0)
        fd = image < 0 ? image : plan_cache_get(dir >= 0 ? pl->dir : NULL, image, job->key);
    planner_reply(job->sock, fd < 0 ? fd : 0, fd);
    _exit(0);
}

static void job_free(struct planner *pl, struct job *job)
{
    struct job **at = &pl->jobs;

    while (*at != job)
        at = &(*at)->next;
    *at = job->next;
    pl->count--;
    pl->guests -= !job->trusted;
    if (job->trusted)
        close(job->sock);
    else
        close_later(job->sock);
    close_later(job->image_fd);
    peer_clear(&job->from);
    free(job);
}

static bool from_cache(struct planner *pl, struct job *job)
{
    int fd = plan_cache_open(pl->dir, job->key);

    if (fd < 0)
        return false;
    planner_reply(job->sock, 0, fd);
    close(fd);
    return true;
}

static bool being_made(const struct planner *pl, const char *key)
{
    for (const struct job *j = pl->jobs; j; j = j->next)
        if (j->worker && j->trusted && !strcmp(j->key, key))
            return true;
    return false;
}

/* One user's plans are made one after the other. */
static bool guest_may_run(const struct planner *pl, const struct job *job)
{
    if (pl->guests_running >= GUEST_WORKERS_MAX)
        return false;
    for (const struct job *j = pl->jobs; j; j = j->next)
        if (j->worker && !j->trusted && j->from.uid == job->from.uid)
            return false;
    return true;
}

static void start_jobs(struct planner *pl)
{
    struct job *job, *next;

    for (job = pl->jobs; job; job = next) {
        next = job->next;
        if (job->worker || being_made(pl, job->key))
            continue;
        if (from_cache(pl, job)) {
            job_free(pl, job);
            continue;
        }
        if (job->trusted ? pl->running >= WORKERS_MAX : !guest_may_run(pl, job))
            continue;
        job->worker = fork();
        if (job->worker == 0)
            work(pl, job);
        if (job->worker < 0) {
            log_warning("can't start a process to plan an image: %s", strerror(errno));
            planner_reply(job->sock, -EAGAIN, -1);
            job_free(pl, job);
            continue;
        }
        job->since = clock_now_mono();
        pl->running += job->trusted;
        pl->guests_running += !job->trusted;
    }
}

/* Whether a process may ask for one more. */
static bool has_room(struct planner *pl, const struct peer *from, bool trusted)
{
    unsigned of_it = 0;

    if (pl->count >= JOBS_MAX || (!trusted && (pl->guests >= GUEST_JOBS_MAX || worker_kept_max(&pl->kept))))
        return false;
    for (const struct job *j = pl->jobs; j && !trusted; j = j->next)
        of_it += j->from.pid == from->pid;
    return of_it < GUEST_PROCESS_JOBS_MAX;
}

void planner_request(struct planner *pl, int sock, int image_fd, const struct peer *from, bool trusted,
                     const char key[PLAN_KEY_MAX])
{
    struct job *job, **at = &pl->jobs;
    size_t len = strnlen(key, PLAN_KEY_MAX);
    int rc = 0;

    /* the key becomes a file name */
    if (!len || len == PLAN_KEY_MAX || strspn(key, "0123456789abcdefghijklmnopqrstuvwxyz-") != len)
        rc = -EINVAL;
    else if (!has_room(pl, from, trusted))
        rc = -EAGAIN;
    if (rc < 0) {
        planner_reply(sock, rc, -1);
        close_later(sock);
        close_later(image_fd);
        return;
    }
    job = xcalloc(1, sizeof(*job));
    *job = (struct job){.sock = sock, .image_fd = image_fd, .from = *from, .trusted = trusted};
    job->from.pidfd = from->pidfd >= 0 ? fcntl(from->pidfd, F_DUPFD_CLOEXEC, 0) : -1;
    memcpy(job->key, key, len);
    while (*at)
        at = &(*at)->next;
    *at = job;
    pl->count++;
    pl->guests += !trusted;
    start_jobs(pl);
}

/* The worker has ended with this status. */
static void end_job(struct planner *pl, struct job *job, int status)
{
    pl->running -= job->trusted;
    pl->guests_running -= !job->trusted;
    if (!WIFEXITED(status) || WEXITSTATUS(status)) {
        if (job->trusted)
            log_warning("planning of image %s failed (status %#x)", job->key, (unsigned)status);
        planner_reply(job->sock, -EIO, -1);
    }
    job_free(pl, job);
}

void planner_reap(struct planner *pl)
{
    struct job *job, *next;
    int status;

    for (job = pl->jobs; job; job = next) {
        next = job->next;
        if (job->worker > 0 && waitpid(job->worker, &status, WNOHANG) == job->worker)
            end_job(pl, job, status);
    }
    start_jobs(pl);
}

/* Its worker is ended, or left to itself if the kernel doesn't let it go. */
static void give_up_job(struct planner *pl, struct job *job)
{
    worker_end(&pl->kept, job->worker);
    pl->running -= job->trusted;
    pl->guests_running -= !job->trusted;
    planner_reply(job->sock, -ETIMEDOUT, -1);
    job_free(pl, job);
}

void planner_sweep(struct planner *pl)
{
    uint64_t now = clock_now_mono();
    struct job *job, *next;

    worker_kept_max(&pl->kept);
    for (job = pl->jobs; job; job = next) {
        struct pollfd p = {.fd = job->sock, .events = POLLRDHUP};
        bool gone = !job->trusted && poll(&p, 1, 0) > 0; /* what trusted ones ask for goes into the cache, for the next time */

        next = job->next;
        if (job->worker > 0 && (gone || now - job->since > (job->trusted ? WORKER_NS : GUEST_NS)))
            give_up_job(pl, job);
        else if (!job->worker && gone)
            job_free(pl, job);
    }
    start_jobs(pl);
}

bool planner_busy(const struct planner *pl)
{
    return pl->jobs != NULL;
}

void planner_free(struct planner *pl)
{
    while (pl->jobs) {
        if (pl->jobs->worker > 0)
            worker_end(&pl->kept, pl->jobs->worker);
        job_free(pl, pl->jobs);
    }
    free(pl->dir);
    free(pl);
}
