/* SPDX-License-Identifier: Apache-2.0 */
/* The records of TLS until both hellos have been read. */
#include "protocol/tls.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"

/* RFC 8446, section 5.1 */
#define RECORD_HEADER 5u
#define RECORD_MAX (16384u + 256u)
enum { CHANGE_CIPHER_SPEC = 20, ALERT = 21, HANDSHAKE = 22, APPLICATION_DATA = 23 };
#define CIPHERTEXT_MAX (16384u + 2048u) /* RFC 5246, section 6.2.3 */
#define CIPHERTEXT_MIN 9u               /* one byte of TLS 1.3 with the shortest tag that it has */

/* RFC 8446, section 4; IANA's registry of extensions */
enum { CLIENT_HELLO = 1, SERVER_HELLO = 2 };
enum {
    EXT_SERVER_NAME = 0,
    EXT_ALPN = 16,
    EXT_SESSION_TICKET = 35,
    EXT_PRE_SHARED_KEY = 41,
    EXT_SUPPORTED_VERSIONS = 43,
    EXT_ECH = 0xfe0d,
};
#define SSL2_HEADER 11u /* of a hello of SSL 2: up to the length of the challenge */
#define SESSION_ID_MAX 32u
#define ALERT_FATAL 2
#define CLOSE_NOTIFY 0

struct side {
    bool settled; /* nothing more is read in this direction */
    bool hello_read;
    bool begun;                /* its first record has been found */
    uint8_t head[SSL2_HEADER]; /* of the record under way */
    size_t head_len;
    size_t left; /* bytes of the record that are still to come; it has been begun */
    uint8_t alert[2];
    size_t alert_len;
    uint16_t record_version;
    struct buf message; /* of the handshake, as far as it has come */
};

struct tls {
    const struct tls_sink *sink;
    void *owner;
    struct side sides[PROTO_DIRS];
    bool done;
    bool client_read, server_read;
    bool ticket, retried;
    uint8_t session_id[SESSION_ID_MAX];
    size_t session_id_len;
    uint64_t client_ns;
};

struct tls *tls_new(const struct tls_sink *sink, void *owner)
{
    struct tls *t = xcalloc(1, sizeof(*t));

    t->sink = sink;
    t->owner = owner;
    return t;
}

static void end(struct tls *t, enum tls_end why, int alert)
{
    if (t->done)
        return;
    t->done = true;
    for (int dir = 0; dir < PROTO_DIRS; dir++)
        buf_free(&t->sides[dir].message);
    if (t->sink->done)
        t->sink->done(t->owner, why, alert);
}

void tls_free(struct tls *t)
{
    if (!t)
        return;
    end(t, TLS_END_CLOSED, -1);
    free(t);
}

bool tls_done(const struct tls *t)
{
    return t->done;
}

uint64_t tls_skip(const struct tls *t, enum proto_dir dir)
{
    return t->done || t->sides[dir].settled ? UINT64_MAX : 0;
}

static void settle(struct tls *t, enum proto_dir dir)
{
    const struct side *rx = &t->sides[PROTO_RX], *tx = &t->sides[PROTO_TX];

    t->sides[dir].settled = true;
    buf_free(&t->sides[dir].message);
    if (rx->settled && tx->settled)
        end(t, rx->hello_read && tx->hello_read ? TLS_END_HELLOS : TLS_END_UNREADABLE, -1);
}

/* The hellos ------------------------------------------------------------- */

/* Bytes yet to be read; once something is missing everything is. */
struct reader {
    const uint8_t *p;
    size_t len;
    bool bad;
};

static const uint8_t *take(struct reader *r, size_t n)
{
    const uint8_t *p = r->p;

    if (r->bad || n > r->len) {
        r->bad = true;
        r->len = 0;
        return NULL;
    }
    r->p += n;
    r->len -= n;
    return p;
}

static unsigned take_number(struct reader *r, unsigned bytes)
{
    const uint8_t *p = take(r, bytes);
    unsigned v = 0;

    for (unsigned i = 0; p && i < bytes; i++)
        v = v << 8 | p[i];
    return v;
}

/* A vector with its length, of so many bytes, in front (RFC 8446, section 3.4). */
static struct reader take_vector(struct reader *r, unsigned length_bytes)
{
    size_t n = take_number(r, length_bytes);
    const uint8_t *p = take(r, n);

    return p ? (struct reader){p, n, false} : (struct reader){NULL, 0, true};
}

static struct slice slice_of(const struct reader *r)
{
    return (struct slice){(const char *)r->p, r->len};
}

/* Values that are there so that nobody relies on knowing all (RFC 8701). */
static bool grease(const struct reader *r)
{
    return r->len == 2 && r->p[0] == r->p[1] && (r->p[0] & 15) == 10;
}

static bool read_server_name(struct reader ext, struct tls_client_hello *h)
{
    struct reader list = take_vector(&ext, 2);

    while (list.len) {
        unsigned type = take_number(&list, 1);
        struct reader name = take_vector(&list, 2);

        if (type == 0 && !name.bad && !h->server_name.p)
            h->server_name = slice_of(&name);
    }
    return !list.bad && !ext.bad;
}

static bool read_alpn(struct reader ext, struct tls_client_hello *h)
{
    struct reader list = take_vector(&ext, 2);

    while (list.len) {
        struct reader name = take_vector(&list, 1);

        if (name.bad || grease(&name))
            continue;
        if (h->alpn_count < TLS_ALPN_MAX)
            h->alpn[h->alpn_count++] = slice_of(&name);
        else
            h->cut = true;
    }
    return !list.bad && !ext.bad;
}

static bool read_versions(struct reader ext, struct tls_client_hello *h)
{
    struct reader list = take_vector(&ext, 1);

    h->version = 0;
    while (list.len) {
        unsigned v = take_number(&list, 2);

        if (v >> 8 == 3 && v > h->version)
            h->version = (uint16_t)v;
    }
    return !list.bad && !ext.bad;
}

static bool read_client_hello(struct tls *t, struct reader r, struct tls_client_hello *h)
{
    struct reader session, extensions;

    h->legacy_version = h->version = (uint16_t)take_number(&r, 2);
    (void)take(&r, 32); /* random */
    session = take_vector(&r, 1);
    (void)take_vector(&r, 2); /* cipher suites */
    (void)take_vector(&r, 1); /* compression methods */
    if (r.bad || session.len > SESSION_ID_MAX)
        return false;
    t->session_id_len = session.len;
    memcpy(t->session_id, session.p, session.len);
    if (r.len == 0)
        return true; /* before TLS 1.3 there need be no extensions */
    extensions = take_vector(&r, 2);
    while (extensions.len) {
        unsigned type = take_number(&extensions, 2);
        struct reader ext = take_vector(&extensions, 2);
        bool good = true;

        if (type == EXT_SERVER_NAME)
            good = read_server_name(ext, h);
        else if (type == EXT_ALPN)
            good = read_alpn(ext, h);
        else if (type == EXT_SUPPORTED_VERSIONS)
            good = read_versions(ext, h);
        else if (type == EXT_PRE_SHARED_KEY || (type == EXT_SESSION_TICKET && ext.len))
            h->ticket = true;
        else if (type == EXT_ECH)
            h->ech = true;
        if (!good)
            return false;
    }
    return !extensions.bad && !r.bad;
}

static bool take_client_hello(struct tls *t, enum proto_dir dir, struct reader r, uint64_t time_ns)
{
    struct tls_client_hello h = {.dir = dir, .record_version = t->sides[dir].record_version};

    if (!read_client_hello(t, r, &h))
        return false;
    t->ticket = h.ticket;
    t->client_ns = time_ns;
    if (t->sink->client_hello)
        t->sink->client_hello(t->owner, &h, time_ns);
    return true;
}

static enum tls_resumed resumed(const struct tls *t, uint16_t version, bool shared_key, const struct reader *session)
{
    if (version >= 0x0304)
        return shared_key ? TLS_RESUMED_YES : TLS_RESUMED_NO;
    if (!t->client_read)
        return TLS_RESUMED_UNKNOWN;
    /* The server repeats the client's number if it resumes (RFC 5246, section 7.4.1.3), with tickets too, if the client
     * has made one up (RFC 5077, section 3.4). */
    if (session->len && session->len == t->session_id_len && memcmp(session->p, t->session_id, session->len) == 0)
        return TLS_RESUMED_YES;
    return t->ticket && t->session_id_len == 0 ? TLS_RESUMED_UNKNOWN : TLS_RESUMED_NO;
}

/* ret_retry: it is a HelloRetryRequest. */
static bool take_server_hello(struct tls *t, enum proto_dir dir, struct reader r, uint64_t time_ns, bool *ret_retry)
{
    /* RFC 8446, section 4.1.3 */
    static const uint8_t retry[32] = {0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c,
                                      0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb,
                                      0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c};
    struct tls_server_hello h = {.dir = dir, .retried = t->retried};
    struct reader session, extensions = {NULL, 0, false};
    const uint8_t *random;
    bool shared_key = false;

    h.legacy_version = h.version = (uint16_t)take_number(&r, 2);
    random = take(&r, 32);
    session = take_vector(&r, 1);
    h.cipher = (uint16_t)take_number(&r, 2);
    (void)take(&r, 1); /* compression method */
    if (r.bad || session.len > SESSION_ID_MAX)
        return false;
    *ret_retry = memcmp(random, retry, sizeof(retry)) == 0;
    if (r.len)
        extensions = take_vector(&r, 2);
    while (extensions.len) {
        unsigned type = take_number(&extensions, 2);
        struct reader ext = take_vector(&extensions, 2);

        if (type == EXT_SUPPORTED_VERSIONS) {
            h.version = (uint16_t)take_number(&ext, 2);
        } else if (type == EXT_ALPN) {
            struct reader list = take_vector(&ext, 2), name = take_vector(&list, 1);

            if (name.bad)
                return false;
            h.alpn = slice_of(&name);
        } else if (type == EXT_PRE_SHARED_KEY) {
            shared_key = true;
        }
        if (ext.bad)
            return false;
    }
    if (extensions.bad || r.bad)
        return false;
    if (*ret_retry) {
        t->retried = true;
        return true;
    }
    h.resumed = resumed(t, h.version, shared_key, &session);
    if (t->sink->server_hello)
        t->sink->server_hello(t->owner, &h, time_ns,
                              t->client_read && time_ns > t->client_ns ? time_ns - t->client_ns : 0);
    return true;
}

/* Records ---------------------------------------------------------------- */

/* Looks at what has come of the messages. Returns false if there is one that is no hello. */
static bool take_handshake(struct tls *t, enum proto_dir dir, uint64_t time_ns)
{
    struct side *s = &t->sides[dir];

    while (s->message.len >= 4) {
        const uint8_t *p = (const uint8_t *)s->message.p;
        size_t size = 4 + ((size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3]);
        struct reader body = {p + 4, size - 4, false};
        bool retry = false;

        if (size > TLS_HELLO_MAX)
            return false;
        if (p[0] == CLIENT_HELLO ? t->client_read : p[0] != SERVER_HELLO || t->server_read)
            return false;
        if (s->message.len < size)
            return true;
        if (p[0] == CLIENT_HELLO)
            t->client_read = take_client_hello(t, dir, body, time_ns);
        else if (take_server_hello(t, dir, body, time_ns, &retry))
            t->server_read = !retry;
        else
            return false;
        s->hello_read = p[0] == CLIENT_HELLO ? t->client_read : t->server_read;
        if (s->hello_read)
            settle(t, dir);
        if (!retry)
            return s->hello_read;
        s->message.len -= size;
        memmove(s->message.p, s->message.p + size, s->message.len);
    }
    return true;
}

/* A part of the record under way. */
static bool take_content(struct tls *t, enum proto_dir dir, const uint8_t *p, size_t n, uint64_t time_ns)
{
    struct side *s = &t->sides[dir];

    switch (s->head[0]) {
    case HANDSHAKE:
        buf_add(&s->message, p, n);
        return take_handshake(t, dir, time_ns);
    case ALERT:
        for (size_t i = 0; i < n && !t->done; i++) {
            s->alert[s->alert_len++] = p[i];
            if (s->alert_len < 2)
                continue;
            s->alert_len = 0;
            if (s->alert[0] == ALERT_FATAL || s->alert[1] == CLOSE_NOTIFY)
                end(t, TLS_END_ALERT, s->alert[1]);
        }
        return true;
    default:
        return s->head[0] == CHANGE_CIPHER_SPEC; /* sent for the sake of old middleboxes (RFC 8446, appendix D.4) */
    }
}

/* 1 this is the header of a hello of SSL 2, 0 it isn't, -1 it could be. */
static int ssl2_hello(const uint8_t *p, size_t len)
{
    size_t size, ciphers, session, challenge;

    if (len < 1)
        return -1;
    if (!(p[0] & 0x80) || (len > 2 && p[2] != CLIENT_HELLO) || (len > 3 && p[3] != 3 && p[3] != 0) ||
        (len > 4 && p[3] == 0 && p[4] != 2) || (len > 4 && p[3] == 3 && p[4] > 4))
        return 0;
    if (len < SSL2_HEADER)
        return -1;
    size = (size_t)(p[0] & 0x7f) << 8 | p[1];
    ciphers = (size_t)p[5] << 8 | p[6];
    session = (size_t)p[7] << 8 | p[8];
    challenge = (size_t)p[9] << 8 | p[10];
    return ciphers && ciphers % 3 == 0 && (session == 0 || session == 16) && challenge >= 16 && challenge <= 32 &&
           size == SSL2_HEADER - 2 + ciphers + session + challenge;
}

static void take_ssl2_hello(struct tls *t, enum proto_dir dir, uint64_t time_ns)
{
    const uint8_t *p = t->sides[dir].head;
    uint16_t version = (uint16_t)(p[3] << 8 | p[4]);
    struct tls_client_hello h = {
        .dir = dir, .sslv2 = true, .record_version = 2, .legacy_version = version, .version = version};

    t->client_ns = time_ns;
    t->ticket = true; /* whether it had anything to resume is not known */
    t->client_read = t->sides[dir].hello_read = true;
    if (t->sink->client_hello)
        t->sink->client_hello(t->owner, &h, time_ns);
    settle(t, dir);
}

/* One more byte of a header. Returns false if it is none. */
static bool take_header(struct tls *t, enum proto_dir dir, uint8_t byte, uint64_t time_ns)
{
    struct side *s = &t->sides[dir];
    const uint8_t *p = s->head;

    s->head[s->head_len++] = byte;
    if (!s->begun && p[0] & 0x80) {
        int hello = ssl2_hello(p, s->head_len);

        if (hello > 0)
            take_ssl2_hello(t, dir, time_ns);
        return hello;
    }
    if (s->head_len < RECORD_HEADER)
        return true;
    s->head_len = 0;
    s->left = (size_t)p[3] << 8 | p[4];
    if (p[0] < CHANGE_CIPHER_SPEC || p[0] > HANDSHAKE || p[1] != 3 || s->left > RECORD_MAX)
        return false;
    if (!s->begun)
        s->record_version = (uint16_t)(p[1] << 8 | p[2]);
    s->begun = true;
    return true;
}

void tls_feed(struct tls *t, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    struct side *s = &t->sides[dir];
    bool good = data || !len; /* what wasn't captured can't be read */

    while (good && len && !t->done && !s->settled) {
        size_t n = 1;

        if (s->left == 0) {
            good = take_header(t, dir, *data, time_ns);
        } else {
            n = len < s->left ? (size_t)len : s->left;
            s->left -= n;
            good = take_content(t, dir, data, n, time_ns);
        }
        data += n;
        len -= n;
    }
    if (!good && !t->done && !s->settled)
        settle(t, dir);
}

/* What follows the hellos ------------------------------------------------- */

#define TLS13_INNER_TYPE 1u /* RFC 8446, section 5.2: the true type follows the content */
#define HANDSHAKE_HEADER 4u
#define ALERT_SIZE 2u
#define KEY_UPDATE_SIZE (HANDSHAKE_HEADER + 1u)

void tls_records_agreed(struct tls_records *r, enum proto_dir client, uint16_t version, uint16_t cipher)
{
    r->client = (uint8_t)client;
    r->version = version;
    r->cipher = cipher;
}

/* Length of a record of TLS 1.3 with so many bytes in it, without padding. */
static uint32_t tls13_length(const struct tls_records *r, uint32_t content)
{
    return content + TLS13_INNER_TYPE + (r->cipher == 0x1305 ? 8 : 16); /* the tag: TLS_AES_128_CCM_8_SHA256's is short */
}

/* Whether an encrypted record can't be but data, from the side that has sent its Finished. */
static bool tls13_data(const struct tls_records *r, uint32_t length)
{
    return length != tls13_length(r, ALERT_SIZE) && length != tls13_length(r, KEY_UPDATE_SIZE);
}

/* A header is complete. */
static void take_record(struct tls_records *r, enum proto_dir dir, uint8_t type, uint32_t length)
{
    uint32_t hash = r->cipher == 0x1302 ? 48 : 32; /* TLS_AES_256_GCM_SHA384 */

    if (type != APPLICATION_DATA || !r->version)
        return;
    if (r->version < 0x0304 || (r->finished && tls13_data(r, length)))
        r->sent[dir] = true;
    else if (dir == r->client)
        r->finished |= length == tls13_length(r, HANDSHAKE_HEADER + hash);
    if (r->sent[PROTO_RX] && r->sent[PROTO_TX])
        r->talk = TLS_TALK_YES;
}

static bool needs_no_more(const struct tls_records *r, enum proto_dir dir)
{
    return r->talk != TLS_TALK_UNDECIDED || r->sent[dir];
}

enum tls_talk tls_records_feed(struct tls_records *r, enum proto_dir dir, const uint8_t *data, uint64_t len)
{
    struct tls_records_side *s = &r->sides[dir];

    while (len && !needs_no_more(r, dir)) {
        uint64_t n = s->left ? (len < s->left ? len : s->left) : 1;

        if (s->left) {
            s->left -= (uint32_t)n;
        } else if (!data) {
            r->talk = TLS_TALK_NO;
            break;
        } else {
            s->head[s->head_len++] = *data;
        }
        if (s->head_len == RECORD_HEADER) {
            s->head_len = 0;
            s->left = (uint32_t)s->head[3] << 8 | s->head[4];
            if (s->head[0] < CHANGE_CIPHER_SPEC || s->head[0] > APPLICATION_DATA || s->head[1] != 3 ||
                s->left > CIPHERTEXT_MAX)
                r->talk = TLS_TALK_NO;
            else
                take_record(r, dir, s->head[0], s->left);
        }
        data = data ? data + n : NULL;
        len -= n;
        r->looked += (uint32_t)n;
        if (r->looked > TLS_RECORDS_MAX && r->talk == TLS_TALK_UNDECIDED)
            r->talk = TLS_TALK_NO;
    }
    return (enum tls_talk)r->talk;
}

uint64_t tls_records_skip(const struct tls_records *r, enum proto_dir dir)
{
    return needs_no_more(r, dir) ? UINT64_MAX : r->sides[dir].left;
}

int tls_detect(const uint8_t *data, size_t len)
{
    static const struct {
        uint8_t at, low, high;
    } ranges[] = {
        {0, HANDSHAKE, HANDSHAKE},
        {1, 3, 3},
        {2, 0, 4}, /* record: type, version */
        {5, CLIENT_HELLO, SERVER_HELLO},
        {6, 0, (TLS_HELLO_MAX - 5) >> 16}, /* message: type, length */
        {9, 3, 3},
        {10, 0, 4}, /* version */
    };
    size_t left;

    if (len && data[0] & 0x80)
        return ssl2_hello(data, len);
    left = len >= RECORD_HEADER ? (size_t)data[3] << 8 | data[4] : RECORD_MAX;
    if (left == 0 || left > RECORD_MAX)
        return 0;
    /* A hello may be divided anywhere: what stands in the next record isn't looked at. */
    if (len > RECORD_HEADER + left)
        len = RECORD_HEADER + left;
    for (size_t i = 0; i < sizeof(ranges) / sizeof(*ranges); i++)
        if (ranges[i].at < len && (data[ranges[i].at] < ranges[i].low || data[ranges[i].at] > ranges[i].high))
            return 0;
    return len >= TLS_DETECT || len == RECORD_HEADER + left ? 1 : -1;
}

bool tls_encrypted(const uint8_t *data, size_t len)
{
    bool first = true;

    for (; len >= RECORD_HEADER; first = false) {
        size_t record = (size_t)data[3] << 8 | data[4];

        if (data[1] != 3 || data[2] > 3 || record > CIPHERTEXT_MAX)
            return false;
        if (first ? data[0] != APPLICATION_DATA || record < CIPHERTEXT_MIN
                  : data[0] < CHANGE_CIPHER_SPEC || data[0] > APPLICATION_DATA)
            return false;
        if (RECORD_HEADER + record >= len)
            return true;
        data += RECORD_HEADER + record;
        len -= RECORD_HEADER + record;
    }
    return !first; /* the rest is less than a header */
}

const uint8_t *tls_record_mark(const uint8_t *data, size_t len)
{
    if (len < RECORD_HEADER + TLS_RANDOM || !tls_encrypted(data, len) || (data[3] << 8 | data[4]) < (int)TLS_RANDOM)
        return NULL;
    return data + RECORD_HEADER;
}

const uint8_t *tls_first_add(struct tls_first *f, const uint8_t *data, size_t len)
{
    size_t n = sizeof(f->data) - f->len;

    if (!n)
        return NULL;
    n = n < len ? n : len;
    memcpy(f->data + f->len, data, n);
    f->len = (uint8_t)(f->len + n);
    if (f->len < sizeof(f->data) || f->data[0] != HANDSHAKE || f->data[RECORD_HEADER] != CLIENT_HELLO ||
        (f->data[3] << 8 | f->data[4]) < (int)(sizeof(f->data) - RECORD_HEADER) || tls_detect(f->data, f->len) != 1)
        return NULL;
    return f->data + TLS_DETECT;
}

/* Names ------------------------------------------------------------------ */

struct name {
    unsigned number;
    const char *text;
};

static const char *find_name(const struct name *names, size_t count, unsigned number)
{
    for (size_t i = 0; i < count; i++)
        if (names[i].number == number)
            return names[i].text;
    return NULL;
}
#define FIND(names, number) find_name(names, sizeof(names) / sizeof(*(names)), number)

const char *tls_version_text(uint16_t version)
{
    static const struct name versions[] = {
        {0x0002, "SSL 2.0"}, {0x0300, "SSL 3.0"}, {0x0301, "TLS 1.0"},
        {0x0302, "TLS 1.1"}, {0x0303, "TLS 1.2"}, {0x0304, "TLS 1.3"},
    };

    return FIND(versions, version);
}

const char *tls_cipher_text(uint16_t cipher)
{
    static const struct name ciphers[] = {
        {0x0004, "TLS_RSA_WITH_RC4_128_MD5"},
        {0x0005, "TLS_RSA_WITH_RC4_128_SHA"},
        {0x000a, "TLS_RSA_WITH_3DES_EDE_CBC_SHA"},
        {0x0016, "TLS_DHE_RSA_WITH_3DES_EDE_CBC_SHA"},
        {0x002f, "TLS_RSA_WITH_AES_128_CBC_SHA"},
        {0x0032, "TLS_DHE_DSS_WITH_AES_128_CBC_SHA"},
        {0x0033, "TLS_DHE_RSA_WITH_AES_128_CBC_SHA"},
        {0x0035, "TLS_RSA_WITH_AES_256_CBC_SHA"},
        {0x0038, "TLS_DHE_DSS_WITH_AES_256_CBC_SHA"},
        {0x0039, "TLS_DHE_RSA_WITH_AES_256_CBC_SHA"},
        {0x003c, "TLS_RSA_WITH_AES_128_CBC_SHA256"},
        {0x003d, "TLS_RSA_WITH_AES_256_CBC_SHA256"},
        {0x0067, "TLS_DHE_RSA_WITH_AES_128_CBC_SHA256"},
        {0x006b, "TLS_DHE_RSA_WITH_AES_256_CBC_SHA256"},
        {0x009c, "TLS_RSA_WITH_AES_128_GCM_SHA256"},
        {0x009d, "TLS_RSA_WITH_AES_256_GCM_SHA384"},
        {0x009e, "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256"},
        {0x009f, "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384"},
        {0x00a8, "TLS_PSK_WITH_AES_128_GCM_SHA256"},
        {0x00a9, "TLS_PSK_WITH_AES_256_GCM_SHA384"},
        {0x1301, "TLS_AES_128_GCM_SHA256"},
        {0x1302, "TLS_AES_256_GCM_SHA384"},
        {0x1303, "TLS_CHACHA20_POLY1305_SHA256"},
        {0x1304, "TLS_AES_128_CCM_SHA256"},
        {0x1305, "TLS_AES_128_CCM_8_SHA256"},
        {0xc009, "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA"},
        {0xc00a, "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA"},
        {0xc012, "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA"},
        {0xc013, "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"},
        {0xc014, "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA"},
        {0xc023, "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256"},
        {0xc024, "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384"},
        {0xc027, "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256"},
        {0xc028, "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384"},
        {0xc02b, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"},
        {0xc02c, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"},
        {0xc02f, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"},
        {0xc030, "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"},
        {0xc09c, "TLS_RSA_WITH_AES_128_CCM"},
        {0xc09d, "TLS_RSA_WITH_AES_256_CCM"},
        {0xc09e, "TLS_DHE_RSA_WITH_AES_128_CCM"},
        {0xc09f, "TLS_DHE_RSA_WITH_AES_256_CCM"},
        {0xc0ac, "TLS_ECDHE_ECDSA_WITH_AES_128_CCM"},
        {0xc0ad, "TLS_ECDHE_ECDSA_WITH_AES_256_CCM"},
        {0xc0ae, "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8"},
        {0xcca8, "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"},
        {0xcca9, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"},
        {0xccaa, "TLS_DHE_RSA_WITH_CHACHA20_POLY1305_SHA256"},
        {0xccac, "TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256"},
    };

    return FIND(ciphers, cipher);
}

const char *tls_alert_text(unsigned description)
{
    static const struct name alerts[] = {
        {0, "close_notify"},
        {10, "unexpected_message"},
        {20, "bad_record_mac"},
        {22, "record_overflow"},
        {40, "handshake_failure"},
        {42, "bad_certificate"},
        {43, "unsupported_certificate"},
        {44, "certificate_revoked"},
        {45, "certificate_expired"},
        {46, "certificate_unknown"},
        {47, "illegal_parameter"},
        {48, "unknown_ca"},
        {49, "access_denied"},
        {50, "decode_error"},
        {51, "decrypt_error"},
        {70, "protocol_version"},
        {71, "insufficient_security"},
        {80, "internal_error"},
        {86, "inappropriate_fallback"},
        {90, "user_canceled"},
        {109, "missing_extension"},
        {110, "unsupported_extension"},
        {112, "unrecognized_name"},
        {113, "bad_certificate_status_response"},
        {115, "unknown_psk_identity"},
        {116, "certificate_required"},
        {120, "no_application_protocol"},
    };

    return FIND(alerts, description);
}
