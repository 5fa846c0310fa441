/* SPDX-License-Identifier: Apache-2.0 */
/* Arbitrary bytes as a PROXY header and as the beginning of SOCKS (passages.h). */
#include "passages.h"
#include "protocol/preamble.h"

struct told {
    struct buf *text;
    bool done, goes_on;
    struct buf rest[PROTO_DIRS];
};

static enum preamble_kind kind;

static void add_addr(struct buf *b, const struct preamble_addr *a)
{
    if (a->len && a->len != 4 && a->len != 16)
        abort();
    buf_add(b, a->ip, a->len);
    buf_printf(b, ":%u", a->port);
}

static void on_told(void *owner, const struct preamble_told *p, uint64_t time_ns)
{
    struct told *t = owner;

    (void)time_ns;
    if (t->done || p->kind != kind)
        abort();
    t->done = true;
    t->goes_on = p->goes_on;
    buf_printf(t->text, "%d %u %u %d ", p->goes_on, p->version, p->command, p->reply);
    add_slice(t->text, p->host);
    add_addr(t->text, &p->client);
    add_addr(t->text, &p->target);
}

static void on_rest(void *owner, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    struct told *t = owner;

    (void)time_ns;
    if (!t->done || !t->goes_on || !len)
        abort();
    for (uint64_t i = 0; i < len; i++)
        buf_char(&t->rest[dir], data ? (char)data[i] : '?');
}

static const struct preamble_sink sink = {on_told, on_rest};

static void feed(void *decoder, enum proto_dir dir, const uint8_t *data, size_t len, uint64_t time_ns)
{
    preamble_feed(decoder, dir, data, len, time_ns);
}

static void run(const uint8_t *data, size_t size, size_t chunk, struct buf *text)
{
    struct told t = {.text = text};
    struct preamble *d = preamble_new(&sink, &t, kind, PROTO_TX);

    feed_passages(data, size, chunk, feed, d);
    preamble_free(d, 0);
    if (!t.done)
        abort();
    for (int i = 0; i < PROTO_DIRS; i++) {
        buf_char(text, '|');
        buf_add(text, t.rest[i].p, t.rest[i].len);
        buf_free(&t.rest[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *rest = data;
    size_t left = size;
    struct passage p, q;

    for (int i = 0; i < 2; i++) {
        kind = i ? PREAMBLE_SOCKS : PREAMBLE_PROXY;
        expect_same(run, data, size);
    }
    if (!next_passage(&rest, &left, &p) || !next_passage(&rest, &left, &q))
        return 0;
    /* Once it has said yes or no it says the same of more bytes. */
    for (int last = -1, i = 0; i < 40 && (size_t)i <= p.len; i++) {
        int now = preamble_proxy_detect(p.data, (size_t)i);

        if ((last >= 0 && now != last) || (now < 0 && i >= (int)PREAMBLE_PROXY_DETECT))
            abort();
        last = now;
    }
    for (int last = -1, i = 0; i < 8 && (size_t)i <= q.len; i++) {
        int now = preamble_socks_detect(p.data, p.len, q.data, (size_t)i);

        if (last >= 0 && now != last)
            abort();
        last = now;
    }
    return 0;
}
