/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics as StatsD lines: docs/data-model.md, "StatsD format". */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "event/fields.h"
#include "sink/internal.h"
#include "sink/ndjson.h"

#define PARTS_MAX 120 /* tags of a line */

struct statsd_sink {
    struct line_sink lines;
    char *prefix;
    size_t max; /* bytes of a line without its newline */
    struct buf tags;
};

/* Bytes that mean something in a StatsD line, control characters and what isn't UTF-8 become %XX. */
static void escape(struct buf *b, const char *s, size_t len)
{
    static const char hex[] = "0123456789ABCDEF";

    for (size_t i = 0; i < len;) {
        unsigned char c = (unsigned char)s[i];
        unsigned n = utf8_sequence(s + i, len - i);

        if (n && c >= 0x20 && c != 0x7f && !(c < 0x80 && strchr("%,|#:", c))) {
            buf_add(b, s + i, n);
            i += n;
            continue;
        }
        buf_add(b, (char[3]){'%', hex[c >> 4], hex[c & 15]}, 3);
        i++;
    }
}

static void encode_tag(struct buf *b, const struct tm_field *f)
{
    escape(b, f->name, strlen(f->name));
    buf_char(b, ':');
    switch (f->type) {
    case TM_STR:
        escape(b, f->v.str.p, f->v.str.len);
        break;
    case TM_NUM:
        buf_printf(b, "%.2f", f->v.num);
        break;
    case TM_STRLIST:
        for (size_t i = 0; i < f->v.list.count; i++) {
            if (i)
                buf_char(b, ';');
            escape(b, f->v.list.p[i], strlen(f->v.list.p[i]));
        }
        break;
    default:
        ndjson_value(b, f);
    }
}

/* The letters of a type; those of a program's own metrics that are none of ours are passed on. */
static const char *letters_of(const char *type)
{
    static const char *const letters[][2] = {{"counter", "c"}, {"gauge", "g"}, {"timer", "ms"},
                                             {"histogram", "h"}, {"set", "s"}, {"distribution", "d"}};

    for (size_t i = 0; i < sizeof(letters) / sizeof(*letters); i++)
        if (strcmp(letters[i][0], type) == 0)
            return letters[i][1];
    return type;
}

/* False if not even the bare line fits into a datagram. A line that is too long loses the tags of the highest level
 * first, and of those the last ones. */
static bool encode(struct statsd_sink *s, const struct ev_record *r)
{
    struct {
        size_t at, len;
        uint8_t level;
    } part[PARTS_MAX];
    struct buf *b = &s->lines.line, *tags = &s->tags;
    size_t parts = 0, total;

    buf_reset(tags);
    for (size_t i = 0; i < r->tag_count + r->field_count && parts < PARTS_MAX; i++) {
        struct tm_field custom;
        const struct tm_field *f = &custom;

        if (i < r->tag_count)
            custom = tm_text_field(r->tags[i].name, r->tags[i].value);
        else
            f = &r->fields[i - r->tag_count];
        part[parts].at = tags->len;
        encode_tag(tags, f);
        part[parts].len = tags->len - part[parts].at;
        part[parts++].level = f->level;
    }

    buf_reset(b);
    buf_str(b, s->prefix);
    buf_str(b, r->name);
    buf_char(b, ':');
    if (r->text)
        buf_add(b, r->text, r->text_len);
    else
        ndjson_value(b, &r->value);
    buf_char(b, '|');
    buf_str(b, letters_of(r->type));
    if (b->len + 1 > s->max)
        return false;

    total = b->len + 1 + (parts ? 1 : 0); /* "|#" replaces the first "," */
    for (size_t i = 0; i < parts; i++)
        total += part[i].len + 1;
    while (total > s->max && parts) {
        size_t worst = 0;

        for (size_t i = 1; i < parts; i++)
            if (part[i].level >= part[worst].level)
                worst = i;
        total -= part[worst].len + 1;
        memmove(&part[worst], &part[worst + 1], (parts - worst - 1) * sizeof(*part));
        parts--;
    }
    for (size_t i = 0; i < parts; i++) {
        buf_str(b, i ? "," : "|#");
        buf_add(b, tags->p + part[i].at, part[i].len);
    }
    buf_char(b, '\n');
    return true;
}

static bool statsd_begin(struct sink *sink, const struct tm_process *who)
{
    return true;
}

static void statsd_end(struct sink *sink, const struct tm_process *who)
{
}

static enum sink_result statsd_write(struct sink *sink, const struct ev_record *r)
{
    struct statsd_sink *s = (struct statsd_sink *)sink;

    if (r->kind != EV_METRIC || !encode(s, r))
        return SINK_UNFIT;
    return line_write(&s->lines);
}

static void statsd_free(struct sink *sink)
{
    struct statsd_sink *s = (struct statsd_sink *)sink;

    line_release(&s->lines);
    free(s->prefix);
    buf_free(&s->tags);
    free(s);
}

static const struct sink_format statsd_format = {
    .begin = statsd_begin, .end = statsd_end, .write = statsd_write, .free = statsd_free, LINE_FUNCTIONS,
};

struct sink *statsd_sink_new(const struct sink_user *user, const struct cfg_transport *to, const struct config *cfg)
{
    struct statsd_sink *s = xcalloc(1, sizeof(*s));

    s->max = cfg->metric.statsdmaxlen;
    s->prefix = xstrdup(cfg->metric.statsdprefix ? cfg->metric.statsdprefix : "");
    s->lines.output = output_get(user->base, to, s->max);
    s->lines.sink = (struct sink){.format = &statsd_format, .place = s->lines.output};
    return &s->lines.sink;
}
