/* SPDX-License-Identifier: Apache-2.0 */
/* A library of somebody else's in ld.so.preload: true(1) takes three seconds to start with it. */
#include <string.h>
#include <unistd.h>

__attribute__((constructor)) static void begin(int argc, char **argv)
{
    const char *name = argc ? strrchr(argv[0], '/') : NULL;

    if (name && strcmp(name, "/true") == 0)
        sleep(3);
}
