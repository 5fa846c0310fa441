/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/dash_feed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/records.h"
#include "dash/model.h"
#include "host/host.h"
#include "host/service.h"

#define NS UINT64_C(1000000000)
#define SOURCES_MAX 128
#define LOOK_NS (2 * NS) /* between looks at a session's metadata */
#define SETTLE_S 5       /* a session may be there before its collector is */
#define BATCH 256        /* records between looks at the clock */

struct source {
    struct session s;
    char *store;       /* SCOPE_HOME that it is in; NULL: the one that the command has */
    struct records *r; /* NULL: it can't be read */
    struct records_want want;
    bool running, held; /* held: a record was read that is later than what was asked for */
    unsigned number;
};

struct store {
    char *home; /* NULL: the one that the command has */
    uint64_t changed_s;
};

struct feed {
    struct source *sources[SOURCES_MAX];
    size_t count, too_many;
    unsigned numbers; /* given */
    bool all;
    struct store *stores;
    size_t store_count;
    uint64_t looked_ns, from_ns;
    size_t unreadable;
    int why;
};

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * NS + (uint64_t)t.tv_nsec;
}

/* --- stores --- */

/* Makes a store the one that session_*() work on; returns what that was, for leave_store(). */
static char *enter_store(const char *home)
{
    const char *was = getenv("SCOPE_HOME");
    char *kept = was ? xstrdup(was) : NULL;

    if (home)
        setenv("SCOPE_HOME", home, 1);
    return kept;
}

static void leave_store(char *kept)
{
    if (kept)
        setenv("SCOPE_HOME", kept, 1);
    else
        unsetenv("SCOPE_HOME");
    free(kept);
}

static void add_store(struct feed *f, const char *home)
{
    if (home && access(home, R_OK | X_OK) < 0)
        return;
    for (size_t i = 0; home && i < f->store_count; i++)
        if (f->stores[i].home && strcmp(f->stores[i].home, home) == 0)
            return;
    f->stores = xrealloc(f->stores, f->store_count + 1, sizeof(*f->stores));
    f->stores[f->store_count++] = (struct store){.home = home ? xstrdup(home) : NULL};
}

static void find_stores(struct feed *f)
{
    char *own = session_base(), **names = service_list(host_init(""));

    add_store(f, own); /* by its path, so that no other one is it once more */
    free(own);
    add_store(f, HOST_STORE);
    for (char **n = names; *n; n++) {
        char *store = service_store(*n);

        if (store)
            add_store(f, store);
        free(store);
        free(*n);
    }
    free(names);
}

/* --- sources --- */

static int open_source(struct source *src, uint64_t from_ns)
{
    if (src->r)
        records_close_silently(src->r);
    src->r = NULL;
    src->held = false;
    src->want = (struct records_want){.from_ns = from_ns};
    return records_open_all(&src->s, &src->want, &src->r);
}

static void free_source(struct source *src)
{
    if (src->r)
        records_close_silently(src->r);
    session_clear(&src->s);
    free(src->store);
    free(src);
}

/* The session is taken. */
static void add_source(struct feed *f, struct session *s, const char *store)
{
    struct source *src = xcalloc(1, sizeof(*src));
    int rc;

    src->s = *s;
    src->store = store ? xstrdup(store) : NULL;
    src->running = session_running(s);
    src->number = f->numbers++;
    rc = open_source(src, f->from_ns);
    if (rc < 0) {
        f->unreadable++;
        f->why = rc;
    }
    f->sources[f->count++] = src; /* also one that can't be read: it isn't tried again, and its losses are told */
}

static bool is_known(const struct feed *f, const struct session *s)
{
    for (size_t i = 0; i < f->count; i++)
        if (f->sources[i]->s.id == s->id && strcmp(f->sources[i]->s.dir, s->dir) == 0)
            return true;
    return false;
}

/* Those of a store that are being recorded and aren't known yet. */
static void look_for_more(struct feed *f, const struct store *store)
{
    char *kept = enter_store(store->home);
    struct session *list;
    size_t count = 0;

    if (session_list(&list, &count) < 0) {
        leave_store(kept);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        bool wanted = list[i].dir && !list[i].end_ns && !is_known(f, &list[i]) && session_running(&list[i]);

        if (wanted && f->count < SOURCES_MAX) {
            add_source(f, &list[i], store->home);
            continue;
        }
        f->too_many += wanted;
        session_clear(&list[i]);
    }
    free(list);
    leave_store(kept);
}

/* Listing a store costs something for each session that it has: only where one may have come. */
static void look_at_stores(struct feed *f)
{
    uint64_t now_s = clock_ns(CLOCK_REALTIME) / NS;

    f->too_many = 0;
    for (size_t i = 0; i < f->store_count; i++) {
        char *path = xasprintf("%s/history", f->stores[i].home);
        struct stat st;

        if (stat(path, &st) == 0 &&
            ((uint64_t)st.st_mtime != f->stores[i].changed_s || (uint64_t)st.st_mtime + SETTLE_S >= now_s)) {
            f->stores[i].changed_s = (uint64_t)st.st_mtime;
            look_for_more(f, &f->stores[i]);
        }
        free(path);
    }
}

/* Its metadata, once more: what was lost, whether it has ended. */
static void refresh(struct source *src)
{
    char *kept = enter_store(src->store);
    struct session now = {0};
    int rc;

    src->running = session_running(&src->s);
    rc = session_load(src->s.id, &now);
    if (rc == 0 && now.dir && strcmp(now.dir, src->s.dir) == 0) {
        session_clear(&src->s);
        src->s = now;
    } else {
        session_clear(&now);
    }
    leave_store(kept);
}

/* When the last thing was recorded, of a session whose collector was killed. */
static uint64_t written_ns(const struct session *s)
{
    char *path = xasprintf("%s/" SESSION_JOURNAL, s->dir);
    struct stat st;
    uint64_t ns = stat(path, &st) == 0 ? (uint64_t)st.st_mtime * NS + NS : s->start_ns;

    free(path);
    return ns;
}

/* What has ended long ago isn't on the screen any more. */
static void forget_old(struct feed *f, uint64_t now_ns)
{
    for (size_t i = 0; i < f->count;) {
        const struct source *src = f->sources[i];
        uint64_t end = src->running ? now_ns : src->s.end_ns ? src->s.end_ns : written_ns(&src->s);

        if (end + MODEL_SECONDS * NS < now_ns) {
            free_source(f->sources[i]);
            f->sources[i] = f->sources[--f->count];
        } else {
            i++;
        }
    }
}

void feed_look(struct feed *f)
{
    uint64_t now = clock_ns(CLOCK_MONOTONIC);

    if (f->looked_ns && now - f->looked_ns < LOOK_NS)
        return;
    f->looked_ns = now;
    for (size_t i = 0; i < f->count; i++)
        if (f->sources[i]->running)
            refresh(f->sources[i]);
    if (f->all) {
        forget_old(f, clock_ns(CLOCK_REALTIME));
        look_at_stores(f);
    }
}

struct feed *feed_new(struct session *s)
{
    struct feed *f = xcalloc(1, sizeof(*f));

    f->all = !s;
    if (s)
        add_source(f, s, NULL);
    else
        find_stores(f);
    feed_look(f);
    return f;
}

void feed_free(struct feed *f)
{
    for (size_t i = 0; i < f->count; i++)
        free_source(f->sources[i]);
    for (size_t i = 0; i < f->store_count; i++)
        free(f->stores[i].home);
    free(f->stores);
    free(f);
}

size_t feed_sessions(const struct feed *f)
{
    return f->count;
}

size_t feed_unreadable(const struct feed *f, int *ret_why)
{
    *ret_why = f->why;
    return f->unreadable;
}

bool feed_running(const struct feed *f)
{
    for (size_t i = 0; i < f->count; i++)
        if (f->sources[i]->running)
            return true;
    return f->all;
}

/* --- time --- */

void feed_span(const struct feed *f, uint64_t *ret_from_ns, uint64_t *ret_to_ns)
{
    uint64_t now = clock_ns(CLOCK_REALTIME), from = UINT64_MAX, to = 0;

    for (size_t i = 0; i < f->count; i++) {
        const struct source *src = f->sources[i];
        uint64_t end = src->running ? now : src->s.end_ns ? src->s.end_ns : written_ns(&src->s);

        if (src->s.start_ns < from)
            from = src->s.start_ns;
        if (end > to)
            to = end;
    }
    if (f->all || to > now)
        to = now;
    *ret_to_ns = to;
    *ret_from_ns = from < to ? from : to;
}

void feed_seek(struct feed *f, struct model *m, uint64_t to_ns)
{
    uint64_t window = MODEL_SECONDS * NS;

    f->from_ns = to_ns > window ? to_ns - window : 0;
    dash_reset(m);
    dash_set_now(m, to_ns);
    for (size_t i = 0; i < f->count; i++)
        if (f->sources[i]->r) {
            int rc = open_source(f->sources[i], f->from_ns);

            if (rc < 0) {
                f->unreadable++;
                f->why = rc;
            }
        }
}

/* As many as a batch; true: there are no more until then. */
static bool take_batch(struct source *src, struct model *m, uint64_t to_ns, uint64_t now_ns)
{
    for (unsigned n = 0; n < BATCH; n++) {
        const struct ev_record *r;

        if (!src->held && records_next(src->r) != 1)
            return true;
        r = records_typed(src->r);
        /* What is of the future, by a clock that was set since, would hold up all that is behind it. */
        src->held = to_ns && r->time_ns > to_ns && r->time_ns <= now_ns;
        if (src->held)
            return true;
        dash_take(m, src->number, r);
    }
    return false;
}

bool feed_take(struct feed *f, struct model *m, uint64_t to_ns, unsigned budget_ms)
{
    uint64_t end = clock_ns(CLOCK_MONOTONIC) + (uint64_t)budget_ms * 1000000u;
    uint64_t now = clock_ns(CLOCK_REALTIME);
    bool done = true;

    for (size_t i = 0; i < f->count; i++) {
        while (f->sources[i]->r && !take_batch(f->sources[i], m, to_ns, now)) {
            if (clock_ns(CLOCK_MONOTONIC) < end)
                continue;
            done = false;
            break;
        }
    }
    return done;
}

/* --- what is missing --- */

void feed_losses(const struct feed *f, struct buf *ret)
{
    bool any = false;

    for (size_t i = 0; i < f->count; i++) {
        const struct session *s = &f->sources[i]->s;

        for (size_t k = 0; k < s->lost_count; k++) {
            uint64_t sum = 0;
            bool told = false;

            /* Each kind at the first session that has it. */
            for (size_t j = 0; j < f->count; j++)
                for (size_t n = 0; n < f->sources[j]->s.lost_count; n++)
                    if (strcmp(f->sources[j]->s.lost[n].kind, s->lost[k].kind) == 0) {
                        told |= j < i;
                        sum += f->sources[j]->s.lost[n].count;
                    }
            if (!told && sum) {
                buf_printf(ret, "%s%s %llu", any ? ", " : "", s->lost[k].kind, (unsigned long long)sum);
                any = true;
            }
        }
        if (s->held_back) {
            buf_printf(ret, "%sheld back %llu", any ? ", " : "", (unsigned long long)s->held_back);
            any = true;
        }
    }
}

void feed_note(const struct feed *f, struct buf *ret)
{
    uint64_t blocks = 0;

    for (size_t i = 0; i < f->count; i++)
        if (f->sources[i]->r)
            blocks += records_unread(f->sources[i]->r);
    if (!f->count)
        buf_str(ret, "Nothing is being recorded: `scope run PROGRAM` in another terminal begins it");
    if (f->unreadable)
        buf_printf(ret, "%zu sessions can't be read  ", f->unreadable);
    if (f->too_many)
        buf_printf(ret, "%zu sessions more than are shown  ", f->too_many);
    if (blocks)
        buf_printf(ret, "%llu blocks are damaged", (unsigned long long)blocks);
}
