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

#include "base/file.h"
#include "base/mem.h"
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

/* A directory that only we or root can change. */
static int check_dir(const char *path)
{
    struct stat st;

    if (lstat(path, &st) < 0)
        return -errno;
    if (!S_ISDIR(st.st_mode))
        return -ENOTDIR;
    if ((st.st_uid != 0 && st.st_uid != geteuid()) || (st.st_mode & (S_IWGRP | S_IWOTH)))
        return -EPERM;
    return 0;
}

static int make_dir(const char *path)
{
    if (mkdir(path, 0755) == 0) {
        if (chmod(path, 0755) < 0) /* whatever the umask */
            return -errno;
    } else if (errno != EEXIST) {
        /* A read-only file system says so even for what exists. */
        struct stat st;
        int rc = -errno;

        if (lstat(path, &st) < 0)
            return rc;
    }
    return check_dir(path);
}

static bool same_file(const char *path, const void *bytes, size_t size)
{
    struct stat st;
    bool same = false;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    if (fd < 0)
        return false;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_uid == 0 || st.st_uid == geteuid()) &&
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

static int install_library(const char *dir, char **ret_lib)
{
    size_t size;
    const void *bytes = launch_probe(&size);
    char *path = xasprintf("%s/%s", dir, LIB_NAME);
    struct statvfs fs;
    int rc = 0;

    if (strpbrk(path, " :\t\n\v\f\r")) { /* LD_PRELOAD would be the names of several (ld.so(8), and musl) */
        free(path);
        return -EINVAL;
    }
    if (!same_file(path, bytes, size))
        rc = file_replace(path, bytes, size, 0755); /* a process that maps the old one keeps it */
    if (rc == 0 && statvfs(dir, &fs) == 0 && (fs.f_flag & ST_NOEXEC))
        rc = -EACCES;
    if (rc == 0)
        *ret_lib = path;
    else
        free(path);
    return rc;
}

static int install_plans(const char *dir, char **ret_plans)
{
    char *path = xasprintf("%s/plans", dir);
    int rc = make_dir(path);

    if (rc == 0 && access(path, W_OK) < 0)
        rc = -errno;
    if (rc == 0)
        *ret_plans = path;
    else
        free(path);
    return rc;
}

/* A place: a directory that has to be there, and the ones to make in it. */
struct place {
    char *parent, *sub;
};

int launch_install(const char *dir, char **ret_lib, char **ret_plan_dir, char **ret_what)
{
    size_t size, count = 0;
    const unsigned char *bytes = launch_probe(&size);
    struct place places[5];
    char *lib = NULL, *plans = NULL, *version, *what = NULL;
    int rc = -ENOENT;

    *ret_what = NULL;
    if (size == 0) {
        *ret_what = xstrdup(LIB_NAME " in the scope executable");
        return -ENOENT;
    }
    version = xasprintf("%s-%016llx", SCOPE_VERSION, (unsigned long long)hash_bytes(bytes, size));
    if (dir) {
        places[count++] = (struct place){xstrdup(dir), NULL};
    } else {
        char *base = session_base();

        places[count++] = (struct place){xstrdup("/usr/lib"), xstrdup("appscope")};
        places[count++] = (struct place){xstrdup("/tmp"), xasprintf("appscope-%u", (unsigned)geteuid())};
        places[count++] = (struct place){xstrdup("/var/tmp"), xasprintf("appscope-%u", (unsigned)geteuid())};
        places[count++] = (struct place){base, xstrdup("lib")};
    }
    for (size_t i = 0; i < count && !(lib && plans); i++) {
        char *outer = places[i].sub ? xasprintf("%s/%s", places[i].parent, places[i].sub) : xstrdup(places[i].parent);
        char *inner = xasprintf("%s/%s", outer, version);
        int err;

        if (places[i].sub && i == 3)
            mkdir(places[i].parent, 0700);
        err = places[i].sub ? make_dir(outer) : 0;
        if (err == 0)
            err = make_dir(inner);
        if (err == 0 && !lib)
            err = install_library(inner, &lib);
        if (err == 0 && !plans)
            install_plans(inner, &plans);
        if (err < 0) {
            rc = err;
            free(what);
            what = xstrdup(inner);
        }
        free(outer);
        free(inner);
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
