/* SPDX-License-Identifier: Apache-2.0 */
#include "model/images.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "plan/plan.h"
#include "wire/segment.h"

struct image {
    char *name;
    struct rec_sites what; /* key: terminated */
};

struct images {
    unsigned refs, count, room, unlisted;
    struct image *v;
};

struct images *images_ref(struct images *l)
{
    if (l)
        l->refs++;
    return l;
}

void images_unref(struct images *l)
{
    if (!l || --l->refs)
        return;
    for (unsigned i = 0; i < l->count; i++)
        free(l->v[i].name);
    free(l->v);
    free(l);
}

/* A list that is nobody else's. */
static struct images *own(struct images *from)
{
    struct images *l;

    if (from && from->refs == 1)
        return from;
    l = xcalloc(1, sizeof(*l));
    l->refs = 1;
    if (!from)
        return l;
    l->count = l->room = from->count;
    l->unlisted = from->unlisted;
    l->v = xcalloc(from->count + 1, sizeof(*l->v));
    for (unsigned i = 0; i < from->count; i++)
        l->v[i] = (struct image){xstrdup(from->v[i].name), from->v[i].what};
    images_unref(from);
    return l;
}

bool images_has(const struct images *l, const char *name, size_t len, const struct rec_sites *sites)
{
    for (unsigned i = 0; l && i < l->count; i++)
        if (strncmp(l->v[i].what.key, sites->key, sizeof(sites->key)) == 0 && strlen(l->v[i].name) == len &&
            memcmp(l->v[i].name, name, len) == 0)
            return true;
    return false;
}

void images_add(struct images **list, const char *name, size_t len, const struct rec_sites *sites)
{
    struct images *l = *list = own(*list);
    struct image new = {.what = *sites};
    size_t key = strnlen(sites->key, sizeof(sites->key));

    if (key == sizeof(sites->key) || strspn(sites->key, "0123456789abcdef-") < key)
        new.what.key[0] = '\0';
    new.name = xstrndup(name ? name : "", len < SEG_PATH_MAX ? len : SEG_PATH_MAX);
    for (unsigned i = 0; i < l->count; i++)
        if (strcmp(l->v[i].name, new.name) == 0 && strcmp(l->v[i].what.key, new.what.key) == 0) {
            free(l->v[i].name);
            l->v[i] = new;
            return;
        }
    if (l->count == IMAGES_MAX) {
        free(new.name);
        l->unlisted++;
        return;
    }
    if (l->count == l->room) {
        l->room = l->room ? 2 * l->room : 16;
        l->v = xrealloc(l->v, l->room, sizeof(*l->v));
    }
    l->v[l->count++] = new;
}

/* "NAME":{"what":N,...} of the counts that aren't 0. */
static void counts(struct buf *b, const char *name, const uint32_t *n, unsigned count, const char *(*text)(unsigned))
{
    bool any = false;

    buf_printf(b, "\"%s\":{", name);
    for (unsigned i = 0; i < count; i++) {
        if (!n[i])
            continue;
        if (any)
            buf_char(b, ',');
        buf_json_str(b, text(i));
        buf_printf(b, ":%u", n[i]);
        any = true;
    }
    buf_char(b, '}');
}

void images_describe(const struct images *l, struct buf *b)
{
    buf_char(b, '[');
    for (unsigned i = 0; l && i < l->count; i++) {
        const struct image *im = &l->v[i];
        const struct plan_sites *sites = &im->what.sites;

        buf_str(b, i ? ",{\"path\":" : "{\"path\":");
        buf_json_str(b, im->name);
        if (*im->what.key && strncmp(im->what.key, "f-", 2) != 0) { /* else the file has none */
            buf_str(b, ",\"build_id\":");
            buf_json_str(b, im->what.key);
        }
        buf_char(b, ',');
        counts(b, "patched", sites->patched, PLAN_METHODS, plan_method_name);
        buf_char(b, ',');
        counts(b, "refused", sites->refused, PLAN_REASON_MAX, plan_reason_name);
        buf_printf(b, ",\"without_enter_hook\":%u}", sites->partly);
    }
    buf_char(b, ']');
}

static struct buf *begin_way(struct buf *b, const struct image *im, const char *way)
{
    buf_printf(b, "%s{\"way\":\"%s\",\"path\":", b->p[b->len - 1] == '[' ? "" : ",", way);
    buf_json_str(b, im->name);
    return b;
}

void images_describe_tls(const struct images *l, struct buf *b)
{
    static const unsigned vetoes[] = {PLAN_R_UNKNOWN_FORM, PLAN_R_SELF_CHECK};

    buf_char(b, '[');
    for (unsigned i = 0; l && i < l->count; i++) {
        const struct image *im = &l->v[i];
        const struct plan_sites *n = &im->what.sites;

        if (n->functions > n->go_functions)
            buf_printf(begin_way(b, im, "library"), ",\"functions\":%u,\"hooked\":%u}", n->functions - n->go_functions,
                       n->hooked - n->go_hooked);
        if (n->go_functions)
            buf_printf(begin_way(b, im, "go"), ",\"functions\":%u,\"hooked\":%u}", n->go_functions, n->go_hooked);
        if (n->natives)
            buf_printf(begin_way(b, im, "jsse"), ",\"functions\":%u,\"hooked\":%u}", n->natives, n->natives);
        if (n->keys)
            buf_printf(begin_way(b, im, "keys"), ",\"functions\":%u,\"hooked\":%u}", n->keys, n->keys);
        for (unsigned k = 0; k < sizeof(vetoes) / sizeof(*vetoes); k++)
            if (n->refused[vetoes[k]] && !n->go)
                buf_printf(begin_way(b, im, "keys"), ",\"functions\":%u,\"hooked\":0,\"refused\":\"%s\"}",
                           n->refused[vetoes[k]], plan_reason_name(vetoes[k]));
    }
    buf_char(b, ']');
}

void images_functions(const struct images *l, unsigned *ret_hooked, unsigned *ret_found)
{
    *ret_hooked = *ret_found = 0;
    for (unsigned i = 0; l && i < l->count; i++) {
        *ret_hooked += l->v[i].what.sites.hooked;
        *ret_found += l->v[i].what.sites.functions;
    }
}

unsigned images_keys(const struct images *l)
{
    unsigned n = 0;

    for (unsigned i = 0; l && i < l->count; i++)
        n += l->v[i].what.sites.keys;
    return n;
}

unsigned images_refused(const struct images *l, unsigned reason)
{
    unsigned n = 0;

    for (unsigned i = 0; l && reason < PLAN_REASON_MAX && i < l->count; i++)
        n += l->v[i].what.sites.refused[reason];
    return n;
}

unsigned images_go(const struct images *l)
{
    unsigned n = 0;

    for (unsigned i = 0; l && i < l->count; i++)
        n += l->v[i].what.sites.go;
    return n;
}

unsigned images_natives(const struct images *l)
{
    unsigned n = 0;

    for (unsigned i = 0; l && i < l->count; i++)
        n += l->v[i].what.sites.natives;
    return n;
}

unsigned images_unlisted(const struct images *l)
{
    return l ? l->unlisted : 0;
}
