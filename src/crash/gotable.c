/* SPDX-License-Identifier: Apache-2.0 */
#include "crash/gotable.h"

#include <string.h>

#include "machine.h"

#define STEPS_MAX 100000u /* in a table of values of one function */

static uint64_t word(const struct gotable *t, uint64_t at, unsigned size)
{
    uint64_t v = 0;

    if (at < t->size && size <= t->size - at)
        memcpy(&v, t->bytes + at, size);
    return v;
}

static unsigned format_of(const uint8_t *bytes, size_t size)
{
    uint32_t magic;

    if (size < 16 || bytes[4] || bytes[5] || bytes[6] != MACHINE_GO_QUANTUM || bytes[7] != 8) /* size of a pointer */
        return 0;
    memcpy(&magic, bytes, sizeof(magic));
    return magic == 0xfffffffb ? 2 : magic == 0xfffffffa ? 16 : magic == 0xfffffff0 || magic == 0xfffffff1 ? 18 : 0;
}

size_t gotable_text_place(const void *bytes, size_t size)
{
    return format_of(bytes, size) == 18 ? 24 : 0;
}

/* Size of an entry of the list of functions: address or distance, and place. */
static unsigned entry_size(const struct gotable *t)
{
    return t->format == 18 ? 8 : 16;
}

bool gotable_open(struct gotable *t, const void *bytes, size_t size, uint64_t text)
{
    *t = (struct gotable){.bytes = bytes, .size = size, .format = format_of(bytes, size), .text = text};
    if (!t->format)
        return false;
    t->count = word(t, 8, 8);
    if (t->format == 2) {
        t->functions = 16;
    } else {
        uint64_t at = t->format == 18 ? 32 : 24;

        t->names = word(t, at, 8);
        t->units = word(t, at + 8, 8);
        t->files = word(t, at + 16, 8);
        t->values = word(t, at + 24, 8);
        t->functions = word(t, at + 32, 8);
        if (t->format == 18 && word(t, 24, 8) && !text)
            t->text = word(t, 24, 8);
    }
    return t->functions < size && t->count && t->count < (size - t->functions) / entry_size(t) &&
           (t->format != 18 || t->text);
}

static const char *string_at(const struct gotable *t, uint64_t at)
{
    return at < t->size && memchr(t->bytes + at, '\0', t->size - at) ? (const char *)t->bytes + at : NULL;
}

static uint64_t entry_of(const struct gotable *t, uint64_t i)
{
    uint64_t at = t->functions + i * entry_size(t);

    return t->format == 18 ? t->text + word(t, at, 4) : word(t, at, 8);
}

bool gotable_function(const struct gotable *t, uint64_t address, struct gofunction *ret)
{
    uint64_t lo = 0, hi = t->count, at; /* behind the last one stands where it ends */
    unsigned address_size = t->format == 18 ? 4 : 8;

    if (address < entry_of(t, 0) || address >= entry_of(t, t->count))
        return false;
    while (hi - lo > 1) {
        uint64_t mid = lo + (hi - lo) / 2;

        if (entry_of(t, mid) <= address)
            lo = mid;
        else
            hi = mid;
    }
    at = word(t, t->functions + lo * entry_size(t) + address_size, address_size);
    ret->at = (t->format == 2 ? 0 : t->functions) + at;
    ret->entry = entry_of(t, lo);
    ret->end = entry_of(t, lo + 1);
    if (at >= t->size || ret->at + 40 > t->size)
        return false;
    ret->name = string_at(t, t->names + (uint32_t)word(t, ret->at + address_size, 4));
    return ret->name != NULL;
}

/* Numbers of 7 bits each, the lowest first. */
static uint64_t varint(const struct gotable *t, uint64_t *at)
{
    uint64_t v = 0;

    for (unsigned shift = 0; shift < 35 && *at < t->size; shift += 7) {
        uint8_t b = t->bytes[(*at)++];

        v |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80))
            break;
    }
    return v;
}

/* What a table of values says of an address: pairs of differences, of value and of address. -1: nothing. */
static int64_t value_at(const struct gotable *t, const struct gofunction *f, uint64_t place, uint64_t address)
{
    uint64_t at = t->values + place, pc = f->entry;
    int64_t value = -1;

    if (!place || at >= t->size)
        return -1;
    for (unsigned i = 0; i < STEPS_MAX && at < t->size; i++) {
        uint64_t v = varint(t, &at);

        if (!v && i)
            return -1;
        value += v & 1 ? -(int64_t)(v >> 1) - 1 : (int64_t)(v >> 1);
        pc += varint(t, &at) * MACHINE_GO_QUANTUM;
        if (address < pc)
            return value;
    }
    return -1;
}

/* The n-th 32-bit number behind entry and name: args, deferreturn, then the tables of values and what follows. */
static uint64_t member(const struct gotable *t, const struct gofunction *f, unsigned n)
{
    return word(t, f->at + (t->format == 18 ? 4 : 8) + 4 + 4 * (uint64_t)n, 4);
}
enum { MEMBER_SP = 2, MEMBER_FILE = 3, MEMBER_LINE = 4, MEMBER_UNIT = 6 };

unsigned gotable_line(const struct gotable *t, const struct gofunction *f, uint64_t address, const char **ret_file)
{
    int64_t line = value_at(t, f, member(t, f, MEMBER_LINE), address);
    int64_t file = value_at(t, f, member(t, f, MEMBER_FILE), address);

    *ret_file = NULL;
    if (file < 0 || line <= 0 || line > INT32_MAX)
        return 0;
    if (t->format == 2) {
        uint64_t list = word(t, t->functions + t->count * 16 + 8, 4);

        *ret_file = string_at(t, word(t, list + 4 * (uint64_t)file, 4));
    } else {
        uint64_t at = word(t, t->units + 4 * (member(t, f, MEMBER_UNIT) + (uint64_t)file), 4);

        *ret_file = at == UINT32_MAX ? NULL : string_at(t, t->files + at);
    }
    return *ret_file ? (unsigned)line : 0;
}

int64_t gotable_frame_size(const struct gotable *t, const struct gofunction *f, uint64_t address)
{
    int64_t size = value_at(t, f, member(t, f, MEMBER_SP), address);

    return size >= 0 && size < (int64_t)1 << 30 ? size : -1;
}
