/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is done to a pod so that its containers are observed, as a JSON Patch (RFC 6902) of the pod as the API server
 * shows it (Kubernetes API reference, "Pod").
 *
 * An init container copies scope and its library into a volume, or an image volume has them; each container sees that
 * volume, and gets variables. Nothing of the pod's own is taken away: a member is added where it is missing, and the
 * one value that is replaced, of LD_PRELOAD, keeps what it had behind ours. A pod that was patched gets an empty patch,
 * containers that were added to it since get theirs.
 */
#ifndef SCOPE_K8S_POD_H
#define SCOPE_K8S_POD_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#define K8S_ANNOTATION_DISABLE "appscope.dev/disable"       /* there, whatever its value: the pod is left alone */
#define K8S_ANNOTATION_CONTAINERS "appscope.dev/containers" /* names with commas between: only these */
#define K8S_ANNOTATION_CONFIG "appscope.dev/config"         /* text of scope.yml */
#define K8S_LABEL_SCOPE "appscope.dev/scope"                /* "true" on pods that were patched */

/* Where the image has them (dev/image). */
#define K8S_IMAGE_SCOPE "/usr/local/bin/scope"
#define K8S_IMAGE_LIB "/usr/local/lib/libscope.so"

/* What is the same for all pods. Texts are the caller's. */
struct k8s_policy {
    const char *app, *ns; /* name of the webhook and its namespace */
    const char *image;    /* that has scope */
    bool image_volume;    /* is mounted (Kubernetes 1.33), no init container */
};

/* What is so for those of one namespace. */
struct k8s_settings {
    const char *config;       /* scope.yml */
    const char *metrics_host; /* where each container's collector listens for scrapes; NULL: it doesn't */
    unsigned metrics_port;    /* of the first container; others have those behind it */
};

/* Patch of a new pod: an array of operations, empty if there is nothing to do. `ns` is the one of the request (the pod
 * itself need not say it), or NULL. Texts for the user are added to warnings, an array. The caller's reference. */
json_t *k8s_pod_patch(const json_t *pod, const char *ns, const struct k8s_policy *, const struct k8s_settings *,
                      json_t *warnings);
/* The same for the ephemeral containers that `pod` has and `old` (may be NULL) hasn't; the rest of a pod that exists
 * can't be changed. Empty if the pod wasn't patched when it was made. */
json_t *k8s_ephemeral_patch(const json_t *pod, const json_t *old, const struct k8s_policy *,
                            const struct k8s_settings *, json_t *warnings);

#endif
