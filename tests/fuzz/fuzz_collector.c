/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the whole collector but its event loop: the input is a program of what
 * several processes do at once, whether a probe would or not. They join, fork,
 * exec, die, write records of all kinds into their rings and those of others,
 * scribble over their segments, and time passes. Whatever it is, the collector
 * must neither crash nor hang nor leak. First byte: configuration; then steps,
 * each a byte and its arguments (what isn't there is 0).
 *
 *   0..5  a record of a system call or of data    8   ring_head goes on, or anywhere
 *   6     ... with wild arguments                 9   the collector reads and works
 *   7     8 bytes of a segment change             10  a segment is handed over: by whom, how it starts
 *   11    a process dies                          12  time passes
 *   13    counters of a descriptor go on          14  a process is left, or gets another configuration
 *   15    a record is spoilt when it is written
 *
 * "fuzz_collector --seeds DIRECTORY" of a build with -DFUZZ_MAIN writes the seeds of fuzz_collector.corpus; without
 * arguments it tries random inputs, with others it replays files.
 */
#include <dirent.h>
#include <netinet/in.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/log.h"
#include "../unit/collector_fake.h"

#define WRITERS 6u
#define NOBODY 4100000u /* no such process: above the kernel's usual pid_max, below its limit */
#define STEPS_MAX 2048

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    const uint8_t *p;
    size_t left;
};

static uint64_t take(struct input *in, unsigned bytes)
{
    uint64_t v = 0;

    while (bytes--) {
        v = v << 8 | (in->left ? *in->p : 0);
        if (in->left) {
            in->p++;
            in->left--;
        }
    }
    return v;
}

/* --- what there is --- */

static const struct {
    const char *variables[8];
} setups[] = {
    {{"SCOPE_EVENT_ENABLE=true", "SCOPE_EVENT_SYSCALL=true", NULL}},
    {{"SCOPE_EVENT_ENABLE=true", "SCOPE_METRIC_VERBOSITY=9", NULL}},
    {{"SCOPE_EVENT_ENABLE=false", "SCOPE_METRIC_VERBOSITY=4", NULL}},
    {{"SCOPE_EVENT_ENABLE=true", "SCOPE_ENHANCE_FS=true", "SCOPE_EVENT_LOGFILE=true", "SCOPE_EVENT_CONSOLE=true", NULL}},
    {{"SCOPE_EVENT_ENABLE=true", "SCOPE_PAYLOAD_ENABLE=true", NULL}}, /* into a directory: see below */
};
#define SETUPS (sizeof(setups) / sizeof(setups[0]))

static struct config_sources *configs[SETUPS];
static char payload_dir[64];
static pid_t someone; /* a process that lives: of others there is nothing in /proc */

static void remove_payloads(void)
{
    DIR *dir = opendir(payload_dir);
    char path[400];

    for (struct dirent *d; dir && (d = readdir(dir));) {
        snprintf(path, sizeof(path), "%s/%s", payload_dir, d->d_name);
        unlink(path);
    }
    if (dir)
        closedir(dir);
}

static void tidy_up(void)
{
    kill(someone, SIGKILL);
    remove_payloads();
    rmdir(payload_dir);
}

static void prepare(void)
{
    log_setup(stderr, LOGL_NONE, NULL);
    told_only = "nothing is kept";
    snprintf(payload_dir, sizeof(payload_dir), "/tmp/scope-fuzz-collector-XXXXXX");
    if (!mkdtemp(payload_dir))
        abort();
    someone = fork();
    if (someone == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            pause();
    }
    atexit(tidy_up);
    for (size_t i = 0; i < SETUPS; i++) {
        configs[i] = config_sources_new();
        config_add_environ(configs[i], setups[i].variables, NULL, NULL);
        config_set(configs[i], "payload.dir", payload_dir, "fuzz", NULL, NULL);
    }
}

/* Few numbers, so that they meet. */
static uint32_t pid_of(unsigned n)
{
    n %= 12;
    return n == 11 ? (uint32_t)someone : n == 10 ? 0 : n == 9 ? 1 : NOBODY + n;
}

static const struct {
    const char *p;
    size_t len;
} texts[] = {
#define S(s) {s, sizeof(s) - 1}
    S("GET /index HTTP/1.1\r\nHost: a\r\n\r\n"),
    S("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"),
    S("HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"),
    S("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"),
    S("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"),
    S("\0\0\3\1\5\0\0\0\1\x82\x86\x84"),
    S("\x12\x34\1\0\0\1\0\0\0\0\0\0\1a\2bc\0\0\1\0\1"),
    S("\x12\x34\x81\x80\0\1\0\1\0\0\0\0\1a\2bc\0\0\1\0\1\xc0\x0c\0\1\0\1\0\0\0\1\0\4\1\2\3\4"),
    S("\x16\3\1\0\x2b\1\0\0\x27\3\3ABCDEFGHIJKLMNOPQRSTUVWXYZ012345\0\0\2\0\x2f\1\0"),
    S("a.b:1|c|#x:y\n"),
    S("/dev/null"), S("/etc/passwd"), S("rel/ative"), S("../.."), S("."), S("/proc/self/exe"), S("x.log"), S(""),
#undef S
};
#define TEXTS (sizeof(texts) / sizeof(texts[0]))

union any {
    uint8_t bytes[512];
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct rec_stat st;
    struct rec_fd fds[16];
    struct rec_counters counters;
    struct rec_usage usage;
    struct rec_sites sites;
    int32_t status;
};

static struct item make_item(struct input *in, union any *u)
{
    unsigned type = (unsigned)take(in, 1), how = (unsigned)take(in, 1);
    size_t len = 0;

    memset(u, 0, sizeof(*u));
    type = type < 128 ? type % 14 : ITEM_PATH + (type & 1) * (ITEM_DATA - ITEM_PATH);
    switch (type) {
    case ITEM_ADDR: case ITEM_LOCAL:
        u->in = (struct sockaddr_in){.sin_family = how & 1 ? AF_INET : AF_INET6, .sin_port = htons(how & 2 ? 53 : 80),
                                     .sin_addr = {htonl(0x7f000001)}};
        len = how & 1 ? sizeof(u->in) : sizeof(u->in6);
        break;
    case ITEM_STAT: u->st.mode = how & 1 ? S_IFDIR : S_IFREG; u->st.ino = how; len = sizeof(u->st); break;
    case ITEM_STATUS: u->status = (int32_t)how; len = sizeof(u->status); break;
    case ITEM_USAGE: u->usage.cpu_us = how; len = sizeof(u->usage); break;
    case ITEM_SITES: u->sites.key[0] = (char)how; len = sizeof(u->sites); break;
    case ITEM_COUNTERS:
        u->counters = (struct rec_counters){.fd = (int32_t)(how % 16), .gen = (uint32_t)take(in, 1) % 8, .state = (uint32_t)how,
                                            .read_bytes = take(in, 1), .read_ops = 1, .write_bytes = take(in, 1)};
        len = sizeof(u->counters);
        break;
    case ITEM_FDS:
        for (unsigned i = 0; i < how % 16; i++)
            u->fds[i] = (struct rec_fd){(int32_t)(take(in, 1) % 16), (uint32_t)take(in, 1) % 8, take(in, 1) % 4};
        len = how % 16 * sizeof(struct rec_fd);
        break;
    default:
        if (how < 192) {
            len = texts[how % TEXTS].len;
            memcpy(u->bytes, texts[how % TEXTS].p, len);
        } else {
            len = (how & 63) * 8;
            for (size_t i = 0; i < len; i++)
                u->bytes[i] = (uint8_t)take(in, 1);
        }
    }
    if (type > 13)
        type = ITEM_DATA;
    return (struct item){(enum item_type)type, u->bytes, len};
}

/* --- what is done --- */

/* Positions, ids and descriptors small and alike; wild: anything. */
static bool put(struct writer *w, struct input *in, bool wild)
{
    static const enum rec_kind kinds[] = {REC_CALL, REC_CALL, REC_CALL, REC_ENTER, REC_ENTER, REC_DATA, REC_DATA, REC_IMAGE,
                                          REC_NOTE, REC_UPGRADE, REC_SOCKET, REC_PAD, (enum rec_kind)0, (enum rec_kind)200};
    enum rec_kind kind = kinds[take(in, 1) % (sizeof(kinds) / sizeof(kinds[0]))];
    unsigned op = (unsigned)take(in, 1) % (OP_MAX + 2), who = (unsigned)take(in, 1), n = (unsigned)take(in, 1);
    uint8_t flags = (uint8_t)take(in, 1);
    int64_t ret = wild ? (int64_t)take(in, 8) : (int8_t)take(in, 1);
    struct item items[4] = {{0}};
    union any u[3];
    uint64_t args[6];

    for (int i = 0; i < 6; i++)
        args[i] = wild ? take(in, 8) : n >> 2 & 1u << i ? take(in, 1) % 24 : 0;
    if (!wild && (n >> 2 & 1) == 0 && op_table[op < OP_MAX ? op : 0].paths)
        args[0] = (uint64_t)AT_FDCWD;
    if (!wild && who >= 128) /* the result is a process */
        ret = pid_of((unsigned)ret);
    for (unsigned i = 0; i < (n & 3); i++)
        items[i] = make_item(in, &u[i]);
    w->pid = who % 4 ? w->owner : pid_of(who >> 2);
    return writer_put(w, kind, (enum op_id)op, ret, args, flags, items);
}

/* The state of everything is made older. */
static void time_passes(struct collector *c)
{
    for (struct segment *seg = c->segments; seg; seg = seg->next) {
        seg->map.ring.stalled_ns = seg->map.ring.stalled_ns ? 1 : 0;
        seg->map.ring.search_ns = 0;
        seg->left_ns = seg->left_ns ? 1 : 0;
        seg->held_until = 1;
    }
    for (struct proc *p = c->model.procs; p; p = p->next) {
        p->death_mono = p->death_mono ? 1 : 0;
        p->next_summary = p->next_look = 0;
        if (p->pending_exec)
            p->exec_ns = 1;
    }
    c->next_check = 0;
}

static void work(struct collector *c, unsigned how)
{
    segments_drain(c, true);
    if (how & 1)
        c->next_check = 0;
    core_turn(c);
    core_process(c, how & 2 ? 0 : UINT64_MAX);
}

static struct proc *nth(struct collector *c, unsigned n)
{
    struct proc *p = c->model.procs;

    for (n %= 8; p && p->next && n; n--)
        p = p->next;
    return p;
}

static void hand_over(struct collector *c, struct writer *w, struct input *in)
{
    static const enum seg_start starts[] = {SEG_START_EXEC, SEG_START_FORK, SEG_START_ATTACH, (enum seg_start)77};
    unsigned how = (unsigned)take(in, 1);
    uint32_t pid = pid_of((unsigned)take(in, 1)), host = how & 64 ? pid_of((unsigned)take(in, 1)) : pid;

    if (w->h && how & 32) { /* once more, and what it holds now */
        fake_join(c, w->fd, (pid_t)host);
        return;
    }
    if (w->h)
        writer_free(w);
    *w = writer_new(pid, starts[how & 3], "fuzz\0-x", 8);
    w->h->ppid = pid_of(how >> 2);
    if (how & 16)
        w->h->cwd[0] = w->h->exe[0] = '\0';
    fake_join(c, w->fd, (pid_t)host);
}

static void spoil(struct writer *w, struct input *in)
{
    uint64_t head = w->h->ring_head, v = take(in, 2);
    struct record *r;

    if (!put(w, in, false) || w->h->ring_head == head)
        return;
    r = writer_cell(w, head);
    switch (v >> 8 & 3) {
    case 0: r->seq = 0; break; /* never committed */
    case 1: r->size = (uint32_t)(v & 0xff) * 16; break;
    case 2: r->time = take(in, 8); break;
    case 3: r->ticks = take(in, 8); r->flags |= REC_F_TIMED; break;
    }
}

static void step(struct collector *c, struct writer ws[WRITERS], struct input *in)
{
    unsigned what = (unsigned)take(in, 1);
    struct writer *w = &ws[(what >> 4) % WRITERS];
    struct proc *p;
    uint64_t at;

    what %= 16;
    if (!w->h && (what < 9 || what == 13 || what == 15))
        what = 10;
    switch (what) {
    default: put(w, in, false); break;
    case 6: put(w, in, true); break;
    case 7:
        at = take(in, 3);
        at = at < 1 << 23 ? at % offsetof(struct segment_header, tls) : at % (w->size - 8);
        if (at + 8 <= w->size)
            memcpy((char *)w->h + at, &(uint64_t){take(in, 8)}, 8);
        break;
    case 8:
        at = take(in, 2);
        w->h->ring_head = at & 1 ? at << (at >> 8) % 48 : w->h->ring_head + (at >> 1) % 512;
        break;
    case 9: work(c, (unsigned)take(in, 1)); break;
    case 10: hand_over(c, w, in); break;
    case 11:
        p = nth(c, (unsigned)take(in, 1));
        if (p)
            proc_died(p);
        break;
    case 12: time_passes(c); break;
    case 13:
        at = take(in, 2);
        writer_fd(w, at % 16)->read_bytes += at >> 4 & 0xff;
        writer_fd(w, at % 16)->write_bytes += at >> 8;
        writer_fd(w, at % 16)->read_ops++;
        writer_fd(w, at % 16)->gen += at >> 15;
        break;
    case 14:
        at = take(in, 1);
        p = nth(c, (unsigned)at >> 1);
        if (at & 1)
            core_leave(c, (pid_t)pid_of((unsigned)at >> 1));
        else if (p && p->pl && !p->dead)
            p->config = configs[(at >> 4) % SETUPS];
        break;
    case 15: spoil(w, in); break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct collector_options options = {.listen_fd = -1, .ready_fd = -1};
    struct writer ws[WRITERS] = {{0}};
    struct input in = {data, size};
    static struct collector c;
    unsigned setup;

    if (!configs[0])
        prepare();
    setup = (unsigned)take(&in, 1) % SETUPS;
    options.config = configs[setup];
    core_init(&c, &options, NULL);
    for (int steps = 0; in.left && steps < STEPS_MAX; steps++)
        step(&c, ws, &in);
    work(&c, 1);
    core_end(&c);
    core_free(&c);
    for (unsigned i = 0; i < WRITERS; i++)
        if (ws[i].h)
            writer_free(&ws[i]);
    told_clear();
    if (c.records && setup == SETUPS - 1)
        remove_payloads();
    return 0;
}

#ifdef FUZZ_MAIN
/* --- seeds --- */

static FILE *seed;

static void begin_seed(const char *dir, const char *name, unsigned setup)
{
    char path[400];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    seed = fopen(path, "wb");
    if (!seed)
        abort();
    fputc((int)setup, seed);
}

#define BYTES(...) fwrite((const uint8_t[]){__VA_ARGS__}, 1, sizeof((const uint8_t[]){__VA_ARGS__}), seed)
#define JOIN(writer, who) BYTES((writer) << 4 | 10, 0, who)
#define WORK() BYTES(9, 1)
/* kind: index of put()'s table; who, n, ret as there */
#define RECORD(writer, kind, op, who, n, flags, ret, ...) BYTES((writer) << 4, kind, op, who, n, flags, ret, __VA_ARGS__)
#define GUEST(n) ((n) << 2)

static void write_seeds(const char *dir)
{
    /* A child has taken what was there to inherit from a fork; the fork returns with another. */
    begin_seed(dir, "fork-taken-twice", 0);
    JOIN(0, 0);
    WORK();
    RECORD(0, 3, OP_fork, 1, 0, 0, 0, 9, 1);
    RECORD(0, 0, OP_unlink, GUEST(1), 1, REC_F_BORROWED, 0, ITEM_PATH, 12);
    RECORD(0, 0, OP_fork, 129, 0, 0, 2, 9, 1);
    RECORD(0, 0, OP_unlink, GUEST(2), 1, REC_F_BORROWED, 0, ITEM_PATH, 12);
    WORK();
    fclose(seed);
    /* A child has moved to a ring of its own, and goes on forking in the old one. */
    begin_seed(dir, "fork-after-upgrade", 0);
    JOIN(0, 11);
    WORK();
    RECORD(0, 3, OP_fork, 1, 0, 0, 0, 9, 1);
    RECORD(0, 3, OP_fork, GUEST(1), 0, REC_F_BORROWED, 0, 9, 1);
    RECORD(0, 0, OP_unlink, GUEST(2), 1, REC_F_BORROWED, 0, ITEM_PATH, 12);
    RECORD(0, 9, OP_NONE, GUEST(1), 0, REC_F_BORROWED, 0, 9, 1);
    RECORD(0, 0, OP_fork, 128 + GUEST(1), 0, REC_F_BORROWED, 2, 9, 1);
    WORK();
    fclose(seed);
    /* An HTTP exchange, with payloads. */
    begin_seed(dir, "http", SETUPS - 1);
    JOIN(0, 0);
    RECORD(0, 0, OP_socket, 1, 0x0c | 0x80, 0, 4, 2, 1, 1);
    RECORD(0, 0, OP_connect, 1, 0x04 | 1, 0, 0, 4, ITEM_ADDR, 1);
    RECORD(0, 5, OP_sendto, 1, 0x24 | 0x80 | 1, 0, 32, 4, DATA_TX, 1, 132, 0);
    RECORD(0, 5, OP_recvfrom, 1, 0x24 | 0x80 | 1, 0, 42, 4, DATA_RX, 1, 132, 1);
    WORK();
    BYTES(11, 0, 12, 9, 1);
    fclose(seed);
    /* Two processes; one execs, the other is left; reservations that stay. */
    begin_seed(dir, "lives", 1);
    JOIN(0, 0);
    JOIN(1, 1);
    RECORD(0, 3, OP_execve, 1, 1, 0, 0, ITEM_PATH, 11);
    BYTES(8, 2, 0, 0x18, 2, 0);
    JOIN(2, 0);
    WORK();
    BYTES(14, 3, 12, 9, 1, 11, 0, 11, 1, 12, 9, 1);
    fclose(seed);
}

static int replay(const char *name)
{
    static uint8_t data[1 << 20];
    FILE *f = fopen(name, "rb");
    size_t n;

    if (!f) {
        perror(name);
        return 1;
    }
    n = fread(data, 1, sizeof(data), f);
    fclose(f);
    return LLVMFuzzerTestOneInput(data, n);
}

int main(int argc, char **argv)
{
    uint64_t state = UINT64_C(0x2545f4914f6cdd1d);
    uint8_t data[2048];
    int ret = 0;

    if (argc == 3 && !strcmp(argv[1], "--seeds")) {
        write_seeds(argv[2]);
        return 0;
    }
    for (int i = 1; i < argc; i++)
        ret |= replay(argv[i]);
    for (int round = 0; argc < 2 && round < 2000; round++) {
        for (size_t i = 0; i < sizeof(data); i++) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            data[i] = (uint8_t)(state >> 24);
        }
        ret |= LLVMFuzzerTestOneInput(data, sizeof(data));
    }
    return ret;
}
#endif
