/* SPDX-License-Identifier: Apache-2.0 */
/* From the keys in a segment (wire/segment.h, struct seg_key) to the candidates of traffic/tls_keys.h: when a connection
 * asks, and now and then. */
#ifndef SCOPE_COLLECTOR_KEYS_H
#define SCOPE_COLLECTOR_KEYS_H

struct proc;
struct segment;
struct tls_keys;

/* model_watch.tls_keys */
struct tls_keys *keys_of(struct proc *p);
/* Now and then: what is too old is wiped, in the segment, too. */
void keys_sweep(struct segment *seg);

#endif
