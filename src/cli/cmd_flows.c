/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/safe_path.h"
#include "cli/progress.h"
#include "session/packets.h"
#include "session/payload.h"
#include "traffic/unread.h"
#include "version.h"

#define READ_BYTES ((size_t)256 << 10)

static const struct cli_option options[] = {
    {"in", NULL, "The bytes that the process received in this flow, as they are", NULL, 0, false, false},
    {"out", NULL, "The bytes that it sent", NULL, 0, false, false},
    {"pcapng", "FILE", "Write the flows as packets, for Wireshark; - is standard output", NULL, 0, false, false},
    {"peer", "CIDR", "Only flows with peers in this network, such as 10.0.0.0/8, or with this address", NULL, 'p',
     false, false},
    {"last", "N", "The last N, after all filters (default 20; all with a filter)", NULL, 'n', false, false},
    {"all", NULL, "All flows", NULL, 'a', false, false},
    {"sort", "FIELD", "The greatest first, by a member of the JSON form; -n N gives the top N", NULL, 's', false,
     false},
    {"reverse", NULL, "With --sort: the smallest first", NULL, 'r', false, false},
    {"json", NULL, "One JSON object per line", NULL, 'j', false, false},
    {0},
};

static const struct cli_example examples[] = {
    {"scope run --payloads -- curl http://example.com/", "keeps what passes through sockets"},
    {"scope flows", "the last 20 flows of the last session"},
    {"scope flows 3", "everything about flow 3"},
    {"scope flows --in 3", "what was received in it"},
    {"scope flows --sort net_bytes_recv -n 5", "the five with the most bytes received"},
    {"scope flows --pcapng all.pcapng", "all of them as packets"},
    {"scope flows --pcapng - 3 | wireshark -k -i -", "one, at once"},
    {0},
};

struct view {
    struct payload_reader *reader;
    const struct session *session;
    const char *dir;
    struct network {
        int family; /* AF_UNSPEC: every peer */
        uint8_t ip[16];
        unsigned bits;
    } peer;
    uint64_t *numbers; /* those that were asked for */
    size_t number_count;
};

/* --- selecting --- */

static int parse_network(const char *text, struct network *ret)
{
    char addr[INET6_ADDRSTRLEN];
    const char *slash = strchr(text, '/');
    size_t len = slash ? (size_t)(slash - text) : strlen(text);
    char *end;

    if (len >= sizeof(addr))
        return -EINVAL;
    memcpy(addr, text, len);
    addr[len] = '\0';
    ret->family = strchr(addr, ':') ? AF_INET6 : AF_INET;
    if (inet_pton(ret->family, addr, ret->ip) != 1)
        return -EINVAL;
    ret->bits = ret->family == AF_INET ? 32 : 128;
    if (slash) {
        unsigned long bits = strtoul(slash + 1, &end, 10);

        if (slash[1] < '0' || slash[1] > '9' || *end || bits > ret->bits)
            return -EINVAL;
        ret->bits = (unsigned)bits;
    }
    return 0;
}

static bool in_network(const struct network *n, const struct payload_addr *a)
{
    unsigned bytes = n->bits / 8, bits = n->bits % 8;

    return a->family == n->family && memcmp(a->ip, n->ip, bytes) == 0 &&
           (!bits || (a->ip[bytes] ^ n->ip[bytes]) >> (8 - bits) == 0);
}

static bool wanted(const struct view *v, const struct payload_entry *e)
{
    if (v->peer.family != AF_UNSPEC && !in_network(&v->peer, &e->id.peer))
        return false;
    for (size_t i = 0; i < v->number_count; i++)
        if (v->numbers[i] == e->number)
            return true;
    return v->number_count == 0;
}

/* --- members --- */

static uint64_t last_time(const struct payload_entry *e)
{
    uint64_t t = e->begin_ns;

    for (int d = 0; d < PAYLOAD_DIRS; d++)
        t = e->last_ns[d] > t ? e->last_ns[d] : t;
    return e->end_ns ? e->end_ns : t;
}

static uint64_t duration(const struct payload_entry *e)
{
    return last_time(e) > e->begin_ns ? last_time(e) - e->begin_ns : 0;
}

static uint64_t total(const struct payload_entry *e, enum payload_dir d)
{
    return e->bytes[d] > UINT64_MAX - e->missing[d] ? UINT64_MAX : e->bytes[d] + e->missing[d];
}

/* A member of the JSON form: adds its value, or nothing if the flow has none. */
typedef void add_member(struct buf *, const struct view *, const struct payload_entry *);

static void add_text(struct buf *b, const char *text)
{
    if (text)
        buf_json_str(b, text);
}

static void add_ip(struct buf *b, const struct payload_addr *a)
{
    char text[PAYLOAD_ADDR_TEXT];

    if (*payload_addr_text(a, text))
        buf_json_str(b, text);
}

static void add_port(struct buf *b, const struct payload_addr *a)
{
    if (a->family == AF_INET || a->family == AF_INET6)
        buf_uint(b, a->port);
}

static void add_inode(struct buf *b, const struct payload_addr *a)
{
    if (a->family == AF_UNIX)
        buf_uint(b, a->inode);
}

static void add_time(struct buf *b, uint64_t ns)
{
    if (ns)
        buf_time(b, ns);
}

static void add_channel(struct buf *b, uint64_t channel)
{
    if (channel)
        buf_printf(b, "\"%llu\"", (unsigned long long)channel);
}

static const char *role_text(const struct payload_entry *e)
{
    static const char *const roles[] = {NULL, "client", "server"};

    return roles[e->id.role];
}

/* clang-format off */
#define MEMBER(name, expression)                                                                                       \
    static void member_##name(struct buf *b, const struct view *v, const struct payload_entry *e)                      \
    {                                                                                                                  \
        expression;                                                                                                    \
    }
MEMBER(id, buf_uint(b, e->number))
MEMBER(pid, buf_int(b, e->id.pid))
MEMBER(proc, add_text(b, e->id.proc))
MEMBER(fd, buf_int(b, e->id.fd))
MEMBER(channel, add_channel(b, e->id.channel))
MEMBER(net_transport, add_text(b, e->id.transport))
MEMBER(net_protocol, add_text(b, e->id.protocol))
MEMBER(tls, buf_str(b, e->id.tls ? "true" : "false"))
MEMBER(tls_plaintext, add_text(b, e->id.plaintext))
MEMBER(tls_unread, add_text(b, e->id.unread))
MEMBER(role, add_text(b, role_text(e)))
MEMBER(net_host_ip, add_ip(b, &e->id.host))
MEMBER(net_host_port, add_port(b, &e->id.host))
MEMBER(net_peer_ip, add_ip(b, &e->id.peer))
MEMBER(net_peer_port, add_port(b, &e->id.peer))
MEMBER(unix_local_inode, add_inode(b, &e->id.host))
MEMBER(unix_peer_inode, add_inode(b, &e->id.peer))
MEMBER(start_time, add_time(b, e->begin_ns))
MEMBER(last_sent_time, add_time(b, e->last_ns[PAYLOAD_OUT]))
MEMBER(duration, buf_uint(b, duration(e)))
MEMBER(net_bytes_recv, buf_uint(b, total(e, PAYLOAD_IN)))
MEMBER(net_bytes_sent, buf_uint(b, total(e, PAYLOAD_OUT)))
MEMBER(missing_recv, buf_uint(b, e->missing[PAYLOAD_IN]))
MEMBER(missing_sent, buf_uint(b, e->missing[PAYLOAD_OUT]))
MEMBER(net_close_reason, add_text(b, e->reason))
MEMBER(basedir, add_text(b, v->dir))
MEMBER(in_file, add_text(b, e->file[PAYLOAD_IN]))
MEMBER(out_file, add_text(b, e->file[PAYLOAD_OUT]))

#define ROW(name) {#name, member_##name}
static const struct member {
    const char *name;
    add_member *add;
} members[] = {
    ROW(id), ROW(pid), ROW(proc), ROW(fd), ROW(channel), ROW(net_transport), ROW(net_protocol), ROW(tls), ROW(tls_plaintext), ROW(tls_unread), ROW(role),
    ROW(net_host_ip), ROW(net_host_port), ROW(net_peer_ip), ROW(net_peer_port), ROW(unix_local_inode),
    ROW(unix_peer_inode), ROW(start_time), ROW(last_sent_time), ROW(duration), ROW(net_bytes_recv), ROW(net_bytes_sent),
    ROW(missing_recv), ROW(missing_sent), ROW(net_close_reason), ROW(basedir), ROW(in_file), ROW(out_file),
};
/* clang-format on */
#define MEMBERS (sizeof(members) / sizeof(*members))

/* --- printing --- */

static void print_json(const struct view *v, const struct payload_entry *e)
{
    struct buf b = BUF_INIT, value = BUF_INIT;

    for (size_t i = 0; i < MEMBERS; i++) {
        buf_reset(&value);
        members[i].add(&value, v, e);
        if (!value.len)
            continue;
        buf_printf(&b, "%c\"%s\":", b.len ? ',' : '{', members[i].name);
        buf_add(&b, value.p, value.len);
    }
    buf_str(&b, "}\n");
    fwrite(b.p, 1, b.len, stdout);
    buf_free(&b);
    buf_free(&value);
}

/* Address and port, each as a cell or a value. */
static const char *where(const struct payload_addr *a, char text[PAYLOAD_ADDR_TEXT], char port[24])
{
    snprintf(port, 24, "%s", "");
    if (a->family == AF_UNIX) {
        snprintf(port, 24, "%llu", (unsigned long long)a->inode);
        return "unix";
    }
    if (!*payload_addr_text(a, text))
        return "-";
    snprintf(port, 24, "%u", a->port);
    return text;
}

static void protocol_text(const struct payload_entry *e, struct buf *b)
{
    buf_reset(b);
    buf_printf(b, "%s%s%s", e->id.protocol ? e->id.protocol : "", e->id.protocol && e->id.tls ? " " : "",
               e->id.tls ? "TLS" : "");
    if (e->id.plaintext)
        buf_printf(b, " (%s)", e->id.plaintext);
    if (e->id.unread)
        buf_printf(b, " (not read: %s)", e->id.unread);
}

static void add_row(struct table *t, const struct payload_entry *e)
{
    char text[PAYLOAD_ADDR_TEXT], port[24], when[32];
    struct buf b = BUF_INIT;

    table_uint(t, e->number);
    table_cell(t, where(&e->id.host, text, port));
    table_cell(t, port);
    table_cell(t, where(&e->id.peer, text, port));
    table_cell(t, port);
    table_cell(t, e->last_ns[PAYLOAD_OUT] ? text_time(e->last_ns[PAYLOAD_OUT], when) : "-");
    table_cell(t, text_duration(duration(e), when));
    table_uint(t, total(e, PAYLOAD_IN));
    table_uint(t, total(e, PAYLOAD_OUT));
    protocol_text(e, &b);
    table_cell(t, buf_cstr(&b));
    table_cellf(t, "%s[%lld]", e->id.proc ? e->id.proc : "?", (long long)e->id.pid);
    buf_free(&b);
}

static void pair_bytes(const char *label, const struct payload_entry *e, enum payload_dir d)
{
    unsigned long long all = total(e, d), missing = e->missing[d];
    char text[96];

    if (missing)
        snprintf(text, sizeof(text), "%llu, %llu of them not captured", all, missing);
    else
        snprintf(text, sizeof(text), "%llu", all);
    table_pair(stdout, 0, label, text);
}

static void pair_end(const char *label, const struct payload_addr *a)
{
    char text[PAYLOAD_ADDR_TEXT], port[24];
    const char *ip = where(a, text, port);
    char *both = xasprintf(a->family == AF_UNIX ? "%s, inode %s" : *port ? "%s port %s" : "%s%s", ip, port);

    table_pair(stdout, 0, label, both);
    free(both);
}

static void print_one(const struct view *v, const struct payload_entry *e)
{
    static const struct {
        const char *label;
        enum payload_dir dir;
    } files[] = {{"In File", PAYLOAD_IN}, {"Out File", PAYLOAD_OUT}};
    struct buf b = BUF_INIT;
    char text[64];

    snprintf(text, sizeof(text), "%llu", (unsigned long long)e->number);
    table_pair(stdout, 0, "ID", text);
    table_pair(stdout, 0, "Proc", e->id.proc ? e->id.proc : "?");
    snprintf(text, sizeof(text), "%lld", (long long)e->id.pid);
    table_pair(stdout, 0, "PID", text);
    pair_end("Host", &e->id.host);
    pair_end("Peer", &e->id.peer);
    table_pair(stdout, 0, "Transport", e->id.transport ? e->id.transport : "-");
    protocol_text(e, &b);
    table_pair(stdout, 0, "Protocol", b.len ? buf_cstr(&b) : "-");
    buf_free(&b);
    if (e->id.unread && unread_text(unread_find(e->id.unread)))
        table_pair(stdout, 0, "TLS Not Read", unread_text(unread_find(e->id.unread)));
    if (role_text(e))
        table_pair(stdout, 0, "Role", role_text(e));
    table_pair(stdout, 0, "Start", e->begin_ns ? text_time(e->begin_ns, text) : "-");
    table_pair(stdout, 0, "Last Sent", e->last_ns[PAYLOAD_OUT] ? text_time(e->last_ns[PAYLOAD_OUT], text) : "-");
    table_pair(stdout, 0, "Duration", text_duration(duration(e), text));
    pair_bytes("Bytes Received", e, PAYLOAD_IN);
    pair_bytes("Bytes Sent", e, PAYLOAD_OUT);
    table_pair(stdout, 0, "Close Reason", e->reason ? e->reason : e->end_ns ? "-" : "still open");
    table_pair(stdout, 0, "Base Dir", v->dir);
    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++)
        table_pair(stdout, 0, files[i].label, e->file[files[i].dir] ? e->file[files[i].dir] : "-");
}

/* --- the list --- */

struct sort_entry {
    struct payload_entry *entry;
    char *text; /* of strings */
    double number;
    bool missing;
};

static bool sort_reverse;

static int compare_entries(const void *a, const void *b)
{
    const struct sort_entry *x = a, *y = b;
    int order = 0;

    if (x->missing != y->missing) /* those without come last, whatever the direction */
        return x->missing ? 1 : -1;
    if (x->text && y->text)
        order = strcmp(x->text, y->text);
    else if (!x->missing)
        order = x->number < y->number ? -1 : x->number > y->number;
    if (order)
        return sort_reverse ? order : -order;
    return x->entry->number < y->entry->number ? -1 : 1;
}

static void set_key(const struct view *v, struct sort_entry *s, const struct member *m)
{
    struct buf b = BUF_INIT;

    m->add(&b, v, s->entry);
    s->missing = b.len == 0;
    if (b.len && *b.p == '"')
        s->text = xstrdup(buf_cstr(&b));
    else if (b.len)
        s->number = strcmp(buf_cstr(&b), "true") == 0 ? 1 : strtod(b.p, NULL);
    buf_free(&b);
}

static int list(const struct view *v, const struct args *a, const struct member *sort, size_t last)
{
    static const struct table_column columns[] = {
        {"ID", 0, 0, false},       {"HOST IP", 3, 0, false},    {"HOST PORT", 2, 0, false},
        {"PEER IP", 6, 15, false}, {"PEER PORT", 0, 0, false},  {"LAST SENT", 1, 0, false},
        {"DURATION", 4, 0, false}, {"BYTES RECV", 0, 0, false}, {"BYTES SENT", 0, 0, false},
        {"PROTOCOL", 0, 0, false}, {"PROCESS", 5, 10, true},
    };
    bool json = args_has(a, "json");
    struct table *t = json ? NULL : table_new(columns, sizeof(columns) / sizeof(*columns));
    struct sort_entry *list = NULL;
    size_t count = 0, cap = 0, from;
    struct payload_entry *e;

    for (uint64_t n = 1; (e = payload_entry(v->reader, n)); n++) {
        if (!wanted(v, e))
            continue;
        if (count == cap) {
            cap = cap ? cap * 2 : 64;
            list = xrealloc(list, cap, sizeof(*list));
        }
        list[count] = (struct sort_entry){.entry = e};
        if (sort)
            set_key(v, &list[count], sort);
        count++;
    }
    if (sort && count) {
        sort_reverse = args_has(a, "reverse");
        qsort(list, count, sizeof(*list), compare_entries);
    }
    from = sort || count < last ? 0 : count - last;
    for (size_t i = from; i < count && i - from < last; i++) {
        if (json)
            print_json(v, list[i].entry);
        else
            add_row(t, list[i].entry);
    }
    for (size_t i = 0; i < count; i++)
        free(list[i].text);
    free(list);
    if (t)
        table_print(t, stdout);
    return 0;
}

/* --- bytes --- */

static int file_error(const struct view *v, const struct payload_record *r, int rc)
{
    const char *name = r->flow->file[r->dir];

    if (rc == -ENODATA)
        cli_error("flow %llu: %s/%s is shorter than its index says", (unsigned long long)r->flow->number, v->dir,
                  name ? name : "?");
    else if (!name)
        cli_error("flow %llu: its index names no file for it", (unsigned long long)r->flow->number);
    else
        cli_error("flow %llu: %s/%s: %s", (unsigned long long)r->flow->number, v->dir, name, strerror(-rc));
    return EXIT_FAILED;
}

/* On a terminal, which is not to be driven by what somebody sent: lines stay such, the rest is made visible. */
static void show_bytes(const char *bytes, size_t len)
{
    struct buf b = BUF_INIT;

    while (len) {
        const char *end = memchr(bytes, '\n', len);
        size_t n = end ? (size_t)(end - bytes) : len;

        text_clean(&b, bytes, n);
        if (end) {
            buf_char(&b, '\n');
            n++;
        }
        bytes += n;
        len -= n;
    }
    fwrite(b.p, 1, b.len, stdout);
    buf_free(&b);
}

static int copy_chunk(const struct view *v, const struct payload_record *r, void *buf)
{
    for (uint64_t done = 0; done < r->len;) {
        size_t want = r->len - done < READ_BYTES ? (size_t)(r->len - done) : READ_BYTES;
        ssize_t n = payload_read(v->reader, r->flow, r->dir, r->at + done, buf, want);

        if (n <= 0)
            return n < 0 ? (int)n : -ENODATA;
        if (isatty(STDOUT_FILENO))
            show_bytes(buf, (size_t)n);
        else
            fwrite(buf, 1, (size_t)n, stdout);
        done += (uint64_t)n;
    }
    return 0;
}

/* Bytes of one direction. What is missing in between can't be seen in them, so it is told. */
static int dump(const struct view *v, enum payload_dir dir)
{
    struct payload_record r;
    void *buf = xmalloc(READ_BYTES);
    uint64_t bytes = 0;
    int rc, status = 0;

    while ((rc = payload_next(v->reader, &r)) == 1 && status == 0 && !ferror(stdout)) {
        if (!wanted(v, r.flow) || r.dir != dir)
            continue;
        if (r.kind == PAYLOAD_GAP)
            cli_error("after %llu bytes, %llu bytes were not captured", (unsigned long long)bytes,
                      (unsigned long long)r.len);
        if (r.kind != PAYLOAD_DATA)
            continue;
        if ((rc = copy_chunk(v, &r, buf)) < 0)
            status = file_error(v, &r, rc);
        bytes += r.len;
    }
    free(buf);
    if (rc < 0 && status == 0) {
        cli_error("reading the index: %s", strerror(-rc));
        status = EXIT_FAILED;
    }
    return status;
}

static FILE *open_output(const char *name)
{
    char *why = NULL;
    int fd;
    FILE *f;

    if (strcmp(name, "-") == 0)
        return stdout;
    fd = safe_file(name, O_WRONLY | O_CREAT | O_TRUNC, 0600, &why);
    if (fd < 0) {
        cli_error("can't write %s: %s", name, why ? why : strerror(-fd));
        free(why);
        return NULL;
    }
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK); /* to a pipe it waits */
    f = fdopen(fd, "w");
    if (!f) {
        cli_error("can't write %s: %s", name, strerror(errno));
        close(fd);
    }
    return f;
}

static int write_packets(const struct view *v, const char *name)
{
    FILE *to = open_output(name);
    struct packets *p;
    struct payload_record r;
    uint64_t flows = 0, bad = 0;
    int rc, status = 0, failed = 0;

    if (!to)
        return EXIT_FAILED;
    progress_begin("writing packets", to == stdout);
    p = packets_new(to, v->reader, "AppScope " SCOPE_VERSION);
    while ((rc = payload_next(v->reader, &r)) == 1 && !failed) {
        int one;

        if (!wanted(v, r.flow))
            continue;
        flows += r.flow->user == NULL && r.kind != PAYLOAD_FLOW;
        one = packets_add(p, &r);
        if (one < 0 && bad++ == 0) /* one message; the rest is written */
            status = file_error(v, &r, one);
        if (ferror(to))
            failed = errno ? errno : EIO; /* what comes later tells another one */
    }
    progress_end();
    packets_free(p);
    if (bad > 1)
        cli_error("%llu more pieces could not be read", (unsigned long long)bad - 1);
    if (rc < 0) {
        cli_error("reading the index: %s", strerror(-rc));
        status = EXIT_FAILED;
    }
    if (to == stdout)
        return status;
    if (fclose(to) != 0 && !failed)
        failed = errno;
    if (failed) {
        cli_error("can't write %s: %s", name, strerror(failed));
        return EXIT_FAILED;
    }
    fprintf(stderr, "%llu flow%s written to %s\n", (unsigned long long)flows, flows == 1 ? "" : "s", name);
    return status;
}

/* --- the command --- */

static int read_all(const struct view *v)
{
    struct payload_record r;
    int rc;

    while ((rc = payload_next(v->reader, &r)) == 1)
        ;
    if (rc < 0)
        cli_error("reading the index: %s", strerror(-rc));
    return rc < 0 ? EXIT_FAILED : 0;
}

static int check_numbers(const struct view *v)
{
    for (size_t i = 0; i < v->number_count; i++)
        if (!payload_entry(v->reader, v->numbers[i])) {
            cli_error("there is no flow %llu in session %llu", (unsigned long long)v->numbers[i],
                      (unsigned long long)v->session->id);
            cli_hint("`scope flows -i %llu` lists them", (unsigned long long)v->session->id);
            return EXIT_FAILED;
        }
    return 0;
}

static int show(const struct view *v, const struct args *a, const struct member *sort, size_t last)
{
    const char *pcapng = args_get(a, "pcapng");
    int rc;

    if (pcapng)
        rc = write_packets(v, pcapng);
    else if (args_has(a, "in") || args_has(a, "out"))
        rc = dump(v, args_has(a, "in") ? PAYLOAD_IN : PAYLOAD_OUT);
    else
        rc = read_all(v);
    if (rc == 0)
        rc = check_numbers(v);
    if (rc == 0 && !pcapng && !args_has(a, "in") && !args_has(a, "out")) {
        if (v->number_count && !args_has(a, "json"))
            print_one(v, payload_entry(v->reader, v->numbers[0]));
        else
            rc = list(v, a, sort, last);
    }
    if (payload_damaged(v->reader))
        cli_error("%llu lines of the index in %s are damaged and were left out",
                  (unsigned long long)payload_damaged(v->reader), v->dir);
    return rc;
}

static int open_payloads(struct view *v, const struct args *a, const struct member *sort, size_t last)
{
    char *dir = v->session->payload_dir ? xstrdup(v->session->payload_dir) : xasprintf("%s/payloads", v->session->dir);
    int rc = payload_reader_new(dir, v->session->id, v->session->start_ns, &v->reader);

    if (rc == 0 && !session_owns(v->session, payload_reader_dir(v->reader))) {
        payload_reader_free(v->reader);
        rc = -EPERM;
    }
    if (rc == 0) {
        v->dir = dir;
        rc = show(v, a, sort, last);
        payload_reader_free(v->reader);
    } else if (rc == -ENOENT) {
        cli_error("session %llu has no payloads in %s", (unsigned long long)v->session->id, dir);
        cli_hint("`scope run --payloads PROGRAM` keeps them");
        rc = EXIT_FAILED;
    } else {
        cli_error("can't read the payloads of session %llu: %s: %s", (unsigned long long)v->session->id, dir,
                  strerror(-rc));
        rc = EXIT_FAILED;
    }
    free(dir);
    return rc;
}

/* Numbers of flows among the arguments: 0 or EXIT_USAGE. */
static int parse_numbers(const struct args *a, struct view *v)
{
    v->numbers = xcalloc((size_t)a->word_count + 1, sizeof(*v->numbers));
    for (int i = 0; i < a->word_count; i++) {
        const char *word = a->words[i];
        char *end;

        errno = 0;
        v->numbers[i] = strtoull(word, &end, 10);
        if (*word < '0' || *word > '9' || *end || errno || !v->numbers[i])
            return cli_usage(a->command, "'%s' is not the number of a flow", word);
        v->number_count++;
    }
    return 0;
}

static int check(const struct args *a, struct view *v, const struct member **sort, int64_t *last)
{
    static const char *const conflicts[][2] = {
        {"in", "out"},      {"in", "last"},    {"in", "all"},      {"in", "json"},     {"in", "sort"},
        {"in", "reverse"},  {"in", "peer"},    {"in", "pcapng"},   {"out", "last"},    {"out", "all"},
        {"out", "json"},    {"out", "sort"},   {"out", "reverse"}, {"out", "peer"},    {"out", "pcapng"},
        {"pcapng", "last"}, {"pcapng", "all"}, {"pcapng", "json"}, {"pcapng", "sort"}, {"pcapng", "reverse"},
        {"last", "all"}};
    const char *field = args_get(a, "sort"), *network = args_get(a, "peer"), *names[MEMBERS + 1] = {0}, *like;
    bool bytes = args_has(a, "in") || args_has(a, "out");
    int rc;

    for (size_t i = 0; i < sizeof(conflicts) / sizeof(*conflicts); i++)
        if ((rc = args_conflict(a, conflicts[i][0], conflicts[i][1])))
            return rc;
    if (args_has(a, "reverse") && !field)
        return cli_usage(a->command, "--reverse goes with --sort");
    if (bytes && a->word_count != 1)
        return cli_usage(a->command, "--%s needs the number of one flow", args_has(a, "in") ? "in" : "out");
    if (a->word_count > 1 && !args_has(a, "pcapng") && !args_has(a, "json"))
        return cli_usage(a->command, "one argument too many; several flows go with --pcapng or --json");
    if ((rc = args_number(a, "last", 1, 1 << 24, last)) || (rc = parse_numbers(a, v)))
        return rc;
    if (network && parse_network(network, &v->peer) < 0)
        return cli_usage(a->command, "--peer takes an address or a network such as 10.0.0.0/8, not '%s'", network);
    for (size_t i = 0; field && i < MEMBERS; i++) {
        names[i] = members[i].name;
        if (strcmp(members[i].name, field) == 0)
            *sort = &members[i];
    }
    if (field && !*sort) {
        like = cli_closest(field, names);
        return cli_usage(a->command, "flows have no member %s%s%s%s", field, like ? "; did you mean " : "",
                         like ? like : "", like ? "?" : "");
    }
    if (args_has(a, "all") || ((network || a->word_count) && !args_has(a, "last")))
        *last = INT64_MAX;
    return 0;
}

static int run(struct args *a)
{
    struct session s;
    struct view v = {.session = &s, .peer.family = AF_UNSPEC};
    const struct member *sort = NULL;
    int64_t last = 20;
    int rc = check(a, &v, &sort, &last);

    if (rc == 0)
        rc = cli_session(a, &s);
    if (rc == 0) {
        cli_color(a);
        rc = open_payloads(&v, a, sort, (size_t)last);
        session_clear(&s);
    }
    free(v.numbers);
    return rc;
}

const struct cli_command command_flows = {
    .name = "flows",
    .summary = "Show captured network traffic",
    .usage = "[OPTIONS] [FLOW...]",
    .description =
        "Lists what was captured with `scope run --payloads`, one line per flow: a connection, or what a datagram "
        "socket "
        "exchanged with one peer. With a number: everything about that flow, or with --in or --out its bytes. Bytes "
        "that "
        "were not captured are told on standard error, and are missing in what --in and --out print. On a terminal what "
        "it would act on is made visible.\n"
        "--pcapng writes the flows, or those that are named, as packets that Wireshark and tshark read. The plaintext "
        "of "
        "TLS goes as if there were no TLS: on port 80 instead of 443, and likewise for other ports that Wireshark "
        "takes "
        "for TLS. A protocol on a port of its own is named with Decode As, or `tshark -d tcp.port==8443,http`.",
    .options = options,
    .more_options = cli_session_options,
    .examples = examples,
    .max_args = -1,
    .run = run,
};
