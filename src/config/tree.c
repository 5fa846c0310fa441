/* SPDX-License-Identifier: Apache-2.0 */
#include "config/tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/mem.h"

struct anchor {
    char *name;
    const struct node *node;
};

struct builder {
    struct node *stack[TREE_MAX_DEPTH];
    unsigned depth;
    struct node *root;
    size_t nodes, bytes;
    struct anchor anchors[TREE_MAX_ANCHORS];
    size_t anchor_count;
    char *error;
    unsigned line;
};

void tree_free(struct node *n)
{
    if (!n)
        return;
    for (size_t i = 0; i < n->n; i++)
        tree_free(n->items[i]);
    free(n->items);
    free(n->text);
    free(n);
}

bool node_is_null(const struct node *n)
{
    return n->kind == NODE_SCALAR && n->plain &&
           (n->len == 0 || !strcmp(n->text, "~") || !strcmp(n->text, "null") || !strcmp(n->text, "Null") ||
            !strcmp(n->text, "NULL"));
}

const char *node_kind_name(const struct node *n)
{
    static const char *const names[] = {"a single value", "a list", "a map"};

    return node_is_null(n) ? "nothing" : names[n->kind];
}

static int fail(struct builder *b, unsigned line, const char *text)
{
    if (!b->error) {
        b->error = xstrdup(text);
        b->line = line;
    }
    return -EINVAL;
}

static void append(struct node *to, struct node *item)
{
    if (to->n == to->cap) {
        to->cap = to->cap ? to->cap * 2 : 4;
        to->items = xrealloc(to->items, to->cap, sizeof(*to->items));
    }
    to->items[to->n++] = item;
}

/* A new node, already owned by its parent; NULL if a limit is reached. */
static struct node *add(struct builder *b, enum node_kind kind, unsigned line, const char *text, size_t len)
{
    struct node *n;

    b->bytes += len;
    if (++b->nodes > TREE_MAX_NODES || b->bytes > TREE_MAX_BYTES) {
        fail(b, line, "the document is too large (aliases count with what they stand for)");
        return NULL;
    }
    n = xcalloc(1, sizeof(*n));
    n->kind = kind;
    n->line = line;
    if (kind == NODE_SCALAR) {
        n->text = xmalloc(len + 1);
        memcpy(n->text, text, len);
        n->text[len] = 0;
        n->len = len;
    }
    if (b->depth)
        append(b->stack[b->depth - 1], n);
    else
        b->root = n;
    return n;
}

static int push(struct builder *b, struct node *n)
{
    if (b->depth == TREE_MAX_DEPTH)
        return fail(b, n->line, "nested more than 32 levels deep");
    b->stack[b->depth++] = n;
    return 0;
}

static int remember(struct builder *b, const yaml_char_t *name, const struct node *n)
{
    if (!name)
        return 0;
    if (b->anchor_count == TREE_MAX_ANCHORS)
        return fail(b, n->line, "more than 256 anchors");
    b->anchors[b->anchor_count++] = (struct anchor){xstrdup((const char *)name), n};
    return 0;
}

/* The list or map that was begun last ends. */
static void pop(struct builder *b, const yaml_event_t *ev)
{
    struct node *n = b->stack[--b->depth];

    /* The events of one without brackets end where the next thing begins. */
    if (n->flow)
        n->end = ev->end_mark.index;
    else if (n->n)
        n->end = n->items[n->n - 1]->end;
}

static int copy(struct builder *b, const struct node *from, unsigned line)
{
    struct node *n = add(b, from->kind, line, from->text, from->len);

    if (!n)
        return -EINVAL;
    n->plain = from->plain;
    n->flow = from->flow;
    n->start = from->start;
    n->end = from->end;
    if (from->kind == NODE_SCALAR)
        return 0;
    if (push(b, n) < 0)
        return -EINVAL;
    for (size_t i = 0; i < from->n; i++)
        if (copy(b, from->items[i], from->items[i]->line) < 0)
            return -EINVAL;
    b->depth--;
    return 0;
}

static int alias(struct builder *b, const yaml_char_t *name, const yaml_event_t *ev)
{
    unsigned line = (unsigned)ev->start_mark.line + 1;
    const struct node *parent = b->depth ? b->stack[b->depth - 1] : NULL;
    struct node *n;

    for (size_t i = b->anchor_count; i-- > 0;) {
        if (strcmp(b->anchors[i].name, (const char *)name) != 0)
            continue;
        for (unsigned d = 0; d < b->depth; d++)
            if (b->stack[d] == b->anchors[i].node)
                return fail(b, line, "an alias refers to a node that contains it");
        if (copy(b, b->anchors[i].node, line) < 0)
            return -EINVAL;
        n = parent ? parent->items[parent->n - 1] : b->root;
        n->alias = true;
        n->start = ev->start_mark.index;
        n->end = ev->end_mark.index;
        return 0;
    }
    return fail(b, line, "an alias refers to an anchor that isn't defined above it");
}

/* 0: go on, 1: the document is complete. */
static int take(struct builder *b, const yaml_event_t *ev)
{
    unsigned line = (unsigned)ev->start_mark.line + 1;
    struct node *n;

    switch (ev->type) {
    case YAML_SCALAR_EVENT:
        n = add(b, NODE_SCALAR, line, (const char *)ev->data.scalar.value, ev->data.scalar.length);
        if (!n)
            return -EINVAL;
        n->plain = ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
        n->start = ev->start_mark.index;
        n->end = ev->end_mark.index;
        return remember(b, ev->data.scalar.anchor, n);
    case YAML_SEQUENCE_START_EVENT:
        n = add(b, NODE_SEQ, line, NULL, 0);
        if (!n || push(b, n) < 0)
            return -EINVAL;
        n->start = n->end = ev->start_mark.index;
        n->flow = ev->data.sequence_start.style == YAML_FLOW_SEQUENCE_STYLE;
        return remember(b, ev->data.sequence_start.anchor, n);
    case YAML_MAPPING_START_EVENT:
        n = add(b, NODE_MAP, line, NULL, 0);
        if (!n || push(b, n) < 0)
            return -EINVAL;
        n->start = n->end = ev->start_mark.index;
        n->flow = ev->data.mapping_start.style == YAML_FLOW_MAPPING_STYLE;
        return remember(b, ev->data.mapping_start.anchor, n);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        pop(b, ev);
        return 0;
    case YAML_ALIAS_EVENT:
        return alias(b, ev->data.alias.anchor, ev);
    case YAML_DOCUMENT_END_EVENT:
    case YAML_STREAM_END_EVENT:
        return 1;
    default:
        return 0;
    }
}

int tree_parse(const char *text, size_t len, struct node **ret, bool *ret_more, char **ret_error, unsigned *ret_line)
{
    struct builder *b;
    yaml_parser_t parser;
    yaml_event_t ev;
    int r = 0;

    *ret = NULL;
    *ret_more = false;
    *ret_error = NULL;
    *ret_line = 0;
    if (len > TREE_MAX_FILE) {
        *ret_error = xstrdup("larger than 1 MiB");
        return -EINVAL;
    }
    if (!yaml_parser_initialize(&parser)) {
        *ret_error = xstrdup("out of memory");
        return -EINVAL;
    }
    b = xcalloc(1, sizeof(*b));
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
    while (r == 0) {
        if (!yaml_parser_parse(&parser, &ev)) {
            const char *problem = parser.problem ? parser.problem : "unreadable";

            b->error = parser.context ? xasprintf("not YAML: %s (%s)", problem, parser.context)
                                      : xasprintf("not YAML: %s", problem);
            b->line = (unsigned)(parser.error == YAML_READER_ERROR ? 0 : parser.problem_mark.line + 1);
            r = -EINVAL;
            break;
        }
        r = take(b, &ev);
        if (r == 1 && ev.type == YAML_DOCUMENT_END_EVENT) {
            yaml_event_delete(&ev);
            *ret_more = !yaml_parser_parse(&parser, &ev) || ev.type != YAML_STREAM_END_EVENT;
        }
        yaml_event_delete(&ev);
    }
    yaml_parser_delete(&parser);
    for (size_t i = 0; i < b->anchor_count; i++)
        free(b->anchors[i].name);
    if (r < 0) {
        tree_free(b->root);
        *ret_error = b->error;
        *ret_line = b->line;
    } else {
        *ret = b->root;
        r = 0;
    }
    free(b);
    return r;
}
