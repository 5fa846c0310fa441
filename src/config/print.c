/* SPDX-License-Identifier: Apache-2.0 */
/* The merged configuration as scope.yml. Loading the output gives the same configuration again (but for secrets). */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/mem.h"
#include "config/schema.h"

struct printer {
    FILE *to;
    const struct merged *m;
    bool origins;
    bool secrets;    /* as they are: the text is for nobody but us */
    bool partial;    /* only what the layer set (custom entries) */
    unsigned indent; /* columns */
};

static void pad(const struct printer *p, unsigned more)
{
    fprintf(p->to, "%*s", (int)(p->indent + more), "");
}

static void print_origin(const struct printer *p, const struct origin *o)
{
    if (!p->origins)
        return;
    fputs("  # ", p->to);
    if (!o || o->kind == FROM_DEFAULT)
        fputs("default", p->to);
    else if (o->kind == FROM_CRIBL)
        fputs("cribl.enable", p->to);
    else if (o->kind == FROM_FILE)
        fprintf(p->to, "%s:%u", o->name, o->line);
    else
        fprintf(p->to, "%s %s", o->kind == FROM_FLAG ? "flag" : "environment", o->name);
}

/* Words that a YAML reader would not take as the text that they are. */
static bool needs_quotes(const char *s)
{
    static const char *const special[] = {"null", "~", "true", "false", "yes", "no", "on", "off", "y", "n"};

    if (!*s || strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-") != strlen(s))
        return true;
    if (*s == '-' || *s == '.')
        return true;
    for (size_t i = 0; i < sizeof(special) / sizeof(*special); i++)
        if (!strcasecmp(s, special[i]))
            return true;
    return false;
}

static void print_text(FILE *to, const char *s)
{
    if (!needs_quotes(s)) {
        fputs(s, to);
        return;
    }
    if (valid_text(s, false)) {
        putc('\'', to);
        for (; *s; s++) {
            if (*s == '\'')
                putc('\'', to);
            putc(*s, to);
        }
        putc('\'', to);
        return;
    }
    putc('"', to);
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            fprintf(to, "\\%c", *s);
        else if ((unsigned char)*s < 0x20 || *s == 0x7f)
            fprintf(to, "\\x%02x", (unsigned char)*s);
        else
            putc(*s, to);
    }
    putc('"', to);
}

static void print_as(FILE *to, const struct key *k, const char *text)
{
    if (k->kind == KEY_BOOL)
        fputs(text, to);
    else
        print_text(to, text);
}

static const struct cfg_transport *transport_of(const struct printer *p, const struct key *k)
{
    return (const struct cfg_transport *)((const char *)p->m->cfg + k->offset);
}

/* The transport that a key lies in, or NULL. */
static const struct key *enclosing_transport(const struct key *k)
{
    for (size_t i = key_index(k); i-- > 0;) {
        size_t len = strlen(schema[i].path);

        if (schema[i].kind == KEY_TRANSPORT)
            return !strncmp(schema[i].path, k->path, len) && k->path[len] == '.' ? &schema[i] : NULL;
    }
    return NULL;
}

static bool relevant(const struct printer *p, const struct key *k)
{
    const struct key *t = enclosing_transport(k);
    const char *member;
    char first[32];

    if (!t)
        return true;
    member = k->path + strlen(t->path) + 1;
    snprintf(first, sizeof(first), "%.*s", (int)strcspn(member, "."), member);
    return !strcmp(first, "type") || transport_uses(transport_of(p, t)->type, first);
}

static bool present(const struct printer *p, const struct key *k)
{
    char *text;

    if (p->partial && !p->m->key_from[key_index(k)])
        return false;
    if (k->kind == KEY_WATCH)
        return true;
    if (!p->partial && !relevant(p, k))
        return false;
    text = key_text(k, p->m->cfg);
    free(text);
    return text || k->def; /* '' where something took the default away */
}

static bool any_present(const struct printer *p, const char *path)
{
    for (size_t i = 0; i < schema_count; i++) {
        const struct key *k = &schema[i];

        if (!key_is_child(k, path))
            continue;
        if (k->kind == KEY_SECTION || k->kind == KEY_TRANSPORT ? any_present(p, k->path) : present(p, k))
            return true;
    }
    return false;
}

static void print_value(const struct printer *p, const struct key *k, unsigned more)
{
    char *text = key_text(k, p->m->cfg), *safe;

    if (!text)
        text = xstrdup("");
    pad(p, more);
    fprintf(p->to, "%s: ", key_name(k));
    if (k->kind == KEY_ENDPOINT && !p->secrets) {
        char *shown = cfg_endpoint_shown(text);

        free(text);
        text = shown;
    }
    if (k->secret && *text && !p->secrets) {
        fputs("'" MASK "'", p->to);
    } else {
        safe = k->kind == KEY_REGEX ? xstrdup(text) : expand_protect(text);
        print_as(p->to, k, safe);
        free(safe);
    }
    print_origin(p, p->m->key_from[key_index(k)]);
    putc('\n', p->to);
    free(text);
}

static void print_patterns(const struct printer *p, const struct key *k, unsigned more)
{
    char **list;

    memcpy(&list, (const char *)p->m->cfg + k->offset, sizeof(list));
    pad(p, more);
    fprintf(p->to, "%s: [", key_name(k));
    for (size_t i = 0; list && list[i]; i++) {
        if (i)
            fputs(", ", p->to);
        print_text(p->to, list[i]);
    }
    putc(']', p->to);
    print_origin(p, p->m->key_from[key_index(k)]);
    putc('\n', p->to);
}

static void print_list(const struct printer *p, const struct key *k)
{
    char *text = key_text(k, p->m->cfg), *item;
    bool any = false;

    pad(p, 0);
    fprintf(p->to, "%s: [", key_name(k));
    for (const char *at = text; (item = cfg_list_item(&at)); free(item)) {
        char *safe = expand_protect(item);

        if (any)
            fputs(", ", p->to);
        print_text(p->to, safe);
        any = true;
        free(safe);
    }
    putc(']', p->to);
    print_origin(p, p->m->key_from[key_index(k)]);
    putc('\n', p->to);
    free(text);
}

static void print_pairs(const struct printer *p, const struct key *k)
{
    char *text = key_text(k, p->m->cfg);
    struct pair one;

    pad(p, 0);
    fprintf(p->to, "%s:%s", key_name(k), text && *text ? "" : " {}");
    print_origin(p, p->m->key_from[key_index(k)]);
    putc('\n', p->to);
    for (const char *at = text; pairs_next(&at, &one); pair_clear(&one)) {
        char *value = k->secret && !p->secrets ? xstrdup(MASK) : expand_protect(one.value);

        pad(p, 2);
        print_text(p->to, one.name);
        fputs(": ", p->to);
        print_text(p->to, value);
        putc('\n', p->to);
        free(value);
    }
    free(text);
}

static void print_watch(const struct printer *p, const struct key *list)
{
    bool any = false, on;

    for (size_t i = 0; i < schema_count && !any; i++)
        if (key_is_child(&schema[i], list->path))
            memcpy(&any, (const char *)p->m->cfg + schema[i].offset, sizeof(any));
    pad(p, 0);
    fprintf(p->to, "%s:%s", key_name(list), any ? "" : " []");
    if (!any)
        print_origin(p, p->m->key_from[key_index(list)]);
    putc('\n', p->to);
    for (size_t i = 0; i < schema_count; i++) {
        const struct key *k = &schema[i];

        if (!key_is_child(k, list->path))
            continue;
        memcpy(&on, (const char *)p->m->cfg + k->offset, sizeof(on));
        if (!on)
            continue;
        pad(p, 2);
        fprintf(p->to, "- type: %s", key_name(k));
        print_origin(p, p->m->key_from[key_index(k)]);
        putc('\n', p->to);
        for (size_t j = i + 1; j < schema_count; j++) {
            if (!key_is_child(&schema[j], k->path))
                continue;
            if (schema[j].kind == KEY_PATTERNS)
                print_patterns(p, &schema[j], 4);
            else
                print_value(p, &schema[j], 4);
        }
    }
}

/* Tags keep their $NAME where they are not shown to people: they are looked up for each process. */
static void print_tags(const struct printer *p, const struct key *k)
{
    const struct config *c = p->m->cfg;

    if (p->partial && c->tag_count == 0)
        return;
    pad(p, 0);
    fprintf(p->to, "%s:%s\n", k->path, c->tag_count ? "" : " {}");
    for (size_t i = 0; i < c->tag_count; i++) {
        const struct setting *t = p->m->tag_from[i];
        bool raw = !p->origins && !t->literal;
        char *name = raw ? xstrdup(t->name) : expand_protect(c->tags[i].name);
        char *value = raw ? xstrdup(t->text) : expand_protect(c->tags[i].value);

        pad(p, 2);
        print_text(p->to, name);
        fputs(": ", p->to);
        print_text(p->to, value);
        print_origin(p, &t->from);
        putc('\n', p->to);
        free(name);
        free(value);
    }
}

static void print_protocols(const struct printer *p, const struct key *list)
{
    const struct config *c = p->m->cfg;

    if (p->partial && c->protocol_count == 0)
        return;
    pad(p, 0);
    fprintf(p->to, "%s:%s\n", list->path, c->protocol_count ? "" : " []");
    for (size_t i = 0; i < c->protocol_count; i++) {
        bool first = true;

        for (size_t j = 0; j < schema_count; j++) {
            const struct key *k = &schema[j];
            char *text, *safe;

            if (k->base != BASE_PROTOCOL)
                continue;
            text = key_text(k, &c->protocols[i]);
            safe = k->kind == KEY_REGEX ? xstrdup(text) : expand_protect(text);
            pad(p, 2);
            fprintf(p->to, "%s%s: ", first ? "- " : "  ", key_name(k));
            print_as(p->to, k, safe);
            if (first)
                print_origin(p, p->m->protocol_from[i]);
            putc('\n', p->to);
            free(text);
            free(safe);
            first = false;
        }
    }
}

static void print_section(struct printer *p, const char *path)
{
    for (size_t i = 0; i < schema_count; i++) {
        const struct key *k = &schema[i];

        if (!key_is_child(k, path))
            continue;
        switch (k->kind) {
        case KEY_SECTION:
        case KEY_TRANSPORT:
            if (!any_present(p, k->path))
                break;
            pad(p, 0);
            fprintf(p->to, "%s:\n", key_name(k));
            p->indent += 2;
            print_section(p, k->path);
            p->indent -= 2;
            break;
        case KEY_WATCH:
            if (present(p, k))
                print_watch(p, k);
            break;
        case KEY_TAGS:
            print_tags(p, k);
            break;
        case KEY_PROTOCOLS:
            print_protocols(p, k);
            break;
        case KEY_CUSTOM:
            break;
        case KEY_LIST:
            if (present(p, k))
                print_list(p, k);
            break;
        case KEY_PAIRS:
            if (present(p, k))
                print_pairs(p, k);
            break;
        default:
            if (present(p, k))
                print_value(p, k, 0);
        }
    }
}

static void print_custom(const struct config_sources *s, struct printer *p, const struct source_file *f, bool *first)
{
    for (size_t i = 0; i < f->custom_count; i++) {
        const struct custom *c = &f->customs[i];
        struct origin at = {.kind = FROM_FILE, .name = f->name, .line = c->line};
        struct printer sub = *p;
        struct merged m;

        if (*first)
            fputs("custom:\n", p->to);
        *first = false;
        fputs("  ", p->to);
        print_text(p->to, c->name);
        putc(':', p->to);
        print_origin(p, &at);
        fputs("\n    filter:", p->to);
        /* An entry that never applies must not begin to. */
        if (!c->usable)
            fputs(" {}", p->to);
        putc('\n', p->to);
        for (size_t j = 0; c->usable && j < c->filter_count; j++) {
            char *text = setting_text(s, &c->filter[j]);
            char *safe = expand_protect(text ? text : "");

            fprintf(p->to, "      %s: ", key_name(c->filter[j].key));
            print_text(p->to, safe);
            putc('\n', p->to);
            free(text);
            free(safe);
        }
        merge_layer(s, &c->layer, true, &m);
        sub.m = &m;
        sub.partial = true;
        sub.indent = 6;
        fprintf(p->to, "    config:%s\n", c->layer.n ? "" : " {}");
        print_section(&sub, "");
        merged_clear(&m);
    }
}

static void print_all(const struct config_sources *s, const struct cfg_process *who, struct printer p)
{
    struct merged m;
    bool first = true;

    merge(s, who, true, &m);
    p.m = &m;
    print_section(&p, "");
    for (size_t i = 0; i < s->file_count; i++) /* which rules name a process is not for scope.yml to say */
        if (!s->files[i]->of_rule)
            print_custom(s, &p, s->files[i], &first);
    merged_clear(&m);
}

void config_print_yaml(const struct config_sources *s, FILE *to, bool origins)
{
    print_all(s, NULL, (struct printer){.to = to, .origins = origins});
}

void config_print_flags(const struct config_sources *s, FILE *to)
{
    struct merged m;
    struct printer p = {.to = to, .m = &m, .secrets = true, .partial = true};

    merge_layer(s, &s->flags, true, &m);
    print_section(&p, "");
    merged_clear(&m);
}

void config_print_whole(const struct config_sources *s, FILE *to)
{
    print_all(s, NULL, (struct printer){.to = to, .secrets = true});
}

void config_print_for(const struct config_sources *s, const uint32_t *rules, size_t count, FILE *to)
{
    const struct cfg_process who = {.rules = rules, .rule_count = count}; /* no custom section fits: they are printed */

    print_all(s, &who, (struct printer){.to = to, .secrets = true});
}
