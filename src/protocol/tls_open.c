/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/tls_open.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define HEAD 5u
#define TAG 16u
#define NONCE 12u
#define EXPLICIT 8u /* of the nonce, in records of TLS 1.2 (RFC 5288, section 3) */
#define GUESSES 256u /* of ciphertext one of 16 million bytes looks as if a record began; each guess costs a record */
#define TURNS 4096u /* are told apart in what waits */
#define ORDER_NS UINT64_C(5000000000) /* one direction waits so long for the other one, as requests come before responses */
#define TLS_1_2 0x0303
#define TLS_1_3 0x0304

/* ContentType (RFC 8446, appendix B.1) */
enum { CHANGE_CIPHER_SPEC = 20, ALERT = 21, HANDSHAKE = 22, APPLICATION_DATA = 23 };

/* Bytes of a direction that came without any of the other one between. */
struct turn {
    size_t end;            /* in buf */
    uint64_t number;       /* of both directions */
    uint64_t time_ns;      /* of the last of them */
};

struct side {
    uint8_t *buf;          /* records that wait, the first from its first byte on */
    size_t len, cap;
    struct turn *turns;    /* in which buf came */
    size_t turn_count, turn_cap;
    uint64_t pass;         /* bytes of a record of which a part was not captured, that are still to come */
    EVP_CIPHER_CTX *gcm;   /* NULL: no key yet */
    struct tls_open_key key;
    uint8_t iv[NONCE];     /* TLS 1.3: nonce of record 0; 1.2: salt and explicit nonce of record `from` */
    uint64_t seq;          /* of the next record under this key */
    uint64_t tried;        /* candidates up to this one don't open the first record */
    uint64_t since_ns;     /* when it began to wait; 0: it doesn't, and nothing was left out since the last record */
    uint32_t trials;       /* since then */
    uint8_t over;          /* enum tls_open_state, if that is the end of it; else 0 */
    bool begun;            /* TLS 1.2: what comes is encrypted */
    bool waits;            /* for a key */
    bool adrift;           /* where records begin isn't known */
    uint16_t guesses;      /* where one might have */
    uint64_t from;         /* number of the record that iv is of */
    size_t marked;         /* bytes of buf that were there at tls_open_mark() */
};

struct tls_open {
    const struct tls_open_sink *sink;
    void *owner;
    uint16_t version;      /* 0: not agreed yet */
    uint8_t key_len;       /* of the suite; 0: not known, either */
    bool opened;           /* something was */
    uint8_t last;          /* direction that was fed last */
    uint64_t turn;         /* its number */
    bool joined;           /* half-way: neither hellos nor numbers of records are known */
    bool late;             /* a key may come when records under it have passed: their numbers aren't known */
    bool thorough;         /* candidates are tried with numbers that can only be guessed */
    bool hurries;          /* directions don't wait for each other */
    struct side sides[PROTO_DIRS];
    uint8_t *plain;        /* what a record held, while it is told */
    size_t plain_cap;
};

/* A record as it stands in the buffer. */
struct rec {
    const uint8_t *head, *body, *tag; /* body: ciphertext */
    size_t len;                       /* of the ciphertext, without tag */
    const uint8_t *explicit_nonce;    /* NULL: TLS 1.3 */
};

static size_t record_len(const uint8_t *head)
{
    return (size_t)head[3] << 8 | head[4];
}

static uint64_t load64(const uint8_t *p)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < 8; i++)
        v = v << 8 | p[i];
    return v;
}

static void store64(uint8_t *p, uint64_t v)
{
    for (unsigned i = 8; i-- > 0; v >>= 8)
        p[i] = (uint8_t)v;
}

static bool take_apart(uint16_t version, const uint8_t *head, struct rec *r)
{
    size_t len = record_len(head), front = version == TLS_1_3 ? 0 : EXPLICIT;

    if (len < front + TAG + (version == TLS_1_3)) /* that has at least a type inside */
        return false;
    r->head = head;
    r->explicit_nonce = front ? head + HEAD : NULL;
    r->body = head + HEAD + front;
    r->len = len - front - TAG;
    r->tag = r->body + r->len;
    return true;
}

/* What is authenticated, too (RFC 8446, section 5.2; RFC 5246, section 6.2.3.3). */
static size_t additional(const struct rec *r, uint64_t seq, uint8_t ret[13])
{
    if (!r->explicit_nonce) {
        memcpy(ret, r->head, HEAD);
        return HEAD;
    }
    store64(ret, seq);
    memcpy(ret + 8, r->head, 3);
    ret[11] = (uint8_t)(r->len >> 8);
    ret[12] = (uint8_t)r->len;
    return 13;
}

/* --- candidates --- */

/* What is needed to look at one record with many keys. */
struct trial {
    EVP_CIPHER_CTX *open, *seal, *one, *back; /* GCM both ways, single blocks both ways */
    uint8_t text[TLS_OPEN_RECORD];
};

static void trial_end(struct trial *t)
{
    if (!t)
        return;
    EVP_CIPHER_CTX_free(t->open); /* these wipe */
    EVP_CIPHER_CTX_free(t->seal);
    EVP_CIPHER_CTX_free(t->one);
    EVP_CIPHER_CTX_free(t->back);
    OPENSSL_cleanse(t, sizeof(*t));
    free(t);
}

/* NULL: there is no memory. */
static struct trial *trial_begin(size_t key_len)
{
    const EVP_CIPHER *gcm = key_len == 16 ? EVP_aes_128_gcm() : EVP_aes_256_gcm();
    const EVP_CIPHER *ecb = key_len == 16 ? EVP_aes_128_ecb() : EVP_aes_256_ecb();
    struct trial *t = xmalloc(sizeof(*t));

    t->open = EVP_CIPHER_CTX_new();
    t->seal = EVP_CIPHER_CTX_new();
    t->one = EVP_CIPHER_CTX_new();
    t->back = EVP_CIPHER_CTX_new();
    if (t->open && t->seal && t->one && t->back && EVP_DecryptInit_ex(t->open, gcm, NULL, NULL, NULL) > 0 &&
        EVP_EncryptInit_ex(t->seal, gcm, NULL, NULL, NULL) > 0 &&
        EVP_EncryptInit_ex(t->one, ecb, NULL, NULL, NULL) > 0 && EVP_DecryptInit_ex(t->back, ecb, NULL, NULL, NULL) > 0) {
        EVP_CIPHER_CTX_set_padding(t->one, 0);
        EVP_CIPHER_CTX_set_padding(t->back, 0);
        return t;
    }
    trial_end(t);
    return NULL;
}

/* E(K, nonce || 1), if the key has sealed the record, else anything. OpenSSL has no function for GHASH, but the tag of the
 * same ciphertext under a nonce of ours is GHASH xor one block that can be had. */
static bool first_block(struct trial *t, const struct rec *r, const uint8_t *key, uint64_t seq, uint8_t ret[16])
{
    static const uint8_t ours[16] = {[15] = 1};
    uint8_t aad[13], mask[16], tag[TAG];
    int n, aad_len = (int)additional(r, seq, aad), len = (int)r->len;

    if (EVP_EncryptInit_ex(t->one, NULL, NULL, key, NULL) <= 0 || EVP_EncryptUpdate(t->one, mask, &n, ours, 16) <= 0 ||
        EVP_DecryptInit_ex(t->open, NULL, NULL, key, ours) <= 0 || EVP_DecryptUpdate(t->open, t->text, &n, r->body, len) <= 0 ||
        EVP_EncryptInit_ex(t->seal, NULL, NULL, key, ours) <= 0 || EVP_EncryptUpdate(t->seal, NULL, &n, aad, aad_len) <= 0 ||
        EVP_EncryptUpdate(t->seal, t->text, &n, t->text, len) <= 0 || EVP_EncryptFinal_ex(t->seal, t->text + len, &n) <= 0 ||
        EVP_CIPHER_CTX_ctrl(t->seal, EVP_CTRL_AEAD_GET_TAG, TAG, tag) <= 0)
        return false;
    for (unsigned i = 0; i < TAG; i++)
        ret[i] = tag[i] ^ mask[i] ^ r->tag[i];
    return EVP_DecryptInit_ex(t->back, NULL, NULL, key, NULL) > 0;
}

/* Whether that is what a decrypted block would be. */
static bool is_nonce(const struct rec *r, const uint8_t block[16])
{
    return !block[12] && !block[13] && !block[14] && block[15] == 1 &&
           (!r->explicit_nonce || !memcmp(block + NONCE - EXPLICIT, r->explicit_nonce, EXPLICIT));
}

/* The nonce under which a key has sealed the record; false: it hasn't. */
static bool nonce_of(struct trial *t, const struct rec *r, const uint8_t *key, uint64_t seq, uint8_t ret[NONCE])
{
    uint8_t block[16];
    int n;

    if (!first_block(t, r, key, seq, block) || EVP_DecryptUpdate(t->back, block, &n, block, 16) <= 0)
        return false;
    memcpy(ret, block, NONCE);
    return is_nonce(r, block);
}

/* The same where only TLS 1.2 has the number of the record, which is part of what the tag is of. It has no more
 * than TLS_OPEN_NUMBER_BITS, or nothing is found. GHASH is linear: each bit of the number adds the same to it, whatever the others
 * are; so they are gone through in such an order (Gray's) that each time one bit changes. */
static bool number_of(struct trial *t, const struct rec *r, const uint8_t *key, uint64_t *ret_seq)
{
    enum { BATCH = 256 };
    uint8_t bit[TLS_OPEN_NUMBER_BITS][16], block[16], in[BATCH][16], out[BATCH][16];
    uint64_t seq[BATCH], gray = 0;
    int n;

    for (unsigned b = 0; b < TLS_OPEN_NUMBER_BITS; b++)
        if (!first_block(t, r, key, UINT64_C(1) << b, bit[b]))
            return false;
    if (!first_block(t, r, key, 0, block))
        return false;
    for (unsigned b = 0; b < TLS_OPEN_NUMBER_BITS; b++)
        for (unsigned i = 0; i < 16; i++)
            bit[b][i] ^= block[i];
    for (uint64_t at = 0; at < UINT64_C(1) << TLS_OPEN_NUMBER_BITS;) {
        for (unsigned i = 0; i < BATCH; i++, at++) {
            unsigned flip = (unsigned)__builtin_ctzll(at + 1);

            memcpy(in[i], block, 16);
            seq[i] = gray;
            if (flip < TLS_OPEN_NUMBER_BITS) {
                gray ^= UINT64_C(1) << flip;
                for (unsigned k = 0; k < 16; k++)
                    block[k] ^= bit[flip][k];
            }
        }
        if (EVP_DecryptUpdate(t->back, out[0], &n, in[0], sizeof(in)) <= 0)
            return false;
        for (unsigned i = 0; i < BATCH; i++) {
            if (is_nonce(r, out[i])) {
                *ret_seq = seq[i];
                return true;
            }
        }
    }
    return false;
}

/* --- opening --- */

static void forget_key(struct side *s)
{
    EVP_CIPHER_CTX_free(s->gcm);
    s->gcm = NULL;
    OPENSSL_cleanse(&s->key, sizeof(s->key));
}

static bool take_key(struct side *s, const struct tls_open_key *key, const uint8_t nonce[NONCE], uint64_t seq)
{
    forget_key(s);
    s->gcm = EVP_CIPHER_CTX_new();
    if (!s->gcm ||
        EVP_DecryptInit_ex(s->gcm, key->len == 16 ? EVP_aes_128_gcm() : EVP_aes_256_gcm(), NULL, key->bytes, NULL) <= 0) {
        forget_key(s);
        return false;
    }
    s->key = *key;
    s->seq = s->from = seq;
    memcpy(s->iv, nonce, NONCE);
    return true;
}

/* Opens a record into o->plain. */
static bool open_with(struct tls_open *o, struct side *s, const struct rec *r, uint64_t seq)
{
    uint8_t nonce[NONCE], aad[13], tag[TAG];
    int n, aad_len = (int)additional(r, seq, aad);

    if (!s->gcm)
        return false;
    if (r->len > o->plain_cap) {
        o->plain = xrealloc(o->plain, r->len, 1);
        o->plain_cap = r->len;
    }
    memcpy(nonce, s->iv, NONCE);
    if (r->explicit_nonce)
        memcpy(nonce + NONCE - EXPLICIT, r->explicit_nonce, EXPLICIT);
    else
        store64(nonce + NONCE - 8, load64(s->iv + NONCE - 8) ^ seq);
    memcpy(tag, r->tag, TAG);
    return EVP_DecryptInit_ex(s->gcm, NULL, NULL, NULL, nonce) > 0 &&
           EVP_DecryptUpdate(s->gcm, NULL, &n, aad, aad_len) > 0 &&
           EVP_DecryptUpdate(s->gcm, o->plain, &n, r->body, (int)r->len) > 0 &&
           EVP_CIPHER_CTX_ctrl(s->gcm, EVP_CTRL_AEAD_SET_TAG, TAG, tag) > 0 &&
           EVP_DecryptFinal_ex(s->gcm, o->plain + r->len, &n) > 0;
}

/* The type of what was opened, and its length without padding; 0: none. */
static uint8_t content(const struct tls_open *o, const struct rec *r, size_t *ret_len)
{
    size_t n = r->len;

    *ret_len = n;
    if (r->explicit_nonce)
        return r->head[0];
    while (n && !o->plain[n - 1])
        n--;
    if (!n)
        return 0;
    *ret_len = n - 1;
    return o->plain[n - 1];
}

/* Whether it may be what is inside of a record: where that is all that is known beside the nonce. Messages of a handshake:
 * RFC 8446, appendix B.3. */
static bool is_sane(const struct tls_open *o, const struct rec *r)
{
    size_t len;
    uint8_t type = content(o, r, &len);

    if (type == ALERT)
        return len == 2 && (o->plain[0] == 1 || o->plain[0] == 2);
    if (type == HANDSHAKE)
        return len >= 4 && o->plain[0] && o->plain[0] <= 26 && o->plain[1] < 4;
    return type == APPLICATION_DATA;
}

/* The first record is under a candidate, the nonce says: takes it, unless what is in it refutes that. */
static bool change_key(struct tls_open *o, struct side *s, const struct rec *r, const struct tls_open_key *key,
                       const uint8_t nonce[NONCE], uint64_t seq)
{
    struct side was = *s;

    s->gcm = NULL;
    if (take_key(s, key, nonce, seq) && open_with(o, s, r, seq) && is_sane(o, r)) {
        EVP_CIPHER_CTX_free(was.gcm);
        OPENSSL_cleanse(&was, sizeof(was));
        return true;
    }
    forget_key(s);
    *s = was;
    return false;
}

/* Whether the first record is under a candidate, which is taken then. */
static bool try_key(struct tls_open *o, struct side *s, struct trial *t, const struct rec *r, const struct tls_open_key *key)
{
    bool unknown = r->explicit_nonce && (o->joined || o->late);
    uint64_t seq = unknown ? load64(r->explicit_nonce) : 0; /* which BoringSSL and Go have there */
    uint8_t nonce[NONCE];
    bool yes = nonce_of(t, r, key->bytes, seq, nonce);

    if (!yes && unknown && o->thorough)
        yes = number_of(t, r, key->bytes, &seq) && nonce_of(t, r, key->bytes, seq, nonce);
    return yes && change_key(o, s, r, key, nonce, seq);
}

/* The same as a record of the version that was agreed on, or of both. */
static bool try_versions(struct tls_open *o, struct side *s, struct trial *t, const uint8_t *head,
                         const struct tls_open_key *key, struct rec *ret)
{
    static const uint16_t versions[] = {TLS_1_3, TLS_1_2};

    for (unsigned i = 0; i < 2; i++)
        if ((!o->version || o->version == versions[i]) && take_apart(versions[i], head, ret) && try_key(o, s, t, ret, key)) {
            o->version = versions[i];
            o->key_len = key->len;
            return true;
        }
    return false;
}

/* Tries what candidates there are on the first record. */
static bool find_key(struct tls_open *o, struct side *s, const uint8_t *head, struct rec *ret)
{
    struct trial *trials[2] = {NULL, NULL};
    struct tls_open_key key = {0};
    bool found = false;

    for (uint64_t at = s->tried; !found && o->sink->key(o->owner, &at, &key); s->tried = at) {
        struct trial **t = &trials[key.len == 32];

        if (o->key_len && key.len != o->key_len)
            continue;
        if (s->trials >= TLS_OPEN_TRIALS || (!*t && !(*t = trial_begin(key.len))))
            break;
        s->trials += o->thorough ? TLS_OPEN_GUESSING : 1;
        found = try_versions(o, s, *t, head, &key, ret);
        if (found)
            o->sink->fits(o->owner, at);
    }
    trial_end(trials[0]);
    trial_end(trials[1]);
    OPENSSL_cleanse(&key, sizeof(key));
    return found;
}

/* Where numbers aren't known, iv is that of a guess: the next nonce differs from the last one in the bits in which the
 * numbers do, so that each time more of them is known. Whether it is a record under the key that there is. */
static bool learn(struct side *s, const struct rec *r)
{
    uint64_t last = load64(s->iv + NONCE - 8) ^ (s->seq - 1), is, differs;
    uint8_t nonce[NONCE];
    struct trial *t = trial_begin(s->key.len);
    bool yes = t && nonce_of(t, r, s->key.bytes, 0, nonce) && !memcmp(nonce, s->iv, NONCE - 8);

    trial_end(t);
    if (!yes)
        return false;
    is = load64(nonce + NONCE - 8);
    differs = is ^ last;
    if (!differs || (differs & (differs + 1) && differs >> 32))
        return false;
    /* From ...0111 to ...1000; or something was missed between. */
    s->seq = differs & (differs + 1) ? 0 : (differs >> 1) + 1;
    store64(s->iv + NONCE - 8, is ^ s->seq);
    return true;
}

static enum proto_dir dir_of(const struct tls_open *o, const struct side *s)
{
    return s == &o->sides[PROTO_TX] ? PROTO_TX : PROTO_RX;
}

static void opened(struct tls_open *o, struct side *s, const struct rec *r, uint64_t time_ns)
{
    size_t len;

    s->seq++;
    s->tried = 0;
    s->trials = 0;
    s->waits = false;
    s->since_ns = 0;
    o->opened = true;
    if (content(o, r, &len) == APPLICATION_DATA && len)
        o->sink->plain(o->owner, dir_of(o, s), o->plain, len, time_ns);
    OPENSSL_cleanse(o->plain, r->len);
}

static void give_up(struct side *s, enum tls_open_state why)
{
    forget_key(s);
    if (s->buf)
        OPENSSL_cleanse(s->buf, s->len);
    free(s->buf);
    free(s->turns);
    s->buf = NULL;
    s->turns = NULL;
    s->len = s->cap = s->turn_count = s->turn_cap = s->marked = 0;
    s->waits = false;
    s->over = (uint8_t)why;
}

/* A whole record, whose last byte came then. False: it must wait. */
static bool take_record(struct tls_open *o, struct side *s, const uint8_t *head, uint64_t came_ns, uint64_t time_ns)
{
    struct rec r;
    bool encrypted = o->version == TLS_1_3 ? head[0] == APPLICATION_DATA : s->begun;

    if (o->joined && !o->version)
        encrypted = head[0] == APPLICATION_DATA;
    else if (!o->version)
        return head[0] != APPLICATION_DATA && head[0] != CHANGE_CIPHER_SPEC;
    if (head[0] == CHANGE_CIPHER_SPEC && o->version != TLS_1_3) { /* what follows has another key */
        forget_key(s);
        s->begun = true;
        s->tried = 0;
        return true;
    }
    if (!encrypted || !take_apart(o->version ? o->version : TLS_1_3, head, &r))
        return true;
    if (!s->waits && (open_with(o, s, &r, s->seq) || ((o->joined || o->late) && s->gcm && !r.explicit_nonce && learn(s, &r) &&
                                                      open_with(o, s, &r, s->seq)))) {
        opened(o, s, &r, came_ns);
        return true;
    }
    /* Another key begins. The old one goes when there is a new one. */
    if (find_key(o, s, head, &r)) {
        opened(o, s, &r, came_ns);
        return true;
    }
    if (!s->waits) {
        s->waits = true;
        if (!s->since_ns) /* else others that waited before it were left out */
            s->since_ns = time_ns;
    }
    return false;
}

static void lose(struct tls_open *o, struct side *s, uint64_t time_ns)
{
    s->pass = 0;
    s->len = s->turn_count = 0;
    s->waits = false;
    s->marked = 0;
    if (!s->gcm && !o->joined)
        give_up(s, TLS_OPEN_LOST);
    if (s->over || s->adrift)
        return;
    s->adrift = true;
    s->guesses = 0;
    if (!s->gcm)
        return;
    o->sink->missed(o->owner, dir_of(o, s), time_ns);
}

/* Whether it is a record under the key that there is, whatever its number, which is taken over. */
static bool is_next(struct tls_open *o, struct side *s, const uint8_t *head)
{
    uint64_t first = load64(s->iv + NONCE - 8), at[2];
    uint8_t nonce[NONCE];
    struct trial *t;
    struct rec r;
    bool yes = false;

    if (!take_apart(o->version, head, &r))
        return false;
    if (r.explicit_nonce) { /* it counts up from the first one, or is the number in disguise */
        at[0] = load64(r.explicit_nonce) - first + s->from;
        at[1] = load64(r.explicit_nonce) ^ first ^ s->from;
        for (unsigned i = 0; i < 2 && !yes; i++)
            if ((yes = at[i] >= s->seq && open_with(o, s, &r, at[i])))
                s->seq = at[i];
        return yes;
    }
    t = trial_begin(s->key.len);
    if (t && nonce_of(t, &r, s->key.bytes, 0, nonce) && !memcmp(nonce, s->iv, NONCE - 8)) {
        at[0] = load64(nonce + NONCE - 8) ^ first;
        yes = at[0] >= s->seq || o->joined || o->late;
        s->seq = yes ? at[0] : s->seq;
        if (o->joined || o->late) { /* it is no better known than the first one was */
            s->seq = 0;
            memcpy(s->iv, nonce, NONCE);
        }
    }
    trial_end(t);
    return yes;
}

/* Looks for the beginning of a record; returns the bytes that are done with. */
static size_t find_record(struct tls_open *o, struct side *s, const uint8_t *p, size_t len)
{
    size_t at = 0;

    for (; at + HEAD <= len; at++) {
        size_t n = record_len(p + at);

        if (p[at] != APPLICATION_DATA || p[at + 1] != 3 || p[at + 2] != 3 || HEAD + n > TLS_OPEN_RECORD)
            continue;
        if (at + HEAD + n > len)
            break;
        if (!s->gcm || is_next(o, s, p + at)) { /* no key: it will prove it */
            s->adrift = false;
            break;
        }
        if (++s->guesses > GUESSES) {
            give_up(s, TLS_OPEN_LOST);
            break;
        }
    }
    return at;
}

/* In which turn the byte before `end` of what is kept came; there is something. */
static const struct turn *turn_at(const struct side *s, size_t end)
{
    size_t i = 0;

    while (i + 1 < s->turn_count && s->turns[i].end < end)
        i++;
    return &s->turns[i];
}

/* Whether the first record of the other direction is whole, came before the bytes up to `end` of this one, and isn't waited
 * for in vain. */
static bool is_behind(const struct tls_open *o, const struct side *s, size_t end, uint64_t time_ns)
{
    const struct side *other = &o->sides[s == &o->sides[PROTO_RX] ? PROTO_TX : PROTO_RX];
    size_t first = other->len >= HEAD ? HEAD + record_len(other->buf) : SIZE_MAX;

    if (o->hurries || other->over || other->adrift || other->len < first || s->len > TLS_OPEN_KEPT / 2 ||
        (other->waits && time_ns > other->since_ns + ORDER_NS))
        return false;
    return turn_at(other, first)->number < turn_at(s, end)->number;
}

/* Takes whole records; returns the bytes that are done with. */
static size_t take(struct tls_open *o, struct side *s, const uint8_t *p, size_t len, uint64_t time_ns)
{
    bool kept = p == s->buf;
    size_t at = 0;

    while (!s->over) {
        size_t n;

        if (s->adrift)
            at += find_record(o, s, p + at, len - at);
        if (s->over || s->adrift || len - at < HEAD)
            break;
        n = HEAD + record_len(p + at);
        if (n > TLS_OPEN_RECORD || p[at] < CHANGE_CIPHER_SPEC || p[at] > APPLICATION_DATA) { /* this is no TLS */
            if (o->joined && !s->gcm && ++s->guesses <= GUESSES) { /* ... or what was before wasn't the beginning of any */
                s->adrift = true;
                at++;
                continue;
            }
            give_up(s, TLS_OPEN_LOST);
            break;
        }
        if (len - at < n || (kept && is_behind(o, s, at + n, time_ns)) ||
            !take_record(o, s, p + at, kept ? turn_at(s, at + n)->time_ns : time_ns, time_ns))
            break;
        at += n;
    }
    return at;
}

static void keep(struct tls_open *o, struct side *s, const uint8_t *data, size_t len, uint64_t time_ns)
{
    struct turn *last = s->turn_count ? &s->turns[s->turn_count - 1] : NULL;

    if (s->len + len > s->cap) {
        s->cap = s->len + len < 2 * s->cap ? 2 * s->cap : s->len + len;
        s->buf = xrealloc(s->buf, s->cap, 1);
    }
    memcpy(s->buf + s->len, data, len);
    s->len += len;
    if (!last || (last->number != o->turn && s->turn_count < TURNS)) {
        if (s->turn_count == s->turn_cap) {
            s->turn_cap = s->turn_cap ? 2 * s->turn_cap : 4;
            s->turns = xrealloc(s->turns, s->turn_cap, sizeof(*s->turns));
        }
        last = &s->turns[s->turn_count++];
        last->number = o->turn;
    }
    last->end = s->len;
    last->time_ns = time_ns;
}

/* The first bytes of what is kept are done with. */
static void pass(struct side *s, size_t done)
{
    size_t left = 0;

    if (!done)
        return;
    s->len -= done;
    for (size_t i = 0; i < s->turn_count; i++)
        if (s->turns[i].end > done)
            s->turns[left++] = (struct turn){s->turns[i].end - done, s->turns[i].number, s->turns[i].time_ns};
    s->turn_count = left;
    s->marked -= done < s->marked ? done : s->marked;
    memmove(s->buf, s->buf + done, s->len);
}

static void take_kept(struct tls_open *o, struct side *s, uint64_t time_ns)
{
    size_t done = take(o, s, s->buf, s->len, time_ns);

    if (s->over)
        return;
    pass(s, done);
    if (s->waits && (time_ns > s->since_ns + TLS_OPEN_WAIT_NS || s->trials >= TLS_OPEN_TRIALS))
        give_up(s, TLS_OPEN_NO_KEY);
}

/* Leaves out the first record, for which there is no key. */
static void leave_record(struct tls_open *o, struct side *s, uint64_t time_ns)
{
    size_t n = HEAD + record_len(s->buf);

    pass(s, n < s->len ? n : s->len);
    s->waits = false;
    s->tried = 0;
    if (!s->gcm)
        return;
    forget_key(s);
    o->sink->missed(o->owner, dir_of(o, s), time_ns);
}

/* The rest of the record that is being read won't be seen as a whole. Returns how much of it is still to come; 0: that
 * isn't known. */
static uint64_t pass_record(struct tls_open *o, struct side *s, uint64_t time_ns)
{
    size_t overhead = HEAD + TAG + (o->version == TLS_1_3 ? 1 : EXPLICIT), whole;
    uint64_t rest;

    if (s->len < HEAD || !s->gcm || s->waits || s->adrift)
        return 0;
    whole = HEAD + record_len(s->buf);
    rest = whole - s->len;
    s->seq++;
    s->len = s->turn_count = 0;
    if (s->buf[0] == APPLICATION_DATA && whole > overhead)
        o->sink->plain(o->owner, dir_of(o, s), NULL, whole - overhead, time_ns);
    return rest;
}

static void gap(struct tls_open *o, struct side *s, uint64_t len, uint64_t time_ns)
{
    if (s->len) { /* whole records that wait for the other direction only */
        o->hurries = true;
        take_kept(o, s, time_ns);
        o->hurries = false;
        if (s->over)
            return;
    }
    if (!s->pass)
        s->pass = pass_record(o, s, time_ns);
    if (s->pass >= len)
        s->pass -= len;
    else
        lose(o, s, time_ns);
}

/* --- the interface --- */

struct tls_open *tls_open_new(const struct tls_open_sink *sink, void *owner)
{
    struct tls_open *o = xcalloc(1, sizeof(*o));

    o->sink = sink;
    o->owner = owner;
    return o;
}

void tls_open_free(struct tls_open *o)
{
    if (!o)
        return;
    for (unsigned i = 0; i < PROTO_DIRS; i++)
        give_up(&o->sides[i], TLS_OPEN_LOST);
    free(o->plain); /* wiped each time */
    free(o);
}

void tls_open_join(struct tls_open *o)
{
    o->joined = true;
    for (unsigned i = 0; i < PROTO_DIRS; i++)
        o->sides[i].begun = o->sides[i].adrift = true;
}

void tls_open_late(struct tls_open *o)
{
    o->late = true;
}

void tls_open_agreed(struct tls_open *o, uint16_t version, uint16_t cipher)
{
    /* IANA's numbers: 1.3 of RFC 8446, appendix B.4; 1.2 of RFC 5288 and RFC 5289. */
    static const struct {
        uint16_t cipher, version;
        uint8_t key_len;
    } suites[] = {
        {0x1301, TLS_1_3, 16}, {0x1302, TLS_1_3, 32}, {0xc02b, TLS_1_2, 16}, {0xc02c, TLS_1_2, 32},
        {0xc02f, TLS_1_2, 16}, {0xc030, TLS_1_2, 32}, {0x009c, TLS_1_2, 16}, {0x009d, TLS_1_2, 32},
        {0x009e, TLS_1_2, 16}, {0x009f, TLS_1_2, 32},
    };

    for (size_t i = 0; i < sizeof(suites) / sizeof(*suites); i++) {
        if (suites[i].cipher == cipher && suites[i].version == version) {
            o->version = version;
            o->key_len = suites[i].key_len;
            return;
        }
    }
    for (unsigned i = 0; i < PROTO_DIRS; i++)
        give_up(&o->sides[i], TLS_OPEN_SUITE);
}

void tls_open_feed(struct tls_open *o, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    struct side *s = &o->sides[dir];
    bool first;

    if (s->over || !len)
        return;
    if (dir != o->last)
        o->turn++;
    o->last = (uint8_t)dir;
    if (!data) {
        gap(o, s, len, time_ns);
        return;
    }
    if (s->pass) {
        uint64_t n = s->pass < len ? s->pass : len;

        s->pass -= n;
        data += n;
        len -= n;
    }
    first = !o->sides[PROTO_RX].len && !o->sides[PROTO_TX].len;
    if (first) { /* mostly: it need not be copied */
        size_t done = take(o, s, data, (size_t)len, time_ns);

        data += done;
        len -= done;
        if (len && !s->over)
            keep(o, s, data, (size_t)len, time_ns);
    } else {
        keep(o, s, data, (size_t)len, time_ns);
        take_kept(o, s, time_ns);
    }
    if ((o->joined || o->late) && !s->over) /* each record that is behind will do as well */
        while (s->waits && s->len > TLS_OPEN_KEPT) {
            leave_record(o, s, time_ns);
            take_kept(o, s, time_ns);
        }
    if (s->len > TLS_OPEN_KEPT)
        give_up(s, TLS_OPEN_NO_KEY);
}

void tls_open_retry(struct tls_open *o, bool anew, uint64_t time_ns)
{
    size_t before;

    for (unsigned i = 0; i < PROTO_DIRS; i++)
        if (anew)
            o->sides[i].tried = 0;
    do { /* by turns */
        before = o->sides[PROTO_RX].len + o->sides[PROTO_TX].len;
        for (unsigned i = 0; i < PROTO_DIRS; i++)
            if (o->sides[i].len && !o->sides[i].over)
                take_kept(o, &o->sides[i], time_ns);
    } while (o->sides[PROTO_RX].len + o->sides[PROTO_TX].len < before);
}

bool tls_open_mark(struct tls_open *o)
{
    bool any = false;

    for (unsigned i = 0; i < PROTO_DIRS; i++) {
        struct side *s = &o->sides[i];

        s->marked = s->waits && !s->over ? s->len : 0;
        any |= s->marked > 0;
    }
    return any && (o->joined || o->late);
}

void tls_open_leave(struct tls_open *o, uint64_t time_ns)
{
    o->thorough = true;
    for (unsigned i = 0; i < PROTO_DIRS; i++) {
        struct side *s = &o->sides[i];

        s->tried = 0;
        while (s->marked && !s->over) {
            take_kept(o, s, time_ns);
            if (!s->waits || !s->marked)
                break;
            leave_record(o, s, time_ns);
        }
        s->marked = 0;
    }
    tls_open_retry(o, false, time_ns);
    o->thorough = false;
}

void tls_open_end(struct tls_open *o, uint64_t time_ns)
{
    o->hurries = true;
    tls_open_retry(o, false, time_ns);
    o->hurries = false;
}

size_t tls_open_waiting(const struct tls_open *o)
{
    const struct side *rx = &o->sides[PROTO_RX], *tx = &o->sides[PROTO_TX];

    /* Without a version nothing is told yet; a part of a record waits for nothing but its rest. */
    return rx->waits || tx->waits || !o->version ? rx->len + tx->len : 0;
}

void tls_open_give_up(struct tls_open *o)
{
    for (unsigned i = 0; i < PROTO_DIRS; i++)
        if (!o->sides[i].over)
            give_up(&o->sides[i], TLS_OPEN_NO_KEY);
}

enum tls_open_state tls_open_state(const struct tls_open *o)
{
    uint8_t rx = o->sides[PROTO_RX].over, tx = o->sides[PROTO_TX].over;

    if (rx && tx)
        return (enum tls_open_state)(rx == TLS_OPEN_NO_KEY ? rx : tx);
    return o->opened ? TLS_OPEN_READS : TLS_OPEN_WAITS;
}

bool tls_open_wants(const struct tls_open *o, enum proto_dir dir)
{
    return !o->sides[dir].over;
}
