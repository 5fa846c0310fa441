/* SPDX-License-Identifier: Apache-2.0 */
#include "k8s/settings.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "config/config.h"

#define COMMON "scope.yml"
#define FILE_END "." COMMON
#define NAMESPACES_MAX 4096u

struct entry {
    struct entry *next;
    char *ns; /* "": all that have none */
    char *config, *host;
    char *seen; /* the text of the file that was looked at last; NULL: there is no file */
    bool found; /* by the last reading */
    struct k8s_settings settings;
};

struct k8s_namespaces {
    char *dir;
    struct entry common; /* of all that have none */
    struct entry *first; /* of the others */
    unsigned bad;
    size_t count; /* of these */
};

static struct entry *entry_of(struct k8s_namespaces *n, const char *ns)
{
    struct entry *e = n->first;

    if (!*ns)
        return &n->common;
    while (e && strcmp(e->ns, ns) != 0)
        e = e->next;
    return e;
}

static void clear_entry(struct entry *e)
{
    free(e->ns);
    free(e->config);
    free(e->host);
    free(e->seen);
}

static void problem(void *ctx, const struct cfg_problem *p)
{
    log_warning("%s:%u: %s%s%s", p->file ? p->file : "", p->line, p->key ? p->key : "", p->key && *p->key ? ": " : "",
                p->text);
}

/* False after a message: the text is no configuration. */
static bool take(struct entry *e, const char *name, const char *text)
{
    struct config_sources *sources = config_sources_new();
    struct config *c;
    bool ok = config_add_text(sources, name, text, strlen(text), problem, NULL) == 0;

    if (ok) {
        c = config_for(sources, NULL);
        free(e->config);
        free(e->host);
        e->config = xstrdup(text);
        e->host = NULL;
        e->settings = (struct k8s_settings){.config = e->config};
        if (c->metric.enable && !c->cribl.enable && c->metric.transport.type == CFG_PROMETHEUS) {
            bool v6 = strchr(c->metric.transport.host, ':') != NULL;

            e->host = xasprintf("%s%s%s", v6 ? "[" : "", c->metric.transport.host, v6 ? "]" : "");
            e->settings.metrics_host = e->host;
            e->settings.metrics_port = (unsigned)strtoul(c->metric.transport.port, NULL, 10);
            if (!e->settings.metrics_port)
                e->settings.metrics_port = (unsigned)strtoul(PROMETHEUS_PORT, NULL, 10);
        }
        config_free(c);
    }
    config_sources_free(sources);
    return ok;
}

/* malloc'ed text, or NULL after a message. */
static char *text_at(int dir, const char *name)
{
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    char *text = xmalloc(K8S_CONFIG_MAX + 2);
    size_t len = 0;
    ssize_t n = fd < 0 ? -1 : 1;

    while (n > 0 && len <= K8S_CONFIG_MAX && (n = read(fd, text + len, K8S_CONFIG_MAX + 1 - len)) > 0)
        len += (size_t)n;
    if (n < 0)
        log_warning("%s: %s", name, strerror(errno));
    else if (len > K8S_CONFIG_MAX)
        log_warning("%s: more than %u bytes", name, K8S_CONFIG_MAX);
    else if (memchr(text, '\0', len))
        log_warning("%s: it is no text", name);
    if (fd >= 0)
        close(fd);
    if (n >= 0 && len <= K8S_CONFIG_MAX && !memchr(text, '\0', len)) {
        text[len] = '\0';
        return text;
    }
    free(text);
    return NULL;
}

static void read_file(struct k8s_namespaces *n, int dir, const char *name)
{
    size_t len = strlen(name), end = strlen(FILE_END);
    char *ns, *text;
    struct entry *e;

    if (strcmp(name, COMMON) == 0)
        ns = xstrdup("");
    else if (len > end && strcmp(name + len - end, FILE_END) == 0)
        ns = xstrndup(name, len - end);
    else
        return;
    text = text_at(dir, name);
    e = entry_of(n, ns);
    if (!e && n->count < NAMESPACES_MAX) {
        e = xcalloc(1, sizeof(*e));
        e->ns = xstrdup(ns);
        e->next = n->first;
        n->first = e;
        n->count++;
    }
    free(ns);
    if (e)
        e->found = true;
    if (e && text && (!e->seen || strcmp(e->seen, text) != 0)) {
        free(e->seen);
        e->seen = xstrdup(text);
        if (take(e, name, text)) {
            log_info("%s is in force", name);
        } else {
            n->bad++;
            log_warning("%s is not used%s", name, e->config ? "; what was in force before stays so" : "");
        }
    } else if (!text || !e) {
        n->bad++;
    }
    free(text);
}

struct k8s_namespaces *k8s_namespaces_new(const char *dir, const char *text)
{
    struct k8s_namespaces *n = xcalloc(1, sizeof(*n));

    n->dir = xstrdup(dir);
    if (!take(&n->common, "configuration", text))
        take(&n->common, "configuration", "{}");
    return n;
}

void k8s_namespaces_free(struct k8s_namespaces *n)
{
    struct entry *next;

    for (struct entry *e = n->first; e; e = next) {
        next = e->next;
        clear_entry(e);
        free(e);
    }
    clear_entry(&n->common);
    free(n->dir);
    free(n);
}

unsigned k8s_namespaces_read(struct k8s_namespaces *n)
{
    DIR *d = n->dir ? opendir(n->dir) : NULL;
    struct dirent *file;

    n->bad = 0;
    if (!n->dir)
        return 0;
    if (!d) {
        log_warning("%s: %s", n->dir, strerror(errno));
        return 1;
    }
    for (struct entry *e = n->first; e; e = e->next)
        e->found = false;
    while ((file = readdir(d)))
        read_file(n, dirfd(d), file->d_name);
    closedir(d);
    for (struct entry **at = &n->first; *at;) {
        struct entry *e = *at;

        if (e->found) {
            at = &e->next;
            continue;
        }
        log_info("%s" FILE_END " is gone", e->ns);
        *at = e->next;
        n->count--;
        clear_entry(e);
        free(e);
    }
    return n->bad;
}

const struct k8s_settings *k8s_namespaces_for(void *ctx, const char *ns)
{
    struct k8s_namespaces *n = ctx;
    const struct entry *e = entry_of(n, ns);

    return e && e->config ? &e->settings : &n->common.settings;
}
