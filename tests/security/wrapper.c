// SPDX-License-Identifier: Apache-2.0
/* What set-user-ID programs do that let others do one thing as root: becomes root altogether, waits for a moment, and
 * runs a shell in the same process. Prints who it is. */
#include <stdio.h>
#include <unistd.h>

int main(void)
{
    if (setresgid(0, 0, 0) || setresuid(0, 0, 0))
        fprintf(stderr, "no root: %d\n", (int)geteuid());
    usleep(600000);
    execl("/bin/sh", "sh", "-c", "/usr/bin/id -u; /bin/true", (char *)NULL);
    return 1;
}
