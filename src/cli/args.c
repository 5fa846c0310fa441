/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "cli/progress.h"

/* What messages quote may come from anybody: names of files and programs, metadata, what another process says. */
static void __attribute__((format(printf, 2, 0))) message(const char *before, const char *fmt, va_list ap)
{
    struct buf b = BUF_INIT;
    char *text = NULL;

    buf_str(&b, before);
    if (vasprintf(&text, fmt, ap) >= 0) {
        text_clean(&b, text, strlen(text));
        free(text);
    }
    buf_char(&b, '\n');
    progress_hide();
    fwrite(b.p, 1, b.len, stderr);
    buf_free(&b);
}

void cli_error(const char *fmt, ...)
{
    va_list ap;

    fflush(stdout);
    va_start(ap, fmt);
    message("scope: ", fmt, ap);
    va_end(ap);
}

void cli_hint(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    message("       ", fmt, ap);
    va_end(ap);
}

int cli_usage(const struct cli_command *c, const char *fmt, ...)
{
    char before[64];
    va_list ap;

    fflush(stdout);
    snprintf(before, sizeof(before), "scope %s: ", c->name);
    va_start(ap, fmt);
    message(before, fmt, ap);
    va_end(ap);
    fprintf(stderr, "usage: scope %s%s%s\n", c->name, *c->usage ? " " : "", c->usage);
    cli_hint("`scope %s --help` explains it", c->name);
    return EXIT_USAGE;
}

/* Edits (insert, delete, replace, swap neighbours) from a to b; words longer than the table are not alike. */
static unsigned distance(const char *a, const char *b)
{
    size_t la = strlen(a), lb = strlen(b);
    unsigned d[32][32];

    if (la >= 32 || lb >= 32)
        return 32;
    for (size_t i = 0; i <= la; i++)
        d[i][0] = (unsigned)i;
    for (size_t j = 0; j <= lb; j++)
        d[0][j] = (unsigned)j;
    for (size_t i = 1; i <= la; i++) {
        for (size_t j = 1; j <= lb; j++) {
            unsigned best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);

            if (d[i - 1][j] + 1 < best)
                best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best)
                best = d[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    }
    return d[la][lb];
}

const char *cli_closest(const char *word, const char *const *candidates)
{
    const char *best = NULL;
    unsigned limit = strlen(word) <= 3 ? 1 : strlen(word) <= 6 ? 2 : 3, found = limit + 1;

    for (; *candidates; candidates++) {
        unsigned d = distance(word, *candidates);

        if (d < found) {
            found = d;
            best = *candidates;
        }
    }
    return best;
}

const struct cli_option cli_common_options[] = {
    {"help", NULL, "Show this help", NULL, 'h', false, false},
    {0},
};

static const struct cli_option *const *option_lists(const struct cli_command *c, const struct cli_option *lists[4])
{
    size_t n = 0;

    if (c->options)
        lists[n++] = c->options;
    if (c->more_options)
        lists[n++] = c->more_options;
    lists[n++] = cli_common_options;
    lists[n] = NULL;
    return lists;
}

static const struct cli_option *find_long(const struct cli_command *c, const char *name, size_t len)
{
    const struct cli_option *lists[4];

    for (const struct cli_option *const *l = option_lists(c, lists); *l; l++)
        for (const struct cli_option *o = *l; o->name; o++)
            if (strncmp(o->name, name, len) == 0 && o->name[len] == '\0')
                return o;
    return NULL;
}

static const struct cli_option *find_letter(const struct cli_command *c, char letter)
{
    const struct cli_option *lists[4];

    for (const struct cli_option *const *l = option_lists(c, lists); *l; l++)
        for (const struct cli_option *o = *l; o->name; o++)
            if (o->letter == letter)
                return o;
    return NULL;
}

static const char *closest_option(const struct cli_command *c, const char *name)
{
    const struct cli_option *lists[4];
    const char *names[64] = {0};
    size_t n = 0;

    for (const struct cli_option *const *l = option_lists(c, lists); *l; l++)
        for (const struct cli_option *o = *l; o->name && n < 63; o++)
            if (!o->hidden)
                names[n++] = o->name;
    return cli_closest(name, names);
}

static bool one_of(const char *words, const char *value)
{
    size_t len = strlen(value);

    for (const char *p = words; *p;) {
        size_t n = strcspn(p, "|");

        if (n == len && strncmp(p, value, n) == 0)
            return true;
        p += n;
        p += *p == '|';
    }
    return false;
}

static int add_value(struct args *a, const struct cli_option *o, const char *value)
{
    if (o->words && value && !one_of(o->words, value))
        return cli_usage(a->command, "--%s can't be '%s'; it takes %s", o->name, value, o->words);
    a->values = xrealloc(a->values, a->value_count + 1, sizeof(*a->values));
    a->values[a->value_count++] = (struct cli_value){o, value};
    return 0;
}

/* What follows an option whose value may be left out is its value if it is a URL and the option takes one: no program is
 * called like that. */
static bool is_url_for(const struct cli_option *o, const char *next)
{
    return !strcmp(o->arg, "URL") && *next != '/' && *next != '.' && strstr(next, "://");
}

/* Words are kept in order; options may stand among them unless the command stops at the first. */
int args_parse(struct args *a, const struct cli_command *c, int argc, char **argv)
{
    int i, rc = 0;

    *a = (struct args){.command = c};
    a->words = xcalloc((size_t)argc + 1, sizeof(char *));
    for (i = 0; i < argc && rc == 0; i++) {
        char *word = argv[i];

        if (strcmp(word, "--") == 0) {
            i++;
            break;
        }
        if (word[0] != '-' || word[1] == '\0') {
            if (c->stop_at_word)
                break;
            a->words[a->word_count++] = word;
        } else if (word[1] == '-') {
            char *name = word + 2, *eq = strchr(name, '=');
            size_t len = eq ? (size_t)(eq - name) : strlen(name);
            const struct cli_option *o = find_long(c, name, len);

            if (!o) {
                char *typed = xstrndup(name, len);
                const char *like = closest_option(c, typed);

                rc = like ? cli_usage(c, "there is no option --%s; did you mean --%s?", typed, like)
                          : cli_usage(c, "there is no option --%s", typed);
                free(typed);
            } else if (!o->arg) {
                rc = eq ? cli_usage(c, "--%s takes no value", o->name) : add_value(a, o, NULL);
            } else if (eq) {
                rc = add_value(a, o, eq + 1);
            } else if (o->optional) {
                rc = add_value(a, o, i + 1 < argc && is_url_for(o, argv[i + 1]) ? argv[++i] : NULL);
            } else if (i + 1 < argc) {
                rc = add_value(a, o, argv[++i]);
            } else {
                rc = cli_usage(c, "--%s needs a value: %s", o->name, o->arg);
            }
        } else {
            for (char *p = word + 1; *p && rc == 0; p++) {
                const struct cli_option *o = find_letter(c, *p);

                if (!o) {
                    rc = cli_usage(c, "there is no option -%c", *p);
                } else if (!o->arg || o->optional) {
                    rc = add_value(a, o, NULL);
                } else if (p[1]) {
                    rc = add_value(a, o, p[1] == '=' ? p + 2 : p + 1);
                    break;
                } else if (i + 1 < argc) {
                    rc = add_value(a, o, argv[++i]);
                } else {
                    rc = cli_usage(c, "-%c needs a value: %s", *p, o->arg);
                }
            }
        }
    }
    for (; i < argc && rc == 0; i++)
        a->words[a->word_count++] = argv[i];
    if (rc || args_has(a, "help")) /* help is answered however wrong the rest is */
        return rc;
    if (a->word_count < c->min_args)
        return cli_usage(c, a->word_count ? "too few arguments" : "an argument is missing");
    if (c->max_args >= 0 && a->word_count > c->max_args)
        return cli_usage(c, "'%s' is one argument too many", a->words[c->max_args]);
    return 0;
}

void args_clear(struct args *a)
{
    free(a->values);
    free(a->words);
    *a = (struct args){0};
}

static const struct cli_value *find_value(const struct args *a, const char *name)
{
    for (size_t i = a->value_count; i-- > 0;)
        if (strcmp(a->values[i].option->name, name) == 0)
            return &a->values[i];
    return NULL;
}

bool args_has(const struct args *a, const char *name)
{
    return find_value(a, name) != NULL;
}

const char *args_get(const struct args *a, const char *name)
{
    const struct cli_value *v = find_value(a, name);

    return v ? v->value : NULL;
}

int args_number(const struct args *a, const char *name, int64_t min, int64_t max, int64_t *ret)
{
    const char *text = args_get(a, name);
    char *end;
    long long v;

    if (!text)
        return 0;
    errno = 0;
    v = strtoll(text, &end, 10);
    if (end == text || *end || errno || isspace((unsigned char)*text) || v < min || v > max) {
        if (max == INT64_MAX)
            return cli_usage(a->command, "--%s takes a whole number from %lld, not '%s'", name, (long long)min, text);
        return cli_usage(a->command, "--%s takes a whole number from %lld to %lld, not '%s'", name, (long long)min,
                         (long long)max, text);
    }
    *ret = v;
    return 0;
}

int args_conflict(const struct args *a, const char *one, const char *other)
{
    if (!args_has(a, one) || !args_has(a, other))
        return 0;
    return cli_usage(a->command, "Cannot specify --%s and --%s", one, other);
}
