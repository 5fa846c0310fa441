/* SPDX-License-Identifier: Apache-2.0 */
/* The collector with synthetic segments: what is read, modelled and told, and what a hostile writer can do (nothing). */
#include <errno.h>
#include <linux/close_range.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "model/ask.h"
#include "collector/collector.h"
#include "model/images.h"
#include "model/procinfo.h"
#include "collector_bed.h"
#include "base/log.h"
#include "collector/doze.h"
#include "wire/join.h"

/* --- files --- */

static void test_open_read_close(void **state)
{
    struct writer w = prog(NOBODY);
    struct proc *p = attach(&w);

    (void)state;
    assert_non_null(p);
    expect("proc.start pid=4100000", "args=prog,-x exe=/usr/bin/prog cwd=/home/u");
    put_open(&w, 3, 1, "sub/../x", 0);
    writer_fd(&w, 3)->read_bytes = 100;
    writer_fd(&w, 3)->read_ops = 2;
    put_close(&w, 3);
    run();
    expect("fs.open pid=4100000", "file=/home/u/sub/../x ");
    expect("fs.close pid=4100000", "file_read_bytes=100 file_read_ops=2 file_write_bytes=0");
    /* the number again: counters go on, the difference is the new descriptor's */
    put_open(&w, 3, 3, "./y", O_CLOEXEC);
    writer_fd(&w, 3)->read_bytes += 7;
    writer_fd(&w, 3)->read_ops++;
    put_close(&w, 3);
    put_exit(&w, 5);
    run();
    expect("fs.close", "file=/home/u/y ");
    expect("fs.close", "file_read_bytes=7 file_read_ops=1");
    proc_died(p);
    run();
    expect("proc.exit pid=4100000", "exit_code=5");
    assert_int_equal(fake_sum[TM_FS_READ], 107);
    assert_int_equal(fake_ops[TM_FS_READ], 3);
    assert_int_equal(fake_sum[TM_FS_OPEN], 2);
    assert_int_equal(fake_sum[TM_FS_CLOSE], 2);
    assert_null(c.model.procs);
    assert_null(c.segments);
    writer_free(&w);
}

/* Whether a file system is mounted whose server is asked about files that are open already (ask.c). */
static bool asks_a_server(void)
{
    char line[4096], type[64];
    bool found = false;
    FILE *f = fopen("/proc/self/mountinfo", "re");

    while (f && fgets(line, sizeof(line), f)) {
        const char *end = strstr(line, " - ");

        if (end && sscanf(end, " - %63s", type) == 1)
            found |= !strncmp(type, "nfs", 3) || !strcmp(type, "9p") || !strcmp(type, "coda") || !strcmp(type, "ocfs2") ||
                     !strcmp(type, "gfs2") || !strcmp(type, "lustre") || !strcmp(type, "panfs");
    }
    if (f)
        fclose(f);
    return found;
}

/* Which file a descriptor refers to is known without asking a worker, whose answer may be late on a busy machine. */
static void test_file_of_a_descriptor(void **state)
{
    struct writer w = prog((uint32_t)getpid());
    struct proc *p = attach(&w);
    FILE *f = tmpfile();
    const struct desc *d;
    struct stat st;
    int fd;

    (void)state;
    assert_non_null(f);
    if (asks_a_server())
        skip();
    fd = fcntl(fileno(f), F_DUPFD_CLOEXEC, 100); /* a number that nothing had when the process was looked at */
    assert_int_equal(fstat(fd, &st), 0);
    p->ask_again = UINT64_MAX;
    d = fds_look(p, fd, 0);
    assert_non_null(d);
    assert_true(d->file->has_stat);
    assert_int_equal(d->file->dev, st.st_dev);
    assert_int_equal(d->file->ino, st.st_ino);
    assert_int_equal(d->file->uid, st.st_uid);
    assert_int_equal(d->file->perms, st.st_mode & 0777);
    assert_int_equal(count("loss answer", NULL), 0);
    close(fd);
    fclose(f);
    writer_free(&w);
}

/* Lost records: what the counters gained meanwhile is the process's, but nobody knows which file's. */
static void test_lost_between(void **state)
{
    struct writer w = prog(NOBODY);
    struct proc *p = attach(&w);

    (void)state;
    put_open(&w, 3, 1, "/known", 0);
    writer_fd(&w, 3)->gen = 3; /* closed and opened anew, unheard of */
    writer_fd(&w, 3)->read_bytes = 50;
    writer_fd(&w, 3)->read_ops = 1;
    put_close(&w, 3);
    run();
    expect_not("fs.close", NULL);
    put_open(&w, 3, 7, "/after", 0); /* 5 was lost */
    writer_fd(&w, 3)->read_bytes = 90;
    writer_fd(&w, 3)->read_ops = 3;
    put_close(&w, 3);
    put_open(&w, 3, 9, "/fine", 0);
    writer_fd(&w, 3)->read_bytes = 91;
    writer_fd(&w, 3)->read_ops = 4;
    put_close(&w, 3);
    put_open(&w, 4, 1, "/left", 0);
    writer_fd(&w, 4)->write_bytes = 5;
    writer_fd(&w, 4)->write_ops = 1;
    writer_fd(&w, 4)->gen = 2; /* closed, and just that was lost */
    put_exit(&w, 0);
    run();
    proc_died(p);
    run();
    assert_int_equal(count("fs.close", "file=/after "), 1);
    expect("fs.close", "file=/left ");
    expect("fs.close", "file_write_bytes=5 file_write_ops=1");
    expect_not("fs.close", "file_read_bytes=90");
    expect_not("fs.close", "file_read_bytes=40");
    expect("fs.close", "file_read_bytes=1 file_read_ops=1");
    assert_int_equal(fake_sum[TM_FS_READ], 91);
    writer_free(&w);
}

/* What is open at the end is closed by it, with what it had transferred. */
static void test_left_open(void **state)
{
    struct writer w = prog(NOBODY);
    struct proc *p = attach(&w);

    (void)state;
    put_open(&w, 3, 1, "/a", O_WRONLY);
    writer_fd(&w, 3)->write_bytes = 10;
    writer_fd(&w, 3)->write_ops = 1;
    writer_fd(&w, 1)->write_bytes = 20;
    writer_fd(&w, 1)->write_ops = 1;
    run();
    proc_died(p);
    c.stopping = true;
    run();
    expect("fs.close", "file=/a ");
    expect("fs.close", "file=stdout ");
    expect_not("fs.close", "file=stderr ");
    assert_int_equal(fake_sum[TM_FS_WRITE], 30);
    expect_not("proc.exit", "exit_code=");
    expect_not("proc.exit", "signal=");
    writer_free(&w);
}

static void test_names(void **state)
{
    struct writer w = prog(NOBODY);

    (void)state;
    attach(&w);
    put_open(&w, 5, 1, "/dir", O_DIRECTORY);
    writer_put(&w, REC_CALL, OP_unlinkat, 0, ARGS(5), 0, ITEMS(TEXT(ITEM_PATH, "f")));
    writer_put(&w, REC_CALL, OP_chdir, 0, ARGS(0), 0, ITEMS(TEXT(ITEM_PATH, "up")));
    writer_put(&w, REC_CALL, OP_renameat2, 0, ARGS((uint64_t)AT_FDCWD, 0, 5), 0,
               ITEMS(TEXT(ITEM_PATH, "a"), TEXT(ITEM_PATH2, "b")));
    writer_put(&w, REC_CALL, OP_mkdir, 0, ARGS(0), 0, ITEMS(TEXT(ITEM_PATH, "/m")));
    writer_put(&w, REC_CALL, OP_symlinkat, 0, ARGS(0, 5), 0, ITEMS(TEXT(ITEM_PATH, "t"), TEXT(ITEM_PATH2, "l")));
    writer_put(&w, REC_CALL, OP_fchmod, 0, ARGS(5), 0, NULL);
    writer_put(&w, REC_CALL, OP_openat, -ENOENT, ARGS((uint64_t)AT_FDCWD), 0, ITEMS(TEXT(ITEM_PATH, "no")));
    writer_put(&w, REC_CALL, OP_read, -EAGAIN, ARGS(0), 0, NULL);
    writer_put(&w, REC_CALL, OP_unlink, -EACCES, ARGS(0), 0, ITEMS(TEXT(ITEM_PATH, "/x")));
    w.h->op[OP_fstat].calls = 4;
    w.h->op[OP_lseek].calls = 3;
    w.h->op[OP_close].failed = 2;
    run();
    expect("fs.delete", "op=unlinkat file=/dir/f unit=operation");
    expect("fs.rename", "op=renameat2 file=/home/u/up/a file_to=/dir/b");
    expect("fs.create", "op=mkdir file=/m unit");
    expect("fs.create", "op=symlinkat file=/dir/l file_to=t");
    expect("fs.change", "op=fchmod file=/dir ");
    put_exit(&w, 0);
    run();
    proc_died(proc_by_host_pid(&c.model, NOBODY));
    run();
    expect("metric fs.error", "value=3 numops=0 class=open_close"); /* and two EBADF */
    expect("metric fs.error", "class=delete");
    expect_not("metric fs.error", "class=read_write");
    assert_int_equal(fake_sum[TM_FS_STAT], 4);
    assert_int_equal(fake_sum[TM_FS_SEEK], 3);
    assert_int_equal(fake_sum[TM_FS_DELETE], 1);
    writer_free(&w);
}

static void open_below(struct writer *w, int64_t dirfd, int fd, const char *path, uint64_t flags)
{
    writer_fd(w, (unsigned)fd)->gen = 1;
    assert_true(writer_put(w, REC_CALL, OP_openat, fd, ARGS((uint64_t)dirfd, 0, flags, 0, 0, 1), 0,
                           ITEMS({ITEM_PATH, path, strlen(path)})));
}

/* Of this process the kernel can't be asked anything: what follows from what is known is told, the rest is marked. */
static void test_dots(void **state)
{
    static char step[3000];
    struct writer w = prog(NOBODY);

    (void)state;
    attach(&w);
    open_below(&w, AT_FDCWD, 3, "..//v/./x/", O_RDONLY);
    open_below(&w, AT_FDCWD, 4, "/../../y.log", O_WRONLY);
    open_below(&w, AT_FDCWD, 5, "sub", O_DIRECTORY | O_NOFOLLOW);
    open_below(&w, 5, 6, "../z.log", O_WRONLY);
    open_below(&w, AT_FDCWD, 7, "any", O_DIRECTORY);
    open_below(&w, 7, 8, "../unsure.log", O_WRONLY);
    open_below(&w, 7, 9, "real", O_DIRECTORY | O_NOFOLLOW);
    open_below(&w, 9, 10, "../below-any", O_WRONLY);
    open_below(&w, 99, 11, "nowhere.log", O_WRONLY);
    writer_put(&w, REC_CALL, OP_renameat, 0, ARGS((uint64_t)AT_FDCWD, 0, 7), 0,
               ITEMS(TEXT(ITEM_PATH, "a/../b"), TEXT(ITEM_PATH2, "../c")));
    writer_put(&w, REC_CALL, OP_fchmod, 0, ARGS(1), 0, NULL);
    writer_put(&w, REC_CALL, OP_chdir, -ENOENT, ARGS(0), 0, ITEMS(TEXT(ITEM_PATH, "no")));
    writer_put(&w, REC_CALL, OP_fchdir, 0, ARGS(5), 0, NULL);
    writer_put(&w, REC_CALL, OP_mkdir, 0, ARGS(0), 0, ITEMS(TEXT(ITEM_PATH, "../in")));
    writer_put(&w, REC_CALL, OP_chdir, 0, ARGS(0), 0, ITEMS(TEXT(ITEM_PATH, "../../..")));
    writer_put(&w, REC_CALL, OP_mkdir, 0, ARGS(0), 0, ITEMS(TEXT(ITEM_PATH, "top")));
    run();
    expect("fs.open", "file=/home/v/x owner");
    expect("fs.open", "file=/y.log owner");
    expect("fs.open", "file=/home/u/z.log owner");
    expect("fs.open", "file=/home/u/any/../unsure.log file_unresolved=true");
    expect("fs.open", "file=/home/u/any/below-any owner");
    expect("fs.open", "file=nowhere.log file_unresolved=true");
    expect("fs.rename", "file=/home/u/a/../b file_unresolved=true file_to=/home/u/any/../c file_to_unresolved=true");
    expect("fs.change", "file= file_unresolved=true");
    expect("fs.create", "file=/home/u/in unit");
    expect("fs.create", "file=/top unit");
    /* Where it isn't certain that it is a log file nothing of its content is kept. */
    assert_int_equal(writer_fd(&w, 4)->want, 1 << 2 | FDW_CAPTURE);
    assert_int_equal(writer_fd(&w, 6)->want, 1 << 2 | FDW_CAPTURE);
    assert_int_equal(writer_fd(&w, 8)->want, 1 << 2 | FDW_NONE);
    assert_int_equal(writer_fd(&w, 11)->want, 1 << 2 | FDW_NONE);

    /* Deeper than any name may be long, and then deeper than anybody wants to see. */
    memset(step, 'd', sizeof(step) - 1);
    for (int i = 0; i < 7; i++)
        open_below(&w, i ? 19 + i : AT_FDCWD, 20 + i, step, O_DIRECTORY | O_NOFOLLOW);
    told_clear();
    run();
    assert_int_equal(count("fs.open", "file=/ddd"), 5);
    assert_int_equal(count("fs.open", "file_unresolved=true"), 2);
    writer_free(&w);
}

/* Verbosity 9: each call is told; the counters that also have it must not tell it again. */
static void test_per_operation(void **state)
{
    struct writer w = prog(NOBODY);
    struct proc *p;

    (void)state;
    fake_per_op[TM_FS_READ] = fake_per_op[TM_FS_WRITE] = fake_per_op[TM_FS_DURATION] = true;
    p = attach(&w);
    assert_true(w.h->mode & SEG_M_REC_RW);
    put_open(&w, 3, 1, "/a", 0);
    writer_fd(&w, 3)->read_bytes = 30; /* 10 before the mode was set, 20 with a record */
    writer_fd(&w, 3)->read_ops = 2;
    writer_put(&w, REC_CALL, OP_read, 20, ARGS(3), REC_F_COUNTED, NULL);
    put_close(&w, 3);
    put_exit(&w, 0);
    run();
    proc_died(p);
    run();
    expect("metric fs.read", "value=20 numops=1");
    expect("metric fs.read", "value=10 numops=1");
    expect("fs.close", "file_read_bytes=30 file_read_ops=2");
    assert_int_equal(fake_sum[TM_FS_READ], 30);
    writer_free(&w);
}

static void test_console(void **state)
{
    struct writer w = prog(NOBODY);

    (void)state;
    attach(&w);
    writer_put(&w, REC_DATA, OP_write, 6, ARGS(1, 0), 0, ITEMS(TEXT(ITEM_DATA, "hello\n")));
    writer_put(&w, REC_DATA, OP_write, 4, ARGS(0, 0), 0, ITEMS(TEXT(ITEM_DATA, "stdi")));
    writer_put(&w, REC_DATA, OP_NONE, 5, ARGS(UINT64_MAX, 0, 0, DATA_TLS_TX, 0x1000), 0, ITEMS(TEXT(ITEM_DATA, "plain")));
    put_open(&w, 3, 1, "/var/x.log", O_WRONLY);
    writer_put(&w, REC_DATA, OP_write, 3, ARGS(3, 0), 0, ITEMS(TEXT(ITEM_DATA, "log")));
    put_open(&w, 4, 1, "/var/x.dat", O_WRONLY);
    writer_put(&w, REC_DATA, OP_write, 3, ARGS(4, 0), 0, ITEMS(TEXT(ITEM_DATA, "dat")));
    run();
    expect("message console stdout", "hello");
    expect("message file /var/x.log", "log");
    expect_not("message", "stdi");
    expect_not("message", "plain"); /* what a TLS library is given is not what is written */
    expect_not("message", "dat\n");
    assert_int_equal(writer_fd(&w, 3)->want, 1 << 2 | FDW_CAPTURE);
    assert_int_equal(writer_fd(&w, 4)->want, 1 << 2 | FDW_NONE);
    /* of large binary data the beginning of each call is enough, until text comes */
    writer_put(&w, REC_DATA, OP_write, 5000, ARGS(3, 0), 0, ITEMS(TEXT(ITEM_DATA, "\0bin")));
    run();
    assert_int_equal(writer_fd(&w, 3)->want, 1 << 2 | FDW_SAMPLE);
    writer_put(&w, REC_DATA, OP_write, 5000, ARGS(3, 0), REC_F_CUT, ITEMS(TEXT(ITEM_DATA, "\0ary")));
    run();
    expect_not("loss", NULL);
    writer_put(&w, REC_DATA, OP_write, 5000, ARGS(3, 0), REC_F_CUT, ITEMS(TEXT(ITEM_DATA, "text")));
    run();
    expect("message file /var/x.log", "text and 4996 more");
    expect("loss data 4996", NULL);
    assert_int_equal(writer_fd(&w, 3)->want, 1 << 2 | FDW_CAPTURE);
    /* of a number that was reused meanwhile nothing may be said (if not mapped: nothing that anybody believes) */
    assert_true(segment_need(&c.segments->map));
    put_open(&w, 5, 1, "/var/y.log", O_WRONLY);
    writer_fd(&w, 5)->gen = 3;
    run();
    assert_int_equal(writer_fd(&w, 5)->want, 0);
    /* a duplicate is what it was made from, whatever its number; a file at 1 is that file */
    writer_put(&w, REC_CALL, OP_dup2, 6, ARGS(2, 6), 0, NULL);
    writer_put(&w, REC_CALL, OP_dup2, 2, ARGS(1, 2), 0, NULL);
    writer_put(&w, REC_DATA, OP_write, 3, ARGS(2, 0), 0, ITEMS(TEXT(ITEM_DATA, "two")));
    writer_put(&w, REC_CALL, OP_dup2, 1, ARGS(4, 1), 0, NULL);
    writer_put(&w, REC_DATA, OP_write, 3, ARGS(1, 0), 0, ITEMS(TEXT(ITEM_DATA, "one")));
    writer_put(&w, REC_CALL, OP_dup2, 1, ARGS(6, 1), 0, NULL);
    writer_put(&w, REC_DATA, OP_write, 3, ARGS(1, 0), 0, ITEMS(TEXT(ITEM_DATA, "error")));
    /* opened once more */
    put_open(&w, 7, 1, "/proc/self/fd/6", O_WRONLY);
    writer_put(&w, REC_DATA, OP_write, 3, ARGS(7, 0), 0, ITEMS(TEXT(ITEM_DATA, "again")));
    put_open(&w, 8, 1, "/dev/stdin", O_WRONLY);
    writer_put(&w, REC_DATA, OP_write, 3, ARGS(8, 0), 0, ITEMS(TEXT(ITEM_DATA, "input")));
    run();
    expect("message console stdout", "two");
    expect_not("message", "one");
    expect("message console stderr", "error");
    expect("fs.open", "file=/proc/self/fd/6");
    expect("message console stderr", "again");
    expect_not("message", "input");
    writer_free(&w);
}

static void test_dup_and_ranges(void **state)
{
    struct writer w = prog(NOBODY);
    struct proc *p = attach(&w);
    struct rec_counters closed = {7, 1, 0, 0, 0, 5, 1, 0, 0, 0};

    (void)state;
    put_open(&w, 3, 1, "/a", 0);
    writer_put(&w, REC_CALL, OP_dup, 6, ARGS(3, 0, 0, 0, 0, 1), 0, NULL);
    writer_put(&w, REC_CALL, OP_fcntl, 7, ARGS(3, F_DUPFD_CLOEXEC, 0, 0, 0, 1), 0, NULL);
    writer_put(&w, REC_CALL, OP_pipe2, 0, ARGS(0, O_CLOEXEC), 0,
               ITEMS({ITEM_FDS, ((struct rec_fd[2]){{8, 1, 0}, {9, 1, 0}}), 32}));
    run();
    assert_int_equal(count("fs.open", "file=/a "), 3);
    assert_true(fd_get(&p->fds, 7, false)->flags & DF_CLOEXEC);
    assert_true(fd_get(&p->fds, 9, false)->flags & DF_CLOEXEC);
    assert_false(fd_get(&p->fds, 6, false)->flags & DF_CLOEXEC);
    writer_put(&w, REC_ENTER, OP_close_range, 0, ARGS(6, 8), 0, ITEMS({ITEM_COUNTERS, &closed, sizeof(closed)}));
    run();
    assert_non_null(fd_get(&p->fds, 3, false)->file);
    assert_null(fd_get(&p->fds, 6, false)->file);
    assert_null(fd_get(&p->fds, 7, false)->file);
    assert_null(fd_get(&p->fds, 8, false)->file);
    assert_non_null(fd_get(&p->fds, 9, false)->file);
    expect("fs.close", "file_write_bytes=5 file_write_ops=1 duration=0 op=close_range");
    assert_int_equal(count("fs.close", "op=close_range"), 2);
    writer_free(&w);
}

/* --- network --- */

static struct sockaddr_in ip4(const char *text, int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

    inet_pton(AF_INET, text, &a.sin_addr);
    return a;
}

static void test_connections(void **state)
{
    struct sockaddr_in peer = ip4("10.0.0.9", 80), local = ip4("10.0.0.5", 5000);
    struct sockaddr_in6 peer6 = {.sin6_family = AF_INET6, .sin6_port = htons(7)}, local6 = peer6;
    struct writer w = prog(NOBODY);
    struct proc *p = attach(&w);

    (void)state;
    inet_pton(AF_INET6, "::ffff:1.2.3.4", &peer6.sin6_addr);
    inet_pton(AF_INET6, "fe80::1", &local6.sin6_addr);
    writer_put(&w, REC_CALL, OP_socket, 3, ARGS(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0, 0, 0, 1), 0, NULL);
    writer_fd(&w, 3)->gen = 1;
    writer_put(&w, REC_CALL, OP_connect, 0, ARGS(3), 0,
               ITEMS({ITEM_ADDR, &peer, sizeof(peer)}, {ITEM_LOCAL, &local, sizeof(local)}));
    run();
    expect("net.open", "net_transport=IP.TCP net_peer_ip=10.0.0.9 net_peer_port=80 net_host_ip=10.0.0.5 net_host_port=5000");
    assert_int_equal(p->gauge_conn[0], 1);
    writer_fd(&w, 3)->write_bytes = 11;
    writer_fd(&w, 3)->write_ops = 1;
    writer_fd(&w, 3)->read_bytes = 22;
    writer_fd(&w, 3)->read_ops = 1;
    writer_put(&w, REC_CALL, OP_recvfrom, -EPIPE, ARGS(3), 0, NULL);
    /* a second name for it: the connection ends with the last */
    writer_put(&w, REC_CALL, OP_dup, 4, ARGS(3, 0, 0, 0, 0, 1), 0, NULL);
    writer_fd(&w, 4)->gen = 1;
    put_close(&w, 3);
    run();
    expect_not("net.close", NULL);
    put_close(&w, 4);
    run();
    expect("net.close", "net_bytes_sent=11 net_bytes_recv=22 net_close_reason=remote");
    assert_int_equal(p->gauge_conn[0], 0);

    /* a server; the listener's address isn't the connection's */
    writer_put(&w, REC_CALL, OP_socket, 5, ARGS(AF_INET6, SOCK_STREAM, 0, 0, 0, 1), 0, NULL);
    writer_put(&w, REC_CALL, OP_listen, 0, ARGS(5, 10), 0, NULL);
    writer_put(&w, REC_CALL, OP_accept4, 6, ARGS(5, 0, 0, SOCK_CLOEXEC, 0, 1), 0,
               ITEMS({ITEM_ADDR, &peer6, sizeof(peer6)}, {ITEM_LOCAL, &local6, sizeof(local6)}));
    run();
    expect("net.open", "net_peer_ip=1.2.3.4 net_peer_port=7 net_host_ip=fe80::1 net_host_port=7");
    assert_int_equal(p->gauge_conn[0], 2);

    /* connecting in the background: opened when something went through, at the time of connect() */
    writer_put(&w, REC_CALL, OP_socket, 7, ARGS(AF_INET, SOCK_STREAM, 0, 0, 0, 1), 0, NULL);
    writer_fd(&w, 7)->gen = 1;
    writer_put(&w, REC_CALL, OP_connect, -EINPROGRESS, ARGS(7), 0, ITEMS({ITEM_ADDR, &peer, sizeof(peer)}));
    run();
    assert_int_equal(count("net.open", NULL), 2);
    writer_fd(&w, 7)->write_bytes = 1;
    writer_fd(&w, 7)->write_ops = 1;
    put_close(&w, 7);
    run();
    assert_int_equal(count("net.open", NULL), 3);
    assert_int_equal(count("net.close", NULL), 2);

    /* datagrams: the first partner makes a flow */
    writer_put(&w, REC_CALL, OP_socket, 8, ARGS(AF_INET, SOCK_DGRAM, 0, 0, 0, 1), 0, NULL);
    writer_put(&w, REC_CALL, OP_sendto, 9, ARGS(8), REC_F_COUNTED, ITEMS({ITEM_ADDR, &peer, sizeof(peer)}));
    writer_fd(&w, 8)->gen = 1;
    writer_fd(&w, 8)->write_bytes = 9;
    writer_fd(&w, 8)->write_ops = 1;
    put_close(&w, 8);
    writer_put(&w, REC_CALL, OP_connect, -ECONNREFUSED, ARGS(5), 0, NULL);
    put_exit(&w, 0);
    run();
    expect("net.open", "net_transport=IP.UDP");
    expect("net.close", "net_bytes_sent=9 net_bytes_recv=0");
    proc_died(p);
    run();
    assert_int_equal(count("net.open", NULL), count("net.close", NULL));
    assert_int_equal(fake_sum[TM_NET_OPEN], 4);
    assert_int_equal(fake_sum[TM_NET_CLOSE], 4);
    assert_int_equal(fake_sum[TM_NET_TX], 11 + 1 + 9);
    expect("metric net.tx", "value=12 numops=2 class=inet_tcp");
    expect("metric net.tx", "value=9 numops=1 class=inet_udp");
    expect("metric net.error", "value=1 numops=0 class=connection");
    writer_free(&w);
}

/* --- processes --- */

static pid_t idle_child(void)
{
    pid_t pid = fork();

    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* also when a test fails */
        pause();
        _exit(0);
    }
    return pid;
}

static void end_child(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

/* A child borrows, opens, execs; the parent's record of the fork comes late. */
static void test_fork_borrow_exec(void **state)
{
    uint32_t me = (uint32_t)getpid();
    pid_t child = idle_child();
    struct writer w = prog(me), guest = w, w2;
    struct proc *parent = attach(&w), *p;

    (void)state;
    guest.pid = (uint32_t)child;
    put_open(&w, 3, 1, "/inherited", 0);
    put_open(&w, 4, 1, "/cloexec", O_CLOEXEC);
    writer_put(&w, REC_ENTER, OP_clone, 0, ARGS(SIGCHLD), 0, NULL);
    put_close(&w, 3); /* by another thread, after the fork began: the child still has it */
    writer_put(&guest, REC_CALL, OP_chdir, 0, ARGS(0), 0, ITEMS(TEXT(ITEM_PATH, "/tmp")));
    writer_put(&guest, REC_CALL, OP_openat, 5, ARGS((uint64_t)AT_FDCWD), 0, ITEMS(TEXT(ITEM_PATH, "kid")));
    writer_put(&guest, REC_CALL, OP_write, 33, ARGS(5), 0, NULL);
    run();
    p = proc_by_host_pid(&c.model, child);
    assert_non_null(p);
    assert_ptr_equal(p->parent, parent);
    assert_int_equal(parent->live_children, 1);
    assert_string_equal(parent->cwd, "/home/u");
    expect("fs.open", "file=/tmp/kid ");
    assert_non_null(fd_get(&p->fds, 3, false)->file);
    assert_null(fd_get(&parent->fds, 3, false)->file);
    writer_put(&w, REC_CALL, OP_clone, child, ARGS(SIGCHLD), 0, NULL);
    writer_put(&guest, REC_ENTER, OP_execve, 0, ARGS(0), 0, ITEMS(TEXT(ITEM_PATH, "./new")));
    run();
    assert_int_equal(c.model.proc_count, 2);
    assert_null(parent->forks);

    w2 = writer_new((uint32_t)child, SEG_START_EXEC, "/opt/new", 9);
    attach(&w2);
    assert_ptr_equal(proc_by_host_pid(&c.model, child), p);
    assert_true(segment_head(&parent->seg->map) == parent->seg->map.ring.pos);
    assert_int_equal(c.segments->refs, 2);
    assert_false(p->borrowed);
    assert_non_null(fd_get(&p->fds, 3, false)->file);
    assert_null(fd_get(&p->fds, 4, false)->file); /* close-on-exec */
    assert_non_null(fd_get(&p->fds, 5, false)->file);
    assert_int_equal(count("begin", NULL), 3);
    expect("begin", "new");
    assert_string_equal(p->tm.proc, "new");
    /* the descriptor goes on in the new image with a new segment's counters */
    writer_fd(&w2, 5)->write_bytes = 10;
    writer_fd(&w2, 5)->write_ops = 1;
    put_close(&w2, 5);
    run();
    expect("fs.close", "file_write_bytes=43 file_write_ops=2");
    put_exit(&w2, 7);
    run();
    proc_died(p);
    run();
    expect("proc.exit", "exit_code=7");
    assert_int_equal(parent->live_children, 0);
    end_child(child);
    writer_free(&w);
    writer_free(&w2);
}

static void put_image(struct writer *w, const char *path, const char *key, uint32_t after, uint32_t no_room)
{
    struct rec_sites sites = {.sites = {.patched[PLAN_AFTER] = after, .refused[PLAN_R_NO_ROOM] = no_room}};

    memcpy(sites.key, key, strnlen(key, sizeof(sites.key)));
    assert_true(writer_put(w, REC_IMAGE, OP_NONE, 0, ARGS(0), 0,
                           ITEMS({ITEM_PATH, path, strlen(path)}, {ITEM_SITES, &sites, sizeof(sites)})));
}

/* What is told of a process's images; the caller frees it. */
static char *images_of(const struct proc *p)
{
    struct buf b = BUF_INIT;
    char *text;

    images_describe(p->images, &b);
    text = xstrdup(buf_cstr(&b));
    buf_free(&b);
    return text;
}

#define IMAGE(path, key, after, no_room)                                                                               \
    "{\"path\":\"" path "\"" key ",\"patched\":{\"after\":" after "},\"refused\":{\"no room\":" no_room                \
    "},\"without_enter_hook\":0}"
#define ID(key) ",\"build_id\":\"" key "\""

static void assert_images(const struct proc *p, const char *expected)
{
    char *text = images_of(p);

    assert_string_equal(text, expected);
    free(text);
}

/* Images are those of the process: a child has its parent's until it gets others, an exec has none of them. */
static void test_images(void **state)
{
    pid_t child = idle_child();
    struct writer w = prog((uint32_t)getpid()), guest = w, own;
    struct proc *parent = attach(&w), *p;
    char long_key[PLAN_KEY_MAX + 1];
    unsigned unlisted;

    (void)state;
    memset(long_key, 'a', sizeof(long_key) - 1); /* without an end */
    long_key[PLAN_KEY_MAX] = '\0';
    guest.pid = (uint32_t)child;
    put_image(&w, "/proc/self/exe", "0a1b", 3, 1);
    put_image(&w, "/lib/l\"ibc.so", "f-1-2", 7, 2);
    run();
    assert_images(parent, "[" IMAGE("/usr/bin/prog", ID("0a1b"), "3", "1") ","
                              IMAGE("/lib/l\\\"ibc.so", "", "7", "2") "]");
    writer_put(&w, REC_ENTER, OP_clone, 0, ARGS(SIGCHLD), 0, NULL);
    writer_put(&w, REC_CALL, OP_clone, child, ARGS(SIGCHLD), 0, NULL);
    run();
    p = proc_by_host_pid(&c.model, child);
    assert_ptr_equal(p->images, parent->images);
    put_image(&guest, "/proc/self/exe", "0a1b", 4, 9); /* once more: nothing is doubled */
    put_image(&guest, "/x", "../../etc", 1, 1);
    put_image(&guest, "/y", long_key, 1, 1);
    run();
    assert_images(p, "[" IMAGE("/usr/bin/prog", ID("0a1b"), "4", "9") "," IMAGE("/lib/l\\\"ibc.so", "", "7", "2") ","
                         IMAGE("/x", "", "1", "1") "," IMAGE("/y", "", "1", "1") "]");
    assert_images(parent, "[" IMAGE("/usr/bin/prog", ID("0a1b"), "3", "1") ","
                              IMAGE("/lib/l\\\"ibc.so", "", "7", "2") "]");
    own = writer_new((uint32_t)child, SEG_START_EXEC, "/opt/new", 9);
    attach(&own);
    assert_images(p, "[]");
    for (unsigned i = 0; i < IMAGES_MAX + 3; i++) {
        char name[32];

        snprintf(name, sizeof(name), "/lib/%u", i);
        put_image(&own, name, "00", 1, 0);
        run();
    }
    unlisted = images_unlisted(p->images);
    assert_int_equal(unlisted, 3);
    end_child(child);
    proc_died(p);
    run();
    writer_free(&w);
    writer_free(&own);
}

/* As if all processes had lived for a while. */
static void need_all(void)
{
    for (struct segment *seg = c.segments; seg; seg = seg->next)
        assert_true(segment_need(&seg->map));
}

/* The segment of a process that is soon over is never mapped; all that it has recorded and counted is told. */
static void test_short_process(void **state)
{
    struct writer w = prog(NOBODY);
    struct proc *p = attach(&w);
    const struct segment_map *m = &c.segments->map;

    (void)state;
    put_open(&w, 3, 1, "/short", O_RDWR);
    writer_fd(&w, 3)->read_bytes = 1000;
    writer_fd(&w, 3)->read_ops = 2;
    writer_fd(&w, 4)->write_bytes = 7;
    writer_fd(&w, 4)->write_ops = 1;
    w.h->op[OP_unlink].failed = 1;
    w.h->loss[LOSS_COPY] = 2;
    run();
    assert_int_equal(writer_fd(&w, 3)->want >> 2, 1); /* it was told */
    put_close(&w, 3);
    put_exit(&w, 3);
    run();
    assert_null(m->base);
    assert_true(w.h->mode & SEG_M_ON);
    proc_died(p);
    run();
    expect("fs.open", "file=/short");
    expect("fs.close", "file_read_bytes=1000 file_read_ops=2");
    expect("proc.exit", "exit_code=3");
    expect("metric fs.write", "value=7");
    expect("loss copy 2", NULL);
    assert_int_equal(c.model.proc_count, 0);
    writer_free(&w);
}

/* When a segment is mapped after all. */
static void test_mapped_later(void **state)
{
    pid_t child = idle_child();
    struct writer w = prog((uint32_t)getpid()), fork = writer_new((uint32_t)child, SEG_START_FORK, "x", 2);
    struct segment_map *m;
    uint64_t all = 0;

    (void)state;
    attach(&w);
    m = &c.segments->map;
    for (; !m->base && all < 2 * FAKE_CELLS; all++) { /* its writers wait for room */
        assert_true(writer_put(&w, REC_CALL, OP_unlink, 0, NULL, 0, ITEMS(TEXT(ITEM_PATH, "/many"))));
        segments_drain(&c, true);
    }
    assert_non_null(m->base);
    assert_true(w.h->ring_head <= FAKE_CELLS / 8);
    assert_int_equal(w.h->ring_head, w.h->ring_tail);
    run();
    assert_int_equal(count("fs.delete", "file=/many"), all);
    fake_join(&c, fork.fd, child);
    assert_non_null(c.segments->map.base);
    writer_free(&w);
    writer_free(&fork);

    for (int what = 0; what < 3; what++) {
        w = prog((uint32_t)getpid());
        attach(&w);
        m = &c.segments->map;
        segments_drain(&c, true);
        assert_null(m->base);
        if (what == 0)
            m->map_at = 1; /* it has lived for long */
        else if (what == 1)
            w.h->mail = JOIN_MAIL(3, 4);
        else
            assert_true(writer_reserve(&w, 96) != UINT64_MAX); /* perhaps it is being written */
        segments_drain(&c, true);
        assert_non_null(m->base);
        writer_free(&w);
    }
    end_child(child);
}

/* Writers are told that nobody looks only if all have been quiet, can wake us, and have written nothing meanwhile. */
static void test_sleep(void **state)
{
    pid_t child = idle_child();
    struct writer w = prog((uint32_t)getpid()), other = prog((uint32_t)child);
    uint32_t *words[2];

    (void)state;
    w.h->wakes = other.h->wakes = 1;
    attach(&w);
    attach(&other);
    need_all();
    assert_int_equal(segments_sleep(&c, words, 2), 0); /* not quiet for long */
    for (struct segment *seg = c.segments; seg; seg = seg->next)
        seg->busy_ns = 0;
    assert_int_equal(segments_sleep(&c, words, 1), 0); /* too many to wait for */
    assert_int_equal(w.h->asleep | other.h->asleep, 0);
    assert_int_equal(segments_sleep(&c, words, 2), 2);
    assert_int_equal(w.h->asleep, 1);
    assert_int_equal(other.h->asleep, 1);
    assert_int_equal(*words[0] + *words[1], 2);
    segments_wake(&c);
    assert_int_equal(w.h->asleep | other.h->asleep, 0);
    put_open(&other, 3, 1, "/x", 0); /* just before it could see the word */
    assert_int_equal(segments_sleep(&c, words, 2), 0);
    assert_int_equal(w.h->asleep | other.h->asleep, 0);
    run();
    assert_int_equal(segments_sleep(&c, words, 2), 0); /* busy just now */
    for (struct segment *seg = c.segments; seg; seg = seg->next)
        seg->busy_ns = 0;
    other.h->wakes = 0; /* in a sandbox */
    assert_int_equal(segments_sleep(&c, words, 2), 0);
    other.h->wakes = 1;
    for (struct segment *seg = c.segments; seg; seg = seg->next)
        seg->map.mode |= SEG_M_CRASH;
    other.h->crash[2].state = CRASH_TOLD; /* just before it could see the word, too */
    assert_int_equal(segments_sleep(&c, words, 2), 0);
    assert_int_equal(w.h->asleep | other.h->asleep, 0);
    other.h->crash[2].state = CRASH_FREE;
    for (struct segment *seg = c.segments; seg; seg = seg->next)
        seg->busy_ns = 0;
    assert_int_equal(segments_sleep(&c, words, 2), 2);
    end_child(child);
    writer_free(&w);
    writer_free(&other);
}

/* A ring that there is no place for any more among those that are waited for is looked at soon again. */
static void test_nap_without_place(void **state)
{
    struct writer a = prog((uint32_t)getpid()), b = prog(NOBODY);
    uint32_t *words[1];
    struct segment *old;

    (void)state;
    a.h->wakes = b.h->wakes = 1;
    attach(&a);
    old = c.segments;
    old->map.map_at = UINT64_MAX; /* by need_all() */
    assert_int_equal(segments_nap(&c, words, 1), 0); /* not yet */
    need_all();
    assert_int_equal(segments_nap(&c, words, 1), 1);
    assert_true(old->naps);
    attach(&b);
    need_all();
    assert_int_equal(segments_nap(&c, words, 1), 1);
    assert_true(words[0] != &segment_hdr(&old->map)->asleep);
    assert_false(old->naps);
    for (int i = 0; i < 8; i++)
        segments_drain(&c, true);
    assert_true(old->interval <= 5000000);
    writer_free(&a);
    writer_free(&b);
}

/* One that was mapped, for whatever reason, since we napped can have its writers wake us: not only then looked at. */
static void test_nap_of_mapped(void **state)
{
    struct writer a = prog((uint32_t)getpid()), b = prog(NOBODY);
    uint32_t *words[2];

    (void)state;
    a.h->wakes = b.h->wakes = 1;
    attach(&a);
    attach(&b);
    for (struct segment *seg = c.segments; seg; seg = seg->next)
        seg->map.map_at = UINT64_MAX; /* not by the time */
    segments_drain(&c, true);
    assert_int_equal(segments_nap(&c, words, 2), 0); /* none is mapped */
    assert_int_equal(c.nap_count, c.segment_count);
    assert_true(segment_hdr(&c.segments->map)->wakes);
    segments_drain(&c, true);
    assert_int_not_equal(c.nap_count, c.segment_count);
    assert_int_equal(segments_nap(&c, words, 2), 1);
    segments_drain(&c, true);
    assert_int_equal(c.nap_count, c.segment_count);
    writer_free(&a);
    writer_free(&b);
}

/* How long a quiet ring is left alone at most: longer where its writers wake us, but not once they have. */
static void test_nap(void **state)
{
    const uint64_t ms = 1000000;
    struct writer w = prog((uint32_t)getpid());
    uint32_t *words[1];
    struct segment *seg;

    (void)state;
    w.h->wakes = 1;
    w.h->clock = SEG_CLOCK_TSC;
    attach(&w);
    need_all();
    seg = c.segments;
    for (int i = 0; i < 8; i++)
        segments_drain(&c, true);
    assert_int_equal(seg->interval, 5 * ms);
    assert_int_equal(segments_nap(&c, words, 1), 1);
    assert_int_equal(w.h->asleep, SEG_NAPPING);
    for (int i = 0; i < 8; i++)
        segments_drain(&c, true);
    assert_int_equal(seg->interval, 10 * ms);
    w.h->wakes = 0; /* it has entered a sandbox */
    segments_drain(&c, true);
    assert_int_equal(seg->interval, 5 * ms);
    w.h->wakes = 1;
    segments_nap(&c, words, 1);
    for (int i = 0; i < 8; i++)
        segments_drain(&c, true);
    w.h->asleep = SEG_AWAKE; /* a part is filled */
    segments_hurry(&c);
    assert_int_equal(segments_due(&c), 0);
    segments_drain(&c, false);
    assert_in_range(segments_due(&c), 0, 5 * ms);
    writer_free(&w);
}

static bool readable(const struct doze *d, int ms)
{
    struct pollfd p = {.fd = doze_fd(d), .events = POLLIN};
    uint64_t n;

    return poll(&p, 1, ms) == 1 && read(p.fd, &n, sizeof(n)) == sizeof(n);
}

/* What a writer in another process does is noticed; so is what was done before, and memory that is gone. */
static void test_doze(void **state)
{
    struct doze *d = doze_new();
    uint32_t *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint32_t *words[2] = {page, page + 1};
    int status;
    pid_t pid;

    (void)state;
    if (!d) { /* before Linux 5.16 */
        assert_int_equal(syscall(449, NULL, 0, 0, NULL, 0), -1);
        assert_int_not_equal(errno, EINVAL);
        skip();
    }
    for (int i = 0; i < 2; i++) {
        page[0] = page[1] = 1;
        doze_wait(d, 1, words, 2);
        assert_false(readable(d, 30));
        pid = fork();
        if (pid == 0) {
            __atomic_store_n(&page[i], 0, __ATOMIC_SEQ_CST);
            _exit(syscall(SYS_futex, &page[i], FUTEX_WAKE, 1, NULL, NULL, 0) < 0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        assert_true(readable(d, 5000));
        assert_false(readable(d, 30)); /* once */
    }
    page[0] = 1;
    page[1] = 0;
    doze_wait(d, 1, words, 2);
    assert_true(readable(d, 5000));
    page[1] = 1;
    doze_wait(d, 1, words, 2);
    doze_wait(d, 0, NULL, 0);
    page[0] = 0;
    syscall(SYS_futex, &page[0], FUTEX_WAKE, 1, NULL, NULL, 0);
    assert_false(readable(d, 30)); /* nobody waits for it any more */
    munmap(page, 8192);
    doze_wait(d, 1, words, 2);
    assert_true(readable(d, 5000));
    doze_free(d);
}

/* JOIN of a child that outgrew its parent's ring arrives before its last record there was written. */
static void test_upgrade(void **state)
{
    pid_t child = idle_child();
    struct writer w = prog((uint32_t)getpid()), guest = w, own;
    struct proc *p;

    (void)state;
    attach(&w);
    guest.pid = (uint32_t)child;
    writer_put(&w, REC_ENTER, OP_fork, 0, NULL, 0, NULL);
    writer_put(&w, REC_CALL, OP_fork, child, NULL, 0, NULL);
    writer_put(&guest, REC_CALL, OP_openat, 3, ARGS((uint64_t)AT_FDCWD), 0, ITEMS(TEXT(ITEM_PATH, "/first")));
    own = writer_new((uint32_t)child, SEG_START_FORK, "prog\0-x", 8);
    assert_int_equal(fake_join(&c, own.fd, child), 0);
    writer_put(&own, REC_CALL, OP_openat, 4, ARGS((uint64_t)AT_FDCWD), 0, ITEMS(TEXT(ITEM_PATH, "/third")));
    run();
    expect_not("fs.open", "/third");
    writer_put(&guest, REC_CALL, OP_openat, 5, ARGS((uint64_t)AT_FDCWD), 0, ITEMS(TEXT(ITEM_PATH, "/second")));
    writer_put(&guest, REC_UPGRADE, OP_NONE, 0, NULL, 0, NULL);
    run();
    run();
    expect("fs.open", "/third");
    assert_true(strstr(find("fs.open", NULL, 1), "/second") != NULL);
    assert_true(strstr(find("fs.open", NULL, 2), "/third") != NULL);
    assert_int_equal(count("begin", NULL), 2);
    p = proc_by_host_pid(&c.model, child);
    assert_false(p->borrowed);
    /* a thread of it that was still writing to the old ring */
    writer_put(&guest, REC_CALL, OP_openat, 6, ARGS((uint64_t)AT_FDCWD), 0, ITEMS(TEXT(ITEM_PATH, "/late")));
    run();
    assert_int_equal(c.model.proc_count, 2);
    assert_non_null(fd_get(&p->fds, 6, false)->file);
    end_child(child);
    writer_free(&w);
    writer_free(&own);
}

/* A child has outgrown its parent's ring, and has exec'ed, before its last record there was written: the new image
 * comes last, and keeps its ring. */
static void test_exec_behind_upgrade(void **state)
{
    pid_t child = idle_child();
    struct writer w = prog((uint32_t)getpid()), guest = w, own, new;
    struct proc *p;

    (void)state;
    attach(&w);
    guest.pid = (uint32_t)child;
    writer_put(&w, REC_ENTER, OP_fork, 0, NULL, 0, NULL);
    writer_put(&w, REC_CALL, OP_fork, child, NULL, 0, NULL);
    writer_put(&guest, REC_CALL, OP_openat, 3, ARGS((uint64_t)AT_FDCWD), 0, ITEMS(TEXT(ITEM_PATH, "/first")));
    own = writer_new((uint32_t)child, SEG_START_FORK, "prog\0-x", 8);
    assert_int_equal(fake_join(&c, own.fd, child), 0);
    writer_put(&own, REC_ENTER, OP_execve, 0, ARGS(0), 0, ITEMS(TEXT(ITEM_PATH, "/opt/new")));
    new = writer_new((uint32_t)child, SEG_START_EXEC, "new", 4);
    assert_int_equal(fake_join(&c, new.fd, child), 0);
    writer_put(&new, REC_CALL, OP_openat, 4, ARGS((uint64_t)AT_FDCWD), 0, ITEMS(TEXT(ITEM_PATH, "/third")));
    run();
    expect_not("fs.open", "/third");
    writer_put(&guest, REC_CALL, OP_openat, 5, ARGS((uint64_t)AT_FDCWD), 0, ITEMS(TEXT(ITEM_PATH, "/second")));
    writer_put(&guest, REC_UPGRADE, OP_NONE, 0, NULL, 0, NULL);
    for (int i = 0; i < 4; i++)
        run();
    p = proc_by_host_pid(&c.model, child);
    assert_non_null(p);
    assert_string_equal(p->tm.proc, "new");
    assert_null(p->pending_exec);
    assert_true(strstr(find("fs.open", NULL, 1), "/second") != NULL);
    assert_true(strstr(find("fs.open", NULL, 2), "/third") != NULL);
    writer_put(&new, REC_CALL, OP_openat, 6, ARGS((uint64_t)AT_FDCWD), 0, ITEMS(TEXT(ITEM_PATH, "/fourth")));
    run();
    expect("fs.open", "/fourth");
    end_child(child);
    writer_free(&w);
    writer_free(&own);
    writer_free(&new);
}

/* In pid namespaces of their own parent and child may have the same number. */
static void test_same_number(void **state)
{
    struct writer w = prog((uint32_t)getpid());
    struct proc *parent = attach(&w);

    (void)state;
    writer_put(&w, REC_ENTER, OP_clone, 0, ARGS(CLONE_NEWPID | SIGCHLD), 0, NULL);
    writer_put(&w, REC_CALL, OP_openat, 45, ARGS((uint64_t)AT_FDCWD), REC_F_BORROWED, ITEMS(TEXT(ITEM_PATH, "/child")));
    run();
    assert_int_equal(c.model.proc_count, 2);
    assert_true(!fd_get(&parent->fds, 45, false) || !fd_get(&parent->fds, 45, false)->file);
    writer_put(&w, REC_CALL, OP_openat, 46, ARGS((uint64_t)AT_FDCWD), 0, ITEMS(TEXT(ITEM_PATH, "/parent")));
    run();
    assert_non_null(fd_get(&parent->fds, 46, false)->file);
    assert_int_equal(c.model.proc_count, 2);
    writer_free(&w);
}

/* What a container's first process calls itself is no number of ours, whoever its parent is. */
static void test_foreign_number(void **state)
{
    struct writer w = prog((uint32_t)getpid()), guest = w;
    struct proc *parent = attach(&w), *p;

    (void)state;
    guest.pid = 1;
    writer_put(&w, REC_ENTER, OP_clone, 0, ARGS(CLONE_PARENT | SIGCHLD), 0, NULL);
    writer_put(&guest, REC_CALL, OP_openat, 45, ARGS((uint64_t)AT_FDCWD), 0, ITEMS(TEXT(ITEM_PATH, "/inside")));
    run();
    assert_int_equal(c.model.proc_count, 2);
    assert_null(proc_by_host_pid(&c.model, 1));
    p = segment_find(parent->seg, 1, true);
    assert_non_null(p);
    assert_int_equal(p->host_pid, 0);
    writer_free(&w);
}

/* The parent stands still between reserving and committing; what its child wrote behind that must not be overtaken by the
 * child's own segment. */
static void test_exec_behind_a_stall(void **state)
{
    uint32_t me = (uint32_t)getpid();
    pid_t child = idle_child();
    struct writer w = prog(me), guest = w, w2;
    struct record *slow;
    uint64_t pos;

    (void)state;
    config_add_environ(options.config, (const char *const[]){"SCOPE_EVENT_SYSCALL=true", NULL}, NULL, NULL);
    attach(&w);
    guest.pid = (uint32_t)child;
    writer_put(&w, REC_ENTER, OP_fork, 0, NULL, 0, NULL);
    pos = writer_reserve(&w, sizeof(*slow));
    writer_put(&guest, REC_CALL, OP_openat, 5, ARGS((uint64_t)AT_FDCWD), 0, ITEMS(TEXT(ITEM_PATH, "/kept")));
    writer_put(&guest, REC_ENTER, OP_execve, 0, ARGS(0), 0, ITEMS(TEXT(ITEM_PATH, "/opt/new")));
    w2 = writer_new((uint32_t)child, SEG_START_EXEC, "new", 4);
    put_exit(&w2, 3);
    assert_int_equal(fake_join(&c, w2.fd, child), 0);
    end_child(child);
    run();
    expect_not("begin", "new");
    slow = writer_cell(&w, pos);
    *slow = (struct record){.size = sizeof(*slow), .kind = REC_CALL, .op = OP_fork, .pid = me, .tid = me,
                            .time = clock_now_mono(), .ret = child};
    __atomic_store_n(&slow->seq, pos + 1, __ATOMIC_RELEASE);
    run();
    run();
    expect("begin", "new");
    expect("fs.open", "file=/kept ");
    expect("syscall execve", "path=/opt/new file=/opt/new result=0");
    assert_int_equal(count("proc.start", NULL), 3);
    run();
    assert_int_equal(count("proc.exit", "exit_code=3"), 1);
    writer_free(&w);
    writer_free(&w2);
}

/* A shell's own ring waits for its parent's, which somebody keeps from being read. What its child is, a program that the
 * shell has started meanwhile, must wait for both: its fork and its exec stand in the shell's. */
static void test_exec_behind_a_ring_that_waits(void **state)
{
    const uint32_t shell_pid = NOBODY + 1, child_pid = NOBODY + 2;
    struct writer w = prog(NOBODY), guest = w, shell, child, image;
    struct record *slow;
    uint64_t pos;

    (void)state;
    attach(&w);
    guest.pid = shell_pid;
    writer_put(&w, REC_ENTER, OP_vfork, 0, NULL, 0, NULL);
    pos = writer_reserve(&w, sizeof(*slow));
    writer_put(&guest, REC_ENTER, OP_execve, 0, ARGS(0), REC_F_VFORK, ITEMS(TEXT(ITEM_PATH, "/bin/sh")));
    shell = writer_new(shell_pid, SEG_START_EXEC, "sh", 3);
    shell.h->ppid = NOBODY;
    assert_int_equal(fake_join(&c, shell.fd, (pid_t)shell_pid), 0);
    child = shell;
    child.pid = child_pid;
    writer_put(&shell, REC_ENTER, OP_fork, 0, NULL, 0, NULL);
    writer_put(&child, REC_ENTER, OP_execve, 0, ARGS(0), 0, ITEMS(TEXT(ITEM_PATH, "/bin/cat")));
    writer_put(&shell, REC_CALL, OP_fork, child_pid, NULL, 0, NULL);
    image = writer_new(child_pid, SEG_START_EXEC, "cat", 4);
    image.h->ppid = shell_pid;
    put_exit(&image, 3);
    assert_int_equal(fake_join(&c, image.fd, (pid_t)child_pid), 0);
    run();
    expect_not("begin", "sh");
    expect_not("begin", "cat");
    slow = writer_cell(&w, pos);
    *slow = (struct record){.size = sizeof(*slow), .kind = REC_CALL, .op = OP_vfork, .pid = NOBODY, .tid = NOBODY,
                            .time = clock_now_mono(), .ret = shell_pid};
    __atomic_store_n(&slow->seq, pos + 1, __ATOMIC_RELEASE);
    for (int i = 0; i < 4; i++)
        run();
    expect("syscall execve", "path=/bin/sh file=/bin/sh result=0");
    expect("syscall execve", "path=/bin/cat file=/bin/cat result=0");
    assert_int_equal(count("proc.start", "start=fork"), 2);
    assert_int_equal(count("proc.start", "start=exec"), 3);
    for (int i = 0; i < 4; i++)
        run();
    assert_int_equal(count("proc.exit", NULL), 1);
    expect("proc.exit", "exit_code=3");
    writer_free(&w);
    writer_free(&shell);
    writer_free(&image);
}

/* Dead before its JOIN was even looked at. */
static void test_short_life(void **state)
{
    struct writer w = prog(NOBODY), w2 = writer_new(NOBODY, SEG_START_EXEC, "true", 5);
    struct proc *p = attach(&w);

    (void)state;
    writer_put(&w, REC_ENTER, OP_execve, 0, NULL, 0, ITEMS(TEXT(ITEM_PATH, "/bin/true")));
    w2.h->start_time = clock_now_mono();
    put_exit(&w2, 3);
    assert_int_equal(fake_join(&c, w2.fd, NOBODY), 0);
    proc_died(p);
    run();
    run();
    expect("begin", "true");
    assert_int_equal(count("proc.exit", NULL), 1);
    expect("proc.exit", "exit_code=3");
    assert_null(c.model.procs);
    assert_null(c.segments);
    writer_free(&w);
    writer_free(&w2);
}

/* The child was over before its parent came to record the fork. */
static void test_fork_told_late(void **state)
{
    pid_t child = idle_child();
    struct writer w = prog((uint32_t)getpid()), guest = w;
    struct proc *parent = attach(&w), *p;

    (void)state;
    guest.pid = (uint32_t)child;
    writer_put(&w, REC_ENTER, OP_clone, 0, ARGS(SIGCHLD), 0, NULL);
    put_exit(&guest, 1);
    run();
    p = proc_by_host_pid(&c.model, child);
    assert_non_null(p);
    end_child(child);
    proc_died(p);
    run();
    assert_int_equal(c.model.proc_count, 1);
    writer_put(&w, REC_CALL, OP_clone, child, ARGS(SIGCHLD), 0, NULL);
    run();
    assert_int_equal(c.model.proc_count, 1);
    assert_int_equal(count("proc.start", NULL), 2);
    assert_null(parent->forks);
    writer_free(&w);
}

static void test_exec_fails(void **state)
{
    struct writer w = prog(NOBODY);
    struct proc *p = attach(&w);

    (void)state;
    writer_put(&w, REC_ENTER, OP_execve, 0, NULL, 0, ITEMS(TEXT(ITEM_PATH, "/none")));
    writer_put(&w, REC_CALL, OP_execve, -ENOENT, NULL, 0, ITEMS(TEXT(ITEM_PATH, "/none")));
    writer_put(&w, REC_NOTE, OP_NONE, 0, ARGS(NOTE_IO_URING), 0, NULL);
    run();
    assert_null(p->pending_exec);
    assert_int_equal(count("begin", NULL), 1);
    expect("proc.note", "io_uring");
    writer_free(&w);
}

/* The parent's wait tells how a child ended that couldn't say it itself. */
static void test_killed_child(void **state)
{
    pid_t child = idle_child();
    struct writer w = prog((uint32_t)getpid());
    struct proc *p;
    int32_t status = SIGSEGV | 0x80;

    (void)state;
    attach(&w);
    writer_put(&w, REC_ENTER, OP_fork, 0, NULL, 0, NULL);
    writer_put(&w, REC_CALL, OP_fork, child, NULL, 0, NULL);
    run();
    p = proc_by_host_pid(&c.model, child);
    assert_non_null(p);
    end_child(child);
    proc_died(p);
    run();
    assert_ptr_equal(c.model.procs, p); /* nobody knows how, yet */
    writer_put(&w, REC_CALL, OP_wait4, child, NULL, 0, ITEMS({ITEM_STATUS, &status, sizeof(status)}));
    run();
    expect("proc.exit", "signal=SIGSEGV");
    writer_free(&w);
}

/* Children that can't tell their numbers: heard of before their parent's word of them or behind it, alive or not. */
static void test_unnumbered_children(void **state)
{
    struct writer w = prog((uint32_t)getpid()), guest = w;
    pid_t child;

    (void)state;
    attach(&w);
    for (uint32_t id = 1; id <= 3; id++) { /* 1: its parent speaks first; 2: in the same breath; 3: later */
        child = idle_child();
        guest.pid = REC_PID_FORK | id;
        writer_put(&w, REC_ENTER, OP_clone, 0, ARGS(SIGCHLD, 0, 0, 0, 0, id), 0, NULL);
        if (id == 1)
            writer_put(&w, REC_CALL, OP_clone, child, ARGS(SIGCHLD, 0, 0, 0, 0, id), 0, NULL);
        writer_put(&guest, REC_CALL, OP_unlink, 0, ARGS(0), 0, ITEMS(TEXT(ITEM_PATH, "/gone")));
        ask_end(); /* the collector's worker would be a child of this process, too */
        if (id == 3)
            run();
        if (id != 1)
            writer_put(&w, REC_CALL, OP_clone, child, ARGS(SIGCHLD, 0, 0, 0, 0, id), 0, NULL);
        writer_put(&guest, REC_ENTER, OP_exit_group, 0, ARGS(id), 0, NULL);
        run();
        assert_int_equal(count("begin", NULL), 1 + id);
        assert_non_null(proc_by_host_pid(&c.model, child));
        assert_int_equal(proc_by_host_pid(&c.model, child)->pid, child);
        end_child(child);
        proc_died(proc_by_host_pid(&c.model, child));
        run();
        assert_int_equal(c.model.proc_count, 1);
    }
    assert_int_equal(count("fs.delete", NULL), 3);
    assert_int_equal(count("proc.exit", NULL), 3);
    expect_not("proc.start pid=0", NULL);
    writer_free(&w);
}

static unsigned opens; /* files that the collector has opened */

int open(const char *path, int flags, ...)
{
    mode_t mode = 0;

    if (flags & O_CREAT) {
        va_list args;

        va_start(args, flags);
        mode = va_arg(args, mode_t);
        va_end(args);
    }
    opens++;
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

/* What it costs to follow n children of a vfork that are gone at once, all of which come up together. */
static unsigned cost_of_vforks(unsigned n)
{
    struct writer w = prog(NOBODY), guest = w;

    attach(&w);
    opens = 0;
    for (unsigned i = 0; i < n; i++) {
        guest.pid = NOBODY + 1 + i;
        assert_true(writer_put(&w, REC_ENTER, OP_vfork, 0, NULL, 0, NULL));
        assert_true(writer_put(&guest, REC_ENTER, OP_exit_group, 0, ARGS(3), REC_F_VFORK, NULL));
        assert_true(writer_put(&w, REC_CALL, OP_vfork, guest.pid, NULL, 0, NULL));
        if (i % 100 == 0) { /* the ring is small */
            segments_drain(&c, true);
            core_process(&c, UINT64_MAX);
        }
    }
    run();
    assert_int_equal(count("proc.exit", NULL), n);
    assert_int_equal(c.model.proc_count, 1);
    put_exit(&w, 0);
    run();
    told_clear();
    writer_free(&w);
    return opens;
}

/* Each process costs the same, however many there are. */
static void test_many_vforks(void **state)
{
    unsigned few = cost_of_vforks(200), many = cost_of_vforks(800);

    (void)state;
    if (many > 5 * few)
        fail_msg("200 processes cost %u look-ups, 800 cost %u", few, many);
}

static void *wait_for_end(void *end)
{
    pid_t tid = gettid();
    char byte;

    if (write(((int *)end)[3], &tid, sizeof(tid)) != sizeof(tid))
        abort();
    (void)!read(((int *)end)[0], &byte, 1);
    return NULL;
}

/* The number of a child that is gone is a thread's by the time that its parent's record is read. */
static void test_number_of_a_thread(void **state)
{
    struct writer w = prog((uint32_t)getpid());
    uint64_t pos;
    pthread_t thread;
    int ends[4]; /* two pipes */
    pid_t tid;

    (void)state;
    attach(&w);
    assert_false(pipe(ends) || pipe(ends + 2) || pthread_create(&thread, NULL, wait_for_end, ends));
    assert_int_equal(read(ends[2], &tid, sizeof(tid)), sizeof(tid));
    writer_put(&w, REC_ENTER, OP_fork, 0, NULL, 0, NULL);
    pos = w.h->ring_head;
    writer_put(&w, REC_CALL, OP_fork, tid, NULL, 0, NULL);
    ((struct record *)writer_cell(&w, pos))->time -= 300000000; /* before there was that thread */
    run();
    assert_int_equal(count("begin", NULL), 2);
    usleep(600000); /* for a wait status that nobody will tell */
    run();
    assert_int_equal(count("proc.exit", NULL), 1);
    close(ends[1]);
    pthread_join(thread, NULL);
    close(ends[0]);
    close(ends[2]);
    close(ends[3]);
    writer_free(&w);
}

static void watch_in_vain(struct proc *p)
{
    if (!p->unwatched)
        c.unwatched++;
    p->unwatched = true;
}

/* There are no descriptors to spare for pidfds. */
static void test_unwatched(void **state)
{
    pid_t child = idle_child();
    struct writer w = prog((uint32_t)child);

    (void)state;
    c.watch_death = watch_in_vain;
    assert_non_null(attach(&w));
    run();
    expect_not("proc.exit", NULL);
    end_child(child);
    run();
    usleep(600000);
    run();
    expect("proc.exit", NULL);
    assert_int_equal(c.unwatched, 0);
    assert_null(c.model.procs);
    writer_free(&w);
}

/* A child in a pid namespace of its own, told of by itself (as 1) and by its parent, in either order, when it is gone: it
 * is one child. */
static void test_inner_child(void **state)
{
    for (int parent_first = 0; parent_first < 2; parent_first++) {
        pid_t child = idle_child();
        struct writer w = prog((uint32_t)getpid()), guest = w;
        struct proc *parent = attach(&w);
        unsigned before = count("begin", NULL);

        end_child(child);
        guest.pid = 1;
        writer_put(&w, REC_ENTER, OP_clone, 0, ARGS(SIGCHLD | CLONE_NEWPID), 0, NULL);
        if (parent_first)
            writer_put(&w, REC_CALL, OP_clone, child, ARGS(SIGCHLD | CLONE_NEWPID), 0, NULL);
        writer_put(&guest, REC_CALL, OP_chdir, 0, ARGS(0), 0, ITEMS(TEXT(ITEM_PATH, "/tmp")));
        if (!parent_first)
            writer_put(&w, REC_CALL, OP_clone, child, ARGS(SIGCHLD | CLONE_NEWPID), 0, NULL);
        run();
        assert_int_equal(count("begin", NULL), before + 1);
        assert_null(parent->forks);
        proc_died(parent);
        run();
        writer_free(&w);
    }
    (void)state;
}

/* Records may name anybody; other processes' models must not hear of it. */
static void test_claims_about_others(void **state)
{
    pid_t other = idle_child();
    struct writer w = prog(NOBODY), theirs = prog((uint32_t)other), liar = w;
    struct proc *p;

    (void)state;
    attach(&w);
    p = attach(&theirs);
    liar.pid = (uint32_t)other;
    writer_put(&w, REC_ENTER, OP_fork, 0, NULL, 0, NULL);
    writer_put(&liar, REC_CALL, OP_openat, 9, ARGS((uint64_t)AT_FDCWD), 0, ITEMS(TEXT(ITEM_PATH, "/lie")));
    writer_put(&w, REC_CALL, OP_fork, other, NULL, 0, NULL);
    writer_put(&liar, REC_ENTER, OP_exit_group, 0, ARGS(9), 0, NULL);
    run();
    assert_ptr_equal(proc_by_host_pid(&c.model, other), p);
    assert_true(!fd_get(&p->fds, 9, false) || !fd_get(&p->fds, 9, false)->file);
    assert_false(p->exit_recorded);
    assert_null(p->parent);
    end_child(other);
    writer_free(&w);
    writer_free(&theirs);
}

/* Whatever a segment says of its process, the kernel knows better, while it is there; of one that has ended it is known
 * as whom it connected. */
static void test_forged_identity(void **state)
{
    struct writer w = prog((uint32_t)getpid()), gone = prog(NOBODY);
    struct peer liar = {.pid = getpid(), .uid = 4711, .gid = 4712, .pidfd = -1};
    struct peer ended = {.pid = (pid_t)NOBODY, .uid = 4711, .gid = 4712, .pidfd = -1};
    char *self = pi_exe(getpid());
    struct proc *p;

    (void)state;
    strcpy(w.h->exe, "/usr/sbin/sshd");
    w.h->uid = w.h->euid = w.h->gid = w.h->egid = 4242;
    w.h->pid = 1;
    gone.h->uid = gone.h->gid = 0;
    assert_int_equal(segment_attach(&c, w.fd, &liar), 0);
    assert_int_equal(segment_attach(&c, gone.fd, &ended), 0);
    run();
    p = proc_by_host_pid(&c.model, getpid());
    assert_int_equal(p->tm.uid, getuid());
    assert_int_equal(p->tm.gid, getgid());
    assert_int_equal(p->tm.pid, getpid());
    assert_string_equal(p->tm.exe, self);
    p = proc_by_host_pid(&c.model, (pid_t)NOBODY);
    assert_int_equal(p->tm.uid, 4711);
    assert_int_equal(p->tm.gid, 4712);
    free(self);
    writer_free(&w);
    writer_free(&gone);
}

static struct segment *segment_of(pid_t pid)
{
    struct segment *seg = *segments_by_pid(&c, pid);

    while (seg && seg->host_pid != pid)
        seg = seg->pid_next;
    assert_non_null(seg);
    return seg;
}

/* On a host, whose backlog is full: a user with nine busy processes gets as much of it as one with a single one. */
static void test_users_share(void **state)
{
    enum { MANY = 9 };
    struct collector_host host = {0};
    struct writer w[MANY + 1];
    uint64_t theirs = 0, mine;

    (void)state;
    options.host = &host;
    for (pid_t i = 0; i <= MANY; i++) {
        const struct peer from = {.pid = (pid_t)NOBODY + i, .uid = i == MANY ? 4711 : 4712, .gid = 4711, .pidfd = -1};
        struct peer peer = from;

        w[i] = prog(NOBODY + (uint32_t)i);
        assert_int_equal(segment_attach(&c, w[i].fd, &peer), 0);
        segment_of(from.pid)->record_ns = 1000000; /* expected of each record */
        writer_put(&w[i], REC_CALL, OP_unlink, 0, ARGS(0x1000), 0, ITEMS(TEXT(ITEM_PATH, "/first")));
    }
    for (int n = 0; n < 3; n++)
        segments_drain(&c, true); /* now it is known who is busy */
    for (int i = 0; i <= MANY; i++)
        for (int n = 0; n < 300; n++)
            writer_put(&w[i], REC_CALL, OP_unlink, 0, ARGS(0x1000), 0, ITEMS(TEXT(ITEM_PATH, "/x")));
    segments_drain(&c, true);
    mine = segment_of((pid_t)NOBODY + MANY)->queued;
    for (pid_t i = 0; i < MANY; i++)
        theirs += segment_of((pid_t)NOBODY + i)->queued;
    assert_in_range(mine, 200, 300);
    assert_in_range(theirs, 200, 300);
    options.host = NULL;
    run();
    for (int i = 0; i <= MANY; i++)
        writer_free(&w[i]);
}

static void test_syscalls(void **state)
{
    struct writer w = prog(NOBODY);

    (void)state;
    attach(&w);
    assert_true(w.h->mode & SEG_M_REC_ALL);
    put_open(&w, 3, 1, "x", O_RDONLY);
    writer_put(&w, REC_CALL, OP_read, 5, ARGS(3, 0x7fff00001000, 10), REC_F_COUNTED | REC_F_TIMED, NULL);
    writer_put(&w, REC_CALL, OP_unlink, -ENOENT, ARGS(0x1000), 0, ITEMS(TEXT(ITEM_PATH, "y")));
    put_close(&w, 3);
    writer_put(&w, REC_CALL, OP_close, 0, ARGS(3), REC_F_SAID, NULL);
    put_exit(&w, 4);
    run();
    expect("syscall openat", "path=x file=/home/u/x result=3");
    expect("syscall read", "args=3,0x7fff00001000,10 file=/home/u/x fd=3 bytes=5 result=5 duration_us=1.0");
    expect("syscall unlink", "result=-1 errno=ENOENT");
    expect("syscall close", "file=/home/u/x fd=3 result=0");
    expect("syscall exit_group", "args=4");
    assert_int_equal(count("fs.close", NULL), 1);
    writer_free(&w);
}

/* --- rings --- */

static void test_wrap_and_full(void **state)
{
    struct writer w = prog(NOBODY);
    unsigned written = 0;

    (void)state;
    attach(&w);
    for (int i = 0; i < 30; i++) {
        while (writer_put(&w, REC_CALL, OP_unlink, 0, NULL, 0, ITEMS(TEXT(ITEM_PATH, "/some/name"))))
            written++;
        segments_drain(&c, true);
        core_process(&c, UINT64_MAX);
    }
    run();
    assert_int_equal(count("fs.delete", NULL), written);
    assert_true(written > 20000);
    put_exit(&w, 0);
    run();
    proc_died(c.model.procs);
    run();
    expect("loss record", NULL);
    assert_int_equal(c.model.lost[LK_RECORD], 30);
    writer_free(&w);
}

static void test_torn(void **state)
{
    struct writer w = prog(NOBODY);

    (void)state;
    attach(&w);
    assert_true(writer_reserve(&w, 96) != UINT64_MAX); /* a thread that never comes back */
    writer_put(&w, REC_CALL, OP_unlink, 0, NULL, 0, ITEMS(TEXT(ITEM_PATH, "/behind")));
    run();
    poll(NULL, 0, (int)RING_STALL_MS + 50);
    run();
    expect_not("fs.delete", NULL); /* no need to hurry: it may still come */
    while (segment_head(&c.segments->map) < FAKE_CELLS / 2)
        writer_put(&w, REC_CALL, OP_unlink, 0, NULL, 0, ITEMS(TEXT(ITEM_PATH, "/more")));
    run();
    expect("fs.delete", "/behind");
    assert_int_equal(c.segments->map.ring.torn, 1);
    /* at the end there is nobody to wait for */
    assert_true(writer_reserve(&w, 96) != UINT64_MAX);
    put_exit(&w, 2);
    proc_died(c.model.procs);
    run();
    expect("proc.exit", "exit_code=2");
    assert_int_equal(c.model.lost[LK_TORN], 2);
    writer_free(&w);
}

/* A parent has died, and its child, of which nothing was read yet, waits for a CPU in the middle of its first record. */
static void test_slow_child(void **state)
{
    pid_t child = idle_child();
    struct writer w = prog(NOBODY);
    struct proc *p = attach(&w);
    struct record *r;
    uint64_t pos;

    (void)state;
    writer_put(&w, REC_ENTER, OP_fork, 0, NULL, 0, NULL);
    writer_put(&w, REC_ENTER, OP_exit_group, 0, ARGS(0), 0, NULL);
    pos = writer_reserve(&w, sizeof(*r));
    assert_true(pos != UINT64_MAX);
    proc_died(p);
    run();
    assert_int_equal(c.segments->map.ring.torn, 0);
    r = writer_cell(&w, pos);
    memset((char *)r + sizeof(r->seq), 0, sizeof(*r) - sizeof(r->seq));
    r->size = sizeof(*r);
    r->kind = REC_ENTER;
    r->flags = REC_F_BORROWED;
    r->op = OP_exit_group;
    r->pid = r->tid = (uint32_t)child;
    r->arg[0] = 5;
    __atomic_store_n(&r->seq, pos + 1, __ATOMIC_RELEASE);
    run();
    end_child(child);
    proc_died(proc_by_host_pid(&c.model, child));
    run();
    expect("proc.exit", "exit_code=5");
    assert_int_equal(c.model.lost[LK_TORN], 0);
    writer_free(&w);
}

static void test_bad_headers(void **state)
{
    static const struct {
        size_t off;
        uint32_t value;
    } bad[] = {
        {offsetof(struct segment_header, magic), 1},          {offsetof(struct segment_header, version), SEG_VERSION + 1},
        {offsetof(struct segment_header, seg_size), 4096},    {offsetof(struct segment_header, table_hash), 0},
        {offsetof(struct segment_header, fd_off), 0},         {offsetof(struct segment_header, fd_off), 0xffffffc0},
        {offsetof(struct segment_header, fd_cap), 0xffffffff}, {offsetof(struct segment_header, ring_off), 64},
        {offsetof(struct segment_header, ring_off), 0xfffffff0}, {offsetof(struct segment_header, ring_cells), 0},
        {offsetof(struct segment_header, ring_cells), 0xffffffff},
    };
    int fd = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct writer w = prog(NOBODY);

        memcpy((char *)w.h + bad[i].off, &bad[i].value, 4);
        assert_true(fake_join(&c, w.fd, NOBODY) < 0);
        writer_free(&w);
    }
    assert_int_equal(ftruncate(fd, 1 << 22), 0);
    assert_true(fake_join(&c, fd, NOBODY) < 0); /* not sealed: it could be cut under us */
    close(fd);
    assert_true(fake_join(&c, 0, NOBODY) < 0);
    assert_null(c.segments);
    assert_int_equal(c.model.lost[LK_SEGMENT], sizeof(bad) / sizeof(bad[0]) + 2);
}

static uint64_t random_next(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

struct scribbler {
    struct writer *w;
    uint64_t seed;
    int stop;
};

static void *scribble(void *arg)
{
    struct scribbler *s = arg;

    while (!__atomic_load_n(&s->stop, __ATOMIC_RELAXED)) {
        uint64_t r = random_next(&s->seed);
        struct segment_header *h = s->w->h;

        switch (r >> 60) {
        case 0: /* a whole header's fields */
            ((volatile uint8_t *)h)[r % sizeof(*h)] = (uint8_t)(r >> 32);
            break;
        case 1: case 2: { /* plausible records with random contents */
            uint64_t items[8], args[6];

            for (int i = 0; i < 8; i++)
                items[i] = random_next(&s->seed) & (r & 1 ? 0xff : ~0ull);
            for (int i = 0; i < 6; i++)
                args[i] = random_next(&s->seed) & (r & 2 ? 0xf : ~0ull);
            s->w->pid = r & 4 ? NOBODY + (uint32_t)(r >> 8 & 7) : NOBODY;
            writer_put(s->w, (enum rec_kind)(r >> 16 & 7), (enum op_id)(r >> 24 & 0xff), (int64_t)args[0] - 4, args,
                       (uint8_t)(r >> 32), ITEMS({(enum item_type)(r >> 40 & 15), items, r >> 48 & 63},
                                                 {(enum item_type)(r >> 44 & 15), items, r >> 50 & 63}));
            break;
        }
        default: /* anywhere behind the header, ring_head now and then */
            if (r % 5000 == 0)
                h->ring_head = random_next(&s->seed);
            else
                ((volatile uint8_t *)h)[sizeof(*h) + (r >> 8) % (s->w->size - sizeof(*h))] = (uint8_t)r;
        }
    }
    return NULL;
}

/* A program that writes nonsense all over its segment while it is being read: nothing but its own telemetry suffers. */
static void test_scribble(void **state)
{
    struct writer honest = prog((uint32_t)getpid());
    unsigned deletes = 0, broken = 0;

    (void)state;
    attach(&honest);
    told_only = "file=/honest ";
    for (unsigned round = 0; round < 30; round++) {
        struct writer w = prog(NOBODY);
        struct scribbler s = {&w, UINT64_C(0x9e3779b97f4a7c15) * (round + 1), 0};
        uint64_t until = clock_now_mono() + 50000000;
        struct proc *p = attach(&w);
        pthread_t t;

        assert_int_equal(pthread_create(&t, NULL, scribble, &s), 0);
        while (clock_now_mono() < until) {
            writer_put(&honest, REC_CALL, OP_unlink, 0, NULL, 0, ITEMS(TEXT(ITEM_PATH, "/honest")));
            deletes++;
            segments_drain(&c, true);
            core_turn(&c);
            core_process(&c, clock_now_mono() + 1000000);
        }
        __atomic_store_n(&s.stop, 1, __ATOMIC_RELAXED);
        pthread_join(t, NULL);
        run();
        for (struct proc *q = c.model.procs; q; q = q->next)
            if (q->pid != (uint32_t)getpid())
                proc_died(q);
        (void)p;
        c.stopping = true;
        for (int i = 0; i < 1000 && c.model.proc_count > 1; i++) {
            if (i > 5)
                usleep(10000);
            run();
        }
        c.stopping = false;
        assert_int_equal(c.model.proc_count, 1);
        broken += (unsigned)c.model.lost[LK_SEGMENT];
        assert_int_equal(count("fs.delete", "file=/honest"), deletes);
        told_clear();
        deletes = 0;
        writer_free(&w);
    }
    told_only = NULL;
    assert_true(broken > 0);
    assert_int_equal(honest.h->loss[LOSS_RECORD], 0);
    writer_free(&honest);
}

/* --- clock and queue --- */

static void test_clock(void **state)
{
    struct clock_map m = {.count = 2, .ns_per_tick = 0.5};
    uint64_t base = UINT64_C(1700000000000000000), far = base * 2;

    (void)state;
    /* a second passed; meanwhile the wall clock was set back by an hour */
    m.anchor[0] = (struct clock_anchor){1000, 10, 500, base};
    m.anchor[1] = (struct clock_anchor){1000 + 2000000000, 1000000010, 1000000500, base - UINT64_C(3600000000000)};
    assert_int_equal(clock_to_real(&m, SEG_CLOCK_TSC, 1000 + 200, far), base + 100);
    assert_int_equal(clock_to_real(&m, SEG_CLOCK_TSC, 1000 + 2000000000 + 200, far), base - UINT64_C(3600000000000) + 100);
    assert_int_equal(clock_to_real(&m, SEG_CLOCK_TSC, 200, far), base - 400);
    assert_int_equal(clock_to_real(&m, SEG_CLOCK_TSC, 0, base + 7), base + 7); /* none was read */
    assert_int_equal(clock_to_real(&m, SEG_CLOCK_MONO, 700, far), base + 200);
    assert_int_equal(clock_to_real(&m, SEG_CLOCK_MONO, 300, far), base - 200);
    assert_int_equal(clock_to_real(&m, SEG_CLOCK_NONE, 700, 42), 42);
    assert_int_equal(clock_to_real(&m, SEG_CLOCK_TSC, UINT64_MAX, base + 5), base + 5); /* not in the future */
    assert_int_equal(clock_ticks_ns(&m, SEG_CLOCK_TSC, 10), 5);
    assert_int_equal(clock_ticks_ns(&m, SEG_CLOCK_TSC, UINT64_MAX), 0);
    clock_init(&m);
    poll(NULL, 0, 20);
    clock_sample(&m);
    {
        uint64_t real = clock_now_real(), first = m.anchor[0].real, got = clock_to_real(&m, SEG_CLOCK_TSC, m.anchor[0].tsc + (uint64_t)(1e7 / m.ns_per_tick), UINT64_MAX);

        assert_true(got > first + 9990000 && got < first + 10010000 && got < real);
    }
}

static void test_backlog(void **state)
{
    struct backlog b = {0};
    struct backlog_entry *e;
    uint32_t n = 0;
    void *data;

    (void)state;
    for (uint32_t i = 0; i < 5000; i++)
        *(uint32_t *)backlog_add(&b, BL_RECORD, NULL, i, i % 7 == 0 ? 3 << 20 : 4 + i % 900) = i;
    while ((e = backlog_peek(&b, &data))) {
        assert_int_equal(*(uint32_t *)data, n);
        assert_int_equal(e->arrival, n);
        n++;
        backlog_pop(&b);
    }
    assert_int_equal(n, 5000);
    assert_int_equal(b.bytes, 0);
    backlog_free(&b);
}

/* --- the whole process, over its socket --- */

static int join(const char *name, enum join_type type, int fd, struct join_reply *reply)
{
    struct join_request req = {.magic = JOIN_MAGIC, .type = type, .table_hash = syscall_table_hash()};
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct iovec iov = {&req, offsetof(struct join_request, path)};
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {{0}};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    ssize_t n = 0;

    snprintf(addr.sun_path + 1, sizeof(addr.sun_path) - 1, "%s%s", name, type == JOIN_SEGMENT ? "" : JOIN_REQUESTS);
    if (connect(sock, (struct sockaddr *)&addr,
                (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(addr.sun_path + 1))))
        return -errno;
    if (type == JOIN_PLAN)
        strcpy(req.key, "../evil");
    if (fd >= 0) {
        m.msg_control = control.bytes;
        m.msg_controllen = sizeof(control.bytes);
        CMSG_FIRSTHDR(&m)->cmsg_level = SOL_SOCKET;
        CMSG_FIRSTHDR(&m)->cmsg_type = SCM_RIGHTS;
        CMSG_FIRSTHDR(&m)->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), &fd, sizeof(fd));
    }
    assert_true(sendmsg(sock, &m, MSG_NOSIGNAL) > 0);
    if (reply)
        n = recv(sock, reply, sizeof(*reply), 0);
    close(sock);
    return (int)n;
}

static void test_over_the_socket(void **state)
{
    char name[64], text[65536], ready;
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), out[2], go[2], status;
    struct join_reply reply = {0};
    pid_t collector, joiner;
    siginfo_t info;
    ssize_t n;

    (void)state;
    snprintf(name, sizeof(name), "scope-test-%d", (int)getpid());
    strcpy(addr.sun_path + 1, name);
    assert_int_equal(bind(listener, (struct sockaddr *)&addr,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name))), 0);
    assert_int_equal(listen(listener, 16), 0);
    assert_int_equal(pipe(out), 0);
    assert_int_equal(pipe(go), 0);
    collector = fork();
    if (collector == 0) {
        struct collector_options o = {.config = options.config, .listen_fd = listener, .ready_fd = go[1],
                                      .linger_ms = 300, .plan_dir = "/nonexistent"};

        fake_fd = out[1];
        close(out[0]);
        _exit(collector_run(&o));
    }
    close(listener);
    close(out[1]);
    close(go[1]);
    assert_int_equal(read(go[0], &ready, 1), 1);
    joiner = fork();
    if (joiner == 0) {
        struct writer w = prog((uint32_t)getpid());

        join(name, JOIN_SEGMENT, w.fd, NULL);
        put_open(&w, 3, 1, "/joined", 0);
        join(name, JOIN_SYNC, -1, &reply);
        put_open(&w, 4, 1, "/afterwards", 0);
        kill(getpid(), SIGKILL);
    }
    /* Kernels before 6.15 say how it has ended only as long as nobody has waited for it. */
    assert_int_equal(waitid(P_PID, (id_t)joiner, &info, WEXITED | WNOWAIT), 0);
    assert_int_equal(join(name, JOIN_PLAN, out[0], &reply), sizeof(reply));
    assert_int_equal(reply.status, -EINVAL); /* the key would leave the directory */
    assert_int_equal(join(name, JOIN_SYNC, -1, &reply), sizeof(reply));
    assert_int_equal(reply.magic, JOIN_MAGIC);
    assert_int_equal(reply.status, 0);
    n = read(out[0], text, sizeof(text) - 1);
    assert_true(n > 0);
    text[n] = 0;
    assert_non_null(strstr(text, "file=/joined"));
    assert_non_null(strstr(text, "file=/afterwards")); /* SIGKILL doesn't lose what was recorded */
    assert_non_null(strstr(text, "signal=SIGKILL"));
    assert_non_null(strstr(text, "end pid="));
    assert_int_equal(waitpid(joiner, &status, 0), joiner);
    waitpid(collector, &status, 0); /* nobody is left */
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    close(out[0]);
    close(go[0]);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_open_read_close), T(test_file_of_a_descriptor), T(test_left_open), T(test_lost_between), T(test_names), T(test_dots), T(test_per_operation), T(test_console),
        T(test_dup_and_ranges), T(test_connections), T(test_fork_borrow_exec), T(test_images), T(test_short_process), T(test_mapped_later), T(test_sleep), T(test_nap_without_place), T(test_nap_of_mapped), T(test_nap),
        T(test_doze),
      T(test_upgrade), T(test_exec_behind_upgrade), T(test_same_number), T(test_foreign_number), T(test_exec_behind_a_stall),
        cmocka_unit_test_setup_teardown(test_exec_behind_a_ring_that_waits, setup_syscalls, teardown),
        T(test_short_life), T(test_exec_fails), T(test_fork_told_late), T(test_killed_child), T(test_inner_child),
        T(test_claims_about_others), T(test_forged_identity), T(test_users_share), T(test_many_vforks), T(test_unnumbered_children), T(test_number_of_a_thread), T(test_unwatched),
        cmocka_unit_test_setup_teardown(test_syscalls, setup_syscalls, teardown),
        T(test_wrap_and_full), T(test_torn), T(test_slow_child), T(test_bad_headers), T(test_scribble), T(test_clock), T(test_backlog),
        T(test_over_the_socket),
    };

    log_setup(stderr, LOGL_NONE, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
