/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who did something: a process and those that it descends from, worked out of proc.start and proc.exit events
 * (docs/data-model.md, 2.6) as they come. Numbers of processes are used again; what isn't known is not guessed.
 * Single-threaded.
 */
#ifndef SCOPE_SUMMARY_CHAIN_H
#define SCOPE_SUMMARY_CHAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf;
struct chains;
struct sum_event;

#define CHAINS_MAX 100000u /* processes that are kept; what later ones do is by "?" */

/* A process, as long as it runs one program. Owned by its chains, and never changed. */
struct who {
    const struct who *parent; /* NULL: not known */
    const char *proc;         /* its name; "?": not known */
    int64_t pid;              /* 0: not known */
    int64_t ppid;             /* as the process sees it; -1: not known */
    bool first;               /* nobody before it in the session: what started it isn't part of that */
    /* The same for all whose names are the same, from the first one on; compared by address. */
    const struct chain_names *names;
    const struct who *outer[2]; /* where the chain begins: the outermost two; NULL: there are no others */
    size_t depth;               /* processes in the chain, this one included */
};

struct chains *chains_new(void);
void chains_free(struct chains *);
/* By whom an event is, to be called for each one, in order: never NULL. Of a start it is what starts. */
const struct who *chains_of(struct chains *, const struct sum_event *);
/* Processes that were too many. */
uint64_t chains_cut(const struct chains *);

/* "sh[1] > make[5] > cp[9]"; in a long chain the middle is left out. Not made fit for a terminal. */
void chain_text(struct buf *, const struct who *);
/* The same as [{"proc":"sh","pid":1},...], outermost first; "left_out" is before the one where others are missing. */
void chain_json(struct buf *, const struct who *);

#endif
