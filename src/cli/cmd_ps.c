/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "host/service.h"
#include "inject/process.h"

#define SEGMENTS_MAX 65536 /* of one collector */

static const struct cli_option options[] = {
    {"json", NULL, "One JSON object per line", NULL, 'j', false, false},
    CLI_HOST_OPTION,
    CLI_ROOTDIR_OPTION,
    {0},
};

static const struct cli_example examples[] = {
    {"scope ps", "what is being observed now"},
    {0},
};

/* Both the probe and the collector map a process's segment: the inode of the memfd joins them. */
struct segments {
    uint64_t *inode;
    size_t count;
    bool library; /* the probe is mapped: an observed process, not a collector */
};

static void read_maps(int pid, struct segments *ret)
{
    struct process_probe probe;
    struct process_maps maps;

    if (process_maps(pid, &maps) < 0)
        return;
    for (size_t i = 0; i < maps.count && ret->count < SEGMENTS_MAX; i++) {
        if (process_map_is_segment(&maps.v[i])) {
            ret->inode = xrealloc(ret->inode, ret->count + 1, sizeof(uint64_t));
            ret->inode[ret->count++] = maps.v[i].inode;
        } else if (strstr(maps.v[i].name, "/libscope.so")) {
            ret->library = true;
        }
    }
    if (ret->count && !ret->library) /* brought in by attaching: it has no file */
        ret->library = process_find_probe(pid, &maps, &probe, NULL);
    process_maps_free(&maps);
}

static bool shares(const struct segments *a, const struct segments *b)
{
    for (size_t i = 0; i < a->count; i++)
        for (size_t j = 0; j < b->count; j++)
            if (a->inode[i] == b->inode[j])
                return true;
    return false;
}

/* A session that is being recorded, and what its collector has mapped. */
struct recorded {
    uint64_t id;
    char *service; /* NULL: none of `scope service` */
    struct segments segments;
};

struct recordings {
    struct recorded *v;
    size_t count;
};

/* Those of the store that $SCOPE_HOME names. service: whose it is, may be NULL. */
static void add_recordings(struct recordings *r, const char *service)
{
    struct session *sessions;
    size_t count = 0;

    if (session_list(&sessions, &count) < 0)
        return; /* processes may be observed without sessions */
    for (size_t i = 0; i < count; i++) {
        if (sessions[i].collector > 0 && session_running(&sessions[i])) {
            struct recorded *at;

            r->v = xrealloc(r->v, r->count + 1, sizeof(*r->v));
            at = &r->v[r->count++];
            *at = (struct recorded){.id = sessions[i].id, .service = service ? xstrdup(service) : NULL};
            read_maps((int)sessions[i].collector, &at->segments);
        }
        session_clear(&sessions[i]);
    }
    free(sessions);
}

/* Those of services that are set up, as far as their stores can be read. */
static void add_services(struct recordings *r)
{
    const char *home = getenv("SCOPE_HOME");
    char *kept = home ? xstrdup(home) : NULL, **names = service_list(host_init(""));

    for (char **n = names; *n; n++) {
        char *store = service_store(*n);

        if (store && access(store, R_OK | X_OK) == 0) {
            setenv("SCOPE_HOME", store, 1);
            add_recordings(r, *n);
        }
        free(store);
        free(*n);
    }
    free(names);
    if (kept)
        setenv("SCOPE_HOME", kept, 1);
    else
        unsetenv("SCOPE_HOME");
    free(kept);
}

static void command_line(int pid, struct buf *b)
{
    char path[64], text[4096];
    size_t n;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
    f = fopen(path, "re");
    if (!f)
        return;
    n = fread(text, 1, sizeof(text), f);
    fclose(f);
    while (n && text[n - 1] == '\0')
        n--;
    for (size_t i = 0; i < n; i++)
        buf_char(b, (char)(text[i] ? text[i] : ' '));
}

static int compare_pids(const void *a, const void *b)
{
    return *(const int *)a < *(const int *)b ? -1 : 1;
}

static int *all_pids(size_t *ret_count)
{
    DIR *d = opendir("/proc");
    struct dirent *e;
    int *pids = NULL;
    size_t count = 0;

    while (d && (e = readdir(d))) {
        char *end;
        long pid = strtol(e->d_name, &end, 10);

        if (*end || pid <= 0)
            continue;
        pids = xrealloc(pids, count + 1, sizeof(int));
        pids[count++] = (int)pid;
    }
    if (d)
        closedir(d);
    if (count)
        qsort(pids, count, sizeof(int), compare_pids);
    *ret_count = count;
    return pids;
}

static int run(struct args *a)
{
    static const struct table_column columns[] = {{"ID", 0, 0, false},
                                                  {"PID", 0, 0, false},
                                                  {"USER", 0, 0, false},
                                                  {"COMMAND", 1, 12, false},
                                                  {"SESSION", 0, 0, false}};
    bool json = args_has(a, "json");
    struct table *t;
    struct recordings all = {0};
    size_t pid_count, shown = 0;
    int *pids, rc = cli_enter_root(a);

    if (rc == 0)
        rc = cli_use_host(a);
    if (rc)
        return rc;
    t = json ? NULL : table_new(columns, sizeof(columns) / sizeof(*columns));
    add_recordings(&all, NULL);
    if (!args_has(a, "host"))
        add_services(&all);
    pids = all_pids(&pid_count);
    for (size_t p = 0; p < pid_count; p++) {
        struct segments own = {0};
        struct buf command = BUF_INIT;
        char proc[64], user[64];
        const struct recorded *of = NULL;
        struct stat st;

        read_maps(pids[p], &own);
        snprintf(proc, sizeof(proc), "/proc/%d", pids[p]);
        if (!own.count || !own.library || stat(proc, &st) < 0) {
            free(own.inode);
            continue;
        }
        for (size_t i = all.count; i-- > 0 && !of;)
            if (shares(&own, &all.v[i].segments))
                of = &all.v[i];
        command_line(pids[p], &command);
        shown++;
        text_user((unsigned)st.st_uid, user);
        if (json) {
            struct buf b = BUF_INIT;

            buf_printf(&b, "{\"id\":%zu,\"pid\":%d,\"user\":", shown, pids[p]);
            buf_json_str(&b, user);
            buf_str(&b, ",\"command\":");
            buf_json(&b, command.p ? command.p : "", command.len);
            if (of)
                buf_printf(&b, ",\"session\":%llu", (unsigned long long)of->id);
            if (of && of->service) {
                buf_str(&b, ",\"service\":");
                buf_json_str(&b, of->service);
            }
            buf_str(&b, "}\n");
            fwrite(b.p, 1, b.len, stdout);
            buf_free(&b);
        } else {
            table_cellf(t, "%zu", shown);
            table_cellf(t, "%d", pids[p]);
            table_cell(t, user);
            table_cell(t, buf_cstr(&command));
            if (of)
                table_cellf(t, "%s%s%llu", of->service ? of->service : "", of->service ? ":" : "", (unsigned long long)of->id);
            else
                table_cell(t, "-");
        }
        buf_free(&command);
        free(own.inode);
    }
    if (t)
        table_print(t, stdout);
    if (geteuid() != 0 && isatty(STDERR_FILENO))
        cli_error("processes of other users are shown to root only");
    for (size_t i = 0; i < all.count; i++) {
        free(all.v[i].service);
        free(all.v[i].segments.inode);
    }
    free(all.v);
    free(pids);
    return 0;
}

const struct cli_command command_ps = {
    .name = "ps",
    .summary = "List the processes that are observed now",
    .usage = "[OPTIONS]",
    .description =
        "SESSION is the number of the session that the process belongs to, SERVICE:NUMBER for one of `scope service`, - for a "
        "process that is observed without one (run -z) or whose session is not yours.",
    .options = options,
    .examples = examples,
    .run = run,
};
