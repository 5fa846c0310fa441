/* SPDX-License-Identifier: Apache-2.0 */
#include "model/file.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/pool.h"
#include "model/model.h"
#include "model/path.h"

/* Files are made and dropped with each open and close: they are kept with their path buffers. */
#define PATH_LEAST 24u /* "socket" and the like; what malloc(3) gives for less */
static struct pool socks = POOL(struct sock);

struct file *file_new(struct model *m, enum fd_kind kind, const char *path, size_t len)
{
    struct file *f = m->free_files;

    if (f) {
        char *keep = f->path;
        uint32_t cap = f->path_cap;

        m->free_files = f->next_free;
        m->free_file_count--;
        *f = (struct file){.path = keep, .path_cap = cap};
    } else {
        f = xcalloc(1, sizeof(*f));
    }
    f->refs = 1;
    f->kind = kind;
    f->channel = ++m->last_channel;
    if (len > NAME_SHORT && m->long_names + len > LONG_NAMES_MAX) {
        model_loss(m, NULL, LK_DESCRIPTOR, 1);
        len = 0;
    }
    if (len > NAME_SHORT)
        m->long_names += len;
    if (len > f->path_cap) {
        f->path_cap = (uint32_t)(len < PATH_LEAST ? PATH_LEAST : len);
        f->path = xrealloc(f->path, f->path_cap, 1);
    }
    if (len)
        memcpy(f->path, path, len);
    f->path_len = (uint32_t)len;
    f->resolved = path_resolved(path, len);
    return f;
}

void sock_unref(struct model *m, struct sock *s)
{
    if (--s->refs)
        return;
    m->watch->sock_end(s);
    free(s->client);
    pool_put(&socks, s);
}

void file_unref(struct model *m, struct file *f)
{
    if (--f->refs)
        return;
    if (f->sock) {
        if (f->sock->refs == 1)
            m->watch->sock_last(m, f->sock);
        sock_unref(m, f->sock);
        f->sock = NULL;
    }
    if (f->path_cap > NAME_SHORT)
        m->long_names -= f->path_cap;
    if (m->free_file_count >= 4096 || f->path_cap > NAME_SHORT) {
        free(f->path);
        free(f);
        return;
    }
    f->next_free = m->free_files;
    m->free_files = f;
    m->free_file_count++;
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


void files_free(struct model *m)
{
    while (m->free_files) {
        struct file *f = m->free_files;

        m->free_files = f->next_free;
        free(f->path);
        free(f);
    }
}
