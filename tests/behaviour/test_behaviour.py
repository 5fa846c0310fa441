# SPDX-License-Identifier: Apache-2.0
"""Programs behave, observed, as they do bare: output, exit status, death by signal, and what they see of themselves."""

import os
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

from scopetest import SLACK, TESTS, Session, Skip, add_test, check, check_end, equal, test

DYNAMIC = ["glibc-O0", "glibc-O2", "musl"]
VARIANTS = [*DYNAMIC, "static", "musl-static-pie"]


def program(ctx, name, variant):
    return ctx.compile(f"behaviour/{name}.c", variant, [f"-I{TESTS}/behaviour"])


def both(ctx, argv, flags=(), env=None, prepare=None, code=None, **how):
    """Runs bare, then observed, each in a fresh directory; the observed run's result. code: the status expected."""
    results = []
    cwd = ctx.dir / f"work-{len(os.listdir(ctx.dir))}"  # the same name for both, as programs may show it
    for kind in ("bare", "scoped"):
        if cwd.exists():
            shutil.rmtree(cwd)
        cwd.mkdir()
        os.chmod(cwd, 0o755)
        if prepare:
            prepare(cwd)
        run_env = ctx.env(**(env or {}))
        if kind == "bare":
            results.append(ctx.run(argv, cwd=cwd, env=run_env, **how))
        else:
            results.append(ctx.scoped(argv, flags, cwd=cwd, env=run_env, **how))
    bare, scoped = results
    check(bare.code != 99, "the test itself failed", bare.describe())
    if code is not None:
        equal(bare.code, code, "status of the bare run")
    for what in ("code", "out", "err"):
        got, want = getattr(scoped, what), getattr(bare, what)
        if got != want:
            a, b = want if isinstance(want, bytes) else b"", got if isinstance(got, bytes) else b""
            lines = [f"  bare {x!r}\n  obs. {y!r}" for x, y in zip(a.splitlines(), b.splitlines()) if x != y][:10]
            check(False, f"{what} differs", *lines, "bare: " + bare.describe(), "observed: " + scoped.describe())
    scoped.bare = bare
    return scoped


def of(result, sourcetype, source=None, **data):
    """Events of a session that match."""
    return [b for b in result.session.events(sourcetype, source)
            if all(b["data"].get(k) == v for k, v in data.items())]


def nothing_lost(result):
    result.session.wait_end()
    # Of traffic bodies give way first when there is much (docs/traffic.md): that is no matter of these tests.
    lost = {k: n for k, n in result.session.lost().items() if n and k not in ("traffic", "message")}
    check(not lost, f"lost: {lost}")


# --- what a process sees of itself ---

def case(area, name, function, variants=VARIANTS, **options):
    for variant in variants:
        add_test("behaviour", f"{area}/{name}/{variant}", lambda ctx, v=variant: function(ctx, v), **options)


def plain(source, *words, code=None):
    return lambda ctx, variant: both(ctx, [program(ctx, source, variant), *words], code=code)


for _name in ("fds", "status", "threads", "children", "limits"):
    case("state", _name, plain("state", _name, code=0))


def environ(ctx, variant):
    argv = [program(ctx, "state", variant), "environ"]
    bare = ctx.run(argv, check_code=0)
    scoped = ctx.scoped(argv)
    extra = set(scoped.out.splitlines()) - set(bare.out.splitlines())
    missing = set(bare.out.splitlines()) - set(scoped.out.splitlines())
    check(not missing, "variables that are gone", *missing)
    check(all(e.startswith((b"LD_PRELOAD=", b"SCOPE_")) for e in extra), "variables that appeared", *extra)
    names = [line.split(b"=")[0] for line in scoped.out.splitlines()]
    equal(len(names), len(set(names)), "number of variables")


case("state", "environ", environ)


@test("gdb", timeout=120, arch="x86_64")
def gdb(ctx):
    """What docs/INTERNALS.md says about debuggers: its condition leaves our calls out, and finish leads out of a hook."""
    program = ctx.compile("behaviour/unproven.c", "glibc-O0", flags=["-DDATA", "-g"], name="debugged")

    def told(argv, *commands):
        words = [w for c in ("set debuginfod enabled off", "break main", "run", *commands) for w in ("-ex", c)]
        return ctx.run([*argv, ctx.tool("gdb"), "-nx", "-q", "-batch", *words, program]).out.decode()
    stops = ["catch syscall", 'condition $bpnum !$_any_caller_matches("^scope_", 9)', *["continue"] * 5]
    bare, scoped = (re.findall(r"\((\S+ (?:to|from) syscall \w+)\)", told(a, *stops)) for a in ([], [ctx.scope, "run", "--"]))
    check(len(bare) == 5, "stops", *bare)
    equal(scoped, bare, "stops")
    out = told([ctx.scope, "run", "--"], "break scope_hook_exit", "continue", "bt", "frame 2", "finish", "bt")
    check(re.search(r"#0 .*scope_hook_exit.*\n#1 +<signal handler called>\n#2 .* called .*\n#3 .* main ", out), "the backtrace", out)
    check(re.search(r"\n#0 +0x\S+ in main ", out), "where finish ended", out)


@test("ldd")
def ldd(ctx):
    """Loaders that list libraries instead of running the program list none of ours, and nothing is said to be missing."""
    ls = shutil.which("ls")
    loader = re.search(r"interpreter: (.*?)\]", ctx.run(["readelf", "-l", ls], check_code=0).out.decode()).group(1)
    for argv in (["env", "LD_TRACE_LOADED_OBJECTS=1", ls], [loader, "--list", ls],
                 ["sh", "-c", f"LD_TRACE_LOADED_OBJECTS= {ls}; {loader} --argv0 x --list {ls}; {loader} --verify {ls}; "
                              f"LD_TRACE_LOADED_OBJECTS=1 {loader} {ls}; :"]):
        result = ctx.scoped(argv)
        lines = result.out.decode().splitlines()
        check(any("libc.so" in line for line in lines) and not any("scope" in line for line in lines), "listed", *lines)
        result.session.wait_end()
        check("not loaded" not in result.session.log(), "the log", result.session.log())
    result = ctx.run([ctx.scope, "run", "--", ls], env=ctx.env(LD_TRACE_LOADED_OBJECTS=1), check_code=0)
    check(b"libc.so" in result.out and b"scope" not in result.out, "listed", result.describe())
    result = both(ctx, [loader, "--argv0", "x", shutil.which("echo"), "--list"], code=0)
    check(result.session.events("process", "proc.start"), "this one runs")


def deny(ctx, kind):
    """MemoryDenyWriteExecute: code can't be made writable, and is changed nevertheless; static programs need a tracer."""
    program = ctx.compile("behaviour/deny.c")
    inner = [ctx.tool("cat"), "/etc/hostname"]
    for argv in ([program, kind, ctx.scope, "run", "--", *inner], [ctx.scope, "run", "--", program, "prctl", *inner]):
        before = set(ctx.sessions())
        result = ctx.run(argv)
        if result.code == 77:
            raise Skip("no PR_SET_MDWE")
        equal((result.code, result.out), (0, Path("/etc/hostname").read_bytes()), "status and output")
        (new,) = set(ctx.sessions()) - before
        session = Session(ctx, new)
        session.wait_end()
        opened = [b["data"]["file"] for b in session.events("fs", "fs.open") if b["proc"] == "cat"]
        check("/etc/hostname" in opened, "what it opened", *opened)
        equal((session.log(), {k: n for k, n in session.lost().items() if n}), ("", {}), "log and losses")
    doctor = ctx.run([program, kind, ctx.scope, "doctor"], check_code=0).out.decode()
    check("forbids to make it writable; it is changed through /proc/self/mem" in doctor, "scope doctor", doctor)
    check("Nothing prevents observing here" in doctor, "scope doctor", doctor)


for _kind in ("prctl", "filter"):
    add_test("behaviour", f"deny/{_kind}", lambda ctx, k=_kind: deny(ctx, k))


@test("deny/no-way")
def deny_no_way(ctx):
    """If there is no way to change code, the log, the losses and scope doctor say why."""
    program = ctx.compile("behaviour/deny.c")
    result = ctx.scoped([program, "prctl-ro", ctx.tool("cat"), "/etc/hostname"])
    if result.code == 77:
        raise Skip("no PR_SET_MDWE")
    equal((result.code, result.out), (0, Path("/etc/hostname").read_bytes()), "status and output")
    result.session.wait_end()
    check("code can't be changed: calls made in this image are not observed (MemoryDenyWriteExecute (PR_SET_MDWE)" in
          result.session.log(), "the log", result.session.log())
    check(result.session.lost().get("site", 0) > 100, "losses", result.session.lost())
    doctor = ctx.run([program, "prctl-ro", ctx.scope, "doctor"], check_code=1).out.decode()
    check(re.search(r"bad +code +MemoryDenyWriteExecute \(PR_SET_MDWE\) forbids", doctor), "scope doctor", doctor)


@test("landing-pads")
def landing_pads(ctx):
    """Text that is protected with PROT_BTI, where there is that, stays so: of a library that is there at the start, and of
    one that is opened later."""
    # Without the C library's own start files, which have no landing pads yet.
    flags = ["-nostartfiles", *(["-mbranch-protection=standard", "-Wl,-z,force-bti"] if os.uname().machine == "aarch64" else [])]
    early, late = (ctx.compile("behaviour/landing.c", flags=[*flags, "-DLIBRARY", f"-DNTH={n}", "-Wl,--build-id"], name=f"landing{n}", shared=True)
                   for n in (1, 2))
    result = both(ctx, [ctx.compile("behaviour/landing.c", flags=["-ldl"]), late], env={"LD_PRELOAD": early}, code=0)
    check(result.out.endswith(b"\n0 0\n"), "output", result.out)
    result.session.wait_end()
    equal(result.session.log(), "", "the log")


def unwinds(ctx, variant):
    """Stacks are unwound at any instant, also in hooks."""
    ctx.valid = False  # thousands of equal events, which take longer than all else
    result = both(ctx, [ctx.compile("behaviour/unwinds.c", variant, flags=["-fexceptions", "-g"])], code=0)
    equal(result.out, b"done\n", "output")


case("unwinds", "handler", unwinds, variants=("glibc-O0", "glibc-O2"))


@test("unproven", arch="x86_64")
def unproven(ctx):
    """A place where calls may be made that can't be seen is told once in a session; data with the same bytes is not."""
    program = ctx.compile("behaviour/unproven.c")
    result = both(ctx, ["sh", "-c", f"{program} && {program}"], code=0)
    result.session.wait_end()
    told = [line for line in result.session.log().splitlines() if "not observed" in line]
    check(len(told) == 1 and f"calls made at 1 place of this image are not observed (1: not proven to be code): {program}" in told[0],
          "the log", *told)
    equal({k: n for k, n in result.session.lost().items() if n}, {"site": 1}, "losses")
    history = ctx.tool_run("history").out.decode().splitlines()
    check(history[-2].split()[-1] == "LOST" and history[-1].split()[-1] == "1", "scope history", *history)
    opened = [b["data"]["file"] for b in result.session.events("fs", "fs.open") if b["proc"] == program.name]
    equal(opened.count("/etc/hostname"), 2, "opens by the function that is called")
    result = both(ctx, [ctx.compile("behaviour/unproven.c", flags=["-DDATA"], name="unproven-data")], code=0)
    nothing_lost(result)
    equal(result.session.log(), "", "the log")


@test("state/own-preload")
def own_preload(ctx):
    """The user's LD_PRELOAD keeps working, behind or before ours."""
    library = ctx.compile("behaviour/library.c", "glibc-O2", name="library", shared=True)
    result = both(ctx, [program(ctx, "loader", "glibc-O2"), "own-preload"], env={"LD_PRELOAD": library})
    equal(result.out, b"4711\n", "output")
    check(of(result, "process", "proc.start"), "the process was not observed")


@test("state/inherited-descriptors")
def inherited_descriptors(ctx):
    """Descriptors that the parent handed down keep their numbers, and nothing is added between them."""
    p = program(ctx, "state", "glibc-O2")
    r, w = os.pipe()
    try:
        os.set_inheritable(r, True)
        high = os.dup2(w, 250)
        both(ctx, [p, "fds"], pass_fds=(r, high))
        os.close(high)
    finally:
        os.close(r)
        os.close(w)


@test("state/closed-standard-descriptors")
def closed_standard(ctx):
    """Started with 0, 1 and 2 closed."""
    p = program(ctx, "state", "glibc-O2")
    both(ctx, ["/bin/sh", "-c", f"exec {p} limits >out 2>&- <&-; cat out"])
    both(ctx, ["/bin/sh", "-c", f"{p} fds 0<&- 3>out >&3 2>&-; cat out"])


case("pointers", "all", plain("pointers", "all", code=0))
case("limits", "nofile", plain("limits", "nofile", code=0))
case("limits", "nomem", plain("limits", "nomem", code=0))
case("limits", "exec-in-little", plain("limits", "exec-in-little", code=4))


def many_descriptors(ctx, variant):
    result = both(ctx, [program(ctx, "limits", variant), "many"], code=0)
    closed = of(result, "fs", "fs.close", file="/dev/zero")
    equal(len(of(result, "fs", "fs.open", file="/dev/zero")), 3000, "fs.open events of /dev/zero")
    equal(len(closed), 3000, "fs.close events of /dev/zero")
    equal({(b["data"]["file_read_bytes"], b["data"]["file_read_ops"]) for b in closed}, {(3, 1)}, "their counters")
    nothing_lost(result)


case("limits", "many", many_descriptors)

# --- what calls point to but the kernel doesn't read; what is the program's own ---

for _name, _code in (("unread", 0), ("detached", 0), ("ring-unmapped", 0), ("exec-filtered", 0), ("strict-rubbish", 6),
                     ("exec-jumps", 0)):
    case("edges", _name, plain("edges", _name, code=_code))


@test("edges/own-mappings")
def own_mappings(ctx):
    """Text that a program maps shared, or to write, is its own: the file stays as it is."""
    library = ctx.compile("behaviour/library.c", "glibc-O2", name="library", shared=True)
    before = open(library, "rb").read()
    result = both(ctx, [program(ctx, "edges", "glibc-O2"), "own-mappings", library], code=0)
    equal(result.out, b"1 as in the file\n", "output")
    equal(open(library, "rb").read() == before, True, "the file is as it was")


@test("edges/preloads")
def preloads(ctx):
    library = ctx.compile("behaviour/library.c", "glibc-O2", name="library", shared=True)
    result = both(ctx, [program(ctx, "edges", "glibc-O2"), "preloads", library], code=0)
    equal(result.out, b"4711\n", "output")


@test("edges/valgrind", timeout=60)
def valgrind(ctx):
    """Executes the translation of a program in its own process; what such a program starts is observed again."""
    source, built = ctx.dir / "leaves.c", ctx.dir / "leaves"
    source.write_text("#include <stdlib.h>\n#include <sys/wait.h>\n#include <unistd.h>\n"
                      "int main(void) { volatile char *p = malloc(3); int st; if (vfork() == 0) {"
                      " execl(\"/bin/echo\", \"echo\", \"child\", (char *)0); _exit(1); }"
                      " wait(&st); return p[3] ? 5 : 4; }\n")  # one byte too far
    ctx.compiler(["gcc", "-g", source, "-o", built])
    script = f'"{ctx.tool("valgrind")}" -q "$1" 2>found; st=$?; sed "s/^==[0-9]*==//; s/Address 0x[0-9a-f]*//" found; exit $st'
    result = both(ctx, ["sh", "-c", script, "sh", built])
    check(b"Invalid read of size 1" in result.out, "Valgrind found nothing", result.describe())
    equal(result.code in (4, 5), True, "status")
    check([e for e in of(result, "process", "proc.start") if e["proc"] == "echo"], "its child was not observed")


@test("edges/address-sanitizer")
def address_sanitizer(ctx):
    """Its runtime refuses to work behind another preloaded library."""
    built = ctx.dir / "sanitized"
    ctx.compiler(["gcc", "-D_GNU_SOURCE", "-fsanitize=address", f"-I{TESTS}/behaviour", TESTS / "behaviour/state.c",
             "-o", built], timeout=60)
    result = both(ctx, [built, "threads"], code=0)
    check(of(result, "process", "proc.start"), "the process was not observed")


@test("edges/text-relocations", arch="x86_64")
def text_relocations(ctx):
    """A library whose text the loader writes to after it was mapped."""
    source, library = ctx.dir / "relocated.s", ctx.dir / "librelocated.so"
    source.write_text(".globl library_reads\n.type library_reads,@function\nlibrary_reads:\nmov $0,%eax\nsyscall\n"
                      "movabs $word,%rdx\nret\n.data\nword: .quad 1\n.section .note.GNU-stack,\"\",@progbits\n")
    ctx.compiler(["gcc", "-shared", "-Wl,-z,notext", source, "-o", library], timeout=60)
    both(ctx, [program(ctx, "edges", "glibc-O2"), "relocated", library], code=0)


# --- signals ---

for _name in ("small-stack", "restart", "interrupted", "bombarded", "cancel-blocked", "fault-handler"):
    case("signals", _name, plain("signals", _name, code=0))
for _name in ("cancel-deferred", "cancel-async"):
    case("signals", _name, plain("signals", _name, code=0), ["glibc-O2", "musl", "static"], timeout=240)


def jumps(ctx, variant):
    """A handler that jumped out of a hook must not leave the thread unobserved."""
    result = both(ctx, [program(ctx, "signals", variant), "jumps"], code=0)
    counted = of(result, "fs", "fs.close", file="/dev/urandom")
    equal(len(counted), 1, "fs.close events of /dev/urandom")
    equal((counted[0]["data"]["file_read_ops"], counted[0]["data"]["file_read_bytes"]), (10000, 10000), "its counters")


case("signals", "jumps", jumps)


def dies(ctx, number, variant="glibc-O2"):
    result = both(ctx, [program(ctx, "signals", variant), "die", str(number)], code=-number)
    equal(result.code, -number, "status")
    ends = of(result, "process", "proc.exit")
    equal(len(ends), 1, "proc.exit events")
    lines = [b["data"]["message"] for b in of(result, "console", "stdout")]
    equal("".join(lines).rstrip("\n"), "before", "console text")
    check_end(ends[0]["data"], number)


for _signal in (signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGFPE,
                signal.SIGSYS, signal.SIGHUP):
    add_test("behaviour", f"signals/die/{_signal.name}", lambda ctx, s=_signal: dies(ctx, int(s)))
add_test("behaviour", "signals/die/SIGKILL/musl", lambda ctx: dies(ctx, 9, "musl"))


def exits(ctx, variant):
    for code in (0, 1, 77, 255):
        result = both(ctx, ["/bin/sh", "-c", f"exit {code}"], code=code)
        ends = of(result, "process", "proc.exit")
        equal([b["data"].get("exit_code") for b in ends], [code], "exit_code of proc.exit")


add_test("behaviour", "signals/exit-status", lambda ctx: exits(ctx, None))

# --- process trees ---

for _name in ("vfork-then-signal", "waits", "main-ends-first"):
    case("trees", _name, plain("trees", _name))


def storm(name, children, execs, exec_argument):
    def run(ctx, variant):
        result = both(ctx, [program(ctx, "trees", variant), name], code=0)
        ends = of(result, "process", "proc.exit")
        equal(len({b["pid"] for b in ends}), children + 1, "processes with a proc.exit event")
        equal(len(ends), children + 1, "proc.exit events")
        started = [b for b in of(result, "process", "proc.start")
                   if exec_argument and exec_argument in " ".join(map(str, as_list(b["data"].get("args"))))]
        # A program without a loader goes on without us if nobody answers in time; then that is told.
        notes = [b["data"] for b in of(result, "process", "proc.note")]
        check(len(notes) <= execs // 50, "too many aren't observed", notes)
        equal(len(started) + len(notes), execs, f"proc.start events of exec'ed children, and notes: {notes} {result.session.log()}")
        nothing_lost(result)
    return run


@test("exec/cut-short")
def cut_short(ctx):
    """Of a program that a signal ends before it could load anything nobody says that it isn't observed."""
    program = ("import os\n"
               "for _ in range(20):\n"
               "    kid = os.posix_spawn('/bin/sleep', ['sleep', '9'], os.environ)\n"
               "    os.kill(kid, 9)\n"
               "    os.waitpid(kid, 0)\n")
    result = both(ctx, ["/usr/bin/python3", "-S", "-c", program], code=0)
    result.session.wait_end()
    equal([b["data"] for b in of(result, "process", "proc.note")], [], "notes")
    equal(len(of(result, "process", "proc.exit", signal="SIGKILL")), 20, "deaths")


@test("fork/few-descriptors")
def few_descriptors(ctx):
    """A collector that has none to spare for watching each process learns of their ends all the same."""
    program = ("import os, signal\n"
               "kids = []\n"
               "for _ in range(150):\n"
               "    kids.append(os.fork())\n"
               "    if not kids[-1]:\n"
               "        signal.pause()\n"
               "for kid in kids:\n"
               "    os.kill(kid, signal.SIGKILL)\n"
               "for kid in kids:\n"
               "    os.waitpid(kid, 0)\n")
    limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
    result = both(ctx, ["/usr/bin/python3", "-S", "-c", program], code=0, preexec=limit)
    result.session.wait_end()
    ends = of(result, "process", "proc.exit")
    equal(len({b["pid"] for b in ends}), 151, "processes with a proc.exit event")
    equal(len(ends), 151, "proc.exit events")


def as_list(value):
    return value if isinstance(value, list) else [value]


case("trees", "vforks", storm("vforks", 600, 300, "quiet-leaf"), timeout=120)
case("trees", "spawns", storm("spawns", 300, 300, "quiet-leaf"), timeout=120)
case("trees", "clones", storm("clones", 400, 0, None), timeout=120)
case("trees", "forks-in-threads", storm("forks-in-threads", 360, 72, "quiet-leaf"), timeout=120)
case("trees", "deep", storm("deep", 12, 0, None))


def exec_with(how):
    def run(ctx, variant):
        result = both(ctx, [program(ctx, "trees", variant), "exec", how], code=17)
        equal(result.out, b"came through\n", "output")
        starts = of(result, "process", "proc.start")
        equal(len(starts), 2, "proc.start events")
        equal(len({b["pid"] for b in starts}), 1, "processes")
        check("came" in " ".join(map(str, as_list(starts[1]["data"].get("args")))), "args of the second", starts[1])
        closed = of(result, "fs", "fs.close", file="/dev/zero")
        equal([b["data"]["file_read_bytes"] for b in closed], [10], "bytes read after the exec")
        check(any("came through" in b["data"]["message"] for b in of(result, "console", "stdout")), "console text missing")
    return run


for _how in ("own", "none", "null", "preload", "clearenv", "at", "fd", "fexecve", "memfd", "deleted"):
    case("exec", _how, exec_with(_how), ["glibc-O2", "musl", "static", "static-pie", "musl-static", "musl-static-pie"])
case("exec", "from-a-thread", plain("trees", "exec-thread", code=17))


def daemon(ctx, variant):
    """Forks twice, closes everything, and is still observed."""
    p = program(ctx, "trees", variant)
    path = ctx.dir / "written-by-daemon"
    result = ctx.scoped([p, "daemon", path])
    equal(result.code, 0, "status")
    ctx.wait_for(path.exists, "the daemon writes its file")
    ctx.wait_for(lambda: path.stat().st_size == 16, "the daemon writes its line")
    result.session.wait_end()
    closed = of(result, "fs", "fs.close", file=str(path))
    equal([b["data"]["file_write_bytes"] for b in closed], [16], "bytes that the daemon wrote")
    # 2,000, and those that replaced 0, 1 and 2, when the daemon ends.
    equal(len(of(result, "fs", "fs.close", file="/dev/null")), 2003, "fs.close events of /dev/null")
    nothing_lost(result)


case("trees", "daemon", daemon)


@test("exec/scripts")
def scripts(ctx):
    """Interpreters through #!, also of an interpreter that is a script, and a shell script without #!."""
    def prepare(cwd):
        for name, text in (("inner", "#!/bin/sh\necho inner $0 $@\nexec /bin/cat \"$1\"\n"),
                           ("outer", f"#!{cwd}/inner with-argument\nthe text of outer\n"),
                           ("bare", "echo no interpreter line\n")):
            (cwd / name).write_text(text)
            (cwd / name).chmod(0o755)
    how = {"prepare": prepare}
    equal(both(ctx, ["/bin/sh", "-c", "./inner /dev/null; ./bare; exit 3"], code=3, **how).code, 3, "status")
    for words in (["./inner", "/dev/null"], ["./inner", "inner"]):
        result = both(ctx, words, code=0, **how)
        check(len(of(result, "process", "proc.start")) >= 2, "the interpreter's exec was not followed")
    ctx.run(["/bin/true"])


@test("exec/not-observable", arch="x86_64")
def not_observable(ctx):
    """32-bit and setuid children run untouched, without a word on stderr, and the log names them."""
    thirty_two = ctx.dir / "thirty-two"
    # The kernel's headers of both word sizes are the same. gcc-multilib has a link to them for -m32, gcc-12-multilib none.
    ctx.run([ctx.tool("gcc"), "-m32", "-idirafter", "/usr/include/x86_64-linux-gnu", "-D_GNU_SOURCE",
             f"-I{TESTS}/behaviour", TESTS / "behaviour/state.c", "-o", thirty_two], timeout=60, check_code=0)
    setuid = ctx.dir / "setuid-program"
    ctx.run(["cp", program(ctx, "state", "glibc-O2"), setuid], check_code=0)
    if os.geteuid() == 0:
        os.chown(setuid, 65534, 65534)
    os.chmod(setuid, 0o6755)
    check(os.stat(setuid).st_mode & stat.S_ISUID, "no setuid bit here")
    runs = ctx.runs_32bit()
    for path in (thirty_two, setuid) if runs else (setuid,):
        result = both(ctx, ["/bin/sh", "-c", f"{path} status; {path} limits; echo $? >done; cat done"], code=0)
        notes = " ".join(str(b["data"]) for b in of(result, "process", "proc.note"))
        check(path.name in result.session.log() or path.name in notes, f"neither log nor proc.note names {path.name}",
              result.session.log()[-2000:], notes)
        closed = of(result, "fs", "fs.close", file=None)
        check(any(b["data"].get("file", "").endswith("/done") for b in result.session.events("fs")),
              "the shell was not observed any more", closed)
        direct = both(ctx, [path, "limits"], code=0)
        check(direct.session.log() is not None, "no log")
    if not runs:
        raise Skip("this kernel runs no 32-bit programs")


SIGNALLED = """
import os, signal
signal.signal(signal.SIGALRM, lambda *_: None)
print("ready", flush=True)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
for _ in range(40000):
    os.close(os.open("/etc/hostname", os.O_RDONLY))
signal.setitimer(signal.ITIMER_REAL, 0)
"""


@test("lossless-and-signals")
def lossless_and_signals(ctx):
    """A writer that waits for room is interrupted by signals all the time: it waits as long as any other."""
    process = ctx.start(ctx.scope_argv([sys.executable, "-c", SIGNALLED], ["--lossless"]), stdout=subprocess.PIPE)
    equal(process.stdout.readline(), b"ready\n", "first line")
    session = ctx.session()
    collector = session.collector_pid()
    os.kill(collector, signal.SIGSTOP)
    time.sleep(0.6)  # of the second that it waits
    os.kill(collector, signal.SIGCONT)
    equal(process.wait(60), 0, "status")
    session.wait_end()
    equal(session.lost(), {}, "losses")


# --- threads, sandboxes, late code ---

def at_once(ctx, variant):
    """Two hundred threads on a few cores leave the collector little time: lossless, so that every number is exact."""
    result = both(ctx, [program(ctx, "threads", variant), "at-once"], ["--lossless"], code=0)
    seen = {}
    for b in of(result, "fs", "fs.close"):
        name = b["data"]["file"].rsplit("/", 1)[-1]
        if name.startswith("thread-"):
            d = b["data"]
            seen[name] = (d["file_write_bytes"], d["file_write_ops"], d["file_read_bytes"], d["file_read_ops"])
    equal(len(seen), 200, "files closed")
    equal(set(seen.values()), {(2000, 200, 2000, 200)}, "their counters")
    equal(len(of(result, "fs", "fs.close", file="/dev/null")), 40000, "fs.close events of /dev/null")
    nothing_lost(result)


def at_once_may_lose(ctx, variant):
    """Without --lossless records may be lost here, but not silently, and what is told is not wrong."""
    result = both(ctx, [program(ctx, "threads", variant), "at-once"], code=0)
    result.session.wait_end()
    events = result.session.events("fs", "fs.close", sync=False)
    whole = sum(b["data"]["file"] == "/dev/null" for b in events) == 40000
    check(whole or result.session.lost().get("record", 0) > 0, "closes are missing and no loss is told", result.session.lost())
    wrong = [b["data"] for b in events if "/thread-" in b["data"]["file"] and b["data"]["file_write_bytes"] > 2000]
    check(not wrong, f"{len(wrong)} files with more bytes than were written", *wrong[:5])


case("threads", "at-once", at_once, timeout=120)
case("threads", "at-once-may-lose", at_once_may_lose, ["glibc-O2", "musl"], timeout=120)
case("threads", "one-by-one", plain("threads", "one-by-one", code=0))

for _name, _code in (("strict", 5), ("strict-after-fork", 0), ("kill-filter", 8), ("filter-then-fork", 10),
                     ("errno-filter", 11), ("no-tsc", 12)):
    case("sandbox", _name, plain("sandbox", _name, code=_code))


def entered(ctx, variant):
    """Entering a filter is told, asking for what filters there could be isn't."""
    for word, code, told in (("errno-filter", 11, 1), ("asks", 14, 0)):
        result = both(ctx, [program(ctx, "sandbox", variant), word], code=code)
        notes = [b for b in result.session.events("process", "proc.note") if "seccomp" in b["data"]["text"]]
        equal(len(notes), told, f"notes of {word}")
    check(any(b["data"]["args"][0] == "echo" for b in of(result, "process", "proc.start")), "its child was not observed")


case("sandbox", "entered", entered)


def dispatched(ctx, variant):
    """Calls that come back to the program (Syscall User Dispatch) are told once, when they are made."""
    result = both(ctx, [program(ctx, "dispatch", variant), "dispatched"], ["--syscalls"], code=4)
    result.session.wait_end()
    calls = [b for b in result.session.events("syscall") if b["source"] in ("open", "openat")]
    for name in ("/dev/zero", "/dev/null", "/dev/full"):
        equal(len([b for b in calls if b["data"].get("file") == name]), 1, f"openings of {name}")
    closed = of(result, "fs", "fs.close", file="/dev/zero")
    equal([(b["data"]["file_read_bytes"], b["data"]["file_read_ops"]) for b in closed], [(24, 3)], "what was read")
    notes = [b["data"]["text"] for b in result.session.events("process", "proc.note")]
    check(not any("seccomp" in text for text in notes), "a note about seccomp", *notes)
    equal(len([b for b in result.session.events("process", "proc.start") if b["data"]["start"] == "fork"]), 1, "children")
    nothing_lost(result)


case("sandbox", "dispatched", dispatched, ["glibc-O2", "musl"], arch="x86_64")


def heirs(ctx, variant, how):
    """Children of a process in a sandbox have their own numbers, and what they do with its connections is told."""
    result = ctx.scoped([program(ctx, "sandbox", variant), "heirs", how])
    equal(result.code, 15, "status")
    result.session.wait_end()
    kids = [tuple(map(int, line.split())) for line in result.out.decode().splitlines()]
    equal(len(kids), 3, "children")
    starts = of(result, "process", "proc.start")
    parent = starts[0]["pid"]
    pids = [parent, *(pid for pid, _ in kids)]
    equal([b["pid"] for b in starts], pids, "processes that started")
    ends = {b["pid"]: b["data"].get("exit_code") for b in of(result, "process", "proc.exit")}
    equal(ends, {parent: 15, **{pid: 20 for pid, _ in kids}}, "processes that ended")
    opened = [b["pid"] for b in of(result, "fs", "fs.open", file="/dev/null")]
    equal(sorted(opened), sorted(pids[1:]), "who opened /dev/null")
    served = [(b["pid"], b["data"].get("net_peer_port"), b["data"]["http_target"])
              for b in of(result, "http", "http.req") if b["data"].get("net_host_port") and
              b["data"].get("net_peer_port") != b["data"].get("net_host_port")]
    server = [s for s in served if s[1] in {port for _, port in kids}]
    equal(sorted(server), sorted((parent if how == "vfork" else pid, port, f"/{i}")
                                 for i, (pid, port) in enumerate(kids)), "requests")
    nothing_lost(result)


for _how in ("fork", "raw", "vfork", "itself"):
    case("sandbox", f"heirs-{_how}", lambda ctx, v, how=_how: heirs(ctx, v, how), ["glibc-O2", "musl"])


def after_quiet(ctx, variant, name, code):
    """The collector sleeps while nothing happens, and is awake in time for what comes then."""
    ctx.valid = False  # a hundred thousand times the same two events
    result = ctx.scoped([program(ctx, "sandbox", variant), name])
    equal((result.code, result.out, result.err), (code, b"alive\n", b""), "status and output")
    session = result.session
    session.wait_end()
    equal(session.lost().get("record", 0), 0, "records that were lost")


@test("sandbox/quiet-wakes")
def quiet_wakes(ctx):
    """Whoever writes first after a while wakes the collector, by one call; who fills an eighth of the ring before it has
    been looked at, too; and nobody else does."""
    trace = ctx.dir / "trace"
    ctx.valid = False  # as in after_quiet()
    # A file for each thread: else calls of others cut a line in two.
    ctx.run([ctx.tool("strace"), "-ff", "-e", "trace=futex", "-o", trace, *ctx.scope_argv([program(ctx, "sandbox", "glibc-O2"), "quiet"])],
            check_code=0, timeout=60)
    calls = [line for f in ctx.dir.glob("trace.*") for line in f.read_text().splitlines() if "FUTEX_WAKE, 1" in line]
    check(1 <= len(calls) <= 4 * (1 + 3 * 7), "calls that wake", *calls)  # rounds, bursts, eighths of a ring in each
    check(all(line.endswith("= 1") for line in calls), "nobody was waiting", *calls)


case("sandbox", "quiet", lambda ctx, v: after_quiet(ctx, v, "quiet", 0), ["glibc-O2", "static"], serial=True)
case("sandbox", "quiet-filter", lambda ctx, v: after_quiet(ctx, v, "quiet-filter", 13), ["glibc-O2"],
     serial=True)


def jail(ctx, variant):
    check(os.geteuid() == 0, "this test has to be run as root")
    both(ctx, [program(ctx, "sandbox", variant), "jail"], prepare=lambda cwd: (cwd / "empty").mkdir(), code=0)


case("sandbox", "jail", jail)


def open_late(ctx, variant):
    """dlopen of a library that has a system call of its own."""
    library = ctx.compile("behaviour/library.c", variant, name="library", shared=True)
    result = both(ctx, [program(ctx, "loader", variant), "open-late", library], code=0)
    closed = of(result, "fs", "fs.close", file="/dev/urandom")
    equal([(b["data"]["file_read_bytes"], b["data"]["file_read_ops"]) for b in closed], [(2400, 300)],
          "what the library read")


case("loader", "open-late", open_late, DYNAMIC)

# --- faults around the program ---

def waiting_shell(ctx, then):
    """A shell that waits for a line, observed: the process, its session."""
    process = subprocess.Popen(ctx.scope_argv(["/bin/sh", "-c", f"echo ready; read line; {then}"]), cwd=ctx.dir,
                               env=ctx.env(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               start_new_session=True)
    ctx.started.append(process)
    equal(process.stdout.readline(), b"ready\n", "first line")
    return process, ctx.session()


@test("faults/collector-killed")
def collector_killed(ctx):
    """Without its collector the program goes on, and the session says so."""
    p = program(ctx, "threads", "glibc-O2")
    process, session = waiting_shell(ctx, f"{p} at-once; echo status $?")
    pid = ctx.wait_for(session.collector_pid, "the collector runs")
    os.kill(pid, signal.SIGKILL)
    out, err = process.communicate(b"go\n", timeout=ctx.left())
    equal((out, err, process.returncode), (b"sum 19900\nstatus 0\n", b"", 0), "output and status")
    shown = ctx.tool_run("history", "-j").out + ctx.tool_run("logs").out + ctx.tool_run("history").out
    check(b"stopped" in shown or b"telemetry" in shown, "nothing says that telemetry stopped", shown.decode())


@test("faults/collector-suspended")
def collector_suspended(ctx):
    """A stopped collector does not stop the program; what was lost is told when it goes on."""
    p = program(ctx, "threads", "glibc-O2")
    bare_began = time.monotonic()
    ctx.run([p, "at-once"], cwd=ctx.fresh("bare"), check_code=0)
    bare = time.monotonic() - bare_began
    process, session = waiting_shell(ctx, f"{p} at-once; {p} one-by-one; echo status $?")
    pid = ctx.wait_for(session.collector_pid, "the collector runs")
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        out, err = process.communicate(b"go\n", timeout=min(60, ctx.left()))
        took = time.monotonic() - began
    finally:
        os.kill(pid, signal.SIGCONT)
    equal((out, err), (b"sum 19900\ndone\nstatus 0\n", b""), "output")
    check(took < 10 * bare + 10, f"took {took:.1f} s, alone {bare:.1f} s")
    session.wait_end(30)
    # 40,000 opens and closes at least fit into no ring of 65,536 cells.
    closes = len([b for b in session.events("fs", "fs.close", sync=False) if b["data"]["file"] == "/dev/null"])
    check(closes == 40000 or sum(session.lost().values()) > 0, f"{closes} of 40,000 closes, and no loss is told",
          session.lost())


# --- goroutines ---

# Collections that stop the world, memory that is overwritten once it is free, stacks that never shrink: other moments
# at which stacks are looked at.
GO_RUNS = [{}, {}, {"GODEBUG": "gcstoptheworld=1"}, {"GODEBUG": "clobberfree=1"}, {"GODEBUG": "gcshrinkstackoff=1"}]


def go_stress(ctx, variant):
    """Everything that a hook on a goroutine's stack would break, over and over (tests/go/stress). Lossless, as it leaves
    the collector little time."""
    p = ctx.go_build("stress", variant)
    # Only programs built alike can open it.
    env = {"PLUGIN": ctx.go_build("plugin", "plugin") if variant == "cgo" else None}
    for more in GO_RUNS:
        nothing_lost(both(ctx, [p], ["--lossless"], env={**env, **more}, code=0))


for _variant in ("cgo", "cgo-stripped", "cgo-external-pie", "pie", "static", "static-stripped", "race"):
    add_test("behaviour", f"go-stress/{_variant}", lambda ctx, v=_variant: go_stress(ctx, v), timeout=600)


@test("faults/program-killed")
def program_killed(ctx):
    """What a program did before it was killed is there."""
    process, session = waiting_shell(ctx, "cat /etc/passwd >copied; rm copied; echo last words; read more")
    process.stdin.write(b"go\n")
    process.stdin.flush()
    equal(process.stdout.readline(), b"last words\n", "last line")
    time.sleep(0.1)  # the shell may still be inside write(2): let it come back
    process.kill()
    process.wait(10)
    session.wait_end()
    files = [b["data"].get("file") for b in session.events("fs", "fs.delete", sync=False)]
    check(f"{ctx.dir}/copied" in files, "the deletion is missing", files)
    text = "".join(b["data"]["message"] for b in session.events("console", sync=False))
    check("last words" in text, "the last line is missing", text)
    ends = [b["data"] for b in session.events("process", "proc.exit", sync=False) if b["pid"] == process.pid]
    equal(len(ends), 1, "proc.exit events")
    check_end(ends[0], signal.SIGKILL)


@test("faults/hostile-program", timeout=120)
def hostile(ctx):
    """Programs that overwrite their segment at random harm neither the collector nor others in the session."""
    p = program(ctx, "hostile", "glibc-O2")
    # Ending badly is what a program that breaks the probe's memory may get; never ending is not.
    line = f"for seed in 1 2 3 4 5 6; do timeout -s KILL 20 {p} scribble $seed >said 2>&1; cat /etc/hostname >out; done; echo end"
    result = ctx.scoped(["/bin/sh", "-c", line])
    equal((result.code, result.out), (0, b"end\n"), "what the shell did")
    result.session.wait_end(30)
    opened = [b for b in of_session(result.session, "fs", "fs.open") if b["data"]["file"] == "/etc/hostname"]
    equal(len(opened), 6, "fs.open events of a process beside the hostile one")
    ends = [b["data"] for b in of_session(result.session, "process", "proc.exit") if b["proc"] == "cat"]
    equal([d.get("exit_code") for d in ends], [0] * 6, "proc.exit of that process")


def of_session(session, sourcetype, source):
    return session.events(sourcetype, source, sync=False)


@test("faults/no-collector")
def no_collector(ctx):
    """LD_PRELOAD alone with a collector's address that nobody answers: unobserved, undisturbed, without delay."""
    library = find_library(ctx)
    env = {"LD_PRELOAD": library, "SCOPE_SOCKET": "scope-test-nobody-listens-here"}
    p = program(ctx, "threads", "glibc-O2")
    bare = ctx.run([p, "at-once"], cwd=ctx.fresh("bare"), check_code=0)
    began = time.monotonic()
    result = ctx.run([p, "at-once"], cwd=ctx.fresh("alone"), env=ctx.env(**env), check_code=0)
    check(time.monotonic() - began < 20 * SLACK, "took too long")
    equal((result.out, result.err), (bare.out, bare.err), "output")
    both_fds = [ctx.run([program(ctx, "state", "glibc-O2"), "fds"], env=ctx.env(**e)).out for e in ({}, env)]
    equal(both_fds[1], both_fds[0], "descriptors")


@test("faults/preload-alone")
def preload_alone(ctx):
    """LD_PRELOAD=libscope.so PROGRAM, without the command line tool, starts a collector by itself."""
    library = find_library(ctx)
    for name, where in (("named", {"SCOPE_EXEC_PATH": ctx.scope}), ("beside", {})):
        events = ctx.dir / f"{name}.json"
        env = {"LD_PRELOAD": library, **where, "SCOPE_EVENT_DEST": f"file://{events}",
               "SCOPE_CRIBL_ENABLE": "false", "SCOPE_METRIC_ENABLE": "false", "SCOPE_EVENT_ENABLE": "true",
               "SCOPE_LOG_DEST": f"file://{ctx.dir}/scope.log"}
        bare = ctx.run([program(ctx, "state", "glibc-O2"), "fds"])
        result = ctx.run([program(ctx, "state", "glibc-O2"), "fds"], env=ctx.env(**env))
        equal((result.out, result.err, result.code), (bare.out, bare.err, bare.code), "output and status")
        ctx.wait_for(lambda e=events: e.exists() and b"proc.exit" in e.read_bytes(), "events arrive in the file")


def find_library(ctx):
    """The library that belongs to the tool under test."""
    ctx.tool_run("extract", str(ctx.fresh("extracted")))
    return ctx.dir / "extracted" / "libscope.so"
