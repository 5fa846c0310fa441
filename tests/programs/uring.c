/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io_uring_setup, io_uring_enter, io_uring_register by hand, so that musl
 * builds too. The operations that pass through the rings are expected by
 * another test (events_uring.c); here only the calls count.
 */
#include <string.h>
#include <sys/mman.h>

#include "expect.h"

#ifndef __NR_io_uring_setup
#define __NR_io_uring_setup 425
#define __NR_io_uring_enter 426
#define __NR_io_uring_register 427
#endif

int main(int argc, char **argv)
{
    unsigned params[30] = {0}; /* struct io_uring_params: 120 bytes */
    long ring;

    expect_begin(argc, argv);
    ring = C(io_uring_setup, X(.fd = 0), 8, params);
    FAILS(EFAULT, C(io_uring_setup, X(.fd = 0), 8, BAD));
    MUST(C(io_uring_setup, X(.fd = 0), 0, params) < 0);
    if (ring >= 0) {
        OK(C(io_uring_enter, X(.fd = ring), ring, 0, 0, 0, NULL, 0));
        MUST(C(io_uring_enter, X(.fd = ring), ring, 0, 0, 0x4000, NULL, 0) < 0);
        OK(C(io_uring_register, X(.fd = ring), ring, 9 /* IORING_REGISTER_PERSONALITY */, NULL, 0));
        MUST(C(io_uring_register, X(.fd = ring), ring, 9999, NULL, 0) < 0);
        OK(C(close, X(.fd = ring), ring));
    }
    MUST(C(io_uring_enter, X(.fd = 999), 999, 0, 0, 0, NULL, 0) < 0);
    MUST(C(io_uring_register, X(.fd = 999), 999, 9, NULL, 0) < 0);
    expect_end();
    return 0;
}
