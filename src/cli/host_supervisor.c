/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The supervisor of a host's collector. It does nothing that can fail on what others send: it has the listening sockets,
 * forks who reads them, and waits. So it can live for as long as the host does, and whoever dies below it comes back.
 * What may take long (starting a program for trial, waiting for the collector's answer) is done by a child, too.
 */
#include "cli/host.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/safe_path.h"
#include "cli/cli.h"
#include "cli/host_notify.h"
#include "cli/host_setup.h"
#include "host/host.h"
#include "inject/launch.h"
#include "reach/reach.h"
#include "rules/rules.h"
#include "wire/join.h"

#define BACK_OFF_MS    1000u  /* before something that has ended is started again; doubled each time ... */
#define BACK_OFF_MAX   60000u /* ... up to this */
#define GOOD_LIFE_MS   60000u /* who lived as long is started again at once as if it had never failed */
#define CHECK_MS       60000u /* between two looks at ld.so.preload */
#define SETTLE_MS      100u   /* from a change of a file to reading it: an editor may not have finished */
#define RELOAD_MS      10000u /* for the collector to answer */
#define END_MS         30000u /* for the collector to write what it has */
#define BACKLOG        4096
#define NEVER          UINT64_MAX
#define WHY_MAX        2000u
#define LOG_MAX        ((off_t)16 << 20) /* looked at with ld.so.preload, each minute */

/* The collector, or reach. */
struct worker {
    const char *name;
    int (*run)(void *s);
    pid_t pid;         /* 0: it isn't running */
    uint64_t since;    /* when it was started, in ms */
    uint64_t due;      /* when it is to be started; NEVER while it runs or isn't wanted yet */
    unsigned delay;
};

/* A child that does one thing and tells what came of it: 0, or 1 and why. */
struct task {
    pid_t pid;
    int fd;
    uint64_t due; /* when to do it next */
};

struct supervisor {
    struct worker collector, reach;
    struct task check, reload;
    int listen_fd, request_fd, signal_fd, inotify_fd, ready_fd /* of the collector, while it isn't ready */;
    int ready_end; /* the collector's end of it, in the collector */
    uint64_t rules_due, watchdog_due;
    bool told_ready, stop;
    bool no_reach; /* `scope stop` leaves programs: nobody may attach to them meanwhile */
    char *lib, *plans;
    struct host_status status;
};

static uint64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / 1000000u;
}

static uint64_t monotonic_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

/* --- what is told --- */

static void replace(char **to, char *text)
{
    free(*to);
    *to = text;
}

static void tell(struct supervisor *s)
{
    const struct host_status *h = &s->status;

    s->status.pid = getpid();
    s->status.collector = s->collector.pid;
    s->status.reach = s->reach.pid;
    if (host_status_write(h) < 0)
        log_warning(HOST_STATUS " can't be written");
    if (h->preload_error)
        notify("STATUS=ld.so.preload: our line was taken out: %.900s", h->preload_error);
    else if (h->rules_error)
        notify("STATUS=the rules in force are those from before: %.900s", h->rules_error);
    else if (!h->ready)
        notify("STATUS=the collector is being started");
    else
        notify("STATUS=%u rule%s in force", h->rules, h->rules == 1 ? "" : "s");
}

/* --- sockets --- */

static bool is_socket(int fd, const char *path)
{
    struct sockaddr_un addr = {0};
    socklen_t len = sizeof(addr), n = sizeof(int);
    int type = 0, listening = 0;

    return getsockname(fd, (struct sockaddr *)&addr, &len) == 0 && addr.sun_family == AF_UNIX &&
           strncmp(addr.sun_path, path, sizeof(addr.sun_path)) == 0 &&
           getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) == 0 && type == SOCK_SEQPACKET &&
           getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &n) == 0 && listening;
}

static int make_socket(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), rc = 0;
    mode_t mask = umask(0111);

    memcpy(addr.sun_path, path, strlen(path) + 1);
    /* Of one before us, which has ended: we hold the lock, and only root can have put something there. */
    if (fd >= 0 && unlink(path) < 0 && errno != ENOENT)
        rc = -errno;
    if (fd < 0 || (rc == 0 && (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, BACKLOG) < 0)))
        rc = -errno;
    umask(mask);
    if (rc == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return rc;
}

static int take_sockets(struct supervisor *s)
{
    static const char *const paths[] = {HOST_SOCKET, HOST_SOCKET JOIN_REQUESTS};
    int *fds[] = {&s->listen_fd, &s->request_fd};
    int given = notify_sockets();

    for (size_t i = 0; i < 2; i++) {
        for (int fd = 3; fd < 3 + given; fd++)
            if (is_socket(fd, paths[i]))
                *fds[i] = fd;
        if (*fds[i] < 0 && given) {
            log_error("none of the %d sockets that were passed is %s", given, paths[i]);
            return -EINVAL;
        }
        if (*fds[i] < 0)
            *fds[i] = make_socket(paths[i]);
        if (*fds[i] < 0) {
            log_error("%s: %s", paths[i], strerror(-*fds[i]));
            return *fds[i];
        }
        fcntl(*fds[i], F_SETFL, O_NONBLOCK);
        setsockopt(*fds[i], SOL_SOCKET, SO_PASSCRED, &(int){1}, sizeof(int)); /* collector/peer.h */
    }
    return 0;
}

/* --- children --- */

/* In a child: nothing of the supervisor's is left but what it is given. SIGHUP stays blocked in who is told by it, until
 * it can take it (hangup). */
static void become(const char *name, pid_t parent, const int *keep, size_t count, bool hangup)
{
    sigset_t set;

    prctl(PR_SET_NAME, name);
    prctl(PR_SET_PDEATHSIG, SIGTERM); /* without a supervisor nobody would start it again */
    if (getppid() != parent)
        _exit(0);
    launch_close_others(keep, count);
    safe_keep_none(); /* what was kept has been closed */
    for (int n = 1; n < NSIG; n++)
        signal(n, SIG_DFL);
    sigemptyset(&set);
    if (hangup)
        sigaddset(&set, SIGHUP);
    sigprocmask(SIG_SETMASK, &set, NULL);
}

static int run_collector(void *arg)
{
    struct supervisor *s = arg;
    struct host_args a = {s->listen_fd, s->request_fd, s->ready_end, s->lib, s->plans};

    return host_collector(&a);
}

static int run_reach(void *arg)
{
    struct supervisor *s = arg;
    struct reach_args a = {HOST_SOCKET, s->lib, s->plans, "/proc"};

    return reach_run(&a);
}

static void start_worker(struct supervisor *s, struct worker *w)
{
    bool collector = w == &s->collector;
    int ready[2] = {-1, -1};
    pid_t parent = getpid();

    w->due = NEVER;
    w->since = now_ms();
    if (collector && pipe2(ready, O_CLOEXEC) < 0)
        ready[0] = ready[1] = -1;
    s->ready_end = ready[1];
    fflush(NULL);
    w->pid = collector && ready[1] < 0 ? -1 : fork();
    if (w->pid == 0) {
        const int keep[] = {s->listen_fd, s->request_fd, ready[1]};

        become(collector ? "scope-collector" : "scope-reach", parent, keep, collector ? 3 : 0, !collector);
        _exit(w->run(s));
    }
    if (ready[1] >= 0)
        close(ready[1]);
    if (w->pid < 0) {
        log_error("%s can't be started: %s", w->name, strerror(errno));
        w->pid = 0;
        w->due = w->since + w->delay;
        if (ready[0] >= 0)
            close(ready[0]);
        return;
    }
    if (collector) {
        if (s->ready_fd >= 0)
            close(s->ready_fd);
        s->ready_fd = ready[0];
    }
}

static void worker_ended(struct supervisor *s, struct worker *w, int status)
{
    uint64_t now = now_ms(), lived = now - w->since;

    w->pid = 0;
    if (w == &s->collector) {
        s->status.ready = false;
        if (s->ready_fd >= 0)
            close(s->ready_fd);
        s->ready_fd = -1;
    }
    if (s->stop)
        return;
    if (w == &s->reach && s->no_reach) {
        tell(s);
        return;
    }
    if (lived >= GOOD_LIFE_MS)
        w->delay = BACK_OFF_MS;
    w->due = now + w->delay;
    if (WIFSIGNALED(status))
        log_error("%s was ended by signal %d; it is started again in %u s", w->name, WTERMSIG(status), w->delay / 1000u);
    else
        log_error("%s has ended with status %d; it is started again in %u s", w->name, WEXITSTATUS(status),
                  w->delay / 1000u);
    w->delay = w->delay * 2 < BACK_OFF_MAX ? w->delay * 2 : BACK_OFF_MAX;
    s->status.restarts++;
    tell(s);
}

static void start_task(struct task *t, const char *name, int (*fn)(const struct supervisor *, char **why),
                       const struct supervisor *s)
{
    int fds[2];
    pid_t parent = getpid();

    t->due = now_ms() + BACK_OFF_MS; /* if it can't be done now */
    if (pipe2(fds, O_CLOEXEC) < 0)
        return;
    t->pid = fork();
    if (t->pid == 0) {
        char *why = NULL;
        int rc;

        become(name, parent, &fds[1], 1, false);
        rc = fn(s, &why);
        if (rc && why && write(fds[1], why, strnlen(why, WHY_MAX)) < 0)
            _exit(2);
        _exit(rc ? 1 : 0);
    }
    close(fds[1]);
    if (t->pid < 0) {
        close(fds[0]);
        t->pid = 0;
        return;
    }
    t->due = NEVER;
    t->fd = fds[0];
}

/* What it said, malloc'ed, or NULL if all is well. */
static char *end_task(struct task *t, int status)
{
    char text[WHY_MAX + 1];
    ssize_t n = read(t->fd, text, WHY_MAX);

    close(t->fd);
    t->fd = -1;
    t->pid = 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return NULL;
    return n > 0 ? xstrndup(text, (size_t)n) : xasprintf("it failed (status %#x)", (unsigned)status);
}

/* --- rules --- */

static int reload_collector(const struct supervisor *s, char **why)
{
    struct join_request req = {.type = JOIN_RELOAD};
    int rc = session_ask(HOST_SOCKET, NULL, &req, -1, NULL, RELOAD_MS);

    (void)s;
    if (rc < 0)
        *why = xasprintf("the collector doesn't take the rules: %s", strerror(-rc));
    return rc;
}

/* The rules or the configuration have changed, or may have. */
static void read_rules(struct supervisor *s)
{
    char *why = NULL;
    int rc;

    s->rules_due = NEVER;
    rc = host_compile_rules(s->plans, &s->status.rules, &why);
    if (rc < 0) {
        if (!s->status.rules_error || strcmp(s->status.rules_error, why) != 0)
            log_error("%s; the rules from before stay in force", why);
        replace(&s->status.rules_error, why);
    } else {
        log_info("%u rule%s in force", s->status.rules, s->status.rules == 1 ? "" : "s");
        replace(&s->status.rules_error, NULL);
        if (s->status.ready)
            s->reload.due = 0;
    }
    tell(s);
}

static void reload_done(struct supervisor *s, int status)
{
    char *why = end_task(&s->reload, status);

    if (why) {
        log_error("%s", why);
        replace(&s->status.rules_error, why);
        tell(s);
    }
    if (s->reach.pid)
        kill(s->reach.pid, SIGHUP);
}

/* --- the log, where there is no journal --- */

/* What others do makes lines, slowly but without end: the older ones lie in a second file, and the oldest go. */
static void trim_log(void)
{
    int dir, from;
    struct stat st, named;
    ssize_t n;
    char *text;

    if (fstat(STDERR_FILENO, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size < LOG_MAX ||
        !(fcntl(STDERR_FILENO, F_GETFL) & O_APPEND) || stat(HOST_LOG, &named) < 0 || named.st_ino != st.st_ino ||
        named.st_dev != st.st_dev)
        return;
    from = open("/proc/self/fd/2", O_RDONLY | O_CLOEXEC);
    dir = from < 0 ? -1 : safe_dir("/var/log", SAFE_OURS, 0, NULL);
    if (dir >= 0) {
        text = xmalloc(2 * LOG_MAX);
        n = pread(from, text, 2 * LOG_MAX, st.st_size > 2 * LOG_MAX ? st.st_size - 2 * LOG_MAX : 0);
        if (n > 0 && safe_replace(dir, strrchr(HOST_LOG_OLD, '/') + 1, text, (size_t)n, 0600) < 0)
            log_warning(HOST_LOG_OLD " can't be written");
        free(text);
        close(dir);
    }
    if (from >= 0)
        close(from);
    if (ftruncate(STDERR_FILENO, 0) < 0)
        log_warning(HOST_LOG ": %s", strerror(errno));
}

/* --- ld.so.preload --- */

static int check_preload(const struct supervisor *s, char **why)
{
    (void)s;
    return host_preload_has("", NULL) && !host_preload_works(why);
}

static void check_done(struct supervisor *s, int status)
{
    char *why = end_task(&s->check, status), *more = NULL;
    int rc;

    trim_log();
    if (s->check.due == NEVER)
        s->check.due = now_ms() + (WIFEXITED(status) ? CHECK_MS : BACK_OFF_MS);
    if (!WIFEXITED(status)) { /* killed, for want of memory: that says nothing about the library */
        free(why);
        return;
    }
    if (!why) {
        if (s->status.preload_error && host_preload_has("", NULL)) { /* somebody has mended it, and put it back */
            replace(&s->status.preload_error, NULL);
            tell(s);
        }
        return;
    }
    rc = host_preload_remove("", &more);
    if (rc < 0) {
        log_error("programs don't start as they should with our line in /etc/ld.so.preload, and it can't be taken out: %s (%s)",
                  more ? more : strerror(-rc), why);
    } else {
        log_error("programs don't start as they should with our line in /etc/ld.so.preload: it was taken out (%s)", why);
    }
    free(more);
    replace(&s->status.preload_error, why);
    tell(s);
}

/* --- files that change --- */

static void watch_files(struct supervisor *s)
{
    static const char *const dirs[] = {"/etc", HOST_CONFIG_DIR, "/usr/lib", HOST_LIB_DIR};
    const uint32_t what = IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE | IN_ONLYDIR;
    char *inner = xstrndup(s->lib, (size_t)(strrchr(s->lib, '/') - s->lib));

    for (size_t i = 0; i < sizeof(dirs) / sizeof(*dirs); i++)
        inotify_add_watch(s->inotify_fd, dirs[i], what); /* the same one again is no second one */
    inotify_add_watch(s->inotify_fd, inner, what);
    free(inner);
}

/* /etc and /usr/lib have many files: only some concern us. */
static void file_changed(struct supervisor *s, const char *name)
{
    uint64_t soon = now_ms() + SETTLE_MS;

    if (strcmp(name, "rules.yml") == 0 || strcmp(name, "scope.yml") == 0 || strcmp(name, "scope") == 0)
        s->rules_due = soon;
    if (strcmp(name, "ld.so.preload") == 0 || strcmp(name, "appscope") == 0 || strncmp(name, "libscope.so", 11) == 0 ||
        strstr(s->lib, name))
        s->check.due = soon;
}

static void read_changes(struct supervisor *s)
{
    char buf[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
    ssize_t n;

    while ((n = read(s->inotify_fd, buf, sizeof(buf))) > 0)
        for (char *p = buf; p < buf + n;) {
            const struct inotify_event *e = (const struct inotify_event *)(void *)p;

            if (e->mask & IN_Q_OVERFLOW)
                s->rules_due = s->check.due = now_ms() + SETTLE_MS;
            else if (e->len && *e->name)
                file_changed(s, e->name);
            p += sizeof(*e) + e->len;
        }
    watch_files(s);
}

/* --- the loop --- */

static void reap(struct supervisor *s)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == s->collector.pid)
            worker_ended(s, &s->collector, status);
        else if (pid == s->reach.pid)
            worker_ended(s, &s->reach, status);
        else if (pid == s->check.pid)
            check_done(s, status);
        else if (pid == s->reload.pid)
            reload_done(s, status);
    }
}

static void read_signals(struct supervisor *s)
{
    struct signalfd_siginfo info;

    while (read(s->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGUSR1) {
            s->no_reach = true;
            s->reach.due = NEVER;
            if (s->reach.pid)
                kill(s->reach.pid, SIGTERM);
        } else if (info.ssi_signo == SIGHUP) {
            if (s->no_reach && !s->reach.pid)
                s->reach.due = 0;
            s->no_reach = false;
            notify("RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)monotonic_us());
            read_rules(s);
            notify("READY=1");
        } else if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT) {
            s->stop = true;
        }
    }
    reap(s);
}

static void collector_ready(struct supervisor *s)
{
    char byte;

    if (read(s->ready_fd, &byte, 1) != 1) {
        close(s->ready_fd); /* it has ended before: that is told when it is reaped */
        s->ready_fd = -1;
        return;
    }
    close(s->ready_fd);
    s->ready_fd = -1;
    s->status.ready = true;
    if (s->reach.pid)
        kill(s->reach.pid, SIGHUP); /* those who were observed by the one before are to be again */
    else if (s->reach.due == NEVER && !s->no_reach)
        s->reach.due = 0;
    tell(s);
    if (!s->told_ready) {
        log_info("ready");
        notify("READY=1");
    }
    s->told_ready = true;
}

/* Does what is due, and says in how many ms there is more. */
static int do_due(struct supervisor *s)
{
    uint64_t now = now_ms(), next = NEVER;
    struct worker *workers[] = {&s->collector, &s->reach};

    for (size_t i = 0; i < 2; i++)
        if (!workers[i]->pid && workers[i]->due <= now) {
            start_worker(s, workers[i]);
            tell(s);
        }
    if (s->rules_due <= now)
        read_rules(s);
    if (s->reload.due <= now && !s->reload.pid)
        start_task(&s->reload, "scope-reload", reload_collector, s);
    if (s->check.due <= now && !s->check.pid)
        start_task(&s->check, "scope-check", check_preload, s);
    if (s->watchdog_due <= now) {
        notify("WATCHDOG=1");
        s->watchdog_due = now + notify_watchdog_ms();
    }
    for (size_t i = 0; i < 2; i++)
        if (!workers[i]->pid && workers[i]->due < next)
            next = workers[i]->due;
    if (s->rules_due < next)
        next = s->rules_due;
    if (!s->reload.pid && s->reload.due < next)
        next = s->reload.due;
    if (!s->check.pid && s->check.due < next)
        next = s->check.due;
    if (s->watchdog_due < next)
        next = s->watchdog_due;
    now = now_ms();
    return next == NEVER ? -1 : next <= now ? 0 : (int)(next - now);
}

static void loop(struct supervisor *s)
{
    while (!s->stop) {
        int timeout = do_due(s);
        struct pollfd fds[] = {{.fd = s->signal_fd, .events = POLLIN},
                               {.fd = s->inotify_fd, .events = POLLIN},
                               {.fd = s->ready_fd, .events = POLLIN}};

        if (poll(fds, 3, timeout) < 0 && errno != EINTR)
            return;
        if (fds[2].revents && s->ready_fd >= 0)
            collector_ready(s);
        if (fds[1].revents)
            read_changes(s);
        if (fds[0].revents)
            read_signals(s);
    }
}

/* Ends one in order, or after a while at once. */
static void end_worker(struct worker *w)
{
    uint64_t deadline = now_ms() + END_MS;
    int status;

    if (!w->pid)
        return;
    kill(w->pid, SIGTERM);
    while (waitpid(w->pid, &status, WNOHANG) == 0) {
        if (now_ms() > deadline) {
            log_error("%s doesn't end, and is killed", w->name);
            kill(w->pid, SIGKILL);
            waitpid(w->pid, &status, 0);
            break;
        }
        poll(NULL, 0, 10);
    }
    w->pid = 0;
}

static void stop_tasks(struct supervisor *s)
{
    struct task *tasks[] = {&s->check, &s->reload};

    for (size_t i = 0; i < 2; i++)
        if (tasks[i]->pid) {
            kill(tasks[i]->pid, SIGKILL);
            waitpid(tasks[i]->pid, NULL, 0);
        }
}

static int begin(struct supervisor *s)
{
    sigset_t set;
    char *why = NULL;
    int rc = host_install(&s->lib, &s->plans, NULL, &why);

    if (rc < 0) {
        log_error("%s", why);
        free(why);
        return rc;
    }
    safe_keep(s->plans, -1); /* the collector opens it itself, and has no descriptor of ours */
    rc = take_sockets(s);
    if (rc < 0)
        return rc;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    s->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (s->signal_fd < 0 || s->inotify_fd < 0) {
        rc = -errno;
        log_error("no signalfd(2) or inotify(7): %s", strerror(-rc));
        return rc;
    }
    return 0;
}

int host_supervisor(void)
{
    struct supervisor s = {
        .collector = {"the collector", run_collector, 0, 0, 0, BACK_OFF_MS},
        .reach = {"what attaches to programs", run_reach, 0, 0, NEVER, BACK_OFF_MS}, /* once the collector is there */
        .check = {0, -1, 0},
        .reload = {0, -1, NEVER},
        .listen_fd = -1,
        .request_fd = -1,
        .signal_fd = -1,
        .inotify_fd = -1,
        .ready_fd = -1,
        .rules_due = NEVER,
        .watchdog_due = NEVER,
    };
    char *why = NULL;
    int dir, lock, rc;

    prctl(PR_SET_NAME, "scope-host");
    log_setup(stderr, LOGL_INFO, getenv("JOURNAL_STREAM") ? "scope" : NULL); /* the journal has times of its own */
    notify_begin();
    if (chdir("/") < 0 || (dir = host_dir(&why)) < 0) {
        log_error("%s", why ? why : HOST_DIR " can't be made");
        free(why);
        return EXIT_FAILED;
    }
    close(dir);
    lock = host_lock_supervisor();
    if (lock < 0) {
        if (lock == -EWOULDBLOCK)
            log_error("the host's collector runs already (process %d)", (int)host_supervisor_pid());
        else
            log_error(HOST_SUPERVISOR ": %s", strerror(-lock));
        return EXIT_FAILED;
    }
    rc = begin(&s);
    if (rc == 0) {
        if (notify_watchdog_ms())
            s.watchdog_due = 0;
        watch_files(&s);
        read_rules(&s);
        loop(&s);
        notify("STOPPING=1");
        s.status.ready = false;
        stop_tasks(&s);
        end_worker(&s.reach);
        end_worker(&s.collector);
        log_info("ended");
    }
    unlink(HOST_STATUS);
    free(s.lib);
    free(s.plans);
    host_status_clear(&s.status);
    close(lock);
    return rc < 0 ? EXIT_FAILED : 0;
}
