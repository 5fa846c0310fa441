/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flight record of a process that has crashed: what it did last, out of the
 * journal that its events go into (docs/crashes.md).
 */
#ifndef SCOPE_SINK_FLIGHT_H
#define SCOPE_SINK_FLIGHT_H

#include <stddef.h>
#include <stdint.h>

#define FLIGHT_EVENTS 100u              /* that are kept */
#define FLIGHT_SHORT 20u                /* of those, also in short lines for people */
#define FLIGHT_EVENT_BYTES (128u << 10) /* of one as a line of JSON: a larger one is among the short lines only */
#define FLIGHT_LOOK \
    400000u /* events with the process's number that are looked at, or a few more, going back from the end */

struct flight {
    uint32_t pid, host_pid; /* as the process and the collector see it; host_pid 0: not known */
    uint64_t from_ns;       /* CLOCK_REALTIME: when it began; who had its number before is another one */
};

/*
 * Writes the last events of a process as lines of JSON (ndjson.h) to `lines`, and the last of these, one short line
 * each, to `text` (-1: not). The journal stays the caller's; nothing may be waiting to be written to it. Returns how
 * many events there are, or -errno. May take as long as reading the journal: the caller sees to a bound. What it needs
 * of memory is bounded by the two numbers of bytes and events, and by what the reader needs (journal/format.h).
 */
int flight_write(int journal, const struct flight *who, int lines, int text);

#endif
