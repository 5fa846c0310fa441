/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What test_memory_model.c shows for all executions of a model, tried on this CPU with the code itself: the probe's
 * ring, sleep and wake, generations, written code. Bounded by rounds, not by time: SCOPE_STRESS multiplies them (on
 * real arm64: 50). On x86 it finds faults of logic, not of order.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "code_returning.h"
#include "collector/segment.h"
#include "stress_probe.h"

#define WRITERS 3u
#define FDS 16u
#define LOST_WAKE_S 20 /* nobody on a busy machine is late by so much */

static struct segment_map map;
static struct segment_header *header;
static uint64_t rounds;
static uint32_t over; /* writers that have ended */

static uint64_t times(uint64_t n)
{
    const char *s = getenv("SCOPE_STRESS");

    return n * (s && atoi(s) > 0 ? (uint64_t)atoi(s) : 1);
}

static int setup(void **state)
{
    int fd = memfd_create("stress", MFD_ALLOW_SEALING);
    const char *why;

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)segment_size(FDS)), 0);
    header = mmap(NULL, segment_size(FDS), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(header != MAP_FAILED);
    segment_layout(header, FDS, segment_table_hash());
    header->mode = SEG_M_ON;
    header->wakes = 1;
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
    assert_int_equal(segment_map(&map, fd, &why), 0); /* at another address: as the collector has it */
    close(fd);
    stress_start(header);
    over = 0;
    return 0;
}

static int teardown(void **state)
{
    segment_unmap(&map);
    munmap(header, segment_size(FDS));
    return 0;
}

static void *write_records(void *arg)
{
    uint64_t me = (uintptr_t)arg, n = 0, lost = 0;

    for (; n < rounds; n++) {
        lost += !stress_write(header, me, n, (unsigned)((n * 7 + me) % STRESS_WORDS));
        if (n % 1024 == me * 100) { /* now and then the reader finds nothing */
            struct timespec t = {0, 50000};

            nanosleep(&t, NULL);
        }
    }
    __atomic_fetch_add(&over, 1, __ATOMIC_RELEASE);
    stress_write(header, me, UINT64_MAX >> 8, 0); /* wakes the reader */
    return (void *)(uintptr_t)lost;
}

static unsigned long faults; /* of a reader: assertions of cmocka end the thread that they are in */

static void check_record(const struct record *shared, uint32_t size)
{
    uint64_t copy[(sizeof(struct record) + 16 + STRESS_WORDS * 8) / 8];
    const struct record *r = (const struct record *)copy;

    if (size > sizeof(copy)) {
        faults++;
        return;
    }
    memcpy(copy, shared, size);
    for (unsigned i = 0; i < r->arg[2]; i++)
        faults += copy[sizeof(*r) / 8 + 1 + i] != stress_word(r->arg[0], r->arg[1], i);
}

/* As segments_sleep() and doze_wait() do. False: nobody came. */
static bool sleeps_well(void)
{
    struct segment_header *h = segment_hdr(&map);
    struct timespec t = {LOST_WAKE_S, 0};
    bool ok = true;

    __atomic_store_n(&h->asleep, SEG_ASLEEP, ORDER_ASLEEP_SET);
    if (!segment_has_news(&map))
        ok = syscall(SYS_futex, &h->asleep, FUTEX_WAIT, SEG_ASLEEP, &t, NULL, 0) == 0 || errno != ETIMEDOUT;
    __atomic_store_n(&h->asleep, SEG_AWAKE, __ATOMIC_RELAXED);
    return ok;
}

static void test_ring(void **state)
{
    pthread_t t[WRITERS];
    uint64_t next[WRITERS + 1] = {0}, got = 0, lost = 0, sleeps = 0, late = 0;
    void *res;

    header->mode = SEG_M_ON | SEG_M_LOSSLESS;
    rounds = times(20000);
    for (uintptr_t i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, write_records, (void *)i), 0);
    for (;;) {
        bool last = __atomic_load_n(&over, __ATOMIC_ACQUIRE) == WRITERS;
        const void *shared;
        uint32_t size;
        enum ring_state st;

        while ((st = ring_next(&map, 1, false, &shared, &size)) == RING_RECORD) {
            const struct record *r = shared;

            if (r->arg[1] != UINT64_MAX >> 8) {
                faults += r->arg[0] >= WRITERS || r->arg[1] < next[r->arg[0] % WRITERS];
                next[r->arg[0] % WRITERS] = r->arg[1] + 1;
                check_record(r, size);
                got++;
            }
            ring_advance(&map, size);
        }
        faults += st == RING_BROKEN;
        ring_release(&map, 1);
        if (last || faults)
            break;
        if (__atomic_load_n(&over, __ATOMIC_ACQUIRE) ==
            WRITERS) /* its last record may have been read: nobody wakes us */
            continue;
        late += !sleeps_well();
        sleeps++;
    }
    for (unsigned i = 0; i < WRITERS; i++) {
        pthread_join(t[i], &res);
        lost += (uintptr_t)res;
    }
    assert_int_equal(faults, 0);
    assert_int_equal(late, 0);
    assert_int_equal(got + lost, WRITERS * rounds);
    assert_true(lost <= header->loss[LOSS_RECORD] + header->loss[LOSS_DATA]);
    print_message("%lu records, %lu lost, %lu sleeps\n", (unsigned long)got, (unsigned long)lost,
                  (unsigned long)sleeps);
}

/* The collector falls asleep while nobody may wake it any more, again and again. */
static uint32_t stage;

static void *silence(void *arg)
{
    for (uint32_t i = 1; i <= rounds; i++) {
        while (__atomic_load_n(&stage, __ATOMIC_ACQUIRE) != 2 * i - 1)
            sched_yield();
        stress_silence(header);
        __atomic_store_n(&stage, 2 * i, __ATOMIC_RELEASE);
    }
    return NULL;
}

static void test_silence(void **state)
{
    pthread_t t;
    unsigned late = 0;

    rounds = times(2000);
    stage = 0;
    assert_int_equal(pthread_create(&t, NULL, silence, NULL), 0);
    for (uint32_t i = 1; i <= rounds; i++) {
        __atomic_store_n(&header->wakes, 1, __ATOMIC_RELAXED);
        __atomic_store_n(&stage, 2 * i - 1, __ATOMIC_RELEASE);
        late += !sleeps_well();
        while (__atomic_load_n(&stage, __ATOMIC_ACQUIRE) != 2 * i)
            sched_yield();
    }
    pthread_join(t, NULL);
    assert_int_equal(late, 0);
}

static void *reopen(void *arg)
{
    for (uint32_t n = 1; n <= rounds; n++)
        stress_reopen(header, 3, n);
    __atomic_store_n(&over, 1, __ATOMIC_RELEASE);
    return NULL;
}

static void test_generations(void **state)
{
    pthread_t t;
    unsigned long old = 0;
    struct fd_entry e;

    rounds = times(300000);
    assert_int_equal(pthread_create(&t, NULL, reopen, NULL), 0);
    while (!__atomic_load_n(&over, __ATOMIC_ACQUIRE)) {
        segment_fd(&map, 3, &e);
        old += e.unsaid < e.gen; /* of an earlier one; a later one may be under way */
    }
    pthread_join(t, NULL);
    assert_int_equal(old, 0);
    assert_true(segment_fd(&map, 3, &e));
    assert_int_equal(e.gen, rounds);
}

/* Code in memory from which nothing was fetched before, as slots are: whoever is told of it runs it. */
#define CODE_ROOM 64u
static int (*code)(void);
static unsigned long wrong, value;

static void *run_code(void *arg)
{
    int (*last)(void) = NULL;

    while (!__atomic_load_n(&over, __ATOMIC_ACQUIRE)) {
        int (*fn)(void) = __atomic_load_n(&code, __ATOMIC_ACQUIRE);

        if (fn && fn != last)
            wrong += fn() != (int)((uintptr_t)fn / CODE_ROOM % 30000);
        last = fn;
    }
    return NULL;
}

static void test_code(void **state)
{
    size_t count = 4096, size = count * CODE_ROOM;
    unsigned char *at = mmap(NULL, size, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_t t;

    if (at == MAP_FAILED)
        skip(); /* not allowed here */
    code = NULL;
    assert_int_equal(pthread_create(&t, NULL, run_code, NULL), 0);
    for (size_t i = 0; i < count; i++) {
        unsigned char *fn = at + i * CODE_ROOM;
        int (*is)(void);

        code_returning(fn, (uint16_t)((uintptr_t)fn / CODE_ROOM % 30000));
        stress_sync_code(fn, CODE_ROOM);
        memcpy(&is, &fn, sizeof(is));
        value += is() != (int)((uintptr_t)fn / CODE_ROOM % 30000);
        __atomic_store_n(&code, is, __ATOMIC_RELEASE);
    }
    __atomic_store_n(&over, 1, __ATOMIC_RELEASE);
    pthread_join(t, NULL);
    munmap(at, size);
    assert_int_equal(wrong, 0);
    assert_int_equal(value, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_ring, setup, teardown),
        cmocka_unit_test_setup_teardown(test_silence, setup, teardown),
        cmocka_unit_test_setup_teardown(test_generations, setup, teardown),
        cmocka_unit_test_setup_teardown(test_code, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
