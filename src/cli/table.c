/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"

struct table {
    size_t columns, cells, cap;
    char **cell; /* row after row, the header first */
};

struct table *table_new(const char *const *headers, size_t count)
{
    struct table *t = xcalloc(1, sizeof(*t));

    t->columns = count;
    for (size_t i = 0; i < count; i++)
        table_cell(t, headers[i]);
    return t;
}

void table_cell(struct table *t, const char *text)
{
    struct buf b = BUF_INIT;

    text_clean(&b, text, strlen(text));
    if (t->cells == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 64;
        t->cell = xrealloc(t->cell, t->cap, sizeof(char *));
    }
    t->cell[t->cells++] = xstrdup(buf_cstr(&b));
    buf_free(&b);
}

void table_cellf(struct table *t, const char *fmt, ...)
{
    va_list ap;
    char *text = NULL;

    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        text = NULL;
    va_end(ap);
    table_cell(t, text ? text : "");
    free(text);
}

void table_uint(struct table *t, uint64_t v)
{
    table_cellf(t, "%llu", (unsigned long long)v);
}

void table_print(struct table *t, FILE *to)
{
    unsigned screen = cli_width(), *width = xcalloc(t->columns, sizeof(*width));
    struct buf line = BUF_INIT;

    for (size_t i = 0; i < t->cells; i++) {
        unsigned w = text_columns(t->cell[i], strlen(t->cell[i]));

        if (w > width[i % t->columns])
            width[i % t->columns] = w;
    }
    for (size_t i = 0; i < t->cells; i += t->columns) {
        size_t len;

        buf_reset(&line);
        for (size_t c = 0; c < t->columns && i + c < t->cells; c++) {
            const char *text = t->cell[i + c];
            unsigned w = text_columns(text, strlen(text));

            buf_str(&line, text);
            if (c + 1 == t->columns)
                break;
            for (w = width[c] + 2 - w; w > 0; w--)
                buf_char(&line, ' ');
        }
        while (line.len && line.p[line.len - 1] == ' ')
            line.len--;
        len = screen ? text_fit(line.p, line.len, screen) : line.len;
        if (len)
            fwrite(line.p, 1, len, to);
        fputc('\n', to);
    }
    free(width);
    buf_free(&line);
    table_free(t);
}

void table_free(struct table *t)
{
    for (size_t i = 0; i < t->cells; i++)
        free(t->cell[i]);
    free(t->cell);
    free(t);
}

void table_pair(FILE *to, unsigned indent, const char *label, const char *value)
{
    struct buf b = BUF_INIT;
    int pad = 18 - (int)text_columns(label, strlen(label)) - (int)indent;

    text_clean(&b, value, strlen(value));
    fprintf(to, "%*s%s%s:%s%*s%s\n", (int)indent, "", cli_colors ? "\033[32m" : "", label, cli_colors ? "\033[0m" : "",
            pad > 1 ? pad : 1, "", buf_cstr(&b));
    buf_free(&b);
}
