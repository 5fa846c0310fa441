/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a process's operations are counted as between two summaries.
 */
#ifndef SCOPE_MODEL_SUMS_H
#define SCOPE_MODEL_SUMS_H

#include <stdint.h>

#include "event/event.h"

enum err_class {
    ERR_OPEN_CLOSE, ERR_READ_WRITE, ERR_SYNC, ERR_SEEK, ERR_STAT, ERR_DELETE, ERR_CREATE, ERR_RENAME, ERR_CHANGE,
    ERR_DESC, ERR_MAP, ERR_CONNECTION, ERR_RX_TX, ERR_DNS, ERR_MAX
};
enum net_class { NETC_INET_TCP, NETC_INET_UDP, NETC_UNIX_TCP, NETC_UNIX_UDP, NETC_OTHER, NETC_MAX };

/* What has been counted since the last summary. */
struct sums {
    uint64_t value[TM_METRIC_MAX], ops[TM_METRIC_MAX];
    uint64_t net[2][NETC_MAX], net_ops[2][NETC_MAX]; /* received, sent */
    uint64_t error[ERR_MAX];
};

#endif
