/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Has a file (named by the first argument), a TCP connection and a listening socket (port of the second argument) open
 * before it is attached to; uses and closes them when SIGUSR1 comes, says so, and waits for SIGTERM.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int file, listener, client, server, sig;
    sigset_t set;

    if (argc < 3)
        return 2;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    to.sin_port = htons((unsigned short)atoi(argv[2]));
    file = open(argv[1], O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    client = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&to, sizeof(to)) || listen(listener, 1) ||
        connect(client, (struct sockaddr *)&to, sizeof(to)))
        return 3;
    server = accept(listener, NULL, NULL);
    puts("ready");
    fflush(stdout);
    while (!sigwait(&set, &sig) && sig == SIGUSR1) {
        char buf[16];

        if (write(file, "written\n", 8) != 8 || write(client, "12345", 5) != 5 || read(server, buf, sizeof(buf)) != 5)
            return 4;
        close(file);
        close(client);
        close(server);
        puts("done");
        fflush(stdout);
    }
    return 0;
}
