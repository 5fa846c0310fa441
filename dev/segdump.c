/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shows what is in a shared segment: header, descriptors and the records that
 * are in the ring, read or not. For looking at a process in which something
 * went wrong, or at a copy of its segment:
 *
 *   segdump PID                the segment of a running process (the newest, if it has several)
 *   segdump FILE               a copy, as `cp /proc/PID/map_files/... FILE` or a core dump gives
 *
 * Reads only; the collector doesn't notice.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "wire/record.h"
#include "wire/segment.h"

static uint8_t *seg;
static size_t seg_size;

static const char *const kind_name[] = {"?", "pad", "call", "enter", "data", "image", "note", "upgrade"};
static const char *const item_name[] = {"?",        "path", "path2", "addr", "local", "data",
                                        "counters", "fds",  "stat",  "link", "status"};
static const char *const fd_name[] = {"unknown", "socket",  "file",     "dir",     "pipe", "epoll",    "eventfd",
                                      "timerfd", "signalfd", "inotify", "memfd", "io_uring", "pidfd", "other"};
static const char *const loss_name[LOSS_MAX] = {"records", "data bytes", "numbers", "slots", "arguments"};

static int complain(const char *what)
{
    fprintf(stderr, "segdump: %s: %s\n", what, strerror(errno));
    return 1;
}

/* Copies [lo, hi) of a process's memory, or all of a file. */
static int load(int fd, uint64_t lo, uint64_t hi)
{
    size_t done = 0;
    ssize_t n;

    seg_size = (size_t)(hi - lo);
    seg = calloc(1, seg_size + sizeof(struct record));
    if (!seg)
        return -1;
    while (done < seg_size && (n = pread(fd, seg + done, seg_size - done, (off_t)(lo + done))) > 0)
        done += (size_t)n;
    return done == seg_size ? 0 : -1;
}

static int load_process(const char *pid)
{
    char path[64], line[4400], *end;
    uint64_t lo, hi, best_lo = 0, best_hi = 0, ino, best = 0;
    FILE *maps;
    int fd, ret;

    snprintf(path, sizeof(path), "/proc/%s/maps", pid);
    maps = fopen(path, "r");
    if (!maps)
        return -1;
    while (fgets(line, sizeof(line), maps)) {
        /* inode numbers of memfds grow: the newest is the one in use */
        if (!strstr(line, "/memfd:" SEG_NAME " "))
            continue;
        lo = strtoull(line, &end, 16); /* proc(5): lo-hi perms offset device inode name */
        hi = strtoull(end + 1, &end, 16);
        for (int i = 0; i < 4 && end; i++)
            end = strchr(end + 1, ' ');
        ino = end ? strtoull(end, NULL, 10) : 0;
        if (ino >= best) {
            best = ino;
            best_lo = lo;
            best_hi = hi;
        }
    }
    fclose(maps);
    if (!best_hi) {
        errno = ENOENT;
        return -1;
    }
    snprintf(path, sizeof(path), "/proc/%s/mem", pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ret = load(fd, best_lo, best_hi);
    close(fd);
    return ret;
}

static int load_file(const char *name)
{
    int fd = open(name, O_RDONLY | O_CLOEXEC), ret;
    struct stat st;

    if (fd < 0 || fstat(fd, &st))
        return -1;
    if (st.st_size < (off_t)sizeof(struct segment_header)) {
        errno = EINVAL;
        return -1;
    }
    ret = load(fd, 0, (uint64_t)st.st_size);
    close(fd);
    return ret;
}

static void text(const uint8_t *p, size_t len)
{
    putchar('"');
    for (size_t i = 0; i < len && i < 200; i++) {
        if (isprint(p[i]) && p[i] != '"' && p[i] != '\\')
            putchar(p[i]);
        else
            printf("\\x%02x", p[i]);
    }
    printf(len > 200 ? "\"..." : "\"");
}

static void print_items(const uint8_t *p, size_t len)
{
    struct rec_item item;

    while (len >= sizeof(item)) {
        size_t whole;

        memcpy(&item, p, sizeof(item));
        p += sizeof(item);
        len -= sizeof(item);
        if (item.len > len) {
            printf("\n    item %u: %u bytes, but %zu are left", item.type, item.len, len);
            return;
        }
        printf("\n    %s ", item.type < sizeof(item_name) / sizeof(item_name[0]) ? item_name[item.type] : "?");
        if (item.type == ITEM_COUNTERS && item.len >= sizeof(struct rec_counters)) {
            struct rec_counters c;

            memcpy(&c, p, sizeof(c));
            printf("fd %d gen %u read %" PRIu64 "/%" PRIu64 " written %" PRIu64 "/%" PRIu64, c.fd, c.gen, c.read_bytes,
                   c.read_ops, c.write_bytes, c.write_ops);
        } else {
            text(p, item.len);
        }
        whole = (item.len + 7u) & ~(size_t)7;
        if (whole > len)
            return;
        p += whole;
        len -= whole;
    }
}

static void print_record(uint64_t pos, const struct record *r, bool read)
{
    printf("%10" PRIu64 "%c %-7s", pos, read ? ' ' : '*',
           r->kind < sizeof(kind_name) / sizeof(kind_name[0]) ? kind_name[r->kind] : "?");
    if (r->kind == REC_PAD) {
        printf(" %u bytes\n", r->size);
        return;
    }
    printf(" %s pid %u tid %u ret %" PRId64 " flags %#x time %" PRIu64, r->op < OP_MAX ? op_name(r->op) : "?", r->pid,
           r->tid, r->ret, r->flags, r->time);
    if (r->flags & REC_F_TIMED)
        printf(" ticks %" PRIu64, r->ticks);
    printf(" args");
    for (int i = 0; i < 6; i++)
        printf(" %" PRIx64, r->arg[i]);
    print_items((const uint8_t *)(r + 1), r->size - sizeof(*r));
    putchar('\n');
}

static void print_ring(const struct segment_header *h)
{
    uint64_t head = h->ring_head, first = head > h->ring_cells ? head - h->ring_cells : 0;
    unsigned gaps = 0;

    printf("records (* not yet read by the collector)\n");
    for (uint64_t pos = first; pos < head;) {
        size_t at = h->ring_off + (size_t)(pos % h->ring_cells) * RING_CELL;
        struct record r = {0};
        uint32_t room = (uint32_t)(h->ring_cells - pos % h->ring_cells) * RING_CELL;

        memcpy(&r, seg + at, room < sizeof(r) ? room : sizeof(r));
        if (r.seq != pos + 1 || r.size < 16 || r.size > room || (r.kind != REC_PAD && r.size < sizeof(r))) {
            gaps++; /* overwritten, being written, or never committed */
            pos++;
            continue;
        }
        if (gaps && pos - gaps != first)
            printf("%10" PRIu64 "  %u cells that hold no committed record\n", pos - gaps, gaps);
        gaps = 0;
        print_record(pos, (const struct record *)(const void *)(seg + at), pos < h->ring_tail);
        pos += (r.size + RING_CELL - 1) / RING_CELL;
    }
    if (gaps)
        printf("%10" PRIu64 "  %u cells reserved but not committed\n", head - gaps, gaps);
}

static void print_header(const struct segment_header *h)
{
    printf("version %u, start by %s, %" PRIu64 " bytes, clock %u\n", h->version,
           h->start == SEG_START_EXEC ? "exec" : h->start == SEG_START_FORK ? "fork" : h->start == SEG_START_ATTACH ? "attach" : "?", h->seg_size, h->clock);
    printf("pid %u ppid %u uid %u gid %u\nexe ", h->pid, h->ppid, h->uid, h->gid);
    text((const uint8_t *)h->exe, strnlen(h->exe, sizeof(h->exe)));
    printf("\ncwd ");
    text((const uint8_t *)h->cwd, strnlen(h->cwd, sizeof(h->cwd)));
    printf("\nargv ");
    text((const uint8_t *)h->argv, h->argv_len < sizeof(h->argv) ? h->argv_len : sizeof(h->argv));
    printf("\nmode %#x heartbeat %" PRIu64 " ms\nring head %" PRIu64 " tail %" PRIu64 " of %u cells\n", h->mode,
           h->heartbeat, h->ring_head, h->ring_tail, h->ring_cells);
    printf("images %u sites patched %u left %u\n", h->images, h->sites_patched, h->sites_left);
    for (int i = 0; i < LOSS_MAX; i++)
        if (h->loss[i])
            printf("lost %s: %" PRIu64 "\n", loss_name[i] ? loss_name[i] : "?", h->loss[i]);
    for (int i = 1; i < OP_MAX; i++)
        if (h->op[i].calls || h->op[i].ebadf)
            printf("uncounted calls: %s %" PRIu64 " (EBADF %" PRIu64 ")\n", op_name(i), h->op[i].calls, h->op[i].ebadf);
}

static void print_fds(const struct segment_header *h)
{
    uint64_t high = h->fd_high < h->fd_cap ? h->fd_high : h->fd_cap;

    printf("descriptors\n");
    for (uint64_t i = 0; i < high; i++) {
        struct fd_entry e;

        memcpy(&e, seg + h->fd_off + i * sizeof(e), sizeof(e));
        if (!e.gen && !e.state && !e.read_ops && !e.write_ops)
            continue;
        printf("%6" PRIu64 " gen %u %s state %#x read %" PRIu64 "/%" PRIu64 " written %" PRIu64 "/%" PRIu64
               " want %u (gen %u) undecided %u KiB unsaid %u\n",
               i, e.gen, e.kind < sizeof(fd_name) / sizeof(fd_name[0]) ? fd_name[e.kind] : "?", e.state, e.read_bytes,
               e.read_ops, e.write_bytes, e.write_ops, e.want & 3, e.want >> 2, e.undecided, e.unsaid);
    }
}

int main(int argc, char **argv)
{
    const struct segment_header *h;
    bool number = argc == 2 && argv[1][0] && strspn(argv[1], "0123456789") == strlen(argv[1]);

    if (argc != 2) {
        fprintf(stderr, "usage: segdump PID|FILE\n");
        return 2;
    }
    if (number ? load_process(argv[1]) : load_file(argv[1]))
        return complain(argv[1]);
    h = (const struct segment_header *)(const void *)seg;
    if (seg_size < sizeof(*h) || h->magic != SEG_MAGIC) {
        fprintf(stderr, "segdump: %s: no segment\n", argv[1]);
        return 1;
    }
    print_header(h);
    if (h->table_hash != syscall_table_hash())
        printf("made by another build: names of calls may be wrong\n");
    if (h->fd_off + (uint64_t)h->fd_cap * sizeof(struct fd_entry) > seg_size || h->ring_cells == 0 ||
        h->ring_off + (uint64_t)h->ring_cells * RING_CELL > seg_size) {
        printf("the offsets in the header are impossible\n");
        return 1;
    }
    print_fds(h);
    print_ring(h);
    free(seg);
    return 0;
}
