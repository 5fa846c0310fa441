/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs that state, themselves, which `syscall` events they expect: each
 * call is made through C() or L(), which note what the kernel answered. The
 * list goes to the file $EXPECT, one JSON object per line, after everything
 * else has been done; tests/programs/test_programs.py compares it with what
 * scope reports between the two marks, thread by thread, in order.
 *
 * The list lies in shared memory: forked children add to it too.
 */
#ifndef TESTS_EXPECT_H
#define TESTS_EXPECT_H

#include <errno.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "later.h"
#include "raw.h"

/* What an event must say beyond op, result and errno. Members left out are not compared. */
struct x {
    const char *path, *path2; /* as passed to the kernel */
    const char *file, *file2; /* as resolved by scope: absolute */
    const char *addr;         /* "IP:PORT" or a unix socket's path */
    long fd;                  /* 0 is not compared: no program here uses descriptor 0 */
    long bytes;
    unsigned io : 1;        /* bytes equals the result, or 0 after a failure */
    unsigned has_bytes : 1; /* `bytes` counts */
    unsigned no_path : 1;   /* the path could not be read: the event must not invent one */
    unsigned no_result : 1; /* the call does not return */
    unsigned skip : 1;      /* made, but not expected as an event */
};
#define X(...) ((struct x){__VA_ARGS__})

/* Adds an expectation. ops: names separated by '|' of which one must match. ret: kernel result. Returns ret. */
long expect_add(const char *ops, long ret, struct x what);
/* The same before the call is made, for calls that don't return; tid 0 means this thread. */
void expect_noreturn(const char *op, struct x what);

/* How C() makes its calls: from this program's text or through libc's syscall(2). */
enum way { WAY_INLINE, WAY_SYSCALL };
extern enum way expect_way;

#define ARGS_(a, b, c, d, e, f, ...) (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f)
#define ARGS(...) ARGS_(__VA_ARGS__ __VA_OPT__(, ) 0, 0, 0, 0, 0, 0)
#define CALL(name, ...) make_call(later((struct call){__NR_##name, #name, {ARGS(__VA_ARGS__)}}))
/* Makes system call `name`, or the later one in its place, and expects its event. Value: kernel result, -errno on failure. */
#define C(name, what, ...) \
    __extension__({ \
        struct x what_ = what; \
        struct call call_ = later((struct call){__NR_##name, #name, {ARGS(__VA_ARGS__)}}); \
        expect_add(call_.op, make_call(call_), what_); \
    })
/* Evaluates a libc call that returns -1 and errno, and expects the event of the system call below it. */
#define L(ops, what, expression) expect_add(ops, expect_libc((long)(expression)), what)

static inline long libc_syscall(long nr, long a, long b, long c, long d, long e, long f)
{
    long r = syscall(nr, a, b, c, d, e, f);

    return r == -1 ? -errno : r;
}

static inline __attribute__((always_inline)) long make_call(struct call c)
{
    return expect_way == WAY_INLINE ? raw_syscall(c.nr, c.arg[0], c.arg[1], c.arg[2], c.arg[3], c.arg[4], c.arg[5])
                                    : libc_syscall(c.nr, c.arg[0], c.arg[1], c.arg[2], c.arg[3], c.arg[4], c.arg[5]);
}

static inline long expect_libc(long r)
{
    return r == -1 ? -errno : r;
}

/* Checks that a call did what the test relies on; prints and exits with 99 otherwise. */
#define MUST(condition) ((condition) ? (void)0 : expect_broken(__FILE__, __LINE__, #condition))
void expect_broken(const char *file, int line, const char *what);
/* As MUST for a kernel result that has to be >= 0. Value: the result. */
#define OK(expression) expect_ok((expression), __FILE__, __LINE__, #expression)
long expect_ok(long r, const char *file, int line, const char *what);
/* The same for a call that has to fail with this error. */
#define FAILS(error, expression) expect_fails(error, (expression), __FILE__, __LINE__, #expression)
void expect_fails(int error, long r, const char *file, int line, const char *what);

/* A pointer that no call may follow. */
#define BAD ((void *)8)

/* argv[1]: "inline" or "syscall". Writes the first mark. */
void expect_begin(int argc, char **argv);
/* Writes the second mark and the list. */
void expect_end(void);
/* Ends a forked child, expected. */
_Noreturn void expect_exit(int status);
/* The current directory + "/" + name, in a static buffer per slot (0 to 7). */
const char *expect_abs(int slot, const char *name);

#endif
