/* SPDX-License-Identifier: Apache-2.0 */
/* What streams pass on into payload files, and what is missing there. */
#include <netinet/in.h>
#include <sys/socket.h>

#include "collector_bed.h"

#include "base/log.h"
#include "traffic/payloads.h"
#include "session/payload.h"

static char dir[64];

static int setup_payloads(void **state)
{
    setup(state);
    snprintf(dir, sizeof(dir), "/tmp/scope-test-payloads-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    config_set(options.config, "payload.enable", "true", "test", NULL, NULL);
    config_set(options.config, "payload.dir", dir, "test", NULL, NULL);
    return 0;
}

static int teardown_payloads(void **state)
{
    char *command = xasprintf("rm -rf '%s'", dir);
    int rc;

    teardown(state);
    rc = system(command);
    free(command);
    return rc;
}

static struct sockaddr_in address(uint16_t port)
{
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
}

/* Text that went through descriptor 4, to or from `peer` if it is a datagram. */
static void put_text(struct writer *w, enum data_source source, const char *text, const struct sockaddr_in *peer)
{
    struct fd_entry *e = writer_fd(w, 4);
    uint64_t *at = source == DATA_TX ? &e->write_bytes : &e->read_bytes;
    struct item items[3] = {{ITEM_DATA, text, strlen(text)}, {peer ? ITEM_ADDR : 0, peer, peer ? sizeof(*peer) : 0}, {0}};

    assert_true(writer_put(w, REC_DATA, OP_sendto, (int64_t)strlen(text), ARGS(4, 0, *at, source, 0, e->gen), 0, items));
    *at += strlen(text);
    *(source == DATA_TX ? &e->write_ops : &e->read_ops) += 1;
}

static struct writer connected(struct proc **ret)
{
    struct writer w = prog(NOBODY);
    struct sockaddr_in local = address(80), peer = address(50000);

    *ret = attach(&w);
    assert_non_null(*ret);
    assert_true(w.h->mode & SEG_M_PAYLOADS);
    assert_true(writer_put(&w, REC_CALL, OP_socket, 3, ARGS(AF_INET, SOCK_STREAM, 0, 0, 0, 1), 0, NULL));
    writer_fd(&w, 4)->gen = 1;
    assert_true(writer_put(&w, REC_CALL, OP_accept4, 4, ARGS(3, 0, 0, 0, 0, 1), 0,
                           ITEMS({ITEM_ADDR, &peer, sizeof(peer)}, {ITEM_LOCAL, &local, sizeof(local)})));
    return w;
}

/* All data and gaps so far: "1 out 'text'", "1 out -3". */
static void expect_payloads(const char *want)
{
    struct payload_reader *r;
    struct payload_record rec;
    struct buf b = BUF_INIT;

    payloads_flush(&c.payloads);
    assert_int_equal(payload_reader_new(dir, 0, 0, &r), 0);
    while (payload_next(r, &rec) == 1) {
        char text[64];
        ssize_t n;

        if (rec.kind == PAYLOAD_DATA) {
            n = payload_read(r, rec.flow, rec.dir, rec.at, text, rec.len);
            buf_printf(&b, "%llu %s '%.*s'\n", (unsigned long long)rec.flow->number, rec.dir ? "out" : "in",
                       n > 0 ? (int)n : 0, text);
        } else if (rec.kind == PAYLOAD_GAP) {
            buf_printf(&b, "%llu %s -%llu\n", (unsigned long long)rec.flow->number, rec.dir ? "out" : "in",
                       (unsigned long long)rec.len);
        }
    }
    assert_int_equal(payload_damaged(r), 0);
    assert_string_equal(buf_cstr(&b), want);
    buf_free(&b);
    payload_reader_free(r);
}

static void test_gaps(void **state)
{
    struct proc *p;
    struct writer w = connected(&p);

    (void)state;
    put_text(&w, DATA_TX, "one", NULL);
    writer_fd(&w, 4)->write_bytes += 1000; /* nobody captured these */
    put_text(&w, DATA_TX, "two", NULL);
    put_text(&w, DATA_RX, "three", NULL);
    writer_fd(&w, 4)->read_bytes += 7;
    put_close(&w, 4);
    run();
    expect_payloads("1 out 'one'\n1 out -1000\n1 out 'two'\n1 in 'three'\n1 in -7\n");
    expect("loss payload 1000", NULL);
    expect("loss payload 7", NULL);
    writer_free(&w);
}

/* Of netlink and the like, nothing: also what the probe captured before it knew. */
static void test_foreign(void **state)
{
    struct proc *p;
    struct writer w = connected(&p);

    (void)state;
    put_close(&w, 4);
    assert_true(writer_put(&w, REC_CALL, OP_socket, 4, ARGS(AF_NETLINK, SOCK_RAW, 0, 0, 0, 2), 0, NULL));
    writer_fd(&w, 4)->gen = 2;
    put_text(&w, DATA_TX, "one", NULL);
    put_text(&w, DATA_RX, "two", NULL);
    run();
    assert_int_equal(writer_fd(&w, 4)->want & 3, FDW_NONE);
    expect_payloads("");
    expect_not("loss ", NULL);
    writer_free(&w);
}

static void test_packets(void **state)
{
    struct proc *p;
    struct writer w = connected(&p);

    (void)state;
    put_close(&w, 4);
    assert_true(writer_put(&w, REC_CALL, OP_socket, 4, ARGS(AF_UNIX, SOCK_SEQPACKET, 0, 0, 0, 2), 0, NULL));
    writer_fd(&w, 4)->gen = 2;
    put_text(&w, DATA_TX, "one", NULL);
    put_text(&w, DATA_RX, "two", NULL);
    put_close(&w, 4);
    run();
    expect_payloads("1 out 'one'\n1 in 'two'\n");
    expect_not("loss ", NULL);
    writer_free(&w);
}

/* What passes while nobody wants it is a gap if it is wanted again, and no loss. */
static void test_switched_off_and_on(void **state)
{
    struct proc *p;
    struct writer w = connected(&p);

    (void)state;
    put_text(&w, DATA_TX, "one", NULL);
    run();
    p->pl->cfg->payload.enable = false;
    put_text(&w, DATA_TX, "silent", NULL);
    run();
    p->pl->cfg->payload.enable = true;
    put_text(&w, DATA_TX, "two", NULL);
    run();
    expect_payloads("1 out 'one'\n1 out -6\n1 out 'two'\n");
    expect_not("loss ", NULL);
    writer_free(&w);
}

/* A datagram socket has a flow for each peer, of which only so many are kept. */
static void test_peers(void **state)
{
    enum { PEERS = 70 };
    struct writer w = prog(NOBODY);
    struct buf want = BUF_INIT;
    char text[16];

    (void)state;
    assert_non_null(attach(&w));
    writer_fd(&w, 4)->gen = 1;
    assert_true(writer_put(&w, REC_CALL, OP_socket, 4, ARGS(AF_INET, SOCK_DGRAM, 0, 0, 0, 1), 0, NULL));
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < PEERS; i++) {
            struct sockaddr_in peer = address((uint16_t)(1000 + i));

            if (round && i >= 3 && i < PEERS - 3)
                continue;
            snprintf(text, sizeof(text), "%d.%d", i, round);
            put_text(&w, i & 1 ? DATA_RX : DATA_TX, text, &peer);
            run();
            /* the first three had to make room by then and are others now; the last three are still there */
            buf_printf(&want, "%d %s '%s'\n", round && i < 3 ? PEERS + 1 + i : i + 1, i & 1 ? "in" : "out", text);
        }
    expect_payloads(buf_cstr(&want));
    expect_not("loss ", NULL);
    buf_free(&want);
    writer_free(&w);
}

/* A directory that can't be made: all is counted, and told once in the log. */
static void test_no_directory(void **state)
{
    struct proc *p;
    struct writer w;

    (void)state;
    config_set(options.config, "payload.dir", "/dev/null/x", "test", NULL, NULL);
    w = connected(&p);
    put_text(&w, DATA_TX, "one", NULL);
    put_text(&w, DATA_RX, "three", NULL);
    run();
    expect("loss payload 3", NULL);
    expect("loss payload 5", NULL);
    writer_free(&w);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup_payloads, teardown_payloads)
    const struct CMUnitTest tests[] = {TEST(test_gaps), TEST(test_foreign), TEST(test_packets), TEST(test_switched_off_and_on), TEST(test_peers),
                                       TEST(test_no_directory)};

    log_setup(stderr, LOGL_NONE, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
