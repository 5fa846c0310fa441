/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"

#include <string.h>

static const struct cli_option options[] = {
    {"man", NULL, "The whole as a man page", NULL, 0, false, true},
    {"markdown", NULL, "The whole as Markdown", NULL, 0, false, true},
    {0},
};

static const struct cli_example examples[] = {
    {"scope help examples", "ten tasks, and the commands for them"},
    {"scope help events", "explain a command"},
    {0},
};

static int run(struct args *a)
{
    const struct cli_command *c;

    if (args_has(a, "man")) {
        help_man(stdout);
    } else if (args_has(a, "markdown")) {
        help_markdown(stdout);
    } else if (a->word_count == 0) {
        help_overview(stdout);
    } else if (strcmp(a->words[0], "examples") == 0) {
        help_examples(stdout);
    } else {
        c = cli_find(a->words[0]);
        if (!c) {
            const char *like;

            if (cli_is_former(a->words[0]))
                return cli_refuse_former(a->words[0]);
            like = cli_closest_command(a->words[0]);
            cli_error("there is no command '%s'", a->words[0]);
            if (like)
                cli_hint("did you mean `scope help %s`?", like);
            return EXIT_USAGE;
        }
        help_command(stdout, c);
    }
    return 0;
}

const struct cli_command command_help = {
    .name = "help",
    .summary = "Explain scope or one of its commands",
    .usage = "[COMMAND|examples]",
    .description = "Without an argument: the list of commands.",
    .options = options,
    .examples = examples,
    .words = "<command> examples",
    .max_args = 1,
    .run = run,
};
