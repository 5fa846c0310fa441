/* SPDX-License-Identifier: Apache-2.0 */
#include "traffic/runtime_api.h"

#include <string.h>
#include <sys/socket.h>

#include "model/process.h"
#include "protocol/http_name.h"

#define INVOCATION "/2018-06-01/runtime/invocation/"
#define NEXT "next"
#define REQUEST_ID "lambda-runtime-aws-request-id"

static void tell(const struct runtime_api *r, enum runtime_news news, struct slice id)
{
    char text[1 + RUNTIME_ID_MAX];
    size_t len = id.len < RUNTIME_ID_MAX ? id.len : RUNTIME_ID_MAX;

    text[0] = (char)news;
    if (len)
        memcpy(text + 1, id.p, len);
    send(r->fd, text, 1 + len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static bool is(struct slice s, const char *text)
{
    return s.len == strlen(text) && !memcmp(s.p, text, s.len);
}

/* Clients that name no host are believed. */
static bool is_for(const struct runtime_api *r, const struct http_head *head)
{
    return head->dir == PROTO_TX && head->major == 1 && (!head->host.len || is(head->host, r->host)) &&
           head->target.len > strlen(INVOCATION) && !memcmp(head->target.p, INVOCATION, strlen(INVOCATION));
}

void runtime_api_request(struct runtime_api *r, struct proc *p, const struct http_head *head)
{
    struct slice rest, id;
    const char *slash;

    if (!is_for(r, head))
        return;
    rest = (struct slice){head->target.p + strlen(INVOCATION), head->target.len - strlen(INVOCATION)};
    if (is(rest, NEXT)) {
        r->pid = p->host_pid;
        r->id[0] = '\0';
        tell(r, RUNTIME_ASKS, (struct slice){0});
        return;
    }
    slash = memchr(rest.p, '/', rest.len);
    if (!slash)
        return;
    id = (struct slice){rest.p, (size_t)(slash - rest.p)};
    rest = (struct slice){slash + 1, rest.len - id.len - 1};
    if (is(rest, "response") || is(rest, "error"))
        tell(r, RUNTIME_DONE, id);
}

void runtime_api_response(struct runtime_api *r, struct slice target, const struct http_head *head)
{
    if (!is(target, INVOCATION NEXT))
        return;
    for (size_t i = 0; i < head->field_count; i++) {
        const struct http_field *f = &head->fields[i];

        if (http_name_is(f->name, REQUEST_ID) && f->value.len <= RUNTIME_ID_MAX) {
            memcpy(r->id, f->value.p, f->value.len);
            r->id[f->value.len] = '\0';
        }
    }
}

void runtime_api_ended(struct runtime_api *r, const struct proc *p)
{
    if (!r->pid || p->host_pid != r->pid)
        return;
    r->pid = 0;
    tell(r, RUNTIME_ENDED, (struct slice){0});
}
