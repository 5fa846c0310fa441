/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is at the other end of a connection: by the kernel's word alone
 * (SO_PEERCRED, SO_PEERPIDFD, SCM_CREDENTIALS in unix(7)), and what such a
 * process could have done by itself. Single-threaded.
 */
#ifndef SCOPE_COLLECTOR_PEER_H
#define SCOPE_COLLECTOR_PEER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

struct peer {
    pid_t pid;       /* in our pid namespace; 0: it is in none that we see */
    uid_t uid;       /* effective, when it connected; as our user namespace has it */
    gid_t gid;
    int pidfd;       /* of that very process; -1: this kernel gives none (before Linux 6.5) */
};

/* Prepares a socket, listening or connected, so that each message tells who has sent it. 0 or -errno. */
int peer_watch(int sock);
/* Who connected. 0 or -errno; release with peer_clear(). */
int peer_get(int sock, struct peer *ret);
void peer_clear(struct peer *p);
/* Whether a message was sent by the process that connected, and not by one that has inherited or been given the
 * connection: m as recvmsg(2) has filled it. */
bool peer_sent(const struct peer *p, struct msghdr *m);
/* Whether that process is still there: its number means no other one. True where it can't be known (pidfd -1). */
bool peer_lives(const struct peer *p);
/* Whether it has at least the rights that this process has: none of our capabilities is missing in its permitted set
 * (the rule of ptrace(2), "Ptrace access mode checking", 3). root in a container without capabilities is not root. */
bool peer_is_as_privileged(const struct peer *p);

/* Turns the calling process, a worker of the collector, into one that may do what the peer may do and no more: its user
 * namespace, user and group, no other groups, no capabilities (but those that go with being root there), no new
 * privileges, not to be traced or dumped. sock: its connection, which tells what it is in its own user namespace; -1: /proc
 * tells. From then on it is the kernel that says whether a process may be traced, or a
 * file be read, on behalf of the peer: whoever has executed a set-user-ID program since it asked is out of reach.
 * The process must have one thread. 0 or -errno: then it must end. */
int peer_become(const struct peer *p, int sock);

struct segment_map;
/* Whether it still runs the image that this segment belongs to; `unknown` if that was asked too often. */
bool peer_runs(const struct peer *p, const struct segment_map *m, bool unknown);
/* Puts right what a segment says of the process that has handed it over (m->info), by the kernel's word: user and group;
 * numbers, as long as it is there; of another user's, the executable, too, while it still runs that image. What it was before its last
 * exec, or what it was if it has ended, only it knows: of that its own words are left, but never its ids. uid (uid_t)-1
 * in p: not known from a connection. */
void peer_identify(const struct peer *p, struct segment_map *m);

#endif
