/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What kernel TLS does, for kernels that don't have it: a TLS library whose functions give the socket plaintext
 * (Documentation/networking/tls.rst). Both ends are in this process; the handshake was before whoever observes came.
 *
 *   ktls      prints "ready", waits for a byte, asks and answers, prints "end", waits for the end of stdin
 */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "log.h"

#define LIBRARY __attribute__((noinline, visibility("default")))

typedef struct {
    long fd;
    long padding[7];
} SSL;

LIBRARY void *SSL_CTX_new(const void *method)
{
    return (void *)(unsigned long)(method != NULL); /* the witness */
}

LIBRARY int SSL_write(SSL *ssl, const void *buf, int num)
{
    __asm__ volatile("" ::: "memory");
    return (int)write((int)ssl->fd, buf, (size_t)num);
}

LIBRARY int SSL_read(SSL *ssl, void *buf, int num)
{
    __asm__ volatile("" ::: "memory");
    return (int)read((int)ssl->fd, buf, (size_t)num);
}

static void pass(SSL *from, SSL *to, const char *text)
{
    char buf[200];
    int n = (int)strlen(text);

    NEED(SSL_write(from, text, n) == n);
    NEED(SSL_read(to, buf, sizeof(buf)) == n);
}

int main(void)
{
    static SSL client, server;
    int fd[2];
    char c;

    SSL_CTX_new(NULL);
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == 0);
    client.fd = fd[0];
    server.fd = fd[1];
    puts("ready");
    fflush(stdout);
    NEED(read(0, &c, 1) == 1);
    for (int i = 0; i < 3; i++) {
        pass(&client, &server, "GET /once HTTP/1.1\r\nHost: h\r\n\r\n");
        pass(&server, &client, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    }
    print_end();
    return 0;
}
