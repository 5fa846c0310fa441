/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/left.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "collector/state.h"
#include "model/procinfo.h"

#define GENERATIONS 64 /* of unobserved processes in between */

/* A process may have ended when the children that it had started join: the collector looks once in JOIN_POLL_MS. */
#define KEEP_NS UINT64_C(3000000000)
#define SWEEP_NS UINT64_C(1000000000)

struct left {
    struct left *next;
    pid_t pid;
    uint64_t start_ticks; /* numbers are used again; 0: it had ended before we looked */
    uint64_t gone_ns;     /* CLOCK_MONOTONIC: when it was not there any more; 0: not so far */
    bool user;            /* the user has wished it */
    uint64_t image;       /* user: what it ran then */
};

/* Whether an entry still speaks of the process that it was made for. */
static bool is_current(struct left *l, uint64_t now)
{
    struct pi_stat st;

    if (pi_stat(l->pid, &st) == 0)
        return st.start_ticks == l->start_ticks;
    if (!l->gone_ns)
        l->gone_ns = now;
    return now - l->gone_ns < KEEP_NS;
}

static struct left **find(struct collector *c, pid_t pid)
{
    for (struct left **at = &c->left; *at; at = &(*at)->next)
        if ((*at)->pid == pid && is_current(*at, clock_now_mono()))
            return at;
    return NULL;
}

static void drop(struct left **at)
{
    struct left *l = *at;

    *at = l->next;
    free(l);
}

/* Drops what is out of date, from time to time. */
static void sweep(struct collector *c)
{
    uint64_t now = clock_now_mono();

    if (now < c->left_sweep)
        return;
    c->left_sweep = now + SWEEP_NS;
    for (struct left **at = &c->left; *at;)
        if (is_current(*at, now))
            at = &(*at)->next;
        else
            drop(at);
}

void left_add(struct collector *c, pid_t pid)
{
    struct pi_stat st;
    struct left *l;

    sweep(c);
    if (find(c, pid))
        return;
    l = xcalloc(1, sizeof(*l));
    *l = (struct left){.next = c->left, .pid = pid, .start_ticks = pi_stat(pid, &st) == 0 ? st.start_ticks : 0};
    c->left = l;
}

void left_remove(struct collector *c, pid_t pid)
{
    struct left **at = find(c, pid);

    if (at)
        drop(at);
}

/* Something that is another number after an exec, with all but no exception: where the kernel has put the program's code,
 * its stack, arguments and environment (fields 26, 28, 48 and 50 of proc_pid_stat(5)). 0: not known. */
static uint64_t image_of(pid_t pid)
{
    char path[64], text[2048], *at;
    uint64_t sum = 0;
    ssize_t n;
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
    at = strrchr(text, ')'); /* the name before may be anything */
    for (unsigned field = 3; at && (at = strchr(at, ' ')); field++) {
        uint64_t v = strtoull(++at, NULL, 10);

        if (field == 26 || field == 28 || field == 48 || field == 50)
            sum = (sum ^ v) * UINT64_C(0x9e3779b97f4a7c15);
    }
    return sum;
}

void left_keep_away(struct collector *c, pid_t pid)
{
    struct left **at = find(c, pid);

    if (!at)
        return;
    (*at)->user = true;
    (*at)->image = image_of(pid);
}

bool left_by_user(struct collector *c, pid_t pid)
{
    struct left **at = find(c, pid);

    if (!at || !(*at)->user)
        return false;
    if ((*at)->image == image_of(pid))
        return true;
    drop(at);
    return false;
}

bool left_begot(struct collector *c, pid_t pid, pid_t ppid)
{
    struct pi_stat st;

    for (int i = 0; i < GENERATIONS && c->left && pid > 1; i++) {
        struct proc *p;

        if (find(c, pid)) /* first: its leave may still be in the backlog */
            return true;
        p = proc_by_host_pid(&c->model, pid);
        if (p && !p->dead)
            return false;
        pid = pi_stat(pid, &st) == 0 ? st.ppid : ppid;
        ppid = 0;
    }
    return false;
}

void left_free(struct collector *c)
{
    while (c->left)
        drop(&c->left);
}
