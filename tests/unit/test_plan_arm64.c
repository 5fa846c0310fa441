/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The planner of arm64, on any machine: what it knows of instructions against another decoder, and what it decides about
 * a few instructions, put into a small ELF image. That what it makes of them does the same is tested by running it
 * (tests/plan).
 */
#include <elf.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <capstone/capstone.h>

#include "plan/arch/aarch64/insn.h"
#include "plan/plan.h"

/* --- instructions ------------------------------------------------------------------ */

static uint64_t seed = 88172645463325252u;

static uint32_t chance(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 16);
}

/* The number of a general register; -1 for others, and for that which reads as zero. */
static int general(unsigned reg)
{
    if (reg >= ARM64_REG_X0 && reg <= ARM64_REG_X28)
        return (int)(reg - ARM64_REG_X0);
    if (reg >= ARM64_REG_W0 && reg <= ARM64_REG_W30)
        return (int)(reg - ARM64_REG_W0);
    return reg == ARM64_REG_X29 ? 29 : reg == ARM64_REG_X30 ? 30 : -1;
}

static enum a64_kind kind_of(const cs_insn *i)
{
    const cs_arm64 *a = &i->detail->arm64;

    switch (i->id) {
    case ARM64_INS_B: return a->cc == ARM64_CC_INVALID ? A64_JUMP : A64_BRANCH;
    case ARM64_INS_CBZ: case ARM64_INS_CBNZ: case ARM64_INS_TBZ: case ARM64_INS_TBNZ: return A64_BRANCH;
    case ARM64_INS_BL: return A64_CALL;
    case ARM64_INS_BR: return A64_INDIRECT;
    case ARM64_INS_BLR: return A64_CALLREG;
    case ARM64_INS_RET: return A64_RET;
    case ARM64_INS_SVC: return A64_KERNEL;
    case ARM64_INS_BRK: case ARM64_INS_HLT: case ARM64_INS_ERET: case ARM64_INS_DRPS: case ARM64_INS_HVC:
    case ARM64_INS_SMC: case ARM64_INS_DCPS1: case ARM64_INS_DCPS2: case ARM64_INS_DCPS3: return A64_TRAP;
    case ARM64_INS_ADR: return A64_ADR;
    case ARM64_INS_ADRP: return A64_ADRP;
    case ARM64_INS_LDR: case ARM64_INS_LDRSW: case ARM64_INS_PRFM:
        return a->op_count && a->operands[a->op_count - 1].type == ARM64_OP_IMM && a->op_count == 2 && !a->writeback
                   ? A64_LITERAL : A64_OTHER;
    default: return A64_OTHER;
    }
}

/* Whether it is the first operand and in no other. (The lists of capstone 4 say that movz and some shifts read what they
 * write.) */
static bool only_first(const cs_arm64 *a, int reg)
{
    for (unsigned i = 1; i < a->op_count; i++)
        if ((a->operands[i].type == ARM64_OP_REG && general(a->operands[i].reg) == reg) ||
            (a->operands[i].type == ARM64_OP_MEM &&
             (general(a->operands[i].mem.base) == reg || general(a->operands[i].mem.index) == reg)))
            return false;
    return a->op_count && a->operands[0].type == ARM64_OP_REG && general(a->operands[0].reg) == reg;
}

/* Whether it changes the stack pointer, by what its operands are. */
static bool moves_sp(const cs_insn *i)
{
    const cs_arm64 *a = &i->detail->arm64;
    bool first = a->op_count && a->operands[0].type == ARM64_OP_REG &&
                 (a->operands[0].reg == ARM64_REG_SP || a->operands[0].reg == ARM64_REG_WSP);

    for (unsigned k = 0; k < a->op_count && a->writeback; k++)
        if (a->operands[k].type == ARM64_OP_MEM && a->operands[k].mem.base == ARM64_REG_SP)
            return true;
    return first && i->id != ARM64_INS_CMP && i->id != ARM64_INS_CMN && i->id != ARM64_INS_TST;
}

/* What the decoder here says of the registers of an instruction must be no less than what the other one does. */
static void check_word(csh cs, cs_insn *insn, uint32_t w)
{
    const uint64_t pc = 0x7f4000;
    const uint8_t *code = (const uint8_t *)&w;
    size_t size = sizeof(w);
    uint64_t at = pc;
    cs_regs reads, writes;
    uint8_t nr = 0, nw = 0;
    enum a64_kind kind, mine = a64_kind(w);
    uint32_t named = 0;
    const cs_arm64 *a;

    if (!cs_disasm_iter(cs, &code, &size, &at, insn))
        return;
    a = &insn->detail->arm64;
    kind = kind_of(insn);
    if (moves_sp(insn) && !a64_moves_sp(w))
        fail_msg("%08x: %s %s moves the stack pointer", w, insn->mnemonic, insn->op_str);
    if (mine == A64_HINT)
        kind = A64_HINT; /* named in many ways */
    if (kind != mine)
        fail_msg("%08x %s %s: kind %d, not %d", w, insn->mnemonic, insn->op_str, (int)mine, (int)kind);
    if (kind == A64_JUMP || kind == A64_CALL || kind == A64_BRANCH || kind == A64_ADR || kind == A64_ADRP ||
        kind == A64_LITERAL)
        if (a64_target(w, pc) != (uint64_t)a->operands[a->op_count - 1].imm)
            fail_msg("%08x %s %s: target %#" PRIx64, w, insn->mnemonic, insn->op_str, a64_target(w, pc));
    if (kind == A64_HINT || kind == A64_CALL || kind == A64_CALLREG || kind == A64_TRAP || kind == A64_KERNEL ||
        kind == A64_RET || cs_regs_access(cs, insn, reads, &nr, writes, &nw) != CS_ERR_OK)
        return;
    for (unsigned i = 0; i < nr; i++)
        named |= general(reads[i]) < 0 ? 0 : 1u << general(reads[i]);
    for (unsigned i = 0; i < nw; i++)
        named |= general(writes[i]) < 0 ? 0 : 1u << general(writes[i]);
    for (unsigned r = 0; r < 31; r++) {
        enum a64_use use = a64_use(w, r);

        if (use == A64_UNTOUCHED && (named >> r & 1))
            fail_msg("%08x %s %s: x%u isn't untouched", w, insn->mnemonic, insn->op_str, r);
        if (use == A64_WRITTEN && !only_first(a, (int)r))
            fail_msg("%08x %s %s: x%u isn't written only", w, insn->mnemonic, insn->op_str, r);
    }
}

static void test_other_decoder(void **state)
{
    cs_insn *insn;
    csh cs;

    (void)state;
    assert_int_equal(cs_open(CS_ARCH_ARM64, CS_MODE_LITTLE_ENDIAN, &cs), CS_ERR_OK);
    cs_option(cs, CS_OPT_DETAIL, CS_OPT_ON);
    insn = cs_malloc(cs);
    /* Each value of the upper 11 bits, by which encodings are told apart, with others below. */
    for (uint32_t high = 0; high < 2048; high++)
        for (unsigned i = 0; i < 200; i++)
            check_word(cs, insn, high << 21 | (chance() & 0x1fffff));
    for (unsigned i = 0; i < 400000; i++)
        check_word(cs, insn, chance());
    cs_free(insn, 1);
    cs_close(&cs);
}

static void test_constants(void **state)
{
    static const struct { uint32_t w; bool is; uint64_t v; } rows[] = {
        {0xd2801b88, true, 0xdc},              /* mov x8, #0xdc */
        {0x52801b88, true, 0xdc},              /* mov w8, #0xdc */
        {0xd2a00028, true, 0x10000},           /* mov x8, #0x10000 */
        {0x92800008, true, UINT64_MAX},        /* mov x8, #-1 */
        {0x12800008, true, UINT32_MAX},        /* mov w8, #-1 */
        {0xb24003e8, true, 1},                 /* orr x8, xzr, #1 */
        {0xb27e07e8, true, 12},                /* orr x8, xzr, #12 */
        {0x3200f3e8, true, 0x55555555},        /* orr w8, wzr, #0x55555555 */
        {0xaa1f03e8, true, 0},                 /* mov x8, xzr */
        {0xf2801b88, false, 0},                /* movk */
        {0xaa0103e8, false, 0},                /* mov x8, x1 */
        {0xd2801b87, false, 0},                /* mov x7 */
        {0xb24003c8, false, 0},                /* orr x8, x30, #1 */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        uint64_t v = 0;

        assert_int_equal(a64_constant(rows[i].w, 8, &v), rows[i].is);
        if (rows[i].is)
            assert_int_equal(v, rows[i].v);
    }
    assert_int_equal(a64_copied(0xaa0103e8, 8), 1);
    assert_int_equal(a64_copied(0x2a0103e8, 8), 1);
    assert_int_equal(a64_copied(0xaa1f03e8, 8), -1);
    assert_int_equal(a64_copied(0xaa0103e8, 7), -1);
    assert_int_equal(a64_copied(0xaa410be8, 8), -1); /* shifted */
}

/* --- images ------------------------------------------------------------------------ */

#define TEXT 0x1000u

/* An image whose text is one function, or several at the words that `starts` has; ended by 0. */
static void *image_of(const uint32_t *words, size_t count, const unsigned *starts, size_t *ret_size)
{
    size_t text = count * 4, symbols = TEXT + ((text + 63) & ~(size_t)63), n = 0;
    Elf64_Sym sym[8] = {{0}};
    Elf64_Shdr sh[4] = {{0}};
    Elf64_Ehdr eh = {.e_type = ET_DYN, .e_machine = EM_AARCH64, .e_version = 1, .e_phoff = sizeof(eh), .e_ehsize = sizeof(eh),
                     .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 1, .e_shentsize = sizeof(Elf64_Shdr), .e_shnum = 4};
    Elf64_Phdr ph = {.p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_offset = TEXT, .p_vaddr = TEXT, .p_filesz = text,
                     .p_memsz = text, .p_align = 4096};
    char *p = calloc(1, symbols + sizeof(sym) + 64 + sizeof(sh));

    memcpy(eh.e_ident, ELFMAG "\2\1\1", 7);
    eh.e_shoff = symbols + sizeof(sym) + 64;
    for (; starts && (n == 0 || starts[n]); n++)
        sym[n + 1] = (Elf64_Sym){.st_name = 1, .st_info = ELF64_ST_INFO(STB_LOCAL, STT_FUNC), .st_shndx = 3,
                                 .st_value = TEXT + starts[n] * 4u};
    for (size_t i = 1; i <= n; i++)
        sym[i].st_size = (i < n ? sym[i + 1].st_value : TEXT + text) - sym[i].st_value;
    sh[1] = (Elf64_Shdr){.sh_type = SHT_SYMTAB, .sh_offset = symbols, .sh_size = (n + 1) * sizeof(*sym), .sh_link = 2,
                         .sh_info = (Elf64_Word)n + 1, .sh_entsize = sizeof(*sym)};
    sh[2] = (Elf64_Shdr){.sh_type = SHT_STRTAB, .sh_offset = symbols + sizeof(sym), .sh_size = 3};
    sh[3] = (Elf64_Shdr){.sh_type = SHT_PROGBITS, .sh_flags = SHF_ALLOC | SHF_EXECINSTR, .sh_addr = TEXT, .sh_offset = TEXT,
                         .sh_size = text};
    memcpy(p, &eh, sizeof(eh));
    memcpy(p + sizeof(eh), &ph, sizeof(ph));
    memcpy(p + TEXT, words, text);
    memcpy(p + symbols, sym, sizeof(sym));
    memcpy(p + symbols + sizeof(sym), "\0f", 3);
    memcpy(p + eh.e_shoff, sh, sizeof(sh));
    *ret_size = eh.e_shoff + sizeof(sh);
    return p;
}

static void *plan_of(const uint32_t *words, size_t count, const unsigned *starts, size_t *ret_size)
{
    size_t size;
    void *plan = NULL, *image = image_of(words, count, starts, &size);

    assert_int_equal(plan_image(image, size, "1234", &plan, ret_size), 0);
    free(image);
    assert_true(plan_check(plan, *ret_size));
    return plan;
}

static const struct plan_site *sites_of(const void *plan)
{
    return (const struct plan_site *)(const void *)((const char *)plan + ((const struct plan_header *)plan)->site_off);
}

#define SVC       0xd4000001u
#define RET       0xd65f03c0u
#define NOP       0xd503201fu
#define BTI_C     0xd503245fu
#define MOV_X8(n) (0xd2800008u | (uint32_t)(n) << 5)
#define CMN       0xb13ffc1fu /* cmn x0, #4095 */
#define CLOSE     57
#define GETPID    172
#define X17(n)    (0x91000231u | (uint32_t)(n) << 10) /* add x17, x17, #n: reads it */
#define X16(n)    (0x91000210u | (uint32_t)(n) << 10)

#define ARRAY(...) ((const uint32_t[]){__VA_ARGS__}), sizeof((const uint32_t[]){__VA_ARGS__}) / 4

static const unsigned one_function[] = {0, 0};

static void expect(const uint32_t *words, size_t count, const unsigned *starts, unsigned site, unsigned method, unsigned reason)
{
    size_t size;
    void *plan = plan_of(words, count, starts, &size);
    const struct plan_header *h = plan;

    assert_true(site < h->site_count);
    assert_int_equal(sites_of(plan)[site].method, method);
    assert_int_equal(sites_of(plan)[site].reason, reason);
    free(plan);
}

static void test_sites(void **state)
{
    (void)state;
    expect(ARRAY(NOP, MOV_X8(CLOSE), SVC, CMN, RET), one_function, 0, PLAN_AFTER, PLAN_OK);
    expect(ARRAY(NOP, MOV_X8(GETPID), SVC, CMN, RET), one_function, 0, PLAN_NONE, PLAN_R_UNINTERESTING);
    /* Nothing says where functions begin: there may be a table of jumps. */
    expect(ARRAY(NOP, MOV_X8(CLOSE), SVC, CMN, RET), NULL, 0, PLAN_MOVE, PLAN_OK);
    /* A branch to the call, and to what is behind it; one to what is before it does no harm. */
    expect(ARRAY(0xb4000041, MOV_X8(CLOSE), SVC, CMN, RET), one_function, 0, PLAN_MOVE, PLAN_OK);
    expect(ARRAY(0xb4000061, MOV_X8(CLOSE), SVC, CMN, RET), one_function, 0, PLAN_MOVE, PLAN_OK);
    expect(ARRAY(0xb4000021, MOV_X8(CLOSE), SVC, CMN, RET), one_function, 0, PLAN_AFTER, PLAN_OK);
    /* What is before it can't be moved: a literal of a vector register, a call. */
    expect(ARRAY(MOV_X8(CLOSE), 0x5c000060, SVC, CMN, RET), one_function, 0, PLAN_MOVE, PLAN_OK);
    expect(ARRAY(MOV_X8(CLOSE), 0x94000003, SVC, CMN, RET), one_function, 0, PLAN_MOVE, PLAN_OK);
    /* The function ends with it. */
    expect(ARRAY(NOP, MOV_X8(CLOSE), SVC, RET), (const unsigned[]){0, 3, 0}, 0, PLAN_MOVE, PLAN_OK);
    /* Calls beside one another: the second one finds its neighbour taken. */
    expect(ARRAY(NOP, MOV_X8(CLOSE), SVC, MOV_X8(CLOSE), SVC, CMN, RET), one_function, 0, PLAN_AFTER, PLAN_OK);
    expect(ARRAY(NOP, MOV_X8(CLOSE), SVC, MOV_X8(CLOSE), SVC, CMN, RET), one_function, 1, PLAN_MOVE, PLAN_OK);
    /* No return. */
    expect(ARRAY(NOP, MOV_X8(94), SVC, NOP, 0xd4200000), one_function, 0, PLAN_MOVE, PLAN_OK);
}

static void test_registers(void **state)
{
    (void)state;
    /* The register for the first argument: x17, else x16, else one that is written before it is read. */
    expect(ARRAY(NOP, MOV_X8(CLOSE), SVC, CMN, X17(1), RET), one_function, 0, PLAN_AFTER, PLAN_OK);
    expect(ARRAY(NOP, MOV_X8(CLOSE), SVC, CMN, X17(1), X16(1), RET), one_function, 0, PLAN_NONE, PLAN_R_NO_REGISTER);
    expect(ARRAY(NOP, MOV_X8(CLOSE), SVC, CMN, X17(1), X16(1), 0xd280000f, RET), one_function, 0, PLAN_AFTER, PLAN_OK);
    /* Behind a table of jumps nobody knows, but if the function names neither. */
    expect(ARRAY(NOP, MOV_X8(CLOSE), SVC, CMN, 0xd61f0020), one_function, 0, PLAN_MOVE, PLAN_OK);
    expect(ARRAY(NOP, MOV_X8(CLOSE), SVC, CMN, 0xd61f0020, X17(1), RET), one_function, 0, PLAN_MOVE, PLAN_OK);
    expect(ARRAY(NOP, MOV_X8(CLOSE), SVC, CMN, 0xd61f0020, X17(1), X16(1), RET), one_function, 0, PLAN_NONE,
           PLAN_R_NO_REGISTER);
    expect(ARRAY(X17(1), X16(1), MOV_X8(CLOSE), SVC, CMN, 0xd61f0020, RET), one_function, 0, PLAN_NONE, PLAN_R_NO_REGISTER);
    /* vfork: br x30 behind a return returns, too. Where something was computed before it, it may be a table. */
    expect(ARRAY(X17(1), X16(1), MOV_X8(CLOSE), SVC, 0xb4000040, RET, 0xd61f03c0), one_function, 0, PLAN_MOVE, PLAN_OK);
    expect(ARRAY(X17(1), X16(1), MOV_X8(CLOSE), SVC, 0xb4000040, RET, NOP, 0xd61f03c0), one_function, 0, PLAN_NONE,
           PLAN_R_NO_REGISTER);
}

/* glibc 2.41's __syscall_cancel_arch and its caller. The address of the second word is taken, by who compares with it. */
static void test_cancellation(void **state)
{
    static const uint32_t words[] = {
        BTI_C, 0xb9400000, 0x37180140, 0xaa0103e8, 0xaa0203e0, 0xaa0303e1, 0xaa0403e2, 0xaa0503e3, 0xaa0603e4, 0xaa0703e5,
        SVC, RET, 0x14000002, NOP,                       /* ldr w0, [x0]; tbnz w0, #3 */
        NOP, 0x97fffff1, RET,                            /* bl */
        0x10fffde0, RET,                                 /* adr x0, the second word */
    };
    static const unsigned starts[] = {0, 14, 17, 0};
    size_t size;
    void *plan = plan_of(words, sizeof(words) / 4, starts, &size);
    const struct plan_header *h = plan;
    const struct plan_site *s = sites_of(plan);
    unsigned callers = 0, after = 0;

    (void)state;
    for (uint32_t i = 0; i < h->site_count; i++) {
        callers += s[i].method == PLAN_CALLER && s[i].vaddr == TEXT + 15 * 4;
        after += s[i].method == PLAN_AFTER && s[i].vaddr == TEXT + 10 * 4;
    }
    assert_int_equal(callers, 1);
    assert_int_equal(after, 1);
    free(plan);
}

/* Where a slot's flags say that the stack pointer is lowered, it is: the words of its code tell. */
static void test_lowered(void **state)
{
    static const uint32_t words[] = {
        NOP, MOV_X8(CLOSE), SVC, CMN, NOP, MOV_X8(56), SVC, RET,
        0xa9bf7bfd, SVC, CMN, RET, /* stp x29, x30, [sp, #-16]! */
        NOP, MOV_X8(CLOSE), SVC, 0xa8c17bfd, RET, /* ldp x29, x30, [sp], #16 */
    };
    size_t size;
    void *plan = plan_of(words, sizeof(words) / 4, one_function, &size);
    const struct plan_header *h = plan;
    const uint8_t *blob = (const uint8_t *)plan + h->blob_off;
    const struct plan_site *s = sites_of(plan);
    unsigned lowered = 0;

    (void)state;
    for (uint32_t o = PLAN_SLOT; o < h->blob_size; o += PLAN_SLOT) {
        const struct plan_slot *slot = (const void *)(blob + o);
        uint32_t first = slot->flags >> 16 & 15, count = slot->flags >> 20 & 15, w;
        int32_t sp = 0;

        for (uint32_t k = 0; k < (PLAN_SLOT - PLAN_SLOT_CODE) / 4; k++) {
            assert_int_equal(sp != 0, k >= first && k < first + count);
            memcpy(&w, blob + o + PLAN_SLOT_CODE + k * 4, sizeof(w));
            lowered += sp != 0;
            if ((w & 0xffc003e0) == 0xa98003e0) /* stp, its base written back before */
                sp += ((int32_t)(w << 10) >> 25) * 8;
            else if ((w & 0xffe00fe0) == 0xf84007e0) /* ldr, behind */
                sp += (int32_t)(w << 11) >> 23;
            else if ((w & 0xffc003ff) == 0x910003ff) /* add sp, sp, #n */
                sp += (int32_t)(w >> 10 & 0xfff);
            else
                assert_false(a64_moves_sp(w) && w != 0xcccccccc);
        }
        assert_int_equal(sp, 0);
    }
    assert_true(lowered > 4 * 7);
    for (uint32_t i = 0; i < h->site_count; i++)
        assert_int_equal(s[i].method, s[i].vaddr < TEXT + 8 * 4 ? PLAN_AFTER : PLAN_MOVE);
    free(plan);
}

/* A plan's calls are named as on its own architecture, whatever this machine is. */
static void test_names(void **state)
{
    static const uint32_t words[] = {NOP, MOV_X8(CLOSE), SVC, CMN, MOV_X8(56), SVC, CMN, MOV_X8(GETPID), SVC, RET};
    size_t size, length;
    void *plan = plan_of(words, sizeof(words) / 4, one_function, &size);
    char *text;
    FILE *to = open_memstream(&text, &length);

    (void)state;
    plan_explain(plan, size, to);
    fclose(to);
    assert_non_null(strstr(text, " close "));
    assert_non_null(strstr(text, " openat "));
    assert_non_null(strstr(text, " #172 "));
    assert_null(strstr(text, " fork ")); /* x86_64's 57 */
    free(text);
    free(plan);
}

/* A cache has no plan of another architecture for anybody. */
static void test_kept_plans(void **state)
{
    static const uint32_t words[] = {NOP, MOV_X8(CLOSE), SVC, CMN, RET};
    char dir[] = "/tmp/test_plan_arm64-XXXXXX", file[64];
    size_t size;
    void *plan = plan_of(words, sizeof(words) / 4, one_function, &size);
    const struct plan_header *h = plan;
    int fd;

    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(h->arch, PLAN_ARCH_AARCH64);
    assert_int_equal(plan_cache_store(dir, "1234", plan, size), 0);
    fd = plan_cache_open(dir, "1234");
    snprintf(file, sizeof(file), "%s/1234.plan", dir);
    if (h->table_hash == syscall_table_hash()) { /* this is arm64 */
        assert_true(fd >= 0);
        close(fd);
        assert_int_equal(unlink(file), 0);
    } else {
        assert_true(fd < 0);
        assert_int_equal(access(file, F_OK), -1);
    }
    assert_int_equal(rmdir(dir), 0);
    free(plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_other_decoder), cmocka_unit_test(test_constants), cmocka_unit_test(test_sites),
        cmocka_unit_test(test_registers),     cmocka_unit_test(test_cancellation), cmocka_unit_test(test_names),
        cmocka_unit_test(test_kept_plans),   cmocka_unit_test(test_lowered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
