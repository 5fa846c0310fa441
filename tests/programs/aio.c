/* SPDX-License-Identifier: Apache-2.0 */
/* io_setup and its relatives. What passes through a context is expected by another test (events_aio.c). */
#include <fcntl.h>
#include <string.h>
#include <time.h>

#include <linux/aio_abi.h>

#include "expect.h"

#ifndef __NR_io_pgetevents
#define __NR_io_pgetevents 333
#endif

int main(int argc, char **argv)
{
    aio_context_t context = 0;
    struct iocb one = {.aio_lio_opcode = IOCB_CMD_PWRITE, .aio_nbytes = 4}, *list[] = {&one};
    struct io_event event;
    struct timespec now = {0};

    expect_begin(argc, argv);
    one.aio_buf = (uintptr_t) "text";
    one.aio_fildes = (uint32_t)open("f", O_CREAT | O_WRONLY, 0600);
    OK(C(io_setup, X(), 4, &context));
    FAILS(EINVAL, C(io_setup, X(), 4, &context)); /* it must be 0 */
    FAILS(EFAULT, C(io_setup, X(), 4, BAD));
    MUST(C(io_submit, X(), context, 1, list) == 1);
    MUST(C(io_getevents, X(), context, 1, 1, &event, NULL) == 1 && event.res == 4);
    MUST(C(io_submit, X(), context, 1, list) == 1);
    MUST(C(io_pgetevents, X(), context, 1, 1, &event, NULL, NULL) == 1 && event.res == 4);
    OK(C(io_getevents, X(), context, 0, 1, &event, &now));
    FAILS(EINVAL, C(io_submit, X(), 0, 1, list));
    FAILS(EFAULT, C(io_submit, X(), context, 1, BAD));
    FAILS(EINVAL, C(io_submit, X(), context, -1, list));
    FAILS(EINVAL, C(io_getevents, X(), 0, 1, 1, &event, NULL));
    FAILS(EINVAL, C(io_pgetevents, X(), 0, 1, 1, &event, NULL, NULL));
    OK(C(io_destroy, X(), context));
    FAILS(EINVAL, C(io_destroy, X(), context));
    expect_end();
    return 0;
}
