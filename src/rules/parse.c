/* SPDX-License-Identifier: Apache-2.0 */
/* A rules file to struct rules, with every mistake named by file, line and key. */
#include "rules/rules.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/safe_path.h"
#include "config/tree.h"
#include "rules/internal.h"
#include "rules/spare.h"

#define MAX_PROBLEMS 100u
#define MAX_TEXT     4096u
#define MIN_MAXSIZE  (UINT64_C(1) << 20)
#define MAX_DAYS     36500u

struct reading {
    struct rules *to;
    struct config_sources *scratch; /* for checking configurations */
    cfg_problem_fn fn;
    void *ctx;
    unsigned problems, fatal;
    size_t size;          /* of what rules_compile() makes */
    unsigned padding;     /* empty lines that configurations may still be given */
    const char *key;      /* of the configuration that is being checked */
};

static void tell(struct reading *r, const struct cfg_problem *p)
{
    r->fatal += p->fatal;
    if (++r->problems <= MAX_PROBLEMS && r->fn)
        r->fn(r->ctx, p);
}

/* The file is refused, and enough has been told. */
static bool enough(const struct reading *r)
{
    return r->fatal && r->problems >= MAX_PROBLEMS;
}

static void problem(struct reading *r, unsigned line, const char *key, bool fatal, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
static void problem(struct reading *r, unsigned line, const char *key, bool fatal, const char *fmt, ...)
{
    struct cfg_problem p = {.file = r->to->name, .line = line, .key = key, .fatal = fatal};
    struct buf b = BUF_INIT;
    char *text;
    va_list ap;

    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        text = xstrdup(fmt);
    va_end(ap);
    buf_visible(&b, text, strlen(text)); /* it quotes what the user wrote */
    p.text = buf_cstr(&b);
    tell(r, &p);
    buf_free(&b);
    free(text);
}

/* The configuration of a rule is checked as a scope.yml: what is wrong in it is told under the rule's key. */
static void config_problem(void *ctx, const struct cfg_problem *p)
{
    struct reading *r = ctx;
    struct cfg_problem mine = *p;
    char *key = xasprintf("%s%s%s", r->key, *p->key ? "." : "", p->key);

    mine.key = key;
    tell(r, &mine);
    free(key);
}

/* The name of a key, or NULL after telling. */
static const char *key_of(struct reading *r, const struct node *map, size_t i, const char *where)
{
    const struct node *key = map->items[i];

    if (key->kind != NODE_SCALAR || strlen(key->text) != key->len) {
        problem(r, key->line, where, true, "has %s where the name of a key is expected",
                key->kind == NODE_SCALAR ? "a NUL byte" : node_kind_name(key));
        return NULL;
    }
    for (size_t j = 0; j < i; j += 2)
        if (map->items[j]->kind == NODE_SCALAR && !strcmp(map->items[j]->text, key->text)) {
            problem(r, key->line, where, true, "\"%.100s\" is given twice, in line %u, too; remove one", key->text,
                    map->items[j]->line);
            return NULL;
        }
    return key->text;
}

/* A text, malloc'ed; NULL if there is none, or after telling. */
static char *text_of(struct reading *r, const struct node *n, const char *key, size_t max)
{
    if (n->kind != NODE_SCALAR)
        problem(r, n->line, key, true, "has %s; expected a text", node_kind_name(n));
    else if (strlen(n->text) != n->len)
        problem(r, n->line, key, true, "has a NUL byte");
    else if (n->len > max)
        problem(r, n->line, key, true, "is longer than %zu bytes", max);
    else if (!node_is_null(n))
        return xstrdup(n->text);
    return NULL;
}

/* What a program is known by: NULL is any. *given: the key has a value. */
static char *match_of(struct reading *r, const struct node *n, const char *key, size_t max, bool *given)
{
    char *text = text_of(r, n, key, max);

    if (!text)
        return NULL;
    *given = true;
    if (!*text)
        problem(r, n->line, key, true, "is empty; " RULES_ANY " stands for any");
    else if (strcmp(text, RULES_ANY) != 0)
        return text;
    free(text);
    return NULL;
}

/* Emitting: a flow of YAML in which each node stands in the line that it has in the file, so that messages about it
 * are right; after aliases, which stand for something above them, as far as that goes. */
struct emitter {
    struct buf b;
    unsigned line, *padding;
};

static bool plain_is_safe(const char *s)
{
    size_t ok = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.+-");

    return ok && !s[ok] && (strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") ||
                            strspn(s + strspn(s, "+-.") % 2, "0123456789"));
}

/* Everything but printable ASCII escaped (YAML 1.1, 5.6). */
static void emit_quoted(struct buf *b, const char *s, size_t len)
{
    buf_char(b, '"');
    for (size_t i = 0; i < len;) {
        unsigned char c = (unsigned char)s[i];
        unsigned n = utf8_sequence(s + i, len - i);
        uint32_t v;

        if (n <= 1) {
            if (c == '"' || c == '\\')
                buf_char(b, '\\');
            if (c < ' ' || c >= 0x7f)
                buf_printf(b, "\\x%02x", c);
            else
                buf_char(b, (char)c);
            i++;
            continue;
        }
        v = c & (0x7fu >> n);
        for (unsigned k = 1; k < n; k++)
            v = v << 6 | ((unsigned char)s[i + k] & 0x3f);
        buf_printf(b, "\\U%08x", v);
        i += n;
    }
    buf_char(b, '"');
}

void rules_quote(struct buf *b, const char *text)
{
    emit_quoted(b, text, strlen(text));
}

static void emit(struct emitter *e, const struct node *n, bool key)
{
    for (; e->line < n->line && *e->padding; e->line++, --*e->padding)
        buf_char(&e->b, '\n');
    if (n->kind == NODE_SCALAR) {
        if (!key && n->plain && (node_is_null(n) || plain_is_safe(n->text)))
            buf_str(&e->b, n->len ? n->text : "~");
        else
            emit_quoted(&e->b, n->text, n->len);
        return;
    }
    buf_char(&e->b, n->kind == NODE_SEQ ? '[' : '{');
    for (size_t i = 0; i < n->n; i++) {
        key = n->kind == NODE_MAP && i % 2 == 0;
        if (i && (key || n->kind == NODE_SEQ))
            buf_str(&e->b, ", ");
        if (key && (n->items[i]->kind != NODE_SCALAR || n->items[i]->len > 200))
            buf_str(&e->b, "? "); /* an implicit key may have 1024 characters */
        emit(e, n->items[i], key);
        if (key)
            buf_str(&e->b, " : ");
    }
    buf_char(&e->b, n->kind == NODE_SEQ ? ']' : '}');
}

void rules_flatten(struct buf *b, const char *yaml)
{
    unsigned none = 0, line;
    struct emitter e = {.b = BUF_INIT, .padding = &none};
    struct node *root;
    char *error;
    bool more;

    if (tree_parse(yaml, strlen(yaml), &root, &more, &error, &line) < 0) {
        free(error);
        return;
    }
    if (root)
        emit(&e, root, false);
    buf_add(b, e.b.p, e.b.len);
    buf_free(&e.b);
    tree_free(root);
}

static void read_config(struct reading *r, const struct node *n, const char *key, struct rule *to)
{
    struct emitter e = {.b = BUF_INIT, .line = n->line, .padding = &r->padding};

    if (node_is_null(n))
        return;
    emit(&e, n, false);
    to->config = xstrdup(buf_cstr(&e.b));
    to->config_line = n->line;
    buf_free(&e.b);
    if (!r->scratch)
        r->scratch = config_sources_new();
    r->key = key;
    config_add_rule(r->scratch, (uint32_t)r->to->count, r->to->name, to->config_line, to->config, strlen(to->config),
                    config_problem, r);
}

static void read_rule(struct reading *r, const struct node *n, enum rules_kind kind, const char *where)
{
    struct rule to = {.kind = kind, .line = n->line};
    bool given = false;

    if (n->kind != NODE_MAP) {
        problem(r, n->line, where, true, "has %s; expected a map with procname or arg", node_kind_name(n));
        return;
    }
    if (r->to->count == RULES_MAX - rules_spare_count()) {
        problem(r, n->line, where, true, "more than %zu rules; one without an arg, or without a procname, can stand for many",
                r->to->count);
        return;
    }
    for (size_t i = 0; i + 1 < n->n && !enough(r); i += 2) {
        const char *name = key_of(r, n, i, where);
        const struct node *value = n->items[i + 1];
        char *key;

        if (!name)
            continue;
        key = xasprintf("%s.%.200s", where, name);
        if (!strcmp(name, "procname")) {
            to.procname = match_of(r, value, key, 255, &given);
            if (to.procname && strchr(to.procname, '/'))
                problem(r, value->line, key, true, "\"%.200s\": expected the program's name without its directories, such as %.200s",
                        to.procname, rules_base(to.procname));
        } else if (!strcmp(name, "arg")) {
            to.arg = match_of(r, value, key, MAX_TEXT, &given);
        } else if (!strcmp(name, "sourceid")) {
            to.sourceid = text_of(r, value, key, 255);
        } else if (!strcmp(name, "config")) {
            if (kind == RULES_DENY)
                problem(r, value->line, key, false, "has no effect: what is denied isn't observed");
            else
                read_config(r, value, key, &to);
        } else {
            problem(r, n->items[i]->line, key, false, "unknown key; expected procname, arg, sourceid or config");
        }
        free(key);
    }
    if (!given)
        problem(r, n->line, where, true, "names no program: it needs procname or arg; \"procname: " RULES_ANY
                "\" names all");
    r->size += sizeof(struct rules_entry) + (to.procname ? strlen(to.procname) + 1 : 0) + (to.arg ? strlen(to.arg) + 1 : 0);
    r->to->rule = xrealloc(r->to->rule, r->to->count + 1, sizeof(*r->to->rule));
    r->to->rule[r->to->count++] = to;
}

static void read_list(struct reading *r, const struct node *n, enum rules_kind kind, const char *name)
{
    if (node_is_null(n))
        return;
    if (n->kind != NODE_SEQ) {
        problem(r, n->line, name, true, "has %s; expected a list of rules, each a map with procname or arg",
                node_kind_name(n));
        return;
    }
    for (size_t i = 0; i < n->n && !enough(r); i++) {
        char *where = xasprintf("%s[%zu]", name, i);

        read_rule(r, n->items[i], kind, where);
        free(where);
    }
}

static void read_source(struct reading *r, const struct node *n)
{
    for (size_t i = 0; i + 1 < n->n; i += 2) {
        const char *name = key_of(r, n, i, "source");
        char *key, **to;

        if (!name)
            continue;
        key = xasprintf("source.%.200s", name);
        to = !strcmp(name, "unixSocketPath") ? &r->to->unix_socket_path
             : !strcmp(name, "authToken")    ? &r->to->auth_token
                                             : NULL;
        if (to) {
            *to = text_of(r, n->items[i + 1], key, MAX_TEXT);
            if (*to && !**to) {
                free(*to);
                *to = NULL;
            }
        } else {
            problem(r, n->items[i]->line, key, false, "unknown key; expected unixSocketPath or authToken");
        }
        free(key);
    }
}

/* A number of bytes; K, M, G, T stand for powers of 1024. 0: it is none. */
static uint64_t bytes_of(const char *text)
{
    static const char units[] = "KMGT";
    char *end;
    uint64_t v;
    const char *unit;

    if (*text < '0' || *text > '9')
        return 0;
    errno = 0;
    v = strtoull(text, &end, 10);
    unit = *end ? strchr(units, *end & ~0x20) : NULL;
    if (errno || (*end && !unit))
        return 0;
    if (unit) {
        unsigned shift = 10 * (unsigned)(unit - units + 1);

        end++;
        if (!strcmp(end, "iB") || !strcmp(end, "B"))
            end += strlen(end);
        v = v > UINT64_MAX >> shift ? 0 : v << shift;
    }
    return *end ? 0 : v;
}

static void read_sessions(struct reading *r, const struct node *n)
{
    for (size_t i = 0; i + 1 < n->n; i += 2) {
        const char *name = key_of(r, n, i, "sessions");
        const struct node *value = n->items[i + 1];
        char *key, *text;

        if (!name)
            continue;
        key = xasprintf("sessions.%.200s", name);
        if (!strcmp(name, "maxsize")) {
            text = text_of(r, value, key, 64);
            r->to->sessions_maxsize = text ? bytes_of(text) : 0;
            if (text && r->to->sessions_maxsize < MIN_MAXSIZE)
                problem(r, value->line, key, true, "\"%s\": expected a size of 1MiB or more, such as 4GiB", text);
            free(text);
        } else if (!strcmp(name, "days")) {
            text = text_of(r, value, key, 64);
            r->to->sessions_days = text && strlen(text) < 6 && strspn(text, "0123456789") == strlen(text)
                                       ? (unsigned)strtoul(text, NULL, 10)
                                       : 0;
            if (text && (!r->to->sessions_days || r->to->sessions_days > MAX_DAYS))
                problem(r, value->line, key, true, "\"%s\": expected a number of days from 1 to %u", text, MAX_DAYS);
            free(text);
        } else {
            problem(r, n->items[i]->line, key, false, "unknown key; expected maxsize or days");
        }
        free(key);
    }
}

static void read_root(struct reading *r, const struct node *root)
{
    for (size_t i = 0; i + 1 < root->n && !enough(r); i += 2) {
        const char *name = key_of(r, root, i, "");
        const struct node *value = root->items[i + 1];
        void (*section)(struct reading *, const struct node *) = NULL;

        if (!name)
            continue;
        if (!strcmp(name, "allow"))
            read_list(r, value, RULES_ALLOW, "allow");
        else if (!strcmp(name, "deny"))
            read_list(r, value, RULES_DENY, "deny");
        else if (!strcmp(name, "source"))
            section = read_source;
        else if (!strcmp(name, "sessions"))
            section = read_sessions;
        else
            problem(r, root->items[i]->line, name, false, "unknown key; expected allow, deny, source or sessions");
        if (!section || node_is_null(value))
            continue;
        if (value->kind == NODE_MAP)
            section(r, value);
        else
            problem(r, value->line, name, true, "has %s; expected a map of keys", node_kind_name(value));
    }
}

int rules_parse(const char *name, const char *text, size_t len, struct rules *ret, cfg_problem_fn fn, void *ctx)
{
    struct reading r = {.to = ret, .fn = fn, .ctx = ctx, .size = rules_size_without(NULL)};
    struct node *root;
    char *error;
    unsigned line;
    bool more;

    *ret = (struct rules){.name = xstrdup(name)};
    for (size_t i = 0; i < len; i++)
        r.padding += text[i] == '\n';
    if (tree_parse(text ? text : "", len, &root, &more, &error, &line) < 0) {
        problem(&r, line, "", true, "%s", error);
        free(error);
        rules_free(ret);
        return -EINVAL;
    }
    if (more)
        problem(&r, 0, "", true, "has more than one YAML document; put all rules into the first");
    if (root && root->kind == NODE_MAP)
        read_root(&r, root);
    else if (root && !node_is_null(root))
        problem(&r, root->line, "", true, "has %s; expected a map with allow, a list of rules", node_kind_name(root));
    if (r.size > RULES_SIZE_MAX)
        problem(&r, 0, "", true, "the names and arguments of all rules take %zu bytes; %u are possible: shorten some",
                r.size, RULES_SIZE_MAX);
    if (r.problems > MAX_PROBLEMS || enough(&r)) {
        struct cfg_problem p = {.file = ret->name, .key = "", .text = "there are, or may be, more problems", .fatal = r.fatal};

        if (fn)
            fn(ctx, &p);
    }
    config_sources_free(r.scratch);
    tree_free(root);
    if (r.fatal)
        rules_free(ret);
    return r.fatal ? -EINVAL : 0;
}

int rules_load(const char *path, struct buf *ret, mode_t *ret_mode, char **ret_why)
{
    struct stat st;
    int rc = safe_author(path, ret_why), fd;

    if (rc < 0)
        return rc;
    fd = safe_read(path);
    if (fd < 0)
        return fd;
    rc = fstat(fd, &st) < 0 ? -errno : 0;
    *ret_mode = st.st_mode & 07777;
    while (rc == 0) {
        ssize_t n = read(fd, buf_room(ret, 65536), 65536);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            rc = -errno;
        if (n <= 0)
            break;
        ret->len += (size_t)n;
        if (ret->len > TREE_MAX_FILE) /* as tree_parse() tells */
            break;
    }
    close(fd);
    return rc;
}

int rules_read(const char *path, struct rules *ret, cfg_problem_fn fn, void *ctx)
{
    struct buf b = BUF_INIT;
    char *why = NULL;
    mode_t mode;
    int rc;

    *ret = (struct rules){0};
    rc = rules_load(path, &b, &mode, &why);
    if (rc == 0)
        rc = rules_parse(path, b.p, b.len, ret, fn, ctx);
    else if (rc != -ENOENT && fn)
        rules_tell_unreadable(path, rc, why, fn, ctx);
    free(why);
    buf_free(&b);
    return rc;
}

void rules_tell_unreadable(const char *path, int error, const char *why, cfg_problem_fn fn, void *ctx)
{
    char *text = xasprintf("can't be read: %s", why ? why : error == -EINVAL ? "it is no regular file" : strerror(-error));

    fn(ctx, &(struct cfg_problem){.file = path, .key = "", .text = text, .fatal = true});
    free(text);
}
