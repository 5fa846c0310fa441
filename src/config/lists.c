/* SPDX-License-Identifier: Apache-2.0 */
/* Lists that are one text: items with commas between them. A comma or backslash of an item has a backslash before it.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "config/schema.h"

char *cfg_list_item(const char **at)
{
    struct buf b = BUF_INIT;
    const char *p = *at;
    char *ret;

    if (!p || !*p)
        return NULL;
    while (*p && *p != ',') {
        if (*p == '\\' && p[1])
            p++;
        buf_char(&b, *p++);
    }
    *at = *p ? p + 1 : p;
    ret = xstrdup(buf_cstr(&b));
    buf_free(&b);
    return ret;
}

void list_add(struct buf *list, const char *item)
{
    if (list->len)
        buf_char(list, ',');
    for (; *item; item++) {
        if (*item == ',' || *item == '\\')
            buf_char(list, '\\');
        buf_char(list, *item);
    }
}

char *list_expand(const struct key *k, const char *text)
{
    struct buf b = BUF_INIT;
    char *item, *ret;

    for (const char *at = text; (item = cfg_list_item(&at)); free(item)) {
        const char *from = k->def ? k->def : "";
        char *other;

        if (strcmp(item, LIST_DEFAULT) != 0) {
            if (*item)
                list_add(&b, item);
            continue;
        }
        for (; (other = cfg_list_item(&from)); free(other))
            list_add(&b, other);
    }
    ret = xstrdup(buf_cstr(&b));
    buf_free(&b);
    return ret;
}

/* --- items --- */

static bool is_host_name(const char *s, size_t len)
{
    size_t label = 0;

    if (!len || len > 253)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '.') {
            if (!label)
                return false;
            label = 0;
        } else if ((!isalnum((unsigned char)s[i]) && s[i] != '-' && s[i] != '_') || ++label > 63) {
            return false;
        }
    }
    return label > 0;
}

static int parse_name(const char *text, struct cfg_peer *ret, const char **ret_error)
{
    bool below = !strncmp(text, "*.", 2);
    size_t len = strlen(text);

    if (len && text[len - 1] == '.')
        len--;
    if (len >= sizeof(ret->text) || !is_host_name(text + (below ? 2 : 0), len - (below ? 2 : 0))) {
        *ret_error = strchr(text, '*') ? "a * stands only at the beginning, as in *.example.com"
                                       : "expected an address, a network such as 10.0.0.0/8, a name or *.NAME";
        return -EINVAL;
    }
    ret->name = true;
    for (size_t i = 0; i < len; i++)
        ret->text[i] = (char)tolower((unsigned char)text[i]);
    ret->text[len] = 0;
    return 0;
}

int cfg_peer_parse(const char *text, struct cfg_peer *ret, const char **ret_error)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    const char *slash = strchr(text, '/');
    char address[INET6_ADDRSTRLEN + 2], *p = address;
    size_t len = slash ? (size_t)(slash - text) : strlen(text);
    unsigned most = 128, base = 0;

    *ret = (struct cfg_peer){0};
    if (len >= sizeof(address))
        return parse_name(text, ret, ret_error);
    memcpy(address, text, len);
    address[len] = 0;
    if (len > 1 && *p == '[' && address[len - 1] == ']') {
        address[len - 1] = 0;
        p++;
    }
    if (inet_pton(AF_INET, p, ret->address + 12) == 1) {
        memcpy(ret->address, mapped, sizeof(mapped));
        most = 32;
        base = 96;
    } else if (inet_pton(AF_INET6, p, ret->address) != 1) {
        if (!slash && strspn(text, "0123456789.") != len)
            return parse_name(text, ret, ret_error);
        *ret_error = "this is no address";
        return -EINVAL;
    }
    ret->bits = base + most;
    if (slash) {
        size_t digits = strspn(slash + 1, "0123456789");
        unsigned long n = digits && digits <= 3 && !slash[1 + digits] ? strtoul(slash + 1, NULL, 10) : 999;

        if (n > most) {
            *ret_error = most == 32 ? "the prefix of an IPv4 network has 0 to 32 bits"
                                    : "the prefix of an IPv6 network has 0 to 128 bits";
            return -EINVAL;
        }
        ret->bits = base + (unsigned)n;
    }
    for (unsigned i = ret->bits; i < 128; i++)
        ret->address[i / 8] &= (uint8_t) ~(0x80u >> i % 8);
    return 0;
}

static const char *check_path(const char *text)
{
    const char *p = text + (*text == '!');

    if (!*p || !strcmp(p, "/") || !strcmp(p, "~") || !strcmp(p, "~/"))
        return *p ? "the whole tree can't be watched; name what lies below it" : "expected a path behind the !";
    if (*p == '~' && p[1] != '/')
        return "~ stands for home directories only as ~/NAME";
    if (strstr(p, "//") || strstr(p, "/../") || strstr(p, "/./") || !strncmp(p, "../", 3) || !strncmp(p, "./", 2))
        return "write the path without empty components, . and ..: /NAME, ~/NAME, or NAME for any directory";
    return NULL;
}

static const char *check_type(const char *text)
{
    size_t len = strlen(text);

    return len && len < 16 && strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == len
               ? NULL
               : "expected the name of a type of DNS records in capitals, such as AAAA or TYPE65";
}

char *list_check_item(const struct key *k, const char *item)
{
    const char *why = NULL;
    struct cfg_peer peer;

    if (!*item || !strcmp(item, LIST_DEFAULT))
        return NULL;
    if (strlen(item) > MAX_VALUE)
        return xasprintf("an entry is longer than %d bytes", MAX_VALUE);
    if (!valid_text(item, false))
        return xstrdup("an entry has control characters or isn't UTF-8; ? and * stand for such bytes");
    switch (k->items) {
    case LIST_PATHS:
        why = check_path(item);
        break;
    case LIST_PEERS:
        if (cfg_peer_parse(item, &peer, &why) == 0)
            why = NULL;
        break;
    case LIST_TYPES:
        why = check_type(item);
        break;
    case LIST_LOGS:
        if (otlp_log_source(item) < 0)
            why = "expected console, file, notice, crash, process, fs, net, http, dns or syscall";
        break;
    }
    return why ? xasprintf("\"%.200s\": %s; this entry isn't used", item, why) : NULL;
}
