/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/arch/x86_64/keys.h"

#include <string.h>

#include "plan/arch/x86_64/decode.h"

/* aeskeygenassist imm, xmm, xmm (SDM volume 2A) without the prefixes of registers above xmm7, which that assembly doesn't
 * use. A set-up of a 256-bit key has 13 of them. */
static const uint8_t anchor[] = {0x66, 0x0f, 0x3a, 0xdf};
#define GROUP_GAP 512u    /* bytes between two of the same function at most */
#define GROUP_MAX 0x2000u /* ... from the first to the last one: code that is made for it could keep us for long */
#define GROUP_LEAST 5u
#define GROUPS_MAX 32u    /* an image has as many as it has libraries of its own, with one or two each */
#define BEFORE 0x160u     /* of the first one: where the function begins */
#define BEHIND 0x600u     /* of the last one: the other set-up of the same library, without aeskeygenassist */

/* sub $8,%rsp: all forms begin so. */
static const uint8_t begin[] = {0x48, 0x83, 0xec, 0x08};

/* By dev/key-forms. Each was executed (tests/tls/test_keys.py, or by hand), but for the two without AVX: these lie beside
 * those with it, in the same images. */
static const struct {
    uint16_t count;
    uint64_t hash;
} forms[] = {
    {284, UINT64_C(0x5ed5e5b8fe6311db)}, /* OpenSSL 3: Debian's libcrypto.a */
    {285, UINT64_C(0x7fa3b0767aaa148e)}, /* aws-lc, BoringSSL up to 2024: deno 2.9.6 */
    {152, UINT64_C(0xaef76df1a58a678f)}, /* BoringSSL since 2024, without AVX: bun 1.4.5 */
    {144, UINT64_C(0x7207bf1193afb1c2)}, /* ... with it */
    {228, UINT64_C(0x63056e798b7c943a)}, /* ring 2018 to 2025: deno 2.2.0 */
    {105, UINT64_C(0x9ead32a0f2eae889)}, /* ring 0.17.14, without AVX: dprint 0.57.4 */
    {110, UINT64_C(0xf6857a6655b1b2f2)}, /* ... with it */
};

#define FNV UINT64_C(0x100000001b3)

static uint64_t mix(uint64_t h, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * FNV;
    return h;
}

struct stream {
    unsigned count;
    uint64_t at[X86_STREAM_MAX];
    struct x86_instr in[X86_STREAM_MAX];
};

static void read_stream(const struct elf_image *elf, uint64_t vaddr, struct stream *s)
{
    const struct elf_range *t = elf_text_at(elf, vaddr);
    const uint8_t *p = t ? t->bytes + (vaddr - t->vaddr) : NULL;
    size_t left = t ? t->size - (size_t)(vaddr - t->vaddr) : 0;

    s->count = 0;
    while (s->count < X86_STREAM_MAX) {
        struct x86_instr *in = &s->in[s->count];
        unsigned n = left ? x86_decode(p, left, in) : 0;

        if (!n)
            break;
        if (in->kind != X86_NOP && in->kind != X86_ENDBR && in->kind != X86_INT3)
            s->at[s->count++] = vaddr;
        p += n;
        left -= n;
        vaddr += n;
    }
}

static bool is_branch(const struct x86_instr *in)
{
    return in->rel_size && (in->kind == X86_CALL || in->kind == X86_JMP || in->kind == X86_JCC || in->kind == X86_LOOP);
}

static uint64_t target(const struct stream *s, unsigned i)
{
    return s->at[i] + s->in[i].len + (uint64_t)(int64_t)s->in[i].rel;
}

/* Which instruction is at, or behind padding at, vaddr; X86_STREAM_MAX: none of these. */
static uint16_t index_of(const struct stream *s, uint64_t vaddr)
{
    unsigned lo = 0, hi = s->count;

    if (!s->count || vaddr < s->at[0] || vaddr > s->at[s->count - 1])
        return X86_STREAM_MAX;
    while (lo < hi) {
        unsigned mid = lo + (hi - lo) / 2;

        if (s->at[mid] < vaddr)
            lo = mid + 1;
        else
            hi = mid;
    }
    return (uint16_t)lo;
}

unsigned x86_stream(const struct elf_image *elf, uint64_t vaddr, uint64_t hash[X86_STREAM_MAX])
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    struct stream s;

    read_stream(elf, vaddr, &s);
    for (unsigned i = 0; i < s.count; i++) {
        const struct x86_instr *in = &s.in[i];
        const struct elf_range *t = elf_text_at(elf, s.at[i]);
        const uint8_t *p = t->bytes + (s.at[i] - t->vaddr);

        if (is_branch(in)) {
            uint16_t to = index_of(&s, target(&s, i));
            uint8_t what[] = {in->kind, in->kind == X86_JCC ? in->opcode & 15 : 0, (uint8_t)to, (uint8_t)(to >> 8)};

            h = mix(h, what, sizeof(what));
        } else {
            uint8_t bytes[X86_INSN_MAX + 1] = {in->len};

            memcpy(bytes + 1, p, in->len);
            if (in->rip_at)
                memset(bytes + 1 + in->rip_at, 0, 4);
            h = mix(h, bytes, 1u + in->len);
        }
        hash[i] = h;
    }
    return s.count;
}

unsigned x86_stream_function(const struct elf_image *elf, uint64_t vaddr)
{
    struct stream s;
    unsigned far = 0; /* the last instruction that something before leads to */

    read_stream(elf, vaddr, &s);
    for (unsigned i = 0; i < s.count; i++) {
        if (is_branch(&s.in[i])) {
            uint16_t to = index_of(&s, target(&s, i));

            if (to == X86_STREAM_MAX && s.in[i].kind != X86_CALL && target(&s, i) > vaddr)
                return 0;
            if (to < X86_STREAM_MAX && to > far)
                far = to;
        }
        if (x86_ends_flow(&s.in[i]) && far <= i)
            return i + 1;
    }
    return 0;
}

/* The first anchor in [p, end); NULL: none. By its last byte, which is rare: memmem(3) takes five times as long. */
static const uint8_t *next_anchor(const uint8_t *p, const uint8_t *end)
{
    const size_t last = sizeof(anchor) - 1;

    while ((size_t)(end - p) > last) {
        const uint8_t *at = memchr(p + last, anchor[last], (size_t)(end - p) - last);

        if (!at)
            return NULL;
        if (!memcmp(at - last, anchor, last))
            return at - last;
        p = at - last + 1;
    }
    return NULL;
}

/* The functions that may begin in [lo, hi). */
static void places_in(const struct elf_range *t, size_t lo, size_t hi, void (*fn)(void *arg, uint64_t vaddr, bool begins),
                      void *arg)
{
    const uint8_t *p = t->bytes + lo, *end = t->bytes + hi;

    for (; (p = memmem(p, (size_t)(end - p), begin, sizeof(begin))); p++)
        fn(arg, t->vaddr + (uint64_t)(p - t->bytes), true);
}

void x86_key_places(const struct elf_image *elf, void (*fn)(void *arg, uint64_t vaddr, bool begins), void *arg)
{
    unsigned groups = 0;

    for (unsigned i = 0; i < elf->text_count; i++) {
        const struct elf_range *t = &elf->text[i];
        const uint8_t *end = t->bytes + t->size, *next = next_anchor(t->bytes, end);

        while (next && groups < GROUPS_MAX) {
            size_t first = (size_t)(next - t->bytes), last = first, count = 0, lo, hi;

            while (next && (size_t)(next - t->bytes) - last <= GROUP_GAP && (size_t)(next - t->bytes) - first <= GROUP_MAX) {
                last = (size_t)(next - t->bytes);
                count++;
                next = next_anchor(next + 1, end);
            }
            if (count < GROUP_LEAST)
                continue;
            groups++;
            lo = first > BEFORE ? first - BEFORE : 0;
            hi = t->size - last > BEHIND ? last + BEHIND : t->size;
            places_in(t, lo, hi, fn, arg);
            fn(arg, t->vaddr + first, false);
        }
    }
}

struct search {
    const struct elf_image *elf;
    struct functions *found;
    bool any; /* since the last anchor */
};

static void look(void *arg, uint64_t vaddr, bool begins)
{
    uint64_t hash[X86_STREAM_MAX];
    struct search *s = arg;
    unsigned n = begins ? x86_stream(s->elf, vaddr, hash) : 0;

    for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
        if (forms[i].count && forms[i].count <= n && hash[forms[i].count - 1] == forms[i].hash) {
            functions_add(s->found, vaddr, FN_aes_set_encrypt_key, PLAN_OK);
            s->any = true;
            break;
        }
    }
    if (begins)
        return;
    if (!s->any)
        functions_add(s->found, vaddr, FN_aes_set_encrypt_key, PLAN_R_UNKNOWN_FORM);
    s->any = false;
}

void x86_find_keys(const struct elf_image *elf, struct functions *ret)
{
    struct search s = {elf, ret, false};

    x86_key_places(elf, look, &s);
}
