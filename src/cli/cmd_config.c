/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "config/config.h"

static const struct cli_option options[] = {
    {"json", NULL, "As JSON: problems one per line, the configuration as one object", NULL, 'j', false, false},
    {"markdown", NULL, "default: as the table of docs/config.md", NULL, 0, false, true},
    {0},
};

static const struct cli_example examples[] = {
    {"scope config check scope.yml", "is this file right?"},
    {"scope config show", "what applies here without a session, and where each value comes from"},
    {"scope config default > scope.yml", "a documented file to start with"},
    {0},
};

struct problems {
    bool json;
    unsigned fatal, remarks;
};

static void on_problem(void *ctx, const struct cfg_problem *p)
{
    struct problems *all = ctx;

    if (p->fatal)
        all->fatal++;
    else
        all->remarks++;
    if (all->json) {
        struct buf b = BUF_INIT;

        buf_str(&b, "{\"file\":");
        buf_json_str(&b, p->file ? p->file : "");
        buf_printf(&b, ",\"line\":%u,\"key\":", p->line);
        buf_json_str(&b, p->key ? p->key : "");
        buf_str(&b, ",\"text\":");
        buf_json_str(&b, p->text);
        buf_printf(&b, ",\"error\":%s}\n", p->fatal ? "true" : "false");
        fwrite(b.p, 1, b.len, stdout);
        buf_free(&b);
    } else {
        cli_problem(NULL, p);
    }
}

/* Loads FILE, or what would be used here. Returns 0 or an exit status after a message. */
static int load(struct args *a, struct config_sources *c, struct problems *p, char **ret_path, bool with_environ)
{
    int rc;

    *ret_path = a->word_count > 1 ? xstrdup(a->words[1]) : config_find_file((const char *const *)environ);
    if (*ret_path) {
        rc = config_add_file(c, *ret_path, on_problem, p);
        if (rc < 0)
            return EXIT_FAILED; /* on_problem() has told why */
    }
    if (with_environ)
        config_add_environ(c, (const char *const *)environ, on_problem, p);
    return 0;
}

static int check(struct args *a)
{
    struct problems p = {.json = args_has(a, "json")};
    struct config_sources *c = config_sources_new();
    char *path;
    int rc = load(a, c, &p, &path, a->word_count < 2);

    if (rc == 0 && !p.json) {
        const char *name = path ? path : "no scope.yml is found; the environment";

        if (p.fatal || p.remarks)
            printf("%s: %u errors, %u remarks\n", name, p.fatal, p.remarks);
        else
            printf("%s: good\n", name);
    }
    if (rc == 0 && p.fatal)
        rc = EXIT_FAILED;
    free(path);
    config_sources_free(c);
    return rc;
}

static int show(struct args *a)
{
    struct problems p = {.json = false};
    struct config_sources *c = config_sources_new();
    char *path;
    int rc = load(a, c, &p, &path, true);

    if (rc == 0 && args_has(a, "json")) {
        struct config *effective = config_for(c, NULL);
        char *text = config_to_json(effective);

        puts(text);
        free(text);
        config_free(effective);
    } else if (rc == 0) {
        config_print_yaml(c, stdout, true);
    }
    free(path);
    config_sources_free(c);
    return rc;
}

static int run(struct args *a)
{
    const char *what = a->words[0];

    if (strcmp(what, "check") == 0)
        return check(a);
    if (strcmp(what, "show") == 0)
        return show(a);
    if (strcmp(what, "default") == 0) {
        if (a->word_count > 1)
            return cli_usage(a->command, "'%s' is one argument too many", a->words[1]);
        if (args_has(a, "markdown"))
            config_print_markdown(stdout);
        else
            config_print_default_yaml(stdout);
        return 0;
    }
    return cli_usage(a->command, "'%s' is none of check, show, default", what);
}

const struct cli_command command_config = {
    .name = "config",
    .summary = "Check and show configuration",
    .usage = "check [FILE] | show [FILE] | default",
    .description =
        "check reports unknown keys, wrong values and features that are not built yet, with file, line and key; exit "
        "status 1 if there are errors. Without FILE: the scope.yml that would be found here, and the environment.\n"
        "show prints the effective configuration of a program without a session (run -z) and where each value comes "
        "from.\n"
        "default prints the documented default file.",
    .options = options,
    .examples = examples,
    .words = "check show default",
    .min_args = 1,
    .max_args = 2,
    .run = run,
};
