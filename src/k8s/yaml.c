/* SPDX-License-Identifier: Apache-2.0 */
#include "k8s/yaml.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

/* Only what nobody could read as anything but a text: a letter or a slash first, and no word of YAML 1.1's booleans. */
static bool plain(const char *s)
{
    static const char *const words[] = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"};

    if (!isalpha((unsigned char)*s) && *s != '/')
        return false;
    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
        if (strcasecmp(s, words[i]) == 0)
            return false;
    return s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./")] == '\0';
}

/* Whether it can stand behind |: lines of printable characters, the last one ended, the first not indented. */
static bool is_block(const char *s)
{
    size_t len = strlen(s);

    if (!strchr(s, '\n') || s[len - 1] != '\n' || (len > 1 && s[len - 2] == '\n') || isspace((unsigned char)*s))
        return false;
    for (; *s; s++)
        if ((unsigned char)*s < ' ' && *s != '\n')
            return false;
    return true;
}

static void indent(struct buf *b, unsigned depth)
{
    for (unsigned i = 0; i < depth; i++)
        buf_str(b, "  ");
}

static void put_text(struct buf *b, const char *s, unsigned depth)
{
    if (is_block(s)) {
        buf_str(b, "|\n");
        for (size_t n; *s; s += n + 1) {
            n = strcspn(s, "\n");
            if (n)
                indent(b, depth);
            buf_add(b, s, n);
            buf_char(b, '\n');
        }
        return;
    }
    plain(s) ? buf_str(b, s) : buf_json_str(b, s);
    buf_char(b, '\n');
}

static void put(struct buf *b, const json_t *v, unsigned depth, bool started);

/* Behind "name:" or "-". */
static void put_value(struct buf *b, const json_t *v, unsigned depth, bool in_list)
{
    bool map = json_is_object(v) && json_object_size(v), list = json_is_array(v) && json_array_size(v);

    if (map && in_list) {
        buf_char(b, ' ');
        put(b, v, depth, true);
    } else if (map || list) {
        buf_char(b, '\n');
        put(b, v, depth, false);
    } else {
        buf_char(b, ' ');
        if (json_is_string(v))
            put_text(b, json_string_value(v), depth);
        else if (json_is_integer(v))
            buf_printf(b, "%lld\n", (long long)json_integer_value(v));
        else
            buf_str(b, json_is_true(v)    ? "true\n"
                       : json_is_false(v) ? "false\n"
                       : json_is_array(v) ? "[]\n"
                       : json_is_null(v)  ? "null\n"
                                          : "{}\n");
    }
}

/* started: the first line has its indentation already. */
static void put(struct buf *b, const json_t *v, unsigned depth, bool started)
{
    const char *key;
    json_t *item;
    size_t i;

    if (json_is_array(v)) {
        json_array_foreach(v, i, item)
        {
            indent(b, depth);
            buf_char(b, '-');
            put_value(b, item, depth + 1, true);
        }
        return;
    }
    json_object_foreach((json_t *)v, key, item)
    {
        if (!started)
            indent(b, depth);
        started = false;
        plain(key) ? buf_str(b, key) : buf_json_str(b, key);
        buf_char(b, ':');
        put_value(b, item, depth + 1, false);
    }
}

void yaml_put(struct buf *b, const json_t *value)
{
    put(b, value, 0, false);
}
