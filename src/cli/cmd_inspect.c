/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"
#include "cli/control.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct cli_option options[] = {
    {"all", NULL, "All processes that are observed, wherever their sessions are stored", NULL, 'a', false, false},
    {"json", NULL, "One JSON object per line", NULL, 'j', false, false},
    CLI_HOST_OPTION,
    CLI_ROOTDIR_OPTION,
    {0},
};

static const struct cli_example examples[] = {
    {"scope inspect 1234", "configuration, destinations and their state, and what the probe could not hook"},
    {"scope inspect --all -j | jq .interfaces", "the destinations of everything that is observed"},
    {0},
};

static int run(struct args *a)
{
    bool json = args_has(a, "json"), all = args_has(a, "all");
    json_t *found;
    pid_t pid = 0;
    int rc;

    if (all && a->word_count)
        return cli_usage(a->command, "--all takes no process");
    rc = cli_enter_root(a);
    if (rc == 0)
        rc = cli_use_host(a);
    if (rc == 0 && !all)
        rc = cli_observed_pid(a, &pid);
    if (rc == 0)
        rc = control_inspect_all(pid, &found);
    if (rc)
        return rc;
    control_print(found, json, all);
    json_decref(found);
    return 0;
}

const struct cli_command command_inspect = {
    .name = "inspect",
    .summary = "Show how a process is observed",
    .usage = "[OPTIONS] [PID|NAME]",
    .description =
        "Without an argument, and where several processes have that name, a table is shown on a terminal and one can "
        "be "
        "chosen from it.\n"
        "Prints, as JSON, the configuration in effect (cfg.current), the destinations with their state (interfaces), "
        "who the process is (process), and what its probe says (probe): how many system call sites in its code are "
        "observed and how many had to be left alone (sites_patched, sites_left), what was lost, by kind (lost), and "
        "for each program file and library (by_image) its path, its build id, the sites that were patched by the "
        "method, and those that were refused by the reason: as the planner decided, or because its bytes are others "
        "than its file's, it could not be changed, or a thread stood in it. `scope logs` tells which images could not "
        "be patched at all. "
        "tls tells how the plaintext of TLS is had: ways, by program file or library (library, go: functions that were "
        "found and are hooked; keys: places where keys are set up, or why they are left alone; jsse: native methods by "
        "which Java is reached), those by which some was seen (seen), and if there is no way, the reason (not_read, why). "
        "Without it, network traffic isn't wanted.",
    .options = options,
    .examples = examples,
    .min_args = 0,
    .max_args = 1,
    .run = run,
};
