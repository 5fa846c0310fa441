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
#include "collector/crash_files.h"
#include "collector/crashes.h"
#include "collector/kept.h"
#include "crash/crash.h"
#include "model/procinfo.h"

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
    off_t text, core;               /* bytes of the files that it leaves */
    pid_t left;                     /* a worker that the next one leaves */
    bool forks;                     /* of each job two workers, which ask whether it is the process still, each ... */
    pid_t workers[2];
    int ask[2];                     /* ... when a byte is written there */
} fake;

static void fork_workers(const struct crash_wishes *wishes)
{
    for (unsigned i = 0; i < 2; i++) {
        int ends[2];
        char byte;

        assert_int_equal(pipe(ends), 0);
        fake.workers[i] = fork();
        if (fake.workers[i] == 0)
            _exit(read(ends[0], &byte, 1) == 1 ? -wishes->still(wishes->ctx) : 77);
        assert_true(fake.workers[i] > 0);
        close(ends[0]);
        fake.ask[i] = ends[1];
    }
}

struct crash_job *crash_begin(const struct crash_cause *cause, const struct crash_wishes *wishes, int dir, uid_t owner,
                              gid_t group, unsigned timeout_ms)
{
    struct crash_job *job = xcalloc(1, sizeof(*job));

    (void)timeout_ms;
    assert_int_equal(owner, geteuid());
    assert_int_equal(group, getegid());
    job->fd = openat(dir, "backtrace.txt", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(job->fd >= 0);
    assert_int_equal(ftruncate(job->fd, fake.text), 0);
    close(job->fd);
    if (wishes->core) {
        job->fd = openat(dir, "core", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        assert_true(job->fd >= 0);
        assert_int_equal(posix_fallocate(job->fd, 0, fake.core), 0);
        close(job->fd);
    }
    job->fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_true(job->fd >= 0);
    fake.begun++;
    fake.cause = *cause;
    fake.wishes = *wishes;
    if (fake.forks)
        fork_workers(wishes);
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

pid_t crash_free(struct crash_job *job)
{
    pid_t left = fake.left;

    fake.left = 0;
    fake.ended++;
    close(job->fd);
    free(job);
    return left;
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

/* The kernel doesn't tell what has ended it, as those before Linux 6.15 don't: what it has said itself counts. */
static void test_end_unknown(void **state)
{
    struct writer w;
    pid_t pid = child_with(&w);
    struct proc *p;

    (void)state;
    fake.step = CRASH_OVER;
    p = attach(&w);
    assert_non_null(p);
    say(&w, 0, pid);
    turns();
    expect("proc.crash", "signal=SIGSEGV");
    child_end(pid);
    if (p->pidfd >= 0)
        close(p->pidfd);
    p->pidfd = -1;
    proc_died(p);
    turns();
    expect_not("proc.exit", NULL); /* its parent may have waited for it */
    c.stopping = true;
    turns();
    expect("proc.exit", "signal=SIGSEGV");
    assert_int_equal(count("proc.exit", NULL), 1);
    writer_free(&w);
}

static void expect_pending(const char *text)
{
    struct buf b = BUF_INIT;

    crashes_describe(c.crashes, &b);
    buf_char(&b, '\0');
    if (text && !strstr(b.p, text))
        fail_msg("'%s' isn't in %s", text, b.p);
    if (!text)
        assert_string_equal(b.p, "[]");
    buf_free(&b);
}

/* Who asks is told of it as soon as it was said, and until all is written. */
static void test_pending(void **state)
{
    struct writer w;
    pid_t pid = child_with(&w);
    char text[64];

    (void)state;
    attach(&w);
    expect_pending(NULL);
    say(&w, 0, pid);
    one_turn();
    snprintf(text, sizeof(text), "[{\"number\":1,\"pid\":%d,\"proc\":\"", (int)pid);
    expect_pending(text);
    expect_pending("\"signal\":\"SIGSEGV\",\"time\":");
    expect_pending("\"state\":\"stands\"}]");
    fake.step = CRASH_LET_GO;
    one_turn();
    expect_pending("\"state\":\"names\"}]");
    fake.step = CRASH_OVER;
    one_turn();
    assert_int_equal(count("proc.crash", NULL), 0);
    expect_pending("\"state\":\"ends\"}]");
    turns();
    assert_int_equal(count("proc.crash", NULL), 1);
    expect_pending(NULL);
    child_end(pid);
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

/* A worker that is left is nobody's to wait for: not when the session ends either. */
static void test_left(void **state)
{
    struct writer w;
    pid_t pid = child_with(&w), left;

    (void)state;
    attach(&w);
    say(&w, 0, pid);
    one_turn();
    assert_int_equal(fake.begun, 1);
    fake.left = left = child_new();
    fake.step = CRASH_OVER;
    turns();
    assert_int_equal(fake.left, 0);
    assert_false(crashes_busy(c.crashes));
    for (int i = 0; i < 2000 && kill(left, 0) == 0; i++) { /* it needs a CPU for its end */
        usleep(10000);
        turns();
    }
    assert_int_equal(kill(left, 0), -1); /* it was ended and reaped; the process wasn't */
    assert_int_equal(errno, ESRCH);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), 0);
    assert_int_equal(kill(pid, 0), 0);
    child_end(pid);
    writer_free(&w);
}

/* Guests are looked for with pauses in between. */
static void guest_turns(const struct seg_crash *at)
{
    for (int i = 0; i < 20000 && at->state == CRASH_TOLD; i++) {
        one_turn();
        usleep(1000);
    }
    turns();
}

static struct segment *guest_of(struct writer *w)
{
    struct proc *p = attach(w);

    assert_non_null(p);
    p->seg->guest = true;
    p->seg->map.info.euid = geteuid();
    p->seg->map.info.egid = getegid();
    return p->seg;
}

/* A guest's process must be its user's still. The worker becomes who it was when the segment came. */
static void test_guest_user(void **state)
{
    struct writer w, other;
    pid_t pid = child_with(&w), changed = child_with(&other);
    struct seg_crash *at;

    (void)state;
    fake.step = CRASH_OVER;
    guest_of(&w);
    guest_turns(say(&w, 0, pid));
    assert_int_equal(fake.begun, 1);
    assert_true(fake.wishes.keep_fd > 2);
    assert_int_equal(fake.wishes.become != NULL, geteuid() == 0);
    guest_of(&other)->map.info.euid = 12345; /* so it has executed a set-user-ID program since */
    at = say(&other, 0, changed);
    guest_turns(at);
    assert_true(is_let_go(at));
    assert_int_equal(fake.begun, geteuid() == 0 ? 1 : 2);
    child_end(pid);
    child_end(changed);
    writer_free(&w);
    writer_free(&other);
}

/* The worker asks again when the threads stand. */
static void test_still(void **state)
{
    struct writer w;
    pid_t pid = child_with(&w), worker;
    int status;

    (void)state;
    attach(&w);
    say(&w, 0, pid);
    fake.forks = true;
    one_turn();
    assert_int_equal(fake.begun, 1);
    for (int dead = 0; dead < 2; dead++) {
        worker = fake.workers[dead];
        if (dead)
            child_end(pid);
        assert_int_equal(write(fake.ask[dead], "", 1), 1);
        assert_int_equal(waitpid(worker, &status, 0), worker);
        assert_int_equal(status, W_EXITCODE(dead ? ESRCH : 0, 0));
        close(fake.ask[dead]);
    }
    fake.step = CRASH_OVER;
    turns();
    writer_free(&w);
}

/* Who says so and goes on isn't believed again. */
static void test_liar(void **state)
{
    struct writer w;
    pid_t pid = child_with(&w);
    struct seg_crash *at;

    (void)state;
    fake.step = CRASH_OVER;
    guest_of(&w);
    guest_turns(say(&w, 0, pid));
    assert_int_equal(fake.begun, 1);
    at = say(&w, 0, pid); /* its place isn't free */
    guest_turns(at);
    assert_int_equal(at->state, CRASH_DONE);
    assert_int_equal(fake.begun, 1);
    usleep(1100000);
    at = say(&w, 1, pid);
    guest_turns(at);
    assert_true(is_let_go(at));
    assert_int_equal(fake.begun, 1);
    child_end(pid);
    writer_free(&w);
}

static void guest_crashes(bool core)
{
    struct writer w;
    pid_t pid = child_with(&w);

    guest_of(&w);
    guest_turns(say(&w, 0, pid));
    assert_true(is_let_go(&w.h->crash[0]));
    assert_true(!core || fake.wishes.core);
    child_end(pid);
    writer_free(&w);
}

/* Guests can't fill the disk: neither with texts nor with cores, whatever their workers say of these. */
static void test_room(void **state)
{
    struct writer w;
    pid_t pid;

    (void)state;
    config_set(options.config, "libscope.snapshot.coredump", "true", "test", NULL, NULL);
    config_set(options.config, "libscope.snapshot.coremax", "65536", "test", NULL, NULL);
    fake.step = CRASH_OVER;
    fake.core = CRASH_GUEST_CORES_MAX * 65536;
    guest_crashes(true);
    assert_int_equal(fake.begun, 1);
    fake.text = (off_t)CRASH_GUEST_TEXT_MAX;
    guest_crashes(false);
    assert_int_equal(fake.begun, 2);
    assert_false(fake.wishes.core);
    guest_crashes(false);
    assert_int_equal(fake.begun, 2);
    pid = child_with(&w); /* that is no matter of others */
    attach(&w);
    say(&w, 0, pid);
    turns();
    assert_int_equal(fake.begun, 3);
    assert_true(fake.wishes.core);
    child_end(pid);
    writer_free(&w);
}

#define STRANGER 12345

/* Another user's. */
static pid_t stranger_with(struct writer *w)
{
    pid_t pid;

    *w = prog(NOBODY);
    pid = fork();
    if (pid == 0) {
        if (setresuid(STRANGER, STRANGER, STRANGER))
            _exit(1);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            pause();
    }
    assert_true(pid > 0);
    while (kill(pid, 0) == 0 && pi_euid(pid) != STRANGER)
        usleep(1000);
    w->h->pid = w->owner = w->pid = (uint32_t)pid;
    return pid;
}

/* One of the two workers is for another user, if one waits. */
static void test_users(void **state)
{
    struct writer w[CRASH_WORKERS + 3];
    pid_t pid[CRASH_WORKERS + 3];
    const unsigned last = CRASH_WORKERS + 2;

    (void)state;
    if (geteuid() != 0)
        skip();
    for (unsigned i = 0; i <= last; i++) {
        pid[i] = i < last ? child_with(&w[i]) : stranger_with(&w[i]);
        if (i < CRASH_WORKERS)
            attach(&w[i]);
        else
            guest_of(&w[i])->map.info.euid = i < last ? 0 : STRANGER;
    }
    for (unsigned i = 0; i <= last; i++) {
        struct seg_crash *at = say(&w[i], 0, pid[i]);

        while (at->state == CRASH_TOLD) {
            one_turn();
            usleep(1000);
        }
    }
    assert_int_equal(fake.begun, CRASH_WORKERS);
    fake.step = CRASH_OVER;
    one_turn();
    assert_int_equal(fake.begun, CRASH_WORKERS + 2);
    assert_int_equal(fake.cause.pid, pid[last]);
    turns();
    assert_int_equal(fake.begun, CRASH_WORKERS + 3);
    for (unsigned i = 0; i <= last; i++) {
        child_end(pid[i]);
        writer_free(&w[i]);
    }
}

/* Workers of whom somebody stays who can't be ended aren't killed, and no more are begun than there may be; a program of
 * another user has its own number. */
static void test_hanging(void **state)
{
    pid_t left[KEPT_MAX];
    struct writer w;
    pid_t pid;

    (void)state;
    fake.step = CRASH_OVER;
    fake.sum.hangs = true;
    for (unsigned i = 0; i <= KEPT_MAX; i++) {
        pid = child_with(&w);
        attach(&w);
        if (i < KEPT_MAX)
            fake.left = left[i] = child_new();
        say(&w, 0, pid);
        one_turn();
        turns();
        assert_int_equal(fake.begun, i < KEPT_MAX ? i + 1 : KEPT_MAX);
        if (i < KEPT_MAX) {
            assert_int_equal(count("proc.crash", NULL), i + 1);
            assert_int_equal(kill(left[i], 0), 0);
            assert_int_equal(waitpid(left[i], NULL, WNOHANG), 0);
            child_end(pid);
            writer_free(&w);
        }
    }
    kill(left[0], SIGKILL); /* then there is room again */
    for (int i = 0; i < 10000 && fake.begun == KEPT_MAX; i++) {
        one_turn();
        usleep(1000);
    }
    assert_int_equal(fake.begun, KEPT_MAX + 1);
    fake.sum.hangs = false;
    turns();
    child_end(pid);
    for (unsigned i = 1; i < KEPT_MAX; i++)
        child_end(left[i]);
    writer_free(&w);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_crashes, teardown_crashes)
    const struct CMUnitTest tests[] = {
        TEST(test_crash), TEST(test_end_unknown), TEST(test_pending), TEST(test_abort), TEST(test_forged), TEST(test_storm), TEST(test_many), TEST(test_exit),
        TEST(test_untold), TEST(test_place_again), TEST(test_off), TEST(test_end), TEST(test_guest_user), TEST(test_still),
        TEST(test_liar), TEST(test_left), TEST(test_hanging), TEST(test_room), TEST(test_users),
    };

    strcpy(template, dir);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
