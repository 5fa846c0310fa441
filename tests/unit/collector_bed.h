/* SPDX-License-Identifier: Apache-2.0 */
/* For tests of the collector: one with segments of made-up processes (collector_fake.h), and questions about what it
 * told. Include once. */
#ifndef SCOPE_TESTS_COLLECTOR_BED_H
#define SCOPE_TESTS_COLLECTOR_BED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "collector_fake.h"

#define NOBODY 4100000u /* no such process: above the kernel's usual pid_max, below its limit */

static struct collector c;
static struct collector_options options;

static __attribute__((unused)) int setup(void **state)
{
    (void)state;
    memset(fake_per_op, 0, sizeof(fake_per_op));
    options = (struct collector_options){.config = config_sources_new(), .listen_fd = -1, .ready_fd = -1};
    config_set(options.config, "event.enable", "true", "test", NULL, NULL);
    core_init(&c, &options, NULL);
    return 0;
}

static __attribute__((unused)) int setup_syscalls(void **state)
{
    setup(state);
    config_add_environ(options.config, (const char *const[]){"SCOPE_EVENT_SYSCALL=true", NULL}, NULL, NULL);
    return 0;
}

static __attribute__((unused)) int teardown(void **state)
{
    (void)state;
    core_end(&c);
    core_free(&c);
    config_sources_free(options.config);
    told_clear();
    return 0;
}

/* Reads and processes until nothing is left. */
static __attribute__((unused)) void run(void)
{
    for (int i = 0; i < 3; i++) {
        segments_drain(&c, true);
        c.next_check = c.ends_look = 0; /* now, however long the last look took */
        core_turn(&c);
        assert_true(core_process(&c, UINT64_MAX));
    }
}

static __attribute__((unused)) struct proc *attach(struct writer *w)
{
    assert_int_equal(fake_join(&c, w->fd, (pid_t)w->h->pid), 0);
    run();
    return proc_by_host_pid(&c.model, (pid_t)w->h->pid);
}

static __attribute__((unused)) struct writer prog(uint32_t pid)
{
    return writer_new(pid, SEG_START_EXEC, "prog\0-x", 8);
}

/* The n-th line told (from 0) that starts with `start` and contains all of `parts`, or NULL. */
static __attribute__((unused)) const char *find(const char *start, const char *part, int n)
{
    for (size_t i = 0; i < told_count; i++)
        if (!strncmp(told[i], start, strlen(start)) && (!part || strstr(told[i], part)) && n-- == 0)
            return told[i];
    return NULL;
}

static __attribute__((unused)) void expect(const char *start, const char *part)
{
    if (find(start, part, 0))
        return;
    for (size_t i = 0; i < told_count; i++)
        print_message("    %s\n", told[i]);
    fail_msg("not told: %s ... %s", start, part ? part : "");
}

static __attribute__((unused)) void expect_not(const char *start, const char *part)
{
    const char *line = find(start, part, 0);

    if (line)
        fail_msg("told: %s", line);
}

static __attribute__((unused)) unsigned count(const char *start, const char *part)
{
    unsigned n = 0;

    for (size_t i = 0; i < told_count; i++)
        n += !strncmp(told[i], start, strlen(start)) && (!part || strstr(told[i], part));
    return n;
}

static __attribute__((unused)) void put_open(struct writer *w, int fd, uint32_t gen, const char *path, uint64_t flags)
{
    struct item items[2] = {{ITEM_PATH, path, strlen(path)}, {0}};

    if (w->pid == w->owner)
        writer_fd(w, (unsigned)fd)->gen = gen;
    assert_true(writer_put(w, REC_CALL, OP_openat, fd, ARGS((uint64_t)AT_FDCWD, 0, flags, 0, 0, gen), 0, items));
}

static __attribute__((unused)) void put_close(struct writer *w, int fd)
{
    struct fd_entry *e = writer_fd(w, (unsigned)fd);
    struct rec_counters n = {fd, e->gen++, e->read_bytes, e->read_ops, e->read_ticks, e->write_bytes, e->write_ops,
                             e->write_ticks, e->state, 0};

    assert_true(writer_put(w, REC_ENTER, OP_close, 0, ARGS((uint64_t)fd), 0, ITEMS({ITEM_COUNTERS, &n, sizeof(n)})));
}

static __attribute__((unused)) void put_exit(struct writer *w, int code)
{
    assert_true(writer_put(w, REC_ENTER, OP_exit_group, 0, ARGS((uint64_t)code), 0, NULL));
}

#endif
