/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log of a collector (libscope.log.transport): a stream for log_setup() that copies each line into files and, over
 * an output, to a destination that is none. There is one log, as there is one log_setup().
 *
 * An output may itself log, while it writes; and others may log before there is an event loop, or from another thread.
 * So lines wait in a socket of this process for the event loop.
 */
#ifndef SCOPE_OUTPUT_LOG_LINK_H
#define SCOPE_OUTPUT_LOG_LINK_H

#include <stdio.h>

#include "base/buf.h"
#include "config/config.h"

struct event_base;

/* files: up to two, NULL for none; they stay the caller's. network: a destination other than a file, or NULL. Returns a
 * stream that lives as long as the process, or NULL for lack of descriptors. */
FILE *log_link_open(FILE *const files[2], const struct cfg_transport *network);
/* From now on the event loop delivers what is logged. Nothing happens if no log goes to a network. */
void log_link_start(struct event_base *);
/* Delivers what is still to come, at most `ms` milliseconds, before the event loop is freed. What could not be is told
 * in the files. */
void log_link_end(unsigned ms);
/* Appends state and name of the network's output as output_describe() does. */
void log_link_describe(struct buf *);

#endif
