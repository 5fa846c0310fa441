// SPDX-License-Identifier: Apache-2.0
/*
 * Asks a collector for what it must not get. The first argument is what stands in $SCOPE_SOCKET: a name that everybody
 * can read in /proc/net/unix, or NAME.SECRET, which an invited program knows.
 *
 *   stranger ADDRESS requests PID FILE          each kind of request, about that process; prints "TYPE STATUS"
 *   stranger ADDRESS trace WHO PROGRAM...       asks to be traced, then executes PROGRAM, which may be set-user-ID.
 *                                               WHO asks: child (on a connection that it has inherited, when the program
 *                                               has begun), self (before)
 *   stranger ADDRESS plans FILE COUNT           that many plans of FILE, without waiting; prints how many were refused
 *   stranger ADDRESS silent COUNT SECONDS       connects and says nothing
 *   stranger ADDRESS knock COUNT                connects, asks to join without anything, and again
 *   stranger ADDRESS forge UID EXE SECONDS      joins as somebody else, and opens /forged
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "wire/join.h"
#include "wire/record.h"
#include "wire/segment.h"

static const char *address;

static int reach(bool join)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int len = snprintf(to.sun_path + 1, sizeof(to.sun_path) - 1, "%.*s%s", (int)strcspn(address, "."), address,
                       join ? "" : JOIN_REQUESTS);
    int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    if (connect(sock, (struct sockaddr *)&to, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len)) < 0) {
        close(sock);
        return -1;
    }
    return sock;
}

static int ask(int sock, enum join_type type, uint32_t tid, const char *text, const int *fds, size_t count)
{
    struct join_request req = {.magic = JOIN_MAGIC, .type = type, .table_hash = syscall_table_hash(), .tid = tid,
                               .flags = JOIN_F_LOADER};
    struct iovec iov = {&req, sizeof(req)};
    union {
        char bytes[CMSG_SPACE(2 * sizeof(int))];
        struct cmsghdr first;
    } control = {{0}};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    const char *secret = strchr(address, JOIN_SECRET_MARK);

    if (secret && strlen(secret + 1) == JOIN_SECRET_LEN)
        memcpy(req.secret, secret + 1, JOIN_SECRET_LEN);
    if (type == JOIN_PLAN)
        snprintf(req.key, sizeof(req.key), "f-%08x%08x", (unsigned)rand(), (unsigned)getpid());
    snprintf(req.path, sizeof(req.path), "%s", text);
    if (count) {
        m.msg_control = control.bytes;
        m.msg_controllen = CMSG_SPACE(count * sizeof(int));
        control.first = (struct cmsghdr){CMSG_LEN(count * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.first), fds, count * sizeof(int));
    }
    return sendmsg(sock, &m, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* 1: no answer. */
static int answer(int sock)
{
    struct join_reply reply;

    return recv(sock, &reply, sizeof(reply), 0) == (ssize_t)sizeof(reply) ? reply.status : 1;
}

static int requests(uint32_t pid, const char *file)
{
    for (int type = 0; type <= JOIN_LEAVE + 1; type++) {
        int sock = reach(false), fd = open(file, O_RDONLY), fds[2] = {fd, fd};

        ask(sock, (enum join_type)type, pid, "/tmp", fds, type == JOIN_ATTACH ? 2 : 1);
        printf("%d %d\n", type, answer(sock));
        close(sock);
        close(fd);
    }
    return 0;
}

static int trace(const char *who, char **argv)
{
    const char *library = getenv("STRANGER_LIBRARY"); /* what it would like to be loaded */
    uint32_t me = (uint32_t)getpid();
    int sock = reach(false);

    unsetenv("LD_PRELOAD");
    setenv(ENV_SOCKET, address, 1); /* what the probe needs, should it get there */
    setenv(ENV_MODE, "1", 1);
    if (strcmp(who, "child") == 0) {
        if (fork() == 0) {
            usleep(300000);
            ask(sock, JOIN_TRACE, me, library, NULL, 0);
            answer(sock);
            sleep(3);
            _exit(0);
        }
    } else {
        ask(sock, JOIN_TRACE, me, library, NULL, 0);
        answer(sock);
    }
    execv(argv[0], argv);
    return 1;
}

static int plans(const char *file, int count)
{
    struct pollfd *conn = calloc((size_t)count, sizeof(*conn));
    int fd = open(file, O_RDONLY), refused = 0;

    for (int i = 0; i < count; i++) {
        conn[i] = (struct pollfd){.fd = reach(false), .events = POLLIN};
        ask(conn[i].fd, JOIN_PLAN, 0, file, &fd, 1);
    }
    usleep(500000);
    poll(conn, (nfds_t)count, 0);
    for (int i = 0; i < count; i++)
        refused += (conn[i].revents & POLLIN) && answer(conn[i].fd) < 0;
    printf("%d\n", refused);
    return 0;
}

static int silent(int count, unsigned seconds)
{
    struct rlimit lim = {65536, 65536};
    int open = 0;

    getrlimit(RLIMIT_NOFILE, &lim);
    lim.rlim_cur = lim.rlim_max;
    setrlimit(RLIMIT_NOFILE, &lim);
    for (int i = 0; i < count; i++)
        open += reach(i % 2) >= 0;
    printf("%d\n", open);
    fflush(stdout);
    sleep(seconds);
    return 0;
}

static int knock(int count)
{
    for (int i = 0; i < count; i++) {
        int sock = reach(true);

        if (sock < 0)
            return 1;
        ask(sock, JOIN_SEGMENT, 0, "", NULL, 0);
        close(sock);
    }
    return 0;
}

static void put_open(struct segment_header *s)
{
    struct {
        struct record r;
        struct rec_item path;
        char text[8];
    } rec = {.r = {.kind = REC_CALL, .op = OP_openat, .pid = s->pid, .tid = s->pid, .ret = 7, .size = sizeof(rec)},
             .path = {.type = ITEM_PATH, .len = 7}, .text = "/forged"};
    uint8_t *at = (uint8_t *)s + s->ring_off;

    rec.r.arg[0] = (uint64_t)AT_FDCWD;
    rec.r.arg[5] = 1;
    memcpy(at + sizeof(uint64_t), (char *)&rec + sizeof(uint64_t), sizeof(rec) - sizeof(uint64_t));
    s->ring_head = (sizeof(rec) + RING_CELL - 1) / RING_CELL;
    __atomic_store_n((uint64_t *)at, 1, __ATOMIC_RELEASE);
}

static int forge(uint32_t uid, const char *exe, unsigned seconds)
{
    int fd = memfd_create(SEG_NAME, MFD_ALLOW_SEALING | MFD_CLOEXEC), sock = reach(true);
    size_t size = segment_size(1024);
    struct segment_header *s;

    if (ftruncate(fd, (off_t)size) < 0)
        return 1;
    s = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    segment_layout(s, 1024, syscall_table_hash());
    s->start = SEG_START_EXEC;
    s->clock = SEG_CLOCK_NONE;
    s->pid = (uint32_t)getpid();
    s->ppid = 1;
    s->uid = s->gid = s->euid = s->egid = uid;
    snprintf(s->exe, sizeof(s->exe), "%s", exe);
    s->argv_len = (uint32_t)strlen(exe) + 1;
    memcpy(s->argv, exe, s->argv_len);
    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    ask(sock, JOIN_SEGMENT, 0, "", &fd, 1);
    put_open(s);
    sleep(seconds);
    return 0;
}

int main(int argc, char **argv)
{
    const char *what = argc > 2 ? argv[2] : "";

    setvbuf(stdout, NULL, _IONBF, 0);
    address = argc > 1 ? argv[1] : "";
    if (argc > 4 && strcmp(what, "requests") == 0)
        return requests((uint32_t)atoi(argv[3]), argv[4]);
    if (argc > 4 && strcmp(what, "trace") == 0)
        return trace(argv[3], argv + 4);
    if (argc > 4 && strcmp(what, "plans") == 0)
        return plans(argv[3], atoi(argv[4]));
    if (argc > 4 && strcmp(what, "silent") == 0)
        return silent(atoi(argv[3]), (unsigned)atoi(argv[4]));
    if (argc > 3 && strcmp(what, "knock") == 0)
        return knock(atoi(argv[3]));
    if (argc > 5 && strcmp(what, "forge") == 0)
        return forge((uint32_t)atoi(argv[3]), argv[4], (unsigned)atoi(argv[5]));
    return 2;
}
