/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/left.h"

#include <stdlib.h>

#include "base/mem.h"
#include "collector/core.h"
#include "collector/procinfo.h"

#define GENERATIONS 64 /* of unobserved processes in between */

struct left {
    struct left *next;
    pid_t pid;
    uint64_t start_ticks; /* numbers are used again */
};

/* The entry of a process, and drops those of processes that have ended. */
static struct left **find(struct collector *c, pid_t pid)
{
    struct left **at = &c->left;
    struct pi_stat st;

    while (*at) {
        struct left *l = *at;

        if (pi_stat(l->pid, &st) < 0 || st.start_ticks != l->start_ticks) {
            *at = l->next;
            free(l);
        } else if (l->pid == pid) {
            return at;
        } else {
            at = &l->next;
        }
    }
    return NULL;
}

void left_add(struct collector *c, pid_t pid)
{
    struct pi_stat st;
    struct left *l;

    if (find(c, pid) || pi_stat(pid, &st) < 0)
        return;
    l = xcalloc(1, sizeof(*l));
    *l = (struct left){c->left, pid, st.start_ticks};
    c->left = l;
}

void left_remove(struct collector *c, pid_t pid)
{
    struct left **at = find(c, pid), *l;

    if (!at)
        return;
    l = *at;
    *at = l->next;
    free(l);
}

bool left_begot(struct collector *c, pid_t pid)
{
    struct pi_stat st;

    for (int i = 0; i < GENERATIONS && c->left && pid > 1; i++) {
        struct proc *p;

        if (find(c, pid)) /* first: its leave may still be in the backlog */
            return true;
        p = proc_by_host_pid(c, pid);
        if ((p && !p->dead) || pi_stat(pid, &st) < 0)
            return false;
        pid = st.ppid;
    }
    return false;
}

void left_free(struct collector *c)
{
    while (c->left) {
        struct left *l = c->left;

        c->left = l->next;
        free(l);
    }
}
