/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "inject/attach.h"
#include "inject/launch.h"

#define LOOKS 32 /* one that can't be detached from may start others for ever */

static const struct cli_option options[] = {
    {"all", NULL, "All processes that are observed", NULL, 'a', false, false},
    {"wait", NULL, "Return when it is done, as is always the case", NULL, 'w', false, false},
    {0},
};

static const struct cli_example examples[] = {
    {"scope detach 4242", "stop observing process 4242"},
    {"scope detach --all", "stop observing anything"},
    {0},
};

/* one: no other was meant. */
static bool detach_one(pid_t pid, const char *plans, bool one)
{
    struct attach_result r;
    char *why = NULL;
    int rc;

    rc = detach_run(pid, plans, &r, &why);
    if (rc == -EALREADY) {
        fprintf(stderr, "Already detached from pid %d\n", (int)pid);
        rc = 0;
    } else if (rc == -ESRCH && !one) { /* short-lived ones come and go */
        rc = 0;
    } else if (rc < 0) {
        cli_error("can't detach from pid %d: %s", (int)pid, why);
    } else {
        fprintf(stderr, "Detaching from pid %d\n", (int)pid);
        cli_error("pid %d: %u thread%s stood still for %.1f ms; %llu bytes of code are those of their files", (int)pid,
                  r.threads, r.threads == 1 ? "" : "s", (double)r.stopped_ns / 1e6,
                  (unsigned long long)(r.compared - r.differ));
        if (r.differ)
            cli_error("pid %d: %llu bytes of code differ from their files; they were not changed by us", (int)pid,
                      (unsigned long long)r.differ);
        if (r.kept)
            cli_hint("the library stays in its memory, without effect: %s",
                     r.differ || r.unknown
                         ? "code that was changed by others, or can't be compared, may still lead there"
                     : r.inside ? "threads that wait inside functions of a TLS library will return to it, or have left "
                                  "such a function by an exception or longjmp(3); or classes of Java were "
                                  "given calls of it, which are put back but may be running"
                                : "one of its hooks did not end");
    }
    free(why);
    return rc == 0;
}

/* One of those that are observed, by the user. */
static int choose(const struct args *a, pid_t **ret, size_t *ret_count)
{
    int rc = 0;

    cli_observed(NULL, ret, ret_count);
    if (!cli_can_ask())
        rc = cli_usage(a->command, "a process or --all is missing");
    else if (!*ret_count)
        cli_error("nothing is observed now");
    if (*ret_count) {
        int chosen = cli_choose(*ret, *ret_count, *ret);

        rc = rc ? rc : chosen;
    } else if (!rc) {
        rc = EXIT_FAILED;
    }
    if (rc)
        free(*ret);
    *ret_count = 1;
    return rc;
}

static int run(struct args *a)
{
    const char *word = a->word_count ? a->words[0] : NULL;
    char *lib = NULL, *plans = NULL, *what = NULL;
    size_t count = 0, done = 0;
    pid_t *pids;
    int rc;

    if (word && args_has(a, "all"))
        return cli_usage(a->command, "--all takes no process");
    rc = cli_enter_root(a);
    if (rc == 0 && !word && !args_has(a, "all"))
        rc = choose(a, &pids, &count);
    else if (rc == 0)
        rc = cli_targets(a, word, true, &pids, &count);
    if (rc)
        return rc;
    if (launch_install(NULL, &lib, &plans, &what) < 0)
        plans = xstrdup("/nonexistent"); /* plans are made each time */
    /* What they have started meanwhile is observed as they were. */
    for (size_t i = 0, looks = 0; i < count || (looks++ < LOOKS && cli_targets_more(a, true, &pids, &count)); i++)
        done += detach_one(pids[i], plans, count == 1);
    free(lib);
    free(plans);
    free(what);
    free(pids);
    return done == count ? 0 : EXIT_FAILED;
}

const struct cli_command command_detach = {
    .name = "detach",
    .summary = "Stop observing a process, which goes on",
    .usage = "[OPTIONS] [PID|NAME|--all]",
    .description = "Without a process one can be chosen from a table, on a terminal. "
                   "Puts every changed byte of the process's code back, takes the library out of its memory, and "
                   "compares its code with the files that it was loaded from. The session ends with its last process; "
                   "the process can be attached to again. Programs that it starts from then on are not observed; those "
                   "that run already go on being observed without --children. A library that the program was started "
                   "with (scope run) stays mapped, without effect, and in its environment: programs that it starts "
                   "load it, too, and it does nothing there.",
    .options = options,
    .more_options = cli_target_options,
    .examples = examples,
    .max_args = 1,
    .run = run,
};
