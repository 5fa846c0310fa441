/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may ask the collector for what: the only place where that is decided.
 * Its socket can be reached by every process of the network namespace, so
 * everything that arrives there passes this door before any work is done for
 * it. docs/security.md explains the table. Single-threaded.
 */
#ifndef SCOPE_COLLECTOR_DOOR_H
#define SCOPE_COLLECTOR_DOOR_H

#include <stdbool.h>
#include <stdint.h>

#include "collector/peer.h"
#include "wire/join.h"

struct admission;

enum door_role {
    DOOR_STRANGER,   /* nobody has invited it */
    DOOR_GUEST,      /* of another user, or in a user namespace of ours, and holds the session's secret: it was started or
                      * attached to from this session's side. Or the host's rules name its program. It speaks for itself
                      * only. */
    DOOR_OWNER,      /* the collector's user, or root: may do by itself all that the collector does */
};

/* What there is to know of those who may be let in. */
struct door {
    const char *secret;          /* the session's; NULL: nobody is invited by one */
    struct admission *rules;     /* of a host: their programs are invited; NULL: this is no host's collector */
    bool (*observed)(void *ctx, pid_t pid); /* rules: whether a process is observed already; may be NULL */
    void *ctx;
};

/* secret: what came with the request. */
enum door_role door_role(const struct peer *p, const char secret[JOIN_SECRET_LEN], const struct door *door);
/* The same for who hands over its segment, fd: most programs are over, or have become another one, when we come round to
 * that. What the kernel can't tell of them any more is believed of the segment: anybody can give a program a name that
 * the rules have. */
enum door_role door_role_of_segment(const struct peer *p, const char secret[JOIN_SECRET_LEN], const struct door *door,
                                    int fd);
/* mail: the collector has fetched the connection (wire/join.h), it didn't come by itself. 0, or what to answer: -EPERM;
 * -ESRCH if it has ended meanwhile and its rights had to be looked at, which is no offence; -EINVAL if there is no such
 * request. */
int door_allows(const struct peer *p, enum door_role role, uint32_t type, bool mail);

/* Those that were turned away, for the session's log: a few at a time, the others as a number. */
struct door_log {
    uint64_t since_ns;       /* CLOCK_MONOTONIC: of the present minute; 0: none yet */
    unsigned said;
    uint64_t unsaid;
    const char *what;        /* is counted; NULL: requests that were refused */
};
/* Whether there is room for one more line; else it is counted. */
bool door_says(struct door_log *log);
/* One more; why: static text. */
void door_refused(struct door_log *log, const struct peer *p, const char *why);
/* Says how many were not named, if a minute has passed since the last line or at the end of the session. */
void door_sum(struct door_log *log, bool end);

#endif
