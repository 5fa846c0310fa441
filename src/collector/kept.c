/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/kept.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOOKS 10
#define LOOK_US 500

void worker_end(struct kept *k, pid_t pid)
{
    kill(pid, SIGKILL);
    for (int i = 0; i < LOOKS; i++) {
        if (waitpid(pid, NULL, WNOHANG))
            return;
        usleep(LOOK_US);
    }
    worker_keep(k, pid);
}

void worker_keep(struct kept *k, pid_t pid)
{
    for (unsigned i = 0; i < KEPT_MAX; i++)
        if (!k->pid[i]) {
            k->pid[i] = pid;
            return;
        }
}

bool worker_kept_max(struct kept *k)
{
    bool max = true;

    for (unsigned i = 0; i < KEPT_MAX; i++) {
        if (k->pid[i] && waitpid(k->pid[i], NULL, WNOHANG))
            k->pid[i] = 0;
        max &= k->pid[i] != 0;
    }
    return max;
}
