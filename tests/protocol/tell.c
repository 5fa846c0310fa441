/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tell dns-udp|dns-tcp|tls CHUNK
 *
 * Decodes a recorded conversation and prints what is told, one JSON object a
 * line. Standard input: a line for each piece that passed: "tx" or "rx" (as the
 * client sees it), its time in nanoseconds, its bytes as hexadecimal digits.
 * CHUNK: bytes of the pieces that the decoder gets, 0: as they were recorded.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "protocol/dns.h"
#include "protocol/tls.h"

static void member(struct buf *b, const char *key)
{
    buf_str(b, b->len > 1 ? "," : "");
    buf_json_str(b, key);
    buf_char(b, ':');
}

static void add_int(struct buf *b, const char *key, int64_t v)
{
    member(b, key);
    buf_int(b, v);
}

static void add_text(struct buf *b, const char *key, const char *text)
{
    member(b, key);
    if (text)
        buf_json_str(b, text);
    else
        buf_str(b, "null");
}

static void add_slice(struct buf *b, const char *key, struct slice s)
{
    member(b, key);
    if (s.p)
        buf_json(b, s.p, s.len);
    else
        buf_str(b, "null");
}

static void print(struct buf *b)
{
    buf_str(b, "}");
    puts(buf_cstr(b));
    buf_free(b);
}

/* DNS --------------------------------------------------------------------- */

static void add_message(struct buf *b, const struct dns_message *m, const struct dns_transit *way)
{
    char word[DNS_WORD];

    add_text(b, "dir", way->dir == PROTO_TX ? "tx" : "rx");
    add_int(b, "id", m->id);
    add_text(b, "rcode", dns_rcode_text(m->rcode, word));
    add_int(b, "truncated", m->truncated);
    add_int(b, "rd", m->recursion_desired);
    add_int(b, "edns_size", m->edns ? m->edns_size : -1);
    add_int(b, "malformed", m->malformed);
    add_int(b, "ttl", m->ttl_known ? (int64_t)m->ttl : -1);
    if (m->question_count) {
        add_slice(b, "name", m->questions[0].name);
        add_text(b, "type", dns_type_text(m->questions[0].type, word));
    }
    member(b, "answers");
    buf_char(b, '[');
    for (size_t i = 0; i < m->answer_count; i++) {
        buf_str(b, i ? ",[" : "[");
        buf_json(b, m->answers[i].name.p, m->answers[i].name.len);
        buf_printf(b, ",%u,", m->answers[i].ttl);
        buf_json_str(b, dns_type_text(m->answers[i].type, word));
        buf_char(b, ',');
        buf_json(b, m->answers[i].text.p, m->answers[i].text.len);
        buf_char(b, ']');
    }
    buf_char(b, ']');
}

static void *on_query(void *owner, const struct dns_message *m, const struct dns_transit *way)
{
    struct buf b = BUF_INIT;

    buf_char(&b, '{');
    add_text(&b, "told", "query");
    add_message(&b, m, way);
    print(&b);
    return (void *)(uintptr_t)(m->id + 1u);
}

static void on_response(void *owner, const struct dns_message *m, const struct dns_transit *way,
                        const struct dns_exchange *e)
{
    struct buf b = BUF_INIT;

    buf_char(&b, '{');
    add_text(&b, "told", "response");
    add_message(&b, m, way);
    add_int(&b, "matched", e && e->kept == (void *)(uintptr_t)(m->id + 1u));
    add_int(&b, "duration_ns", e ? (int64_t)e->duration_ns : -1);
    add_int(&b, "transmissions", e ? e->transmissions : 0);
    print(&b);
}

static void on_unanswered(void *owner, const struct dns_exchange *e, enum dns_end why)
{
    struct buf b = BUF_INIT;

    buf_char(&b, '{');
    add_text(&b, "told", "unanswered");
    add_int(&b, "transmissions", e->transmissions);
    print(&b);
}

static void on_note(void *owner, enum dns_note what, uint64_t count)
{
    struct buf b = BUF_INIT;

    buf_char(&b, '{');
    add_text(&b, "told", what == DNS_NOTE_LOST ? "lost" : "malformed");
    print(&b);
}

static const struct dns_sink dns_sink = {on_query, on_response, on_unanswered, on_note};

/* TLS --------------------------------------------------------------------- */

static void on_client_hello(void *owner, const struct tls_client_hello *h, uint64_t time_ns)
{
    struct buf b = BUF_INIT;

    buf_char(&b, '{');
    add_text(&b, "told", "client");
    add_text(&b, "dir", h->dir == PROTO_TX ? "tx" : "rx");
    add_text(&b, "version", tls_version_text(h->version));
    add_slice(&b, "name", h->server_name);
    add_int(&b, "ticket", h->ticket);
    member(&b, "alpn");
    buf_char(&b, '[');
    for (size_t i = 0; i < h->alpn_count; i++) {
        buf_str(&b, i ? "," : "");
        buf_json(&b, h->alpn[i].p, h->alpn[i].len);
    }
    buf_char(&b, ']');
    print(&b);
}

static void on_server_hello(void *owner, const struct tls_server_hello *h, uint64_t time_ns, uint64_t duration_ns)
{
    static const char *const words[] = {"unknown", "new", "resumed"};
    struct buf b = BUF_INIT;

    buf_char(&b, '{');
    add_text(&b, "told", "server");
    add_text(&b, "dir", h->dir == PROTO_TX ? "tx" : "rx");
    add_text(&b, "version", tls_version_text(h->version));
    add_text(&b, "cipher", tls_cipher_text(h->cipher));
    add_text(&b, "session", words[h->resumed]);
    add_int(&b, "retried", h->retried);
    add_slice(&b, "alpn", h->alpn);
    add_int(&b, "duration_ns", (int64_t)duration_ns);
    print(&b);
}

static void on_done(void *owner, enum tls_end why, int alert)
{
    static const char *const words[] = {"hellos", "alert", "unreadable", "closed"};
    struct buf b = BUF_INIT;

    buf_char(&b, '{');
    add_text(&b, "told", words[why]);
    add_text(&b, "alert", alert < 0 ? NULL : tls_alert_text((unsigned)alert));
    print(&b);
}

static const struct tls_sink tls_sink = {on_client_hello, on_server_hello, on_done};

/* ------------------------------------------------------------------------- */

static struct dns *dns;
static struct tls *tls;
static bool datagrams;

static void pass(enum proto_dir dir, const uint8_t *p, size_t len, size_t chunk, uint64_t now)
{
    if (datagrams) {
        if (!dns_detect(p, len))
            puts("{\"told\":\"not detected\"}");
        dns_datagram(dns, dir, 0, p, len, len, now);
        return;
    }
    for (size_t n; len; p += n, len -= n) {
        n = chunk && chunk < len ? chunk : len;
        if (tls)
            tls_feed(tls, dir, p, n, now);
        else
            dns_feed(dns, dir, p, n, now);
    }
}

static int digit(int c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int main(int argc, char **argv)
{
    char *line = NULL;
    size_t room = 0;
    uint64_t now = 0;

    if (argc != 3)
        return 2;
    datagrams = strcmp(argv[1], "dns-udp") == 0;
    if (strcmp(argv[1], "tls") == 0)
        tls = tls_new(&tls_sink, NULL);
    else
        dns = dns_new(&dns_sink, NULL, !datagrams, false);
    while (getline(&line, &room, stdin) > 0) {
        enum proto_dir dir = line[0] == 't' ? PROTO_TX : PROTO_RX;
        char *p;
        size_t n = 0;

        now = strtoull(line + 3, &p, 10);
        p++;
        for (; digit(p[2 * n]) >= 0 && digit(p[2 * n + 1]) >= 0; n++)
            p[n] = (char)(digit(p[2 * n]) << 4 | digit(p[2 * n + 1]));
        pass(dir, (const uint8_t *)p, n, strtoul(argv[2], NULL, 10), now);
    }
    free(line);
    dns_free(dns, now);
    tls_free(tls);
    return 0;
}
