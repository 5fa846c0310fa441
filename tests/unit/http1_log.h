/* SPDX-License-Identifier: Apache-2.0 */
/* What the HTTP/1 decoder tells, as text that doesn't depend on the pieces that it was fed. Shared by the unit test,
 * the fuzzer and the comparison with other implementations. */
#ifndef HTTP1_LOG_H
#define HTTP1_LOG_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "protocol/http1.h"

/*
 * One line each:
 *   Q METHOD TARGET MINOR host=H length=N fields=N [odd=X] [cut] [answer=K] @FIRST-LAST    request
 *   A STATUS REASON MINOR length=N fields=N [odd=X] [cut] [interim] kept=K duration=N [early] @FIRST-LAST
 *   B q|a BYTES, R q|a BYTES        body, rest: of requests, of responses; '_' for each byte that wasn't captured
 *   U TO kept=K                     upgraded
 *   D kept=K status=N q=N a=N [complete] [gap] [odd=X] @REQUEST-RESPONSE-END
 *   N NAME COUNT                    note
 */
struct http1_log {
    struct buf text;
    char open; /* 'B' or 'R' while its line can go on, of */
    char open_of;
    unsigned requests, done, handed_over; /* of those with a request */
    unsigned unasked, unasked_done;       /* final responses without one */
    unsigned early;                       /* ... that may still get one */
    uint64_t told[2], counted[2];         /* body bytes of requests, of responses: by `body`, by `done` */
    bool fields;                          /* print the fields, too */
    bool no_bodies;
    enum proto_dir swapped; /* the direction that carries requests, to name those that aren't heads */
};

static inline void log_line(struct http1_log *l, char kind)
{
    if (l->open)
        buf_char(&l->text, '\n');
    l->open = 0;
    buf_char(&l->text, kind);
    buf_char(&l->text, ' ');
}

static inline void log_bytes(struct http1_log *l, char kind, char of, const uint8_t *p, uint64_t n)
{
    if (l->open != kind || l->open_of != of) {
        log_line(l, kind);
        buf_char(&l->text, of);
        buf_char(&l->text, ' ');
        l->open = kind;
        l->open_of = of;
    }
    if (p)
        memcpy(buf_room(&l->text, n), p, n);
    else
        memset(buf_room(&l->text, n), '_', n);
    l->text.len += n;
}

static inline void log_slice(struct http1_log *l, const char *name, struct slice s)
{
    buf_str(&l->text, name);
    if (s.p)
        buf_add(&l->text, s.p, s.len < 64 ? s.len : 64);
    else
        buf_str(&l->text, "(none)");
    if (s.len > 64)
        buf_printf(&l->text, "...%zu", s.len);
}

static inline void log_head(struct http1_log *l, const struct http_head *head)
{
    buf_printf(&l->text, " %u", head->minor);
    if (!head->response)
        log_slice(l, " host=", head->host);
    buf_printf(&l->text, " length=%" PRId64 " fields=%zu", head->content_length, head->field_count);
    if (head->odd)
        buf_printf(&l->text, " odd=%x", head->odd);
    buf_str(&l->text, head->cut ? " cut" : "");
    buf_str(&l->text, head->interim ? " interim" : "");
}

static inline void log_fields(struct http1_log *l, const struct http_head *head)
{
    buf_printf(&l->text, " @%" PRIu64 "-%" PRIu64 "\n", head->first_ns, head->last_ns);
    for (size_t i = 0; l->fields && i < head->field_count; i++) {
        log_slice(l, "  ", head->fields[i].name);
        log_slice(l, "=", head->fields[i].value);
        buf_char(&l->text, '\n');
    }
}

/* What is kept of a request is its number, of an early response that with this. */
#define LOG_EARLY ((uintptr_t)1 << 32)

static inline void log_kept(struct http1_log *l, const char *name, const void *kept)
{
    uintptr_t n = (uintptr_t)kept;

    buf_printf(&l->text, "%s%s%zu", name, n & LOG_EARLY ? "early-" : "", (size_t)(n & ~LOG_EARLY));
}

static inline bool log_is_request(const void *kept)
{
    return kept && !((uintptr_t)kept & LOG_EARLY);
}

static inline void *log_request(void *owner, const struct http_head *head, void *early)
{
    struct http1_log *l = owner;

    log_line(l, 'Q');
    log_slice(l, "", head->method);
    log_slice(l, " ", head->target);
    log_head(l, head);
    if (early)
        log_kept(l, " answer=", early);
    log_fields(l, head);
    return (void *)(uintptr_t)++l->requests;
}

static inline void *log_response(void *owner, const struct http_head *head, void *kept, uint64_t duration_ns)
{
    struct http1_log *l = owner;

    l->unasked += !head->interim && !kept;
    log_line(l, 'A');
    buf_printf(&l->text, "%u", head->status);
    log_slice(l, " ", head->reason);
    log_head(l, head);
    log_kept(l, " kept=", kept);
    buf_printf(&l->text, " duration=%" PRIu64 "%s", duration_ns, head->early ? " early" : "");
    log_fields(l, head);
    return head->early ? (void *)(LOG_EARLY | ++l->early) : kept;
}

static inline void log_done(void *owner, void *kept, const struct http_totals *t)
{
    struct http1_log *l = owner;

    *(log_is_request(kept) ? &l->done : &l->unasked_done) += 1;
    l->counted[0] += t->request_body;
    l->counted[1] += t->response_body;
    log_line(l, 'D');
    log_kept(l, "kept=", kept);
    buf_printf(&l->text, " status=%u q=%" PRIu64 " a=%" PRIu64 "%s%s", t->status, t->request_body, t->response_body,
               t->complete ? " complete" : "", t->gap ? " gap" : "");
    if (t->odd)
        buf_printf(&l->text, " odd=%x", t->odd);
    buf_printf(&l->text, " @%" PRIu64 "-%" PRIu64 "-%" PRIu64 "\n", t->request_first_ns, t->response_first_ns,
               t->end_ns);
}

static inline void log_body(void *owner, void *kept, enum proto_dir dir, bool response, const uint8_t *data,
                            uint64_t len)
{
    struct http1_log *l = owner;

    l->told[response] += len;
    if (!l->no_bodies)
        log_bytes(l, 'B', response ? 'a' : 'q', data, len);
}

static inline void log_rest(void *owner, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    struct http1_log *l = owner;

    log_bytes(l, 'R', dir == l->swapped ? 'q' : 'a', data, len);
}

static inline void log_upgraded(void *owner, struct slice to, void *kept)
{
    struct http1_log *l = owner;

    l->handed_over += log_is_request(kept) && to.p && to.len == 3 && !memcmp(to.p, "h2c", 3);
    log_line(l, 'U');
    log_slice(l, "", to);
    log_kept(l, " kept=", kept);
    buf_char(&l->text, '\n');
}

static inline void log_note(void *owner, enum http_note what, uint64_t count)
{
    static const char *const names[] = {"joined", "lost", "not-http", "unmatched"};
    struct http1_log *l = owner;

    log_line(l, 'N');
    buf_printf(&l->text, "%s %" PRIu64 "\n", names[what], count);
}

static const struct http_sink http1_log_sink = {
    .request = log_request,
    .response = log_response,
    .done = log_done,
    .body = log_body,
    .upgraded = log_upgraded,
    .rest = log_rest,
    .note = log_note,
};

/* The text so far, NUL-terminated; NULs within are '~'. */
static inline const char *log_text(struct http1_log *l)
{
    if (l->open)
        buf_char(&l->text, '\n');
    l->open = 0;
    for (size_t i = 0; i < l->text.len; i++)
        if (!l->text.p[i])
            l->text.p[i] = '~';
    return buf_cstr(&l->text);
}

#endif
