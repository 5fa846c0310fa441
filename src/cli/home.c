/* SPDX-License-Identifier: Apache-2.0 */
/* `scope` alone on a terminal: what was recorded last, and what can be done with it. */
#include "cli/cli.h"

#include <stdlib.h>

#include "base/buf.h"
#include "base/mem.h"

#define SHOWN 5

static void add_row(struct table *t, const struct session *s)
{
    struct buf line = BUF_INIT;
    char when[32];

    for (char **a = s->argv; a && *a; a++)
        buf_printf(&line, "%s%s", a == s->argv ? "" : " ", *a);
    table_uint(t, s->id);
    table_cell(t, s->start_ns ? text_time(s->start_ns, when) : "?");
    table_uint(t, s->events);
    table_cell(t, !s->end_ns && session_running(s) ? "yes" : "");
    table_cell(t, line.len ? buf_cstr(&line) : s->command);
    buf_free(&line);
}

bool help_home(FILE *to)
{
    static const struct table_column columns[] = {
        {"ID", 0, 0, false},      {"STARTED", 2, 0, false},       {"EVENTS", 3, 0, false},
        {"RUNNING", 4, 0, false}, {"COMMAND LINE", 1, 24, false},
    };
    struct session *all = NULL;
    size_t count = 0;
    struct table *t;

    if (session_list(&all, &count) < 0 || !count) {
        free(all);
        return false;
    }
    fprintf(to, "The last sessions:\n");
    t = table_new(columns, sizeof(columns) / sizeof(*columns));
    for (size_t i = count > SHOWN ? count - SHOWN : 0; i < count; i++)
        add_row(t, &all[i]);
    table_print(t, to);
    fprintf(to, "\nWhat to do next, with the last one (another one: -i ID):\n"
                "  scope report             files, network and processes summed up\n"
                "  scope report --touched   files, secrets, programs and hosts that it touched\n"
                "  scope report --html FILE all of it as a page for a browser\n"
                "  scope events             what it did, in order\n"
                "  scope metrics            in numbers\n"
                "  scope dash               what is being recorded, live\n"
                "\n"
                "  scope PROGRAM            observe another program\n"
                "  scope help examples      ten tasks, and the commands for them\n"
                "  scope help               all commands\n");
    for (size_t i = 0; i < count; i++)
        session_clear(&all[i]);
    free(all);
    return true;
}
