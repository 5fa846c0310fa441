/* SPDX-License-Identifier: Apache-2.0 */
/* A client of Mbed TLS: mbedtls PORT. Asks, and prints the body of the answer. */
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    mbedtls_ctr_drbg_context random;
    mbedtls_entropy_context entropy;
    mbedtls_net_context net;
    mbedtls_ssl_config config;
    mbedtls_ssl_context ssl;
    static char answer[1 << 20];
    size_t len = 0;
    char *body;
    int n;

    NEED(argc == 2);
    mbedtls_entropy_init(&entropy);
    mbedtls_ctr_drbg_init(&random);
    mbedtls_net_init(&net);
    mbedtls_ssl_config_init(&config);
    mbedtls_ssl_init(&ssl);
    NEED(mbedtls_ctr_drbg_seed(&random, mbedtls_entropy_func, &entropy, NULL, 0) == 0);
    NEED(mbedtls_net_connect(&net, "127.0.0.1", argv[1], MBEDTLS_NET_PROTO_TCP) == 0);
    NEED(mbedtls_ssl_config_defaults(&config, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT) == 0);
    mbedtls_ssl_conf_authmode(&config, MBEDTLS_SSL_VERIFY_NONE);
    mbedtls_ssl_conf_rng(&config, mbedtls_ctr_drbg_random, &random);
    NEED(mbedtls_ssl_setup(&ssl, &config) == 0);
    mbedtls_ssl_set_bio(&ssl, &net, mbedtls_net_send, mbedtls_net_recv, NULL);
    NEED(mbedtls_ssl_handshake(&ssl) == 0);
    NEED(mbedtls_ssl_write(&ssl, (const unsigned char *)request, sizeof(request) - 1) == sizeof(request) - 1);
    while (!complete(answer, len) && len < sizeof(answer) - 1 && (n = mbedtls_ssl_read(&ssl, (unsigned char *)answer + len, sizeof(answer) - 1 - len)) > 0)
        len += (size_t)n;
    body = strstr(answer, "\r\n\r\n");
    NEED(body);
    body += 4;
    NEED(fwrite(body, 1, (size_t)(answer + len - body), stdout) == (size_t)(answer + len - body));
    mbedtls_ssl_free(&ssl);
    mbedtls_ssl_config_free(&config);
    mbedtls_net_free(&net);
    mbedtls_ctr_drbg_free(&random);
    mbedtls_entropy_free(&entropy);
    return 0;
}
