/* SPDX-License-Identifier: Apache-2.0 */
/* Connections of this process with itself. Prints each end: addresses from getsockname and getpeername, and bytes. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MUST(c) ((c) ? (void)0 : (perror(#c), _exit(99)))

static FILE *expect;

static void put_address(const char *key, const struct sockaddr_storage *a)
{
    char ip[INET6_ADDRSTRLEN];
    const void *from;
    int port;

    if (a->ss_family == AF_INET) {
        from = &((const struct sockaddr_in *)a)->sin_addr;
        port = ntohs(((const struct sockaddr_in *)a)->sin_port);
    } else {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)a;

        from = IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr) ? in6->sin6_addr.s6_addr + 12 : (const void *)&in6->sin6_addr;
        port = ntohs(in6->sin6_port);
        if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
            inet_ntop(AF_INET, from, ip, sizeof(ip));
            fprintf(expect, ",\"%s\":[\"%s\",%d]", key, ip, port);
            return;
        }
    }
    inet_ntop(a->ss_family, from, ip, sizeof(ip));
    fprintf(expect, ",\"%s\":[\"%s\",%d]", key, ip, port);
}

/* Notes one end of a connection. */
static void end_of(const char *role, int fd, long sent, long received)
{
    struct sockaddr_storage host = {0}, peer = {0};
    socklen_t h = sizeof(host), p = sizeof(peer);

    MUST(getsockname(fd, (struct sockaddr *)&host, &h) == 0 && getpeername(fd, (struct sockaddr *)&peer, &p) == 0);
    fprintf(expect, "{\"role\":\"%s\"", role);
    put_address("host", &host);
    put_address("peer", &peer);
    fprintf(expect, ",\"sent\":%ld,\"received\":%ld}\n", sent, received);
}

/* listen_family may be AF_INET6 while the client uses IPv4: then the server sees mapped addresses. */
static void stream(int listen_family, int family, int give_address)
{
    struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_ANY_INIT};
    struct sockaddr_storage bound = {0}, from;
    socklen_t len = sizeof(bound), got = sizeof(from);
    int l, c, s, off = 0;
    char b[5000] = "";

    if ((l = socket(listen_family, SOCK_STREAM, 0)) < 0)
        return;
    if (listen_family == AF_INET6)
        MUST(setsockopt(l, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) == 0);
    if (bind(l, listen_family == AF_INET ? (void *)&in4 : (void *)&in6,
             listen_family == AF_INET ? sizeof(in4) : sizeof(in6)) < 0) {
        close(l);
        return;
    }
    MUST(listen(l, 9) == 0 && getsockname(l, (struct sockaddr *)&bound, &len) == 0);
    in4.sin_port = ((struct sockaddr_in *)&bound)->sin_port;
    in6.sin6_port = in4.sin_port;
    in6.sin6_addr = in6addr_loopback;
    MUST((c = socket(family, SOCK_STREAM, 0)) >= 0);
    MUST(connect(c, family == AF_INET ? (void *)&in4 : (void *)&in6, family == AF_INET ? sizeof(in4) : sizeof(in6)) ==
         0);
    MUST((s = accept(l, give_address ? (void *)&from : NULL, give_address ? &got : NULL)) >= 0);
    MUST(send(c, b, 5, 0) == 5 && write(c, b, 1000) == 1000);
    MUST(recv(s, b, 3, MSG_PEEK) == 3 && recv(s, b, 1005, MSG_WAITALL) == 1005);
    MUST(write(s, b, 5000) == 5000 && recv(c, b, 5000, MSG_WAITALL) == 5000);
    end_of("client", c, 1005, 5000);
    end_of("server", s, 5000, 1005);
    MUST(shutdown(c, SHUT_WR) == 0 && recv(s, b, 10, 0) == 0);
    close(s);
    close(c);
    close(l);
}

int main(void)
{
    char b[100];
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un u = {.sun_family = AF_UNIX, .sun_path = "sock"};
    socklen_t len = sizeof(a);
    int s, c, l;

    MUST((expect = fopen(getenv("EXPECT"), "w")));
    stream(AF_INET, AF_INET, 1);
    stream(AF_INET, AF_INET, 0);
    stream(AF_INET6, AF_INET6, 0);
    stream(AF_INET6, AF_INET, 1);

    /* Datagrams: by connect, and by address. */
    MUST((s = socket(AF_INET, SOCK_DGRAM, 0)) >= 0 && bind(s, (void *)&a, len) == 0);
    MUST(getsockname(s, (struct sockaddr *)&a, &len) == 0);
    MUST((c = socket(AF_INET, SOCK_DGRAM, 0)) >= 0 && connect(c, (void *)&a, len) == 0);
    MUST(send(c, b, 50, 0) == 50 && recv(s, b, 100, 0) == 50);
    end_of("udp", c, 50, 0);
    close(c);
    MUST((c = socket(AF_INET, SOCK_DGRAM, 0)) >= 0 && sendto(c, b, 60, 0, (void *)&a, len) == 60);
    MUST(recv(s, b, 100, 0) == 60);
    close(c);
    close(s);

    /* A unix socket: 7 bytes one way, 9 the other. */
    MUST((l = socket(AF_UNIX, SOCK_STREAM, 0)) >= 0 && bind(l, (void *)&u, sizeof(u)) == 0 && listen(l, 1) == 0);
    MUST((c = socket(AF_UNIX, SOCK_STREAM, 0)) >= 0 && connect(c, (void *)&u, sizeof(u)) == 0);
    MUST((s = accept(l, NULL, NULL)) >= 0);
    MUST(write(c, b, 7) == 7 && read(s, b, 100) == 7 && write(s, b, 9) == 9 && read(c, b, 100) == 9);
    close(c);
    MUST(read(s, b, 100) == 0);
    close(s);
    close(l);
    unlink("sock");

    /* Refused. */
    MUST((c = socket(AF_INET, SOCK_STREAM, 0)) >= 0 && connect(c, (void *)&a, len) < 0);
    close(c);
    fclose(expect);
    _exit(0);
}
