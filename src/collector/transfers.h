/* SPDX-License-Identifier: Apache-2.0 */
/* What has passed through descriptors: numbers, text of consoles and files, traffic of sockets. */
#ifndef SCOPE_COLLECTOR_TRANSFERS_H
#define SCOPE_COLLECTOR_TRANSFERS_H

#include "collector/told.h"

/* A call that transfers bytes. */
void transfers_call(struct told *x);
/* Content of one (REC_DATA). */
void transfers_data(struct told *x);

#endif
