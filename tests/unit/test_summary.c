/* SPDX-License-Identifier: Apache-2.0 */
/* What a session touched: events out of order, numbers that are used again, namespaces, bounds, hostile texts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/buf.h"
#include "base/mem.h"
#include "summary/record.h"
#include "summary/touched.h"

static struct touched *make(void)
{
    return touched_new("/work", ".ssh,!.ssh/*.pub,*.key", "/home/ann");
}

/* An event, data as JSON without its braces. */
static void feed(struct touched *t, const char *type, const char *source, const char *proc, int pid, int host_pid,
                 double time, const char *data)
{
    char *text = xasprintf("{\"type\":\"evt\",\"_channel\":\"7\",\"body\":{\"sourcetype\":\"%s\",\"_time\":%.6f,"
                           "\"source\":\"%s\",\"proc\":\"%s\",\"cmd\":\"%s x\",\"pid\":%d,\"data\":{%s}}}",
                           type, time, source, proc, proc, pid, data);
    json_error_t error;
    json_t *o = json_loads(text, 0, &error);
    struct sum_event e;

    if (!o)
        fail_msg("%s: %s", error.text, text);
    if (host_pid)
        json_object_set_new(json_object_get(o, "body"), "hostPid", json_integer(host_pid));
    assert_true(sum_event_of_json(&e, o));
    touched_event(t, &e);
    json_decref(o);
    free(text);
}

static void starts(struct touched *t, const char *proc, int pid, int ppid, const char *how, double time)
{
    char *data = xasprintf("\"exe\":\"/bin/%s\",\"ppid\":%d,\"start\":\"%s\"", proc, ppid, how);

    feed(t, "process", "proc.start", proc, pid, 0, time, data);
    free(data);
}

static char *by(const struct touched_item *i)
{
    struct buf b = BUF_INIT;

    chain_text(&b, i->who);
    buf_char(&b, 0);
    return b.p;
}

static void assert_by(const struct touched_item *i, const char *wanted)
{
    char *text = by(i);

    assert_string_equal(text, wanted);
    free(text);
}

#define WRITES "\"op\":\"openat\",\"flags\":[\"O_WRONLY\",\"O_CREAT\",\"O_TRUNC\"]"
#define MAKES "\"op\":\"openat\",\"flags\":[\"O_RDWR\",\"O_CREAT\",\"O_EXCL\"]"

/* A number that is used again is another process; an exec is the same one's, wherever its parent is by then. */
static void chains(void **state)
{
    struct touched *t = make();

    starts(t, "sh", 10, 1, "exec", 1);
    starts(t, "sh", 11, 10, "fork", 2);
    starts(t, "cp", 11, 1, "exec", 3); /* its parent may have ended */
    feed(t, "fs", "fs.open", "cp", 11, 0, 4, "\"file\":\"/a\"," WRITES);
    feed(t, "process", "proc.exit", "cp", 11, 0, 5, "\"exit_code\":0");
    feed(t, "fs", "fs.close", "cp", 11, 0, 5, "\"file\":\"/a\",\"file_write_bytes\":5"); /* comes late */
    starts(t, "late", 11, 99, "exec", 6);
    feed(t, "fs", "fs.open", "late", 11, 0, 7, "\"file\":\"/b\"," WRITES);
    feed(t, "fs", "fs.open", "nobody", 12, 0, 8, "\"file\":\"/c\"," WRITES);
    touched_end(t, 0);
    assert_int_equal(touched_count(t, TOUCHED_WRITE), 3);
    assert_by(touched_at(t, TOUCHED_WRITE, 0), "sh[10] > cp[11]");
    assert_int_equal(touched_at(t, TOUCHED_WRITE, 0)->written, 5);
    assert_int_equal(touched_at(t, TOUCHED_WRITE, 0)->count, 1);
    assert_by(touched_at(t, TOUCHED_WRITE, 1), "?[99] > late[11]");
    assert_by(touched_at(t, TOUCHED_WRITE, 2), "nobody[12]");
    touched_free(t);
}

/* The parent's number is one of the child's namespace; two containers have the same ones. */
static void namespaces(void **state)
{
    struct touched *t = make();

    feed(t, "process", "proc.start", "init", 1, 501, 1, "\"exe\":\"/i\",\"ppid\":0,\"start\":\"exec\"");
    feed(t, "process", "proc.start", "a", 7, 507, 2, "\"exe\":\"/a\",\"ppid\":1,\"start\":\"exec\"");
    feed(t, "process", "proc.start", "init", 1, 601, 3, "\"exe\":\"/i\",\"ppid\":0,\"start\":\"exec\"");
    feed(t, "process", "proc.start", "b", 8, 608, 4, "\"exe\":\"/b\",\"ppid\":1,\"start\":\"exec\"");
    touched_end(t, 0);
    assert_by(touched_at(t, TOUCHED_PROGRAM, 1), "init[501] > a[507]");
    assert_by(touched_at(t, TOUCHED_PROGRAM, 2), "?[1] > b[608]"); /* which of both isn't known */
    touched_free(t);
}

static void deep_chains(void **state)
{
    struct touched *t = make();
    struct buf b = BUF_INIT;
    json_t *who, *o;

    starts(t, "p", 1000, 1, "exec", 1);
    for (int i = 1; i < 5000; i++)
        starts(t, "p", 1000 + i, 999 + i, "exec", 1 + i);
    touched_end(t, 3);
    touched_json(&b, touched_at(t, TOUCHED_PROGRAM, 4999));
    o = json_loads(buf_cstr(&b), 0, NULL);
    who = json_object_get(o, "who");
    assert_int_equal(json_array_size(who), 12);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(who, 0), "pid")), 1000);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(who, 2), "left_out")), 4988);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(who, 11), "pid")), 5999);
    json_decref(o);
    buf_free(&b);
    touched_free(t);
}

/* Events of different processes may come in another order than they happened. */
static void order(void **state)
{
    struct touched *t = make();

    feed(t, "fs", "fs.delete", "rm", 2, 0, 20, "\"file\":\"/tmp/x\",\"op\":\"unlink\"");
    feed(t, "fs", "fs.open", "sh", 1, 0, 10, "\"file\":\"/tmp/x\"," MAKES);
    feed(t, "fs", "fs.delete", "rm", 2, 0, 10, "\"file\":\"/tmp/y\",\"op\":\"unlink\"");
    feed(t, "fs", "fs.open", "sh", 1, 0, 20, "\"file\":\"/tmp/y\"," MAKES);
    feed(t, "fs", "fs.rename", "mv", 3, 0, 30, "\"file\":\"/tmp/new\",\"file_to\":\"/tmp/y\",\"op\":\"rename\"");
    feed(t, "fs", "fs.rename", "mv", 3, 0, 30, "\"file\":\"/tmp/new2\",\"file_to\":\"/tmp/z\",\"op\":\"rename\"");
    feed(t, "fs", "fs.rename", "mv", 3, 0, 40, "\"file\":\"/tmp/new3\",\"file_to\":\"/tmp/x2\",\"op\":\"rename\"");
    feed(t, "fs", "fs.open", "sh", 1, 0, 35, "\"file\":\"/tmp/x2\"," WRITES);
    touched_end(t, 0);
    assert_int_equal(touched_count(t, TOUCHED_WRITE), 6);
    assert_string_equal(touched_at(t, TOUCHED_WRITE, 0)->what, "/tmp/y");
    assert_false(touched_at(t, TOUCHED_WRITE, 0)->gone);
    assert_string_equal(touched_at(t, TOUCHED_WRITE, 5)->what, "/tmp/x");
    assert_true(touched_at(t, TOUCHED_WRITE, 5)->gone);
    /* x, y, x2 (replaced), new, new2, new3; of z nobody knows that there was one. */
    assert_int_equal(touched_count(t, TOUCHED_DELETE), 6);
    assert_true(touched_at(t, TOUCHED_DELETE, 0)->own);
    assert_false(touched_at(t, TOUCHED_DELETE, 1)->own);
    for (size_t i = 0; i < 6; i++)
        assert_string_not_equal(touched_at(t, TOUCHED_DELETE, i)->what, "/tmp/z");
    touched_free(t);
}

/* What has another directory by then, and what is still written to when it has no name any more. */
static void gone(void **state)
{
    struct touched *t = make();

    feed(t, "fs", "fs.create", "sh", 1, 0, 10, "\"file\":\"/opt/staging\",\"op\":\"mkdir\"");
    feed(t, "fs", "fs.open", "sh", 1, 0, 11, "\"file\":\"/opt/staging/a\"," MAKES);
    feed(t, "fs", "fs.rename", "sh", 1, 0, 12,
         "\"file\":\"/opt/staging\",\"file_to\":\"/opt/final\",\"op\":\"rename\"");
    feed(t, "fs", "fs.open", "sh", 1, 0, 13, "\"file\":\"/opt/staging/b\"," MAKES); /* another directory of that name */
    feed(t, "fs", "fs.open", "sh", 1, 0, 14, "\"file\":\"/tmp/x\"," MAKES);
    feed(t, "fs", "fs.delete", "sh", 1, 0, 15, "\"file\":\"/tmp/x\",\"op\":\"unlink\"");
    feed(t, "fs", "fs.close", "sh", 1, 0, 16, "\"file\":\"/tmp/x\",\"file_write_bytes\":5");
    touched_end(t, 0);
    assert_int_equal(touched_count(t, TOUCHED_WRITE), 5);
    assert_string_equal(touched_at(t, TOUCHED_WRITE, 0)->what, "/opt/final");
    assert_string_equal(touched_at(t, TOUCHED_WRITE, 1)->what, "/opt/staging/b");
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(touched_at(t, TOUCHED_WRITE, i)->gone, i >= 2);
    assert_int_equal(touched_at(t, TOUCHED_WRITE, 4)->written, 5);
    touched_free(t);
}

/* What lies in a directory that the session has made is its own, unless it was brought there. */
static void own_directories(void **state)
{
    struct touched *t = make();

    feed(t, "fs", "fs.create", "sh", 1, 0, 10, "\"file\":\"/opt/new\",\"op\":\"mkdir\"");
    feed(t, "fs", "fs.open", "sh", 1, 0, 11, "\"file\":\"/opt/new/sub/a\"," WRITES);
    feed(t, "fs", "fs.rename", "sh", 1, 0, 12, "\"file\":\"/home/b\",\"file_to\":\"/opt/new/b\",\"op\":\"rename\"");
    feed(t, "fs", "fs.delete", "sh", 1, 0, 13, "\"file\":\"/opt/new/sub/a\",\"op\":\"unlink\"");
    feed(t, "fs", "fs.delete", "sh", 1, 0, 14, "\"file\":\"/opt/new/b\",\"op\":\"unlink\"");
    feed(t, "fs", "fs.delete", "sh", 1, 0, 15, "\"file\":\"/opt/newer\",\"op\":\"unlink\"");
    touched_end(t, 0);
    for (size_t i = 0; i < touched_count(t, TOUCHED_DELETE); i++) {
        const struct touched_item *d = touched_at(t, TOUCHED_DELETE, i);

        if (d->how & TOUCHED_REMOVED)
            assert_int_equal(d->own, strcmp(d->what, "/opt/new/sub/a") == 0);
    }
    assert_int_equal(touched_count(t, TOUCHED_DELETE), 4); /* and /home/b has another name */
    touched_free(t);
}

/* A child that only forks runs no program; the same command again is one finding. */
static void programs(void **state)
{
    struct touched *t = make();

    starts(t, "sh", 1, 0, "exec", 1);
    starts(t, "cp", 2, 1, "exec", 2);
    starts(t, "cp", 3, 1, "exec", 3);
    starts(t, "cp", 4, 1, "fork", 4);
    touched_end(t, 0);
    assert_int_equal(touched_count(t, TOUCHED_PROGRAM), 2);
    assert_int_equal(touched_at(t, TOUCHED_PROGRAM, 1)->count, 2);
    assert_string_equal(touched_at(t, TOUCHED_PROGRAM, 1)->more, "cp x");
    touched_free(t);
}

static void files(void **state)
{
    struct touched *t = make();

    feed(t, "fs", "fs.open", "sh", 1, 0, 1, "\"file\":\"/work/in\"," WRITES);
    feed(t, "fs", "fs.open", "sh", 1, 0, 2, "\"file\":\"/workshop/out\"," WRITES);
    feed(t, "fs", "fs.open", "sh", 1, 0, 3, "\"file\":\"/dev/pts/3\"," WRITES);
    feed(t, "fs", "fs.open", "sh", 1, 0, 4, "\"file\":\"/dev/shm/x\"," WRITES);
    feed(t, "fs", "fs.close", "sh", 1, 0, 5, "\"file\":\"stdout\",\"file_write_bytes\":9");
    feed(t, "fs", "fs.open", "sh", 1, 0, 6, "\"file\":\"x\",\"file_unresolved\":true," WRITES);
    feed(t, "fs", "fs.open", "sh", 1, 0, 7, "\"file\":\"/h/.ssh/id\",\"op\":\"openat\"");
    feed(t, "fs", "fs.open", "sh", 1, 0, 8, "\"file\":\"/h/.ssh/id\",\"op\":\"dup2\"");
    feed(t, "fs", "fs.open", "sh", 1, 0, 9, "\"file\":\"/h/.ssh\",\"op\":\"openat\",\"flags\":[\"O_DIRECTORY\"]");
    feed(t, "fs", "fs.open", "sh", 1, 0, 10, "\"file\":\"/h/.ssh/new\",\"op\":\"openat\",\"flags\":[\"O_WRONLY\"]");
    feed(t, "fs", "fs.rename", "mv", 1, 0, 11, "\"file\":\"/h/b.key\",\"file_to\":\"/h/b\",\"op\":\"rename\"");
    feed(t, "fs", "fs.open", "sh", 1, 0, 12, "\"file\":7,\"flags\":\"O_WRONLY\",\"op\":[]");
    touched_end(t, 0);
    assert_int_equal(touched_inside(t), 1);
    assert_int_equal(touched_count(t, TOUCHED_WRITE), 4);
    assert_string_equal(touched_at(t, TOUCHED_WRITE, 0)->what, "/workshop/out");
    assert_string_equal(touched_at(t, TOUCHED_WRITE, 1)->what, "/dev/shm/x");
    assert_true(touched_at(t, TOUCHED_WRITE, 2)->unresolved);
    assert_int_equal(touched_count(t, TOUCHED_SECRET), 2);
    assert_string_equal(touched_at(t, TOUCHED_SECRET, 0)->what, "/h/.ssh/id");
    assert_int_equal(touched_at(t, TOUCHED_SECRET, 0)->count, 1);
    assert_int_equal(touched_at(t, TOUCHED_SECRET, 1)->how, TOUCHED_RENAMED);
    touched_free(t);
}

static void hosts(void **state)
{
    static const char out[] = "\"net_transport\":\"IP.TCP\",\"net_peer_ip\":\"192.0.2.1\",\"net_peer_port\":443,"
                              "\"net_host_port\":40000";
    struct touched *t = make();
    char *close = xasprintf("%s,\"net_bytes_sent\":10,\"net_bytes_recv\":20", out);
    const struct touched_item *h;

    feed(t, "dns", "dns.resp", "curl", 1, 0, 1, "\"domain\":\"example.org\",\"addrs\":[\"192.0.2.1\",5,\"x\"]");
    feed(t, "net", "net.open", "curl", 1, 0, 2, out);
    feed(t, "net", "net.app", "curl", 1, 0, 3, "\"protocol\":\"TLS\",\"tls_client_server_name\":\"www.example.org\"");
    feed(t, "http", "http.req", "curl", 1, 0, 4, "\"http_host\":\"api.example.org:443\"");
    feed(t, "net", "net.close", "curl", 1, 0, 5, close);
    feed(t, "net", "net.close", "curl", 1, 0, 6, close); /* was open before */
    touched_end(t, 0);
    assert_int_equal(touched_count(t, TOUCHED_HOST), 1);
    h = touched_at(t, TOUCHED_HOST, 0);
    assert_string_equal(h->name[0], "www.example.org");
    assert_string_equal(h->name[1], "api.example.org");
    assert_string_equal(h->name[2], "example.org");
    assert_null(h->name[3]);
    assert_int_equal(h->written, 20);
    assert_int_equal(h->read, 40);
    assert_int_equal(h->count, 2);
    free(close);
    touched_free(t);
}

/* Nothing grows without end, and what there is no room for is counted. */
static void bounds(void **state)
{
    struct touched *t = make();
    struct buf b = BUF_INIT;

    for (unsigned i = 0; i < TOUCHED_MAX + 10; i++) {
        char *data = xasprintf("\"file\":\"/x%u\"," WRITES, i);

        feed(t, "fs", "fs.open", "sh", 1, 0, 1, data);
        free(data);
    }
    for (unsigned i = 0; i < CHAINS_MAX; i++)
        starts(t, "p", (int)(10 + i), 1, "fork", 2);
    touched_end(t, 5);
    assert_int_equal(touched_count(t, TOUCHED_WRITE), TOUCHED_MAX);
    assert_int_equal(touched_cut(t, TOUCHED_WRITE), 10);
    assert_int_equal(touched_cut_processes(t), 1); /* sh is one, too */
    touched_end_json(&b, t);
    assert_non_null(strstr(buf_cstr(&b), "\"lost\":5"));
    assert_non_null(strstr(buf_cstr(&b), "\"cut\":{\"write\":10}"));
    buf_free(&b);
    touched_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chains), cmocka_unit_test(namespaces), cmocka_unit_test(deep_chains),
        cmocka_unit_test(order),  cmocka_unit_test(gone), cmocka_unit_test(own_directories),       cmocka_unit_test(programs),
        cmocka_unit_test(files),  cmocka_unit_test(hosts),      cmocka_unit_test(bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
