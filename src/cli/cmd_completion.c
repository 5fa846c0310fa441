/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"

static const struct cli_example examples[] = {
    {"source <(scope completion bash)", "completion in this bash"},
    {"scope completion zsh > ~/.zfunc/_scope", "for zsh, in a directory of $fpath"},
    {0},
};

static int run(struct args *a)
{
    if (help_completion(stdout, a->words[0]))
        return cli_usage(a->command, "there is no completion for '%s'; there is for bash and zsh", a->words[0]);
    return 0;
}

const struct cli_command command_completion = {
    .name = "completion",
    .summary = "Print a completion script for bash or zsh",
    .usage = "bash|zsh",
    .description = "The script completes commands, options and their values, and the programs that run starts.",
    .examples = examples,
    .words = "bash zsh",
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
