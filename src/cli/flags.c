/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/flags.h"

#include <stdlib.h>

#include "base/buf.h"

json_t *flags_text(const char *text)
{
    struct buf b = BUF_INIT;
    json_t *s;

    for (; *text; text++) {
        if (*text == '$')
            buf_char(&b, '\\');
        buf_char(&b, *text);
    }
    s = json_string(buf_cstr(&b));
    buf_free(&b);
    return s ? s : json_string("");
}

json_t *flags_transport(const struct cfg_transport *t)
{
    static const char *const types[] = {"udp", "tcp", "unix", "file", "edge", "journal", "prometheus"};
    json_t *o = json_pack("{s:s}", "type", types[t->type]);

    if (t->host)
        json_object_set_new(o, "host", flags_text(t->host));
    if (t->port)
        json_object_set_new(o, "port", json_integer(strtol(t->port, NULL, 10)));
    if (t->path && t->type != CFG_EDGE)
        json_object_set_new(o, "path", flags_text(t->path));
    if (t->tls.enable)
        json_object_set_new(o, "tls", json_pack("{s:b}", "enable", 1));
    return o;
}

json_t *flags_format(const struct config *c)
{
    return json_pack("{s:s, s:o}", "type", c->metric.format == CFG_NDJSON ? "ndjson" : "statsd", "statsdprefix",
                     flags_text(c->metric.statsdprefix));
}
