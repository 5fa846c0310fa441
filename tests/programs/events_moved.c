/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Output and lines of log files that pass without a buffer that could be looked
 * at: moved by the kernel, written by AIO. Prints what AIO transfers, and how
 * many bytes of output can't be told.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <linux/aio_abi.h>

#define MUST(c) ((c) ? (void)0 : (perror(#c), _exit(99)))

/* What is at the address of a context. */
struct ring {
    unsigned id, nr, head, tail, magic, compat, incompat, header;
    struct io_event events[];
};

static aio_context_t context;

static void submit(struct iocb *one)
{
    MUST(syscall(SYS_io_submit, context, 1L, &one) == 1);
}

static long wait_for(void)
{
    struct io_event e;

    MUST(syscall(SYS_io_getevents, context, 1L, 1L, &e, NULL) == 1);
    return (long)e.res;
}

/* As programs do that want to save the call. */
static long look_for(void)
{
    struct ring *r = (struct ring *)(uintptr_t)context;
    long res;

    while (__atomic_load_n(&r->tail, __ATOMIC_ACQUIRE) == r->head)
        usleep(100);
    res = (long)r->events[r->head].res;
    __atomic_store_n(&r->head, (r->head + 1) % r->nr, __ATOMIC_RELEASE);
    return res;
}

static struct iocb operation(int op, int fd, void *buf, size_t size, off_t at)
{
    return (struct iocb){.aio_lio_opcode = (uint16_t)op, .aio_fildes = (uint32_t)fd, .aio_buf = (uintptr_t)buf,
                         .aio_nbytes = size, .aio_offset = at};
}

int main(void)
{
    static char text[8192], dir[PATH_MAX];
    char line[] = "a line by vmsplice\n";
    struct iovec v = {line, sizeof(line) - 1};
    int in, log, fd, p[2], moved = 0;
    struct iocb a, b;
    FILE *expect;
    off_t at = 0;

    MUST(getcwd(dir, sizeof(dir)) && (expect = fopen(getenv("EXPECT"), "w")));
    memset(text, 'x', sizeof(text));
    MUST((in = open("in", O_CREAT | O_RDWR, 0600)) >= 0 && write(in, text, 1000) == 1000);
    MUST((log = open("some.log", O_CREAT | O_RDWR, 0600)) >= 0 && write(log, "seen\n", 5) == 5);
    MUST(sendfile(log, in, &at, 100) == 100);
    moved += 100;
    at = 0;
    MUST(copy_file_range(in, &at, log, NULL, 50, 0) == 50);
    moved += 50;
    MUST((fd = open("no-log", O_CREAT | O_WRONLY, 0600)) >= 0 && sendfile(fd, in, &at, 70) == 70);
    close(fd);
    MUST(!pipe(p) && write(p[1], "by splice\n", 10) == 10 && splice(p[0], NULL, 1, NULL, 10, 0) == 10);
    moved += 10;
    MUST(vmsplice(1, &v, 1, 0) == (ssize_t)v.iov_len);
    moved += (int)v.iov_len;

    MUST(!syscall(SYS_io_setup, 8L, &context));
    MUST((fd = open("aio", O_CREAT | O_RDWR, 0600)) >= 0);
    a = operation(IOCB_CMD_PWRITE, fd, text, 8192, 0);
    submit(&a);
    MUST(wait_for() == 8192);
    for (int i = 0; i < 20; i++) { /* more than the ring holds */
        b = operation(IOCB_CMD_PREAD, fd, text, 100, 0);
        submit(&b);
        MUST((i % 3 ? wait_for() : look_for()) == 100);
    }
    a = operation(IOCB_CMD_PREAD, fd, text, 300, 8192 - 30);
    submit(&a);
    MUST(look_for() == 30);
    a = operation(IOCB_CMD_PWRITE, log, line, 7, 155);
    submit(&a);
    MUST(look_for() == 7);
    moved += 7;
    a = operation(IOCB_CMD_PREAD, fd, text, 10, 0);
    submit(&a);
    MUST(wait_for() == 10);
    close(fd);
    fprintf(expect, "{\"event\":\"fs.close\",\"file\":\"%s/aio\",\"read\":[%d,%d],\"write\":[8192,1]}\n", dir,
            2000 + 30 + 10, 22);
    a = operation(IOCB_CMD_PWRITE, log, line, 5, 162); /* nobody waits for it */
    submit(&a);
    moved += 5;
    usleep(20000);
    fprintf(expect, "{\"moved\":%d}\n", moved);
    fclose(expect);
    exit(0);
}
