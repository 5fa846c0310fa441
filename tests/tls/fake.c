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

/* int SSL_write_ex(SSL *, const void *, size_t, size_t *): leaves in every register that is not its caller's what it
 * found there, or a number, and says with its result whether the stack is aligned: 1. */
__asm__(".text\n.globl SSL_write_ex\n.type SSL_write_ex,@function\nSSL_write_ex:\n"
        "mov %rdx,(%rcx)\n" /* all was written */
        "addsd %xmm1,%xmm0\n paddq %xmm2,%xmm15\n"
        "lea 1(%r8),%r8\n lea 2(%r9),%r9\n lea 3(%r10),%r10\n"
        "lea 8(%rsp),%rax\n test $15,%al\n sete %al\n movzbl %al,%eax\n ret\n.size SSL_write_ex,.-SSL_write_ex\n");

struct registers {
    uint64_t rax, rdi, rsi, rdx, rcx, r8, r9, r10, rbx, rbp, r12, r13, r14, r15;
    double xmm0, xmm1;
    uint64_t xmm2[2], xmm15[2];
    uint64_t flags;
};

/* Calls SSL_write_ex with these registers and puts there what they are afterwards. */
void call_with(struct registers *r);
__asm__(".text\n.type call_with,@function\ncall_with:\n"
        "push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n push %rdi\n"
        "mov %rdi,%rax\n"
        "movsd 112(%rax),%xmm0\n movsd 120(%rax),%xmm1\n movdqu 128(%rax),%xmm2\n movdqu 144(%rax),%xmm15\n"
        "mov 16(%rax),%rsi\n mov 24(%rax),%rdx\n mov 32(%rax),%rcx\n mov 40(%rax),%r8\n mov 48(%rax),%r9\n"
        "mov 56(%rax),%r10\n mov 64(%rax),%rbx\n mov 72(%rax),%rbp\n mov 80(%rax),%r12\n mov 88(%rax),%r13\n"
        "mov 96(%rax),%r14\n mov 104(%rax),%r15\n mov 8(%rax),%rdi\n mov (%rax),%rax\n"
        "call SSL_write_ex\n"
        "xchg %rax,(%rsp)\n mov %rdi,8(%rax)\n mov %rsi,16(%rax)\n mov %rdx,24(%rax)\n mov %rcx,32(%rax)\n"
        "mov %r8,40(%rax)\n mov %r9,48(%rax)\n mov %r10,56(%rax)\n mov %rbx,64(%rax)\n mov %rbp,72(%rax)\n"
        "mov %r12,80(%rax)\n mov %r13,88(%rax)\n mov %r14,96(%rax)\n mov %r15,104(%rax)\n movsd %xmm0,112(%rax)\n"
        "movsd %xmm1,120(%rax)\n movdqu %xmm2,128(%rax)\n movdqu %xmm15,144(%rax)\n"
        "pop %rdi\n mov %rdi,(%rax)\n pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n"
        "pushfq\n popq 160(%rax)\n ret\n");

static SSL *reader, *writer;

static void registers(void)
{
    size_t written = 0;
    struct registers before = {.rax = 77,
                               .rdi = (uintptr_t)writer,
                               .rsi = (uintptr_t) "bytes",
                               .rdx = 5,
                               .rcx = (uintptr_t)&written,
                               .r8 = 8,
                               .r9 = 9,
                               .r10 = 10,
                               .rbx = 11,
                               .rbp = 12,
                               .r12 = 13,
                               .r13 = 14,
                               .r14 = 15,
                               .r15 = 16,
                               .xmm0 = 1.5,
                               .xmm1 = 2.25,
                               .xmm2 = {1, 2},
                               .xmm15 = {UINT64_MAX, 7}};
    struct registers after = before;

    errno = 4711;
    call_with(&after);
    NEED(errno == 4711);
    NEED(after.rax == 1 && written == 5);
    NEED(after.rdi == before.rdi && after.rsi == before.rsi && after.rdx == before.rdx && after.rcx == before.rcx);
    NEED(after.r8 == 9 && after.r9 == 11 && after.r10 == 13);
    NEED(memcmp(&after.rbx, &before.rbx, 6 * sizeof(before.rbx)) == 0);
    NEED(after.xmm0 == 3.75 && after.xmm1 == 2.25 && after.xmm2[0] == 1 && after.xmm2[1] == 2);
    NEED(after.xmm15[0] == 0 && after.xmm15[1] == 9);
    NEED(!(after.flags & 0x400)); /* direction */
    errno = 4711;
    NEED(SSL_write(writer, "x", 1) == 1 && errno == 4711);
    close(dup(writer->fd));
    NEED(SSL_read(&(SSL){-1}, NULL, 1) == -1 && errno == EBADF);
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
