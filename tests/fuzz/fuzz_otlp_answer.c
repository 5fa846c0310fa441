/* SPDX-License-Identifier: Apache-2.0 */
/* Arbitrary bytes as the answer of a receiver of OTLP: as HTTP/1 in pieces and in one, which must come to the same, and as
 * each of the texts that bodies and trailers have. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "output/http_answer.h"
#include "output/otlp_answer.h"

static int read_answer(struct http_answer *a, const char *bytes, size_t size, size_t piece, size_t *ret_used)
{
    int rc = 0;

    http_answer_init(a);
    for (*ret_used = 0; *ret_used < size && rc == 0;) {
        size_t n = size - *ret_used < piece ? size - *ret_used : piece, used;

        rc = http_answer_feed(a, bytes + *ret_used, n, &used);
        if (used > n || (rc == 0 && used != n))
            abort();
        *ret_used += used;
    }
    if (rc == 0)
        rc = http_answer_end(a);
    if ((rc != 1 && rc != -EPROTO && rc != -EFBIG) || (rc == -EPROTO && !a->problem) || (rc == 1 && a->status < 200) ||
        a->status > 599 || a->body.len > HTTP_ANSWER_BODY)
        abort();
    return rc;
}

static void read_texts(const char *bytes, size_t size)
{
    char *copy = malloc(size + 1);
    struct otlp_partial partial;
    struct otlp_status status;
    long n;

    memcpy(copy, bytes, size);
    copy[size] = 0;
    if (http_retry_after(copy, 784111777, 300000) > 300000)
        abort();
    otlp_read_response(bytes, size, &partial);
    if (partial.message && (partial.message < bytes || partial.message + partial.message_len > bytes + size))
        abort();
    otlp_read_status(bytes, size, &status);
    if (status.message && (status.message < bytes || status.message + status.message_len > bytes + size))
        abort();
    if (otlp_percent(copy, size) > size)
        abort();
    memcpy(copy, bytes, size);
    n = otlp_base64(copy, size);
    if (n > (long)size)
        abort();
    if (n > 0)
        otlp_read_status(copy, (size_t)n, &status);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct http_answer whole = {0}, pieces = {0};
    size_t used, used_in_pieces;
    const char *bytes = (const char *)data + 1;
    int rc;

    if (!size)
        return 0;
    size--;
    rc = read_answer(&whole, bytes, size, size ? size : 1, &used);
    if (read_answer(&pieces, bytes, size, 1 + data[0] % 64, &used_in_pieces) != rc || whole.status != pieces.status ||
        whole.content != pieces.content || whole.keep_alive != pieces.keep_alive ||
        strcmp(whole.retry_after, pieces.retry_after) != 0)
        abort();
    if (rc == 1 && (used != used_in_pieces || whole.body.len != pieces.body.len ||
                    (whole.body.len && memcmp(whole.body.p, pieces.body.p, whole.body.len) != 0)))
        abort();
    http_answer_free(&whole);
    http_answer_free(&pieces);
    read_texts(bytes, size);
    return 0;
}
