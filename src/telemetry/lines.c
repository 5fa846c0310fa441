/* SPDX-License-Identifier: Apache-2.0 */
/* Output of programs, cut into lines: docs/data-model.md, "Console and file events". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "telemetry/internal.h"

#define BINARY_TEXT "-- binary data ignored --"
#define BURST_TEXT  "-- %llu bytes of binary data --"
#define WINDOW      4096 /* bytes that are judged together */
#define LINES_MAX   1024 /* descriptors per process whose last line is remembered */

static struct line *find(struct process *p, enum cfg_event_watch watch, const char *source, uint64_t channel)
{
    struct line *l, **link;
    size_t count = 0;

    for (link = &p->lines; (l = *link); link = &l->next, count++)
        if (l->channel == channel && l->watch == watch && strcmp(l->source, source) == 0)
            break;
    if (!l) {
        if (count >= LINES_MAX)
            lines_flush(p->t, p, 0, true);
        l = xcalloc(1, sizeof(*l));
        l->watch = watch;
        l->channel = channel;
        l->source = xstrdup(source);
        l->next = p->lines;
        p->lines = l;
    } else if (link != &p->lines) { /* recently used ones come first */
        *link = l->next;
        l->next = p->lines;
        p->lines = l;
    }
    return l;
}

/* Where to cut text so that the first piece has at most LINE_MAX_BYTES and no character is divided. */
static size_t piece(const char *text, size_t len)
{
    size_t n = LINE_MAX_BYTES;

    if (len <= n)
        return len;
    for (unsigned back = 0; back < 3 && ((unsigned char)text[n] & 0xc0) == 0x80; back++)
        n--;
    return ((unsigned char)text[n] & 0xc0) == 0x80 ? LINE_MAX_BYTES : n;
}

static void send_line(struct telemetry *t, struct process *p, const struct line *l, uint64_t time_ns, const char *text,
                      size_t len, const struct tm_context *trace)
{
    do {
        size_t n = piece(text, len);

        event_message(t, p, l->watch, l->source, time_ns, l->channel, text, n, trace);
        text += n;
        len -= n;
    } while (len);
}

/* The first write of what waits. */
static void begins(struct line *l, uint64_t time_ns, const struct tm_context *trace)
{
    l->time_ns = time_ns;
    l->traced = trace != NULL;
    if (trace)
        l->trace = *trace;
}

static const struct tm_context *trace_of(const struct line *l)
{
    return l->traced ? &l->trace : NULL;
}

static void send_rest(struct telemetry *t, struct process *p, struct line *l)
{
    char text[64];

    if (l->text.len)
        send_line(t, p, l, l->time_ns, l->text.p, l->text.len, trace_of(l));
    buf_free(&l->text);
    if (l->burst)
        send_line(t, p, l, l->time_ns, text, (size_t)snprintf(text, sizeof(text), BURST_TEXT, (unsigned long long)l->burst),
                  trace_of(l));
    l->burst = 0;
}

/* Anything that a terminal would not show as text? A character may be divided between two writes. */
static bool is_binary(struct line *l, const char *text, size_t len)
{
    size_t i = 0;

    while (i < len && l->missing && ((unsigned char)text[i] & 0xc0) == 0x80) {
        l->missing--;
        i++;
    }
    l->missing = 0;
    while (i < len) {
        unsigned char c = (unsigned char)text[i];
        unsigned n = utf8_sequence(text + i, len - i);

        if (n == 0) {
            unsigned need = c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
            size_t have = len - i;

            if (have >= need)
                return true;
            for (size_t k = 1; k < have; k++)
                if (((unsigned char)text[i + k] & 0xc0) != 0x80)
                    return true;
            l->missing = (uint8_t)(need - have);
            return false;
        }
        if (n == 1 && (c == 0x7f || (c < 0x20 && !(c >= 7 && c <= 13) && c != 0x1b)))
            return true;
        i += n;
    }
    return false;
}

/* Valid UTF-8, but for a character that is cut off at its end. */
static bool is_utf8(const char *text, size_t len)
{
    for (size_t i = 0, n; i < len; i += n) {
        n = utf8_sequence(text + i, len - i);
        if (!n)
            return len - i < 4;
    }
    return true;
}

/* Whether so much of it would never be in text, whatever its language and encoding, that it can't be lines: control
 * characters that no terminal acts upon. Of random bytes these are every ninth. A few, in what is text otherwise, are left
 * alone; and data don't become text by a few bytes that look like it. */
static bool is_data(const struct line *l, const char *text, size_t len)
{
    size_t odd = 0;

    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];

        odd += c == 0x7f || (c < 0x20 && !(c >= 7 && c <= 13) && c != 0x1b);
    }
    if (l->binary)
        return odd * 256 > len || (len < 256 && !is_utf8(text, len));
    return odd * 16 > len && (odd > 4 || odd * 2 > len) && len >= 16;
}

static void add_text(struct telemetry *t, struct process *p, struct line *l, uint64_t time_ns, const char *text, size_t len,
                     const struct tm_context *trace)
{
    while (len) {
        const char *newline = memchr(text, '\n', len);
        size_t n = newline ? (size_t)(newline - text) : len;

        if (newline && !l->text.len) { /* a whole line: no copy */
            send_line(t, p, l, time_ns, text, n, trace);
        } else {
            if (!l->text.len) {
                begins(l, time_ns, trace);
                l->arrived = now_ms();
            }
            buf_add(&l->text, text, n);
            if (newline)
                send_rest(t, p, l);
            for (size_t cut; l->text.len > LINE_MAX_BYTES;) {
                cut = piece(l->text.p, l->text.len);
                event_message(t, p, l->watch, l->source, l->time_ns, l->channel, l->text.p, cut,
                              trace_of(l));
                memmove(l->text.p, l->text.p + cut, l->text.len - cut);
                l->text.len -= cut;
                begins(l, time_ns, trace);
            }
        }
        n += newline ? 1 : 0;
        text += n;
        len -= n;
    }
}

/* Binary data aren't lines: a burst of them, up to the next text, is one event that says how many bytes they were. */
static void add_data(struct telemetry *t, struct process *p, struct line *l, uint64_t time_ns, size_t len,
                     const struct tm_context *trace)
{
    if (l->text.len)
        send_rest(t, p, l);
    if (!l->burst) {
        begins(l, time_ns, trace);
        l->arrived = now_ms();
    }
    l->burst += len;
}

enum tm_text lines_add(struct telemetry *t, struct process *p, enum cfg_event_watch watch, const char *source,
               uint64_t time_ns, uint64_t channel, const char *text, size_t len, uint64_t more,
               const struct tm_context *trace)
{
    struct line *l = find(p, watch, source, channel);

    if (watch == CFG_EW_CONSOLE && !t->watch[watch].allowbinary) {
        bool was = l->binary;

        l->binary = is_binary(l, text, len);
        if (l->binary) {
            l->missing = 0;
            send_rest(t, p, l);
            if (!was)
                send_line(t, p, l, time_ns, BINARY_TEXT, sizeof(BINARY_TEXT) - 1, trace);
            return TM_DATA;
        }
        add_text(t, p, l, time_ns, text, len, trace);
    } else if (more && l->binary && !is_data(l, text, len)) {
        add_data(t, p, l, time_ns, len + more, trace);
        telemetry_wake(t);
        return TM_UNSURE;
    } else {
        for (size_t n; len; text += n, len -= n) {
            n = len < WINDOW ? len : WINDOW;
            l->binary = is_data(l, text, n);
            if (l->binary) {
                add_data(t, p, l, time_ns, n, trace);
                continue;
            }
            if (l->burst)
                send_rest(t, p, l);
            add_text(t, p, l, time_ns, text, n, trace);
        }
        if (l->binary)
            l->burst += more;
    }
    if (l->text.len || l->burst)
        telemetry_wake(t);
    return l->binary ? TM_DATA : TM_LINES;
}

bool lines_flush(struct telemetry *t, struct process *p, uint64_t ms, bool done)
{
    struct line *l, *next;
    uint64_t now = now_ms();
    bool waits = false;

    for (l = p->lines; l; l = next) {
        next = l->next;
        if ((l->text.len || l->burst) && now - l->arrived >= ms)
            send_rest(t, p, l);
        if (l->text.len || l->burst)
            waits = true;
        if (done) {
            buf_free(&l->text);
            free(l->source);
            free(l);
        }
    }
    if (done)
        p->lines = NULL;
    return waits;
}
