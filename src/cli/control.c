/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/control.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "wire/join.h"
#include "wire/rules.h"

#define WAIT_MS 5000u
#define LOOK_MS 20u
#define ANSWER_MAX (64 << 20)

/* A request to the collector at a socket; owner as session_ask() has it. */
typedef int (*ask_fn)(void *ctx, const char *socket, const uid_t *owner);

/* Calls fn for each of our running sessions until it returns other than -ESRCH; that result, or -ENODATA after a
 * message. */
static int each_session(ask_fn fn, void *ctx)
{
    struct session *list = NULL;
    size_t count = 0;
    int rc = session_list(&list, &count), ret = -ESRCH;

    if (rc < 0) {
        cli_error("can't read the sessions: %s", strerror(-rc));
        return -ENODATA;
    }
    for (size_t i = count; i-- > 0;) {
        if (ret == -ESRCH && list[i].socket && session_running(&list[i]))
            ret = fn(ctx, list[i].socket, NULL);
        session_clear(&list[i]);
    }
    free(list);
    return ret;
}

/* The collector of the host, if there is one. */
static int ask_host(ask_fn fn, void *ctx)
{
    const uid_t root = 0;
    int rc = fn(ctx, HOST_SOCKET, &root);

    return rc == -ENOENT || rc == -EACCES || rc == -EPERM ? -ESRCH : rc;
}

/* The same for all collectors of this network namespace (/proc/net/unix, proc(5)), as its owner and root may ask about
 * a process whose session is stored elsewhere. Anybody can take such a name: whom we ask must be one that may know. */
static int each_socket(ask_fn fn, void *ctx, uid_t owner)
{
    char line[512];
    FILE *f = fopen("/proc/net/unix", "re");
    int ret = -ESRCH;
    bool silent = false;

    while (f && ret == -ESRCH && fgets(line, sizeof(line), f)) {
        char *name = strstr(line, " @" JOIN_SOCKET), *end;

        line[strcspn(line, "\n")] = '\0';
        end = name ? strstr(name, JOIN_REQUESTS) : NULL;
        if (!end || strcmp(end, JOIN_REQUESTS) != 0)
            continue;
        *end = '\0';
        ret = fn(ctx, name + 2, &owner);
        silent |= ret == -ETIMEDOUT;                              /* stopped, perhaps, and not the one */
        if (ret == -EACCES || ret == -EPERM || ret == -ETIMEDOUT) /* another user's says so whoever is asked about */
            ret = -ESRCH;
    }
    if (f)
        fclose(f);
    if (ret == -ESRCH) {
        ret = ask_host(fn, ctx);
        silent |= ret == -ETIMEDOUT;
        ret = ret == -ETIMEDOUT ? -ESRCH : ret;
    }
    return ret == -ESRCH && silent ? -ETIME : ret;
}

/* A collector whose session isn't one of ours. */
static int each_foreign(ask_fn fn, void *ctx, pid_t pid)
{
    char path[64];
    struct stat st;

    snprintf(path, sizeof(path), "/proc/%d", (int)pid);
    if (stat(path, &st) < 0)
        return -ESRCH;
    if (geteuid() != 0 && st.st_uid != geteuid())
        return -EPERM;
    return each_socket(fn, ctx, st.st_uid);
}

static int each_collector(ask_fn fn, void *ctx, pid_t pid)
{
    int rc = each_session(fn, ctx);

    return rc == -ESRCH || rc == -ENODATA ? each_foreign(fn, ctx, pid) : rc;
}

struct inspection {
    pid_t pid;
    json_t *found;
};

static int inspect_one(void *ctx, const char *socket, const uid_t *owner)
{
    struct inspection *in = ctx;
    struct join_request req = {.type = JOIN_INSPECT, .tid = (uint32_t)in->pid};
    json_t *array;
    struct stat st;
    int fd, rc = session_ask(socket, owner, &req, -1, &fd, WAIT_MS);

    if (rc < 0)
        return rc == -ECONNREFUSED ? -ESRCH : rc; /* it has just ended */
    /* Another user's collector may send anything. */
    array = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= ANSWER_MAX ? json_loadfd(fd, 0, NULL)
                                                                                              : NULL;
    if (fd >= 0)
        close(fd);
    if (!json_is_array(array)) {
        json_decref(array);
        return -EPROTO;
    }
    json_array_extend(in->found, array);
    json_decref(array);
    return in->pid ? 0 : -ESRCH; /* of all: go on */
}

static int failed(pid_t pid, int rc)
{
    if (rc == -ESRCH && pid)
        cli_error("process %d is not observed, or by another user's collector; `scope ps` lists those that are",
                  (int)pid);
    else if (rc == -ETIME && pid)
        cli_error("process %d is not observed, or by a collector that does not answer", (int)pid);
    else if (rc == -ESRCH)
        cli_error("nothing is observed now");
    else if (rc == -EPERM)
        cli_error("process %d is another user's: only that user and root may ask about it", (int)pid);
    else if (rc == -EINVAL)
        cli_error("the collector does not accept this configuration; `scope logs` says why");
    else if (rc != -ENODATA)
        cli_error("the collector does not answer: %s", strerror(-rc));
    return EXIT_FAILED;
}

/* The number of an object's process as we see it. */
static pid_t pid_of(const json_t *object)
{
    const json_t *process = json_object_get(object, "process"), *pid = json_object_get(process, "hostPid");

    return (pid_t)json_integer_value(pid ? pid : json_object_get(process, "pid"));
}

static bool has_pid(const json_t *found, pid_t pid)
{
    json_t *object;
    size_t i;

    json_array_foreach(found, i, object) if (pid_of(object) == pid) return true;
    return false;
}

static bool belongs_to(pid_t pid, uid_t owner)
{
    char path[64];
    struct stat st;

    snprintf(path, sizeof(path), "/proc/%d", (int)pid);
    return stat(path, &st) == 0 && st.st_uid == owner;
}

/* Everything that a collector knows of processes of its owner, who may say what he likes of them, but not of others. */
static int inspect_foreign(void *ctx, const char *socket, const uid_t *owner)
{
    json_t *found = ctx, *object;
    struct inspection in = {0, json_array()};
    int rc = inspect_one(&in, socket, owner);
    size_t i;

    json_array_foreach(in.found, i, object) if (!has_pid(found, pid_of(object)) &&
                                           (*owner == 0 || belongs_to(pid_of(object), *owner)))
        json_array_append(found, object);
    json_decref(in.found);
    return rc == -ETIMEDOUT ? rc : -ESRCH; /* go on */
}

/* Those that no session of ours has told of: of each owner the collectors are asked once. */
static void inspect_others(json_t *found)
{
    pid_t *pids;
    size_t count;

    cli_observed(NULL, &pids, &count);
    for (size_t i = 0; i < count; i++) {
        char path[64];
        struct stat st;
        bool asked = false;

        snprintf(path, sizeof(path), "/proc/%d", (int)pids[i]);
        if (has_pid(found, pids[i]) || stat(path, &st) < 0 || (geteuid() != 0 && st.st_uid != geteuid()))
            continue;
        for (size_t before = 0; before < i && !asked; before++)
            asked = !has_pid(found, pids[before]) && belongs_to(pids[before], st.st_uid);
        if (!asked && each_socket(inspect_foreign, found, st.st_uid) == -ETIME)
            cli_error("a collector does not answer; processes may be missing");
    }
    free(pids);
}

int control_inspect_all(pid_t pid, json_t **ret)
{
    struct inspection in = {pid, json_array()};
    int rc = pid ? each_collector(inspect_one, &in, pid) : each_session(inspect_one, &in);

    if (!pid) {
        inspect_others(in.found);
        if (json_array_size(in.found))
            rc = 0;
    }
    if (rc == 0) {
        *ret = in.found;
        return 0;
    }
    json_decref(in.found);
    return failed(pid, rc);
}

int control_inspect_some(const pid_t *pids, size_t count, json_t **ret)
{
    json_t *found = json_array();

    for (size_t i = 0; i < count; i++) {
        struct inspection in = {pids[i], found};
        int rc = -ESRCH;

        for (unsigned ms = 0; ms < WAIT_MS && (rc = each_session(inspect_one, &in)) == -ESRCH; ms += LOOK_MS)
            poll(NULL, 0, LOOK_MS);
        if (rc) {
            json_decref(found);
            return failed(pids[i], rc);
        }
    }
    *ret = found;
    return 0;
}

char *control_session_dir(pid_t pid)
{
    struct session *list = NULL;
    size_t count = 0;
    char *dir = NULL;

    if (session_list(&list, &count) < 0)
        return NULL;
    for (size_t i = count; i-- > 0;) {
        struct inspection in = {pid, json_array()};

        if (!dir && list[i].socket && session_running(&list[i]) && inspect_one(&in, list[i].socket, NULL) == 0)
            dir = xstrdup(list[i].dir);
        json_decref(in.found);
        session_clear(&list[i]);
    }
    free(list);
    return dir;
}

void control_print(const json_t *array, bool json, bool list)
{
    json_t *object;
    char *text;
    size_t i;

    if (list && !json)
        fputs("[\n", stdout);
    json_array_foreach(array, i, object)
    {
        if (!json && i)
            fputs(",\n", stdout);
        text = json_dumps(object, json ? JSON_COMPACT : JSON_INDENT(3));
        if (text)
            text_json(text, strlen(text), stdout);
        free(text);
        if (json)
            putchar('\n');
    }
    if (!json)
        fputs(list ? "\n]\n" : "\n", stdout);
}

struct update {
    pid_t pid;
    int fd;
};

static int update_one(void *ctx, const char *socket, const uid_t *owner)
{
    const struct update *u = ctx;
    struct join_request req = {.type = JOIN_UPDATE, .tid = (uint32_t)u->pid};
    int rc;

    if (!getcwd(req.path, sizeof(req.path)))
        req.path[0] = '\0'; /* removed meanwhile: the collector's own will do */
    rc = session_ask(socket, owner, &req, u->fd, NULL, WAIT_MS);
    return rc == -ECONNREFUSED ? -ESRCH : rc;
}

int control_update_one(pid_t pid, int fd)
{
    struct update u = {pid, fd};
    int rc = each_collector(update_one, &u, pid);

    return rc < 0 ? failed(pid, rc) : 0;
}

/* By the name that its events have, or as it would be found unobserved. */
static bool is_named(const json_t *object, const char *name)
{
    const char *proc = json_string_value(json_object_get(json_object_get(object, "process"), "procname"));

    return (proc && strcmp(proc, name) == 0) || cli_is_called(pid_of(object), name);
}

/* Observed processes of our sessions, of a name or of any; of others' if there is none. */
static void candidates(const char *name, pid_t **ret, size_t *ret_count)
{
    struct inspection in = {0, json_array()};
    pid_t *pids;
    size_t n = 0, i;
    json_t *object;

    each_session(inspect_one, &in);
    pids = xcalloc(json_array_size(in.found) + 1, sizeof(*pids));
    json_array_foreach(in.found, i, object) if (!name || is_named(object, name)) pids[n++] = pid_of(object);
    json_decref(in.found);
    if (n) {
        *ret = pids;
        *ret_count = n;
        return;
    }
    free(pids);
    cli_observed(name, ret, ret_count);
}

int cli_observed_pid(const struct args *a, pid_t *ret_pid)
{
    const char *word = a->word_count ? a->words[0] : NULL;
    char *end = NULL;
    long number = word ? strtol(word, &end, 10) : 0;
    pid_t *pids;
    size_t count;
    int rc = 0;

    if (word && *word && !*end) {
        if (number < 1 || number > INT32_MAX)
            return cli_usage(a->command, "'%s' is no process id", word);
        *ret_pid = (pid_t)number;
        return 0;
    }
    candidates(word, &pids, &count);
    if (!word && !cli_can_ask()) {
        rc = cli_usage(a->command, "name a process, or --all");
        if (count)
            cli_choose(pids, count, ret_pid); /* lists them */
    } else if (!count) {
        if (word)
            cli_error("no observed process is called %s; `scope ps` lists those that are observed", word);
        else
            cli_error("nothing is observed now");
        rc = EXIT_FAILED;
    } else if (count == 1) {
        *ret_pid = pids[0];
    } else {
        if (!cli_can_ask())
            cli_error("%zu observed processes are called %s: name one by its number", count, word);
        rc = cli_choose(pids, count, ret_pid);
    }
    free(pids);
    return rc;
}
