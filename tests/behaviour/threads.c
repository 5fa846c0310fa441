/* SPDX-License-Identifier: Apache-2.0 */
/* Many threads doing I/O at once; threads that come and go. */
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>

#include "behave.h"

enum { THREADS = 200, ROUNDS = 200 };

static void *worker(void *arg)
{
    long number = (long)arg;
    char name[40], b[16];
    int fd, p[2];

    snprintf(name, sizeof(name), "thread-%ld", number);
    fd = open(name, O_CREAT | O_RDWR | O_TRUNC, 0600);
    MUST(fd >= 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0);
    for (int i = 0; i < ROUNDS; i++) {
        MUST(write(fd, "0123456789", 10) == 10);
        MUST(pread(fd, b, 10, i * 10) == 10);
        MUST(send(p[0], "abc", 3, 0) == 3);
        MUST(recv(p[1], b, 16, 0) == 3);
        MUST(close(open("/dev/null", O_RDONLY)) == 0);
    }
    MUST(close(fd) == 0 && close(p[0]) == 0 && close(p[1]) == 0);
    return (void *)number;
}

static int at_once(int argc, char **argv)
{
    pthread_t t[THREADS];
    pthread_attr_t small;
    long sum = 0;

    (void)argc, (void)argv;
    MUST(pthread_attr_init(&small) == 0 && pthread_attr_setstacksize(&small, 65536) == 0);
    for (long i = 0; i < THREADS; i++)
        MUST(pthread_create(&t[i], &small, worker, (void *)i) == 0);
    for (int i = 0; i < THREADS; i++) {
        void *r;

        MUST(pthread_join(t[i], &r) == 0);
        sum += (long)r;
    }
    printf("sum %ld\n", sum);
    return 0;
}

static void *short_lived(void *arg)
{
    char b[1];

    MUST(read(*(int *)arg, b, 1) == 1);
    return NULL;
}

/* Thousands of threads one after the other: thread pointers are used again. */
static int one_by_one(int argc, char **argv)
{
    int fd = open("/dev/zero", O_RDONLY);

    (void)argc, (void)argv;
    for (int i = 0; i < 5000; i++) {
        pthread_t t;

        MUST(pthread_create(&t, NULL, short_lived, &fd) == 0 && pthread_join(t, NULL) == 0);
    }
    close(fd);
    printf("done\n");
    return 0;
}

int main(int argc, char **argv)
{
    static const struct behave_case cases[] = {{"at-once", at_once}, {"one-by-one", one_by_one}, {NULL, NULL}};

    return behave_main(cases, argc, argv);
}
