# SPDX-License-Identifier: Apache-2.0
"""Fatal signals where crashes are told: the program ends as it does bare, sees its own handlers and no others, and says
so in its segment before (src/wire/crash.h). Where that is looked at, the test takes the collector's place."""

import contextlib
import os
import re
import signal
import subprocess
import time

import attaching
from scopetest import TESTS, Session, Skip, add_test, check, equal, test
from segment import Crashes, numbers, wait_segment

VARIANTS = ["glibc-O0", "glibc-O2", "musl", "static", "musl-static-pie"]
ON = {"SCOPE_SNAPSHOT_BACKTRACE": "true"}
SIGNALS = [int(getattr(signal, "SIG" + name)) for name in ("SEGV", "BUS", "ILL", "FPE", "ABRT", "SYS", "TRAP")]
# Waits of a thread before it dies: wire/crash.h.
SEEN_S = 1


def program(ctx, name, variant):
    return ctx.compile(f"behaviour/{name}.c", variant, [f"-I{TESTS}/behaviour"])


def both(ctx, argv, env=None, **how):
    """Runs bare, then observed, each in a fresh directory; status, output and messages must be equal."""
    bare = ctx.run(argv, cwd=ctx.fresh("bare"), env=ctx.env(**(env or {})), **how)
    seen = ctx.scoped(argv, cwd=ctx.fresh("seen"), env=ctx.env(**(env or {})), **how)
    equal(bare.code, 0, "status of the bare run")
    for what in ("out", "err"):
        pairs = zip(getattr(bare, what).splitlines(), getattr(seen, what).splitlines())
        check(getattr(bare, what) == getattr(seen, what), f"{what} differs",
              *[f"  bare {a!r}\n  obs. {b!r}" for a, b in pairs if a != b][:10], "observed: " + seen.describe())
    equal(seen.code, bare.code, "status")
    return seen


# --- the same fate ---

def ways():
    for i, sig in enumerate(SIGNALS):
        for how in ("fault", "raise"):
            for where in ("main", "sandbox"):
                yield f"die {how} {where} {sig}"
        places = ("thread", "handler", "fork", "vfork", "blocked", "two", "refused")
        yield f"die fault {places[i]} {sig}"
        yield f"die raise {places[(i + 3) % 5]} {sig}"
        yield f"die {('kill', 'queue', 'thread', 'forged')[i % 4]} main {sig}"
        whats = ("once", "once-onstack", "jumps", "then-default", "raises", "passes-on", "ignores")
        yield f"own {whats[i]} fault {sig}"
        yield f"own {whats[(i + 2) % 7]} raise {sig}"
        visits = ("filter", "dispatch", "refused")
        yield f"die fault visited-{visits[i % 3]} {sig}"
        yield f"die raise visited-{visits[(i + 1) % 3]} {sig}"
        yield f"die fault once-visitor {sig}"
        yield f"die raise once-visitor {sig}"
    for how in ("fault", "raise"):
        yield f"die {how} visitor 11"
    for where in ("thread", "fork", "vfork", "two"):
        yield f"die fault {where} 11"
        yield f"die abort {where} 6"
    for where in ("main", "thread", "sandbox"):
        for how in ("abort", "gp", "stack", "jump", "nowhere"):
            yield f"die {how} {where}"
    for how in ("fault", "abort"):
        yield f"die {how} strict"


def some_ways():
    return [w for i, w in enumerate(ways()) if i % 4 == 0]


def same_fate(ctx, variant):
    lines = "".join(line + "\n" for line in (ways() if variant == "glibc-O2" else some_ways()))
    result = both(ctx, [program(ctx, "fatal", variant), "each", "24"], env=ON, stdin=lines.encode())
    check(result.out.count(b"\nsignal ") > 10, "hardly anything died", result.describe())


def sees(ctx, variant, case):
    both(ctx, [program(ctx, "fatal", variant), case], env=ON)


for _variant in VARIANTS:
    add_test("behaviour", f"crash/fate/{_variant}", lambda ctx, v=_variant: same_fate(ctx, v), timeout=180)
    for _case in ("actions", "altstack"):
        add_test("behaviour", f"crash/{_case}/{_variant}", lambda ctx, v=_variant, c=_case: sees(ctx, v, c))


@test("crash/off")
def off(ctx):
    """No handler unless it was asked for."""
    both(ctx, [program(ctx, "fatal", "glibc-O2"), "status"])


@test("crash/on")
def on(ctx):
    """What a program can see of them (docs/INTERNALS.md): the kernel's list of caught signals, and no more."""
    p = program(ctx, "fatal", "glibc-O2")
    bare = ctx.run([p, "status"], check_code=0).out.splitlines()
    seen = ctx.scoped([p, "status"], env=ctx.env(**ON), check_code=0).out.splitlines()
    caught = sum(1 << (s - 1) for s in SIGNALS)
    equal([line for line in seen if not line.startswith(b"SigCgt")], [line for line in bare if not line.startswith(b"SigCgt")], "the rest")
    equal([int(line.split()[1], 16) for line in seen if line.startswith(b"SigCgt")], [caught], "caught signals")


def visited(ctx, what, env):
    """What a vfork child gives up its parent still has: what that starts then is observed."""
    argv = [program(ctx, "fatal", "glibc-O2"), "visited", what]
    bare = ctx.run(argv, check_code=0)
    check(bare.out.endswith(b"2\nsystem 0\n"), "the output alone", bare.describe())  # the child's loader may read the counter
    result = ctx.scoped(argv, env=ctx.env(**env), check_code=0)
    equal(result.out, bare.out, "output")
    result.session.wait_end()
    started = [b["proc"] for b in result.session.events("process", "proc.start")]
    check("expr" in started, "what the parent has started isn't observed", started)


for _what in ("filter", "dispatch", "refused", "tsc"):
    for _name, _env in (("on", ON), ("off", {})):
        add_test("behaviour", f"crash/visited/{_what}/{_name}", lambda ctx, w=_what, e=_env: visited(ctx, w, e))


@test("crash/quiet")
def quiet(ctx):
    """The calls that are answered for their sake are no events."""
    result = ctx.scoped([program(ctx, "fatal", "glibc-O2"), "actions"], ["--syscalls"], env=ctx.env(**ON), check_code=0)
    result.session.wait_end()
    seen = {b["data"]["op"] for b in result.session.events("syscall")}
    check("exit_group" in seen, "no system calls in the session", seen)
    equal(seen & {"rt_sigaction", "sigaltstack"}, set(), "calls that are told")


# --- in the collector's place ---

def segment_of(process, old=None):
    try:
        return wait_segment(process.pid, old, 30)
    except PermissionError as e:
        raise Skip("/proc/PID/map_files needs root") from e


def begin(ctx, argv, env):
    process = subprocess.Popen(list(map(str, argv)), cwd=ctx.dir, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, start_new_session=True)
    ctx.started.append(process)
    equal(process.stdout.readline(), b"ready\n", "first line")
    return process


@contextlib.contextmanager
def told_by(ctx, argv, count=1, env=None):
    """Runs a program that says "ready" and waits for a byte; its collector stands still from then on. The process, those of
    its crashes that are told (fewer, if it did not wait for us), and when the first can have been told."""
    before = set(ctx.sessions())
    process = begin(ctx, ctx.scope_argv(argv), ctx.env(**ON, **(env or {})))
    session = Session(ctx, (set(ctx.sessions()) - before).pop())
    crashes = Crashes(segment_of(process))
    collector = ctx.wait_for(session.collector_pid, "the collector runs")
    os.kill(collector, signal.SIGSTOP)
    try:
        began = time.monotonic()
        process.stdin.write(b"x")
        process.stdin.flush()
        ctx.wait_for(lambda: len(crashes.told()) >= count or process.poll() is not None, "the crash is told")
        yield process, crashes.told(), began
    finally:
        os.kill(collector, signal.SIGCONT)


def in_time(attempt):
    """On a busy machine the program may have given up waiting before we come to answer: then once more."""
    check(any(attempt() for _ in range(10)), "never was anybody in time to answer")


def ended(ctx, process):
    process.stdin.close()
    process.stdout.read()
    return process.wait(timeout=ctx.left())


def tell(ctx, words, sig, variant="glibc-O2", **want):
    """False: too late."""
    with told_by(ctx, [program(ctx, "fatal", variant), "waits", *words.split()]) as (process, places, began):
        check(places, "nothing is told")
        place = places[0]
        place.answer(numbers()["CRASH_SEEN"])
        late = time.monotonic() - began > SEEN_S * 0.9
        equal((place.kind, place.signo), (numbers()["CRASH_SIGNAL"], sig), "kind and signal")
        if "fork" in words:
            check(place.pid not in (0, process.pid), f"pid {place.pid} is not the child's")
        elif "sandbox" not in words:
            equal(place.pid, process.pid, "pid")
        if "thread" in words:
            check(place.tid not in (0, place.pid), f"tid {place.tid} of pid {place.pid}")
        elif "sandbox" not in words:
            equal(place.tid, place.pid, "tid")
        for name, value in want.items():
            equal(getattr(place, name), value, name)
        if not late:
            with open(f"/proc/{place.pid or process.pid}/mem", "rb") as mem:  # struct ucontext
                mem.seek(place.context)
                check(len(mem.read(968)) == 968, "no context there")
            time.sleep(SEEN_S + 0.3)
            check(process.poll() is None, "it did not wait for what it was promised")
        place.answer(numbers()["CRASH_DONE"])
        code = ended(ctx, process)
    if "fork" not in words:
        equal(code, -sig, "how it ended")
    return not late


for _name, _words, _sig, _want in (
    ("null", "fault main 11", 11, {"code": 1, "addr": 16}),
    ("abort", "abort main", 6, {"code": -6}),
    ("kill", "kill main 8", 8, {"code": 0}),
    ("sigsys", "fault main 31", 31, {"code": 1}),
    ("trap", "fault main 5", 5, {"code": 128}),
    ("thread", "fault thread 7", 7, {"code": 2}),
    ("handler", "fault handler 4", 4, {"code": 2}),
    ("fork", "fault fork 11", 11, {"code": 1, "addr": 16}),
    ("vfork", "raise vfork 6", 6, {"code": -6}),
    ("overflow", "stack main", 11, {}),
    ("overflow-in-thread", "stack thread", 11, {}),
    ("no-stack", "nowhere main", 4, {}),
    ("sandbox", "fault sandbox 11", 11, {"code": 1, "addr": 16}),
):
    for _variant in ["glibc-O2"] if _name not in ("null", "abort", "overflow-in-thread") else ["glibc-O2", "musl", "static", "musl-static-pie"]:
        add_test("behaviour", f"crash/told/{_name}/{_variant}",
                 lambda ctx, w=_words, s=_sig, v=_variant, k=_want: in_time(lambda: tell(ctx, w, s, v, **k)))


@test("crash/told/two")
def two(ctx):
    """Two threads at once: each is told; the program dies when the first is let go."""
    def attempt():
        with told_by(ctx, [program(ctx, "fatal", "glibc-O2"), "waits", "fault", "two", "11"], 2) as (process, places, began):
            for p in places:
                p.answer(numbers()["CRASH_SEEN"])
            late = time.monotonic() - began > SEEN_S * 0.9
            if not late:
                equal(len({p.tid for p in places}), 2, "threads")
                time.sleep(SEEN_S)
                check(process.poll() is None, "it did not wait")
            places[-1].answer(numbers()["CRASH_DONE"])
            equal(ended(ctx, process), -11, "how it ended")
        return not late

    in_time(attempt)


@test("crash/told/crowd")
def crowd(ctx):
    """More die together than have a place: of those that had none it is said."""
    before = set(ctx.sessions())
    with told_by(ctx, [program(ctx, "fatal", "glibc-O2"), "crowd", "24"], 8) as (process, _, _began):
        equal(ended(ctx, process), 0, "how it ended")
        session = Session(ctx, (set(ctx.sessions()) - before).pop())
    session.wait_end()
    crashes = session.events("process", "proc.crash")
    check([e for e in crashes if "too many crashed at once" in str(e)], "not told", *crashes[-3:])


def go_exit(ctx, variant, what, env, kind, sig, status):
    """A Go program that panics waits with its exit; one that aborts tells of a signal."""
    with told_by(ctx, [ctx.go_build("crash", variant), what, "wait"], env=env) as (process, places, _):
        check(places, "nothing is told")
        place = places[0]
        equal((place.kind, place.signo, place.status, place.pid), (numbers()[kind], sig, status, process.pid), "what is told")
        equal(place.context != 0, kind == "CRASH_SIGNAL", "a context")
        place.answer(numbers()["CRASH_DONE"])
        equal(ended(ctx, process), -sig if sig else status, "how it ended")


def go_exits(ctx, variant):
    """One that ends by os.Exit(2) waits for nobody, although a panic has this status, too."""
    with told_by(ctx, [ctx.go_build("crash", variant), "exit2", "wait"]) as (process, places, _):
        equal(len(places), 0, "places that are taken")
        equal(ended(ctx, process), 2, "how it ended")


# --- attached to, and left ---

def caught(process):
    return int(attaching.status(process.pid, "SigCgt"), 16)


@test("crash/attached")
def attached(ctx):
    """A process that runs already tells, too, and no more once it was left."""
    p = program(ctx, "fatal", "glibc-O2")
    process = begin(ctx, [p, "waits", "fault", "thread", "11"], ctx.env())
    before = caught(process)
    session = attaching.attach(ctx, process.pid, env=ctx.env(**ON)).session
    equal(caught(process) - before, sum(1 << (s - 1) for s in SIGNALS), "handlers that were added")
    attaching.detach(ctx, process.pid)
    equal(caught(process), before, "handlers that are left")
    session = attaching.attach(ctx, process.pid, env=ctx.env(**ON)).session
    crashes = Crashes(segment_of(process))
    collector = ctx.wait_for(session.collector_pid, "the collector runs")
    os.kill(collector, signal.SIGSTOP)
    try:
        process.stdin.write(b"x")
        process.stdin.flush()
        place = ctx.wait_for(crashes.told, "the crash is told")[0]
        equal((place.signo, place.addr, place.pid), (11, 16, process.pid), "what is told")
        place.answer(numbers()["CRASH_DONE"])
        equal(ended(ctx, process), -11, "how it ended")
    finally:
        os.kill(collector, signal.SIGCONT)


def left(ctx, variant, how):
    """Detached from, a process has the handlers and stacks that it believes it has."""
    p = program(ctx, "fatal", variant)
    bare = begin(ctx, [p, "keeps"], ctx.env()).communicate(b"x", timeout=ctx.left())[0]
    process = begin(ctx, ctx.scope_argv([p, "keeps"]) if how == "run" else [p, "keeps"], ctx.env(**(ON if how == "run" else {})))
    if how == "attach":
        attaching.attach(ctx, process.pid, env=ctx.env(**ON))
    ctx.run([ctx.scope, "detach", process.pid], check_code=0)
    seen = process.communicate(b"x", timeout=ctx.left())[0]
    equal(seen, bare, "what it sees")


def given_stacks(process):
    """Mappings as the probe makes them for alternate stacks: all but the lowest of 64 pages, nothing reserved."""
    with open(f"/proc/{process.pid}/smaps", encoding="ascii", errors="replace") as f:
        text = f.read()
    maps = re.findall(r"^([0-9a-f]+)-([0-9a-f]+) rw-p 00000000 00:00 0 *\n(?:[^\n]*\n)*?VmFlags:([^\n]*)\n", text, re.M)
    return [m for m in maps if int(m[1], 16) - int(m[0], 16) == 63 * 4096 and "nr" in m[2].split()]


def left_threads(ctx, variant):
    """So do its threads, wherever they were: none has a stack of ours, not even when a handler returns. One that overflows
    its own then dies as bare."""
    p = program(ctx, "fatal", variant)
    process = begin(ctx, [p, "leaves-threads"], ctx.env())
    bare = process.communicate(b"x", timeout=ctx.left())
    equal(process.returncode, -11, "how it ends bare")
    seen = begin(ctx, ctx.scope_argv([p, "leaves-threads"]), ctx.env(**ON))
    check(len(given_stacks(seen)) >= 5, "it has no stacks of ours")
    ctx.run([ctx.scope, "detach", seen.pid], check_code=0)
    equal(given_stacks(seen), [], "stacks that are left")
    equal((seen.communicate(b"x", timeout=ctx.left()), seen.returncode), (bare, -11), "what it does")


@test("crash/left/killed", timeout=240)
def left_killed(ctx):
    """The tool dies at some of its steps while it takes the stacks away: the program does and ends as bare, whichever of
    them it still has."""
    p = program(ctx, "fatal", "glibc-O2")
    for step in range(3, 400, 18):
        process = begin(ctx, ctx.scope_argv([p, "leaves-threads"]), ctx.env(**ON))
        result = ctx.run([ctx.scope, "detach", process.pid], env=ctx.env(SCOPE_FAULT=step))
        check(result.code == 0 or b"was killed" in result.err, "another error", result.describe())
        out, err = process.communicate(b"x", timeout=ctx.left())
        equal((out.count(b"thread"), err, process.returncode), (4, b"", -11), f"after step {step}")
        if result.code == 0:
            break
    check(30 < step < 399, f"{step} steps")


for _variant in ("glibc-O2", "musl", "static"):
    add_test("behaviour", f"crash/left/threads/{_variant}", lambda ctx, v=_variant: left_threads(ctx, v))
    for _how in ("run", "attach"):
        add_test("behaviour", f"crash/left/{_how}/{_variant}", lambda ctx, v=_variant, h=_how: left(ctx, v, h))


# --- nobody answers ---

@test("crash/collector-suspended")
def suspended(ctx):
    """The program waits for a collector that stands still for as long as it may, and dies."""
    with told_by(ctx, [program(ctx, "fatal", "glibc-O2"), "waits", "fault", "main", "11"]) as (process, _, _began):
        began = time.monotonic()
        equal(ended(ctx, process), -11, "how it ended")
        check(time.monotonic() - began < SEEN_S + 15, f"it took {time.monotonic() - began:.1f} s to die")


@test("crash/collector-killed")
def killed(ctx):
    process = subprocess.Popen(ctx.scope_argv([program(ctx, "fatal", "glibc-O2"), "waits", "abort", "main"]), cwd=ctx.dir,
                               env=ctx.env(**ON), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               start_new_session=True)
    ctx.started.append(process)
    equal(process.stdout.readline(), b"ready\n", "first line")
    os.kill(ctx.wait_for(ctx.session().collector_pid, "the collector runs"), signal.SIGKILL)
    out, err = process.communicate(b"x", timeout=ctx.left())
    equal((out, err, process.returncode), (b"begins\n", b"", -6), "output and status")


def alone(ctx, variant, words):
    """The collector has ended: what the program sees of its handlers, and how it ends, is still as bare."""
    argv = [program(ctx, "fatal", variant), "later", *words.split()]
    bare = begin(ctx, argv, ctx.env())
    out = bare.communicate(b"x", timeout=ctx.left())
    before = set(ctx.sessions())
    process = begin(ctx, ctx.scope_argv(argv), ctx.env(**ON))
    session = Session(ctx, (set(ctx.sessions()) - before).pop())
    os.kill(ctx.wait_for(session.collector_pid, "the collector runs"), signal.SIGTERM)
    session.wait_end()
    seen = process.communicate(b"x", timeout=ctx.left())
    for name, a, b in zip(("output", "messages"), seen, out):
        pairs = zip(a.splitlines(), b.splitlines())
        check(a == b, f"{name} differs", *[f"  bare {y!r}\n  obs. {x!r}" for x, y in pairs if x != y][:10], f"{a[-200:]!r} {b[-200:]!r}")
    equal((process.returncode < 0, process.returncode), (True, bare.returncode), "how it ended")


for _variant in ("glibc-O2", "musl", "static"):
    for _words in ("fault main 11", "raise sandbox 8", "fault visitor 7"):
        add_test("behaviour", f"crash/alone/{_words.replace(' ', '-')}/{_variant}",
                 lambda ctx, v=_variant, w=_words: alone(ctx, v, w))


# --- languages ---

def alike(text):
    """Without what differs from run to run: addresses, numbers of goroutines and threads, arguments."""
    text = re.sub(rb"0x[0-9a-fA-F]+\??|goroutine \d+|\+0x\w+|m=\d+", b"", text)
    return re.sub(rb"\([^)]*\)", b"", text)


def language(ctx, argv, code, env=None, lines=None):
    """lines: how many of the first ones of stderr are the same each time."""
    cwd = ctx.fresh("work")
    bare = ctx.run(argv, cwd=cwd, env=ctx.env(**(env or {})))
    seen = ctx.scoped(argv, cwd=cwd, env=ctx.env(**ON, **(env or {})))
    equal(bare.code, code, "status of the bare run")
    equal((seen.code, seen.out), (bare.code, bare.out), "status and output")
    equal(alike(seen.err).splitlines()[:lines], alike(bare.err).splitlines()[:lines], "what it says")


for _variant in ("static", "cgo", "pie"):
    for _what, _code in (("panic", 2), ("nil", 2), ("goroutine", 2), ("exit2", 2), ("exit3", 3), ("recover", 0), ("notify", 0)):
        add_test("behaviour", f"crash/go/{_what}/{_variant}", timeout=300, function=
                 lambda ctx, v=_variant, w=_what, c=_code: language(ctx, [ctx.go_build("crash", v), w], c, lines=4))
    add_test("behaviour", f"crash/go/abort/{_variant}", timeout=300, function=
             lambda ctx, v=_variant: language(ctx, [ctx.go_build("crash", v), "panic"], -6, {"GOTRACEBACK": "crash"}, 4))
for _variant in ("static", "cgo", "pie"):
    add_test("behaviour", f"crash/told/go-exit/{_variant}", timeout=300, function=lambda ctx, v=_variant: go_exits(ctx, v))
for _variant in ("static", "cgo"):
    add_test("behaviour", f"crash/told/go-panic/{_variant}", timeout=300, function=
             lambda ctx, v=_variant: go_exit(ctx, v, "panic", {}, "CRASH_EXIT", 0, 2))
    add_test("behaviour", f"crash/told/go-abort/{_variant}", timeout=300, function=
             lambda ctx, v=_variant: go_exit(ctx, v, "nil", {"GOTRACEBACK": "crash"}, "CRASH_SIGNAL", 6, 0))

FAULTHANDLER = "import faulthandler, ctypes, threading, os; faulthandler.enable(); "
for _name, _code, _text in (
    ("faulthandler", -11, FAULTHANDLER + "ctypes.string_at(0)"),
    ("faulthandler-thread", -11, FAULTHANDLER + "t = threading.Thread(target=ctypes.string_at, args=(0,)); t.start(); t.join()"),
    ("faulthandler-abort", -6, FAULTHANDLER + "os.abort()"),
    ("none", -11, "import ctypes; ctypes.string_at(0)"),
    ("handlers", 0, "import signal; print([signal.getsignal(i) for i in range(1, 65)])"),
):
    add_test("behaviour", f"crash/python/{_name}",
             lambda ctx, t=_text, c=_code: language(ctx, [ctx.tool("/usr/bin/python3"), "-c", t], c))

add_test("behaviour", "crash/node", lambda ctx: language(ctx, [ctx.tool("node"), "-e", "process.abort()"], -6))

JAVA = """
public class Faults {
    static int length(String s) { return s.length(); }
    static int deep(int n) { return deep(n + 1) + 1; }
    public static void main(String[] words) {
        int n = 0, zero = 0;
        for (int i = 0; i < 100000; i++)
            try { length(i % 3 == 0 ? null : "x"); } catch (NullPointerException e) { n++; }
        System.out.println(n);
        try { deep(0); } catch (StackOverflowError e) { System.out.println("overflow"); }
        for (int i = 0; i < 1000; i++)
            try { zero += 1 / (i - i); } catch (ArithmeticException e) { zero++; }
        System.out.println(zero);
    }
}
"""


@test("crash/java", timeout=180)
def java(ctx):
    """A JVM takes null pointers, the ends of stacks and divisions by zero for what they are: its own business."""
    source = ctx.dir / "Faults.java"
    source.write_text(JAVA)
    ctx.run([ctx.tool("javac"), "-d", ctx.dir, source], timeout=120, check_code=0)
    language(ctx, [ctx.tool("java"), "-Xshare:auto", "-cp", ctx.dir, "Faults"], 0)
