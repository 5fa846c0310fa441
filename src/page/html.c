/* SPDX-License-Identifier: Apache-2.0 */
#include "page/html.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ELLIPSIS "\u2026"

void html_free(struct html *h)
{
    buf_free(&h->out);
    buf_free(&h->text);
}

void html_raw(struct html *h, const char *markup)
{
    buf_str(&h->out, markup);
}

void html_printf(struct html *h, const char *fmt, ...)
{
    va_list ap;
    char text[1024];
    int n;

    va_start(ap, fmt);
    n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (n > 0)
        buf_add(&h->out, text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

static void escaped(struct buf *b, const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        switch (s[i]) {
        case '&':
            buf_str(b, "&amp;");
            break;
        case '<':
            buf_str(b, "&lt;");
            break;
        case '>':
            buf_str(b, "&gt;");
            break;
        case '"':
            buf_str(b, "&quot;");
            break;
        case '\'':
            buf_str(b, "&#39;");
            break;
        default:
            buf_char(b, s[i]);
        }
    }
}

/* Where a text of valid UTF-8 can be cut: not within a sequence. */
static size_t before(const char *s, size_t at)
{
    while (at && ((unsigned char)s[at] & 0xc0) == 0x80)
        at--;
    return at;
}

static size_t behind(const char *s, size_t len, size_t at)
{
    while (at < len && ((unsigned char)s[at] & 0xc0) == 0x80)
        at++;
    return at;
}

/* What is made visible may become six times as long, so no more of it is looked at than can be shown. */
static void visible(struct html *h, const char *text, size_t len)
{
    buf_reset(&h->text);
    buf_visible(&h->text, text, len);
}

void html_text_cut(struct html *h, const char *text, size_t most)
{
    size_t len = text ? strnlen(text, most + 4) : 0;

    if (!text) {
        html_raw(h, "\u2013");
        return;
    }
    visible(h, text, len);
    if (h->text.len <= most && len < most + 4) {
        escaped(&h->out, h->text.p, h->text.len);
        return;
    }
    if (h->text.len > most)
        h->text.len = before(h->text.p, most);
    escaped(&h->out, h->text.p, h->text.len);
    html_raw(h, ELLIPSIS);
}

void html_text(struct html *h, const char *text)
{
    size_t len = text ? strlen(text) : 0, at;

    if (!text || len <= HTML_CUT) {
        html_text_cut(h, text, HTML_CUT);
        return;
    }
    /* Of paths the end matters most. */
    visible(h, text, len);
    at = before(h->text.p, HTML_CUT / 3);
    escaped(&h->out, h->text.p, at);
    html_raw(h, ELLIPSIS);
    at = behind(h->text.p, h->text.len, h->text.len - 2 * HTML_CUT / 3);
    escaped(&h->out, h->text.p + at, h->text.len - at);
}

/* `<`, `>` and `&` stand in strings only. */
static void add_json(struct html *h, const char *json, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (json[i] == '<' || json[i] == '>' || json[i] == '&')
            buf_printf(&h->out, "\\u%04x", (unsigned)json[i]);
        else
            buf_char(&h->out, json[i]);
    }
}

void html_json(struct html *h, const char *text, size_t most)
{
    size_t len = text ? strnlen(text, most + 1) : 0;

    if (!text) {
        html_raw(h, "null");
        return;
    }
    buf_reset(&h->text);
    if (len > most) {
        struct buf cut = BUF_INIT;

        buf_add(&cut, text, before(text, most));
        buf_str(&cut, ELLIPSIS);
        buf_json(&h->text, cut.p, cut.len);
        buf_free(&cut);
    } else {
        buf_json(&h->text, text, len);
    }
    add_json(h, h->text.p, h->text.len);
}

/* --- numbers --- */

static const char *with_commas(char text[32], uint64_t n)
{
    char digits[24];
    int len = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)n), at = 0;

    for (int i = 0; i < len; i++) {
        if (i && (len - i) % 3 == 0)
            text[at++] = ',';
        text[at++] = digits[i];
    }
    text[at] = '\0';
    return text;
}

void html_count(struct html *h, uint64_t n)
{
    char text[32];

    html_raw(h, with_commas(text, n));
}

/* Three digits at least, as far as there are. */
static const char *scaled(char text[32], double value, const char *unit)
{
    snprintf(text, 32, "%.*f %s", value < 9.995 ? 2 : value < 99.95 ? 1 : 0, value, unit);
    return text;
}

const char *html_bytes(char text[32], uint64_t n)
{
    static const char *const units[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
    double value = (double)n / 1000;
    size_t i = 0;

    if (n < 1000) {
        snprintf(text, 32, "%u B", (unsigned)n);
        return text;
    }
    for (; value >= 999.5 && i < sizeof(units) / sizeof(*units) - 1; i++)
        value /= 1000;
    return scaled(text, value, units[i]);
}

const char *html_duration(char text[32], uint64_t ns)
{
    uint64_t s = ns / 1000000000u;

    if (ns < 1000000)
        snprintf(text, 32, "%u \u00b5s", (unsigned)(ns / 1000));
    else if (ns < 999500000)
        scaled(text, (double)ns / 1e6, "ms");
    else if (s < 60)
        scaled(text, (double)ns / 1e9, "s");
    else if (s < 3600)
        snprintf(text, 32, "%u min %u s", (unsigned)(s / 60), (unsigned)(s % 60));
    else if (s < 86400)
        snprintf(text, 32, "%u h %u min", (unsigned)(s / 3600), (unsigned)(s / 60 % 60));
    else
        snprintf(text, 32, "%llu d %u h", (unsigned long long)(s / 86400), (unsigned)(s / 3600 % 24));
    return text;
}

/* --- tables --- */

void html_table(struct html *h, const char *id, const char *caption, const struct html_column *columns, size_t count,
                bool filter)
{
    html_printf(h,
                "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"%s\"><table "
                "id=\"%s\"%s><caption>%s</caption><thead><tr>",
                caption, id, filter ? " data-filter=\"1\"" : "", caption);
    for (size_t i = 0; i < count; i++)
        html_printf(h, "<th scope=\"col\" class=\"%c\">%s</th>", columns[i].kind, columns[i].title);
    html_raw(h, "</tr></thead><tbody>\n");
}

void html_table_end(struct html *h)
{
    html_raw(h, "</tbody></table></div>\n");
}

void html_cell(struct html *h, char kind, const char *text)
{
    html_printf(h, "<td class=\"%c\"><bdi>", kind);
    html_text(h, text);
    html_raw(h, "</bdi></td>");
}

void html_cell_number(struct html *h, double value, const char *text)
{
    html_printf(h, "<td class=\"n\" data-v=\"%.15g\">%s</td>", value, text);
}

void html_cell_count(struct html *h, uint64_t n)
{
    char text[32];

    html_cell_number(h, (double)n, n ? with_commas(text, n) : "\u2013");
}

void html_cell_bytes(struct html *h, uint64_t n)
{
    char text[32];

    html_cell_number(h, (double)n, n ? html_bytes(text, n) : "\u2013");
}

void html_cell_duration(struct html *h, bool known, uint64_t ns)
{
    char text[32];

    html_cell_number(h, known ? (double)ns : -1, known ? html_duration(text, ns) : "\u2013");
}
