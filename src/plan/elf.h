/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads what the planner needs from the bytes of a 64-bit ELF file (gABI and
 * the x86-64 psABI). Every offset and size of the file is checked before use;
 * an image that lies yields fewer symbols, never a wild read. Whatever is
 * returned points into the image, which must outlive the reader.
 */
#ifndef SCOPE_PLAN_ELF_H
#define SCOPE_PLAN_ELF_H

#include <elf.h>
#include <stddef.h>
#include <stdint.h>

#define ELF_MAX_SEGMENTS 64
#define ELF_MAX_PHDRS 256        /* real files have about a dozen */
#define ELF_MAX_TABLE (1u << 27) /* bytes of a relocation table */
#define ELF_MAX_DATA (1u << 30)  /* bytes of data that are searched for addresses */
#define ELF_MAX_TEXT 64
#define ELF_MAX_TEXT_SPAN (1u << 29) /* patches must reach their trampolines: +-2 GiB; twice a large browser */

/* Part of the image as it is mapped. */
struct elf_range {
    uint64_t vaddr;
    uint64_t size;
    const uint8_t *bytes;
};

struct elf_addresses {
    uint64_t *v;
    size_t count, cap;
};

struct elf_image {
    const uint8_t *image;
    size_t size;
    uint16_t machine;       /* EM_* */
    int position_dependent; /* ET_EXEC */
    uint64_t entry;
    struct elf_range segments[ELF_MAX_SEGMENTS]; /* every PT_LOAD, file bytes only */
    unsigned segment_count;
    struct elf_range text[ELF_MAX_TEXT]; /* executable sections, or segments if there are none; sorted, disjoint */
    unsigned text_count;
};

/* Returns 0, -ENOEXEC if it isn't a usable 64-bit little-endian ELF image, -EFBIG if its text spans too much. */
int elf_open(const void *image, size_t size, struct elf_image *elf);

/* Whether the loader will write into the text (DT_TEXTREL), over what a patch would put there. */
int elf_text_relocations(const struct elf_image *elf);

/* The bytes at vaddr, at least `size` of them in one segment; NULL if there aren't. `left`, if not NULL,
 * gets how many there are. */
const uint8_t *elf_at(const struct elf_image *elf, uint64_t vaddr, uint64_t size, uint64_t *left);

/* The text range that holds vaddr, or NULL. */
const struct elf_range *elf_text_at(const struct elf_image *elf, uint64_t vaddr);

/* Adds the addresses of functions in text: symbols of type FUNC and IFUNC, and the entry point.
 * With labels != 0, adds the untyped labels instead. */
void elf_functions(const struct elf_image *elf, int labels, struct elf_addresses *out);

/* Calls fn with name and address of every function in text that a symbol stands for, dynamic or not; for some twice. */
void elf_each_function(const struct elf_image *elf, void (*fn)(void *arg, const char *name, uint64_t vaddr), void *arg);

/* Whether a dynamic symbol has this address: other objects may call it. */
int elf_is_exported(const struct elf_image *elf, uint64_t vaddr);

/* Adds the addresses in text that data of the image is made to hold: addends of relative relocations; in a
 * position-dependent image, every aligned word of data that is such an address. 0, or -EFBIG if there is more to
 * search than any program has. */
int elf_address_constants(const struct elf_image *elf, struct elf_addresses *out);

/* Calls fn with place and value of every relative relocation (DT_RELA, DT_RELR). */
void elf_each_relative(const struct elf_image *elf, void (*fn)(void *arg, uint64_t place, uint64_t value), void *arg);

/* Whether there is a section whose name ends so, and its address. Stripped files have names, too. */
int elf_section(const struct elf_image *elf, const char *name, uint64_t *ret_vaddr);

/* A restartable sequence (linux/rseq.h, struct rseq_cs) as found in section __rseq_cs. */
struct elf_rseq {
    uint64_t start, size, abort;
};
/* Fills up to max; returns their number. */
size_t elf_rseq(const struct elf_image *elf, struct elf_rseq *out, size_t max);

/* The first note of that owner and type: returns the length of its contents and where they are, 0 if there is none. */
size_t elf_note(const void *image, size_t size, const char *owner, uint32_t type, const uint8_t **ret);
/* The GNU build-id note, likewise. */
size_t elf_build_id(const void *image, size_t size, const uint8_t **ret_id);

void elf_addresses_add(struct elf_addresses *a, uint64_t v);
/* Sorts and removes duplicates. */
void elf_addresses_sort(struct elf_addresses *a);
void elf_addresses_free(struct elf_addresses *a);

#endif
