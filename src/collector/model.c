/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/model.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/pool.h"
#include "collector/core.h"
#include "collector/passed.h"
#include "collector/tls_objects.h"

struct desc *fd_get(struct fd_table *t, int64_t fd, bool create)
{
    unsigned page;

    if (fd < 0 || fd >= FD_LIMIT)
        return NULL;
    page = (unsigned)fd / FD_PAGE;
    if (page >= t->pages) {
        unsigned pages = page + 1 + (page >= 8 ? page / 2 : 0);

        if (!create)
            return NULL;
        t->page = xrealloc(t->page, pages, sizeof(*t->page));
        memset(t->page + t->pages, 0, (pages - t->pages) * sizeof(*t->page));
        t->pages = pages;
    }
    if (!t->page[page]) {
        if (!create)
            return NULL;
        t->page[page] = xcalloc(FD_PAGE, sizeof(struct desc));
    }
    return &t->page[page][fd % FD_PAGE];
}

void fd_table_each(struct fd_table *t, void (*fn)(void *ctx, int fd, struct desc *d), void *ctx)
{
    for (unsigned i = 0; i < t->pages; i++)
        for (unsigned k = 0; t->page[i] && k < FD_PAGE; k++)
            if (t->page[i][k].file)
                fn(ctx, (int)(i * FD_PAGE + k), &t->page[i][k]);
}

/* The copy of a descriptor in a child: the same file, nothing done with it yet. */
void fd_table_copy(struct fd_table *to, const struct fd_table *from)
{
    *to = (struct fd_table){0};
    for (unsigned i = from->pages; i-- > 0;) {
        if (!from->page[i])
            continue;
        for (unsigned k = 0; k < FD_PAGE; k++) {
            const struct desc *d = &from->page[i][k];
            struct desc *copy;

            if (!d->file)
                continue;
            copy = fd_get(to, (int64_t)i * FD_PAGE + k, true);
            *copy = (struct desc){.file = file_ref(d->file), .gen = d->gen, .want = d->want, .label = d->label,
                                  .channel = d->channel, .open_ns = d->open_ns,
                                  .flags = (uint8_t)(d->flags & ~DF_REPORTED)};
        }
    }
}

void fd_table_free(struct collector *c, struct fd_table *t)
{
    for (unsigned i = 0; i < t->pages; i++) {
        if (!t->page[i])
            continue;
        for (unsigned k = 0; k < FD_PAGE; k++)
            if (t->page[i][k].file)
                file_unref(c, t->page[i][k].file);
        free(t->page[i]);
    }
    free(t->page);
    *t = (struct fd_table){0};
}

/* Files are made and dropped with each open and close: they are kept with their path buffers. */
#define PATH_LEAST 24u /* "socket" and the like; what malloc(3) gives for less */
static struct pool socks = POOL(struct sock);

struct file *file_new(struct collector *c, enum fd_kind kind, const char *path, size_t len)
{
    struct file *f = c->free_files;

    if (f) {
        char *keep = f->path;
        uint32_t cap = f->path_cap;

        c->free_files = f->next_free;
        c->free_file_count--;
        *f = (struct file){.path = keep, .path_cap = cap};
    } else {
        f = xcalloc(1, sizeof(*f));
    }
    f->refs = 1;
    f->kind = kind;
    f->channel = ++c->last_channel;
    if (len > f->path_cap) {
        f->path_cap = (uint32_t)(len < PATH_LEAST ? PATH_LEAST : len);
        f->path = xrealloc(f->path, f->path_cap, 1);
    }
    if (len)
        memcpy(f->path, path, len);
    f->path_len = (uint32_t)len;
    return f;
}

void sock_unref(struct sock *s)
{
    if (--s->refs)
        return;
    stream_free(s->stream, clock_now_real());
    stream_free(s->plain, clock_now_real());
    free(s->client);
    pool_put(&socks, s);
}

void file_unref(struct collector *c, struct file *f)
{
    if (--f->refs)
        return;
    if (f->sock) {
        if (f->sock->flags & SOCKF_RECEIVED && f->sock->refs == 1)
            passed_forget(c, f->sock);
        sock_unref(f->sock);
        f->sock = NULL;
    }
    if (c->free_file_count >= 4096 || f->path_cap > 1024) {
        free(f->path);
        free(f);
        return;
    }
    f->next_free = c->free_files;
    c->free_files = f;
    c->free_file_count++;
}

struct sock *file_sock(struct file *f, int domain, int type, int protocol)
{
    if (!f->sock) {
        f->sock = pool_get(&socks);
        f->sock->refs = 1;
    }
    f->kind = FDK_SOCKET;
    f->sock->domain = domain;
    f->sock->type = type;
    f->sock->protocol = protocol;
    return f->sock;
}

void address_set(union address *a, const void *p, size_t len)
{
    memset(a, 0, sizeof(*a));
    if (len < sizeof(sa_family_t))
        return;
    if (len > sizeof(*a))
        len = sizeof(*a);
    memcpy(a, p, len);
    if ((a->family == AF_INET && len < sizeof(a->in)) || (a->family == AF_INET6 && len < offsetof(struct sockaddr_in6, sin6_scope_id)))
        a->family = 0;
}

/* --- processes --- */

static struct proc **bucket(struct collector *c, pid_t host_pid)
{
    return &c->by_pid[((uint32_t)host_pid * 2654435761u) >> 22];
}

struct proc *proc_by_host_pid(struct collector *c, pid_t host_pid)
{
    struct proc *p = *bucket(c, host_pid);

    while (p && p->host_pid != host_pid)
        p = p->hash_next;
    return p;
}

static void unhash(struct proc *p)
{
    struct proc **at;

    if (!p->hashed)
        return;
    for (at = bucket(p->c, p->host_pid); *at != p; at = &(*at)->hash_next)
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
    at = bucket(p->c, host_pid);
    p->hash_next = *at;
    *at = p;
    p->hashed = true;
}

struct proc *proc_new(struct collector *c, uint32_t pid, pid_t host_pid)
{
    struct proc *p = xcalloc(1, sizeof(*p));

    p->c = c;
    p->pid = pid;
    p->pidfd = -1;
    p->tm.pid = pid;
    p->cwd = xstrdup("");
    proc_set_host_pid(p, host_pid);
    p->next = c->procs;
    if (p->next)
        p->next->prev = p;
    c->procs = p;
    c->proc_count++;
    return p;
}

void tm_clear(struct tm_process *tm)
{
    free((char *)tm->proc);
    free((char *)tm->cmd);
    free((char *)tm->cgroup);
    free((char *)tm->exe);
    free((char *)tm->k8s_pod);
    *tm = (struct tm_process){.pid = tm->pid, .ppid = tm->ppid, .host_pid = tm->host_pid};
}

void proc_set_parent(struct proc *p, struct proc *parent)
{
    if (p->parent == parent)
        return;
    if (p->parent && !p->dead)
        p->parent->live_children--;
    p->parent = parent;
    if (parent && !p->dead)
        parent->live_children++;
}

void proc_borrow(struct proc *p, struct segment *seg)
{
    p->seg = seg;
    p->borrowed = true;
    seg->refs++;
    p->borrow_next = seg->borrowers;
    seg->borrowers = p;
    seg->borrower_count++;
    seg->left_ns = 0;
}

void proc_unborrow(struct proc *p)
{
    struct proc **at;

    if (!p->borrowed)
        return;
    for (at = &p->seg->borrowers; *at != p; at = &(*at)->borrow_next)
        ;
    *at = p->borrow_next;
    p->seg->borrower_count--;
    if (p->seg->last_found == p)
        p->seg->last_found = NULL;
    p->borrowed = false;
    segment_unref(p->c, p->seg);
    p->seg = NULL;
}

struct proc *segment_find(struct segment *seg, uint32_t pid, bool guest)
{
    struct proc *p;

    if (!guest && seg->owner && seg->owner->pid == pid)
        return seg->owner;
    if (seg->last_found && seg->last_found->pid == pid)
        return seg->last_found;
    for (p = seg->borrowers; p && p->pid != pid; p = p->borrow_next)
        ;
    seg->last_found = p;
    return p;
}

void proc_free(struct proc *p)
{
    struct collector *c = p->c;

    for (struct proc *q = c->procs; q; q = q->next)
        if (q->parent == p)
            q->parent = NULL;
    proc_set_parent(p, NULL);
    unhash(p);
    while (p->forks)
        fork_drop(p, p->forks);
    proc_unborrow(p);
    if (p->seg) {
        if (p->seg->owner == p)
            p->seg->owner = NULL;
        segment_unref(c, p->seg);
    }
    if (p->death)
        event_free(p->death);
    if (p->pidfd >= 0)
        close(p->pidfd);
    tls_objects_end(p, false, clock_now_real());
    passed_end(p, false);
    stream_forget(p);
    fd_table_free(c, &p->fds);
    images_unref(p->images);
    free(p->cwd);
    free(p->pending_exec);
    free(p->exec_path);
    if (p->closed_file)
        file_unref(c, p->closed_file);
    for (char **a = p->outer; a && *a; a++)
        free(*a);
    free(p->outer);
    tm_clear(&p->tm);
    if (p->prev)
        p->prev->next = p->next;
    else
        c->procs = p->next;
    if (p->next)
        p->next->prev = p->prev;
    c->proc_count--;
    free(p);
}

struct fork_pending *fork_begin(struct proc *p, uint32_t tid, bool vfork, bool parent_too, uint64_t time_ns)
{
    struct fork_pending *f = xcalloc(1, sizeof(*f)), **at = &p->forks;
    unsigned count = 0;

    f->tid = tid;
    f->vfork = vfork;
    f->parent_too = parent_too;
    f->time_ns = time_ns;
    f->cwd = xstrdup(p->cwd);
    fd_table_copy(&f->fds, &p->fds);
    f->tls = tls_objects_inherit(p);
    /* oldest first; a thread has at most one under way, an older one of it never came back (longjmp, loss) */
    while (*at) {
        struct fork_pending *o = *at;

        if (o->tid == tid || count++ >= 1024) {
            fork_drop(p, o);
            at = &p->forks;
            count = 0;
        } else {
            at = &o->next;
        }
    }
    *at = f;
    return f;
}

void fork_drop(struct proc *p, struct fork_pending *f)
{
    struct fork_pending **at;

    for (at = &p->forks; *at != f; at = &(*at)->next)
        ;
    *at = f->next;
    fd_table_free(p->c, &f->fds);
    tls_objects_free(f->tls);
    free(f->cwd);
    free(f);
}
