/* SPDX-License-Identifier: Apache-2.0 */
/* Processes of the overview: who began when, as whose child, and how it ended. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "summary/overview_parts.h"

struct pid {
    struct keyed_row row;
    int process; /* the last one that had this number */
};

void ov_process_init(struct overview *o)
{
    o->pids = (struct keyed){.row_size = sizeof(struct pid), .max = 4 * OV_MAX_PROCESSES};
}

static int add_process(struct overview *o, const struct sum_event *e, struct pid *pid)
{
    struct ov_process *p;

    if (o->process_count == OV_MAX_PROCESSES) {
        o->processes_more++;
        pid->process = -1;
        return -1;
    }
    if (o->process_count == o->process_cap) {
        o->process_cap = o->process_cap ? 2 * o->process_cap : 64;
        o->processes = xrealloc(o->processes, o->process_cap, sizeof(*o->processes));
    }
    pid->process = (int)o->process_count++;
    p = &o->processes[pid->process];
    *p = (struct ov_process){.pid = e->pid, .parent = -1, .start_ns = e->time_ns, .end_ns = e->time_ns};
    p->proc = ov_text(o, e->proc);
    p->cmd = ov_text(o, e->cmd);
    return pid->process;
}

static struct pid *pid_of(struct overview *o, int64_t number)
{
    size_t before = o->pids.count;
    struct pid *pid = keyed_at(&o->pids, &number, sizeof(number));

    if (pid && o->pids.count != before)
        pid->process = -2; /* new */
    return pid;
}

int ov_process_of(struct overview *o, const struct sum_event *e)
{
    struct pid *pid;

    if (o->last_process < 0 || o->last_pid != e->pid) {
        pid = pid_of(o, e->pid);
        if (!pid)
            return -1;
        o->last_process = pid->process == -2 ? add_process(o, e, pid) : pid->process;
        o->last_pid = e->pid;
    }
    if (o->last_process >= 0 && o->processes[o->last_process].end_ns < e->time_ns &&
        !o->processes[o->last_process].ended)
        o->processes[o->last_process].end_ns = e->time_ns;
    return o->last_process;
}

/* A child, a program, or one that ran already. An exec goes on with the same process, all else is another one. */
static void started(struct overview *o, const struct sum_event *e)
{
    const char *how = sum_text(e, "start");
    bool exec = how && strcmp(how, "exec") == 0;
    struct pid *pid = pid_of(o, e->pid), *parent;
    int64_t ppid;
    struct ov_process *p;

    if (!pid)
        return;
    if (pid->process < 0 || o->processes[pid->process].ended || (!exec && o->processes[pid->process].began))
        add_process(o, e, pid);
    o->last_pid = e->pid;
    o->last_process = pid->process;
    if (pid->process < 0)
        return;
    p = &o->processes[pid->process];
    if (!p->began) {
        p->began = ov_text(o, how);
        if (e->time_ns < p->start_ns)
            p->start_ns = e->time_ns;
    }
    if (exec) {
        p->execs++;
        p->exec_ns = e->time_ns;
    }
    p->proc = ov_text(o, e->proc);
    p->cmd = ov_text(o, e->cmd);
    p->exe = ov_text(o, sum_text(e, "exe"));
    if (sum_integer(e, "ppid", &ppid) && p->parent < 0) {
        int64_t host;

        p->ppid = ppid;
        /* In a pid namespace of its own its parent's number means another process to others. */
        parent = sum_integer(e, "hostPid", &host) ? NULL : keyed_find(&o->pids, &ppid, sizeof(ppid));
        if (parent && parent->process >= 0 && parent->process != pid->process)
            p->parent = parent->process;
    }
}

static void ended(struct overview *o, const struct sum_event *e)
{
    int index = ov_process_of(o, e);
    struct ov_process *p = index < 0 ? NULL : &o->processes[index];

    if (!p || p->ended)
        return;
    p->ended = true;
    p->end_ns = e->time_ns;
    p->duration_ms = sum_number(e, "duration");
    p->cpu_us = sum_number(e, "cpu");
    p->mem_kib = sum_number(e, "mem_peak");
    p->signal = ov_text(o, sum_text(e, "signal"));
    p->has_code = sum_integer(e, "exit_code", &p->exit_code);
}

static void crashed(struct overview *o, const struct sum_event *e)
{
    int index = ov_process_of(o, e);
    uint64_t key[3] = {UINT64_MAX, o->crashes++, (uint64_t)e->pid}; /* each is one of its own */
    struct ov_note *note = ov_note(o, (const char *)key, sizeof(key), "crash", e);

    if (index >= 0) {
        o->processes[index].crashed = true;
        if (!o->processes[index].signal)
            o->processes[index].signal = ov_text(o, sum_text(e, "signal"));
    }
    if (!note)
        return;
    note->count = 1;
    note->text = ov_text(o, sum_text(e, "signal"));
    note->about = ov_text(o, sum_text(e, "at") ? sum_text(e, "at") : sum_text(e, "missing"));
}

/* What isn't observed. Equal texts are one note. */
static void note(struct overview *o, const struct sum_event *e)
{
    const char *text = ov_text(o, sum_text(e, "text"));
    struct ov_note *n = text ? ov_note(o, (const char *)&text, sizeof(text), NULL, e) : NULL;

    if (!n)
        return;
    n->count++;
    n->text = text;
    n->about = ov_text(o, sum_text(e, "file"));
}

void ov_process_event(struct overview *o, const struct sum_event *e)
{
    if (strcmp(e->source, "proc.start") == 0)
        started(o, e);
    else if (strcmp(e->source, "proc.exit") == 0)
        ended(o, e);
    else if (strcmp(e->source, "proc.crash") == 0)
        crashed(o, e);
    else if (strcmp(e->source, "proc.note") == 0)
        note(o, e);
}
