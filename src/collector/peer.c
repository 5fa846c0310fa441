/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/peer.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "model/clock.h"
#include "model/procinfo.h"
#include "collector/segment.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5; older headers lack it */
#endif

int peer_watch(int sock)
{
    return setsockopt(sock, SOL_SOCKET, SO_PASSCRED, &(int){1}, sizeof(int)) ? -errno : 0;
}

int peer_get(int sock, struct peer *ret)
{
    struct ucred cred;
    socklen_t len = sizeof(cred), fd_len = sizeof(ret->pidfd);

    if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len))
        return -errno;
    *ret = (struct peer){.pid = cred.pid, .uid = cred.uid, .gid = cred.gid, .pidfd = -1};
    if (getsockopt(sock, SOL_SOCKET, SO_PEERPIDFD, &ret->pidfd, &fd_len)) /* also of one that has ended: Linux 6.16 */
        ret->pidfd = -1;
    return 0;
}

void peer_clear(struct peer *p)
{
    if (p->pidfd >= 0)
        close(p->pidfd);
    p->pidfd = -1;
}

bool peer_sent(const struct peer *p, struct msghdr *m)
{
    for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h)) {
        struct ucred sender;

        if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_CREDENTIALS || h->cmsg_len < CMSG_LEN(sizeof(sender)))
            continue;
        memcpy(&sender, CMSG_DATA(h), sizeof(sender));
        return sender.pid == p->pid;
    }
    return false;
}

bool peer_lives(const struct peer *p)
{
    return p->pidfd < 0 || poll(&(struct pollfd){.fd = p->pidfd, .events = POLLIN}, 1, 0) == 0;
}

bool peer_is_as_privileged(const struct peer *p)
{
    struct pi_ids ours, theirs;

    if (pi_ids(getpid(), &ours))
        return false;
    if (!ours.effective)
        return true;
    return !pi_ids(p->pid, &theirs) && !(ours.effective & ~theirs.permitted) && pi_in_our_userns(p->pid) && peer_lives(p);
}

static int drop_capabilities(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};

    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    return syscall(SYS_capset, &head, none) ? -errno : 0;
}

int peer_become(const struct peer *p, int sock)
{
    struct ucred inner = {.uid = p->uid, .gid = p->gid};
    socklen_t len = sizeof(inner);

    if (setgroups(0, NULL)) /* while that is ours to do: a user namespace may deny it */
        return -errno;
    /* What it is in its own namespace; EINVAL: it is in ours. */
    if (p->pidfd >= 0) {
        if (setns(p->pidfd, CLONE_NEWUSER) == 0) {
            if (sock < 0) {
                struct pi_ids ids;
                int rc = pi_ids(p->pid, &ids); /* as who opens the file has them: user_namespaces(7) */

                if (rc < 0)
                    return rc;
                inner.uid = ids.euid;
                inner.gid = ids.egid;
            } else if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &inner, &len)) {
                return -errno;
            }
        } else if (errno != EINVAL) {
            return -errno;
        }
    }
    if (setresgid(inner.gid, inner.gid, inner.gid) || setresuid(inner.uid, inner.uid, inner.uid))
        return -errno;
    if (inner.uid != 0) {
        int rc = drop_capabilities();

        if (rc < 0)
            return rc;
    }
    setrlimit(RLIMIT_CORE, &(struct rlimit){1, 1}); /* 0 would start a program that kernel.core_pattern names: core(5) */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)) /* what the collector knows is in our memory */
        return -errno;
    return 0;
}

/* --- identity --- */

#define LOOK_SHARE 20 /* one part in so many of the time may be spent on reading maps */

/* That takes reading its maps, which it can make long. */
bool peer_runs(const struct peer *p, const struct segment_map *m, bool unknown)
{
    static uint64_t next;
    uint64_t before = clock_now_mono(), after;
    bool yes;

    if (before < next)
        return unknown;
    yes = pi_maps(p->pid, m->ino);
    after = clock_now_mono();
    next = after + (after - before) * LOOK_SHARE;
    return yes;
}

static void confirm_ids(const struct peer *p, struct segment_info *info)
{
    struct pi_ids ids;

    if (info->uid == p->uid && info->euid == p->uid && info->gid == p->gid && info->egid == p->gid &&
        (pid_t)info->pid == p->pid)
        return;
    if (pi_ids(p->pid, &ids) == 0 && peer_lives(p)) {
        info->uid = ids.uid;
        info->euid = ids.euid;
        info->gid = ids.gid;
        info->egid = ids.egid;
        if (ids.inner_pid)
            info->pid = ids.inner_pid;
    } else if (p->uid != (uid_t)-1) {
        info->uid = info->euid = p->uid;
        info->gid = info->egid = p->gid;
    }
}

/* A parent that is still there has not been replaced by another. */
static void confirm_parent(const struct peer *p, struct segment_info *info)
{
    struct pi_stat st, parent;

    if ((pid_t)info->pid == p->pid && pi_stat(p->pid, &st) == 0 && (pid_t)info->ppid != st.ppid &&
        pi_stat((pid_t)info->ppid, &parent) == 0 && peer_lives(p))
        info->ppid = (uint32_t)st.ppid;
}

static void confirm_exe(const struct peer *p, const struct segment_map *m, struct segment_info *info)
{
    char *exe = pi_exe(p->pid);

    if (*exe && strcmp(exe, info->exe) != 0 && peer_lives(p) && peer_runs(p, m, true)) {
        free(info->exe);
        info->exe = exe;
        return;
    }
    free(exe);
}

void peer_identify(const struct peer *p, struct segment_map *m)
{
    if (p->pid <= 0)
        return;
    confirm_ids(p, &m->info);
    if (p->uid == geteuid() || p->uid == 0) /* can lie in other ways */
        return;
    confirm_parent(p, &m->info);
    confirm_exe(p, m, &m->info);
}
