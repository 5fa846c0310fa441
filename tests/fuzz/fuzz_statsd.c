/* SPDX-License-Identifier: Apache-2.0 */
/* Arbitrary bytes as StatsD: as a stream (passages.h), and each passage as a datagram. */
#include <math.h>

#include "passages.h"
#include "protocol/statsd.h"

struct told {
    struct buf *text;
    uint64_t other, lost;
};

static void on_metric(void *owner, enum proto_dir dir, const struct statsd_metric *m, uint64_t time_ns)
{
    struct buf *b = ((struct told *)owner)->text;

    if (!isfinite(m->value) || !(m->rate > 0) || m->rate > 1 || m->name.len == 0 || m->tag_count > STATSD_TAGS_MAX)
        abort();
    buf_printf(b, "%d %d %g %g %d %d ", dir, (int)time_ns, m->value, m->rate, m->relative, m->cut);
    buf_str(b, statsd_type_text(m->type));
    add_slice(b, m->name);
    add_slice(b, m->text);
    for (size_t i = 0; i < m->tag_count; i++) {
        add_slice(b, m->tags[i].key);
        add_slice(b, m->tags[i].value);
    }
    buf_char(b, '\n');
}

static void on_other(void *owner, enum proto_dir dir, uint64_t lines)
{
    ((struct told *)owner)->other += lines;
}

static void on_lost(void *owner, enum proto_dir dir, uint64_t count)
{
    ((struct told *)owner)->lost += count;
}

static const struct statsd_sink sink = {on_metric, on_other, on_lost};

static void feed(void *decoder, enum proto_dir dir, const uint8_t *data, size_t len, uint64_t time_ns)
{
    statsd_feed(decoder, dir, data, len, time_ns);
}

static void run(const uint8_t *data, size_t size, size_t chunk, struct buf *text)
{
    struct told t = {.text = text};
    struct statsd *s = statsd_new(&sink, &t, size && data[0] & 4);

    feed_passages(data, size, chunk, feed, s);
    statsd_end(s, PROTO_TX, 1000);
    statsd_free(s);
    buf_printf(text, "%zu %zu", (size_t)t.other, (size_t)t.lost);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct told t = {.text = &(struct buf)BUF_INIT};
    struct statsd *s = statsd_new(&sink, &t, false);
    struct passage p;

    expect_same(run, data, size);
    while (next_passage(&data, &size, &p)) {
        uint8_t *copy = malloc(p.len + 1);
        bool detected;

        memcpy(copy, p.data, p.len);
        copy = realloc(copy, p.len ? p.len : 1);
        detected = statsd_detect(copy, p.len, true) > 0;
        buf_reset(t.text);
        statsd_datagram(s, p.dir, copy, p.gap ? p.len / 2 : p.len, p.len, 1);
        if (detected && !p.gap && t.text->len == 0)
            abort();
        free(copy);
    }
    statsd_free(s);
    buf_free(t.text);
    return 0;
}
