/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing a capture file: the blocks of pcapng that packets need
 * (draft-ietf-opsawg-pcapng, one section). Errors of the stream are left for
 * ferror(3).
 */
#ifndef SCOPE_SESSION_PCAPNG_H
#define SCOPE_SESSION_PCAPNG_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define PCAPNG_LINKTYPE_RAW 101u /* the packet begins with an IPv4 or IPv6 header */

enum pcapng_flags { PCAPNG_INBOUND = 1, PCAPNG_OUTBOUND = 2 }; /* epb_flags */

/* A piece of a packet. */
struct pcapng_part {
    const void *p;
    size_t len;
};

/* Section header. Texts may be NULL. */
void pcapng_section(FILE *to, const char *application, const char *comment);
/* An interface whose times are nanoseconds. They are numbered from 0. */
void pcapng_interface(FILE *to, uint16_t linktype, const char *name, const char *description);
/* A whole packet in pieces, at most 256 KiB altogether. time_ns since 1970. */
void pcapng_packet(FILE *to, uint32_t interface, uint64_t time_ns, uint32_t flags, const char *comment,
                   const struct pcapng_part *parts, size_t count);

#endif
