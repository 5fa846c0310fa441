/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/control.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "wire/join.h"

#define WAIT_MS 5000u
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

/* The same for all collectors of this network namespace (/proc/net/unix, proc(5)), as its owner and root may ask about
 * a process whose session is stored elsewhere. Anybody can take such a name: whom we ask must be one that may know. */
static int each_socket(ask_fn fn, void *ctx, uid_t owner)
{
    char line[512];
    FILE *f = fopen("/proc/net/unix", "re");
    int ret = -ESRCH;

    while (f && ret == -ESRCH && fgets(line, sizeof(line), f)) {
        char *name = strstr(line, " @" JOIN_SOCKET), *end;

        line[strcspn(line, "\n")] = '\0';
        end = name ? strstr(name, JOIN_REQUESTS) : NULL;
        if (!end || strcmp(end, JOIN_REQUESTS) != 0)
            continue;
        *end = '\0';
        ret = fn(ctx, name + 2, &owner);
        if (ret == -EACCES || ret == -EPERM) /* another user's, which says so whoever is asked about */
            ret = -ESRCH;
    }
    if (f)
        fclose(f);
    return ret;
}

/* pid: what is asked about, 0: everything of our own. */
static int each_collector(ask_fn fn, void *ctx, pid_t pid)
{
    int rc = each_session(fn, ctx);
    char path[64];
    struct stat st;

    if ((rc != -ESRCH && rc != -ENODATA) || !pid)
        return rc;
    snprintf(path, sizeof(path), "/proc/%d", (int)pid);
    if (stat(path, &st) < 0)
        return rc;
    if (geteuid() != 0 && st.st_uid != geteuid())
        return -EPERM;
    return each_socket(fn, ctx, st.st_uid);
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

int control_inspect_all(pid_t pid, json_t **ret)
{
    struct inspection in = {pid, json_array()};
    int rc = each_collector(inspect_one, &in, pid);

    if (rc == -ESRCH && json_array_size(in.found))
        rc = 0;
    if (rc == 0) {
        *ret = in.found;
        return 0;
    }
    json_decref(in.found);
    return failed(pid, rc);
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

/* The number of an object's process as we see it. */
static pid_t pid_of(const json_t *object)
{
    const json_t *process = json_object_get(object, "process"), *pid = json_object_get(process, "hostPid");

    return (pid_t)json_integer_value(pid ? pid : json_object_get(process, "pid"));
}

/* By the name that its events have, or the kernel's short one. */
static bool is_named(const json_t *object, const char *name)
{
    const char *proc = json_string_value(json_object_get(json_object_get(object, "process"), "procname"));
    pid_t pid = pid_of(object);
    char path[64], comm[64] = "";
    FILE *f;

    if (proc && strcmp(proc, name) == 0)
        return true;
    snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
    f = fopen(path, "re");
    if (f) {
        if (fgets(comm, sizeof(comm), f))
            comm[strcspn(comm, "\n")] = '\0';
        fclose(f);
    }
    return strcmp(comm, name) == 0;
}

int cli_observed_pid(const struct args *a, pid_t *ret_pid)
{
    const char *word = a->words[0];
    char *end;
    long number = strtol(word, &end, 10);
    json_t *found, *object;
    unsigned matches = 0;
    size_t i;
    int rc;

    if (!*end && *word) {
        if (number < 1 || number > INT32_MAX)
            return cli_usage(a->command, "'%s' is no process id", word);
        *ret_pid = (pid_t)number;
        return 0;
    }
    rc = control_inspect_all(0, &found);
    if (rc)
        return rc;
    json_array_foreach(found, i, object) if (is_named(object, word))
    {
        *ret_pid = pid_of(object);
        matches++;
    }
    json_decref(found);
    if (matches == 1)
        return 0;
    if (matches)
        cli_error("%u observed processes are called %s: name one by its number (`scope ps`)", matches, word);
    else
        cli_error("no observed process is called %s; `scope ps` lists those that are observed", word);
    return EXIT_FAILED;
}
