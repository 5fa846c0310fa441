/* SPDX-License-Identifier: Apache-2.0 */
#include "inject/attach.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"
#include "inject/handlers.h"
#include "inject/stacks.h"
#include "inject/worker.h"
#include "session/session.h"
#include "wire/join.h"

#define TRIES 100 /* for a hook to end */
#define PAUSE_US 1000
#define FUNCTION_PAUSE_US 20000 /* for a function that was hooked: TRIES of them are 2 s */
#define TOTAL_MS 10000
#define ANSWER_MS 5000

struct job {
    pid_t pid;
    bool foreign; /* code differs from its files in other ways than ours, or can't be compared */
    bool last;    /* what is in the way stays: don't try again */
    struct process_facts facts;
    struct process_maps maps;
    struct process_probe probe;
    bool passive; /* another one is there, which may not have been left yet by all threads */
    struct texts texts;
    struct attach_result *result;
    struct trace t;
    struct trace_thread *threads, *th;
    size_t count;
    int mem;
    struct stacks stacks;
};

static int prepare(struct job *j, const char *plan_dir, char **ret_why)
{
    uint64_t bytes, differ = 0;
    int rc = process_facts(j->pid, &j->facts);

    if (rc < 0)
        return rc;
    rc = process_maps(j->pid, &j->maps);
    if (rc == 0 && !j->maps.count && !j->facts.kernel_thread && j->facts.state != 'Z')
        rc = -EPERM;
    if (rc < 0)
        return rc;
    if (!process_find_probe(j->pid, &j->maps, &j->probe, &j->passive)) {
        *ret_why = xstrdup("it is not observed");
        return j->passive ? -EALREADY : -ENOENT;
    }
    *ret_why = process_objection(j->pid, &j->facts);
    if (*ret_why)
        return -ENOTSUP;
    /* Whatever it was told to do. */
    texts_read(j->pid, &j->maps, plan_dir, process_is_trusted(&j->facts),
               TEXTS_WHEN(PLAN_TIMING) | TEXTS_WHEN(PLAN_TRAFFIC) | TEXTS_WHEN(PLAN_TRAFFIC_START) | TEXTS_WHEN(PLAN_CRASH),
               &j->texts);
    rc = texts_find_applied(j->pid, &j->texts);
    if (rc == 0)
        rc = texts_compare(j->pid, &j->texts, true, &bytes, &differ);
    j->foreign = differ || j->texts.unknown;
    return rc;
}

static void forget(struct job *j)
{
    process_maps_free(&j->maps);
    texts_free(&j->texts);
}

/* --- while it stands --- */

/* Whether a program counter is in the probe, or in a slot. */
static bool is_ours(const struct job *j, uint64_t pc, uint64_t *ret_to)
{
    enum text_place place = texts_after(&j->texts, pc, ret_to);

    return place == TEXT_INSIDE ||
           (place == TEXT_ELSEWHERE && pc >= j->probe.base && pc < j->probe.base + j->probe.span);
}

/* A thread that waits in a call in a slot goes back to where the call was: after the text is as it was. */
static bool leaves_slot(void *ctx, uint64_t pc, uint64_t *ret_to)
{
    const struct job *j = ctx;

    return texts_after(&j->texts, pc, ret_to) == TEXT_MOVES;
}

/* -EBUSY: a hook is under way, in a thread or below a signal handler of it. */
static int look_for_hooks(struct job *j)
{
    uint64_t to;

    for (size_t i = 0; i < j->count; i++) {
        struct worker_context *contexts;
        size_t n;
        int rc = worker_contexts(&j->t, &j->maps, &j->threads[i], j->texts.go, &contexts, &n);

        if (rc == 0 && is_ours(j, arch_pc(&j->threads[i].regs), &to))
            rc = -EBUSY;
        for (size_t k = 0; rc == 0 && k < n; k++)
            if (is_ours(j, contexts[k].pc, &to))
                rc = -EBUSY;
        free(contexts);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* Has calls of hooked functions left alone from now on, or not. The process may run. */
static int set_leaving(const struct job *j, int mem, bool leaving)
{
    const uint64_t at = (uint64_t)(uintptr_t)j->probe.info.probe + offsetof(struct probe, leaving);

    return pwrite(mem, &leaving, sizeof(leaving), (off_t)at) == (ssize_t)sizeof(leaving) ? 0 : errno ? -errno : -EIO;
}

/* -EBUSY: calls of functions are under way that will return to the probe. There may be none, too: a call that was left
 * by longjmp(3), an exception or its thread's end never returns, but who can tell? */
static int look_for_functions(struct job *j)
{
    const uint64_t at = (uint64_t)(uintptr_t)j->probe.info.function_shards;
    uint64_t calls[8], sum = 0;

    for (uint64_t off = 0; off + sizeof(calls) <= j->probe.info.function_shards_size; off += sizeof(calls)) {
        int rc = trace_read(&j->t, at + off, calls, sizeof(calls));

        if (rc < 0)
            return rc;
        sum += calls[0];
    }
    j->result->inside = sum;
    if (!sum)
        return 0;
    if (!j->last) {
        int rc = set_leaving(j, j->mem, true);

        if (rc < 0)
            return rc;
    }
    return -EBUSY;
}

/* The probe, should anything of it still run, returns at once from now on; a library that stays mapped knows that it
 * is none any more. */
static int switch_off(struct job *j)
{
    const uint64_t probe = (uint64_t)(uintptr_t)j->probe.info.probe;
    const bool off = true;
    void *none = NULL;
    int rc = trace_write(&j->t, probe + offsetof(struct probe, off), &off, sizeof(off));

    if (rc == 0 && j->probe.process)
        rc = trace_write(&j->t, j->probe.process + offsetof(struct process, segment), &none, sizeof(none));
    return rc;
}

static int unmap(struct job *j, uint64_t at, uint64_t size)
{
    int64_t got;
    int rc = trace_call(&j->t, j->th, SYS_munmap, (const uint64_t[6]){at, size}, &got);

    return rc < 0 ? rc : got < 0 ? (int)got : 0;
}

static int unmap_all(struct job *j)
{
    const uint64_t segment = (uint64_t)(uintptr_t)j->probe.probe.segment;
    uint64_t stacks = 0, stacks_end = 0, notes = 0;
    void *none = NULL;
    int rc = trace_read(&j->t, (uint64_t)(uintptr_t)j->probe.info.stacks, &stacks, sizeof(stacks));

    if (rc == 0)
        rc = trace_read(&j->t, (uint64_t)(uintptr_t)j->probe.info.stacks_end, &stacks_end, sizeof(stacks_end));
    if (rc == 0 && stacks)
        rc = unmap(j, stacks, stacks_end - stacks);
    if (rc == 0)
        rc = trace_read(&j->t, (uint64_t)(uintptr_t)j->probe.info.go_notes, &notes, sizeof(notes));
    if (rc == 0 && notes)
        rc = unmap(j, notes, j->probe.info.go_notes_size);
    for (size_t k = 0; k < j->texts.count && rc == 0; k++) {
        const struct text *x = &j->texts.v[k];

        if (x->blob && !(x->blob >= j->probe.base && x->blob < j->probe.base + j->probe.span))
            rc = unmap(j, x->blob, SEG_ROUND(x->plan->blob_size));
    }
    if (j->probe.file && rc == 0) { /* the loader's list names it: it stays */
        rc = trace_write(&j->t, (uint64_t)(uintptr_t)j->probe.info.process, &none, sizeof(none));
    } else if (rc == 0) {
        rc = unmap(j, j->probe.base, j->probe.info.mapped);
    }
    if (rc == 0 && j->probe.process && (j->probe.file || j->probe.process - j->probe.base >= j->probe.info.mapped))
        rc = unmap(j, j->probe.process, SEG_PAGE);
    for (size_t i = 0; i < j->maps.count && rc == 0; i++)
        if (process_map_is_segment(&j->maps.v[i]) && (!j->passive || j->maps.v[i].lo == segment))
            rc = unmap(j, j->maps.v[i].lo, j->maps.v[i].hi - j->maps.v[i].lo);
    return rc;
}

static int work_with_all(struct job *j)
{
    const uint64_t vdso = process_auxv(j->pid, AT_SYSINFO_EHDR);
    struct process_maps now;
    bool same, handlers = false, used = false;
    int undo, rc = process_maps(j->pid, &now);

    if (rc < 0)
        return rc;
    same = process_maps_same_code(&now, &j->maps);
    process_maps_free(&j->maps);
    j->maps = now;
    if (!same)
        return -EAGAIN;
    j->result->kept = true; /* what may still be used; jumps of another build's plan may lead there, too */
    rc = texts_find_applied(j->pid, &j->texts);
    if (rc == 0)
        rc = look_for_hooks(j);
    if (rc == 0)
        rc = look_for_functions(j);
    if (rc == 0)
        rc = worker_can_borrow(&j->t, j->threads, j->count, &j->maps, j->texts.go);
    if (rc == -EBUSY && j->last)
        rc = 0;
    else if (rc == 0 && !j->foreign)
        j->result->kept = false;
    if (rc == 0)
        rc = texts_write(&j->texts, j->mem, true);
    if (rc == 0)
        rc = switch_off(j);
    if (rc == 0)
        rc = worker_move_threads(&j->t, &j->maps, j->threads, j->count, j->texts.go, leaves_slot, j);
    if (rc == 0)
        rc = stacks_read(&j->stacks, &j->t, &j->probe.info);
    if (rc == 0)
        rc = handlers_are_set(&j->t, &j->probe.info, &handlers);
    if (rc == 0)
        rc = stacks_take(&j->stacks, &j->t, &j->maps, j->threads, j->count, j->texts.go, vdso, &used);
    if (rc < 0 || (j->result->kept && !handlers))
        return rc;
    rc = worker_borrow(&j->t, j->threads, j->count, &j->maps, j->texts.go, vdso, &j->th);
    if (rc == -EBUSY && j->result->kept) /* handlers of a probe that is switched off let the process die at once */
        return 0;
    if (rc < 0)
        return rc;
    rc = handlers ? handlers_restore(&j->t, j->th, &j->probe.info) : 0;
    if (rc == 0 && !used && !j->result->kept)
        rc = stacks_unmap(&j->stacks, &j->t, j->th);
    if (rc == 0 && !j->result->kept)
        rc = unmap_all(j);
    undo = trace_return(&j->t, j->th);
    return rc < 0 ? rc : undo;
}

static int work_stopped(struct job *j)
{
    int rc = work_with_all(j);

    stacks_free(&j->stacks);
    return rc;
}

static int work(void *arg)
{
    struct job *j = arg;
    uint64_t began;
    int rc;

    trace_init(&j->t, j->pid, TOTAL_MS);
    j->t.unfiltered = j->facts.seccomp != 0;
    began = worker_now();
    rc = trace_stop_all(&j->t, STOP_MS, &j->threads, &j->count);
    if (rc < 0)
        return rc;
    j->mem = worker_open_mem(j->pid); /* not before: an exec gives it other memory */
    rc = j->mem < 0 ? j->mem : work_stopped(j);
    j->result->threads = (unsigned)j->count;
    j->result->unknown = (uint32_t)j->texts.unknown;
    trace_let_go(j->threads, j->count);
    j->result->stopped_ns = worker_now() - began;
    if (rc == 0)
        rc = texts_compare(j->pid, &j->texts, false, &j->result->compared, &j->result->differ);
    return rc;
}

/* The collector hears of it; one that isn't there any more has nothing to be told. */
static void take_leave(const struct job *j)
{
    static struct join_request req;
    int conn;

    req = (struct join_request){.type = JOIN_LEAVE, .tid = (uint32_t)j->pid};
    conn = session_send(j->probe.probe.socket, &req, NULL, 0, 1000);
    if (conn >= 0) {
        if (session_answer(conn, ANSWER_MS) < 0) {
            /* It will see that nothing comes. */
        }
        close(conn);
    }
}

int detach_run(pid_t pid, const char *plan_dir, struct attach_result *ret, char **ret_why)
{
    struct job j = {.pid = pid};
    int late = 0, rc = -EAGAIN;
    bool asked = false; /* to let no more calls into functions */

    *ret_why = NULL;
    *ret = (struct attach_result){0};
    for (int i = 0; i < TRIES && late < LATE_MAX && (rc == -EAGAIN || rc == -ETIMEDOUT || rc == -EBUSY); i++) {
        if (i)
            usleep(j.result && j.result->inside ? FUNCTION_PAUSE_US : PAUSE_US);
        if (rc == -EAGAIN) {
            forget(&j);
            free(*ret_why);
            *ret_why = NULL;
            rc = prepare(&j, plan_dir, ret_why);
            if (rc < 0)
                break;
        }
        j.last = i == TRIES - 1;
        rc = worker_run(work, &j, &j.result, sizeof(*j.result));
        late += rc == -ETIMEDOUT;
        asked |= j.result && j.result->inside;
    }
    if (j.result)
        *ret = *j.result;
    worker_done(&j.result, sizeof(*j.result));
    if (rc == 0) {
        take_leave(&j);
    } else if (asked) { /* it stays observed */
        int mem = worker_open_mem(pid);

        if (mem >= 0 && set_leaving(&j, mem, false) < 0) {
            /* It has ended. */
        }
        if (mem >= 0)
            close(mem);
    }
    forget(&j);
    return worker_explain(rc, pid, ret_why);
}
