/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"
#include "cli/control.h"

#include <stdlib.h>

static const struct cli_option options[] = {
    {"inspect", NULL, "Show afterwards how it is observed, as `scope inspect` does", NULL, 'i', false, false},
    {"json", NULL, "With --inspect: one JSON object per line", NULL, 'j', false, false},
    CLI_TARGET_OPTIONS,
    {0},
};

static const struct cli_example examples[] = {
    {"scope attach 4242", "observe process 4242; `scope events -f` shows what it does"},
    {"scope attach nginx --all-matches", "all processes called nginx, as one session"},
    {"scope attach -e tcp://collector.example.org:9109 redis-server", "send it elsewhere"},
    {"scope attach 4242 < scope.yml", "configured by a file, as with -u"},
    {"scope detach 4242", "stop observing it"},
    {0},
};

static int run(struct args *a)
{
    pid_t *pids;
    size_t count;
    json_t *found;
    int rc;

    if (args_has(a, "json") && !args_has(a, "inspect"))
        return cli_usage(a->command, "--json needs --inspect");
    rc = cli_enter_root(a);
    if (rc == 0)
        rc = cli_targets(a, a->words[0], false, &pids, &count);
    if (rc)
        return rc;
    rc = cli_attach(a, pids, &count);
    if (args_has(a, "inspect") && count) {
        int failed = control_inspect_some(pids, count, &found);

        if (!failed) {
            control_print(found, args_has(a, "json"), count > 1);
            json_decref(found);
        }
        rc = rc ? rc : failed;
    }
    free(pids);
    return rc;
}

const struct cli_command command_attach = {
    .name = "attach",
    .summary = "Observe a process that runs already",
    .usage = "[OPTIONS] PID|NAME",
    .description =
        "Brings the library into a running process and records what it does from then on, as a session. "
        "NAME is the exact "
        "name of the process or of its file; of several a table is shown on a terminal, and one can be chosen "
        "from it. Programs that it starts are observed as well.\n"
        "A file or pipe on standard input that says something is read as a scope.yml, as if -u named it.\n"
        "The threads of the process are stopped for some milliseconds; the message tells for how long. "
        "Calls that they wait "
        "in go on as if nothing had been; a call with a timeout that the kernel does not restart by itself "
        "(epoll_wait and "
        "the like) begins its timeout anew. A process that is stopped by job control stays so.\n"
        "Needs the right to trace the process: root, CAP_SYS_PTRACE, or to be its owner where "
        "kernel.yama.ptrace_scope is "
        "0. Processes that are traced already and 32-bit programs can't be attached to.\n"
        "Processes in containers are attached to like others. From inside a privileged container --rootdir acts on the "
        "host: files and paths are then the host's. The container must share the host's pid namespace (docker run "
        "--pid=host), or the host have a systemd, which then starts the command. "
        "What it starts there goes on when the container ends.",
    .options = options,
    .more_options = cli_run_options,
    .examples = examples,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
