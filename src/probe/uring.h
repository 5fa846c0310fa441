/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations that pass through io_uring(7): what is submitted and completed is
 * read from the rings in the program's memory and told as the corresponding
 * system call. Looked at whenever the program enters the kernel for the ring,
 * closes it or ends.
 *
 * Not followed, and noted (NOTE_IO_URING): rings that the kernel polls
 * (IORING_SETUP_SQPOLL: submission needs no call), rings in memory that isn't
 * mapped through the descriptor, more than URINGS rings at once. What is written
 * through a ring is counted but not captured: the buffer is the program's again
 * before we see the completion. If it was wanted, that is told as a loss.
 */
#ifndef SCOPE_PROBE_URING_H
#define SCOPE_PROBE_URING_H

#include "state.h"

extern uint32_t uring_count; /* rings in use: 0 makes everything below cheap */

/* After io_uring_setup: params as the kernel filled it. */
void uring_made(struct segment_header *s, int fd, const void *params);
/* After an mmap of a ring's descriptor. */
void uring_mapped(int fd, uint64_t offset, uint64_t addr);
/* After io_uring_register. */
void uring_registered(int fd, uint32_t opcode, const void *arg, uint32_t count);
/* Before io_uring_enter. */
void uring_enter(struct segment_header *s, int fd, uint32_t to_submit);
/* After it, and before the ring or the process goes. */
void uring_reap(struct segment_header *s, int fd);
void uring_reap_all(struct segment_header *s);
/* Before close. */
void uring_closed(struct segment_header *s, int fd);

#endif
