/* SPDX-License-Identifier: Apache-2.0 */
/* What a service says to systemd, and gets from it (sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3)), without its
 * library. Single-threaded. */
#ifndef SCOPE_CLI_HOST_NOTIFY_H
#define SCOPE_CLI_HOST_NOTIFY_H

#include <stdint.h>

/* Takes what concerns us out of the environment, so that no child takes it for its own. */
void notify_begin(void);
/* Says so: "READY=1\nSTATUS=..."; nothing if nobody listens. */
void notify(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* How often "WATCHDOG=1" must be said, in ms: half of what is allowed. 0: nobody waits for it. */
unsigned notify_watchdog_ms(void);
/* How many sockets we were started with, from descriptor 3 on; they are close-on-exec now. */
int notify_sockets(void);

#endif
