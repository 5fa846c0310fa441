/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/url.h"

/* Lower case. The first four are those of OpenTelemetry's conventions for url.query. */
static const char *const secrets[] = {
    "awsaccesskeyid", "signature",     "sig",        "x-goog-signature", "access_key",    "access_token",
    "accesskey",      "accesstoken",   "api-key",    "api_key",          "apikey",        "auth",
    "auth_token",     "authorization", "client_secret", "clientsecret",  "credential",    "credentials",
    "id_token",       "jwt",           "key",        "pass",             "passwd",        "password",
    "private_key",    "pwd",           "refresh_token", "secret",        "secret_key",    "session",
    "session_id",     "sessionid",     "token",      "x-amz-credential", "x-amz-security-token", "x-amz-signature",
    "x-goog-credential", "x-api-key",
};
#define SECRET_MAX 20u /* bytes of the longest */

void url_authority(struct slice a, struct slice *ret_host, unsigned *ret_port)
{
    const char *at = a.len ? memrchr(a.p, '@', a.len) : NULL, *colon, *end = a.p + a.len;
    unsigned port = 0;

    *ret_port = 0;
    if (at) {
        a.len -= (size_t)(at + 1 - a.p);
        a.p = at + 1;
    }
    if (a.len && a.p[0] == '[') {
        const char *close = memchr(a.p, ']', a.len);

        *ret_host = (struct slice){a.p + 1, close ? (size_t)(close - a.p) - 1 : a.len - 1};
        colon = close && close + 1 < end && close[1] == ':' ? close + 1 : NULL;
    } else {
        colon = a.len ? memrchr(a.p, ':', a.len) : NULL;
        *ret_host = (struct slice){a.p, colon ? (size_t)(colon - a.p) : a.len};
    }
    for (const char *p = colon ? colon + 1 : end; p < end; p++) {
        if (*p < '0' || *p > '9' || port > 65535)
            return;
        port = port * 10 + (unsigned)(*p - '0');
    }
    if (port <= 65535)
        *ret_port = port;
}

void url_target(struct slice t, bool connect, struct url_target *ret)
{
    const char *p, *end = t.p + t.len;

    *ret = (struct url_target){0};
    if (!t.p)
        return;
    if (connect) {
        ret->authority = t;
        return;
    }
    if (t.len && t.p[0] != '/' && t.p[0] != '*') {
        p = memchr(t.p, ':', t.len);
        if (p && end - p > 3 && p[1] == '/' && p[2] == '/') {
            ret->scheme = (struct slice){t.p, (size_t)(p - t.p)};
            t.p = p + 3;
            for (p = t.p; p < end && *p != '/' && *p != '?'; p++)
                ;
            ret->authority = (struct slice){t.p, (size_t)(p - t.p)};
            t = (struct slice){p, (size_t)(end - p)};
        }
    }
    p = t.len ? memchr(t.p, '?', t.len) : NULL;
    ret->path = (struct slice){t.p, p ? (size_t)(p - t.p) : t.len};
    if (ret->authority.p && !ret->path.len)
        ret->path = (struct slice){"/", 1};
    if (p)
        ret->query = (struct slice){p + 1, (size_t)(end - p) - 1};
}

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool is_secret(const char *p, size_t len)
{
    char name[SECRET_MAX];
    size_t n = 0;

    if (len > 3 * SECRET_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        int c = (unsigned char)p[i];

        if (n == SECRET_MAX)
            return false;
        if (c == '%' && len - i > 2 && digit(p[i + 1]) >= 0 && digit(p[i + 2]) >= 0) {
            c = digit(p[i + 1]) << 4 | digit(p[i + 2]);
            i += 2;
        }
        name[n++] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
    }
    for (size_t i = 0; i < sizeof(secrets) / sizeof(*secrets); i++)
        if (strlen(secrets[i]) == n && !memcmp(secrets[i], name, n))
            return true;
    return false;
}

struct slice url_strike(struct slice query, struct buf *scratch)
{
    const char *p = query.p, *end = p + query.len, *done = p;

    buf_reset(scratch);
    while (p && p < end) {
        const char *next = p, *equals = NULL;

        for (; next < end && *next != '&' && *next != ';'; next++)
            if (*next == '=' && !equals)
                equals = next;
        if (equals && equals + 1 < next && is_secret(p, (size_t)(equals - p))) {
            buf_add(scratch, done, (size_t)(equals + 1 - done));
            buf_str(scratch, URL_STRUCK);
            done = next;
        }
        p = next + 1;
    }
    if (done == query.p)
        return query;
    buf_add(scratch, done, (size_t)(end - done));
    return (struct slice){scratch->p, scratch->len};
}
