/* SPDX-License-Identifier: Apache-2.0 */
/* Destinations against real files and sockets that come late, break, stand still or fill up: nothing may be lost
 * without being counted, and no line may arrive in part. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <event2/event.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "output/internal.h"
#include "output/output.h"
#include "output/queue.h"

#define RETRY_MS 40

static struct event_base *base;
static char dir[64];

static int set_up(void **state)
{
    strcpy(dir, "/tmp/test_output.XXXXXX");
    base = event_base_new();
    output_set_limits(1024 * 1024, 64 * 1024, RETRY_MS);
    return base && mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state)
{
    char *command = xasprintf("rm -r '%s'", dir);
    int rc = system(command);

    free(command);
    event_base_free(base);
    return rc;
}

static void run_ms(unsigned ms)
{
    struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = (int)(ms % 1000) * 1000};

    event_base_loopexit(base, &tv);
    event_base_dispatch(base);
}

static struct output_stats stats_of(struct output *o)
{
    struct output_stats s;

    output_stats(o, &s);
    return s;
}

/* "<n> xxxx...\n", `size` bytes in all. */
static size_t make_record(char *to, unsigned n, size_t size)
{
    int len = snprintf(to, 32, "%u ", n);

    memset(to + len, 'x', size - (size_t)len);
    to[size - 1] = '\n';
    return size;
}

static unsigned put_records(struct output *o, unsigned from, unsigned count, size_t size)
{
    char *text = xmalloc(size + 32);
    unsigned taken = 0;

    for (unsigned i = 0; i < count; i++)
        taken += output_write(o, text, make_record(text, from + i, size));
    free(text);
    return taken;
}

/* Text must be whole records in rising order; returns how many, and the last number. */
static unsigned check_records(const char *text, size_t len, size_t size, unsigned *ret_last)
{
    char *expected = xmalloc(size + 32);
    long last = -1;
    unsigned count = 0;

    for (size_t at = 0; at < len; at += size, count++) {
        long n = strtol(text + at, NULL, 10);

        assert_true(at + size <= len);
        assert_true(n > last);
        make_record(expected, (unsigned)n, size);
        assert_memory_equal(text + at, expected, size);
        last = n;
    }
    free(expected);
    if (ret_last)
        *ret_last = (unsigned)last;
    return count;
}

/* --- queue --- */

static void queue_against_a_model(void **state)
{
    struct queue q;
    struct buf all = BUF_INIT;      /* every byte ever accepted */
    size_t first = 0, next = 0;     /* model of the positions in it */
    size_t ends[20000];
    unsigned records = 0, rec_first = 0, sent = 0;
    char text[600];

    queue_init(&q, 4096, 64);
    srandom(1);
    for (int step = 0; step < 40000; step++) {
        switch (random() % 5) {
        case 0:
        case 1: {
            size_t n = 1 + (size_t)(random() % (random() % 10 ? 80 : 500));
            bool room = all.len - first + n <= 4096 && records - rec_first < 64;

            for (size_t i = 0; i < n; i++)
                text[i] = (char)random();
            assert_int_equal(queue_put(&q, text, n), room);
            if (room && records < 20000) {
                buf_add(&all, text, n);
                ends[records++] = all.len;
            }
            break;
        }
        case 2:
        case 3: {
            size_t limit = 1 + (size_t)(random() % 300), n = 0;
            struct iovec part[2];
            unsigned before = sent;
            int parts = queue_peek(&q, limit, part);

            for (int i = 0; i < parts; i++) {
                assert_memory_equal(part[i].iov_base, all.p + next + n, part[i].iov_len);
                n += part[i].iov_len;
            }
            assert_int_equal(n, all.len - next < limit ? all.len - next : limit);
            next += n;
            while (sent < records && ends[sent] <= next)
                sent++;
            assert_int_equal(queue_sent(&q, n), sent - before);
            break;
        }
        default:
            if (random() % 4) {
                size_t unacknowledged = (size_t)(random() % 200);

                queue_release(&q, unacknowledged);
                while (rec_first < sent && ends[rec_first] + unacknowledged <= next)
                    first = ends[rec_first++];
            } else {
                assert_int_equal(queue_rewind(&q), sent - rec_first);
                next = first;
                sent = rec_first;
            }
        }
        assert_int_equal(queue_waiting(&q), records - sent);
        assert_int_equal(queue_all_sent(&q), next == all.len);
        assert_int_equal(queue_inside(&q), next != (sent ? ends[sent - 1] : 0));
    }
    assert_true(records > 1000);
    buf_free(&all);
    queue_free(&q);
}

static void queue_packs_whole_records(void **state)
{
    struct queue q;
    size_t records;

    queue_init(&q, 1024, 64);
    assert_int_equal(queue_peek_records(&q, 100, &records), 0);
    assert_true(queue_put(&q, "aaaa\n", 5));
    assert_true(queue_put(&q, "bbb\n", 4));
    assert_true(queue_put(&q, "cccccccccc\n", 11));
    assert_int_equal(queue_peek_records(&q, 0, &records), 5);
    assert_int_equal(records, 1);
    assert_int_equal(queue_peek_records(&q, 8, &records), 5);
    assert_int_equal(records, 1);
    assert_int_equal(queue_peek_records(&q, 9, &records), 9);
    assert_int_equal(records, 2);
    assert_int_equal(queue_peek_records(&q, 19, &records), 9);
    assert_int_equal(records, 2);
    assert_int_equal(queue_peek_records(&q, 20, &records), 20);
    assert_int_equal(records, 3);
    queue_sent(&q, 9);
    assert_int_equal(queue_peek_records(&q, 3, &records), 11); /* too long alone: the transport decides */
    assert_int_equal(records, 1);
    assert_false(queue_put(&q, "x", 5000));
    queue_free(&q);
}

/* --- files --- */

static char *path_in_dir(const char *name)
{
    return xasprintf("%s/%s", dir, name);
}

static struct output *file_output(const char *path, enum cfg_buffering buffering)
{
    struct cfg_transport cfg = {.type = CFG_FILE, .path = (char *)path, .buffering = buffering};

    return output_get(base, &cfg, 0);
}

static char *slurp(const char *path, size_t *ret_len)
{
    struct buf b = BUF_INIT;
    FILE *f = fopen(path, "r");
    char piece[65536];
    size_t n;

    while (f && (n = fread(piece, 1, sizeof(piece), f)) > 0)
        buf_add(&b, piece, n);
    if (f)
        fclose(f);
    buf_cstr(&b);
    if (ret_len)
        *ret_len = b.len;
    return b.p;
}

static void file_is_appended_to(void **state)
{
    char *path = path_in_dir("append"), *text;
    mode_t mask = umask(027);
    struct stat st;
    struct output *o;

    o = file_output(path, CFG_BUFFER_FULL);
    umask(mask);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    assert_true(output_write(o, "one\n", 4));
    assert_true(output_flush(o));
    assert_true(output_write(o, "two\n", 4));
    assert_int_equal(stats_of(o).queued, 1);
    output_put(o); /* writes what is left */
    text = slurp(path, NULL);
    assert_string_equal(text, "one\ntwo\n");
    free(text);
    o = file_output(path, CFG_BUFFER_FULL);
    assert_true(output_write(o, "three\n", 6));
    output_put(o);
    text = slurp(path, NULL);
    assert_string_equal(text, "one\ntwo\nthree\n");
    free(text);
    free(path);
}

static void line_buffering_writes_soon_full_buffering_late(void **state)
{
    char *line = path_in_dir("line"), *full = path_in_dir("full"), *text;
    struct output *a = file_output(line, CFG_BUFFER_LINE), *b = file_output(full, CFG_BUFFER_FULL);

    output_write(a, "x\n", 2);
    output_write(b, "x\n", 2);
    run_ms(100);
    text = slurp(line, NULL);
    assert_string_equal(text, "x\n");
    free(text);
    text = slurp(full, NULL);
    assert_string_equal(text, "");
    free(text);
    run_ms(2100);
    text = slurp(full, NULL);
    assert_string_equal(text, "x\n");
    free(text);
    output_put(a);
    output_put(b);
    free(line);
    free(full);
}

static void equal_destinations_are_shared(void **state)
{
    char *path = path_in_dir("shared");
    struct output *a = file_output(path, CFG_BUFFER_LINE), *b = file_output(path, CFG_BUFFER_LINE), *c;
    char *other = path_in_dir("other");

    assert_ptr_equal(a, b);
    c = file_output(other, CFG_BUFFER_LINE);
    assert_ptr_not_equal(a, c);
    output_write(a, "x\n", 2);
    assert_int_equal(output_abandon(a), 0); /* the other user may still write */
    assert_int_equal(stats_of(a).queued, 1);
    output_put(a);
    output_put(b);
    output_put(c);
    free(path);
    free(other);
}

static void file_that_cannot_be_opened_is_tried_again(void **state)
{
    char *sub = path_in_dir("later"), *path = path_in_dir("later/file"), *text;
    struct output *o = file_output(path, CFG_BUFFER_LINE);
    struct output_stats s = stats_of(o);

    assert_false(s.connected);
    assert_int_equal(s.attempts, 1);
    assert_non_null(strstr(s.failure, path));
    assert_non_null(strstr(s.failure, "No such file or directory"));
    assert_true(output_write(o, "kept\n", 5));
    assert_false(output_flush(o));
    assert_int_equal(mkdir(sub, 0700), 0);
    run_ms(4 * RETRY_MS);
    assert_true(stats_of(o).connected);
    text = slurp(path, NULL);
    assert_string_equal(text, "kept\n");
    free(text);
    output_put(o);
    free(sub);
    free(path);
}

static void full_file_system_keeps_lines_whole(void **state)
{
    char *path = path_in_dir("small"), *text;
    struct rlimit old, small = {.rlim_cur = 10000};
    struct output *o = file_output(path, CFG_BUFFER_FULL);
    unsigned taken, last;
    size_t len;

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small.rlim_max = old.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0); /* behaves like a disk with 10000 bytes left */
    taken = put_records(o, 0, 300, 300);
    assert_int_equal(taken, 300);
    assert_false(output_flush(o));
    assert_non_null(strstr(stats_of(o).failure, "File too large"));
    assert_int_equal(stats_of(o).records, 33);
    assert_int_equal(stats_of(o).queued, 267);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0); /* room again: it goes on in the middle of the line */
    assert_true(output_flush(o));
    text = slurp(path, &len);
    assert_int_equal(check_records(text, len, 300, &last), 300);
    free(text);
    assert_null(stats_of(o).failure);

    small.rlim_cur = 100000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    put_records(o, 300, 100, 300);
    assert_false(output_flush(o));
    assert_int_equal(stats_of(o).queued, 67);
    assert_int_equal(output_claim_lost(o), 0);
    output_put(o); /* the room doesn't come back: the part of a line is taken away again */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    text = slurp(path, &len);
    assert_int_equal(check_records(text, len, 300, NULL), 333);
    free(text);
    free(path);
}

/* With a busy disk much at once is written by a thread; it fills up meanwhile. */
static void much_at_once_stays_whole(void **state)
{
    struct rlimit old, small;
    char *path = path_in_dir("much"), *text;
    struct output *o = file_output(path, CFG_BUFFER_LINE);
    unsigned last;
    size_t len;

    output_disks_are_busy(true);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = (struct rlimit){400010, old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_int_equal(put_records(o, 0, 3000, 300), 3000);
    run_ms(50);
    assert_int_equal(stats_of(o).records, 1333); /* and a part of one */
    assert_int_equal(stats_of(o).lost_queue, 0);
    assert_false(output_flush(o));
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_true(output_wait(o, 5000));
    assert_int_equal(put_records(o, 3000, 12000, 300), 12000); /* more than the queue takes */
    output_put(o);                                            /* writes what is under way */
    output_disks_are_busy(false);
    text = slurp(path, &len);
    assert_int_equal(check_records(text, len, 300, &last), 15000);
    free(text);
    free(path);
}

static void bounded_queue_counts_each_loss(void **state)
{
    struct output *o = file_output("/dev/full", CFG_BUFFER_LINE);
    unsigned taken = put_records(o, 0, 20000, 100); /* 2 MB into 1 MiB */
    struct output_stats s = stats_of(o);

    assert_int_equal(taken, 1024 * 1024 / 100);
    assert_int_equal(s.queued, taken);
    assert_int_equal(s.lost_queue, 20000 - taken);
    assert_int_equal(s.records, 0);
    assert_int_equal(output_abandon(o), taken);
    s = stats_of(o);
    assert_int_equal(s.lost_destination, taken);
    assert_int_equal(s.queued, 0);
    assert_int_equal(output_claim_lost(o), taken);
    assert_int_equal(output_claim_lost(o), 0);
    output_put(o);
}

static void many_small_records_are_bounded_too(void **state)
{
    struct output *o = file_output("/dev/full", CFG_BUFFER_LINE);

    assert_int_equal(put_records(o, 0, 70000, 8), 64 * 1024);
    assert_int_equal(stats_of(o).lost_queue, 70000 - 64 * 1024);
    output_abandon(o);
    output_put(o);
}

static void fifo_without_a_reader_does_not_block(void **state)
{
    char *path = path_in_dir("fifo"), *text = xmalloc(400000);
    unsigned got, last;
    struct output *o;
    size_t len = 0;
    ssize_t n;
    int fd;

    assert_int_equal(mkfifo(path, 0600), 0);
    o = file_output(path, CFG_BUFFER_LINE);
    assert_false(stats_of(o).connected);
    put_records(o, 0, 1000, 300);
    fd = open(path, O_RDONLY | O_NONBLOCK);
    assert_true(fd >= 0);
    run_ms(4 * RETRY_MS);
    assert_true(stats_of(o).connected);
    assert_true(stats_of(o).queued > 0); /* the pipe is full */
    for (int i = 0; i < 200 && len < 300000; i++) {
        while ((n = read(fd, text + len, 400000 - len)) > 0)
            len += (size_t)n;
        run_ms(5);
    }
    got = check_records(text, len, 300, &last);
    assert_int_equal(got, 1000);
    close(fd);
    output_put(o);
    free(text);
    free(path);
}

static void stdout_of_the_collector(void **state)
{
    char *path = path_in_dir("out"), *text;
    int saved = dup(1), fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    struct output *o;

    fflush(stdout);
    dup2(fd, 1);
    o = file_output("stdout", CFG_BUFFER_LINE);
    assert_int_equal(write(1, "before\n", 7), 7);
    output_write(o, "record\n", 7);
    output_flush(o);
    assert_int_equal(write(1, "after\n", 6), 6); /* the offset is shared: nothing is overwritten */
    output_put(o);
    dup2(saved, 1);
    close(saved);
    close(fd);
    text = slurp(path, NULL);
    assert_string_equal(text, "before\nrecord\nafter\n");
    free(text);
    free(path);
}

static void stderr_pipe_that_nobody_reads_does_not_block(void **state)
{
    int saved = dup(2), fd[2];
    struct output *o;
    int flags;

    assert_int_equal(pipe(fd), 0);
    dup2(fd[1], 2);
    o = file_output("stderr", CFG_BUFFER_LINE);
    flags = fcntl(2, F_GETFL);
    put_records(o, 0, 1000, 300);
    assert_false(output_flush(o));
    dup2(saved, 2);
    assert_int_equal(flags & O_NONBLOCK, 0); /* for the program that shares it nothing has changed */
    assert_true(stats_of(o).queued > 0);
    output_put(o);
    close(saved);
    close(fd[0]);
    close(fd[1]);
}

/* --- sockets --- */

union any_address {
    struct sockaddr sa;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_un un;
};

static int listen_at(int family, int type, unsigned port, unsigned *ret_port)
{
    union any_address a = {0};
    socklen_t len = family == AF_INET ? sizeof(a.v4) : sizeof(a.v6);
    int fd = socket(family, type, 0), on = 1;

    if (family == AF_INET) {
        a.v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        a.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    } else {
        a.v6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
        a.v6.sin6_addr = in6addr_loopback;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, &a.sa, len) < 0 || (type == SOCK_STREAM && listen(fd, 5) < 0)) {
        close(fd);
        return -1;
    }
    getsockname(fd, &a.sa, &len);
    if (ret_port)
        *ret_port = ntohs(family == AF_INET ? a.v4.sin_port : a.v6.sin6_port);
    return fd;
}

static struct output *inet_output(enum cfg_transport_type type, const char *host, unsigned port, size_t datagram_max)
{
    char text[16];
    struct cfg_transport cfg = {.type = type, .host = (char *)host, .port = text};

    snprintf(text, sizeof(text), "%u", port);
    return output_get(base, &cfg, datagram_max);
}

/* Accepts a connection, running the loop meanwhile. */
static int accept_one(int listener)
{
    for (int i = 0; i < 300; i++) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);

        if (fd >= 0)
            return fd;
        assert_int_equal(errno, EAGAIN);
        run_ms(5);
    }
    fail_msg("nobody connects");
    return -1;
}

/* Reads until `want` bytes are there (or for a while nothing comes). */
static size_t read_some(int fd, struct buf *b, size_t want)
{
    for (int idle = 0; b->len < want && idle < 60;) {
        ssize_t n = read(fd, buf_room(b, 65536), 65536);

        if (n > 0) {
            b->len += (size_t)n;
            idle = 0;
        } else {
            idle++;
            run_ms(5);
        }
    }
    buf_cstr(b);
    return b->len;
}

static void tcp_listener_that_comes_late(void **state)
{
    struct buf got = BUF_INIT;
    unsigned port, last;
    int listener = listen_at(AF_INET, SOCK_STREAM, 0, &port), fd;
    struct output_stats s;
    struct output *o;

    close(listener); /* nobody is there at first */
    o = inet_output(CFG_TCP, "127.0.0.1", port, 0);
    put_records(o, 0, 100, 50);
    run_ms(3 * RETRY_MS);
    s = stats_of(o);
    assert_false(s.connected);
    assert_true(s.attempts >= 2);
    assert_string_equal(s.failure, "can't connect: Connection refused");
    assert_int_equal(s.queued, 100);
    listener = listen_at(AF_INET, SOCK_STREAM, port, NULL);
    fcntl(listener, F_SETFL, O_NONBLOCK);
    fd = accept_one(listener);
    assert_int_equal(read_some(fd, &got, 5000), 5000);
    assert_int_equal(check_records(got.p, got.len, 50, &last), 100);
    s = stats_of(o);
    assert_true(s.connected);
    assert_int_equal(s.attempts, 0);
    assert_null(s.failure);
    assert_int_equal(s.records, 100);
    assert_int_equal(s.lost_queue + s.lost_destination, 0);
    output_put(o);
    close(fd);
    close(listener);
    buf_free(&got);
}

static void write_start_message(void *ctx, struct output *o)
{
    (*(int *)ctx)++;
    output_write(o, "start\n", 6);
}

static void broken_tcp_connection_loses_nothing_that_was_not_acknowledged(void **state)
{
    struct buf one = BUF_INIT, two = BUF_INIT;
    unsigned port, first, last, small = 4096;
    int listener = listen_at(AF_INET, SOCK_STREAM, 0, &port), fd, calls = 0;
    struct output *o;

    setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    fcntl(listener, F_SETFL, O_NONBLOCK);
    o = inet_output(CFG_TCP, "127.0.0.1", port, 0);
    output_on_connect(o, write_start_message, &calls);
    fd = accept_one(listener);
    put_records(o, 0, 1000, 700); /* more than the receiver takes: some are in flight, one is sent in part */
    output_flush(o);
    run_ms(20);
    assert_int_equal(calls, 0); /* the first connection needs no repetition */
    while (one.len < 100000) {
        ssize_t n = read(fd, buf_room(&one, 1000), 1000);

        if (n > 0)
            one.len += (size_t)n;
        else
            run_ms(1);
    }
    close(fd);
    fd = accept_one(listener);
    read_some(fd, &two, 1000 * 700);
    assert_int_equal(calls, 1);
    assert_memory_equal(two.p, "start\n", 6); /* before everything else */
    first = (unsigned)atoi(two.p + 6);
    check_records(two.p + 6, two.len - 6, 700, &last); /* from the start of a line */
    assert_int_equal(last, 999);
    /* Only what the dead receiver's kernel had acknowledged is missing: its small buffer. What it had not yet
     * acknowledged comes twice. */
    assert_in_range(first, one.len / 700 - 20, one.len / 700 + 20);
    assert_int_equal(stats_of(o).lost_queue, 0);
    run_ms(50);
    assert_int_equal(stats_of(o).records, 1000 + 1);
    assert_int_equal(stats_of(o).queued, 0);
    output_put(o);
    close(fd);
    close(listener);
    buf_free(&one);
    buf_free(&two);
}

static void record_sent_into_a_closed_connection_is_sent_again(void **state)
{
    struct buf got = BUF_INIT;
    unsigned port;
    int listener = listen_at(AF_INET, SOCK_STREAM, 0, &port), fd;
    struct linger hard = {.l_onoff = 1};
    struct output *o;

    fcntl(listener, F_SETFL, O_NONBLOCK);
    o = inet_output(CFG_TCP, "127.0.0.1", port, 0);
    fd = accept_one(listener);
    put_records(o, 0, 1, 50);
    output_flush(o);
    assert_int_equal(read_some(fd, &got, 50), 50);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    close(fd); /* reset; the sender hasn't been in its loop yet */
    put_records(o, 1, 1, 50);
    output_flush(o);
    fd = accept_one(listener);
    assert_int_equal(read_some(fd, &got, 100), 100);
    assert_int_equal(check_records(got.p, got.len, 50, NULL), 2);
    output_put(o);
    close(fd);
    close(listener);
    buf_free(&got);
}

static void slow_reader_bounded_queue_exact_count(void **state)
{
    struct buf got = BUF_INIT;
    unsigned port, taken, total = 40000; /* 12 MB */
    int listener = listen_at(AF_INET, SOCK_STREAM, 0, &port), fd;
    struct output_stats s;
    struct output *o;

    fcntl(listener, F_SETFL, O_NONBLOCK);
    o = inet_output(CFG_TCP, "127.0.0.1", port, 0);
    fd = accept_one(listener);
    taken = put_records(o, 0, total, 300);
    s = stats_of(o);
    assert_true(taken < total);
    assert_int_equal(s.lost_queue, total - taken);
    assert_true(s.queued * 300 <= 1024 * 1024);
    read_some(fd, &got, (size_t)taken * 300);
    assert_int_equal(check_records(got.p, got.len, 300, NULL), taken);
    s = stats_of(o);
    assert_int_equal(s.records, taken);
    assert_int_equal(s.queued, 0);
    assert_int_equal(s.lost_destination, 0);
    output_put(o);
    close(fd);
    close(listener);
    buf_free(&got);
}

static void suspended_reader_at_the_end_is_counted(void **state)
{
    unsigned port, taken, small = 4096;
    int listener = listen_at(AF_INET, SOCK_STREAM, 0, &port), fd;
    struct output *o;
    uint64_t before;

    setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    fcntl(listener, F_SETFL, O_NONBLOCK);
    output_set_limits(16 * 1024 * 1024, 0, 0); /* more than the kernel's buffers take */
    o = inet_output(CFG_TCP, "127.0.0.1", port, 0);
    fd = accept_one(listener);
    taken = put_records(o, 0, 40000, 300);
    before = monotonic_ms();
    assert_false(output_wait(o, 200));
    assert_true(monotonic_ms() - before < 2000);
    assert_int_equal(output_abandon(o) + stats_of(o).records, taken);
    output_put(o);
    close(fd);
    close(listener);
}

static void output_wait_connects_without_the_event_loop(void **state)
{
    struct buf got = BUF_INIT;
    unsigned port;
    int listener = listen_at(AF_INET, SOCK_STREAM, 0, &port), fd;
    struct output *o = inet_output(CFG_TCP, "127.0.0.1", port, 0);

    put_records(o, 0, 100, 300);
    assert_true(output_wait(o, 2000));
    fd = accept(listener, NULL, NULL);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    assert_int_equal(read_some(fd, &got, 30000), 30000);
    output_put(o);
    close(fd);
    close(listener);
    buf_free(&got);
}

static void output_wait_does_not_wait_for_nothing(void **state)
{
    unsigned port;
    int listener = listen_at(AF_INET, SOCK_STREAM, 0, &port);
    uint64_t before;
    struct output *o;

    close(listener);
    output_set_limits(0, 0, 60000);
    o = inet_output(CFG_TCP, "127.0.0.1", port, 0);
    put_records(o, 0, 1, 300);
    run_ms(20);
    output_set_limits(0, 0, RETRY_MS);
    before = monotonic_ms();
    assert_false(output_wait(o, 3000));
    assert_true(monotonic_ms() - before < 1000); /* the next attempt would come too late */
    assert_int_equal(output_abandon(o), 1);
    output_put(o);
}

static void backoff_doubles(void **state)
{
    unsigned port, attempts[6];
    int listener = listen_at(AF_INET, SOCK_STREAM, 0, &port);
    struct output *o;

    close(listener);
    o = inet_output(CFG_TCP, "127.0.0.1", port, 0); /* after 40, 80, 160, 320 ms, each a quarter more or less */
    for (int i = 0; i < 6; i++) {
        run_ms(RETRY_MS * 2);
        attempts[i] = stats_of(o).attempts;
    }
    assert_in_range(attempts[0], 2, 2);
    assert_in_range(attempts[5], 4, 5);
    output_put(o);
}

static void ipv6_and_names(void **state)
{
    struct buf got = BUF_INIT;
    unsigned port;
    int listener = listen_at(AF_INET6, SOCK_STREAM, 0, &port), fd;
    struct output *o;

    if (listener < 0) { /* no IPv6 on this machine: the name must do with IPv4 */
        listener = listen_at(AF_INET, SOCK_STREAM, 0, &port);
    } else {
        fcntl(listener, F_SETFL, O_NONBLOCK);
        o = inet_output(CFG_TCP, "::1", port, 0);
        fd = accept_one(listener);
        output_put(o);
        close(fd);
    }
    fcntl(listener, F_SETFL, O_NONBLOCK);
    o = inet_output(CFG_TCP, "localhost", port, 0); /* 127.0.0.1 refuses, then ::1 */
    put_records(o, 0, 2, 300);
    fd = accept_one(listener);
    assert_int_equal(read_some(fd, &got, 600), 600);
    output_put(o);
    close(fd);
    close(listener);
    buf_free(&got);
}

static void name_that_does_not_exist(void **state)
{
    struct output *o = inet_output(CFG_TCP, "does-not-exist.invalid", 9, 0);
    struct output_stats s;

    for (int i = 0; i < 220 && !stats_of(o).failure; i++)
        run_ms(50); /* the loop goes on: nothing blocks */
    s = stats_of(o);
    assert_non_null(s.failure);
    assert_memory_equal(s.failure, "DNS lookup of 'does-not-exist.invalid' failed: ", 47);
    output_put(o);
}

static void port_must_be_a_number(void **state)
{
    static const char *const wrong[] = {"", "0", "65536", "http", "1x", "-1", "99999999999999999999"};

    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        struct cfg_transport cfg = {.type = CFG_TCP, .host = (char *)"127.0.0.1", .port = (char *)wrong[i]};
        struct output *o = output_get(base, &cfg, 0);

        assert_non_null(strstr(stats_of(o).failure, "is not a port number (1 to 65535)"));
        output_put(o);
    }
}

static void unix_sockets(void **state)
{
    for (int abstract = 0; abstract < 2; abstract++) {
        char *path = abstract ? xasprintf("@test_output.%d", getpid()) : path_in_dir("socket");
        struct cfg_transport cfg = {.type = CFG_UNIX, .path = path};
        union any_address a = {.un.sun_family = AF_UNIX};
        int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0), fd;
        struct output *o = output_get(base, &cfg, 0);
        struct buf got = BUF_INIT;
        unsigned last;

        assert_false(stats_of(o).connected);
        put_records(o, 0, 1000, 300);
        memcpy(a.un.sun_path, path, strlen(path));
        if (abstract)
            a.un.sun_path[0] = 0;
        assert_int_equal(bind(listener, &a.sa, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path))), 0);
        assert_int_equal(listen(listener, 5), 0);
        fd = accept_one(listener);
        assert_int_equal(read_some(fd, &got, 300000), 300000);
        assert_int_equal(check_records(got.p, got.len, 300, &last), 1000);

        /* Closed while a line is half sent: it comes again from its start. */
        put_records(o, 1000, 3000, 300);
        output_flush(o);
        assert_true(stats_of(o).queued > 0);
        close(fd);
        fd = accept_one(listener);
        buf_reset(&got);
        read_some(fd, &got, 300);
        put_records(o, 4000, 1, 300);
        do
            read_some(fd, &got, got.len + 300);
        while (stats_of(o).queued);
        read_some(fd, &got, got.len + 1);
        check_records(got.p, got.len, 300, &last);
        assert_int_equal(last, 4000);
        output_put(o);
        close(fd);
        close(listener);
        buf_free(&got);
        free(path);
    }
}

static void datagrams_are_packed(void **state)
{
    unsigned port;
    int fd = listen_at(AF_INET, SOCK_DGRAM, 0, &port);
    struct output *o = inet_output(CFG_UDP, "127.0.0.1", port, 100),
                  *single = inet_output(CFG_UDP, "127.0.0.1", port, 0);
    char text[200];

    assert_ptr_not_equal(o, single);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    put_records(o, 0, 7, 30);
    output_flush(o);
    for (int i = 0; i < 3; i++) {
        ssize_t n = recv(fd, text, sizeof(text), 0);

        assert_int_equal(n, i < 2 ? 90 : 30); /* never more than 100, never a part of a record */
        check_records(text, (size_t)n, 30, NULL);
    }
    put_records(single, 0, 2, 30);
    output_flush(single);
    assert_int_equal(recv(fd, text, sizeof(text), 0), 30);
    assert_int_equal(recv(fd, text, sizeof(text), 0), 30);
    put_records(single, 0, 1, 70000); /* no datagram can hold that */
    put_records(single, 1, 1, 30);
    output_flush(single);
    assert_int_equal(recv(fd, text, sizeof(text), 0), 30);
    assert_int_equal(stats_of(single).lost_destination, 1);
    assert_int_equal(stats_of(single).records, 3);
    output_put(o);
    output_put(single);
    close(fd);
}

static void datagrams_that_are_refused_are_counted(void **state)
{
    unsigned port;
    int fd = listen_at(AF_INET, SOCK_DGRAM, 0, &port);
    struct output *o = inet_output(CFG_UDP, "127.0.0.1", port, 0);
    struct output_stats s;

    close(fd);
    for (unsigned i = 0; i < 5; i++) {
        put_records(o, i, 1, 30);
        output_flush(o);
        run_ms(5);
    }
    s = stats_of(o);
    assert_int_equal(s.records, 1); /* nobody has said anything about the last one yet */
    assert_int_equal(s.lost_destination, 4);
    assert_non_null(strstr(s.failure, "nobody receives"));
    output_put(o);
}

/* --- TLS --- */

static X509 *make_certificate(EVP_PKEY *key, const char *name, const char *file)
{
    X509 *x = X509_new();
    X509_NAME *subject = X509_get_subject_name(x);
    X509_EXTENSION *alt;
    char *value = xasprintf("DNS:%s", name);
    FILE *f = fopen(file, "w");

    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), -60);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, key);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(x, subject);
    alt = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, value);
    X509_add_ext(x, alt, -1);
    X509_EXTENSION_free(alt);
    X509_sign(x, key, EVP_sha256());
    PEM_write_X509(f, x);
    fclose(f);
    free(value);
    return x;
}

/* A server in a child: accepts one connection, copies what it gets to `out`. */
static pid_t tls_server(int listener, X509 *cert, EVP_PKEY *key, int out)
{
    pid_t pid = fork();
    SSL_CTX *ctx;
    SSL *ssl;
    char text[4096];
    int fd, n;

    if (pid)
        return pid;
    alarm(10);
    ctx = SSL_CTX_new(TLS_server_method());
    SSL_CTX_use_certificate(ctx, cert);
    SSL_CTX_use_PrivateKey(ctx, key);
    fd = accept(listener, NULL, NULL);
    ssl = SSL_new(ctx);
    SSL_set_fd(ssl, fd);
    if (SSL_accept(ssl) != 1)
        _exit(1);
    while ((n = SSL_read(ssl, text, sizeof(text))) > 0)
        if (write(out, text, (size_t)n) != n)
            _exit(2);
    _exit(0);
}

static void tls_with_certificate_check(void **state)
{
    static const struct {
        const char *cert_name;
        bool validate, own_ca, works;
    } rows[] = {
        {"localhost", true, true, true},
        {"localhost", true, false, false},  /* not signed by anybody the system trusts */
        {"elsewhere", true, true, false},   /* the name is checked, too */
        {"elsewhere", false, false, true},
    };
    EVP_PKEY *key = EVP_EC_gen("P-256");
    char *ca = path_in_dir("ca.pem");

    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        unsigned port;
        int listener = listen_at(AF_INET, SOCK_STREAM, 0, &port), out[2], status;
        X509 *cert = make_certificate(key, rows[i].cert_name, ca);
        struct buf got = BUF_INIT;
        char text[16];
        struct cfg_transport cfg = {.type = CFG_TCP, .host = (char *)"localhost", .port = text,
                                    .tls = {true, rows[i].validate, rows[i].own_ca ? ca : NULL}};
        struct output *o;
        pid_t server;

        assert_int_equal(pipe(out), 0);
        fcntl(out[0], F_SETFL, O_NONBLOCK);
        server = tls_server(listener, cert, key, out[1]);
        close(out[1]);
        close(listener);
        snprintf(text, sizeof(text), "%u", port);
        o = output_get(base, &cfg, 0);
        put_records(o, 0, 500, 300);
        if (rows[i].works) {
            assert_int_equal(read_some(out[0], &got, 150000), 150000);
            check_records(got.p, got.len, 300, NULL);
            assert_int_equal(stats_of(o).records, 500);
        } else {
            for (int k = 0; k < 200 && !stats_of(o).failure; k++)
                run_ms(5);
            assert_non_null(strstr(stats_of(o).failure, "TLS: server validation failed: "));
            assert_int_equal(stats_of(o).queued, 500);
            output_abandon(o);
        }
        output_put(o);
        close(out[0]);
        assert_int_equal(waitpid(server, &status, 0), server);
        assert_int_equal(status == 0, rows[i].works);
        X509_free(cert);
        buf_free(&got);
    }
    EVP_PKEY_free(key);
    free(ca);
}

static void tls_to_a_server_that_does_not_speak_it(void **state)
{
    unsigned port;
    int listener = listen_at(AF_INET, SOCK_STREAM, 0, &port), fd;
    char text[16];
    struct cfg_transport cfg = {.type = CFG_TCP, .host = (char *)"127.0.0.1", .port = text, .tls = {.enable = true}};
    struct output *o;

    fcntl(listener, F_SETFL, O_NONBLOCK);
    snprintf(text, sizeof(text), "%u", port);
    o = output_get(base, &cfg, 0);
    fd = accept_one(listener);
    assert_int_equal(write(fd, "HTTP/1.1 400 Bad Request\r\n\r\n", 28), 28);
    run_ms(20);
    assert_false(stats_of(o).connected);
    assert_non_null(strstr(stats_of(o).failure, "TLS: handshake failed, perhaps as the server doesn't speak TLS"));
    output_put(o);
    close(fd);
    close(listener);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(queue_against_a_model),
        cmocka_unit_test(queue_packs_whole_records),
        cmocka_unit_test_setup_teardown(file_is_appended_to, set_up, tear_down),
        cmocka_unit_test_setup_teardown(line_buffering_writes_soon_full_buffering_late, set_up, tear_down),
        cmocka_unit_test_setup_teardown(equal_destinations_are_shared, set_up, tear_down),
        cmocka_unit_test_setup_teardown(file_that_cannot_be_opened_is_tried_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(full_file_system_keeps_lines_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(much_at_once_stays_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bounded_queue_counts_each_loss, set_up, tear_down),
        cmocka_unit_test_setup_teardown(many_small_records_are_bounded_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown(fifo_without_a_reader_does_not_block, set_up, tear_down),
        cmocka_unit_test_setup_teardown(stdout_of_the_collector, set_up, tear_down),
        cmocka_unit_test_setup_teardown(stderr_pipe_that_nobody_reads_does_not_block, set_up, tear_down),
        cmocka_unit_test_setup_teardown(tcp_listener_that_comes_late, set_up, tear_down),
        cmocka_unit_test_setup_teardown(broken_tcp_connection_loses_nothing_that_was_not_acknowledged, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(record_sent_into_a_closed_connection_is_sent_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(slow_reader_bounded_queue_exact_count, set_up, tear_down),
        cmocka_unit_test_setup_teardown(suspended_reader_at_the_end_is_counted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(output_wait_connects_without_the_event_loop, set_up, tear_down),
        cmocka_unit_test_setup_teardown(output_wait_does_not_wait_for_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(backoff_doubles, set_up, tear_down),
        cmocka_unit_test_setup_teardown(ipv6_and_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(name_that_does_not_exist, set_up, tear_down),
        cmocka_unit_test_setup_teardown(port_must_be_a_number, set_up, tear_down),
        cmocka_unit_test_setup_teardown(unix_sockets, set_up, tear_down),
        cmocka_unit_test_setup_teardown(datagrams_are_packed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(datagrams_that_are_refused_are_counted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(tls_with_certificate_check, set_up, tear_down),
        cmocka_unit_test_setup_teardown(tls_to_a_server_that_does_not_speak_it, set_up, tear_down),
    };

    log_setup(stderr, LOGL_NONE, "test_output");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
