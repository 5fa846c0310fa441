/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client that has its TLS library inside: linked statically against libssl.a and
 * stripped. linked PORT COUNT [1.2] [SUITES]: connects COUNT times, then asks on
 * each connection, then reads on each until the server hangs up. Tells how many
 * bytes it got; a line "key HEX" for each secret of application data, if LINKED_KEYS
 * is set (RFC 8446, section 7.1). LINKED_HOW: "fork", a child asks and reads; "resume",
 * the first connection comes to its end before the others, which resume its session and
 * ask twice each, but don't read; "early", so do those, first with early data.
 */
#include <arpa/inet.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define NEED(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition); \
            exit(1); \
        } \
    } while (0)

static void tell_secret(const SSL *ssl, const char *line)
{
    (void)ssl;
    if (strstr(line, "TRAFFIC_SECRET_0"))
        printf("key %s\n", strrchr(line, ' ') + 1);
}

static SSL_SESSION *session;

static int keep_session(SSL *ssl, SSL_SESSION *s)
{
    (void)ssl;
    SSL_SESSION_free(session);
    session = SSL_SESSION_dup(s); /* which stays good if the server hangs up */
    return 0;
}

static void ask(SSL *ssl, int i, int early)
{
    char buf[200];
    int n = snprintf(buf, sizeof(buf), "GET /linked/%d HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", i);
    size_t done;

    if (early)
        NEED(SSL_write_early_data(ssl, buf, (size_t)n, &done) == 1 && (int)done == n);
    else
        NEED(SSL_write(ssl, buf, n) == n);
}

static unsigned long read_all(SSL *ssl)
{
    static char buf[65536];
    unsigned long got = 0;
    int n;

    while ((n = SSL_read(ssl, buf, sizeof(buf))) > 0)
        got += (unsigned long)n;
    close(SSL_get_fd(ssl));
    SSL_free(ssl);
    return got;
}

static SSL *connect_to(SSL_CTX *ctx, int port, int early)
{
    struct sockaddr_in to = {AF_INET, htons((uint16_t)port), {htonl(INADDR_LOOPBACK)}, {0}};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int resumes = session != NULL; /* TLS 1.2 has a new one before the handshake is over */
    SSL *ssl = SSL_new(ctx);

    NEED(fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0);
    NEED(ssl && SSL_set_fd(ssl, fd) == 1);
    NEED(!resumes || SSL_set_session(ssl, session));
    if (early >= 0)
        ask(ssl, early, 1);
    NEED(SSL_connect(ssl) == 1);
    NEED(!resumes || SSL_session_reused(ssl));
    NEED(early < 0 || SSL_get_early_data_status(ssl) == SSL_EARLY_DATA_ACCEPTED);
    return ssl;
}

/* Connections to a server that says nothing; the first one tells nothing but a session. */
static void resumed(SSL_CTX *ctx, int port, int count, int early)
{
    SSL *first = connect_to(ctx, port, -1);
    struct timeval wait = {0, 10000};
    char c;

    NEED(setsockopt(SSL_get_fd(first), SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) == 0);
    while (!session)
        SSL_read(first, &c, 1);
    SSL_shutdown(first);
    close(SSL_get_fd(first));
    for (int i = 0; i < count; i++) {
        SSL *ssl = connect_to(ctx, port, early ? 2 * i : -1);

        if (!early)
            ask(ssl, 2 * i, 0);
        ask(ssl, 2 * i + 1, 0);
        SSL_shutdown(ssl);
        while (SSL_read(ssl, &c, 1) > 0) /* until the server has seen it */
            continue;
        close(SSL_get_fd(ssl));
        SSL_free(ssl);
    }
}

int main(int argc, char **argv)
{
    int port = argc > 2 ? atoi(argv[1]) : 0, count = argc > 2 ? atoi(argv[2]) : 0;
    const char *how = getenv("LINKED_HOW") ? getenv("LINKED_HOW") : "";
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL **ssl = calloc((size_t)count + 1, sizeof(SSL *));
    unsigned long got = 0;

    NEED(ctx && ssl && count > 0);
    if (argc > 3 && strcmp(argv[3], "1.2") == 0)
        NEED(SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION));
    if (argc > 4)
        NEED(strncmp(argv[4], "TLS_", 4) ? SSL_CTX_set_cipher_list(ctx, argv[4])
                                         : SSL_CTX_set_ciphersuites(ctx, argv[4]));
    if (getenv("LINKED_KEYS"))
        SSL_CTX_set_keylog_callback(ctx, tell_secret);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT);
    if (strcmp(how, "resume") == 0 || strcmp(how, "early") == 0) {
        SSL_CTX_sess_set_new_cb(ctx, keep_session);
        resumed(ctx, port, count, strcmp(how, "early") == 0);
        return 0;
    }
    for (int i = 0; i < count; i++)
        ssl[i] = connect_to(ctx, port, -1);
    if (strcmp(how, "fork") == 0) {
        pid_t child = fork();
        int status;

        NEED(child >= 0);
        if (child) {
            NEED(waitpid(child, &status, 0) == child);
            return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
        }
    }
    for (int i = 0; i < count; i++)
        ask(ssl[i], i, 0);
    for (int i = 0; i < count; i++)
        got += read_all(ssl[i]);
    printf("%lu\n", got);
    return 0;
}
