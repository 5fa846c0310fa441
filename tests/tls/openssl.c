/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Both ends of TLS connections in one process, and a log of what they were given and got:
 *
 *   openssl MODE CERTIFICATE KEY     prints a line for each call, "ADDRESS tx|rx HEX"; then waits for the end of stdin
 *
 * Addresses are those of SSL objects, or of BIOs that are connections. A line "new ADDRESS" says that a connection begins there.
 */
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "log.h"

static const char *cert_file, *key_file;
static SSL_CTX *server_ctx, *client_ctx;
static SSL_SESSION *session;

struct pair {
    SSL *client, *server;
    int fd[2]; /* the client's, the server's */
};

static void put(SSL *ssl, const void *data, size_t size)
{
    NEED(SSL_write(ssl, data, (int)size) == (int)size);
    print_bytes(ssl, "tx", data, size);
}

static void put_ex(SSL *ssl, const void *data, size_t size)
{
    size_t done = 0;

    NEED(SSL_write_ex(ssl, data, size, &done) == 1 && done == size);
    print_bytes(ssl, "tx", data, size);
}

static void get(SSL *ssl, size_t size, int ex)
{
    static _Thread_local char buf[1 << 17];

    while (size) {
        size_t n = 0;
        int r = ex ? SSL_read_ex(ssl, buf, size, &n) : SSL_read(ssl, buf, (int)size);

        NEED(r > 0);
        n = ex ? n : (size_t)r;
        print_bytes(ssl, "rx", buf, n);
        size -= n;
    }
}

static int new_session(SSL *ssl, SSL_SESSION *s)
{
    (void)ssl;
    SSL_SESSION_free(session);
    session = s;
    return 1;
}

static void contexts(void)
{
    server_ctx = SSL_CTX_new(TLS_server_method());
    client_ctx = SSL_CTX_new(TLS_client_method());
    NEED(server_ctx && client_ctx);
    NEED(SSL_CTX_use_certificate_file(server_ctx, cert_file, SSL_FILETYPE_PEM) == 1);
    NEED(SSL_CTX_use_PrivateKey_file(server_ctx, key_file, SSL_FILETYPE_PEM) == 1);
    SSL_CTX_set_max_early_data(server_ctx, 16384);
    SSL_CTX_set_options(server_ctx, SSL_OP_NO_ANTI_REPLAY);
    SSL_CTX_set_session_cache_mode(client_ctx, SSL_SESS_CACHE_CLIENT);
    SSL_CTX_sess_set_new_cb(client_ctx, new_session);
}

static SSL *begin(SSL_CTX *ctx, int fd)
{
    SSL *ssl = SSL_new(ctx);

    NEED(ssl && SSL_set_fd(ssl, fd) == 1);
    printf("new %p\n", (void *)ssl);
    return ssl;
}

static void *accept_one(void *arg)
{
    NEED(SSL_accept(arg) == 1);
    return NULL;
}

static struct pair connect_pair(void)
{
    struct pair p;
    pthread_t t;

    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, p.fd) == 0);
    p.client = begin(client_ctx, p.fd[0]);
    p.server = begin(server_ctx, p.fd[1]);
    NEED(pthread_create(&t, NULL, accept_one, p.server) == 0);
    NEED(SSL_connect(p.client) == 1);
    pthread_join(t, NULL);
    return p;
}

static void end_pair(struct pair *p)
{
    SSL_free(p->client);
    SSL_free(p->server);
    close(p->fd[0]);
    close(p->fd[1]);
}

static void fill(char *buf, size_t size, unsigned seed)
{
    for (size_t i = 0; i < size; i++)
        buf[i] = (char)(seed + i * 7 + (i >> 8));
}

/* --- modes --- */

/* Every way to read and write, many sizes, early data. */
static void calls(void)
{
    static const size_t sizes[] = {1, 2, 7, 8, 9, 255, 256, 4096, 16384};
    static char buf[65536];
    struct pair p = connect_pair();
    char peeked[16];
    size_t n;

    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        fill(buf, sizes[i], i);
        (i & 1 ? put : put_ex)(p.client, buf, sizes[i]);
        NEED(SSL_peek(p.server, peeked, 1) == 1 && peeked[0] == buf[0]);
        NEED(SSL_peek_ex(p.server, peeked, 1, &n) == 1 && n == 1);
        get(p.server, sizes[i], i & 2);
        put(p.server, buf, sizes[i] / 2 + 1);
        get(p.client, sizes[i] / 2 + 1, i & 1);
    }
    fill(buf, sizeof(buf), 99); /* several records of TLS, and of ours */
    put(p.client, buf, sizeof(buf));
    get(p.server, sizeof(buf), 0);
    NEED(SSL_write(p.client, buf, 0) <= 0);
    ERR_clear_error();
    SSL_shutdown(p.client);
    NEED(SSL_read(p.server, buf, 1) == 0);
    end_pair(&p);

    NEED(session);
    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, p.fd) == 0);
    p.client = begin(client_ctx, p.fd[0]);
    p.server = begin(server_ctx, p.fd[1]);
    NEED(SSL_set_session(p.client, session) == 1);
    NEED(SSL_write_early_data(p.client, "early", 5, &n) == 1 && n == 5);
    print_bytes(p.client, "tx", "early", 5);
    NEED(SSL_read_early_data(p.server, buf, sizeof(buf), &n) == SSL_READ_EARLY_DATA_SUCCESS && n == 5);
    print_bytes(p.server, "rx", buf, n);
    NEED(SSL_write_early_data(p.server, "soon", 4, &n) == 1 && n == 4);
    print_bytes(p.server, "tx", "soon", 4);
    get(p.client, 4, 1);
    put(p.client, "late", 4);
    NEED(SSL_read_early_data(p.server, buf, sizeof(buf), &n) == SSL_READ_EARLY_DATA_FINISH);
    get(p.server, 4, 0);
    end_pair(&p);
}

/* TLS 1.2 in memory, with a renegotiation between; no descriptor anywhere. */
static void memory(void)
{
    SSL *client, *server;
    BIO *a, *b;

    SSL_CTX_set_max_proto_version(server_ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(server_ctx, SSL_OP_ALLOW_CLIENT_RENEGOTIATION);
    client = SSL_new(client_ctx);
    server = SSL_new(server_ctx);
    printf("new %p\nnew %p\n", (void *)client, (void *)server);
    NEED(BIO_new_bio_pair(&a, 0, &b, 0) == 1);
    SSL_set_bio(client, a, a);
    SSL_set_bio(server, b, b);
    SSL_set_connect_state(client);
    SSL_set_accept_state(server);
    for (int i = 0; i < 2; i++) {
        char c;

        while (!SSL_is_init_finished(client) || !SSL_is_init_finished(server) || SSL_renegotiate_pending(client)) {
            SSL_do_handshake(client);
            SSL_read(server, &c, 0);
            SSL_do_handshake(server);
        }
        put(client, "question", 8);
        get(server, 8, i);
        put_ex(server, "answer", 6);
        get(client, 6, i);
        if (i == 0)
            NEED(SSL_renegotiate(client) == 1);
    }
    SSL_free(client);
    SSL_free(server);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* A BIO that is a connection: BIO_f_ssl(3). */
static BIO *begin_bio(SSL_CTX *ctx, int fd, int is_client)
{
    SSL *ssl = SSL_new(ctx);
    BIO *b = BIO_new(BIO_f_ssl());

    NEED(ssl && b && SSL_set_fd(ssl, fd) == 1);
    if (is_client)
        SSL_set_connect_state(ssl);
    else
        SSL_set_accept_state(ssl);
    BIO_set_ssl(b, ssl, BIO_CLOSE);
    printf("new %p\n", (void *)b);
    return b;
}

static void *accept_bio(void *arg)
{
    NEED(BIO_do_handshake((BIO *)arg) == 1);
    return NULL;
}

/* A client that writes and reads it, a server with a buffer on top of it; then others, whose memory may be theirs. */
static void bio(void)
{
    static char block[40000], line[256];

    for (int round = 0; round < 3; round++) {
        BIO *client, *server, *buffer;
        pthread_t t;
        size_t n;
        int fd[2];

        NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == 0);
        client = begin_bio(client_ctx, fd[0], 1);
        server = begin_bio(server_ctx, fd[1], 0);
        buffer = BIO_push(BIO_new(BIO_f_buffer()), server);
        NEED(pthread_create(&t, NULL, accept_bio, server) == 0);
        NEED(BIO_do_handshake(client) == 1);
        pthread_join(t, NULL);
        for (int i = 0; i < 5; i++) {
            int len = snprintf(line, sizeof(line), "question %d of round %d\n", i, round);

            NEED((i & 1 ? BIO_puts(client, line) : BIO_write(client, line, len)) == len);
            print_bytes(client, "tx", line, (size_t)len);
            NEED(BIO_gets(buffer, line, sizeof(line)) == len);
            print_bytes(server, "rx", line, (size_t)len);
            NEED(BIO_printf(buffer, "%s %d\n", "answer", i) == 9 && BIO_flush(buffer) == 1);
            print_bytes(server, "tx", "answer ", 7);
            snprintf(line, sizeof(line), "%d\n", i);
            print_bytes(server, "tx", line, 2);
            NEED(BIO_read_ex(client, line, sizeof(line), &n) == 1 && n == 9);
            print_bytes(client, "rx", line, n);
        }
        fill(block, sizeof(block), (unsigned)round);
        NEED(BIO_write_ex(client, block, sizeof(block), &n) == 1 && n == sizeof(block));
        print_bytes(client, "tx", block, n);
        for (size_t got = 0; got < sizeof(block); got += n) {
            NEED(BIO_read_ex(buffer, block, sizeof(block) - got, &n) == 1);
            print_bytes(server, "rx", block, n);
        }
        BIO_free_all(client);
        BIO_free_all(buffer);
        close(fd[0]);
        close(fd[1]);
    }
}

static struct pair shared;

static void *own_and_shared(void *arg)
{
    struct pair p = connect_pair();
    char buf[3000];

    for (unsigned i = 0; i < 40; i++) {
        size_t size = 1 + (size_t)(uintptr_t)arg * 31 + i * 17;

        fill(buf, size, i);
        put(p.client, buf, size);
        get(p.server, size, i & 1);
        pthread_mutex_lock(&lock);
        put(shared.client, buf, 10);
        get(shared.server, 10, 0);
        pthread_mutex_unlock(&lock);
    }
    end_pair(&p);
    return NULL;
}

static void threads(void)
{
    pthread_t t[8];

    shared = connect_pair();
    for (uintptr_t i = 0; i < 8; i++)
        NEED(pthread_create(&t[i], NULL, own_and_shared, (void *)i) == 0); // NOLINT(performance-no-int-to-ptr)
    for (int i = 0; i < 8; i++)
        pthread_join(t[i], NULL);
    end_pair(&shared);
}

/* The child goes on with the parent's connection. */
static void forked(void)
{
    struct pair p = connect_pair();
    int status;
    pid_t pid;

    put(p.client, "parent", 6);
    get(p.server, 6, 0);
    fflush(stdout);
    pid = fork();
    NEED(pid >= 0);
    if (pid == 0) {
        put(p.client, "child", 5);
        get(p.server, 5, 1);
        fflush(stdout);
        _exit(0);
    }
    NEED(waitpid(pid, &status, 0) == pid && status == 0);
}

static atomic_int cleaned;

static void cleanup(void *arg)
{
    (void)arg;
    cleaned++;
}

static void *wait_in_read(void *arg)
{
    char c;

    pthread_cleanup_push(cleanup, NULL);
    pthread_cleanup_push(cleanup, NULL);
    pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, NULL);
    SSL_read(arg, &c, 1);
    pthread_cleanup_pop(0);
    pthread_cleanup_pop(0);
    return NULL;
}

/* Threads end inside SSL_read. */
static void cancel(void)
{
    for (int i = 1; i <= 20; i++) {
        struct pair p = connect_pair();
        pthread_t t;
        void *result;

        put(p.server, "x", 1);
        get(p.client, 1, 0);
        NEED(pthread_create(&t, NULL, wait_in_read, p.server) == 0);
        usleep(1000 * (unsigned)(i % 4));
        NEED(pthread_cancel(t) == 0);
        NEED(pthread_join(t, &result) == 0 && result == PTHREAD_CANCELED);
        NEED(cleaned == 2 * i);
        end_pair(&p);
    }
}

/* The same after somebody has attached. */
static void late_cancel(void)
{
    char c;

    puts("ready");
    fflush(stdout);
    NEED(read(0, &c, 1) == 1);
    cancel();
    puts("done");
    exit(0);
}

static jmp_buf out;
static int jump, depth;
static SSL *inner;

/* Runs inside SSL_read and SSL_write: leaves it, calls another one, or looks at the stack. */
static long on_bio(BIO *b, int oper, const char *argp, size_t len, int argi, long argl, int ret, size_t *processed)
{
    void *frames[64];

    (void)b, (void)argp, (void)len, (void)argi, (void)argl, (void)processed;
    if (oper != BIO_CB_READ && oper != BIO_CB_WRITE)
        return ret;
    if (inner) {
        SSL *ssl = inner;

        inner = NULL;
        put(ssl, "inside", 6);
    }
    depth = backtrace(frames, 64);
    if (jump)
        longjmp(out, 1);
    return ret;
}

static void leave(void)
{
    struct pair p = connect_pair(), q = connect_pair();
    char c;
    int first;

    BIO_set_callback_ex(SSL_get_rbio(p.client), on_bio);
    put(p.server, "1", 1);
    get(p.client, 1, 0);
    first = depth;
    NEED(first > 3);
    for (int i = 0; i < 100; i++) {
        jump = 1;
        if (setjmp(out) == 0)
            SSL_read(p.client, &c, 1);
        jump = 0;
        put(q.client, "after", 5); /* from where others stood deeper in the stack */
        get(q.server, 5, i & 1);
    }
    inner = q.server;
    put(p.server, "2", 1); /* one call inside another's */
    get(p.client, 1, 0);
    get(q.client, 6, 0);
    NEED(depth == first);
    printf("depth %d\n", depth);
    end_pair(&p);
    end_pair(&q);
}

/* Waits in SSL_read until stdin says that bytes shall come. */
static void *send_when_told(void *arg)
{
    char c;

    for (int i = 0; read(0, &c, 1) == 1; i++)
        put(arg, &c, 1);
    return NULL;
}

static void waiting(void)
{
    struct pair p = connect_pair();
    pthread_t t;
    char c;

    NEED(pthread_create(&t, NULL, send_when_told, p.client) == 0);
    puts("ready");
    fflush(stdout);
    do {
        NEED(SSL_read(p.server, &c, 1) == 1);
        printf("got %c\n", c);
        fflush(stdout);
    } while (c != '.');
    exit(0);
}

/* Calls as they come, for as long as stdin is open: somebody attaches and detaches meanwhile. */
static void *until_told(void *arg)
{
    struct pair p = connect_pair();
    char buf[64], got[64];

    for (unsigned i = 0; !*(atomic_int *)arg; i++) {
        fill(buf, sizeof(buf), i);
        NEED(SSL_write(p.client, buf, sizeof(buf)) == (int)sizeof(buf));
        NEED(SSL_read(p.server, got, sizeof(got)) == (int)sizeof(got));
        NEED(memcmp(buf, got, sizeof(buf)) == 0);
    }
    end_pair(&p);
    return NULL;
}

static void busy(void)
{
    static atomic_int stop;
    pthread_t t[4];
    char c;

    for (int i = 0; i < 4; i++)
        NEED(pthread_create(&t[i], NULL, until_told, &stop) == 0);
    puts("ready");
    fflush(stdout);
    NEED(read(0, &c, 1) == 0);
    stop = 1;
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    puts("done");
    exit(0);
}

/* Other threads wait inside functions when the process forks; the child has none of them. */
static void fork_waiting(void)
{
    struct pair p[4];
    pthread_t t;
    pid_t pid;
    char c;

    for (int i = 0; i < 4; i++) {
        p[i] = connect_pair();
        NEED(pthread_create(&t, NULL, wait_in_read, p[i].server) == 0);
    }
    usleep(20000);
    fflush(stdout);
    pid = fork();
    NEED(pid >= 0);
    if (pid == 0) {
        for (int i = 0; i < 1000; i++) /* enough for observers to take it for a process of its own */
            close(open("/dev/null", O_RDONLY));
        put(p[0].client, "x", 1);
        printf("child %d\nready\n", (int)getpid());
        fflush(stdout);
    }
    NEED(read(0, &c, 1) == 0);
    _exit(0);
}

/* More than anybody keeps up with: BULK bytes there and back. */
#define BULK (200u * 65536u)

static void bulk(void)
{
    static char buf[65536];
    struct pair p = connect_pair();
    char c;

    printf("bulk %u\nready\n", BULK);
    fflush(stdout);
    NEED(read(0, &c, 1) == 1);
    for (size_t done = 0; done < BULK; done += sizeof(buf)) {
        NEED(SSL_write(p.client, buf, sizeof(buf)) == (int)sizeof(buf));
        for (size_t got = 0; got < sizeof(buf);) {
            int n = SSL_read(p.server, buf, sizeof(buf));

            NEED(n > 0);
            got += (size_t)n;
        }
    }
}

/* A connection in memory: client and server. */
static struct pair memory_pair(void)
{
    struct pair p = {.client = SSL_new(client_ctx), .server = SSL_new(server_ctx)};
    BIO *a, *b;

    NEED(p.client && p.server && BIO_new_bio_pair(&a, 1 << 17, &b, 1 << 17) == 1);
    SSL_set_bio(p.client, a, a);
    SSL_set_bio(p.server, b, b);
    SSL_set_connect_state(p.client);
    SSL_set_accept_state(p.server);
    while (!SSL_is_init_finished(p.client) || !SSL_is_init_finished(p.server)) {
        SSL_do_handshake(p.client);
        SSL_do_handshake(p.server);
    }
    return p;
}

static void pass(SSL *from, SSL *to, const char *data, size_t size)
{
    char buf[8192];

    while (size) {
        size_t n = size < sizeof(buf) ? size : sizeof(buf);

        NEED(SSL_write(from, data, (int)n) == (int)n);
        for (size_t got = 0; got < n;) {
            int r = SSL_read(to, buf, sizeof(buf));

            NEED(r > 0);
            got += (size_t)r;
        }
        data += n;
        size -= n;
    }
}

static void pass_text(SSL *from, SSL *to, const char *text)
{
    pass(from, to, text, strlen(text));
}

static void wait_for_byte(const char *say)
{
    char c;

    puts(say);
    fflush(stdout);
    NEED(read(0, &c, 1) == 1);
}

/* Requests whose middle, beginning or end passes while nobody reads the ring (between "ready" and "full"), so that it is
 * lost; and what comes afterwards. */
#define BODY (6u << 20)

static void holes(void)
{
    static char body[BODY];
    struct pair big = memory_pair(), other = memory_pair();
    SSL *was = other.client;

    for (size_t i = 0; i < sizeof(body); i += 8) {
        char number[9];

        snprintf(number, sizeof(number), "%07zu\n", i / 8);
        memcpy(body + i, number, 8);
    }
    printf("body %zu\n", sizeof(body));
    pass_text(big.client, big.server, "POST /big HTTP/1.1\r\nHost: h\r\nContent-Length: 6291456\r\n\r\n");
    pass(big.client, big.server, body, 65536);
    pass_text(other.client, other.server, "GET /cut HTTP/1.1\r\nHost: ");
    wait_for_byte("ready");
    pass(big.client, big.server, body + 65536, sizeof(body) - 2 * 65536);
    SSL_free(other.client); /* its end is lost, too; and the beginning of the one at its place */
    SSL_free(other.server);
    other = memory_pair();
    NEED(other.client == was);
    pass_text(other.client, other.server, "GET /lost HTTP/1.1\r\nHost: ");
    wait_for_byte("full");
    pass(big.client, big.server, body + sizeof(body) - 65536, 65536);
    pass_text(big.client, big.server, "GET /behind HTTP/1.1\r\nHost: h\r\n\r\n");
    pass_text(other.client, other.server, "the end of a body");
    pass_text(other.client, other.server, "GET /anew HTTP/1.1\r\nHost: h\r\n\r\n");
}

/* Something that no decoder knows, much of it after "ready"; then, after "silent", a connection at the same address. */
static void needless(void)
{
    struct pair p = memory_pair();
    SSL *was = p.client;

    pass_text(p.client, p.server, "SSH-2.0-x\r\n");
    pass_text(p.server, p.client, "SSH-2.0-y\r\n");
    wait_for_byte("ready");
    for (int i = 0; i < 100; i++)
        pass_text(p.client, p.server, "something that nobody wants\n");
    wait_for_byte("silent");
    SSL_free(p.client);
    SSL_free(p.server);
    p = memory_pair();
    NEED(p.client == was);
    pass_text(p.client, p.server, "GET /wanted HTTP/1.1\r\nHost: h\r\n\r\n");
}

/* So many connections lose something that it can't be remembered of which; between "ready" and "full". */
#define MANY 520

static void many_holes(void)
{
    static char filler[BODY];
    static struct pair p[MANY];
    struct pair big = memory_pair();

    printf("connections %d\n", MANY);
    for (int i = 0; i < MANY; i++) {
        p[i] = memory_pair();
        pass_text(p[i].client, p[i].server, "GET /cut HTTP/1.1\r\nHost: ");
    }
    wait_for_byte("ready");
    pass(big.client, big.server, filler, sizeof(filler));
    for (int i = 0; i < MANY; i++)
        pass_text(p[i].client, p[i].server, "GET /lost HTTP/1.1\r\nHost: ");
    wait_for_byte("full");
    for (int i = 0; i < MANY; i++) {
        pass_text(p[i].client, p[i].server, "the end of a body");
        pass_text(p[i].client, p[i].server, "GET /anew HTTP/1.1\r\nHost: h\r\n\r\n");
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } modes[] = {{"calls", calls},
                 {"memory", memory},
                 {"bio", bio},
                 {"threads", threads},
                 {"forked", forked},
                 {"cancel", cancel},
                 {"leave", leave},
                 {"waiting", waiting},
                 {"busy", busy},
                 {"late-cancel", late_cancel},
                 {"bulk", bulk},
                 {"holes", holes},
                 {"many-holes", many_holes},
                 {"needless", needless},
                 {"fork-waiting", fork_waiting}};

    NEED(argc == 4);
    cert_file = argv[2];
    key_file = argv[3];
    contexts();
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
        if (strcmp(argv[1], modes[i].name) == 0)
            modes[i].run();
    print_end();
    return 0;
}
