/* SPDX-License-Identifier: Apache-2.0 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "telemetry/filter.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"

#define CACHE_SLOTS  256
#define CACHE_NAME   112       /* longer names are matched each time */
#define MATCH_LIMIT  200000    /* steps; a pattern that explodes counts as no match */
#define HEAP_KIB     4096

struct slot {
    uint16_t len;
    bool used, match;
    char name[CACHE_NAME];
};

struct filter {
    bool all;
    pcre2_code *code;
    pcre2_match_data *data;
    pcre2_match_context *context;
    struct slot *cache;
};

static bool trivial(const char *pattern)
{
    static const char *const all[] = {"", ".*", "^.*", ".*$", "^.*$", "(.*)", "^", "$"};

    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        if (strcmp(pattern, all[i]) == 0)
            return true;
    return false;
}

static pcre2_code *compile(const char *pattern)
{
    PCRE2_SIZE at;
    int error;
    /* Bytes, not UTF-8: paths and output may hold anything. */
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, 0, &error, &at, NULL);

    if (!code) {
        PCRE2_UCHAR text[120];

        pcre2_get_error_message(error, text, sizeof(text));
        log_warning("filter '%s': %s at offset %zu; the default is used", pattern, (char *)text, (size_t)at);
    }
    return code;
}

struct filter *filter_new(const char *pattern, const char *fallback)
{
    struct filter *f = xcalloc(1, sizeof(*f));

    f->all = trivial(pattern);
    if (f->all)
        return f;
    f->code = compile(pattern);
    if (!f->code) {
        f->all = trivial(fallback);
        f->code = f->all ? NULL : compile(fallback);
        if (!f->code) {
            f->all = true;
            return f;
        }
    }
    pcre2_jit_compile(f->code, PCRE2_JIT_COMPLETE); /* without it matching is merely slower */
    f->data = pcre2_match_data_create(1, NULL);
    f->context = pcre2_match_context_create(NULL);
    if (!f->data || !f->context)
        abort(); /* out of memory */
    pcre2_set_match_limit(f->context, MATCH_LIMIT);
    pcre2_set_heap_limit(f->context, HEAP_KIB);
    f->cache = xcalloc(CACHE_SLOTS, sizeof(*f->cache));
    return f;
}

void filter_free(struct filter *f)
{
    if (!f)
        return;
    pcre2_code_free(f->code);
    pcre2_match_data_free(f->data);
    pcre2_match_context_free(f->context);
    free(f->cache);
    free(f);
}

bool filter_matches_all(const struct filter *f)
{
    return f->all;
}

bool filter_match(const struct filter *f, const char *text, size_t len)
{
    int rc;

    if (f->all)
        return true;
    if (!text)
        text = "", len = 0;
    rc = pcre2_match(f->code, (PCRE2_SPTR)text, len, 0, 0, f->data, f->context);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(f->code, (PCRE2_SPTR)text, len, 0, PCRE2_NO_JIT, f->data, f->context);
    return rc >= 0;
}

bool filter_match_name(struct filter *f, const char *text, size_t len)
{
    struct slot *s;

    if (f->all)
        return true;
    if (len > CACHE_NAME)
        return filter_match(f, text, len);
    s = &f->cache[hash_bytes(text, len) % CACHE_SLOTS];
    if (!s->used || s->len != len || memcmp(s->name, text, len) != 0) {
        s->match = filter_match(f, text, len);
        s->used = true;
        s->len = (uint16_t)len;
        memcpy(s->name, text, len);
    }
    return s->match;
}
