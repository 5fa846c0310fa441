/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/control.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/safe_path.h"
#include "collector/crashes.h"
#include "collector/life.h"
#include "collector/segments.h"
#include "collector/state.h"
#include "collector/work.h"
#include "model/images.h"
#include "traffic/payloads.h"
#include "traffic/tls.h"
#include "output/log_link.h"

#define TEXT_MAX ((size_t)1 << 20)
#define VARIABLES_MAX 1024u

/* --- looking --- */

static void losses(struct buf *b, const struct segment *seg)
{
    static const char *const names[] = {
        [LOSS_RECORD] = "record", [LOSS_DATA] = "data", [LOSS_NR] = "call", [LOSS_SLOT] = "slot", [LOSS_COPY] = "copy"};
    const struct segment_header *h = segment_hdr(&seg->map);

    buf_str(b, "\"lost\":{");
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        buf_printf(b, "%s\"%s\":%llu", i ? "," : "", names[i],
                   (unsigned long long)__atomic_load_n(&h->loss[i], __ATOMIC_RELAXED));
    buf_printf(b, ",\"torn\":%llu}", (unsigned long long)seg->map.ring.torn);
}

/* What the probe says of itself; nothing in it is trusted: numbers, and names that are quoted. */
static void probe_state(struct buf *b, const struct proc *p)
{
    const struct segment *seg = p->seg;
    const struct segment_header *h = segment_hdr(&seg->map);

    buf_printf(b, "\"probe\":{\"mode\":%u,\"images\":%u,\"sites_patched\":%u,\"sites_left\":%u,",
               __atomic_load_n(&h->mode, __ATOMIC_RELAXED), __atomic_load_n(&h->images, __ATOMIC_RELAXED),
               __atomic_load_n(&h->sites_patched, __ATOMIC_RELAXED), __atomic_load_n(&h->sites_left, __ATOMIC_RELAXED));
    buf_str(b, "\"by_image\":");
    images_describe(p->images, b);
    buf_printf(b, ",\"images_unlisted\":%u,", images_unlisted(p->images));
    losses(b, seg);
    buf_char(b, '}');
}

static void describe(struct buf *b, struct proc *p)
{
    char *cfg = config_to_json(p->pl->cfg);

    buf_printf(b, "{\"cfg\":{\"current\":%s},\"interfaces\":[", cfg);
    log_link_describe(b);
    payloads_describe(p, b);
    telemetry_describe(p->pl->tm, b);
    buf_printf(b, "],\"process\":{\"pid\":%u", p->pid);
    if (p->host_pid > 0 && (uint32_t)p->host_pid != p->pid)
        buf_printf(b, ",\"hostPid\":%d", (int)p->host_pid);
    buf_str(b, ",\"uuid\":");
    buf_json_str(b, p->tm.uuid);
    buf_str(b, ",\"id\":");
    buf_json_str(b, p->tm.id);
    buf_str(b, ",\"machine_id\":");
    buf_json_str(b, p->tm.machine_id);
    buf_str(b, ",\"exe\":");
    buf_json_str(b, p->tm.exe);
    buf_char(b, '}');
    if (p->pl->mode & SEG_M_TRAFFIC) {
        buf_str(b, ",\"tls\":");
        tls_describe(p, b);
    }
    if (p->seg && !p->borrowed) { /* else it is a guest in its parent's */
        buf_char(b, ',');
        probe_state(b, p);
    }
    buf_char(b, '}');
    free(cfg);
}

static int memfd_of(const struct buf *b)
{
    int fd = memfd_create("scope-inspect", MFD_CLOEXEC);

    if (fd < 0)
        return -errno;
    for (size_t at = 0; at < b->len;) {
        ssize_t n = write(fd, b->p + at, b->len - at);

        if (n <= 0) {
            int err = n < 0 ? errno : EIO;

            close(fd);
            return -err;
        }
        at += (size_t)n;
    }
    lseek(fd, 0, SEEK_SET);
    return fd;
}

int control_inspect(struct collector *c, pid_t pid)
{
    struct buf b = BUF_INIT;
    bool any = false;
    int fd;

    segments_drain(c, true); /* what it did before was asked about, too: its images */
    core_process(c, UINT64_MAX);
    buf_char(&b, '[');
    for (struct proc *p = c->model.procs; p; p = p->next) {
        if (!p->pl || p->dead || (pid && p->host_pid != pid))
            continue;
        if (any)
            buf_char(&b, ',');
        describe(&b, p);
        any = true;
    }
    buf_char(&b, ']');
    fd = any ? memfd_of(&b) : -ESRCH;
    buf_free(&b);
    return fd;
}

int control_crashes(struct collector *c)
{
    struct buf b = BUF_INIT;
    int fd;

    crashes_turn(c->crashes); /* who says so now was there before it was asked */
    crashes_describe(c->crashes, &b);
    fd = memfd_of(&b);
    buf_free(&b);
    return fd;
}

/* --- changing --- */

static void on_problem(void *ctx, const struct cfg_problem *pr)
{
    if (pr->fatal)
        *(bool *)ctx = true;
    log_warning("%s:%u: %s: %s", pr->file, pr->line, pr->key ? pr->key : "", pr->text);
}

/* New sources that say what these do, for more to be laid over. */
static struct config_sources *copy_sources(const struct proc *p)
{
    const struct config_sources *from = life_config(p);
    const struct session *session = collector_of(p->m)->opt->session;
    struct config_sources *s = config_sources_new();
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);

    if (f) {
        uint32_t rules[RULES_OF_ONE];

        config_print_for(from, rules, life_rules(p, rules, RULES_OF_ONE), f);
        fclose(f);
    }
    config_add_text(s, "the configuration so far", text ? text : "", len, NULL, NULL);
    free(text);
    if (session && session->cwd) /* ours is "/" */
        config_sources_start_at(s, session->cwd);
    return s;
}

/* The whole of a file, terminated; NULL with *ret_err. */
static char *read_text(int fd, size_t *ret_len, int *ret_err)
{
    char *text = xmalloc(TEXT_MAX + 1);
    size_t len = 0;
    ssize_t n;

    do {
        n = pread(fd, text + len, TEXT_MAX - len, (off_t)len);
        if (n > 0)
            len += (size_t)n;
    } while (n > 0 && len < TEXT_MAX);
    *ret_err = n < 0 ? -errno : len == TEXT_MAX ? -EFBIG : 0;
    text[len] = '\0';
    *ret_len = len;
    if (*ret_err == 0)
        return text;
    free(text);
    return NULL;
}

int control_update(struct collector *c, pid_t pid, int fd, const char *cwd)
{
    struct config_sources *s;
    struct proc *p;
    bool fatal = false;
    size_t len;
    char *text;
    int rc;

    /* What it did before was meant for the old configuration. */
    segments_drain(c, true);
    core_process(c, UINT64_MAX);
    p = pid > 0 ? proc_by_host_pid(&c->model, pid) : NULL;
    if (!p || !p->pl || p->dead)
        return -ESRCH;
    text = read_text(fd, &len, &rc);
    if (!text)
        return rc;
    s = copy_sources(p); /* has whole paths */
    config_sources_start_at(s, cwd);
    rc = config_add_text(s, "the new configuration", text, len, on_problem, &fatal);
    free(text);
    if (rc == 0 && fatal)
        rc = -EINVAL;
    if (rc < 0) {
        config_sources_free(s);
        return rc;
    }
    log_info("process %d: new configuration", (int)pid);
    life_reconfigure(p, s);
    return 0;
}

/* --- command files --- */

/* Not the process's user, if it is another than ours: what the file says is done with our rights. */
static bool trusted(const struct stat *st)
{
    return S_ISREG(st->st_mode) && (st->st_uid == 0 || st->st_uid == geteuid()) && !(st->st_mode & 0022) &&
           st->st_nlink == 1;
}

/* Lines into an environment: NULL-terminated, pointing into text. */
static void split(char *text, const char *env[VARIABLES_MAX + 1], const char **ret_reload)
{
    size_t n = 0;

    *ret_reload = NULL;
    for (char *line = text, *next; line && n < VARIABLES_MAX; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        line[strcspn(line, "\r")] = '\0';
        if (strncmp(line, "SCOPE_CONF_RELOAD=", strlen("SCOPE_CONF_RELOAD=")) == 0)
            *ret_reload = line + strlen("SCOPE_CONF_RELOAD=");
        else if (strchr(line, '='))
            env[n++] = line;
    }
    env[n] = NULL;
}

/* Loading one may wait for the writer of a pipe; nothing waits here. */
static bool is_regular(const char *path)
{
    struct stat st;

    return stat(path, &st) < 0 || S_ISREG(st.st_mode); /* what isn't there is told by who opens it */
}

static void apply(struct proc *p, const char *path, char *text)
{
    const char *env[VARIABLES_MAX + 1], *reload;
    struct config_sources *s = copy_sources(p);
    char *found = NULL, *why = NULL;
    bool fatal = false;

    split(text, env, &reload);
    if (reload && strcmp(reload, "true") == 0)
        reload = found = config_find_file((const char *const[]){NULL});
    if (found && geteuid() == 0 && safe_author(found, &why) < 0 && why) {
        log_warning("%s: is not read: %s", found, why);
        fatal = true;
    } else if (reload && !is_regular(reload)) {
        log_warning("%s: is no regular file", reload);
        fatal = true;
    } else if (reload && config_add_file(s, reload, on_problem, &fatal) < 0) {
        fatal = true;
    }
    config_add_environ(s, env, on_problem, &fatal);
    free(found);
    free(why);
    if (fatal) {
        log_warning("%s: not applied", path);
        config_sources_free(s);
        return;
    }
    log_info("%s: applied to process %d", path, (int)p->host_pid);
    life_reconfigure(p, s);
}

/* Opens a file of a directory, if it is one of that directory's file system: who may make names there could mount one
 * over it (FUSE) that never answers. -1 with errno. */
static int open_beneath(int at, const char *name)
{
    struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV};
    int fd = (int)syscall(SYS_openat2, at, name, &how, sizeof(how));

    if (fd < 0 && errno == ENOSYS) /* Linux 5.5 and older */
        fd = openat(at, name, (int)how.flags);
    return fd;
}

void control_command_file(struct proc *p)
{
    const char *dir = p->pl->cfg->libscope.commanddir;
    struct stat st;
    char *path, *text, name[32];
    size_t len;
    int at, fd, rc;

    if (!dir || !*dir || p->host_pid <= 0)
        return;
    at = safe_dir(dir, SAFE_NAMED, 0, NULL);
    if (at < 0)
        return;
    snprintf(name, sizeof(name), "scope.%d", (int)p->host_pid);
    fd = open_beneath(at, name);
    if (fd < 0) {
        close(at);
        return;
    }
    path = xasprintf("%s/%s", dir, name);
    if (fstat(fd, &st) || !trusted(&st)) {
        if (!p->command_refused)
            log_warning(
                "%s: not read: it must be a plain file of root or of the collector's user that nobody else may write",
                path);
        p->command_refused = true;
    } else {
        text = read_text(fd, &len, &rc);
        unlinkat(at, name, 0); /* before it is applied: what is written meanwhile is another one */
        if (text)
            apply(p, path, text);
        else
            log_warning("%s: %s", path, strerror(-rc));
        free(text);
    }
    close(fd);
    close(at);
    free(path);
}
