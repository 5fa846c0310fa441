/* SPDX-License-Identifier: Apache-2.0 */
#include "crash/crash.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "crash/confine.h"
#include "crash/core.h"
#include "crash/look.h"
#include "crash/report.h"
#include "crash/results.h"
#include "crash/unwind.h"
#include "inject/worker.h"

#define MEMORY (UINT64_C(1) << 30) /* of the worker, and beyond the sizes of files for who reads these */
#define WAIT_MS 50                 /* crash_take() */
#define KILLED_NS UINT64_C(100000000) /* one that SIGKILL doesn't end (a file system that doesn't answer) is left alone */
#define GONE_LOOKS 100                /* crash_take(): so many ms it waits for the end of its worker */
/* Bytes of a text: of a program of somebody else, of ours. */
#define TEXT_GUEST_MAX ((rlim_t)16 << 20)
#define TEXT_MAX       ((rlim_t)64 << 20)

enum { FILE_JSON, FILE_TEXT, FILE_CORE, FILES };
static const char *const file_names[FILES] = {"snapshot.json", "backtrace.txt", "core"};

/* From the worker. */
struct message {
    enum crash_step step;
    struct crash_summary summary;
};
_Static_assert(sizeof(struct message) <= PIPE_BUF, "written in one piece");

struct crash_job {
    pid_t worker; /* 0: has ended */
    pid_t left;   /* killed, and hasn't ended: the caller's */
    int fd, dir;
    enum crash_step step;
    bool core, killed;
    uint64_t begun, let_go_by, over_by, killed_ns;
    struct crash_summary summary;
    bool complete;
};

struct work {
    struct crash_cause cause;
    struct crash_wishes wishes;
    unsigned timeout_ms;
    uint64_t over_by;
    int parent;
    int tell, files[FILES];
    struct crash_summary summary;
    struct results *results;
    size_t threads; /* in results */
    pid_t hanging;  /* who was to unwind, and can't be ended; 0: nobody */
};

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* --- in the worker --- */

static void tell(struct work *w, enum crash_step step)
{
    struct message m = {step, w->summary};

    if (write_all(w->tell, &m, sizeof(m)) < 0)
        _exit(1); /* nobody listens any more */
}

__attribute__((format(printf, 2, 3))) static void explain(struct work *w, const char *fmt, ...)
{
    size_t n = strlen(w->summary.why);
    va_list ap;

    if (n && n + 3 < sizeof(w->summary.why))
        n += (size_t)snprintf(w->summary.why + n, sizeof(w->summary.why) - n, "; ");
    va_start(ap, fmt);
    if (n < sizeof(w->summary.why))
        vsnprintf(w->summary.why + n, sizeof(w->summary.why) - n, fmt, ap);
    va_end(ap);
}

static void fail(struct work *w, int error)
{
    w->summary.backtrace_error = error;
    if (w->wishes.core)
        w->summary.core_error = error;
}

/* The process that reads what the program has made, once everything of it is in our memory. Returns its pid. */
static pid_t start_unwinding(struct work *w, const struct look *l, int *ret_done)
{
    uint64_t memory = MEMORY;
    int ends[2], *keep, parent = getpid();
    size_t kept = 0;
    struct stat st;
    pid_t pid;

    w->threads = l->view.thread_count;
    w->results = results_new(w->threads);
    if (!w->results || pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    pid = fork();
    if (pid == 0) {
        keep = xcalloc(l->modules.count + 3, sizeof(*keep));
        keep[kept++] = ends[1];
        keep[kept++] = l->root;
        keep[kept++] = l->perf;
        for (size_t i = 0; i < l->modules.count; i++) {
            keep[kept++] = l->modules.v[i].fd;
            if (l->modules.v[i].fd >= 0 && fstat(l->modules.v[i].fd, &st) == 0)
                memory += (uint64_t)st.st_size;
        }
        /* Its files are read with its rights, root's with nobody's: those that have to be opened still may be named by
         * what it wrote. */
        if (confine_child(parent, keep, kept, memory, w->timeout_ms / 1000 + 1) < 0 ||
            confine_user(l->facts.uid[1], l->facts.gid[1]) < 0 || confine_to_parent(parent) < 0 ||
            confine_calls() < 0)
            _exit(2);
        unwind_all(l, w->results);
        _exit(0);
    }
    close(ends[1]);
    *ret_done = ends[0];
    return pid < 0 ? -errno : pid;
}

static bool panic_is_known(const struct work *w)
{
    return __atomic_load_n(&w->results->panic_known, __ATOMIC_ACQUIRE);
}

/* Until it has ended, or knows whether it is a panic, if that is enough. False: the time is over. */
static bool await_unwinding(const struct work *w, int done, uint64_t until, bool panic)
{
    for (;;) {
        struct pollfd pfd = {.fd = done, .events = POLLIN};
        uint64_t now = now_ns(), left = now < until ? until - now : 0;
        int ms = (int)(left / 1000000 + 1);

        if (panic && panic_is_known(w))
            return true;
        if (poll(&pfd, 1, panic ? 1 : ms) > 0)
            return true;
        if (!left)
            return false;
    }
}

/* Reaps a child within so many ms, as one that waits for a file system isn't ended by SIGKILL either. */
static bool await_end(pid_t pid, int *status, int looks)
{
    for (; looks > 0; looks--) {
        pid_t ended = waitpid(pid, status, __WALL | WNOHANG);

        if (ended > 0 || (ended < 0 && errno != EINTR))
            return true;
        usleep(1000);
    }
    return false;
}

static void end_unwinding(struct work *w, pid_t pid, int done)
{
    bool in_time = await_unwinding(w, done, w->over_by - (w->over_by - now_ns()) / 8, false);
    bool ended;
    int status = 0;

    if (in_time)
        ended = await_end(pid, &status, INT_MAX);
    else
        ended = kill(pid, SIGKILL) == 0 && await_end(pid, &status, GONE_LOOKS);
    close(done);
    if (!ended)
        w->hanging = pid;
    w->summary.hangs = !ended;
    if (!ended)
        explain(w, "reading the program's files took too long, and doesn't end: a file system does not answer");
    else if (!in_time)
        explain(w, "reading names took too long");
    else if (WIFSIGNALED(status))
        explain(w, "reading the program's files ended with signal %d", WTERMSIG(status));
    else if (!w->results->finished)
        explain(w, "the program's files could not be read");
    if (!w->results->finished)
        w->summary.backtrace_error = in_time ? -EIO : -ETIMEDOUT;
}

static void write_core(struct work *w, struct look *l)
{
    uint64_t deadline = l->view.deadline, max = w->wishes.core_max ? w->wishes.core_max : CRASH_CORE_MAX;
    struct core_result r;
    int rc;

    l->view.deadline = w->over_by - (w->over_by - now_ns()) / 4; /* the rest is for the backtrace */
    rc = core_write(&l->view, w->files[FILE_CORE], max, &r);
    l->view.deadline = deadline;
    w->summary.core_error = rc;
    w->summary.core_bytes = r.written;
    if (rc < 0 && !r.size)
        explain(w, "there is no core: %s", rc == -ESRCH ? "no thread stands" : strerror(-rc));
    else if (rc == -EFBIG)
        explain(w, "the core is cut: it may have %llu MiB", (unsigned long long)(max >> 20));
    else if (rc < 0)
        explain(w, "the core is cut: %s", strerror(-rc));
}

static void write_files(struct work *w, const struct look *l)
{
    struct report r = {
        .look = l, .results = w->results, .wishes = &w->wishes, .summary = &w->summary, .time_ns = w->cause.time_ns};
    struct buf text = BUF_INIT;
    rlim_t max = w->wishes.become ? TEXT_GUEST_MAX : TEXT_MAX;
    int rc = 0;

    if (setrlimit(RLIMIT_FSIZE, &(struct rlimit){max, max}) < 0) {
        /* A lower one holds. */
    }
    if (w->wishes.backtrace) {
        report_text(&r, &text);
        rc = write_all(w->files[FILE_TEXT], text.p, text.len);
        buf_reset(&text);
    }
    report_json(&r, &text);
    if (rc == 0)
        rc = write_all(w->files[FILE_JSON], text.p, text.len);
    if (rc < 0) {
        w->summary.backtrace_error = rc;
        explain(w, "a file could not be written: %s", strerror(-rc));
    }
    buf_free(&text);
}

static void refused(struct work *w, int rc)
{
    char *why = NULL;

    fail(w, worker_explain(rc == -EACCES ? -EPERM : rc, w->cause.pid, &why));
    explain(w, "%s", why ? why : "");
    free(why);
}

/* Whether the process is still the one that crashed. */
static bool is_the_one(const struct work *w)
{
    struct pollfd pfd = {.fd = w->wishes.kernel_core};

    return !w->wishes.notes || (poll(&pfd, 1, 0) >= 0 && !(pfd.revents & (POLLHUP | POLLERR | POLLNVAL)));
}

/* All that needs the process has been read. False: of another one, maybe. */
static bool let_go(struct work *w, struct look *l)
{
    bool proven = is_the_one(w);

    look_let_go(l);
    if (w->wishes.notes)
        close(w->wishes.kernel_core); /* else it would stay as long as we do */
    if (!proven) {
        fail(w, -ESRCH);
        explain(w, "the process went away while it was looked at");
    }
    return proven;
}

static void work(struct work *w)
{
    struct look l;
    int rc = w->wishes.become ? w->wishes.become(w->wishes.ctx) : 0, done = -1;
    pid_t unwinding = 0;

    if (rc == 0 && w->wishes.become)
        rc = confine_to_parent(w->parent); /* which the change of the user has undone */
    if (rc < 0) {
        fail(w, rc);
        explain(w, "the rights of the process could not be taken: %s", strerror(-rc));
        return;
    }
    if (!is_the_one(w)) {
        fail(w, -ESRCH);
        explain(w, "the process went away before it was looked at");
        return;
    }
    rc = look_prepare(&l, &w->cause, w->wishes.environment, w->timeout_ms);
    if (rc < 0) {
        refused(w, rc);
        return;
    }
    l.core = w->wishes.core;
    l.notes = w->wishes.notes;
    l.notes_size = w->wishes.notes_size;
    look_stop(&l);
    if (w->wishes.still && w->wishes.still(w->wishes.ctx) < 0) { /* the number is another's, or it has executed something */
        look_finish(&l);
        fail(w, -ESRCH);
        explain(w, "it had died before it could be looked at");
        return;
    }
    if (l.error == -ETIMEDOUT) {
        explain(w, "not all threads could be stopped");
    } else if (l.error < 0) {
        refused(w, l.error);
        if (!w->cause.tid && !l.notes) /* who asked for a snapshot asks for where it stands */
            return;
    }
    if (w->wishes.if_panic) { /* which is to be known before a core is written */
        unwinding = start_unwinding(w, &l, &done);
        if (unwinding < 0 || !await_unwinding(w, done, w->over_by - (w->over_by - now_ns()) * 3 / 4, true) ||
            !w->results->panicked) {
            look_let_go(&l);
            tell(w, CRASH_LET_GO);
            if (unwinding > 0)
                kill(unwinding, SIGKILL);
            return;
        }
        w->summary.panicked = true;
    }
    if (w->wishes.core)
        write_core(w, &l);
    if (!let_go(w, &l)) {
        if (w->wishes.core && ftruncate(w->files[FILE_CORE], 0) < 0)
            explain(w, "its core may be another's");
        return;
    }
    tell(w, CRASH_LET_GO);
    look_finish(&l);
    if (!w->wishes.if_panic)
        unwinding = start_unwinding(w, &l, &done);
    if (unwinding > 0) {
        end_unwinding(w, unwinding, done);
    } else {
        w->summary.backtrace_error = (int)unwinding;
        explain(w, "no process for unwinding: %s", strerror((int)-unwinding));
    }
    report_summary(&l, w->results, &w->summary);
    write_files(w, &l);
}

/* --- the caller's side --- */

static void close_files(const int files[FILES])
{
    for (int i = 0; i < FILES; i++)
        if (files[i] >= 0)
            close(files[i]);
}

/* Made by the caller, whose rights the worker may have given away. */
static int make_files(const struct crash_wishes *wishes, int dir, uid_t owner, gid_t group, int files[FILES])
{
    bool wanted[FILES] = {true, wishes->backtrace, wishes->core};
    int rc = 0;

    for (int i = 0; i < FILES; i++) {
        files[i] = -1;
        if (!wanted[i] || rc < 0)
            continue;
        files[i] = openat(dir, file_names[i], O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (files[i] < 0 || fchmod(files[i], 0600) < 0 ||
            ((owner != geteuid() || group != getegid()) && fchown(files[i], owner, group) < 0))
            rc = -errno;
    }
    return rc;
}

/* Removes those that are empty, or all. */
static void remove_files(int dir, bool all)
{
    struct stat st;

    for (int i = 0; i < FILES; i++)
        if (fstatat(dir, file_names[i], &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) && (all || !st.st_size))
            unlinkat(dir, file_names[i], 0);
}

static void run_worker(struct work *w, int parent)
{
    int keep[FILES + 3];
    size_t n = 0;

    for (int i = 0; i < FILES; i++)
        if (w->files[i] >= 0)
            keep[n++] = w->files[i];
    keep[n++] = w->tell;
    if (w->wishes.notes)
        keep[n++] = w->wishes.kernel_core;
    keep[n++] = w->wishes.keep_fd;
    w->parent = parent;
    prctl(PR_SET_NAME, "scope-crash");
    if (confine_child(parent, keep, n, MEMORY, w->timeout_ms / 1000 + 2) < 0)
        _exit(2);
    work(w);
    tell(w, CRASH_OVER);
    if (w->hanging)
        waitpid(w->hanging, NULL, __WALL);
    _exit(0);
}

struct crash_job *crash_begin(const struct crash_cause *cause, const struct crash_wishes *wishes, int dir, uid_t owner,
                              gid_t group, unsigned timeout_ms)
{
    struct work w = {.cause = *cause, .wishes = *wishes, .timeout_ms = timeout_ms};
    int ends[2] = {-1, -1}, parent = getpid(), rc;
    struct crash_job *job;
    struct timespec ts;

    if (!w.cause.time_ns) {
        clock_gettime(CLOCK_REALTIME, &ts);
        w.cause.time_ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
    }
    rc = make_files(wishes, dir, owner, group, w.files);
    if (rc == 0 && pipe2(ends, O_CLOEXEC) < 0)
        rc = -errno;
    if (rc < 0) {
        for (int i = 0; i < FILES; i++)
            if (w.files[i] >= 0)
                unlinkat(dir, file_names[i], 0);
        close_files(w.files);
        errno = -rc;
        return NULL;
    }
    job = xcalloc(1, sizeof(*job));
    job->begun = now_ns();
    job->over_by = job->begun + (uint64_t)timeout_ms * 1000000;
    job->let_go_by = wishes->core ? job->over_by : job->begun + (uint64_t)timeout_ms * 250000;
    job->core = wishes->core;
    w.over_by = job->over_by;
    w.tell = ends[1];
    job->worker = fork();
    if (job->worker == 0)
        run_worker(&w, parent);
    rc = job->worker < 0 ? -errno : 0;
    close_files(w.files);
    close(ends[1]);
    job->fd = ends[0];
    job->dir = fcntl(dir, F_DUPFD_CLOEXEC, 3);
    if (rc < 0) {
        remove_files(dir, true);
        job->worker = 0;
        crash_free(job);
        errno = -rc;
        return NULL;
    }
    fcntl(job->fd, F_SETFL, O_NONBLOCK);
    return job;
}

int crash_fd(const struct crash_job *job)
{
    return job->fd;
}

pid_t crash_pid(const struct crash_job *job)
{
    return job->worker;
}

/* Texts of the worker end within their bounds, whatever it has been made to say. */
static void take_summary(struct crash_job *job, const struct crash_summary *s)
{
    job->summary = *s;
    if (job->summary.top_count > CRASH_TOP)
        job->summary.top_count = CRASH_TOP;
    for (unsigned i = 0; i < CRASH_TOP; i++) {
        struct crash_frame *f = &job->summary.top[i];

        f->module[sizeof(f->module) - 1] = f->function[sizeof(f->function) - 1] = f->file[sizeof(f->file) - 1] = '\0';
    }
    job->summary.where[sizeof(job->summary.where) - 1] = '\0';
    job->summary.goroutine[sizeof(job->summary.goroutine) - 1] = '\0';
    job->summary.why[sizeof(job->summary.why) - 1] = '\0';
}

/* The worker has ended. */
static void finish(struct crash_job *job, int status)
{
    struct crash_summary *s = &job->summary;

    job->worker = 0;
    job->step = CRASH_OVER;
    if (!job->complete) {
        s->backtrace_error = job->killed ? -ETIMEDOUT : -EIO;
        if (job->core)
            s->core_error = s->backtrace_error;
        if (job->killed)
            snprintf(s->why, sizeof(s->why), "it took too long");
        else if (WIFSIGNALED(status))
            snprintf(s->why, sizeof(s->why), "the process that looked at it was ended by signal %d", WTERMSIG(status));
        else
            snprintf(s->why, sizeof(s->why), "the process that looked at it ended without a word");
    }
    remove_files(job->dir, false);
}

enum crash_step crash_step(struct crash_job *job, struct crash_summary *ret)
{
    struct message m;
    int status;
    pid_t pid;

    while (job->worker && read(job->fd, &m, sizeof(m)) == (ssize_t)sizeof(m)) {
        take_summary(job, &m.summary);
        if (m.step == CRASH_LET_GO && job->step == CRASH_BUSY)
            job->step = CRASH_LET_GO;
        job->complete |= m.step == CRASH_OVER;
    }
    if (job->worker) {
        uint64_t now = now_ns();
        bool gone;

        if (!job->killed && (now > job->over_by || (job->step == CRASH_BUSY && now > job->let_go_by))) {
            job->killed = true;
            job->killed_ns = now;
            kill(job->worker, SIGKILL);
        }
        pid = waitpid(job->worker, &status, WNOHANG | __WALL);
        gone = pid == job->worker || (pid < 0 && errno == ECHILD);
        if (gone || (job->complete && job->summary.hangs) || (job->killed && now - job->killed_ns > KILLED_NS)) {
            while (read(job->fd, &m, sizeof(m)) == (ssize_t)sizeof(m)) { /* its last word, said meanwhile */
                take_summary(job, &m.summary);
                job->complete |= m.step == CRASH_OVER;
            }
            job->left = gone ? 0 : job->worker;
            finish(job, pid == job->worker ? status : 0);
        }
    }
    if (job->step == CRASH_OVER)
        *ret = job->summary;
    return job->step;
}

pid_t crash_free(struct crash_job *job)
{
    pid_t left;

    if (!job)
        return 0;
    left = job->left;
    if (job->worker > 0) {
        left = job->worker;
        kill(left, SIGKILL);
        remove_files(job->dir, false);
    }
    if (job->fd >= 0)
        close(job->fd);
    if (job->dir >= 0)
        close(job->dir);
    free(job);
    return left;
}

int crash_take(const struct crash_cause *cause, const struct crash_wishes *wishes, int dir, unsigned timeout_ms,
               struct crash_summary *ret)
{
    struct crash_job *job = crash_begin(cause, wishes, dir, geteuid(), getegid(), timeout_ms);
    pid_t left;

    if (!job)
        return -errno;
    while (crash_step(job, ret) != CRASH_OVER) {
        struct pollfd pfd = {.fd = crash_fd(job), .events = POLLIN};

        if (poll(&pfd, 1, WAIT_MS) > 0 && pfd.revents & POLLHUP)
            poll(NULL, 0, 1); /* it ends just now */
    }
    left = crash_free(job);
    for (int i = 0; left && i < GONE_LOOKS && waitpid(left, NULL, WNOHANG | __WALL) == 0; i++)
        poll(NULL, 0, 1);
    return ret->backtrace_error;
}
