/* SPDX-License-Identifier: Apache-2.0 */
/* Functions that are called as those of OpenSSL are, and do something else. */
#include <stddef.h>
#include <stdio.h>

#define OURS __attribute__((noinline, noclone, visibility("default")))

void *SSL_CTX_new(void *method);
int SSL_read(void *ssl, void *buf, int num);
int SSL_write_ex(void *ssl, const void *buf, size_t num, size_t *written);
void *SSL_new(void *ctx);

static volatile int calls;

OURS void *SSL_CTX_new(void *method)
{
    calls++;
    return method;
}

OURS int SSL_read(void *ssl, void *buf, int num)
{
    (void)ssl, (void)buf;
    calls++;
    return num;
}

OURS int SSL_write_ex(void *ssl, const void *buf, size_t num, size_t *written)
{
    (void)ssl, (void)buf, (void)num, (void)written;
    calls++;
    return 1;
}

OURS void *SSL_new(void *ctx)
{
    calls++;
    return ctx;
}

int main(void)
{
    for (int i = 0; i < 100; i++) {
        SSL_new((void *)16);
        printf("%d %d\n", SSL_read((void *)8, NULL, 5), SSL_read(NULL, (void *)4096, 1 << 30));
        printf("%d\n", SSL_write_ex(NULL, (void *)-8, 1 << 20, (size_t *)(calls % 2 ? 8 : 65536)));
    }
    printf("%d\n", calls);
    return 0;
}
