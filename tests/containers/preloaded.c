/* SPDX-License-Identifier: Apache-2.0 */
/* A library that somebody preloads into a program: it says so, once for each that begins. */
#include <unistd.h>

__attribute__((constructor)) static void loaded(void)
{
    if (write(2, "preloaded\n", 10) != 10)
        _exit(99);
}
