/* SPDX-License-Identifier: Apache-2.0 */
#include "reach/memory.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "inject/process.h"
#include "inject/worker.h"

#define PAGE 4096u
#define MS UINT64_C(1000000)
#define WAIT_MS 200u            /* for an answer: a busy machine is no reason to suspect a process */
#define SHUN_NS (10000 * MS)    /* whoever makes us wait is left alone for */
#define SHUNNED_MAX 64
#define WAITED_MAX (500 * MS)   /* in each SHUN_NS, altogether */
#define KILLED_MAX 16           /* that have not ended yet */

enum question { WORDS, PROBE };

struct request {
    enum question question;
    pid_t pid;
};

struct answer {
    pid_t pid;
    enum memory_probe probe;
    bool has_execfn;
    uint32_t args_len;
    char socket[sizeof(((struct probe *)0)->socket)];
    char execfn[PATH_MAX];
    char args[RULES_ARGS_MAX];
};

#define HEAD offsetof(struct answer, args)

struct memory {
    int proc, socket;           /* of the child; -1: there is none */
    pid_t child;
    pid_t killed[KILLED_MAX];   /* 0: free */
    struct { uid_t uid; uint64_t until; } shunned[SHUNNED_MAX];
    uint64_t window, waited;    /* CLOCK_MONOTONIC ns: since when, and how long in it */
    uint64_t timeouts;
    struct answer answer;
};

uid_t memory_user(int proc, pid_t pid)
{
    char path[16];
    struct stat st;

    snprintf(path, sizeof(path), "%d", (int)pid);
    return fstatat(proc, path, &st, 0) < 0 ? (uid_t)-1 : st.st_uid;
}

struct memory *memory_new(int proc)
{
    struct memory *m = xcalloc(1, sizeof(*m));

    m->proc = proc;
    m->socket = -1;
    return m;
}

/* --- the child --- */

static int open_file(int proc, pid_t pid, const char *name)
{
    char path[64];

    snprintf(path, sizeof(path), "%d/%s", (int)pid, name);
    return openat(proc, path, O_RDONLY | O_CLOEXEC);
}

/* AT_EXECFN (getauxval(3)) lies at the upper end of its first stack, behind which there is no memory. */
static bool read_execfn(int proc, pid_t pid, char to[PATH_MAX])
{
    struct iovec local = {to, PATH_MAX - 1}, remote[2];
    int fd = open_file(proc, pid, "auxv");
    uint64_t at = 0, first;
    Elf64_auxv_t auxv[64];
    ssize_t n;

    if (fd < 0)
        return false;
    n = read(fd, auxv, sizeof(auxv));
    close(fd);
    for (ssize_t i = 0; i < n / (ssize_t)sizeof(*auxv) && auxv[i].a_type != AT_NULL; i++)
        if (auxv[i].a_type == AT_EXECFN)
            at = auxv[i].a_un.a_val;
    if (!at)
        return false;
    first = PAGE - at % PAGE;
    if (first > PATH_MAX - 1)
        first = PATH_MAX - 1;
    remote[0] = (struct iovec){(void *)(uintptr_t)at, first};                          // NOLINT(performance-no-int-to-ptr)
    remote[1] = (struct iovec){(void *)(uintptr_t)(at + first), PATH_MAX - 1 - first}; // NOLINT(performance-no-int-to-ptr)
    n = process_vm_readv(pid, &local, 1, remote, 2, 0);
    to[n > 0 ? n : 0] = '\0';
    return *to != '\0';
}

static uint32_t read_args(int proc, pid_t pid, char to[RULES_ARGS_MAX])
{
    int fd = open_file(proc, pid, "cmdline");
    uint32_t len = 0;
    ssize_t n;

    if (fd < 0)
        return 0;
    while (len < RULES_ARGS_MAX && (n = read(fd, to + len, RULES_ARGS_MAX - len)) > 0)
        len += (uint32_t)n;
    close(fd);
    return len;
}

static enum memory_probe find_probe(pid_t pid, char *ret_socket, size_t size)
{
    struct process_probe probe;
    struct process_maps maps;
    bool found;

    if (process_maps(pid, &maps) < 0)
        return MEMORY_NO_PROBE;
    found = process_find_probe(pid, &maps, &probe, NULL);
    process_maps_free(&maps);
    if (found)
        snprintf(ret_socket, size, "%.*s", (int)sizeof(probe.probe.socket) - 1, probe.probe.socket);
    return !found ? MEMORY_NO_PROBE : probe.file ? MEMORY_LOADED : MEMORY_ATTACHED;
}

static void serve(struct memory *m, int socket, pid_t parent)
{
    struct answer *a = &m->answer;
    struct request q;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    while (recv(socket, &q, sizeof(q), 0) == (ssize_t)sizeof(q)) {
        a->pid = q.pid;
        a->args_len = 0;
        a->has_execfn = false;
        if (q.question == WORDS) {
            a->has_execfn = read_execfn(m->proc, q.pid, a->execfn);
            a->args_len = read_args(m->proc, q.pid, a->args);
        } else {
            a->probe = find_probe(q.pid, a->socket, sizeof(a->socket));
        }
        if (send(socket, a, HEAD + a->args_len, MSG_NOSIGNAL) < 0)
            break;
    }
    _exit(0);
}

/* --- the parent --- */

/* A place for one more that is killed; NULL: too many don't end. */
static pid_t *reap(struct memory *m)
{
    pid_t *place = NULL;

    for (size_t i = 0; i < KILLED_MAX; i++) {
        if (m->killed[i] && waitpid(m->killed[i], NULL, WNOHANG) != 0)
            m->killed[i] = 0;
        if (!m->killed[i])
            place = &m->killed[i];
    }
    return place;
}

static int start(struct memory *m)
{
    const pid_t self = getpid();
    int pair[2];

    if (m->socket >= 0)
        return 0;
    if (!reap(m))
        return -EBUSY;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    m->child = fork();
    if (m->child == 0) {
        close(pair[0]);
        serve(m, pair[1], self);
    }
    close(pair[1]);
    if (m->child < 0) {
        int rc = -errno;

        close(pair[0]);
        return rc;
    }
    m->socket = pair[0];
    return 0;
}

static void stop(struct memory *m)
{
    pid_t *place = reap(m);

    kill(m->child, SIGKILL);
    close(m->socket);
    m->socket = -1;
    if (place)
        *place = m->child;
    reap(m);
}

void memory_free(struct memory *m)
{
    if (m->socket >= 0)
        stop(m);
    free(m);
}

static bool is_shunned(struct memory *m, uid_t uid, uint64_t now)
{
    if (uid == 0)
        return false;
    if (now - m->window > SHUN_NS) {
        m->window = now;
        m->waited = 0;
    }
    for (size_t i = 0; i < SHUNNED_MAX; i++)
        if (m->shunned[i].uid == uid && m->shunned[i].until > now)
            return true;
    return m->waited >= WAITED_MAX;
}

static void shun(struct memory *m, uid_t uid, uint64_t now)
{
    size_t place = 0;

    for (size_t i = 0; i < SHUNNED_MAX; i++)
        if (m->shunned[i].until < m->shunned[place].until)
            place = i;
    m->shunned[place].uid = uid;
    m->shunned[place].until = now + SHUN_NS;
}

static int receive(struct memory *m, pid_t pid)
{
    struct pollfd p = {.fd = m->socket, .events = POLLIN};
    const uint64_t until = worker_now() + WAIT_MS * MS;
    ssize_t n = 0;

    while (n <= 0) {
        uint64_t now = worker_now();
        int rc = now < until ? poll(&p, 1, (int)((until - now) / MS) + 1) : 0;

        if (rc == 0)
            return -ETIMEDOUT;
        n = rc > 0 ? recv(m->socket, &m->answer, sizeof(m->answer), MSG_DONTWAIT) : 0;
        if (rc > 0 && n <= 0)
            return -EPIPE;
    }
    return n >= (ssize_t)HEAD && m->answer.pid == pid && m->answer.args_len == (size_t)n - HEAD ? 0 : -EPROTO;
}

static int ask(struct memory *m, enum question question, pid_t pid)
{
    const struct request q = {question, pid};
    const uint64_t began = worker_now();
    const uid_t uid = memory_user(m->proc, pid);
    int rc;

    if (uid == (uid_t)-1)
        return -ESRCH;
    if (is_shunned(m, uid, began))
        return -EBUSY;
    rc = start(m);
    if (rc < 0)
        return rc;
    rc = send(m->socket, &q, sizeof(q), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : receive(m, pid);
    if (rc < 0)
        stop(m);
    if (rc == -ETIMEDOUT) {
        m->timeouts++;
        if (uid != 0) {
            m->waited += worker_now() - began;
            shun(m, uid, worker_now());
        }
    }
    return rc;
}

int memory_words(struct memory *m, pid_t pid, struct memory_words *ret)
{
    int rc = ask(m, WORDS, pid);

    *ret = (struct memory_words){.args = ""};
    if (rc == 0) {
        m->answer.execfn[PATH_MAX - 1] = '\0';
        *ret = (struct memory_words){m->answer.has_execfn ? m->answer.execfn : NULL, m->answer.args, m->answer.args_len};
    }
    return rc;
}

int memory_probe(struct memory *m, pid_t pid, enum memory_probe *ret, const char **ret_socket)
{
    int rc = ask(m, PROBE, pid);

    if (ret_socket) {
        m->answer.socket[sizeof(m->answer.socket) - 1] = '\0';
        *ret_socket = m->answer.socket;
    }
    *ret = rc == 0 ? m->answer.probe : MEMORY_NO_PROBE;
    return rc;
}

uint64_t memory_timeouts(const struct memory *m)
{
    return m->timeouts;
}
