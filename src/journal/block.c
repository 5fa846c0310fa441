/* SPDX-License-Identifier: Apache-2.0 */
/* Heads of the file and of blocks. */
#include <errno.h>
#include <sys/types.h>
#include <unistd.h>

#include "journal/crc.h"
#include "journal/format.h"

/* CRC32C (Castagnoli, reflected polynomial 0x82f63b78; RFC 3720, B.4), eight bytes at a time. */
static uint32_t table[8][256];
static bool by_cpu;

static void __attribute__((constructor)) make_table(void)
{
    by_cpu = arch_has_crc32c();
    for (unsigned i = 0; i < 256; i++) {
        uint32_t v = i;

        for (int bit = 0; bit < 8; bit++)
            v = v >> 1 ^ (v & 1 ? 0x82f63b78 : 0);
        table[0][i] = v;
    }
    for (unsigned i = 0; i < 256; i++)
        for (int k = 1; k < 8; k++)
            table[k][i] = table[k - 1][i] >> 8 ^ table[0][table[k - 1][i] & 0xff];
}

static uint32_t by_table(uint32_t v, const uint8_t *p, size_t len)
{
    for (; len >= 8; len -= 8, p += 8) {
        uint32_t a = get_u32(p) ^ v, b = get_u32(p + 4);

        v = table[7][a & 0xff] ^ table[6][a >> 8 & 0xff] ^ table[5][a >> 16 & 0xff] ^ table[4][a >> 24] ^
            table[3][b & 0xff] ^ table[2][b >> 8 & 0xff] ^ table[1][b >> 16 & 0xff] ^ table[0][b >> 24];
    }
    for (; len; len--)
        v = v >> 8 ^ table[0][(v ^ *p++) & 0xff];
    return v;
}

uint32_t crc32c(const void *bytes, size_t len)
{
    return ~(by_cpu ? arch_crc32c(~0u, bytes, len) : by_table(~0u, bytes, len));
}

uint32_t crc32c_by_table(const void *bytes, size_t len)
{
    return ~by_table(~0u, bytes, len);
}

static const uint8_t journal_magic[8] = {'S', 'C', 'O', 'P', 'E', 'J', 'N', 'L'};

void journal_head_put(uint8_t p[JOURNAL_HEAD])
{
    memcpy(p, journal_magic, sizeof(journal_magic));
    put_u32(p + 8, JOURNAL_VERSION);
    put_u32(p + 12, crc32c(p, 12));
}

int journal_head_get(const uint8_t p[JOURNAL_HEAD], unsigned *ret_version)
{
    if (memcmp(p, journal_magic, sizeof(journal_magic)) != 0 || get_u32(p + 12) != crc32c(p, 12))
        return -EBADMSG;
    *ret_version = get_u32(p + 8);
    return *ret_version == JOURNAL_VERSION ? 0 : -EPROTONOSUPPORT;
}

void block_head_put(uint8_t p[BLOCK_HEAD], const struct block_head *h)
{
    put_u32(p, BLOCK_MAGIC);
    put_u32(p + 8, h->len);
    put_u32(p + 12, h->flags);
    put_u64(p + 16, h->number);
    put_u64(p + 24, h->back);
    put_u64(p + 32, h->from_ns);
    put_u64(p + 40, h->to_ns);
    put_u64(p + 48, h->base_ns);
    put_u32(p + 56, h->records);
    put_u32(p + 60, h->body_len);
    put_u32(p + 64, h->raw_len);
    put_u32(p + 68, h->body_crc);
    put_u32(p + 72, h->index_len);
    put_u32(p + 76, h->index_crc);
    put_u32(p + 4, crc32c(p + 8, BLOCK_HEAD - 8));
}

bool block_head_get(const uint8_t p[BLOCK_HEAD], struct block_head *ret)
{
    if (get_u32(p) != BLOCK_MAGIC || get_u32(p + 4) != crc32c(p + 8, BLOCK_HEAD - 8))
        return false;
    *ret = (struct block_head){
        .len = get_u32(p + 8), .flags = get_u32(p + 12), .number = get_u64(p + 16), .back = get_u64(p + 24),
        .from_ns = get_u64(p + 32), .to_ns = get_u64(p + 40), .base_ns = get_u64(p + 48), .records = get_u32(p + 56),
        .body_len = get_u32(p + 60), .raw_len = get_u32(p + 64), .body_crc = get_u32(p + 68),
        .index_len = get_u32(p + 72), .index_crc = get_u32(p + 76),
    };
    return ret->body_len <= BLOCK_PART_MAX && ret->index_len <= BLOCK_PART_MAX && ret->raw_len <= BLOCK_PART_MAX &&
           ret->len == BLOCK_HEAD + ret->body_len + ret->index_len + BLOCK_TRAIL && ret->raw_len >= BLOCK_SECTIONS &&
           (ret->flags & BLOCK_F_ZSTD || ret->raw_len == ret->body_len) && ret->records <= ret->raw_len &&
           !(ret->flags & BLOCK_F_CONTINUES) == !ret->back && ret->from_ns <= ret->to_ns;
}

ssize_t read_at(int fd, void *p, size_t n, uint64_t offset)
{
    size_t done = 0;

    while (done < n) {
        ssize_t got = pread(fd, (uint8_t *)p + done, n - done, (off_t)(offset + done));

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        done += (size_t)got;
    }
    return (ssize_t)done;
}

static bool text_get(const uint8_t **p, const uint8_t *end, const char **ret, size_t *ret_len)
{
    uint64_t len;

    *p = get_varint(*p, end, &len);
    if (!*p || len > (uint64_t)(end - *p))
        return false;
    *ret = (const char *)*p;
    *ret_len = (size_t)len;
    *p += len;
    return true;
}

bool index_source_get(const uint8_t **p, const uint8_t *end, struct index_source *ret)
{
    if (*p == end)
        return false;
    ret->kind = *(*p)++;
    if (!text_get(p, end, &ret->sourcetype, &ret->sourcetype_len) || !text_get(p, end, &ret->source, &ret->source_len))
        return false;
    *p = get_varint(*p, end, &ret->count);
    return *p != NULL;
}
