/* SPDX-License-Identifier: Apache-2.0 */
/* The table of protocols, and one that is added to it: the example of docs/HOWTO_ADD_PROTOCOL.md. */
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "collector_bed.h"

#include "traffic/protocols.h"

extern const struct protocol protocol_redis;

/* In place of src/traffic/protocols.c. */
const struct protocol *const protocols[] = {
    &protocol_proxy, &protocol_socks, &protocol_tls, &protocol_http2, &protocol_http1, &protocol_redis, &protocol_dns,
    &protocol_statsd,
};
const size_t protocol_count = sizeof(protocols) / sizeof(*protocols);

size_t protocols_detect(const struct detect_builtin *ret[PROTOCOLS_MAX])
{
    for (size_t i = 0; i < protocol_count; i++)
        ret[i] = &protocols[i]->detect;
    return protocol_count;
}

/* `bytes` pass, of which len are captured. */
static void put(struct writer *w, enum data_source source, const char *data, size_t len, uint64_t bytes)
{
    struct fd_entry *e = writer_fd(w, 4);
    uint64_t *at = source == DATA_TX ? &e->write_bytes : &e->read_bytes;

    assert_true(writer_put(w, REC_DATA, OP_sendto, (int64_t)bytes, ARGS(4, 0, *at, source, 0, e->gen), 0,
                           len ? ITEMS({ITEM_DATA, data, len}) : NULL));
    *at += bytes;
}

static void put_text(struct writer *w, enum data_source source, const char *text)
{
    put(w, source, text, strlen(text), strlen(text));
}

/* A server with a connection on descriptor 4. */
static struct writer serving(void)
{
    static const struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = 0x901f, .sin_addr = {0x0100007f}};
    struct writer w = prog(NOBODY);

    attach(&w);
    assert_true(writer_put(&w, REC_CALL, OP_socket, 3, ARGS(AF_INET, SOCK_STREAM, 0, 0, 0, 1), 0, NULL));
    writer_fd(&w, 4)->gen = 1;
    assert_true(writer_put(&w, REC_CALL, OP_accept4, 4, ARGS(3, 0, 0, 0, 0, 1), 0,
                           ITEMS({ITEM_ADDR, &peer, sizeof(peer)}, {ITEM_LOCAL, &peer, sizeof(peer)})));
    return w;
}

static void test_commands(void **state)
{
    static const char all[] = "*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n*1\r\n$4\r\nping\r\n*3\r\n$3\r\nSET\r\n$1\r\n*\r\n$6\r\n*9\r\n$1\r\n";
    struct writer w = serving();

    for (size_t i = 0; all[i]; i++)
        put(&w, DATA_RX, all + i, 1, 1);
    put_text(&w, DATA_TX, "$5\r\nvalue\r\n+PONG\r\n+OK\r\n");
    run();
    assert_int_equal(count("net.app ", "protocol=Redis"), 1);
    expect("net.redis pid=4100000", "redis_command=GET net_transport=IP.TCP");
    expect("net.redis ", "redis_command=PING");
    expect("net.redis ", "redis_command=SET");
    assert_int_equal(count("net.redis ", NULL), 3);
    expect_not("loss ", NULL);
    writer_free(&w);
}

/* A string is as long as it says, whether or not it is captured; behind other gaps there is no telling. */
static void test_gaps(void **state)
{
    struct writer w = serving();

    put_text(&w, DATA_RX, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000\r\n");
    put(&w, DATA_RX, NULL, 0, 100002);
    put_text(&w, DATA_RX, "*1\r\n$4\r\nPING\r\n");
    run();
    expect("net.redis ", "redis_command=PING");
    expect_not("loss ", NULL);
    put(&w, DATA_RX, NULL, 0, 10);
    put_text(&w, DATA_RX, "*1\r\n$4\r\nQUIT\r\n");
    run();
    expect("loss ", NULL);
    expect_not("net.redis ", "redis_command=QUIT");
    writer_free(&w);
}

static void test_what_is_no_command(void **state)
{
    static const char *const bad[] = {"*1\r\n$3\r\nFOO\r\n+OK\r\n", "*1\r\n$99999999999\r\n", "*1\r\n$1\n", "*x",
                                      "*1\r\n$1\r\nA\r\n\n*1\r\n$1\r\nB\r\n", "*1\r\n$1\r\nA\r\n********************"};

    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct writer w = serving();

        put_text(&w, DATA_RX, bad[i]);
        put_text(&w, DATA_RX, "*1\r\n$4\r\nPING\r\n");
        run();
        expect_not("net.redis ", "redis_command=PING");
        put_exit(&w, 0);
        run();
        writer_free(&w);
    }
}

/* A user's rule of its name stands for it, and is decoded. */
static void test_rule_of_a_user(void **state)
{
    static const char rule[] = "protocol: [{name: REDIS, regex: '^PING'}]\n";
    struct writer w;

    config_add_text(options.config, "test", rule, strlen(rule), NULL, NULL);
    w = serving();
    put_text(&w, DATA_RX, "*1\r\n$4\r\nPING\r\n");
    run();
    expect_not("net.app ", NULL);
    expect_not("net.redis ", NULL);
    writer_free(&w);
}

static char *read_whole(const char *path)
{
    FILE *f = fopen(path, "r");
    char *text = xcalloc(1, 65536);

    assert_non_null(f);
    assert_in_range(fread(text, 1, 65535, f), 1, 65534);
    fclose(f);
    return text;
}

/* The page shows the very file that is tested. */
static void test_page(void **state)
{
    char *page = read_whole(SOURCE_ROOT "/docs/HOWTO_ADD_PROTOCOL.md"), *example = read_whole(SOURCE_ROOT "/tests/unit/redis.c");

    assert_non_null(strstr(page, example));
    free(page);
    free(example);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_commands), TEST(test_gaps), TEST(test_what_is_no_command), TEST(test_rule_of_a_user), cmocka_unit_test(test_page),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
