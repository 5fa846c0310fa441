/* SPDX-License-Identifier: Apache-2.0 */
/* A file written, read and closed through an io_uring's rings, by hand (io_uring(7)), so that musl builds it too. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef __NR_io_uring_setup
#define __NR_io_uring_setup 425
#define __NR_io_uring_enter 426
#endif

#define MUST(c) ((c) ? (void)0 : (perror(#c), _exit(99)))

enum { OP_OPENAT = 18, OP_CLOSE = 19, OP_READ = 22, OP_WRITE = 23, ENTER_GETEVENTS = 1 };

/* <linux/io_uring.h>, as far as it is needed. */
struct sq_offsets {
    uint32_t head, tail, ring_mask, ring_entries, flags, dropped, array, resv1;
    uint64_t resv2;
};
struct cq_offsets {
    uint32_t head, tail, ring_mask, ring_entries, overflow, cqes, flags, resv1;
    uint64_t resv2;
};
struct params {
    uint32_t sq_entries, cq_entries, flags, sq_thread_cpu, sq_thread_idle, features, wq_fd, resv[3];
    struct sq_offsets sq;
    struct cq_offsets cq;
};
struct sqe {
    uint8_t opcode, flags;
    uint16_t ioprio;
    int32_t fd;
    uint64_t off, addr;
    uint32_t len, op_flags;
    uint64_t user_data, pad[3];
};
struct cqe {
    uint64_t user_data;
    int32_t res;
    uint32_t flags;
};

static int ring_fd;
static char *sq, *cq;
static struct sqe *sqes;
static struct params params;

/* Submits one operation and waits for its result. */
static int run(struct sqe e)
{
    uint32_t *tail = (uint32_t *)(sq + params.sq.tail), *array = (uint32_t *)(sq + params.sq.array);
    uint32_t mask = *(uint32_t *)(sq + params.sq.ring_mask), at = *tail & mask;
    uint32_t *head = (uint32_t *)(cq + params.cq.head), cq_mask = *(uint32_t *)(cq + params.cq.ring_mask);
    struct cqe *c;

    sqes[at] = e;
    array[at] = at;
    __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
    MUST(syscall(__NR_io_uring_enter, ring_fd, 1, 1, ENTER_GETEVENTS, NULL, 0) == 1);
    MUST(__atomic_load_n((uint32_t *)(cq + params.cq.tail), __ATOMIC_ACQUIRE) != *head);
    c = (struct cqe *)(cq + params.cq.cqes) + (*head & cq_mask);
    __atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
    return c->res;
}

int main(void)
{
    static char text[1000], back[2000];
    int fd;

    memset(text, 'u', sizeof(text));
    ring_fd = (int)syscall(__NR_io_uring_setup, 8, &params);
    if (ring_fd < 0) {
        printf("no io_uring\n");
        return 0;
    }
    sq = mmap(NULL, params.sq.array + params.sq_entries * sizeof(uint32_t), PROT_READ | PROT_WRITE, MAP_SHARED, ring_fd,
              0);
    cq = mmap(NULL, params.cq.cqes + params.cq_entries * sizeof(struct cqe), PROT_READ | PROT_WRITE, MAP_SHARED,
              ring_fd, 0x8000000);
    sqes = mmap(NULL, params.sq_entries * sizeof(struct sqe), PROT_READ | PROT_WRITE, MAP_SHARED, ring_fd, 0x10000000);
    MUST(sq != MAP_FAILED && cq != MAP_FAILED && sqes != MAP_FAILED);
    fd = run((struct sqe){.opcode = OP_OPENAT,
                          .fd = AT_FDCWD,
                          .addr = (uint64_t)(uintptr_t) "through-the-ring",
                          .len = 0600,
                          .op_flags = O_CREAT | O_RDWR});
    MUST(fd >= 0);
    MUST(run((struct sqe){.opcode = OP_WRITE, .fd = fd, .addr = (uint64_t)(uintptr_t)text, .len = 1000}) == 1000);
    MUST(run((struct sqe){.opcode = OP_READ, .fd = fd, .off = 0, .addr = (uint64_t)(uintptr_t)back, .len = 2000}) ==
         1000);
    MUST(memcmp(text, back, 1000) == 0);
    MUST(run((struct sqe){.opcode = OP_CLOSE, .fd = fd}) == 0);
    close(ring_fd);
    printf("done\n");
    return 0;
}
