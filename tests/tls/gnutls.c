/* SPDX-License-Identifier: Apache-2.0 */
/* As openssl.c, for GnuTLS: gnutls CERTIFICATE KEY. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <gnutls/gnutls.h>

#include "log.h"

static void get(gnutls_session_t s, size_t size)
{
    char buf[4096];

    while (size) {
        ssize_t n = gnutls_record_recv(s, buf, size < sizeof(buf) ? size : sizeof(buf));

        NEED(n > 0);
        print_bytes(s, "rx", buf, (size_t)n);
        size -= (size_t)n;
    }
}

static void *accept_one(void *arg)
{
    NEED(gnutls_handshake(arg) == 0);
    return NULL;
}

static gnutls_session_t begin(unsigned flags, int fd, gnutls_certificate_credentials_t cred)
{
    gnutls_session_t s;

    NEED(gnutls_init(&s, flags) == 0);
    NEED(gnutls_set_default_priority(s) == 0);
    NEED(gnutls_credentials_set(s, GNUTLS_CRD_CERTIFICATE, cred) == 0);
    gnutls_transport_set_int(s, fd);
    printf("new %p\n", (void *)s);
    return s;
}

/* The first part of what is sent goes nowhere, then what is left does. */
static int refuse;

static ssize_t push(gnutls_transport_ptr_t p, const void *data, size_t size)
{
    if (refuse) {
        errno = EAGAIN;
        return -1;
    }
    return write((int)(long)p, data, size);
}

int main(int argc, char **argv)
{
    gnutls_certificate_credentials_t client_cred, server_cred;
    gnutls_session_t client, server;
    unsigned char seq[8];
    char buf[20000];
    pthread_t t;
    int fd[2];

    NEED(argc == 3 && gnutls_global_init() == 0);
    NEED(gnutls_certificate_allocate_credentials(&client_cred) == 0);
    NEED(gnutls_certificate_allocate_credentials(&server_cred) == 0);
    NEED(gnutls_certificate_set_x509_key_file(server_cred, argv[1], argv[2], GNUTLS_X509_FMT_PEM) == 0);
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == 0);
    client = begin(GNUTLS_CLIENT, fd[0], client_cred);
    server = begin(GNUTLS_SERVER, fd[1], server_cred);
    NEED(pthread_create(&t, NULL, accept_one, server) == 0);
    NEED(gnutls_handshake(client) == 0);
    pthread_join(t, NULL);

    for (size_t size = 1; size < sizeof(buf); size = size * 3 + 1) {
        for (size_t i = 0; i < size; i++)
            buf[i] = (char)(i * 5 + size);
        for (size_t at = 0; at < size;) { /* a record at a time */
            ssize_t n = gnutls_record_send(client, buf + at, size - at);

            NEED(n > 0);
            print_bytes(client, "tx", buf + at, (size_t)n);
            at += (size_t)n;
        }
        get(server, size);
    }
    NEED(gnutls_record_send2(server, "padded", 6, 10, 0) == 6);
    print_bytes(server, "tx", "padded", 6);
    NEED(gnutls_record_recv_seq(client, buf, sizeof(buf), seq) == 6);
    print_bytes(client, "rx", buf, 6);
    /* Told when it is given, and only then. */
    gnutls_record_cork(client);
    NEED(gnutls_record_send(client, "cor", 3) == 3);
    print_bytes(client, "tx", "cor", 3);
    NEED(gnutls_record_send(client, "ked", 3) == 3);
    print_bytes(client, "tx", "ked", 3);
    NEED(gnutls_record_uncork(client, GNUTLS_RECORD_WAIT) == 6);
    get(server, 6);
    /* Given in a call that fails; the one that goes on says no more than how much it was. */
    gnutls_transport_set_ptr(client, (gnutls_transport_ptr_t)(long)fd[0]); // NOLINT(performance-no-int-to-ptr)
    gnutls_transport_set_push_function(client, push);
    refuse = 1;
    NEED(gnutls_record_send(client, "again", 5) == GNUTLS_E_AGAIN);
    refuse = 0;
    NEED(gnutls_record_send(client, NULL, 0) == 5);
    printf("gap 5\n");
    get(server, 5);
    gnutls_bye(client, GNUTLS_SHUT_WR);
    NEED(gnutls_record_recv(server, buf, sizeof(buf)) == 0);
    gnutls_deinit(client);
    gnutls_deinit(server);
    print_end();
    return 0;
}
