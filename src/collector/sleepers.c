/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/sleepers.h"

#include <event2/event.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "collector/doze.h"
#include "collector/segments.h"
#include "collector/state.h"

struct sleep_group {
    struct sleep_group *next;
    struct sleepers *all;
    struct doze *doze;
    struct event *event;
    struct segment *member[DOZE_MAX];
    unsigned count;
    bool changed;           /* others are to be waited for */
};

struct sleepers {
    struct collector *c;
    struct event_base *base;
    struct sleep_group *groups;
    bool failed;            /* no more threads can be had */
    void (*woken)(void *ctx);
    void *ctx;
};

static uint32_t *word_of(const struct segment *seg)
{
    return &segment_hdr(&seg->map)->asleep;
}

static bool is_awake(const struct segment *seg)
{
    return __atomic_load_n(word_of(seg), __ATOMIC_ACQUIRE) != SEG_ASLEEP;
}

static void wait_for_group(struct sleep_group *g)
{
    uint32_t *words[DOZE_MAX];

    for (unsigned i = 0; i < g->count; i++)
        words[i] = word_of(g->member[i]);
    doze_wait(g->doze, SEG_ASLEEP, words, g->count);
    g->changed = false;
}

void sleepers_rouse(struct segment *seg)
{
    struct sleep_group *g = seg->group;
    struct collector *c = seg->c;

    if (!g)
        return;
    g->member[seg->place] = g->member[--g->count];
    g->member[seg->place]->place = seg->place;
    g->changed = true;
    seg->group = NULL;
    c->asleep--;
    __atomic_store_n(word_of(seg), SEG_AWAKE, __ATOMIC_RELAXED);
    seg->next_poll = 0;
    seg->naps = false;
    seg->busy_ns = clock_now_mono();
    seg->prev = NULL;
    seg->next = c->segments;
    if (seg->next)
        seg->next->prev = seg;
    c->segments = seg;
}

static bool rouse_members(struct sleep_group *g)
{
    bool any = false;

    for (unsigned i = g->count; i-- > 0;)
        if (is_awake(g->member[i])) {
            sleepers_rouse(g->member[i]);
            any = true;
        }
    return any;
}

static void on_group(evutil_socket_t fd, short what, void *arg)
{
    struct sleep_group *g = arg;
    uint64_t times;
    bool any;

    (void)what;
    if (read(fd, &times, sizeof(times)) < 0)
        return;
    any = rouse_members(g);
    wait_for_group(g);
    if (any)
        g->all->woken(g->all->ctx);
}

static struct sleep_group *group_new(struct sleepers *s)
{
    struct sleep_group *g = xcalloc(1, sizeof(*g));

    g->all = s;
    g->doze = doze_new();
    g->event = g->doze ? event_new(s->base, doze_fd(g->doze), EV_READ | EV_PERSIST, on_group, g) : NULL;
    if (g->event && !event_add(g->event, NULL)) {
        g->next = s->groups;
        s->groups = g;
        return g;
    }
    if (g->event)
        event_free(g->event);
    doze_free(g->doze);
    free(g);
    s->failed = true;
    return NULL;
}

static struct sleep_group *with_room(struct sleepers *s)
{
    for (struct sleep_group *g = s->groups; g; g = g->next)
        if (g->count < DOZE_MAX)
            return g;
    return s->failed ? NULL : group_new(s);
}

struct sleepers *sleepers_new(struct collector *c, struct event_base *base, void (*woken)(void *ctx), void *ctx)
{
    struct sleepers *s = xcalloc(1, sizeof(*s));

    *s = (struct sleepers){.c = c, .base = base, .woken = woken, .ctx = ctx};
    c->rouse = sleepers_rouse;
    c->rouse_written = sleepers_rouse_written;
    if (group_new(s))
        return s;
    free(s);
    return NULL;
}

void sleepers_free(struct sleepers *s)
{
    for (struct sleep_group *g; s && (g = s->groups);) {
        while (g->count)
            sleepers_rouse(g->member[0]);
        s->groups = g->next;
        event_free(g->event);
        doze_free(g->doze);
        free(g);
    }
    free(s);
}

void sleepers_rouse_written(struct sleepers *s)
{
    for (struct sleep_group *g = s ? s->groups : NULL; g; g = g->next)
        rouse_members(g);
}

/* Out of the list of those that are looked at. Its writer may not have seen the word yet: then it is in the ring. */
static void fall_asleep(struct segment *seg, struct sleep_group *g)
{
    struct collector *c = seg->c;

    __atomic_store_n(word_of(seg), SEG_ASLEEP, ORDER_ASLEEP_SET);
    if (segment_has_news(&seg->map)) {
        __atomic_store_n(word_of(seg), SEG_AWAKE, __ATOMIC_RELAXED);
        return;
    }
    if (c->drain_from == seg)
        c->drain_from = seg->next;
    if (seg->prev)
        seg->prev->next = seg->next;
    else
        c->segments = seg->next;
    if (seg->next)
        seg->next->prev = seg->prev;
    seg->next = seg->prev = NULL;
    seg->group = g;
    seg->place = g->count;
    g->member[g->count++] = seg;
    g->changed = true;
    c->asleep++;
}

void sleepers_look(struct sleepers *s)
{
    struct collector *c = s->c;
    uint64_t now = clock_now_mono();

    for (struct segment *seg = c->segment_count >= SLEEPERS_FROM ? c->segments : NULL, *next; seg; seg = next) {
        struct sleep_group *g;

        next = seg->next;
        if (seg->broken || !seg->owner || !segment_may_sleep(seg, now))
            continue;
        g = with_room(s);
        if (!g)
            break;
        fall_asleep(seg, g);
    }
    for (struct sleep_group *g = s->groups; g; g = g->next)
        if (g->changed)
            wait_for_group(g);
}
