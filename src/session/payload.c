/* SPDX-License-Identifier: Apache-2.0 */
/* Whose captured traffic is, in names and in headers. */
#include "session/payload.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void payload_id_copy(struct payload_id *to, const struct payload_id *from)
{
    *to = *from;
    to->proc = xstrdup(from->proc);
    to->ident = xstrdup(from->ident);
    to->transport = xstrdup(from->transport);
    to->protocol = xstrdup(from->protocol);
    to->plaintext = xstrdup(from->plaintext);
    to->unread = xstrdup(from->unread);
}

void payload_id_free(struct payload_id *id)
{
    free((char *)id->proc);
    free((char *)id->ident);
    free((char *)id->transport);
    free((char *)id->protocol);
    free((char *)id->plaintext);
    free((char *)id->unread);
}

struct payload_addr payload_addr(const struct sockaddr *addr, socklen_t len)
{
    struct payload_addr a = {.family = AF_UNSPEC};
    struct sockaddr_in in;
    struct sockaddr_in6 in6;

    if (!addr || len < sizeof(sa_family_t))
        return a;
    if (addr->sa_family == AF_INET && len >= sizeof(in)) {
        memcpy(&in, addr, sizeof(in));
        a.family = AF_INET;
        a.port = ntohs(in.sin_port);
        memcpy(a.ip, &in.sin_addr, 4);
    } else if (addr->sa_family == AF_INET6 && len >= sizeof(in6)) {
        memcpy(&in6, addr, sizeof(in6));
        a.port = ntohs(in6.sin6_port);
        a.family = IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr) ? AF_INET : AF_INET6;
        if (a.family == AF_INET)
            memcpy(a.ip, in6.sin6_addr.s6_addr + 12, 4);
        else
            memcpy(a.ip, &in6.sin6_addr, 16);
    } else if (addr->sa_family == AF_UNIX) {
        a.family = AF_UNIX;
    }
    return a;
}

const char *payload_addr_text(const struct payload_addr *a, char text[PAYLOAD_ADDR_TEXT])
{
    if ((a->family != AF_INET && a->family != AF_INET6) || !inet_ntop(a->family, a->ip, text, PAYLOAD_ADDR_TEXT))
        *text = '\0';
    return text;
}

bool payload_is_stream(const char *transport)
{
    size_t len = transport ? strlen(transport) : 0;

    return !transport || (len >= 4 && strcmp(transport + len - 4, ".TCP") == 0);
}

static const char *source_word(bool tls, enum payload_dir dir)
{
    return tls ? (dir == PAYLOAD_IN ? "tlsrx" : "tlstx") : dir == PAYLOAD_IN ? "netrx" : "nettx";
}

/* What stands for an end in names of files and in headers: text, and number behind the colon. */
static const char *end_text(const struct payload_addr *a, const char *word, char text[PAYLOAD_ADDR_TEXT], uint64_t *ret)
{
    *ret = a->family == AF_UNIX ? a->inode : a->port;
    if (a->family == AF_UNIX)
        return "af_unix";
    payload_addr_text(a, text);
    if (*text)
        return text;
    *ret = 0;
    return word;
}

void payload_header(struct buf *b, const struct payload_id *id, enum payload_dir dir, uint64_t time_ns, size_t len,
                    const struct payload_place *place)
{
    const char *word = source_word(id->tls, dir), *ip;
    char text[PAYLOAD_ADDR_TEXT];
    uint64_t port;

    buf_str(b, "{\"type\":\"payload\",\"id\":");
    buf_json_str(b, id->ident ? id->ident : "");
    buf_printf(b, ",\"pid\":%lld,\"ppid\":%lld,\"fd\":%lld,\"src\":\"%s\",\"_channel\":\"%llu\",\"len\":%zu",
               (long long)id->pid, (long long)id->ppid, (long long)id->fd, word, (unsigned long long)id->channel, len);
    ip = end_text(&id->host, word, text, &port);
    buf_printf(b, ",\"localip\":\"%s\",\"localp\":%llu", ip, (unsigned long long)port);
    ip = end_text(&id->peer, word, text, &port);
    buf_printf(b, ",\"remoteip\":\"%s\",\"remotep\":%llu,\"protocol\":", ip, (unsigned long long)port);
    buf_json_str(b, id->protocol ? id->protocol : "");
    buf_str(b, ",\"_time\":");
    buf_time(b, time_ns);
    if (place)
        buf_printf(b, ",\"offset\":%llu", (unsigned long long)place->offset);
    if (place && place->missing)
        buf_printf(b, ",\"missing\":%llu", (unsigned long long)place->missing);
    buf_char(b, '}');
}

char *payload_file_name(const struct payload_id *id, uint64_t number, enum payload_dir dir, unsigned attempt)
{
    const char *word = source_word(id->tls, dir), *ip;
    char text[PAYLOAD_ADDR_TEXT];
    struct buf b = BUF_INIT;
    uint64_t port;

    buf_printf(&b, "%lld", (long long)id->pid);
    ip = end_text(&id->peer, word, text, &port);
    buf_printf(&b, "_%s:%llu", ip, (unsigned long long)port);
    ip = end_text(&id->host, word, text, &port);
    buf_printf(&b, "_%s:%llu", ip, (unsigned long long)port);
    if (attempt > 0)
        buf_printf(&b, ".%llu", (unsigned long long)number);
    if (attempt > 1)
        buf_printf(&b, ".%u", attempt);
    buf_str(&b, dir == PAYLOAD_IN ? ".in" : ".out");
    return buf_cstr(&b);
}
