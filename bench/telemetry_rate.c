/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many events per second one core filters, encodes and writes.
 *
 *   telemetry_rate [EVENTS [FILE [TYPE]]]     default: 3,000,000 to /dev/null; type: file, or journal
 *   telemetry_rate EXCHANGES samples          the three samples of each exchange of HTTP, summed up
 *
 * The mix is that of a busy server with the default watches: fs.open, fs.close,
 * net.open, net.close and lines on stdout. Prints "events/s: N".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <event2/event.h>

#include "telemetry/telemetry.h"

#define STR(field, text) {.name = field, .name_len = sizeof(field) - 1, .type = TM_STR, .v.str = {text, sizeof(text) - 1}}
#define NUM(field, n)    {.name = field, .name_len = sizeof(field) - 1, .type = TM_UINT, .v.u = n}

static double seconds(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* What the collector tells of an exchange besides its events: 16 targets in turn. */
static void exchange(struct telemetry *t, struct tm_process *p, unsigned long i, uint64_t now)
{
    char target[] = "/static/css/index-a.css";
    struct tm_field f[] = {
        {.name = "http_target", .name_len = 11, .type = TM_STR, .level = 4, .v.str = {target, sizeof(target) - 1}},
        {.name = "http_status_code", .name_len = 16, .type = TM_UINT, .level = 1, .v.u = 200},
    };
    struct tm_sample s = {.value = 312, .numops = 1, .time_ns = now, .fields = f, .field_count = 1};

    target[18] = (char)('a' + i / 8 % 16);
    s.metric = TM_HTTP_DURATION_SERVER;
    telemetry_sample(t, p, &s);
    s.metric = TM_HTTP_RESP_LENGTH;
    telemetry_sample(t, p, &s);
    s.metric = TM_HTTP_REQ;
    s.field_count = 2;
    telemetry_sample(t, p, &s);
}

int main(int argc, char **argv)
{
    static struct tm_process p = {.pid = 4242,
                                  .host_pid = 4242,
                                  .username = "www",
                                  .groupname = "www",
                                  .host = "web-17",
                                  .proc = "nginx",
                                  .cmd = "nginx: worker process",
                                  .cgroup = "0::/system.slice/nginx",
                                  .exe = "/usr/sbin/nginx",
                                  .machine_id = "0123456789abcdef0123456789abcdef",
                                  .uuid = "da845a9b-a55d-4c42-893d-08b54ee6e999",
                                  .id = "web-17-nginx-nginx: worker process"};
    static const char line[] = "10.1.2.3 - - [14/Nov/2023:22:13:20 +0000] \"GET /index.html HTTP/1.1\" 200 612 \"-\"\n";
    static struct tm_field open_fields[] = {
        STR("proc", "nginx"), NUM("pid", 4242), STR("host", "web-17"),
        STR("file", "/var/www/html/static/css/index.css"), NUM("proc_uid", 33), NUM("proc_gid", 33),
        STR("proc_cgroup", "0::/system.slice/nginx"), NUM("file_perms", 644), NUM("file_owner", 0),
        NUM("file_group", 0), NUM("file_read_bytes", 1024), NUM("file_read_ops", 2), NUM("file_write_bytes", 0),
        NUM("file_write_ops", 0), NUM("duration", 3), STR("op", "close"),
    };
    static struct tm_field net_fields[] = {
        STR("net_transport", "IP.TCP"), STR("net_peer_ip", "10.1.2.3"), NUM("net_peer_port", 51022),
        STR("net_host_ip", "10.0.0.5"), NUM("net_host_port", 80), STR("net_protocol", "http"), NUM("duration", 12),
        NUM("net_bytes_sent", 1370), NUM("net_bytes_recv", 105), STR("net_close_reason", "remote"),
    };
    static const struct tm_event kinds[] = {
        {CFG_EW_FS, "fs.open", 0, 8412773390112, open_fields, 10, NULL},
        {CFG_EW_FS, "fs.close", 0, 8412773390112, open_fields, 16, NULL},
        {CFG_EW_NET, "net.open", 0, 8412773390113, net_fields, 6, NULL},
        {CFG_EW_NET, "net.close", 0, 8412773390113, net_fields, 10, NULL},
    };
    unsigned long events = argc > 1 ? strtoul(argv[1], NULL, 10) : 3000000;
    bool samples = argc > 2 && strcmp(argv[2], "samples") == 0;
    struct config_sources *sources = config_sources_new();
    struct event_base *base = event_base_new();
    struct telemetry *t;
    struct tm_stats stats;
    struct config *cfg;
    double cpu, wall;

    if (!base || config_set(sources, "event.transport.type", argc > 3 ? argv[3] : "file", "bench", NULL, NULL) ||
        config_set(sources, "event.transport.path", argc > 2 && !samples ? argv[2] : "/dev/null", "bench", NULL, NULL) ||
        config_set(sources, "event.format.maxeventpersec", "0", "bench", NULL, NULL) ||
        config_set(sources, "metric.transport.type", "file", "bench", NULL, NULL) ||
        config_set(sources, "metric.transport.path", "/dev/null", "bench", NULL, NULL) ||
        config_set(sources, samples ? "event.enable" : "metric.enable", "false", "bench", NULL, NULL))
        return 1;
    cfg = config_for(sources, NULL);
    t = telemetry_new(base, cfg);
    telemetry_process_start(t, &p);
    cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    wall = seconds(CLOCK_MONOTONIC);
    for (unsigned long i = 0; i < events; i++) {
        uint64_t now = UINT64_C(1700000000000000000) + i * 997;

        if (samples) {
            exchange(t, &p, i, now);
        } else if (i % 5 == 4) {
            telemetry_message(t, &p, CFG_EW_CONSOLE, "stdout", now, 77, line, sizeof(line) - 1, 0, NULL);
        } else {
            struct tm_event e = kinds[i % 5];

            e.time_ns = now;
            if (telemetry_wants_event(t, e.watch, e.source, strlen(e.source)))
                telemetry_event(t, &p, &e);
        }
        if (i % 4096 == 0)
            event_base_loop(base, EVLOOP_NONBLOCK);
    }
    telemetry_finish(t, 5000);
    cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    wall = seconds(CLOCK_MONOTONIC) - wall;
    telemetry_stats(t, &stats);
    printf("events/s: %.0f\nseconds: %.3f CPU, %.3f elapsed\nevents: %llu\nlost: %llu\n", (double)events / cpu, cpu,
           wall, (unsigned long long)stats.events, (unsigned long long)(stats.lost_queue + stats.lost_destination));
    telemetry_free(t, 0);
    config_free(cfg);
    config_sources_free(sources);
    event_base_free(base);
    return samples || stats.events == events ? 0 : 1;
}
