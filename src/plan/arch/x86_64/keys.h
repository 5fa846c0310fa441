/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where AES keys are set up: `int set_encrypt_key(const uint8_t *key, int bits,
 * AES_KEY *schedule)`, in the assembly of CRYPTOGAMS that BoringSSL, aws-lc, ring
 * and OpenSSL have in common. Stripped programs keep no name of it. It is found by
 * what it can't do without (aeskeygenassist) and proven by its whole stream of
 * instructions: a form, of which there are few, as that assembly hardly changes.
 *
 * A stream is normalised: padding (nop, endbr64, int3) is left out, distances to
 * data are, and a branch counts by where it leads in the stream. So what linkers
 * and assemblers choose doesn't matter, but every instruction, register, constant
 * and branch does. A form is the number of its instructions and a hash of them;
 * dev/key-forms prints those of a program. A stream that isn't known is never hooked.
 */
#ifndef SCOPE_PLAN_X86_KEYS_H
#define SCOPE_PLAN_X86_KEYS_H

#include <stdbool.h>

#include "plan/elf.h"
#include "plan/functions.h"

#define X86_STREAM_MAX 320u /* instructions */

/* Of each form that begins at vaddr its hash, at [number of instructions - 1]; returns how many there are before what is
 * no instruction. */
unsigned x86_stream(const struct elf_image *elf, uint64_t vaddr, uint64_t hash[X86_STREAM_MAX]);
/* Of the instructions of a stream those that belong to the function which begins it: what it can reach by direct jumps
 * and calls. 0: that has no end. */
unsigned x86_stream_function(const struct elf_image *elf, uint64_t vaddr);
/* Calls fn for each place where one may begin, near an anchor, and once for each anchor itself with begins false. */
void x86_key_places(const struct elf_image *elf, void (*fn)(void *arg, uint64_t vaddr, bool begins), void *arg);
/* Adds the functions whose form is known, and anchors that are near none, with PLAN_R_UNKNOWN_FORM. */
void x86_find_keys(const struct elf_image *elf, struct functions *ret);

#endif
