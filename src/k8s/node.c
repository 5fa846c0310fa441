/* SPDX-License-Identifier: Apache-2.0 */
#include "k8s/node.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/safe_path.h"

#define LOOK_S 5 /* how often files are looked at */
#define FILE_MAX (1u << 20)
/* The first line of files that came from here: those of the node's own are left alone. */
#define MARK "# From a ConfigMap of Kubernetes (scope k8s --daemonset): changes here are lost.\n"

static const char *const files[] = {"rules.yml", "scope.yml"};

/* All of a file: false if there is none that can be read. */
static bool read_all(int fd, struct buf *ret)
{
    ssize_t n = -1;

    while (fd >= 0 && ret->len <= FILE_MAX && (n = read(fd, buf_room(ret, 65536), 65536)) > 0)
        ret->len += (size_t)n;
    if (fd >= 0)
        close(fd);
    return n == 0;
}

static bool is_ours(const struct buf *b)
{
    return b->len >= strlen(MARK) && memcmp(b->p, MARK, strlen(MARK)) == 0;
}

/* One file of the ConfigMap to the node, if it is another than there. */
static void copy(const struct k8s_node_options *o, int etc, const char *name)
{
    struct buf want = BUF_INIT, have = BUF_INIT;
    char *from = xasprintf("%s/%s", o->config_dir, name);
    bool there;
    int rc;

    buf_str(&want, MARK);
    if (!read_all(open(from, O_RDONLY | O_CLOEXEC | O_NONBLOCK), &want)) {
        log_warning("%s: it can't be read, or is larger than %u bytes; what was in force before stays so", from,
                    FILE_MAX);
        goto out;
    }
    there = read_all(safe_read_at(etc, name), &have);
    if (there && have.len == want.len && memcmp(have.p, want.p, want.len) == 0)
        goto out;
    if (there && !is_ours(&have)) {
        log_warning("%s/%s of the node is its own, and stays in force", o->etc, name);
        goto out;
    }
    rc = safe_replace(etc, name, want.p, want.len, 0600); /* may have tokens in it */
    if (rc < 0)
        log_error("%s/%s of the node: %s", o->etc, name, strerror(-rc));
    else
        log_info("%s/%s of the node is new", o->etc, name);
out:
    buf_free(&want);
    buf_free(&have);
    free(from);
}

/* scope WORD --rootdir ROOT; its exit status. */
static int scope(const struct k8s_node_options *o, const char *const *words)
{
    const char *argv[8] = {"scope"};
    sigset_t none;
    size_t n = 1;
    int status = 0;
    pid_t pid;

    while (*words)
        argv[n++] = *words++;
    argv[n++] = "--rootdir";
    argv[n++] = o->root;
    pid = fork();
    if (pid == 0) {
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        execv(o->self, (char *const *)argv);
        _exit(127);
    }
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return pid < 0 ? 1 : WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void take_back(int etc)
{
    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
        struct buf have = BUF_INIT;

        if (read_all(safe_read_at(etc, files[i]), &have) && is_ours(&have))
            unlinkat(etc, files[i], 0);
        buf_free(&have);
    }
}

int k8s_node(const struct k8s_node_options *o)
{
    char *path = xasprintf("%s%s", o->root, o->etc), *why = NULL;
    const struct timespec look = {.tv_sec = LOOK_S};
    int etc = safe_dir(path, SAFE_OURS, 0755, &why), status;
    sigset_t ends;

    if (etc < 0) {
        log_error("%s: %s", path, why ? why : strerror(-etc));
        free(path);
        free(why);
        return 1;
    }
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigprocmask(SIG_BLOCK, &ends, NULL);
    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++)
        copy(o, etc, files[i]);
    status = scope(o, (const char *const[]){"start", NULL});
    if (status == 0) {
        log_info("the node is observed");
        while (sigtimedwait(&ends, NULL, &look) < 0)
            for (size_t i = 0; errno == EAGAIN && i < sizeof(files) / sizeof(*files); i++)
                copy(o, etc, files[i]);
        status = scope(o, (const char *const[]){"stop", "--force", "--uninstall", NULL});
        take_back(etc);
        log_info("the node is observed no longer");
    }
    close(etc);
    unlinkat(AT_FDCWD, path, AT_REMOVEDIR); /* if it is empty */
    free(path);
    return status;
}
