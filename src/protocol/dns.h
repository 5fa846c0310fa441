/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DNS messages (RFC 1035, with RFC 2181, 2308, 3596, 6891, 9460), in datagrams
 * and over TCP (RFC 7766), and which response belongs to which query. Multicast
 * DNS (RFC 6762) and LLMNR (RFC 4795) have the same messages.
 *
 * The messages of a TCP connection have a length of two bytes in front; a
 * datagram is one message. Memory: 128 KiB for each direction of a connection in
 * which a message is under way, and DNS_OUTSTANDING_MAX outstanding queries.
 * While nothing is outstanding or under way a decoder takes at most 512 bytes.
 */
#ifndef SCOPE_PROTOCOL_DNS_H
#define SCOPE_PROTOCOL_DNS_H

#include <stdbool.h>

#include "protocol/protocol.h"

#define DNS_OUTSTANDING_MAX 1024u /* queries of a decoder; the oldest is given up for a newer one */
#define DNS_QUESTIONS_MAX 16u     /* of a message that are told; multicast queries have several */
#define DNS_ANSWERS_MAX 64u
#define DNS_TEXT_MAX 16384u /* bytes of all texts of a message */

/*
 * Names are text as in RFC 1035, section 5.1, without the last dot; the root is
 * ".". A dot or backslash in a label has a backslash before it. Valid UTF-8 is
 * left as it is (RFC 6762, section 16), and so are labels of internationalised
 * names (xn--...). Every other byte outside of 0x21..0x7e is \DDD, decimal.
 */
struct dns_question {
    struct slice name;
    uint16_t type;
    uint16_t class_; /* without the top bit */
    bool top;        /* the top bit of the class: RFC 6762: a unicast response is wanted */
};

struct dns_record {
    struct slice name;
    uint16_t type;
    uint16_t class_;   /* without the top bit */
    bool top;          /* RFC 6762: older records of that name are to be forgotten */
    uint32_t ttl;      /* seconds */
    struct slice text; /* as in a master file: "192.0.2.1", "10 mx.example.", but names without the last
                        * dot; types that aren't known as in RFC 3597: "\# 2 abcd" */
    bool cut;          /* text is only its beginning */
};

struct dns_message {
    uint16_t id;
    bool response;   /* QR */
    unsigned opcode; /* dns_opcode_text() */
    bool authoritative, truncated, recursion_desired, recursion_available, authentic_data, checking_disabled;
    unsigned rcode; /* with the upper bits of EDNS: 0..4095; dns_rcode_text() */
    bool edns;
    uint16_t edns_size; /* bytes that a datagram for the sender may have */
    uint8_t edns_version;
    bool edns_do;          /* DNSSEC records are wanted */
    unsigned counts[4];    /* as stated: questions, answers, authority, additional */
    size_t question_count; /* of them in `questions` */
    size_t answer_count;   /* in `answers` */
    bool ttl_known;
    uint32_t ttl;   /* seconds: the least of all answers; of a negative response: how long it may be kept
                     * (RFC 2308, section 5) */
    bool cut;       /* more records than are told, or texts that are longer, or bytes that weren't captured */
    bool malformed; /* what is told stood before the first fault */
    size_t size;    /* bytes, without the length that TCP has */
    struct dns_question questions[DNS_QUESTIONS_MAX];
    struct dns_record answers[DNS_ANSWERS_MAX]; /* the answer section, in order */
    char text[DNS_TEXT_MAX];                    /* where the slices point to */
};

/* Reads a message: captured bytes of size. Returns 0, or -EBADMSG if not even header and questions can be read. Faults
 * behind them, and records that aren't all there, are marked in the message. Time is linear in captured. */
int dns_parse(const uint8_t *data, size_t captured, size_t size, struct dns_message *ret);

enum dns_end {
    DNS_END_TIMEOUT,   /* dns_sweep() */
    DNS_END_FORGOTTEN, /* too many were outstanding */
    DNS_END_CLOSED,    /* dns_free() */
    DNS_END_EARLY,     /* its response was told before it, as one to nobody: of two threads of a program that send and
                        * receive, the one that receives may be the first to tell */
};

enum dns_note {
    DNS_NOTE_LOST,      /* TCP: `count` more bytes that weren't captured, or belong to no message */
    DNS_NOTE_MALFORMED, /* `count` messages that couldn't be read to their end: what stands before is told */
    DNS_NOTE_UNREADABLE, /* ... of which nothing is told */
};

/* A message on its way. */
struct dns_transit {
    enum proto_dir dir;
    uint64_t peer;    /* as it was given */
    uint64_t time_ns; /* of its last byte */
};

/* What a query has become. A query has the response with its id and (first) question that goes the other way; one
 * without questions, as multicast ones are, answers the query that asks for one of its answers. */
struct dns_exchange {
    void *kept;             /* what `query` returned */
    uint64_t duration_ns;   /* from the first transmission of the query */
    unsigned transmissions; /* of the query: 1 or more */
};

/* Any member may be NULL. Slices, and the message, are valid during the call only. */
struct dns_sink {
    /* Once for each query, however often it was sent. What it returns is given back once: by `response`, or by
     * `unanswered`. */
    void *(*query)(void *owner, const struct dns_message *, const struct dns_transit *);
    /* exchange NULL: nobody is known to have asked (an answer that came twice, or late; announcements of mDNS). */
    void (*response)(void *owner, const struct dns_message *, const struct dns_transit *,
                     const struct dns_exchange *exchange);
    void (*unanswered)(void *owner, const struct dns_exchange *, enum dns_end);
    void (*note)(void *owner, enum dns_note, uint64_t count);
};

struct dns;

/* stream: a TCP connection, to be fed with dns_feed(), else a datagram socket. joined: bytes of the connection passed
 * before, so it may begin within a message. sink is kept by reference. Never fails. */
struct dns *dns_new(const struct dns_sink *sink, void *owner, bool stream, bool joined);
/* Tells what is unanswered, then frees. NULL is fine. */
void dns_free(struct dns *d, uint64_t time_ns);

/* A datagram of `size` bytes, the first `captured` of which are there. peer: tells the peers of one socket apart (a
 * hash of the address, say); 0 if it is connected. Queries that came in are answered by responses to the same peer;
 * those that went out by responses from anybody (multicast). */
void dns_datagram(struct dns *d, enum proto_dir dir, uint64_t peer, const uint8_t *data, size_t captured, size_t size,
                  uint64_t time_ns);
/* As http1_feed(). */
void dns_feed(struct dns *d, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns);
/* Gives up queries that began timeout_ns or longer before time_ns. Returns how many are outstanding still. */
size_t dns_sweep(struct dns *d, uint64_t time_ns, uint64_t timeout_ns);
/* Queries without an answer. */
size_t dns_outstanding(const struct dns *d);

/* Whether these bytes are a DNS message beyond doubt: all of it is understood, of a plain query or a response, and
 * there is nothing behind it. Ports say nothing. */
bool dns_detect(const uint8_t *data, size_t len);
/* The same for the first bytes of a direction of a TCP connection: 1 yes, 0 no, -1 more bytes are needed (never with
 * DNS_DETECT_STREAM bytes or more). It judges from header and first question. */
int dns_detect_stream(const uint8_t *data, size_t len);
#define DNS_DETECT_STREAM (2 + 12 + 255 + 4)

/* Names of numbers (IANA's registries; "TYPE65280" as in RFC 3597, "OPCODE7", "RCODE4000" as dig has them). Those
 * without a name are written into text. */
#define DNS_WORD 16
const char *dns_type_text(uint16_t type, char text[DNS_WORD]);
const char *dns_class_text(uint16_t class_, char text[DNS_WORD]);
const char *dns_opcode_text(unsigned opcode, char text[DNS_WORD]);
const char *dns_rcode_text(unsigned rcode, char text[DNS_WORD]);

#endif
