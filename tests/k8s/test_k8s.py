# SPDX-License-Identifier: Apache-2.0
"""`scope k8s`: the manifests, and the webhook over HTTPS. Patches are applied by a library of others; what comes out is
valid by Kubernetes' own description of its API, and has everything that went in."""

import base64
import contextlib
import copy
import functools
import json
import os
import re
import signal
import socket
import ssl
import stat
import time
from pathlib import Path

from needed import needed
from otlp import Receiver
from scopetest import Skip, check, equal, test
from webhook import NAME, Webhook, certificate, manifests, response_of, review_of, valid

jsonpatch = needed("jsonpatch")
yaml = needed("yaml")


@functools.lru_cache(None)
def pods():
    return yaml.safe_load((Path(__file__).parent / "pods.yaml").read_text())


LIB, EXE, CONF = "/opt/appscope/libscope.so", "/opt/appscope/scope", "/opt/appscope-config/scope.yml"
ALWAYS = {"SCOPE_TAG_namespace", "SCOPE_TAG_pod_name", "SCOPE_TAG_node_name", "SCOPE_TAG_container_name", "APPSCOPE_POD_UID",
          "SCOPE_OTLP_RESOURCE", "SCOPE_CONF_PATH", "SCOPE_EXEC_PATH", "LD_PRELOAD"}
LISTS = ("containers", "initContainers", "ephemeralContainers")


def pod_of(case):
    return {"apiVersion": "v1", "kind": "Pod", **copy.deepcopy(case["pod"])}


def containers(pod, *lists):
    return {c["name"]: c for kind in lists or LISTS[:2] for c in pod["spec"].get(kind) or []}


def environment(container):
    """Values by name: the last one counts. valueFrom as it is."""
    return {e["name"]: e.get("valueFrom") or e.get("value", "") for e in container.get("env") or []}


def kept(old, new, where="pod"):
    """Fails if anything of old isn't in new: members, and items of lists in their order."""
    if isinstance(old, dict):
        check(isinstance(new, dict), f"{where} is another thing", new)
        for name, value in old.items():
            check(name in new, f"{where}: {name} is gone")
            if value is None:
                continue
            if where.endswith(".env[]") and old["name"] == "LD_PRELOAD" and name == "value":
                check(new[name].endswith(value), f"{where}: {value} isn't preloaded any more", new)
            else:
                kept(value, new[name], f"{where}.{name}")
    elif isinstance(old, list):
        rest = iter(new)
        for item in old:
            named = isinstance(item, dict) and next((k for k in ("name", "mountPath") if k in item and (k == "name" or "name" not in old[0] or "mountPath" in item)), None)
            key = "mountPath" if named and "mountPath" in item else named
            found = next((n for n in rest if (n.get(key) == item[key] if key else n == item)), None)
            check(found is not None, f"{where}: {item} is gone, or at another place")
            if key:
                kept(item, found, f"{where}[]")
    else:
        equal(new, old, where)


def once(pod):
    """Nothing is there twice that may be there once."""
    names = [v["name"] for v in pod["spec"].get("volumes") or []]
    equal(len(names), len(set(names)), "names of volumes")
    names = list(containers(pod, *LISTS))
    equal(len(names), sum(len(pod["spec"].get(k) or []) for k in LISTS), "names of containers")
    for c in containers(pod, *LISTS).values():
        at = [m["mountPath"].rstrip("/") for m in c.get("volumeMounts") or []]
        equal(len(at), len(set(at)), f"places of {c['name']}")


def restricted(pod):
    """What Pod Security's "restricted" asks for (Kubernetes documentation, "Pod Security Standards")."""
    whole = pod["spec"].get("securityContext") or {}
    for c in containers(pod).values():
        own = {**{k: whole[k] for k in ("runAsNonRoot", "runAsUser", "seccompProfile") if k in whole}, **(c.get("securityContext") or {})}
        check(own.get("runAsNonRoot") is True and own.get("runAsUser") != 0, f"{c['name']} may be root", own)
        check(own.get("allowPrivilegeEscalation") is False and not own.get("privileged"), f"{c['name']} may get more", own)
        check("ALL" in own["capabilities"]["drop"] and not own["capabilities"].get("add"), f"{c['name']} has capabilities", own)
        check(own.get("seccompProfile", {}).get("type") in ("RuntimeDefault", "Localhost"), f"{c['name']} is unconfined", own)
    for v in pod["spec"].get("volumes") or []:
        check(set(v) - {"name"} <= {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected",
                                    "secret"}, "such volumes are forbidden", v)


def observed_as_it_should_be(case, pod, lib=LIB, exe=EXE):
    for name, c in containers(pod).items():
        env, own = environment(c), case.get("own", {}).get(name, {})
        if name not in case["observed"]:
            check(lib not in str(env.get("LD_PRELOAD")) and "SCOPE_TAG_pod_name" not in env, f"{name} is observed", c)
            continue
        equal(str(env["LD_PRELOAD"]).split(":")[0], lib, f"first preloaded library of {name}")
        check(ALWAYS <= set(env), f"variables of {name}", ALWAYS - set(env))
        equal({k: env[k] for k in own}, own, f"own settings of {name}")
        equal(env["SCOPE_CONF_PATH"], own.get("SCOPE_CONF_PATH", CONF), "configuration")
        equal((env["SCOPE_EXEC_PATH"], env["SCOPE_TAG_container_name"]), (exe, name), f"settings of {name}")
        equal(env["SCOPE_TAG_pod_name"], {"fieldRef": {"fieldPath": "metadata.name"}}, "pod")
        equal({k.removeprefix("SCOPE_TAG_"): v for k, v in env.items() if k.startswith("SCOPE_TAG_") and k.removeprefix("SCOPE_TAG_")
               not in ("namespace", "pod_name", "node_name", "container_name")}, case.get("tags", {}), f"tags of {name}")
        equal(env["SCOPE_OTLP_RESOURCE"], "k8s.namespace.name=$(SCOPE_TAG_namespace),k8s.pod.name=$(SCOPE_TAG_pod_name),"
              f"k8s.pod.uid=$(APPSCOPE_POD_UID),k8s.node.name=$(SCOPE_TAG_node_name),k8s.container.name={name}" + case.get("resource", ""),
              f"attributes of {name}")
        order = [e["name"] for e in c["env"]]  # a $(NAME) is replaced if NAME stands before
        check(all(order.index(n) < order.index("SCOPE_OTLP_RESOURCE") for n in ("SCOPE_TAG_namespace", "APPSCOPE_POD_UID")), "order", order)
        mounts = {m["mountPath"]: m for m in c["volumeMounts"]}
        check(all(mounts[p].get("readOnly") for p in ("/opt/appscope", "/opt/appscope-config")), f"mounts of {name}", mounts)
    if case.get("scraped", "") is None:
        check(not any("SCOPE_METRIC_DEST" in environment(c) for c in containers(pod).values()) and "prometheus.io/port" not in pod["metadata"]["annotations"],
              "metrics are scraped", pod)
        return
    ports = {n: int(environment(c)["SCOPE_METRIC_DEST"].rsplit(":", 1)[1]) for n, c in containers(pod).items() if n in case["observed"]}
    equal(len(set(ports.values())), len(ports), f"ports {ports}")
    equal({n: p for n, p in ports.items() if n in case.get("ports", {})}, case.get("ports", {}), "ports")
    annotations = pod["metadata"]["annotations"] or {}
    equal(annotations["prometheus.io/port"], case.get("scraped", str(next((ports[n] for n in containers(pod, "containers") if n in ports), ""))), "port to scrape")
    equal(pod["metadata"]["labels"]["appscope.dev/scope"], "true", "label")


def qos(pod):
    """The pod's class (Kubernetes documentation, "Pod Quality of Service Classes")."""
    amounts = [c.get("resources") or {} for c in containers(pod).values()]
    if not any(a.get("requests") or a.get("limits") for a in amounts):
        return "BestEffort"
    same = all({"cpu", "memory"} <= set(a.get("limits") or {}) and (a.get("requests") or a["limits"]) == a["limits"] for a in amounts)
    return "Guaranteed" if same else "Burstable"


def prepared(case, pod):
    """Our init container comes first, and may do next to nothing."""
    init = pod["spec"]["initContainers"][0]
    equal((init["name"], init["command"]), ("appscope-init", ["/usr/local/bin/scope", "extract", "/opt/appscope"]), "first init container")
    restricted({"spec": {"initContainers": [init]}})
    check(init["securityContext"]["readOnlyRootFilesystem"], "init container", init)
    first = {k: {n: a for n, a in v.items() if n in ("cpu", "memory")} for k, v in case["pod"]["spec"]["containers"][0].get("resources", {}).items()}
    equal(init.get("resources", {}), case.get("resources", {k: v for k, v in first.items() if v}), "requests and limits: those of the first container")
    equal(qos(pod), qos(case["pod"]), "class")
    equal(init["securityContext"]["runAsUser"], case.get("user", 65532), "its user")


@test(timeout=120)
def patches(ctx):
    """Some 30 pods: who is observed, with what; what was there stays, once more changes nothing."""
    hook = Webhook(ctx)
    connection = hook.http()
    out = []
    for case in pods():
        pod = pod_of(case)
        new, patch = hook.review(copy.deepcopy(pod), connection, case.get("warnings", 0))
        try:
            check(all(o["op"] == "add" for o in patch), "only additions", patch)
            kept(pod, new)
            equal(new["spec"].get("ephemeralContainers"), pod["spec"].get("ephemeralContainers"), "ephemeral containers")
            if not case["observed"]:
                equal(patch, [], "patch")
                continue
            once(new)
            observed_as_it_should_be(case, new)
            prepared(case, new)
            if case.get("restricted"):
                restricted(new)
            again, patch = hook.review(new, connection, case.get("warnings", 0))
            equal(patch, [], "a second patch")
            out += [new] if case.get("valid", True) else []
        except Exception as e:
            raise AssertionError(f"the pod {case['name']}: {e}") from e
    valid(ctx, out)
    equal(hook.counters()['scope_webhook_reviews_total{result="malformed"}'], "0", "malformed reviews")


@test(timeout=90)
def image_volumes(ctx):
    """On request the image is mounted, and there is no init container."""
    hook = Webhook(ctx, "--imagevolume", "--image", "registry.example.org/scope:1")
    connection = hook.http()
    out = []
    for case in pods():
        pod = pod_of(case)
        new, _ = hook.review(copy.deepcopy(pod), connection, case.get("warnings", 0))
        kept(pod, new)
        equal(new["spec"].get("initContainers") is None, pod["spec"].get("initContainers") is None, "init containers")
        if case["observed"]:
            once(new)
            observed_as_it_should_be(case, new, "/opt/appscope/usr/local/lib/libscope.so", "/opt/appscope/usr/local/bin/scope")
            volume = next(v for v in new["spec"]["volumes"] if v["name"] == "appscope")
            equal(volume["image"], {"reference": "registry.example.org/scope:1", "pullPolicy": "IfNotPresent"}, "volume")
            equal(hook.review(new, connection, case.get("warnings", 0))[1], [], "a second patch")
            out += [new] if case.get("valid", True) else []
    valid(ctx, out)


@test(timeout=90)
def reinvocation(ctx):
    """Containers that other webhooks add behind us are observed, too, but those that run before our init container."""
    hook = Webhook(ctx)
    pod, _ = hook.review(pod_of(pods()[0]))
    before = copy.deepcopy(pod)
    pod["spec"]["initContainers"].insert(0, {"name": "early", "image": "x"})
    pod["spec"]["initContainers"].append({"name": "late", "image": "x"})
    pod["spec"]["containers"].append({"name": "proxy", "image": "x"})
    new, patch = hook.review(copy.deepcopy(pod))
    kept(pod, new)
    once(new)
    touched = {o["path"].rsplit("/", 1)[0] if o["path"].endswith("-") else o["path"] for o in patch}
    equal({"/".join(t.split("/")[:4]) for t in touched}, {"/spec/containers/1", "/spec/initContainers/2"}, "what is touched")
    equal(new["spec"]["containers"][0], before["spec"]["containers"][0], "the container that was observed already")
    valid(ctx, [new])
    equal(hook.review(new)[1], [], "a second patch")


@test(timeout=90)
def ephemeral_containers(ctx):
    """A debugger that comes into an observed pod is observed; nothing else of the pod is touched."""
    hook = Webhook(ctx)
    old, _ = hook.review(pod_of(pods()[0]))
    old["spec"]["ephemeralContainers"] = [{"name": "first", "image": "busybox"}]
    new = copy.deepcopy(old)
    new["spec"]["ephemeralContainers"].append({"name": "second", "image": "busybox", "targetContainerName": "web"})
    how = {"operation": "UPDATE", "sub": "ephemeralcontainers", "old": old}
    got, patch = hook.review(copy.deepcopy(new), **how)
    check(patch and all(o["path"].startswith("/spec/ephemeralContainers/1/") for o in patch), "patch", patch)
    kept(new, got)
    once(got)
    valid(ctx, [got])
    env = environment(got["spec"]["ephemeralContainers"][1])
    equal((env["LD_PRELOAD"], env["SCOPE_METRIC_DEST"]), (LIB, "prometheus://0.0.0.0:9110"), "variables")
    equal(hook.review(got, **how)[1], [], "a second patch")
    # Not those of a pod that isn't observed, and no other change of a pod.
    bare = pod_of(pods()[0])
    bare["spec"]["ephemeralContainers"] = [{"name": "first", "image": "busybox"}]
    equal(hook.review(bare, operation="UPDATE", sub="ephemeralcontainers", old=pod_of(pods()[0]))[1], [], "pod that isn't observed")
    for request in ({"operation": "UPDATE"}, {"operation": "DELETE"}, {"sub": "status"}, {"operation": "CREATE", "sub": "eviction"}):
        equal(hook.review(pod_of(pods()[0]), **request)[1], [], f"patch of {request}")


@test(timeout=90)
def namespaces(ctx):
    """A configuration for each namespace by a ConfigMap, which may change; the last good one stays in force."""
    directory = ctx.dir / "config"
    directory.mkdir()
    common, shop = directory / "scope.yml", directory / "shop.scope.yml"
    common.write_text("event:\n  enable: false\nmetric:\n  transport: {type: udp, host: statsd, port: 8125}\n")
    shop.write_text("metric: {transport: {type: prometheus, host: '::', port: 9200}}\n")
    hook = Webhook(ctx, "--configdir", directory)

    def config(namespace):
        pod, _ = hook.review(pod_of(pods()[0]), namespace=namespace)
        return pod["metadata"]["annotations"], environment(pod["spec"]["containers"][0]).get("SCOPE_METRIC_DEST")

    equal(config("other"), ({"appscope.dev/config": common.read_text()}, None), "of others")
    annotations, dest = config("shop")
    equal((annotations["appscope.dev/config"], annotations["prometheus.io/port"], dest), (shop.read_text(), "9200", "prometheus://[::]:9200"), "of shop")
    for left_alone in ("kube-system", "appscope"):
        equal(hook.review(pod_of(pods()[0]), namespace=left_alone)[1], [], f"pod of {left_alone}")
    good = common.read_text()
    for bad in ("metric: [", "x" * 70000, "a: \0"):
        said = hook.log().count("scope.yml is not used") + hook.log().count("more than") + hook.log().count("it is no text")
        common.write_text(bad)
        ctx.wait_for(lambda: hook.log().count("scope.yml is not used") + hook.log().count("more than") + hook.log().count("it is no text") > said,
                     "the bad file is told")
        equal(config("other")[0]["appscope.dev/config"], good, "the last good one")
    common.write_text("event: {enable: true}\n")
    ctx.wait_for(lambda: config("other")[0]["appscope.dev/config"] == "event: {enable: true}\n", "the new one is in force")
    shop.unlink()
    ctx.wait_for(lambda: config("shop") == config("other"), "shop has the common one")
    check(int(hook.counters()['scope_webhook_failures_total{reason="files"}']) >= 3, "not counted", hook.counters())


def cpu(hook):
    """Seconds of CPU time that the webhook has used: not those that others had."""
    fields = Path(f"/proc/{hook.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def paths(value, at=()):
    yield at
    for name, child in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from paths(child, (*at, name))


def replaced(value, at, by):
    """Another value; what isn't on the way to the replaced one is shared with the first."""
    if not at:
        return by
    value = copy.copy(value)
    value[at[0]] = replaced(value[at[0]], at[1:], by)
    return value


@test(timeout=180)
def hostile_reviews(ctx):
    """Whatever comes, an AdmissionReview goes back that allows the pod, and the webhook goes on."""
    hook = Webhook(ctx)
    connection = hook.http()
    good = json.dumps(review_of(pod_of(pods()[1]))).encode()
    uid = review_of({})["request"]["uid"]
    for body in (b"", b"{", b"null", b"[]", b"1", b"\xff\xfe", b"\0" * 100, b"{}", b'{"kind":"AdmissionReview"}', b"[" * 100000,
                 b'{"a":' * 100000, good[:-1], good + b"x", good.replace(b"AdmissionReview", b"Other"), good.replace(uid.encode(), b""),
                 good.replace(uid.encode(), b"x" * 300), good.replace(b'"uid": "', b'"uid": "\xff'), b'{"uid":"' + b"a" * 100):
        r = hook.response(body, connection)
        check("patch" not in r and len(r["warnings"]) == 1 and len(r["uid"]) <= 256, f"{body[:50]!r}", r)
    malformed = int(hook.counters()['scope_webhook_reviews_total{result="malformed"}'])
    equal(malformed, 18, "malformed reviews")
    # 10 MB, and more than can be: the beginning says whose it is.
    start = b'{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"' + uid.encode() + b'","x":"'
    for size in (4 << 20, 10 << 20, 60 << 20):
        equal(hook.response(start + b"x" * size + b'"}}', connection)["uid"], uid, f"uid of {size} bytes")
    equal(hook.counters()['scope_webhook_reviews_total{result="too_large"}'], "3", "reviews that are too large")
    # As large as can be: what the API server would refuse for what is added, it shall have as it is.
    for size, patches in ((200 << 10, True), (256 << 10, False), (3 << 20, False)):
        pod = pod_of(pods()[0])
        pod["metadata"]["annotations"] = {"note": "x" * size}
        equal(bool(hook.review(pod, connection, 0 if patches else 1)[1]), patches, f"annotations of {size} bytes")
    for count, extra, patches in ((250, 0, True), (500, 1 << 20, False), (2000, 0, False)):
        pod = pod_of(pods()[0])
        pod["spec"]["containers"] = [{"name": f"c{i}", "image": "x"} for i in range(count)]
        pod["spec"]["hostname"] = "x" * extra
        r = hook.response(json.dumps(review_of(pod)).encode(), connection)
        equal("patch" in r, patches, f"{count} containers")
        check(1 - patches <= len(r.get("warnings", [])) <= 8, "warnings", r.get("warnings"))
    # Many of what is looked through again and again: none of it takes long.
    cases = [
        {"metadata": {"labels": {f"app.kubernetes.io/{i}": "" for i in range(100000)}}, "spec": {"containers": [{"name": f"c{i}", "image": "x"} for i in range(500)]}},
        {"metadata": {}, "spec": {"containers": [{"name": "x", "image": "x", "env": [{"name": f"v{i}"} for i in range(150000)]}]}},
        {"metadata": {"annotations": {"appscope.dev/containers": "x," * 125000}}, "spec": {"containers": [{"name": f"c{i}", "image": "x"} for i in range(500)]}},
        {"metadata": {}, "spec": {"containers": [{"name": "x", "image": "x", "volumeMounts": [{"name": "v", "mountPath": "/a/.." * 5 + str(i)} for i in range(50000)]}]}},
        {"metadata": {}, "spec": {"containers": [{"name": f"x{i}", "image": "x", "ports": [{"containerPort": p} for p in range(9109, 9509)]} for i in range(200)]}},
    ]
    for case in cases:
        before = cpu(hook)
        hook.response(json.dumps(review_of(case)).encode(), connection)
        check(cpu(hook) - before < 1.5, f"takes {cpu(hook) - before} s of CPU time", list(case["metadata"]), list(case["spec"]["containers"][0]))
    old, _ = hook.review(pod_of(pods()[0]), connection)
    old["spec"]["ephemeralContainers"] = [{"name": f"e{i}", "image": "x"} for i in range(30000)]
    before = cpu(hook)
    hook.response(json.dumps(review_of(old, "UPDATE", sub="ephemeralcontainers", old=old)).encode(), connection)
    check(cpu(hook) - before < 1.5, "ephemeral containers take too long")
    # Each member of reviews and pods as something that it never is.
    pod = pod_of(pods()[1])
    pod["spec"].update(pod_of(pods()[7])["spec"])
    whole = review_of(pod)
    for at in paths(whole):
        for by in (None, "\u202e", [], {}, [None]):
            body = json.dumps(replaced(whole, at, by)).encode()
            r = hook.response(body, connection)
            if "patch" in r:  # it can be applied
                jsonpatch.apply_patch(json.loads(body)["request"]["object"], json.loads(base64.b64decode(r["patch"])), in_place=True)
    check(hook.review(pod_of(pods()[0]), connection)[1], "it doesn't patch any more")
    check(hook.process.poll() is None, "it ended", hook.log())


def raw(hook, data):
    """What comes back for bytes over TLS until the end of the connection."""
    with hook.connect() as s:
        s.sendall(data)
        got = b""
        while True:
            try:
                more = s.recv(65536)
            except (ssl.SSLEOFError, ConnectionResetError):
                break
            if not more:
                break
            got += more
    return got


@test(timeout=90)
def hostile_http(ctx):
    """Requests that are none get an AdmissionReview and the end of the connection; others don't notice."""
    hook = Webhook(ctx)
    good = json.dumps(review_of(pod_of(pods()[0]))).encode()
    head = b"POST /mutate HTTP/1.1\r\nHost: x\r\n"
    for request, status in ((b"\x16\x03\x01 nonsense\r\n\r\n", 400), (b"GET\r\n\r\n", 400), (b"GET / HTTP/2.0\r\n\r\n", 400),
                            (b"PUT /mutate HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 405), (head + b"\r\n", 411),
                            (head + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411), (head + b"Content-Length: -1\r\n\r\n", 400),
                            (head + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400), (head + b"Content-Length : 1\r\n\r\nx", 400),
                            (head + b"Content-Length: 99999999999999999999\r\n\r\n", 400), (head + b"Content-Length: 99999999999\r\n\r\n", 413),
                            (head + b"\0: x\r\n\r\n", 400), (head + b"novalue\r\n\r\n", 400), (head + b"X: " + b"a" * 20000 + b"\r\n\r\n", 431),
                            (b"A" * 20000, 431)):
        answer = raw(hook, request)
        line, _, rest = answer.partition(b"\r\n")
        equal(line.split()[1], str(status).encode(), f"status of {request[:60]!r}")
        check(b"connection: close" in rest.lower(), "the connection stays open", answer)
        response_of(rest.partition(b"\r\n\r\n")[2])
    # Several at once, in pieces, with what HTTP allows.
    request = head + b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(good) + good
    answer = raw(hook, b"\r\n" + request * 3 + b"GET /healthz HTTP/1.0\r\n\r\n")
    equal(answer.count(b"HTTP/1.1 100 Continue\r\n\r\n"), 3, "continuations")
    equal((answer.count(b'"patch":'), answer.count(b"\r\n\r\nok\n")), (3, 1), "answers")
    with hook.connect() as s:
        for i in range(0, len(request), 97):
            s.sendall(request[i:i + 97])
        check(b"200 OK" in s.recv(65536) + s.recv(65536), "no answer to a request in pieces")
    for path, status in (("/", 404), ("/mutate?timeout=2s", 405), ("/healthz", 200), ("/x" * 200, 404)):
        hook.ask(None, path, method="GET", status=status)
    check(b"patch" in hook.ask(good, "/mutate?timeout=2s"), "a path with a query")
    # No TLS, half of TLS, none of it.
    for data in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"\0" * 5000):
        with socket.create_connection(("127.0.0.1", hook.port)) as s:
            s.sendall(data)
    # More connections than it keeps: those that say nothing go first.
    idle = [socket.create_connection(("127.0.0.1", hook.port)) for _ in range(300)]
    check(hook.review(pod_of(pods()[0]))[1], "no patch beside 300 connections")
    for s in idle:
        s.close()
    counters = hook.counters()
    check(int(counters['scope_webhook_failures_total{reason="http"}']) >= 15, "not counted", counters)
    check(int(counters['scope_webhook_failures_total{reason="too_many_connections"}']) >= 1, "not counted", counters)
    check(int(counters['scope_webhook_failures_total{reason="tls"}']) >= 1, "not counted", counters)
    check(hook.process.poll() is None, "it ended", hook.log())


@test(timeout=120)
def hostile_network(ctx):
    """Somebody in the cluster's network opens thousands of connections, asks for all memory, says things slowly or in other
    protocols: what the API server has open stays, and is answered."""
    hook = Webhook(ctx)
    keep = hook.http()
    check(hook.review(pod_of(pods()[0]), keep)[1], "no patch")
    slow = [hook.connect() for _ in range(3)]
    slow[0].sendall(b"POST /mutate HTTP/1.1\r\nX: ")
    slow[1].sendall(b"POST /mutate HTTP/1.1\r\nContent-Length: 1000\r\n\r\n{")
    slow[2].sendall(b"\r\n")
    began = time.monotonic()
    # As many bodies as may be held, of which nothing comes.
    greedy = [hook.connect() for _ in range(40)]
    for s in greedy:
        s.sendall(b"POST /mutate HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (4 << 20))
    hook.counters()  # what was sent before has been read
    check(hook.review(pod_of(pods()[0]), keep)[1], "no patch beside bodies that don't come")
    for preface in (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), b"GET / HTTP/0.9\r\n\r\n", b"SSH-2.0-x\r\n\r\n"):
        answer = raw(hook, preface)
        check(answer.startswith(b"HTTP/1.1 400 "), "answer", answer)
    flood = []
    for i in range(3000):
        flood.append(socket.create_connection(("127.0.0.1", hook.port), source_address=("127.0.0.2", 0)))
        if i % 5 == 0:
            flood[-1].sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200))
        if len(flood) > 400:
            flood.pop(0).close()
    before = cpu(hook)
    check(hook.review(pod_of(pods()[0]), keep)[1], "no patch beside a flood of connections")
    check(hook.review(pod_of(pods()[0]))[1], "no new connection beside it")
    check(cpu(hook) - before < 1, "it is busy")
    for s in slow[:2]:
        s.settimeout(120)
        try:
            equal(s.recv(1), b"", "what is said to who is slow")
        except (ConnectionResetError, ssl.SSLEOFError):
            pass
    check(time.monotonic() - began > 5, "not even a moment")
    for s in greedy + flood + slow:
        s.close()
    counters = hook.counters()
    check(int(counters['scope_webhook_failures_total{reason="timeout"}']) >= 2, "not counted", counters)
    check(int(counters['scope_webhook_failures_total{reason="too_many_connections"}']) >= 1000, "not counted", counters)
    memory = int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{hook.process.pid}/status").read_text())[1])
    check(memory < 128 << 10, f"it has used {memory} KiB")


@test(timeout=90)
def certificates(ctx):
    """The webhook serves what is in its files now; what can't be used doesn't take the place of what can."""
    certificate(ctx.dir)
    hook = Webhook(ctx, "--certfile", ctx.dir / "tls.crt", "--keyfile", ctx.dir / "tls.key", ca=False)
    hook.ca = ctx.dir / "tls.crt"
    keep = hook.http()
    check(hook.review(pod_of(pods()[0]), keep)[1], "no patch")
    old = (ctx.dir / "tls.crt").read_text()
    (ctx.dir / "tls.crt").write_text("nonsense")
    ctx.wait_for(lambda: "can't load them" in hook.log(), "the bad certificate is told")
    (ctx.dir / "old.crt").write_text(old)
    hook.ca = ctx.dir / "old.crt"
    hook.connect().close()
    certificate(ctx.dir, file="new")
    for name in ("tls.key", "tls.crt"):  # as a kubelet exchanges files
        os.replace(ctx.dir / name.replace("tls", "new"), ctx.dir / name)
    hook.ca = ctx.dir / "tls.crt"
    ctx.wait_for(hook.is_trusted, "the new certificate is served")
    check(hook.review(pod_of(pods()[0]), keep)[1], "a connection that was there doesn't work any more")
    # A key of another certificate, no files at all, and one whose time is over.
    certificate(ctx.dir, file="other")
    certificate(ctx.dir, file="late", expired=True)
    for crt, key, word in (("tls.crt", "other.key", "can't load"), ("none", "none", "can't load"), ("late.crt", "late.key", "has expired")):
        result = ctx.run([ctx.scope, "k8s", "--server", "--port", "0", "--certfile", ctx.dir / crt, "--keyfile", ctx.dir / key])
        check(result.code == 1 and word in result.err.decode(), result.describe())


@test(timeout=90)
def own_ca(ctx):
    """By a CA the webhook makes its own certificate: for its name only, and anew when the CA changes."""
    hook = Webhook(ctx)
    with hook.connect() as s:
        cert = s.getpeercert()
    equal(cert["subjectAltName"], (("DNS", NAME),), "names")
    days = (ssl.cert_time_to_seconds(cert["notAfter"]) - ssl.cert_time_to_seconds(cert["notBefore"])) / 86400
    check(29 < days < 31, f"valid for {days} days")
    text = ctx.run([ctx.tool("openssl"), "x509", "-in", hook.ca, "-noout", "-text"], check_code=0).out.decode()
    check("CA:TRUE, pathlen:0" in text and "Permitted:" in text and "DNS:appscope.svc" in text, "CA", text)
    secret = next(o for o in manifests(ctx) if o["kind"] == "Secret")["stringData"]
    (ctx.dir / "ca.key").write_text(secret["ca.key"])
    hook.ca.write_text(secret["ca.crt"])
    ctx.wait_for(hook.is_trusted, "a certificate of the new CA")
    certificate(ctx.dir, file="late", expired=True)
    result = ctx.run([ctx.scope, "k8s", "--server", "--port", "0", "--cafile", ctx.dir / "late.crt", "--cakeyfile", ctx.dir / "late.key"])
    check(result.code == 1 and b"no CA that can sign now" in result.err, result.describe())
    (ctx.dir / "ca.key").write_text("nonsense")
    ctx.wait_for(lambda: "they are no CA that can sign now" in hook.log(), "the bad CA is told")
    check(hook.is_trusted(), "the last good one is gone")


@test(timeout=90)
def ends(ctx):
    """SIGINT: what is under way is answered, new connections are refused, and then it ends. SIGTERM: not at once."""
    hook = Webhook(ctx)
    body = json.dumps(review_of(pod_of(pods()[0]))).encode()
    idle = hook.http()
    hook.review(pod_of(pods()[0]), idle)
    with hook.connect() as s:
        s.sendall(b"POST /mutate HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:100])
        hook.counters()  # what was sent before has been read
        hook.process.send_signal(signal.SIGINT)

        def refused():
            try:
                socket.create_connection(("127.0.0.1", hook.port)).close()
                return False
            except ConnectionRefusedError:
                return True

        ctx.wait_for(refused, "the port is closed")
        s.sendall(body[100:])
        answer = b""
        while chunk := s.recv(65536):
            answer += chunk
    check(b'"patch":' in answer and b"Connection: close" in answer, "answer", answer[:300])
    equal(hook.process.wait(20), 0, "status")
    hook = Webhook(ctx)
    keep = hook.http()
    hook.review(pod_of(pods()[0]), keep)
    hook.process.send_signal(signal.SIGTERM)
    with contextlib.suppress(OSError):  # too late, on a busy machine
        while True:
            check(hook.review(pod_of(pods()[0]))[1], "no patch after SIGTERM")
    equal(hook.process.wait(20), 0, "status")


@test(timeout=90)
def restart(ctx):
    """Killed in the middle of a request, and started again at the same port: what it has patched it knows by the pod."""
    hook = Webhook(ctx)
    old, _ = hook.review(pod_of(pods()[0]))
    with hook.connect() as s:
        s.sendall(b"POST /mutate HTTP/1.1\r\nContent-Length: 1000\r\n\r\n{")
        hook.counters()  # what was sent before has been read
        hook.process.kill()
        hook.process.wait(20)
    again = Webhook(ctx, "--cafile", hook.ca, "--cakeyfile", ctx.dir / "ca.key", "--port", hook.port, ca=False)
    equal(again.port, hook.port, "port")
    equal(again.review(old)[1], [], "a second patch")
    equal(again.review(pod_of(pods()[0]))[0], old, "the pod")


@test()
def manifests_are_valid(ctx):
    """What is printed, in all its forms; what protects the cluster stands in it."""
    printed = []
    for flags in ((), ("--certmanager",), ("--namespace", "default", "--app", "x"), ("--imagevolume", "--debug"), ("-c", "tcp://h:10091", "-a", "to$HOME"),
                  ("-m", "udp://statsd.monitoring:8125", "-e", "tls://h:9000"), ("--otlp=grpc://otel:4317",), ("--noexporter", "-e", "tcp://h:1")):
        objects = manifests(ctx, *flags)
        printed += [o for o in objects if not o["apiVersion"].startswith("cert-manager.io")]
        kinds = [o["kind"] for o in objects]
        names = {(o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in objects}
        equal(len(names), len(objects), "names")
        check(not {"ClusterRole", "Role", "ClusterRoleBinding", "RoleBinding", "ServiceAccount"} & set(kinds), "rights in the cluster", kinds)
        own = "cert" not in "".join(flags)
        equal("Secret" in kinds, own, f"secret with {flags}")
        config = objects[kinds.index("MutatingWebhookConfiguration")]
        deployment = objects[kinds.index("Deployment")]
        restricted(deployment["spec"]["template"])
        for w in config["webhooks"]:
            equal((w["failurePolicy"], w["timeoutSeconds"], w["reinvocationPolicy"], w["sideEffects"], w["admissionReviewVersions"]),
                  ("Ignore", 2, "IfNeeded", "None", ["v1"]), "webhook")
            left_out = next(e for e in w["namespaceSelector"]["matchExpressions"] if e["key"] == "kubernetes.io/metadata.name")
            equal(left_out["operator"], "NotIn", "namespaces")
            check("kube-system" in left_out["values"] and ("appscope" in left_out["values"] or "default" in flags), "namespaces", left_out)
            equal("caBundle" in w["clientConfig"], own, "CA")
        equal("cert-manager.io/inject-ca-from" in config["metadata"].get("annotations", {}), not own, "annotation")
        # The server takes the arguments that it is given, and the configuration is one without mistakes.
        args = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
        result = ctx.run([ctx.scope, *args], env=ctx.env(PATH="/bin"))
        check(result.code == 1 and b"/etc/certs/" in result.err and b"unknown" not in result.err, result.describe())
        text = objects[kinds.index("ConfigMap")]["data"]["scope.yml"]
        (ctx.dir / "scope.yml").write_text(text)
        ctx.run([ctx.scope, "config", "check", ctx.dir / "scope.yml"], check_code=0)
        check("to$HOME" not in flags or yaml.safe_load(text)["cribl"]["authtoken"] == "to\\$HOME", "token", text)
    check(manifests(ctx)[2]["stringData"] != manifests(ctx)[2]["stringData"], "the same CA twice")
    directory = ctx.dir / "a/base"
    equal(ctx.run([ctx.scope, "k8s", "--kustomize", directory], check_code=0).out, b"", "output")
    kustomization = yaml.safe_load((directory / "kustomization.yaml").read_text())
    equal(sorted(kustomization["resources"] + ["kustomization.yaml"]), sorted(os.listdir(directory)), "files")
    valid(ctx, printed + [yaml.safe_load((directory / f).read_text()) for f in kustomization["resources"]])
    equal(stat.S_IMODE((directory / "secret-scope-secret.yaml").stat().st_mode), 0o600, "mode of the secret")


@test()
def usage(ctx):
    """Mistakes are refused with their reason, before anything is printed."""
    for flags, word in ((("--app", "A"), "--app"), (("--namespace", "a.b"), "--namespace"), (("--app", "x" * 41), "--app"), (("--port", "0"), "port"),
                        (("--promport", "x"), "promport"), (("--noexporter",), "--noexporter"), (("-m", "ftp://h"), "--metricdest"),
                        (("-c", "tcp://h:1", "-m", "udp://h:1"), "--cribldest"), (("--server", "--cafile", "x"), "--cakeyfile"),
                        (("--server", "--kustomize", "x"), "--kustomize"), (("x",), "x")):
        result = ctx.run([ctx.scope, "k8s", *flags])
        check(result.code == 2 and word in result.err.decode() and not result.out, result.describe())
    # Flags of the older tool.
    objects = manifests(ctx, "--app", "scope", "--namespace", "ns", "--signername", "kubernetes.io/kubelet-serving", "--version", "1.2",
                        "--certfile", "/x", "--keyfile", "/y", "--port", "4444", "--debug", "--promport", "9091", "-m", "udp://h:1", "-e", "tcp://h:2")
    container = next(o for o in objects if o["kind"] == "Deployment")["spec"]["template"]["spec"]["containers"][0]
    equal((container["image"], container["ports"][0]["containerPort"]), ("cribl/scope:1.2", 4444), "container")
    check("--debug" in container["args"], "arguments", container["args"])


def values(container, fields):
    """Environment of a container as a kubelet makes it: fields of the pod, and $(NAME) of variables that stand before."""
    env = {}
    for e in container["env"]:
        field = e.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
        env[e["name"]] = fields[field] if field else re.sub(r"\$\(([^)]+)\)", lambda m, so_far=dict(env): so_far.get(m[1], m[0]), e.get("value", ""))
    return env


@test(timeout=90)
def a_patched_pod_runs(ctx):
    """What a kubelet would do with a patched pod, done by hand: the init container's command as its user, volumes, variables,
    and the container with a read-only root, no capabilities and a user of its own. Its telemetry says where it comes from."""
    if os.geteuid():
        raise Skip("needs root, for other users")
    receiver = Receiver(ctx)
    hook = Webhook(ctx, f"--otlp=http://127.0.0.1:{receiver.port}")
    pod, _ = hook.review(pod_of(pods()[1]))
    init = pod["spec"]["initContainers"][0]
    library, config = ctx.dir / "library", ctx.dir / "config"
    library.mkdir()
    library.chmod(0o777)  # as an emptyDir is
    config.mkdir()
    (config / "scope.yml").write_text(pod["metadata"]["annotations"]["appscope.dev/config"])
    ctx.dir.chmod(0o755)

    def contained(uid, volume, argv, env=None):
        """In a root of its own, which is this machine's, read-only."""
        return ctx.run([ctx.tool("bwrap"), "--unshare-pid", "--as-pid-1", "--die-with-parent", "--ro-bind", "/usr", "/usr", "--symlink", "usr/lib", "/lib",
                        "--symlink", "usr/lib64", "/lib64", "--symlink", "usr/bin", "/bin", "--ro-bind", ctx.scope, "/tool/scope", "--dir", "/opt/appscope",
                        volume, library, "/opt/appscope", "--ro-bind", config, "/opt/appscope-config", "--proc", "/proc", "--dev", "/dev",
                        "--remount-ro", "/", "--cap-drop", "ALL", "--uid", uid, "--gid", uid, "--unshare-user", "--clearenv",
                        *(x for name, value in {"PATH": "/usr/bin", **(env or {})}.items() for x in ("--setenv", name, value)), "--", *argv], check_code=0)

    uid = init["securityContext"]["runAsUser"]
    equal(init["command"][0], "/usr/local/bin/scope", "scope in the image")
    contained(uid, "--bind", ["/tool/scope", *init["command"][1:]])
    web = pod["spec"]["containers"][0]
    fields = {"metadata.namespace": "shop", "metadata.name": "api-6f7d9c5b8-x2x4z", "metadata.uid": "0c8f", "spec.nodeName": "worker-1"}
    web["env"] = [e for e in web["env"] if "secretKeyRef" not in e.get("valueFrom", {})]
    result = contained(1001, "--ro-bind", ["/bin/sh", "-c", "cat /proc/self/maps | grep -c libscope; touch /x 2>/dev/null || echo read-only"],
                       values(web, fields))
    check(result.out.split()[0] != b"0" and result.out.endswith(b"read-only\n") and not result.err, result.describe())
    want = {"k8s.namespace.name": "shop", "k8s.pod.name": "api-6f7d9c5b8-x2x4z", "k8s.pod.uid": "0c8f", "k8s.node.name": "worker-1",
            "k8s.container.name": "api", "k8s.replicaset.name": "api-6f7d9c5b8", "namespace": "shop", "instance": "shop-api", "version": "1.4.2"}

    def told():
        of = [p["resource"] for p in receiver.points() if p["resource"].get("process.executable.name") == "cat"]
        return of and of[0]

    resource = ctx.wait_for(told, "metrics come to the receiver", 40)
    equal({k: resource.get(k) for k in want}, want, "attributes")
