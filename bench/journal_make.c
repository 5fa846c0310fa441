/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes a journal, and a file with the same records as lines of NDJSON.
 *
 *   journal_make EVENTS JOURNAL [NDJSON]
 *
 * They are those of a web server of four workers: two of HTTP and two of files
 * for each request, and a sample of a metric now and then. Prints "events/s: N",
 * "bytes: N" (of the journal) and "lost: N".
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "journal/writer.h"
#include "sink/ndjson.h"

#define WORKERS 4
#define STR(n, text) {.name = n, .type = TM_STR, .v.str = {text, sizeof(text) - 1}}
#define NUM(n, v_)   {.name = n, .type = TM_UINT, .v.u = v_}
#define GROUP(t)     {.name = "", .type = t}

static struct tm_process workers[WORKERS];

static void make_workers(void)
{
    for (uint32_t i = 0; i < WORKERS; i++) {
        struct tm_process *p = &workers[i];

        *p = (struct tm_process){.pid = 4242 + i, .ppid = 4241, .host_pid = 4242 + i, .uid = 33, .gid = 33,
                                 .username = "www-data", .groupname = "www-data", .host = "web-17", .proc = "nginx",
                                 .cmd = "nginx: worker process", .cgroup = "0::/system.slice/nginx.service",
                                 .exe = "/usr/sbin/nginx", .machine_id = "0123456789abcdef0123456789abcdef",
                                 .id = "web-17-nginx-nginx: worker process"};
        snprintf(p->uuid, sizeof(p->uuid), "da845a9b-a55d-4c42-893d-08b54ee6e%03u", i);
    }
}

static double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Where the writer's thread is behind, it is waited for: nothing is to be lost. */
static void put(struct journal_writer *w, struct ndjson *n, FILE *lines, const struct ev_record *r)
{
    static struct buf b;

    while (!journal_write(w, r))
        journal_flush(w, 1000);
    if (!lines)
        return;
    buf_reset(&b);
    ndjson_record(n, &b, r);
    fwrite(b.p, 1, b.len, lines);
}

int main(int argc, char **argv)
{
    unsigned long events = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
    struct journal_writer *w;
    struct journal_stats stats;
    struct ndjson *n = ndjson_new();
    FILE *lines = NULL;
    double cpu;
    int fd;

    if (argc < 3) {
        fprintf(stderr, "usage: journal_make EVENTS JOURNAL [NDJSON]\n");
        return 2;
    }
    fd = open(argv[2], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    w = fd < 0 ? NULL : journal_writer_new(fd);
    if (!w || (argc > 3 && !(lines = fopen(argv[3], "we")))) {
        fprintf(stderr, "journal_make: %s\n", strerror(errno));
        return 1;
    }
    make_workers();
    cpu = seconds();
    for (unsigned long i = 0; i < events; i++) {
        const struct tm_process *who = &workers[i / 4 % WORKERS];
        uint64_t request = i / 4, at = UINT64_C(1700000000000000000) + request * 31000 + i % 4 * 7000;
        char target[40];
        struct tm_field http_req[] = {
            STR("http_method", "GET"), STR("http_scheme", "http"), STR("http_target", ""), STR("http_flavor", "1.1"),
            STR("http_host", "www.example.org"), STR("http_user_agent", "h2load nghttp2/1.52.0"), STR("net_transport", "IP.TCP"),
            STR("net_peer_ip", "10.1.2.3"), NUM("net_peer_port", 32768 + request % 512), STR("net_host_ip", "10.0.0.5"), NUM("net_host_port", 80),
        };
        struct tm_field http_resp[] = {
            STR("http_method", "GET"), STR("http_scheme", "http"), STR("http_target", ""), STR("http_flavor", "1.1"),
            NUM("http_status_code", 200), STR("http_status", "OK"), NUM("http_server_duration", request % 3),
            NUM("http_response_content_length", 612 + request % 4096), STR("http_host", "www.example.org"),
            STR("net_transport", "IP.TCP"), STR("net_peer_ip", "10.1.2.3"), NUM("net_peer_port", 32768 + request % 512), STR("net_host_ip", "10.0.0.5"), NUM("net_host_port", 80),
        };
        struct tm_field file[] = {
            GROUP(TM_WHO), STR("file", ""), GROUP(TM_OWNER), NUM("file_perms", 644), NUM("file_owner", 0),
            NUM("file_group", 0), NUM("file_read_bytes", 612 + request % 4096), NUM("file_read_ops", 1), NUM("file_write_bytes", 0), NUM("file_write_ops", 0),
            NUM("duration", request % 9), STR("op", "close"),
        };
        struct ev_record r = {.kind = EV_EVENT, .who = who, .time_ns = at};

        snprintf(target, sizeof(target), "/static/page-%02lu.html", (unsigned long)(request % 64));
        switch (i % 4) {
        case 0:
            http_req[2].v.str.p = target;
            http_req[2].v.str.len = strlen(target);
            r.sourcetype = "http", r.source = "http.req", r.channel = 8412773390113 + request % 512;
            r.fields = http_req, r.field_count = sizeof(http_req) / sizeof(*http_req);
            break;
        case 1: case 2:
            file[1].v.str.p = target;
            file[1].v.str.len = strlen(target);
            r.sourcetype = "fs", r.source = i % 4 == 1 ? "fs.open" : "fs.close", r.channel = 8412773391113 + request;
            r.fields = file, r.field_count = i % 4 == 1 ? 6 : 12;
            break;
        default:
            http_resp[2].v.str.p = target;
            http_resp[2].v.str.len = strlen(target);
            r.sourcetype = "http", r.source = "http.resp", r.channel = 8412773390113 + request % 512;
            r.fields = http_resp, r.field_count = sizeof(http_resp) / sizeof(*http_resp);
        }
        put(w, n, lines, &r);
        if (i % 100 == 0) {
            struct tm_field tags[] = {GROUP(TM_WHO), STR("unit", "byte"), STR("summary", "true")};
            struct ev_record m = {.kind = EV_METRIC, .who = who, .time_ns = at, .name = "fs.read", .type = "counter",
                                  .value = {.type = TM_INT, .v.i = (int64_t)(612 + request % 4096)}, .fields = tags, .field_count = 3};

            put(w, n, NULL, &m);
        }
    }
    journal_flush(w, 60000);
    cpu = seconds() - cpu;
    journal_writer_stats(w, &stats);
    printf("events/s: %.0f\nbytes: %llu\nlost: %llu\n", (double)events / cpu, (unsigned long long)stats.bytes,
           (unsigned long long)stats.lost_destination);
    journal_writer_free(w, 1000);
    ndjson_free(n);
    return lines && fclose(lines) != 0;
}
