/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A receiver of OTLP over http/protobuf that costs next to nothing: for bench/otlp.
 *
 *   otlp_sink [-s SPANS:MS] [-l FILE]
 *
 * Says "port N" and takes what comes there. For each line on stdin it prints what it has got so far:
 *
 *   requests N bytes N server N client N other N points N logs N bad N
 *
 * server, client, other: spans by kind; bad: requests that can't be read. The end of stdin ends it.
 *
 * -s  after so many spans, once: stands still for so many milliseconds, and only then answers
 * -l  a line for each span: its kind, start and end (ns), and what is behind the `?` of url.query or url.full
 */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "timing.h"

#define CLIENTS 64
#define HEAD    8192

enum { SERVER = 2, CLIENT = 3 };

struct client {
    int fd;
    char *bytes; /* head and body of one request */
    size_t len, room;
};

static struct {
    unsigned long long requests, bytes, server, client, other, points, logs, bad;
} got;
static unsigned long long stall_at;
static long stall_ms;
static FILE *spans;

/* --- protobuf --- */

struct message {
    const uint8_t *p, *end;
};

struct field {
    uint64_t number, value;  /* value: of varint and fixed64 */
    struct message content;  /* of LEN */
    unsigned type;
};

static bool varint(struct message *m, uint64_t *ret)
{
    *ret = 0;
    for (unsigned shift = 0; shift < 64 && m->p < m->end; shift += 7) {
        *ret |= (uint64_t)(*m->p & 0x7f) << shift;
        if (!(*m->p++ & 0x80))
            return true;
    }
    return false;
}

/* The next field. False at the end; what can't be read is counted, and ends it, too. */
static bool next_field(struct message *m, struct field *f)
{
    uint64_t key, len;
    bool fine = true;

    if (m->p == m->end)
        return false;
    fine = varint(m, &key);
    f->number = key >> 3;
    f->type = key & 7;
    if (fine && f->type == 0) {
        fine = varint(m, &f->value);
    } else if (fine && f->type == 2) {
        fine = varint(m, &len) && len <= (size_t)(m->end - m->p);
        if (fine) {
            f->content = (struct message){m->p, m->p + len};
            m->p += len;
        }
    } else if (fine && (f->type == 1 || f->type == 5)) {
        size_t n = f->type == 1 ? 8 : 4;

        fine = n <= (size_t)(m->end - m->p);
        if (fine) {
            f->value = 0;
            memcpy(&f->value, m->p, n);
            m->p += n;
        }
    } else {
        fine = false;
    }
    if (!fine) {
        got.bad++;
        m->p = m->end;
    }
    return fine;
}

static bool is(struct message m, const char *text)
{
    return (size_t)(m.end - m.p) == strlen(text) && memcmp(m.p, text, strlen(text)) == 0;
}

/* KeyValue: the query, if that is what it has. */
static void query_of(struct message pair, struct message *ret)
{
    struct message key = {0}, value = {0};
    struct field f;

    while (next_field(&pair, &f))
        *(f.number == 1 ? &key : &value) = f.content;
    if (!is(key, "url.query") && !is(key, "url.full"))
        return;
    while (next_field(&value, &f))
        if (f.number == 1 && f.type == 2) {
            const uint8_t *mark = memchr(f.content.p, '?', (size_t)(f.content.end - f.content.p));

            *ret = (struct message){mark ? mark + 1 : f.content.p, f.content.end};
        }
}

static void span(struct message m)
{
    uint64_t kind = 0, start = 0, end = 0;
    struct message query = {0};
    struct field f;

    while (next_field(&m, &f)) {
        if (f.number == 6 && f.type == 0)
            kind = f.value;
        else if (f.number == 7 && f.type == 1)
            start = f.value;
        else if (f.number == 8 && f.type == 1)
            end = f.value;
        else if (f.number == 9 && f.type == 2 && spans)
            query_of(f.content, &query);
    }
    *(kind == SERVER ? &got.server : kind == CLIENT ? &got.client : &got.other) += 1;
    if (spans)
        fprintf(spans, "%d %llu %llu %.*s\n", (int)kind, (unsigned long long)start, (unsigned long long)end,
                (int)(query.end - query.p), query.p ? (const char *)query.p : "");
}

/* Metric: its data (gauge, sum, histogram, exponential histogram, summary) is a list of points. */
static void metric(struct message m)
{
    struct field f, point;

    while (next_field(&m, &f))
        if (f.type == 2 && (f.number == 5 || f.number == 7 || f.number == 9 || f.number == 10 || f.number == 11))
            while (next_field(&f.content, &point))
                got.points += point.number == 1 && point.type == 2;
}

/* An export request of any signal: the three have the same outer shape. */
static void request(struct message m, char signal)
{
    struct field resource, scope, item;

    while (next_field(&m, &resource))
        while (resource.number == 1 && resource.type == 2 && next_field(&resource.content, &scope))
            while (scope.number == 2 && scope.type == 2 && next_field(&scope.content, &item)) {
                if (item.number != 2 || item.type != 2)
                    continue;
                if (signal == 't')
                    span(item.content);
                else if (signal == 'm')
                    metric(item.content);
                else
                    got.logs++;
            }
}

/* --- HTTP --- */

static void stand_still(void)
{
    struct timespec time = {stall_ms / 1000, stall_ms % 1000 * 1000000};

    if (!stall_at || got.server + got.client + got.other < stall_at)
        return;
    stall_at = 0;
    nanosleep(&time, NULL);
}

/* Answers what is there as a whole. False: it can't be read. */
static bool serve(struct client *c)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";

    for (;;) {
        char *end = memmem(c->bytes, c->len, "\r\n\r\n", 4), *line, *path;
        size_t head, body = 0;

        if (!end)
            return c->len < HEAD;
        head = (size_t)(end + 4 - c->bytes);
        end[2] = 0;
        for (line = c->bytes; (line = strstr(line, "\r\n")) && line < end; ) {
            line += 2;
            if (strncasecmp(line, "content-length:", 15) == 0)
                body = strtoul(line + 15, NULL, 10);
        }
        end[2] = '\r';
        path = memmem(c->bytes, head, " /v1/", 5);
        if (strncmp(c->bytes, "POST ", 5) != 0 || !path) {
            got.bad++;
            return false;
        }
        if (c->len < head + body) {
            if (c->room < head + body) {
                c->room = head + body;
                c->bytes = realloc(c->bytes, c->room);
                must(c->bytes ? 0 : -1, "memory");
            }
            return true;
        }
        got.requests++;
        got.bytes += body;
        request((struct message){(uint8_t *)c->bytes + head, (uint8_t *)c->bytes + head + body}, path[5]);
        stand_still();
        if (send(c->fd, answer, sizeof(answer) - 1, MSG_NOSIGNAL) != sizeof(answer) - 1)
            return false;
        c->len -= head + body;
        memmove(c->bytes, c->bytes + head + body, c->len);
    }
}

static bool take(struct client *c)
{
    ssize_t n;

    if (c->room - c->len < HEAD) {
        c->room += (size_t)256 * 1024;
        c->bytes = realloc(c->bytes, c->room);
        must(c->bytes ? 0 : -1, "memory");
    }
    n = read(c->fd, c->bytes + c->len, c->room - c->len);
    if (n <= 0)
        return n < 0 && errno == EINTR;
    c->len += (size_t)n;
    return serve(c);
}

int main(int argc, char **argv)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    static struct client clients[CLIENTS];
    socklen_t len = sizeof(at);
    int listener, opt;
    char line[16], *colon;

    while ((opt = getopt(argc, argv, "s:l:")) != -1) {
        if (opt == 's' && (colon = strchr(optarg, ':'))) {
            *colon = 0;
            stall_at = (unsigned long long)number(optarg);
            stall_ms = number(colon + 1);
        } else if (opt != 'l' || !(spans = fopen(optarg, "w"))) {
            fprintf(stderr, "otlp_sink [-s SPANS:MS] [-l FILE]\n");
            return 2;
        }
    }
    listener = (int)must(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    must(bind(listener, (struct sockaddr *)&at, len), "bind");
    must(listen(listener, 64), "listen");
    must(getsockname(listener, (struct sockaddr *)&at, &len), "getsockname");
    printf("port %d\n", ntohs(at.sin_port));
    fflush(stdout);
    for (;;) {
        struct pollfd p[CLIENTS + 2] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = listener, .events = POLLIN}};

        for (int i = 0; i < CLIENTS; i++) /* a place without a client has no buffer */
            p[i + 2] = (struct pollfd){.fd = clients[i].bytes ? clients[i].fd : -1, .events = POLLIN};
        if (poll(p, CLIENTS + 2, -1) < 0)
            continue;
        for (int i = 0; i < CLIENTS; i++)
            if (p[i + 2].revents && !take(&clients[i])) {
                close(clients[i].fd);
                free(clients[i].bytes);
                clients[i] = (struct client){0};
            }
        if (p[1].revents) {
            int fd = accept(listener, NULL, NULL), i = 0;

            while (i < CLIENTS && clients[i].bytes)
                i++;
            if (fd >= 0 && i < CLIENTS)
                clients[i] = (struct client){.fd = fd, .bytes = malloc(HEAD), .room = HEAD};
            else if (fd >= 0)
                close(fd);
        }
        if (p[0].revents) {
            if (read(STDIN_FILENO, line, sizeof(line)) <= 0)
                return spans ? fclose(spans) != 0 : 0;
            if (spans)
                fflush(spans);
            printf("requests %llu bytes %llu server %llu client %llu other %llu points %llu logs %llu bad %llu\n",
                   got.requests, got.bytes, got.server, got.client, got.other, got.points, got.logs, got.bad);
            fflush(stdout);
        }
    }
}
