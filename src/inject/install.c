/* SPDX-License-Identifier: Apache-2.0 */
#include "inject/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/safe_path.h"
#include "version.h"

/* The probe, placed in the executable by src/cli/embed.S. Weak: tests and tools link this module without it. */
extern const unsigned char libscope_blob[] __attribute__((weak));
extern const unsigned char libscope_blob_end[] __attribute__((weak));

#define LIB_NAME "libscope.so"

const void *launch_probe(size_t *ret_size)
{
    if (!libscope_blob) {
        *ret_size = 0;
        return NULL;
    }
    *ret_size = (size_t)(libscope_blob_end - libscope_blob);
    return libscope_blob;
}

/* FNV-1a, 64 bits. It only names the directory: the file's bytes are compared before it is used. */
static uint64_t hash_bytes(const unsigned char *p, size_t len)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < len; i++)
        h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    return h;
}

static bool same_file(int dir, const char *name, const void *bytes, size_t size)
{
    struct stat st;
    bool same = false;
    int fd = safe_read_at(dir, name);

    if (fd < 0)
        return false;
    if (fstat(fd, &st) == 0 && (st.st_uid == 0 || st.st_uid == geteuid()) &&
        !(st.st_mode & (S_IWGRP | S_IWOTH)) && (st.st_mode & 0555) == 0555 && (uint64_t)st.st_size == size) {
        char chunk[16384];
        size_t at = 0;
        ssize_t n;

        while (at < size && (n = read(fd, chunk, sizeof(chunk))) > 0 && (size_t)n <= size - at &&
               memcmp(chunk, (const char *)bytes + at, (size_t)n) == 0)
            at += (size_t)n;
        same = at == size;
    }
    close(fd);
    return same;
}

static int install_library(int dir, const char *dir_path, char **ret_lib)
{
    size_t size;
    const void *bytes = launch_probe(&size);
    char *path = xasprintf("%s/%s", dir_path, LIB_NAME);
    struct statvfs fs;
    int rc = 0;

    if (strpbrk(path, " :\t\n\v\f\r")) { /* LD_PRELOAD would be the names of several (ld.so(8), and musl) */
        free(path);
        return -EINVAL;
    }
    if (!same_file(dir, LIB_NAME, bytes, size))
        rc = safe_replace(dir, LIB_NAME, bytes, size, 0755); /* a process that maps the old one keeps it */
    if (rc == 0 && fstatvfs(dir, &fs) == 0 && (fs.f_flag & ST_NOEXEC))
        rc = -EACCES;
    if (rc == 0)
        *ret_lib = path;
    else
        free(path);
    return rc;
}

/* Plans are read and written by the collector later on: through the directory that is checked here. */
static void install_plans(int dir, const char *dir_path, char **ret_plans)
{
    int fd = safe_make_dir(dir, "plans", 0755);

    if (fd < 0)
        return;
    if (faccessat(fd, ".", W_OK, 0) < 0) {
        close(fd);
        return;
    }
    *ret_plans = xasprintf("%s/plans", dir_path);
    safe_keep(*ret_plans, fd);
}

/* A place: a directory that has to be there, or be made with that mode, and the one to make in it. */
struct place {
    char *parent, *sub;
    mode_t make;
};

/* What is loaded into programs must be nobody's to change but ours and root's: 0, or -errno with the reason. */
static int install_in(const struct place *p, const char *outer, const char *version, char **ret_lib, char **ret_plans,
                      char **ret_why)
{
    char *inner_path = xasprintf("%s/%s", outer, version);
    int fd = safe_dir(p->parent, SAFE_OURS, p->make, ret_why), inner = -1, rc = fd < 0 ? fd : 0;

    if (rc == 0 && p->sub) {
        int sub = safe_make_dir(fd, p->sub, 0755);

        close(fd);
        fd = sub;
        rc = sub < 0 ? sub : 0;
    }
    if (rc == 0) {
        inner = safe_make_dir(fd, version, 0755);
        rc = inner < 0 ? inner : 0;
    }
    if (rc == 0 && !*ret_lib)
        rc = install_library(inner, inner_path, ret_lib);
    if (rc == 0 && !*ret_plans)
        install_plans(inner, inner_path, ret_plans);
    if (inner >= 0)
        close(inner);
    if (fd >= 0)
        close(fd);
    free(inner_path);
    return rc;
}

/* lib: NULL, or where the library is (malloc'ed, taken): only plans/ is made then. */
static int install(const char *dir, char *lib, char **ret_lib, char **ret_plan_dir, char **ret_what)
{
    size_t size, count = 0;
    const unsigned char *bytes = launch_probe(&size);
    struct place places[5];
    char *plans = NULL, *version, *what = NULL;
    int rc = -ENOENT;

    *ret_what = NULL;
    if (size == 0) {
        free(lib);
        *ret_what = xstrdup(LIB_NAME " in the scope executable");
        return -ENOENT;
    }
    version = xasprintf("%s-%016llx", SCOPE_VERSION, (unsigned long long)hash_bytes(bytes, size));
    if (dir) {
        places[count++] = (struct place){xstrdup(dir), NULL, 0};
    } else {
        char *base = session_base();

        places[count++] = (struct place){xstrdup("/usr/lib"), xstrdup("appscope"), 0};
        places[count++] = (struct place){xstrdup("/tmp"), xasprintf("appscope-%u", (unsigned)geteuid()), 0};
        places[count++] = (struct place){xstrdup("/var/tmp"), xasprintf("appscope-%u", (unsigned)geteuid()), 0};
        places[count++] = (struct place){base, xstrdup("lib"), 0700};
    }
    for (size_t i = 0; i < count && !(lib && plans); i++) {
        char *outer = places[i].sub ? xasprintf("%s/%s", places[i].parent, places[i].sub) : xstrdup(places[i].parent);
        char *why = NULL;
        int err = install_in(&places[i], outer, version, &lib, &plans, &why);

        if (err < 0) {
            rc = err;
            free(what);
            what = why ? why
                       : xasprintf("%s/%s%s", outer, version,
                                   err == -EPERM ? " belongs to another user, or others can write to it" : "");
        }
        free(outer);
    }
    for (size_t i = 0; i < count; i++) {
        free(places[i].parent);
        free(places[i].sub);
    }
    free(version);
    if (!lib) {
        free(plans);
        *ret_what = what;
        return rc;
    }
    free(what);
    *ret_lib = lib;
    if (!plans) /* no place can be written: plans are made each time */
        plans = xasprintf("%.*s/plans", (int)(strlen(lib) - strlen("/" LIB_NAME)), lib);
    *ret_plan_dir = plans;
    return 0;
}

int launch_install(const char *dir, char **ret_lib, char **ret_plan_dir, char **ret_what)
{
    return install(dir, NULL, ret_lib, ret_plan_dir, ret_what);
}

int launch_install_plans(const char *lib, char **ret_plan_dir)
{
    char *same, *what;
    int rc = install(NULL, xstrdup(lib), &same, ret_plan_dir, &what);

    if (rc == 0)
        free(same);
    else
        free(what);
    return rc;
}
