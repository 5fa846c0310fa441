/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the keys in a segment (wire/segment.h, struct seg_key), and those in the
 * memory of its process (key_scan.h), to the candidates of traffic/tls_keys.h:
 * when a connection asks, and now and then.
 */
#ifndef SCOPE_COLLECTOR_KEYS_H
#define SCOPE_COLLECTOR_KEYS_H

#include <stdint.h>

#include "model/model.h"

struct proc;
struct segment;
struct tls_keys;

/* model_watch.tls_keys */
struct tls_keys *keys_of(struct proc *p);
/* model_watch.tls_search */
enum tls_search keys_search(struct proc *p, uint64_t *ticket);
/* Now and then: what is too old is wiped, in the segment, too; a search goes on. */
void keys_sweep(struct segment *seg);

#endif
