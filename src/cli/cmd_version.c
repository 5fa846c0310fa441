/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"

#include <string.h>

#include "base/buf.h"
#include "build_date.h"
#include "version.h"

static const struct cli_option options[] = {
    {"summary", NULL, "Only the version", NULL, 0, false, false},
    {"date", NULL, "Only the date of what was built", NULL, 0, false, false},
    {"tag", NULL, "Only the release it belongs to", NULL, 0, false, false},
    {"json", NULL, "As one JSON object", NULL, 'j', false, false},
    {0},
};

static const struct cli_example examples[] = {
    {"scope version", "which scope this is"},
    {"scope version --summary", "only its number, for scripts"},
    {0},
};

static int run(struct args *a)
{
    /* RELEASE, then + or - and the commit; with -dirty behind */
    int tag = (int)strcspn(SCOPE_VERSION, "+-");

    if (args_has(a, "json")) {
        struct buf b = BUF_INIT;

        buf_str(&b, "{\"version\":");
        buf_json_str(&b, SCOPE_VERSION);
        buf_str(&b, ",\"build_date\":");
        buf_json_str(&b, SCOPE_BUILD_DATE);
        buf_str(&b, "}\n");
        fwrite(b.p, 1, b.len, stdout);
        buf_free(&b);
    } else if (args_has(a, "summary")) {
        puts(SCOPE_VERSION);
    } else if (args_has(a, "date")) {
        puts(SCOPE_BUILD_DATE);
    } else if (args_has(a, "tag")) {
        printf("%.*s\n", tag, SCOPE_VERSION);
    } else {
        printf("Version: %s\nBuild Date: %s\n", SCOPE_VERSION, SCOPE_BUILD_DATE);
    }
    return 0;
}

const struct cli_command command_version = {
    .name = "version",
    .summary = "Show the version",
    .usage = "[OPTIONS]",
    .description =
        "The build date is that of the source (its last commit), so that the same source gives the same build.",
    .options = options,
    .examples = examples,
    .run = run,
};
