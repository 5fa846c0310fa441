/* SPDX-License-Identifier: Apache-2.0 */
#include "summary/chain.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "summary/record.h"

#define NAME_MAX_BYTES 256u
#define SHOWN 12u      /* processes of a chain; more: the first and the last ones */
#define SHOWN_FIRST 2u /* of outer */

struct chain_names {
    const struct chain_names *up;
    char *name;
};

/* A number, and who has it now. */
struct number {
    int64_t pid;
    const struct who *who;
    bool ended, several; /* several: of inner numbers, which another process had at the same time */
};

struct chains {
    void *names;        /* struct chain_names, a tree of tsearch(3) */
    void *pids, *inner; /* struct number; inner: by own_pid, of those in a pid namespace */
    struct who **all;
    size_t count, cap;
    uint64_t cut;
    struct who unknown;
};

static int compare_names(const void *a, const void *b)
{
    const struct chain_names *x = a, *y = b;

    if (x->up != y->up)
        return (uintptr_t)x->up < (uintptr_t)y->up ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int compare_numbers(const void *a, const void *b)
{
    const struct number *x = a, *y = b;

    return x->pid < y->pid ? -1 : x->pid > y->pid;
}

static const struct chain_names *names_of(struct chains *c, const struct chain_names *up, const char *name)
{
    struct chain_names key = {up, (char *)name}, **found = tfind(&key, &c->names, compare_names), *made;

    if (found)
        return *found;
    made = xmalloc(sizeof(*made));
    *made = (struct chain_names){up, xstrdup(name)};
    if (!tsearch(made, &c->names, compare_names))
        abort(); /* no memory */
    return made;
}

static struct number *find_number(void *tree, int64_t pid)
{
    struct number key = {.pid = pid}, **found = tfind(&key, &tree, compare_numbers);

    return found ? *found : NULL;
}

static struct number *number_of(void **tree, int64_t pid)
{
    struct number *n = find_number(*tree, pid);

    if (n)
        return n;
    n = xcalloc(1, sizeof(*n));
    n->pid = pid;
    if (!tsearch(n, tree, compare_numbers))
        abort(); /* no memory */
    return n;
}

struct chains *chains_new(void)
{
    struct chains *c = xcalloc(1, sizeof(*c));

    c->unknown = (struct who){.proc = "?", .ppid = -1, .depth = 1};
    c->unknown.outer[0] = &c->unknown;
    c->unknown.names = names_of(c, NULL, "?");
    return c;
}

static void free_names(void *node)
{
    struct chain_names *n = node;

    free(n->name);
    free(n);
}

void chains_free(struct chains *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->count; i++)
        free(c->all[i]);
    free(c->all);
    tdestroy(c->names, free_names);
    tdestroy(c->pids, free);
    tdestroy(c->inner, free);
    free(c);
}

uint64_t chains_cut(const struct chains *c)
{
    return c->cut;
}

/* The process that runs under this number in the event's pid namespace. */
static const struct who *parent_of(const struct chains *c, const struct sum_event *e, int64_t ppid)
{
    const struct number *n = ppid > 0 ? find_number(e->own_pid == e->pid ? c->pids : c->inner, ppid) : NULL;

    return n && !n->several ? n->who : NULL;
}

static struct who *add(struct chains *c, const struct sum_event *e, const struct who *parent, int64_t ppid)
{
    struct number *n;
    struct who *w;
    char *name;

    if (c->count >= CHAINS_MAX || e->pid <= 0)
        return &c->unknown;
    if (c->count == c->cap) {
        c->cap = c->cap ? c->cap * 2 : 64;
        c->all = xrealloc(c->all, c->cap, sizeof(*c->all));
    }
    w = xmalloc(sizeof(*w));
    name = xstrndup(e->proc ? e->proc : "?", NAME_MAX_BYTES);
    *w = (struct who){.parent = parent, .pid = e->pid, .ppid = ppid, .first = c->count == 0};
    w->names = names_of(c, parent ? parent->names : NULL, name);
    w->proc = w->names->name;
    free(name);
    w->depth = parent ? parent->depth + 1 : 1;
    for (size_t i = 0; i < SHOWN_FIRST; i++)
        w->outer[i] = i + 1 < w->depth ? parent->outer[i] : i + 1 == w->depth ? w : NULL;
    c->all[c->count++] = w;
    n = number_of(&c->pids, e->pid);
    n->who = w;
    n->ended = false;
    if (e->own_pid != e->pid && e->own_pid > 0) {
        n = number_of(&c->inner, e->own_pid);
        n->several |= n->who && !n->ended && n->who->pid != e->pid;
        n->who = w;
        n->ended = false;
    }
    return w;
}

static const struct who *start(struct chains *c, const struct sum_event *e)
{
    const struct number *n = find_number(c->pids, e->pid);
    const char *how = sum_text(e, "start");
    int64_t ppid;

    c->cut += c->count >= CHAINS_MAX;
    if (!sum_integer(e, "ppid", &ppid))
        ppid = -1;
    /* Whose parent has ended meanwhile has another one by now: it is the one that forked it that is meant. */
    if (n && !n->ended && how && strcmp(how, "exec") == 0) {
        const struct who *before = n->who;
        struct who *w = add(c, e, before->parent, before->ppid);

        w->first |= before->first && w->pid == before->pid;
        return w;
    }
    return add(c, e, parent_of(c, e, ppid), ppid);
}

static void end(struct number *n)
{
    if (n)
        n->ended = true;
}

const struct who *chains_of(struct chains *c, const struct sum_event *e)
{
    struct number *n;
    const struct who *w;

    if (strcmp(e->source, "proc.start") == 0)
        return start(c, e);
    n = find_number(c->pids, e->pid);
    /* What an ended process has done may come behind its end; its number used again has a start in between. */
    w = n ? n->who : add(c, e, NULL, -1);
    if (strcmp(e->source, "proc.exit") == 0) {
        end(n ? n : find_number(c->pids, e->pid));
        end(e->own_pid != e->pid ? find_number(c->inner, e->own_pid) : NULL);
    }
    return w;
}

/* The chain from its outermost process on: how many there are in all, and those that are shown. *ret_gap: before which
 * of these some are left out, SIZE_MAX: none are. */
static size_t shown(const struct who *w, const struct who *ret[SHOWN], size_t *ret_gap)
{
    size_t n = w->depth < SHOWN ? w->depth : SHOWN, at = n;

    *ret_gap = n < w->depth ? SHOWN_FIRST : SIZE_MAX;
    for (const struct who *p = w; at > SHOWN_FIRST; p = p->parent)
        ret[--at] = p;
    while (at-- > 0)
        ret[at] = w->outer[at];
    return n;
}

void chain_text(struct buf *b, const struct who *w)
{
    const struct who *all[SHOWN];
    size_t gap, n = shown(w, all, &gap);

    if (!all[0]->first && all[0]->ppid > 0)
        buf_printf(b, "?[%lld] > ", (long long)all[0]->ppid);
    for (size_t i = 0; i < n; i++) {
        buf_printf(b, "%s%s%s", i ? " > " : "", i == gap ? "... > " : "", all[i]->proc);
        if (all[i]->pid)
            buf_printf(b, "[%lld]", (long long)all[i]->pid);
    }
}

void chain_json(struct buf *b, const struct who *w)
{
    const struct who *all[SHOWN];
    size_t gap, n = shown(w, all, &gap);

    buf_char(b, '[');
    for (size_t i = 0; i < n; i++) {
        buf_str(b, i ? ",{" : "{");
        if (i == gap)
            buf_printf(b, "\"left_out\":%zu,", w->depth - n);
        buf_str(b, "\"proc\":");
        buf_json_str(b, all[i]->proc);
        if (all[i]->pid)
            buf_printf(b, ",\"pid\":%lld", (long long)all[i]->pid);
        if (!i && all[i]->ppid >= 0)
            buf_printf(b, ",\"ppid\":%lld", (long long)all[i]->ppid);
        buf_char(b, '}');
    }
    buf_char(b, ']');
}
