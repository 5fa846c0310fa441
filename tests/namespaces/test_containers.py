# SPDX-License-Identifier: Apache-2.0
"""Containers of a real engine (runc, bubblewrap): observed from the host, from within, from another container.

Their root directories hold one program, what its loader needs, and a file; they can't be written to, and there is neither
a shell nor a /tmp. They need root, and control groups that the engine can make.
"""

import json
import os

from attaching import attach, detach
from roots import both, followed, make_root
from scopetest import Session, add_test, check, equal, test

VARIANTS = ("glibc-O2", "musl", "static", "musl-static-pie")


class Container:
    """One that can be run once. It is named as Docker and others name theirs, and so is its control group."""

    def __init__(self, ctx, argv, variant="static", program="namespaces/inner.c", change=None):
        check(os.geteuid() == 0, "needs root, to run a container")
        self.ctx, self.id = ctx, os.urandom(32).hex()
        self.bundle = ctx.fresh(f"container-{self.id[:8]}")
        self.engine = [ctx.tool("runc"), "--root", ctx.dir / "runc"]
        make_root(ctx, variant, busybox=False, program=program, root=self.bundle / "rootfs")
        ctx.run([*self.engine, "spec"], cwd=self.bundle, check_code=0)
        config = json.loads((self.bundle / "config.json").read_text())
        config["process"].update(terminal=False, args=[str(a) for a in argv])
        if change:
            change(config)
        (self.bundle / "config.json").write_text(json.dumps(config))
        self.argv = [*self.engine, "run", "--bundle", self.bundle, self.id]

    def start(self):
        """Runs it in the background: (the engine's process, the container's first process as the host sees it)."""
        process = self.ctx.start(self.argv)
        return process, self.ctx.wait_for(self.pid, "the container runs")

    def pid(self):
        state = self.ctx.run([*self.engine, "state", self.id])
        state = json.loads(state.out) if state.code == 0 else {}
        return state.get("status") == "running" and state["pid"]

    def end(self, process):
        """Ends it as people do: its program has gone on all the time, and says so by its status."""
        self.ctx.run([*self.engine, "kill", self.id, "TERM"], check_code=0)
        equal(process.wait(20), 3, "status of the container")


def told(container, events, inner):
    """They tell in which container, and the number of the process inside and outside."""
    check(events, "no events")
    equal({e["data"].get("containerId") for e in events}, {container.id}, "containerId")
    check(all(e["pid"] < 1000 and e.get("hostPid", 0) > 1 for e in events), "numbers of processes", *events)
    equal(events[0]["pid"], inner, "number of the first process inside")


def by_engine(ctx, variant):
    """The engine itself is run observed: it clones itself thrice, copies its own executable, drops what it holds."""
    container = Container(ctx, ["/inner", "/greeting", 2], variant)
    starts = followed(both(ctx, container.argv), "/inner", "/greeting", 3)
    told(container, starts, 1)


@test("container/filter")
def filtered(ctx):
    """As engines start programs by default: their last step is a seccomp filter, after which the probe in the engine can do
    nothing for the new image. It is left alone, the session tells, and attaching from outside still works."""
    def change(config):
        config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
                                      "syscalls": [{"names": ["reboot", "mount"], "action": "SCMP_ACT_ERRNO"}]}
    container = Container(ctx, ["/inner", "/greeting", 2], "glibc-O2", change=change)
    result = both(ctx, container.argv)
    result.session.wait_end()
    check("not observed: it had entered seccomp before: /inner" in result.session.log(), "the log doesn't tell", result.session.log())
    container = Container(ctx, ["/inner", "/greeting"], "glibc-O2", "namespaces/steady.c", change)
    process, pid = container.start()
    ctx.home = ctx.fresh("home")
    session = attach(ctx, pid).session
    ctx.wait_for(lambda: len(session.events("fs", "fs.open")) > 10, "its file", 10)
    told(container, session.events("process", "proc.start")[:1], 1)
    detach(ctx, pid)
    container.end(process)


def from_host(ctx, variant):
    """What runs already is attached to by its number on the host, what it starts is followed, and it is let go again."""
    container = Container(ctx, ["/inner", "/greeting"], variant, "namespaces/steady.c")
    process, pid = container.start()
    for _ in range(2):
        session = attach(ctx, pid).session

        def seen(kind, session=session):
            return [e for e in session.events("process", "proc.start") if e["data"]["start"] == kind]
        ctx.wait_for(lambda: len(seen("exec")) > 1, "images that it starts", 10)
        told(container, seen("attach"), 1)
        told(container, seen("exec"), seen("exec")[0]["pid"])
        opened = [e["data"]["file"] for e in session.events("fs", "fs.open")]
        check(opened.count("/greeting") > 10, "its file", *opened[:20])
        detach(ctx, pid)
        session.wait_end()
        check("not observed:" not in session.log().replace("detached: no longer observed", ""), "something was not observed", session.log())
        check(not any(session.lost().values()), f"lost: {session.lost()}")
    container.end(process)


def from_within(ctx, variant):
    """The tool is one file that is brought into the container; only where sessions are stored can be written to."""
    store = ctx.fresh("store")

    def change(config):
        config["process"]["env"] += [f"SCOPE_HOME={store}"]
        for path, to, more in ((ctx.scope, "/scope", ["ro"]), (store, str(store), [])):
            config["mounts"].append({"destination": to, "type": "bind", "source": str(path), "options": ["bind", *more]})
    bare = ctx.run(Container(ctx, ["/inner", "/greeting", 2], variant, change=change).argv)
    equal(bare.code, 0, bare.describe())
    container = Container(ctx, ["/scope", "run", "--", "/inner", "/greeting", 2], variant, change=change)
    result = ctx.run(container.argv)
    equal((result.code, result.out, result.err), (bare.code, bare.out, bare.err), "status and output")
    ctx.home = store
    result.session = ctx.session()
    starts = [e for e in result.session.events("process", "proc.start") if e["data"]["start"] == "exec"]
    equal([e["data"]["args"] for e in starts], [["/inner", "/greeting", str(n)] for n in (2, 1, 0)], "observed images")
    equal({e["data"].get("containerId") for e in starts}, {container.id}, "containerId")
    check(all(e["pid"] > 1 for e in starts), "scope is process 1 there")  # docs/cli.md
    closed = [e["data"]["file_read_bytes"] for e in result.session.events("fs", "fs.close") if e["data"]["file"] == "/greeting"]
    equal(closed, [12] * 3, "bytes read")
    check("not observed" not in result.session.log(), result.session.log())
    check(not any(result.session.lost().values()), f"lost: {result.session.lost()}")


for _variant in VARIANTS:
    add_test("namespaces", f"container/by-engine/{_variant}", lambda ctx, v=_variant: by_engine(ctx, v))
    add_test("namespaces", f"container/from-host/{_variant}", lambda ctx, v=_variant: from_host(ctx, v))
    add_test("namespaces", f"container/from-within/{_variant}", lambda ctx, v=_variant: from_within(ctx, v))


def sandboxed(ctx, variant):
    """bubblewrap, as for Flatpak: all namespaces, a root made of mounts, no new privileges."""
    root = make_root(ctx, variant, busybox=False)
    argv = [ctx.tool("bwrap"), "--unshare-all", "--new-session", "--die-with-parent", "--ro-bind", root, "/", "--cap-add", "CAP_NET_ADMIN",
            "/inner", "/greeting", 2]
    starts = followed(both(ctx, argv), "/inner", "/greeting", 3)
    check(all(e["pid"] < 10 < e.get("hostPid", 0) for e in starts), "numbers of processes", *starts)


for _variant in VARIANTS:
    add_test("namespaces", f"container/bubblewrap/{_variant}", lambda ctx, v=_variant: sandboxed(ctx, v))


@test("container/from-another")
def from_another(ctx):
    """A container for tools, which shares the host's process numbers and sees its files, reaches into another one."""
    service = Container(ctx, ["/inner", "/greeting"], "glibc-O2", "namespaces/steady.c")
    process, pid = service.start()
    ctx.home.mkdir(exist_ok=True)

    def tool(*words):
        def change(config):
            config["linux"]["namespaces"] = [n for n in config["linux"]["namespaces"] if n["type"] != "pid"]
            for kind in config["process"]["capabilities"].values():
                kind += ["CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_DAC_OVERRIDE"]
            config["process"]["env"] += [f"SCOPE_HOME={ctx.home}"]
            config["mounts"] += [{"destination": "/host", "type": "bind", "source": "/", "options": ["rbind", "rw"]},
                                 {"destination": "/scope", "type": "bind", "source": str(ctx.scope), "options": ["bind", "ro"]}]
            config["linux"]["maskedPaths"] = config["linux"]["readonlyPaths"] = []
        return ctx.run(Container(ctx, ["/scope", *words, "--rootdir", "/host", pid], change=change).argv)

    result = tool("attach")
    check(result.code == 0 and b"Attaching to pid" in result.err, "attach", result.describe())
    session = Session(ctx, ctx.wait_for(ctx.sessions, "a session on the host")[0])
    ctx.wait_for(lambda: [e for e in session.events("process", "proc.start") if e["data"]["start"] == "exec"], "an image that it starts", 10)
    told(service, session.events("process", "proc.start")[:1], 1)
    result = tool("detach")
    check(result.code == 0 and b"Detaching from pid" in result.err, "detach", result.describe())
    session.wait_end()
    service.end(process)
