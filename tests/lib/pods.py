# SPDX-License-Identifier: Apache-2.0
"""Pods as a kubelet and containerd run them, from their specs, by runc (tests/lib/oci.py): initial containers one after the
other, native sidecars, volumes, variables, users, capabilities, seccomp, read-only roots. A member of a spec that isn't known
here is a failure: nothing of it is left out in silence. It needs root.

Kubernetes documentation: "Pod Lifecycle", "Volumes", "Configure a Security Context", "Sidecar Containers", "Define
Environment Variables"; what a kubelet does itself: "Downward API", "Projected Volumes".
"""

import contextlib
import ctypes
import http.client
import os
import posixpath
import re
import shutil
import socket
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path

from oci import CAPABILITIES, Container
from scopetest import TESTS, Failure, check, equal

RUNTIME_DEFAULT = TESTS / "containers/seccomp-docker.json"
POD = {"containers", "initContainers", "volumes", "securityContext", "restartPolicy", "automountServiceAccountToken", "enableServiceLinks",
       "terminationGracePeriodSeconds", "nodeName", "shareProcessNamespace"}
CONTAINER = {"name", "image", "command", "args", "env", "envFrom", "ports", "resources", "volumeMounts", "securityContext", "restartPolicy",
             "workingDir", "imagePullPolicy"}
SECURITY = {"runAsUser", "runAsGroup", "runAsNonRoot", "seccompProfile", "fsGroup", "supplementalGroups", "readOnlyRootFilesystem",
            "allowPrivilegeEscalation", "privileged", "capabilities"}


@dataclass
class PodImage:
    """What a registry has: files, and what the image's configuration says."""
    root: Path
    entrypoint: list = field(default_factory=list)
    cmd: list = field(default_factory=list)
    env: list = field(default_factory=lambda: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"])
    user: int = 0
    cwd: str = "/"


def known(object_, names, what):
    check(not set(object_) - names, f"the runner doesn't know these members of {what}", set(object_) - names)


def expanded(text, env):
    """$(NAME) of variables that stand before; $$ is a dollar."""
    return re.sub(r"\$\$|\$\(([^)]+)\)", lambda m: "$" if m[0] == "$$" else env.get(m[1], m[0]), text)


class Pod:
    """A pod that can be run once. images: PodImage by name; maps: data of ConfigMaps and Secrets by name."""

    def __init__(self, ctx, pod, images, maps=None, name="pod-x", namespace="shop", node="worker-1"):
        check(os.geteuid() == 0, "needs root, to run containers")
        self.ctx, self.spec, self.images, self.maps = ctx, pod["spec"], images, maps or {}
        known(self.spec, POD, "the pod")
        self.meta = {"uid": "0c8f1a7e-0001", **pod["metadata"], "name": name, "namespace": namespace}
        self.node = node
        self.dir = ctx.fresh(f"pod-{os.urandom(3).hex()}")
        self.volumes = {v["name"]: self.volume(v) for v in self.spec.get("volumes") or []}
        self.running, self.sidecars = {}, []
        self.net = self.sandbox()

    # --- the sandbox: containers share network, IPC and host name ---

    def sandbox(self):
        ready = self.dir / "ready"
        process = self.ctx.start([self.ctx.tool("unshare"), "--net", "--ipc", "--uts", "sh", "-c",
                                  'ip link set lo up && hostname "$0" && touch "$1" && exec sleep 10000', self.meta["name"], ready])
        self.ctx.wait_for(ready.exists, "the sandbox is there")
        return process.pid

    @property
    def entering(self):
        """In front of a command that shall be in the pod's network."""
        return [self.ctx.tool("nsenter"), f"--net=/proc/{self.net}/ns/net"]

    def inside(self, function):
        """What a function returns that makes its sockets in the pod's network."""
        got = []

        def run():
            libc = ctypes.CDLL(None, use_errno=True)
            fd = os.open(f"/proc/{self.net}/ns/net", os.O_RDONLY)
            try:
                check(libc.setns(fd, 0) == 0, "setns", os.strerror(ctypes.get_errno()))
                got.append(function())
            except Exception as e:  # handed on
                got.append(e)
            finally:
                os.close(fd)

        thread = threading.Thread(target=run)  # a thread of its own, whose namespace ends with it
        thread.start()
        thread.join()
        if isinstance(got[0], Exception):
            raise got[0]
        return got[0]

    def get(self, path, port=8080):
        """(status, body) of an HTTP request to the pod; None if nobody listens."""
        def ask():
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                return answer.status, answer.read()
            except ConnectionRefusedError:
                return None
            finally:
                connection.close()
        return self.inside(ask)

    def listener(self, port):
        return self.inside(lambda: socket.create_server(("127.0.0.1", port)))

    # --- what the API server knows of the pod ---

    def field_of(self, path):
        key = re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path)
        if key:
            return (self.meta.get(key[1]) or {}).get(key[2], "")
        values = {"spec.nodeName": self.node, "status.podIP": "127.0.0.1", "metadata.name": self.meta["name"],
                  "metadata.namespace": self.meta["namespace"], "metadata.uid": self.meta["uid"]}
        return values[path]

    def map_of(self, reference, key=None):
        data = self.maps[reference["name"]]
        return data if key is None else data[key]

    # --- volumes ---

    def files_of(self, kind, what):
        """What a volume of that kind holds."""
        if kind == "projected":
            return {path: text for source in what["sources"] for k, v in source.items() for path, text in self.files_of(k, v).items()}
        if kind == "downwardAPI":
            return {item["path"]: self.field_of(item["fieldRef"]["fieldPath"]) for item in what["items"]}
        if kind == "serviceAccountToken":
            return {what["path"]: "token"}
        check(kind in ("configMap", "secret"), f"the runner knows no volumes of kind {kind}")
        data = self.maps[what.get("name") or what["secretName"]]
        return {i["path"]: data[i["key"]] for i in what["items"]} if "items" in what else data

    def volume(self, v):
        """(directory on the host, whether it can only be read)"""
        kind, what = next((k, w) for k, w in v.items() if k != "name")
        group = (self.spec.get("securityContext") or {}).get("fsGroup")
        if kind == "image":
            return self.images[what["reference"]].root, True
        at = self.dir / f"volume-{v['name']}"
        at.mkdir()
        if kind == "emptyDir":
            os.chown(at, 0, group or 0)
            at.chmod(0o2777 if group else 0o777)
            return at, False
        # As a kubelet writes them: names are links into a directory that is exchanged when something has changed.
        data = at / "..2026_11_30_00_00_00.1"
        data.mkdir()
        (at / "..data").symlink_to(data.name)
        mode = what.get("defaultMode", 0o644)
        for path, text in self.files_of(kind, what).items():
            (data / path).parent.mkdir(parents=True, exist_ok=True)
            (data / path).write_text(text)
            os.chown(data / path, 0, group or 0)
            (data / path).chmod(mode | (0o440 if group else 0))
            top = path.split("/")[0]
            if not (at / top).is_symlink():
                (at / top).symlink_to(f"..data/{top}")
        return at, True

    def mounts(self, box, container):
        mounts = [{**m, "mountPath": posixpath.normpath("/" + m["mountPath"])} for m in container.get("volumeMounts") or []]
        for m in sorted(mounts, key=lambda m: m["mountPath"].count("/")):  # as containerd does
            known(m, {"name", "mountPath", "readOnly", "subPath"}, "a mount")
            source, fixed = self.volumes[m["name"]]
            if "subPath" in m:
                source = source / m["subPath"]
            box.volume(source, m["mountPath"], "rbind", "rprivate", "ro" if fixed or m.get("readOnly") else "rw")

    # --- variables ---

    def environment(self, container, image):
        env = dict(e.split("=", 1) for e in image.env)
        env["HOSTNAME"] = self.meta["name"]
        for source in container.get("envFrom") or []:
            kind = "configMapRef" if "configMapRef" in source else "secretRef"
            for name, value in self.map_of(source[kind]).items():
                env[source.get("prefix", "") + name] = value
        own = {}
        for e in container.get("env") or []:
            known(e, {"name", "value", "valueFrom"}, "a variable")
            origin = e.get("valueFrom")
            if not origin:
                own[e["name"]] = expanded(e.get("value", ""), {**env, **own})
            elif "fieldRef" in origin:
                own[e["name"]] = self.field_of(origin["fieldRef"]["fieldPath"])
            else:
                known(origin, {"configMapKeyRef", "secretKeyRef"}, "a variable's origin")
                reference = origin.get("configMapKeyRef") or origin["secretKeyRef"]
                own[e["name"]] = self.map_of(reference, reference["key"])
        return {**env, **own}

    # --- containers ---

    def secure(self, box, name, own, image):
        whole = self.spec.get("securityContext") or {}
        known(whole, SECURITY, "the pod's securityContext")
        known(own, SECURITY, f"the securityContext of {name}")
        both = {**whole, **own}
        uid = both.get("runAsUser", image.user)
        check(not both.get("runAsNonRoot") or uid, f"{name} has runAsNonRoot and image will run as root")
        user = box.config["process"]["user"]
        user.update(uid=uid, gid=both.get("runAsGroup", 0))
        groups = [*(whole.get("supplementalGroups") or []), *([whole["fsGroup"]] if "fsGroup" in whole else [])]
        if groups:
            user["additionalGids"] = groups
        if own.get("privileged"):
            box.privileged()
        asked = own.get("capabilities") or {}
        have = {c.removeprefix("CAP_") for c in CAPABILITIES}
        have = (set() if "ALL" in asked.get("drop", ()) else have - set(asked.get("drop", ()))) | set(asked.get("add", ()))
        if not own.get("privileged"):
            box.config["process"]["capabilities"] = {
                kind: sorted(f"CAP_{c}" for c in have) if uid == 0 or kind == "bounding" else [] for kind in ("bounding", "effective", "permitted")}
        if own.get("allowPrivilegeEscalation") is False:
            box.no_new_privileges()
        if own.get("readOnlyRootFilesystem"):
            box.read_only()
        profile = (both.get("seccompProfile") or {}).get("type", "Unconfined")
        check(profile in ("RuntimeDefault", "Unconfined"), "the runner has no such profile", profile)
        if profile == "RuntimeDefault" and not own.get("privileged"):
            box.seccomp(RUNTIME_DEFAULT)

    def box(self, container):
        known(container, CONTAINER, f"the container {container['name']}")
        image = self.images[container["image"]]
        root = self.dir / f"root-{container['name']}"
        self.ctx.run(["cp", "-a", image.root, root], check_code=0)
        env = self.environment(container, image)
        entry = container.get("command") or image.entrypoint
        argv = [*entry, *(container["args"] if "args" in container else [] if "command" in container else image.cmd)]
        argv = [expanded(a, env) for a in argv] if "command" in container or "args" in container else argv
        box = Container(self.ctx, root, argv)
        box.config["process"].update(cwd=container.get("workingDir", image.cwd), env=[f"{k}={v}" for k, v in env.items()])
        box.config["hostname"] = self.meta["name"]
        for namespace in box.config["linux"]["namespaces"]:
            file = {"network": "net", "ipc": "ipc", "uts": "uts"}.get(namespace["type"])
            if file:
                namespace["path"] = f"/proc/{self.net}/ns/{file}"
        memory = ((container.get("resources") or {}).get("limits") or {}).get("memory")
        if memory:
            number, unit = re.fullmatch(r"(\d+)(Ki|Mi|Gi|)", memory).groups()
            box.limit(memory={"limit": int(number) << {"": 0, "Ki": 10, "Mi": 20, "Gi": 30}[unit]})
        self.secure(box, container["name"], container.get("securityContext") or {}, image)
        self.mounts(box, container)
        return box

    def begin(self, container):
        """Starts one; it runs, or has ended already."""
        name = container["name"]
        box = self.box(container)
        with open(self.dir / f"{name}.out", "wb") as out, open(self.dir / f"{name}.err", "wb") as err:
            process = self.ctx.start(box.argv, stdout=out, stderr=err)
        self.running[name] = (box, process)
        self.ctx.wait_for(lambda: process.poll() is not None or box.pid(), f"{name} runs")
        return process

    def out(self, name):
        return (self.dir / f"{name}.out").read_bytes()

    def err(self, name):
        return (self.dir / f"{name}.err").read_bytes()

    def wait(self, name, seconds=60):
        """Status of a container that ends."""
        try:
            return self.running[name][1].wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f"the container {name} doesn't end: {self.out(name)[-500:]!r} {self.err(name)[-500:]!r}") from None

    def start(self):
        """All that comes before the containers, and these."""
        for c in self.spec.get("initContainers") or []:
            self.begin(c)
            if c.get("restartPolicy") == "Always":
                self.sidecars.append(c["name"])
            else:
                equal(self.wait(c["name"]), 0, f"status of the init container {c['name']} ({self.err(c['name'])[-800:]!r})")
        for c in self.spec["containers"]:
            self.begin(c)
        return self

    def end(self, name):
        """TERM, as a kubelet does: the status."""
        box, process = self.running[name]
        if process.poll() is None:
            with contextlib.suppress(Failure):  # it may end by itself meanwhile
                box.kill("TERM")
        return self.wait(name)

    def stop(self):
        """Containers, then sidecars from the last to the first: statuses by name."""
        names = [c["name"] for c in self.spec["containers"]] + self.sidecars[::-1]
        return {name: self.end(name) for name in names}


# --- images ---

def libraries(*programs):
    """What the loader of this machine takes for dynamic programs."""
    found = set()
    for p in programs:
        listed = subprocess.run(["ldd", p], capture_output=True, text=True, check=False).stdout
        found.update(re.findall(r"(/\S+) \(0x", listed))
    return sorted(found)


def image_of(ctx, name, files, **how):
    """An image that has these files of this machine: paths, or (path here, path there)."""
    root = ctx.fresh(f"image-{name}")
    for f in files:
        here, there = f if isinstance(f, tuple) else (f, f)
        to = root / str(there).lstrip("/")
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(here, to)
    (root / "tmp").mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)
    for d in ("proc", "dev", "sys", "etc"):
        (root / d).mkdir(exist_ok=True)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/sbin/nologin\n")
    return PodImage(root, **how)
