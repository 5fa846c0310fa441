/* SPDX-License-Identifier: Apache-2.0 */
/* What is read from a journal looks as what was written into it; records are found again by their positions. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "journal/reader.h"
#include "journal/writer.h"
#include "sink/ndjson.h"

#define RECORDS 8000
#define WHO     5
#define FIELDS  8

static struct tm_process who[WHO];
static char *line[RECORDS]; /* as a file destination gets them */
static uint32_t seed = 12345;

static uint32_t rnd(uint32_t below)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % below;
}

/* Any bytes but NUL, which the strings of a record's head can't hold. */
static const char *text_of(char *to, size_t room)
{
    size_t len = rnd((uint32_t)room);

    for (size_t i = 0; i < len; i++)
        to[i] = (char)(rnd(3) ? 'a' + rnd(26) : 1 + rnd(255));
    to[len] = '\0';
    return to;
}

static struct tm_field field_of(char *name, char *text, const char *const *list)
{
    static const enum tm_type types[] = {TM_STR, TM_INT, TM_UINT, TM_NUM, TM_BOOL, TM_STRLIST, TM_HUNDREDTHS, TM_WHO, TM_OWNER};
    struct tm_field f = {.name = name, .type = types[rnd(sizeof(types) / sizeof(*types))]};

    snprintf(name, 16, "field%u", rnd(6));
    f.name_len = rnd(2) ? (uint8_t)strlen(name) : 0;
    switch (f.type) {
    case TM_STR:
        f.v.str.p = text_of(text, 40);
        f.v.str.len = strlen(text);
        break;
    case TM_NUM:
        f.v.num = rnd(2) ? rnd(1000) / 8.0 : rnd(1000) / 7.0;
        break;
    case TM_BOOL:
        f.v.b = rnd(2);
        break;
    case TM_STRLIST:
        f.v.list.p = list;
        f.v.list.count = rnd(4);
        break;
    default:
        f.v.u = rnd(4) ? rnd(100000) : (uint64_t)rnd(1u << 24) << rnd(40);
    }
    return f;
}

static void make(struct journal_writer *w, struct ndjson *n, size_t number)
{
    static const char *const list[] = {"10.0.0.1", "::1", "x\xff"};
    static const char *const sources[] = {"fs.open", "fs.close", "http.req", "stdout", "/var/log/x"};
    static const char *const types[] = {"fs", "fs", "http", "console", "file"};
    const struct ev_tag tags[] = {{"team", "blue"}, {"a \"tag\"", "x\n"}};
    char names[FIELDS][16], texts[FIELDS][40], notice[40];
    struct tm_field fields[FIELDS];
    const uint32_t kind = rnd(10), source = rnd(5);
    struct ev_record r = {.kind = kind == 0 ? EV_NOTICE : kind == 1 ? EV_METRIC : EV_EVENT, .who = &who[rnd(WHO)],
                          .time_ns = UINT64_C(1700000000000000000) + number * 12345 - rnd(100000), .tags = tags,
                          .tag_count = kind ? rnd(3) : 0, .fields = fields, .field_count = kind ? rnd(FIELDS + 1) : 0};
    struct buf b = BUF_INIT;

    for (size_t i = 0; i < r.field_count; i++)
        fields[i] = field_of(names[i], texts[i], list);
    if (r.kind == EV_METRIC) {
        r.name = rnd(2) ? "fs.read" : "net.rx";
        r.type = "counter";
        r.value = (struct tm_field){.type = rnd(2) ? TM_INT : TM_HUNDREDTHS, .v.i = (int64_t)rnd(100000) - 50000};
    } else {
        r.sourcetype = types[source];
        r.source = sources[source];
        r.channel = rnd(2) ? 1000 + rnd(50) : 0;
        r.text = r.kind == EV_NOTICE ? text_of(notice, sizeof(notice)) : NULL;
        r.text_len = r.text ? strlen(r.text) : 0;
    }
    assert_true(journal_write(w, &r));
    if (number % 997 == 0)
        assert_true(journal_flush(w, 10000)); /* blocks of all sizes */
    ndjson_record(n, &b, &r);
    line[number] = xstrndup(b.p, b.len);
    buf_free(&b);
}

static int journal_fd;

static int make_journal(void **state)
{
    struct ndjson *n = ndjson_new();
    struct journal_writer *w;

    journal_fd = memfd_create("journal", MFD_CLOEXEC);
    w = journal_writer_new(dup(journal_fd));
    for (uint32_t i = 0; i < WHO; i++) {
        who[i] = (struct tm_process){.pid = 100 + i, .host_pid = i % 2 ? 4000 + i : 100 + i, .uid = i, .host = "h", .proc = i ? "a" : "b\xff",
                                     .cmd = i == 3 ? "" : "a b c", .cgroup = "0::/"};
        snprintf(who[i].id, sizeof(who[i].id), "h-a-%u", i);
    }
    for (size_t i = 0; i < RECORDS; i++)
        make(w, n, i);
    assert_true(journal_flush(w, 10000));
    journal_writer_free(w, 10000);
    ndjson_free(n);
    return 0;
}

static int forget_journal(void **state)
{
    for (size_t i = 0; i < RECORDS; i++)
        free(line[i]);
    return close(journal_fd);
}

static struct journal_reader *reader(const struct journal_want *want)
{
    char path[64];
    struct journal_reader *r;
    int fd;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", journal_fd);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    r = journal_reader_new(fd, want, NULL);
    assert_non_null(r);
    return r;
}

static void is_line(struct ndjson *n, const struct ev_record *r, size_t number)
{
    struct buf b = BUF_INIT;

    ndjson_record(n, &b, r);
    assert_string_equal(buf_cstr(&b), line[number]);
    buf_free(&b);
}

static void test_same_lines(void **state)
{
    struct journal_reader *r = reader(NULL);
    struct ndjson *n = ndjson_new();
    struct ev_record got;
    size_t count = 0;

    for (; journal_next(r, &got); count++)
        is_line(n, &got, count);
    assert_int_equal(count, RECORDS);
    ndjson_free(n);
    journal_reader_free(r);
}

/* In order, at random, and again after the end. */
static void test_positions(void **state)
{
    static uint64_t position[RECORDS];
    struct journal_reader *r = reader(NULL);
    struct ndjson *n = ndjson_new();
    struct ev_record got;

    for (size_t i = 0; i < RECORDS; i++) {
        assert_true(journal_next(r, &got));
        position[i] = journal_position(r);
        assert_true(i == 0 || position[i] > position[i - 1]);
    }
    for (size_t i = 0; i < 1000; i++) {
        size_t at = i < 500 ? i * (RECORDS / 500) : rnd(RECORDS);

        assert_true(journal_seek(r, position[at]));
        assert_true(journal_next(r, &got));
        assert_int_equal(journal_position(r), position[at]);
        is_line(n, &got, at);
        if (at + 1 < RECORDS) {
            assert_true(journal_next(r, &got));
            is_line(n, &got, at + 1);
        }
    }
    assert_false(journal_seek(r, position[RECORDS - 1] + 1));
    assert_false(journal_seek(r, UINT64_MAX));
    assert_true(journal_seek(r, position[0]));
    assert_true(journal_next(r, &got));
    is_line(n, &got, 0);
    ndjson_free(n);
    journal_reader_free(r);
}

/* Of those that are wanted, whatever is passed over by blocks' heads. */
static void test_positions_of_wanted(void **state)
{
    static const char *const sources[] = {"http.", "/var"};
    static const uint32_t pids[] = {101, 4003};
    static uint64_t position[RECORDS];
    const struct journal_want want = {.kinds = 1u << EV_EVENT, .sources = sources, .source_count = 2, .source_beginnings = true,
                                      .pids = pids, .pid_count = 2};
    struct journal_reader *r = reader(&want), *all = reader(NULL);
    struct ev_record got;
    size_t count = 0, expected = 0;

    while (journal_next(all, &got))
        expected += got.kind == EV_EVENT && (got.who->pid == 101 || got.who->pid == 103) &&
                    (strcmp(got.source, "http.req") == 0 || strcmp(got.source, "/var/log/x") == 0);
    while (journal_next(r, &got))
        position[count++] = journal_position(r);
    assert_int_equal(count, expected);
    assert_true(count > 300);
    for (size_t i = 0; i < 500; i++) {
        size_t at = rnd((uint32_t)count);

        assert_true(journal_seek(r, position[at]));
        assert_true(journal_next(r, &got));
        assert_int_equal(journal_position(r), position[at]);
        assert_true(strcmp(got.source, "http.req") == 0 || strcmp(got.source, "/var/log/x") == 0);
    }
    journal_last(r, 3);
    for (size_t i = count - 3; i < count; i++) {
        assert_true(journal_next(r, &got));
        assert_int_equal(journal_position(r), position[i]);
    }
    assert_false(journal_next(r, &got));
    journal_reader_free(r);
    journal_reader_free(all);
}

/* Of another's journal, names may be anything: its lines are JSON all the same, and nothing in them acts on a terminal. */
static void test_hostile_names(void **state)
{
    static const char *const names[] = {"a\"b", "\x1b[31m", "\\", "\xff", ""};
    const struct tm_process p = {.pid = 1, .host = "\x1b[1m", .proc = "\"", .cmd = "\n", .cgroup = "\x9b", .id = "\x1b"};
    int fd = memfd_create("journal", MFD_CLOEXEC);
    struct journal_writer *w = journal_writer_new(dup(fd));
    struct ndjson *n = ndjson_new();
    struct buf b = BUF_INIT;
    struct journal_reader *r;
    struct ev_record got;

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        const struct tm_field f = {.name = names[i], .name_len = (uint8_t)strlen(names[i]), .type = TM_BOOL};
        const struct ev_record e = {.kind = EV_EVENT, .who = &p, .time_ns = 1, .sourcetype = "\x1b", .source = "\"", .fields = &f, .field_count = 1};

        assert_true(journal_write(w, &e));
    }
    assert_true(journal_flush(w, 10000));
    journal_writer_free(w, 10000);
    r = journal_reader_new(fd, NULL, NULL);
    assert_non_null(r);
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        assert_true(journal_next(r, &got));
        assert_string_equal(got.fields[0].name, names[i]);
        buf_reset(&b);
        ndjson_record(n, &b, &got);
        b.len--; /* the newline */
        for (const char *c = buf_cstr(&b); *c; c++)
            assert_true((unsigned char)*c >= ' ' && *c != 0x7f);
    }
    assert_non_null(strstr(b.p, "\"data\":{\"\":false}"));
    buf_free(&b);
    ndjson_free(n);
    journal_reader_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_lines),
        cmocka_unit_test(test_positions),
        cmocka_unit_test(test_positions_of_wanted),
        cmocka_unit_test(test_hostile_names),
    };

    return cmocka_run_group_tests(tests, make_journal, forget_journal);
}
