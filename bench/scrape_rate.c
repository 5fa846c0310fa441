/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long a scrape of so many series takes (src/sink/series.c), and how many
 * samples a second go into them.
 *
 *   scrape_rate [LINES]     default: 10,000
 *
 * Processes are as those of a server: 20 counters and gauges, and a histogram of
 * requests by method and status. Prints "FORMAT: N lines, N bytes, N ms" for
 * the best of ten, and "samples/s: N", in CPU time.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/buf.h"
#include "base/mem.h"
#include "sink/series.h"

#define SAMPLES 20000000ul
#define EACH    (20 + 2 * 17) /* lines of a process */

static double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void request(struct series_set *s, const struct tm_process *who, unsigned long i)
{
    struct tm_exchange x = {.method = {"GET", 3}, .status = i % 16 ? 200 : 404};

    series_sample(s, who, &(struct tm_sample){.metric = TM_HTTP_DURATION_SERVER, .value = (int64_t)(i * 7919 % 20000), .numops = 1,
                                              .exchange = &x});
}

static void fill(struct series_set *s, const struct tm_process *who)
{
    static const enum tm_metric metrics[] = {TM_PROC_CPU, TM_PROC_MEM, TM_PROC_THREAD, TM_PROC_FD, TM_PROC_CHILD, TM_FS_OPEN,
                                             TM_FS_CLOSE, TM_FS_READ, TM_FS_WRITE, TM_FS_STAT, TM_FS_ERROR, TM_NET_RX, TM_NET_TX,
                                             TM_NET_OPEN, TM_NET_CLOSE, TM_NET_TCP};

    for (size_t i = 0; i < sizeof(metrics) / sizeof(*metrics); i++)
        series_sample(s, who, &(struct tm_sample){.metric = metrics[i], .value = 123456789 + (int64_t)i, .numops = 1, .class_ = "inet_tcp"});
    request(s, who, 1);
    request(s, who, 16);
}

int main(int argc, char **argv)
{
    size_t lines = argc > 1 ? strtoul(argv[1], NULL, 10) : 10000, count = lines / EACH + 1;
    struct tm_process *all = xcalloc(count, sizeof(*all));
    struct series_set *s = series_new(lines);
    double begin;

    for (size_t i = 0; i < count; i++) {
        all[i] = (struct tm_process){.pid = (uint32_t)(4242 + i), .proc = "nginx"};
        series_begin(s, &all[i], 0);
        fill(s, &all[i]);
    }
    for (int openmetrics = 0; openmetrics < 2; openmetrics++) {
        double best = 1e9;
        size_t bytes = 0, told = 0;

        for (int i = 0; i < 10; i++) {
            struct buf b = BUF_INIT;
            double took;

            begin = seconds();
            series_text(s, openmetrics, 0, &b);
            took = seconds() - begin;
            best = took < best ? took : best;
            bytes = b.len;
            told = 0;
            for (size_t k = 0; k < b.len; k++)
                told += b.p[k] == '\n';
            buf_free(&b);
        }
        printf("%s: %zu lines, %zu bytes, %.2f ms\n", openmetrics ? "OpenMetrics" : "text", told, bytes, best * 1e3);
    }
    begin = seconds();
    for (unsigned long i = 0; i < SAMPLES; i++)
        request(s, &all[i / 64 % count], i);
    printf("samples/s: %.0f\n", (double)SAMPLES / (seconds() - begin));
    series_free(s);
    free(all);
    return 0;
}
