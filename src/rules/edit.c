/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changing one rule of a file and nothing else in it. The tree says where its parts stand; text is cut out or put in
 * there. Whatever comes of it is read again, and must say what it should: a file that is written so that this fails is
 * left alone.
 */
#include "rules/rules.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/safe_path.h"
#include "config/tree.h"
#include "rules/internal.h"

#define LOCK_TRIES 100 /* of 20 ms */

static const char new_file[] =
    "# Programs of this host that AppScope observes, and how. `scope rules` shows what comes of it,\n"
    "# `scope rules --add` and `--remove` change it; docs/host.md has the format.\n";

struct draft {
    const char *text;    /* as it was */
    size_t len;
    struct node *root;
    struct buf out;
    const char *newline; /* how its lines end */
};

static size_t byte_of(const struct draft *d, size_t character)
{
    size_t at = d->len >= 3 && !memcmp(d->text, "\xef\xbb\xbf", 3) ? 3 : 0;

    for (; at < d->len; at++) {
        if (((unsigned char)d->text[at] & 0xc0) == 0x80)
            continue;
        if (!character--)
            return at;
    }
    return at;
}

static size_t start_of(const struct draft *d, const struct node *n)
{
    return byte_of(d, n->start);
}

static size_t end_of(const struct draft *d, const struct node *n)
{
    return byte_of(d, n->end);
}

static size_t line_of(const struct draft *d, size_t at)
{
    while (at && d->text[at - 1] != '\n')
        at--;
    return at;
}

static size_t next_line(const struct draft *d, size_t at)
{
    while (at < d->len && (!at || d->text[at - 1] != '\n'))
        at++;
    return at;
}

/* Where the first thing in a line stands that isn't a blank. */
static size_t first_in_line(const struct draft *d, size_t line)
{
    while (line < d->len && d->text[line] == ' ')
        line++;
    return line;
}

static unsigned column_of(const struct draft *d, size_t at)
{
    size_t line = line_of(d, at);

    if (!line && d->len >= 3 && !memcmp(d->text, "\xef\xbb\xbf", 3))
        line = 3;
    return (unsigned)(at > line ? at - line : 0);
}

/* The text with this in place of what stands there. */
static void replace(struct draft *d, size_t from, size_t to, const char *with)
{
    buf_reset(&d->out);
    buf_add(&d->out, d->text, from);
    for (; *with; with++) {
        if (*with == '\n')
            buf_str(&d->out, d->newline);
        else
            buf_char(&d->out, *with);
    }
    buf_add(&d->out, d->text + to, d->len - to);
}

/* Whole lines, before the line that begins there. */
static void insert_lines(struct draft *d, size_t at, struct buf *lines)
{
    struct buf b = BUF_INIT;

    if (at && d->text[at - 1] != '\n')
        buf_char(&b, '\n');
    buf_add(&b, lines->p, lines->len);
    replace(d, at, at, buf_cstr(&b));
    buf_free(&b);
}

static void indent(struct buf *b, unsigned columns)
{
    for (; columns; columns--)
        buf_char(b, ' ');
}

/* A text as people write it: in quotes where it must be. */
static void put_text(struct buf *b, const char *text)
{
    static const char *const words[] = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"};
    size_t ok = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.+-");
    bool plain = ok && !text[ok] && strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_");

    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
        plain &= strcasecmp(text, words[i]) != 0;
    if (plain)
        buf_str(b, text);
    else
        rules_quote(b, text);
}

/* Lines "config:" and, further in, the configuration as it was written; or, flat, in one line. */
static void put_config(struct buf *b, const char *config, unsigned column, bool flat)
{
    if (flat) {
        buf_str(b, "config: ");
        rules_flatten(b, config);
        return;
    }
    buf_str(b, "config:");
    if (!strncmp(config, "\xef\xbb\xbf", 3))
        config += 3;
    if (!strncmp(config, "---\n", 4) || !strncmp(config, "---\r\n", 5))
        config = strchr(config, '\n') + 1;
    while (*config) {
        size_t len = strcspn(config, "\n"), text = len && config[len - 1] == '\r' ? len - 1 : len;

        if (!config[len + (config[len] != 0)] && len == 3 && !strncmp(config, "...", 3))
            break;
        buf_char(b, '\n');
        if (text)
            indent(b, column + 2);
        buf_add(b, config, text);
        config += len + (config[len] != 0);
    }
    while (b->len && b->p[b->len - 1] == '\n')
        b->len--;
}

static void put_rule(struct buf *b, const struct rule *r, unsigned column, bool flat)
{
    indent(b, column);
    buf_str(b, "- procname: ");
    put_text(b, r->procname ? r->procname : RULES_ANY);
    if (r->arg) {
        buf_char(b, '\n');
        indent(b, column + 2);
        buf_str(b, "arg: ");
        put_text(b, r->arg);
    }
    if (r->sourceid) {
        buf_char(b, '\n');
        indent(b, column + 2);
        buf_str(b, "sourceid: ");
        put_text(b, r->sourceid);
    }
    if (r->config) {
        buf_char(b, '\n');
        indent(b, column + 2);
        put_config(b, r->config, column + 2, flat);
    }
    buf_char(b, '\n');
}

static void put_flow(struct buf *b, const struct rule *r)
{
    buf_str(b, "{\"procname\": ");
    rules_quote(b, r->procname ? r->procname : RULES_ANY);
    if (r->arg) {
        buf_str(b, ", \"arg\": ");
        rules_quote(b, r->arg);
    }
    if (r->sourceid) {
        buf_str(b, ", \"sourceid\": ");
        rules_quote(b, r->sourceid);
    }
    if (r->config) {
        buf_str(b, ", \"config\": ");
        rules_flatten(b, r->config);
    }
    buf_char(b, '}');
}

/* Where the key stands in its map, or map->n. */
static size_t key_at(const struct node *map, const char *name)
{
    size_t i = 0;

    while (i + 1 < map->n && (map->items[i]->kind != NODE_SCALAR || strcmp(map->items[i]->text, name) != 0))
        i += 2;
    return i + 1 < map->n ? i : map->n;
}

/* Before the bracket that ends a list or map in brackets. */
static void append_in_brackets(struct draft *d, const struct node *n, const char *what)
{
    size_t at = end_of(d, n) - 1, before = at;
    char *text;

    while (before && strchr(" \t\r\n", d->text[before - 1]))
        before--;
    text = xasprintf("%s%s", n->n && before && d->text[before - 1] != ',' ? ", " : "", what);
    replace(d, n->n ? before : at, n->n ? before : at, text);
    free(text);
}

/* Whether only comments and empty lines follow. */
static bool only_comments(const struct draft *d, size_t at)
{
    for (; at < d->len; at = next_line(d, at + 1)) {
        size_t first = first_in_line(d, at);

        if (first < d->len && !strchr("#\r\n", d->text[first]))
            return false;
    }
    return true;
}

/* A rule more at the end of its list. */
static int append(struct draft *d, const char *list, const struct rule *r, bool flat)
{
    struct node *root = d->root;
    size_t i = root && root->kind == NODE_MAP ? key_at(root, list) : 0;
    const struct node *l = root && i < root->n ? root->items[i + 1] : NULL;
    struct buf b = BUF_INIT;
    char *cut;

    if (!root || root->kind != NODE_MAP) { /* nothing, comments, "---" */
        buf_printf(&b, "%s%s:\n", d->len ? "" : new_file, list);
        put_rule(&b, r, 0, flat);
        insert_lines(d, d->len, &b);
    } else if (root->flow) {
        put_flow(&b, r);
        if (l && l->kind == NODE_SEQ) {
            append_in_brackets(d, l, buf_cstr(&b));
        } else {
            cut = xasprintf(l ? " [%s]" : "\"%s\": [%s]", l ? buf_cstr(&b) : list, buf_cstr(&b));
            if (l)
                replace(d, start_of(d, l), end_of(d, l), cut);
            else
                append_in_brackets(d, root, cut);
            free(cut);
        }
    } else if (!l) {
        unsigned column = root->n ? column_of(d, start_of(d, root->items[0])) : 0;
        size_t end = next_line(d, end_of(d, root));

        indent(&b, column);
        buf_printf(&b, "%s:\n", list);
        put_rule(&b, r, column, flat);
        insert_lines(d, only_comments(d, end) ? d->len : end, &b);
    } else if (l->alias) {
        return -EINVAL;
    } else if (!l->n) { /* null, [] */
        unsigned column = column_of(d, start_of(d, root->items[i]));
        size_t end = end_of(d, l), line = next_line(d, end);

        if (l->end == l->start) /* "allow:": what is nothing may be looked for in the lines below */
            end = end_of(d, root->items[i]) + 1, line = next_line(d, end);
        buf_add(&b, d->text + end, line - end);
        if (!b.len || b.p[b.len - 1] != '\n')
            buf_char(&b, '\n');
        put_rule(&b, r, column, flat);
        replace(d, l->end == l->start ? end : start_of(d, l), line, buf_cstr(&b));
    } else if (l->flow) {
        put_flow(&b, r);
        append_in_brackets(d, l, buf_cstr(&b));
    } else {
        put_rule(&b, r, column_of(d, start_of(d, l)), flat);
        insert_lines(d, next_line(d, end_of(d, l)), &b);
    }
    buf_free(&b);
    return 0;
}

/* Another configuration for a rule, or none. */
static int reconfigure(struct draft *d, const struct node *n, const char *config, bool flat)
{
    size_t i = key_at(n, "config");
    const struct node *key = i < n->n ? n->items[i] : NULL, *value = key ? n->items[i + 1] : NULL;
    struct buf b = BUF_INIT;
    size_t from, to;

    if (n->alias)
        return -EINVAL;
    if (n->flow) {
        buf_str(&b, key ? "" : "\"config\": ");
        if (config)
            rules_flatten(&b, config);
        else
            buf_char(&b, '~');
        if (key)
            replace(d, start_of(d, value), end_of(d, value), buf_cstr(&b));
        else if (config)
            append_in_brackets(d, n, buf_cstr(&b));
        else
            replace(d, 0, 0, "");
        buf_free(&b);
        return 0;
    }
    from = key ? start_of(d, key) : 0;
    to = value ? value->start == value->end ? end_of(d, key) + 1 : end_of(d, value) : 0;
    if (key && config) {
        put_config(&b, config, column_of(d, from), flat);
        if (to && d->text[to - 1] == '\n')
            buf_char(&b, '\n');
        replace(d, from, to, buf_cstr(&b));
    } else if (config) {
        unsigned column = column_of(d, start_of(d, n));

        indent(&b, column);
        put_config(&b, config, column, flat);
        buf_char(&b, '\n');
        insert_lines(d, next_line(d, end_of(d, n)), &b);
    } else if (!key) {
        replace(d, 0, 0, "");
    } else if (first_in_line(d, line_of(d, from)) == from) {
        replace(d, line_of(d, from), next_line(d, to), "");
    } else { /* behind the dash */
        replace(d, from, i + 2 < n->n ? start_of(d, n->items[i + 2]) : to, i + 2 < n->n ? "" : "config:");
    }
    buf_free(&b);
    return 0;
}

static int cut_out(struct draft *d, const struct node *list, size_t i)
{
    const struct node *n = list->items[i];
    size_t line, dash;

    if (list->alias)
        return -EINVAL;
    if (list->flow) {
        if (i + 1 < list->n)
            replace(d, start_of(d, n), start_of(d, list->items[i + 1]), "");
        else
            replace(d, i ? end_of(d, list->items[i - 1]) : start_of(d, n), end_of(d, n), "");
        return 0;
    }
    dash = start_of(d, list); /* of the first one: all stand below each other */
    for (line = line_of(d, start_of(d, n));; line = line_of(d, line - 1)) {
        size_t first = first_in_line(d, line);

        if (first < d->len && d->text[first] == '-' && column_of(d, first) == column_of(d, dash))
            break;
        if (line <= dash)
            return -EINVAL;
    }
    replace(d, line, next_line(d, end_of(d, n)), "");
    return 0;
}

/* --- what it should say --- */

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && !strcmp(a, b));
}

static bool same_rule(const struct rule *a, const struct rule *b)
{
    return a->kind == b->kind && same_text(a->procname, b->procname) && same_text(a->arg, b->arg) &&
           same_text(a->sourceid, b->sourceid);
}

static bool same_config(const char *a, const char *b)
{
    struct buf x = BUF_INIT, y = BUF_INIT;
    bool same;

    if (!a || !b)
        return a == b;
    rules_flatten(&x, a);
    rules_flatten(&y, b);
    same = !strcmp(buf_cstr(&x), buf_cstr(&y));
    buf_free(&x);
    buf_free(&y);
    return same;
}

/* Whether the draft says the same as before, but for one rule. at < old->count: that one, which has this configuration
 * now or (config is `gone`) isn't there; at == old->count: there is another one; beyond: none is different. */
static const char gone[] = "gone";

static bool is_as_meant(const struct draft *d, const struct rules *old, size_t at, const struct rule *r,
                        const char *config)
{

    struct rules new;
    size_t n = 0;
    bool ok = true, extra = at == old->count;

    if (rules_parse("", d->out.p, d->out.len, &new, NULL, NULL) < 0)
        return false;
    for (size_t i = 0; ok && i < old->count; i++) {
        if (i == at && config == gone)
            continue;
        if (extra && n < new.count && new.rule[n].kind == r->kind && old->rule[i].kind != r->kind &&
            same_rule(&new.rule[n], r)) { /* the other list comes behind */
            ok = same_config(new.rule[n++].config, config);
            extra = false;
        }
        ok = ok && n < new.count && same_rule(&old->rule[i], &new.rule[n]) &&
             same_config(i == at ? config : old->rule[i].config, new.rule[n].config);
        n++;
    }
    if (ok && extra)
        ok = n < new.count && same_rule(&new.rule[n], r) && same_config(new.rule[n].config, config), n++;
    ok = ok && n == new.count && same_text(old->unix_socket_path, new.unix_socket_path) &&
         same_text(old->auth_token, new.auth_token) && old->sessions_days == new.sessions_days &&
         old->sessions_maxsize == new.sessions_maxsize;
    rules_free(&new);
    return ok;
}

/* --- the file --- */

struct file {
    int dir;        /* O_PATH; -1: there is none */
    int lock;
    char *name;     /* in it */
    struct buf text;
    mode_t mode;
    bool is_new;
};

static void tell(const char *path, cfg_problem_fn fn, void *ctx, const char *text)
{
    if (fn)
        fn(ctx, &(struct cfg_problem){.file = path, .key = "", .text = text, .fatal = true});
}

static void file_close(struct file *f)
{
    if (f->lock >= 0)
        close(f->lock);
    if (f->dir >= 0)
        close(f->dir);
    free(f->name);
    buf_free(&f->text);
}

/* One after the other. Everybody can lock a directory that it can read: whoever does so keeps nobody from going on, and
 * file_write() looks whether the file is still what it was. */
static void take_turn(struct file *f)
{
    f->lock = openat(f->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; f->lock >= 0 && i < LOCK_TRIES && flock(f->lock, LOCK_EX | LOCK_NB) < 0; i++)
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
}

static int file_open(struct file *f, const char *path, bool make, cfg_problem_fn fn, void *ctx)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash ? xstrndup(path, slash == path ? 1 : (size_t)(slash - path)) : xstrdup("."), *why = NULL;
    struct stat st;
    int rc;

    *f = (struct file){.dir = -1, .lock = -1, .name = xstrdup(slash ? slash + 1 : path), .mode = 0644};
    f->dir = safe_dir(dir, SAFE_OURS, make ? 0755 : 0, &why);
    rc = f->dir < 0 ? f->dir : 0;
    if (rc == 0) {
        take_turn(f);
        if (fstatat(f->dir, f->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode)) {
            rc = -ELOOP;
            why = xstrdup("it is a symbolic link: edit the file that it leads to");
        }
    }
    if (rc == 0)
        rc = rules_load(path, &f->text, &f->mode, &why);
    f->mode &= 0755;
    f->is_new = rc == -ENOENT;
    if (rc == -ENOENT && make && f->dir >= 0)
        rc = 0;
    if (rc < 0 && rc != -ENOENT && fn)
        rules_tell_unreadable(path, rc, why, fn, ctx);
    free(why);
    free(dir);
    return rc;
}

static int file_write(struct file *f, const char *path, const struct buf *text, cfg_problem_fn fn, void *ctx)
{
    struct buf now = BUF_INIT;
    struct rules new;
    mode_t mode;
    int rc = rules_load(path, &now, &mode, NULL);
    bool same = rc == 0 ? !f->is_new && now.len == f->text.len && (!now.len || !memcmp(now.p, f->text.p, now.len))
                        : rc == -ENOENT && f->is_new;

    buf_free(&now);
    if (!same) {
        tell(path, fn, ctx, "has just been changed by somebody else; try again");
        return -EBUSY;
    }
    if (rules_parse(path, text->p, text->len, &new, NULL, NULL) == 0) {
        if (rules_have_secrets(&new))
            f->mode &= 0700;
        rules_free(&new);
    }
    rc = safe_replace_lasting(f->dir, f->name, text->p, text->len, f->mode);
    if (rc < 0) {
        char *why = xasprintf("can't be written: %s", strerror(-rc));

        tell(path, fn, ctx, why);
        free(why);
    }
    return rc;
}

/* The tree of what has been parsed already. */
static void draft_begin(struct draft *d, const struct file *f)
{
    const char *end = f->text.len ? memchr(f->text.p, '\n', f->text.len) : NULL;
    char *error;
    unsigned line;
    bool more;

    *d = (struct draft){.text = f->text.p, .len = f->text.len, .newline = "\n"};
    if (end && end > f->text.p && end[-1] == '\r')
        d->newline = "\r\n";
    if (tree_parse(d->text ? d->text : "", d->len, &d->root, &more, &error, &line) < 0)
        free(error);
}

static const char *list_of(enum rules_kind kind)
{
    return kind == RULES_DENY ? "deny" : "allow";
}

/* Where a rule stands, last one first: its index, or r->count. *ret_at: in its list. */
static size_t find(const struct rules *r, const struct rule *wanted, size_t *ret_at)
{
    size_t found = r->count, n = 0;

    for (size_t i = 0; i < r->count; i++) {
        if (r->rule[i].kind != wanted->kind)
            continue;
        if (same_rule(&r->rule[i], wanted)) {
            found = i;
            *ret_at = n;
        }
        n++;
    }
    return found;
}

static int cant_edit(const char *path, const struct rule *r, cfg_problem_fn fn, void *ctx)
{
    char *why = xasprintf("can't be changed without rewriting more than that: edit %s by hand", list_of(r->kind));

    tell(path, fn, ctx, why);
    free(why);
    return -EINVAL;
}

struct check {
    cfg_problem_fn fn;
    void *ctx;
    bool fatal;
};

static void check_problem(void *ctx, const struct cfg_problem *p)
{
    struct check *c = ctx;

    c->fatal |= p->fatal;
    if (c->fn)
        c->fn(c->ctx, p);
}

/* The rule's configuration by itself, so that lines are its own. *says: it isn't empty. */
static int check_config(const char *config, bool *says, cfg_problem_fn fn, void *ctx)
{
    struct config_sources *c = config_sources_new();
    struct check to = {.fn = fn, .ctx = ctx};
    struct buf flat = BUF_INIT;

    config_add_text(c, "config", config, strlen(config), check_problem, &to);
    config_sources_free(c);
    rules_flatten(&flat, config);
    *says = flat.len && *flat.p == '{';
    buf_free(&flat);
    return to.fatal ? -EINVAL : 0;
}

int rules_add(const char *path, const struct rule *given, cfg_problem_fn fn, void *ctx)
{
    struct rule wanted = *given, *r = &wanted;
    struct file f = {.dir = -1, .lock = -1};
    struct draft d = {0};
    struct rules old = {0};
    size_t at = 0, in_list = 0;
    bool ok = false, says = true;
    int rc = r->config ? check_config(r->config, &says, fn, ctx) : 0;

    if (!says)
        r->config = NULL;
    if (rc == 0)
        rc = file_open(&f, path, true, fn, ctx);
    if (rc == 0)
        rc = rules_parse(path, f.text.p, f.text.len, &old, fn, ctx);
    if (rc == 0) {
        draft_begin(&d, &f);
        at = find(&old, r, &in_list);
        for (int flat = 0; !ok && flat < 2; flat++) {
            if (at == old.count)
                ok = append(&d, list_of(r->kind), r, flat) == 0;
            else
                ok = reconfigure(&d, d.root->items[key_at(d.root, list_of(r->kind)) + 1]->items[in_list], r->config,
                                 flat) == 0;
            ok = ok && is_as_meant(&d, &old, at, r, r->config);
        }
        if (!ok) { /* of the new text's own mistakes tell them, not their consequence */
            struct rules new;

            rc = rules_parse(path, d.out.p, d.out.len, &new, fn, ctx);
            if (rc == 0) {
                rules_free(&new);
                rc = cant_edit(path, r, fn, ctx);
            }
        }
        if (rc == 0)
            rc = file_write(&f, path, &d.out, fn, ctx);
        if (rc == 0 && at < old.count)
            rc = -EEXIST;
    }
    tree_free(d.root);
    buf_free(&d.out);
    rules_free(&old);
    file_close(&f);
    return rc;
}

int rules_remove(const char *path, const struct rule *r, cfg_problem_fn fn, void *ctx)
{
    struct file f;
    struct draft d = {0};
    struct rules old = {0};
    size_t at, in_list = 0;
    int rc = file_open(&f, path, false, fn, ctx);

    if (rc == 0)
        rc = rules_parse(path, f.text.p, f.text.len, &old, fn, ctx);
    if (rc == 0) {
        draft_begin(&d, &f);
        at = find(&old, r, &in_list);
        if (at == old.count)
            rc = -ENOENT;
        else if (cut_out(&d, d.root->items[key_at(d.root, list_of(r->kind)) + 1], in_list) < 0 ||
                 !is_as_meant(&d, &old, at, r, gone))
            rc = cant_edit(path, r, fn, ctx);
        else
            rc = file_write(&f, path, &d.out, fn, ctx);
    }
    tree_free(d.root);
    buf_free(&d.out);
    rules_free(&old);
    file_close(&f);
    return rc;
}

/* `source: {unixSocketPath: SOCKET}`. */
static int put_socket(struct draft *d, const char *socket)
{
    struct node *root = d->root;
    size_t i = root && root->kind == NODE_MAP ? key_at(root, "source") : 0, at = 0;
    const struct node *source = root && i < root->n ? root->items[i + 1] : NULL;
    struct buf quoted = BUF_INIT, b = BUF_INIT;
    int rc = 0;

    put_text(&quoted, socket);
    if (source && source->kind == NODE_MAP)
        at = key_at(source, "unixSocketPath");
    if (source && source->alias) {
        rc = -EINVAL;
    } else if (source && source->kind == NODE_MAP && at < source->n) {
        const struct node *old = source->items[at + 1];

        buf_printf(&b, "%s%s", old->start == old->end ? " " : "", buf_cstr(&quoted));
        replace(d, start_of(d, old), end_of(d, old), buf_cstr(&b));
    } else if (source && source->kind == NODE_MAP && source->flow) {
        buf_printf(&b, "\"unixSocketPath\": %s", buf_cstr(&quoted));
        append_in_brackets(d, source, buf_cstr(&b));
    } else if (source && source->kind == NODE_MAP) {
        indent(&b, column_of(d, start_of(d, source)));
        buf_printf(&b, "unixSocketPath: %s\n", buf_cstr(&quoted));
        insert_lines(d, next_line(d, end_of(d, source)), &b);
    } else if (source) { /* null */
        buf_printf(&b, "%s{\"unixSocketPath\": %s}", source->start == source->end ? " " : "", buf_cstr(&quoted));
        replace(d, source->start == source->end ? end_of(d, root->items[i]) + 1 : start_of(d, source),
                source->start == source->end ? end_of(d, root->items[i]) + 1 : end_of(d, source), buf_cstr(&b));
    } else if (root && root->kind == NODE_MAP && root->flow) {
        buf_printf(&b, "\"source\": {\"unixSocketPath\": %s}", buf_cstr(&quoted));
        append_in_brackets(d, root, buf_cstr(&b));
    } else {
        unsigned column = root && root->n ? column_of(d, start_of(d, root->items[0])) : 0;
        size_t end = root ? next_line(d, end_of(d, root)) : d->len;

        if (!d->len)
            buf_str(&b, new_file);
        indent(&b, column);
        buf_str(&b, "source:\n");
        indent(&b, column);
        buf_printf(&b, "  unixSocketPath: %s\n", buf_cstr(&quoted));
        insert_lines(d, only_comments(d, end) ? d->len : end, &b);
    }
    buf_free(&quoted);
    buf_free(&b);
    return rc;
}

int rules_set_socket(const char *path, const char *socket, cfg_problem_fn fn, void *ctx)
{
    static const struct rule none;
    struct file f;
    struct draft d = {0};
    struct rules old = {0};
    int rc = file_open(&f, path, true, fn, ctx);

    if (rc == 0)
        rc = rules_parse(path, f.text.p, f.text.len, &old, fn, ctx);
    if (rc == 0 && !same_text(old.unix_socket_path, socket)) {
        draft_begin(&d, &f);
        rc = put_socket(&d, socket);
        free(old.unix_socket_path);
        old.unix_socket_path = xstrdup(socket);
        if (rc < 0 || !is_as_meant(&d, &old, old.count + 1, &none, NULL)) {
            tell(path, fn, ctx, "source.unixSocketPath can't be set without rewriting more than that: edit it by hand");
            rc = -EINVAL;
        } else {
            rc = file_write(&f, path, &d.out, fn, ctx);
        }
    }
    tree_free(d.root);
    buf_free(&d.out);
    rules_free(&old);
    file_close(&f);
    return rc;
}
