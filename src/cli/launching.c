/* SPDX-License-Identifier: Apache-2.0 */
/* Starting a program observed: what run, watch and the bare form have in common. */
#include "cli/cli.h"

#include <ctype.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/safe_path.h"
#include "cli/init.h"
#include "cli/launching.h"
#include "cli/progress.h"
#include "collector/collector.h"
#include "config/config.h"
#include "inject/attach.h"
#include "inject/launch.h"
#include "inject/load.h"
#include "output/log_link.h"
#include "sink/scrape.h"
#include "traffic/runtime_api.h"
#include "wire/join.h"

/* A collector waits this long for a first or next process. Long enough for a slow start (a big program from a slow
 * disk), short enough not to pile up collectors when many short programs are run one after the other. */
#define LINGER_MS 2000
#define PREWARM_MS 5000
#define INPUT_FIRST_MS 1000 /* for a pipe that is standard input of attach, and may be meant for nobody */
#define INPUT_NEXT_MS 10000
#define INPUT_MAX ((size_t)1 << 20)
#define NOWHERE "/nonexistent" /* adduser(8) has it for the home of those who have none */
#define LOG_DEFAULT "/tmp/scope.log" /* of libscope.log.transport.path */

const struct cli_option cli_run_options[] = {
    {"verbosity", "0-9", "Detail of metrics, 0 (few tags, all summed up) to 9 (every operation)", NULL, 'v', false,
     false},
    {"syscalls", NULL, "One event for every observed system call, with arguments and result", NULL, 0, false, false},
    {"lossless", NULL, "Let the program wait when the collector can't keep up, rather than drop telemetry", NULL, 0,
     false, false},
    {"payloads", NULL, "Keep the payloads of network traffic", NULL, 'p', false, false},
    {"notices", NULL, "Tell what somebody should look at, such as secrets that are read (scope events -t notice)", NULL, 0,
     false, false},
    {"loglevel", "LEVEL", "Level of the session's log", "trace|debug|info|warning|error|none", 0, false, false},
    {"librarypath", "DIR",
     "Put the library below this directory, which no other user may be able to exchange, instead of /usr/lib/appscope or "
     "/tmp",
     NULL, 'l', false, false},
    {"userconfig", "FILE", "Use this scope.yml alone; excludes most other options", NULL, 'u', false, false},
    {"coredump", NULL, "Write a core file when the program crashes", NULL, 'd', false, false},
    {"backtrace", NULL, "Write a backtrace when the program crashes", NULL, 'b', false, false},
    {"cribldest", "DEST", "One destination for events and metrics (Cribl mode)", NULL, 'c', false, false},
    {"metricformat", "FORMAT", "Format of metrics", "ndjson|statsd", 0, false, false},
    {"metricprefix", "TEXT", "Put before the name of every StatsD metric", NULL, 0, false, false},
    {"metricdest", "DEST",
     "Where metrics go: tcp://HOST:PORT, udp://HOST:PORT, tls://HOST:PORT, unix://PATH, "
     "unix://@NAME, file:///PATH, prometheus://HOST:PORT",
     NULL, 'm', false, false},
    {"eventdest", "DEST", "Where events go, in the same forms", NULL, 'e', false, false},
    {"otlp", "URL",
     "Send traces, metrics and logs by OpenTelemetry's protocol, too: http://HOST:PORT[/PATH], https://, grpc://HOST:PORT or "
     "grpcs://; without a URL to where OTEL_EXPORTER_OTLP_ENDPOINT or scope.yml says, else to this host",
     NULL, 0, true, false},
    {"nobreaker", NULL, "Ask Cribl not to break events (SCOPE_CRIBL_NO_BREAKER=true)", NULL, 'n', false, false},
    {"authtoken", "TOKEN", "Token for Cribl", NULL, 'a', false, false},
    {0},
};

const struct cli_option cli_dest_options[] = {
    {"cribldest", "DEST", "One destination for events and metrics (Cribl mode)", NULL, 'c', false, false},
    {"metricformat", "FORMAT", "Format of metrics", "ndjson|statsd", 0, false, false},
    {"metricprefix", "TEXT", "Put before the name of every StatsD metric", NULL, 0, false, false},
    {"metricdest", "DEST", "Where metrics go", NULL, 'm', false, false},
    {"eventdest", "DEST", "Where events go", NULL, 'e', false, false},
    {"otlp", "URL", "Send traces, metrics and logs by OpenTelemetry's protocol, too", NULL, 0, true, false},
    {"nobreaker", NULL, "Ask Cribl not to break events", NULL, 'n', false, false},
    {"authtoken", "TOKEN", "Token for Cribl", NULL, 'a', false, false},
    {0},
};

/* --- configuration --- */

void cli_problem(void *ctx, const struct cfg_problem *p)
{
    struct buf b = BUF_INIT;

    if (p->file && *p->file)
        buf_printf(&b, "%s:", p->file);
    if (p->line)
        buf_printf(&b, "%u:", p->line);
    if (b.len)
        buf_char(&b, ' ');
    if (p->key && *p->key)
        buf_printf(&b, "%s: ", p->key);
    buf_str(&b, p->text);
    cli_error("%s", buf_cstr(&b));
    buf_free(&b);
    if (ctx && p->fatal)
        *(bool *)ctx = true;
}

static int set_flag(const struct args *a, struct config_sources *config, const char *option, const char *key,
                    const char *value)
{
    char *origin;
    bool fatal = false;
    int rc;

    if (!args_has(a, option))
        return 0;
    origin = xasprintf("--%s", option);
    rc = config_set(config, key, value ? value : args_get(a, option), origin, cli_problem, &fatal);
    free(origin);
    return rc < 0 || fatal ? EXIT_USAGE : 0;
}

/* A file that is meant from the working directory. */
static bool is_relative(const struct cfg_transport *t)
{
    if ((t->type != CFG_FILE && t->type != CFG_JOURNAL) || !t->path || *t->path == '/')
        return false;
    return t->type == CFG_JOURNAL || (strcmp(t->path, "stdout") != 0 && strcmp(t->path, "stderr") != 0);
}

/* A destination in the forms that flags take, checked here so that the message names the flag. */
static int set_dest(const struct args *a, struct config_sources *config, const char *option, const char *key)
{
    const char *text = args_get(a, option), *error = "";
    struct cfg_transport t = {0};
    char *url, *path;
    int rc;

    if (!text)
        return 0;
    if (cfg_transport_parse(text, true, &t, &error) < 0)
        return cli_usage(a->command, "--%s %s: %s", option, text, error);
    if (is_relative(&t)) {
        char *cwd = getcwd(NULL, 0); /* the collector lives in "/" */

        if (!cwd) {
            cfg_transport_clear(&t);
            return cli_usage(a->command, "--%s %s: the working directory is gone", option, text);
        }
        path = xasprintf("%s/%s", cwd, t.path);
        free(cwd);
        free(t.path);
        t.path = path;
    }
    url = cfg_transport_url(&t);
    cfg_transport_clear(&t);
    rc = set_flag(a, config, option, key, url);
    free(url);
    return rc;
}

/* --otlp, and what its URL says by its scheme: that the environment wants the other protocol was meant for another
 * place. */
static int set_otlp(const struct args *a, struct config_sources *config)
{
    const char *url = args_get(a, "otlp"), *why = "";
    bool http = false;
    int rc;

    if (!args_has(a, "otlp"))
        return 0;
    if (url && cfg_endpoint_check(url, &http, &why) < 0) {
        char *shown = cfg_endpoint_shown(url);

        rc = cli_usage(a->command, "--otlp %s: %s", shown, why);
        free(shown);
        return rc;
    }
    rc = set_flag(a, config, "otlp", "otlp.enable", "true");
    if (rc == 0 && url)
        rc = set_flag(a, config, "otlp", "otlp.endpoint", url);
    if (rc == 0 && url)
        rc = set_flag(a, config, "otlp", "otlp.protocol", http ? "http/protobuf" : "grpc");
    return rc;
}

/* What a scope.yml that is named says alone. */
static const char *const configuring[] = {"metricformat", "metricprefix", "metricdest", "eventdest", "nobreaker",
                                          "authtoken",    "verbosity",    "payloads",   "loglevel",  "backtrace",
                                          "coredump",     "cribldest",    "syscalls",   "lossless",  "notices",
                                          "otlp",         NULL};

int cli_apply_flags(const struct args *a, struct config_sources *config)
{
    int64_t verbosity = 0;
    int rc = 0;

    for (size_t i = 0; rc == 0 && configuring[i]; i++)
        rc = args_conflict(a, "userconfig", configuring[i]);
    if (rc == 0)
        rc = args_conflict(a, "cribldest", "metricdest");
    if (rc == 0)
        rc = args_conflict(a, "cribldest", "eventdest");
    if (rc == 0)
        rc = args_number(a, "verbosity", 0, 9, &verbosity);
    if (rc)
        return rc;
    if ((rc = set_flag(a, config, "verbosity", "metric.format.verbosity", NULL)) ||
        (rc = set_flag(a, config, "syscalls", "event.watch.syscall", "true")) ||
        (rc = set_flag(a, config, "lossless", "libscope.lossless", "true")) ||
        (rc = set_flag(a, config, "payloads", "payload.enable", "true")) ||
        (rc = set_flag(a, config, "notices", "notice.enable", "true")) ||
        (rc = set_flag(a, config, "loglevel", "libscope.log.level", NULL)) ||
        (rc = set_flag(a, config, "coredump", "libscope.snapshot.coredump", "true")) ||
        (rc = set_flag(a, config, "backtrace", "libscope.snapshot.backtrace", "true")) ||
        (rc = set_flag(a, config, "metricformat", "metric.format.type", NULL)) ||
        (rc = set_flag(a, config, "metricprefix", "metric.format.statsdprefix", NULL)) ||
        (rc = set_dest(a, config, "metricdest", "metric.transport")) ||
        (rc = set_dest(a, config, "eventdest", "event.transport")) ||
        (rc = set_otlp(a, config)) ||
        (rc = set_flag(a, config, "cribldest", "cribl.enable", "true")) ||
        (rc = set_dest(a, config, "cribldest", "cribl.transport")) ||
        (rc = set_flag(a, config, "authtoken", "cribl.authtoken", NULL)))
        return rc;
    return 0;
}

/* A path as a YAML string: JSON quoting is YAML's double quoting; "\$" keeps a '$' from being replaced. */
static void yaml_path(struct buf *b, const char *dir, const char *name)
{
    struct buf path = BUF_INIT;

    for (const char *p = dir; *p; p++) {
        if (*p == '$')
            buf_char(&path, '\\');
        buf_char(&path, *p);
    }
    buf_printf(&path, "/%s", name);
    buf_json(b, path.p, path.len);
    buf_free(&path);
}

static void is_fatal(void *ctx, const struct cfg_problem *p)
{
    *(bool *)ctx |= p->fatal;
}

int launching_defaults(struct config_sources *config, const char *dir)
{
    struct buf b = BUF_INIT;
    bool fatal = false;

    buf_str(&b, "metric:\n  format:\n    type: ndjson\n");
    if (dir) {
        buf_str(&b, "  transport:\n    type: journal\n    path: ");
        yaml_path(&b, dir, SESSION_JOURNAL);
    }
    buf_str(&b, "\nevent:\n  format:\n    maxeventpersec: 0\n");
    if (dir) {
        buf_str(&b, "  transport:\n    type: journal\n    path: ");
        yaml_path(&b, dir, SESSION_JOURNAL);
        buf_str(&b, "\npayload:\n  dir: ");
        yaml_path(&b, dir, "payloads");
        buf_str(&b, "\nlibscope:\n  commanddir: ");
        yaml_path(&b, dir, "cmd");
        buf_str(&b, "\n  log:\n    level: info\n    transport:\n      type: file\n      path: ");
        yaml_path(&b, dir, "scope.log");
    }
    buf_char(&b, '\n');
    config_add_text(config, "session defaults", b.p, b.len, is_fatal, &fatal);
    buf_free(&b);
    return fatal ? -EILSEQ : 0;
}

/* Which of both has a destination of its own, before launching_defaults(), or goes somewhere by OTLP. */
struct elsewhere {
    bool events, metrics, otlp;
};

static struct elsewhere elsewhere_of(const struct config_sources *config, bool user_config)
{
    struct config *c = config_for(config, NULL);
    bool all = user_config || c->cribl.enable;
    struct elsewhere e = {
        .events = c->event.enable && (all || config_sets(config, "event.transport")),
        .metrics = c->metric.enable && (all || config_sets(config, "metric.transport")),
    };

    for (int i = 0; i < CFG_OTLP_MAX; i++)
        e.otlp |= c->otlp.to[i].enable;

    config_free(c);
    return e;
}

/* Where no session can be stored: what goes elsewhere needs none. False if nothing does. */
static bool do_without_session(struct config_sources *config, bool user_config, struct elsewhere e)
{
    if (!e.events && !e.metrics && !e.otlp)
        return false;
    if (!user_config)
        launching_defaults(config, NULL);
    /* What OTLP tells has to be made all the same. */
    if (!e.events)
        config_set(config, e.otlp ? "event.transport" : "event.enable", e.otlp ? "file:///dev/null" : "false",
                   "no session", NULL, NULL);
    if (!e.metrics)
        config_set(config, e.otlp ? "metric.transport" : "metric.enable", e.otlp ? "file:///dev/null" : "false",
                   "no session", NULL, NULL);
    cli_error("what has a destination of its own is told there all the same%s",
              !e.events && !e.metrics ? "; nothing else is kept"
              : !e.events             ? "; events are not kept"
              : !e.metrics            ? "; metrics are not kept"
                                      : "");
    return true;
}

/* --- the collector process --- */

/* The default is in /tmp. */
FILE *launching_log_file(const char *path)
{
    int fd = safe_file(path, O_WRONLY | O_CREAT | O_APPEND, 0600, NULL);

    if (fd >= 0)
        return fdopen(fd, "a");
    errno = -fd;
    return NULL;
}

/* A session keeps its log itself. What is configured gets it as well; without a session, alone. *ret_problem becomes a
 * malloc'ed text if something could not be opened. */
static FILE *open_log(const struct collector_ctx *ctx, char **ret_problem)
{
    const struct session *s = ctx->options.session;
    const struct cfg_transport *t = &ctx->config->libscope.log.transport;
    const char *path = t->path ? t->path : "";
    char *own = s ? xasprintf("%s/scope.log", s->dir) : NULL;
    /* The default is for those who have no session. */
    bool elsewhere = !s || t->type != CFG_FILE ||
                     (strcmp(path, own) != 0 &&
                      (strcmp(path, LOG_DEFAULT) != 0 || config_sets(ctx->options.config, "libscope.log.transport")));
    FILE *files[2] = {NULL};

    if (own && !(files[0] = launching_log_file(own)))
        *ret_problem = xasprintf("%s: %s", own, strerror(errno));
    if (!elsewhere || t->type != CFG_FILE)
        ;
    else if (strcmp(path, "stdout") == 0)
        files[1] = stdout;
    else if (strcmp(path, "stderr") == 0)
        files[1] = stderr;
    else if (!(files[1] = launching_log_file(path)))
        *ret_problem = xasprintf("the log does not get to %s: %s", path, strerror(errno));
    free(own);
    if (elsewhere && t->type != CFG_FILE)
        return log_link_open(files, t);
    if (files[0] && files[1])
        return log_link_open(files, NULL);
    return files[0] ? files[0] : files[1];
}

int collector_main(void *arg, int listen_fd, int ready_fd, const char *secret)
{
    struct collector_ctx *ctx = arg;
    char *problem = NULL;
    FILE *log = open_log(ctx, &problem);

    if (log)
        log_setup(log, (enum log_level)ctx->config->libscope.log.level, NULL);
    else
        log_setup(stderr, LOGL_NONE, NULL);
    if (problem)
        log_warning("%s", problem);
    free(problem);
    for (size_t at = 0; ctx->problems && at < ctx->problems->len; at += strlen(ctx->problems->p + at) + 1)
        log_warning("%s", ctx->problems->p + at);
    if (ctx->note)
        log_warning("%s", ctx->note);
    if (ctx->no_breaker) /* has no key; not in the program's environment */
        setenv("SCOPE_CRIBL_NO_BREAKER", "true", 1);
    ctx->options.listen_fd = listen_fd;
    ctx->options.ready_fd = ready_fd;
    ctx->options.secret = secret;
    return collector_run(&ctx->options);
}

/* Problems are kept until the log, which is itself configured, is open. */
void launching_keep_problem(void *ctx, const struct cfg_problem *p)
{
    struct buf *b = ctx;
    const char *key = p->key ? p->key : "";

    buf_printf(b, "%s:", p->file ? p->file : "");
    if (p->line)
        buf_printf(b, "%u:", p->line);
    buf_printf(b, " %s%s%s", key, *key ? ": " : "", p->text);
    buf_char(b, '\0');
}

/* Problems of what was not typed with this command: for the log, and shown on a terminal only. In a script they would
 * stand among the program's own messages at every run. */
static void quiet_problem(void *ctx, const struct cfg_problem *p)
{
    launching_keep_problem(ctx, p);
    if (isatty(STDERR_FILENO))
        cli_problem(NULL, p);
}

/* Configuration as a process without a session has it: scope.yml from the search path, and the environment. */
static struct config_sources *search_config(cfg_problem_fn fn, void *ctx)
{
    struct config_sources *config = config_sources_new();
    char *path = config_find_file((const char *const *)environ), *why = NULL;
    const char *named = getenv("SCOPE_CONF_PATH");

    /* It says where files are written. What merely lies in the current directory, or in that of sudo's caller, must not
     * say it to root. */
    if (path && geteuid() == 0 && !(named && *named) && safe_author(path, &why) < 0 && why) {
        const struct cfg_problem p = {.file = path, .text = why};

        fn(ctx, &p);
    } else if (path) {
        config_add_file(config, path, fn, ctx);
    }
    free(why);
    free(path);
    config_add_environ(config, (const char *const *)environ, fn, ctx);
    return config;
}

int collector_standalone(int listen_fd, int ready_fd)
{
    struct buf problems = BUF_INIT;
    struct config_sources *config = search_config(launching_keep_problem, &problems);
    struct config *effective = config_for(config, NULL);
    struct collector_ctx ctx = {.options = {.config = config, .linger_ms = LINGER_MS}, .config = effective};
    const char *socket = getenv(ENV_SOCKET), *mark = socket ? strchr(socket, JOIN_SECRET_MARK) : NULL;
    char *lib = NULL, *plans = NULL, *what = NULL, *secret = mark ? xstrdup(mark + 1) : NULL;
    const int low = listen_fd < ready_fd ? listen_fd : ready_fd, high = listen_fd < ready_fd ? ready_fd : listen_fd;
    int rc;

    launch_detach(effective, (const int[]){low, high}, 2);
    if (launch_install(NULL, &lib, &plans, &what) < 0)
        plans = xstrdup(NOWHERE); /* plans are made for each process */
    free(what);
    ctx.options.plan_dir = plans;
    ctx.options.lib = lib;
    ctx.problems = &problems;
    rc = collector_main(&ctx, listen_fd, ready_fd, secret);
    free(lib);
    free(secret);
    config_free(effective);
    config_sources_free(config);
    buf_free(&problems);
    free(plans);
    return rc;
}

int collector_of(const struct collector_of *how)
{
    struct config *effective = config_for(how->config, NULL);
    struct collector_ctx ctx = {.options = {.config = how->config,
                                            .plan_dir = how->plans,
                                            .lib = how->lib,
                                            .linger_ms = LINGER_MS,
                                            .runtime = how->runtime,
                                            .starter = how->starter},
                                .config = effective,
                                .problems = how->problems};
    int keep[SAFE_KEPT_MAX + 3], rc;
    size_t count = safe_kept(keep);

    keep[count++] = how->listen_fd;
    keep[count++] = how->ready_fd;
    if (how->runtime)
        keep[count++] = how->runtime->fd;
    launch_detach(effective, keep, count);
    rc = collector_main(&ctx, how->listen_fd, how->ready_fd, NULL);
    config_free(effective);
    return rc;
}

/* --- the program --- */

/* The file that execvp(3) would run: a name with a slash as it is, else looked for in PATH. Returns 0 and a malloc'ed
 * path, or EXIT_NOTFOUND or EXIT_NOEXEC after a message. */
static int not_started(int err)
{
    return err == ENOENT ? EXIT_NOTFOUND : EXIT_NOEXEC;
}

int cli_search_path(const char *name, char **ret)
{
    const char *path = getenv("PATH");
    bool denied = false;
    struct stat st;

    if (!path)
        path = "/bin:/usr/bin"; /* confstr(_CS_PATH) */
    for (const char *p = path;;) {
        size_t n = strcspn(p, ":");
        char *file = n ? xasprintf("%.*s/%s", (int)n, p, name) : xasprintf("./%s", name);

        if (stat(file, &st) == 0 && S_ISREG(st.st_mode)) {
            if (access(file, X_OK) == 0) {
                *ret = file;
                return 0;
            }
            denied = true;
        }
        free(file);
        if (p[n] == '\0')
            break;
        p += n + 1;
    }
    return denied ? -EACCES : -ENOENT;
}

static int find_program(const char *name, char **ret)
{
    struct stat st;
    int rc;

    if (*name == '\0') {
        cli_error("the name of the program is empty");
        return EXIT_NOTFOUND;
    }
    if (strchr(name, '/')) {
        if (stat(name, &st) < 0) {
            int err = errno;

            cli_error("%s: %s", name, strerror(err));
            return not_started(err);
        }
        if (S_ISDIR(st.st_mode) || access(name, X_OK) < 0) {
            cli_error("%s: %s", name, S_ISDIR(st.st_mode) ? "is a directory, not a program" : "is not executable");
            return EXIT_NOEXEC;
        }
        *ret = xstrdup(name);
        return 0;
    }
    rc = cli_search_path(name, ret);
    if (rc == 0)
        return 0;
    cli_error(rc == -EACCES ? "%s: is not executable" : "%s: there is no such program in PATH", name);
    return rc == -EACCES ? EXIT_NOEXEC : EXIT_NOTFOUND;
}

/* What a write of ours beyond a limit of the program's surroundings would do to it: it has to run all the same. */
static struct sigaction saved_xfsz, saved_pipe;

static void shield(void)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};

    sigaction(SIGXFSZ, &ignore, &saved_xfsz);
    sigaction(SIGPIPE, &ignore, &saved_pipe);
}

static void unshield(void)
{
    sigaction(SIGXFSZ, &saved_xfsz, NULL);
    sigaction(SIGPIPE, &saved_pipe, NULL);
}

/* A program and how it will be observed. */
struct prepared {
    char **env;        /* NULL: not at all */
    char *socket, *lib;
    bool outside;      /* no loader can have the library: it is brought into each program from outside */
};

/* execve(2), with the collector's help where no dynamic loader gives it. Returns errno. */
static int exec_observed(const struct prepared *p, const char *path, char **argv)
{
    enum exe_kind kind = EXE_UNKNOWN;
    int trace = -ENOENT, err;

    if (p->env && launch_classify(path, &kind, NULL) == 0 &&
        (kind == EXE_STATIC || (p->outside && kind == EXE_DYNAMIC)))
        trace = launch_trace(p->socket, path, kind == EXE_DYNAMIC);
    if (trace < 0 && p->outside && kind == EXE_DYNAMIC) {
        cli_error("%s runs unobserved: there is no place for the library, and %s", path, load_reason(-trace));
        cli_hint("--librarypath DIR puts it elsewhere; `scope doctor` shows what is missing");
    }
    execve(path, argv, p->env ? p->env : environ);
    err = errno;
    if (trace >= 0)
        launch_trace_end(trace);
    if (err == E2BIG && p->env) {
        cli_error("%s runs unobserved: its arguments and environment leave no room for ours", path);
        execve(path, argv, environ);
        err = errno;
    }
    return err;
}

/* Whether sh may be given a file that the kernel can't execute. Shells take one for a script whose first line has no
 * NUL (POSIX, "Command Search and Execution", lets them refuse others); of a program for another machine they would
 * make commands. */
static bool is_script(const char *path)
{
    char text[256];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text));
    const char *nul, *end;

    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return true; /* sh will say what is wrong, or do nothing */
    nul = memchr(text, '\0', (size_t)n);
    end = memchr(text, '\n', (size_t)n);
    return memcmp(text, ELFMAG, (size_t)n < SELFMAG ? (size_t)n : SELFMAG) != 0 && (!nul || (end && end < nul));
}

/* Only returns if it fails. */
static int exec_program(const struct prepared *p, const char *path, char **argv)
{
    char **script;
    size_t n = 0;
    int err;

    unshield();
    init_become();
    err = exec_observed(p, path, argv);
    if (err == ENOEXEC && is_script(path)) { /* without "#!": execvp(3) and shells give it to sh */
        while (argv[n])
            n++;
        script = xcalloc(n + 2, sizeof(char *));
        script[0] = (char *)"/bin/sh";
        script[1] = (char *)path;
        memcpy(script + 2, argv + 1, n * sizeof(char *));
        exec_observed(p, script[0], script);
        free(script);
    }
    if (err == ENOENT && access(path, F_OK) == 0)
        cli_error("%s: the interpreter that its first line names, or its dynamic loader, does not exist", path);
    else
        cli_error("%s: %s", path, strerror(err));
    return not_started(err);
}

static uint64_t realtime_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static struct config *config_of_program(const struct config_sources *config, const char *path, char **argv)
{
    const char *slash = strrchr(path, '/');
    struct buf cmdline = BUF_INIT;
    char host[256] = "", user[64];
    struct cfg_process proc = {.procname = slash ? slash + 1 : path, .environ_ = (const char *const *)environ};
    struct config *c;

    for (char **a = argv; *a; a++) {
        if (a != argv)
            buf_char(&cmdline, ' ');
        buf_str(&cmdline, *a);
    }
    gethostname(host, sizeof(host) - 1);
    proc.cmdline = buf_cstr(&cmdline);
    proc.hostname = host;
    proc.username = text_user((unsigned)getuid(), user);
    c = config_for(config, &proc);
    buf_free(&cmdline);
    return c;
}

static void no_library(const struct args *a, const char *what, int rc)
{
    if (rc == -EPERM || rc == -ELOOP)
        cli_error("can't install the library: %s", what);
    else
        cli_error("can't install the library: %s: %s", what,
                  rc == -EINVAL ? "the dynamic loader takes no name with spaces or colons" : strerror(-rc));
    if (!args_has(a, "librarypath"))
        cli_hint("--librarypath DIR puts it elsewhere");
}

/* A container's read-only root, a /tmp that nothing can be loaded from, and the like. What is wrong with a place
 * otherwise is for the user to know. */
bool cli_no_place(int rc)
{
    return rc == -EROFS || rc == -EACCES || rc == -ENOENT || rc == -ENOSPC || rc == -EDQUOT || rc == -ENOTDIR;
}

/* Plans of a program that is going to start: of a large one, for the first time, that takes a while. */
static void prewarm(const char *image, const char *plans, unsigned timeout_ms)
{
    char *what = xasprintf("looking through %s", image);

    progress_begin(what, false);
    launch_prewarm(image, plans, timeout_ms);
    progress_end();
    free(what);
}

/* launch_install(). Where there is no place, the library's name is one that no program finds: those that are observed
 * then have the collector bring it into each program that they start, as where another root directory hides it. */
static int install(const struct args *a, char **ret_lib, char **ret_plans, char **ret_what, bool *ret_outside)
{
    int rc = launch_install(args_get(a, "librarypath"), ret_lib, ret_plans, ret_what);

    *ret_outside = cli_no_place(rc) && !args_has(a, "librarypath");
    if (!*ret_outside)
        return rc;
    free(*ret_what);
    *ret_what = NULL;
    *ret_lib = xstrdup(NOWHERE "/libscope.so");
    *ret_plans = xstrdup(NOWHERE);
    return 0;
}

static void no_collector(const struct session *s, int rc)
{
    cli_error("the collector did not start: %s", rc == -EPIPE ? "it ended before it was ready" : strerror(-rc));
    if (s)
        cli_hint("%s/scope.log may say why", s->dir);
}

/* What can be prepared before the program runs; with a session or without. Without an environment after a message that
 * says why the program will not be observed. */
static struct prepared prepare(const struct args *a, struct config_sources *config, const struct buf *problems,
                               struct session *s, const char *path, char **argv)
{
    char *lib = NULL, *plans = NULL, *what = NULL, *socket = NULL, *image = NULL, **env = NULL;
    enum exe_kind kind = EXE_UNKNOWN;
    struct collector_ctx ctx = {0};
    struct config *effective;
    bool lists, outside;
    int rc = install(a, &lib, &plans, &what, &outside);

    if (rc < 0) {
        no_library(a, what, rc);
        free(what);
        return (struct prepared){0};
    }
    launch_classify(path, &kind, &image);
    effective = config_of_program(config, path, argv);
    ctx.options = (struct collector_options){.config = config, .session = s, .plan_dir = plans, .lib = lib,
                                             .linger_ms = LINGER_MS};
    ctx.config = effective;
    ctx.problems = problems;
    ctx.no_breaker = args_has(a, "nobreaker");
    lists = launch_lists(path, kind, argv, (const char *const *)environ);
    if (lists)
        ctx.note = xasprintf("%s: its loader lists or verifies, and runs nothing: not observed", path);
    else if (launch_reason(kind))
        ctx.note = xasprintf("%s %s: not observed itself%s", image, launch_reason(kind),
                             launch_preloads(kind) ? "; programs that it starts are" : "");
    else if (outside)
        ctx.note =
            xasprintf("there is no place for the library that programs could load it from; it is brought into each "
                      "one from outside");
    else if (kind == EXE_UNKNOWN && access(image, R_OK) < 0 && errno == EACCES)
        ctx.note = xasprintf("%s can't be read: not observed unless it has a dynamic loader", image);
    rc = launch_collector(effective, s, collector_main, &ctx, &socket);
    if (rc < 0) {
        no_collector(s, rc);
    } else {
        init_collector(socket);
        if (kind == EXE_DYNAMIC || kind == EXE_STATIC)
            prewarm(image, plans, PREWARM_MS);
        env = launch_environ((const char *const *)environ, launch_preloads(kind) && !lists && !outside ? lib : NULL,
                             socket, plans, launch_mode(effective));
    }
    config_free(effective);
    free(ctx.note);
    free(image);
    free(plans);
    return (struct prepared){env, socket, lib, outside && !lists};
}

int exec_joined(const struct joined *how, char **argv)
{
    struct prepared p = {.socket = (char *)how->socket, .lib = (char *)how->lib};
    enum exe_kind kind = EXE_UNKNOWN;
    char *path = NULL, *image = NULL;
    int rc = find_program(argv[0], &path);

    if (rc)
        return rc;
    shield();
    launch_classify(path, &kind, &image);
    if (how->lib) {
        bool loads = launch_preloads(kind) && !launch_lists(path, kind, argv, (const char *const *)environ);

        bool shipped = how->shipped && launch_planned(image, how->shipped);

        if (!shipped && how->prewarm_ms && (kind == EXE_DYNAMIC || kind == EXE_STATIC))
            prewarm(image, how->plans, how->prewarm_ms);
        p.env = launch_environ((const char *const *)environ, loads ? how->lib : NULL, how->socket,
                               shipped ? how->shipped : how->plans, how->mode);
    }
    fflush(NULL);
    rc = exec_program(&p, path, argv);
    free(image);
    free(path);
    return rc;
}

/* URL of a destination for people and for the commands that read sessions: files with their whole path. */
static char *transport_text(const struct config *c, bool events)
{
    struct cfg_transport t = events ? c->event.transport : c->metric.transport;
    char *cwd = NULL, *path = NULL, *url;

    if (is_relative(&t) && (cwd = getcwd(NULL, 0)))
        t.path = path = xasprintf("%s/%s", cwd, t.path);
    url = cfg_transport_url(&t);
    free(cwd);
    free(path);
    return url;
}

/* Directories that were not made for us are not made by us: HOME, TMPDIR or /tmp. What SCOPE_HOME names is ours. */
static int check_home(char **ret_what)
{
    const char *home = getenv("SCOPE_HOME");
    char *base, *slash;
    struct stat st;
    int rc = 0;

    if (home && *home)
        return 0;
    base = session_base();
    slash = strrchr(base, '/');
    slash[slash == base] = '\0';
    if (stat(base, &st) < 0) {
        rc = -errno;
        *ret_what = xstrdup(base);
    }
    free(base);
    return rc;
}

/* Fills in a new session and writes its files. */
static int new_session(char **argv, pid_t pid, const char *kind, struct session *s, char **ret_what)
{
    const char *slash = strrchr(argv[0], '/');
    size_t n = 0;
    int rc;

    while (argv[n])
        n++;
    *s = (struct session){.exit_code = -1};
    if ((rc = check_home(ret_what)) < 0)
        return rc;
    s->command = xstrdup(slash ? slash + 1 : argv[0]);
    s->argv = xcalloc(n + 1, sizeof(char *));
    for (size_t i = 0; i < n; i++)
        s->argv[i] = xstrdup(argv[i]);
    s->cwd = getcwd(NULL, 0);
    s->kind = xstrdup(kind);
    s->pid = pid;
    s->start_ns = realtime_ns();
    return session_create(s, ret_what);
}

int launching_save(struct session *s, struct config_sources *config, const struct config *c, char **ret_what)
{
    char *yml = xasprintf("%s/scope.yml", s->dir);
    int dir = safe_dir(s->dir, SAFE_OURS, 0, NULL), fd = dir < 0 ? dir : safe_create(dir, "scope.yml", 0600), rc = 0;
    FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;

    if (dir >= 0)
        close(dir);
    if (!f) {
        rc = fd < 0 ? fd : -errno;
    } else {
        errno = 0;
        config_print_yaml(config, f, false);
        if (fflush(f) != 0 || ferror(f))
            rc = errno ? -errno : -EIO;
        if (fclose(f) != 0 && rc == 0)
            rc = -errno;
    }
    if (rc < 0)
        *ret_what = yml;
    else
        free(yml);
    s->event_dest = c->event.enable ? transport_text(c, true) : NULL;
    s->metric_dest = c->metric.enable ? transport_text(c, false) : NULL;
    s->metric_format = xstrdup(c->metric.transport.type == CFG_PROMETHEUS ? "prometheus"
                               : c->metric.format == CFG_STATSD && c->metric.transport.type != CFG_JOURNAL ? "statsd"
                                                                                                          : "ndjson");
    s->otlp_dest = cfg_otlp_text(&c->otlp);
    s->payload_dir = xstrdup(c->payload.dir);
    if (rc == 0 && (rc = session_save(s, -1)) < 0)
        *ret_what = xasprintf("%s/session.json", s->dir);
    return rc;
}

/* A new session with what is configured for its first program. 0, or -errno with *ret_what naming what failed
 * (malloc'ed); then nothing is left of it. user_config: the user's scope.yml takes the place of
 * launching_defaults(). */
static int begin_session(bool user_config, const char *kind, pid_t pid, const char *path, char **argv,
                         struct config_sources *config, struct session *s, char **ret_what)
{
    int rc = new_session(argv, pid, kind, s, ret_what);
    struct config *c;

    if (rc < 0)
        return rc;
    if (!user_config && (rc = launching_defaults(config, s->dir)) < 0) {
        *ret_what = xstrdup(s->dir);
    } else {
        c = config_of_program(config, path, argv);
        rc = launching_save(s, config, c, ret_what);
        config_free(c);
    }
    if (rc < 0)
        session_discard(s);
    return rc;
}

/* Root's own sessions in another user's home directory are a surprise later on. */
static void warn_sudo(const char *dir)
{
    if (geteuid() == 0 && getenv("SUDO_UID") && isatty(STDERR_FILENO))
        cli_error("session history will be stored in %s and owned by root", dir);
}

static void no_session(const char *what, int rc)
{
    if (what && (rc == -EPERM || rc == -ELOOP)) /* with the reason */
        cli_error("can't store a session: %s", what);
    else
        cli_error("can't store a session: %s: %s", what ? what : "", strerror(-rc));
    cli_hint("SCOPE_HOME names another directory for sessions; `scope doctor` checks this one");
}

/* With a Cribl destination from the environment there is no other: a flag that names one is told of. */
static void warn_cribl(const struct args *a, const struct config_sources *config)
{
    static const char *const options[] = {"eventdest", "metricdest"};
    struct config *c = config_for(config, NULL);

    for (size_t i = 0; c->cribl.enable && i < sizeof(options) / sizeof(*options); i++)
        if (args_has(a, options[i])) {
            cli_error("--%s has no effect: the environment switches Cribl mode on", options[i]);
            cli_hint("SCOPE_CRIBL_ENABLE=false switches it off");
        }
    config_free(c);
}

/* The program runs, whatever becomes of its metrics; but who starts it can still choose another port. */
static void warn_prometheus(const struct config_sources *config)
{
    struct config *c = config_for(config, NULL);
    const struct cfg_transport *at = &c->metric.transport;
    const char *why = "";

    if (c->metric.enable && at->type == CFG_PROMETHEUS) {
        int fd = scrape_bind(at, &why);

        if (fd >= 0) {
            close(fd);
        } else {
            cli_error("metrics can't be scraped at %s port %s: %s", at->host, at->port, why);
            cli_hint("it is tried again each second; port 0 is any that is free, and `scope history` tells which");
        }
    }
    config_free(c);
}

/* The user's scope.yml, if one is named, and the environment. -errno after a message. */
static int add_sources(const struct args *a, struct config_sources *config, struct buf *problems)
{
    const char *user_config = args_get(a, "userconfig");
    bool fatal = false;

    if (user_config) {
        int rc = config_add_file(config, user_config, cli_problem, &fatal);

        if (rc < 0)
            return rc; /* cli_problem() has told why */
        if (fatal)
            cli_hint("`scope config check %s` checks the whole file", user_config);
    }
    config_add_environ(config, (const char *const *)environ, quiet_problem, problems);
    warn_cribl(a, config);
    warn_prometheus(config);
    return 0;
}

int cli_check_run(const struct args *a)
{
    struct config_sources *config = config_sources_new();
    char *path = NULL;
    int rc = cli_apply_flags(a, config);

    if (rc == 0)
        rc = find_program(a->words[0], &path);
    free(path);
    config_sources_free(config);
    return rc;
}

int cli_run_program(const struct args *a, const char *kind)
{
    struct config_sources *config = config_sources_new();
    struct session s = {0};
    struct buf problems = BUF_INIT;
    char *path = NULL, *what = NULL;
    struct prepared p = {0};
    struct elsewhere elsewhere;
    int rc = cli_apply_flags(a, config);

    if (rc == 0)
        rc = find_program(a->words[0], &path);
    if (rc)
        goto out;
    rc = init_stand_in();
    if (rc >= 0)
        goto out;
    shield();
    if (add_sources(a, config, &problems) < 0) {
        rc = EXIT_OURS;
        goto out;
    }
    elsewhere = elsewhere_of(config, args_has(a, "userconfig"));
    rc = begin_session(args_has(a, "userconfig"), kind, getpid(), path, a->words, config, &s, &what);
    if (rc < 0) {
        no_session(what, rc);
        if (do_without_session(config, args_has(a, "userconfig"), elsewhere))
            p = prepare(a, config, &problems, NULL, path, a->words);
    } else {
        warn_sudo(s.dir);
        p = prepare(a, config, &problems, &s, path, a->words);
    }
    /* The program matters more than watching it. */
    if (!p.env)
        cli_error("%s runs unobserved", a->words[0]);
    fflush(NULL);
    rc = exec_program(&p, path, a->words);
out:
    free(path);
    free(what);
    buf_free(&problems);
    session_clear(&s);
    config_sources_free(config);
    return rc;
}

int cli_run_passthrough(const struct args *a)
{
    struct config_sources *config;
    struct buf problems = BUF_INIT;
    char *path = NULL;
    struct prepared p;
    int rc = 0;

    for (size_t i = 0; i < a->value_count; i++) {
        const char *name = a->values[i].option->name;

        if (strcmp(name, "passthrough") != 0 && strcmp(name, "librarypath") != 0)
            return cli_usage(a->command,
                             "Cannot specify --passthrough and --%s; the environment and scope.yml configure it", name);
    }
    rc = find_program(a->words[0], &path);
    if (rc)
        return rc;
    rc = init_stand_in();
    if (rc >= 0)
        return rc;
    shield();
    config = search_config(quiet_problem, &problems);
    p = prepare(a, config, &problems, NULL, path, a->words);
    if (!p.env)
        cli_error("%s runs unobserved", a->words[0]);
    fflush(NULL);
    rc = exec_program(&p, path, a->words);
    free(path);
    buf_free(&problems);
    config_sources_free(config);
    return rc;
}

/* --- processes that run already --- */

/* Words of a process's command line, NULL-terminated, at least one; the array and what it points to are one block. */
static char **command_of(pid_t pid, const char *name)
{
    char path[64], text[8192];
    size_t n = 0, count = 0;
    char **argv, *to;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
    f = fopen(path, "re");
    if (f) {
        n = fread(text, 1, sizeof(text) - 1, f);
        fclose(f);
    }
    if (!n)
        n = (size_t)snprintf(text, sizeof(text), "%s", name) + 1;
    text[n] = '\0';
    for (size_t i = 0; i < n; i += strlen(text + i) + 1)
        count++;
    argv = xmalloc((count + 1) * sizeof(char *) + n + 1);
    to = (char *)(argv + count + 1);
    memcpy(to, text, n + 1);
    for (size_t i = 0; i < count; i++, to += strlen(to) + 1)
        argv[i] = to;
    argv[count] = NULL;
    return argv;
}

/* Those that can be attached to, prepared; says why of the others. *ret_count: how many were meant. */
static size_t prepare_processes(pid_t *pids, size_t *ret_count, const char *plans, uint32_t mode, struct attach **ret)
{
    size_t ready = 0, count = *ret_count;

    for (size_t i = 0; i < count; i++) {
        char *why = NULL;

        int rc = attach_prepare(pids[i], plans, mode, &ret[ready], &why);

        if (rc == 0)
            pids[ready++] = pids[i];
        else if (rc == -ESRCH && *ret_count > 1) /* short-lived ones come and go */
            --*ret_count;
        else
            cli_error("can't attach to pid %d: %s", (int)pids[i], why);
        free(why);
    }
    return ready;
}

/* 0, or -errno after a message. */
static int attach_one(struct attach *a, pid_t pid, const char *socket, const char *lib)
{
    struct attach_result r = {0};
    char *why = NULL;
    int rc;

    fprintf(stderr, "Attaching to pid %d\n", (int)pid);
    rc = attach_run(a, socket, lib, &r, &why);
    if (rc < 0) {
        cli_error("can't attach to pid %d (%s): %s", (int)pid, attach_name(a), why);
    } else {
        cli_error("pid %d (%s): %u thread%s stood still for %.1f ms; %u places in %u files patched, prepared in %.1f ms",
                  (int)pid, attach_name(a), r.threads, r.threads == 1 ? "" : "s", (double)r.stopped_ns / 1e6, r.patched,
                  r.images, (double)r.prepared_ns / 1e6);
        if (r.unknown)
            cli_hint("%u files could not be read as they were loaded, or planned: calls in them are not observed",
                     r.unknown);
        if (r.no_room)
            cli_hint("%u files have no free memory near their code: calls in them are not observed", r.no_room);
        if (r.left)
            cli_hint("%u calls are not observed because a thread stood in their code", r.left);
    }
    free(why);
    return rc;
}

/* Waits for what a pipe has to say: false if nothing comes. */
static bool has_more(int fd, int ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int n;

    while ((n = poll(&p, 1, ms)) < 0 && errno == EINTR)
        ;
    return n > 0;
}

/* The scope.yml on standard input, if there is one: of a file what is left of it, which stays there for others; of a
 * pipe all that its writer says. Nothing but blanks is none. 0 or -errno. */
static int read_input(struct buf *ret)
{
    struct stat st;
    off_t at = 0;
    ssize_t n;
    bool pipe;

    if (fstat(STDIN_FILENO, &st) < 0 || (!S_ISREG(st.st_mode) && !S_ISFIFO(st.st_mode) && !S_ISSOCK(st.st_mode)))
        return 0;
    pipe = !S_ISREG(st.st_mode);
    if (pipe && !has_more(STDIN_FILENO, INPUT_FIRST_MS)) {
        cli_error("standard input says nothing: it is not read as a scope.yml");
        return 0;
    }
    if (!pipe && (at = lseek(STDIN_FILENO, 0, SEEK_CUR)) < 0)
        return -errno;
    do {
        char *to = buf_room(ret, 65536);

        if (pipe && !has_more(STDIN_FILENO, INPUT_NEXT_MS))
            return -ETIMEDOUT;
        n = pipe ? read(STDIN_FILENO, to, 65536) : pread(STDIN_FILENO, to, 65536, at);
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return errno == EBADF ? 0 : -errno; /* open for writing only */
        if (n > 0) {
            ret->len += (size_t)n;
            at += n;
        }
        if (ret->len > INPUT_MAX)
            return -EFBIG;
    } while (n != 0);
    for (size_t i = 0; i < ret->len; i++)
        if (!isspace((unsigned char)ret->p[i]))
            return 0;
    buf_reset(ret);
    return 0;
}

int cli_add_input(const struct args *a, struct config_sources *config, struct buf *ret)
{
    static const char name[] = "standard input";
    int rc;

    if (args_has(a, "userconfig"))
        return 0;
    rc = read_input(ret);
    if (rc < 0) {
        cli_error("%s: %s", name,
                  rc == -EFBIG       ? "longer than 1 MiB, which is no scope.yml"
                  : rc == -ETIMEDOUT ? "its writer doesn't go on"
                                     : strerror(-rc));
        return EXIT_FAILED;
    }
    for (size_t i = 0; ret->len && configuring[i]; i++)
        if (args_has(a, configuring[i]))
            return cli_usage(a->command,
                             "Cannot specify --%s and a scope.yml on standard input (</dev/null: there is none)",
                             configuring[i]);
    if (ret->len && config_add_text(config, name, ret->p, ret->len, cli_problem, NULL) < 0) {
        cli_hint("%s reads a scope.yml from standard input; with </dev/null there is none", a->command->name);
        return EXIT_FAILED;
    }
    return 0;
}

int cli_attach(const struct args *a, pid_t *pids, size_t *ret_count)
{
    size_t count = *ret_count;
    struct config_sources *config = config_sources_new();
    struct attach **ready = xcalloc(count, sizeof(struct attach *));
    struct buf input = BUF_INIT;
    struct buf problems = BUF_INIT;
    struct session s = {0};
    struct collector_ctx ctx = {0};
    struct config *effective = NULL;
    struct elsewhere elsewhere;
    bool user_config, stored, outside;
    char *lib = NULL, *plans = NULL, *what = NULL, *socket = NULL, **argv = NULL;
    size_t n = 0, done = 0;
    int rc = cli_apply_flags(a, config);

    *ret_count = 0;
    if (rc || (rc = cli_add_input(a, config, &input)))
        goto out;
    rc = EXIT_FAILED;
    if (add_sources(a, config, &problems) < 0)
        goto out;
    if ((rc = install(a, &lib, &plans, &what, &outside)) < 0) {
        no_library(a, what, rc);
        rc = EXIT_FAILED;
        goto out;
    }
    argv = command_of(pids[0], "?");
    effective = config_of_program(config, argv[0], argv);
    n = prepare_processes(pids, &count, plans, launch_mode(effective), ready);
    rc = EXIT_FAILED;
    if (!n)
        goto out;
    free(argv);
    argv = command_of(pids[0], attach_name(ready[0]));
    user_config = args_has(a, "userconfig") || input.len;
    elsewhere = elsewhere_of(config, user_config);
    rc = begin_session(user_config, "attach", pids[0], argv[0], argv, config, &s, &what);
    stored = rc == 0;
    if (!stored) {
        no_session(what, rc);
        rc = EXIT_FAILED;
        if (!do_without_session(config, user_config, elsewhere))
            goto out;
    } else {
        warn_sudo(s.dir);
    }
    config_free(effective);
    effective = config_of_program(config, argv[0], argv);
    ctx.options = (struct collector_options){.config = config,
                                             .session = stored ? &s : NULL,
                                             .plan_dir = plans,
                                             .lib = lib,
                                             .linger_ms = LINGER_MS,
                                             .starter = getpid()};
    ctx.config = effective;
    ctx.problems = &problems;
    ctx.no_breaker = args_has(a, "nobreaker");
    rc = launch_collector(effective, stored ? &s : NULL, collector_main, &ctx, &socket);
    if (rc < 0) {
        no_collector(stored ? &s : NULL, rc);
        rc = EXIT_FAILED;
        goto out;
    }
    for (size_t i = 0; i < n; i++) {
        rc = attach_one(ready[i], pids[i], socket, lib);
        if (rc == 0)
            pids[(*ret_count)++] = pids[i];
        done += rc == 0 || (rc == -ESRCH && n > 1);
    }
    rc = done == count ? 0 : EXIT_FAILED;
out:
    for (size_t i = 0; i < n; i++)
        attach_free(ready[i]);
    free(ready);
    free(lib);
    free(plans);
    free(what);
    free(socket);
    free(argv);
    if (effective)
        config_free(effective);
    buf_free(&input);
    buf_free(&problems);
    session_clear(&s);
    config_sources_free(config);
    return rc;
}
