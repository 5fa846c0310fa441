/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands of Redis (redis.io, "Redis serialization protocol specification"): a
 * client sends arrays of strings, "*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n", whose first
 * one is the name of the command. Each is an event net.redis.
 *
 * Memory: struct redis.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "traffic/protocols.h"

/* As with Redis itself: */
#define ARGS_MAX 1048576u      /* strings of a command */
#define BYTES_MAX (512u << 20) /* of a string */

struct redis {
    enum proto_dir client; /* direction of the commands */
    char line[16];         /* "*2" or "$3", as far as it is there */
    size_t line_len;
    uint64_t args;         /* strings of the command that are still to come */
    uint64_t left;         /* bytes of the string that are still to come, with its CR LF */
    bool naming;           /* it is the first one */
    char name[24];
    size_t name_len;
};

static void tell(struct redis *r, struct stream *s, uint64_t time_ns)
{
    FIELDS(f, 1 + 7);
    struct address_texts texts;

    r->naming = false;
    if (!s->p)
        return;
    add_mem(&f, "redis_command", 0, r->name, r->name_len);
    stream_net_fields(&f, s, &texts);
    report_event(s->p, CFG_EW_NET, "net.redis", s->channel, time_ns, &f);
}

/* A line is there: how many strings follow, or how long the next one is. False if it is neither. */
static bool take_line(struct redis *r)
{
    char *end;
    unsigned long n;

    r->line[r->line_len] = 0;
    if (!isdigit((unsigned char)r->line[1]) || r->line[0] != (r->args ? '$' : '*'))
        return false;
    n = strtoul(r->line + 1, &end, 10);
    if (*end != '\r' || n > (r->args ? BYTES_MAX : ARGS_MAX))
        return false;
    r->line_len = 0;
    if (r->args) {
        r->left = n + 2;
    } else {
        r->args = n;
        r->naming = n > 0;
        r->name_len = 0;
    }
    return true;
}

/* n bytes of a string. */
static void take_string(struct redis *r, struct stream *s, const uint8_t *data, uint64_t n, uint64_t time_ns)
{
    for (uint64_t i = 0; r->naming && i < n && r->left - i > 2; i++)
        if (r->name_len < sizeof(r->name))
            r->name[r->name_len++] = (char)toupper(data[i]);
    r->left -= n;
    if (r->left)
        return;
    r->args--;
    if (r->naming)
        tell(r, s, time_ns);
}

static void feed(void *decoder, struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    struct redis *r = decoder;

    while (dir == r->client && len) {
        uint64_t n = 1;

        if (!data && (!r->left || r->naming)) { /* nobody knows where the next command begins */
            stream_lost(s, LK_TRAFFIC, len);
            stream_stops(s);
            return;
        }
        if (r->left) {
            n = len < r->left ? len : r->left;
            take_string(r, s, data, n, time_ns);
        } else if (*data != '\n') {
            r->line[r->line_len++] = (char)*data;
            if (r->line_len == sizeof(r->line)) {
                stream_stops(s);
                return;
            }
        } else if (!take_line(r)) {
            stream_stops(s);
            return;
        }
        data += data ? n : 0;
        len -= n;
    }
}

/* Of strings behind the name, and of all answers, only the number of bytes is needed. */
static uint64_t skip(const void *decoder, enum proto_dir dir)
{
    const struct redis *r = decoder;

    return dir != r->client ? UINT64_MAX : r->naming ? 0 : r->left;
}

static void *new(struct stream *s, const struct protocol_start *how)
{
    struct redis *r = xcalloc(1, sizeof(*r));

    r->client = how->dir;
    return r;
}

static void free_decoder(void *decoder, uint64_t time_ns)
{
    free(decoder);
}

/* "*2\r\n$3\r\n": 1 yes, 0 no, -1 it may become so. */
static int looks_so(const uint8_t *data, size_t len, bool whole)
{
    size_t i = 0;

    for (const char *sign = "*$"; *sign; sign++) {
        size_t digits = 0;

        if (i == len)
            return -1;
        if (data[i++] != *sign)
            return 0;
        while (i < len && isdigit(data[i])) {
            i++;
            if (++digits > 9)
                return 0;
        }
        for (const char *end = "\r\n"; *end; end++) {
            if (i == len)
                return -1;
            if (!digits || data[i++] != *end)
                return 0;
        }
    }
    return 1;
}

static const char *const events[] = {"net.redis", NULL};

const struct protocol protocol_redis = {
    .detect = {.name = "Redis", .stream = looks_so, .replaceable = true},
    .watch = CFG_EW_NET,
    .events = events,
    .new = new,
    .feed = feed,
    .skip = skip,
    .free = free_decoder,
};
