/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Extensions API of AWS Lambda, for an external extension
 * (https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html).
 * One request at a time, each on a connection of its own; what comes back is
 * bounded (output/http_answer.h).
 */
#ifndef SCOPE_LAMBDA_API_H
#define SCOPE_LAMBDA_API_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct lambda_api {
    const char *host; /* of the API, as AWS_LAMBDA_RUNTIME_API has it */
    struct sockaddr_storage address;
    socklen_t address_len;
    char id[128];  /* Lambda-Extension-Identifier, once registered */
    char why[160]; /* what was wrong with the last request, one line */
};

struct lambda_event {
    bool shutdown;       /* SHUTDOWN; else INVOKE */
    char reason[32];     /* of SHUTDOWN: "spindown", "timeout", "failure" */
    char request_id[65]; /* of INVOKE */
    int64_t deadline_ms; /* since 1970: when the function times out, or this process must have ended */
};

/* host: ADDRESS:PORT, where ADDRESS is numeric or localhost; must stay. 0 or -EINVAL. */
int lambda_api_init(struct lambda_api *a, const char *host);
/* name: file name of the extension. 0, or -errno with why. */
int lambda_register(struct lambda_api *a, const char *name);
/* Waits for the next event, however long that takes. While this waits the environment may be frozen. 0, or -errno with
 * why. */
int lambda_next(struct lambda_api *a, struct lambda_event *ret);
/* That this extension can't go on: it has to end then, and Lambda ends the environment. type: a short name of what
 * happened. */
int lambda_exit_error(struct lambda_api *a, const char *type);

/* The collector's abstract name in this environment, without the leading NUL, for $SCOPE_SOCKET: what extension and
 * runtime have in common is AWS_LAMBDA_RUNTIME_API. 0, or -EINVAL: there is no such host. */
#define LAMBDA_SOCKET_MAX 80u
int lambda_socket(const char *host, char ret[LAMBDA_SOCKET_MAX]);

#endif
