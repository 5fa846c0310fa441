/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is spoken on a stream is found out here: from its first bytes (detect.h);
 * behind a preamble or in a tunnel once more; and where nobody understands what
 * passes, again at each turn of direction (HTTP), or where a ClientHello may begin
 * (STARTTLS), within a budget.
 */
#ifndef SCOPE_TRAFFIC_RECOGNISE_H
#define SCOPE_TRAFFIC_RECOGNISE_H

#include "traffic/feed.h"

/* Nobody knows yet: a stream begins so. Its decoder is its struct detect, NULL before the first bytes. */
extern const struct protocol protocol_undecided;
/* Whether a decoder has the bytes: then they aren't looked at for anything else. */
static inline bool recognise_is_done(const struct stream *s)
{
    return s->speaks != &protocol_undecided && s->speaks != &protocol_nothing;
}

/* Compiles what the configuration says about protocols; sets what it wants of them. */
void recognise_prepare(struct pipeline *pl);
void recognise_unprepare(struct pipeline *pl);

/* What passed, each byte once, on its way to the decoder and the payload files. begins: it is the beginning of a call;
 * a hello is. */
void recognise_pass(struct stream *s, enum proto_dir dir, const uint8_t *data, uint64_t len, uint64_t time_ns,
                    bool begins);
/* Passes on what was held back, for it may have been the beginning of TLS. */
void recognise_release(struct stream *s);
/* Nothing more of it comes. */
void recognise_end(struct stream *s, uint64_t time_ns);
/* Frees stream.start. */
void recognise_forget(struct stream *s);

/* TLS may still begin on it: it is nothing that is understood. */
bool recognise_may_become_tls(const struct stream *s);
/* Whether something that comes may tell what it is: the probe need not capture more than that. */
bool recognise_needs_more(const struct stream *s, const struct pipeline *pl);
/* Whether these bytes of the beginning of a call, or that follow what is held back, may be those of a hello. */
bool recognise_hello(const struct stream *s, const uint8_t *data, size_t len);

#endif
