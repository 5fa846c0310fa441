# SPDX-License-Identifier: Apache-2.0
"""The DaemonSet: its pod, made from the manifest, on a node that is a host in namespaces (tests/lib/hostbox.py)."""

import json
import os

from hostbox import HostBox
from image import Image
from oci import Container
from scopetest import check, equal, test
from webhook import manifests, valid

SLEEP = "allow:\n- procname: sleep\n"


class ConfigMap:
    """A directory as a kubelet makes it, and exchanges it; and the image of pods."""

    def __init__(self, ctx, data):
        self.dir, self.count, self.image = ctx.fresh("configmap"), 0, Image(ctx)
        self.set(data)

    def set(self, data):
        self.count += 1
        new = self.dir / f"..{self.count}"
        new.mkdir()
        for name, text in data.items():
            (new / name).write_text(text)
            if not (self.dir / name).is_symlink():
                (self.dir / name).symlink_to(f"..data/{name}")
        (self.dir / "new").symlink_to(new.name)
        os.replace(self.dir / "new", self.dir / "..data")


class NodePod:
    """The pod of the DaemonSet on a node; what it says is in log()."""

    def __init__(self, ctx, node, spec, config):
        self.ctx, self.node = ctx, node
        image = config.image
        c, = spec["containers"]
        mounts = {m["name"]: m["mountPath"] for m in c["volumeMounts"]}
        equal(set(spec), {"automountServiceAccountToken", "enableServiceLinks", "hostPID", "hostNetwork", "terminationGracePeriodSeconds",
                          "nodeSelector", "tolerations", "containers", "volumes"}, "what the pod asks for")
        check(c["securityContext"]["privileged"] and c["securityContext"]["readOnlyRootFilesystem"], c["securityContext"])
        self.box = Container(ctx, image.root, [*c["command"], *c["args"]]).privileged().host("pid", "network").read_only()
        self.box.volume("/", mounts["hostfs"], "rbind").volume(config.dir, mounts["config"], "ro")
        self.file = ctx.dir / f"{self.box.id[:8]}.log"
        with open(self.file, "wb") as err:
            self.process = node.start(self.box.argv, stderr=err)

    def log(self):
        return self.file.read_text()

    def says(self, word, seconds=60):
        self.ctx.wait_for(lambda: word in self.log() or self.process.poll() is not None, f"the pod says '{word}'", seconds)
        check(word in self.log(), f"the pod ended with {self.process.poll()}", self.log(), self.node.log())

    def end(self, sig):
        self.ctx.run(self.node.command([*self.box.engine, "kill", self.box.id, sig]), check_code=0)
        return self.process.wait(120)


def daemon(ctx):
    objects = manifests(ctx, "--daemonset")
    valid(ctx, objects)
    data = next(o for o in objects if o["kind"] == "ConfigMap")["data"]
    return next(o for o in objects if o["kind"] == "DaemonSet")["spec"]["template"]["spec"], data


@test(timeout=180)
def node(ctx):
    """It has the node observed by the rules of the ConfigMap, also when it dies and comes again; its end leaves nothing."""
    spec, data = daemon(ctx)
    config = ConfigMap(ctx, data)
    with HostBox(ctx) as box:
        before = box.files("/etc", "/usr/lib/appscope", "/var/log")
        pod = NodePod(ctx, box, spec, config)
        pod.says("the node is observed")
        check(b"libscope.so" in (box.read("/etc/ld.so.preload") or b""), "ld.so.preload", pod.log())
        check((box.read("/etc/scope/scope.yml") or b"").endswith(data["scope.yml"].encode()), "scope.yml of the node")
        equal(os.stat(box.path("/etc/scope/rules.yml")).st_mode & 0o777, 0o600, "mode of the rules")
        equal(status(box)["rules"], 0, "rules")

        config.set({**data, "rules.yml": SLEEP})
        ctx.wait_for(lambda: status(box).get("rules") == 1, "the new rules are in force", 60)
        sleeper = box.start(["sleep", "4321"])
        ctx.wait_for(lambda: b"libscope" in maps_of(box, "sleep", "4321"), "a program that they name is observed", 60)

        equal(pod.end("KILL"), 137, "status")
        check(status(box).get("pid") and b"libscope.so" in box.read("/etc/ld.so.preload"), "the node is observed no longer", pod.log())
        pod = NodePod(ctx, box, spec, config)
        pod.says("the node is observed")
        equal(pod.end("TERM"), 0, "status")
        check("no longer" in pod.log(), pod.log())
        equal(sleeper.poll(), None, "the program goes on")
        equal(box.files("/etc", "/usr/lib/appscope", "/var/log"), before, "files that are left")
        check(not box.path("/etc/scope").exists(), "/etc/scope is left")


@test(timeout=120)
def node_with_rules(ctx):
    """What a node's owner has written stays, and is in force."""
    spec, data = daemon(ctx)
    config = ConfigMap(ctx, {**data, "rules.yml": "allow: ["})
    with HostBox(ctx) as box:
        box.write("/etc/scope/rules.yml", SLEEP)
        pod = NodePod(ctx, box, spec, config)
        pod.says("the node is observed")
        check("rules.yml of the node is its own" in pod.log(), pod.log())
        equal(status(box)["rules"], 1, "rules")
        equal(pod.end("TERM"), 0, "status")
        equal(box.read("/etc/scope/rules.yml"), SLEEP.encode(), "the node's rules")
        check(not box.path("/etc/scope/scope.yml").exists(), "scope.yml is left")


def status(box):
    return json.loads(box.read("/run/appscope/status.json") or b"{}")


def maps_of(box, *argv):
    """Mappings of the process of the box that has these arguments; none if there is no such."""
    want = b"".join(a.encode() + b"\0" for a in argv)
    for pid in filter(str.isdigit, os.listdir(f"/proc/{box.init}/root/proc")):
        try:
            if (box.path(f"/proc/{pid}/cmdline")).read_bytes() == want:
                return box.path(f"/proc/{pid}/maps").read_bytes()
        except OSError:
            pass
    return b""
