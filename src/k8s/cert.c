/* SPDX-License-Identifier: Apache-2.0 */
#include "k8s/cert.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include "base/buf.h"
#include "base/mem.h"

#define BEFORE_S (5 * 60) /* clocks differ */
#define DAY_S 86400L

void k8s_pair_clear(struct k8s_pair *p)
{
    if (p->key)
        OPENSSL_cleanse(p->key, strlen(p->key));
    free(p->cert);
    free(p->key);
    *p = (struct k8s_pair){0};
}

static char *text_of(BIO *b)
{
    char *bytes;
    long len = BIO_get_mem_data(b, &bytes);

    return xstrndup(bytes, (size_t)len);
}

static int to_pem(X509 *cert, EVP_PKEY *key, struct k8s_pair *ret)
{
    BIO *c = BIO_new(BIO_s_mem()), *k = BIO_new(BIO_s_secmem());
    int rc = -EIO;

    if (c && k && PEM_write_bio_X509(c, cert) && PEM_write_bio_PKCS8PrivateKey(k, key, NULL, NULL, 0, NULL, NULL)) {
        ret->cert = text_of(c);
        ret->key = text_of(k);
        rc = 0;
    }
    BIO_free(c);
    BIO_free(k);
    return rc;
}

static bool extend(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509_EXTENSION *e;
    bool ok;

    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    ok = e && X509_add_ext(cert, e, -1);
    X509_EXTENSION_free(e);
    return ok;
}

/* Everything but extensions and signature. Common names have 64 characters at most (RFC 5280, A.1). */
static X509 *begin(EVP_PKEY *key, const char *name, const X509 *issuer, long seconds)
{
    X509 *x = X509_new();
    unsigned char serial[16] = {0};
    BIGNUM *n = NULL;
    X509_NAME *subject = X509_NAME_new();
    bool ok = x && subject && RAND_bytes(serial, sizeof(serial)) == 1;

    serial[0] = (unsigned char)((serial[0] & 0x7f) | 1);
    ok = ok && (n = BN_bin2bn(serial, sizeof(serial), NULL)) && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x)) &&
         X509_set_version(x, X509_VERSION_3) && X509_gmtime_adj(X509_getm_notBefore(x), -BEFORE_S) &&
         X509_gmtime_adj(X509_getm_notAfter(x), seconds) && X509_set_pubkey(x, key) &&
         X509_NAME_add_entry_by_NID(subject, NID_commonName, MBSTRING_UTF8, (const unsigned char *)name,
                                    (int)strnlen(name, 64), -1, 0) &&
         X509_set_subject_name(x, subject) && X509_set_issuer_name(x, issuer ? X509_get_subject_name(issuer) : subject);
    BN_free(n);
    X509_NAME_free(subject);
    if (ok)
        return x;
    X509_free(x);
    return NULL;
}

int k8s_ca_make(const char *name, const char *domain, struct k8s_pair *ret)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = key ? begin(key, name, NULL, K8S_CA_DAYS * DAY_S) : NULL;
    char *names = xasprintf("critical,permitted;DNS:%s", domain);
    int rc = -EIO;

    if (x && extend(x, x, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
        extend(x, x, NID_key_usage, "critical,keyCertSign,cRLSign") &&
        extend(x, x, NID_subject_key_identifier, "hash") && extend(x, x, NID_name_constraints, names) &&
        X509_sign(x, key, EVP_sha256()))
        rc = to_pem(x, key, ret);
    free(names);
    X509_free(x);
    EVP_PKEY_free(key);
    ERR_clear_error();
    return rc;
}

static int no_passphrase(char *buf, int size, int writing, void *ctx)
{
    return 0; /* OpenSSL would ask on the terminal */
}

/* Seconds that a CA is still valid. */
static long left_of(const X509 *ca)
{
    int days = 0, seconds = 0;

    if (!ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(ca)))
        return 0;
    return days * DAY_S + seconds;
}

int k8s_cert_issue(const struct k8s_pair *ca, const char *const *names, int days, struct k8s_pair *ret)
{
    BIO *c = BIO_new_mem_buf(ca->cert, -1), *k = BIO_new_mem_buf(ca->key, -1);
    X509 *issuer = c ? PEM_read_bio_X509(c, NULL, no_passphrase, NULL) : NULL, *x = NULL;
    EVP_PKEY *signer = k ? PEM_read_bio_PrivateKey(k, NULL, no_passphrase, NULL) : NULL, *key = NULL;
    struct buf alternatives = BUF_INIT;
    long seconds = days * DAY_S;
    int rc = -EINVAL;

    if (!names[0] || !issuer || !signer || X509_check_private_key(issuer, signer) != 1 || left_of(issuer) <= 0)
        goto out;
    rc = -EIO;
    if (seconds > left_of(issuer))
        seconds = left_of(issuer);
    for (size_t i = 0; names[i]; i++)
        buf_printf(&alternatives, "%sDNS:%s", i ? "," : "", names[i]);
    key = EVP_EC_gen("P-256");
    x = key ? begin(key, names[0], issuer, seconds) : NULL;
    if (x && extend(x, issuer, NID_basic_constraints, "critical,CA:FALSE") &&
        extend(x, issuer, NID_key_usage, "critical,digitalSignature") &&
        extend(x, issuer, NID_ext_key_usage, "serverAuth") && extend(x, issuer, NID_subject_key_identifier, "hash") &&
        extend(x, issuer, NID_authority_key_identifier, "keyid:always") &&
        extend(x, issuer, NID_subject_alt_name, buf_cstr(&alternatives)) && X509_sign(x, signer, EVP_sha256()))
        rc = to_pem(x, key, ret);
out:
    buf_free(&alternatives);
    X509_free(x);
    X509_free(issuer);
    EVP_PKEY_free(key);
    EVP_PKEY_free(signer);
    BIO_free(c);
    BIO_free(k);
    ERR_clear_error();
    return rc;
}
