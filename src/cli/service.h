/* SPDX-License-Identifier: Apache-2.0 */
/* The collector of a service that was set up by `scope service` (host/service.h). */
#ifndef SCOPE_CLI_SERVICE_H
#define SCOPE_CLI_SERVICE_H

#include <stdbool.h>
#include <sys/types.h>

/* A user in /etc/passwd; false if there is none. What others know of users (nsswitch.conf(5)) a static executable can't
 * ask for. */
bool service_user(const char *name, uid_t *ret_uid, gid_t *ret_gid);

/* systemd starts it, with its sockets (sd_listen_fds(3)): the collector, in this process, until SIGTERM. user: whom it
 * becomes once it has written what systemd has to know; NULL: it stays root. Returns its exit status. */
int service_collector(const char *name, const char *user);
/* A script starts it: runs the collector in the background, unless it runs, and prints what the shell has to export.
 * It ends by itself a while after the last process. */
int service_start(const char *name, const char *user);
/* Has the collector observe what runs of the service and won't join by itself: static programs, and all that ran before the
 * collector did, as that is another one now; what its predecessor has left in them is taken out first. systemd starts it
 * once the collector is ready, and once a static service has been started. */
int service_join_running(const char *name);
/* Takes out what its collectors have brought into what runs of the service, in processes that systemd has in its control
 * groups. How many could not be left, each told. */
unsigned service_leave(const char *name, const char *key);
/* Before each start of the service, as its unit may be another one since its collector began, and its sandbox end who joins:
 * then it starts without, and the collector ends. */
int service_check(const char *name);
/* Has the collector read its configuration again, for what runs already, too. 0, or -errno: -ENOENT, -ECONNREFUSED: none runs;
 * -EINVAL: it can't read or use it (one that isn't root's can't), and what was in force stays. */
int service_reload(const char *name);

#endif
