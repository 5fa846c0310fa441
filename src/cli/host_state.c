/* SPDX-License-Identifier: Apache-2.0 */
/* What start, stop and the supervisor share: files below HOST_DIR and HOST_LIB_DIR, and the rules in force. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/safe_path.h"
#include "cli/host_setup.h"
#include "config/config.h"
#include "host/host.h"
#include "inject/launch.h"
#include "rules/rules.h"

#define STATUS_MAX 65536
#define TEXT_MAX   ((size_t)1 << 20)
#define EXE_MAX    ((off_t)256 << 20)

#define RULES_NAME  "rules"
#define STATUS_NAME "status.json"
#define LOCK_NAME   "supervisor"
#define GOOD_NAME   "rules.yml" /* text of the rules in force */
#define EXE_NAME    "scope"

int host_dir(char **ret_why)
{
    return safe_dir(HOST_DIR, SAFE_OURS, 0755, ret_why);
}

/* --- the supervisor's lock --- */

static struct flock whole(short type)
{
    return (struct flock){.l_type = type, .l_whence = SEEK_SET};
}

int host_lock_supervisor(void)
{
    struct flock l = whole(F_WRLCK);
    int dir = host_dir(NULL), fd, rc;
    char text[24];

    if (dir < 0)
        return dir;
    fd = openat(dir, LOCK_NAME, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    rc = fd < 0 ? -errno : 0;
    close(dir);
    if (rc == 0 && fcntl(fd, F_SETLK, &l) < 0)
        rc = errno == EACCES || errno == EAGAIN ? -EWOULDBLOCK : -errno;
    if (rc < 0) {
        if (fd >= 0)
            close(fd);
        return rc;
    }
    snprintf(text, sizeof(text), "%d\n", (int)getpid()); /* for people */
    (void)!(ftruncate(fd, 0) < 0 || pwrite(fd, text, strlen(text), 0) < 0); /* the lock is what counts */
    return fd;
}

pid_t host_supervisor_pid(void)
{
    struct flock l = whole(F_WRLCK);
    int fd = open(HOST_SUPERVISOR, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    pid_t pid = 0;

    if (fd < 0)
        return 0;
    if (fcntl(fd, F_GETLK, &l) == 0 && l.l_type != F_UNLCK)
        pid = l.l_pid;
    close(fd);
    return pid > 0 ? pid : 0;
}

/* --- its status --- */

void host_status_clear(struct host_status *s)
{
    free(s->rules_error);
    free(s->preload_error);
    *s = (struct host_status){0};
}

static void add_text(struct buf *b, const char *name, const char *text)
{
    buf_printf(b, ",\"%s\":", name);
    if (text)
        buf_json_str(b, text);
    else
        buf_str(b, "null");
}

int host_status_write(const struct host_status *s)
{
    int dir = host_dir(NULL), rc;
    struct buf b = BUF_INIT;

    if (dir < 0)
        return dir;
    buf_printf(&b, "{\"pid\":%d,\"ready\":%s,\"collector\":%d,\"reach\":%d,\"restarts\":%llu,\"rules\":%u", (int)s->pid,
               s->ready ? "true" : "false", (int)s->collector, (int)s->reach, (unsigned long long)s->restarts, s->rules);
    add_text(&b, "rulesError", s->rules_error);
    add_text(&b, "preloadError", s->preload_error);
    buf_str(&b, "}\n");
    rc = safe_replace(dir, STATUS_NAME, b.p, b.len, 0644);
    buf_free(&b);
    close(dir);
    return rc;
}

/* Whether the process is a supervisor: for those who may not ask for its lock. */
static bool is_supervisor(pid_t pid)
{
    char path[64], name[32];
    int fd;
    ssize_t n;

    snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    n = fd < 0 ? -1 : read(fd, name, sizeof(name) - 1);
    if (fd >= 0)
        close(fd);
    return n > 0 && strncmp(name, "scope-host\n", (size_t)n) == 0;
}

int host_status_read(struct host_status *ret)
{
    int dir = safe_dir(HOST_DIR, SAFE_OURS, 0, NULL), fd = dir < 0 ? dir : safe_read_at(dir, STATUS_NAME);
    char text[STATUS_MAX];
    json_t *o;
    ssize_t n;

    *ret = (struct host_status){0};
    if (dir >= 0)
        close(dir);
    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    n = read(fd, text, sizeof(text));
    close(fd);
    o = n > 0 ? json_loadb(text, (size_t)n, 0, NULL) : NULL;
    if (!json_is_object(o)) {
        json_decref(o);
        return -EINVAL;
    }
    *ret = (struct host_status){
        .pid = (pid_t)json_integer_value(json_object_get(o, "pid")),
        .ready = json_is_true(json_object_get(o, "ready")),
        .collector = (pid_t)json_integer_value(json_object_get(o, "collector")),
        .reach = (pid_t)json_integer_value(json_object_get(o, "reach")),
        .restarts = (uint64_t)json_integer_value(json_object_get(o, "restarts")),
        .rules = (unsigned)json_integer_value(json_object_get(o, "rules")),
        .rules_error = xstrdup(json_string_value(json_object_get(o, "rulesError"))),
        .preload_error = xstrdup(json_string_value(json_object_get(o, "preloadError"))),
    };
    json_decref(o);
    if (geteuid() == 0 ? host_supervisor_pid() == ret->pid : is_supervisor(ret->pid))
        return 0;
    host_status_clear(ret); /* of one that was killed */
    return 0;
}

/* --- files --- */

static bool is_same(int dir, const char *bytes, size_t size)
{
    int fd = safe_read_at(dir, EXE_NAME);
    char chunk[65536];
    struct stat st;
    size_t at = 0;
    ssize_t n;

    if (fd < 0)
        return false;
    if (fstat(fd, &st) == 0 && (size_t)st.st_size == size && (st.st_mode & 07777) == 0755)
        while (at < size && (n = read(fd, chunk, sizeof(chunk))) > 0 && (size_t)n <= size - at &&
               memcmp(chunk, bytes + at, (size_t)n) == 0)
            at += (size_t)n;
    close(fd);
    return at == size;
}

/* This executable, in the directory of the library. */
static int install_exe(int dir)
{
    struct stat mine;
    int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), rc = 0;
    void *bytes;
    ssize_t n;
    off_t at = 0;

    if (self < 0)
        return -errno;
    if (fstat(self, &mine) < 0 || mine.st_size > EXE_MAX) {
        close(self);
        return -EFBIG;
    }
    bytes = xmalloc((size_t)mine.st_size + 1);
    while (at < mine.st_size && (n = read(self, (char *)bytes + at, (size_t)(mine.st_size - at))) > 0)
        at += n;
    close(self);
    if (at != mine.st_size)
        rc = -EIO;
    else if (!is_same(dir, bytes, (size_t)at)) /* what runs there keeps the name of its executable */
        rc = safe_replace_lasting(dir, EXE_NAME, bytes, (size_t)at, 0755);
    free(bytes);
    return rc;
}

int host_install(char **ret_lib, char **ret_plans, char **ret_exe, char **ret_why)
{
    char *lib = NULL, *plans = NULL, *inner = NULL;
    int dir = safe_dir(HOST_LIB_DIR, SAFE_OURS, 0755, ret_why), rc = dir < 0 ? dir : 0;

    if (dir >= 0)
        close(dir);
    if (rc == 0)
        rc = launch_install(HOST_LIB_DIR, &lib, &plans, ret_why);
    if (rc == 0 && ret_exe) {
        inner = xstrndup(lib, (size_t)(strrchr(lib, '/') - lib));
        dir = safe_dir(inner, SAFE_OURS, 0, ret_why);
        rc = dir < 0 ? dir : install_exe(dir);
        if (dir >= 0)
            close(dir);
        if (rc == 0)
            *ret_exe = xasprintf("%s/" EXE_NAME, inner);
        free(inner);
    }
    if (rc == 0) {
        *ret_lib = lib;
        *ret_plans = plans;
        return 0;
    }
    if (!*ret_why)
        *ret_why = xasprintf(HOST_LIB_DIR ": %s", strerror(-rc));
    free(lib);
    free(plans);
    return rc;
}

/* --- rules --- */

struct mode_ctx {
    const struct rules *rules;
    struct config_sources *sources;
};

static uint32_t mode_of(void *ctx, const struct rule *r)
{
    const struct mode_ctx *m = ctx;
    struct config *c = rules_config(m->rules, m->sources, r);
    uint32_t mode = launch_mode(c);

    config_free(c);
    return mode;
}

/* Closes it. */
static void read_all(int fd, struct buf *b)
{
    ssize_t n;

    while (fd >= 0 && b->len <= TEXT_MAX && (n = read(fd, buf_room(b, 4096), 4096)) > 0)
        b->len += (size_t)n;
    if (fd >= 0)
        close(fd);
}

static void read_text(const char *path, struct buf *b)
{
    read_all(safe_read(path), b);
}

/* The first fatal problem, in one line. */
static void first_problem(void *ctx, const struct cfg_problem *p)
{
    struct buf b = BUF_INIT;
    char **why = ctx;

    if (!p->fatal || *why)
        return;
    buf_printf(&b, "%s", p->file && *p->file ? p->file : HOST_RULES);
    if (p->line)
        buf_printf(&b, ":%u", p->line);
    buf_printf(&b, ": %s%s%s", p->key ? p->key : "", p->key && *p->key ? ": " : "", p->text);
    *why = xstrdup(buf_cstr(&b));
    buf_free(&b);
}

static uint64_t last_generation(int dir)
{
    struct rules_head h = {0};
    int fd = safe_read_at(dir, RULES_NAME);

    if (fd >= 0) {
        if (read(fd, &h, sizeof(h)) != (ssize_t)sizeof(h) || h.magic != RULES_MAGIC)
            h.generation = 0;
        close(fd);
    }
    return h.generation;
}

int host_compile_rules(const char *plans, unsigned *ret_count, char **ret_why)
{
    struct rules r = {0};
    struct mode_ctx m = {&r, NULL};
    struct buf text = BUF_INIT, host = BUF_INIT; /* of the rules, and of the configuration for all programs */
    size_t size = 0;
    int dir, rc;
    void *bytes;

    *ret_why = NULL;
    rc = rules_read(HOST_RULES, &r, first_problem, ret_why);
    if (rc == 0) { /* what is parsed here is what is kept: the file may be another one by now */
        rules_free(&r);
        read_text(HOST_RULES, &text);
        rc = rules_parse(HOST_RULES, text.p ? text.p : "", text.len, &r, first_problem, ret_why);
    } else if (rc == -ENOENT) {
        rc = 0;
    }
    if (rc < 0) {
        buf_free(&text);
        if (!*ret_why)
            *ret_why = xasprintf(HOST_RULES ": %s", strerror(-rc));
        return rc;
    }
    free(*ret_why);
    *ret_why = NULL;
    dir = host_dir(ret_why);
    rc = dir < 0 ? dir : 0;
    if (rc == 0) {
        read_text(HOST_CONFIG_DIR "/scope.yml", &host);
        m.sources = config_sources_new();
        config_sources_start_at(m.sources, "/");
        if (host.len)
            config_add_text(m.sources, "scope.yml", host.p, host.len, NULL, NULL);
        rules_configure(&r, m.sources, NULL, NULL);
        bytes = rules_compile(&r, last_generation(dir) + 1, plans, mode_of, &m, &size);
        rc = bytes && rules_valid(bytes, size) ? 0 : -E2BIG;
        if (rc == 0)
            rc = safe_replace(dir, GOOD_NAME, text.p ? text.p : "", text.len, 0600); /* it may have tokens in it */
        if (rc == 0)
            rc = safe_replace(dir, RULES_NAME, bytes, size, 0644);
        free(bytes);
        close(dir);
        config_sources_free(m.sources);
        buf_free(&host);
    }
    if (rc < 0 && !*ret_why)
        *ret_why = xasprintf(HOST_RULES_MAPPED ": %s", strerror(-rc));
    if (rc == 0 && ret_count)
        *ret_count = (unsigned)r.count;
    rules_free(&r);
    buf_free(&text);
    return rc;
}

int host_rules_in_force(struct rules *ret, cfg_problem_fn fn, void *ctx)
{
    int dir = safe_dir(HOST_DIR, SAFE_OURS, 0, NULL), fd = dir < 0 ? dir : safe_read_at(dir, GOOD_NAME), rc;
    struct buf text = BUF_INIT;

    if (dir >= 0)
        close(dir);
    if (fd < 0)
        return rules_read(HOST_RULES, ret, fn, ctx); /* no supervisor has been here */
    read_all(fd, &text);
    rc = rules_parse(HOST_RULES, text.p ? text.p : "", text.len, ret, fn, ctx);
    buf_free(&text);
    return rc;
}
