/* SPDX-License-Identifier: Apache-2.0 */
/* A service in a container, perhaps its process 1: steady PATH reads PATH again and again, and now and then starts an
 * image of its own that does so once, until it is told to end. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t ended;

static void on_term(int sig)
{
    (void)sig;
    ended = 1;
}

static int look(const char *path)
{
    char text[64];
    int fd = open(path, O_RDONLY);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text));

    return fd >= 0 && close(fd) == 0 && n == 12;
}

int main(int argc, char **argv)
{
    int status;

    if (argc < 2 || signal(SIGTERM, on_term) == SIG_ERR)
        return 98;
    if (argc > 2)
        return look(argv[1]) ? 7 : 99;
    for (int i = 0; !ended; i++) {
        if (!look(argv[1]))
            return 97;
        if (i % 10 == 0) {
            pid_t pid = i % 20 ? fork() : vfork();

            if (pid == 0) {
                execve(argv[0], (char *[]){argv[0], argv[1], "once", NULL}, (char *[]){NULL});
                _exit(96);
            }
            if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 7 << 8)
                return 95;
        }
        usleep(10000);
    }
    return 3;
}
