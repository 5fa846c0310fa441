/* SPDX-License-Identifier: Apache-2.0 */
/* Part of test_crash.c: what it knows of arm64. */
static void set_pointers(struct crash_thread *th, uint64_t sp, uint64_t thread_pointer)
{
    th->regs.sp = sp;
    th->more.tls = thread_pointer;
}

/* Functions that sign their return addresses. */
#define CHAIN __attribute__((target("branch-protection=pac-ret+leaf")))

static void calls(void **state)
{
#define ENDS(w) machine_ends_with_call((const uint8_t[]){(w)&255, (w) >> 8 & 255, (w) >> 16 & 255, (w) >> 24}, 4)
    assert_true(ENDS(0x97fffff0u)); /* bl */
    assert_true(ENDS(0x94000010u));
    assert_true(ENDS(0xd63f0200u));  /* blr x16 */
    assert_true(ENDS(0xd63f0a1fu));  /* blraaz x16 */
    assert_true(ENDS(0xd73f0a11u));  /* blraa x16, x17 */
    assert_false(ENDS(0x14000010u)); /* b */
    assert_false(ENDS(0xd61f0200u)); /* br x16 */
    assert_false(ENDS(0xd65f03c0u)); /* ret */
#undef ENDS
}
