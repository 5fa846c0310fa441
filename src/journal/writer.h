/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes a journal (docs/journal.md): one append-only file that keeps what a
 * session tells, events and metrics, as typed values.
 *
 * A block is put together in memory and goes to the file whole, when it is full
 * or has waited for some time; a thread does that, so that a busy disk holds up
 * nobody. What is lost when this process is killed, the disk is full or the
 * power fails is the last block at most. All calls from one thread.
 */
#ifndef SCOPE_JOURNAL_WRITER_H
#define SCOPE_JOURNAL_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "event/event.h"

struct journal_writer;

struct journal_stats {
    uint64_t records, bytes;    /* handed to the kernel */
    uint64_t lost_queue;        /* the disk was too slow: refused by journal_write() */
    uint64_t lost_destination;  /* couldn't be written (disk full, file size limit) */
    uint64_t queued;            /* in blocks that aren't in the file yet */
    int error;                  /* errno of the last failure, 0: none since the last success */
};

/* Goes on behind what `fd` (open for reading and writing, taken) holds already; a torn block at its end is cut off. NULL
 * with errno: it is no journal, or one of another version (-EPROTONOSUPPORT), or can't be read. */
struct journal_writer *journal_writer_new(int fd);
/* Writes what is left, waiting at most ms milliseconds, and frees. */
void journal_writer_free(struct journal_writer *w, unsigned ms);

/* Takes a copy. False: there is no room, counted as lost_queue. Recorded strings are found by their bytes; a process by
 * its address, so journal_forget() must be called before that is used for another one or its members change. */
bool journal_write(struct journal_writer *w, const struct ev_record *r);
void journal_forget(struct journal_writer *w, const struct tm_process *who);

/* The block that is being put together goes to the file if it is older than ms milliseconds (0: at once). Call now and
 * then. Does not wait. */
void journal_tick(struct journal_writer *w, unsigned ms);
/* Everything is in the file within ms milliseconds; true if it is. */
bool journal_flush(struct journal_writer *w, unsigned ms);
/* Nothing has come for a while: gives back memory that is kept to be used again. True: blocks wait, there will be more.
 * (Blocks are compressed before they are written, by a thread that runs only where a CPU has nothing else to do.) */
bool journal_idle(struct journal_writer *w);
void journal_writer_stats(const struct journal_writer *w, struct journal_stats *ret);

#endif
