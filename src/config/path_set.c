/* SPDX-License-Identifier: Apache-2.0 */
#include "config/path_set.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* Answers for names that recur: most do. */
#define KNOWN 512u     /* a power of two */
#define KNOWN_PATH 96u /* bytes; longer names are looked up each time */

struct entry {
    char *text;          /* without ! and with / only between its components; of an anchored one without the first / */
    size_t len, first;   /* bytes of it all, and of its first component */
    int32_t order, next; /* next in its bucket, or of those with wildcards: index, -1: none */
    int32_t rule;
    uint8_t list;
    bool anchored, except, wild;
};

struct path_set {
    struct entry *v;
    int32_t n, cap;
    int32_t *bucket;  /* of entries without wildcards: anchored ones by their text, others by their first component */
    uint32_t buckets; /* a power of two; 0: to be made */
    int32_t wild;     /* first of those with wildcards */
    uint64_t steps;   /* path_set_steps() */
    struct known {
        uint32_t len; /* 0: none */
        int32_t rule[PATH_LISTS];
        char path[KNOWN_PATH];
    } known[KNOWN];
    int32_t rule[PATH_LISTS];
};

struct path_set *path_set_new(void)
{
    struct path_set *s = xcalloc(1, sizeof(*s));

    s->wild = -1;
    return s;
}

void path_set_free(struct path_set *s)
{
    if (!s)
        return;
    for (int32_t i = 0; i < s->n; i++)
        free(s->v[i].text);
    free(s->v);
    free(s->bucket);
    free(s);
}

static void add_entry(struct path_set *s, unsigned list, bool except, int32_t rule, const char *text)
{
    struct entry *e;

    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 64;
        s->v = xrealloc(s->v, (size_t)s->cap, sizeof(*s->v));
    }
    e = &s->v[s->n];
    *e = (struct entry){
        .order = s->n, .next = -1, .rule = rule, .list = (uint8_t)list, .except = except, .anchored = *text == '/'};
    text += strspn(text, "/");
    e->len = strlen(text);
    while (e->len && text[e->len - 1] == '/')
        e->len--;
    if (!e->len)
        return;
    e->text = xstrndup(text, e->len);
    e->first = strcspn(e->text, "/");
    e->wild = strpbrk(e->text, "*?");
    s->n++;
    s->buckets = 0;
    memset(s->known, 0, sizeof(s->known));
}

void path_set_add(struct path_set *s, unsigned list, const char *entry, int32_t rule, const char *home)
{
    bool except = *entry == '!';
    const char *p = entry + except;
    char *whole;

    if (strncmp(p, "~/", 2) != 0) {
        add_entry(s, list, except, rule, p);
        return;
    }
    whole = xasprintf("/root/%s", p + 2);
    add_entry(s, list, except, rule, whole);
    free(whole);
    whole = xasprintf("/home/*/%s", p + 2);
    add_entry(s, list, except, rule, whole);
    free(whole);
    if (home && *home == '/' && home[1]) {
        struct entry *e;

        whole = xasprintf("%s/%s", home, p + 2);
        add_entry(s, list, except, rule, whole);
        e = &s->v[s->n - 1];
        e->wild = e->wild && strpbrk(p, "*?"); /* no wildcards are in a directory's name */
        free(whole);
    }
}

#define HASH_START 2166136261u /* FNV-1a */
static inline uint32_t hash_byte(uint32_t h, char c)
{
    return (h ^ (unsigned char)c) * 16777619u;
}

static uint32_t hash(const char *p, size_t len)
{
    uint32_t h = HASH_START;

    for (size_t i = 0; i < len; i++)
        h = hash_byte(h, p[i]);
    return h;
}

static void make_buckets(struct path_set *s)
{
    s->buckets = 64;
    while (s->buckets < (uint32_t)s->n * 2)
        s->buckets *= 2;
    free(s->bucket);
    s->bucket = xmalloc(s->buckets * sizeof(*s->bucket));
    memset(s->bucket, 0xff, s->buckets * sizeof(*s->bucket));
    s->wild = -1;
    for (int32_t i = 0; i < s->n; i++) {
        struct entry *e = &s->v[i];
        int32_t *to =
            e->wild ? &s->wild : &s->bucket[hash(e->text, e->anchored ? e->len : e->first) & (s->buckets - 1)];

        e->next = *to;
        *to = i;
    }
}

/* One component: * is any number of bytes, ? is one. */
static bool component_fits(const char *p, size_t plen, const char *s, size_t len)
{
    size_t i = 0, k = 0, star = SIZE_MAX, from = 0;

    while (k < len) {
        if (i < plen && p[i] == '*') {
            star = i++;
            from = k;
        } else if (i < plen && (p[i] == '?' || p[i] == s[k])) {
            i++;
            k++;
        } else if (star != SIZE_MAX) {
            i = star + 1;
            k = ++from;
        } else {
            return false;
        }
    }
    while (i < plen && p[i] == '*')
        i++;
    return i == plen;
}

static size_t component_end(const char *s, size_t at, size_t len)
{
    const char *slash = memchr(s + at, '/', len - at);

    return slash ? (size_t)(slash - s) : len;
}

/* Whether the pattern fits components of a name from `at` on, or from a later one unless it is anchored, and maybe more
 * follow. What fits before a ** as early as it can leaves the most for what comes behind it: that never begins anew. */
static bool pattern_fits(struct path_set *s, const struct entry *e, const char *path, size_t at, size_t len)
{
    size_t i = 0, again = e->anchored ? SIZE_MAX : 0, again_at = at;

    for (;;) {
        size_t pend, end;

        if (i > e->len) /* all of it */
            return true;
        pend = component_end(e->text, i, e->len);
        if (pend - i == 2 && e->text[i] == '*' && e->text[i + 1] == '*') {
            again = i = pend + 1;
            again_at = at;
            continue;
        }
        if (at > len)
            return false;
        end = component_end(path, at, len);
        s->steps++;
        if (component_fits(e->text + i, pend - i, path + at, end - at)) {
            i = pend + 1;
            at = end + 1;
        } else if (again != SIZE_MAX) {
            again_at = component_end(path, again_at, len) + 1;
            i = again;
            at = again_at;
        } else {
            return false;
        }
    }
}

struct search {
    struct path_set *s;
    int32_t best[PATH_LISTS]; /* index of an entry, -1: none */
};

static inline void found(struct search *x, const struct entry *e)
{
    if (e->order > x->best[e->list])
        x->best[e->list] = e->order;
}

/* Entries that begin with a component, or are all that stands before its end. */
static void look_up(struct search *x, uint32_t h, bool anchored, const char *path, size_t from, size_t end, size_t len)
{
    for (int32_t i = x->s->bucket[h & (x->s->buckets - 1)]; i >= 0; i = x->s->v[i].next) {
        const struct entry *e = &x->s->v[i];

        if (e->anchored != anchored || (anchored ? e->len : e->first) != end - from || e->len > len - from ||
            memcmp(e->text, path + from, e->len) != 0)
            continue;
        if (from + e->len == len || path[from + e->len] == '/')
            found(x, e);
    }
}

static void search(struct search *x, const char *path, size_t len)
{
    size_t start = len && *path == '/';
    uint32_t whole = HASH_START;

    for (size_t at = start; at < len;) {
        uint32_t one = HASH_START;
        size_t end = at;

        for (; end < len && path[end] != '/'; end++) {
            one = hash_byte(one, path[end]);
            whole = hash_byte(whole, path[end]);
        }
        if (start)
            look_up(x, whole, true, path, start, end, len);
        look_up(x, one, false, path, at, end, len);
        whole = hash_byte(whole, '/');
        at = end + 1;
    }
    for (int32_t i = x->s->wild; i >= 0; i = x->s->v[i].next) {
        const struct entry *e = &x->s->v[i];

        if (e->order < x->best[e->list])
            continue;
        if ((e->anchored ? start > 0 : start < len) && pattern_fits(x->s, e, path, start, len))
            found(x, e);
    }
}

static uint32_t sample(const char *path, size_t len)
{
    uint64_t a, b = 0;

    if (len < 8) {
        memcpy(&b, path, len);
        a = len;
    } else {
        memcpy(&a, path + len - 8, 8);
        memcpy(&b, path + len / 2 - 4, 8);
    }
    a = (a ^ len) * UINT64_C(0x9e3779b97f4a7c15) ^ b;
    a *= UINT64_C(0xff51afd7ed558ccd);
    return (uint32_t)(a >> 40) & (KNOWN - 1);
}

const int32_t *path_set_find(struct path_set *s, const char *path, size_t len)
{
    struct known *k = NULL;
    int32_t *ret = s->rule;
    struct search x = {.s = s};

    if (len && len <= KNOWN_PATH) {
        k = &s->known[sample(path, len)];
        ret = k->rule;
        if (k->len == len && memcmp(k->path, path, len) == 0)
            return ret;
    }
    if (!s->buckets)
        make_buckets(s);
    memset(x.best, 0xff, sizeof(x.best));
    search(&x, path, len);
    for (int i = 0; i < PATH_LISTS; i++)
        ret[i] = x.best[i] < 0 || s->v[x.best[i]].except ? -1 : s->v[x.best[i]].rule;
    if (k) {
        k->len = (uint32_t)len;
        memcpy(k->path, path, len);
    }
    return ret;
}

uint64_t path_set_steps(const struct path_set *s)
{
    return s->steps;
}
