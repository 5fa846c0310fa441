/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The images that a process runs, and what became of the system call sites in
 * them: told by the probe (REC_IMAGE), or by whoever attached. A forked child
 * has those of its parent, and shares the list until one of them gets another
 * image. Single-threaded.
 */
#ifndef SCOPE_MODEL_IMAGES_H
#define SCOPE_MODEL_IMAGES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "wire/record.h"

struct images;

/* NULL is an empty list. */
struct images *images_ref(struct images *l);
void images_unref(struct images *l);

/* Adds an image, or replaces the one of that name and key. Name and sites come from the observed program: what can't be
 * a key is left out; IMAGES_MAX are kept and the rest counted. */
#define IMAGES_MAX 1024u
void images_add(struct images **list, const char *name, size_t len, const struct rec_sites *sites);

/* Whether there is an image of that name and key. */
bool images_has(const struct images *l, const char *name, size_t len, const struct rec_sites *sites);

/* A JSON array with an object for each image, as docs/cli.md ("scope inspect") has it. */
void images_describe(const struct images *l, struct buf *b);
/* A JSON array of the ways by which plaintext of TLS may be had in them, an object for each image and way. */
void images_describe_tls(const struct images *l, struct buf *b);
/* Functions of TLS libraries in them: that are hooked, and all that were found. */
void images_functions(const struct images *l, unsigned *ret_hooked, unsigned *ret_found);
/* Where keys of TLS libraries in them are seen (wire/functions.h, FNS_KEY). */
unsigned images_keys(const struct images *l);
/* Sites of them that were left alone for a reason (enum plan_reason); those that were patched in Go code. */
unsigned images_refused(const struct images *l, unsigned reason);
unsigned images_go(const struct images *l);
/* Native methods of Java's network that are hooked. */
unsigned images_natives(const struct images *l);
/* How many more there were. */
unsigned images_unlisted(const struct images *l);

#endif
