/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/safe_path.h"
#include "plan/emit.h"
#include "plan/plan.h"
#include "wire/syscalls.h"

/* A plan for a hundred thousand sites is smaller. */
#define MAX_PLAN_SIZE (64u << 20)

/* Keys are file names: nothing but what plan_key() makes. */
static int key_ok(const char *key)
{
    size_t n = strspn(key, "0123456789abcdef-");

    return (n > 0 || key[0] == 'f') && n < PLAN_KEY_MAX && !key[n];
}

static char *cache_name(const char *key)
{
    return xasprintf("%s.plan", key);
}

/* Everything that a user of the plan relies on. plan_check() has the ranges of the tables, this their contents. */
static int contents_ok(const char *plan, size_t size, const char *key)
{
    const struct plan_header *h = (const struct plan_header *)(const void *)plan;
    const struct plan_fixup *fixups;
    const struct plan_patch *patches;

    if (!plan_check(plan, size) || h->sum != plan_sum(plan, size) || h->table_hash != syscall_table_hash() ||
        strncmp(h->key, key, sizeof(h->key)) != 0)
        return 0;
    fixups = (const struct plan_fixup *)(const void *)(plan + h->fix_off);
    for (uint32_t i = 0; i < h->fix_count; i++) {
        uint32_t width = fixups[i].kind == PLAN_FIX_ABS64 || fixups[i].kind == PLAN_FIX_BLOB64 ? 8 : 4;

        if (fixups[i].kind >= PLAN_FIX_MAX || fixups[i].at > h->blob_size || h->blob_size - fixups[i].at < width)
            return 0;
    }
    if (h->reach_lo > h->text_lo || h->reach_hi < h->text_hi)
        return 0;
    patches = (const struct plan_patch *)(const void *)(plan + h->patch_off);
    for (uint32_t i = 0; i < h->patch_count; i++) {
        const struct plan_patch *p = &patches[i];

        if (!p->len || p->len > PLAN_PATCH_MAX || (p->rel_at != PLAN_REL_NONE && p->rel_at + 4 > p->len) ||
            p->site >= h->site_count || p->vaddr < h->text_lo || p->vaddr > h->text_hi ||
            h->text_hi - p->vaddr < p->len || (i && p->vaddr < patches[i - 1].vaddr + patches[i - 1].len))
            return 0;
    }
    return 1;
}

int plan_cache_open(const char *dir, const char *key)
{
    struct stat st;
    char *name, *plan;
    int at, fd, ok = 0;

    if (!key_ok(key))
        return -ENOENT;
    at = safe_dir(dir, SAFE_OURS, 0, NULL);
    if (at < 0)
        return -ENOENT;
    name = cache_name(key);
    fd = safe_read_at(at, name);
    /* A plan is code for other programs: take it from nobody but root and ourselves. */
    if (fd >= 0 && fstat(fd, &st) == 0 && (st.st_uid == 0 || st.st_uid == geteuid()) &&
        !(st.st_mode & (S_IWGRP | S_IWOTH)) && st.st_size >= (off_t)sizeof(struct plan_header) &&
        st.st_size <= (off_t)MAX_PLAN_SIZE) {
        size_t size = (size_t)st.st_size;

        plan = xmalloc(size);
        ok = pread(fd, plan, size, 0) == (ssize_t)size && contents_ok(plan, size, key);
        free(plan);
    }
    if (!ok) {
        if (fd >= 0)
            close(fd);
        if (fd >= 0 || fd == -ELOOP || fd == -EINVAL)
            unlinkat(at, name, 0); /* made anew; somebody else's file stays where we may not remove it */
        fd = -ENOENT;
    }
    free(name);
    close(at);
    return fd;
}

int plan_cache_store(const char *dir, const char *key, const void *plan, size_t size)
{
    char *name;
    int at, r;

    if (!key_ok(key))
        return -EINVAL;
    at = safe_dir(dir, SAFE_OURS, 0, NULL);
    if (at < 0)
        return at;
    name = cache_name(key);
    r = safe_replace(at, name, plan, size, 0644);
    free(name);
    close(at);
    return r;
}

static int sealed_copy(const void *plan, size_t size)
{
    int fd = memfd_create("scope-plan", MFD_CLOEXEC | MFD_ALLOW_SEALING), r;

    if (fd < 0)
        return -errno;
    r = write_all(fd, plan, size);
    if (!r && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
        r = -errno;
    if (r) {
        close(fd);
        return r;
    }
    return fd;
}

int plan_cache_get(const char *dir, int image_fd, const char *key)
{
    void *plan;
    size_t size;
    int fd = dir ? plan_cache_open(dir, key) : -ENOENT, r;

    if (fd >= 0)
        return fd;
    r = plan_file(image_fd, key, &plan, &size);
    if (r < 0)
        return r;
    if (dir)
        plan_cache_store(dir, key, plan, size);
    fd = sealed_copy(plan, size);
    free(plan);
    return fd;
}
