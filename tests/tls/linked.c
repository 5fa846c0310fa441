/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client that has its TLS library inside: linked statically against libssl.a and
 * stripped. linked PORT COUNT [1.2] [SUITES]: connects COUNT times, then asks on
 * each connection, then reads on each until the server hangs up. Tells how many
 * bytes it got; a line "key HEX" for each secret of application data, if LINKED_KEYS
 * is set (RFC 8446, section 7.1).
 */
#include <arpa/inet.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define NEED(condition)                                                     \
    do {                                                                    \
        if (!(condition)) {                                                 \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);         \
            exit(1);                                                        \
        }                                                                   \
    } while (0)

static void tell_secret(const SSL *ssl, const char *line)
{
    (void)ssl;
    if (strstr(line, "TRAFFIC_SECRET_0"))
        printf("key %s\n", strrchr(line, ' ') + 1);
}

static SSL *connect_to(SSL_CTX *ctx, int port)
{
    struct sockaddr_in to = {AF_INET, htons((uint16_t)port), {htonl(INADDR_LOOPBACK)}, {0}};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    SSL *ssl = SSL_new(ctx);

    NEED(fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0);
    NEED(ssl && SSL_set_fd(ssl, fd) == 1 && SSL_connect(ssl) == 1);
    return ssl;
}

int main(int argc, char **argv)
{
    int port = argc > 2 ? atoi(argv[1]) : 0, count = argc > 2 ? atoi(argv[2]) : 0, n;
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL **ssl = calloc((size_t)count + 1, sizeof(SSL *));
    static char buf[65536];
    unsigned long got = 0;

    NEED(ctx && ssl && count > 0);
    if (argc > 3 && strcmp(argv[3], "1.2") == 0)
        NEED(SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION));
    if (argc > 4)
        NEED(strncmp(argv[4], "TLS_", 4) ? SSL_CTX_set_cipher_list(ctx, argv[4]) : SSL_CTX_set_ciphersuites(ctx, argv[4]));
    if (getenv("LINKED_KEYS"))
        SSL_CTX_set_keylog_callback(ctx, tell_secret);
    for (int i = 0; i < count; i++)
        ssl[i] = connect_to(ctx, port);
    for (int i = 0; i < count; i++) {
        n = snprintf(buf, sizeof(buf), "GET /linked/%d HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", i);
        NEED(SSL_write(ssl[i], buf, n) == n);
    }
    for (int i = 0; i < count; i++) {
        while ((n = SSL_read(ssl[i], buf, sizeof(buf))) > 0)
            got += (unsigned long)n;
        close(SSL_get_fd(ssl[i]));
        SSL_free(ssl[i]);
    }
    printf("%lu\n", got);
    return 0;
}
