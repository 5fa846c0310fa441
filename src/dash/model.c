/* SPDX-License-Identifier: Apache-2.0 */
#include "dash/model.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "dash/bounded.h"
#include "dash/latency.h"

#define NS UINT64_C(1000000000)
#define TOPS_MAX 2048
#define CONNS_MAX 8192
#define EXITED_NS (10 * NS) /* how long one that has ended is shown */
#define PERIOD_MAX 60       /* seconds that a summary is spread over at most */
#define PERIOD_USUAL 10
#define BEHIND_MAX 25 /* seconds; metrics that are older are none of now */

struct ring {
    struct dash_line *lines; /* MODEL_LINES */
    uint64_t count;
};

struct model {
    uint64_t now_ns, records;
    bool stands;
    uint32_t only;
    char filter[128];
    struct {
        uint64_t second; /* that it is about; others that fall on the place are older */
        double value[SERIES_COUNT];
    } seconds[MODEL_SECONDS];
    struct bounded *processes, *connections, *tops[TOP_COUNT];
    struct ring rings[LINES_COUNT];
    uint64_t told[SERIES_COUNT]; /* the last second that summaries have told of; 0: they are told at once */
    struct latency latency;
};

static const struct dash_process *process_of(const void *value)
{
    return value;
}

/* Those that have ended go first, then those that were silent longest. */
static uint64_t process_weight(const void *value)
{
    const struct dash_process *p = process_of(value);

    return p->exit_ns ? p->exit_ns / NS : p->last_ns;
}

static uint64_t connection_weight(const void *value)
{
    return ((const struct dash_connection *)value)->since_ns;
}

static uint64_t top_count(const void *value)
{
    return ((const struct dash_top *)value)->count;
}

static uint64_t top_bytes(const void *value)
{
    return ((const struct dash_top *)value)->bytes;
}

static uint64_t top_time(const void *value)
{
    const struct dash_top *t = value;

    return t->timed ? t->ms / t->timed : 0;
}

static uint64_t file_weight(const void *value)
{
    const struct dash_top *t = value;

    return t->bytes + t->count;
}

struct model *dash_new(void)
{
    struct model *m = xcalloc(1, sizeof(*m));

    m->processes = bounded_new(MODEL_PROCESSES, sizeof(struct dash_process), process_weight);
    m->connections = bounded_new(CONNS_MAX, sizeof(struct dash_connection), connection_weight);
    for (int i = 0; i < TOP_COUNT; i++)
        m->tops[i] = bounded_new(TOPS_MAX, sizeof(struct dash_top), i == TOP_FILES ? file_weight : top_count);
    for (int i = 0; i < LINES_COUNT; i++)
        m->rings[i].lines = xcalloc(MODEL_LINES, sizeof(struct dash_line));
    return m;
}

void dash_free(struct model *m)
{
    if (!m)
        return;
    bounded_free(m->processes);
    bounded_free(m->connections);
    for (int i = 0; i < TOP_COUNT; i++)
        bounded_free(m->tops[i]);
    for (int i = 0; i < LINES_COUNT; i++)
        free(m->rings[i].lines);
    free(m);
}

void dash_reset(struct model *m)
{
    m->records = 0;
    memset(m->seconds, 0, sizeof(m->seconds));
    memset(m->told, 0, sizeof(m->told));
    memset(&m->latency, 0, sizeof(m->latency));
    bounded_clear(m->processes);
    bounded_clear(m->connections);
    for (int i = 0; i < TOP_COUNT; i++)
        bounded_clear(m->tops[i]);
    for (int i = 0; i < LINES_COUNT; i++)
        m->rings[i].count = 0;
}

/* A copy that fits; cut within a UTF-8 sequence it is shown as invalid, which does no harm. */
static void copy(char *to, size_t size, const char *from)
{
    size_t len = from ? strnlen(from, size - 1) : 0;

    if (len)
        memcpy(to, from, len);
    to[len] = '\0';
}

void dash_filter(struct model *m, const char *text)
{
    copy(m->filter, sizeof(m->filter), text);
}

void dash_only(struct model *m, uint32_t pid)
{
    m->only = pid;
}

uint32_t dash_only_pid(const struct model *m)
{
    return m->only;
}

void dash_set_now(struct model *m, uint64_t ns)
{
    m->now_ns = ns;
}

uint64_t dash_now(const struct model *m)
{
    return m->now_ns;
}

/* --- fields --- */

static const struct tm_field *field(const struct ev_record *r, const char *name)
{
    for (size_t i = 0; i < r->field_count; i++)
        if (r->fields[i].name && strcmp(r->fields[i].name, name) == 0)
            return &r->fields[i];
    return NULL;
}

static int64_t number_of(const struct tm_field *f)
{
    if (!f)
        return 0;
    switch (f->type) {
    case TM_INT:
    case TM_HUNDREDTHS:
        return f->v.i;
    case TM_UINT:
        return f->v.u > INT64_MAX ? INT64_MAX : (int64_t)f->v.u;
    case TM_NUM:
        return f->v.num > -9e18 && f->v.num < 9e18 ? (int64_t)f->v.num : 0; /* NaN, too, is none of these */
    default:
        return 0;
    }
}

static struct tm_str text_of(const struct tm_field *f)
{
    if (!f || f->type != TM_STR || !f->v.str.p)
        return (struct tm_str){"", 0};
    return (struct tm_str){f->v.str.p, f->v.str.len};
}

/* --- seconds --- */

static void add_at(struct model *m, enum dash_series s, uint64_t second, double value)
{
    uint64_t now = m->now_ns / NS;
    size_t i = second % MODEL_SECONDS;

    if (second > now + 1 || second + MODEL_SECONDS <= now)
        return;
    if (m->seconds[i].second != second) {
        memset(&m->seconds[i], 0, sizeof(m->seconds[i]));
        m->seconds[i].second = second;
    }
    m->seconds[i].value[s] += value;
}

static void add(struct model *m, enum dash_series s, const struct ev_record *r, double value)
{
    add_at(m, s, r->time_ns / NS, value);
}

void dash_stands(struct model *m, bool stands)
{
    m->stands = stands;
}

double dash_at(const struct model *m, enum dash_series s, unsigned back)
{
    uint64_t now = m->now_ns / NS, second = now - back;
    size_t i = second % MODEL_SECONDS;

    return back < MODEL_SECONDS && back <= now && m->seconds[i].second == second ? m->seconds[i].value[s] : 0;
}

unsigned dash_behind(const struct model *m, enum dash_series s)
{
    uint64_t now = m->now_ns / NS, told = m->told[s];

    return told && told < now && now - told <= BEHIND_MAX ? (unsigned)(now - told) : !m->stands;
}

double dash_rate(const struct model *m, enum dash_series s, unsigned seconds)
{
    unsigned behind = dash_behind(m, s);
    double sum = 0;

    for (unsigned i = 0; i < seconds; i++)
        sum += dash_at(m, s, behind + i);
    return seconds ? sum / seconds : 0;
}

double dash_sum(const struct model *m, enum dash_series s)
{
    double sum = 0;

    for (unsigned i = 0; i < MODEL_SECONDS; i++)
        sum += dash_at(m, s, i);
    return sum;
}

int64_t dash_percentile(const struct model *m, unsigned percent)
{
    return latency_percentile(&m->latency, m->now_ns / NS, 60, percent);
}

/* --- processes --- */

static struct dash_process *process_at(struct model *m, unsigned session, const struct ev_record *r)
{
    const struct tm_process *who = r->who;
    struct {
        uint32_t session, pid;
    } key = {session, who->host_pid ? who->host_pid : who->pid};
    struct dash_process *p = bounded_get(m->processes, &key, sizeof(key));

    if (!p->first_ns) {
        p->first_ns = r->time_ns ? r->time_ns : 1;
        p->session = session;
        p->pid = key.pid;
        p->cpu_hundredths = p->mem_kib = p->threads = p->fds = p->children = -1;
    }
    if (strncmp(p->name, who->proc ? who->proc : "", sizeof(p->name) - 1) != 0 || !p->last_ns) { /* exec */
        copy(p->name, sizeof(p->name), who->proc);
        copy(p->cmd, sizeof(p->cmd), who->cmd);
        p->ppid = who->ppid;
    }
    if (r->time_ns > p->last_ns)
        p->last_ns = r->time_ns;
    return p;
}

static bool is_shown(const struct model *m, const struct dash_process *p)
{
    return !p->exit_ns || p->exit_ns + EXITED_NS > m->now_ns;
}

struct sorting {
    struct dash_process **list;
    size_t count, done;
    struct dash_process **ret;
};

static int by_parent(const void *a, const void *b)
{
    const struct dash_process *x = *(struct dash_process *const *)a, *y = *(struct dash_process *const *)b;

    if (x->session != y->session)
        return x->session < y->session ? -1 : 1;
    if (x->ppid != y->ppid)
        return x->ppid < y->ppid ? -1 : 1;
    if (!x->exit_ns != !y->exit_ns) /* what still runs is to be seen */
        return x->exit_ns ? 1 : -1;
    return x->pid < y->pid ? -1 : x->pid > y->pid;
}

static int by_value(int64_t x, int64_t y, const struct dash_process *a, const struct dash_process *b)
{
    if (!a->exit_ns != !b->exit_ns)
        return a->exit_ns ? 1 : -1;
    if (x != y)
        return x > y ? -1 : 1;
    return a->pid < b->pid ? -1 : a->pid > b->pid;
}

#define BY(name, member) \
    static int name(const void *a, const void *b) \
    { \
        const struct dash_process *x = *(struct dash_process *const *)a, *y = *(struct dash_process *const *)b; \
\
        return by_value((int64_t)x->member, (int64_t)y->member, x, y); \
    }
BY(by_cpu, cpu_hundredths)
BY(by_mem, mem_kib)
BY(by_events, events)

/* The first of those whose parent this is, in a list sorted by_parent(). */
static size_t first_child(const struct sorting *s, unsigned session, uint32_t ppid)
{
    size_t low = 0, high = s->count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const struct dash_process *p = s->list[mid];

        if (p->session < session || (p->session == session && p->ppid < ppid))
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

#define DEPTH_NONE UINT32_MAX /* not placed yet */

/* Deep trees are anybody's to make: without recursion. What is in a circle (numbers that were used again) is a root. */
static void place_tree(struct sorting *s, struct dash_process *root)
{
    struct level {
        uint32_t pid;
        size_t at;
    } *stack = xcalloc(s->count + 1, sizeof(*stack));
    size_t depth = 0;

    root->depth = 0;
    s->ret[s->done++] = root;
    stack[0] = (struct level){root->pid, first_child(s, root->session, root->pid)};
    for (;;) {
        struct level *l = &stack[depth];
        struct dash_process *p = l->at < s->count ? s->list[l->at] : NULL;

        if (!p || p->session != root->session || p->ppid != l->pid) {
            if (depth-- == 0)
                break;
            continue;
        }
        l->at++;
        if (p->depth != DEPTH_NONE)
            continue;
        p->depth = (unsigned)++depth;
        s->ret[s->done++] = p;
        stack[depth] = (struct level){p->pid, first_child(s, p->session, p->pid)};
    }
    free(stack);
}

static bool has_parent(const struct model *m, const struct dash_process *p)
{
    struct {
        uint32_t session, pid;
    } key = {p->session, p->ppid};
    const struct dash_process *parent = bounded_find(m->processes, &key, sizeof(key));

    return parent && parent != p && is_shown(m, parent);
}

size_t dash_processes(const struct model *m, enum dash_order order, struct dash_process ***ret)
{
    static int (*const orders[])(const void *, const void *) = {by_parent, by_cpu, by_mem, by_events};
    struct sorting s = {.list = xcalloc(bounded_count(m->processes) + 1, sizeof(*s.list))};

    for (size_t i = 0; i < bounded_count(m->processes); i++) {
        struct dash_process *p = bounded_at(m->processes, i);

        p->depth = order == ORDER_TREE ? DEPTH_NONE : 0;
        if (is_shown(m, p))
            s.list[s.count++] = p;
    }
    qsort(s.list, s.count, sizeof(*s.list), orders[order]);
    if (order != ORDER_TREE) {
        *ret = s.list;
        return s.count;
    }
    s.ret = xcalloc(s.count + 1, sizeof(*s.ret));
    for (size_t i = 0; i < s.count; i++)
        if (s.list[i]->depth == DEPTH_NONE && !has_parent(m, s.list[i]))
            place_tree(&s, s.list[i]);
    for (size_t i = 0; i < s.count; i++)
        if (s.list[i]->depth == DEPTH_NONE)
            place_tree(&s, s.list[i]);
    free(s.list);
    *ret = s.ret;
    return s.done;
}

uint64_t dash_processes_dropped(const struct model *m)
{
    return bounded_dropped(m->processes);
}

/* --- metrics --- */

/* Samples of one period have one time, or nearly so. */
static void note_period(struct dash_process *p, const struct ev_record *r)
{
    if (r->time_ns <= p->period_to_ns + NS / 2)
        return;
    p->period_from_ns = p->period_to_ns;
    p->period_to_ns = r->time_ns;
}

/* What a summary tells happened evenly since the summary before. */
static void spread(struct model *m, enum dash_series s, const struct dash_process *p, const struct ev_record *r,
                   double value)
{
    uint64_t end = r->time_ns / NS, from = p->period_from_ns / NS, seconds;

    if (!field(r, "summary")) {
        add(m, s, r, value);
        return;
    }
    if (!from) { /* the first one that is seen: the process may be older than what is read */
        from = p->first_ns / NS;
        if (end > from + PERIOD_USUAL)
            from = end - PERIOD_USUAL;
    }
    seconds = end > from ? end - from : 1;
    if (seconds > PERIOD_MAX)
        seconds = PERIOD_MAX;
    if (end && end - 1 > m->told[s])
        m->told[s] = end - 1;
    for (uint64_t i = 0; i < seconds; i++)
        add_at(m, s, end - 1 - i, value / (double)seconds);
}

static const struct {
    const char *name;
    enum dash_series series;
} metrics[] = {
    {"net.rx", SERIES_NET_RX},     {"net.tx", SERIES_NET_TX},       {"fs.read", SERIES_FS_READ},
    {"fs.write", SERIES_FS_WRITE}, {"net.error", SERIES_NET_ERROR}, {"fs.error", SERIES_FS_ERROR},
};

static void take_metric(struct model *m, struct dash_process *p, const struct ev_record *r)
{
    int64_t value = number_of(&r->value);

    note_period(p, r);
    for (size_t i = 0; i < sizeof(metrics) / sizeof(*metrics); i++)
        if (strcmp(r->name, metrics[i].name) == 0)
            spread(m, metrics[i].series, p, r, (double)value);
    if (strncmp(r->name, "proc.", 5) != 0)
        return;
    if (strcmp(r->name, "proc.cpu_perc") == 0) {
        p->cpu_hundredths = r->value.type == TM_HUNDREDTHS ? value : value * 100;
        if (r->value.type == TM_NUM)
            p->cpu_hundredths = (int64_t)(r->value.v.num * 100);
    } else if (strcmp(r->name, "proc.mem") == 0) {
        p->mem_kib = value;
    } else if (strcmp(r->name, "proc.thread") == 0) {
        p->threads = value;
    } else if (strcmp(r->name, "proc.fd") == 0) {
        p->fds = value;
    } else if (strcmp(r->name, "proc.child") == 0) {
        p->children = value;
    }
}

/* --- events --- */

static struct dash_top *top_at(struct model *m, enum dash_tops what, const char *name, size_t len)
{
    return bounded_get(m->tops[what], name, len);
}

static void timed(struct dash_top *t, const struct tm_field *f)
{
    uint64_t ms = (uint64_t)number_of(f);

    if (!f || ms > UINT64_C(1) << 40)
        return;
    t->ms += ms;
    t->timed++;
    if (ms > t->ms_max)
        t->ms_max = ms;
}

static void take_http(struct model *m, const struct ev_record *r)
{
    const struct tm_field *took = field(r, "http_client_duration");
    int64_t status = number_of(field(r, "http_status_code"));
    struct tm_str host = text_of(field(r, "http_host")), target = text_of(field(r, "http_target"));
    struct tm_str method = text_of(field(r, "http_method"));
    const char *query = memchr(target.p, '?', target.len);
    char name[BOUNDED_KEY_MAX];
    int len = snprintf(name, sizeof(name), "%.*s %.*s%.*s", (int)(method.len < 16 ? method.len : 16), method.p,
                       (int)(host.len < 80 ? host.len : 80), host.p,
                       (int)(query              ? query - target.p
                             : target.len < 200 ? (ptrdiff_t)target.len
                                                : 200),
                       target.p);
    struct dash_top *t = top_at(m, TOP_HTTP, name, len < (int)sizeof(name) ? (size_t)len : sizeof(name) - 1);

    if (!took)
        took = field(r, "http_server_duration");
    add(m, SERIES_HTTP, r, 1);
    t->count++;
    if (status >= 400) {
        add(m, SERIES_HTTP_ERROR, r, 1);
        t->errors++;
    }
    timed(t, took);
    if (took && number_of(took) >= 0)
        latency_add(&m->latency, r->time_ns / NS, (uint64_t)number_of(took));
}

static void take_dns(struct model *m, const struct ev_record *r)
{
    struct tm_str domain = text_of(field(r, "domain")), rcode = text_of(field(r, "rcode"));
    struct dash_top *t = top_at(m, TOP_DNS, domain.p, domain.len);

    if (strcmp(r->source, "dns.req") == 0) {
        add(m, SERIES_DNS, r, 1);
        t->count++;
        return;
    }
    timed(t, field(r, "duration"));
    if (field(r, "error") || (rcode.len && strcmp(rcode.p, "NOERROR") != 0)) {
        add(m, SERIES_DNS_ERROR, r, 1);
        t->errors++;
    }
}

static void take_file(struct model *m, const struct ev_record *r)
{
    bool open = strcmp(r->source, "fs.open") == 0, close = strcmp(r->source, "fs.close") == 0;
    struct tm_str file = text_of(field(r, "file"));
    struct dash_top *t;

    if (open)
        add(m, SERIES_FS_OPEN, r, 1);
    if ((!open && !close) || !file.len)
        return;
    t = top_at(m, TOP_FILES, file.p, file.len);
    t->count += open;
    if (close)
        t->bytes +=
            (uint64_t)number_of(field(r, "file_read_bytes")) + (uint64_t)number_of(field(r, "file_write_bytes"));
}

static void address(char *to, size_t size, const struct ev_record *r, const char *ip, const char *port)
{
    struct tm_str a = text_of(field(r, ip));
    const struct tm_field *p = field(r, port);
    int len = (int)(a.len < 46 ? a.len : 46);

    if (p)
        snprintf(to, size, memchr(a.p, ':', a.len) ? "[%.*s]:%lld" : "%.*s:%lld", len, a.p, (long long)number_of(p));
    else
        snprintf(to, size, "%.*s", len, a.p);
}

static void take_net(struct model *m, unsigned session, const struct dash_process *p, const struct ev_record *r)
{
    struct {
        uint64_t channel, session;
    } key = {r->channel, session};
    struct dash_connection *c;
    struct tm_str text;

    if (strcmp(r->source, "net.open") == 0) {
        add(m, SERIES_NET_OPEN, r, 1);
        c = bounded_get(m->connections, &key, sizeof(key));
        text = text_of(field(r, "net_transport"));
        snprintf(c->transport, sizeof(c->transport), "%.*s", (int)(text.len < 15 ? text.len : 15), text.p);
        address(c->peer, sizeof(c->peer), r, "net_peer_ip", "net_peer_port");
        address(c->local, sizeof(c->local), r, "net_host_ip", "net_host_port");
        copy(c->name, sizeof(c->name), p->name);
        c->pid = p->pid;
        c->since_ns = r->time_ns;
    } else if (strcmp(r->source, "net.close") == 0) {
        bounded_remove(m->connections, &key, sizeof(key));
    } else if (strcmp(r->source, "net.app") == 0) {
        c = bounded_find(m->connections, &key, sizeof(key));
        text = text_of(field(r, "protocol"));
        if (c)
            snprintf(c->protocol, sizeof(c->protocol), "%.*s", (int)(text.len < 15 ? text.len : 15), text.p);
    }
}

/* --- lines --- */

static void append(struct dash_line *l, const char *p, size_t len)
{
    size_t room = sizeof(l->text) - 1 - l->text_len;

    if (len > room)
        len = room;
    if (len)
        memcpy(l->text + l->text_len, p, len);
    l->text_len += len;
    l->text[l->text_len] = '\0';
}

static void append_field(struct dash_line *l, const struct tm_field *f)
{
    char text[32];
    int n = 0;

    if (f->type == TM_WHO || f->type == TM_OWNER || !f->name || strcmp(f->name, "proc") == 0 ||
        strcmp(f->name, "pid") == 0 || strcmp(f->name, "host") == 0) /* who it was stands before it */
        return;
    if (l->text_len)
        append(l, " ", 1);
    append(l, f->name, strlen(f->name));
    append(l, "=", 1);
    switch (f->type) {
    case TM_STR:
        append(l, f->v.str.p ? f->v.str.p : "", f->v.str.p ? f->v.str.len : 0);
        break;
    case TM_STRLIST:
        for (size_t i = 0; i < f->v.list.count; i++) {
            append(l, i ? "," : "", i != 0);
            append(l, f->v.list.p[i], strnlen(f->v.list.p[i], MODEL_LINE_MAX));
        }
        break;
    case TM_BOOL:
        append(l, f->v.b ? "true" : "false", f->v.b ? 4 : 5);
        break;
    case TM_NUM:
        n = snprintf(text, sizeof(text), "%.6g", f->v.num);
        break;
    case TM_HUNDREDTHS:
        n = snprintf(text, sizeof(text), "%.2f", (double)f->v.i / 100);
        break;
    default:
        n = snprintf(text, sizeof(text), "%lld", (long long)number_of(f));
    }
    append(l, text, (size_t)n);
}

static void take_line(struct model *m, enum dash_lines what, const struct dash_process *p, const struct ev_record *r)
{
    struct ring *ring = &m->rings[what];
    struct dash_line *l = &ring->lines[ring->count % MODEL_LINES];

    l->time_ns = r->time_ns;
    l->pid = p->pid;
    copy(l->proc, sizeof(l->proc), p->name);
    copy(l->type, sizeof(l->type), r->sourcetype);
    copy(l->source, sizeof(l->source), r->source);
    l->text_len = 0;
    l->text[0] = '\0';
    if (r->kind == EV_NOTICE) {
        append(l, r->text, r->text_len);
    } else if (strcmp(l->type, "console") == 0 || strcmp(l->type, "file") == 0) {
        struct tm_str text = text_of(field(r, "message"));

        append(l, text.p, text.len);
    } else {
        for (size_t i = 0; i < r->field_count && l->text_len + 1 < sizeof(l->text); i++)
            append_field(l, &r->fields[i]);
    }
    if (m->filter[0] && !memmem(l->text, l->text_len, m->filter, strlen(m->filter)) && !strstr(l->proc, m->filter) &&
        !strstr(l->type, m->filter) && !strstr(l->source, m->filter))
        return;
    ring->count++;
}

const struct dash_line *dash_line(const struct model *m, enum dash_lines what, size_t back)
{
    const struct ring *ring = &m->rings[what];

    /* The place of the oldest is where the next one is tried against the filter. */
    return back < dash_line_count(m, what) ? &ring->lines[(ring->count - 1 - back) % MODEL_LINES] : NULL;
}

size_t dash_line_count(const struct model *m, enum dash_lines what)
{
    uint64_t n = m->rings[what].count;

    return n < MODEL_LINES ? (size_t)n : MODEL_LINES - 1;
}

void dash_take(struct model *m, unsigned session, const struct ev_record *r)
{
    struct dash_process *p;

    if (!r->who || (m->only && r->who->pid != m->only && r->who->host_pid != m->only))
        return;
    m->records++;
    p = process_at(m, session, r);
    if (r->kind == EV_METRIC) {
        if (r->name)
            take_metric(m, p, r);
        return;
    }
    if (!r->sourcetype || !r->source)
        return;
    add(m, SERIES_EVENTS, r, 1);
    p->events++;
    if (r->kind == EV_EVENT) {
        if (strcmp(r->sourcetype, "fs") == 0)
            take_file(m, r);
        else if (strcmp(r->sourcetype, "net") == 0)
            take_net(m, session, p, r);
        else if (strcmp(r->source, "http.resp") == 0)
            take_http(m, r);
        else if (strcmp(r->sourcetype, "dns") == 0)
            take_dns(m, r);
        else if (strcmp(r->source, "proc.exit") == 0)
            p->exit_ns = r->time_ns ? r->time_ns : 1;
        else if (strcmp(r->source, "proc.start") == 0)
            p->exit_ns = 0;
        if (strcmp(r->sourcetype, "console") == 0) {
            add(m, SERIES_CONSOLE, r, 1);
            take_line(m, LINES_CONSOLE, p, r);
        }
    }
    take_line(m, LINES_EVENTS, p, r);
}

/* --- tops and connections --- */

size_t dash_top(const struct model *m, enum dash_tops what, enum dash_by by, const struct dash_top **ret, size_t max)
{
    static bounded_weight *const weights[] = {top_count, top_bytes, top_time};

    return bounded_best(m->tops[what], weights[by], (const void **)ret, max);
}

uint64_t dash_top_dropped(const struct model *m, enum dash_tops what)
{
    return bounded_dropped(m->tops[what]);
}

size_t dash_connections(const struct model *m, const struct dash_connection **ret, size_t max)
{
    return bounded_best(m->connections, NULL, (const void **)ret, max);
}

size_t dash_connection_count(const struct model *m)
{
    return bounded_count(m->connections);
}

uint64_t dash_connections_dropped(const struct model *m)
{
    return bounded_dropped(m->connections);
}
