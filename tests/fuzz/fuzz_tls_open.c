/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arbitrary bytes as records of a connection (passages.h). The first byte says
 * which suite, whether it was joined half-way, and whether keys come late; records are sealed for it here where the input asks for that, by a
 * passage of type 0xf0 to 0xf3: what is in it is sealed under one of four keys, all
 * of which are candidates. Without keys of one's own nothing is ever opened.
 */
#include <openssl/evp.h>

#include "passages.h"
#include "protocol/tls_open.h"

struct told {
    struct buf *text;
    struct tls_open *open;
    bool tls13;
    uint64_t seq[4];
    unsigned used;
};

static void make_key(unsigned n, struct tls_open_key *ret)
{
    *ret = (struct tls_open_key){.len = 16};
    memset(ret->bytes, 'k' + (int)n, sizeof(ret->bytes));
}

static bool on_key(void *owner, uint64_t *at, struct tls_open_key *ret)
{
    const struct told *t = owner;

    while (*at < 4 && t->used & 1u << *at)
        ++*at;
    if (*at >= 4)
        return false;
    make_key((unsigned)(*at)++, ret);
    return true;
}

static void on_fits(void *owner, uint64_t at)
{
    struct told *t = owner;

    if (at < 1 || at > 4 || t->used & 1u << (at - 1))
        abort();
    t->used |= 1u << (at - 1);
}

static void on_plain(void *owner, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    struct told *t = owner;

    (void)time_ns;
    if (!len || !t->used || len > TLS_OPEN_RECORD)
        abort();
    buf_printf(t->text, "%d %d %llu ", dir, data != NULL, (unsigned long long)len);
    if (data)
        buf_add(t->text, data, len);
}

static void on_missed(void *owner, enum proto_dir dir, uint64_t time_ns)
{
    (void)time_ns;
    buf_printf(((struct told *)owner)->text, "missed %d ", dir);
}

static const struct tls_open_sink sink = {on_key, on_fits, on_plain, on_missed};

/* Seals data (its last byte is the type inside, for TLS 1.3) as the next record under key n. */
static size_t seal(struct told *t, unsigned n, const uint8_t *data, size_t len, uint8_t *out)
{
    uint8_t nonce[12] = {1, 2, 3, 4, 5}, aad[13] = {0};
    size_t front = t->tls13 ? 0 : 8, body = front + len + 16;
    struct tls_open_key key;
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    int k;

    make_key(n, &key);
    nonce[11] = (uint8_t)t->seq[n];
    aad[7] = (uint8_t)t->seq[n]++;
    out[0] = 23;
    out[1] = out[2] = 3;
    out[3] = (uint8_t)(body >> 8);
    out[4] = (uint8_t)body;
    memcpy(out + 5, nonce + 4, front);
    memcpy(aad + 8, out, 3);
    aad[11] = (uint8_t)(len >> 8);
    aad[12] = (uint8_t)len;
    EVP_EncryptInit_ex(c, EVP_aes_128_gcm(), NULL, key.bytes, nonce);
    EVP_EncryptUpdate(c, NULL, &k, t->tls13 ? out : aad, t->tls13 ? 5 : 13);
    EVP_EncryptUpdate(c, out + 5 + front, &k, data, (int)len);
    EVP_EncryptFinal_ex(c, out + 5 + front + len, &k);
    EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, 16, out + 5 + front + len);
    EVP_CIPHER_CTX_free(c);
    return 5 + body;
}

static void run(const uint8_t *data, size_t size, size_t chunk, struct buf *text)
{
    struct told t = {.text = text};
    struct passage p;

    if (!size)
        return;
    t.tls13 = *data & 1;
    t.open = tls_open_new(&sink, &t);
    if (*data & 4)
        tls_open_join(t.open);
    if (*data & 8)
        tls_open_late(t.open);
    if (!(*data & 2))
        tls_open_agreed(t.open, t.tls13 ? 0x304 : 0x303, t.tls13 ? 0x1301 : 0xc02f);
    data++;
    size--;
    while (next_passage(&data, &size, &p)) {
        static uint8_t record[65536 + 64];
        size_t len = p.len;

        if (!p.gap && len > 1 && p.data[0] >= 0xf0 && p.data[0] < 0xf4 && len < 16384)
            len = seal(&t, p.data[0] & 3u, p.data + 1, len - 1, record);
        else
            memcpy(record, p.data, len);
        for (size_t at = 0, n; at < len; at += n) {
            n = chunk && chunk < len - at ? chunk : len - at;
            tls_open_feed(t.open, p.dir, p.gap ? NULL : record + at, n, 1);
        }
    }
    tls_open_agreed(t.open, t.tls13 ? 0x304 : 0x303, t.tls13 ? 0x1301 : 0xc02f);
    tls_open_retry(t.open, true, 2);
    tls_open_mark(t.open);
    tls_open_leave(t.open, 3);
    buf_printf(text, "state %d", tls_open_state(t.open));
    tls_open_free(t.open);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    expect_same(run, data, size);
    return 0;
}
