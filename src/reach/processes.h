/* SPDX-License-Identifier: Apache-2.0 */
/* The processes that rules name, and what has become of each: a table by number, and queues of what is to be done.
 * Single-threaded. */
#ifndef SCOPE_REACH_PROCESSES_H
#define SCOPE_REACH_PROCESSES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "reach/wanted.h"

#define PROCESSES_MAX 65536u /* those beyond are counted */

enum reach_state {
    REACH_ASK,             /* whether it is observed is to be asked */
    REACH_ASKED,           /* and has been, without an answer so far */
    REACH_ATTACH,          /* is to be attached to */
    REACH_DETACH,          /* or detached from */
    REACH_BUSY,            /* that is being done */
    REACH_LATER,           /* to be asked again at due_ms */
    REACH_LOADER,          /* observed: the probe came by its loader, or by its parent */
    REACH_ATTACHED,        /* observed: it was attached to */
    REACH_ALONE,           /* left alone, for a reason: another's session, or a user's wish */
    REACH_FAILED,          /* can't be reached */
    REACH_STATES,
};

struct reached {
    pid_t pid;
    uid_t user;            /* memory_user(), when it was first seen */
    enum reach_state state;
    uint32_t rule;         /* entry that names it, RULES_NONE: none (any more) */
    uint32_t tries;
    uint64_t signature;    /* wanted_signature() */
    uint64_t ready_ms;     /* not attached to before: it may be about to join */
    uint64_t due_ms;       /* REACH_LATER; both CLOCK_MONOTONIC */
    int64_t since;         /* REACH_ALONE, REACH_FAILED, and REACH_LATER with a reason: seconds since 1970 */
    char *reason;          /* for people, or NULL */
    struct subject subject;/* empty with RULES_NONE from the beginning */
    char name[16];
    struct reached *next;  /* of the same hash */
    struct reached *before, *behind; /* in the queue of its state */
};

struct processes {
    struct reached **slots; /* by number */
    uint32_t slot_count, count;
    struct {
        struct reached *first, *last;
        uint32_t count;
    } by_state[REACH_STATES];
};

void processes_init(struct processes *t);
void processes_free(struct processes *t);
struct reached *processes_find(const struct processes *t, pid_t pid);
/* A new one in state REACH_ASK, NULL if there are too many. The number must not be there yet. */
struct reached *processes_add(struct processes *t, pid_t pid);
void processes_remove(struct processes *t, struct reached *p);
/* Goes to the end of the queue of another state, or of the same. */
void processes_move(struct processes *t, struct reached *p, enum reach_state state);
/* reason NULL: none. The time is that when it first had one in this state of things. */
void reached_set_reason(struct reached *p, const char *reason);

#endif
