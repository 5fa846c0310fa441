/* SPDX-License-Identifier: Apache-2.0 */
/* A program that is run in other namespaces and roots: a file, a connection, a child, an image of its own again.
 * inner PATH DEPTH: reads PATH, sends a line to itself over TCP, and execs itself in a child DEPTH times. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(x) \
    do { \
        if (!(x)) { \
            perror(#x); \
            exit(99); \
        } \
    } while (0)

static void loopback_up(void)
{
    struct ifreq r = {.ifr_name = "lo"};
    int s = socket(AF_INET, SOCK_DGRAM, 0);

    CHECK(s >= 0 && ioctl(s, SIOCGIFFLAGS, &r) == 0);
    if (!(r.ifr_flags & IFF_UP)) {
        r.ifr_flags |= IFF_UP;
        CHECK(ioctl(s, SIOCSIFFLAGS, &r) == 0);
    }
    close(s);
}

static void talk(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    char line[32] = "";
    int server = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0), in;

    CHECK(bind(server, (struct sockaddr *)&at, sizeof(at)) == 0 && listen(server, 1) == 0);
    CHECK(getsockname(server, (struct sockaddr *)&at, &len) == 0);
    CHECK(connect(client, (struct sockaddr *)&at, sizeof(at)) == 0);
    in = accept(server, NULL, NULL);
    CHECK(in >= 0 && write(client, "hello inside\n", 13) == 13);
    CHECK(read(in, line, sizeof(line) - 1) == 13);
    printf("%s", line);
    close(client);
    close(in);
    close(server);
}

int main(int argc, char **argv)
{
    int depth = argc > 2 ? atoi(argv[2]) : 0, fd, status;
    char text[256] = "", more[16];
    ssize_t n;
    pid_t pid;

    CHECK(argc > 2);
    fd = open(argv[1], O_RDONLY);
    CHECK(fd >= 0);
    n = read(fd, text, sizeof(text) - 1);
    CHECK(n > 0);
    printf("%d %s", depth, text);
    close(fd);
    loopback_up();
    talk();
    fflush(stdout);
    if (!depth)
        return 0;
    snprintf(more, sizeof(more), "%d", depth - 1);
    pid = depth % 2 ? fork() : vfork();
    CHECK(pid >= 0);
    if (pid == 0) {
        execve(argv[0], (char *[]){argv[0], argv[1], more, NULL}, (char *[]){"ONLY=this", NULL});
        _exit(98);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    return WEXITSTATUS(status);
}
