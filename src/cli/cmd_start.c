/* SPDX-License-Identifier: Apache-2.0 */
/* scope start, scope stop: observing a whole host by its rules, and the end of that. */
#include "cli/commands.h"

#include <stdlib.h>

#include "cli/host_setup.h"
#include "host/host.h"
#include "rules/rules.h"

static const struct cli_option start_options[] = {
    CLI_ROOTDIR_OPTION,
    {0},
};

static const struct cli_option stop_options[] = {
    {"force", NULL, "Do it", NULL, 'f', false, false},
    {"uninstall", NULL, "With --force: remove the service, the library and all other files, but for recordings and rules",
     NULL, 0, false, false},
    {"purge", NULL, "With --uninstall: remove recordings and rules as well", NULL, 0, false, false},
    CLI_ROOTDIR_OPTION,
    {0},
};

static const struct cli_example start_examples[] = {
    {"sudo scope start", "observe the programs that /etc/scope/rules.yml names, from now on and after each boot"},
    {"scope start -R /hostfs", "from a privileged container that has the host's / there"},
    {0},
};

static const struct cli_example stop_examples[] = {
    {"scope stop", "what it would do"},
    {"sudo scope stop -f", "do it; `scope start` begins again"},
    {"sudo scope stop -f --uninstall --purge", "as if there had never been a scope"},
    {0},
};

static int run_start(struct args *a)
{
    int rc = cli_enter_root(a);

    return rc ? rc : host_start(false);
}

static int run_stop(struct args *a)
{
    struct host_stop_options o = {args_has(a, "uninstall"), args_has(a, "purge")};
    char *line = NULL;
    int rc;

    if (o.purge && !o.uninstall)
        return cli_usage(a->command, "--purge goes with --uninstall");
    rc = cli_enter_root(a);
    if (rc)
        return rc;
    if (args_has(a, "force"))
        return host_stop(&o);
    host_preload_has("", &line);
    printf("This would\n");
    printf("  take %s out of /etc/ld.so.preload%s\n", line ? line : "our line", line ? "" : " (it isn't there)");
    printf("  leave all programs that are observed by rules: they go on\n");
    printf("  stop the service " HOST_SERVICE ", now and at the next boot\n");
    if (o.uninstall)
        printf("  remove its files, " HOST_LIB_DIR " and " HOST_DIR "\n");
    if (o.purge)
        printf("  remove " HOST_STORE " and " HOST_RULES "\n");
    printf("`scope stop -f%s` does it.\n", o.purge ? " --uninstall --purge" : o.uninstall ? " --uninstall" : "");
    free(line);
    return 0;
}

const struct cli_command command_start = {
    .name = "start",
    .summary = "Observe a whole host: the programs that its rules name",
    .usage = "[-R DIR]",
    .description =
        "Has every program observed that a rule in /etc/scope/rules.yml names (`scope rules`): those that run "
        "already, and those that are started from now on, by whomever.\n"
        "The library and a copy of scope go to /usr/lib/appscope. The service appscope (systemd, OpenRC or an init "
        "script) is installed and started. When it is ready, and a program has been started with the library for "
        "trial, a line is added to /etc/ld.so.preload. If a step fails, or scope is interrupted, all is undone. "
        "Given again, it puts right what is missing, and replaces another version. `scope stop -f` undoes it.\n"
        "Only root can do that. docs/host.md has more.",
    .options = start_options,
    .examples = start_examples,
    .run = run_start,
};

const struct cli_command command_stop = {
    .name = "stop",
    .summary = "End observing a whole host",
    .usage = "[-f [--uninstall [--purge]]] [-R DIR]",
    .description =
        "Takes scope's line out of /etc/ld.so.preload, detaches from every program that is observed by rules, and "
        "stops the service. What is installed stays for another `scope start`; --uninstall removes it. Without -f "
        "scope only says what it would do.\n"
        "Sessions of `scope run`, `scope attach` and `scope service` are not concerned.",
    .options = stop_options,
    .examples = stop_examples,
    .run = run_stop,
};
