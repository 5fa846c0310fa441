# SPDX-License-Identifier: Apache-2.0
"""What the loader doesn't reach: running before, static, in containers. `scope reach` attaches to it, as rules say.

Nothing of the machine's is ever named: programs have names that nobody else has. /run is the test's own. The collector
is one of this file's making, which answers as the one of a host does, and remembers what it was told.
"""

import array
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

import oci
from attaching import ours, start
from hostbox import HostBox
from roots import make_root
from scopetest import TOP, Failure, check, equal, test

# src/wire/join.h
MAGIC, SEGMENT, ATTACH, LEAVE, KNOWN = 0x314E4A53, 1, 7, 8, 10
ESRCH, ECANCELED = 3, 125


def unique(name="reach"):
    """At most 15 bytes, as the kernel cuts off names."""
    return f"{name[:6]}-{os.urandom(4).hex()}"


class Collector:
    """Listens as a collector does. known: the processes that it observes; left: those that the user had detached;
    asked, attached: the numbers that it was told with each."""

    def __init__(self):
        self.name = f"scope-{os.urandom(16).hex()}"
        self.known, self.left, self.asked, self.attached = set(), set(), [], []
        self.segments, self.silent = {}, False
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.bind("\0" + self.name + "+")
        self.socket.listen(64)
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def status(self, kind, pid, fds):
        if kind == KNOWN:
            self.asked.append(pid)
            return 0 if pid in self.known else -ECANCELED if pid in self.left else -ESRCH
        if kind == ATTACH:
            self.attached.append(pid)
            self.known.add(pid)
            self.segments[pid] = fds[0]
        elif kind == LEAVE:
            self.known.discard(pid)
        return 0

    def serve(self):
        held = []  # connections that get no answer
        while True:
            try:
                asker, _ = self.socket.accept()
            except OSError:
                return
            with contextlib.suppress(OSError):
                asker.settimeout(5)
                data, control, _, _ = asker.recvmsg(8192, 64)
                fds = array.array("i")
                for _, _, part in control:
                    fds.frombytes(part)
                magic, kind, _, pid, _ = struct.unpack_from("<IIQII", data)
                equal(magic, MAGIC, "magic")
                if self.silent:
                    held.append(asker)
                    continue
                asker.send(struct.pack("<Ii", MAGIC, self.status(kind, pid, fds)))
            asker.close()

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join(5)
        for fd in self.segments.values():
            os.close(fd)


class Host:
    """A /run of its own, with rules in it, and whatever runs there as on a host that has been told to observe."""

    def __init__(self, ctx):
        check(os.geteuid() == 0, "needs root, as a host's collector does")
        self.ctx, self.generation, self.process = ctx, 0, None
        self.collector = Collector()
        self.compiler = ctx.compile("host/rules.c", flags=(f"-I{TOP}/src",))
        self.holder = ctx.start(["unshare", "--mount", "--propagation", "private", "sh", "-c",
                                 "mount -t tmpfs -o mode=755 tmpfs /run && mkdir -m 755 /run/appscope && exec sleep 1000"])
        ctx.wait_for(lambda: Path(f"/proc/{self.holder.pid}/root/run/appscope").is_dir()
                     and os.readlink(f"/proc/{self.holder.pid}/exe").endswith("sleep"), "the host's /run is there")
        self.run = Path(f"/proc/{self.holder.pid}/root/run/appscope")
        self.log = ctx.dir / "reach.log"

    def inside(self, *argv):
        return ["nsenter", "--mount", "--target", str(self.holder.pid), *map(str, argv)]

    def rules(self, *entries):
        """(kind, name, argument) of each; a name alone is an allowing one."""
        self.generation += 1
        words = [w or "-" for e in entries for w in (("allow", e, None) if isinstance(e, str) else e)]
        self.ctx.run([self.compiler, self.run / "rules", self.collector.name, "-", self.generation, *words], check_code=0)
        if self.process:
            self.process.send_signal(signal.SIGHUP)

    def start(self, *flags, prefix=()):
        with open(self.log, "ab") as log:
            self.process = self.ctx.start([*prefix, *self.inside(self.ctx.scope, "reach", "--socket", self.collector.name, *flags)],
                                          stdout=log, stderr=log)
        self.told(lambda told: True)

    def told(self, condition, seconds=20):
        """What reach.json tells, as soon as that fits."""
        seen = [None]

        def look():
            if self.process.poll() is not None:
                raise Failure(f"reach has ended with {self.process.returncode}: {self.log.read_text()[-2000:]}")
            with contextlib.suppress(FileNotFoundError):
                seen[0] = json.loads((self.run / "reach.json").read_text())
                return condition(seen[0]) and seen[0]
            return None
        try:
            return self.ctx.wait_for(look, "", seconds)
        except Failure as e:
            raise Failure(f"{e} reach.json tells:\n{json.dumps(seen[0], indent=1)}\n{self.log.read_text()[-2000:]}") from None

    def rule(self, number=0, **what):
        """Waits until it is told of a rule that it has reached that many processes in such ways."""
        told = self.told(lambda told: len(told["rules"]) > number and {k: told["rules"][number][k] for k in what} == what)
        return told["rules"][number]

    def attached(self, pid):
        self.ctx.wait_for(lambda: pid in self.collector.attached, f"{pid} is attached to: {self.log.read_text()[-2000:]}")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        equal(self.process.wait(20), 0, "status of reach: " + self.log.read_text()[-2000:])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)
        self.collector.close()


def sleeper(ctx, name=None, program=None):
    """A copy of a program under a name that no other has."""
    path = ctx.dir / (name or unique())
    shutil.copy(program or "/bin/sleep", path)
    path.chmod(0o755)
    return path


@test("reach/before-and-after")
def before_and_after(ctx):
    """What runs already, and what starts later; what no rule names is left alone, and so is what the user has had detached,
    and what a denying rule names."""
    one, other, denied = sleeper(ctx), sleeper(ctx), sleeper(ctx)
    with Host(ctx) as host:
        first = ctx.start([one, "600"])
        left = ctx.start([one, "601"])
        stranger = ctx.start([other, "600"])
        refused = ctx.start([denied, "600"])
        host.collector.left.add(left.pid)
        host.rules(one.name, ("deny", denied.name, None), ("allow", denied.name, None))
        host.start()
        host.attached(first.pid)
        second = ctx.start([one, "600"])
        host.attached(second.pid)
        told = host.rule(attached=2, left=1, failed=0, waiting=0)
        equal([(p["pid"], p["name"], p["state"]) for p in told["processes"]], [(left.pid, one.name, "left")], "those that are listed")
        equal(sorted(host.collector.attached), sorted([first.pid, second.pid]), "attached to")
        for process in (left, stranger, refused):
            equal(ours(process.pid), [], "mappings of the probe")
        check(stranger.pid not in host.collector.asked[-5:], "asked about a stranger")
        first.kill()
        first.wait()
        host.rule(attached=1)
        host.stop()
        check(ours(second.pid), "what was attached to stays observed")


@test("reach/rules-change")
def rules_change(ctx):
    """Who isn't named any more is detached from within a moment, whoever attached; named again, it is attached to again. A
    file that can't be used changes nothing."""
    one, other = sleeper(ctx), sleeper(ctx)
    with Host(ctx) as host:
        first, second = ctx.start([one, "600"]), ctx.start([other, "600"])
        host.rules(one.name, other.name)
        host.start()
        host.rule(0, attached=1)
        host.rule(1, attached=1)
        (host.run / "rules").write_bytes(b"nonsense")
        host.process.send_signal(signal.SIGHUP)
        ctx.wait_for(lambda: "the rules of before stay in force" in host.log.read_text(), "the log tells")
        host.rules(other.name)
        ctx.wait_for(lambda: not ours(first.pid), "it is detached from")
        check(ours(second.pid), "the other one isn't observed any more")
        host.stop()
        (host.run / "rules").unlink()
        host.start()  # without any rule, and without knowing what another one has attached to
        ctx.wait_for(lambda: not ours(second.pid), "it is detached from")
        host.rules(one.name, other.name)
        for number, process in enumerate((first, second)):
            host.rule(number, attached=1)
            check(ours(process.pid), "not attached to again")
            equal(process.poll(), None, "status")


@test("reach/kinds")
def kinds(ctx):
    """Programs that no loader, or another one, brings the probe into; a script by its own name; one that is named by words of
    its command line."""
    names = {v: sleeper(ctx, program=ctx.compile("host/waits.c", v)) for v in ("static", "musl", "musl-static", "static-pie")}
    script, worded = ctx.dir / unique(), sleeper(ctx)
    script.write_text("#!/bin/bash\necho ready; sleep 600; :\n")
    script.chmod(0o755)
    with Host(ctx) as host:
        host.rules(*[p.name for p in names.values()], script.name, ("allow", worded.name, "600 60"))
        host.start()
        for number, path in enumerate(names.values()):
            process = ctx.start([path, "600"])
            host.rule(number, attached=1, failed=0)
            check(ours(process.pid), path.name)
        process = ctx.start([script])
        host.rule(len(names), attached=1, failed=0)
        check(ours(process.pid), "the script")
        ctx.start([worded, "700"])
        process = ctx.start([worded, "600", "60"])
        host.rule(len(names) + 1, attached=1, failed=0)
        check(ours(process.pid), "the words")


@test("reach/obstacles")
def obstacles(ctx):
    """One that stands still, one that a debugger holds, one that is observed by a session, one that can't be observed: none
    keeps the others waiting; each is told of with its reason, and reached when that is gone."""
    name = sleeper(ctx)
    with Host(ctx) as host:
        stopped, traced, mine, plain = (ctx.start([name, "600"]) for _ in range(4))
        os.kill(stopped.pid, signal.SIGSTOP)
        ctx.run([ctx.scope, "attach", str(mine.pid)], check_code=0)
        debugger = ctx.start([ctx.compile("host/holds.c"), str(traced.pid)], stdout=subprocess.PIPE)
        equal(debugger.stdout.readline(), b"held\n", "what the debugger says")
        host.rules(name.name)
        host.start()
        host.attached(plain.pid)
        told = host.rule(attached=2, left=1, failed=1, waiting=0)
        reasons = {p["pid"]: (p["state"], p["reason"]) for p in told["processes"]}
        equal(set(reasons), {traced.pid, mine.pid}, "listed")
        check(reasons[traced.pid][0] == "retry" and f"traced by process {debugger.pid}" in reasons[traced.pid][1], "traced", reasons)
        check(reasons[mine.pid][0] == "left" and "session" in reasons[mine.pid][1], "of a session", reasons)
        equal(Path(f"/proc/{stopped.pid}/stat").read_text().rpartition(")")[2].split()[0], "T", "state of the stopped one")
        debugger.kill()
        debugger.wait()
        host.rule(attached=3, failed=0)

        check(traced.pid in host.collector.attached, "not attached to when the debugger had gone")
        stopped.kill()


@test("reach/leave")
def leave(ctx):
    """`scope stop`: everything that this collector observes is detached from, and nothing else."""
    name = sleeper(ctx)
    with Host(ctx) as host:
        processes = [ctx.start([name, "600"]) for _ in range(8)]
        mine = ctx.start([name, "600"])
        ctx.run([ctx.scope, "attach", str(mine.pid)], check_code=0)
        host.rules(name.name)
        host.start()
        host.rule(attached=8, left=1)
        host.stop()
        ctx.run(host.inside(ctx.scope, "reach", "--leave", "--socket", host.collector.name), check_code=0)
        for process in processes:
            equal(ours(process.pid), [], "mappings that are left")
            equal(process.poll(), None, "status")
        check(ours(mine.pid), "what a session observes was detached from, too")
        equal(host.collector.known, set(), "what the collector still observes")


def container(ctx, variant, change=lambda box: box):
    """One with a program of a name that no other has; that name."""
    name = unique()
    root = make_root(ctx, variant, busybox=False, program="host/waits.c", root=f"root-{name}")
    (root / "inner").rename(root / name)
    return change(oci.Container(ctx, root, ["/" + name, "600"])), name


def in_user_namespace(box):
    box.config["linux"]["namespaces"].append({"type": "user"})
    for kind in ("uidMappings", "gidMappings"):
        box.config["linux"][kind] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    root = Path(box.config["root"]["path"])
    for path in [root, *root.rglob("*")]:
        os.chown(path, 100000, 100000)
    return box


CONTAINERS = (("glibc-O2", lambda box: box), ("musl", lambda box: box.read_only()),
              ("musl-static", lambda box: box.user(1000).without_capabilities().no_new_privileges().read_only()),
              ("static", in_user_namespace),
              ("static-pie", lambda box: box.host("network").seccomp(Path(__file__).parent.parent / "containers/seccomp-docker.json")))


@test("reach/containers")
def containers(ctx):
    """Those that run before the rules name their programs, and those that start later; nothing is changed in them."""
    boxes = [container(ctx, *how) for how in CONTAINERS]
    early, late = boxes[:3], boxes[2:]
    late[0] = container(ctx, *CONTAINERS[0])
    with Host(ctx) as host:
        def start(some):
            for box, _ in some:
                ctx.start(box.argv)
            return [(ctx.wait_for(box.pid, "the container runs", interval=0.2), name) for box, name in some]
        processes = start(early)
        host.rules()
        host.start()
        host.rules(*[name for _, name in early + late])
        processes += start(late)
        for number, (pid, name) in enumerate(processes):
            host.rule(number, attached=1, failed=0)
            check(pid in host.collector.attached, f"{name} is not attached to")
            check(ours(pid), f"{name} has no probe")
        for box, _ in early + late:
            box.kill("KILL")


@test("reach/memory")
def memory(ctx):
    """A process whose memory doesn't answer keeps nobody waiting for long; it is still known by the name of its file."""
    quick, slow = sleeper(ctx), sleeper(ctx, program=ctx.compile("host/keeps_waiting.c"))
    with Host(ctx) as host:
        hung = [start(ctx, [slow]) for _ in range(3)]
        host.rules(quick.name, slow.name)
        host.start()
        quick = ctx.start([quick, "600"])
        host.attached(quick.pid)
        told = host.told(lambda told: told["unanswered"] > 0)
        rule = told["rules"][1]
        equal(sum(rule[k] for k in ("loader", "attached", "waiting", "left", "failed")), 3, "known ones")
        for process in hung:
            process.kill()


@test("reach/held-up", timeout=90)
def held_up(ctx):
    """A user whose processes never answer, and whose files in /proc are root's, holds up what is done about them, and
    neither other users' processes nor `scope stop`."""
    quick, slow = sleeper(ctx), sleeper(ctx, program=ctx.compile("host/keeps_waiting.c"))
    with Host(ctx) as host:
        hung = [start(ctx, [slow, "65533"]) for _ in range(16)]
        equal(os.stat(f"/proc/{hung[0].pid}/maps").st_uid, 0, "whose its files are")
        host.rules(quick.name, slow.name)
        host.start()
        # Attaching to four of them takes all the time that there is: a minute.
        host.told(lambda told: told["rules"][1]["waiting"] == len(hung))
        late = ctx.start([quick, "600"])
        host.attached(late.pid)
        told = host.rule(attached=1)
        told = json.loads((host.run / "reach.json").read_text())
        check(told["unanswered"] < 8, "one user's processes were waited for again and again", told)
        host.stop()
        left = ctx.run(host.inside(ctx.scope, "reach", "--leave", "--socket", host.collector.name), timeout=80)
        equal(left.code, 0, left.describe())
        check(re.search(rb"the memory of 16 processes, .*doesn't answer", left.err), left.describe())
        equal(ours(late.pid), [], "mappings that are left")
        for process in hung:
            process.kill()


# --- with the collector of a host, in a pid namespace, where the kernel tells of no programs ---

class Observed:
    """A host of its own that observes programs of one name."""

    def __init__(self, box, name):
        self.box, self.count = box, 0
        box.write("/etc/scope/rules.yml", f"allow:\n- procname: {name}\n")

    def start(self, path, *words):
        """A process's number there."""
        self.count += 1
        file = self.box.dir / f"pid-{self.count}"
        self.box.start(["sh", "-c", 'echo $$ >"$1"; shift; exec "$@"', "sh", file, path, *(words or ["600"])])
        return int(self.box.ctx.wait_for(lambda: file.exists() and file.read_text().strip(), "it runs"))

    def segment(self, pid):
        """Tells which segment a process has, if any."""
        maps = (self.box.read(f"/proc/{pid}/maps") or b"").decode()
        return [line.split()[4] for line in maps.splitlines() if "/memfd:scope" in line]

    def told(self, **what):
        """Waits until that is told of the rule."""
        def look():
            told = json.loads(self.box.read("/run/appscope/reach.json") or b"{}").get("rules")
            return told and {k: told[0][k] for k in what} == what and told[0]
        try:
            return self.box.ctx.wait_for(look, "")
        except Failure as e:
            raise Failure(f"{e} {self.box.read('/run/appscope/reach.json')}\n{self.box.log()}") from None

    def kill_collector(self):
        self.box.run(["kill", "-KILL", str(json.loads(self.box.read("/run/appscope/status.json"))["collector"])], check_code=0)


@test("reach/host")
def host_with_collector(ctx):
    """The loader's, those that ran before, static ones; the collector is killed, and all are observed again; what the user
    has detached is left alone until it executes something else."""
    name = unique()
    for kind, program in (("dynamic", "/bin/sleep"), ("static", ctx.compile("host/waits.c", "static"))):
        shutil.copy(program, ctx.fresh(kind) / name)
    with HostBox(ctx) as box:
        host = Observed(box, name)
        pids = [host.start(ctx.dir / "dynamic" / name)]
        box.scope("start")
        pids += [host.start(ctx.dir / kind / name) for kind in ("dynamic", "static")]
        told = host.told(loader=1, attached=2, failed=0, left=0, waiting=0)
        equal(told["processes"], [], "those that are not reached")
        equal(json.loads(box.read("/run/appscope/reach.json"))["by"], "scans", "how programs are noticed")
        before = [host.segment(pid) for pid in pids]
        check(all(before), "segments", before)
        host.kill_collector()
        ctx.wait_for(lambda: all(host.segment(pid) not in ([], was) for pid, was in zip(pids, before)), "they are observed again: " + box.log())
        host.told(loader=0, attached=3, failed=0, left=0, waiting=0)
        box.scope("detach", pids[0])
        told = host.told(attached=2, left=1)
        check("scope detach" in told["processes"][0]["reason"], "the reason", told)
        box.write("/etc/scope/rules.yml", f"# again\nallow:\n- procname: {name}\n- procname: {name}-2\n")
        ctx.wait_for(lambda: json.loads(box.read("/run/appscope/reach.json"))["rules"][1:], "the rules are read")
        host.told(attached=2, left=1, failed=0, waiting=0)
        equal(host.segment(pids[0]), [], "the segment of the one that was detached from")
        box.scope("stop", "-f")
        equal([host.segment(pid) for pid in pids], [[], [], []], "segments after `scope stop -f`")
        for pid in pids:
            check(box.read(f"/proc/{pid}/stat"), "it has ended")


@test("reach/exec")
def another_program(ctx):
    """Where an exec isn't followed (a filter forbids the probe to do anything) and no loader brings another probe, what runs
    then is attached to, and told of as what it is."""
    name = unique()
    for kind, program in (("first", ctx.compile("host/filters.c")), ("then", ctx.compile("host/waits.c", "static"))):
        shutil.copy(program, ctx.fresh(kind) / name)
    with HostBox(ctx) as box:
        host = Observed(box, name)
        box.scope("start")
        then = ctx.dir / "then" / name
        pid = host.start(ctx.dir / "first" / name, ctx.dir / "go", then, "600")
        host.told(loader=1)
        (ctx.dir / "go").touch()
        host.told(loader=0, attached=1)
        check(host.segment(pid), "it isn't observed")

        def starts():
            said = box.run([ctx.scope, "events", "--host", "-a", "-j"]).out
            events = [line.get("body", line) for line in map(json.loads, said.splitlines())]
            return [e["data"]["exe"] for e in events if e.get("source") == "proc.start" and e["pid"] == pid]
        ctx.wait_for(lambda: str(then) in starts(), "its start is told")
        box.scope("stop", "-f")
