/* SPDX-License-Identifier: Apache-2.0 */
/* Which service of OpenTelemetry a process is: by its own environment, or by that of who observes it. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "collector/core.h"
#include "collector/identify.h"
#include "collector/segment.h"
#include "collector/state.h"

#define NOBODY 4100000u /* no such process: above the kernel's usual pid_max, below its limit */

static struct collector c;
static struct collector_options options;

static int setup(void **state)
{
    options = (struct collector_options){.config = config_sources_new(), .listen_fd = -1, .ready_fd = -1};
    core_init(&c, &options, NULL);
    return 0;
}

static int teardown(void **state)
{
    core_end(&c);
    core_free(&c);
    config_sources_free(options.config);
    return 0;
}

/* A program with that environment, which does nothing until it is killed. */
static pid_t begin(char *const env[])
{
    int gone[2];
    char byte;
    pid_t pid;

    assert_int_equal(pipe2(gone, O_CLOEXEC), 0);
    pid = fork();
    if (pid == 0) {
        execve("/bin/sleep", (char *[]){(char *)"sleep", (char *)"1000", NULL}, env);
        _exit(127);
    }
    assert_true(pid > 0);
    close(gone[1]);
    assert_int_equal(read(gone[0], &byte, 1), 0); /* it has been executed */
    close(gone[0]);
    return pid;
}

static void end(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void look(struct proc *p, pid_t pid)
{
    char none[] = "", argv[] = "sleep";
    const struct segment_info info = {.pid = (uint32_t)pid, .ppid = (uint32_t)getpid(), .exe = none, .cwd = none,
                                      .argv = argv, .argv_len = sizeof(argv)};

    free(identify(p, &info));
}

static void same(const char *got, const char *expected)
{
    if (!expected)
        assert_null(got);
    else
        assert_string_equal(got, expected);
}

static void test_service(void **state)
{
    static const struct {
        char *env[3];
        const char *outer_name, *outer_attributes; /* of the environment of who observes */
        const char *name, *attributes;
    } rows[] = {
        {{(char *)"OTEL_SERVICE_NAME=shop"}, "outer", "a=b", "shop", "a=b"},
        {{(char *)"OTEL_SERVICE_NAME=shop", (char *)"OTEL_RESOURCE_ATTRIBUTES=service.name=other,x=y"}, NULL, NULL, "shop",
         "service.name=other,x=y"},
        {{(char *)"OTEL_RESOURCE_ATTRIBUTES=service.name=sh%6Fp,x=y"}, "outer", NULL, "shop", "service.name=sh%6Fp,x=y"},
        {{(char *)"OTEL_RESOURCE_ATTRIBUTES=x=y"}, NULL, "service.name=outer", NULL, "x=y"},
        {{(char *)"OTEL_SERVICE_NAME="}, NULL, NULL, NULL, NULL},
        {{(char *)"A=b"}, "outer", "service.name=other", "outer", "service.name=other"},
        {{(char *)"A=b"}, NULL, "service.name=outer", "outer", "service.name=outer"},
        {{(char *)"A=b"}, NULL, NULL, NULL, NULL},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct proc *p;
        pid_t pid;

        unsetenv("OTEL_SERVICE_NAME");
        unsetenv("OTEL_RESOURCE_ATTRIBUTES");
        if (rows[i].outer_name)
            setenv("OTEL_SERVICE_NAME", rows[i].outer_name, 1);
        if (rows[i].outer_attributes)
            setenv("OTEL_RESOURCE_ATTRIBUTES", rows[i].outer_attributes, 1);
        pid = begin(rows[i].env);
        p = proc_new(&c.model, (uint32_t)pid, pid);
        look(p, pid);
        same(p->tm.service_name, rows[i].name);
        same(p->tm.resource_attributes, rows[i].attributes);
        end(pid);
    }
    unsetenv("OTEL_SERVICE_NAME");
    unsetenv("OTEL_RESOURCE_ATTRIBUTES");
}

/* Environments that nobody means are as if they weren't there. */
static void test_hostile(void **state)
{
    char *name = xmalloc(2048), *attributes = xmalloc(32768);
    char *env[] = {name, attributes, NULL};
    struct proc *p;
    pid_t pid;

    memset(name, 'x', 2047);
    memcpy(name, "OTEL_SERVICE_NAME=", 18);
    name[2047] = 0;
    memset(attributes, 'x', 32767);
    memcpy(attributes, "OTEL_RESOURCE_ATTRIBUTES=service.name=shop,a=", 45);
    attributes[32767] = 0;
    pid = begin(env);
    p = proc_new(&c.model, (uint32_t)pid, pid);
    look(p, pid);
    assert_null(p->tm.service_name);
    assert_null(p->tm.resource_attributes);
    end(pid);
    free(name);
    free(attributes);
}

/* A forked child is the same service; so is one that has ended before anybody could look. */
static void test_descent(void **state)
{
    char *env[] = {(char *)"OTEL_SERVICE_NAME=shop", (char *)"OTEL_RESOURCE_ATTRIBUTES=x=y", NULL};
    pid_t pid = begin(env);
    struct proc *p = proc_new(&c.model, (uint32_t)pid, pid), *child = proc_new(&c.model, NOBODY, 0), *late;

    look(p, pid);
    identify_child(child, p);
    assert_string_equal(child->tm.service_name, "shop");
    assert_ptr_not_equal(child->tm.service_name, p->tm.service_name);
    assert_string_equal(child->tm.resource_attributes, "x=y");
    end(pid);
    look(p, pid); /* its next image, too late */
    assert_string_equal(p->tm.service_name, "shop");
    late = proc_new(&c.model, NOBODY + 1, 0);
    proc_set_parent(late, p);
    look(late, (pid_t)NOBODY + 1);
    assert_string_equal(late->tm.service_name, "shop");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_service, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hostile, setup, teardown),
        cmocka_unit_test_setup_teardown(test_descent, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
