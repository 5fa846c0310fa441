/* SPDX-License-Identifier: Apache-2.0 */
/* What is said of a crashed program, and the readers of what it may have written itself. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "crash/confine.h"
#include "crash/crash.h"
#include "crash/demangle.h"
#include "crash/facts.h"
#include "crash/gotable.h"
#include "crash/modules.h"
#include "crash/perfmap.h"
#include "crash/results.h"
#include "crash/words.h"
#include "machine.h"

#include "crash_tests.h" /* of the architecture */

/* --- addresses --- */

#define TEXT 0x400000u
#define HEAP 0x600000u
#define GUARD UINT64_C(0x7f0000000000)
#define STACK (GUARD + 0x1000)
#define NEXT (STACK + 0x9000) /* the guard of the next stack */
#define MAIN UINT64_C(0x7ffff0000000)

static struct process_map maps[] = {
    {.lo = TEXT, .hi = TEXT + 0x1000, .read = true, .execute = true, .inode = 1, .name = "/usr/bin/prog"},
    {.lo = TEXT + 0x1000, .hi = TEXT + 0x2000, .read = true, .inode = 1, .name = "/usr/bin/prog"},
    {.lo = TEXT + 0x2000, .hi = TEXT + 0x3000, .read = true, .write = true, .inode = 1, .name = "/usr/bin/prog"},
    {.lo = HEAP, .hi = HEAP + 0x1000, .read = true, .write = true, .name = "[heap]"},
    {.lo = GUARD, .hi = STACK, .name = ""},
    {.lo = STACK, .hi = NEXT, .read = true, .write = true, .name = ""},
    {.lo = MAIN, .hi = MAIN + 0x21000, .read = true, .write = true, .name = "[stack]"},
};

static void says(const struct crash_view *v, uint64_t address, const char *want)
{
    char text[160];

    words_address(v, address, text, sizeof(text));
    assert_string_equal(text, want);
}

static void addresses(void **state)
{
    struct crash_cause cause = {.signo = SIGSEGV, .code = 1};
    struct crash_thread threads[3] = {
        {.tid = 7, .stands = true},
        {.tid = 8, .stands = true},
        {.tid = 9, .stands = true},
    };
    struct crash_view v = {
        .cause = &cause, .pid = 7, .threads = threads, .thread_count = 3, .maps = {maps, sizeof(maps) / sizeof(*maps)}};
    char text[160];

    set_pointers(&threads[0], MAIN + 0x20000, 0);
    set_pointers(&threads[1], 0x1234, 0x99);
    set_pointers(&threads[2], STACK - 8, NEXT - 0x100); /* has overflowed */
    says(&v, 0, "NULL");
    says(&v, 0x18, "NULL + 0x18");
    says(&v, TEXT + 1, "inside prog's code");
    says(&v, TEXT + 0x1001, "inside prog's read-only data");
    says(&v, TEXT + 0x2fff, "inside prog's data");
    says(&v, TEXT + 0x3000, "not mapped, 0 bytes above the end of prog's data");
    says(&v, HEAP + 0x1008, "not mapped, 8 bytes above the end of [heap]");
    says(&v, HEAP - 16, "not mapped, 16 bytes below [heap]");
    says(&v, HEAP + 4, "inside [heap]");
    says(&v, STACK - 40, "40 bytes below the stack of thread 3 (guard page)");
    says(&v, STACK + 40, "on the stack of thread 3");
    says(&v, MAIN - 40, "40 bytes below the stack of thread 1");
    says(&v, MAIN + 40, "on the stack of thread 1");
    says(&v, UINT64_C(0x700000000000), "not mapped");
    says(&v, UINT64_C(0x1234567890123456), "no address of a program (in no half)");
    says(&v, UINT64_MAX - 7, "no address of a program (the kernel's half)");

    cause.addr = 0x18;
    words_where(&v, text, sizeof(text));
    assert_string_equal(text, "NULL + 0x18");
    cause.code = 0x80; /* no address is known then, whatever stands there */
    words_where(&v, text, sizeof(text));
    assert_string_equal(text, "unknown: the CPU tells no address where one isn't canonical");
    cause = (struct crash_cause){.signo = SIGABRT, .code = -6, .addr = 0x18};
    words_where(&v, text, sizeof(text));
    assert_string_equal(text, "");
}

static void signals(void **state)
{
    assert_string_equal(words_signal(SIGSEGV), "SIGSEGV");
    assert_string_equal(words_signal(37), "SIGRTMIN+3");
    assert_string_equal(words_signal(99), "signal 99");
    assert_string_equal(words_code_name(SIGFPE, 1), "FPE_INTDIV");
    assert_string_equal(words_code(SIGFPE, 1), "integer division by zero");
    assert_string_equal(words_code_name(SIGABRT, -6), "SI_TKILL");
    assert_string_equal(words_code(SIGABRT, 4711), "");
    assert_true(words_has_address(SIGBUS, 2));
    assert_false(words_has_address(SIGSEGV, 0)); /* kill(2) */
    assert_false(words_has_address(SIGABRT, 1));
}

/* --- secrets --- */

static void secrets(void **state)
{
    static const char *const are[] = {"GITHUB_TOKEN", "token",  "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "MYSQL_PWD_FILE",
                                      "DB_PASSWD",    "ApiKey", "SSH_AUTH_SOCK",         "SENTRY_DSN", "CREDENTIALS",
                                      "OTEL_EXPORTER_OTLP_HEADERS"};
    static const char *const are_not[] = {"PATH", "PWD", "OLDPWD", "HOME", "LANG", "TERM", "LS_COLORS"};
    size_t at, n;

    for (size_t i = 0; i < sizeof(are) / sizeof(*are); i++)
        assert_true(words_is_secret(are[i], strlen(are[i])));
    for (size_t i = 0; i < sizeof(are_not) / sizeof(*are_not); i++)
        assert_false(words_is_secret(are_not[i], strlen(are_not[i])));

#define CREDENTIALS(s) words_credentials((s), sizeof(s) - 1, &at)
    n = CREDENTIALS("U=postgres://me:s3cr3t@db/x");
    assert_int_equal(at, 13);
    assert_int_equal(n, 9);
    n = CREDENTIALS("http://a@b@host/"); /* the last @ of the authority counts */
    assert_int_equal(at, 7);
    assert_int_equal(n, 3);
    assert_int_equal(CREDENTIALS("http://host/a@b"), 0);
    assert_int_equal(CREDENTIALS("a@b"), 0);
    assert_int_equal(CREDENTIALS("://"), 0);
    assert_int_equal(CREDENTIALS("one http://host two http://u:p@host"), 3);
#undef CREDENTIALS
}

/* --- what programs write --- */

static void perf_map(void **state)
{
    static const char text[] = "1000 20 first\n0x1010 0x10 second one\n\nnonsense\n2000 0 empty\n"
                               "ffffffffffffffff 2 over\n11112222333344445 1 long\n3000 8 last";
    struct perfmap m;
    const struct perfmap_entry *e;

    perfmap_read(&m, text, sizeof(text) - 1);
    assert_int_equal(m.count, 3);
    e = perfmap_at(&m, 0x1000);
    assert_int_equal(e->len, 5);
    assert_memory_equal(e->name, "first", 5);
    e = perfmap_at(&m, 0x1018); /* what came later */
    assert_memory_equal(e->name, "second one", 10);
    assert_null(perfmap_at(&m, 0x1020));
    assert_null(perfmap_at(&m, 0xfff));
    assert_int_equal(perfmap_at(&m, 0x3007)->len, 4);
    perfmap_free(&m);
    perfmap_read(&m, "", 0);
    assert_null(perfmap_at(&m, 0));
    perfmap_free(&m);
}

static void users(void **state)
{
    static const char text[] =
        "root:x:0:0::/root:/bin/sh\n:x:5:\nbad\nuser:x:1000\nme:x:1000:1000::/:\ntoo:x:99999999999:1";
    char *name = facts_user(text, sizeof(text) - 1, 1000);

    assert_string_equal(name, "me");
    free(name);
    name = facts_user(text, sizeof(text) - 1, 5);
    assert_string_equal(name, "");
    free(name);
    name = facts_user(text, sizeof(text) - 1, 99999999999 & UINT32_MAX);
    assert_string_equal(name, "");
    free(name);
}

/* A table of Go 1.20's format: two functions, [text, text + 0x10) and [text + 0x10, text + 0x40). */
struct table {
    uint8_t bytes[512];
};

static void put(struct table *t, size_t at, uint64_t v, size_t size)
{
    memcpy(t->bytes + at, &v, size);
}

static void make_table(struct table *t)
{
    enum { NAMES = 128, UNITS = 160, FILES = 176, VALUES = 208, FUNCTIONS = 256 };

    memset(t, 0, sizeof(*t));
    put(t, 0, 0xfffffff1, 4);
    t->bytes[6] = MACHINE_GO_QUANTUM;
    t->bytes[7] = 8;
    put(t, 8, 2, 8);
    put(t, 24, 0x5000, 8);
    put(t, 32, NAMES, 8);
    put(t, 40, UNITS, 8);
    put(t, 48, FILES, 8);
    put(t, 56, VALUES, 8);
    put(t, 64, FUNCTIONS, 8);
    strcpy((char *)t->bytes + NAMES, "main.one");
    strcpy((char *)t->bytes + NAMES + 9, "main.two");
    put(t, UNITS, 0, 4);
    put(t, UNITS + 4, 6, 4);
    strcpy((char *)t->bytes + FILES, "a.go");
    strcpy((char *)t->bytes + FILES + 6, "b.go");
    /* Values: from -1 on, pairs of a difference (zigzag) and of a length. */
#define Q MACHINE_GO_QUANTUM
    memcpy(t->bytes + VALUES + 1, (uint8_t[]){2, 4 / Q, 48, 0x2c / Q, 0}, 5);       /* 0 for 4 bytes, then 24 */
    memcpy(t->bytes + VALUES + 8, (uint8_t[]){4, 0x30 / Q, 0}, 3);                  /* file 1 */
    memcpy(t->bytes + VALUES + 12, (uint8_t[]){0x98, 1, 8 / Q, 3, 0x28 / Q, 0}, 6); /* line 75, then 73 */
#undef Q
    for (int i = 0; i < 2; i++) {
        size_t f = FUNCTIONS + 64 + 48 * (size_t)i;

        put(t, FUNCTIONS + 8 * (size_t)i, 0x10 * (uint64_t)i, 4);
        put(t, FUNCTIONS + 8 * (size_t)i + 4, f - FUNCTIONS, 4);
        put(t, f, 0x10 * (uint64_t)i, 4);
        put(t, f + 4, 9 * (uint64_t)i, 4);
        put(t, f + 16, 1, 4);
        put(t, f + 20, 8, 4);
        put(t, f + 24, 12, 4);
    }
    put(t, FUNCTIONS + 16, 0x40, 4);
}

static void go_table(void **state)
{
    struct table t;
    struct gotable g;
    struct gofunction f;
    const char *file;

    make_table(&t);
    assert_true(gotable_open(&g, t.bytes, sizeof(t.bytes), 0));
    assert_true(gotable_function(&g, 0x500f, &f));
    assert_string_equal(f.name, "main.one");
    assert_true(gotable_function(&g, 0x5012, &f));
    assert_string_equal(f.name, "main.two");
    assert_int_equal(f.entry, 0x5010);
    assert_int_equal(gotable_frame_size(&g, &f, 0x5013), 0);
    assert_int_equal(gotable_frame_size(&g, &f, 0x5014), 24);
    assert_int_equal(gotable_line(&g, &f, 0x5017, &file), 75);
    assert_string_equal(file, "b.go");
    assert_int_equal(gotable_line(&g, &f, 0x5018, &file), 73);
    assert_false(gotable_function(&g, 0x4fff, &f));
    assert_false(gotable_function(&g, 0x5040, &f));
    assert_true(gotable_open(&g, t.bytes, sizeof(t.bytes), 0x9000)); /* relocated */
    assert_true(gotable_function(&g, 0x9000, &f));

    /* Each byte of it spoilt, and each length: nothing is read that isn't there (run with sanitizers). */
    for (size_t i = 0; i < sizeof(t.bytes); i++)
        for (int bit = 0; bit < 8; bit += 7) {
            uint8_t *copy;
            size_t size = sizeof(t.bytes) - (bit ? i : 0);

            make_table(&t);
            t.bytes[i] ^= (uint8_t)(1 << bit);
            copy = xmemdup(t.bytes, size);
            if (gotable_open(&g, copy, size, 0))
                for (uint64_t a = 0x5000; a < 0x5040; a += 4)
                    if (gotable_function(&g, a, &f)) {
                        gotable_frame_size(&g, &f, a);
                        gotable_line(&g, &f, a, &file);
                        assert_true(strlen(f.name) < size);
                    }
            free(copy);
        }
}

static void names(void **state)
{
    static const struct {
        const char *name, *want;
    } cases[] = {
        {"main", "main"},
        {"_ZN3app3runESt6vectorIiSaIiEE", "app::run(std::vector<int, std::allocator<int> >)"},
        {"_ZN4core3ptr13drop_in_place17h0123456789abcdefE", "core::ptr::drop_in_place"},
        {"_RNvCskwGfYPst2Cb_3foo3bar", "foo::bar"},
        {"_ZN", "_ZN"},
        {"_R", "_R"},
        {"", ""},
    };
    char *huge = xmalloc(1 << 20), *s;

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        s = demangle(cases[i].name);
        assert_string_equal(s, cases[i].want);
        free(s);
    }
    memset(huge, 'P', 1 << 20); /* pointer to pointer to ... */
    memcpy(huge, "_Z1fP", 5);
    huge[(1 << 20) - 1] = '\0';
    s = demangle(huge);
    assert_int_equal(strlen(s), DEMANGLE_SHOWN);
    free(s);
    huge[DEMANGLE_MAX - 1] = 'i'; /* as much as is looked at: the recursion is bounded */
    huge[DEMANGLE_MAX] = '\0';
    s = demangle(huge);
    assert_true(strlen(s) <= DEMANGLE_SHOWN);
    free(s);
    free(huge);
}

/* --- memory as a file --- */

struct image {
    uint64_t base;
    uint8_t bytes[0x3000];
};

static int read_image(void *ctx, uint64_t address, void *to, size_t size)
{
    const struct image *m = ctx;

    if (address < m->base || address - m->base > sizeof(m->bytes) || size > sizeof(m->bytes) - (address - m->base))
        return -EFAULT;
    memcpy(to, m->bytes + (address - m->base), size);
    return 0;
}

static void rebuilt(void **state)
{
    static struct image m = {.base = 0x10000};
    Elf64_Ehdr e = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
                    .e_type = ET_DYN,
                    .e_phoff = sizeof(e),
                    .e_shoff = 0x5000,
                    .e_shnum = 3,
                    .e_phentsize = sizeof(Elf64_Phdr),
                    .e_phnum = 2};
    Elf64_Phdr ph[2] = {
        {.p_type = PT_LOAD, .p_filesz = 0x1000, .p_memsz = 0x1000},
        {.p_type = PT_LOAD, .p_offset = 0x1000, .p_vaddr = 0x2000, .p_filesz = 0x800, .p_memsz = 0x1000}};
    uint8_t *file = NULL;
    size_t size = 0;

#define REBUILD(max) module_rebuild(read_image, &m, m.base, m.base + sizeof(m.bytes), (max), (void **)&file, &size)
    memcpy(m.bytes, &e, sizeof(e));
    memcpy(m.bytes + sizeof(e), ph, sizeof(ph));
    m.bytes[0x2345] = 42;
    assert_int_equal(REBUILD(0x10000), 0);
    assert_int_equal(size, 0x1800);
    assert_int_equal(file[0x1345], 42);
    assert_int_equal(((Elf64_Ehdr *)(void *)file)->e_shoff, 0); /* lies in no segment */
    free(file);
    assert_int_equal(REBUILD(0x1000), -EFBIG);
    ph[1].p_vaddr = UINT64_MAX - 0x10;
    memcpy(m.bytes + sizeof(e), ph, sizeof(ph));
    assert_int_equal(REBUILD(0x10000), 0); /* that one isn't there */
    assert_int_equal(file[0x1345], 0);
    free(file);
    ph[1].p_offset = UINT64_MAX;
    memcpy(m.bytes + sizeof(e), ph, sizeof(ph));
    assert_int_equal(REBUILD(0x10000), -EFBIG);
    m.bytes[0] = 0;
    assert_int_equal(REBUILD(0x10000), -ENOEXEC);
#undef REBUILD
}

/* --- what the process says that may have died --- */

static void believed(void **state)
{
    struct results *r = results_new(2);
    struct result_frame f;
    uint32_t at;

    assert_non_null(r);
    at = results_add_text(r, "name");
    assert_string_equal(results_text(r, at), "name");
    assert_string_equal(results_text(r, 0), "");
    assert_string_equal(results_text(r, UINT32_MAX), "");
    memset(r->text + RESULTS_TEXT - 8, 'x', 8); /* no end */
    assert_string_equal(results_text(r, RESULTS_TEXT - 4), "");

    results_add_frame(r)->pc = 42;
    r->threads[1].bare = (struct result_list){.count = 1};
    assert_int_equal(results_frames(r, 0), 0);
    assert_int_equal(results_frames(r, 1), 1);
    assert_true(results_frame(r, 1, 0, &f));
    assert_int_equal(f.pc, 42);
    assert_false(results_frame(r, 1, 1, &f));
    r->threads[1].named = (struct result_list){.first = RESULTS_FRAMES - 1, .count = UINT32_MAX, .done = 1};
    assert_int_equal(results_frames(r, 1), 1);
    assert_false(results_frame(r, 1, 1, &f));
    r->threads[1].named.first = UINT32_MAX;
    assert_int_equal(results_frames(r, 1), 0);
    assert_false(results_frame(r, 1, 0, &f));
    r->frame_count = RESULTS_FRAMES;
    assert_null(results_add_frame(r));
    assert_int_equal(r->frames_lost, 1);
    results_free(r, 2);
}

/* --- the worker --- */

static int dies(void *ctx)
{
    raise(SIGKILL);
    return 0;
}

static int may_not(void *ctx)
{
    return -EPERM;
}

struct bed {
    char path[32];
    int dir;
    pid_t child; /* which waits for ever */
};

static void bed_make(struct bed *b)
{
    strcpy(b->path, "/tmp/test_crash.XXXXXX");
    assert_non_null(mkdtemp(b->path));
    b->dir = open(b->path, O_RDONLY | O_DIRECTORY);
    assert_true(b->dir >= 0);
    b->child = fork();
    if (b->child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            pause();
    }
    assert_true(b->child > 0);
}

static bool is_there(const struct bed *b, const char *name)
{
    return faccessat(b->dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void bed_clear(struct bed *b)
{
    kill(b->child, SIGKILL);
    waitpid(b->child, NULL, 0);
    unlinkat(b->dir, "snapshot.json", 0);
    unlinkat(b->dir, "backtrace.txt", 0);
    close(b->dir);
    assert_int_equal(rmdir(b->path), 0); /* there was nothing else in it */
}

/* In the worker: another process traces it, so that killing it doesn't end it for its parent until that lets go of it. */
static int is_held(void *ctx)
{
    int ready[2], *until = ctx;
    char byte;

    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
    if (pipe(ready) < 0)
        return -errno;
    if (fork() == 0) {
        prctl(PR_SET_PDEATHSIG, 0);
        if (ptrace(PTRACE_SEIZE, getppid(), NULL, NULL) < 0 || write(ready[1], "", 1) != 1)
            _exit(1);
        _exit((int)read(*until, &byte, 1));
    }
    close(ready[1]);
    if (read(ready[0], &byte, 1) != 1)
        return -EPERM;
    for (;;)
        pause();
}

/* One that SIGKILL doesn't end: nobody waits for it. */
static void held(void **state)
{
    int ends[2];
    struct crash_wishes wishes = {.backtrace = true, .become = is_held};
    struct crash_summary s = {0};
    struct crash_cause cause;
    struct crash_job *job;
    struct bed b;
    pid_t left;

    (void)state;
    bed_make(&b);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    wishes.ctx = &ends[0];
    wishes.keep_fd = ends[0];
    cause = (struct crash_cause){.pid = b.child};
    job = crash_begin(&cause, &wishes, b.dir, geteuid(), getegid(), 4000);
    assert_non_null(job);
    for (int i = 0; i < 20000 && crash_step(job, &s) != CRASH_OVER; i++)
        usleep(1000);
    assert_int_equal(crash_step(job, &s), CRASH_OVER);
    if (s.backtrace_error != -EPERM) { /* nobody may be traced here */
        assert_int_equal(s.backtrace_error, -ETIMEDOUT);
        left = crash_free(job);
        assert_true(left > 0);
        assert_int_equal(waitpid(left, NULL, WNOHANG), 0);
        close(ends[1]);
        assert_int_equal(waitpid(left, NULL, 0), left);
    } else {
        crash_free(job);
        close(ends[1]);
    }
    close(ends[0]);
    bed_clear(&b);
}

static unsigned long long own_capabilities(void)
{
    unsigned long long effective = ~0ull, permitted = ~0ull;
    char line[256];
    FILE *f = fopen("/proc/thread-self/status", "re");

    while (f && fgets(line, sizeof(line), f)) {
        if (strncmp(line, "CapPrm:", 7) == 0)
            permitted = strtoull(line + 7, NULL, 16);
        if (strncmp(line, "CapEff:", 7) == 0)
            effective = strtoull(line + 7, NULL, 16);
    }
    if (f)
        fclose(f);
    return permitted | effective;
}

/* Who reads a process's files has no right of root's, though the process may be root's. */
static void confined(void **state)
{
    int status, parent = getpid();
    pid_t pid = fork();

    (void)state;
    if (pid == 0) {
        bool root = geteuid() == 0;
        struct rlimit core, size;

        setrlimit(RLIMIT_CORE, &(struct rlimit){0, RLIM_INFINITY});
        if (confine_child(parent, NULL, 0, UINT64_C(1) << 30, 10) < 0 || confine_user(0, 0) < 0)
            _exit(1);
        if (getrlimit(RLIMIT_CORE, &core) < 0 || getrlimit(RLIMIT_FSIZE, &size) < 0 || size.rlim_max != 0)
            _exit(2);
        if (prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0 || (root && core.rlim_cur != 1))
            _exit(3);
        if (own_capabilities() != 0)
            _exit(4);
        _exit(root && geteuid() != 65534 ? 5 : 0);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void workers(void **state)
{
    struct crash_wishes wishes = {.backtrace = true};
    struct crash_summary s = {0};
    struct crash_cause cause;
    struct bed b;
    int ends[2];

    bed_make(&b);
    cause = (struct crash_cause){.pid = b.child};
    wishes.become = dies;
    assert_int_equal(crash_take(&cause, &wishes, b.dir, 20000, &s), -EIO);
    assert_string_equal(s.why, "the process that looked at it was ended by signal 9");
    assert_false(is_there(&b, "snapshot.json") || is_there(&b, "backtrace.txt"));

    wishes.become = may_not;
    assert_int_equal(crash_take(&cause, &wishes, b.dir, 20000, &s), -EPERM);
    assert_non_null(strstr(s.why, "rights"));
    assert_false(is_there(&b, "snapshot.json") || is_there(&b, "backtrace.txt"));

    wishes.become = NULL;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    wishes.notes = "";
    wishes.notes_size = 1;
    wishes.kernel_core = ends[0];
    close(ends[1]); /* the kernel writes no core any more: the number may be another's */
    assert_int_equal(crash_take(&cause, &wishes, b.dir, 20000, &s), -ESRCH);
    assert_non_null(strstr(s.why, "went away"));
    assert_false(is_there(&b, "snapshot.json") || is_there(&b, "backtrace.txt"));
    close(ends[0]);
    wishes.notes = NULL;

    wishes.if_panic = true; /* it is no Go program */
    cause.tid = b.child;
    s = (struct crash_summary){0};
    crash_take(&cause, &wishes, b.dir, 60000, &s);
    assert_false(s.panicked);
    assert_false(is_there(&b, "snapshot.json") || is_there(&b, "backtrace.txt"));

    wishes.if_panic = false;
    cause = (struct crash_cause){.pid = b.child};
    s = (struct crash_summary){0};
    assert_int_equal(crash_take(&cause, &wishes, b.dir, 120000, &s), 0);
    assert_int_equal(s.threads, 1);
    assert_true(s.top_count > 0 && s.stopped_ns > 0);
    assert_true(is_there(&b, "snapshot.json") && is_there(&b, "backtrace.txt"));
    assert_int_equal(kill(b.child, 0), 0);

    assert_int_equal(crash_take(&cause, &wishes, b.dir, 20000, &s), -EEXIST); /* nothing is overwritten */
    assert_true(is_there(&b, "snapshot.json"));
    bed_clear(&b);
}

/* --- a whole look --- */

/* Two functions that nobody inlines, and what they end in. */
CHAIN static __attribute__((noinline)) void chain_first(void (*end)(void))
{
    end();
    __asm__ volatile("");
}

CHAIN static __attribute__((noinline)) void chain_second(void (*end)(void))
{
    chain_first(end);
    __asm__ volatile("");
}

static void chain_pause(void)
{
    for (;;)
        pause();
}

static void chain_handler(int sig)
{
    (void)sig;
    chain_pause();
}

/* In a handler on a stack of its own. */
static void chain_signal(void)
{
    static char stack[65536];
    const stack_t st = {.ss_sp = stack, .ss_size = sizeof(stack)};
    struct sigaction act = {.sa_handler = chain_handler, .sa_flags = SA_ONSTACK};

    sigaltstack(&st, NULL);
    sigaction(SIGUSR1, &act, NULL);
    raise(SIGUSR1);
}

static bool sleeps(pid_t pid)
{
    char path[64], text[256] = "";
    const char *at;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    f = fopen(path, "re");
    if (f) {
        text[fread(text, 1, sizeof(text) - 1, f)] = 0;
        fclose(f);
    }
    at = strrchr(text, ')');
    return at && at[2] == 'S';
}

static void backtraces(void **state)
{
    static const struct {
        void (*end)(void);
        const char *names[8]; /* in their order, from the innermost on */
    } cases[] = {
        {chain_pause, {"chain_pause", "chain_first", "chain_second", "backtraces", "main"}},
        {chain_signal,
         {"chain_pause", "chain_handler", "a signal came here", "chain_signal", "chain_first", "chain_second", "main"}},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct crash_wishes wishes = {.backtrace = true};
        struct crash_summary summary = {0};
        struct crash_cause cause;
        char text[65536], *at = text;
        struct bed b;
        ssize_t n;
        pid_t pid;
        int fd;

        bed_make(&b);
        pid = fork();
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
            chain_second(cases[i].end);
            _exit(0);
        }
        while (!sleeps(pid))
            usleep(1000);
        cause = (struct crash_cause){.pid = pid};
        assert_int_equal(crash_take(&cause, &wishes, b.dir, 120000, &summary), 0);
        fd = openat(b.dir, "backtrace.txt", O_RDONLY);
        n = read(fd, text, sizeof(text) - 1);
        close(fd);
        assert_true(n > 0);
        text[n] = '\0';
        for (size_t k = 0; k < 8 && cases[i].names[k]; k++) {
            char *next = strstr(at, cases[i].names[k]);

            if (!next)
                fail_msg("%s isn't where it should be in:\n%s", cases[i].names[k], text);
            at = next;
        }
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        bed_clear(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses), cmocka_unit_test(signals),  cmocka_unit_test(secrets),  cmocka_unit_test(perf_map),
        cmocka_unit_test(users),     cmocka_unit_test(calls),    cmocka_unit_test(go_table), cmocka_unit_test(names),
        cmocka_unit_test(rebuilt),   cmocka_unit_test(believed), cmocka_unit_test(workers), cmocka_unit_test(held), cmocka_unit_test(confined),
        cmocka_unit_test(backtraces),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
