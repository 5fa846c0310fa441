/* SPDX-License-Identifier: Apache-2.0 */
/* For the probe: a program that was started with LD_PRELOAD alone starts its collector through this. */
#include "cli/commands.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "config/config.h"
#include "inject/launch.h"
#include "cli/launching.h"

static const struct cli_option options[] = {
    {"socket-fd", "N", "A bound and listening SOCK_SEQPACKET socket", NULL, 0, false, false},
    {"ready-fd", "N", "Gets one byte when processes can join", NULL, 0, false, false},
    {0},
};

static int run(struct args *a)
{
    int64_t socket_fd = -1, ready_fd = -1;
    int type = 0, listening = 0, rc;
    socklen_t len = sizeof(type);

    if ((rc = args_number(a, "socket-fd", 3, 1 << 20, &socket_fd)) ||
        (rc = args_number(a, "ready-fd", 3, 1 << 20, &ready_fd)))
        return rc;
    if (socket_fd < 0 || ready_fd < 0 || socket_fd == ready_fd)
        return cli_usage(a->command, "--socket-fd and --ready-fd are needed");
    if (getsockopt((int)socket_fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_SEQPACKET ||
        getsockopt((int)socket_fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) < 0 || !listening) {
        cli_error("descriptor %d is no listening SOCK_SEQPACKET socket", (int)socket_fd);
        return EXIT_FAILED;
    }
    if (fcntl((int)ready_fd, F_GETFD) < 0) {
        cli_error("descriptor %d: %s", (int)ready_fd, strerror(errno));
        return EXIT_FAILED;
    }
    fcntl((int)socket_fd, F_SETFD, FD_CLOEXEC);
    fcntl((int)socket_fd, F_SETFL, O_NONBLOCK);
    fcntl((int)ready_fd, F_SETFD, FD_CLOEXEC);
    setsid(); /* fails harmlessly if we lead a session already */
    return collector_standalone((int)socket_fd, (int)ready_fd);
}

const struct cli_command command_collector = {
    .name = "collector",
    .summary = "Collect from processes that load the library by themselves",
    .usage = "--socket-fd N --ready-fd N",
    .description = "Started by the library in a program that has LD_PRELOAD=libscope.so and no SCOPE_SOCKET.",
    .options = options,
    .max_args = 0,
    .hidden = true,
    .run = run,
};
