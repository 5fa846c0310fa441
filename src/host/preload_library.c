/* SPDX-License-Identifier: Apache-2.0 */
/* A library for programs of the other word size (arch/MACHINE/platforms.c), which has nothing in it. */
#include "host/internal.h"

#include <elf.h>

enum { STR_NONE, STR_NAME = 1, STR_SIZE = 1 + sizeof(PRELOAD_LIB) };

/* The least that the loader takes: a dynamic section with the tables that it looks at without asking (elf/dl-load.c,
 * elf/dl-reloc.c), in a segment that it can write to, and a stack that needn't be executable. */
static struct library {
    Elf32_Ehdr head;
    Elf32_Phdr segment[3];
    Elf32_Dyn dynamic[7];
    Elf32_Sym symbol[1];
    Elf32_Word hash[4]; /* buckets, chains, one of each: both end at once */
    char strings[STR_SIZE];
} library = {
    .head = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS32, ELFDATA2LSB, EV_CURRENT, ELFOSABI_SYSV},
             .e_type = ET_DYN,
             .e_version = EV_CURRENT,
             .e_phoff = offsetof(struct library, segment),
             .e_ehsize = sizeof(Elf32_Ehdr),
             .e_phentsize = sizeof(Elf32_Phdr),
             .e_phnum = 3},
    .segment = {{.p_type = PT_LOAD,
                 .p_filesz = sizeof(struct library),
                 .p_memsz = sizeof(struct library),
                 .p_flags = PF_R | PF_W,
                 .p_align = 0x10000},
                {.p_type = PT_DYNAMIC,
                 .p_offset = offsetof(struct library, dynamic),
                 .p_vaddr = offsetof(struct library, dynamic),
                 .p_paddr = offsetof(struct library, dynamic),
                 .p_filesz = sizeof(library.dynamic),
                 .p_memsz = sizeof(library.dynamic),
                 .p_flags = PF_R | PF_W,
                 .p_align = 4},
                {.p_type = PT_GNU_STACK, .p_flags = PF_R | PF_W, .p_align = 16}},
    .dynamic = {{DT_SONAME, {STR_NAME}},
                {DT_HASH, {offsetof(struct library, hash)}},
                {DT_STRTAB, {offsetof(struct library, strings)}},
                {DT_SYMTAB, {offsetof(struct library, symbol)}},
                {DT_STRSZ, {STR_SIZE}},
                {DT_SYMENT, {sizeof(Elf32_Sym)}},
                {DT_NULL, {0}}},
    .hash = {1, 1, 0, 0},
    .strings = "\0" PRELOAD_LIB,
};

size_t preload_other_library(const void **ret)
{
    library.head.e_machine = preload_other_machine;
    library.head.e_flags = preload_other_flags;
    *ret = &library;
    return sizeof(library);
}
