/* SPDX-License-Identifier: Apache-2.0 */
/* Help, man page, Markdown and shell completion: all from the command table. */
#include "cli/cli.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "version.h"

typedef void (*option_fn)(FILE *, const struct cli_option *);

static void each_option(FILE *to, const struct cli_command *c, option_fn fn)
{
    const struct cli_option *lists[] = {c->options, c->more_options, cli_common_options};

    for (size_t i = 0; i < 3; i++)
        for (const struct cli_option *o = lists[i]; o && o->name; o++) {
            struct cli_option shown = *o;

            if (o->hidden)
                continue;
            for (const struct cli_option *own = c->options; i && own && own->name; own++)
                if (own->letter == o->letter) /* a command's own option takes the letter */
                    shown.letter = 0;
            fn(to, &shown);
        }
}

static const char *usage_gap(const struct cli_command *c)
{
    return *c->usage ? " " : "";
}

/* As wide as the terminal, up to what is easy to read. */
static unsigned columns(void)
{
    unsigned width = cli_width();

    return width && width < 100 ? width : 100;
}

/* Words folded at `width` columns, every line indented. */
static void fold(FILE *to, const char *text, unsigned indent, unsigned first, unsigned width)
{
    unsigned column = first;

    while (*text) {
        size_t n = strcspn(text, " \n");

        if (column > indent && column + 1 + n > width) {
            fprintf(to, "\n%*s", (int)indent, "");
            column = indent;
        } else if (column > indent) {
            fputc(' ', to);
            column++;
        }
        fwrite(text, 1, n, to);
        column += (unsigned)n;
        text += n;
        if (*text == '\n')
            break;
        text += *text == ' ';
    }
    fputc('\n', to);
}

static char *option_form(const struct cli_option *o)
{
    char letter[8] = "    ";

    if (o->letter)
        snprintf(letter, sizeof(letter), "-%c, ", o->letter);
    return xasprintf("%s--%s%s%s%s%s", letter, o->name, o->optional ? "[" : "", o->arg ? (o->optional ? "=" : " ") : "",
                     o->arg ? o->arg : "", o->optional ? "]" : "");
}

static void print_option(FILE *to, const struct cli_option *o)
{
    char *form = option_form(o);
    char *text = o->words ? xasprintf("%s: %s", o->help, o->words) : xstrdup(o->help);
    unsigned n = 2 + (unsigned)strlen(form);

    fprintf(to, "  %s", form);
    if (n > 26)
        fprintf(to, "\n%28s", "");
    else
        fprintf(to, "%*s", (int)(28 - n), "");
    fold(to, text, 28, 28, columns());
    free(form);
    free(text);
}

void help_overview(FILE *to)
{
    fputs("scope shows what a Linux program does: files, connections, processes, console output, metrics.\n\n"
          "usage: scope [run] PROGRAM [ARGUMENTS]\n"
          "       scope COMMAND [OPTIONS] [ARGUMENTS]\n\n"
          "  scope curl https://example.org/    run a program and record what it does\n"
          "  scope events                       what it did\n"
          "  scope metrics                      in numbers\n\n"
          "Commands:\n",
          to);
    for (const struct cli_command *const *c = cli_commands; *c; c++)
        if (!(*c)->hidden)
            fprintf(to, "  %-12s %s\n", (*c)->name, (*c)->summary);
    fputs("\nOptions:\n"
          "  -h, --help     Show this help\n"
          "  -V, --version  Show the version\n"
          "  -z PROGRAM     Short for `run -z`: no session\n\n"
          "`scope help examples` shows ten tasks and the commands for them.\n"
          "`scope COMMAND --help` explains a command.\n",
          to);
}

static void paragraphs(FILE *to, const char *text, const char *between)
{
    while (*text) {
        size_t n = strcspn(text, "\n");

        fold(to, text, 0, 0, columns());
        text += n;
        if (*text == '\n') {
            text++;
            fputs(between, to);
        }
    }
}

void help_command(FILE *to, const struct cli_command *c)
{
    fprintf(to, "%s\n\n", c->summary);
    if (c->examples) {
        fputs("Examples:\n", to);
        for (const struct cli_example *e = c->examples; e->line; e++)
            fprintf(to, "  %s\n      %s\n", e->line, e->what);
        fputc('\n', to);
    }
    fprintf(to, "usage: scope %s%s%s\n", c->name, usage_gap(c), c->usage);
    if (c->aliases)
        fprintf(to, "also called: %s\n", c->aliases);
    fputs("\nOptions:\n", to);
    each_option(to, c, print_option);
    fputc('\n', to);
    paragraphs(to, c->description, "\n");
}

/* --- man page; man(7) --- */

static void roff(FILE *to, const char *text)
{
    bool start = true;

    for (; *text; text++) {
        if (*text == '\\')
            fputs("\\e", to);
        else if (*text == '-')
            fputs("\\-", to);
        else if (start && (*text == '.' || *text == '\''))
            fprintf(to, "\\&%c", *text);
        else
            fputc(*text, to);
        start = *text == '\n';
    }
}

static void roff_option(FILE *to, const struct cli_option *o)
{
    fputs(".TP\n\\fB", to);
    if (o->letter)
        fprintf(to, "\\-%c\\fR, \\fB", o->letter);
    fputs("\\-\\-", to);
    roff(to, o->name);
    fputs("\\fR", to);
    if (o->arg)
        fprintf(to, "%s\\fI%s\\fR%s", o->optional ? "[=" : " ", o->arg, o->optional ? "]" : "");
    fputc('\n', to);
    roff(to, o->help);
    if (o->words) {
        fputs(": ", to);
        roff(to, o->words);
    }
    fputs(".\n", to);
}

void help_man(FILE *to)
{
    fprintf(
        to,
        ".\\\" Made from the command table by `scope help --man`.\n.TH SCOPE 1 \"\" \"scope %s\" \"User Commands\"\n",
        SCOPE_VERSION);
    fputs(".SH NAME\nscope \\- show what a program does\n.SH SYNOPSIS\n"
          ".B scope\n.RB [ run ]\n.I PROGRAM\n.RI [ ARGUMENTS ]\n.br\n.B scope\n.I COMMAND\n.RI [ OPTIONS ] \" \" [ "
          "ARGUMENTS ]\n"
          ".SH DESCRIPTION\nscope runs a program and records the files it uses, its network connections, what it "
          "writes to "
          "console and log files, the processes it starts, and metrics, without changing the program or slowing it "
          "down.\n",
          to);
    for (const struct cli_command *const *p = cli_commands; *p; p++) {
        const struct cli_command *c = *p;

        if (c->hidden)
            continue;
        fprintf(to, ".SH \"SCOPE %s\"\n.B scope %s\n", c->name, c->name);
        roff(to, c->usage);
        fputc('\n', to);
        for (const struct cli_example *e = c->examples; e && e->line; e++) {
            fputs(e == c->examples ? ".PP\nExamples:\n.TP\n.B " : ".TP\n.B ", to);
            roff(to, e->line);
            fputc('\n', to);
            roff(to, e->what);
            fputc('\n', to);
        }
        fputs(".PP\n", to);
        for (const char *t = c->description; *t;) {
            size_t n = strcspn(t, "\n");
            char *one = xstrndup(t, n);

            roff(to, one);
            fputc('\n', to);
            free(one);
            t += n;
            if (*t == '\n') {
                t++;
                fputs(".PP\n", to);
            }
        }
        each_option(to, c, roff_option);
    }
    fputs(".SH \"COMMANDS OF APPSCOPE 1.4\"\nThese are not built. They are refused, so that no program of that name is "
          "run by mistake.\n",
          to);
    for (const struct cli_former *f = cli_former_commands; f->name; f++) {
        fprintf(to, ".TP\n.B %s\n", f->name);
        roff(to, f->instead);
        fputs(".\n", to);
    }
    fputs(
        ".SH ENVIRONMENT\n"
        ".TP\n.B SCOPE_HOME\nWhere sessions are stored, instead of ~/.scope. It has to be yours alone, and "
        "no other user may be able to exchange it. Root with another user's HOME uses root's own home.\n"
        ".TP\n.B SCOPE_CONF_PATH\nThe scope.yml that programs started without a session use.\n"
        ".TP\n.BR NO_COLOR \", \" CLICOLOR_FORCE\nColours never, or always.\n"
        ".PP\nThe SCOPE_* variables that configure what is observed are listed in docs/config.md.\n"
        ".SH \"EXIT STATUS\"\n"
        "0 on success, 1 if a command failed, 2 for wrong options or arguments. run: the program's own status; 125 if "
        "scope itself failed, 126 if the program can't be executed, 127 if there is none.\n"
        ".SH FILES\n.TP\n.I ~/.scope/history/N\nOne session: session.json, scope.yml, journal, scope.log."
        "\n.SH \"SEE ALSO\"\n.BR strace (1),\n.BR ld.so (8)\n",
        to);
}

/* --- Markdown --- */

static void markdown_option(FILE *to, const struct cli_option *o)
{
    fputs("| `", to);
    if (o->letter)
        fprintf(to, "-%c`, `", o->letter);
    fprintf(to, "--%s%s%s%s` | %s", o->name, o->arg ? (o->optional ? "[=" : " ") : "", o->arg ? o->arg : "",
            o->optional ? "]" : "", o->help);
    if (o->words) {
        fputs(": ", to);
        for (const char *w = o->words; *w; w++)
            fputs(*w == '|' ? ", " : (char[]){*w, 0}, to);
    }
    fputs(" |\n", to);
}

void help_markdown(FILE *to)
{
    fputs("# Command line\n\n<!-- Made from the command table by `scope help --markdown`; tests check that it is up to "
          "date. "
          "-->\n\n"
          "    scope [run] PROGRAM [ARGUMENTS]\n    scope COMMAND [OPTIONS] [ARGUMENTS]\n\n"
          "The first word is a command; any other word is a program to run observed. `--` ends options everywhere. "
          "Values of "
          "options follow as the next word or after `=`. Messages go to standard error as `scope: what: why`, with a "
          "remedy below. With `-j` a command prints one JSON object per line.\n\n## Ten tasks\n\nAs `scope help examples` "
          "prints them.\n\n",
          to);
    help_examples_markdown(to);
    fputs("## Commands\n\n| Command | |\n|---|---|\n", to);
    for (const struct cli_command *const *c = cli_commands; *c; c++)
        if (!(*c)->hidden)
            fprintf(to, "| [%s](#scope-%s) | %s |\n", (*c)->name, (*c)->name, (*c)->summary);
    for (const struct cli_command *const *p = cli_commands; *p; p++) {
        const struct cli_command *c = *p;

        if (c->hidden)
            continue;
        fprintf(to, "\n## scope %s\n\n", c->name);
        for (const struct cli_example *e = c->examples; e && e->line; e++)
            fprintf(to, "    %s\n        # %s\n", e->line, e->what);
        fprintf(to, "%sUsage: `scope %s%s%s`\n\n", c->examples ? "\n" : "", c->name, usage_gap(c), c->usage);
        for (const char *t = c->description; *t; t++)
            fputs(*t == '\n' ? "\n\n" : (char[]){*t, 0}, to);
        fputs("\n\n| Option | Meaning |\n|---|---|\n", to);
        each_option(to, c, markdown_option);
        if (c->aliases)
            fprintf(to, "\nAlso called: %s.\n", c->aliases);
    }
    fputs("\n## Commands of AppScope 1.4 that are not built\n\n"
          "They are refused with status 2, so that no program of that name is run by mistake; `scope run -- NAME` runs "
          "one.\n\n| Command | Instead |\n|---|---|\n",
          to);
    for (const struct cli_former *f = cli_former_commands; f->name; f++)
        fprintf(to, "| %s | %s |\n", f->name, f->instead);
    fputs("\n## Exit status\n\n| Status | When |\n|---|---|\n"
          "| the program's | `run`: scope becomes the program |\n"
          "| 0 | success, help, a prompt that was declined, data that went elsewhere |\n"
          "| 1 | the command could not do it; `doctor`: something prevents observing |\n"
          "| 2 | wrong options or arguments |\n"
          "| 125 | `run`: scope failed before the program was started |\n"
          "| 126 | `run`: the program can't be executed |\n"
          "| 127 | `run`: there is no such program |\n",
          to);
}

/* --- completion --- */

static void word_list(FILE *to, const struct cli_command *c)
{
    const struct cli_option *lists[] = {c->options, c->more_options, cli_common_options};

    for (size_t i = 0; i < 3; i++)
        for (const struct cli_option *o = lists[i]; o && o->name; o++)
            if (!o->hidden) {
                fprintf(to, " --%s", o->name);
                if (o->letter)
                    fprintf(to, " -%c", o->letter);
            }
}

static void command_names(FILE *to, const char *between)
{
    bool first = true;

    for (const struct cli_command *const *c = cli_commands; *c; c++)
        if (!(*c)->hidden) {
            fprintf(to, "%s%s", first ? "" : between, (*c)->name);
            first = false;
        }
}

/* Options whose value is a file, a directory, or one of some words, as patterns of a case statement. */
static void value_cases(FILE *to, const struct cli_command *c)
{
    const struct cli_option *lists[] = {c->options, c->more_options};

    for (size_t i = 0; i < 2; i++)
        for (const struct cli_option *o = lists[i]; o && o->name; o++) {
            if (!o->arg || o->hidden || o->optional)
                continue;
            fprintf(to, "        %s:--%s", c->name, o->name);
            if (o->letter)
                fprintf(to, "|%s:-%c", c->name, o->letter);
            if (o->words) {
                fputs(") COMPREPLY=($(compgen -W \"", to);
                for (const char *w = o->words; *w; w++)
                    fputc(*w == '|' ? ' ' : *w, to);
                fputs("\" -- \"$cur\")); return ;;\n", to);
            } else if (strcmp(o->arg, "DIR") == 0) {
                fputs(") COMPREPLY=($(compgen -d -- \"$cur\")); return ;;\n", to);
            } else if (strcmp(o->arg, "FILE") == 0) {
                fputs(") COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n", to);
            } else {
                fputs(") return ;;\n", to);
            }
        }
}

/* A case for options that take the next word, if there are any. */
static void valued_options(FILE *to, const struct cli_command *c)
{
    const struct cli_option *lists[] = {c->options, c->more_options};
    const char *bar = "            ";

    for (size_t i = 0; i < 2; i++)
        for (const struct cli_option *o = lists[i]; o && o->name; o++) {
            if (!o->arg || o->optional)
                continue;
            fprintf(to, "%s--%s", bar, o->name);
            if (o->letter)
                fprintf(to, "|-%c", o->letter);
            bar = "|";
        }
    if (*bar == '|')
        fputs(") ((i++)) ;;\n", to);
}

static void bash_completion(FILE *to)
{
    fputs("# bash completion of scope, made from its command table by `scope completion bash`\n"
          "_scope()\n{\n"
          "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} cmd=${COMP_WORDS[1]} i\n"
          "    COMPREPLY=()\n"
          "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
          "        COMPREPLY=($(compgen -W \"",
          to);
    command_names(to, " ");
    fputs(" --help --version\" -- \"$cur\") $(compgen -c -- \"$cur\"))\n        return\n    fi\n"
          "    case $cmd:$prev in\n",
          to);
    for (const struct cli_command *const *c = cli_commands; *c; c++)
        if (!(*c)->hidden)
            value_cases(to, *c);
    fputs("    esac\n    case $cmd in\n", to);
    for (const struct cli_command *const *p = cli_commands; *p; p++) {
        const struct cli_command *c = *p;
        const char *w = c->words ? c->words : "";

        if (c->hidden)
            continue;
        fprintf(to, "    %s", c->name);
        if (c->aliases)
            for (const char *a = c->aliases; *a; a++)
                fprintf(to, "%s", *a == ' ' ? "|" : a == c->aliases ? (char[]){'|', *a, 0} : (char[]){*a, 0});
        fputs(")\n", to);
        if (c->stop_at_word) { /* from the program's name on, completion is the program's */
            fputs("        for ((i = 2; i < COMP_CWORD; i++)); do\n"
                  "            case ${COMP_WORDS[i]} in\n"
                  "            --) ((i++)); break ;;\n",
                  to);
            valued_options(to, c);
            fputs("            -*) ;;\n"
                  "            *) break ;;\n"
                  "            esac\n"
                  "        done\n"
                  "        if [ \"$i\" -lt \"$COMP_CWORD\" ]; then\n"
                  "            if declare -F _command_offset >/dev/null; then _command_offset \"$i\"; "
                  "else COMPREPLY=($(compgen -f -- \"$cur\")); fi\n"
                  "            return\n        fi\n",
                  to);
        }
        fputs("        case $cur in\n        -*) COMPREPLY=($(compgen -W \"", to);
        word_list(to, c);
        fputs("\" -- \"$cur\")) ;;\n        *) ", to);
        if (strcmp(w, "<program>") == 0)
            fputs("COMPREPLY=($(compgen -c -- \"$cur\")) ;;\n", to);
        else if (strcmp(w, "<file>") == 0)
            fputs("COMPREPLY=($(compgen -f -- \"$cur\")) ;;\n", to);
        else if (strcmp(w, "<dir>") == 0)
            fputs("COMPREPLY=($(compgen -d -- \"$cur\")) ;;\n", to);
        else if (strcmp(w, "<command>") == 0) {
            fputs("COMPREPLY=($(compgen -W \"", to);
            command_names(to, " ");
            fputs("\" -- \"$cur\")) ;;\n", to);
        } else
            fprintf(to, "COMPREPLY=($(compgen -W \"%s\" -- \"$cur\")) ;;\n", w);
        fputs("        esac ;;\n", to);
    }
    fputs("    esac\n}\ncomplete -o filenames -o bashdefault -F _scope scope\n", to);
}

static void zsh_quoted(FILE *to, const char *text)
{
    for (; *text; text++) {
        if (*text == '\'')
            fputs("'\\''", to);
        else if (strchr("[]:\\", *text))
            fprintf(to, "\\%c", *text);
        else
            fputc(*text, to);
    }
}

static void zsh_option(FILE *to, const struct cli_option *o)
{
    const char *action = !o->arg                       ? NULL
                         : strcmp(o->arg, "DIR") == 0  ? "_files -/"
                         : strcmp(o->arg, "FILE") == 0 ? "_files"
                                                       : " ";

    for (int form = 0; form < 2; form++) {
        if (form == 1 && !o->letter)
            break;
        fputs("            '", to);
        if (form == 0)
            fprintf(to, "--%s%s", o->name, o->optional ? "=-" : o->arg ? "=" : "");
        else
            fprintf(to, "-%c", o->letter);
        fputc('[', to);
        zsh_quoted(to, o->help);
        fputc(']', to);
        if (o->arg && !(form == 1 && o->optional)) {
            fprintf(to, "%s:%s:", o->optional ? ":" : "", o->arg);
            if (o->words) {
                fputc('(', to);
                for (const char *w = o->words; *w; w++)
                    fputc(*w == '|' ? ' ' : *w, to);
                fputc(')', to);
            } else {
                fputs(action, to);
            }
        }
        fputs("' \\\n", to);
    }
}

static void zsh_completion(FILE *to)
{
    fputs("#compdef scope\n# zsh completion of scope, made from its command table by `scope completion zsh`\n"
          "_scope()\n{\n    local -a commands\n    commands=(\n",
          to);
    for (const struct cli_command *const *c = cli_commands; *c; c++) {
        if ((*c)->hidden)
            continue;
        fprintf(to, "        '%s:", (*c)->name);
        zsh_quoted(to, (*c)->summary);
        fputs("'\n", to);
    }
    fputs("    )\n    if (( CURRENT == 2 )); then\n"
          "        _describe -t commands command commands\n        _command_names -e\n        return\n    fi\n"
          "    local cmd=$words[2]\n    shift words\n    (( CURRENT-- ))\n    case $cmd in\n",
          to);
    for (const struct cli_command *const *p = cli_commands; *p; p++) {
        const struct cli_command *c = *p;
        const char *w = c->words ? c->words : "";

        if (c->hidden)
            continue;
        fprintf(to, "    %s)\n        _arguments -s \\\n", c->name);
        each_option(to, c, zsh_option);
        if (strcmp(w, "<program>") == 0)
            fputs("            '*::: :_normal' ;;\n", to);
        else if (strcmp(w, "<dir>") == 0)
            fputs("            '*:directory:_files -/' ;;\n", to);
        else if (strcmp(w, "<file>") == 0)
            fputs("            '*:file:_files' ;;\n", to);
        else if (strcmp(w, "<command>") == 0) {
            fputs("            '*:command:(", to);
            command_names(to, " ");
            fputs(")' ;;\n", to);
        } else if (*w)
            fprintf(to, "            '*:argument:(%s)' ;;\n", w);
        else
            fputs("            '*: :' ;;\n", to);
    }
    fputs("    *) _normal ;;\n    esac\n}\nif [ \"$funcstack[1]\" = _scope ]; then _scope \"$@\"; else compdef _scope "
          "scope; fi\n",
          to);
}

int help_completion(FILE *to, const char *shell)
{
    if (strcmp(shell, "bash") == 0)
        bash_completion(to);
    else if (strcmp(shell, "zsh") == 0)
        zsh_completion(to);
    else
        return EXIT_USAGE;
    return 0;
}
