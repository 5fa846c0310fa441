/* SPDX-License-Identifier: Apache-2.0 */
#include "session/packets.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "session/pcapng.h"

#define SEGMENT_MAX 61440u     /* an IP packet has at most 65535 bytes */
#define DATAGRAM_MAX 65507u    /* of data in UDP over IPv4 */
#define UNACKED_MAX (1u << 28) /* then the receiver acknowledges; below the window */
#define WINDOW 65535u
#define WINDOW_SHIFT 14 /* the largest there is (RFC 7323): the window is never full */
#define TTL 64

enum { FIN = 1, SYN = 2, PSH = 8, ACK = 16 };

/* The other port that Wireshark takes for the protocol without TLS. It takes these for TLS, whatever the bytes are. */
static const uint16_t plain_ports[][2] = {{443, 80},    {465, 25},    {563, 119},  {636, 389},  {853, 53},
                                          {989, 20},    {990, 21},    {992, 23},   {993, 143},  {995, 110},
                                          {5061, 5060}, {5671, 5672}, {6514, 514}, {8883, 1883}};

/* An end as packets have it: IPv4 addresses only in the first four bytes. */
struct end {
    uint8_t ip[16];
    uint16_t port;
};

struct conversation {
    struct conversation *next;
    uint32_t interface;
    uint32_t seq[PAYLOAD_DIRS]; /* of the next byte in this direction */
    uint32_t unacked[PAYLOAD_DIRS];
    struct end from[PAYLOAD_DIRS]; /* who sends in this direction */
    bool v6, stream, client;       /* the process is the client */
    bool open;                     /* the handshake was written */
    bool closed;
    char *comment;
};

/* Conversations between the same ends, so that the sequence numbers of each are its own. When both sides are processes
 * of the session, each has a flow of it: their packets are the same, as in a capture of two interfaces. */
struct pair {
    struct end client, server;
    uint64_t seen[2]; /* by the client's process, by the server's */
};

struct interface {
    int64_t pid;
    char *proc;
    uint32_t number;
};

struct packets {
    FILE *to;
    struct payload_reader *from;
    void *pairs, *interfaces; /* trees of tsearch(3) */
    uint32_t interface_count;
    struct conversation *conversations;
    uint8_t *data; /* DATAGRAM_MAX */
};

struct packets *packets_new(FILE *to, struct payload_reader *from, const char *application)
{
    struct packets *p = xcalloc(1, sizeof(*p));

    p->to = to;
    p->from = from;
    p->data = xmalloc(DATAGRAM_MAX);
    pcapng_section(
        to, application,
        "Made from what the programs read and wrote: headers, handshakes and acknowledgements are synthesised");
    return p;
}

static void free_interface(void *node)
{
    struct interface *i = node;

    free(i->proc);
    free(i);
}

void packets_free(struct packets *p)
{
    if (!p)
        return;
    while (p->conversations) {
        struct conversation *c = p->conversations;

        p->conversations = c->next;
        free(c->comment);
        free(c);
    }
    tdestroy(p->pairs, free);
    tdestroy(p->interfaces, free_interface);
    free(p->data);
    free(p);
}

/* --- conversations --- */

static int compare_interfaces(const void *a, const void *b)
{
    const struct interface *x = a, *y = b;

    return x->pid != y->pid ? (x->pid < y->pid ? -1 : 1) : strcmp(x->proc, y->proc);
}

/* Each process is an interface. */
static uint32_t interface_of(struct packets *p, const struct payload_id *id)
{
    struct interface key = {.pid = id->pid, .proc = (char *)(id->proc ? id->proc : "?")}, **found, *i;
    char *name, *description;

    found = tfind(&key, &p->interfaces, compare_interfaces);
    if (found)
        return (*found)->number;
    i = xcalloc(1, sizeof(*i));
    i->pid = key.pid;
    i->proc = xstrdup(key.proc);
    i->number = p->interface_count++;
    tsearch(i, &p->interfaces, compare_interfaces);
    name = xasprintf("%s[%lld]", i->proc, (long long)i->pid);
    description = xasprintf("process %lld, %s%s%s", (long long)i->pid, i->proc, id->ident ? ": " : "",
                            id->ident ? id->ident : "");
    pcapng_interface(p->to, PCAPNG_LINKTYPE_RAW, name, description);
    free(name);
    free(description);
    return i->number;
}

static uint16_t plain_port(uint16_t port)
{
    for (size_t i = 0; i < sizeof(plain_ports) / sizeof(*plain_ports); i++)
        if (plain_ports[i][0] == port)
            return plain_ports[i][1];
    return port;
}

/* fd73:636f:7065::/48 is a local prefix (RFC 4193); the subnet says what the last 64 bits are. */
static void local_address(struct end *e, uint16_t subnet, uint64_t n)
{
    static const uint8_t prefix[] = {0xfd, 's', 'c', 'o', 'p', 'e'};

    memcpy(e->ip, prefix, sizeof(prefix));
    e->ip[6] = (uint8_t)(subnet >> 8);
    e->ip[7] = (uint8_t)subnet;
    for (int i = 0; i < 8; i++)
        e->ip[8 + i] = (uint8_t)(n >> (56 - 8 * i));
}

enum { SUBNET_UNIX = 1, SUBNET_HOST, SUBNET_PEER };
enum { PORT_SERVER = 1, PORT_CLIENT = 49152 };

static struct end end_of(const struct payload_entry *e, const struct payload_addr *a, bool v6, bool is_peer,
                         bool client)
{
    struct end end = {.port = e->id.tls ? plain_port(a->port) : a->port};

    if (a->family == AF_INET || a->family == AF_INET6) {
        memcpy(end.ip, a->ip, a->family == AF_INET ? 4 : 16);
        return end;
    }
    if (!v6)
        return end; /* 0.0.0.0: a datagram socket that isn't bound to one address */
    end.port = client ? PORT_CLIENT : PORT_SERVER;
    if (a->family == AF_UNIX && a->inode)
        local_address(&end, SUBNET_UNIX, a->inode);
    else
        local_address(&end, is_peer ? SUBNET_PEER : SUBNET_HOST, e->number);
    return end;
}

static int compare_pairs(const void *a, const void *b)
{
    return memcmp(a, b, offsetof(struct pair, seen));
}

/* FNV-1a: the same for both sides of a connection, another one when the pair is used again. */
static uint32_t initial_seq(const struct pair *pair, uint64_t use, bool by_client)
{
    struct {
        struct pair pair;
        uint64_t use, by_client;
    } key;
    const uint8_t *b = (const uint8_t *)&key;
    uint32_t h = 2166136261u;

    memset(&key, 0, sizeof(key));
    key.pair.client = pair->client;
    key.pair.server = pair->server;
    key.use = use;
    key.by_client = by_client;
    for (size_t i = 0; i < sizeof(key); i++)
        h = (h ^ b[i]) * 16777619u;
    return h;
}

static void choose_seq(struct packets *p, struct conversation *c)
{
    enum payload_dir to_server = c->client ? PAYLOAD_OUT : PAYLOAD_IN;
    struct pair *pair = xcalloc(1, sizeof(*pair)), **found;
    uint64_t use;

    pair->client = c->from[to_server];
    pair->server = c->from[!to_server];
    found = tsearch(pair, &p->pairs, compare_pairs);
    if (!found)
        abort(); /* no memory */
    if (*found != pair)
        free(pair);
    use = (*found)->seen[c->client]++;
    c->seq[to_server] = initial_seq(*found, use, true);
    c->seq[!to_server] = initial_seq(*found, use, false);
}

static struct conversation *conversation(struct packets *p, struct payload_entry *e)
{
    const struct payload_id *id = &e->id;
    const struct payload_addr *host = &id->host, *peer = &id->peer;
    struct conversation *c = e->user;
    char fd[40] = "";

    if (c)
        return c;
    c = e->user = xcalloc(1, sizeof(*c));
    c->next = p->conversations;
    p->conversations = c;
    c->interface = interface_of(p, id);
    c->stream = payload_is_stream(id->transport);
    /* Who isn't known to be the client has the higher port: the other one's is the well-known one. */
    c->client = id->role == PAYLOAD_UNKNOWN ? host->port >= peer->port : id->role == PAYLOAD_CLIENT;
    c->v6 = !(host->family == AF_INET && (peer->family == AF_INET || peer->family == AF_UNSPEC)) &&
            !(peer->family == AF_INET && host->family == AF_UNSPEC);
    if (c->v6 && (host->family == AF_INET || peer->family == AF_INET)) { /* nonsense in the index */
        struct payload_addr none = {.family = AF_UNSPEC};

        c->from[PAYLOAD_OUT] = end_of(e, &none, true, false, c->client);
        c->from[PAYLOAD_IN] = end_of(e, &none, true, true, !c->client);
    } else {
        c->from[PAYLOAD_OUT] = end_of(e, host, c->v6, false, c->client);
        c->from[PAYLOAD_IN] = end_of(e, peer, c->v6, true, !c->client);
    }
    if (id->fd >= 0)
        snprintf(fd, sizeof(fd), ", descriptor %lld", (long long)id->fd);
    c->comment = xasprintf("%s, pid %lld%s, flow %llu%s", id->proc ? id->proc : "?", (long long)id->pid, fd,
                           (unsigned long long)e->number, id->tls ? ", plaintext of TLS" : "");
    if (id->tls && (plain_port(host->port) != host->port || plain_port(peer->port) != peer->port)) {
        bool at_peer = plain_port(peer->port) != peer->port;
        char *text = xasprintf("%s of port %u", c->comment, at_peer ? peer->port : host->port);

        free(c->comment);
        c->comment = text;
    }
    choose_seq(p, c);
    return c;
}

/* --- packets --- */

static void put16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v)
{
    put16(p, v >> 16);
    put16(p + 2, v & 0xffff);
}

/* Internet checksum (RFC 1071): sums of pieces that have an even length, but for the last one. */
static uint32_t sum(uint32_t s, const uint8_t *p, size_t len)
{
    uint64_t total = s;

    for (; len > 1; p += 2, len -= 2)
        total += (uint32_t)p[0] << 8 | p[1];
    if (len)
        total += (uint32_t)p[0] << 8;
    while (total >> 16)
        total = (total & 0xffff) + (total >> 16);
    return (uint32_t)total;
}

static size_t ip_header(uint8_t h[40], const struct conversation *c, enum payload_dir dir, uint8_t protocol, size_t len)
{
    const struct end *from = &c->from[dir], *to = &c->from[!dir];

    memset(h, 0, 40);
    if (c->v6) { /* RFC 8200 */
        h[0] = 0x60;
        put16(h + 4, (uint32_t)len);
        h[6] = protocol;
        h[7] = TTL;
        memcpy(h + 8, from->ip, 16);
        memcpy(h + 24, to->ip, 16);
        return 40;
    }
    h[0] = 0x45; /* RFC 791 */
    put16(h + 2, (uint32_t)len + 20);
    h[6] = 0x40; /* don't fragment: needs no identification (RFC 6864) */
    h[8] = TTL;
    h[9] = protocol;
    memcpy(h + 12, from->ip, 4);
    memcpy(h + 16, to->ip, 4);
    put16(h + 10, ~sum(0, h, 20) & 0xffff);
    return 20;
}

/* Transport header and data as a packet; the checksum's place is filled in. */
static void packet(struct packets *p, const struct conversation *c, enum payload_dir dir, uint64_t time_ns,
                   uint8_t protocol, uint8_t *header, size_t header_len, size_t checksum, const uint8_t *data,
                   size_t len)
{
    uint8_t ip[40], pseudo[4] = {0, protocol, 0, 0};
    size_t total = header_len + len, ip_len = ip_header(ip, c, dir, protocol, total);
    uint32_t s = c->v6 ? sum(0, ip + 8, 32) : sum(0, ip + 12, 8);
    struct pcapng_part parts[] = {{ip, ip_len}, {header, header_len}, {data, len}};

    put16(pseudo + 2, (uint32_t)total);
    s = sum(s, pseudo, sizeof(pseudo));
    s = sum(s, header, header_len);
    s = ~sum(s, data, len) & 0xffff;
    put16(header + checksum, protocol == IPPROTO_UDP && !s ? 0xffff : s); /* RFC 768 */
    pcapng_packet(p->to, c->interface, time_ns, dir == PAYLOAD_IN ? PCAPNG_INBOUND : PCAPNG_OUTBOUND, c->comment, parts,
                  3);
}

static void segment(struct packets *p, struct conversation *c, enum payload_dir dir, uint64_t time_ns, unsigned flags,
                    const uint8_t *data, size_t len)
{
    uint8_t h[28] = {0};
    size_t header_len = 20;

    put16(h, c->from[dir].port); /* RFC 9293 */
    put16(h + 2, c->from[!dir].port);
    put32(h + 4, c->seq[dir]);
    if (flags & ACK) {
        put32(h + 8, c->seq[!dir]);
        c->unacked[!dir] = 0;
    }
    if (flags & SYN) {
        static const uint8_t scale[] = {1 /* no operation */, 3, 3, WINDOW_SHIFT};

        memcpy(h + 20, scale, sizeof(scale));
        header_len = 24;
    }
    h[12] = (uint8_t)(header_len / 4 << 4);
    h[13] = (uint8_t)flags;
    put16(h + 14, WINDOW);
    packet(p, c, dir, time_ns, IPPROTO_TCP, h, header_len, 16, data, len);
    c->seq[dir] += (uint32_t)len + ((flags & (SYN | FIN)) != 0);
    c->unacked[dir] += (uint32_t)len;
    if (c->unacked[dir] > UNACKED_MAX)
        segment(p, c, !dir, time_ns, ACK, NULL, 0);
}

static void handshake(struct packets *p, struct conversation *c, const struct payload_record *r)
{
    enum payload_dir to_server = c->client ? PAYLOAD_OUT : PAYLOAD_IN;
    uint64_t time_ns = r->flow->begin_ns ? r->flow->begin_ns : r->time_ns;

    c->open = true;
    segment(p, c, to_server, time_ns, SYN, NULL, 0);
    segment(p, c, !to_server, time_ns, SYN | ACK, NULL, 0);
    segment(p, c, to_server, time_ns, ACK, NULL, 0);
}

static void finish(struct packets *p, struct conversation *c, const struct payload_record *r)
{
    bool by_peer = r->flow->reason && strcmp(r->flow->reason, "remote") == 0;
    enum payload_dir first = by_peer ? PAYLOAD_IN : PAYLOAD_OUT;

    c->closed = true;
    segment(p, c, first, r->time_ns, FIN | ACK, NULL, 0);
    segment(p, c, !first, r->time_ns, FIN | ACK, NULL, 0);
    segment(p, c, first, r->time_ns, ACK, NULL, 0);
}

static void datagram(struct packets *p, struct conversation *c, enum payload_dir dir, uint64_t time_ns,
                     const uint8_t *data, size_t len)
{
    uint8_t h[8] = {0};

    put16(h, c->from[dir].port);
    put16(h + 2, c->from[!dir].port);
    put16(h + 4, (uint32_t)(sizeof(h) + len));
    packet(p, c, dir, time_ns, IPPROTO_UDP, h, sizeof(h), 6, data, len);
}

/* Bytes that are counted, but not there. Where so many are missing that the numbers come round again, the receiver
 * can't have been silent. */
static void skip(struct packets *p, struct conversation *c, enum payload_dir dir, uint64_t time_ns, uint64_t len)
{
    if (!c->stream)
        return;
    c->seq[dir] += (uint32_t)len;
    if (len > UNACKED_MAX)
        segment(p, c, !dir, time_ns, ACK, NULL, 0);
}

static int add_data(struct packets *p, struct conversation *c, const struct payload_record *r)
{
    size_t max = c->stream ? SEGMENT_MAX : DATAGRAM_MAX;
    uint64_t done = 0;

    do {
        size_t want = r->len - done < max ? (size_t)(r->len - done) : max;
        size_t got = 0;

        while (got < want) {
            ssize_t n = payload_read(p->from, r->flow, r->dir, r->at + done + got, p->data + got, want - got);

            if (n <= 0) {
                if (c->stream && got)
                    segment(p, c, r->dir, r->time_ns, PSH | ACK, p->data, got);
                skip(p, c, r->dir, r->time_ns, r->len - done - got);
                return n < 0 ? (int)n : -ENODATA;
            }
            got += (size_t)n;
        }
        if (c->stream && got)
            segment(p, c, r->dir, r->time_ns, PSH | ACK, p->data, got);
        else if (!c->stream)
            datagram(p, c, r->dir, r->time_ns, p->data, got);
        done += got;
    } while (done < r->len);
    return 0;
}

int packets_add(struct packets *p, const struct payload_record *r)
{
    struct conversation *c;

    if (r->kind == PAYLOAD_FLOW)
        return 0; /* more may become known before the first byte */
    c = conversation(p, r->flow);
    if (c->closed)
        return 0;
    if (c->stream && !c->open)
        handshake(p, c, r);
    if (r->kind == PAYLOAD_DATA)
        return add_data(p, c, r);
    if (r->kind == PAYLOAD_GAP)
        skip(p, c, r->dir, r->time_ns, r->len);
    else if (c->stream)
        finish(p, c, r);
    return 0;
}
