/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What passes between probe and collector over the session's unix socket
 * (AF_UNIX, SOCK_SEQPACKET, abstract name in $SCOPE_SOCKET without the leading
 * NUL). Each message is one packet. PLAN and SYNC, which want an answer, go to a
 * second socket, whose name has JOIN_REQUESTS appended: the collector looks for
 * joining processes when it comes round (at most every JOIN_POLL_MS) and isn't
 * woken by them, which would cost the joining process more than all the rest.
 *
 * JOIN    probe -> collector, one descriptor: the process's segment. No answer:
 *         the probe closes the socket and goes on. The collector learns pid,
 *         uid and gid from SO_PEERCRED and everything else from the segment.
 * PLAN    probe -> collector, one descriptor: the image, open for reading. The
 *         answer is one join_reply, with a sealed memfd that holds the plan if
 *         status is 0. Used when the plan isn't in $SCOPE_PLANS.
 * SYNC    cli -> collector. Answer: join_reply, sent once everything recorded
 *         before the request has been written to its destinations (or could
 *         not be, which the loss counters tell).
 */
#ifndef SCOPE_WIRE_JOIN_H
#define SCOPE_WIRE_JOIN_H

#include <stdint.h>

#include "wire/plan_format.h"

#define JOIN_MAGIC    0x314e4a53u /* "SJN1" */
#define JOIN_REQUESTS "+"
#define JOIN_POLL_MS  20u
#define JOIN_WAIT_MS  1000u       /* the probe waits at most this long for a plan */

enum join_type { JOIN_SEGMENT = 1, JOIN_PLAN = 2, JOIN_SYNC = 3 };

struct join_request {
    uint32_t magic;
    uint32_t type;            /* enum join_type */
    uint64_t table_hash;
    char key[PLAN_KEY_MAX];   /* PLAN: identity of the image */
    char path[4096];          /* PLAN: its name, for people; may be cut short in the packet */
};

struct join_reply {
    uint32_t magic;
    int32_t status;           /* 0 or -errno */
};

/* Variables that the tool puts into the environment of observed programs. */
#define ENV_SOCKET "SCOPE_SOCKET" /* abstract socket name of the collector */
#define ENV_PLANS  "SCOPE_PLANS"  /* directory of cached plans, KEY.plan */
#define ENV_MODE   "SCOPE_MODE"   /* initial segment_header.mode, hexadecimal */

#endif
