/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"

#define GAP 2
#define PAD_MAX 40 /* columns to which texts of any length are padded where there is no terminal */
#define ELLIPSIS "\u2026"

struct table {
    const struct table_column *column;
    size_t columns, cells, cap;
    char **cell; /* row after row, the header first */
};

struct table *table_new(const struct table_column *columns, size_t count)
{
    struct table *t = xcalloc(1, sizeof(*t));

    t->column = columns;
    t->columns = count;
    for (size_t i = 0; i < count; i++)
        table_cell(t, columns[i].header);
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

/* Columns that a line takes; a width of 0 is a column that is left out. */
static unsigned line_width(const unsigned *width, size_t count)
{
    unsigned total = 0;

    for (size_t i = 0; i < count; i++)
        total += width[i] ? width[i] + GAP : 0;
    return total ? total - GAP : 0;
}

/* Makes columns narrower until the table fits, in their order; what this was too much of is given back, the last first.
 */
static void shrink(const struct table *t, unsigned *width, unsigned screen)
{
    size_t count = t->columns;
    unsigned *wanted = xcalloc(count, sizeof(*wanted)), last = 0, total;

    memcpy(wanted, width, count * sizeof(*wanted));
    for (size_t i = 0; i < count; i++)
        if (t->column[i].yields > last)
            last = t->column[i].yields;
    for (unsigned rank = 1; rank <= last; rank++)
        for (size_t i = 0; i < count && (total = line_width(width, count)) > screen; i++) {
            unsigned min = t->column[i].min, over = total - screen;

            if (t->column[i].yields != rank || width[i] <= min)
                continue;
            width[i] = min && width[i] - min > over ? width[i] - over : min;
        }
    for (unsigned rank = last; rank >= 1; rank--)
        for (size_t i = count; i-- > 0;) {
            unsigned room = (total = line_width(width, count)) < screen ? screen - total : 0;

            if (t->column[i].yields != rank || width[i] == wanted[i])
                continue;
            if (width[i])
                width[i] = wanted[i] - width[i] > room ? width[i] + room : wanted[i];
            else if (wanted[i] + GAP <= room)
                width[i] = wanted[i];
        }
    free(wanted);
}

/* Adds a text that may be too wide for its column, and the number of columns that it takes. */
static unsigned add_cut(struct buf *b, const char *text, unsigned width, bool keep_end)
{
    size_t len = strlen(text), skip;
    unsigned n = text_columns(text, len);

    if (n <= width) {
        buf_str(b, text);
        return n;
    }
    if (keep_end) {
        skip = text_fit(text, len, n - width + 1);
        buf_str(b, ELLIPSIS);
        buf_str(b, text + skip);
    } else {
        buf_add(b, text, text_fit(text, len, width - 1));
        buf_str(b, ELLIPSIS);
    }
    return width;
}

/* Says which columns a terminal is too narrow for. */
static void print_left_out(const struct table *t, const unsigned *width, const unsigned *wanted, FILE *to)
{
    const char *comma = "(too narrow for ";
    bool any = false;

    for (size_t i = 0; i < t->columns; i++) {
        if (width[i] || !wanted[i])
            continue;
        fprintf(to, "%s%s", comma, t->column[i].header);
        comma = ", ";
        any = true;
    }
    if (any)
        fputs(")\n", to);
}

void table_print(struct table *t, FILE *to)
{
    unsigned screen = cli_width(), *width = xcalloc(t->columns, sizeof(*width));
    unsigned *wanted = xcalloc(t->columns, sizeof(*wanted));
    struct buf line = BUF_INIT;

    for (size_t i = 0; i < t->cells; i++) {
        unsigned w = text_columns(t->cell[i], strlen(t->cell[i]));

        if (w > width[i % t->columns])
            width[i % t->columns] = w;
    }
    memcpy(wanted, width, t->columns * sizeof(*wanted));
    if (screen)
        shrink(t, width, screen);
    for (size_t i = 0; i < t->cells; i += t->columns) {
        buf_reset(&line);
        for (size_t c = 0; c < t->columns && i + c < t->cells; c++) {
            const struct table_column *col = &t->column[c];
            unsigned pad = width[c], w;

            if (!width[c])
                continue;
            if (!screen && col->yields && col->min && pad > PAD_MAX)
                pad = PAD_MAX; /* one long text is no reason to pad all the others */
            w = add_cut(&line, t->cell[i + c], width[c], col->end && i);
            for (unsigned n = w < pad ? pad - w + GAP : GAP; n > 0; n--)
                buf_char(&line, ' ');
        }
        while (line.len && line.p[line.len - 1] == ' ')
            line.len--;
        if (line.len)
            fwrite(line.p, 1, line.len, to);
        fputc('\n', to);
    }
    print_left_out(t, width, wanted, to);
    free(wanted);
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
    struct buf b = BUF_INIT, name = BUF_INIT;
    int pad;

    text_clean(&name, label, strlen(label)); /* of a field: what a peer has called it */
    text_clean(&b, value, strlen(value));
    pad = 18 - (int)text_columns(buf_cstr(&name), name.len) - (int)indent;
    fprintf(to, "%*s%s%s:%s%*s%s\n", (int)indent, "", cli_colors ? "\033[32m" : "", name.p, cli_colors ? "\033[0m" : "",
            pad > 1 ? pad : 1, "", buf_cstr(&b));
    buf_free(&name);
    buf_free(&b);
}
