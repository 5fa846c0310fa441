/* SPDX-License-Identifier: Apache-2.0 */
/* Collectors of services: started by systemd with its sockets, or by a script. */
#include "cli/service.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/log.h"
#include "base/safe_path.h"
#include "cli/cli.h"
#include "cli/host_notify.h"
#include "cli/launching.h"
#include "collector/collector.h"
#include "host/service.h"
#include "inject/attach.h"
#include "inject/launch.h"
#include "inject/process.h"
#include "session/retention.h"
#include "session/session.h"
#include "wire/join.h"
#include "wire/rules.h"

#define LISTEN_FD   3 /* of systemd's sockets (sd_listen_fds(3)) */
#define ENV_FILE    "service"
#define ENV_BYTES   16384
#define CONFIG_MAX  ((size_t)1 << 20)
#define PREWARM_MS  5000
#define RELOAD_MS   10000
#define ENVIRON_MAX ((size_t)4 << 20)
#define LOOKS_MAX   500u
#define LOOK_MS     20
#define JOIN_RUNNING_S 60u /* systemd waits 90 s for a unit to start */
#define LINGER_MS   60000 /* a collector that a script has started: longer than a restart takes */
#define MAXSIZE     (UINT64_C(1) << 30) /* of all sessions of a service together */
#define DAYS        30u

/* Sessions that aren't written for the last time yet. */
struct written {
    struct written *next;
    struct session session;
    FILE *log;                 /* NULL: it can't be written */
};

struct observed {
    struct collector_host of;  /* records without end, one session after the other */
    struct service service;
    char *lib, *plans;
    struct buf yml;            /* text of its scope.yml */
    char *yml_path;
    struct written *sessions;
    char *socket;              /* $SCOPE_SOCKET */
    char *env;                 /* its directory below SERVICE_ENV */
};

/* --- configuration --- */

static void told(void *ctx, const struct cfg_problem *p)
{
    log_warning("%s:%u: %s%s%s", p->file ? p->file : "", p->line, p->key ? p->key : "", p->key && *p->key ? ": " : "", p->text);
    if (ctx && p->fatal)
        *(bool *)ctx = true;
}

/* 0, also if there is none, or -errno, told. */
static int read_config(const char *path, struct buf *ret)
{
    char *why = NULL;
    int fd = safe_read(path), rc;
    ssize_t n;

    if (fd == -ENOENT || fd == -ENOTDIR)
        return 0;
    rc = fd < 0 ? fd : safe_author(path, &why); /* what it says is done with the collector's rights */
    do {
        n = rc < 0 ? 0 : read(fd, buf_room(ret, 16384), 16384);
        if (n > 0)
            ret->len += (size_t)n;
    } while (n > 0 && ret->len < CONFIG_MAX);
    if (rc == 0 && n < 0)
        rc = -errno;
    if (fd >= 0)
        close(fd);
    if (rc < 0) {
        log_warning("%s can't be read: %s", path, why ? why : strerror(-rc));
        buf_reset(ret);
    }
    free(why);
    return rc;
}

/* dir: of the session; NULL: it isn't known yet. */
static struct config_sources *sources_for(const char *path, const struct buf *yml, const char *dir, bool *ret_wrong)
{
    struct config_sources *config = config_sources_new();

    config_sources_start_at(config, "/");
    launching_defaults(config, dir);
    if (yml->len && config_add_text(config, path, yml->p, yml->len, told, ret_wrong) < 0)
        *ret_wrong = true;
    return config;
}

/* What a process that joins begins with, before the collector has said more. */
static uint32_t mode_of(const struct observed *o)
{
    bool wrong = false;
    struct config_sources *sources = sources_for(o->yml_path, &o->yml, "/nonexistent", &wrong);
    struct config *c = config_for(sources, NULL);
    uint32_t mode = launch_mode(c);

    config_free(c);
    config_sources_free(sources);
    return mode;
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

    w->log = launching_log_file(path);
    if (w->log)
        log_setup(w->log, (enum log_level)c->libscope.log.level, NULL);
    else
        log_error("%s: %s", path, strerror(errno));
    free(path);
}

static int begin_session(void *ctx, struct session **ret, struct config_sources **ret_config)
{
    struct observed *o = ctx;
    struct written *w = xcalloc(1, sizeof(*w));
    struct session *s = &w->session;
    bool wrong = false;
    char *what = NULL;
    struct config *c;
    int rc;

    *s = (struct session){.exit_code = -1, .start_ns = realtime_ns(), .command = xstrdup(o->service.name),
                          .kind = xstrdup("service"), .cwd = xstrdup("/"), .socket = xstrdup(o->socket)};
    s->argv = xcalloc(2, sizeof(char *));
    s->argv[0] = xstrdup(o->service.name);
    rc = session_create(s, &what);
    if (rc == 0) {
        *ret_config = sources_for(o->yml_path, &o->yml, s->dir, &wrong);
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
        log_error("no session can be stored: %s: %s", what ? what : "", strerror(-rc));
        session_clear(s);
        free(w);
    } else {
        w->next = o->sessions;
        o->sessions = w;
        *ret = s;
    }
    free(what);
    return rc;
}

/* JOIN_RELOAD. A collector that isn't root's can't read the file any more. */
static int configure(void *ctx, const struct session *s, struct config_sources **ret)
{
    struct observed *o = ctx;
    struct buf yml = BUF_INIT;
    bool wrong = read_config(o->yml_path, &yml) < 0;

    *ret = sources_for(o->yml_path, &yml, s->dir, &wrong);
    if (wrong) {
        log_warning("the configuration stays as it was");
        config_sources_free(*ret);
        buf_free(&yml);
        return -EINVAL;
    }
    buf_free(&o->yml);
    o->yml = yml;
    log_info("the configuration was read again");
    return 0;
}

static void end_session(void *ctx, struct session *s)
{
    struct observed *o = ctx;

    for (struct written **at = &o->sessions, *w; (w = *at); at = &w->next)
        if (&w->session == s) {
            *at = w->next;
            if (w->log)
                fclose(w->log);
            session_clear(s);
            free(w);
            return;
        }
}

/* Old sessions go before there is another one. */
static void sweep(void)
{
    struct retention keep = {.maxsize = MAXSIZE, .days = DAYS, .now_ns = realtime_ns()};
    struct retained kept;
    int history = retention_open();

    if (history < 0)
        return;
    retention_apply(history, &keep, &kept);
    close(history);
}

/* --- before it is observed --- */

bool service_user(const char *name, uid_t *ret_uid, gid_t *ret_gid)
{
    FILE *f = fopen("/etc/passwd", "re");
    struct passwd *pw = NULL;

    while (f && (pw = fgetpwent(f)) && strcmp(pw->pw_name, name) != 0)
        ;
    if (pw) {
        *ret_uid = pw->pw_uid;
        *ret_gid = pw->pw_gid;
    }
    if (f)
        fclose(f);
    return pw != NULL;
}

/* Its group, and then its number: for a while, or for good. 0, or an exit status after a message. */
static int become(const char *user, bool for_good)
{
    uid_t uid;
    gid_t gid;
    int rc = -1;

    if (!user)
        return 0;
    errno = ENOENT;
    if (service_user(user, &uid, &gid) && (!for_good || seteuid(0) == 0) && (!for_good || setegid(0) == 0) &&
        setgroups(1, &gid) == 0)
        rc = for_good ? setresgid(gid, gid, gid) | setresuid(uid, uid, uid) : setegid(gid) | seteuid(uid);
    if (rc == 0)
        return 0;
    cli_error("can't become %s: %s", user, errno == ENOENT ? "there is no such user" : strerror(errno));
    return EXIT_FAILED;
}

static void become_root(void)
{
    if (seteuid(0) == 0 && setegid(0) == 0)
        return;
    cli_error("can't be root again: %s", strerror(errno));
    _exit(EXIT_FAILED);
}

/* The directory of its sessions, which belongs to whom the collector becomes. 0, or an exit status after a message. */
static int make_store(const struct observed *o, const char *user)
{
    char *store = xasprintf(SERVICE_STORE "/%s", o->service.key), *why = NULL;
    int above = safe_dir(SERVICE_STORE, SAFE_OURS, 0755, &why), rc = above < 0 ? above : 0;
    struct stat st;
    uid_t uid = 0;
    gid_t gid = 0;

    if (rc == 0 && user && !service_user(user, &uid, &gid)) {
        why = xasprintf("there is no user %s", user);
        rc = -ENOENT;
    }

    if (rc == 0 && mkdirat(above, o->service.key, 0700) < 0 && errno != EEXIST)
        rc = -errno;
    if (rc == 0 && fstatat(above, o->service.key, &st, AT_SYMLINK_NOFOLLOW) < 0)
        rc = -errno;
    if (rc == 0 && !S_ISDIR(st.st_mode))
        rc = -ENOTDIR;
    /* What is in it is its owner's: it isn't given to another one. */
    if (rc == 0 && st.st_uid != uid && st.st_uid == 0) {
        rc = unlinkat(above, o->service.key, AT_REMOVEDIR) < 0 ? -errno : mkdirat(above, o->service.key, 0700) < 0 ? -errno : 0;
        if (rc == 0 && fchownat(above, o->service.key, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
            rc = -errno;
        if (rc == -ENOTEMPTY)
            why = xstrdup("sessions of root are there: move them away, or leave --user out");
    } else if (rc == 0 && st.st_uid != uid) {
        why = xasprintf("belongs to user %u: move it away", (unsigned)st.st_uid);
        rc = -EPERM;
    }
    if (rc < 0)
        cli_error("%s: %s", store, why ? why : strerror(-rc));
    else
        setenv("SCOPE_HOME", store, 1);
    if (above >= 0)
        close(above);
    free(why);
    free(store);
    return rc < 0 ? EXIT_FAILED : 0;
}

static char *new_secret(void)
{
    unsigned long long random[2];

    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
        return NULL;
    return xasprintf("%016llx%016llx", random[0], random[1]);
}

/* What the service gets, for its init system: for root alone, because of the secret. preload: what stands behind the
 * library. */
static void put_environment(const struct observed *o, const char *preload, struct buf *b)
{
    buf_printf(b, "LD_PRELOAD=\"%s%s\"\n" ENV_SOCKET "=\"%s\"\n" ENV_PLANS "=\"%s\"\n" ENV_MODE "=\"%x\"\n", o->lib, preload,
               o->socket, o->plans, mode_of(o));
}

/* A directory below SERVICE_ENV, root's alone; HOST_DIR above it is everybody's to look into, who ever makes it. */
static int environment_dir(const char *path, bool make, char **ret_why)
{
    int above = make ? safe_dir(HOST_DIR, SAFE_OURS, 0755, ret_why) : -1;

    if (above >= 0)
        close(above);
    else if (make)
        return above;
    return safe_dir(path, SAFE_OURS, make ? 0700 : 0, ret_why);
}

/* 0, or an exit status after a message. text NULL: there is to be none. */
static int write_environment(const struct observed *o, const struct buf *text)
{
    char *why = NULL;
    int dir = environment_dir(o->env, text != NULL, &why), rc = dir < 0 ? dir : 0;

    if (rc == 0 && text)
        rc = safe_replace(dir, ENV_FILE, text->p, text->len, 0600);
    else if (rc == 0 && unlinkat(dir, ENV_FILE, 0) < 0 && errno != ENOENT)
        rc = -errno;
    if (rc < 0 && (text || rc != -ENOENT))
        cli_error("%s: %s", o->env, why ? why : strerror(-rc));
    if (dir >= 0)
        close(dir);
    free(why);
    return rc < 0 ? EXIT_FAILED : 0;
}

static void done(struct observed *o)
{
    service_clear(&o->service);
    buf_free(&o->yml);
    free(o->yml_path);
    free(o->lib);
    free(o->plans);
    free(o->socket);
    free(o->env);
}

/* Everything that takes root: 0, or an exit status after a message. */
static int prepare(struct observed *o, const char *name)
{
    char *why = NULL, *image = NULL;
    enum exe_kind kind;
    int rc;

    *o = (struct observed){.of = {.maxsize = MAXSIZE, .days = DAYS, .begin = begin_session, .configure = configure,
                                  .end = end_session}};
    o->of.ctx = o;
    if (geteuid() != 0) {
        cli_error("must be run as root");
        return EXIT_FAILED;
    }
    rc = service_find(name, &o->service, &why);
    if (rc < 0) {
        cli_error("%s: %s", name, why ? why : strerror(-rc));
        free(why);
        return SERVICE_REFUSED;
    }
    o->env = xasprintf(SERVICE_ENV "/%s", o->service.key);
    write_environment(o, NULL);
    why = service_outdated(&o->service);
    if (why) {
        cli_error("%s is not observed: %s", o->service.name, why);
        free(why);
        return SERVICE_REFUSED;
    }
    rc = launch_install(NULL, &o->lib, &o->plans, &why);
    if (rc < 0) {
        cli_error("can't install the library: %s: %s", why, strerror(-rc));
        free(why);
        return EXIT_FAILED;
    }
    if (strncmp(o->lib, HOST_LIB_DIR "/", strlen(HOST_LIB_DIR "/")) != 0)
        cli_error("the library is in %s, as it can't be written below " HOST_LIB_DIR
                  ": a service with a /tmp of its own doesn't find it", o->lib);
    o->yml_path = xasprintf(SERVICE_CONFIG "/%s/scope.yml", o->service.name);
    read_config(o->yml_path, &o->yml);
    if (o->service.program && launch_classify(o->service.program, &kind, &image) == 0)
        launch_prewarm(image, o->plans, PREWARM_MS);
    free(image);
    return 0;
}

/* --- the collector --- */

/* Sessions begin as the user whom the collector becomes, and who owns them: 0, or an exit status after a message. */
static int begin(struct observed *o, const char *user, struct collector_options *ret)
{
    int rc = make_store(o, user);

    if (rc == 0)
        rc = become(user, false);
    if (rc)
        return rc;
    sweep();
    if (begin_session(o, &ret->session, &ret->config) < 0)
        return EXIT_FAILED;
    ret->plan_dir = o->plans;
    ret->lib = o->lib;
    return 0;
}

/* Tells systemd when the collector has said that it runs: the service is started then. */
static void *tell_ready(void *arg)
{
    int from = (int)(intptr_t)arg;
    char byte;

    while (read(from, &byte, 1) < 0 && errno == EINTR)
        ;
    close(from);
    notify("READY=1");
    return NULL;
}

/* Surroundings of a collector. */
static void detach(const struct collector_options *options, int ready)
{
    struct config *config = config_for(options->config, NULL);
    int keep[SAFE_KEPT_MAX + 5];
    size_t kept = safe_kept(keep); /* the directories that it will write to */

    keep[kept++] = options->listen_fd;
    keep[kept++] = options->request_fd;
    keep[kept++] = options->ready_fd;
    keep[kept++] = ready;
    launch_detach(config, keep, kept);
    config_free(config);
}

int service_collector(const char *name, const char *user)
{
    struct collector_options options = {.listen_fd = LISTEN_FD, .request_fd = LISTEN_FD + 1};
    char *secret = new_secret(), *more = NULL;
    struct buf text = BUF_INIT;
    struct observed o;
    pthread_t teller;
    int ready[2], rc;

    log_setup(stderr, LOGL_WARNING, "scope");
    notify_begin();
    rc = prepare(&o, name);
    if (rc == 0 && notify_sockets() != 2) {
        cli_error("no sockets: systemd starts this (appscope-NAME.service)");
        rc = EXIT_FAILED;
    }
    if (rc == 0 && (!secret || pipe2(ready, O_CLOEXEC) < 0)) {
        cli_error("%s", strerror(errno));
        rc = EXIT_FAILED;
    }
    if (rc)
        goto out;
    o.socket = xasprintf("%c" SERVICE_RUN "/%s/socket%c%s", JOIN_PATH_MARK, o.service.key, JOIN_SECRET_MARK, secret);
    more = xasprintf("%s%s", o.service.preload ? ":" : "", o.service.preload ? o.service.preload : "");
    put_environment(&o, more, &text);
    rc = begin(&o, user, &options);
    if (rc)
        goto out;
    become_root();
    rc = write_environment(&o, &text);
    if (rc == 0)
        rc = become(user, true);
    if (rc)
        goto out;
    options.secret = secret;
    options.ready_fd = ready[1];
    options.host = &o.of;
    detach(&options, ready[0]);
    if (pthread_create(&teller, NULL, tell_ready, (void *)(intptr_t)ready[0]) == 0)
        pthread_detach(teller);
    rc = collector_run(&options);
    log_setup(stderr, LOGL_NONE, NULL);
    while (o.sessions)
        end_session(&o, &o.sessions->session);
out:
    buf_free(&text);
    free(more);
    free(secret);
    done(&o);
    return rc;
}

/* --- for scripts, and for what runs already --- */

/* What the collector has left for the service; false if there is none. */
static bool read_environment(const char *key, struct buf *ret)
{
    char *path = xasprintf(SERVICE_ENV "/%s/" ENV_FILE, key);
    int fd = safe_read(path);
    ssize_t n = fd < 0 ? -1 : read(fd, buf_room(ret, ENV_BYTES), ENV_BYTES);

    if (fd >= 0)
        close(fd);
    free(path);
    if (n > 0)
        ret->len = (size_t)n;
    return n > 0;
}

/* A value in it: malloc'ed, or NULL. */
static char *value_of(struct buf *text, const char *name)
{
    char *start = xasprintf("%s=\"", name), *at = strstr(buf_cstr(text), start), *value = NULL;

    if (at)
        value = xstrndup(at + strlen(start), strcspn(at + strlen(start), "\""));
    free(start);
    return value;
}

static void print_exports(struct buf *text)
{
    for (char *line = buf_cstr(text), *end; (end = strchr(line, '\n')); line = end + 1)
        printf("export %.*s\n", (int)(end - line), line);
}

struct as_user {
    struct collector_options options;
    const char *user;
};

static int run_as(void *arg, int listen_fd, int ready_fd, const char *secret)
{
    struct as_user *as = arg;

    as->options.listen_fd = listen_fd;
    as->options.ready_fd = ready_fd;
    as->options.secret = secret;
    return become(as->user, true) ? EXIT_FAILED : collector_run(&as->options);
}

static bool answers(const char *socket)
{
    struct join_request req = {.type = JOIN_CRASHES};

    return session_ask(socket, NULL, &req, -1, NULL, JOIN_WAIT_MS) == 0;
}

/* One at a time, so that a second start finds what the first one has started. A descriptor or -errno. */
static int lock(void)
{
    int dir = environment_dir(SERVICE_ENV, true, NULL);
    int fd = dir < 0 ? dir : openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (dir >= 0)
        close(dir);
    if (fd >= 0)
        flock(fd, LOCK_EX);
    return fd;
}

/* Prints what the collector that runs has left: false if none runs. */
static bool started(const char *name)
{
    struct buf text = BUF_INIT;
    char *socket = NULL, *why = NULL;
    struct service s;
    bool runs = false;

    if (service_find(name, &s, &why) == 0) {
        if (read_environment(s.key, &text))
            socket = value_of(&text, ENV_SOCKET);
        runs = socket && answers(socket);
        if (runs)
            print_exports(&text);
        service_clear(&s);
    }
    free(why);
    free(socket);
    buf_free(&text);
    return runs;
}

int service_start(const char *name, const char *user)
{
    struct as_user as = {.options = {.linger_ms = LINGER_MS}, .user = user};
    struct buf text = BUF_INIT;
    struct config *config;
    struct observed o;
    int fd = geteuid() == 0 ? lock() : -1, rc = 0;

    log_setup(stderr, LOGL_WARNING, "scope");
    if (!started(name)) {
        rc = prepare(&o, name);
        o.socket = xstrdup("");
        if (rc == 0)
            rc = begin(&o, user, &as.options);
        if (rc == 0) {
            free(o.socket);
            o.socket = NULL;
            config = config_for(as.options.config, NULL);
            rc = launch_collector(config, as.options.session, run_as, &as, &o.socket);
            config_free(config);
            become_root();
            if (rc < 0)
                cli_error("the collector did not start: %s", strerror(-rc));
            else
                put_environment(&o, "${LD_PRELOAD:+:$LD_PRELOAD}", &text);
            rc = rc < 0 ? EXIT_FAILED : write_environment(&o, &text);
            if (rc == 0)
                print_exports(&text);
            while (o.sessions)
                end_session(&o, &o.sessions->session);
            config_sources_free(as.options.config);
        }
        buf_free(&text);
        done(&o);
    }
    if (fd >= 0)
        close(fd);
    return rc;
}

/* What the collector of a service has left for whoever joins it. */
struct place {
    struct service service;
    char *socket, *lib, *plans;
    uint32_t mode;
};

static void place_clear(struct place *p)
{
    service_clear(&p->service);
    free(p->socket);
    free(p->lib);
    free(p->plans);
}

/* 0, or -errno: -ENOENT if it has no collector, which has said why. Undo, also after an error: place_clear(). */
static int place_find(const char *name, struct place *ret, char **ret_why)
{
    struct buf text = BUF_INIT;
    char *mode = NULL;
    int rc;

    *ret = (struct place){0};
    rc = service_find(name, &ret->service, ret_why);
    if (rc == 0 && !read_environment(ret->service.key, &text))
        rc = -ENOENT;
    if (rc == 0) {
        ret->socket = value_of(&text, ENV_SOCKET);
        ret->lib = value_of(&text, "LD_PRELOAD");
        ret->plans = value_of(&text, ENV_PLANS);
        mode = value_of(&text, ENV_MODE);
        if (!ret->socket || !ret->lib || !ret->plans || !mode) {
            rc = -EINVAL;
        } else {
            ret->lib[strcspn(ret->lib, ":")] = '\0';
            ret->mode = (uint32_t)strtoul(mode, NULL, 16);
        }
    }
    free(mode);
    buf_free(&text);
    return rc;
}

static int attach_to(const struct place *p, pid_t pid, char **ret_why)
{
    struct attach_result result = {0};
    struct attach *attach;
    int rc = attach_prepare(pid, p->plans, p->mode, &attach, ret_why);

    if (rc < 0)
        return rc;
    rc = attach_run(attach, p->socket, p->lib, &result, ret_why);
    attach_free(attach);
    return rc;
}
/* --- what runs when its collector begins --- */

/* Whether it has been started with the present collector's socket, and joins by itself. */
static bool joins(pid_t pid, const char *socket)
{
    char *path = xasprintf("/proc/%d/environ", (int)pid), *exe = xasprintf("/proc/%d/exe", (int)pid), *line = NULL;
    char *entry = xasprintf(ENV_SOCKET "=%s", socket);
    FILE *f = fopen(path, "re");
    enum exe_kind kind = EXE_UNKNOWN;
    size_t size = 0, read = 0;
    bool told = false;
    ssize_t n;

    launch_classify(exe, &kind, NULL);
    while (!told && f && read < ENVIRON_MAX && (n = getdelim(&line, &size, '\0', f)) > 0) {
        told = strcmp(line, entry) == 0;
        read += (size_t)n;
    }
    if (f)
        fclose(f);
    free(line);
    free(entry);
    free(path);
    free(exe);
    return told && kind != EXE_STATIC;
}

/* systemd's own child, which hasn't executed the service yet, calls itself "(NAME)". */
static bool is_to_be(pid_t pid)
{
    struct process_facts facts;

    return process_facts(pid, &facts) == 0 && *facts.name == '(';
}

/* A probe that a collector of the service at `socket` has observed by: 1, none: 0, one of another session: -EALREADY. */
static int has_ours(const char *socket, pid_t pid)
{
    size_t name = strcspn(socket, (char[]){JOIN_SECRET_MARK, '\0'});
    struct process_probe probe;
    struct process_maps m;
    bool found;
    int rc = process_maps(pid, &m);

    if (rc < 0)
        return rc;
    found = process_find_probe(pid, &m, &probe, NULL);
    process_maps_free(&m);
    if (!found)
        return 0;
    return strncmp(probe.probe.socket, socket, name) == 0 && probe.probe.socket[name] == JOIN_SECRET_MARK ? 1 : -EALREADY;
}

static bool is_our_own(pid_t pid)
{
    char *path = xasprintf("/proc/%d/exe", (int)pid);
    struct stat a, b;
    bool own = stat(path, &a) == 0 && stat("/proc/self/exe", &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;

    free(path);
    return own;
}

/* 1 if it has been attached to, 0 if there was nothing to do, or -errno with *ret_why. */
static int join_again(const struct place *p, pid_t pid, char **ret_why)
{
    struct join_request req = {.type = JOIN_KNOWN, .tid = (uint32_t)pid};
    struct attach_result result;
    int rc = session_ask(p->socket, NULL, &req, -1, NULL, JOIN_WAIT_MS);

    if (rc != -ESRCH) /* it is observed, or its user has had it detached */
        return rc == -ECANCELED ? 0 : rc;
    if (is_our_own(pid) || joins(pid, p->socket))
        return 0;
    rc = has_ours(p->socket, pid);
    if (rc == -EALREADY)
        return 0;
    if (rc > 0) {
        rc = detach_run(pid, p->plans, &result, ret_why);
        if (rc == -EALREADY || rc == -ENOENT) {
            free(*ret_why);
            *ret_why = NULL;
            rc = 0;
        }
    }
    if (rc == 0)
        rc = attach_to(p, pid, ret_why);
    return rc < 0 ? rc : 1;
}

static bool is_among(const pid_t *pids, size_t count, pid_t pid)
{
    while (count)
        if (pids[--count] == pid)
            return true;
    return false;
}

int service_join_running(const char *name)
{
    pid_t *pids, *seen = NULL;
    size_t seen_count = 0;
    bool more = true;
    struct place p;
    char *why = NULL;
    int rc = place_find(name, &p, &why);

    /* A process that can't be looked at must not keep the collector's unit from having started. */
    alarm(JOIN_RUNNING_S);
    if (rc < 0)
        cli_error("%s: %s", name, why ? why : strerror(-rc));
    free(why);
    /* Those that they have forked meanwhile come with the next look. */
    for (unsigned look = 0; rc == 0 && more && look < LOOKS_MAX; look++) {
        size_t count = service_processes(&p.service, &pids);

        if (look)
            poll(NULL, 0, LOOK_MS);
        more = false;
        for (size_t i = 0; i < count; i++) {
            int joined;

            if (is_among(seen, seen_count, pids[i]))
                continue;
            if (is_to_be(pids[i])) {
                more = true;
                continue;
            }
            seen = xrealloc(seen, seen_count + 1, sizeof(*seen));
            seen[seen_count++] = pids[i];
            why = NULL;
            joined = join_again(&p, pids[i], &why);
            more |= joined > 0;
            if (joined < 0 && joined != -EALREADY && joined != -ESRCH)
                cli_error("process %d of %s, which ran before its collector, is not observed: %s", (int)pids[i], name,
                          why ? why : strerror(-joined));
            free(why);
        }
        free(pids);
    }
    free(seen);
    place_clear(&p);
    return rc < 0 ? EXIT_FAILED : 0;
}

unsigned service_leave(const char *name, const char *key)
{
    struct service s = {.init = host_init(""), .name = (char *)name, .key = (char *)key};
    char *socket = xasprintf("%c" SERVICE_RUN "/%s/socket", JOIN_PATH_MARK, key), *lib = NULL, *plans = NULL;
    pid_t *pids;
    size_t count = service_processes(&s, &pids);
    unsigned left = 0;

    for (size_t i = 0; i < count; i++) {
        struct attach_result result;
        char *why = NULL;
        int rc = has_ours(socket, pids[i]);

        if (rc > 0 && (plans || (rc = launch_install(NULL, &lib, &plans, &why)) == 0))
            rc = detach_run(pids[i], plans, &result, &why);
        if (rc < 0 && rc != -EALREADY && rc != -ENOENT && rc != -ESRCH) {
            cli_error("process %d can't be left: %s", (int)pids[i], why ? why : strerror(-rc));
            left++;
        }
        free(why);
    }
    free(pids);
    free(socket);
    free(lib);
    free(plans);
    return left;
}

int service_check(const char *name)
{
    struct observed o = {0};
    char *why = NULL, *unit;
    pid_t pid;
    int rc = service_find(name, &o.service, &why);

    if (rc == 0)
        why = service_outdated(&o.service);
    if (rc == 0 && why) {
        o.env = xasprintf(SERVICE_ENV "/%s", o.service.key);
        unit = xasprintf("appscope-%s.service", o.service.key);
        cli_error("%s is not observed: %s", o.service.name, why);
        write_environment(&o, NULL);
        /* It is of no use any more; the next start of the service asks for another one. */
        if (posix_spawnp(&pid, "systemctl", NULL, NULL, (char *const[]){"systemctl", "--no-block", "stop", unit, NULL}, environ) == 0)
            while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
        free(unit);
    }
    free(why);
    done(&o);
    return 0;
}

int service_reload(const char *name)
{
    struct join_request req = {.type = JOIN_RELOAD};
    char *why = NULL;
    struct place p;
    int rc = place_find(name, &p, &why);

    if (rc == 0)
        rc = session_ask(p.socket, NULL, &req, -1, NULL, RELOAD_MS);
    free(why);
    place_clear(&p);
    return rc;
}
