/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files with what went through connections (docs/data-model.md, "Payloads"):
 * one for each direction, and a common index that tells where connections begin
 * and where bytes are missing. Ciphertext is not written: what begins as TLS
 * isn't, its plaintext is.
 */
#ifndef SCOPE_COLLECTOR_PAYLOAD_H
#define SCOPE_COLLECTOR_PAYLOAD_H

#include "collector/stream.h"

struct payload;

/* plain: the bytes are the plaintext of TLS. Never fails. */
struct payload *payload_new(const struct proc *p, const struct sock *sock, uint64_t channel, bool plain);
void payload_free(struct payload *f); /* NULL is fine */
bool payload_refused(const struct payload *f); /* it is TLS */
/* len bytes of this direction; data NULL: they weren't captured. What can't be written is counted as lost for p. */
void payload_pass(struct payload *f, struct proc *p, enum proto_dir dir, const uint8_t *data, uint64_t len,
                  uint64_t time_ns);

#endif
