/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/eval.h"

#include <malloc.h>
#include <mujs.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "cli/cli.h"

#define DEPTH_MAX 32  /* of nested data; MuJS has a stack of 256 values */
#define SECONDS_MAX 2 /* of CPU time, for one event; an expression takes microseconds */
#define BYTES_MAX ((size_t)256 << 20)

struct eval {
    js_State *js;
    char *error;
    size_t bytes; /* allocated */
    bool refused; /* more than it may have */
};

/* MuJS's js_Alloc; what it is refused it throws as an error. */
static void *allocate(void *ctx, void *p, int size)
{
    struct eval *e = ctx;
    size_t had = p ? malloc_usable_size(p) : 0;
    void *q;

    if (size == 0) {
        free(p);
        e->bytes -= had;
        return NULL;
    }
    if (size < 0 || e->bytes - had + (size_t)size > BYTES_MAX) {
        e->refused = true;
        return NULL;
    }
    q = realloc(p, (size_t)size);
    if (q)
        e->bytes += malloc_usable_size(q) - had;
    return q;
}

/* MuJS can't be interrupted and go on, so the command ends. Runs inside of MuJS only, never inside of stdio. */
static void too_long(int sig)
{
    static const char text[] = "scope: --eval: the expression takes more than 2 s for one event\n";

    (void)sig;
    fflush(stdout); // NOLINT(bugprone-signal-handler): see above
    (void)!write(STDERR_FILENO, text, sizeof(text) - 1);
    _exit(EXIT_FAILED);
}

/* It would be the same with the next events, at seconds for each. */
static void end_if_refused(const struct eval *e)
{
    if (!e->refused)
        return;
    cli_error("--eval: the expression takes more than %zu MiB", BYTES_MAX >> 20);
    exit(EXIT_FAILED);
}

static void set_alarm(unsigned seconds)
{
    const struct itimerval t = {.it_value = {.tv_sec = seconds}};

    setitimer(ITIMER_PROF, &t, NULL);
}

static void silent(js_State *js, const char *message)
{
    (void)js;
    (void)message;
}

static char *exception_text(js_State *js)
{
    /* The value may be an object whose toString throws: that must not leave this function. */
    return xstrdup(js_trystring(js, -1, "error"));
}

/* Whether a syntax error is behind the expression: in what eval_new() puts around it. */
static bool is_behind(const char *error, unsigned lines)
{
    static const char name[] = "SyntaxError: expression:";

    return strncmp(error, name, strlen(name)) == 0 && strtoul(error + strlen(name), NULL, 10) > lines;
}

/* Of the errors of both rounds the one that concerns what the user wrote. Frees them, NULL: there was none. */
static char *user_error(char *const errors[2], const char *expression)
{
    unsigned lines = 1;
    char *ret = NULL;

    for (const char *p = expression; *p; p++)
        lines += *p == '\n';
    for (int i = 0; i < 2 && !ret; i++)
        if (errors[i] && !is_behind(errors[i], lines))
            ret = xstrdup(errors[i]);
    if (!ret)
        ret = xasprintf("SyntaxError: expression:%u: the expression ends too early", lines);
    free(errors[0]);
    free(errors[1]);
    return ret;
}

struct eval *eval_new(const char *expression, char **ret_error)
{
    char *errors[2] = {NULL};
    struct eval *e = xcalloc(1, sizeof(*e));
    struct buf source = BUF_INIT;

    e->js = js_newstate(allocate, e, 0);
    if (!e->js) {
        free(e);
        *ret_error = xstrdup("out of memory");
        return NULL;
    }
    js_setreport(e->js, silent);
    signal(SIGPROF, too_long);
    set_alarm(SECONDS_MAX);
    /* In brackets first: "1) || (2" would be fine in parentheses, but is no expression. The newline ends a comment;
     * before the expression there is none, so that its lines are counted as they are. */
    for (int round = 0; round < 2; round++) {
        buf_reset(&source);
        buf_printf(&source, round ? "(%s\n)" : "[%s\n]", expression);
        if (js_ploadstring(e->js, "expression", buf_cstr(&source))) {
            errors[round] = exception_text(e->js);
            js_pop(e->js, 1);
        } else if (!round) {
            js_pop(e->js, 1);
        }
    }
    set_alarm(0);
    buf_free(&source);
    if (errors[0] || errors[1]) {
        end_if_refused(e);
        *ret_error = user_error(errors, expression);
        eval_free(e);
        return NULL;
    }
    js_setregistry(e->js, "expression");
    return e;
}

static void push_value(js_State *js, const json_t *v, unsigned depth)
{
    const char *key;
    json_t *member;
    size_t i;

    if (depth > DEPTH_MAX) {
        js_pushundefined(js);
        return;
    }
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        js_newobject(js);
        json_object_foreach((json_t *)v, key, member)
        {
            push_value(js, member, depth + 1);
            js_defproperty(js, -2, key, 0);
        }
        break;
    case JSON_ARRAY:
        js_newarray(js);
        json_array_foreach((json_t *)v, i, member)
        {
            push_value(js, member, depth + 1);
            js_setindex(js, -2, (int)i);
        }
        break;
    case JSON_STRING:
        js_pushlstring(js, json_string_value(v), (int)json_string_length(v));
        break;
    case JSON_INTEGER:
        js_pushnumber(js, (double)json_integer_value(v));
        break;
    case JSON_REAL:
        js_pushnumber(js, json_real_value(v));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        js_pushboolean(js, json_is_true(v));
        break;
    case JSON_NULL:
        js_pushnull(js);
        break;
    }
}

int eval_match(struct eval *e, json_t *globals)
{
    js_State *js = e->js;
    const char *key;
    json_t *member;
    volatile int result = -1; /* lives across longjmp */

    if (js_try(js)) { /* what the library itself throws, such as out of memory */
        set_alarm(0);
        end_if_refused(e);
        if (!e->error)
            e->error = exception_text(js);
        js_pop(js, 1);
        return -1;
    }
    json_object_foreach(globals, key, member)
    {
        push_value(js, member, 0);
        js_setglobal(js, key);
    }
    js_getregistry(js, "expression");
    js_pushundefined(js);
    set_alarm(SECONDS_MAX);
    if (js_pcall(js, 0)) {
        end_if_refused(e);
        if (!e->error)
            e->error = exception_text(js);
    } else {
        result = js_toboolean(js, -1) ? 1 : 0;
    }
    set_alarm(0);
    js_pop(js, 1);
    js_endtry(js);
    return result;
}

const char *eval_error(const struct eval *e)
{
    return e->error;
}

void eval_free(struct eval *e)
{
    if (!e)
        return;
    js_freestate(e->js);
    free(e->error);
    free(e);
}
