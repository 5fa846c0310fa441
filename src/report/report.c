/* SPDX-License-Identifier: Apache-2.0 */
#include "report/report.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/log.h"
#include "base/progname.h"
#include "model/account.h"
#include "model/diag.h"
#include "model/fds.h"
#include "model/model.h"
#include "model/procinfo.h"
#include "report/fields.h"
#include "report/pipeline.h"
#include "report/spans.h"

const char *err_name(int err)
{
    static char other[16];
    const char *name = strerrorname_np(err);

    if (name)
        return name;
    snprintf(other, sizeof(other), "E%d", err);
    return other;
}

void report_event(struct proc *p, enum cfg_event_watch watch, const char *source, uint64_t channel, uint64_t time_ns,
                  const struct fields *f)
{
    struct tm_event e = {.watch = watch, .source = source, .time_ns = time_ns, .channel = channel, .fields = f->f,
                         .field_count = f->n};

    telemetry_event(p->pl->tm, &p->tm, &e);
}

void report_sample(struct proc *p, enum tm_metric m, int64_t value, uint64_t numops, const char *class_,
                   const struct fields *f, bool summary_only, uint64_t time_ns)
{
    struct tm_sample s = {.metric = m, .value = value, .numops = numops, .time_ns = time_ns, .class_ = class_,
                          .summary_only = summary_only};

    if (f) {
        s.fields = f->f;
        s.field_count = f->n;
    }
    telemetry_sample(p->pl->tm, &p->tm, &s);
}

void report_exchange(struct proc *p, enum tm_metric m, int64_t value, const struct tm_exchange *x, const struct fields *f,
                     uint64_t time_ns)
{
    struct tm_sample s = {.metric = m, .value = value, .numops = 1, .time_ns = time_ns, .fields = f->f, .field_count = f->n,
                          .exchange = x};

    telemetry_sample(p->pl->tm, &p->tm, &s);
}

/* --- processes --- */

static size_t arg_list(const struct report_args *args, const char **list, size_t max)
{
    size_t n = 0;

    for (size_t at = 0; at < args->len && n < max; at += strlen(args->argv + at) + 1)
        list[n++] = args->argv + at;
    return n;
}

void report_start(struct proc *p, const struct report_args *args, const char *start, uint64_t time_ns)
{
    FIELDS(f, TM_MAX_FIELDS);

    span_process_begin(p, start, time_ns);
    if (p->pl->ev_proc_start) {
        const char *list[512];
        size_t n = arg_list(args, list, 512);

        add_list(&f, "args", list, n);
        if (args->cut || n == 512)
            add(&f, "args_cut", TM_BOOL, 0)->v.b = true;
        if (program_has_title(p->tm.proc, p->tm.exe, args->argv, args->len))
            add_str(&f, "title", 0, p->tm.cmd);
        add_str(&f, "exe", 0, p->tm.exe);
        add_str(&f, "cwd", 0, p->cwd);
        add_uint(&f, "ppid", 0, p->tm.ppid);
        add_uint(&f, "uid", 0, p->tm.uid);
        add_uint(&f, "gid", 0, p->tm.gid);
        if (p->tm.username)
            add_str(&f, "username", 0, p->tm.username);
        if (p->tm.groupname)
            add_str(&f, "groupname", 0, p->tm.groupname);
        if (tm_two_pids(&p->tm))
            add_uint(&f, "hostPid", 0, p->tm.host_pid);
        if (p->tm.container[0])
            add_str(&f, "containerId", 0, p->tm.container);
        add_str(&f, "uuid", 0, p->tm.uuid);
        add_str(&f, "start", 0, start);
        report_event(p, CFG_EW_PROCESS, "proc.start", 0, time_ns, &f);
    }
    if (p->pl->metric[TM_PROC_START] || p->pl->per_op[TM_PROC_START]) {
        f.n = 0;
        add_uint(&f, "gid", 4, p->tm.gid);
        if (p->tm.groupname)
            add_str(&f, "groupname", 4, p->tm.groupname);
        add_uint(&f, "uid", 4, p->tm.uid);
        if (p->tm.username)
            add_str(&f, "username", 4, p->tm.username);
        add_str(&f, "args", 7, p->tm.cmd);
        report_sample(p, TM_PROC_START, 1, 0, NULL, &f, false, time_ns);
    }
}

void report_exit(struct proc *p, bool known, int status, uint64_t time_ns)
{
    FIELDS(f, TM_MAX_FIELDS);
    char text[24];

    span_process_end(p, known, status, time_ns);
    if (!p->pl->ev_proc_exit)
        return;
    if (known && WIFEXITED(status)) {
        add_int(&f, "exit_code", 0, WEXITSTATUS(status));
    } else if (known && WIFSIGNALED(status)) {
        add_str(&f, "signal", 0, signal_text(WTERMSIG(status), text));
    }
    add_uint(&f, "duration", 0, time_ns > p->birth_ns ? (time_ns - p->birth_ns) / 1000000 : 0);
    if (p->cpu_ns > p->cpu_base_ns)
        add_uint(&f, "cpu", 0, (p->cpu_ns - p->cpu_base_ns) / 1000);
    if (p->peak_rss_kib)
        add_uint(&f, "mem_peak", 0, p->peak_rss_kib);
    report_event(p, CFG_EW_PROCESS, "proc.exit", 0, time_ns, &f);
}

void report_note(struct proc *p, const char *text, const char *file, size_t file_len, uint64_t time_ns)
{
    FIELDS(f, TM_MAX_FIELDS);

    log_warning("%s[%u]: %s%s%.*s", p->tm.proc ? p->tm.proc : "?", p->pid, text, file_len ? ": " : "", (int)file_len,
                file_len ? file : "");
    if (!p->pl || !p->pl->ev_proc_note)
        return;
    add_str(&f, "text", 0, text);
    if (file_len)
        add_mem(&f, "file", 0, file, file_len);
    report_event(p, CFG_EW_PROCESS, "proc.note", 0, time_ns, &f);
}

/* --- files --- */

static void add_file(struct fields *f, const struct desc *d)
{
    size_t len;
    const char *name = fds_name(d, &len);
    const struct file *file = d->file;

    add(f, "who", TM_WHO, 0);
    add_mem(f, "file", 5, name, len);
    if (fds_unresolved(d))
        add(f, "file_unresolved", TM_BOOL, 0)->v.b = true;
    add(f, "owner", TM_OWNER, 0);
    /* octal digits read as a decimal number: 644 */
    add_uint(f, "file_perms", 9,
             file->has_stat ? (file->perms >> 6 & 7) * 100 + (file->perms >> 3 & 7) * 10 + (file->perms & 7) : 0);
    add_uint(f, "file_owner", 9, file->has_stat ? file->uid : 0);
    add_uint(f, "file_group", 9, file->has_stat ? file->gid : 0);
}

/* Tags of one operation on a file, in the order of docs/data-model.md. */
static void op_tags(struct fields *f, int64_t fd, const char *op, const char *file, size_t len, uint64_t numops)
{
    if (fd >= 0)
        add_int(f, "fd", 7, fd);
    add_str(f, "op", 3, op);
    add_mem(f, "file", 5, file, len);
    if (numops)
        add_uint(f, "numops", 8, numops);
}

static void count_or_sample(struct proc *p, enum tm_metric m, int64_t fd, const char *op, const char *file, size_t len,
                            uint64_t time_ns)
{
    FIELDS(f, TM_MAX_FIELDS);

    if (!p->pl->per_op[m]) {
        p->sums.value[m]++;
        return;
    }
    op_tags(&f, fd, op, file, len, 0);
    report_sample(p, m, 1, 1, NULL, &f, false, time_ns);
}

void report_open(struct proc *p, int64_t fd, const struct desc *d, const char *op, const char *const *flags,
                 size_t flag_count, uint64_t time_ns)
{
    FIELDS(f, TM_MAX_FIELDS);
    size_t len;
    const char *name = fds_name(d, &len);

    count_or_sample(p, TM_FS_OPEN, fd, op, name, len, time_ns);
    if (!p->pl->ev_fs_open)
        return;
    add_file(&f, d);
    add_str(&f, "op", 3, op);
    if (flag_count)
        add_list(&f, "flags", flags, flag_count);
    report_event(p, CFG_EW_FS, "fs.open", d->channel, time_ns, &f);
}

void report_close(struct proc *p, int64_t fd, const struct desc *d, const char *op, uint64_t time_ns)
{
    FIELDS(f, TM_MAX_FIELDS);
    uint64_t ops = d->n.ro + d->n.wo;
    size_t len;
    const char *name = fds_name(d, &len);

    count_or_sample(p, TM_FS_CLOSE, fd, op, name, len, time_ns);
    if (!p->pl->ev_fs_close)
        return;
    add_file(&f, d);
    add_uint(&f, "file_read_bytes", 9, d->n.rb);
    add_uint(&f, "file_read_ops", 9, d->n.ro);
    add_uint(&f, "file_write_bytes", 9, d->n.wb);
    add_uint(&f, "file_write_ops", 9, d->n.wo);
    add_uint(&f, "duration", 8, ops ? (d->n.rt + d->n.wt) / 1000 / ops : 0);
    add_str(&f, "op", 3, op);
    report_event(p, CFG_EW_FS, "fs.close", d->channel, time_ns, &f);
}

void report_names(struct proc *p, enum tm_metric metric, const char *source, const char *op, const char *file, size_t len,
                  const char *file_to, size_t to_len, unsigned unresolved, const char *const *flags, size_t flag_count,
                  uint64_t time_ns)
{
    const struct pipeline *pl = p->pl;
    FIELDS(f, TM_MAX_FIELDS);

    count_or_sample(p, metric, -1, op, file, len, time_ns);
    if (!(metric == TM_FS_DELETE ? pl->ev_fs_delete : metric == TM_FS_RENAME ? pl->ev_fs_rename :
          metric == TM_FS_CREATE ? pl->ev_fs_create : pl->ev_fs_change))
        return;
    add(&f, "who", TM_WHO, 0);
    add_str(&f, "op", 3, op);
    add_mem(&f, "file", 5, file, len);
    if (unresolved & NAME_FIRST)
        add(&f, "file_unresolved", TM_BOOL, 0)->v.b = true;
    if (file_to)
        add_mem(&f, "file_to", 5, file_to, to_len);
    if (unresolved & NAME_SECOND)
        add(&f, "file_to_unresolved", TM_BOOL, 0)->v.b = true;
    if (flag_count)
        add_list(&f, "flags", flags, flag_count);
    add_str(&f, "unit", 1, "operation");
    report_event(p, CFG_EW_FS, source, 0, time_ns, &f);
}

/* --- network --- */

static const char *proto_name(const struct sock *s)
{
    if (!s)
        return "OTHER";
    if (s->domain == AF_NETLINK)
        return "NETLINK";
    switch (s->type) {
    case SOCK_STREAM: return "TCP";
    case SOCK_DGRAM: return "UDP";
    case SOCK_RAW: return "RAW";
    case SOCK_RDM: return "RDM";
    case SOCK_SEQPACKET: return "SEQPACKET";
    default: return "OTHER";
    }
}

/* Texts of addresses that were told lately: of a connection's two each event has both, and making them is dearer than
 * all that is found out about it. */
static struct {
    in_addr_t address;
    uint32_t len; /* 0: none */
    char text[INET_ADDRSTRLEN];
} ipv4_texts[256];

/* inet_ntop(3) goes through printf. */
static uint32_t make_ipv4_text(const uint8_t *b, char *to)
{
    const char *start = to;

    for (int i = 0; i < 4; i++) {
        if (b[i] >= 100)
            *to++ = (char)('0' + b[i] / 100);
        if (b[i] >= 10)
            *to++ = (char)('0' + b[i] / 10 % 10);
        *to++ = (char)('0' + b[i] % 10);
        *to++ = '.';
    }
    to[-1] = 0;
    return (uint32_t)(to - 1 - start);
}

static size_t ipv4_text(const void *address, char to[INET_ADDRSTRLEN])
{
    uint32_t a;
    size_t at;

    memcpy(&a, address, sizeof(a));
    at = (a * UINT32_C(0x9e3779b1)) >> 24;
    if (ipv4_texts[at].address != a || !ipv4_texts[at].len) {
        ipv4_texts[at].address = a;
        ipv4_texts[at].len = make_ipv4_text(address, ipv4_texts[at].text);
    }
    memcpy(to, ipv4_texts[at].text, INET_ADDRSTRLEN);
    return ipv4_texts[at].len;
}

size_t report_address(const union address *a, char text[INET6_ADDRSTRLEN], unsigned *ret_port)
{
    if (a->family == AF_INET) {
        *ret_port = ntohs(a->in.sin_port);
        return ipv4_text(&a->in.sin_addr, text);
    }
    if (a->family != AF_INET6)
        return 0;
    *ret_port = ntohs(a->in6.sin6_port);
    if (IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr))
        return ipv4_text(&a->in6.sin6_addr.s6_addr[12], text);
    return inet_ntop(AF_INET6, &a->in6.sin6_addr, text, INET6_ADDRSTRLEN) ? strlen(text) : 0;
}

static unsigned address_port(const union address *a)
{
    return a->family == AF_INET ? ntohs(a->in.sin_port) : a->family == AF_INET6 ? ntohs(a->in6.sin6_port) : 0;
}

const char *report_transport(const struct sock *s)
{
    static const char *const names[2][6] = {
        {"IP.OTHER", "IP.TCP", "IP.UDP", "IP.RAW", "IP.RDM", "IP.SEQPACKET"},
        {"Unix.OTHER", "Unix.TCP", "Unix.UDP", "Unix.RAW", "Unix.RDM", "Unix.SEQPACKET"},
    };
    int type = s->type >= 1 && s->type <= 5 ? s->type : 0; /* SOCK_STREAM ... SOCK_SEQPACKET on Linux */

    return names[s->domain == AF_UNIX][type];
}

void report_net_fields(struct fields *f, const struct sock *s, const union address *peer, struct address_texts *t)
{
    size_t len;

    if (s->domain != AF_INET && s->domain != AF_INET6 && s->domain != AF_UNIX)
        return;
    add_str(f, "net_transport", 2, report_transport(s));
    if (s->domain == AF_UNIX) {
        add_uint(f, "unix_peer_inode", 6, s->peer_ino);
        add_uint(f, "unix_local_inode", 6, s->ino);
        return;
    }
    if ((len = report_address(peer, t->peer, &t->peer_port))) {
        add_mem(f, "net_peer_ip", 6, t->peer, len);
        add_uint(f, "net_peer_port", 6, t->peer_port);
    }
    if ((len = report_address(&s->local, t->local, &t->local_port))) {
        add_mem(f, "net_host_ip", 6, t->local, len);
        add_uint(f, "net_host_port", 6, t->local_port);
    }
    if (s->client && (len = report_address(s->client, t->client, &t->client_port))) {
        add_mem(f, "net_client_ip", 6, t->client, len);
        add_uint(f, "net_client_port", 6, t->client_port);
    }
}

/* What is spoken on a connection, as far as it was recognised; else what its ports suggest. */
static void add_protocol(struct fields *f, const struct sock *s)
{
    unsigned local = address_port(&s->local), peer = address_port(&s->peer);

    if (s->flags & SOCKF_HTTP || local == 80 || local == 443 || peer == 80 || peer == 443)
        add_str(f, "net_protocol", 5, "http");
}

static void net_tags(struct fields *f, int64_t fd, const struct sock *s)
{
    if (fd >= 0)
        add_int(f, "fd", 7, fd);
    add_str(f, "proto", 2, proto_name(s));
    if (s && address_port(&s->local))
        add_uint(f, "port", 6, address_port(&s->local));
}

static void net_count(struct proc *p, enum tm_metric m, int64_t value, int64_t fd, const struct sock *s,
                      uint64_t time_ns)
{
    FIELDS(f, TM_MAX_FIELDS);

    net_tags(&f, fd, s);
    if (m == TM_NET_DURATION)
        add_uint(&f, "numops", 8, 1);
    report_sample(p, m, value, 1, NULL, &f, false, time_ns);
}

void report_net_open(struct proc *p, int64_t fd, struct desc *d, uint64_t time_ns)
{
    struct sock *s = d->file->sock;
    FIELDS(f, TM_MAX_FIELDS);
    struct address_texts t;

    if (s->flags & SOCKF_OPEN)
        return;
    s->flags = (uint16_t)((s->flags | SOCKF_OPEN) & ~SOCKF_PENDING);
    if (!s->open_ns)
        s->open_ns = time_ns;
    fds_gauge(p, d, DF_CONN, fd, time_ns);
    if (p->pl->per_op[TM_NET_OPEN])
        net_count(p, TM_NET_OPEN, 1, fd, s, time_ns);
    else
        p->sums.value[TM_NET_OPEN]++;
    if (!p->pl->ev_net_open && !p->pl->ev_net_close)
        return;
    if (s->domain == AF_UNIX && !s->ino && p->host_pid > 0 && !p->dead) {
        char text[64];
        struct stat st;

        if (pi_fd_link(p->host_pid, (int)fd, text, sizeof(text), &st) > 0 && S_ISSOCK(st.st_mode))
            s->ino = st.st_ino;
    }
    if (s->domain == AF_UNIX && s->ino && !s->peer_ino)
        s->peer_ino = diag_unix_peer(p->m, s->ino);
    if (!p->pl->ev_net_open)
        return;
    report_net_fields(&f, s, &s->peer, &t);
    add_protocol(&f, s);
    report_event(p, CFG_EW_NET, "net.open", sock_channel(d->file), time_ns, &f);
}

void report_net_listen(struct proc *p, const struct desc *d, uint64_t time_ns)
{
    FIELDS(f, TM_MAX_FIELDS);
    struct address_texts t;

    if (!p->pl->ev_net_listen)
        return;
    report_net_fields(&f, d->file->sock, &d->file->sock->peer, &t);
    report_event(p, CFG_EW_NET, "net.listen", 0, time_ns, &f);
}

void report_net_close(struct proc *p, int64_t fd, const struct desc *d, uint64_t time_ns)
{
    struct sock *s = d->file->sock;
    FIELDS(f, TM_MAX_FIELDS);
    struct address_texts t;
    uint64_t ms;

    if (!(s->flags & SOCKF_OPEN))
        return;
    s->flags &= (uint16_t)~SOCKF_OPEN;
    ms = time_ns > s->open_ns ? (time_ns - s->open_ns) / 1000000 : 0;
    if (p->pl->per_op[TM_NET_CLOSE])
        net_count(p, TM_NET_CLOSE, 1, fd, s, time_ns);
    else
        p->sums.value[TM_NET_CLOSE]++;
    if (p->pl->per_op[TM_NET_DURATION]) {
        net_count(p, TM_NET_DURATION, (int64_t)ms, fd, s, time_ns);
    } else {
        p->sums.value[TM_NET_DURATION] += ms;
        p->sums.ops[TM_NET_DURATION]++;
    }
    if (!p->pl->ev_net_close)
        return;
    report_net_fields(&f, s, &s->peer, &t);
    add_protocol(&f, s);
    add_uint(&f, "duration", 8, ms);
    add_uint(&f, "net_bytes_sent", 8, s->tx_bytes);
    add_uint(&f, "net_bytes_recv", 8, s->rx_bytes);
    add_str(&f, "net_close_reason", 8, s->flags & SOCKF_REMOTE ? "remote" : "local");
    report_event(p, CFG_EW_NET, "net.close", sock_channel(d->file), time_ns, &f);
}

void report_net_app(struct proc *p, int64_t fd, uint64_t channel, const char *protocol, const struct fields *more,
                    uint64_t time_ns)
{
    FIELDS(f, TM_MAX_FIELDS);

    if (!p->pl->ev_net_app)
        return;
    add_str(&f, "proc", 4, p->tm.proc);
    add_uint(&f, "pid", 4, p->pid);
    if (fd >= 0)
        add_int(&f, "fd", 7, fd);
    add_str(&f, "host", 4, p->tm.host);
    add_str(&f, "protocol", 0, protocol);
    for (size_t i = 0; more && i < more->n; i++)
        add_field(&f, &more->f[i]);
    report_event(p, CFG_EW_NET, "net.app", channel, time_ns, &f);
}

void report_gauge(struct proc *p, enum tm_metric metric, uint64_t value, int64_t fd, const struct desc *d,
                  uint64_t time_ns)
{
    p->gauge_said[metric == TM_NET_PORT ? 0 : 1 + (metric - TM_NET_TCP)] = true;
    if (p->pl->per_op[metric])
        net_count(p, metric, (int64_t)value, fd, d->file->sock, time_ns);
}

/* --- errors and single operations --- */

static const char *const class_name[ERR_MAX] = {
    [ERR_OPEN_CLOSE] = "open_close", [ERR_READ_WRITE] = "read_write", [ERR_SYNC] = "sync", [ERR_SEEK] = "seek",
    [ERR_STAT] = "stat", [ERR_DELETE] = "delete", [ERR_CREATE] = "create", [ERR_RENAME] = "rename",
    [ERR_CHANGE] = "change", [ERR_DESC] = "descriptor", [ERR_MAP] = "map", [ERR_CONNECTION] = "connection",
    [ERR_RX_TX] = "rx_tx", [ERR_DNS] = "dns",
};

enum err_class err_class_of(enum op_group group)
{
    switch (group) {
    case OPG_OPEN_CLOSE: return ERR_OPEN_CLOSE;
    case OPG_READ_WRITE: return ERR_READ_WRITE;
    case OPG_SYNC: return ERR_SYNC;
    case OPG_SEEK: return ERR_SEEK;
    case OPG_STAT: return ERR_STAT;
    case OPG_DELETE: return ERR_DELETE;
    case OPG_CREATE: return ERR_CREATE;
    case OPG_RENAME: return ERR_RENAME;
    case OPG_CHANGE: return ERR_CHANGE;
    case OPG_DESC: return ERR_DESC;
    case OPG_MAP: return ERR_MAP;
    case OPG_CONNECTION: return ERR_CONNECTION;
    case OPG_RX_TX: return ERR_RX_TX;
    default: return ERR_MAX;
    }
}

static enum tm_metric error_metric(enum err_class class_)
{
    return class_ == ERR_CONNECTION || class_ == ERR_RX_TX || class_ == ERR_DNS ? TM_NET_ERROR : TM_FS_ERROR;
}

void report_error(struct proc *p, enum err_class class_, const char *op, int err, const char *file, size_t len,
                  const struct sock *s, uint64_t time_ns)
{
    enum tm_metric m = error_metric(class_);
    FIELDS(f, TM_MAX_FIELDS);

    if (!p->pl->per_op[m]) {
        p->sums.error[class_]++;
        return;
    }
    add_str(&f, "op", 3, op);
    if (m == TM_FS_ERROR)
        add_mem(&f, "file", 5, file, len);
    else
        add_str(&f, "proto", 2, proto_name(s));
    if (err) /* else it isn't known */
        add_str(&f, "errno", 3, err_name(err));
    report_sample(p, m, 1, 1, class_name[class_], &f, false, time_ns);
}

void report_dns_error(struct proc *p, const char *domain, size_t len, uint64_t time_ns)
{
    FIELDS(f, 1);

    if (!p->pl->per_op[TM_NET_ERROR]) {
        p->sums.error[ERR_DNS]++;
        return;
    }
    add_mem(&f, "domain", 5, domain, len);
    report_sample(p, TM_NET_ERROR, 1, 1, class_name[ERR_DNS], &f, false, time_ns);
}

static const char *const net_class_name[NETC_MAX] = {"inet_tcp", "inet_udp", "unix_tcp", "unix_udp", "other"};

static void rx_tx_tags(struct fields *f, int64_t fd, const struct sock *s, struct address_texts *t)
{
    bool inet = s && (s->domain == AF_INET || s->domain == AF_INET6), ssl = false;

    if (fd >= 0)
        add_int(f, "fd", 7, fd);
    if (inet) {
        add_str(f, "domain", 5, s->domain == AF_INET ? "AF_INET" : "AF_INET6");
        add_str(f, "proto", 2, proto_name(s));
        if (report_address(&s->local, t->local, &t->local_port)) {
            add_str(f, "localip", 6, t->local);
            add_uint(f, "localp", 6, t->local_port);
            ssl = t->local_port == 443;
        }
        if (report_address(&s->peer, t->peer, &t->peer_port)) {
            add_str(f, "remoteip", 6, t->peer);
            add_uint(f, "remotep", 6, t->peer_port);
            ssl = ssl || t->peer_port == 443;
        }
    } else if (s && s->domain == AF_UNIX) {
        add_str(f, "domain", 5, "UNIX");
        add_str(f, "proto", 2, proto_name(s));
        add_uint(f, "localn", 6, s->ino);
        add_uint(f, "remoten", 6, s->peer_ino);
    } else {
        add_str(f, "proto", 2, proto_name(s));
    }
    add_str(f, "data", 1, ssl ? "ssl" : "clear");
    add_uint(f, "numops", 8, 1);
}

void report_op(struct proc *p, enum tm_metric m, uint64_t value, int64_t fd, const struct desc *d, const char *op,
               const char *file, size_t len, uint64_t time_ns)
{
    const struct sock *s = d && d->file ? d->file->sock : NULL;
    struct address_texts t;
    FIELDS(f, TM_MAX_FIELDS);

    if (m == TM_NET_RX || m == TM_NET_TX) {
        rx_tx_tags(&f, fd, s, &t);
        report_sample(p, m, (int64_t)value, 1, net_class_name[net_class_of(s)], &f, false, time_ns);
        return;
    }
    op_tags(&f, fd, op, file, len, m == TM_FS_READ || m == TM_FS_WRITE || m == TM_FS_DURATION);
    report_sample(p, m, (int64_t)value, 1, NULL, &f, false, time_ns);
}

/* IP:PORT, the path of a unix socket, @NAME of an abstract one. */
static bool address_name(const void *p, size_t len, char *to, size_t size)
{
    union address a;
    char text[INET6_ADDRSTRLEN];
    const char *path = (const char *)p + offsetof(struct sockaddr_un, sun_path);
    unsigned port;

    address_set(&a, p, len);
    if (report_address(&a, text, &port)) {
        snprintf(to, size, "%s:%u", text, port);
        return true;
    }
    if (a.family != AF_UNIX || len <= offsetof(struct sockaddr_un, sun_path))
        return false;
    len = (len < sizeof(struct sockaddr_un) ? len : sizeof(struct sockaddr_un)) - offsetof(struct sockaddr_un, sun_path);
    if (!*path) /* the name is all of the rest, whatever its bytes */
        snprintf(to, size, "@%.*s", (int)len - 1, path + 1);
    else
        snprintf(to, size, "%.*s", (int)len, path);
    return true;
}

static unsigned arg_count(enum op_id op)
{
    switch (op_table[op].shape) {
    case SHP_CLOSE: case SHP_DUP: case SHP_EXIT: return 1;
    case SHP_PIPE: return op == OP_pipe ? 1 : 2;
    case SHP_DUP2: return op == OP_dup2 ? 2 : 3;
    case SHP_READ: case SHP_WRITE: return op == OP_pread64 || op == OP_pwrite64 ? 4 : 3;
    case SHP_FCNTL: case SHP_IOCTL: case SHP_SOCKET: case SHP_ADDRESS: case SHP_CONNECT: case SHP_SENDMSG:
    case SHP_RECVMSG: case SHP_CLOSE_RANGE: return 3;
    case SHP_SENDFILE: case SHP_TEE: case SHP_VMSPLICE: case SHP_SENDMMSG: case SHP_SOCKETPAIR: return 4;
    case SHP_RECVMMSG: return 5;
    case SHP_MMAP: case SHP_SENDTO: case SHP_RECVFROM: case SHP_SPLICE: case SHP_COPY: return 6;
    case SHP_EXEC: return op == OP_execve ? 3 : 5;
    case SHP_AIO:
        return op == OP_io_destroy ? 1 : op == OP_io_setup ? 2 : op == OP_io_submit ? 3 : op == OP_io_getevents ? 5 : 6;
    case SHP_SOCKOPT: return 5;
    default: return 4;
    }
}

void report_syscall(struct proc *p, const struct report_call *call, uint64_t time_ns)
{
    const char *name = op_name(call->op), *list[6];
    char text[6][24];
    FIELDS(f, TM_MAX_FIELDS);
    unsigned n = arg_count(call->op);
    char addr[sizeof(struct sockaddr_un) + 16];

    for (unsigned i = 0; i < n; i++) {
        /* small numbers as such, addresses in hexadecimal; -1 and the like as a signed int */
        if ((int64_t)call->args[i] >= -4096 && (int64_t)call->args[i] < 65536)
            snprintf(text[i], sizeof(text[i]), "%" PRId64, (int64_t)call->args[i]);
        else if (call->args[i] <= UINT32_MAX && (int32_t)call->args[i] < 0 && (int32_t)call->args[i] >= -4096)
            snprintf(text[i], sizeof(text[i]), "%" PRId32, (int32_t)call->args[i]);
        else
            snprintf(text[i], sizeof(text[i]), "0x%" PRIx64, call->args[i]);
        list[i] = text[i];
    }
    add_str(&f, "op", 0, name);
    add_uint(&f, "tid", 0, call->tid);
    add_list(&f, "args", list, n);
    if (call->path)
        add_mem(&f, "path", 0, call->path, call->path_len);
    if (call->path2)
        add_mem(&f, "path2", 0, call->path2, call->path2_len);
    if (call->file)
        add_mem(&f, "file", 0, call->file, call->file_len);
    if (call->unresolved)
        add(&f, "file_unresolved", TM_BOOL, 0)->v.b = true;
    if (call->addr && address_name(call->addr, call->addr_len, addr, sizeof(addr)))
        add_str(&f, "addr", 0, addr);
    if (call->fd >= 0)
        add_int(&f, "fd", 0, call->fd);
    if (call->bytes >= 0)
        add_int(&f, "bytes", 0, call->bytes);
    if (call->has_result)
        add_int(&f, "result", 0, call->result < 0 && call->result > -4096 ? -1 : call->result);
    if (call->has_result && call->result < 0 && call->result > -4096)
        add_str(&f, "errno", 0, err_name((int)-call->result));
    if (call->timed)
        add(&f, "duration_us", TM_NUM, 0)->v.num = (double)call->duration_ns / 1000;
    report_event(p, CFG_EW_SYSCALL, name, 0, time_ns, &f);
}

/* --- loss --- */

static const char *const loss_name[LK_MAX] = {
    [LK_RECORD] = "record", [LK_DATA] = "data", [LK_CALL] = "call", [LK_SLOT] = "slot", [LK_COPY] = "copy",
    [LK_TORN] = "torn", [LK_SEGMENT] = "segment", [LK_DESCRIPTOR] = "descriptor", [LK_QUEUE] = "queue",
    [LK_DESTINATION] = "destination", [LK_TRAFFIC] = "traffic", [LK_MESSAGE] = "message",
    [LK_PAYLOAD] = "payload", [LK_PAYLOAD_DESTINATION] = "payload_destination", [LK_MOVED] = "moved",
    [LK_ANSWER] = "answer", [LK_SITE] = "site",
};

const char *report_loss_name(enum loss_kind kind)
{
    return loss_name[kind];
}

void report_lost(struct proc *p, enum loss_kind kind, uint64_t count)
{
    if (p && p->pl)
        telemetry_loss(p->pl->tm, &p->tm, loss_name[kind], count, clock_now_real());
}

/* --- what is wanted --- */

bool report_is_console(const struct proc *p, const struct desc *d)
{
    size_t len;
    const char *name;

    if (!(d->flags & DF_STREAM) || !d->label || d->file->sink || !p->pl->event[CFG_EW_CONSOLE])
        return false;
    name = fds_stream(d, &len);
    return telemetry_wants_event(p->pl->tm, CFG_EW_CONSOLE, name, len);
}

/* Only what can hold text is captured, and only if somebody asked for it. */
enum fd_want report_wants(const struct proc *p, const struct desc *d)
{
    const struct file *f = d->file;
    size_t len;
    const char *name;

    if (d->flags & DF_STREAM)
        return report_is_console(p, d) ? FDW_CAPTURE : FDW_NONE;
    if (f->kind != FDK_FILE && f->kind != FDK_PIPE && f->kind != FDK_UNKNOWN && f->kind != FDK_OTHER)
        return FDW_NONE;
    name = fds_name(d, &len);
    return f->resolved && !(d->flags & DF_LABEL) && p->pl->event[CFG_EW_FILE] &&
           telemetry_wants_event(p->pl->tm, CFG_EW_FILE, name, len) ? FDW_CAPTURE : FDW_NONE;
}

/* --- end of a period --- */

static void sums_flush(struct proc *p, uint64_t time_ns)
{
    struct sums *s = &p->sums;

    for (int m = 0; m < TM_METRIC_MAX; m++) {
        uint64_t value = s->value[m];

        if (!value && !s->ops[m])
            continue;
        if (m == TM_FS_DURATION) /* ns in the sums; the sum of the operations' microseconds in the metric */
            value /= 1000;
        report_sample(p, m, (int64_t)value, s->ops[m], NULL, NULL, true, time_ns);
    }
    for (int dir = 0; dir < 2; dir++)
        for (int k = 0; k < NETC_MAX; k++)
            if (s->net[dir][k] || s->net_ops[dir][k])
                report_sample(p, dir ? TM_NET_TX : TM_NET_RX, (int64_t)s->net[dir][k], s->net_ops[dir][k], net_class_name[k],
                       NULL, true, time_ns);
    for (int k = 0; k < ERR_MAX; k++)
        if (s->error[k])
            report_sample(p, error_metric(k), (int64_t)s->error[k], 0,
                   class_name[k], NULL, true, time_ns);
    if (p->gauge_said[0])
        report_sample(p, TM_NET_PORT, p->gauge_port, 0, NULL, NULL, true, time_ns);
    for (int k = 0; k < 3; k++)
        if (p->gauge_said[1 + k])
            report_sample(p, TM_NET_TCP + k, p->gauge_conn[k], 0, NULL, NULL, true, time_ns);
    memset(s, 0, sizeof(*s));
}

static void process_metrics(struct proc *p, uint64_t time_ns, bool last)
{
    uint64_t mono = clock_now_mono(), cpu = p->cpu_ns;
    bool same = false; /* it hasn't run since it was looked at */
    struct pi_stat st;

    if (!p->dead && p->host_pid > 0 && pi_cpu_ns(p->host_pid, &cpu))
        p->cpu_ns = cpu;
    if (cpu) { /* never 0 for a process that ran */
        uint64_t used = cpu > p->cpu_seen_ns ? cpu - p->cpu_seen_ns : 0;
        uint64_t since = p->dead ? p->death_mono : mono;
        uint64_t elapsed = since > p->cpu_at_ns ? since - p->cpu_at_ns : 0;

        same = !used && p->last_summary && p->known_threads > 0 && p->known_fds >= 0;
        p->cpu_seen_ns = cpu;
        p->cpu_at_ns = since;
        report_sample(p, TM_PROC_CPU, (int64_t)(used / 1000), 0, NULL, NULL, false, time_ns);
        if (elapsed)
            report_sample(p, TM_PROC_CPU_PERC, (int64_t)((double)used / (double)elapsed * 10000 + 0.5), 0, NULL, NULL, false,
                   time_ns);
    }
    if (!same && !last && p->host_pid > 0 && !pi_stat(p->host_pid, &st) && st.state != 'Z') {
        p->known_rss = st.rss_kib;
        p->known_threads = st.threads;
        p->known_fds = pi_fd_count(p->host_pid);
    }
    if (last && p->last_summary)
        return; /* nobody can look any more; what was said before stays the last word */
    if (p->known_threads > 0) {
        report_sample(p, TM_PROC_MEM, p->known_rss, 0, NULL, NULL, false, time_ns);
        report_sample(p, TM_PROC_THREAD, p->known_threads, 0, NULL, NULL, false, time_ns);
    }
    if (p->known_fds >= 0)
        report_sample(p, TM_PROC_FD, p->known_fds, 0, NULL, NULL, false, time_ns);
    report_sample(p, TM_PROC_CHILD, p->live_children, 0, NULL, NULL, false, time_ns);
}

void report_period(struct proc *p, uint64_t time_ns, bool last)
{
    if (!p->pl)
        return;
    if (p->pl->metric[TM_PROC_CPU] || p->pl->per_op[TM_PROC_CPU])
        process_metrics(p, time_ns, last);
    sums_flush(p, time_ns);
    if (!last) /* telemetry_process_end() does it otherwise */
        telemetry_summarise(p->pl->tm, &p->tm, time_ns);
}
