/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/host_notify.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/mem.h"

#define SOCKETS_FROM 3
#define SOCKETS_MAX  16

static char *address;
static unsigned watchdog_ms;
static int sockets;

/* A variable as a number, 0 if it is none. */
static unsigned long long number(const char *name)
{
    const char *text = getenv(name);
    char *end = NULL;
    unsigned long long v = text && *text ? strtoull(text, &end, 10) : 0;

    return end && !*end ? v : 0;
}

/* A variable NAME that is there is for us only if the other one has our pid. */
static bool is_for_us(const char *pid_name)
{
    return number(pid_name) == (unsigned long long)getpid();
}

void notify_begin(void)
{
    static const char *const names[] = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID",
                                        "LISTEN_FDS",    "LISTEN_PID",    "LISTEN_FDNAMES"};
    const char *to = getenv("NOTIFY_SOCKET");

    if (to && (*to == '/' || *to == '@') && to[1])
        address = xstrdup(to);
    if (!getenv("WATCHDOG_PID") || is_for_us("WATCHDOG_PID"))
        watchdog_ms = (unsigned)(number("WATCHDOG_USEC") / 2000u);
    if (is_for_us("LISTEN_PID") && number("LISTEN_FDS") <= SOCKETS_MAX)
        sockets = (int)number("LISTEN_FDS");
    for (int fd = SOCKETS_FROM; fd < SOCKETS_FROM + sockets; fd++)
        fcntl(fd, F_SETFD, FD_CLOEXEC);
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        unsetenv(names[i]);
}

void notify(const char *fmt, ...)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t len = address ? strlen(address) : 0;
    char *text = NULL;
    va_list ap;
    int fd;

    if (!len || len >= sizeof(addr.sun_path))
        return;
    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        text = NULL;
    va_end(ap);
    memcpy(addr.sun_path, address, len);
    if (*address == '@')
        addr.sun_path[0] = '\0';
    else
        len++; /* a path has its NUL */
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && text)
        sendto(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&addr,
               (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
    if (fd >= 0)
        close(fd);
    free(text);
}

unsigned notify_watchdog_ms(void)
{
    return watchdog_ms;
}

int notify_sockets(void)
{
    return sockets;
}
