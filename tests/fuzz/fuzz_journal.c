/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arbitrary bytes as a journal: as they are, and with their check sums put right,
 * so that what stands behind these is reached. Everything is read, counted and
 * looked for from the end. Besides not crashing: what is told is bounded by what
 * is there, texts end where they say, another writer finds a place to go on.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "journal/format.h"
#include "journal/reader.h"
#include "journal/scan.h"
#include "journal/writer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look(const char *text)
{
    if (text && strlen(text) > GROUP_RAW_MAX)
        abort();
}

static uint64_t look_at(const struct ev_record *r)
{
    uint64_t sum = r->time_ns + r->channel;

    look(r->sourcetype);
    look(r->source);
    look(r->name);
    look(r->type);
    look(r->who->host);
    look(r->who->id);
    for (size_t i = 0; i < r->tag_count; i++) {
        look(r->tags[i].name);
        look(r->tags[i].value);
    }
    for (size_t i = 0; i < r->field_count; i++) {
        const struct tm_field *f = &r->fields[i];

        look(f->name);
        if (f->type == TM_STR && f->v.str.p[f->v.str.len])
            abort();
        for (size_t k = 0; f->type == TM_STRLIST && k < f->v.list.count; k++)
            look(f->v.list.p[k]);
    }
    return sum;
}

static uint64_t read_all(int fd, const struct journal_want *want, size_t size)
{
    unsigned version;
    struct journal_reader *r = journal_reader_new(dup(fd), want, &version);
    struct journal_damage d;
    struct ev_record got;
    uint64_t n = 0, counted, position = 0;

    if (!r)
        return 0;
    for (; journal_next(r, &got); n++) {
        look_at(&got);
        if (n % 7 == 0)
            position = journal_position(r);
    }
    journal_reader_damage(r, &d);
    if (d.bytes > size || d.torn_bytes > size)
        abort();
    journal_last(r, 5);
    for (counted = 0; journal_next(r, &got); counted++)
        look_at(&got);
    for (uint64_t i = 0; i < 3; i++) {
        journal_seek(r, position + (i << 24) + i * 5);
        if (journal_next(r, &got))
            look_at(&got);
    }
    journal_last(r, UINT64_MAX);
    journal_count(r);
    journal_more(r);
    journal_reader_free(r);
    return n;
}

static void put_file(int fd, const uint8_t *data, size_t size)
{
    if (ftruncate(fd, 0) < 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
        abort();
}

/* Lengths that fit and check sums that are right, wherever a block could be. */
static void mend(uint8_t *p, size_t size)
{
    uint32_t number = 0;

    if (size < JOURNAL_HEAD)
        return;
    journal_head_put(p);
    for (size_t at = JOURNAL_HEAD; size - at >= BLOCK_HEAD + BLOCK_TRAIL; number++) {
        uint8_t *head = p + at;
        size_t room = size - at - BLOCK_HEAD - BLOCK_TRAIL;
        struct block_head h = {.flags = get_u32(head + 12) & (BLOCK_F_KNOWN | 1), .from_ns = get_u64(head + 32),
                               .to_ns = UINT64_MAX, .base_ns = get_u64(head + 48), .records = get_u32(head + 56) % 1000,
                               .body_len = get_u32(head + 60) % 4096, .raw_len = get_u32(head + 64) % 65536,
                               .index_len = get_u32(head + 72) % 512, .number = number};

        if (h.body_len > room)
            h.body_len = (uint32_t)room;
        if (h.index_len > room - h.body_len)
            h.index_len = (uint32_t)room - h.body_len;
        if (!(h.flags & BLOCK_F_ZSTD))
            h.raw_len = h.body_len;
        if (h.raw_len < BLOCK_SECTIONS)
            return;
        if (h.records > h.raw_len)
            h.records = h.raw_len;
        if (h.flags & BLOCK_F_CONTINUES)
            h.back = get_u64(head + 24) % at + 1;
        h.len = BLOCK_HEAD + h.body_len + h.index_len + BLOCK_TRAIL;
        h.body_crc = crc32c(head + BLOCK_HEAD, h.body_len);
        h.index_crc = crc32c(head + BLOCK_HEAD + h.body_len, h.index_len);
        block_head_put(head, &h);
        at += h.len;
        put_u32(p + at - 8, h.len);
        put_u32(p + at - 4, BLOCK_END);
    }
}

static void go_on(int fd)
{
    static struct tm_process who = {.pid = 1, .host = "h"};
    const struct ev_record rec = {.kind = EV_EVENT, .who = &who, .time_ns = 1, .sourcetype = "fs", .source = "fs.open"};
    struct journal_writer *w = journal_writer_new(dup(fd));
    const struct journal_want all = {.to_ns = UINT64_MAX}; /* no index is asked */
    struct journal_reader *r;
    struct ev_record got;
    unsigned version;

    if (!w)
        return;
    if (!journal_write(w, &rec))
        abort();
    journal_writer_free(w, 100000);
    r = journal_reader_new(dup(fd), &all, &version);
    if (!r)
        abort();
    journal_last(r, 1);
    if (!journal_next(r, &got) || strcmp(got.who->host, "h") != 0 || journal_next(r, &got))
        abort();
    journal_reader_free(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const sources[] = {"fs.open", "stdout"};
    static const uint32_t pids[] = {4242};
    static const struct journal_want wants[] = {
        {0}, {.sources = sources, .source_count = 2}, {.pids = pids, .pid_count = 1, .sources = sources, .source_count = 1},
        {.from_ns = 1, .to_ns = UINT64_C(1700000000000000000)},
    };
    static int fd = -1;
    uint8_t *copy;

    if (fd < 0)
        fd = memfd_create("fuzz", MFD_CLOEXEC);
    copy = malloc(size + 1);
    if (size)
        memcpy(copy, data, size);
    for (int pass = 0; pass < 2; pass++) {
        put_file(fd, copy, size);
        for (size_t i = 0; i < sizeof(wants) / sizeof(*wants); i++)
            if (read_all(fd, &wants[i], size) > size)
                abort();
        if (size % 32 == 0) /* it takes a thread */
            go_on(fd);
        mend(copy, size);
    }
    free(copy);
    return 0;
}
