/* SPDX-License-Identifier: Apache-2.0 */
/* Part of test_crash.c: what it knows of x86_64. */
static void set_pointers(struct crash_thread *th, uint64_t sp, uint64_t thread_pointer)
{
    th->regs.rsp = sp;
    th->regs.fs_base = thread_pointer;
}

#define CHAIN

static void calls(void **state)
{
#define ENDS(...) machine_ends_with_call((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))
    assert_true(ENDS(0x90, 0x90, 0xe8, 1, 2, 3, 4));             /* call rel32 */
    assert_true(ENDS(0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0xd0)); /* call *%rax */
    assert_true(ENDS(0x90, 0x90, 0x90, 0x90, 0xff, 0x50, 0x18)); /* call *0x18(%rax) */
    assert_true(ENDS(0x90, 0xff, 0x15, 1, 2, 3, 4));             /* call *x(%rip) */
    assert_true(ENDS(0xff, 0x94, 0x24, 1, 2, 3, 4));             /* call *x(%rsp) */
    assert_false(ENDS(0x90, 0xe9, 1, 2, 3, 4, 0x90));
    assert_false(ENDS(0x90, 0xff, 0x25, 1, 2, 3, 4)); /* jmp */
    assert_false(ENDS(0x90));
#undef ENDS
}
