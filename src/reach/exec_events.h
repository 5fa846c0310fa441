/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which processes execute programs, told by the kernel's proc connector (its include/uapi/linux/cn_proc.h): a netlink
 * socket that gets a message for each exec on the machine. It works only in the initial user and pid namespaces, with
 * CAP_NET_ADMIN, and belongs to the initial network namespace.
 */
#ifndef SCOPE_REACH_EXEC_EVENTS_H
#define SCOPE_REACH_EXEC_EVENTS_H

#include <stddef.h>
#include <sys/types.h>

/* A non-blocking descriptor, or -errno: the kernel doesn't tell us. Where this network namespace isn't the initial one,
 * process 1 of `proc` (a directory's descriptor) is tried for it. */
int exec_events_open(int proc);

/* Numbers of processes that have executed something, in order, at most `max`: how many, 0 if there are none now.
 * -ENOBUFS: some were lost. */
int exec_events_read(int fd, pid_t *ret, size_t max);

#endif
