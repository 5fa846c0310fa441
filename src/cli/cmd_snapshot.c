/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"
#include "cli/control.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/safe_path.h"
#include "crash/crash.h"
#include "inject/process.h"

#define CRASH_DIR_ROOT "/var/lib/scope/crash"
#define TIMEOUT_MS 30000u
#define CORE_TIMEOUT_MS 600000u

static const struct cli_option options[] = {
    {"coredump", NULL, "A core file, too", NULL, 'd', false, false},
    {"environment", NULL, "The environment, too, with the values of secrets struck out", NULL, 'e', false, false},
    {"output", "DIR", "Where the files go; the directory is made if it is missing", NULL, 'o', false, false},
    {"all-matches", NULL, "All processes of that name", NULL, 0, false, false},
    {"json", NULL, "One JSON object per line", NULL, 'j', false, false},
    {0},
};

static const struct cli_example examples[] = {
    {"scope snapshot 4242", "where all threads of process 4242 are just now"},
    {"scope snapshot nginx --all-matches", "of all processes called nginx"},
    {"scope snapshot -d -o /srv/hang 4242", "with a core file for gdb, in a directory of your own"},
    {0},
};

static int refuse(const char *path, int rc, char *why)
{
    cli_error("%s: %s", path, why ? why : strerror(-rc));
    free(why);
    return EXIT_FAILED;
}

/* Where the snapshots of a process are kept, unless the user names a directory. malloc'ed. */
static char *default_dir(pid_t pid)
{
    char *session = control_session_dir(pid), *base, *dir;
    const char *given = getenv("SCOPE_CRASH_DIR");

    if (session) {
        dir = xasprintf("%s/crash", session);
        free(session);
        return dir;
    }
    if (given && *given)
        return xstrdup(given);
    if (geteuid() == 0)
        return xstrdup(CRASH_DIR_ROOT);
    base = session_base();
    dir = xasprintf("%s/crash", base);
    free(base);
    return dir;
}

/* A new directory for one snapshot: descriptor, and its path (malloc'ed); or -1 after a message. */
static int make_dir(const struct args *a, pid_t pid, char **ret_path)
{
    const char *given = args_get(a, "output");
    char *top, name[64], *why = NULL;
    struct timespec ts;
    struct tm tm;
    int parent, fd;

    if (given) {
        fd = safe_dir(given, SAFE_NAMED, 0700, &why);
        if (fd < 0)
            refuse(given, fd, why);
        *ret_path = xstrdup(given);
        return fd < 0 ? -1 : fd;
    }
    top = default_dir(pid);
    parent = safe_dir(top, SAFE_OURS, 0700, &why);
    if (parent < 0) {
        refuse(top, parent, why);
        free(top);
        return -1;
    }
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    strftime(name, sizeof(name), "%Y%m%dT%H%M%S", &tm);
    snprintf(name + strlen(name), sizeof(name) - strlen(name), ".%06ldZ-%d", ts.tv_nsec / 1000, (int)pid);
    fd = safe_make_dir(parent, name, 0700);
    close(parent);
    *ret_path = xasprintf("%s/%s", top, name);
    if (fd < 0) {
        refuse(*ret_path, fd, NULL);
        free(*ret_path);
    }
    free(top);
    return fd < 0 ? -1 : fd;
}

static void print_json(pid_t pid, const char *path, const struct crash_summary *s, bool core)
{
    struct buf b = BUF_INIT;

    buf_printf(&b, "{\"pid\":%d,\"directory\":", (int)pid);
    buf_json_str(&b, path);
    buf_printf(&b, ",\"threads\":%u,\"frames\":%u,\"stoppedNs\":%llu", s->threads, s->frames_total,
               (unsigned long long)s->stopped_ns);
    if (core)
        buf_printf(&b, ",\"coreBytes\":%llu", (unsigned long long)s->core_bytes);
    if (*s->why) {
        buf_str(&b, ",\"missing\":");
        buf_json_str(&b, s->why);
    }
    buf_str(&b, "}\n");
    fwrite(b.p, 1, b.len, stdout);
    buf_free(&b);
}

static void print_text(pid_t pid, const char *path, const struct crash_summary *s)
{
    struct buf b = BUF_INIT;

    text_clean(&b, path, strlen(path));
    buf_printf(&b, "\n%d: %u thread%s, stopped for %llu.%01llu ms\n", (int)pid, s->threads, s->threads == 1 ? "" : "s",
               (unsigned long long)s->stopped_ns / 1000000, (unsigned long long)s->stopped_ns / 100000 % 10);
    for (unsigned i = 0; i < s->top_count; i++) {
        const struct crash_frame *f = &s->top[i];

        buf_printf(&b, "  #%-2u ", i);
        if (*f->function)
            text_clean(&b, f->function, strlen(f->function));
        else
            buf_printf(&b, "0x%llx", (unsigned long long)f->pc);
        if (*f->module) {
            buf_str(&b, " in ");
            text_clean(&b, f->module, strlen(f->module));
        }
        if (*f->file) {
            buf_str(&b, " at ");
            text_clean(&b, f->file, strlen(f->file));
            buf_printf(&b, ":%u", f->line);
        }
        buf_str(&b, f->guessed ? " (guessed)\n" : "\n");
    }
    fwrite(b.p, 1, b.len, stdout);
    buf_free(&b);
}

static int take(const struct args *a, pid_t pid)
{
    struct crash_cause cause = {.pid = pid};
    struct crash_wishes wishes = {
        .backtrace = true, .core = args_has(a, "coredump"), .environment = args_has(a, "environment")};
    struct crash_summary s = {0};
    char *path = NULL;
    struct process_facts facts;
    int dir, rc;

    if (process_facts(pid, &facts) == 0 && facts.kernel_thread) {
        cli_error("can't look at process %d: it is a kernel thread", (int)pid);
        return EXIT_FAILED;
    }
    dir = make_dir(a, pid, &path);
    if (dir < 0)
        return EXIT_FAILED;
    rc = crash_take(&cause, &wishes, dir, wishes.core ? CORE_TIMEOUT_MS : TIMEOUT_MS, &s);
    close(dir);
    if (rc < 0 && !s.threads) { /* nothing was written */
        if (rc == -EEXIST)
            cli_error("%s: there is a snapshot already", path);
        else
            cli_error("can't look at process %d: %s", (int)pid, *s.why ? s.why : strerror(-rc));
        if (!args_get(a, "output") && rmdir(path) < 0) {
            /* There is something in it after all. */
        }
        free(path);
        return EXIT_FAILED;
    }
    if (args_has(a, "json"))
        print_json(pid, path, &s, wishes.core);
    else
        print_text(pid, path, &s);
    if (*s.why)
        cli_error("process %d: %s", (int)pid, s.why);
    free(path);
    return rc < 0 || s.core_error < 0 ? EXIT_FAILED : 0;
}

static int run(struct args *a)
{
    pid_t *pids;
    size_t count;
    int rc = cli_targets(a, a->words[0], false, &pids, &count);

    if (rc)
        return rc;
    if (count > 1 && args_get(a, "output"))
        rc = cli_usage(a->command, "--output is for one process");
    for (size_t i = 0; rc != EXIT_USAGE && i < count; i++)
        if (take(a, pids[i]))
            rc = EXIT_FAILED;
    free(pids);
    return rc;
}

const struct cli_command command_snapshot = {
    .name = "snapshot",
    .summary = "Show and keep what a running process is doing",
    .usage = "[OPTIONS] PID|NAME",
    .description =
        "Stops all threads of a process for some milliseconds, and writes down where they are: backtrace.txt for "
        "people "
        "and snapshot.json for programs, with frames, registers, mappings and open descriptors; with --coredump also a "
        "core file for gdb, for which the threads stand longer. The process goes on as before. It need not be "
        "observed.\n"
        "NAME is the exact name of the process or of its file; of several a table is shown on a terminal, and one can "
        "be "
        "chosen from it.\n"
        "The files are only their owner's. They go to the crash directory of the session in which the process is "
        "observed, else to $SCOPE_CRASH_DIR, else to " CRASH_DIR_ROOT " (root) or to the crash directory beside the "
        "sessions (others), or to where --output says.\n"
        "The environment is left out, as it may hold secrets. With --environment, values of variables whose names tell "
        "of "
        "passwords, tokens or keys, and passwords in URLs, are struck out.\n"
        "Needs the right to trace the process: root, CAP_SYS_PTRACE, or to be its owner where "
        "kernel.yama.ptrace_scope is 0. Processes that are traced already and 32-bit programs can't be looked at.",
    .options = options,
    .examples = examples,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
