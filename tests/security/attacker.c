/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attacker SOCKET HOW COUNT SECONDS [NAME]
 *
 * A process that speaks to a collector as no probe does. SOCKET: the abstract name, or "-": as in the environment. COUNT
 * children hand over a segment each, in the order of HOW (letters, over and over), and go on for SECONDS:
 *
 *   t  all of the ring is reserved and never committed      h  a ring of 256 MB, all reserved
 *   p  padding, as fast as it is read                        d  the head is far ahead, and goes back
 *   f  small records, as fast as they are read               c  forks that return with another child than the one that spoke
 *   k  forks of a process with many descriptors              n  an open of NAME, which was never made
 *   z  says that threads die, of all kinds of processes, as fast as it is believed
 *
 * Prints "joined N" when all have handed over theirs, N of which were taken as far as the sender can tell.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "wire/join.h"
#include "wire/record.h"
#include "wire/segment.h"

#define HUGE_CELLS 8000000u
#define NAP_US 500

struct attack {
    struct segment_header *h;
    int fd;
    uint64_t until; /* CLOCK_MONOTONIC ms */
};

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* --- handing over --- */

static void make_segment(struct attack *a, uint32_t cells)
{
    uint64_t size = segment_ring(1024) + (uint64_t)cells * RING_CELL;

    a->fd = memfd_create(SEG_NAME, MFD_ALLOW_SEALING | MFD_CLOEXEC);
    if (a->fd < 0 || ftruncate(a->fd, (off_t)size))
        exit(3);
    a->h = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, a->fd, 0);
    if (a->h == MAP_FAILED || fcntl(a->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
        exit(3);
    segment_layout(a->h, 1024, syscall_table_hash());
    a->h->ring_cells = cells;
    a->h->seg_size = size;
    a->h->start = SEG_START_EXEC;
    a->h->clock = SEG_CLOCK_NONE;
    a->h->pid = (uint32_t)getpid();
    a->h->ppid = (uint32_t)getppid();
    a->h->uid = a->h->euid = getuid();
    a->h->gid = a->h->egid = getgid();
    a->h->uuid[0] = (uint8_t)getpid();
    strcpy(a->h->cwd, "/");
    strcpy(a->h->exe, "/attacker");
    a->h->argv_len = sizeof("attacker");
    memcpy(a->h->argv, "attacker", sizeof("attacker"));
}

/* address: NAME, or NAME.SECRET as those have it that were invited (wire/join.h). */
static bool hand_over(const struct attack *a, const char *address)
{
    const char *secret = strchr(address, JOIN_SECRET_MARK);
    const size_t len = secret ? (size_t)(secret - address) : strlen(address);
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    struct join_request req = {.magic = JOIN_MAGIC, .type = JOIN_SEGMENT, .table_hash = syscall_table_hash()};
    struct iovec iov = {&req, offsetof(struct join_request, path)};
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {{0}};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    bool sent;

    if (len >= sizeof(at.sun_path))
        return false;
    memcpy(at.sun_path + 1, address, len);
    if (secret && strlen(secret + 1) == JOIN_SECRET_LEN)
        memcpy(req.secret, secret + 1, JOIN_SECRET_LEN);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &a->fd, sizeof(a->fd));
    sent = connect(s, (struct sockaddr *)&at, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len)) == 0 &&
           sendmsg(s, &m, MSG_NOSIGNAL) > 0;
    close(s);
    return sent;
}

/* --- writing --- */

static void *cell(const struct attack *a, uint64_t pos)
{
    return (char *)a->h + a->h->ring_off + pos % a->h->ring_cells * RING_CELL;
}

/* Waits for room; false when the time is over. */
static bool wait_room(const struct attack *a, uint64_t need)
{
    while (a->h->ring_head + need > __atomic_load_n(&a->h->ring_tail, __ATOMIC_ACQUIRE) + a->h->ring_cells) {
        if (now_ms() >= a->until)
            return false;
        usleep(NAP_US);
    }
    return now_ms() < a->until;
}

/* With one item, if len isn't 0. Records of 256 bytes, so that none crosses the end. */
static bool put(const struct attack *a, struct record r, enum item_type type, const void *data, uint32_t len)
{
    struct rec_item item = {(uint16_t)type, 0, len};
    uint64_t pos = a->h->ring_head;
    char *to = cell(a, pos);

    if (!wait_room(a, 8))
        return false;
    r.size = 256;
    memset(to + 8, 0, 248);
    memcpy(to + 8, (char *)&r + 8, sizeof(r) - 8);
    if (len) {
        memcpy(to + sizeof(r), &item, sizeof(item));
        memcpy(to + sizeof(r) + sizeof(item), data, len);
    }
    a->h->ring_head = pos + 8;
    __atomic_store_n((uint64_t *)(void *)to, pos + 1, __ATOMIC_RELEASE);
    return true;
}

static bool call(const struct attack *a, enum rec_kind kind, enum op_id op, int64_t ret, uint64_t arg, const char *path,
                 uint32_t guest)
{
    struct record r = {.kind = (uint8_t)kind, .op = (uint16_t)op, .ret = ret, .pid = guest ? guest : a->h->pid, .arg = {arg}};

    r.tid = r.pid;
    r.flags = guest ? REC_F_BORROWED : 0;
    r.arg[5] = op == OP_openat ? 1 : 0;
    return put(a, r, ITEM_PATH, path, path ? (uint32_t)strlen(path) : 0);
}

/* --- attacks --- */

static void pads(const struct attack *a)
{
    uint64_t pos = 0;

    while (wait_room(a, 1)) {
        for (int i = 0; i < 4096; i++, pos++) {
            struct record *r = cell(a, pos);

            r->size = RING_CELL;
            r->kind = REC_PAD;
            __atomic_store_n(&r->seq, pos + 1, __ATOMIC_RELEASE);
        }
        __atomic_store_n(&a->h->ring_head, pos, __ATOMIC_RELEASE);
    }
}

static void heads(const struct attack *a)
{
    for (uint64_t n = 1; now_ms() < a->until; n++) {
        a->h->ring_head = n % 2 ? n << 40 : 3;
        usleep(NAP_US);
    }
}

static void fills(const struct attack *a)
{
    for (unsigned n = 1; call(a, REC_CALL, OP_unlink, 0, (uint64_t)AT_FDCWD, "/nothing", 0); n++)
        if (n % 64 == 0) /* the CPU is for the collector: what is tested is who is served */
            usleep(NAP_US);
}

static void forks(const struct attack *a)
{
    bool on = true;

    for (uint32_t n = 3000000; on && n < 3000040; n += 2) {
        on = call(a, REC_ENTER, OP_fork, 0, 0, NULL, 0) && call(a, REC_CALL, OP_unlink, 0, (uint64_t)AT_FDCWD, "rel", n) &&
             call(a, REC_CALL, OP_fork, n + 1, 0, NULL, 0) && call(a, REC_CALL, OP_unlink, 0, (uint64_t)AT_FDCWD, "rel", n + 1);
        usleep(NAP_US);
    }
}

static void dear_forks(const struct attack *a)
{
    bool on = true;

    for (int64_t fd = 0; on && fd < 1 << 18; fd += 60) /* each in a part of the table of its own */
        on = call(a, REC_CALL, OP_openat, fd, (uint64_t)AT_FDCWD, "/x", 0);
    while (on)
        on = call(a, REC_ENTER, OP_fork, 0, 0, NULL, 0) && call(a, REC_CALL, OP_fork, -EAGAIN, 0, NULL, 0) &&
             usleep(NAP_US) == 0;
}

static void crashes(const struct attack *a)
{
    const uint32_t pids[] = {1, (uint32_t)getppid(), (uint32_t)getpid(), 0, 0x80000001, UINT32_MAX, 2, (uint32_t)getpid() + 1};

    for (uint32_t n = 0; now_ms() < a->until; n++) {
        struct seg_crash *at = &a->h->crash[n % SEG_CRASHES];

        if (__atomic_load_n(&at->state, __ATOMIC_ACQUIRE) != CRASH_TOLD) {
            at->kind = n % 7 ? CRASH_SIGNAL : n % 5;
            at->pid = pids[n % 8];
            at->tid = n % 3 ? at->pid : pids[n / 8 % 8];
            at->signo = n % 11 ? SIGSEGV : (int32_t)n - 100;
            at->addr = at->context = (uint64_t)n * 0x10001000;
            __atomic_store_n(&at->state, n % 13 ? CRASH_TOLD : n % 17, __ATOMIC_RELEASE);
        }
        if (n % 4096 == 0)
            usleep(NAP_US);
    }
}

static void attack(struct attack *a, char how, const char *name)
{
    switch (how) {
    case 'p': pads(a); break;
    case 'd': heads(a); break;
    case 'f': fills(a); break;
    case 'c': forks(a); break;
    case 'k': dear_forks(a); break;
    case 'z': crashes(a); break;
    case 'n': call(a, REC_CALL, OP_openat, 3, (uint64_t)AT_FDCWD, name, 0); break;
    default: break;
    }
    while (now_ms() < a->until)
        usleep(20000);
}

int main(int argc, char **argv)
{
    unsigned count = argc > 4 ? (unsigned)strtoul(argv[3], NULL, 10) : 0, joined = 0;
    struct attack a = {.until = now_ms() + (argc > 4 ? strtoul(argv[4], NULL, 10) * 1000 : 0)};
    const char *sock = argc > 4 && strcmp(argv[1], "-") != 0 ? argv[1] : getenv(ENV_SOCKET);
    int told[2];
    char yes;

    if (argc < 5 || !sock || pipe(told))
        return 2;
    signal(SIGPIPE, SIG_IGN);
    for (unsigned i = 0; i < count; i++) {
        char how = argv[2][i % strlen(argv[2])];

        if (fork())
            continue;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(told[0]);
        make_segment(&a, how == 'h' ? HUGE_CELLS : RING_CELLS);
        if (how == 't' || how == 'h')
            a.h->ring_head = a.h->ring_cells;
        yes = (char)('0' + hand_over(&a, sock));
        if (write(told[1], &yes, 1) != 1)
            return 3;
        close(told[1]);
        attack(&a, how, argc > 5 ? argv[5] : "/x");
        _exit(0);
    }
    close(told[1]);
    while (read(told[0], &yes, 1) == 1)
        joined += yes == '1';
    printf("joined %u\n", joined);
    fflush(stdout);
    while (wait(NULL) > 0)
        ;
    return 0;
}
