/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/preamble.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"

#define PROXY1_MAX 107u /* bytes of a line, with CR LF */
#define PROXY2_FIXED 16u
#define PROXY2_ADDRESSES 36u /* two of IPv6 with their ports */
#define SOCKS4_TEXT 256u     /* of a user's name or a host's, with its NUL; a bound of ours */

static const uint8_t signature[12] = {'\r', '\n', '\r', '\n', 0, '\r', '\n', 'Q', 'U', 'I', 'T', '\n'};

enum state {
    ST_PROXY,      /* the line, or what version 2 has before its extensions */
    ST_EXTENSIONS, /* of version 2: `skip` bytes */
    ST_FIRST,      /* SOCKS: which version */
    ST_GREETING,
    ST_METHOD,
    ST_LOGIN,
    ST_LOGIN_ANSWER,
    ST_REQUEST,
    ST_ANSWER,
    ST_REQUEST4,
    ST_ANSWER4,
    ST_OVER,
};

/* What a step of the state machine has come to. */
enum step { STEP_MORE, STEP_DONE, STEP_BAD };

struct side {
    struct buf held;
    size_t at; /* bytes of it that were understood */
    uint64_t time_ns;
};

struct preamble {
    const struct preamble_sink *sink;
    void *owner;
    struct preamble_told told;
    enum state state;
    uint64_t skip;
    unsigned answers; /* to a SOCKS request */
    char host[SOCKS4_TEXT];
    struct side sides[PROTO_DIRS];
};

struct preamble *preamble_new(const struct preamble_sink *sink, void *owner, enum preamble_kind kind,
                              enum proto_dir dir)
{
    struct preamble *p = xcalloc(1, sizeof(*p));

    p->sink = sink;
    p->owner = owner;
    p->told = (struct preamble_told){.kind = kind, .dir = dir, .reply = -1};
    p->state = kind == PREAMBLE_PROXY ? ST_PROXY : ST_FIRST;
    return p;
}

static void tell(struct preamble *p, bool goes_on, uint64_t time_ns)
{
    p->state = ST_OVER;
    p->told.goes_on = goes_on;
    p->sink->told(p->owner, &p->told, time_ns);
    /* The client's first: the proxy's are answers. */
    for (int i = 0; goes_on && i < PROTO_DIRS; i++) {
        enum proto_dir dir = i ? proto_other(p->told.dir) : p->told.dir;
        const struct side *s = &p->sides[dir];

        if (s->held.len > s->at)
            p->sink->rest(p->owner, dir, (const uint8_t *)s->held.p + s->at, s->held.len - s->at, s->time_ns);
    }
    for (int dir = 0; dir < PROTO_DIRS; dir++)
        buf_free(&p->sides[dir].held);
}

void preamble_free(struct preamble *p, uint64_t time_ns)
{
    if (!p)
        return;
    if (p->state != ST_OVER)
        tell(p, false, time_ns);
    free(p);
}

/* What isn't understood yet. */
static const uint8_t *left(const struct side *s, size_t *ret_len)
{
    *ret_len = s->held.len - s->at;
    return *ret_len ? (const uint8_t *)s->held.p + s->at : (const uint8_t *)"";
}

static void set_addr(struct preamble_addr *a, unsigned len, const uint8_t *ip, const uint8_t *port)
{
    a->len = len;
    memcpy(a->ip, ip, len);
    a->port = (uint16_t)(port[0] << 8 | port[1]);
}

/* --- PROXY --- */

/* The next word of a line. */
static size_t word(const char **at, const char *end, char *to, size_t size)
{
    const char *begin = *at, *stop;

    if (begin == end || *begin++ != ' ')
        return 0;
    stop = memchr(begin, ' ', (size_t)(end - begin));
    if (!stop)
        stop = end;
    *at = stop;
    if ((size_t)(stop - begin) >= size)
        return 0;
    memcpy(to, begin, (size_t)(stop - begin));
    to[stop - begin] = '\0';
    return (size_t)(stop - begin);
}

static bool port_of(const char *text, uint16_t *ret)
{
    unsigned n = 0;

    for (const char *c = text; *c; c++) {
        if (*c < '0' || *c > '9' || (n = n * 10 + (unsigned)(*c - '0')) > UINT16_MAX)
            return false;
    }
    *ret = (uint16_t)n;
    return *text;
}

/* "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443", without the end of the line (section 2.1). */
static void read_line(struct preamble *p, const char *line, size_t len)
{
    const char *at = line + strlen("PROXY"), *end = line + len;
    struct preamble_addr client = {0}, target = {0};
    char family[8], from[INET6_ADDRSTRLEN], to[INET6_ADDRSTRLEN], from_port[8], to_port[8];
    int af;

    p->told.version = 1;
    if (!word(&at, end, family, sizeof(family)) || (strcmp(family, "TCP4") != 0 && strcmp(family, "TCP6") != 0))
        return;
    af = family[3] == '4' ? AF_INET : AF_INET6;
    client.len = target.len = af == AF_INET ? 4 : 16;
    if (!word(&at, end, from, sizeof(from)) || !word(&at, end, to, sizeof(to)) ||
        !word(&at, end, from_port, sizeof(from_port)) || !word(&at, end, to_port, sizeof(to_port)) || at != end ||
        inet_pton(af, from, client.ip) != 1 || inet_pton(af, to, target.ip) != 1 || !port_of(from_port, &client.port) ||
        !port_of(to_port, &target.port))
        return;
    p->told.client = client;
    p->told.target = target;
}

/* Section 2.2. */
static enum step read_binary(struct preamble *p, struct side *s)
{
    size_t len, size, take;
    const uint8_t *b = left(s, &len);
    unsigned family, ip;

    if (len < PROXY2_FIXED)
        return STEP_MORE;
    size = (size_t)b[14] << 8 | b[15];
    take = size < PROXY2_ADDRESSES ? size : PROXY2_ADDRESSES;
    if (len < PROXY2_FIXED + take)
        return STEP_MORE;
    p->told.version = 2;
    family = b[13] >> 4;
    ip = family == 1 ? 4 : family == 2 ? 16 : 0;
    if ((b[12] & 15) == 1 && ip && size >= 2 * ip + 4) { /* else LOCAL, or an address that we have no place for */
        const uint8_t *a = b + PROXY2_FIXED;

        set_addr(&p->told.client, ip, a, a + (size_t)2 * ip);
        set_addr(&p->told.target, ip, a + ip, a + (size_t)2 * ip + 2);
    }
    s->at += PROXY2_FIXED + take;
    p->skip = size - take;
    p->state = ST_EXTENSIONS;
    return STEP_DONE;
}

static enum step read_proxy(struct preamble *p, struct side *s)
{
    size_t len;
    const uint8_t *b = left(s, &len), *end;

    if (!len)
        return STEP_MORE;
    if (b[0] == signature[0])
        return preamble_proxy_detect(b, len) ? read_binary(p, s) : STEP_BAD;
    end = memchr(b, '\n', len < PROXY1_MAX ? len : PROXY1_MAX);
    if (!end)
        return len < PROXY1_MAX ? STEP_MORE : STEP_BAD;
    if (preamble_proxy_detect(b, len) != 1 || end[-1] != '\r')
        return STEP_BAD;
    read_line(p, (const char *)b, (size_t)(end - b) - 1);
    s->at += (size_t)(end - b) + 1;
    p->state = ST_EXTENSIONS;
    return STEP_DONE;
}

/* --- SOCKS 5 --- */

static enum step read_greeting(struct preamble *p, struct side *client)
{
    size_t len;
    const uint8_t *b = left(client, &len);

    if (len < 2 || len < 2u + b[1])
        return STEP_MORE;
    client->at += 2u + b[1];
    p->state = ST_METHOD;
    return STEP_DONE;
}

static enum step read_method(struct preamble *p, struct side *proxy)
{
    size_t len;
    const uint8_t *b = left(proxy, &len);

    if (len < 2)
        return STEP_MORE;
    if (b[0] != 5 || (b[1] != 0 && b[1] != 2))
        return STEP_BAD;
    p->state = b[1] == 2 ? ST_LOGIN : ST_REQUEST;
    proxy->at += 2;
    return STEP_DONE;
}

static enum step read_login(struct preamble *p, struct side *client)
{
    size_t len, user, size;
    const uint8_t *b = left(client, &len);

    if (len < 2 || len < (user = 2u + b[1]) + 1)
        return STEP_MORE;
    size = user + 1 + b[user];
    if (b[0] != 1)
        return STEP_BAD;
    if (len < size)
        return STEP_MORE;
    client->at += size;
    p->state = ST_LOGIN_ANSWER;
    return STEP_DONE;
}

static enum step read_login_answer(struct preamble *p, struct side *proxy)
{
    size_t len;
    const uint8_t *b = left(proxy, &len);

    if (len < 2)
        return STEP_MORE;
    if (b[1] != 0)
        return STEP_BAD;
    proxy->at += 2;
    p->state = ST_REQUEST;
    return STEP_DONE;
}

/* Bytes of a request or an answer, with this address; 0: more are needed to tell, SIZE_MAX: it is none. */
static size_t size_of_5(const uint8_t *b, size_t len)
{
    if (len && b[0] != 5)
        return SIZE_MAX;
    if (len < 5)
        return 0;
    switch (b[3]) {
    case 1:
        return 4 + 4 + 2;
    case 3:
        return 4u + 1 + b[4] + 2;
    case 4:
        return 4 + 16 + 2;
    default:
        return SIZE_MAX;
    }
}

static enum step read_request(struct preamble *p, struct side *client)
{
    size_t len, size;
    const uint8_t *b = left(client, &len);

    size = size_of_5(b, len);
    if (size == SIZE_MAX)
        return STEP_BAD;
    if (!size || len < size)
        return STEP_MORE;
    p->told.command = b[1];
    if (b[3] == 3) {
        memcpy(p->host, b + 5, b[4]);
        p->told.host = (struct slice){p->host, b[4]};
        p->told.target.port = (uint16_t)(b[size - 2] << 8 | b[size - 1]);
    } else {
        set_addr(&p->told.target, b[3] == 1 ? 4 : 16, b + 4, b + size - 2);
    }
    client->at += size;
    p->state = ST_ANSWER;
    return STEP_DONE;
}

/* CONNECT has one answer, BIND another one when the connection is there. */
static enum step answered(struct preamble *p, unsigned reply, bool yes, enum step *ret_end)
{
    p->told.reply = (int)reply;
    if (!yes || (p->told.command != 1 && p->told.command != 2))
        return STEP_BAD;
    *ret_end = ++p->answers == p->told.command ? STEP_DONE : STEP_MORE;
    return STEP_DONE;
}

static enum step read_answer(struct preamble *p, struct side *proxy, enum step *ret_end)
{
    size_t len, size;
    const uint8_t *b = left(proxy, &len);

    size = size_of_5(b, len);
    if (size == SIZE_MAX)
        return STEP_BAD;
    if (!size || len < size)
        return STEP_MORE;
    proxy->at += size;
    return answered(p, b[1], b[1] == 0, ret_end);
}

/* --- SOCKS 4 --- */

static enum step read_request4(struct preamble *p, struct side *client)
{
    size_t len, room, host;
    const uint8_t *b = left(client, &len), *user, *name;
    bool named;

    if (len < 8)
        return STEP_MORE;
    room = len - 8 < SOCKS4_TEXT ? len - 8 : SOCKS4_TEXT;
    user = memchr(b + 8, 0, room);
    if (!user)
        return room < SOCKS4_TEXT ? STEP_MORE : STEP_BAD;
    named = !b[4] && !b[5] && !b[6] && b[7]; /* 4a: 0.0.0.x, and a name behind the user's */
    set_addr(&p->told.target, named ? 0 : 4, b + 4, b + 2);
    name = user + 1;
    if (named) {
        host = len - (size_t)(name - b) < SOCKS4_TEXT ? len - (size_t)(name - b) : SOCKS4_TEXT;
        user = memchr(name, 0, host);
        if (!user)
            return host < SOCKS4_TEXT ? STEP_MORE : STEP_BAD;
        memcpy(p->host, name, (size_t)(user - name));
        p->told.host = (struct slice){p->host, (size_t)(user - name)};
    }
    p->told.command = b[1];
    client->at += (size_t)(user - b) + 1;
    p->state = ST_ANSWER4;
    return STEP_DONE;
}

static enum step read_answer4(struct preamble *p, struct side *proxy, enum step *ret_end)
{
    size_t len;
    const uint8_t *b = left(proxy, &len);

    if (len < 8)
        return STEP_MORE;
    proxy->at += 8;
    return answered(p, b[1], b[0] == 0 && b[1] == 90, ret_end);
}

/* --- both --- */

static enum step read_first(struct preamble *p, const struct side *client)
{
    size_t len;
    const uint8_t *b = left(client, &len);

    if (!len)
        return STEP_MORE;
    p->told.version = b[0];
    p->state = b[0] == 4 ? ST_REQUEST4 : ST_GREETING;
    return b[0] == 4 || b[0] == 5 ? STEP_DONE : STEP_BAD;
}

/* *ret_end: STEP_DONE if this was its end. */
static enum step step(struct preamble *p, enum step *ret_end)
{
    struct side *client = &p->sides[p->told.dir], *proxy = &p->sides[proto_other(p->told.dir)];
    size_t len;

    switch (p->state) {
    case ST_PROXY:
        return read_proxy(p, client);
    case ST_EXTENSIONS:
        left(client, &len);
        if (len > p->skip)
            len = (size_t)p->skip;
        client->at += len;
        p->skip -= len;
        if (p->skip)
            return STEP_MORE;
        *ret_end = STEP_DONE;
        return STEP_DONE;
    case ST_FIRST:
        return read_first(p, client);
    case ST_GREETING:
        return read_greeting(p, client);
    case ST_METHOD:
        return read_method(p, proxy);
    case ST_LOGIN:
        return read_login(p, client);
    case ST_LOGIN_ANSWER:
        return read_login_answer(p, proxy);
    case ST_REQUEST:
        return read_request(p, client);
    case ST_ANSWER:
        return read_answer(p, proxy, ret_end);
    case ST_REQUEST4:
        return read_request4(p, client);
    case ST_ANSWER4:
        return read_answer4(p, proxy, ret_end);
    case ST_OVER:
        break;
    }
    return STEP_MORE;
}

static void go_on(struct preamble *p, uint64_t time_ns)
{
    enum step end = STEP_MORE, now;

    do
        now = step(p, &end);
    while (now == STEP_DONE && end == STEP_MORE);
    if (now == STEP_BAD)
        tell(p, false, time_ns);
    else if (end == STEP_DONE)
        tell(p, true, time_ns);
}

/* What was understood isn't needed any more. */
static void drop(struct side *s)
{
    if (!s->at)
        return;
    memmove(s->held.p, s->held.p + s->at, s->held.len - s->at);
    s->held.len -= s->at;
    s->at = 0;
}

void preamble_feed(struct preamble *p, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    struct side *s = &p->sides[dir];

    if (!len)
        return;
    if (p->state == ST_OVER) {
        if (p->told.goes_on)
            p->sink->rest(p->owner, dir, data, len, time_ns);
        return;
    }
    if (!data && p->state == ST_EXTENSIONS && dir == p->told.dir && len < p->skip) { /* nobody needs them */
        p->skip -= len;
        return;
    }
    /* In pieces that fit, as much as may be understood of each. */
    while (len && data && p->state != ST_OVER) {
        size_t take = PREAMBLE_HELD - s->held.len < len ? PREAMBLE_HELD - s->held.len : (size_t)len;

        if (!take)
            break;
        buf_add(&s->held, data, take);
        s->time_ns = time_ns;
        data += take;
        len -= take;
        go_on(p, time_ns);
        if (p->state != ST_OVER)
            drop(s);
    }
    if (!len)
        return;
    if (p->state != ST_OVER) /* a gap, or more than there is room for */
        tell(p, false, time_ns);
    else if (p->told.goes_on)
        p->sink->rest(p->owner, dir, data, len, time_ns);
}

/* --- recognising --- */

static int begins(const uint8_t *data, size_t len, const void *with, size_t size)
{
    if (memcmp(data, with, len < size ? len : size) != 0)
        return 0;
    return len < size ? -1 : 1;
}

int preamble_proxy_detect(const uint8_t *data, size_t len)
{
    static const char *const lines[] = {"PROXY TCP4 ", "PROXY TCP6 ", "PROXY UNKNOWN"};
    int is = begins(data, len, signature, sizeof(signature));

    if (is == 1)
        return len == sizeof(signature) ? -1 : data[12] == 0x20 || data[12] == 0x21;
    for (size_t i = 0; !is && i < sizeof(lines) / sizeof(*lines); i++)
        is = begins(data, len, lines[i], strlen(lines[i]));
    return is;
}

int preamble_socks_detect(const uint8_t *client, size_t client_len, const uint8_t *proxy, size_t proxy_len)
{
    if (!client_len)
        return -1;
    if (client[0] == 4) {
        if ((client_len > 1 && client[1] != 1 && client[1] != 2) || (proxy_len > 0 && proxy[0] != 0) ||
            (proxy_len > 1 && (proxy[1] < 90 || proxy[1] > 93)))
            return 0;
        if (client_len < 9)
            return proxy_len >= 2 ? 0 : -1; /* it answers what was asked */
        return proxy_len < 2 ? -1 : 1;
    }
    if (client[0] != 5 || (client_len > 1 && !client[1]) || (proxy_len > 0 && proxy[0] != 5))
        return 0;
    if (client_len < 2 || client_len < 2u + client[1])
        return proxy_len >= 2 ? 0 : -1;
    if (proxy_len < 2)
        return -1;
    return proxy[1] == 0xff || memchr(client + 2, proxy[1], client[1]) != NULL;
}
