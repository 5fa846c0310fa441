/* SPDX-License-Identifier: Apache-2.0 */
/* A packed program: a stub that carries another static program, PAYLOAD, each byte changed, unpacks it where it was
 * linked to be, tells it of itself as the kernel would have, and jumps there. HIDDEN: the stub's own system calls are
 * made by an instruction that nobody finds (arch/MACHINE/packed.h). */
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

#include "packed.h"

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
