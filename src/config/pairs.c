/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of names and values that are one text: NAME=value,NAME=value, percent-encoded, as in OpenTelemetry's variables
 * (W3C Baggage without its properties). */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "config/schema.h"

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* malloc'ed, or NULL if a % isn't followed by two digits, or these stand for a NUL. */
static char *decode(const char *text, size_t len)
{
    char *ret = xmalloc(len + 1), *to = ret;

    for (size_t i = 0; i < len; i++) {
        int high, low;

        if (text[i] != '%') {
            *to++ = text[i];
            continue;
        }
        high = i + 2 < len ? hex(text[i + 1]) : -1;
        low = i + 2 < len ? hex(text[i + 2]) : -1;
        if (high < 0 || low < 0 || (high == 0 && low == 0)) {
            free(ret);
            return NULL;
        }
        *to++ = (char)(high << 4 | low);
        i += 2;
    }
    *to = 0;
    return ret;
}

/* What stands for itself in neither names nor values is encoded, but for $ and \: they may name a variable yet. */
static void encode(struct buf *b, const char *text)
{
    static const char digits[] = "0123456789ABCDEF";

    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;

        if (c > ' ' && c < 0x7f && c != ',' && c != '%' && c != '=' && c != '"') {
            buf_char(b, *text);
        } else {
            buf_char(b, '%');
            buf_char(b, digits[c >> 4]);
            buf_char(b, digits[c & 15]);
        }
    }
}

void pairs_add(struct buf *list, const char *name, const char *value)
{
    if (list->len)
        buf_char(list, ',');
    encode(list, name);
    buf_char(list, '=');
    encode(list, value);
}

bool pairs_next(const char **at, struct pair *ret)
{
    const char *p = *at, *end, *eq, *name_end, *value;

    *ret = (struct pair){0};
    if (!p)
        return false;
    p += strspn(p, ", \t");
    if (!*p)
        return false;
    end = p + strcspn(p, ",");
    *at = end;
    while (end > p && isblank((unsigned char)end[-1]))
        end--;
    ret->raw = p;
    ret->raw_len = (size_t)(end - p);
    eq = memchr(p, '=', ret->raw_len);
    name_end = eq ? eq : end;
    while (name_end > p && isblank((unsigned char)name_end[-1]))
        name_end--;
    ret->name = decode(p, (size_t)(name_end - p));
    if (!eq)
        return true;
    for (value = eq + 1; value < end && isblank((unsigned char)*value); value++)
        ;
    ret->value = decode(value, (size_t)(end - value));
    ret->undecoded = !ret->value || !ret->name;
    return true;
}

void pair_clear(struct pair *p)
{
    free(p->name);
    free(p->value);
    *p = (struct pair){0};
}

char *pairs_expand(const char *text, lookup_fn fn, void *ctx)
{
    struct buf b = BUF_INIT;
    struct pair p;
    char *ret;

    if (!expand_needed(text) && !strstr(text, "\\$"))
        return xstrdup(text);
    for (const char *at = text; pairs_next(&at, &p); pair_clear(&p)) {
        char *value = p.value ? expand(p.value, fn, ctx) : NULL;

        if (value && p.name) {
            pairs_add(&b, p.name, value);
        } else { /* whoever checks it says why */
            if (b.len)
                buf_char(&b, ',');
            buf_add(&b, p.raw, p.raw_len);
        }
        free(value);
    }
    ret = b.len > MAX_PAIRS ? NULL : xstrdup(buf_cstr(&b));
    buf_free(&b);
    return ret;
}

/* --- what names and values may be --- */

/* RFC 9110, 5.6.2 */
static bool is_token(const char *s)
{
    if (!*s)
        return false;
    for (; *s; s++)
        if (!isalnum((unsigned char)*s) && !strchr("!#$%&'*+-.^_`|~", *s))
            return false;
    return true;
}

/* Those that the request itself has. */
static bool is_ours(const char *name)
{
    static const char *const names[] = {
        "connection", "content-encoding", "content-length", "content-type", "host",       "keep-alive",
        "te",         "trailer",          "transfer-encoding", "upgrade",   "user-agent", "proxy-connection",
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (!strcasecmp(name, names[i]))
            return true;
    return !strncasecmp(name, "grpc-", 5);
}

static const char *check_header(const struct pair *p)
{
    if (!is_token(p->name))
        return "is not the name of a header (letters, digits and - or _)";
    if (is_ours(p->name))
        return "is a header that requests have already";
    if (strlen(p->name) > 255)
        return "is longer than 255 bytes";
    /* Of field values gRPC takes no others; a line break would begin another header. */
    for (const char *c = p->value; *c; c++)
        if ((*c < ' ' && *c != '\t') || *c > '~')
            return "has a value with line breaks, control characters or others than ASCII";
    return NULL;
}

static const char *check_attribute(const struct pair *p)
{
    if (!*p->name)
        return "has no name";
    if (strlen(p->name) > 255)
        return "has a name longer than 255 bytes";
    if (!valid_text(p->name, false) || !valid_text(p->value, true))
        return "has control characters or isn't UTF-8";
    return NULL;
}

static const char *why_not(const struct key *k, const struct pair *p)
{
    if (!p->name || p->undecoded)
        return "has a % that two hexadecimal digits must follow (%25 is a %)";
    if (!p->value)
        return "has no =; expected NAME=VALUE,NAME=VALUE";
    if (k->secret && !strcmp(p->value, MASK))
        return "has " MASK ", which is what is printed in place of the secret";
    return k->secret ? check_header(p) : check_attribute(p);
}

/* Entries that can't be used are left out; the first of them is complained about, without its value, which may be a
 * secret. */
char *pairs_check(const struct key *k, const char *text, char **ret_why)
{
    struct buf b = BUF_INIT;
    struct pair p;
    size_t count = 0, more = 0;
    char *ret;

    *ret_why = NULL;
    for (const char *at = text; pairs_next(&at, &p); pair_clear(&p)) {
        const char *why = why_not(k, &p);

        if (!why && count == MAX_PAIR_COUNT)
            why = "is one too many";
        if (!why) {
            pairs_add(&b, p.name, p.value);
            count++;
        } else if (!*ret_why) {
            *ret_why = p.name && (p.value || p.undecoded)
                           ? xasprintf("\"%.100s\" %s", p.name, why)
                           : xasprintf("an entry %s", why);
        } else {
            more++;
        }
    }
    if (more) {
        char *first = *ret_why;

        *ret_why = xasprintf("%s, and %zu more can't be used", first, more);
        free(first);
    }
    ret = xstrdup(buf_cstr(&b));
    buf_free(&b);
    return ret;
}

void pairs_store(const char *text, bool lower, struct cfg_tag **ret, size_t *ret_count)
{
    struct cfg_tag *list = NULL;
    size_t n = 0;
    struct pair p;

    for (const char *at = text; pairs_next(&at, &p); pair_clear(&p)) {
        size_t i = 0;

        if (!p.name || !p.value)
            continue;
        for (char *c = p.name; lower && *c; c++)
            *c = (char)tolower((unsigned char)*c);
        while (i < n && strcmp(list[i].name, p.name) != 0)
            i++;
        if (i == n) {
            list = xrealloc(list, n + 1, sizeof(*list));
            list[n++] = (struct cfg_tag){.name = xstrdup(p.name)};
        }
        free(list[i].value); /* the last one counts */
        list[i].value = xstrdup(p.value);
    }
    *ret = list;
    *ret_count = n;
}

char *cfg_pair_of(const char *text, const char *name)
{
    char *found = NULL;
    bool broken = false;
    struct pair p;

    for (const char *at = text; pairs_next(&at, &p); pair_clear(&p)) {
        broken |= !p.name || !p.value;
        if (p.name && p.value && *p.value && !strcmp(p.name, name)) {
            free(found);
            found = xstrdup(p.value);
        }
    }
    /* One entry that can't be decoded spoils the whole variable (resource SDK, "Specifying resource information via an
     * environment variable"). */
    if (broken || (found && !valid_text(found, false))) {
        free(found);
        found = NULL;
    }
    return found;
}
