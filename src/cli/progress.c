/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/progress.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "cli/cli.h"

#define FIRST_MS 1000
#define NEXT_MS 250
#define WIDTH 80 /* of a terminal that doesn't say */

static struct {
    bool on, over;
    pthread_t thread;
    pthread_mutex_t lock; /* over, shown, and the terminal */
    pthread_cond_t end;
    char *what;
    unsigned shown; /* columns of the line that is there; 0: none */
    struct timespec began;
    _Atomic uint64_t done, total;
} state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static unsigned terminal_width(void)
{
    struct winsize w;

    return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col ? w.ws_col : WIDTH;
}

/* At once, and without stdio's lock, which the main thread may hold. A terminal that is gone is no reason to stop. */
static void put(const struct buf *b)
{
    ssize_t n = write(STDERR_FILENO, b->p, b->len);

    (void)n;
}

/* The cursor stays where the line begins: whatever comes next, even a shell's prompt, is written over it. Blanks do
 * what every terminal understands. */
static void wipe(void)
{
    struct buf b = BUF_INIT;

    if (!state.shown)
        return;
    for (unsigned i = 0; i < state.shown; i++)
        buf_char(&b, ' ');
    buf_char(&b, '\r');
    put(&b);
    buf_free(&b);
    state.shown = 0;
}

static void show(void)
{
    uint64_t total = atomic_load(&state.total), done = atomic_load(&state.done);
    unsigned before = state.shown, width = terminal_width(), columns;
    struct timespec now;
    struct buf b = BUF_INIT;

    clock_gettime(CLOCK_MONOTONIC, &now);
    buf_printf(&b, "%s: ", state.what);
    if (total && done <= total)
        buf_printf(&b, "%u %%, ", (unsigned)((double)done * 100 / (double)total));
    buf_printf(&b, "%lld s", (long long)(now.tv_sec - state.began.tv_sec - (now.tv_nsec < state.began.tv_nsec)));
    b.len = text_fit(b.p, b.len, width - 1);
    columns = state.shown = text_columns(b.p, b.len);
    for (; columns < before && columns < width - 1; columns++)
        buf_char(&b, ' ');
    buf_char(&b, '\r');
    put(&b);
    buf_free(&b);
}

static void *run(void *ctx)
{
    struct timespec at = state.began;
    long ms = FIRST_MS;

    pthread_mutex_lock(&state.lock);
    while (!state.over) {
        at.tv_nsec += ms % 1000 * 1000000;
        at.tv_sec += ms / 1000 + at.tv_nsec / 1000000000;
        at.tv_nsec %= 1000000000;
        ms = NEXT_MS;
        while (!state.over && pthread_cond_timedwait(&state.end, &state.lock, &at) != ETIMEDOUT) {
        }
        if (!state.over)
            show();
    }
    wipe();
    pthread_mutex_unlock(&state.lock);
    return NULL;
}

static bool is_seen(bool prints)
{
    return isatty(STDERR_FILENO) && tcgetpgrp(STDERR_FILENO) == getpgrp() && !(prints && isatty(STDOUT_FILENO));
}

void progress_begin(const char *what, bool prints)
{
    pthread_condattr_t attr;
    struct buf clean = BUF_INIT;
    sigset_t all, before;

    if (state.on || !is_seen(prints))
        return;
    text_clean(&clean, what, strlen(what));
    state.what = xstrdup(buf_cstr(&clean));
    buf_free(&clean);
    state.over = false;
    state.shown = 0;
    atomic_store(&state.done, 0);
    atomic_store(&state.total, 0);
    clock_gettime(CLOCK_MONOTONIC, &state.began);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&state.end, &attr);
    pthread_condattr_destroy(&attr);
    sigfillset(&all); /* signals are the main thread's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    state.on = pthread_create(&state.thread, NULL, run, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!state.on) {
        pthread_cond_destroy(&state.end);
        free(state.what);
    }
}

void progress_at(uint64_t done, uint64_t total)
{
    atomic_store_explicit(&state.total, total, memory_order_relaxed);
    atomic_store_explicit(&state.done, done, memory_order_relaxed);
}

void progress_hide(void)
{
    if (!state.on)
        return;
    pthread_mutex_lock(&state.lock);
    wipe();
    pthread_mutex_unlock(&state.lock);
}

void progress_end(void)
{
    if (!state.on)
        return;
    pthread_mutex_lock(&state.lock);
    state.over = true;
    pthread_cond_signal(&state.end);
    pthread_mutex_unlock(&state.lock);
    pthread_join(state.thread, NULL);
    pthread_cond_destroy(&state.end);
    free(state.what);
    state.on = false;
}
