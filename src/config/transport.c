/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/mem.h"
#include "config/schema.h"

#define SOCKET_PATH_MAX (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)

bool transport_uses(enum cfg_transport_type type, const char *member)
{
    switch (type) {
    case CFG_UDP:
    case CFG_PROMETHEUS:
        return !strcmp(member, "host") || !strcmp(member, "port");
    case CFG_TCP:
    case CFG_OTLP:
        return !strcmp(member, "host") || !strcmp(member, "port") || !strcmp(member, "tls");
    case CFG_UNIX:
    case CFG_JOURNAL:
        return !strcmp(member, "path");
    case CFG_FILE:
        return !strcmp(member, "path") || !strcmp(member, "buffering");
    case CFG_EDGE:
        break;
    }
    return false;
}

static bool same(const char *a, const char *b)
{
    return !strcmp(a ? a : "", b ? b : "");
}

bool transport_equal(const struct cfg_transport *a, const struct cfg_transport *b)
{
    if (a->type != b->type)
        return false;
    if (transport_uses(a->type, "host") && (!same(a->host, b->host) || !same(a->port, b->port)))
        return false;
    if (transport_uses(a->type, "path") && !same(a->path, b->path))
        return false;
    if (transport_uses(a->type, "buffering") && a->buffering != b->buffering)
        return false;
    if (transport_uses(a->type, "tls") && a->tls.enable != b->tls.enable)
        return false;
    if (transport_uses(a->type, "tls") && a->tls.enable)
        return a->tls.validateserver == b->tls.validateserver && same(a->tls.cacertpath, b->tls.cacertpath) &&
               same(a->tls.certpath, b->tls.certpath) && same(a->tls.keypath, b->tls.keypath);
    return true;
}

static bool is_number(const char *s)
{
    return *s && s[strspn(s, "0123456789")] == '\0';
}

const char *transport_remark(const struct cfg_transport *t)
{
    const char *host = t->host ? t->host : "", *port = t->port ? t->port : "";
    unsigned char address[sizeof(struct in6_addr)];
    bool zero = is_number(port) && strtoul(port, NULL, 10) == 0;

    if (t->type != CFG_PROMETHEUS)
        return transport_uses(t->type, "port") && zero ? "port 0, any that is free, is only for type prometheus" : "";
    if (strcasecmp(host, "localhost") != 0 && inet_pton(AF_INET, host, address) != 1 &&
        inet_pton(AF_INET6, host, address) != 1)
        return "what is listened on is an address of this host, or localhost";
    if (!is_number(port) || strlen(port) > 5 || strtoul(port, NULL, 10) > 65535)
        return "the port that is listened on is a number from 0 to 65535 (0: any that is free)";
    return "";
}

static bool valid_with(const char *key, const char *text)
{
    const struct key *k = key_find(key);

    return k && key_store(k, NULL, text, NULL) == 0;
}

/* "HOST:PORT" or "[ADDRESS]:PORT", with at most one slash behind. */
static int parse_authority(const char *s, struct cfg_transport *t, const char **err)
{
    const char *host = s, *host_end, *port;
    size_t port_len;

    if (*s == '[') {
        host++;
        host_end = strchr(host, ']');
        if (!host_end) {
            *err = "the bracket of the IPv6 address isn't closed; expected [ADDRESS]:PORT";
            return -EINVAL;
        }
        port = host_end + 1;
    } else {
        host_end = strchr(s, ':');
        if (host_end && strchr(host_end + 1, ':')) {
            *err = "more than one colon; put an IPv6 address in brackets: [ADDRESS]:PORT";
            return -EINVAL;
        }
        port = host_end ? host_end : s + strlen(s);
        if (!host_end)
            host_end = port;
    }
    if (*port != ':') {
        *err = "the port is missing; expected HOST:PORT";
        return -EINVAL;
    }
    port++;
    port_len = strlen(port);
    if (port_len && port[port_len - 1] == '/')
        port_len--;
    t->host = xstrndup(host, (size_t)(host_end - host));
    t->port = xstrndup(port, port_len);
    if (!*t->host || !valid_with("metric.transport.host", t->host)) {
        *err = "the host is not a name or an address";
        return -EINVAL;
    }
    if (*s == '[' && !strchr(t->host, ':')) {
        *err = "what stands in brackets is not an IPv6 address";
        return -EINVAL;
    }
    if (t->type == CFG_PROMETHEUS && !*transport_remark(t))
        return 0;
    if (t->type == CFG_PROMETHEUS) {
        *err = transport_remark(t);
        return -EINVAL;
    }
    if (!*t->port || !valid_with("metric.transport.port", t->port) || *transport_remark(t)) {
        *err = "the port is not a number from 1 to 65535 or the name of a service";
        return -EINVAL;
    }
    return 0;
}

static int parse_path(const char *s, enum cfg_transport_type type, struct cfg_transport *t, const char **err)
{
    if (!*s || !strcmp(s, "@")) {
        *err = "the path is missing";
        return -EINVAL;
    }
    if (type == CFG_UNIX && strlen(s) > SOCKET_PATH_MAX) {
        *err = "the path of a unix socket can't be longer than 107 bytes";
        return -EINVAL;
    }
    if (!valid_text(s, false) || strlen(s) >= MAX_VALUE) {
        *err = "the path is too long or has control characters";
        return -EINVAL;
    }
    t->type = type;
    t->path = xstrdup(s);
    return 0;
}

int cfg_transport_parse(const char *url, bool flag_syntax, struct cfg_transport *ret, const char **ret_error)
{
    static const char *const schemes[] = {"udp", "tcp", "unix", "file", "tls", "journal", "prometheus"};
    struct cfg_transport t = {.type = CFG_TCP, .buffering = CFG_BUFFER_LINE, .tls = {.validateserver = true}};
    const char *err = NULL, *rest = strstr(url, "://");
    int r = -EINVAL;

    if (!strcmp(url, "edge")) {
        t.type = CFG_EDGE;
        r = 0;
    } else if (rest) {
        size_t i, len = (size_t)(rest - url);

        rest += 3;
        for (i = 0; i < sizeof(schemes) / sizeof(*schemes); i++)
            if (strlen(schemes[i]) == len && !strncasecmp(schemes[i], url, len))
                break;
        switch (i) {
        case 0:
            t.type = CFG_UDP;
            r = parse_authority(rest, &t, &err);
            break;
        case 1:
        case 4:
            t.tls.enable = i == 4;
            r = parse_authority(rest, &t, &err);
            break;
        case 2:
        case 3:
        case 5:
            r = parse_path(rest, i == 2 ? CFG_UNIX : i == 3 ? CFG_FILE : CFG_JOURNAL, &t, &err);
            break;
        case 6:
            t.type = CFG_PROMETHEUS;
            if (*rest) {
                r = parse_authority(rest, &t, &err);
                break;
            }
            t.host = xstrdup("127.0.0.1");
            t.port = xstrdup(PROMETHEUS_PORT);
            r = 0;
            break;
        default:
            err = "unknown scheme; expected udp://, tcp://, tls://, unix://, file://, journal:// or prometheus://";
        }
    } else if (!flag_syntax || !*url) {
        err = "not a destination; expected udp://HOST:PORT, tcp://HOST:PORT, tls://HOST:PORT, unix://PATH, "
              "unix://@NAME, file://PATH, journal://PATH, prometheus://HOST:PORT or edge";
    } else if (strchr(url, '/') || !strcmp(url, "stdout") || !strcmp(url, "stderr")) {
        r = parse_path(url, CFG_FILE, &t, &err);
    } else if (strchr(url, ':')) {
        t.tls.enable = true;
        r = parse_authority(url, &t, &err);
    } else {
        err = "neither HOST:PORT nor a path with a slash; write ./NAME for a file in this directory";
    }
    if (r) {
        cfg_transport_clear(&t);
        if (ret_error)
            *ret_error = err;
        return r;
    }
    *ret = t;
    return 0;
}

void cfg_transport_clear(struct cfg_transport *t)
{
    free(t->host);
    free(t->port);
    free(t->path);
    free(t->tls.cacertpath);
    free(t->tls.certpath);
    free(t->tls.keypath);
    memset(t, 0, sizeof(*t));
}

char *cfg_transport_url(const struct cfg_transport *t)
{
    const char *host = t->host ? t->host : "", *port = t->port ? t->port : "", *path = t->path ? t->path : "";
    bool v6 = strchr(host, ':');

    switch (t->type) {
    case CFG_UDP:
    case CFG_TCP:
    case CFG_PROMETHEUS:
    case CFG_OTLP:
        return xasprintf("%s://%s%s%s:%s",
                         t->type == CFG_UDP          ? "udp"
                         : t->type == CFG_PROMETHEUS ? "prometheus"
                         : t->type == CFG_OTLP       ? t->tls.enable ? "https" : "http"
                         : t->tls.enable             ? "tls"
                                                     : "tcp",
                         v6 ? "[" : "", host, v6 ? "]" : "", port);
    case CFG_UNIX:
        return xasprintf("unix://%s", path);
    case CFG_FILE:
        return xasprintf("file://%s", path);
    case CFG_JOURNAL:
        return xasprintf("journal://%s", path);
    case CFG_EDGE:
        break;
    }
    return xstrdup("edge");
}
