/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"
#include "cli/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "config/config.h"

static const struct cli_option options[] = {
    {"config", "FILE", "The scope.yml to read; without it standard input is read", NULL, 'c', false, false},
    {"inspect", NULL, "Show afterwards how it is observed, as `scope inspect` does", NULL, 'i', false, false},
    {"json", NULL, "With --inspect: one JSON object per line", NULL, 'j', false, false},
    CLI_ROOTDIR_OPTION,
    {0},
};

static const struct cli_example examples[] = {
    {"scope update 1234 -c more.yml", "lay more.yml over the configuration of process 1234"},
    {"echo 'metric: {format: {verbosity: 9}}' | scope update redis-server",
     "report every single operation from now on"},
    {0},
};

#define TEXT_MAX ((size_t)1 << 20)

/* What a descriptor has to give, as a memfd: standard input may be a pipe, and a file must not change meanwhile. */
static int slurp(int from, char **ret_text, size_t *ret_len)
{
    char *text = malloc(TEXT_MAX);
    size_t len = 0;
    ssize_t n = 0;
    int fd = text ? memfd_create("scope-config", MFD_CLOEXEC) : -1;

    if (fd < 0) {
        free(text);
        return -ENOMEM;
    }
    while (len < TEXT_MAX && ((n = read(from, text + len, TEXT_MAX - len)) > 0 || (n < 0 && errno == EINTR)))
        len += n > 0 ? (size_t)n : 0;
    if (n < 0 || len == TEXT_MAX || write(fd, text, len) != (ssize_t)len) {
        int err = len == TEXT_MAX ? EFBIG : errno;

        close(fd);
        free(text);
        return -err;
    }
    *ret_text = text;
    *ret_len = len;
    return fd;
}

/* The problems of the file by itself, before anything is changed: 0 or an exit status. */
static int check(const char *name, const char *text, size_t len)
{
    struct config_sources *s = config_sources_new();
    bool fatal = false;
    int rc = config_add_text(s, name, text, len, cli_problem, &fatal);

    config_sources_free(s);
    if (rc == 0 && !fatal)
        return 0;
    cli_error("%s: nothing was changed", name);
    return EXIT_FAILED;
}

static int run(struct args *a)
{
    const char *file = args_get(a, "config"), *name = file ? file : "standard input";
    int from = file ? open(file, O_RDONLY | O_CLOEXEC) : STDIN_FILENO, fd, rc;
    char *text = NULL;
    size_t len = 0;
    json_t *found;
    pid_t pid;

    if (args_has(a, "json") && !args_has(a, "inspect")) {
        if (file && from >= 0)
            close(from);
        return cli_usage(a->command, "--json needs --inspect");
    }
    if (from < 0) {
        cli_error("%s: %s", file, strerror(errno));
        return EXIT_FAILED;
    }
    if (!file && isatty(STDIN_FILENO)) {
        rc = cli_usage(a->command, "name a file with -c, or give the configuration on standard input");
        return rc;
    }
    rc = cli_enter_root(a);
    if (rc == 0)
        rc = cli_observed_pid(a, &pid);
    if (rc == 0) {
        fd = slurp(from, &text, &len);
        if (fd < 0) {
            cli_error("%s: %s", name, fd == -EFBIG ? "longer than 1 MiB" : strerror(-fd));
            rc = EXIT_FAILED;
        } else {
            rc = check(name, text, len);
            if (rc == 0)
                rc = control_update_one(pid, fd);
            free(text);
            close(fd);
        }
    }
    if (file)
        close(from);
    if (rc == 0)
        fprintf(stderr, "Update Scope configuration success.\n");
    if (rc == 0 && args_has(a, "inspect") && (rc = control_inspect_all(pid, &found)) == 0) {
        control_print(found, args_has(a, "json"), false);
        json_decref(found);
    }
    return rc;
}

const struct cli_command command_update = {
    .name = "update",
    .summary = "Change the configuration of a process while it runs",
    .usage = "[OPTIONS] PID|NAME",
    .description =
        "The file is laid over what is in effect for the process: keys that it doesn't name keep their values. "
        "Children "
        "that the process has from then on get the same. Relative paths start where the command runs. Calls are timed "
        "only if that was wanted when the process was started.\n"
        "The process may belong to any session of yours, wherever that is stored; root may name any process. Of a "
        "name, "
        "processes whose sessions are stored here come first. The same holds for inspect.",
    .options = options,
    .examples = examples,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
