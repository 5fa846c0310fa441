/* SPDX-License-Identifier: Apache-2.0 */
/* What scope daemon does with a process whose core it gets, and with the place for crashes, when somebody means ill. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/safe_path.h"
#include "cli/crash_store.h"
#include "cli/dying.h"

#define STRANGER 54321u
#define HEAD (1u << 20) /* more than a pipe takes */
#define DAYS (UINT64_C(86400) * 1000000000)

static char top[64];
static int dir = -1;

static int setup(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    snprintf(top, sizeof(top), "/tmp/test-dying-XXXXXX");
    if (!mkdtemp(top) || chmod(top, 0777) < 0)
        return -1;
    dir = open(top, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return dir < 0 ? -1 : 0;
}

static int teardown(void **state)
{
    int tmp = open("/tmp", O_PATH | O_DIRECTORY | O_CLOEXEC), rc = safe_remove_tree(tmp, top + strlen("/tmp/"), NULL);

    (void)state;
    close(tmp);
    close(dir);
    return rc;
}

static void close_pipe(int ends[2])
{
    close(ends[0]);
    if (ends[1] >= 0)
        close(ends[1]);
}

/* --- whose number it is --- */

static void test_doubt(void **state)
{
    struct dying d = {.pid = getpid(), .tid = getpid(), .uid = getuid(), .gid = getgid(), .mode = 1};
    struct heir heir;
    int ends[2];

    (void)state;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    dying_read(&d, ends[0]);
    assert_non_null(d.doubt); /* it runs */
    assert_non_null(strstr(d.doubt, "doesn't dump core"));
    assert_true(d.root < 0 && d.cwd < 0 && d.pidfd < 0);
    d.limit = UINT64_MAX;
    assert_int_equal(heir_start(&d, "core", &heir), -ESRCH);
    assert_int_equal(heir.pid, 0);
    dying_clear(&d);
    close(ends[1]);
    ends[1] = -1;
    assert_false(dying_stands(ends[0]));
    d = (struct dying){.pid = getpid(), .tid = getpid(), .uid = getuid(), .gid = getgid(), .mode = 1};
    dying_read(&d, ends[0]);
    assert_non_null(strstr(d.doubt, "went away"));
    dying_clear(&d);
    close_pipe(ends);
}

/* --- who gets the core --- */

/* A process of a user's, whose working directory is top. */
static struct dying proven(uid_t uid)
{
    return (struct dying){.pid = 1,
                          .tid = 1,
                          .uid = uid,
                          .gid = uid,
                          .fsuid = uid,
                          .fsgid = uid,
                          .limit = UINT64_MAX,
                          .mode = 1,
                          .root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC),
                          .cwd = open(top, O_PATH | O_DIRECTORY | O_CLOEXEC),
                          .uts = -1,
                          .pidfd = -1};
}

static void test_not_roots(void **state)
{
    struct dying d = proven(STRANGER);
    struct heir heir;

    (void)state;
    d.fsuid = 0;
    assert_int_equal(heir_start(&d, "core", &heir), -EPERM);
    assert_int_equal(heir.pid, 0);
    dying_clear(&d);
}

static void need_root(void)
{
    if (geteuid() != 0) /* chroot(2) */
        skip();
}

static void test_file(void **state)
{
    struct dying d = proven(STRANGER);
    char *head = malloc(HEAD), *back = malloc(HEAD + 5), path[96];
    struct heir heir;
    struct stat st;
    int ends[2], fd;

    (void)state;
    need_root();
    memset(head, 'x', HEAD);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(heir_start(&d, "file", &heir), 0);
    assert_true(heir.pid > 0);
    heir.stall_ms = 120000; /* however busy the machine is */
    assert_int_equal(write(ends[1], "rest\n", 5), 5);
    close(ends[1]);
    ends[1] = -1;
    assert_int_equal(heir_feed(&heir, head, HEAD, ends[0]), 0);
    heir_end(&heir);
    snprintf(path, sizeof(path), "%s/file", top);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    assert_int_equal(st.st_size, HEAD + 5);
    assert_int_equal(st.st_uid, STRANGER);
    assert_int_equal(read(fd, back, HEAD + 5), HEAD + 5);
    assert_memory_equal(back, head, HEAD);
    assert_memory_equal(back + HEAD, "rest\n", 5);
    close(fd);
    close_pipe(ends);
    dying_clear(&d);
    free(head);
    free(back);
}

/* It has its user's rights, so that one may stop it. */
static void test_stopped(void **state)
{
    struct dying d = proven(STRANGER);
    char *head = calloc(1, HEAD);
    struct heir heir;
    int ends[2];
    pid_t pid;

    (void)state;
    need_root();
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    for (int i = 0; i < 2; i++) { /* while it gets something; after that */
        if (i == 1) {
            close(ends[1]); /* before a child could have it, too */
            ends[1] = -1;
        }
        assert_int_equal(heir_start(&d, "stopped", &heir), 0);
        pid = heir.pid;
        assert_true(heir.file);
        assert_int_equal(kill(pid, SIGSTOP), 0);
        assert_int_equal(waitpid(pid, NULL, WUNTRACED), pid);
        heir.stall_ms = 200;
        assert_int_equal(heir_feed(&heir, head, i ? 4096 : HEAD, ends[0]), i ? 0 : -ETIMEDOUT);
        heir_end(&heir);
        assert_int_equal(waitpid(pid, NULL, WNOHANG), -1); /* it is gone */
    }
    close_pipe(ends);
    dying_clear(&d);
    free(head);
}

/* Who writes the core, or gets it, may stand still, or nearly so. */
static void test_endless(void **state)
{
    struct dying d = proven(getuid());
    struct heir heir;
    int ends[2];
    pid_t pid;

    (void)state;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(heir_start(&d, "|/bin/sleep 1000", &heir), 0);
        pid = heir.pid;
        assert_false(heir.file);
        *(i ? &heir.total_ms : &heir.stall_ms) = 200;
        assert_int_equal(heir_feed(&heir, "head", 4, ends[0]), -ETIMEDOUT);
        heir.until = UINT64_MAX; /* it has been killed */
        heir_end(&heir);
        assert_int_equal(waitpid(pid, NULL, WNOHANG), -1);
    }
    close_pipe(ends);
    dying_clear(&d);
}

/* --- the place for crashes --- */

static void test_slots(void **state)
{
    int one = crash_store_slot(dir, 1000, 0), two = crash_store_slot(dir, 1000, 0), three, four, kept;

    (void)state;
    assert_true(one >= 0 && two >= 0);
    assert_int_equal(crash_store_slot(dir, 1000, 0), -EAGAIN); /* one user's part */
    three = crash_store_slot(dir, 1001, 0);
    four = crash_store_slot(dir, UINT32_MAX, 0);
    assert_true(three >= 0 && four >= 0);
    assert_int_equal(crash_store_slot(dir, 1002, 0), -EAGAIN); /* all */
    kept = dup(one);
    crash_store_free_slot(one);
    one = crash_store_slot(dir, 1000, 0);
    assert_true(one >= 0);
    close(kept);
    crash_store_free_slot(one);
    crash_store_free_slot(two);
    crash_store_free_slot(three);
    crash_store_free_slot(four);
}

/* So many crashes of a user, at the beginning of 2024. */
static void fill(unsigned uid, unsigned count)
{
    char name[96];

    for (unsigned i = 0; i < count; i++) {
        snprintf(name, sizeof(name), "20240101T000000.%06uZ-1-%u-old", i, uid);
        assert_int_equal(mkdirat(dir, name, 0700), 0);
    }
}

static int make(uid_t uid, enum crash_store_why *why)
{
    char name[128];
    int rc = crash_store_make(dir, 1, uid, "x", 100, name, why);

    if (rc >= 0)
        close(rc);
    return rc < 0 ? rc : 0;
}

static void test_bounded(void **state)
{
    const unsigned part = CRASH_STORE_MAX / CRASH_STORE_SHARE;
    struct crash_stored *list;
    enum crash_store_why why;
    unsigned removed;
    size_t count;

    (void)state;
    fill(1000, part);
    assert_int_equal(make(1000, &why), -EAGAIN); /* one user's part */
    assert_int_equal(why, STORE_FULL);
    assert_int_equal(make(1001, &why), 0);
    for (unsigned i = 2; i < 5; i++)
        fill(1000 + i, part);
    assert_int_equal(make(1001, &why), -EAGAIN); /* all */
    assert_int_equal(why, STORE_FULL);
    assert_int_equal(crash_store_trim(dir, 36500 * DAYS, UINT64_MAX, &removed), 0);
    assert_true(removed >= 4 * part / 20);
    assert_int_equal(make(1000, &why), 0);
    assert_int_equal(make(1001, &why), 0);
    assert_int_equal(crash_store_list(dir, &list, &count), 0);
    assert_in_range(count, CRASH_STORE_MAX / 2, CRASH_STORE_MAX - 1);
    assert_int_equal(list[count - 1].uid, 1001); /* no young one is gone */
    free(list);
    assert_int_equal(crash_store_trim(dir, 0, 0, &removed), 0); /* but for those of the last minutes */
    assert_int_equal(crash_store_list(dir, &list, &count), 0);
    assert_int_equal(count, 3);
    free(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_doubt, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_roots, setup, teardown),
        cmocka_unit_test_setup_teardown(test_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stopped, setup, teardown),
        cmocka_unit_test_setup_teardown(test_endless, setup, teardown),
        cmocka_unit_test_setup_teardown(test_slots, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bounded, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
