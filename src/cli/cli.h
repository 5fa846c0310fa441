/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line. Each command is one file and one row of the table in
 * main.c; help, man page and completion are made from the rows.
 */
#ifndef SCOPE_CLI_CLI_H
#define SCOPE_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/lines.h"
#include "session/session.h"

/* Exit statuses; those of a program that could not be started are env(1)'s. */
enum {
    EXIT_FAILED = 1,     /* the command could not do it */
    EXIT_USAGE = 2,      /* wrong options or arguments */
    EXIT_OURS = 125,     /* run: scope failed before the program was started */
    EXIT_NOEXEC = 126,   /* run: the program can't be executed */
    EXIT_NOTFOUND = 127, /* run: there is no such program */
};

/* --- the table --- */

struct cli_option {
    const char *name;  /* long form, without dashes; NULL ends a list */
    const char *arg;   /* what its value is called in help ("N", "FILE"), NULL if it takes none */
    const char *help;  /* one sentence without full stop */
    const char *words; /* allowed values separated by '|', NULL for any */
    char letter;       /* short form or 0 */
    bool optional;     /* the value may be left out (--color); then it has to be given with '=', but for a "URL" */
    bool hidden;
};

struct cli_example {
    const char *line, *what; /* line NULL ends a list */
};

struct args;

struct cli_command {
    const char *name;
    const char *aliases;     /* separated by blanks, or NULL */
    const char *summary;     /* one line */
    const char *usage;       /* what follows "scope NAME" */
    const char *description; /* paragraphs for help and man page */
    const struct cli_option *options;
    const struct cli_option *more_options; /* shared by several commands, or NULL */
    const struct cli_example *examples;
    const char *words;      /* completion of arguments: words separated by blanks; "<file>", "<dir>", "<program>",
                               "<command>" */
    int min_args, max_args; /* max_args -1: any number */
    bool stop_at_word;      /* options end at the first word: what follows belongs to a program */
    bool hidden;
    int (*run)(struct args *);
};

extern const struct cli_command *const cli_commands[]; /* NULL-terminated */
extern const struct cli_option cli_common_options[];   /* those that every command has */
const struct cli_command *cli_find(const char *name);

/* launch_install() failed with this: there is just no place for the library, and it can be brought into programs from
 * outside, if they may be traced. */
bool cli_no_place(int rc);

/* What main() does with its arguments, argv[0] among them: returns the exit status. */
int cli_main(int argc, char **argv);

/* --- former.c: commands of AppScope 1.4 that aren't built --- */

struct cli_former {
    const char *name, *instead; /* name NULL ends a list */
};
extern const struct cli_former cli_former_commands[];
bool cli_is_former(const char *word);
/* Says that it isn't built, what to do instead, and how to run a program of that name. Returns EXIT_USAGE. */
int cli_refuse_former(const char *word);
/* What does what an option of 1.4 did before a command, or NULL. */
const char *cli_former_option(const char *word);
/* The command that is most like a word, or NULL if none is. */
const char *cli_closest_command(const char *word);

/* --- a parsed command line --- */

struct args {
    const struct cli_command *command;
    struct cli_value {
        const struct cli_option *option;
        const char *value; /* NULL if it was given without */
    } * values;
    size_t value_count;
    char **words; /* arguments that aren't options, NULL-terminated */
    int word_count;
};

/* Parses what follows the command's name. Returns 0, or EXIT_USAGE after a message. */
int args_parse(struct args *a, const struct cli_command *c, int argc, char **argv);
void args_clear(struct args *a);
bool args_has(const struct args *a, const char *name);
const char *args_get(const struct args *a, const char *name); /* last value, or NULL */
/* A whole number within limits: 0, or EXIT_USAGE after a message. *ret is left alone if the option wasn't given. */
int args_number(const struct args *a, const char *name, int64_t min, int64_t max, int64_t *ret);
/* EXIT_USAGE after a message if two options were given that exclude each other, else 0. */
int args_conflict(const struct args *a, const char *one, const char *other);

/* --- messages: "scope: text" on stderr --- */

void cli_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void cli_hint(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* A usage error of a command with the pointer to its help. Returns EXIT_USAGE. */
int cli_usage(const struct cli_command *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The candidate that is most like a word, or NULL if none is. candidates is NULL-terminated. */
const char *cli_closest(const char *word, const char *const *candidates);
/* stdout was written completely? Else EXIT_FAILED with a message (nothing for EPIPE). Call at the end. */
int cli_finish(int status);
/* Much is going to be written to stdout: in large pieces, unless a terminal reads it. Before anything is. */
void cli_buffer(void);
/* A pause of whoever follows a file that grows. False if nobody reads stdout any more (`| head`), which a write would
 * only tell when there is something to write. */
bool cli_pause(void);

/* --- help.c --- */

void help_overview(FILE *);
void help_command(FILE *, const struct cli_command *);
void help_man(FILE *);
void help_markdown(FILE *);
int help_completion(FILE *, const char *shell);
/* help_examples.c: tasks with their commands, as text and as Markdown. */
void help_examples(FILE *);
void help_examples_markdown(FILE *);
/* home.c: the last sessions, and what can be done with them. False, and nothing is printed: there are none, or they
 * can't be read. */
bool help_home(FILE *);

/* --- text.c --- */

bool cli_color(const struct args *a); /* --color, NO_COLOR, CLICOLOR_FORCE, terminal */
extern bool cli_colors;               /* set by cli_color() for the functions below */
unsigned cli_width(void);             /* columns of the terminal on stdout; 0 if it is none */
/* 250ms 7s 3m12s 2h5m 1d4h 9d */
const char *text_duration(uint64_t ns, char buf[32]);
/* "Jan  2 15:04:05", local time */
const char *text_time(uint64_t ns, char buf[32]);
const char *text_base62(uint64_t v, char buf[16]);   /* least significant digit first, as event ids are written */
int text_parse_base62(const char *s, uint64_t *ret); /* 0 or -EINVAL */
/* The one door to the terminal for what comes out of records and files: with what terminals act on made visible
 * (buf_visible()), as an observed program must not be able to drive them. */
struct buf;
void text_clean(struct buf *b, const char *s, size_t len);
/* The same for JSON text, which stays such. */
void text_json(const char *text, size_t len, FILE *to);
/* Columns that a clean UTF-8 text takes, counting each code point as one; and the bytes that fit into some. */
unsigned text_columns(const char *s, size_t len);
size_t text_fit(const char *s, size_t len, unsigned columns);
/* Durations such as 5s, 1m30s, 250ms, 2h: nanoseconds, or -EINVAL. */
int text_parse_duration(const char *s, uint64_t *ret);
/* A point in time: a duration (that long ago), 15:04[:05] of today, 2025-12-31[ 15:04[:05]], both local, or seconds since
 * 1970. CLOCK_REALTIME nanoseconds, or -EINVAL. */
int text_parse_time(const char *s, uint64_t *ret_ns);
const char *text_signal(int sig, char buf[16]); /* "SIGTERM" */
/* The user's name, from /etc/passwd, or the number. */
const char *text_user(unsigned uid, char buf[64]);

/* --- table.c: upper-case header, left-aligned columns, no borders --- */

/*
 * What a column gives up where a terminal is too narrow for all of them: those with the lowest `yields` first, 0 never.
 * min: the width down to which its texts are cut; 0: it is left out as a whole. end: the end of a text is kept, not its
 * beginning. If it still doesn't fit, the terminal breaks the lines: nothing that matters is cut.
 */
struct table_column {
    const char *header;
    unsigned char yields, min;
    bool end;
};

struct table;
/* columns: has to live as long as the table. */
struct table *table_new(const struct table_column *columns, size_t count);
void table_cell(struct table *, const char *text); /* cleaned; the next column of the current row */
void table_cellf(struct table *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void table_uint(struct table *, uint64_t v);
void table_print(struct table *, FILE *); /* as wide as the terminal on stdout, if it is one; frees */
void table_free(struct table *);
/* One line "Label:  value" of a description. */
void table_pair(FILE *, unsigned indent, const char *label, const char *value);

/* --- sessions.c --- */

extern const struct cli_option cli_session_options[]; /* --id, --host */
#define CLI_HOST_OPTION \
    {"host", NULL, "Sessions of the whole host (scope start)", NULL, 0, false, false}, \
        {"service", "NAME", "Sessions of a service (scope service)", NULL, 'S', false, false}
/* With --host, sessions are those of the host from here on: 0, or EXIT_FAILED after a message. cli_session() does it. */
int cli_use_host(const struct args *a);
/* The session of --id, or the most recent one; synchronised, so that everything recorded is in its files.
 * 0, or an exit status after a message. */
int cli_session(const struct args *a, struct session *ret);
/* Has a session that is being recorded written out, and loads its metadata again. As session_sync(). */
int cli_refresh(struct session *s, unsigned timeout_ms);
/* Path of a destination that is a file or a journal, or NULL: malloc'ed. */
char *cli_path_of(const char *url);
/* A line as an object, or NULL; a reference for the caller. */
struct json_t *cli_json(const char *line, size_t len);
/* The same of a line of StatsD, as the object that NDJSON would have held. Changes the line. */
struct json_t *cli_statsd(char *line);

/* --- samples.c: metrics of a session --- */

/* One sample, whatever its format was. Its texts are parts of json. */
struct sample {
    const char *name, *type, *unit;
    double value;    /* NAN: a text, of a set */
    char text[40];   /* the value as it was written */
    double time;     /* 0 if unknown: StatsD has none */
    int64_t pid;     /* 0 if unknown */
    struct buf tags; /* "name: value, ..." */
    struct json_t *json; /* parsed line; of a StatsD line: the same made from it */
};
struct records;
/* Reads the next sample, to be cleared: 1, 0 at the end, -errno. */
int sample_next(struct records *r, struct sample *s);
void sample_clear(struct sample *s);

#define CLI_ROOTDIR_OPTION \
    { \
        "rootdir", "DIR", "Act on the host whose root directory is mounted at DIR", NULL, 'R', false, false \
    }
#define CLI_TARGET_OPTIONS \
    {"all-matches", NULL, "All processes of that name", NULL, 0, false, false}, \
        {"children", NULL, "The processes that these have started, too", NULL, 0, false, false}, CLI_ROOTDIR_OPTION

/* --- targets.c: the processes that a command is about --- */

/*
 * A pid, or an exact name (of the process, or of its file). Several processes of that name: with --all-matches all, else
 * a question on a terminal. With --children their descendants, too. observed: only processes that are observed now.
 * word may be NULL: all that are observed. *ret is malloc'ed. 0, or an exit status after a message.
 */
int cli_targets(const struct args *a, const char *word, bool observed, pid_t **ret, size_t *ret_count);
/* Looks again where processes may have come since that are meant, too (--children; all that are observed), and adds
 * them behind the others. False: there are none. */
bool cli_targets_more(const struct args *a, bool observed, pid_t **pids, size_t *count);
extern const struct cli_option cli_target_options[];
/* All observed processes that this user may see, of that name (NULL: any). *ret is malloc'ed, NULL if there are none.
 */
void cli_observed(const char *name, pid_t **ret, size_t *ret_count);
/* That is the name of the process or of its file. */
bool cli_is_called(pid_t pid, const char *name);
/* There is a terminal to ask on. */
bool cli_can_ask(void);
/* A table of the processes and a question which it is: 0, or EXIT_FAILED after a message. Where nobody can be asked
 * only the table is printed, to stderr; the caller says why. */
int cli_choose(const pid_t *pids, size_t count, pid_t *ret);

/* --- rootdir.c --- */

/* Goes over to the host of --rootdir, if that was given: 0, or an exit status after a message. */
int cli_enter_root(const struct args *a);

/* --- launching, shared by run, watch, extract --- */

extern const struct cli_option cli_run_options[]; /* flags that shape what is observed and where it goes */
extern const struct cli_option cli_dest_options[];
struct config_sources;
struct cfg_problem;
/* Problems of configuration as messages; ctx is a bool that becomes true at a fatal one, or NULL. */
void cli_problem(void *ctx, const struct cfg_problem *p);
/* Flags of a command line into configuration: 0 or EXIT_USAGE. */
int cli_apply_flags(const struct args *a, struct config_sources *config);
/* A scope.yml on standard input, if there is one and --userconfig names none, into configuration and *ret: 0 or an exit
 * status after a message. */
struct buf;
int cli_add_input(const struct args *a, struct config_sources *config, struct buf *ret);
/* The file that execvp(3) would run, malloc'ed: 0, -ENOENT, or -EACCES if what there is can't be executed. name has no
 * slash. */
int cli_search_path(const char *name, char **ret);
/* Becomes the program: returns only if that failed, with the exit status. */
int cli_run_program(const struct args *a, const char *kind);
/* Options and program of a command line that will be run: 0, or the exit status after a message. */
int cli_check_run(const struct args *a);
/* Attaches to running processes, as one session: 0, or an exit status after messages if one of them could not be. Those
 * that were attached to are then in the array. Configuration is that of --userconfig, else of standard input if it is
 * no terminal and says something, else of the options. */
int cli_attach(const struct args *a, pid_t *pids, size_t *count);
/* run -z. */
int cli_run_passthrough(const struct args *a);

#endif
