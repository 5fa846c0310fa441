/* SPDX-License-Identifier: Apache-2.0 */
/* Arbitrary bytes as the beginning of a TLS connection (passages.h). */
#include "passages.h"
#include "protocol/tls.h"

struct told {
    struct buf *text;
    bool done;
};

static void on_client_hello(void *owner, const struct tls_client_hello *h, uint64_t time_ns)
{
    struct told *t = owner;

    if (t->done || h->alpn_count > TLS_ALPN_MAX)
        abort();
    buf_printf(t->text, "client %d %d%d%d%d %x %x %x %u ", h->dir, h->sslv2, h->ech, h->ticket, h->cut,
               h->record_version, h->legacy_version, h->version, (unsigned)time_ns);
    add_slice(t->text, h->server_name);
    for (size_t i = 0; i < h->alpn_count; i++)
        add_slice(t->text, h->alpn[i]);
}

static void on_server_hello(void *owner, const struct tls_server_hello *h, uint64_t time_ns, uint64_t duration_ns)
{
    struct told *t = owner;

    if (t->done)
        abort();
    buf_printf(t->text, "server %d %x %x %x %d %d %u %u ", h->dir, h->legacy_version, h->version, h->cipher, h->resumed,
               h->retried, (unsigned)time_ns, (unsigned)duration_ns);
    add_slice(t->text, h->alpn);
}

static void on_done(void *owner, enum tls_end why, int alert)
{
    struct told *t = owner;

    if (t->done)
        abort();
    t->done = true;
    buf_printf(t->text, "done %d %d", why, alert);
}

static const struct tls_sink sink = {on_client_hello, on_server_hello, on_done};

static void feed(void *decoder, enum proto_dir dir, const uint8_t *data, size_t len, uint64_t time_ns)
{
    tls_feed(decoder, dir, data, len, time_ns);
}

static void run(const uint8_t *data, size_t size, size_t chunk, struct buf *text)
{
    struct told t = {.text = text};
    struct tls *d = tls_new(&sink, &t);

    feed_passages(data, size, chunk, feed, d);
    tls_free(d);
    if (!t.done)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *rest = data;
    size_t left = size;
    struct passage p;

    expect_same(run, data, size);
    while (next_passage(&rest, &left, &p)) {
        int last = -1;

        /* Once it has said yes or no it says the same of more bytes. */
        for (size_t len = 0; len <= p.len && len < 40; len++) {
            int now = tls_detect(p.data, len);

            if ((last >= 0 && now != last) || (now < 0 && len >= TLS_DETECT))
                abort();
            last = now;
        }
    }
    return 0;
}
