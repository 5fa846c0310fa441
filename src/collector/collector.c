/* SPDX-License-Identifier: Apache-2.0 */
/* The event loop: socket, timers, deaths, the session's metadata. */
#include "collector/collector.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/closing.h"
#include "base/job.h"
#include "base/log.h"
#include "base/mem.h"
#include "model/ask.h"
#include "collector/control.h"
#include "collector/core.h"
#include "collector/admission.h"
#include "collector/crashes.h"
#include "collector/ends.h"
#include "collector/host.h"
#include "collector/left.h"
#include "collector/life.h"
#include "collector/segments.h"
#include "collector/sleepers.h"
#include "collector/work.h"
#include "report/report.h"
#include "collector/door.h"
#include "collector/doze.h"
#include "traffic/payloads.h"
#include "traffic/unread.h"
#include "collector/planner.h"
#include "model/procinfo.h"
#include "collector/tracer.h"
#include "output/log_link.h"
#include "wire/join.h"

#define MS UINT64_C(1000000)
#define NAP_AGAIN_NS (10 * MS)
#define TURN_MAX_NS (100 * MS)
#define TURN_DYING_NS (2 * MS)
#define TURN_MAIL_NS (MS / 2)
#define MAIL_BUSY_NS (100 * MS)
#define MAIL_SHARE 10           /* looking for senders takes one part in so many of the time */
#define CLIENTS_MAX 4096u
#define CLIENT_WAIT_MS 2000u    /* for the request of a connection */
#define SILENT_MAX 64u          /* connections of other users without a request: it usually comes with the connection */
#define SYNC_WAIT_NS (2000 * MS) /* less than who asks waits (SYNC_MS of the command line) */
#define FLUSH_WAIT_NS (2000 * MS)
#define ACCEPT_BATCH 64
#define FDS_MAX 253             /* that come with a message (the kernel's SCM_MAX_FD): what has no room here it closes itself */
#define POLL_BATCH 1024

struct client {
    struct client *next;
    struct loop *loop;
    int fd;
    struct peer peer;
    struct event *event;
    bool sync, reached;         /* wants to know; everything before it was processed */
    bool mail;                  /* didn't connect: we went for it */
    bool silent;                /* another user's that hasn't asked for anything yet: counted in loop.silent */
    uint64_t since;             /* CLOCK_MONOTONIC ns */
};

struct loop {
    struct collector c;         /* first: handed out as such */
    struct event *listen, *requests, *turn, *term, *intr, *child, *save, *resume;
    int listen_fd, request_fd;
    bool accepting_earlier;     /* accept_earlier() is under way */
    bool listen_woken;          /* nothing makes us look: the next process is waited for */
    struct doze *doze;          /* NULL: can't be done here */
    struct event *roused;
    bool dozing;                /* all rings are quiet, and whoever writes to one wakes us */
    bool napping;               /* whoever fills a ring before we come round to it wakes us */
    uint64_t nap_ns;            /* CLOCK_MONOTONIC: since when the same rings */
    struct client *clients;
    unsigned client_count, silent;
    struct door door;
    struct door_log refused;
    struct collector_options opt; /* session and configuration may be exchanged */
    struct host *host;          /* NULL: this is no host's collector */
    int starter_pidfd;          /* of opt->starter; -1: none */
    struct planner *planner;
    struct tracer *tracer;
    uint64_t mail_search;       /* CLOCK_MONOTONIC: not before is another one's sender looked for */
    uint64_t mail_ns;           /* CLOCK_MONOTONIC: when a connection was last fetched, or waited for; 0: never */
    int lock_fd;
    bool save_failed;
    struct job *saver;          /* NULL: none was needed yet, or no thread can be had */
    char *saving;               /* the session's metadata, that it writes; NULL: nothing */
    int saving_rc;
};

static struct loop *loop_of(struct collector *c)
{
    return (struct loop *)c;
}

static void turn_in(struct loop *l, uint64_t ns)
{
    struct timeval tv = {(time_t)(ns / 1000000000), (suseconds_t)(ns % 1000000000 / 1000)};

    evtimer_add(l->turn, &tv);
}

static void turn_now(void *l)
{
    turn_in(l, 0);
}

static void save_session(struct loop *l);

/* --- deaths --- */

static void on_death(evutil_socket_t fd, short what, void *arg)
{
    struct proc *p = arg;

    (void)fd;
    (void)what;
    event_del(p->death);
    proc_died(p);
    turn_in(loop_of(collector_of(p->m)), 0);
}

/* Nothing tells us when it ends: core_turn() looks, and tries again. */
static void leave_unwatched(struct proc *p, int err)
{
    static bool told;

    if (!told)
        log_warning("process %d, and perhaps others, can't be watched: %s: its end may be noticed late",
                    (int)p->host_pid, strerror(err));
    told = true;
    if (!p->unwatched)
        collector_of(p->m)->unwatched++;
    p->unwatched = true;
}

/* A pidfd of our own making may be that of a later process with its number. */
static bool is_another(const struct proc *p)
{
    struct pi_stat st;

    return !p->start_ticks || pi_stat(p->host_pid, &st) == -ESRCH || st.start_ticks != p->start_ticks;
}

static void watch_death(struct proc *p)
{
    bool given = p->pidfd >= 0; /* came with its connection */
    int fd = given ? p->pidfd : pi_pidfd(p->host_pid);

    p->pidfd = -1;
    /* There is no such process; the number may be a thread's by now (ENOENT since Linux 6.9, before it EINVAL). */
    if (fd == -ESRCH || fd == -EINVAL || fd == -ENOENT) {
        proc_died(p);
        return;
    }
    if (fd < 0 || fd_is_spare(fd)) {
        if (fd >= 0)
            close(fd);
        leave_unwatched(p, fd < 0 ? -fd : EMFILE);
        return;
    }
    if (!given && is_another(p)) {
        close(fd);
        proc_died(p);
        return;
    }
    p->pidfd = fd;
    if (p->unwatched)
        collector_of(p->m)->unwatched--;
    p->unwatched = false;
    if (poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0) > 0) { /* before it could be watched */
        proc_died(p);
        return;
    }
    p->death = event_new(collector_of(p->m)->base, fd, EV_READ | EV_PERSIST, on_death, p);
    if (p->death && !event_add(p->death, NULL))
        return;
    if (p->death)
        event_free(p->death);
    p->death = NULL;
    close(fd);
    p->pidfd = -1;
    leave_unwatched(p, ENOMEM);
}

/* Deaths that the loop hasn't seen yet. */
static void poll_deaths(struct collector *c)
{
    struct pollfd *fds = xcalloc(POLL_BATCH, sizeof(*fds));
    struct proc **who = xcalloc(POLL_BATCH, sizeof(*who)), *p = c->model.procs;

    while (p) {
        nfds_t n = 0;

        for (; p && n < POLL_BATCH; p = p->next) {
            if (p->dead || p->pidfd < 0)
                continue;
            fds[n] = (struct pollfd){.fd = p->pidfd, .events = POLLIN};
            who[n++] = p;
        }
        if (poll(fds, n, 0) <= 0)
            continue;
        for (nfds_t i = 0; i < n; i++)
            if (fds[i].revents & (POLLIN | POLLHUP)) {
                if (who[i]->death)
                    event_del(who[i]->death);
                proc_died(who[i]);
            }
    }
    free(fds);
    free(who);
}

/* --- clients --- */

/* A descriptor that came from a client, or leads to one, is done with. */
static void let_go(const struct client *cl, int fd)
{
    if (fd < 0)
        return;
    if (cl->peer.uid == 0 || cl->peer.uid == geteuid())
        close(fd);
    else
        close_later(fd);
}

static void client_free(struct client *cl, bool close_fd)
{
    struct client **at = &cl->loop->clients;

    while (*at != cl)
        at = &(*at)->next;
    *at = cl->next;
    cl->loop->client_count--;
    cl->loop->silent -= cl->silent;
    if (cl->event)
        event_free(cl->event);
    if (close_fd)
        let_go(cl, cl->fd);
    peer_clear(&cl->peer);
    free(cl);
}

static void sync_done(void *arg)
{
    ((struct client *)arg)->reached = true;
}

static bool root_gone(const struct collector *c);

/* Answers those who wait, when everything has gone to its destinations; to those that are there. */
static void answer_syncs(struct loop *l)
{
    uint64_t now = clock_now_mono();
    struct client *cl, *next;
    bool flushed = true, any = false, saved = false, over;

    for (cl = l->clients; cl; cl = cl->next)
        any |= cl->sync && cl->reached;
    if (!any)
        return;
    over = root_gone(&l->c) && !l->c.model.procs; /* what is lost will be known soon, at the end of this process */
    payloads_flush(&l->c.payloads); /* may have to tell a loss */
    for (struct pipeline *pl = l->c.pipelines.first; pl; pl = pl->next)
        flushed &= telemetry_flush(pl->tm) || telemetry_stuck(pl->tm);
    for (cl = l->clients; cl; cl = next) {
        next = cl->next;
        if (!cl->sync || !cl->reached)
            continue;
        if ((l->c.dying || !flushed) && (over || now - cl->since < SYNC_WAIT_NS))
            continue;
        if (!saved) /* who asks reads the session's metadata next */
            save_session(l);
        saved = true;
        planner_reply(cl->fd, 0, -1);
        client_free(cl, true);
    }
}

static void close_fds(const struct client *cl, const int fds[2])
{
    let_go(cl, fds[0]);
    let_go(cl, fds[1]);
}

/* Takes the descriptors of a message; the first two are returned (-1: none), others are closed. */
static void take_fds(const struct client *cl, struct msghdr *m, int fds[2])
{
    fds[0] = fds[1] = -1;

    for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h)) {
        size_t n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i < n; i++) {
            int got;

            memcpy(&got, CMSG_DATA(h) + i * sizeof(int), sizeof(got));
            if (fds[0] < 0)
                fds[0] = got;
            else if (fds[1] < 0)
                fds[1] = got;
            else
                let_go(cl, got);
        }
    }
}

static void serve_control(struct loop *l, const struct client *cl, const struct join_request *req, int fd)
{
    int ret, found = -1;

    if (req->type == JOIN_UPDATE)
        ret = fd < 0 ? -EBADF : control_update(&l->c, (pid_t)req->tid, fd, req->path);
    else
        ret = found = req->type == JOIN_CRASHES ? control_crashes(&l->c) : control_inspect(&l->c, (pid_t)req->tid);
    planner_reply(cl->fd, ret < 0 ? ret : 0, found);
    if (found >= 0)
        close(found);
}

/* What a running process was given by the tool, and the tool's pidfd of it. */
static int attach_for_tool(struct loop *l, const struct join_request *req, int fds[2])
{
    struct peer target = {.pid = (pid_t)req->tid, .uid = (uid_t)-1, .gid = (gid_t)-1, .pidfd = fds[1]};
    int ret;

    if (fds[0] < 0 || fds[1] < 0 || target.pid <= 0)
        return -EINVAL;
    ret = segment_attach(&l->c, fds[0], &target);
    fds[1] = target.pidfd;
    return ret;
}

static void take_joins(struct loop *l);

/* Takes those that have joined before a request came. One of them may ask the same: all before it are taken by then. */
static void accept_earlier(struct loop *l)
{
    if (l->accepting_earlier)
        return;
    l->accepting_earlier = true;
    take_joins(l);
    l->accepting_earlier = false;
}

/* Whether a process is observed already: what it forks is, too. */
static bool observed(void *ctx, pid_t pid)
{
    const struct proc *p = pid > 1 ? proc_by_host_pid(&((struct loop *)ctx)->c.model, pid) : NULL;

    return p && !p->dead && p->pl;
}

/* The rules that are in force, and the configuration that goes with them. */
static int reload(struct loop *l)
{
    int rc = l->door.rules ? admission_reload(l->door.rules) : 0, ret = host_reload(l->host);

    if (rc < 0 && rc != -ENOENT)
        log_warning("%s can't be used: %s; the rules stay as they were", l->opt.host->rules, strerror(-rc));
    return ret < 0 ? ret : rc < 0 && rc != -ENOENT ? -EINVAL : 0;
}

/* Reads a client's request. False: nothing there yet. */
static bool serve(struct client *cl)
{
    struct join_request req; /* not one for all: others are served before this one is done with */
    struct iovec iov = {&req, sizeof(req)};
    union {
        char bytes[CMSG_SPACE(FDS_MAX * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
        struct cmsghdr align;
    } control;
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes,
                       .msg_controllen = sizeof(control.bytes)};
    struct loop *l = cl->loop;
    int fds[2] = {-1, -1}, fd, rc;
    enum door_role role;
    ssize_t n;

    memset(&req, 0, sizeof(req));
    n = recvmsg(cl->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n > 0)
        take_fds(cl, &m, fds);
    fd = fds[0];
    if (n <= 0)
        goto drop;
    if ((size_t)n < offsetof(struct join_request, key) || req.magic != JOIN_MAGIC) {
        door_refused(&l->refused, &cl->peer, "has sent something that is no request");
        goto drop;
    }
    if (!peer_sent(&cl->peer, &m)) {
        door_refused(&l->refused, &cl->peer, "has a connection on which another process asks");
        goto drop;
    }
    role = req.type == JOIN_SEGMENT ? door_role_of_segment(&cl->peer, req.secret, &l->door, fd)
                                    : door_role(&cl->peer, req.secret, &l->door);
    rc = door_allows(&cl->peer, role, req.type, cl->mail);
    if (rc < 0) {
        if (rc == -EPERM)
            door_refused(&l->refused, &cl->peer,
                         role == DOOR_STRANGER && l->door.rules ? "asks for something, but no rule names its program"
                         : role == DOOR_STRANGER ? "asks for something, but no program of this session has started it"
                                               : "asks for what it may not");
        planner_reply(cl->fd, rc, -1);
        goto drop;
    }
    if ((req.type == JOIN_SEGMENT || req.type == JOIN_PLAN || req.type == JOIN_TRACE || req.type == JOIN_ATTACH) &&
        req.table_hash != segment_table_hash()) {
        door_refused(&l->refused, &cl->peer,
                     "uses a probe of another build, so it is not observed; start it with this build's tool");
        if (req.type != JOIN_SEGMENT)
            planner_reply(cl->fd, -EPROTO, -1);
        goto drop;
    }
    switch (req.type) {
    case JOIN_SEGMENT:
        if (fd < 0 || cl->peer.pid <= 0)
            door_refused(&l->refused, &cl->peer, "joins without a segment or from where it has no number here");
        else
            segment_attach(&l->c, fd, &cl->peer);
        turn_in(l, 0);
        break;
    case JOIN_ATTACH:
        planner_reply(cl->fd, attach_for_tool(l, &req, fds), -1);
        turn_in(l, 0);
        break;
    case JOIN_PLAN:
        let_go(cl, fds[1]);
        planner_request(l->planner, cl->fd, fd, &cl->peer, role == DOOR_OWNER, req.key);
        client_free(cl, false);
        return true;
    case JOIN_TRACE:
        close_fds(cl, fds);
        tracer_request(l->tracer, cl->fd, &cl->peer, role == DOOR_OWNER, l->c.opt->lib, &req);
        client_free(cl, false);
        return true;
    case JOIN_INSPECT:
    case JOIN_UPDATE:
    case JOIN_CRASHES:
        req.path[sizeof(req.path) - 1] = '\0';
        serve_control(l, cl, &req, fd);
        break;
    case JOIN_LAST:
        if (cl->peer.pid != 1) {
            planner_reply(cl->fd, -EPERM, -1);
            break;
        }
        close_fds(cl, fds);
        cl->sync = true; /* is answered at the end */
        if (cl->event)
            event_del(cl->event);
        accept_earlier(l);
        log_info("ends with process 1 of its pid namespace");
        l->c.stopping = true;
        event_base_loopbreak(l->c.base);
        return true;
    case JOIN_KNOWN:
        accept_earlier(l); /* one that is known a moment later would be attached to */
        planner_reply(cl->fd, host_known(&l->c, (pid_t)req.tid), -1);
        break;
    case JOIN_RELOAD:
        planner_reply(cl->fd, l->host ? reload(l) : -ENOTSUP, -1);
        break;
    case JOIN_LEAVE:
    case JOIN_SYNC:
        close_fds(cl, fds);
        accept_earlier(l);
        poll_deaths(&l->c);
        segments_drain(&l->c, true);
        if (req.type == JOIN_LEAVE)
            core_leave(&l->c, (pid_t)req.tid);
        if (req.type == JOIN_LEAVE && l->door.rules && admission_names(l->door.rules, (pid_t)req.tid))
            left_keep_away(&l->c, (pid_t)req.tid); /* not because of the rules */
        cl->sync = true;
        if (cl->event)
            event_del(cl->event);
        backlog_add(&l->c.backlog, BL_SYNC, cl, clock_now_real(), 0);
        turn_in(l, 0);
        return true;
    default:
        planner_reply(cl->fd, -EINVAL, -1);
        break;
    }
drop:
    close_fds(cl, fds);
    client_free(cl, true);
    return true;
}

static void on_client(evutil_socket_t fd, short what, void *arg)
{
    struct client *cl = arg;

    (void)fd;
    if (what & EV_TIMEOUT)
        client_free(cl, true);
    else
        serve(cl);
}

static void on_resume(evutil_socket_t fd, short what, void *arg)
{
    struct loop *l = arg;

    (void)fd;
    (void)what;
    l->listen_woken = false;
    event_add(l->requests, NULL);
    turn_in(l, 0);
}

static struct client *client_new(struct loop *l, int sock)
{
    struct client *cl = xcalloc(1, sizeof(*cl));

    *cl = (struct client){.next = l->clients, .loop = l, .fd = sock, .peer.pidfd = -1, .since = clock_now_mono()};
    l->clients = cl;
    l->client_count++;
    return cl;
}

/* A connection that says nothing costs a descriptor. Whoever opens many closes his own oldest ones. */
static void bound_silence(struct client *cl)
{
    struct loop *l = cl->loop;
    struct client *oldest = NULL;

    if (cl->peer.uid == 0 || cl->peer.uid == geteuid())
        return;
    cl->silent = true;
    if (++l->silent <= SILENT_MAX)
        return;
    for (struct client *at = l->clients; at; at = at->next) /* the newest first */
        if (at->silent)
            oldest = at;
    door_refused(&l->refused, &oldest->peer, "has connected and said nothing, as many others have");
    client_free(oldest, true);
}

/* Serves a client now, if its request is there, or when it comes. */
static void client_start(struct client *cl)
{
    struct timeval wait = {CLIENT_WAIT_MS / 1000, CLIENT_WAIT_MS % 1000 * 1000};

    if (serve(cl)) /* the request usually came with the connection */
        return;
    bound_silence(cl);
    cl->event = event_new(cl->loop->c.base, cl->fd, EV_READ | EV_PERSIST, on_client, cl);
    if (!cl->event || event_add(cl->event, &wait))
        client_free(cl, true);
}

/* Fetches a connection from a process that can't reach our name (wire/join.h). The process may have made the socket
 * when it was another user, or got it from one: only the process itself is believed, and what it is now. */
static void take_mail(void *ctx, pid_t pid, uint64_t mail)
{
    struct loop *l = ctx;
    struct client *cl;
    int sock = l->client_count < CLIENTS_MAX ? pi_get_socket(pid, (int)(uint32_t)mail, mail >> 32) : -EMFILE;

    l->mail_ns = clock_now_mono();
    if (sock < 0) {
        door_refused(&l->refused, &(struct peer){.pid = pid, .uid = pi_euid(pid), .pidfd = -1},
                     "has left word of a connection that can't be fetched");
        return;
    }
    fcntl(sock, F_SETFL, O_NONBLOCK);
    cl = client_new(l, sock);
    cl->mail = true;
    if (peer_get(sock, &cl->peer) || cl->peer.pid != pid || cl->peer.uid != pi_euid(pid) || peer_watch(sock)) {
        client_free(cl, true);
        return;
    }
    client_start(cl);
}

/* Looks where such processes leave word. */
static void take_mails(struct loop *l)
{
    for (struct segment *seg = l->c.segments; seg; seg = seg->next) {
        uint64_t *at, mail, now, took;
        pid_t pid;

        if (!seg->map.base) /* mapped as soon as there is word (ring_next()) */
            continue;
        at = &segment_hdr(&seg->map)->mail;
        mail = __atomic_load_n(at, ORDER_MAIL_TAKE);
        if (!mail || seg->broken || (now = clock_now_mono()) < l->mail_search)
            continue;
        pid = pi_find_socket(seg->host_pid, (int)(uint32_t)mail, mail >> 32, seg->map.ino);
        took = clock_now_mono() - now;
        if (took > MS) /* all of /proc was looked through, perhaps for nothing */
            l->mail_search = now + MAIL_SHARE * took;
        if (pid > 0)
            take_mail(l, pid, mail);
        __atomic_compare_exchange_n(at, &mail, 0, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
    }
    if (tracer_mail(l->tracer, take_mail, l))
        l->mail_ns = clock_now_mono();
}

/* Takes the connections that wait on a listening socket, at most ACCEPT_BATCH: how many. */
static int accept_all(struct loop *l, int fd)
{
    int i;

    for (i = 0; i < ACCEPT_BATCH; i++) {
        struct client *cl;
        int sock = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (sock < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
                struct timeval pause = {0, 50000};

                log_warning("can't accept a process: %s", strerror(errno));
                event_del(l->listen); /* or this comes up again at once */
                event_del(l->requests);
                evtimer_add(l->resume, &pause);
            }
            break;
        }
        if (l->client_count >= CLIENTS_MAX) {
            close_later(sock);
            continue;
        }
        cl = client_new(l, sock);
        if (peer_get(sock, &cl->peer)) {
            client_free(cl, true);
            continue;
        }
        client_start(cl);
    }
    return i;
}

static void on_listen(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    accept_all(arg, fd);
}

/* --- the session's metadata --- */

static bool gone(int pidfd)
{
    struct pollfd p = {.fd = pidfd, .events = POLLIN};

    return pidfd < 0 || poll(&p, 1, 0) != 0;
}

/* The session's program need not be observed itself: a static one may start others that are. */
static bool root_gone(const struct collector *c)
{
    return gone(c->root_pidfd);
}

/* What has become of it. */
static void update_session(struct loop *l)
{
    struct session *s = l->c.opt->session;
    struct tm_stats sum = {0};
    uint64_t processes = l->c.processes, lost[LK_MAX], unread[UNREAD_MAX];
    const char *url = NULL;

    for (const struct pipeline *pl = l->c.pipelines.first; pl; pl = pl->next) {
        struct tm_stats t;

        telemetry_stats(pl->tm, &t);
        url = telemetry_metric_url(pl->tm); /* at last that of the first program */
        sum.events += t.events;
        sum.metrics += t.metrics;
        sum.held_back += t.held_back;
        sum.lost_queue += t.lost_queue;
        sum.lost_destination += t.lost_destination;
    }
    if (url && s->metric_dest && strcmp(s->metric_dest, url) != 0) {
        free(s->metric_dest);
        s->metric_dest = xstrdup(url);
    }
    if (!l->c.root_ended && l->c.root_pidfd >= 0 && pi_exit_status(l->c.root_pidfd, 0, &l->c.root_status))
        l->c.root_ended = l->c.root_known = true; /* it wasn't observed, or not to its end */
    if (l->c.root_ended) {
        int st = l->c.root_status;

        s->exit_code = l->c.root_known && WIFEXITED(st) ? WEXITSTATUS(st) : -1;
        s->exit_signal = l->c.root_known && WIFSIGNALED(st) ? WTERMSIG(st) : 0;
    }
    s->end_ns = l->host || l->c.model.procs || !root_gone(&l->c) ? 0 : l->c.end_ns;
    memcpy(lost, l->c.model.lost, sizeof(lost));
    memcpy(unread, l->c.model.unread_count, sizeof(unread));
    if (l->host)
        host_numbers(l->host, &sum, &processes, lost, unread);
    s->events = sum.events;
    s->metrics = sum.metrics;
    s->held_back = sum.held_back;
    s->processes = processes;
    lost[LK_QUEUE] = sum.lost_queue;
    lost[LK_DESTINATION] = sum.lost_destination;
    for (int i = 0; i < LK_MAX; i++)
        session_set_lost(s, report_loss_name(i), lost[i]);
    for (int i = UNREAD_NONE + 1; i < UNREAD_MAX; i++)
        session_set_unread(s, unread_name(i), unread[i]);
}

static void saved(struct loop *l, int rc)
{
    if (rc && !l->save_failed)
        log_warning("%s/session.json can't be written: %s", l->c.opt->session->dir, strerror(-rc));
    l->save_failed = rc != 0;
}

/* In the thread of l->saver. */
static void write_session(void *arg)
{
    struct loop *l = arg;

    l->saving_rc = session_write(l->c.opt->session->dir, l->saving, l->lock_fd);
}

/* What the thread has written is told. */
static void end_saving(struct loop *l)
{
    if (!l->saving)
        return;
    job_wait(l->saver);
    free(l->saving);
    l->saving = NULL;
    saved(l, l->saving_rc);
}

static void save_session(struct loop *l)
{
    if (!l->c.opt->session)
        return;
    end_saving(l);
    update_session(l);
    saved(l, session_save(l->c.opt->session, l->lock_fd));
}

/* One session after the other. */
static void look_after_sessions(struct loop *l)
{
    if (host_session_over(l->host)) {
        end_saving(l);
        segments_drain(&l->c, true); /* what was done before belongs to the one that ends */
        core_process(&l->c, UINT64_MAX);
        update_session(l);
        if (host_next_session(l->host, &l->lock_fd) == 0)
            save_session(l);
        turn_in(l, 0);
    }
    host_look(l->host);
}

/* Now and then: a busy disk must not keep rings from being read. */
static void on_save(evutil_socket_t fd, short what, void *arg)
{
    struct loop *l = arg;

    (void)fd;
    (void)what;
    door_sum(&l->refused, false);
    door_sum(&l->c.guest_lines, false);
    planner_sweep(l->planner);
    tracer_sweep(l->tracer);
    if (l->host)
        look_after_sessions(l);
    if (!l->c.opt->session || (l->saving && job_busy(l->saver)))
        return;
    end_saving(l);
    if (!l->saver && !(l->saver = job_new())) {
        save_session(l);
        return;
    }
    update_session(l);
    l->saving = session_text(l->c.opt->session);
    if (l->saving)
        job_run(l->saver, write_session, l);
}

/* --- turns --- */

/* Somebody fetches metrics from time to time, and doesn't know the last ones yet. */
static bool awaited(const struct collector *c)
{
    for (const struct pipeline *pl = c->pipelines.first; pl; pl = pl->next)
        if (telemetry_awaited(pl->tm, c->alone_since / MS))
            return true;
    return false;
}

/* Those who read the session and wait for a destination that takes nothing get their answer at the end, too: however
 * many come one after the other, they don't put it off. */
static bool clients_can_wait(const struct loop *l)
{
    for (const struct client *cl = l->clients; cl; cl = cl->next)
        if (!cl->sync || !cl->reached)
            return false;
    return true;
}

static bool finished(const struct loop *l)
{
    const struct collector *c = &l->c;

    return !l->host && !c->model.procs && !c->segments && !c->backlog.bytes && root_gone(c) && clients_can_wait(l) &&
           !planner_busy(l->planner) && !tracer_busy(l->tracer) && !crashes_busy(c->crashes) && c->alone_since &&
           clock_now_mono() - c->alone_since >= (uint64_t)c->opt->linger_ms * MS && gone(l->starter_pidfd) &&
           !awaited(c);
}

/* Joining processes: looked for each turn, and waited for if the next one is far (wire/join.h). */
static void take_joins(struct loop *l)
{
    struct pollfd waiting = {.fd = l->listen_fd, .events = POLLIN}; /* accept(2) is dear even if nobody is there */

    /* all of them: the end of a process that has just exec'ed must not be told before its JOIN was seen */
    for (unsigned i = 0; poll(&waiting, 1, 0) > 0 && i < CLIENTS_MAX / ACCEPT_BATCH && accept_all(l, l->listen_fd) == ACCEPT_BATCH; i++)
        segments_drain(&l->c, false); /* however many knock, no ring fills meanwhile */
}

/* Behind take_joins(), and when it is known whether we look again soon. */
static void wait_for_joins(struct loop *l)
{
    bool wait = l->c.model.proc_count == 0 || l->dozing || (l->c.asleep && !l->c.segments);

    if (l->listen_woken == wait)
        return;
    l->listen_woken = wait;
    if (wait)
        event_add(l->listen, NULL);
    else
        event_del(l->listen);
}

/* --- sleep --- */

static void wake_up(struct loop *l)
{
    if (!l->dozing)
        return;
    l->dozing = false;
    segments_wake(&l->c);
    doze_wait(l->doze, SEG_AWAKE, NULL, 0);
}

static void fall_asleep(struct loop *l)
{
    uint32_t *words[DOZE_MAX];
    size_t count;

    if (!l->doze || l->dozing || l->clients || l->c.dying || l->c.attaching || !l->c.segments)
        return;
    count = segments_sleep(&l->c, words, DOZE_MAX);
    if (!count)
        return;
    doze_wait(l->doze, SEG_ASLEEP, words, count);
    l->dozing = true;
    l->napping = false;
}

/* Lasts until one of them has woken us, or there are others; where short programs come and go, not with each of them. */
static void take_a_nap(struct loop *l)
{
    uint64_t now = clock_now_mono();
    uint32_t *words[DOZE_MAX];
    size_t count;

    if (!l->doze || l->dozing ||
        (l->napping && (l->c.nap_count == l->c.segment_count || now - l->nap_ns < NAP_AGAIN_NS)))
        return;
    l->nap_ns = now;
    count = segments_nap(&l->c, words, DOZE_MAX);
    doze_wait(l->doze, SEG_NAPPING, words, count);
    l->napping = true;
}

static void on_roused(evutil_socket_t fd, short what, void *arg)
{
    uint64_t times;

    (void)what;
    if (read(fd, &times, sizeof(times)) > 0) {
        struct loop *l = arg;

        if (l->dozing)
            wake_up(l);
        else
            segments_hurry(&l->c);
        l->napping = false;
        turn_in(l, 0);
    }
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
    struct loop *l = arg;
    struct collector *c = &l->c;
    uint64_t next;
    bool empty;

    (void)fd;
    (void)what;
    if (c->stopping)
        return;
    take_joins(l);
    take_mails(l);
    if (segments_drain(c, false) || l->clients || c->dying || c->attaching)
        wake_up(l);
    core_turn(c);
    crashes_turn(c->crashes);
    empty = core_process(c, clock_now_mono() + SLICE_NS);
    answer_syncs(l);
    if (finished(l)) {
        event_base_loopbreak(c->base);
        return;
    }
    if (empty && c->sleepers && !c->dying)
        sleepers_look(c->sleepers);
    if (empty && !crashes_wait(c->crashes))
        fall_asleep(l);
    if (empty)
        take_a_nap(l);
    wait_for_joins(l);
    next = !empty ? 0 : l->dozing ? TURN_MAX_NS : segments_due(c);
    if (next > (l->listen_woken ? TURN_MAX_NS : JOIN_POLL_MS * MS))
        next = l->listen_woken ? TURN_MAX_NS : JOIN_POLL_MS * MS;
    if ((c->dying || l->clients || crashes_wait(c->crashes)) && next > TURN_DYING_NS)
        next = TURN_DYING_NS;
    if (l->mail_ns && clock_now_mono() - l->mail_ns < MAIL_BUSY_NS && next > TURN_MAIL_NS)
        next = TURN_MAIL_NS; /* who left word once has more to ask: it waits for us */
    turn_in(l, next);
}

static void on_stop(evutil_socket_t sig, short what, void *arg)
{
    struct loop *l = arg;

    (void)what;
    log_info("ended by signal %d", (int)sig);
    l->c.stopping = true;
    event_base_loopbreak(l->c.base);
}

static void unseen(void *arg, pid_t pid)
{
    life_unseen(&((struct loop *)arg)->c, pid);
}

static void on_child(evutil_socket_t sig, short what, void *arg)
{
    (void)sig;
    (void)what;
    planner_reap(((struct loop *)arg)->planner);
    tracer_reap(((struct loop *)arg)->tracer, unseen, arg);
    turn_in(arg, 0);
}

/* A pidfd for each process. */
static void raise_limits(void)
{
    struct rlimit r;

    if (!getrlimit(RLIMIT_NOFILE, &r) && r.rlim_cur < r.rlim_max) {
        r.rlim_cur = r.rlim_max;
        setrlimit(RLIMIT_NOFILE, &r);
    }
}

static struct event_base *make_base(void)
{
    struct event_config *cfg = event_config_new();
    struct event_base *base;

    event_config_set_flag(cfg, EVENT_BASE_FLAG_PRECISE_TIMER); /* turns are a millisecond apart */
    base = event_base_new_with_config(cfg);
    event_config_free(cfg);
    return base;
}

static void free_events(struct loop *l)
{
    struct event *all[] = {l->listen, l->requests, l->turn, l->term, l->intr, l->child, l->save, l->resume, l->roused};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        if (all[i])
            event_free(all[i]);
}

static bool start(struct loop *l, const struct collector_options *opt)
{
    struct timeval second = {1, 0};

    l->listen = event_new(l->c.base, opt->listen_fd, EV_READ | EV_PERSIST, on_listen, l);
    l->requests = event_new(l->c.base, l->request_fd, EV_READ | EV_PERSIST, on_listen, l);
    l->turn = evtimer_new(l->c.base, on_turn, l);
    l->term = evsignal_new(l->c.base, SIGTERM, on_stop, l);
    l->intr = evsignal_new(l->c.base, SIGINT, on_stop, l);
    l->child = evsignal_new(l->c.base, SIGCHLD, on_child, l);
    l->save = event_new(l->c.base, -1, EV_PERSIST, on_save, l);
    l->resume = evtimer_new(l->c.base, on_resume, l);
    if (!l->listen || !l->requests || !l->turn || !l->term || !l->intr || !l->child || !l->save || !l->resume)
        return false;
    if (event_add(l->requests, NULL) || event_add(l->term, NULL) || event_add(l->intr, NULL) ||
        event_add(l->child, NULL) || event_add(l->save, &second))
        return false;
    l->doze = doze_new();
    if (l->doze) {
        l->roused = event_new(l->c.base, doze_fd(l->doze), EV_READ | EV_PERSIST, on_roused, l);
        if (!l->roused || event_add(l->roused, NULL))
            return false;
    }
    turn_in(l, 0);
    return true;
}

/* Gives slow destinations a last chance. */
static void finish_telemetry(struct loop *l)
{
    uint64_t until;

    payloads_finish(&l->c.payloads, FLUSH_WAIT_NS / MS);
    until = clock_now_mono() + FLUSH_WAIT_NS;
    for (struct pipeline *pl = l->c.pipelines.first; pl; pl = pl->next) {
        uint64_t now = clock_now_mono();

        telemetry_finish(pl->tm, now < until ? (unsigned)((until - now) / MS) : 0);
    }
}

/* The socket for requests that want an answer, named after the one for joining: descriptor or -errno. */
static int listen_requests(int listen_fd)
{
    struct sockaddr_un at = {0};
    socklen_t len = sizeof(at);
    int fd;

    if (getsockname(listen_fd, (struct sockaddr *)&at, &len))
        return -errno;
    if (len <= offsetof(struct sockaddr_un, sun_path) || at.sun_path[0] ||
        len + sizeof(JOIN_REQUESTS) - 1 > sizeof(at))
        return -EINVAL; /* not an abstract name, or too long */
    memcpy((char *)&at + len, JOIN_REQUESTS, sizeof(JOIN_REQUESTS) - 1);
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && (bind(fd, (struct sockaddr *)&at, len + (socklen_t)sizeof(JOIN_REQUESTS) - 1) || listen(fd, SOMAXCONN) ||
                    peer_watch(fd))) {
        int err = errno;

        close(fd);
        return -err;
    }
    return fd < 0 ? -errno : fd;
}

int collector_run(const struct collector_options *options)
{
    struct loop l = {.lock_fd = -1, .opt = *options};
    const struct collector_options *opt = &l.opt;
    struct event_base *base = make_base();
    struct session *s = opt->session;
    int status = 0;

    if (!base) {
        log_error("no event loop: %s", strerror(errno));
        return 1;
    }
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    raise_limits();
    log_link_start(base);
    fcntl(opt->listen_fd, F_SETFL, fcntl(opt->listen_fd, F_GETFL) | O_NONBLOCK);
    peer_watch(opt->listen_fd); /* what it accepts inherits this */
    if (s) {
        l.lock_fd = session_lock(s->dir);
        if (l.lock_fd < 0)
            log_warning("%s/lock can't be taken: %s", s->dir, strerror(-l.lock_fd));
        s->exit_code = -1;
        s->collector = getpid();
    }
    l.listen_fd = opt->listen_fd;
    l.request_fd = opt->request_fd > 0 ? opt->request_fd : listen_requests(opt->listen_fd);
    if (l.request_fd < 0) {
        log_error("no socket for requests: %s", strerror(-l.request_fd));
        log_link_end(FLUSH_WAIT_NS / MS);
        event_base_free(base);
        return 1;
    }
    if (opt->request_fd > 0) {
        fcntl(l.request_fd, F_SETFL, fcntl(l.request_fd, F_GETFL) | O_NONBLOCK);
        peer_watch(l.request_fd);
    }
    l.door.secret = opt->secret;
    if (opt->host && opt->host->rules) {
        l.door.rules = admission_new(opt->host->rules);
        l.door.observed = observed;
        l.door.ctx = &l;
        admission_reload(l.door.rules); /* there may be none yet */
    }
    core_init(&l.c, opt, base);
    if (opt->host) {
        l.host = host_new(&l.c, &l.opt);
        l.c.sleepers = sleepers_new(&l.c, base, turn_now, &l);
    }
    l.c.sync_done = sync_done;
    l.c.watch_death = watch_death;
    l.c.crashes = crashes_new(&l.c, turn_now, &l);
    if (s && s->pid > 0 && (!s->kind || strcmp(s->kind, "attach") != 0)) /* that one may be detached from */
        l.c.root_pidfd = pi_pidfd(s->pid);
    l.starter_pidfd = opt->starter > 0 ? pi_pidfd(opt->starter) : -1;
    l.planner = planner_new(opt->plan_dir);
    l.tracer = tracer_new();
    if (start(&l, opt)) {
        save_session(&l);
        if (opt->ready_fd >= 0) {
            if (write(opt->ready_fd, "", 1) != 1)
                log_warning("whoever started this collector has gone");
            close(opt->ready_fd);
        }
        event_base_dispatch(base);
    } else {
        log_error("the event loop can't be set up");
        status = 1;
    }
    take_joins(&l);              /* what waits has most probably ended by now */
    close_later(opt->listen_fd); /* late ones turn themselves off */
    close_later(l.request_fd);
    door_sum(&l.refused, true);
    door_sum(&l.c.guest_lines, true);
    poll_deaths(&l.c);
    crashes_finish(l.c.crashes);
    sleepers_free(l.c.sleepers);
    l.c.sleepers = NULL;
    core_end(&l.c);
    finish_telemetry(&l);
    crashes_last(l.c.crashes);
    if (!l.c.end_ns)
        l.c.end_ns = clock_now_real();
    save_session(&l);
    s = l.opt.session;
    if (s && !s->end_ns) { /* told to end before the program */
        s->end_ns = clock_now_real();
        s->telemetry_stopped = !l.host;
        session_save(s, l.lock_fd);
    }
    for (struct client *cl = l.clients, *next; cl; cl = next) {
        next = cl->next;
        if (cl->sync)
            planner_reply(cl->fd, 0, -1);
        client_free(cl, true);
    }
    host_free(l.host);
    admission_free(l.door.rules);
    ask_end();
    planner_free(l.planner);
    tracer_free(l.tracer);
    crashes_free(l.c.crashes);
    core_free(&l.c);
    if (opt->host)
        config_sources_free(l.opt.config);
    free_events(&l);
    doze_free(l.doze);
    job_free(l.saver);
    log_link_end(FLUSH_WAIT_NS / MS);
    event_base_free(base);
    if (l.c.root_pidfd >= 0)
        close(l.c.root_pidfd);
    if (l.starter_pidfd >= 0)
        close(l.starter_pidfd);
    if (l.lock_fd >= 0)
        session_unlock(l.lock_fd);
    return status;
}
