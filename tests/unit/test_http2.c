/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP/2 decoder. Conversations are made frame by frame, or by
 * libnghttp2's sessions as client and server, whose own callbacks say what the
 * decoder must tell. Each is fed whole, byte by byte, cut at every position, in
 * random pieces, and with the sides turned round: the same must be told.
 *
 *   test_http2 --seeds DIRECTORY    also writes the conversations as seeds of fuzz_http2
 */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "http2_talk.h"
#include "http2_peers.h"

#define STR(text) text, sizeof(text) - 1
#define GET(path) ":method: GET\n:scheme: https\n:path: " path "\n:authority: a.test\n"
#define END_STREAM NGHTTP2_FLAG_END_STREAM

/* ---- seeds ---- */

static const char *seed_directory; /* conversations go there too */

/* In the form that fuzz_http2.c reads. */
static void seed_write(const struct talk *talk)
{
    static unsigned number;
    char path[4096];
    FILE *f;

    snprintf(path, sizeof(path), "%s/talk-%02u", seed_directory, number++);
    f = fopen(path, "w");
    if (!f)
        abort();
    fputc((talk->joined ? 1 : 0) | (talk->upgraded ? 2 : 0), f);
    for (size_t i = 0; i < talk->count; i++) {
        const struct piece *p = &talk->pieces[i];

        for (size_t done = 0, n; done < p->len; done += n) {
            n = p->len - done < 65535 ? p->len - done : 65535;
            fputc((int)p->dir | (p->gap ? 2 : 0), f);
            fputc((int)(n >> 8), f);
            fputc((int)(n & 0xff), f);
            if (!p->gap)
                fwrite(talk->bytes.p + p->at + done, 1, n, f);
        }
    }
    if (fclose(f))
        abort();
}

/* ---- running ---- */

static void same(const struct talk *talk, const char *expected, struct feeding how, struct teller options)
{
    struct teller t = options;

    talk_run(talk, how, &t);
    if (strcmp(buf_cstr(&t.log), expected)) {
        print_error("byte=%d random=%d cut=%zu mirrored=%d skipping=%d\n", how.by_byte, how.random, how.cut,
                    how.mirrored, how.skipping);
        assert_string_equal(buf_cstr(&t.log), expected);
    }
    teller_free(&t);
    assert_int_equal(t.wrong, 0);
}

/* Every way of feeding must tell `expected`. every: cut at each every-th position. */
static void same_always(const struct talk *talk, const char *expected, size_t every)
{
    const struct teller plain = {0};
    struct teller uncaptured = {.no_bodies = true, .no_gaps = true};
    char *without;

    for (int mirrored = 0; mirrored < 2; mirrored++) {
        same(talk, expected, (struct feeding){.mirrored = mirrored}, plain);
        same(talk, expected, (struct feeding){.mirrored = mirrored, .by_byte = true}, plain);
    }
    for (size_t at = every; at < talk->bytes.len; at += every)
        same(talk, expected, (struct feeding){.cut = at}, plain);
    for (uint64_t seed = 1; seed < 10; seed++)
        same(talk, expected, (struct feeding){.random = true, .seed = seed * 7919}, plain);
    /* Whatever is said to be of no interest makes no difference but for `gap`. */
    talk_run(talk, (struct feeding){0}, &uncaptured);
    without = xstrdup(buf_cstr(&uncaptured.log));
    teller_free(&uncaptured);
    same(talk, without, (struct feeding){.skipping = true}, (struct teller){.no_bodies = true, .no_gaps = true});
    same(talk, without, (struct feeding){.skipping = true}, (struct teller){.no_gaps = true});
    free(without);
}

/* Bodies have a hash in the log: `expected` doesn't, so it is compared without. */
static void told(struct talk *talk, const char *expected)
{
    struct teller t = {.no_bodies = true}, whole = {0};

    if (seed_directory)
        seed_write(talk);
    talk_run(talk, (struct feeding){0}, &t);
    assert_string_equal(buf_cstr(&t.log), expected);
    teller_free(&t);
    assert_int_equal(t.wrong, 0);
    talk_run(talk, (struct feeding){0}, &whole);
    same_always(talk, buf_cstr(&whole.log), 1);
    teller_free(&whole);
    talk_free(talk);
}

/* ---- what there is ---- */

static void test_requests(void **state)
{
    struct talk t = {0};

    talk_begin(&t);
    talk_head(&t, CLIENT, END_STREAM, 1, GET("/a") "accept: */*\nx: 1\n");
    talk_head(&t, CLIENT, 0, 3,
              ":method: POST\n:scheme: http\n:path: /b?c\n:authority: b.test:81\ncontent-length: 5\n");
    talk_frame(&t, CLIENT, NGHTTP2_DATA, 0, 3, STR("hel"));
    talk_head(&t, SERVER, 0, 1, ":status: 200\ncontent-type: text/plain\ncontent-length: 4\n");
    talk_frame(&t, CLIENT, NGHTTP2_DATA, END_STREAM, 3, STR("lo"));
    talk_frame(&t, SERVER, NGHTTP2_DATA, END_STREAM, 1, STR("body"));
    talk_head(&t, SERVER, END_STREAM, 3, ":status: 404\n");
    /* All of it from the table. */
    talk_head(&t, CLIENT, END_STREAM, 5, GET("/a") "accept: */*\nx: 1\n");
    talk_head(&t, SERVER, 0, 5, ":status: 200\ncontent-type: text/plain\ncontent-length: 4\n");
    talk_frame(&t, SERVER, NGHTTP2_DATA, 0, 5, STR("body"));
    talk_frame(&t, SERVER, NGHTTP2_DATA, END_STREAM, 5, NULL, 0);
    told(&t, "1 > GET https a.test /a [accept: */*; x: 1]\n"
             "3 > POST http b.test:81 /b?c [content-length: 5] length=5\n"
             "1 < 200 [content-type: text/plain; content-length: 4] length=4\n"
             "1 = 200 0+4 complete\n"
             "3 < 404 []\n"
             "3 = 404 5+0 complete\n"
             "5 > GET https a.test /a [accept: */*; x: 1]\n"
             "5 < 200 [content-type: text/plain; content-length: 4] length=4\n"
             "5 = 200 0+4 complete\n");
}

static void test_interim_and_trailers(void **state)
{
    struct talk t = {0};

    talk_begin(&t);
    talk_head(&t, CLIENT, 0, 1, ":method: PUT\n:scheme: https\n:path: /\nhost: h.test\nexpect: 100-continue\n");
    talk_head(&t, SERVER, 0, 1, ":status: 100\n");
    talk_head(&t, SERVER, 0, 1, ":status: 103\nlink: </a.css>\n");
    talk_frame(&t, CLIENT, NGHTTP2_DATA, 0, 1, STR("abc"));
    talk_head(&t, CLIENT, END_STREAM, 1, "digest: 1\n");
    talk_head(&t, SERVER, 0, 1, ":status: 200\n");
    talk_frame(&t, SERVER, NGHTTP2_DATA, 0, 1, STR("de"));
    talk_head(&t, SERVER, END_STREAM, 1, "server-timing: x\ngrpc-status: 7\n");
    told(&t, "1 > PUT https h.test / [host: h.test; expect: 100-continue]\n"
             "1 < 100 [] interim\n"
             "1 < 103 [link: </a.css>] interim\n"
             "1 t> [digest: 1]\n"
             "1 < 200 []\n"
             "1 t< [server-timing: x; grpc-status: 7]\n"
             "1 = 200 3+2 grpc=7 complete\n");
}

/* A gRPC server that refuses a call says so in the only head it sends. */
static void test_trailers_only(void **state)
{
    struct talk t = {0};

    talk_begin(&t);
    talk_head(&t, CLIENT, END_STREAM, 1, GET("/pkg.Service/Method"));
    talk_head(&t, SERVER, END_STREAM, 1, ":status: 200\ncontent-type: application/grpc\ngrpc-status: 12\n");
    talk_head(&t, CLIENT, END_STREAM, 3, GET("/pkg.Service/Method"));
    talk_head(&t, SERVER, 0, 3, ":status: 200\n");
    talk_head(&t, SERVER, END_STREAM, 3, "grpc-status: none\n");
    talk_head(&t, CLIENT, END_STREAM, 5, GET("/pkg.Service/Method"));
    talk_head(&t, SERVER, 0, 5, ":status: 200\ngrpc-status: 3\n");
    talk_head(&t, SERVER, END_STREAM, 5, "x: y\n");
    told(&t, "1 > GET https a.test /pkg.Service/Method []\n"
             "1 < 200 [content-type: application/grpc; grpc-status: 12]\n"
             "1 = 200 0+0 grpc=12 complete\n"
             "3 > GET https a.test /pkg.Service/Method []\n"
             "3 < 200 []\n"
             "3 t< [grpc-status: none]\n"
             "3 = 200 0+0 complete\n"
             "5 > GET https a.test /pkg.Service/Method []\n"
             "5 < 200 [grpc-status: 3]\n"
             "5 t< [x: y]\n"
             "5 = 200 0+0 grpc=3 complete\n");
}

static void test_padding_priority_continuation(void **state)
{
    struct talk t = {0};
    struct buf b, padded = BUF_INIT;

    talk_begin(&t);
    b = talk_block(&t, CLIENT, GET("/padded") "a: b\n");
    buf_add(&padded, STR("\7\200\0\0\0\20"));
    buf_add(&padded, b.p, 3);
    buf_add(&padded, STR("\0\0\0\0\0\0\0"));
    /* 3 bytes of the block, then one by one, with empty frames between. */
    talk_frame(&t, CLIENT, NGHTTP2_HEADERS, END_STREAM | NGHTTP2_FLAG_PADDED | NGHTTP2_FLAG_PRIORITY, 1, padded.p,
               padded.len);
    for (size_t i = 3; i < b.len; i++) {
        talk_frame(&t, CLIENT, NGHTTP2_CONTINUATION, 0, 1, b.p + i, 1);
        talk_frame(&t, CLIENT, NGHTTP2_CONTINUATION, 0, 1, NULL, 0);
    }
    talk_frame(&t, CLIENT, NGHTTP2_CONTINUATION, NGHTTP2_FLAG_END_HEADERS, 1, NULL, 0);
    buf_free(&b);
    buf_free(&padded);
    talk_head(&t, SERVER, 0, 1, ":status: 200\n");
    talk_frame(&t, SERVER, NGHTTP2_DATA, NGHTTP2_FLAG_PADDED, 1, STR("\3xy\0\0\0"));
    talk_frame(&t, SERVER, NGHTTP2_DATA, NGHTTP2_FLAG_PADDED, 1, STR("\3\0\0\0"));
    talk_frame(&t, SERVER, NGHTTP2_DATA, NGHTTP2_FLAG_PADDED, 1, STR("\0"));
    talk_frame(&t, CLIENT, NGHTTP2_PRIORITY, 0, 9, STR("\0\0\0\1\5"));
    talk_frame(&t, SERVER, NGHTTP2_DATA, NGHTTP2_FLAG_PADDED | END_STREAM, 1, STR("\1z\0"));
    told(&t, "1 > GET https a.test /padded [a: b]\n"
             "1 < 200 []\n"
             "1 = 200 0+3 complete\n");
}

static void test_other_frames_are_passed_over(void **state)
{
    struct talk t = {0};

    talk_begin(&t);
    talk_frame(&t, CLIENT, 0x2a, 0xff, 7, STR("GREASE: anything"));
    talk_frame(&t, SERVER, NGHTTP2_PING, 0, 0, STR("12345678"));
    talk_frame(&t, CLIENT, NGHTTP2_PING, NGHTTP2_FLAG_ACK, 0, STR("12345678"));
    talk_frame(&t, SERVER, NGHTTP2_ALTSVC, 0, 0, STR("\0\0h2=\":1\""));
    talk_frame(&t, SERVER, NGHTTP2_WINDOW_UPDATE, 0x80, 0, STR("\0\0\1\0"));
    talk_frame(&t, CLIENT, 0xf5, 0, 0x80000000u, NULL, 0);
    talk_head(&t, CLIENT, END_STREAM | 0x40, 0x80000001u, GET("/")); /* what is reserved is ignored */
    talk_head(&t, SERVER, END_STREAM, 1, ":status: 204\n");
    told(&t, "1 > GET https a.test / []\n1 < 204 []\n1 = 204 0+0 complete\n");
}

static void promise(struct talk *t, uint32_t on, uint32_t id, const char *text)
{
    struct buf b = talk_block(t, SERVER, text), payload = BUF_INIT;
    const uint8_t fixed[5] = {2, 0, 0, 0, (uint8_t)id};

    buf_add(&payload, fixed, sizeof(fixed));
    buf_add(&payload, b.p, b.len);
    buf_add(&payload, "\0\0", 2);
    talk_frame(t, SERVER, NGHTTP2_PUSH_PROMISE, NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_PADDED, on, payload.p,
               payload.len);
    buf_free(&b);
    buf_free(&payload);
}

static void test_push(void **state)
{
    struct talk t = {0};

    talk_begin(&t);
    talk_head(&t, CLIENT, END_STREAM, 1, GET("/"));
    promise(&t, 1, 2, GET("/style.css"));
    promise(&t, 1, 4, GET("/unwanted.js"));
    promise(&t, 1, 4, GET("/again")); /* not allowed, but its fields are in the table */
    talk_head(&t, SERVER, END_STREAM, 1, ":status: 200\n");
    talk_head(&t, SERVER, 0, 2, ":status: 200\n");
    talk_frame(&t, CLIENT, NGHTTP2_RST_STREAM, 0, 4, STR("\0\0\0\10"));
    talk_head(&t, SERVER, 0, 4, ":status: 200\n"); /* was on its way */
    talk_frame(&t, SERVER, NGHTTP2_DATA, END_STREAM, 4, STR("late"));
    talk_frame(&t, SERVER, NGHTTP2_DATA, END_STREAM, 2, STR("css"));
    promise(&t, 3, 6, GET("/again"));
    told(&t, "1 > GET https a.test / []\n"
             "2 > GET https a.test /style.css [] pushed\n"
             "4 > GET https a.test /unwanted.js [] pushed\n"
             "1 < 200 []\n"
             "1 = 200 0+0 complete\n"
             "2 < 200 []\n"
             "4 = 0 0+0\n"
             "2 = 200 0+3 complete\n"
             "6 > GET https a.test /again [] pushed\n"
             "6 = 0 0+0\n");
}

static void test_resets_and_goaway(void **state)
{
    struct talk t = {0};

    talk_begin(&t);
    for (uint32_t id = 1; id <= 9; id += 2)
        talk_head(&t, CLIENT, id == 9 ? 0 : END_STREAM, id, GET("/x"));
    talk_head(&t, SERVER, 0, 1, ":status: 200\n");
    talk_frame(&t, SERVER, NGHTTP2_DATA, 0, 1, STR("part"));
    talk_frame(&t, SERVER, NGHTTP2_RST_STREAM, 0, 1, STR("\0\0\0\2"));
    talk_frame(&t, SERVER, NGHTTP2_GOAWAY, 0, 0, STR("\177\377\377\377\0\0\0\0shutting down"));
    talk_frame(&t, SERVER, NGHTTP2_GOAWAY, 0, 0, STR("\0\0\0\5\0\0\0\0"));
    talk_frame(&t, CLIENT, NGHTTP2_GOAWAY, 0, 0, STR("\0\0\0\0\0\0\0\0")); /* no pushes */
    talk_head(&t, SERVER, END_STREAM, 3, ":status: 200\n");
    talk_head(&t, CLIENT, END_STREAM, 1, GET("/reuse"));
    talk_head(&t, CLIENT, END_STREAM, 3, GET("/reuse"));
    talk_end(&t, SERVER);
    told(&t, "1 > GET https a.test /x []\n3 > GET https a.test /x []\n5 > GET https a.test /x []\n"
             "7 > GET https a.test /x []\n9 > GET https a.test /x []\n"
             "1 < 200 []\n"
             "1 = 200 0+4\n"
             "7 = 0 0+0\n"
             "9 = 0 0+0\n"
             "3 < 200 []\n"
             "3 = 200 0+0 complete\n"
             "5 = 0 0+0\n");
}

static void test_early_response(void **state)
{
    struct talk t = {0};

    talk_begin(&t);
    talk_head(&t, CLIENT, 0, 1, ":method: POST\n:scheme: https\n:path: /\n:authority: a\n");
    talk_head(&t, SERVER, END_STREAM, 1, ":status: 413\n");
    talk_frame(&t, CLIENT, NGHTTP2_DATA, 0, 1, STR("more"));
    talk_frame(&t, SERVER, NGHTTP2_RST_STREAM, 0, 1, STR("\0\0\0\0"));
    talk_frame(&t, CLIENT, NGHTTP2_DATA, END_STREAM, 1, STR("late"));
    /* The client has ended while its request hasn't. */
    talk_head(&t, CLIENT, 0, 3, ":method: POST\n:scheme: https\n:path: /3\n:authority: a\n");
    talk_end(&t, CLIENT);
    talk_head(&t, SERVER, END_STREAM, 3, ":status: 200\n");
    told(&t, "1 > POST https a / []\n1 < 413 []\n1 = 413 4+0\n"
             "3 > POST https a /3 []\n3 < 200 []\n3 = 200 0+0\n");
}

static void test_connect(void **state)
{
    struct talk t = {0};

    talk_begin(&t);
    talk_head(&t, CLIENT, 0, 1, ":method: CONNECT\n:authority: db.test:5432\n");
    talk_head(&t, CLIENT, 0, 3,
              ":method: CONNECT\n:protocol: websocket\n:scheme: https\n:path: /chat\n:authority: a.test\n");
    talk_head(&t, SERVER, 0, 1, ":status: 200\n");
    talk_head(&t, SERVER, 0, 3, ":status: 200\n");
    for (int i = 0; i < 3; i++) {
        talk_frame(&t, CLIENT, NGHTTP2_DATA, 0, 1, STR("query"));
        talk_frame(&t, SERVER, NGHTTP2_DATA, 0, 3, STR("\201\2hi"));
        talk_frame(&t, SERVER, NGHTTP2_DATA, 0, 1, STR("row"));
    }
    talk_frame(&t, SERVER, NGHTTP2_DATA, END_STREAM, 1, NULL, 0);
    talk_frame(&t, CLIENT, NGHTTP2_DATA, END_STREAM, 1, NULL, 0);
    told(&t, "1 > CONNECT - db.test:5432 - []\n"
             "3 > CONNECT https a.test /chat [] protocol=websocket\n"
             "1 < 200 []\n3 < 200 []\n"
             "1 = 200 15+9 complete\n"
             "3 = 200 0+12\n");
}

static void test_upgraded(void **state)
{
    struct talk t = {.upgraded = true};

    /* The server begins at once, the client when it has seen the 101. */
    talk_frame(&t, SERVER, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
    talk_head(&t, SERVER, 0, 1, ":status: 200\n");
    talk_bytes(&t, CLIENT, TALK_PREFACE, strlen(TALK_PREFACE));
    talk_frame(&t, CLIENT, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
    talk_head(&t, CLIENT, END_STREAM, 1, GET("/reuse"));
    talk_frame(&t, SERVER, NGHTTP2_DATA, END_STREAM, 1, STR("upgraded"));
    talk_head(&t, CLIENT, END_STREAM, 3, GET("/"));
    talk_head(&t, SERVER, END_STREAM, 3, ":status: 200\n");
    told(&t, "1 < 200 []\n1 = 200 0+8 complete\n"
             "3 > GET https a.test / []\n3 < 200 []\n3 = 200 0+0 complete\n");
}

/* The sides are told apart by what they begin with, whoever comes first. */
static void test_order_of_directions(void **state)
{
    struct talk t = {0};

    talk_frame(&t, SERVER, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
    /* A thread that reads may be seen before the one that writes. */
    talk_head(&t, SERVER, 0, 1, ":status: 200\n");
    talk_bytes(&t, CLIENT, TALK_PREFACE, strlen(TALK_PREFACE));
    talk_frame(&t, CLIENT, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
    talk_head(&t, CLIENT, 0, 1, GET("/"));
    talk_frame(&t, SERVER, NGHTTP2_DATA, END_STREAM, 1, STR("ok"));
    talk_frame(&t, CLIENT, NGHTTP2_DATA, END_STREAM, 1, STR("x"));
    told(&t, "1 < 200 [] early\n1 > GET https a.test / []\n1 = 200 1+2 complete\n");
}

static void test_times(void **state)
{
    struct talk t = {0};
    struct teller teller = {.times = true};
    struct buf b;

    talk_begin(&t);
    t.ns = 900;
    talk_head(&t, SERVER, 0, 5, ":status: 200\n"); /* its request isn't there */
    b = talk_block(&t, CLIENT, GET("/"));
    t.ns = 1000;
    talk_bytes(&t, CLIENT, "\0", 1);
    t.ns = 1200;
    talk_bytes(&t, CLIENT, (const uint8_t[]){0, (uint8_t)b.len, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 0, 0, 0, 1},
               8);
    t.ns = 1500;
    talk_bytes(&t, CLIENT, b.p, b.len);
    buf_free(&b);
    t.ns = 2000;
    talk_head(&t, SERVER, 0, 1, ":status: 103\n");
    b = talk_block(&t, SERVER, ":status: 200\n");
    t.ns = 3000;
    talk_header(&t, SERVER, NGHTTP2_HEADERS, 0, 1, b.len);
    t.ns = 3100;
    talk_bytes(&t, SERVER, b.p, b.len);
    t.ns = 3200;
    talk_frame(&t, SERVER, NGHTTP2_CONTINUATION, NGHTTP2_FLAG_END_HEADERS, 1, NULL, 0);
    buf_free(&b);
    t.ns = 4000;
    talk_header(&t, SERVER, NGHTTP2_DATA, END_STREAM, 1, 2);
    t.ns = 4100;
    talk_bytes(&t, SERVER, "ok", 2);
    t.ns = 4500;
    talk_frame(&t, SERVER, NGHTTP2_DATA, END_STREAM, 1, STR("behind the end"));
    t.ns = 5000;
    talk_frame(&t, CLIENT, NGHTTP2_DATA, END_STREAM, 1, NULL, 0);
    t.ns = 6000;
    talk_head(&t, CLIENT, END_STREAM, 3, GET("/"));
    t.ns = 7000;
    talk_run(&t, (struct feeding){0}, &teller);
    assert_non_null(strstr(buf_cstr(&teller.log), "5 < 200 [] at=900..900 after=0 early\n"
                                                  "1 > GET https a.test / [] at=1000..1500\n"
                                                  "1 < 103 [] at=2000..2000 after=1000 interim\n"
                                                  "1 < 200 [] at=3000..3200 after=2000\n"
                                                  "1 = 200 0+2"));
    assert_non_null(strstr(teller.log.p, "at=1000,3000..4100 complete\n"));
    assert_non_null(strstr(teller.log.p, "at=6000,0..7000\n"));
    assert_int_equal(teller.duration, 2000);
    teller_free(&teller);
    talk_free(&t);
}

/* ---- gaps ---- */

static void test_gap_in_a_body(void **state)
{
    struct talk t = {0};

    talk_begin(&t);
    talk_head(&t, CLIENT, END_STREAM, 1, GET("/file"));
    talk_head(&t, SERVER, 0, 1, ":status: 200\n");
    talk_header(&t, SERVER, NGHTTP2_DATA, END_STREAM | NGHTTP2_FLAG_PADDED, 1, 16384);
    talk_bytes(&t, SERVER, "\4begin", 6);
    talk_gap(&t, SERVER, 16384 - 6); /* with the padding */
    talk_header(&t, CLIENT, NGHTTP2_PING, 0, 0, 8);
    talk_gap(&t, CLIENT, 8);
    talk_head(&t, CLIENT, END_STREAM, 3, GET("/file"));
    talk_head(&t, SERVER, END_STREAM, 3, ":status: 200\n");
    told(&t, "1 > GET https a.test /file []\n1 < 200 []\n1 = 200 0+16379 complete gap\n"
             "3 > GET https a.test /file []\n3 < 200 []\n3 = 200 0+0 complete\n");
}

static void test_gap_loses_responses(void **state)
{
    struct talk t = {0};

    talk_begin(&t);
    talk_head(&t, CLIENT, END_STREAM, 1, GET("/1"));
    talk_head(&t, CLIENT, 0, 3, GET("/3"));
    talk_head(&t, SERVER, 0, 1, ":status: 200\n");
    talk_header(&t, SERVER, NGHTTP2_DATA, 0, 1, 4);
    talk_gap(&t, SERVER, 5); /* one more than the body */
    talk_gap(&t, SERVER, 1000);
    talk_head(&t, SERVER, END_STREAM, 3, ":status: 200\n");
    talk_frame(&t, CLIENT, NGHTTP2_DATA, END_STREAM, 3, STR("data"));
    talk_head(&t, CLIENT, END_STREAM, 5, GET("/5"));
    told(&t, "1 > GET https a.test /1 []\n3 > GET https a.test /3 []\n1 < 200 []\n"
             "! lost\n"
             "1 = 200 0+4 gap\n"
             "3 = 0 4+0 gap\n"
             "5 > GET https a.test /5 []\n"
             "5 = 0 0+0 gap\n");
}

static void test_gap_loses_requests(void **state)
{
    struct talk t = {0};

    talk_begin(&t);
    talk_head(&t, CLIENT, END_STREAM, 1, GET("/1"));
    talk_head(&t, CLIENT, 0, 3, GET("/3"));
    talk_gap(&t, CLIENT, 100);
    talk_head(&t, CLIENT, END_STREAM, 5, GET("/5"));
    talk_head(&t, SERVER, END_STREAM, 7, ":status: 207\n");
    talk_head(&t, SERVER, END_STREAM, 9, "x: no status\n");
    talk_head(&t, SERVER, 0, 5, ":status: 205\n");
    talk_head(&t, SERVER, END_STREAM, 1, ":status: 201\n");
    talk_frame(&t, SERVER, NGHTTP2_DATA, 0, 5, STR("five"));
    talk_head(&t, SERVER, END_STREAM, 3, ":status: 203\n");
    talk_head(&t, SERVER, END_STREAM, 5, "grpc-status: 0\n");
    told(&t, "1 > GET https a.test /1 []\n3 > GET https a.test /3 []\n"
             "! lost\n"
             "7 < 207 [] unasked\n7 = 207 0+0 gap\n"
             "5 < 205 [] unasked\n"
             "1 < 201 []\n1 = 201 0+0 complete\n"
             "3 < 203 []\n3 = 203 0+0 gap\n"
             "0 t< [grpc-status: 0]\n5 = 205 0+4 grpc=0 gap\n");
}

static void test_joined(void **state)
{
    struct talk t = {.joined = true};

    talk_head(&t, CLIENT, END_STREAM, 101, GET("/"));
    talk_frame(&t, SERVER, NGHTTP2_SETTINGS, 0, 0, NULL, 0); /* these may come at any time */
    talk_head(&t, SERVER, END_STREAM, 101, ":status: 200\n");
    told(&t, "! joined\n");

    /* A beginning that can't be mistaken. */
    t.joined = true;
    talk_begin(&t);
    talk_head(&t, CLIENT, END_STREAM, 1, GET("/"));
    talk_head(&t, SERVER, END_STREAM, 1, ":status: 200\n");
    told(&t, "1 > GET https a.test / []\n1 < 200 []\n1 = 200 0+0 complete\n");

    t.joined = true;
    talk_gap(&t, SERVER, 3);
    talk_begin(&t);
    talk_head(&t, CLIENT, END_STREAM, 1, GET("/"));
    told(&t, "! joined\n1 > GET https a.test / []\n1 = 0 0+0 gap\n");
}

/* ---- what may not be ---- */

static void test_malformed_messages(void **state)
{
    struct talk t = {0};

    talk_begin(&t);
    talk_head(&t, CLIENT, END_STREAM, 1, "x: no method\n");
    talk_head(&t, SERVER, END_STREAM, 1, "x: no status\n");
    talk_head(&t, CLIENT, END_STREAM, 3, GET("/") "content-length: 5\ncontent-length: 6\na: b\1c\n:late: pseudo\n");
    talk_head(&t, SERVER, END_STREAM, 3, ":status: 20\n");
    talk_head(&t, CLIENT, END_STREAM, 5,
              GET("/") ":method: POST\ncontent-length: 99999999999999999999\na: b\rc\n"
                       "transfer-encoding: chunked\n");
    talk_head(&t, SERVER, END_STREAM, 5, ":status: 099\n");
    talk_head(&t, CLIENT, END_STREAM, 6, GET("/even"));
    talk_head(&t, SERVER, END_STREAM, 6, ":status: 200\n");
    talk_head(&t, SERVER, 0, 8, ":status: 200\n");
    talk_frame(&t, CLIENT, NGHTTP2_DATA, 0, 9, STR("idle"));
    talk_frame(&t, CLIENT, NGHTTP2_RST_STREAM, 0, 9, STR("idle"));
    promise(&t, 1, 7, GET("/odd"));
    talk_frame(&t, CLIENT, NGHTTP2_PUSH_PROMISE, NGHTTP2_FLAG_END_HEADERS, 9, STR("\0\0\0\10\202\204"));
    talk_head(&t, CLIENT, END_STREAM, 9, GET("/9"));
    talk_head(&t, CLIENT, END_STREAM, 9, "trailers: behind the end\n");
    talk_head(&t, CLIENT, END_STREAM, 7, GET("/7")); /* ids may only rise */
    talk_head(&t, SERVER, END_STREAM, 9, ":status: 200\n");
    talk_head(&t, SERVER, END_STREAM, 13, ":status: 200\n"); /* before its request */
    talk_head(&t, CLIENT, END_STREAM, 15, GET("/15"));
    talk_head(&t, CLIENT, END_STREAM, 13, GET("/13") ":status: 200\n");
    talk_frame(&t, CLIENT, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | END_STREAM, 17, STR("\202\204\0\1a\3b\0c"));
    told(&t, "1 > - - - - [x: no method]\n1 = 0 0+0\n"
             "3 > GET https a.test / [content-length: 5; content-length: 6; a: b\\1c] odd=1\n3 = 0 0+0\n"
             "5 > GET https a.test / [content-length: 99999999999999999999; a: b\\15c; transfer-encoding: chunked] "
             "odd=13\n5 = 0 0+0\n"
             "9 > GET https a.test /9 []\n9 < 200 []\n9 = 200 0+0 complete\n"
             "13 < 200 [] early\n15 > GET https a.test /15 []\n13 = 200 0+0\n"
             "17 > GET - - / [a: b\\0c] odd=64\n15 = 0 0+0\n17 = 0 0+0\n");
}

static void violates(uint8_t type, uint8_t flags, uint32_t id, const void *payload, size_t len)
{
    struct talk t = {0};

    talk_begin(&t);
    talk_head(&t, CLIENT, END_STREAM, 1, GET("/"));
    talk_frame(&t, SERVER, type, flags, id, payload, len);
    talk_head(&t, SERVER, END_STREAM, 1, ":status: 200\n");
    talk_head(&t, CLIENT, END_STREAM, 3, GET("/"));
    told(&t, "1 > GET https a.test / []\n! not http\n1 = 0 0+0\n");
}

static void test_violations(void **state)
{
    static const char zeros[32];

    violates(NGHTTP2_DATA, 0, 0, zeros, 1);
    violates(NGHTTP2_DATA, NGHTTP2_FLAG_PADDED, 1, zeros, 0);
    violates(NGHTTP2_DATA, NGHTTP2_FLAG_PADDED, 1, STR("\2a"));
    violates(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 0, STR("\210"));
    violates(NGHTTP2_HEADERS, NGHTTP2_FLAG_PRIORITY, 1, zeros, 4);
    violates(NGHTTP2_HEADERS, NGHTTP2_FLAG_PRIORITY | NGHTTP2_FLAG_PADDED, 1, STR("\1\0\0\0\0\0"));
    violates(NGHTTP2_RST_STREAM, 0, 0, zeros, 4);
    violates(NGHTTP2_RST_STREAM, 0, 1, zeros, 5);
    violates(NGHTTP2_SETTINGS, 0, 1, zeros, 6);
    violates(NGHTTP2_SETTINGS, 0, 0, zeros, 5);
    violates(NGHTTP2_SETTINGS, NGHTTP2_FLAG_ACK, 0, zeros, 6);
    violates(NGHTTP2_PUSH_PROMISE, 0, 1, zeros, 3);
    violates(NGHTTP2_PUSH_PROMISE, 0, 0, zeros, 4);
    violates(NGHTTP2_PING, 0, 0, zeros, 7);
    violates(NGHTTP2_PING, 0, 1, zeros, 8);
    violates(NGHTTP2_GOAWAY, 0, 0, zeros, 7);
    violates(NGHTTP2_GOAWAY, 0, 1, zeros, 8);
    violates(NGHTTP2_WINDOW_UPDATE, 0, 0, zeros, 3);
    violates(NGHTTP2_CONTINUATION, NGHTTP2_FLAG_END_HEADERS, 1, zeros, 1);
}

static void test_interrupted_block(void **state)
{
    static const struct {
        uint8_t type;
        uint32_t id;
    } next[] = {{NGHTTP2_CONTINUATION, 3}, {NGHTTP2_HEADERS, 1}, {NGHTTP2_PING, 0}, {0x99, 1}};

    for (size_t i = 0; i < sizeof(next) / sizeof(*next); i++) {
        struct talk t = {0};

        talk_begin(&t);
        talk_frame(&t, CLIENT, NGHTTP2_HEADERS, END_STREAM, 1, STR("\202"));
        talk_frame(&t, CLIENT, next[i].type, 0, next[i].id, STR("\206\0\0\0\0\0\0\0"));
        told(&t, "! not http\n");
    }
}

static void test_not_http2(void **state)
{
    static const char *const others[] = {"GET / HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\rX",
                                         "POST / HTTP/1.1\r\n", "\x16\3\1 TLS", "SSH-2.0-x\r\n"};

    for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++) {
        struct talk t = {0};

        talk_bytes(&t, CLIENT, others[i], strlen(others[i]));
        told(&t, "! not http\n");
    }
    /* Two clients, two servers. */
    for (int i = 0; i < 2; i++) {
        struct talk t = {0};

        for (int dir = 0; dir < PROTO_DIRS; dir++) {
            if (i)
                talk_bytes(&t, (enum proto_dir)dir, TALK_PREFACE, strlen(TALK_PREFACE));
            else
                talk_frame(&t, (enum proto_dir)dir, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
        }
        told(&t, "! not http\n");
    }
}

static void test_frame_lengths(void **state)
{
    static const uint8_t big[] = {0, 5, 0, 0xff, 0xff, 0xff}, small[] = {0, 5, 0, 0, 0x40, 0};
    const size_t huge = 0xffffff;

    for (int announced = 0; announced < 2; announced++) {
        struct talk t = {0};

        talk_begin(&t);
        if (announced) {
            talk_frame(&t, CLIENT, NGHTTP2_SETTINGS, 0, 0, big, sizeof(big));
            talk_frame(&t, CLIENT, NGHTTP2_SETTINGS, 0, 0, small, sizeof(small)); /* not in force yet */
        }
        talk_head(&t, CLIENT, END_STREAM, 1, GET("/"));
        talk_head(&t, SERVER, 0, 1, ":status: 200\n");
        talk_header(&t, SERVER, NGHTTP2_DATA, END_STREAM, 1, huge);
        talk_gap(&t, SERVER, huge);
        {
            struct teller teller = {.no_bodies = true};

            talk_run(&t, (struct feeding){0}, &teller);
            assert_string_equal(buf_cstr(&teller.log),
                                announced ? "1 > GET https a.test / []\n1 < 200 []\n1 = 200 0+16777215 complete gap\n"
                                          : "1 > GET https a.test / []\n1 < 200 []\n! not http\n1 = 200 0+0\n");
            teller_free(&teller);
        }
        talk_free(&t);
    }
}

/* ---- header compression ---- */

/* A size update is the encoder's word; beyond our bound, or in the wrong place, the table is lost. */
static void test_table_sizes(void **state)
{
    struct talk t = {0};
    struct buf b;

    talk_begin(&t);
    talk_frame(&t, SERVER, NGHTTP2_SETTINGS, 0, 0, STR("\0\1\0\1\0\0"));
    b = talk_block(&t, CLIENT, GET("/") "a: kept\n");
    talk_frame(&t, CLIENT, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | END_STREAM, 1, b.p, b.len);
    buf_free(&b);
    for (uint32_t size = 65536, id = 3; size; size = size == 65536 ? 64 : size == 64 ? 4096 : 0, id += 2) {
        nghttp2_hd_deflate_change_table_size(t.deflater[CLIENT], size);
        talk_head(&t, CLIENT, END_STREAM, id, GET("/") "a: kept\nb: new\n");
    }
    nghttp2_hd_deflate_change_table_size(t.deflater[CLIENT], 0);
    nghttp2_hd_deflate_change_table_size(t.deflater[CLIENT], 65536);
    talk_head(&t, CLIENT, END_STREAM, 11, GET("/") "a: kept\nb: new\n");
    talk_frame(&t, CLIENT, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 13, STR("\77\342\377\3")); /* 65,537 */
    talk_head(&t, CLIENT, END_STREAM, 15, GET("/"));
    talk_end(&t, SERVER);
    told(&t, "1 > GET https a.test / [a: kept]\n"
             "3 > GET https a.test / [a: kept; b: new]\n"
             "5 > GET https a.test / [a: kept; b: new]\n"
             "7 > GET https a.test / [a: kept; b: new]\n"
             "11 > GET https a.test / [a: kept; b: new]\n"
             "! lost\n"
             "1 = 0 0+0\n3 = 0 0+0\n5 = 0 0+0\n7 = 0 0+0\n11 = 0 0+0\n");
}

/* What goes beyond the limits isn't told, but the table stays in step. */
static void test_cut_heads(void **state)
{
    struct talk t = {0};
    struct teller teller = {0};
    struct buf text = BUF_INIT;

    talk_begin(&t);
    /* More fields than are taken. */
    buf_str(&text, GET("/many"));
    for (unsigned i = 0; i < 280; i++)
        buf_printf(&text, "f%u: v\n", i);
    buf_str(&text, "last: one\n");
    talk_head(&t, CLIENT, END_STREAM, 1, buf_cstr(&text));
    talk_head(&t, CLIENT, END_STREAM, 3, GET("/") "last: one\n");
    /* More bytes: 40 fields of 2,000. */
    buf_reset(&text);
    buf_str(&text, GET("/long"));
    for (unsigned i = 0; i < 40; i++)
        buf_printf(&text, "g%u: %02000u\n", i, i);
    buf_str(&text, "last: two\n");
    talk_head(&t, CLIENT, END_STREAM, 5, buf_cstr(&text));
    talk_head(&t, CLIENT, END_STREAM, 7, GET("/") "last: two\n");
    buf_free(&text);
    /* A block that is too long itself: 65,600 updates of the table's size, then a method. */
    for (int i = 0; i < 41; i++) {
        uint8_t updates[1601];

        memset(updates, 0x20, sizeof(updates));
        updates[1600] = 0x82;
        talk_frame(&t, CLIENT, i ? NGHTTP2_CONTINUATION : NGHTTP2_HEADERS, i < 40 ? 0 : NGHTTP2_FLAG_END_HEADERS, 9,
                   updates, i < 40 ? 1600 : 1601);
    }

    talk_run(&t, (struct feeding){0}, &teller);
    assert_non_null(strstr(buf_cstr(&teller.log), "9 > - - - - [] cut\n"));
    assert_non_null(strstr(buf_cstr(&teller.log), "1 > GET https a.test /many [f0: v;"));
    assert_non_null(strstr(teller.log.p, "; f255: v] cut\n"));
    assert_null(strstr(teller.log.p, "f256"));
    assert_non_null(strstr(teller.log.p, "3 > GET https a.test / [last: one]\n"));
    assert_non_null(strstr(teller.log.p, "; g31: <2000:"));
    assert_null(strstr(teller.log.p, "; g33:"));
    assert_null(strstr(teller.log.p, "last: two] cut\n")); /* although it would find room */
    assert_non_null(strstr(teller.log.p, "7 > GET https a.test / [last: two]\n"));
    same_always(&t, teller.log.p, 499);
    teller_free(&teller);
    talk_free(&t);
}

/* One field of 65,536 bytes can be had, a longer one can't: libnghttp2 gives up. */
static void test_huge_field(void **state)
{
    for (size_t len = 65535; len <= 65537; len += 2) {
        struct talk t = {0};
        struct teller teller = {0};
        struct buf text = BUF_INIT;

        talk_begin(&t);
        buf_str(&text, ":method: GET\n:path: /\n!x: ");
        memset(buf_room(&text, len), 0xfe, len); /* its Huffman code is longer, so that it is sent as it is */
        text.len += len;
        buf_char(&text, '\n');
        talk_head(&t, CLIENT, END_STREAM, 1, buf_cstr(&text));
        talk_head(&t, CLIENT, END_STREAM, 3, GET("/"));
        buf_free(&text);
        talk_run(&t, (struct feeding){0}, &teller);
        assert_string_equal(buf_cstr(&teller.log), len < 65536 ? "1 > GET - - / [] cut\n3 > GET https a.test / []\n"
                                                                 "1 = 0 0+0 0+0\n3 = 0 0+0 0+0\n"
                                                               : "! lost\n");
        same_always(&t, teller.log.p, 4999);
        teller_free(&teller);
        talk_free(&t);
    }
}

/* ---- floods ---- */

static double cpu_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static uint64_t counted[4]; /* by the sink below */

/* What malloc has given out; 0 with sanitizers. */
static size_t allocated(void)
{
    return mallinfo2().uordblks;
}

/* Pieces from..to-1 of a talk that is repeated. */
static void feed_pieces(struct http2 *h, const struct talk *t, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        size_t at = i % t->count;

        http2_feed(h, t->pieces[at].dir, (uint8_t *)t->bytes.p + t->pieces[at].at, t->pieces[at].len, 0);
    }
}

/* Feeds it times-fold after a beginning; what the decoder holds must stay below `limit`. Whether the second half takes
 * about as long as the first: it takes three times as long if each piece costs more the more came before it. */
static bool flood_is_linear(const struct talk *t, const struct http_sink *sink, int times, size_t limit)
{
    size_t before = allocated(), pieces = t->count * (size_t)times;
    struct http2 *h = http2_new(sink, NULL, false);
    double begun, half, whole;
    struct talk opening = {0};

    talk_begin(&opening);
    for (size_t i = 0; i < opening.count; i++)
        http2_feed(h, opening.pieces[i].dir, (uint8_t *)opening.bytes.p + opening.pieces[i].at, opening.pieces[i].len,
                   0);
    talk_free(&opening);
    begun = cpu_seconds();
    feed_pieces(h, t, 0, pieces / 2);
    half = cpu_seconds() - begun;
    feed_pieces(h, t, pieces / 2, pieces);
    whole = cpu_seconds() - begun;
    if (allocated() > before)
        assert_in_range(allocated() - before, 0, limit);
    http2_free(h, 0);
    return pieces < 2 || whole - half < 2 * half + 0.005;
}

/* What others do on the machine may slow down one half, but not the same one each time. */
static void flood(const struct talk *t, const struct http_sink *sink, int times, size_t limit)
{
    uint64_t start[4], once[4];
    bool linear;

    memcpy(start, counted, sizeof(start));
    linear = flood_is_linear(t, sink, times, limit);
    memcpy(once, counted, sizeof(once));
    for (int i = 0; !linear && i < 10; i++) {
        memcpy(counted, start, sizeof(counted));
        linear = flood_is_linear(t, sink, times, limit);
    }
    memcpy(counted, once, sizeof(counted));
    assert_true(linear);
}

static void *count_request(void *owner, const struct http_head *head, void *early)
{
    (void)early;
    counted[0]++;
    counted[3] += head->cut;
    return NULL;
}

static void count_done(void *owner, void *kept, const struct http_totals *totals)
{
    counted[1]++;
}

static void count_note(void *owner, enum http_note what, uint64_t count)
{
    counted[2] += what == HTTP_NOTE_UNMATCHED ? count : UINT64_C(1) << 32;
}

static const struct http_sink counting = {.request = count_request, .done = count_done, .note = count_note};

/* Rapid reset (CVE-2023-44487), and requests that are never answered. */
static void test_many_streams(void **state)
{
    const uint32_t requests = 100000;

    for (int reset = 0; reset < 2; reset++) {
        struct talk t = {0};

        for (uint32_t id = 1; id < 2 * requests; id += 2) {
            talk_frame(&t, CLIENT, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | END_STREAM, id, "\202\204\207", 3);
            if (reset)
                talk_frame(&t, CLIENT, NGHTTP2_RST_STREAM, 0, id, "\0\0\0\10", 4);
        }
        memset(counted, 0, sizeof(counted));
        flood(&t, &counting, 1, 300000);
        assert_int_equal(counted[0], requests);
        assert_int_equal(counted[1], requests);
        assert_int_equal(counted[2], reset ? 0 : requests - HTTP2_STREAMS_MAX);
        talk_free(&t);
    }
}

/* Of 1,025 the last is forgotten at once; all others find their responses, in whatever order. */
static void test_streams_bound(void **state)
{
    struct talk t = {0};
    struct teller teller = {0};

    talk_begin(&t);
    for (uint32_t i = 0; i <= HTTP2_STREAMS_MAX; i++)
        talk_head(&t, CLIENT, END_STREAM, 2 * i + 1, GET("/"));
    for (uint32_t i = 0; i <= HTTP2_STREAMS_MAX; i++)
        talk_head(&t, SERVER, END_STREAM, 2 * (i * 7 % (HTTP2_STREAMS_MAX + 1)) + 1, ":status: 200\n");
    talk_run(&t, (struct feeding){0}, &teller);
    assert_non_null(
        strstr(buf_cstr(&teller.log), "2049 > GET https a.test / []\n! unmatched\n2049 = 0 0+0 0+0\n1 < 200"));
    for (uint32_t i = 0; i < HTTP2_STREAMS_MAX; i++) {
        char line[64];

        snprintf(line, sizeof(line), "\n%u = 200 0+0 0+0 complete\n", 2 * i + 1);
        assert_non_null(strstr(teller.log.p, line));
    }
    teller_free(&teller);
    assert_int_equal(teller.wrong, 0);
    talk_free(&t);
}

static void test_floods(void **state)
{
    struct talk t = {0};
    char *bomb = xmalloc(100000);
    static const char settings[16380];

    memset(counted, 0, sizeof(counted));
    /* CONTINUATION without end: of nothing, and of literal fields. */
    talk_frame(&t, CLIENT, NGHTTP2_HEADERS, 0, 1, NULL, 0);
    flood(&t, &counting, 1, 100000);
    talk_free(&t);
    for (int empty = 0; empty < 2; empty++) {
        size_t before = allocated();
        struct http2 *h = http2_new(&counting, NULL, false);

        talk_begin(&t);
        talk_frame(&t, CLIENT, NGHTTP2_HEADERS, 0, 1, NULL, 0);
        for (int i = 0; i < 200000; i++)
            talk_frame(&t, CLIENT, NGHTTP2_CONTINUATION, 0, 1, "\0\3abc\3def", empty ? 0 : 9);
        for (size_t i = 0; i < t.count; i++)
            http2_feed(h, t.pieces[i].dir, (uint8_t *)t.bytes.p + t.pieces[i].at, t.pieces[i].len, 0);
        if (allocated() > before)
            assert_in_range(allocated() - before, 0, t.bytes.cap + 200000);
        http2_free(h, 0);
        talk_free(&t);
    }

    /* HPACK bomb: an entry of 4,000 bytes, then references to it of 1 byte each. */
    {
        size_t n = 0;

        bomb[n++] = 0x40;
        bomb[n++] = 1;
        bomb[n++] = 'x';
        bomb[n++] = 0x7f; /* 127 + 3,873 */
        bomb[n++] = (char)(0x80 | (3873 & 0x7f));
        bomb[n++] = 3873 >> 7;
        memset(bomb + n, 'y', 4000);
        n += 4000;
        memset(bomb + n, 0xbe, 90000); /* index 62 */
        n += 90000;
        talk_frame(&t, CLIENT, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | END_STREAM, 1, bomb, n);
        flood(&t, &counting, 1, 100000);
        assert_int_equal(counted[0], 1);
        assert_int_equal(counted[3], 1);
        flood(&t, &counting, 200, 100000);
        talk_free(&t);
    }

    talk_frame(&t, CLIENT, NGHTTP2_SETTINGS, 0, 0, settings, sizeof(settings));
    flood(&t, &counting, 500, 20000);
    talk_free(&t);
    talk_frame(&t, SERVER, NGHTTP2_PING, 0, 0, settings, 8);
    talk_frame(&t, SERVER, NGHTTP2_GOAWAY, 0, 0, settings, 8);
    talk_frame(&t, CLIENT, NGHTTP2_DATA, 0, 1, NULL, 0);
    flood(&t, &counting, 100000, 20000);
    talk_free(&t);
    free(bomb);
}

/* What http2.h promises of an idle connection. */
static void test_memory(void **state)
{
    size_t before = allocated(), fresh, idle;
    struct http2 *h = http2_new(&counting, NULL, false);
    struct talk t = {0};

    talk_begin(&t);
    before += allocated() - before; /* all that is not the decoder's */
    http2_free(h, 0);
    talk_free(&t);

    before = allocated();
    h = http2_new(&counting, NULL, false);
    fresh = allocated() - before;
    for (uint32_t id = 1; id < 2048; id += 2) {
        const uint8_t head[] = {0, 0, 3, NGHTTP2_HEADERS, 5, 0, 0, (uint8_t)(id >> 8), (uint8_t)id, 0x82, 0x84, 0x87};

        if (id == 1)
            http2_feed(h, CLIENT, (const uint8_t *)TALK_PREFACE, strlen(TALK_PREFACE), 0);
        http2_feed(h, CLIENT, head, sizeof(head), 0);
    }
    http2_feed(h, SERVER, (const uint8_t *)"\0\0\0\4\0\0\0\0\0", 9, 0);
    for (uint32_t id = 1; id < 2048; id += 2) {
        const uint8_t head[] = {0, 0, 1, NGHTTP2_HEADERS, 5, 0, 0, (uint8_t)(id >> 8), (uint8_t)id, 0x88};

        http2_feed(h, SERVER, head, sizeof(head), 0);
    }
    idle = allocated() - before;
    http2_free(h, 0);
    assert_in_range(fresh, 0, 1024);
    assert_in_range(idle, 0, 1024 + 2 * 2048);
    assert_int_equal(allocated(), before);
}

/* ---- detection and skipping ---- */

static void test_detect(void **state)
{
    const char *p = TALK_PREFACE;

    for (size_t n = 0; n < strlen(p); n++)
        assert_int_equal(http2_detect((const uint8_t *)p, n), -1);
    assert_int_equal(http2_detect((const uint8_t *)p, strlen(p)), 1);
    assert_int_equal(http2_detect((const uint8_t *)"PRI * HTTP/1", 12), 0);
    assert_int_equal(http2_detect((const uint8_t *)"POST", 4), 0);
    assert_int_equal(http2_detect((const uint8_t *)"GET ", 4), 0);
    assert_int_equal(http2_detect((const uint8_t *)"\0\0\22\4\0\0\0\0\0\0\3", 11), 1);
    assert_int_equal(http2_detect((const uint8_t *)"\0\0\0\4\0\0\0\0\0", 9), 1);
    assert_int_equal(http2_detect((const uint8_t *)"\0\0\22\4\0\0\0\0\0", 8), -1);
    assert_int_equal(http2_detect((const uint8_t *)"\0\0\0\4\1\0\0\0\0", 9), 0); /* an acknowledgement */
    assert_int_equal(http2_detect((const uint8_t *)"\0\0\7\4\0\0\0\0\0", 9), 0);
    assert_int_equal(http2_detect((const uint8_t *)"\0\0\22\4\0\0\0\0\1", 9), 0);
    assert_int_equal(http2_detect((const uint8_t *)"\0\0\22\1", 4), 0);
    assert_int_equal(http2_detect((const uint8_t *)"\1", 1), 0);
}

static void test_skip(void **state)
{
    for (int body = 0; body < 2; body++) {
        struct teller teller = {0};
        struct http_sink sink = tell_sink_without_body;
        struct http2 *h = http2_new(&sink, &teller, false);
        struct talk t = {0};

        talk_begin(&t);
        talk_head(&t, CLIENT, END_STREAM, 1, GET("/"));
        talk_head(&t, SERVER, 0, 1, ":status: 200\n");
        for (size_t i = 0; i < t.count; i++) {
            http2_feed(h, t.pieces[i].dir, (uint8_t *)t.bytes.p + t.pieces[i].at, t.pieces[i].len, 0);
            assert_int_equal(http2_skip(h, CLIENT), 0);
            assert_int_equal(http2_skip(h, SERVER), 0);
        }
        sink.body = body ? tell_body : NULL; /* as an owner may do that has seen the heads */
        http2_feed(h, SERVER, (const uint8_t *)"\0\1\0\0\10\0\0\0\1", 9, 0);
        assert_int_equal(http2_skip(h, SERVER), 0);
        http2_feed(h, SERVER, (const uint8_t *)"\6x", 2, 0); /* 6 of padding */
        assert_int_equal(http2_skip(h, SERVER), body ? 0 : 254);
        assert_int_equal(http2_skip(h, CLIENT), 0);
        http2_feed(h, SERVER, NULL, 248, 0);
        assert_int_equal(http2_skip(h, SERVER), 6);
        http2_feed(h, SERVER, NULL, 6, 0);
        assert_int_equal(http2_skip(h, SERVER), 0);
        http2_feed(h, SERVER, NULL, 1, 0);
        assert_int_equal(http2_skip(h, SERVER), UINT64_MAX);
        http2_end(h, SERVER, 0);
        http2_end(h, CLIENT, 0);
        assert_int_equal(http2_skip(h, CLIENT), UINT64_MAX);
        http2_free(h, 0);
        teller_free(&teller);
        talk_free(&t);
    }
    http2_free(NULL, 0);
}

/* A sink that wants nothing. */
static void test_empty_sink(void **state)
{
    static const struct http_sink nothing;
    struct peers p;

    peers_talk(&p, 5, 12);
    for (size_t i = 0; i < 2; i++) {
        struct http2 *h = http2_new(&nothing, NULL, i);

        for (size_t j = 0; j < p.talk.count; j++)
            http2_feed(h, p.talk.pieces[j].dir, (uint8_t *)p.talk.bytes.p + p.talk.pieces[j].at, p.talk.pieces[j].len,
                       0);
        http2_feed(h, CLIENT, NULL, 10, 0);
        http2_free(h, 0);
    }
    peers_free(&p);
}

/* ---- libnghttp2 as client and server ---- */

static void compare_peers(struct peers *p)
{
    struct facts facts = {0};
    struct http2 *h = http2_new(&facts_sink, &facts, false);

    for (size_t i = 0; i < p->talk.count; i++)
        http2_feed(h, p->talk.pieces[i].dir, (uint8_t *)p->talk.bytes.p + p->talk.pieces[i].at, p->talk.pieces[i].len,
                   0);
    http2_free(h, 0);
    assert_int_equal(facts.notes, 0);
    for (uint32_t id = 0; id < PEERS_STREAMS; id++) {
        const struct fact *a = &facts.of[id], *b = &p->truth.of[id];

        assert_int_equal(a->requests, b->requests);
        assert_int_equal(a->pushed, b->pushed);
        assert_int_equal(a->request, b->request);
        assert_int_equal(a->interim, b->interim);
        assert_int_equal(a->status, b->status);
        assert_int_equal(a->response, b->response);
        assert_int_equal(a->trailers[0], b->trailers[0]);
        assert_int_equal(a->trailers[1], b->trailers[1]);
        assert_int_equal(a->body[0], b->body[0]);
        assert_int_equal(a->body[1], b->body[1]);
        assert_int_equal(a->hash[0], b->hash[0]);
        assert_int_equal(a->hash[1], b->hash[1]);
        assert_int_equal(a->done, b->requests);
        assert_int_equal(a->complete, b->complete);
    }
}

static void test_peers(void **state)
{
    unsigned requests = 0, pushes = 0, complete = 0, trailers = 0, interim = 0;

    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct peers p;

        peers_talk(&p, seed, 40);
        compare_peers(&p);
        for (uint32_t id = 0; id < PEERS_STREAMS; id++) {
            requests += p.truth.of[id].requests;
            pushes += p.truth.of[id].pushed;
            complete += p.truth.of[id].complete;
            trailers += p.truth.of[id].trailers[1] != 0;
            interim += p.truth.of[id].interim;
        }
        peers_free(&p);
    }
    /* There was something to compare. */
    assert_true(requests > 5000 && pushes > 300 && complete > requests / 2 && trailers > 300 && interim > 300);
}

/* Small ones, as seeds. */
static void test_peers_small(void **state)
{
    for (uint64_t seed = 1; seed < 60; seed++) {
        struct peers p;

        peers_talk(&p, seed, 2 + seed % 5);
        compare_peers(&p);
        if (seed_directory && p.talk.bytes.len < 8000)
            seed_write(&p.talk);
        peers_free(&p);
    }
}

static void test_peers_cut(void **state)
{
    for (uint64_t seed = 1000; seed < 1012; seed++) {
        struct teller t = {0};
        struct peers p;

        peers_talk(&p, seed, seed % 2 ? 4 : 30);
        talk_run(&p.talk, (struct feeding){0}, &t);
        same_always(&p.talk, buf_cstr(&t.log), 1 + p.talk.bytes.len / 300);
        teller_free(&t);
        peers_free(&p);
    }
}

/* Small ones at every single position. */
static void test_peers_cut_everywhere(void **state)
{
    for (uint64_t seed = 2000, found = 0; found < 3; seed++) {
        struct teller t = {0};
        struct peers p;

        peers_talk(&p, seed, 3);
        if (p.talk.bytes.len < 6000) {
            found++;
            talk_run(&p.talk, (struct feeding){0}, &t);
            same_always(&p.talk, buf_cstr(&t.log), 1);
        }
        teller_free(&t);
        peers_free(&p);
    }
}

/* Bits turned round in what peers really sent: whatever comes of it, it is the same for all pieces. */
static void test_damaged(void **state)
{
    uint64_t seed = 4711;

    for (int i = 0; i < 400; i++) {
        struct teller t = {0};
        struct peers p;

        peers_talk(&p, 3000 + (uint64_t)(i % 20), 6);
        for (int n = 0; n < 4; n++)
            p.talk.bytes.p[next_random(&seed) % p.talk.bytes.len] ^= (char)(1 << next_random(&seed) % 8);
        talk_run(&p.talk, (struct feeding){0}, &t);
        buf_cstr(&t.log);
        same(&p.talk, t.log.p, (struct feeding){.by_byte = true}, (struct teller){0});
        same(&p.talk, t.log.p, (struct feeding){.random = true, .seed = seed}, (struct teller){0});
        same(&p.talk, t.log.p, (struct feeding){.mirrored = true, .random = true, .seed = seed}, (struct teller){0});
        teller_free(&t);
        assert_int_equal(t.wrong, 0);
        peers_free(&p);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_interim_and_trailers),
        cmocka_unit_test(test_trailers_only),
        cmocka_unit_test(test_padding_priority_continuation),
        cmocka_unit_test(test_other_frames_are_passed_over),
        cmocka_unit_test(test_push),
        cmocka_unit_test(test_resets_and_goaway),
        cmocka_unit_test(test_early_response),
        cmocka_unit_test(test_connect),
        cmocka_unit_test(test_upgraded),
        cmocka_unit_test(test_order_of_directions),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_gap_in_a_body),
        cmocka_unit_test(test_gap_loses_responses),
        cmocka_unit_test(test_gap_loses_requests),
        cmocka_unit_test(test_joined),
        cmocka_unit_test(test_malformed_messages),
        cmocka_unit_test(test_violations),
        cmocka_unit_test(test_interrupted_block),
        cmocka_unit_test(test_not_http2),
        cmocka_unit_test(test_frame_lengths),
        cmocka_unit_test(test_table_sizes),
        cmocka_unit_test(test_cut_heads),
        cmocka_unit_test(test_huge_field),
        cmocka_unit_test(test_many_streams),
        cmocka_unit_test(test_streams_bound),
        cmocka_unit_test(test_floods),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_detect),
        cmocka_unit_test(test_skip),
        cmocka_unit_test(test_empty_sink),
        cmocka_unit_test(test_peers),
        cmocka_unit_test(test_peers_small),
        cmocka_unit_test(test_peers_cut),
        cmocka_unit_test(test_peers_cut_everywhere),
        cmocka_unit_test(test_damaged),
    };

    if (argc == 3 && !strcmp(argv[1], "--seeds"))
        seed_directory = argv[2];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
