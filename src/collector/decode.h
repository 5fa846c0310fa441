/* SPDX-License-Identifier: Apache-2.0 */
/* From records to the model: what each observed call, by the shape of its arguments, means. */
#ifndef SCOPE_COLLECTOR_DECODE_H
#define SCOPE_COLLECTOR_DECODE_H

#include <stdint.h>

#include "wire/record.h"

struct collector;
struct segment;

/* One record. r is private memory of `size` bytes. */
void decode_record(struct collector *c, struct segment *seg, const struct record *r, uint32_t size, uint64_t arrival);

#endif
