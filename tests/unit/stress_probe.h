/* SPDX-License-Identifier: Apache-2.0 */
/* The side of the observed program in test_memory_stress.c: its headers and those of a C library don't go together. */
#ifndef SCOPE_TESTS_STRESS_PROBE_H
#define SCOPE_TESTS_STRESS_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#include "wire/segment.h"

#define STRESS_WORDS 40u /* of a record, at most */
static inline uint64_t stress_word(uint64_t writer, uint64_t n, unsigned i)
{
    return (writer << 56 | n << 8 | i) * UINT64_C(0x9e3779b97f4a7c15);
}

/* A segment that is laid out. */
void stress_start(struct segment_header *s);
/* A record of so many words. False: it was lost, and counted. */
bool stress_write(struct segment_header *s, uint64_t writer, uint64_t n, unsigned words);
/* Nobody wakes the collector any more. */
void stress_silence(struct segment_header *s);
/* The descriptor is another one, for the nth time. */
void stress_reopen(struct segment_header *s, unsigned fd, uint32_t nth);
/* arch_sync_code() */
void stress_sync_code(const void *p, uint64_t size);

#endif
