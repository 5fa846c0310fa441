/* SPDX-License-Identifier: Apache-2.0 */
/*
 * calls: HTTP over a pair of sockets, with each way of sending and each way of
 * receiving, split in the middle and in the head. Both ends are this
 * process. What each exchange is, is in its target: /SENDING/RECEIVING/SPLIT.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

static void must(int ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "%s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static size_t vector(struct iovec *v, const char *p, size_t len)
{
    size_t n = 0, step = len / 7 + 1;

    for (size_t at = 0; at < len; at += step)
        v[n++] = (struct iovec){(char *)p + at, len - at < step ? len - at : step};
    return n;
}

/* --- sending: all of it, as one call --- */

static void s_write(int fd, const char *p, size_t n) { must(write(fd, p, n) == (ssize_t)n, "write"); }
static void s_send(int fd, const char *p, size_t n) { must(send(fd, p, n, MSG_NOSIGNAL) == (ssize_t)n, "send"); }

static void s_writev(int fd, const char *p, size_t n)
{
    struct iovec v[8];

    must(writev(fd, v, (int)vector(v, p, n)) == (ssize_t)n, "writev");
}

static void s_sendmsg(int fd, const char *p, size_t n)
{
    struct iovec v[8];
    struct msghdr m = {.msg_iov = v, .msg_iovlen = vector(v, p, n)};

    must(sendmsg(fd, &m, 0) == (ssize_t)n, "sendmsg");
}

static void s_sendmmsg(int fd, const char *p, size_t n)
{
    struct iovec v[8];
    struct mmsghdr m[2] = {{.msg_hdr = {.msg_iov = v}}, {.msg_hdr = {.msg_iov = v + 3}}};
    size_t count = vector(v, p, n);

    m[0].msg_hdr.msg_iovlen = count < 3 ? count : 3;
    m[1].msg_hdr.msg_iovlen = count < 3 ? 0 : count - 3;
    must(sendmmsg(fd, m, count > 3 ? 2 : 1, 0) == (count > 3 ? 2 : 1), "sendmmsg");
}

/* With vectors behind what is sent that lead nowhere: they must not be looked at. */
static void s_nonblock(int fd, const char *p, size_t n)
{
    struct iovec v[3] = {{(char *)p, n}, {NULL, 0}, {(char *)p, 0}};

    must(writev(fd, v, 3) == (ssize_t)n, "writev");
}

/* --- receiving: at least one byte, at most n --- */

static ssize_t r_read(int fd, char *p, size_t n) { return read(fd, p, n); }
static ssize_t r_recv(int fd, char *p, size_t n) { return recv(fd, p, n, 0); }

static ssize_t r_recvfrom(int fd, char *p, size_t n)
{
    struct sockaddr_storage a;
    socklen_t len = sizeof(a);

    return recvfrom(fd, p, n, 0, (struct sockaddr *)&a, &len);
}

static ssize_t r_readv(int fd, char *p, size_t n)
{
    struct iovec v[8];

    return readv(fd, v, (int)vector(v, p, n));
}

static ssize_t r_recvmsg(int fd, char *p, size_t n)
{
    struct iovec v[8];
    char control[64];
    struct msghdr m = {.msg_iov = v, .msg_iovlen = vector(v, p, n), .msg_control = control, .msg_controllen = sizeof(control)};

    return recvmsg(fd, &m, 0);
}

static ssize_t r_recvmmsg(int fd, char *p, size_t n)
{
    struct iovec v = {p, n};
    struct mmsghdr m = {.msg_hdr = {.msg_iov = &v, .msg_iovlen = 1}};

    must(recvmmsg(fd, &m, 1, 0, NULL) == 1, "recvmmsg");
    return (ssize_t)m.msg_len;
}

/* What is only looked at has not passed. */
static ssize_t r_peek(int fd, char *p, size_t n)
{
    struct iovec v = {p, n};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
    ssize_t got = recv(fd, p, n, MSG_PEEK);

    must(got > 0 && recvmsg(fd, &m, MSG_PEEK) == got, "peek");
    return recv(fd, p, n, 0);
}

static ssize_t r_little(int fd, char *p, size_t n) { return read(fd, p, n < 11 ? n : 11); }

typedef void (*sender)(int fd, const char *p, size_t n);
typedef ssize_t (*receiver)(int fd, char *p, size_t n);
static const struct {
    const char *name;
    sender call;
} senders[] = {{"write", s_write}, {"send", s_send}, {"writev", s_writev}, {"sendmsg", s_sendmsg},
               {"sendmmsg", s_sendmmsg}, {"emptyv", s_nonblock}};
static const struct {
    const char *name;
    receiver call;
} receivers[] = {{"read", r_read}, {"recv", r_recv}, {"recvfrom", r_recvfrom}, {"readv", r_readv}, {"recvmsg", r_recvmsg},
                 {"recvmmsg", r_recvmmsg}, {"peek", r_peek}, {"little", r_little}};
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void pass(int from, int to, sender s, receiver r, const char *text, size_t len, size_t split)
{
    static char buf[65536];
    size_t got = 0;
    ssize_t n;

    if (split)
        s(from, text, split);
    s(from, text + split, len - split);
    while (got < len) {
        n = r(to, buf, sizeof(buf));
        must(n > 0, "receiving");
        must(memcmp(buf, text + got, (size_t)n) == 0, "the bytes");
        got += (size_t)n;
    }
}

/* A body from a file, that no memory of ours holds. */
static void by_file(int pair[2], int how, int number)
{
    char head[200], buf[4096], path[] = "/tmp/traffic-XXXXXX";
    int file = mkstemp(path), pipes[2], len;
    size_t size = 3000, got = 0;
    ssize_t n;

    must(file >= 0 && unlink(path) == 0 && ftruncate(file, (off_t)size) == 0 && pipe(pipes) == 0, "file");
    len = snprintf(head, sizeof(head), "GET /file/%s/%d HTTP/1.1\r\nHost: h\r\n\r\n", how ? "splice" : "sendfile", number);
    pass(pair[0], pair[1], s_write, r_read, head, (size_t)len, 0);
    len = snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", size);
    pass(pair[1], pair[0], s_write, r_read, head, (size_t)len, 0);
    if (how) {
        must(splice(file, NULL, pipes[1], NULL, size, 0) == (ssize_t)size, "splice");
        must(splice(pipes[0], NULL, pair[1], NULL, size, 0) == (ssize_t)size, "splice");
    } else {
        must(sendfile(pair[1], file, NULL, size) == (ssize_t)size, "sendfile");
    }
    if (how) { /* the other side, too, without having the bytes in memory */
        must(splice(pair[0], NULL, pipes[1], NULL, size, 0) == (ssize_t)size, "splice");
    } else {
        while (got < size && (n = read(pair[0], buf, sizeof(buf))) > 0)
            got += (size_t)n;
        must(got == size, "body");
    }
    close(file);
    close(pipes[0]);
    close(pipes[1]);
}

/* MSG_TRUNC makes TCP throw away what it passes; the buffer stays as it was. */
static void truncated(void)
{
    static const char request[] = "GET /trunc/%d HTTP/1.1\r\nHost: h\r\n\r\n";
    int listener = socket(AF_INET, SOCK_STREAM, 0), a = socket(AF_INET, SOCK_STREAM, 0), b;
    struct sockaddr addr = {.sa_family = AF_INET};
    socklen_t len = sizeof(addr);
    char text[200], buf[64] = "HTTP/1.1 500 never sent\r\n\r\n";

    must(listener >= 0 && a >= 0 && bind(listener, &addr, sizeof(addr)) == 0 && listen(listener, 1) == 0, "listen");
    must(getsockname(listener, &addr, &len) == 0 && connect(a, &addr, len) == 0, "connect");
    b = accept(listener, NULL, NULL);
    must(b >= 0, "accept");
    for (int i = 0; i < 3; i++) {
        snprintf(text, sizeof(text), request, i);
        pass(a, b, s_send, r_recv, text, strlen(text), 0);
        strcpy(text, "HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n0123456789012345678901234567890123456789");
        s_send(b, text, strlen(text));
        must(recv(a, buf, strlen(text) - 40, 0) == (ssize_t)strlen(text) - 40, "head");
        must(recv(a, buf, sizeof(buf), MSG_ERRQUEUE | MSG_DONTWAIT) < 0, "error queue");
        must(recv(a, NULL, 40, MSG_TRUNC | MSG_WAITALL) == 40, "body thrown away");
        strcpy(buf, "HTTP/1.1 500 never sent\r\n\r\n");
    }
    close(a);
    close(b);
    close(listener);
}

int main(void)
{
    int pair[2];
    char request[400], response[400];

    for (size_t s = 0; s < COUNT(senders); s++) {
        must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0, "socketpair");
        for (size_t r = 0; r < COUNT(receivers); r++) {
            for (size_t split = 0; split < 90; split += 44) {
                int q = snprintf(request, sizeof(request),
                                 "POST /%s/%s/%zu HTTP/1.1\r\nHost: calls\r\nUser-Agent: calls\r\nContent-Length: 10\r\n\r\n0123456789",
                                 senders[s].name, receivers[r].name, split);
                int p = snprintf(response, sizeof(response),
                                 "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\nX-Filler: %060d\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
                                 (int)split);

                pass(pair[0], pair[1], senders[s].call, receivers[r].call, request, (size_t)q, split);
                pass(pair[1], pair[0], senders[s].call, receivers[r].call, response, (size_t)p, split);
            }
        }
        close(pair[0]);
        close(pair[1]);
    }
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0, "socketpair");
    for (int i = 0; i < 4; i++)
        by_file(pair, i & 1, i);
    close(pair[0]);
    close(pair[1]);
    truncated();
    return 0;
}
