/* SPDX-License-Identifier: Apache-2.0 */
/* src/sink/flight.h: what a process did last, out of a journal; its bounds. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "journal/writer.h"
#include "sink/flight.h"

#define START UINT64_C(1700000000123456000)

static struct tm_process ours = {.pid = 7, .host_pid = 4242, .proc = "shop", .host = "here", .exe = "/shop", .id = "here-shop"},
                         other = {.pid = 7, .host_pid = 5151, .proc = "loud", .host = "here", .exe = "/loud", .id = "here-loud"},
                         stranger = {.pid = 9, .host_pid = 9999, .proc = "far", .host = "here", .exe = "/far", .id = "here-far"};

static const struct flight of_ours = {.pid = 7, .host_pid = 4242, .from_ns = START};

static int journal, lines, text;
static struct journal_writer *writer;

static int new_file(void)
{
    int fd = memfd_create("flight", MFD_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

static int setup(void **state)
{
    (void)state;
    journal = new_file();
    lines = new_file();
    text = new_file();
    writer = journal_writer_new(dup(journal));
    assert_non_null(writer);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (writer)
        journal_writer_free(writer, 10000);
    close(journal);
    close(lines);
    close(text);
    return 0;
}

static void add(struct tm_process *who, uint64_t at_ns, const char *source, const char *file, size_t len)
{
    struct tm_field fields[] = {{.name = "file", .type = TM_STR, .v.str = {file, len}}};
    struct ev_record r = {.kind = EV_EVENT, .who = who, .time_ns = at_ns, .fields = fields, .field_count = 1, .sourcetype = "fs",
                          .source = source};

    while (!journal_write(writer, &r)) /* its thread is behind */
        assert_true(journal_flush(writer, 60000));
}

/* So many that are told apart by their file. */
static void add_some(struct tm_process *who, unsigned from, unsigned count)
{
    char file[32];

    for (unsigned i = from; i < from + count; i++) {
        snprintf(file, sizeof(file), "/file-%06u", i);
        add(who, START + i * UINT64_C(1000000), "fs.open", file, strlen(file));
    }
}

static int written(const struct flight *who)
{
    journal_tick(writer, 0);
    assert_true(journal_flush(writer, 60000));
    return flight_write(journal, who, lines, text);
}

/* What is in a file, terminated. */
static char *content(int fd)
{
    struct stat st;
    char *p;

    assert_int_equal(fstat(fd, &st), 0);
    p = xcalloc(1, (size_t)st.st_size + 1);
    assert_int_equal(pread(fd, p, (size_t)st.st_size, 0), st.st_size);
    return p;
}

static unsigned count_of(const char *in, const char *what)
{
    unsigned n = 0;

    for (const char *at = in; (at = strstr(at, what)); at++)
        n++;
    return n;
}

static void expect_file(int fd, const char *first, const char *last, unsigned count)
{
    char *p = content(fd), *a = strstr(p, "/file-"), *z = NULL;

    assert_int_equal(count_of(p, "/file-"), count);
    for (char *at = a; at; at = strstr(at + 1, "/file-"))
        z = at;
    assert_non_null(a);
    assert_memory_equal(a, first, strlen(first));
    assert_memory_equal(z, last, strlen(last));
    free(p);
}

/* The last 100 as JSON, the last 20 of them as short lines, in order; the crash itself is none of them, nor are others'. */
static void test_last(void **state)
{
    char *p;

    (void)state;
    add_some(&ours, 0, 250);
    add_some(&stranger, 250, 300);
    add(&ours, START + UINT64_C(900000000), "proc.crash", "/file-crash", 11);
    assert_int_equal(written(&of_ours), FLIGHT_EVENTS);
    expect_file(lines, "/file-000150", "/file-000249", FLIGHT_EVENTS);
    expect_file(text, "/file-000230", "/file-000249", FLIGHT_SHORT);
    p = content(text);
    assert_non_null(strstr(p, "\nLast events, UTC (events.json has 100):\n  22:13:20."));
    free(p);
}

/* Without the crash's own event there are no more. */
static void test_no_crash_yet(void **state)
{
    (void)state;
    add_some(&ours, 0, 250);
    assert_int_equal(written(&of_ours), FLIGHT_EVENTS);
    expect_file(lines, "/file-000150", "/file-000249", FLIGHT_EVENTS);
}

static void test_few(void **state)
{
    (void)state;
    add_some(&ours, 0, 3);
    assert_int_equal(written(&of_ours), 3);
    expect_file(lines, "/file-000000", "/file-000002", 3);
    expect_file(text, "/file-000000", "/file-000002", 3);
}

/* Nothing is written about nothing. */
static void test_none(void **state)
{
    char *p;

    (void)state;
    add_some(&stranger, 0, 10);
    assert_int_equal(written(&of_ours), 0);
    p = content(text);
    assert_string_equal(p, "");
    free(p);
}

/* Who had the number before isn't this process. */
static void test_age(void **state)
{
    const struct flight young = {.pid = 7, .host_pid = 4242, .from_ns = START + 6 * UINT64_C(1000000)};

    (void)state;
    add_some(&ours, 0, 10);
    assert_int_equal(written(&young), 4);
    expect_file(lines, "/file-000006", "/file-000009", 4);
}

/* Nor one with the same number in another namespace; however much that does meanwhile. The reader selects by either. */
static void test_same_number(void **state)
{
    static struct tm_process inside = {.pid = 4242, .host_pid = 6161, .proc = "in", .host = "here", .exe = "/in", .id = "here-in"};

    (void)state;
    add_some(&ours, 0, 120);
    add_some(&inside, 120, 2000);
    add_some(&other, 2120, 10);
    assert_int_equal(written(&of_ours), FLIGHT_EVENTS);
    expect_file(lines, "/file-000020", "/file-000119", FLIGHT_EVENTS);
}

/* A huge one is named, and takes neither the room nor the place of others. */
static void test_huge(void **state)
{
    size_t size = (size_t)3 << 20;
    char *huge = xmalloc(size), *p;
    struct stat st;

    (void)state;
    memset(huge, '\1', size); /* six bytes of JSON each */
    memcpy(huge, "/huge", 5);
    add_some(&ours, 0, 2);
    for (unsigned i = 2; i < 10; i++)
        add(&ours, START + i * UINT64_C(1000000), "fs.open", huge, size);
    add_some(&ours, 10, 1);
    assert_int_equal(written(&of_ours), 11);
    expect_file(lines, "/file-000000", "/file-000010", 3);
    assert_int_equal(fstat(lines, &st), 0);
    assert_true(st.st_size < FLIGHT_EVENT_BYTES);
    assert_int_equal(fstat(text, &st), 0);
    assert_true(st.st_size < 16384);
    p = content(text);
    assert_non_null(strstr(p, "(events.json has 3; 8 of more than 128 KiB are left out there):\n"));
    assert_int_equal(count_of(p, " fs.open file:/huge"), 8);
    free(p);
    free(huge);
}

/* Neither is what can't be written, or read, a success. */
static void test_errors(void **state)
{
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC), nothing = new_file();

    (void)state;
    add_some(&ours, 0, 10);
    journal_tick(writer, 0);
    assert_true(journal_flush(writer, 60000));
    assert_true(full >= 0);
    assert_int_equal(flight_write(journal, &of_ours, full, text), -ENOSPC);
    assert_int_equal(flight_write(journal, &of_ours, lines, full), -ENOSPC);
    assert_int_equal(write(nothing, "no journal", 10), 10);
    assert_true(flight_write(nothing, &of_ours, lines, text) < 0);
    assert_int_equal(flight_write(-1, &of_ours, lines, text), -EBADF);
    close(full);
    close(nothing);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_last), TEST(test_no_crash_yet), TEST(test_few),  TEST(test_none),   TEST(test_age),
        TEST(test_same_number),  TEST(test_huge), TEST(test_errors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
