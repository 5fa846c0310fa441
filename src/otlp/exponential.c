/* SPDX-License-Identifier: Apache-2.0 */
#include "otlp/exponential.h"

#include <math.h>
#include <string.h>

void exponential_reset(struct exponential *e)
{
    memset(e, 0, sizeof(*e));
    e->scale = EXPONENTIAL_SCALE_MAX;
}

/*
 * Powers of two are bounds at each scale, and exact: frexp(3) finds them. Other bounds are irrational: no value is equal to
 * one, and the logarithm of the significand alone, in 64 bits of precision, says on which side of them it lies.
 */
int32_t exponential_index(double value, int scale)
{
    int exponent;
    double significand = frexp(value, &exponent) * 2; /* 1 <= significand < 2 */
    int32_t whole;

    exponent--;
    if (significand == 1) { /* the upper bound of its bucket */
        whole = exponent - 1;
        return scale > 0 ? exponent * (1 << scale) - 1 : whole >> -scale;
    }
    if (scale <= 0)
        return exponent >> -scale; /* >> rounds down */
    return exponent * (1 << scale) + (int32_t)ceill(log2l((long double)significand) * (long double)(1 << scale)) - 1;
}

/* Two buckets become one, as often as it takes. */
static void coarser(struct exponential *e, int by)
{
    int32_t low = e->low >> by;
    uint32_t used = 0;

    for (uint32_t i = 0; i < e->used; i++) {
        uint32_t to = (uint32_t)(((e->low + (int32_t)i) >> by) - low);
        uint64_t count = e->bucket[i];

        e->bucket[i] = 0;
        e->bucket[to] += count; /* to <= i: it has been emptied */
        used = to + 1;
    }
    e->low = low;
    e->used = used;
    e->scale -= by;
}

void exponential_add(struct exponential *e, double value, uint64_t count)
{
    int64_t low, high; /* a difference of indices may have 33 bits */
    int32_t index;
    int by = 0;

    if (!(value > 0)) {
        e->zero += count;
        return;
    }
    index = exponential_index(value, e->scale);
    if (!e->used) {
        e->low = index;
        e->used = 1;
        e->bucket[0] = count;
        return;
    }
    low = index < e->low ? index : e->low;
    high = (int64_t)e->low + e->used - 1;
    if (index > high)
        high = index;
    while (((high >> by) - (low >> by)) >= EXPONENTIAL_BUCKETS)
        by++;
    if (by) {
        coarser(e, by);
        index >>= by; /* bounds of a coarser scale are those of the finer one: each second of them */
    }
    if (index < e->low) {
        uint32_t shift = (uint32_t)(e->low - index);

        memmove(e->bucket + shift, e->bucket, e->used * sizeof(*e->bucket));
        memset(e->bucket, 0, shift * sizeof(*e->bucket));
        e->low = index;
        e->used += shift;
    }
    if ((uint32_t)(index - e->low) >= e->used)
        e->used = (uint32_t)(index - e->low) + 1;
    e->bucket[index - e->low] += count;
}
