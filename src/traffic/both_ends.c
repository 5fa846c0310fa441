/* SPDX-License-Identifier: Apache-2.0 */
#include "traffic/both_ends.h"

#include <string.h>

#include "model/clock.h"

#define PLACES 4096u              /* of requests that wait for their other end; a power of two */
#define ALONE  1024u              /* connections whose other end isn't observed; the same */
#define WAIT_NS UINT64_C(10000000000) /* the receiver may be busy */

struct place {
    uint64_t key; /* 0: it is free */
    uint64_t time_ns;
    bool server;
    struct tm_context id;   /* of a client's span */
    struct span_link *link; /* referenced; of a client's: NULL: none */
};

static struct place places[PLACES];
static uint64_t alone[ALONE];

/* So that nobody can choose addresses and targets that fall together. */
static uint64_t seed(void)
{
    static uint64_t secret;

    if (!secret)
        span_random((uint8_t *)&secret, sizeof(secret));
    return secret;
}

static uint64_t mix(uint64_t h, uint64_t n)
{
    h = (h ^ n) * UINT64_C(0xff51afd7ed558ccd); /* the finaliser of MurmurHash3 */
    h = (h ^ h >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
    return h ^ h >> 33;
}

static uint64_t mix_bytes(uint64_t h, const char *p, size_t len)
{
    uint64_t word;

    h ^= len;
    for (; len > 8; p += 8, len -= 8) {
        memcpy(&word, p, 8);
        h = mix(h, word);
    }
    word = 0;
    for (size_t i = 0; i < len; i++)
        word = word << 8 | (uint8_t)p[i];
    return mix(h, word);
}

/* An address as one of IPv6. False: it is none of the internet. */
static bool plain(const union address *a, struct in6_addr *ret, uint16_t *ret_port)
{
    if (a->family == AF_INET) {
        *ret = (struct in6_addr){.s6_addr = {[10] = 0xff, [11] = 0xff}};
        memcpy(&ret->s6_addr[12], &a->in.sin_addr, 4);
        *ret_port = a->in.sin_port;
        return true;
    }
    *ret = a->in6.sin6_addr;
    *ret_port = a->in6.sin6_port;
    return a->family == AF_INET6;
}

/* 0: the other end is elsewhere, or nobody knows where. */
static uint64_t connection(const struct stream *s, bool server)
{
    struct in6_addr local, peer;
    uint16_t local_port, peer_port;
    uint64_t h = seed();

    if (!s->sock || s->sock->type != SOCK_STREAM || !plain(&s->sock->local, &local, &local_port) ||
        !plain(&s->sock->peer, &peer, &peer_port))
        return 0;
    if (memcmp(&local, &peer, sizeof(local)) &&
        !(IN6_IS_ADDR_V4MAPPED(&local) && IN6_IS_ADDR_V4MAPPED(&peer) && local.s6_addr[12] == 127 && peer.s6_addr[12] == 127))
        return 0;
    h = mix_bytes(h, (const char *)(server ? &peer : &local), sizeof(local));
    h = mix_bytes(h, (const char *)(server ? &local : &peer), sizeof(local));
    return mix(h, server ? (uint64_t)peer_port << 16 | local_port : (uint64_t)local_port << 16 | peer_port) | 1;
}

/* The same; a connection stays what it is. */
static uint64_t known_connection(struct stream *s, bool server)
{
    if (!s->ends || s->ends_server != server) {
        s->ends = connection(s, server);
        s->ends_server = server;
    }
    return s->ends;
}

static void clear(struct place *p)
{
    span_link_unref(p->link);
    *p = (struct place){0};
}

static void is_alone(uint64_t tag)
{
    alone[tag / 2 % ALONE] = tag;
}

static void server_first(struct place *p, struct span *span, uint64_t key, uint64_t tag, uint64_t time_ns)
{
    if (alone[tag / 2 % ALONE] == tag)
        return;
    clear(p);
    *p = (struct place){.key = key, .time_ns = time_ns, .server = true};
    p->link = span_link_new(span, tag);
}

static void client_first(struct place *p, const struct span *span, uint64_t key, uint64_t tag, uint64_t time_ns)
{
    if (alone[tag / 2 % ALONE] == tag)
        alone[tag / 2 % ALONE] = 0;
    clear(p);
    *p = (struct place){.key = key, .time_ns = time_ns, .id = span->id};
    p->link = span_link_ref(span->link);
}

void both_ends_request(struct span *span, struct stream *s, const struct http_head *head, bool server)
{
    uint64_t tag, key, now = head->first_ns;
    struct place *p;
    bool there;

    s->requests++;
    if (!span || s->joined || s->uncounted || (server && span->has_remote) || head->pushed || !(tag = known_connection(s, server)))
        return;
    key = mix_bytes(mix(tag, head->major >= 2 ? head->stream : s->requests), head->target.p, head->target.len);
    key = mix_bytes(key, head->method.p, head->method.len) | 1;
    p = &places[key / 2 % PLACES];
    there = p->key == key && p->server != server && (now > p->time_ns ? now - p->time_ns : p->time_ns - now) < WAIT_NS;
    if (!there) {
        if (server)
            server_first(p, span, key, tag, now);
        else
            client_first(p, span, key, tag, now);
        return;
    }
    if (server)
        span_begin(span, s->p->pl, &(struct span_parent){.id = &p->id, .decided = true, .remote = true, .link = p->link});
    else
        span_link_meet(p->link, span);
    clear(p);
}

void both_ends_sweep(uint64_t now_mono)
{
    span_links_sweep(now_mono, is_alone);
}
