/* SPDX-License-Identifier: Apache-2.0 */
#include "expect.h"

#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MAX_CALLS 16384
#define MAX_TEXT 4096

struct entry {
    int tid;
    long ret;
    struct x what;
    char ops[64];
    uint32_t path, path2, file, file2, addr; /* offsets in text[], 0: none */
};

struct list {
    atomic_uint count;
    atomic_uint text_used;
    struct entry entry[MAX_CALLS];
    char text[8 << 20];
};

enum way expect_way;
static struct list *list;
static char start_dir[PATH_MAX];

void expect_broken(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: the test itself failed: %s (errno %d)\n", file, line, what, errno);
    _exit(99);
}

long expect_ok(long r, const char *file, int line, const char *what)
{
    if (r < 0) {
        fprintf(stderr, "%s:%d: the test itself failed: %s: %s\n", file, line, what, strerror((int)-r));
        _exit(99);
    }
    return r;
}

void expect_fails(int error, long r, const char *file, int line, const char *what)
{
    if (r != -error) {
        fprintf(stderr, "%s:%d: the test itself failed: %s: %ld instead of %d\n", file, line, what, r, -error);
        _exit(99);
    }
}

static uint32_t keep(const char *s)
{
    size_t len;
    uint32_t at;

    if (!s)
        return 0;
    len = strlen(s) + 1;
    at = atomic_fetch_add(&list->text_used, (unsigned)len);
    if (at + len > sizeof(list->text))
        expect_broken(__FILE__, __LINE__, "text full");
    memcpy(list->text + at, s, len);
    return at;
}

long expect_add(const char *ops, long ret, struct x what)
{
    int saved = errno;
    unsigned i;
    struct entry *e;

    if (what.skip)
        return ret;
    i = atomic_fetch_add(&list->count, 1);
    if (i >= MAX_CALLS || strlen(ops) >= sizeof(e->ops))
        expect_broken(__FILE__, __LINE__, "list full");
    e = &list->entry[i];
    e->tid = (int)syscall(SYS_gettid);
    e->ret = ret;
    e->what = what;
    strcpy(e->ops, ops);
    e->path = keep(what.path);
    e->path2 = keep(what.path2);
    e->file = keep(what.file);
    e->file2 = keep(what.file2);
    e->addr = keep(what.addr);
    errno = saved;
    return ret;
}

void expect_noreturn(const char *op, struct x what)
{
    what.no_result = 1;
    expect_add(op, 0, what);
}

void expect_exit(int status)
{
    expect_noreturn("exit_group", X(.fd = 0));
    CALL(exit_group, status);
    __builtin_unreachable();
}

const char *expect_abs(int slot, const char *name)
{
    static char buffer[8][PATH_MAX * 2];

    snprintf(buffer[slot], sizeof(buffer[slot]), "%s/%s", start_dir, name);
    return buffer[slot];
}

void expect_begin(int argc, char **argv)
{
    MUST(argc >= 2 && getenv("EXPECT"));
    expect_way = strcmp(argv[1], "syscall") == 0 ? WAY_SYSCALL : WAY_INLINE;
    list = mmap(NULL, sizeof(*list), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(list != MAP_FAILED);
    list->text_used = 1;
    MUST(getcwd(start_dir, sizeof(start_dir)));
    setvbuf(stdout, NULL, _IONBF, 0);
    CALL(access, "/scope-test-begin", F_OK);
}

static void put_text(FILE *f, const char *key, uint32_t at)
{
    if (!at)
        return;
    fprintf(f, ",\"%s\":\"", key);
    for (const unsigned char *p = (const unsigned char *)list->text + at; *p; p++) {
        if (*p == '"' || *p == '\\')
            fprintf(f, "\\%c", *p);
        else if (*p < 0x20)
            fprintf(f, "\\u%04x", *p);
        else
            putc(*p, f);
    }
    putc('"', f);
}

void expect_end(void)
{
    FILE *f;
    unsigned n;

    CALL(access, "/scope-test-end", F_OK);
    MUST((f = fopen(getenv("EXPECT"), "w")));
    n = list->count;
    for (unsigned i = 0; i < n; i++) {
        const struct entry *e = &list->entry[i];

        fprintf(f, "{\"op\":\"%s\",\"tid\":%d", e->ops, e->tid);
        if (!e->what.no_result)
            fprintf(f, ",\"result\":%ld", e->ret);
        if (e->what.fd)
            fprintf(f, ",\"fd\":%ld", e->what.fd);
        if (e->what.has_bytes)
            fprintf(f, ",\"bytes\":%ld", e->what.bytes);
        else if (e->what.io)
            fprintf(f, ",\"bytes\":%ld", e->ret > 0 ? e->ret : 0);
        if (e->what.no_path)
            fputs(",\"path\":null", f);
        put_text(f, "path", e->path);
        put_text(f, "path2", e->path2);
        put_text(f, "file", e->file);
        put_text(f, "file2", e->file2);
        put_text(f, "addr", e->addr);
        fputs("}\n", f);
    }
    MUST(fclose(f) == 0);
}
