/* SPDX-License-Identifier: Apache-2.0 */
#include "k8s/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "k8s/cert.h"
#include "k8s/review.h"

#define CONNECTIONS_MAX 256u
#define HEAD_MAX 16384u
#define LENGTH_MAX (64u << 20) /* of a body that is read at all, if only to be thrown away */
#define BEGINNING 65536u       /* what is kept of one that is too large */
#define HELD_MAX (32u << 20)   /* of all bodies together that are larger than */
#define SMALL (256u << 10)     /* which is more than reviews of pods have: nobody can take the room for these */
#define PEERS 64u              /* classes of addresses, by a hash */
#define REQUEST_S 10           /* for a handshake, a request, an answer */
#define DRAIN_S 2              /* for what still comes before a connection is closed */
#define IDLE_S 300             /* between two requests */
#define LOOK_S 2               /* how often files are looked at */
#define LINGER_S 5             /* after SIGTERM: as long, the cluster may still send somebody here */
#define END_S 20               /* for answers that are under way at the end */

struct server;

struct conn {
    TAILQ_ENTRY(conn) link;
    struct server *s;
    struct bufferevent *bev;
    struct event *deadline;
    bool in_body;
    bool discard;       /* the body is too large */
    bool busy;          /* with a request: its time is counted */
    bool last, closing; /* it is the last one; it has been answered */
    bool draining;      /* that too is written: what still comes is read away, that the kernel doesn't reset the
                           connection before the peer has read the answer */
    unsigned peer;      /* class of its address */
    char path[32];
    bool post;
    size_t length, left;  /* of the body: whole, and what has still to be thrown away */
    size_t held;          /* of HELD_MAX */
    struct buf beginning; /* of a body that is too large */
};
TAILQ_HEAD(conns, conn);

struct file_state {
    struct timespec changed;
    ino_t inode;
    off_t size;
};

struct server {
    const struct k8s_server_options *o;
    struct event_base *base;
    struct evconnlistener *listener;
    struct event *look, *signals[2], *end;
    SSL_CTX *tls;
    struct file_state files[2]; /* certificate and key, or the CA's */
    time_t renew;               /* monotonic seconds: when our own certificate is made anew; 0: it isn't ours */
    struct conns conns;         /* who moved last is last */
    size_t count, held;
    unsigned of_peer[PEERS]; /* connections */
    bool ending;
    bool expired; /* it was told */
    unsigned long verdicts[K8S_VERDICTS], http_errors, evicted, timeouts, tls_errors, file_errors;
};

static time_t seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec;
}

/* --- certificates --- */

static char *read_text(const char *path)
{
    BIO *b = BIO_new_file(path, "r");
    char *text = xmalloc(65537);
    int n = b ? BIO_read(b, text, 65536) : -1;

    BIO_free(b);
    ERR_clear_error();
    if (n <= 0) {
        free(text);
        return NULL;
    }
    text[n] = '\0';
    return text;
}

static bool load_pair(SSL_CTX *ctx, const struct k8s_pair *p)
{
    BIO *c = BIO_new_mem_buf(p->cert, -1), *k = BIO_new_mem_buf(p->key, -1);
    X509 *x = c ? PEM_read_bio_X509(c, NULL, NULL, NULL) : NULL;
    EVP_PKEY *key = k ? PEM_read_bio_PrivateKey(k, NULL, NULL, NULL) : NULL;
    bool ok = x && key && SSL_CTX_use_certificate(ctx, x) == 1 && SSL_CTX_use_PrivateKey(ctx, key) == 1;

    X509_free(x);
    EVP_PKEY_free(key);
    BIO_free(c);
    BIO_free(k);
    return ok;
}

static int no_passphrase(char *buf, int size, int writing, void *ctx)
{
    return 0; /* OpenSSL would ask on the terminal */
}

/* A certificate by our CA. */
static bool make_own(struct server *s, SSL_CTX *ctx)
{
    const struct k8s_server_options *o = s->o;
    struct k8s_pair ca = {.cert = read_text(o->ca), .key = read_text(o->ca_key)}, own = {0};
    char *names[] = {xasprintf("%s.%s.svc", o->policy.app, o->policy.ns), NULL};
    bool ok = ca.cert && ca.key && k8s_cert_issue(&ca, (const char *const *)names, K8S_SERVER_DAYS, &own) == 0 &&
              load_pair(ctx, &own);

    if (!ok)
        log_error("%s, %s: they are no CA that can sign now", o->ca, o->ca_key);
    k8s_pair_clear(&ca);
    k8s_pair_clear(&own);
    free(names[0]);
    return ok;
}

static bool expired(const SSL_CTX *ctx)
{
    const X509 *x = SSL_CTX_get0_certificate(ctx);

    return x && X509_cmp_current_time(X509_get0_notAfter(x)) < 0;
}

/* What is in the files now, for connections from now on. Keeps what there is if it can't be used. */
static bool load(struct server *s)
{
    const struct k8s_server_options *o = s->o;
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    bool ok = ctx && SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);

    if (ok) {
        SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
        SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION);
        SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
        /* Connections are kept; API servers don't resume sessions. */
        SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
        SSL_CTX_set_num_tickets(ctx, 0);
        if (o->ca_key) {
            ok = make_own(s, ctx);
        } else {
            ok = SSL_CTX_use_certificate_chain_file(ctx, o->cert) == 1 &&
                 SSL_CTX_use_PrivateKey_file(ctx, o->key, SSL_FILETYPE_PEM) == 1 && SSL_CTX_check_private_key(ctx) == 1;
            if (!ok) {
                const char *why = ERR_reason_error_string(ERR_peek_error());

                log_error("%s, %s: can't load them%s%s", o->cert, o->key, why ? ": " : "", why ? why : "");
            } else if (expired(ctx)) {
                log_error("%s: the certificate has expired", o->cert);
                ok = false;
            }
        }
    }
    ERR_clear_error();
    if (!ok) {
        SSL_CTX_free(ctx);
        s->file_errors++;
        return false;
    }
    SSL_CTX_free(s->tls); /* connections keep theirs */
    s->tls = ctx;
    s->expired = false;
    s->renew = o->ca_key ? seconds() + K8S_SERVER_DAYS * 86400L * 2 / 3 : 0;
    return true;
}

static bool changed(struct file_state *was, const char *path)
{
    struct stat st;
    struct file_state is = {0};

    if (stat(path, &st) == 0)
        is = (struct file_state){.changed = st.st_mtim, .inode = st.st_ino, .size = st.st_size};
    if (is.inode == was->inode && is.size == was->size && is.changed.tv_sec == was->changed.tv_sec &&
        is.changed.tv_nsec == was->changed.tv_nsec)
        return false;
    *was = is;
    return true;
}

static bool files_changed(struct server *s)
{
    const struct k8s_server_options *o = s->o;
    bool one = changed(&s->files[0], o->ca_key ? o->ca : o->cert);

    return changed(&s->files[1], o->ca_key ? o->ca_key : o->key) || one;
}

static void on_look(evutil_socket_t fd, short what, void *arg)
{
    struct server *s = arg;

    if (files_changed(s)) {
        if (load(s))
            log_info("the certificate was read again");
    } else if (s->renew && seconds() >= s->renew && load(s)) {
        log_info("the certificate was made anew");
    } else if (!s->expired && expired(s->tls)) {
        s->expired = true;
        s->file_errors++;
        log_error("the certificate has expired: the API server doesn't ask any more");
    }
    s->file_errors += k8s_namespaces_read(s->o->namespaces);
}

/* --- connections --- */

static void set_deadline(struct conn *c, int s)
{
    struct timeval tv = {.tv_sec = s};

    evtimer_add(c->deadline, &tv);
}

static void release(struct conn *c)
{
    c->s->held -= c->held;
    c->held = 0;
    buf_free(&c->beginning);
}

static void close_conn(struct conn *c)
{
    struct server *s = c->s;

    TAILQ_REMOVE(&s->conns, c, link);
    s->count--;
    s->of_peer[c->peer]--;
    release(c);
    event_free(c->deadline);
    bufferevent_free(c->bev);
    free(c);
    if (s->ending && !s->listener && !s->count)
        event_base_loopbreak(s->base);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
    struct conn *c = arg;

    if (c->busy)
        c->s->timeouts++;
    close_conn(c);
}

static void answer(struct conn *c, const char *status, const char *type, const char *body, size_t len)
{
    struct evbuffer *out = bufferevent_get_output(c->bev);

    if (c->s->ending)
        c->last = true;
    evbuffer_add_printf(out, "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s\r\n", status, type, len,
                        c->last ? "Connection: close\r\n" : "");
    evbuffer_add(out, body, len);
    c->closing = c->last;
    c->busy = false;
    set_deadline(c, REQUEST_S);
}

static void answer_text(struct conn *c, const char *status, const char *text)
{
    answer(c, status, "text/plain; charset=utf-8", text, strlen(text));
}

static void answer_review(struct conn *c, const char *status, const char *body, size_t len, size_t whole)
{
    struct server *s = c->s;
    struct buf b = BUF_INIT;

    s->verdicts[k8s_review(body, len, whole, &s->o->policy, k8s_namespaces_for, s->o->namespaces, &b)]++;
    answer(c, status, "application/json", b.p, b.len);
    buf_free(&b);
}

static void answer_metrics(struct conn *c)
{
    static const char *const results[K8S_VERDICTS] = {"patched", "unchanged", "malformed", "too_large"};
    const struct server *s = c->s;
    struct buf b = BUF_INIT;

    buf_str(&b, "# TYPE scope_webhook_reviews_total counter\n");
    for (int i = 0; i < K8S_VERDICTS; i++)
        buf_printf(&b, "scope_webhook_reviews_total{result=\"%s\"} %lu\n", results[i], s->verdicts[i]);
    buf_str(&b, "# TYPE scope_webhook_failures_total counter\n");
    buf_printf(&b, "scope_webhook_failures_total{reason=\"http\"} %lu\n", s->http_errors);
    buf_printf(&b, "scope_webhook_failures_total{reason=\"tls\"} %lu\n", s->tls_errors);
    buf_printf(&b, "scope_webhook_failures_total{reason=\"timeout\"} %lu\n", s->timeouts);
    buf_printf(&b, "scope_webhook_failures_total{reason=\"too_many_connections\"} %lu\n", s->evicted);
    buf_printf(&b, "scope_webhook_failures_total{reason=\"files\"} %lu\n", s->file_errors);
    answer(c, "200 OK", "text/plain; version=0.0.4; charset=utf-8", b.p, b.len);
    buf_free(&b);
}

static void respond(struct conn *c, const char *body, size_t len, size_t whole)
{
    if (strcmp(c->path, "/mutate") == 0)
        c->post ? answer_review(c, "200 OK", body, len, whole)
                : answer_text(c, "405 Method Not Allowed", "POST only\n");
    else if (c->post)
        answer_text(c, "404 Not Found", "there is no such page\n");
    else if (strcmp(c->path, "/healthz") == 0 || strcmp(c->path, "/readyz") == 0)
        answer_text(c, "200 OK", "ok\n");
    else if (strcmp(c->path, "/metrics") == 0)
        answer_metrics(c);
    else
        answer_text(c, "404 Not Found", "there is no such page\n");
}

/* --- requests --- */

/* What can't be read on from: an answer all the same, and the end. */
static void give_up(struct conn *c, const char *status)
{
    struct evbuffer *in = bufferevent_get_input(c->bev);

    c->s->http_errors++;
    c->last = true;
    answer_review(c, status, "", 0, 0);
    evbuffer_drain(in, evbuffer_get_length(in));
}

static bool has_word(const char *value, const char *word)
{
    size_t len = strlen(word), n;

    for (const char *p = value; *p; p += n) {
        p += strspn(p, ", \t");
        n = strcspn(p, ", \t");
        if (n == len && strncasecmp(p, word, n) == 0)
            return true;
    }
    return false;
}

/* Digits only (RFC 9110, 8.6); -1 for others, and for more than 18 of them. */
static long long number(const char *text)
{
    size_t n = strspn(text, "0123456789");

    return n && n < 19 && text[n + strspn(text + n, " \t")] == '\0' ? strtoll(text, NULL, 10) : -1;
}

/* Takes a head, whose lines end with CRLF, apart; changes it. NULL or the status of a refusal. */
static const char *parse_head(struct conn *c, char *head)
{
    char *line = head, *next, *path, *version;
    long long length = -1;

    next = strstr(line, "\r\n");
    *next = '\0';
    path = strchr(line, ' ');
    version = path ? strchr(path + 1, ' ') : NULL;
    if (!version || (strcmp(version + 1, "HTTP/1.1") != 0 && strcmp(version + 1, "HTTP/1.0") != 0))
        return "400 Bad Request";
    *path++ = *version++ = '\0';
    path[strcspn(path, "?")] = '\0';
    c->last = strcmp(version, "HTTP/1.0") == 0;
    c->post = strcmp(line, "POST") == 0;
    if (!c->post && strcmp(line, "GET") != 0)
        return "405 Method Not Allowed";
    snprintf(c->path, sizeof(c->path), "%s", strlen(path) < sizeof(c->path) ? path : "");
    for (line = next + 2; *line; line = next + 2) {
        char *colon = strchr(line, ':'), *value;

        next = strstr(line, "\r\n");
        *next = '\0';
        if (!colon || colon == line || strcspn(line, " \t") < (size_t)(colon - line))
            return "400 Bad Request";
        *colon = '\0';
        value = colon + 1 + strspn(colon + 1, " \t");
        if (strcasecmp(line, "content-length") == 0) {
            if (length >= 0 || (length = number(value)) < 0)
                return "400 Bad Request";
        } else if (strcasecmp(line, "transfer-encoding") == 0) {
            return "411 Length Required";
        } else if (strcasecmp(line, "connection") == 0) {
            c->last |= has_word(value, "close");
        } else if (strcasecmp(line, "expect") == 0 && has_word(value, "100-continue")) {
            bufferevent_write(c->bev, "HTTP/1.1 100 Continue\r\n\r\n", 25);
        }
    }
    if (c->post && length < 0)
        return "411 Length Required";
    if (length > (long long)LENGTH_MAX)
        return "413 Content Too Large";
    c->length = length < 0 ? 0 : (size_t)length;
    return NULL;
}

/* A request's head, if all of it is here. False: not yet, or it was refused. */
static bool read_head(struct conn *c)
{
    struct evbuffer *in = bufferevent_get_input(c->bev);
    struct evbuffer_ptr end;
    const char *status;
    char *head;
    size_t len;

    while (evbuffer_get_length(in) >= 2 && memcmp(evbuffer_pullup(in, 2), "\r\n", 2) == 0)
        evbuffer_drain(in, 2); /* RFC 9112, 2.2 */
    end = evbuffer_search(in, "\r\n\r\n", 4, NULL);
    if (end.pos < 0 || end.pos > (ssize_t)HEAD_MAX) {
        if (end.pos > 0 || evbuffer_get_length(in) > HEAD_MAX)
            give_up(c, "431 Request Header Fields Too Large");
        return false;
    }
    len = (size_t)end.pos + 2; /* without the empty line */
    head = xmalloc(len + 1);
    evbuffer_remove(in, head, len);
    evbuffer_drain(in, 2);
    head[len] = '\0';
    status = strlen(head) == len ? parse_head(c, head) : "400 Bad Request";
    free(head);
    if (status) {
        give_up(c, status);
        return false;
    }
    c->in_body = true;
    c->left = 0;
    c->discard = c->length > K8S_REVIEW_MAX || (c->length > SMALL && c->s->held + c->length > HELD_MAX);
    if (c->discard) {
        c->left = c->length;
    } else if (c->length > SMALL) {
        c->held = c->length;
        c->s->held += c->length;
    }
    return true;
}

/* The body, if all of it is here; then the answer. */
static bool read_body(struct conn *c)
{
    struct evbuffer *in = bufferevent_get_input(c->bev);
    size_t have = evbuffer_get_length(in);

    if (c->discard) {
        size_t n = have < c->left ? have : c->left, room = BEGINNING - c->beginning.len, keep = n < room ? n : room;

        if (keep)
            c->beginning.len += (size_t)evbuffer_remove(in, buf_room(&c->beginning, keep), keep);
        evbuffer_drain(in, n - keep);
        c->left -= n;
        if (c->left)
            return false;
        respond(c, c->beginning.p, c->beginning.len, c->length > K8S_REVIEW_MAX ? c->length : K8S_REVIEW_MAX + 1);
    } else {
        if (have < c->length)
            return false;
        respond(c, c->length ? (const char *)evbuffer_pullup(in, (ssize_t)c->length) : "", c->length, c->length);
        evbuffer_drain(in, c->length);
    }
    c->in_body = false;
    release(c);
    return true;
}

static void on_read(struct bufferevent *bev, void *arg)
{
    struct conn *c = arg;
    struct evbuffer *in = bufferevent_get_input(bev);

    if (c->closing) {
        evbuffer_drain(in, evbuffer_get_length(in));
        return;
    }
    TAILQ_REMOVE(&c->s->conns, c, link);
    TAILQ_INSERT_TAIL(&c->s->conns, c, link);
    /* The next one waits until the peer has read the answer. */
    while (!c->closing && !evbuffer_get_length(bufferevent_get_output(bev)) && evbuffer_get_length(in)) {
        if (!c->in_body && !read_head(c))
            break;
        if (!read_body(c))
            break;
    }
    if (!c->closing) /* as much as is wanted next: more isn't read from the peer */
        bufferevent_setwatermark(bev, EV_READ, 0, c->in_body && !c->discard ? c->length + HEAD_MAX : HEAD_MAX * 4);
    if ((evbuffer_get_length(in) || c->in_body) && !c->busy && !c->closing) {
        c->busy = true;
        set_deadline(c, REQUEST_S);
    }
}

static void on_written(struct bufferevent *bev, void *arg)
{
    struct conn *c = arg;

    if (c->closing) {
        if (!c->draining) {
            c->draining = true;
            SSL_shutdown(bufferevent_openssl_get_ssl(bev));
            shutdown(bufferevent_getfd(bev), SHUT_WR);
            set_deadline(c, DRAIN_S);
        }
        return;
    }
    if (!c->in_body && !evbuffer_get_length(bufferevent_get_input(bev)))
        set_deadline(c, IDLE_S);
    else
        on_read(bev, c);
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
    struct conn *c = arg;

    if (what & BEV_EVENT_CONNECTED) {
        set_deadline(c, REQUEST_S);
        return;
    }
    if (what & BEV_EVENT_ERROR && bufferevent_get_openssl_error(bev))
        c->s->tls_errors++;
    ERR_clear_error();
    close_conn(c);
}

/* All of one IPv4 address, or of one IPv6 network (/64), are of one class; a few others may be, too. */
static unsigned class_of(const struct sockaddr *peer)
{
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)peer;
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)peer;
    const unsigned char *at = (const unsigned char *)&v4->sin_addr;
    size_t n = 4;
    uint32_t hash = UINT32_C(2166136261);

    if (peer->sa_family == AF_INET6) {
        bool mapped = IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr);

        at = v6->sin6_addr.s6_addr + (mapped ? 12 : 0);
        n = mapped ? 4 : 8;
    }
    while (n--)
        hash = (hash ^ *at++) * UINT32_C(16777619); /* FNV-1a */
    return (hash ^ hash >> 16) % PEERS;
}

/* Makes room: of the class that has most connections, the one that hasn't moved for longest. So who opens thousands of
 * them takes them from itself. */
static void evict(struct server *s)
{
    unsigned most = 0;
    struct conn *c;

    for (unsigned i = 1; i < PEERS; i++)
        if (s->of_peer[i] > s->of_peer[most])
            most = i;
    TAILQ_FOREACH(c, &s->conns, link)
    {
        if (c->peer == most)
            break;
    }
    s->evicted++;
    if (c)
        close_conn(c);
}

static void on_accept(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *peer, int len, void *arg)
{
    struct server *s = arg;
    struct conn *c;
    SSL *ssl = SSL_new(s->tls);
    int on = 1;

    if (!ssl) {
        evutil_closesocket(fd);
        return;
    }
    if (s->count >= CONNECTIONS_MAX)
        evict(s);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    c = xcalloc(1, sizeof(*c));
    c->s = s;
    c->peer = class_of(peer);
    c->bev = bufferevent_openssl_socket_new(s->base, fd, ssl, BUFFEREVENT_SSL_ACCEPTING,
                                            BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS);
    if (!c->bev) {
        SSL_free(ssl);
        evutil_closesocket(fd);
        free(c);
        return;
    }
    bufferevent_openssl_set_allow_dirty_shutdown(c->bev, 1);
    c->deadline = evtimer_new(s->base, on_deadline, c);
    TAILQ_INSERT_TAIL(&s->conns, c, link);
    s->count++;
    s->of_peer[c->peer]++;
    bufferevent_setcb(c->bev, on_read, on_written, on_event, c);
    bufferevent_setwatermark(c->bev, EV_READ, 0, HEAD_MAX * 4);
    bufferevent_enable(c->bev, EV_READ | EV_WRITE);
    set_deadline(c, REQUEST_S);
}

/* --- the whole --- */

static void on_end(evutil_socket_t fd, short what, void *arg)
{
    struct server *s = arg;
    struct timeval tv = {.tv_sec = END_S};
    struct conn *c, *next;

    if (!s->listener) {
        event_base_loopbreak(s->base);
        return;
    }
    evconnlistener_free(s->listener);
    s->listener = NULL;
    for (c = TAILQ_FIRST(&s->conns); c; c = next) {
        next = TAILQ_NEXT(c, link);
        if (!c->in_body && !evbuffer_get_length(bufferevent_get_input(c->bev)) &&
            !evbuffer_get_length(bufferevent_get_output(c->bev)))
            close_conn(c);
    }
    if (s->count)
        evtimer_add(s->end, &tv);
    else
        event_base_loopbreak(s->base);
}

/* SIGTERM: new connections are still taken for a while, and all are closed behind an answer. SIGINT, or once more: no
 * new ones. */
static void on_signal(evutil_socket_t sig, short what, void *arg)
{
    struct server *s = arg;
    struct timeval tv = {.tv_sec = sig == SIGTERM && !s->ending ? LINGER_S : 0};

    s->ending = true;
    evtimer_add(s->end, &tv);
}

static int listen_at(struct server *s)
{
    struct sockaddr_in6 v6 = {
        .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)s->o->port), .sin6_addr = in6addr_any};
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)s->o->port)};
    unsigned flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE;
    const char *address = s->o->address;
    bool only_v4 = address && inet_pton(AF_INET, address, &v4.sin_addr) == 1;

    if (address && !only_v4 && inet_pton(AF_INET6, address, &v6.sin6_addr) != 1)
        return -EINVAL;
    if (!only_v4) /* IPv4, too, unless the host is set otherwise */
        s->listener = evconnlistener_new_bind(s->base, on_accept, s, flags, 128, (struct sockaddr *)&v6, sizeof(v6));
    if (!s->listener && (only_v4 || !address))
        s->listener = evconnlistener_new_bind(s->base, on_accept, s, flags, 128, (struct sockaddr *)&v4, sizeof(v4));
    return s->listener ? 0 : -(errno ? errno : EIO);
}

static unsigned port_of(const struct server *s)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } a = {.v6 = {0}};
    socklen_t len = sizeof(a);

    if (getsockname(evconnlistener_get_fd(s->listener), &a.any, &len) < 0)
        return 0;
    return ntohs(a.any.sa_family == AF_INET ? a.v4.sin_port : a.v6.sin6_port);
}

int k8s_serve(const struct k8s_server_options *o)
{
    static const int ends[] = {SIGTERM, SIGINT};
    struct server s = {.o = o};
    struct timeval look = {.tv_sec = LOOK_S};
    int rc;

    signal(SIGPIPE, SIG_IGN);
    TAILQ_INIT(&s.conns);
    k8s_namespaces_read(o->namespaces);
    files_changed(&s);
    if (!load(&s))
        return -EINVAL;
    s.base = event_base_new();
    if (!s.base) {
        SSL_CTX_free(s.tls);
        return -ENOMEM;
    }
    s.look = event_new(s.base, -1, EV_PERSIST, on_look, &s);
    s.end = evtimer_new(s.base, on_end, &s);
    for (size_t i = 0; i < 2; i++) {
        s.signals[i] = evsignal_new(s.base, ends[i], on_signal, &s);
        evsignal_add(s.signals[i], NULL);
    }
    evtimer_add(s.look, &look);
    rc = listen_at(&s);
    if (rc < 0) {
        log_error("port %u: %s", o->port, strerror(-rc));
    } else {
        log_info("listening on port %u", port_of(&s));
        event_base_dispatch(s.base);
    }
    for (struct conn *c = TAILQ_FIRST(&s.conns), *next; c; c = next) {
        next = TAILQ_NEXT(c, link);
        close_conn(c);
    }
    if (s.listener)
        evconnlistener_free(s.listener);
    event_free(s.look);
    event_free(s.end);
    for (size_t i = 0; i < 2; i++)
        event_free(s.signals[i]);
    event_base_free(s.base);
    SSL_CTX_free(s.tls);
    return rc;
}
