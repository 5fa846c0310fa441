/* SPDX-License-Identifier: Apache-2.0 */
/* Sinks of traces and logs: what they hand to the output, when, and that each item is delivered or lost once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"
#include "output/output.h"
#include "pb_read.h"
#include "sink/sink.h"

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

/* --- an output that keeps what it gets, or refuses it --- */

static struct output {
    struct buf taken; /* records, each behind its length */
    size_t records;
    uint64_t items, refused_items, abandoned, lost, queued, largest;
    bool refuses;
} out;

struct output *output_get(struct event_base *base, const struct cfg_transport *to, size_t datagram_max)
{
    return &out;
}

struct output *output_get_otlp(struct event_base *base, const struct cfg_otlp_to *to, enum cfg_otlp_signal signal)
{
    return &out;
}

bool output_write(struct output *o, const char *record, size_t len)
{
    uint32_t n;

    memcpy(&n, record, sizeof(n));
    if (o->refuses) {
        o->refused_items += n;
        return false;
    }
    buf_add(&o->taken, &len, sizeof(len));
    buf_add(&o->taken, record, len);
    o->records++;
    o->items += n;
    if (len > o->largest)
        o->largest = len;
    return true;
}

void output_put(struct output *o) {}
void output_on_connect(struct output *o, output_connected_fn fn, void *ctx) {}
void output_forget(struct output *o, void *ctx) {}
bool output_flush(struct output *o) { return true; }
bool output_wait(struct output *o, unsigned ms) { return true; }
void output_stats(const struct output *o, struct output_stats *ret) { *ret = (struct output_stats){.queued = o->queued}; }
const char *output_url(const struct output *o) { return "double"; }
void output_describe(const struct output *o, const char *name, struct buf *b) { buf_str(b, name); }

uint64_t output_abandon(struct output *o)
{
    o->abandoned++;
    return 0;
}

uint64_t output_claim_lost(struct output *o)
{
    uint64_t n = o->lost;

    o->lost = 0;
    return n;
}

static void clear(void)
{
    buf_free(&out.taken);
    out = (struct output){.refuses = false};
}

/* The index-th record's ResourceSpans or ResourceLogs; *ret_count: how many items it says it has. */
static struct pb_msg record(size_t index, uint32_t *ret_count)
{
    const char *p = out.taken.p;
    size_t len;

    assert_true(index < out.records);
    for (;; p += len) {
        memcpy(&len, p, sizeof(len));
        p += sizeof(len);
        if (!index--)
            break;
    }
    memcpy(ret_count, p, sizeof(*ret_count));
    return pb_sub((struct pb_msg){(const uint8_t *)p + 4, (const uint8_t *)p + len}, 1, 0);
}

static void assert_record(size_t index, const char *service, uint32_t items)
{
    uint32_t count;
    struct pb_msg m = record(index, &count);

    assert_true(pb_is(pb_sub(pb_attribute(pb_sub(m, 1, 0), 1, "service.name", NULL), 1, 0), service));
    assert_int_equal(count, items);
    assert_int_equal(pb_count(pb_sub(m, 2, 0), 2), items);
}

/* --- */

static struct tm_process a = {.pid = 1, .host = "h", .proc = "a"}, b = {.pid = 2, .host = "h", .proc = "b"};
static const struct tm_span span = {.kind = TM_SPAN_SERVER, .name = {"x", 1}, .start_ns = 1, .end_ns = 2};
static char text[] = "text";

static struct config config(void)
{
    struct config cfg = {.event.transport = {.type = CFG_FILE, .path = text}, .otlp.log_crashes = true};

    for (size_t i = 0; i < CFG_OTLP_MAX; i++)
        cfg.otlp.to[i].enable = true;
    cfg.otlp.log_events[CFG_EW_CONSOLE] = true;
    cfg.otlp.log_events[CFG_EW_NOTICE] = true;
    return cfg;
}

static struct sink *traces(struct event_base *base)
{
    struct sink *s[SINKS_MAX];
    struct config cfg = config();
    struct sink_user user = {.base = base};

    clear();
    a.proc = "a";
    assert_int_equal(sinks_for_traces(&user, &cfg, s), 1);
    return s[0];
}

static void items_of_a_process_go_together(void **state)
{
    struct event_base *base = event_base_new();
    struct sink *s = traces(base);
    struct sink_stats stats;

    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(s->format->span(s, &a, &span), SINK_TAKEN);
        assert_int_equal(s->format->span(s, &b, &span), SINK_TAKEN);
    }
    s->format->span(s, &b, &span);
    assert_int_equal(out.records, 0);
    out.queued = 5;
    s->format->stats(s, &stats);
    assert_int_equal(stats.queued, 12);
    assert_true(s->format->flush(s));
    assert_int_equal(out.records, 2);
    assert_record(0, "a", 3);
    assert_record(1, "b", 4);
    assert_true(s->format->flush(s));
    assert_int_equal(out.records, 2);
    s->format->span(s, &a, &span);
    assert_true(s->format->wait(s, 1));
    assert_record(2, "a", 1);
    s->format->span(s, &b, &span);
    s->format->abandon(s);
    assert_record(3, "b", 1);
    assert_int_equal(out.abandoned, 1);
    s->format->free(s);
    event_base_free(base);
}

static void bounds_of_a_batch(void **state)
{
    struct event_base *base = event_base_new();
    struct sink *s = traces(base);
    struct tm_span large = span;
    static struct tm_process many[80];
    char *name = calloc(1, 9000);
    size_t n = 0;

    for (size_t i = 0; i < 511; i++)
        s->format->span(s, &a, &span);
    assert_int_equal(out.records, 0);
    s->format->span(s, &a, &span);
    assert_record(0, "a", 512);
    memset(name, 'x', 9000);
    large.name = (struct tm_str){name, 9000};
    while (out.records < 2 && n < 100) {
        s->format->span(s, &a, &large);
        n++;
    }
    assert_in_range(n, 6, 8);
    assert_in_range(out.largest, 64 << 10, (64 << 10) + 12000);
    /* Of all processes together. */
    for (n = 0; n < COUNT(many) * 7 && out.records == 2; n++) {
        many[n % COUNT(many)] = a;
        s->format->span(s, &many[n % COUNT(many)], &large);
    }
    assert_in_range(out.records, 3, 2 + COUNT(many));
    assert_in_range(out.items, 512, 520 + 4 * 1024 * 1024 / 9000);
    for (size_t i = 0; i < COUNT(many); i++)
        s->format->end(s, &many[i]);
    s->format->free(s);
    free(name);
    event_base_free(base);
}

static void items_wait_for_a_while_only(void **state)
{
    struct event_base *base = event_base_new();
    struct sink *s = traces(base);

    for (size_t round = 1; round <= 2; round++) {
        s->format->span(s, &a, &span);
        event_base_loop(base, EVLOOP_ONCE); /* until the timer has run */
        assert_int_equal(out.records, round);
    }
    s->format->span(s, &a, &span);
    s->format->flush(s);
    event_base_loop(base, 0); /* returns: nothing waits, no timer is set */
    assert_int_equal(out.records, 3);
    s->format->free(s);
    event_base_free(base);
}

static void another_program_has_another_resource(void **state)
{
    struct event_base *base = event_base_new();
    struct sink *s = traces(base);

    assert_true(s->format->begin(s, &a));
    s->format->span(s, &a, &span);
    a.proc = "exec";
    assert_true(s->format->begin(s, &a));
    assert_record(0, "a", 1);
    s->format->span(s, &a, &span);
    s->format->span(s, &a, &span);
    s->format->end(s, &a);
    assert_record(1, "exec", 2);
    a.proc = "another at the same address";
    s->format->span(s, &a, &span);
    s->format->free(s);
    assert_record(2, "another at the same address", 1);
    event_base_free(base);
}

/* Whatever happens, in any order: what was taken has been delivered or is claimed as lost, once. */
static void no_item_is_lost_or_counted_twice(void **state)
{
    struct event_base *base = event_base_new();
    struct sink *s = traces(base);
    static struct tm_process who[20];
    uint64_t taken = 0, lost = 0;
    unsigned seed = 3;

    for (size_t i = 0; i < COUNT(who); i++)
        who[i] = a;
    for (size_t round = 0; round < 30000; round++) {
        struct tm_process *p = &who[(size_t)rand_r(&seed) % COUNT(who)];

        switch (rand_r(&seed) % 200) {
        case 0:
            s->format->begin(s, p);
            break;
        case 1:
            s->format->end(s, p);
            break;
        case 2:
            s->format->flush(s);
            break;
        case 3:
            out.refuses = !out.refuses;
            break;
        case 4:
            lost += s->format->claim_lost(s);
            break;
        case 5:
            out.lost++; /* of what it has taken, something at its receiver */
            out.items--;
            break;
        default:
            taken += s->format->span(s, p, &span) == SINK_TAKEN;
        }
    }
    s->format->abandon(s);
    lost += s->format->claim_lost(s);
    assert_true(lost > 0 && out.refused_items > 0);
    assert_int_equal(taken, (int64_t)out.items + (int64_t)lost);
    assert_int_equal(s->format->claim_lost(s), 0);
    s->format->free(s);
    event_base_free(base);
}

static void logs_are_what_was_asked_for(void **state)
{
    struct event_base *base = event_base_new();
    struct config cfg = config();
    struct sink *s[SINKS_MAX], *logs;
    struct sink_user user = {.base = base};
    struct tm_field f = {.name = "message", .type = TM_STR, .v.str = {"ERROR x", 7}};
    struct ev_record r = {.kind = EV_EVENT, .who = &a, .time_ns = 1, .sourcetype = "console", .source = "stdout", .fields = &f,
                          .field_count = 1};
    struct pb_msg m;
    uint32_t count;
    struct buf d = BUF_INIT;

    clear();
    a.proc = "a";
    assert_int_equal(sinks_for_events(&user, &cfg, s), 2); /* beside the session's own */
    logs = s[1];
    assert_int_equal(logs->format->write(logs, &r), SINK_TAKEN);
    r.sourcetype = "file";
    assert_int_equal(logs->format->write(logs, &r), SINK_OTHER);
    r.sourcetype = "process";
    r.source = "proc.crash";
    assert_int_equal(logs->format->write(logs, &r), SINK_TAKEN);
    r.source = "proc.exit";
    assert_int_equal(logs->format->write(logs, &r), SINK_OTHER);
    r = (struct ev_record){.kind = EV_NOTICE, .who = &a, .sourcetype = "metric", .source = "notice", .text = "t", .text_len = 1};
    assert_int_equal(logs->format->write(logs, &r), SINK_TAKEN);
    r.kind = EV_METRIC;
    assert_int_equal(logs->format->write(logs, &r), SINK_OTHER);
    logs->format->flush(logs);
    assert_record(0, "a", 3);
    m = pb_sub(pb_sub(record(0, &count), 2, 0), 2, 0);
    assert_int_equal(pb_number(m, 2), 17);
    assert_true(pb_number(m, 11) > 1000000000000000000u);
    logs->format->describe(logs, "events", &d);
    assert_string_equal(buf_cstr(&d), "logs");
    buf_free(&d);
    for (size_t i = 0; i < 2; i++)
        s[i]->format->free(s[i]);
    cfg.otlp.to[CFG_OTLP_LOGS].enable = cfg.otlp.to[CFG_OTLP_TRACES].enable = false;
    assert_int_equal(sinks_for_events(&user, &cfg, s), 1);
    s[0]->format->free(s[0]);
    assert_int_equal(sinks_for_traces(&user, &cfg, s), 0);
    event_base_free(base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(items_of_a_process_go_together),
        cmocka_unit_test(bounds_of_a_batch),
        cmocka_unit_test(items_wait_for_a_while_only),
        cmocka_unit_test(another_program_has_another_resource),
        cmocka_unit_test(no_item_is_lost_or_counted_twice),
        cmocka_unit_test(logs_are_what_was_asked_for),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);

    clear();
    return rc;
}
