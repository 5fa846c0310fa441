/* SPDX-License-Identifier: Apache-2.0 */
/* What writer and reader share: the layout of docs/journal.md, in little-endian bytes. */
#ifndef SCOPE_JOURNAL_FORMAT_H
#define SCOPE_JOURNAL_FORMAT_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define JOURNAL_VERSION   1u
#define JOURNAL_HEAD      16u /* magic, version, CRC32C of both */

#define BLOCK_MAGIC       0x1a4a5397u /* bytes 97 53 4a 1a */
#define BLOCK_END         0x1a454a97u /* bytes 97 4a 45 1a */
#define BLOCK_HEAD        80u
#define BLOCK_TRAIL       8u
#define BLOCK_SECTIONS    12u /* lengths of strings, processes, shapes */
#define BLOCK_PART_MAX    (16u << 20) /* of body, raw body, index: what a reader takes */
#define GROUP_RAW_MAX     (24u << 20) /* raw bodies of a block and those that continue it */

/* Bits of block_head.flags. Of those above 0xffff a reader must know all. */
#define BLOCK_F_CONTINUES 0x1u     /* uses the tables of the blocks before it */
#define BLOCK_F_ZSTD      0x10000u /* the body is one zstd frame */
#define BLOCK_F_KNOWN     BLOCK_F_ZSTD

/* What a value is, by its high four bits how it is written: those are all that a reader must know. */
enum {
    WIRE_CLASS_NONE = 0x00, WIRE_WHO = 0x00, WIRE_OWNER = 0x01,
    WIRE_CLASS_INT = 0x10, WIRE_INT = 0x10, WIRE_UINT = 0x11, WIRE_HUNDREDTHS = 0x12,
    WIRE_CLASS_FIXED = 0x20, WIRE_NUM = 0x20,
    WIRE_CLASS_STR = 0x30, WIRE_STR = 0x30,
    WIRE_CLASS_LIST = 0x40, WIRE_LIST = 0x40,
    WIRE_CLASS_FLIP = 0x50, WIRE_BOOL = 0x50,
    WIRE_CLASS_END = 0x60,
};

/* First varint of a record: number of its shape, and what follows. */
#define RECORD_PROCESS    1u
#define RECORD_CHANNEL    2u
#define RECORD_SHIFT      2

struct block_head {
    uint32_t len;                     /* of the whole block */
    uint32_t flags;
    uint64_t number;                  /* in this file, from 0 */
    uint64_t back;                    /* bytes from here to the block that begins the group; 0: this one */
    uint64_t from_ns, to_ns, base_ns; /* earliest and latest record; what the first one's time is counted from */
    uint32_t records;
    uint32_t body_len, raw_len, body_crc;
    uint32_t index_len, index_crc;
};

static inline void put_u32(uint8_t *p, uint32_t v)
{
    v = htole32(v);
    memcpy(p, &v, sizeof(v));
}

static inline void put_u64(uint8_t *p, uint64_t v)
{
    v = htole64(v);
    memcpy(p, &v, sizeof(v));
}

static inline uint32_t get_u32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof(v));
    return le32toh(v);
}

static inline uint64_t get_u64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof(v));
    return le64toh(v);
}

#define VARINT_MAX 10
/* Seven bits a byte, the lowest first; the high bit: more follow. */
static inline uint8_t *put_varint(uint8_t *p, uint64_t v)
{
    while (v >= 0x80) {
        *p++ = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    *p++ = (uint8_t)v;
    return p;
}

/* NULL: none within the bytes that are there. */
static inline const uint8_t *get_varint(const uint8_t *p, const uint8_t *end, uint64_t *ret)
{
    uint64_t v = 0;

    if (p < end && *p < 0x80) {
        *ret = *p;
        return p + 1;
    }
    for (unsigned shift = 0; p < end && shift < 64; shift += 7) {
        v |= (uint64_t)(*p & 0x7f) << shift;
        if (*p++ < 0x80) {
            *ret = v;
            return p;
        }
    }
    return NULL;
}

/* Small numbers of either sign become small ones without. */
static inline uint64_t zigzag(uint64_t v)
{
    return v << 1 ^ (0 - (v >> 63));
}

static inline uint64_t unzigzag(uint64_t v)
{
    return v >> 1 ^ (0 - (v & 1));
}

uint32_t crc32c(const void *bytes, size_t len);
/* The same, for CPUs that have no instruction for it. */
uint32_t crc32c_by_table(const void *bytes, size_t len);

void journal_head_put(uint8_t p[JOURNAL_HEAD]);
/* 0, -EBADMSG, or -EPROTONOSUPPORT; *ret_version is set unless it is no journal. */
int journal_head_get(const uint8_t p[JOURNAL_HEAD], unsigned *ret_version);
/* With its check sum. */
void block_head_put(uint8_t p[BLOCK_HEAD], const struct block_head *h);
/* False: no head of a block, or one that says what can't be. */
bool block_head_get(const uint8_t p[BLOCK_HEAD], struct block_head *ret);
/* Reads n bytes at an offset; fewer at the end of the file. -errno. */
ssize_t read_at(int fd, void *p, size_t n, uint64_t offset);

/* One source of a block's index. */
struct index_source {
    uint8_t kind;
    const char *sourcetype, *source; /* not terminated */
    size_t sourcetype_len, source_len;
    uint64_t count;
};
/* Takes one entry from *p. False: it is damaged. */
bool index_source_get(const uint8_t **p, const uint8_t *end, struct index_source *ret);

#endif
