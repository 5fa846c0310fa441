/* SPDX-License-Identifier: Apache-2.0 */
/* A YAML document as a tree of bounded size; for src/config and src/rules. */
#ifndef SCOPE_CONFIG_TREE_H
#define SCOPE_CONFIG_TREE_H

#include <stdbool.h>
#include <stddef.h>

/* Limits of one document, after its aliases are replaced by what they stand for. */
#define TREE_MAX_FILE (1u << 20)  /* bytes */
#define TREE_MAX_BYTES (4u << 20) /* of all scalars */
#define TREE_MAX_NODES 65536
#define TREE_MAX_DEPTH 32
#define TREE_MAX_ANCHORS 256

enum node_kind { NODE_SCALAR, NODE_SEQ, NODE_MAP };

struct node {
    enum node_kind kind;
    bool plain;    /* scalar without quotes */
    bool flow;     /* list or map in [ ] or { } */
    bool alias;    /* written as one: it is a copy of something above */
    unsigned line; /* from 1 */
    size_t start, end; /* characters before it, and before what follows it, not counting a byte order mark; of an alias
                        * its own, but those of what is in it are where that stands */
    char *text;    /* scalar, NUL-terminated; it may hold further NULs */
    size_t len;
    struct node **items; /* elements, or key, value, key, value, ... */
    size_t n, cap;
};

/* Parses the first document. On success *ret is its root, or NULL for an empty one, and *ret_more tells whether
 * something follows it. On failure returns -EINVAL with malloc'ed *ret_error and *ret_line. */
int tree_parse(const char *text, size_t len, struct node **ret, bool *ret_more, char **ret_error, unsigned *ret_line);
void tree_free(struct node *);
/* True for an empty plain scalar, ~ and null (YAML 1.1 and 1.2). */
bool node_is_null(const struct node *);
const char *node_kind_name(const struct node *);

#endif
