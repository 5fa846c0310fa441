/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a session touched outside of itself: files written outside of its working directory, secrets read, programs
 * run, hosts, ports that it listened at, files deleted, and what wasn't observed; each with who and when. Pure: events
 * in, findings out.
 *
 * One finding is all that processes of the same names, one started by the other, did to one thing. Memory is bounded:
 * what is beyond that is counted (touched_cut()). Texts are those of events: any bytes. Single-threaded.
 */
#ifndef SCOPE_SUMMARY_TOUCHED_H
#define SCOPE_SUMMARY_TOUCHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "summary/chain.h"

struct buf;
struct sum_event;
struct touched;

enum touched_kind {
    TOUCHED_WRITE,
    TOUCHED_SECRET,
    TOUCHED_PROGRAM,
    TOUCHED_HOST,
    TOUCHED_LISTEN,
    TOUCHED_DELETE,
    TOUCHED_UNSEEN,
    TOUCHED_KINDS
};

#define TOUCHED_MAX 100000u            /* findings of a kind */
#define TOUCHED_BYTES_MAX (256u << 20) /* of all texts together */
#define TOUCHED_NAMES 4                /* names that are kept for a host */

/* How it was done: several may apply. */
#define TOUCHED_OPENED (1u << 0) /* file: opened so that it was made, emptied or appended to; secret: for reading */
#define TOUCHED_BYTES (1u << 1)  /* bytes were written, or read */
#define TOUCHED_MADE (1u << 2)   /* it is new: mkdir, mknod, symlink, link, or an open that had to make it */
#define TOUCHED_RENAMED \
    (1u << 3) /* file: got this name; secret: got another one; deleted: the name is another one now */
#define TOUCHED_LINKED (1u << 4)   /* file: a link; secret: got one */
#define TOUCHED_CHANGED (1u << 5)  /* mode, owner, times or length */
#define TOUCHED_REMOVED (1u << 6)  /* deleted: unlink, rmdir */
#define TOUCHED_REPLACED (1u << 7) /* deleted: another file got the name */
#define TOUCHED_INCOMING (1u << 8) /* host: it has connected to us */

struct touched_item {
    enum touched_kind kind;
    const char *what;                /* file, program, or address; UNSEEN: what isn't observed, and why */
    const char *more;                /* WRITE, DELETE: the other name of a rename or link; SECRET: entry of the list;
                                      * PROGRAM: its command line; UNSEEN: the file; NULL: none */
    const char *name[TOUCHED_NAMES]; /* HOST: as DNS, TLS and HTTP called it; NULL: no more */
    const char *transport;           /* HOST, LISTEN: "IP.TCP"; else NULL */
    unsigned port;                   /* HOST: its own, but of INCOMING ours; LISTEN; 0: not known */
    unsigned how;                    /* TOUCHED_OPENED ... */
    uint64_t count;                  /* times */
    uint64_t written, read;          /* bytes; HOST: sent, received */
    uint64_t first_ns, last_ns;      /* CLOCK_REALTIME; 0: not known */
    const struct who *who;           /* of the first time */
    bool unresolved;                 /* the name isn't known for sure (docs/data-model.md, 2.3) */
    bool gone; /* WRITE: there was no such file any more at the end, as far as the session did it */
    bool own;  /* DELETE: only what the session had made itself, or renamed after it had written it */
};

/* dir: working directory, absolute; files below it count as its own. NULL or "/": none do. secrets: a list as
 * notice.file.read of the configuration; home: what ~ stands for in it, NULL: not known. */
struct touched *touched_new(const char *dir, const char *secrets, const char *home);
void touched_free(struct touched *);

/* Events of a session, in order. Which it wants: sourcetypes fs, net, dns, http, process; others don't matter. */
void touched_event(struct touched *, const struct sum_event *);
/* Once, behind the last one; then findings may be asked for. lost: records and events that the session lacks. */
void touched_end(struct touched *, uint64_t lost);

/* --- findings, in the order in which they first happened, WRITE: what is gone behind the others --- */

size_t touched_count(const struct touched *, enum touched_kind);
const struct touched_item *touched_at(const struct touched *, enum touched_kind, size_t n);
/* Findings of a kind that there was no room for. */
uint64_t touched_cut(const struct touched *, enum touched_kind);
uint64_t touched_lost(const struct touched *);
/* Processes that there was no room for: what they did is found, by "?". */
uint64_t touched_cut_processes(const struct touched *);
/* The working directory, or NULL; and how many files below it were written, at most TOUCHED_MAX. */
const char *touched_dir(const struct touched *);
size_t touched_inside(const struct touched *);

const char *touched_kind_name(enum touched_kind); /* "write": as in JSON */
/* Words for `how`: "opened, written". */
void touched_how(struct buf *, const struct touched_item *);
/* {"type":"touched","kind":"write","file":...}: which members there are is in the description of `scope report`. */
void touched_json(struct buf *, const struct touched_item *);
/* {"type":"touched","kind":"end",...}: what is missing, for behind the findings. */
void touched_end_json(struct buf *, const struct touched *);

#endif
