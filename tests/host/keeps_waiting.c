/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Its command line, the name that it was executed by and a page that could be a library's lie in memory that never comes:
 * whoever reads it waits. It becomes user UID before, if that is given, and has its files in /proc be root's.
 *
 *   keeps_waiting [UID]
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static int fd; /* made by root: others' would not hold up the kernel */

static void take(void *page)
{
    struct uffdio_register what = {{(uintptr_t)page, 4096}, UFFDIO_REGISTER_MODE_MISSING, 0};

    if (ioctl(fd, UFFDIO_REGISTER, &what) || madvise(page, 4096, MADV_DONTNEED)) {
        perror("userfaultfd");
        _exit(1);
    }
}

/* In a thread, as the first one's stack may be in that page. */
static void *take_pages(void *arg)
{
    take((void *)(getauxval(AT_EXECFN) & ~UINT64_C(4095)));
    take(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    puts("ready");
    fflush(stdout);
    for (;;)
        pause();
    return arg;
}

int main(int argc, char **argv)
{
    struct uffdio_api api = {.api = UFFD_API};
    uid_t uid = argc > 1 ? (uid_t)strtoul(argv[1], NULL, 10) : 0;
    pthread_t thread;

    fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
    if (fd < 0 || ioctl(fd, UFFDIO_API, &api) || (uid && (setresuid(uid, uid, uid) || prctl(PR_SET_DUMPABLE, 0)))) {
        perror("keeps_waiting");
        return 1;
    }
    return pthread_create(&thread, NULL, take_pages, NULL) || pthread_join(thread, NULL);
}
