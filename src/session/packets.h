/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Captured flows as packets, for Wireshark and its like: IPv4 or IPv6 without a
 * link layer, TCP with handshake, correct sequence numbers and checksums, and
 * FIN; datagrams as UDP. What was not captured is a missing range of sequence
 * numbers. Which addresses stand for what has none on the internet, and which
 * ports for those of TLS, is in docs/data-model.md, "Flows as packets".
 */
#ifndef SCOPE_SESSION_PACKETS_H
#define SCOPE_SESSION_PACKETS_H

#include <stdio.h>

#include "session/payload.h"

struct packets;

/* Begins a capture file. Both stay the caller's; errors of the stream are left for ferror(3). */
struct packets *packets_new(FILE *to, struct payload_reader *from, const char *application);
/* What a record of `from`, which has just been read, has been on the network. 0; -ENODATA if its file is shorter than
 * the index says, or -errno from reading the file: what could be read has been written then, the rest is a gap. */
int packets_add(struct packets *p, const struct payload_record *record);
void packets_free(struct packets *p);

#endif
