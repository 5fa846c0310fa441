/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is known of every instruction of an image's text: where control may arrive, what must not be touched. One byte
 * of marks for each word of text, made by one pass. Words are aligned, so there is no doubt where instructions begin;
 * whether a word is one is another question (sites.c).
 */
#ifndef SCOPE_PLAN_A64_TEXT_H
#define SCOPE_PLAN_A64_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "plan/arch/aarch64/insn.h"
#include "plan/eh_frame.h"
#include "plan/elf.h"
#include "plan/go.h"

enum text_mark {
    TEXT_TARGET = 1 << 0, /* of a direct branch */
    TEXT_CALLED = 1 << 1, /* of a direct call */
    TEXT_ENTRY = 1 << 2,  /* reached in ways that can't be listed: function, address taken, landing pad */
    TEXT_TAKEN = 1 << 3,  /* belongs to a patch */
    TEXT_FIXED = 1 << 4,  /* must stay as it is: restartable sequence */
    TEXT_CANCEL = 1 << 5, /* must stay as it is: PC range of a cancellation point */
};
#define TEXT_ARRIVES (TEXT_TARGET | TEXT_CALLED | TEXT_ENTRY)

struct text {
    const struct elf_image *elf;
    uint8_t *marks[ELF_MAX_TEXT];     /* of each text range, by word */
    struct elf_addresses functions;   /* symbols, unwind tables and Go's table; sorted */
    struct eh_functions eh;
    struct go_text go;
    uint64_t bad_words;               /* more than 0: there is data in the text */
    uint64_t work;                    /* steps of searches in it: hostile images could ask for very many */
    bool gcs;                         /* the image asks for a shadow stack of return addresses (Guarded Control Stack) */
};

/* 0, -ENOMEM, or -EFBIG if the image's tables are larger than any program's. The image must outlive it; release with
 * text_free(), in any case. */
int text_read(const struct elf_image *elf, struct text *c);
void text_free(struct text *c);

/* Marks of the word at vaddr, and the word itself. NULL, false: it is not text. */
uint8_t *text_marks(const struct text *c, uint64_t vaddr);
bool text_word(const struct text *c, uint64_t vaddr, uint32_t *ret);
/* Whether control can come to vaddr otherwise than from the word before. */
bool text_arrives(const struct text *c, uint64_t vaddr);
/* Bounds of the function that holds vaddr as far as anything tells them: from *ret_lo up to *ret_hi. False: nothing
 * does. */
bool text_function(const struct text *c, uint64_t vaddr, uint64_t *ret_lo, uint64_t *ret_hi);
/* The same, and where nothing tells them: from one place that is called to the next, which is no less than the function
 * unless data look like a call into the middle of it. False: it is not text. */
bool text_body(const struct text *c, uint64_t vaddr, uint64_t *ret_lo, uint64_t *ret_hi);

#endif
