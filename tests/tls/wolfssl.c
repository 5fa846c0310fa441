/* SPDX-License-Identifier: Apache-2.0 */
/* A client of wolfSSL: wolfssl PORT [recv]. Asks, and prints the body of the answer; with `recv` by the functions that are
 * called like those of sockets. */
#include <wolfssl/options.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <wolfssl/ssl.h>

#define NEED(condition)                                                     \
    do {                                                                    \
        if (!(condition)) {                                                 \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);         \
            exit(1);                                                        \
        }                                                                   \
    } while (0)

/* Whether the answer is complete. */
static int complete(const char *answer, size_t len)
{
    const char *length = strstr(answer, "Content-Length: "), *body = strstr(answer, "\r\n\r\n");

    return length && body && (size_t)(answer + len - body) >= 4 + strtoul(length + 16, NULL, 10);
}

int main(int argc, char **argv)
{
    static const char request[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    struct sockaddr_in to = {AF_INET, htons((uint16_t)(argc > 1 ? atoi(argv[1]) : 0)), {htonl(INADDR_LOOPBACK)}, {0}};
    const int size = (int)sizeof(request) - 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    static char answer[1 << 20];
    size_t len = 0;
    WOLFSSL_CTX *ctx;
    WOLFSSL *ssl;
    char *body, peeked;
    int n, like_sockets = argc > 2;

    NEED(argc > 1 && wolfSSL_Init() == WOLFSSL_SUCCESS && (ctx = wolfSSL_CTX_new(wolfSSLv23_client_method())));
    wolfSSL_CTX_set_verify(ctx, WOLFSSL_VERIFY_NONE, NULL);
    NEED(fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0);
    NEED((ssl = wolfSSL_new(ctx)) && wolfSSL_set_fd(ssl, fd) == WOLFSSL_SUCCESS && wolfSSL_connect(ssl) == WOLFSSL_SUCCESS);
    NEED((like_sockets ? wolfSSL_send(ssl, request, size, 0) : wolfSSL_write(ssl, request, size)) == size);
    if (like_sockets)
        NEED(wolfSSL_peek(ssl, &peeked, 1) == 1 && peeked == 'H');
    do {
        const int room = (int)(sizeof(answer) - 1 - len);

        n = like_sockets ? wolfSSL_recv(ssl, answer + len, room, 0) : wolfSSL_read(ssl, answer + len, room);
        len += n > 0 ? (size_t)n : 0;
    } while (n > 0 && len < sizeof(answer) - 1 && !complete(answer, len));
    body = strstr(answer, "\r\n\r\n");
    NEED(body);
    body += 4;
    NEED(fwrite(body, 1, (size_t)(answer + len - body), stdout) == (size_t)(answer + len - body));
    wolfSSL_free(ssl);
    wolfSSL_CTX_free(ctx);
    wolfSSL_Cleanup();
    close(fd);
    return 0;
}
