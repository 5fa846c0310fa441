/* SPDX-License-Identifier: Apache-2.0 */
/* The session store: ids, modes, metadata, damage, locks, the question to the collector. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "session/session.h"
#include "wire/join.h"

static char home[64];

static int make_home(void **state)
{
    (void)state;
    snprintf(home, sizeof(home), "/tmp/scope-test-session-XXXXXX");
    if (!mkdtemp(home))
        return -1;
    return setenv("SCOPE_HOME", home, 1);
}

static int remove_home(void **state)
{
    char *command = xasprintf("rm -rf '%s'", home);
    int rc = system(command);

    (void)state;
    free(command);
    return rc;
}

static uint64_t now_ns(clockid_t clock)
{
    struct timespec ts;

    clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void put(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void create(struct session *s)
{
    char *what = NULL;

    *s = (struct session){.exit_code = -1};
    assert_int_equal(session_create(s, &what), 0);
    assert_null(what);
}

static unsigned mode_of(const char *path)
{
    struct stat st;

    assert_int_equal(lstat(path, &st), 0);
    return st.st_mode & 07777;
}

static void test_base(void **state)
{
    char *base, *cwd = getcwd(NULL, 0), *want = xasprintf("%s/here", cwd);

    (void)state;
    base = session_base();
    assert_string_equal(base, home);
    free(base);
    setenv("SCOPE_HOME", "here", 1);
    base = session_base();
    assert_string_equal(base, want);
    free(base);
    free(want);
    free(cwd);
    unsetenv("SCOPE_HOME");
    setenv("HOME", "/nonexistent/me", 1);
    base = session_base();
    assert_string_equal(base, "/nonexistent/me/.scope");
    free(base);
    unsetenv("HOME");
    setenv("TMPDIR", "/nonexistent/tmp", 1);
    base = session_base();
    assert_string_equal(base, "/nonexistent/tmp/.scope");
    free(base);
    unsetenv("TMPDIR");
}

static void test_private_files(void **state)
{
    static const struct {
        const char *name;
        unsigned mode;
    } want[] = {
        {"", 0700},           {"/payloads", 0700},    {"/cmd", 0700}, {"/journal", 0600},
        {"/scope.log", 0600}, {"/session.json", 0600}};
    struct session s;
    mode_t old = umask(0);

    (void)state;
    create(&s);
    assert_int_equal(s.id, 1);
    assert_int_equal(session_save(&s, -1), 0);
    umask(old);
    for (size_t i = 0; i < sizeof(want) / sizeof(*want); i++) {
        char *path = xasprintf("%s%s", s.dir, want[i].name);

        assert_int_equal(mode_of(path), want[i].mode);
        free(path);
    }
    session_clear(&s);
}

static void test_round_trip(void **state)
{
    struct session s, got;
    char *argv[] = {(char *)"prog", (char *)"a b", (char *)"bad \xff utf8", (char *)"", NULL};

    (void)state;
    create(&s);
    s.command = xstrdup("prog");
    s.argv = argv;
    s.cwd = xstrdup("/somewhere");
    s.kind = xstrdup("run");
    s.pid = 4242;
    s.socket = xstrdup("scope-test");
    s.start_ns = UINT64_C(1700000000123456789);
    s.end_ns = UINT64_C(1700000001123456789);
    s.event_dest = xstrdup("file:///x/events.json");
    s.metric_format = xstrdup("ndjson");
    s.events = 12345678901;
    s.metrics = 7;
    s.processes = 3;
    s.held_back = 9;
    s.lost_count = 2;
    s.lost = xcalloc(2, sizeof(*s.lost));
    s.lost[0].kind = xstrdup("ring");
    s.lost[0].count = 17;
    s.lost[1].kind = xstrdup("queue");
    s.lost[1].count = 1;
    s.exit_code = 3;
    s.exit_signal = 0;
    assert_int_equal(session_save(&s, -1), 0);
    assert_int_equal(session_load(0, &got), 0);
    assert_int_equal(got.id, s.id);
    assert_string_equal(got.dir, s.dir);
    assert_string_equal(got.command, "prog");
    assert_string_equal(got.argv[1], "a b");
    assert_string_equal(got.argv[2], "bad \xef\xbf\xbd utf8");
    assert_string_equal(got.argv[3], "");
    assert_null(got.argv[4]);
    assert_string_equal(got.cwd, "/somewhere");
    assert_string_equal(got.kind, "run");
    assert_int_equal(got.pid, 4242);
    assert_string_equal(got.socket, "scope-test");
    assert_true(got.start_ns == s.start_ns && got.end_ns == s.end_ns);
    assert_string_equal(got.event_dest, "file:///x/events.json");
    assert_null(got.metric_dest);
    assert_true(got.events == 12345678901);
    assert_int_equal(got.lost_count, 2);
    assert_string_equal(got.lost[0].kind, "ring");
    assert_int_equal(got.lost[0].count, 17);
    assert_int_equal(got.exit_code, 3);
    assert_false(got.telemetry_stopped);
    session_clear(&got);
    s.argv = NULL;
    session_clear(&s);
}

static void test_ids_are_never_reused(void **state)
{
    struct session a, b, c;
    char *count = xasprintf("%s/count", home);

    (void)state;
    create(&a);
    create(&b);
    assert_true(b.id == a.id + 1);
    a.start_ns = b.start_ns = 1;
    assert_int_equal(session_remove(&b), 0);
    create(&c); /* the directory is gone, the number stays used */
    assert_true(c.id == b.id + 1);
    session_clear(&b);
    session_clear(&c);
    put(count, "rubbish\n"); /* a damaged count is made good from the directories */
    create(&b);
    assert_true(b.id == a.id + 3);
    session_clear(&b);
    put(count, "99999999999999999999999999\n");
    create(&b);
    assert_true(b.id == a.id + 4);
    session_clear(&a);
    session_clear(&b);
    free(count);
}

static void test_many_at_once(void **state)
{
    struct session *list;
    size_t count;

    (void)state;
    for (int i = 0; i < 8; i++) {
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
            for (int n = 0; n < 10; n++) {
                struct session s = {.exit_code = -1};
                char *what;

                if (session_create(&s, &what) < 0 || session_save(&s, -1) < 0)
                    _exit(1);
                session_clear(&s);
            }
            _exit(0);
        }
    }
    for (int i = 0; i < 8; i++) {
        int status;

        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    assert_int_equal(session_list(&list, &count), 0);
    assert_int_equal(count, 80);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(list[i].id, i + 1);
        session_clear(&list[i]);
    }
    free(list);
}

static void test_foreign_and_damaged(void **state)
{
    static const char *const names[] = {"007", "x", "1_2_3", "-4", "18446744073709551616", ".hidden"};
    struct session s, got, *list;
    size_t count;
    char *path;

    (void)state;
    create(&s);
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        path = xasprintf("%s/history/%s", home, names[i]);
        assert_int_equal(mkdir(path, 0700), 0);
        free(path);
    }
    path = xasprintf("%s/history/77", home); /* a file, no directory */
    put(path, "");
    free(path);
    assert_int_equal(session_list(&list, &count), 0);
    assert_int_equal(count, 1);
    assert_string_equal(list[0].command, "?"); /* session.json is not there yet */
    session_clear(&list[0]);
    free(list);

    path = xasprintf("%s/session.json", s.dir);
    put(path, "{\"id\": 1, \"command\": ");
    assert_int_equal(session_load(s.id, &got), -EINVAL);
    assert_string_equal(got.dir, s.dir);
    session_clear(&got);
    put(path, "[]");
    assert_int_equal(session_load(s.id, &got), -EINVAL);
    session_clear(&got);
    /* Members of the wrong type are as if they were missing. */
    put(path, "{\"id\": 1, \"command\": 5, \"argv\": {\"a\": 1}, \"pid\": -3, \"events\": \"x\", \"lost\": [1], "
              "\"exit_code\": 100000, \"end_ns\": 5}");
    assert_int_equal(session_load(s.id, &got), 0);
    assert_string_equal(got.command, "?");
    assert_null(got.argv[0]);
    assert_int_equal(got.pid, 0);
    assert_int_equal(got.events, 0);
    assert_int_equal(got.lost_count, 0);
    assert_int_equal(got.exit_code, -1);
    session_clear(&got);
    free(path);
    assert_int_equal(session_load(12345, &got), -ENOENT);
    session_clear(&s);
}

static void test_unwritable(void **state)
{
    struct session s = {0};
    char *what = NULL, *file = xasprintf("%s/file", home), *inside = xasprintf("%s/deeper", file);

    (void)state;
    put(file, "");
    setenv("SCOPE_HOME", inside, 1);
    assert_int_equal(session_create(&s, &what), -ENOTDIR);
    assert_non_null(what);
    free(what);
    setenv("SCOPE_HOME", home, 1);
    free(file);
    free(inside);
}

static void test_remove_follows_no_links(void **state)
{
    struct session s;
    char *victim = xasprintf("%s/victim", home), *inside = xasprintf("%s/kept", victim), *link_, *sub;

    (void)state;
    create(&s);
    assert_int_equal(mkdir(victim, 0700), 0);
    put(inside, "x");
    link_ = xasprintf("%s/payloads/link", s.dir);
    assert_int_equal(symlink(victim, link_), 0);
    sub = xasprintf("%s/payloads/sub", s.dir);
    assert_int_equal(mkdir(sub, 0700), 0);
    free(link_);
    link_ = xasprintf("%s/file", sub);
    put(link_, "x");
    assert_int_equal(session_remove(&s), 0);
    assert_int_equal(access(inside, F_OK), 0);
    assert_int_equal(access(s.dir, F_OK), -1);
    free(link_);
    free(sub);
    free(victim);
    free(inside);
    session_clear(&s);
}

static void test_starting_session_is_left(void **state)
{
    struct session s;

    (void)state;
    create(&s);
    s.start_ns = now_ns(CLOCK_REALTIME);
    assert_int_equal(session_remove(&s), -EBUSY);
    s.start_ns -= UINT64_C(3600000000000);
    assert_int_equal(session_remove(&s), 0);
    session_clear(&s);
}

static void test_lock(void **state)
{
    struct session s, got;
    int fd;

    (void)state;
    create(&s);
    assert_false(session_running(&s));
    fd = session_lock(s.dir);
    assert_true(fd >= 0);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_true(session_running(&s));
    assert_int_equal(session_lock(s.dir), -EWOULDBLOCK);
    assert_int_equal(session_remove(&s), -EBUSY);
    /* A collector that is gone without having written an end. */
    s.collector = getpid();
    assert_int_equal(session_save(&s, -1), 0);
    assert_int_equal(session_load(s.id, &got), 0);
    assert_false(got.telemetry_stopped);
    session_clear(&got);
    close(fd);
    assert_false(session_running(&s));
    assert_int_equal(session_load(s.id, &got), 0);
    assert_true(got.telemetry_stopped);
    session_clear(&got);
    session_clear(&s);
}

/* A collector that holds the lock, and does with a SYNC request what `behaviour` says. */
enum behaviour { ANSWERS, SILENT, HANGS_UP, ENDS };

static pid_t start_collector(struct session *s, enum behaviour how)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int ready[2], l = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    char byte;
    pid_t pid;

    free(s->socket);
    s->socket = xasprintf("scope-test-session-%d", (int)getpid());
    snprintf(addr.sun_path + 1, sizeof(addr.sun_path) - 1, "%s" JOIN_REQUESTS, s->socket);
    assert_int_equal(bind(l, (struct sockaddr *)&addr,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(addr.sun_path + 1))),
                     0);
    assert_int_equal(listen(l, 4), 0);
    assert_int_equal(pipe(ready), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct join_request req;
        struct join_reply reply = {.magic = JOIN_MAGIC};
        ssize_t n;
        int c;

        if (session_lock(s->dir) < 0 || write(ready[1], "", 1) != 1)
            _exit(1);
        if (how == ENDS) {
            close(l);
            usleep(100000); /* still writing */
            _exit(0);
        }
        c = accept(l, NULL, NULL);
        n = recv(c, &req, sizeof(req), 0);
        if (n < (ssize_t)offsetof(struct join_request, path) || req.magic != JOIN_MAGIC || req.type != JOIN_SYNC)
            _exit(2);
        if (how == ANSWERS)
            send(c, &reply, sizeof(reply), 0);
        if (how == HANGS_UP)
            _exit(0);
        pause();
        _exit(0);
    }
    close(l);
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return pid;
}

static void stop_collector(pid_t pid)
{
    int status;

    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status))
        assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_sync(void **state)
{
    struct session s;
    uint64_t from;
    pid_t pid;

    (void)state;
    create(&s);
    assert_int_equal(session_sync(&s, 1000), 0); /* nobody to ask */

    pid = start_collector(&s, ANSWERS);
    assert_int_equal(session_sync(&s, 5000), 0);
    assert_true(session_running(&s));
    stop_collector(pid);

    pid = start_collector(&s, SILENT);
    from = now_ns(CLOCK_MONOTONIC);
    assert_int_equal(session_sync(&s, 200), -ETIMEDOUT);
    assert_in_range((now_ns(CLOCK_MONOTONIC) - from) / 1000000, 190, 3000);
    stop_collector(pid);

    pid = start_collector(&s, HANGS_UP);
    assert_int_equal(session_sync(&s, 5000), 0);
    assert_false(session_running(&s));
    stop_collector(pid);

    pid = start_collector(&s, ENDS);
    from = now_ns(CLOCK_MONOTONIC);
    assert_int_equal(session_sync(&s, 5000), 0); /* waits until it has gone */
    assert_false(session_running(&s));
    assert_in_range((now_ns(CLOCK_MONOTONIC) - from) / 1000000, 50, 3000);
    stop_collector(pid);
    session_clear(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_base, make_home, remove_home),
        cmocka_unit_test_setup_teardown(test_private_files, make_home, remove_home),
        cmocka_unit_test_setup_teardown(test_round_trip, make_home, remove_home),
        cmocka_unit_test_setup_teardown(test_ids_are_never_reused, make_home, remove_home),
        cmocka_unit_test_setup_teardown(test_many_at_once, make_home, remove_home),
        cmocka_unit_test_setup_teardown(test_foreign_and_damaged, make_home, remove_home),
        cmocka_unit_test_setup_teardown(test_unwritable, make_home, remove_home),
        cmocka_unit_test_setup_teardown(test_remove_follows_no_links, make_home, remove_home),
        cmocka_unit_test_setup_teardown(test_starting_session_is_left, make_home, remove_home),
        cmocka_unit_test_setup_teardown(test_lock, make_home, remove_home),
        cmocka_unit_test_setup_teardown(test_sync, make_home, remove_home),
    };

    return cmocka_run_group_tests_name("session", tests, NULL, NULL);
}
