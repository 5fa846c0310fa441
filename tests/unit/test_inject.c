/* SPDX-License-Identifier: Apache-2.0 */
/* What attaching reads from /proc, and what it knows of registers and signal frames. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <cmocka.h>

#include "inject/process.h"
#include "inject/regs.h"
#include "inject/text.h"
#include "inject/trace.h"
#include "test_regs.h"

/* --- /proc/PID/status --- */

static struct process_facts read_text(const char *text, bool all)
{
    struct process_facts facts = {0};
    FILE *f = fmemopen((void *)(uintptr_t)text, strlen(text), "r");

    assert_non_null(f);
    process_read_status(f, &facts, all);
    fclose(f);
    return facts;
}

static void test_status(void **state)
{
    static const char text[] = "Name:\tsome name: x\n"
                               "State:\tS (sleeping)\n"
                               "PPid:\t77\n"
                               "TracerPid:\t99\n"
                               "Uid:\t1000\t1001\t1002\t1003\n"
                               "Gid:\t2000\t2001\t2002\t2003\n"
                               "NSpid:\t4242\t17\t3\n"
                               "Threads:\t5\n"
                               "Seccomp:\t2\n"
                               "a line without a value\n";
    struct process_facts f = read_text(text, true);

    (void)state;
    assert_string_equal(f.name, "some name: x");
    assert_int_equal(f.state, 'S');
    assert_int_equal(f.ppid, 77);
    assert_int_equal(f.tracer, 99);
    assert_int_equal(f.uid, 1000);
    assert_int_equal(f.euid, 1001);
    assert_int_equal(f.gid, 2000);
    assert_int_equal(f.egid, 2001);
    assert_int_equal(f.pid, 3);
    assert_int_equal(f.threads, 5);
    assert_int_equal(f.seccomp, 2);
    assert_false(f.shadow_stack);
    f = read_text(text, false);
    assert_int_equal(f.seccomp, 2);
    assert_int_equal(f.ppid, 0);
}

/* A child that stands, traced. */
static pid_t standing(struct arch_regs *ret)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSTOPPED(status));
    assert_int_equal(arch_get_regs(pid, ret), 0);
    return pid;
}

static void end(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

#include "inject_tests.h" /* of the architecture */

/* A frame that the kernel has made: on an alternate stack, of this very program. */
static struct {
    uint64_t words[2048];
    size_t count;
    uint64_t address, pc, sp;
} caught;

static void on_signal(int sig, siginfo_t *info, void *context)
{
    const ucontext_t *uc = context;
    const uint64_t *from = (const uint64_t *)__builtin_frame_address(0);
    stack_t now;

    (void)sig;
    (void)info;
    sigaltstack(NULL, &now);
    caught.address = (uint64_t)(uintptr_t)from;
    caught.count = ((uint64_t)(uintptr_t)now.ss_sp + now.ss_size - caught.address) / sizeof(*from);
    if (caught.count > sizeof(caught.words) / sizeof(*caught.words))
        caught.count = sizeof(caught.words) / sizeof(*caught.words);
    memcpy(caught.words, from, caught.count * sizeof(*from));
    caught.pc = context_pc(uc);
    caught.sp = context_sp(uc);
}

static void test_find_context(void **state)
{
    struct sigaction act = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK}, was;
    size_t size = 65536, i;
    stack_t stack = {.ss_sp = malloc(size), .ss_size = size}, none;
    uint64_t sp = 0;

    (void)state;
    assert_int_equal(sigaltstack(&stack, &none), 0);
    assert_int_equal(sigaction(SIGUSR1, &act, &was), 0);
    raise(SIGUSR1);
    i = arch_find_context(caught.words, 0, caught.count, &sp);
    assert_true(i < caught.count);
    assert_int_equal(caught.words[i], caught.pc);
    assert_int_equal(sp, caught.sp);
    assert_true(arch_context_alternate(caught.words, i, caught.address + i * 8, caught.address));
    assert_false(arch_context_alternate(caught.words, i, caught.address + i * 8, caught.sp)); /* another stack */
    assert_false(arch_context_alternate(caught.words, i, caught.address + size, caught.address));
    assert_false(
        arch_context_alternate(caught.words, 1, caught.address + i * 8, caught.address)); /* cut off in front */
    assert_int_equal(arch_find_context(caught.words, 0, i + 2, &sp), i + 2);              /* cut off behind */
    sigaction(SIGUSR1, &was, NULL);
    sigaltstack(&(stack_t){.ss_flags = SS_DISABLE}, NULL);
    free(stack.ss_sp);
}

/* --- jumps whose last byte is somebody else's instruction --- */

#define TEXT_AT UINT64_C(0x400000)

/* A plan of three sites: one patch that may be anywhere, one whose jump must end like what it replaces, one for programs
 * that start. */
struct little_plan {
    struct plan_header h;
    struct plan_site site[3];
    struct plan_patch patch[3];
};

static void plan_little(struct little_plan *p)
{
    static const uint8_t add_pop[] = {0x48, 0x83, 0xc4, 0x40, PLAN_POP};

    *p = (struct little_plan){.h = {.site_count = 3, .patch_count = 3, .blob_size = 4 * PLAN_SLOT}};
    p->h.site_off = offsetof(struct little_plan, site);
    p->h.patch_off = offsetof(struct little_plan, patch);
    for (uint32_t i = 0; i < 3; i++) {
        struct plan_patch *q = &p->patch[i];
        uint32_t target = (i + 1) * PLAN_SLOT + PLAN_SLOT_CODE, rel;

        *q = (struct plan_patch){.vaddr = TEXT_AT + 0x1000 * (i + 1), .len = 5, .rel_at = 1, .when = PLAN_TRAFFIC, .site = i};
        q->rel = i == 1 ? PLAN_REL_32_POP : PLAN_REL_32;
        q->when = i == 2 ? PLAN_TRAFFIC_START : PLAN_TRAFFIC;
        memcpy(q->old, add_pop, sizeof(add_pop));
        rel = target - (uint32_t)(q->vaddr + 5);
        q->new_[0] = 0xe9;
        memcpy(q->new_ + 1, &rel, sizeof(rel));
    }
}

static void test_last_byte(void **state)
{
    struct little_plan plan;
    uint8_t applied[3] = {1, 1, 1}, bytes[PLAN_PATCH_MAX];
    struct text t = {.plan = &plan.h, .applied = applied};
    uint64_t lo, hi;

    (void)state;
    plan_little(&plan);
    assert_true(text_blob_range(&t, &lo, &hi));
    assert_int_equal(hi - lo, 1u << 24);
    for (int end = 0; end < 2; end++) { /* the whole range does it */
        plan_patch_bytes(&plan.patch[1], 0, end ? hi - 1 : lo, bytes);
        assert_int_equal(bytes[4], PLAN_POP);
        plan_patch_bytes(&plan.patch[1], 0, end ? hi : lo - 1, bytes);
        assert_int_not_equal(bytes[4], PLAN_POP);
    }
    t.blob = lo;
    text_skip_unsafe(&t);
    assert_int_equal(applied[0] | applied[1] << 1 | applied[2] << 2, 3);
    assert_int_equal(plan.site[2].reason, PLAN_R_RUNNING);
    t.blob = TEXT_AT - PLAN_SLOT * 64;
    text_skip_unsafe(&t);
    assert_int_equal(applied[0] | applied[1] << 1 | applied[2] << 2, 1);
    assert_int_equal(plan.site[1].reason, PLAN_R_RUNNING);
    assert_int_equal(plan.site[0].reason, PLAN_OK);
    assert_false(text_blob_range(&t, &lo, &hi)); /* nobody needs it any more */
}

static void test_reserve_in(void **state)
{
    struct process_map v = {.lo = 0x10000, .hi = 0x20000, .name = (char *)(uintptr_t)""};
    struct process_maps m = {.v = malloc(sizeof(v)), .count = 1};

    (void)state;
    m.v[0] = v;
    assert_int_equal(process_maps_reserve_in(&m, 0x1f000, 0x40000, 4096), 0); /* not empty */
    assert_int_equal(process_maps_reserve_in(&m, 0x8000, 0x10001, 4096), 0);
    assert_int_equal(process_maps_reserve_in(&m, 0x20000, 0x22000, 0x2001), 0); /* too small */
    assert_int_equal(process_maps_reserve_in(&m, 0x20001, 0x40000, 4000), 0x21000);
    assert_int_equal(m.count, 2);
    assert_int_equal(process_maps_reserve_in(&m, 0x20000, 0x40000, 4096), 0); /* given once */
    free(m.v[1].name);
    free(m.v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_status),
        ARCH_TESTS,
        cmocka_unit_test(test_find_context),
        cmocka_unit_test(test_last_byte),
        cmocka_unit_test(test_reserve_in),
    };

    return cmocka_run_group_tests_name("inject", tests, NULL, NULL);
}
