/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers of system calls, by the kernel's header of the architecture that this is compiled for. WIRE_UNISTD names
 * another one where code is about programs of another architecture (the planner of arm64 on x86_64).
 *
 * Newer architectures never had the calls that later ones have replaced (asm-generic/unistd.h). So that the table of
 * observed calls is the same everywhere, these have numbers below 0 here, each another one: nobody makes such a call.
 */
#ifndef SCOPE_WIRE_UNISTD_H
#define SCOPE_WIRE_UNISTD_H

#ifdef WIRE_UNISTD
#include WIRE_UNISTD
#else
#include <asm/unistd.h>
#endif

/* Younger than the oldest supported kernel headers. The number is the same on every architecture. */
#ifndef __NR_fchmodat2
#define __NR_fchmodat2 452
#endif

#ifndef __NR_open
#define __NR_open -1
#endif
#ifndef __NR_creat
#define __NR_creat -2
#endif
#ifndef __NR_getdents
#define __NR_getdents -3
#endif
#ifndef __NR_stat
#define __NR_stat -4
#endif
#ifndef __NR_lstat
#define __NR_lstat -5
#endif
#ifndef __NR_access
#define __NR_access -6
#endif
#ifndef __NR_readlink
#define __NR_readlink -7
#endif
#ifndef __NR_unlink
#define __NR_unlink -8
#endif
#ifndef __NR_rmdir
#define __NR_rmdir -9
#endif
#ifndef __NR_mkdir
#define __NR_mkdir -10
#endif
#ifndef __NR_mknod
#define __NR_mknod -11
#endif
#ifndef __NR_rename
#define __NR_rename -12
#endif
#ifndef __NR_link
#define __NR_link -13
#endif
#ifndef __NR_symlink
#define __NR_symlink -14
#endif
#ifndef __NR_chmod
#define __NR_chmod -15
#endif
#ifndef __NR_chown
#define __NR_chown -16
#endif
#ifndef __NR_lchown
#define __NR_lchown -17
#endif
#ifndef __NR_utime
#define __NR_utime -18
#endif
#ifndef __NR_utimes
#define __NR_utimes -19
#endif
#ifndef __NR_futimesat
#define __NR_futimesat -20
#endif
#ifndef __NR_dup2
#define __NR_dup2 -21
#endif
#ifndef __NR_pipe
#define __NR_pipe -22
#endif
#ifndef __NR_eventfd
#define __NR_eventfd -23
#endif
#ifndef __NR_signalfd
#define __NR_signalfd -24
#endif
#ifndef __NR_epoll_create
#define __NR_epoll_create -25
#endif
#ifndef __NR_inotify_init
#define __NR_inotify_init -26
#endif
#ifndef __NR_fork
#define __NR_fork -27
#endif
#ifndef __NR_vfork
#define __NR_vfork -28
#endif
#define NR_LACKING_MAX 28 /* how many there are */

#endif
