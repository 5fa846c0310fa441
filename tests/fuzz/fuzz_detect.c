/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arbitrary connections (passages.h) and datagrams: what they are taken for must
 * not depend on how they are divided into pieces, and what is replayed must be
 * what was fed, each byte in its place.
 */
#include "passages.h"
#include "traffic/protocols.h"

struct connection {
    struct detect *detect;
    struct buf fed[PROTO_DIRS], gaps[PROTO_DIRS]; /* bytes so far, and for each whether it is one of a gap */
    uint64_t replayed[PROTO_DIRS];
};

static void feed(void *ctx, enum proto_dir dir, const uint8_t *data, size_t len, uint64_t time_ns)
{
    struct connection *c = ctx;

    if (detect_answer(c->detect).state != DETECT_MORE) /* who asks for it has got the answer */
        return;
    if (detect_feed(c->detect, dir, data, len, time_ns) > (data ? len : 0))
        abort();
    for (size_t i = 0; i < len; i++) {
        buf_char(&c->fed[dir], data ? (char)data[i] : 0);
        buf_char(&c->gaps[dir], !data);
    }
}

static void replayed(void *ctx, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    struct connection *c = ctx;
    uint64_t at = c->replayed[dir];

    (void)time_ns;
    if (at + len > c->fed[dir].len)
        abort();
    for (uint64_t i = 0; data && i < len; i++)
        if (c->gaps[dir].p[at + i] || c->fed[dir].p[at + i] != (char)data[i])
            abort();
    c->replayed[dir] += len;
}

static struct detect_rules *rules(void)
{
    static const struct detect_rule all[] = {
        {"Redis", "^\\*[1-9][0-9]*\\r\\n\\$", false, 0}, {"PostgreSQL", "^000000[0-9a-f]{2}00030000", true, 8},
        {"Word", "x(a+b+)+c", false, 64},                {"End", "end$", false, 0},
        {"HTTP", "^PRETEND ", false, 0},                 {"Broken", "(", false, 0},
    };
    const struct detect_builtin *builtin[PROTOCOLS_MAX];
    static struct detect_rules *r;

    if (!r)
        r = detect_rules_new(all, sizeof(all) / sizeof(*all), builtin, protocols_detect(builtin), NULL, NULL);
    return r;
}

static void run(const uint8_t *data, size_t size, size_t chunk, struct buf *told)
{
    bool datagrams = size && data[0] & 4;
    struct connection c = {.detect = detect_new(rules(), datagrams)};
    struct detect_answer a;

    feed_passages(data, size, datagrams ? 0 : chunk, feed, &c);
    for (enum proto_dir dir = 0; dir < PROTO_DIRS; dir++)
        detect_end(c.detect, dir);
    a = detect_answer(c.detect);
    if (a.state == DETECT_MORE && size >= 4)
        abort(); /* nothing more comes */
    buf_printf(told, "%d", a.state);
    if (a.state == DETECT_FOUND)
        buf_printf(told, " %zu %s %zu %d", a.builtin, a.name, a.rule, a.dir);
    detect_replay(c.detect, replayed, &c);
    for (enum proto_dir dir = 0; dir < PROTO_DIRS; dir++) {
        buf_free(&c.fed[dir]);
        buf_free(&c.gaps[dir]);
    }
    detect_free(c.detect);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size <= 3 * DETECT_BUDGET)
        expect_same(run, data, size);
    return 0;
}
