/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What all decoders have in common.
 *
 * A decoder belongs to one connection (or datagram socket). It is given the
 * bytes of each direction in order, in pieces of any size, and calls its owner
 * back with what it found. It knows nothing of descriptors, processes or
 * outputs. Rules for all of them:
 *
 * - Resumable at every byte: the same messages come out, whatever the pieces.
 * - Bytes are hostile. Time is linear in them; memory is bounded by constants
 *   that the header of the decoder states; nothing is trusted for being sent by
 *   the observed program.
 * - Gaps: bytes that passed but weren't captured (sendfile, a full ring) come as
 *   a length without data. Where a body is known to go on they are part of it;
 *   elsewhere the direction is out of step until the next unmistakable
 *   beginning, and what was lost is told, never guessed.
 * - Slices that a callback gets are valid during the callback only.
 * - Single-threaded. A callback must not feed or free the decoder that calls it.
 */
#ifndef SCOPE_PROTOCOL_PROTOCOL_H
#define SCOPE_PROTOCOL_PROTOCOL_H

#include <stddef.h>
#include <stdint.h>

/* As the observed process sees it. */
enum proto_dir { PROTO_RX, PROTO_TX, PROTO_DIRS };

static inline enum proto_dir proto_other(enum proto_dir d)
{
    return d == PROTO_RX ? PROTO_TX : PROTO_RX;
}

/* Bytes of somebody else's; not terminated. p is NULL for what is absent (an empty value is not). */
struct slice {
    const char *p;
    size_t len;
};

#endif
