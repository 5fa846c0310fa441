/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the HTTP decoders (http1.h, http2.h) tell their owner: heads of requests
 * and responses, matched in pairs, and what each exchange amounted to in the
 * end. Semantics: RFC 9110; messages: RFC 9112 (HTTP/1), RFC 9113 (HTTP/2).
 *
 * The decoder keeps no header. What the owner wants to know of a request when
 * its response comes, it keeps itself: `request` returns a pointer that
 * `response` and `done` get back.
 */
#ifndef SCOPE_PROTOCOL_HTTP_H
#define SCOPE_PROTOCOL_HTTP_H

#include <stdbool.h>

#include "protocol/protocol.h"

struct http_field {
    struct slice name, value;   /* HTTP/1: as sent, without surrounding white space, but with the line ends within a
                                 * folded value (HTTP_ODD_FOLD); HTTP/2: names are lower case */
};

/* What is strange about a message: peers may understand it differently (RFC 9112, sections 2.2, 5, 6, 7.1, 11.2). */
enum http_oddity {
    HTTP_ODD_LENGTHS     = 1 << 0, /* Content-Length fields that differ, or aren't numbers */
    HTTP_ODD_BOTH        = 1 << 1, /* Content-Length and Transfer-Encoding */
    HTTP_ODD_CODING      = 1 << 2, /* Transfer-Encoding whose last coding isn't chunked, in a request; chunked twice;
                                    * HTTP/2: any */
    HTTP_ODD_LINE        = 1 << 3, /* bare CR, white space before the colon of a field or within the target, no field;
                                    * HTTP/2: CR or LF in it */
    HTTP_ODD_FOLD        = 1 << 4, /* obsolete line folding */
    HTTP_ODD_CHUNK       = 1 << 5, /* a chunk size that only some understand */
    HTTP_ODD_NUL         = 1 << 6, /* a NUL byte in the head */
    HTTP_ODD_VERSION     = 1 << 7, /* Transfer-Encoding in a message of HTTP/1.0 */
};

/* The head of a message, with all its fields. A slice is absent if the message lacks it: with HTTP/2 a malformed request
 * may lack even the method. */
struct http_head {
    bool response;
    enum proto_dir dir;         /* in which it went */
    uint8_t major, minor;
    uint32_t stream;            /* HTTP/2; 0 with HTTP/1 */
    bool pushed;                /* HTTP/2: the promised request of a push */
    bool interim;               /* a 1xx response other than 101: another one follows */
    bool early;                 /* a response whose request is expected to be told behind it: of two threads of a program
                                 * that write and read, the one that reads may be the first to tell */
    uint32_t odd;               /* enum http_oddity, without what only the body shows */
    uint32_t request_odd;       /* a response: of its request, as far as that has passed */
    struct slice method, target;/* target: as sent (origin, absolute, authority or asterisk form); HTTP/2 :path */
    struct slice scheme;        /* HTTP/2 :scheme; absent with HTTP/1 */
    struct slice host;          /* Host, or :authority */
    struct slice protocol;      /* HTTP/2 :protocol of an extended CONNECT ("websocket", RFC 8441) */
    unsigned status;            /* 100..999 */
    struct slice reason;        /* HTTP/1 */
    int64_t content_length;     /* as stated; -1: not stated */
    const struct http_field *fields; /* in order; without HTTP/2's pseudo fields */
    size_t field_count;
    bool cut;                   /* there were more fields than the decoder takes (HTTP_FIELDS_MAX, HTTP_HEAD_MAX) */
    uint64_t first_ns, last_ns; /* when its first and its last byte passed */
};
#define HTTP_FIELDS_MAX 256u
#define HTTP_HEAD_MAX   65536u  /* bytes of a head that are looked at */

/* What an exchange amounted to. */
struct http_totals {
    uint32_t stream;
    uint64_t request_first_ns;  /* first byte of the request; 0: no request was seen */
    uint64_t response_first_ns; /* first byte of the final response; 0: none came */
    uint64_t end_ns;            /* last byte of the response, or when it was given up */
    uint64_t request_body, response_body; /* bytes as they passed, without chunk or frame headers */
    unsigned status;            /* of the final response; 0: none */
    bool complete;              /* both messages ended as they should */
    bool answered;              /* the final response did */
    bool gap;                   /* bytes that the decoder needed weren't captured; of bodies it needs the number only */
    uint32_t odd;               /* enum http_oddity of both messages, bodies included */
    uint32_t late_odd;          /* ... of them, those that no head has told */
    int grpc_status;            /* from trailers or head; -1: none */
};

enum http_note {
    HTTP_NOTE_JOINED,           /* the connection was joined half-way, and what began before is not told; once */
    HTTP_NOTE_LOST,             /* a gap put a direction out of step; `count` bytes until it was found again */
    HTTP_NOTE_NOT_HTTP,         /* what follows can't be understood; the decoder takes nothing any more */
    HTTP_NOTE_UNMATCHED,        /* more requests were outstanding than the decoder keeps; `count` were forgotten */
};

/* Any member may be NULL. */
struct http_sink {
    /* Returns what `response` and `done` get as `kept`; may be NULL. early: what `response` returned for the early
     * response to this request, else NULL. */
    void *(*request)(void *owner, const struct http_head *, void *early);
    /* kept: of its request, NULL if that wasn't seen (yet: head.early). duration_ns: from the request's first byte to the response's
     * first byte; 0 if the request wasn't seen. Returns what is `kept` from here on: a connection may stay in the body
     * of its last response, which nobody captures, for as long as it is idle. */
    void *(*response)(void *owner, const struct http_head *, void *kept, uint64_t duration_ns);
    /* The exchange is over, whether or not a response came. Called once for each request and each final response
     * without one; the decoder forgets `kept`. That may be a request which was told behind its response (http1.h). */
    void (*done)(void *owner, void *kept, const struct http_totals *);
    /* Bytes of a body (decoded from chunks or frames), for who decodes further (gRPC). data NULL: a gap. */
    void (*body)(void *owner, void *kept, enum proto_dir dir, bool response, const uint8_t *data, uint64_t len);
    /* HTTP/2: the fields behind the body (gRPC's outcome is there); before the `done` of the exchange. */
    void (*trailers)(void *owner, void *kept, bool response, const struct http_field *fields, size_t count);
    /* The connection speaks something else from here on, in both directions (101, or a 2xx to CONNECT). `to`: the
     * Upgrade field ("h2c", "websocket"), or absent with CONNECT. Bytes behind it go to `rest`. Comes between
     * `response` and `done`. With "h2c" a request that was seen is handed over, for http2_upgraded(): no `done`. */
    void (*upgraded)(void *owner, struct slice to, void *kept);
    void (*rest)(void *owner, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns);
    void (*note)(void *owner, enum http_note, uint64_t count);
};

/* The standard phrase of a status code (IANA registry), NULL if there is none. */
const char *http_status_text(unsigned status);

#endif
