/* SPDX-License-Identifier: Apache-2.0 */
#include "model/owner.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/mem.h"
#include "model/ask.h"
#include "model/model.h"
#include "model/process.h"

#define ENTRIES 4096 /* a power of two */

struct entry {
    char *path;
    size_t len;
    uint64_t until; /* CLOCK_MONOTONIC ns */
    bool found;
    struct rec_stat st;
};

static struct entry cache[ENTRIES];

/* Whether p's names mean to us what they mean to it: the same root directory and mounts. The links' texts say so: to look
 * behind them could take long. (Where our own root isn't that of our mount namespace, "/" is ours, too.) */
static bool same_root(struct proc *p)
{
    char link[64], theirs[64], ours[64];
    ssize_t n, m;

    if (p->root != ROOT_UNKNOWN)
        return p->root == ROOT_OURS;
    if (p->host_pid <= 0 || p->dead) /* ended before anybody could look: as most are */
        return true;
    snprintf(link, sizeof(link), "/proc/%d/root", (int)p->host_pid);
    n = readlink(link, theirs, sizeof(theirs));
    if (n < 0)
        return true;
    if (n != 1 || theirs[0] != '/') {
        p->root = ROOT_OTHER;
        return false;
    }
    snprintf(link, sizeof(link), "/proc/%d/ns/mnt", (int)p->host_pid);
    n = readlink(link, theirs, sizeof(theirs));
    m = readlink("/proc/self/ns/mnt", ours, sizeof(ours));
    p->root = n < 0 || (n == m && !memcmp(theirs, ours, (size_t)n)) ? ROOT_OURS : ROOT_OTHER;
    return p->root == ROOT_OURS;
}

static bool look(struct proc *p, bool own, const char *path, struct rec_stat *ret, bool *ret_known)
{
    struct stat st;
    int rc = ask_stat_in(p, own, path, &st);

    *ret_known = rc != -ETIMEDOUT;
    if (rc)
        return false;
    *ret = (struct rec_stat){.mode = st.st_mode, .uid = st.st_uid, .gid = st.st_gid, .ino = st.st_ino, .dev = st.st_dev};
    return true;
}

bool owner_lookup(struct proc *p, const char *path, size_t len, struct rec_stat *ret)
{
    char text[PATH_MAX];
    struct entry *e;
    bool known;

    if (!len || path[0] != '/' || len >= PATH_MAX || memchr(path, 0, len))
        return false;
    if (!same_root(p)) {
        if (p->dead)
            return false;
        snprintf(text, sizeof(text), "%.*s", (int)len, path);
        return look(p, true, text, ret, &known);
    }
    e = &cache[hash_bytes(path, len) & (ENTRIES - 1)];
    if (e->len != len || !e->path || memcmp(e->path, path, len)) {
        free(e->path);
        e->path = xstrndup(path, len);
        e->len = len;
        e->until = 0;
    }
    if (p->m->now_mono >= e->until) {
        e->found = look(p, false, e->path, &e->st, &known);
        if (known) /* another process may be asked about */
            e->until = p->m->now_mono + OWNER_SECONDS * UINT64_C(1000000000);
    }
    *ret = e->st;
    return e->found;
}
