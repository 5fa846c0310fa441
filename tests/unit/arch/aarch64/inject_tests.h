/* SPDX-License-Identifier: Apache-2.0 */
/* Part of test_inject.c: registers and frames of arm64. */
#include <asm/sigcontext.h>
#include <sys/auxv.h>

#define ARCH_TESTS \
    cmocka_unit_test(test_calls), cmocka_unit_test(test_made_calls), cmocka_unit_test(test_frame), \
        cmocka_unit_test(test_vectors), cmocka_unit_test(test_context_of_others), cmocka_unit_test(test_hooks)

#define AT_CALL UINT64_C(0x400000)

/* What /proc has told before the stop, of a thread that has slept once since then. */
static struct arch_call seen_in(long nr)
{
    struct arch_call seen = {
        .known = true, .nr = (uint64_t)nr, .arg = {1, 2, 3, 4, 5, 6}, .sp = 0xffff1000, .pc = AT_CALL + 4};
    char line[256];
    FILE *f = fopen("/proc/self/status", "re");

    assert_non_null(f);
    while (fgets(line, sizeof(line), f))
        if (strncmp(line, "voluntary_ctxt_switches:", 24) == 0)
            seen.sleeps = strtoull(line + 24, NULL, 10) - 1;
    fclose(f);
    return seen;
}

/* At the call again, or behind it with this result. */
static struct arch_regs stopped(const struct arch_call *seen, long result)
{
    struct arch_regs r = {0};

    r.user.sp = seen->sp;
    r.user.pc = result ? seen->pc : seen->pc - 4;
    memcpy(r.user.regs, seen->arg, sizeof(seen->arg));
    if (result)
        r.user.regs[0] = (uint64_t)result;
    r.user.regs[8] = seen->nr;
    return r;
}

static struct arch_regs recognized(const struct arch_call *seen, struct arch_regs r)
{
    arch_recognize(getpid(), getpid(), seen, &r);
    return r;
}

static void test_calls(void **state)
{
    static const int again[] = {SYS_epoll_pwait, SYS_semtimedop, SYS_rt_sigtimedwait, SYS_recvfrom, SYS_connect};
    static const int others[] = {SYS_close, SYS_nanosleep, SYS_getpid, SYS_openat, SYS_wait4};
    struct arch_call seen;
    struct arch_regs r, other;

    (void)state;
    for (size_t i = 0; i < sizeof(again) / sizeof(*again); i++) {
        seen = seen_in(again[i]);
        r = recognized(&seen, stopped(&seen, -EINTR));
        assert_true(arch_interrupted(&r));
        assert_false(arch_restart_hidden(&r));
        arch_rewind(&r);
        assert_int_equal(arch_pc(&r), AT_CALL);
        assert_int_equal(arch_register(&r, 0), 1);
        r = recognized(&seen, stopped(&seen, -EAGAIN));
        assert_false(arch_interrupted(&r));
        /* It may have done something else meanwhile. */
        for (unsigned k = 1; k < 6; k++) {
            other = stopped(&seen, -EINTR);
            other.user.regs[k]++;
            r = recognized(&seen, other);
            assert_false(arch_interrupted(&r));
        }
        other = stopped(&seen, -EINTR);
        other.user.sp += 16;
        r = recognized(&seen, other);
        assert_false(arch_interrupted(&r));
        other = stopped(&seen, -EINTR);
        other.user.pc += 4;
        r = recognized(&seen, other);
        assert_false(arch_interrupted(&r));
        seen.sleeps--; /* it has slept twice */
        r = recognized(&seen, stopped(&seen, -EINTR));
        assert_false(arch_interrupted(&r));
        seen = (struct arch_call){0};
        r = recognized(&seen, stopped(&seen, -EINTR));
        assert_false(arch_interrupted(&r));
    }
    for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++) {
        seen = seen_in(others[i]);
        r = recognized(&seen, stopped(&seen, -EINTR));
        assert_false(arch_interrupted(&r));
    }
}

static void test_made_calls(void **state)
{
    static const struct {
        long nr;
        uint64_t arg1, arg3;
        bool hidden;
    } cases[] = {
        {SYS_nanosleep, 0, 0, true},
        {SYS_clock_nanosleep, 0, 0, true},
        {SYS_clock_nanosleep, 1, 0, false}, /* TIMER_ABSTIME */
        {SYS_futex, 128, 0x1000, true},     /* FUTEX_WAIT_PRIVATE, with a time */
        {SYS_futex, 128, 0, false},
        {SYS_futex, 9, 0x1000, true}, /* FUTEX_WAIT_BITSET */
        {SYS_futex, 6, 0x1000, false},
        {SYS_ppoll, 0, 0, false},
        {SYS_read, 0, 0, false},
    };
    struct arch_regs r;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct arch_call seen = seen_in(cases[i].nr);

        seen.arg[1] = cases[i].arg1;
        seen.arg[3] = cases[i].arg3;
        r = recognized(&seen, stopped(&seen, 0));
        assert_int_equal(arch_restart_hidden(&r), cases[i].hidden);
        assert_int_equal(arch_register(&r, 8), cases[i].nr); /* the kernel itself sees to it, if nothing is changed */
        arch_set_pc(&r, 0x500000);
        assert_int_equal(arch_register(&r, 8), cases[i].hidden ? SYS_restart_syscall : cases[i].nr);
    }
    r = (struct arch_regs){0};
    r.user.regs[19] = 5;
    r.user.pstate = 0x60000c00; /* behind an indirect jump (BTYPE) */
    arch_regs_call(&r, 0x1000, 0x2000, SYS_mmap, (const uint64_t[6]){1, 2, 3, 4, 5, 6});
    assert_int_equal(r.user.pc, 0x1000 + ARCH_GADGET_CALL);
    assert_int_equal(r.user.sp, 0x2000);
    assert_int_equal(r.user.regs[8], SYS_mmap);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(r.user.regs[i], i + 1);
    assert_int_equal(r.user.regs[19], 5);
    assert_int_equal(r.user.pstate, 0x60000000);
}

static const void *record(const char *frame, uint32_t magic)
{
    const char *at = frame + 128 + offsetof(ucontext_t, uc_mcontext.__reserved);
    struct _aarch64_ctx head;

    for (;; at += head.size) {
        memcpy(&head, at, sizeof(head));
        if (head.magic == magic || !head.magic)
            return head.magic ? at : NULL;
        assert_int_equal(head.size % 16, 0);
    }
}

/* The kernel's struct rt_sigframe (arch/arm64/kernel/signal.c). */
static void test_frame(void **state)
{
    static _Alignas(16) char buf[ARCH_FRAME_MAX];
    const uint64_t sp = 0xffff12345678, mask = UINT64_C(0x8000000000000205);
    struct arch_regs regs, r;
    pid_t pid = standing(&regs);

    (void)state;
    for (int hidden = 0; hidden < 2; hidden++) {
        uint64_t at = 0, got_mask;
        struct fpsimd_context fp;
        ucontext_t uc;
        size_t size = 0;

        r = regs;
        r.hidden = hidden;
        memset(buf, 0xee, sizeof(buf));
        assert_int_equal(arch_frame(pid, &r, sp, mask, buf, &at, &size), 0);
        assert_true(size <= ARCH_FRAME_MAX);
        assert_true(size >= 128 + 4560); /* the kernel asks for room for all of it */
        assert_int_equal(at % 16, 0);
        assert_true(at + size <= sp);
        memcpy(&uc, buf + 128, sizeof(uc));
        memcpy(&got_mask, buf + 128 + offsetof(ucontext_t, uc_sigmask), sizeof(got_mask));
        assert_int_equal(got_mask, mask);
        assert_int_equal(uc.uc_stack.ss_flags, -1);
        assert_int_equal(uc.uc_mcontext.pc, r.user.pc + (hidden ? 4 : 0));
        assert_int_equal(uc.uc_mcontext.sp, r.user.sp); /* its own, wherever the frame lies */
        assert_int_equal(uc.uc_mcontext.pstate, r.user.pstate);
        assert_int_equal((int64_t)uc.uc_mcontext.regs[0], hidden ? -EINTR : (int64_t)r.user.regs[0]);
        assert_memory_equal(&uc.uc_mcontext.regs[1], &r.user.regs[1], 30 * 8);
        assert_non_null(record(buf, FPSIMD_MAGIC));
        memcpy(&fp, record(buf, FPSIMD_MAGIC), sizeof(fp));
        assert_int_equal(fp.head.size, 528);
        assert_null(record(buf, SVE_MAGIC)); /* it was in a call */
    }
    end(pid);
}

#ifndef HWCAP_SVE
#define HWCAP_SVE (1 << 22)
#endif

/* Fills vector registers, then waits until it may see whether they are what they were: 0 if so. */
static int keeps_vectors(volatile int *step)
{
    uint64_t bad;

    __asm__ volatile(".arch armv8-a+sve\n\t"
                     "ptrue p0.b\n\t"
                     "pfalse p1.b\n\t"
                     "mov z0.b, #0x5a\n\t"
                     "mov z31.b, #0x33\n\t"
                     "mov w0, #1\n\t"
                     "str w0, [%1]\n"
                     "1: ldr w0, [%1]\n\t"
                     "cmp w0, #2\n\t"
                     "b.ne 1b\n\t"
                     "cmpne p1.b, p0/z, z0.b, #-1\n\t" /* all of them: p0 is what it was */
                     "cntp x0, p0, p1.b\n\t"
                     "cntb x1\n\t"
                     "sub %0, x1, x0\n\t"
                     "mov z1.b, #0x5a\n\t"
                     "cmpne p1.b, p0/z, z0.b, z1.b\n\t"
                     "cntp x0, p0, p1.b\n\t"
                     "add %0, %0, x0\n\t"
                     "mov z1.b, #0x33\n\t"
                     "cmpne p1.b, p0/z, z31.b, z1.b\n\t"
                     "cntp x0, p0, p1.b\n\t"
                     "add %0, %0, x0"
                     : "=&r"(bad)
                     : "r"(step)
                     : "x0", "x1", "v0", "v1", "v31", "memory", "cc");
    return bad != 0;
}

/* SVE: by the way back, and by the frame, for which the tracer dies. */
static void test_vectors(void **state)
{
    volatile int *step = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    (void)state;
    if (!(getauxval(AT_HWCAP) & HWCAP_SVE))
        skip();
    for (int dies = 0; dies < 2; dies++) {
        pid_t pid, tracer;
        int status;

        *step = 0;
        pid = fork();
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
            _exit(keeps_vectors(step));
        }
        while (*step != 1)
            usleep(1000);
        tracer = fork();
        if (tracer == 0) {
            struct trace_thread *threads;
            struct trace t;
            size_t count;
            int64_t got;

            trace_init(&t, pid, 10000);
            if (trace_stop_all(&t, 1000, &threads, &count) < 0 ||
                trace_borrow(&t, &threads[0], process_auxv(pid, AT_SYSINFO_EHDR), 0) < 0 ||
                trace_call(&t, &threads[0], SYS_getpid, (const uint64_t[6]){0}, &got) < 0)
                _exit(1);
            if (!dies && trace_return(&t, &threads[0]) < 0)
                _exit(2);
            _exit(got == pid ? 0 : 3);
        }
        assert_int_equal(waitpid(tracer, &status, 0), tracer);
        assert_int_equal(status, 0);
        *step = 2;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
    }
    munmap((void *)step, 4096);
}

/* Words that look like a frame, but for one thing. */
static void test_context_of_others(void **state)
{
    uint64_t words[8] = {0, 0xffff1000, AT_CALL, 0x60001000, 0, FPSIMD_MAGIC | UINT64_C(528) << 32, 0, 0}, sp = 0;

    (void)state;
    assert_int_equal(arch_find_context(words, 0, 8, &sp), 2);
    assert_int_equal(sp, 0xffff1000);
    words[3] |= 4; /* EL1 */
    assert_int_equal(arch_find_context(words, 0, 8, &sp), 8);
    words[3] ^= 4 | 0x10; /* 32-bit */
    assert_int_equal(arch_find_context(words, 0, 8, &sp), 8);
    words[3] ^= 0x10;
    words[5] += UINT64_C(16) << 32;
    assert_int_equal(arch_find_context(words, 0, 8, &sp), 8);
}

/* What is agreed with the planner (src/plan/arch/aarch64/sites.c). */
static void test_hooks(void **state)
{
    _Alignas(PLAN_SLOT) uint32_t code[3 * PLAN_SLOT / 4] = {0};
    struct plan_slot *slot = (struct plan_slot *)(void *)code;
    const uint32_t size = sizeof(code);

    (void)state;
    assert_int_equal(arch_hook_register(slot), -1);
    code[8] = 0xa9b247e0; /* stp x0, x17, [sp, #-224]! */
    assert_int_equal(arch_hook_register(slot), 17);
    code[8] = 0xa9b227e0; /* x9 */
    assert_int_equal(arch_hook_register(slot), 9);
    slot->flags = PLAN_F_GO;
    code[8] = 0;
    assert_int_equal(arch_hook_register(slot), 17);

    assert_int_equal(arch_moved_end((const char *)code, size, 0x1000, 0), 0);
    code[32 + 12] = 0xd4000001;
    assert_int_equal(arch_moved_end((const char *)code, size, 0x1000, PLAN_SLOT), 0x1000 + 4 * (32 + 13));
    assert_int_equal(arch_moved_end((const char *)code, size, 0x1000, 0), 0); /* the next one is another's */
    code[10] = 0x14000000 | (40 - 10);                                        /* b, to its code */
    assert_int_equal(arch_moved_end((const char *)code, size, 0x1000, 0), 0x1000 + 4 * (32 + 13));
    assert_int_equal(arch_moved_end((const char *)code, size, 0x1000, size), 0);
}
