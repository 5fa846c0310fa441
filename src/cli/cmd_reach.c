/* SPDX-License-Identifier: Apache-2.0 */
/* For tests, and to see by hand what becomes of a host's programs: what the standing collector's supervisor runs. */
#include "cli/commands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "inject/launch.h"
#include "reach/reach.h"
#include "wire/rules.h"

static const struct cli_option options[] = {
    {"socket", "NAME", "Of the collector, as in $SCOPE_SOCKET, instead of the host's", NULL, 0, false, false},
    {"proc", "DIR", "Where /proc is", NULL, 0, false, false},
    {"leave", NULL, "Detach from everything that this collector observes, and return", NULL, 0, false, false},
    CLI_ROOTDIR_OPTION,
    {0},
};

static int run(struct args *a)
{
    struct reach_args how = {.socket = args_get(a, "socket") ?: HOST_SOCKET, .proc = args_get(a, "proc") ?: "/proc"};
    char *lib = NULL, *plans = NULL, *what = NULL;
    int rc = cli_enter_root(a);

    if (rc)
        return rc;
    log_setup(stderr, LOGL_INFO, "scope");
    rc = launch_install(NULL, &lib, &plans, &what);
    if (rc < 0) {
        cli_error("can't install the library: %s", what);
        free(what);
        return EXIT_FAILED;
    }
    how.lib = lib;
    how.plans = plans;
    rc = args_has(a, "leave") ? reach_leave_all(&how) : reach_run(&how);
    if (rc < 0)
        cli_error("%s: %s", how.proc, strerror(-rc));
    free(lib);
    free(plans);
    free(what);
    return rc ? EXIT_FAILED : 0;
}

const struct cli_command command_reach = {
    .name = "reach",
    .summary = "Attach to what the host's rules name and the loader doesn't reach",
    .usage = "[OPTIONS]",
    .description = "Run by the standing collector of a host.",
    .options = options,
    .max_args = 0,
    .hidden = true,
    .run = run,
};
