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
    } decoder;
    uint64_t now;
    uint64_t begun, complete; /* exchanges: proof that they were understood */
    uint8_t block[BLOCK];
};

static void *count_request(void *owner, const struct http_head *head)
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
            for (int n = 0; n < (*row->unit == 'G' ? 1 : 1000); n++) /* reading the clock isn't measured */
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
