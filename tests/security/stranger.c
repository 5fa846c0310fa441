// SPDX-License-Identifier: Apache-2.0
/*
 * Asks a collector for what it must not get. The first argument is what stands in $SCOPE_SOCKET: a name that everybody
 * can read in /proc/net/unix, NAME.SECRET, which an invited program knows, or the path of a host's collector.
 *
 *   stranger ADDRESS requests PID FILE          each kind of request, about that process; prints "TYPE STATUS"
 *   stranger ADDRESS trace WHO PROGRAM...       asks to be traced, then executes PROGRAM, which may be set-user-ID.
 *                                               WHO asks: child (on a connection that it has inherited, when the program
 *                                               has begun), self (before)
 *   stranger ADDRESS plans FILE COUNT           that many plans of FILE, without waiting; prints how many were refused
 *   stranger ADDRESS silent COUNT SECONDS       connects and says nothing
 *   stranger ADDRESS knock COUNT                connects, asks to join without anything, and again
 *   stranger ADDRESS linger SECONDS             sends a socket that takes that long to close
 *   stranger ADDRESS stop                       asks to be traced, and stops the process that does it
 *   stranger ADDRESS claim PID                  joins, and says that PID is its child, in each way that there is
 *   stranger ADDRESS lines COUNT                hands over what is no segment, again and again
 *   stranger ADDRESS forge UID EXE SECONDS      joins as somebody else, and opens /forged
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <signal.h>
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
    bool path = *address == '/';
    int len = snprintf(to.sun_path + !path, sizeof(to.sun_path) - 1, "%.*s%s", (int)strcspn(address, "."), address,
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
    for (int type = 0; type <= JOIN_LAST + 1; type++) {
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

static int linger(int seconds)
{
    int listener = socket(AF_INET, SOCK_STREAM, 0), sock = socket(AF_INET, SOCK_STREAM, 0), conn = reach(false);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    static char bytes[65536];

    if (bind(listener, (struct sockaddr *)&at, len) || listen(listener, 1) ||
        getsockname(listener, (struct sockaddr *)&at, &len) || connect(sock, (struct sockaddr *)&at, len))
        return 1;
    fcntl(sock, F_SETFL, O_NONBLOCK);
    for (int i = 0; i < 100; i++) { /* until the other side, which doesn't read, takes no more */
        while (write(sock, bytes, sizeof(bytes)) > 0)
            ;
        usleep(1000);
    }
    setsockopt(sock, SOL_SOCKET, SO_LINGER, &(struct linger){1, seconds}, sizeof(struct linger));
    ask(conn, JOIN_SYNC, 0, "", (int[]){sock, sock}, 2);
    close(sock);
    sleep((unsigned)seconds);
    return 0;
}

/* A process of ours that is called as the collector is, and isn't the one that called us. */
static pid_t find_worker(void)
{
    DIR *d = opendir("/proc");
    struct dirent *e;
    pid_t found = 0;

    while (d && !found && (e = readdir(d))) {
        char path[300], text[256] = "";
        unsigned uid = 0;
        FILE *f;

        snprintf(path, sizeof(path), "/proc/%s/status", e->d_name);
        f = atoi(e->d_name) > 0 ? fopen(path, "r") : NULL;
        if (!f)
            continue;
        if (fgets(text, sizeof(text), f) && strstr(text, "scope-collector"))
            while (fgets(text, sizeof(text), f) && sscanf(text, "Uid: %u", &uid) != 1)
                ;
        if (uid && uid == getuid())
            found = atoi(e->d_name);
        fclose(f);
    }
    closedir(d);
    return found;
}

static int stop(void)
{
    int sock = reach(false);
    pid_t worker = 0;

    ask(sock, JOIN_TRACE, (uint32_t)getpid(), "", NULL, 0);
    for (int i = 0; i < 3000 && !worker; i++) {
        worker = find_worker();
        usleep(500);
    }
    printf("%s\n", worker && kill(worker, SIGSTOP) == 0 ? "stopped" : "no worker");
    return 0;
}

static int lines(int count)
{
    for (int i = 0; i < count; i++) {
        int sock = reach(true), fd = open("/dev/null", O_RDONLY);

        ask(sock, JOIN_SEGMENT, 0, "", &fd, 1);
        close(fd);
        close(sock);
    }
    return 0;
}

/* With a name, unless it is NULL. */
static void put(struct segment_header *s, struct record r, const char *path)
{
    struct {
        struct record r;
        struct rec_item item;
        char text[24];
    } rec = {.r = r};
    uint64_t pos = s->ring_head;
    uint8_t *at = (uint8_t *)s + s->ring_off + pos % s->ring_cells * RING_CELL;

    rec.r.size = sizeof(rec);
    rec.item = (struct rec_item){.type = ITEM_PATH, .len = path ? (uint32_t)strlen(path) : 0};
    snprintf(rec.text, sizeof(rec.text), "%s", path ? path : "");
    if (!path)
        rec.r.size = sizeof(rec.r);
    memcpy(at + sizeof(uint64_t), (char *)&rec + sizeof(uint64_t), rec.r.size - sizeof(uint64_t));
    s->ring_head = pos + (rec.r.size + RING_CELL - 1) / RING_CELL;
    __atomic_store_n((uint64_t *)at, pos + 1, __ATOMIC_RELEASE);
}

static struct segment_header *join_as(uint32_t uid, const char *exe)
{
    int fd = memfd_create(SEG_NAME, MFD_ALLOW_SEALING | MFD_CLOEXEC), sock = reach(true);
    size_t size = segment_size(1024);
    struct segment_header *s;

    if (ftruncate(fd, (off_t)size) < 0)
        exit(1);
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
    close(sock);
    return s;
}

static int claim(uint32_t victim)
{
    struct segment_header *s = join_as(getuid(), "claim");
    const uint32_t me = (uint32_t)getpid();

    for (uint32_t way = 0; way < 4; way++) { /* the fork's number first, or the process's; CLONE_PARENT */
        const bool numbered = way & 1, parent_too = way & 2;
        const uint16_t op = parent_too ? OP_clone : OP_fork;
        const uint64_t flags = parent_too ? 0x8000 | SIGCHLD : 0;
        const uint32_t child = numbered ? REC_PID_FORK | (5 + way) : victim;

        put(s, (struct record){.kind = REC_ENTER, .op = op, .pid = me, .tid = me, .arg = {flags, 0, 0, 0, 0, 5 + way}}, NULL);
        put(s, (struct record){.kind = REC_CALL, .op = OP_unlink, .pid = child, .tid = child, .flags = REC_F_BORROWED}, "/claimed");
        usleep(200000);
        put(s, (struct record){.kind = REC_CALL, .op = op, .pid = me, .tid = me, .ret = victim,
                               .arg = {flags, 0, 0, 0, 0, 5 + way}}, NULL);
        usleep(200000);
        put(s, (struct record){.kind = REC_CALL, .op = OP_unlink, .pid = child, .tid = child, .flags = REC_F_BORROWED}, "/claimed");
    }
    usleep(300000);
    return 0;
}

static int forge(uint32_t uid, const char *exe, unsigned seconds)
{
    struct segment_header *s = join_as(uid, exe);

    put(s, (struct record){.kind = REC_CALL, .op = OP_openat, .pid = s->pid, .tid = s->pid, .ret = 7,
                           .arg = {(uint64_t)AT_FDCWD, 0, 0, 0, 0, 1}}, "/forged");
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
    if (argc > 3 && strcmp(what, "linger") == 0)
        return linger(atoi(argv[3]));
    if (strcmp(what, "stop") == 0)
        return stop();
    if (argc > 3 && strcmp(what, "claim") == 0)
        return claim((uint32_t)atoi(argv[3]));
    if (argc > 3 && strcmp(what, "lines") == 0)
        return lines(atoi(argv[3]));
    if (argc > 3 && strcmp(what, "knock") == 0)
        return knock(atoi(argv[3]));
    if (argc > 5 && strcmp(what, "forge") == 0)
        return forge((uint32_t)atoi(argv[3]), argv[4], (unsigned)atoi(argv[5]));
    return 2;
}
