/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AdmissionReview v1 (admission.k8s.io/v1, "Dynamic Admission Control"): from a request's body to the answer's.
 * Whatever the body is, there is an answer, and it allows the pod: what we don't understand runs unobserved.
 */
#ifndef SCOPE_K8S_REVIEW_H
#define SCOPE_K8S_REVIEW_H

#include <stddef.h>

#include "base/buf.h"
#include "k8s/pod.h"

/* The API server takes objects of at most 1.5 MiB or so, and sends up to two of them. */
#define K8S_REVIEW_MAX (4u << 20)

enum k8s_verdict {
    K8S_PATCHED,
    K8S_UNCHANGED, /* a pod that is left alone, or has all it needs; or no pod */
    K8S_MALFORMED, /* no AdmissionReview */
    K8S_TOO_LARGE,
    K8S_VERDICTS
};

/* Settings for the pods of a namespace ("" if it isn't known); never NULL. They live until the next call. */
typedef const struct k8s_settings *(*k8s_settings_fn)(void *ctx, const char *ns);

/* Appends the answer to `answer`. Of a body that is larger than K8S_REVIEW_MAX only its beginning need be there:
 * whole is its size. */
enum k8s_verdict k8s_review(const char *body, size_t len, size_t whole, const struct k8s_policy *, k8s_settings_fn,
                            void *ctx, struct buf *answer);

#endif
