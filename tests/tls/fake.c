/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A library that looks like OpenSSL to who looks at its symbols, for C libraries that no OpenSSL is built for, and for
 * looking at what a function sees that is called through the probe: registers, stack, errno.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "log.h"

#define LIBRARY __attribute__((noinline, noclone, visibility("default")))

typedef struct {
    int fd;
} SSL;

SSL *SSL_CTX_new(int fd);
int SSL_read(SSL *ssl, void *buf, int num);
int SSL_write(SSL *ssl, const void *buf, int num);
int SSL_write_ex(SSL *ssl, const void *buf, size_t num, size_t *written);

LIBRARY SSL *SSL_CTX_new(int fd)
{
    SSL *ssl = malloc(sizeof(*ssl));

    ssl->fd = fd;
    return ssl;
}

LIBRARY int SSL_read(SSL *ssl, void *buf, int num)
{
    return (int)read(ssl->fd, buf, (size_t)num);
}

LIBRARY int SSL_write(SSL *ssl, const void *buf, int num)
{
    return (int)write(ssl->fd, buf, (size_t)num);
}

#include "called.h" /* tests/programs/arch: SSL_write_ex() and check_registers() */

static SSL *reader, *writer;

static void registers(void)
{
    check_registers(writer);
    errno = 4711;
    NEED(SSL_write(writer, "x", 1) == 1 && errno == 4711);
    close(dup(writer->fd));
    NEED(SSL_read(&(SSL){-1}, (char[1]){0}, 1) == -1 && errno == EBADF);
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
    if (arg)
        pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    SSL_read(reader, &c, 1);
    pthread_cleanup_pop(0);
    return NULL;
}

static void cancel(void)
{
    for (int i = 1; i <= 40; i++) {
        pthread_t t;
        void *result;

        NEED(pthread_create(&t, NULL, wait_in_read, i & 1 ? &cleaned : NULL) == 0);
        usleep(1000 + 500 * (unsigned)(i % 4));
        NEED(pthread_cancel(t) == 0);
        NEED(pthread_join(t, &result) == 0 && result == PTHREAD_CANCELED);
        NEED(cleaned == i);
    }
}

static sigjmp_buf out;

static void on_alarm(int signal)
{
    (void)signal;
    siglongjmp(out, 1);
}

/* Whole calls from inside a handler, on a stack of its own and on that of the call it interrupts. */
static void on_user(int signal)
{
    (void)signal;
    NEED(SSL_write(writer, "h", 1) == 1);
}

static void signals(void)
{
    static char stack[65536];
    const stack_t ss = {.ss_sp = stack, .ss_size = sizeof(stack)};
    const struct itimerval soon = {.it_value = {0, 2000}};
    char c;

    NEED(sigaltstack(&ss, NULL) == 0);
    for (int i = 0; i < 100; i++) {
        sigaction(SIGALRM, &(struct sigaction){.sa_handler = on_alarm, .sa_flags = i & 1 ? SA_ONSTACK : 0}, NULL);
        if (sigsetjmp(out, 1) == 0) {
            setitimer(ITIMER_REAL, &soon, NULL);
            SSL_read(reader, &c, 1);
            NEED(!"interrupted");
        }
    }
    for (int i = 0; i < 100; i++) {
        sigaction(SIGALRM,
                  &(struct sigaction){.sa_handler = on_user, .sa_flags = SA_RESTART | (i & 1 ? SA_ONSTACK : 0)}, NULL);
        setitimer(ITIMER_REAL, &soon, NULL);
        NEED(SSL_read(reader, &c, 1) == 1 && c == 'h');
    }
}

static volatile sig_atomic_t stop;

static void on_term(int signal)
{
    (void)signal;
    stop = 1;
}

/* Calls until SIGTERM comes. */
static void loop(void)
{
    size_t n;
    char c;

    signal(SIGTERM, on_term);
    puts("ready");
    fflush(stdout);
    while (!stop) {
        NEED(SSL_write(writer, "l", 1) == 1);
        NEED(SSL_read(reader, &c, 1) == 1 && c == 'l');
        NEED(SSL_write_ex(writer, "just some bytes", 16, &n) == 1 && n == 16);
        usleep(200);
    }
    puts("done");
}

int main(int argc, char **argv)
{
    int fd[2];
    char c[16];

    NEED(socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == 0);
    reader = SSL_CTX_new(fd[0]);
    writer = SSL_CTX_new(fd[1]);
    if (argc > 1 && strcmp(argv[1], "loop") == 0) {
        loop();
        return 0;
    }
    registers();
    NEED(SSL_read(reader, c, sizeof(c)) == 1);
    cancel();
    signals();
    printf("reader %p writer %p\n", (void *)reader, (void *)writer);
    print_end();
    return 0;
}
