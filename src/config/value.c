/* SPDX-License-Identifier: Apache-2.0 */
/* From text to the members of struct config and back. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/buf.h"
#include "base/mem.h"
#include "config/schema.h"

bool parse_bool(const char *text, bool *ret)
{
    /* YAML 1.1 (https://yaml.org/type/bool.html) and 1.2 (core schema). */
    static const char *const words[] = {"true", "yes", "on", "y", "false", "no", "off", "n"};

    for (size_t i = 0; i < 8; i++) {
        const char *w = words[i];
        size_t len = strlen(w);
        bool lower = !strcmp(text, w), upper = !lower && strlen(text) == len, title = upper;

        for (size_t j = 0; j < len && (upper || title); j++) {
            upper = upper && text[j] == toupper((unsigned char)w[j]);
            title = title && text[j] == (j ? w[j] : toupper((unsigned char)w[j]));
        }
        if (lower || upper || title) {
            *ret = i < 4;
            return true;
        }
    }
    return false;
}

bool valid_text(const char *s, bool multiline)
{
    size_t len = strlen(s);

    for (size_t i = 0; i < len;) {
        unsigned n = utf8_sequence(s + i, len - i);
        unsigned char c = (unsigned char)s[i];

        if (n == 0 || c == 0x7f || (c < 0x20 && !(multiline && (c == '\n' || c == '\t' || c == '\r'))))
            return false;
        i += n;
    }
    return true;
}

bool valid_pattern(const char *s)
{
    size_t len = strlen(s);

    for (size_t i = 0; i < len;) {
        unsigned n = utf8_sequence(s + i, len - i);

        if (n == 0)
            return false;
        i += n;
    }
    return true;
}

char *check_regex(const char *pattern)
{
    PCRE2_UCHAR message[120];
    PCRE2_SIZE at = 0;
    int code = 0;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, 0, &code, &at, NULL);

    if (re) {
        pcre2_code_free(re);
        return NULL;
    }
    if (pcre2_get_error_message(code, message, sizeof(message)) < 0)
        message[0] = 0;
    return xasprintf("the pattern can't be compiled: %s (at byte %zu)", (char *)message, (size_t)at + 1);
}

char *check_tag_name(const char *name)
{
    /* Members of the event envelope and of metrics (docs/data-model.md): a tag must not hide them. */
    static const char *const reserved[] = {
        "type",   "body", "id",      "_channel", "sourcetype", "source",  "_time",
        "host",   "proc", "cmd",     "pid",      "data",       "_metric", "_metric_type",
        "_value", "unit", "summary", "uuid",     "authToken",  "format",  "info",
    };

    if (!*name)
        return xstrdup("a tag needs a name");
    if (strlen(name) > 255)
        return xstrdup("the name of a tag can't be longer than 255 bytes");
    if (!valid_text(name, false))
        return xstrdup("the name of a tag can't have control characters and must be UTF-8");
    for (size_t i = 0; i < sizeof(reserved) / sizeof(*reserved); i++)
        if (!strcmp(name, reserved[i]))
            return xasprintf("\"%s\" is a name that events and metrics use themselves; choose another name", name);
    return NULL;
}

static bool valid_host(const char *s)
{
    size_t len = strlen(s);
    bool v6 = strchr(s, ':');

    if (len == 0 || len > 253)
        return false;
    /* Names as in RFC 1123, with the underscore that container networks use; addresses; a zone after %. */
    for (const char *p = s; *p; p++)
        if (!isalnum((unsigned char)*p) && *p != '.' && *p != '-' && *p != '_' && !(v6 && (*p == ':' || *p == '%')))
            return false;
    return true;
}

static bool valid_port(const char *s)
{
    size_t len = strlen(s), digits = strspn(s, "0123456789");

    if (len == 0 || len > 63)
        return false;
    if (digits == len) {
        unsigned long n = strtoul(s, NULL, 10);

        return len <= 5 && n <= 65535; /* 0: transport_remark() */
    }
    for (const char *p = s; *p; p++)
        if (!isalnum((unsigned char)*p) && *p != '-' && *p != '_' && *p != '.' && *p != '+')
            return false;
    return true;
}

static int refuse(const struct key *k, const char *text, struct complaint *c)
{
    char *expected;

    if (!c)
        return -EINVAL;
    expected = key_expected(k);
    c->fatal = true;
    if (k->secret)
        c->text = xasprintf("the value can't be used; expected %s", expected);
    else
        c->text = xasprintf("\"%.200s\" can't be used; expected %s", text, expected);
    if (k->kind == KEY_WORD) {
        struct guess g = {.word = text};

        for (size_t i = 0; k->words[i]; i++)
            if (!k->word_mask || k->word_mask & 1u << i)
                guess_try(&g, k->words[i]);
        if (g.ret) {
            char *longer = xasprintf("%s; did you mean %s?", c->text, g.ret);

            free(c->text);
            c->text = longer;
        }
    }
    free(expected);
    return -EINVAL;
}

static int complain(struct complaint *c, bool fatal, char *text)
{
    if (c) {
        c->text = text;
        c->fatal = fatal;
    } else {
        free(text);
    }
    return fatal ? -EINVAL : 0;
}

static void store_string(void *at, char *text)
{
    char *old;

    memcpy(&old, at, sizeof(old));
    free(old);
    memcpy(at, &text, sizeof(text));
}

static int store_uint(const struct key *k, void *at, const char *text, struct complaint *c)
{
    size_t len = strlen(text);
    unsigned long long n;
    unsigned value;
    int r = 0;

    if (len == 0 || strspn(text, "0123456789") != len)
        return refuse(k, text, c);
    errno = 0;
    n = strtoull(text, NULL, 10);
    if (errno || n > k->max) {
        if (!k->clamp)
            return refuse(k, text, c);
        n = k->max;
        if (c)
            r = complain(c, false, xasprintf("%.200s is too large; %llu is used", text, n));
    }
    if (n < k->min)
        return refuse(k, text, c);
    value = (unsigned)n;
    if (at)
        memcpy(at, &value, sizeof(value));
    return r;
}

static int store_int(const struct key *k, void *at, const char *text, struct complaint *c)
{
    char *end;
    long long n;
    int value;

    if (!*text || text[strspn(text, "-0123456789")])
        return refuse(k, text, c);
    errno = 0;
    n = strtoll(text, &end, 10);
    if (errno || *end || n < (int64_t)k->min || n > (int64_t)k->max)
        return refuse(k, text, c);
    value = (int)n;
    if (at)
        memcpy(at, &value, sizeof(value));
    return 0;
}

/* Bytes in one of a unit's name; 0: it isn't one. */
static uint64_t unit_bytes(const char *name)
{
    static const char letters[] = "KMGT";
    const char *at = *name ? strchr(letters, toupper((unsigned char)*name)) : NULL;

    if (!*name || !strcasecmp(name, "B"))
        return 1;
    if (!at || (name[1] && strcasecmp(name + 1, "B") != 0 && strcasecmp(name + 1, "iB") != 0))
        return 0;
    return UINT64_C(1) << (10 * (at - letters + 1));
}

static int store_bytes(const struct key *k, void *at, const char *text, struct complaint *c)
{
    size_t digits = strspn(text, "0123456789");
    uint64_t n, unit = unit_bytes(text + digits + (text[digits] == ' '));

    errno = 0;
    n = strtoull(text, NULL, 10);
    if (!digits || errno || !unit || n > k->max / unit || n * unit < k->min)
        return refuse(k, text, c);
    n *= unit;
    if (at)
        memcpy(at, &n, sizeof(n));
    return 0;
}

/* In the largest unit of which it is a multiple. */
static char *bytes_text(uint64_t n)
{
    static const char *const units[] = {"", "KiB", "MiB", "GiB", "TiB"};
    size_t i = 0;

    for (; n && n % 1024 == 0 && i + 1 < sizeof(units) / sizeof(*units); i++)
        n /= 1024;
    return xasprintf("%llu%s", (unsigned long long)n, units[i]);
}

/* Entries that can't be used are left out; the first of them is complained about. */
static int store_list(const struct key *k, void *at, const char *text, struct complaint *c)
{
    struct buf b = BUF_INIT;
    char *all, *item, *why = NULL;

    if (strlen(text) > MAX_LIST)
        return complain(c, true, xasprintf("the list is longer than %d bytes", MAX_LIST));
    all = list_expand(k, text);
    for (const char *p = all; (item = cfg_list_item(&p)); free(item)) {
        char *wrong = list_check_item(k, item);

        if (!wrong)
            list_add(&b, item);
        else if (c && !why)
            why = wrong;
        else
            free(wrong);
    }
    if (at)
        store_string(at, xstrdup(buf_cstr(&b)));
    if (why)
        complain(c, true, why);
    buf_free(&b);
    free(all);
    return 0;
}

void key_store_list(const struct key *k, void *obj, const char *text)
{
    store_string((char *)obj + k->offset, xstrdup(text));
}

/* Entries that can't be used are left out, as in lists. */
static int store_pairs(const struct key *k, void *at, const char *text, struct complaint *c)
{
    char *all, *why;

    if (strlen(text) > MAX_PAIRS)
        return complain(c, true, xasprintf("the list is longer than %d bytes", MAX_PAIRS));
    all = pairs_check(k, text, &why);
    if (why) {
        complain(c, true, xasprintf("%s; %s", why, k->secret ? "such headers aren't sent" : "such attributes aren't used"));
        free(why);
    }
    if (at)
        store_string(at, xstrdup(*all ? all : NULL));
    free(all);
    return 0;
}

static int store_ratio(const struct key *k, void *at, const char *text, struct complaint *c)
{
    size_t len = strspn(text, "0123456789.");
    char *end;
    double n = strtod(text, &end); /* the locale is "C" in all of scope's processes */

    if (!len || text[len] || *end || n > 1)
        return refuse(k, text, c);
    if (at)
        store_string(at, xstrdup(text));
    return 0;
}

/* A key whose type is checked here, and whose text is kept. */
static int store_text(const struct key *k, void *at, const char *text, struct complaint *c)
{
    struct key typed = *k;
    union {
        bool b;
        unsigned u;
        int i;
    } value = {0};
    char *stored;
    int ret;

    if (!*text && k->optional) {
        if (at)
            store_string(at, NULL);
        return 0;
    }
    if (!strcmp(key_name(k), "protocol") && !strcmp(text, "http/json")) {
        complain(c, true, xstrdup("http/json is not built; http/protobuf is used instead, which receivers take at the "
                                  "same place"));
        if (at)
            store_string(at, xstrdup("http/protobuf"));
        return 0;
    }
    typed.text = false;
    typed.offset = 0;
    ret = key_store(&typed, &value, text, c);
    if (ret < 0)
        return ret;
    stored = key_text(&typed, &value);
    if (at)
        store_string(at, stored);
    else
        free(stored);
    return 0;
}

int key_store(const struct key *k, void *obj, const char *text, struct complaint *c)
{
    void *at = obj && k->base != BASE_NONE ? (char *)obj + k->offset : NULL;
    bool is_regex = k->kind == KEY_REGEX;
    bool b;
    char *why;

    if (k->kind == KEY_LIST)
        return store_list(k, at, text, c);
    if (k->kind == KEY_PAIRS)
        return store_pairs(k, at, text, c);
    if (k->kind == KEY_ENDPOINT) {
        char *kept = *text ? endpoint_check(k, text, c) : NULL;

        if (at)
            store_string(at, kept);
        else
            free(kept);
        return 0;
    }
    if (k->text)
        return store_text(k, at, text, c);
    if (strlen(text) > (is_regex ? 2 * MAX_VALUE : MAX_VALUE))
        return complain(c, true, xasprintf("the value is longer than %d bytes", is_regex ? 2 * MAX_VALUE : MAX_VALUE));
    if (is_regex && !valid_pattern(text))
        return complain(c, true, xstrdup("the pattern isn't UTF-8"));
    if (!is_regex && !valid_text(text, k->kind == KEY_STRING))
        return complain(c, true, xstrdup("the value has control characters or isn't UTF-8"));
    switch (k->kind) {
    case KEY_BOOL:
        if (!parse_bool(text, &b))
            return refuse(k, text, c);
        if (at)
            memcpy(at, &b, sizeof(b));
        return 0;
    case KEY_UINT:
        return store_uint(k, at, text, c);
    case KEY_INT:
        return store_int(k, at, text, c);
    case KEY_BYTES:
        return store_bytes(k, at, text, c);
    case KEY_WORD:
        for (int i = 0; k->words[i]; i++) {
            if ((k->word_mask && !(k->word_mask & 1u << i)) || strcmp(k->words[i], text) != 0)
                continue;
            if (at)
                memcpy(at, &i, sizeof(i));
            return 0;
        }
        return refuse(k, text, c);
    case KEY_RATIO:
        return store_ratio(k, at, text, c);
    case KEY_REGEX:
        why = c ? check_regex(text) : NULL;
        if (why)
            return complain(c, true, why);
        break;
    case KEY_HOST:
        if (*text && !valid_host(text))
            return refuse(k, text, c);
        break;
    case KEY_PORT:
        if (*text && !valid_port(text))
            return refuse(k, text, c);
        break;
    case KEY_STRING:
        if (k->secret && !strcmp(text, MASK))
            return complain(c, true, xstrdup(MASK " is what is printed in place of the secret, not the secret itself"));
        break;
    case KEY_PREFIX:
    case KEY_PATH:
        break;
    default:
        return refuse(k, text, c);
    }
    if (!*text && !k->optional && !is_regex)
        return refuse(k, text, c);
    if (!at)
        return 0;
    if (k->kind == KEY_PREFIX) {
        size_t len = strlen(text);

        store_string(at, xasprintf("%s%s", text, len && text[len - 1] != '.' ? "." : ""));
    } else {
        store_string(at, *text || is_regex ? xstrdup(text) : NULL);
    }
    return 0;
}

char *key_text(const struct key *k, const void *obj)
{
    const void *at = (const char *)obj + k->offset;
    const char *s;
    uint64_t bytes;
    unsigned u;
    bool b;
    int i;

    if (k->base == BASE_NONE)
        return k->def ? xstrdup(k->def) : NULL;
    if (k->text) {
        memcpy(&s, at, sizeof(s));
        return xstrdup(s);
    }
    switch (k->kind) {
    case KEY_BOOL:
        memcpy(&b, at, sizeof(b));
        return xstrdup(b ? "true" : "false");
    case KEY_UINT:
        memcpy(&u, at, sizeof(u));
        return xasprintf("%u", u);
    case KEY_INT:
        memcpy(&i, at, sizeof(i));
        return xasprintf("%d", i);
    case KEY_BYTES:
        memcpy(&bytes, at, sizeof(bytes));
        return bytes_text(bytes);
    case KEY_WORD:
        memcpy(&u, at, sizeof(u));
        return xstrdup(k->words[u]);
    case KEY_STRING:
    case KEY_PREFIX:
    case KEY_PATH:
    case KEY_HOST:
    case KEY_PORT:
    case KEY_REGEX:
    case KEY_LIST:
    case KEY_RATIO:
    case KEY_PAIRS:
    case KEY_ENDPOINT:
        memcpy(&s, at, sizeof(s));
        return xstrdup(s);
    default:
        return NULL;
    }
}

static bool word_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

char *expand(const char *text, lookup_fn fn, void *ctx)
{
    struct buf b = BUF_INIT;
    size_t max = strlen(text) > MAX_VALUE ? strlen(text) + MAX_VALUE : MAX_VALUE; /* lists may be longer */
    char *ret;

    for (const char *p = text; *p;) {
        size_t len = 0;
        const char *value;

        if (*p == '\\' && p[1] == '$') {
            buf_char(&b, '$');
            p += 2;
            continue;
        }
        while (*p == '$' && word_char(p[1 + len]))
            len++;
        value = len ? fn(ctx, p + 1, len) : NULL;
        if (value)
            buf_str(&b, value);
        else
            buf_add(&b, p, 1 + len);
        p += 1 + len;
        if (b.len > max) {
            buf_free(&b);
            return NULL;
        }
    }
    ret = xstrdup(buf_cstr(&b));
    buf_free(&b);
    return ret;
}

bool expand_needed(const char *text)
{
    for (const char *p = text; *p; p++)
        if (*p == '$' && word_char(p[1]) && (p == text || p[-1] != '\\'))
            return true;
    return false;
}

char *expand_protect(const char *text)
{
    struct buf b = BUF_INIT;
    char *ret;

    for (const char *p = text; *p; p++) {
        if (*p == '$' && (word_char(p[1]) || (p > text && p[-1] == '\\')))
            buf_char(&b, '\\');
        buf_char(&b, *p);
    }
    ret = xstrdup(buf_cstr(&b));
    buf_free(&b);
    return ret;
}

const char *environ_get(const char *const *envp, const char *name, size_t len)
{
    for (; envp && *envp; envp++)
        if (!strncmp(*envp, name, len) && (*envp)[len] == '=')
            return *envp + len + 1;
    return NULL;
}
