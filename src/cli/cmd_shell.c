/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands of scope typed one after the other, for an image that has no shell. Usually it is process 1 of the
 * container: it reaps orphans, ends by SIGTERM (which process 1 otherwise doesn't, pid_namespaces(7)), and lets
 * collectors finish.
 */
#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "cli/commands.h"
#include "version.h"

#define PROMPT "scope> "
#define FINISH_TRIES 300 /* of 10 ms, for collectors behind the last command */

static const struct cli_example examples[] = {
    {"docker run --rm -it --pid=host --privileged -v /:/hostfs:ro cribl/scope", "a prompt in the image"},
    {"scope shell attach --rootdir /hostfs 1234", "one command, which may have the word scope in front"},
    {0},
};

static volatile sig_atomic_t ending; /* the signal that ends us */

static void on_end(int sig)
{
    ending = sig;
}

/* A line's words as sh(1) divides it, with quotes and backslashes, but nothing is replaced. Returns the words behind
 * argv[0], NULL-terminated, in one block; NULL if a quote isn't closed. The caller frees. */
static char **divide(const char *line, int *ret_count)
{
    size_t len = strlen(line);
    char **words = xmalloc((len + 3) * sizeof(char *) + len + 2), *to = (char *)(words + len + 3), quote = '\0';
    bool inside = false;
    int n = 1;

    words[0] = (char *)"scope";
    for (const char *p = line; *p; p++) {
        if (!quote && isspace((unsigned char)*p)) {
            if (inside)
                *to++ = '\0';
            inside = false;
            continue;
        }
        if (!quote && !inside && *p == '#')
            break;
        if (!inside)
            words[n++] = to;
        inside = true;
        if (quote ? *p == quote : *p == '\'' || *p == '"')
            quote = (char)(quote ? '\0' : *p);
        else if (*p == '\\' && quote != '\'' && p[1])
            *to++ = *++p;
        else
            *to++ = *p;
    }
    *to = '\0';
    words[n] = NULL;
    *ret_count = n;
    if (!quote)
        return words;
    free(words);
    return NULL;
}

/* Without the word `scope` in front: people type it. */
static int dispatch(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "scope") == 0) {
        argc--;
        argv++;
    }
    return cli_main(argc, argv);
}

static int status_of(int status)
{
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* Reaps until `pid` has ended: its status. */
static int wait_child(pid_t pid)
{
    int status = 0;

    for (;;) {
        pid_t got = waitpid(-1, &status, 0);

        if (got == pid)
            return status_of(status);
        if (got < 0 && errno != EINTR)
            return EXIT_FAILED;
        if (ending)
            kill(pid, ending);
    }
}

static int run_line(int argc, char **argv)
{
    pid_t pid;

    fflush(NULL);
    pid = fork();
    if (pid < 0) {
        cli_error("can't start a process: %s", strerror(errno));
        return EXIT_FAILED;
    }
    if (pid == 0) {
        for (const int *s = (const int[]){SIGINT, SIGQUIT, SIGTERM, SIGHUP, 0}; *s; s++)
            signal(*s, SIG_DFL);
        exit(dispatch(argc, argv));
    }
    return wait_child(pid);
}

static int prompt(void)
{
    struct sigaction ends = {.sa_handler = on_end}; /* no SA_RESTART: reading a line ends as well */
    bool asks = isatty(STDIN_FILENO), any = false;
    char *line = NULL;
    size_t room = 0;
    int status = 0;

    signal(SIGINT, SIG_IGN); /* the terminal's are for the command */
    signal(SIGQUIT, SIG_IGN);
    sigaction(SIGTERM, &ends, NULL);
    sigaction(SIGHUP, &ends, NULL);
    if (asks)
        printf("AppScope %s. Type scope's commands; help lists them, exit ends this.\n", SCOPE_VERSION);
    while (!ending) {
        char **argv;
        int argc;

        if (asks)
            fputs(PROMPT, stdout);
        fflush(stdout);
        if (getline(&line, &room, stdin) < 0)
            break;
        any = true;
        argv = divide(line, &argc);
        if (!argv) {
            cli_error("a quote isn't closed");
            status = EXIT_USAGE;
            continue;
        }
        if (argc == 2 && strcmp(argv[1], "exit") == 0) {
            free(argv);
            break;
        }
        if (argc > 1)
            status = run_line(argc, argv);
        free(argv);
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
    }
    free(line);
    if (asks && !ending && feof(stdin))
        putchar('\n');
    if (!asks && !any && !ending) /* started without -it */
        help_overview(stdout);
    for (int i = 0; getpid() == 1 && i < FINISH_TRIES && waitpid(-1, NULL, WNOHANG) >= 0; i++)
        usleep(10000);
    return ending ? 128 + ending : status;
}

static int run(struct args *a)
{
    char **argv;
    int rc;

    if (!a->word_count)
        return prompt();
    argv = xcalloc(a->word_count + 2, sizeof(char *));
    argv[0] = (char *)"scope";
    memcpy(argv + 1, a->words, a->word_count * sizeof(char *));
    rc = dispatch((int)a->word_count + 1, argv);
    free(argv);
    return rc;
}

const struct cli_command command_shell = {
    .name = "shell",
    .summary = "Read commands of scope and run them",
    .usage = "[[scope] COMMAND [ARGUMENTS]]",
    .description = "For the container image, which has no shell: its entry point. Each line is a command of scope; the "
                   "word scope in "
                   "front may be left out. Words are divided as by a shell, with quotes; there are no variables, pipes "
                   "or redirections. "
                   "It ends with `exit`, or with the input. With a COMMAND it does that, and nothing else.\n"
                   "Exit status: that of the last command.",
    .examples = examples,
    .words = "<command>",
    .max_args = -1,
    .stop_at_word = true,
    .run = run,
};
