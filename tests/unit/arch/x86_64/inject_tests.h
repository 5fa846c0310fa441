/* SPDX-License-Identifier: Apache-2.0 */
/* Part of test_inject.c: registers and frames of x86_64. */
#define ARCH_TESTS                                                                                                     \
    cmocka_unit_test(test_shadow_stack), cmocka_unit_test(test_calls), cmocka_unit_test(test_made_calls),              \
        cmocka_unit_test(test_frame)

/* fs/proc/array.c and arch/x86/kernel/cpu/proc.c (arch_proc_pid_thread_features()) */
static void test_shadow_stack(void **state)
{
    static const struct {
        const char *text;
        bool has;
    } cases[] = {
        {"x86_Thread_features:\tshstk \nx86_Thread_features_locked:\t\n", true},
        {"x86_Thread_features:\tshstk wrss \nx86_Thread_features_locked:\tshstk wrss \n", true},
        {"x86_Thread_features:\twrss shstk\n", true},
        {"x86_Thread_features:\t\nx86_Thread_features_locked:\tshstk wrss \n", false},
        {"x86_Thread_features:\twrss \n", false},
        {"x86_Thread_features:\tshstk2 noshstk\n", false},
        {"Name:\tshstk\n", false},
        {"", false},
    };
    struct process_facts f = {.state = 'S', .threads = 1, .shadow_stack = true};
    char *why;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        for (int all = 0; all < 2; all++)
            assert_int_equal(*cases[i].text && read_text(cases[i].text, all).shadow_stack, cases[i].has);
    why = process_objection(getppid(), &f);
    assert_non_null(why);
    assert_non_null(strstr(why, "shadow stacks"));
    assert_non_null(strstr(why, "GLIBC_TUNABLES"));
    free(why);
}

static struct arch_regs at_end_of_call(long nr, long result)
{
    struct arch_regs r = {0};

    r.user.rip = 0x400002;
    r.user.rsp = 0x7fff1000;
    r.user.orig_rax = (unsigned long long)nr;
    r.user.rax = (unsigned long long)result;
    return r;
}

static void test_calls(void **state)
{
    static const int again[] = {SYS_epoll_wait, SYS_semtimedop, SYS_rt_sigtimedwait, SYS_recvfrom, SYS_connect};
    static const int others[] = {SYS_close, SYS_nanosleep, SYS_getpid, SYS_openat, SYS_wait4};
    struct arch_regs r;

    (void)state;
    for (size_t i = 0; i < sizeof(again) / sizeof(*again); i++) {
        r = at_end_of_call(again[i], -EINTR);
        assert_true(arch_interrupted(&r));
        r = at_end_of_call(again[i], 0);
        assert_false(arch_interrupted(&r));
        r = at_end_of_call(again[i], -EINTR);
        r.user.orig_rax = ~0ull; /* in no call: that is a value of the program's */
        assert_false(arch_interrupted(&r));
        r = at_end_of_call(others[i], -EINTR);
        assert_false(arch_interrupted(&r));
    }
    r = at_end_of_call(SYS_poll, -516);
    assert_true(arch_restart_hidden(&r));
    assert_true(arch_in_call(&r));
    r = at_end_of_call(SYS_select, -514);
    assert_false(arch_restart_hidden(&r));
    r.user.orig_rax = ~0ull;
    r.user.rax = (unsigned long long)-516;
    assert_false(arch_restart_hidden(&r));
    assert_false(arch_in_call(&r));

    r = at_end_of_call(SYS_epoll_wait, -EINTR);
    arch_rewind(&r);
    assert_int_equal(arch_pc(&r), 0x400000);
    assert_int_equal(arch_result(&r), SYS_epoll_wait);
    assert_false(arch_in_call(&r)); /* or the kernel would look for a restart */
}

static void test_made_calls(void **state)
{
    struct arch_regs r = at_end_of_call(SYS_poll, -516);

    (void)state;
    r.user.rbx = 5;
    arch_regs_call(&r, 0x1000, 0x2000, SYS_mmap, (const uint64_t[6]){1, 2, 3, 4, 5, 6});
    assert_int_equal(r.user.rip, 0x1000 + ARCH_GADGET_CALL);
    assert_int_equal(r.user.rsp, 0x2000);
    assert_int_equal(r.user.rax, SYS_mmap);
    assert_int_equal(r.user.rdi, 1);
    assert_int_equal(r.user.rsi, 2);
    assert_int_equal(r.user.rdx, 3);
    assert_int_equal(r.user.r10, 4);
    assert_int_equal(r.user.r8, 5);
    assert_int_equal(r.user.r9, 6);
    assert_int_equal(r.user.rbx, 5);
    assert_false(arch_in_call(&r));
}

/* The kernel's struct rt_sigframe behind its return address (arch/x86/include/asm/sigframe.h). */
static void test_frame(void **state)
{
    static const struct {
        long orig, result, pc, rax;
    } cases[] = {
        {SYS_read, -512, 0x400000, SYS_read},     /* ERESTARTSYS: made again */
        {SYS_read, -513, 0x400000, SYS_read},     /* ERESTARTNOINTR */
        {SYS_select, -514, 0x400000, SYS_select}, /* ERESTARTNOHAND */
        {SYS_poll, -516, 0x400002, -EINTR},       /* ERESTART_RESTARTBLOCK: rt_sigreturn forgets how */
        {SYS_read, 7, 0x400002, 7},
        {-1, -512, 0x400002, -512}, /* in no call */
    };
    static char buf[ARCH_FRAME_MAX];
    const uint64_t sp = 0x7fff12345678, mask = UINT64_C(0x8000000000000205);
    struct arch_regs regs, r;
    pid_t pid = standing(&regs);

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct _fpx_sw_bytes sw;
        ucontext_t uc;
        uint64_t at = 0, got_mask, fp;
        uint32_t magic2;
        size_t size = 0;

        r = regs;
        r.user.rip = 0x400002;
        r.user.orig_rax = (unsigned long long)cases[i].orig;
        r.user.rax = (unsigned long long)cases[i].result;
        memset(buf, 0xee, sizeof(buf));
        assert_int_equal(arch_frame(pid, &r, sp, mask, buf, &at, &size), 0);
        assert_true(size <= ARCH_FRAME_MAX);
        assert_int_equal(at % 16, 0);
        assert_true(at + size <= sp - ARCH_RED_ZONE);
        memcpy(&uc, buf, offsetof(ucontext_t, uc_sigmask));
        memcpy(&got_mask, buf + offsetof(ucontext_t, uc_sigmask), sizeof(got_mask));
        assert_int_equal(got_mask, mask);
        assert_int_equal(uc.uc_mcontext.gregs[REG_RIP], cases[i].pc);
        assert_int_equal(uc.uc_mcontext.gregs[REG_RAX], cases[i].rax);
        assert_int_equal(uc.uc_mcontext.gregs[REG_RSP], r.user.rsp); /* its own, wherever the frame lies */
        assert_int_equal(uc.uc_mcontext.gregs[REG_R15], r.user.r15);
        assert_int_equal(uc.uc_mcontext.gregs[REG_EFL], r.user.eflags);
        fp = (uint64_t)(uintptr_t)uc.uc_mcontext.fpregs;
        assert_int_equal(fp % 64, 0); /* XRSTOR */
        assert_in_range(fp, at, at + size);
        memcpy(&sw, buf + (fp - at) + 464, sizeof(sw));
        assert_int_equal(sw.magic1, FP_XSTATE_MAGIC1);
        assert_int_equal(fp - at + sw.extended_size, size);
        memcpy(&magic2, buf + (fp - at) + sw.xstate_size, sizeof(magic2));
        assert_int_equal(magic2, FP_XSTATE_MAGIC2);
    }
    end(pid);
}
