/* SPDX-License-Identifier: Apache-2.0 */
#include "sink/series.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "otlp/conventions.h"
#include "version.h"

#define SLOTS       4096u /* of hash tables, a power of two */
#define CLASSES_MAX 32u   /* different class_ strings; further ones are one */
#define LOST_MAX    64u   /* kinds of losses, the same */
#define BOUNDS      OTLP_BOUNDS

static const uint64_t bounds[BOUNDS] = OTLP_DURATION_BOUNDS; /* microseconds */
static const char *const bound_names[BOUNDS + 1] = {"0.005", "0.01", "0.025", "0.05", "0.075", "0.1", "0.25", "0.5",
                                                    "0.75",  "1.0",  "2.5",   "5.0",  "7.5",   "10.0", "+Inf"};

enum kind { COUNTER, GAUGE, SUMMARY, HISTOGRAM, KINDS };
static const char *const kind_names[KINDS] = {"counter", "gauge", "summary", "histogram"};
static const uint16_t kind_lines[KINDS] = {1, 1, 2, BOUNDS + 3};

enum unit { NO_UNIT, BYTES, SECONDS };
static const char *const unit_names[] = {[BYTES] = "bytes", [SECONDS] = "seconds"};

/* The labels of a series beyond those of its process; what is in its key. */
enum labels { NO_LABEL, OPERATION, DIRECTION, WAY, CLASS, WAY_CLASS, EXCHANGE, SOCKET };

enum family {
    PROCESS_CPU, PROCESS_MEMORY, PROCESS_THREADS, PROCESS_FDS, PROCESS_CHILDREN,
    FILE_OPERATIONS, FILE_BYTES, FILE_DURATION, FILE_ERRORS,
    NET_BYTES, NET_OPERATIONS, NET_OPENED, NET_CLOSED, NET_DURATION, NET_CONNECTIONS, NET_PORTS, NET_ERRORS,
    HTTP_SERVER, HTTP_CLIENT, HTTP_REQUEST_BYTES, HTTP_RESPONSE_BYTES,
    DNS_QUERIES, DNS_DURATION,
    FAMILIES,
};

/* What the collector says of itself. */
enum own { OWN_TARGET = FAMILIES, OWN_BUILD, OWN_PROCESSES, OWN_STARTED, OWN_LOST, OWN_LINES, OWN_OVERFLOW, OWN_SCRAPES, ALL };

static const struct {
    const char *name; /* of counters without _total */
    enum kind kind;
    enum unit unit;
    enum labels labels;
    const char *help;
} metrics[ALL] = {
    [PROCESS_CPU] = {"scope_process_cpu_seconds", COUNTER, SECONDS, NO_LABEL, "CPU time, user and system."},
    [PROCESS_MEMORY] = {"scope_process_resident_memory_bytes", GAUGE, BYTES, NO_LABEL, "Resident memory."},
    [PROCESS_THREADS] = {"scope_process_threads", GAUGE, NO_UNIT, NO_LABEL, "Threads."},
    [PROCESS_FDS] = {"scope_process_open_fds", GAUGE, NO_UNIT, NO_LABEL, "Open file descriptors."},
    [PROCESS_CHILDREN] = {"scope_process_children", GAUGE, NO_UNIT, NO_LABEL, "Children that live."},
    [FILE_OPERATIONS] = {"scope_file_operations", COUNTER, NO_UNIT, OPERATION, "Operations on files."},
    [FILE_BYTES] = {"scope_file_io_bytes", COUNTER, BYTES, DIRECTION, "Bytes read from and written to files."},
    [FILE_DURATION] = {"scope_file_io_duration_seconds", SUMMARY, SECONDS, NO_LABEL,
                       "Time that reading and writing files took."},
    [FILE_ERRORS] = {"scope_file_errors", COUNTER, NO_UNIT, CLASS, "Operations on files that failed."},
    [NET_BYTES] = {"scope_network_io_bytes", COUNTER, BYTES, WAY_CLASS, "Bytes received and sent through sockets."},
    [NET_OPERATIONS] = {"scope_network_io_operations", COUNTER, NO_UNIT, WAY_CLASS, "Calls that received or sent."},
    [NET_OPENED] = {"scope_network_connections_opened", COUNTER, NO_UNIT, NO_LABEL, "Connections opened."},
    [NET_CLOSED] = {"scope_network_connections_closed", COUNTER, NO_UNIT, NO_LABEL, "Connections closed."},
    [NET_DURATION] = {"scope_network_connection_duration_seconds", SUMMARY, SECONDS, NO_LABEL,
                      "How long connections that were closed had been open."},
    [NET_CONNECTIONS] = {"scope_network_connections", GAUGE, NO_UNIT, SOCKET, "Connections that are open."},
    [NET_PORTS] = {"scope_network_ports", GAUGE, NO_UNIT, NO_LABEL, "Ports that are listened on."},
    [NET_ERRORS] = {"scope_network_errors", COUNTER, NO_UNIT, CLASS, "Network operations that failed."},
    [HTTP_SERVER] = {"scope_http_server_request_duration_seconds", HISTOGRAM, SECONDS, EXCHANGE,
                     "Time from a request that the process received to its response."},
    [HTTP_CLIENT] = {"scope_http_client_request_duration_seconds", HISTOGRAM, SECONDS, EXCHANGE,
                     "Time from a request that the process sent to its response."},
    [HTTP_REQUEST_BYTES] = {"scope_http_request_body_bytes", COUNTER, BYTES, NO_LABEL,
                            "Bodies of requests, received or sent, as their heads announce them."},
    [HTTP_RESPONSE_BYTES] = {"scope_http_response_body_bytes", COUNTER, BYTES, NO_LABEL,
                             "Bodies of responses, received or sent, as their heads announce them."},
    [DNS_QUERIES] = {"scope_dns_queries", COUNTER, NO_UNIT, NO_LABEL, "DNS queries."},
    [DNS_DURATION] = {"scope_dns_lookup_duration_seconds", HISTOGRAM, SECONDS, NO_LABEL,
                      "Time from a DNS query to its answer."},
    [OWN_TARGET] = {"target", GAUGE, NO_UNIT, NO_LABEL, "Whose metrics these are: host, and tags of the configuration."},
    [OWN_BUILD] = {"scope_build", GAUGE, NO_UNIT, NO_LABEL, "Version of AppScope."},
    [OWN_PROCESSES] = {"scope_processes", GAUGE, NO_UNIT, NO_LABEL, "Processes that are observed."},
    [OWN_STARTED] = {"scope_processes_started", COUNTER, NO_UNIT, NO_LABEL, "Programs whose observation began."},
    [OWN_LOST] = {"scope_lost", COUNTER, NO_UNIT, NO_LABEL, "What could not be observed, recorded or delivered, by kind."},
    [OWN_LINES] = {"scope_series_lines", GAUGE, NO_UNIT, NO_LABEL, "Lines of this text that belong to processes."},
    [OWN_OVERFLOW] = {"scope_series_overflow", COUNTER, NO_UNIT, NO_LABEL,
                      "Samples that had no room for a series of their own."},
    [OWN_SCRAPES] = {"scope_scrapes", COUNTER, NO_UNIT, NO_LABEL, "Scrapes that were answered before this one."},
};

/* Words of keys. */
enum operation { OP_OPEN, OP_CLOSE, OP_READ, OP_WRITE, OP_SEEK, OP_STAT, OP_DELETE, OP_CREATE, OP_RENAME, OP_CHANGE, OP_SYNC };
static const char *const operations[] = {"open",   "close",  "read",   "write",  "seek", "stat",
                                         "delete", "create", "rename", "change", "sync"};
static const char *const directions[] = {"read", "write"};
static const char *const ways[] = {"receive", "transmit"};
static const char *const sockets[] = {"tcp", "udp", "other"};

/* Where a sample goes: its value, and how many operations that stands for. FAMILIES: nowhere. */
struct target {
    enum family value, count;
    uint32_t value_key, count_key;
    uint32_t times; /* what the value is multiplied by: to microseconds, to bytes */
};
#define OPERATION_ROW(OP)      {FILE_OPERATIONS, FAMILIES, OP, 0, 1}
#define VALUE(FAMILY, KEY, TIMES) {FAMILY, FAMILIES, KEY, 0, TIMES}
static const struct target targets[TM_METRIC_MAX] = {
    [TM_FS_OPEN] = OPERATION_ROW(OP_OPEN),
    [TM_FS_CLOSE] = OPERATION_ROW(OP_CLOSE),
    [TM_FS_READ] = {FILE_BYTES, FILE_OPERATIONS, 0, OP_READ, 1},
    [TM_FS_WRITE] = {FILE_BYTES, FILE_OPERATIONS, 1, OP_WRITE, 1},
    [TM_FS_SEEK] = OPERATION_ROW(OP_SEEK),
    [TM_FS_STAT] = OPERATION_ROW(OP_STAT),
    [TM_FS_DURATION] = VALUE(FILE_DURATION, 0, 1),
    [TM_FS_ERROR] = VALUE(FILE_ERRORS, 0, 1),
    [TM_FS_DELETE] = OPERATION_ROW(OP_DELETE),
    [TM_FS_CREATE] = OPERATION_ROW(OP_CREATE),
    [TM_FS_RENAME] = OPERATION_ROW(OP_RENAME),
    [TM_FS_CHANGE] = OPERATION_ROW(OP_CHANGE),
    [TM_FS_SYNC] = OPERATION_ROW(OP_SYNC),
    [TM_NET_RX] = {NET_BYTES, NET_OPERATIONS, 0, 0, 1},
    [TM_NET_TX] = {NET_BYTES, NET_OPERATIONS, 1, 1, 1},
    [TM_NET_OPEN] = VALUE(NET_OPENED, 0, 1),
    [TM_NET_CLOSE] = VALUE(NET_CLOSED, 0, 1),
    [TM_NET_DURATION] = VALUE(NET_DURATION, 0, 1000),
    [TM_NET_PORT] = VALUE(NET_PORTS, 0, 1),
    [TM_NET_TCP] = VALUE(NET_CONNECTIONS, 0, 1),
    [TM_NET_UDP] = VALUE(NET_CONNECTIONS, 1, 1),
    [TM_NET_OTHER] = VALUE(NET_CONNECTIONS, 2, 1),
    [TM_NET_ERROR] = VALUE(NET_ERRORS, 0, 1),
    [TM_HTTP_REQ] = {FAMILIES, FAMILIES, 0, 0, 0}, /* the counts of the durations */
    [TM_HTTP_DURATION_SERVER] = VALUE(HTTP_SERVER, 0, 1),
    [TM_HTTP_DURATION_CLIENT] = VALUE(HTTP_CLIENT, 0, 1),
    [TM_HTTP_REQ_LENGTH] = VALUE(HTTP_REQUEST_BYTES, 0, 1),
    [TM_HTTP_RESP_LENGTH] = VALUE(HTTP_RESPONSE_BYTES, 0, 1),
    [TM_DNS_REQ] = VALUE(DNS_QUERIES, 0, 1),
    [TM_DNS_DURATION] = VALUE(DNS_DURATION, 0, 1),
    [TM_PROC_START] = {FAMILIES, FAMILIES, 0, 0, 0}, /* scope_processes_started */
    [TM_PROC_CPU] = VALUE(PROCESS_CPU, 0, 1),
    [TM_PROC_CPU_PERC] = {FAMILIES, FAMILIES, 0, 0, 0}, /* the rate of CPU time */
    [TM_PROC_MEM] = VALUE(PROCESS_MEMORY, 0, 1024),
    [TM_PROC_THREAD] = VALUE(PROCESS_THREADS, 0, 1),
    [TM_PROC_FD] = VALUE(PROCESS_FDS, 0, 1),
    [TM_PROC_CHILD] = VALUE(PROCESS_CHILDREN, 0, 1),
    [TM_LOST] = {FAMILIES, FAMILIES, 0, 0, 0}, /* series_lost() */
};

struct series {
    struct series *next; /* of the same family and process */
    uint32_t key;
    uint64_t value;      /* of a summary and a histogram the sum */
    uint64_t told, in;   /* ... in the last scrape that had it, and that one's number */
    uint64_t count[];    /* summary: one; histogram: of each bucket by itself, the last one without bound; then as told */
};

/* A name and a pid, for the processes that have had both, one after the other. */
struct group {
    struct group *same_slot;
    struct group *prev, *next;             /* all */
    struct group *ended_prev, *ended_next; /* those that have ended, as they did */
    uint32_t hash;
    unsigned alive;
    uint64_t ended_ms, ended_at; /* ... and number of the scrape before */
    size_t lines;
    struct series *series[FAMILIES];
    size_t len;
    char labels[];
};

struct binding {
    struct binding *same_slot;
    const struct tm_process *who;
    struct group *group;
};

struct series_set {
    size_t limit, share, lines; /* share: of one group */
    struct binding *bindings[SLOTS], *recent; /* recent: found last */
    struct group *slots[SLOTS], *first, *last, *ended_first, *ended_last;
    struct group *overflow;
    size_t in_family[FAMILIES];
    const char *classes[CLASSES_MAX];
    size_t class_count;
    struct {
        char *kind;
        uint64_t count;
    } lost[LOST_MAX];
    size_t lost_count;
    uint64_t alive, started, overflowed, scrapes;
    uint64_t number, seen;  /* of scrapes: the last one, and the last that a scraper has */
    uint64_t changed;       /* number of the scrape before something was counted */
    bool any;
    struct buf target, scratch;
};

bool series_metric(size_t i, const char **ret_name, const char **ret_type, const char **ret_help)
{
    if (i >= ALL)
        return false;
    *ret_name = metrics[i].name;
    *ret_type = i == OWN_TARGET || i == OWN_BUILD ? "info" : kind_names[metrics[i].kind];
    *ret_help = metrics[i].help;
    return true;
}

/* --- text --- */

/* The value of a label, or a help text: backslash, quote and newline are escaped in both formats; what isn't UTF-8 is
 * replaced. */
static void escape(struct buf *b, const char *text, size_t len)
{
    for (size_t i = 0; i < len;) {
        unsigned n = utf8_sequence(text + i, len - i);

        if (!n) {
            buf_str(b, "\xef\xbf\xbd"); /* U+FFFD */
            i++;
            continue;
        }
        if (text[i] == '\n') {
            buf_str(b, "\\n");
        } else {
            if (text[i] == '\\' || text[i] == '"')
                buf_char(b, '\\');
            buf_add(b, text + i, n);
        }
        i += n;
    }
}

static void label(struct buf *b, const char *name, const char *value, size_t len)
{
    if (b->len)
        buf_char(b, ',');
    buf_str(b, name);
    buf_str(b, "=\"");
    escape(b, value, len);
    buf_char(b, '"');
}

/* --- groups --- */

static uint32_t hash_text(const char *text, size_t len)
{
    uint32_t h = 2166136261u; /* FNV-1a */

    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)text[i]) * 16777619u;
    return h;
}

static struct group *group_new(struct series_set *s, const struct buf *labels, uint32_t hash)
{
    struct group *g = xcalloc(1, sizeof(*g) + labels->len);

    g->hash = hash;
    g->len = labels->len;
    memcpy(g->labels, labels->p, labels->len);
    g->prev = s->last;
    *(s->last ? &s->last->next : &s->first) = g;
    s->last = g;
    return g;
}

static void ended_remove(struct series_set *s, struct group *g)
{
    *(g->ended_prev ? &g->ended_prev->ended_next : &s->ended_first) = g->ended_next;
    *(g->ended_next ? &g->ended_next->ended_prev : &s->ended_last) = g->ended_prev;
    g->ended_prev = g->ended_next = NULL;
}

static void group_free(struct series_set *s, struct group *g)
{
    struct group **at = &s->slots[g->hash % SLOTS];

    for (int f = 0; f < FAMILIES; f++)
        for (struct series *m = g->series[f], *next; m; m = next) {
            next = m->next;
            free(m);
            s->in_family[f]--;
        }
    s->lines -= g->lines;
    while (*at && *at != g)
        at = &(*at)->same_slot;
    if (*at)
        *at = g->same_slot;
    *(g->prev ? &g->prev->next : &s->first) = g->next;
    *(g->next ? &g->next->prev : &s->last) = g->prev;
    free(g);
}

static struct group *group_of(struct series_set *s, const struct tm_process *who)
{
    struct buf *b = &s->scratch;
    struct group *g;
    uint32_t hash;

    buf_reset(b);
    label(b, "proc", who->proc ? who->proc : "", who->proc ? strlen(who->proc) : 0);
    buf_str(b, ",pid=\"");
    buf_uint(b, who->host_pid ? who->host_pid : who->pid); /* there may be many with the number 1 */
    buf_char(b, '"');
    hash = hash_text(b->p, b->len);
    for (g = s->slots[hash % SLOTS]; g; g = g->same_slot)
        if (g->hash == hash && g->len == b->len && memcmp(g->labels, b->p, b->len) == 0)
            return g;
    g = group_new(s, b, hash);
    g->same_slot = s->slots[hash % SLOTS];
    s->slots[hash % SLOTS] = g;
    return g;
}

static struct binding **binding_at(struct series_set *s, const struct tm_process *who)
{
    struct binding **at = &s->bindings[((uintptr_t)who * UINT64_C(0x9e3779b97f4a7c15) >> 32) % SLOTS];

    while (*at && (*at)->who != who)
        at = &(*at)->same_slot;
    return at;
}

static void leave(struct series_set *s, struct group *g, uint64_t now_ms)
{
    s->alive--;
    if (--g->alive)
        return;
    if (!g->lines) {
        group_free(s, g);
        return;
    }
    for (enum family f = 0; f < FAMILIES; f++) /* what a process is ends with it */
        if (metrics[f].kind == GAUGE)
            while (g->series[f]) {
                struct series *m = g->series[f];

                g->series[f] = m->next;
                free(m);
                s->in_family[f]--;
                g->lines--;
                s->lines--;
            }
    g->ended_ms = now_ms;
    g->ended_at = s->number;
    g->ended_prev = s->ended_last;
    *(s->ended_last ? &s->ended_last->ended_next : &s->ended_first) = g;
    s->ended_last = g;
}

static void enter(struct series_set *s, struct group *g)
{
    s->alive++;
    if (!g->alive++ && (g->ended_prev || g->ended_next || s->ended_first == g))
        ended_remove(s, g);
}

static struct binding *bind(struct series_set *s, const struct tm_process *who)
{
    struct binding **at = binding_at(s, who);

    if (!*at) {
        *at = xcalloc(1, sizeof(**at));
        (*at)->who = who;
        (*at)->group = group_of(s, who);
        enter(s, (*at)->group);
    }
    return s->recent = *at;
}

static void touch(struct series_set *s)
{
    s->changed = s->number;
    s->any = true;
}

void series_begin(struct series_set *s, const struct tm_process *who, uint64_t now_ms)
{
    struct binding *b = bind(s, who);
    struct group *g = group_of(s, who);

    if (g != b->group) { /* it goes on as another program */
        enter(s, g);
        leave(s, b->group, now_ms);
        b->group = g;
    }
    s->started++;
    touch(s);
}

void series_end(struct series_set *s, const struct tm_process *who, uint64_t now_ms)
{
    struct binding **at = binding_at(s, who), *b = *at;

    if (!b)
        return;
    *at = b->same_slot;
    if (s->recent == b)
        s->recent = NULL;
    leave(s, b->group, now_ms);
    free(b);
}

/* --- series --- */

static size_t counts_of(enum kind kind)
{
    return kind == HISTOGRAM ? BOUNDS + 1 : kind == SUMMARY ? 1 : 0;
}

static struct series *series_add(struct series_set *s, struct group *g, enum family f, uint32_t key)
{
    struct series *m = xcalloc(1, sizeof(*m) + 2 * counts_of(metrics[f].kind) * sizeof(*m->count));

    m->key = key;
    m->next = g->series[f];
    g->series[f] = m;
    s->in_family[f]++;
    return m;
}

static struct series *of_overflow(struct series_set *s, enum family f)
{
    return s->overflow->series[f] ? s->overflow->series[f] : series_add(s, s->overflow, f, 0);
}

/* Of the processes that have ended, the one that did so first makes room. What no scraper knows of it is kept. */
static bool make_room(struct series_set *s)
{
    struct group *g = s->ended_first;

    if (!g)
        return false;
    for (enum family f = 0; g->ended_at >= s->seen && f < FAMILIES; f++)
        for (struct series *m = g->series[f]; m; m = m->next) {
            struct series *to = of_overflow(s, f);
            size_t counts = counts_of(metrics[f].kind);
            bool known = m->in && m->in <= s->seen;

            to->value += m->value - (known ? m->told : 0);
            for (size_t i = 0; i < counts; i++)
                to->count[i] += m->count[i] - (known ? m->count[counts + i] : 0);
            s->overflowed++;
        }
    ended_remove(s, g);
    group_free(s, g);
    return true;
}

/* NULL: a gauge that there is no room for. */
static struct series *series_of(struct series_set *s, struct group *g, enum family f, uint32_t key)
{
    size_t lines = kind_lines[metrics[f].kind];
    struct series *m, *before = NULL;

    for (m = g->series[f]; m && m->key != key; m = m->next)
        before = m;
    if (m) {
        if (before) { /* asked for next time, too */
            before->next = m->next;
            m->next = g->series[f];
            g->series[f] = m;
        }
        return m;
    }
    while (g->lines + lines > s->share || s->lines + lines > s->limit)
        if (g->lines + lines > s->share || !make_room(s)) {
            s->overflowed++;
            return metrics[f].kind == GAUGE ? NULL : of_overflow(s, f);
        }
    g->lines += lines;
    s->lines += lines;
    return series_add(s, g, f, key);
}

static uint32_t class_of(struct series_set *s, const char *class_)
{
    size_t i;

    if (!class_)
        return 0;
    for (i = 0; i < s->class_count; i++)
        if (s->classes[i] == class_ || strcmp(s->classes[i], class_) == 0)
            return (uint32_t)i + 1;
    if (i == CLASSES_MAX)
        return CLASSES_MAX + 1;
    s->classes[s->class_count++] = xstrdup(class_);
    return (uint32_t)i + 1;
}

/* What isn't a method that is known, or a status at all (RFC 9110, 15), would let a peer make up any number of series. */
static uint32_t exchange_of(const struct tm_sample *sample)
{
    const struct tm_exchange *x = sample->exchange;
    uint32_t method = x && x->method.p ? otlp_method(x->method.p, x->method.len) : 0;

    return method << 16 | (x && x->status >= 100 && x->status <= 599 ? x->status : 0);
}

static uint32_t key_of(struct series_set *s, enum family f, uint32_t key, const struct tm_sample *sample)
{
    switch (metrics[f].labels) {
    case WAY_CLASS: return key << 16 | class_of(s, sample->class_);
    case CLASS: return class_of(s, sample->class_);
    case EXCHANGE: return exchange_of(sample);
    default: return key;
    }
}

static void add_to(struct series_set *s, struct group *g, enum family f, uint32_t key, uint64_t value, uint64_t count)
{
    struct series *m = series_of(s, g, f, key);
    size_t i = 0;

    if (!m)
        return;
    switch (metrics[f].kind) {
    case GAUGE: m->value = value; return;
    case HISTOGRAM:
        while (i < BOUNDS && value > bounds[i])
            i++;
        m->count[i] += count;
        break;
    case SUMMARY: m->count[0] += count; break;
    default: break;
    }
    m->value += value;
}

void series_sample(struct series_set *s, const struct tm_process *who, const struct tm_sample *sample)
{
    const struct target *t = &targets[sample->metric];
    struct binding *b = s->recent && s->recent->who == who ? s->recent : bind(s, who);
    uint64_t value = sample->value > 0 ? (uint64_t)sample->value * t->times : 0;

    touch(s);
    if (t->value != FAMILIES)
        add_to(s, b->group, t->value, key_of(s, t->value, t->value_key, sample), value, sample->numops ? sample->numops : 1);
    if (t->count != FAMILIES && sample->numops)
        add_to(s, b->group, t->count, key_of(s, t->count, t->count_key, sample), sample->numops, 0);
}

void series_lost(struct series_set *s, const char *kind, size_t len, uint64_t count)
{
    size_t i;

    touch(s);
    for (i = 0; i < s->lost_count; i++)
        if (strlen(s->lost[i].kind) == len && memcmp(s->lost[i].kind, kind, len) == 0)
            break;
    if (i == LOST_MAX)
        i--;
    if (i == s->lost_count)
        s->lost[s->lost_count++].kind = i == LOST_MAX - 1 ? xstrdup("other") : xstrndup(kind, len);
    s->lost[i].count += count;
}

/* --- a scrape --- */

/* Seconds are counted in microseconds. */
static void number(struct buf *b, enum unit unit, uint64_t n)
{
    uint64_t part = n % 1000000;
    char digits[7] = {'.'};

    if (unit != SECONDS) {
        buf_uint(b, n);
        return;
    }
    buf_uint(b, n / 1000000);
    if (!part)
        return;
    for (int i = 6; i; i--, part /= 10)
        digits[i] = (char)('0' + part % 10);
    buf_add(b, digits, sizeof(digits));
}

static void head(struct buf *b, size_t family, bool openmetrics)
{
    bool info = family == OWN_TARGET || family == OWN_BUILD;
    const char *suffix = info && !openmetrics                                       ? "_info"
                         : metrics[family].kind == COUNTER && !info && !openmetrics ? "_total"
                                                                                    : "";

    buf_str(b, "# HELP ");
    buf_str(b, metrics[family].name);
    buf_str(b, suffix);
    buf_char(b, ' ');
    buf_str(b, metrics[family].help); /* has nothing to escape */
    buf_str(b, "\n# TYPE ");
    buf_str(b, metrics[family].name);
    buf_str(b, suffix);
    buf_char(b, ' ');
    buf_str(b, info && openmetrics ? "info" : kind_names[metrics[family].kind]);
    buf_char(b, '\n');
    if (!openmetrics || metrics[family].unit == NO_UNIT)
        return;
    buf_str(b, "# UNIT ");
    buf_str(b, metrics[family].name);
    buf_char(b, ' ');
    buf_str(b, unit_names[metrics[family].unit]);
    buf_char(b, '\n');
}

static const char *class_name(const struct series_set *s, uint32_t key)
{
    return !key ? "" : key > s->class_count ? "other" : s->classes[key - 1];
}

static void word(struct buf *b, const char *name, const char *value)
{
    buf_str(b, name);
    buf_str(b, value);
    buf_char(b, '"');
}

/* The labels of the series that its key stands for, behind those of its process. */
static void key_labels(const struct series_set *s, enum labels labels, uint32_t key, struct buf *b)
{
    switch (labels) {
    case NO_LABEL: break;
    case OPERATION: word(b, ",operation=\"", operations[key]); break;
    case DIRECTION: word(b, ",direction=\"", directions[key]); break;
    case WAY: word(b, ",direction=\"", ways[key]); break;
    case CLASS: word(b, ",class=\"", class_name(s, key)); break;
    case WAY_CLASS:
        word(b, ",direction=\"", ways[key >> 16]);
        word(b, ",class=\"", class_name(s, key & 0xffff));
        break;
    case EXCHANGE:
        word(b, ",http_request_method=\"", otlp_methods[key >> 16]);
        buf_str(b, ",http_response_status_code=\"");
        if (key & 0xffff)
            buf_uint(b, key & 0xffff);
        buf_char(b, '"');
        break;
    case SOCKET: word(b, ",kind=\"", sockets[key]); break;
    }
}

/* Name and labels of one line, up to its value. */
static void line(struct buf *b, const char *name, const char *suffix, const struct buf *labels)
{
    buf_str(b, name);
    buf_str(b, suffix);
    buf_char(b, '{');
    buf_add(b, labels->p, labels->len);
    buf_str(b, "} ");
}

static void tell(struct series_set *s, const struct group *g, enum family f, struct series *m, struct buf *b)
{
    const char *name = metrics[f].name;
    struct buf *labels = &s->scratch;
    size_t counts = counts_of(metrics[f].kind);
    uint64_t total = 0;

    m->told = m->value;
    m->in = s->number;
    if (counts)
        memcpy(m->count + counts, m->count, counts * sizeof(*m->count));
    buf_reset(labels);
    buf_add(labels, g->labels, g->len);
    if (g != s->overflow)
        key_labels(s, metrics[f].labels, m->key, labels);
    if (metrics[f].kind <= GAUGE) {
        line(b, name, metrics[f].kind == COUNTER ? "_total" : "", labels);
        number(b, metrics[f].unit, m->value);
        buf_char(b, '\n');
        return;
    }
    for (size_t i = 0; i < counts; i++) {
        total += m->count[i];
        if (metrics[f].kind == SUMMARY)
            break;
        buf_str(b, name);
        buf_str(b, "_bucket{");
        buf_add(b, labels->p, labels->len);
        word(b, ",le=\"", bound_names[i]);
        buf_str(b, "} ");
        buf_uint(b, total);
        buf_char(b, '\n');
    }
    line(b, name, "_sum", labels);
    number(b, metrics[f].unit, m->value);
    buf_char(b, '\n');
    line(b, name, "_count", labels);
    buf_uint(b, total);
    buf_char(b, '\n');
}

static void own(struct buf *b, size_t family, bool openmetrics, uint64_t value)
{
    head(b, family, openmetrics);
    buf_str(b, metrics[family].name);
    buf_str(b, metrics[family].kind == COUNTER ? "_total " : " ");
    buf_uint(b, value);
    buf_char(b, '\n');
}

static void own_info(struct buf *b, size_t family, bool openmetrics, const struct buf *labels)
{
    head(b, family, openmetrics);
    line(b, metrics[family].name, "_info", labels);
    buf_str(b, "1\n");
}

static void own_metrics(struct series_set *s, bool openmetrics, struct buf *b)
{
    struct buf *labels = &s->scratch;

    if (s->target.len)
        own_info(b, OWN_TARGET, openmetrics, &s->target);
    buf_reset(labels);
    label(labels, "version", SCOPE_VERSION, strlen(SCOPE_VERSION));
    own_info(b, OWN_BUILD, openmetrics, labels);
    own(b, OWN_PROCESSES, openmetrics, s->alive);
    own(b, OWN_STARTED, openmetrics, s->started);
    own(b, OWN_LINES, openmetrics, s->lines);
    own(b, OWN_OVERFLOW, openmetrics, s->overflowed);
    own(b, OWN_SCRAPES, openmetrics, s->scrapes);
    if (!s->lost_count)
        return;
    head(b, OWN_LOST, openmetrics);
    for (size_t i = 0; i < s->lost_count; i++) {
        buf_reset(labels);
        label(labels, "kind", s->lost[i].kind, strlen(s->lost[i].kind));
        line(b, metrics[OWN_LOST].name, "_total", labels);
        buf_uint(b, s->lost[i].count);
        buf_char(b, '\n');
    }
}

uint64_t series_text(struct series_set *s, bool openmetrics, uint64_t now_ms, struct buf *b)
{
    while (s->ended_first && s->ended_first->ended_at < s->seen && now_ms - s->ended_first->ended_ms >= SERIES_KEEP_MS)
        make_room(s);
    s->number++;
    own_metrics(s, openmetrics, b);
    for (enum family f = 0; f < FAMILIES; f++) {
        if (!s->in_family[f])
            continue;
        head(b, f, openmetrics);
        for (const struct group *g = s->first; g; g = g->next)
            for (struct series *m = g->series[f]; m; m = m->next)
                tell(s, g, f, m, b);
    }
    if (openmetrics)
        buf_str(b, "# EOF\n");
    return s->number;
}

void series_seen(struct series_set *s, uint64_t number)
{
    s->scrapes++;
    if (number > s->seen)
        s->seen = number;
}

bool series_news(const struct series_set *s)
{
    return s->any && s->changed >= s->seen;
}

/* --- life --- */

void series_target(struct series_set *s, const char *name, const char *value)
{
    const char *known;
    struct buf clean = BUF_INIT, found = BUF_INIT;

    if (!*name || (*name >= '0' && *name <= '9'))
        buf_char(&clean, '_');
    for (; *name; name++)
        buf_char(&clean, (char)((*name >= 'a' && *name <= 'z') || (*name >= 'A' && *name <= 'Z') ||
                                 (*name >= '0' && *name <= '9')
                             ? *name
                             : '_'));
    known = buf_cstr(&clean);
    while (known[0] == '_' && known[1] == '_') /* those are Prometheus's own */
        known++;
    buf_printf(&found, ",%s=\"", known);
    if (!strstr(buf_cstr(&s->target), buf_cstr(&found)) &&
        strncmp(s->target.p, found.p + 1, found.len - 1) != 0)
        label(&s->target, known, value, strlen(value));
    buf_free(&clean);
    buf_free(&found);
}

struct series_set *series_new(size_t lines)
{
    static const char overflow[] = "otel_metric_overflow=\"true\"";
    struct series_set *s = xcalloc(1, sizeof(*s));

    s->limit = lines;
    s->share = lines / SERIES_SHARE < SERIES_SHARE_LEAST ? SERIES_SHARE_LEAST : lines / SERIES_SHARE;
    buf_str(&s->scratch, overflow);
    s->overflow = group_new(s, &s->scratch, 0); /* in no slot: nobody has its labels */
    s->overflow->alive = 1;
    return s;
}

void series_free(struct series_set *s)
{
    while (s->first)
        group_free(s, s->first);
    for (size_t i = 0; i < SLOTS; i++)
        for (struct binding *b = s->bindings[i], *next; b; b = next) {
            next = b->same_slot;
            free(b);
        }
    for (size_t i = 0; i < s->class_count; i++)
        free((char *)s->classes[i]);
    for (size_t i = 0; i < s->lost_count; i++)
        free(s->lost[i].kind);
    buf_free(&s->target);
    buf_free(&s->scratch);
    free(s);
}
