/* SPDX-License-Identifier: Apache-2.0 */
/* Samples of metrics. */
#include "cli/cli.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/records.h"

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void number_text(char text[40], const json_t *value)
{
    if (json_is_integer(value))
        snprintf(text, 40, "%lld", (long long)json_integer_value(value));
    else
        snprintf(text, 40, "%.15g", json_number_value(value));
}

/* Fills a sample from {"type":"metric","body":{...}}. */
static bool from_json(struct sample *s, json_t *o)
{
    json_t *body = json_object_get(o, "body"), *value = json_object_get(body, "_value"), *v;
    const char **names, *key;
    size_t n = 0;

    s->name = json_string_value(json_object_get(body, "_metric"));
    s->type = json_string_value(json_object_get(body, "_metric_type"));
    if (!s->name || !(json_is_number(value) || json_is_string(value)))
        return false;
    if (json_is_string(value)) { /* of a set */
        s->value = NAN;
        snprintf(s->text, sizeof(s->text), "%.*s", (int)sizeof(s->text) - 1, json_string_value(value));
    } else {
        s->value = json_number_value(value);
        number_text(s->text, value);
    }
    s->unit = json_string_value(json_object_get(body, "unit"));
    s->time = json_number_value(json_object_get(body, "_time"));
    v = json_object_get(body, "pid");
    s->pid = json_is_string(v) ? strtoll(json_string_value(v), NULL, 10) : json_integer_value(v);
    names = xcalloc(json_object_size(body), sizeof(*names));
    json_object_foreach(body, key, v)
    {
        if (*key != '_' && strcmp(key, "unit") != 0 && strcmp(key, "pid") != 0)
            names[n++] = key;
    }
    qsort(names, n, sizeof(*names), compare_names);
    for (size_t i = 0; i < n; i++) {
        v = json_object_get(body, names[i]);
        if (i)
            buf_char(&s->tags, ' ');
        buf_printf(&s->tags, "%s: ", names[i]);
        if (json_is_string(v)) {
            buf_add(&s->tags, json_string_value(v), json_string_length(v));
        } else {
            char text[40] = "";

            if (json_is_number(v))
                number_text(text, v);
            buf_str(&s->tags, text);
        }
        buf_char(&s->tags, ',');
    }
    if (n)
        s->tags.len--; /* the last comma */
    buf_cstr(&s->tags);
    free(names);
    return true;
}

/* NAME:VALUE|TYPE[|#TAG:VALUE,...] to the object that ndjson would have held. */
json_t *cli_statsd(char *line)
{
    static const char *const types[][2] = {
        {"c", "counter"}, {"g", "gauge"}, {"ms", "timer"}, {"h", "histogram"}, {"s", "set"}};
    char *value = strchr(line, ':'), *type = value ? strchr(value, '|') : NULL, *tags, *end;
    json_t *o, *body;
    double number;

    if (!type)
        return NULL;
    *value++ = '\0';
    *type++ = '\0';
    tags = strstr(type, "|#");
    if (tags) {
        *tags = '\0';
        tags += 2;
    }
    type[strcspn(type, "|")] = '\0'; /* a sample rate */
    number = strtod(value, &end);
    if (end == value || *end || *line == '\0')
        return NULL;
    o = json_object();
    body = json_object();
    json_object_set_new(o, "type", json_string("metric"));
    json_object_set_new(o, "body", body);
    json_object_set_new(body, "_metric", json_string(line));
    for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++)
        if (strcmp(type, types[i][0]) == 0)
            json_object_set_new(body, "_metric_type", json_string(types[i][1]));
    json_object_set_new(body, "_value",
                        strpbrk(value, ".eE") ? json_real(number) : json_integer(strtoll(value, NULL, 10)));
    for (char *tag = tags, *next; tag; tag = next) {
        char *colon;

        next = strchr(tag, ',');
        if (next)
            *next++ = '\0';
        colon = strchr(tag, ':');
        if (!colon)
            continue;
        *colon++ = '\0';
        if (strcmp(tag, "pid") == 0 && *colon)
            json_object_set_new(body, tag, json_integer(strtoll(colon, NULL, 10)));
        else
            json_object_set_new(body, tag, json_string(colon)); /* NULL for invalid UTF-8: left out */
    }
    return o;
}

int sample_next(struct records *r, struct sample *s)
{
    int rc;

    while ((rc = records_next(r)) == 1) {
        json_t *o = records_json(r);

        if (!o)
            continue;
        *s = (struct sample){.json = json_incref(o)};
        if (from_json(s, o))
            return 1;
        sample_clear(s);
        records_spoilt(r);
    }
    return rc;
}

void sample_clear(struct sample *s)
{
    json_decref(s->json);
    buf_free(&s->tags);
}
