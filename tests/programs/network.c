/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets: socket, socketpair, bind, listen, accept forms, connect, shutdown, all send and receive forms. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "expect.h"

#define IO(n) X(.fd = (n), .io = 1)
#define B(n, by) X(.fd = (n), .bytes = (by), .has_bytes = 1)

static char buffer[4096];

/* "IP:PORT" of the local or the remote end, in one of four buffers. */
static const char *name_of(int fd, int remote)
{
    static char text[4][80];
    static int turn;
    struct sockaddr_storage a = {0};
    socklen_t len = sizeof(a);
    char ip[INET6_ADDRSTRLEN] = "";
    char *t = text[turn++ & 3];

    MUST((remote ? getpeername(fd, (struct sockaddr *)&a, &len) : getsockname(fd, (struct sockaddr *)&a, &len)) == 0);
    if (a.ss_family == AF_INET) {
        struct sockaddr_in *in = (struct sockaddr_in *)&a;

        inet_ntop(AF_INET, &in->sin_addr, ip, sizeof(ip));
        snprintf(t, sizeof(text[0]), "%s:%d", ip, ntohs(in->sin_port));
    } else {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&a;

        inet_ntop(AF_INET6, &in6->sin6_addr, ip, sizeof(ip));
        snprintf(t, sizeof(text[0]), "%s:%d", ip, ntohs(in6->sin6_port));
    }
    return t;
}

static void shut(int fd)
{
    OK(C(close, X(.fd = fd), fd));
}

static void messages(int a, int b)
{
    struct iovec v[2] = {{"abcdef", 6}, {"ghi", 3}}, in[2] = {{buffer, 4}, {buffer + 10, 100}};
    struct msghdr m = {.msg_iov = v, .msg_iovlen = 2}, r = {.msg_iov = in, .msg_iovlen = 2};

    MUST(C(sendmsg, IO(a), a, &m, 0) == 9);
    MUST(C(recvmsg, X(.fd = b), b, &r, MSG_PEEK) == 9); /* looked at, not received */
    MUST(C(recvmsg, IO(b), b, &r, 0) == 9);
    FAILS(EAGAIN, C(recvmsg, X(.fd = b), b, &r, MSG_DONTWAIT));
    FAILS(EFAULT, C(sendmsg, X(.fd = a), a, BAD, 0));
    FAILS(EFAULT, C(recvmsg, X(.fd = b), b, BAD, 0));
    FAILS(EBADF, C(sendmsg, X(.fd = 999), 999, &m, 0));
    FAILS(EBADF, C(recvmsg, X(.fd = 999), 999, &r, 0));
    MUST(C(sendto, IO(a), a, "12345", 5, 0, NULL, 0) == 5);
    MUST(C(recvfrom, X(.fd = b), b, buffer, 5, MSG_PEEK, NULL, NULL) == 5);
    MUST(C(recvfrom, IO(b), b, buffer, 5, 0, NULL, NULL) == 5);
    MUST(C(write, IO(a), a, "12345", 5) == 5);
    MUST(C(read, IO(b), b, buffer, 3) == 3);
    MUST(C(read, IO(b), b, buffer, 3) == 2);
    FAILS(EFAULT, C(sendto, X(.fd = a), a, BAD, 5, 0, NULL, 0));
    FAILS(EBADF, C(sendto, X(.fd = 999), 999, "x", 1, 0, NULL, 0));
    FAILS(EBADF, C(recvfrom, X(.fd = 999), 999, buffer, 5, 0, NULL, NULL));
    FAILS(EAGAIN, C(recvfrom, X(.fd = b), b, buffer, 5, MSG_DONTWAIT, NULL, NULL));
}

static void tcp(int family)
{
    struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    void *address = family == AF_INET ? (void *)&in4 : (void *)&in6;
    socklen_t len = family == AF_INET ? sizeof(in4) : sizeof(in6), got = sizeof(struct sockaddr_in6);
    struct sockaddr_in6 from;
    int l, c, s;

    l = (int)OK(C(socket, X(.fd = 0), family, SOCK_STREAM, 0));
    if (C(bind, X(.fd = l), l, address, len) < 0 && family == AF_INET6) {
        shut(l); /* no IPv6 here */
        return;
    }
    FAILS(EBADF, C(bind, X(.fd = 999), 999, address, len));
    FAILS(EFAULT, C(bind, X(.fd = l), l, BAD, len));
    OK(C(listen, X(.fd = l), l, 5));
    FAILS(EBADF, C(listen, X(.fd = 999), 999, 5));
    {
        int value = 0;
        socklen_t size = sizeof(value);

        OK(C(getsockopt, X(.fd = l), l, SOL_SOCKET, SO_ERROR, &value, &size));
        FAILS(EBADF, C(getsockopt, X(.fd = 999), 999, SOL_SOCKET, SO_ERROR, &value, &size));
    }
    MUST(getsockname(l, address, &len) == 0);

    c = (int)OK(C(socket, X(.fd = 0), family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    OK(C(connect, X(.fd = c, .addr = name_of(l, 0)), c, address, len));
    s = (int)OK(C(accept, X(.fd = l, .addr = name_of(c, 0)), l, &from, &got));
    MUST(C(write, IO(c), c, "request", 7) == 7);
    MUST(C(read, IO(s), s, buffer, 100) == 7);
    messages(c, s);
    OK(C(shutdown, X(.fd = c), c, SHUT_WR));
    MUST(C(read, IO(s), s, buffer, 100) == 0);
    FAILS(EPIPE, C(sendto, X(.fd = c), c, "x", 1, MSG_NOSIGNAL, NULL, 0));
    shut(c);
    shut(s);

    c = (int)OK(C(socket, X(.fd = 0), family, SOCK_STREAM | SOCK_NONBLOCK, 0));
    FAILS(EAGAIN, C(accept4, X(.fd = 0), (OK(C(fcntl, X(.skip = 1), l, 4 /* F_SETFL */, 04000 /* O_NONBLOCK */)), l),
                    NULL, NULL, 0));
    MUST(C(connect, X(.fd = c), c, address, len) >= -EINPROGRESS);
    for (int i = 0; i < 1000 && (s = accept4(l, NULL, NULL, SOCK_CLOEXEC)) < 0; i++) {
        expect_add("accept4", -errno, X(.fd = l));
        usleep(1000);
    }
    expect_add("accept4", OK(s), X(.fd = l));
    shut(s);
    shut(c);
    FAILS(EINVAL, C(accept4, X(.fd = l), l, NULL, NULL, 0x4000));
    FAILS(EBADF, C(accept, X(.fd = 999), 999, NULL, NULL));
    FAILS(EBADF, C(accept4, X(.fd = 999), 999, NULL, NULL, 0));
    shut(l);
    /* Nobody listens there any more. */
    c = (int)OK(C(socket, X(.fd = 0), family, SOCK_STREAM, 0));
    FAILS(ECONNREFUSED, C(connect, X(.fd = c), c, address, len));
    FAILS(EFAULT, C(connect, X(.fd = c), c, BAD, len));
    FAILS(EBADF, C(connect, X(.fd = 999), 999, address, len));
    FAILS(ENOTCONN, C(shutdown, X(.fd = c), c, SHUT_RDWR));
    FAILS(EBADF, C(shutdown, X(.fd = 999), 999, SHUT_RDWR));
    shut(c);
    FAILS(EAFNOSUPPORT, C(socket, X(.fd = 0), 99, SOCK_STREAM, 0));
}

static void udp(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, from;
    socklen_t len = sizeof(a), got = sizeof(from);
    struct iovec v[3] = {{"one", 3}, {"three", 5}, {"seventy", 7}}, in[3];
    struct mmsghdr m[3] = {{.msg_hdr = {.msg_iov = v, .msg_iovlen = 1}},
                           {.msg_hdr = {.msg_iov = v + 1, .msg_iovlen = 2}},
                           {.msg_hdr = {.msg_iov = v, .msg_iovlen = 3}}};
    struct mmsghdr r[3] = {0};
    int s, c;

    s = (int)OK(C(socket, X(.fd = 0), AF_INET, SOCK_DGRAM, 0));
    OK(C(bind, X(.fd = s), s, &a, len));
    MUST(getsockname(s, (struct sockaddr *)&a, &len) == 0);
    c = (int)OK(C(socket, X(.fd = 0), AF_INET, SOCK_DGRAM, 0));
    MUST(C(sendto, X(.fd = c, .io = 1, .addr = name_of(s, 0)), c, "hello", 5, 0, &a, len) == 5);
    MUST(C(recvfrom, X(.fd = s, .io = 1), s, buffer, 100, 0, &from, &got) == 5);
    MUST(C(sendto, IO(c), c, "", 0, 0, &a, len) == 0);
    MUST(C(recvfrom, IO(s), s, buffer, 100, 0, NULL, NULL) == 0);
    OK(C(connect, X(.fd = c, .addr = name_of(s, 0)), c, &a, len));
    for (int i = 0; i < 3; i++) {
        in[i] = (struct iovec){buffer + 100 * i, 100};
        r[i].msg_hdr.msg_iov = in + i;
        r[i].msg_hdr.msg_iovlen = 1;
    }
    MUST(C(sendmmsg, B(c, 30), c, m, 3, 0) == 3);
    MUST(C(recvmmsg, X(.fd = s), s, r, 1, MSG_PEEK, NULL) == 1);
    MUST(C(recvmmsg, B(s, 30), s, r, 3, 0, NULL) == 3);
    FAILS(EAGAIN, C(recvmmsg, X(.fd = s), s, r, 3, MSG_DONTWAIT, NULL));
    FAILS(EBADF, C(sendmmsg, X(.fd = 999), 999, m, 3, 0));
    FAILS(EFAULT, C(sendmmsg, X(.fd = c), c, BAD, 3, 0));
    FAILS(EBADF, C(recvmmsg, X(.fd = 999), 999, r, 3, 0, NULL));
    FAILS(EFAULT, C(recvmmsg, X(.fd = s), s, BAD, 3, MSG_DONTWAIT, NULL));
    shut(c);
    shut(s);
}

/* Descriptors passed through a unix socket. */
static void pass(int a, int b)
{
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec v = {"f", 1}, in = {buffer, 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
    struct msghdr r = {.msg_iov = &in, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    int fd = (int)OK(C(open, X(.path = "passed"), "passed", 0102 /* O_CREAT | O_RDWR */, 0600));

    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(h), &fd, sizeof(fd));
    MUST(C(sendmsg, IO(a), a, &m, 0) == 1);
    shut(fd);
    memset(control, 0, sizeof(control));
    MUST(C(recvmsg, IO(b), b, &r, 0) == 1);
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&r)), sizeof(fd));
    MUST(C(write, IO(fd), fd, "data", 4) == 4);
    shut(fd);
}

static void unix_sockets(void)
{
    struct sockaddr_un u = {.sun_family = AF_UNIX, .sun_path = "socket"};
    int p[2], l, c, s;

    OK(C(socketpair, X(.fd = 0), AF_UNIX, SOCK_STREAM, 0, p));
    messages(p[0], p[1]);
    pass(p[0], p[1]);
    shut(p[0]);
    MUST(C(read, IO(p[1]), p[1], buffer, 1) == 0);
    shut(p[1]);
    FAILS(EOPNOTSUPP, C(socketpair, X(.fd = 0), AF_INET, SOCK_STREAM, 0, p));
    FAILS(EFAULT, C(socketpair, X(.fd = 0), AF_UNIX, SOCK_STREAM, 0, BAD));

    l = (int)OK(C(socket, X(.fd = 0), AF_UNIX, SOCK_STREAM, 0));
    OK(C(bind, X(.fd = l, .addr = "socket"), l, &u, sizeof(u)));
    OK(C(listen, X(.fd = l), l, 5));
    c = (int)OK(C(socket, X(.fd = 0), AF_UNIX, SOCK_STREAM, 0));
    OK(C(connect, X(.fd = c, .addr = "socket"), c, &u, sizeof(u)));
    s = (int)OK(C(accept, X(.fd = l), l, NULL, NULL));
    messages(s, c);
    shut(c);
    shut(s);
    shut(l);
    OK(C(unlink, X(.path = "socket"), "socket"));
    c = (int)OK(C(socket, X(.fd = 0), AF_UNIX, SOCK_STREAM, 0));
    FAILS(ENOENT, C(connect, X(.fd = c, .addr = "socket"), c, &u, sizeof(u)));
    shut(c);
}

static void libc_calls(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct iovec v = {"abc", 3}, in = {buffer, 100};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1}, r = {.msg_iov = &in, .msg_iovlen = 1};
    socklen_t len = sizeof(a);
    int l, c, s, p[2];

    l = (int)OK(L("socket", X(.fd = 0), socket(AF_INET, SOCK_STREAM, 0)));
    OK(L("bind", X(.fd = l), bind(l, (struct sockaddr *)&a, len)));
    OK(L("listen", X(.fd = l), listen(l, 5)));
    MUST(getsockname(l, (struct sockaddr *)&a, &len) == 0);
    c = (int)OK(L("socket", X(.fd = 0), socket(AF_INET, SOCK_STREAM, 0)));
    OK(L("connect", X(.fd = c), connect(c, (struct sockaddr *)&a, len)));
    s = (int)OK(L("accept", X(.fd = l), accept(l, NULL, NULL)));
    MUST(L("sendto", IO(c), send(c, "abcd", 4, 0)) == 4);
    MUST(L("recvfrom", IO(s), recv(s, buffer, 2, 0)) == 2);
    MUST(L("recvfrom", X(.fd = s), recv(s, buffer, 9, MSG_PEEK)) == 2);
    MUST(L("recvfrom", IO(s), recv(s, buffer, 9, 0)) == 2);
    MUST(L("sendmsg", IO(c), sendmsg(c, &m, 0)) == 3);
    MUST(L("recvmsg", IO(s), recvmsg(s, &r, 0)) == 3);
    OK(L("shutdown", X(.fd = c), shutdown(c, SHUT_RDWR)));
    OK(L("close", X(.fd = c), close(c)));
    OK(L("close", X(.fd = s), close(s)));
    OK(L("close", X(.fd = l), close(l)));
    OK(L("socketpair", X(.fd = 0), socketpair(AF_UNIX, SOCK_DGRAM, 0, p)));
    OK(L("close", X(.fd = p[0]), close(p[0])));
    OK(L("close", X(.fd = p[1]), close(p[1])));
    FAILS(EBADF, L("sendto", X(.fd = 999), send(999, "x", 1, 0)));
    FAILS(EBADF, L("recvfrom", X(.fd = 999), recv(999, buffer, 1, 0)));
}

int main(int argc, char **argv)
{
    expect_begin(argc, argv);
    tcp(AF_INET);
    tcp(AF_INET6);
    udp();
    unix_sockets();
    libc_calls();
    expect_end();
    return 0;
}
