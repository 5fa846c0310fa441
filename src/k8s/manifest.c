/* SPDX-License-Identifier: Apache-2.0 */
#include "k8s/manifest.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "base/mem.h"
#include "k8s/cert.h"

#define CERTS "/etc/certs"
#define CONFIG "/etc/appscope"
#define HOSTFS "/hostfs"
#define USER 65532
#define MANAGED "app.kubernetes.io/"
#define OPT_IN "scope"
#define OPTED_IN "enabled"

/* The same of all objects; `ns` may be NULL: the object belongs to none. */
static json_t *meta(const struct k8s_install *i, const char *name, const char *ns)
{
    json_t *m = json_pack("{s:s}", "name", name);

    if (ns)
        json_object_set_new(m, "namespace", json_string(ns));
    json_object_set_new(m, "labels",
                        json_pack("{s:s, s:s}", MANAGED "name", i->policy.app, MANAGED "part-of", "appscope"));
    return m;
}

static json_t *object(const char *api, const char *kind, json_t *metadata)
{
    return json_pack("{s:s, s:s, s:o}", "apiVersion", api, "kind", kind, "metadata", metadata);
}

/* privileged: what runs there may do anything (Pod Security Admission). */
static json_t *namespace(const struct k8s_install *i, bool privileged)
{
    json_t *o = object("v1", "Namespace", meta(i, i->policy.ns, NULL));
    json_t *labels = json_object_get(json_object_get(o, "metadata"), "labels");

    json_object_set_new(labels, "pod-security.kubernetes.io/enforce",
                        json_string(privileged ? "privileged" : "restricted"));
    return o;
}

static json_t *config_map(const struct k8s_install *i)
{
    json_t *o = object("v1", "ConfigMap", meta(i, i->policy.app, i->policy.ns));

    json_object_set_new(o, "data", json_pack("{s:s}", "scope.yml", i->config));
    return o;
}

/* --- certificates --- */

static char *secret_name(const struct k8s_install *i)
{
    return xasprintf("%s-secret", i->policy.app);
}

static json_t *secret(const struct k8s_install *i, const struct k8s_pair *ca)
{
    char *name = secret_name(i);
    json_t *o = object("v1", "Secret", meta(i, name, i->policy.ns));

    json_object_set_new(o, "type", json_string("Opaque"));
    json_object_set_new(o, "stringData", json_pack("{s:s, s:s}", "ca.crt", ca->cert, "ca.key", ca->key));
    free(name);
    return o;
}

static void cert_manager(const struct k8s_install *i, json_t *list)
{
    const struct k8s_policy *p = &i->policy;
    char *issuer = xasprintf("%s-issuer", p->app), *name = secret_name(i);
    char *dns = xasprintf("%s.%s.svc", p->app, p->ns);
    json_t *o = object("cert-manager.io/v1", "Issuer", meta(i, issuer, p->ns));

    json_object_set_new(o, "spec", json_pack("{s:{}}", "selfSigned"));
    json_array_append_new(list, o);
    o = object("cert-manager.io/v1", "Certificate", meta(i, p->app, p->ns));
    json_object_set_new(o, "spec",
                        json_pack("{s:s, s:[s], s:{s:s}, s:[s, s], s:{s:s, s:i, s:s}}", "secretName", name, "dnsNames",
                                  dns, "issuerRef", "name", issuer, "usages", "digital signature", "server auth",
                                  "privateKey", "algorithm", "ECDSA", "size", 256, "rotationPolicy", "Always"));
    json_array_append_new(list, o);
    free(issuer);
    free(name);
    free(dns);
}

/* --- the server --- */

static json_t *arguments(const struct k8s_install *i)
{
    const struct k8s_policy *p = &i->policy;
    bool own = !i->cert_manager;
    json_t *a =
        json_pack("[s, s, s, s, s, s, s, s, s, s, s, o, s, s, s, s]", "k8s", "--server", "--app", p->app, "--namespace",
                  p->ns, "--image", p->image, "--configdir", CONFIG, "--port", json_sprintf("%u", i->port),
                  own ? "--cafile" : "--certfile", own ? CERTS "/ca.crt" : CERTS "/tls.crt",
                  own ? "--cakeyfile" : "--keyfile", own ? CERTS "/ca.key" : CERTS "/tls.key");

    if (p->image_volume)
        json_array_append_new(a, json_string("--imagevolume"));
    if (i->debug)
        json_array_append_new(a, json_string("--debug"));
    return a;
}

static json_t *probe(unsigned period)
{
    return json_pack("{s:{s:s, s:s, s:s}, s:i}", "httpGet", "path", "/healthz", "port", "https", "scheme", "HTTPS",
                     "periodSeconds", (int)period);
}

/* As Pod Security's "restricted" wants it. */
static json_t *restricted(void)
{
    return json_pack("{s:b, s:b, s:{s:[s]}}", "readOnlyRootFilesystem", 1, "allowPrivilegeEscalation", 0,
                     "capabilities", "drop", "ALL");
}

static json_t *container(const struct k8s_install *i)
{
    json_t *c =
        json_pack("{s:s, s:s, s:[s]}", "name", i->policy.app, "image", i->policy.image, "command", K8S_IMAGE_SCOPE);

    json_object_set_new(c, "args", arguments(i));
    json_object_set_new(c, "ports", json_pack("[{s:s, s:i}]", "name", "https", "containerPort", (int)i->port));
    json_object_set_new(c, "readinessProbe", probe(5));
    json_object_set_new(c, "livenessProbe", probe(20));
    json_object_set_new(
        c, "resources",
        json_pack("{s:{s:s, s:s}, s:{s:s}}", "requests", "cpu", "20m", "memory", "64Mi", "limits", "memory", "256Mi"));
    json_object_set_new(c, "securityContext", restricted());
    json_object_set_new(c, "volumeMounts",
                        json_pack("[{s:s, s:s, s:b}, {s:s, s:s, s:b}]", "name", "certs", "mountPath", CERTS, "readOnly",
                                  1, "name", "config", "mountPath", CONFIG, "readOnly", 1));
    return c;
}

static json_t *selector(const struct k8s_install *i)
{
    return json_pack("{s:s}", MANAGED "name", i->policy.app);
}

/* Labels of pods; the annotation keeps the webhook from its own pods, in whatever namespace. */
static json_t *pod_meta(const struct k8s_install *i)
{
    return json_pack("{s:{s:s, s:s}, s:{s:s}}", "labels", MANAGED "name", i->policy.app, MANAGED "part-of", "appscope",
                     "annotations", K8S_ANNOTATION_DISABLE, "true");
}

static json_t *deployment(const struct k8s_install *i)
{
    json_t *o = object("apps/v1", "Deployment", meta(i, i->policy.app, i->policy.ns)), *pod;
    char *name = secret_name(i);

    pod = json_pack("{s:b, s:b}", "automountServiceAccountToken", 0, "enableServiceLinks", 0);
    json_object_set_new(pod, "securityContext",
                        json_pack("{s:b, s:i, s:i, s:i, s:{s:s}}", "runAsNonRoot", 1, "runAsUser", USER, "runAsGroup",
                                  USER, "fsGroup", USER, "seccompProfile", "type", "RuntimeDefault"));
    json_object_set_new(pod, "nodeSelector", json_pack("{s:s}", "kubernetes.io/os", "linux"));
    json_object_set_new(pod, "containers", json_pack("[o]", container(i)));
    json_object_set_new(pod, "volumes",
                        json_pack("[{s:s, s:{s:s, s:i}}, {s:s, s:{s:s}}]", "name", "certs", "secret", "secretName",
                                  name, "defaultMode", 0440, "name", "config", "configMap", "name", i->policy.app));
    json_object_set_new(o, "spec",
                        json_pack("{s:i, s:{s:o}, s:{s:o, s:o}}", "replicas", 2, "selector", "matchLabels", selector(i),
                                  "template", "metadata", pod_meta(i), "spec", pod));
    free(name);
    return o;
}

static json_t *service(const struct k8s_install *i)
{
    json_t *o = object("v1", "Service", meta(i, i->policy.app, i->policy.ns));

    json_object_set_new(o, "spec",
                        json_pack("{s:o, s:[{s:s, s:i, s:s}]}", "selector", selector(i), "ports", "name", "https",
                                  "port", 443, "targetPort", "https"));
    return o;
}

/* --- the configuration of the API server --- */

static json_t *expression(const char *key, const char *operator, json_t * values)
{
    json_t *e = json_pack("{s:s, s:s}", "key", key, "operator", operator);

    if (values)
        json_object_set_new(e, "values", values);
    return e;
}

/* A namespace can be told by its label from Kubernetes 1.21 on. */
static json_t *other_namespaces(const struct k8s_install *i)
{
    json_t *names = json_pack("[s, s]", "kube-system", "kube-node-lease");

    if (strcmp(i->policy.ns, "default") != 0)
        json_array_append_new(names, json_string(i->policy.ns));
    return expression("kubernetes.io/metadata.name", "NotIn", names);
}

static json_t *webhook(const struct k8s_install *i, const char *what, const char *bundle, json_t *namespaces,
                       json_t *objects)
{
    const struct k8s_policy *p = &i->policy;
    json_t *w = json_pack("{s:o}", "name", json_sprintf("%s.%s.%s.appscope.io", what, p->app, p->ns)), *client;

    client = json_pack("{s:{s:s, s:s, s:s, s:i}}", "service", "name", p->app, "namespace", p->ns, "path", "/mutate",
                       "port", 443);
    if (bundle)
        json_object_set_new(client, "caBundle", json_string(bundle));
    json_object_set_new(w, "admissionReviewVersions", json_pack("[s]", "v1"));
    json_object_set_new(w, "clientConfig", client);
    json_object_set_new(w, "rules",
                        json_pack("[{s:[s], s:[s], s:[s], s:[s], s:s}, {s:[s], s:[s], s:[s], s:[s], s:s}]", "apiGroups",
                                  "", "apiVersions", "v1", "resources", "pods", "operations", "CREATE", "scope",
                                  "Namespaced", "apiGroups", "", "apiVersions", "v1", "resources",
                                  "pods/ephemeralcontainers", "operations", "UPDATE", "scope", "Namespaced"));
    json_object_set_new(w, "namespaceSelector", json_pack("{s:o}", "matchExpressions", namespaces));
    json_object_set_new(w, "objectSelector", json_pack("{s:o}", "matchExpressions", objects));
    json_object_set_new(w, "failurePolicy", json_string("Ignore"));
    json_object_set_new(w, "timeoutSeconds", json_integer(2));
    json_object_set_new(w, "reinvocationPolicy", json_string("IfNeeded"));
    json_object_set_new(w, "matchPolicy", json_string("Equivalent"));
    json_object_set_new(w, "sideEffects", json_string("None"));
    return w;
}

/* Two, as the API server asks for both selectors: one for all pods of a namespace with the label, but for those whose
 * label says otherwise; one for pods with the label elsewhere. */
static json_t *webhook_configuration(const struct k8s_install *i, const char *bundle)
{
    json_t *m, *o, *some, *pods;
    char *name = xasprintf("%s.%s.appscope.io", i->policy.app, i->policy.ns);

    m = meta(i, name, NULL);
    if (i->cert_manager)
        json_object_set_new(
            m, "annotations",
            json_pack("{s:o}", "cert-manager.io/inject-ca-from", json_sprintf("%s/%s", i->policy.ns, i->policy.app)));
    o = object("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", m);
    some = webhook(i, "namespaces", bundle,
                   json_pack("[o, o]", other_namespaces(i), expression(OPT_IN, "In", json_pack("[s]", OPTED_IN))),
                   json_pack("[o]", expression(OPT_IN, "NotIn", json_pack("[s]", "disabled"))));
    pods = webhook(i, "pods", bundle,
                   json_pack("[o, o]", other_namespaces(i), expression(OPT_IN, "NotIn", json_pack("[s]", OPTED_IN))),
                   json_pack("[o]", expression(OPT_IN, "In", json_pack("[s]", OPTED_IN))));
    json_object_set_new(o, "webhooks", json_pack("[o, o]", some, pods));
    free(name);
    return o;
}

json_t *k8s_webhook_objects(const struct k8s_install *i)
{
    json_t *list = json_array();
    struct k8s_pair ca = {0};
    char *bundle = NULL;

    if (!i->cert_manager) {
        char *name = xasprintf("%s-ca", i->policy.app), *domain = xasprintf("%s.svc", i->policy.ns);
        int rc = k8s_ca_make(name, domain, &ca);

        free(name);
        free(domain);
        if (rc < 0) {
            json_decref(list);
            return NULL;
        }
        bundle = xmalloc(strlen(ca.cert) / 3 * 4 + 5);
        EVP_EncodeBlock((unsigned char *)bundle, (const unsigned char *)ca.cert, (int)strlen(ca.cert));
    }
    if (strcmp(i->policy.ns, "default") != 0)
        json_array_append_new(list, namespace(i, false));
    json_array_append_new(list, config_map(i));
    if (i->cert_manager)
        cert_manager(i, list);
    else
        json_array_append_new(list, secret(i, &ca));
    json_array_append_new(list, deployment(i));
    json_array_append_new(list, service(i));
    json_array_append_new(list, webhook_configuration(i, bundle));
    k8s_pair_clear(&ca);
    free(bundle);
    return list;
}

/* --- each node --- */

/* What is set apart for a node, and is the same for all of them: nothing is observed yet. */
#define RULES \
    "# Programs of all nodes, and of their containers, that are observed (docs/host.md):\n" \
    "#   allow:\n" \
    "#   - procname: nginx\n" \
    "allow: []\n"

json_t *k8s_daemon_objects(const struct k8s_install *i)
{
    json_t *list = json_array(), *o, *c, *pod, *about = pod_meta(i);

    if (strcmp(i->policy.ns, "default") != 0)
        json_array_append_new(list, namespace(i, true));
    o = config_map(i);
    json_object_set_new(json_object_get(o, "data"), "rules.yml", json_string(RULES));
    json_array_append_new(list, o);
    c = json_pack("{s:s, s:s, s:[s], s:[s, s, s, s, s, s]}", "name", i->policy.app, "image", i->policy.image, "command",
                  K8S_IMAGE_SCOPE, "args", "k8s", "--node", "--rootdir", HOSTFS, "--configdir", CONFIG);
    json_object_set_new(
        c, "resources",
        json_pack("{s:{s:s, s:s}, s:{s:s}}", "requests", "cpu", "10m", "memory", "32Mi", "limits", "memory", "256Mi"));
    /* It goes into the node's namespaces and out of its own control groups (setns(2), cgroups(7)), starts a service
     * there, and traces programs of anybody: what keeps containers from that is switched off by this alone. */
    json_object_set_new(c, "securityContext",
                        json_pack("{s:b, s:b, s:i}", "privileged", 1, "readOnlyRootFilesystem", 1, "runAsUser", 0));
    json_object_set_new(c, "volumeMounts",
                        json_pack("[{s:s, s:s}, {s:s, s:s, s:b}]", "name", "hostfs", "mountPath", HOSTFS, "name",
                                  "config", "mountPath", CONFIG, "readOnly", 1));
    /* hostPID: to meet the node's processes. hostNetwork: the node's collector is scraped at the node's address. */
    pod = json_pack("{s:b, s:b, s:b, s:b, s:i, s:{s:s}, s:[{s:s}], s:[o]}", "automountServiceAccountToken", 0,
                    "enableServiceLinks", 0, "hostPID", 1, "hostNetwork", 1, "terminationGracePeriodSeconds", 120,
                    "nodeSelector", "kubernetes.io/os", "linux", "tolerations", "operator", "Exists", "containers", c);
    json_object_set_new(pod, "volumes",
                        json_pack("[{s:s, s:{s:s, s:s}}, {s:s, s:{s:s}}]", "name", "hostfs", "hostPath", "path", "/",
                                  "type", "Directory", "name", "config", "configMap", "name", i->policy.app));
    if (i->scraped) {
        json_t *a = json_object_get(about, "annotations");

        json_object_set_new(a, "prometheus.io/scrape", json_string("true"));
        json_object_set_new(a, "prometheus.io/port", json_sprintf("%u", i->scraped));
        json_object_set_new(a, "prometheus.io/path", json_string("/metrics"));
    }
    o = object("apps/v1", "DaemonSet", meta(i, i->policy.app, i->policy.ns));
    json_object_set_new(o, "spec",
                        json_pack("{s:{s:o}, s:{s:o, s:o}}", "selector", "matchLabels", selector(i), "template",
                                  "metadata", about, "spec", pod));
    json_array_append_new(list, o);
    return list;
}

char *k8s_file_name(const json_t *object)
{
    const char *kind = json_string_value(json_object_get(object, "kind"));
    const char *name = json_string_value(json_object_get(json_object_get(object, "metadata"), "name"));
    char *text = xasprintf("%s-%s.yaml", kind, name);

    for (char *c = text; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    return text;
}
