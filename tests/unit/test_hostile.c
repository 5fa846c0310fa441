/* SPDX-License-Identifier: Apache-2.0 */
/* What a process can do to the collector with its own segments and records: nothing to others, and at a bounded price. */
#include <errno.h>
#include <linux/memfd.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "collector_bed.h"
#include "base/log.h"
#include "model/procinfo.h"

static pid_t idle_child(void)
{
    pid_t pid = fork();

    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            pause();
    }
    assert_true(pid > 0);
    return pid;
}

static void end_child(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void put_unlink(struct writer *w, const char *path)
{
    struct item items[2] = {{ITEM_PATH, path, strlen(path)}, {0}};

    assert_true(writer_put(w, REC_CALL, OP_unlink, 0, ARGS((uint64_t)AT_FDCWD), 0, items));
}

/* --- forks that weren't --- */

/* A child speaks, and takes what there was to inherit; then the fork returns with another one. */
static void test_fork_taken_twice(void **state)
{
    struct writer w = prog(NOBODY), first = w, second = w;

    (void)state;
    attach(&w);
    first.pid = NOBODY + 1;
    second.pid = NOBODY + 2;
    put_open(&w, 3, 1, "/inherited", 0);
    writer_put(&w, REC_ENTER, OP_fork, 0, NULL, 0, NULL);
    put_unlink(&first, "rel");
    writer_put(&w, REC_CALL, OP_fork, NOBODY + 2, NULL, 0, NULL);
    put_unlink(&second, "rel");
    run();
    assert_int_equal(count("fs.delete", "file=/home/u/rel"), 2);
    assert_int_equal(count("begin", NULL), 3);
    writer_free(&w);
}

/* It has left the ring for one of its own, says it, and forks in the old one. */
static void test_fork_after_upgrade(void **state)
{
    pid_t child = idle_child();
    struct writer w = prog((uint32_t)getpid()), guest = w, grandchild = w;

    (void)state;
    attach(&w);
    guest.pid = (uint32_t)child;
    grandchild.pid = NOBODY;
    writer_put(&w, REC_ENTER, OP_fork, 0, NULL, 0, NULL);
    writer_put(&w, REC_CALL, OP_fork, child, NULL, 0, NULL);
    writer_put(&guest, REC_ENTER, OP_fork, 0, NULL, 0, NULL);
    put_unlink(&grandchild, "/x");
    writer_put(&guest, REC_UPGRADE, OP_NONE, 0, NULL, 0, NULL);
    writer_put(&guest, REC_CALL, OP_fork, NOBODY, NULL, 0, NULL);
    run();
    expect("fs.delete", "file=/x");
    end_child(child);
    writer_free(&w);
}

/* Each is the other's child, they say. */
static void test_own_grandparent(void **state)
{
    struct writer w = prog(NOBODY);
    struct proc *p = attach(&w), *a = proc_new(&c.model, 1, 0), *b = proc_new(&c.model, 2, 0);

    (void)state;
    proc_set_parent(a, p);
    proc_set_parent(b, a);
    proc_set_parent(a, b);
    assert_ptr_equal(a->parent, p);
    proc_set_parent(a, a);
    assert_ptr_equal(a->parent, p);
    proc_set_parent(b, p);
    assert_ptr_equal(b->parent, p);
    assert_null(a->children);
    assert_int_equal(p->live_children, 2);
    proc_free(a);
    assert_ptr_equal(p->children, b);
    assert_int_equal(p->live_children, 1);
    proc_free(b);
    assert_null(p->children);
    writer_free(&w);
}

/* As many guests as a ring may have, all of them claimed: telling, finding and forgetting one doesn't depend on how many
 * there are. */
static void test_many_guests(void **state)
{
    struct writer w = prog(NOBODY), guest = w;
    struct proc *p = attach(&w);
    unsigned known = 0;

    (void)state;
    told_only = "fs.delete"; /* the beginnings of all of them aren't kept */
    for (unsigned i = 1; i <= BORROWERS_MAX; i++) {
        struct proc *child = proc_new(&c.model, NOBODY + i, 0);

        child->pl = p->pl;
        proc_borrow(child, p->seg);
        proc_set_parent(child, p);
        telemetry_process_start(child->pl->tm, &child->tm);
    }
    for (unsigned i = 1; i <= BORROWERS_MAX; i++) {
        struct proc *child = segment_find(p->seg, NOBODY + i, true);

        known += child && child->pid == NOBODY + i;
    }
    assert_int_equal(known, BORROWERS_MAX);
    assert_null(segment_find(p->seg, NOBODY + BORROWERS_MAX + 1, true));
    guest.pid = NOBODY + 7;
    put_unlink(&guest, "/by-a-guest");
    run();
    expect("fs.delete", "file=/by-a-guest");
    while (p->seg->borrowers) {
        struct proc *child = p->seg->borrowers;

        while (child->borrow_next && known++ % 3) /* from different places */
            child = child->borrow_next;
        telemetry_process_end(child->pl->tm, &child->tm, 0);
        proc_free(child);
    }
    assert_null(p->children);
    told_only = NULL;
    writer_free(&w);
}

/* --- rings --- */

/* A segment of `cells` cells and so many descriptors. */
static int segment_of(uint64_t cells, uint32_t fd_cap, unsigned flags, int seals)
{
    int fd = memfd_create(SEG_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);
    uint64_t size = segment_ring(fd_cap) + cells * RING_CELL;
    struct segment_header *h;

    if (fd < 0)
        return -1;
    if (flags & MFD_HUGETLB)
        size = (size + (2 << 20) - 1) / (2 << 20) * (2 << 20);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    h = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (h == MAP_FAILED) { /* no huge pages */
        close(fd);
        return -1;
    }
    segment_layout(h, fd_cap, syscall_table_hash());
    h->ring_cells = (uint32_t)cells;
    h->seg_size = size;
    munmap(h, size);
    if (seals)
        assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

static int map_rc(int fd)
{
    struct segment_map m;
    const char *why;
    int rc = segment_map(&m, fd, &why);

    if (!rc)
        segment_unmap(&m);
    close(fd);
    return rc;
}

/* What a probe makes is accepted, and nothing larger. */
static void test_sizes(void **state)
{
    const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    int pipes[2], huge = segment_of(RING_CELLS, 64, MFD_HUGETLB, seals);

    (void)state;
    assert_int_equal(map_rc(segment_of(RING_CELLS, FD_CAP_MAX, 0, seals)), 0);
    assert_int_equal(map_rc(segment_of(RING_CELLS, 64, 0, seals)), 0);
    assert_int_equal(map_rc(segment_of(RING_CELLS + 1, 64, 0, seals)), -EINVAL);
    assert_int_equal(map_rc(segment_of(8000000, 64, 0, seals)), -EINVAL);
    assert_int_equal(map_rc(segment_of(RING_CELLS, FD_CAP_MAX + 1, 0, seals)), -EINVAL);
    assert_int_equal(map_rc(segment_of(RING_CELLS, 64, 0, 0)), -EPERM);
    assert_int_equal(map_rc(segment_of(RING_CELLS, 64, 0, F_SEAL_SHRINK | F_SEAL_GROW)), -EPERM);
    if (huge >= 0)
        assert_int_equal(map_rc(huge), -EINVAL);
    assert_int_equal(pipe(pipes), 0);
    close(pipes[1]);
    assert_int_equal(map_rc(pipes[0]), -EPERM);
}

/* The fields of /proc/PID/stat that are read, behind a name that looks like some of them. */
static void test_stat(void **state)
{
    struct pi_stat st = {0}, own = {0};
    pid_t child = fork();
    siginfo_t info;

    (void)state;
    if (child == 0) {
        prctl(PR_SET_NAME, "x) Z 1 2 (y");
        _exit(7);
    }
    assert_true(child > 0);
    assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
    assert_int_equal(pi_stat(getpid(), &own), 0);
    assert_int_equal(pi_stat(child, &st), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(st.state, 'Z');
    assert_int_equal(st.ppid, getpid());
    assert_int_equal(st.exit_status, 7 << 8);
    assert_true(st.start_ticks >= own.start_ticks && own.start_ticks > 0);
    assert_int_equal(own.ppid, getppid());
    assert_true(own.threads >= 1);
    assert_true(own.rss_kib > 0);
    assert_int_equal(pi_stat(child, &st), -ESRCH);
}

/* A ring without owner is let go of when nobody maps it any more: a worker of the collector's must not count, however
 * long it lives. */
static void test_workers(void **state)
{
    const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    int fd = segment_of(RING_CELLS, 64, 0, seals), ends[2];
    struct segment_map m;
    const char *why;
    char byte;
    pid_t worker;

    (void)state;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(segment_map(&m, fd, &why), 0);
    close(fd);
    assert_true(pi_maps(getpid(), m.ino));
    worker = fork();
    if (worker == 0) {
        close(ends[1]);
        _exit(read(ends[0], &byte, 1) != 0);
    }
    assert_true(worker > 0);
    assert_false(pi_maps(worker, m.ino));
    close(ends[1]);
    assert_int_equal(waitpid(worker, NULL, 0), worker);
    close(ends[0]);
    segment_unmap(&m);
}

/* Padding leads up to the end of the ring, once a lap: else whoever commits it as fast as it is read keeps us busy. */
static void test_padding(void **state)
{
    struct writer w = prog(NOBODY);
    struct record *r;
    uint64_t pos;

    (void)state;
    attach(&w);
    pos = writer_reserve(&w, 32);
    r = writer_cell(&w, pos);
    r->size = 32;
    r->kind = REC_PAD;
    __atomic_store_n(&r->seq, pos + 1, __ATOMIC_RELEASE);
    run();
    assert_int_equal(w.h->mode, 0);
    assert_int_equal(c.model.lost[LK_SEGMENT], 1);
    writer_free(&w);
}

/* Reservations that never come, as many as there is room for: they are searched for what is behind them, but not at each
 * look. */
static void test_all_torn(void **state)
{
    struct writer w = prog(NOBODY);
    struct ring *ring;
    uint64_t searches = 0;

    (void)state;
    attach(&w);
    ring = &c.segments->map.ring;
    w.h->ring_head = FAKE_CELLS;
    segments_drain(&c, true);
    ring->stalled_ns = 1; /* for long */
    for (int i = 0; i < 10000; i++) {
        uint64_t before = ring->search_ns;

        segments_drain(&c, true);
        searches += ring->search_ns != before;
    }
    assert_in_range(searches, 1, 12); /* 10, 20, 40 ms ... apart; later than each of them on a machine that is busy */
    /* what comes at last is read: that is a torn one, and the rest is waited for again */
    *(uint64_t *)writer_cell(&w, 5) = 0;
    {
        struct record *r = writer_cell(&w, 8);

        *r = (struct record){.size = sizeof(*r), .kind = REC_NOTE, .pid = NOBODY, .tid = NOBODY};
        r->arg[0] = NOTE_IMAGE_PATCH;
        __atomic_store_n(&r->seq, 9, __ATOMIC_RELEASE);
    }
    ring->stalled_ns = 1;
    ring->search_ns = 0;
    run();
    assert_int_equal(c.model.lost[LK_TORN], 1);
    assert_int_equal(ring->pos, 11);
    assert_int_equal(ring->search_wait_ns, 0);
    writer_free(&w);
}

/* --- what it costs --- */

/* Records that take too long are dropped after some time, and looked at again later. */
static void test_dear_records(void **state)
{
    const uint64_t second = UINT64_C(1000000000);
    uint64_t now = clock_now_mono();
    struct writer w = prog(NOBODY);
    struct segment *seg;

    (void)state;
    attach(&w);
    seg = c.segments;
    for (int i = 0; i < 1000; i++) /* the usual ones, for an hour */
        segment_charge(seg, 1000000, second, now += 4 * second);
    assert_false(seg->too_dear);
    segment_charge(seg, 16, DEBT_NS / 2, now += second); /* one can be dear */
    put_unlink(&w, "/looked-at");
    run();
    expect("fs.delete", "file=/looked-at");
    seg->debt_ns = DEBT_NS / 2;
    seg->debt_at = now;
    c.indebted = 1;
    for (int i = 0; i < 30; i++) /* 50 ms each */
        segment_charge(seg, 1, 50000000, now += 50000000);
    assert_true(seg->too_dear);
    seg->debt_at = clock_now_mono();
    put_unlink(&w, "/nobody-waits");
    run();
    expect("fs.delete", "file=/nobody-waits");
    put_unlink(&w, "/dropped");
    segments_drain(&c, true);
    memset(backlog_add(&c.backlog, BL_LEAVE, NULL, 0, BEHIND_BYTES), 0, sizeof(pid_t)); /* of nobody: it waits */
    run();
    expect_not("fs.delete", "file=/dropped");
    assert_int_equal(c.model.lost[LK_RECORD], 1);
    assert_true(seg->too_dear);
    seg->debt_at = now;
    segment_charge(seg, 0, 0, now += 20 * second);
    assert_false(seg->too_dear);
    /* many share what one alone has */
    c.indebted = 20;
    segment_charge(seg, 0, DEBT_NS / 10, now);
    assert_true(seg->too_dear);
    writer_free(&w);
}

/* As many descriptors as there may be, and forks that copy them. */
static void test_many_descriptors(void **state)
{
    struct writer w = prog(NOBODY), guest = w;
    struct proc *p = attach(&w);
    unsigned open = 0;

    (void)state;
    for (int64_t fd = 3; fd < FD_LIMIT; fd += FD_PAGE)
        open += fds_open(p, fd, file_new(&c.model, FDK_FILE, "/x", 2), 0, false, clock_now_real()) != NULL;
    assert_in_range(open, FD_PAGES_MAX - 4, FD_PAGES_MAX);
    assert_int_equal(p->fds.budget->pages, FD_PAGES_MAX);
    assert_int_equal(c.model.lost[LK_DESCRIPTOR], 1);
    fd_table_free(&c.model, &p->fds);
    assert_null(p->fds.budget);
    for (int fd = 3; fd < 1000; fd++)
        fds_open(p, fd, file_new(&c.model, FDK_FILE, "/x", 2), 0, false, clock_now_real());
    for (int i = 0; i < 2000; i++) {
        fork_begin(p, (uint32_t)i, 0, false, false, clock_now_real());
        assert_in_range(p->fds.budget->pages, 16, FD_PAGES_MAX);
    }
    while (p->forks)
        fork_drop(p, p->forks);
    assert_int_equal(p->fds.budget->pages, 16);
    assert_int_equal(p->fds.budget->refs, 1);
    /* a child counts for its parent until it has a ring of its own */
    guest.pid = NOBODY + 1;
    writer_put(&w, REC_ENTER, OP_fork, 0, NULL, 0, NULL);
    put_unlink(&guest, "/x");
    run();
    assert_int_equal(p->fds.budget->pages, 32);
    fd_table_part(&p->children->fds);
    assert_int_equal(p->fds.budget->pages, 16);
    assert_int_equal(p->children->fds.budget->pages, 16);
    writer_free(&w);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_fork_taken_twice), T(test_fork_after_upgrade), T(test_own_grandparent), T(test_many_guests), T(test_sizes),
        T(test_stat), T(test_workers), T(test_padding), T(test_all_torn), T(test_dear_records), T(test_many_descriptors),
    };

    log_setup(stderr, LOGL_NONE, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
