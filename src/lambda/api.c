/* SPDX-License-Identifier: Apache-2.0 */
#include "lambda/api.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "output/http_answer.h"
#include "wire/join.h"

#define PATH "/2020-01-01/extension/"
#define IDENTIFIER "Lambda-Extension-Identifier"
#define ANSWER_S 5 /* for a request whose answer doesn't wait for anything */

int lambda_api_init(struct lambda_api *a, const char *host)
{
    const char *colon = strrchr(host, ':');
    struct sockaddr_in *in = (struct sockaddr_in *)&a->address;
    char name[64] = "";
    unsigned long port = 0;
    char *end;

    *a = (struct lambda_api){.host = host, .address_len = sizeof(*in)};
    if (colon && (size_t)(colon - host) < sizeof(name) && isdigit((unsigned char)colon[1])) {
        memcpy(name, host, (size_t)(colon - host));
        port = strtoul(colon + 1, &end, 10);
        if (*end || port > 65535)
            port = 0;
    }
    *in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (strcmp(name, "localhost") == 0)
        in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else if (inet_pton(AF_INET, name, &in->sin_addr) != 1)
        port = 0;
    return port ? 0 : -EINVAL;
}

int lambda_socket(const char *host, char ret[LAMBDA_SOCKET_MAX])
{
    int n = snprintf(ret, LAMBDA_SOCKET_MAX, JOIN_SOCKET "lambda-%s", host);

    if (!*host || n < 0 || (unsigned)n >= LAMBDA_SOCKET_MAX)
        return -EINVAL;
    for (char *p = ret; *p; p++) /* the mark of a secret is a dot */
        if (!isalnum((unsigned char)*p))
            *p = '-';
    return 0;
}

static int failed(struct lambda_api *a, int rc, const char *what, const char *why)
{
    snprintf(a->why, sizeof(a->why), "%s: %s", what, why);
    return rc;
}

static int send_all(int fd, const char *p, size_t len)
{
    while (len) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

static int receive(int fd, struct http_answer *answer)
{
    char bytes[4096];
    size_t used;
    int rc = 0;

    while (rc == 0) {
        ssize_t n = recv(fd, bytes, sizeof(bytes), 0);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? -ETIMEDOUT : -errno;
        rc = n ? http_answer_feed(answer, bytes, (size_t)n, &used) : http_answer_end(answer);
    }
    return rc < 0 ? rc : 0;
}

/* One request and its answer. wait_s: 0: as long as it takes. 0, or -errno with why. */
static int request(struct lambda_api *a, const char *what, struct buf *text, unsigned wait_s,
                   struct http_answer *answer)
{
    struct timeval wait = {.tv_sec = wait_s}, soon = {.tv_sec = ANSWER_S};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), rc = fd < 0 ? -errno : 0;

    http_answer_init(answer);
    if (rc == 0 && (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof(soon)) ||
                    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) ||
                    connect(fd, (const struct sockaddr *)&a->address, a->address_len)))
        rc = -errno;
    if (rc == 0)
        rc = send_all(fd, text->p, text->len);
    if (rc == 0)
        rc = receive(fd, answer);
    if (fd >= 0)
        close(fd);
    buf_free(text);
    if (rc < 0)
        return failed(a, rc, what, rc == -EPROTO ? answer->problem : strerror(-rc));
    if (answer->status / 100 == 2)
        return 0;
    snprintf(a->why, sizeof(a->why), "%s: answered with %d %s", what, answer->status, answer->reason);
    return -EPROTO;
}

static void begin(struct buf *b, const struct lambda_api *a, const char *method, const char *path, size_t body)
{
    buf_printf(b, "%s " PATH "%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", method, path, a->host);
    if (body)
        buf_printf(b, "Content-Type: application/json\r\nContent-Length: %zu\r\n", body);
}

int lambda_register(struct lambda_api *a, const char *name)
{
    static const char body[] = "{\"events\":[\"INVOKE\",\"SHUTDOWN\"]}";
    struct http_answer answer = {.want = IDENTIFIER};
    struct buf b = BUF_INIT;
    int rc;

    begin(&b, a, "POST", "register", sizeof(body) - 1);
    buf_printf(&b, "Lambda-Extension-Name: %s\r\n\r\n%s", name, body);
    rc = request(a, "extension/register", &b, ANSWER_S, &answer);
    if (rc == 0) {
        memcpy(a->id, answer.wanted, sizeof(a->id));
        if (!*a->id)
            rc = failed(a, -EPROTO, "extension/register", "its answer has no " IDENTIFIER);
    }
    http_answer_free(&answer);
    return rc;
}

static void copy_text(char *to, size_t size, const json_t *from)
{
    snprintf(to, size, "%s", json_is_string(from) ? json_string_value(from) : "");
}

int lambda_next(struct lambda_api *a, struct lambda_event *ret)
{
    struct http_answer answer = {0};
    struct buf b = BUF_INIT;
    json_t *event = NULL;
    const char *type;
    int rc;

    begin(&b, a, "GET", "event/next", 0);
    buf_printf(&b, IDENTIFIER ": %s\r\n\r\n", a->id);
    rc = request(a, "extension/event/next", &b, 0, &answer);
    *ret = (struct lambda_event){0};
    if (rc == 0) {
        event = json_loadb(answer.body.p, answer.body.len, 0, NULL);
        type = json_string_value(json_object_get(event, "eventType"));
        if (!type)
            rc = failed(a, -EPROTO, "extension/event/next", "its answer is no event");
    }
    if (rc == 0) {
        ret->shutdown = strcmp(type, "SHUTDOWN") == 0;
        ret->deadline_ms = json_integer_value(json_object_get(event, "deadlineMs"));
        copy_text(ret->reason, sizeof(ret->reason), json_object_get(event, "shutdownReason"));
        copy_text(ret->request_id, sizeof(ret->request_id), json_object_get(event, "requestId"));
    }
    json_decref(event);
    http_answer_free(&answer);
    return rc;
}

int lambda_exit_error(struct lambda_api *a, const char *type)
{
    char why[sizeof(a->why)];
    struct http_answer answer = {0};
    struct buf b = BUF_INIT, body = BUF_INIT;
    int rc;

    memcpy(why, a->why, sizeof(why));
    buf_str(&body, "{\"errorMessage\":");
    buf_json_str(&body, why);
    buf_printf(&body, ",\"errorType\":\"%s\",\"stackTrace\":[]}", type);
    begin(&b, a, "POST", "exit/error", body.len);
    buf_printf(&b, IDENTIFIER ": %s\r\nLambda-Extension-Function-Error-Type: %s\r\n\r\n", a->id, type);
    buf_add(&b, body.p, body.len);
    buf_free(&body);
    rc = request(a, "extension/exit/error", &b, ANSWER_S, &answer);
    http_answer_free(&answer);
    return rc;
}
