// SPDX-License-Identifier: Apache-2.0
// A callback inside SSL_read throws.
#include <cstdio>
#include <stdexcept>

#include <openssl/bio.h>
#include <openssl/ssl.h>

struct Guard {
    int n;
    ~Guard() { std::printf("destructor %d\n", n); }
};

static long on_bio(BIO *, int oper, const char *, size_t, int, long, int ret, size_t *)
{
    Guard inner{1};

    if (oper == BIO_CB_READ)
        throw std::runtime_error("thrown inside");
    return ret;
}

static void read_one(SSL *ssl)
{
    Guard outer{2};
    char c;

    SSL_read(ssl, &c, 1);
    std::puts("not reached");
}

int main()
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

    for (int i = 0; i < 10; i++) {
        SSL *ssl = SSL_new(ctx);
        BIO *bio = BIO_new(BIO_s_mem());

        BIO_set_callback_ex(bio, on_bio);
        SSL_set_bio(ssl, bio, bio);
        SSL_set_connect_state(ssl);
        try {
            read_one(ssl);
        } catch (const std::exception &e) {
            std::printf("caught: %s\n", e.what());
        }
    }
    return 0;
}
