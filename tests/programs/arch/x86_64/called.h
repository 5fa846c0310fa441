/* SPDX-License-Identifier: Apache-2.0 */
/* What a function finds in registers that is called through the probe, and what its caller finds there afterwards
 * (tests/tls/fake.c, which includes this). */

/* int SSL_write_ex(SSL *, const void *, size_t, size_t *): leaves in every register that is not its caller's what it
 * found there, or a number, and says with its result whether the stack is aligned: 1. */
__asm__(".text\n.globl SSL_write_ex\n.type SSL_write_ex,@function\nSSL_write_ex:\n"
        "mov %rdx,(%rcx)\n" /* all was written */
        "addsd %xmm1,%xmm0\n paddq %xmm2,%xmm15\n"
        "lea 1(%r8),%r8\n lea 2(%r9),%r9\n lea 3(%r10),%r10\n"
        "lea 8(%rsp),%rax\n test $15,%al\n sete %al\n movzbl %al,%eax\n ret\n.size SSL_write_ex,.-SSL_write_ex\n");

struct registers {
    uint64_t rax, rdi, rsi, rdx, rcx, r8, r9, r10, rbx, rbp, r12, r13, r14, r15;
    double xmm0, xmm1;
    uint64_t xmm2[2], xmm15[2];
    uint64_t flags;
};

/* Calls SSL_write_ex with these registers and puts there what they are afterwards. */
void call_with(struct registers *r);
__asm__(".text\n.type call_with,@function\ncall_with:\n"
        "push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n push %rdi\n"
        "mov %rdi,%rax\n"
        "movsd 112(%rax),%xmm0\n movsd 120(%rax),%xmm1\n movdqu 128(%rax),%xmm2\n movdqu 144(%rax),%xmm15\n"
        "mov 16(%rax),%rsi\n mov 24(%rax),%rdx\n mov 32(%rax),%rcx\n mov 40(%rax),%r8\n mov 48(%rax),%r9\n"
        "mov 56(%rax),%r10\n mov 64(%rax),%rbx\n mov 72(%rax),%rbp\n mov 80(%rax),%r12\n mov 88(%rax),%r13\n"
        "mov 96(%rax),%r14\n mov 104(%rax),%r15\n mov 8(%rax),%rdi\n mov (%rax),%rax\n"
        "call SSL_write_ex\n"
        "xchg %rax,(%rsp)\n mov %rdi,8(%rax)\n mov %rsi,16(%rax)\n mov %rdx,24(%rax)\n mov %rcx,32(%rax)\n"
        "mov %r8,40(%rax)\n mov %r9,48(%rax)\n mov %r10,56(%rax)\n mov %rbx,64(%rax)\n mov %rbp,72(%rax)\n"
        "mov %r12,80(%rax)\n mov %r13,88(%rax)\n mov %r14,96(%rax)\n mov %r15,104(%rax)\n movsd %xmm0,112(%rax)\n"
        "movsd %xmm1,120(%rax)\n movdqu %xmm2,128(%rax)\n movdqu %xmm15,144(%rax)\n"
        "pop %rdi\n mov %rdi,(%rax)\n pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n"
        "pushfq\n popq 160(%rax)\n ret\n");

static void check_registers(SSL *writer)
{
    size_t written = 0;
    struct registers before = {.rax = 77,
                               .rdi = (uintptr_t)writer,
                               .rsi = (uintptr_t) "bytes",
                               .rdx = 5,
                               .rcx = (uintptr_t)&written,
                               .r8 = 8,
                               .r9 = 9,
                               .r10 = 10,
                               .rbx = 11,
                               .rbp = 12,
                               .r12 = 13,
                               .r13 = 14,
                               .r14 = 15,
                               .r15 = 16,
                               .xmm0 = 1.5,
                               .xmm1 = 2.25,
                               .xmm2 = {1, 2},
                               .xmm15 = {UINT64_MAX, 7}};
    struct registers after = before;

    errno = 4711;
    call_with(&after);
    NEED(errno == 4711);
    NEED(after.rax == 1 && written == 5);
    NEED(after.rdi == before.rdi && after.rsi == before.rsi && after.rdx == before.rdx && after.rcx == before.rcx);
    NEED(after.r8 == 9 && after.r9 == 11 && after.r10 == 13);
    NEED(memcmp(&after.rbx, &before.rbx, 6 * sizeof(before.rbx)) == 0);
    NEED(after.xmm0 == 3.75 && after.xmm1 == 2.25 && after.xmm2[0] == 1 && after.xmm2[1] == 2);
    NEED(after.xmm15[0] == 0 && after.xmm15[1] == 9);
    NEED(!(after.flags & 0x400)); /* direction */
}
