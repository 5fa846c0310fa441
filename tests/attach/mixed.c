/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data in the text (arch/MACHINE/mixed.h). Opens, reads and writes by way of the C library, in a thread, until SIGTERM
 * comes, and then prints sums of the data, which nobody may have changed.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "mixed.h"

extern const unsigned char table[] __attribute__((visibility("hidden")));
extern const unsigned char copy_end[] __attribute__((visibility("hidden")));

static volatile sig_atomic_t stop;

static void on_term(int sig)
{
    (void)sig;
    stop = 1;
}

static void *work(void *path)
{
    while (!stop) {
        char buf[64];
        int fd = open(path, O_RDWR | O_APPEND);

        if (fd < 0 || read(fd, buf, sizeof(buf)) < 0 || write(fd, "x", 1) != 1 || close(fd))
            return path;
        usleep(10000);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    unsigned sum = 0;
    pthread_t thread;
    void *failed;

    if (argc < 2 || signal(SIGTERM, on_term) == SIG_ERR || pthread_create(&thread, NULL, work, argv[1]))
        return 2;
    puts("ready");
    fflush(stdout);
    pthread_join(thread, &failed);
    for (const unsigned char *p = table; p < copy_end; p++)
        sum = sum * 31 + *p;
    printf("ended %u\n", sum);
    return failed ? 3 : 0;
}
