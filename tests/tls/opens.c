/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A second opinion on plaintext: opens the records of one connection by src/protocol/tls_open.c, as the collector does.
 *
 *   opens VERSION CIPHER KEYS PIECES RX TX
 *
 * VERSION and CIPHER as the ServerHello has them, in hexadecimal. KEYS: one in hexadecimal for each line, which are tried
 * behind 1,000 false ones. PIECES: what passed, in order: 'r' or 't', 4 bytes of length (of this machine), bytes. RX and
 * TX: where the plaintext goes. Exit status 1: something could not be opened.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/tls_open.h"

#define FALSE_KEYS 1000u
#define KEYS_MAX 64u

static struct tls_open_key keys[KEYS_MAX];
static uint64_t key_count;
static FILE *out[PROTO_DIRS];

static bool key(void *owner, uint64_t *at, struct tls_open_key *ret)
{
    (void)owner;
    if (*at >= FALSE_KEYS + key_count)
        return false;
    if (*at >= FALSE_KEYS) {
        *ret = keys[*at - FALSE_KEYS];
    } else { /* one bit of a true one is wrong, or more */
        *ret = keys[*at % key_count];
        ret->bytes[*at / key_count % ret->len] ^= (uint8_t)(1 + *at / key_count / ret->len);
    }
    ++*at;
    return true;
}

static void fits(void *owner, uint64_t at)
{
    (void)owner;
    if (at <= FALSE_KEYS) {
        fprintf(stderr, "a false key was taken: %llu\n", (unsigned long long)at);
        exit(1);
    }
}

static void missed(void *owner, enum proto_dir dir, uint64_t time_ns)
{
    (void)owner;
    (void)time_ns;
    fprintf(stderr, "something is missing in direction %d\n", dir);
    exit(1);
}

static void plain(void *owner, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    if (!data)
        missed(owner, dir, time_ns);
    fwrite(data, 1, len, out[dir]);
}

static void read_keys(const char *path)
{
    FILE *f = fopen(path, "r");
    char line[80];

    while (f && key_count < KEYS_MAX && fgets(line, sizeof(line), f)) {
        struct tls_open_key *k = &keys[key_count++];

        for (k->len = 0; k->len < 32 && sscanf(line + 2 * k->len, "%2hhx", &k->bytes[k->len]) == 1; k->len++) {
        }
    }
    if (!f || !key_count)
        exit(2);
    fclose(f);
}

int main(int argc, char **argv)
{
    static const struct tls_open_sink sink = {.key = key, .fits = fits, .plain = plain, .missed = missed};
    static uint8_t data[1 << 20];
    struct tls_open *o = tls_open_new(&sink, NULL);
    uint64_t now = 1;
    uint32_t len;
    FILE *f;
    int c;

    if (argc != 7 || !(f = fopen(argv[4], "rb")) || !(out[PROTO_RX] = fopen(argv[5], "wb")) ||
        !(out[PROTO_TX] = fopen(argv[6], "wb")))
        return 2;
    read_keys(argv[3]);
    tls_open_agreed(o, (uint16_t)strtoul(argv[1], NULL, 16), (uint16_t)strtoul(argv[2], NULL, 16));
    while ((c = getc(f)) != EOF) {
        if (fread(&len, sizeof(len), 1, f) != 1 || len > sizeof(data) || fread(data, 1, len, f) != len)
            return 2;
        tls_open_feed(o, c == 't' ? PROTO_TX : PROTO_RX, data, len, now++);
    }
    tls_open_end(o, now);
    if (tls_open_state(o) != TLS_OPEN_READS || tls_open_waiting(o)) {
        fprintf(stderr, "state %d, %zu bytes wait\n", (int)tls_open_state(o), tls_open_waiting(o));
        return 1;
    }
    tls_open_free(o);
    fclose(f);
    return fclose(out[PROTO_RX]) || fclose(out[PROTO_TX]);
}
