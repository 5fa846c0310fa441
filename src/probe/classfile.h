/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Puts calls into methods of a Java class file (The Java Virtual Machine
 * Specification, chapter 4): at a method's entry and in front of each return.
 * Nothing else of the class changes, so that a JVM takes it in place of the
 * original (JVM TI, RetransformClasses). And makes the class that is called.
 *
 * Pure, freestanding, no state: memory is the caller's. The bytes may be hostile:
 * each is looked at only where it is there. What isn't understood is refused,
 * never guessed: a method without what is needed, one that stores into its own
 * parameters (which the calls are given again), a branch that would get too long,
 * an attribute of code that isn't known and speaks of places in it.
 */
#ifndef SCOPE_PROBE_CLASSFILE_H
#define SCOPE_PROBE_CLASSFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CLASS_CODE_MAX 65535u /* bytes of a method (4.7.3) */

/* A static method without result, and the instructions that push what it takes. */
struct class_call {
    const char *name, *type; /* a method descriptor (4.3.3); NULL: no call */
    uint8_t push[24];        /* instructions without branches */
    uint8_t push_size;
    uint8_t stack;           /* words that they add to the operand stack at most */
};

/* A method that gets calls. What `leave` pushes may begin with `dup` or `dup2`: the result is on the stack. */
struct class_site {
    const char *name, *type;
    struct class_call enter, leave;
};

/* Room to work in, some 600 KiB of which only the first bytes of each array are touched for a usual class. */
struct class_scratch {
    uint32_t constant[65536];          /* offset of each constant, 0: none there */
    uint16_t at[CLASS_CODE_MAX + 1];   /* of an instruction's old place: where it is now */
    uint16_t to[CLASS_CODE_MAX + 1];   /* ... where a branch to it leads now */
    uint8_t starts[CLASS_CODE_MAX + 1]; /* an instruction begins there */
};

/* Rewrites a class of `size` bytes into `out`, which has `room`. helper: the internal name of the class that has the
 * methods called (4.2.1). Each of the sites must be there, once. sites NULL: every method that has code gets the calls
 * of *all (for tests). Returns the new size, or 0: it is left alone. */
size_t class_rewrite(const uint8_t *in, size_t size, const char *helper, const struct class_site *sites, unsigned count,
                     const struct class_site *all, struct class_scratch *scratch, uint8_t *out, size_t room);

/* Makes a public class of that name with nothing but static native methods, which `calls` tells. Returns its size, or 0
 * if there is no room for it. */
size_t class_make(const char *name, const struct class_call *const *calls, unsigned count, uint8_t *out, size_t room);

#endif
