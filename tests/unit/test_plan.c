/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The planner. Each case is a few instructions, put into a small ELF image in
 * memory and planned. What the plan says is compared with what it should say;
 * then the plan is applied to a mapping of the image, with entry code that
 * spoils whatever a hook may spoil, and the function is called with and without
 * the plan: results must be the same, and the hooks must have seen the call.
 * At the end, whole libraries of the system are checked by independent means.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <capstone/capstone.h>

#include "base/mem.h"
#include "plan/arch/x86_64/decode.h"
#include "plan/arch/x86_64/keys.h"
#include "plan/emit.h"
#include "plan/plan.h"
#include "wire/syscalls.h"

/* --- cases: assembled by the compiler, NAME .. NAME_end, found at CODE in the image ------------------ */

#define CODE 0x1000u /* vaddr of the case */
#define DATA 0x2000u /* vaddr of a page of data: DATA_AT(x) in a case */
#define IMAGE 0x4000u

/* clang-format off */
/* `name`(%rip) + 0x1000 is the data page, because code and data are one page apart. */
#define CASE(name, text)                                                                       \
    __asm__(".pushsection .text.plan_cases,\"ax\",@progbits\n.p2align 6\n.globl " #name "\n"  \
            ".type " #name ",@object\n" #name ":\n" text "\n.globl " #name "_end\n" #name      \
            "_end:\n.p2align 6\n.popsection\n");                                               \
    extern const uint8_t name[], name##_end[]

CASE(after_plain, "mov $32,%eax\n syscall\n cmp $-4096,%rax\n ja 1f\n ret\n 1: neg %eax\n ret\n ");
CASE(nr_xor, "xor %eax,%eax\n xor %edx,%edx\n xor %esi,%esi\n syscall\n cmp $-4096,%rax\n ret");
CASE(nr_push_pop, "push $32\n pop %rax\n nopl (%rax)\n syscall\n cmp $-4096,%rax\n ret");
CASE(nr_through_register, "mov $32,%r8d\n xor %edx,%edx\n mov %r8d,%eax\n syscall\n cmp $-4096,%rax\n ret");
CASE(nr_low_byte, "xor %eax,%eax\n mov $32,%al\n nopl (%rax)\n syscall\n cmp $-4096,%rax\n ret");
CASE(nr_paths_agree, "test %esi,%esi\n je 1f\n mov $32,%eax\n jmp 2f\n 1: mov $32,%eax\n 2: mov $0,%edx\n syscall\n"
                     "cmp $-4096,%rax\n ret");
CASE(nr_paths_differ, "test %esi,%esi\n je 1f\n mov $32,%eax\n jmp 2f\n 1: mov $3,%eax\n 2: mov $0,%edx\n syscall\n"
                      "cmp $-4096,%rax\n ret");
CASE(nr_tested_zero, "mov %rsi,%rax\n test %rax,%rax\n je 1f\n mov $-1,%rax\n ret\n nopw 0(%rax,%rax)\n"
                     "1: mov $0,%edx\n syscall\n cmp $-4096,%rax\n ret");
CASE(nr_loop, "mov $32,%r9d\n jmp 2f\n nopl 0(%rax)\n 1: dec %esi\n js 3f\n 2: mov %r9d,%eax\n mov $0,%edx\n syscall\n"
              "cmp $-4096,%rax\n ja 1b\n 3: ret");
CASE(nr_unknown, "mov %rdi,%rax\n mov %rsi,%rdi\n mov $0,%edx\n syscall\n cmp $-4096,%rax\n ret");
CASE(unsure, "lea nr_switch_table(%rip),%rdx\n nr_switch_table = unsure + 0x1000\n movslq (%rdx,%rsi,4),%rcx\n"
             "add %rdx,%rcx\n jmp *%rcx\n mov $32,%eax\n unsure_target: mov $0,%edx\n syscall\n cmp $-4096,%rax\n ret\n"
             ".globl unsure_target");
CASE(uninteresting, "mov $39,%eax\n syscall\n cmp $-4096,%rax\n ret");
CASE(red_zone, "mov %rbx,-8(%rsp)\n movq $77,-128(%rsp)\n mov $32,%eax\n syscall\n add -128(%rsp),%rax\n"
               "mov -8(%rsp),%rbx\n ret");
CASE(red_zone_enter, "mov %rsi,-16(%rsp)\n mov $3,%eax\n syscall\n add -16(%rsp),%rax\n ret");
CASE(rip_relative_mov, "mov $32,%eax\n syscall\n mov rip_relative_mov+0x1008(%rip),%rcx\n add %rcx,%rax\n ret");
CASE(rip_relative_cmp_immediate, "mov $32,%eax\n syscall\n cmpl $5,rip_relative_cmp_immediate+0x1010(%rip)\n sete %al\n"
                                 "movzbl %al,%eax\n ret");
CASE(rip_relative_store, "mov $3,%eax\n mov %esi,rip_relative_store+0x1018(%rip)\n syscall\n"
                         "movslq rip_relative_store+0x1018(%rip),%rcx\n add %rcx,%rax\n ret");
CASE(rip_relative_enter, "mov $3,%eax\n lea rip_relative_enter+0x1020(%rip),%rdx\n syscall\n mov (%rdx),%rax\n nopl (%rax)\n"
                         "ret");
CASE(jcc_short_outside_block, "mov $32,%eax\n syscall\n test %eax,%eax\n js 1f\n mov $1,%eax\n ret\n 1: mov $2,%eax\n ret");
CASE(jmp_short_outside_block, "mov $32,%eax\n syscall\n nop\n nop\n nop\n jmp 1f\n int3\n int3\n 1: neg %eax\n ret");
CASE(branch_into_region, "test %edi,%edi\n jns 1f\n mov $32,%eax\n syscall\n neg %eax\n 1: add $1,%eax\n nop\n ret");
CASE(branch_into_instruction, "mov $5,%eax\n test %edi,%edi\n jns 1f\n mov $32,%eax\n syscall\n .byte 0x3e\n"
                              "1: lea 1(%rax),%rax\n ret");
CASE(branch_to_region_start, "mov $2,%r8d\n 1: mov $32,%eax\n syscall\n dec %r8d\n nopl (%rax)\n jnz 1b\n ret");
CASE(table_into_region, "lea table_into_region+0x1000(%rip),%rdx\n movslq (%rdx,%rsi,4),%rcx\n add %rdx,%rcx\n jmp *%rcx\n"
                        "nop\n mov $32,%eax\n syscall\n neg %eax\n table_into_region_target: add $1,%eax\n nop\n ret\n"
                        ".globl table_into_region_target");
CASE(neighbour_overlap, "mov $32,%eax\n syscall\n mov $3,%eax\n syscall\n cmp $-4096,%rax\n ret");
/* The syscall is a branch target, so that it can't be moved. */
CASE(call_relocated, "sub $8,%rsp\n xor %r9d,%r9d\n mov $32,%eax\n 1: syscall\n call 2f\n mov %rax,%r10\n mov $32,%eax\n"
                     "dec %r9d\n jns 1b\n mov %r10,%rax\n add $8,%rsp\n ret\n"
                     "2: mov (%rsp),%rcx\n lea call_relocated(%rip),%rdx\n sub %rdx,%rcx\n add %rcx,%rax\n ret");
CASE(call_indirect, "sub $8,%rsp\n lea 2f(%rip),%r8\n xor %r9d,%r9d\n mov $32,%eax\n 1: syscall\n xchg %ax,%ax\n"
                    "call *%r8\n mov %rax,%r10\n mov $32,%eax\n dec %r9d\n jns 1b\n mov %r10,%rax\n add $8,%rsp\n ret\n"
                    "2: mov (%rsp),%rcx\n lea call_indirect(%rip),%rdx\n sub %rdx,%rcx\n add %rcx,%rax\n ret");
CASE(call_avoided_by_move, "sub $8,%rsp\n mov $32,%eax\n syscall\n call 2f\n add $8,%rsp\n ret\n"
                           "2: mov (%rsp),%rcx\n lea call_avoided_by_move(%rip),%rdx\n sub %rdx,%rcx\n add %rcx,%rax\n ret");
CASE(call_avoided_by_short_jump, "sub $8,%rsp\n mov $32,%eax\n syscall\n mov %rax,%rdi\n call 2f\n add $8,%rsp\n ret\n"
                                 ".byte 0x0f,0x1f,0x44,0,0\n 2: lea 5(%rdi),%rax\n ret");
CASE(span_exit, "mov $60,%edx\n nopl (%rax)\n 1: mov %edx,%eax\n syscall\n jmp 1b");
CASE(exit_before, "mov $231,%eax\n syscall\n hlt");
CASE(short_jump_entry, "xor %eax,%eax\n syscall\n cmp $-4096,%rax\n ja 1f\n ret\n .byte 0x0f,0x1f,0x44,0,0\n"
                       "1: neg %eax\n ret");
CASE(short_jump_return, "mov $32,%eax\n 1: syscall\n ret\n nop\n 2: cmp $1,%edi\n je 1b\n xor %eax,%eax\n ret\n"
                        ".byte 0x0f,0x1f,0x44,0,0\n 3: jmp 3b\n");
CASE(moved, "mov $32,%eax\n mov $0,%edx\n syscall\n ret\n 1: test %edi,%edi\n jz 1b\n ret");
CASE(moved_unknown, "nop\n mov %rdi,%rax\n mov %rsi,%rdi\n syscall\n ret\n 1: test %edi,%edi\n jz 1b\n ret");
CASE(no_room, "mov $32,%eax\n cmp $1,%edi\n je 1f\n nop\n 1: syscall\n ret\n 2: test %edi,%edi\n jz 2b\n ret");
CASE(check_origin, "mov $5,%eax\n mov $9,%ecx\n test %edi,%edi\n jns 1f\n mov $32,%eax\n syscall\n"
                   "1: cmp $-4096,%rax\n ja 2f\n lea (%rax,%rcx),%rax\n ret\n 2: ret");
CASE(flags_live, "mov $5,%eax\n test %edi,%edi\n jns 1f\n mov $32,%eax\n nopl (%rax)\n syscall\n"
                 "1: js 2f\n lea 1(%rax),%eax\n ret\n 2: ret");
CASE(endbr_stays, "endbr64\n xor %eax,%eax\n syscall\n cmp $-4096,%rax\n ret");
CASE(caller_leaf,
     "sub $8,%rsp\n push $0\n push %r9\n mov %r8,%r9\n mov %rcx,%r8\n mov %rdx,%rcx\n mov %rsi,%rdx\n mov %rdi,%rsi\n"
     "lea caller_leaf+0x1000(%rip),%rdi\n call 1f\n mov %rax,%rcx\n pop %rdx\n pop %rdx\n pop %rdx\n mov %rcx,%rax\n ret\n"
     ".p2align 4\n 1: mov (%rdi),%eax\n test %eax,%eax\n jne 2f\n mov %rdi,%r11\n mov %rsi,%rax\n mov %rdx,%rdi\n"
     "mov %rcx,%rsi\n mov %r8,%rdx\n mov %r9,%r10\n mov 8(%rsp),%r8\n mov 16(%rsp),%r9\n mov %r11,8(%rsp)\n syscall\n"
     "ret\n 2: mov $-125,%rax\n ret");
CASE(data_in_text, "mov $32,%eax\n syscall\n cmp $-4096,%rax\n ret\n .byte 6,6,6\n nopl (%rax)\n syscall\n nopl (%rax)\n"
                   "nopl (%rax)\n ret");
/* Behind data, where the sweep alone proves nothing. ANY is a call whose number is given. */
#define BYTES ".byte 6,6,6,6\n"
#define ANY "mov %rdi,%rax\n mov %rsi,%rdi\n syscall\n cmp $-4096,%rax\n ret\n"
CASE(proof_called, "call 1f\n ret\n" BYTES "1: " ANY);
CASE(proof_twice, "jmp 3f\n" BYTES "3: call 1f\n ret\n" BYTES "1: call 2f\n" ANY "2: ret\n");
CASE(proof_register, "lea 1f(%rip),%rax\n pop %rdx\n jmp *%rax\n" BYTES "1: " ANY);
CASE(proof_main, "lea 1f(%rip),%rdi\n xor %ecx,%ecx\n xor %r8d,%r8d\n call 2f\n hlt\n 2: call *%rdi\n 3: jmp 3b\n" BYTES "1: " ANY);
CASE(proof_taken, "lea 1f(%rip),%rax\n mov %rax,8(%rsp)\n call 2f\n ret\n 2: ret\n" BYTES "1: call 2b\n" ANY);
CASE(proof_no_call, "ret\n" BYTES ANY);
CASE(proof_no_return, "jmp 3f\n" BYTES "3: call 1f\n" ANY "1: ud2\n");
CASE(proof_no_return_deep, "jmp 3f\n" BYTES "3: call 1f\n" ANY "1: test %edi,%edi\n je 2f\n call 4f\n 2: jmp 2b\n 4: jmp 2b\n");
CASE(proof_exit, "jmp 3f\n" BYTES "3: mov $60,%eax\n syscall\n" ANY);
CASE(proof_template, "lea 1f(%rip),%rax\n mov %rax,8(%rsp)\n ret\n" BYTES "1: call 2f\n" ANY "2: ret\n");
CASE(proof_copy, "lea 2f(%rip),%rdx\n mov %rdx,8(%rsp)\n call 1f\n ret\n" BYTES "1: xor %r9d,%r9d\n xor %r8d,%r8d\n xor %r10d,%r10d\n " ANY
                 BYTES "2: xor %r9d,%r9d\n xor %r8d,%r8d\n xor %r10d,%r10d\n " ANY);
CASE(proof_into, "call 1f+2\n ret\n" BYTES "1: mov $0xd0894850,%eax\n syscall\n cmp $-4096,%rax\n ret\n");
CASE(rseq_section, "nop\n 1: mov $32,%eax\n syscall\n cmp $-4096,%rax\n ret\n nop");
CASE(timing_gives_way, "mov $3,%eax\n mov %rsi,%r8\n syscall\n mov %r8,%rsi\n xor %eax,%eax\n syscall\n cmp $-4096,%rax\n ret");
/* Go's assembly (src/runtime/internal/syscall, syscall, runtime: *_linux_amd64.s), each behind a few instructions that
 * a C program can call. Functions are padded with int3. */
CASE(go_syscall6, "push %rbx\n mov %rdi,%rax\n mov %rsi,%rbx\n xor %ecx,%ecx\n xor %edi,%edi\n xor %esi,%esi\n call 1f\n"
                  "mov %rcx,%rax\n pop %rbx\n ret\n .p2align 5,0xcc\n"
                  "1: mov %rsi,%r10\n mov %rdi,%rdx\n mov %rcx,%rsi\n mov %rbx,%rdi\n syscall\n"
                  "cmp $0xfffffffffffff001,%rax\n jbe 2f\n neg %rax\n mov %rax,%rcx\n mov $-1,%rax\n mov $0,%rbx\n ret\n"
                  "2: mov %rdx,%rbx\n mov $0,%rcx\n ret\n .p2align 5,0xcc\n");
/* The same as the table of functions shows it: one at 0, one at 16, and behind 80 what a C program can call. */
CASE(go_syscall6_kept,
     "jmp 3f\n .p2align 4,0xcc\n"
     "1: mov %rsi,%r10\n mov %rdi,%rdx\n mov %rcx,%rsi\n mov %rbx,%rdi\n syscall\n"
     "cmp $0xfffffffffffff001,%rax\n jbe 2f\n neg %rax\n mov %rax,%rcx\n mov $-1,%rax\n mov $0,%rbx\n ret\n"
     "2: mov %rdx,%rbx\n mov $0,%rcx\n ret\n .p2align 4,0xcc\n"
     "3: push %r12\n push %r13\n push %rbx\n mov %rdi,%rax\n mov %rsi,%rbx\n xor %ecx,%ecx\n xor %edi,%edi\n xor %esi,%esi\n"
     "call 1b\n mov %rcx,%rax\n pop %rbx\n pop %r13\n pop %r12\n ret\n .p2align 5,0xcc\n");
CASE(go_raw_vfork_syscall, "push %r12\n sub $32,%rsp\n mov %rdi,(%rsp)\n mov %rsi,8(%rsp)\n call 1f\n mov 24(%rsp),%rax\n"
                           "add $32,%rsp\n pop %r12\n ret\n .p2align 5,0xcc\n"
                           "1: mov 16(%rsp),%rdi\n mov $0,%rsi\n mov $0,%rdx\n mov $0,%r10\n mov $0,%r8\n mov $0,%r9\n"
                           "mov 8(%rsp),%rax\n pop %r12\n syscall\n push %r12\n cmp $0xfffffffffffff001,%rax\n jbe 2f\n"
                           "movq $-1,24(%rsp)\n neg %rax\n mov %rax,32(%rsp)\n ret\n"
                           "2: mov %rax,24(%rsp)\n movq $0,32(%rsp)\n ret\n .p2align 5,0xcc\n");
CASE(go_syscall_1_11, "sub $8,%rsp\n call 1f\n add $8,%rsp\n ret\n .p2align 4,0xcc\n"
                      "1: mov %rdi,%rax\n mov %rsi,%rdi\n xor %esi,%esi\n xor %edx,%edx\n mov $0,%r10\n mov $0,%r8\n"
                      "mov $0,%r9\n syscall\n cmp $0xfffffffffffff001,%rax\n jbe 2f\n neg %rax\n call 3f\n ret\n"
                      "2: call 3f\n ret\n .p2align 4,0xcc\n 3: ret\n .p2align 4,0xcc\n");
CASE(go_runtime_read, "call 1f\n ret\n .p2align 4,0xcc\n"
              "1: mov $0,%esi\n mov $0,%edx\n mov $0,%eax\n syscall\n mov %eax,-8(%rsp)\n ret\n .p2align 4,0xcc\n");
CASE(go_exit_thread, "mov %rsp,%rax\n movl $0,(%rax)\n mov $0,%edi\n mov $60,%eax\n syscall\n .byte 0xcd,3\n 1: jmp 1b\n"
                     ".p2align 4,0xcc\n");
CASE(go_clone, "push %r12\n push %r13\n mov $0,%edx\n mov $0,%r10\n mov $0,%r8\n test %rdi,%rdi\n je 1f\n"
               "or $0x80000,%rdi\n 1: mov $56,%eax\n syscall\n cmp $0,%rax\n je 2f\n pop %r13\n pop %r12\n ret\n"
               "2: mov %rsi,%rsp\n 3: jmp 3b\n .p2align 4,0xcc\n");
/* Two functions, 64 bytes apart; the second is linked into the same text by a C compiler. */
CASE(go_and_c, "mov $32,%eax\n syscall\n cmp $-4096,%rax\n ret\n .p2align 6,0xcc\n"
               "mov $32,%eax\n syscall\n cmp $-4096,%rax\n ret\n .p2align 6,0xcc\n");
CASE(nothing, "mov $32,%eax\n ret\n nopl 0(%rax)");
/* Functions. NAME is the one that is looked for unless the test says another place. */
CASE(fn_plain, "sub $24,%rsp\n mov %fs:0x28,%rax\n mov %rax,8(%rsp)\n lea (%rdi,%rsi,4),%rax\n add $24,%rsp\n ret");
CASE(fn_arguments, "lea (%rdi,%rsi,2),%rax\n lea (%rax,%rdx,4),%rax\n lea (%rax,%rcx,8),%rax\n add %r8,%rax\n add %r9,%rax\n"
                   "ret");
CASE(fn_aligned, "mov %rsp,%rax\n and $15,%eax\n ret");
CASE(fn_endbr, "endbr64\n push %rbx\n mov %rdi,%rbx\n nop\n lea 7(%rbx),%rax\n pop %rbx\n ret");
CASE(fn_rip, "mov fn_rip+0x1008(%rip),%eax\n add %rdi,%rax\n ret");
CASE(fn_jcc, "test %edi,%edi\n js 1f\n mov $1,%eax\n ret\n 1: mov $2,%eax\n ret");
CASE(fn_tail_call, "xor %r8d,%r8d\n xor %ecx,%ecx\n jmp 1f\n .p2align 4\n 1: lea 3(%rdi,%r8),%rax\n ret");
CASE(fn_jump_at_once, "xor %ecx,%ecx\n jmp 1f\n int3\n .p2align 4\n 1: lea 3(%rdi,%rcx),%rax\n ret");
CASE(fn_call, "push %rbx\n call 1f\n pop %rbx\n ret\n 1: mov (%rsp),%rax\n lea fn_call(%rip),%rdx\n sub %rdx,%rax\n ret");
CASE(fn_call_padded, "sub $8,%rsp\n call 1f\n add $8,%rsp\n ret\n .byte 0x0f,0x1f,0x44,0,0\n 1: lea 5(%rdi),%rax\n ret");
CASE(fn_recursive, "test %rdi,%rdi\n jle 1f\n push %rdi\n dec %rdi\n call fn_recursive\n pop %rdi\n add %rdi,%rax\n ret\n"
                   "1: xor %eax,%eax\n ret");
CASE(fn_back_to_entry, "dec %rdi\n nopl (%rax)\n jns fn_back_to_entry\n mov %rdi,%rax\n ret");
CASE(fn_back_inside, "mov %edi,%eax\n 1: dec %eax\n nopl (%rax)\n jns 1b\n ret");
CASE(fn_tiny, "mov %edi,%eax\n ret\n .globl fn_tiny_next\n fn_tiny_next: mov $5,%eax\n ret");
CASE(fn_tiny_padded, "mov %edi,%eax\n ret\n .p2align 4\n mov $5,%eax\n ret");
CASE(fn_short_jump_only, "mov %rsi,%rcx\n jrcxz 1f\n mov %rcx,%rax\n ret\n 1: xor %eax,%eax\n ret");
CASE(fn_with_syscall, "xor %eax,%eax\n syscall\n cmp $-4096,%rax\n ret");

/* clang-format on */

/* --- images --------------------------------------------------------------------------------------------- */

struct symbol {
    uint64_t vaddr;
    unsigned type;
};

struct image {
    uint8_t bytes[IMAGE + 0x1000];
    size_t size;
};

static const uint8_t test_id[20] = {0xde, 0xad, 0xbe, 0xef, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0xff};

/* Code at CODE, data at DATA, a build-id, sections with a symbol for the code (and rseq descriptors, if any). */
static void image_make(struct image *im, const uint8_t *code, size_t size, const struct symbol *more, size_t more_count,
                       const uint64_t rseq[4])
{
    static const char names[] = "\0.text\0__rseq_cs\0.symtab\0.go.buildinfo\0.data.rel.ro.gopclntab";
    Elf64_Ehdr *eh = (Elf64_Ehdr *)(void *)im->bytes;
    Elf64_Phdr *ph = (Elf64_Phdr *)(void *)(im->bytes + sizeof(*eh));
    Elf64_Shdr *sh = (Elf64_Shdr *)(void *)(im->bytes + 0x3000);
    Elf64_Sym *sym = (Elf64_Sym *)(void *)(im->bytes + 0x3400);
    Elf64_Nhdr *note = (Elf64_Nhdr *)(void *)(im->bytes + 0x800);
    int32_t *data = (int32_t *)(void *)(im->bytes + DATA);

    assert_true(size <= 0x1000);
    memset(im, 0, sizeof(*im));
    im->size = IMAGE;
    memcpy(eh->e_ident, ELFMAG, SELFMAG);
    eh->e_ident[EI_CLASS] = ELFCLASS64;
    eh->e_ident[EI_DATA] = ELFDATA2LSB;
    eh->e_ident[EI_VERSION] = EV_CURRENT;
    eh->e_type = ET_DYN;
    eh->e_machine = EM_X86_64;
    eh->e_version = EV_CURRENT;
    eh->e_phoff = sizeof(*eh);
    eh->e_phentsize = sizeof(*ph);
    eh->e_phnum = 3;
    eh->e_shoff = 0x3000;
    eh->e_shentsize = sizeof(*sh);
    eh->e_shnum = 5;
    eh->e_shstrndx = 2;
    eh->e_ehsize = sizeof(*eh);
    ph[0] = (Elf64_Phdr){.p_type = PT_LOAD,
                         .p_flags = PF_R | PF_X,
                         .p_offset = CODE,
                         .p_vaddr = CODE,
                         .p_filesz = size,
                         .p_memsz = size,
                         .p_align = 0x1000};
    ph[1] = (Elf64_Phdr){.p_type = PT_LOAD,
                         .p_flags = PF_R | PF_W,
                         .p_offset = DATA,
                         .p_vaddr = DATA,
                         .p_filesz = 0x1000,
                         .p_memsz = 0x1000,
                         .p_align = 0x1000};
    ph[2] = (Elf64_Phdr){.p_type = PT_NOTE, .p_flags = PF_R, .p_offset = 0x800, .p_filesz = 36, .p_memsz = 36};
    *note = (Elf64_Nhdr){4, sizeof(test_id), NT_GNU_BUILD_ID};
    memcpy(note + 1, "GNU", 4);
    memcpy((char *)(note + 1) + 4, test_id, sizeof(test_id));
    memcpy(im->bytes + CODE, code, size);
    data[2] = 1000; /* DATA + 8 */
    data[4] = 5;    /* DATA + 16 */
    data[8] = 4711; /* DATA + 32 */
    sh[1] = (Elf64_Shdr){.sh_name = 1,
                         .sh_type = SHT_PROGBITS,
                         .sh_flags = SHF_ALLOC | SHF_EXECINSTR,
                         .sh_addr = CODE,
                         .sh_offset = CODE,
                         .sh_size = size};
    sh[2] = (Elf64_Shdr){.sh_type = SHT_STRTAB, .sh_offset = 0x3300, .sh_size = sizeof(names)};
    memcpy(im->bytes + 0x3300, names, sizeof(names));
    sh[3] = (Elf64_Shdr){.sh_name = 17,
                         .sh_type = SHT_SYMTAB,
                         .sh_offset = 0x3400,
                         .sh_size = (2 + more_count) * sizeof(*sym),
                         .sh_entsize = sizeof(*sym)};
    sym[1] =
        (Elf64_Sym){.st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC), .st_shndx = 1, .st_value = CODE, .st_size = size};
    for (size_t i = 0; i < more_count; i++)
        sym[2 + i] =
            (Elf64_Sym){.st_info = ELF64_ST_INFO(STB_LOCAL, more[i].type), .st_shndx = 1, .st_value = more[i].vaddr};
    if (rseq) {
        sh[4] = (Elf64_Shdr){.sh_name = 7,
                             .sh_type = SHT_PROGBITS,
                             .sh_flags = SHF_ALLOC,
                             .sh_addr = 0x2800,
                             .sh_offset = 0x2800,
                             .sh_size = 32};
        memcpy(im->bytes + 0x2800, rseq, 32);
    }
}

struct planned {
    struct image image;
    void *plan;
    size_t size;
    const struct plan_header *h;
    const struct plan_site *sites;
    const struct plan_patch *patches;
};

static void plan_it(struct planned *p)
{
    const char *base;

    assert_int_equal(plan_image(p->image.bytes, p->image.size, "key", &p->plan, &p->size), 0);
    assert_true(plan_check(p->plan, p->size));
    base = p->plan;
    p->h = p->plan;
    p->sites = (const struct plan_site *)(const void *)(base + p->h->site_off);
    p->patches = (const struct plan_patch *)(const void *)(base + p->h->patch_off);
}

static void prepare(struct planned *p, const uint8_t *code, const uint8_t *end)
{
    image_make(&p->image, code, (size_t)(end - code), NULL, 0, NULL);
    plan_it(p);
}
#define PREPARE(p, name) prepare(p, name, name##_end)

static void finish(struct planned *p)
{
    free(p->plan);
}

/* --- running a planned image ------------------------------------------------------------------------ */

struct regs {
    uint64_t rax, rdi, rsi, rdx, r10, r8, r9, sp;
};

struct seen {
    unsigned enter, exit, call, go, function, returned;
    int64_t nr; /* by the last enter hook, or the slot */
    int64_t ret;
    uint64_t arg[6]; /* at exit */
    uint64_t enter_sp, exit_sp, resume_pc, site_pc;
    unsigned flags;
};

/* Shared, so that a child which exits can tell. */
static struct seen *seen;

__attribute__((used)) static void saw_exit(struct regs *r, struct plan_slot *slot)
{
    seen->exit++;
    if (!(slot->flags & PLAN_F_NR_UNKNOWN))
        seen->nr = slot->nr;
    seen->ret = (int64_t)r->rax;
    seen->arg[0] = r->rdi;
    seen->arg[1] = r->rsi;
    seen->arg[2] = r->rdx;
    seen->exit_sp = r->sp;
    seen->flags = slot->flags;
    seen->resume_pc = slot->resume_pc;
    seen->site_pc = slot->site_pc;
}

__attribute__((used)) static void saw_enter(struct regs *r, struct plan_slot *slot)
{
    seen->enter++;
    seen->nr = slot->flags & PLAN_F_NR_UNKNOWN ? (int64_t)r->rax : slot->nr;
    seen->arg[0] = r->rdi;
    seen->enter_sp = r->sp;
    seen->flags = slot->flags;
}

__attribute__((used)) static void saw_call(struct regs *r, struct plan_slot *slot)
{
    seen->call++;
    seen->nr = (int64_t)r->rsi;
    seen->enter_sp = r->sp;
    seen->flags = slot->flags;
}

__attribute__((used)) static void saw_go_exit(struct regs *r, struct plan_slot *slot)
{
    seen->go++;
    saw_exit(r, slot);
}

__attribute__((used)) static void saw_go_enter(struct regs *r, struct plan_slot *slot)
{
    seen->go++;
    saw_enter(r, slot);
}

__attribute__((used)) static void saw_function(struct plan_slot *slot)
{
    seen->function++;
    seen->nr = slot->nr;
    seen->flags = slot->flags;
    seen->resume_pc = slot->resume_pc;
}

__attribute__((used)) static void saw_return(long result)
{
    seen->returned++;
    seen->ret = result;
}

/* clang-format off */
/* Like the probe's entry code, but it spoils all that may be spoiled: the arithmetic flags, r11, and rcx where that is
 * free, r12 and r13 if something may be kept in them. In: rcx (call: rax) = slot; the red zone is left alone. Offsets:
 * struct plan_slot. */
#define ENTRY(name, slot, hook, last)                                                                            \
    __asm__(".text\n.type " name ",@function\n" name ":\n"                                                      \
            "lea -256(%rsp),%rsp\n mov %rax,(%rsp)\n mov %rdi,8(%rsp)\n mov %rsi,16(%rsp)\n mov %rdx,24(%rsp)\n" \
            "mov %r10,32(%rsp)\n mov %r8,40(%rsp)\n mov %r9,48(%rsp)\n mov %rcx,64(%rsp)\n mov %rbx,72(%rsp)\n"  \
            "mov %rbp,80(%rsp)\n mov %" slot ",%rbx\n lea 256(%rsp),%r11\n mov %r11,56(%rsp)\n"                  \
            "mov %rsp,%rbp\n mov %rsp,%rdi\n mov %rbx,%rsi\n and $-16,%rsp\n call " hook "\n mov %rbp,%rsp\n"    \
            "mov %rbx,%r11\n pushq $0x8d5\n popfq\n mov (%rsp),%rax\n mov 8(%rsp),%rdi\n mov 16(%rsp),%rsi\n"    \
            "mov 24(%rsp),%rdx\n mov 32(%rsp),%r10\n mov 40(%rsp),%r8\n mov 48(%rsp),%r9\n mov 64(%rsp),%rcx\n"  \
            "mov 72(%rsp),%rbx\n mov 80(%rsp),%rbp\n lea 256(%rsp),%rsp\n" last)
ENTRY("test_exit", "rcx", "saw_exit", "mov $0x5a5a,%ecx\n jmp *8(%r11)\n");
ENTRY("test_enter", "rcx", "saw_enter", "mov 24(%r11),%rcx\n jmp *8(%r11)\n");
ENTRY("test_call", "rax", "saw_call", "jmp *8(%r11)\n");
ENTRY("test_go_exit", "rcx", "saw_go_exit", "mov $0x5a5a,%ecx\n jmp *8(%r11)\n");
ENTRY("test_go_enter", "rcx", "saw_go_enter",
      "testl $0x100,20(%r11)\n jz 1f\n mov $0x5a5a,%r12d\n mov %r12,%r13\n 1: mov 24(%r11),%rcx\n jmp *8(%r11)\n");
/* Instead of a function, r11 = slot: calls the original, whose beginning is at slot->tail, with the registers that its
 * caller gave it. */
__asm__(".text\n.type test_function,@function\n test_function:\n"
        "push %rdi\n push %rsi\n push %rdx\n push %rcx\n push %r8\n push %r9\n push %rax\n push %r10\n push %r11\n"
        "mov %r11,%rdi\n call saw_function\n"
        "pop %r11\n pop %r10\n pop %rax\n pop %r9\n pop %r8\n pop %rcx\n pop %rdx\n pop %rsi\n pop %rdi\n"
        "sub $8,%rsp\n call *8(%r11)\n mov %rax,(%rsp)\n push %rbx\n mov %rsp,%rbx\n and $-16,%rsp\n"
        "mov %rax,%rdi\n call saw_return\n mov %rbx,%rsp\n pop %rbx\n pop %rax\n ret\n");
/* clang-format on */
extern const char test_function[];
extern const char test_exit[], test_enter[], test_call[], test_go_exit[], test_go_enter[];

struct running {
    uint8_t *base; /* bias */
    uint8_t *blob;
    size_t blob_size;
};

/* Maps the image and, behind it, the blob; applies the plan as its format says, unless plan is NULL. */
static void map_image(struct running *r, const struct planned *p, int patched, int timing)
{
    const char *plan = p->plan;
    const struct plan_fixup *fix = (const struct plan_fixup *)(const void *)(plan + p->h->fix_off);
    const size_t gap = 0x100000;

    r->blob_size = gap + p->h->blob_size;
    r->base = mmap(NULL, r->blob_size, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(r->base, MAP_FAILED);
    memcpy(r->base, p->image.bytes, p->image.size);
    r->blob = r->base + gap;
    if (!patched)
        return;
    memcpy(r->blob, plan + p->h->blob_off, p->h->blob_size);
    if (p->h->blob_size) {
        const void *entries[] = {[PLAN_ENTRY_EXIT] = test_exit,
                                 [PLAN_ENTRY_ENTER] = test_enter,
                                 [PLAN_ENTRY_CALL] = test_call,
                                 [PLAN_ENTRY_GO_EXIT] = test_go_exit,
                                 [PLAN_ENTRY_GO_ENTER] = test_go_enter,
                                 [PLAN_ENTRY_FUNCTION] = test_function};

        memcpy(r->blob, entries, sizeof(entries));
    }
    for (uint32_t i = 0; i < p->h->fix_count; i++) {
        uint64_t v64;
        uint32_t v32;

        assert_in_range(fix[i].at, PLAN_SLOT, p->h->blob_size - 4);
        switch (fix[i].kind) {
        case PLAN_FIX_ABS64:
        case PLAN_FIX_BLOB64:
            memcpy(&v64, r->blob + fix[i].at, 8);
            v64 += (uintptr_t)(fix[i].kind == PLAN_FIX_ABS64 ? r->base : r->blob);
            memcpy(r->blob + fix[i].at, &v64, 8);
            break;
        default:
            memcpy(&v32, r->blob + fix[i].at, 4);
            v32 += (uint32_t)(r->base - r->blob);
            memcpy(r->blob + fix[i].at, &v32, 4);
        }
    }
    for (uint32_t i = 0; i < p->h->patch_count; i++) {
        const struct plan_patch *patch = &p->patches[i];
        uint8_t bytes[PLAN_PATCH_MAX];
        uint32_t rel;

        if (patch->when == PLAN_TIMING && !timing)
            continue;
        memcpy(bytes, patch->new_, sizeof(bytes));
        if (patch->rel_at != 0xff) {
            memcpy(&rel, bytes + patch->rel_at, 4);
            rel += (uint32_t)(r->blob - r->base);
            memcpy(bytes + patch->rel_at, &rel, 4);
        }
        assert_memory_equal(r->base + patch->vaddr, patch->old, patch->len);
        memcpy(r->base + patch->vaddr, bytes, patch->len);
    }
}

static void unmap_image(struct running *r)
{
    munmap(r->base, r->blob_size);
}

typedef long (*function)(long, long, long, long, long, long);

/* Calls the case bare and planned (both without and with its timing hooks), and compares; *seen is of the last. */
static long call_both(const struct planned *p, long a, long b, long c)
{
    long result[3];

    for (int i = 0; i < 3; i++) {
        struct running r;

        map_image(&r, p, i > 0, i > 1);
        memset(seen, 0, sizeof(*seen));
        result[i] = ((function)(uintptr_t)(r.base + CODE))(a, b, c, 0, 0, 0);
        if (seen->exit && p->sites[p->h->site_count - 1].method == PLAN_AFTER)
            assert_int_equal(seen->site_pc, seen->resume_pc);
        unmap_image(&r);
        assert_int_equal(result[i], result[0]);
    }
    return result[0];
}

static const struct plan_site *only_site(const struct planned *p)
{
    assert_int_equal(p->h->site_count, 1);
    return p->sites;
}

static void check_site(const struct plan_site *s, int nr, enum plan_method method, enum plan_reason reason,
                       unsigned flags)
{
    assert_int_equal(s->nr, nr);
    assert_int_equal(s->method, method);
    assert_int_equal(s->reason, reason);
    assert_int_equal(s->flags, flags);
}

/* --- the cases ------------------------------------------------------------------------------------------- */

#define EXIT_HOOK PLAN_F_EXIT
#define BOTH_HOOKS (PLAN_F_EXIT | PLAN_F_ENTER)
#define UNKNOWN_NR (PLAN_F_EXIT | PLAN_F_ENTER | PLAN_F_NR_UNKNOWN)

/* One site, a result, and how often the hooks run. */
struct simple_case {
    const char *name;
    const uint8_t *code, *end;
    int nr;
    enum plan_method method;
    enum plan_reason reason;
    unsigned flags;
    long a, b, result;
    unsigned enters, exits;
    long seen_nr;
};

#define SIMPLE(c) #c, c, c##_end

static const struct simple_case simple_cases[] = {
    {SIMPLE(after_plain), 32, PLAN_AFTER, PLAN_OK, EXIT_HOOK, -1, 0, 9, 0, 1, 32},
    {SIMPLE(nr_xor), 0, PLAN_AFTER, PLAN_OK, BOTH_HOOKS, -1, 0, -EBADF, 1, 1, 0},
    {SIMPLE(nr_push_pop), 32, PLAN_AFTER, PLAN_OK, EXIT_HOOK, -1, 0, -EBADF, 0, 1, 32},
    {SIMPLE(nr_through_register), 32, PLAN_AFTER, PLAN_OK, EXIT_HOOK, -1, 0, -EBADF, 0, 1, 32},
    {SIMPLE(nr_low_byte), 32, PLAN_AFTER, PLAN_OK, EXIT_HOOK, -1, 0, -EBADF, 0, 1, 32},
    {SIMPLE(nr_paths_agree), 32, PLAN_AFTER, PLAN_OK, EXIT_HOOK, -1, 0, -EBADF, 0, 1, 32},
    {SIMPLE(nr_paths_differ), -1, PLAN_AFTER, PLAN_OK, UNKNOWN_NR, -1, 0, -EBADF, 1, 1, 3},
    {SIMPLE(nr_paths_differ), -1, PLAN_AFTER, PLAN_OK, UNKNOWN_NR, -1, 1, -EBADF, 1, 1, 32},
    {SIMPLE(nr_tested_zero), 0, PLAN_AFTER, PLAN_OK, BOTH_HOOKS, -1, 0, -EBADF, 1, 1, 0},
    {SIMPLE(nr_loop), 32, PLAN_AFTER, PLAN_OK, EXIT_HOOK, -1, 2, -EBADF, 0, 3, 32},
    {SIMPLE(nr_unknown), -1, PLAN_AFTER, PLAN_OK, UNKNOWN_NR, 32, -1, -EBADF, 1, 1, 32},
    {SIMPLE(nr_unknown), -1, PLAN_AFTER, PLAN_OK, UNKNOWN_NR, 3, -1, -EBADF, 1, 1, 3},
    {SIMPLE(red_zone), 32, PLAN_AFTER, PLAN_OK, EXIT_HOOK, -1, 0, 77 - EBADF, 0, 1, 32},
    {SIMPLE(red_zone_enter), 3, PLAN_AFTER, PLAN_OK, BOTH_HOOKS, -1, 50, 50 - EBADF, 1, 1, 3},
    {SIMPLE(rip_relative_mov), 32, PLAN_AFTER, PLAN_OK, EXIT_HOOK, -1, 0, 1000 - EBADF, 0, 1, 32},
    {SIMPLE(rip_relative_cmp_immediate), 32, PLAN_AFTER, PLAN_OK, EXIT_HOOK, -1, 0, 1, 0, 1, 32},
    {SIMPLE(rip_relative_store), 3, PLAN_AFTER, PLAN_OK, BOTH_HOOKS, -1, 60, 60 - EBADF, 1, 1, 3},
    {SIMPLE(rip_relative_enter), 3, PLAN_AFTER, PLAN_OK, BOTH_HOOKS, -1, 0, 4711, 1, 1, 3},
    {SIMPLE(jcc_short_outside_block), 32, PLAN_AFTER, PLAN_OK, EXIT_HOOK, -1, 0, 2, 0, 1, 32},
    {SIMPLE(jmp_short_outside_block), 32, PLAN_AFTER, PLAN_OK, EXIT_HOOK, -1, 0, 9, 0, 1, 32},
    {SIMPLE(branch_into_region), 32, PLAN_MOVE, PLAN_OK, EXIT_HOOK, -1, 0, 10, 0, 1, 32},
    {SIMPLE(branch_into_instruction), 32, PLAN_MOVE, PLAN_OK, EXIT_HOOK, -1, 0, 1 - EBADF, 0, 1, 32},
    {SIMPLE(branch_into_instruction), 32, PLAN_MOVE, PLAN_OK, EXIT_HOOK, 1, 0, 6, 0, 0, 32},
    {SIMPLE(branch_to_region_start), 32, PLAN_AFTER, PLAN_OK, EXIT_HOOK, -1, 0, -EBADF, 0, 2, 32},
    {SIMPLE(call_relocated), 32, PLAN_AFTER, PLAN_OK, EXIT_HOOK, -1, 0, 19 - EBADF, 0, 1, 32},
    {SIMPLE(call_indirect), 32, PLAN_AFTER, PLAN_OK, EXIT_HOOK, -1, 0, 26 - EBADF, 0, 1, 32},
    {SIMPLE(call_avoided_by_move), 32, PLAN_MOVE, PLAN_OK, EXIT_HOOK, -1, 0, 16 - EBADF, 0, 1, 32},
    {SIMPLE(call_avoided_by_short_jump), 32, PLAN_SHORT, PLAN_OK, EXIT_HOOK, -1, 0, 5 - EBADF, 0, 1, 32},
    {SIMPLE(short_jump_entry), 0, PLAN_AFTER, PLAN_OK, BOTH_HOOKS, -1, 0, 9, 1, 1, 0},
    {SIMPLE(short_jump_return), 32, PLAN_SHORT, PLAN_OK, EXIT_HOOK, -1, 0, -EBADF, 0, 1, 32},
    {SIMPLE(moved), 32, PLAN_MOVE, PLAN_OK, EXIT_HOOK, -1, 0, -EBADF, 0, 1, 32},
    {SIMPLE(moved_unknown), -1, PLAN_MOVE, PLAN_OK, UNKNOWN_NR, 3, -1, -EBADF, 1, 1, 3},
    {SIMPLE(no_room), 32, PLAN_NONE, PLAN_R_NO_ROOM, 0, -1, 0, -EBADF, 0, 0, 0},
    {SIMPLE(check_origin), 32, PLAN_AFTER, PLAN_OK, EXIT_HOOK | PLAN_F_CHECK_ORIGIN, -1, 0, -EBADF, 0, 1, 32},
    {SIMPLE(check_origin), 32, PLAN_AFTER, PLAN_OK, EXIT_HOOK | PLAN_F_CHECK_ORIGIN, 1, 0, 14, 0, 0, 0},
    {SIMPLE(flags_live), 32, PLAN_NONE, PLAN_R_BRANCH_TARGET, 0, -1, 0, -EBADF, 0, 0, 0},
    {SIMPLE(flags_live), 32, PLAN_NONE, PLAN_R_BRANCH_TARGET, 0, 1, 0, 6, 0, 0, 0},
    {SIMPLE(endbr_stays), 0, PLAN_AFTER, PLAN_R_ENTER_ONLY, EXIT_HOOK, -1, 0, -EBADF, 0, 1, 0},
    {SIMPLE(uninteresting), 39, PLAN_NONE, PLAN_R_UNINTERESTING, 0, 0, 0, 0, 0, 0, 0},
};

static void test_simple_cases(void **state)
{
    for (size_t i = 0; i < sizeof(simple_cases) / sizeof(simple_cases[0]); i++) {
        const struct simple_case *c = &simple_cases[i];
        struct planned p;
        long result;

        print_message("  %s\n", c->name);
        prepare(&p, c->code, c->end);
        check_site(only_site(&p), c->nr, c->method, c->reason, c->flags);
        result = call_both(&p, c->a, c->b, 0);
        if (c->nr != 39)
            assert_int_equal(result, c->result);
        assert_int_equal(seen->enter, c->enters);
        assert_int_equal(seen->exit, c->exits);
        if (c->exits) {
            assert_int_equal(seen->nr, c->seen_nr);
            assert_int_equal(seen->ret, -EBADF);
            assert_int_equal(seen->arg[0], -1);
        }
        if (c->enters && c->exits)
            assert_int_equal(seen->enter_sp, seen->exit_sp);
        finish(&p);
    }
}

static void test_unsure(void **state)
{
    extern const uint8_t unsure_target[];
    struct planned p;
    int32_t *table = (int32_t *)(void *)(p.image.bytes + DATA);

    image_make(&p.image, unsure, (size_t)(unsure_end - unsure), NULL, 0, NULL);
    table[0] = (int32_t)(CODE + (unsure_target - unsure)) - (int32_t)DATA;
    table[1] = table[0] - 5;
    plan_it(&p);
    check_site(only_site(&p), -1, PLAN_AFTER, PLAN_OK, UNKNOWN_NR);
    assert_int_equal(call_both(&p, -1, 1, 0), -EBADF);
    assert_int_equal(seen->nr, 32);
    finish(&p);
}

static void test_table_into_region(void **state)
{
    extern const uint8_t table_into_region_target[];
    struct planned p;
    int32_t *table = (int32_t *)(void *)(p.image.bytes + DATA);

    image_make(&p.image, table_into_region, (size_t)(table_into_region_end - table_into_region), NULL, 0, NULL);
    table[0] = (int32_t)(CODE + (table_into_region_target - table_into_region)) - (int32_t)DATA;
    table[1] = table[0] - 9; /* mov $32,%eax */
    plan_it(&p);
    /* Not after the syscall, where the table leads to. */
    check_site(only_site(&p), 32, PLAN_MOVE, PLAN_OK, EXIT_HOOK);
    assert_int_equal(call_both(&p, -1, 1, 0), 10);
    assert_int_equal(seen->exit, 1);
    finish(&p);
}

static void test_neighbour_overlap(void **state)
{
    struct planned p;

    PREPARE(&p, neighbour_overlap);
    assert_int_equal(p.h->site_count, 2);
    check_site(&p.sites[0], 32, PLAN_AFTER, PLAN_OK, EXIT_HOOK);
    check_site(&p.sites[1], 3, PLAN_SPAN, PLAN_OK, BOTH_HOOKS);
    assert_int_equal(call_both(&p, -1, 0, 0), -EBADF);
    assert_int_equal(seen->exit, 2);
    assert_int_equal(seen->enter, 1);
    finish(&p);

    PREPARE(&p, timing_gives_way);
    assert_int_equal(p.h->site_count, 2);
    check_site(&p.sites[0], 3, PLAN_AFTER, PLAN_OK, BOTH_HOOKS);
    check_site(&p.sites[1], 0, PLAN_AFTER, PLAN_R_ENTER_ONLY, EXIT_HOOK);
    assert_int_equal(call_both(&p, -1, 0, 0), -EBADF);
    assert_int_equal(seen->exit, 2);
    assert_int_equal(seen->enter, 1);
    finish(&p);
}

/* Functions that end the process run in a child. */
static void exit_case(const uint8_t *code, const uint8_t *end, int nr, enum plan_method method)
{
    struct planned p;
    struct running r;
    int status;
    pid_t pid;

    prepare(&p, code, end);
    check_site(only_site(&p), nr, method, PLAN_OK, PLAN_F_ENTER | PLAN_F_NORETURN);
    map_image(&r, &p, 1, 0);
    memset(seen, 0, sizeof(*seen));
    pid = fork();
    if (pid == 0) {
        ((function)(uintptr_t)(r.base + CODE))(43, 0, 0, 0, 0, 0);
        _exit(1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 43);
    assert_int_equal(seen->enter, 1);
    assert_int_equal(seen->exit, 0);
    assert_int_equal(seen->nr, nr);
    assert_int_equal(seen->arg[0], 43);
    unmap_image(&r);
    finish(&p);
}

static void test_exits(void **state)
{
    exit_case(span_exit, span_exit_end, 60, PLAN_SPAN);
    exit_case(exit_before, exit_before_end, 231, PLAN_BEFORE);
}

static void test_caller_leaf(void **state)
{
    struct planned p;

    PREPARE(&p, caller_leaf);
    check_site(only_site(&p), -1, PLAN_CALLER, PLAN_OK, UNKNOWN_NR | PLAN_F_SP_BIAS8);
    assert_int_equal(call_both(&p, 32, -1, 0), -EBADF);
    assert_int_equal(seen->call, 1);
    assert_int_equal(seen->enter, 0);
    assert_int_equal(seen->exit, 1);
    assert_int_equal(seen->nr, 32);
    assert_int_equal(seen->enter_sp + 8, seen->exit_sp);
    assert_int_equal(seen->arg[0], -1);
    /* Nothing of the leaf itself is touched. */
    for (uint32_t i = 0; i < p.h->patch_count; i++)
        assert_true(p.patches[i].vaddr + p.patches[i].len <= CODE + 64);
    finish(&p);
}

static void test_data_in_text(void **state)
{
    struct planned p;

    PREPARE(&p, data_in_text);
    assert_int_equal(p.h->site_count, 2);
    check_site(&p.sites[0], 32, PLAN_AFTER, PLAN_OK, EXIT_HOOK);
    assert_int_equal(p.sites[1].method, PLAN_NONE);
    assert_int_equal(p.sites[1].reason, PLAN_R_DATA_IN_TEXT);
    assert_int_equal(call_both(&p, -1, 0, 0), -EBADF);
    finish(&p);
}

/* What is behind data in the text is code only if it is proven; what may be code is told, what is data isn't. */
static void test_proof(void **state)
{
    static const struct {
        const uint8_t *code, *end;
        enum plan_reason reason; /* of the last site */
    } cases[] = {
#define PROOF(name, reason) {name, name##_end, reason}
        PROOF(proof_called, PLAN_OK),
        PROOF(proof_twice, PLAN_OK),
        PROOF(proof_register, PLAN_OK),
        PROOF(proof_main, PLAN_OK),
        PROOF(proof_taken, PLAN_OK),
        PROOF(proof_no_call, PLAN_R_DATA_IN_TEXT),
        PROOF(proof_no_return, PLAN_R_DATA_IN_TEXT),
        PROOF(proof_no_return_deep, PLAN_R_DATA_IN_TEXT),
        PROOF(proof_exit, PLAN_R_DATA_IN_TEXT),
        PROOF(proof_template, PLAN_R_UNPROVEN),
        PROOF(proof_copy, PLAN_R_DATA_IN_TEXT),
        PROOF(proof_into, PLAN_R_DATA_IN_TEXT),
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct planned p;
        Elf64_Ehdr *eh = (Elf64_Ehdr *)(void *)p.image.bytes;
        const struct plan_site *last;

        image_make(&p.image, cases[i].code, (size_t)(cases[i].end - cases[i].code), NULL, 0, NULL);
        eh->e_shnum = 0; /* stripped: nothing is known but where it begins */
        eh->e_entry = CODE;
        plan_it(&p);
        assert_true(p.h->site_count > 0);
        last = &p.sites[p.h->site_count - 1];
        if (last->reason != cases[i].reason || (last->method != PLAN_NONE) != (cases[i].reason == PLAN_OK))
            fail_msg("case %zu: %s, %s", i, plan_method_name(last->method), plan_reason_name(last->reason));
        for (uint32_t k = 0; cases[i].reason != PLAN_OK && k < p.h->patch_count; k++) /* an earlier site's, if any */
            assert_true(p.patches[k].vaddr + p.patches[k].len <= last->vaddr);
        finish(&p);
    }
}

/* --- Go -------------------------------------------------------------------------------------------------- */

/* How an image shows that it is Go's. */
enum go_mark {
    GO_NOT,
    GO_NOTE,         /* the linker's build id */
    GO_SECTION_NAME, /* the name of a section */
    GO_BUILD_INFO,   /* what `go version` reads */
    GO_TABLE_1_2,    /* the function table, as a section or anywhere in data */
    GO_TABLE_1_16,
    GO_TABLE_1_18,
    GO_TABLE_1_20,
    GO_TABLE_SECTION,
    GO_TABLE_RELOCATED, /* the start of the text is in a relocation */
    GO_TABLE_MODULE,    /* the start of the text is in runtime.moduledata only */
    GO_TABLE_TWO,       /* another one in data: of a program that is embedded, say */
    GO_TABLE_BROKEN,    /* more functions than there is table */
    GO_TABLE_CHANGED,   /* a section with a magic number that nobody knows (obfuscators) */
    GO_MARKS,
};

#define GO_TABLE (DATA + 0x800u)

/* A function table of functions at lo and lo + 16, up to hi; addresses are as in the file. */
static void put_go_table(struct image *im, uint64_t at, uint32_t magic, uint64_t lo, uint64_t hi)
{
    uint64_t *head = (uint64_t *)(void *)(im->bytes + at);
    uint64_t *list = head + (magic == 0xfffffffb ? 2 : magic == 0xfffffffa ? 8 : 9);
    uint32_t *distances = (uint32_t *)(void *)list;

    head[0] = UINT64_C(0x08010000) << 32 | magic;
    head[1] = 2;
    if (magic == 0xfffffffa)
        head[7] = (uint64_t)((char *)list - (char *)head);
    if (magic == 0xfffffff0 || magic == 0xfffffff1) {
        head[3] = lo;
        head[8] = (uint64_t)((char *)list - (char *)head);
        distances[0] = 0;
        distances[2] = 16;
        distances[4] = (uint32_t)(hi - lo);
        return;
    }
    list[0] = lo;
    list[2] = lo + 16;
    list[4] = hi;
}

static void go_image(struct image *im, const uint8_t *code, size_t size, enum go_mark mark, uint64_t hi)
{
    Elf64_Ehdr *eh = (Elf64_Ehdr *)(void *)im->bytes;
    Elf64_Phdr *ph = (Elf64_Phdr *)(void *)(im->bytes + sizeof(*eh));
    Elf64_Shdr *sh = (Elf64_Shdr *)(void *)(im->bytes + 0x3000);
    uint64_t *table = (uint64_t *)(void *)(im->bytes + GO_TABLE), *module = table + 32;

    image_make(im, code, size, NULL, 0, NULL);
    switch (mark) {
    case GO_NOT:
    case GO_MARKS:
        return;
    case GO_NOTE: {
        static const uint8_t note[] = {4, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0, 'G', 'o', 0, 0, 'i', 'd', 'i', 'd'};

        memcpy(im->bytes + 0x800 + 36, note, sizeof(note));
        ph[2].p_filesz = ph[2].p_memsz = 36 + sizeof(note);
        return;
    }
    case GO_SECTION_NAME:
        sh[4] = (Elf64_Shdr){.sh_name = 25, .sh_type = SHT_PROGBITS, .sh_addr = GO_TABLE, .sh_offset = GO_TABLE};
        return;
    case GO_BUILD_INFO:
        memcpy(table, "\xff Go buildinf:", 14);
        return;
    case GO_TABLE_1_2:
        put_go_table(im, GO_TABLE, 0xfffffffb, CODE, hi);
        return;
    case GO_TABLE_1_16:
        put_go_table(im, GO_TABLE, 0xfffffffa, CODE, hi);
        return;
    case GO_TABLE_1_18:
        put_go_table(im, GO_TABLE, 0xfffffff0, CODE, hi);
        return;
    default:
        break;
    }
    put_go_table(im, GO_TABLE, 0xfffffff1, CODE, hi);
    if (mark == GO_TABLE_SECTION || mark == GO_TABLE_CHANGED)
        sh[4] = (Elf64_Shdr){.sh_name = 39, .sh_type = SHT_PROGBITS, .sh_addr = GO_TABLE, .sh_offset = GO_TABLE};
    if (mark == GO_TABLE_CHANGED)
        table[0] ^= 0x1234;
    if (mark == GO_TABLE_BROKEN)
        table[1] = 0x1000;
    if (mark == GO_TABLE_TWO)
        put_go_table(im, GO_TABLE - 0x100, 0xfffffff1, CODE, CODE + 16);
    if (mark == GO_TABLE_RELOCATED || mark == GO_TABLE_MODULE) {
        Elf64_Dyn *dyn = (Elf64_Dyn *)(void *)(im->bytes + DATA + 0x600);
        Elf64_Rela *rela = (Elf64_Rela *)(void *)(im->bytes + DATA + 0x680);
        const Elf64_Rela text = {GO_TABLE + 24, ELF64_R_INFO(0, R_X86_64_RELATIVE), CODE};
        const Elf64_Rela of_module[] = {
            {(uint64_t)((uint8_t *)module - im->bytes), ELF64_R_INFO(0, R_X86_64_RELATIVE), GO_TABLE},
            {(uint64_t)((uint8_t *)module - im->bytes) + 160, ELF64_R_INFO(0, R_X86_64_RELATIVE), CODE},
            {(uint64_t)((uint8_t *)module - im->bytes) + 168, ELF64_R_INFO(0, R_X86_64_RELATIVE), (int64_t)hi},
            {(uint64_t)((uint8_t *)module - im->bytes) + 176, ELF64_R_INFO(0, R_X86_64_RELATIVE), CODE},
        };

        table[3] = 0;
        if (mark == GO_TABLE_RELOCATED)
            rela[0] = text;
        else
            memcpy(rela, of_module, sizeof(of_module));
        dyn[0] = (Elf64_Dyn){.d_tag = DT_RELA, .d_un.d_ptr = DATA + 0x680};
        dyn[1] = (Elf64_Dyn){.d_tag = DT_RELASZ,
                             .d_un.d_val = mark == GO_TABLE_RELOCATED ? sizeof(text) : sizeof(of_module)};
        eh->e_phnum = 4;
        ph[3] = (Elf64_Phdr){
            .p_type = PT_DYNAMIC, .p_offset = DATA + 0x600, .p_vaddr = DATA + 0x600, .p_filesz = 3 * sizeof(*dyn)};
    }
}

/* Which of the two sites may run on a goroutine's stack: both, if it isn't known where Go's text ends. */
static void test_go_marks(void **state)
{
    for (int mark = GO_NOT; mark < GO_MARKS; mark++)
        for (int position_dependent = 0; position_dependent < 2; position_dependent++) {
            struct planned p;
            int all = (mark >= GO_NOTE && mark <= GO_BUILD_INFO) || mark >= GO_TABLE_BROKEN;

            if (position_dependent && (mark == GO_TABLE_RELOCATED || mark == GO_TABLE_MODULE))
                continue;
            go_image(&p.image, go_and_c, (size_t)(go_and_c_end - go_and_c), (enum go_mark)mark, CODE + 64);
            if (position_dependent)
                ((Elf64_Ehdr *)(void *)p.image.bytes)->e_type = ET_EXEC;
            print_message("  mark %d\n", mark);
            plan_it(&p);
            assert_int_equal(p.h->site_count, 2);
            check_site(&p.sites[0], 32, PLAN_AFTER, PLAN_OK, EXIT_HOOK | (mark == GO_NOT ? 0 : PLAN_F_GO));
            check_site(&p.sites[1], 32, PLAN_AFTER, PLAN_OK, EXIT_HOOK | (all ? PLAN_F_GO : 0));
            assert_int_equal(call_both(&p, -1, 0, 0), -EBADF);
            assert_int_equal(seen->exit, 1);
            assert_int_equal(seen->go, mark != GO_NOT);
            finish(&p);
        }
}

/* What the start of the text in moduledata is good for in an executable at a fixed address. */
static void test_go_module(void **state)
{
    struct planned p;
    uint64_t *table = (uint64_t *)(void *)(p.image.bytes + GO_TABLE), *module = table + 32;

    go_image(&p.image, go_and_c, (size_t)(go_and_c_end - go_and_c), GO_TABLE_1_20, CODE + 64);
    ((Elf64_Ehdr *)(void *)p.image.bytes)->e_type = ET_EXEC;
    table[3] = 0;
    module[0] = GO_TABLE;
    module[20] = module[22] = CODE;
    module[21] = CODE + 64;
    plan_it(&p);
    assert_true(p.sites[0].flags & PLAN_F_GO);
    assert_false(p.sites[1].flags & PLAN_F_GO);
    finish(&p);
    module[21]++; /* something else that looks like it */
    plan_it(&p);
    assert_true(p.sites[0].flags & p.sites[1].flags & PLAN_F_GO);
    finish(&p);
}

/* Go's own ways to make a call. */
static const struct simple_case go_cases[] = {
    {SIMPLE(go_syscall6), -1, PLAN_AFTER, PLAN_OK, UNKNOWN_NR | PLAN_F_GO, 32, -1, EBADF, 1, 1, 32},
    {SIMPLE(go_syscall6), -1, PLAN_AFTER, PLAN_OK, UNKNOWN_NR | PLAN_F_GO, 3, -1, EBADF, 1, 1, 3},
    {SIMPLE(go_raw_vfork_syscall), -1, PLAN_AFTER, PLAN_OK, UNKNOWN_NR | PLAN_F_GO, 32, -1, EBADF, 1, 1, 32},
    {SIMPLE(go_syscall_1_11), -1, PLAN_AFTER, PLAN_OK, UNKNOWN_NR | PLAN_F_GO, 32, -1, EBADF, 1, 1, 32},
    /* Not even when calls are timed may the enter side leave something on the stack. */
    {SIMPLE(go_runtime_read), 0, PLAN_AFTER, PLAN_OK, EXIT_HOOK | PLAN_F_GO, -1, 0, -EBADF, 0, 1, 0},
};

static void test_go_calls(void **state)
{
    struct planned p;

    for (size_t i = 0; i < sizeof(go_cases) / sizeof(go_cases[0]); i++) {
        const struct simple_case *c = &go_cases[i];

        print_message("  %s\n", c->name);
        go_image(&p.image, c->code, (size_t)(c->end - c->code), GO_NOTE, 0);
        plan_it(&p);
        check_site(only_site(&p), c->nr, c->method, c->reason, c->flags);
        assert_int_equal(call_both(&p, c->a, c->b, 0), c->result);
        assert_int_equal(seen->enter, c->enters);
        assert_int_equal(seen->exit, c->exits);
        assert_int_equal(seen->go, c->enters + c->exits);
        assert_int_equal(seen->nr, c->seen_nr);
        assert_int_equal(seen->arg[0], -1);
        if (c->enters)
            assert_int_equal(seen->enter_sp, seen->exit_sp);
        finish(&p);
    }
    go_image(&p.image, go_syscall6_kept, (size_t)(go_syscall6_kept_end - go_syscall6_kept), GO_TABLE_1_20, CODE + 80);
    plan_it(&p);
    check_site(only_site(&p), -1, PLAN_AFTER, PLAN_OK, UNKNOWN_NR | PLAN_F_GO | PLAN_F_NR_KEPT);
    assert_int_equal(call_both(&p, 32, -1, 0), EBADF);
    assert_int_equal(seen->go, 2);
    finish(&p);
    go_image(&p.image, go_exit_thread, (size_t)(go_exit_thread_end - go_exit_thread), GO_NOTE, 0);
    plan_it(&p);
    check_site(only_site(&p), 60, PLAN_BEFORE, PLAN_OK, PLAN_F_ENTER | PLAN_F_NORETURN | PLAN_F_GO);
    finish(&p);
    go_image(&p.image, go_clone, (size_t)(go_clone_end - go_clone), GO_NOTE, 0);
    plan_it(&p);
    check_site(only_site(&p), 56, PLAN_AFTER, PLAN_OK, BOTH_HOOKS | PLAN_F_GO);
    finish(&p);
}

static void test_rseq(void **state)
{
    const uint64_t descriptor[4] = {0, CODE + 1, 13, CODE + 14};
    struct planned p;

    PREPARE(&p, rseq_section);
    check_site(only_site(&p), 32, PLAN_AFTER, PLAN_OK, EXIT_HOOK);
    finish(&p);
    image_make(&p.image, rseq_section, (size_t)(rseq_section_end - rseq_section), NULL, 0, descriptor);
    plan_it(&p);
    check_site(only_site(&p), 32, PLAN_NONE, PLAN_R_RSEQ, 0);
    assert_int_equal(p.h->patch_count, 0);
    finish(&p);
}

/* Adds unwind tables for one function, [CODE, CODE + size), with a landing pad at CODE + pad. */
static void add_unwind(struct image *im, unsigned size, unsigned pad)
{
    enum { HDR = DATA + 0x400, CIE = DATA + 0x440, FDE = CIE + 20, LSDA = DATA + 0x480 };
    const uint8_t cie[] = {16, 0, 0, 0, 0, 0, 0, 0, 1, 'z', 'L', 'R', 0, 1, 0x78, 16, 2, 0x1b, 0x1b, 0};
    const uint8_t hdr[] = {1, 0x1b, 0x03, 0x3b}, lsda[] = {0xff, 0xff, 0x01, 4, 0, 9, (uint8_t)pad, 0};
    const int32_t table[] = {CIE - (HDR + 4), 1, (int32_t)CODE - HDR, FDE - HDR};
    const int32_t fde[] = {20, FDE + 4 - CIE, (int32_t)CODE - (FDE + 8), (int32_t)size};
    const int32_t to_lsda = LSDA - (FDE + 17);
    Elf64_Phdr *ph = (Elf64_Phdr *)(void *)(im->bytes + sizeof(Elf64_Ehdr));

    memcpy(im->bytes + HDR, hdr, sizeof(hdr));
    memcpy(im->bytes + HDR + 4, table, sizeof(table));
    memcpy(im->bytes + CIE, cie, sizeof(cie));
    memcpy(im->bytes + FDE, fde, sizeof(fde));
    im->bytes[FDE + 16] = 4; /* augmentation: the LSDA */
    memcpy(im->bytes + FDE + 17, &to_lsda, 4);
    memcpy(im->bytes + LSDA, lsda, sizeof(lsda));
    ph[3] = (Elf64_Phdr){.p_type = PT_GNU_EH_FRAME, .p_flags = PF_R, .p_offset = HDR, .p_vaddr = HDR, .p_filesz = 20};
    ((Elf64_Ehdr *)(void *)im->bytes)->e_phnum = 4;
}

static void test_landing_pad(void **state)
{
    struct planned p;

    for (unsigned pad = 0; pad < 20; pad++) {
        image_make(&p.image, nr_unknown, (size_t)(nr_unknown_end - nr_unknown), NULL, 0, NULL);
        add_unwind(&p.image, 64, pad);
        plan_it(&p);
        assert_int_equal(p.h->site_count, 1);
        for (uint32_t i = 0; i < p.h->patch_count; i++) /* 0 means none */
            assert_false(pad && CODE + pad > p.patches[i].vaddr && CODE + pad < p.patches[i].vaddr + p.patches[i].len);
        /* The regions are [6, 11), then the syscall, at which nothing may arrive either, and [13, 19). */
        assert_int_equal(p.sites[0].method != PLAN_AFTER, (pad > 6 && pad <= 11) || (pad > 13 && pad < 19));
        finish(&p);
    }
}

/* An address in data that points into the region after the syscall: in a position-dependent image, as the addend of a
 * relative relocation, and in the compact table of relative relocations. */
static void test_address_constants(void **state)
{
    enum { WORD = DATA + 0x500, DYNAMIC = DATA + 0x600, TABLE = DATA + 0x680 };
    enum { NONE, ABSOLUTE, RELA, RELR, RELR_BITMAP, FORMS };

    for (int form = NONE; form < FORMS; form++) {
        struct planned p;
        Elf64_Ehdr *eh = (Elf64_Ehdr *)(void *)p.image.bytes;
        Elf64_Phdr *ph = (Elf64_Phdr *)(void *)(p.image.bytes + sizeof(*eh));
        Elf64_Dyn *dyn = (Elf64_Dyn *)(void *)(p.image.bytes + DYNAMIC);
        uint64_t *word = (uint64_t *)(void *)(p.image.bytes + WORD);
        const uint64_t relr[2] = {form == RELR ? WORD : WORD - 16, 1 | 1 << 2};

        image_make(&p.image, nr_unknown, (size_t)(nr_unknown_end - nr_unknown), NULL, 0, NULL);
        *word = form == RELA ? 0 : CODE + 16;
        if (form == ABSOLUTE)
            eh->e_type = ET_EXEC;
        if (form >= RELA) {
            eh->e_phnum = 4;
            ph[3] = (Elf64_Phdr){
                .p_type = PT_DYNAMIC, .p_offset = DYNAMIC, .p_vaddr = DYNAMIC, .p_filesz = 3 * sizeof(*dyn)};
        }
        if (form == RELA) {
            dyn[0] = (Elf64_Dyn){.d_tag = DT_RELA, .d_un.d_ptr = TABLE};
            dyn[1] = (Elf64_Dyn){.d_tag = DT_RELASZ, .d_un.d_val = sizeof(Elf64_Rela)};
            *(Elf64_Rela *)(void *)(p.image.bytes + TABLE) =
                (Elf64_Rela){WORD, ELF64_R_INFO(0, R_X86_64_RELATIVE), CODE + 16};
        } else if (form >= RELR) {
            dyn[0] = (Elf64_Dyn){.d_tag = 36 /* DT_RELR */, .d_un.d_ptr = TABLE};
            dyn[1] = (Elf64_Dyn){.d_tag = 35 /* DT_RELRSZ */, .d_un.d_val = form == RELR ? 8 : 16};
            memcpy(p.image.bytes + TABLE, relr, sizeof(relr));
        }
        plan_it(&p);
        assert_int_equal(p.h->site_count, 1);
        assert_int_equal(p.sites[0].method == PLAN_AFTER, form == NONE);
        finish(&p);
    }
}

static void test_file(void **state)
{
    /* A file without sections, whose syscall lies across the border of two reads. */
    static const uint8_t code[] = {0xb8, 32, 0, 0, 0, 0x0f, 0x05, 0x48, 0x3d, 0, 0xf0, 0xff, 0xff, 0xc3};
    const size_t size = 0x1000 + 600 * 1024;
    struct planned p;
    uint8_t *bytes = xmalloc(size);
    Elf64_Ehdr *eh = (Elf64_Ehdr *)(void *)bytes;
    Elf64_Phdr *ph = (Elf64_Phdr *)(void *)(bytes + sizeof(*eh));
    const struct plan_header *h;
    void *plan;
    size_t plan_size;

    PREPARE(&p, nothing);
    for (int with = 0; with < 2; with++) {
        int fd = memfd_create("test_plan", MFD_CLOEXEC);

        memset(bytes, 0x90, size);
        memcpy(bytes, p.image.bytes, 0x1000);
        eh->e_phnum = 1;
        eh->e_shnum = 0;
        ph[0].p_filesz = ph[0].p_memsz = size - 0x1000;
        if (with)
            memcpy(bytes + 0x1000 + 256 * 1024 - 6, code, sizeof(code));
        assert_int_equal(write(fd, bytes, size), size);
        assert_int_equal(plan_file(fd, "key", &plan, &plan_size), 0);
        assert_true(plan_check(plan, plan_size));
        h = plan;
        assert_int_equal(h->site_count, with);
        assert_int_equal(h->patch_count, with);
        free(plan);
        assert_int_equal(ftruncate(fd, 32), 0);
        assert_int_equal(plan_file(fd, "key", &plan, &plan_size), -ENOEXEC);
        close(fd);
    }
    free(bytes);
    finish(&p);
}

static void test_data_in_text_with_unwind(void **state)
{
    struct planned p;

    /* The same bytes belong to a function, or to none. */
    for (int covered = 0; covered < 2; covered++) {
        image_make(&p.image, data_in_text, (size_t)(data_in_text_end - data_in_text), NULL, 0, NULL);
        add_unwind(&p.image, covered ? (unsigned)(data_in_text_end - data_in_text) : 14, 0);
        plan_it(&p);
        assert_int_equal(p.h->site_count, 2);
        assert_int_equal(p.sites[1].reason == PLAN_R_DATA_IN_TEXT, !covered);
        finish(&p);
    }
}

/* Stripped, with data in its text, and unwind tables of the C part only: the function table says what is code. */
static void test_go_data_in_text(void **state)
{
    for (int listed = 0; listed < 2; listed++) {
        struct planned p;
        Elf64_Ehdr *eh = (Elf64_Ehdr *)(void *)p.image.bytes;
        uint32_t *distances = (uint32_t *)(void *)(p.image.bytes + GO_TABLE + 72);

        go_image(&p.image, data_in_text, (size_t)(data_in_text_end - data_in_text), GO_TABLE_1_20,
                 CODE + (uint64_t)(data_in_text_end - data_in_text));
        add_unwind(&p.image, 14, 0);
        distances[2] = listed ? 17 : 14; /* the nop before the second syscall, or the data before that */
        eh->e_shnum = 0;
        eh->e_entry = 0;
        plan_it(&p);
        assert_int_equal(p.h->site_count, 2);
        assert_int_equal(p.sites[1].reason == PLAN_R_DATA_IN_TEXT, !listed);
        finish(&p);
    }
}

static void test_function_in_region(void **state)
{
    /* A function that starts three bytes behind the syscall: what is patched must end before it. */
    const struct symbol other = {CODE + 10, STT_FUNC};
    struct planned p;

    image_make(&p.image, jmp_short_outside_block, (size_t)(jmp_short_outside_block_end - jmp_short_outside_block),
               &other, 1, NULL);
    plan_it(&p);
    assert_int_equal(only_site(&p)->method, PLAN_MOVE);
    assert_int_equal(call_both(&p, -1, 0, 0), 9);
    assert_int_equal(seen->exit, 1);
    finish(&p);
}

static void test_nothing(void **state)
{
    struct planned p;

    PREPARE(&p, nothing);
    assert_int_equal(p.h->site_count, 0);
    assert_int_equal(p.h->patch_count, 0);
    assert_int_equal(p.h->blob_size, 0);
    finish(&p);
}

/* --- functions ---------------------------------------------------------------------------------------------- */

struct named {
    const char *name;
    uint64_t vaddr;
    unsigned type; /* 0: STT_FUNC */
};

/* An image whose symbols have names; the code itself is in no table. */
static void function_image(struct image *im, const uint8_t *code, size_t size, const struct named *names, size_t count)
{
    Elf64_Shdr *sh = (Elf64_Shdr *)(void *)(im->bytes + 0x3000);
    Elf64_Sym *sym = (Elf64_Sym *)(void *)(im->bytes + 0x3400);
    char *text = (char *)im->bytes + 0x3800;
    size_t used = 1;

    image_make(im, code, size, NULL, 0, NULL);
    memset(sym, 0, 2 * sizeof(*sym));
    for (size_t i = 0; i < count; i++) {
        sym[1 + i] = (Elf64_Sym){.st_name = (uint32_t)used,
                                 .st_info = ELF64_ST_INFO(STB_GLOBAL, names[i].type ? names[i].type : STT_FUNC),
                                 .st_shndx = 1,
                                 .st_value = names[i].vaddr};
        memcpy(text + used, names[i].name, strlen(names[i].name) + 1);
        used += strlen(names[i].name) + 1;
    }
    sh[3].sh_size = (1 + count) * sizeof(*sym);
    sh[3].sh_link = 4;
    sh[4] = (Elf64_Shdr){.sh_type = SHT_STRTAB, .sh_offset = 0x3800, .sh_size = used};
}

/* The function at CODE and its witness behind it. */
static void prepare_function(struct planned *p, const uint8_t *code, const uint8_t *end)
{
    const struct named names[] = {{"SSL_write", CODE, 0}, {"SSL_CTX_new", CODE + (uint64_t)(end - code) - 1, 0}};

    function_image(&p->image, code, (size_t)(end - code), names, 2);
    plan_it(p);
}

struct function_case {
    const char *name;
    const uint8_t *code, *end;
    enum plan_method method;
    enum plan_reason reason;
    unsigned patches, at; /* number of patches, and where the function's is */
    long arg, result;
    unsigned calls;
};

static const struct function_case function_cases[] = {
    {SIMPLE(fn_plain), PLAN_FUNCTION, PLAN_OK, 1, 0, 5, 5 + 4 * 6, 1},
    {SIMPLE(fn_arguments), PLAN_FUNCTION, PLAN_OK, 1, 0, 5, 5 + 2 * 6 + 4 * 7 + 8 * 8 + 9 + 10, 1},
    {SIMPLE(fn_aligned), PLAN_FUNCTION, PLAN_OK, 1, 0, 0, 8, 1},
    {SIMPLE(fn_endbr), PLAN_FUNCTION, PLAN_OK, 1, 4, 5, 12, 1},
    {SIMPLE(fn_rip), PLAN_FUNCTION, PLAN_OK, 1, 0, 5, 1005, 1},
    {SIMPLE(fn_jcc), PLAN_FUNCTION, PLAN_OK, 1, 0, 1, 1, 1},
    {SIMPLE(fn_jcc), PLAN_FUNCTION, PLAN_OK, 1, 0, -1, 2, 1},
    {SIMPLE(fn_tail_call), PLAN_FUNCTION, PLAN_OK, 1, 0, 5, 8, 1},
    {SIMPLE(fn_jump_at_once), PLAN_FUNCTION, PLAN_OK, 1, 0, 5, 8, 1},
    {SIMPLE(fn_call), PLAN_FUNCTION, PLAN_OK, 1, 0, 5, 6, 1},
    {SIMPLE(fn_call_padded), PLAN_FUNCTION, PLAN_OK, 2, 0, 5, 10, 1}, /* a short jump: calls stay where they are */
    {SIMPLE(fn_recursive), PLAN_FUNCTION, PLAN_OK, 1, 0, 4, 10, 5},
    {SIMPLE(fn_back_to_entry), PLAN_FUNCTION, PLAN_OK, 1, 0, 2, -1, 3},
    {SIMPLE(fn_back_inside), PLAN_NONE, PLAN_R_BRANCH_TARGET, 0, 0, 3, 0xffffffff, 0},
    {SIMPLE(fn_tiny_padded), PLAN_FUNCTION, PLAN_OK, 1, 0, 5, 5, 1},
    {SIMPLE(fn_short_jump_only), PLAN_NONE, PLAN_R_RELOCATE, 0, 0, 0, 6, 0},
};

static void test_functions(void **state)
{
    for (size_t i = 0; i < sizeof(function_cases) / sizeof(function_cases[0]); i++) {
        const struct function_case *c = &function_cases[i];
        struct planned p;
        long result[2];

        print_message("  %s\n", c->name);
        prepare_function(&p, c->code, c->end);
        check_site(only_site(&p), FN_SSL_write, c->method, c->reason, PLAN_F_FUNCTION);
        assert_int_equal(p.sites[0].vaddr, CODE);
        assert_int_equal(p.h->patch_count, c->patches);
        for (uint32_t k = 0; k < p.h->patch_count; k++)
            assert_int_equal(p.patches[k].when, PLAN_TRAFFIC);
        if (c->patches)
            assert_int_equal(p.patches[0].vaddr, CODE + c->at);
        for (int patched = 0; patched < 2; patched++) {
            struct running r;

            map_image(&r, &p, patched, 0);
            memset(seen, 0, sizeof(*seen));
            result[patched] = ((function)(uintptr_t)(r.base + CODE))(c->arg, 6, 7, 8, 9, 10);
            assert_int_equal(result[patched], c->result);
            if (patched) {
                assert_int_equal(seen->function, c->calls);
                assert_int_equal(seen->returned, c->calls);
            }
            if (patched && c->calls) {
                assert_int_equal(seen->nr, FN_SSL_write);
                assert_int_equal(seen->ret, c->result);
                assert_int_equal(seen->flags, PLAN_F_FUNCTION);
                assert_int_equal(seen->resume_pc, (uintptr_t)(r.base + CODE));
            }
            unmap_image(&r);
        }
        finish(&p);
    }
}

static void check_functions(const uint8_t *code, const uint8_t *end, const struct named *names, size_t count,
                            unsigned sites, enum plan_reason reason)
{
    struct planned p;

    function_image(&p.image, code, (size_t)(end - code), names, count);
    plan_it(&p);
    assert_int_equal(p.h->site_count, sites);
    if (sites) {
        assert_int_equal(p.sites[sites - 1].reason, reason);
        assert_int_equal(p.sites[sites - 1].nr, FN_SSL_write);
    }
    finish(&p);
}
#define CHECK_FUNCTIONS(code, names, sites, reason) \
    check_functions(code, code##_end, names, sizeof(names) / sizeof((names)[0]), sites, reason)

static void test_function_names(void **state)
{
    extern const uint8_t fn_tiny_next[];
    const uint64_t other = CODE + 22, next = CODE + (uint64_t)(fn_tiny_next - fn_tiny);
    /* No library without its witness; two names of one function; what the loader chooses is no function yet. */
    const struct named alone[] = {{"SSL_write", CODE, 0}};
    const struct named foreign[] = {{"SSL_write", CODE, 0}, {"PR_PushIOLayer", other, 0}};
    const struct named twice[] = {{"SSL_write", CODE, 0}, {"SSL_write", CODE, 0}, {"SSL_CTX_new", other, 0}};
    const struct named chosen[] = {{"SSL_write", CODE, STT_GNU_IFUNC}, {"SSL_CTX_new", other, 0}};
    const struct named like[] = {{"SSL_writes", CODE, 0}, {"SSL_writ", CODE, 0}, {"SSL_CTX_new", other, 0}};
    /* The next function begins within what would be replaced; outside of the text there is none. */
    const struct named close[] = {{"SSL_write", CODE, 0}, {"SSL_CTX_new", next, 0}};
    const struct named nowhere[] = {{"SSL_write", CODE + 0x800, 0}, {"SSL_CTX_new", CODE, 0}};

    CHECK_FUNCTIONS(fn_plain, alone, 0, PLAN_OK);
    CHECK_FUNCTIONS(fn_plain, foreign, 0, PLAN_OK);
    CHECK_FUNCTIONS(fn_plain, twice, 1, PLAN_OK);
    CHECK_FUNCTIONS(fn_plain, chosen, 0, PLAN_OK);
    CHECK_FUNCTIONS(fn_plain, like, 0, PLAN_OK);
    CHECK_FUNCTIONS(fn_tiny, close, 1, PLAN_R_NO_ROOM);
    CHECK_FUNCTIONS(fn_plain, nowhere, 0, PLAN_OK);
}

/* System calls come first: they are observed always. */
static void test_function_with_syscall(void **state)
{
    const struct named names[] = {{"SSL_write", CODE, 0}, {"SSL_CTX_new", CODE + 10, 0}};

    CHECK_FUNCTIONS(fn_with_syscall, names, 2, PLAN_R_RELOCATE);
}

static void test_function_strings(void **state)
{
    struct planned p;
    Elf64_Shdr *sh = (Elf64_Shdr *)(void *)(p.image.bytes + 0x3000);
    const struct named names[] = {{"SSL_write", CODE, 0}, {"SSL_CTX_new", CODE + 22, 0}};

    for (int i = 0; i < 5; i++) {
        function_image(&p.image, fn_plain, (size_t)(fn_plain_end - fn_plain), names, 2);
        switch (i) {
        case 0: sh[4].sh_size -= 1; break; /* does not end with a NUL */
        case 1: sh[4].sh_size = 0; break;
        case 2: sh[4].sh_offset = p.image.size; break;
        case 3: sh[3].sh_link = 5; break; /* no such section */
        case 4: sh[4].sh_size = UINT64_MAX; break;
        }
        plan_it(&p);
        assert_int_equal(p.h->site_count, 0);
        finish(&p);
    }
}

/* --- the trampolines, as a disassembler sees them ------------------------------------------------------- */

/* Decodes the code of a slot up to its last jump (or the first byte that was never written); returns text. */
static char *slot_text(const struct planned *p, uint32_t slot)
{
    const uint8_t *blob = (const uint8_t *)p->plan + p->h->blob_off;
    struct buf text = BUF_INIT;
    cs_insn *insn;
    size_t n;
    csh handle;
    char *ret;

    assert_int_equal(cs_open(CS_ARCH_X86, CS_MODE_64, &handle), CS_ERR_OK);
    n = cs_disasm(handle, blob + slot + PLAN_SLOT_CODE, PLAN_SLOT - PLAN_SLOT_CODE, 0, 0, &insn);
    for (size_t i = 0; i < n && strcmp(insn[i].mnemonic, "int3") != 0; i++)
        buf_printf(&text, "%s %s; ", insn[i].mnemonic, insn[i].op_str);
    cs_free(insn, n);
    cs_close(&handle);
    ret = xstrdup(buf_cstr(&text));
    buf_free(&text);
    return ret;
}

static void test_trampolines(void **state)
{
    struct planned p;
    char *text;

    /* Distances are relative to the slot's code: the slot is 32 bytes before it, the entry table in slot 0. */
    PREPARE(&p, after_plain);
    text = slot_text(&p, PLAN_SLOT);
    assert_string_equal(text, "lea rcx, [rip - 0x27]; jmp qword ptr [rip - 0xad]; "
                              "cmp rax, -0x1000; jmp 0xf6d; ");
    free(text);
    finish(&p);

    PREPARE(&p, check_origin);
    text = slot_text(&p, PLAN_SLOT);
    assert_non_null(strstr(text, "cmp rcx, qword ptr [rip - 0xf]; jne 0x16; lea rcx, [rip - 0x30]; "
                                 "jmp qword ptr [rip - 0xb6]; cmp rax, -0x1000; jmp "));
    free(text);
    finish(&p);

    PREPARE(&p, red_zone_enter);
    text = slot_text(&p, PLAN_SLOT);
    assert_string_equal(text, "mov eax, 3; lea rcx, [rip - 0x2c]; jmp qword ptr [rip - 0xaa]; ");
    free(text);
    finish(&p);
}

/* --- whole libraries ---------------------------------------------------------------------------------------- */

static const char *const libraries[] = {
    "/usr/lib/x86_64-linux-gnu/libssl.so.3",
    "/usr/lib/x86_64-linux-gnu/libgnutls.so.30",
    "/lib/x86_64-linux-gnu/libc.so.6",
    "/lib64/ld-linux-x86-64.so.2",
    "/usr/lib/x86_64-linux-musl/libc.so",
    "/lib64/libc.so.6",
};

static uint8_t *read_file(const char *path, size_t *size)
{
    struct stat st;
    uint8_t *p;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return NULL;
    assert_int_equal(fstat(fd, &st), 0);
    p = xmalloc((size_t)st.st_size);
    assert_int_equal(read(fd, p, (size_t)st.st_size), st.st_size);
    close(fd);
    *size = (size_t)st.st_size;
    return p;
}

/* Executable sections (or segments) by an own, trusting reader. */
static unsigned exec_sections(const uint8_t *image, Elf64_Shdr *out, unsigned max)
{
    const Elf64_Ehdr *eh = (const Elf64_Ehdr *)(const void *)image;
    const Elf64_Shdr *sh = (const Elf64_Shdr *)(const void *)(image + eh->e_shoff);
    unsigned n = 0;

    for (unsigned i = 0; i < eh->e_shnum; i++)
        if (sh[i].sh_type == SHT_PROGBITS && (sh[i].sh_flags & SHF_EXECINSTR) && n < max)
            out[n++] = sh[i];
    return n;
}

static int is_branch(const char *mnemonic)
{
    return mnemonic[0] == 'j' || strncmp(mnemonic, "call", 4) == 0 || strncmp(mnemonic, "loop", 4) == 0 ||
           strstr(mnemonic, " j") || strstr(mnemonic, " call");
}

/* One pass of capstone over all text: the targets of direct branches, and a comparison of both decoders. */
static void independent_pass(const uint8_t *image, const struct planned *p, const char *path)
{
    Elf64_Shdr sections[32];
    unsigned n = exec_sections(image, sections, 32);
    uint64_t compared = 0, differ = 0, refused = 0, targets = 0;
    cs_insn *insn;
    csh handle;

    assert_int_equal(cs_open(CS_ARCH_X86, CS_MODE_64, &handle), CS_ERR_OK);
    insn = cs_malloc(handle);
    for (unsigned i = 0; i < n; i++) {
        const uint8_t *code = image + sections[i].sh_offset;
        size_t left = sections[i].sh_size;
        uint64_t address = sections[i].sh_addr;

        while (left) {
            const uint8_t *at = code;
            struct x86_instr in;
            size_t before = left;
            unsigned len = x86_decode(at, before, &in);

            if (!cs_disasm_iter(handle, &code, &left, &address, insn)) {
                /* This capstone doesn't know every instruction: go on with our length. */
                len = len ? len : 1;
                code += len;
                address += len;
                left -= len;
                continue;
            }
            compared++;
            if (!len)
                refused++;
            else if (len != insn->size) {
                if (differ++ < 5)
                    print_message("%s: %#" PRIx64 ": %u bytes, capstone %u: %s %s\n", path, insn->address, len,
                                  insn->size, insn->mnemonic, insn->op_str);
            }
            if (is_branch(insn->mnemonic) && strncmp(insn->op_str, "0x", 2) == 0) {
                uint64_t target = strtoull(insn->op_str, NULL, 16);

                targets++;
                if (len && in.rel_size)
                    assert_int_equal(target, insn->address + len + (uint64_t)(int64_t)in.rel);
                for (uint32_t k = 0; k < p->h->patch_count; k++)
                    assert_false(target > p->patches[k].vaddr && target < p->patches[k].vaddr + p->patches[k].len);
            } else if (len) {
                assert_false(in.rel_size && in.kind != X86_XBEGIN);
            }
        }
    }
    cs_free(insn, 1);
    cs_close(&handle);
    assert_true(targets > 100);
    assert_int_equal(differ, 0);
    /* Data in text may decode in one and not in the other. */
    assert_true(refused * 10000 <= compared);
}

static void check_plan(const uint8_t *image, size_t size, const struct planned *p)
{
    const char *plan = p->plan;
    const struct plan_fixup *fix = (const struct plan_fixup *)(const void *)(plan + p->h->fix_off);
    Elf64_Shdr sections[32];
    unsigned n = exec_sections(image, sections, 32);

    assert_int_equal(p->h->sum, plan_sum(p->plan, p->size));
    for (uint32_t i = 0; i < p->h->fix_count; i++) {
        assert_in_range(fix[i].at, PLAN_SLOT, p->h->blob_size - (fix[i].kind == PLAN_FIX_TEXT32 ? 4 : 8));
        if (fix[i].kind == PLAN_FIX_BLOB64) {
            uint64_t v;

            memcpy(&v, plan + p->h->blob_off + fix[i].at, 8);
            assert_in_range(v, PLAN_SLOT + PLAN_SLOT_CODE, p->h->blob_size - 1);
        }
    }
    for (uint32_t i = 0; i < p->h->patch_count; i++) {
        const struct plan_patch *patch = &p->patches[i];
        int found = 0;

        if (i) {
            assert_true(patch->vaddr >= patch[-1].vaddr + patch[-1].len);
        }
        for (unsigned k = 0; k < n; k++)
            if (patch->vaddr >= sections[k].sh_addr &&
                patch->vaddr + patch->len <= sections[k].sh_addr + sections[k].sh_size) {
                assert_memory_equal(patch->old, image + sections[k].sh_offset + (patch->vaddr - sections[k].sh_addr),
                                    patch->len);
                found = 1;
            }
        assert_true(found);
        assert_true(patch->site < p->h->site_count);
        if (patch->rel_at != 0xff) {
            uint32_t rel;

            assert_in_range(patch->rel_at + 4, 5, patch->len);
            memcpy(&rel, patch->new_ + patch->rel_at, 4);
            rel += (uint32_t)patch->vaddr + patch->rel_at + 4; /* offset in the blob */
            assert_in_range(rel, PLAN_SLOT + PLAN_SLOT_CODE, p->h->blob_size - 1);
            assert_int_equal((rel - PLAN_SLOT_CODE) % PLAN_SLOT, 0);
        }
    }
}

static void test_libraries(void **state)
{
    unsigned done = 0;

    for (size_t i = 0; i < sizeof(libraries) / sizeof(libraries[0]); i++) {
        struct planned *p = xmalloc(sizeof(*p));
        unsigned wanted = 0, hooked = 0, partly = 0;
        size_t size;
        uint8_t *image = read_file(libraries[i], &size);
        const char *base;

        if (!image) {
            free(p);
            continue;
        }
        assert_int_equal(plan_image(image, size, "key", &p->plan, &p->size), 0);
        base = p->plan;
        p->h = p->plan;
        p->sites = (const struct plan_site *)(const void *)(base + p->h->site_off);
        p->patches = (const struct plan_patch *)(const void *)(base + p->h->patch_off);
        assert_true(plan_check(p->plan, p->size));
        for (uint32_t k = 0; k < p->h->site_count; k++) {
            if (p->sites[k].reason == PLAN_R_UNINTERESTING)
                continue;
            wanted++;
            hooked += p->sites[k].method != PLAN_NONE;
            partly += p->sites[k].method != PLAN_NONE && p->sites[k].reason;
        }
        print_message("  %-40s %3u sites, %3u observable, %3u hooked, %u of them without their enter hook\n",
                      libraries[i], p->h->site_count, wanted, hooked, partly);
        assert_true(wanted > 10);
        assert_true(hooked * 100 >= wanted * 96);
        check_plan(image, size, p);
        independent_pass(image, p, libraries[i]);
        done++;
        free(p->plan);
        free(p);
        free(image);
    }
    assert_true(done > 0);
}

/* --- hostile input -------------------------------------------------------------------------------------------- */

static uint64_t random_state = 88172645463325252u;

/* xorshift64: the same numbers in every run. */
static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void plan_hostile(const uint8_t *bytes, size_t size)
{
    uint8_t *exact = xmalloc(size ? size : 1); /* no byte behind the end: the sanitizer sees over-reads */
    char key[PLAN_KEY_MAX];
    struct stat st = {0};
    void *plan;
    size_t plan_size;

    memcpy(exact, bytes, size);
    plan_key(exact, size, &st, key);
    if (plan_image(exact, size, "key", &plan, &plan_size) == 0) {
        assert_true(plan_check(plan, plan_size));
        free(plan);
    }
    free(exact);
}

static void test_truncated(void **state)
{
    struct planned p;

    PREPARE(&p, neighbour_overlap);
    for (size_t size = 0; size < p.image.size; size += size < 0x200 ? 1 : 61)
        plan_hostile(p.image.bytes, size);
    finish(&p);
}

static void test_mutated(void **state)
{
    static const uint8_t interesting[] = {0, 1, 0x7f, 0x80, 0xff, 0x0f, 0x05, 0xe8, 0xeb};
    struct planned p;
    struct image *mutant = xmalloc(sizeof(*mutant));

    go_image(&p.image, caller_leaf, (size_t)(caller_leaf_end - caller_leaf), GO_TABLE_MODULE,
             CODE + (uint64_t)(caller_leaf_end - caller_leaf));
    for (unsigned round = 0; round < 8000; round++) {
        static const struct {
            unsigned lo, size;
        } parts[] = {{0, 64 + 4 * 56},       {CODE, 128},           {0x3000, 5 * 64},    {0x3400, 72}, {0x800, 36},
                     {GO_TABLE, 9 * 8 + 20}, {GO_TABLE + 256, 184}, {DATA + 0x600, 0xe0}};
        unsigned part = (unsigned)(next_random() % 8), changes = 1 + (unsigned)(next_random() % 4);

        *mutant = p.image;
        while (changes--)
            mutant->bytes[parts[part].lo + next_random() % parts[part].size] =
                next_random() & 1 ? interesting[next_random() % sizeof(interesting)] : (uint8_t)next_random();
        plan_hostile(mutant->bytes, mutant->size);
    }
    free(mutant);
}

static void test_random_text(void **state)
{
    struct planned p;
    uint8_t code[512];

    for (unsigned round = 0; round < 2000; round++) {
        for (size_t i = 0; i < sizeof(code); i++)
            code[i] = (uint8_t)next_random();
        for (unsigned i = 0; i < 8; i++)
            memcpy(code + next_random() % (sizeof(code) - 1), "\x0f\x05", 2);
        image_make(&p.image, code, sizeof(code), NULL, 0, NULL);
        plan_hostile(p.image.bytes, p.image.size);
    }
}

static void test_not_elf(void **state)
{
    struct planned p;
    void *plan;
    size_t size;

    PREPARE(&p, nothing);
    finish(&p);
    assert_int_equal(plan_image("#!/bin/sh\n", 10, "key", &plan, &size), -ENOEXEC);
    assert_int_equal(plan_image("", 0, "key", &plan, &size), -ENOEXEC);
    p.image.bytes[EI_CLASS] = ELFCLASS32;
    assert_int_equal(plan_image(p.image.bytes, p.image.size, "key", &plan, &size), -ENOEXEC);
    p.image.bytes[EI_CLASS] = ELFCLASS64;
    ((Elf64_Ehdr *)(void *)p.image.bytes)->e_machine = EM_RISCV;
    assert_int_equal(plan_image(p.image.bytes, p.image.size, "key", &plan, &size), -ENOEXEC);
}

/* --- keys and cache ------------------------------------------------------------------------------------------- */

/* Where a word of a slot is set twice, what it was the first time doesn't count. */
static void test_word_set_twice(void **state)
{
    struct emit e = {0};
    uint32_t slot = emit_slot(&e, 1, 0, 0x1000, 0x1000), tails = 0, site_pcs = 0;
    const struct plan_fixup *f;

    (void)state;
    emit_tail_vaddr(&e, slot, 0x1002);
    emit_tail_blob(&e, slot, slot + 40);
    emit_site_pc_blob(&e, slot, slot + 44);
    emit_site_pc_blob(&e, slot, slot + 48);
    f = (const struct plan_fixup *)(const void *)e.fixups.p;
    for (size_t i = 0; i < e.fixups.len / sizeof(*f); i++) {
        bool tail = f[i].at == slot + offsetof(struct plan_slot, tail);
        bool site_pc = f[i].at == slot + offsetof(struct plan_slot, site_pc);

        tails += tail;
        site_pcs += site_pc;
        if (tail || site_pc)
            assert_int_equal(f[i].kind, PLAN_FIX_BLOB64);
    }
    assert_int_equal(tails, 1);
    assert_int_equal(site_pcs, 1);
    emit_free(&e);
}

/* What has to lie near the blob: patches, and what slots jump to; not what they load the address of. */
static void test_reach(void **state)
{
    struct emit e = {0};
    struct plan_patch patch = {.vaddr = 0x5000000, .len = 4};
    struct plan_header *h;
    void *plan;
    size_t size;
    uint32_t slot;

    (void)state;
    slot = emit_slot(&e, 1, 0, 0x5000004, 0x5000004);
    emit_tail_vaddr(&e, slot, 0x100);
    emit_abs_vaddr(&e, 0x20000000);
    emit_branch_vaddr(&e, 0x14000000, 0x5000004);
    emit_patch_rel(&patch, PLAN_REL_26, 0, slot + PLAN_SLOT_CODE);
    emit_patch(&e, &patch);
    assert_int_equal(emit_finish(&e, PLAN_ARCH_AARCH64, 0, "k", &plan, &size), 0);
    h = plan;
    assert_int_equal(h->reach_lo, 0x5000000);
    assert_int_equal(h->reach_hi, 0x5000005);
    free(plan);
    emit_branch_vaddr(&e, 0x14000000, 0x4000000);
    emit_branch_vaddr(&e, 0x14000000, 0x6000000);
    assert_int_equal(emit_finish(&e, PLAN_ARCH_AARCH64, 0, "k", &plan, &size), 0);
    h = plan;
    assert_int_equal(h->reach_lo, 0x4000000);
    assert_int_equal(h->reach_hi, 0x6000001);
    assert_int_equal(h->text_lo, 0x5000000);
    free(plan);
    emit_free(&e);
}

static void test_key(void **state)
{
    const struct stat st = {.st_dev = 0xfe01, .st_ino = 0x1234, .st_size = 0x4000, .st_mtim = {1, 5}};
    struct planned p;
    char key[PLAN_KEY_MAX];

    PREPARE(&p, nothing);
    assert_int_equal(plan_key(p.image.bytes, p.image.size, NULL, key), 0);
    assert_string_equal(key, "deadbeef0102030405060708090a0b0c0d0e0fff");
    memset(p.image.bytes + 0x800, 0, 36); /* no build-id */
    assert_int_equal(plan_key(p.image.bytes, p.image.size, &st, key), 0);
    assert_string_equal(key, "f-fe01-1234-3b9aca05-4000");
    assert_int_equal(plan_key(p.image.bytes, p.image.size, NULL, key), -ENOEXEC);
    assert_int_equal(plan_key("#!/bin/sh\n", 10, &st, key), -ENOEXEC);
    finish(&p);
}

static void overwrite(const char *path, off_t at, uint8_t byte)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static int exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static void test_cache(void **state)
{
    static const char key[] = "deadbeef";
    char dir[] = "/tmp/test_plan.XXXXXX";
    struct planned p;
    char *path, *image_path;
    struct stat st;
    uint8_t buf[8192];
    int fd, image_fd;

    assert_non_null(mkdtemp(dir));
    path = xasprintf("%s/%s.plan", dir, key);
    image_path = xasprintf("%s/image", dir);
    PREPARE(&p, after_plain);
    free(p.plan);
    p.plan = NULL;
    assert_int_equal(plan_image(p.image.bytes, p.image.size, key, &p.plan, &p.size), 0);

    assert_int_equal(plan_cache_open(dir, key), -ENOENT);
    assert_int_equal(plan_cache_store(dir, key, p.plan, p.size), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0644);
    fd = plan_cache_open(dir, key);
    assert_true(fd >= 0);
    assert_int_equal(read(fd, buf, sizeof(buf)), p.size);
    assert_memory_equal(buf, p.plan, p.size);
    close(fd);

    /* Any changed byte: removed. */
    for (off_t at = 0; at < (off_t)p.size; at += 37) {
        assert_int_equal(plan_cache_store(dir, key, p.plan, p.size), 0);
        overwrite(path, at, (uint8_t) ~((uint8_t *)p.plan)[at]);
        assert_int_equal(plan_cache_open(dir, key), -ENOENT);
        assert_false(exists(path));
    }
    /* Cut short, or the plan of another image. */
    assert_int_equal(plan_cache_store(dir, key, p.plan, p.size), 0);
    assert_int_equal(truncate(path, (off_t)p.size - 8), 0);
    assert_int_equal(plan_cache_open(dir, key), -ENOENT);
    assert_int_equal(plan_cache_store(dir, "abcdef", p.plan, p.size), 0);
    assert_int_equal(plan_cache_open(dir, "abcdef"), -ENOENT);
    /* Writable by others. */
    assert_int_equal(plan_cache_store(dir, key, p.plan, p.size), 0);
    assert_int_equal(chmod(path, 0666), 0);
    assert_int_equal(plan_cache_open(dir, key), -ENOENT);
    /* A link to somewhere else. */
    assert_int_equal(symlink("/etc/passwd", path), 0);
    assert_int_equal(plan_cache_open(dir, key), -ENOENT);
    unlink(path);
    /* Keys are no paths. */
    assert_int_equal(plan_cache_open(dir, "../x"), -ENOENT);
    assert_int_equal(plan_cache_store(dir, "../x", p.plan, p.size), -EINVAL);
    assert_int_equal(plan_cache_store(dir, "", p.plan, p.size), -EINVAL);

    /* From an image to a stored plan, and from there. */
    image_fd = open(image_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(write(image_fd, p.image.bytes, p.image.size), p.image.size);
    for (int i = 0; i < 3; i++) {
        const char *where = i < 2 ? dir : "/proc/nowhere"; /* a cache that can't be written is no error */

        fd = plan_cache_get(where, image_fd, key);
        assert_true(fd >= 0);
        assert_int_equal(pread(fd, buf, sizeof(buf), 0), p.size);
        assert_memory_equal(buf, p.plan, p.size);
        assert_int_equal(pwrite(fd, "x", 1, 0), -1);
        close(fd);
        assert_true(exists(path));
    }
    assert_int_equal(ftruncate(image_fd, 100), 0);
    unlink(path);
    assert_int_equal(plan_cache_get(dir, image_fd, key), -ENOEXEC);
    close(image_fd);
    unlink(image_path);
    assert_int_equal(rmdir(dir), 0); /* no temporary file was left */
    free(path);
    free(image_path);
    finish(&p);
}

/* Every way and every reason has a name, of its own. */
static void test_words(void **state)
{
    (void)state;
    for (unsigned i = 0; i < PLAN_METHODS; i++)
        for (unsigned k = 0; k <= i; k++)
            assert_int_equal(strcmp(plan_method_name(i), k < i ? plan_method_name(k) : "?") != 0, 1);
    for (unsigned i = PLAN_OK + 1; i < PLAN_REASON_MAX; i++)
        for (unsigned k = PLAN_OK; k <= i; k++)
            assert_int_equal(strcmp(plan_reason_name(i), k < i ? plan_reason_name(k) : "?") != 0, 1);
    assert_string_equal(plan_method_name(PLAN_METHODS), "?");
    assert_string_equal(plan_reason_name(PLAN_REASON_MAX), "?");
}

/* What was refused when a plan was applied counts as refused, whatever the method. */
static void test_count_sites(void **state)
{
    struct {
        struct plan_header h;
        struct plan_site s[5];
    } plan = {.h = {.site_off = sizeof(plan.h), .site_count = 5},
              .s = {{.method = PLAN_AFTER},
                    {.method = PLAN_AFTER, .reason = PLAN_R_ENTER_ONLY},
                    {.method = PLAN_MOVE, .reason = PLAN_R_OCCUPIED},
                    {.method = PLAN_NONE, .reason = PLAN_R_RSEQ},
                    {.method = PLAN_NONE, .reason = PLAN_R_UNINTERESTING}}};
    struct plan_sites n;

    (void)state;
    plan_count_sites(&plan.h, 0, 0, PLAN_OK, &n);
    assert_int_equal(n.patched[PLAN_AFTER], 2);
    assert_int_equal(n.partly, 1);
    assert_int_equal(n.refused[PLAN_R_OCCUPIED], 1);
    assert_int_equal(n.refused[PLAN_R_RSEQ], 1);
    assert_int_equal(plan_sites_patched(&n), 2);
    assert_int_equal(plan_sites_refused(&n), 2);
    plan_count_sites(&plan.h, 0, 0, PLAN_R_PROTECTED, &n);
    assert_int_equal(plan_sites_patched(&n), 0);
    assert_int_equal(n.partly, 0);
    assert_int_equal(n.refused[PLAN_R_PROTECTED], 3);
    assert_int_equal(n.refused[PLAN_R_RSEQ], 1);
    plan.s[1].flags = plan.s[3].flags = PLAN_F_CRASH; /* neither patched nor missed where nobody asks */
    plan_count_sites(&plan.h, 0, 0, PLAN_OK, &n);
    assert_int_equal(plan_sites_patched(&n), 1);
    assert_int_equal(plan_sites_refused(&n), 1);
    plan_count_sites(&plan.h, 0, 1, PLAN_OK, &n);
    assert_int_equal(plan_sites_patched(&n), 2);
    assert_int_equal(plan_sites_refused(&n), 2);
    plan.s[0].method = plan.s[1].reason = 200; /* of no plan that we make */
    plan_count_sites(&plan.h, 0, 0, PLAN_OK, &n);
    assert_int_equal(plan_sites_patched(&n), 0);
}

/* --- where keys may be set up --- */

#define ANCHORS 1024u /* aeskeygenassist, one each 64 bytes */
#define ANCHOR_EACH 64u
#define GROUP_BYTES 0x2000u /* of anchors that are taken together: keys.c, GROUP_MAX */

struct groups {
    unsigned count, begins;
    uint64_t first, longest; /* between the firsts of two that follow one another */
};

static void take_place(void *arg, uint64_t vaddr, bool begins)
{
    struct groups *g = arg;

    if (begins) {
        g->begins++;
        return;
    }
    if (g->count++ && vaddr - g->first > g->longest)
        g->longest = vaddr - g->first;
    g->first = vaddr;
}

/* Code that is made for it can't have all of itself looked at as one function: groups end, and are so many at most. */
static void test_key_groups(void **state)
{
    static uint8_t code[ANCHORS * ANCHOR_EACH];
    static const uint8_t anchor[] = {0x66, 0x0f, 0x3a, 0xdf, 0xc8, 0x01};
    struct elf_image elf = {.image = code, .size = sizeof(code), .machine = EM_X86_64, .text_count = 1, .segment_count = 1};
    struct groups g = {0};

    (void)state;
    memset(code, 0x90, sizeof(code));
    for (unsigned i = 0; i < ANCHORS; i++)
        memcpy(code + i * ANCHOR_EACH, anchor, sizeof(anchor));
    elf.text[0] = elf.segments[0] = (struct elf_range){.bytes = code, .size = sizeof(code), .vaddr = 0x1000};
    x86_key_places(&elf, take_place, &g);
    assert_int_equal(g.longest, GROUP_BYTES + ANCHOR_EACH);
    assert_int_equal(g.count, (sizeof(code) + GROUP_BYTES + ANCHOR_EACH - 1) / (GROUP_BYTES + ANCHOR_EACH));
    /* too few to be one */
    memset(code, 0x90, sizeof(code));
    for (unsigned i = 0; i < 4; i++)
        memcpy(code + i * ANCHOR_EACH, anchor, sizeof(anchor));
    g = (struct groups){0};
    x86_key_places(&elf, take_place, &g);
    assert_int_equal(g.count, 0);
    assert_int_equal(g.begins, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_count_sites),
        cmocka_unit_test(test_simple_cases),
        cmocka_unit_test(test_unsure),
        cmocka_unit_test(test_table_into_region),
        cmocka_unit_test(test_neighbour_overlap),
        cmocka_unit_test(test_exits),
        cmocka_unit_test(test_caller_leaf),
        cmocka_unit_test(test_data_in_text),
        cmocka_unit_test(test_proof),
        cmocka_unit_test(test_go_marks),
        cmocka_unit_test(test_go_module),
        cmocka_unit_test(test_go_calls),
        cmocka_unit_test(test_go_data_in_text),
        cmocka_unit_test(test_rseq),
        cmocka_unit_test(test_landing_pad),
        cmocka_unit_test(test_address_constants),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_data_in_text_with_unwind),
        cmocka_unit_test(test_function_in_region),
        cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_functions),
        cmocka_unit_test(test_function_names),
        cmocka_unit_test(test_function_with_syscall),
        cmocka_unit_test(test_function_strings),
        cmocka_unit_test(test_trampolines),
        cmocka_unit_test(test_libraries),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_mutated),
        cmocka_unit_test(test_random_text),
        cmocka_unit_test(test_not_elf),
        cmocka_unit_test(test_word_set_twice),
        cmocka_unit_test(test_reach),
        cmocka_unit_test(test_key),
        cmocka_unit_test(test_key_groups),
        cmocka_unit_test(test_cache),
    };

    seen = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (seen == MAP_FAILED)
        return 1;
    return cmocka_run_group_tests_name("plan", tests, NULL, NULL);
}
