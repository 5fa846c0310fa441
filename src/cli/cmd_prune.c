/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct cli_option options[] = {
    {"keep", "N", "Keep the last N sessions, remove the others", NULL, 'k', false, false},
    {"delete", "N", "Remove the last N sessions", NULL, 'd', false, false},
    {"all", NULL, "Remove all sessions", NULL, 'a', false, false},
    {"force", NULL, "Don't ask", NULL, 'f', false, false},
    CLI_HOST_OPTION,
    {"json", NULL, "Print the result as JSON", NULL, 'j', false, false},
    {0},
};

static const struct cli_example examples[] = {
    {"scope prune -k 20", "keep the last 20 sessions"},
    {"scope prune -a -f", "remove all without asking"},
    {0},
};

static bool confirmed(void)
{
    char answer[16];

    fflush(stdout);
    if (!fgets(answer, sizeof(answer), stdin))
        return false;
    answer[strcspn(answer, "\n")] = '\0';
    return strcasecmp(answer, "y") == 0 || strcasecmp(answer, "yes") == 0;
}

static int run(struct args *a)
{
    bool keep = args_has(a, "keep"), del = args_has(a, "delete"), all = args_has(a, "all"), json = args_has(a, "json");
    int64_t n = 0;
    struct session *list;
    size_t count, from = 0, to, removed = 0, running = 0, failed = 0;
    int rc;

    if (keep + del + all != 1)
        return cli_usage(a->command, "exactly one of --keep, --delete and --all is needed");
    if ((rc = args_number(a, keep ? "keep" : "delete", keep ? 0 : 1, INT32_MAX, &n)))
        return rc;
    rc = cli_use_host(a);
    if (rc)
        return rc;
    rc = session_list(&list, &count);
    if (rc < 0) {
        cli_error("can't list the sessions: %s", session_error(rc));
        return EXIT_FAILED;
    }
    to = count;
    if (keep)
        to = (uint64_t)n >= count ? 0 : count - (size_t)n;
    else if (del)
        from = (uint64_t)n >= count ? 0 : count - (size_t)n;
    if (to > from && !args_has(a, "force")) {
        if (keep)
            fprintf(json ? stderr : stdout,
                    "Are you sure you want to prune all but %lld sessions? (y/yes): ", (long long)n);
        else if (del)
            fprintf(json ? stderr : stdout,
                    "Are you sure you want to prune the last %lld sessions? (y/yes): ", (long long)n);
        else
            fprintf(json ? stderr : stdout, "Are you sure you want to prune all sessions? (y/yes): ");
        if (!confirmed())
            from = to;
    }
    for (size_t i = from; i < to; i++) {
        rc = session_remove(&list[i]);
        if (rc == 0) {
            removed++;
        } else if (rc == -EBUSY) {
            running++;
        } else {
            cli_error("session %llu: %s: %s", (unsigned long long)list[i].id, list[i].dir, strerror(-rc));
            failed++;
        }
    }
    if (json)
        printf("{\"removed\":%zu,\"running\":%zu,\"failed\":%zu}\n", removed, running, failed);
    else
        printf("Removed %zu sessions.\n", removed);
    if (running && !json)
        cli_error("%zu sessions are still being recorded and were left", running);
    for (size_t i = 0; i < count; i++)
        session_clear(&list[i]);
    free(list);
    return failed ? EXIT_FAILED : 0;
}

const struct cli_command command_prune = {
    .name = "prune",
    .summary = "Remove recorded sessions",
    .usage = "--keep N | --delete N | --all [--force]",
    .description =
        "Removes sessions with everything in their directories, after asking. Sessions that are still being recorded "
        "are left. Keeping more sessions than there are removes nothing.",
    .options = options,
    .examples = examples,
    .run = run,
};
