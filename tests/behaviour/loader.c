/* SPDX-License-Identifier: Apache-2.0 */
/* Code that comes later: a library, opened at run time, with system calls of its own. argv[2]: its path. */
#include <dlfcn.h>
#include <fcntl.h>

#include "behave.h"

static int open_late(int argc, char **argv)
{
    void *library;
    long (*reads)(int, char *, long, long);
    char b[8];
    int fd = open("/dev/urandom", O_RDONLY);

    MUST(argc > 2 && fd >= 0);
    for (int i = 0; i < 3; i++) {
        library = dlopen(argv[2], RTLD_NOW | RTLD_LOCAL);
        MUST(library);
        reads = (long (*)(int, char *, long, long))dlsym(library, "library_reads");
        MUST(reads && reads(fd, b, 8, 100) == 800);
        MUST(dlclose(library) == 0);
    }
    MUST(close(fd) == 0);
    printf("done\n");
    return 0;
}

/* The user's own preloaded library answers getpid() with 4711. */
static int own_preload(int argc, char **argv)
{
    (void)argc, (void)argv;
    printf("%d\n", (int)getpid());
    return 0;
}

int main(int argc, char **argv)
{
    static const struct behave_case cases[] = {{"open-late", open_late}, {"own-preload", own_preload}, {NULL, NULL}};

    return behave_main(cases, argc, argv);
}
