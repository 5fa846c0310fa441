/* SPDX-License-Identifier: Apache-2.0 */
#include "report/watchlist.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "config/config.h"

struct network {
    uint8_t address[16];
    unsigned bits;
    int32_t rule;
};

struct host_name {
    char *text;
    int32_t rule;
};

struct peer_list {
    struct network *net;
    struct host_name *name;
    size_t nets, names;
    bool sorted;
};

struct peer_list *peer_list_new(void)
{
    return xcalloc(1, sizeof(struct peer_list));
}

void peer_list_free(struct peer_list *l)
{
    if (!l)
        return;
    for (size_t i = 0; i < l->names; i++)
        free(l->name[i].text);
    free(l->name);
    free(l->net);
    free(l);
}

void peer_list_add(struct peer_list *l, const char *entry, int32_t rule)
{
    struct cfg_peer p;
    const char *error;

    if (cfg_peer_parse(entry, &p, &error) < 0)
        return;
    l->sorted = false;
    if (p.name) {
        l->name = xrealloc(l->name, l->names + 1, sizeof(*l->name));
        l->name[l->names++] = (struct host_name){xstrdup(p.text), rule};
        return;
    }
    l->net = xrealloc(l->net, l->nets + 1, sizeof(*l->net));
    l->net[l->nets] = (struct network){.bits = p.bits, .rule = rule};
    memcpy(l->net[l->nets++].address, p.address, sizeof(p.address));
}

bool peer_list_empty(const struct peer_list *l)
{
    return !l->nets && !l->names;
}

bool peer_list_has_names(const struct peer_list *l)
{
    return l->names > 0;
}

/* The smallest networks first. */
static int compare_networks(const void *a, const void *b)
{
    const struct network *x = a, *y = b;

    if (x->bits != y->bits)
        return x->bits > y->bits ? -1 : 1;
    return memcmp(x->address, y->address, sizeof(x->address));
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct host_name *)a)->text, ((const struct host_name *)b)->text);
}

static void sort(struct peer_list *l)
{
    if (l->nets)
        qsort(l->net, l->nets, sizeof(*l->net), compare_networks);
    if (l->names)
        qsort(l->name, l->names, sizeof(*l->name), compare_names);
    l->sorted = true;
}

static bool bytes_of(const union address *a, uint8_t ret[16])
{
    if (a->family == AF_INET6) {
        memcpy(ret, &a->in6.sin6_addr, 16);
        return true;
    }
    if (a->family != AF_INET)
        return false;
    memset(ret, 0, 10);
    memset(ret + 10, 0xff, 2);
    memcpy(ret + 12, &a->in.sin_addr, 4);
    return true;
}

/* The first with so many bits from `from` on that there are; and where those with fewer begin. */
static size_t end_of_bits(const struct peer_list *l, size_t from)
{
    size_t low = from, high = l->nets;
    unsigned bits = l->net[from].bits;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (l->net[middle].bits == bits)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int32_t peer_list_find(const struct peer_list *list, const union address *a)
{
    struct peer_list *l = (struct peer_list *)list; /* it is sorted when it is first needed */
    struct network key, *at;

    if (!l->nets || !bytes_of(a, key.address))
        return -1;
    if (!l->sorted)
        sort(l);
    for (size_t from = 0, end; from < l->nets; from = end) {
        end = end_of_bits(l, from);
        key.bits = l->net[from].bits;
        /* Prefixes get shorter, so that what was cut off before isn't needed again. */
        for (unsigned bit = key.bits / 8 * 8; bit < 128; bit += 8)
            key.address[bit / 8] &= bit < key.bits ? (uint8_t) ~(0xffu >> (key.bits - bit)) : 0;
        at = bsearch(&key, l->net + from, end - from, sizeof(key), compare_networks);
        if (at)
            return at->rule;
    }
    return -1;
}

int32_t peer_list_find_name(const struct peer_list *list, const char *name, size_t len)
{
    struct peer_list *l = (struct peer_list *)list;
    char text[256 + 2], *p = text + 2;
    struct host_name key, *at;

    if (!l->names)
        return -1;
    if (len && name[len - 1] == '.')
        len--;
    if (!len || len > 253)
        return -1;
    if (!l->sorted)
        sort(l);
    for (size_t i = 0; i < len; i++)
        p[i] = (char)tolower((unsigned char)name[i]);
    p[len] = 0;
    key.text = p;
    at = bsearch(&key, l->name, l->names, sizeof(key), compare_names);
    while (!at && (p = strchr(p, '.'))) {
        key.text = p - 1;
        p[-1] = '*'; /* over the name below, which isn't needed any more */
        at = bsearch(&key, l->name, l->names, sizeof(key), compare_names);
        p++;
    }
    return at ? at->rule : -1;
}

/* --- addresses of names --- */

struct address_names {
    struct named {
        uint8_t address[16];
        uint32_t uid;
        char *name; /* NULL: none */
        uint64_t used;
    } v[ADDRESS_NAMES];
    uint64_t clock;
};
#define WAYS 8u /* places that an address may have */

struct address_names *address_names_new(void)
{
    return xcalloc(1, sizeof(struct address_names));
}

void address_names_free(struct address_names *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < ADDRESS_NAMES; i++)
        free(t->v[i].name);
    free(t);
}

static uint32_t hash(const uint8_t address[16])
{
    uint32_t h = 2166136261u; /* FNV-1a */

    for (size_t i = 0; i < 16; i++)
        h = (h ^ address[i]) * 16777619u;
    return h;
}

static struct named *places(const struct address_names *t, uint32_t uid, const uint8_t address[16])
{
    return (struct named *)t->v + (hash(address) ^ uid) % (ADDRESS_NAMES / WAYS) * WAYS;
}

static bool is_named(const struct named *place, uint32_t uid, const uint8_t address[16])
{
    return place->name && place->uid == uid && memcmp(place->address, address, 16) == 0;
}

static unsigned places_of(const struct named place[WAYS], uint32_t uid)
{
    unsigned n = 0;

    for (unsigned i = 0; i < WAYS; i++)
        n += place[i].uid == uid;
    return n;
}

/* Of places that are all taken, the one that a further address of this user gets: the oldest of whoever has the most,
 * the user itself before others. */
static struct named *to_replace(struct named place[WAYS], uint32_t uid)
{
    struct named *found = NULL;
    unsigned most = 0;

    for (unsigned i = 0; i < WAYS; i++) {
        unsigned n = 2 * places_of(place, place[i].uid) + (place[i].uid == uid);

        if (!found || n > most || (n == most && place[i].used < found->used)) {
            found = &place[i];
            most = n;
        }
    }
    return found;
}

void address_names_add(struct address_names *t, uint32_t uid, const char *text, size_t len, const char *name,
                       size_t name_len)
{
    uint8_t address[16] = {[10] = 0xff, [11] = 0xff};
    struct named *place, *to = NULL;
    char copy[INET6_ADDRSTRLEN];

    if (len >= sizeof(copy))
        return;
    memcpy(copy, text, len);
    copy[len] = 0;
    if (inet_pton(AF_INET, copy, address + 12) != 1 && inet_pton(AF_INET6, copy, address) != 1)
        return;
    place = places(t, uid, address);
    for (unsigned i = 0; i < WAYS && !to; i++)
        if (!place[i].name || is_named(&place[i], uid, address))
            to = &place[i];
    if (!to)
        to = to_replace(place, uid);
    free(to->name);
    to->name = xstrndup(name, name_len);
    memcpy(to->address, address, 16);
    to->uid = uid;
    to->used = ++t->clock;
}

const char *address_names_find(const struct address_names *t, uint32_t uid, const union address *a)
{
    const struct named *place;
    uint8_t address[16];

    if (!bytes_of(a, address))
        return NULL;
    place = places(t, uid, address);
    for (unsigned i = 0; i < WAYS; i++)
        if (is_named(&place[i], uid, address))
            return place[i].name;
    return NULL;
}
