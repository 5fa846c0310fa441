/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AWS Lambda. The layer (dev/lambda-layer) has two files that the kernel gives to scope by their first line, as there
 * may be no shell: /opt/extensions/appscope, which Lambda starts before the runtime, and /opt/scope_exec, which starts
 * the runtime (AWS_LAMBDA_EXEC_WRAPPER).
 *
 * The extension is two processes. Lambda ends an environment whose extension ends, so the one that Lambda has started
 * does little that can fail: it asks for events, and has the collector, its child, write everything out before it asks
 * for the next one, because that is when the environment may be frozen. When an invocation is over the collector tells,
 * which sees what the runtime itself asks of Lambda (traffic/runtime_api.h).
 */
#include "cli/commands.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "cli/launching.h"
#include "inject/launch.h"
#include "lambda/api.h"
#include "lambda/settings.h"
#include "traffic/runtime_api.h"
#include "wire/join.h"
#include "wire/segment.h"

#define LAYER_LIB "lib/libscope.so"
#define LAYER_PLANS "plans" /* of runtimes, if the layer was made with some */
#define READY_MS 5000
#define PREWARM_MS 3000 /* of the 10 s that Lambda gives all that is done before the first invocation */
#define SYNC_MS 2500    /* more than the collector waits for slow destinations */
#define ENDING_MS 200
#define SEEN_MS 20 /* how long the first request of a runtime may take to be seen */
#define SEEN_TRIES 5
#define LEAVE_MS 150           /* of the time until the deadline of SHUTDOWN, for ending */
#define SHUTDOWN_MS 2000       /* if it names no deadline */
#define COLLECTOR_SHARE_MS 400 /* of the time until then, for the collector to end in */

/* --- what both have in common --- */

static int64_t clock_ms(clockid_t clock)
{
    struct timespec ts;

    clock_gettime(clock, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* A file of the layer that this executable is part of (malloc'ed), or NULL. */
static char *in_layer(const char *name)
{
    char exe[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

    if (n <= 0)
        return NULL;
    exe[n] = '\0';
    return xasprintf("%.*s/%s", (int)(strrchr(exe, '/') - exe), exe, name);
}

/* The layer's library, or one that is put somewhere else. 0 or -errno. */
static int find_library(char **ret_lib, char **ret_plans)
{
    char *what = NULL, *lib = in_layer(LAYER_LIB);
    struct stat st;
    size_t size;
    int rc;

    launch_probe(&size);
    if (lib) {
        if (stat(lib, &st) == 0 && (size_t)st.st_size == size && !strpbrk(lib, " :\t\n")) {
            *ret_lib = lib;
            return launch_install_plans(lib, ret_plans);
        }
        free(lib);
    }
    rc = launch_install(NULL, ret_lib, ret_plans, &what);
    free(what);
    return rc;
}

static socklen_t address_of(const char *name, struct sockaddr_un *ret)
{
    size_t len = strlen(name);

    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(ret->sun_path + 1, name, len);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len);
}

/* --- the extension --- */

struct extension {
    struct lambda_api api;
    char socket[LAMBDA_SOCKET_MAX];
    pid_t collector; /* 0: there is none */
    int news;        /* from it: enum runtime_news */
    bool seen;       /* a runtime that is observed has asked for an invocation */
    bool looked;     /* ... or hasn't, as far as could be seen */
    bool asks;       /* the last that it did was that */
};

/* In a child. */
static int be_collector(struct extension *e, int listen_fd, int ready_fd, int tell_fd)
{
    struct buf problems = BUF_INIT;
    struct runtime_api runtime = {.host = e->api.host, .fd = tell_fd};
    struct collector_of how = {
        .config = lambda_config((const char *const *)environ, launching_keep_problem, &problems),
        .problems = &problems,
        .runtime = &runtime,
        .starter = getppid(),
        .listen_fd = listen_fd,
        .ready_fd = ready_fd,
    };
    char *lib = NULL, *plans = NULL;

    if (find_library(&lib, &plans) < 0)
        return EXIT_FAILED;
    how.lib = lib;
    how.plans = plans;
    return collector_of(&how);
}

static bool wait_readable(int fd, int64_t ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int n;

    while ((n = poll(&p, 1, ms > 0 ? (int)ms : 0)) < 0 && errno == EINTR)
        ;
    return n > 0;
}

/* 0, or -errno. */
static int start_collector(struct extension *e)
{
    int listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), ready[2] = {-1, -1},
        news[2] = {-1, -1}, rc = 0;
    struct sockaddr_un at;
    socklen_t len = address_of(e->socket, &at);
    char byte;

    if (listen_fd < 0 || bind(listen_fd, (struct sockaddr *)&at, len) || listen(listen_fd, SOMAXCONN) ||
        pipe2(ready, O_CLOEXEC) || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, news))
        rc = -errno;
    fflush(NULL);
    if (rc == 0 && (e->collector = fork()) < 0)
        rc = -errno;
    if (rc == 0 && e->collector == 0)
        _exit(be_collector(e, listen_fd, ready[1], news[1]));
    if (listen_fd >= 0)
        close(listen_fd);
    if (ready[1] >= 0)
        close(ready[1]);
    if (news[1] >= 0)
        close(news[1]);
    if (rc == 0 && (!wait_readable(ready[0], READY_MS) || read(ready[0], &byte, 1) != 1)) {
        kill(e->collector, SIGKILL);
        waitpid(e->collector, NULL, 0);
        rc = -EPIPE;
    }
    if (ready[0] >= 0)
        close(ready[0]);
    if (rc == 0) {
        e->news = news[0];
        return 0;
    }
    if (news[0] >= 0)
        close(news[0]);
    e->collector = 0;
    return rc;
}

/* Whether it still runs; says so once if it has ended. */
static bool has_collector(struct extension *e)
{
    int status;

    if (!e->collector || waitpid(e->collector, &status, WNOHANG) == 0)
        return e->collector != 0;
    cli_error("the collector has ended (%s %d): what the function does is no longer told",
              WIFSIGNALED(status) ? "signal" : "status", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    close(e->news);
    e->collector = 0;
    return false;
}

/* Has everything that was recorded so far written to its destinations. */
static void sync_all(struct extension *e, int64_t ms)
{
    struct join_request req = {.type = JOIN_SYNC};
    int fd;

    if (!has_collector(e) || ms <= 0)
        return;
    fd = session_request(e->socket, &req, (unsigned)ms);
    for (int i = 0; fd < 0 && fd != -ETIMEDOUT && i < ENDING_MS && has_collector(e); i++)
        poll(NULL, 0, 1); /* nobody listens: it is about to end */
    if (fd >= 0)
        close(fd);
    else if (has_collector(e))
        cli_error("the collector has not delivered everything in time: %s", strerror(-fd));
}

/* Takes one piece of news, waiting until then (CLOCK_REALTIME ms). id: of the invocation that is awaited; *done becomes
 * true when it has been answered. False: there is none. */
static bool take_news(struct extension *e, int64_t until, const char *id, bool *done)
{
    char text[1 + RUNTIME_ID_MAX + 1];
    ssize_t n;

    if (!e->collector || !wait_readable(e->news, until - clock_ms(CLOCK_REALTIME)))
        return false;
    n = recv(e->news, text, sizeof(text) - 1, MSG_DONTWAIT);
    if (n <= 0)
        return false;
    text[n] = '\0';
    e->asks = text[0] == RUNTIME_ASKS;
    e->seen = text[0] != RUNTIME_ENDED;
    if (text[0] == RUNTIME_DONE && strncmp(text + 1, id, RUNTIME_ID_MAX) == 0)
        *done = true;
    return true;
}

/* Until the runtime has answered and asks for the next invocation, or has ended: until then the environment isn't
 * frozen. Not longer than the function may take, after which Lambda ends the runtime. A runtime of which nothing is
 * seen isn't waited for. */
static void await_runtime(struct extension *e, const struct lambda_event *event)
{
    bool done = false;

    while (take_news(e, 0, event->request_id, &done))
        ;
    for (int i = 0; i < SEEN_TRIES && !e->seen && !e->looked && has_collector(e); i++) {
        if (i)
            poll(NULL, 0, SEEN_MS);
        sync_all(e, SYNC_MS); /* it asked before this invocation could begin: now that has been looked at */
        while (take_news(e, 0, event->request_id, &done))
            ;
    }
    e->looked = true;
    while (e->seen && !(done && e->asks) && has_collector(e))
        if (!take_news(e, event->deadline_ms, event->request_id, &done))
            return;
}

static void end_collector(struct extension *e, const struct lambda_event *event)
{
    int64_t now = clock_ms(CLOCK_REALTIME), until = event->deadline_ms ? event->deadline_ms : now + SHUTDOWN_MS;

    if (until > now + SHUTDOWN_MS)
        until = now + SHUTDOWN_MS;
    until -= LEAVE_MS;
    sync_all(e, until - COLLECTOR_SHARE_MS - now);
    if (!has_collector(e))
        return;
    kill(e->collector, SIGTERM);
    while (waitpid(e->collector, NULL, WNOHANG) == 0) {
        if (clock_ms(CLOCK_REALTIME) >= until) {
            kill(e->collector, SIGKILL);
            waitpid(e->collector, NULL, 0);
            cli_error("the time to shut down was too short: destinations may not have got everything");
            return;
        }
        poll(NULL, 0, 2);
    }
}

static int extension(struct args *a)
{
    const char *host = getenv("AWS_LAMBDA_RUNTIME_API"), *slash = strrchr(a->words[0], '/');
    struct extension e = {.news = -1};
    struct lambda_event event = {0};
    int rc;

    if (!host || lambda_api_init(&e.api, host) < 0 || lambda_socket(host, e.socket) < 0) {
        cli_error("AWS_LAMBDA_RUNTIME_API is %s%s: this is for AWS Lambda, which sets it",
                  host ? "no address: " : "not set", host ? host : "");
        return EXIT_FAILED;
    }
    signal(SIGPIPE, SIG_IGN);
    rc = start_collector(&e);
    if (rc < 0) /* the function matters more than watching it */
        cli_error("the collector did not start, and the function runs unobserved: %s",
                  rc == -EPIPE ? "it ended before it was ready" : strerror(-rc));
    rc = lambda_register(&e.api, slash ? slash + 1 : a->words[0]);
    while (rc == 0 && (rc = lambda_next(&e.api, &event)) == 0 && !event.shutdown) {
        await_runtime(&e, &event);
        sync_all(&e, SYNC_MS);
    }
    if (rc < 0) {
        cli_error("%s", e.api.why);
        if (*e.api.id)
            lambda_exit_error(&e.api, "Extension.AppScope");
        event = (struct lambda_event){0};
    }
    end_collector(&e, &event);
    return rc < 0 ? EXIT_FAILED : 0;
}

const struct cli_command command_lambda_extension = {
    .name = "lambda-extension",
    .summary = "Collect in an environment of AWS Lambda",
    .usage = "FILE",
    .description =
        "The external extension of the layer (docs/lambda.md): Lambda starts FILE, whose first line names this "
        "command.",
    .min_args = 1,
    .max_args = 1,
    .hidden = true,
    .run = extension,
};

/* --- the runtime --- */

/* Whether the collector is there, and this user's. */
static int look_for(const char *name)
{
    struct sockaddr_un at;
    socklen_t len = address_of(name, &at), cred_len = sizeof(struct ucred);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), rc = 0;
    struct ucred cred;

    if (fd < 0)
        return -errno;
    if (connect(fd, (struct sockaddr *)&at, len) || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &cred_len))
        rc = -errno;
    else if (cred.uid != geteuid())
        rc = -EPERM;
    close(fd);
    return rc;
}

static int lambda_exec(struct args *a)
{
    const char *host = getenv("AWS_LAMBDA_RUNTIME_API");
    char socket[LAMBDA_SOCKET_MAX], *lib = NULL, *plans = NULL;
    struct joined how = {.socket = socket, .prewarm_ms = PREWARM_MS};
    int rc = host ? lambda_socket(host, socket) : -ENOENT;

    if (rc == 0)
        rc = look_for(socket);
    if (rc == 0)
        rc = find_library(&lib, &plans);
    if (rc < 0) {
        cli_error("%s runs unobserved: %s", a->words[1],
                  rc == -ECONNREFUSED ? "no extension of AppScope runs here" : strerror(-rc));
    } else {
        struct config_sources *config = lambda_config((const char *const *)environ, NULL, NULL);
        struct config *c = config_for(config, NULL);

        how.lib = lib;
        how.plans = plans;
        how.shipped = in_layer(LAYER_PLANS);
        how.mode = launch_mode(c) | SEG_M_TRAFFIC;
        config_free(c);
        config_sources_free(config);
    }
    return exec_joined(&how, a->words + 1);
}

const struct cli_command command_lambda_exec = {
    .name = "lambda-exec",
    .summary = "Run a runtime of AWS Lambda observed",
    .usage = "FILE PROGRAM [ARGUMENTS]",
    .description =
        "What AWS_LAMBDA_EXEC_WRAPPER names (docs/lambda.md): Lambda starts FILE, whose first line names this "
        "command, with the runtime's command line. The runtime joins the collector of the extension; without one "
        "it runs unobserved.",
    .min_args = 2,
    .max_args = -1,
    .stop_at_word = true,
    .hidden = true,
    .run = lambda_exec,
};

/* --- plans for the layer --- */

static int plans(struct args *a)
{
    unsigned made = 0;

    for (int i = 1; i < a->word_count; i++) {
        int rc = launch_plan(a->words[i], a->words[0]);

        made += rc == 0;
        if (rc < 0 && rc != -ENOEXEC) {
            cli_error("%s: %s", a->words[i], strerror(-rc));
            return EXIT_FAILED;
        }
    }
    printf("%u of %d files\n", made, a->word_count - 1);
    return 0;
}

const struct cli_command command_lambda_plans = {
    .name = "lambda-plans",
    .summary = "Make plans of programs and libraries in advance",
    .usage = "DIRECTORY FILE...",
    .description =
        "Puts plans of these programs and libraries into DIRECTORY, by their build-ids: for a layer of AWS Lambda "
        "(dev/lambda-layer).",
    .min_args = 2,
    .max_args = -1,
    .hidden = true,
    .run = plans,
};
