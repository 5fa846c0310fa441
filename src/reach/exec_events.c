/* SPDX-License-Identifier: Apache-2.0 */
#include "reach/exec_events.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/cn_proc.h>
#include <linux/connector.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <arpa/inet.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ROOM (8 << 20)   /* bytes of the queue: some 10,000 messages as the kernel counts them */
#define ANSWER_MS 500
#define BATCH 64
#define MESSAGE_MAX 256

#define EVENT_NONE 0u    /* answers a request */
#define EVENT_EXEC 2u

/* What a message is made of up to its kind. */
#define WHAT_AT ((uint32_t)(NLMSG_HDRLEN + sizeof(struct cn_msg) + offsetof(struct proc_event, what)))

struct request {
    struct nlmsghdr nl;
    struct cn_msg cn;
    uint32_t op, event; /* struct proc_input of Linux 6.6 */
} __attribute__((packed));

/* Has the kernel throw away what is neither an exec nor an answer, before it takes room in the queue: also where it knows
 * no filter of its own. */
static int drop_others(int fd)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, WHAT_AT), /* as if it were in network byte order */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htonl(EVENT_EXEC), 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htonl(EVENT_NONE), 0, 1),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    const struct sock_fprog program = {sizeof(code) / sizeof(*code), code};

    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) < 0 ? -errno : 0;
}

/* filter: in the form that only Linux 6.6 and later understand, for which others leave it alone. */
static int send_request(int fd, bool filter, uint32_t number)
{
    const size_t len = filter ? 2 * sizeof(uint32_t) : sizeof(uint32_t);
    struct request r = {
        .nl = {.nlmsg_len = (uint32_t)(NLMSG_HDRLEN + sizeof(struct cn_msg) + len), .nlmsg_type = NLMSG_DONE},
        .cn = {.id = {CN_IDX_PROC, CN_VAL_PROC}, .ack = number, .len = (uint16_t)len},
        .op = PROC_CN_MCAST_LISTEN,
        .event = EVENT_EXEC,
    };

    return send(fd, &r, r.nl.nlmsg_len, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* The event in a message from the kernel, or NULL. */
static const struct proc_event *event_in(const char *bytes, size_t len, const struct sockaddr_nl *from, uint32_t *ret_ack)
{
    const struct nlmsghdr *nl = (const void *)bytes;
    const struct cn_msg *cn = (const void *)(bytes + NLMSG_HDRLEN);

    if (from->nl_family != AF_NETLINK || from->nl_pid != 0 ||
        len < NLMSG_HDRLEN + sizeof(*cn) + offsetof(struct proc_event, event_data) + sizeof(uint64_t) ||
        nl->nlmsg_len > len || cn->id.idx != CN_IDX_PROC || cn->id.val != CN_VAL_PROC)
        return NULL;
    *ret_ack = cn->ack;
    return (const void *)(cn + 1);
}

static int64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Without an answer we hear what others have asked for, if anything, and with numbers of another namespace. */
static int wait_for_answer(int fd, uint32_t number)
{
    const int64_t until = now_ms() + ANSWER_MS;
    int64_t left;

    while ((left = until - now_ms()) > 0) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        struct sockaddr_nl from = {0};
        socklen_t size = sizeof(from);
        _Alignas(8) char bytes[MESSAGE_MAX];
        const struct proc_event *e;
        uint32_t ack = 0;
        ssize_t n;

        if (poll(&p, 1, (int)left) <= 0)
            continue;
        n = recvfrom(fd, bytes, sizeof(bytes), 0, (struct sockaddr *)&from, &size);
        e = n > 0 ? event_in(bytes, (size_t)n, &from, &ack) : NULL;
        if (e && (uint32_t)e->what == EVENT_NONE && ack == number + 1)
            return e->event_data.ack.err ? -(int)e->event_data.ack.err : 0;
    }
    return -EPERM;
}

static int open_here(void)
{
    struct sockaddr_nl group = {.nl_family = AF_NETLINK, .nl_groups = CN_IDX_PROC};
    const int room = ROOM;
    uint32_t number = 0;
    int rc, fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_CONNECTOR);

    if (fd < 0)
        return -errno;
    rc = drop_others(fd);
    if (rc == 0 && bind(fd, (struct sockaddr *)&group, sizeof(group)) < 0)
        rc = -errno;
    if (rc == 0 && getrandom(&number, sizeof(number), 0) < 0)
        rc = -errno;
    if (rc == 0)
        rc = send_request(fd, false, number);
    if (rc == 0)
        rc = wait_for_answer(fd, number);
    if (rc == 0)
        rc = send_request(fd, true, number);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)) < 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
    return fd;
}

int exec_events_open(int proc)
{
    int own, initial, rc = open_here();

    if (rc != -ECONNREFUSED && rc != -EPROTONOSUPPORT)
        return rc;
    own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    initial = openat(proc, "1/ns/net", O_RDONLY | O_CLOEXEC);
    if (own >= 0 && initial >= 0 && setns(initial, CLONE_NEWNET) == 0) {
        rc = open_here();
        if (setns(own, CLONE_NEWNET) < 0 && rc >= 0) { /* nothing else may be reached from there */
            close(rc);
            rc = -EPERM;
        }
    }
    if (own >= 0)
        close(own);
    if (initial >= 0)
        close(initial);
    return rc;
}

int exec_events_read(int fd, pid_t *ret, size_t max)
{
    static _Alignas(8) char bytes[BATCH][MESSAGE_MAX];
    static struct sockaddr_nl from[BATCH];
    struct mmsghdr messages[BATCH];
    struct iovec iov[BATCH];
    const unsigned room = max < BATCH ? (unsigned)max : BATCH;
    int n, count = 0;

    for (unsigned i = 0; i < room; i++) {
        iov[i] = (struct iovec){bytes[i], sizeof(bytes[i])};
        messages[i] = (struct mmsghdr){
            .msg_hdr = {.msg_name = &from[i], .msg_namelen = sizeof(from[i]), .msg_iov = &iov[i], .msg_iovlen = 1}};
    }
    n = recvmmsg(fd, messages, room, MSG_DONTWAIT, NULL);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    for (int i = 0; i < n; i++) {
        uint32_t ack;
        const struct proc_event *e = event_in(bytes[i], messages[i].msg_len, &from[i], &ack);

        if (e && (uint32_t)e->what == EVENT_EXEC)
            ret[count++] = e->event_data.exec.process_tgid;
    }
    return count;
}
