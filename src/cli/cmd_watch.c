/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const struct cli_option options[] = {
    {"interval", "TIME", "Time between the starts of two runs, such as 5s, 1m30s, 1h (needed)", NULL, 'i', false,
     false},
    {"runs", "N", "End after N runs (default: when a signal says so)", NULL, 'n', false, false},
    {0},
};

static const struct cli_example examples[] = {
    {"scope watch -i 1m -- curl -s https://example.org/", "look at it once a minute"},
    {"scope watch -i 10s -n 6 -- ./check", "six times"},
    {0},
};

static volatile sig_atomic_t got_signal;

static void on_signal(int sig)
{
    got_signal = sig;
}

static int set_handlers(void (*handler)(int))
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction act = {.sa_handler = handler}; /* without SA_RESTART: waiting ends at once */

    for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++)
        if (sigaction(signals[i], &act, NULL) < 0)
            return -errno;
    return 0;
}

/* One run in a child; returns its wait status, or -1 if there could be none. A signal that ends the watch is passed on:
 * one from the terminal has reached the child already and does no harm twice. */
static int run_once(struct args *a)
{
    int status;
    pid_t pid;

    fflush(NULL);
    pid = fork();
    if (pid < 0) {
        cli_error("can't start a process: %s", strerror(errno));
        return -1;
    }
    if (pid == 0) {
        set_handlers(SIG_DFL);
        _exit(cli_run_program(a, "watch"));
    }
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            return -1;
        if (got_signal)
            kill(pid, got_signal);
    }
    return status;
}

static int run(struct args *a)
{
    int64_t runs = 0;
    uint64_t interval = 0, next;
    struct timespec ts;
    int rc, status = 0;

    if (!args_get(a, "interval"))
        return cli_usage(a->command, "--interval is missing");
    if (text_parse_duration(args_get(a, "interval"), &interval) < 0 || interval < 1000000)
        return cli_usage(a->command, "--interval takes a time from 1ms, such as 5s or 1m30s, not '%s'",
                         args_get(a, "interval"));
    if ((rc = args_number(a, "runs", 1, INT32_MAX, &runs)) || (rc = cli_check_run(a)))
        return rc;
    set_handlers(on_signal);
    clock_gettime(CLOCK_MONOTONIC, &ts);
    next = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
    for (int64_t n = 0; !got_signal && (runs == 0 || n < runs); n++) {
        uint64_t now;

        if (n) {
            /* A run that took longer than the interval makes the ones fall out that it covered. */
            clock_gettime(CLOCK_MONOTONIC, &ts);
            now = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
            next += interval;
            if (next < now)
                next += (now - next + interval - 1) / interval * interval;
            ts.tv_sec = (time_t)(next / 1000000000u);
            ts.tv_nsec = (long)(next % 1000000000u);
            while (!got_signal && clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
                ;
            if (got_signal)
                break;
        }
        status = run_once(a);
        if (status < 0)
            return EXIT_FAILED;
    }
    if (got_signal) {
        set_handlers(SIG_DFL);
        raise(got_signal);
    }
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

const struct cli_command command_watch = {
    .name = "watch",
    .summary = "Run a program observed again and again",
    .usage = "--interval TIME [OPTIONS] [--] PROGRAM [ARGUMENTS]",
    .description =
        "Runs PROGRAM at once and then at each interval, each time as a child with a session of its own. Its output "
        "goes where that of scope goes. If a run takes longer than the interval, the next one starts at the next "
        "multiple of it. Exit status: that of the last run, 128 + N if signal N ended it.",
    .options = options,
    .more_options = cli_run_options,
    .examples = examples,
    .words = "<program>",
    .min_args = 1,
    .max_args = -1,
    .stop_at_word = true,
    .run = run,
};
