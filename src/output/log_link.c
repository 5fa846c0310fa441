/* SPDX-License-Identifier: Apache-2.0 */
#include "output/log_link.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "output/output.h"

#define LINE_MAX_BYTES 32768u /* of the network; the rest of a longer line is left out there */

static struct {
    FILE *files[2];
    struct cfg_transport network;
    int fds[2];       /* written to, read by the event loop; -1 without network */
    struct buf line;  /* the start of one */
    uint64_t dropped; /* lines that found no room */
    struct event *event;
    struct output *output;
} link_ = {.fds = {-1, -1}};

static void pass_on(const char *line, size_t len)
{
    if (send(link_.fds[0], line, len, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)len)
        link_.dropped++;
}

/* Called with the stream locked. */
static ssize_t on_write(void *ctx, const char *text, size_t len)
{
    size_t room;

    (void)ctx;
    for (int i = 0; i < 2; i++)
        if (link_.files[i]) {
            fwrite(text, 1, len, link_.files[i]);
            fflush(link_.files[i]);
        }
    for (size_t at = 0; link_.fds[0] >= 0 && at < len;) {
        const char *end = memchr(text + at, '\n', len - at);
        size_t n = end ? (size_t)(end - text) - at : len - at;

        room = link_.line.len < LINE_MAX_BYTES ? LINE_MAX_BYTES - link_.line.len : 0;
        buf_add(&link_.line, text + at, n < room ? n : room);
        at += n;
        if (!end)
            break;
        buf_char(&link_.line, '\n');
        pass_on(link_.line.p, link_.line.len);
        buf_reset(&link_.line);
        at++;
    }
    return (ssize_t)len;
}

FILE *log_link_open(FILE *const files[2], const struct cfg_transport *network)
{
    cookie_io_functions_t io = {.write = on_write};
    FILE *f = fopencookie(NULL, "w", io);

    if (!f)
        return NULL;
    link_.files[0] = files[0];
    link_.files[1] = files[1];
    if (network && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, link_.fds) == 0) {
        link_.network = *network; /* copied, as the configuration that it is of may go first */
        link_.network.host = xstrdup(network->host);
        link_.network.port = xstrdup(network->port);
        link_.network.path = xstrdup(network->path);
        link_.network.tls.cacertpath = xstrdup(network->tls.cacertpath);
    }
    return f;
}

static void take(void)
{
    char line[LINE_MAX_BYTES + 1];
    ssize_t n;

    while ((n = recv(link_.fds[1], line, sizeof(line), MSG_DONTWAIT)) > 0)
        output_write(link_.output, line, (size_t)n);
}

static void on_line(evutil_socket_t fd, short events, void *ctx)
{
    (void)fd, (void)events, (void)ctx;
    take();
}

void log_link_start(struct event_base *base)
{
    if (link_.fds[1] < 0)
        return;
    /* Not with events or metrics of the same destination: what a connection carries is of one kind. */
    link_.output =
        link_.network.type == CFG_UDP ? output_get(base, &link_.network, 0) : output_get_own(base, &link_.network);
    link_.event = event_new(base, link_.fds[1], EV_READ | EV_PERSIST, on_line, NULL);
    if (!link_.event || event_add(link_.event, NULL) < 0)
        log_warning("the log does not get to %s: it can't be watched", output_url(link_.output));
}

void log_link_end(unsigned ms)
{
    struct output_stats stats;
    uint64_t lost;

    if (!link_.output)
        return;
    take();
    output_wait(link_.output, ms);
    if (link_.event)
        event_free(link_.event);
    link_.event = NULL;
    output_stats(link_.output, &stats);
    lost = link_.dropped + stats.queued + stats.lost_queue + stats.lost_destination;
    close(link_.fds[0]);
    link_.fds[0] = -1;
    if (lost)
        log_warning("%llu lines of this log did not get to %s", (unsigned long long)lost, output_url(link_.output));
    output_abandon(link_.output);
    output_put(link_.output);
    link_.output = NULL;
    close(link_.fds[1]);
    link_.fds[1] = -1;
}

void log_link_describe(struct buf *b)
{
    if (link_.output)
        output_describe(link_.output, "log", b);
}
