/* SPDX-License-Identifier: Apache-2.0 */
/* scope.yml to settings, with every problem named by file, line and key. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "config/schema.h"
#include "config/tree.h"

#define MAX_MAP 1024  /* keys of one map */
#define SHOWN_MAX 200 /* bytes of a key in a message */
#define PIPE_WAIT_MS 10000

/* Reports --------------------------------------------------------------- */

void report(struct reporter *r, unsigned line, const char *key, bool fatal, const char *fmt, ...)
{
    struct cfg_problem p = {.file = r->file, .line = line, .key = key, .fatal = fatal};
    struct buf b = BUF_INIT;
    char *text;
    va_list ap;

    r->count++;
    if (!r->fn || r->count > MAX_PROBLEMS)
        return;
    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        text = xstrdup(fmt);
    va_end(ap);
    /* What the user wrote is quoted in messages that go to terminals and logs. */
    for (const char *c = text; *c; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            buf_printf(&b, "\\x%02x", (unsigned char)*c);
        else
            buf_char(&b, *c);
    }
    p.text = buf_cstr(&b);
    r->fn(r->ctx, &p);
    buf_free(&b);
    free(text);
}

void report_end(struct reporter *r)
{
    struct cfg_problem p = {.file = r->file, .key = "", .fatal = true};
    char text[64];

    if (!r->fn || r->count <= MAX_PROBLEMS)
        return;
    snprintf(text, sizeof(text), "%u more problems are not shown", r->count - MAX_PROBLEMS);
    p.text = text;
    r->fn(r->ctx, &p);
}

static void remark_missing(const struct setting *t, const char *text, struct reporter *r, const char *shown)
{
    const struct key *k = t->key;
    bool b = false;

    /* Naming a directory asks for nothing; switching something on does. */
    if (!k->missing || k->kind != KEY_BOOL || !parse_bool(text, &b) || !b)
        return;
    report(r, t->from.line, shown, false, "%s is not built yet: the value is kept but has no effect", k->missing);
}

static int check_url(const struct setting *t, const char *text, struct reporter *r, const char *shown)
{
    const struct key *type = key_find_child(t->key, "type");
    struct cfg_transport url;
    const char *why;

    if (cfg_transport_parse(text, t->op == SET_URL_FLAG, &url, &why) < 0) {
        report(r, t->from.line, shown, true, "\"%.200s\": %s", text, why);
        return -EINVAL;
    }
    if (type->word_mask && !(type->word_mask & 1u << url.type)) {
        char *expected = key_expected(type);

        report(r, t->from.line, shown, true, "\"%.200s\": this destination can't be %s; expected %s", text,
               type->words[url.type], expected);
        free(expected);
        cfg_transport_clear(&url);
        return -EINVAL;
    }
    cfg_transport_clear(&url);
    return 0;
}

/* The setting becomes what it says, without what can't be used. */
static int clean_list(struct setting *t, const char *text, struct complaint *c)
{
    struct config cfg = {0};
    char **at = (char **)((char *)&cfg + t->key->offset);
    int ret = key_store(t->key, &cfg, text, c);

    if (ret == 0 && *at) {
        free(t->text);
        t->text = *at;
        t->literal = t->clean = true;
    }
    return ret;
}

int check_setting(struct config_sources *s, struct setting *t, struct reporter *r, const char *shown)
{
    struct complaint c = {0};
    char *text, *why;
    int ret = 0;

    if (!t->literal && !s->environ_ && (expand_needed(t->text) || (t->name && expand_needed(t->name)))) {
        t->unchecked = true; /* config_add_environ() does it */
        return 0;
    }
    t->unchecked = false;
    text = setting_text(s, t);
    if (!text) {
        report(r, t->from.line, shown, true, "the value is longer than %d bytes after substitution", MAX_VALUE);
        return -EINVAL;
    }
    switch (t->op) {
    case SET_URL:
    case SET_URL_FLAG:
    case SET_URL_CLOUD:
        ret = check_url(t, text, r, shown);
        break;
    case SET_LIST_ADD:
        if (strlen(text) > (size_t)2 * MAX_VALUE)
            why = xstrdup("the pattern is too long");
        else if (!valid_pattern(text))
            why = xstrdup("the pattern isn't UTF-8");
        else
            why = check_regex(text);
        if (why) {
            report(r, t->from.line, shown, true, "\"%.200s\": %s; this pattern isn't used", text, why);
            ret = -EINVAL;
        }
        free(why);
        break;
    case SET_TAG: {
        struct setting name = {.text = t->name, .literal = t->literal};
        char *tag = setting_text(s, &name);

        why = !tag ? xstrdup("the name of the tag is too long") : check_tag_name(tag);
        if (!why && (strlen(text) > MAX_VALUE || !valid_text(text, true)))
            why = xstrdup("the value is too long, has control characters or isn't UTF-8");
        if (why) {
            report(r, t->from.line, shown, true, "%s", why);
            ret = -EINVAL;
        }
        free(why);
        free(tag);
        break;
    }
    case SET_VALUE:
        ret = t->key->kind == KEY_LIST || t->key->kind == KEY_PAIRS ? clean_list(t, text, &c)
                                                                    : key_store(t->key, NULL, text, &c);
        if (c.text)
            report(r, t->from.line, shown, c.fatal, "%s", c.text);
        if (ret == 0)
            remark_missing(t, text, r, shown);
        free(c.text);
        break;
    case SET_WATCH_RESET:
    case SET_LIST_CLEAR:
    case SET_PROTOCOL_BEGIN:
    case SET_PROTOCOL_END:
        break;
    }
    free(text);
    return ret;
}

static bool touches(const struct layer *l, const struct key *transport)
{
    size_t len = strlen(transport->path);

    for (size_t i = 0; i < l->n; i++)
        if (!strncmp(l->v[i].key->path, transport->path, len) &&
            (l->v[i].key->path[len] == 0 || l->v[i].key->path[len] == '.'))
            return true;
    return false;
}

static bool unresolved(const struct layer *l)
{
    for (size_t i = 0; i < l->n; i++)
        if (l->v[i].unchecked)
            return true;
    return false;
}

static void check_transport(const struct key *k, const struct merged *m, struct reporter *r, const char *prefix)
{
    static const char *const needed[] = {"host", "port", "path"};
    const struct cfg_transport *t = (const struct cfg_transport *)((const char *)m->cfg + k->offset);
    const struct key *type = key_find_child(k, "type");

    for (size_t i = 0; i < 3; i++) {
        const struct key *child = key_find_child(k, needed[i]);
        char *shown, *value;

        if (!transport_uses(t->type, needed[i]))
            continue;
        value = key_text(child, m->cfg);
        if (!value || !*value) {
            const struct origin *o = m->key_from[key_index(type)];

            shown = xasprintf("%s%s", prefix, child->path);
            report(r, o && o->kind == FROM_FILE ? o->line : 0, shown, true, "is needed for a destination of type %s",
                   type->words[t->type]);
            free(shown);
        }
        free(value);
    }
    if (t->host && *t->host && t->port && *t->port && *transport_remark(t)) {
        char *shown = xasprintf("%s%s", prefix, k->path);
        const struct origin *o = m->key_from[key_index(type)];

        report(r, o && o->kind == FROM_FILE ? o->line : 0, shown, true, "%s", transport_remark(t));
        free(shown);
    }
}

void check_merged(struct config_sources *s, const struct layer *added, const struct layer *custom, struct reporter *r,
                  const char *prefix)
{
    struct merged m;

    if (unresolved(added))
        return;
    if (custom)
        merge_layer(s, custom, false, &m);
    else
        merge(s, NULL, false, &m);
    for (size_t i = 0; i < schema_count; i++)
        if (schema[i].kind == KEY_TRANSPORT && touches(added, &schema[i]))
            check_transport(&schema[i], &m, r, prefix);
    if (touches(added, key_find("otlp")))
        otlp_check(&m, r, prefix);
    merged_clear(&m);
}

/* Walking the tree ------------------------------------------------------- */

struct loader {
    struct config_sources *s;
    struct source_file *file;
    struct layer *layer;   /* where settings go: the file's or a custom entry's */
    struct custom *custom; /* being loaded, or NULL */
    const char *prefix;    /* of shown keys: "" or "custom.NAME.config." */
    struct reporter r;
};

static struct origin at_line(const struct loader *l, unsigned line)
{
    return (struct origin){.kind = FROM_FILE, .name = l->file->name, .line = line};
}

static void wrong_kind(struct loader *l, const struct node *n, const struct key *k, const char *shown)
{
    char *expected = key_expected(k);

    report(&l->r, n->line, shown, true, "has %s; expected %s", node_kind_name(n), expected);
    free(expected);
}

/* A usable key: a plain word that isn't a repetition. Returns its text or NULL after reporting. */
static const char *map_key(struct loader *l, const struct node *map, size_t i, const char *shown)
{
    const struct node *key = map->items[i];

    if (i >= (size_t)2 * MAX_MAP) {
        if (i == (size_t)2 * MAX_MAP)
            report(&l->r, key->line, shown, true, "has more than %d keys; the rest is not read", MAX_MAP);
        return NULL;
    }
    if (key->kind != NODE_SCALAR || strlen(key->text) != key->len) {
        report(&l->r, key->line, shown, true, "has %s where the name of a key is expected",
               key->kind == NODE_SCALAR ? "a NUL byte" : node_kind_name(key));
        return NULL;
    }
    for (size_t j = 0; j < i; j += 2) {
        const struct node *other = map->items[j];

        if (other->kind == NODE_SCALAR && !strcmp(other->text, key->text)) {
            report(&l->r, key->line, shown, true, "\"%.100s\" is given twice; the one in line %u is used", key->text,
                   other->line);
            return NULL;
        }
    }
    return key->text;
}

static char *join(const char *a, const char *b)
{
    return *a ? xasprintf("%.*s.%.*s", SHOWN_MAX, a, SHOWN_MAX, b) : xasprintf("%.*s", SHOWN_MAX, b);
}

static void unknown_key(struct loader *l, const struct node *key, const char *shown, const char *guess)
{
    if (guess)
        report(&l->r, key->line, shown, true, "unknown key; did you mean %s?", guess);
    else
        report(&l->r, key->line, shown, true, "unknown key");
}

/* Makes a setting from a scalar. NULL if it can't be used. */
static struct setting *load_scalar(struct loader *l, const struct key *k, const struct node *n, struct layer *to,
                                   const char *shown)
{
    struct setting *t;

    if (n->kind != NODE_SCALAR) {
        wrong_kind(l, n, k, shown);
        return NULL;
    }
    if (strlen(n->text) != n->len) {
        report(&l->r, n->line, shown, true, "has a NUL byte");
        return NULL;
    }
    if (node_is_null(n) && !k->optional) {
        char *expected = key_expected(k);

        report(&l->r, n->line, shown, false, "has no value; expected %s. The key is ignored", expected);
        free(expected);
        return NULL;
    }
    t = layer_add(to, k, SET_VALUE, node_is_null(n) ? "" : n->text, at_line(l, n->line));
    if (check_setting(l->s, t, &l->r, shown) < 0) {
        free(t->text);
        to->n--;
        return NULL;
    }
    return t;
}

static void load_patterns(struct loader *l, const struct key *k, const struct node *n, struct layer *to,
                          const char *shown)
{
    if (n->kind != NODE_SEQ && !node_is_null(n)) {
        wrong_kind(l, n, k, shown);
        return;
    }
    layer_add(to, k, SET_LIST_CLEAR, "", at_line(l, n->line));
    for (size_t i = 0; i < n->n; i++) {
        const struct node *item = n->items[i];
        struct setting *t;

        if (i == MAX_PATTERNS) {
            report(&l->r, item->line, shown, true, "has more than %d patterns; the rest is not used", MAX_PATTERNS);
            break;
        }
        if (item->kind != NODE_SCALAR || strlen(item->text) != item->len) {
            report(&l->r, item->line, shown, true, "has %s in the list; expected a PCRE2 pattern",
                   item->kind == NODE_SCALAR ? "a NUL byte" : node_kind_name(item));
            continue;
        }
        t = layer_add(to, k, SET_LIST_ADD, item->text, at_line(l, item->line));
        if (check_setting(l->s, t, &l->r, shown) < 0) {
            free(t->text);
            to->n--;
        }
    }
}

/* A list of the file, or a text as variables have it, becomes one text. */
static void load_list(struct loader *l, const struct key *k, const struct node *n, struct layer *to, const char *shown)
{
    struct buf list = BUF_INIT;
    struct setting *t;

    if (n->kind != NODE_SEQ) {
        load_scalar(l, k, n, to, shown);
        return;
    }
    for (size_t i = 0; i < n->n; i++) {
        const struct node *item = n->items[i];
        char *why = NULL;

        if (item->kind != NODE_SCALAR || strlen(item->text) != item->len) {
            char *expected = key_expected(k);

            report(&l->r, item->line, shown, true, "has %s in the list; expected %s",
                   item->kind == NODE_SCALAR ? "a NUL byte" : node_kind_name(item), expected);
            free(expected);
            continue;
        }
        if (!expand_needed(item->text))
            why = list_check_item(k, item->text);
        if (why)
            report(&l->r, item->line, shown, true, "%s", why);
        else if (!node_is_null(item))
            list_add(&list, item->text);
        free(why);
    }
    t = layer_add(to, k, SET_VALUE, buf_cstr(&list), at_line(l, n->line));
    if (check_setting(l->s, t, &l->r, shown) < 0) {
        free(t->text);
        to->n--;
    }
    buf_free(&list);
}

/* A map of the file, or a text as variables have it, becomes one text. */
static void load_pairs(struct loader *l, const struct key *k, const struct node *n, struct layer *to, const char *shown)
{
    struct buf list = BUF_INIT;
    struct setting *t;

    if (n->kind != NODE_MAP) {
        if (n->kind == NODE_SEQ)
            wrong_kind(l, n, k, shown);
        else
            load_scalar(l, k, n, to, shown);
        return;
    }
    for (size_t i = 0; i + 1 < n->n; i += 2) {
        const char *name = map_key(l, n, i, shown);
        const struct node *value = n->items[i + 1];
        char *child;

        if (!name)
            continue;
        child = join(shown, name);
        if (value->kind != NODE_SCALAR || strlen(value->text) != value->len)
            report(&l->r, value->line, child, true, "has %s; expected a text",
                   value->kind == NODE_SCALAR ? "a NUL byte" : node_kind_name(value));
        else
            pairs_add(&list, name, node_is_null(value) ? "" : value->text);
        free(child);
    }
    t = layer_add(to, k, SET_VALUE, buf_cstr(&list), at_line(l, n->line));
    if (check_setting(l->s, t, &l->r, shown) < 0) {
        free(t->text);
        to->n--;
    }
    buf_free(&list);
}

static const char *guess_child(const struct key *parent, const char *word)
{
    struct guess g = {.word = word};
    const char *path = parent ? parent->path : "";

    for (size_t i = 0; i < schema_count; i++)
        if (key_is_child(&schema[i], path))
            guess_try(&g, key_name(&schema[i]));
    return g.ret;
}

/* Watch lists ------------------------------------------------------------ */

/* The type of an entry, or NULL after reporting. */
static const struct key *entry_type(struct loader *l, const struct key *list, const struct node *entry,
                                    const char *shown)
{
    if (entry->kind != NODE_MAP) {
        report(&l->r, entry->line, shown, true, "has %s; expected a map with a type, such as \"- type: fs\"",
               node_kind_name(entry));
        return NULL;
    }
    for (size_t i = 0; i + 1 < entry->n; i += 2) {
        const struct node *key = entry->items[i], *value = entry->items[i + 1];
        const struct key *type;
        const char *guess;

        if (key->kind != NODE_SCALAR || strcmp(key->text, "type") != 0)
            continue;
        type = value->kind == NODE_SCALAR && !strchr(value->text, '.') ? key_find_child(list, value->text) : NULL;
        if (type)
            return type;
        guess = value->kind == NODE_SCALAR ? guess_child(list, value->text) : NULL;
        report(&l->r, value->line, shown, true, "\"%.100s\" is no type of %s%s%s%s",
               value->kind == NODE_SCALAR ? value->text : node_kind_name(value), list->path,
               guess ? "; did you mean " : "", guess ? guess : "", guess ? "?" : "");
        return NULL;
    }
    report(&l->r, entry->line, shown, true, "has no type; the entry is ignored");
    return NULL;
}

/* Fills `to`. Returns false if the entry can't be used: a filter that was meant and doesn't work must not let
 * everything through. */
static bool load_watch_entry(struct loader *l, const struct key *type, const struct node *entry, struct layer *to,
                             const char *shown)
{
    bool ok = true;

    for (size_t i = 0; i + 1 < entry->n; i += 2) {
        const char *name = map_key(l, entry, i, shown);
        const struct node *value = entry->items[i + 1];
        const struct key *k;
        char *child;

        if (!name || !strcmp(name, "type"))
            continue;
        k = strchr(name, '.') ? NULL : key_find_child(type, name);
        child = join(shown, name);
        if (!k) {
            if (!strncmp(type->path, "event.", 6) && (!strcmp(name, "headers") || !strcmp(name, "allowbinary")))
                report(&l->r, entry->items[i]->line, child, true, "this key belongs to type %s",
                       *name == 'h' ? "http" : "console");
            else
                unknown_key(l, entry->items[i], child, guess_child(type, name));
        } else if (k->kind == KEY_PATTERNS) {
            load_patterns(l, k, value, to, child);
        } else if (!node_is_null(value) && !load_scalar(l, k, value, to, child) && k->kind == KEY_REGEX) {
            ok = false;
        }
        free(child);
    }
    return ok;
}

static bool is_default_text(const struct key *k, const char *text)
{
    return k->def && !strcmp(text, k->def);
}

/* Whether settings from `first` on say just what the defaults say. */
static bool same_as_default(const struct layer *l, size_t first, const struct key *list)
{
    for (size_t i = 0; i < schema_count; i++) {
        const struct key *k = &schema[i];
        bool on = false, def;

        if (!key_is_child(k, list->path))
            continue;
        for (size_t j = first; j < l->n; j++)
            if (l->v[j].key == k && !strcmp(l->v[j].text, "true"))
                on = true;
        if (!parse_bool(k->def, &def) || on != def)
            return false;
    }
    for (size_t j = first; j < l->n; j++)
        if (l->v[j].op == SET_LIST_ADD || (l->v[j].op == SET_VALUE && !key_is_child(l->v[j].key, list->path) &&
                                           !is_default_text(l->v[j].key, l->v[j].text)))
            return false;
    return true;
}

static void load_watch(struct loader *l, const struct key *k, const struct node *n, const char *shown)
{
    size_t first = l->layer->n;

    if (node_is_null(n)) {
        report(&l->r, n->line, shown, false,
               "has no value: the types stay as they are. Write [] to switch all of them off");
        return;
    }
    if (n->kind != NODE_SEQ) {
        wrong_kind(l, n, k, shown);
        return;
    }
    layer_add(l->layer, k, SET_WATCH_RESET, "", at_line(l, n->line));
    for (size_t i = 0; i < n->n && i < MAX_MAP; i++) {
        char *entry_shown = xasprintf("%s[%zu]", shown, i);
        const struct key *type = entry_type(l, k, n->items[i], entry_shown);
        struct layer entry = {0};

        if (type && load_watch_entry(l, type, n->items[i], &entry, entry_shown)) {
            layer_add(l->layer, type, SET_VALUE, "true", at_line(l, n->items[i]->line));
            for (size_t j = 0; j < entry.n; j++)
                *layer_add(l->layer, entry.v[j].key, SET_VALUE, NULL, entry.v[j].from) = entry.v[j];
            free(entry.v);
        } else {
            if (type)
                report(&l->r, n->items[i]->line, entry_shown, true, "%s stays off because its filter can't be used",
                       key_name(type));
            layer_clear(&entry);
        }
        free(entry_shown);
    }
    if (same_as_default(l->layer, first, k))
        return;
    for (size_t j = first; j < l->layer->n; j++)
        if (key_is_child(l->layer->v[j].key, k->path))
            remark_missing(&l->layer->v[j], l->layer->v[j].text, &l->r, shown);
}

/* Tags, protocols -------------------------------------------------------- */

static void load_tags(struct loader *l, const struct key *k, const struct node *n, const char *shown)
{
    size_t count = 0;

    if (node_is_null(n))
        return;
    if (n->kind != NODE_MAP) {
        wrong_kind(l, n, k, shown);
        return;
    }
    for (size_t i = 0; i + 1 < n->n; i += 2) {
        const char *name = map_key(l, n, i, shown);
        const struct node *value = n->items[i + 1];
        struct setting *t;
        char *child;

        if (!name)
            continue;
        child = join(shown, name);
        if (value->kind != NODE_SCALAR || strlen(value->text) != value->len) {
            report(&l->r, value->line, child, true, "has %s; expected a text",
                   value->kind == NODE_SCALAR ? "a NUL byte" : node_kind_name(value));
        } else if (++count > MAX_TAGS) {
            report(&l->r, value->line, child, true, "more than %d tags; this one is not used", MAX_TAGS);
        } else {
            t = layer_add(l->layer, k, SET_TAG, node_is_null(value) ? "" : value->text, at_line(l, value->line));
            t->name = xstrdup(name);
            if (check_setting(l->s, t, &l->r, child) < 0) {
                free(t->name);
                free(t->text);
                l->layer->n--;
            }
        }
        free(child);
    }
}

static const struct key *protocol_key(const char *name)
{
    char path[64];

    if (snprintf(path, sizeof(path), "protocol[].%s", name) >= (int)sizeof(path))
        return NULL;
    return key_find(path);
}

static const char *guess_protocol_key(const char *word)
{
    struct guess g = {.word = word};

    for (size_t i = 0; i < schema_count; i++)
        if (schema[i].base == BASE_PROTOCOL)
            guess_try(&g, key_name(&schema[i]));
    return g.ret;
}

static void load_protocol(struct loader *l, const struct key *list, const struct node *n, const char *shown)
{
    struct layer entry = {0};
    bool ok = true, has_name = false, has_regex = false;

    if (n->kind != NODE_MAP) {
        report(&l->r, n->line, shown, true, "has %s; expected a map with name and regex", node_kind_name(n));
        return;
    }
    layer_add(&entry, list, SET_PROTOCOL_BEGIN, "", at_line(l, n->line));
    for (size_t i = 0; i + 1 < n->n; i += 2) {
        const char *name = map_key(l, n, i, shown);
        const struct key *k;
        struct setting *t;
        char *child;

        if (!name)
            continue;
        k = protocol_key(name);
        child = join(shown, name);
        if (!k) {
            unknown_key(l, n->items[i], child, guess_protocol_key(name));
        } else {
            t = load_scalar(l, k, n->items[i + 1], &entry, child);
            if (k->offset == offsetof(struct cfg_protocol, name)) {
                has_name = t != NULL;
                ok = ok && t;
            } else if (k->kind == KEY_REGEX) {
                has_regex = t != NULL;
                ok = ok && t;
            }
        }
        free(child);
    }
    if (!ok || !has_name || !has_regex) {
        if (ok)
            report(&l->r, n->line, shown, true, "needs name and regex; the entry is ignored");
        else
            report(&l->r, n->line, shown, true, "the entry is ignored because its name or regex can't be used");
        layer_clear(&entry);
        return;
    }
    for (size_t j = 0; j < entry.n; j++)
        *layer_add(l->layer, entry.v[j].key, SET_VALUE, NULL, entry.v[j].from) = entry.v[j];
    free(entry.v);
    layer_add(l->layer, list, SET_PROTOCOL_END, "", at_line(l, n->line));
}

static void load_protocols(struct loader *l, const struct key *k, const struct node *n, const char *shown)
{
    if (node_is_null(n))
        return;
    if (n->kind != NODE_SEQ) {
        wrong_kind(l, n, k, shown);
        return;
    }
    for (size_t i = 0; i < n->n; i++) {
        char *child = xasprintf("%s[%zu]", shown, i);

        if (i == MAX_PROTOCOLS)
            report(&l->r, n->items[i]->line, child, true, "more than %d protocols; the rest is not read",
                   MAX_PROTOCOLS);
        else if (i < MAX_PROTOCOLS)
            load_protocol(l, k, n->items[i], child);
        free(child);
    }
}

/* Sections and custom entries -------------------------------------------- */

static void load_section(struct loader *l, const struct key *section, const struct node *n, const char *shown);

/* Old spelling in published example files. */
static const char *old_name(const struct key *parent, const char *name)
{
    return parent && parent->kind == KEY_TRANSPORT && !strcmp(name, "buffer") ? "buffering" : NULL;
}

static bool has_key(const struct node *map, const char *name)
{
    for (size_t i = 0; i + 1 < map->n && i < (size_t)2 * MAX_MAP; i += 2)
        if (map->items[i]->kind == NODE_SCALAR && !strcmp(map->items[i]->text, name))
            return true;
    return false;
}

static void load_filter(struct loader *l, struct custom *c, const struct node *n, const char *shown)
{
    if (n->kind != NODE_MAP) {
        if (!node_is_null(n))
            report(&l->r, n->line, shown, true, "has %s; expected a map of filter keys", node_kind_name(n));
        c->usable = false;
        return;
    }
    for (size_t i = 0; i + 1 < n->n; i += 2) {
        const char *name = map_key(l, n, i, shown);
        struct layer one = {0};
        const struct key *k = NULL;
        struct guess g = {.word = name};
        char *child;

        if (!name) {
            c->usable = false;
            continue;
        }
        for (size_t j = 0; j < schema_count; j++) {
            if (schema[j].base != BASE_FILTER)
                continue;
            guess_try(&g, key_name(&schema[j]));
            if (!strcmp(key_name(&schema[j]), name))
                k = &schema[j];
        }
        child = join(shown, name);
        if (!k)
            unknown_key(l, n->items[i], child, g.ret);
        if (k && load_scalar(l, k, n->items[i + 1], &one, child))
            c->filter[c->filter_count++] = one.v[0];
        else
            c->usable = false;
        free(one.v);
        free(child);
    }
}

static void load_custom_entry(struct loader *l, const struct node *n, const char *name, const char *shown)
{
    struct source_file *f = l->file;
    struct custom *c;
    const struct node *filter = NULL, *config = NULL;
    unsigned before = l->r.count;
    char *child;

    if (n->kind != NODE_MAP) {
        report(&l->r, n->line, shown, true, "has %s; expected a map with filter and config", node_kind_name(n));
        return;
    }
    for (size_t i = 0; i + 1 < n->n; i += 2) {
        const char *key = map_key(l, n, i, shown);

        if (!key)
            continue;
        if (!strcmp(key, "filter")) {
            filter = n->items[i + 1];
        } else if (!strcmp(key, "config")) {
            config = n->items[i + 1];
        } else {
            struct guess g = {.word = key};

            guess_try(&g, "filter");
            guess_try(&g, "config");
            child = join(shown, key);
            unknown_key(l, n->items[i], child, g.ret);
            free(child);
        }
    }
    f->customs = xrealloc(f->customs, f->custom_count + 1, sizeof(*f->customs));
    c = &f->customs[f->custom_count++];
    *c = (struct custom){.name = xstrdup(name), .line = n->line, .usable = true};
    if (filter) {
        child = join(shown, "filter");
        load_filter(l, c, filter, child);
        free(child);
    }
    if (!c->usable && l->r.count > before)
        report(&l->r, n->line, shown, true, "the entry is ignored because its filter can't be used");
    else if (c->filter_count == 0)
        report(&l->r, n->line, shown, false, "has no filter: the entry never applies");
    c->usable = c->usable && c->filter_count > 0;
    if (config && !node_is_null(config)) {
        struct loader sub = *l;
        char *prefix = xasprintf("%.*s.config.", SHOWN_MAX, shown);

        child = join(shown, "config");
        sub.layer = &c->layer;
        sub.custom = c;
        sub.prefix = prefix;
        load_section(&sub, NULL, config, child);
        check_merged(l->s, &c->layer, &c->layer, &sub.r, prefix);
        l->r = sub.r;
        free(child);
        free(prefix);
    }
}

static void load_custom(struct loader *l, const struct key *k, const struct node *n, const char *shown)
{
    if (node_is_null(n))
        return;
    if (n->kind != NODE_MAP) {
        wrong_kind(l, n, k, shown);
        return;
    }
    for (size_t i = 0; i + 1 < n->n; i += 2) {
        const char *name = map_key(l, n, i, shown);
        char *child;

        if (!name)
            continue;
        child = join(shown, name);
        if (l->file->custom_count == MAX_CUSTOM)
            report(&l->r, n->items[i]->line, child, true, "more than %d custom entries; this one is not used",
                   MAX_CUSTOM);
        else
            load_custom_entry(l, n->items[i + 1], name, child);
        free(child);
    }
}

static void load_key(struct loader *l, const struct key *k, const struct node *n, const char *shown)
{
    switch (k->kind) {
    case KEY_SECTION:
    case KEY_TRANSPORT:
        if (!node_is_null(n))
            load_section(l, k, n, shown);
        break;
    case KEY_WATCH:
        load_watch(l, k, n, shown);
        break;
    case KEY_TAGS:
        load_tags(l, k, n, shown);
        break;
    case KEY_PROTOCOLS:
        load_protocols(l, k, n, shown);
        break;
    case KEY_CUSTOM:
        if (l->custom)
            report(&l->r, n->line, shown, true, "is not possible inside a custom entry");
        break; /* else: loaded last, by config_add_text() */
    case KEY_PATTERNS:
        load_patterns(l, k, n, l->layer, shown);
        break;
    case KEY_LIST:
        load_list(l, k, n, l->layer, shown);
        break;
    case KEY_PAIRS:
        load_pairs(l, k, n, l->layer, shown);
        break;
    default:
        load_scalar(l, k, n, l->layer, shown);
    }
}

static void load_section(struct loader *l, const struct key *section, const struct node *n, const char *shown)
{
    const char *path = section ? section->path : "";

    if (n->kind != NODE_MAP) {
        report(&l->r, n->line, shown, true, "has %s; expected a map of keys", node_kind_name(n));
        return;
    }
    for (size_t i = 0; i + 1 < n->n; i += 2) {
        const char *name = map_key(l, n, i, shown), *current;
        const struct key *k = NULL;
        char *child;

        if (!name)
            continue;
        child = *shown ? join(shown, name) : join("", name);
        current = old_name(section, name);
        if (current) {
            if (has_key(n, current)) {
                report(&l->r, n->items[i]->line, child, true, "is the old name of %s, which is given too", current);
                free(child);
                continue;
            }
            report(&l->r, n->items[i]->line, child, false, "is the old name of %s", current);
            name = current;
        }
        if (!strpbrk(name, ".[")) {
            char *full = *path ? xasprintf("%s.%s", path, name) : xstrdup(name);

            k = key_find(full);
            free(full);
        }
        if (k)
            load_key(l, k, n->items[i + 1], child);
        else
            unknown_key(l, n->items[i], child, guess_child(section, name));
        free(child);
    }
}

static void load_root(struct loader *l, const struct node *root)
{
    load_section(l, NULL, root, "");
    check_merged(l->s, l->layer, NULL, &l->r, "");
    for (size_t i = 0; i + 1 < root->n && i < (size_t)2 * MAX_MAP; i += 2) {
        if (root->items[i]->kind == NODE_SCALAR && !strcmp(root->items[i]->text, "custom")) {
            load_custom(l, key_find("custom"), root->items[i + 1], "custom");
            break;
        }
    }
}

static void move_down(struct node *n, unsigned lines)
{
    n->line += lines;
    for (size_t i = 0; i < n->n; i++)
        move_down(n->items[i], lines);
}

/* Takes f. skip: lines of the file before the text. */
static int add_text(struct config_sources *s, struct source_file *f, unsigned skip, const char *text, size_t len,
                    cfg_problem_fn fn, void *ctx)
{
    struct loader l = {.s = s, .file = f, .prefix = ""};
    struct node *root;
    char *error;
    unsigned line;
    bool more;

    l.layer = &f->layer;
    l.r = (struct reporter){.fn = fn, .ctx = ctx, .file = f->name};
    if (tree_parse(text ? text : "", len, &root, &more, &error, &line) < 0) {
        report(&l.r, line ? line + skip : 0, "", true, "%s", error);
        free(error);
        free(f->name);
        free(f);
        return -EINVAL;
    }
    if (root)
        move_down(root, skip);
    if (root && root->kind != NODE_MAP && !node_is_null(root)) {
        report(&l.r, root->line, "", true, "has %s; expected a map of keys such as metric, event, libscope",
               node_kind_name(root));
        tree_free(root);
        free(f->name);
        free(f);
        return -EINVAL;
    }
    s->files = xrealloc(s->files, s->file_count + 1, sizeof(*s->files));
    s->files[s->file_count++] = f;
    if (more)
        report(&l.r, 0, "", false, "only the first YAML document of the file is read");
    s->checked = f;
    if (root && root->kind == NODE_MAP)
        load_root(&l, root);
    s->checked = NULL;
    report_end(&l.r);
    tree_free(root);
    return 0;
}

int config_add_text(struct config_sources *s, const char *name, const char *text, size_t len, cfg_problem_fn fn,
                    void *ctx)
{
    struct source_file *f = xcalloc(1, sizeof(*f));

    f->name = xstrdup(name);
    return add_text(s, f, 0, text, len, fn, ctx);
}

int config_add_rule(struct config_sources *s, uint32_t rule, const char *name, unsigned line, const char *text,
                    size_t len, cfg_problem_fn fn, void *ctx)
{
    struct source_file *f = xcalloc(1, sizeof(*f));

    f->name = xstrdup(name);
    f->of_rule = true;
    f->rule = rule;
    return add_text(s, f, line ? line - 1 : 0, text, len, fn, ctx);
}

/* Waits for the writer of a pipe, such as <(COMMAND) of a shell. Returns false if nothing came for too long. */
static bool more_comes(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int n;

    while ((n = poll(&p, 1, PIPE_WAIT_MS)) < 0 && errno == EINTR) {
    }
    return n > 0;
}

int config_add_file(struct config_sources *s, const char *path, cfg_problem_fn fn, void *ctx)
{
    struct reporter r = {.fn = fn, .ctx = ctx, .file = path};
    struct buf b = BUF_INIT;
    struct stat st;
    int fd, ret;

    /* Not to hang on a FIFO that nobody writes to; regular files ignore it. */
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &st) < 0) {
        ret = -errno;
        goto unreadable;
    }
    if (S_ISDIR(st.st_mode)) {
        ret = -EISDIR;
        goto unreadable;
    }
    for (;;) {
        ssize_t n = read(fd, buf_room(&b, 65536), 65536);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN && more_comes(fd))
            continue;
        if (n < 0) {
            ret = errno == EAGAIN ? -ETIMEDOUT : -errno;
            goto unreadable;
        }
        b.len += (size_t)n;
        if (n == 0 || b.len > TREE_MAX_FILE)
            break;
    }
    close(fd);
    ret = config_add_text(s, path, b.p, b.len, fn, ctx);
    buf_free(&b);
    return ret;

unreadable:
    report(&r, 0, "", true, "can't be read: %s", ret == -ETIMEDOUT ? "its writer sends nothing" : strerror(-ret));
    if (fd >= 0)
        close(fd);
    buf_free(&b);
    return ret;
}
