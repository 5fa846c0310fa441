/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/crash_files.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/safe_path.h"
#include "collector/crash_state.h"
#include "collector/state.h"

#define FLIGHT_CPU_S 5
#if defined(__SANITIZE_ADDRESS__)
#define FLIGHT_BYTES RLIM_INFINITY
#else
#define FLIGHT_BYTES ((rlim_t)1 << 30)
#endif
#define CRASH_DIR "crash"

/* --- its directory --- */

static int top_dir(struct crashes *cs)
{
    const struct session *s = cs->c->opt->session;
    int top;

    if (cs->dir >= 0)
        return cs->dir;
    if (!s)
        return -ENODEV;
    top = safe_dir(s->dir, SAFE_OURS, 0, NULL);
    if (top < 0)
        return top;
    cs->dir = safe_make_dir(top, CRASH_DIR, 0700);
    close(top);
    return cs->dir;
}

int crash_dir_make(struct crash *crash)
{
    struct crashes *cs = crash->all;
    int dir = top_dir(cs);

    if (dir < 0)
        return dir;
    if (cs->dirs >= CRASH_DIRS_MAX ||
        (crash->guest && (cs->guest_dirs >= CRASH_GUEST_DIRS_MAX || cs->guest_text >= CRASH_GUEST_TEXT_MAX)))
        return -EDQUOT;
    crash->number = ++cs->number;
    snprintf(crash->name, sizeof(crash->name), "%u-%llu", crash->pid, (unsigned long long)crash->number);
    crash->dir = safe_make_dir(dir, crash->name, 0700);
    if (crash->dir < 0)
        return crash->dir;
    cs->dirs++;
    cs->guest_dirs += crash->guest;
    crash->path = xasprintf("%s/" CRASH_DIR "/%s", cs->c->opt->session->dir, crash->name);
    return 0;
}

void crash_dir_drop(struct crash *crash)
{
    if (crash->dir >= 0)
        close(crash->dir);
    crash->dir = -1;
    if (crash->path) {
        safe_remove_tree(crash->all->dir, crash->name, NULL);
        crash->all->dirs--;
        crash->all->guest_dirs -= crash->guest;
    }
    free(crash->path);
    crash->path = NULL;
}

/* Bytes of a file of it: on disk, or (a text) in it. */
static uint64_t file_bytes(const struct crash *crash, const char *name, bool on_disk)
{
    struct stat st;

    if (crash->dir < 0 || fstatat(crash->dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return 0;
    return on_disk ? (uint64_t)st.st_blocks * 512 : (uint64_t)st.st_size;
}

bool crash_cores_full(const struct crashes *cs, bool guest, uint64_t core_max)
{
    return cs->core_bytes[guest] >= (guest ? CRASH_GUEST_CORES_MAX : CRASH_CORES_MAX) * core_max;
}

void crash_files_count(struct crash *crash)
{
    struct crashes *cs = crash->all;

    cs->core_bytes[crash->guest] += file_bytes(crash, "core", true);
    if (crash->guest)
        cs->guest_text += file_bytes(crash, "snapshot.json", false) + file_bytes(crash, "backtrace.txt", false);
}

void crash_files_done(struct crash *crash)
{
    if (crash->guest)
        crash->all->guest_text += file_bytes(crash, "events.json", false);
    if (crash->dir >= 0)
        close(crash->dir);
    crash->dir = -1;
}

/* --- the flight record --- */

static _Noreturn void write_flight(const struct crash *crash)
{
    struct rlimit cpu = {FLIGHT_CPU_S, FLIGHT_CPU_S}, space = {FLIGHT_BYTES, FLIGHT_BYTES};
    int journal, lines, text;

    log_setup(stderr, LOGL_NONE, NULL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    setrlimit(RLIMIT_CPU, &cpu);
    setrlimit(RLIMIT_AS, &space);
    journal = safe_read(crash->journal);
    lines = safe_create(crash->dir, "events.json", 0600);
    text = openat(crash->dir, "backtrace.txt", O_WRONLY | O_APPEND | O_NOFOLLOW | O_CLOEXEC);
    if (journal < 0 || lines < 0)
        _exit(1);
    _exit(flight_write(journal, &crash->flight, lines, text) < 0);
}

void crash_flight_start(struct crash *crash)
{
    crash->since = clock_now_mono();
    crash->stage = FLIGHT;
    crash->all->writers++;
    crash->all->guest_writers += crash->guest;
    crash->writer = fork();
    if (crash->writer == 0)
        write_flight(crash);
}

bool crash_flight_may_start(const struct crash *crash)
{
    const struct crashes *cs = crash->all;

    return cs->writers < CRASH_WRITERS && (!crash->guest || cs->guest_writers < CRASH_GUEST_WRITERS);
}

bool crash_flight_is_over(struct crash *crash, bool wait)
{
    struct crashes *cs = crash->all;
    const char *why = NULL;
    int status = 0;

    if (crash->writer > 0 && waitpid(crash->writer, &status, WNOHANG) == 0) {
        if (wait)
            return false;
        worker_end(&cs->kept[crash->guest], crash->writer);
        why = "it took too long";
    } else if (crash->writer < 0) {
        why = "no process can be started to write it";
    } else if (status) {
        why = WIFEXITED(status) ? "what it is made from can't be read, or it can't be written"
                                : "it took too much time or memory";
    }
    if (why && door_says(&cs->lines))
        log_warning("%s has no flight record, or none that is complete: %s", crash->name, why);
    cs->writers--;
    cs->guest_writers -= crash->guest;
    return true;
}

void crash_flight_skip(const struct crash *crash)
{
    if (door_says(&crash->all->lines))
        log_warning("%s has no flight record: too many others have crashed at the same time", crash->name);
}
