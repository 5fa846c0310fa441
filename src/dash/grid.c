/* SPDX-License-Identifier: Apache-2.0 */
#include "dash/grid.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"

static void blank(struct grid_cell *c)
{
    *c = (struct grid_cell){.ch = {L' '}};
}

void grid_resize(struct grid *g, unsigned width, unsigned height)
{
    g->cells = xrealloc(g->cells, (size_t)width * height + 1, sizeof(*g->cells));
    g->width = width;
    g->height = height;
    for (size_t i = 0; i < (size_t)width * height; i++)
        blank(&g->cells[i]);
}

void grid_free(struct grid *g)
{
    free(g->cells);
    *g = (struct grid){.cells = NULL};
}

static struct grid_cell *cell(struct grid *g, unsigned y, unsigned x)
{
    return &g->cells[(size_t)y * g->width + x];
}

/* A valid sequence, which buf_visible() leaves only such of. */
static wchar_t decode(const char *p, unsigned len)
{
    unsigned char first = (unsigned char)*p;
    unsigned v = len == 1 ? first : first & (0x7fu >> len);

    for (unsigned i = 1; i < len; i++)
        v = v << 6 | ((unsigned char)p[i] & 0x3f);
    return (wchar_t)v;
}

/* What overwrites one half of a wide character takes the other one, too. */
static void put_cell(struct grid *g, unsigned y, unsigned x, wchar_t ch, int width, enum grid_style style)
{
    struct grid_cell *c = cell(g, y, x);

    if (!c->ch[0] && x > 0)
        blank(c - 1);
    if (x + (unsigned)width < g->width && !c[width].ch[0])
        blank(c + width);
    *c = (struct grid_cell){.ch = {ch}, .style = (unsigned char)style};
    if (width == 2)
        c[1] = (struct grid_cell){.style = (unsigned char)style};
}

static void add_mark(struct grid_cell *c, wchar_t mark)
{
    size_t n = wcslen(c->ch);

    if (n && n <= GRID_MARKS)
        c->ch[n] = mark;
}

unsigned grid_put(struct grid *g, unsigned y, unsigned x, unsigned width, enum grid_style style, const char *text,
                  size_t len)
{
    struct buf clean = BUF_INIT;
    unsigned end = width > g->width || x > g->width - width ? g->width : x + width, last = g->width;

    if (y >= g->height || x >= end)
        return x;
    /* Longer text doesn't fit: of a character that takes a column there are at most three marks of four bytes each. */
    if (len > (size_t)(end - x) * 16 + 16)
        len = (size_t)(end - x) * 16 + 16;
    buf_visible(&clean, text, len);
    for (size_t i = 0; i < clean.len;) {
        unsigned n = utf8_sequence(clean.p + i, clean.len - i);
        wchar_t ch = n ? decode(clean.p + i, n) : L'?';
        int w = wcwidth(ch);

        i += n ? n : 1;
        if (ch >= 0x80 && (!g->utf8 || w < 0)) {
            ch = L'?';
            w = 1;
        }
        if (w == 0) {
            if (last < g->width)
                add_mark(cell(g, y, last), ch);
            continue;
        }
        if (w < 0 || x + (unsigned)w > end)
            break;
        put_cell(g, y, x, ch, w, style);
        last = x;
        x += (unsigned)w;
    }
    buf_free(&clean);
    return x;
}

unsigned grid_putf(struct grid *g, unsigned y, unsigned x, unsigned width, enum grid_style style, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (n < 0)
        return x;
    return grid_put(g, y, x, width, style, text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

void grid_char(struct grid *g, unsigned y, unsigned x, enum grid_style style, wchar_t ch)
{
    if (y < g->height && x < g->width)
        put_cell(g, y, x, ch, 1, style);
}

void grid_paint(struct grid *g, unsigned y, unsigned x, unsigned width, enum grid_style style)
{
    for (unsigned i = x; y < g->height && i < g->width && i - x < width; i++)
        cell(g, y, i)->style = (unsigned char)style;
}

char *grid_row(const struct grid *g, unsigned y)
{
    struct buf b = BUF_INIT;

    for (unsigned x = 0; x < g->width; x++) {
        const wchar_t *ch = g->cells[(size_t)y * g->width + x].ch;

        for (; *ch; ch++) {
            char text[MB_LEN_MAX];
            mbstate_t state = {0};
            size_t n = wcrtomb(text, *ch, &state);

            if (n == (size_t)-1)
                buf_char(&b, '?');
            else
                buf_add(&b, text, n);
        }
    }
    while (b.len && b.p[b.len - 1] == ' ')
        b.len--;
    return buf_cstr(&b);
}
