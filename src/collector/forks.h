/* SPDX-License-Identifier: Apache-2.0 */
/* Children: whose each is, which process, and what it has inherited, whatever is heard of first. */
#ifndef SCOPE_COLLECTOR_FORKS_H
#define SCOPE_COLLECTOR_FORKS_H

#include <stdbool.h>
#include <stdint.h>

#define BORROWERS_MAX 32768u /* processes that one ring may claim to have forked */

struct collector;
struct proc;
struct segment;

/* The first sign of an unknown guest in a ring: who forked it? pid: as its records have it. NULL: nobody knows. */
struct proc *forks_borrower(struct collector *c, struct segment *seg, uint32_t pid, bool vfork, uint64_t time_ns);
/* The parent tells that its fork has come back: child is its result. id: number of the fork, 0: not known. */
void forks_told(struct collector *c, struct proc *parent, uint32_t tid, uint32_t id, int64_t child, uint64_t time_ns);
/* Whether p, who borrows its ring, was dead by that time (CLOCK_REALTIME ns): then its number is another process's. */
bool forks_reused(const struct proc *p, uint64_t time_ns);

#endif
