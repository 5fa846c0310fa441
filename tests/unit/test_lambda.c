/* SPDX-License-Identifier: Apache-2.0 */
/* The Extensions API as its server may answer, and what is read from a runtime's requests. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "lambda/api.h"
#include "model/process.h"
#include "traffic/runtime_api.h"

/* --- the Extensions API --- */

static void addresses(void **state)
{
    static const char *const bad[] = {"",
                                      ":",
                                      "127.0.0.1",
                                      "127.0.0.1:",
                                      "127.0.0.1:0",
                                      "127.0.0.1:65536",
                                      "127.0.0.1:80x",
                                      "example.org:80",
                                      "127.0.0.1:-1",
                                      "1.2.3.4.5.6.7.8.9.10.11.12.13.14.15.16.17.18.19.20.21.22.23.24:1"};
    struct lambda_api a;
    char name[LAMBDA_SOCKET_MAX], longest[200];

    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        assert_int_equal(lambda_api_init(&a, bad[i]), -EINVAL);
    assert_int_equal(lambda_api_init(&a, "169.254.100.1:9001"), 0);
    assert_int_equal(ntohs(((struct sockaddr_in *)&a.address)->sin_port), 9001);
    assert_int_equal(lambda_api_init(&a, "localhost:9001"), 0);
    assert_int_equal(lambda_socket("127.0.0.1:9001", name), 0);
    assert_string_equal(name, "scope-lambda-127-0-0-1-9001");
    assert_int_equal(lambda_socket("", name), -EINVAL);
    memset(longest, '1', sizeof(longest));
    longest[sizeof(longest) - 1] = 0;
    assert_int_equal(lambda_socket(longest, name), -EINVAL);
}

/* A server that gives this answer to the next request, in a child: its address. */
static char *serve(const char *answer, pid_t *ret)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char request[4096];

    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    *ret = fork();
    if (*ret == 0) {
        int to = accept(fd, NULL, NULL);

        if (read(to, request, sizeof(request)) > 0 && write(to, answer, strlen(answer)) >= 0)
            _exit(0);
        _exit(1);
    }
    close(fd);
    return xasprintf("127.0.0.1:%d", ntohs(at.sin_port));
}

#define EVENT(text) "HTTP/1.1 200 OK\r\nContent-Length: " text

static int next(const char *answer, struct lambda_event *event)
{
    struct lambda_api a;
    pid_t pid;
    char *host = serve(answer, &pid);
    int rc;

    assert_int_equal(lambda_api_init(&a, host), 0);
    rc = lambda_next(&a, event);
    assert_true(rc == 0 || *a.why);
    waitpid(pid, NULL, 0);
    free(host);
    return rc;
}

static void events(void **state)
{
    struct lambda_event e;

    assert_int_equal(next(EVENT("59\r\n\r\n{\"eventType\":\"INVOKE\",\"deadlineMs\":1234,\"requestId\":\"ab-1\"}"), &e),
                     0);
    assert_false(e.shutdown);
    assert_int_equal(e.deadline_ms, 1234);
    assert_string_equal(e.request_id, "ab-1");
    assert_int_equal(next("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                          "3c\r\n{\"eventType\":\"SHUTDOWN\",\"shutdownReason\":\"spindown\",\"x\":[1]}\r\n0\r\n\r\n",
                          &e),
                     0);
    assert_true(e.shutdown);
    assert_string_equal(e.reason, "spindown");
    assert_int_equal(e.deadline_ms, 0);
}

static void bad_events(void **state)
{
    static const char *const bad[] = {"",
                                      "x\r\n\r\n",
                                      "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
                                      EVENT("0\r\n\r\n"),
                                      EVENT("2\r\n\r\n{}"),
                                      EVENT("4\r\n\r\n{\"a\""),
                                      EVENT("99\r\n\r\n{}"),
                                      EVENT("18\r\n\r\n{\"eventType\":[1,2]}"),
                                      EVENT("9999999\r\n\r\n{}")};
    struct lambda_event e;

    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        assert_true(next(bad[i], &e) < 0);
}

static void registration(void **state)
{
    static const struct {
        const char *answer;
        int rc;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\nlambda-extension-identifier: 0123-4567\r\nContent-Length: 2\r\n\r\n{}", 0},
        {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", -EPROTO},
        {"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", -EPROTO},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct lambda_api a;
        pid_t pid;
        char *host = serve(cases[i].answer, &pid);

        assert_int_equal(lambda_api_init(&a, host), 0);
        assert_int_equal(lambda_register(&a, "appscope"), cases[i].rc);
        assert_string_equal(a.id, cases[i].rc ? "" : "0123-4567");
        waitpid(pid, NULL, 0);
        free(host);
    }
}

/* --- what a runtime asks --- */

static struct slice slice(const char *text)
{
    return (struct slice){text, strlen(text)};
}

static const char *told(int fd)
{
    static char text[256];
    ssize_t n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);

    text[n > 0 ? n : 0] = 0;
    return text;
}

static void requests(void **state)
{
    static const struct {
        const char *host, *target, *news;
        enum proto_dir dir;
    } cases[] = {
        {"127.0.0.1:9001", "/2018-06-01/runtime/invocation/next", "n", PROTO_TX},
        {"", "/2018-06-01/runtime/invocation/next", "n", PROTO_TX},
        {"127.0.0.1:9001", "/2018-06-01/runtime/invocation/ab-1/response", "dab-1", PROTO_TX},
        {"127.0.0.1:9001", "/2018-06-01/runtime/invocation/ab-1/error", "dab-1", PROTO_TX},
        {"127.0.0.1:9001", "/2018-06-01/runtime/invocation/next", "", PROTO_RX},
        {"example.org", "/2018-06-01/runtime/invocation/next", "", PROTO_TX},
        {"127.0.0.1:9001", "/2018-06-01/runtime/invocation/", "", PROTO_TX},
        {"127.0.0.1:9001", "/2018-06-01/runtime/invocation/nextt", "", PROTO_TX},
        {"127.0.0.1:9001", "/2018-06-01/runtime/invocation/ab-1/other", "", PROTO_TX},
        {"127.0.0.1:9001", "/2018-06-01/runtime/init/error", "", PROTO_TX},
        {"127.0.0.1:9001", "/", "", PROTO_TX},
    };
    struct http_field id = {slice("Lambda-Runtime-Aws-Request-Id"), slice("ab-1")};
    struct runtime_api r = {.host = "127.0.0.1:9001"};
    struct proc *p = xcalloc(1, sizeof(*p));
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair), 0);
    r.fd = pair[1];
    p->host_pid = 7;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        runtime_api_request(
            &r, p,
            &(struct http_head){
                .dir = cases[i].dir, .major = 1, .target = slice(cases[i].target), .host = slice(cases[i].host)});
        assert_string_equal(told(pair[0]), cases[i].news);
    }
    runtime_api_response(&r, slice("/2018-06-01/runtime/invocation/next"),
                         &(struct http_head){.fields = &id, .field_count = 1});
    assert_string_equal(r.id, "ab-1");
    runtime_api_response(&r, slice("/other"),
                         &(struct http_head){.fields = &(struct http_field){id.name, slice("x")}, .field_count = 1});
    assert_string_equal(r.id, "ab-1");
    p->host_pid = 8;
    runtime_api_ended(&r, p);
    assert_string_equal(told(pair[0]), "");
    p->host_pid = 7;
    runtime_api_ended(&r, p);
    assert_string_equal(told(pair[0]), "e");
    free(p);
    close(pair[0]);
    close(pair[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(addresses), cmocka_unit_test(events),
                                       cmocka_unit_test(bad_events), cmocka_unit_test(registration),
                                       cmocka_unit_test(requests)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
