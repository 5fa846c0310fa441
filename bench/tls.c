/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls read|write BATCHES CALLS
 *
 * SSL_read(3) or SSL_write(3) of 16 bytes through memory: what is added where
 * plaintext is captured, and where the library's transport is watched for its
 * first bytes. Between two batches is time to empty the ring. Prints the lowest
 * and the median batch in nanoseconds per call. The cipher suite needs no
 * certificate.
 */
#include <unistd.h>

#include <openssl/ssl.h>

#include "timing.h"

#define SIZE 16
#define BUFFER (1 << 22) /* BATCHES of more than BUFFER / 64 calls don't fit */

static unsigned psk(unsigned char *to, unsigned max)
{
    memset(to, 1, max < 32 ? max : 32);
    return max < 32 ? max : 32;
}

static unsigned client_psk(SSL *ssl, const char *hint, char *identity, unsigned identity_max, unsigned char *to,
                           unsigned max)
{
    (void)ssl;
    (void)hint;
    snprintf(identity, identity_max, "bench");
    return psk(to, max);
}

static unsigned server_psk(SSL *ssl, const char *identity, unsigned char *to, unsigned max)
{
    (void)ssl;
    (void)identity;
    return psk(to, max);
}

static SSL *end_of(const SSL_METHOD *method, BIO *bio)
{
    SSL_CTX *ctx = SSL_CTX_new(method);
    SSL *ssl = ctx ? SSL_new(ctx) : NULL;

    if (!ssl || !SSL_set_max_proto_version(ssl, TLS1_2_VERSION) || !SSL_set_cipher_list(ssl, "PSK-AES128-GCM-SHA256"))
        exit(1);
    SSL_set_psk_client_callback(ssl, client_psk);
    SSL_set_psk_server_callback(ssl, server_psk);
    SSL_set_bio(ssl, bio, bio);
    return ssl;
}

int main(int argc, char **argv)
{
    char bytes[SIZE] = "";
    BIO *a, *b;

    if (argc != 4) {
        fprintf(stderr, "usage: tls read|write BATCHES CALLS\n");
        return 2;
    }
    int writing = strcmp(argv[1], "write") == 0;
    long batches = number(argv[2]), calls = number(argv[3]);
    double *ns = calloc((size_t)batches, sizeof(*ns));

    if (!ns || !BIO_new_bio_pair(&a, BUFFER, &b, BUFFER))
        exit(1);
    SSL *client = end_of(TLS_client_method(), a), *server = end_of(TLS_server_method(), b);
    SSL_set_connect_state(client);
    SSL_set_accept_state(server);
    for (int i = 0; i < 10; i++) {
        SSL_do_handshake(client);
        SSL_do_handshake(server);
    }
    for (long n = 0; n < batches; n++) {
        for (int reads = 0; reads < 2; reads++) {
            uint64_t start = now_ns();

            for (long i = 0; i < calls; i++)
                if ((reads ? SSL_read(server, bytes, SIZE) : SSL_write(client, bytes, SIZE)) != SIZE) {
                    fprintf(stderr, "tls: %s failed\n", reads ? "SSL_read" : "SSL_write");
                    exit(1);
                }
            if (reads != writing)
                ns[n] = (double)(now_ns() - start) / (double)calls;
        }
        usleep(5000);
    }
    print_low_and_median(ns, (size_t)batches);
    free(ns);
    return 0;
}
