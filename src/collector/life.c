/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/life.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "collector/admission.h"
#include "collector/counters.h"
#include "collector/guests.h"
#include "collector/identify.h"
#include "collector/segments.h"
#include "collector/sleepers.h"
#include "collector/state.h"
#include "collector/transfers.h"
#include "model/fds.h"
#include "model/images.h"
#include "model/names.h"
#include "model/procinfo.h"
#include "report/notices.h"
#include "report/report.h"
#include "report/spans.h"
#include "rules/rules.h"
#include "traffic/tls_objects.h"

#define MS UINT64_C(1000000)

#define ANCESTORS_MAX 32

static char **outer_ancestors(pid_t pid)
{
    char **list = xcalloc(ANCESTORS_MAX + 1, sizeof(*list));
    struct pi_stat st;

    for (int n = 0; n < ANCESTORS_MAX && pid > 1 && !pi_stat(pid, &st); n++) {
        list[n] = pi_name(pid);
        pid = st.ppid;
    }
    return list;
}

size_t life_rules(const struct proc *p, uint32_t *ret, size_t max)
{
    const struct collector_host *host = collector_of(p->m)->opt->host;
    const struct segment_info *info = p->seg && !p->borrowed ? &p->seg->map.info : NULL;
    struct rules_subject s;
    size_t n;

    if (!host || !host->which)
        return 0;
    s = info ? admission_subject(info->exe, info->comm, info->argv, info->argv_len)
             : admission_subject(p->tm.exe ? p->tm.exe : "", "", p->tm.cmd ? p->tm.cmd : "", p->tm.cmd ? strlen(p->tm.cmd) : 0);
    s.spared = p->host_pid > 0 && !p->dead && pi_is_of_host(p->host_pid);
    n = rules_which(host->which, &s, ret, max);
    return n < max ? n : max;
}

static void configure(struct proc *p, char **env)
{
    const char *names[ANCESTORS_MAX + 1];
    uint32_t rules[RULES_OF_ONE];
    struct cfg_process who = {.procname = p->tm.proc, .cmdline = p->tm.cmd, .hostname = p->tm.host,
                              .username = p->tm.username, .environ_ = (const char *const *)env, .ancestors = names};
    const struct proc *top = p;
    int n = 0;

    for (; top->parent && n < ANCESTORS_MAX; top = top->parent)
        names[n++] = top->parent->tm.proc;
    for (int i = 0; top->outer && top->outer[i] && n < ANCESTORS_MAX; i++)
        names[n++] = top->outer[i];
    names[n] = NULL;
    who.rules = rules;
    who.rule_count = life_rules(p, rules, RULES_OF_ONE);
    p->pl = pipeline_for(&collector_of(p->m)->pipelines, life_config(p), &who);
}

/* All live as long as the collector: descendants may have any of them, and there are few. */
struct config_list {
    struct config_list *next;
    struct config_sources *sources;
};

const struct config_sources *life_config(const struct proc *p)
{
    return p->config ? p->config : collector_of(p->m)->opt->config;
}

/* --- telemetry of an image begins and ends --- */

void life_begin(struct proc *p, const char *start, uint64_t time_ns)
{
    const struct segment_info *info = &p->seg->map.info;
    uint64_t period = (uint64_t)p->pl->cfg->libscope.summaryperiod * 1000 * MS;

    p->image_ns = time_ns;
    p->last_summary = 0;
    p->known_rss = p->known_threads = 0;
    p->known_fds = -1;
    p->next_look = p->look_wait = 0;
    p->next_summary = clock_now_mono() + (period ? period : 10000 * MS);
    telemetry_process_start(p->pl->tm, &p->tm);
    report_start(p, &(struct report_args){info->argv, info->argv_len, info->argv_cut}, start, time_ns);
}

void life_finish(struct proc *p, uint64_t time_ns)
{
    if (!p->pl)
        return;
    report_period(p, time_ns, true);
    spans_flush(p);
    telemetry_process_end(p->pl->tm, &p->tm, time_ns);
    p->tm.aggregate = NULL;
}

static void unclosed(void *ctx, int fd, struct desc *d)
{
    transfers_unclosed_file(ctx, fd, d, clock_now_real());
}

void life_leave_segment(struct proc *p)
{
    struct segment *seg = p->seg;

    if (!seg || p->borrowed)
        return;
    counters_settle(p, true);
    counters_take_ops(seg, p);
    if (p->pl && p->pl->notices)
        fd_table_each(&p->fds, unclosed, p);
    segment_losses(collector_of(p->m), seg);
    sleepers_rouse(seg);
    seg->orphans = p->forks != NULL;
    seg->owner = NULL;
    seg->last_found = NULL;
    p->seg = NULL;
    segment_unref(collector_of(p->m), seg);
}

/* --- a segment's process --- */

uint64_t life_mono_of(uint64_t real_ns)
{
    uint64_t real = clock_now_real(), mono = clock_now_mono(), ago = real > real_ns ? real - real_ns : 0;

    return ago < mono ? mono - ago : 0;
}

/* Counters of a new segment start at 0. */
static void reset_numbers(struct proc *p)
{
    p->cpu_settled_ns = 0;
    for (unsigned i = 0; i < p->fds.pages; i++) {
        for (unsigned k = 0; p->fds.page[i] && k < FD_PAGE; k++) {
            struct desc *d = &p->fds.page[i][k];

            d->seen = (struct io_count){0};
            d->said = (struct io_count){0};
            d->unsaid_seen = d->unsaid_gen = 0;
            d->gen = 0;
            d->next_gen = 1;
            d->want = FDW_UNDECIDED;
            memset(d->pos, 0, sizeof(d->pos));
            memset(d->skip, 0, sizeof(d->skip));
            d->flags &= (uint8_t)~DF_BLIND;
        }
    }
}

static void decide_one(void *ctx, int fd, struct desc *d)
{
    fds_decide(ctx, fd, d);
}

/* 0: no such process. */
static uint64_t start_ticks(pid_t pid)
{
    struct pi_stat st;

    return pi_stat(pid, &st) ? 0 : st.start_ticks;
}

void life_watch(struct proc *p)
{
    if (p->pidfd < 0 && p->seg && !p->borrowed) {
        p->pidfd = p->seg->pidfd;
        p->seg->pidfd = -1;
    }
    if (p->death || p->dead || !collector_of(p->m)->watch_death || p->host_pid <= 0)
        return;
    if (!p->start_ticks)
        p->start_ticks = start_ticks(p->host_pid);
    collector_of(p->m)->watch_death(p);
}

/* A child that was modelled without knowing its pid here: in another pid namespace, or of uncertain descent. */
static struct proc *by_inner_pid(struct collector *c, const struct segment *seg)
{
    const struct segment_info *info = &seg->map.info;
    struct pi_stat st = {0};

    if (!info->ppid) /* its parent is outside, and has another number here */
        pi_stat(seg->host_pid, &st);

    for (struct proc *p = c->model.procs; p; p = p->next)
        if (p->host_pid <= 0 && p->pid == info->pid && !p->dead &&
            (p->tm.ppid == info->ppid || (st.ppid && p->parent && p->parent->host_pid == st.ppid)))
            return p;
    return NULL;
}

/* A process that we first hear of by its own JOIN: finds who forked it, whose descriptors it has. */
static void adopt(struct collector *c, struct proc *p, pid_t ppid)
{
    struct proc *parent = ppid > 1 ? proc_by_host_pid(&c->model, ppid) : NULL;
    struct fork_pending *f;

    if (!parent || !parent->pl)
        return;
    proc_set_parent(p, parent);
    p->config = parent->config;
    for (f = parent->forks; f && f->child; f = f->next)
        ;
    if (!f)
        return;
    f->child = p->pid;
    p->fds = f->fds;
    f->fds = (struct fd_table){0};
    p->tls = f->tls;
    f->tls = NULL;
    p->images = images_ref(parent->images);
    p->go = parent->go;
    p->birth_ns = f->time_ns;
    p->origin = parent->seg ? parent->seg->id : 0;
}

static void exec_succeeded(struct proc *p, uint64_t time_ns)
{
    struct report_call call = {.op = (enum op_id)p->exec_op, .tid = p->exec_tid, .args = p->exec_args, .fd = -1,
                               .bytes = -1, .has_result = true};

    if (!p->exec_op)
        return;
    if (p->pl->event[CFG_EW_SYSCALL]) {
        if (p->pending_exec) {
            call.path = p->exec_path;
            call.path_len = strlen(p->exec_path);
            call.file = p->pending_exec;
            call.file_len = strlen(p->pending_exec);
        }
        report_syscall(p, &call, time_ns);
    }
}

/* The probe's part of a configuration. */
static void apply_mode(struct proc *p)
{
    struct segment *seg = p->seg;

    if (!seg || p->borrowed || seg->broken)
        return;
    segment_set_mode(&seg->map, p->pl->mode);
    seg->map.lossless = p->pl->mode & SEG_M_LOSSLESS;
}

/* Nothing has to be told any more of an exec of this process before that time. */
static void note_exec(struct collector *c, pid_t pid, uint64_t time_ns)
{
    unsigned at = c->unseen_next++ % UNSEEN_MAX;

    c->unseen[at].pid = pid;
    c->unseen[at].time_ns = time_ns;
}

/* What getcwd(3) says has neither links nor dots in it. */
static void begins_at(struct proc *p, const char *cwd)
{
    uint32_t len = (uint32_t)strlen(cwd);

    p->own_cwds = false;
    names_set_cwd(p, &(struct name){cwd, len, len, len});
    names_look(p);
}

/* Whether a process that was attached to has executed another program since it was observed last, and no probe came along
 * to tell. */
static bool runs_another(const struct proc *p, const struct segment_info *info)
{
    return p->pl && (p->pending_exec || (p->tm.exe && *p->tm.exe && *info->exe && strcmp(p->tm.exe, info->exe) != 0));
}

void life_attach(struct collector *c, struct segment *seg, uint64_t arrival)
{
    const struct segment_info *info = &seg->map.info;
    struct proc *p;
    bool attached = info->start == SEG_START_ATTACH; /* who made its segment did not look at the clock */
    uint64_t time = attached ? arrival : clock_to_real(&c->model.clock, info->clock, info->start_time, arrival);
    bool fresh = false, image = info->start == SEG_START_EXEC;
    struct pi_stat st = {0};
    char **env = NULL, *executed = NULL;

    if (segment_waits(c, seg)) {
        seg->attach_again = true;
        return;
    }
    p = proc_by_host_pid(&c->model, seg->host_pid);
    if (p && attached && p->borrowed) { /* known by what another has said of it only */
        proc_set_host_pid(p, 0);
        p = NULL;
    }
    if (p && p->dead && time > p->death_ns) { /* the number is in use again */
        proc_set_host_pid(p, 0);
        p = NULL;
    }
    if (!p)
        p = by_inner_pid(c, seg);
    if (info->start == SEG_START_FORK && (!p || p->borrowed) && clock_now_mono() < seg->held_until && !c->stopping) {
        seg->attach_again = true; /* its last record in the old ring, or its parent's fork, wasn't read yet */
        return;
    }
    if (p && p->host_pid <= 0)
        proc_set_host_pid(p, seg->host_pid);
    image |= attached && p && runs_another(p, info);
    pi_stat(seg->host_pid, &st);
    if (!p) {
        fresh = true;
        p = proc_new(&c->model, info->pid, seg->host_pid);
        p->birth_ns = time;
        p->start_ticks = st.start_ticks;
        p->cpu_at_ns = life_mono_of(time);
        if (info->start == SEG_START_EXEC) {
            p->cpu_base_ns = p->cpu_seen_ns = info->start_cpu_us * 1000;
            /* Its fork, and the exec that this came of, may stand in a ring that wasn't read yet. */
            note_exec(c, seg->host_pid, time - MS);
        }
        if (attached && pi_cpu_ns(seg->host_pid, &p->cpu_base_ns))
            p->cpu_seen_ns = p->cpu_base_ns;
        if (!attached) /* its descriptors were long its own */
            adopt(c, p, st.ppid);
        if (!p->parent)
            p->outer = outer_ancestors(st.ppid);
        c->processes++;
    }
    begins_at(p, info->cwd);
    if (!fresh && image) {
        if (p->pl)
            exec_succeeded(p, p->exec_ns ? p->exec_ns : time);
        fds_exec(p, time);
        tls_objects_end(p, true, time);
        p->tls_read = p->tls_told = p->images_missed = p->jsse_refused = false;
        p->tls_unread_ns = p->tls_ways = 0;
        life_leave_segment(p);
        proc_unborrow(p);
        span_process_exec(p, time);
        life_finish(p, time);
        while (p->forks)
            fork_drop(p, p->forks);
        p->exit_recorded = p->leader_exit = false;
    } else {
        life_leave_segment(p); /* of a process that attaches twice without exec */
        proc_unborrow(p);
    }
    if (info->start != SEG_START_FORK) { /* records in its ring tell of the new ones */
        images_unref(p->images);
        p->images = NULL;
        p->go = false;
    }
    p->exec_op = 0;
    executed = p->pending_exec;
    free(p->exec_path);
    p->pending_exec = p->exec_path = NULL;
    p->pid = info->pid;
    p->seg = seg;
    seg->refs++;
    seg->owner = p;
    seg->attached = true;
    c->attaching--;
    seg->attach_again = false;
    segment_release(seg);
    fd_table_part(&p->fds);
    reset_numbers(p);
    if (fresh) {
        p->image_ns = time;
        if (!p->fds.pages)
            fds_snapshot(p, time);
        else
            fds_exec(p, time);
    }
    if (fresh || image || !p->pl) {
        env = identify(p, info);
        configure(p, env);
        free(env);
        life_begin(p, info->start == SEG_START_EXEC ? "exec" : attached ? "attach" : "fork", time);
        if (p->pl->notices && info->start != SEG_START_FORK)
            notices_exec(p, info->start == SEG_START_EXEC ? executed : NULL, time);
    }
    free(executed);
    if (fresh || image)
        fds_streams(p);
    if (attached)
        fds_attached(p, seg->pidfd >= 0 ? seg->pidfd : p->pidfd, time);
    apply_mode(p);
    fd_table_each(&p->fds, decide_one, p);
    life_watch(p);
}

/* What was counted so far belongs to the old destinations. */
static void leave_pipeline(struct proc *p)
{
    uint64_t now = clock_now_real();

    counters_settle(p, false);
    if (p->seg && !p->borrowed)
        counters_take_ops(p->seg, p);
    report_period(p, now, false);
    life_pause(p, now);
}

static void enter_pipeline(struct proc *p)
{
    uint64_t period = (uint64_t)p->pl->cfg->libscope.summaryperiod * 1000 * MS;

    life_resume(p);
    p->last_summary = clock_now_mono();
    p->next_summary = p->last_summary + (period ? period : 10000 * MS);
    apply_mode(p);
    fd_table_each(&p->fds, decide_one, p);
}

void life_pause(struct proc *p, uint64_t time_ns)
{
    spans_flush(p);
    telemetry_process_end(p->pl->tm, &p->tm, time_ns);
    p->tm.aggregate = NULL;
}

void life_resume(struct proc *p)
{
    telemetry_process_start(p->pl->tm, &p->tm);
}

void life_reconfigure(struct proc *p, struct config_sources *config)
{
    struct config_list *l = xcalloc(1, sizeof(*l));
    char **env = p->host_pid > 0 ? pi_environ(p->host_pid) : NULL;

    *l = (struct config_list){collector_of(p->m)->configs, config};
    collector_of(p->m)->configs = l;
    leave_pipeline(p);
    p->config = config;
    configure(p, env);
    free(env);
    enter_pipeline(p);
}

void life_configure_again(struct proc *p)
{
    struct pipeline *was = p->pl, *now;
    char **env;

    if (p->config)
        return;
    env = p->host_pid > 0 && !p->dead ? pi_environ(p->host_pid) : NULL;
    configure(p, env);
    free(env);
    now = p->pl;
    if (now == was)
        return;
    p->pl = was;
    leave_pipeline(p);
    p->pl = now;
    enter_pipeline(p);
}

/* A copy of a text with `to` in place of each `from`. */
static char *replaced(const char *text, const char *from, const char *to)
{
    struct buf b = BUF_INIT;
    const char *at;

    for (; (at = strstr(text, from)); text = at + strlen(from)) {
        buf_add(&b, text, (size_t)(at - text));
        buf_str(&b, to);
    }
    buf_str(&b, text);
    return buf_cstr(&b);
}

void life_move_configs(struct collector *c, const char *from, const char *to)
{
    char *old = xasprintf("%s/", from), *new = xasprintf("%s/", to);

    for (struct config_list *l = c->configs; l; l = l->next) {
        struct config_sources *moved = config_sources_new();
        char *text = NULL, *other;
        size_t len = 0;
        FILE *f = open_memstream(&text, &len);

        if (f) {
            config_print_whole(l->sources, f);
            fclose(f);
        }
        other = replaced(text ? text : "", old, new);
        config_add_text(moved, "the configuration so far", other, strlen(other), NULL, NULL);
        free(other);
        free(text);
        for (struct proc *p = c->model.procs; p; p = p->next)
            if (p->config == l->sources)
                p->config = moved;
        pipelines_rename(&c->pipelines, l->sources, moved);
        config_sources_free(l->sources);
        l->sources = moved;
    }
    free(old);
    free(new);
}

void life_unseen(struct collector *c, pid_t pid)
{
    note_exec(c, pid, clock_now_real());
}

void life_upgrade(struct proc *p)
{
    proc_unborrow(p);
}

void life_free_configs(struct collector *c)
{
    while (c->configs) {
        struct config_list *l = c->configs;

        c->configs = l->next;
        config_sources_free(l->sources);
        free(l);
    }
}
