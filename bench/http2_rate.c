/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast one core decodes HTTP/2.
 *
 *   http2_rate [ROUNDS]     default: 200
 *
 * A round is one connection: 1,000 requests of a browser's size with their
 * responses, then a body of 64 MiB in frames of 16 KiB. Prints "heads/s: N" and
 * "body GB/s: N".
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "../tests/unit/http2_talk.h"

#define EXCHANGES 1000u
#define FRAME 16384u
#define FRAMES 4096u

static uint64_t heads, done, bytes;

static void *on_request(void *owner, const struct http_head *head)
{
    heads++;
    return NULL;
}

static void on_response(void *owner, const struct http_head *head, void *kept, uint64_t duration_ns)
{
    heads++;
}

static void on_done(void *owner, void *kept, const struct http_totals *totals)
{
    done++;
    bytes += totals->response_body;
}

static const struct http_sink sink = {.request = on_request, .response = on_response, .done = on_done};

static double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static struct talk exchanges(void)
{
    struct talk t = {0};
    char text[2048];

    talk_begin(&t);
    for (uint32_t i = 0; i < EXCHANGES; i++) {
        snprintf(text, sizeof(text),
                 ":method: GET\n:authority: www.example.com\n:scheme: https\n:path: /static/img/%u.png?v=%u\n"
                 "sec-ch-ua: \"Chromium\";v=\"118\", \"Not=A?Brand\";v=\"99\"\nsec-ch-ua-mobile: ?0\n"
                 "user-agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
                 "Chrome/118.0.0.0 Safari/537.36\naccept: image/avif,image/webp,image/apng,image/*,*/*;q=0.8\n"
                 "sec-fetch-site: same-origin\nsec-fetch-mode: no-cors\nsec-fetch-dest: image\n"
                 "referer: https://www.example.com/gallery/index.html\naccept-encoding: gzip, deflate, br\n"
                 "accept-language: en-US,en;q=0.9,de;q=0.8\ncookie: session=0123456789abcdef0123456789abcdef\n",
                 i * 7, i);
        talk_head(&t, CLIENT, NGHTTP2_FLAG_END_STREAM, 2 * i + 1, text);
        snprintf(text, sizeof(text),
                 ":status: 200\nserver: nginx\ndate: Tue, 14 Nov 2023 22:%02u:%02u GMT\ncontent-type: image/png\n"
                 "content-length: %u\netag: \"65537a2c-%x\"\ncache-control: max-age=86400\n",
                 i / 60 % 60, i % 60, i * 13, i * 13);
        talk_head(&t, SERVER, NGHTTP2_FLAG_END_STREAM, 2 * i + 1, text);
    }
    return t;
}

static void feed(struct http2 *h, const struct talk *t)
{
    for (size_t i = 0; i < t->count; i++)
        http2_feed(h, t->pieces[i].dir, (const uint8_t *)t->bytes.p + t->pieces[i].at, t->pieces[i].len, 0);
}

int main(int argc, char **argv)
{
    unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 200;
    static const uint8_t body[9 + FRAME] = {0, FRAME >> 8, 0, NGHTTP2_DATA, 0, 0, 0, 0, 1};
    struct talk talk = exchanges(), get = {0};
    double begun = seconds(), head_time, body_time;
    struct http2 *h;

    for (unsigned long i = 0; i < rounds; i++) {
        h = http2_new(&sink, NULL, false);
        feed(h, &talk);
        http2_free(h, 0);
    }
    head_time = seconds() - begun;
    if (heads != rounds * EXCHANGES * 2 || done != rounds * EXCHANGES)
        return 1;

    talk_begin(&get);
    talk_head(&get, CLIENT, NGHTTP2_FLAG_END_STREAM, 1, ":method: GET\n:path: /\n");
    talk_head(&get, SERVER, 0, 1, ":status: 200\n");
    begun = seconds();
    for (unsigned long i = 0; i < rounds; i++) {
        h = http2_new(&sink, NULL, false);
        feed(h, &get);
        for (unsigned f = 0; f < FRAMES; f++)
            http2_feed(h, SERVER, body, sizeof(body), 0);
        http2_free(h, 0);
    }
    body_time = seconds() - begun;
    if (bytes != (uint64_t)rounds * FRAMES * FRAME)
        return 1;
    printf("heads/s: %.0f\nbody GB/s: %.1f\n", (double)(rounds * EXCHANGES * 2) / head_time,
           (double)bytes / body_time / 1e9);
    talk_free(&talk);
    talk_free(&get);
    return 0;
}
