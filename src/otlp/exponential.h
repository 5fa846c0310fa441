/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Histograms with exponential buckets: OpenTelemetry's metrics data model,
 * "ExponentialHistogram". At scale s the bucket i holds what is greater than
 * base^i and at most base^(i+1), where base is 2^(2^-s). The scale is the finest
 * at which all that has come fits into EXPONENTIAL_BUCKETS buckets.
 *
 * Values are zero or positive; there are no negative buckets.
 */
#ifndef SCOPE_OTLP_EXPONENTIAL_H
#define SCOPE_OTLP_EXPONENTIAL_H

#include <stdint.h>

#define EXPONENTIAL_BUCKETS   160 /* the default of the specification's base2_exponential_bucket_histogram_aggregation */
#define EXPONENTIAL_SCALE_MAX 20  /* the same */
#define EXPONENTIAL_SCALE_MIN (-10)

struct exponential {
    int scale;
    int32_t low;                  /* index of bucket[0] */
    uint32_t used;                /* buckets up to the last one that isn't empty */
    uint64_t zero;                /* how many values were 0 */
    uint64_t bucket[EXPONENTIAL_BUCKETS];
};

/* Nothing is in it. */
void exponential_reset(struct exponential *e);
/* value: finite; what is not above 0 counts as 0. */
void exponential_add(struct exponential *e, double value, uint64_t count);
/* The bucket that a value > 0 falls into. scale: as above. */
int32_t exponential_index(double value, int scale);

#endif
