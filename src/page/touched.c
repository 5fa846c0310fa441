/* SPDX-License-Identifier: Apache-2.0 */
/* The section "What it touched": what summary/touched.h has found, the same as `scope report --touched`. */
#include <stdio.h>

#include "page/parts.h"
#include "summary/touched.h"

#define ROWS_MAX 200     /* of a kind */
#define BYTES_MAX 60000u /* of the rows of a kind */

/* Of a kind: its title, and which columns have anything to tell. */
static const struct {
    const char *title;
    bool how, bytes;
} kinds[TOUCHED_KINDS] = {
    [TOUCHED_WRITE] = {"Written outside of its directory", true, true},
    [TOUCHED_SECRET] = {"Secrets read", true, true},
    [TOUCHED_PROGRAM] = {"Programs run", false, false},
    [TOUCHED_HOST] = {"Hosts", true, true},
    [TOUCHED_LISTEN] = {"Ports that it listened at", false, false},
    [TOUCHED_DELETE] = {"Deleted", true, false},
    [TOUCHED_UNSEEN] = {"Not observed", false, false},
};

static void what_cell(struct html *h, const struct touched_item *i)
{
    bool end = i->kind == TOUCHED_HOST || i->kind == TOUCHED_LISTEN;

    html_raw(h, "<td class=\"m\">");
    html_end(h, i->what, end ? i->port : 0);
    for (size_t k = 0; end && k < TOUCHED_NAMES && i->name[k]; k++) {
        html_raw(h, k ? ", <bdi>" : " <bdi>");
        html_text(h, i->name[k]);
        html_raw(h, "</bdi>");
    }
    if (i->more) {
        html_raw(h, i->kind == TOUCHED_PROGRAM ? "<br><bdi>" : " (<bdi>");
        html_text_cut(h, i->more, HTML_CUT);
        html_raw(h, i->kind == TOUCHED_PROGRAM ? "</bdi>" : "</bdi>)");
    }
    html_raw(h, i->unresolved ? " (this name isn\u2019t known for sure)</td>" : "</td>");
}

static void row(struct html *h, const struct page *p, const struct touched_item *i)
{
    struct buf text = BUF_INIT;

    html_raw(h, "<tr>");
    page_cell_time(h, p, i->first_ns);
    what_cell(h, i);
    if (kinds[i->kind].how) {
        touched_how(&text, i);
        /* Left out as a rule by the text, which has an option for them. */
        buf_str(&text, i->gone ? "; gone again" : i->own ? "; of its own making" : "");
        html_cell(h, 't', buf_cstr(&text));
        buf_reset(&text);
    }
    html_cell_count(h, i->count);
    if (kinds[i->kind].bytes) {
        html_cell_bytes(h, i->written);
        html_cell_bytes(h, i->read);
    }
    chain_text(&text, i->who);
    html_cell(h, 'm', buf_cstr(&text));
    html_raw(h, "</tr>\n");
    buf_free(&text);
}

static void kind(struct html *h, const struct page *p, enum touched_kind k)
{
    bool host = k == TOUCHED_HOST;
    struct html_column columns[7] = {{"First at", 'n'}, {"What", 'm'}};
    size_t count = touched_count(p->touched, k), shown = 0, start, n = 2;
    char id[40];

    if (!count)
        return;
    if (kinds[k].how)
        columns[n++] = (struct html_column){"How", 't'};
    columns[n++] = (struct html_column){"Times", 'n'};
    if (kinds[k].bytes) {
        columns[n++] = (struct html_column){host ? "Sent" : "Written", 'n'};
        columns[n++] = (struct html_column){host ? "Received" : "Read", 'n'};
    }
    columns[n++] = (struct html_column){"By", 'm'};
    snprintf(id, sizeof(id), "t-touched-%s", touched_kind_name(k));
    html_table(h, id, kinds[k].title, columns, n, true);
    start = h->out.len;
    for (; shown < count && shown < ROWS_MAX && h->out.len - start < BYTES_MAX && h->out.len < PAGE_TABLES_END; shown++)
        row(h, p, touched_at(p->touched, k, shown));
    html_table_end(h);
    page_cut_note(h, shown, count, "rows", "in the order in which they happened", touched_cut(p->touched, k));
}

void page_touched(struct html *h, const struct page *p)
{
    page_section(
        h, "touched", "What it touched",
        "What happened outside of its working directory, and in places of secrets; who did it, and when first.");
    for (int k = 0; k < TOUCHED_KINDS; k++)
        kind(h, p, (enum touched_kind)k);
    if (touched_lost(p->touched)) {
        html_raw(h, "<p class=\"bad\">");
        html_count(h, touched_lost(p->touched));
        html_raw(h, " records and events are missing, so these lists may be incomplete.</p>\n");
    }
    html_raw(h, "</section>\n");
}

bool page_touched_any(const struct page *p)
{
    for (int k = 0; k < TOUCHED_KINDS && p->touched; k++)
        if (touched_count(p->touched, (enum touched_kind)k))
            return true;
    return false;
}
