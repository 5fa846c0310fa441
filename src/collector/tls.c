/* SPDX-License-Identifier: Apache-2.0 */
/* From the hellos of a TLS connection to its net.app: docs/data-model.md, "Protocols". */
#include "protocol/tls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "collector/core.h"
#include "collector/fields.h"
#include "collector/stream.h"

#define NAME_MAX_BYTES 255u /* of a server's name (RFC 1035, section 2.3.4), and of a protocol's (RFC 7301) */

/* What is told when both hellos are known. */
struct hellos {
    struct tls *decoder;
    struct stream *stream;
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
    (void)why;
    if (!s->p || (s->joined && !h->client)) /* it began before we came */
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

struct hellos *hellos_new(struct stream *s, uint64_t time_ns)
{
    struct hellos *h = xcalloc(1, sizeof(*h));

    h->stream = s;
    h->time_ns = time_ns;
    h->decoder = tls_new(&sink, h);
    return h;
}

void hellos_free(struct hellos *h)
{
    if (!h)
        return;
    tls_free(h->decoder);
    free(h->server_name);
    for (size_t i = 0; i < h->offered_count; i++)
        free(h->offered[i]);
    free(h->chosen);
    free(h);
}

bool hellos_feed(struct hellos *h, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    tls_feed(h->decoder, dir, data, len, time_ns);
    return tls_done(h->decoder);
}

uint64_t hellos_skip(const struct hellos *h, enum proto_dir dir)
{
    return tls_skip(h->decoder, dir);
}
