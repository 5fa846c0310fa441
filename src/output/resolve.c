/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/dns.h>
#include <event2/util.h>

#include "output/internal.h"

#define RESOLVE_SECONDS 20

/* What the child writes, in one piece (smaller than PIPE_BUF). */
struct answer {
    int32_t error;      /* EVUTIL_EAI_*, or 0 */
    uint32_t count;
    struct address addr[RESOLVE_MAX];
};
_Static_assert(sizeof(struct answer) <= 4096, "written atomically");

static int port_number(const char *port)
{
    char *end;
    long n;

    if (!port || *port < '0' || *port > '9')
        return -EINVAL;
    n = strtol(port, &end, 10);
    return *end || n < 1 || n > 65535 ? -EINVAL : (int)n;
}

static void set_address(struct address *a, const void *sa, size_t len)
{
    a->len = (uint32_t)len;
    memcpy(a->sa, sa, len);
}

int resolve_numeric(const char *host, const char *port, struct address *out)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    int n = port_number(port);

    if (n < 0)
        return n;
    v4.sin_port = v6.sin6_port = htons((uint16_t)n);
    if (host && inet_pton(AF_INET, host, &v4.sin_addr) == 1) {
        set_address(out, &v4, sizeof(v4));
    } else if (host && inet_pton(AF_INET6, host, &v6.sin6_addr) == 1) {
        set_address(out, &v6, sizeof(v6));
    } else if (host && strcasecmp(host, "localhost") == 0) { /* RFC 6761, section 6.3 */
        v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        v6.sin6_addr = in6addr_loopback;
        set_address(out, &v4, sizeof(v4));
        set_address(out + 1, &v6, sizeof(v6));
        return 2;
    } else {
        return 0;
    }
    return 1;
}

struct lookup {
    struct answer answer;
    bool done;
};

static void on_addresses(int error, struct evutil_addrinfo *list, void *ctx)
{
    struct lookup *l = ctx;
    struct answer *a = &l->answer;

    l->done = true;
    a->error = error;
    for (struct evutil_addrinfo *i = list; i && a->count < RESOLVE_MAX; i = i->ai_next)
        if (i->ai_addrlen <= sizeof(a->addr[0].sa))
            set_address(&a->addr[a->count++], i->ai_addr, i->ai_addrlen);
    if (list)
        evutil_freeaddrinfo(list);
}

/* Keeps nothing of the collector open: neither its listening socket nor somebody's pipe. */
static int close_others(int out)
{
    int null = open("/dev/null", O_RDWR);

    for (int fd = 0; null >= 0 && fd < 3; fd++)
        dup2(null, fd);
    if (out != 3 && dup2(out, 3) < 0)
        return out;
    close_range(4, ~0U, 0);
    return 3;
}

static void __attribute__((noreturn)) child(const char *host, const char *port, int out)
{
    struct evutil_addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct lookup lookup = {.answer.error = EVUTIL_EAI_FAIL};
    struct evdns_base *dns;
    struct event_base *base;
    sigset_t none;

    sigemptyset(&none);
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    signal(SIGALRM, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "scope-resolve");
    alarm(RESOLVE_SECONDS);
    out = close_others(out);

    base = event_base_new();
    dns = base ? evdns_base_new(base, 0) : NULL;
    if (dns) {
        /* Without the file evdns asks the name server on this host, and knows /etc/hosts. */
        if (evdns_base_resolv_conf_parse(dns, DNS_OPTIONS_ALL, "/etc/resolv.conf"))
            evdns_base_load_hosts(dns, "/etc/hosts");
        evdns_getaddrinfo(dns, host, port, &hints, on_addresses, &lookup);
        while (!lookup.done && event_base_loop(base, EVLOOP_ONCE) == 0)
            ;
    }
    _exit(write(out, &lookup.answer, sizeof(lookup.answer)) == sizeof(lookup.answer) ? 0 : 1);
}

int resolve_start(const char *host, const char *port, int *ret_pidfd)
{
    int fd[2], pid, pidfd;

    if (pipe2(fd, O_CLOEXEC | O_NONBLOCK) < 0)
        return -errno;
    pid = fork();
    if (pid == 0)
        child(host, port, fd[1]);
    if (pid < 0) {
        int rc = -errno;

        close(fd[0]);
        close(fd[1]);
        return rc;
    }
    close(fd[1]);
    pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0) { /* it ends by itself: when its alarm rings at the latest */
        int rc = -errno;

        close(fd[0]);
        return rc;
    }
    *ret_pidfd = pidfd;
    return fd[0];
}

int resolve_read(int fd, struct address *out, const char **ret_text)
{
    struct answer a;
    ssize_t n = read(fd, &a, sizeof(a));

    *ret_text = "the resolver failed";
    if (n < 0)
        return errno == EINTR ? -EAGAIN : -errno;
    if (n != sizeof(a))
        return -EIO;
    if (a.error || !a.count || a.count > RESOLVE_MAX) {
        *ret_text = a.error ? evutil_gai_strerror(a.error) : "no address";
        return -EHOSTUNREACH;
    }
    for (uint32_t i = 0; i < a.count; i++) {
        if (a.addr[i].len > sizeof(a.addr[i].sa))
            return -EIO;
        out[i] = a.addr[i];
    }
    return (int)a.count;
}

void resolve_end(int fd, int pidfd)
{
    siginfo_t info;

    close(fd);
    /* By descriptor: whoever else waits for children here may have collected it, and its number may be another's. */
    syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
    while (waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED) < 0 && errno == EINTR)
        ;
    close(pidfd);
}
