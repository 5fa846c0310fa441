/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/safe_path.h"
#include "cli/flags.h"
#include "config/config.h"
#include "k8s/manifest.h"
#include "k8s/node.h"
#include "k8s/server.h"
#include "k8s/yaml.h"
#include "rules/rules.h"
#include "version.h"

#define REPOSITORY "cribl/scope"
#define NAME_MAX_DNS 63 /* a label of RFC 1123 */

static const struct cli_option options[] = {
    {"app", "NAME", "Name of the webhook and of what belongs to it (scope)", NULL, 0, false, false},
    {"namespace", "NAME", "Its namespace (appscope)", NULL, 0, false, false},
    {"image", "IMAGE", "Image that has scope (" REPOSITORY ":VERSION)", NULL, 0, false, false},
    {"version", "TAG", "Tag of the image, if --image is not given", NULL, 0, false, false},
    {"imagevolume", NULL, "Mount the image in pods (Kubernetes 1.33), without an init container", NULL, 0, false,
     false},
    {"promport", "PORT", "Where pods are scraped, if metrics go nowhere else (9109)", NULL, 0, false, false},
    {"noexporter", NULL, "No metrics for Prometheus", NULL, 0, false, false},
    {"certmanager", NULL, "Leave certificates to cert-manager", NULL, 0, false, false},
    {"kustomize", "DIR", "Write a base for kustomize into a directory", NULL, 0, false, false},
    {"daemonset", NULL, "A DaemonSet that observes each node, in place of the webhook", NULL, 0, false, false},
    {"server", NULL, "Be the webhook", NULL, 0, false, false},
    {"node", NULL, "Be what runs in a pod of the DaemonSet: have its node observed", NULL, 0, false, false},
    {"rootdir", "DIR", "Where the node's / is, with --node (/hostfs)", NULL, 'R', false, false},
    {"address", "ADDRESS", "Where the webhook listens (all addresses)", NULL, 0, false, false},
    {"port", "PORT", "On what port (4443)", NULL, 0, false, false},
    {"certfile", "FILE", "Its certificate (/etc/certs/tls.crt)", NULL, 0, false, false},
    {"keyfile", "FILE", "The key of that (/etc/certs/tls.key)", NULL, 0, false, false},
    {"cafile", "FILE", "A CA's certificate: the webhook makes its own by it", NULL, 0, false, false},
    {"cakeyfile", "FILE", "The key of that", NULL, 0, false, false},
    {"configdir", "DIR", "scope.yml for pods, NAMESPACE.scope.yml for those of a namespace; with --node, rules.yml too",
     NULL, 0, false, false},
    {"debug", NULL, "The webhook tells more", NULL, 0, false, false},
    {"signername", "NAME", "Has no effect: nobody is asked to sign", NULL, 0, false, true},
    {0},
};

static const struct cli_example examples[] = {
    {"scope k8s | kubectl apply -f -", "metrics are scraped from pods"},
    {"scope k8s --otlp=http://otel.monitoring.svc:4318 | kubectl apply -f -", "to a collector of OpenTelemetry's"},
    {"kubectl label namespace shop scope=enabled", "pods that are made there from now on are observed"},
    {"scope k8s --certmanager --kustomize base", "a directory for kustomize"},
    {0},
};

/* --- scope.yml for pods --- */

/* What the flags say, and nothing else: of what isn't said, pods have the defaults. What has no destination is switched
 * off, since a pod keeps nothing; what OTLP tells has to be made all the same. */
static json_t *settings(const struct args *a, const struct config *c, unsigned promport)
{
    bool otlp = args_has(a, "otlp"), cribl = args_has(a, "cribldest");
    json_t *o = json_object(), *nowhere = json_pack("{s:{s:s, s:s}}", "transport", "type", "file", "path", "/dev/null");
    json_t *off = json_pack("{s:b}", "enable", 0), *metric;

    if (cribl) {
        json_object_set_new(o, "cribl",
                            json_pack("{s:b, s:o}", "enable", 1, "transport", flags_transport(&c->cribl.transport)));
        if (c->cribl.authtoken)
            json_object_set_new(json_object_get(o, "cribl"), "authtoken", flags_text(c->cribl.authtoken));
    } else {
        if (args_has(a, "metricdest")) {
            metric = json_pack("{s:o}", "transport", flags_transport(&c->metric.transport));
        } else if (promport) {
            metric = json_pack("{s:{s:s, s:s, s:i}}", "transport", "type", "prometheus", "host", "0.0.0.0", "port",
                               (int)promport);
        } else {
            metric = json_deep_copy(otlp ? nowhere : off);
        }
        if (args_has(a, "metricformat") || args_has(a, "metricprefix"))
            json_object_set_new(metric, "format", flags_format(c));
        json_object_set_new(o, "metric", metric);
        json_object_set_new(o, "event",
                            args_has(a, "eventdest")
                                ? json_pack("{s:o}", "transport", flags_transport(&c->event.transport))
                                : json_deep_copy(otlp ? nowhere : off));
    }
    if (otlp) {
        json_object_set_new(o, "otlp", json_pack("{s:b}", "enable", 1));
        if (args_get(a, "otlp"))
            json_object_update_new(json_object_get(o, "otlp"),
                                   json_pack("{s:o, s:s}", "endpoint", flags_text(args_get(a, "otlp")), "protocol",
                                             strncmp(args_get(a, "otlp"), "grpc", 4) == 0 ? "grpc" : "http/protobuf"));
    }
    json_decref(nowhere);
    json_decref(off);
    return o;
}

/* Text of scope.yml, and where it has metrics scraped (0: nowhere): 0, or an exit status after a message. */
static int make_config(const struct args *a, struct buf *ret, unsigned *ret_scraped)
{
    struct config_sources *sources = config_sources_new();
    int64_t promport = strtol(PROMETHEUS_PORT, NULL, 10);
    bool elsewhere = args_has(a, "metricdest") || args_has(a, "cribldest") || args_has(a, "otlp");
    int rc = cli_apply_flags(a, sources);
    struct config *c;

    if (rc == 0)
        rc = args_number(a, "promport", 1, 65535, &promport);
    if (rc == 0 && args_has(a, "noexporter") && !elsewhere && !args_has(a, "eventdest"))
        rc = cli_usage(a->command, "--noexporter leaves nowhere to send anything to; name a destination");
    if (rc == 0 && args_has(a, "nobreaker")) {
        cli_error("--nobreaker has no key in scope.yml");
        cli_hint("SCOPE_CRIBL_NO_BREAKER=true in the environment of the programs does it");
    }
    if (rc == 0) {
        json_t *o;

        c = config_for(sources, NULL);
        *ret_scraped = args_has(a, "noexporter") || elsewhere ? 0 : (unsigned)promport;
        if (c->metric.enable && args_has(a, "metricdest") && c->metric.transport.type == CFG_PROMETHEUS)
            *ret_scraped = (unsigned)strtoul(c->metric.transport.port, NULL, 10);
        o = settings(a, c, args_has(a, "noexporter") || elsewhere ? 0 : (unsigned)promport);
        yaml_put(ret, o);
        json_decref(o);
        config_free(c);
    }
    config_sources_free(sources);
    return rc;
}

/* --- printing --- */

static bool is_label(const char *name)
{
    size_t len = strlen(name);

    return len && len <= NAME_MAX_DNS && name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-")] == '\0' &&
           name[0] != '-' && name[len - 1] != '-';
}

/* 0, or an exit status after a message. */
static int write_kustomize(const char *dir, const json_t *objects)
{
    struct buf list = BUF_INIT;
    char *why = NULL;
    int at = safe_dir(dir, SAFE_NAMED, 0755, &why), rc = 0;
    const json_t *o;
    size_t i;

    if (at < 0) {
        cli_error("%s: %s", dir, why ? why : strerror(-at));
        free(why);
        return EXIT_FAILED;
    }
    buf_str(&list, "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n");
    json_array_foreach(objects, i, o)
    {
        const char *kind = json_string_value(json_object_get(o, "kind"));
        struct buf text = BUF_INIT;
        char *name = k8s_file_name(o);

        yaml_put(&text, o);
        if (rc == 0)
            rc = safe_replace(at, name, text.p, text.len, strcmp(kind, "Secret") == 0 ? 0600 : 0644);
        buf_printf(&list, "- %s\n", name);
        buf_free(&text);
        free(name);
    }
    if (rc == 0)
        rc = safe_replace(at, "kustomization.yaml", list.p, list.len, 0644);
    if (rc < 0)
        cli_error("%s: %s", dir, strerror(-rc));
    buf_free(&list);
    close(at);
    return rc < 0 ? EXIT_FAILED : 0;
}

static int print(const struct args *a, const struct k8s_install *install)
{
    json_t *objects = args_has(a, "daemonset") ? k8s_daemon_objects(install) : k8s_webhook_objects(install), *o;
    size_t i;
    int rc = 0;

    if (!objects) {
        cli_error("OpenSSL can't make a certificate");
        return EXIT_FAILED;
    }
    if (args_has(a, "kustomize")) {
        rc = write_kustomize(args_get(a, "kustomize"), objects);
    } else {
        json_array_foreach(objects, i, o)
        {
            struct buf text = BUF_INIT;

            yaml_put(&text, o);
            printf("%s%s", i ? "---\n" : "", buf_cstr(&text));
            buf_free(&text);
        }
    }
    json_decref(objects);
    return rc;
}

/* --- the webhook --- */

static int serve(const struct args *a, const struct k8s_install *install)
{
    struct k8s_server_options o = {.policy = install->policy,
                                   .address = args_get(a, "address"),
                                   .port = install->port,
                                   .cert = args_get(a, "certfile") ?: "/etc/certs/tls.crt",
                                   .key = args_get(a, "keyfile") ?: "/etc/certs/tls.key",
                                   .ca = args_get(a, "cafile"),
                                   .ca_key = args_get(a, "cakeyfile")};
    int rc;

    if (!o.ca != !o.ca_key)
        return cli_usage(a->command, "--cafile and --cakeyfile belong together");
    if ((rc = args_conflict(a, "cafile", "certfile")) || (rc = args_conflict(a, "cafile", "keyfile")))
        return rc;
    log_setup(stderr, args_has(a, "debug") ? LOGL_DEBUG : LOGL_INFO, "scope");
    o.namespaces = k8s_namespaces_new(args_get(a, "configdir"), install->config);
    rc = k8s_serve(&o);
    k8s_namespaces_free(o.namespaces);
    return rc < 0 ? EXIT_FAILED : 0;
}

static int observe_node(const struct args *a)
{
    struct k8s_node_options o = {.root = args_get(a, "rootdir") ?: "/hostfs",
                                 .config_dir = args_get(a, "configdir") ?: "/etc/appscope",
                                 .etc = HOST_CONFIG_DIR,
                                 .self = "/proc/self/exe"};

    if (!cli_find("start")) {
        cli_error("--node needs `scope start`, which this scope doesn't have");
        return EXIT_FAILED;
    }
    log_setup(stderr, args_has(a, "debug") ? LOGL_DEBUG : LOGL_INFO, "scope");
    return k8s_node(&o);
}

static int run(struct args *a)
{
    struct k8s_install install = {.policy = {.app = args_get(a, "app") ?: "scope",
                                             .ns = args_get(a, "namespace") ?: "appscope",
                                             .image_volume = args_has(a, "imagevolume")},
                                  .cert_manager = args_has(a, "certmanager"),
                                  .debug = args_has(a, "debug")};
    struct buf config = BUF_INIT;
    int64_t port = 4443;
    char *image;
    int rc = args_number(a, "port", args_has(a, "server") ? 0 : 1, 65535, &port);

    if (rc)
        return rc;
    if (!is_label(install.policy.app) || strlen(install.policy.app) > 40)
        return cli_usage(a->command, "--app %s: a name has lower-case letters, digits and '-', at most 40",
                         install.policy.app);
    if (!is_label(install.policy.ns))
        return cli_usage(a->command, "--namespace %s: a name has lower-case letters, digits and '-', at most 63",
                         install.policy.ns);
    if ((rc = args_conflict(a, "server", "kustomize")) || (rc = args_conflict(a, "server", "daemonset")) ||
        (rc = args_conflict(a, "daemonset", "certmanager")) || (rc = args_conflict(a, "node", "server")) ||
        (rc = args_conflict(a, "node", "daemonset")) || (rc = args_conflict(a, "node", "kustomize")))
        return rc;
    if (args_has(a, "node"))
        return observe_node(a);
    if (args_has(a, "daemonset") && !cli_find("start")) {
        cli_error("--daemonset needs `scope start`, which this scope doesn't have");
        return EXIT_FAILED;
    }
    rc = make_config(a, &config, &install.scraped);
    if (rc)
        return rc;
    image = args_get(a, "image") ? xstrdup(args_get(a, "image"))
            : args_get(a, "version")
                ? xasprintf("%s:%s", REPOSITORY, args_get(a, "version"))
                : xasprintf("%s:%.*s", REPOSITORY, (int)strcspn(SCOPE_VERSION, "+-"), SCOPE_VERSION);
    install.policy.image = image;
    install.config = buf_cstr(&config);
    install.port = (unsigned)port;
    rc = args_has(a, "server") ? serve(a, &install) : print(a, &install);
    free(image);
    buf_free(&config);
    return rc;
}

const struct cli_command command_k8s = {
    .name = "k8s",
    .summary = "Print manifests for Kubernetes, or be their webhook",
    .usage = "[OPTIONS]",
    .description =
        "Prints what `kubectl apply -f -` takes: a webhook that has pods observed when they are made, with a "
        "certificate "
        "of its own. Pods of namespaces with the label scope=enabled are, and pods that have it themselves; one with "
        "the "
        "annotation appscope.dev/disable isn't. Nothing of a pod's own is changed, and a cluster whose webhook is down "
        "makes pods as ever. Each output has a new CA in it: keep it like a password. docs/kubernetes.md has more.",
    .options = options,
    .more_options = cli_dest_options,
    .examples = examples,
    .min_args = 0,
    .max_args = 0,
    .run = run,
};
