/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of the decoder of HTTP/1 share: http1.c takes the bytes of each
 * direction up to the end of a head, http1_body.c what is behind it, and
 * http1_exchange.c says which messages belong together. Internal to them.
 */
#ifndef SCOPE_PROTOCOL_HTTP1_PARTS_H
#define SCOPE_PROTOCOL_HTTP1_PARTS_H

#include "base/buf.h"
#include "protocol/http1.h"
#include "protocol/http1_head.h"

enum state {
    FIND,  /* out of step: looks for the unmistakable beginning of a message */
    START, /* between messages */
    HEAD,
    BODY, /* `left` bytes of it are to come */
    BODY_TO_END,
    CHUNK_SIZE, /* `left` is the size so far */
    CHUNK_SPACE,
    CHUNK_EXTENSION,
    CHUNK_DATA, /* `left` bytes of it are to come */
    CHUNK_CR,   /* behind its data */
    CHUNK_LF,
    TRAILERS,
    HELD,  /* request direction: what follows depends on the answer to CONNECT or Upgrade; is kept in `text` */
    REST,  /* something else than HTTP */
    ENDED, /* nothing is taken any more */
};

/* Where in a head (or trailers) the next byte is. */
enum place {
    IN_START_LINE,
    LINE_BEGIN,
    LINE_BEGIN_CR, /* behind a CR with which a line began; in the line of a chunk's size: behind any CR */
    IN_LINE,
};

/* How far the order of messages tells which response belongs to which request. */
enum pairing {
    SURE,   /* all was seen: a response without a request is one whose request is told late */
    LIKELY, /* something was missed: as long as one request waits for its response before the next, they pair */
    NONE,   /* something was missed of a pipeline, so responses may belong to any request */
};

/* So many responses may wait for requests that are told late. More are a direction that nobody sees. */
#define EARLY_MAX 16u

struct exchange {
    struct exchange *next;
    void *kept;
    struct http_totals totals;
    uint32_t told_odd; /* of totals.odd, what the heads have told */
    bool has_request;
    bool alone;         /* its request began when nothing was outstanding */
    bool asked;         /* the request is over, or never comes */
    bool answering;     /* the final response has begun */
    bool answered;      /* the response is over, or never comes */
    bool broken;        /* one of them didn't end as it should */
    bool head, connect; /* its method */
    bool holds;         /* the bytes behind the request wait for its answer */
    bool expects;       /* its body may wait for one, too (RFC 9110, section 10.1.1) */
    bool handed_over;   /* to whoever decodes h2c */
};

/* Lines of a head that are beyond HTTP_HEAD_MAX: looked at one by one, for what they say about framing. */
struct excess {
    struct http1_framing framing; /* what all lines so far say */
    bool in_start_line;
    int minor; /* where the start line is cut: what its end says, else -1 */
    size_t len;
    char line[1024]; /* its beginning; of the start line its end */
};
#define START_LINE_END 32u

/* Whoever is told such a length must close the connection behind the message (RFC 9112, sections 6.1 and 6.3). */
#define ODD_FRAMING (HTTP_ODD_LENGTHS | HTTP_ODD_BOTH | HTTP_ODD_CODING | HTTP_ODD_VERSION)

struct side {
    enum state state;
    enum place place;
    bool skipping;     /* FIND: the line isn't looked at */
    bool joined;       /* FIND: since the connection was joined */
    bool faulty;       /* nobody can say where the message ends, but the direction's end */
    uint8_t digits;    /* CHUNK_SIZE: so many were there, 255 at most */
    bool closing;      /* a message said that it is the last one */
    uint64_t left;     /* of a body or chunk; FIND: bytes that were passed over */
    uint64_t first_ns; /* first byte of the message, or of what is held */
    struct buf text;   /* of a head or line that isn't complete, or what is held */
    size_t text_at;    /* HELD: so much of it is done with */
    struct excess *excess;
    struct exchange *exchange; /* whose message is being taken; NULL between messages */
};

struct http1 {
    const struct http_sink *sink;
    void *owner;
    struct side sides[PROTO_DIRS];
    bool known; /* which direction carries requests: */
    enum proto_dir requests;
    enum pairing pairing;
    bool joined; /* and that isn't told yet */
    bool upgraded;
    bool never_hold; /* more was held once than there is room for */
    unsigned count;  /* of exchanges */
    struct exchange *first, **last_next;
    struct exchange *unanswered; /* the first one whose response is to come; so are those of all behind it */
    struct exchange *unasked;    /* the first one whose request is to come; the same */
};

static inline struct side *request_side(struct http1 *h)
{
    return &h->sides[h->requests];
}

static inline struct side *response_side(struct http1 *h)
{
    return &h->sides[proto_other(h->requests)];
}

static inline enum proto_dir dir_of(const struct http1 *h, const struct side *s)
{
    return (enum proto_dir)(s - h->sides);
}

static inline bool carries_responses(const struct http1 *h, const struct side *s)
{
    return h->known && dir_of(h, s) != h->requests;
}

static inline void note(const struct http1 *h, enum http_note what, uint64_t count)
{
    if (h->sink->note)
        h->sink->note(h->owner, what, count);
}

/* --- http1.c --- */

/* The direction takes no message any more. */
void http1_end_side(struct http1 *h, struct side *s, enum state state);
/* The answer is there that what is held waits for, or none will come. */
void http1_release(struct http1 *h, uint64_t now);

/* --- http1_body.c --- */

/* What follows a head that says so. */
void http1_begin_body(struct http1 *h, struct side *s, const struct http1_framing *f, uint64_t now);
/* Of len bytes those that belong to the body that is being taken; returns how many they are. p NULL: they weren't
 * captured. */
uint64_t http1_take_body(struct http1 *h, struct side *s, const uint8_t *p, uint64_t len, uint64_t now);
/* Chunk size, then what may be between it and the end of its line. */
size_t http1_take_chunk_line(struct side *s, const uint8_t *p, size_t len);
/* A byte behind a chunk's data. */
size_t http1_take_chunk_end(struct side *s, uint8_t c);
size_t http1_take_trailers(struct http1 *h, struct side *s, const uint8_t *p, size_t len, uint64_t now);
/* Bytes up to the end of the empty line that ends a head or trailers; *end tells whether it is there. */
size_t http1_scan_lines(enum place *place, const uint8_t *p, size_t len, bool *end);

/* --- http1_exchange.c --- */

/* A head is complete. */
void http1_take_request(struct http1 *h, struct side *s, const struct http_head *head, const struct http1_framing *f,
                        uint64_t now);
void http1_take_response(struct http1 *h, struct side *s, struct http_head *head, const struct http1_framing *f,
                         struct slice upgrade_to, uint64_t now);
void http1_message_over(struct http1 *h, struct side *s, uint64_t now);
/* Tells and forgets an exchange whose both sides are over. */
void http1_settle(struct http1 *h, struct exchange *x, uint64_t now);
/* The direction of requests has ended, or is out of step. */
void http1_give_up_requests(struct http1 *h, bool gap, uint64_t now);
/* The same of responses. Returns how many exchanges lose theirs, or its end. */
unsigned http1_give_up_responses(struct http1 *h, bool gap, uint64_t now);
/* No request will be told for the responses that have none. Returns how many they were. */
unsigned http1_give_up_unasked(struct http1 *h, bool gap, uint64_t now);
/* The body of a request waits for an answer, as far as we know. */
bool http1_body_waits(const struct side *s);

#endif
