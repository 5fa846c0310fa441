# SPDX-License-Identifier: Apache-2.0
"""Containers as docker and podman make them by default, run by runc: what a test changes is what their options change.

A bundle is a root directory and a config.json (https://github.com/opencontainers/runtime-spec). It needs root.
"""

import json
import os
import re
from pathlib import Path

from roots import make_root
from scopetest import MACHINE, check

# What a container has if nothing is said (docker run, podman run).
CAPABILITIES = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_SETFCAP",
                "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT"]
MASKED = ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug", "/proc/scsi",
          "/sys/firmware"]
READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
ARCHITECTURES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}


def mount(kind, to, *options, source=None):
    return {"destination": to, "type": kind, "source": str(source or kind), "options": list(options)}


def bind(source, to, *options):
    return mount("bind", str(to), "bind", *options, source=source)


class Container:
    """One that can be run once: options are what is asked for on top of the defaults."""

    def __init__(self, ctx, root, argv, env=()):
        check(os.geteuid() == 0, "needs root, to run a container")
        self.ctx, self.id = ctx, os.urandom(32).hex()
        self.bundle = ctx.fresh(f"bundle-{self.id[:8]}")
        self.engine = [ctx.tool("runc"), "--root", ctx.dir / "runc"]
        self.config = {
            "ociVersion": "1.0.2",
            "process": {
                "terminal": False, "user": {"uid": 0, "gid": 0}, "args": [str(a) for a in argv], "cwd": "/",
                "env": ["PATH=/usr/local/bin:/usr/bin:/bin", "HOSTNAME=box", "HOME=/root", *env],
                "capabilities": {kind: list(CAPABILITIES) for kind in ("bounding", "effective", "permitted")},
                "noNewPrivileges": False,
            },
            "root": {"path": str(root), "readonly": False},
            "hostname": "box",
            "mounts": [
                mount("proc", "/proc", "nosuid", "noexec", "nodev"),
                mount("tmpfs", "/dev", "nosuid", "strictatime", "mode=755", "size=65536k"),
                mount("devpts", "/dev/pts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"),
                mount("sysfs", "/sys", "nosuid", "noexec", "nodev", "ro"),
                mount("mqueue", "/dev/mqueue", "nosuid", "noexec", "nodev"),
                mount("tmpfs", "/dev/shm", "nosuid", "noexec", "nodev", "mode=1777", "size=67108864"),
            ],
            "linux": {
                "namespaces": [{"type": t} for t in ("pid", "mount", "ipc", "uts", "network")],
                "maskedPaths": list(MASKED), "readonlyPaths": list(READ_ONLY),
                "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            },
        }

    # --- options of docker run ---

    def privileged(self):
        """All that there is here: whoever runs this may have less than root of a host."""
        numbers = dict(re.findall(r"^#define (CAP_\w+)\s+(\d+)$", Path("/usr/include/linux/capability.h").read_text(), re.M))
        have = int(re.search(r"^CapEff:\s*(\w+)$", Path("/proc/self/status").read_text(), re.M).group(1), 16)
        for kind in ("bounding", "effective", "permitted"):
            self.config["process"]["capabilities"][kind] = [name for name, bit in numbers.items() if have >> int(bit) & 1]
        self.config["linux"].update(maskedPaths=[], readonlyPaths=[])
        return self

    def without_capabilities(self):
        for kind in ("bounding", "effective", "permitted"):
            self.config["process"]["capabilities"][kind] = []
        return self

    def user(self, uid):
        """Docker leaves other users than root the capabilities to get, but they have none."""
        self.config["process"]["user"].update(uid=uid, gid=uid)
        for kind in ("effective", "permitted"):
            self.config["process"]["capabilities"][kind] = []
        return self

    def no_new_privileges(self):
        self.config["process"]["noNewPrivileges"] = True
        return self

    def read_only(self):
        self.config["root"]["readonly"] = True
        return self

    def seccomp(self, path):
        profile = json.loads(Path(path).read_text())
        profile["architectures"] = [ARCHITECTURES[MACHINE]]
        self.config["linux"]["seccomp"] = profile
        return self

    def host(self, *kinds):
        """--pid=host, --network=host"""
        self.config["linux"]["namespaces"] = [n for n in self.config["linux"]["namespaces"] if n["type"] not in kinds]
        return self

    def volume(self, source, to, *options):
        self.config["mounts"].append(bind(source, to, *options))
        return self

    def tmpfs(self, to, *options):
        """As docker does unless told otherwise: nothing in it can be executed, nor loaded."""
        self.config["mounts"].append(mount("tmpfs", to, "rw", *(options or ("noexec", "nosuid", "nodev"))))
        return self

    def limit(self, **what):
        """memory={"limit": bytes}, pids={"limit": n}"""
        self.config["linux"]["resources"].update(what)
        return self

    def without_env(self, *names):
        env = self.config["process"]["env"]
        self.config["process"]["env"] = [e for e in env if e.partition("=")[0] not in names]
        return self

    # --- running ---

    @property
    def argv(self):
        (self.bundle / "config.json").write_text(json.dumps(self.config))
        return [*self.engine, "run", "--bundle", self.bundle, self.id]

    def run(self, stdin=b"", timeout=None):
        return self.ctx.run(self.argv, stdin=stdin, timeout=timeout)

    def start(self, **how):
        """Runs it in the background: (the engine's process, the container's process 1 as the host sees it)."""
        process = self.ctx.start(self.argv, **how)
        return process, self.ctx.wait_for(self.pid, "the container runs")

    def pid(self):
        state = self.ctx.run([*self.engine, "state", self.id])
        state = json.loads(state.out) if state.code == 0 else {}
        return state.get("status") == "running" and state["pid"]

    def kill(self, sig):
        self.ctx.run([*self.engine, "kill", self.id, sig], check_code=0)


def boxed(ctx, variant, words, change=lambda box: None, scope=("/scope", "run", "--"), program="namespaces/inner.c"):
    """A container that runs a program (/inner) with these arguments, behind scope or bare: it, and the directory on the
    host that it is given for sessions, from which nothing can be loaded."""
    kind = "observed" if scope else "bare"
    root = make_root(ctx, variant, busybox=False, program=program, root=f"{kind}-{os.urandom(4).hex()}")
    for name in ("proc", "dev", "sys", "tmp", "root", "etc"):
        (root / name).mkdir()
    (root / "tmp").chmod(0o1777)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "scope").touch()
    store = ctx.fresh(f"store-{root.name}")
    store.chmod(0o1777)
    box = Container(ctx, root, [*scope, "/inner", *words])
    box.config["process"]["env"].append(f"SCOPE_HOME={store}/home")
    change(box)
    box.volume(ctx.scope, "/scope", "ro")
    box.volume(store, store, "noexec")
    return box, store
