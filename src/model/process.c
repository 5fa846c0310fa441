/* SPDX-License-Identifier: Apache-2.0 */
#include "model/process.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/images.h"
#include "model/model.h"

static struct proc **bucket(struct model *m, pid_t host_pid)
{
    return &m->by_pid[model_hash(m, (uint32_t)host_pid) & (PROC_BUCKETS - 1)];
}

struct proc *proc_by_host_pid(struct model *m, pid_t host_pid)
{
    struct proc *p = *bucket(m, host_pid);

    while (p && p->host_pid != host_pid)
        p = p->hash_next;
    return p;
}

static void unhash(struct proc *p)
{
    struct proc **at;

    if (!p->hashed)
        return;
    for (at = bucket(p->m, p->host_pid); *at != p; at = &(*at)->hash_next)
        ;
    *at = p->hash_next;
    p->hashed = false;
}

void proc_set_host_pid(struct proc *p, pid_t host_pid)
{
    struct proc **at;

    unhash(p);
    p->host_pid = host_pid;
    p->tm.host_pid = (uint32_t)host_pid;
    if (host_pid <= 0)
        return;
    at = bucket(p->m, host_pid);
    p->hash_next = *at;
    *at = p;
    p->hashed = true;
}

struct proc *proc_new(struct model *m, uint32_t pid, pid_t host_pid)
{
    struct proc *p = xcalloc(1, sizeof(*p));

    p->m = m;
    p->pid = pid;
    p->pidfd = -1;
    p->tm.pid = pid;
    p->cwd = xstrdup("");
    proc_set_host_pid(p, host_pid);
    p->next = m->procs;
    if (p->next)
        p->next->prev = p;
    m->procs = p;
    m->proc_count++;
    return p;
}

void tm_clear(struct tm_process *tm)
{
    free((char *)tm->proc);
    free((char *)tm->cmd);
    free((char *)tm->cgroup);
    free((char *)tm->exe);
    free((char *)tm->k8s_pod);
    free((char *)tm->service_name);
    free((char *)tm->resource_attributes);
    *tm = (struct tm_process){.pid = tm->pid, .ppid = tm->ppid, .host_pid = tm->host_pid};
}

#define DESCENT_MAX 1024 /* generations */

/* Records may claim that a process descends from its own child; nor is a longer line than any system has followed. */
static bool is_possible(const struct proc *p, const struct proc *parent)
{
    for (int n = 0; parent; parent = parent->parent)
        if (parent == p || ++n > DESCENT_MAX)
            return false;
    return true;
}

void proc_set_parent(struct proc *p, struct proc *parent)
{
    if (!is_possible(p, parent))
        return;
    if (p->parent == parent)
        return;
    if (p->parent) {
        LIST_DEL(p->parent->children, p, sibling_next, sibling_prev);
        if (!p->dead)
            p->parent->live_children--;
    }
    p->parent = parent;
    if (parent) {
        LIST_ADD(parent->children, p, sibling_next, sibling_prev);
        if (!p->dead)
            parent->live_children++;
    }
}

void proc_free(struct proc *p)
{
    struct model *m = p->m;

    while (p->children)
        proc_set_parent(p->children, NULL);
    proc_set_parent(p, NULL);
    unhash(p);
    while (p->forks)
        fork_drop(p, p->forks);
    m->watch->proc_end(p);
    fd_table_free(m, &p->fds);
    images_unref(p->images);
    free(p->cwd);
    free(p->pending_exec);
    free(p->exec_path);
    if (p->closed_file)
        file_unref(m, p->closed_file);
    for (char **a = p->outer; a && *a; a++)
        free(*a);
    free(p->outer);
    tm_clear(&p->tm);
    if (p->prev)
        p->prev->next = p->next;
    else
        m->procs = p->next;
    if (p->next)
        p->next->prev = p->prev;
    m->proc_count--;
    free(p);
}

struct fork_pending *fork_begin(struct proc *p, uint32_t tid, uint32_t id, bool vfork, bool parent_too, uint64_t time_ns)
{
    struct fork_pending *f = xcalloc(1, sizeof(*f)), **at = &p->forks;
    unsigned count = 0;

    f->tid = tid;
    f->id = id;
    f->vfork = vfork;
    f->parent_too = parent_too;
    f->time_ns = time_ns;
    f->cwd = xstrdup(p->cwd);
    fd_table_copy(&f->fds, &p->fds);
    f->tls = p->m->watch->tls_inherit(p);
    /* oldest first; a thread has at most one under way, an older one of it never came back (longjmp, loss) */
    while (*at) {
        struct fork_pending *o = *at;

        if ((tid && o->tid == tid) || count++ >= 1024) {
            fork_drop(p, o);
            at = &p->forks;
            count = 0;
        } else {
            at = &o->next;
        }
    }
    if (at == &p->forks)
        LIST_ADD(p->m->forkers, p, forker_next, forker_prev);
    *at = f;
    return f;
}

void fork_drop(struct proc *p, struct fork_pending *f)
{
    struct fork_pending **at;

    for (at = &p->forks; *at != f; at = &(*at)->next)
        ;
    *at = f->next;
    if (!p->forks)
        LIST_DEL(p->m->forkers, p, forker_next, forker_prev);
    fd_table_free(p->m, &f->fds);
    p->m->watch->tls_free(f->tls);
    free(f->cwd);
    free(f);
}
