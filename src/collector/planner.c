/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/planner.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "plan/plan.h"
#include "wire/join.h"

#define WORKERS_MAX 2u
#define JOBS_MAX 1024u
#define WORKER_CPU_S 60
#if defined(__SANITIZE_ADDRESS__)
#define WORKER_BYTES RLIM_INFINITY /* the sanitizer's shadow is address space, too */
#else
#define WORKER_BYTES ((rlim_t)4 << 30)
#endif

struct job {
    struct job *next;
    int sock, image_fd;
    pid_t worker;          /* 0: waits */
    bool trusted, done;
    char key[PLAN_KEY_MAX];
};

struct planner {
    char *dir;
    struct job *jobs;      /* oldest first */
    unsigned running, count;
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

static _Noreturn void work(const struct planner *pl, const struct job *job)
{
    struct rlimit cpu = {WORKER_CPU_S, WORKER_CPU_S}, space = {WORKER_BYTES, WORKER_BYTES}, core = {0, 0};
    int fd;

    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    signal(SIGCHLD, SIG_DFL);
    setrlimit(RLIMIT_CPU, &cpu);
    setrlimit(RLIMIT_AS, &space);
    setrlimit(RLIMIT_CORE, &core);
    fd = plan_cache_get(job->trusted ? pl->dir : NULL, job->image_fd, job->key); /* only the trusted write to the cache */
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
    close(job->sock);
    close(job->image_fd);
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
        if (pl->running >= WORKERS_MAX)
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
        pl->running++;
    }
}

void planner_request(struct planner *pl, int sock, int image_fd, const char key[PLAN_KEY_MAX], bool trusted)
{
    struct job *job, **at = &pl->jobs;
    size_t len = strnlen(key, PLAN_KEY_MAX);

    /* the key becomes a file name */
    if (!len || len == PLAN_KEY_MAX || strspn(key, "0123456789abcdefghijklmnopqrstuvwxyz-") != len ||
        pl->count >= JOBS_MAX) {
        planner_reply(sock, pl->count >= JOBS_MAX ? -EAGAIN : -EINVAL, -1);
        close(sock);
        close(image_fd);
        return;
    }
    job = xcalloc(1, sizeof(*job));
    *job = (struct job){.sock = sock, .image_fd = image_fd, .trusted = trusted};
    memcpy(job->key, key, len);
    while (*at)
        at = &(*at)->next;
    *at = job;
    pl->count++;
    start_jobs(pl);
}

void planner_reap(struct planner *pl)
{
    struct job *job, *next;
    int status;

    for (job = pl->jobs; job; job = next) {
        next = job->next;
        if (job->worker <= 0 || waitpid(job->worker, &status, WNOHANG) != job->worker)
            continue;
        pl->running--;
        if (!WIFEXITED(status) || WEXITSTATUS(status)) {
            log_warning("planning of image %s failed (status %#x)", job->key, (unsigned)status);
            planner_reply(job->sock, -EIO, -1);
        }
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
        struct job *job = pl->jobs;

        if (job->worker > 0) {
            kill(job->worker, SIGKILL);
            waitpid(job->worker, NULL, 0);
        }
        job_free(pl, job);
    }
    free(pl->dir);
    free(pl);
}
