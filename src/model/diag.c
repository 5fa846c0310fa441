/* SPDX-License-Identifier: Apache-2.0 */
#include "model/diag.h"

#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "model/model.h"

static int diag_open(struct model *m)
{
    struct timeval wait = {.tv_usec = 50000};

    if (m->diag_fd == -1) {
        m->diag_fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
        if (m->diag_fd < 0)
            m->diag_fd = -2;
        else
            setsockopt(m->diag_fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
    }
    return m->diag_fd;
}

static uint64_t peer_of(const void *answer, size_t len)
{
    const struct nlmsghdr *h = answer;
    const struct unix_diag_msg *msg;
    const struct nlattr *a;
    size_t at;

    if (len < NLMSG_LENGTH(sizeof(*msg)) || h->nlmsg_type != SOCK_DIAG_BY_FAMILY || h->nlmsg_len > len)
        return 0;
    for (at = NLMSG_SPACE(sizeof(*msg)); at + sizeof(*a) <= h->nlmsg_len; at += NLA_ALIGN(a->nla_len)) {
        a = (const struct nlattr *)(const void *)((const char *)answer + at);
        if (a->nla_len < sizeof(*a) || a->nla_len > h->nlmsg_len - at)
            return 0;
        if (a->nla_type == UNIX_DIAG_PEER && a->nla_len >= sizeof(*a) + sizeof(uint32_t)) {
            uint32_t ino;

            memcpy(&ino, a + 1, sizeof(ino));
            return ino;
        }
    }
    return 0;
}

uint64_t diag_unix_peer(struct model *m, uint64_t ino)
{
    struct {
        struct nlmsghdr h;
        struct unix_diag_req req;
    } ask = {
        .h = {.nlmsg_len = sizeof(ask), .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST},
        .req = {.sdiag_family = AF_UNIX, .udiag_states = ~0u, .udiag_ino = (uint32_t)ino,
                .udiag_show = UDIAG_SHOW_PEER, .udiag_cookie = {~0u, ~0u}},
    };
    union {
        struct nlmsghdr h;
        char bytes[4096];
    } answer;
    int fd = diag_open(m);
    ssize_t n;

    if (fd < 0 || ino > UINT32_MAX || send(fd, &ask, sizeof(ask), 0) != (ssize_t)sizeof(ask))
        return 0;
    n = recv(fd, &answer, sizeof(answer), 0);
    return n > 0 ? peer_of(&answer, (size_t)n) : 0;
}
