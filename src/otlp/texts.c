/* SPDX-License-Identifier: Apache-2.0 */
#include "otlp/texts.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"

#define SLOTS_LEAST 16u

/* --- hash tables --- */

struct entry {
    struct entry *same_slot;
};

static void slots_grow(struct slots *t, uint64_t (*hash_of)(const void *entry))
{
    size_t slots = t->slots ? t->slots * 2 : SLOTS_LEAST;
    void **slot = xcalloc(slots, sizeof(*slot));

    for (size_t i = 0; i < t->slots; i++)
        for (struct entry *e = t->slot[i], *next; e; e = next) {
            void **at = &slot[hash_of(e) & (slots - 1)];

            next = e->same_slot;
            e->same_slot = *at;
            *at = e;
        }
    free(t->slot);
    t->slot = slot;
    t->slots = slots;
}

void slots_add(struct slots *t, void *entry, uint64_t (*hash_of)(const void *entry))
{
    struct entry *e = entry;
    void **at;

    if (t->count >= t->slots)
        slots_grow(t, hash_of);
    at = &t->slot[hash_of(e) & (t->slots - 1)];
    e->same_slot = *at;
    *at = e;
    t->count++;
}

void slots_remove(struct slots *t, void *entry, uint64_t hash)
{
    struct entry *e = entry, *before = t->slot[hash & (t->slots - 1)];

    if (before == e) {
        t->slot[hash & (t->slots - 1)] = e->same_slot;
    } else {
        while (before->same_slot != e)
            before = before->same_slot;
        before->same_slot = e->same_slot;
    }
    t->count--;
}

void slots_free(struct slots *t)
{
    free(t->slot);
}

/* --- texts --- */

static uint64_t hash_text(const void *text)
{
    return ((const struct text *)text)->hash;
}

/* With a seed, as peers choose some of them. */
static uint64_t hash_seeded(uint64_t seed, const char *p, size_t len)
{
    uint64_t h = hash_mix(seed, len);

    for (; len > 8; len -= 8, p += 8)
        h = hash_mix(h, hash_load(p, 8) ^ seed);
    return hash_mix(h, hash_load(p, len) ^ seed);
}

static const struct text *find(const struct texts *t, const char *p, size_t len, uint64_t hash)
{
    const struct text *text = slots_first(&t->table, hash);

    while (text && (text->hash != hash || text->len != len || memcmp(text->p, p, len) != 0))
        text = text->same_slot;
    return text;
}

static const struct text *add(struct texts *t, const char *p, size_t len, uint64_t hash)
{
    struct text *text = xmalloc(sizeof(*text) + len);

    text->hash = hash;
    text->refs = 0;
    text->len = (uint32_t)len;
    memcpy(text->p, p, len);
    slots_add(&t->table, text, hash_text);
    t->bytes += sizeof(*text) + len;
    return text;
}

const struct text *text_of(struct texts *t, const char *p, size_t len, bool make)
{
    uint64_t hash = hash_seeded(t->seed, p, len);
    const struct text *text = find(t, p, len, hash);

    return text || !make ? text : add(t, p, len, hash);
}

void text_ref(const struct text *text)
{
    if (text)
        ((struct text *)text)->refs++;
}

void text_put(struct texts *t, const struct text *text)
{
    if (!text)
        return;
    ((struct text *)text)->refs--;
    text_drop(t, text);
}

void text_drop(struct texts *t, const struct text *text)
{
    if (!text || text->refs)
        return;
    slots_remove(&t->table, (struct text *)text, text->hash);
    t->bytes -= sizeof(*text) + text->len;
    free((struct text *)text);
}

void texts_release(struct texts *t)
{
    slots_free(&t->table);
    buf_free(&t->scratch);
}

/* Valid UTF-8 of at most TEXT_MAX bytes. */
static void clean(struct buf *b, const char *p, size_t len)
{
    buf_reset(b);
    for (size_t i = 0; i < len;) {
        unsigned n = utf8_sequence(p + i, len - i);

        if (b->len + (n ? n : 3) > TEXT_MAX)
            return;
        if (n)
            buf_add(b, p + i, n);
        else
            buf_str(b, "\xef\xbf\xbd"); /* U+FFFD */
        i += n ? n : 1;
    }
}

static bool is_clean(const char *p, size_t len)
{
    unsigned n;

    for (size_t i = 0; i < len; i += n) {
        n = (unsigned char)p[i] < 0x80 ? 1 : utf8_sequence(p + i, len - i);
        if (!n)
            return false;
    }
    return len <= TEXT_MAX;
}

const struct text *text_cleaned(struct texts *t, const char *p, size_t len, bool make)
{
    uint64_t hash = hash_seeded(t->seed, p, len);
    const struct text *text = find(t, p, len, hash);

    if (text)
        return text;
    if (is_clean(p, len))
        return make ? add(t, p, len, hash) : NULL;
    clean(&t->scratch, p, len);
    return text_of(t, t->scratch.p, t->scratch.len, make);
}
