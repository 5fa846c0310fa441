/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What both transports of OTLP share: requests made of records of the queue, one at a time, and what becomes of their
 * items. A request's records stay in the queue until there is an answer, so that they needn't be put back.
 * (opentelemetry-proto, docs/specification.md)
 */
#ifndef SCOPE_OUTPUT_OTLP_H
#define SCOPE_OUTPUT_OTLP_H

#include "output/internal.h"

struct otlp;

struct otlp *otlp_new(const struct cfg_otlp_to *cfg, enum cfg_otlp_signal signal);
void otlp_free(struct otlp *); /* or NULL */
/* Everything but cfg->transport is compared. */
bool otlp_same(const struct otlp *, const struct cfg_otlp_to *cfg, enum cfg_otlp_signal signal);
/* malloc'ed, for people: without what may be secret. cfg is that of otlp_new(). */
char *otlp_url(const struct otlp *, const struct cfg_otlp_to *cfg);
const char *otlp_items(const struct otlp *); /* "spans" */
/* An answer is awaited. */
bool otlp_is_busy(const struct otlp *);
const char *otlp_alpn(const struct otlp *);
const struct transport *otlp_transport(const struct otlp *);

#endif
