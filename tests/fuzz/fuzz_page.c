/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arbitrary bytes as a session that is shown as a page: a line is an event or a metric, as JSON; the first one is the
 * program's command line. Besides not crashing: the page has the scripts that it ought to have and no other, no
 * character that a browser wouldn't show, and data that are JSON.
 */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "page/page.h"
#include "session/session.h"
#include "summary/overview.h"
#include "summary/touched.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NS UINT64_C(1000000000)

static size_t count(const char *text, const char *what)
{
    size_t n = 0;

    for (; (text = strstr(text, what)); text++)
        n++;
    return n;
}

static void check(char *text)
{
    char *begin = strstr(text, "<script type=\"application/json\" id=\"data\">"),
         *end = begin ? strstr(begin, "</script>") : NULL;
    char *body = strstr(text, "<body>");
    json_t *json;

    if (!begin || !end || !body || body > begin)
        abort();
    *end = '\0';
    json = json_loads(strchr(begin, '>') + 1, 0, NULL);
    if (!json)
        abort();
    json_decref(json);
    *begin = '\0';
    /* What stands before are texts and tables. */
    if (count(body, "<script") || count(body, "<img") || count(body, "<svg"))
        abort();
    for (const char *p = body; *p; p++)
        if ((unsigned char)*p < ' ' && *p != '\n')
            abort();
    if (strstr(body, "\u202e") || strstr(body, "\u2066") || strstr(body, "\u2028") || strstr(begin + 1, "\u202e"))
        abort();
    if (count(end + 1, "<script>") != 2)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = xstrndup((const char *)data, size), *line = text, *rest = text;
    struct session s = {.id = 1, .command = text, .cwd = text, .exit_code = -1};
    struct overview *o = overview_new(1700000000 * NS, 1700000010 * NS);
    struct touched *t = touched_new("/tmp", "default", "/root");
    struct page page = {.session = &s, .overview = o, .touched = t, .now_ns = 1700000020 * NS};
    struct buf out = BUF_INIT;

    strsep(&rest, "\n");
    s.argv = (char *[]){text, NULL};
    while ((line = strsep(&rest, "\n"))) {
        json_t *object = json_loads(line, 0, NULL);
        struct sum_event e;

        if (object && sum_event_of_json(&e, object)) {
            overview_event(o, &e);
            touched_event(t, &e);
        }
        overview_metric(o, object);
        json_decref(object);
    }
    overview_finish(o);
    touched_end(t, 0);
    page_write(&out, &page);
    check(buf_cstr(&out));
    buf_free(&out);
    overview_free(o);
    touched_free(t);
    free(text);
    return 0;
}
