/* SPDX-License-Identifier: Apache-2.0 */
#include "model/clock.h"

#include <time.h>

#include "counter.h"
#include "wire/segment.h"

#define NS UINT64_C(1000000000)

static uint64_t now_ns(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * NS + (uint64_t)ts.tv_nsec;
}

uint64_t clock_now_real(void)
{
    return now_ns(CLOCK_REALTIME);
}

uint64_t clock_used(void)
{
    struct timespec ts = {0};

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

uint64_t clock_now_mono(void)
{
    return now_ns(CLOCK_MONOTONIC);
}

/* Reads counter and clocks together; of a few attempts the one during which least time passed. */
static void read_pair(struct clock_anchor *a)
{
    uint64_t best = UINT64_MAX;

    for (int i = 0; i < 4; i++) {
        uint64_t before = arch_counter();
        uint64_t raw = now_ns(CLOCK_MONOTONIC_RAW), mono = now_ns(CLOCK_MONOTONIC), real = now_ns(CLOCK_REALTIME);
        uint64_t after = arch_counter();

        if (after - before < best) {
            best = after - before;
            *a = (struct clock_anchor){before + best / 2, raw, mono, real};
        }
    }
}

static const struct clock_anchor *newest(const struct clock_map *m)
{
    return &m->anchor[(m->count - 1) % CLOCK_ANCHORS];
}

static const struct clock_anchor *oldest(const struct clock_map *m)
{
    return &m->anchor[m->count > CLOCK_ANCHORS ? m->count % CLOCK_ANCHORS : 0];
}

void clock_init(struct clock_map *m)
{
    *m = (struct clock_map){0};
    read_pair(&m->anchor[0]);
    m->count = 1;
}

void clock_sample(struct clock_map *m)
{
    struct clock_anchor a;
    const struct clock_anchor *old = oldest(m);
    uint64_t age = now_ns(CLOCK_MONOTONIC_RAW) - newest(m)->raw;

    /* until there is a second's worth of distance the rate is measured anew from the first pair */
    if (age < NS && (m->ns_per_tick > 0 && newest(m)->raw + age - old->raw >= NS))
        return;
    read_pair(&a);
    if (a.tsc > old->tsc && a.raw - old->raw >= 200000) {
        double rate = (double)(a.raw - old->raw) / (double)(a.tsc - old->tsc);

        if (m->ns_per_tick > 0 && a.raw - old->raw > NS &&
            (rate > m->ns_per_tick * 1.01 || rate < m->ns_per_tick * 0.99)) {
            /* the counter stood still or jumped (suspend, migration): what was measured before is void */
            *m = (struct clock_map){.count = 1, .ns_per_tick = m->ns_per_tick};
            m->anchor[0] = a;
            return;
        }
        m->ns_per_tick = rate;
    }
    if (age >= NS) {
        m->anchor[m->count % CLOCK_ANCHORS] = a;
        m->count++;
    }
}

uint64_t clock_ticks_ns(const struct clock_map *m, uint32_t kind, uint64_t ticks)
{
    if (kind == SEG_CLOCK_MONO)
        return ticks;
    if (kind != SEG_CLOCK_TSC || ticks > UINT64_C(1) << 62)
        return 0;
    return (uint64_t)((double)ticks * m->ns_per_tick);
}

uint64_t clock_to_real(const struct clock_map *m, uint32_t kind, uint64_t value, uint64_t arrival)
{
    unsigned kept = m->count < CLOCK_ANCHORS ? m->count : CLOCK_ANCHORS;
    const struct clock_anchor *a = &m->anchor[0];
    uint64_t real;

    if ((kind != SEG_CLOCK_TSC && kind != SEG_CLOCK_MONO) || kept == 0 || !value) /* 0: it may not read the clock */
        return arrival;
    if (kind == SEG_CLOCK_TSC && m->ns_per_tick <= 0)
        return arrival;
    for (unsigned i = 1; i <= kept; i++) {
        a = &m->anchor[(m->count - i) % CLOCK_ANCHORS];
        if (value >= (kind == SEG_CLOCK_TSC ? a->tsc : a->mono))
            break;
    }
    if (kind == SEG_CLOCK_TSC) {
        if (value >= a->tsc)
            real = a->real + (uint64_t)((double)(value - a->tsc) * m->ns_per_tick);
        else
            real = a->real - (uint64_t)((double)(a->tsc - value) * m->ns_per_tick);
    } else {
        real = a->real + (value - a->mono); /* wraps as meant for older values */
    }
    /* what lies before 2001 or after its own arrival is no time that this program can have read */
    return real > arrival || real < NS * 1000000000 ? arrival : real;
}
