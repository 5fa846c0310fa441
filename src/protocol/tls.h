/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the beginning of a TLS connection says in clear text: ClientHello and
 * ServerHello (RFC 8446, RFC 5246, RFC 6066, RFC 7301). Of what follows them
 * only the headers of records are looked at, until it is clear whether the two
 * sides talk. Hellos in the format of SSL 2 (RFC 5246, appendix E.2) are
 * recognised, not more.
 *
 * Memory: 2 * TLS_HELLO_MAX for each direction whose hello is under way;
 * otherwise at most 512 bytes.
 */
#ifndef SCOPE_PROTOCOL_TLS_H
#define SCOPE_PROTOCOL_TLS_H

#include <stdbool.h>

#include "protocol/protocol.h"

#define TLS_HELLO_MAX 65536u /* bytes of a hello; a longer one isn't read */
#define TLS_ALPN_MAX 16u     /* protocols of an offer that are told */

/* Versions: 0x0300 SSL 3.0 ... 0x0304 TLS 1.3; 0x0002 SSL 2.0. */
struct tls_client_hello {
    enum proto_dir dir;              /* who sent it is the client */
    bool sslv2;                      /* in the format of SSL 2: only version is known */
    uint16_t record_version;         /* of its (first) record */
    uint16_t legacy_version;         /* of the message */
    uint16_t version;                /* the highest that is offered; 0 if none is known */
    struct slice server_name;        /* SNI; p NULL if there is none */
    struct slice alpn[TLS_ALPN_MAX]; /* in order of preference, without GREASE (RFC 8701) */
    size_t alpn_count;
    bool ech;    /* has encrypted_client_hello: server_name is the public one, unless it is GREASE */
    bool ticket; /* offers to resume a session: a ticket, or a pre-shared key */
    bool cut;    /* more protocols were offered than TLS_ALPN_MAX */
};

enum tls_resumed { TLS_RESUMED_UNKNOWN, TLS_RESUMED_NO, TLS_RESUMED_YES };

struct tls_server_hello {
    enum proto_dir dir;
    uint16_t legacy_version;
    uint16_t version;         /* that was chosen */
    uint16_t cipher;          /* tls_cipher_text() */
    struct slice alpn;        /* chosen; p NULL if none, and with TLS 1.3, where it is encrypted */
    enum tls_resumed resumed; /* TLS 1.3: by any pre-shared key */
    bool retried;             /* a HelloRetryRequest came first (RFC 8446, section 4.1.4) */
};

enum tls_end {
    TLS_END_HELLOS,     /* both hellos were read */
    TLS_END_ALERT,      /* refused: a fatal alert came instead of a hello */
    TLS_END_UNREADABLE, /* something that is no hello, or one that is damaged, too long or was not captured */
    TLS_END_CLOSED,     /* tls_free() */
};

/* Any member may be NULL. Slices are valid during the call only. */
struct tls_sink {
    void (*client_hello)(void *owner, const struct tls_client_hello *, uint64_t time_ns);
    /* duration_ns: from the end of the ClientHello; 0 if that wasn't read. */
    void (*server_hello)(void *owner, const struct tls_server_hello *, uint64_t time_ns, uint64_t duration_ns);
    /* Once. Nothing is looked at any more. alert: its description (RFC 8446, section 6), else -1. */
    void (*done)(void *owner, enum tls_end, int alert);
};

struct tls;

/* sink is kept by reference. Never fails. The decoder is for connections that are seen from their first byte. */
struct tls *tls_new(const struct tls_sink *sink, void *owner);
/* Tells the end if it wasn't told. NULL is fine. */
void tls_free(struct tls *t);
/* As http1_feed(). */
void tls_feed(struct tls *t, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns);
/* Whether the end was told: nothing more needs to be captured. */
bool tls_done(const struct tls *t);
/* As http1_skip(): how many of the next bytes in this direction aren't needed: 0, or UINT64_MAX for all. */
uint64_t tls_skip(const struct tls *t, enum proto_dir dir);

/* Whether these first bytes of a direction are a ClientHello, or a ServerHello: 1 yes, 0 no, -1 more bytes are needed
 * (never with TLS_DETECT bytes or more). */
int tls_detect(const uint8_t *data, size_t len);
#define TLS_DETECT 11

/* Whether these bytes, which follow others, begin with a record of encrypted data (RFC 8446, section 5.2), and with others
 * behind it. */
bool tls_encrypted(const uint8_t *data, size_t len);

/*
 * Whether application data passed in both directions, as the headers of records tell (RFC 5246, section 6.2; RFC 8446,
 * section 5). TLS 1.3 hides what a record is: there it is what either side sends behind a record of the client's of the
 * length of its Finished message, unless an alert or a KeyUpdate is as long. Of the server that may be a ticket, which says
 * that it has accepted the client; the client's are data. Where that isn't clear the answer is no: never a handshake, nor one
 * that was refused, is taken for data. Which side's bytes are fed first doesn't matter. Zeroed at first.
 */
#define TLS_RECORDS_MAX 65536u /* bytes that are looked at, both directions together */
enum tls_talk {
    TLS_TALK_UNDECIDED,
    TLS_TALK_YES,
    TLS_TALK_NO,  /* not to be known */
};
struct tls_records {
    struct tls_records_side {
        uint8_t head[5], head_len;
        uint32_t left; /* bytes of the record that are still to come */
    } sides[PROTO_DIRS];
    uint32_t looked;
    uint16_t version, cipher; /* version 0: not agreed yet */
    uint8_t client;           /* enum proto_dir */
    uint8_t talk;             /* enum tls_talk */
    bool finished;            /* TLS 1.3: the client's was seen */
    bool sent[PROTO_DIRS];
};

/* What the ServerHello says; the client sends in this direction. */
void tls_records_agreed(struct tls_records *r, enum proto_dir client, uint16_t version, uint16_t cipher);
/* Bytes of a direction from the first one on, each once; data NULL: a gap. Those of a ServerHello are fed when what it
 * says is known. */
enum tls_talk tls_records_feed(struct tls_records *r, enum proto_dir dir, const uint8_t *data, uint64_t len);
/* As tls_skip(): 0, so many, or UINT64_MAX. */
uint64_t tls_records_skip(const struct tls_records *r, enum proto_dir dir);

/* The first bytes of a direction, as far as the random of a ClientHello (RFC 8446, section 4.1.2) is among them: of one
 * whose record isn't shorter. Zeroed at first. */
#define TLS_RANDOM 32u
struct tls_first {
    uint8_t len;
    uint8_t data[TLS_DETECT + TLS_RANDOM];
};

/* Goes on with these bytes. Returns the random, within f, when it is complete; once. NULL: not yet, or there is none. */
const uint8_t *tls_first_add(struct tls_first *f, const uint8_t *data, size_t len);

/* The TLS_RANDOM bytes that a record of encrypted data begins with, behind its header, by which it is found again as a
 * ClientHello is by its random; NULL if the bytes aren't the beginning of such a record, or fewer. */
const uint8_t *tls_record_mark(const uint8_t *data, size_t len);

/* "TLS 1.3", "SSL 3.0"; NULL for numbers that are no version. */
const char *tls_version_text(uint16_t version);
/* IANA's name of a cipher suite ("TLS_AES_128_GCM_SHA256"), NULL for those that are rare. */
const char *tls_cipher_text(uint16_t cipher);
/* Name of an alert ("handshake_failure"), NULL if it has none. */
const char *tls_alert_text(unsigned description);

#endif
