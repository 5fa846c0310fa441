/* SPDX-License-Identifier: Apache-2.0 */
#include "session/session.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/safe_path.h"
#include "wire/join.h"
#include "wire/syscalls.h"

#define METADATA_MAX (4u << 20)           /* more than any command line that execve(2) takes */
#define STARTING_NS UINT64_C(10000000000) /* a session without a collector this young is just being started */
#define SYNC_RETRY_MS 5
#define STORE_LOCK_MS 2000
#define STORE_RETRY_MS 2
#define NOT_OURS " belongs to another user, or others can write to it"
#define BLOCK 4096 /* of a file system; what a directory needs for one more name */

static uint64_t clock_ns(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Whether root's files are safe in a directory, or it isn't there yet. */
static bool safe_for_root(const char *dir)
{
    int fd = safe_dir(dir, SAFE_OURS, 0, NULL);

    if (fd >= 0)
        close(fd);
    return fd != -EPERM && fd != -ELOOP;
}

/* root's home directory as the system knows it. getpwuid(3) loads name service modules, which a static executable can't
 * count on. NULL: not known. */
static char *home_of_root(void)
{
    FILE *f = fopen("/etc/passwd", "re");
    struct passwd *pw;
    char *home = NULL;

    while (f && !home && (pw = fgetpwent(f)))
        if (pw->pw_uid == 0 && *pw->pw_dir == '/')
            home = xstrdup(pw->pw_dir);
    if (f)
        fclose(f);
    return home;
}

static char *store_in(const char *dir)
{
    return xasprintf("%s/.scope", strcmp(dir, "/") == 0 ? "" : dir);
}

/* *ret_shared: the directory above it is everybody's, and not ours to make. */
static char *find_base(bool *ret_shared)
{
    const char *home = getenv("SCOPE_HOME"), *tmp = getenv("TMPDIR");

    *ret_shared = false;

    if (home && *home) {
        char *cwd, *base;

        if (*home == '/')
            return xstrdup(home);
        cwd = getcwd(NULL, 0);
        base = xasprintf("%s/%s", cwd ? cwd : "/proc/self/cwd", home); /* removed: then nothing can be made there */
        free(cwd);
        return base;
    }
    home = getenv("HOME");
    if (home && *home == '/') {
        char *own = geteuid() == 0 && !safe_for_root(home) ? home_of_root() : NULL; /* sudo can leave the caller's */
        char *base = store_in(own ? own : home);

        free(own);
        return base;
    }
    if (tmp && *tmp == '/')
        return store_in(tmp);
    *ret_shared = true;
    return xasprintf("/tmp/.scope-%u", (unsigned)geteuid());
}

char *session_base(void)
{
    bool shared;

    return find_base(&shared);
}

static char *history_dir(void)
{
    char *base = session_base();
    char *dir = xasprintf("%s/history", base);

    free(base);
    return dir;
}

/* The store, which must be ours alone: in /tmp somebody else could have made it first. */
static int open_base(const char *base, bool make, bool shared, char **ret_why)
{
    int fd;

    if (make && shared) {
        int tmp = safe_dir("/tmp", SAFE_OURS, 0, ret_why);

        if (tmp < 0)
            return tmp;
        fd = safe_make_dir(tmp, base + strlen("/tmp/"), 0700);
        close(tmp);
        if (fd < 0 && fd != -EPERM)
            return fd;
        if (fd >= 0)
            close(fd); /* walked to again, which says why it isn't taken */
    }
    fd = safe_dir(base, SAFE_OURS, make && !shared ? 0700 : 0, ret_why);
    if (fd >= 0 && !safe_private(fd)) {
        *ret_why = xasprintf("%s" NOT_OURS, base);
        close(fd);
        return -EPERM;
    }
    return fd;
}

uint64_t session_id_of(const char *name)
{
    uint64_t id = 0;

    if (*name < '1' || *name > '9')
        return 0;
    for (; *name; name++) {
        if (*name < '0' || *name > '9' || id > UINT64_MAX / 10 - 1)
            return 0;
        id = id * 10 + (uint64_t)(*name - '0');
    }
    return id;
}

static DIR *open_list(int dir)
{
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc;
    DIR *d = fd < 0 ? NULL : fdopendir(fd);

    if (d || fd < 0)
        return d;
    rc = errno;
    close(fd);
    errno = rc;
    return NULL;
}

static uint64_t highest_id(int history)
{
    DIR *d = open_list(history);
    struct dirent *e;
    uint64_t max = 0;

    if (!d)
        return 0;
    while ((e = readdir(d))) {
        uint64_t id = session_id_of(e->d_name);

        if (id > max)
            max = id;
    }
    closedir(d);
    return max;
}

static uint64_t read_count(int base)
{
    char text[32];
    int fd = safe_read_at(base, "count");
    ssize_t n;

    if (fd < 0)
        return 0;
    n = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    text[strcspn(text, "\n")] = '\0';
    return session_id_of(text);
}

/* Takes the store's lock, which is held for moments. A holder that has been stopped must not keep programs from
 * starting: after a while it goes on without, as mkdir(2) alone gives an id to one only, and the count is a help. */
static void lock_store(int fd)
{
    const uint64_t deadline = clock_ns(CLOCK_MONOTONIC) + STORE_LOCK_MS * UINT64_C(1000000);

    while (flock(fd, LOCK_EX | LOCK_NB) < 0 && (errno == EWOULDBLOCK || errno == EINTR) &&
           clock_ns(CLOCK_MONOTONIC) < deadline)
        poll(NULL, 0, STORE_RETRY_MS);
}

/* Hands out the next id and makes its directory, which is kept from then on: whatever happens to its name, what is
 * written to the session is written there. */
static int next_directory(struct session *s, int base, int history, const char *path, char **ret_what)
{
    char text[32], name[32];
    uint64_t last = read_count(base), seen = highest_id(history);
    int rc, n;

    if (seen > last) /* a lost or damaged count must not lead to an id that was used */
        last = seen;
    do {
        s->id = ++last;
        snprintf(name, sizeof(name), "%llu", (unsigned long long)s->id);
        rc = mkdirat(history, name, 0700) < 0 ? -errno : 0;
    } while (rc == -EEXIST);
    if (rc < 0) {
        *ret_what = xasprintf("%s/history/%s", path, name);
        return rc;
    }
    n = snprintf(text, sizeof(text), "%llu\n", (unsigned long long)s->id);
    rc = safe_replace(base, "count", text, (size_t)n, 0600);
    if (rc < 0) {
        unlinkat(history, name, AT_REMOVEDIR);
        *ret_what = xasprintf("%s/count", path);
        return rc;
    }
    s->dir = xasprintf("%s/history/%s", path, name);
    rc = fchmodat(history, name, 0700, 0) < 0 ? -errno : safe_sub_dir(history, name); /* whatever the umask */
    if (rc < 0) {
        *ret_what = xstrdup(s->dir);
        return rc;
    }
    safe_keep(s->dir, rc);
    return 0;
}

/* What a session has from the beginning. */
static int fill_directory(const struct session *s, char **ret_what)
{
    static const char *const dirs[] = {"payloads", "cmd"};
    static const char *const files[] = {SESSION_JOURNAL, "scope.log"};
    int dir = safe_dir(s->dir, SAFE_OURS, 0, NULL), rc = dir < 0 ? dir : 0;

    for (size_t i = 0; rc == 0 && i < sizeof(dirs) / sizeof(*dirs); i++) {
        int fd = safe_make_dir(dir, dirs[i], 0700);

        if (fd < 0) {
            rc = fd;
            *ret_what = xasprintf("%s/%s", s->dir, dirs[i]);
        } else {
            close(fd);
        }
    }
    for (size_t i = 0; rc == 0 && i < sizeof(files) / sizeof(*files); i++) {
        int fd = safe_create(dir, files[i], 0600);

        if (fd < 0) {
            rc = fd;
            *ret_what = xasprintf("%s/%s", s->dir, files[i]);
        } else {
            close(fd);
        }
    }
    if (dir >= 0)
        close(dir);
    return rc;
}

int session_create(struct session *s, char **ret_what)
{
    bool shared;
    char *path = find_base(&shared), *why = NULL;
    int base, history = -1, fd = -1, rc = 0;

    *ret_what = NULL;
    s->dir = NULL;
    base = open_base(path, true, shared, &why);
    if (base < 0) {
        rc = base;
        *ret_what = why ? why : xstrdup(path);
    } else if ((history = safe_make_dir(base, "history", 0700)) < 0) {
        rc = history;
        *ret_what = xasprintf("%s/history%s", path, rc == -EPERM ? NOT_OURS : "");
    } else if ((fd = openat(base, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600)) < 0) {
        rc = -errno;
        *ret_what = xasprintf("%s/lock", path);
    } else {
        lock_store(fd);
        rc = next_directory(s, base, history, path, ret_what);
        close(fd);
        if (rc == 0)
            rc = fill_directory(s, ret_what);
        if (rc < 0)
            session_discard(s);
    }
    if (history >= 0)
        close(history);
    if (base >= 0)
        close(base);
    free(path);
    return rc;
}

/* jansson refuses strings that aren't UTF-8; file names and arguments may be any bytes. Invalid ones become U+FFFD. */
static json_t *text_json(const char *s)
{
    json_t *j;

    if (!s)
        return json_null();
    j = json_string(s);
    if (!j) {
        size_t len = strlen(s), n = 0;
        char *clean = xmalloc(len * 3 + 1);

        for (size_t i = 0; i < len;) {
            unsigned u = utf8_sequence(s + i, len - i);

            memcpy(clean + n, u ? s + i : "\xef\xbf\xbd", u ? u : 3);
            n += u ? u : 3;
            i += u ? u : 1;
        }
        j = json_stringn(clean, n);
        free(clean);
    }
    return j ? j : json_null();
}

static void set_uint(json_t *o, const char *key, uint64_t v)
{
    json_object_set_new(o, key, json_integer(v > INT64_MAX ? INT64_MAX : (json_int_t)v));
}

/* Keeps that much space in the lock file. Where that can't be had nothing is lost but the precaution. */
static void reserve(int lock_fd, size_t size)
{
    struct stat st;

    if (fstat(lock_fd, &st) == 0 && st.st_size < (off_t)size)
        (void)!fallocate(lock_fd, 0, 0, (off_t)size);
}

static json_t *counts_json(const struct session_count *v, size_t count)
{
    json_t *o = json_object();

    for (size_t i = 0; i < count; i++)
        if (v[i].kind)
            set_uint(o, v[i].kind, v[i].count);
    return o;
}

char *session_text(const struct session *s)
{
    json_t *o = json_object(), *argv = json_array();
    char *text;

    for (char **a = s->argv; a && *a; a++)
        json_array_append_new(argv, text_json(*a));
    json_object_set_new(o, "version", json_integer(1));
    set_uint(o, "id", s->id);
    json_object_set_new(o, "command", text_json(s->command));
    json_object_set_new(o, "argv", argv);
    json_object_set_new(o, "cwd", text_json(s->cwd));
    json_object_set_new(o, "kind", text_json(s->kind));
    json_object_set_new(o, "pid", json_integer(s->pid));
    json_object_set_new(o, "collector", json_integer(s->collector));
    json_object_set_new(o, "socket", text_json(s->socket));
    set_uint(o, "start_ns", s->start_ns);
    set_uint(o, "end_ns", s->end_ns);
    json_object_set_new(o, "event_dest", text_json(s->event_dest));
    json_object_set_new(o, "metric_dest", text_json(s->metric_dest));
    json_object_set_new(o, "otlp_dest", text_json(s->otlp_dest));
    json_object_set_new(o, "metric_format", text_json(s->metric_format));
    json_object_set_new(o, "payload_dir", text_json(s->payload_dir));
    set_uint(o, "events", s->events);
    set_uint(o, "metrics", s->metrics);
    set_uint(o, "processes", s->processes);
    set_uint(o, "held_back", s->held_back);
    json_object_set_new(o, "lost", counts_json(s->lost, s->lost_count));
    json_object_set_new(o, "tls_unread", counts_json(s->unread, s->unread_count));
    json_object_set_new(o, "exit_code", json_integer(s->exit_code));
    json_object_set_new(o, "exit_signal", json_integer(s->exit_signal));
    json_object_set_new(o, "telemetry_stopped", json_boolean(s->telemetry_stopped));
    text = json_dumps(o, JSON_INDENT(2));
    json_decref(o);
    return text;
}

int session_write(const char *dir, const char *text, int lock_fd)
{
    const size_t len = strlen(text);
    int fd = safe_dir(dir, SAFE_OURS, 0, NULL), rc;

    if (fd < 0)
        return fd;
    rc = safe_replace(fd, "session.json", text, len, 0600);
    if ((rc == -ENOSPC || rc == -EDQUOT) && lock_fd >= 0 && ftruncate(lock_fd, 0) == 0)
        rc = safe_replace(fd, "session.json", text, len, 0600);
    if (rc == 0 && lock_fd >= 0)
        reserve(lock_fd, len + 2 * BLOCK); /* it grows a little */
    close(fd);
    return rc;
}

int session_save(const struct session *s, int lock_fd)
{
    char *text = session_text(s);
    int rc = text ? session_write(s->dir, text, lock_fd) : -ENOMEM;

    free(text);
    return rc;
}

static char *get_text(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return xstrdup(s);
}

static int64_t get_int(const json_t *o, const char *key, int64_t min, int64_t max, int64_t missing)
{
    const json_t *v = json_object_get(o, key);

    if (!json_is_integer(v) || json_integer_value(v) < min || json_integer_value(v) > max)
        return missing;
    return json_integer_value(v);
}

static uint64_t get_uint(const json_t *o, const char *key)
{
    return (uint64_t)get_int(o, key, 0, INT64_MAX, 0);
}

/* Numbers by name, malloc'ed; what isn't one is left out. */
/* More kinds than there are: the file may be another user's. */
#define COUNTS_MAX 64u

static struct session_count *get_counts(const json_t *o, const char *key, size_t *ret_count)
{
    json_t *v = json_object_get(o, key), *count;
    struct session_count *list = xcalloc(json_object_size(v) + 1, sizeof(*list));
    const char *kind;

    *ret_count = 0;
    json_object_foreach(v, kind, count)
    {
        if (*ret_count < COUNTS_MAX && json_is_integer(count) && json_integer_value(count) >= 0)
            list[(*ret_count)++] = (struct session_count){xstrdup(kind), (uint64_t)json_integer_value(count)};
    }
    return list;
}

static json_t *load_metadata(const char *dir)
{
    char *path = xasprintf("%s/session.json", dir), *text = NULL;
    json_t *o = NULL;
    struct stat st;
    int fd = safe_read(path);

    free(path);
    if (fd < 0)
        return NULL;
    if (fstat(fd, &st) == 0 && st.st_size > 0 && st.st_size <= METADATA_MAX) {
        size_t size = (size_t)st.st_size, got = 0;
        ssize_t n;

        text = xmalloc(size);
        while (got < size && (n = read(fd, text + got, size - got)) > 0)
            got += (size_t)n;
        o = json_loadb(text, got, 0, NULL);
        free(text);
    }
    close(fd);
    if (o && !json_is_object(o)) {
        json_decref(o);
        o = NULL;
    }
    return o;
}

/* Fills *ret for an existing directory. Returns -EINVAL if its metadata can't be used; id, dir and command are set. */
static int load_dir(uint64_t id, char *dir, struct session *ret)
{
    json_t *o, *v;
    size_t i;

    *ret = (struct session){.id = id, .dir = dir, .exit_code = -1};
    o = load_metadata(dir);
    if (!o || get_uint(o, "id") != id) {
        json_decref(o);
        ret->command = xstrdup("?");
        ret->argv = xcalloc(1, sizeof(char *));
        return -EINVAL;
    }
    ret->command = get_text(o, "command");
    if (!ret->command)
        ret->command = xstrdup("?");
    v = json_object_get(o, "argv");
    ret->argv = xcalloc(json_array_size(v) + 1, sizeof(char *));
    for (i = 0; i < json_array_size(v); i++) {
        const char *s = json_string_value(json_array_get(v, i));

        ret->argv[i] = xstrdup(s ? s : "?");
    }
    ret->cwd = get_text(o, "cwd");
    ret->kind = get_text(o, "kind");
    ret->pid = (pid_t)get_int(o, "pid", 0, INT32_MAX, 0);
    ret->collector = (pid_t)get_int(o, "collector", 0, INT32_MAX, 0);
    ret->socket = get_text(o, "socket");
    ret->start_ns = get_uint(o, "start_ns");
    ret->end_ns = get_uint(o, "end_ns");
    ret->event_dest = get_text(o, "event_dest");
    ret->metric_dest = get_text(o, "metric_dest");
    ret->otlp_dest = get_text(o, "otlp_dest");
    ret->metric_format = get_text(o, "metric_format");
    ret->payload_dir = get_text(o, "payload_dir");
    ret->events = get_uint(o, "events");
    ret->metrics = get_uint(o, "metrics");
    ret->processes = get_uint(o, "processes");
    ret->held_back = get_uint(o, "held_back");
    ret->exit_code = (int)get_int(o, "exit_code", -1, 255, -1);
    ret->exit_signal = (int)get_int(o, "exit_signal", 0, 64, 0);
    ret->telemetry_stopped = json_is_true(json_object_get(o, "telemetry_stopped"));
    ret->lost = get_counts(o, "lost", &ret->lost_count);
    ret->unread = get_counts(o, "tls_unread", &ret->unread_count);
    json_decref(o);
    /* The collector writes end_ns when it ends in order. */
    if (ret->end_ns == 0 && ret->collector != 0 && !session_running(ret))
        ret->telemetry_stopped = true;
    return 0;
}

static int compare_id(const void *a, const void *b)
{
    const struct session *x = a, *y = b;

    return x->id < y->id ? -1 : x->id > y->id;
}

int session_list(struct session **ret, size_t *ret_count)
{
    char *history = history_dir();
    int fd = safe_dir(history, SAFE_NAMED, 0, NULL), rc = 0;
    DIR *d = fd < 0 ? NULL : open_list(fd);
    struct session *list = NULL;
    struct dirent *e;
    size_t count = 0;

    if (!d) {
        rc = fd < 0 ? fd : -errno;
        rc = rc == -ENOENT ? 0 : rc;
    } else {
        while ((e = readdir(d))) {
            uint64_t id = session_id_of(e->d_name);
            struct stat st;

            if (id == 0 || fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode))
                continue;
            list = xrealloc(list, count + 1, sizeof(*list));
            load_dir(id, xasprintf("%s/%s", history, e->d_name), &list[count]);
            count++;
        }
        closedir(d);
    }
    if (fd >= 0)
        close(fd);
    free(history);
    if (count)
        qsort(list, count, sizeof(*list), compare_id);
    *ret = list;
    *ret_count = count;
    return rc;
}

int session_load(uint64_t id, struct session *ret)
{
    char *path = history_dir(), name[32];
    int history = safe_dir(path, SAFE_NAMED, 0, NULL), rc = history < 0 ? history : 0, dir = -1;

    *ret = (struct session){.exit_code = -1};
    if (rc == 0 && faccessat(history, ".", R_OK | X_OK, 0) < 0)
        rc = -errno;
    if (rc == 0 && id == 0)
        id = highest_id(history);
    snprintf(name, sizeof(name), "%llu", (unsigned long long)id);
    if (rc == 0 && (id == 0 || (dir = safe_sub_dir(history, name)) < 0))
        rc = -ENOENT;
    if (rc == 0)
        rc = load_dir(id, xasprintf("%s/%s", path, name), ret);
    if (dir >= 0)
        close(dir);
    if (history >= 0)
        close(history);
    free(path);
    return rc;
}

const char *session_error(int rc)
{
    return rc == -ELOOP ? "a symbolic link on the way is not followed: it is another user's, or could be exchanged by one"
                        : strerror(-rc);
}

bool session_owns(const struct session *s, int fd)
{
    struct stat dir, st;
    int at = safe_dir(s->dir, SAFE_NAMED, 0, NULL);
    bool known = at >= 0 && fstat(at, &dir) == 0;

    if (at >= 0)
        close(at);
    return known && (dir.st_uid == geteuid() || (fstat(fd, &st) == 0 && st.st_uid == dir.st_uid));
}

static void free_counts(struct session_count *v, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(v[i].kind);
    free(v);
}

void session_clear(struct session *s)
{
    free(s->dir);
    free(s->command);
    for (char **a = s->argv; a && *a; a++)
        free(*a);
    free(s->argv);
    free(s->cwd);
    free(s->kind);
    free(s->socket);
    free(s->event_dest);
    free(s->metric_dest);
    free(s->otlp_dest);
    free(s->metric_format);
    free(s->payload_dir);
    free_counts(s->lost, s->lost_count);
    free_counts(s->unread, s->unread_count);
    *s = (struct session){.exit_code = -1};
}

static void set_count(struct session_count **list, size_t *list_count, const char *kind, uint64_t count)
{
    for (size_t i = 0; i < *list_count; i++)
        if (!strcmp((*list)[i].kind, kind)) {
            (*list)[i].count = count;
            return;
        }
    if (!count)
        return;
    *list = xrealloc(*list, *list_count + 1, sizeof(**list));
    (*list)[(*list_count)++] = (struct session_count){xstrdup(kind), count};
}

void session_set_lost(struct session *s, const char *kind, uint64_t count)
{
    set_count(&s->lost, &s->lost_count, kind, count);
}

void session_set_unread(struct session *s, const char *why, uint64_t count)
{
    set_count(&s->unread, &s->unread_count, why, count);
}

/* The store that a session's directory lies in, and the name in its history. */
static char *store_of(const char *dir, const char **ret_name)
{
    const char *name = strrchr(dir, '/'), *end;

    *ret_name = name ? name + 1 : dir;
    end = name ? memrchr(dir, '/', (size_t)(name - dir)) : NULL;
    return end ? xstrndup(dir, (size_t)(end - dir)) : xstrdup("");
}

/* From the store on through descriptors, by no link, and nothing that isn't ours. The metadata go last, so that an
 * interrupted removal leaves a session that is still known and can be removed again. */
int session_discard(const struct session *s)
{
    const char *name;
    char *path, *why = NULL;
    int base, history, rc;

    if (!s->dir)
        return 0;
    path = store_of(s->dir, &name);
    base = open_base(path, false, false, &why);
    history = base < 0 ? base : safe_sub_dir(base, "history");
    rc = history < 0 ? history : safe_private(history) ? 0 : -EPERM;
    if (rc == 0)
        rc = safe_remove_tree(history, name, "session.json");
    if (rc == 0)
        safe_keep(s->dir, -1);
    if (history >= 0)
        close(history);
    if (base >= 0)
        close(base);
    free(why);
    free(path);
    return rc;
}

int session_remove(const struct session *s)
{
    uint64_t now = clock_ns(CLOCK_REALTIME);

    if (session_running(s))
        return -EBUSY;
    if (s->collector == 0 && s->start_ns && s->end_ns == 0 && now >= s->start_ns && now - s->start_ns < STARTING_NS)
        return -EBUSY;
    return session_discard(s);
}

/* An open file description lock (fcntl(2)): it can be tested without being taken, so that a reader never gets in the
 * way of a collector that is just starting. */
int session_lock(const char *dir)
{
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int at = safe_dir(dir, SAFE_OURS, 0, NULL), fd, rc;

    if (at < 0)
        return at;
    fd = openat(at, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    rc = fd < 0 ? -errno : fchmod(fd, 0600) < 0 ? -errno : 0;
    close(at);
    if (rc < 0) {
        if (fd >= 0)
            close(fd);
        return rc;
    }
    if (fcntl(fd, F_OFD_SETLK, &l) < 0) {
        rc = errno == EAGAIN || errno == EACCES ? -EWOULDBLOCK : -errno;
        close(fd);
        return rc;
    }
    return fd;
}

void session_unlock(int lock_fd)
{
    (void)!ftruncate(lock_fd, 0);
    close(lock_fd);
}

bool session_running(const struct session *s)
{
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char *path;
    bool held;
    int fd;

    if (!s->dir)
        return false;
    path = xasprintf("%s/lock", s->dir);
    fd = safe_read(path);
    free(path);
    if (fd < 0)
        return false;
    held = fcntl(fd, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK;
    close(fd);
    return held;
}

static int remaining_ms(uint64_t deadline)
{
    uint64_t now = clock_ns(CLOCK_MONOTONIC);

    return now >= deadline ? 0 : (int)((deadline - now + 999999u) / 1000000u);
}

/* The address of the collector's socket for requests (wire/join.h): its length, or -ENAMETOOLONG. A path is that of the
 * collector of a host or, behind a JOIN_PATH_MARK, of a service. */
static int address_of(const char *name, struct sockaddr_un *ret)
{
    const char *from = name + (*name == JOIN_PATH_MARK);
    const int name_len = (int)strcspn(from, (const char[]){JOIN_SECRET_MARK, '\0'});
    const bool path = *from == '/';
    const size_t room = sizeof(ret->sun_path) - !path;
    int len;

    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    len = snprintf(ret->sun_path + !path, room, "%.*s" JOIN_REQUESTS, name_len, from);
    if (!*from || (size_t)len >= room)
        return -ENAMETOOLONG;
    return (int)offsetof(struct sockaddr_un, sun_path) + 1 + len;
}

/* Connects to the collector's socket for requests: descriptor, -ETIMEDOUT, or -errno. */
static int connect_socket(const char *name, uint64_t deadline)
{
    struct sockaddr_un addr;
    int fd, len = address_of(name, &addr);

    if (len < 0)
        return len;
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    while (connect(fd, (struct sockaddr *)&addr, (socklen_t)len) < 0) {
        int rc = -errno;

        if (rc == -EINTR)
            continue;
        if (rc != -EAGAIN || remaining_ms(deadline) == 0) { /* EAGAIN: the queue of connections is full */
            close(fd);
            return rc == -EAGAIN ? -ETIMEDOUT : rc;
        }
        poll(NULL, 0, SYNC_RETRY_MS);
    }
    return fd;
}

#define FDS_MAX 2

union some_fds {
    char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
    struct cmsghdr first;
};

/* Whether it is that user, or root, who made the socket listen. */
static bool peer_is(int fd, uid_t owner)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && (peer.uid == owner || peer.uid == 0);
}

static int send_request(const char *socket, const uid_t *owner, struct join_request *req, const int *fds, size_t count,
                        unsigned timeout_ms)
{
    size_t path = strnlen(req->path, sizeof(req->path) - 1);
    const char *secret = *socket == '/' ? NULL : strchr(socket, JOIN_SECRET_MARK);
    struct iovec iov = {req, offsetof(struct join_request, path) + path + 1};
    union some_fds control = {{0}};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    int fd = connect_socket(socket, clock_ns(CLOCK_MONOTONIC) + (uint64_t)timeout_ms * 1000000u);

    if (fd < 0)
        return fd;
    if (owner && !peer_is(fd, *owner)) {
        close(fd);
        return -EACCES;
    }
    req->magic = JOIN_MAGIC;
    req->table_hash = syscall_table_hash();
    if (secret && strlen(secret + 1) == JOIN_SECRET_LEN)
        memcpy(req->secret, secret + 1, JOIN_SECRET_LEN);
    if (count) {
        m.msg_control = control.bytes;
        m.msg_controllen = CMSG_SPACE(count * sizeof(int));
        control.first.cmsg_level = SOL_SOCKET;
        control.first.cmsg_type = SCM_RIGHTS;
        control.first.cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(&control.first), fds, count * sizeof(int));
    }
    if (sendmsg(fd, &m, MSG_NOSIGNAL) < 0) {
        int rc = -errno;

        close(fd);
        return rc;
    }
    return fd;
}

int session_send(const char *socket, struct join_request *req, const int *fds, size_t count, unsigned timeout_ms)
{
    return send_request(socket, NULL, req, fds, count, timeout_ms);
}

/* The status of an answer, or -errno; a descriptor that came with it. */
static int receive_reply(int sock, int *ret_fd)
{
    struct join_reply reply;
    struct iovec iov = {&reply, sizeof(reply)};
    union some_fds control;
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = CMSG_SPACE(sizeof(int))};
    ssize_t n = recvmsg(sock, &m, MSG_CMSG_CLOEXEC);
    const struct cmsghdr *h = n < 0 ? NULL : CMSG_FIRSTHDR(&m);

    if (n < 0)
        return -errno;
    if (h && h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS)
        memcpy(ret_fd, CMSG_DATA(h), sizeof(*ret_fd));
    if (n != (ssize_t)sizeof(reply) || reply.magic != JOIN_MAGIC)
        return -ECONNRESET;
    return reply.status > 0 ? -EPROTO : reply.status;
}

/* Waits for an answer: the status in it, -ETIMEDOUT, or -errno. */
static int answer(int fd, int *ret_fd, uint64_t deadline)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    *ret_fd = -1;
    for (;;) {
        int left = remaining_ms(deadline), rc = poll(&p, 1, left), status;

        if (rc == 0)
            return -ETIMEDOUT;
        if (rc < 0 && errno != EINTR)
            return -errno;
        if (rc <= 0)
            continue;
        status = receive_reply(fd, ret_fd);
        if (status != -EAGAIN && status != -EINTR)
            return status;
    }
}

int session_answer(int fd, unsigned timeout_ms)
{
    int got, rc = answer(fd, &got, clock_ns(CLOCK_MONOTONIC) + (uint64_t)timeout_ms * 1000000u);

    if (got >= 0)
        close(got);
    return rc;
}

/* Connects, asks, and returns the connection, or -errno. */
static int request(const char *socket, const uid_t *owner, struct join_request *req, int send_fd, int *ret_fd,
                   unsigned timeout_ms)
{
    uint64_t deadline = clock_ns(CLOCK_MONOTONIC) + (uint64_t)timeout_ms * 1000000u;
    int fd = send_request(socket, owner, req, &send_fd, send_fd >= 0, timeout_ms), rc;

    *ret_fd = -1;
    if (fd < 0)
        return fd;
    rc = answer(fd, ret_fd, deadline);
    if (rc == 0)
        return fd;
    close(fd);
    if (*ret_fd >= 0)
        close(*ret_fd);
    *ret_fd = -1;
    return rc;
}

int session_request(const char *socket, struct join_request *req, unsigned timeout_ms)
{
    int got, fd = request(socket, NULL, req, -1, &got, timeout_ms);

    if (got >= 0)
        close(got);
    return fd;
}

int session_ask(const char *socket, const uid_t *owner, struct join_request *req, int send_fd, int *ret_fd,
                unsigned timeout_ms)
{
    int got, fd = request(socket, owner, req, send_fd, &got, timeout_ms);

    if (ret_fd)
        *ret_fd = got;
    else if (got >= 0)
        close(got);
    if (fd < 0)
        return fd;
    close(fd);
    return 0;
}

int session_sync(const struct session *s, unsigned timeout_ms)
{
    struct join_request req = {.type = JOIN_SYNC};
    uint64_t deadline = clock_ns(CLOCK_MONOTONIC) + (uint64_t)timeout_ms * 1000000u;
    int fd;

    if (!session_running(s))
        return 0;
    fd = s->socket ? session_request(s->socket, &req, timeout_ms) : -ECONNREFUSED;
    if (fd >= 0) {
        close(fd);
        return 0;
    }
    if (fd == -ETIMEDOUT)
        return fd;
    /* The collector is ending: it no longer listens, but may still be writing. */
    while (session_running(s)) {
        int left = remaining_ms(deadline);

        if (left == 0)
            return -ETIMEDOUT;
        poll(NULL, 0, left < SYNC_RETRY_MS ? left : SYNC_RETRY_MS);
    }
    return 0;
}
