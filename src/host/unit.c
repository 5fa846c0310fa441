/* SPDX-License-Identifier: Apache-2.0 */
#include "host/unit.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/safe_path.h"

#define SUFFIX ".service"
#define FILE_BYTES_MAX ((size_t)1 << 20)
#define ALIASES_MAX 8
#define NAME_LEN_MAX 255u /* UNIT_NAME_MAX of systemd */

/* systemd.unit(5), "Unit File Load Path": of a system's manager, first wins. */
static const char *const dirs[] = {"/etc/systemd/system.control",
                                   "/run/systemd/system.control",
                                   "/run/systemd/transient",
                                   "/run/systemd/generator.early",
                                   UNIT_DIR,
                                   "/etc/systemd/system.attached",
                                   "/run/systemd/system",
                                   "/run/systemd/system.attached",
                                   "/run/systemd/generator",
                                   "/usr/local/lib/systemd/system",
                                   "/usr/lib/systemd/system",
                                   "/lib/systemd/system",
                                   "/run/systemd/generator.late",
                                   NULL};
static const char *const user_dirs[] = {"/etc/systemd/user", "/run/systemd/user", "/usr/local/lib/systemd/user",
                                        "/usr/lib/systemd/user", NULL};

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);

    return n > m && strcmp(text + n - m, end) == 0;
}

/* --- names --- */

/* systemd.unit(5): what names consist of. 0, or -EINVAL with the reason. */
static int check_name(const char *name, char **ret_why)
{
    static const char *const others[] = {".socket", ".timer", ".target", ".mount", ".automount", ".path", ".slice",
                                         ".scope", ".swap", ".device", NULL};

    if (strchr(name, '/')) {
        *ret_why = xstrdup("a service is named, not a file");
        return -EINVAL;
    }
    if (!*name || *name == '.' || *name == '@' || strlen(name) > NAME_LEN_MAX - strlen(SUFFIX)) {
        *ret_why = xstrdup(!*name || *name != '.' ? "this is no name of a service" : "a service's name has no dot at its beginning");
        return -EINVAL;
    }
    for (const char *p = name; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr(":-_.\\@", *p)) {
            *ret_why = xstrdup("names of services consist of letters, digits and :-_.\\@");
            return -EINVAL;
        }
    for (size_t i = 0; others[i]; i++)
        if (ends_in(name, others[i])) {
            *ret_why = xasprintf("a unit of that kind (%s) runs no program itself; name the service", others[i]);
            return -EINVAL;
        }
    return 0;
}

/* NAME@.service of NAME@INSTANCE.service; NULL if it is none. */
static char *template_of(const char *name)
{
    const char *at = strchr(name, '@');

    return at && strcmp(at + 1, SUFFIX) != 0 ? xasprintf("%.*s@" SUFFIX, (int)(at - name), name) : NULL;
}

/* --- files --- */

/* Text of a file; false if it can't be read. */
static bool read_text(const char *path, struct buf *ret)
{
    int fd = safe_read(path);
    ssize_t n;

    if (fd < 0)
        return false;
    do {
        n = read(fd, buf_room(ret, 16384), 16384);
        if (n > 0)
            ret->len += (size_t)n;
    } while (n > 0 && ret->len <= FILE_BYTES_MAX);
    close(fd);
    return n == 0;
}

static void add_line(struct unit *u, const char *section, char *text)
{
    char *equals = strchr(text, '='), *end;

    if (!equals)
        return;
    for (end = equals; end > text && isspace((unsigned char)end[-1]); end--)
        ;
    *end = '\0';
    for (equals++; isspace((unsigned char)*equals); equals++)
        ;
    for (end = equals + strlen(equals); end > equals && isspace((unsigned char)end[-1]); end--)
        ;
    *end = '\0';
    u->line = xrealloc(u->line, u->count + 1, sizeof(*u->line));
    u->line[u->count++] = (struct unit_line){xstrdup(section), xstrdup(text), xstrdup(equals)};
}

/* systemd.syntax(7): comments, also within lines that go on; a backslash at the end of a line stands for a blank. */
static void parse(struct unit *u, struct buf *text)
{
    struct buf line = BUF_INIT;
    char *section = xstrdup(""), *next;

    for (char *at = buf_cstr(text); at; at = next) {
        size_t n;

        next = strchr(at, '\n');
        if (next)
            *next++ = '\0';
        if (!line.len)
            at += strspn(at, " \t\r");
        if (at[strspn(at, " \t")] == '#' || at[strspn(at, " \t")] == ';')
            continue;
        n = strlen(at);
        while (n && (at[n - 1] == '\r'))
            n--;
        if (n && at[n - 1] == '\\' && next) {
            buf_add(&line, at, n - 1);
            buf_char(&line, ' ');
            continue;
        }
        buf_add(&line, at, n);
        at = buf_cstr(&line);
        if (*at == '[') {
            free(section);
            section = xstrndup(at + 1, strcspn(at + 1, "]"));
        } else {
            add_line(u, section, at);
        }
        buf_reset(&line);
    }
    free(section);
    buf_free(&line);
}

static void parse_file(struct unit *u, const char *path)
{
    struct buf text = BUF_INIT;

    if (read_text(path, &text))
        parse(u, &text);
    buf_free(&text);
}

/* --- drop-ins --- */

struct drop_ins {
    char **path;
    size_t count;
};

static const char *base_name(const char *path)
{
    return strrchr(path, '/') + 1;
}

/* Of several with one base name the first that was found counts. */
static void add_drop_ins(struct drop_ins *all, const char *dir, const char *skip)
{
    DIR *d = opendir(dir);
    struct dirent *e;

    while (d && (e = readdir(d))) {
        bool known = !ends_in(e->d_name, ".conf") || (skip && strcmp(e->d_name, skip) == 0);

        for (size_t i = 0; !known && i < all->count; i++)
            known = strcmp(base_name(all->path[i]), e->d_name) == 0;
        if (known)
            continue;
        all->path = xrealloc(all->path, all->count + 1, sizeof(char *));
        all->path[all->count++] = xasprintf("%s/%s", dir, e->d_name);
    }
    if (d)
        closedir(d);
}

static int by_base_name(const void *a, const void *b)
{
    return strcmp(base_name(*(char *const *)a), base_name(*(char *const *)b));
}

static void add_everywhere(struct drop_ins *all, const char *name, const char *skip)
{
    for (const char *const *d = dirs; *d; d++) {
        char *dir = xasprintf("%s/%s.d", *d, name);

        add_drop_ins(all, dir, skip);
        free(dir);
    }
}

/* The directories for NAME, for its template, for foo-bar- and foo- of foo-bar-baz, for all services; those that mean
 * fewer units come first. */
static void parse_drop_ins(struct unit *u, const char *skip)
{
    struct drop_ins all = {0};
    char *template = template_of(u->name);

    add_everywhere(&all, u->name, skip);
    if (template)
        add_everywhere(&all, template, skip);
    for (size_t n = strlen(u->name) - strlen(SUFFIX); n > 1; n--)
        if (u->name[n - 1] == '-') {
            char *prefix = xasprintf("%.*s" SUFFIX, (int)n, u->name);

            if (strcmp(prefix, u->name) != 0)
                add_everywhere(&all, prefix, skip);
            free(prefix);
        }
    add_everywhere(&all, "service", skip);
    if (all.count)
        qsort(all.path, all.count, sizeof(char *), by_base_name);
    for (size_t i = 0; i < all.count; i++) {
        parse_file(u, all.path[i]);
        free(all.path[i]);
    }
    free(all.path);
    free(template);
}

/* --- the unit --- */

/* Where the file of that name is: malloc'ed, or NULL. */
static char *find_file(const char *const *where, const char *name)
{
    for (; *where; where++) {
        char *path = xasprintf("%s/%s", *where, name);
        struct stat st;

        if (lstat(path, &st) == 0 && !S_ISDIR(st.st_mode))
            return path;
        free(path);
    }
    return NULL;
}

/* What a link in a directory of units stands for: 1 an alias, whose name *name becomes; 0 it is the unit; -EPERM masked. */
static int follow(const char *path, char **name)
{
    char to[4096];
    ssize_t n = readlink(path, to, sizeof(to) - 1);
    const char *last;
    struct stat st;
    char *template;
    bool same;

    if (n < 0)
        return stat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == 0 ? -EPERM : 0;
    to[n] = '\0';
    if (strcmp(to, "/dev/null") == 0)
        return -EPERM;
    last = strrchr(to, '/');
    last = last ? last + 1 : to;
    template = template_of(*name);
    same = strcmp(last, *name) == 0 || (template && strcmp(last, template) == 0) || !ends_in(last, SUFFIX);
    free(template);
    if (same)
        return 0;
    /* An instance of an alias of a template is an instance of that template. */
    if (strstr(last, "@" SUFFIX) && strchr(*name, '@') && !strstr(*name, "@" SUFFIX)) {
        char *instance = xasprintf("%.*s%s", (int)(strchr(last, '@') - last), last, strchr(*name, '@'));

        free(*name);
        *name = instance;
    } else {
        free(*name);
        *name = xstrdup(last);
    }
    return 1;
}

int unit_load(const char *word, const char *skip, struct unit *ret, char **ret_why)
{
    char *name = ends_in(word, SUFFIX) ? xstrdup(word) : xasprintf("%s" SUFFIX, word), *path = NULL, *shown;
    int rc;

    *ret = (struct unit){0};
    shown = xstrndup(name, strlen(name) - strlen(SUFFIX));
    rc = check_name(shown, ret_why);
    for (int i = 0; rc == 0; i++) {
        char *template = template_of(name);

        free(path);
        path = find_file(dirs, name);
        if (!path && template)
            path = find_file(dirs, template);
        free(template);
        if (!path || i == ALIASES_MAX) {
            char *user = find_file(user_dirs, name);

            rc = user ? -EPERM : -ENOENT;
            *ret_why = user ? xstrdup("it is a unit of users' own managers (systemctl --user), which have services of "
                                      "their own for each user; put `scope run --` into its ExecStart=")
                            : NULL;
            free(user);
            break;
        }
        rc = follow(path, &name);
        if (rc <= 0)
            break;
        rc = 0;
    }
    free(shown);
    if (rc == -EPERM && !*ret_why)
        *ret_why = xasprintf("it is masked (%s)", path);
    if (rc < 0) {
        free(name);
        free(path);
        return rc;
    }
    *ret = (struct unit){.name = name, .path = path, .template = strstr(name, "@" SUFFIX) != NULL};
    parse_file(ret, path);
    parse_drop_ins(ret, skip);
    return 0;
}

void unit_clear(struct unit *u)
{
    for (size_t i = 0; i < u->count; i++) {
        free(u->line[i].section);
        free(u->line[i].key);
        free(u->line[i].value);
    }
    free(u->line);
    free(u->name);
    free(u->path);
    *u = (struct unit){0};
}

static bool is_line(const struct unit_line *l, const char *section, const char *key)
{
    return strcmp(l->section, section) == 0 && strcmp(l->key, key) == 0;
}

const char *unit_value(const struct unit *u, const char *section, const char *key)
{
    for (size_t i = u->count; i-- > 0;)
        if (is_line(&u->line[i], section, key))
            return *u->line[i].value ? u->line[i].value : NULL;
    return NULL;
}

const char *unit_next(const struct unit *u, const char *section, const char *key, size_t *at)
{
    if (*at == 0)
        for (size_t i = 0; i < u->count; i++)
            if (is_line(&u->line[i], section, key) && !*u->line[i].value)
                *at = i + 1;
    while (*at < u->count) {
        const struct unit_line *l = &u->line[(*at)++];

        if (is_line(l, section, key))
            return l->value;
    }
    return NULL;
}

bool unit_accepts(const char *name)
{
    struct unit u = {.name = xasprintf("%.*s.socket", (int)strcspn(name, "@"), name)};
    struct drop_ins all = {0};
    const char *value;
    bool accepts;

    u.path = find_file(dirs, u.name);
    if (u.path)
        parse_file(&u, u.path);
    add_everywhere(&all, u.name, NULL);
    if (all.count)
        qsort(all.path, all.count, sizeof(char *), by_base_name);
    for (size_t i = 0; i < all.count; i++) {
        parse_file(&u, all.path[i]);
        free(all.path[i]);
    }
    free(all.path);
    value = u.path ? unit_value(&u, "Socket", "Accept") : NULL;
    accepts = value && (strchr("1yYtT", *value) || strcasecmp(value, "on") == 0); /* systemd.syntax(7), booleans */
    unit_clear(&u);
    return accepts;
}

char **unit_names(void)
{
    char **names = xcalloc(1, sizeof(char *));
    size_t count = 0;

    for (const char *const *where = dirs; *where; where++) {
        DIR *d = opendir(*where);
        struct dirent *e;

        while (d && (e = readdir(d))) {
            if (!ends_in(e->d_name, SUFFIX))
                continue;
            names = xrealloc(names, count + 2, sizeof(char *));
            names[count++] = xstrndup(e->d_name, strlen(e->d_name) - strlen(SUFFIX));
            names[count] = NULL;
        }
        if (d)
            closedir(d);
    }
    return names;
}

char *unit_word(const char **at)
{
    struct buf b = BUF_INIT;
    char quote = '\0', *word;
    bool any = false;

    *at += strspn(*at, " \t");
    for (; **at && (quote || (**at != ' ' && **at != '\t')); ++*at) {
        any = true;
        if (quote ? **at == quote : **at == '"' || **at == '\'') {
            quote = (char)(quote ? '\0' : **at);
        } else if (**at == '\\' && (*at)[1]) {
            ++*at;
            buf_char(&b, **at);
        } else {
            buf_char(&b, **at);
        }
    }
    word = any ? xstrdup(buf_cstr(&b)) : NULL;
    buf_free(&b);
    return word;
}
