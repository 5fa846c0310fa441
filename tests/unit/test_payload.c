/* SPDX-License-Identifier: Apache-2.0 */
/* Captured traffic: written and read again, gaps, names, open files, full disks, hostile files. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/mem.h"
#include "session/payload.h"

#define SESSION 7u
#define T0 UINT64_C(1700000000123456789)

static char dir[64];

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/scope-test-payload-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    char *command = xasprintf("rm -rf '%s'", dir);
    int rc = system(command);

    (void)state;
    free(command);
    return rc;
}

static struct payload_addr inet(const char *ip, uint16_t port)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};

    if (inet_pton(AF_INET, ip, &in.sin_addr) == 1)
        return payload_addr((struct sockaddr *)&in, sizeof(in));
    assert_int_equal(inet_pton(AF_INET6, ip, &in6.sin6_addr), 1);
    return payload_addr((struct sockaddr *)&in6, sizeof(in6));
}

static struct payload_id curl(void)
{
    return (struct payload_id){.pid = 42,
                               .ppid = 41,
                               .fd = 5,
                               .channel = UINT64_C(1700000000000000042),
                               .proc = "curl",
                               .ident = "h1-curl-curl \"x\"",
                               .transport = "IP.TCP",
                               .role = PAYLOAD_CLIENT,
                               .host = inet("10.0.0.5", 51022),
                               .peer = inet("::ffff:10.0.0.9", 80)};
}

static size_t queue; /* of the stores */

static int make_dir_queue(void **state)
{
    queue = 4096;
    return make_dir(state);
}

static int remove_dir_queue(void **state)
{
    queue = 0;
    return remove_dir(state);
}

static struct payload_store *open_store(bool headers, unsigned max_files)
{
    struct payload_options o = {.dir = dir, .session = SESSION, .start_ns = T0, .headers = headers, .max_files = max_files,
                                .queue = queue};
    struct payload_store *s;

    assert_int_equal(payload_open(&o, &s), 0);
    return s;
}

static struct payload_reader *open_reader(void)
{
    struct payload_reader *r;

    assert_int_equal(payload_reader_new(dir, SESSION, T0, &r), 0);
    return r;
}

static char *path_of(const char *name)
{
    static char path[512];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

static void put(const char *name, const char *text)
{
    FILE *f = fopen(path_of(name), "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void expect_file(const char *name, const void *bytes, size_t len)
{
    char *buf = xmalloc(len + 1);
    FILE *f = fopen(path_of(name), "r");
    struct stat st;

    assert_non_null(f);
    assert_int_equal(fstat(fileno(f), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(fread(buf, 1, len + 1, f), len);
    assert_memory_equal(buf, bytes, len);
    fclose(f);
    free(buf);
}

/* The records as text, and the bytes that data records lead to: one line each. */
static char *read_everything(struct payload_reader *r)
{
    static const char *const kinds[] = {"flow", "data", "gap", "end"}, *const dirs[] = {"in", "out"};
    struct payload_record rec;
    struct buf b = BUF_INIT;
    char *text;
    int rc;

    while ((rc = payload_next(r, &rec)) == 1) {
        buf_printf(&b, "%s %llu", kinds[rec.kind], (unsigned long long)rec.flow->number);
        if (rec.kind == PAYLOAD_DATA || rec.kind == PAYLOAD_GAP)
            buf_printf(&b, " %s %llu+%llu", dirs[rec.dir], (unsigned long long)rec.at, (unsigned long long)rec.len);
        if (rec.kind == PAYLOAD_DATA) {
            char bytes[64];
            ssize_t n = payload_read(r, rec.flow, rec.dir, rec.at, bytes, rec.len < sizeof(bytes) ? rec.len : sizeof(bytes));

            if (n < 0)
                buf_printf(&b, " %s", strerror((int)-n));
            else
                buf_printf(&b, " '%.*s'", (int)n, bytes);
        }
        buf_char(&b, '\n');
    }
    assert_int_equal(rc, 0);
    text = xstrdup(buf_cstr(&b));
    buf_free(&b);
    return text;
}

static void expect_records(struct payload_reader *r, const char *want)
{
    char *got = read_everything(r);

    assert_string_equal(got, want);
    free(got);
}

static void round_trip(void **state)
{
    static const char binary[] = "a\0b\n\xff";
    struct payload_id id = curl();
    struct payload_store *s = open_store(false, 0);
    struct payload_flow *f = payload_begin(s, &id, T0);
    struct payload_reader *r;
    const struct payload_entry *e;

    (void)state;
    assert_int_equal(payload_data(f, PAYLOAD_OUT, T0 + 1, "GET /", 5), 0);
    id.protocol = "HTTP";
    payload_update(f, &id);
    assert_int_equal(payload_data(f, PAYLOAD_IN, T0 + 2, binary, sizeof(binary)), 0);
    assert_int_equal(payload_gap(f, PAYLOAD_IN, T0 + 3, 1000), 0);
    assert_int_equal(payload_data(f, PAYLOAD_IN, T0 + 4, "end", 3), 0);
    assert_int_equal(payload_end(f, T0 + 9, "remote"), 0);
    assert_int_equal(payload_lost(s), 0);
    assert_int_equal(payload_close(s), 0);

    expect_file("42_10.0.0.9:80_10.0.0.5:51022.out", "GET /", 5);
    expect_file("42_10.0.0.9:80_10.0.0.5:51022.in", "a\0b\n\xff\0end", 9);
    r = open_reader();
    expect_records(r, "flow 1\ndata 1 out 0+5 'GET /'\nflow 1\ndata 1 in 0+6 'a'\n"
                      "gap 1 in 6+1000\ndata 1 in 6+3 'end'\nend 1\n");
    assert_int_equal(payload_damaged(r), 0);
    e = payload_entry(r, 1);
    assert_non_null(e);
    assert_null(payload_entry(r, 2));
    assert_int_equal(e->id.pid, 42);
    assert_int_equal(e->id.ppid, 41);
    assert_int_equal(e->id.fd, 5);
    assert_true(e->id.channel == id.channel);
    assert_string_equal(e->id.proc, "curl");
    assert_string_equal(e->id.ident, id.ident);
    assert_string_equal(e->id.transport, "IP.TCP");
    assert_string_equal(e->id.protocol, "HTTP");
    assert_int_equal(e->id.role, PAYLOAD_CLIENT);
    assert_false(e->id.tls);
    assert_int_equal(e->id.peer.family, AF_INET);
    assert_int_equal(e->id.peer.port, 80);
    assert_memory_equal(e->id.peer.ip, "\x0a\x00\x00\x09", 4);
    assert_int_equal(e->id.host.port, 51022);
    assert_true(e->begin_ns == T0 && e->end_ns == T0 + 9);
    assert_true(e->last_ns[PAYLOAD_OUT] == T0 + 1 && e->last_ns[PAYLOAD_IN] == T0 + 4);
    assert_int_equal(e->bytes[PAYLOAD_IN], 9);
    assert_int_equal(e->missing[PAYLOAD_IN], 1000);
    assert_int_equal(e->bytes[PAYLOAD_OUT], 5);
    assert_string_equal(e->reason, "remote");
    payload_reader_free(r);
}

static void names(void **state)
{
    struct payload_id ids[] = {curl(), curl(), curl(), curl(), curl()};
    static const char *const files[] = {"42_2001:db8::1:443_::1:9.out", "42_af_unix:17_af_unix:18.out",
                                        "42_tlstx:0_tlstx:0.out", "42_nettx:0_nettx:0.out", "42_10.0.0.9:80_nettx:0.out"};
    struct payload_store *s = open_store(false, 0);

    (void)state;
    ids[0].peer = inet("2001:db8::1", 443);
    ids[0].host = inet("::1", 9);
    ids[1].peer = (struct payload_addr){.family = AF_UNIX, .inode = 17};
    ids[1].host = (struct payload_addr){.family = AF_UNIX, .inode = 18};
    ids[2].tls = true;
    ids[2].peer.family = ids[2].host.family = AF_UNSPEC;
    ids[3].peer.family = ids[3].host.family = AF_UNSPEC;
    ids[4].host = payload_addr(NULL, 0);
    for (size_t i = 0; i < sizeof(ids) / sizeof(*ids); i++) {
        struct payload_flow *f = payload_begin(s, &ids[i], T0);

        assert_int_equal(payload_data(f, PAYLOAD_OUT, T0, "x", 1), 0);
        assert_int_equal(payload_end(f, T0, NULL), 0);
    }
    assert_int_equal(payload_close(s), 0);
    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++)
        expect_file(files[i], "x", 1);

    struct payload_reader *r = open_reader();

    free(read_everything(r));
    assert_int_equal(payload_entry(r, 1)->id.peer.family, AF_INET6);
    assert_int_equal(payload_entry(r, 2)->id.peer.inode, 17);
    assert_int_equal(payload_entry(r, 2)->id.host.inode, 18);
    assert_int_equal(payload_entry(r, 3)->id.host.family, AF_UNSPEC);
    payload_reader_free(r);
}

/* A pair of ports that is used again, also while the first flow is there, and by another store. */
static void nothing_is_glued(void **state)
{
    struct payload_id id = curl();
    struct payload_store *s = open_store(false, 0), *other;
    struct payload_options o = {.dir = dir, .session = SESSION + 1, .start_ns = T0};
    struct payload_flow *a = payload_begin(s, &id, T0), *b = payload_begin(s, &id, T0), *c;
    struct payload_reader *r;

    (void)state;
    assert_int_equal(payload_open(&o, &other), 0);
    c = payload_begin(other, &id, T0);
    assert_int_equal(payload_data(a, PAYLOAD_IN, T0, "one", 3), 0);
    assert_int_equal(payload_data(b, PAYLOAD_IN, T0, "two", 3), 0);
    assert_int_equal(payload_data(c, PAYLOAD_IN, T0, "three", 5), 0);
    assert_int_equal(payload_data(a, PAYLOAD_IN, T0, "ONE", 3), 0);
    payload_end(a, T0, NULL);
    payload_end(b, T0, NULL);
    payload_end(c, T0, NULL);
    assert_int_equal(payload_close(s), 0);
    assert_int_equal(payload_close(other), 0);
    expect_file("42_10.0.0.9:80_10.0.0.5:51022.in", "oneONE", 6);
    expect_file("42_10.0.0.9:80_10.0.0.5:51022.2.in", "two", 3);
    expect_file("42_10.0.0.9:80_10.0.0.5:51022.1.in", "three", 5);
    r = open_reader();
    expect_records(r, "flow 1\ndata 1 in 0+3 'one'\nflow 2\ndata 2 in 0+3 'two'\ndata 1 in 3+3 'ONE'\nend 1\nend 2\n");
    payload_reader_free(r);
    assert_int_equal(payload_reader_new(dir, SESSION + 1, 0, &r), 0);
    expect_records(r, "flow 1\ndata 1 in 0+5 'three'\nend 1\n");
    payload_reader_free(r);
    assert_int_equal(payload_reader_new(dir, SESSION + 1, T0 + 1, &r), -ENOENT);
    assert_int_equal(payload_reader_new(dir, SESSION + 2, T0, &r), -ENOENT);
}

static unsigned open_descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    unsigned n = 0;

    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static void few_files_are_open(void **state)
{
    enum { FLOWS = 40, ROUNDS = 3, MAX = 4 };
    unsigned before = open_descriptors();
    struct payload_store *s = open_store(false, MAX);
    struct payload_flow *flows[FLOWS];
    struct payload_id id = curl();
    struct payload_reader *r;
    char name[96], text[32];

    (void)state;
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < FLOWS; i++) {
            id.host.port = (uint16_t)(1000 + i);
            if (round == 0)
                flows[i] = payload_begin(s, &id, T0);
            snprintf(text, sizeof(text), "%d.%d ", i, round);
            assert_int_equal(payload_data(flows[i], (enum payload_dir)(i & 1), T0, text, strlen(text)), 0);
            assert_true(open_descriptors() <= before + MAX + 2);
        }
    for (int i = 0; i < FLOWS; i++)
        payload_end(flows[i], T0, NULL);
    assert_int_equal(payload_close(s), 0);
    assert_int_equal(open_descriptors(), before);
    for (int i = 0; i < FLOWS; i++) {
        snprintf(name, sizeof(name), "42_10.0.0.9:80_10.0.0.5:%d.%s", 1000 + i, i & 1 ? "out" : "in");
        snprintf(text, sizeof(text), "%d.0 %d.1 %d.2 ", i, i, i);
        expect_file(name, text, strlen(text));
    }
    r = open_reader();
    free(read_everything(r));
    assert_int_equal(payload_damaged(r), 0);
    payload_reader_free(r);
}

/* A file that was replaced while it wasn't open is left alone. */
static void strange_files_are_left_alone(void **state)
{
    struct payload_store *s = open_store(false, 2);
    struct payload_id id = curl();
    struct payload_flow *f = payload_begin(s, &id, T0), *g;
    struct payload_reader *r;

    (void)state;
    id.host.port = 1;
    g = payload_begin(s, &id, T0);
    assert_int_equal(payload_data(f, PAYLOAD_IN, T0, "abc", 3), 0);
    assert_int_equal(payload_data(g, PAYLOAD_IN, T0, "x", 1), 0); /* now the files of f are closed */
    assert_int_equal(unlink(path_of("42_10.0.0.9:80_10.0.0.5:51022.in")), 0);
    put("precious", "keep me");
    assert_int_equal(symlink("precious", path_of("42_10.0.0.9:80_10.0.0.5:51022.in")), 0);
    assert_true(payload_data(f, PAYLOAD_IN, T0 + 5, "defg", 4) < 0);
    unlink(path_of("42_10.0.0.9:80_10.0.0.5:51022.in"));
    put("42_10.0.0.9:80_10.0.0.5:51022.in", "foreign");
    assert_int_equal(payload_data(f, PAYLOAD_IN, T0, "hi", 2), -ESTALE);
    assert_int_equal(payload_lost(s), 6);
    payload_end(f, T0, NULL);
    payload_end(g, T0, NULL);
    assert_int_equal(payload_close(s), 0);
    r = open_reader();
    expect_records(r, "flow 1\ndata 1 in 0+3 'for'\nflow 2\ndata 2 in 0+1 'x'\ngap 1 in 3+6\nend 1\nend 2\n");
    payload_reader_free(r);
}

/* Names that somebody has planted where files will be: not followed, not written to. */
static void planted_links(void **state)
{
    struct payload_id id = curl();
    struct payload_store *s;
    struct payload_flow *f;
    char *target = xstrdup(path_of("target"));
    struct stat st;

    (void)state;
    assert_int_equal(symlink(target, path_of("index.ndjson")), 0);
    assert_int_equal(symlink(target, path_of("42_10.0.0.9:80_10.0.0.5:51022.out")), 0);
    s = open_store(false, 0);
    f = payload_begin(s, &id, T0);
    assert_int_equal(payload_data(f, PAYLOAD_OUT, T0, "x", 1), 0);
    payload_end(f, T0, NULL);
    assert_int_equal(payload_close(s), 0);
    assert_int_equal(stat(target, &st), -1);
    expect_file("42_10.0.0.9:80_10.0.0.5:51022.1.out", "x", 1);
    /* the other half of a pair that could not be made isn't left behind */
    assert_int_equal(stat(path_of("42_10.0.0.9:80_10.0.0.5:51022.in"), &st), -1);
    free(target);

    struct payload_reader *r = open_reader();

    expect_records(r, "flow 1\ndata 1 out 0+1 'x'\nend 1\n");
    payload_reader_free(r);
}

/* What doesn't fit is a gap of known length; what follows is in its place. */
static void full_disk(void **state)
{
    struct rlimit old, small;
    struct payload_store *s = open_store(false, 0);
    struct payload_id id = curl();
    struct payload_flow *f = payload_begin(s, &id, T0);
    char block[5000];
    struct payload_reader *r;

    (void)state;
    memset(block, 'a', sizeof(block));
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 8000;
    assert_int_equal(payload_data(f, PAYLOAD_IN, T0, block, sizeof(block)), 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_int_equal(payload_data(f, PAYLOAD_IN, T0 + 1, block, sizeof(block)), -EFBIG);
    assert_int_equal(payload_data(f, PAYLOAD_IN, T0 + 2, block, sizeof(block)), -EFBIG);
    assert_int_equal(payload_lost(s), 7000);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(payload_data(f, PAYLOAD_IN, T0 + 3, "back", 4), 0);
    assert_int_equal(payload_end(f, T0 + 4, "local"), 0);
    assert_int_equal(payload_close(s), 0);
    r = open_reader();
    {
        char *got = read_everything(r);

        assert_non_null(strstr(got, "data 1 in 5000+3000 'a"));
        assert_non_null(strstr(got, "\ngap 1 in 8000+7000\ndata 1 in 8000+4 'back'\n"));
        free(got);
    }
    assert_int_equal(payload_entry(r, 1)->missing[PAYLOAD_IN], 7000);
    payload_reader_free(r);
}

/* An index that can't be written holds data back, too; nothing is glued, and everything else is there again later. */
static void full_disk_of_the_index(void **state)
{
    struct rlimit old, small;
    struct payload_store *s = open_store(false, 0);
    struct payload_id id = curl();
    struct payload_flow *f = payload_begin(s, &id, T0);
    struct payload_reader *r;
    struct payload_record rec;
    uint64_t sent = 0, kept = 0, missing = 0;
    int rc;

    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 100000; /* more than all of the data, less than their index */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    for (int i = 0; i < 30000; i++, sent++)
        payload_data(f, PAYLOAD_OUT, T0 + (uint64_t)i, "x", 1);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_true(payload_lost(s) > 0);
    assert_int_equal(payload_data(f, PAYLOAD_OUT, T0, "y", 1), 0);
    sent++;
    assert_int_equal(payload_end(f, T0, NULL), 0);
    assert_int_equal(payload_close(s), 0);
    r = open_reader();
    while ((rc = payload_next(r, &rec)) == 1) {
        kept += rec.kind == PAYLOAD_DATA ? rec.len : 0;
        missing += rec.kind == PAYLOAD_GAP ? rec.len : 0;
    }
    assert_int_equal(rc, 0);
    assert_int_equal(payload_damaged(r), 0);
    assert_true(missing > 0);
    assert_int_equal(kept + missing, sent);
    payload_reader_free(r);
}

static void headers(void **state)
{
    struct payload_id id = curl();
    struct payload_store *s = open_store(true, 0);
    struct payload_flow *f = payload_begin(s, &id, T0);
    struct payload_reader *r;
    struct buf want = BUF_INIT;

    (void)state;
    payload_header(&want, &id, PAYLOAD_OUT, T0, 3, NULL);
    buf_str(&want, "one");
    payload_header(&want, &id, PAYLOAD_OUT, T0 + 1000000, 5, NULL);
    buf_str(&want, "three");
    assert_int_equal(payload_data(f, PAYLOAD_OUT, T0, "one", 3), 0);
    assert_int_equal(payload_data(f, PAYLOAD_OUT, T0 + 1000000, "three", 5), 0);
    payload_end(f, T0, NULL);
    assert_int_equal(payload_close(s), 0);
    expect_file("42_10.0.0.9:80_10.0.0.5:51022.out", want.p, want.len);
    r = open_reader();
    {
        char *got = read_everything(r);

        assert_non_null(strstr(got, "+3 'one'\n"));
        assert_non_null(strstr(got, "+5 'three'\n"));
        free(got);
    }
    payload_reader_free(r);
    buf_free(&want);
}

static void header_of_any_name(void **state)
{
    char ident[4000];
    struct payload_id id = curl();
    struct buf b = BUF_INIT;
    json_t *o;

    (void)state;
    memset(ident, '"', sizeof(ident)); /* longer than any fixed buffer */
    memcpy(ident, "h1-x-\\\n\xff\x01", 9);
    ident[sizeof(ident) - 1] = '\0';
    id.ident = ident;
    id.protocol = "my \"protocol\"";
    id.tls = true;
    id.host.family = AF_UNSPEC;
    payload_header(&b, &id, PAYLOAD_IN, T0, 75, NULL);
    assert_null(memchr(b.p, '\n', b.len));
    o = json_loadb(b.p, b.len, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(o);
    assert_string_equal(json_string_value(json_object_get(o, "type")), "payload");
    assert_string_equal(json_string_value(json_object_get(o, "src")), "tlsrx");
    assert_string_equal(json_string_value(json_object_get(o, "protocol")), id.protocol);
    assert_string_equal(json_string_value(json_object_get(o, "_channel")), "1700000000000000042");
    assert_string_equal(json_string_value(json_object_get(o, "remoteip")), "10.0.0.9");
    assert_string_equal(json_string_value(json_object_get(o, "localip")), "tlsrx");
    assert_int_equal(json_integer_value(json_object_get(o, "remotep")), 80);
    assert_int_equal(json_integer_value(json_object_get(o, "localp")), 0);
    assert_int_equal(json_integer_value(json_object_get(o, "len")), 75);
    assert_int_equal(json_integer_value(json_object_get(o, "ppid")), 41);
    assert_memory_equal(json_string_value(json_object_get(o, "id")), "h1-x-\\\n\xef\xbf\xbd\x01\"", 11);
    json_decref(o);
    buf_free(&b);
}

static void read_while_written(void **state)
{
    struct payload_store *s = open_store(false, 0);
    struct payload_id id = curl();
    struct payload_flow *f = payload_begin(s, &id, T0);
    struct payload_reader *r;

    (void)state;
    payload_data(f, PAYLOAD_IN, T0, "abc", 3);
    assert_int_equal(payload_flush(s), 0);
    r = open_reader();
    expect_records(r, "flow 1\ndata 1 in 0+3 'abc'\n");
    assert_true(payload_entry(r, 1)->end_ns == 0);
    payload_reader_free(r);
    payload_end(f, T0, NULL);
    payload_close(s);
}

/* What waits is written file by file, and told in the order in which it passed. */
static void queued(void **state)
{
    struct payload_store *s = open_store(false, 0);
    struct payload_id id = curl();
    struct payload_flow *a = payload_begin(s, &id, T0), *b;
    struct payload_reader *r;
    struct stat st;

    (void)state;
    id.host.port = 1;
    b = payload_begin(s, &id, T0);
    payload_data(a, PAYLOAD_OUT, T0, "a1", 2);
    payload_data(b, PAYLOAD_OUT, T0, "b1", 2);
    payload_gap(a, PAYLOAD_OUT, T0, 10);
    payload_data(a, PAYLOAD_IN, T0, "", 0);
    payload_data(a, PAYLOAD_OUT, T0, "a2", 2);
    payload_data(b, PAYLOAD_IN, T0, "b2", 2);
    payload_gap(a, PAYLOAD_OUT, T0, 20);
    payload_end(a, T0, NULL);
    payload_data(b, PAYLOAD_OUT, T0, "b3", 2);
    payload_gap(b, PAYLOAD_IN, T0, 5);
    assert_int_equal(stat(path_of("42_10.0.0.9:80_10.0.0.5:1.out"), &st), -1);
    assert_int_equal(payload_flush(s), 0);
    expect_file("42_10.0.0.9:80_10.0.0.5:1.out", "b1b3", 4);
    r = open_reader();
    expect_records(r, "flow 1\nflow 2\ndata 1 out 0+2 'a1'\ndata 2 out 0+2 'b1'\ngap 1 out 2+10\ndata 1 in 0+0 ''\n"
                      "data 1 out 2+2 'a2'\ndata 2 in 0+2 'b2'\ngap 1 out 4+20\nend 1\ndata 2 out 2+2 'b3'\n"
                      "gap 2 in 2+5\n");
    payload_reader_free(r);
    payload_data(b, PAYLOAD_IN, T0, "late", 4);
    assert_int_equal(payload_close(s), 0); /* writes it, too */
    expect_file("42_10.0.0.9:80_10.0.0.5:1.in", "b2late", 6);
}

/* Flows whose names are taken have their number from when the files are made, the others from when they are told. */
static void numbers(void **state)
{
    struct payload_store *s = open_store(false, 0);
    struct payload_id id = curl();
    struct payload_flow *gap, *other, *again;
    struct payload_reader *r;

    (void)state;
    put("42_10.0.0.9:80_10.0.0.5:51022.in", "not ours");
    id.host.port = 1;
    gap = payload_begin(s, &id, T0);
    payload_gap(gap, PAYLOAD_IN, T0, 5);
    id.host.port = 2;
    other = payload_begin(s, &id, T0);
    payload_data(other, PAYLOAD_OUT, T0, "other", 5);
    id = curl();
    again = payload_begin(s, &id, T0);
    payload_data(again, PAYLOAD_OUT, T0, "again", 5);
    assert_int_equal(payload_close(s), 0);
    expect_file("42_10.0.0.9:80_10.0.0.5:51022.2.out", "again", 5);
    r = open_reader();
    expect_records(r, "flow 1\nflow 2\nflow 3\ngap 3 in 0+5\ndata 1 out 0+5 'other'\ndata 2 out 0+5 'again'\n");
    assert_int_equal(payload_damaged(r), 0);
    payload_reader_free(r);
}

/* More items and more bytes than the queue holds, and chunks longer than it. */
static void queue_is_small(void **state)
{
    enum { FLOWS = 3, CHUNKS = 9000 };
    struct payload_store *s = open_store(false, 0);
    struct payload_flow *flows[FLOWS];
    struct buf want[FLOWS] = {BUF_INIT, BUF_INIT, BUF_INIT};
    struct payload_id id = curl();
    struct payload_reader *r;
    uint64_t seed = 1;
    char chunk[10000];

    (void)state;
    for (int i = 0; i < FLOWS; i++) {
        id.host.port = (uint16_t)(1 + i);
        flows[i] = payload_begin(s, &id, T0);
    }
    for (size_t i = 0; i < sizeof(chunk); i++)
        chunk[i] = (char)('a' + i % 23);
    for (int i = 0; i < CHUNKS; i++) {
        size_t k, len;

        seed = seed * 6364136223846793005u + 1442695040888963407u;
        k = seed >> 33 & 3;
        len = i % 500 == 0 ? sizeof(chunk) : i % 3 ? seed >> 40 & 1 : seed >> 40 & 127;
        k = k == FLOWS ? 0 : k;
        assert_int_equal(payload_data(flows[k], PAYLOAD_IN, T0, chunk, len), 0);
        buf_add(&want[k], chunk, len);
    }
    for (int i = 0; i < FLOWS; i++)
        payload_end(flows[i], T0, NULL);
    assert_int_equal(payload_close(s), 0);
    for (int i = 0; i < FLOWS; i++) {
        char name[64];

        snprintf(name, sizeof(name), "42_10.0.0.9:80_10.0.0.5:%d.in", i + 1);
        expect_file(name, want[i].p, want[i].len);
    }
    r = open_reader();
    free(read_everything(r));
    for (int i = 0; i < FLOWS; i++) {
        const struct payload_entry *e = payload_entry(r, (uint64_t)i + 1); /* by their first bytes */

        assert_int_equal(e->bytes[PAYLOAD_IN], want[e->id.host.port - 1].len);
        assert_true(e->end_ns != 0);
    }
    for (int i = 0; i < FLOWS; i++)
        buf_free(&want[i]);
    assert_int_equal(payload_damaged(r), 0);
    payload_reader_free(r);
}

/* Of what waits only a part can be written, of one file: the others have theirs, and nothing is glued. */
static void full_disk_for_the_queue(void **state)
{
    struct rlimit old, small;
    struct payload_store *s = open_store(false, 0);
    struct payload_id id = curl();
    struct payload_flow *a = payload_begin(s, &id, T0), *b;
    char block[1000];
    struct payload_reader *r;

    (void)state;
    memset(block, 'a', sizeof(block));
    id.host.port = 1;
    b = payload_begin(s, &id, T0);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 2500;
    for (int i = 0; i < 2; i++) {
        payload_data(a, PAYLOAD_IN, T0, block, sizeof(block));
        payload_data(b, PAYLOAD_OUT, T0, "b", 1);
    }
    payload_data(a, PAYLOAD_IN, T0, block, sizeof(block));
    payload_gap(a, PAYLOAD_IN, T0, 7);
    payload_data(a, PAYLOAD_IN, T0, block, sizeof(block));
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_int_equal(payload_flush(s), -EFBIG);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(payload_lost(s), 1500);
    payload_data(a, PAYLOAD_IN, T0, "back", 4);
    payload_end(a, T0, NULL);
    assert_int_equal(payload_flush(s), 0);
    assert_int_equal(payload_lost(s), 1500);
    assert_int_equal(payload_close(s), 0);
    expect_file("42_10.0.0.9:80_10.0.0.5:1.out", "bb", 2);
    r = open_reader();
    {
        char *got = read_everything(r);

        assert_non_null(strstr(got, "data 1 in 2000+500 'a"));
        assert_non_null(strstr(got, "gap 1 in 2500+500\ngap 1 in 2500+7\ngap 1 in 2500+1000\ndata 1 in 2500+4 'back'\nend 1\n"));
        free(got);
    }
    payload_reader_free(r);
}

#define HEAD "{\"type\":\"index\",\"version\":1,\"session\":7,\"start_ns\":1700000000123456789}\n"
#define FLOW1 "{\"type\":\"flow\",\"flow\":1,\"time_ns\":5,\"pid\":1,\"in_file\":\"f.in\",\"out_file\":\"f.out\"}\n"

static void hostile_index(void **state)
{
    struct payload_reader *r;

    (void)state;
    put("f.in", "0123456789");
    put("f.out", "");
    put("index.ndjson",
        HEAD FLOW1
        "not JSON\n"
        "[1,2]\n"
        "{\"type\":\"data\"}\n"
        "{\"type\":\"data\",\"flow\":2,\"dir\":\"in\",\"time_ns\":1,\"at\":0,\"len\":1}\n"
        "{\"type\":\"data\",\"flow\":1,\"dir\":\"sideways\",\"time_ns\":1,\"at\":0,\"len\":1}\n"
        "{\"type\":\"data\",\"flow\":1,\"dir\":\"in\",\"time_ns\":1,\"at\":-1,\"len\":1}\n"
        "{\"type\":\"data\",\"flow\":1,\"dir\":\"in\",\"time_ns\":1,\"at\":9223372036854775807,\"len\":2}\n"
        "{\"type\":\"data\",\"flow\":1,\"dir\":\"in\",\"time_ns\":1,\"at\":0,\"len\":99999999999999999999999}\n"
        "{\"type\":\"data\",\"flow\":1,\"dir\":\"in\",\"time_ns\":1,\"at\":2,\"len\":4}\n"
        "{\"type\":\"data\",\"flow\":1,\"dir\":\"in\",\"time_ns\":1,\"at\":5,\"len\":2}\n" /* overlaps */
        "{\"type\":\"data\",\"flow\":1,\"dir\":\"in\",\"time_ns\":1,\"at\":8,\"len\":50}\n" /* beyond the end */
        "{\"type\":\"flow\",\"flow\":9000000000000000000,\"time_ns\":1,\"pid\":1}\n"
        "{\"type\":\"flow\",\"flow\":0,\"time_ns\":1,\"pid\":1}\n"
        "{\"type\":\"flow\",\"flow\":2,\"time_ns\":-5,\"pid\":\"x\",\"in_file\":\"../secret\",\"out_file\":\"/etc/passwd\","
        "\"net_peer_ip\":\"1.2.3\",\"net_peer_port\":70000,\"channel\":12,\"proc\":[]}\n"
        "{\"type\":\"data\",\"flow\":2,\"dir\":\"in\",\"time_ns\":1,\"at\":0,\"len\":1}\n"
        "{\"type\":\"data\",\"flow\":2,\"dir\":\"out\",\"time_ns\":1,\"at\":0,\"len\":1}\n"
        "{\"type\":\"gap\",\"flow\":1,\"dir\":\"in\",\"time_ns\":1,\"at\":0,\"len\":9223372036854775807}\n"
        "{\"type\":\"gap\",\"flow\":1,\"dir\":\"in\",\"time_ns\":1,\"at\":0,\"len\":9223372036854775807}\n"
        "{\"type\":\"gap\",\"flow\":1,\"dir\":\"in\",\"time_ns\":1,\"at\":0,\"len\":9223372036854775807}\n"
        "{\"type\":\"end\",\"flow\":3,\"time_ns\":1}\n"
        "{\"type\":\"end\",\"flow\":1,\"time_ns\":1,\"reason\":\"remo"); /* cut off */
    r = open_reader();
    expect_records(r, "flow 1\n"
                      "data 1 in 2+4 '2345'\n"
                      "data 1 in 8+50 '89'\n"
                      "flow 2\n"
                      "data 2 in 0+1 No such file or directory\n"
                      "data 2 out 0+1 No such file or directory\n"
                      "gap 1 in 0+9223372036854775807\n"
                      "gap 1 in 0+9223372036854775807\n"
                      "gap 1 in 0+9223372036854775807\n");
    assert_int_equal(payload_damaged(r), 12);
    assert_true(payload_entry(r, 1)->missing[PAYLOAD_IN] == UINT64_MAX);
    assert_true(payload_entry(r, 2)->id.peer.family == AF_UNSPEC);
    payload_reader_free(r);
}

static void hostile_files(void **state)
{
    struct payload_reader *r;

    (void)state;
    put("index.ndjson", HEAD FLOW1
        "{\"type\":\"data\",\"flow\":1,\"dir\":\"in\",\"time_ns\":1,\"at\":0,\"len\":1}\n"
        "{\"type\":\"data\",\"flow\":1,\"dir\":\"out\",\"time_ns\":1,\"at\":0,\"len\":1}\n");
    assert_int_equal(mkfifo(path_of("f.in"), 0600), 0);
    assert_int_equal(symlink("/etc/passwd", path_of("f.out")), 0);
    r = open_reader();
    expect_records(r, "flow 1\ndata 1 in 0+1 Invalid argument\ndata 1 out 0+1 Too many levels of symbolic links\n");
    payload_reader_free(r);

    /* indices that are none */
    put("index.ndjson", "");
    assert_int_equal(payload_reader_new(dir, SESSION, T0, &r), -ENOENT);
    put("index.ndjson", "{\"type\":\"index\",\"version\":2,\"session\":7,\"start_ns\":1700000000123456789}\n");
    assert_int_equal(payload_reader_new(dir, SESSION, T0, &r), -ENOENT);
    unlink(path_of("index.ndjson"));
    assert_int_equal(mkfifo(path_of("index.ndjson"), 0600), 0);
    put("index.2.ndjson", HEAD FLOW1);
    r = open_reader();
    expect_records(r, "flow 1\n");
    payload_reader_free(r);
    assert_int_equal(payload_reader_new("/nonexistent/dir", SESSION, T0, &r), -ENOENT);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)
#define QUEUED(f) cmocka_unit_test_setup_teardown(f, make_dir_queue, remove_dir_queue)
    const struct CMUnitTest tests[] = {
        QUEUED(names),      QUEUED(few_files_are_open), QUEUED(headers),       QUEUED(read_while_written),
        QUEUED(queued),     QUEUED(queue_is_small),  QUEUED(full_disk_for_the_queue),
        QUEUED(numbers),
        TEST(queue_is_small),
        TEST(round_trip),   TEST(names),         TEST(nothing_is_glued),       TEST(few_files_are_open),
        TEST(strange_files_are_left_alone),      TEST(planted_links),          TEST(full_disk),
        TEST(full_disk_of_the_index),            TEST(headers),                TEST(header_of_any_name),
        TEST(read_while_written),                TEST(hostile_index),          TEST(hostile_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
