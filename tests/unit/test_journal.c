/* SPDX-License-Identifier: Apache-2.0 */
/* src/journal: what is written comes back; what is damaged, cut, hostile. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "journal/format.h"
#include "journal/reader.h"
#include "journal/scan.h"
#include "journal/writer.h"

#define START UINT64_C(1700000000123456789)

static struct tm_process nginx = {
    .pid = 4242, .ppid = 1, .uid = 33, .gid = 33, .host_pid = 4242, .username = "www", .groupname = "www",
    .host = "web-17", .proc = "nginx", .cmd = "nginx: worker process", .cgroup = "0::/system.slice/nginx",
    .exe = "/usr/sbin/nginx", .machine_id = "0123456789abcdef0123456789abcdef",
    .uuid = "da845a9b-a55d-4c42-893d-08b54ee6e999", .id = "web-17-nginx-nginx: worker process"};

/* --- files in memory --- */

static int new_file(void)
{
    int fd = memfd_create("journal", MFD_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

/* Another open file description of the same file: both are taken by who gets them. */
static int again(int fd)
{
    char path[64];
    int other;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    other = open(path, O_RDWR | O_CLOEXEC);
    assert_true(other >= 0);
    return other;
}

static int file_of(const void *bytes, size_t size)
{
    int fd = new_file();

    assert_int_equal(write(fd, bytes, size), (ssize_t)size);
    return fd;
}

static uint8_t *content(int fd, size_t *ret_size)
{
    struct stat st;
    uint8_t *p;

    assert_int_equal(fstat(fd, &st), 0);
    *ret_size = (size_t)st.st_size;
    p = xmalloc(*ret_size + 1);
    assert_int_equal(read_at(fd, p, *ret_size, 0), (ssize_t)*ret_size);
    return p;
}

static struct journal_reader *reader_of(int fd, const struct journal_want *want)
{
    unsigned version = 0;
    struct journal_reader *r = journal_reader_new(again(fd), want, &version);

    assert_non_null(r);
    return r;
}

static struct journal_writer *writer_of(int fd)
{
    struct journal_writer *w = journal_writer_new(again(fd));

    assert_non_null(w);
    return w;
}

/* --- records that can be made again: the nth of a kind --- */

#define STR(field, text) {.name = field, .type = TM_STR, .v.str = {text, sizeof(text) - 1}}
#define UINT(field, n)   {.name = field, .type = TM_UINT, .v.u = n}

struct made {
    struct ev_record r;
    struct tm_field f[TM_MAX_FIELDS];
    struct tm_process *who;
    char text[64];
};

static const char *const words[] = {"O_RDONLY", "O_CLOEXEC", "", "O_NOATIME"};

static void make(struct made *m, uint64_t n)
{
    size_t i = 0;

    memset(m, 0, sizeof(*m));
    m->r.who = &nginx;
    m->r.time_ns = START + n * 1000 - (n % 3 ? 0 : 5500);
    m->r.fields = m->f;
    snprintf(m->text, sizeof(m->text), "/var/www/%llu.html", (unsigned long long)(n % 50));
    switch (n % 4) {
    case 0:
        m->r.kind = EV_EVENT;
        m->r.sourcetype = "fs";
        m->r.source = "fs.open";
        m->r.channel = 8412773390112 + n;
        m->f[i++] = (struct tm_field){.name = "who", .type = TM_WHO};
        m->f[i++] = (struct tm_field){.name = "file", .type = TM_STR, .v.str = {m->text, strlen(m->text)}};
        m->f[i++] = (struct tm_field){.name = "owner", .type = TM_OWNER};
        m->f[i++] = (struct tm_field)UINT("file_perms", 644);
        m->f[i++] = (struct tm_field){.name = "flags", .type = TM_STRLIST, .v.list = {words, n % 5}};
        m->f[i++] = (struct tm_field){.name = "file_unresolved", .type = TM_BOOL, .v.b = n % 8 == 0};
        break;
    case 1:
        m->r.kind = EV_EVENT;
        m->r.sourcetype = "console";
        m->r.source = "stdout";
        m->f[i++] = (struct tm_field){.name = "message", .type = TM_STR, .v.str = {m->text, n % 18}};
        m->f[i++] = (struct tm_field){.name = "num", .type = TM_NUM, .v.num = (double)n / 3};
        m->f[i++] = (struct tm_field){.name = "int", .type = TM_INT, .v.i = -(int64_t)n * 1000000007};
        m->f[i++] = (struct tm_field)UINT("big", UINT64_MAX - n);
        break;
    case 2:
        m->r.kind = EV_NOTICE;
        m->r.sourcetype = "metric";
        m->r.source = "notice";
        m->r.text = m->text;
        m->r.text_len = strlen(m->text);
        break;
    default:
        m->r.kind = EV_METRIC;
        m->r.name = n % 8 == 3 ? "proc.cpu_perc" : "fs.open";
        m->r.type = n % 8 == 3 ? "gauge" : "counter";
        if (n % 8 == 3)
            m->r.value = (struct tm_field){.type = TM_HUNDREDTHS, .v.i = (int64_t)n * 7 - 100};
        else
            m->r.value = (struct tm_field){.type = TM_INT, .v.i = (int64_t)(n % 5)};
        m->f[i++] = (struct tm_field){.name = "who", .type = TM_WHO};
        m->f[i++] = (struct tm_field)STR("unit", "operation");
    }
    m->r.field_count = i;
}

static void same_text(const char *a, const char *b)
{
    assert_string_equal(a ? a : "", b ? b : "");
}

static void same_value(const struct tm_field *a, const struct tm_field *b)
{
    assert_int_equal(a->type, b->type);
    switch (a->type) {
    case TM_STR:
        assert_int_equal(a->v.str.len, b->v.str.len);
        if (a->v.str.len)
            assert_memory_equal(a->v.str.p, b->v.str.p, a->v.str.len);
        break;
    case TM_STRLIST:
        assert_int_equal(a->v.list.count, b->v.list.count);
        for (size_t i = 0; i < a->v.list.count; i++)
            same_text(a->v.list.p[i], b->v.list.p[i]);
        break;
    case TM_BOOL:
        assert_int_equal(a->v.b, b->v.b);
        break;
    case TM_NUM:
        assert_memory_equal(&a->v.num, &b->v.num, sizeof(a->v.num));
        break;
    case TM_INT: case TM_UINT: case TM_HUNDREDTHS:
        assert_true(a->v.u == b->v.u);
        break;
    case TM_WHO: case TM_OWNER:
        break;
    }
}

static void same_process(const struct tm_process *a, const struct tm_process *b)
{
    assert_int_equal(a->pid, b->pid);
    assert_int_equal(a->ppid, b->ppid);
    assert_int_equal(a->uid, b->uid);
    assert_int_equal(a->gid, b->gid);
    assert_int_equal(a->host_pid, b->host_pid);
    const char *const of_a[] = {a->username, a->groupname, a->host, a->proc, a->cmd, a->cgroup, a->exe, a->machine_id, a->k8s_pod};
    const char *const of_b[] = {b->username, b->groupname, b->host, b->proc, b->cmd, b->cgroup, b->exe, b->machine_id, b->k8s_pod};
    for (size_t i = 0; i < sizeof(of_a) / sizeof(*of_a); i++) {
        assert_int_equal(!of_a[i], !of_b[i]);
        same_text(of_a[i], of_b[i]);
    }
    assert_string_equal(a->container, b->container);
    assert_string_equal(a->uuid, b->uuid);
    assert_string_equal(a->id, b->id);
}

static void same_record(const struct ev_record *got, const struct ev_record *want)
{
    assert_int_equal(got->kind, want->kind);
    assert_true(got->time_ns == want->time_ns);
    same_process(got->who, want->who);
    assert_int_equal(got->tag_count, want->tag_count);
    for (size_t i = 0; i < got->tag_count; i++) {
        assert_string_equal(got->tags[i].name, want->tags[i].name);
        same_text(got->tags[i].value, want->tags[i].value);
    }
    assert_int_equal(got->field_count, want->field_count);
    for (size_t i = 0; i < got->field_count; i++) {
        same_text(got->fields[i].name, want->fields[i].name);
        same_value(&got->fields[i], &want->fields[i]);
    }
    if (want->kind == EV_METRIC) {
        assert_string_equal(got->name, want->name);
        assert_string_equal(got->type, want->type);
        same_value(&got->value, &want->value);
        return;
    }
    assert_string_equal(got->sourcetype, want->sourcetype);
    assert_string_equal(got->source, want->source);
    assert_true(got->channel == want->channel);
    if (want->kind == EV_NOTICE) {
        assert_int_equal(got->text_len, want->text_len);
        if (want->text_len)
            assert_memory_equal(got->text, want->text, want->text_len);
    }
}

static void write_made(struct journal_writer *w, uint64_t from, uint64_t to)
{
    struct made m;

    for (uint64_t n = from; n < to; n++) {
        make(&m, n);
        assert_true(journal_write(w, &m.r));
    }
}

static void read_made(struct journal_reader *r, uint64_t from, uint64_t to)
{
    struct ev_record got;
    struct made m;

    for (uint64_t n = from; n < to; n++) {
        make(&m, n);
        assert_true(journal_next(r, &got));
        same_record(&got, &m.r);
    }
}

static void at_end(struct journal_reader *r)
{
    struct ev_record got;

    assert_false(journal_next(r, &got));
}

static void no_damage(struct journal_reader *r)
{
    struct journal_damage d;

    journal_reader_damage(r, &d);
    assert_int_equal(d.blocks, 0);
    assert_int_equal(d.bytes, 0);
    assert_false(d.torn);
}

static void test_round_trip(void **state)
{
    const uint64_t many = 100000;
    int fd = new_file();
    struct journal_writer *w = writer_of(fd);
    struct journal_reader *r;
    struct journal_stats stats;

    write_made(w, 0, many);
    assert_true(journal_flush(w, 10000));
    journal_writer_stats(w, &stats);
    assert_int_equal(stats.records, many);
    assert_int_equal(stats.lost_queue + stats.lost_destination + stats.queued, 0);
    assert_int_equal(stats.error, 0);
    journal_writer_free(w, 1000);
    r = reader_of(fd, NULL);
    read_made(r, 0, many);
    at_end(r);
    no_damage(r);
    journal_reader_free(r);
    r = reader_of(fd, NULL);
    assert_int_equal(journal_count(r), many);
    journal_reader_free(r);
    close(fd);
}


/* --- each kind of value --- */

static void one_record(const struct ev_record *rec)
{
    int fd = new_file();
    struct journal_writer *w = writer_of(fd);
    struct journal_reader *r;
    struct ev_record got;

    for (int i = 0; i < 3; i++) /* the second and the third say that nothing is another one */
        assert_true(journal_write(w, rec));
    journal_writer_free(w, 10000);
    r = reader_of(fd, NULL);
    for (int i = 0; i < 3; i++) {
        assert_true(journal_next(r, &got));
        same_record(&got, rec);
    }
    at_end(r);
    no_damage(r);
    journal_reader_free(r);
    close(fd);
}

static struct ev_record event_of(const struct tm_field *f, size_t count)
{
    return (struct ev_record){.kind = EV_EVENT, .who = &nginx, .time_ns = START, .fields = f, .field_count = count,
                              .sourcetype = "fs", .source = "fs.open", .channel = UINT64_MAX};
}

static void test_values(void **state)
{
    static const char *const list[] = {"", "a", "\xff\xfe", "a"};
    static const double nan_bits = 0.0;
    const struct tm_field f[] = {
        STR("invalid", "\xff\xc0\x80 \xed\xa0\x80"), STR("empty", ""), STR("nul", "a\0b"),
        {.name = "null", .type = TM_STR}, {.name = "", .type = TM_STR, .v.str = {"no name", 7}},
        {.name = "least", .type = TM_INT, .v.i = INT64_MIN}, {.name = "most", .type = TM_INT, .v.i = INT64_MAX},
        {.name = "minus", .type = TM_INT, .v.i = -1}, UINT("max", UINT64_MAX), UINT("zero", 0),
        {.name = "num", .type = TM_NUM, .v.num = 1.0 / 3}, {.name = "-0", .type = TM_NUM, .v.num = -nan_bits},
        {.name = "inf", .type = TM_NUM, .v.num = __builtin_inf()}, {.name = "nan", .type = TM_NUM, .v.num = __builtin_nan("7")},
        {.name = "true", .type = TM_BOOL, .v.b = true}, {.name = "false", .type = TM_BOOL},
        {.name = "list", .type = TM_STRLIST, .v.list = {list, 4}}, {.name = "none", .type = TM_STRLIST},
        {.name = "h", .type = TM_HUNDREDTHS, .v.i = -1}, {.name = "who", .type = TM_WHO}, {.name = "owner", .type = TM_OWNER},
    };
    const struct ev_tag tags[] = {{"team", "blue"}, {"empty", ""}, {"\xff", "\xfe"}};
    struct ev_record r = event_of(f, sizeof(f) / sizeof(*f));

    one_record(&r);
    r.tags = tags;
    r.tag_count = 3;
    one_record(&r);
    r.field_count = 0;
    one_record(&r);
    r.time_ns = 0;
    one_record(&r);
    r.time_ns = UINT64_MAX;
    one_record(&r);
}

static void test_many_fields(void **state)
{
    static char names[200][8];
    struct tm_field f[200];
    struct ev_record r;

    for (size_t i = 0; i < 200; i++) {
        snprintf(names[i], sizeof(names[i]), "f%zu", i);
        f[i] = (struct tm_field){.name = names[i], .type = TM_UINT, .v.u = i * i};
    }
    r = event_of(f, TM_MAX_FIELDS);
    one_record(&r);
    r = event_of(f, 200);
    one_record(&r);
}

static void test_metrics(void **state)
{
    const struct tm_field values[] = {
        {.type = TM_INT, .v.i = -5}, {.type = TM_HUNDREDTHS, .v.i = 1234}, {.type = TM_NUM, .v.num = 0.1},
        {.type = TM_STR, .v.str = {"user", 4}}, {.type = TM_STR}, {.type = TM_INT},
    };
    const struct tm_field tags[] = {{.name = "who", .type = TM_WHO}, STR("unit", "byte")};
    struct ev_record r = {.kind = EV_METRIC, .who = &nginx, .time_ns = START, .name = "net.rx", .type = "counter", .fields = tags};

    for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++)
        for (r.field_count = 0; r.field_count < 3; r.field_count++) {
            r.value = values[i];
            one_record(&r);
        }
}

static void test_notices(void **state)
{
    struct ev_record r = {.kind = EV_NOTICE, .who = &nginx, .time_ns = START, .sourcetype = "metric", .source = "notice",
                          .text = "Truncated", .text_len = 9};

    one_record(&r);
    r.text_len = 0;
    one_record(&r);
}

/* A string that is longer than a block, a list that is, and what is longer than anything may be. */
static void test_large(void **state)
{
    const size_t len = 5u << 20, items = 100000;
    char *text = xmalloc(2 * len);
    const char **list = xcalloc(items, sizeof(*list));
    char (*names)[8] = xcalloc(items, sizeof(*names));
    struct tm_field f[] = {{.name = "text", .type = TM_STR, .v.str = {text, len}},
                           {.name = "list", .type = TM_STRLIST, .v.list = {list, items}}};
    struct ev_record r = event_of(f, 2), got;
    struct journal_stats stats;
    struct journal_reader *reader;
    struct journal_writer *w;
    int fd = new_file();

    for (size_t i = 0; i < 2 * len; i++)
        text[i] = (char)(i * 2654435761u >> 24);
    for (size_t i = 0; i < items; i++) {
        snprintf(names[i], sizeof(names[i]), "%zu", i);
        list[i] = names[i];
    }
    one_record(&r);
    w = writer_of(fd);
    write_made(w, 0, 10);
    f[0].v.str.len = 2 * len;
    assert_false(journal_write(w, &r));
    write_made(w, 10, 20);
    f[0].v.str.len = 20000;
    assert_true(journal_write(w, &r));
    write_made(w, 20, 30);
    journal_flush(w, 10000);
    journal_writer_stats(w, &stats);
    assert_int_equal(stats.lost_queue, 1);
    journal_writer_free(w, 10000);
    reader = reader_of(fd, NULL);
    read_made(reader, 0, 20);
    assert_true(journal_next(reader, &got));
    same_record(&got, &r);
    read_made(reader, 20, 30);
    at_end(reader);
    no_damage(reader);
    journal_reader_free(reader);
    close(fd);
    free(text);
    free(list);
    free(names);
}

/* Names and sources that are made for the call, in memory that is used again. */
static void test_borrowed_names(void **state)
{
    char name[16], source[32], type[16];
    struct tm_field f[1] = {{.name = name, .type = TM_UINT}};
    struct ev_record r = event_of(f, 1), got;
    struct journal_reader *reader;
    int fd = new_file();
    struct journal_writer *w = writer_of(fd);

    r.source = source;
    r.sourcetype = type;
    for (int pass = 0; pass < 2; pass++) {
        reader = pass ? reader_of(fd, NULL) : NULL;
        for (unsigned i = 0; i < 20000; i++) {
            snprintf(name, sizeof(name), "x-%u", i % 7);
            snprintf(source, sizeof(source), "/var/log/%u.log", i % 5000);
            snprintf(type, sizeof(type), "%s", i % 2 ? "file" : "fs");
            f[0].v.u = i;
            if (!reader) {
                assert_true(journal_write(w, &r));
                continue;
            }
            assert_true(journal_next(reader, &got));
            same_record(&got, &r);
        }
        journal_writer_free(reader ? NULL : w, 10000);
        journal_reader_free(reader);
    }
    close(fd);
}

/* --- processes --- */

static void test_processes(void **state)
{
    enum { COUNT = 3000 };
    struct tm_process *p = xcalloc(COUNT, sizeof(*p));
    const struct tm_process *first = NULL, *equal = NULL;
    struct tm_process twin = nginx;
    struct journal_reader *reader;
    struct ev_record r = event_of(NULL, 0), got;
    int fd = new_file();
    struct journal_writer *w = writer_of(fd);

    for (unsigned i = 0; i < COUNT; i++) {
        p[i] = nginx;
        p[i].pid = i + 1;
        p[i].username = i % 2 ? NULL : "www";
        snprintf(p[i].id, sizeof(p[i].id), "web-17-nginx-%u", i);
    }
    for (unsigned i = 0; i < 2 * COUNT; i++) {
        r.who = &p[i % COUNT];
        assert_true(journal_write(w, &r));
    }
    r.who = &nginx;
    assert_true(journal_write(w, &r));
    r.who = &twin; /* another address, the same in all */
    assert_true(journal_write(w, &r));
    journal_forget(w, &twin);
    twin.proc = "worker"; /* an exec */
    twin.cgroup = NULL;
    assert_true(journal_write(w, &r));
    journal_forget(w, &p[5]); /* one that isn't the last, one that nobody knows */
    journal_forget(w, &p[5]);
    journal_writer_free(w, 10000);

    reader = reader_of(fd, NULL);
    for (unsigned i = 0; i < 2 * COUNT; i++) {
        assert_true(journal_next(reader, &got));
        same_process(got.who, &p[i % COUNT]);
        if (i == 0)
            first = got.who;
        else if (i == COUNT)
            assert_ptr_equal(got.who, first);
    }
    for (int i = 0; i < 2; i++) {
        assert_true(journal_next(reader, &got));
        same_process(got.who, &nginx);
        assert_true(!equal || equal == got.who);
        equal = got.who;
    }
    assert_true(journal_next(reader, &got));
    same_process(got.who, &twin);
    at_end(reader);
    same_process(first, &p[0]); /* still */
    journal_reader_free(reader);
    close(fd);
    free(p);
}

/* --- selecting --- */

static bool made_is_wanted(const struct made *m, const struct journal_want *w)
{
    const char *source = m->r.kind == EV_METRIC ? m->r.name : m->r.source;
    bool type = !w->sourcetypes, named = !w->sources, pid = !w->pids;

    for (size_t i = 0; i < w->sourcetype_count; i++)
        type |= m->r.kind != EV_METRIC && strcmp(w->sourcetypes[i], m->r.sourcetype) == 0;
    for (size_t i = 0; i < w->source_count; i++)
        named |= strcmp(w->sources[i], source) == 0;
    for (size_t i = 0; i < w->pid_count; i++)
        pid |= w->pids[i] == m->r.who->pid || w->pids[i] == m->r.who->host_pid;
    return type && named && pid && (!w->kinds || w->kinds >> m->r.kind & 1) && m->r.time_ns >= w->from_ns &&
           (!w->to_ns || m->r.time_ns <= w->to_ns);
}

static struct tm_process workers[3];

static void make_of_worker(struct made *m, uint64_t n)
{
    make(m, n);
    m->r.who = &workers[n / 20000 % 2 ? 0 : n % 3];
}

static void check_want(int fd, uint64_t many, const struct journal_want *want)
{
    struct journal_reader *r = reader_of(fd, want);
    struct ev_record got;
    struct made m;
    uint64_t count = 0, left;

    for (uint64_t n = 0; n < many; n++) {
        make_of_worker(&m, n);
        if (!made_is_wanted(&m, want))
            continue;
        count++;
        assert_true(journal_next(r, &got));
        same_record(&got, &m.r);
    }
    at_end(r);
    no_damage(r);
    journal_reader_free(r);
    r = reader_of(fd, want);
    assert_int_equal(journal_count(r), count);
    at_end(r);
    /* From the end. */
    for (uint64_t last = 0; last < 2 * count + 20; last = last * 3 + 1) {
        journal_last(r, last);
        left = last < count ? last : count;
        if (last % 2) {
            assert_int_equal(journal_count(r), left);
        } else {
            for (; left; left--)
                assert_true(journal_next(r, &got));
            at_end(r);
        }
        no_damage(r);
    }
    journal_reader_free(r);
}

static void test_selecting(void **state)
{
    static const char *const open_[] = {"fs.open"}, *const two[] = {"notice", "stdout"}, *const nothing[] = {"nothing"};
    static const char *const console[] = {"console"};
    static const uint32_t second[] = {101}, host[] = {7002}, nobody[] = {99};
    const uint64_t many = 60000;
    const struct journal_want wants[] = {
        {0},
        {.kinds = 1u << EV_METRIC},
        {.kinds = 1u << EV_EVENT | 1u << EV_NOTICE},
        {.sources = open_, .source_count = 1},
        {.sources = two, .source_count = 2},
        {.sources = nothing, .source_count = 1},
        {.sourcetypes = console, .sourcetype_count = 1},
        {.sourcetypes = console, .sourcetype_count = 1, .sources = open_, .source_count = 1},
        {.pids = second, .pid_count = 1},
        {.pids = host, .pid_count = 1},
        {.pids = nobody, .pid_count = 1},
        {.pids = second, .pid_count = 1, .sources = open_, .source_count = 1},
        {.from_ns = START + 1000 * 1000},
        {.to_ns = START + 1000 * 1000},
        {.from_ns = START + 22222222, .to_ns = START + 25000000},
        {.from_ns = START + 22222222, .to_ns = START + 35000000, .sources = two, .source_count = 2, .pids = second, .pid_count = 1},
        {.sources = open_, .source_count = 0},
    };
    int fd = new_file();
    struct journal_writer *w = writer_of(fd);
    struct made m;

    for (unsigned i = 0; i < 3; i++) {
        workers[i] = nginx;
        workers[i].pid = 100 + i;
        workers[i].host_pid = 7000 + i;
    }
    for (uint64_t n = 0; n < many; n++) {
        make_of_worker(&m, n);
        assert_true(journal_write(w, &m.r));
        if (n % 5000 < 30) /* many small blocks now and then */
            journal_tick(w, 0);
    }
    journal_writer_free(w, 10000);
    for (size_t i = 0; i < sizeof(wants) / sizeof(*wants); i++)
        check_want(fd, many, &wants[i]);
    close(fd);
}

/* A record is found again by its position, from wherever the reader is. */
static void test_positions(void **state)
{
    const uint64_t many = 30000;
    int fd = new_file();
    struct journal_writer *w = writer_of(fd);
    uint64_t *positions = xcalloc(many, sizeof(*positions));
    struct journal_reader *r;
    struct ev_record got;

    for (uint64_t n = 0; n < many; n += 1000) {
        write_made(w, n, n + 1000);
        journal_tick(w, n % 3000 ? 1000000 : 0);
    }
    journal_writer_free(w, 10000);
    r = reader_of(fd, NULL);
    for (uint64_t n = 0; n < many; n++) {
        assert_true(journal_next(r, &got));
        positions[n] = journal_position(r);
    }
    for (uint64_t i = 0, n = 0; i < 100; i++, n = (n + 17389 + i * 331) % many) {
        assert_true(journal_seek(r, positions[n]));
        read_made(r, n, n + (many - n > 3 ? 3 : many - n));
    }
    assert_false(journal_seek(r, UINT64_MAX));
    no_damage(r);
    journal_reader_free(r);
    free(positions);
    close(fd);
}

/* --- a reader beside the writer --- */

static void test_live(void **state)
{
    int fd = new_file();
    struct journal_reader *r = reader_of(fd, NULL); /* an empty file */
    struct journal_writer *w;

    at_end(r);
    assert_false(journal_more(r));
    w = writer_of(fd);
    assert_false(journal_more(r));
    for (uint64_t n = 0; n < 3000; n += 3) {
        write_made(w, n, n + 3);
        at_end(r);
        journal_tick(w, 0);
        assert_true(journal_flush(w, 10000));
        assert_true(journal_more(r));
        read_made(r, n, n + 3);
    }
    assert_false(journal_more(r));
    no_damage(r);
    journal_tick(w, 100000);
    journal_writer_free(w, 10000);
    journal_reader_free(r);
    close(fd);
}

/* A block that is seen before it is complete. */
static void test_growing(void **state)
{
    int fd = new_file(), growing = new_file();
    struct journal_writer *w = writer_of(fd);
    struct journal_reader *r = reader_of(growing, NULL);
    struct journal_damage d;
    struct ev_record got;
    uint64_t told = 0;
    uint8_t *bytes;
    struct made m;
    size_t size;

    for (uint64_t n = 0; n < 9; n += 3) {
        write_made(w, n, n + 3);
        journal_flush(w, 10000);
    }
    journal_writer_free(w, 10000);
    bytes = content(fd, &size);
    for (size_t i = 0; i < size; i++) {
        assert_int_equal(pwrite(growing, bytes + i, 1, (off_t)i), 1);
        while (journal_next(r, &got)) {
            make(&m, told++);
            same_record(&got, &m.r);
        }
        journal_reader_damage(r, &d);
        assert_int_equal(d.blocks, 0);
        assert_int_equal(d.bytes, 0);
        assert_int_equal(d.torn, d.torn_bytes != 0);
    }
    assert_int_equal(told, 9);
    assert_false(d.torn);
    journal_reader_free(r);
    free(bytes);
    close(fd);
    close(growing);
}

/* --- damage --- */

/* A journal of three groups, the second one in three blocks; where each block begins, and the end. */
#define BLOCKS 5
static uint8_t *small_journal(size_t *ret_size, uint64_t at[BLOCKS + 1])
{
    static const uint64_t until[] = {4, 8, 12, 16, 20};
    int fd = new_file();
    uint64_t n = 0, offset = JOURNAL_HEAD;
    struct journal_writer *w = NULL;
    struct block_head h;
    struct stat st;
    uint8_t *bytes;

    for (int i = 0; i < BLOCKS; i++) {
        if (i != 2 && i != 3) {
            journal_writer_free(w, 10000);
            w = writer_of(fd);
        }
        write_made(w, n, until[i]);
        assert_true(journal_flush(w, 10000));
        n = until[i];
    }
    journal_writer_free(w, 10000);
    assert_int_equal(fstat(fd, &st), 0);
    for (int i = 0; i < BLOCKS; i++, offset += h.len) {
        at[i] = offset;
        assert_int_equal(block_at(fd, offset, (uint64_t)st.st_size, &h), BLOCK_AT_WHOLE);
        assert_int_equal(h.records, 4);
        assert_int_equal(h.number, i);
        assert_int_equal(!(h.flags & BLOCK_F_CONTINUES), i < 2 || i == 4);
    }
    at[BLOCKS] = offset;
    assert_int_equal(offset, st.st_size);
    bytes = content(fd, ret_size);
    close(fd);
    return bytes;
}

/* Reads all there is, which must be among what was made, in order; returns how many. blocks: counts those of each four. */
static uint64_t read_some(struct journal_reader *r, uint64_t n, uint64_t end, unsigned *blocks)
{
    struct ev_record got;
    uint64_t count = 0;
    struct made m;

    for (; journal_next(r, &got); count++) {
        for (;; n++) {
            assert_true(n < end);
            make(&m, n);
            if (m.r.time_ns == got.time_ns && m.r.kind == got.kind)
                break;
        }
        same_record(&got, &m.r);
        if (blocks)
            blocks[n / 4]++;
        n++;
    }
    return count;
}

/* Reads all there is; returns which blocks' records came whole, as bits. */
static unsigned read_blocks(int fd, struct journal_damage *d)
{
    struct journal_reader *r = reader_of(fd, NULL);
    unsigned records[BLOCKS] = {0}, whole = 0;
    uint64_t count = read_some(r, 0, 4 * BLOCKS, records);

    for (int i = 0; i < BLOCKS; i++)
        whole |= (records[i] == 4) << i;
    journal_reader_damage(r, d);
    journal_last(r, 3); /* what is found from the end is right, too */
    assert_int_equal(read_some(r, 0, 4 * BLOCKS, NULL), count < 3 ? count : 3);
    journal_reader_free(r);
    return whole;
}

static void test_cut_everywhere(void **state)
{
    uint64_t at[BLOCKS + 1];
    struct journal_damage d;
    size_t size;
    uint8_t *bytes = small_journal(&size, at);

    for (size_t cut = 0; cut <= size; cut++) {
        int fd = file_of(bytes, cut), whole = 0;
        unsigned expected;
        struct journal_writer *w;
        struct journal_reader *r;
        struct ev_record got;
        uint64_t n = 0;

        while (whole < BLOCKS && at[whole + 1] <= cut)
            whole++;
        expected = (1u << whole) - 1;
        assert_int_equal(read_blocks(fd, &d), expected);
        assert_int_equal(d.blocks, 0);
        assert_int_equal(d.bytes, 0);
        assert_int_equal(d.torn_bytes, cut < JOURNAL_HEAD ? cut : cut - at[whole]);
        assert_int_equal(d.torn, d.torn_bytes != 0);
        /* Another writer goes on. */
        w = writer_of(fd);
        write_made(w, 100, 104);
        journal_writer_free(w, 10000);
        r = reader_of(fd, NULL);
        read_made(r, 0, (uint64_t)whole * 4);
        read_made(r, 100, 104);
        for (; journal_next(r, &got); n++)
            ;
        assert_int_equal(n, 0);
        no_damage(r);
        journal_reader_free(r);
        close(fd);
    }
    free(bytes);
}

static void test_flips(void **state)
{
    uint64_t at[BLOCKS + 1];
    struct journal_damage d;
    size_t size;
    uint8_t *bytes = small_journal(&size, at);

    for (size_t byte = 0; byte < size; byte++) {
        int fd, hit = 0;
        unsigned whole, lost;

        while (hit < BLOCKS && at[hit + 1] <= byte)
            hit++;
        lost = byte < JOURNAL_HEAD ? 0 : 1u << hit;
        if (hit == 1 && lost)
            lost |= 3u << 2; /* the two that continue it */
        if (hit == 2)
            lost |= 1u << 3;
        bytes[byte] ^= (uint8_t)(1 << byte % 8);
        fd = file_of(bytes, size);
        bytes[byte] ^= (uint8_t)(1 << byte % 8);
        whole = read_blocks(fd, &d);
        close(fd);
        /* Index and trailer may be damaged without anything being lost: who reads all needs neither. */
        assert_int_equal(whole & ~lost, 0x1fu & ~lost);
        if (whole == 0x1f)
            continue;
        if (hit == BLOCKS - 1 && d.torn)
            continue;
        assert_true(d.blocks >= 1 && d.bytes >= at[hit + 1] - at[hit]);
    }
    free(bytes);
}

/* Zeros behind the last block, as a power cut leaves them, and garbage between blocks. */
static void test_garbage(void **state)
{
    uint64_t at[BLOCKS + 1];
    struct journal_damage d;
    size_t size;
    uint8_t *bytes = small_journal(&size, at), zeros[5000] = {0};
    int fd = file_of(bytes, size);
    struct journal_writer *w;
    struct journal_reader *r;

    assert_int_equal(pwrite(fd, zeros, sizeof(zeros), (off_t)size), sizeof(zeros));
    assert_int_equal(read_blocks(fd, &d), 0x1f);
    assert_true(d.torn && d.torn_bytes == sizeof(zeros));
    w = writer_of(fd);
    write_made(w, 20, 30);
    journal_writer_free(w, 10000);
    r = reader_of(fd, NULL);
    read_made(r, 0, 30);
    at_end(r);
    no_damage(r);
    journal_reader_free(r);
    close(fd);

    fd = file_of(bytes, at[1]);
    assert_int_equal(pwrite(fd, zeros, sizeof(zeros), (off_t)at[1]), sizeof(zeros));
    assert_int_equal(pwrite(fd, bytes + at[1], size - at[1], (off_t)(at[1] + sizeof(zeros))), (ssize_t)(size - at[1]));
    assert_int_equal(read_blocks(fd, &d), 0x1f);
    assert_int_equal(d.blocks, 1);
    assert_int_equal(d.bytes, sizeof(zeros));
    close(fd);
    free(bytes);
}

static void test_versions(void **state)
{
    uint8_t head[JOURNAL_HEAD];
    unsigned version = 0;
    int fd;

    journal_head_put(head);
    put_u32(head + 8, 77);
    put_u32(head + 12, crc32c(head, 12));
    fd = file_of(head, sizeof(head));
    assert_null(journal_reader_new(again(fd), NULL, &version));
    assert_int_equal(errno, EPROTONOSUPPORT);
    assert_int_equal(version, 77);
    assert_null(journal_writer_new(again(fd)));
    assert_int_equal(errno, EPROTONOSUPPORT);
    close(fd);
    fd = file_of("{\"type\":\"evt\"}\n", 15);
    assert_null(journal_reader_new(again(fd), NULL, &version));
    assert_int_equal(errno, EBADMSG);
    assert_null(journal_writer_new(again(fd)));
    assert_int_equal(errno, EBADMSG);
    close(fd);
    fd = file_of("{\"type\":\"evt\",\"id\":\"and so on\"}\n", 32);
    assert_null(journal_reader_new(again(fd), NULL, &version));
    assert_int_equal(errno, EBADMSG);
    close(fd);
}

/* A writer that is killed anywhere: what it had flushed is there, and no damage but a torn end. */
static void test_killed(void **state)
{
    FILE *tmp = tmpfile();
    int fd, pipes[2], status;
    uint64_t flushed;

    assert_non_null(tmp);
    fd = fileno(tmp);
    for (int round = 0; round < 5; round++) {
        struct journal_damage d;
        struct journal_reader *r;
        pid_t child;

        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(pipe(pipes), 0);
        child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            struct journal_writer *w = journal_writer_new(again(fd));

            for (uint64_t n = 0;; n += 1000) {
                write_made(w, n, n + 1000);
                journal_flush(w, 10000);
                if (write(pipes[1], &n, sizeof(n)) != sizeof(n))
                    _exit(1);
            }
        }
        close(pipes[1]);
        for (int i = 0; i <= round; i++)
            assert_int_equal(read(pipes[0], &flushed, sizeof(flushed)), sizeof(flushed));
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        while (read(pipes[0], &flushed, sizeof(flushed)) == sizeof(flushed))
            ;
        close(pipes[0]);
        r = reader_of(fd, NULL);
        read_made(r, 0, flushed + 1000);
        read_some(r, flushed + 1000, flushed + 3000, NULL);
        journal_reader_damage(r, &d);
        assert_int_equal(d.blocks, 0);
        journal_reader_free(r);
    }
    fclose(tmp);
}

/* An observed program can write a block, as text: where the one that this stands in is torn, it is still none. */
static void test_forged(void **state)
{
    int inner = new_file(), outer = new_file(), torn;
    struct journal_writer *w = writer_of(inner);
    struct journal_reader *r;
    struct tm_field f = {.name = "message", .type = TM_STR};
    struct ev_record e = event_of(&f, 1);
    struct journal_damage d;
    size_t inner_size, whole, size;
    uint8_t *forged, *bytes;
    struct ev_record got;
    struct stat st;

    write_made(w, 50, 54);
    journal_writer_free(w, 10000);
    forged = content(inner, &inner_size);
    w = writer_of(outer);
    write_made(w, 0, 4);
    assert_true(journal_flush(w, 10000));
    assert_int_equal(fstat(outer, &st), 0);
    whole = (size_t)st.st_size;
    f.v.str.p = (const char *)forged + JOURNAL_HEAD;
    f.v.str.len = inner_size - JOURNAL_HEAD;
    assert_true(journal_write(w, &e));
    journal_writer_free(w, 10000);
    bytes = content(outer, &size);
    torn = file_of(bytes, size - 5);
    r = reader_of(torn, NULL);
    read_made(r, 0, 4);
    assert_false(journal_next(r, &got));
    journal_reader_damage(r, &d);
    assert_true(d.torn && d.blocks == 0 && d.torn_bytes == size - 5 - whole);
    journal_reader_free(r);
    w = writer_of(torn);
    assert_int_equal(fstat(torn, &st), 0);
    assert_int_equal(st.st_size, (off_t)whole);
    journal_writer_free(w, 10000);
    free(forged);
    free(bytes);
    close(inner);
    close(outer);
    close(torn);
}

/* Two writers at a time would write over each other. */
static void test_two_writers(void **state)
{
    int fd = new_file();
    struct journal_writer *w = writer_of(fd);

    assert_null(journal_writer_new(again(fd)));
    assert_int_equal(errno, EWOULDBLOCK);
    journal_writer_free(w, 1000);
    w = writer_of(fd);
    journal_writer_free(w, 1000);
    close(fd);
}

/* --- a disk that is full --- */

static void test_full(void **state)
{
    struct rlimit old, small;
    const rlim_t limit = 300000;
    struct journal_stats stats;
    struct journal_reader *r;
    struct journal_writer *w;
    struct stat st;
    FILE *tmp = tmpfile(); /* the limit counts for files of file systems, of memory too */
    uint64_t before, after, written = 0;
    int fd;

    assert_non_null(tmp);
    fd = fileno(tmp);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = limit;
    w = writer_of(fd);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    do { /* how much fits depends on how much of it was compressed */
        write_made(w, written, written + 50000);
        written += 50000;
        assert_true(journal_flush(w, 10000));
        journal_writer_stats(w, &stats); /* the last block may have been small enough */
    } while (!stats.lost_destination && written < 5000000);
    assert_true(stats.records > 0 && stats.lost_destination > 0);
    assert_int_equal(stats.records + stats.lost_destination, written);
    assert_int_equal(fstat(fd, &st), 0);
    assert_true(st.st_size <= (off_t)limit);
    before = stats.records;
    /* Small blocks within one group: those that continue one that was lost are lost, too. The first of them may
     * fit into what the large one has left. */
    for (unsigned refused = 0, i = 0; refused < 50; i++) {
        assert_true(i < 5000);
        write_made(w, written, written + 10);
        written += 10;
        assert_true(journal_flush(w, 10000));
        journal_writer_stats(w, &stats);
        refused = stats.error == EFBIG ? refused + 1 : 0;
    }
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    write_made(w, written, written + 1000);
    written += 1000;
    assert_true(journal_flush(w, 10000));
    journal_writer_stats(w, &stats);
    assert_int_equal(stats.error, 0);
    assert_int_equal(stats.records + stats.lost_destination, written);
    assert_true(stats.records >= before + 1000);
    after = stats.records;
    journal_writer_free(w, 10000);
    r = reader_of(fd, NULL);
    read_made(r, 0, 1000);
    assert_int_equal(1000 + read_some(r, 1000, written, NULL), after);
    no_damage(r);
    journal_last(r, 1000);
    read_made(r, written - 1000, written);
    journal_reader_free(r);
    fclose(tmp);
}

/* --- a clock that jumps --- */

static void test_clock(void **state)
{
    struct tm_field f[1] = {UINT("n", 0)};
    struct ev_record r = event_of(f, 1), got;
    const uint64_t times[] = {START, START - 86400000000000, 0, UINT64_MAX, START, 1, START + 5};
    const struct journal_want want = {.from_ns = START - 86400000000000, .to_ns = START};
    struct journal_reader *reader;
    int fd = new_file();
    struct journal_writer *w = writer_of(fd);

    for (size_t i = 0; i < 7; i++) {
        r.time_ns = times[i];
        assert_true(journal_write(w, &r));
    }
    journal_writer_free(w, 10000);
    reader = reader_of(fd, NULL);
    for (size_t i = 0; i < 7; i++) {
        assert_true(journal_next(reader, &got));
        assert_true(got.time_ns == times[i]);
    }
    at_end(reader);
    journal_reader_free(reader);
    reader = reader_of(fd, &want);
    assert_int_equal(journal_count(reader), 3);
    journal_reader_free(reader);
    close(fd);
}

/* --- a file of more than 4 GiB: with a hole, that is passed over --- */

static void test_far(void **state)
{
    const off_t far = (off_t)10 << 30;
    uint64_t at[BLOCKS + 1];
    size_t size;
    uint8_t *bytes = small_journal(&size, at);
    FILE *tmp = tmpfile();
    struct journal_reader *r;
    struct journal_writer *w;
    struct block_head h, hole;
    uint64_t offset = at[1];
    int fd;

    assert_non_null(tmp);
    fd = fileno(tmp);
    assert_int_equal(write(fd, bytes, at[1]), (ssize_t)at[1]);
    /* Blocks of holes, whose heads are right and whose bodies are not. */
    assert_true(block_head_get(bytes + at[0], &hole));
    hole.body_len = hole.raw_len = BLOCK_PART_MAX;
    hole.len = BLOCK_HEAD + hole.body_len + hole.index_len + BLOCK_TRAIL;
    while (offset < (uint64_t)far) {
        uint8_t head[BLOCK_HEAD];

        hole.number++;
        block_head_put(head, &hole);
        assert_int_equal(pwrite(fd, head, sizeof(head), (off_t)offset), sizeof(head));
        offset += hole.len;
    }
    assert_int_equal(pwrite(fd, bytes + at[1], size - at[1], (off_t)offset), (ssize_t)(size - at[1]));
    assert_int_equal(block_at(fd, offset, offset + size - at[1], &h), BLOCK_AT_WHOLE);
    w = writer_of(fd);
    write_made(w, 20, 30);
    journal_writer_free(w, 10000);
    r = reader_of(fd, NULL);
    journal_last(r, 20);
    read_made(r, 10, 30);
    at_end(r);
    no_damage(r);
    journal_reader_free(r);
    fclose(tmp);
    free(bytes);
}

/* --- another reader, written from docs/journal.md: tests/lib/journal.py --- */

static void put_hex(FILE *f, const void *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        fprintf(f, "%02x", ((const uint8_t *)bytes)[i]);
}

static void put_text(FILE *f, const char *text)
{
    put_hex(f, text, strlen(text));
}

static void put_member(FILE *f, const char *name, const char *text)
{
    if (!text)
        return;
    fprintf(f, " %s=", name);
    put_text(f, text);
}

static void put_process(FILE *f, const struct tm_process *p)
{
    put_member(f, "cgroup", p->cgroup);
    put_member(f, "cmd", p->cmd);
    put_member(f, "container", p->container);
    put_member(f, "exe", p->exe);
    fprintf(f, " gid=%u", p->gid);
    put_member(f, "groupname", p->groupname);
    put_member(f, "host", p->host);
    fprintf(f, " host_pid=%u", p->host_pid);
    put_member(f, "id", p->id);
    put_member(f, "k8s_pod", p->k8s_pod);
    put_member(f, "machine_id", p->machine_id);
    fprintf(f, " pid=%u ppid=%u", p->pid, p->ppid);
    put_member(f, "proc", p->proc);
    fprintf(f, " uid=%u", p->uid);
    put_member(f, "username", p->username);
    put_member(f, "uuid", p->uuid);
}

static void put_field(FILE *f, const char *name, const struct tm_field *v)
{
    static const uint8_t wire[] = {
        [TM_STR] = WIRE_STR, [TM_INT] = WIRE_INT, [TM_UINT] = WIRE_UINT, [TM_NUM] = WIRE_NUM, [TM_BOOL] = WIRE_BOOL,
        [TM_STRLIST] = WIRE_LIST, [TM_HUNDREDTHS] = WIRE_HUNDREDTHS, [TM_WHO] = WIRE_WHO, [TM_OWNER] = WIRE_OWNER};

    fputc(' ', f);
    put_text(f, name);
    fprintf(f, "/%02x/", wire[v->type]);
    switch (v->type) {
    case TM_STR:
        put_hex(f, v->v.str.p, v->v.str.len);
        break;
    case TM_STRLIST:
        for (size_t i = 0; i < v->v.list.count; i++) {
            fputs(i ? "," : "", f);
            put_text(f, v->v.list.p[i]);
        }
        break;
    case TM_NUM:
        put_hex(f, &v->v.num, sizeof(v->v.num));
        break;
    case TM_BOOL:
        fprintf(f, "%d", v->v.b);
        break;
    case TM_UINT:
        fprintf(f, "%llu", (unsigned long long)v->v.u);
        break;
    case TM_INT: case TM_HUNDREDTHS:
        fprintf(f, "%lld", (long long)v->v.i);
        break;
    case TM_WHO: case TM_OWNER:
        break;
    }
}

static void put_record_line(FILE *f, const struct ev_record *r)
{
    const struct tm_field text = {.type = TM_STR, .v.str = {r->text, r->text_len}};

    fprintf(f, "%d %llu %llu ", r->kind, (unsigned long long)r->time_ns, (unsigned long long)r->channel);
    put_text(f, r->kind == EV_METRIC ? r->type : r->sourcetype);
    fputc(' ', f);
    put_text(f, r->kind == EV_METRIC ? r->name : r->source);
    put_process(f, r->who);
    for (size_t i = 0; i < r->tag_count; i++) {
        fputc(' ', f);
        put_text(f, r->tags[i].name);
        fputc(':', f);
        put_text(f, r->tags[i].value);
    }
    if (r->kind != EV_EVENT)
        put_field(f, "", r->kind == EV_METRIC ? &r->value : &text);
    for (size_t i = 0; i < r->field_count; i++)
        put_field(f, r->fields[i].name, &r->fields[i]);
    fputc('\n', f);
}

static void compare_with_other_reader(int fd)
{
    const char *root = getenv("SOURCE_ROOT");
    struct journal_reader *r = reader_of(fd, NULL);
    struct ev_record got;
    char command[4096], *ours, theirs[65536];
    size_t size, at = 0, n;
    FILE *f = open_memstream(&ours, &size);

    while (journal_next(r, &got))
        put_record_line(f, &got);
    fclose(f);
    no_damage(r);
    journal_reader_free(r);
    if (!root) /* meson runs tests in the build directory */
        root = access("tests/lib/journal.py", R_OK) == 0 ? "." : "..";
    snprintf(command, sizeof(command), "python3 '%s/tests/lib/journal.py' /proc/%d/fd/%d", root, (int)getpid(), fd);
    f = popen(command, "r");
    assert_non_null(f);
    while ((n = fread(theirs, 1, sizeof(theirs), f))) {
        assert_true(n <= size - at);
        assert_memory_equal(ours + at, theirs, n);
        at += n;
    }
    assert_int_equal(pclose(f), 0);
    assert_int_equal(at, size);
    free(ours);
}

static void test_other_reader(void **state)
{
    const struct ev_tag tags[] = {{"team", "blue"}, {"\xff", "\xfe"}};
    struct tm_process other = nginx;
    int fd = new_file();
    struct journal_writer *w = writer_of(fd);
    struct made m;

    other.pid = 17;
    other.k8s_pod = "pod";
    other.groupname = NULL;
    for (uint64_t n = 0; n < 5000; n++) {
        make(&m, n);
        m.r.who = n % 7 == 3 ? &other : &nginx;
        m.r.tags = tags;
        m.r.tag_count = m.r.kind == EV_NOTICE ? 0 : n % 3;
        assert_true(journal_write(w, &m.r));
        if (n % 1000 < 5)
            journal_tick(w, 0);
    }
    journal_writer_free(w, 10000);
    compare_with_other_reader(fd);
    close(fd);
}

/* --- compression --- */

static bool has_compressed(int fd)
{
    struct block_head h;
    struct stat st;
    bool found = false;

    assert_int_equal(fstat(fd, &st), 0);
    for (uint64_t at = JOURNAL_HEAD; !found && block_at(fd, at, (uint64_t)st.st_size, &h) == BLOCK_AT_WHOLE; at += h.len)
        found = h.flags & BLOCK_F_ZSTD;
    return found;
}

/* The nth of some long lines. */
static struct ev_record long_line(uint64_t n, char text[4000], struct tm_field *f)
{
    memset(text, 'a' + (int)(n % 26), 4000);
    snprintf(text, 20, "%llu", (unsigned long long)n);
    *f = (struct tm_field){.name = "message", .type = TM_STR, .v.str = {text, 4000}};
    return event_of(f, 1);
}

/* Bodies are compressed where a CPU has nothing else to do; on a machine that is busy for long there is nothing to see. */
static void test_compressed(void **state)
{
    int fd = new_file();
    struct journal_writer *w = writer_of(fd);
    struct journal_stats stats;
    struct journal_reader *r;
    struct ev_record rec, got;
    struct tm_field f;
    char text[4000];
    uint64_t n = 0;

    for (unsigned tries = 0; tries < 100 && !has_compressed(fd); tries++) {
        for (unsigned i = 0; i < 70; i++) { /* some 270 KiB */
            rec = long_line(n++, text, &f);
            assert_true(journal_write(w, &rec));
        }
        do { /* without asking for haste */
            usleep(2000);
            journal_writer_stats(w, &stats);
        } while (stats.queued > 70);
    }
    journal_idle(w);
    rec = long_line(n++, text, &f);
    assert_true(journal_write(w, &rec));
    journal_writer_free(w, 10000);
    r = reader_of(fd, NULL);
    for (uint64_t i = 0; i < n; i++) {
        rec = long_line(i, text, &f);
        assert_true(journal_next(r, &got));
        same_record(&got, &rec);
    }
    at_end(r);
    no_damage(r);
    journal_last(r, 50);
    assert_int_equal(journal_count(r), 50);
    journal_reader_free(r);
    if (has_compressed(fd))
        compare_with_other_reader(fd);
    else
        print_message("no CPU had time for it\n");
    close(fd);
}

/* RFC 3720, B.4; and both ways of doing it agree on all lengths. */
static void test_crc(void **state)
{
    uint8_t bytes[100];

    memset(bytes, 0, sizeof(bytes));
    assert_int_equal(crc32c(bytes, 32), 0x8a9136aa);
    memset(bytes, 0xff, sizeof(bytes));
    assert_int_equal(crc32c(bytes, 32), 0x62a8ab43);
    assert_int_equal(crc32c("123456789", 9), 0xe3069283);
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 37);
    for (size_t len = 0; len < sizeof(bytes); len++)
        assert_int_equal(crc32c(bytes, len), crc32c_by_table(bytes, len));
}

/* test_journal --seeds DIRECTORY: for tests/fuzz/fuzz_journal.c. */
static int write_seeds(const char *directory)
{
    static const uint64_t counts[] = {1, 4, 40};
    uint64_t at[BLOCKS + 1];
    size_t size;

    for (size_t i = 0; i <= sizeof(counts) / sizeof(*counts); i++) {
        char path[4096];
        uint8_t *bytes;
        int fd;

        if (i < sizeof(counts) / sizeof(*counts)) {
            struct journal_writer *w = writer_of(fd = new_file());

            write_made(w, 0, counts[i]);
            journal_writer_free(w, 10000);
            bytes = content(fd, &size);
            close(fd);
        } else {
            bytes = small_journal(&size, at);
        }
        snprintf(path, sizeof(path), "%s/%zu", directory, i);
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        if (fd < 0 || write(fd, bytes, size) != (ssize_t)size)
            return 1;
        close(fd);
        free(bytes);
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--seeds") == 0)
        return write_seeds(argv[2]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_many_fields),
        cmocka_unit_test(test_metrics),
        cmocka_unit_test(test_notices),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_borrowed_names),
        cmocka_unit_test(test_processes),
        cmocka_unit_test(test_selecting),
        cmocka_unit_test(test_positions),
        cmocka_unit_test(test_live),
        cmocka_unit_test(test_growing),
        cmocka_unit_test(test_cut_everywhere),
        cmocka_unit_test(test_flips),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_forged),
        cmocka_unit_test(test_two_writers),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_clock),
        cmocka_unit_test(test_far),
        cmocka_unit_test(test_other_reader),
        cmocka_unit_test(test_compressed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
