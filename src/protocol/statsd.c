/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/statsd.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"

#define NUMBER_MAX 64 /* characters */

struct side {
    struct buf line;  /* what has come of it */
    uint64_t skipped; /* bytes of a line that isn't read any more, up to its newline */
    bool skipping;
    bool gap; /* it is skipped for what was not captured, not for its length */
};

struct statsd {
    const struct statsd_sink *sink;
    void *owner;
    struct side sides[PROTO_DIRS];
};

struct statsd *statsd_new(const struct statsd_sink *sink, void *owner, bool joined)
{
    struct statsd *s = xcalloc(1, sizeof(*s));

    s->sink = sink;
    s->owner = owner;
    for (int dir = 0; dir < PROTO_DIRS; dir++)
        s->sides[dir].skipping = s->sides[dir].gap = joined;
    return s;
}

/* Lines ------------------------------------------------------------------ */

static const char *const type_texts[] = {"c", "g", "ms", "s", "h", "d"};

const char *statsd_type_text(enum statsd_type type)
{
    return type_texts[type];
}

/* Takes what stands before the next separator, and that. Without one: all, and rest->p becomes NULL. */
static struct slice take_field(struct slice *rest, char separator)
{
    const char *at = memchr(rest->p, separator, rest->len);
    struct slice field = *rest;

    if (!at) {
        *rest = (struct slice){NULL, 0};
        return field;
    }
    field.len = (size_t)(at - rest->p);
    rest->p = at + 1;
    rest->len -= field.len + 1;
    return field;
}

static size_t digits(const char *p, const char *stop)
{
    const char *begin = p;

    while (p < stop && *p >= '0' && *p <= '9')
        p++;
    return (size_t)(p - begin);
}

/* A decimal number: no white space, no names of infinities, no hexadecimal. */
static bool parse_number(struct slice s, double *ret)
{
    char text[NUMBER_MAX + 1];
    const char *p = s.p, *stop = s.p + s.len;
    size_t whole, fraction = 0;

    if (s.len == 0 || s.len > NUMBER_MAX)
        return false;
    p += *p == '+' || *p == '-';
    whole = digits(p, stop);
    p += whole;
    if (p < stop && *p == '.') {
        fraction = digits(p + 1, stop);
        p += 1 + fraction;
    }
    if (whole + fraction == 0)
        return false;
    if (p < stop && (*p == 'e' || *p == 'E')) {
        size_t exponent;

        p++;
        p += p < stop && (*p == '+' || *p == '-');
        exponent = digits(p, stop);
        if (exponent == 0 || exponent > 3)
            return false;
        p += exponent;
    }
    if (p != stop)
        return false;
    memcpy(text, s.p, s.len);
    text[s.len] = 0;
    *ret = strtod(text, NULL);
    return isfinite(*ret);
}

static bool parse_type(struct slice s, enum statsd_type *ret)
{
    for (size_t i = 0; i < sizeof(type_texts) / sizeof(*type_texts); i++)
        if (strlen(type_texts[i]) == s.len && memcmp(type_texts[i], s.p, s.len) == 0) {
            *ret = (enum statsd_type)i;
            return true;
        }
    return false;
}

static void parse_tags(struct slice list, struct statsd_tag tags[STATSD_TAGS_MAX], struct statsd_metric *m)
{
    while (list.p) {
        struct slice value = take_field(&list, ','), key;

        if (value.len == 0)
            continue;
        if (m->tag_count == STATSD_TAGS_MAX) {
            m->cut = true;
            break;
        }
        key = take_field(&value, ':');
        tags[m->tag_count++] = (struct statsd_tag){key, value};
    }
}

static bool text_only(struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.p[i] < ' ' || s.p[i] == 0x7f)
            return false;
    return true;
}

struct values {
    struct slice rest; /* separated by colons */
    bool text;         /* a set has a single one, in which colons are as good as other characters */
};

static bool next_value(struct values *v, struct statsd_metric *m)
{
    m->text = v->text ? v->rest : take_field(&v->rest, ':');
    if (v->text)
        v->rest.p = NULL;
    m->relative = m->type == STATSD_GAUGE && m->text.len && (*m->text.p == '+' || *m->text.p == '-');
    m->value = 0;
    return v->text ? m->text.len > 0 : parse_number(m->text, &m->value);
}

/* A line without its newline. values: what it has, for next_value(); the first of them is in m already. */
static bool parse_line(struct slice line, struct statsd_metric *m, struct values *values,
                       struct statsd_tag tags[STATSD_TAGS_MAX])
{
    struct values all;
    struct statsd_metric each;

    *m = (struct statsd_metric){.rate = 1, .tags = tags};
    if (line.len > STATSD_LINE_MAX || !text_only(line))
        return false;
    m->name = take_field(&line, ':');
    if (m->name.len == 0 || memchr(m->name.p, '|', m->name.len) || !line.p)
        return false;
    values->rest = take_field(&line, '|');
    if (!line.p)
        return false;
    if (!parse_type(take_field(&line, '|'), &m->type))
        return false;
    values->text = m->type == STATSD_SET;
    while (line.p) {
        struct slice field = take_field(&line, '|');

        if (field.len == 0)
            return false;
        if (*field.p == '@') {
            if (!parse_number((struct slice){field.p + 1, field.len - 1}, &m->rate) || m->rate <= 0 || m->rate > 1)
                return false;
        } else if (*field.p == '#') {
            parse_tags((struct slice){field.p + 1, field.len - 1}, tags, m);
        }
    }
    /* All values are looked at before the first is told. */
    each = *m;
    for (all = *values; all.rest.p;)
        if (!next_value(&all, &each))
            return false;
    return next_value(values, m);
}

/* A line without its newline. */
static void take_line(struct statsd *s, enum proto_dir dir, const uint8_t *p, size_t len, uint64_t time_ns)
{
    struct statsd_tag tags[STATSD_TAGS_MAX];
    struct statsd_metric m;
    struct values values;

    if (len && p[len - 1] == '\r')
        len--;
    if (len == 0)
        return;
    if (!parse_line((struct slice){(const char *)p, len}, &m, &values, tags)) {
        if (s->sink->other)
            s->sink->other(s->owner, dir, 1);
        return;
    }
    do {
        if (s->sink->metric)
            s->sink->metric(s->owner, dir, &m, time_ns);
    } while (values.rest.p && next_value(&values, &m));
}

/* Datagrams and streams -------------------------------------------------- */

static void lost(struct statsd *s, enum proto_dir dir, uint64_t count)
{
    if (count && s->sink->lost)
        s->sink->lost(s->owner, dir, count);
}

/* What was skipped has ended, or the line that was under way has to be skipped from here on. */
static void stop_line(struct statsd *s, enum proto_dir dir, bool skipping, bool gap)
{
    struct side *side = &s->sides[dir];

    if (side->skipping && side->gap)
        lost(s, dir, side->skipped);
    else if (side->skipping && s->sink->other)
        s->sink->other(s->owner, dir, 1);
    side->skipped = side->line.len;
    buf_free(&side->line);
    side->skipping = skipping;
    side->gap = gap;
}

/* Whole lines; returns the bytes that they have. */
static size_t take_lines(struct statsd *s, enum proto_dir dir, const uint8_t *p, size_t len, uint64_t time_ns)
{
    const uint8_t *newline;
    size_t at = 0;

    while (at < len && (newline = memchr(p + at, '\n', len - at))) {
        take_line(s, dir, p + at, (size_t)(newline - p) - at, time_ns);
        at = (size_t)(newline - p) + 1;
    }
    return at;
}

void statsd_datagram(struct statsd *s, enum proto_dir dir, const uint8_t *data, size_t captured, size_t size,
                     uint64_t time_ns)
{
    size_t done;

    if (captured > size)
        captured = size;
    if (captured == 0) {
        lost(s, dir, size);
        return;
    }
    done = take_lines(s, dir, data, captured, time_ns);
    if (captured < size)
        lost(s, dir, size - done);
    else
        take_line(s, dir, data + done, size - done, time_ns);
}

void statsd_feed(struct statsd *s, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    struct side *side = &s->sides[dir];

    if (len && !data) {
        if (!side->skipping || !side->gap)
            stop_line(s, dir, true, true);
        side->skipped += len;
        return;
    }
    while (len) {
        const uint8_t *newline = memchr(data, '\n', len);
        size_t n = newline ? (size_t)(newline - data) + 1 : (size_t)len;

        if (side->skipping) {
            side->skipped += n;
            if (newline)
                stop_line(s, dir, false, false);
        } else if (side->line.len + n - (newline != NULL) > STATSD_LINE_MAX + 1) { /* + 1: CR */
            if (newline) {
                buf_free(&side->line);
                if (s->sink->other)
                    s->sink->other(s->owner, dir, 1);
            } else {
                stop_line(s, dir, true, false);
            }
        } else if (newline && side->line.len == 0) {
            take_line(s, dir, data, n - 1, time_ns);
        } else {
            buf_add(&side->line, data, n);
            if (newline) {
                take_line(s, dir, (const uint8_t *)side->line.p, side->line.len - 1, time_ns);
                buf_free(&side->line);
            }
        }
        data += n;
        len -= n;
    }
}

void statsd_end(struct statsd *s, enum proto_dir dir, uint64_t time_ns)
{
    struct side *side = &s->sides[dir];

    if (side->line.len)
        take_line(s, dir, (const uint8_t *)side->line.p, side->line.len, time_ns);
    buf_free(&side->line);
    stop_line(s, dir, false, false);
}

void statsd_free(struct statsd *s)
{
    if (!s)
        return;
    for (int dir = 0; dir < PROTO_DIRS; dir++) {
        lost(s, dir, s->sides[dir].line.len);
        buf_free(&s->sides[dir].line);
        stop_line(s, dir, false, false);
    }
    free(s);
}

int statsd_detect(const uint8_t *data, size_t len, bool whole)
{
    struct statsd_tag tags[STATSD_TAGS_MAX];
    struct statsd_metric m;
    struct values values;
    const uint8_t *newline = len ? memchr(data, '\n', len) : NULL;
    size_t line = newline ? (size_t)(newline - data) : len;

    if (line && data[line - 1] == '\r')
        line--;
    if (newline || whole)
        return line && parse_line((struct slice){(const char *)data, line}, &m, &values, tags);
    return line > STATSD_LINE_MAX || (line && !text_only((struct slice){(const char *)data, line})) ? 0 : -1;
}
