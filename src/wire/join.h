/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What passes between probe and collector over the session's unix socket
 * (AF_UNIX, SOCK_SEQPACKET, abstract name in $SCOPE_SOCKET without the leading
 * NUL). Each message is one packet. All but JOIN, which want an answer, go to a
 * second socket, whose name has JOIN_REQUESTS appended: the collector looks for
 * joining processes when it comes round (at most every JOIN_POLL_MS) and isn't
 * woken by them, which would cost the joining process more than all the rest,
 * unless it sleeps because all is quiet.
 *
 * Who may ask what is decided in one place, collector/door.h, by what the kernel says of the asker and by whether it
 * holds the session's secret (below).
 *
 * JOIN    probe -> collector, one descriptor: the process's segment. No answer:
 *         the probe closes the socket and goes on. The collector learns pid,
 *         uid and gid from SO_PEERCRED; what else the segment says of its process
 *         is compared with what the kernel says while that can still be asked
 *         (collector/peer.h).
 * PLAN    probe -> collector, one descriptor: the image, open for reading. The
 *         answer is one join_reply, with a sealed memfd that holds the plan if
 *         status is 0. Used when the plan isn't in $SCOPE_PLANS.
 * TRACE   a thread that is about to exec a program into which no loader can bring the probe -> collector: a static one,
 *         or one from where the probe's file or the collector's name can't be reached. A worker of the
 *         collector becomes its tracer, answers with a join_reply, brings the probe into the
 *         new image (inject/load.h) and lets go of it. The asker keeps the socket, close-on-exec,
 *         until then; if its exec fails it shuts the socket down for writing (shutdown(2)) and
 *         waits for the hang-up: then it isn't traced any more. Answers other than 0 leave it
 *         untraced: -EPERM where Yama wants prctl(PR_SET_PTRACER) first, -EBUSY if it is traced
 *         by another, -ENOTSUP if nothing static can be observed here, else the error of ptrace(2).
 *         The collector itself knows which file of the probe the children are to load.
 *         Such an image finds a struct join_load behind the probe.
 * ATTACH  injector -> collector, two descriptors: the segment of a running process into which it has just brought the
 *         probe, and a pidfd of it; tid: its pid as the injector, which shares the collector's pid namespace, sees it.
 *         Only from root or the collector's own user, who could do the same without asking. The process stands still
 *         when this is sent and runs when the answer is read.
 * LEAVE   injector -> collector: the probe has been taken out of process tid, which goes on. From the same. Answered as
 *         SYNC.
 * INSPECT cli -> collector, tid: a process in the collector's pid namespace, 0 for all. The
 *         answer comes with a memfd that holds a JSON array, an object for each (docs/cli.md,
 *         "scope inspect"). -ESRCH: it observes no such process.
 * UPDATE  cli -> collector, tid likewise (not 0), one descriptor: a scope.yml, open for reading.
 *         It takes the place of the process's configuration, and of that of the children that it
 *         will have. -EINVAL: not YAML or a value that can't be; nothing was changed.
 * CRASHES cli -> collector, from root or its own user. The answer comes with a memfd that holds a JSON array, an object
 *         for each crash that isn't told yet, or not complete on disk (collector/crashes.h); oldest first.
 * KNOWN   reach -> collector of a host, tid: a process in the collector's pid namespace. 0: it is observed. -ESRCH: it is
 *         not. -ECANCELED: the user has had it detached, so it shall be left alone.
 * RELOAD  supervisor -> collector of a host: the rules or the host's configuration have changed; read them again. -EINVAL:
 *         they can't be used, and what was in force stays.
 * LAST    probe -> collector: process 1 of the pid namespace that both are in is about to end, with which the kernel ends all
 *         others there, the collector, too (pid_namespaces(7)). It finishes, and answers when everything that was recorded has
 *         been written to its destinations, or could not be. -EPERM: it isn't in that namespace.
 * SYNC    cli -> collector, from root or its own user. Answer: join_reply, sent once everything recorded
 *         before the request has been written to its destinations (or could
 *         not be, which the loss counters tell).
 *
 * The collector of a whole host (`scope start`) has a path instead of an abstract name, HOST_SOCKET, and no secret: who
 * may join it is decided by its rules (wire/rules.h), by what the kernel says of the process.
 *
 * An abstract name is known to everybody (/proc/net/unix). What comes behind JOIN_SECRET_MARK in $SCOPE_SOCKET is not:
 * it stands in the environment and memory of observed processes, where only their own user and root can read it, and in
 * the session's metadata. A process of another user than the collector's shows by it that its start, or its attach, came
 * from this session's side. It is sent with each request.
 *
 * The collector of a service (`scope service`) has a path, too, which its sandbox lets it reach whatever becomes of its
 * network namespace: in $SCOPE_SOCKET a JOIN_PATH_MARK stands before it, and the secret behind it. It contains no
 * JOIN_SECRET_MARK.
 *
 * An abstract name belongs to a network namespace, and who answers to it must be root or this user as seen from the
 * asker's user namespace. Where that fails the collector comes for the connection: the probe makes a socketpair(2),
 * writes one end's JOIN_MAIL into a word of memory that the collector looks at when it comes round (segment_header.mail;
 * join_load.mail before there is a segment), and closes that end when the word is 0 again: then the collector has got
 * it by pidfd_getfd(2), and the other end is what connect(2) would have given.
 */
#ifndef SCOPE_WIRE_JOIN_H
#define SCOPE_WIRE_JOIN_H

#include <stdint.h>

#include "wire/plan_format.h"

#define JOIN_MAGIC    0x314e4a53u /* "SJN1" */
#define JOIN_SOCKET   "scope-" /* how its name begins; 128 random bits follow, in hexadecimal */
#define JOIN_REQUESTS "+"
#define JOIN_SECRET_MARK '.'      /* between the name and the secret */
#define JOIN_PATH_MARK '='        /* before a path that is the name of a session's collector */
#define JOIN_SECRET_LEN 32        /* hexadecimal digits */
#define JOIN_POLL_MS  20u
#define JOIN_WAIT_MS  1000u       /* the probe waits at most this long for an answer */
#define JOIN_LAST_MS  5000u       /* but for the one to LAST */

enum join_type { JOIN_SEGMENT = 1, JOIN_PLAN = 2, JOIN_SYNC = 3, JOIN_TRACE = 4, JOIN_INSPECT = 5, JOIN_UPDATE = 6,
                 JOIN_ATTACH = 7, JOIN_LEAVE = 8, JOIN_CRASHES = 9, JOIN_KNOWN = 10, JOIN_RELOAD = 11,
                 JOIN_LAST = 12 };

enum join_flags {
    JOIN_F_TELL = 1,          /* the asker has no segment for a NOTE_EXEC_STATIC: the collector's log tells */
    JOIN_F_HOST = 4,          /* the asker is observed by the host's collector: its rules decide about the program, and how */
    JOIN_F_LOADER = 2,        /* the program has a loader, which is not told about the probe; without this flag, none */
};

/* What a tracer leaves behind the probe that it has mapped (inject/load.h), at the next multiple of its alignment. */
struct join_load {
    uint64_t mail;            /* JOIN_MAIL, 0, or JOIN_MAIL_NONE: there will be no more */
    char socket[128];         /* of the host's collector, a path; "": the environment names a session's */
    uint32_t mode;            /* ... and the initial enum seg_mode that its rules give this program */
    uint32_t plans_at;        /* ... and where in `paths` its directory of plans is */
    char paths[2 * 4096];     /* the probe's file, for the environment of children; cut off behind what is there */
};

/* A socket's descriptor and its inode, which proves that it is the one that was meant. */
#define JOIN_MAIL(fd, ino) ((uint64_t)(uint32_t)(ino) << 32 | (uint32_t)(fd))
#define JOIN_MAIL_NONE     UINT64_MAX

struct join_request {
    uint32_t magic;
    uint32_t type;            /* enum join_type */
    uint64_t table_hash;
    uint32_t tid;             /* TRACE: the calling thread, as it sees itself; INSPECT, UPDATE, ATTACH, LEAVE: a process */
    uint32_t flags;           /* TRACE: enum join_flags */
    char secret[JOIN_SECRET_LEN]; /* of the session; zeros: the asker doesn't know it */
    char key[PLAN_KEY_MAX];   /* PLAN: identity of the image; TRACE: name of the program, for people, or empty */
    char path[4096];          /* PLAN: its name, for people; UPDATE: where relative paths start; may be cut short in
                               * the packet */
};

struct join_reply {
    uint32_t magic;
    int32_t status;           /* 0 or -errno */
};

/* Variables that the tool puts into the environment of observed programs. */
#define ENV_SOCKET "SCOPE_SOCKET" /* abstract socket name of the collector, and the session's secret: NAME.SECRET */
#define ENV_PLANS  "SCOPE_PLANS"  /* directory of cached plans, KEY.plan */
#define ENV_MODE   "SCOPE_MODE"   /* initial segment_header.mode, hexadecimal */

#endif
