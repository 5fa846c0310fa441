/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many heads and bytes a second one core decodes.
 *
 *   protocol_rate [SECONDS [NAME]]     default: 1 second for each row, all rows
 *
 * Prints a line "NAME: N UNIT" for each row. A row is a piece of traffic that is
 * fed again and again to one decoder, which `begin` makes and `end` frees;
 * `once` feeds it, both directions, and returns how many units that were.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../tests/unit/http2_talk.h"
#include "protocol/dns.h"
#include "protocol/http1.h"

#define TEXT(s) s, sizeof(s) - 1

/* What curl, wrk and a browser send, and what nginx and a web application answer. */
static const char curl_request[] = "GET /index.html HTTP/1.1\r\nHost: www.example.org\r\nUser-Agent: curl/7.88.1\r\n"
                                   "Accept: */*\r\n\r\n";
static const char wrk_request[] = "GET /index.html HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";
static const char browser_request[] =
    "GET /account/orders?page=2&sort=date HTTP/1.1\r\nHost: shop.example.org\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
    "Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\n"
    "Referer: https://shop.example.org/account/\r\nConnection: keep-alive\r\n"
    "Cookie: session=6f1c0a9e5d7b4f2f8a1e3c5d7f9b1d3e; theme=dark; consent=all; cart=8412\r\n"
    "Upgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\n"
    "Sec-Fetch-Site: same-origin\r\n\r\n";
static const char nginx_response[] =
    "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Tue, 14 Nov 2023 22:13:20 GMT\r\n"
    "Content-Type: text/html\r\nContent-Length: 10\r\n"
    "Last-Modified: Tue, 14 Nov 2023 10:00:00 GMT\r\nConnection: keep-alive\r\n"
    "ETag: \"6553445f-267\"\r\nAccept-Ranges: bytes\r\n\r\n0123456789";

#define BLOCK 65536u

struct bench {
    union {
        struct http1 *http1;
        struct dns *dns;
    } decoder;
    struct talk talk;
    uint64_t now;
    uint64_t begun, complete; /* exchanges: proof that they were understood */
    uint8_t block[BLOCK];
};

static void *count_request(void *owner, const struct http_head *head, void *early)
{
    ((struct bench *)owner)->begun++;
    return NULL;
}

static void count_done(void *owner, void *kept, const struct http_totals *totals)
{
    ((struct bench *)owner)->complete += totals->complete;
}

static const struct http_sink http_counts = {.request = count_request, .done = count_done};

static void http1_begin(struct bench *b)
{
    b->decoder.http1 = http1_new(&http_counts, b, false);
}

static void http1_finish(struct bench *b)
{
    http1_free(b->decoder.http1, b->now);
}

static void http1_bytes(struct bench *b, enum proto_dir dir, const void *bytes, size_t len)
{
    http1_feed(b->decoder.http1, dir, bytes, len, b->now += 1000);
}

static double http1_curl(struct bench *b)
{
    http1_bytes(b, PROTO_RX, TEXT(curl_request));
    http1_bytes(b, PROTO_TX, TEXT(nginx_response));
    return 1;
}

static double http1_wrk(struct bench *b)
{
    http1_bytes(b, PROTO_RX, TEXT(wrk_request));
    http1_bytes(b, PROTO_TX, TEXT(nginx_response));
    return 1;
}

static double http1_browser(struct bench *b)
{
    http1_bytes(b, PROTO_RX, TEXT(browser_request));
    http1_bytes(b, PROTO_TX, TEXT(nginx_response));
    return 1;
}

/* The same in the pieces of 100 bytes that a slow peer makes. */
static double http1_pieces(struct bench *b)
{
    for (size_t at = 0, left = sizeof(browser_request) - 1; left;) {
        size_t n = left < 100 ? left : 100;

        http1_bytes(b, PROTO_RX, browser_request + at, n);
        at += n;
        left -= n;
    }
    http1_bytes(b, PROTO_TX, TEXT(nginx_response));
    return 1;
}

/* 16 MiB by length, in blocks as they are read and written; GB. */
static double http1_body(struct bench *b)
{
    http1_bytes(b, PROTO_RX, TEXT(wrk_request));
    http1_bytes(b, PROTO_TX, TEXT("HTTP/1.1 200 OK\r\nContent-Length: 16777216\r\n\r\n"));
    for (int i = 0; i < 256; i++)
        http1_bytes(b, PROTO_TX, b->block, BLOCK);
    return 256.0 * BLOCK / 1e9;
}

/* 16 MiB in chunks of 8 KiB; GB. */
static double http1_chunks(struct bench *b)
{
    static const char size[] = "2000\r\n", end[] = {'\r', '\n'};

    http1_bytes(b, PROTO_RX, TEXT(wrk_request));
    http1_bytes(b, PROTO_TX, TEXT("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"));
    memcpy(b->block, size, sizeof(size) - 1);
    memcpy(b->block + sizeof(size) - 1 + 8192, end, sizeof(end));
    for (int i = 0; i < 2048; i++)
        http1_bytes(b, PROTO_TX, b->block, sizeof(size) - 1 + 8192 + 2);
    http1_bytes(b, PROTO_TX, TEXT("0\r\n\r\n"));
    return 2048.0 * 8192 / 1e9;
}

/* A connection of a browser: requests and responses whose fields are mostly in the tables, some new in each. */
#define HTTP2_EXCHANGES 1000u

static void http2_begin(struct bench *b)
{
    char text[2048];

    talk_begin(&b->talk);
    for (uint32_t i = 0; i < HTTP2_EXCHANGES; i++) {
        snprintf(text, sizeof(text),
                 ":method: GET\n:authority: www.example.com\n:scheme: https\n:path: /static/img/%u.png?v=%u\n"
                 "sec-ch-ua: \"Chromium\";v=\"118\", \"Not=A?Brand\";v=\"99\"\nsec-ch-ua-mobile: ?0\n"
                 "user-agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
                 "Chrome/118.0.0.0 Safari/537.36\naccept: image/avif,image/webp,image/apng,image/*,*/*;q=0.8\n"
                 "sec-fetch-site: same-origin\nsec-fetch-mode: no-cors\nsec-fetch-dest: image\n"
                 "referer: https://www.example.com/gallery/index.html\naccept-encoding: gzip, deflate, br\n"
                 "accept-language: en-US,en;q=0.9,de;q=0.8\ncookie: session=0123456789abcdef0123456789abcdef\n",
                 i * 7, i);
        talk_head(&b->talk, CLIENT, NGHTTP2_FLAG_END_STREAM, 2 * i + 1, text);
        snprintf(text, sizeof(text),
                 ":status: 200\nserver: nginx\ndate: Tue, 14 Nov 2023 22:%02u:%02u GMT\ncontent-type: image/png\n"
                 "content-length: %u\netag: \"65537a2c-%x\"\ncache-control: max-age=86400\n",
                 i / 60 % 60, i % 60, i * 13, i * 13);
        talk_head(&b->talk, SERVER, NGHTTP2_FLAG_END_STREAM, 2 * i + 1, text);
    }
}

static void http2_begin_body(struct bench *b)
{
    talk_begin(&b->talk);
    talk_head(&b->talk, CLIENT, NGHTTP2_FLAG_END_STREAM, 1, ":method: GET\n:path: /\n");
    talk_head(&b->talk, SERVER, 0, 1, ":status: 200\n");
}

static void http2_finish(struct bench *b)
{
    talk_free(&b->talk);
}

static struct http2 *http2_talked(struct bench *b)
{
    struct http2 *h = http2_new(&http_counts, b, false);

    for (size_t i = 0; i < b->talk.count; i++)
        http2_feed(h, b->talk.pieces[i].dir, (const uint8_t *)b->talk.bytes.p + b->talk.pieces[i].at,
                   b->talk.pieces[i].len, b->now += 1000);
    return h;
}

static double http2_heads(struct bench *b)
{
    http2_free(http2_talked(b), b->now);
    return HTTP2_EXCHANGES;
}

/* 16 MiB in frames of 16 KiB; GB. */
static double http2_body(struct bench *b)
{
    static const uint8_t frame[9 + 16384] = {0, 16384 >> 8, 0, NGHTTP2_DATA, 0, 0, 0, 0, 1};
    static const uint8_t last[9] = {0, 0, 0, NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, 0, 0, 0, 1};
    struct http2 *h = http2_talked(b);

    for (int i = 0; i < 1024; i++)
        http2_feed(h, SERVER, frame, sizeof(frame), b->now += 1000);
    http2_feed(h, SERVER, last, sizeof(last), b->now);
    http2_free(h, b->now);
    return 1024.0 * 16384 / 1e9;
}

/* What resolvers ask and are answered: www.example.org, an alias, and two addresses of what it stands for. */
static uint8_t dns_query[] = "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07"
                             "example\x03org\x00\x00\x01\x00\x01";
static uint8_t dns_answer[] = "\x12\x34\x81\x80\x00\x01\x00\x03\x00\x00\x00\x00\x03www\x07"
                              "example\x03org\x00\x00\x01\x00\x01"
                              "\xc0\x0c\x00\x05\x00\x01\x00\x00\x01\x2c\x00\x06\x03web\xc0\x10"
                              "\xc0\x2d\x00\x01\x00\x01\x00\x00\x01\x2c\x00\x04\xc0\x00\x02\x01"
                              "\xc0\x2d\x00\x01\x00\x01\x00\x00\x01\x2c\x00\x04\xc0\x00\x02\x02";

static void *count_query(void *owner, const struct dns_message *m, const struct dns_transit *t)
{
    ((struct bench *)owner)->begun++;
    return NULL;
}

static void count_answer(void *owner, const struct dns_message *m, const struct dns_transit *t,
                         const struct dns_exchange *exchange)
{
    ((struct bench *)owner)->complete += exchange != NULL;
}

static void count_unanswered(void *owner, const struct dns_exchange *exchange, enum dns_end end) {}

static const struct dns_sink dns_counts = {
    .query = count_query, .response = count_answer, .unanswered = count_unanswered};

static void dns_begin(struct bench *b)
{
    b->decoder.dns = dns_new(&dns_counts, b, false, false);
}

static void dns_finish(struct bench *b)
{
    dns_free(b->decoder.dns, b->now);
}

static double dns_exchange(struct bench *b)
{
    size_t query = sizeof(dns_query) - 1, answer = sizeof(dns_answer) - 1;

    dns_query[0] = dns_answer[0] = (uint8_t)(b->begun >> 8);
    dns_query[1] = dns_answer[1] = (uint8_t)b->begun;
    dns_datagram(b->decoder.dns, PROTO_TX, 0, dns_query, query, query, b->now += 1000);
    dns_datagram(b->decoder.dns, PROTO_RX, 0, dns_answer, answer, answer, b->now += 1000);
    return 1;
}

#define HTTP1 http1_begin, http1_finish

static const struct row {
    const char *name, *unit;
    void (*begin)(struct bench *), (*end)(struct bench *);
    double (*once)(struct bench *);
} rows[] = {
    {"http1, curl and nginx", "exchanges/s", HTTP1, http1_curl},
    {"http1, wrk and nginx", "exchanges/s", HTTP1, http1_wrk},
    {"http1, a browser and nginx", "exchanges/s", HTTP1, http1_browser},
    {"http1, a browser in pieces", "exchanges/s", HTTP1, http1_pieces},
    {"http1, body of known length", "GB/s", HTTP1, http1_body},
    {"http1, body in chunks", "GB/s", HTTP1, http1_chunks},
    {"http2, a browser and nginx", "exchanges/s", http2_begin, http2_finish, http2_heads},
    {"http2, body in frames", "GB/s", http2_begin_body, http2_finish, http2_body},
    {"dns, a query and its answer", "exchanges/s", dns_begin, dns_finish, dns_exchange},
};

static double cpu_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    static struct bench b;
    double seconds = argc > 1 ? strtod(argv[1], NULL) : 1;
    int ret = 0;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct row *row = &rows[i];
        double units = 0, start = cpu_seconds(), took;

        if (argc > 2 && !strstr(row->name, argv[2]))
            continue;
        b.begun = b.complete = 0;
        row->begin(&b);
        do {
            for (double until = units + (*row->unit == 'G' ? 0.01 : 1000); units < until;) /* seldom reads the clock */
                units += row->once(&b);
            took = cpu_seconds() - start;
        } while (took < seconds);
        row->end(&b);
        printf("%s: %.3f %s\n", row->name, units / took, row->unit);
        if (!b.begun || b.begun != b.complete) {
            fprintf(stderr, "%s: only %llu of %llu exchanges are complete\n", row->name, (unsigned long long)b.complete,
                    (unsigned long long)b.begun);
            ret = 1;
        }
    }
    return ret;
}
