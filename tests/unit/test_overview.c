/* SPDX-License-Identifier: Apache-2.0 */
/* What is worked out of a session's events for its page: sums, joined ends, heaps, and that all of it is bounded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/hash.h"
#include "summary/keyed.h"
#include "summary/overview.h"

#define START 1700000000u

/* An event at so many milliseconds, of JSON with single quotes. */
static void tell(struct overview *o, const char *type, const char *source, int pid, unsigned ms, uint64_t channel,
                 const char *proc, const char *data)
{
    char text[2048];
    struct sum_event e;
    json_t *json;
    int n =
        snprintf(text, sizeof(text),
                 "{'type':'evt','_channel':'%llu','body':{'sourcetype':'%s','_time':%u.%06u,'source':'%s','proc':'%s','"
                 "cmd':'%s x',"
                 "'pid':%d,'data':%s}}",
                 (unsigned long long)channel, type, START + ms / 1000, ms % 1000 * 1000, source, proc, proc, pid, data);

    assert_in_range(n, 1, sizeof(text) - 1);
    for (char *p = text; *p; p++)
        if (*p == '\'')
            *p = '"';
    json = json_loads(text, 0, NULL);
    assert_non_null(json);
    assert_true(sum_event_of_json(&e, json));
    overview_event(o, &e);
    json_decref(json);
}

static struct overview *fresh(void)
{
    return overview_new(START * UINT64_C(1000000000), (START + 10) * UINT64_C(1000000000));
}

/* --- rows by keys --- */

static void test_keyed_rows(void **state)
{
    struct keyed t = {.row_size = sizeof(struct keyed_row), .max = 1000};
    void **list;

    assert_null(keyed_find(&t, "a", 1));
    for (unsigned i = 0; i < 1000; i++)
        assert_non_null(keyed_at(&t, &i, sizeof(i)));
    for (unsigned i = 0; i < 1000; i++)
        assert_ptr_equal(keyed_at(&t, &i, sizeof(i)), keyed_find(&t, &i, sizeof(i)));
    assert_int_equal(t.count, 1000);
    assert_null(keyed_at(&t, "one more", 8));
    assert_int_equal(t.refused, 1);
    for (unsigned i = 0; i < 1000; i += 2)
        keyed_remove(&t, keyed_find(&t, &i, sizeof(i)));
    list = keyed_list(&t);
    for (unsigned i = 0; i < 500; i++)
        assert_int_equal(*(unsigned *)(void *)((struct keyed_row *)list[i])->key, 2 * i + 1);
    free(list);
    assert_non_null(keyed_at(&t, "one more", 8));
    keyed_clear(&t);
    assert_int_equal(t.count, 0);
    assert_non_null(keyed_at(&t, "", 0));
    keyed_clear(&t);
    t.max_key_bytes = 10;
    assert_non_null(keyed_at(&t, "123456", 6));
    assert_null(keyed_at(&t, "12345", 5));
    assert_non_null(keyed_at(&t, "1234", 4));
    keyed_remove(&t, keyed_find(&t, "123456", 6));
    assert_non_null(keyed_at(&t, "12345", 5));
    assert_int_equal(t.refused, 1);
    keyed_clear(&t);
}

/* Keys that were chosen to collide, by who doesn't know the secret: they keep nobody's row out. */
static void test_keys_that_collide(void **state)
{
    struct keyed t = {.row_size = sizeof(struct keyed_row), .max = 100000};
    unsigned made = 0;

    for (uint64_t key = 0; made < 200; key++) {
        if (hash_bytes((const char *)&key, sizeof(key)) & 0xfff)
            continue;
        keyed_at(&t, &key, sizeof(key));
        made++;
    }
    assert_int_equal(t.count, 200);
    assert_int_equal(t.refused, 0);
    keyed_clear(&t);
}

/* --- how long something took --- */

static void test_times(void **state)
{
    struct ov_times t = {0};

    assert_int_equal(ov_times_quantile(&t, 500), 0);
    for (uint64_t ms = 1; ms <= 1000; ms++)
        ov_times_add(&t, ms * 1000000);
    assert_in_range(ov_times_quantile(&t, 500), 500000000, 600000000);
    assert_in_range(ov_times_quantile(&t, 990), 990000000, 1000000000);
    assert_int_equal(ov_times_quantile(&t, 1000), 1000000000);
    assert_int_equal(t.max_ns, 1000000000);
    for (size_t i = 1; i < OV_STEPS; i++)
        assert_true(ov_step_ns(i) > ov_step_ns(i - 1));
    ov_times_add(&t, UINT64_MAX / 2); /* longer than the last step */
    assert_int_equal(ov_times_quantile(&t, 1000), UINT64_MAX / 2);
    ov_times_add(&t, 0);
    assert_int_equal(t.step[0], 1);
}

/* --- processes --- */

static void test_processes(void **state)
{
    struct overview *o = fresh();

    tell(o, "process", "proc.start", 10, 0, 0, "sh", "{'start':'exec','ppid':1}");
    tell(o, "process", "proc.start", 11, 10, 0, "sh", "{'start':'fork','ppid':10}");
    tell(o, "process", "proc.start", 11, 20, 0, "cc", "{'start':'exec','ppid':10}");
    tell(o, "fs", "fs.close", 11, 30, 5, "cc", "{'file':'/a','file_read_bytes':7,'file_write_bytes':9}");
    tell(o, "process", "proc.exit", 11, 40, 0, "cc", "{'exit_code':2,'duration':30,'cpu':5}");
    tell(o, "process", "proc.start", 11, 50, 0, "sh", "{'start':'fork','ppid':10}"); /* the same number, another one */
    tell(o, "process", "proc.exit", 11, 60, 0, "sh", "{'signal':'SIGKILL','duration':10}");
    tell(o, "fs", "fs.open", 77, 70, 6, "x", "{'file':'/b'}"); /* nobody has told of its beginning */
    tell(o, "process", "proc.start", 5, 80, 0, "y",
         "{'start':'fork','ppid':2,'hostPid':905}"); /* a namespace of its own */
    overview_finish(o);
    assert_int_equal(o->process_count, 5);
    assert_string_equal(o->processes[1].proc, "cc");
    assert_string_equal(o->processes[1].began, "fork");
    assert_int_equal(o->processes[1].execs, 1);
    assert_int_equal(o->processes[1].parent, 0);
    assert_int_equal(o->processes[1].read, 7);
    assert_int_equal(o->processes[1].written, 9);
    assert_int_equal(o->processes[1].exit_code, 2);
    assert_int_equal(o->processes[2].parent, 0);
    assert_string_equal(o->processes[2].signal, "SIGKILL");
    assert_int_equal(o->processes[2].read, 0);
    assert_null(o->processes[3].began);
    assert_int_equal(o->processes[3].parent, -1);
    assert_int_equal(o->processes[4].parent, -1);
    assert_int_equal(o->processes[3].end_ns, o->to_ns); /* it hasn't ended */
    overview_free(o);
}

static void test_too_many_processes(void **state)
{
    struct overview *o = fresh();

    for (int i = 0; i < OV_MAX_PROCESSES + 50; i++)
        tell(o, "process", "proc.start", 100 + i, 1, 0, "p", "{'start':'fork','ppid':10}");
    tell(o, "fs", "fs.open", 100 + OV_MAX_PROCESSES + 7, 2, 1, "p", "{'file':'/b'}"); /* of one that had no room */
    overview_finish(o);
    assert_int_equal(o->process_count, OV_MAX_PROCESSES);
    assert_int_equal(o->processes_more, 50);
    assert_int_equal(o->file_opens, 1);
    overview_free(o);
}

/* --- connections --- */

#define CLIENT \
    "'net_transport':'IP.TCP','net_peer_ip':'10.0.0.9','net_peer_port':80,'net_host_ip':'10.0.0.5','net_host_port':" \
    "40001"
#define SERVER \
    "'net_transport':'IP.TCP','net_peer_ip':'10.0.0.5','net_peer_port':40001,'net_host_ip':'10.0.0.9','net_host_port'" \
    ":80"

#define STRANGER \
    "'net_transport':'IP.TCP','net_peer_ip':'10.7.7.7','net_peer_port':50000,'net_host_ip':'10.0.0.9','net_host_port'" \
    ":80"

static const struct ov_edge *edge(const struct overview *o, size_t n)
{
    void **list = keyed_list(&o->edges);
    const struct ov_edge *e = n < o->edges.count ? list[n] : NULL;

    free(list);
    assert_non_null(e);
    return e;
}

static void test_both_ends_are_joined(void **state)
{
    struct overview *o = fresh();

    /* Somebody from elsewhere, twice; nobody answers. */
    tell(o, "net", "net.open", 2, 0, 3, "nginx", "{" STRANGER "}");
    tell(o, "http", "http.req", 2, 0, 3, "nginx", "{'http_method':'GET','http_target':'/gone'}");
    tell(o, "net", "net.close", 2, 0, 3, "nginx", "{" STRANGER "}");
    tell(o, "net", "net.open", 2, 0, 4, "nginx", "{" STRANGER "}");
    tell(o, "net", "net.open", 1, 0, 1, "curl", "{" CLIENT "}");
    tell(o, "net", "net.open", 2, 1, 2, "nginx", "{" SERVER "}");
    tell(o, "net", "net.app", 1, 4, 1, "curl",
         "{'protocol':'TLS','tls_client_server_name':'a.test','tls_protocol_version':'1.3'}");
    tell(o, "http", "http.req", 1, 5, 1, "curl",
         "{'http_method':'GET','http_host':'a.test:80','http_target':'/x?secret=1'}");
    tell(o, "http", "http.req", 2, 6, 2, "nginx",
         "{'http_method':'GET','http_host':'a.test:80','http_target':'/x?secret=2'}");
    tell(o, "http", "http.resp", 2, 8, 2, "nginx",
         "{'http_status_code':503,'http_server_duration':2,'http_method':'GET','http_target':'/x?secret=2'}");
    tell(o, "http", "http.resp", 1, 9, 1, "curl",
         "{'http_status_code':503,'http_client_duration':4,'http_method':'GET','http_target':'/x?secret=1'}");
    tell(o, "net", "net.close", 1, 10, 1, "curl", "{" CLIENT ",'net_bytes_sent':100,'net_bytes_recv':2000}");
    tell(o, "net", "net.close", 2, 11, 2, "nginx", "{" SERVER ",'net_bytes_sent':2000,'net_bytes_recv':100}");
    overview_finish(o);
    assert_int_equal(o->edges.count, 3); /* in the order in which it was known who had called whom */
    assert_string_equal(edge(o, 0)->ip, "10.7.7.7");
    assert_false(edge(o, 0)->told);
    assert_int_equal(edge(o, 0)->connections, 2);
    assert_true(edge(o, 1)->told);
    assert_int_equal(edge(o, 2)->way, OV_OUT);
    assert_string_equal(edge(o, 2)->proc, "curl");
    assert_string_equal(edge(o, 2)->peer, "nginx");
    assert_string_equal(edge(o, 2)->name, "a.test");
    assert_true(edge(o, 2)->tls);
    assert_int_equal(edge(o, 2)->requests, 1);
    assert_int_equal(edge(o, 2)->errors, 1);
    assert_int_equal(edge(o, 2)->sent, 100);
    assert_int_equal(o->failed, 3);
    assert_int_equal(o->slowest_count, 2);
    assert_string_equal(o->slowest[0].target, "/x");
    assert_int_equal(o->slowest[0].wait_ns, 4000000);
    assert_true(o->slowest[0].first && o->slowest[0].hello_ns > o->slowest[0].opened_ns);
    assert_int_equal(o->flow_count, 4);
    assert_string_equal(o->flows[0].name, "a.test");
    overview_free(o);
}

/* The ports would say the opposite. */
static void test_http_tells_who_asks(void **state)
{
    struct overview *o = fresh();

    tell(o, "net", "net.open", 1, 0, 1, "app",
         "{'net_transport':'IP.TCP','net_peer_ip':'10.0.0.9','net_peer_port':45000,'net_host_ip':'10.0.0.5','net_host_"
         "port':33000}");
    tell(o, "http", "http.req", 1, 5, 1, "app", "{'http_method':'GET','http_target':'/'}");
    tell(o, "http", "http.resp", 1, 9, 1, "app", "{'http_status_code':200,'http_client_duration':4}");
    overview_finish(o);
    for (size_t i = 0; i < o->edges.count; i++)
        assert_int_equal(edge(o, i)->connections, edge(o, i)->way == OV_OUT);
    assert_int_equal(edge(o, o->edges.count - 1)->port, 45000);
    overview_free(o);
}

static void test_heaps_keep_the_most(void **state)
{
    struct overview *o = fresh();
    char data[400];

    for (unsigned i = 0; i < 3 * OV_MAX_FLOWS; i++) {
        unsigned n = i * 7919 % (3 * OV_MAX_FLOWS); /* each once, in no order */

        snprintf(data, sizeof(data), "{" CLIENT ",'net_bytes_sent':%u}", n);
        tell(o, "net", "net.open", 1, 0, i + 1, "p", "{" CLIENT "}");
        tell(o, "http", "http.req", 1, 1, i + 1, "p", "{'http_method':'GET','http_target':'/'}");
        snprintf(data, sizeof(data), "{'http_status_code':200,'http_client_duration':%u}", n);
        tell(o, "http", "http.resp", 1, 1 + n, i + 1, "p", data);
        snprintf(data, sizeof(data), "{" CLIENT ",'net_bytes_sent':%u}", n);
        tell(o, "net", "net.close", 1, 9000, i + 1, "p", data);
    }
    overview_finish(o);
    assert_int_equal(o->flow_count, OV_MAX_FLOWS);
    assert_int_equal(o->flows_more, 2 * OV_MAX_FLOWS);
    for (unsigned i = 0; i < OV_MAX_FLOWS; i++)
        assert_int_equal(o->flows[i].sent, 3 * OV_MAX_FLOWS - 1 - i);
    assert_int_equal(o->slowest_count, OV_MAX_SLOWEST);
    for (unsigned i = 0; i < OV_MAX_SLOWEST; i++)
        assert_int_equal(o->slowest[i].wait_ns / 1000000, 3 * OV_MAX_FLOWS - 1 - i);
    assert_int_equal(o->client.count, 3 * OV_MAX_FLOWS);
    overview_free(o);
}

/* --- what happened when --- */

static void test_bins(void **state)
{
    struct overview *o = fresh();
    void **list;

    tell(o, "console", "stdout", 1, 0, 0, "p", "{'message':'first'}");
    tell(o, "console", "stderr", 1, 9999, 0, "p", "{'message':'last'}");
    tell(o, "console", "stderr", 1, 60000, 0, "p", "{'message':'later than the session'}");
    overview_finish(o);
    list = keyed_list(&o->bins);
    assert_int_equal(o->bins.count, 2);
    assert_int_equal(((struct ov_bin *)list[0])->bin, 0);
    assert_int_equal(((struct ov_bin *)list[1])->bin, OV_BINS - 1);
    assert_int_equal(((struct ov_bin *)list[1])->count[OV_CONSOLE], 2);
    free(list);
    assert_int_equal(o->console_count, 3);
    assert_true(o->console[1].err);
    overview_free(o);
}

/* A time that is over before it has begun, and events without one. */
static void test_no_time(void **state)
{
    struct overview *o = overview_new(5, 3);

    tell(o, "console", "stdout", 1, 0, 0, "p", "{'message':'x'}");
    overview_finish(o);
    assert_int_equal(o->bins.count, 1);
    overview_free(o);
    o = overview_new(0, 0);
    overview_finish(o);
    assert_int_equal(o->events, 0);
    overview_free(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keyed_rows),
        cmocka_unit_test(test_keys_that_collide),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_processes),
        cmocka_unit_test(test_too_many_processes),
        cmocka_unit_test(test_both_ends_are_joined),
        cmocka_unit_test(test_http_tells_who_asks),
        cmocka_unit_test(test_heaps_keep_the_most),
        cmocka_unit_test(test_bins),
        cmocka_unit_test(test_no_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
