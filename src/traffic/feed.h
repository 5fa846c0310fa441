/* SPDX-License-Identifier: Apache-2.0 */
/* What a stream has in common whatever is spoken: its decoder is fed, and replaced by another one. */
#ifndef SCOPE_TRAFFIC_FEED_H
#define SCOPE_TRAFFIC_FEED_H

#include "traffic/protocol.h"

/* Nothing that is understood. Its decoder is NULL. */
extern const struct protocol protocol_nothing;

/* Another decoder (taken), in place of what the stream has, which is freed. */
void feed_become(struct stream *s, const struct protocol *what, void *decoder, uint64_t time_ns);
/* What was announced by stream_becomes() takes over. */
void feed_change(struct stream *s, uint64_t time_ns);

/* data NULL: a gap. */
static inline void feed(struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns)
{
    if (!len)
        return;
    if (s->datagrams && s->speaks->datagram)
        s->speaks->datagram(s->decoder, s, dir, data, len, time_ns);
    else
        s->speaks->feed(s->decoder, s, dir, data, len, time_ns);
    if (s->next)
        feed_change(s, time_ns);
}

#endif
