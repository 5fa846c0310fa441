# SPDX-License-Identifier: Apache-2.0
"""Patched pods that run (tests/lib/pods.py): as the same pods that weren't patched, and observed."""

import json
import os
import threading

from image import Image
from otlp import Receiver
from pods import Pod, PodImage, image_of, libraries
from roots import make_root
from scopetest import check, equal, test
from webhook import Webhook

RESTRICTED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
NOBODY = {"runAsNonRoot": True, "runAsUser": 1001, "runAsGroup": 1001, "fsGroup": 2000, "seccompProfile": {"type": "RuntimeDefault"}}
OTLP = "--otlp=http://127.0.0.1:4318"
EVENTS = ("-e", "tcp://127.0.0.1:9109")


def scope_image(ctx):
    image = Image(ctx)
    how = image.config["config"]
    return PodImage(image.root, how["Entrypoint"], how.get("Cmd") or [], how["Env"], cwd=how["WorkingDir"])


class Events:
    """Takes event connections in the network of a pod."""

    def __init__(self, pod, port=9109):
        self.data, self.socket = {}, pod.listener(port)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            connection, peer = self.socket.accept()
            self.data[peer] = b""
            threading.Thread(target=self.read, args=(connection, peer), daemon=True).start()

    def read(self, connection, peer):
        with connection:
            while piece := connection.recv(65536):
                self.data[peer] += piece

    def bodies(self):
        lines = [line for data in list(self.data.values()) for line in data.split(b"\n")[:-1]]
        return [e["body"] for e in map(json.loads, lines) if e.get("type") == "evt"]


def patched(ctx, spec, *flags, warnings=0):
    """The pod behind the webhook, whose image is the one of `make image`."""
    hook = Webhook(ctx, "--image", "scope", *flags)
    pod, patch = hook.review(json.loads(json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec})), warnings=warnings)
    check(patch, "no patch")
    return pod


def bare(spec):
    return {"metadata": {"name": "x"}, "spec": spec}


NGINX = """daemon off;
pid /tmp/nginx.pid;
error_log stderr crit;
worker_processes 2;
events {}
http {
    access_log off;
    client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy; fastcgi_temp_path /tmp/f; uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s;
    server {
        listen 8080;
        root /data;
        location = /made { return 201 "made\\n"; }
    }
}
"""


def of(body, container, pod="pod-x"):
    return all(body.get(k) == v for k, v in {"namespace": "shop", "pod_name": pod, "node_name": "worker-1", "container_name": container}.items())


@test(timeout=120)
def nginx_restricted(ctx):
    """A real nginx as restricted as Pod Security wants it, with an init container that makes what it serves: same answers
    bare and patched, and its HTTP events say of which pod, namespace, node and container they are."""
    server = ctx.tool("nginx")
    sh = ctx.tool("busybox")
    images = {"scope": scope_image(ctx),
              "nginx": image_of(ctx, "nginx", [server, *libraries(server)], entrypoint=[server], cmd=["-c", "/etc/nginx/nginx.conf"], user=101),
              "busybox": image_of(ctx, "busybox", [(sh, "/bin/sh")])}
    spec = {"securityContext": NOBODY, "automountServiceAccountToken": False,
            "initContainers": [{"name": "prepare", "image": "busybox", "command": ["/bin/sh", "-c", "echo $(POD) >/data/index.html; id -u; id -G"],
                                "env": [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                                "volumeMounts": [{"name": "data", "mountPath": "/data"}], "securityContext": RESTRICTED}],
            "containers": [{"name": "web", "image": "nginx", "securityContext": RESTRICTED, "ports": [{"containerPort": 8080}],
                            "resources": {"requests": {"memory": "128Mi"}, "limits": {"memory": "128Mi"}},
                            "volumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": True}, {"name": "tmp", "mountPath": "/tmp"},
                                             {"name": "conf", "mountPath": "/etc/nginx", "readOnly": True}]}],
            "volumes": [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {"medium": "Memory"}},
                        {"name": "conf", "projected": {"sources": [{"configMap": {"name": "nginx"}}]}}]}

    def served(pod):
        run = Pod(ctx, pod, images, {"nginx": {"nginx.conf": NGINX}})
        receiver, events = Receiver(ctx, port=4318, enter=run.entering), Events(run)
        run.start()
        ctx.wait_for(lambda: run.get("/made"), "nginx answers")
        got = [run.get(p) for p in ("/", "/made", "/none", "/index.html")]
        equal(run.out("prepare"), b"1001\n1001 2000\n", "user and groups of the init container")
        return run, receiver, events, got

    run, _, _, want = served(bare(spec))
    equal([s for s, _ in want], [200, 201, 404, 200], "answers")
    equal(run.stop(), {"web": 0}, "status")
    run, receiver, events, got = served(patched(ctx, spec, OTLP, *EVENTS))
    equal(got, want, "answers of the patched pod")

    def requests():
        found = [b for b in events.bodies() if b["source"] == "http.resp" and b["proc"] == "nginx"]
        return len(found) >= 5 and found

    found = ctx.wait_for(requests, "HTTP events arrive", 40)
    check(all(of(b, "web") for b in found), "whose they are", found[0])
    equal(sorted({(b["data"]["http_target"], b["data"]["http_status_code"]) for b in found}),
          [("/", 200), ("/index.html", 200), ("/made", 201), ("/none", 404)], "requests")
    spans = ctx.wait_for(lambda: (s := [s for s in receiver.spans() if s["kind"] == "server"]) and len(s) >= 5 and s, "spans arrive", 40)
    want = {"k8s.namespace.name": "shop", "k8s.pod.name": "pod-x", "k8s.pod.uid": "0c8f1a7e-0001", "k8s.node.name": "worker-1",
            "k8s.container.name": "web"}
    equal({k: spans[0]["resource"].get(k) for k in want}, want, "attributes of OTLP")
    equal(run.stop(), {"web": 0}, "status")
    equal(run.err("web"), b"", "what nginx has to say")


def both(ctx, spec, images, *flags, maps=None, same=lambda text: text):
    """Runs a pod whose containers end, bare and patched, with the same output and statuses: the patched one, what came to
    the receiver of OTLP, and events. same: output without what may differ."""
    names = [c["name"] for c in spec["containers"]]

    def ended(pod, change=lambda run: None):
        run = Pod(ctx, pod, images, maps)
        change(run)
        run.start()
        codes = [run.wait(n) for n in names]
        stopped = run.stop()
        return run, codes, stopped, [(same(run.out(n)), run.err(n)) for n in [*names, *(c["name"] for c in spec.get("initContainers") or [])]]

    _, *want = ended(bare(spec))
    there = []
    run, *got = ended(patched(ctx, spec, OTLP, *flags), lambda run: there.extend((Receiver(ctx, port=4318, enter=run.entering), Events(run))))
    equal(got, want, "statuses and output of the patched pod")
    return run, *there, want


def program_image(ctx, variant):
    """The program that tests of containers run, what its loader needs, and nothing else."""
    root = make_root(ctx, variant, busybox=False, root=f"only-{variant}")
    for d in ("proc", "dev", "sys"):
        (root / d).mkdir()
    return PodImage(root, ["/inner"], ["/greeting", "1"], user=65532)


@test(timeout=120)
def jobs(ctx):
    """Jobs of images without a shell, by glibc and by musl: what they have done arrives, to the very end."""
    images = {"scope": scope_image(ctx), **{v: program_image(ctx, v) for v in ("glibc-O2", "musl")}}
    spec = {"restartPolicy": "Never", "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "glibc", "image": "glibc-O2", "securityContext": RESTRICTED},
                           {"name": "musl", "image": "musl", "securityContext": RESTRICTED, "args": ["/greeting", "2"]}]}
    _, receiver, events, (codes, *_) = both(ctx, spec, images, *EVENTS)
    equal(codes, [0, 0], "statuses")
    for name, images_ in (("glibc", 2), ("musl", 3)):
        mine = [b for b in events.bodies() if of(b, name)]
        equal(sum(b["source"] == "proc.exit" for b in mine), images_, f"ends of {name}")
        equal([b["data"]["file_read_bytes"] for b in mine if b["source"] == "fs.close" and b["data"]["file"] == "/greeting"], [12] * images_,
              f"bytes that {name} read")


def first_image(ctx, *words):
    root = make_root(ctx, "glibc-O2", busybox=False, program="containers/first.c", root=f"first-{words[0]}")
    for d in ("proc", "dev", "sys"):
        (root / d).mkdir()
    return PodImage(root, ["/inner"], list(words), user=65532)


@test(timeout=120)
def process_one(ctx):
    """A container's program is its process 1, and the collector, which it has started, one of the processes that are left to
    it: when it waits for all children, it isn't among them."""
    images = {"scope": scope_image(ctx), "orphans": first_image(ctx, "orphans"), "leave": first_image(ctx, "leave")}
    spec = {"restartPolicy": "Never", "containers": [{"name": "orphans", "image": "orphans"}, {"name": "leave", "image": "leave"}]}
    _, _, events, (codes, _, output) = both(ctx, spec, images, *EVENTS)
    equal((codes, output), ([5, 7], [(b"child ended with 16\norphan ended with 17\nNo child processes\n", b""), (b"first\n", b"")]), "what they say")
    for name, count in (("orphans", 3), ("leave", 1)):
        ends = [b for b in events.bodies() if of(b, name) and b["source"] == "proc.exit"]
        equal(len(ends), count, f"ends of {name}")


@test(timeout=120)
def sidecars(ctx):
    """A native sidecar runs before other init containers and until the job has ended; each of these has its events, on images
    with a shell, with variables of several origins and a library that is preloaded already."""
    sh, tools = os.path.realpath("/bin/sh"), [ctx.tool("cat"), ctx.tool("sleep")]
    images = {"scope": scope_image(ctx), "sh": image_of(ctx, "sh", [(sh, "/bin/sh"), *((t, f"/bin/{os.path.basename(t)}") for t in tools),
                                                             *libraries(sh, *tools)], env=["PATH=/bin"])}
    shared = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}
    library = ctx.compile("containers/preloaded.c", shared=True)
    spec = {"restartPolicy": "Never", "volumes": [{"name": "shared", "emptyDir": {}}, {"name": "lib", "image": {"reference": "lib"}}],
            "initContainers": [
                {"name": "shipper", "image": "sh", "restartPolicy": "Always", **shared,
                 "command": ["/bin/sh", "-c", "trap 'echo bye; exit 0' TERM; echo up >/shared/up; while :; do sleep 100 & wait $!; done"]},
                {"name": "wait", "image": "sh", **shared, "command": ["/bin/sh", "-c", "until [ -s /shared/up ]; do sleep 0.1; done; cat /shared/up"]}],
            "containers": [
                {"name": "job", "image": "sh", "args": ["/bin/sh", "-c", "cat /shared/up; echo $A $B '$(C) $$(A)' $LD_PRELOAD | cat; exit 3"],
                 "volumeMounts": [*shared["volumeMounts"], {"name": "lib", "mountPath": "/lib-of-its-own"}],
                 "envFrom": [{"configMapRef": {"name": "m"}, "prefix": "P_"}],
                 "env": [{"name": "A", "value": "a$(P_X)"}, {"name": "B", "valueFrom": {"secretKeyRef": {"name": "m", "key": "X"}}},
                         {"name": "LD_PRELOAD", "value": "/lib-of-its-own/preloaded.so"}]}]}
    images["lib"] = image_of(ctx, "lib", [(library, "/preloaded.so")])
    # What the program is told is what it would be told, but for the library in front.
    run, _, events, (codes, stopped, output) = both(ctx, spec, images, *EVENTS, maps={"m": {"X": "x"}},
                                                    same=lambda text: text.replace(b"/opt/appscope/libscope.so:", b""))
    equal((codes, stopped), ([3], {"job": 3, "shipper": 0}), "statuses")
    equal(output[0][0], b"up\nax x $(C) $(A) /lib-of-its-own/preloaded.so\n", "output")
    check(b"preloaded" in output[0][1], "the library of its own isn't loaded", output)
    equal(run.out("shipper"), b"bye\n", "the sidecar's end")
    for name, command in (("shipper", "sleep 100"), ("wait", "cat /shared/up"), ("job", "cat /shared/up")):
        check(any(of(b, name) and b["cmd"] == command for b in events.bodies()), f"nothing of {name}", {b["cmd"] for b in events.bodies()})


@test(timeout=120)
def static_programs(ctx):
    """A static program is observed by what docs/kubernetes.md says: scope run before its command."""
    images = {"scope": scope_image(ctx), "static": program_image(ctx, "static")}
    spec = {"restartPolicy": "Never", "securityContext": NOBODY,
            "containers": [{"name": "static", "image": "static", "securityContext": RESTRICTED,
                            "command": ["/opt/appscope/scope", "run", "-z", "--", "/inner", "/greeting", "1"]}]}
    run = Pod(ctx, patched(ctx, spec, OTLP, *EVENTS), images)
    events, receiver = Events(run), Receiver(ctx, port=4318, enter=run.entering)
    run.start()
    equal((run.wait("static"), run.err("static")), (0, b""), "status and messages")
    check(run.out("static").count(b"from inside\n") == 2, "output", run.out("static"))
    ends = [b for b in events.bodies() if of(b, "static") and b["source"] == "proc.exit"]
    equal(len(ends), 2, f"ends; {len(receiver.points())} points")
