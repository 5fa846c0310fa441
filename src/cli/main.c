/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "cli/commands.h"

#define FOLLOW_MS 20
#define OUTPUT_BUFFER (256u << 10)

const struct cli_command *const cli_commands[] = {
    &command_run, &command_watch, &command_attach, &command_detach, &command_events, &command_metrics,
    &command_dash, &command_flows, &command_report, &command_history, &command_ps, &command_inspect, &command_snapshot,
    &command_daemon, &command_update, &command_logs, &command_prune, &command_crash, &command_export,
    &command_extract, &command_config, &command_k8s, &command_rules, &command_start, &command_stop, &command_service,
    &command_shell, &command_doctor, &command_version, &command_completion, &command_help, &command_collector,
    &command_reach, &command_lambda_extension, &command_lambda_exec, &command_lambda_plans, NULL,
};

static bool has_word(const char *words, const char *word)
{
    size_t len = strlen(word);

    for (const char *p = words; p && *p;) {
        size_t n = strcspn(p, " ");

        if (n == len && strncmp(p, word, n) == 0)
            return true;
        p += n;
        p += strspn(p, " ");
    }
    return false;
}

const struct cli_command *cli_find(const char *name)
{
    for (const struct cli_command *const *c = cli_commands; *c; c++)
        if (strcmp((*c)->name, name) == 0 || has_word((*c)->aliases, name))
            return *c;
    return NULL;
}

int cli_finish(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    if (errno != EPIPE)
        cli_error("can't write to standard output: %s", strerror(errno));
    return status ? status : EXIT_FAILED;
}

void cli_buffer(void)
{
    static char buffer[OUTPUT_BUFFER];

    if (!isatty(STDOUT_FILENO))
        setvbuf(stdout, buffer, _IOFBF, sizeof(buffer));
}

bool cli_pause(void)
{
    struct pollfd out = {.fd = STDOUT_FILENO}; /* errors are told unasked */

    return poll(&out, 1, FOLLOW_MS) <= 0;
}

static int run_command(const struct cli_command *c, int argc, char **argv)
{
    struct args a;
    int rc = args_parse(&a, c, argc, argv);

    if (!c->stop_at_word) /* else the program would get it */
        signal(SIGXFSZ, SIG_IGN); /* a limit on the size of files is an error like others */
    if (rc == 0 && args_has(&a, "help"))
        help_command(stdout, c);
    else if (rc == 0)
        rc = c->run(&a);
    args_clear(&a);
    return cli_finish(rc);
}

/* `scope word ...` with a word that is no command runs a program. Most often it really is one; if it isn't, a slip in a
 * command's name is the likeliest reason. */
static int run_bare(int argc, char **argv)
{
    char *file = NULL;
    int rc;

    if (cli_is_former(argv[0]))
        return cli_refuse_former(argv[0]);
    if (*argv[0] && !strchr(argv[0], '/') && cli_search_path(argv[0], &file) == -ENOENT) {
        const char *like = cli_closest_command(argv[0]);

        cli_error("'%s' is neither a command nor a program in PATH", argv[0]);
        if (like)
            cli_hint("did you mean `scope %s`?", like);
        else
            cli_hint("`scope help` lists the commands");
        return EXIT_NOTFOUND;
    }
    free(file);
    char **words = xcalloc((size_t)argc + 2, sizeof(char *));

    words[0] = (char *)"--";
    memcpy(words + 1, argv, (size_t)argc * sizeof(char *));
    rc = run_command(&command_run, argc + 1, words);
    free(words);
    return rc;
}

/* The tool's own files must not land on descriptors 0 to 2 when it is started with some of them closed; the program
 * gets them closed again, because these are opened close-on-exec. */
static void guard_standard_descriptors(void)
{
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", O_RDWR | O_CLOEXEC) != fd)
            return;
}

int cli_main(int argc, char **argv)
{
    const struct cli_command *c;

    if (argc < 2) {
        if (!isatty(STDOUT_FILENO) || !help_home(stdout))
            help_overview(stdout);
        return cli_finish(0);
    }
    if (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0) {
        return run_command(&command_help, argc - 2, argv + 2);
    }
    if (strcmp(argv[1], "-V") == 0 || strcmp(argv[1], "--version") == 0)
        return run_command(&command_version, 0, argv);
    if (strcmp(argv[1], "-z") == 0 || strcmp(argv[1], "--passthrough") == 0)
        return run_command(&command_run, argc - 1, argv + 1);
    if (strcmp(argv[1], "--") == 0) {
        if (argc < 3) {
            cli_error("the program to run is missing after --");
            return EXIT_USAGE;
        }
        return run_command(&command_run, argc - 1, argv + 1);
    }
    if (argv[1][0] == '-') {
        cli_error("there is no option %s before a command", argv[1]);
        if (cli_former_option(argv[1]))
            cli_hint("what it did in AppScope 1.4 is done by %s", cli_former_option(argv[1]));
        else
            cli_hint(
                "`scope help` shows how to use it; options of `run` stand after the word: scope run %s ... PROGRAM",
                argv[1]);
        return EXIT_USAGE;
    }
    c = cli_find(argv[1]);
    if (c)
        return run_command(c, argc - 2, argv + 2);
    return run_bare(argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
    guard_standard_descriptors();
    log_setup(stderr, LOGL_WARNING, "scope");
    return cli_main(argc, argv);
}
