/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/go.h"

#include <string.h>

/* A program has one table and one module, and may carry a few more in its data. Only a file made to waste time has more
 * than this. */
#define MAX_TABLES 8
#define MAX_MODULES 8

#define NOTE_GO_BUILD_ID 4 /* cmd/link/internal/ld/elf.go: ELF_NOTE_GOBUILDID_TAG */

/* The first word of a function table: magic number, two zeroes, size of the smallest instruction, of a pointer. */
#define TABLE_HEAD(magic) (UINT64_C(0x08010000) << 32 | (magic))

enum go_format {
    GO_NONE,
    GO_1_2 = 1,  /* functions follow at once, as addresses */
    GO_1_16 = 2, /* a longer head; functions as addresses */
    GO_1_18 = 3, /* functions as 32-bit distances from the start of the text; since 1.20 with another magic number */
};

static enum go_format format_of(uint64_t head)
{
    if ((head >> 48 & 0xff) == 4) /* instructions of arm64 */
        head ^= UINT64_C(5) << 48;
    switch (head) {
    case TABLE_HEAD(0xfffffffb):
        return GO_1_2;
    case TABLE_HEAD(0xfffffffa):
        return GO_1_16;
    case TABLE_HEAD(0xfffffff0):
    case TABLE_HEAD(0xfffffff1):
        return GO_1_18;
    default:
        return GO_NONE;
    }
}

/* "\xff Go buildinf:", which starts what `go version` reads (debug/buildinfo; since Go 1.13). */
static int is_build_info(const uint8_t *p, uint64_t left)
{
    static const char magic[] = "\xff Go buildinf:";

    return left >= sizeof(magic) - 1 && memcmp(p, magic, sizeof(magic) - 1) == 0;
}

struct table {
    const struct elf_image *elf;
    enum go_format format;
    uint64_t vaddr, count, functions; /* address of the table, number of functions, address of their list */
    unsigned entry;                   /* bytes of an entry of the list */
    uint64_t text;                    /* what distances count from */
    unsigned modules;                 /* looked at in vain */
    struct elf_addresses *out;
    const uint8_t *bytes;             /* the table, and how much may be read of it and what follows */
    uint64_t size;
    uint64_t names, infos;            /* where in it names begin, and what entries say of functions */
};

static uint64_t word_at(const struct elf_image *elf, uint64_t vaddr, unsigned size)
{
    const uint8_t *p = elf_at(elf, vaddr, size, NULL);
    uint64_t v = 0;

    if (p)
        memcpy(&v, p, size);
    return v;
}

struct word_arg {
    uint64_t place, value;
};

static void take_word(void *arg, uint64_t place, uint64_t value)
{
    struct word_arg *w = arg;

    if (place == w->place)
        w->value = value;
}

/* An address that the image holds: as the loader will have relocated it, if it does. */
static uint64_t address_at(const struct elf_image *elf, uint64_t vaddr)
{
    struct word_arg w = {vaddr, word_at(elf, vaddr, 8)};

    if (!elf->position_dependent)
        elf_each_relative(elf, take_word, &w);
    return w.value;
}

/* The end of the text, where the last function ends, is the first word of the entry behind the last. */
static uint64_t function_at(const struct table *t, uint64_t i)
{
    uint64_t at = t->functions + i * t->entry;

    return t->format == GO_1_18 ? t->text + word_at(t->elf, at, 4) : address_at(t->elf, at);
}

/* The start of the text as runtime.moduledata has it (runtime/symtab.go): the table, six slices, findfunctab, minpc,
 * maxpc, text. Is this one? */
static void take_text(void *arg, uint64_t place, uint64_t value)
{
    enum { MINPC = 160, MAXPC = 168, TEXT = 176 };
    struct table *t = arg;
    uint64_t text;

    if (t->text || value != t->vaddr || t->modules++ >= MAX_MODULES)
        return;
    text = address_at(t->elf, place + TEXT);
    if (text && address_at(t->elf, place + MINPC) == text + function_at(t, 0) &&
        address_at(t->elf, place + MAXPC) == text + function_at(t, t->count))
        t->text = text;
}

/* Later releases leave the start of the text out of the table's head. */
static void find_text(struct table *t)
{
    if (!t->elf->position_dependent) {
        elf_each_relative(t->elf, take_text, t);
        return;
    }
    for (unsigned i = 0; i < t->elf->segment_count; i++) {
        const struct elf_range *s = &t->elf->segments[i];

        for (uint64_t off = -s->vaddr & 7; off + 8 <= s->size; off += 8) {
            uint64_t v;

            memcpy(&v, s->bytes + off, sizeof(v));
            take_text(t, s->vaddr + off, v);
        }
    }
}

static int table_open(const struct elf_image *elf, uint64_t vaddr, struct table *t)
{
    enum go_format format = format_of(word_at(elf, vaddr, 8));
    uint64_t left;

    *t = (struct table){.elf = elf, .format = format, .vaddr = vaddr, .entry = format == GO_1_18 ? 8 : 16};
    if (format == GO_NONE || !(t->bytes = elf_at(elf, vaddr, 16, &left)))
        return 0;
    t->size = left;
    t->count = word_at(elf, vaddr + 8, 8);
    if (format == GO_1_2)
        t->functions = vaddr + 16;
    else
        t->functions = vaddr + word_at(elf, vaddr + (format == GO_1_18 ? 64 : 56), 8);
    /* runtime.pcHeader: funcnameOffset, and pclnOffset, which is that of the list. Before 1.16 all count from the table. */
    t->names = format == GO_1_2 ? 0 : word_at(elf, vaddr + (format == GO_1_18 ? 32 : 24), 8);
    t->infos = format == GO_1_2 ? 0 : t->functions - vaddr;
    if (!t->count || t->count > left / t->entry || t->functions - vaddr > left ||
        (t->count + 1) * t->entry > left - (t->functions - vaddr))
        return 0;
    if (format == GO_1_18) {
        t->text = address_at(elf, vaddr + 24);
        if (!t->text)
            find_text(t);
    }
    return 1;
}

static void add_function(void *arg, uint64_t place, uint64_t value)
{
    const struct table *t = arg;

    if (place >= t->functions && place - t->functions < t->count * t->entry && (place - t->functions) % t->entry == 0 &&
        elf_text_at(t->elf, value))
        elf_addresses_add(t->out, value);
}

static void add_functions(struct table *t)
{
    if (t->format != GO_1_18 && !t->elf->position_dependent) {
        elf_each_relative(t->elf, add_function, t);
        return;
    }
    for (uint64_t i = 0; i < t->count; i++) {
        uint64_t v = function_at(t, i);

        if (elf_text_at(t->elf, v))
            elf_addresses_add(t->out, v);
    }
}

/* The methods of FNF_GO, all of *Conn in crypto/tls. */
static const char package[] = "crypto/tls.(*Conn).";
static const struct {
    const char *name;
    enum fn_id fn;
} methods[] = {
    {"Read", FN_go_tls_read},
    {"Write", FN_go_tls_write},
    {"Close", FN_go_tls_close},
    {"clientHandshake", FN_go_tls_client_handshake},
    {"serverHandshake", FN_go_tls_server_handshake},
};

/* A word of the table, which may lie anywhere: 0 where there is none. */
static uint64_t table_word(const struct table *t, uint64_t offset, unsigned size)
{
    uint64_t v = 0;

    if (t->bytes && offset <= t->size && size <= t->size - offset)
        memcpy(&v, t->bytes + offset, size);
    return v;
}

/* The name of function i as its runtime._func has it (entry, then the name's offset); NULL if it isn't there. *left: how
 * many bytes may be read. There are some 100,000: all are in one piece of memory. */
static const char *name_of(const struct table *t, uint64_t i, uint64_t *left)
{
    unsigned word = t->entry / 2;
    uint64_t info = t->infos + table_word(t, t->functions - t->vaddr + i * t->entry + word, word);
    uint64_t name = t->names + (uint64_t)(int64_t)(int32_t)table_word(t, info + word, 4);

    if (name >= t->size)
        return NULL;
    *left = t->size - name;
    return (const char *)t->bytes + name;
}

static void take_functions(const struct table *t, struct go_text *go)
{
    unsigned looked = 0; /* each costs a walk through the relocations, and there is one of each name */

    for (uint64_t i = 0; i < t->count && looked < GO_FUNCTIONS; i++) {
        uint64_t left;
        const char *name = name_of(t, i, &left);

        if (!name || left < sizeof(package) || memcmp(name, package, sizeof(package) - 1) != 0)
            continue;
        name += sizeof(package) - 1;
        left -= sizeof(package) - 1;
        for (size_t k = 0; k < sizeof(methods) / sizeof(methods[0]) && go->count < GO_FUNCTIONS; k++) {
            size_t size = strlen(methods[k].name) + 1;
            struct go_function f = {.fn = methods[k].fn};

            if (left < size || memcmp(name, methods[k].name, size) != 0)
                continue;
            looked++;
            f.lo = function_at(t, i);
            f.hi = function_at(t, i + 1);
            if (f.lo < f.hi && elf_text_at(t->elf, f.lo) && elf_text_at(t->elf, f.lo) == elf_text_at(t->elf, f.hi - 1))
                go->function[go->count++] = f;
        }
    }
}

/* Adds what the table at vaddr covers; 0 if it can't be read. */
static int take_table(const struct elf_image *elf, uint64_t vaddr, struct go_text *go, struct elf_addresses *functions)
{
    struct table t;
    uint64_t lo, hi;

    if (!table_open(elf, vaddr, &t))
        return 0;
    lo = function_at(&t, 0);
    hi = function_at(&t, t.count);
    if (lo >= hi || !elf_text_at(elf, lo) || !elf_text_at(elf, hi - 1))
        return 0;
    t.out = functions;
    add_functions(&t);
    if (go->lo == go->hi) {
        go->lo = lo;
        go->hi = hi;
    }
    go->lo = lo < go->lo ? lo : go->lo;
    go->hi = hi > go->hi ? hi : go->hi;
    take_functions(&t, go);
    return 1;
}

struct go_text go_read(const struct elf_image *elf, struct elf_addresses *functions)
{
    struct go_text go = {0}, all = {0};
    const uint8_t *id;
    uint64_t vaddr;
    unsigned tables = 0;
    int found =
        elf_note(elf->image, elf->size, "Go", NOTE_GO_BUILD_ID, &id) > 0 || elf_section(elf, ".go.buildinfo", &vaddr);

    if (elf->text_count) {
        all.lo = elf->text[0].vaddr;
        all.hi = elf->text[elf->text_count - 1].vaddr + elf->text[elf->text_count - 1].size;
    }
    if (elf_section(elf, ".gopclntab", &vaddr)) {
        go.exact = take_table(elf, vaddr, &go, functions);
        return go.exact ? go : all;
    }
    /* Without section headers, or linked by others. Data may hold a table that isn't this image's (a Go program that
     * carries another one): all that are found count, and each must be readable. */
    for (unsigned i = 0; i < elf->segment_count; i++) {
        const struct elf_range *s = &elf->segments[i];

        for (uint64_t off = -s->vaddr & 7; off + 8 <= s->size; off += 8) {
            uint64_t head;

            memcpy(&head, s->bytes + off, sizeof(head));
            if ((uint32_t)head < 0xfffffff0 && (uint8_t)head != 0xff)
                continue;
            found |= is_build_info(s->bytes + off, s->size - off);
            if (format_of(head) != GO_NONE &&
                (++tables > MAX_TABLES || !take_table(elf, s->vaddr + off, &go, functions)))
                return all;
        }
    }
    go.exact = tables == 1;
    if (!go.exact) /* whose are they? */
        go.count = 0;
    return go.lo < go.hi ? go : found ? all : go;
}
