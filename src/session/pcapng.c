/* SPDX-License-Identifier: Apache-2.0 */
#include "session/pcapng.h"

#include <string.h>

#include "base/buf.h"

enum { BLOCK_INTERFACE = 1, BLOCK_PACKET = 6, BLOCK_SECTION = 0x0a0d0d0a };
enum { OPT_END = 0, OPT_COMMENT = 1, SHB_USERAPPL = 4, IF_NAME = 2, IF_DESCRIPTION = 3, IF_TSRESOL = 9, EPB_FLAGS = 2 };

#define BYTE_ORDER_MAGIC 0x1a2b3c4du
#define OPTION_MAX 4096u /* of a text; an option's length has 16 bits */

static void add32(struct buf *b, uint32_t v)
{
    buf_add(b, &v, sizeof(v));
}

static void add16(struct buf *b, uint16_t v)
{
    buf_add(b, &v, sizeof(v));
}

static void pad(struct buf *b)
{
    while (b->len % 4)
        buf_char(b, '\0');
}

static void add_option(struct buf *b, uint16_t code, const void *value, size_t len)
{
    add16(b, code);
    add16(b, (uint16_t)len);
    buf_add(b, value, len);
    pad(b);
}

/* Texts are UTF-8, not terminated. */
static void add_text(struct buf *b, uint16_t code, const char *text)
{
    struct buf clean = BUF_INIT;
    size_t len = text ? strlen(text) : 0;

    for (size_t i = 0; i < len && clean.len + 4 <= OPTION_MAX;) {
        unsigned n = utf8_sequence(text + i, len - i);

        buf_add(&clean, n ? text + i : "\xef\xbf\xbd", n ? n : 3);
        i += n ? n : 1;
    }
    if (clean.len)
        add_option(b, code, clean.p, clean.len);
    buf_free(&clean);
}

static void begin(struct buf *b, uint32_t type)
{
    add32(b, type);
    add32(b, 0); /* its length, see end() */
}

/* The end of the options, and the length of the block at both of its ends. */
static void end(struct buf *b, FILE *to)
{
    uint32_t len;

    add16(b, OPT_END);
    add16(b, 0);
    len = (uint32_t)b->len + 4;
    memcpy(b->p + 4, &len, sizeof(len));
    add32(b, len);
    fwrite(b->p, 1, b->len, to);
    buf_free(b);
}

void pcapng_section(FILE *to, const char *application, const char *comment)
{
    struct buf b = BUF_INIT;

    begin(&b, BLOCK_SECTION);
    add32(&b, BYTE_ORDER_MAGIC);
    add16(&b, 1); /* version 1.0 */
    add16(&b, 0);
    add32(&b, UINT32_MAX); /* length of the section: not told */
    add32(&b, UINT32_MAX);
    add_text(&b, SHB_USERAPPL, application);
    add_text(&b, OPT_COMMENT, comment);
    end(&b, to);
}

void pcapng_interface(FILE *to, uint16_t linktype, const char *name, const char *description)
{
    struct buf b = BUF_INIT;
    const uint8_t nanoseconds = 9;

    begin(&b, BLOCK_INTERFACE);
    add16(&b, linktype);
    add16(&b, 0);
    add32(&b, 0); /* no limit to the length of packets */
    add_text(&b, IF_NAME, name);
    add_text(&b, IF_DESCRIPTION, description);
    add_option(&b, IF_TSRESOL, &nanoseconds, 1);
    end(&b, to);
}

void pcapng_packet(FILE *to, uint32_t interface, uint64_t time_ns, uint32_t flags, const char *comment,
                   const struct pcapng_part *parts, size_t count)
{
    struct buf b = BUF_INIT;
    size_t len = 0;

    for (size_t i = 0; i < count; i++)
        len += parts[i].len;
    begin(&b, BLOCK_PACKET);
    add32(&b, interface);
    add32(&b, (uint32_t)(time_ns >> 32));
    add32(&b, (uint32_t)time_ns);
    add32(&b, (uint32_t)len); /* captured */
    add32(&b, (uint32_t)len); /* as it was sent */
    for (size_t i = 0; i < count; i++)
        buf_add(&b, parts[i].p, parts[i].len);
    pad(&b);
    add_option(&b, EPB_FLAGS, &flags, sizeof(flags));
    add_text(&b, OPT_COMMENT, comment);
    end(&b, to);
}
