/* SPDX-License-Identifier: Apache-2.0 */
/* TLS over a connected non-blocking socket, with OpenSSL. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/mem.h"
#include "output/internal.h"

struct output_tls {
    SSL_CTX *ctx;
    SSL *ssl;
};

/* Where distributions keep the certificates that they trust; first that exists. */
static const char *const bundles[] = {
    "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",             "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem",
};

static const char *reason_of(unsigned long code)
{
    if (!code)
        return NULL;
    return ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) : ERR_reason_error_string(code);
}

static void explain(char *err, size_t size, const char *what)
{
    const char *reason = reason_of(ERR_peek_error());

    snprintf(err, size, "%s%s%s", what, reason ? ": " : "", reason ? reason : "");
    ERR_clear_error();
}

static const char *bundle(const struct cfg_tls *cfg)
{
    if (cfg->cacertpath && cfg->cacertpath[0])
        return cfg->cacertpath;
    for (size_t i = 0; i < sizeof(bundles) / sizeof(*bundles); i++)
        if (access(bundles[i], R_OK) == 0)
            return bundles[i];
    return NULL;
}

/* The files that a client shows who it is with. */
static bool set_identity(SSL_CTX *ctx, const struct cfg_tls *cfg, char *err, size_t err_size)
{
    const char *cert = cfg->certpath, *key = cfg->keypath && cfg->keypath[0] ? cfg->keypath : cert, *reason;
    const char *what = NULL, *file = cert, *name = "certpath";

    if (!cert || !cert[0]) {
        if (!key || !key[0])
            return true;
        snprintf(err, err_size, "%s (tls.keypath) is of no use without a client certificate (tls.certpath)", key);
        return false;
    }
    if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1) {
        what = "can't load the client certificate from";
    } else if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1) {
        what = "can't load the client key from";
        file = key;
        name = key == cert ? "certpath" : "keypath";
    } else if (SSL_CTX_check_private_key(ctx) != 1) {
        what = "the client certificate doesn't belong to the key in";
        file = key;
        name = key == cert ? "certpath" : "keypath";
    }
    if (!what)
        return true;
    reason = reason_of(ERR_peek_error());
    snprintf(err, err_size, "%s %s (tls.%s)%s%s", what, file, name, reason ? ": " : "", reason ? reason : "");
    ERR_clear_error();
    return false;
}

static int no_passphrase(char *buf, int size, int writing, void *ctx)
{
    return 0; /* OpenSSL would ask on the terminal */
}

static bool set_up(struct output_tls *t, int fd, const struct cfg_tls *cfg, const char *host, const char *alpn,
                   char *err, size_t err_size)
{
    unsigned char protocols[32];
    unsigned char numeric[16];
    bool is_address = inet_pton(AF_INET, host, numeric) == 1 || inet_pton(AF_INET6, host, numeric) == 1;
    const char *ca = bundle(cfg);

    t->ctx = SSL_CTX_new(TLS_client_method());
    if (!t->ctx || !SSL_CTX_set_min_proto_version(t->ctx, TLS1_2_VERSION)) {
        explain(err, err_size, "can't create a context");
        return false;
    }
    SSL_CTX_set_mode(t->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_default_passwd_cb(t->ctx, no_passphrase);
    if (!set_identity(t->ctx, cfg, err, err_size))
        return false;
    if (cfg->validateserver) {
        if (!ca || !SSL_CTX_load_verify_locations(t->ctx, ca, NULL)) {
            snprintf(err, err_size, "can't load CA certificates from %s (tls.cacertpath)",
                     ca ? ca : "any of the system's usual places");
            ERR_clear_error();
            return false;
        }
        SSL_CTX_set_verify(t->ctx, SSL_VERIFY_PEER, NULL);
    }
    t->ssl = SSL_new(t->ctx);
    if (!t->ssl || !SSL_set_fd(t->ssl, fd) || (!is_address && !SSL_set_tlsext_host_name(t->ssl, host))) {
        explain(err, err_size, "can't create a session");
        return false;
    }
    if (cfg->validateserver && !(is_address ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(t->ssl), host)
                                            : SSL_set1_host(t->ssl, host))) {
        explain(err, err_size, "can't check the server's name");
        return false;
    }
    if (alpn) {
        protocols[0] = (unsigned char)strlen(alpn);
        memcpy(protocols + 1, alpn, protocols[0]);
        if (SSL_set_alpn_protos(t->ssl, protocols, protocols[0] + 1u) != 0) {
            explain(err, err_size, "can't offer a protocol");
            return false;
        }
    }
    SSL_set_connect_state(t->ssl);
    return true;
}

struct output_tls *output_tls_new(int fd, const struct cfg_tls *cfg, const char *host, const char *alpn, char *err,
                                  size_t err_size)
{
    struct output_tls *t = xcalloc(1, sizeof(*t));

    ERR_clear_error();
    if (set_up(t, fd, cfg, host, alpn, err, err_size))
        return t;
    output_tls_free(t);
    return NULL;
}

/* What may help, where that is clear. */
static const char *remedy(long verified)
{
    switch (verified) {
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
        return "; tls.cacertpath names the file of those to trust";
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        return "; its certificate is for another host";
    }
    return "";
}

int output_tls_handshake(struct output_tls *t, short *ret_want, char *err, size_t err_size)
{
    long verified;
    int rc, why;

    ERR_clear_error();
    rc = SSL_connect(t->ssl);
    if (rc == 1)
        return 0;
    why = SSL_get_error(t->ssl, rc);
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
        *ret_want = why == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT;
        return -EAGAIN;
    }
    verified = SSL_get_verify_result(t->ssl);
    if (verified != X509_V_OK)
        snprintf(err, err_size, "server validation failed: %s%s", X509_verify_cert_error_string(verified), remedy(verified));
    else if (ERR_GET_REASON(ERR_peek_error()) == SSL_R_WRONG_VERSION_NUMBER) /* what came is no record of TLS */
        explain(err, err_size, "handshake failed, perhaps as the server doesn't speak TLS");
    else
        explain(err, err_size, "handshake failed");
    return -EPROTO;
}

long output_tls_write(struct output_tls *t, const char *p, size_t len, short *ret_want)
{
    size_t done = 0;
    int why;

    *ret_want = 0;
    ERR_clear_error();
    if (SSL_write_ex(t->ssl, p, len, &done))
        return (long)done;
    why = SSL_get_error(t->ssl, 0);
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
        *ret_want = why == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT;
        return -EAGAIN;
    }
    return -EPIPE;
}

long output_tls_read(struct output_tls *t, char *p, size_t len, short *ret_want, char *err, size_t err_size)
{
    size_t n = 0;
    int why;

    *ret_want = 0;
    ERR_clear_error();
    if (SSL_read_ex(t->ssl, p, len, &n))
        return (long)n;
    why = SSL_get_error(t->ssl, 0);
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
        *ret_want = why == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT;
        return -EAGAIN;
    }
    if (why == SSL_ERROR_ZERO_RETURN || (why == SSL_ERROR_SYSCALL && !ERR_peek_error()) ||
        ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
        return 0;
    explain(err, err_size, "TLS");
    return -EPROTO;
}

bool output_tls_speaks(struct output_tls *t, const char *alpn)
{
    const unsigned char *name;
    unsigned len;

    SSL_get0_alpn_selected(t->ssl, &name, &len);
    return len == strlen(alpn) && memcmp(name, alpn, len) == 0;
}

int output_tls_discard(struct output_tls *t)
{
    char junk[4096];
    size_t n;
    int why;

    ERR_clear_error();
    while (SSL_read_ex(t->ssl, junk, sizeof(junk), &n))
        ;
    why = SSL_get_error(t->ssl, 0);
    return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? 0 : -EPIPE;
}

void output_tls_free(struct output_tls *t)
{
    if (t->ssl) {
        SSL_shutdown(t->ssl); /* one-sided: says that no line was cut off */
        SSL_free(t->ssl);
    }
    SSL_CTX_free(t->ctx);
    ERR_clear_error();
    free(t);
}
