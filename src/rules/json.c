/* SPDX-License-Identifier: Apache-2.0 */
/* Rules as JSON. */
#include "rules/rules.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "config/tree.h"

#define MASK "***"

enum secret { OPEN, SECRET, ENDPOINT };

/* What must not be shown of a configuration (docs/security.md): tokens, headers of requests, what a URL may hold. */
static enum secret secret_of(const struct node *key, const struct node *value)
{
    if (key->kind != NODE_SCALAR)
        return OPEN;
    if (!strcmp(key->text, "authtoken") || (!strcmp(key->text, "headers") && value->kind != NODE_SEQ))
        return SECRET;
    return !strcmp(key->text, "endpoint") ? ENDPOINT : OPEN;
}

/* JSON's numbers (RFC 8259, section 6) that are exact in a double. */
static bool is_number(const char *s)
{
    size_t n = strspn(s, "0123456789");

    if (*s == '-')
        return is_number(s + 1) && s[1] != '-';
    return n && n < 16 && (n == 1 || *s != '0') && (!s[n] || (s[n] == '.' && s[n + 1] && strlen(s) < 18 &&
                                                            !s[n + 1 + strspn(s + n + 1, "0123456789")]));
}

static void put_scalar(struct buf *b, const struct node *n, enum secret secret)
{
    char *shown;

    if (node_is_null(n)) {
        buf_str(b, "null");
    } else if (secret == SECRET) {
        buf_json_str(b, MASK);
    } else if (secret == ENDPOINT) {
        shown = cfg_endpoint_shown(n->text);
        buf_json_str(b, shown);
        free(shown);
    } else if (n->plain && (!strcasecmp(n->text, "true") || !strcasecmp(n->text, "false"))) {
        buf_str(b, (*n->text | 0x20) == 't' ? "true" : "false");
    } else if (n->plain && is_number(n->text)) {
        buf_add(b, n->text, n->len);
    } else {
        buf_json(b, n->text, n->len);
    }
}

static void put_node(struct buf *b, const struct node *n, enum secret secret)
{
    if (n->kind == NODE_SCALAR) {
        put_scalar(b, n, secret);
        return;
    }
    buf_char(b, n->kind == NODE_SEQ ? '[' : '{');
    for (size_t i = 0; i < n->n; i += n->kind == NODE_SEQ ? 1 : 2) {
        const struct node *value = n->items[n->kind == NODE_SEQ ? i : i + 1];
        enum secret inside = secret;

        if (i)
            buf_char(b, ',');
        if (n->kind == NODE_MAP) {
            const struct node *key = n->items[i];

            buf_json(b, key->kind == NODE_SCALAR ? key->text : "", key->kind == NODE_SCALAR ? key->len : 0);
            buf_char(b, ':');
            inside = secret != OPEN ? secret : secret_of(key, value);
        }
        put_node(b, value, inside);
    }
    buf_char(b, n->kind == NODE_SEQ ? ']' : '}');
}

static void put_config(struct buf *b, const char *config)
{
    struct node *root = NULL;
    char *error;
    unsigned line;
    bool more;

    if (tree_parse(config, strlen(config), &root, &more, &error, &line) < 0)
        free(error); /* rules_parse() has accepted it */
    if (root)
        put_node(b, root, OPEN);
    else
        buf_str(b, "{}");
    tree_free(root);
}

static void put_list(struct buf *b, const struct rules *r, enum rules_kind kind, const char *name)
{
    bool first = true;

    buf_json_str(b, name);
    buf_str(b, ":[");
    for (size_t i = 0; i < r->count; i++) {
        const struct rule *rule = &r->rule[i];

        if (rule->kind != kind)
            continue;
        buf_str(b, first ? "{\"procname\":" : ",{\"procname\":");
        first = false;
        buf_json_str(b, rule->procname ? rule->procname : RULES_ANY);
        if (rule->arg) {
            buf_str(b, ",\"arg\":");
            buf_json_str(b, rule->arg);
        }
        if (rule->sourceid) {
            buf_str(b, ",\"sourceid\":");
            buf_json_str(b, rule->sourceid);
        }
        if (rule->config) {
            buf_str(b, ",\"config\":");
            put_config(b, rule->config);
        }
        buf_char(b, '}');
    }
    buf_char(b, ']');
}

void rules_json(const struct rules *r, struct buf *b)
{
    buf_char(b, '{');
    put_list(b, r, RULES_ALLOW, "allow");
    buf_char(b, ',');
    put_list(b, r, RULES_DENY, "deny");
    buf_str(b, ",\"source\":{\"UnixSocketPath\":");
    buf_json_str(b, r->unix_socket_path ? r->unix_socket_path : "");
    buf_str(b, ",\"AuthToken\":");
    buf_json_str(b, r->auth_token ? MASK : "");
    buf_str(b, "},\"sessions\":{");
    if (r->sessions_maxsize)
        buf_printf(b, "\"maxsize\":%llu", (unsigned long long)r->sessions_maxsize);
    if (r->sessions_days)
        buf_printf(b, "%s\"days\":%u", r->sessions_maxsize ? "," : "", r->sessions_days);
    buf_str(b, "}}");
}

bool rules_have_secrets(const struct rules *r)
{
    struct buf b = BUF_INIT;
    bool have;

    rules_json(r, &b);
    have = strstr(buf_cstr(&b), MASK) != NULL; /* an endpoint's, too; perhaps a name's, which does no harm */
    buf_free(&b);
    return have;
}
