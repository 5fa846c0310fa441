/* SPDX-License-Identifier: Apache-2.0 */
/*
 * httpd PORT: answers every request with the same KiB, on one thread with epoll(7), until SIGTERM. Linked statically:
 * the load for observing static programs. Expects requests of one piece, as wrk makes them.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define BODY 1024

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void watch(int ep, int fd)
{
    struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};

    if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) < 0)
        die("epoll_ctl");
}

int main(int argc, char **argv)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), ep = epoll_create1(EPOLL_CLOEXEC), on = 1;
    char answer[BODY + 128], request[4096];
    size_t size = (size_t)snprintf(answer, sizeof(answer), "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", BODY);

    if (argc != 2)
        return 2;
    memset(answer + size, 'x', BODY);
    size += BODY;
    at.sin_port = htons((uint16_t)atoi(argv[1]));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(listener, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(listener, 128) < 0)
        die("listen");
    watch(ep, listener);
    for (;;) {
        struct epoll_event e[64];
        int n = epoll_wait(ep, e, 64, -1);

        if (n < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < n; i++) {
            int fd = e[i].data.fd;

            if (fd == listener) {
                fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
                if (fd < 0)
                    continue;
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
                watch(ep, fd);
            } else if (read(fd, request, sizeof(request)) <= 0 || write(fd, answer, size) != (ssize_t)size) {
                close(fd);
            }
        }
    }
}
