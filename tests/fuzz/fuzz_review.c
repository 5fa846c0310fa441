/* SPDX-License-Identifier: Apache-2.0 */
/* Reviews of the API server's: whatever comes, there is one answer, it is JSON, allows the pod, and its patch is a list
 * of operations. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "k8s/review.h"

static const struct k8s_settings *settings(void *ctx, const char *ns)
{
    static const struct k8s_settings plain = {.config = "{}\n"},
                                     scraped = {.config = "{}\n", .metrics_host = "0.0.0.0", .metrics_port = 65530};

    return strlen(ns) % 2 ? &plain : &scraped;
}

static void check_patch(const char *text)
{
    size_t len = strlen(text), i;
    unsigned char *bytes = malloc(len + 1);
    int n = EVP_DecodeBlock(bytes, (const unsigned char *)text, (int)len);
    json_t *ops, *op;

    for (; n > 0 && len && text[len - 1] == '='; len--)
        n--;
    ops = n > 0 ? json_loadb((char *)bytes, (size_t)n, 0, NULL) : NULL;
    if (!json_array_size(ops))
        abort();
    json_array_foreach(ops, i, op)
    {
        if (!json_string_value(json_object_get(op, "path")) || !json_object_get(op, "value"))
            abort();
    }
    json_decref(ops);
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (int volume = 0; volume < 2; volume++) {
        struct k8s_policy policy = {.app = "scope", .ns = "appscope", .image = "i", .image_volume = volume};
        struct buf b = BUF_INIT;
        json_t *answer, *response;
        enum k8s_verdict v = k8s_review((const char *)data, size, size, &policy, settings, NULL, &b);

        answer = json_loadb(b.p, b.len, 0, NULL);
        response = json_object_get(answer, "response");
        if (!json_is_true(json_object_get(response, "allowed")) || !json_is_string(json_object_get(response, "uid")) ||
            (v == K8S_PATCHED) != !!json_object_get(response, "patch"))
            abort();
        if (v == K8S_PATCHED)
            check_patch(json_string_value(json_object_get(response, "patch")));
        json_decref(answer);
        buf_free(&b);
    }
    return 0;
}
