/* SPDX-License-Identifier: Apache-2.0 */
#include "inject/foresee.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/safe_path.h"
#include "plan/plan.h"

#define FILES_MAX 256u
#define DIRS_MAX 64u
#define CONF "/etc/ld.so.conf.d/*.conf"

struct search {
    char *dirs[DIRS_MAX];
    size_t dir_count;
    struct foreseen *v;
    char **names; /* as DT_NEEDED has them, of each in v */
    size_t count;
};

static void add_dir(struct search *s, const char *dir, size_t len)
{
    if (len && *dir == '/' && s->dir_count < DIRS_MAX)
        s->dirs[s->dir_count++] = xstrndup(dir, len);
}

static void add_dirs_of(struct search *s, const char *conf)
{
    FILE *f = fopen(conf, "re");
    char *line = NULL;
    size_t size = 0;

    while (f && getline(&line, &size, f) > 0)
        add_dir(s, line, strcspn(line, " \t\n#"));
    free(line);
    if (f)
        fclose(f);
}

static void find_dirs(struct search *s)
{
    static const char *const usual[] = {"/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib"};
    const char *at = getenv("LD_LIBRARY_PATH");
    glob_t found = {0};

    while (at && *at) {
        size_t len = strcspn(at, ":;");

        add_dir(s, at, len);
        at += len + (at[len] != '\0');
    }
    if (glob(CONF, 0, NULL, &found) == 0)
        for (size_t i = 0; i < found.gl_pathc; i++)
            add_dirs_of(s, found.gl_pathv[i]);
    globfree(&found);
    for (size_t i = 0; i < sizeof(usual) / sizeof(*usual); i++)
        add_dir(s, usual[i], strlen(usual[i]));
}

static void add_name(struct search *s, const char *name)
{
    for (size_t i = 0; i < s->count; i++)
        if (strcmp(s->names[i], name) == 0)
            return;
    if (s->count == FILES_MAX)
        return;
    s->names[s->count] = xstrdup(name);
    s->v[s->count++] = (struct foreseen){.path = xstrdup(name), .error = ENOENT};
}

static void count(struct foreseen *f, const struct plan_header *plan)
{
    struct plan_sites n;

    plan_count_sites(plan, true, false, PLAN_OK, &n);
    f->functions = n.hooked - n.go_hooked;
    f->go = n.go_hooked;
    f->keys = n.keys;
    f->left = n.functions - n.hooked;
    f->unknown_form = n.refused[PLAN_R_UNKNOWN_FORM] > 0;
    f->checks_itself = n.refused[PLAN_R_SELF_CHECK] > 0;
    f->is_go = n.go > 0;
}

/* An open file, which is what `e` says. */
static void look(struct search *s, struct foreseen *f, int fd, const struct exe *e)
{
    void *plan = NULL;
    size_t size = 0;
    int rc = plan_file(fd, "0", &plan, &size);

    f->error = -rc;
    if (rc == 0 && plan_check(plan, size))
        count(f, plan);
    free(plan);
    for (size_t i = 0; i < e->needed_count; i++)
        add_name(s, e->needed[i]);
}

/* One of another architecture is passed over, as the loader does. */
static bool try(struct search *s, struct foreseen *f, const char *path)
{
    int fd = safe_read(path); /* what it names may be a device, which opening alone would start */
    struct exe e = {0};
    bool found;

    if (fd < 0 || exe_read(fd, &e) < 0) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    found = e.kind == EXE_DYNAMIC || e.kind == EXE_STATIC; /* libraries have no interpreter, mostly */
    if (found) {
        free(f->path);
        f->path = xstrdup(path);
        look(s, f, fd, &e);
    }
    exe_clear(&e);
    close(fd);
    return found;
}

static void find(struct search *s, size_t i)
{
    const char *name = s->names[i];
    bool found = strchr(name, '/') && try(s, &s->v[i], name);

    for (size_t d = 0; d < s->dir_count && !found && !strchr(name, '/'); d++) {
        char *path = xasprintf("%s/%s", s->dirs[d], name);

        found = try(s, &s->v[i], path);
        free(path);
    }
}

int foresee(const char *program, enum exe_kind *ret_kind, struct foreseen **ret, size_t *ret_count)
{
    struct search s = {0};
    char *image = NULL;
    int rc = launch_classify(program, ret_kind, &image);

    if (rc < 0)
        return rc;
    s.v = xcalloc(FILES_MAX, sizeof(*s.v));
    s.names = xcalloc(FILES_MAX, sizeof(*s.names));
    find_dirs(&s);
    add_name(&s, image ? image : program);
    for (size_t i = 0; i < s.count; i++) /* it grows */
        find(&s, i);
    for (size_t i = 0; i < s.count; i++)
        free(s.names[i]);
    for (size_t i = 0; i < s.dir_count; i++)
        free(s.dirs[i]);
    free(s.names);
    free(image);
    *ret = s.v;
    *ret_count = s.count;
    return 0;
}

void foresee_free(struct foreseen *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(v[i].path);
    free(v);
}
