/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/host_setup.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/safe_path.h"
#include "cli/cli.h"
#include "host/host.h"
#include "inject/launch.h"
#include "reach/reach.h"
#include "rules/rules.h"

#define READY_MS 60000u /* for the collector, on the busiest machine */
#define END_MS   90000u /* what the supervisor gives its children, and more */
#define REACH_MS 30000u /* for what it is doing to a program */
#define LOOK_MS  20
#define ENV_MAX  ((size_t)1 << 20)

static volatile sig_atomic_t interrupted;

static uint64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / 1000000u;
}

/* --- one at a time, and not ended in the middle --- */

static void on_signal(int sig)
{
    interrupted = sig;
}

/* From here on a signal that would end us is only noted: what was begun is finished or undone. */
static void catch_signals(void)
{
    struct sigaction sa = {.sa_handler = on_signal};

    interrupted = 0;
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGHUP, &sa, NULL);
}

/* The descriptor that holds it, or an exit status below 0 after a message. */
static int lock(void)
{
    char *why = NULL;
    bool told = false;

    for (;;) {
        struct stat mine, there;
        int dir = host_dir(&why),
            fd = dir < 0 ? -1 : openat(dir, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

        if (fd < 0) {
            cli_error("%s: %s", HOST_DIR, why ? why : strerror(dir < 0 ? -dir : errno));
            free(why);
            if (dir >= 0)
                close(dir);
            return -EXIT_FAILED;
        }
        close(dir);
        if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
            if (!told)
                cli_error("another `scope start` or `scope stop` is under way: waiting for it");
            told = true;
            if (flock(fd, LOCK_EX) < 0) {
                close(fd);
                if (interrupted)
                    return -EXIT_FAILED;
                continue;
            }
        }
        /* Uninstalling has removed the file meanwhile? */
        if (fstat(fd, &mine) == 0 && stat(HOST_DIR "/lock", &there) == 0 && mine.st_dev == there.st_dev &&
            mine.st_ino == there.st_ino)
            return fd;
        close(fd);
    }
}

/* --- the supervisor --- */

int host_stop_supervisor(void)
{
    uint64_t deadline = now_ms() + END_MS;
    pid_t pid = host_supervisor_pid();
    int fd;

    if (!pid)
        return 0;
    fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (host_supervisor_pid() != pid) { /* it ended, and the number may be another's */
        if (fd >= 0)
            close(fd);
        return 0;
    }
    if (fd >= 0)
        syscall(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0);
    else
        kill(pid, SIGTERM);
    if (fd >= 0)
        close(fd);
    while (host_supervisor_pid() == pid) {
        if (now_ms() > deadline)
            return -ETIMEDOUT;
        poll(NULL, 0, LOOK_MS);
    }
    return 0;
}

int host_daemonize(void)
{
    int null, log = safe_file(HOST_LOG, O_WRONLY | O_CREAT | O_APPEND, 0600, NULL);
    pid_t pid;

    if (log < 0)
        log = open("/dev/null", O_WRONLY | O_CLOEXEC);
    null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (log < 0 || null < 0 || (pid = fork()) < 0)
        return -errno;
    if (pid > 0) {
        waitpid(pid, NULL, 0);
        _exit(0);
    }
    setsid();
    if ((pid = fork()) != 0) /* no session leader: it can't get a terminal */
        _exit(pid < 0);
    dup2(null, 0);
    dup2(log, 1);
    dup2(log, 2);
    launch_close_others(NULL, 0);
    return 0;
}

bool host_is_started(void)
{
    struct host_status s;
    bool runs = host_status_read(&s) == 0 && s.pid;

    host_status_clear(&s);
    return runs;
}

/* Waits until programs can join. */
static int wait_ready(void)
{
    uint64_t deadline = now_ms() + READY_MS;

    for (;;) {
        struct host_status s;
        bool ready = host_status_read(&s) == 0 && s.ready;

        host_status_clear(&s);
        if (ready)
            return 0;
        if (interrupted)
            return -EINTR;
        if (now_ms() > deadline)
            return -ETIMEDOUT;
        poll(NULL, 0, LOOK_MS);
    }
}

/* Where no init system is that would do it. */
static int start_ourselves(const char *exe)
{
    const char *argv[] = {exe, "collector", "--host", "--daemon", NULL};
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        setsid();
        execv(exe, (char *const *)argv);
        _exit(127);
    }
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return pid < 0 ? -errno : status ? -EIO : 0;
}

/* A process's executable, "" if that isn't known. */
static void exe_of(pid_t pid, char exe[static PATH_MAX])
{
    char name[64];
    ssize_t n;

    snprintf(name, sizeof(name), "/proc/%d/exe", (int)pid);
    n = pid ? readlink(name, exe, PATH_MAX - 1) : -1;
    exe[n > 0 ? n : 0] = '\0';
}

static bool runs(pid_t pid, const char *exe)
{
    char path[PATH_MAX];

    exe_of(pid, path);
    return strcmp(path, exe) == 0;
}

/* --- start --- */

/* What was there before, and what has been done since. */
struct start {
    enum host_init init;
    char *lib, *plans, *exe, *why;
    const char *hint;
    bool had_service, had_rules, had_line, had_version;
    bool service_done, rules_done, started;
    pid_t before; /* the supervisor that ran */
    unsigned rules;
};

static const char *init_name(enum host_init init)
{
    static const char *const names[] = {"in the background", "systemd", "OpenRC", "init scripts"};

    return names[init];
}

static bool any_service(void)
{
    static const char *const files[] = {"/etc/systemd/system/" HOST_SERVICE ".service", "/etc/init.d/" HOST_SERVICE};

    return access(files[0], F_OK) == 0 || access(files[1], F_OK) == 0;
}

static int fail(struct start *s, int rc, const char *fallback)
{
    if (!s->why)
        s->why = xasprintf("%s: %s", fallback, rc == -EINTR ? "interrupted" : strerror(-rc));
    return rc;
}

/* A `scope stop` that was killed may have made it leave programs alone. */
static void have_reach(pid_t supervisor)
{
    struct host_status now;

    if (host_status_read(&now) == 0 && now.ready && !now.reach)
        kill(supervisor, SIGHUP);
    host_status_clear(&now);
}

static int start_service(struct start *s)
{
    bool restart = s->before && !runs(s->before, s->exe);
    int rc = host_service_install(s->init, s->exe, &s->why);

    s->service_done = true;
    if (rc < 0)
        return fail(s, rc, "the service can't be installed");
    if (interrupted)
        return fail(s, -EINTR, "starting");
    if (s->before && !restart)
        have_reach(s->before);
    s->started = true;
    rc = host_service_start(s->init, restart, &s->why);
    if (rc == -ENOTSUP) {
        if (restart)
            rc = host_stop_supervisor();
        if (rc == 0 || rc == -ENOTSUP)
            rc = host_supervisor_pid() ? 0 : start_ourselves(s->exe);
    }
    if (rc == 0)
        rc = wait_ready();
    if (rc < 0) {
        s->hint = s->init == HOST_INIT_SYSTEMD ? "`journalctl -u appscope` may say why" : HOST_LOG " may say why";
        return fail(s, rc, "the host's collector doesn't start");
    }
    return 0;
}

static int do_start(struct start *s)
{
    struct stat st;
    char *version;
    int rc;

    s->init = host_init("");
    s->had_service = any_service();
    s->had_rules = access(HOST_RULES_MAPPED, F_OK) == 0;
    s->had_line = host_preload_has("", NULL);
    s->before = host_supervisor_pid();
    s->had_version = true; /* until it is known which one */
    rc = host_install(&s->lib, &s->plans, &s->exe, &s->why);
    if (rc < 0) {
        if (rc == -EROFS)
            s->hint = "/usr is read-only here: make " HOST_LIB_DIR " a directory that can be written (a mount will do)";
        return fail(s, rc, HOST_LIB_DIR);
    }
    version = xstrndup(s->lib, (size_t)(strrchr(s->lib, '/') - s->lib));
    s->had_version = stat(version, &st) < 0 || s->before || s->had_line || s->had_service;
    free(version);
    rc = host_compile_rules(s->plans, &s->rules, &s->why);
    s->rules_done = rc == 0;
    if (rc < 0) {
        s->hint = "mend the file, and start again";
        return fail(s, rc, HOST_RULES);
    }
    if (interrupted)
        return fail(s, -EINTR, "starting");
    rc = start_service(s);
    if (rc < 0)
        return rc;
    if (interrupted)
        return fail(s, -EINTR, "starting");
    rc = host_preload_add("", s->lib, &s->why);
    if (rc == -ENOENT) /* said below; other programs are attached to */
        return 0;
    if (rc < 0)
        s->hint = "nothing was changed; programs that run are not affected";
    return rc < 0 ? fail(s, rc, "/etc/ld.so.preload") : 0;
}

/* In reverse order: nothing is left that wasn't there before. */
static void undo(struct start *s)
{
    char *why = NULL;

    if (!s->had_line)
        host_preload_remove("", &why);
    free(why);
    why = NULL;
    if (s->started && !s->before) {
        host_service_stop(s->init, &why);
        host_stop_supervisor();
        free(why);
        why = NULL;
    }
    if (s->service_done && !s->had_service)
        host_service_remove(&why);
    free(why);
    if (s->rules_done && !s->had_rules)
        unlink(HOST_RULES_MAPPED);
    if (s->lib && !s->had_version) {
        char *version = xstrndup(s->lib, (size_t)(strrchr(s->lib, '/') - s->lib));
        int dir = safe_dir(HOST_LIB_DIR, SAFE_OURS, 0, NULL);

        if (dir >= 0) {
            safe_remove_tree(dir, strrchr(version, '/') + 1, NULL);
            close(dir);
        }
        free(version);
    }
}

int host_start(bool quiet)
{
    struct start s = {0};
    int fd, rc;

    if (geteuid() != 0) {
        cli_error("only root can do that: it is about the programs of all users");
        return EXIT_FAILED;
    }
    catch_signals();
    fd = lock();
    if (fd < 0)
        return -fd;
    rc = do_start(&s);
    if (rc < 0) {
        cli_error("%s", s.why);
        if (s.hint)
            cli_hint("%s", s.hint);
        undo(&s);
    } else {
        if (s.why)
            cli_error("%s: programs that rules name are attached to when they have begun", s.why);
        if (!quiet) {
            printf("Started: %u rule%s in force, service %s (%s), library %s.\n", s.rules, s.rules == 1 ? "" : "s",
                   HOST_SERVICE, init_name(s.init), s.lib);
            if (s.init == HOST_INIT_NONE)
                printf("No init system that scope knows runs here: give `scope start` again after a boot.\n");
            puts(s.rules ? "`scope events --host` shows what the programs do." :
                           "Nothing is observed yet: `scope rules --add NAME` names a program.");
        }
    }
    free(s.lib);
    free(s.plans);
    free(s.exe);
    free(s.why);
    close(fd);
    return rc < 0 ? EXIT_FAILED : 0;
}

/* --- stop --- */

/* The library of the supervisor that runs. */
static char *library_in_use(void)
{
    char path[PATH_MAX], *slash;

    exe_of(host_supervisor_pid(), path);
    slash = strrchr(path, '/');
    return slash ? xasprintf("%.*s/libscope.so", (int)(slash - path), path) : NULL;
}

/* Has the supervisor end what attaches to programs, which would do so while they are left. */
static void end_reach(void)
{
    uint64_t deadline = now_ms() + REACH_MS;
    pid_t pid = host_supervisor_pid();

    for (bool gone = !pid || kill(pid, SIGUSR1) < 0; !gone && now_ms() < deadline;) {
        struct host_status s;

        gone = host_status_read(&s) < 0 || !s.reach;
        host_status_clear(&s);
        if (!gone)
            poll(NULL, 0, LOOK_MS);
    }
}

static bool leave_programs(void)
{
    char *lib = library_in_use(), *plans = NULL;
    int rc;

    if (!lib)
        return true; /* nobody observes */
    end_reach();
    plans = xasprintf("%.*s/plans", (int)(strrchr(lib, '/') - lib), lib);
    rc = reach_leave_all(&(struct reach_args){HOST_SOCKET, lib, plans, "/proc"});
    if (rc < 0)
        cli_error("programs can't be left: %s", strerror(-rc));
    else if (rc > 0)
        cli_error("%d program%s could not be left: nothing of what %s is recorded any more", rc, rc == 1 ? "" : "s",
                  rc == 1 ? "it does" : "they do");
    free(lib);
    free(plans);
    return rc == 0;
}

/* How many processes have our library's path in their environment: what `scope run` observes, whose children load it.
 * *ret_one: a number for people. */
static unsigned users_of_library(char ret_one[static 24])
{
    DIR *d = opendir("/proc");
    struct dirent *e;
    unsigned count = 0;
    char *text = xmalloc(ENV_MAX);

    while (d && (e = readdir(d))) {
        char path[64];
        size_t len = 0;
        ssize_t n;
        int fd;

        if (!isdigit((unsigned char)*e->d_name) || snprintf(path, sizeof(path), "/proc/%.20s/environ", e->d_name) < 0)
            continue;
        fd = open(path, O_RDONLY | O_CLOEXEC);
        while (fd >= 0 && len < ENV_MAX && (n = read(fd, text + len, ENV_MAX - len)) > 0)
            len += (size_t)n;
        if (fd >= 0)
            close(fd);
        if (memmem(text, len, HOST_LIB_DIR "/", sizeof(HOST_LIB_DIR)) && !count++)
            snprintf(ret_one, 24, "%.20s", e->d_name);
    }
    if (d)
        closedir(d);
    free(text);
    return count;
}

/* A directory of ours with all that is in it. */
static bool remove_dir(const char *parent, const char *name)
{
    int dir = safe_dir(parent, SAFE_OURS, 0, NULL), rc = dir < 0 ? dir : safe_remove_tree(dir, name, NULL);

    if (dir >= 0)
        close(dir);
    if (rc == 0 || rc == -ENOENT)
        return true;
    cli_error("%s/%s can't be removed: %s", parent, name, strerror(-rc));
    return false;
}

static bool uninstall(bool purge)
{
    char one[24];
    unsigned users = users_of_library(one);
    char *why = NULL;
    bool good = host_service_remove(&why) == 0;

    if (!good)
        cli_error("%s", why ? why : "the service's files can't be removed");
    free(why);
    if (users)
        cli_error(HOST_LIB_DIR " stays: %u process%s that `scope run` observes would look for it in vain (pid %s%s)", users,
                  users == 1 ? "" : "es", one, users == 1 ? "" : " and others");
    else
        good &= remove_dir("/usr/lib", "appscope");
    if ((unlink(HOST_LOG) < 0 && errno != ENOENT) || (unlink(HOST_LOG_OLD) < 0 && errno != ENOENT))
        good = false;
    if (purge) {
        good &= remove_dir("/var/lib", "appscope");
        unlink(HOST_RULES);
        rmdir(HOST_CONFIG_DIR); /* unless there is more in it */
    } else if (access(HOST_STORE, F_OK) == 0) {
        printf("What was recorded is still in " HOST_STORE " (--purge removes it, and the rules).\n");
    }
    good &= remove_dir("/run", "appscope"); /* at last: the lock is in it */
    return good && !users;
}

int host_stop(const struct host_stop_options *o)
{
    char *why = NULL;
    bool good = true, left;
    int fd, rc;

    if (geteuid() != 0) {
        cli_error("only root can do that: it is about the programs of all users");
        return EXIT_FAILED;
    }
    catch_signals(); /* it goes on to its end: half a stop is worse than a late one */
    fd = lock();
    if (fd < 0)
        return -fd;
    rc = host_preload_remove("", &why);
    if (rc < 0) {
        /* Programs would look for what is taken away next. */
        cli_error("%s", why ? why : "/etc/ld.so.preload can't be changed");
        free(why);
        close(fd);
        return EXIT_FAILED;
    }
    if (unlink(HOST_RULES_MAPPED) < 0 && errno != ENOENT)
        good = false;
    left = leave_programs(); /* a program may deny it: that is no reason to keep what is installed */
    rc = host_service_stop(host_init(""), &why);
    if (rc < 0)
        cli_error("%s", why ? why : "the service can't be stopped");
    good &= rc == 0;
    free(why);
    rc = host_stop_supervisor();
    if (rc < 0)
        cli_error("the host's collector doesn't end: %s", strerror(-rc));
    good &= rc == 0;
    unlink(HOST_RULES_MAPPED); /* if the supervisor has made it anew meanwhile */
    if (o->uninstall && good)
        good = uninstall(o->purge);
    else if (o->uninstall)
        cli_error("nothing was removed, as not all could be stopped");
    good &= left;
    if (good)
        printf("%s. No program of this host is observed by rules any more.\n", o->uninstall ? "Removed" : "Stopped");
    close(fd);
    return good ? 0 : EXIT_FAILED;
}
