/* SPDX-License-Identifier: Apache-2.0 */
/* The life of processes: start, fork, exec, end. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/progname.h"
#include "collector/ask.h"
#include "collector/control.h"
#include "collector/core.h"
#include "collector/left.h"
#include "collector/names.h"
#include "collector/passed.h"
#include "traffic/payloads.h"
#include "collector/procinfo.h"
#include "traffic/stream.h"
#include "traffic/tls.h"
#include "traffic/tls_objects.h"

#define MS UINT64_C(1000000)
#define STATUS_WAIT_NS (500 * MS) /* for the wait status of a process that died without a word */
#define CHECK_NS (100 * MS)
#define IMAGE_WAIT_NS (10000 * MS) /* a new image that hasn't joined by then won't */
#define LOAD_NS (2000 * MS)       /* ... it has most probably loaded the library by then */
#define SHARED_LOOK_NS (1000 * MS)
#define SHARED_SHARE 20 /* looking takes that part of the time at most: it reads the maps of all processes */
#define REUSED_NS (100 * MS)     /* a process that began so much later than the record that names it is another */
#define STATUS_LOOK_NS (2 * MS)  /* between the first two questions for a wait status; then ever longer */
#define UNWATCHED_LOOKS 256      /* each CHECK_NS */
#define AHEAD_MAX 4096           /* entries of the backlog that are looked through for a child's number */
#define ENDS_SHARE 10 /* looking for those that have ended takes that part of the time at most */
#define ID_CMD 32

static void uuid_text(const uint8_t u[16], char text[37])
{
    snprintf(text, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1], u[2], u[3],
             u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
}

static void uuid_random(char text[37])
{
    uint8_t u[16];

    if (getrandom(u, sizeof(u), GRND_NONBLOCK) != sizeof(u))
        for (size_t i = 0; i < sizeof(u); i++)
            u[i] = (uint8_t)(clock_now_mono() >> (i % 8 * 4));
    u[6] = (uint8_t)((u[6] & 0x0f) | 0x40); /* RFC 9562, 5.4 */
    u[8] = (uint8_t)((u[8] & 0x3f) | 0x80);
    uuid_text(u, text);
}

static char *command_line(const struct segment_info *info)
{
    size_t len = info->argv_len;
    char *cmd;

    while (len && !info->argv[len - 1])
        len--;
    if (!len)
        return xstrdup("none");
    cmd = xstrndup("", 0);
    cmd = xrealloc(cmd, len + 1, 1);
    for (size_t i = 0; i < len; i++)
        cmd[i] = (char)(info->argv[i] ? info->argv[i] : ' ');
    cmd[len] = 0;
    return cmd;
}

/* HOST-PROC-CMD, docs/data-model.md */
static void make_id(struct tm_process *tm)
{
    size_t len = strlen(tm->cmd);

    snprintf(tm->id, sizeof(tm->id), "%s-%s-%s", tm->host, tm->proc, len < ID_CMD ? tm->cmd : tm->cmd + len - ID_CMD);
}

static const char *environ_get(char **env, const char *name)
{
    size_t n = strlen(name);

    for (; env && *env; env++)
        if (!strncmp(*env, name, n) && (*env)[n] == '=')
            return *env + n + 1;
    return NULL;
}

/* The control group, and the container that it tells. Of a process that has ended meanwhile it can't be read any more,
 * or only in part (zombies are at the top of hierarchies of version 1): then it is where the image before it was,
 * `last`, or its parent. */
static void locate(struct proc *p, const struct tm_process *last)
{
    struct pi_stat st;
    bool lives = p->host_pid > 0 && pi_stat(p->host_pid, &st) == 0 && st.state != 'Z' && st.state != 'X';

    if (!last->cgroup && p->parent)
        last = &p->parent->tm;
    if (lives || !last->cgroup) {
        p->tm.cgroup = p->host_pid > 0 ? pi_cgroup(p->host_pid, p->tm.container) : xstrdup("");
    } else {
        p->tm.cgroup = xstrdup(last->cgroup);
        memcpy(p->tm.container, last->container, sizeof(p->tm.container));
    }
}

/* The kernel may know only its next program by now. */
static char *name_of(const struct proc *p, const struct segment_info *info)
{
    char *comm = info->comm[0] || p->host_pid <= 0 ? xstrdup(info->comm) : pi_name(p->host_pid);
    char *name = program_name(p->tm.exe, comm, info->argv, info->argv_len);

    free(comm);
    return name;
}

/* Who the image of a segment is. Returns its environment (or NULL). */
static char **identify(struct proc *p, const struct segment_info *info)
{
    struct tm_process *tm = &p->tm;
    char **env = p->host_pid > 0 ? pi_environ(p->host_pid) : NULL;
    struct tm_process last = *tm;

    *tm = (struct tm_process){0};
    locate(p, &last);
    tm_clear(&last);
    tm->pid = info->pid;
    tm->ppid = info->ppid;
    tm->uid = info->uid;
    tm->gid = info->gid;
    tm->host_pid = (uint32_t)p->host_pid;
    tm->username = pi_user(tm->uid);
    tm->groupname = pi_group(tm->gid);
    tm->host = pi_host();
    tm->machine_id = pi_machine_id();
    tm->exe = info->exe[0] || p->host_pid <= 0 ? xstrdup(info->exe) : pi_exe(p->host_pid);
    tm->proc = name_of(p, info);
    tm->cmd = command_line(info);
    tm->k8s_pod = xstrdup(environ_get(env, "CRIBL_K8S_POD"));
    uuid_text(info->uuid, tm->uuid);
    make_id(tm);
    return env;
}

/* A forked child is its parent, but for pid and uuid. */
static void identify_child(struct proc *p, const struct proc *parent)
{
    const struct tm_process *from = &parent->tm;
    struct tm_process *tm = &p->tm;

    *tm = *from;
    tm->pid = p->pid;
    tm->ppid = parent->pid;
    tm->host_pid = (uint32_t)(p->host_pid > 0 ? p->host_pid : 0);
    tm->exe = xstrdup(from->exe);
    tm->proc = xstrdup(from->proc);
    tm->cmd = xstrdup(from->cmd);
    tm->cgroup = xstrdup(from->cgroup);
    tm->k8s_pod = xstrdup(from->k8s_pod);
    tm->aggregate = NULL;
    uuid_random(tm->uuid);
}

/* --- configuration --- */

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

static void configure(struct proc *p, char **env)
{
    const char *names[ANCESTORS_MAX + 1];
    struct cfg_process who = {.procname = p->tm.proc, .cmdline = p->tm.cmd, .hostname = p->tm.host,
                              .username = p->tm.username, .environ_ = (const char *const *)env, .ancestors = names};
    const struct proc *top = p;
    int n = 0;

    for (; top->parent && n < ANCESTORS_MAX; top = top->parent)
        names[n++] = top->parent->tm.proc;
    for (int i = 0; top->outer && top->outer[i] && n < ANCESTORS_MAX; i++)
        names[n++] = top->outer[i];
    names[n] = NULL;
    p->pl = pipeline_for(p->c, life_config(p), &who);
}

/* All live as long as the collector: descendants may have any of them, and there are few. */
struct config_list {
    struct config_list *next;
    struct config_sources *sources;
};

const struct config_sources *life_config(const struct proc *p)
{
    return p->config ? p->config : p->c->opt->config;
}

/* --- telemetry of an image begins and ends --- */

static void begin(struct proc *p, const char *start, uint64_t time_ns)
{
    uint64_t period = (uint64_t)p->pl->cfg->libscope.summaryperiod * 1000 * MS;

    p->image_ns = time_ns;
    p->last_summary = 0;
    p->known_rss = p->known_threads = 0;
    p->known_fds = -1;
    p->next_look = 0;
    p->next_summary = clock_now_mono() + (period ? period : 10000 * MS);
    telemetry_process_start(p->pl->tm, &p->tm);
    report_start(p, start, time_ns);
}

static void finish(struct proc *p, uint64_t time_ns)
{
    if (!p->pl)
        return;
    report_period(p, time_ns, true);
    telemetry_process_end(p->pl->tm, &p->tm, time_ns);
    p->tm.aggregate = NULL;
}

/* Calls without a record of their own. */
static void take_op_counters(struct collector *c, struct segment *seg, struct proc *p)
{
    const struct segment_header *h = segment_hdr(&seg->map);
    enum err_class k;

    (void)c;
    if (!p || !p->pl || seg->broken)
        return;
    for (int op = 1; op < OP_MAX; op++) {
        uint64_t n = __atomic_load_n(&h->op[op].calls, __ATOMIC_RELAXED), more;
        uint64_t bad = __atomic_load_n(&h->op[op].failed, __ATOMIC_RELAXED);

        more = n > seg->op_seen[op] && n - seg->op_seen[op] < UINT64_C(1) << 48 ? n - seg->op_seen[op] : 0;
        seg->op_seen[op] = n;
        if (more && op_table[op].group == OPG_STAT)
            p->sums.value[TM_FS_STAT] += more;
        else if (more && op_table[op].group == OPG_SEEK)
            p->sums.value[TM_FS_SEEK] += more;
        else if (more && op_table[op].group == OPG_SYNC)
            p->sums.value[TM_FS_SYNC] += more;
        k = err_class_of(op_table[op].group);
        if (bad > seg->failed_seen[op] && bad - seg->failed_seen[op] < UINT64_C(1) << 48 && k < ERR_MAX)
            p->sums.error[k] += bad - seg->failed_seen[op];
        seg->failed_seen[op] = bad;
    }
}

/* Its own segment is done with: by exec, or at the end. */
static void leave_segment(struct proc *p)
{
    struct segment *seg = p->seg;

    if (!seg || p->borrowed)
        return;
    account_settle(p, true);
    take_op_counters(p->c, seg, p);
    segment_losses(p->c, seg);
    seg->orphans = p->forks != NULL;
    seg->owner = NULL;
    seg->last_found = NULL;
    p->seg = NULL;
    segment_unref(p->c, seg);
}

/* --- a segment's process --- */

/* CLOCK_MONOTONIC of a recent moment of CLOCK_REALTIME, roughly. */
static uint64_t mono_of(uint64_t real_ns)
{
    uint64_t real = clock_now_real(), mono = clock_now_mono(), ago = real > real_ns ? real - real_ns : 0;

    return ago < mono ? mono - ago : 0;
}

/* Counters of a new segment start at 0. */
static void reset_numbers(struct proc *p)
{
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

static void watch(struct proc *p)
{
    if (p->pidfd < 0 && p->seg && !p->borrowed) {
        p->pidfd = p->seg->pidfd;
        p->seg->pidfd = -1;
    }
    if (p->death || p->dead || !p->c->watch_death || p->host_pid <= 0)
        return;
    if (!p->start_ticks)
        p->start_ticks = start_ticks(p->host_pid);
    p->c->watch_death(p);
}

/* A child that was modelled without knowing its pid here: in another pid namespace, or of uncertain descent. */
static struct proc *by_inner_pid(struct collector *c, const struct segment *seg)
{
    const struct segment_info *info = &seg->map.info;
    struct pi_stat st = {0};

    if (!info->ppid) /* its parent is outside, and has another number here */
        pi_stat(seg->host_pid, &st);

    for (struct proc *p = c->procs; p; p = p->next)
        if (p->host_pid <= 0 && p->pid == info->pid && !p->dead &&
            (p->tm.ppid == info->ppid || (st.ppid && p->parent && p->parent->host_pid == st.ppid)))
            return p;
    return NULL;
}

/* A process that we first hear of by its own JOIN: finds who forked it, whose descriptors it has. */
static void adopt(struct collector *c, struct proc *p, pid_t ppid)
{
    struct proc *parent = ppid > 1 ? proc_by_host_pid(c, ppid) : NULL;
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
    __atomic_store_n(&segment_hdr(&seg->map)->mode, p->pl->mode, __ATOMIC_RELAXED);
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

void life_attach(struct collector *c, struct segment *seg, uint64_t arrival)
{
    const struct segment_info *info = &seg->map.info;
    struct proc *p;
    bool attached = info->start == SEG_START_ATTACH; /* who made its segment did not look at the clock */
    uint64_t time = attached ? arrival : clock_to_real(&c->clock, info->clock, info->start_time, arrival);
    bool fresh = false;
    struct pi_stat st = {0};
    char **env = NULL;

    if (segment_waits(c, seg)) {
        seg->attach_again = true;
        return;
    }
    p = proc_by_host_pid(c, seg->host_pid);
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
    pi_stat(seg->host_pid, &st);
    if (!p) {
        fresh = true;
        p = proc_new(c, info->pid, seg->host_pid);
        p->birth_ns = time;
        p->start_ticks = st.start_ticks;
        p->cpu_at_ns = mono_of(time);
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
    if (!fresh && info->start == SEG_START_EXEC) {
        if (p->pl)
            exec_succeeded(p, p->exec_ns ? p->exec_ns : time);
        fds_exec(p, time);
        tls_objects_end(p, true, time);
        p->tls_read = p->tls_told = p->images_missed = false;
        p->tls_unread_ns = 0;
        leave_segment(p);
        proc_unborrow(p);
        finish(p, time);
        while (p->forks)
            fork_drop(p, p->forks);
        p->exit_recorded = p->leader_exit = false;
    } else {
        leave_segment(p); /* of a process that attaches twice without exec */
        proc_unborrow(p);
    }
    if (info->start != SEG_START_FORK) { /* records in its ring tell of the new ones */
        images_unref(p->images);
        p->images = NULL;
    }
    p->exec_op = 0;
    free(p->pending_exec);
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
    if (fresh || info->start == SEG_START_EXEC || !p->pl) {
        env = identify(p, info);
        configure(p, env);
        free(env);
        begin(p, info->start == SEG_START_EXEC ? "exec" : attached ? "attach" : "fork", time);
    }
    if (fresh || info->start == SEG_START_EXEC)
        fds_streams(p);
    if (attached)
        fds_attached(p, seg->pidfd >= 0 ? seg->pidfd : p->pidfd, time);
    apply_mode(p);
    fd_table_each(&p->fds, decide_one, p);
    watch(p);
}

void life_reconfigure(struct proc *p, struct config_sources *config)
{
    struct config_list *l = xcalloc(1, sizeof(*l));
    uint64_t now = clock_now_real(), period;
    char **env = p->host_pid > 0 ? pi_environ(p->host_pid) : NULL;

    *l = (struct config_list){p->c->configs, config};
    p->c->configs = l;
    account_settle(p, false);
    if (p->seg && !p->borrowed)
        take_op_counters(p->c, p->seg, p);
    report_period(p, now, false); /* what was counted so far belongs to the old destinations */
    telemetry_process_end(p->pl->tm, &p->tm, now);
    p->tm.aggregate = NULL;
    p->config = config;
    configure(p, env);
    free(env);
    telemetry_process_start(p->pl->tm, &p->tm);
    period = (uint64_t)p->pl->cfg->libscope.summaryperiod * 1000 * MS;
    p->last_summary = clock_now_mono();
    p->next_summary = p->last_summary + (period ? period : 10000 * MS);
    apply_mode(p);
    fd_table_each(&p->fds, decide_one, p);
}

/* --- forks --- */

/* When a process or, if it had ended before anybody could look, its nearest ancestor that is known began: in ticks. */
static uint64_t born(const struct proc *p)
{
    while (p && !p->start_ticks)
        p = p->parent;
    return p ? p->start_ticks : 0;
}

/* Whether what has this number now began after that time (CLOCK_REALTIME ns): it has got the number of one that is gone. */
static bool is_later(const struct pi_stat *st, uint64_t time_ns)
{
    struct timespec boot;
    uint64_t age, now = clock_now_real();

    clock_gettime(CLOCK_BOOTTIME, &boot);
    age = (uint64_t)boot.tv_sec * 1000 * MS + (uint64_t)boot.tv_nsec -
          st->start_ticks * (1000 * MS / (uint64_t)sysconf(_SC_CLK_TCK));
    return age < now && now - age > time_ns + REUSED_NS;
}

/* Whether the process that had begun before is no more. */
static bool is_gone(struct proc *p)
{
    struct pi_stat st;

    return pi_stat(p->host_pid, &st) || is_later(&st, p->birth_ns);
}

enum credit { CHILD_IS, CHILD_GONE, CHILD_ELSEWHERE };

/* Where the kernel doesn't say who its parent was: whether it is at least one of the same user's. Programs of the
 * collector's user and of root become others'. */
static bool of_same_user(const struct proc *parent, pid_t pid)
{
    struct pi_ids ids;

    return parent->tm.uid == 0 || parent->tm.uid == geteuid() || (!pi_ids(pid, &ids) && ids.uid == parent->tm.uid);
}

/* A process that the model takes for a child must be one: records can claim anything. time_ns: when it was heard of. */
static enum credit credible(const struct proc *parent, const struct fork_pending *f, pid_t pid, uint64_t time_ns,
                            struct pi_stat *st)
{
    struct pi_stat up;

    if (pi_stat(pid, st))
        return CHILD_IS; /* gone already; nothing can be mistaken for it */
    if (pid == 1 || st->start_ticks < born(parent))
        return CHILD_ELSEWHERE; /* the number is one in a pid namespace of the child's: process 1 of a container isn't ours */
    if (is_later(st, time_ns))
        return CHILD_GONE; /* its number is in use again, by a thread or a process */
    if (st->ppid == parent->host_pid)
        return CHILD_IS;
    if (parent->dead || pi_stat(parent->host_pid, &up) || up.state == 'Z') /* an orphan has got another parent */
        return of_same_user(parent, pid) ? CHILD_IS : CHILD_ELSEWHERE;
    return f && f->parent_too && st->ppid == up.ppid && of_same_user(parent, pid) ? CHILD_IS : CHILD_ELSEWHERE;
}

/* pid: its number as its parent or itself has told it; REC_PID_FORK | ..., that of its fork. host_pid: 0: not known. */
static struct proc *child_new(struct proc *parent, struct fork_pending *f, struct segment *seg, uint32_t pid,
                              pid_t host_pid, uint64_t time_ns)
{
    struct collector *c = parent->c;
    bool same_ns = parent->host_pid == (pid_t)parent->pid;
    uint32_t number = pid;
    struct pi_stat st = {0};
    enum credit credit = CHILD_IS;
    struct proc *p, *old;
    uint32_t inner;

    if (seg->borrower_count >= BORROWERS_MAX || c->proc_count >= PROCS_MAX / (seg->guest ? 2 : 1)) {
        report_loss(c, parent, LK_SEGMENT, 1);
        return NULL;
    }
    if (pid & REC_PID_FORK)
        pid = same_ns ? (uint32_t)host_pid : 0;
    else if (!host_pid && same_ns)
        host_pid = (pid_t)pid;
    if (host_pid && (credit = credible(parent, f, host_pid, time_ns, &st)) != CHILD_IS) {
        host_pid = 0;
        st = (struct pi_stat){0};
    }
    old = host_pid ? proc_by_host_pid(c, host_pid) : NULL;
    if (old && old->dead)
        proc_set_host_pid(old, 0); /* an earlier holder of the number, about to be told as ended */
    else if (old)
        host_pid = 0; /* it has joined by itself: nobody else can speak for it */
    p = proc_new(c, pid, host_pid);
    p->start_ticks = st.start_ticks;
    proc_set_parent(p, parent);
    proc_borrow(p, seg);
    p->origin = seg->id;
    proc_set_fork(p, number & REC_PID_FORK ? number & ~REC_PID_FORK : f ? f->id : 0);
    if (f && !f->child) { /* else another has taken what was there to inherit: who returns from its fork is lying */
        p->fds = f->fds;
        f->fds = (struct fd_table){0};
        p->tls = f->tls;
        f->tls = NULL;
        free(p->cwd);
        p->cwd = f->cwd;
        f->cwd = NULL;
        f->child = number;
        time_ns = f->time_ns < time_ns ? f->time_ns : time_ns;
    } else {
        fd_table_copy(&p->fds, &parent->fds);
        p->tls = tls_objects_inherit(parent);
        free(p->cwd);
        p->cwd = xstrdup(parent->cwd);
    }
    p->root = parent->root;
    p->view = parent->view;
    memcpy(p->std, parent->std, sizeof(p->std));
    if (p->cwd && !strcmp(p->cwd, parent->cwd)) {
        p->cwd_plain = parent->cwd_plain;
        p->cwd_tail = parent->cwd_tail;
    } else { /* it has gone elsewhere since the fork began: nothing is known of links in that name */
        p->cwd_tail = p->cwd ? (uint32_t)strlen(p->cwd) : 0;
    }
    inner = host_pid && st.start_ticks ? pi_inner_pid(host_pid) : 0;
    if (inner)
        proc_set_pid(p, inner); /* in a pid namespace of its own it has another number */
    else
        proc_set_inner(p, same_ns && (parent->new_pids || (f && f->new_pids)));
    p->images = images_ref(parent->images);
    p->birth_ns = time_ns;
    p->cpu_at_ns = mono_of(time_ns);
    identify_child(p, parent);
    p->sandboxed = parent->sandboxed;
    p->tls_read = parent->tls_read;
    p->tls_told = parent->tls_told;
    p->images_missed = parent->images_missed;
    p->pl = parent->pl;
    p->config = parent->config;
    c->processes++;
    begin(p, "fork", time_ns);
    watch(p);
    if (((host_pid && !st.start_ticks) || credit == CHILD_GONE) && !p->dead)
        proc_died(p); /* gone before we could watch it */
    return p;
}

/* Whether a child has this number in a pid namespace of its own; one that is gone already can't be asked. */
static bool is_inner(const struct proc *p, pid_t host_pid, uint32_t pid)
{
    uint32_t inner = pi_inner_pid(host_pid);

    return inner ? inner == pid && inner != (uint32_t)host_pid : p->inner_pid;
}

bool life_reused(const struct proc *p, uint64_t time_ns)
{
    return p->dead && p->borrowed && p->seg->map.info.clock != SEG_CLOCK_NONE && time_ns > p->death_ns + 20 * MS;
}

/* A fork of p that an unknown child may come from, if it is a better guess than `than`; else that. */
static struct fork_pending *fork_of(const struct proc *p, bool vfork, struct fork_pending *than)
{
    for (struct fork_pending *f = p->forks; f; f = f->next)
        if (!f->child && (!than || (f->vfork == vfork && than->vfork != vfork)))
            than = f;
    return than;
}

static struct fork_pending *fork_by_id(const struct proc *p, uint32_t id)
{
    struct fork_pending *f = p ? p->forks : NULL;

    while (f && f->id != id)
        f = f->next;
    return f;
}

/* Children of a process that the model doesn't have. */
struct strangers {
    struct collector *c;
    pid_t pid;       /* the last one */
    unsigned count;
};

static void stranger(void *ctx, pid_t child)
{
    struct strangers *s = ctx;
    const struct proc *known = proc_by_host_pid(s->c, child);

    if (known && !known->dead)
        return;
    s->pid = child;
    s->count++;
}

/* What the parent has recorded of its fork, if that has been read and not yet looked at: the child's number, else 0. */
static uint32_t told_ahead(const struct collector *c, const struct segment *seg, uint32_t id)
{
    struct backlog_place at = {0};
    const struct backlog_entry *e;
    const void *data;

    for (unsigned i = 0; i < AHEAD_MAX && (e = backlog_ahead(&c->backlog, &at, &data)); i++) {
        const struct record *r = data;

        if (e->kind == BL_RECORD && e->owner == seg && r->kind == REC_CALL && r->op < OP_MAX &&
            op_table[r->op].shape == SHP_CLONE && r->arg[5] == id && r->ret > 0 && r->ret <= INT32_MAX)
            return (uint32_t)r->ret;
    }
    return 0;
}

/* The first sign of a guest that can't know its own number, but whose parent's fork it is. Which process that is the
 * parent tells, in any case later; till then the kernel does, unless others are about to appear, too, or it is gone. */
static struct proc *unnumbered(struct collector *c, struct segment *seg, uint32_t pid, uint64_t time_ns)
{
    uint32_t id = pid & ~REC_PID_FORK, number;
    struct strangers s = {.c = c};
    struct proc *parent = seg->owner;
    bool same_ns;
    struct fork_pending *f = fork_by_id(parent, id);

    for (struct proc *p = c->forkers; p && !f; p = p->forker_next) {
        f = p->seg == seg ? fork_by_id(p, id) : NULL;
        if (f)
            parent = p;
    }
    if (!parent || !parent->pl)
        return NULL;
    same_ns = parent->host_pid == (pid_t)parent->pid;
    number = f ? told_ahead(c, seg, id) : 0;
    if (f && !number) {
        if (parent->host_pid > 0)
            pi_each_child(parent->host_pid, same_ns ? (pid_t)f->tid : 0, stranger, &s);
        if (s.count != 1) {
            segments_drain(c, true);
            number = told_ahead(c, seg, id);
        }
    }
    return child_new(parent, f, seg, number ? number : pid, !number && s.count == 1 ? s.pid : 0, time_ns);
}

/* The first sign of an unknown guest in a ring: who forked it? */
struct proc *life_borrower(struct collector *c, struct segment *seg, uint32_t pid, bool vfork, uint64_t time_ns)
{
    struct fork_pending *f, *best_f;
    struct proc *known, *best, *p;
    struct pi_stat st;
    pid_t ppid = 0;
    bool sure;

    if (pid & REC_PID_FORK)
        return unnumbered(c, seg, pid, time_ns);
    /* One that was known by its parent's number of it, and was gone before it could be asked for its own. */
    for (known = seg->inner_guests ? seg->borrowers : NULL; known; known = known->borrow_next)
        if (known->pl && known->inner_pid && known->pid == (uint32_t)known->host_pid) {
            proc_set_inner(known, false);
            proc_set_pid(known, pid);
            telemetry_process_start(known->pl->tm, &known->tm);
            return known;
        }
    /* one that has moved to a segment of its own meanwhile */
    known = seg->host_pid == (pid_t)seg->map.info.pid ? proc_by_host_pid(c, (pid_t)pid) : NULL;
    if (known && known->origin == seg->id && !known->dead && known->pid == pid && !known->borrowed)
        return known;
    if (seg->host_pid == (pid_t)seg->map.info.pid && !pi_stat((pid_t)pid, &st))
        ppid = st.ppid;
    known = ppid > 0 ? proc_by_host_pid(c, ppid) : NULL;
    sure = known && known->seg == seg; /* the kernel says so */
    best = sure ? known : seg->owner;
    best_f = best ? fork_of(best, vfork, NULL) : NULL;
    for (p = sure ? NULL : c->forkers; p; p = p->forker_next) {
        f = p->seg == seg ? fork_of(p, vfork, best_f) : best_f;
        if (f != best_f) {
            best_f = f;
            best = p;
        }
    }
    if (!best || !best->pl)
        return NULL;
    return child_new(best, best_f, seg, pid, 0, time_ns);
}

/* A child that couldn't tell its number has got one by its parent's word. */
static void numbered(struct proc *p, struct proc *parent, const struct fork_pending *f, uint32_t pid)
{
    bool same_ns = parent->host_pid == (pid_t)parent->pid;
    struct proc *old = same_ns ? proc_by_host_pid(p->c, (pid_t)pid) : NULL;
    enum credit credit = CHILD_IS;
    struct pi_stat st;

    if (p->host_pid > 0 || !p->pl)
        return;
    if (same_ns)
        credit = old && !old->dead ? CHILD_ELSEWHERE : credible(parent, f, (pid_t)pid, clock_now_real(), &st);
    if (credit == CHILD_ELSEWHERE) /* that one speaks for itself, or isn't a child of this parent's */
        return;
    proc_set_pid(p, pid);
    if (same_ns) {
        if (old)
            proc_set_host_pid(old, 0);
        proc_set_host_pid(p, (pid_t)pid);
    }
    telemetry_process_start(p->pl->tm, &p->tm);
    if (p->host_pid <= 0)
        return;
    if (is_gone(p))
        proc_died(p);
    else
        watch(p);
}

void life_forked(struct collector *c, struct proc *parent, uint32_t tid, uint32_t id, int64_t child, uint64_t time_ns)
{
    struct fork_pending *f = id ? fork_by_id(parent, id) : parent->forks, *taken = parent->forks;
    struct pi_stat st;
    struct proc *p;

    while (f && !id && f->tid != tid)
        f = f->next;
    if (!f) /* a thread, or its beginning was lost */
        return;
    if (f->child & REC_PID_FORK) {
        p = parent->seg ? segment_find(parent->seg, f->child, true) : NULL;
        if (p && child > 0 && child <= INT32_MAX)
            numbered(p, parent, f, (uint32_t)child);
        fork_drop(parent, f);
        return;
    }
    if (child > 0 && f->child && f->child != (uint32_t)child && parent->host_pid == (pid_t)parent->pid && parent->seg) {
        p = segment_find(parent->seg, f->child, true);
        if (p && p->pl && p->host_pid <= 0 && is_inner(p, (pid_t)child, p->pid) &&
            credible(parent, f, (pid_t)child, time_ns, &st) == CHILD_IS) { /* in a pid namespace of its own */
            proc_set_host_pid(p, (pid_t)child);
            proc_set_inner(p, false);
            telemetry_process_start(p->pl->tm, &p->tm);
            watch(p);
            fork_drop(parent, f);
            return;
        }
    }
    while (taken && (child <= 0 || taken->child != (uint32_t)child))
        taken = taken->next;
    if (taken) { /* known by its own records; it may even be over */
        taken->child = f->child; /* another thread's fork was taken for it */
        p = segment_find(parent->seg, (uint32_t)child, true);
        if (p && p != parent)
            proc_set_parent(p, parent);
        fork_drop(parent, f);
        return;
    }
    if (child > 0 && child <= INT32_MAX && parent->seg) {
        p = segment_find(parent->seg, (uint32_t)child, true);
        if (p && life_reused(p, f->time_ns))
            p = NULL;
        if (!p && parent->host_pid == (pid_t)parent->pid) {
            p = proc_by_host_pid(c, (pid_t)child);
            if (p && (p->dead || p == parent))
                p = NULL;
        }
        if (!p)
            child_new(parent, f, parent->seg, (uint32_t)child, 0, time_ns);
        else if (p != parent && p->parent != parent && (p->origin == parent->seg->id || (!p->parent && p->tm.ppid == parent->pid)))
            proc_set_parent(p, parent);
    }
    fork_drop(parent, f);
}

void life_upgrade(struct proc *p)
{
    proc_unborrow(p);
}

/* --- the end --- */

void life_unseen(struct collector *c, pid_t pid)
{
    note_exec(c, pid, clock_now_real());
}

void proc_died(struct proc *p)
{
    struct collector *c = p->c;

    if (p->dead)
        return;
    p->death_ns = clock_now_real();
    p->death_mono = clock_now_mono();
    if (p->host_pid > 0)
        pi_cpu_ns(p->host_pid, &p->cpu_ns);
    if (p->parent)
        p->parent->live_children--;
    p->death_seg = NULL;
    if (p->unwatched)
        c->unwatched--;
    p->unwatched = false;
    proc_set_dying(p);
}

/* It died right after it handed over a segment that hasn't come up yet. */
static bool attaching(struct collector *c, const struct proc *p)
{
    if (!c->attaching || p->host_pid <= 0)
        return false;
    for (const struct segment *seg = *segments_by_pid(c, p->host_pid); seg; seg = seg->pid_next)
        if (!seg->attached && seg->host_pid == p->host_pid)
            return true;
    return false;
}

/* Queues the ends of those whose last records have been read. */
static void queue_ends(struct collector *c)
{
    uint64_t real = clock_now_real();

    for (struct proc *p = c->dying_procs; p; p = p->dying_next) {
        if (p->end_queued || attaching(c, p))
            continue;
        if (p->seg && p->seg != p->death_seg) { /* it had exec'ed or upgraded just before */
            p->death_seg = p->seg;
            p->death_head = segment_head(&p->seg->map);
        }
        if (p->seg && !segment_last_words(c, p->seg, p->death_head, p->death_mono))
            continue;
        p->end_queued = true;
        backlog_add(&c->backlog, BL_END, p, real, 0);
    }
}

/* The tracer is often done before the record of the exec, or even of the fork before it, has been read. */
static bool told_by_tracer(const struct proc *p)
{
    for (unsigned i = 0; i < UNSEEN_MAX; i++)
        if (p->c->unseen[i].pid == p->host_pid && p->c->unseen[i].time_ns + MS >= p->exec_ns)
            return true;
    return false;
}

/* The image of its last exec has never joined, and nobody has told why. Who asked for the exec could not see what it
 * would be (a static program whose file may be run but not read), or could do nothing about it any more, or the new
 * image did not take the library. cut: there was no time for that. */
static void tell_unseen(struct proc *p, bool cut, uint64_t time)
{
    const char *text = "started a program that is not observed: it has not loaded the library";

    /* The image of one whose number here isn't known may have joined under another. */
    if (!p->pending_exec || p->exec_told || !p->pl || p->host_pid <= 0 || told_by_tracer(p))
        return;
    p->exec_told = true;
    if (p->sandboxed)
        text = "started a program that is not observed: it had entered seccomp before";
    else if (ask_access(p, p->pending_exec, X_OK) == 0 && ask_access(p, p->pending_exec, R_OK) == -EACCES)
        text = "started a program that is not observed: its file can't be read";
    else if (cut)
        return;
    report_note(p, text, p->pending_exec, strlen(p->pending_exec), time);
}

/* Whether a signal has ended it before its new image can have loaded anything. */
static bool cut_short(const struct proc *p, bool known, int status)
{
    return known && WIFSIGNALED(status) && p->death_ns < p->exec_ns + LOAD_NS;
}

/* In the order of certainty. */
static bool status_of(struct proc *p, int *ret)
{
    bool same = p->host_pid > 0;

    if (p->waited)
        *ret = p->wait_status;
    else if (pi_exit_status(p->pidfd, same ? p->host_pid : 0, ret))
        return true;
    else if (same && p->c->opt->session && p->host_pid == p->c->opt->session->pid && p->c->root_pidfd >= 0 &&
             pi_exit_status(p->c->root_pidfd, 0, ret))
        return true;
    else if (p->exit_recorded)
        *ret = p->exit_code << 8;
    else if (p->leader_exit)
        *ret = p->leader_code << 8;
    else
        return false;
    return true;
}

bool life_end(struct proc *p, bool force)
{
    struct collector *c = p->c;
    struct session *s = c->opt->session;
    int status = 0;
    bool known = status_of(p, &status);
    uint64_t time = p->exit_ns ? p->exit_ns : p->death_ns;

    if (!known && !force)
        return false;
    if (!time)
        time = clock_now_real();
    if (p->pl) {
        tell_unseen(p, cut_short(p, known, status), time);
        leave_segment(p);
        fds_end(p, "exit", time);
        tls_objects_end(p, true, time);
        report_exit(p, known, status, time);
        finish(p, time);
    }
    if (s && p->host_pid > 0 && p->host_pid == s->pid && !c->root_ended) {
        c->root_ended = true;
        c->root_known = known;
        c->root_status = status;
    }
    proc_free(p);
    c->end_ns = clock_now_real();
    return true;
}

/* The probe was taken out of a process. */
static void life_leave(struct collector *c, pid_t host_pid)
{
    struct proc *p = proc_by_host_pid(c, host_pid);
    uint64_t time = clock_now_real();

    if (!p || p->dead) /* its end is told in due course */
        return;
    if (p->pl) {
        leave_segment(p);
        proc_unborrow(p);
        report_note(p, "detached: no longer observed", NULL, 0, time);
        finish(p, time);
    }
    proc_free(p);
    c->end_ns = time;
}

void core_leave(struct collector *c, pid_t host_pid)
{
    pid_t *pid = backlog_add(&c->backlog, BL_LEAVE, NULL, clock_now_real(), sizeof(*pid));

    left_add(c, host_pid);
    *pid = host_pid;
}

bool core_endings(const struct collector *c)
{
    return c->dying || c->backlog.bytes;
}

/* --- processing --- */

void core_init(struct collector *c, const struct collector_options *opt, struct event_base *base)
{
    *c = (struct collector){.opt = opt, .base = base, .diag_fd = -1, .root_pidfd = -1};
    c->guest_lines.what = "lines about segments of other users are left out";
    clock_init(&c->clock);
    if (getrandom(&c->seed, sizeof(c->seed), GRND_NONBLOCK) != sizeof(c->seed))
        c->seed = (uint32_t)clock_now_mono();
    c->last_channel = clock_now_real();
    for (int i = 0; i < 2; i++)
        c->scratch[i] = xmalloc(2 * NAME_BYTES);
    c->alone_since = clock_now_mono();
}

static void process_one(struct collector *c, const struct backlog_entry *e, const void *data)
{
    struct segment *seg;
    struct proc *p;

    switch (e->kind) {
    case BL_RECORD:
        seg = e->owner;
        segment_unqueue(seg, e->size);
        if (seg->too_dear && segment_delays(seg)) // NOLINT(clang-analyzer-core.NullDereference): it has a ring
            report_loss(c, seg->owner ? seg->owner : seg->borrowers, LK_RECORD, 1);
        else
            decode_record(c, seg, data, e->size, e->arrival);
        segment_unref(c, seg);
        break;
    case BL_ATTACH:
        seg = e->owner;
        life_attach(c, seg, e->arrival);
        if (!seg->attach_again)
            segment_unref(c, seg);
        break;
    case BL_END:
        p = e->owner;
        if (!life_end(p, clock_now_mono() - p->death_mono > STATUS_WAIT_NS || c->stopping))
            p->end_reached = true;
        break;
    case BL_LEAVE:
        life_leave(c, *(const pid_t *)data);
        break;
    case BL_SYNC:
        c->sync_done(e->owner);
        break;
    }
}

/* Records of one ring in a row: what they take is measured together. */
struct run {
    struct segment *seg; /* NULL: none; referenced */
    unsigned records;
    uint64_t since;      /* CPU time of this thread, ns: others may have had the CPU meanwhile */
};
#define RUN_MAX 16u

static bool is_long(const struct run *r)
{
    return r->records >= (r->seg && r->seg->debt_ns ? 1 : RUN_MAX);
}

/* Another one begins, with the records of seg (NULL: something else). Returns CLOCK_MONOTONIC ns. */
static uint64_t next_run(struct collector *c, struct run *r, struct segment *seg)
{
    uint64_t now = clock_now_mono(), used;
    struct timespec ts = {0};

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    used = (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
    if (r->seg)
        segment_charge(r->seg, r->records, used - r->since, used);
    if (seg)
        seg->refs++;
    if (r->seg)
        segment_unref(c, r->seg);
    *r = (struct run){seg, 0, used};
    return now;
}

bool core_process(struct collector *c, uint64_t deadline)
{
    struct backlog_entry *e;
    struct run r = {0};
    void *data;

    while ((e = backlog_peek(&c->backlog, &data))) {
        struct segment *seg = e->kind == BL_RECORD ? e->owner : NULL;

        if ((r.seg != seg || is_long(&r)) && next_run(c, &r, seg) >= deadline)
            break;
        r.records++;
        process_one(c, e, data);
        backlog_pop(&c->backlog);
    }
    next_run(c, &r, NULL);
    return !c->backlog.bytes;
}

/* For processes that end before their first summary. */
static void look_at(struct proc *p, uint64_t now)
{
    struct pi_stat st;

    p->next_look = now + 1000 * MS;
    if (p->host_pid <= 0 || pi_stat(p->host_pid, &st) || st.state == 'Z')
        return;
    p->known_rss = st.rss_kib;
    p->known_threads = st.threads;
    p->known_fds = pi_fd_count(p->host_pid);
}

static void summaries(struct collector *c, uint64_t now)
{
    uint64_t real = clock_now_real();

    for (struct proc *p = c->procs; p; p = p->next) {
        uint64_t period;

        if (!p->pl || p->dead)
            continue;
        if (!p->last_summary && now >= p->next_look)
            look_at(p, now);
        if (now < p->next_summary)
            continue;
        account_settle(p, false);
        if (p->seg && !p->borrowed)
            take_op_counters(c, p->seg, p);
        report_period(p, real, false);
        tls_look_unread(p);
        period = (uint64_t)p->pl->cfg->libscope.summaryperiod * 1000 * MS;
        p->last_summary = now;
        p->next_summary = now + (period ? period : 10000 * MS);
        control_command_file(p);
    }
    for (struct segment *seg = c->segments; seg; seg = seg->next)
        segment_losses(c, seg);
}

/* Those for whom there was no pidfd, some each time; whoever can be watched by now is. */
static void look_for_deaths(struct collector *c)
{
    struct proc *p = c->unwatched_next ? c->unwatched_next : c->procs, *next;
    struct pi_stat st;

    for (unsigned n = 0; c->unwatched && n < UNWATCHED_LOOKS && p; p = next) {
        int ret;

        next = p->next;
        if (!p->unwatched)
            continue;
        n++;
        ret = pi_stat(p->host_pid, &st);
        if (!ret && !p->start_ticks)
            p->start_ticks = st.start_ticks;
        if (ret == -ESRCH || (!ret && ((st.state == 'Z' && st.threads <= 1) || st.start_ticks != p->start_ticks)))
            proc_died(p);
        else if (!ret)
            c->watch_death(p);
    }
    c->unwatched_next = p;
}

/* Whether a segment without owner is mapped by no process any more. */
static bool nobody_shares(struct segment *seg, uint64_t now)
{
    struct collector *c = seg->c;
    bool shared;

    if (seg->owner || now - seg->shared_look < SHARED_LOOK_NS || now < c->shared_look)
        return false;
    seg->shared_look = now;
    shared = pi_any_maps(seg->map.ino);
    c->shared_look = now + SHARED_SHARE * (clock_now_mono() - now);
    return !shared;
}

void core_turn(struct collector *c)
{
    uint64_t now = clock_now_mono(), took;

    c->now_mono = now;
    clock_sample(&c->clock);
    if (c->dying && (now >= c->ends_look || c->stopping)) {
        queue_ends(c);
        for (struct proc *p = c->dying_procs, *next; p; p = next) {
            next = p->dying_next;
            if (!p->end_reached || (now < p->status_look && !p->waited && !c->stopping))
                continue;
            p->status_wait = p->status_wait ? 2 * p->status_wait : STATUS_LOOK_NS;
            p->status_look = now + p->status_wait;
            life_end(p, now - p->death_mono > STATUS_WAIT_NS || c->stopping);
        }
        took = clock_now_mono() - now;
        c->ends_look = took > MS ? now + ENDS_SHARE * took : 0; /* there are thousands */
    }
    for (struct segment *seg = c->segments; seg; seg = seg->next) {
        if (seg->attach_again) {
            seg->attach_again = false;
            backlog_add(&c->backlog, BL_ATTACH, seg, clock_now_real(), 0);
        }
    }
    if (now < c->next_check && !c->stopping)
        return;
    c->next_check = now + CHECK_NS;
    summaries(c, now);
    look_for_deaths(c);
    passed_sweep(c, now);
    payloads_flush(c);
    for (struct segment *seg = c->segments, *next; seg; seg = next) {
        next = seg->next;
        segment_leave(c, seg);
    }
    /* A process whose pid in our namespace isn't known can't be watched: it is over when it has said so, or when
     * nobody shares its ring any more. If it has exec'ed, and what was waited for was the new image, that has joined by
     * the next time we look. */
    for (struct proc *p = c->procs; p; p = p->next) {
        if (p->pending_exec && !p->dead && clock_now_real() > p->exec_ns + IMAGE_WAIT_NS)
            tell_unseen(p, false, clock_now_real());
        if (p->host_pid > 0 || p->dead || !(p->exit_recorded || p->waited || !p->seg || nobody_shares(p->seg, now)))
            continue;
        if (p->exec_op && !p->over && !c->stopping)
            p->over = true;
        else
            proc_died(p);
    }
    for (struct proc *p = c->procs; p; p = p->next)
        if (p->asking)
            stream_sweep(p, clock_now_real());
    if (c->procs || c->backlog.bytes)
        c->alone_since = 0;
    else if (!c->alone_since)
        c->alone_since = now;
}

void core_end(struct collector *c)
{
    c->stopping = true;
    segments_drain(c, true);
    core_process(c, UINT64_MAX);
    core_turn(c);
    core_process(c, UINT64_MAX);
    while (c->procs) { /* still running: they go on unobserved */
        struct proc *p = c->procs;

        if (p->seg && !p->borrowed && !p->seg->broken)
            __atomic_store_n(&segment_hdr(&p->seg->map)->mode, 0, __ATOMIC_RELAXED);
        if (p->pl) {
            leave_segment(p);
            finish(p, clock_now_real());
        }
        p->tm.aggregate = NULL;
        proc_free(p);
    }
    while (c->segments) {
        struct segment *seg = c->segments;

        seg->attached = seg->broken = true;
        seg->queued = 0;
        segment_leave(c, seg);
    }
}

void core_free(struct collector *c)
{
    passed_sweep(c, UINT64_MAX);
    free(c->passed);
    while (c->free_files) {
        struct file *f = c->free_files;

        c->free_files = f->next_free;
        free(f->path);
        free(f);
    }
    backlog_free(&c->backlog);
    left_free(c);
    images_unref(c->hidden);
    images_unref(c->unread);
    for (int i = 0; i < 2; i++)
        free(c->scratch[i]);
    while (c->pipelines) {
        struct pipeline *pl = c->pipelines;

        c->pipelines = pl->next;
        stream_unprepare(pl);
        telemetry_free(pl->tm, 0);
        config_free(pl->cfg);
        free(pl);
    }
    while (c->configs) {
        struct config_list *l = c->configs;

        c->configs = l->next;
        config_sources_free(l->sources);
        free(l);
    }
    if (c->diag_fd >= 0)
        close(c->diag_fd);
    payloads_close(c);
}
