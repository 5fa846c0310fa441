/* SPDX-License-Identifier: Apache-2.0 */
/* From the hellos of a TLS connection to its net.app: docs/data-model.md, "Protocols". And whether its plaintext is seen:
 * docs/traffic.md, "What is seen of TLS". */
#include "traffic/tls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/images.h"
#include "traffic/payloads.h"
#include "traffic/protocols.h"
#include "traffic/unread.h"

#define NAME_MAX_BYTES 255u /* of a server's name (RFC 1035, section 2.3.4), and of a protocol's (RFC 7301) */

/* Of a connection that begins as TLS. What both hellos say is told, once: when they were read, or will not be. What comes
 * behind them is encrypted: of it only the headers of records are looked at, to know whether data pass (unread). */
struct hellos {
    struct tls *decoder;
    struct stream *stream;
    struct hello_watch watch;   /* what was enough to recognise it may not have been all of it */
    uint64_t looked;            /* bytes so far */
    struct tls_records records; /* what comes behind them */
    struct tls_plain *plain;    /* opens it; NULL: it is read otherwise, or can't be */
    bool talked;                /* `records` has told whether data pass */
    bool tell;           /* net.app */
    bool both;           /* they were read */
    enum proto_dir client_dir;
    uint64_t time_ns;    /* of the last hello */
    bool client, server; /* hellos that were read */
    char *server_name;   /* NULL: none */
    char *offered[TLS_ALPN_MAX];
    size_t offered_count;
    char *chosen; /* NULL: none, or encrypted */
    uint16_t version, cipher;
    enum tls_resumed resumed;
};

static char *text_of(struct slice s)
{
    return s.p ? xstrndup(s.p, s.len < NAME_MAX_BYTES ? s.len : NAME_MAX_BYTES) : NULL;
}

static void client_hello(void *owner, const struct tls_client_hello *hello, uint64_t time_ns)
{
    struct hellos *h = owner;

    h->time_ns = time_ns;
    h->client = true;
    h->client_dir = hello->dir;
    h->server_name = text_of(hello->server_name);
    for (size_t i = 0; i < hello->alpn_count; i++)
        h->offered[h->offered_count++] = text_of(hello->alpn[i]);
}

static void server_hello(void *owner, const struct tls_server_hello *hello, uint64_t time_ns, uint64_t duration_ns)
{
    struct hellos *h = owner;

    (void)duration_ns;
    h->time_ns = time_ns;
    h->server = true;
    h->version = hello->version;
    h->cipher = hello->cipher;
    h->resumed = hello->resumed;
    h->chosen = text_of(hello->alpn);
    if (h->client)
        tls_records_agreed(&h->records, h->client_dir, hello->version, hello->cipher);
    if (h->plain)
        tls_plain_agreed(h->plain, hello->version, hello->cipher);
}

static void add_number(struct fields *f, const char *name, const char *text, uint16_t number, char hex[8])
{
    if (!text) {
        snprintf(hex, 8, "0x%04x", number);
        text = hex;
    }
    add_str(f, name, 0, text);
}

static void done(void *owner, enum tls_end why, int alert)
{
    struct hellos *h = owner;
    struct stream *s = h->stream;
    const char *version = tls_version_text(h->version);
    char hex[3][8];

    FIELDS(f, 8);
    h->both = why == TLS_END_HELLOS;
    if (!h->tell || !s->p || (s->joined && !h->client)) /* it began before we came */
        return;
    if (h->server) {
        add_number(&f, "tls_protocol_version", version ? strchr(version, ' ') + 1 : NULL, h->version, hex[0]);
        add_number(&f, "tls_cipher", tls_cipher_text(h->cipher), h->cipher, hex[1]);
    }
    if (h->server_name)
        add_str(&f, "tls_client_server_name", 0, h->server_name);
    if (h->offered_count)
        add_list(&f, "tls_client_alpn", (const char *const *)h->offered, h->offered_count);
    if (h->chosen)
        add_str(&f, "tls_next_protocol", 0, h->chosen);
    if (h->server && h->resumed != TLS_RESUMED_UNKNOWN)
        add(&f, "tls_resumed", TM_BOOL, 0)->v.b = h->resumed == TLS_RESUMED_YES;
    if (alert >= 0)
        add_number(&f, "tls_alert", tls_alert_text((unsigned)alert), (uint16_t)alert, hex[2]);
    report_net_app(s->p, s->fd, s->channel, s->protocol, &f, h->time_ns);
}

static const struct tls_sink sink = {.client_hello = client_hello, .server_hello = server_hello, .done = done};

static void *new(struct stream *s, const struct protocol_start *how)
{
    struct hellos *h;

    if (s->datagrams)
        return NULL;
    h = xcalloc(1, sizeof(*h));
    h->stream = s;
    h->tell = how->tell;
    h->time_ns = how->time_ns;
    h->decoder = tls_new(&sink, h);
    if (s->start)
        h->watch = s->start->hello;
    h->plain = s->joined ? NULL : tls_plain_new(s, how->time_ns);
    return h;
}

static void hellos_free(void *decoder, uint64_t time_ns)
{
    struct hellos *h = decoder;

    tls_plain_free(h->plain);
    tls_free(h->decoder); /* tells what is known, if it wasn't told */
    free(h->server_name);
    for (size_t i = 0; i < h->offered_count; i++)
        free(h->offered[i]);
    free(h->chosen);
    free(h);
}

/* Whether plaintext of the process passes where it is seen: then its other connections aren't asked. */
static bool is_read(const struct stream *s)
{
    return s->joined || !s->sock || s->sock->flags & SOCKF_PLAIN || !s->p || s->p->tls_read;
}

/* Plaintext may be told a moment after the ciphertext, and many at a time: from when on it would have been. */
#define UNREAD_WAIT_NS UINT64_C(2000000000)

static void unread_found(struct stream *s, uint64_t time_ns)
{
    s->unread = true;
    if (!s->p->tls_unread_ns)
        s->p->tls_unread_ns = time_ns;
}

void tls_watch(struct stream *s, struct hello_watch *h, enum proto_dir dir, const uint8_t *data, uint64_t len,
               uint64_t time_ns)
{
    const uint8_t *random;

    if (!h->first.len)
        h->dir = (uint8_t)dir;
    random = dir == h->dir ? tls_first_add(&h->first, data, (size_t)len) : NULL;
    if (random && tls_socket_hello(s->p, s->fd, s->channel, dir, random, time_ns))
        s->relayed = true;
}

/* True: nothing more is needed. */
static bool read_hellos(struct hellos *h, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    struct stream *s = h->stream;
    enum tls_talk talk;

    if (h->talked)
        return true;
    tls_feed(h->decoder, dir, data, len, time_ns);
    talk = tls_records_feed(&h->records, dir, data, len);
    if (!tls_done(h->decoder))
        return h->looked > 2 * TLS_HELLO_MAX;
    if (!h->both || is_read(s))
        return true;
    if (talk == TLS_TALK_YES)
        unread_found(s, time_ns);
    return h->talked = talk != TLS_TALK_UNDECIDED;
}

static void hellos_feed(void *decoder, struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len,
                        uint64_t time_ns)
{
    struct hellos *h = decoder;
    bool done;

    if (tls_may_watch(s, data))
        tls_watch(s, &h->watch, dir, data, len, time_ns);
    h->looked += len;
    done = read_hellos(h, dir, data, len, time_ns);
    if (h->plain && ((tls_done(h->decoder) && !h->both) || !tls_plain_feed(h->plain, dir, data, len, time_ns))) {
        tls_plain_free(h->plain);
        h->plain = NULL;
    }
    if (done && !h->plain)
        stream_stops(s);
}

static void hellos_end(void *decoder, struct stream *s, enum proto_dir dir, uint64_t time_ns)
{
    struct hellos *h = decoder;

    (void)s;
    (void)dir;
    if (h->plain)
        tls_plain_retry(h->plain, true, time_ns);
}

static void hellos_sweep(void *decoder, struct stream *s, uint64_t time_ns)
{
    struct hellos *h = decoder;

    (void)s;
    if (h->plain)
        tls_plain_retry(h->plain, false, time_ns);
}

static uint64_t skip(const void *decoder, enum proto_dir dir)
{
    const struct hellos *h = decoder;

    if (h->plain)
        return tls_plain_skip(h->plain, dir);
    if (!tls_done(h->decoder) && tls_skip(h->decoder, dir) == 0)
        return 0;
    return tls_records_skip(&h->records, dir);
}

static int looks_so(const uint8_t *data, size_t len, bool whole)
{
    return tls_detect(data, len);
}

const struct protocol protocol_tls = {
    .detect = {.name = "TLS", .stream = looks_so, .replaceable = true},
    .encrypts = true,
    .tells_app = true,
    .new = new,
    .feed = hellos_feed,
    .skip = skip,
    .end = hellos_end,
    .sweep = hellos_sweep,
    .free = hellos_free,
};

/* --- what was joined half-way --- */

static void joined_feed(void *plain, struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    if (!tls_plain_feed(plain, dir, data, len, time_ns))
        stream_stops(s);
}

static uint64_t joined_skip(const void *plain, enum proto_dir dir)
{
    return tls_plain_skip(plain, dir);
}

static void joined_end(void *plain, struct stream *s, enum proto_dir dir, uint64_t time_ns)
{
    (void)s;
    (void)dir;
    tls_plain_retry(plain, true, time_ns);
}

static void joined_sweep(void *plain, struct stream *s, uint64_t time_ns)
{
    (void)s;
    tls_plain_retry(plain, false, time_ns);
}

static void joined_free(void *plain, uint64_t time_ns)
{
    (void)time_ns;
    tls_plain_free(plain);
}

const struct protocol protocol_tls_joined = {
    .encrypts = true,
    .feed = joined_feed,
    .skip = joined_skip,
    .end = joined_end,
    .sweep = joined_sweep,
    .free = joined_free,
};

/* --- what can't be read --- */

/* Whether its ciphertext is known for such, and none of its plaintext was seen. */
static bool is_opaque(const struct sock *sock)
{
    const struct stream *s = sock->stream;

    return s && !s->relayed && !sock->plain && !(sock->flags & SOCKF_PLAIN) && (s->unread || (s->joined && s->ciphertext));
}

/* Why no connection of the process can be read; UNREAD_NONE: some may be. Never more than is known. */
static enum unread_reason reason_of_all(const struct proc *p)
{
    unsigned hooked, found;

    images_functions(p->images, &hooked, &found);
    if (images_keys(p->images))
        return UNREAD_NONE;
    if (p->jsse_refused)
        return UNREAD_JSSE;
    if (hooked)
        return UNREAD_NONE;
    if (found)
        return UNREAD_NOT_HOOKED;
    if (images_go(p->images)) /* whose own cipher has a form that isn't known, either */
        return UNREAD_GO;
    if (images_refused(p->images, PLAN_R_SELF_CHECK))
        return UNREAD_SELF_CHECK;
    if (images_refused(p->images, PLAN_R_UNKNOWN_FORM))
        return UNREAD_FORM;
    if (p->images_missed || !p->images || images_unlisted(p->images))
        return UNREAD_NOT_LOOKED;
    return UNREAD_LIBRARY;
}

static enum unread_reason reason_of(struct proc *p, const struct stream *s)
{
    enum unread_reason why = reason_of_all(p);

    if (why != UNREAD_NONE)
        return why;
    return images_keys(p->images) ? tls_plain_reason(p, s) : UNREAD_OTHER;
}

enum unread_reason tls_unread(struct proc *p, const struct sock *sock)
{
    if (!is_opaque(sock) || p->tls_read)
        return UNREAD_NONE;
    if (p->m->watch->lost_records(p))
        return UNREAD_RECORDS_LOST;
    if (!sock->stream->unread)
        return sock->flags & SOCKF_JOINED ? UNREAD_OPEN_BEFORE : UNREAD_RECORDS_LOST;
    return reason_of(p, sock->stream);
}

/* Once for each program. What is only true of its older connections must not hide what is of all. */
static void tell_unread(struct proc *p, enum unread_reason why, uint64_t time_ns)
{
    bool older = why == UNREAD_OPEN_BEFORE;
    struct rec_sites key = {.key = {older ? '1' : '\0'}};
    const char *exe = p->tm.exe ? p->tm.exe : "";
    char *text;

    if (!older) {
        p->tls_unread_ns = 0;
        p->tls_told = true;
    }
    if (images_has(p->m->unread, exe, strlen(exe), &key) || images_unlisted(p->m->unread))
        return;
    images_add(&p->m->unread, exe, strlen(exe), &key);
    text = xasprintf("TLS of this program can't be read: %s", unread_text(why));
    report_note(p, text, exe, strlen(exe), time_ns);
    free(text);
}

void tls_unread_over(struct proc *p, int64_t fd, struct sock *sock, uint64_t time_ns)
{
    enum unread_reason why = tls_unread(p, sock);

    if (why == UNREAD_NONE)
        return;
    p->m->unread_count[why]++;
    if (why == UNREAD_OPEN_BEFORE || (!p->tls_told && why != UNREAD_RECORDS_LOST))
        tell_unread(p, why, time_ns);
    payloads_unread(p, fd, sock, why, time_ns);
}

static void look_at(void *ctx, int fd, struct desc *d)
{
    const struct sock **any = ctx;

    (void)fd;
    if (d->file->sock && is_opaque(d->file->sock) && d->file->sock->stream->unread)
        *any = d->file->sock;
}

void tls_look_unread(struct proc *p)
{
    uint64_t now = clock_now_real();
    const struct sock *any = NULL;

    if (!p->tls_unread_ns || now < p->tls_unread_ns + UNREAD_WAIT_NS)
        return;
    p->tls_unread_ns = 0;
    if (p->tls_told || p->tls_read || p->m->watch->lost_records(p))
        return;
    fd_table_each(&p->fds, look_at, &any);
    if (any)
        tell_unread(p, tls_unread(p, any), now);
}

void tls_describe(struct proc *p, struct buf *b)
{
    static const char *const names[TLS_WAYS] = TLS_WAY_NAMES;
    enum unread_reason why = reason_of_all(p);
    bool natives = images_natives(p->images) > 0 && !p->jsse_refused, any = false;

    buf_str(b, "{\"ways\":");
    images_describe_tls(p->images, b);
    buf_str(b, ",\"seen\":[");
    for (unsigned i = 0; i < TLS_WAYS; i++)
        if (p->tls_ways & 1u << i) {
            buf_printf(b, "%s\"%s\"", any ? "," : "", names[i]);
            any = true;
        }
    buf_char(b, ']');
    if (!any && !natives && why == UNREAD_LIBRARY) { /* which it may have no need of */
        buf_str(b, ",\"why\":\"no TLS library that is known is found in it\"");
    } else if (!any && !natives && why != UNREAD_NONE) {
        buf_printf(b, ",\"not_read\":\"%s\",\"why\":", unread_name(why));
        buf_json_str(b, unread_text(why));
    }
    buf_char(b, '}');
}
