/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inputs of the fuzzers of src/protocol. An input is a list of passages: one
 * byte (bit 0: direction, bit 1: bytes that weren't captured), two bytes length,
 * most significant first, and the bytes. The last one may be shorter.
 *
 * Each input is run as it is, byte by byte, and in pieces of 7: what is told
 * must be the same. It is written into `told` as bytes.
 */
#ifndef TESTS_FUZZ_PASSAGES_H
#define TESTS_FUZZ_PASSAGES_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "protocol/protocol.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct passage {
    enum proto_dir dir;
    bool gap;
    const uint8_t *data;
    size_t len;
};

static inline bool next_passage(const uint8_t **data, size_t *size, struct passage *ret)
{
    size_t len;

    if (*size < 4)
        return false;
    ret->dir = (*data)[0] & 1 ? PROTO_TX : PROTO_RX;
    ret->gap = (*data)[0] & 2;
    len = (size_t)(*data)[1] << 8 | (*data)[2];
    *data += 3;
    *size -= 3;
    ret->len = len < *size ? len : *size;
    ret->data = *data;
    *data += ret->len;
    *size -= ret->len;
    return true;
}

static inline void add_slice(struct buf *b, struct slice s)
{
    buf_printf(b, "%zu:", s.p ? s.len : SIZE_MAX);
    if (s.p)
        buf_add(b, s.p, s.len);
}

typedef void (*feed_fn)(void *decoder, enum proto_dir dir, const uint8_t *data, size_t len, uint64_t time_ns);

static inline void feed_passages(const uint8_t *data, size_t size, size_t chunk, feed_fn feed, void *decoder)
{
    struct passage p;

    for (uint64_t now = 1; next_passage(&data, &size, &p); now++)
        for (size_t at = 0, n; at < p.len; at += n) {
            uint8_t *copy = NULL;

            n = chunk && chunk < p.len - at ? chunk : p.len - at;
            if (!p.gap) {
                copy = malloc(n); /* so that what is read outside of it is seen */
                memcpy(copy, p.data + at, n);
            }
            feed(decoder, p.dir, copy, n, now);
            free(copy);
        }
}

/* run: feeds the input to a new decoder in pieces of `chunk` bytes (0: as they are). */
static inline void expect_same(void (*run)(const uint8_t *data, size_t size, size_t chunk, struct buf *told),
                               const uint8_t *data, size_t size)
{
    static const size_t chunks[] = {1, 7};
    struct buf whole = BUF_INIT;

    run(data, size, 0, &whole);
    for (size_t i = 0; i < sizeof(chunks) / sizeof(*chunks); i++) {
        struct buf again = BUF_INIT;

        run(data, size, chunks[i], &again);
        if (again.len != whole.len || (whole.len && memcmp(again.p, whole.p, whole.len) != 0)) {
            fprintf(stderr, "as it is:\n%s\nin pieces of %zu:\n%s\n", buf_cstr(&whole), chunks[i], buf_cstr(&again));
            abort();
        }
        buf_free(&again);
    }
    buf_free(&whole);
}

#endif
