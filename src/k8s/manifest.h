/* SPDX-License-Identifier: Apache-2.0 */
/* The objects that make a cluster have the webhook, or each node observed. */
#ifndef SCOPE_K8S_MANIFEST_H
#define SCOPE_K8S_MANIFEST_H

#include <stdbool.h>

#include <jansson.h>

#include "k8s/pod.h"

struct k8s_install {
    struct k8s_policy policy;
    const char *config; /* scope.yml of those that have none of their own */
    unsigned port;
    unsigned scraped;  /* where nodes are scraped by that configuration; 0: they aren't */
    bool cert_manager; /* certificates are that one's business */
    bool debug;
};

/* Objects in the order in which they can be applied; the caller's reference. NULL: OpenSSL could not make certificates.
 */
json_t *k8s_webhook_objects(const struct k8s_install *);
/* The same for a DaemonSet: k8s_node() on each node. */
json_t *k8s_daemon_objects(const struct k8s_install *);
/* "KIND-NAME.yaml", malloc'ed: the name of an object's file. */
char *k8s_file_name(const json_t *object);

#endif
