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
#include "traffic/tls_objects.h"

struct desc *fd_get(struct fd_table *t, int64_t fd, bool create)
{
    unsigned page;

    if (fd < 0 || fd >= FD_LIMIT)
        return NULL;
    page = (unsigned)fd / FD_PAGE;
    if (page >= t->pages) {
        unsigned pages = page + 1 + (page >= 8 ? page / 2 : 0);

        if (!create || (t->budget && t->budget->pages >= FD_PAGES_MAX))
            return NULL;
        t->page = xrealloc(t->page, pages, sizeof(*t->page));
        memset(t->page + t->pages, 0, (pages - t->pages) * sizeof(*t->page));
        t->pages = pages;
    }
    if (!t->page[page]) {
        if (!create)
            return NULL;
        if (!t->budget) {
            t->budget = xcalloc(1, sizeof(*t->budget));
            t->budget->refs = 1;
        }
        if (t->budget->pages >= FD_PAGES_MAX)
            return NULL;
        t->budget->pages++;
        t->page[page] = xcalloc(FD_PAGE, sizeof(struct desc));
    }
    return &t->page[page][fd % FD_PAGE];
}

static void leave_budget(struct fd_table *t, unsigned pages)
{
    if (!t->budget)
        return;
    t->budget->pages -= pages;
    if (!--t->budget->refs)
        free(t->budget);
    t->budget = NULL;
}

void fd_table_part(struct fd_table *t)
{
    unsigned pages = 0;

    if (!t->budget || t->budget->refs == 1)
        return;
    for (unsigned i = 0; i < t->pages; i++)
        pages += t->page[i] != NULL;
    leave_budget(t, pages);
    t->budget = xcalloc(1, sizeof(*t->budget));
    *t->budget = (struct fd_budget){1, pages};
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
    *to = (struct fd_table){.budget = from->budget};
    if (to->budget)
        to->budget->refs++;
    for (unsigned i = from->pages; i-- > 0;) {
        if (!from->page[i])
            continue;
        for (unsigned k = 0; k < FD_PAGE; k++) {
            const struct desc *d = &from->page[i][k];
            struct desc *copy;

            if (!d->file)
                continue;
            copy = fd_get(to, (int64_t)i * FD_PAGE + k, true);
            if (!copy)
                break;
            *copy = (struct desc){.file = file_ref(d->file), .gen = d->gen, .want = d->want, .label = d->label,
                                  .channel = d->channel, .open_ns = d->open_ns,
                                  .flags = (uint8_t)(d->flags & ~DF_REPORTED)};
        }
    }
}

void fd_table_free(struct collector *c, struct fd_table *t)
{
    unsigned pages = 0;

    for (unsigned i = 0; i < t->pages; i++) {
        if (!t->page[i])
            continue;
        pages++;
        for (unsigned k = 0; k < FD_PAGE; k++)
            if (t->page[i][k].file)
                file_unref(c, t->page[i][k].file);
        free(t->page[i]);
    }
    leave_budget(t, pages);
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
    if (len > NAME_SHORT && c->long_names + len > LONG_NAMES_MAX) {
        report_loss(c, NULL, LK_DESCRIPTOR, 1);
        len = 0;
    }
    if (len > NAME_SHORT)
        c->long_names += len;
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
    if (f->path_cap > NAME_SHORT)
        c->long_names -= f->path_cap;
    if (c->free_file_count >= 4096 || f->path_cap > NAME_SHORT) {
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

/* Whoever doesn't know the seed can't choose numbers that fall together. (The finaliser of MurmurHash3, a bijection.) */
static uint32_t mix(const struct collector *c, uint32_t n)
{
    n ^= c->seed;
    n = (n ^ n >> 16) * 0x85ebca6bu;
    n = (n ^ n >> 13) * 0xc2b2ae35u;
    return n ^ n >> 16;
}

static struct proc **bucket(struct collector *c, pid_t host_pid)
{
    return &c->by_pid[mix(c, (uint32_t)host_pid) & (PROC_BUCKETS - 1)];
}

struct segment **segments_by_pid(struct collector *c, pid_t host_pid)
{
    return &c->segments_by_pid[mix(c, (uint32_t)host_pid) & (PROC_BUCKETS - 1)];
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

/* --- lists: whatever is done for each process must not take longer the more of them there are --- */

#define LIST_ADD(head, p, next, prev)   \
    do {                                \
        (p)->prev = NULL;               \
        (p)->next = (head);             \
        if ((p)->next)                  \
            (p)->next->prev = (p);      \
        (head) = (p);                   \
    } while (0)

#define LIST_DEL(head, p, next, prev)        \
    do {                                     \
        if ((p)->prev)                       \
            (p)->prev->next = (p)->next;     \
        else                                 \
            (head) = (p)->next;              \
        if ((p)->next)                       \
            (p)->next->prev = (p)->prev;     \
        (p)->next = (p)->prev = NULL;        \
    } while (0)

static struct guest_key **guest_bucket(struct collector *c, const struct segment *seg, uint32_t number)
{
    return &c->by_guest[mix(c, number + mix(c, (uint32_t)seg->id)) & (PROC_BUCKETS - 1)];
}

static void guest_add(struct proc *p, struct guest_key *key, uint32_t number)
{
    struct guest_key **at = guest_bucket(p->c, p->seg, number);

    *key = (struct guest_key){p, *at, number};
    if (number)
        *at = key;
}

static void guest_del(struct proc *p, struct guest_key *key)
{
    struct guest_key **at = guest_bucket(p->c, p->seg, key->number);

    if (!key->number)
        return;
    while (*at != key)
        at = &(*at)->next;
    *at = key->next;
    key->number = 0;
    if (p->seg->last_found == p)
        p->seg->last_found = NULL;
}

void proc_set_pid(struct proc *p, uint32_t pid)
{
    if (p->borrowed)
        guest_del(p, &p->guest[0]);
    p->pid = p->tm.pid = pid;
    if (p->borrowed)
        guest_add(p, &p->guest[0], pid);
}

void proc_set_fork(struct proc *p, uint32_t id)
{
    if (p->borrowed)
        guest_del(p, &p->guest[1]);
    p->fork_id = id;
    if (p->borrowed && id)
        guest_add(p, &p->guest[1], REC_PID_FORK | id);
}

void proc_set_inner(struct proc *p, bool inner)
{
    if (p->borrowed && inner != p->inner_pid)
        p->seg->inner_guests += inner ? 1 : -1u;
    p->inner_pid = inner;
}

void proc_set_dying(struct proc *p)
{
    p->dead = true;
    p->c->dying++;
    LIST_ADD(p->c->dying_procs, p, dying_next, dying_prev);
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

void proc_borrow(struct proc *p, struct segment *seg)
{
    p->seg = seg;
    p->borrowed = true;
    seg->refs++;
    LIST_ADD(seg->borrowers, p, borrow_next, borrow_prev);
    seg->borrower_count++;
    seg->inner_guests += p->inner_pid;
    guest_add(p, &p->guest[0], p->pid);
    if (p->fork_id)
        guest_add(p, &p->guest[1], REC_PID_FORK | p->fork_id);
    seg->left_ns = 0;
}

void proc_unborrow(struct proc *p)
{
    if (!p->borrowed)
        return;
    LIST_DEL(p->seg->borrowers, p, borrow_next, borrow_prev);
    p->seg->borrower_count--;
    p->seg->inner_guests -= p->inner_pid;
    guest_del(p, &p->guest[0]);
    guest_del(p, &p->guest[1]);
    p->borrowed = false;
    segment_unref(p->c, p->seg);
    p->seg = NULL;
}

struct proc *segment_find(struct segment *seg, uint32_t pid, bool guest)
{
    struct guest_key *key;

    if (!seg) /* who has left one ring for another may still speak in the first */
        return NULL;
    if (!guest && seg->owner && seg->owner->pid == pid)
        return seg->owner;
    if (seg->last_found && (seg->last_found->guest[0].number == pid || seg->last_found->guest[1].number == pid) && pid)
        return seg->last_found;
    if (!seg->borrowers)
        return NULL;
    key = *guest_bucket(seg->borrowers->c, seg, pid);
    while (key && (key->p->seg != seg || key->number != pid))
        key = key->next;
    seg->last_found = key ? key->p : NULL;
    return seg->last_found;
}

void proc_free(struct proc *p)
{
    struct collector *c = p->c;

    while (p->children)
        proc_set_parent(p->children, NULL);
    proc_set_parent(p, NULL);
    unhash(p);
    if (p->dead) {
        LIST_DEL(c->dying_procs, p, dying_next, dying_prev);
        c->dying--;
    }
    if (p->unwatched)
        c->unwatched--;
    if (c->unwatched_next == p)
        c->unwatched_next = p->next;
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
    f->tls = tls_objects_inherit(p);
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
        LIST_ADD(p->c->forkers, p, forker_next, forker_prev);
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
        LIST_DEL(p->c->forkers, p, forker_next, forker_prev);
    fd_table_free(p->c, &f->fds);
    tls_objects_free(f->tls);
    free(f->cwd);
    free(f);
}
