/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the HTTP/2 decoder with a conversation:
 *
 *   byte 0        1 joined, 2 upgraded from HTTP/1
 *   then pieces   1 byte (1: direction, 2: not captured), 2 bytes length (big endian), the bytes unless not captured
 *
 * Whatever it is: the same is told for other pieces of it, for the other side,
 * and if what http2_skip() says isn't captured; each exchange is done once and
 * not mentioned any more; and memory stays within bounds. With a file name of
 * `test_http2 --seeds` it can be replayed.
 */
#include <sanitizer/allocator_interface.h>

#include "../unit/http2_talk.h"

/* 1,024 streams, and for each direction: a table of 65,536 bytes as RFC 7541 counts (eightfold), a head of 65,536
 * bytes, and the name and value that libnghttp2 is decoding. */
#define MEMORY_MAX (3u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct talk parse(const uint8_t *p, size_t left)
{
    struct talk t = {0};

    if (left) {
        t.joined = *p & 1;
        t.upgraded = *p & 2;
        p++;
        left--;
    }
    while (left > 3) {
        enum proto_dir dir = p[0] & 1 ? PROTO_TX : PROTO_RX;
        bool gap = p[0] & 2;
        size_t len = (size_t)(p[1] << 8 | p[2]);

        p += 3;
        left -= 3;
        if (!len)
            continue;
        if (gap) {
            talk_gap(&t, dir, len);
        } else {
            len = len < left ? len : left;
            talk_bytes(&t, dir, p, len);
            p += len;
            left -= len;
        }
    }
    return t;
}

/* What is told; the caller frees it. */
static char *run(const struct talk *t, struct feeding how, struct teller options)
{
    struct teller teller = options;
    char *log;

    talk_run(t, how, &teller);
    log = xstrdup(buf_cstr(&teller.log));
    teller_free(&teller);
    if (teller.wrong)
        abort();
    return log;
}

static void same(const char *log, const struct talk *t, struct feeding how, struct teller options)
{
    char *other = run(t, how, options);

    if (strcmp(log, other)) {
        fprintf(stderr, "--- told:\n%s--- but in other pieces:\n%s", log, other);
        abort();
    }
    free(other);
}

static void check_memory(const struct talk *t)
{
    static const struct http_sink nothing;
    size_t before = __sanitizer_get_current_allocated_bytes();
    struct http2 *h = http2_new(&nothing, NULL, t->joined);

    for (size_t i = 0; i < t->count; i++) {
        const struct piece *p = &t->pieces[i];

        http2_feed(h, p->dir, p->gap ? NULL : (const uint8_t *)t->bytes.p + p->at, p->len, 0);
        if (__sanitizer_get_current_allocated_bytes() > before + MEMORY_MAX)
            abort();
    }
    http2_free(h, 0);
    if (__sanitizer_get_current_allocated_bytes() > before)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct teller uncaptured = {.no_bodies = true, .no_gaps = true};
    struct talk t = parse(data, size);
    uint64_t seed = size * 0x9e3779b97f4a7c15u;
    char *log = run(&t, (struct feeding){0}, (struct teller){0});

    same(log, &t, (struct feeding){.by_byte = true}, (struct teller){0});
    same(log, &t, (struct feeding){.random = true, .seed = seed}, (struct teller){0});
    same(log, &t, (struct feeding){.random = true, .seed = ~seed, .mirrored = true}, (struct teller){0});
    free(log);
    log = run(&t, (struct feeding){0}, uncaptured);
    same(log, &t, (struct feeding){.skipping = true}, uncaptured);
    free(log);
    check_memory(&t);
    talk_free(&t);
    return 0;
}
