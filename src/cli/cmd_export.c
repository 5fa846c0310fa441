/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/safe_path.h"
#include "cli/records.h"

static const struct cli_option options[] = {
    {"parents", NULL, "Make the directory and those above it if they are missing", NULL, 'p', false, false},
    {"json", NULL, "Print the result as JSON", NULL, 'j', false, false},
    {0},
};

static const struct cli_example examples[] = {
    {"scope export .", "the last session as events.json and metrics.json, here"},
    {"scope export -i 12 -p /tmp/twelve", "another one"},
    {0},
};

/* Copies all records to a file, anew: 0, or an exit status after a message. */
static int copy(struct records *r, const char *path, uint64_t *ret_count)
{
    char *why = NULL;
    int fd = safe_file(path, O_WRONLY | O_CREAT, 0600, &why), rc = 0, failed = 0;
    FILE *to = NULL;

    if (fd >= 0 && records_are_in(r, fd)) {
        cli_error("%s is the session's own file", path);
        close(fd);
        return EXIT_FAILED;
    }
    if (fd >= 0 && ftruncate(fd, 0) < 0 && errno != EINVAL) /* EINVAL: a pipe */
        rc = -errno;
    if (fd >= 0 && rc == 0 && !(to = fdopen(fd, "w")))
        rc = -errno;
    if (!to) {
        cli_error("can't write %s: %s", path, why ? why : strerror(fd < 0 ? -fd : -rc));
        free(why);
        if (fd >= 0)
            close(fd);
        return EXIT_FAILED;
    }
    records_progress(r, false);
    while (!failed && (rc = records_next(r)) == 1) {
        *ret_count += records_print(r, to);
        if (ferror(to))
            failed = errno ? errno : EIO;
    }
    if (fclose(to) != 0 && !failed)
        failed = errno;
    if (failed)
        cli_error("can't write %s: %s", path, strerror(failed));
    else if (rc < 0)
        cli_error("%s is not complete: reading the session: %s", path, strerror(-rc));
    return failed || rc < 0 ? EXIT_FAILED : 0;
}

static int export(const struct session *s, enum records_of what, const char *dir, uint64_t *ret_count)
{
    struct records *r;
    char *path;
    int rc = records_open(s, what, NULL, &r);

    *ret_count = 0;
    if (rc < 0)
        return rc == -ENOTSUP ? 0 : EXIT_FAILED;
    path = xasprintf("%s/%s.json", dir, what == RECORDS_EVENTS ? "events" : "metrics");
    rc = copy(r, path, ret_count);
    free(path);
    records_close(r);
    return rc;
}

static int run(struct args *a)
{
    const char *dir = a->words[0];
    uint64_t events = 0, metrics = 0;
    struct session s;
    char *why = NULL;
    int rc = cli_session(a, &s), at;

    if (rc)
        return rc;
    at = safe_dir(dir, SAFE_NAMED, args_has(a, "parents") ? 0755 : 0, &why);
    if (at < 0) {
        cli_error("%s: %s", dir, why ? why : strerror(-at));
        if (at == -ENOENT)
            cli_hint("--parents makes it");
        rc = EXIT_FAILED;
    } else {
        close(at);
        rc = export(&s, RECORDS_EVENTS, dir, &events);
        if (rc == 0)
            rc = export(&s, RECORDS_METRICS, dir, &metrics);
        if (rc == 0 && args_has(a, "json"))
            printf("{\"session\":%llu,\"events\":%llu,\"metrics\":%llu}\n", (unsigned long long)s.id,
                   (unsigned long long)events, (unsigned long long)metrics);
        else if (rc == 0)
            printf("%llu events and %llu metrics of session %llu written to %s.\n", (unsigned long long)events,
                   (unsigned long long)metrics, (unsigned long long)s.id, dir);
    }
    free(why);
    session_clear(&s);
    return rc;
}

const struct cli_command command_export = {
    .name = "export",
    .summary = "Write a session's events and metrics as files of NDJSON",
    .usage = "[OPTIONS] DIR",
    .description =
        "Writes events.json and metrics.json into DIR, for programs that read what scope sends to a file: the same "
        "lines, one JSON object each. Files of these names are written over. `scope events -j -a` and `scope metrics "
        "-j` print the same lines.",
    .options = options,
    .more_options = cli_session_options,
    .examples = examples,
    .words = "<dir>",
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
