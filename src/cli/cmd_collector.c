/* SPDX-License-Identifier: Apache-2.0 */
/* For the probe: a program that was started with LD_PRELOAD alone starts its collector through this. */
#include "cli/commands.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/host.h"
#include "cli/host_setup.h"
#include "cli/launching.h"
#include "cli/service.h"
#include "config/config.h"
#include "inject/launch.h"

static const struct cli_option options[] = {
    {"socket-fd", "N", "A bound and listening SOCK_SEQPACKET socket", NULL, 0, false, false},
    {"service", "NAME", "Of a service (scope service), as systemd starts it", NULL, 0, false, false},
    {"user", "USER", "With --service: whom it becomes", NULL, 0, false, false},
    {"start", NULL, "With --service: start it unless it runs, and print what a script has to export", NULL, 0, false, false},
    {"join-running", NULL, "With --service: have it observe what runs of the service", NULL, 0, false, false},
    {"check", NULL, "With --service: look whether the set-up is still what the unit asks for, or end the collector", NULL, 0,
     false, false},
    {"ready-fd", "N", "Gets one byte when processes can join", NULL, 0, false, false},
    {"host", NULL, "The standing collector of this host, as a service", NULL, 0, false, false},
    {"daemon", NULL, "With --host: in the background", NULL, 0, false, false},
    {"stop", NULL, "With --host: end it", NULL, 0, false, false},
    {"reload", NULL, "With --host: have it read the rules again", NULL, 0, false, false},
    {"status", NULL, "With --host: whether it runs (exit status 3: it doesn't)", NULL, 0, false, false},
    {"host-listen-fd", "N", "The collector of a host itself, below its supervisor: the socket for joining", NULL, 0,
     false, true},
    {"host-request-fd", "N", "... and the one for requests", NULL, 0, false, true},
    {"lib", "FILE", "... and the library that programs load", NULL, 0, false, true},
    {"plans", "DIR", "... and where plans are", NULL, 0, false, true},
    {0},
};

/* One of those that were inherited: 0 or an exit status after a message. */
static int take_socket(int64_t fd)
{
    int type = 0, listening = 0;
    socklen_t len = sizeof(type);

    if (getsockopt((int)fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_SEQPACKET ||
        getsockopt((int)fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) < 0 || !listening) {
        cli_error("descriptor %d is no listening SOCK_SEQPACKET socket", (int)fd);
        return EXIT_FAILED;
    }
    fcntl((int)fd, F_SETFD, FD_CLOEXEC);
    fcntl((int)fd, F_SETFL, O_NONBLOCK);
    return 0;
}

static int take_ready(int64_t fd)
{
    if (fcntl((int)fd, F_GETFD) < 0) {
        cli_error("descriptor %d: %s", (int)fd, strerror(errno));
        return EXIT_FAILED;
    }
    fcntl((int)fd, F_SETFD, FD_CLOEXEC);
    return 0;
}

static int run_below(const struct args *a, int64_t listen_fd, int64_t request_fd, int64_t ready_fd)
{
    int rc;

    if (request_fd < 0 || ready_fd < 0 || request_fd == listen_fd || ready_fd == listen_fd || ready_fd == request_fd)
        return cli_usage(a->command, "--host-listen-fd, --host-request-fd and --ready-fd are needed");
    if ((rc = take_socket(listen_fd)) || (rc = take_socket(request_fd)) || (rc = take_ready(ready_fd)))
        return rc;
    return host_collector(&(struct host_args){.listen_fd = (int)listen_fd,
                                              .request_fd = (int)request_fd,
                                              .ready_fd = (int)ready_fd,
                                              .lib = args_get(a, "lib"),
                                              .plans = args_get(a, "plans")});
}

/* What init scripts start. */
static int run_service(const struct args *a)
{
    int rc;

    if (geteuid() != 0) {
        cli_error("only root can do that: it is about the programs of all users");
        return EXIT_FAILED;
    }
    if (args_has(a, "stop")) {
        rc = host_stop_supervisor();
        if (rc < 0)
            cli_error("it doesn't end: %s", strerror(-rc));
        return rc < 0 ? EXIT_FAILED : 0;
    }
    if (args_has(a, "reload") || args_has(a, "status")) {
        pid_t pid = host_supervisor_pid();

        if (args_has(a, "status"))
            return pid ? 0 : 3; /* as the LSB has it for init scripts: not running */
        if (pid && kill(pid, SIGHUP) == 0)
            return 0;
        cli_error("it doesn't run");
        return EXIT_FAILED;
    }
    if (args_has(a, "daemon")) {
        if (host_supervisor_pid()) /* an init script's second start is none */
            return 0;
        rc = host_daemonize();
        if (rc < 0) {
            cli_error("it can't be started: %s", strerror(-rc));
            return EXIT_FAILED;
        }
    }
    return host_supervisor();
}

static int run(struct args *a)
{
    int64_t socket_fd = -1, ready_fd = -1, listen_fd = -1, request_fd = -1;
    int rc;

    if (args_has(a, "service")) {
        const char *name = args_get(a, "service"), *user = args_get(a, "user");

        return args_has(a, "join-running") ? service_join_running(name)
               : args_has(a, "check")      ? service_check(name)
               : args_has(a, "start")      ? service_start(name, user)
                                           : service_collector(name, user);
    }
    if (args_has(a, "host"))
        return run_service(a);
    if ((rc = args_number(a, "socket-fd", 3, 1 << 20, &socket_fd)) ||
        (rc = args_number(a, "ready-fd", 3, 1 << 20, &ready_fd)) ||
        (rc = args_number(a, "host-listen-fd", 3, 1 << 20, &listen_fd)) ||
        (rc = args_number(a, "host-request-fd", 3, 1 << 20, &request_fd)))
        return rc;
    if (listen_fd >= 0)
        return run_below(a, listen_fd, request_fd, ready_fd);
    if (socket_fd < 0 || ready_fd < 0 || socket_fd == ready_fd)
        return cli_usage(a->command, "--socket-fd and --ready-fd are needed");
    if ((rc = take_socket(socket_fd)) || (rc = take_ready(ready_fd)))
        return rc;
    setsid(); /* fails harmlessly if we lead a session already */
    return collector_standalone((int)socket_fd, (int)ready_fd);
}

const struct cli_command command_collector = {
    .name = "collector",
    .summary = "Collect from processes that load the library by themselves",
    .usage = "--socket-fd N --ready-fd N | --service NAME | --host [--daemon | --stop | --reload | --status]",
    .description = "Started by the library in a program that has LD_PRELOAD=libscope.so and no SCOPE_SOCKET. --host is "
                   "what `scope start` has the init system run.",
    .options = options,
    .max_args = 0,
    .hidden = true,
    .run = run,
};
