/* SPDX-License-Identifier: Apache-2.0 */
#include "host/service.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/safe_path.h"
#include "host/unit.h"

#define DROP_IN     "zz-appscope.conf" /* behind an override.conf, which may set lists anew */
#define SUFFIX      ".service"
#define PREFIX      "appscope-"
#define INIT_DIR    "/etc/init.d"
#define KEY_MAX     64u
#define TEXT_MAX    ((size_t)1 << 20)

#define MARK        "# >>> appscope: put in by `scope service`, taken out by `scope service --undo`"
#define MARK_FILE   " (the file is ours)"
#define MARK_LINE   " (the line above had no end)"
#define MARK_END    "# <<< appscope\n"
#define UNIT_MARK   "# Put in by `scope service`, taken out by `scope service --undo`"
#define MADE_ONE    " (with the directory)"
#define MADE_TWO    " (with two directories)"
#define YML_MARK    "# Written by `scope service`, "

/*
 * The system calls of the probe that the sandbox of a service may not have (systemd.exec(5), SystemCallFilter=; @default is
 * allowed anyway). It kills a process that makes another one.
 */
#define PROBE_CALLS \
    "close connect faccessat fcntl fgetxattr fstat ftruncate getcwd getpeername getrusage getsockname getsockopt kill madvise " \
    "memfd_create openat ppoll prctl pread64 pwrite64 read readlinkat recvmsg rt_sigaction rt_sigprocmask " \
    "rt_tgsigqueueinfo sendmsg shutdown sigaltstack socket socketpair statx tgkill"

/* --- lists of texts --- */

static void add(char ***list, char *text)
{
    size_t n = 0;

    while (*list && (*list)[n])
        n++;
    *list = xrealloc(*list, n + 2, sizeof(char *));
    (*list)[n] = text;
    (*list)[n + 1] = NULL;
}

static void free_list(char **list)
{
    for (char **p = list; p && *p; p++)
        free(*p);
    free(list);
}

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);

    return n >= m && strcmp(text + n - m, end) == 0;
}

/* --- names --- */

/* A name that is one component of a path, of characters that neither systemd, a shell, nor $SCOPE_SOCKET takes for
 * something else: NULL if it would be too long. */
static char *key_of(const char *name)
{
    struct buf b = BUF_INIT;
    char *key;

    for (; *name; name++)
        if (isalnum((unsigned char)*name) || *name == '_' || *name == '-')
            buf_char(&b, *name);
        else
            buf_printf(&b, ":%02x", (unsigned char)*name);
    key = b.len && b.len <= KEY_MAX ? xstrdup(buf_cstr(&b)) : NULL;
    buf_free(&b);
    return key;
}

static char *without_suffix(const char *name)
{
    size_t n = strlen(name);

    return xstrndup(name, n > strlen(SUFFIX) && ends_in(name, SUFFIX) ? n - strlen(SUFFIX) : n);
}

/* --- files --- */

/* 0, -ENOENT, or -errno. */
static int read_file(const char *path, struct buf *ret, mode_t *ret_mode)
{
    int fd = safe_read(path), rc = 0;
    struct stat st;
    ssize_t n;

    if (fd < 0)
        return fd == -ENOTDIR ? -ENOENT : fd;
    if (ret_mode && fstat(fd, &st) == 0)
        *ret_mode = st.st_mode & 07777;
    do {
        n = read(fd, buf_room(ret, 16384), 16384);
        if (n < 0)
            rc = -errno;
        else
            ret->len += (size_t)n;
    } while (n > 0 && ret->len <= TEXT_MAX);
    close(fd);
    if (ret->len > TEXT_MAX)
        rc = -EFBIG;
    return rc;
}

static bool is_there(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

static char *directory_of(const char *path)
{
    return xstrndup(path, (size_t)(strrchr(path, '/') - path));
}

/* Adds a file that is to hold a text, unless it does. */
static void want(struct service_plan *p, char *path, struct buf *text, mode_t mode)
{
    struct buf old = BUF_INIT;
    mode_t old_mode = mode;
    int rc = read_file(path, &old, &old_mode);

    if (rc == 0 && old.len == text->len && memcmp(old.p ? old.p : "", text->p ? text->p : "", old.len) == 0) {
        free(path);
        buf_free(text);
    } else {
        p->change = xrealloc(p->change, p->count + 1, sizeof(*p->change));
        p->change[p->count++] = (struct service_change){
            .path = path, .text = xstrdup(buf_cstr(text)), .len = text->len, .mode = old_mode, .there = rc != -ENOENT};
        buf_free(text);
    }
    buf_free(&old);
}

static void unwant(struct service_plan *p, const char *path, unsigned made)
{
    p->change = xrealloc(p->change, p->count + 1, sizeof(*p->change));
    p->change[p->count++] = (struct service_change){.path = xstrdup(path), .there = true, .made = made};
}

void service_plan_clear(struct service_plan *p)
{
    for (size_t i = 0; i < p->count; i++) {
        free(p->change[i].path);
        free(p->change[i].text);
    }
    free(p->change);
    free_list(p->kept);
    *p = (struct service_plan){0};
}

/* Directories that were made for a file: somebody may have put something there meanwhile. */
static void remove_dirs(const char *path, unsigned count)
{
    char *dir = directory_of(path);

    for (; count; count--) {
        char *above = directory_of(dir);
        int fd = safe_dir(above, SAFE_OURS, 0, NULL);

        if (fd >= 0) {
            unlinkat(fd, strrchr(dir, '/') + 1, AT_REMOVEDIR);
            close(fd);
        }
        free(dir);
        dir = above;
    }
    free(dir);
}

static int apply(const struct service_change *c, char **ret_why)
{
    char *dir = directory_of(c->path);
    const char *name = strrchr(c->path, '/') + 1;
    int fd = safe_dir(dir, SAFE_OURS, c->text ? 0755 : 0, ret_why), rc = fd < 0 ? fd : 0;

    if (rc == 0 && c->text) {
        struct stat st;
        bool known = fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;

        if (known && !S_ISREG(st.st_mode)) {
            *ret_why = xstrdup("it is no file, but a link or something else");
            rc = -EPERM;
        } else {
            rc = safe_replace_lasting(fd, name, c->text, c->len, c->mode);
        }
        if (rc == 0 && known && (st.st_uid != geteuid() || st.st_gid != getegid()) &&
            fchownat(fd, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) < 0)
            rc = -errno;
    } else if (rc == 0 && unlinkat(fd, name, 0) < 0 && errno != ENOENT) {
        rc = -errno;
    }
    if (fd >= 0)
        close(fd);
    if (rc == -ENOENT && !c->text)
        rc = 0;
    if (rc == 0)
        remove_dirs(c->path, c->made);
    if (rc < 0) {
        char *why = *ret_why;

        *ret_why = xasprintf("%s: %s", c->path, why ? why : strerror(-rc));
        free(why);
    }
    free(dir);
    return rc;
}

int service_apply(const struct service_plan *p, char **ret_why)
{
    int rc = 0;

    *ret_why = NULL;
    for (size_t i = 0; rc == 0 && i < p->count; i++)
        rc = apply(&p->change[i], ret_why);
    return rc;
}

/* --- what a unit of systemd has --- */

static bool is_true(const char *value)
{
    return value && (strcmp(value, "1") == 0 || strcasecmp(value, "yes") == 0 || strcasecmp(value, "y") == 0 ||
                     strcasecmp(value, "true") == 0 || strcasecmp(value, "t") == 0 || strcasecmp(value, "on") == 0);
}

static bool is_false(const char *value)
{
    return value && !is_true(value);
}

static bool sets(const struct unit *u, const char *key)
{
    size_t at = 0;

    return unit_next(u, "Service", key, &at) != NULL;
}

/* What the words of all lines of a list say of one: 1 it is allowed, 0 it isn't; of a list of what is refused ("~")
 * likewise. */
static bool list_allows(const struct unit *u, const char *key, const char *wanted)
{
    const char *value, *words;
    size_t at = 0;
    bool allows = true, first = true;

    while ((value = unit_next(u, "Service", key, &at))) {
        bool refused = *value == '~';
        char *word;

        if (first)
            allows = refused;
        first = false;
        for (words = value + refused; (word = unit_word(&words)); free(word))
            if (strcmp(word, wanted) == 0)
                allows = !refused;
    }
    return allows;
}

/* LD_PRELOAD as Environment= and EnvironmentFile= of the unit have it. */
static char *preload_of(const struct unit *u)
{
    static const char name[] = "LD_PRELOAD=";
    char *found = NULL, *word;
    const char *value, *words;
    size_t at = 0;

    while ((value = unit_next(u, "Service", "Environment", &at)))
        for (words = value; (word = unit_word(&words)); free(word))
            if (strncmp(word, name, strlen(name)) == 0) {
                free(found);
                found = xstrdup(word + strlen(name));
            }
    at = 0;
    while ((value = unit_next(u, "Service", "EnvironmentFile", &at))) {
        struct buf text = BUF_INIT;
        char *next;

        if (read_file(value + (*value == '-'), &text, NULL) < 0)
            text.len = 0;
        for (char *line = buf_cstr(&text); line; line = next) {
            next = strchr(line, '\n');
            if (next)
                *next++ = '\0';
            line += strspn(line, " \t");
            if (strncmp(line, name, strlen(name)) == 0) {
                words = line + strlen(name);
                free(found);
                found = unit_word(&words);
            }
        }
        buf_free(&text);
    }
    return found;
}

static bool below(const char *path, const char *dir)
{
    size_t n = strlen(dir);

    while (n && dir[n - 1] == '/')
        n--;
    return strncmp(path, dir, n) == 0 && (path[n] == '/' || !path[n]);
}

/* Whether a list of paths has one that our files are below. */
static bool covers(const struct unit *u, const char *key)
{
    const char *value, *words;
    bool found = false;
    size_t at = 0;
    char *word;

    while ((value = unit_next(u, "Service", key, &at)))
        for (words = value; (word = unit_word(&words)); free(word)) {
            char *path = word + strspn(word, "-+");

            path[strcspn(path, ":")] = '\0';
            found |= *path == '/' && (below(SERVICE_RUN, path) || below(HOST_LIB_DIR, path));
        }
    return found;
}

/* What is in the way of the probe, and can be put out of it by lines that only add to what the unit allows. 0, or -EPERM
 * with the reason. */
static int read_sandbox(const struct unit *u, struct service *s, char **ret_why)
{
    static const char *const hiding[] = {"InaccessiblePaths", "InaccessibleDirectories", "InaccessibleFiles"};

    for (size_t i = 0; i < sizeof(hiding) / sizeof(*hiding); i++)
        if (covers(u, hiding[i])) {
            *ret_why = xasprintf("its %s= hides " SERVICE_RUN " or " HOST_LIB_DIR " from it", hiding[i]);
            return -EPERM;
        }
    if (sets(u, "SystemCallFilter"))
        add(&s->sandbox, xstrdup("SystemCallFilter=" PROBE_CALLS));
    if (sets(u, "RestrictAddressFamilies") && !list_allows(u, "RestrictAddressFamilies", "AF_UNIX"))
        add(&s->sandbox, xstrdup("RestrictAddressFamilies=AF_UNIX"));
    if (covers(u, "NoExecPaths"))
        add(&s->sandbox, xstrdup("ExecPaths=" HOST_LIB_DIR));
    if (sets(u, "RootDirectory") || sets(u, "RootImage") || covers(u, "TemporaryFileSystem"))
        add(&s->sandbox, xasprintf("BindReadOnlyPaths=-" HOST_LIB_DIR " -" SERVICE_RUN "/%s", s->key));
    return 0;
}

static int find_unit(const char *word, struct service *s, char **ret_why)
{
    struct unit u;
    const char *value, *type;
    size_t at = 0;
    int rc = unit_load(word, DROP_IN, &u, ret_why);

    if (rc < 0)
        return rc;
    s->name = without_suffix(u.name);
    s->key = key_of(s->name);
    s->file = xstrdup(u.path);
    if (strncmp(s->name, PREFIX, strlen(PREFIX)) == 0 || strcmp(s->name, "appscope") == 0) {
        *ret_why = xstrdup("it is one of AppScope's own");
        rc = -EPERM;
    } else if (!s->key) {
        *ret_why = xasprintf("its name is too long (%u characters at most)", KEY_MAX);
        rc = -EPERM;
    } else if (is_false(unit_value(&u, "Unit", "DefaultDependencies"))) {
        *ret_why = xstrdup("it belongs to the early boot (DefaultDependencies=no), before a collector can run");
        rc = -EPERM;
    }
    if (rc == 0) {
        value = unit_next(&u, "Service", "ExecStart", &at);
        if (value) {
            value += strspn(value, "@-:+!");
            s->program = unit_word(&value);
        }
        value = unit_value(&u, "Service", "User");
        s->user = value && strcmp(value, "root") != 0 && strcmp(value, "0") != 0 ? xstrdup(value) : NULL;
        s->dynamic_user = is_true(unit_value(&u, "Service", "DynamicUser"));
        type = unit_value(&u, "Service", "Type");
        s->forks = type && strcmp(type, "forking") == 0;
        s->oneshot = type && strcmp(type, "oneshot") == 0;
        s->accepts = u.template && unit_accepts(s->name);
        s->preload = preload_of(&u);
        rc = read_sandbox(&u, s, ret_why);
    }
    unit_clear(&u);
    return rc;
}

/* --- scripts --- */

/* The file that a script of /etc/init.d reads its settings from. */
static char *settings_of(enum host_init init, const char *name)
{
    if (init == HOST_INIT_OPENRC)
        return xasprintf("/etc/conf.d/%s", name);
    return xasprintf("%s/%s", is_there("/etc/sysconfig") ? "/etc/sysconfig" : "/etc/default", name);
}

static int find_script(const char *word, struct service *s, char **ret_why)
{
    struct buf text = BUF_INIT;
    char *settings;
    int rc;

    for (const char *p = word; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("._+-@", *p)) {
            *ret_why = xstrdup(*p == '/' ? "a service is named, not a file" : "names of services consist of letters, digits and ._+-@");
            return -EINVAL;
        }
    if (!*word || *word == '.') {
        *ret_why = xstrdup("this is no name of a service");
        return -EINVAL;
    }
    s->name = xstrdup(word);
    s->key = key_of(word);
    s->file = xasprintf(INIT_DIR "/%s", word);
    rc = read_file(s->file, &text, NULL);
    if (rc == 0 && !s->key) {
        *ret_why = xasprintf("its name is too long (%u characters at most)", KEY_MAX);
        rc = -EPERM;
    }
    settings = settings_of(s->init, "");
    if (rc == 0 && s->init == HOST_INIT_SYSV && !strstr(buf_cstr(&text), settings))
        add(&s->note, xasprintf("%s doesn't seem to read %s%s: let it, with a line such as `. %s%s`", s->file, settings, s->name,
                                settings, s->name));
    free(settings);
    buf_free(&text);
    return rc;
}

int service_find(const char *word, struct service *ret, char **ret_why)
{
    int rc;

    *ret_why = NULL;
    *ret = (struct service){.init = host_init("")};
    if (ret->init == HOST_INIT_NONE) {
        *ret_why = xstrdup("neither systemd nor OpenRC nor /etc/init.d is here");
        return -ENOTSUP;
    }
    rc = ret->init == HOST_INIT_SYSTEMD ? find_unit(word, ret, ret_why) : find_script(word, ret, ret_why);
    if (rc < 0)
        service_clear(ret);
    return rc;
}

void service_clear(struct service *s)
{
    free(s->name);
    free(s->key);
    free(s->file);
    free(s->program);
    free(s->user);
    free(s->preload);
    free_list(s->sandbox);
    free_list(s->note);
    *s = (struct service){.init = s->init};
}

char *service_store(const char *word)
{
    char *why = NULL, *name, *key, *store;
    struct service s;

    if (service_find(word, &s, &why) == 0) {
        store = xasprintf(SERVICE_STORE "/%s", s.key);
        service_clear(&s);
        return store;
    }
    free(why);
    name = without_suffix(word);
    key = key_of(name);
    store = key ? xasprintf(SERVICE_STORE "/%s", key) : NULL;
    free(name);
    free(key);
    return store;
}

char **service_names(enum host_init init)
{
    char **names = NULL;
    struct dirent *e;
    DIR *d;

    if (init == HOST_INIT_SYSTEMD)
        return unit_names();
    d = opendir(INIT_DIR);
    while (d && (e = readdir(d)))
        if (*e->d_name != '.')
            add(&names, xstrdup(e->d_name));
    if (d)
        closedir(d);
    return names ? names : xcalloc(1, sizeof(char *));
}

char *service_outdated(const struct service *s)
{
    char *why = NULL;
    struct unit u;

    if (s->init != HOST_INIT_SYSTEMD)
        return NULL;
    if (unit_load(s->name, NULL, &u, &why) < 0)
        return why ? why : xstrdup("its unit is gone");
    for (char **line = s->sandbox; !why && line && *line; line++) {
        char *key = xstrndup(*line, strcspn(*line, "="));
        const char *value;
        size_t at = 0;
        bool found = false;

        while ((value = unit_next(&u, "Service", key, &at)))
            found |= strcmp(value, *line + strlen(key) + 1) == 0;
        if (!found)
            why = xasprintf("its unit has %s= now, which `scope service %s` has to allow for", key, s->name);
        free(key);
    }
    unit_clear(&u);
    return why;
}

/* --- what runs of it --- */

/* The control group of a process in systemd's own hierarchy (cgroups(7)), below `above`, that of systemd itself: malloc'ed,
 * or NULL. */
static char *group_of(const char *pid, const char *above)
{
    char *path = xasprintf("/proc/%s/cgroup", pid), line[4096], *group = NULL;
    FILE *f = fopen(path, "re");

    while (!group && f && fgets(line, sizeof(line), f)) {
        const char *at = strncmp(line, "0::", 3) == 0 ? line + 3 : strncmp(line, "1:name=systemd:", 15) == 0 ? line + 15 : NULL;

        line[strcspn(line, "\n")] = '\0';
        /* With both hierarchies (systemd's "hybrid" set-up) the first one may be unused. */
        if (at && strncmp(at, above, strlen(above)) == 0 && at[strlen(above)] == '/' && at[strlen(above) + 1])
            group = xstrdup(at + strlen(above));
    }
    if (f)
        fclose(f);
    free(path);
    return group;
}

/* Whether a unit is the service, or an instance of it. What begins like a file of the kernel's has a "_" before it. */
static bool is_unit_of(const struct service *s, const char *unit, size_t len)
{
    size_t n = strlen(s->name), m = strlen(SUFFIX);

    if (len && *unit == '_' && *s->name != '_') {
        unit++;
        len--;
    }
    if (len < n + m || strncmp(unit, s->name, n) != 0 || strncmp(unit + len - m, SUFFIX, m) != 0)
        return false;
    return len == n + m || s->name[n - 1] == '@';
}

/* Units of systemd's are directly below its slices. */
static bool is_in(const struct service *s, const char *group)
{
    static const char slice[] = ".slice";
    size_t len;

    for (; *group == '/'; group += len) {
        group++;
        len = strcspn(group, "/");
        if (len < sizeof(slice) || strncmp(group + len - strlen(slice), slice, strlen(slice)) != 0)
            return is_unit_of(s, group, len);
    }
    return false;
}

size_t service_processes(const struct service *s, pid_t **ret)
{
    static const char own[] = "/init.scope";
    char *above = group_of("1", "");
    DIR *d = s->init == HOST_INIT_SYSTEMD ? opendir("/proc") : NULL;
    struct dirent *e;
    size_t count = 0;

    *ret = NULL;
    if (!above || !ends_in(above, own)) {
        free(above);
        above = xstrdup("");
    } else {
        above[strlen(above) - strlen(own)] = '\0';
    }
    while (d && (e = readdir(d))) {
        char *group = isdigit((unsigned char)*e->d_name) ? group_of(e->d_name, above) : NULL;

        if (group && is_in(s, group)) {
            *ret = xrealloc(*ret, count + 1, sizeof(pid_t));
            (*ret)[count++] = (pid_t)strtol(e->d_name, NULL, 10);
        }
        free(group);
    }
    if (d)
        closedir(d);
    free(above);
    return count;
}

/* --- putting in --- */

static char *drop_in_dir(const char *name)
{
    return xasprintf(UNIT_DIR "/%s" SUFFIX ".d", name);
}

/* Of the socket that starts instances of a template. */
static char *socket_dir(const char *name)
{
    return xasprintf(UNIT_DIR "/%.*s.socket.d", (int)strcspn(name, "@"), name);
}

/* What the line that marks a file of ours says of directories made for it. end: of that line. */
static unsigned made_by(const char *line, const char *end)
{
    const char *one = strstr(line, MADE_ONE), *two = strstr(line, MADE_TWO);

    return two && two < end ? 2 : one && one < end ? 1 : 0;
}

/* The same for a file that is to be written: of directories that are missing, or were made by us the last time. */
static const char *makes_dirs(const char *path)
{
    char *dir = directory_of(path), *above = directory_of(dir);
    unsigned made = is_there(above) ? is_there(dir) ? 0 : 1 : 2;
    struct buf old = BUF_INIT;

    if (!made && read_file(path, &old, NULL) == 0) {
        char *text = buf_cstr(&old), *end = strchr(text, '\n');

        made = end ? made_by(text, end) : 0;
    }
    free(dir);
    free(above);
    buf_free(&old);
    return made == 2 ? MADE_TWO : made ? MADE_ONE : "";
}

/*
 * Commands beside each start of the service. They aren't an ExecStartPre= or ExecStartPost= of its own, which systemd runs
 * among the service's mounts, where neither the tool nor the collector's directory need be.
 */
static const struct beside {
    const char *suffix;   /* no key ends like this */
    const char *what, *option;
    bool before;
} beside[] = {
    {":check", "looks whether it can still observe", "--check", true},
    {":attach", "attaches to", "--join-running", false},
};

static char *beside_path(const struct beside *of, const char *name, const char *key)
{
    return xasprintf(UNIT_DIR "/" PREFIX "%s%s%s" SUFFIX, key, of->suffix, ends_in(name, "@") ? "@" : "");
}

static void plan_beside(const struct beside *of, const struct service *s, const struct service_setup *how, struct service_plan *p)
{
    const char *instance = ends_in(s->name, "@") ? "%i" : "";
    struct buf b = BUF_INIT;

    buf_printf(&b, UNIT_MARK "\n[Unit]\nDescription=AppScope, %s %s%s\nDocumentation=man:scope(1)\nStartLimitIntervalSec=0\n",
               of->what, s->name, instance);
    if (!of->before)
        buf_printf(&b, "After=%s%s" SUFFIX " " PREFIX "%s" SUFFIX "\n", s->name, instance, s->key);
    buf_printf(&b, "\n[Service]\nType=oneshot\nTimeoutStartSec=%d\nExecStart=-%s collector --service %s %s\n",
               of->before ? 10 : 90, how->scope, s->name, of->option);
    want(p, beside_path(of, s->name, s->key), &b, 0644);
}

/* A connection needn't wait for a collector, and all of them are one session: it runs as long as the socket waits. */
static void plan_accepting(const struct service *s, struct service_plan *p)
{
    char *dir = socket_dir(s->name), *path = xasprintf("%s/" DROP_IN, dir);
    struct buf b = BUF_INIT;

    buf_printf(&b, UNIT_MARK "%s\n[Unit]\nWants=" PREFIX "%s" SUFFIX "\n", makes_dirs(path), s->key);
    want(p, path, &b, 0644);
    free(dir);
}

static void plan_units(const struct service *s, const struct service_setup *how, struct service_plan *p)
{
    char *dir = drop_in_dir(s->name), *path = xasprintf("%s/" DROP_IN, dir);
    struct buf b = BUF_INIT;

    buf_printf(&b, "# " PREFIX "%s" ".socket: how processes of %s reach its collector.\n" UNIT_MARK "\n", s->key, s->name);
    buf_printf(&b,
               "[Unit]\nDescription=AppScope, for %s: socket\nStopWhenUnneeded=yes\nStartLimitIntervalSec=0\n\n"
               "[Socket]\nListenSequentialPacket=" SERVICE_RUN "/%s/socket\n"
               "ListenSequentialPacket=" SERVICE_RUN "/%s/socket+\nSocketMode=0666\nDirectoryMode=0755\nBacklog=4096\n"
               "RemoveOnStop=yes\n",
               s->name, s->key, s->key);
    want(p, xasprintf(UNIT_DIR "/" PREFIX "%s.socket", s->key), &b, 0644);

    buf_printf(&b, UNIT_MARK "\n");
    buf_printf(&b,
               "[Unit]\nDescription=AppScope, for %s\nDocumentation=man:scope(1)\n"
               "Requires=" PREFIX "%s.socket\nAfter=" PREFIX "%s.socket\nStopWhenUnneeded=yes\n"
               "StartLimitIntervalSec=0\n\n" /* it is started as often as its service, which has a limit of its own */
               "[Service]\nType=notify\nExecStart=%s collector --service %s%s%s\n"
               "ExecStartPost=-+%s collector --service %s --join-running\n"
               "RuntimeDirectory=appscope/environment/%s\nRuntimeDirectoryMode=0700\nRuntimeDirectoryPreserve=restart\n"
               "Restart=on-failure\nRestartSec=2\nRestartPreventExitStatus=%d\n"
               "ProtectSystem=full\nReadWritePaths=-/usr/lib/appscope\nProtectKernelTunables=yes\n"
               "ProtectKernelModules=yes\nProtectKernelLogs=yes\nProtectClock=yes\nProtectHostname=yes\n"
               "NoNewPrivileges=yes\nLockPersonality=yes\nRestrictRealtime=yes\nRestrictSUIDSGID=yes\n"
               "SystemCallArchitectures=native\n",
               s->name, s->key, s->key, how->scope, s->name, how->user ? " --user " : "", how->user ? how->user : "",
               how->scope, s->name, s->key, SERVICE_REFUSED);
    want(p, xasprintf(UNIT_DIR "/" PREFIX "%s" SUFFIX, s->key), &b, 0644);
    if (s->accepts)
        plan_accepting(s, p);
    for (size_t i = 0; i < sizeof(beside) / sizeof(*beside); i++)
        if (beside[i].before || how->attach)
            plan_beside(&beside[i], s, how, p);

    buf_printf(&b, UNIT_MARK "%s\n", makes_dirs(path));
    buf_printf(&b,
               "[Unit]\nWants=" PREFIX "%s" SUFFIX "\nAfter=" PREFIX "%s" SUFFIX "\n",
               s->key, s->key);
    for (size_t i = 0; i < sizeof(beside) / sizeof(*beside); i++)
        for (unsigned k = 0; k < 2 && (beside[i].before || how->attach); k++)
            if (k == 0 || beside[i].before)
                buf_printf(&b, "%s=" PREFIX "%s%s%s" SUFFIX "\n", k ? "After" : "Wants", s->key, beside[i].suffix,
                           ends_in(s->name, "@") ? "@%i" : "");
    buf_printf(&b,
               "\n[Service]\nEnvironmentFile=-" SERVICE_ENV "/%s/service\n",
               s->key);
    for (char **line = s->sandbox; line && *line; line++)
        buf_printf(&b, "%s\n", *line);
    want(p, path, &b, 0644);
    free(dir);
}

/* Where our block begins and ends in a text; false if there is none. */
static bool find_block(const char *text, const char **ret_begin, const char **ret_end)
{
    const char *begin = text, *end;

    while ((begin = strstr(begin, MARK)) && begin != text && begin[-1] != '\n')
        begin++;
    end = begin ? strstr(begin, MARK_END) : NULL;
    if (!end)
        return false;
    *ret_begin = begin;
    *ret_end = end + strlen(MARK_END);
    return true;
}

/*
 * The settings of a script are lines for its shell: at a start they start the collector, unless it runs, and export what
 * it prints. A script of OpenRC reads them within a function, and can't tell from its arguments what it is asked for.
 */
static void plan_script(const struct service *s, const struct service_setup *how, struct service_plan *p)
{
    static const char *const asked[] = {
        [HOST_INIT_OPENRC] = "\" $(tr '\\0' ' ' </proc/$$/cmdline 2>/dev/null) \" in *' start '*",
        [HOST_INIT_SYSV] = "\"${1:-}\" in start | *restart | force-reload",
    };
    char *path = settings_of(s->init, s->name), *text;
    struct buf old = BUF_INIT, b = BUF_INIT;
    const char *begin, *end, *flags = "";
    int rc = read_file(path, &old, NULL);

    text = buf_cstr(&old);
    if (rc == 0 && find_block(text, &begin, &end)) {
        const char *eol = strchr(begin, '\n');

        buf_add(&b, text, (size_t)(begin - text));
        flags = strstr(begin, MARK_FILE) && strstr(begin, MARK_FILE) < eol ? MARK_FILE : flags;
        flags = strstr(begin, MARK_LINE) && strstr(begin, MARK_LINE) < eol ? MARK_LINE : flags;
    } else {
        end = text + old.len;
        buf_add(&b, text, old.len);
        if (old.len && text[old.len - 1] != '\n') {
            buf_char(&b, '\n');
            flags = MARK_LINE;
        }
        if (rc == -ENOENT)
            flags = MARK_FILE;
    }
    buf_printf(&b, MARK "%s\ncase %s) eval \"$(%s collector --service %s --start%s%s)\" || : ;; esac\n" MARK_END, flags,
               asked[s->init], how->scope, s->name, how->user ? " --user " : "", how->user ? how->user : "");
    buf_str(&b, end);
    want(p, path, &b, 0644);
    buf_free(&old);
}

/* The hash shows whether somebody has edited it since. */
static uint64_t hash_of(const char *text)
{
    return hash_bytes(text, strlen(text));
}

static void plan_config(const struct service *s, const struct service_setup *how, struct service_plan *p)
{
    char *path = xasprintf(SERVICE_CONFIG "/%s/scope.yml", s->name);
    struct buf b = BUF_INIT;

    buf_printf(&b, YML_MARK "%016" PRIx64 "%s\n%s", hash_of(how->config), makes_dirs(path), how->config);
    want(p, path, &b, 0600);
}

int service_plan(const struct service *s, const struct service_setup *how, struct service_plan *ret, char **ret_why)
{
    *ret = (struct service_plan){0};
    *ret_why = NULL;
    if (how->config)
        plan_config(s, how, ret);
    if (s->init == HOST_INIT_SYSTEMD)
        plan_units(s, how, ret);
    else
        plan_script(s, how, ret);
    return 0;
}

/* --- taking out --- */

static void undo_config(const char *name, struct service_plan *p)
{
    char *path = xasprintf(SERVICE_CONFIG "/%s/scope.yml", name), *text, *end;
    struct buf b = BUF_INIT;

    if (read_file(path, &b, NULL) == 0) {
        text = buf_cstr(&b);
        end = strchr(text, '\n');
        if (end && strncmp(text, YML_MARK, strlen(YML_MARK)) == 0) {
            if (strtoull(text + strlen(YML_MARK), NULL, 16) == hash_of(end + 1))
                unwant(p, path, made_by(text, end));
            else
                add(&p->kept, xasprintf("%s stays: it was edited", path));
        }
    }
    buf_free(&b);
    free(path);
}

static bool is_ours(const char *path, unsigned *ret_made)
{
    struct buf b = BUF_INIT;
    char *text, *mark, *end;
    bool ours = false;

    if (read_file(path, &b, NULL) == 0) {
        text = buf_cstr(&b);
        mark = strstr(text, UNIT_MARK);
        end = mark ? strchr(mark, '\n') : NULL;
        ours = end != NULL;
        *ret_made = ours ? made_by(mark, end) : 0;
    }
    buf_free(&b);
    return ours;
}

static void undo_unit(struct service_plan *p, char *path)
{
    unsigned made;

    if (is_ours(path, &made))
        unwant(p, path, made);
    free(path);
}

static void undo_script(enum host_init init, const char *name, struct service_plan *p)
{
    char *path = settings_of(init, name), *text;
    struct buf old = BUF_INIT, b = BUF_INIT;
    const char *begin, *end, *eol;

    text = read_file(path, &old, NULL) == 0 ? buf_cstr(&old) : (char *)"";
    if (find_block(text, &begin, &end)) {
        bool whole_file, line;

        eol = strchr(begin, '\n');
        whole_file = strstr(begin, MARK_FILE) && strstr(begin, MARK_FILE) < eol;
        line = strstr(begin, MARK_LINE) && strstr(begin, MARK_LINE) < eol && !*end;
        buf_add(&b, text, (size_t)(begin - text) - (line && begin != text));
        buf_str(&b, end);
        if (whole_file && !b.len)
            unwant(p, path, 0);
        else
            want(p, xstrdup(path), &b, 0644);
    }
    free(path);
    buf_free(&old);
    buf_free(&b);
}

int service_plan_undo(enum host_init init, const char *word, struct service_plan *ret, char **ret_name, char **ret_why)
{
    struct service s = {.init = init};
    char *name, *key, *dir;
    int rc;

    *ret = (struct service_plan){0};
    *ret_why = NULL;
    rc = init == HOST_INIT_SYSTEMD ? find_unit(word, &s, ret_why) : find_script(word, &s, ret_why);
    if (rc == -EINVAL)
        return rc;
    name = rc == 0 ? xstrdup(s.name) : without_suffix(word);
    free(*ret_why);
    *ret_why = NULL;
    service_clear(&s);
    key = key_of(name);
    if (init != HOST_INIT_SYSTEMD) {
        undo_script(init, name, ret);
    } else if (key) {
        /* The drop-in goes first: a service that is started meanwhile doesn't ask for what is gone. */
        dir = drop_in_dir(name);
        undo_unit(ret, xasprintf("%s/" DROP_IN, dir));
        if (ends_in(name, "@")) {
            free(dir);
            dir = socket_dir(name);
            undo_unit(ret, xasprintf("%s/" DROP_IN, dir));
        }
        for (size_t i = 0; i < sizeof(beside) / sizeof(*beside); i++)
            undo_unit(ret, beside_path(&beside[i], name, key));
        undo_unit(ret, xasprintf(UNIT_DIR "/" PREFIX "%s" SUFFIX, key));
        undo_unit(ret, xasprintf(UNIT_DIR "/" PREFIX "%s.socket", key));
        free(dir);
    }
    free(key);
    *ret_name = name;
    if (!ret->count)
        return -ENOENT;
    undo_config(name, ret);
    return 0;
}

/* Services that have a drop-in of ours: instances of templates have no file of their own. */
static char **list_units(void)
{
    char **found = xcalloc(1, sizeof(char *));
    DIR *d = opendir(UNIT_DIR);
    struct dirent *e;

    while (d && (e = readdir(d))) {
        char *path = xasprintf(UNIT_DIR "/%s/" DROP_IN, e->d_name);
        unsigned made;

        if (strlen(e->d_name) > strlen(SUFFIX ".d") && ends_in(e->d_name, SUFFIX ".d") && is_ours(path, &made))
            add(&found, xstrndup(e->d_name, strlen(e->d_name) - strlen(SUFFIX ".d")));
        free(path);
    }
    if (d)
        closedir(d);
    return found;
}

char **service_list(enum host_init init)
{
    char **names, **found;

    if (init == HOST_INIT_SYSTEMD)
        return list_units();
    names = service_names(init);
    found = xcalloc(1, sizeof(char *));
    for (char **n = names; *n; n++) {
        char *path = settings_of(init, *n);
        struct buf text = BUF_INIT;
        const char *begin, *end;

        if (read_file(path, &text, NULL) == 0 && find_block(buf_cstr(&text), &begin, &end))
            add(&found, xstrdup(*n));
        free(path);
        buf_free(&text);
    }
    free_list(names);
    return found;
}
