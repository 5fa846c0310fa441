/* SPDX-License-Identifier: Apache-2.0 */
/* Threads that say they are about to die, and some that only say so; with a stand-in for what looks at processes. */
#include <dirent.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>

#include <cmocka.h>

#include "collector_bed.h"
#include "collector/crashes.h"
#include "crash/crash.h"

/* --- in place of src/crash --- */

struct crash_job {
    int fd;
};

static struct {
    unsigned begun, ended;          /* jobs */
    struct crash_cause cause;       /* of the last one */
    struct crash_wishes wishes;
    enum crash_step step;           /* of all */
    unsigned busy;                  /* for so many questions more they are busy */
    struct crash_summary sum;
} fake;

struct crash_job *crash_begin(const struct crash_cause *cause, const struct crash_wishes *wishes, int dir, uid_t owner,
                              gid_t group, unsigned timeout_ms)
{
    struct crash_job *job = xcalloc(1, sizeof(*job));

    (void)timeout_ms;
    assert_int_equal(owner, geteuid());
    assert_int_equal(group, getegid());
    job->fd = openat(dir, "backtrace.txt", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(job->fd >= 0);
    close(job->fd);
    job->fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_true(job->fd >= 0);
    fake.begun++;
    fake.cause = *cause;
    fake.wishes = *wishes;
    return job;
}

int crash_fd(const struct crash_job *job)
{
    return job->fd;
}

pid_t crash_pid(const struct crash_job *job)
{
    (void)job;
    return 0;
}

enum crash_step crash_step(struct crash_job *job, struct crash_summary *ret)
{
    (void)job;
    if (fake.busy) {
        fake.busy--;
        return CRASH_BUSY;
    }
    if (fake.step == CRASH_OVER)
        *ret = fake.sum;
    return fake.step;
}

void crash_free(struct crash_job *job)
{
    fake.ended++;
    close(job->fd);
    free(job);
}

/* --- a collector with a session, and a process --- */

static struct session session;
static char dir[] = "/tmp/test-crashes-XXXXXX", template[sizeof(dir)];
static unsigned woken;

static void wake(void *ctx)
{
    (void)ctx;
    woken++;
}

static int setup_crashes(void **state)
{
    setup(state);
    strcpy(dir, template);
    assert_non_null(mkdtemp(dir));
    session = (struct session){.id = 1, .dir = dir, .pid = -1};
    options.session = &session;
    config_set(options.config, "libscope.snapshot.backtrace", "true", "test", NULL, NULL);
    c.base = event_base_new();
    assert_non_null(c.base);
    c.crashes = crashes_new(&c, wake, NULL);
    memset(&fake, 0, sizeof(fake));
    fake.sum = (struct crash_summary){.threads = 3, .top_count = 2, .stopped_ns = 1234567, .where = "NULL + 0x18", .panicked = true};
    strcpy(fake.sum.top[0].function, "boom");
    strcpy(fake.sum.top[0].module, "prog");
    strcpy(fake.sum.top[0].file, "prog.c");
    fake.sum.top[0].offset = 0x1f;
    fake.sum.top[0].line = 12;
    fake.sum.top[1].pc = 0x1234;
    strcpy(fake.sum.top[1].module, "libx.so");
    fake.sum.top[1].offset = 0x34;
    fake.sum.top[1].guessed = true;
    return 0;
}

static int teardown_crashes(void **state)
{
    char command[64];

    (void)state;
    fake.step = CRASH_OVER;
    crashes_finish(c.crashes);
    core_end(&c);
    crashes_last(c.crashes);
    crashes_free(c.crashes);
    core_free(&c);
    event_base_free(c.base);
    config_sources_free(options.config);
    told_clear();
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}

static void one_turn(void)
{
    segments_drain(&c, true); /* maps them, if somebody says something */
    crashes_turn(c.crashes);
}

/* As many as it takes from when a thread says so until everything is told. */
static void turns(void)
{
    for (int i = 0; i < 5; i++) {
        run();
        one_turn();
        run();
    }
}

static bool is_let_go(const struct seg_crash *at)
{
    return at->state == CRASH_DONE || at->state == CRASH_FREE;
}

static pid_t child_new(void)
{
    pid_t pid = fork();

    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* if the test fails */
        for (;;)
            pause();
    }
    assert_true(pid > 0);
    return pid;
}

static void child_end(pid_t pid)
{
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* A process that has the segment in its memory. */
static pid_t child_with(struct writer *w)
{
    pid_t pid;

    *w = prog(NOBODY);
    pid = child_new();
    w->h->pid = w->owner = w->pid = (uint32_t)pid;
    return pid;
}

/* What a thread writes; `pid` is its process's only one. */
static struct seg_crash *say(struct writer *w, unsigned place, pid_t pid)
{
    struct seg_crash *at = &w->h->crash[place];

    *at = (struct seg_crash){.state = CRASH_TOLD, .kind = CRASH_SIGNAL, .pid = (uint32_t)pid, .tid = (uint32_t)pid, .signo = SIGSEGV,
                             .code = SEGV_MAPERR, .addr = 0x18, .context = 0x7000};
    return at;
}

static unsigned dirs(void)
{
    char path[64];
    struct dirent *e;
    unsigned n = 0;
    DIR *d;

    snprintf(path, sizeof(path), "%s/crash", dir);
    d = opendir(path);
    while (d && (e = readdir(d)))
        n += e->d_name[0] != '.';
    if (d)
        closedir(d);
    return n;
}

/* --- tests --- */

/* It is answered at once, let go when it has been looked at, and told behind what was recorded before, its end last. */
static void test_crash(void **state)
{
    struct writer w;
    pid_t pid = child_with(&w);
    struct seg_crash *at = say(&w, 2, pid);
    struct proc *p;
    char path[96];
    struct stat st;

    (void)state;
    at->state = CRASH_FREE;
    p = attach(&w);
    assert_non_null(p);
    at->state = CRASH_TOLD;
    put_open(&w, 3, 1, "/last", 0);
    one_turn();
    assert_int_equal(at->state, CRASH_SEEN);
    assert_int_equal(fake.begun, 1);
    assert_int_equal(fake.cause.pid, pid);
    assert_int_equal(fake.cause.tid, pid);
    assert_int_equal(fake.cause.signo, SIGSEGV);
    assert_int_equal(fake.cause.code, SEGV_MAPERR);
    assert_true(fake.cause.addr == 0x18 && fake.cause.context == 0x7000);
    assert_true(fake.wishes.backtrace && !fake.wishes.core && !fake.wishes.if_panic);
    assert_null(fake.wishes.become); /* it is ours */
    snprintf(path, sizeof(path), "%s/crash/%d-1", dir, (int)pid);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode, S_IFDIR | 0700);
    one_turn();
    assert_int_equal(at->state, CRASH_SEEN);
    fake.step = CRASH_LET_GO;
    one_turn();
    assert_int_equal(at->state, CRASH_DONE);
    child_end(pid);
    proc_died(p);
    turns();
    expect_not("proc.exit", NULL); /* not before */
    expect_not("proc.crash", NULL);
    assert_true(crashes_busy(c.crashes));
    fake.step = CRASH_OVER;
    turns();
    expect("proc.crash", "signal=SIGSEGV signo=11 code=SEGV_MAPERR");
    expect("proc.crash", "address=0x18 where=NULL + 0x18 ");
    expect("proc.crash", "at=boom+0x1f at prog.c:12 in prog frames=boom+0x1f at prog.c:12 in prog,0x1234 in libx.so+0x34 (guessed) "
                         "threads=3");
    expect("proc.crash", path);
    assert_int_equal(count("proc.crash", NULL), 1);
    for (size_t i = 0, open = 0, crash = 0; i < told_count; i++) {
        open |= !strncmp(told[i], "fs.open", 7);
        crash |= !strncmp(told[i], "proc.crash", 10);
        assert_true(!crash || open);
        assert_true(strncmp(told[i], "proc.exit", 9) != 0 || crash);
    }
    assert_int_equal(fake.ended, 1);
    assert_false(crashes_busy(c.crashes));
    writer_free(&w);
}

/* A program that gives up by itself: where it was is not the library's function that ends it. */
static void test_abort(void **state)
{
    struct writer w;
    pid_t pid = child_with(&w);
    struct seg_crash *at;

    (void)state;
    fake.step = CRASH_OVER;
    fake.sum.top[1] = fake.sum.top[0];
    strcpy(fake.sum.top[0].function, "abort");
    strcpy(fake.sum.top[0].module, "libc.so.6");
    attach(&w);
    at = say(&w, 0, pid);
    at->signo = SIGABRT;
    at->code = SI_TKILL;
    at->sender = pid;
    turns();
    expect("proc.crash", "signal=SIGABRT signo=6 code=SI_TKILL");
    expect("proc.crash", "at=boom+0x1f at prog.c:12 in prog frames=abort+0x1f at prog.c:12 in libc.so.6,boom");
    child_end(pid);
    writer_free(&w);
}

/* Who isn't there, isn't its own, or makes no sense is let go, and nothing is looked at. */
static void test_forged(void **state)
{
    struct writer w;
    pid_t other = child_new(), pid = child_with(&w);
    struct writer left = prog((uint32_t)other); /* whoever had this number once: it isn't in this one's memory */
    struct seg_crash *at[5];

    (void)state;
    attach(&w);
    for (unsigned i = 0; i < 5; i++)
        at[i] = say(&w, i, pid);
    at[0]->pid = at[0]->tid = (uint32_t)other;
    at[1]->pid = at[1]->tid = 1;
    at[2]->tid = (uint32_t)other;
    at[3]->signo = 12345;
    at[4]->kind = 77;
    one_turn();
    for (unsigned i = 0; i < 5; i++)
        assert_true(is_let_go(at[i]));
    at[0] = say(&w, 0, (pid_t)0xffffffff);
    at[1] = say(&w, 1, 0);
    one_turn();
    assert_true(is_let_go(at[0]) && is_let_go(at[1]));
    attach(&left);
    at[0] = say(&left, 0, other);
    one_turn();
    assert_true(is_let_go(at[0]));
    assert_int_equal(fake.begun, 0);
    turns();
    expect_not("proc.crash", NULL);
    assert_int_equal(dirs(), 0);
    writer_free(&left);
    child_end(pid);
    child_end(other);
    writer_free(&w);
}

/* Saying so over and over costs no more than the budget allows. */
static void test_storm(void **state)
{
    struct writer w;
    pid_t pid = child_with(&w);
    uint64_t before = clock_now_mono();

    (void)state;
    fake.step = CRASH_OVER;
    attach(&w);
    for (unsigned i = 0; i < 100; i++) {
        for (unsigned k = 0; k < SEG_CRASHES; k++)
            say(&w, k, pid);
        one_turn();
        for (unsigned k = 0; k < SEG_CRASHES; k++)
            assert_int_not_equal(w.h->crash[k].state, CRASH_TOLD);
        run();
    }
    turns();
    assert_in_range(fake.begun, CRASH_EACH_BURST, CRASH_EACH_BURST + 1 + (clock_now_mono() - before) / CRASH_EACH_NS);
    child_end(pid);
    writer_free(&w);
}

/* More at a time than there are workers: the others wait, and each is told. */
static void test_many(void **state)
{
    pid_t pid[2 * CRASH_WORKERS];
    struct writer w[2 * CRASH_WORKERS];

    (void)state;
    for (unsigned i = 0; i < 2 * CRASH_WORKERS; i++) {
        pid[i] = child_with(&w[i]);
        attach(&w[i]);
        say(&w[i], 0, pid[i]);
    }
    one_turn();
    assert_int_equal(fake.begun, CRASH_WORKERS);
    for (unsigned i = 0; i < 2 * CRASH_WORKERS; i++)
        assert_int_equal(w[i].h->crash[0].state, CRASH_SEEN); /* they know that they are to wait */
    fake.step = CRASH_OVER;
    turns();
    assert_int_equal(fake.begun, 2 * CRASH_WORKERS);
    assert_int_equal(count("proc.crash", "signal=SIGSEGV"), 2 * CRASH_WORKERS);
    for (unsigned i = 0; i < 2 * CRASH_WORKERS; i++) {
        assert_int_equal(w[i].h->crash[0].state, CRASH_DONE);
        child_end(pid[i]);
        writer_free(&w[i]);
    }
}

/* A Go program that exits: only if it panics something is told. */
static void test_exit(void **state)
{
    struct writer w;
    pid_t pid = child_with(&w);
    struct seg_crash *at = &w.h->crash[0];

    (void)state;
    fake.step = CRASH_OVER;
    fake.sum.panicked = false;
    attach(&w);
    *at = (struct seg_crash){.state = CRASH_TOLD, .kind = CRASH_EXIT, .pid = (uint32_t)pid, .tid = (uint32_t)pid, .status = 2};
    turns();
    assert_int_equal(at->state, CRASH_DONE);
    assert_int_equal(fake.begun, 1);
    assert_true(fake.wishes.if_panic);
    assert_int_equal(dirs(), 0);
    assert_false(crashes_busy(c.crashes));
    expect_not("proc.crash", NULL);
    fake.sum.panicked = true;
    strcpy(fake.sum.goroutine, "18");
    at->state = CRASH_TOLD;
    turns();
    assert_int_equal(fake.cause.status, 2);
    assert_int_equal(fake.cause.signo, 0);
    expect("proc.crash", "exit_code=2 where=");
    expect("proc.crash", "goroutine=18");
    assert_int_equal(dirs(), 1);
    child_end(pid);
    writer_free(&w);
}

/* Nobody has said so, but the kernel. */
static void test_untold(void **state)
{
    pid_t pid = child_new();
    struct writer w = prog((uint32_t)getpid());
    int32_t status = SIGABRT | 0x80;
    struct proc *p;

    (void)state;
    attach(&w);
    writer_put(&w, REC_ENTER, OP_fork, 0, NULL, 0, NULL);
    writer_put(&w, REC_CALL, OP_fork, pid, NULL, 0, NULL);
    run();
    p = proc_by_host_pid(&c.model, pid);
    assert_non_null(p);
    writer_put(&w, REC_CALL, OP_wait4, pid, NULL, 0, ITEMS({ITEM_STATUS, &status, sizeof(status)}));
    run();
    child_end(pid);
    proc_died(p);
    turns();
    expect("proc.crash", "signal=SIGABRT signo=6 missing=no trace: ");
    assert_int_equal(count("proc.crash", NULL), 1);
    writer_free(&w);
}

/* A place is another one's when its thread is gone. */
static void test_place_again(void **state)
{
    struct writer w;
    pid_t pid = child_with(&w);
    struct seg_crash *at;

    (void)state;
    fake.step = CRASH_OVER;
    attach(&w);
    at = say(&w, 0, pid);
    turns();
    assert_int_equal(at->state, CRASH_DONE);
    usleep(150000);
    turns();
    assert_int_equal(at->state, CRASH_DONE); /* it is there */
    child_end(pid);
    usleep(150000);
    one_turn();
    assert_int_equal(at->state, CRASH_FREE);
    writer_free(&w);
}

/* Nobody wants it: nothing is answered. */
static void test_off(void **state)
{
    struct writer w;
    pid_t pid = child_with(&w);

    (void)state;
    config_set(options.config, "libscope.snapshot.backtrace", "false", "test", NULL, NULL);
    attach(&w);
    say(&w, 0, pid);
    turns();
    assert_int_equal(w.h->crash[0].state, CRASH_TOLD);
    assert_int_equal(fake.begun, 0);
    child_end(pid);
    writer_free(&w);
}

/* The session ends while a worker is busy and another crash waits: both are let go and told. */
static void test_end(void **state)
{
    pid_t pid[CRASH_WORKERS + 1];
    struct writer w[CRASH_WORKERS + 1];

    (void)state;
    for (unsigned i = 0; i <= CRASH_WORKERS; i++) {
        pid[i] = child_with(&w[i]);
        attach(&w[i]);
        say(&w[i], 0, pid[i]);
    }
    one_turn();
    fake.busy = CRASH_WORKERS;
    fake.step = CRASH_OVER;
    crashes_finish(c.crashes);
    core_process(&c, UINT64_MAX);
    for (unsigned i = 0; i <= CRASH_WORKERS; i++)
        assert_int_equal(w[i].h->crash[0].state, CRASH_DONE);
    assert_int_equal(count("proc.crash", "at=boom"), CRASH_WORKERS);
    assert_int_equal(count("proc.crash", "missing=the session was ended"), 1);
    for (unsigned i = 0; i <= CRASH_WORKERS; i++) {
        child_end(pid[i]);
        writer_free(&w[i]);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_crashes, teardown_crashes)
    const struct CMUnitTest tests[] = {
        TEST(test_crash), TEST(test_abort), TEST(test_forged), TEST(test_storm), TEST(test_many), TEST(test_exit),
        TEST(test_untold), TEST(test_place_again), TEST(test_off), TEST(test_end),
    };

    strcpy(template, dir);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
