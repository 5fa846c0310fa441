/* SPDX-License-Identifier: Apache-2.0 */
#include "k8s/pod.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"

#define VOLUME "appscope"
#define VOLUME_CONFIG "appscope-config"
#define INIT "appscope-init"
#define AT "/opt/appscope"
#define AT_CONFIG "/opt/appscope-config"
#define CONFIG_FILE "scope.yml"
#define ANYBODY 65532 /* a user that no image gives anything to */
#define WORKLOAD "app.kubernetes.io/"
#define PORTS_MAX 256u
#define CONTAINERS_MAX 512u           /* of one kind */
#define LABELS_MAX 32u                /* that become tags */
#define ANNOTATIONS_MAX (256u * 1024) /* bytes of all (Kubernetes' TotalAnnotationSizeLimitB) */

struct patch {
    json_t *ops;
    const json_t *pod, *spec;
    const struct k8s_policy *policy;
    const struct k8s_settings *settings;
    json_t *warnings;
    bool patched;              /* by us, before */
    bool image_volume;         /* then, or now */
    bool scrapes;              /* containers get ports for their metrics */
    bool observed;             /* some container is, or will be */
    unsigned ports[PORTS_MAX]; /* that containers listen on for scrapes */
    size_t port_count;
    unsigned scraped; /* the port that a Prometheus is told; 0: none */
};

static const char *text_of(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name));
}

static const json_t *meta_of(const json_t *pod, const char *map)
{
    return json_object_get(json_object_get(pod, "metadata"), map);
}

/* Takes the reference to value. */
static void op(json_t *ops, const char *kind, const char *path, json_t *value)
{
    json_array_append_new(ops, json_pack("{s:s, s:s, s:o}", "op", kind, "path", path, "value", value));
}

/* Behind the items of an array that may be missing. *fresh: the array that was added by an operation before, which has
 * the value put into it. */
static void append(json_t *ops, const json_t *array, const char *path, json_t **fresh, json_t *value)
{
    if (*fresh) {
        json_array_append_new(*fresh, value);
    } else if (json_array_size(array)) {
        char *end = xasprintf("%s/-", path);

        op(ops, "add", end, value);
        free(end);
    } else {
        *fresh = json_pack("[o]", value);
        op(ops, "add", path, *fresh); /* lives as long as ops */
    }
}

/* A member of metadata.labels or metadata.annotations; *fresh as above. */
static void set_meta(json_t *ops, const json_t *pod, const char *map, json_t **fresh, const char *key,
                     const char *value)
{
    const json_t *there = meta_of(pod, map);

    if (json_object_get(there, key))
        return;
    if (*fresh) {
        json_object_set_new(*fresh, key, json_string(value));
    } else if (json_object_size(there)) {
        struct buf path = BUF_INIT;

        buf_printf(&path, "/metadata/%s/", map);
        for (const char *p = key; *p; p++) /* RFC 6901, section 3 */
            *p == '/' ? buf_str(&path, "~1") : *p == '~' ? buf_str(&path, "~0") : buf_char(&path, *p);
        op(ops, "add", buf_cstr(&path), json_string(value));
        buf_free(&path);
    } else {
        char *path = xasprintf("/metadata/%s", map);

        *fresh = json_pack("{s:s}", key, value);
        op(ops, "add", path, *fresh);
        free(path);
    }
}

/* container: NULL for the whole pod. */
static void warn(struct patch *p, const char *container, const char *what, const char *why)
{
    char *text = container ? xasprintf("scope: container %.63s %s: %s", container, what, why)
                           : xasprintf("scope: the pod %s: %s", what, why);

    if (json_array_size(p->warnings) < 8)
        json_array_append_new(p->warnings, json_string(text));
    free(text);
}

/* The last item of that name, which is the one that counts for variables; *index may be NULL. */
static const json_t *named(const json_t *array, const char *name, size_t *index)
{
    for (size_t i = json_array_size(array); i-- > 0;) {
        const json_t *item = json_array_get(array, i);
        const char *have = text_of(item, "name");

        if (have && strcmp(have, name) == 0) {
            if (index)
                *index = i;
            return item;
        }
    }
    return NULL;
}

/* An absolute path as runtimes see it: relative ones start at the root; without what "//", "." and ".." stand for. The
 * caller's, without a slash at the end; "" is the root. */
static char *clean_path(const char *path)
{
    char *clean = xmalloc(strlen(path) + 2), *end = clean;
    size_t n;

    for (; *path; path += n) {
        path += strspn(path, "/");
        n = strcspn(path, "/");
        if (n == 2 && memcmp(path, "..", 2) == 0) {
            while (end > clean && *--end != '/')
                ;
        } else if (n && !(n == 1 && *path == '.')) {
            *end++ = '/';
            memcpy(end, path, n);
            end += n;
        }
    }
    *end = '\0';
    return clean;
}

/* Whether one is the other, or above it. */
static bool same_branch(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b), least = n < m ? n : m;

    return strncmp(a, b, least) == 0 && (n == m || (n < m ? b[n] : a[m]) == '/');
}

/* Whether a container has a volume of ours at its place. */
static bool has_mount(const json_t *mounts, const char *volume, const char *at)
{
    const json_t *m;
    size_t i;

    json_array_foreach(mounts, i, m)
    {
        const char *name = text_of(m, "name"), *path = text_of(m, "mountPath");

        if (name && path && strcmp(name, volume) == 0 && strcmp(path, at) == 0)
            return true;
    }
    return false;
}

/* Whether something else is at that place, or there would have to be a directory made for ours in it, or for it in
 * ours. */
static bool taken(const json_t *mounts, const char *key, const char *volume, const char *at)
{
    const json_t *m;
    size_t i;

    json_array_foreach(mounts, i, m)
    {
        const char *name = text_of(m, "name"), *path = text_of(m, key);
        char *clean = path ? clean_path(path) : NULL;
        bool hit = clean && same_branch(clean, at) && !(name && strcmp(name, volume) == 0 && strcmp(path, at) == 0);

        free(clean);
        if (hit)
            return true;
    }
    return false;
}

static bool has_item(const char *list, const char *separators, const char *item)
{
    size_t len = strlen(item), n;

    for (const char *p = list; *p; p += n) {
        p += strspn(p, separators);
        n = strcspn(p, separators);
        if (n == len && strncmp(p, item, n) == 0)
            return true;
    }
    return false;
}

static const char *library(const struct patch *p)
{
    return p->image_volume ? AT K8S_IMAGE_LIB : AT "/libscope.so";
}

static const char *executable(const struct patch *p)
{
    return p->image_volume ? AT K8S_IMAGE_SCOPE : AT "/scope";
}

/* --- ports for scrapes: the containers of a pod share their network --- */

/* PORT of prometheus://HOST:PORT, 0 if it is none. */
static unsigned port_of(const char *url)
{
    const char *colon = url && strncmp(url, "prometheus://", 13) == 0 ? strrchr(url, ':') : NULL;
    unsigned n = 0;

    for (const char *c = colon ? colon + 1 : ""; isdigit((unsigned char)*c) && n < 65536; c++)
        n = n * 10 + (unsigned)(*c - '0');
    return n < 65536 ? n : 0;
}

static void note_ports(struct patch *p, const char *list)
{
    const json_t *c, *declared;
    size_t i, k;

    json_array_foreach(json_object_get(p->spec, list), i, c)
    {
        unsigned port = port_of(text_of(named(json_object_get(c, "env"), "SCOPE_METRIC_DEST", NULL), "value"));

        if (port && p->port_count < PORTS_MAX)
            p->ports[p->port_count++] = port;
        json_array_foreach(json_object_get(c, "ports"), k, declared)
        {
            json_int_t n = json_integer_value(json_object_get(declared, "containerPort"));

            if (n > 0 && n < 65536 && p->port_count < PORTS_MAX)
                p->ports[p->port_count++] = (unsigned)n;
        }
    }
}

/* One that nobody has said to be using; 0 if there is none. */
static unsigned free_port(struct patch *p)
{
    for (unsigned port = p->settings->metrics_port; port < 65536 && p->port_count < PORTS_MAX; port++) {
        bool taken = false;

        for (size_t i = 0; i < p->port_count; i++)
            taken |= p->ports[i] == port;
        if (!taken) {
            p->ports[p->port_count++] = port;
            return port;
        }
    }
    return 0;
}

/* --- variables --- */

struct variables {
    struct patch *p;
    const json_t *have; /* env of the container, or NULL */
    const char *path;   /* of its env */
    json_t *fresh;
};

static void variable(struct variables *v, const char *name, json_t *content)
{
    if (named(v->have, name, NULL) || named(v->fresh, name, NULL)) {
        json_decref(content);
        return;
    }
    json_object_set_new(content, "name", json_string(name));
    append(v->p->ops, v->have, v->path, &v->fresh, content);
}

static void text(struct variables *v, const char *name, const char *value)
{
    json_t *s = json_string(value);

    if (s)
        variable(v, name, json_pack("{s:o}", "value", s));
}

static void field(struct variables *v, const char *name, const char *path)
{
    variable(v, name, json_pack("{s:{s:{s:s}}}", "valueFrom", "fieldRef", "fieldPath", path));
}

/* Labels that say what the pod belongs to, as tags. */
static void label_tags(struct variables *v)
{
    const char *key;
    json_t *value;
    unsigned count = 0;

    json_object_foreach((json_t *)meta_of(v->p->pod, "labels"), key, value)
    {
        struct buf name = BUF_INIT;

        if (strncmp(key, WORKLOAD, strlen(WORKLOAD)) != 0 || !json_string_value(value))
            continue;
        if (++count > LABELS_MAX)
            return;
        buf_str(&name, "SCOPE_TAG_");
        for (const char *c = key + strlen(WORKLOAD); *c; c++)
            buf_char(&name, isalnum((unsigned char)*c) ? *c : '_');
        text(v, buf_cstr(&name), json_string_value(value));
        buf_free(&name);
    }
}

/* Attributes by OpenTelemetry's names. Kubernetes puts the values of variables that stand before into $(NAME). */
static void resource(struct variables *v, const char *container)
{
    static const struct {
        const char *kind, *attribute;
    } owners[] = {{"ReplicaSet", "k8s.replicaset.name"},
                  {"StatefulSet", "k8s.statefulset.name"},
                  {"DaemonSet", "k8s.daemonset.name"},
                  {"Job", "k8s.job.name"}};
    struct buf b = BUF_INIT;
    const json_t *owner;
    size_t i;

    buf_printf(&b,
               "k8s.namespace.name=$(SCOPE_TAG_namespace),k8s.pod.name=$(SCOPE_TAG_pod_name),"
               "k8s.pod.uid=$(APPSCOPE_POD_UID),k8s.node.name=$(SCOPE_TAG_node_name),k8s.container.name=%s",
               container);
    json_array_foreach(meta_of(v->p->pod, "ownerReferences"), i, owner)
    {
        const char *kind = text_of(owner, "kind"), *name = text_of(owner, "name");

        for (size_t k = 0; kind && name && k < sizeof(owners) / sizeof(*owners); k++)
            if (strcmp(kind, owners[k].kind) == 0 &&
                name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789.-")] == '\0')
                buf_printf(&b, ",%s=%s", owners[k].attribute, name);
    }
    text(v, "SCOPE_OTLP_RESOURCE", buf_cstr(&b));
    buf_free(&b);
}

/* Ours first: what else is loaded stays, and where it was (ld.so(8)). */
static void preload(struct patch *p, const char *path, const json_t *entry, size_t index)
{
    const char *old = text_of(entry, "value"), *lib = library(p);
    char *at, *value;

    if (old && has_item(old, ": ", lib))
        return;
    at = xasprintf("%s/%zu/value", path, index);
    value = xasprintf("%s%s%s", lib, old && *old ? ":" : "", old ? old : "");
    op(p->ops, "add", at, json_string(value)); /* replaces it, if it is there */
    free(value);
    free(at);
}

/* --- containers --- */

static void mount(struct patch *p, const json_t *mounts, const char *path, json_t **fresh, const char *volume,
                  const char *at)
{
    if (!has_mount(mounts, volume, at))
        append(p->ops, mounts, path, fresh,
               json_pack("{s:s, s:s, s:b}", "name", volume, "mountPath", at, "readOnly", 1));
}

/* Why a container can't be observed, or NULL. */
static const char *obstacle(const json_t *container)
{
    const json_t *env = json_object_get(container, "env"), *mounts = json_object_get(container, "volumeMounts"),
                 *devices = json_object_get(container, "volumeDevices");

    if (json_object_get(named(env, "LD_PRELOAD", NULL), "valueFrom"))
        return "its LD_PRELOAD comes from elsewhere (valueFrom)";
    if (taken(mounts, "mountPath", VOLUME, AT) || taken(devices, "devicePath", "", AT))
        return "something else is mounted at " AT ", above it or below";
    if (taken(mounts, "mountPath", VOLUME_CONFIG, AT_CONFIG) || taken(devices, "devicePath", "", AT_CONFIG))
        return "something else is mounted at " AT_CONFIG ", above it or below";
    return NULL;
}

static void scrape_port(struct variables *v, const char *container)
{
    const json_t *own = named(v->have, "SCOPE_METRIC_DEST", NULL);
    unsigned port = own ? port_of(text_of(own, "value")) : free_port(v->p);
    char *url = xasprintf("prometheus://%s:%u", v->p->settings->metrics_host, port);

    if (port)
        text(v, "SCOPE_METRIC_DEST", url);
    else if (!own)
        warn(v->p, container, "has no metrics", "no port is left for them");
    if (!v->p->scraped)
        v->p->scraped = port;
    free(url);
}

static void container(struct patch *p, const char *list, size_t index)
{
    const json_t *c = json_array_get(json_object_get(p->spec, list), index);
    const json_t *env = json_object_get(c, "env"), *mounts = json_object_get(c, "volumeMounts"), *entry;
    const char *name = text_of(c, "name"), *why, *only = NULL;
    json_t *annotation = json_object_get(meta_of(p->pod, "annotations"), K8S_ANNOTATION_CONTAINERS), *fresh = NULL;
    char *env_path, *mount_path;
    struct variables v = {.p = p};
    size_t at = 0;

    if (annotation)
        only = json_string_value(annotation);
    if (!name || strcmp(name, INIT) == 0 || (only && !has_item(only, ", ", name)))
        return;
    if ((env && !json_is_array(env) && !json_is_null(env)) ||
        (mounts && !json_is_array(mounts) && !json_is_null(mounts)))
        return; /* the API server is going to refuse it */
    why = obstacle(c);
    if (why) {
        warn(p, name, "is not observed", why);
        return;
    }
    p->observed = true;
    env_path = xasprintf("/spec/%s/%zu/env", list, index);
    mount_path = xasprintf("/spec/%s/%zu/volumeMounts", list, index);
    v.have = env;
    v.path = env_path;
    field(&v, "SCOPE_TAG_namespace", "metadata.namespace");
    field(&v, "SCOPE_TAG_pod_name", "metadata.name");
    field(&v, "SCOPE_TAG_node_name", "spec.nodeName");
    text(&v, "SCOPE_TAG_container_name", name);
    label_tags(&v);
    field(&v, "APPSCOPE_POD_UID", "metadata.uid");
    resource(&v, name);
    text(&v, "SCOPE_CONF_PATH", AT_CONFIG "/" CONFIG_FILE);
    text(&v, "SCOPE_EXEC_PATH", executable(p));
    if (p->scrapes)
        scrape_port(&v, name);
    entry = named(env, "LD_PRELOAD", &at);
    if (entry)
        preload(p, env_path, entry, at);
    else
        text(&v, "LD_PRELOAD", library(p));
    mount(p, mounts, mount_path, &fresh, VOLUME, AT);
    mount(p, mounts, mount_path, &fresh, VOLUME_CONFIG, AT_CONFIG);
    free(env_path);
    free(mount_path);
}

/* --- the pod --- */

/* Requests and limits as the first container has them: so the pod's class (Guaranteed, Burstable, BestEffort), its
 * demands and what quotas ask for stay as they were. NULL: none. */
static json_t *resources(const struct patch *p)
{
    static const char *const kinds[] = {"requests", "limits"}, *const names[] = {"cpu", "memory"};
    const json_t *first = json_object_get(json_array_get(json_object_get(p->spec, "containers"), 0), "resources");
    json_t *all = json_object();

    for (size_t i = 0; i < 2; i++) {
        json_t *some = json_object();

        for (size_t k = 0; k < 2; k++) {
            json_t *amount = json_object_get(json_object_get(first, kinds[i]), names[k]);

            if (json_is_string(amount) || json_is_number(amount))
                json_object_set(some, names[k], amount);
        }
        if (json_object_size(some))
            json_object_set(all, kinds[i], some);
        json_decref(some);
    }
    if (json_object_size(all))
        return all;
    json_decref(all);
    return NULL;
}

/* Copies scope and its library into the volume: as restricted as Pod Security wants it ("restricted"). */
static json_t *init_container(const struct patch *p)
{
    json_t *user = json_object_get(json_object_get(p->spec, "securityContext"), "runAsUser"), *amounts = resources(p);
    json_int_t uid = json_integer_value(user);
    json_t *c = json_pack("{s:s, s:s, s:[s, s, s], s:[{s:s, s:s}]}", "name", INIT, "image", p->policy->image, "command",
                          K8S_IMAGE_SCOPE, "extract", AT, "volumeMounts", "name", VOLUME, "mountPath", AT);

    if (amounts)
        json_object_set_new(c, "resources", amounts);
    json_object_set_new(c, "securityContext",
                        json_pack("{s:b, s:I, s:b, s:b, s:b, s:{s:[s]}, s:{s:s}}", "runAsNonRoot", 1, "runAsUser",
                                  uid > 0 ? uid : (json_int_t)ANYBODY, "readOnlyRootFilesystem", 1,
                                  "allowPrivilegeEscalation", 0, "privileged", 0, "capabilities", "drop", "ALL",
                                  "seccompProfile", "type", "RuntimeDefault"));
    return c;
}

static void volumes(struct patch *p)
{
    const json_t *have = json_object_get(p->spec, "volumes");
    json_t *fresh = NULL, *v;

    if (!named(have, VOLUME, NULL)) {
        v = p->image_volume ? json_pack("{s:s, s:{s:s, s:s}}", "name", VOLUME, "image", "reference", p->policy->image,
                                        "pullPolicy", "IfNotPresent")
                            : json_pack("{s:s, s:{s:s}}", "name", VOLUME, "emptyDir", "sizeLimit", "128Mi");
        append(p->ops, have, "/spec/volumes", &fresh, v);
    }
    if (!named(have, VOLUME_CONFIG, NULL)) {
        v = json_pack("{s:s, s:{s:[{s:s, s:{s:s}}]}}", "name", VOLUME_CONFIG, "downwardAPI", "items", "path",
                      CONFIG_FILE, "fieldRef", "fieldPath", "metadata.annotations['" K8S_ANNOTATION_CONFIG "']");
        append(p->ops, have, "/spec/volumes", &fresh, v);
    }
}

static void metadata(struct patch *p)
{
    json_t *labels = NULL, *annotations = NULL;
    char port[16];

    set_meta(p->ops, p->pod, "labels", &labels, K8S_LABEL_SCOPE, "true");
    set_meta(p->ops, p->pod, "annotations", &annotations, K8S_ANNOTATION_CONFIG, p->settings->config);
    if (!p->scraped || json_object_get(meta_of(p->pod, "annotations"), "prometheus.io/scrape"))
        return; /* the application has its own */
    snprintf(port, sizeof(port), "%u", p->scraped);
    set_meta(p->ops, p->pod, "annotations", &annotations, "prometheus.io/scrape", "true");
    set_meta(p->ops, p->pod, "annotations", &annotations, "prometheus.io/port", port);
    set_meta(p->ops, p->pod, "annotations", &annotations, "prometheus.io/path", "/metrics");
}

static bool is_windows(const json_t *spec)
{
    const char *os = text_of(json_object_get(spec, "os"), "name");
    const char *node = text_of(json_object_get(spec, "nodeSelector"), "kubernetes.io/os");

    return (os && strcmp(os, "windows") == 0) || (node && strcmp(node, "windows") == 0);
}

/* Not by us: it doesn't want to, can't, or is a kubelet's own that can't be changed. */
static bool left_alone(const json_t *pod, const char *ns, const struct k8s_policy *policy)
{
    const json_t *annotations = meta_of(pod, "annotations");

    return json_object_get(annotations, K8S_ANNOTATION_DISABLE) ||
           json_object_get(annotations, "kubernetes.io/config.mirror") || is_windows(json_object_get(pod, "spec")) ||
           (ns &&
            (strcmp(ns, "kube-system") == 0 || (strcmp(policy->ns, "default") != 0 && strcmp(ns, policy->ns) == 0)));
}

static bool is_map(const json_t *v)
{
    return !v || json_is_null(v) || json_is_object(v);
}

static bool is_list(const json_t *v)
{
    return !v || json_is_null(v) || json_is_array(v);
}

/* What has another shape is refused by the API server, and must not be made worse. */
static bool is_pod(const json_t *pod)
{
    const json_t *spec = json_object_get(pod, "spec");

    return json_is_object(spec) && json_is_object(json_object_get(pod, "metadata")) && is_map(meta_of(pod, "labels")) &&
           is_map(meta_of(pod, "annotations")) && is_list(json_object_get(spec, "containers")) &&
           is_list(json_object_get(spec, "initContainers")) && is_list(json_object_get(spec, "volumes")) &&
           is_list(json_object_get(spec, "ephemeralContainers"));
}

/* --- what is there already --- */

static bool is_our_init(const json_t *container)
{
    const json_t *command = json_object_get(container, "command");
    const char *words[] = {K8S_IMAGE_SCOPE, "extract", AT};

    for (size_t i = 0; i < 3; i++) {
        const char *word = json_string_value(json_array_get(command, i));

        if (!word || strcmp(word, words[i]) != 0)
            return false;
    }
    return json_array_size(command) == 3;
}

/* Bytes of all annotations with ours, as the API server counts them. */
static size_t annotations_size(const struct patch *p)
{
    size_t size = strlen(K8S_ANNOTATION_CONFIG) + strlen(p->settings->config) + 128;
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)meta_of(p->pod, "annotations"), key, value) size +=
        strlen(key) + json_string_length(value);
    return size;
}

/* Finds out whether the pod was patched before, and how. NULL; or why it can't be, as it has something of its own that
 * has our names, or would have too much. */
static const char *look(struct patch *p)
{
    const json_t *volume = named(json_object_get(p->spec, "volumes"), VOLUME, NULL);
    const json_t *config = named(json_object_get(p->spec, "volumes"), VOLUME_CONFIG, NULL);
    const json_t *init = named(json_object_get(p->spec, "initContainers"), INIT, NULL);

    for (const char *const *list = (const char *const[]){"containers", "initContainers", "ephemeralContainers", NULL};
         *list; list++)
        if (json_array_size(json_object_get(p->spec, *list)) > CONTAINERS_MAX)
            return "it has too many containers";
    if (named(json_object_get(p->spec, "containers"), INIT, NULL) ||
        named(json_object_get(p->spec, "ephemeralContainers"), INIT, NULL) || (init && !is_our_init(init)))
        return "it has a container " INIT " of its own";
    p->image_volume =
        !init && json_object_get(volume, "image") && json_object_get(meta_of(p->pod, "labels"), K8S_LABEL_SCOPE);
    p->patched = init || p->image_volume;
    if (!p->patched)
        p->image_volume = p->policy->image_volume;
    if (volume && (!p->patched || !json_object_get(volume, init ? "emptyDir" : "image")))
        return "it has a volume " VOLUME " of its own";
    if (config && (!p->patched || !json_object_get(config, "downwardAPI")))
        return "it has a volume " VOLUME_CONFIG " of its own";
    if (!p->patched && annotations_size(p) > ANNOTATIONS_MAX)
        return "its annotations and scope's are more than 256 KiB";
    return NULL;
}

static struct patch begin(const json_t *pod, const struct k8s_policy *policy, const struct k8s_settings *settings,
                          json_t *warnings)
{
    struct patch p = {.ops = json_array(),
                      .pod = pod,
                      .spec = json_object_get(pod, "spec"),
                      .policy = policy,
                      .settings = settings,
                      .warnings = warnings};

    note_ports(&p, "containers");
    note_ports(&p, "initContainers");
    note_ports(&p, "ephemeralContainers");
    return p;
}

/* Whether metrics shall be scraped. Not where the pod has a configuration of its own, which says where they go. */
static bool scrapes(const struct patch *p)
{
    const char *own = text_of(meta_of(p->pod, "annotations"), K8S_ANNOTATION_CONFIG);

    return p->settings->metrics_host && (!own || strcmp(own, p->settings->config) == 0);
}

json_t *k8s_pod_patch(const json_t *pod, const char *ns, const struct k8s_policy *policy,
                      const struct k8s_settings *settings, json_t *warnings)
{
    const json_t *init = json_object_get(json_object_get(pod, "spec"), "initContainers");
    struct patch p;
    size_t ours = 0;
    const char *why;

    if (!is_pod(pod) || left_alone(pod, ns, policy))
        return json_array();
    p = begin(pod, policy, settings, warnings);
    why = look(&p);
    if (why) {
        warn(&p, NULL, "is not observed", why);
        return p.ops;
    }
    p.scrapes = scrapes(&p);
    for (size_t i = 0; i < json_array_size(json_object_get(p.spec, "containers")); i++)
        container(&p, "containers", i);
    /* Those before ours run when the library isn't there yet. */
    for (size_t i = named(init, INIT, &ours) ? ours + 1 : 0; i < json_array_size(init); i++)
        container(&p, "initContainers", i);
    if (!p.observed)
        return p.ops;
    volumes(&p);
    metadata(&p);
    if (!p.patched && !p.image_volume) { /* last: it moves the others */
        json_t *c = init_container(&p);

        if (json_array_size(init))
            op(p.ops, "add", "/spec/initContainers/0", c);
        else
            op(p.ops, "add", "/spec/initContainers", json_pack("[o]", c));
    }
    return p.ops;
}

json_t *k8s_ephemeral_patch(const json_t *pod, const json_t *old, const struct k8s_policy *policy,
                            const struct k8s_settings *settings, json_t *warnings)
{
    const json_t *c, *before = json_object_get(json_object_get(old, "spec"), "ephemeralContainers");
    struct patch p;
    size_t i;

    if (!is_pod(pod) || left_alone(pod, NULL, policy) || json_array_size(before) > CONTAINERS_MAX)
        return json_array();
    p = begin(pod, policy, settings, warnings);
    if (look(&p) || !p.patched)
        return p.ops;
    p.scrapes = scrapes(&p);
    json_array_foreach(json_object_get(p.spec, "ephemeralContainers"), i, c)
    {
        const char *name = text_of(c, "name");

        if (name && !named(before, name, NULL))
            container(&p, "ephemeralContainers", i);
    }
    return p.ops;
}
