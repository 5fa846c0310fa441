/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The runtime API of AWS Lambda, as an observed runtime uses it
 * (https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html): what it asks
 * tells when an invocation is over. Whoever wants to know gets packets over a
 * SOCK_SEQPACKET socket: enum runtime_news, and the id of the invocation behind
 * RUNTIME_DONE. They are sent behind all that was recorded before.
 */
#ifndef SCOPE_TRAFFIC_RUNTIME_API_H
#define SCOPE_TRAFFIC_RUNTIME_API_H

#include <sys/types.h>

#include "protocol/http.h"

struct proc;

enum runtime_news {
    RUNTIME_ASKS = 'n',  /* for the next invocation, which it waits for from now on */
    RUNTIME_DONE = 'd',  /* it has answered an invocation, or told its error */
    RUNTIME_ENDED = 'e', /* the process that spoke last has ended */
};

#define RUNTIME_ID_MAX 64u /* bytes of an invocation's id that are told; it is a UUID */

struct runtime_api {
    const char *host;            /* AWS_LAMBDA_RUNTIME_API, "127.0.0.1:9001" */
    int fd;                      /* non-blocking; what it doesn't take is lost */
    char id[RUNTIME_ID_MAX + 1]; /* of the invocation that the environment is busy with; "": there is none, or it isn't
                                  * known */
    pid_t pid;                   /* which process has asked for an invocation last, as this one sees it; 0: none has */
};

/* The head of a request that the process has sent or got: anything else than the API's is passed over. */
void runtime_api_request(struct runtime_api *r, struct proc *p, const struct http_head *head);
/* The head of the response to a request that was sent for this target: an invocation comes with its id. */
void runtime_api_response(struct runtime_api *r, struct slice target, const struct http_head *head);
/* It has ended, and everything that it recorded was looked at. */
void runtime_api_ended(struct runtime_api *r, const struct proc *p);

#endif
