/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A signal handler looks who has called whom, at SIGNALS moments of a thread
 * that makes calls all the time: so often it stands in a hook. What does so in
 * earnest are cancellation, profilers and exceptions. Where one instruction of a
 * hook, or of the way to it, has wrong unwind information the program crashes.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/time.h>
#include <unwind.h>

#include "behave.h"

#define SIGNALS 2000

static volatile sig_atomic_t signals, complete;
static void *volatile caller; /* where main goes on */

struct walk {
    int frames, whole;
};

static _Unwind_Reason_Code frame(struct _Unwind_Context *c, void *arg)
{
    struct walk *w = arg;
    const char *ip = (const char *)_Unwind_GetIP(c), *at = caller;

    w->whole |= ip > at - 256 && ip < at + 256;
    return ++w->frames < 50 ? _URC_NO_REASON : _URC_NORMAL_STOP;
}

static void on_alarm(int signal)
{
    struct walk w = {0, 0};
    int e = errno;

    (void)signal;
    _Unwind_Backtrace(frame, &w);
    signals++;
    complete += w.whole;
    errno = e;
}

static __attribute__((noinline)) void work(void)
{
    static int p[2];
    char c = 'x';
    int fd;

    caller = __builtin_extract_return_addr(__builtin_return_address(0));
    MUST(p[1] || pipe(p) == 0);
    for (int i = 0; i < 10; i++) {
        MUST(write(p[1], &c, 1) == 1 && read(p[0], &c, 1) == 1 && c == 'x');
        MUST((fd = open("/dev/null", O_RDONLY)) >= 0 && close(fd) == 0 && close(-1) < 0 && errno == EBADF);
    }
}

int main(void)
{
    unsigned chance = 1;
    int armed = -1; /* for which signal */

    MUST(sigaction(SIGALRM, &(struct sigaction){.sa_handler = on_alarm, .sa_flags = SA_RESTART}, NULL) == 0);
    while (signals < SIGNALS) {
        if (armed != signals) {
            armed = signals;
            chance = chance * 1103515245 + 12345;
            MUST(setitimer(ITIMER_REAL, &(struct itimerval){.it_value = {0, 50 + (chance >> 16) % 1000}}, NULL) == 0);
        }
        work();
    }
    /* Some instants are outside of work(), or in code that has no unwind information. */
    MUST(setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 0}}, NULL) == 0);
    if (complete < SIGNALS * 8 / 10)
        printf("only %d of %d ways led back to main\n", (int)complete, (int)signals);
    puts("done");
    return 0;
}
