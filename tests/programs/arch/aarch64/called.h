/* SPDX-License-Identifier: Apache-2.0 */
/* What a function finds in registers that is called through the probe, and what its caller finds there afterwards
 * (tests/tls/fake.c, which includes this). */

#ifdef __ARM_FEATURE_BTI_DEFAULT
#define LANDING "hint #34\n" /* bti c */
#else
#define LANDING
#endif

/*
 * int NAME(SSL *, const void *, size_t, size_t *), for beginnings that are no plain instruction: relative to where they
 * stand, or a landing pad in front of such a one. Each leaves in every register that is not its caller's what it found
 * there, or a number. The result is 1 if its first instructions did what they do where they were written.
 */
#define FUNCTION(name, beginning) \
    ".globl " name "\n.type " name ",@function\n.balign 16\n" name ":\n" beginning " b 3f\n.size " name ",.-" name "\n"

__asm__(".text\n" FUNCTION("SSL_write_ex",
                           LANDING "adrp x16, fake_word\n add x16, x16, :lo12:fake_word\n ldr w16, [x16]\n")
            FUNCTION("SSL_write_early_data", LANDING "cbz x2, 4f\n mov w16, #4711\n")
                FUNCTION("SSL_read_ex", "hint #34\n ldr w16, 2f\n")
                    FUNCTION("SSL_read_early_data",
                             "hint #25\n adr x16, 2f\n hint #29\n ldr w16, [x16]\n") /* paciasp, autiasp */
        "4: mov w16, #0\n"
        "3: str x2, [x3]\n" /* all was moved */
        "mov w17, #4711\n cmp w16, w17\n cset w0, eq\n"
        "add x4, x4, #4\n add x5, x5, #5\n add x6, x6, #6\n add x7, x7, #7\n add x8, x8, #8\n add x9, x9, #9\n"
        "add x10, x10, #10\n add x11, x11, #11\n add x12, x12, #12\n add x13, x13, #13\n add x14, x14, #14\n"
        "add x15, x15, #15\n add v0.2d, v0.2d, v1.2d\n add v16.2d, v16.2d, v31.2d\n ret\n"
        ".balign 4\n2: .word 4711\n"
        ".section .rodata\n.balign 4\nfake_word: .word 4711\n.text\n");

int SSL_write_early_data(SSL *ssl, const void *buf, size_t num, size_t *written);
int SSL_read_ex(SSL *ssl, void *buf, size_t num, size_t *got);
int SSL_read_early_data(SSL *ssl, void *buf, size_t num, size_t *got);

struct registers {
    uint64_t x[32]; /* without x16, x17, x29 to sp */
    uint64_t v[32][2];
};

/* Calls a function with these registers and puts there what they are afterwards. */
void call_with(struct registers *r, const void *function);
#define EACH(op) \
    op " x0, x1, [x17]\n" op " x2, x3, [x17, #16]\n" op " x4, x5, [x17, #32]\n" op " x6, x7, [x17, #48]\n" op \
       " x8, x9, [x17, #64]\n" op " x10, x11, [x17, #80]\n" op " x12, x13, [x17, #96]\n" op \
       " x14, x15, [x17, #112]\n" op " x18, x19, [x17, #144]\n" op " x20, x21, [x17, #160]\n" op \
       " x22, x23, [x17, #176]\n" op " x24, x25, [x17, #192]\n" op " x26, x27, [x17, #208]\n" op \
       " q0, q1, [x17, #256]\n" op " q2, q3, [x17, #288]\n" op " q4, q5, [x17, #320]\n" op " q6, q7, [x17, #352]\n" op \
       " q8, q9, [x17, #384]\n" op " q10, q11, [x17, #416]\n" op " q12, q13, [x17, #448]\n" op \
       " q14, q15, [x17, #480]\n" op " q16, q17, [x17, #512]\n" op " q18, q19, [x17, #544]\n" op \
       " q20, q21, [x17, #576]\n" op " q22, q23, [x17, #608]\n" op " q24, q25, [x17, #640]\n" op \
       " q26, q27, [x17, #672]\n" op " q28, q29, [x17, #704]\n" op " q30, q31, [x17, #736]\n"
#define OWN(op) \
    op " x19, x20, [sp, #16]\n" op " x21, x22, [sp, #32]\n" op " x23, x24, [sp, #48]\n" op " x25, x26, [sp, #64]\n" op \
       " x27, x28, [sp, #80]\n" op " d8, d9, [sp, #96]\n" op " d10, d11, [sp, #112]\n" op " d12, d13, [sp, #128]\n" op \
       " d14, d15, [sp, #144]\n"
__asm__(".text\n.type call_with,@function\n.balign 16\ncall_with:\n" LANDING
        "stp x29, x30, [sp, #-176]!\n" OWN("stp") "str x0, [sp, #160]\n mov x16, x1\n mov x17, x0\n" EACH(
            "ldp") "ldr x28, [x17, #224]\n blr x16\n ldr x17, [sp, #160]\n str x28, [x17, #224]\n" EACH("stp")
            OWN("ldp") "ldp x29, x30, [sp], #176\n ret\n.size call_with,.-call_with\n");

static void check_registers(SSL *writer)
{
    static SSL others[3];
    const struct {
        const void *function;
        SSL *object;
    } calls[] = {{(const void *)SSL_write_ex, writer},
                 {(const void *)SSL_write_early_data, &others[0]},
                 {(const void *)SSL_read_ex, &others[1]},
                 {(const void *)SSL_read_early_data, &others[2]}};

    for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
        size_t moved = 0;
        struct registers before = {{0}, {{0}}}, after;

        for (unsigned n = 0; n < 32; n++) {
            before.x[n] = 100 + n;
            before.v[n][0] = 1000 + n;
            before.v[n][1] = UINT64_MAX - n;
        }
        before.x[0] = (uintptr_t)calls[i].object;
        before.x[1] = (uintptr_t) "bytes";
        before.x[2] = 5;
        before.x[3] = (uintptr_t)&moved;
        after = before;
        errno = 4711;
        call_with(&after, calls[i].function);
        NEED(errno == 4711);
        NEED(after.x[0] == 1 && moved == 5);
        for (unsigned n = 1; n <= 28; n++)
            NEED(after.x[n] == before.x[n] + (n >= 4 && n <= 15 ? n : 0));
        for (unsigned n = 0; n < 32; n++) {
            unsigned more = n == 0 ? 1 : n == 16 ? 31 : 32;

            NEED(after.v[n][0] == before.v[n][0] + (more < 32 ? before.v[more][0] : 0));
            NEED(after.v[n][1] == before.v[n][1] + (more < 32 ? before.v[more][1] : 0));
        }
    }
}
