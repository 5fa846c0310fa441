/* SPDX-License-Identifier: Apache-2.0 */
#include "k8s/review.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "base/mem.h"

#define UID_MAX 256u
#define UID_SEEN 65536u /* how far into a body that can't be read the uid is looked for */

/* The uid of a body that is too large, or isn't JSON: the API server writes it at the beginning of "request". */
static void uid_near(const char *body, size_t len, char uid[UID_MAX + 1])
{
    static const char key[] = "\"uid\":\"";
    const char *end = body + (len < UID_SEEN ? len : UID_SEEN),
               *at = memmem(body, (size_t)(end - body), key, sizeof(key) - 1);
    size_t n = 0;

    uid[0] = '\0';
    if (!at)
        return;
    for (at += sizeof(key) - 1; at + n < end && n < UID_MAX; n++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-", at[n]) || !at[n])
            break;
    if (at + n < end && at[n] == '"') {
        memcpy(uid, at, n);
        uid[n] = '\0';
    }
}

/* Larger objects are refused where the cluster keeps them (etcd, --max-request-bytes): a patch must not bring that
 * about. */
#define OBJECT_MAX (1536u * 1024)

static void put(struct buf *b, const char *uid, const char *patch, const json_t *warnings)
{
    buf_str(b, "{\"apiVersion\":\"admission.k8s.io/v1\",\"kind\":\"AdmissionReview\",\"response\":{\"uid\":");
    buf_json_str(b, uid);
    buf_str(b, ",\"allowed\":true");
    if (patch) {
        size_t len = strlen(patch);

        buf_str(b, ",\"patchType\":\"JSONPatch\",\"patch\":\"");
        b->len += (size_t)EVP_EncodeBlock((unsigned char *)buf_room(b, len / 3 * 4 + 5), (const unsigned char *)patch,
                                          (int)len);
        buf_char(b, '"');
    }
    if (json_array_size(warnings)) {
        char *text = json_dumps(warnings, JSON_COMPACT);

        buf_printf(b, ",\"warnings\":%s", text);
        free(text);
    }
    buf_str(b, "}}\n");
}

static enum k8s_verdict refuse(const char *body, size_t len, const char *why, enum k8s_verdict verdict,
                               struct buf *answer)
{
    char uid[UID_MAX + 1];
    json_t *warnings = json_pack("[s]", why);

    uid_near(body, len, uid);
    put(answer, uid, NULL, warnings);
    json_decref(warnings);
    return verdict;
}

static const char *text_of(const json_t *object, const char *name)
{
    const char *s = json_string_value(json_object_get(object, name));

    return s ? s : "";
}

enum k8s_verdict k8s_review(const char *body, size_t len, size_t whole, const struct k8s_policy *policy,
                            k8s_settings_fn settings, void *ctx, struct buf *answer)
{
    json_t *review, *warnings, *ops = NULL;
    const json_t *request, *pod;
    const char *uid, *ns, *sub, *operation;
    enum k8s_verdict verdict;
    char *patch;

    if (whole > K8S_REVIEW_MAX)
        return refuse(body, len, "scope: the pod is not observed: the review is too large, or there are too many",
                      K8S_TOO_LARGE, answer);
    review = json_loadb(body, len, 0, NULL);
    request = json_object_get(review, "request");
    uid = text_of(request, "uid");
    if (!*uid || strlen(uid) > UID_MAX || strcmp(text_of(review, "kind"), "AdmissionReview") != 0) {
        json_decref(review);
        return refuse(body, len, "scope: the pod is not observed: the review can't be read", K8S_MALFORMED, answer);
    }
    warnings = json_array();
    pod = json_object_get(request, "object");
    ns = text_of(request, "namespace");
    sub = text_of(request, "subResource");
    operation = text_of(request, "operation");
    if (strcmp(text_of(json_object_get(request, "kind"), "kind"), "Pod") == 0) {
        const json_t *old = json_object_get(request, "oldObject");

        if (strcmp(sub, "ephemeralcontainers") == 0)
            ops = k8s_ephemeral_patch(pod, old, policy, settings(ctx, ns), warnings);
        else if (!*sub && strcmp(operation, "CREATE") == 0)
            ops = k8s_pod_patch(pod, *ns ? ns : NULL, policy, settings(ctx, ns), warnings);
    }
    patch = json_array_size(ops) ? json_dumps(ops, JSON_COMPACT) : NULL;
    if (patch && len + strlen(patch) > OBJECT_MAX) {
        free(patch);
        patch = NULL;
        json_array_clear(warnings);
        json_array_append_new(warnings, json_string("scope: the pod is not observed: it is too large"));
    }
    put(answer, uid, patch, warnings);
    json_decref(ops);
    json_decref(warnings);
    json_decref(review);
    verdict = patch ? K8S_PATCHED : K8S_UNCHANGED;
    free(patch);
    return verdict;
}
