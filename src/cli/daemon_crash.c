/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A crash, as the kernel hands it over: the process stands, and is there until its core has been read from the pipe,
 * or the pipe is closed. Nobody sees our output. Everything about the process is a stranger's and hostile; we are root.
 */
#include "cli/daemon.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/safe_path.h"
#include "cli/cli.h"
#include "cli/crash_store.h"
#include "cli/dying.h"
#include "config/config.h"
#include "crash/crash.h"
#include "crash/notes.h"
#include "inject/process.h"
#include "output/output.h"
#include "wire/segment.h"

#define HEAD_MAX (UINT64_C(64) << 20) /* of a core: program headers, notes */
#define HEAD_MS 30000                 /* until the kernel has written it: it reads some of it in the process */
#define SLOT_MS 10000u                /* for how long others wait */
#define TAKE_MS 30000u
#define CORE_MS 300000u
#define SEND_MS 10000u /* without any progress */
#define PIECE (1u << 20)
#define STEP_MS 20

struct head {
    int core; /* where the kernel writes it: no descriptor that a child would keep */
    struct buf bytes;
    uint64_t until; /* CLOCK_MONOTONIC, ms */
    size_t notes, notes_size;
};

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static int read_more(struct head *h, uint64_t size)
{
    if (size > HEAD_MAX)
        return -EFBIG;
    while (h->bytes.len < size) {
        size_t want = (size_t)size - h->bytes.len;
        struct pollfd pfd = {.fd = h->core, .events = POLLIN};
        uint64_t now = now_ms();
        ssize_t n;

        if (now >= h->until)
            return -ETIMEDOUT;
        if (poll(&pfd, 1, (int)(h->until - now)) <= 0)
            continue;
        n = read(h->core, buf_room(&h->bytes, want), want);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -ENODATA;
        h->bytes.len += (size_t)n;
    }
    return 0;
}

/* Up to the end of the notes. What has been read is in h->bytes in any case. */
static int read_head(struct head *h)
{
    Elf64_Ehdr e;
    Elf64_Phdr p;
    int rc = read_more(h, sizeof(e));

    if (rc < 0)
        return rc;
    memcpy(&e, h->bytes.p, sizeof(e));
    if (memcmp(e.e_ident, ELFMAG, SELFMAG) != 0 || e.e_ident[EI_CLASS] != ELFCLASS64 || e.e_type != ET_CORE ||
        e.e_phentsize != sizeof(p))
        return -ENOEXEC;                                /* of a 32-bit program */
    if ((rc = read_more(h, e.e_phoff + sizeof(p))) < 0) /* the first one: notes */
        return rc;
    memcpy(&p, h->bytes.p + e.e_phoff, sizeof(p));
    if (p.p_type != PT_NOTE || p.p_offset > HEAD_MAX || p.p_filesz > HEAD_MAX)
        return -ENOEXEC;
    rc = read_more(h, p.p_offset + p.p_filesz);
    h->notes = p.p_offset;
    h->notes_size = p.p_filesz;
    return rc;
}

/* Whether the collector of a session has been told of it by the thread itself, and has looked at it. */
static bool was_told(const struct dying *d)
{
    struct process_maps maps;
    bool told = false;

    if (process_maps(d->pid, &maps) < 0)
        return false;
    for (size_t i = 0; i < maps.count && !told; i++) {
        const struct process_map *m = &maps.v[i];
        struct seg_crash places[SEG_CRASHES];
        uint64_t magic;

        if (m->offset || !process_map_is_segment(m) || process_read(d->pid, m->lo, &magic, sizeof(magic)) < 0 ||
            magic != SEG_MAGIC ||
            process_read(d->pid, m->lo + offsetof(struct segment_header, crash), places, sizeof(places)) < 0)
            continue;
        for (size_t k = 0; k < SEG_CRASHES; k++)
            told |= places[k].state == CRASH_DONE && places[k].kind == CRASH_SIGNAL &&
                    places[k].pid == (uint32_t)d->own_pid && places[k].tid == (uint32_t)d->own_tid;
    }
    process_maps_free(&maps);
    return told;
}

static void find_cause(const struct dying *d, const struct head *h, struct crash_cause *ret)
{
    siginfo_t info;

    *ret = (struct crash_cause){.pid = d->pid, .tid = d->tid, .signo = d->signo};
    if (!h->notes_size || !notes_siginfo(h->bytes.p + h->notes, h->notes_size, &info))
        return;
    ret->code = info.si_code;
    ret->err = info.si_errno;
    if (info.si_code <= 0) {
        ret->sender = info.si_pid;
        ret->sender_uid = info.si_uid;
    } else {
        ret->addr = (uint64_t)(uintptr_t)info.si_addr;
    }
}

__attribute__((format(printf, 2, 3))) static void failed(struct crash_counts *counts, const char *fmt, ...)
{
    char text[sizeof(counts->last_error)];
    struct buf b = BUF_INIT;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    buf_visible(&b, text, strlen(text));
    snprintf(counts->last_error, sizeof(counts->last_error), "%s", buf_cstr(&b));
    buf_free(&b);
    counts->failed++;
}

/* Until the process is no longer needed; then the caller goes on with *ret, or it is NULL. */
static struct crash_job *take(const struct daemon_state *s, const struct dying *d, const struct head *h, int dir,
                              struct crash_summary *sum, struct crash_counts *counts)
{
    struct crash_wishes wishes = {.backtrace = true,
                                  .core = s->core,
                                  .core_max = s->core_max,
                                  .notes = h->bytes.p + h->notes,
                                  .notes_size = h->notes_size,
                                  .kernel_core = h->core};
    struct crash_cause cause;
    struct crash_job *job;

    if (!h->notes_size) {
        failed(counts, "%s (%d): not the core of a 64-bit program", d->comm, (int)d->pid);
        return NULL;
    }
    find_cause(d, h, &cause);
    job = crash_begin(&cause, &wishes, dir, 0, 0, s->core ? CORE_MS : TAKE_MS);
    if (!job) {
        failed(counts, "%s (%d): %s", d->comm, (int)d->pid, strerror(errno));
        return NULL;
    }
    while (crash_step(job, sum) == CRASH_BUSY) {
        struct pollfd pfd = {.fd = crash_fd(job), .events = POLLIN};

        poll(&pfd, 1, STEP_MS);
    }
    return job;
}

static void finish(struct crash_job *job, const struct dying *d, struct crash_summary *sum, struct crash_counts *counts)
{
    while (crash_step(job, sum) != CRASH_OVER) {
        struct pollfd pfd = {.fd = crash_fd(job), .events = POLLIN};

        poll(&pfd, 1, STEP_MS);
    }
    crash_free(job);
    if (sum->backtrace_error < 0 || sum->core_error < 0)
        failed(counts, "%s (%d): %s", d->comm, (int)d->pid, *sum->why ? sum->why : "something is missing");
    else
        counts->kept++;
}

/* --- sending --- */

static int send_piece(struct output *o, const char *bytes, size_t size)
{
    while (!output_write(o, bytes, size))
        if (!output_wait(o, SEND_MS))
            return -ETIMEDOUT;
    return 0;
}

static char *read_file(int dir, const char *name, size_t *ret_size)
{
    int fd = safe_read_at(dir, name);
    struct buf b = BUF_INIT;
    ssize_t n = 0;

    if (fd < 0)
        return NULL;
    while (b.len < HEAD_MAX && (n = read(fd, buf_room(&b, 65536), 65536)) > 0)
        b.len += (size_t)n;
    close(fd);
    *ret_size = b.len;
    return b.p;
}

/* {"DIRECTORY/FILE":...}: the object of a .json, else an array of lines. */
static int send_text(struct output *o, int dir, const char *name, const char *file, bool json)
{
    struct buf b = BUF_INIT;
    size_t size = 0;
    char *text = read_file(dir, file, &size);
    int rc;

    if (!text)
        return 0;                              /* it isn't there, which the counts tell */
    buf_printf(&b, "{\"%s/%s\":", name, file); /* both have nothing that JSON would escape */
    if (json) {
        while (size && (text[size - 1] == '\n' || text[size - 1] == ' '))
            size--;
        for (size_t i = 0; i < size; i++)
            buf_char(&b, (char)(text[i] == '\n' ? ' ' : text[i])); /* between values: in strings it is escaped */
    } else {
        const char *sep = "[";

        for (size_t at = 0; at < size;) {
            size_t n = 0;

            while (at + n < size && text[at + n] != '\n')
                n++;
            buf_str(&b, sep);
            buf_json(&b, text + at, n);
            sep = ",";
            at += n + 1;
        }
        buf_str(&b, *sep == '[' ? "[]" : "]");
    }
    buf_str(&b, "}\n");
    rc = send_piece(o, b.p, b.len);
    buf_free(&b);
    free(text);
    return rc;
}

/* For each piece that isn't a hole {"DIRECTORY/core":{"size":OF THE FILE,"at":OFFSET,"bytes":N}}, N bytes as they are,
 * and a newline. */
static int send_core(struct output *o, int dir, const char *name)
{
    int fd = safe_read_at(dir, "core"), rc = 0;
    char line[256], *piece;
    struct stat st;

    if (fd < 0)
        return 0;
    if (fstat(fd, &st) < 0) {
        close(fd);
        return -EIO;
    }
    piece = xmalloc(PIECE + 1);
    for (off_t at = 0, end; rc == 0 && (at = lseek(fd, at, SEEK_DATA)) >= 0; at = end) {
        ssize_t n;

        end = lseek(fd, at, SEEK_HOLE);
        if (end < 0 || end - at > (off_t)PIECE)
            end = at + (off_t)PIECE;
        n = pread(fd, piece, (size_t)(end - at), at);
        if (n <= 0) {
            rc = -EIO;
            break;
        }
        end = at + n;
        piece[n] = '\n';
        snprintf(line, sizeof(line), "{\"%s/core\":{\"size\":%lld,\"at\":%lld,\"bytes\":%zd}}\n", name,
                 (long long)st.st_size, (long long)at, n);
        rc = send_piece(o, line, strlen(line));
        rc = rc ? rc : send_piece(o, piece, (size_t)n + 1);
    }
    free(piece);
    close(fd);
    return rc;
}

static int send_files(const struct daemon_state *s, int dir, const char *name)
{
    struct event_base *base = event_base_new();
    struct cfg_transport t;
    struct output *o;
    const char *why;
    int rc = -ENOMEM;

    if (!base)
        return rc;
    rc = cfg_transport_parse(s->filedest, false, &t, &why);
    if (rc == 0) {
        o = output_get_own(base, &t);
        rc = send_text(o, dir, name, "snapshot.json", true);
        rc = rc ? rc : send_text(o, dir, name, "backtrace.txt", false);
        if (rc == 0 && s->send_core)
            rc = send_core(o, dir, name);
        if (rc == 0 && !output_wait(o, SEND_MS))
            rc = -ETIMEDOUT;
        output_abandon(o);
        output_put(o);
        cfg_transport_clear(&t);
    }
    event_base_free(base);
    return rc;
}

/* --- */

/* The core to who had it before us, if anybody; then the process is let go. */
static void hand_on(const struct daemon_state *s, const struct dying *d, const struct head *h,
                    struct crash_counts *counts)
{
    struct heir heir;
    int rc = heir_start(d, s->previous, &heir);

    if (rc == 0 && heir.pid) {
        rc = heir_feed(&heir, h->bytes.p, h->bytes.len, h->core);
        heir_end(&heir);
    }
    close(h->core);
    if (rc < 0 && rc != -EPIPE && rc != -ESRCH) /* it wants no more; doubt has been told */
        failed(counts, "%s (%d): handing its core on: %s", d->comm, (int)d->pid, strerror(-rc));
}

/* Of a process with another one's number nothing is kept, nor of one that is gone. */
static bool is_doubtful(const struct dying *d, const struct head *h, struct crash_counts *counts)
{
    const char *why = d->doubt ? d->doubt : dying_stands(h->core) ? NULL : "it went away before it could be looked at";

    if (why)
        failed(counts, "%s (%d): %s", d->comm, (int)d->pid, why);
    return why;
}

static void keep(const struct daemon_state *s, const struct dying *d, const struct head *h, struct crash_counts *counts)
{
    char name[128], *why = NULL;
    enum crash_store_why limit;
    struct crash_summary sum = {0};
    struct crash_job *job = NULL;
    int store = safe_dir(s->dir, SAFE_OURS, 0700, &why), slot = -1, dir = -1, rc;
    unsigned removed = 0;
    bool full = false, told = !d->doubt && was_told(d);

    free(why);
    if (store < 0) { /* counts have no place either */
        hand_on(s, d, h, counts);
        return;
    }
    if (is_doubtful(d, h, counts)) {
        /* handed on to a program, at most */
    } else if (told) {
        counts->told++;
    } else if ((rc = crash_store_make(store, d->pid, d->uid, d->comm, s->rate, name, &limit)) < 0) {
        if (limit == STORE_FAILED)
            failed(counts, "%s: %s", s->dir, strerror(-rc));
        else
            counts->limited++;
        full = limit == STORE_FULL;
    } else {
        dir = rc;
        slot = crash_store_slot(store, d->uid, SLOT_MS);
        if (slot >= 0)
            job = take(s, d, h, dir, &sum, counts);
        else
            counts->busy++;
        if (!job)
            safe_remove_tree(store, name, NULL);
        if (slot >= 0)
            crash_store_free_slot(slot); /* who gets the core may take long */
    }
    hand_on(s, d, h, counts);
    if (job) {
        finish(job, d, &sum, counts);
        if (unlinkat(store, name, AT_REMOVEDIR) == 0) {
            /* there is nothing in it: it went away while it was looked at */
        } else if (s->filedest && (rc = send_files(s, dir, name)) < 0)
            failed(counts, "%s: %s", s->filedest, strerror(-rc));
    }
    if (job || full) {
        if (crash_store_trim(store, s->keep_ns, s->keep_bytes, &removed) == 0)
            counts->removed += removed;
    }
    crash_store_count(store, counts);
    if (dir >= 0)
        close(dir);
    close(store);
}

/* Numbers only, all of them the kernel's. */
static bool parse(char **words, int count, struct dying *ret)
{
    uint64_t v[8];

    if (count != 8)
        return false;
    for (int i = 0; i < count; i++) {
        char *end;

        errno = 0;
        v[i] = strtoull(words[i], &end, 10);
        if (errno || end == words[i] || *end || *words[i] == '-' || (i != 5 && i != 6 && v[i] > UINT32_MAX))
            return false;
    }
    *ret = (struct dying){.pid = (pid_t)v[0],
                          .tid = (pid_t)v[1],
                          .uid = (uid_t)v[2],
                          .gid = (gid_t)v[3],
                          .signo = (int)v[4],
                          .time = (int64_t)v[5],
                          .limit = v[6],
                          .mode = (int)v[7]};
    return ret->pid > 0 && ret->tid > 0;
}

int daemon_crash(char **words, int count)
{
    struct crash_counts counts = {0};
    struct daemon_state s;
    struct head h = {0};
    struct dying d;
    struct stat st;
    int rc;

    if (geteuid() != 0 || !parse(words, count, &d) || fstat(STDIN_FILENO, &st) < 0 || !S_ISFIFO(st.st_mode)) {
        cli_error("only the kernel starts this");
        return EXIT_USAGE;
    }
    h.core = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    if (h.core < 0)
        return EXIT_FAILED;
    close(STDIN_FILENO);
    if (open("/dev/null", O_RDONLY) < 0)
        return EXIT_FAILED;
    signal(SIGPIPE, SIG_IGN);
    umask(077);
    h.until = now_ms() + HEAD_MS;
    dying_read(&d, h.core);
    if (daemon_load(&s) < 0)
        return EXIT_FAILED; /* removed a moment ago */
    rc = read_head(&h);
    if (rc < 0 && rc != -ENOEXEC) {
        h.notes_size = 0;
        failed(&counts, "%s (%d): the kernel's core: %s", d.comm, (int)d.pid, strerror(-rc));
    }
    keep(&s, &d, &h, &counts);
    buf_free(&h.bytes);
    dying_clear(&d);
    daemon_clear(&s);
    return 0;
}
