/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads a journal (docs/journal.md), also while it is being written. What the
 * file holds is hostile: lengths, counts and references are checked, memory is
 * bounded, whole blocks behind a damaged one are found. Not thread-safe.
 */
#ifndef SCOPE_JOURNAL_READER_H
#define SCOPE_JOURNAL_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "event/event.h"

struct journal_reader;

/* What is wanted; blocks that hold nothing of it are skipped by their heads, records without looking at their fields. */
struct journal_want {
    uint32_t kinds;                 /* 1 << EV_EVENT | ...; 0: all */
    uint64_t from_ns, to_ns;        /* CLOCK_REALTIME, both included; to_ns 0: no end */
    const char *const *sourcetypes; /* exact; NULL: all */
    size_t sourcetype_count;
    const char *const *sources;     /* exact names of sources or metrics; NULL: all */
    size_t source_count;
    bool source_beginnings;         /* they are what sources and names begin with */
    const uint32_t *pids;           /* the process's own number, or the host's; NULL: all */
    size_t pid_count;
};

struct journal_damage {
    uint64_t blocks, bytes;         /* that couldn't be read */
    bool torn;                      /* the file ends within a block: it is being written, or its writer was killed */
    uint64_t torn_bytes;            /* of that block; not in bytes */
};

/* fd is taken. NULL with errno; EPROTONOSUPPORT: of a version that can't be read, which *ret_version names; EBADMSG: no
 * journal. An empty file is an empty journal. want is copied (strings too); NULL: everything. */
struct journal_reader *journal_reader_new(int fd, const struct journal_want *want, unsigned *ret_version);
void journal_reader_free(struct journal_reader *r);

/* The next record that is wanted; false: the end, for now. What *ret points to is valid until the next call, but
 * ret->who as long as the reader (equal identities have one address). Strings are NUL-terminated. */
bool journal_next(struct journal_reader *r, struct ev_record *ret);
/* Another block may be there now: goes on behind the last record. False: nothing has been added. */
bool journal_more(struct journal_reader *r);
/* How far it has come in the file: bytes up to the next block. */
uint64_t journal_offset(const struct journal_reader *r);
/* Names the record that journal_next() has returned last; the same whoever reads the file whenever. */
uint64_t journal_position(const struct journal_reader *r);
/* journal_next() goes on with this one, if it is wanted, else behind it. False: there is none. Of positions that come in
 * order, as long as they are in one group of blocks, each costs no more than reading on. */
bool journal_seek(struct journal_reader *r, uint64_t position);
/* Moves to where `count` wanted records are left until the end, or to the beginning if there are fewer. Reads only as
 * much of the file as that takes. */
void journal_last(struct journal_reader *r, uint64_t count);
/* Number of wanted records from here to the end; where a block's head says it, its records aren't read. */
uint64_t journal_count(struct journal_reader *r);
void journal_reader_damage(const struct journal_reader *r, struct journal_damage *ret);

#endif
