/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"

static const struct cli_option options[] = {
    {"last", "N", "The last N lines (default 20)", NULL, 'n', false, false},
    {"all", NULL, "The whole log", NULL, 'a', false, false},
    {"follow", NULL, "Go on as it grows, until the session ends", NULL, 'f', false, false},
    {"json", NULL, "One JSON object per line", NULL, 'j', false, false},
    {"scope", NULL, "The session's log, which is the only one", NULL, 's', false, false},
    {0},
};

static const struct cli_example examples[] = {
    {"scope logs", "what the collector had to say about the last session"},
    {"scope logs -i 12 -a", "the whole log of session 12"},
    {0},
};

/* "TIME LEVEL TEXT", as log.h writes it. */
static void print_line(const char *line, size_t len, bool json)
{
    struct buf b = BUF_INIT;

    if (json) {
        const char *end = line + len, *time_end = memchr(line, ' ', len), *level_end = NULL;

        if (time_end)
            level_end = memchr(time_end + 1, ' ', (size_t)(end - time_end - 1));
        if (level_end && len > 10 && line[4] == '-' && line[10] == 'T') {
            buf_str(&b, "{\"time\":");
            buf_json(&b, line, (size_t)(time_end - line));
            buf_str(&b, ",\"level\":");
            buf_json(&b, time_end + 1, (size_t)(level_end - time_end - 1));
            buf_str(&b, ",\"text\":");
            buf_json(&b, level_end + 1, (size_t)(end - level_end - 1));
        } else {
            buf_str(&b, "{\"text\":");
            buf_json(&b, line, len);
        }
        buf_char(&b, '}');
    } else {
        text_clean(&b, line, len);
    }
    buf_char(&b, '\n');
    fwrite(b.p, 1, b.len, stdout);
    buf_free(&b);
}

static int run(struct args *a)
{
    int64_t last = 20;
    bool json = args_has(a, "json"), follow = args_has(a, "follow");
    struct session s;
    struct lines l;
    uint64_t *starts, seen = 0;
    char *path, *line;
    size_t len;
    int rc;

    if ((rc = args_conflict(a, "last", "all")) || (rc = args_number(a, "last", 1, 1 << 24, &last)) ||
        (rc = cli_session(a, &s)))
        return rc;
    path = xasprintf("%s/scope.log", s.dir);
    rc = lines_open(&l, path);
    if (rc < 0) {
        cli_error("session %llu has no log: %s: %s", (unsigned long long)s.id, path, strerror(-rc));
        free(path);
        session_clear(&s);
        return EXIT_FAILED;
    }
    free(path);
    if (!args_has(a, "all")) { /* where the last N lines begin */
        starts = xcalloc((size_t)last, sizeof(*starts));
        while (lines_next(&l, &line, &len) == 1)
            starts[seen++ % (uint64_t)last] = l.start;
        lines_seek(&l, seen == 0 ? 0 : seen <= (uint64_t)last ? starts[0] : starts[seen % (uint64_t)last]);
        free(starts);
    }
    seen = 0;
    for (;;) {
        bool running = follow && session_running(&s);

        while ((rc = lines_next(&l, &line, &len)) == 1) {
            print_line(line, len, json);
            seen++;
        }
        if (rc < 0 || !running || fflush(stdout) || ferror(stdout) || !cli_pause())
            break;
    }
    if (rc < 0) {
        cli_error("the log of session %llu: %s", (unsigned long long)s.id, strerror(-rc));
        rc = EXIT_FAILED;
    } else if (seen == 0 && !json) {
        puts("No logs generated");
    }
    lines_close(&l);
    session_clear(&s);
    return rc;
}

const struct cli_command command_logs = {
    .name = "logs",
    .summary = "Show the log of a session",
    .usage = "[OPTIONS]",
    .description = "The collector writes here what was not observed and why, which destinations could not be reached, "
                   "and what was "
                   "lost.",
    .options = options,
    .more_options = cli_session_options,
    .examples = examples,
    .run = run,
};
