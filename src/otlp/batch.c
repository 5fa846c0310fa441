/* SPDX-License-Identifier: Apache-2.0 */
#include "otlp/batch.h"

#include "otlp/pb.h"

enum { REQUEST_RESOURCE = 1, RESOURCE_SCOPE = 2 };
#define LENGTH_MAX 5 /* bytes of a length */

void otlp_batch_begin(struct otlp_batch *t, const struct otlp_common *common, const struct tm_process *who)
{
    buf_reset(&t->resource);
    otlp_resource(common, who, &t->resource);
    otlp_batch_reset(t);
}

void otlp_batch_reset(struct otlp_batch *t)
{
    buf_reset(&t->b);
    t->room = sizeof(t->count) + 1 + LENGTH_MAX + t->resource.len + 1 + LENGTH_MAX;
    buf_room(&t->b, t->room);
    t->b.len = t->room;
    otlp_scope(&t->b);
    t->items = t->b.len;
    t->count = 0;
}

void otlp_batch_release(struct otlp_batch *t)
{
    buf_free(&t->resource);
    buf_free(&t->b);
}

/* What comes before the scope is put right in front of it: items stay where they have been written. */
const char *otlp_batch_record(struct otlp_batch *t, size_t *ret_len)
{
    size_t scope = t->b.len - t->room;
    size_t all = t->resource.len + 1 + pb_varint_len(scope) + scope;
    char *begin = t->b.p + t->room - (1 + pb_varint_len(scope)) - t->resource.len - (1 + pb_varint_len(all)) - sizeof(t->count);
    char *p = begin;

    memcpy(p, &t->count, sizeof(t->count));
    p += sizeof(t->count);
    *p++ = REQUEST_RESOURCE << 3 | PB_LEN;
    p += pb_put_varint(p, all);
    memcpy(p, t->resource.p, t->resource.len);
    p += t->resource.len;
    *p++ = RESOURCE_SCOPE << 3 | PB_LEN;
    pb_put_varint(p, scope);
    *ret_len = (size_t)(t->b.p + t->b.len - begin);
    return begin;
}
