/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/safe_path.h"
#include "cli/host_setup.h"
#include "cli/records.h"
#include "host/host.h"
#include "host/service.h"
#include "inject/foresee.h"
#include "inject/launch.h"
#include "inject/load.h"
#include "inject/regs.h"
#include "inject/yama.h"
#include "reach/reach.h"
#include "wire/join.h"

#define LOW_SPACE (UINT64_C(100) << 20)
#define CHILD_MS 10000
#define PR_GET_MDWE_ 66 /* linux/prctl.h since Linux 6.3 */

static const struct cli_option options[] = {
    {"json", NULL, "One JSON object per line", NULL, 'j', false, false},
    {"color", "WHEN", "Colours: always (or no value), never, auto", "always|never|auto", 0, true, false},
    {0},
};

static const struct cli_example examples[] = {
    {"scope doctor", "what would prevent observing here, and what to do about it"},
    {"scope doctor curl", "whether curl would be observed, and how its TLS would be read"},
    {0},
};

enum verdict { GOOD, NOTE, BAD };

struct report {
    bool json;
    unsigned bad;
};

/* One line of the report; remedy NULL if there is nothing to do. */
__attribute__((format(printf, 5, 6))) static void tell(struct report *r, enum verdict v, const char *check,
                                                       const char *remedy, const char *fmt, ...)
{
    static const char *const names[] = {"ok", "note", "bad"};
    static const char *const colors[] = {"\033[32m", "\033[33m", "\033[31m"};
    struct buf b = BUF_INIT, clean = BUF_INIT;
    char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        text = NULL;
    va_end(ap);
    r->bad += v == BAD;
    if (r->json) {
        buf_printf(&b, "{\"check\":\"%s\",\"verdict\":\"%s\",\"text\":", check, names[v]);
        buf_json_str(&b, text ? text : "");
        if (remedy) {
            buf_str(&b, ",\"remedy\":");
            buf_json_str(&b, remedy);
        }
        buf_str(&b, "}\n");
    } else {
        text_clean(&clean, text ? text : "", text ? strlen(text) : 0);
        buf_printf(&b, "%s%-4s%s  %-14s %s\n", cli_colors ? colors[v] : "", names[v], cli_colors ? "\033[0m" : "",
                   check, buf_cstr(&clean));
        if (remedy)
            buf_printf(&b, "%22s%s\n", "-> ", remedy);
    }
    fwrite(b.p, 1, b.len, stdout);
    buf_free(&b);
    buf_free(&clean);
    free(text);
}

/* First line of a small file, or "". */
static const char *first_line(const char *path, char *text, size_t size)
{
    FILE *f = fopen(path, "re");

    text[0] = '\0';
    if (f) {
        if (!fgets(text, (int)size, f))
            text[0] = '\0';
        fclose(f);
    }
    text[strcspn(text, "\n")] = '\0';
    return text;
}

/* A value of /proc/self/status, or -1. */
static long status_value(const char *name, int base)
{
    char line[256];
    long value = -1;
    FILE *f = fopen("/proc/self/status", "re");

    while (f && fgets(line, sizeof(line), f))
        if (strncmp(line, name, strlen(name)) == 0 && line[strlen(name)] == ':')
            value = strtol(line + strlen(name) + 1, NULL, base);
    if (f)
        fclose(f);
    return value;
}

static void check_kernel(struct report *r)
{
    struct utsname u;
    long major, minor = 0;
    char *end;

    if (uname(&u) < 0)
        return;
    major = strtol(u.release, &end, 10);
    if (*end == '.')
        minor = strtol(end + 1, NULL, 10);
    if (major < 4 || (major == 4 && minor < 14))
        tell(r, BAD, "kernel", "use Linux 4.14 or newer", "%s %s %s is too old", u.sysname, u.release, u.machine);
    else if (major < 5 || (major == 5 && minor < 3))
        tell(r, NOTE, "kernel", NULL, "%s %s %s: the end of processes is noticed later (no pidfd before Linux 5.3)",
             u.sysname, u.release, u.machine);
    else
        tell(r, GOOD, "kernel", NULL, "%s %s %s", u.sysname, u.release, u.machine);
}

static void check_proc(struct report *r)
{
    char text[64];

    if (access("/proc/self/maps", R_OK) == 0 && *first_line("/proc/self/stat", text, sizeof(text)))
        tell(r, GOOD, "/proc", NULL, "is mounted and readable");
    else
        tell(r, BAD, "/proc", "mount -t proc proc /proc", "can't be read: %s", strerror(errno));
}

static void check_memfd(struct report *r)
{
    int fd = memfd_create("scope-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    void *map = MAP_FAILED;

    if (fd >= 0 && ftruncate(fd, 4096) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
        map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        tell(r, BAD, "shared memory",
             "allow memfd_create, F_ADD_SEALS and mmap in the seccomp filter or security policy",
             "memfd_create or sealing does not work: %s", strerror(errno));
    else
        tell(r, GOOD, "shared memory", NULL, "memfd_create and seals work");
    if (map != MAP_FAILED)
        munmap(map, 4096);
    if (fd >= 0)
        close(fd);
}

/* Whether the code of a process here can be changed, in the two ways that the library knows. */
static void check_code(struct report *r)
{
    char *code = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int mdwe = prctl(PR_GET_MDWE_, 0, 0, 0, 0), fd, err = 0;
    const char *who;

    if (code == MAP_FAILED) {
        tell(r, BAD, "code", "allow mmap with PROT_EXEC in the seccomp filter or security policy",
             "executable memory is refused: %s", strerror(errno));
        return;
    }
    if (mprotect(code, 4096, PROT_READ | PROT_WRITE | PROT_EXEC) < 0)
        err = errno;
    who = mdwe > 0 && (mdwe & 1) ? "MemoryDenyWriteExecute (PR_SET_MDWE)"
          : err == EPERM         ? "a seccomp filter (MemoryDenyWriteExecute)"
                                 : "a security policy";
    fd = err ? open("/proc/self/mem", O_RDWR | O_CLOEXEC) : -1;
    if (!err)
        tell(r, GOOD, "code", NULL, "can be changed");
    else if (fd >= 0 && pwrite(fd, "x", 1, (off_t)(uintptr_t)code) == 1 && *code == 'x')
        tell(r, GOOD, "code", NULL, "%s forbids to make it writable; it is changed through /proc/self/mem", who);
    else
        tell(r, BAD, "code", "observe without that restriction, or mount /proc and boot without proc_mem.force_override",
             "%s forbids to make it writable (%s), and /proc/self/mem can't be written to (%s)", who, strerror(err),
             strerror(errno));
    if (fd >= 0)
        close(fd);
    munmap(code, 4096);
}

static void check_socket(struct report *r)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    socklen_t len = sizeof(sa_family_t); /* autobind: the kernel picks an abstract name; unix(7) */
    int l = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), c = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    bool works = l >= 0 && c >= 0 && bind(l, (struct sockaddr *)&addr, len) == 0 && listen(l, 1) == 0;

    if (works) {
        len = sizeof(addr);
        works = getsockname(l, (struct sockaddr *)&addr, &len) == 0 && connect(c, (struct sockaddr *)&addr, len) == 0;
    }
    if (works)
        tell(r, GOOD, "sockets", NULL, "abstract unix sockets work");
    else
        tell(r, BAD, "sockets", "allow unix sockets in the seccomp filter or security policy",
             "abstract unix sockets don't work: %s", strerror(errno));
    if (l >= 0)
        close(l);
    if (c >= 0)
        close(c);
}

static void check_sessions(struct report *r)
{
    char *base = session_base(), *probe = xstrdup(base);
    struct statvfs fs;
    struct stat st;
    uint64_t space;
    char *why = NULL;
    int dir = -1;

    /* Up to the nearest directory that exists: the store is made when it is needed. */
    while (stat(probe, &st) < 0 && errno == ENOENT && strrchr(probe, '/') != probe && strrchr(probe, '/'))
        *strrchr(probe, '/') = '\0';
    if (stat(probe, &st) < 0 || !S_ISDIR(st.st_mode) || access(probe, W_OK | X_OK) < 0) {
        tell(r, BAD, "sessions", "set SCOPE_HOME to a directory that you can write", "%s can't be written: %s", probe,
             S_ISDIR(st.st_mode) ? strerror(errno) : "is no directory");
    } else if (strcmp(probe, base) == 0 && st.st_uid != geteuid()) {
        tell(r, BAD, "sessions", "set SCOPE_HOME to a directory of yours", "%s belongs to somebody else", base);
    } else if ((dir = safe_dir(probe, SAFE_OURS, 0, &why)) < 0) {
        tell(r, BAD, "sessions", "set SCOPE_HOME to a directory where nobody else can write", "%s", why ? why : probe);
    } else if (statvfs(probe, &fs) == 0 && (space = (uint64_t)fs.f_bavail * fs.f_frsize) < LOW_SPACE) {
        tell(r, NOTE, "sessions", "`scope prune -k 20` removes old ones", "%s: only %llu MiB free", base,
             (unsigned long long)(space >> 20));
    } else {
        tell(r, GOOD, "sessions", NULL, "%s", base);
    }
    if (dir >= 0)
        close(dir);
    free(why);
    free(probe);
    free(base);
}

/* Runs argv with an environment and collects its output. Returns the wait status, or -1. */
static int capture(char *const *argv, char *const *envp, struct buf *out)
{
    struct timespec ts;
    uint64_t deadline;
    int fds[2], status = -1;
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return -1;
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        dup2(fds[1], 1);
        dup2(fds[1], 2);
        execve(argv[0], argv, envp);
        _exit(127);
    }
    close(fds[1]);
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    clock_gettime(CLOCK_MONOTONIC, &ts);
    deadline = (uint64_t)ts.tv_sec * 1000u + CHILD_MS;
    while (pid > 0 && out->len < (1u << 20)) {
        ssize_t n = read(fds[0], buf_room(out, 4096), 4096);

        if (n > 0) {
            out->len += (size_t)n;
            continue;
        }
        if (n == 0)
            break;
        clock_gettime(CLOCK_MONOTONIC, &ts);
        if ((errno != EAGAIN && errno != EINTR) || (uint64_t)ts.tv_sec * 1000u > deadline)
            break;
        ts = (struct timespec){.tv_nsec = 5000000};
        nanosleep(&ts, NULL);
    }
    close(fds[0]);
    if (pid > 0) {
        clock_gettime(CLOCK_MONOTONIC, &ts);
        if ((uint64_t)ts.tv_sec * 1000u > deadline)
            kill(pid, SIGKILL);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
    }
    return status;
}

static const char *find_tool(const char *const *paths)
{
    for (; *paths; paths++)
        if (access(*paths, X_OK) == 0)
            return *paths;
    return NULL;
}

static int try_tracing(void);

/* A program that prints its mappings: is the library among them, and does the loader stay silent? */
static void check_library(struct report *r)
{
    static const char *const cats[] = {"/bin/cat", "/usr/bin/cat", NULL};
    char *lib = NULL, *plans = NULL, *what = NULL, **env;
    const char *cat = find_tool(cats);
    enum exe_kind kind = EXE_UNKNOWN;
    struct buf out = BUF_INIT;
    int rc = launch_install(NULL, &lib, &plans, &what);

    if (rc < 0 && cli_no_place(rc) && try_tracing() == 0 && load_possible() == 0) {
        tell(r, NOTE, "library", "`scope run --librarypath DIR` names a place for it",
             "there is none for it: %s: %s: it is brought into each program from outside", what, strerror(-rc));
        free(what);
        return;
    }
    if (rc < 0) {
        tell(r, BAD, "library",
             rc == -EACCES ? "give --librarypath a directory on a file system that is not mounted noexec"
                           : "give --librarypath a directory that you can write",
             "can't be installed: %s: %s", what, rc == -EPERM ? "belongs to somebody else" : strerror(-rc));
        free(what);
        return;
    }
    tell(r, GOOD, "library", NULL, "%s", lib);
    if (!cat || launch_classify(cat, &kind, NULL) < 0 || kind != EXE_DYNAMIC) {
        tell(r, NOTE, "LD_PRELOAD", NULL, "not tried: there is no dynamically linked /bin/cat here");
    } else {
        char *argv[] = {(char *)cat, (char *)"/proc/self/maps", NULL};

        /* A socket that nobody listens on: the library loads and stays passive. */
        env = launch_environ((const char *const *)environ, lib, "scope-doctor-nobody", plans, 0);
        rc = capture(argv, env, &out);
        if (rc == 0 && strstr(buf_cstr(&out), lib))
            tell(r, GOOD, "LD_PRELOAD", NULL, "the dynamic loader takes the library");
        else
            tell(r, BAD, "LD_PRELOAD",
                 "look for a noexec mount or a security policy (SELinux, AppArmor) that keeps programs from mapping it",
                 "the dynamic loader does not load %s: %.200s", lib, rc == 0 ? "it is not mapped" : buf_cstr(&out));
        for (char **e = env; *e; e++)
            free(*e);
        free(env);
    }
    buf_free(&out);
    free(lib);
    free(plans);
}

static void remove_store(const char *home)
{
    static const char *const files[] = {"count", "lock", "history", "lib", ""};
    struct session *list;
    size_t count;

    if (session_list(&list, &count) == 0) {
        for (size_t i = 0; i < count; i++) {
            session_remove(&list[i]);
            session_clear(&list[i]);
        }
        free(list);
    }
    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
        char *path = xasprintf("%s/%s", home, files[i]);

        if (unlink(path) < 0)
            rmdir(path);
        free(path);
    }
}

static uint64_t count_events(const struct session *s)
{
    struct records *r;
    uint64_t n = 0;

    if (records_open(s, RECORDS_EVENTS, NULL, &r) == 0) {
        records_count(r, &n);
        records_close(r);
    }
    return n;
}

/* Whether calls were made that can't be seen. */
static bool hidden(const struct session *s)
{
    for (size_t i = 0; i < s->lost_count; i++)
        if (strcmp(s->lost[i].kind, "site") == 0 && s->lost[i].count)
            return true;
    return false;
}

/* The whole chain on a program that does nothing much. */
static void check_run(struct report *r)
{
    static const char *const trues[] = {"/bin/true", "/usr/bin/true", NULL};
    char home[] = "/tmp/scope-doctor-XXXXXX", *saved = xstrdup(getenv("SCOPE_HOME"));
    const char *program = find_tool(trues);
    char *argv[] = {(char *)"/proc/self/exe", (char *)"run", (char *)"--", (char *)program, NULL};
    enum exe_kind kind = EXE_UNKNOWN;
    struct buf out = BUF_INIT;
    struct session s = {0};
    int rc;

    if (!program || launch_classify(program, &kind, NULL) < 0 || kind != EXE_DYNAMIC || !mkdtemp(home)) {
        tell(r, NOTE, "observing", NULL, "not tried: %s", program ? strerror(errno) : "there is no /bin/true");
        free(saved);
        return;
    }
    setenv("SCOPE_HOME", home, 1);
    rc = capture(argv, environ, &out);
    if (rc != 0) {
        tell(r, BAD, "observing", NULL, "`scope run %s` failed: %.300s", program, buf_cstr(&out));
    } else if (session_load(0, &s) < 0 || cli_refresh(&s, 3000) < 0) {
        tell(r, BAD, "observing", NULL, "the collector of `scope run %s` does not answer", program);
    } else {
        if (hidden(&s))
            tell(r, BAD, "observing", "`scope run -- PROGRAM` and then `scope logs` tells why",
                 "calls of `scope run %s` can't be seen", program);
        else if (count_events(&s))
            tell(r, GOOD, "observing", NULL, "`scope run %s` was recorded", program);
        else
            tell(r, BAD, "observing", "`scope run -- PROGRAM` and then `scope logs` may tell more",
                 "`scope run %s` recorded nothing", program);
    }
    if (s.collector > 0 && session_running(&s)) {
        kill(s.collector, SIGTERM); /* it would wait for more processes */
        for (int i = 0; i < 200 && session_running(&s); i++)
            usleep(5000);
    }
    session_clear(&s);
    remove_store(home);
    if (saved)
        setenv("SCOPE_HOME", saved, 1);
    else
        unsetenv("SCOPE_HOME");
    free(saved);
    buf_free(&out);
}

static void check_clock(struct report *r)
{
    char text[64];
    int tsc = 0;

    first_line("/sys/devices/system/clocksource/clocksource0/current_clocksource", text, sizeof(text));
    if (prctl(PR_GET_TSC, &tsc) == 0 && tsc == PR_TSC_SIGSEGV)
        tell(r, NOTE, "clock", NULL, "reading the CPU's counter is forbidden here: times cost a little more");
    else if (*text && strcmp(text, ARCH_CLOCKS) != 0) /* the first of them */
        tell(r, NOTE, "clock", NULL, "the kernel's clock is %s, not the CPU's counter: it may not be reliable", text);
    else
        tell(r, GOOD, "clock", NULL, "%s", *text ? text : "unknown");
}

/* Seizes a child: 0 or an errno. */
static int try_tracing(void)
{
    pid_t pid = fork();
    int err;

    if (pid == 0) {
        pause();
        _exit(0);
    }
    if (pid < 0)
        return errno;
    err = ptrace(PTRACE_SEIZE, pid, NULL, NULL) < 0 ? errno : 0;
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return err;
}

static void check_yama(struct report *r, bool privileged)
{
    enum yama_scope scope = yama_scope();

    if (scope == YAMA_CLASSIC)
        tell(r, GOOD, "ptrace_scope", NULL, "no restriction");
    else if (scope == YAMA_NOBODY)
        tell(r, NOTE, "ptrace_scope", "only a restart of the machine takes it back",
             "3: nobody may trace: static programs are not observed, and attaching is impossible");
    else if (privileged)
        tell(r, GOOD, "ptrace_scope", NULL, "%d, which does not concern us: we have CAP_SYS_PTRACE", (int)scope);
    else
        tell(r, NOTE, "ptrace_scope", "run scope as root for that, or sysctl kernel.yama.ptrace_scope=0",
             scope == YAMA_RELATIVES
                 ? "%d: only root can attach to running processes"
                 : "%d: static programs are not observed, and only root can attach to running processes",
             (int)scope);
}

/* What static programs, other root directories and attaching need. */
static void check_tracing(struct report *r)
{
    bool privileged = (status_value("CapEff", 16) >> CAP_SYS_PTRACE) & 1;
    int err = try_tracing();

    if (err)
        tell(r, NOTE, "tracing", "containers: --cap-add SYS_PTRACE, or a seccomp profile that allows ptrace",
             "ptrace is refused (%s): static programs are not observed, and attaching is impossible", strerror(err));
    else if (load_possible() < 0)
        tell(r, NOTE, "tracing", NULL, "this CPU or kernel lacks FSGSBASE (Linux 5.9): static and Go programs are not observed");
    else
        tell(r, GOOD, "tracing", NULL, "works: static programs can be observed");
    check_yama(r, privileged);
    if (!privileged)
        tell(r, NOTE, "capabilities", "run scope as root for those", "without CAP_SYS_PTRACE only processes of user %u can be attached to",
             (unsigned)geteuid());
    else
        tell(r, GOOD, "capabilities", NULL, "CAP_SYS_PTRACE: processes of all users can be attached to");
}

static void check_policies(struct report *r)
{
    char text[256];
    long seccomp = status_value("Seccomp", 10), no_new_privs = status_value("NoNewPrivs", 10);

    if (seccomp > 0)
        tell(r, NOTE, "seccomp", NULL, "a filter applies to this process; the checks above were made under it");
    else
        tell(r, GOOD, "seccomp", NULL, "no filter%s", no_new_privs > 0 ? "; no_new_privs is set" : "");
    first_line("/sys/fs/selinux/enforce", text, sizeof(text));
    if (strcmp(text, "1") == 0)
        tell(r, NOTE, "SELinux", "ausearch -m avc -c scope shows what it refused",
             "enforcing: confined services may not be "
             "allowed to map the library or to connect to the collector");
    else
        tell(r, GOOD, "SELinux", NULL, "%s", *text ? "permissive" : "not active");
    first_line("/proc/self/attr/current", text, sizeof(text));
    if (strcmp(first_line("/sys/module/apparmor/parameters/enabled", text, sizeof(text)), "Y") == 0) {
        first_line("/proc/self/attr/current", text, sizeof(text));
        if (*text && strcmp(text, "unconfined") != 0)
            tell(r, NOTE, "AppArmor", "allow the library's directory in the profile: `/usr/lib/appscope/** mr,`",
                 "confined by %s", text);
        else
            tell(r, GOOD, "AppArmor", NULL,
                 "unconfined here; programs with a profile may not be allowed to map the library");
    } else {
        tell(r, GOOD, "AppArmor", NULL, "not active");
    }
}

/* What the rules reach, and what they don't: the first reason, as an example. */
static void check_reached(struct report *r)
{
    int fd = open(HOST_REACH, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    json_t *told = fd >= 0 ? json_loadfd(fd, 0, NULL) : NULL;
    const json_t *rule, *first = NULL, *why = json_object_get(told, "why");
    json_int_t loader = 0, attached = 0, missed = json_integer_value(json_object_get(told, "beyond"));
    size_t i;

    if (fd >= 0)
        close(fd);
    json_array_foreach(json_object_get(told, "rules"), i, rule)
    {
        const json_t *process, *list = json_object_get(rule, "processes");
        size_t k;

        loader += json_integer_value(json_object_get(rule, "loader"));
        attached += json_integer_value(json_object_get(rule, "attached"));
        missed += json_integer_value(json_object_get(rule, "failed"));
        json_array_foreach(list, k, process)
        {
            const char *state = json_string_value(json_object_get(process, "state"));

            if (!first && state && strcmp(state, "left") != 0)
                first = process;
        }
    }
    if (!told)
        tell(r, NOTE, "reach", NULL, "what the rules reach is not known yet");
    else if (!missed)
        tell(r, GOOD, "reach", NULL, "processes that are observed: %lld by their loader, %lld attached to",
             (long long)loader, (long long)attached);
    else
        tell(r, NOTE, "reach", "`scope rules` lists them",
             "processes that rules name and that can't be reached: %lld%s%s", (long long)missed,
             first ? "; one of them: " : "", first ? json_string_value(json_object_get(first, "reason")) ?: "" : "");
    if (why)
        tell(r, NOTE, "exec events", NULL,
             "the kernel doesn't tell which programs start (%s): /proc is looked through each second",
             json_string_value(why));
    json_decref(told);
}

/* Observing the whole host by rules (scope start): whether it is on, and does what it should. */
static void check_host(struct report *r)
{
    struct host_status s;
    char *line = NULL, *why = NULL;
    bool has = host_preload_has("", &line);
    int rc = host_status_read(&s);

    if (!has && !s.pid && rc == 0) {
        tell(r, GOOD, "host", NULL, "programs are not observed by rules (`scope start`)");
    } else if (rc < 0) {
        tell(r, NOTE, "host", "`scope start` as root puts it right", HOST_STATUS ": %s", strerror(-rc));
    } else if (!s.pid) {
        tell(r, BAD, "host", "`scope start` starts it, `scope stop -f` undoes it",
             "the service appscope doesn't run: programs that rules name are not observed");
    } else if (!s.ready) {
        tell(r, BAD, "host", "`journalctl -u appscope`, or " HOST_LOG ", may say why",
             "the host's collector doesn't run: it was restarted %llu times", (unsigned long long)s.restarts);
    } else {
        tell(r, GOOD, "host", NULL, "the host's collector runs (process %d)", (int)s.collector);
    }
    if (s.rules_error)
        tell(r, BAD, "rules", "mend the file: it is read again at once", "the rules from before are in force: %s",
             s.rules_error);
    else if (s.pid)
        tell(r, GOOD, "rules", NULL, "%u in force", s.rules);
    if (s.pid && !s.reach)
        tell(r, BAD, "reach", "`journalctl -u appscope`, or " HOST_LOG ", may say why",
             "what attaches to programs doesn't run");
    else if (s.pid)
        check_reached(r);
    if (has && !host_preload_works(&why))
        tell(r, BAD, "ld.so.preload", "`scope stop -f` takes it out, `scope start` puts it in", "%s is in it, but %s",
             line, why);
    else if (has)
        tell(r, GOOD, "ld.so.preload", NULL, "%s", line);
    else if (s.preload_error)
        tell(r, BAD, "ld.so.preload", "`scope start` puts it in again", "our line was taken out: %s", s.preload_error);
    else if (s.pid)
        tell(r, NOTE, "ld.so.preload", "`scope start` adds it",
             "our line isn't in it: programs are attached to after they have begun");
    host_status_clear(&s);
    free(line);
    free(why);
}

/* Services that were set up (scope service), if what their units say now still lets them be observed. */
static void check_services(struct report *r)
{
    char **names = service_list(host_init(""));

    for (char **n = names; *n; n++) {
        enum exe_kind kind = EXE_UNKNOWN;
        char *why = NULL;
        struct service s;

        if (service_find(*n, &s, &why) == 0) {
            why = service_outdated(&s);
            if (!why && s.oneshot && s.program && launch_classify(s.program, &kind, NULL) == 0 && kind == EXE_STATIC)
                why = xstrdup("not observed: its program is statically linked, and has ended before it can be attached to");
            service_clear(&s);
        } else if (!why) {
            why = xstrdup("there is no such service any more; `scope service --undo` takes its set-up out");
        }
        tell(r, why ? NOTE : GOOD, "service", why ? "`scope service NAME` again puts it right" : NULL, "%s: %s", *n,
             why ? why : "is observed whenever it is started");
        free(why);
        free(*n);
    }
    free(names);
}

/* --- one program --- */

static bool is_named(const char *path, const char *name)
{
    const char *slash = strrchr(path, '/');

    return strcmp(slash ? slash + 1 : path, name) == 0;
}

/* One way for each line; returns whether any of its plaintext would be seen. */
static bool check_image(struct report *r, const struct foreseen *f)
{
    if (f->functions)
        tell(r, GOOD, "TLS", NULL, "library: %u functions of TLS can be hooked in %s", f->functions, f->path);
    if (f->go)
        tell(r, GOOD, "TLS", NULL, "go: %u functions of Go's crypto/tls can be hooked in %s", f->go, f->path);
    if (f->keys)
        tell(r, GOOD, "TLS", NULL, "keys: where keys are set up is known in %s (AES-GCM; connections that begin observed)",
             f->path);
    if (f->left)
        tell(r, NOTE, "TLS", NULL, "%u functions of TLS can't be hooked in %s", f->left, f->path);
    if (f->checks_itself)
        tell(r, NOTE, "TLS", NULL, "%s checks its own code (FIPS 140), and its TLS is left alone", f->path);
    else if (f->unknown_form && !f->is_go)
        tell(r, NOTE, "TLS", NULL, "%s may have a TLS library without names, which sets up keys by instructions that aren't known",
             f->path);
    return f->functions || f->go || f->keys;
}

static int check_program(struct report *r, const char *name)
{
    struct foreseen *v;
    enum exe_kind kind;
    char *path = NULL;
    size_t count;
    bool any = false, java = false;
    int rc = strchr(name, '/') ? 0 : cli_search_path(name, &path);

    if (rc == 0 && access(path ? path : name, X_OK) < 0)
        rc = -errno;
    if (rc == 0)
        rc = foresee(path ? path : name, &kind, &v, &count);
    if (rc < 0) {
        cli_error("%s: %s", name, path || strchr(name, '/') ? strerror(-rc) : "there is no such program in PATH");
        free(path);
        return EXIT_FAILED;
    }
    if (strcmp(v[0].path, path ? path : name) != 0)
        tell(r, NOTE, "program",
             is_named(v[0].path, "env") ? "ask about the program that it starts: `scope doctor node`, for instance" : NULL,
             "%s is a script, run by %s", path ? path : name, v[0].path);
    if (launch_reason(kind) && kind != EXE_STATIC) {
        tell(r, NOTE, "program", NULL, "%s %s: not observed", v[0].path, launch_reason(kind));
        foresee_free(v, count);
        free(path);
        return 0;
    }
    if (kind == EXE_STATIC)
        tell(r, GOOD, "program", NULL, "%s, statically linked", v[0].path);
    else if (kind == EXE_UNKNOWN)
        tell(r, NOTE, "program", NULL, "%s: the kernel decides what runs it", v[0].path);
    else
        tell(r, GOOD, "program", NULL, "%s, %zu librar%s", v[0].path, count - 1, count == 2 ? "y" : "ies");
    for (size_t i = 0; i < count; i++) {
        any |= check_image(r, &v[i]);
        java |= is_named(v[i].path, "libjli.so");
        if (v[i].error)
            tell(r, NOTE, "library", NULL, "%s: %s", v[i].path,
                 v[i].error == ENOENT ? "not looked at here: it is in none of the loader's usual directories (RPATH and "
                                        "RUNPATH aren't followed)"
                                      : strerror(v[i].error));
    }
    if (java)
        tell(r, GOOD, "TLS", NULL, "jsse: Java's own TLS is read in a HotSpot VM, x86_64, JDK 11 and later");
    else if (!any)
        tell(r, NOTE, "TLS", "`scope run` and then `scope history -i N` tells what could not be read",
             kind == EXE_STATIC ? "no TLS library that is known is in it"
                                : "no TLS library that is known is linked to it; libraries that it loads later are looked at then");
    foresee_free(v, count);
    free(path);
    return 0;
}

static int run(struct args *a)
{
    struct report r = {.json = args_has(a, "json")};

    cli_color(a);
    if (a->word_count)
        return check_program(&r, a->words[0]);
    check_kernel(&r);
    check_proc(&r);
    check_memfd(&r);
    check_code(&r);
    check_socket(&r);
    check_sessions(&r);
    check_library(&r);
    if (!r.bad)
        check_run(&r);
    check_clock(&r);
    check_tracing(&r);
    check_policies(&r);
    check_host(&r);
    check_services(&r);
    if (!r.json)
        puts(r.bad ? "Something prevents observing here; see the lines marked bad."
                   : "Nothing prevents observing here.");
    return r.bad ? EXIT_FAILED : 0;
}

const struct cli_command command_doctor = {
    .name = "doctor",
    .summary = "Find out what would prevent observing here",
    .usage = "[OPTIONS] [PROGRAM]",
    .max_args = 1,
    .description =
        "With a program: tells, without running it, whether it would be observed, and for its file and each library that it "
        "is linked with how the plaintext of TLS would be had (library, go, keys, jsse), or why not.\n"
        "Else checks the kernel, /proc, shared memory, whether code may be changed, sockets, and the directories for "
        "sessions and the library. Loads the library into a program, records a short run, and tries to trace. "
        "Looks at security policies, at the rules of the host (`scope start`) and at services (`scope service`). "
        "Each line that isn't ok says what to do. Exit status 1 if something prevents observing.",
    .options = options,
    .examples = examples,
    .run = run,
};
