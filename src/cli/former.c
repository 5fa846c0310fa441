/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands and options of AppScope 1.4 that this scope doesn't have. A script that still uses one must be told so: a
 * word that is no command is a program to run, and programs called prom, service or snapshot are at hand on many
 * machines.
 */
#include "cli/cli.h"

#include <string.h>

const struct cli_former cli_former_commands[] = {
    {"bolton", "it was only a picture"},
    {"prom", "`scope run -m prometheus://127.0.0.1:9109` is scraped by a Prometheus (docs/prometheus.md)"},
    {0},
};

/* Options of 1.4's loader, which stood before any command. */
static const struct cli_former options[] = {
    {"--ldattach", "`scope attach PID`"},
    {"--lddetach", "`scope detach PID`"},
    {"--install", "`scope extract DIR`"},
    {"--rootdir", "`scope attach --rootdir DIR PID`"},
    {"--libbasedir", "`scope run --librarypath DIR PROGRAM`"},
    {0},
};

static const struct cli_former *find(const struct cli_former *list, const char *word, size_t len)
{
    for (; list->name; list++)
        if (strncmp(list->name, word, len) == 0 && list->name[len] == '\0')
            return list;
    return NULL;
}

const char *cli_former_option(const char *word)
{
    const struct cli_former *f = find(options, word, strcspn(word, "="));

    return f ? f->instead : NULL;
}

bool cli_is_former(const char *word)
{
    return find(cli_former_commands, word, strlen(word)) != NULL;
}

int cli_refuse_former(const char *word)
{
    const struct cli_former *f = find(cli_former_commands, word, strlen(word));

    cli_error("the command '%s' of AppScope 1.4 is not built", word);
    if (f)
        cli_hint("%s", f->instead);
    cli_hint("`scope run -- %s` runs a program of that name", word);
    return EXIT_USAGE;
}

const char *cli_closest_command(const char *word)
{
    const char *names[64] = {0};
    size_t n = 0;

    for (const struct cli_command *const *c = cli_commands; *c && n < 63; c++)
        if (!(*c)->hidden)
            names[n++] = (*c)->name;
    return cli_closest(word, names);
}
