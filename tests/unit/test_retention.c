/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h> // cmocka needs it before its header

#include <cmocka.h>

#include "session/retention.h"

static char top[] = "/tmp/test-retention-XXXXXX";
static int history;

static int set_up(void **state)
{
    (void)state;
    strcpy(top, "/tmp/test-retention-XXXXXX");
    assert_non_null(mkdtemp(top));
    history = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(history >= 0);
    return 0;
}

static int tear_down(void **state)
{
    char command[128];

    (void)state;
    close(history);
    snprintf(command, sizeof(command), "rm -rf %s", top);
    return system(command);
}

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* A session of some KiB, last written to so many days ago; returns its lock, to be held or closed. */
static int session(unsigned id, unsigned kib, unsigned days)
{
    const struct timespec at[2] = {{time(NULL) - (time_t)days * 86400, 0}, {time(NULL) - (time_t)days * 86400, 0}};
    static char zeros[1024];
    char name[64];
    int dir, fd, lock;

    snprintf(name, sizeof(name), "%u", id);
    assert_int_equal(mkdirat(history, name, 0700), 0);
    dir = openat(history, name, O_RDONLY | O_DIRECTORY);
    assert_int_equal(mkdirat(dir, "payloads", 0700), 0);
    fd = openat(dir, "payloads/flow", O_WRONLY | O_CREAT, 0600);
    for (unsigned i = 0; i < kib; i++)
        assert_int_equal(write(fd, zeros, sizeof(zeros)), sizeof(zeros));
    futimens(fd, at);
    close(fd);
    lock = openat(dir, "lock", O_RDWR | O_CREAT, 0600);
    futimens(lock, at);
    close(dir);
    return lock;
}

static bool is_there(unsigned id)
{
    char name[64];

    snprintf(name, sizeof(name), "%u", id);
    return faccessat(history, name, F_OK, 0) == 0;
}

static void the_oldest_go_first(void **state)
{
    struct retained kept;

    (void)state;
    for (unsigned id = 8; id <= 12; id++) /* as numbers, not as texts */
        close(session(id, 256, 0));
    retention_apply(history, &(struct retention){.maxsize = 700 << 10, .days = 7, .running = 12, .now_ns = now_ns()}, &kept);
    assert_int_equal(kept.removed, 3);
    assert_false(is_there(8) || is_there(9) || is_there(10));
    assert_true(is_there(11) && is_there(12));
    assert_true(kept.bytes <= 700 << 10 && kept.running_bytes >= 256 << 10);
}

static void the_running_one_stays(void **state)
{
    struct retained kept;
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int lock;

    (void)state;
    lock = session(1, 256, 30); /* another one that is being written to */
    assert_int_equal(fcntl(lock, F_OFD_SETLK, &l), 0);
    close(session(2, 256, 30));
    close(session(3, 256, 30));
    close(session(4, 256, 30)); /* is just being made */
    retention_apply(history, &(struct retention){.maxsize = 1024, .days = 7, .running = 3, .now_ns = now_ns()}, &kept);
    assert_true(is_there(1) && !is_there(2) && is_there(3) && is_there(4));
    assert_int_equal(kept.removed, 1);
    close(lock);
}

static void old_ones_go(void **state)
{
    struct retained kept;

    (void)state;
    close(session(1, 1, 8));
    close(session(2, 1, 6));
    assert_int_equal(mkdirat(history, "notes", 0700), 0); /* nobody's session */
    retention_apply(history, &(struct retention){.days = 7, .running = 0, .now_ns = now_ns()}, &kept);
    assert_true(!is_there(1) && is_there(2));
    assert_int_equal(faccessat(history, "notes", F_OK, 0), 0);
    assert_int_equal(kept.rc, 0);
}

static void a_day_is_over(void **state)
{
    const uint64_t day = RETENTION_DAY_NS;

    (void)state;
    assert_false(retention_day_over(5 * day, 5 * day + 1, 1));
    assert_true(retention_day_over(6 * day - 1, 6 * day, 1)); /* midnight */
    assert_true(retention_day_over(5 * day, 5 * day, day));   /* the clock stands still */
    assert_false(retention_day_over(5 * day, 2 * day, 1));    /* it was set back */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_oldest_go_first, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_running_one_stays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(old_ones_go, set_up, tear_down),
        cmocka_unit_test(a_day_is_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
