/* SPDX-License-Identifier: Apache-2.0 */
/* A packed program: a stub that carries another static program, PAYLOAD, each byte changed, unpacks it where it was
 * linked to be, tells it of itself as the kernel would have, and jumps there. HIDDEN: the stub's own system calls are
 * made by an instruction that no disassembler sees, as it lies in the middle of another one. */
#include <elf.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define PAGE 4096UL
#define KEY 0x5a

__asm__(".section .rodata\npayload: .incbin \"" PAYLOAD "\"\n.previous\n");
extern const unsigned char payload[];

long call3(long nr, long a, long b, long c);
long call6(long nr, long a, long b, long c, long d, long e, long f);

__asm__(
    "call3: mov %rdi,%rax; mov %rsi,%rdi; mov %rdx,%rsi; mov %rcx,%rdx; jmp do_call\n"
    "call6: mov %rdi,%rax; mov %rsi,%rdi; mov %rdx,%rsi; mov %rcx,%rdx; mov %r8,%r10; mov %r9,%r8; mov 8(%rsp),%r9\n"
#ifdef HIDDEN
    "do_call: lea carrier(%rip),%r11; inc %r11; jmp *%r11\n"
    "carrier: .byte 0xb8, 0x0f, 0x05, 0xc3, 0x90\n" /* mov $0x90c3050f,%eax; within it: syscall; ret */
    "ret\n"
#else
    "do_call: syscall; ret\n"
#endif
    ".globl _start\n_start: mov %rsp,%rbx; mov %rsp,%rdi; and $-16,%rsp; call unpack\n"
    "mov %rbx,%rsp; xor %edx,%edx; jmp *%rax\n");

static void unpacked(void *to, uint64_t offset, uint64_t len)
{
    for (uint64_t i = 0; i < len; i++)
        ((volatile unsigned char *)to)[i] = payload[offset + i] ^ KEY;
}

__attribute__((used)) uint64_t unpack(uint64_t *stack)
{
    uint64_t *p = stack + 1 + stack[0] + 1; /* behind argc, argv, NULL */
    uint64_t table = 0;
    Elf64_Ehdr eh;
    Elf64_Phdr ph;

    unpacked(&eh, 0, sizeof(eh));
    for (int i = 0; i < eh.e_phnum; i++) {
        unpacked(&ph, eh.e_phoff + i * sizeof(ph), sizeof(ph));
        if (ph.p_type == PT_LOAD) {
            uint64_t lo = ph.p_vaddr & -PAGE, hi = (ph.p_vaddr + ph.p_memsz + PAGE - 1) & -PAGE;
            int rights = (ph.p_flags & PF_R ? PROT_READ : 0) | (ph.p_flags & PF_W ? PROT_WRITE : 0) |
                         (ph.p_flags & PF_X ? PROT_EXEC : 0);

            if (call6(SYS_mmap, (long)lo, (long)(hi - lo), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != (long)lo)
                call3(SYS_exit_group, 97, 0, 0);
            unpacked((void *)ph.p_vaddr, ph.p_offset, ph.p_filesz);
            call3(SYS_mprotect, (long)lo, (long)(hi - lo), rights);
            if (eh.e_phoff >= ph.p_offset && eh.e_phoff < ph.p_offset + ph.p_filesz)
                table = ph.p_vaddr + eh.e_phoff - ph.p_offset;
        }
    }
    while (*p++)
        ;
    for (; *p != AT_NULL; p += 2) {
        if (*p == AT_PHDR)
            p[1] = table;
        else if (*p == AT_PHNUM)
            p[1] = eh.e_phnum;
        else if (*p == AT_ENTRY)
            p[1] = eh.e_entry;
    }
    return eh.e_entry;
}
