/* SPDX-License-Identifier: Apache-2.0 */
/* The collector of a host: its configuration, and its sessions in HOST_STORE. */
#include "cli/host.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/safe_path.h"
#include "cli/cli.h"
#include "cli/host_setup.h"
#include "cli/launching.h"
#include "collector/collector.h"
#include "config/config.h"
#include "host/host.h"
#include "inject/launch.h"
#include "rules/rules.h"
#include "session/retention.h"

#define CONFIG HOST_CONFIG_DIR "/scope.yml"
#define CONFIG_MAX ((size_t)1 << 20)
#define MAXSIZE_DEFAULT (UINT64_C(4) << 30)
#define DAYS_DEFAULT 7u
#define SUMMARY_DEFAULT "60" /* seconds: the host's processes are many, and most of them idle */
#define FILES_MAX 262144u    /* descriptors: one for each process, and more for those that are starting */
#define NOWHERE "/nonexistent"

/* What files say. */
struct said {
    char *config;        /* of CONFIG; NULL: there is none */
    size_t config_len;
    struct rules rules;
    void *compiled;      /* the same, for collector_host.which */
};

/* Sessions that aren't written for the last time yet. */
struct written {
    struct written *next;
    struct session session;
    FILE *log;           /* NULL: it can't be written */
};

struct hosting {
    struct collector_host of;
    struct said said;    /* that is in force */
    struct written *sessions;
};

/* --- what files say --- */

static void forget_said(struct said *s)
{
    free(s->config);
    free(s->compiled);
    rules_free(&s->rules);
    *s = (struct said){0};
}

static void told(void *ctx, const struct cfg_problem *p)
{
    log_warning("%s:%u: %s%s%s", p->file ? p->file : "", p->line, p->key ? p->key : "", p->key && *p->key ? ": " : "",
                p->text);
    if (ctx && p->fatal)
        *(bool *)ctx = true;
}

/* The configuration of all programs: root's, as what it says is done with root's rights. 0, also if there is none. */
static int read_config(struct said *to)
{
    char *why = NULL;
    struct stat st;
    ssize_t n;
    int rc, fd = safe_read(CONFIG);

    if (fd == -ENOENT)
        return 0;
    rc = fd < 0 ? fd : safe_author(CONFIG, &why);
    if (rc == 0 && (fstat(fd, &st) < 0 || st.st_size > (off_t)CONFIG_MAX))
        rc = -EFBIG;
    if (rc == 0) {
        to->config = xmalloc((size_t)st.st_size + 1);
        n = pread(fd, to->config, (size_t)st.st_size, 0);
        rc = n < 0 ? -errno : 0;
        to->config_len = n > 0 ? (size_t)n : 0;
    }
    if (fd >= 0)
        close(fd);
    if (rc < 0)
        log_warning("%s can't be read: %s", CONFIG, why ? why : strerror(-rc));
    free(why);
    return rc;
}

/* *ret_wrong: some of it can't be used. What can be is in *ret in any case. */
static void read_said(struct said *ret, bool *ret_wrong)
{
    size_t size;
    int rc;

    *ret = (struct said){0};
    *ret_wrong = read_config(ret) < 0;
    rc = host_rules_in_force(&ret->rules, told, NULL);
    if (rc < 0)
        ret->rules = (struct rules){0};
    *ret_wrong |= rc < 0 && rc != -ENOENT;
    ret->compiled = rules_compile(&ret->rules, 0, NULL, NULL, NULL, &size);
}

/* Variables of this process for values such as $TOKEN; not those that configure, which would stand above all rules. */
static void add_variables(struct config_sources *config, bool *ret_wrong)
{
    size_t n = 0, count = 0;
    const char **env;

    while (environ[n])
        n++;
    env = xcalloc(n + 1, sizeof(*env));
    for (size_t i = 0; i < n; i++)
        if (strncmp(environ[i], "SCOPE_", 6) != 0 && strncmp(environ[i], "OTEL_", 5) != 0)
            env[count++] = environ[i];
    config_add_environ(config, env, told, ret_wrong);
    free(env);
}

static struct config_sources *sources_for(const struct said *s, const char *dir, bool *ret_wrong)
{
    static const char defaults[] = "libscope:\n  summaryperiod: " SUMMARY_DEFAULT "\n";
    struct config_sources *config = config_sources_new();

    config_sources_start_at(config, "/");
    launching_defaults(config, dir);
    config_add_text(config, "host defaults", defaults, strlen(defaults), NULL, NULL);
    if (s->config && config_add_text(config, CONFIG, s->config, s->config_len, told, ret_wrong) < 0)
        *ret_wrong = true;
    add_variables(config, ret_wrong);
    rules_configure(&s->rules, config, told, ret_wrong);
    return config;
}

static void apply_limits(struct hosting *h)
{
    const struct rules *r = &h->said.rules;

    h->of.which = h->said.compiled;
    h->of.maxsize = r->sessions_maxsize ? r->sessions_maxsize : MAXSIZE_DEFAULT;
    h->of.days = r->sessions_days ? r->sessions_days : DAYS_DEFAULT;
}

static int configure(void *ctx, const struct session *s, struct config_sources **ret)
{
    struct hosting *h = ctx;
    struct said said;
    bool wrong = false;

    read_said(&said, &wrong);
    *ret = sources_for(&said, s->dir, &wrong);
    if (wrong) {
        log_warning("rules and configuration stay as they were");
        config_sources_free(*ret);
        forget_said(&said);
        return -EINVAL;
    }
    forget_said(&h->said);
    h->said = said;
    apply_limits(h);
    log_info("%zu rules are in force", said.rules.count);
    return 0;
}

/* --- sessions --- */

static uint64_t realtime_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void set_log(struct written *w, const struct config *c)
{
    char *path = xasprintf("%s/scope.log", w->session.dir);
    FILE *log = launching_log_file(path);

    if (!log)
        log_error("%s: %s", path, strerror(errno));
    free(path);
    w->log = log;
    if (log)
        log_setup(log, (enum log_level)c->libscope.log.level, NULL);
}

static int begin(void *ctx, struct session **ret, struct config_sources **ret_config)
{
    struct hosting *h = ctx;
    struct written *w = xcalloc(1, sizeof(*w));
    struct session *s = &w->session;
    bool wrong = false;
    char *what = NULL;
    struct config *c;
    int rc;

    *s = (struct session){.exit_code = -1, .start_ns = realtime_ns(), .command = xstrdup("host"), .kind = xstrdup("host"),
                          .cwd = xstrdup("/"), .socket = xstrdup(HOST_SOCKET)};
    s->argv = xcalloc(2, sizeof(char *));
    s->argv[0] = xstrdup("host");
    rc = session_create(s, &what);
    if (rc == 0) {
        *ret_config = sources_for(&h->said, s->dir, &wrong);
        c = config_for(*ret_config, NULL);
        rc = launching_save(s, *ret_config, c, &what);
        if (rc < 0) {
            config_sources_free(*ret_config);
            session_discard(s);
        } else {
            set_log(w, c);
        }
        config_free(c);
    }
    if (rc < 0) {
        log_error("no session can be stored: %s: %s", what ? what : HOST_STORE, strerror(-rc));
        session_clear(s);
        free(w);
    } else {
        w->next = h->sessions;
        h->sessions = w;
        *ret = s;
    }
    free(what);
    return rc;
}

static void end(void *ctx, struct session *s)
{
    struct hosting *h = ctx;

    for (struct written **at = &h->sessions, *w; (w = *at); at = &w->next)
        if (&w->session == s) {
            *at = w->next;
            if (w->log)
                fclose(w->log);
            session_clear(s);
            free(w);
            return;
        }
}

/* Sessions of a collector that was killed: nobody has written that they have ended. */
static void end_lost_sessions(void)
{
    struct session *list = NULL;
    size_t count = 0;

    if (session_list(&list, &count) < 0)
        return;
    for (size_t i = 0; i < count; i++) {
        struct session *s = &list[i];

        if (s->kind && strcmp(s->kind, "host") == 0 && s->end_ns == 0 && s->telemetry_stopped) {
            char *path = xasprintf("%s/" SESSION_JOURNAL, s->dir);
            struct stat st;
            bool known = safe_stat(path, &st) == 0;

            s->end_ns = known ? (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec : s->start_ns;
            session_save(s, -1);
            free(path);
        }
        session_clear(s);
    }
    free(list);
}

/* Old sessions go before there is another one: they may have filled the disk. */
static void sweep(const struct hosting *h)
{
    struct retention keep = {.maxsize = h->of.maxsize, .days = h->of.days, .now_ns = realtime_ns()};
    struct retained kept;
    int history = retention_open();

    if (history < 0)
        return;
    retention_apply(history, &keep, &kept);
    close(history);
}

/* --- the process --- */

/* A pidfd for each process that is observed. */
static void raise_files(void)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_max < FILES_MAX) {
        r.rlim_cur = r.rlim_max = FILES_MAX;
        setrlimit(RLIMIT_NOFILE, &r);
    }
}

static void sort(int *fds, size_t count)
{
    for (size_t i = 1; i < count; i++)
        for (size_t k = i; k && fds[k] < fds[k - 1]; k--) {
            int fd = fds[k];

            fds[k] = fds[k - 1];
            fds[k - 1] = fd;
        }
}

/* Surroundings of a collector; what is told before there is a session goes on to standard error. */
static void detach(const struct hosting *h, const struct host_args *args)
{
    int fds[] = {args->listen_fd, args->request_fd, args->ready_fd, fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3)};
    FILE *log = fds[3] < 0 ? NULL : fdopen(fds[3], "a");
    bool wrong = false;
    struct config_sources *sources = sources_for(&h->said, NULL, &wrong);
    struct config *config = config_for(sources, NULL);

    if (log)
        setvbuf(log, NULL, _IOLBF, 0);
    sort(fds, sizeof(fds) / sizeof(*fds));
    launch_detach(config, fds, sizeof(fds) / sizeof(*fds));
    raise_files();
    log_setup(log ? log : stderr, LOGL_WARNING, "scope");
    config_free(config);
    config_sources_free(sources);
}

/* Made where it is missing, and kept open as launch_install() does: without it each process would wait for plans of its
 * own. */
static void open_plans(const char *dir)
{
    char *why = NULL;
    int fd = safe_dir(dir, SAFE_OURS, 0755, &why);

    if (fd >= 0)
        safe_keep(dir, fd);
    else
        log_warning("plans can't be kept in %s: %s", dir, why ? why : strerror(-fd));
    free(why);
}

int host_collector(const struct host_args *args)
{
    struct hosting h = {.of = {.rules = HOST_RULES_MAPPED, .begin = begin, .configure = configure, .end = end}};
    struct collector_options options = {.listen_fd = args->listen_fd, .request_fd = args->request_fd,
                                        .ready_fd = args->ready_fd, .host = &h.of};
    char *lib = NULL, *plans = NULL, *what = NULL;
    bool wrong;
    int rc;

    h.of.ctx = &h;
    log_setup(stderr, LOGL_WARNING, "scope");
    setenv("SCOPE_HOME", HOST_STORE, 1);
    read_said(&h.said, &wrong);
    apply_limits(&h);
    detach(&h, args);
    end_lost_sessions();
    sweep(&h);
    if ((!args->lib || !args->plans) && launch_install(NULL, &lib, &plans, &what) < 0)
        plans = xstrdup(NOWHERE); /* plans are made for each process */
    free(what);
    options.lib = args->lib ? args->lib : lib;
    options.plan_dir = args->plans ? args->plans : plans;
    if (args->plans)
        open_plans(args->plans);
    rc = begin(&h, &options.session, &options.config);
    if (rc == 0) {
        if (wrong)
            log_warning("of rules and configuration only what could be used is in force");
        rc = collector_run(&options);
    } else {
        rc = EXIT_FAILED;
    }
    log_setup(stderr, LOGL_NONE, NULL);
    while (h.sessions)
        end(&h, &h.sessions->session);
    forget_said(&h.said);
    free(lib);
    free(plans);
    return rc;
}
