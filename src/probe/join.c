/* SPDX-License-Identifier: Apache-2.0 */
#include "join.h"
#include "ring.h"

#include <asm/errno.h>
#include <linux/fcntl.h>
#include <linux/memfd.h>
#include <linux/mman.h>
#include <linux/poll.h>
#include <linux/prctl.h>
#include <linux/random.h>
#include <linux/resource.h>
#include <linux/stat.h>
#include <linux/time_types.h>
#include <linux/un.h>
#include <linux/wait.h>

/* <linux/socket.h> doesn't export these; the values are the kernel's ABI. */
#define AF_UNIX 1
#define SOCK_SEQPACKET 5
#define SOCK_CLOEXEC 02000000
#define SOCK_NONBLOCK 04000
#define SOL_SOCKET 1
#define SCM_RIGHTS 1
#define MSG_NOSIGNAL 0x4000
#define MFD_NOEXEC_SEAL_ 8 /* what vm.memfd_noexec asks for */
#define MSG_CMSG_CLOEXEC 0x40000000
#define SO_PEERCRED 17
#define SHUT_WR 1
#define SO_NETNS_COOKIE 71 /* Linux 5.14 */
#define MAIL_US 100

#define HIDDEN __attribute__((visibility("hidden")))

struct msghdr {
    void *name;
    int namelen;
    struct iovec *iov;
    size_t iovlen;
    void *control;
    size_t controllen;
    int flags;
};

struct one_fd { /* struct cmsghdr with one descriptor, cmsg(3) */
    size_t len;
    int level, type;
    int fd;
    int pad;
};

static void sleep_us(long us)
{
    struct __kernel_timespec t = {0, us * 1000};

    while (SYS2(__NR_nanosleep, &t, &t) == -EINTR) /* the kernel leaves in `t` what remains of it */
        ;
}

struct ucred {
    int pid;
    uint32_t uid, gid;
};

static struct ucred peer_of(int sock)
{
    struct ucred peer = {0, ~0u, ~0u};
    int len = sizeof(peer);

    SYS6(__NR_getsockopt, sock, SOL_SOCKET, SO_PEERCRED, &peer, &len, 0);
    return peer;
}

/* Identity of the network namespace in which a socket was made; 0: this kernel doesn't tell. */
static uint64_t netns_of(int sock)
{
    uint64_t cookie = 0;
    int len = sizeof(cookie);

    SYS6(__NR_getsockopt, sock, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len, 0);
    return cookie;
}

/* Answers that did not come in time: a process doesn't wait more often than that, however many images it has. */
#define LATE_MAX 3u
HOT_DATA static uint32_t answers_late;

/* Connected without a name: the collector comes for it. A descriptor or -errno; waits at most JOIN_WAIT_MS. */
static int connect_by_mail(uint64_t *mail)
{
    bool put = false, taken = false;
    struct statx st = {0};
    uint64_t word, none;
    int pair[2];
    long ret;

    if (__atomic_load_n(&answers_late, __ATOMIC_RELAXED) >= LATE_MAX)
        return -ETIMEDOUT;
    ret = SYS4(__NR_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair);
    if (ret < 0)
        return (int)ret;
    own_fd(pair[0]);
    own_fd(pair[1]);
    SYS6(__NR_statx, pair[1], "", AT_EMPTY_PATH, STATX_INO, &st, 0);
    word = JOIN_MAIL(pair[1], st.stx_ino);
    for (unsigned us = 0; us < JOIN_WAIT_MS * 1000 && !taken; us += MAIL_US) {
        none = 0;
        if (!put) /* others may be waiting, too */
            put = __atomic_compare_exchange_n(mail, &none, word, false, ORDER_MAIL_PUT, __ATOMIC_RELAXED);
        else
            taken = __atomic_load_n(mail, __ATOMIC_ACQUIRE) != word;
        if (put && probe.segment)
            ring_rouse_slow(probe.segment); /* mail fills no ring */
        if (!taken)
            sleep_us(MAIL_US);
    }
    none = word;
    if (put && !taken)
        taken = !__atomic_compare_exchange_n(mail, &none, 0, false, __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE);
    own_close(pair[1]);
    if (taken)
        return pair[0];
    own_close(pair[0]);
    __atomic_fetch_add(&answers_late, 1, __ATOMIC_RELAXED);
    return -ETIMEDOUT;
}

/* Where the session's secret begins in probe.socket, behind the mark; NULL: there is none. */
static const char *secret_of_session(void)
{
    const char *at = probe.socket;

    if (probe_of_host()) /* that one needs none */
        return NULL;
    while (*at && *at != JOIN_SECRET_MARK)
        at++;
    return *at ? at + 1 : NULL;
}

/* The address of the collector's socket for this type of request; its length. */
static size_t address_for(enum join_type type, struct sockaddr_un *ret)
{
    const char *from = probe.socket + (*probe.socket == JOIN_PATH_MARK), *secret = secret_of_session();
    size_t n = secret ? (size_t)(secret - 1 - from) : str_len(from, sizeof(probe.socket) - 1);
    char *to = ret->sun_path + (*from != '/'); /* of an abstract one the first byte is 0 */
    const size_t room = sizeof(ret->sun_path) - 1;

    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    n = MIN(n, room - sizeof(JOIN_REQUESTS));
    memcpy(to, from, n);
    if (type != JOIN_SEGMENT)
        n = str_add(to, n, room, JOIN_REQUESTS);
    return offsetof(struct sockaddr_un, sun_path) + 1 + n; /* a path's last byte is 0 */
}

/* Connected to the collector's socket for this type of request, or -errno. Waits only while its backlog is full, or
 * where its name doesn't reach. */
static int join_connect(enum join_type type)
{
    uint64_t *mail = probe.segment ? &probe.segment->mail : probe.mail;
    struct sockaddr_un to;
    size_t len = address_for(type, &to);
    long ret;
    int fd = own_fd(SYS3(__NR_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));

    if (fd < 0)
        return fd;
    for (int i = 0; i < 200; i++) {
        ret = SYS3(__NR_connect, fd, &to, len);
        if (ret != -EAGAIN && ret != -EINTR)
            break;
        sleep_us(500);
    }
    if (ret == 0) {
        struct ucred peer = peer_of(fd);

        if (!probe.netns)
            probe.netns = netns_of(fd);
        if (peer.uid == 0 || (peer.uid == probe.euid && !probe_of_host()))
            return fd;
        ret = -EACCES; /* of a user who has no number here; or somebody who took the name of a collector that is gone */
    } else if (probe_of_host() || *probe.socket == JOIN_PATH_MARK) {
        /* Another network namespace doesn't matter, another root directory does. Refused: nobody listens. */
        ret = ret == -ECONNREFUSED || ret == -EAGAIN ? ret : -EACCES;
    } else if (ret == -ECONNREFUSED && netns_of(fd) != probe.netns) {
        ret = -EACCES;
    }
    own_close(fd);
    return ret == -EACCES && mail && type != JOIN_LAST ? connect_by_mail(mail) : (int)ret;
}

HIDDEN bool join_reachable(void)
{
    struct sockaddr_un at;
    int fd;
    uint64_t here;

    if (*probe.socket == JOIN_PATH_MARK) {
        address_for(JOIN_SEGMENT, &at);
        return SYS3(__NR_faccessat, AT_FDCWD, at.sun_path, 0 /* F_OK */) == 0;
    }

    if (!probe.netns && !probe.mail) { /* attached to: not tried yet */
        fd = join_connect(JOIN_PLAN);
        if (fd >= 0)
            own_close(fd);
    }
    fd = own_fd(SYS3(__NR_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    if (fd < 0)
        return true;
    here = netns_of(fd);
    own_close(fd);
    return !here || here == probe.netns;
}

#define JOIN_REQUEST_HEAD offsetof(struct join_request, path)

/* Sends a request, with a descriptor unless it is -1. Little stack: this may run in a signal handler. */
static int join_send(int sock, enum join_type type, uint32_t flags, const char *key, const char *path, int fd)
{
    struct {
        uint32_t magic, type;
        uint64_t table_hash;
        uint32_t tid, flags;
        char secret[JOIN_SECRET_LEN];
        char key[PLAN_KEY_MAX];
    } head = {JOIN_MAGIC, type, probe.table_hash, 0, flags, {0}, {0}};
    const char *secret = secret_of_session();
    struct one_fd c = {.len = offsetof(struct one_fd, pad), .level = SOL_SOCKET, .type = SCM_RIGHTS, .fd = fd};
    struct iovec iov[2] = {{(const char *)&head, sizeof(head)}, {path, str_len(path, SEG_PATH_MAX - 1) + 1}};
    struct msghdr m = {.iov = iov, .iovlen = type == JOIN_SEGMENT ? 1 : 2, .control = &c, .controllen = sizeof(c)};
    long ret;

    if (fd < 0)
        m.controllen = 0;
    if (type == JOIN_TRACE)
        head.tid = (uint32_t)SYS1(__NR_gettid, 0);

    _Static_assert(sizeof(head) == JOIN_REQUEST_HEAD, "head is the start of a join_request");
    if (secret && str_len(secret, JOIN_SECRET_LEN + 1) == JOIN_SECRET_LEN)
        memcpy(head.secret, secret, JOIN_SECRET_LEN);
    str_add(head.key, 0, sizeof(head.key), key);
    for (int i = 0; i < 200; i++) {
        ret = SYS3(__NR_sendmsg, sock, &m, MSG_NOSIGNAL);
        if (ret != -EAGAIN && ret != -EINTR && ret != -ETOOMANYREFS)
            break;
        sleep_us(500);
    }
    return ret < 0 ? (int)ret : 0;
}

static void describe_argv(struct segment_header *s, const char *const *argv)
{
    for (; *argv && !s->argv_cut; argv++) {
        size_t room = sizeof(s->argv) - s->argv_len, n = str_len(*argv, room);

        memcpy(s->argv + s->argv_len, *argv, n);
        if (n == room) {
            s->argv_cut = 1;
            s->argv_len += (uint32_t)n;
        } else {
            s->argv[s->argv_len + n] = 0;
            s->argv_len += (uint32_t)n + 1;
        }
    }
}

static void describe_cmdline(struct segment_header *s)
{
    long fd = SYS4(__NR_openat, AT_FDCWD, "/proc/self/cmdline", O_RDONLY | O_CLOEXEC, 0), n;

    if (fd < 0)
        return;
    n = SYS3(__NR_read, fd, s->argv, sizeof(s->argv));
    SYS1(__NR_close, fd);
    s->argv_len = n > 0 ? (uint32_t)n : 0;
    s->argv_cut = n == (long)sizeof(s->argv) && s->argv[n - 1] != 0;
}

static void describe(struct segment_header *s, enum seg_start start)
{
    const struct segment_header *parent = probe.segment;
    struct rusage usage;
    long n;

    s->start_time = now();
    segment_layout(s, probe.fd_cap, probe.table_hash);
    s->start = start;
    s->clock = probe.clock;
    s->mode = start == SEG_START_FORK ? __atomic_load_n(&parent->mode, __ATOMIC_RELAXED) : probe.mode;
    s->wakes = !probe.sandboxed;
    s->pid = (uint32_t)SYS1(__NR_getpid, 0);
    s->ppid = (uint32_t)SYS1(__NR_getppid, 0);
    s->uid = (uint32_t)SYS1(__NR_getuid, 0);
    s->gid = (uint32_t)SYS1(__NR_getgid, 0);
    s->euid = (uint32_t)SYS1(__NR_geteuid, 0);
    s->egid = (uint32_t)SYS1(__NR_getegid, 0);
    if (SYS2(__NR_getrusage, RUSAGE_SELF, &usage) == 0)
        s->start_cpu_us = (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
                          (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
    SYS3(__NR_getrandom, s->uuid, sizeof(s->uuid), GRND_NONBLOCK);
    s->uuid[6] = (uint8_t)((s->uuid[6] & 0x0f) | 0x40); /* RFC 9562, 5.4 */
    s->uuid[8] = (uint8_t)((s->uuid[8] & 0x3f) | 0x80);
    SYS2(__NR_getcwd, s->cwd, sizeof(s->cwd));
    if (start == SEG_START_FORK) {
        memcpy(s->exe, parent->exe, sizeof(s->exe));
        s->argv_len = MIN(parent->argv_len, (uint32_t)SEG_ARGV_MAX);
        s->argv_cut = parent->argv_cut;
        memcpy(s->argv, parent->argv, s->argv_len);
        return;
    }
    SYS2(__NR_prctl, PR_GET_NAME, s->comm);
    n = SYS4(__NR_readlinkat, AT_FDCWD, "/proc/self/exe", s->exe, sizeof(s->exe) - 1);
    if (n > 0)
        s->exe[n] = 0;
    if (probe.argv)
        describe_argv(s, probe.argv);
    else
        describe_cmdline(s);
}

HIDDEN struct segment_header *join_segment(enum seg_start start)
{
    size_t size = segment_size(probe.fd_cap);
    struct segment_header *s = NULL;
    struct rlimit64 limit;
    int sock = -1;
    int fd = own_fd(SYS2(__NR_memfd_create, SEG_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL_));
    long at;

    if (fd == -EINVAL) /* before Linux 6.3 */
        fd = own_fd(SYS2(__NR_memfd_create, SEG_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING));

    if (fd < 0)
        return NULL;
    if (SYS4(__NR_prlimit64, 0, RLIMIT_FSIZE, 0, &limit) < 0 || limit.rlim_cur < size)
        goto out; /* growing the file would bring SIGXFSZ upon the program */
    if (SYS2(__NR_ftruncate, fd, size) < 0 ||
        SYS3(__NR_fcntl, fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        goto out;
    at = SYS6(__NR_mmap, 0, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (sys_failed(at))
        goto out;
    s = (struct segment_header *)at;
    populate(s, offsetof(struct segment_header, argv) + 1);
    populate((char *)s + probe.ring_off, 1);
    sock = join_connect(JOIN_SEGMENT);
    if (sock >= 0)
        describe(s, start);
    if (sock < 0 || join_send(sock, JOIN_SEGMENT, 0, "", "", fd) < 0) {
        SYS2(__NR_munmap, s, size);
        s = NULL;
    }
    if (sock >= 0)
        own_close(sock);
out:
    own_close(fd);
    return s;
}

/* Waits for the socket to have something to read, or to be hung up. */
static long wait_readable(int sock, unsigned ms)
{
    struct __kernel_timespec wait = {ms / 1000, ms % 1000 * 1000000l};
    struct pollfd pfd = {.fd = sock, .events = POLLIN};
    long n;

    do /* the kernel leaves in `wait` what remains of it */
        n = SYS6(__NR_ppoll, &pfd, 1, &wait, 0, 0, 0);
    while (n == -EINTR);
    if (n == 0)
        __atomic_fetch_add(&answers_late, 1, __ATOMIC_RELAXED);
    return n ? n : -ETIMEDOUT;
}

/* The answer to a request: its status. A descriptor that came with it is put into *ret_fd (-1: none). */
static int join_answer(int sock, int *ret_fd, unsigned ms)
{
    struct join_reply reply = {0, 0};
    struct one_fd c = {0};
    struct iovec iov = {(const char *)&reply, sizeof(reply)};
    struct msghdr m = {.iov = &iov, .iovlen = 1, .control = &c, .controllen = sizeof(c)};
    long n = wait_readable(sock, ms);

    *ret_fd = -1;
    if (n < 0)
        return (int)n;
    n = SYS3(__NR_recvmsg, sock, &m, MSG_CMSG_CLOEXEC);
    if (n != (long)sizeof(reply) || reply.magic != JOIN_MAGIC)
        return -EPROTO;
    if (m.controllen >= offsetof(struct one_fd, pad) && c.level == SOL_SOCKET && c.type == SCM_RIGHTS)
        *ret_fd = own_fd(c.fd);
    return reply.status > 0 ? -EPROTO : reply.status;
}

HIDDEN int join_plan(int image_fd, const char *key, const char *path)
{
    int sock, ret, fd = -1;

    if (__atomic_load_n(&answers_late, __ATOMIC_RELAXED) >= LATE_MAX)
        return -ETIMEDOUT;
    sock = join_connect(JOIN_PLAN);
    if (sock < 0)
        return sock;
    ret = join_send(sock, JOIN_PLAN, 0, key, path, image_fd);
    if (ret == 0)
        ret = join_answer(sock, &fd, JOIN_WAIT_MS);
    own_close(sock);
    if (ret == 0)
        return fd >= 0 ? fd : -EPROTO;
    if (fd >= 0)
        own_close(fd);
    return ret;
}

HIDDEN void join_last(void)
{
    int sock, fd = -1;

    if (SYS1(__NR_getpid, 0) != 1 || __atomic_load_n(&answers_late, __ATOMIC_RELAXED) >= LATE_MAX)
        return;
    sock = join_connect(JOIN_LAST);
    if (sock < 0)
        return;
    if (join_send(sock, JOIN_LAST, 0, "", "", -1) == 0)
        join_answer(sock, &fd, JOIN_LAST_MS);
    if (fd >= 0)
        own_close(fd);
    own_close(sock);
}

/* ---- being traced for the length of an exec ---- */

/* Yama (the kernel's Documentation/admin-guide/LSM/Yama.rst) lets a process be traced by its ancestors and by who it
 * names: the collector, or 0 for nobody. */
static void set_tracer(int sock, bool on)
{
    struct ucred peer = peer_of(sock);

    if (peer.pid > 0)
        SYS2(__NR_prctl, PR_SET_PTRACER, on ? peer.pid : 0);
}

HIDDEN int join_trace(bool loader)
{
    bool named = false;

    if (__atomic_load_n(&answers_late, __ATOMIC_RELAXED) >= LATE_MAX)
        return -ETIMEDOUT;
    for (;;) {
        int sock = join_connect(JOIN_TRACE), fd = -1, ret;

        if (sock < 0)
            return sock;
        if (named)
            set_tracer(sock, true);
        ret = join_send(sock, JOIN_TRACE, (loader ? JOIN_F_LOADER : 0) | (probe_of_host() ? JOIN_F_HOST : 0), "", "", -1);
        if (ret == 0)
            ret = join_answer(sock, &fd, JOIN_WAIT_MS);
        if (named)
            set_tracer(sock, false);
        if (fd >= 0)
            own_close(fd);
        if (ret == 0)
            return sock;
        own_close(sock);
        if (ret != -EPERM || named)
            return ret;
        named = true;
    }
}

HIDDEN void join_trace_end(int sock)
{
    SYS2(__NR_shutdown, sock, SHUT_WR);
    wait_readable(sock, JOIN_WAIT_MS);
    own_close(sock);
}

/* ---- a collector of our own ---- */

#define MAX_ENV 4096

/* Runs in the grandchild: becomes the collector. */
static void spawn_exec(const char *path, int listener, int ready, const char *const *envp)
{
    static char socket[sizeof(ENV_SOCKET "=") + sizeof(probe.socket)]; /* the environment: nobody else reads that */
    static const char *argv[] = {"scope", "collector", "--socket-fd", "3", "--ready-fd", "4", NULL};
    static const char *env[MAX_ENV]; /* a private copy: this is a forked process */
    size_t n = 0;

    str_add(socket, str_add(socket, 0, sizeof(socket), ENV_SOCKET "="), sizeof(socket), probe.socket);
    env[n++] = socket;
    for (; *envp && n < MAX_ENV - 1; envp++)
        if (!str_after(*envp, "LD_PRELOAD="))
            env[n++] = *envp;
    env[n] = NULL;
    SYS3(__NR_dup3, listener, 100, 0);
    SYS3(__NR_dup3, ready, 101, 0);
    SYS3(__NR_dup3, 100, 3, 0);
    SYS3(__NR_dup3, 101, 4, 0);
    SYS3(__NR_close_range, 5, ~0u, 0);
    SYS3(__NR_execve, path, argv, env);
}

/* Orphans of its pid namespace, or of its descendants, become this process's children (pid_namespaces(7),
 * PR_SET_CHILD_SUBREAPER(2const)). */
static bool adopts(void)
{
    int subreaper = 0;

    return SYS1(__NR_getpid, 0) == 1 || (SYS2(__NR_prctl, PR_GET_CHILD_SUBREAPER, &subreaper) == 0 && subreaper);
}

/* The collector's parent, where it would otherwise become a child of the program, which may wait until it has none.
 * This one is: without an exit signal, so that wait(2) doesn't know of it, as long as it doesn't exec. It keeps nothing
 * of what it got from the program, and ends with the collector. */
static __attribute__((noinline)) void keep(long collector)
{
    extern char __ehdr_start[] __attribute__((visibility("hidden")));
    extern char _end[] __attribute__((visibility("hidden")));
    uint64_t from = ROUND_UP((uint64_t)_end, PROBE_PAGE),
             to = ((uint64_t)__builtin_frame_address(0) & ~(PROBE_PAGE - 1)) - 16 * PROBE_PAGE;
    uint64_t all = ~UINT64_C(0);
    long rc;

    SYS4(__NR_rt_sigprocmask, 2 /* SIG_SETMASK */, &all, 0, sizeof(all)); /* kill(-1) of the program is not for us */
    SYS3(__NR_close_range, 0, ~0u, 0);
    SYS1(__NR_chdir, "/");
    SYS2(__NR_prctl, PR_SET_NAME, "scope-keeper");
    SYS3(__NR_madvise, 0, (uint64_t)__ehdr_start, MADV_DONTNEED); /* as far as it goes: holes don't matter */
    if (to > from)
        SYS3(__NR_madvise, from, to - from, MADV_DONTNEED);
    do
        rc = SYS4(__NR_wait4, collector, 0, __WALL, 0);
    while (rc == -EINTR);
}

HIDDEN bool join_spawn(const char *exec_path, const char *const *envp)
{
    char path[4096];
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    struct __kernel_timespec wait = {2, 0};
    uint64_t random[4];
    struct pollfd pfd;
    int pipe[2], listener;
    size_t n;
    char byte;
    long pid;
    bool ok = false, kept;

    if (exec_path) {
        n = str_add(path, 0, sizeof(path), exec_path);
    } else {
        size_t dir = 0;

        n = str_add(path, 0, sizeof(path), probe.lib);
        for (size_t i = 0; i < n && i < sizeof(path); i++)
            if (path[i] == '/')
                dir = i + 1;
        n = dir ? str_add(path, dir, sizeof(path), "scope") : sizeof(path);
    }
    if (n >= sizeof(path) || SYS3(__NR_faccessat, AT_FDCWD, path, 1 /* X_OK */) < 0)
        return false;
    if (SYS3(__NR_getrandom, random, sizeof(random), GRND_NONBLOCK) != (long)sizeof(random))
        return false;
    n = str_add(probe.socket, 0, sizeof(probe.socket), "appscope-");
    n = str_add_hex(probe.socket, n, sizeof(probe.socket), random[0]);
    n = str_add_hex(probe.socket, n, sizeof(probe.socket), random[1]);
    memcpy(at.sun_path + 1, probe.socket, n);
    probe.socket[n] = JOIN_SECRET_MARK;
    for (size_t i = 2, to = n + 1; i < 4; i++) /* of fixed length: 16 digits each */
        to = str_add_hex(probe.socket, to, sizeof(probe.socket), random[i] | UINT64_C(1) << 63);
    listener = (int)SYS3(__NR_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (listener < 0)
        goto fail;
    if (SYS3(__NR_bind, listener, &at, offsetof(struct sockaddr_un, sun_path) + 1 + n) < 0 ||
        SYS2(__NR_listen, listener, 4096) < 0 || SYS2(__NR_pipe2, pipe, O_CLOEXEC) < 0) {
        SYS1(__NR_close, listener);
        goto fail;
    }
    /* Twice, so that the program never has a child that it didn't start; the first without an exit signal. */
    kept = adopts();
    pid = SYS6(__NR_clone, 0, 0, 0, 0, 0, 0);
    if (pid == 0) {
        SYS1(__NR_setsid, 0);
        pid = SYS6(__NR_clone, 0, 0, 0, 0, 0, 0);
        if (pid == 0)
            spawn_exec(path, listener, pipe[1], envp);
        else if (pid > 0 && kept)
            keep(pid);
        SYS1(__NR_exit_group, 127);
    }
    SYS1(__NR_close, pipe[1]);
    SYS1(__NR_close, listener);
    if (pid > 0) {
        if (!kept)
            SYS4(__NR_wait4, pid, 0, __WALL, 0);
        pfd = (struct pollfd){.fd = pipe[0], .events = POLLIN};
        do
            n = (size_t)SYS6(__NR_ppoll, &pfd, 1, &wait, 0, 0, 0);
        while ((long)n == -EINTR);
        ok = (long)n > 0 && SYS3(__NR_read, pipe[0], &byte, 1) == 1;
    }
    SYS1(__NR_close, pipe[0]);
    if (ok)
        return true;
fail:
    probe.socket[0] = 0;
    return false;
}
