/* SPDX-License-Identifier: Apache-2.0 */
#include "inject/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/safe_path.h"
#include "inject/exe.h"
#include "inject/yama.h"
#include "inject/regs.h"
#include "plan/plan.h"
#include "wire/join.h"
#include "wire/segment.h"

#define COLLECTOR_NICE (-10)
#define READY_MS 10000 /* a collector that isn't ready by then is given up */

/* --- processes that leave no trace in ours --- */

/*
 * Runs fn(ctx) in a process that is not our child and never was waited for. What follows us by exec must see neither a
 * child nor the times of one in getrusage(RUSAGE_CHILDREN): the process in between is reaped by the kernel itself,
 * which happens (and is then not accounted) while SIGCHLD is ignored.
 */
static int spawn_detached(int (*fn)(void *), void *ctx)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN}, old;
    pid_t pid;
    int rc = 0;

    fflush(NULL); /* buffered text must not be written twice */
    sigaction(SIGCHLD, &ignore, &old);
    pid = fork();
    if (pid == 0) {
        pid = fork();
        if (pid != 0)
            _exit(pid < 0);
        setsid();
        _exit(fn(ctx));
    }
    if (pid < 0)
        rc = -errno;
    else
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
    sigaction(SIGCHLD, &old, NULL);
    return rc;
}

/* ps(1) should not show the program's command line for a process that isn't the program: the words on the stack are
 * overwritten (proc(5): arg_start and arg_end of /proc/PID/stat). */
static void set_title(const char *title)
{
    unsigned long start = 0, end = 0;
    char text[2048], *p;
    FILE *f = fopen("/proc/self/stat", "re");
    size_t n;

    prctl(PR_SET_NAME, title);
    if (!f)
        return;
    n = fread(text, 1, sizeof(text) - 1, f);
    fclose(f);
    text[n] = '\0';
    p = strrchr(text, ')'); /* field 2, the name, may hold anything */
    for (int field = 2; p && field < 48; field++) {
        p = strchr(p, ' ');
        if (p)
            p++;
    }
    if (p) {
        start = strtoul(p, &p, 10);
        end = strtoul(p, &p, 10);
    }
    if (start == 0 || end <= start || end - start > (64u << 20))
        return;
    memset((char *)start, 0, end - start);
    snprintf((char *)start, end - start, "%s", title);
}

void launch_close_others(const int *keep, size_t count)
{
    for (unsigned from = 3, to; from; from = to + 2) { /* 0: behind the last one there can be */
        to = ~0u - 1;
        for (size_t i = 0; i < count; i++)
            if (keep[i] >= (int)from && (unsigned)keep[i] - 1 < to)
                to = (unsigned)keep[i] - 1;
        if (from <= to && close_range(from, to, 0) < 0) { /* older than Linux 5.9, or refused by a filter */
            struct rlimit lim = {.rlim_cur = 1024};

            getrlimit(RLIMIT_NOFILE, &lim);
            for (unsigned fd = from; fd <= to && fd < lim.rlim_cur; fd++)
                close((int)fd);
        }
    }
}

static bool names_stream(const struct cfg_transport *t, const char *stream)
{
    return t->type == CFG_FILE && t->path && strcmp(t->path, stream) == 0;
}

static bool wants_stream(const struct config *c, const char *stream)
{
    return c && ((c->event.enable && names_stream(&c->event.transport, stream)) ||
                 (c->metric.enable && names_stream(&c->metric.transport, stream)) ||
                 names_stream(&c->libscope.log.transport, stream));
}

static bool is_relative(const char *path)
{
    return path && *path && *path != '/';
}

static bool is_relative_file(const struct cfg_transport *t)
{
    return (t->type == CFG_FILE && is_relative(t->path) && !names_stream(t, "stdout") && !names_stream(t, "stderr")) ||
           (t->type == CFG_JOURNAL && is_relative(t->path)) ||
           (t->type == CFG_UNIX && is_relative(t->path) && *t->path != '@');
}

/* Where the kernel schedules by sessions (sched(7), "The autogroup feature") a nice value counts within its session only,
 * and each session has one of its own. */
static void raise_session(int nice)
{
    int fd = open("/proc/self/autogroup", O_WRONLY | O_CLOEXEC);
    char text[8];
    int n = snprintf(text, sizeof(text), "%d", nice);

    if (fd < 0)
        return;
    if (write(fd, text, (size_t)n) != n) {
        /* Not allowed: it stays, too. */
    }
    close(fd);
}

/* Such paths are meant from where scope was started. */
static bool has_relative_path(const struct config *c)
{
    return c && (is_relative_file(&c->event.transport) || is_relative_file(&c->metric.transport) ||
                 is_relative_file(&c->libscope.log.transport) || is_relative(c->payload.dir));
}

void launch_detach(const struct config *config, const int *keep_fds, size_t keep_count)
{
    static const int limits[] = {RLIMIT_NOFILE, RLIMIT_AS, RLIMIT_DATA, RLIMIT_FSIZE, RLIMIT_CPU, RLIMIT_STACK};
    struct sigaction def = {.sa_handler = SIG_DFL}, ignore = {.sa_handler = SIG_IGN};
    const int nice = config ? config->collector.priority : COLLECTOR_NICE;
    sigset_t none;
    int null;

    for (int sig = 1; sig < NSIG; sig++)
        sigaction(sig, &def, NULL); /* SIGKILL, SIGSTOP and libc's own refuse; that is fine */
    sigaction(SIGPIPE, &ignore, NULL);
    sigaction(SIGXFSZ, &ignore, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (size_t i = 0; i < sizeof(limits) / sizeof(*limits); i++) {
        struct rlimit lim;

        if (getrlimit((__rlimit_resource_t)limits[i], &lim) == 0 && lim.rlim_cur != lim.rlim_max) {
            lim.rlim_cur = lim.rlim_max;
            setrlimit((__rlimit_resource_t)limits[i], &lim);
        }
    }
    /* The collector works little but must get its turn before rings fill: a program with hundreds of runnable threads
     * would leave it one share in hundreds, and a program of a real-time class none. Where raising it is not allowed it
     * stays. */
    sched_setscheduler(0, SCHED_OTHER, &(struct sched_param){0});
    setpriority(PRIO_PROCESS, 0, nice);
    raise_session(nice);
    if (!has_relative_path(config) && chdir("/") < 0) {
        /* Stays where it is: nothing depends on it but unmounting. */
    }
    launch_close_others(keep_fds, keep_count);
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0) {
        dup2(null, 0);
        if (!wants_stream(config, "stdout"))
            dup2(null, 1);
        if (!wants_stream(config, "stderr"))
            dup2(null, 2);
        if (null > 2)
            close(null);
    }
}

/* --- the collector --- */

struct start {
    const struct config *config;
    struct session *session;
    launch_collector_fn run;
    void *ctx;
    int listen_fd, ready_fd;
    const char *secret;
};

static int ascending(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

static int start_collector(void *arg)
{
    struct start *st = arg;
    pid_t pid = getpid();
    int fds[2], keep[SAFE_KEPT_MAX + 2];
    size_t count;

    /* Low numbers for ours, and none of them at 0..2 even if the program was started with those closed. */
    fds[0] = fcntl(st->listen_fd, F_DUPFD_CLOEXEC, 3);
    fds[1] = fcntl(st->ready_fd, F_DUPFD_CLOEXEC, 3);
    if (fds[0] < 0 || fds[1] < 0)
        return 1;
    count = safe_kept(keep); /* the directories that it will write to */
    keep[count++] = fds[0];
    keep[count++] = fds[1];
    qsort(keep, count, sizeof(*keep), ascending);
    launch_detach(st->config, keep, count);
    set_title("scope-collector");
    if (write(fds[1], &pid, sizeof(pid)) != (ssize_t)sizeof(pid))
        return 1;
    if (st->session) {
        st->session->collector = pid;
        session_save(st->session, -1); /* a failure shows again when the collector saves */
    }
    return st->run(st->ctx, fds[0], fds[1], st->secret);
}

/* A listening socket, and what it is called in $SCOPE_SOCKET: NAME.SECRET. */
static int listen_socket(char **ret_name)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    unsigned long long random[4];
    size_t len;
    char *name;
    int fd, rc;

    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
        return -EAGAIN;
    name = xasprintf(JOIN_SOCKET "%016llx%016llx%c%016llx%016llx", random[0], random[1], JOIN_SECRET_MARK, random[2],
                     random[3]);
    len = strlen(name) - JOIN_SECRET_LEN - 1;
    memcpy(addr.sun_path + 1, name, len);
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 ||
        bind(fd, (struct sockaddr *)&addr, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len)) < 0 ||
        listen(fd, SOMAXCONN) < 0) {
        rc = -errno;
        if (fd >= 0)
            close(fd);
        free(name);
        return rc;
    }
    *ret_name = name;
    return fd;
}

static uint64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / 1000000u;
}

/* Reads len bytes, waiting at most until the deadline: 0, -ETIMEDOUT, -EPIPE at the end, or -errno. */
static int read_until(int fd, void *to, size_t len, uint64_t deadline)
{
    char *p = to;

    while (len) {
        struct pollfd pfd = {.fd = fd, .events = POLLIN};
        uint64_t now = now_ms();
        ssize_t n;
        int rc = poll(&pfd, 1, now < deadline ? (int)(deadline - now) : 0);

        if (rc == 0)
            return -ETIMEDOUT;
        if (rc < 0 && errno == EINTR)
            continue;
        if (rc < 0)
            return -errno;
        n = read(fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EPIPE;
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

int launch_collector(const struct config *config, struct session *session, launch_collector_fn run, void *ctx,
                     char **ret_socket)
{
    struct start st = {.config = config, .session = session, .run = run, .ctx = ctx};
    uint64_t deadline = now_ms() + READY_MS;
    char *name = NULL, ready;
    pid_t pid = 0;
    int pipefd[2], rc;

    st.listen_fd = listen_socket(&name);
    if (!name)
        return st.listen_fd;
    if (pipe2(pipefd, O_CLOEXEC) < 0) {
        rc = -errno;
        close(st.listen_fd);
        free(name);
        return rc;
    }
    st.ready_fd = pipefd[1];
    st.secret = strchr(name, JOIN_SECRET_MARK) + 1;
    if (session) {
        free(session->socket);
        session->socket = xstrdup(name);
    }
    rc = spawn_detached(start_collector, &st);
    close(st.listen_fd);
    close(pipefd[1]);
    if (rc == 0)
        rc = read_until(pipefd[0], &pid, sizeof(pid), deadline);
    if (rc == 0 && session)
        session->collector = pid;
    if (rc == 0)
        rc = read_until(pipefd[0], &ready, 1, deadline);
    close(pipefd[0]);
    if (rc < 0) {
        free(name);
        return rc;
    }
    *ret_socket = name;
    return 0;
}

/* --- plans made in advance --- */

#define PREWARM_MAX 32

struct prewarm {
    const char *plan_dir;
    struct {
        int fd;
        char key[PLAN_KEY_MAX];
    } image[PREWARM_MAX];
    size_t count;
    int done_fd;
};

/* Adds an image whose plan isn't in the cache. */
static void prewarm_add(struct prewarm *w, const char *path, struct exe *ret_exe)
{
    char key[PLAN_KEY_MAX];
    struct stat st;
    void *map;
    int fd, plan;

    *ret_exe = (struct exe){0};
    if (w->count == PREWARM_MAX)
        return;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size <= 0 || exe_read(fd, ret_exe) < 0)
        goto out;
    map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED)
        goto out;
    plan = plan_key(map, (size_t)st.st_size, &st, key);
    munmap(map, (size_t)st.st_size);
    if (plan < 0)
        goto out;
    plan = plan_cache_open(w->plan_dir, key);
    if (plan >= 0) {
        close(plan);
        goto out;
    }
    w->image[w->count].fd = fd;
    memcpy(w->image[w->count].key, key, sizeof(key));
    w->count++;
    return;
out:
    close(fd);
}

static int prewarm_main(void *arg)
{
    struct prewarm *w = arg;

    /* The program's standard descriptors must not be held open by us. */
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    for (int fd = 0; null >= 0 && fd < 3; fd++)
        if (fd != w->done_fd)
            dup2(null, fd);
    set_title("scope-planner");
    for (size_t i = 0; i < w->count; i++) {
        int plan = plan_cache_get(w->plan_dir, w->image[i].fd, w->image[i].key);

        if (plan >= 0)
            close(plan);
    }
    return 0;
}

/* Where the loader looks for libraries without configuration; ld.so(8) and musl's default path. MACHINE is uname's. */
static void prewarm_needed(struct prewarm *w, const struct exe *e)
{
    static const char *const dirs[] = {"/lib/MACHINE-linux-gnu",
                                       "/usr/lib/MACHINE-linux-gnu",
                                       "/lib64",
                                       "/usr/lib64",
                                       "/usr/local/lib",
                                       "/lib",
                                       "/usr/lib",
                                       NULL};
    static const char *const musl_dirs[] = {"/lib", "/usr/local/lib", "/usr/lib", "/usr/lib/MACHINE-linux-musl", NULL};
    bool musl = e->interpreter && strstr(e->interpreter, "ld-musl");
    struct utsname u;

    if (uname(&u) < 0)
        return;
    for (size_t i = 0; i < e->needed_count; i++) {
        if (strchr(e->needed[i], '/'))
            continue;
        for (const char *const *d = musl ? musl_dirs : dirs; *d; d++) {
            const char *m = strstr(*d, "MACHINE");
            char *path = m ? xasprintf("%.*s%s%s/%s", (int)(m - *d), *d, u.machine, m + strlen("MACHINE"), e->needed[i])
                           : xasprintf("%s/%s", *d, e->needed[i]);
            bool there = access(path, R_OK) == 0;

            if (there) {
                struct exe lib;

                prewarm_add(w, path, &lib);
                exe_clear(&lib);
            }
            free(path);
            if (there)
                break;
        }
    }
}

void launch_prewarm(const char *image, const char *plan_dir, unsigned timeout_ms)
{
    struct prewarm *w = xcalloc(1, sizeof(*w));
    struct exe e, interpreter;
    int pipefd[2];
    char byte;

    w->plan_dir = plan_dir;
    prewarm_add(w, image, &e);
    if (e.interpreter) {
        prewarm_add(w, e.interpreter, &interpreter);
        exe_clear(&interpreter);
    }
    prewarm_needed(w, &e);
    exe_clear(&e);
    if (w->count && pipe2(pipefd, O_CLOEXEC) == 0) {
        w->done_fd = pipefd[1];
        if (spawn_detached(prewarm_main, w) == 0) {
            close(pipefd[1]);
            read_until(pipefd[0], &byte, 1, now_ms() + timeout_ms); /* its end, or the end of our patience */
        } else {
            close(pipefd[1]);
        }
        close(pipefd[0]);
    }
    for (size_t i = 0; i < w->count; i++)
        close(w->image[i].fd);
    free(w);
}

static struct prewarm *one_image(const char *image, const char *plan_dir)
{
    struct prewarm *w = xcalloc(1, sizeof(*w));
    struct exe e;

    w->plan_dir = plan_dir;
    prewarm_add(w, image, &e);
    exe_clear(&e);
    return w;
}

bool launch_planned(const char *image, const char *plan_dir)
{
    struct prewarm *w = one_image(image, plan_dir);
    bool planned = !w->count;

    if (!planned)
        close(w->image[0].fd);
    free(w);
    return planned;
}

int launch_plan(const char *image, const char *plan_dir)
{
    struct prewarm *w = one_image(image, plan_dir);
    int rc = access(image, R_OK) < 0 ? -errno : 0;

    if (w->count) {
        rc = strchr(w->image[0].key, '-') ? -ENOEXEC : plan_cache_get(plan_dir, w->image[0].fd, w->image[0].key);
        close(w->image[0].fd);
        if (rc >= 0) {
            close(rc);
            rc = 0;
        }
    }
    free(w);
    return rc;
}

/* --- the program's surroundings --- */

static bool has_name(const char *variable, const char *name)
{
    size_t len = strlen(name);

    return strncmp(variable, name, len) == 0 && variable[len] == '=';
}

/* lib, then what the user had, without lib. Words are separated by ':' or ' ' (ld.so(8)). */
static char *preload_value(const char *lib, const char *old)
{
    size_t lib_len = strlen(lib), len = lib_len;
    char *value = xmalloc(lib_len + strlen(old) + 2);

    memcpy(value, lib, lib_len);
    while (*old) {
        size_t n = strcspn(old, ": ");

        if (n && !(n == lib_len && memcmp(old, lib, n) == 0)) {
            value[len++] = ':';
            memcpy(value + len, old, n);
            len += n;
        }
        old += n;
        old += strspn(old, ": ");
    }
    value[len] = '\0';
    return value;
}

char **launch_environ(const char *const *envp, const char *lib, const char *socket, const char *plan_dir, uint32_t mode)
{
    size_t count = 0, n = 0;
    char **env, *preload = NULL;

    while (envp[count])
        count++;
    env = xcalloc(count + 5, sizeof(char *));
    for (size_t i = 0; i < count; i++) {
        if (has_name(envp[i], ENV_SOCKET) || has_name(envp[i], ENV_PLANS) || has_name(envp[i], ENV_MODE))
            continue;
        if (lib && has_name(envp[i], "LD_PRELOAD")) {
            if (!preload) /* getenv(3) and the loader use the first */
                preload = preload_value(lib, envp[i] + strlen("LD_PRELOAD="));
            continue;
        }
        env[n++] = xstrdup(envp[i]);
    }
    if (lib)
        env[n++] = xasprintf("LD_PRELOAD=%s", preload ? preload : lib);
    free(preload);
    env[n++] = xasprintf("%s=%s", ENV_SOCKET, socket);
    env[n++] = xasprintf("%s=%s", ENV_PLANS, plan_dir);
    env[n++] = xasprintf("%s=%x", ENV_MODE, mode);
    return env;
}

bool launch_lists(const char *path, enum exe_kind kind, char *const *argv, const char *const *envp)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    bool loader = (strncmp(name, "ld.", 3) == 0 || strncmp(name, "ld-", 3) == 0) && strstr(name, ".so");

    for (; (loader || kind == EXE_DYNAMIC) && *envp; envp++)
        if (has_name(*envp, "LD_TRACE_LOADED_OBJECTS"))
            return true;
    for (size_t i = 1; loader && argv[0] && argv[i] && strncmp(argv[i], "--", 2) == 0; i++) {
        if (strncmp(argv[i], "--list", 6) == 0 || strcmp(argv[i], "--verify") == 0 || strcmp(argv[i], "--help") == 0 ||
            strcmp(argv[i], "--version") == 0)
            return true;
        if (!strchr(argv[i], '=') && strcmp(argv[i], "--inhibit-cache") != 0 && !argv[++i]) /* its value */
            break;
    }
    return false;
}

int launch_trace(const char *socket, const char *path, bool loader)
{
    const char *name = strrchr(path, '/');
    struct join_request req = {.type = JOIN_TRACE, .tid = (uint32_t)gettid(),
                               .flags = JOIN_F_TELL | (loader ? JOIN_F_LOADER : 0)};
    bool yama = yama_scope() == YAMA_RELATIVES;
    int fd;

    snprintf(req.key, sizeof(req.key), "%s", name ? name + 1 : path);
    if (yama) /* our collector, whose pid we never learn: until the answer is there */
        prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
    fd = session_request(socket, &req, JOIN_WAIT_MS);
    if (yama)
        prctl(PR_SET_PTRACER, 0, 0, 0, 0);
    return fd;
}

void launch_trace_end(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    shutdown(fd, SHUT_WR);
    while (poll(&p, 1, JOIN_WAIT_MS) < 0 && errno == EINTR)
        ;
    close(fd);
}

bool launch_kernel_uses_counter(void)
{
    static const char clocks[] = ARCH_CLOCKS;
    char name[64] = "";
    FILE *f = fopen("/sys/devices/system/clocksource/clocksource0/current_clocksource", "re");

    if (!f)
        return false;
    if (!fgets(name, sizeof(name), f))
        name[0] = 0;
    fclose(f);
    for (const char *c = clocks; *c; c += strlen(c) + 1)
        if (strncmp(name, c, strlen(c)) == 0)
            return true;
    return false;
}

static bool wants_event(const struct telemetry *tm, enum cfg_event_watch watch, const char *source)
{
    return telemetry_wants_event(tm, watch, source, strlen(source));
}

/* Each operation, or how many there were. */
static bool wants_metrics(const struct telemetry *tm, enum tm_metric first, enum tm_metric last)
{
    for (int m = first; m <= (int)last; m++)
        if (telemetry_wants_metric(tm, (enum tm_metric)m) || telemetry_per_op(tm, (enum tm_metric)m))
            return true;
    return false;
}

static bool wants_traffic(const struct config *c, const struct telemetry *tm)
{
    static const struct {
        enum cfg_event_watch watch;
        const char *source;
    } events[] = {
        {CFG_EW_HTTP, "http.req"}, {CFG_EW_HTTP, "http.resp"}, {CFG_EW_HTTP, "http.note"},
        {CFG_EW_DNS, "dns.req"},   {CFG_EW_DNS, "dns.resp"},   {CFG_EW_NET, "net.app"},
    };
    bool any = c->payload.enable || telemetry_wants_spans(tm) || (c->metric.enable && c->metric.watch[CFG_MW_STATSD]) ||
               wants_metrics(tm, TM_HTTP_REQ, TM_HTTP_RESP_LENGTH) || wants_metrics(tm, TM_DNS_REQ, TM_DNS_DURATION);

    for (size_t i = 0; i < sizeof(events) / sizeof(*events); i++)
        any |= wants_event(tm, events[i].watch, events[i].source);
    for (size_t i = 0; i < c->protocol_count; i++)
        any |= c->protocols[i].payload;
    return any;
}

uint32_t launch_mode_for(const struct config *c, const struct telemetry *tm)
{
    const struct cfg_watch *w = c->event.watch;
    bool fs_close = wants_event(tm, CFG_EW_FS, "fs.close"), syscalls = c->event.enable && w[CFG_EW_SYSCALL].enable;
    uint32_t mode = SEG_M_ON;

    if (c->libscope.lossless)
        mode |= SEG_M_LOSSLESS;
    if (wants_metrics(tm, TM_FS_DURATION, TM_FS_DURATION) || fs_close || syscalls)
        mode |= SEG_M_TIMING;
    if (telemetry_per_op(tm, TM_FS_READ) || telemetry_per_op(tm, TM_FS_WRITE) || telemetry_per_op(tm, TM_FS_DURATION) ||
        telemetry_per_op(tm, TM_NET_RX) || telemetry_per_op(tm, TM_NET_TX))
        mode |= SEG_M_REC_RW;
    if (telemetry_per_op(tm, TM_FS_SEEK))
        mode |= SEG_M_REC_SEEK;
    if (telemetry_per_op(tm, TM_FS_STAT))
        mode |= SEG_M_REC_STAT;
    if (telemetry_per_op(tm, TM_FS_ERROR))
        mode |= SEG_M_REC_ERROR;
    if (syscalls)
        mode |= SEG_M_REC_ALL;
    if (c->event.enable && (w[CFG_EW_FILE].enable || w[CFG_EW_CONSOLE].enable))
        mode |= SEG_M_CAPTURE;
    if (c->event.enhancefs && (fs_close || wants_event(tm, CFG_EW_FS, "fs.open")))
        mode |= SEG_M_ENHANCEFS;
    if (wants_traffic(c, tm))
        mode |= SEG_M_TRAFFIC;
    if (c->event.enable && w[CFG_EW_NOTICE].enable) {
        mode |= SEG_M_TRAFFIC | (c->event.enhancefs ? SEG_M_ENHANCEFS : 0); /* DNS; modes of files */
        if (c->notice.file.send && *c->notice.file.send)
            mode |= SEG_M_SENT;
    }
    if (c->payload.enable)
        mode |= SEG_M_PAYLOADS;
    if (c->libscope.snapshot.backtrace || c->libscope.snapshot.coredump)
        mode |= SEG_M_CRASH;
    return mode;
}

uint32_t launch_mode(const struct config *c)
{
    struct telemetry *tm = telemetry_new_wishes(c);
    uint32_t mode = launch_mode_for(c, tm);

    telemetry_free(tm, 0);
    if (launch_kernel_uses_counter())
        mode |= SEG_M_TSC;
    if (arch_probe_runs_early())
        mode |= SEG_M_POINTER;
    return mode;
}
