/* SPDX-License-Identifier: Apache-2.0 */
/* Keys on their way from a segment to the connections that they may belong to: each is given out until it is used, too
 * old or overwritten, and then it is nowhere any more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "collector/key_scan.h"
#include "collector/segment.h"
#include "traffic/aes_schedule.h"
#include "traffic/tls_keys.h"

#define S UINT64_C(1000000000)

/* --- the table of a segment --- */

static struct segment_map map_new(void)
{
    struct segment_header *h = aligned_alloc(_Alignof(struct segment_header), sizeof(*h));

    assert_non_null(h);
    memset(h, 0, sizeof(*h));
    return (struct segment_map){.base = (uint8_t *)h, .fd = -1, .size = sizeof(*h)};
}

static struct segment_header *header(const struct segment_map *m)
{
    return (struct segment_header *)(void *)m->base;
}

/* What the probe does. */
static void put(const struct segment_map *m, uint8_t fill, bool complete)
{
    struct segment_header *h = header(m);
    uint64_t n = h->key_head++;
    struct seg_key *k = &h->key[n % SEG_KEYS];

    *k = (struct seg_key){.time = n, .caller = fill, .len = 32};
    memset(k->key, fill, sizeof(k->key));
    k->commit = complete ? n + 1 : 0;
}

struct taken {
    unsigned count;
    uint64_t first, last; /* numbers */
};

static void take(void *ctx, const struct seg_key *key)
{
    struct taken *t = ctx;

    assert_int_equal(key->key[0], key->caller);
    assert_int_equal(key->key[31], key->caller);
    if (!t->count++)
        t->first = key->time;
    t->last = key->time;
}

static void taken_out(void **state)
{
    struct segment_map m = map_new();
    struct key_reader r = {0};
    struct taken t = {0};

    (void)state;
    assert_int_equal(segment_keys(&m, &r, take, &t), 0);
    put(&m, 7, true);
    put(&m, 8, true);
    put(&m, 9, false); /* it is being written */
    put(&m, 10, true);
    assert_int_equal(segment_keys(&m, &r, take, &t), 0);
    assert_int_equal(t.count, 3);
    assert_int_equal(t.last, 3);
    for (unsigned i = 0; i < 4; i++)
        for (unsigned k = 0; k < 32 && i != 2; k++)
            assert_int_equal(header(&m)->key[i].key[k], 0);
    assert_int_equal(segment_keys(&m, &r, take, &t), 0);
    assert_int_equal(t.count, 3);
    header(&m)->key[2].commit = 3;
    assert_int_equal(segment_keys(&m, &r, take, &t), 0);
    assert_int_equal(t.count, 4);
    assert_int_equal(t.last, 2);
    assert_int_equal(segment_keys(&m, &r, take, &t), 0);
    assert_int_equal(t.count, 4);
    free(m.base);
}

static void overwritten(void **state)
{
    struct segment_map m = map_new();
    struct key_reader r = {0};
    struct taken t = {0};

    (void)state;
    for (unsigned i = 0; i < SEG_KEYS + 100; i++)
        put(&m, (uint8_t)i, i != SEG_KEYS / 4); /* one writer was interrupted for ever */
    assert_int_equal(segment_keys(&m, &r, take, &t), 100);
    assert_int_equal(t.count, SEG_KEYS - 1);
    assert_int_equal(t.first, 100);
    assert_int_equal(t.last, SEG_KEYS + 99);
    for (unsigned i = 0; i < SEG_KEYS; i++)
        put(&m, (uint8_t)i, true);
    assert_int_equal(segment_keys(&m, &r, take, &t), 1); /* its place is another one's now */
    assert_int_equal(t.count, 2 * SEG_KEYS - 1);
    free(m.base);
}

/* Writers that have died hide nothing that others write, however many they are. */
static void died(void **state)
{
    struct segment_map m = map_new();
    struct key_reader r = {0};
    struct taken t = {0};
    uint64_t lost = 0;

    (void)state;
    for (unsigned i = 0; i < 3 * KEY_HOLES; i++) {
        put(&m, 1, false);
        put(&m, (uint8_t)i, true);
        lost += segment_keys(&m, &r, take, &t);
        assert_int_equal(t.count, i + 1);
    }
    assert_int_equal(lost, 2 * KEY_HOLES);
    header(&m)->key[2 * (3 * KEY_HOLES - 1)].commit = 2 * (3 * KEY_HOLES - 1) + 1; /* the last one hasn't, after all */
    assert_int_equal(segment_keys(&m, &r, take, &t), 0);
    assert_int_equal(t.count, 3 * KEY_HOLES + 1);
    free(m.base);
}

/* Whoever can write to it says what he likes. */
static void lies(void **state)
{
    static const uint64_t heads[] = {UINT64_MAX, 0, UINT64_MAX - 1, 1, SEG_KEYS + 1, 5};
    struct segment_map m = map_new();
    struct key_reader r = {0};
    struct taken t = {0};

    (void)state;
    for (unsigned i = 0; i < sizeof(heads) / sizeof(*heads); i++) {
        header(&m)->key_head = heads[i];
        segment_keys(&m, &r, take, &t);
        assert_true(r.next <= heads[i] && r.hole_count <= KEY_HOLES);
    }
    assert_int_equal(t.count, 0);
    free(m.base);
}

/* --- candidates --- */

static void add(struct tls_keys *k, uint8_t fill, uint64_t caller, uint64_t time_ns)
{
    uint8_t bytes[32];

    memset(bytes, fill, sizeof(bytes));
    tls_keys_add(k, bytes, fill % 2 ? 16 : 32, caller, time_ns);
}

/* Those that are given out, as decimal numbers. */
static const char *given(struct tls_keys *k, uint64_t since_ns, bool all)
{
    static char text[256];
    struct tls_open_key key;
    size_t len = 0;

    *text = 0;
    for (uint64_t at = 0; tls_keys_next(k, since_ns, all, &at, &key) && len < sizeof(text) - 8;) {
        assert_int_equal(key.len, key.bytes[0] % 2 ? 16 : 32);
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%d@%d ", key.bytes[0], (int)at);
    }
    return text;
}

static void candidates(void **state)
{
    struct tls_keys *k = tls_keys_new();

    (void)state;
    assert_non_null(k);
    add(k, 1, 100, 1 * S);
    add(k, 2, 200, 2 * S);
    add(k, 3, 100, 3 * S);
    tls_keys_add(k, (const uint8_t *)"123456789012345678901234", 24, 1, 3 * S); /* no key of these suites */
    assert_string_equal(given(k, 0, false), "1@1 2@2 3@3 ");
    assert_string_equal(given(k, 2 * S, false), "2@2 3@3 ");
    tls_keys_take(k, 2);
    assert_string_equal(given(k, 0, true), "1@1 3@3 ");
    assert_string_equal(given(k, 0, false), ""); /* others of this caller come first */
    add(k, 4, 200, 4 * S);
    assert_string_equal(given(k, 0, false), "4@4 ");
    assert_string_equal(given(k, 0, true), "1@1 3@3 4@4 ");
    tls_keys_take(k, 1);
    assert_string_equal(given(k, 0, false), "3@3 4@4 ");
    tls_keys_take(k, 99); /* there is none */
    assert_true(tls_keys_sweep(k, 3 * S + TLS_KEYS_NS));
    assert_string_equal(given(k, 0, true), "3@3 4@4 ");
    assert_true(tls_keys_sweep(k, 4 * S + TLS_KEYS_NS));
    assert_string_equal(given(k, 0, true), "4@4 ");
    assert_false(tls_keys_sweep(k, 5 * S + TLS_KEYS_NS));
    assert_string_equal(given(k, 0, true), "");
    tls_keys_free(k);
}

/* What was kept is nowhere in its memory any more. */
static void wiped(void **state)
{
    struct tls_keys *k = tls_keys_new();
    struct tls_open_key key;
    uint64_t at = 0;
    unsigned n = 0;

    (void)state;
    for (unsigned i = 0; i < TLS_KEYS_MAX + 10; i++)
        add(k, (uint8_t)(i < 10 ? 0xee : 0x11), 1, i < 10 ? 0 : S);
    while (tls_keys_next(k, 0, true, &at, &key))
        n += key.bytes[0] == 0x11;
    assert_int_equal(n, TLS_KEYS_MAX);
    tls_keys_take(k, 20);
    tls_keys_sweep(k, 2 * S + TLS_KEYS_NS);
    for (size_t i = 0; i < TLS_KEYS_MAX * (sizeof(key) + 16); i++) /* it has at least so many bytes */
        assert_true(((const uint8_t *)k)[i] != 0xee && ((const uint8_t *)k)[i] != 0x11);
    tls_keys_free(k);
}

/* However many connections ask: so many looks from one sweep to the next. */
static void bounded(void **state)
{
    struct tls_keys *k = tls_keys_new();
    struct tls_open_key key;
    unsigned looks = 0;

    (void)state;
    assert_non_null(k);
    for (uint8_t fill = 1; fill < 101; fill++)
        add(k, fill, 1, 2 * S);
    for (unsigned asks = 0; asks < 2 * TLS_KEYS_LOOKS / 100; asks++)
        for (uint64_t at = 0; tls_keys_next(k, 0, true, &at, &key);)
            looks++;
    assert_int_equal(looks, TLS_KEYS_LOOKS);
    tls_keys_sweep(k, 3 * S);
    assert_string_not_equal(given(k, 0, true), "");
    tls_keys_free(k);
}

/* --- keys in the memory of a process --- */

#define PAGE 4096u

/* The S-box as FIPS 197, section 5.1.1 has it: the inverse, and what is done with its bits. */
static uint8_t sub(uint8_t x)
{
    uint8_t r = 0, inverse = 0, ret = 0x63;

    for (unsigned y = 1; x && y < 256 && !inverse; y++) {
        uint8_t a = x, product = 0;

        for (unsigned b = y; b; b >>= 1, a = (uint8_t)(a << 1 ^ (a & 0x80 ? 0x1b : 0)))
            product ^= b & 1 ? a : 0;
        inverse = product == 1 ? (uint8_t)y : 0;
    }
    for (unsigned i = 0; i < 5; i++) {
        r = (uint8_t)(inverse << i | inverse >> (8 - i));
        ret ^= r;
    }
    return ret;
}

/* Expands key number n, of 16 or 32 bytes; returns the bytes that this takes. */
static size_t expand(uint8_t *to, unsigned n, size_t len)
{
    unsigned words = (unsigned)len / 4, all = 4 * (words + 7);
    uint8_t round = 1;

    for (size_t i = 0; i < len; i++)
        to[i] = (uint8_t)(i == 0 ? n : i == 1 ? n >> 8 : i * 7);
    for (unsigned i = words; i < all; i++) {
        uint8_t t[4], *last = to + 4 * (size_t)(i - 1);

        for (unsigned k = 0; k < 4; k++)
            t[k] = i % words == 0 ? sub(last[(k + 1) % 4]) : words == 8 && i % words == 4 ? sub(last[k]) : last[k];
        if (i % words == 0) {
            t[0] ^= round;
            round = (uint8_t)(round << 1 ^ (round & 0x80 ? 0x1b : 0));
        }
        for (unsigned k = 0; k < 4; k++)
            to[4 * i + k] = to[4 * (i - words) + k] ^ t[k];
    }
    return 4 * (size_t)all;
}

/* A child that has its parent's memory, until it is ended. */
struct child {
    pid_t pid;
    int pidfd;
};

static struct child child_new(void)
{
    struct child c = {.pid = fork()};

    if (!c.pid) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            pause();
    }
    assert_true(c.pid > 0);
    c.pidfd = (int)syscall(SYS_pidfd_open, c.pid, 0);
    assert_true(c.pidfd >= 0);
    return c;
}

static void child_end(struct child c)
{
    kill(c.pid, SIGKILL);
    waitpid(c.pid, NULL, 0);
    close(c.pidfd);
}

struct hits {
    unsigned count, of[2048];
};

/* Of keys made by expand(). */
static void hit(void *ctx, const uint8_t *key, size_t len)
{
    unsigned n = key[0] | (unsigned)key[1] << 8;
    uint8_t other[AES_SCHEDULE_MAX];
    struct hits *h = ctx;

    if (n >= 2048)
        return;
    expand(other, n, len);
    if (memcmp(other, key, len) == 0) {
        h->of[n]++;
        h->count++;
    }
}

/* Returns where it was cut, and how much CPU time it took. */
static uint64_t scan(struct child c, uint64_t from, struct hits *h)
{
    struct key_scan *s;
    uint64_t cut;
    int err;

    s = key_scan_new(c.pid, c.pidfd, from, &err);
    assert_non_null(s);
    while (key_scan_step(s, 1000000, hit, h)) {
    }
    cut = key_scan_cut(s);
    key_scan_free(s);
    return cut;
}

/* How many of its pages there are something in, as pagemap has it. */
static unsigned used_pages(pid_t pid, const uint8_t *p, size_t size)
{
    size_t bytes = size / PAGE * sizeof(uint64_t);
    uint64_t *entries = malloc(bytes);
    unsigned count = 0;
    char path[64];
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(entries && fd >= 0);
    assert_int_equal(pread(fd, entries, bytes, (off_t)((uintptr_t)p / PAGE * sizeof(uint64_t))), bytes);
    close(fd);
    for (size_t i = 0; i < size / PAGE; i++)
        count += entries[i] >> 62 != 0;
    free(entries);
    return count;
}

/* Wherever they lie: at the ends of pages and of what is read at once, beside pages that nobody has used, which stay so. Not
 * in memory that is shared, or may not be written to. */
static void in_memory(void **state)
{
    static const size_t at[] = {0, 4096 - 4, 8192 - 176, 262144 - 8, 262144 - 256, 524288 - 100, 786432 - 240, 1048576 - 176};
    const size_t size = 64u << 20, used = 1 << 20, far = 32u << 20;
    uint8_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    uint8_t *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint8_t *fixed = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint8_t *heap = malloc(AES_SCHEDULE_MAX);
    struct hits h = {0};
    struct child c;
    unsigned before;

    (void)state;
    assert_true(p != MAP_FAILED && shared != MAP_FAILED && fixed != MAP_FAILED && heap);
    madvise(p, size, MADV_NOHUGEPAGE);
    memset(p, 1, used);
    for (unsigned i = 0; i < 8; i++)
        expand(p + at[i], i, i % 2 ? 16 : 32);
    expand(p + far - 176, 8, 16);
    expand(p + size - 240, 9, 32);
    expand(heap, 10, 32);
    expand(shared, 11, 32);
    expand(fixed, 12, 32);
    mprotect(fixed, PAGE, PROT_READ);
    c = child_new();
    before = used_pages(c.pid, p, size);
    assert_int_equal(scan(c, 0, &h), 0);
    assert_int_equal(used_pages(c.pid, p, size), before);
    assert_int_equal(before, used / PAGE + 2);
    for (unsigned i = 0; i < 13; i++)
        assert_int_equal(h.of[i] > 0, i < 11);
    /* From there on only. */
    h = (struct hits){0};
    scan(c, (uint64_t)(uintptr_t)p + size - 240, &h);
    assert_true(h.of[9] && !h.of[0] && !h.of[8]);
    child_end(c);
    munmap(p, size);
    munmap(shared, PAGE);
    munmap(fixed, PAGE);
    free(heap);
}

/* Memory that is made to look as if it were full of keys; a process that has ended. */
static void scan_bounds(void **state)
{
    const size_t count = 1500;
    uint8_t *p = mmap(NULL, count * 256, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct hits first = {0}, second = {0};
    unsigned both = 0;
    struct child c;
    uint64_t cut;
    int err;

    (void)state;
    assert_true(p != MAP_FAILED);
    for (unsigned i = 0; i < count; i++)
        expand(p + (size_t)i * 256, i, i % 2 ? 16 : 32);
    c = child_new();
    cut = scan(c, 0, &first);
    assert_int_equal(first.count, KEY_SCAN_FOUND);
    assert_true(cut > (uintptr_t)p);
    scan(c, cut, &second);
    for (unsigned i = 0; i < count; i++)
        both += first.of[i] || second.of[i];
    assert_true(both > KEY_SCAN_FOUND); /* what was left of the piece that it was cut in isn't looked at again */
    kill(c.pid, SIGKILL);
    waitpid(c.pid, NULL, 0);
    assert_null(key_scan_new(c.pid, c.pidfd, 0, &err));
    assert_true(err < 0);
    assert_null(key_scan_new(getpid(), c.pidfd, 0, &err)); /* another one has its number */
    assert_int_equal(err, -ESRCH);
    close(c.pidfd);
    munmap(p, count * 256);
}

/* What a parent has set up, its child may need. */
static void inherited(void **state)
{
    struct tls_keys *parent = tls_keys_new(), *child = tls_keys_new();

    (void)state;
    assert_true(parent && child);
    add(parent, 1, 100, 1 * S);
    add(parent, 2, 200, 2 * S);
    add(parent, 3, 100, 3 * S);
    tls_keys_take(parent, 1);
    tls_keys_copy(child, parent);
    assert_string_equal(given(child, 0, true), "2@1 3@2 ");
    assert_string_equal(given(child, 0, false), "3@2 "); /* the same caller as before */
    tls_keys_take(child, 2);
    assert_string_equal(given(parent, 0, true), "2@2 3@3 ");
    tls_keys_free(parent);
    tls_keys_free(child);
}

/* What was found in memory is given out to all, once however often it is found. */
static void found_ones(void **state)
{
    struct tls_keys *k = tls_keys_new();
    uint8_t bytes[32];

    (void)state;
    assert_non_null(k);
    add(k, 1, 100, 1 * S);
    add(k, 3, 200, 1 * S);
    tls_keys_take(k, 1);
    memset(bytes, 5, sizeof(bytes));
    tls_keys_found(k, bytes, 16, 2 * S);
    tls_keys_found(k, bytes, 16, 3 * S);
    assert_string_equal(given(k, 0, false), "5@3 "); /* no other key of the second caller has opened anything */
    tls_keys_take(k, 3);
    tls_keys_found(k, bytes, 16, 4 * S);
    assert_string_equal(given(k, 0, true), "3@2 5@4 ");
    tls_keys_free(k);
}

/* More keys than there is room for: what goes unused is told. A hundred handshakes of BoringSSL make 4,000. */
static void crowded(void **state)
{
    struct tls_keys *k = tls_keys_new();
    struct tls_open_key key;
    uint64_t at = 0;

    (void)state;
    assert_non_null(k);
    assert_true(TLS_KEYS_MAX >= 4 * 4000);
    for (unsigned i = 0; i < TLS_KEYS_MAX; i++)
        add(k, (uint8_t)(2 * i + 1), 100, 1 * S);
    assert_int_equal(tls_keys_lost(k), 0);
    tls_keys_take(k, 1);
    for (unsigned i = 0; i < 3; i++)
        add(k, 1, 100, 2 * S);
    assert_int_equal(tls_keys_lost(k), 2); /* the one that was of use isn't missing */
    assert_true(tls_keys_next(k, 0, true, &at, &key));
    assert_int_equal(at, 4);
    tls_keys_free(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(taken_out),  cmocka_unit_test(overwritten), cmocka_unit_test(lies), cmocka_unit_test(died), cmocka_unit_test(inherited),
        cmocka_unit_test(candidates), cmocka_unit_test(bounded), cmocka_unit_test(wiped),
        cmocka_unit_test(in_memory),  cmocka_unit_test(scan_bounds), cmocka_unit_test(found_ones), cmocka_unit_test(crowded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
