/* SPDX-License-Identifier: Apache-2.0 */
/* One record on its way through: what it carries, and what that means for who has written it. */
#ifndef SCOPE_COLLECTOR_TOLD_H
#define SCOPE_COLLECTOR_TOLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/record.h"
#include "wire/syscalls.h"

struct collector;
struct proc;
struct segment;

/* Everything that a record carries, found once. Pointers lead into the record. */
struct parts {
    const char *path, *path2;
    uint32_t path_len, path2_len;
    const void *addr, *local, *data;
    uint32_t addr_len, local_len, data_len;
    const struct rec_fd *fds;
    uint32_t fd_count;
    const struct rec_sites *sites;
    bool has_stat, has_status, has_usage;
    /* From here on only what these say is there has a value: */
    struct rec_stat stat;
    int32_t status;
    struct rec_usage usage;
};

/* One record on its way through. */
struct told {
    struct collector *c;
    struct segment *seg;
    struct proc *p;
    const struct record *r;
    uint32_t size;
    const struct op_desc *desc;
    enum op_id op;
    const char *name;          /* of the call */
    uint64_t time;             /* CLOCK_REALTIME ns */
    uint64_t ns;               /* duration */
    const char *file, *file2;  /* resolved (names.h) */
    size_t file_len, file2_len;
    uint32_t plain, tail;      /* of file, as in struct name */
    struct parts in;
};

/* Finds what is in x->r. */
void told_parse(struct told *x);
/* Argument n as a C int. */
int32_t told_int(const struct told *x, unsigned n);
/* Whether the call takes a descriptor: told_fd(). */
bool told_takes_fd(const struct told *x);
/* -1: it has none. */
int64_t told_fd(const struct told *x);
/* O_* flags of a call that opens a file. */
uint64_t told_open_flags(const struct told *x);
/* Names of those by which a file may be changed or made, or isn't read: most opens have none of them. Returns how many. */
#define TOLD_OPEN_FLAGS_MAX 8
size_t told_open_flag_names(uint64_t flags, const char *ret[TOLD_OPEN_FLAGS_MAX]);
/* Finds the files that its names mean: x->file, x->file2. */
void told_resolve(struct told *x);
/* Which of these are not resolved: NAME_FIRST, NAME_SECOND (report.h). */
unsigned told_unresolved(const struct told *x);
/* Has the call itself told, for the event source syscall. */
void told_syscall(struct told *x);
/* Generation of the descriptor that the call has made; 0: not known. */
uint32_t told_made_gen(const struct told *x);

#endif
