/* SPDX-License-Identifier: Apache-2.0 */
/* Findings in words and as JSON. */
#include "base/buf.h"
#include "summary/touched.h"

static const char *const kinds[TOUCHED_KINDS] = {"write", "secret", "program", "host", "listen", "delete", "unseen"};

const char *touched_kind_name(enum touched_kind kind)
{
    return kinds[kind];
}

/* The word for each bit of `how`; NULL: there is no more. */
static const char *how_word(const struct touched_item *i, unsigned *at)
{
    static const char *const words[] = {"opened",  "written", "made",     "renamed", "linked",
                                        "changed", "removed", "replaced", "incoming"};

    while (*at < sizeof(words) / sizeof(*words)) {
        unsigned bit = (*at)++;

        if (i->how >> bit & 1)
            return bit == 1 && i->kind == TOUCHED_SECRET ? "read" : words[bit];
    }
    return NULL;
}

void touched_how(struct buf *b, const struct touched_item *i)
{
    const char *word, *comma = "";

    for (unsigned at = 0; (word = how_word(i, &at)); comma = ", ")
        buf_printf(b, "%s%s", comma, word);
}

static void add_text(struct buf *b, const char *key, const char *value)
{
    if (!value)
        return;
    buf_printf(b, ",\"%s\":", key);
    buf_json_str(b, value);
}

static void add_number(struct buf *b, const char *key, uint64_t value)
{
    buf_printf(b, ",\"%s\":%llu", key, (unsigned long long)value);
}

static void add_time(struct buf *b, const char *key, uint64_t ns)
{
    if (!ns)
        return;
    buf_printf(b, ",\"%s\":", key);
    buf_time(b, ns);
}

static void add_how(struct buf *b, const struct touched_item *i)
{
    const char *word, *comma = "";

    buf_str(b, ",\"how\":[");
    for (unsigned at = 0; (word = how_word(i, &at)); comma = ",")
        buf_printf(b, "%s\"%s\"", comma, word);
    buf_char(b, ']');
}

static void add_host(struct buf *b, const struct touched_item *i)
{
    add_text(b, "ip", *i->what ? i->what : NULL);
    if (i->port)
        add_number(b, "port", i->port);
    add_text(b, "net_transport", i->transport);
    if (i->kind == TOUCHED_LISTEN)
        return;
    add_text(b, "direction", i->how & TOUCHED_INCOMING ? "in" : "out");
    buf_str(b, ",\"names\":[");
    for (size_t k = 0; k < TOUCHED_NAMES && i->name[k]; k++) {
        buf_str(b, k ? "," : "");
        buf_json_str(b, i->name[k]);
    }
    buf_char(b, ']');
    add_number(b, "bytes_sent", i->written);
    add_number(b, "bytes_received", i->read);
}

void touched_json(struct buf *b, const struct touched_item *i)
{
    buf_printf(b, "{\"type\":\"touched\",\"kind\":\"%s\"", kinds[i->kind]);
    switch (i->kind) {
    case TOUCHED_WRITE:
        add_text(b, "file", i->what);
        add_text(b, "file_other", i->more);
        add_how(b, i);
        add_number(b, "bytes", i->written);
        if (i->gone)
            buf_str(b, ",\"gone\":true");
        break;
    case TOUCHED_SECRET:
        add_text(b, "file", i->what);
        add_text(b, "entry", i->more);
        add_how(b, i);
        add_number(b, "bytes", i->read);
        break;
    case TOUCHED_DELETE:
        add_text(b, "file", i->what);
        add_text(b, "file_other", i->more);
        add_how(b, i);
        if (i->own)
            buf_str(b, ",\"own\":true");
        break;
    case TOUCHED_PROGRAM:
        add_text(b, "exe", i->what);
        add_text(b, "cmd", i->more);
        break;
    case TOUCHED_UNSEEN:
        add_text(b, "text", i->what);
        add_text(b, "file", i->more);
        break;
    case TOUCHED_HOST:
    case TOUCHED_LISTEN:
    case TOUCHED_KINDS:
        add_host(b, i);
        break;
    }
    if (i->unresolved)
        buf_str(b, ",\"file_unresolved\":true");
    add_number(b, "count", i->count);
    add_time(b, "first", i->first_ns);
    add_time(b, "last", i->last_ns);
    buf_str(b, ",\"who\":");
    chain_json(b, i->who);
    buf_char(b, '}');
}

void touched_end_json(struct buf *b, const struct touched *t)
{
    const char *comma = "";

    buf_str(b, "{\"type\":\"touched\",\"kind\":\"end\"");
    add_text(b, "dir", touched_dir(t));
    add_number(b, "files_inside", touched_inside(t));
    add_number(b, "lost", touched_lost(t));
    add_number(b, "processes_cut", touched_cut_processes(t));
    buf_str(b, ",\"cut\":{");
    for (int k = 0; k < TOUCHED_KINDS; k++) {
        uint64_t cut = touched_cut(t, (enum touched_kind)k);

        if (!cut)
            continue;
        buf_printf(b, "%s\"%s\":%llu", comma, kinds[k], (unsigned long long)cut);
        comma = ",";
    }
    buf_str(b, "}}");
}
