/* SPDX-License-Identifier: Apache-2.0 */
/* From what stands in front of a protocol to its net.app: docs/data-model.md, "Protocols". */
#include "protocol/preamble.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "traffic/protocols.h"

static union address address_of(const struct preamble_addr *from)
{
    union address a = {0};

    if (from->len == 4) {
        a.in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(from->port)};
        memcpy(&a.in.sin_addr, from->ip, 4);
    } else if (from->len == 16) {
        a.in6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(from->port)};
        memcpy(&a.in6.sin6_addr, from->ip, 16);
    }
    return a;
}

static void add_address(struct fields *f, const char *ip, const char *port, const struct preamble_addr *from,
                        char text[INET6_ADDRSTRLEN])
{
    union address a = address_of(from);
    unsigned n;
    size_t len = report_address(&a, text, &n);

    if (!len)
        return;
    add_mem(f, ip, 6, text, len);
    add_uint(f, port, 6, n);
}

/* Tells net.app of what stood in front; the socket has the client of a PROXY header from now on. */
static void report(struct stream *s, const struct preamble_told *told, uint64_t time_ns)
{
    static const char *const commands[] = {"connect", "bind", "udp_associate"};
    bool proxy = told->kind == PREAMBLE_PROXY;
    char client[INET6_ADDRSTRLEN], target[INET6_ADDRSTRLEN];

    FIELDS(f, 8);
    if (proxy && told->client.len && s->sock) {
        if (!s->sock->client)
            s->sock->client = xcalloc(1, sizeof(*s->sock->client));
        *s->sock->client = address_of(&told->client);
    }
    add_uint(&f, proxy ? "proxy_version" : "socks_version", 0, told->version);
    if (proxy) {
        add_address(&f, "net_client_ip", "net_client_port", &told->client, client);
        add_address(&f, "proxy_host_ip", "proxy_host_port", &told->target, target);
    } else if (told->command) {
        if (told->command <= sizeof(commands) / sizeof(*commands))
            add_str(&f, "socks_command", 0, commands[told->command - 1]);
        if (told->host.p) {
            add_mem(&f, "socks_target", 0, told->host.p, told->host.len);
            add_uint(&f, "socks_target_port", 0, told->target.port);
        } else {
            add_address(&f, "socks_target", "socks_target_port", &told->target, target);
        }
        if (told->reply >= 0)
            add_int(&f, "socks_reply", 0, told->reply);
    }
    report_net_app(s->p, s->fd, s->channel, s->protocol, &f, time_ns);
}

static void told(void *owner, const struct preamble_told *told, uint64_t time_ns)
{
    struct stream *s = owner;

    if (s->p)
        report(s, told, time_ns);
    if (s->p && told->goes_on) {
        s->known = NULL; /* it may be anything, also something that becomes TLS later */
        stream_anew(s);
    } else {
        stream_stops(s);
    }
}

static void rest(void *owner, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    stream_rest(owner, dir, data, len, time_ns);
}

static const struct preamble_sink sink = {told, rest};

static void *new_proxy(struct stream *s, const struct protocol_start *how)
{
    return preamble_new(&sink, s, PREAMBLE_PROXY, how->dir);
}

static void *new_socks(struct stream *s, const struct protocol_start *how)
{
    return preamble_new(&sink, s, PREAMBLE_SOCKS, how->dir);
}

static void feed(void *decoder, struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    preamble_feed(decoder, dir, data, len, time_ns);
}

static void free_decoder(void *decoder, uint64_t time_ns)
{
    preamble_free(decoder, time_ns);
}

static int looks_so(const uint8_t *data, size_t len, bool whole)
{
    return preamble_proxy_detect(data, len);
}

const struct protocol protocol_proxy = {
    .detect = {.name = "PROXY", .stream = looks_so},
    .front = true,
    .tells_app = true,
    .new = new_proxy,
    .feed = feed,
    .free = free_decoder,
};

const struct protocol protocol_socks = {
    .detect = {.name = "SOCKS", .exchange = preamble_socks_detect},
    .front = true,
    .tells_app = true,
    .new = new_socks,
    .feed = feed,
    .free = free_decoder,
};
