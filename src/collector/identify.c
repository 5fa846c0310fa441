/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/identify.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/progname.h"
#include "collector/segment.h"
#include "collector/state.h"
#include "config/config.h"
#include "model/clock.h"
#include "model/process.h"
#include "model/procinfo.h"

#define ID_CMD 32
#define SERVICE_MAX 1024      /* bytes of a service's name */
#define ATTRIBUTES_MAX 16384  /* bytes of OTEL_RESOURCE_ATTRIBUTES */

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

/* The control group, and the container that it tells; returns whether the process lives. Of a process that has ended meanwhile it can't be read any more,
 * or only in part (zombies are at the top of hierarchies of version 1): then it is where the image before it was,
 * `last`, or its parent. */
static bool locate(struct proc *p, const struct tm_process *last)
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
    return lives;
}

/* NULL for what is empty, which counts as not set, and for what is too long to be meant. */
static const char *bounded(const char *text, size_t max)
{
    return text && *text && strnlen(text, max + 1) <= max ? text : NULL;
}

/* In front of what the attributes say, as the last one of a key counts: which environment of AWS Lambda it is. The
 * runtime's environment has it, not that of who observes it. */
static char *with_instance(const char *attributes, const char *stream)
{
    struct buf b = BUF_INIT;

    buf_str(&b, "faas.instance=");
    for (; *stream; stream++)
        buf_printf(&b, isalnum((unsigned char)*stream) ? "%c" : "%%%02X", (unsigned char)*stream);
    if (attributes)
        buf_printf(&b, ",%s", attributes);
    return buf_cstr(&b);
}

/* Which service of OpenTelemetry it is, if it says so itself or the environment of who observes it does. Of a process that
 * has ended meanwhile it is what is known of the image before it, or of its parent. */
static void name_service(struct proc *p, char **env, const struct tm_process *last)
{
    struct tm_process *tm = &p->tm;
    const char *attributes;
    char *name = NULL;

    if (!env && (last->proc || p->parent)) {
        const struct tm_process *known = last->proc ? last : &p->parent->tm;

        tm->service_name = xstrdup(known->service_name);
        tm->resource_attributes = xstrdup(known->resource_attributes);
        return;
    }
    attributes = bounded(environ_get(env, "OTEL_RESOURCE_ATTRIBUTES"), ATTRIBUTES_MAX);
    name = xstrdup(bounded(environ_get(env, "OTEL_SERVICE_NAME"), SERVICE_MAX));
    if (!name)
        name = cfg_pair_of(attributes, "service.name");
    if (!attributes)
        attributes = bounded(getenv("OTEL_RESOURCE_ATTRIBUTES"), ATTRIBUTES_MAX);
    if (!name)
        name = xstrdup(bounded(getenv("OTEL_SERVICE_NAME"), SERVICE_MAX));
    if (!name)
        name = cfg_pair_of(attributes, "service.name");
    tm->service_name = name;
    if (collector_of(p->m)->opt->runtime && bounded(environ_get(env, "AWS_LAMBDA_LOG_STREAM_NAME"), SERVICE_MAX))
        tm->resource_attributes = with_instance(attributes, environ_get(env, "AWS_LAMBDA_LOG_STREAM_NAME"));
    else
        tm->resource_attributes = xstrdup(attributes);
}

/* The kernel may know only its next program by now. */
static char *name_of(const struct proc *p, const struct segment_info *info)
{
    char *comm = info->comm[0] || p->host_pid <= 0 ? xstrdup(info->comm) : pi_name(p->host_pid);
    char *name = program_name(p->tm.exe, comm, info->argv, info->argv_len);

    free(comm);
    return name;
}

char **identify(struct proc *p, const struct segment_info *info)
{
    struct tm_process *tm = &p->tm;
    char **env = p->host_pid > 0 ? pi_environ(p->host_pid) : NULL;
    struct tm_process last = *tm;
    bool lives;

    *tm = (struct tm_process){0};
    lives = locate(p, &last);
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
    name_service(p, lives ? env : NULL, &last);
    tm_clear(&last);
    uuid_text(info->uuid, tm->uuid);
    make_id(tm);
    return env;
}

void identify_child(struct proc *p, const struct proc *parent)
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
    tm->service_name = xstrdup(from->service_name);
    tm->resource_attributes = xstrdup(from->resource_attributes);
    tm->aggregate = NULL;
    uuid_random(tm->uuid);
}
