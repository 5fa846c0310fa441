/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many events per second one core writes into a journal, and reads back.
 *
 *   journal_rate [EVENTS [FILE]]       default: 4,000,000 to a file in memory
 *
 * small: fs.open and fs.close of the same files over and over, a line of output now
 * and then. nginx: the four events of a request of a web server, to one
 * of 997 files, of another client's port. Prints events/s of the thread that writes (its CPU time),
 * bytes, and what reading and counting take. Instructions: `perf stat -e
 * instructions:u`, or `valgrind --tool=callgrind`.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "journal/reader.h"
#include "journal/writer.h"

#define STR(field, text) {.name = field, .type = TM_STR, .v.str = {text, sizeof(text) - 1}}
#define NUM(field, n)    {.name = field, .type = TM_UINT, .v.u = n}
#define COUNT(array)     (sizeof(array) / sizeof(*(array)))

static struct tm_process worker = {
    .pid = 4242, .ppid = 1, .uid = 33, .gid = 33, .host_pid = 4242, .username = "www", .groupname = "www",
    .host = "web-17", .proc = "nginx", .cmd = "nginx: worker process", .cgroup = "0::/system.slice/nginx",
    .exe = "/usr/sbin/nginx", .machine_id = "0123456789abcdef0123456789abcdef",
    .uuid = "da845a9b-a55d-4c42-893d-08b54ee6e999", .id = "web-17-nginx-nginx: worker process"};

#define FILE_FIELDS \
    {.name = "who", .type = TM_WHO}, STR("file", "/var/www/html/static/css/index.css"), \
    {.name = "owner", .type = TM_OWNER}, NUM("file_perms", 644), NUM("file_owner", 0), NUM("file_group", 0)
#define HTTP_FIELDS \
    STR("http_method", "GET"), STR("http_target", "/static/css/index.css"), STR("http_flavor", "1.1"), \
    STR("http_scheme", "http"), STR("http_host", "www.example.com"), STR("http_user_agent", "curl/7.88.1"), \
    STR("net_transport", "IP.TCP"), STR("net_peer_ip", "10.1.2.3"), NUM("net_peer_port", 51022), \
    STR("net_host_ip", "10.0.0.5"), NUM("net_host_port", 80)

static struct tm_field open_fields[] = {FILE_FIELDS, STR("op", "openat")};
static struct tm_field close_fields[] = {FILE_FIELDS, NUM("file_read_bytes", 1024), NUM("file_read_ops", 2),
    NUM("file_write_bytes", 0), NUM("file_write_ops", 0), NUM("duration", 3), STR("op", "close")};
static struct tm_field req_fields[] = {HTTP_FIELDS};
static struct tm_field resp_fields[] = {NUM("http_status_code", 200), STR("http_status_text", "OK"),
    NUM("http_server_duration", 1), HTTP_FIELDS, NUM("http_response_content_length", 612)};
static struct tm_field line_fields[] = {
    STR("message", "10.1.2.3 - - [14/Nov/2023:22:13:20 +0000] \"GET /index.html HTTP/1.1\" 200 612 \"-\"\n")};

static struct ev_record events[] = {
    {.sourcetype = "fs", .source = "fs.open", .fields = open_fields, .field_count = COUNT(open_fields)},
    {.sourcetype = "http", .source = "http.req", .fields = req_fields, .field_count = COUNT(req_fields)},
    {.sourcetype = "http", .source = "http.resp", .fields = resp_fields, .field_count = COUNT(resp_fields)},
    {.sourcetype = "fs", .source = "fs.close", .fields = close_fields, .field_count = COUNT(close_fields)},
    {.sourcetype = "console", .source = "stdout", .fields = line_fields, .field_count = COUNT(line_fields)},
};

static double cpu(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static bool put(struct journal_writer *w, unsigned kind, uint64_t time_ns, uint64_t channel)
{
    struct ev_record r = events[kind];

    r.kind = EV_EVENT;
    r.who = &worker;
    r.time_ns = time_ns;
    r.channel = channel;
    while (!journal_write(w, &r))
        if (!journal_flush(w, 10000))
            return false;
    return true;
}

#define FILES 997u
static char files[FILES][64];

static void name_files(void)
{
    for (unsigned i = 0; i < FILES; i++)
        snprintf(files[i], sizeof(files[i]), "/var/www/html/static/pages/%u.html", i);
}

/* What differs from request to request. */
static void other_request(unsigned long n)
{
    const char *file = files[n % FILES], *target = file + 13;
    size_t len = strlen(file);

    open_fields[1].v.str.p = close_fields[1].v.str.p = file;
    open_fields[1].v.str.len = close_fields[1].v.str.len = len;
    req_fields[1].v.str.p = resp_fields[4].v.str.p = target;
    req_fields[1].v.str.len = resp_fields[4].v.str.len = len - 13;
    close_fields[6].v.u = resp_fields[14].v.u = 500 + n % FILES * 7;
    req_fields[8].v.u = resp_fields[11].v.u = 32768 + n * 7919 % 28000;
    resp_fields[2].v.u = n % 3;
}

static bool run(const char *name, int fd, unsigned long count, bool nginx)
{
    struct journal_writer *w;
    struct journal_reader *r;
    struct journal_stats stats;
    struct ev_record got;
    unsigned long n = 0, read = 0;
    double begin, took;
    uint64_t now = UINT64_C(1700000000000000000), counted;
    bool ok = true;
    unsigned version;

    if (ftruncate(fd, 0) < 0 || !(w = journal_writer_new(dup(fd))))
        return false;
    begin = cpu();
    for (; ok && n < count; n++) {
        unsigned kind = nginx ? n % 4 : n % 8 == 7 ? 4 : n % 2 * 3;

        if (nginx && kind == 0)
            other_request(n / 4);
        now += nginx ? 9973 : 997;
        ok = put(w, kind, now, nginx && (kind == 1 || kind == 2) ? 7 : kind == 4 ? 77 : 8412773390112 + n / 4);
        if (n % 4096 == 0)
            journal_tick(w, 100);
    }
    took = cpu() - begin;
    ok = journal_flush(w, 60000) && ok;
    journal_writer_stats(w, &stats);
    journal_writer_free(w, 1000);
    printf("%s: %.2f M events/s written, %.1f bytes an event", name, (double)count / took / 1e6, (double)stats.bytes / (double)count);
    if (nginx)
        printf(", %.1f a request", (double)stats.bytes / (double)count * 4);
    begin = cpu();
    r = journal_reader_new(dup(fd), NULL, &version);
    if (!r)
        return false;
    while (journal_next(r, &got))
        read++;
    journal_reader_free(r);
    printf("; %.2f M events/s read", (double)read / (cpu() - begin) / 1e6);
    begin = cpu();
    r = journal_reader_new(dup(fd), &(struct journal_want){.sources = (const char *const[]){"fs.close"}, .source_count = 1}, &version);
    counted = r ? journal_count(r) : 0;
    journal_reader_free(r);
    printf("; counted by source in %.2f ms\n", (cpu() - begin) * 1e3);
    return ok && read == count && counted > 0 && stats.records == count;
}

int main(int argc, char **argv)
{
    unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 10) : 4000000;
    int fd = argc > 2 ? open(argv[2], O_RDWR | O_CREAT | O_CLOEXEC, 0600) : memfd_create("journal", MFD_CLOEXEC);

    name_files();
    return fd >= 0 && run("small", fd, count, false) && run("nginx", fd, count, true) ? 0 : 1;
}
