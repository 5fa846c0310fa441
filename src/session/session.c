/* SPDX-License-Identifier: Apache-2.0 */
#include "session/session.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
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
#include "base/file.h"
#include "base/mem.h"
#include "wire/join.h"
#include "wire/syscalls.h"

#define METADATA_MAX (4u << 20)           /* more than any command line that execve(2) takes */
#define STARTING_NS UINT64_C(10000000000) /* a session without a collector this young is just being started */
#define SYNC_RETRY_MS 5
#define STORE_LOCK_MS 2000
#define STORE_RETRY_MS 2
#define BLOCK 4096 /* of a file system; what a directory needs for one more name */

static uint64_t clock_ns(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

char *session_base(void)
{
    static const char *const places[] = {"HOME", "TMPDIR"};
    const char *home = getenv("SCOPE_HOME");

    if (home && *home) {
        char *cwd, *base;

        if (*home == '/')
            return xstrdup(home);
        cwd = getcwd(NULL, 0);
        base = xasprintf("%s/%s", cwd ? cwd : "/proc/self/cwd", home); /* removed: then nothing can be made there */
        free(cwd);
        return base;
    }
    for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
        const char *dir = getenv(places[i]);

        if (dir && *dir == '/')
            return xasprintf("%s/.scope", strcmp(dir, "/") == 0 ? "" : dir);
    }
    return xasprintf("/tmp/.scope-%u", (unsigned)geteuid());
}

static char *history_dir(void)
{
    char *base = session_base();
    char *dir = xasprintf("%s/history", base);

    free(base);
    return dir;
}

/* The base must be ours: in /tmp somebody else could have made it first. */
static int check_owner(const char *base)
{
    struct stat st;

    if (stat(base, &st) < 0)
        return -errno;
    if (!S_ISDIR(st.st_mode))
        return -ENOTDIR;
    if (geteuid() != 0 && st.st_uid != geteuid())
        return -EPERM;
    return 0;
}

/* A session id from the name of a directory in history/: decimal, no sign, no leading zero. 0 if it is none. */
static uint64_t id_of_name(const char *name)
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

static uint64_t highest_id(const char *history)
{
    DIR *d = opendir(history);
    struct dirent *e;
    uint64_t max = 0;

    if (!d)
        return 0;
    while ((e = readdir(d))) {
        uint64_t id = id_of_name(e->d_name);

        if (id > max)
            max = id;
    }
    closedir(d);
    return max;
}

static uint64_t read_count(const char *path)
{
    char text[32];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); /* whatever lies there: not to hang on it */
    ssize_t n;

    if (fd < 0)
        return 0;
    n = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    text[strcspn(text, "\n")] = '\0';
    return id_of_name(text);
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

/* Hands out the next id and makes its directory. */
static int next_directory(struct session *s, const char *base, const char *history, char **ret_what)
{
    char *count = xasprintf("%s/count", base);
    char text[32];
    uint64_t last = read_count(count), seen = highest_id(history);
    int rc;

    if (seen > last) /* a lost or damaged count must not lead to an id that was used */
        last = seen;
    for (;;) {
        s->id = ++last;
        s->dir = xasprintf("%s/%llu", history, (unsigned long long)s->id);
        rc = mkdir(s->dir, 0700) < 0 ? -errno : 0;
        if (rc != -EEXIST)
            break;
        free(s->dir);
    }
    if (rc < 0) {
        *ret_what = s->dir;
        s->dir = NULL;
    } else {
        int n = snprintf(text, sizeof(text), "%llu\n", (unsigned long long)s->id);

        rc = file_replace(count, text, (size_t)n, 0600);
        if (rc < 0) {
            rmdir(s->dir);
            free(s->dir);
            s->dir = NULL;
            *ret_what = xstrdup(count);
        }
    }
    free(count);
    return rc;
}

int session_create(struct session *s, char **ret_what)
{
    static const char *const dirs[] = {"payloads", "cmd"};
    static const char *const files[] = {"events.json", "metrics.json", "scope.log"};
    char *base = session_base(), *history = xasprintf("%s/history", base), *lock = xasprintf("%s/lock", base);
    int fd = -1, rc;

    *ret_what = NULL;
    s->dir = NULL;
    rc = make_dirs(history, 0700);
    if (rc == 0)
        rc = check_owner(base);
    if (rc < 0) {
        *ret_what = xstrdup(base);
        goto out;
    }
    fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        rc = -errno;
        *ret_what = xstrdup(lock);
        goto out;
    }
    lock_store(fd);
    rc = next_directory(s, base, history, ret_what);
    close(fd);
    fd = -1;
    for (size_t i = 0; rc == 0 && i < sizeof(dirs) / sizeof(*dirs); i++) {
        char *path = xasprintf("%s/%s", s->dir, dirs[i]);

        if (mkdir(path, 0700) < 0) {
            rc = -errno;
            *ret_what = xstrdup(path);
        }
        free(path);
    }
    for (size_t i = 0; rc == 0 && i < sizeof(files) / sizeof(*files); i++) {
        char *path = xasprintf("%s/%s", s->dir, files[i]);
        int f = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

        if (f < 0) {
            rc = -errno;
            *ret_what = xstrdup(path);
        } else {
            close(f);
        }
        free(path);
    }
    if (rc < 0)
        session_discard(s);
out:
    if (fd >= 0)
        close(fd);
    free(base);
    free(history);
    free(lock);
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

char *session_text(const struct session *s)
{
    json_t *o = json_object(), *argv = json_array(), *lost = json_object();
    char *text;

    for (char **a = s->argv; a && *a; a++)
        json_array_append_new(argv, text_json(*a));
    for (size_t i = 0; i < s->lost_count; i++)
        if (s->lost[i].kind)
            set_uint(lost, s->lost[i].kind, s->lost[i].count);
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
    json_object_set_new(o, "metric_format", text_json(s->metric_format));
    json_object_set_new(o, "payload_dir", text_json(s->payload_dir));
    set_uint(o, "events", s->events);
    set_uint(o, "metrics", s->metrics);
    set_uint(o, "processes", s->processes);
    set_uint(o, "held_back", s->held_back);
    json_object_set_new(o, "lost", lost);
    json_object_set_new(o, "exit_code", json_integer(s->exit_code));
    json_object_set_new(o, "exit_signal", json_integer(s->exit_signal));
    json_object_set_new(o, "telemetry_stopped", json_boolean(s->telemetry_stopped));
    text = json_dumps(o, JSON_INDENT(2));
    json_decref(o);
    return text;
}

int session_write(const char *dir, const char *text, int lock_fd)
{
    char *path = xasprintf("%s/session.json", dir);
    const size_t len = strlen(text);
    int rc = file_replace(path, text, len, 0600);

    if ((rc == -ENOSPC || rc == -EDQUOT) && lock_fd >= 0 && ftruncate(lock_fd, 0) == 0)
        rc = file_replace(path, text, len, 0600);
    if (rc == 0 && lock_fd >= 0)
        reserve(lock_fd, len + 2 * BLOCK); /* it grows a little */
    free(path);
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

static json_t *load_metadata(const char *dir)
{
    char *path = xasprintf("%s/session.json", dir), *text = NULL;
    json_t *o = NULL;
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);

    free(path);
    if (fd < 0)
        return NULL;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 && st.st_size <= METADATA_MAX) {
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
    const char *key;
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
    ret->metric_format = get_text(o, "metric_format");
    ret->payload_dir = get_text(o, "payload_dir");
    ret->events = get_uint(o, "events");
    ret->metrics = get_uint(o, "metrics");
    ret->processes = get_uint(o, "processes");
    ret->held_back = get_uint(o, "held_back");
    ret->exit_code = (int)get_int(o, "exit_code", -1, 255, -1);
    ret->exit_signal = (int)get_int(o, "exit_signal", 0, 64, 0);
    ret->telemetry_stopped = json_is_true(json_object_get(o, "telemetry_stopped"));
    v = json_object_get(o, "lost");
    ret->lost = xcalloc(json_object_size(v), sizeof(*ret->lost));
    if (json_is_object(v)) {
        json_t *count;

        json_object_foreach(v, key, count)
        {
            if (!json_is_integer(count) || json_integer_value(count) < 0)
                continue;
            ret->lost[ret->lost_count].kind = xstrdup(key);
            ret->lost[ret->lost_count++].count = (uint64_t)json_integer_value(count);
        }
    }
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
    DIR *d = opendir(history);
    struct session *list = NULL;
    struct dirent *e;
    size_t count = 0;
    int rc = 0;

    if (!d) {
        rc = errno == ENOENT ? 0 : -errno;
    } else {
        while ((e = readdir(d))) {
            uint64_t id = id_of_name(e->d_name);
            struct stat st;

            if (id == 0 || fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode))
                continue;
            list = xrealloc(list, count + 1, sizeof(*list));
            load_dir(id, xasprintf("%s/%s", history, e->d_name), &list[count]);
            count++;
        }
        closedir(d);
    }
    free(history);
    if (count)
        qsort(list, count, sizeof(*list), compare_id);
    *ret = list;
    *ret_count = count;
    return rc;
}

int session_load(uint64_t id, struct session *ret)
{
    char *history = history_dir(), *dir;
    struct stat st;
    int rc;

    if (access(history, R_OK | X_OK) < 0 && errno != ENOENT) {
        rc = -errno;
        free(history);
        *ret = (struct session){.exit_code = -1};
        return rc;
    }
    if (id == 0)
        id = highest_id(history);
    dir = xasprintf("%s/%llu", history, (unsigned long long)id);
    free(history);
    if (id == 0 || lstat(dir, &st) < 0 || !S_ISDIR(st.st_mode)) {
        free(dir);
        *ret = (struct session){.exit_code = -1};
        return -ENOENT;
    }
    rc = load_dir(id, dir, ret);
    return rc;
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
    free(s->metric_format);
    free(s->payload_dir);
    for (size_t i = 0; i < s->lost_count; i++)
        free(s->lost[i].kind);
    free(s->lost);
    *s = (struct session){.exit_code = -1};
}

/* Removes what is below an open directory; never follows symbolic links. The metadata goes last, so that an
 * interrupted removal leaves a session that is still known and can be removed again. */
static int remove_tree(int dirfd_, int depth)
{
    DIR *d = fdopendir(dirfd_);
    struct dirent *e;
    int rc = 0;

    if (!d) {
        close(dirfd_);
        return -ENOMEM;
    }
    while ((e = readdir(d))) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (depth == 0 && strcmp(e->d_name, "session.json") == 0)
            continue;
        if (unlinkat(dirfd(d), e->d_name, 0) == 0 || errno == ENOENT)
            continue;
        if (errno != EISDIR && errno != EPERM) {
            rc = rc ? rc : -errno;
            continue;
        }
        int sub = openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        int err = sub < 0 ? -errno : depth < 16 ? remove_tree(sub, depth + 1) : -ELOOP;

        if (sub >= 0 && err == -ELOOP)
            close(sub);
        if (err == 0 && unlinkat(dirfd(d), e->d_name, AT_REMOVEDIR) < 0 && errno != ENOENT)
            err = -errno;
        rc = rc ? rc : err;
    }
    if (depth == 0 && rc == 0 && unlinkat(dirfd(d), "session.json", 0) < 0 && errno != ENOENT)
        rc = -errno;
    closedir(d);
    return rc;
}

int session_discard(const struct session *s)
{
    int fd, rc;

    if (!s->dir)
        return 0;
    fd = open(s->dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    rc = remove_tree(fd, 0);
    if (rc == 0 && rmdir(s->dir) < 0)
        rc = -errno;
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
    char *path = xasprintf("%s/lock", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600), rc;

    free(path);
    if (fd < 0)
        return -errno;
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
    fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
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

/* Connects to the collector's socket for requests (wire/join.h): descriptor, -ETIMEDOUT, or -errno. */
static int connect_socket(const char *name, uint64_t deadline)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    const int name_len = (int)strcspn(name, (const char[]){JOIN_SECRET_MARK, '\0'});
    int fd, len = snprintf(addr.sun_path + 1, sizeof(addr.sun_path) - 1, "%.*s" JOIN_REQUESTS, name_len, name);

    if (!*name || (size_t)len >= sizeof(addr.sun_path) - 1)
        return -ENAMETOOLONG;
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    while (connect(fd, (struct sockaddr *)&addr, (socklen_t)offsetof(struct sockaddr_un, sun_path) + 1 + (socklen_t)len) < 0) {
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
    const char *secret = strchr(socket, JOIN_SECRET_MARK);
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
