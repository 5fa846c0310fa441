/* SPDX-License-Identifier: Apache-2.0 */
#include "sink/scrape.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/log.h"
#include "base/mem.h"

#define HEAD_MAX   8192u
#define TOP_MAX    512u
#define BACKLOG    128
#define BATCH      16u      /* connections accepted at once */
#define SWEEP_S    1        /* how often deadlines are looked at, and a lost address is tried again */
#define FIRST_MS   10000u   /* for a head, from its first byte or the connection's start */
#define IDLE_MS    150000u  /* between two scrapes */
#define ANSWER_MS  30000u   /* for all of an answer */
#define DRAIN_MS   2000u    /* for what still comes before a connection is closed */
#define SLICE      (256u * 1024)

enum state {
    HEAD,   /* reads one */
    ANSWER, /* writes */
    DRAIN,  /* has shut down its side: what comes is read away, that the kernel doesn't reset the connection */
};

struct conn {
    struct scrape *s;
    struct event *io;         /* NULL: there is none, and all else is garbage */
    short wants;
    int fd;
    enum state state;
    uint64_t since;           /* monotonic ms: this state */
    uint64_t moved;           /* order of the last byte among all */
    bool used;                /* has got an answer */
    bool last;                /* is closed behind this one */
    size_t have;              /* of `head` */
    size_t top_len, sent;
    struct scrape_text *text; /* goes behind `top`, NULL: nothing does */
    char head[HEAD_MAX];
    char top[TOP_MAX];        /* of an answer: its head, and a short body */
};

struct scrape {
    struct event_base *base;
    struct scrape_user user;
    struct cfg_transport at;
    struct event *listen, *sweep;
    int fd;                   /* -1: none */
    unsigned port, attempts;
    bool said, loopback;
    char failure[128];
    uint64_t moves;
    struct conn conns[SCRAPE_CONNECTIONS];
};

static void on_io(evutil_socket_t fd, short what, void *arg);

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void scrape_text_put(struct scrape_text *t)
{
    if (!t || --t->refs)
        return;
    buf_free(&t->text);
    free(t);
}

/* --- addresses --- */

static int address_of(const struct cfg_transport *at, struct sockaddr_storage *ret, socklen_t *ret_len)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)ret;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret;
    const char *host = at->host ? at->host : "", *port = at->port ? at->port : "";
    char *end;
    unsigned long n = strtoul(port, &end, 10);

    memset(ret, 0, sizeof(*ret));
    if (!*port || *end || n > 65535)
        return -EINVAL;
    if (strcasecmp(host, "localhost") == 0)
        host = "127.0.0.1";
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)n);
        *ret_len = sizeof(*v4);
        return 0;
    }
    if (inet_pton(AF_INET6, host, &v6->sin6_addr) != 1)
        return -EINVAL;
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons((uint16_t)n);
    *ret_len = sizeof(*v6);
    return 0;
}

static bool is_loopback(const struct sockaddr_storage *a)
{
    if (a->ss_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr) >> 24 == 127;
    return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)a)->sin6_addr);
}

static const char *reason(int err)
{
    switch (err) {
    case EINVAL: return "the host must be an address or localhost, the port a number";
    case EADDRINUSE: return "the port is taken";
    case EADDRNOTAVAIL: return "this host doesn't have the address";
    case EACCES: return "the port may not be used";
    default: return strerror(err);
    }
}

int scrape_bind(const struct cfg_transport *at, const char **ret_why)
{
    struct sockaddr_storage a;
    socklen_t len;
    int fd, on = 1, rc = address_of(at, &a, &len);

    if (rc == 0) {
        fd = socket(a.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd >= 0)
            setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)); /* connections of an earlier one may linger */
        if (fd >= 0 && a.ss_family == AF_INET6)
            setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
        if (fd >= 0 && bind(fd, (struct sockaddr *)&a, len) == 0)
            return fd;
        rc = -errno;
        if (fd >= 0)
            close(fd);
    }
    *ret_why = reason(-rc);
    return rc;
}

/* --- connections --- */

static void moved(struct conn *c)
{
    c->moved = ++c->s->moves;
}

static void drop(struct conn *c)
{
    event_free(c->io);
    c->io = NULL;
    close(c->fd);
    scrape_text_put(c->text);
}

/* One that is free if there is; else that which has not moved for the longest time of those that wait for a request:
 * one that is being answered is a scraper, and may be slow. */
static struct conn *stillest(struct scrape *s)
{
    static const unsigned worth[] = {[HEAD] = 0, [DRAIN] = 1, [ANSWER] = 2};
    struct conn *found = s->conns;

    for (struct conn *c = s->conns; c < s->conns + SCRAPE_CONNECTIONS; c++) {
        if (!c->io)
            return c;
        if (worth[c->state] < worth[found->state] ||
            (worth[c->state] == worth[found->state] && c->moved < found->moved))
            found = c;
    }
    return found;
}

static void want(struct conn *c, short what)
{
    if (c->wants == what)
        return;
    if (c->wants)
        event_del(c->io);
    event_assign(c->io, c->s->base, c->fd, (short)(what | EV_PERSIST), on_io, c);
    event_add(c->io, NULL);
    c->wants = what;
}

static void enter(struct conn *c, enum state state)
{
    c->state = state;
    c->since = now_ms();
    want(c, state == ANSWER ? EV_WRITE : EV_READ);
}

/* --- requests --- */

static bool is_token(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (c && strchr("!#$%&'*+-.^_`|~", c));
}

static const char *skip(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t'))
        p++;
    return p;
}

static bool is_word(const char *p, const char *end, const char *word)
{
    size_t len = strlen(word);

    return (size_t)(end - p) == len && strncasecmp(p, word, len) == 0;
}

/* Of the elements of a list, the next one without blanks around it. */
static bool element(const char **at, const char *end, char separator, const char **ret_begin, const char **ret_end)
{
    const char *stop;

    if (*at >= end)
        return false;
    stop = memchr(*at, separator, (size_t)(end - *at));
    *ret_begin = skip(*at, end);
    *ret_end = stop ? stop : end;
    *at = *ret_end + 1;
    while (*ret_end > *ret_begin && ((*ret_end)[-1] == ' ' || (*ret_end)[-1] == '\t'))
        --*ret_end;
    if (*ret_begin > *ret_end)
        *ret_begin = *ret_end;
    return true;
}

/* Thousandths; what isn't a weight is the highest. */
static unsigned weight(const char *p, const char *end)
{
    unsigned n = 0, factor = 1000;

    if (p == end || (*p != '0' && *p != '1') || (p + 1 < end && p[1] != '.'))
        return 1000;
    if (*p == '1')
        return 1000;
    for (p += 2; p < end && *p >= '0' && *p <= '9' && factor > 1; p++) {
        factor /= 10;
        n += (unsigned)(*p - '0') * factor;
    }
    return n;
}

bool scrape_wants_openmetrics(const char *accept, size_t len)
{
    const char *end = accept + len, *range, *range_end;
    unsigned openmetrics = 0, text = 0;

    while (accept && element(&accept, end, ',', &range, &range_end)) {
        const char *p, *p_end;
        unsigned q = 1000;
        bool open, plain, version = true;

        if (!element(&range, range_end, ';', &p, &p_end))
            continue;
        open = is_word(p, p_end, "application/openmetrics-text");
        plain = is_word(p, p_end, "text/plain");
        while (element(&range, range_end, ';', &p, &p_end)) {
            if (p_end - p > 2 && strncasecmp(p, "q=", 2) == 0)
                q = weight(p + 2, p_end);
            else if (open && p_end - p > 8 && strncasecmp(p, "version=", 8) == 0)
                version = is_word(p + 8, p_end, "1.0.0") || is_word(p + 8, p_end, "\"1.0.0\"");
        }
        if (open && version && q > openmetrics)
            openmetrics = q;
        if (plain && q > text)
            text = q;
    }
    return openmetrics && openmetrics >= text;
}

static bool host_may(const struct scrape *s, const char *p, const char *end)
{
    struct in6_addr any;
    char name[256];
    size_t len;

    if (!s->loopback)
        return true;
    if (p < end && *p == '[') {
        p++;
        len = (size_t)(end - p);
        end = memchr(p, ']', len);
        if (!end)
            return false;
    } else {
        const char *colon = memchr(p, ':', (size_t)(end - p));

        end = colon ? colon : end;
    }
    len = (size_t)(end - p);
    if (len >= sizeof(name))
        return false;
    memcpy(name, p, len);
    name[len] = 0;
    return strcasecmp(name, "localhost") == 0 || strcasecmp(name, s->at.host) == 0 ||
           inet_pton(AF_INET, name, &any) == 1 || inet_pton(AF_INET6, name, &any) == 1;
}

struct request {
    bool get, head_only, metrics, openmetrics;
    bool last; /* the connection is closed behind it */
};

/* 0, or the status of the answer that refuses it. */
static int parse(const struct scrape *s, const char *p, const char *end, struct request *ret)
{
    const char *method = p, *target, *eol = memchr(p, '\n', (size_t)(end - p)), *stop;
    unsigned hosts = 0;
    bool old, host_ok = true;

    *ret = (struct request){.last = true};
    stop = eol > p && eol[-1] == '\r' ? eol - 1 : eol;
    while (p < stop && is_token(*p))
        p++;
    if (p == method || p == stop || *p != ' ')
        return 400;
    ret->get = is_word(method, p, "GET") && memcmp(method, "GET", 3) == 0;
    ret->head_only = p - method == 4 && memcmp(method, "HEAD", 4) == 0;
    target = ++p;
    while (p < stop && (unsigned char)*p > ' ' && *p != 0x7f)
        p++;
    if (p == target || stop - p != 9 || memcmp(p, " HTTP/", 6) != 0 || p[7] != '.')
        return 400;
    if (p[6] != '1')
        return 505;
    old = p[8] == '0';
    if (p - target > 7 && strncasecmp(target, "http://", 7) == 0) { /* RFC 9112, 3.2.2 */
        target = memchr(target + 7, '/', (size_t)(p - target - 7));
        target = target ? target : p;
    }
    ret->metrics = p - target >= 8 && memcmp(target, "/metrics", 8) == 0 && (p - target == 8 || target[8] == '?');
    ret->last = old;
    while (eol + 1 < end) {
        const char *name = eol + 1, *colon, *value;

        eol = memchr(name, '\n', (size_t)(end - name));
        stop = eol > name && eol[-1] == '\r' ? eol - 1 : eol;
        if (stop == name)
            break;
        for (colon = name; colon < stop && is_token(*colon); colon++)
            ;
        if (colon == name || colon == stop || *colon != ':') {
            ret->last = true;
            return 400;
        }
        value = skip(colon + 1, stop);
        while (stop > value && (stop[-1] == ' ' || stop[-1] == '\t'))
            stop--;
        if (is_word(name, colon, "host")) {
            hosts++;
            host_ok = host_may(s, value, stop);
        } else if (is_word(name, colon, "accept")) {
            ret->openmetrics = ret->openmetrics || scrape_wants_openmetrics(value, (size_t)(stop - value));
        } else if (is_word(name, colon, "connection")) {
            const char *b, *e;

            while (element(&value, stop, ',', &b, &e))
                ret->last = ret->last || is_word(b, e, "close");
        } else if (is_word(name, colon, "transfer-encoding") ||
                   (is_word(name, colon, "content-length") && !is_word(value, stop, "0"))) {
            ret->last = true; /* a body, that nobody reads */
        }
    }
    if (hosts > 1 || (!hosts && !old)) {
        ret->last = true;
        return 400;
    }
    if (!host_ok)
        return 403;
    if (!ret->metrics)
        return 404;
    return ret->get || ret->head_only ? 0 : 405;
}

static const char *status_text(int status)
{
    switch (status) {
    case 200: return "OK";
    case 400: return "Bad Request";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 431: return "Request Header Fields Too Large";
    default: return "HTTP Version Not Supported";
    }
}

static void begin_answer(struct conn *c, int status, const char *type, size_t length, const char *body)
{
    char date[40] = "";
    time_t now = time(NULL);
    struct tm tm;

    strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &tm));
    c->top_len = (size_t)snprintf(c->top, sizeof(c->top),
                                  "HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s%s\r\n%s", status,
                                  status_text(status), date, type, length,
                                  status == 405 ? "Allow: GET, HEAD\r\n" : "", c->last ? "Connection: close\r\n" : "", body);
    c->sent = 0;
    c->used = true;
    enter(c, ANSWER);
}

static void refuse(struct conn *c, int status, bool head_only)
{
    char body[96];
    int n = snprintf(body, sizeof(body), "%s%s\n", status_text(status), status == 404 ? ": metrics are at /metrics" : "");

    begin_answer(c, status, "text/plain; charset=utf-8", (size_t)n, head_only ? "" : body);
}

/* Where the head ends, 0 if it doesn't. */
static size_t head_end(const char *p, size_t len, size_t from)
{
    for (size_t i = from; i < len; i++)
        if (p[i] == '\n' && i && (p[i - 1] == '\n' || (i > 1 && p[i - 1] == '\r' && p[i - 2] == '\n')))
            return i + 1;
    return 0;
}

/* True if what was read was a whole head, or too much. */
static bool take_request(struct conn *c, size_t looked)
{
    struct request r;
    size_t end, skipped = 0;
    int status;

    while (skipped < c->have && (c->head[skipped] == '\r' || c->head[skipped] == '\n'))
        skipped++; /* RFC 9112, 2.2 */
    if (skipped) {
        memmove(c->head, c->head + skipped, c->have -= skipped);
        looked = 0;
    }
    if (!c->have) /* empty lines are no reason to wait for longer */
        return false;
    if (!looked)
        c->since = now_ms();
    moved(c);
    end = head_end(c->head, c->have, looked > 2 ? looked - 2 : 0);
    if (!end && c->have < sizeof(c->head))
        return false;
    if (!end) {
        c->last = true;
        refuse(c, 431, false);
        return true;
    }
    status = parse(c->s, c->head, c->head + end, &r);
    c->last = r.last;
    memmove(c->head, c->head + end, c->have -= end);
    if (status) {
        refuse(c, status, r.head_only);
        return true;
    }
    c->text = c->s->user.text(c->s->user.ctx, r.openmetrics);
    begin_answer(c, 200,
                 r.openmetrics ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                               : "text/plain; version=0.0.4; charset=utf-8",
                 c->text->text.len, "");
    if (r.head_only) {
        scrape_text_put(c->text);
        c->text = NULL;
    }
    return true;
}

/* The next request may be here already: another turn of the event loop is for it. */
static void end_answer(struct conn *c)
{
    if (c->text)
        c->s->user.sent(c->s->user.ctx, c->text);
    scrape_text_put(c->text);
    c->text = NULL;
    if (c->last) {
        shutdown(c->fd, SHUT_WR);
        enter(c, DRAIN);
        return;
    }
    enter(c, HEAD);
    if (c->have)
        event_active(c->io, EV_READ, 0);
}

/* False: the connection is gone. */
static bool write_answer(struct conn *c)
{
    size_t text = c->text ? c->text->text.len : 0, at = c->sent > c->top_len ? c->sent - c->top_len : 0;
    struct iovec v[2];
    struct msghdr m = {.msg_iov = v};
    ssize_t n;

    if (c->sent < c->top_len)
        v[m.msg_iovlen++] = (struct iovec){c->top + c->sent, c->top_len - c->sent};
    if (at < text)
        v[m.msg_iovlen++] = (struct iovec){c->text->text.p + at, text - at < SLICE ? text - at : SLICE};
    n = sendmsg(c->fd, &m, MSG_NOSIGNAL);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    c->sent += (size_t)n;
    moved(c);
    if (c->sent == c->top_len + text)
        end_answer(c);
    return true;
}

/* False: the connection is gone. */
static bool read_head(struct conn *c)
{
    ssize_t n = recv(c->fd, c->head + c->have, sizeof(c->head) - c->have, 0);
    size_t had = c->have;

    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        return false;
    if (n > 0)
        c->have += (size_t)n;
    return !c->have || !take_request(c, n > 0 ? had : 0) || write_answer(c);
}

static bool read_away(struct conn *c)
{
    ssize_t n = recv(c->fd, c->head, sizeof(c->head), 0);

    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static void on_io(evutil_socket_t fd, short what, void *arg)
{
    struct conn *c = arg;
    bool goes_on = c->state == HEAD ? read_head(c) : c->state == ANSWER ? write_answer(c) : read_away(c);

    if (!goes_on)
        drop(c);
}

static void take(struct scrape *s, int fd)
{
    struct conn *c = stillest(s);

    if (c->io)
        drop(c);
    memset(c, 0, offsetof(struct conn, head)); /* the rest is large */
    c->s = s;
    c->fd = fd;
    c->io = event_new(s->base, fd, EV_READ | EV_PERSIST, on_io, c);
    if (!c->io)
        abort(); /* out of memory */
    moved(c);
    enter(c, HEAD);
    if (!read_head(c)) /* who comes with a request need not fear that others push it out */
        drop(c);
}

static void on_listen(evutil_socket_t fd, short what, void *arg)
{
    struct scrape *s = arg;

    for (unsigned i = 0; i < BATCH; i++) {
        int conn = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (conn >= 0) {
            take(s, conn);
            continue;
        }
        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
            event_del(s->listen); /* no descriptors or memory: until the next sweep */
        }
        return;
    }
}

/* --- listening --- */

static void listen_now(struct scrape *s)
{
    struct sockaddr_storage a;
    socklen_t len = sizeof(a);
    const char *why = NULL;
    int fd = scrape_bind(&s->at, &why);

    s->attempts++;
    if (fd >= 0 && listen(fd, BACKLOG)) { /* two may have bound it, one of which listens */
        why = reason(errno);
        close(fd);
        fd = -1;
    }
    if (fd < 0) {
        snprintf(s->failure, sizeof(s->failure), "%s", why);
        if (!s->said)
            log_error("metrics can't be scraped at %s port %s: %s; tried again each second", s->at.host, s->at.port, why);
        s->said = true;
        return;
    }
    s->listen = event_new(s->base, fd, EV_READ | EV_PERSIST, on_listen, s);
    if (!s->listen)
        abort(); /* out of memory */
    event_add(s->listen, NULL);
    memset(&a, 0, sizeof(a));
    getsockname(fd, (struct sockaddr *)&a, &len);
    s->fd = fd;
    s->port = ntohs(a.ss_family == AF_INET ? ((struct sockaddr_in *)&a)->sin_port : ((struct sockaddr_in6 *)&a)->sin6_port);
    s->loopback = is_loopback(&a);
    if (s->said)
        log_warning("metrics can be scraped at %s port %u after %u attempts", s->at.host, s->port, s->attempts);
    else
        log_info("metrics can be scraped at %s port %u", s->at.host, s->port);
    s->said = false;
    s->attempts = 0;
    s->failure[0] = 0;
}

static void on_sweep(evutil_socket_t fd, short what, void *arg)
{
    static const unsigned time[] = {[ANSWER] = ANSWER_MS, [DRAIN] = DRAIN_MS};
    struct scrape *s = arg;
    uint64_t now = now_ms();

    if (s->fd < 0)
        listen_now(s);
    else
        event_add(s->listen, NULL);
    for (struct conn *c = s->conns; c < s->conns + SCRAPE_CONNECTIONS; c++) {
        if (!c->io)
            continue;
        if (now - c->since > (c->state == HEAD ? (c->used && !c->have ? IDLE_MS : FIRST_MS) : time[c->state]))
            drop(c);
    }
}

unsigned scrape_port(const struct scrape *s)
{
    return s->fd < 0 ? 0 : s->port;
}

const char *scrape_failure(const struct scrape *s, unsigned *ret_attempts)
{
    *ret_attempts = s->attempts;
    return s->failure[0] ? s->failure : NULL;
}

struct scrape *scrape_new(struct event_base *base, const struct cfg_transport *at, const struct scrape_user *user)
{
    struct scrape *s = xcalloc(1, sizeof(*s));
    struct timeval each = {SWEEP_S, 0};

    s->base = base;
    s->user = *user;
    s->at.host = xstrdup(at->host ? at->host : "");
    s->at.port = xstrdup(at->port ? at->port : "");
    s->fd = -1;
    s->sweep = event_new(base, -1, EV_PERSIST, on_sweep, s);
    if (!s->sweep)
        abort(); /* out of memory */
    event_add(s->sweep, &each);
    listen_now(s);
    return s;
}

void scrape_free(struct scrape *s)
{
    for (struct conn *c = s->conns; c < s->conns + SCRAPE_CONNECTIONS; c++)
        if (c->io)
            drop(c);
    event_free(s->sweep);
    if (s->listen)
        event_free(s->listen);
    if (s->fd >= 0)
        close(s->fd);
    cfg_transport_clear(&s->at);
    free(s);
}
