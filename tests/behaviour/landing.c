/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text whose indirect branches must lead to landing pads (BTI on arm64: the
 * flag "bt" of /proc/self/smaps) is protected so whether it is observed or not.
 * LD_PRELOAD, argv[1]: libraries made of this file with -DLIBRARY.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/syscall.h>

#include "behave.h"
#include "raw.h"

#ifdef LIBRARY
/* Has a call that is observed, so its text is changed. */
long closes(int fd);

long closes(int fd)
{
    return raw_syscall(SYS_close, fd, 0, 0, 0, 0, 0);
}
#else
static int has_flag(const void *at, const char *flag)
{
    FILE *f = fopen("/proc/self/smaps", "r");
    unsigned long lo, hi;
    char line[4096];
    int inside = 0, has = -1;

    MUST(f);
    while (has < 0 && fgets(line, sizeof(line), f)) {
        if (sscanf(line, "%lx-%lx ", &lo, &hi) == 2)
            inside = lo <= (unsigned long)at && (unsigned long)at < hi;
        else if (inside && !strncmp(line, "VmFlags:", 8))
            has = strstr(line, flag) != NULL;
    }
    fclose(f);
    return has;
}

int main(int argc, char **argv)
{
    long (*early)(int) = NULL, (*late)(int) = NULL;
    void *library = argc > 1 ? dlopen(argv[1], RTLD_NOW) : NULL;

    MUST(library);
    *(void **)&early = dlsym(RTLD_DEFAULT, "closes");
    *(void **)&late = dlsym(library, "closes");
    MUST(early && late && early != late);
    printf("%d %d\n", has_flag((void *)early, " bt"), has_flag((void *)late, " bt"));
    printf("%ld %ld\n", early(open("/dev/null", O_RDONLY)), late(open("/dev/null", O_RDONLY)));
    return 0;
}
#endif
