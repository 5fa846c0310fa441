/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/safe_path.h"
#include "cli/crash_store.h"
#include "cli/daemon.h"
#include "config/config.h"
#include "crash/crash.h"

#define PATTERN_MAX 127u /* bytes that the kernel takes: CORENAME_MAX_SIZE less its NUL */
#define STATE_MAX 65536
#define DAY (UINT64_C(86400) * 1000000000)
#define MIB_SHIFT 20

static const struct cli_option options[] = {
    {"install", NULL, "Have the kernel hand crashes of all programs over to scope", NULL, 'i', false, false},
    {"remove", NULL, "Put back what was there before", NULL, 'r', false, false},
    {"status", NULL, "What is installed, and what has become of crashes (the default)", NULL, 0, false, false},
    {"coredump", NULL, "With --install: keep a core file of each, too", NULL, 'd', false, false},
    {"filedest", "HOST:PORT", "With --install: send the files of each crash there over TCP", NULL, 'f', false, false},
    {"sendcore", NULL, "With --filedest: the core file, too; implies --coredump", NULL, 's', false, false},
    {"output", "DIR", "With --install: where crashes are kept", NULL, 'o', false, false},
    {"rate", "N", "With --install: crashes of one program a minute that are kept, 5 by default", NULL, 0, false, false},
    {"core-max", "MIB", "With --install: size of a core file at most, 2048 by default", NULL, 0, false, false},
    {"keep-days", "N", "With --install: remove crashes after so many days, 30 by default", NULL, 0, false, false},
    {"keep-size", "MIB", "With --install: remove the oldest beyond so much, 8192 by default", NULL, 0, false, false},
    {"json", NULL, "Print the status as JSON", NULL, 'j', false, false},
    {"crash", NULL, "How the kernel starts it", NULL, 0, false, true},
    {0},
};

static const struct cli_example examples[] = {
    {"sudo scope daemon --install", "keep a backtrace of each program that crashes on this host"},
    {"sudo scope daemon --install -d --keep-size 20000", "and cores, in 20 GB at most"},
    {"sudo scope daemon --install -f collector:9000", "and send the files to a server"},
    {"sudo scope daemon", "what is installed, and how many there were"},
    {"sudo scope daemon --remove", "as it was before"},
    {0},
};

/* --- what is kept of it --- */

void daemon_clear(struct daemon_state *s)
{
    free(s->previous);
    free(s->pattern);
    free(s->dir);
    free(s->filedest);
    *s = (struct daemon_state){0};
}

static char *text_member(const json_t *o, const char *key)
{
    return xstrdup(json_string_value(json_object_get(o, key)));
}

static uint64_t number_member(const json_t *o, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(o, key));
}

int daemon_load(struct daemon_state *ret)
{
    int dir = safe_dir(DAEMON_HOME, SAFE_OURS, 0, NULL), fd = dir < 0 ? dir : safe_read_at(dir, "daemon.json");
    char text[STATE_MAX];
    json_t *o;
    ssize_t n;

    *ret = (struct daemon_state){0};
    if (dir >= 0)
        close(dir);
    if (fd < 0)
        return fd;
    n = read(fd, text, sizeof(text));
    close(fd);
    o = n > 0 ? json_loadb(text, (size_t)n, 0, NULL) : NULL;
    *ret = (struct daemon_state){
        .previous = text_member(o, "previous"),
        .pattern = text_member(o, "pattern"),
        .dir = text_member(o, "directory"),
        .filedest = text_member(o, "filedest"),
        .core = json_is_true(json_object_get(o, "core")),
        .send_core = json_is_true(json_object_get(o, "sendcore")),
        .rate = (unsigned)number_member(o, "rate"),
        .core_max = number_member(o, "coreMax"),
        .keep_ns = number_member(o, "keepNs"),
        .keep_bytes = number_member(o, "keepBytes"),
    };
    json_decref(o);
    if (ret->previous && ret->pattern && ret->dir)
        return 0;
    daemon_clear(ret);
    return -EINVAL;
}

static void add_state(struct buf *b, const struct daemon_state *s)
{
    buf_str(b, "\"previous\":");
    buf_json_str(b, s->previous);
    buf_str(b, ",\"pattern\":");
    buf_json_str(b, s->pattern);
    buf_str(b, ",\"directory\":");
    buf_json_str(b, s->dir);
    if (s->filedest) {
        buf_str(b, ",\"filedest\":");
        buf_json_str(b, s->filedest);
    }
    buf_printf(b,
               ",\"core\":%s,\"sendcore\":%s,\"rate\":%u,\"coreMax\":%" PRIu64 ",\"keepNs\":%" PRIu64
               ",\"keepBytes\":%" PRIu64,
               s->core ? "true" : "false", s->send_core ? "true" : "false", s->rate, s->core_max, s->keep_ns,
               s->keep_bytes);
}

int daemon_save(const struct daemon_state *s)
{
    int dir = safe_dir(DAEMON_HOME, SAFE_OURS, 0755, NULL), rc;
    struct buf b = BUF_INIT;

    if (dir < 0)
        return dir;
    buf_char(&b, '{');
    add_state(&b, s);
    buf_str(&b, "}\n");
    rc = safe_replace(dir, "daemon.json", b.p, b.len, 0600);
    buf_free(&b);
    close(dir);
    return rc;
}

/* --- kernel.core_pattern --- */

static char *read_pattern(void)
{
    char text[PATTERN_MAX + 2];
    int fd = open(DAEMON_PATTERN, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text));

    if (fd >= 0)
        close(fd);
    if (n > 0 && text[n - 1] == '\n')
        n--;
    return n < 0 ? NULL : xstrndup(text, (size_t)n);
}

static int write_pattern(const char *pattern)
{
    int fd = open(DAEMON_PATTERN, O_WRONLY | O_TRUNC | O_CLOEXEC), rc;
    char *now;

    if (fd < 0)
        return -errno;
    rc = *pattern ? write_all(fd, pattern, strlen(pattern)) : write_all(fd, "\n", 1);
    close(fd);
    now = read_pattern();
    if (rc == 0 && (!now || strcmp(now, pattern) != 0))
        rc = -EIO;
    free(now);
    return rc;
}

/* The value that makes the kernel start this file: malloc'ed, or NULL after a message. */
static char *our_pattern(void)
{
    char exe[PATH_MAX], *pattern, *why = NULL;
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    int rc;

    exe[n > 0 ? n : 0] = '\0';
    rc = n > 0 ? safe_author(exe, &why) : -errno;
    if (rc < 0) {
        cli_error("%s can't be what the kernel starts as root: %s", exe, why ? why : strerror(-rc));
        cli_hint("put scope where only root can change it, such as /usr/local/bin, and install it from there");
        free(why);
        return NULL;
    }
    pattern = xasprintf("|%s %s", exe, DAEMON_ARGUMENTS);
    if (strlen(pattern) <= PATTERN_MAX && !strpbrk(exe, " \t\n%"))
        return pattern;
    cli_error("the path %s is too long for kernel.core_pattern, or has blanks or %%", exe);
    cli_hint("put scope where its path is short, such as /usr/local/bin, and install it from there");
    free(pattern);
    return NULL;
}

static bool is_ours(const char *pattern)
{
    size_t len = strlen(pattern), n = strlen(" " DAEMON_ARGUMENTS);

    return *pattern == '|' && len > n && strcmp(pattern + len - n, " " DAEMON_ARGUMENTS) == 0;
}

static int refuse(const char *what, int rc)
{
    cli_error("%s: %s", what, strerror(-rc));
    if (rc == -EROFS || rc == -EACCES || rc == -EPERM)
        cli_hint("it is a setting of the host: a container can't change it unless it is privileged");
    return EXIT_FAILED;
}

/* --- install, remove, status --- */

/* The options: 0, or an exit status after a message. */
static int take_options(struct args *a, struct daemon_state *s)
{
    int64_t rate = 5, core_max = CRASH_CORE_MAX >> MIB_SHIFT, days = 30, size = 8192;
    const char *dest = args_get(a, "filedest"), *dir = args_get(a, "output"), *given = getenv("SCOPE_CRASH_DIR");
    struct cfg_transport t;
    const char *why = NULL;
    char *url;
    int rc;

    if ((rc = args_number(a, "rate", 1, 1000000, &rate)) || (rc = args_number(a, "core-max", 1, 1 << 30, &core_max)) ||
        (rc = args_number(a, "keep-days", 1, 36500, &days)) || (rc = args_number(a, "keep-size", 1, 1 << 30, &size)))
        return rc;
    s->rate = (unsigned)rate;
    s->core_max = (uint64_t)core_max << MIB_SHIFT;
    s->keep_ns = (uint64_t)days * DAY;
    s->keep_bytes = (uint64_t)size << MIB_SHIFT;
    s->send_core = args_has(a, "sendcore");
    s->core = s->send_core || args_has(a, "coredump");
    if (s->send_core && !dest)
        return cli_usage(a->command, "--sendcore needs --filedest: where to?");
    if (dest) {
        url = strstr(dest, "://") ? xstrdup(dest) : xasprintf("tcp://%s", dest);
        rc = cfg_transport_parse(url, false, &t, &why);
        if (rc == 0 && t.type != CFG_TCP) {
            why = "only tcp:// and tls:// will do";
            rc = -EINVAL;
        }
        if (rc < 0) {
            free(url);
            return cli_usage(a->command, "--filedest %s: %s", dest, why ? why : "not HOST:PORT");
        }
        cfg_transport_clear(&t);
        s->filedest = url;
    }
    if (!dir)
        dir = given && *given ? given : CRASH_STORE;
    if (*dir != '/')
        return cli_usage(a->command, "%s: the directory has to be an absolute path", dir);
    s->dir = xstrdup(dir);
    return 0;
}

/* What is there, unless that is ours already. NULL after a message. */
static char *find_previous(void)
{
    char *now = read_pattern(), *previous = NULL;
    struct daemon_state old;

    if (!now) {
        refuse(DAEMON_PATTERN, -errno);
        return NULL;
    }
    if (daemon_load(&old) == 0) {
        if (strcmp(now, old.pattern) == 0)
            previous = xstrdup(old.previous);
        daemon_clear(&old);
    }
    if (!previous && is_ours(now)) {
        cli_error("kernel.core_pattern is scope's, and what was there before isn't known: taken to be \"core\"");
        previous = xstrdup("core");
    }
    if (!previous) {
        previous = now;
        now = NULL;
    }
    free(now);
    for (size_t i = 0, n; previous[i]; i += n)
        if (!(n = utf8_sequence(previous + i, strlen(previous + i)))) {
            cli_error("kernel.core_pattern is no valid UTF-8, and couldn't be put back as it is");
            free(previous);
            return NULL;
        }
    if (*previous != '@')
        return previous;
    cli_error("kernel.core_pattern names a socket (%s): cores can't be handed on to that", previous);
    cli_hint("remove what has set it first");
    free(previous);
    return NULL;
}

static int install(struct args *a)
{
    struct daemon_state s = {0};
    char *why = NULL;
    int rc = take_options(a, &s), dir;

    if (rc == 0 && (!(s.pattern = our_pattern()) || !(s.previous = find_previous())))
        rc = EXIT_FAILED;
    if (rc == 0) {
        dir = safe_dir(s.dir, SAFE_OURS, 0700, &why);
        if (dir < 0) {
            cli_error("%s: %s", s.dir, why ? why : strerror(-dir));
            rc = EXIT_FAILED;
        } else {
            if (!safe_private(dir)) {
                cli_error("%s: others can write there", s.dir);
                rc = EXIT_FAILED;
            }
            close(dir);
        }
        free(why);
    }
    if (rc == 0) {
        int err = daemon_save(&s);

        if (err < 0)
            rc = refuse(DAEMON_STATE, err);
        else if ((err = write_pattern(s.pattern)) < 0)
            rc = refuse(DAEMON_PATTERN, err);
    }
    if (rc == 0)
        printf("Installed. Crashes are kept in %s; `scope daemon --remove` puts back what was there.\n", s.dir);
    daemon_clear(&s);
    return rc;
}

static int remove_it(void)
{
    char *now = read_pattern();
    struct daemon_state s;
    int rc = daemon_load(&s), err = 0, dir;

    if (rc == -ENOENT) {
        cli_error("it isn't installed");
        free(now);
        return EXIT_FAILED;
    }
    if (rc < 0 || !now) {
        rc = refuse(rc < 0 ? DAEMON_STATE : DAEMON_PATTERN, rc < 0 ? rc : -EACCES);
        daemon_clear(&s);
        free(now);
        return rc;
    }
    if (strcmp(now, s.pattern) == 0)
        err = write_pattern(s.previous);
    else
        cli_error("somebody has changed kernel.core_pattern meanwhile: it stays as it is");
    free(now);
    if (err < 0) {
        daemon_clear(&s);
        return refuse(DAEMON_PATTERN, err);
    }
    dir = safe_dir(DAEMON_HOME, SAFE_OURS, 0, NULL);
    if (dir >= 0) {
        unlinkat(dir, "daemon.json", 0);
        close(dir);
    }
    printf("Removed. The crashes in %s are still there.\n", s.dir);
    daemon_clear(&s);
    return 0;
}

static void print_json(const struct daemon_state *s, bool active, const char *now, const struct crash_counts *c,
                       size_t count, uint64_t bytes)
{
    struct buf b = BUF_INIT;

    buf_printf(&b, "{\"installed\":%s,\"corePattern\":", active ? "true" : "false");
    buf_json_str(&b, now);
    if (s->pattern) {
        buf_char(&b, ',');
        add_state(&b, s);
        buf_printf(&b,
                   ",\"crashes\":%zu,\"bytes\":%" PRIu64 ",\"kept\":%" PRIu64 ",\"told\":%" PRIu64
                   ",\"limited\":%" PRIu64 ",\"busy\":%" PRIu64 ",\"failed\":%" PRIu64 ",\"removed\":%" PRIu64
                   ",\"error\":",
                   count, bytes, c->kept, c->told, c->limited, c->busy, c->failed, c->removed);
        buf_json_str(&b, c->last_error);
    }
    buf_str(&b, "}\n");
    fwrite(b.p, 1, b.len, stdout);
    buf_free(&b);
}

static void print_count(uint64_t n, const char *what)
{
    if (n)
        printf("  %" PRIu64 " %s\n", n, what);
}

static void print_status(const struct daemon_state *s, bool active, const char *now, const struct crash_counts *c,
                         size_t count, uint64_t bytes)
{
    table_pair(stdout, 0, "Installed",
               active       ? "yes"
               : s->pattern ? "no: somebody has changed kernel.core_pattern since"
                            : "no (`scope daemon --install`)");
    table_pair(stdout, 0, "Core pattern", now);
    if (!s->pattern)
        return;
    table_pair(stdout, 0, "Hands on to", s->previous);
    table_pair(stdout, 0, "Directory", s->dir);
    if (s->filedest)
        table_pair(stdout, 0, "Sends to", s->filedest);
    printf("Crashes: %zu there, %" PRIu64 " MiB. Since it was installed first:\n", count, bytes >> MIB_SHIFT);
    print_count(c->kept, "kept");
    print_count(c->told, "were told to a session, which has them");
    print_count(c->limited, "left out: more in a minute than --rate allows for, or there are 10,000 already");
    print_count(c->busy, "left out: too many at the same time");
    print_count(c->failed, "failed, or something of them is missing");
    print_count(c->removed, "removed again (--keep-days, --keep-size, 10,000)");
    if (*c->last_error)
        table_pair(stdout, 0, "Last error", c->last_error);
}

static int status(struct args *a)
{
    struct daemon_state s = {0};
    struct crash_counts counts = {0};
    struct crash_stored *list = NULL;
    char *now = read_pattern();
    uint64_t bytes = 0;
    size_t count = 0;
    int rc = daemon_load(&s), dir;
    bool active;

    if (rc < 0 && rc != -ENOENT) {
        free(now);
        return refuse(DAEMON_STATE, rc);
    }
    dir = s.dir ? safe_dir(s.dir, SAFE_OURS, 0, NULL) : -1;
    if (dir >= 0) {
        crash_store_counts(dir, &counts);
        if (crash_store_list(dir, &list, &count) == 0)
            crash_store_sizes(dir, list, count);
        close(dir);
    }
    for (size_t i = 0; i < count; i++)
        bytes += list[i].bytes;
    active = now && s.pattern && strcmp(now, s.pattern) == 0;
    if (args_has(a, "json"))
        print_json(&s, active, now ? now : "", &counts, count, bytes);
    else
        print_status(&s, active, now ? now : "", &counts, count, bytes);
    free(list);
    free(now);
    daemon_clear(&s);
    return 0;
}

static int run(struct args *a)
{
    int rc;

    if (args_has(a, "crash"))
        return daemon_crash(a->words, a->word_count);
    if (a->word_count)
        return cli_usage(a->command, "%s: it takes no arguments", a->words[0]);
    if ((rc = args_conflict(a, "install", "remove")) || (rc = args_conflict(a, "install", "status")) ||
        (rc = args_conflict(a, "remove", "status")))
        return rc;
    if (!args_has(a, "install"))
        for (const struct cli_option *o = options; o->name; o++)
            if (strncmp(o->help, "With", 4) == 0 && args_has(a, o->name))
                return cli_usage(a->command, "--%s goes with --install", o->name);
    if (geteuid() != 0) {
        cli_error("only root can do that: it is about the programs of all users");
        return EXIT_FAILED;
    }
    return args_has(a, "install") ? install(a) : args_has(a, "remove") ? remove_it() : status(a);
}

const struct cli_command command_daemon = {
    .name = "daemon",
    .summary = "Keep backtraces of all programs that crash on this host",
    .usage = "[--install [OPTIONS] | --remove | --status]",
    .description =
        "For programs that nobody observes. Installing it makes the kernel start scope for each program that a signal "
        "ends with a core dump (kernel.core_pattern, core(5)), those in containers included; no process of scope's "
        "runs "
        "in between. scope reads the process while it is still there, keeps backtrace.txt and snapshot.json, with "
        "--coredump a core file, and hands the kernel's core on to whoever got it before: the same bytes, by the same "
        "arguments, or as the same file with the same limit. Crashes of programs in a session that has been told of "
        "them (`scope run --backtrace`) are left to it.\n"
        "All of it is root's, in $SCOPE_CRASH_DIR as it is when installing, or /var/lib/scope/crash. So that a loop of "
        "crashes doesn't fill the disk, a minute has at most --rate crashes of a program of one user, four times as "
        "many "
        "of one user, twelve times of all; beyond --keep-size, or 10,000, or 2,500 of one user, the oldest ones of the "
        "user whose crashes take most are "
        "removed. --status counts what was left out.\n"
        "Files are sent as lines {\"DIRECTORY/FILE\":...}: snapshot.json as the object that it is, backtrace.txt as an "
        "array of lines; of a core each piece that isn't zero, as "
        "{\"DIRECTORY/core\":{\"size\":OF THE FILE,\"at\":OFFSET,\"bytes\":N}}, N bytes as they are, and a newline. "
        "The "
        "process is gone by then: it doesn't wait for that.",
    .options = options,
    .examples = examples,
    .max_args = 8,
    .run = run,
};
