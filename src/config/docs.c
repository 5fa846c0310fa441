/* SPDX-License-Identifier: Apache-2.0 */
/* The documented default scope.yml and the reference tables of docs/config.md, from the schema. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "config/schema.h"

/* A comment, folded at 100 columns. */
static void comment(FILE *to, unsigned indent, const char *text)
{
    size_t width = 98 - indent;

    while (*text) {
        size_t len = strlen(text);

        if (len > width) {
            len = width;
            while (len > 0 && text[len] != ' ')
                len--;
            if (len == 0)
                len = strcspn(text, " ");
        }
        fprintf(to, "%*s# %.*s\n", (int)indent, "", (int)len, text);
        text += len;
        text += strspn(text, " ");
    }
}

static void describe(FILE *to, unsigned indent, const struct key *k)
{
    comment(to, indent, k->help);
    if (k->kind == KEY_LIST) {
        char *expected = key_expected(k), *line = xasprintf("Value: %s.", expected);

        comment(to, indent, line);
        free(line);
        free(expected);
    } else if (k->kind != KEY_SECTION && k->kind != KEY_TRANSPORT && k->kind != KEY_WATCH && k->kind != KEY_CUSTOM) {
        char *expected = key_expected(k), *line;

        line = xasprintf("Value: %s.%s%s", expected, k->def && *k->def ? " Default: " : " Default: none",
                         k->def && *k->def ? k->def : ".");
        comment(to, indent, line);
        free(line);
        free(expected);
    }
    if (k->env)
        fprintf(to, "%*s# Environment: %s\n", (int)indent, "", k->env);
    if (k->missing)
        fprintf(to, "%*s# Not built yet: %s.\n", (int)indent, "", k->missing);
}

static void quoted(FILE *to, const struct key *k, const char *text)
{
    if (k->kind == KEY_REGEX || !*text)
        fprintf(to, "'%s'", text);
    else
        fputs(text, to);
}

static void default_watch(FILE *to, unsigned indent, const struct key *list)
{
    fprintf(to, "%*s%s:\n", (int)indent, "", key_name(list));
    for (size_t i = 0; i < schema_count; i++) {
        const struct key *k = &schema[i];
        const char *off;

        if (!key_is_child(k, list->path))
            continue;
        off = strcmp(k->def, "true") != 0 ? "#" : "";
        putc('\n', to);
        comment(to, indent + 2, k->help);
        fprintf(to, "%*s# Environment: %s\n", (int)indent + 2, "", k->env);
        if (*off)
            fprintf(to, "%*s# Off by default.\n", (int)indent + 2, "");
        if (k->missing)
            fprintf(to, "%*s# Not built yet: %s.\n", (int)indent + 2, "", k->missing);
        fprintf(to, "%*s%s- type: %s\n", (int)indent + 2, "", off, key_name(k));
        for (size_t j = 0; j < schema_count; j++) {
            const struct key *sub = &schema[j];

            if (!key_is_child(sub, k->path))
                continue;
            fprintf(to, "%*s%s%s%s: ", (int)indent + 2, "", off, "  ", key_name(sub));
            if (sub->kind == KEY_PATTERNS)
                fputs("[]", to);
            else
                quoted(to, sub, sub->def);
            fprintf(to, "  # %s\n", sub->env);
        }
    }
}

static void default_list(FILE *to, unsigned indent, const struct key *k)
{
    const char *at = k->def;
    char *item;

    if (!at || !*at) {
        fprintf(to, "%*s%s: []\n", (int)indent, "", key_name(k));
        return;
    }
    fprintf(to, "%*s%s:\n", (int)indent, "", key_name(k));
    for (; (item = cfg_list_item(&at)); free(item))
        fprintf(to, strpbrk(item, "!*?") ? "%*s- '%s'\n" : "%*s- %s\n", (int)indent + 2, "", item);
}

static void default_section(FILE *to, unsigned indent, const char *path)
{
    for (size_t i = 0; i < schema_count; i++) {
        const struct key *k = &schema[i];

        if (!key_is_child(k, path))
            continue;
        putc('\n', to);
        switch (k->kind) {
        case KEY_SECTION:
        case KEY_TRANSPORT:
            describe(to, indent, k);
            fprintf(to, "%*s%s:\n", (int)indent, "", key_name(k));
            default_section(to, indent + 2, k->path);
            break;
        case KEY_WATCH:
            describe(to, indent, k);
            default_watch(to, indent, k);
            break;
        case KEY_TAGS:
            describe(to, indent, k);
            fputs("# $NAME in a value is replaced by that variable of the process; \\$NAME stays as $NAME.\n"
                  "tags:\n"
                  "  #user: $USER\n"
                  "  #service: shop\n",
                  to);
            break;
        case KEY_PROTOCOLS:
            describe(to, indent, k);
            fputs("protocol:\n"
                  "  #- name: Redis\n"
                  "  #  regex: '^[*]\\d+|^[+]\\w+|^[$]\\d+'\n"
                  "  #  binary: false\n"
                  "  #  len: 0\n"
                  "  #  detect: true\n"
                  "  #  payload: false\n",
                  to);
            break;
        case KEY_CUSTOM:
            describe(to, indent, k);
            fputs("custom:\n"
                  "  #quiet-shells:\n"
                  "  #  filter:\n",
                  to);
            for (size_t j = 0; j < schema_count; j++) {
                if (schema[j].base != BASE_FILTER)
                    continue;
                comment(to, 4, schema[j].help);
                fprintf(to, "  #    %s: %s\n", key_name(&schema[j]),
                        !strcmp(key_name(&schema[j]), "env") ? "NAME=value" : "text");
            }
            fputs("  #  config:\n"
                  "  #    event:\n"
                  "  #      watch:\n"
                  "  #        - type: process\n",
                  to);
            break;
        case KEY_LIST:
            describe(to, indent, k);
            default_list(to, indent, k);
            break;
        case KEY_PAIRS:
            describe(to, indent, k);
            fprintf(to, "%*s#%s: {%s}\n", (int)indent, "", key_name(k),
                    k->secret ? "authorization: 'Bearer $TOKEN'" : "deployment.environment.name: production");
            break;
        default:
            describe(to, indent, k);
            fprintf(to, "%*s%s%s: ", (int)indent, "", k->def ? "" : "#", key_name(k));
            quoted(to, k, k->def ? k->def : "");
            putc('\n', to);
        }
    }
}

void config_print_default_yaml(FILE *to)
{
    fputs("# Configuration of scope: every key with its default. A key that is left out has its default.\n"
          "#\n"
          "# Where a value comes from, strongest first: command-line flags, environment variables, the custom\n"
          "# section of this file, the rest of this file, OpenTelemetry's variables (OTEL_*, for otlp), the\n"
          "# defaults. $NAME in a value is replaced by that environment variable (not in patterns); write\n"
          "# \\$NAME to keep it.\n"
          "#\n"
          "# scope config check FILE finds mistakes; scope config show prints what is in effect and why.\n"
          "# This file is generated from the schema in src/config/schema.c. Reference: docs/config.md.\n",
          to);
    default_section(to, 0, "");
}

/* Text of a table cell: a bar would end it. */
static void cell(FILE *to, const char *text)
{
    for (; *text; text++) {
        if (*text == '|')
            putc('\\', to);
        putc(*text, to);
    }
}

static void code(FILE *to, const char *text)
{
    putc('`', to);
    cell(to, text);
    putc('`', to);
}

/* Each entry by itself, so that a line can end behind it. */
static void list_code(FILE *to, const char *list)
{
    const char *comma = "";
    char *item;

    if (!list || !*list)
        fputs("`[]`", to);
    for (; (item = cfg_list_item(&list)); free(item), comma = ", ") {
        fputs(comma, to);
        code(to, item);
    }
}

static void table_head(FILE *to)
{
    fputs("| Key | Value | Default | Environment | Meaning |\n|---|---|---|---|---|\n", to);
}

static void table_row(FILE *to, const struct key *k)
{
    char *expected = key_expected(k);

    fputs("| ", to);
    code(to, k->path);
    fprintf(to, " | %s | ", expected);
    if (k->kind == KEY_LIST)
        list_code(to, k->def);
    else if (k->def)
        code(to, *k->def ? k->def : "''");
    else
        fputs("–", to);
    fputs(" | ", to);
    if (k->env)
        code(to, k->env);
    else
        fputs("–", to);
    fputs(" | ", to);
    cell(to, k->help);
    if (k->missing)
        fprintf(to, " *Not built yet: %s.*", k->missing);
    fputs(" |\n", to);
    free(expected);
}

static bool lies_below(const struct key *k, const char *path)
{
    size_t len = strlen(path);

    return !strncmp(k->path, path, len) && (k->path[len] == '.' || k->path[len] == '[');
}

static void watch_table(FILE *to, const struct key *list)
{
    bool filters = !strcmp(list->path, "event.watch");

    fprintf(to, "\n#### `%s`\n\n%s\n\n", list->path, list->help);
    fputs(filters ? "| type | On by default | Environment | Default `name` | Default `field` | Meaning |\n"
                    "|---|---|---|---|---|---|\n"
                  : "| type | On by default | Environment | Meaning |\n|---|---|---|---|\n",
          to);
    for (size_t i = 0; i < schema_count; i++) {
        const struct key *k = &schema[i], *name = NULL, *field = NULL;

        if (!key_is_child(k, list->path))
            continue;
        fputs("| ", to);
        code(to, key_name(k));
        fprintf(to, " | %s | ", !strcmp(k->def, "true") ? "yes" : "no");
        code(to, k->env);
        fputs(" | ", to);
        if (filters) {
            name = key_find_child(k, "name");
            field = key_find_child(k, "field");
            code(to, name->def);
            fputs(" | ", to);
            code(to, field->def);
            fputs(" | ", to);
        }
        cell(to, k->help);
        if (k->missing)
            fprintf(to, " *Not built yet: %s.*", k->missing);
        fputs(" |\n", to);
    }
    if (!filters)
        return;
    fputs(
        "\nKeys of an entry besides `type`; the variables are those of the type with the ending given here:\n\n"
        "| Key | Value | Default | Environment | Meaning |\n|---|---|---|---|---|\n"
        "| `name` | a PCRE2 pattern | see above | `…_NAME` | What the event is about (path of the file, `stdout` or "
        "`stderr`, name of the metric, of the event or of the call) must match; other events are dropped. |\n"
        "| `field` | a PCRE2 pattern | see above | `…_FIELD` | Which fields are kept. Not for `file` and `console`. |\n"
        "| `value` | a PCRE2 pattern | `.*` | `…_VALUE` | At least one value, or the text written, must match. |\n",
        to);
    for (size_t i = 0; i < schema_count; i++) {
        const struct key *k = &schema[i];
        char *expected;

        if (!lies_below(k, list->path) || (k->kind != KEY_PATTERNS && strcmp(key_name(k), "allowbinary") != 0))
            continue;
        expected = key_expected(k);
        fputs("| ", to);
        code(to, key_name(k));
        fprintf(to, " (%s only) | %s | `%s` | ", k->kind == KEY_PATTERNS ? "`http`" : "`console`", expected,
                k->kind == KEY_PATTERNS ? "[]" : k->def);
        code(to, k->env);
        fputs(" | ", to);
        cell(to, k->help);
        fputs(" |\n", to);
        free(expected);
    }
}

static void rows_below(FILE *to, const char *path)
{
    for (size_t i = 0; i < schema_count; i++) {
        const struct key *k = &schema[i];

        if (!lies_below(k, path) || k->kind == KEY_SECTION)
            continue;
        if (k->kind == KEY_WATCH)
            continue;
        if (strstr(k->path, ".watch."))
            continue;
        table_row(to, k);
    }
}

void config_print_markdown(FILE *to)
{
    for (size_t i = 0; i < schema_count; i++) {
        const struct key *k = &schema[i];

        if (!key_is_child(k, ""))
            continue;
        fprintf(to, "\n### `%s`\n\n%s", k->path, k->help);
        if (k->env)
            fprintf(to, " Environment: `%s`.", k->env);
        if (k->missing)
            fprintf(to, " *Not built yet: %s.*", k->missing);
        fputs("\n", to);
        if (k->kind != KEY_TAGS) {
            putc('\n', to);
            table_head(to);
            rows_below(to, k->path);
        }
        for (size_t j = 0; j < schema_count; j++)
            if (schema[j].kind == KEY_WATCH && key_is_child(&schema[j], k->path))
                watch_table(to, &schema[j]);
    }
}
