/* SPDX-License-Identifier: Apache-2.0 */
/* The webhook's certificates (RFC 5280), P-256, in PEM. */
#ifndef SCOPE_K8S_CERT_H
#define SCOPE_K8S_CERT_H

#define K8S_CA_DAYS 3650
#define K8S_SERVER_DAYS 30

/* Texts are malloc'ed. */
struct k8s_pair {
    char *cert, *key;
};
void k8s_pair_clear(struct k8s_pair *);

/* A new CA that can sign certificates of servers for names below `domain` ("NAMESPACE.svc") and no others. 0 or -EIO:
 * OpenSSL could not. */
int k8s_ca_make(const char *name, const char *domain, struct k8s_pair *ret);
/* A certificate for a server, the first of `names` (NULL-terminated) as subject, with a new key, that the CA has
 * signed: valid for so many days, but not beyond the CA. 0, -EINVAL if the CA's texts are no such pair, or -EIO. */
int k8s_cert_issue(const struct k8s_pair *ca, const char *const *names, int days, struct k8s_pair *ret);

#endif
