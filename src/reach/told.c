/* SPDX-License-Identifier: Apache-2.0 */
#include "reach/told.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/safe_path.h"

#define LISTED_MAX 100 /* processes of a rule */
#define LISTED_ALL 1000

struct sums {
    uint32_t loader, attached, alone, failed, waiting;
    uint32_t listed;
};

static void count(struct sums *s, const struct reached *p)
{
    switch (p->state) {
    case REACH_LOADER:
        s->loader++;
        break;
    case REACH_ATTACHED:
        s->attached++;
        break;
    case REACH_ALONE:
        s->alone++;
        break;
    case REACH_FAILED:
        s->failed++;
        break;
    default:
        if (p->reason)
            s->failed++;
        else
            s->waiting++;
    }
}

/* Whether it is one of those that are listed: it isn't observed, and that is known. */
static bool is_listed(const struct reached *p)
{
    return p->reason && p->state != REACH_LOADER && p->state != REACH_ATTACHED;
}

static void put_process(struct buf *b, const struct reached *p, bool first)
{
    buf_printf(b, "%s\n   {\"pid\":%d,\"name\":", first ? "" : ",", (int)p->pid);
    buf_json_str(b, p->name);
    buf_printf(b, ",\"state\":\"%s\",\"reason\":", p->state == REACH_ALONE ? "left" : p->state == REACH_FAILED ? "failed" : "retry");
    buf_json_str(b, p->reason);
    buf_printf(b, ",\"since\":%lld}", (long long)p->since);
}

static void put_text(struct buf *b, const struct rules_head *h, uint32_t at)
{
    if (at)
        buf_json_str(b, (const char *)h + at);
    else
        buf_str(b, "null");
}

static void put_rule(struct buf *b, const struct rules_head *h, uint32_t rule, const struct sums *s, const struct buf *list)
{
    const struct rules_entry *e = (const struct rules_entry *)(const void *)(h + 1) + rule;

    buf_str(b, "\n  {\"procname\":");
    put_text(b, h, e->name);
    buf_str(b, ",\"arg\":");
    put_text(b, h, e->arg);
    buf_printf(b, ",\"loader\":%u,\"attached\":%u,\"waiting\":%u,\"left\":%u,\"failed\":%u,\"unlisted\":%u,\"processes\":[",
               s->loader, s->attached, s->waiting, s->alone, s->failed, s->alone + s->failed - s->listed);
    buf_add(b, list->p, list->len);
    buf_str(b, "]}");
}

static void put_rules(struct buf *b, const struct rules_head *h, const struct processes *t)
{
    const struct rules_entry *e = (const struct rules_entry *)(const void *)(h + 1);
    struct sums *sums = xcalloc(h->count + 1, sizeof(*sums));
    struct buf *lists = xcalloc(h->count + 1, sizeof(*lists));
    uint32_t listed = 0;
    bool first = true;

    for (int state = 0; state < REACH_STATES; state++)
        for (const struct reached *p = t->by_state[state].first; p; p = p->behind) {
            if (p->rule >= h->count)
                continue;
            count(&sums[p->rule], p);
            if (is_listed(p) && sums[p->rule].listed < LISTED_MAX && listed < LISTED_ALL) {
                put_process(&lists[p->rule], p, !sums[p->rule].listed);
                sums[p->rule].listed++;
                listed++;
            }
        }
    for (uint32_t i = 0; i < h->count; i++) {
        if (e[i].kind == RULES_ALLOW) {
            if (!first)
                buf_char(b, ',');
            put_rule(b, h, i, &sums[i], &lists[i]);
            first = false;
        }
        buf_free(&lists[i]);
    }
    free(lists);
    free(sums);
}

int told_write(const char *path, const struct told *f, const struct wanted *w, const struct processes *t)
{
    const char *name = strrchr(path, '/') + 1;
    struct buf b = BUF_INIT;
    int rc, dir = safe_dir(HOST_DIR, SAFE_OURS, 0755, NULL);

    if (dir < 0)
        return dir;
    buf_printf(&b, "{\"version\":1,\"time\":%lld,\"generation\":%llu,\"by\":\"%s\",", (long long)time(NULL),
               w->rules ? (unsigned long long)w->rules->generation : 0ULL, f->by);
    if (f->why) {
        buf_str(&b, "\"why\":");
        buf_json_str(&b, f->why);
        buf_char(&b, ',');
    }
    buf_printf(&b, "\"collector\":%s,\"overflows\":%llu,\"unanswered\":%llu,\"beyond\":%llu,\"rules\":[",
               f->answers ? "true" : "false", (unsigned long long)f->overflows, (unsigned long long)f->unanswered,
               (unsigned long long)f->beyond);
    if (w->rules)
        put_rules(&b, w->rules, t);
    buf_str(&b, "]}\n");
    rc = safe_replace(dir, name, b.p, b.len, 0644);
    close(dir);
    buf_free(&b);
    return rc;
}
