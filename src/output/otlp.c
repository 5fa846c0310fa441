/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "base/mem.h"
#include "output/otlp_internal.h"

#define REQUEST_BYTES ((size_t)1024 * 1024)
#define SMALL_BYTES   ((size_t)64 * 1024)   /* requests aren't made smaller than that after failures */
#define KEEP_BYTES    (2 * REQUEST_BYTES)   /* memory that is kept between requests */
#define TIMEOUT_MS    10000u
#define MESSAGE_BYTES ((size_t)100)         /* of a receiver's text */

/* --- configuration --- */

/* What the request itself says, and nobody else. */
static const char *const reserved[] = {"connection", "content-encoding", "content-length", "content-type", "expect",
                                       "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding",
                                       "upgrade"};

static bool can_be_sent(const char *name, const char *value)
{
    if (!name[0] || strncasecmp(name, "grpc-", 5) == 0)
        return false;
    for (size_t i = 0; i < sizeof(reserved) / sizeof(*reserved); i++)
        if (strcasecmp(name, reserved[i]) == 0)
            return false;
    for (const char *c = name; *c; c++) /* token of RFC 9110, 5.6.2 */
        if (!strchr("!#$%&'*+-.^_`|~", *c) && !(*c >= '0' && *c <= '9') && !((*c | 0x20) >= 'a' && (*c | 0x20) <= 'z'))
            return false;
    for (const char *c = value; *c; c++)
        if (((unsigned char)*c < 0x20 && *c != '\t') || *c == 0x7f)
            return false;
    return true;
}

static unsigned timeout_of(const struct cfg_otlp_to *cfg)
{
    return cfg->timeout_ms ? cfg->timeout_ms : TIMEOUT_MS;
}

struct otlp *otlp_new(const struct cfg_otlp_to *cfg, enum cfg_otlp_signal signal)
{
    struct otlp *e = xcalloc(1, sizeof(*e));

    e->protocol = cfg->protocol;
    e->signal = signal;
    e->path = xstrdup(cfg->path && cfg->path[0] ? cfg->path : "/");
    e->gzip = cfg->gzip;
    e->timeout_ms = timeout_of(cfg);
    e->limit = e->most = REQUEST_BYTES;
    e->headers = xcalloc(cfg->header_count + 1, sizeof(*e->headers));
    for (size_t i = 0; i < cfg->header_count; i++) {
        const struct cfg_tag *h = &cfg->headers[i];
        struct cfg_tag *own = &e->headers[e->header_count];

        if (!can_be_sent(h->name, h->value)) {
            log_warning("otlp: the header '%s' can't be sent: it is the request's own, or isn't allowed by HTTP", h->name);
            continue;
        }
        own->name = xstrdup(h->name);
        own->value = xstrdup(h->value);
        for (char *c = own->name; *c; c++)
            if (*c >= 'A' && *c <= 'Z')
                *c |= 0x20;
        e->header_count++;
    }
    return e;
}

void otlp_free(struct otlp *e)
{
    if (!e)
        return;
    for (size_t i = 0; i < e->header_count; i++) {
        free(e->headers[i].name);
        free(e->headers[i].value);
    }
    free(e->headers);
    free(e->path);
    if (e->zip)
        deflateEnd(e->zip);
    free(e->zip);
    buf_free(&e->body);
    buf_free(&e->head);
    http_answer_free(&e->answer);
    grpc_free(e->grpc);
    free(e);
}

/* The headers that one of them sends are those that the other would. */
static bool same_headers(const struct otlp *e, const struct cfg_otlp_to *cfg)
{
    size_t n = 0;

    for (size_t i = 0; i < cfg->header_count; i++) {
        const struct cfg_tag *h = &cfg->headers[i];

        if (!can_be_sent(h->name, h->value))
            continue;
        if (n == e->header_count || strcasecmp(e->headers[n].name, h->name) != 0 ||
            strcmp(e->headers[n].value, h->value) != 0)
            return false;
        n++;
    }
    return n == e->header_count;
}

bool otlp_same(const struct otlp *e, const struct cfg_otlp_to *cfg, enum cfg_otlp_signal signal)
{
    return e->protocol == cfg->protocol && e->signal == signal && e->gzip == cfg->gzip &&
           e->timeout_ms == timeout_of(cfg) &&
           (e->protocol == CFG_OTLP_GRPC || strcmp(e->path, cfg->path && cfg->path[0] ? cfg->path : "/") == 0) &&
           same_headers(e, cfg);
}

char *otlp_url(const struct otlp *e, const struct cfg_otlp_to *cfg)
{
    char *shown = cfg_otlp_url(cfg), *url;

    if (e->protocol != CFG_OTLP_GRPC)
        return shown;
    url = xasprintf("%s (%s)", shown, cfg_otlp_name(e->signal));
    free(shown);
    return url;
}

const char *otlp_items(const struct otlp *e)
{
    return e->signal == CFG_OTLP_TRACES ? "spans" : e->signal == CFG_OTLP_METRICS ? "data points" : "log records";
}

bool otlp_is_busy(const struct otlp *e)
{
    return e->busy;
}

const char *otlp_alpn(const struct otlp *e)
{
    return e->protocol == CFG_OTLP_GRPC ? "h2" : "http/1.1";
}

const struct transport *otlp_transport(const struct otlp *e)
{
    return e->protocol == CFG_OTLP_GRPC ? &transport_otlp_grpc : &transport_otlp_http;
}

/* --- requests --- */

static void zip_begin(struct otlp *e)
{
    if (e->zip) {
        deflateReset(e->zip);
        return;
    }
    e->zip = xcalloc(1, sizeof(*e->zip));
    if (deflateInit2(e->zip, Z_BEST_SPEED, Z_DEFLATED, MAX_WBITS + 16, MAX_MEM_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK)
        abort(); /* out of memory */
}

static void zip(struct otlp *e, void *p, size_t n, int flush)
{
    e->zip->next_in = p;
    e->zip->avail_in = (uInt)n;
    do {
        size_t room = n / 4 + 4096;

        e->zip->next_out = (Bytef *)buf_room(&e->body, room);
        e->zip->avail_out = (uInt)room;
        deflate(e->zip, flush);
        e->body.len += room - e->zip->avail_out;
    } while (!e->zip->avail_out);
}

bool otlp_begin(struct output *o)
{
    struct otlp *e = o->otlp;
    const struct queue *q = &o->queue;
    struct iovec part[2];
    size_t at = 0;

    e->taken = queue_peek_records(q, e->limit, &e->records);
    if (!e->taken)
        return false;
    if (e->body.cap > KEEP_BYTES)
        buf_free(&e->body);
    buf_reset(&e->body);
    if (e->protocol == CFG_OTLP_GRPC)
        buf_add(&e->body, "\0\0\0\0\0", GRPC_PREFIX);
    if (e->gzip)
        zip_begin(e);
    e->items = 0;
    for (size_t i = 0; i < e->records; i++) {
        size_t len = queue_length(q, i);
        uint32_t items = 0;
        int parts;

        if (len > sizeof(items)) {
            parts = queue_peek_at(q, at, sizeof(items), part);
            memcpy(&items, part[0].iov_base, part[0].iov_len);
            if (parts > 1)
                memcpy((char *)&items + part[0].iov_len, part[1].iov_base, part[1].iov_len);
            parts = queue_peek_at(q, at + sizeof(items), len - sizeof(items), part);
            for (int j = 0; j < parts; j++) {
                if (e->gzip)
                    zip(e, part[j].iov_base, part[j].iov_len, Z_NO_FLUSH);
                else
                    buf_add(&e->body, part[j].iov_base, part[j].iov_len);
            }
        }
        e->items += items;
        at += len;
    }
    if (e->gzip)
        zip(e, NULL, 0, Z_FINISH);
    if (e->protocol == CFG_OTLP_GRPC) {
        size_t len = e->body.len - GRPC_PREFIX;

        e->body.p[0] = e->gzip;
        for (int i = 0; i < 4; i++)
            e->body.p[1 + i] = (char)(len >> (24 - 8 * i));
    }
    e->busy = true;
    e->deadline = monotonic_ms() + e->timeout_ms;
    return true;
}

unsigned otlp_left(const struct output *o)
{
    uint64_t now = monotonic_ms();

    return now < o->otlp->deadline ? (unsigned)(o->otlp->deadline - now) : 0;
}

/* --- what becomes of them --- */

/* True the first time that something of this kind is to be told. */
static bool is_new(struct otlp *e, const char *text)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    bool digit = false, before;

    for (; *text; text++) { /* numbers don't make another kind */
        before = digit;
        digit = *text >= '0' && *text <= '9';
        if (!digit || !before)
            hash = (hash ^ (digit ? '0' : (unsigned char)*text)) * 16777619u;
    }
    for (unsigned i = 0; i < e->told_count; i++)
        if (e->told[i] == hash)
            return false;
    if (e->told_count == OTLP_TOLD)
        return false;
    e->told[e->told_count++] = hash;
    return true;
}

static char *with_message(const char *what, const char *message, size_t len)
{
    struct buf b = BUF_INIT;

    buf_str(&b, what);
    while (len && strchr(" \t\r\n", message[len - 1]))
        len--;
    if (message && len) {
        buf_str(&b, ": ");
        buf_visible(&b, message, len < MESSAGE_BYTES ? len : MESSAGE_BYTES);
        if (len > MESSAGE_BYTES)
            buf_str(&b, "...");
    }
    return buf_cstr(&b);
}

/* The request's records leave the queue. */
static void leave(struct output *o, uint64_t lost)
{
    struct otlp *e = o->otlp;

    queue_sent(&o->queue, e->taken);
    queue_release(&o->queue, 0);
    o->items -= e->items;
    o->stats.records += e->items - lost;
    o->stats.lost_destination += lost;
    o->stats.bytes += e->body.len;
    e->busy = false;
    e->proven = true;
    output_recovered(o);
}

static void grow(struct otlp *e)
{
    e->limit = e->limit < e->most / 2 ? e->limit * 2 : e->most;
}

void otlp_accepted(struct output *o, uint64_t rejected, const char *message, size_t len)
{
    struct otlp *e = o->otlp;
    char *text;

    rejected = rejected < e->items ? rejected : e->items;
    leave(o, rejected);
    grow(e);
    if (!rejected && !len)
        return;
    text = with_message(rejected ? "the receiver has rejected a part" : "the receiver says", message, len);
    if (rejected)
        output_failed(o, "%s", text);
    if (is_new(e, text)) {
        if (rejected)
            log_warning("%s: %s; %llu %s are lost. This is told once", o->url, text, (unsigned long long)rejected,
                        otlp_items(e));
        else
            log_warning("%s: %s. This is told once", o->url, text);
    }
    free(text);
}

void otlp_refused(struct output *o, const char *what, const char *message, size_t len)
{
    struct otlp *e = o->otlp;
    uint64_t items = e->items;
    char *text = with_message(what, message, len);

    leave(o, items);
    output_failed(o, "refused for good: %s", text);
    if (is_new(e, text))
        log_warning("%s: refused for good: %s; %llu %s are lost. This is told once", o->url, text,
                    (unsigned long long)items, otlp_items(e));
    free(text);
}

int otlp_again(struct output *o, unsigned pause_ms, const char *what, const char *message, size_t len)
{
    char *text = with_message(what, message, len);

    o->otlp->busy = false;
    o->in_doubt = true;
    o->pause_ms = pause_ms < OTLP_PAUSE_MS ? pause_ms : OTLP_PAUSE_MS;
    output_failed(o, "%s", text);
    free(text);
    return -EPIPE;
}

bool otlp_smaller(struct output *o)
{
    struct otlp *e = o->otlp;

    if (e->records < 2)
        return false;
    e->most = e->limit = e->taken / 2;
    e->busy = false;
    return true;
}

/* Perhaps a smaller one would have done better. */
static int failed(struct output *o)
{
    struct otlp *e = o->otlp;

    e->busy = false;
    o->in_doubt = true;
    if (e->limit > SMALL_BYTES)
        e->limit /= 2;
    return -EPIPE;
}

int otlp_broken(struct output *o, const char *failure)
{
    /* One that has worked may be closed at any time; one that is new should answer. */
    if (o->otlp->proven) {
        o->otlp->busy = false;
        return -ESTALE;
    }
    output_failed(o, "%s", failure);
    return failed(o);
}

int otlp_late(struct output *o)
{
    output_failed(o, "no answer within %u ms", o->otlp->timeout_ms);
    return failed(o);
}
