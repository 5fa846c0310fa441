/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"

static const struct cli_option options[] = {
    {"passthrough", NULL, "No session: environment and scope.yml say what is observed and where it goes", NULL, 'z',
     false, false},
    {0},
};

static const struct cli_example examples[] = {
    {"scope run curl https://example.org/", "observe one command; `scope events` shows what it did"},
    {"scope top", "the short form, for programs whose name is no command of scope"},
    {"scope run -v 9 --syscalls -- make -j2", "everything there is to see of a build"},
    {"scope run -e tcp://collector.example.org:9109 -m udp://127.0.0.1:8125 --metricformat statsd nginx",
     "send it elsewhere"},
    {"SCOPE_EVENT_DEST=file:///tmp/events.json scope -z ./server", "without a session, configured by the environment"},
    {0},
};

static int run(struct args *a)
{
    return args_has(a, "passthrough") ? cli_run_passthrough(a) : cli_run_program(a, "run");
}

const struct cli_command command_run = {
    .name = "run",
    .summary = "Run a program and record what it does",
    .usage = "[OPTIONS] [--] PROGRAM [ARGUMENTS]",
    .description =
        "Runs PROGRAM observed. A collector process is started beside it, then scope becomes the program: process id, "
        "terminal, exit status and death by signal are the program's own, and nothing is added to its output.\n"
        "What was observed is stored as a session, which events, metrics, history and logs read. Events and metrics go "
        "into the session's directory unless options or SCOPE_* variables send them elsewhere. Options stop at the "
        "first "
        "word that is none; what follows belongs to the program. Programs that the program starts are observed as "
        "well.\n"
        "A program that can't be observed (32-bit, setuid; a static one that may not be traced) runs as if it had been "
        "started without scope; the session's log names it. If scope can't prepare a session it says so and runs the program "
        "unobserved.\n"
        "As process 1 of a container scope stays process 1 and the program is its child, because everything else in the "
        "container ends with process 1. The program gets the signals that process 1 would get (those that it has a handler "
        "for), its orphans become its children, and what else runs is killed when it ends; then the collector has 5 s to "
        "deliver what it has. Death by signal N becomes status 128 + N.\n"
        "Where the library can't be put anywhere (a read-only root directory, a /tmp that is mounted noexec) it is brought "
        "into each program from outside, if programs may be traced.\n"
        "Exit status: the program's own; 2 for wrong options, 125 if scope failed before starting the program, 126 if "
        "it "
        "can't be executed, 127 if there is no such program.",
    .options = options,
    .more_options = cli_run_options,
    .examples = examples,
    .words = "<program>",
    .min_args = 1,
    .max_args = -1,
    .stop_at_word = true,
    .run = run,
};
