/* SPDX-License-Identifier: Apache-2.0 */
/* Conversations for the decoders of src/protocol: what passed, fed in pieces of every kind. */
#ifndef TESTS_UNIT_CONVERSATION_H
#define TESTS_UNIT_CONVERSATION_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "protocol/protocol.h"

/* data NULL: a gap. All of it passes at the same time. */
struct passage {
    enum proto_dir dir;
    const void *data;
    size_t len;
};
#define TX(text) \
    { \
        PROTO_TX, text, sizeof(text) - 1 \
    }
#define RX(text) \
    { \
        PROTO_RX, text, sizeof(text) - 1 \
    }
#define COUNT(array) (sizeof(array) / sizeof(*(array)))
#define MS UINT64_C(1000000)

typedef void (*feed_fn)(void *decoder, enum proto_dir dir, const uint8_t *data, size_t len, uint64_t time_ns);

/* Feeds the passages, at 1 ms, 2 ms, ... chunk: bytes of a piece, 0: all. cut: where one passage is divided, counted
 * from the first byte of all; 0: nowhere. */
static inline void feed_all(const struct passage *p, size_t n, size_t chunk, size_t cut, feed_fn feed, void *decoder)
{
    size_t total = 0;

    for (size_t i = 0; i < n; i++) {
        uint64_t now = (i + 1) * MS;
        size_t at = 0;

        while (at < p[i].len) {
            size_t len = p[i].len - at;
            uint8_t *copy = NULL;

            if (chunk && len > chunk)
                len = chunk;
            if (cut > total && cut < total + len)
                len = cut - total;
            /* Sanitizers see what is read behind a piece, or after the call. */
            if (p[i].data) {
                copy = malloc(len);
                memcpy(copy, (const char *)p[i].data + at, len);
            }
            feed(decoder, p[i].dir, copy, len, now);
            free(copy);
            at += len;
            total += len;
        }
    }
}

/* Runs a conversation and gives what was told, as text. */
typedef char *(*run_fn)(const struct passage *p, size_t n, size_t chunk, size_t cut);

/* The text of the whole conversation, after checking that it is the same however it is divided. The caller frees it. */
static inline char *run_divided(run_fn run, const struct passage *p, size_t n)
{
    char *whole = run(p, n, 0, 0);
    size_t total = 0, step;

    for (size_t i = 0; i < n; i++)
        total += p[i].len;
    step = total > 4096 ? total / 1021 : 1;
    for (size_t chunk = 1; chunk < 8; chunk += 2) {
        char *again = run(p, n, chunk, 0);

        assert_string_equal(again, whole);
        free(again);
    }
    for (size_t cut = 1; cut < total; cut += step) {
        char *again = run(p, n, 0, cut);

        if (strcmp(again, whole) != 0)
            print_error("divided at %zu\n", cut);
        assert_string_equal(again, whole);
        free(again);
    }
    return whole;
}

static inline void expect_told(run_fn run, const struct passage *p, size_t n, const char *want)
{
    char *got = run_divided(run, p, n);

    assert_string_equal(got, want);
    free(got);
}

static inline void add_slice(struct buf *b, struct slice s)
{
    if (s.p)
        buf_add(b, s.p, s.len);
    else
        buf_char(b, '-');
}

/* The text, to be freed; the buffer is empty then. */
static inline char *take_text(struct buf *b)
{
    char *text = strdup(buf_cstr(b));

    buf_free(b);
    return text;
}

#endif
