/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/hpack.h"

#include <stdlib.h>
#include <string.h>

#include <nghttp2/nghttp2.h>

#include "base/buf.h"
#include "base/mem.h"

#define PSEUDO_MAX 6u    /* those that there are: RFC 9113, section 8.3, and :protocol (RFC 8441) */
#define TEXT_FIRST 1024u /* room for the text of most heads */

struct hpack_block {
    size_t bytes; /* of the block itself so far */
    bool cut;
    unsigned pseudo, regular;
    struct buf text; /* of all fields in order: name, value, name, ...; so lengths say where they are */
    struct http_field fields[PSEUDO_MAX + HTTP_FIELDS_MAX]; /* lengths only until the end */
};

static bool is(struct slice s, const char *text)
{
    return s.len == strlen(text) && !memcmp(s.p, text, s.len);
}

static void take(struct hpack_block *b, const nghttp2_nv *nv)
{
    unsigned *count = nv->namelen && nv->name[0] == ':' ? &b->pseudo : &b->regular;

    /* After the first field that is too much there are none any more: no head with holes. */
    if (b->cut || b->bytes > HTTP_HEAD_MAX || nv->namelen + nv->valuelen > HTTP_HEAD_MAX - b->text.len ||
        *count == (count == &b->pseudo ? PSEUDO_MAX : HTTP_FIELDS_MAX)) {
        b->cut = true;
        return;
    }
    b->fields[b->pseudo + b->regular] = (struct http_field){.name = {NULL, nv->namelen}, .value = {NULL, nv->valuelen}};
    ++*count;
    buf_add(&b->text, nv->name, nv->namelen);
    buf_add(&b->text, nv->value, nv->valuelen);
}

static bool inflate(struct hpack *h, const uint8_t *data, size_t len, bool last)
{
    nghttp2_nv nv;
    int flags;

    do {
        ssize_t used;

        flags = 0;
        used = nghttp2_hd_inflate_hd2(h->inflater, &nv, &flags, data, len, last);
        if (used < 0)
            return false;
        data += used;
        len -= (size_t)used;
        h->block->bytes += (size_t)used;
        if (flags & NGHTTP2_HD_INFLATE_EMIT)
            take(h->block, &nv);
    } while (len || (flags & NGHTTP2_HD_INFLATE_EMIT));
    return !last || (flags & NGHTTP2_HD_INFLATE_FINAL);
}

static void begin(struct hpack *h)
{
    if (!h->inflater) {
        nghttp2_hd_inflater *inflater;

        /* Fails for want of memory only; the second call never does, before the first block. */
        if (nghttp2_hd_inflate_new(&inflater) || nghttp2_hd_inflate_change_table_size(inflater, HTTP2_TABLE_MAX))
            abort();
        h->inflater = inflater;
    }
    h->block = xmalloc(sizeof(*h->block));
    h->block->bytes = 0;
    h->block->cut = false;
    h->block->pseudo = h->block->regular = 0;
    h->block->text = (struct buf)BUF_INIT;
    buf_room(&h->block->text, TEXT_FIRST);
}

bool hpack_feed(struct hpack *h, const uint8_t *data, size_t len)
{
    if (!h->block)
        begin(h);
    return inflate(h, data, len, false);
}

/* The number, -1 if the value is none (RFC 9110, section 8.6). */
static int64_t length_of(struct slice value)
{
    int64_t n = 0;

    for (size_t i = 0; i < value.len; i++) {
        if (value.p[i] < '0' || value.p[i] > '9' || __builtin_mul_overflow(n, 10, &n) ||
            __builtin_add_overflow(n, value.p[i] - '0', &n))
            return -1;
    }
    return value.len ? n : -1;
}

/* Three digits (RFC 9110, section 15), else 0. */
static unsigned status_of(struct slice value)
{
    int64_t status = value.len == 3 ? length_of(value) : 0;

    return status >= 100 ? (unsigned)status : 0;
}

static void pseudo_field(struct http_head *head, const struct http_field *f)
{
    static const char *const names[] = {":method", ":path", ":scheme", ":authority", ":protocol"};
    struct slice *const to[] = {&head->method, &head->target, &head->scheme, &head->host, &head->protocol};

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        if (is(f->name, names[i]) && !to[i]->p)
            *to[i] = f->value;
    }
    if (is(f->name, ":status") && !head->status)
        head->status = status_of(f->value);
}

static void content_length(struct http_head *head, struct slice value)
{
    int64_t n = length_of(value);

    if (n < 0 || (head->content_length >= 0 && head->content_length != n))
        head->odd |= HTTP_ODD_LENGTHS;
    head->content_length = head->odd & HTTP_ODD_LENGTHS ? -1 : n;
}

bool hpack_end(struct hpack *h, struct http_head *head)
{
    struct hpack_block *b;
    struct slice host = {0};
    char *at;

    if (!h->block)
        begin(h);
    if (!inflate(h, (const uint8_t *)"", 0, true) || nghttp2_hd_inflate_end_headers(h->inflater))
        return false;
    b = h->block;
    at = b->text.p;
    head->content_length = -1;
    head->fields = b->fields;
    head->cut = b->cut;
    for (unsigned i = 0; i < b->pseudo + b->regular; i++) {
        struct http_field *f = &b->fields[i];

        f->name.p = at;
        f->value.p = at + f->name.len;
        at += f->name.len + f->value.len;
        if (f->name.len && f->name.p[0] == ':') {
            pseudo_field(head, f);
            continue;
        }
        if (is(f->name, "content-length"))
            content_length(head, f->value);
        else if (is(f->name, "transfer-encoding"))
            head->odd |= HTTP_ODD_CODING; /* has no meaning here (RFC 9113, section 8.2.2), but behind a gateway */
        else if (is(f->name, "host") && !host.p)
            host = f->value;
        b->fields[head->field_count++] = *f;
    }
    if (!head->host.p) /* RFC 9113, section 8.3.1 */
        head->host = host;
    /* Neither may be in a field (RFC 9113, section 8.2.1); who passes it on as HTTP/1 makes it end a line. */
    if (memchr(b->text.p, '\r', b->text.len) || memchr(b->text.p, '\n', b->text.len))
        head->odd |= HTTP_ODD_LINE;
    if (memchr(b->text.p, '\0', b->text.len))
        head->odd |= HTTP_ODD_NUL;
    return true;
}

void hpack_clear(struct hpack *h)
{
    if (h->block)
        buf_free(&h->block->text);
    free(h->block);
    h->block = NULL;
}

void hpack_free(struct hpack *h)
{
    hpack_clear(h);
    if (h->inflater)
        nghttp2_hd_inflate_del(h->inflater);
    h->inflater = NULL;
}
