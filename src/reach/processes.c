/* SPDX-License-Identifier: Apache-2.0 */
#include "reach/processes.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"

#define SLOTS 16384u /* a power of two; numbers are given one after the other */

void processes_init(struct processes *t)
{
    *t = (struct processes){.slot_count = SLOTS};
    t->slots = xcalloc(SLOTS, sizeof(struct reached *));
}

void processes_free(struct processes *t)
{
    for (int state = 0; state < REACH_STATES; state++)
        for (struct reached *p = t->by_state[state].first, *behind; p; p = behind) {
            behind = p->behind;
            processes_remove(t, p);
        }
    free(t->slots);
    *t = (struct processes){0};
}

static struct reached **slot(const struct processes *t, pid_t pid)
{
    return &t->slots[(uint32_t)pid & (t->slot_count - 1)];
}

struct reached *processes_find(const struct processes *t, pid_t pid)
{
    struct reached *p = *slot(t, pid);

    while (p && p->pid != pid)
        p = p->next;
    return p;
}

static void leave_queue(struct processes *t, struct reached *p)
{
    if (p->before)
        p->before->behind = p->behind;
    else
        t->by_state[p->state].first = p->behind;
    if (p->behind)
        p->behind->before = p->before;
    else
        t->by_state[p->state].last = p->before;
    t->by_state[p->state].count--;
}

static void enter_queue(struct processes *t, struct reached *p, enum reach_state state)
{
    p->state = state;
    p->before = t->by_state[state].last;
    p->behind = NULL;
    if (p->before)
        p->before->behind = p;
    else
        t->by_state[state].first = p;
    t->by_state[state].last = p;
    t->by_state[state].count++;
}

void processes_move(struct processes *t, struct reached *p, enum reach_state state)
{
    leave_queue(t, p);
    enter_queue(t, p, state);
}

struct reached *processes_add(struct processes *t, pid_t pid)
{
    struct reached **at = slot(t, pid), *p;

    if (t->count >= PROCESSES_MAX)
        return NULL;
    p = xcalloc(1, sizeof(*p));
    p->pid = pid;
    p->rule = RULES_NONE;
    p->next = *at;
    *at = p;
    t->count++;
    enter_queue(t, p, REACH_ASK);
    return p;
}

void processes_remove(struct processes *t, struct reached *p)
{
    struct reached **at = slot(t, p->pid);

    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    leave_queue(t, p);
    t->count--;
    subject_clear(&p->subject);
    free(p->reason);
    free(p);
}

void reached_set_reason(struct reached *p, const char *reason)
{
    if (reason && p->reason && strcmp(reason, p->reason) == 0)
        return;
    if (!reason || !p->since)
        p->since = reason ? (int64_t)time(NULL) : 0;
    free(p->reason);
    p->reason = xstrdup(reason);
}
