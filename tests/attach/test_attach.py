# SPDX-License-Identifier: Apache-2.0
"""Attaching to running processes and detaching from them: they must not notice, and nothing of ours may stay."""

import collections
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from scopetest import TESTS, Failure, Session, add_test, check, equal, test
from tracing import park, symbol

VARIANTS = ["glibc-O2", "musl", "static"]
PYTHON = os.path.realpath(sys.executable)
LOOP = "import time\nwhile True:\n open('/etc/hostname').close(); time.sleep(0.01)"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def status(pid, key):
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as f:
        return next(line.split(":", 1)[1].strip() for line in f if line.startswith(key + ":"))


def ours(pid):
    """Mappings of the probe's making: the segment; code that is no file's; stacks."""
    with open(f"/proc/{pid}/maps", encoding="ascii", errors="replace") as f:
        rows = [line.split(None, 5) for line in f]
    found = [" ".join(r).strip() for r in rows
             if (len(r) > 5 and r[5].startswith("/memfd:scope")) or ("x" in r[1] and len(r) < 6)]
    with open(f"/proc/{pid}/smaps", encoding="ascii", errors="replace") as f:  # stacks for hooks of Go code
        return found + [line.strip() for line in f if line.startswith("VmFlags:") and {"wf", "nh"} <= set(line.split())]


def start(ctx, argv, **how):
    """Starts a program and waits for its first line, "ready"."""
    process = ctx.start(argv, stdout=subprocess.PIPE, **how)
    equal(process.stdout.readline(), b"ready\n", "first line")
    return process


def attach(ctx, pid, *flags, code=0, env=None):
    before = set(ctx.sessions())
    result = ctx.run([ctx.scope, "attach", *flags, str(pid)], check_code=code, env=env)
    new = set(ctx.sessions()) - before
    if code == 0:
        check(b"Attaching to pid" in result.err, "the message", result.describe())
        equal(len(new), 1, "new sessions")
        result.session = Session(ctx, new.pop())
    return result


def detach(ctx, pid, *flags, code=0):
    result = ctx.run([ctx.scope, "detach", *flags, str(pid)], check_code=code)
    if code == 0:
        check(f"Detaching from pid {pid}".encode() in result.err, "the message", result.describe())
        n = re.search(rb"(\d+) bytes of code are those of their files", result.err)
        check(n and int(n.group(1)) > 10000, "the number of bytes compared", result.describe())
        check(b"differ" not in result.err and b"stays in its memory" not in result.err, "not as before", result.describe())
        equal(ours(pid), [], "mappings that are left")
    return result


def ends_well(process, expect):
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    check(process.returncode == 0 and expect in out, f"ended with {process.returncode}", out[-3000:].decode())


def opens(session, file="/etc/hostname"):
    return len([b for b in session.events("fs", "fs.open") if b["data"].get("file") == file])


# --- what is seen ---

def watch(ctx, argv):
    """Events while attached, none any more once detached, and again."""
    process = ctx.start(argv)
    time.sleep(0.3)
    for _ in range(2):
        before = (len(os.listdir(f"/proc/{process.pid}/fd")), status(process.pid, "SigCgt"))
        session = attach(ctx, process.pid).session
        ctx.wait_for(lambda s=session: opens(s) > 3, "events", 10)
        check(str(process.pid).encode() in ctx.tool_run("ps").out, "ps does not list it")
        begun = session.events("process", "proc.start")
        equal([b["data"]["start"] for b in begun], ["attach"], "proc.start")
        equal(begun[0]["data"]["args"], [str(a) for a in argv], "arguments")
        equal(session.meta["kind"], "attach", "kind of the session")
        detach(ctx, process.pid)
        check(str(process.pid).encode() not in ctx.tool_run("ps").out, "ps still lists it")
        session.wait_end()
        equal({k: n for k, n in session.lost().items() if n}, {}, "losses")
        equal(session.events("process", "proc.exit", sync=False), [], "ends that were none")
        check("detached" in session.log(), "the log does not tell")
        equal((len(os.listdir(f"/proc/{process.pid}/fd")), status(process.pid, "SigCgt")), before, "descriptors and handlers")
    check(process.poll() is None, "it has ended")


@test("python")
def python(ctx):
    watch(ctx, [PYTHON, "-c", LOOP])


@test("perl")
def perl(ctx):
    watch(ctx, [ctx.tool("perl"), "-e", "while (1) { open(F, '/etc/hostname'); close(F); select(undef, undef, undef, 0.01) }"])


@test("children")
def children(ctx):
    """What it starts is followed; --children takes those that it has started before."""
    process = ctx.start(["/bin/sh", "-c", "sleep 1000 & while :; do /bin/true; sleep 0.05; done"])
    time.sleep(0.3)
    result = attach(ctx, process.pid, "--children")
    check(result.err.count(b"Attaching to pid") >= 2, "children", result.describe())

    def followed():
        started = result.session.events("process", "proc.start")
        return {"attach", "exec", "fork"} <= {b["data"]["start"] for b in started}
    ctx.wait_for(followed, "starts of all kinds", 10)


@test("name")
def name(ctx):
    """By exact name; several of one name are listed and not guessed at."""
    program = ctx.dir / "peculiar-name"
    program.symlink_to(ctx.tool("sleep"))
    one = ctx.start([program, "1000"])
    time.sleep(0.2)
    attach(ctx, "peculiar-name")
    ctx.run([ctx.scope, "detach", "peculiar-name"], check_code=0)
    check(b"no process" in attach(ctx, "peculiar-nam", code=1).err, "a part of the name was enough")
    two = ctx.start([program, "1000"])
    time.sleep(0.2)
    result = attach(ctx, "peculiar-name", code=1)
    check(all(str(p.pid).encode() in result.err for p in (one, two)) and b"--all-matches" in result.err, "the list",
          result.describe())
    attach(ctx, "peculiar-name", "--all-matches")
    for p in (one, two):
        detach(ctx, p.pid)


def descriptors(ctx, variant):
    """What was open before is known: path of a file, addresses of a connection."""
    path, port = ctx.dir / "written", free_port()
    process = start(ctx, [ctx.compile("attach/files.c", variant), path, port])
    session = attach(ctx, process.pid).session
    session.sync()
    process.send_signal(signal.SIGUSR1)
    equal(process.stdout.readline(), b"done\n", "answer")
    closed = ctx.wait_for(lambda: [b["data"] for b in session.events("fs", "fs.close") if b["data"]["file"] == str(path)],
                          "fs.close of the file", 10)
    equal(closed[0]["file_write_bytes"], 8, "bytes written")
    ends = ctx.wait_for(lambda: [b["data"] for b in session.events("net", "net.close")], "net.close", 10)
    check(all(e["net_peer_ip"] == "127.0.0.1" and port in (e["net_peer_port"], e["net_host_port"]) for e in ends), "addresses",
          *ends)
    equal(sum(e.get("net_bytes_sent", 0) for e in ends), 5, "bytes sent")
    detach(ctx, process.pid)


# --- what the program must not notice ---

def threads(ctx, variant, cycles=10):
    """64 threads, stopped again and again."""
    process = start(ctx, [ctx.compile("attach/threads.c", variant)])
    for _ in range(cycles):
        result = attach(ctx, process.pid)
        check(re.search(rb": 6\d threads stood still for [\d.]+ ms", result.err), "the message", result.describe())
        time.sleep(0.05)
        detach(ctx, process.pid)
    ends_well(process, b"0 failures, signals sent")


@test("sleep")
def sleep(ctx):
    """A call that is under way takes as long as it should."""
    began = time.monotonic()
    process = ctx.start([ctx.tool("sleep"), "2"])
    time.sleep(0.3)
    for _ in range(3):
        attach(ctx, process.pid)
        detach(ctx, process.pid)
    equal(process.wait(10), 0, "status")
    took = time.monotonic() - began
    check(2 <= took < 3, f"took {took} s")


@test("vfork")
def vfork(ctx):
    """Threads that wait for a vfork child can't be stopped before it has exec'ed; everything is done in between."""
    process = start(ctx, [ctx.compile("attach/vforks.c", "glibc-O2")])
    for _ in range(5):
        session = attach(ctx, process.pid).session
        ctx.wait_for(lambda s=session: [b for b in s.events("process", "proc.start") if b["data"]["start"] == "exec"],
                     "a child's exec", 10)
        detach(ctx, process.pid)
    ends_well(process, b"all children ended well")


@test("stopped")
def stopped(ctx):
    """Job control: a stopped process stays stopped."""
    process = ctx.start([PYTHON, "-c", LOOP])
    time.sleep(0.3)
    process.send_signal(signal.SIGSTOP)
    ctx.wait_for(lambda: status(process.pid, "State").startswith("T"), "stopped")
    session = attach(ctx, process.pid).session
    time.sleep(0.2)
    check(status(process.pid, "State").startswith("T"), "it runs")
    equal(opens(session), 0, "events of a stopped process")
    process.send_signal(signal.SIGCONT)
    ctx.wait_for(lambda: opens(session) > 3, "events", 10)
    process.send_signal(signal.SIGSTOP)
    ctx.wait_for(lambda: status(process.pid, "State").startswith("T"), "stopped")
    detach(ctx, process.pid)
    check(status(process.pid, "State").startswith("T"), "it runs")
    process.send_signal(signal.SIGCONT)
    ctx.wait_for(lambda: status(process.pid, "State")[0] in "SR", "running")


def inside(ctx, by_handler):
    """A thread stands in the middle of bytes that are to be replaced, or will when its signal handler returns."""
    program, flag = ctx.compile("attach/inside.c", "static", ["-no-pie"]), ctx.dir / "flag"
    process = start(ctx, [program, flag])
    flag.touch()
    middle = symbol(program, "number") + 10
    park(process.pid, lambda pc: pc == middle, signal.SIGUSR1 if by_handler else signal.SIGSTOP)
    if not by_handler:
        ctx.wait_for(lambda: status(process.pid, "State").startswith("T"), "stopped")
    time.sleep(0.1)
    result = attach(ctx, process.pid)
    check(b"1 calls are not observed because a thread stood in their code" in result.err, "no thread was found there",
          result.describe())
    flag.unlink()
    process.send_signal(signal.SIGCONT)
    time.sleep(0.2)
    check(process.poll() is None, f"ended with {process.poll()}")
    detach(ctx, process.pid)
    check(b"are not observed" not in attach(ctx, process.pid).err, "nobody stands there now")
    detach(ctx, process.pid)
    ends_well(process, b"went on well")


@test("inside/hook")
def inside_hook(ctx):
    """A thread that does not leave a hook: the library stays, without effect; later it can all be done again."""
    process = start(ctx, [ctx.compile("attach/inside.c", "static", ["-no-pie"]), "x"])
    attach(ctx, process.pid)
    with open(f"/proc/{process.pid}/maps", encoding="ascii") as f:
        rows = [line.split(None, 5) for line in f]
    probe = max((tuple(int(x, 16) for x in r[0].split("-")) for r in rows if "x" in r[1] and len(r) < 6),
                key=lambda r: r[1] - r[0])
    park(process.pid, lambda pc: probe[0] <= pc < probe[1], signal.SIGSTOP)
    ctx.wait_for(lambda: status(process.pid, "State").startswith("T"), "stopped")
    result = ctx.run([ctx.scope, "detach", process.pid], check_code=0)
    check(b"stays in its memory" in result.err and b"differ" not in result.err, "it was taken away", result.describe())
    process.send_signal(signal.SIGCONT)
    session = attach(ctx, process.pid).session
    time.sleep(0.2)
    ctx.run([ctx.scope, "detach", process.pid], check_code=0)
    session.wait_end()
    ends_well(process, b"went on well")


add_test("attach", "inside/thread", lambda ctx: inside(ctx, False))
add_test("attach", "inside/handler", lambda ctx: inside(ctx, True))


def filtered(ctx, variant):
    """A sandbox in which nothing that attaching needs is allowed: root can suspend it for that moment."""
    if os.geteuid() != 0:
        return
    process = start(ctx, [ctx.compile("attach/filtered.c", variant, ["-Wno-unused-result"])])
    for _ in range(3):
        session = attach(ctx, process.pid).session
        ctx.wait_for(lambda s=session: opens(s) > 3, "events", 10)
        detach(ctx, process.pid)
    equal(status(process.pid, "Seccomp"), "2", "the filter")
    ends_well(process, b"went on well")


@test("run-then-detach")
def run_then_detach(ctx):
    """A process that was started observed: detached from, and attached to again."""
    process = ctx.start(ctx.scope_argv([PYTHON, "-c", LOOP]))
    session = Session(ctx, ctx.wait_for(ctx.sessions, "a session")[0])
    ctx.wait_for(lambda: opens(session) > 3, "events", 10)
    detach(ctx, process.pid)
    before = opens(session)
    time.sleep(0.3)
    equal(opens(session), before, "events after detaching")
    check(b"Already detached" in ctx.run([ctx.scope, "detach", process.pid], check_code=0).err, "the second time")
    again = attach(ctx, process.pid).session
    ctx.wait_for(lambda: opens(again) > 3, "events", 10)
    detach(ctx, process.pid)
    check(process.poll() is None, "it has ended")


def own_memory(pid):
    """Bytes mapped, by rights and file; without what grows as needed. Code that was written to is mapped in pieces."""
    sizes = collections.Counter()
    with open(f"/proc/{pid}/maps", encoding="utf-8") as f:
        for line in f:
            addresses, rights, _, _, _, *name = line.split(maxsplit=5)
            low, high = (int(a, 16) for a in addresses.split("-"))
            sizes[rights, "".join(name).strip()] += high - low
    return {k: v for k, v in sizes.items() if k[1] not in ("[heap]", "[stack]")}


@test("static-then-detach")
def static_then_detach(ctx):
    """What was mapped at a static program's exec, right below its image, goes, and nothing else."""
    program = ctx.compile("attach/inside.c", "static", ["-no-pie"])
    here = ctx.fresh("here")
    bare, observed = (start(ctx, argv, cwd=here) for argv in ([program, "x"], ctx.scope_argv([program, "x"])))
    detach(ctx, observed.pid)
    equal(own_memory(observed.pid), own_memory(bare.pid), "mappings")
    detached = attach(ctx, observed.pid)
    detach(ctx, observed.pid)
    equal(own_memory(observed.pid), own_memory(bare.pid), "mappings, a second time")
    check(observed.poll() is None, "it has ended", detached.describe())


@test("changed-by-others")
def changed_by_others(ctx):
    """Code that differs from its file in other ways is told of and left alone."""
    program = ctx.compile("attach/inside.c", "static", ["-no-pie"])
    process = start(ctx, [program, "x"])
    with open(f"/proc/{process.pid}/mem", "r+b", buffering=0) as f:
        f.seek(symbol(program, "on_usr1"))  # never called here
        f.write(b"\xcc")
    attach(ctx, process.pid)
    result = ctx.run([ctx.scope, "detach", process.pid], check_code=0)
    check(re.search(rb": 1 bytes of code differ", result.err) and b"stays in its memory" in result.err, "the message",
          result.describe())
    ends_well(process, b"went on well")


# --- under load ---

class Load:
    """Clients that make requests until stopped; a request that fails is kept as text."""

    def __init__(self, request, clients=3):
        self.failed, self.count, self.stop = [], 0, False
        self.threads = [threading.Thread(target=self.run, args=(request,)) for _ in range(clients)]
        for t in self.threads:
            t.start()

    def run(self, request):
        while not self.stop and len(self.failed) < 10:
            try:
                request()
                self.count += 1
            except Exception as e:  # pylint: disable=broad-except
                self.failed.append(repr(e))

    def end(self):
        self.stop = True
        for t in self.threads:
            t.join()
        check(not self.failed, "requests failed", *self.failed)
        check(self.count > 100, f"only {self.count} requests")


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def cycles(ctx, pid, request, count, *flags):
    load = Load(request)
    try:
        for _ in range(count):
            attach(ctx, pid, *flags)
            time.sleep(0.02)
            result = ctx.run([ctx.scope, "detach", *flags, str(pid)], check_code=0)
            check(b"differ" not in result.err and b"stays in its memory" not in result.err, "not as before", result.describe())
    finally:
        load.end()


@test("redis", timeout=180)
def redis(ctx):
    port = free_port()
    process = ctx.start([ctx.tool("redis-server"), "--port", port, "--save", "", "--bind", "127.0.0.1"])
    ctx.wait_for(lambda: listens(port), "redis listens")
    local = threading.local()

    def request():
        if not hasattr(local, "file"):
            local.file = socket.create_connection(("127.0.0.1", port), timeout=10).makefile("rwb")
        local.n = getattr(local, "n", 0) + 1
        key = f"{threading.get_ident()}"
        local.file.write(f"SET {key} {local.n}\r\nGET {key}\r\n".encode())
        local.file.flush()
        equal(local.file.readline(), b"+OK\r\n", "answer to SET")
        local.file.readline()
        equal(local.file.readline(), f"{local.n}\r\n".encode(), "answer to GET")
    cycles(ctx, process.pid, request, 50)
    equal(ours(process.pid), [], "mappings that are left")


@test("nginx", timeout=240)
def nginx(ctx):
    """Master and workers."""
    port, home = free_port(), ctx.fresh("nginx")
    (home / "small").write_bytes(b"small" * 100)
    temp = "".join(f"{k}_temp_path {home}/t-{k};" for k in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    user = "user root;" if os.geteuid() == 0 else ""
    (home / "conf").write_text(f"""{user} worker_processes 2; daemon off; pid {home}/pid; error_log {home}/error.log;
        events {{ worker_connections 256; }}
        http {{ access_log off; {temp} server {{ listen 127.0.0.1:{port}; root {home}; }} }}""")
    process = ctx.start([ctx.tool("nginx"), "-c", home / "conf", "-p", home])
    ctx.wait_for(lambda: listens(port), "nginx listens")

    def request():
        with socket.create_connection(("127.0.0.1", port), timeout=10) as s:
            s.sendall(b"GET /small HTTP/1.0\r\n\r\n")
            answer = b""
            while part := s.recv(65536):
                answer += part
        check(b"200 OK" in answer and answer.endswith(b"small" * 100), "answer", answer[:200])
    cycles(ctx, process.pid, request, 50, "--children")


@contextlib.contextmanager
def go_server(ctx, variant):
    """A Go server under the load that wrk makes, of which no request may fail; (process, port)."""
    port, home = free_port(), ctx.fresh("go")
    (home / "root").mkdir()
    (home / "root/small").write_bytes(b"small" * 200)
    process = ctx.start([ctx.go_build("server", variant), port], cwd=home, stderr=subprocess.PIPE)
    ctx.wait_for(lambda: listens(port), "the server listens")
    wrk = ctx.start([ctx.tool("wrk"), "-t1", "-c32", "-d600s", f"http://127.0.0.1:{port}/small"], stdout=subprocess.PIPE)
    yield process, port
    check(process.poll() is None, f"ended with {process.poll()}")
    wrk.send_signal(signal.SIGINT)
    said = wrk.communicate(timeout=30)[0].decode()
    check("Non-2xx" not in said and "Socket errors" not in said, "requests failed", said)
    check(int(re.search(r"(\d+) requests in", said)[1]) > 1000, "hardly any load", said)
    process.send_signal(signal.SIGTERM)
    _, complaints = process.communicate(timeout=30)
    check(process.returncode == 0 and not complaints, f"ended with {process.returncode}", complaints[-3000:].decode())


def go(ctx, variant, count=20):
    """Each time, a connection that is made meanwhile is seen, and nothing is left."""
    with go_server(ctx, variant) as (process, port):
        for _ in range(count):
            session = attach(ctx, process.pid, "--lossless").session
            with socket.create_connection(("127.0.0.1", port), timeout=10) as s:
                mine = s.getsockname()[1]
                s.sendall(b"GET /small HTTP/1.0\r\n\r\n")
                while s.recv(65536):
                    pass
            session.sync()
            detach(ctx, process.pid)
            session.wait_end()
            seen = [b["source"] for b in session.events("net", sync=False) if b["data"].get("net_peer_port") == mine]
            equal(sorted(seen), ["net.close", "net.open"], "events of a connection")


def go_stress(ctx, variant):
    """What hooks in goroutines can break, while they come and go."""
    with open(ctx.dir / "said", "wb") as said:  # what a crash has to say fits into no pipe
        process = ctx.start([ctx.go_build("stress", variant)], cwd=ctx.fresh("stress"), stdout=said, stderr=said)
    times = 0
    while process.poll() is None:
        result = ctx.run([ctx.scope, "attach", process.pid])
        check(result.code == 0 or b"no such process" in result.err or b"try again" in result.err, "another error",
              result.describe())
        time.sleep(0.05)
        result = ctx.run([ctx.scope, "detach", process.pid])
        check(b"differ" not in result.err and b"stays in" not in result.err, "not as before", result.describe())
        times += result.code == 0
    said = (ctx.dir / "said").read_text()
    check(process.returncode == 0 and "deep: status 2" in said, f"ended with {process.returncode}", said[-3000:])
    check(times > 5, f"only {times} times")


for _variant in ("static", "static-stripped", "pie", "cgo", "cgo-stripped", "cgo-external-pie", "cgo-static"):
    add_test("attach", f"go/{_variant}", lambda ctx, v=_variant: go(ctx, v), timeout=240)
for _variant in ("static", "cgo"):
    add_test("attach", f"go-stress/{_variant}", lambda ctx, v=_variant: go_stress(ctx, v), timeout=400)


# --- being killed in the middle ---

def killed_go(ctx, command):
    with go_server(ctx, "static") as (process, _):
        killed_each_step(ctx, process, command)


def killed(ctx, command):
    process = start(ctx, [ctx.compile("attach/threads.c", "glibc-O2")])
    killed_each_step(ctx, process, command)
    ends_well(process, b"0 failures, signals sent")


def killed_each_step(ctx, process, command):
    """The tool dies before each of its steps: the program goes on, and can be attached to and detached from."""
    for step in range(1, 200):
        if command == "detach":
            attach(ctx, process.pid)
        result = ctx.run([ctx.scope, command, process.pid], env=ctx.env(SCOPE_FAULT=step))
        check(process.poll() is None, f"ended with {process.poll()} after step {step}", result.describe())
        done = result.code == 0
        ctx.run([ctx.scope, "detach", process.pid])
        if done:
            break
        check(b"was killed" in result.err, "another error", result.describe())
    check(5 < step < 199, f"{step} steps")
    attach(ctx, process.pid)
    detach_anyhow(ctx, process.pid)


def detach_anyhow(ctx, pid):
    """What a killed tool left mapped may be left; the code is as it was."""
    result = ctx.run([ctx.scope, "detach", str(pid)], check_code=0)
    check(b"differ" not in result.err, "the code differs", result.describe())


add_test("attach", "killed/attach", lambda ctx: killed(ctx, "attach"), timeout=240)
add_test("attach", "killed/detach", lambda ctx: killed(ctx, "detach"), timeout=240)
add_test("attach", "killed/go-attach", lambda ctx: killed_go(ctx, "attach"), timeout=240)
add_test("attach", "killed/go-detach", lambda ctx: killed_go(ctx, "detach"), timeout=240)


# --- what can't be done is told ---

def refused(ctx, pid, *words, flags=(), argv=()):
    result = ctx.run([*argv, ctx.scope, "attach", *flags, str(pid)])
    equal(result.code, 1, f"status of {result.describe()}")
    for word in words:
        check(word.encode() in result.err, f"'{word}' is not in the message", result.describe())
    equal(ctx.sessions(), [], "sessions of nothing")
    return result


@test("refused/nobody")
def refused_nobody(ctx):
    refused(ctx, 4194303, "no such process")
    refused(ctx, "surely-no-such-name", "no process is called")
    result = ctx.run([ctx.scope, "detach", "4194303"])
    check(result.code == 1 and b"no such process" in result.err, "detach", result.describe())
    equal(ctx.run([ctx.scope, "attach"]).code, 2, "status without an argument")
    equal(ctx.run([ctx.scope, "detach"]).code, 2, "status without an argument")
    equal(ctx.run([ctx.scope, "detach", "--all", "1"]).code, 2, "status with --all and a process")


@test("refused/ended")
def refused_ended(ctx):
    process = ctx.start(["/bin/true"])
    ctx.wait_for(lambda: status(process.pid, "State").startswith("Z"), "zombie")
    refused(ctx, process.pid, "no such process")


@test("refused/kernel-thread")
def refused_kernel_thread(ctx):
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError, StopIteration, ValueError):
            if int(status(entry, "PPid")) == 2:
                refused(ctx, entry, "kernel thread")
                return


@test("refused/traced")
def refused_traced(ctx):
    tracer = ctx.start([ctx.tool("strace"), "-o", ctx.dir / "trace", ctx.tool("sleep"), "1000"])
    child = ctx.wait_for(lambda: open(f"/proc/{tracer.pid}/task/{tracer.pid}/children", encoding="ascii").read().split(),
                         "a child")[0]
    ctx.wait_for(lambda: status(child, "Name") == "sleep", "sleep")
    refused(ctx, child, f"it is traced by process {tracer.pid} (strace)")


@test("refused/32-bit")
def refused_32bit(ctx):
    source = ctx.dir / "small.c"
    source.write_text("void _start(void) { for (;;) __asm__ volatile(\"int $0x80\" : : \"a\"(29)); }")
    program = ctx.dir / "small"
    ctx.run([ctx.tool("gcc"), "-m32", "-nostdlib", "-static", "-fno-pic", "-no-pie", source, "-o", program], check_code=0)
    process = ctx.start([program])
    time.sleep(0.2)
    refused(ctx, process.pid, "32-bit")
    check(process.poll() is None, "it has ended")


@test("refused/other-user")
def refused_other_user(ctx):
    """Another user's process, and one's own where that is allowed."""
    if os.geteuid() != 0:
        return
    process = ctx.start([ctx.tool("sleep"), "1000"])
    os.chmod(ctx.dir, 0o777)
    as_nobody = [ctx.tool("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups"]
    refused(ctx, process.pid, "may not be traced by this user", argv=as_nobody)
    own = ctx.start([*as_nobody, ctx.tool("sleep"), "1000"])
    time.sleep(0.5)
    other = [ctx.tool("setpriv"), "--bounding-set=-sys_resource"]  # as root of a container may be
    ctx.run([*other, ctx.scope, "attach", own.pid], check_code=0)
    ctx.run([*other, ctx.scope, "detach", own.pid], check_code=0)
    scope = ["env", f"SCOPE_HOME={ctx.dir}/nobody", ctx.scope]
    ctx.run([*as_nobody, *scope, "attach", own.pid], check_code=0)
    ctx.run([*as_nobody, *scope, "detach", own.pid], check_code=0)
    equal(ours(own.pid), [], "mappings that are left")


@test("cache")
def cache(ctx):
    """What another user's file says of itself does not get into root's cache of plans, which serves everybody."""
    if os.geteuid() != 0:
        return
    build_id = os.urandom(20).hex()
    program = ctx.compile("attach/inside.c", "static", ["-no-pie", f"-Wl,--build-id=0x{build_id}"], name=f"id-{build_id[:8]}")
    for user, stored in ((65534, False), (0, True)):
        process = start(ctx, [ctx.tool("setpriv"), f"--reuid={user}", "--clear-groups", program, "x"])
        attach(ctx, process.pid)
        detach(ctx, process.pid)
        found = [p for d in ("/usr/lib/appscope", "/tmp/appscope-0", "/var/tmp/appscope-0")
                 for p in Path(d).glob(f"*/plans/{build_id}.plan")]
        equal(bool(found), stored, f"a plan of user {user} is in the cache")
    for p in found:
        p.unlink()


@test("refused/collector")
def refused_collector(ctx):
    process = ctx.start([ctx.tool("sleep"), "1000"])
    session = attach(ctx, process.pid).session
    result = ctx.run([ctx.scope, "attach", session.collector_pid()])
    check(result.code == 1 and b"it is a collector" in result.err, "the collector", result.describe())
    result = ctx.run([ctx.scope, "attach", process.pid])
    check(result.code == 1 and b"observed already" in result.err, "twice", result.describe())
    equal(len(ctx.sessions()), 1, "sessions")
    detach(ctx, process.pid)


@test("vanishing")
def vanishing(ctx):
    """Processes that end at any moment while they are attached to."""
    for ms in range(0, 60, 3):
        process = ctx.start([ctx.tool("sleep"), f"0.{100 + ms:03d}"])
        time.sleep(0.09)
        result = ctx.run([ctx.scope, "attach", process.pid])
        check(result.code == 0 or b"no such process" in result.err, "another error",
              result.describe())
        equal(process.wait(10), 0, "status")


for _variant in VARIANTS:
    add_test("attach", f"threads/{_variant}", lambda ctx, v=_variant: threads(ctx, v), timeout=120)
    add_test("attach", f"filtered/{_variant}", lambda ctx, v=_variant: filtered(ctx, v))
    add_test("attach", f"descriptors/{_variant}", lambda ctx, v=_variant: descriptors(ctx, v))
