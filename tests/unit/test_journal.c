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
    m->r.time_ns = START + n * 1000 - (n % 3 ? 0 : 5000);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
