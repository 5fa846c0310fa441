/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes one system call again and again, from an instruction of its own whose surroundings are known to the test: 10
 * bytes behind the label `number` (which, as any label, is a place that others may jump to) is the middle of the bytes
 * that are replaced. Ends when SIGTERM comes. SIGUSR1 has a handler that waits for the file named by the argument to be
 * gone.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static volatile sig_atomic_t stop;
static const char *file;

static void on_term(int sig)
{
    (void)sig;
    stop = 1;
}

static void on_usr1(int sig)
{
    (void)sig;
    while (access(file, F_OK) == 0)
        usleep(1000);
}

/* Once in the program, or the label were there twice. */
__attribute__((noinline, noclone)) static long call(long *count)
{
    long ret;

    __asm__ volatile(".globl number\n"
                     "number: mov $8, %%eax\n" /* lseek */
                     "syscall\n"
                     "mov %%rax, %%rbx\n"
                     "lea 1(%1), %1\n" /* here */
                     "mov %%rbx, %0\n"
                     : "=r"(ret), "+r"(*count)
                     : "D"(0), "S"(0), "d"(1)
                     : "rax", "rbx", "rcx", "r11", "memory");
    return ret;
}

int main(int argc, char **argv)
{
    unsigned long rounds = 0;
    long calls = 0;

    file = argc > 1 ? argv[1] : "";
    signal(SIGTERM, on_term);
    signal(SIGUSR1, on_usr1);
    puts("ready");
    fflush(stdout);
    while (!stop) {
        long ret = call(&calls);

        rounds++;
        if (ret == -9 || calls != (long)rounds) {
            printf("call %ld, round %lu, result %ld\n", calls, rounds, ret);
            return 1;
        }
        usleep(200);
    }
    printf("went on %s\n", rounds ? "well" : "never");
    return 0;
}
