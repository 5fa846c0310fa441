/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arbitrary conversations for the HTTP/1 decoder. The input is a list of steps:
 *
 *   byte 0      bits 0..1: bytes in one direction or the other, a gap, the end of a direction; bit 2: which direction
 *               of gap or end; bits 3..7 with the two following bytes: the length (of bytes: as far as there are some)
 *
 * its first byte says whether the connection was joined. Besides not crashing:
 *
 * - each request, and each final response without one, is done once;
 * - the bytes of bodies are those that the totals say;
 * - memory is bounded while it runs, small once nothing is outstanding, and freed in the end;
 * - what is skipped as http1_skip() says needn't be seen: giving it as a gap changes nothing else;
 * - other pieces give the same result. Out of step, where a piece begins matters by design; so steps are only cut up
 *   where there is no gap and the connection wasn't joined.
 *
 * With -DFUZZ_MAIN it is a program that replays files, for compilers without libFuzzer.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/http1_log.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t __sanitizer_get_current_allocated_bytes(void);

#define MEMORY_MAX (3 * (size_t)HTTP_HEAD_MAX + 16384 + HTTP1_OUTSTANDING_MAX * 192)

enum kind { BYTES_RX, BYTES_TX, GAP, END };

struct step {
    enum kind kind;
    enum proto_dir dir;
    const uint8_t *bytes;
    size_t len;
};

struct input {
    const uint8_t *p;
    size_t left;
    uint64_t now;
};

static bool next(struct input *in, struct step *s)
{
    uint8_t op;

    if (in->left < 3)
        return false;
    op = in->p[0];
    s->kind = (enum kind)(op & 3);
    s->dir = s->kind == BYTES_RX ? PROTO_RX : s->kind == BYTES_TX ? PROTO_TX : op & 4 ? PROTO_TX : PROTO_RX;
    s->len = (size_t)(op >> 3) << 16 | (size_t)in->p[1] << 8 | in->p[2];
    in->p += 3;
    in->left -= 3;
    in->now += 10;
    s->bytes = in->p;
    if (s->kind == GAP)
        s->len &= 0xffff;
    if (s->kind == BYTES_RX || s->kind == BYTES_TX) {
        s->len = s->len < in->left ? s->len : in->left;
        in->p += s->len;
        in->left -= s->len;
    }
    return true;
}

enum how { WHOLE, SINGLE_BYTES, RANDOM_PIECES, SKIPPING };

/* With the bytes in a block of their own, for AddressSanitizer. */
static void feed(struct http1 *h, enum proto_dir dir, const uint8_t *bytes, size_t len, uint64_t now)
{
    uint8_t *copy = xmemdup(bytes, len);

    http1_feed(h, dir, copy, len, now);
    free(copy);
}

static void feed_pieces(struct http1 *h, const struct step *s, uint64_t now, enum how how, uint64_t *seed)
{
    for (size_t at = 0, n; at < s->len; at += n) {
        uint64_t skip = http1_skip(h, s->dir);

        n = s->len - at;
        if (how == SKIPPING && skip) {
            n = skip < n ? (size_t)skip : n;
            http1_feed(h, s->dir, NULL, n, now);
            continue;
        }
        if (how == SINGLE_BYTES)
            n = 1;
        if (how == RANDOM_PIECES) {
            *seed = *seed * UINT64_C(6364136223846793005) + 1442695040888963407;
            n = 1 + (*seed >> 33) % 50 < n ? 1 + (*seed >> 33) % 50 : n;
        }
        feed(h, s->dir, s->bytes + at, n, now);
    }
}

static void require(bool what, const char *text)
{
    if (!what) {
        fprintf(stderr, "%s\n", text);
        abort();
    }
}

/* What was told, to be freed. */
static struct buf run(const uint8_t *data, size_t size, enum how how, bool bodies)
{
    struct input in = {data + 1, size - 1, 0};
    struct http1_log l = {.swapped = PROTO_TX, .fields = true, .no_bodies = !bodies};
    size_t before = __sanitizer_get_current_allocated_bytes();
    struct http1 *h = http1_new(&http1_log_sink, &l, data[0] & 1);
    bool whole = how == WHOLE || (how != SKIPPING && data[0] & 1);
    uint64_t seed = size;
    struct step s;

    while (next(&in, &s)) {
        if (s.kind == END) {
            http1_end(h, s.dir, in.now);
        } else if (s.kind == GAP) {
            http1_feed(h, s.dir, NULL, s.len, in.now);
            whole = whole || how != SKIPPING;
        } else if (whole) {
            feed(h, s.dir, s.bytes, s.len, in.now);
        } else {
            feed_pieces(h, &s, in.now, how, &seed);
        }
        require(__sanitizer_get_current_allocated_bytes() - before - l.text.cap <= MEMORY_MAX, "memory");
    }
    http1_free(h, 1000000);
    log_text(&l);
    require(__sanitizer_get_current_allocated_bytes() == before + l.text.cap, "memory in the end");
    require(l.done + l.handed_over == l.requests, "each request is done once");
    require(l.unasked_done <= l.unasked && l.unasked <= l.unasked_done + l.requests, "each response is done once");
    require(l.handed_over || (l.told[0] == l.counted[0] && l.told[1] == l.counted[1]), "bytes of bodies");
    return l.text;
}

static void require_same(const uint8_t *data, size_t size, enum how how, bool bodies)
{
    struct buf whole = run(data, size, WHOLE, bodies), other = run(data, size, how, bodies);

    if (whole.len != other.len || memcmp(whole.p, other.p, whole.len)) {
        fprintf(stderr, "whole:\n%s\nin pieces (%d):\n%s\n", whole.p, (int)how, other.p);
        abort();
    }
    buf_free(&whole);
    buf_free(&other);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    require_same(data, size, SINGLE_BYTES, true);
    require_same(data, size, RANDOM_PIECES, true);
    require_same(data, size, SKIPPING, false);
    return 0;
}

#ifdef FUZZ_MAIN
int main(int argc, char **argv)
{
    static uint8_t data[1 << 22];

    for (int i = 1; i < argc; i++) {
        FILE *f = fopen(argv[i], "rb");
        size_t n;

        if (!f) {
            perror(argv[i]);
            return 1;
        }
        n = fread(data, 1, sizeof(data), f);
        fclose(f);
        LLVMFuzzerTestOneInput(data, n);
    }
    return 0;
}
#endif
