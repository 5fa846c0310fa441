/* SPDX-License-Identifier: Apache-2.0 */
/* Waits for some seconds, in short calls. */
#include <stdlib.h>
#include <time.h>

int main(int argc, char **argv)
{
    const struct timespec moment = {.tv_nsec = 20000000};

    for (long n = argc > 1 ? strtol(argv[1], NULL, 10) * 50 : 0; n > 0; n--)
        nanosleep(&moment, NULL);
    return 0;
}
