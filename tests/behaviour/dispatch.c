/* SPDX-License-Identifier: Apache-2.0 */
/* Syscall User Dispatch (the kernel's Documentation/admin-guide/syscall-user-dispatch.rst), as Wine uses it: calls made
 * outside of a range of code come to a handler of SIGSYS, which makes them from inside of it. */
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>

#include "behave.h"

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif

#ifdef __x86_64__
extern char inside[], inside_end[], inside_return[];
long inside_call(long number, const long args[6]);

__asm__(".pushsection .text.inside, \"ax\", @progbits\n"
        ".balign 4096\n"
        "inside:\n"
        ".type inside_call, @function\n"
        "inside_call:\n"
        "    mov %rdi, %rax\n"
        "    mov %rsi, %r11\n"
        "    mov (%r11), %rdi\n"
        "    mov 8(%r11), %rsi\n"
        "    mov 16(%r11), %rdx\n"
        "    mov 24(%r11), %r10\n"
        "    mov 32(%r11), %r8\n"
        "    mov 40(%r11), %r9\n"
        "    syscall\n"
        "    cmp $-4096, %rax\n"
        "    nop\n"
        "    ret\n"
        ".size inside_call, . - inside_call\n"
        "inside_return:\n"
        "    mov $15, %eax\n" /* rt_sigreturn */
        "    syscall\n"
        ".balign 4096\n"
        "inside_end:\n"
        ".popsection\n");

static volatile char selector;
static volatile int count;

static void handler(int signal, siginfo_t *info, void *context)
{
    greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
    long args[6] = {g[REG_RDI], g[REG_RSI], g[REG_RDX], g[REG_R10], g[REG_R8], g[REG_R9]};

    (void)signal, (void)info;
    selector = 0;
    count++;
    g[REG_RAX] = inside_call(g[REG_RAX], args);
    selector = 1;
}

/* As rt_sigaction(2) takes it: the C library's own restorer lies outside. */
struct action {
    void (*handler)(int, siginfo_t *, void *);
    unsigned long flags;
    void *restorer;
    unsigned long mask;
};

static int dispatched(int argc, char **argv)
{
    struct action action = {handler, SA_SIGINFO | SA_NODEFER | 0x04000000 /* SA_RESTORER */, inside_return, 0};
    char text[8];
    int fd, status;
    pid_t child;

    (void)argc, (void)argv;
    MUST(syscall(SYS_rt_sigaction, SIGSYS, &action, NULL, 8) == 0);
    MUST(prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, inside, inside_end - inside, &selector) == 0);
    selector = 1;
    fd = open("/dev/zero", O_RDONLY);
    for (int i = 0; i < 3; i++)
        if (read(fd, text, sizeof(text)) != sizeof(text))
            _exit(1);
    close(fd);
    selector = 0;
    printf("%d calls came back\n", count);
    fd = open("/dev/null", O_RDONLY); /* at the same place as before, and it reaches the kernel */
    MUST(fd >= 0 && close(fd) == 0 && count == 5);
    fflush(stdout);
    child = fork();
    if (child == 0) {
        fd = open("/dev/full", O_RDONLY);
        _exit(fd < 0 || close(fd) != 0 ? 2 : 3);
    }
    MUST(waitpid(child, &status, 0) == child && status == 3 << 8);
    return 4;
}
#endif

int main(int argc, char **argv)
{
    static const struct behave_case cases[] = {
#ifdef __x86_64__
        {"dispatched", dispatched},
#endif
        {NULL, NULL},
    };

    return behave_main(cases, argc, argv);
}
