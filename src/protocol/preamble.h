/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What stands in front of the protocol that a connection is made for:
 *
 * - the PROXY protocol, versions 1 and 2 (haproxy.org, proxy-protocol.txt): a
 *   header by which a proxy tells the server whose connection it passes on;
 * - SOCKS 5 (RFC 1928), with user name and password (RFC 1929), and SOCKS 4 and
 *   4a (the memos of NEC and of Ylonen): a client asks a proxy to connect it.
 *
 * Each is read to its end, told once, and what follows is handed on. What follows
 * a SOCKS request other than CONNECT and BIND, or one that is refused, or comes
 * under an authentication that changes the bytes (GSSAPI), isn't understood.
 *
 * Memory: the bytes of each direction that can't be understood yet, at most
 * PREAMBLE_HELD; a client may send on before it has the proxy's answer.
 */
#ifndef SCOPE_PROTOCOL_PREAMBLE_H
#define SCOPE_PROTOCOL_PREAMBLE_H

#include <stdbool.h>

#include "protocol/protocol.h"

#define PREAMBLE_HELD 16384u

enum preamble_kind { PREAMBLE_PROXY, PREAMBLE_SOCKS };

struct preamble_addr {
    unsigned len;   /* of ip: 4, 16; 0: not told */
    uint8_t ip[16]; /* network byte order */
    uint16_t port;
};

struct preamble_told {
    enum preamble_kind kind;
    enum proto_dir dir; /* in which the header, or the request, passed */
    bool goes_on;       /* what follows is what the connection is made for */
    unsigned version;   /* PROXY: 1, 2; SOCKS: 4, 5 */
    /* PROXY. Neither is told of a connection of the proxy's own (LOCAL, UNKNOWN), and of other families. */
    struct preamble_addr client; /* who has connected to the proxy */
    /* PROXY: the proxy's own end of that connection; SOCKS: whom to connect to, 0 before the request was read */
    struct preamble_addr target;
    struct slice host; /* SOCKS: the name instead of target.ip; p NULL: none */
    unsigned command;  /* SOCKS: 1 CONNECT, 2 BIND, 3 UDP ASSOCIATE; 0: the request wasn't read */
    int reply;         /* SOCKS: its code in the answer (5: 0 succeeded; 4: 90 granted), -1: there was none */
};

/* Slices are valid during the call only. */
struct preamble_sink {
    /* Once, at its end, or when it turns out that it can't be understood. */
    void (*told)(void *owner, const struct preamble_told *, uint64_t time_ns);
    /* Behind it, if it goes on. data NULL: not captured. */
    void (*rest)(void *owner, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns);
};

struct preamble;

/* dir: in which the header, or the client's bytes, pass: it was detected there. sink is kept by reference. Never fails.
 */
struct preamble *preamble_new(const struct preamble_sink *sink, void *owner, enum preamble_kind kind,
                              enum proto_dir dir);
/* Tells it if it wasn't told. NULL is fine. */
void preamble_free(struct preamble *p, uint64_t time_ns);
/* As http1_feed(). */
void preamble_feed(struct preamble *p, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns);

/* Whether these first bytes of a direction are a PROXY header: 1 yes, 0 no, -1 more are needed (never with
 * PREAMBLE_PROXY_DETECT bytes). */
int preamble_proxy_detect(const uint8_t *data, size_t len);
#define PREAMBLE_PROXY_DETECT 13u

/* Likewise whether the first bytes of who has spoken first, and of the other, are those of a SOCKS client and its
 * proxy. Two bytes are too few to tell it by, so the answer counts, too. */
int preamble_socks_detect(const uint8_t *client, size_t client_len, const uint8_t *proxy, size_t proxy_len);

#endif
