/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Searches the memory of a process for AES keys that are in use (aes_schedule.h),
 * from outside and while it runs: its private, writable memory, as far as that is
 * in RAM or swap. In small steps, as others wait. What is read is wiped again.
 *
 * Bounds of a search: KEY_SCAN_BYTES, KEY_SCAN_NS of CPU time (the list of
 * mappings counts), KEY_SCAN_FOUND keys. What it was cut at is where the next
 * one may begin. Single-threaded.
 */
#ifndef SCOPE_COLLECTOR_KEY_SCAN_H
#define SCOPE_COLLECTOR_KEY_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define KEY_SCAN_BYTES (UINT64_C(256) << 20)
#define KEY_SCAN_NS UINT64_C(200000000)
#define KEY_SCAN_FOUND 1024u

struct key_scan;

/* pidfd: of the process, whose number may be another's by now. from: address where to begin. NULL: *ret_err is -errno;
 * -EACCES, -EPERM: we may not read it. */
struct key_scan *key_scan_new(pid_t pid, int pidfd, uint64_t from, int *ret_err);
/* NULL is fine. */
void key_scan_free(struct key_scan *s);
/* Goes on for so much CPU time, or a little more; calls fn for each key, of len 16 or 32 bytes, which may come several
 * times. False: it is over. */
bool key_scan_step(struct key_scan *s, uint64_t ns, void (*fn)(void *ctx, const uint8_t *key, size_t len), void *ctx);
/* Where it was cut; 0: it wasn't. */
uint64_t key_scan_cut(const struct key_scan *s);
/* CPU time that it took so far. */
uint64_t key_scan_used(const struct key_scan *s);

#endif
