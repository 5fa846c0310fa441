/* SPDX-License-Identifier: Apache-2.0 */
/* Traces a process as a debugger does, until it is killed. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    pid_t pid = argc > 1 ? (pid_t)strtol(argv[1], NULL, 10) : 0;

    if (ptrace(PTRACE_ATTACH, pid, NULL, NULL) < 0 || waitpid(pid, NULL, 0) < 0) {
        perror("ptrace");
        return 1;
    }
    puts("held");
    fflush(stdout);
    pause();
    return 0;
}
