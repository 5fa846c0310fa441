# SPDX-License-Identifier: Apache-2.0
"""Attaching to running processes and detaching from them: they must not notice, and nothing of ours may stay."""

import collections
import contextlib
import ctypes
import errno
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from attaching import asleep, attach, cycles, detach, free_port, listens, ours, start, status
from scopetest import MACHINE, SLACK, TESTS, Failure, Session, Skip, add_test, check, equal, test
from tracing import park, symbol

VARIANTS = ["glibc-O2", "musl", "static"]
PYTHON = os.path.realpath(sys.executable)
LOOP = "import time\nwhile True:\n open('/etc/hostname').close(); time.sleep(0.01)"


def ends_well(process, expect):
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    check(process.returncode == 0 and expect in out, f"ended with {process.returncode}", out[-3000:].decode())


def opens(session, file="/etc/hostname"):
    return len([b for b in session.events("fs", "fs.open") if b["data"].get("file") == file])


def sites(ctx, pid, file):
    """What became of the system call sites of a file: [patched by method, refused by reason]."""
    probe = json.loads(ctx.tool_run("inspect", pid).out)["probe"]
    for of_all, kind in (("sites_patched", "patched"), ("sites_left", "refused")):
        equal(sum(sum(i[kind].values()) for i in probe["by_image"]), probe[of_all], kind)
    return [(i["patched"], i["refused"]) for i in probe["by_image"] if os.path.basename(i["path"]) == os.path.basename(file)][0]


# --- what is seen ---

def watch(ctx, argv, process=None):
    """Events while attached, none any more once detached, and again. process: one that has exec'ed argv already."""
    if not process:
        process = ctx.start(argv)
        asleep(ctx, process)
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
        # It may have its file open just now.
        ctx.wait_for(lambda: (len(os.listdir(f"/proc/{process.pid}/fd")), status(process.pid, "SigCgt")) == before,
                     "its own descriptors and handlers, and no others", 10)
    check(process.poll() is None, "it has ended")


def mixed(ctx, variant):
    """Data in the text of a musl program without unwind tables and symbols: what is code is proven, what isn't stays."""
    program, file = ctx.dir / "mixed", ctx.dir / "file"
    shutil.copy(ctx.compile("attach/mixed.c", variant), program)
    ctx.run([ctx.tool("strip"), "-s", "-R", ".eh_frame", "-R", ".eh_frame_hdr", program], check_code=0)
    file.touch()
    bare = start(ctx, [program, file])
    bare.send_signal(signal.SIGTERM)
    expect, _ = bare.communicate(timeout=30)
    process = start(ctx, [program, file])
    session = attach(ctx, process.pid).session
    ctx.wait_for(lambda: opens(session, str(file)) > 3, "opens", 10)
    check("left alone" not in session.log(), "there is nothing to tell", session.log())
    _, refused = sites(ctx, process.pid, program)
    check(set(refused) <= {"taken for data", "no stack to run on"} and refused["taken for data"] >= 65, "refused sites", refused)
    ends_well(process, expect)
    session.wait_end()
    closed = [b["data"] for b in session.events("fs", "fs.close") if b["data"]["file"] == str(file)]
    check(len(closed) > 3 and all(d["file_read_ops"] == d["file_write_bytes"] == 1 for d in closed[1:-1]), "its calls", *closed)
    equal({k: n for k, n in session.lost().items() if n}, {}, "losses")
    equal(session.log(), "", "the log")


for _variant in ("musl-static", "musl-static-pie"):
    add_test("attach", f"mixed/{_variant}", lambda ctx, v=_variant: mixed(ctx, v), arch="x86_64")


@test("python")
def python(ctx):
    watch(ctx, [PYTHON, "-c", LOOP])


@test("deny")
def deny(ctx):
    """Under MemoryDenyWriteExecute nothing may become executable later: the probe is so from the start."""
    program = ctx.compile("behaviour/deny.c")
    if ctx.run([program, "prctl", ctx.tool("true")]).code == 77:
        raise Skip("no PR_SET_MDWE")
    for kind in ("prctl", "filter"):
        argv = [PYTHON, "-c", f"print('ready', flush=True)\n{LOOP}"]
        watch(ctx, argv, start(ctx, [program, kind, *argv]))


@test("perl")
def perl(ctx):
    watch(ctx, [ctx.tool("perl"), "-e", "while (1) { open(F, '/etc/hostname'); close(F); select(undef, undef, undef, 0.01) }"])


@test("children")
def children(ctx):
    """What it starts is followed; --children takes those that it has started before."""
    process = ctx.start(["/bin/sh", "-c", "sleep 1000 & while :; do /bin/true; sleep 0.05; done"])
    asleep(ctx, process)
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
    asleep(ctx, one)
    attach(ctx, "peculiar-name")
    ctx.run([ctx.scope, "detach", "peculiar-name"], check_code=0)
    check(b"no process" in attach(ctx, "peculiar-nam", code=1).err, "a part of the name was enough")
    two = ctx.start([program, "1000"])
    asleep(ctx, two)
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


def under_way(ctx, variant):
    """A read that had begun before is told of its descriptor, whose register the kernel may have destroyed by then."""
    pipe = ctx.dir / "pipe"
    os.mkfifo(pipe)
    process = start(ctx, [ctx.compile("attach/reads.c", variant), pipe])
    asleep(ctx, process)
    session = attach(ctx, process.pid).session
    pipe.write_bytes(b"5 of\n")
    equal(process.wait(timeout=30), 0, "status")
    session.wait_end()
    closed = [b["data"] for b in session.events("fs", "fs.close") if b["data"]["file"] == str(pipe)]
    equal([(d["file_read_ops"], d["file_read_bytes"]) for d in closed], [(1, 5)], "reads, bytes")
    equal({k: n for k, n in session.lost().items() if n}, {}, "losses")


for _variant in ("glibc-O2", "static"):  # with musl nothing tells the number of a call that had begun before
    add_test("attach", f"under-way/{_variant}", lambda ctx, v=_variant: under_way(ctx, v))


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
    asleep(ctx, process)
    try:
        for _ in range(3):
            attach(ctx, process.pid)
            detach(ctx, process.pid)
    except Failure:
        if process.poll() is None: # else it was over before we were, on a busy machine
            raise
    after = time.monotonic() - began
    equal(process.wait(10 * SLACK), 0, "status")
    took = time.monotonic() - began
    check(2 <= took < max(2, after) + 1, f"took {took} s, {after} s of which we")


# What `waits` must say of calls that time out; not named: 0. The kernel begins the others anew for us after each stop,
# which waits for the whole timeout again (docs/INTERNALS.md).
TIMED_OUT = {"epoll_wait": 0, "epoll_pwait": 0, "epoll_pwait2": 0, "io_getevents": 0, "semtimedop": errno.EAGAIN,
             "sigtimedwait": errno.EAGAIN, "recv": errno.EAGAIN, "recvmsg": errno.EAGAIN, "read": errno.EAGAIN,
             "send": errno.EAGAIN, "write": errno.EAGAIN, "accept": errno.EAGAIN, "connect": errno.EAGAIN}
TIMED_OUT_ONCE = {"futex": errno.ETIMEDOUT, "sem_timedwait": errno.ETIMEDOUT, "poll": 0, "ppoll": 0, "select": 0, "pselect": 0,
                  "nanosleep": 0, "clock_nanosleep": 0, "clock_nanosleep_abs": 0}


def waits(ctx, variant, *only):
    """Calls with a timeout, interrupted again and again: they return as ever, and no earlier. Those that the kernel can
    continue take as long as ever, too. On a busy machine they have to wait longer for us to be quick enough; the first time
    nobody is: they end before, or while, they are interrupted."""
    for timeout in (0.75, 4.0, 12.0, 36.0):
        if interrupted(ctx, variant, timeout, only):
            return
    raise Failure("too slow for the test: no call waits any more")


def has_ended_before(ctx, process, change):
    """Attaches or detaches; True if that came too late, as the process has ended by itself, and well."""
    try:
        change(ctx, process.pid)
    except Failure as e:
        if "there is no such process" not in str(e) and ("it is not observed" not in str(e) or process.poll() is None):
            raise
        equal(process.wait(10), 0, "status")
        return True
    return False


def interrupted(ctx, variant, timeout, only):
    """False if the calls had returned before they were interrupted often enough."""
    slack, program = 0.3 * timeout, ctx.compile("attach/waits.c", variant, ["-pthread"])
    began = time.monotonic()
    waiting = [start(ctx, [program, int(timeout * 1000), *name]) for name in ([[n] for n in only] or [[]])]
    ended = False
    while time.monotonic() - began < timeout / 2 and not ended:
        for change in (attach, detach):
            time.sleep(0.3)
            ended |= any([has_ended_before(ctx, process, change) for process in waiting])
    last = time.monotonic() - began
    check(last > slack, "too quick for the test to tell")
    if ended or last >= timeout - 0.2:
        for process in waiting:
            process.communicate(timeout=SLACK * timeout)
            equal(process.returncode, 0, "status")
        return False
    seen = set()
    for process in waiting:
        out, _ = process.communicate(timeout=30)
        equal(process.returncode, 0, "status")
        for line in out.decode().splitlines():
            name, result, err, took = line.split()
            seen.add(name)
            expected = {**TIMED_OUT, **TIMED_OUT_ONCE}[name]
            equal((int(result), int(err)), (-1 if expected else 0, expected), f"{name}: result and errno")
            # One that was begun anew at the last stop takes `last` longer.
            longest = timeout + (last + slack if name in TIMED_OUT else max(slack, 0.8 * last))
            check(timeout - 0.01 <= int(took) / 1000 <= longest, f"{name} took {took} ms, at most {longest} s", out.decode())
    equal(seen, set(only) or set(TIMED_OUT) | set(TIMED_OUT_ONCE), "calls")
    return True


for v in VARIANTS:
    add_test("attach", f"waits/{v}", lambda ctx, v=v: waits(ctx, v))
add_test("attach", "waits/alone", lambda ctx: waits(ctx, "glibc-O2", "epoll_wait", "poll", "select", "semtimedop"))


def cancels(ctx, variant, *flags):
    """Cancellations in the middle of hooks. Where stacks are unwound for them, some end at the hook, whose unwind
    information the C library does not know: such a thread ends without its clean-up (docs/INTERNALS.md), and the program
    goes on."""
    process = start(ctx, [ctx.compile("attach/cancels.c", variant, ["-pthread", *flags]), "300"])
    attach(ctx, process.pid)
    process.send_signal(signal.SIGUSR1)
    out, _ = process.communicate(timeout=60)
    equal(process.returncode, 0, "status")
    cancelled, cleaned = map(int, re.fullmatch(rb"(\d+) cancelled, (\d+) cleaned up\n", out).groups())
    equal(cancelled, 300, "cancelled")
    check(cleaned == 300 or (flags and 0 < cleaned <= 300), f"{cleaned} of 300 ran their clean-up handler")


for v in VARIANTS:
    add_test("attach", f"cancels/{v}", lambda ctx, v=v: cancels(ctx, v))
add_test("attach", "cancels/unwinding", lambda ctx: cancels(ctx, "glibc-O2", "-fexceptions"))


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


def attached_or_ended(result):
    """A program may end at any moment: also thread after thread, its first one before others."""
    words = (b"no such process", b"first thread has ended", b"try again")
    check(result.code == 0 or any(w in result.err for w in words), "another error", result.describe())


@test("execs", timeout=150)
def execs(ctx):
    """A program that execs all the time is attached to, or has ended; what it shows on the way is no reason."""
    program = ctx.compile("attach/execs.c", "static")
    done = 0
    for _ in range(8):
        if done > 3:
            break
        process = ctx.start([program, "500"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        result = ctx.run([ctx.scope, "attach", process.pid])
        attached_or_ended(result)
        done += result.code == 0
        out, err = process.communicate(timeout=60)
        equal((process.returncode, out, err), (0, b"done\n", b""), "the program")
    check(done > 1, f"attached only {done} times")


@test("stopped")
def stopped(ctx):
    """Job control: a stopped process stays stopped."""
    process = ctx.start([PYTHON, "-c", LOOP])
    asleep(ctx, process)
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


# `number` of tests/attach/inside.c: bytes up to the end of the call, the instruction behind it, and the same in other bytes;
# how far behind the label a thread is in the middle of what is replaced.
NUMBER, BEHIND, OTHERWISE, MIDDLE = {
    "x86_64": (b"\xb8\x08\0\0\0\x0f\x05", b"\x48\x89\xc3", b"\x48\x8b\xd8", 10),  # mov %rax,%rbx
    "aarch64": (b"\xc8\x07\x80\xd2\x01\0\0\xd4", b"\xe9\x03\0\xaa", b"\x09\0\0\xaa", 4),  # mov x9, x0; orr x9, x0, x0
}[MACHINE]


def inside(ctx, by_handler):
    """A thread stands in the middle of bytes that are to be replaced, or will when its signal handler returns. Where only
    whole instructions are replaced nobody can: it stands at the call, and hasn't been at the hook before that."""
    program, flag = ctx.compile("attach/inside.c", "static", ["-no-pie"]), ctx.dir / "flag"
    process = start(ctx, [program, flag])
    flag.touch()
    middle, whole = symbol(program, "number") + MIDDLE, MACHINE == "aarch64"
    park(process.pid, lambda pc: pc == middle, signal.SIGUSR1 if by_handler else signal.SIGSTOP)
    if not by_handler:
        ctx.wait_for(lambda: status(process.pid, "State").startswith("T"), "stopped")
    time.sleep(0.1)
    result = attach(ctx, process.pid)
    check((b"1 calls are not observed because a thread stood in their code" in result.err) != whole,
          "what was found there", result.describe())
    equal(sites(ctx, process.pid, program)[1].get("a thread stood in it"), None if whole else 1, "sites that are told of")
    flag.unlink()
    process.send_signal(signal.SIGCONT)
    time.sleep(0.2)
    check(process.poll() is None, f"ended with {process.poll()}")
    detach(ctx, process.pid)
    check(b"are not observed" not in attach(ctx, process.pid).err, "nobody stands there now")
    check("a thread stood in it" not in sites(ctx, process.pid, program)[1], "nobody stands there now")
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


# On arm64 whole words are replaced: nobody can stand in the middle.
add_test("attach", "inside/thread", lambda ctx: inside(ctx, False), arch="x86_64")
add_test("attach", "inside/handler", lambda ctx: inside(ctx, True), arch="x86_64")


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


@test("detach-children")
def detach_children(ctx):
    """Children that come while their parent is being detached from are detached from as well."""
    code = ("import os, signal, time\nsignal.signal(signal.SIGUSR1, lambda *_: 0)\nprint('ready', flush=True)\n"
            "signal.pause()\nfor i in range(400):\n if os.fork() == 0: signal.pause()\n time.sleep(0.001)\n"
            "time.sleep(1000)")
    parent = start(ctx, [PYTHON, "-c", code])
    attach(ctx, parent.pid)

    def children_now():
        return [int(pid) for pid in Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()]
    parent.send_signal(signal.SIGUSR1)
    result = ctx.run([ctx.scope, "detach", "--children", parent.pid], check_code=0)
    check(1 < result.err.count(b"Detaching from pid") < 390, "it waited for the last of them, or there were none",
          result.describe())
    ctx.wait_for(lambda: len(children_now()) == 400, "all children")
    for pid in [parent.pid, *children_now()]:
        equal(ours(pid), [], f"mappings that are left in {pid}")


@test("no-room")
def no_room(ctx):
    """Code that no slots can be placed near is left alone, and counted; the rest is observed."""
    files = [ctx.dir / "by-library", ctx.dir / "by-itself"]
    for file in files:
        file.write_text("something")
    process = start(ctx, [ctx.compile("attach/crowded.c"), *files])
    result = attach(ctx, process.pid)
    check(re.search(rb"\d+ files have no free memory near their code", result.err), "the message", result.describe())
    process.send_signal(signal.SIGUSR1)
    equal(process.stdout.readline(), b"done\n", "answer")
    result.session.sync()
    equal([opens(result.session, str(file)) for file in files], [0, 1], "opens")
    patched, refused = sites(ctx, process.pid, "libc.so.6")
    check(not sum(patched.values()) and refused.get("code can't be changed", 0) > 100, "sites of the C library", patched, refused)
    detach(ctx, process.pid)
    ends_well(process, b"")


@test("left-beside-a-join")
def left_beside_a_join(ctx):
    """A process is left while another one joins: the collector does both."""
    go = ctx.dir / "go"
    os.mkfifo(go)
    shell = ctx.start(ctx.scope_argv(["/bin/bash", "-c", f"sleep 1000 & echo $!; read <{go}; /bin/true; wait"]), stdout=subprocess.PIPE)
    sleeper = int(shell.stdout.readline())
    session = Session(ctx, ctx.wait_for(ctx.sessions, "a session")[0])
    ctx.wait_for(lambda: [b for b in session.events("process", "proc.start") if b["proc"] == "sleep"], "the start of sleep")
    # What the collector has read it goes on with half a second later: the other one's request is there by then.
    tracer = ctx.start([ctx.tool("strace"), "-f", "-qq", "-o", "/dev/null", "-e", "trace=recvmsg", "-e",
                        "inject=recvmsg:delay_exit=500000", "-p", str(session.collector_pid())])
    ctx.wait_for(lambda: status(session.collector_pid(), "TracerPid") == str(tracer.pid), "strace")
    leaving = ctx.start([ctx.scope, "detach", str(sleeper)])
    ctx.wait_for(lambda: not ours(sleeper), "nothing of ours in the process")
    go.write_text("\n")
    equal(leaving.wait(20), 0, "scope detach")
    ctx.wait_for(lambda: [b for b in session.events("process", "proc.note") if b["pid"] == sleeper and
                          b["data"]["text"].startswith("detached")], "the note that it was left")
    ctx.wait_for(lambda: [b for b in session.events("process", "proc.exit") if b["proc"] == "true"], "the end of the other one")
    os.kill(sleeper, signal.SIGTERM)
    equal(shell.wait(20), 0, "the shell's status")


@test("detached-parent")
def detached_parent(ctx):
    """Programs that a process starts after it was detached from are not observed, though its environment still names the
    library; nor are those that these start. Other processes of the session are; and it can be attached to again."""
    go = ctx.dir / "go"
    os.mkfifo(go)
    loop = f"exec 3<>{go}; sleep 1000 & while read -r file done <&3; do sh -c \"cat $file; :\" >/dev/null; echo >$done; done"
    shell = ctx.start(ctx.scope_argv(["sh", "-c", loop]))

    def read(file, name):
        go.write_text(f"{file} {ctx.dir}/{name}\n")
        ctx.wait_for((ctx.dir / name).exists, name)
    read("/etc/hostname", "first")
    session = ctx.session()
    session.sync()
    equal(opens(session), 1, "opens before")
    ctx.run([ctx.scope, "detach", shell.pid], check_code=0)
    read("/etc/passwd", "second")
    session.sync()
    equal([b for b in session.events("fs", "fs.open") if b["data"]["file"] == "/etc/passwd"], [], "opens after")
    starts = len(session.events("process", "proc.start"))
    check(any(b["proc"] == "sleep" for b in session.events("process", "proc.start")), "the other")
    check(b"sleep" in ctx.tool_run("ps").out, "the other one is not observed any more")
    again = attach(ctx, shell.pid).session
    read("/etc/group", "third")
    again.sync()
    equal(opens(again, "/etc/group"), 1, "opens once attached to")
    session.sync()
    equal(len(session.events("process", "proc.start")), starts, "starts in the first session")


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


@test("changed-site", arch="x86_64")
def changed_site(ctx):
    """Bytes that are to be replaced are others than the planner saw: they stay, and `scope inspect` says so. First while
    it runs; then in the file, whose build id, and with it the plan, is that of the file that it was made from."""
    program = ctx.compile("attach/inside.c", "static", ["-no-pie"])
    reason, where = "not the bytes of its file", symbol(program, "number") + len(NUMBER)
    process = start(ctx, [program, "x"])
    attach(ctx, process.pid)
    patched, refused = sites(ctx, process.pid, program)
    detach(ctx, process.pid)
    check(reason not in refused, "changed before", refused)
    with open(f"/proc/{process.pid}/mem", "r+b", buffering=0) as f:
        f.seek(where)
        equal(f.read(len(BEHIND)), BEHIND, "the instruction behind the call")
        f.seek(where)
        f.write(OTHERWISE)
    attach(ctx, process.pid)
    now, now_refused = sites(ctx, process.pid, program)
    equal((sum(now.values()), now_refused.get(reason)), (sum(patched.values()) - 1, 1), "sites, attached to")
    ctx.run([ctx.scope, "detach", process.pid], check_code=0)
    ends_well(process, b"went on well")

    copy = ctx.dir / "copy"
    code = bytearray(program.read_bytes())
    at = code.find(NUMBER + BEHIND)
    check(at > 0 and code.find(NUMBER + BEHIND, at + 1) < 0, "the place in the file")
    code[at + len(NUMBER):at + len(NUMBER + BEHIND)] = OTHERWISE
    copy.write_bytes(code)
    copy.chmod(0o755)
    observed = start(ctx, ctx.scope_argv([copy, "x"]))
    now, now_refused = ctx.wait_for(lambda: sites(ctx, observed.pid, copy), "the image")
    equal((sum(now.values()), now_refused.get(reason)), (sum(patched.values()) - 1, 1), "sites, started with")
    ends_well(observed, b"went on well")


# --- under load ---

@test("redis", timeout=180)
def redis(ctx):
    port = free_port()
    process = ctx.start([ctx.tool("redis-server"), "--port", port, "--save", "", "--bind", "127.0.0.1"])
    ctx.wait_for(lambda: listens(port), "redis listens")
    local = threading.local()

    def request():
        if not hasattr(local, "file"):
            local.file = socket.create_connection(("127.0.0.1", port), timeout=5 * SLACK).makefile("rwb")
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
        with socket.create_connection(("127.0.0.1", port), timeout=5 * SLACK) as s:
            s.sendall(b"GET /small HTTP/1.0\r\n\r\n")
            answer = b""
            while part := s.recv(65536):
                answer += part
        check(b"200 OK" in answer and answer.endswith(b"small" * 100), "answer", answer[:200])
    cycles(ctx, process.pid, request, 30, "--children")


@contextlib.contextmanager
def go_server(ctx, variant):
    """A Go server under the load that wrk makes, of which no request may fail; (process, port)."""
    port, home = free_port(), ctx.fresh("go")
    (home / "root").mkdir()
    (home / "root/small").write_bytes(b"small" * 200)
    process = ctx.start([ctx.go_build("server", variant), port], cwd=home, stderr=subprocess.PIPE)
    ctx.wait_for(lambda: listens(port), "the server listens")
    wrk = ctx.start([ctx.tool("wrk"), "-t1", "-c32", "-d600s", "--timeout", "60s", f"http://127.0.0.1:{port}/small"], stdout=subprocess.PIPE)
    yield process, port
    check(process.poll() is None, f"ended with {process.poll()}")
    wrk.send_signal(signal.SIGINT)
    said = wrk.communicate(timeout=15 * SLACK)[0].decode()
    check("Non-2xx" not in said and "Socket errors" not in said, "requests failed", said)
    check(int(re.search(r"(\d+) requests in", said)[1]) > 1000, "hardly any load", said)
    process.send_signal(signal.SIGTERM)
    _, complaints = process.communicate(timeout=30)
    check(process.returncode == 0 and not complaints, f"ended with {process.returncode}", complaints[-3000:].decode())


def go(ctx, variant, count=12):
    """Each time, a connection that is made meanwhile is seen, and nothing is left."""
    ctx.valid = False  # tens of thousands of equal events, which take longer than all else
    with go_server(ctx, variant) as (process, port):
        for _ in range(count):
            session = attach(ctx, process.pid, "--lossless").session
            with socket.create_connection(("127.0.0.1", port), timeout=5 * SLACK) as s:
                mine = s.getsockname()[1]
                s.sendall(b"GET /small HTTP/1.0\r\n\r\n")
                while s.recv(65536):
                    pass
            session.sync()
            detach(ctx, process.pid)
            session.wait_end()
            lines = ctx.tool_run("events", "-a", "-j", "-t", "net", "--id", session.id).out.splitlines()
            told = [json.loads(line)["body"] for line in lines if line.startswith(b'{"type":"evt"')]
            seen = [b["source"] for b in told if b["data"].get("net_peer_port") == mine]
            equal(sorted(seen), ["net.close", "net.open"], "events of a connection")


def go_stress(ctx, variant):
    """What hooks in goroutines can break, while they come and go."""
    with open(ctx.dir / "said", "wb") as said:  # what a crash has to say fits into no pipe
        process = ctx.start([ctx.go_build("stress", variant)], cwd=ctx.fresh("stress"), stdout=said, stderr=said)
    times = 0
    while process.poll() is None:
        result = ctx.run([ctx.scope, "attach", process.pid])
        attached_or_ended(result)
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

    def traced():  # strace starts children of its own before, to find out what ptrace can do
        for child in Path(f"/proc/{tracer.pid}/task/{tracer.pid}/children").read_text(encoding="ascii").split():
            with contextlib.suppress(OSError):
                if status(child, "Name") == "sleep":
                    return child
        return None
    child = ctx.wait_for(traced, "sleep")
    refused(ctx, child, f"it is traced by process {tracer.pid} (strace)")


@test("refused/at-once")
def refused_at_once(ctx):
    """Of several that attach at the same time one does; the others say what is in their way."""
    for _ in range(5):
        process = ctx.start(["sleep", "1000"])
        ctx.wait_for(lambda p=process: status(p.pid, "Name") == "sleep", "sleep")
        tools = [subprocess.Popen([ctx.scope, "attach", str(process.pid)], cwd=ctx.dir, env=ctx.env(), stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE) for _ in range(6)]
        said = [(t.communicate(timeout=ctx.left())[1], t.returncode) for t in tools]
        equal(sorted(code for _, code in said), [0, 1, 1, 1, 1, 1], f"exit statuses {said}")
        for err, code in said:
            check(code == 0 or b"is observed already" in err or b"it is traced by process" in err, "the reason", err)
        detach(ctx, process.pid)


@test("refused/valgrind")
def refused_valgrind(ctx):
    process = ctx.start([ctx.tool("valgrind"), "-q", ctx.tool("sleep"), "1000"])
    ctx.wait_for(lambda: "/valgrind/" in os.readlink(f"/proc/{process.pid}/exe"), "Valgrind")
    refused(ctx, process.pid, "it runs in Valgrind")
    check(process.poll() is None, "it has ended")


@test("refused/32-bit", arch="x86_64")
def refused_32bit(ctx):
    source = ctx.dir / "small.c"
    source.write_text("void _start(void) { for (;;) __asm__ volatile(\"int $0x80\" : : \"a\"(29)); }")
    program = ctx.dir / "small"
    ctx.run([ctx.tool("gcc"), "-m32", "-nostdlib", "-static", "-fno-pic", "-no-pie", source, "-o", program], check_code=0)
    if not ctx.runs_32bit():
        raise Skip("this kernel runs no 32-bit programs")
    process = ctx.start([program])
    ctx.wait_for(lambda: os.path.samefile(f"/proc/{process.pid}/exe", program), "the program")
    refused(ctx, process.pid, "32-bit")
    check(process.poll() is None, "it has ended")


@test("refused/first-thread")
def refused_first_thread(ctx):
    """A process goes on when its first thread has ended, but then shows nothing of itself."""
    script = ("import ctypes, threading, time; threading.Thread(target=lambda: time.sleep(1000)).start(); "
              "ctypes.CDLL(None).pthread_exit(None)")
    process = ctx.start([PYTHON, "-c", script])
    ctx.wait_for(lambda: status(process.pid, "State").startswith("Z") and status(process.pid, "Threads") == "2", "first thread ended")
    refused(ctx, process.pid, "its first thread has ended")


@test("names")
def names(ctx):
    """A process is called by its executable, whatever its title, and a script by its own name; both ways to name it agree."""
    titled = start(ctx, ["/bin/bash", "-c", "echo ready; exec -a 'server: master process (/etc/n.conf)' sleep 100"])
    ctx.wait_for(lambda: status(titled.pid, "Name") == "sleep", "the exec")
    told = attach(ctx, titled.pid).session.events("process", "proc.start")
    equal([(b["proc"], b["data"].get("title")) for b in told], [("sleep", "server: master process (/etc/n.conf) 100")], "names")
    script = ctx.dir / "a-script-with-a-long-name"
    script.write_text("#!/bin/sh\necho ready\nread word <go\nsleep 0\n")
    script.chmod(0o755)
    os.mkfifo(ctx.dir / "go")
    process = start(ctx, [script])
    result = attach(ctx, script.name)
    (ctx.dir / "go").write_text("x\n")
    equal(process.wait(), 0, "status")
    result.session.wait_end()
    told = result.session.events("process", "proc.start")
    equal([b["proc"] for b in told], [script.name, script.name, "sleep"], "names of a shell, its child and what that becomes")
    check(not any("title" in b["data"] for b in told), "a command line is taken for a title")
    only = ctx.dir / "only.yml"
    own = ctx.dir / "own-events.json"
    only.write_text(f"event:\n  transport:\n    type: file\n    path: {own}\ncustom:\n  mine:\n    filter:\n"
                    f"      procname: {script.name}\n    config:\n      tags:\n        whose: mine\n")
    script.write_text("#!/bin/sh\ncat /etc/hostname\n")
    ctx.scoped([script], ["-u", only]).session.wait_end()
    bodies = [json.loads(line).get("body", {}) for line in own.read_text().splitlines()]
    equal({b["proc"] for b in bodies if b.get("whose")}, {script.name}, "processes that the filter has found")


@test("seccomp-heirs")
def seccomp_heirs(ctx):
    """Connections that a process in a sandbox had before it was attached to, served by its children."""
    check(os.geteuid() == 0, "this test has to be run as root")
    os.mkfifo(ctx.dir / "go")
    server = start(ctx, [ctx.compile("behaviour/sandbox.c", "glibc-O2", [f"-I{TESTS}/behaviour"]), "heirs",
                                   "later"])
    result = attach(ctx, server.pid)
    # Whose the other side of a connection is is asked while there is somebody who has it.
    ctx.wait_for(lambda: result.session.events("process", "proc.start"), "the process is known")
    (ctx.dir / "go").write_text("")
    kids = [int(line.split()[0]) for line in server.stdout.read().decode().splitlines()]
    equal(server.wait(), 15, "status")
    result.session.wait_end()
    equal(len(kids), 3, "children")
    equal([b["pid"] for b in result.session.events("process", "proc.start")], [server.pid, *kids], "processes")
    requests = [(b["pid"], b["data"]["http_target"]) for b in result.session.events("http", "http.req")]
    equal(sorted(requests), sorted((pid, f"/{i}") for i, pid in enumerate(kids)), "requests")
    peers = [b["data"].get("net_peer_ip") for b in result.session.events("http", "http.req")]
    equal(peers, ["127.0.0.1"] * 3, "peers")


@test("refused/seccomp")
def refused_seccomp(ctx):
    """A sandboxed process of an ordinary user, who can't suspend its filter."""
    check(os.geteuid() == 0, "this test has to be run as root")
    os.chmod(ctx.options.work, 0o755)
    os.chmod(ctx.dir, 0o1777)
    as_nobody = [ctx.tool("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups"]
    process = start(ctx, [*as_nobody, ctx.compile("attach/filtered.c", "glibc-O2", ["-Wno-unused-result"])])
    scope = ctx.dir / "scope"
    shutil.copy(ctx.scope, scope)
    result = ctx.run([*as_nobody, "env", f"SCOPE_HOME={ctx.dir}/nobody", scope, "attach", process.pid], check_code=1)
    check(b"seccomp filter, which only root can suspend" in result.err, "the message", result.describe())
    ends_well(process, b"went on well")


@test("refused/other-user")
def refused_other_user(ctx):
    """Another user's process, and one's own where that is allowed."""
    if os.geteuid() != 0:
        return
    process = ctx.start([ctx.tool("sleep"), "1000"])
    os.chmod(ctx.dir, 0o1777)
    as_nobody = [ctx.tool("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups"]
    refused(ctx, process.pid, "may not be traced by this user", argv=as_nobody)
    own = ctx.start([*as_nobody, ctx.tool("sleep"), "1000"])
    asleep(ctx, own, "sleep")
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
    asleep(ctx, process)
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
        attached_or_ended(result)
        equal(process.wait(10), 0, "status")


for _variant in VARIANTS:
    add_test("attach", f"threads/{_variant}", lambda ctx, v=_variant: threads(ctx, v), timeout=120)
    add_test("attach", f"filtered/{_variant}", lambda ctx, v=_variant: filtered(ctx, v))
    add_test("attach", f"descriptors/{_variant}", lambda ctx, v=_variant: descriptors(ctx, v))
