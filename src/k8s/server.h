/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The webhook: HTTPS/1.1 (RFC 9112), one thread. Everything is bounded: connections, heads, bodies, what is held of all
 * bodies together, and the time that each step may take.
 *
 *   POST /mutate    an AdmissionReview; answered with one, whatever came
 *   GET /healthz    "ok"
 *   GET /metrics    counters, in the text format of Prometheus
 */
#ifndef SCOPE_K8S_SERVER_H
#define SCOPE_K8S_SERVER_H

#include "k8s/pod.h"
#include "k8s/settings.h"

struct k8s_server_options {
    struct k8s_policy policy;
    const char *address;     /* numeric; NULL: all */
    unsigned port;           /* 0: any */
    const char *cert, *key;  /* files in PEM, read again when they change */
    const char *ca, *ca_key; /* instead: files of a CA, by which the server makes its own, and new ones in time */
    struct k8s_namespaces *namespaces;
};

/* Serves until SIGTERM or SIGINT: 0, or -errno after a message to the log, which also says when it begins. */
int k8s_serve(const struct k8s_server_options *);

#endif
