# SPDX-License-Identifier: Apache-2.0
"""Programs without a dynamic loader: observed, and as they are bare, whatever becomes of those who observe them.

What system calls they make, and hard cases of every kind, are tested with the static variants in tests/programs and
tests/behaviour; here is what only they have.
"""

import os
import re
import shutil
import signal
import struct
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from calls import has_loader
from scopetest import MACHINE, TESTS, add_test, check, check_end, equal, test

STATIC = ["static", "static-pie", "musl-static", "musl-static-pie"]


def program(ctx, variant="static", flags=(), name=None):
    path = ctx.compile("static/self.c", variant, [f"-I{TESTS}/behaviour", *flags], name)
    check(has_loader(path) != (variant in STATIC), f"{path} isn't what it is to be")
    return path


def small_env(ctx, **more):
    return {"PATH": "/usr/bin:/bin", "SCOPE_HOME": str(ctx.home), "SOME": "variable", **more}


def both(ctx, argv, flags=(), **how):
    """Runs bare and observed; checks that nothing differs; the observed run's result."""
    how.setdefault("env", small_env(ctx))
    bare = ctx.run(argv, **how)
    check(bare.code not in (98, 99), "the test itself failed", bare.describe())
    scoped = ctx.scoped(argv, flags, **how)
    check((bare.code, bare.out, bare.err) == (scoped.code, scoped.out, scoped.err), "output or status differs",
          "bare: " + bare.describe(), "observed: " + scoped.describe(), scoped.session.log()[-2000:])
    return scoped


def starts(result):
    return [b["data"] for b in result.session.events("process", "proc.start")]


def observed(result, path, count=1):
    """The program at that path was observed, so many times from its start, and nothing was complained of."""
    seen = [d for d in starts(result) if d["exe"] == str(path) and d["start"] == "exec"]
    check(len(seen) == count, f"{len(seen)} observed starts of {path} instead of {count}", result.session.log())
    check("not observed" not in result.session.log(), "something was not observed", result.session.log())


# --- as bare ---

def plain(*words, count=1):
    def run(ctx, variant):
        p = program(ctx, variant)
        observed(both(ctx, [p, *words]), p, count)
    return run


for _variant in STATIC:
    for _name, _function in (("view", plain("view", "a b", "")), ("heap", plain("heap")), ("vforks", plain("vforks", count=51)),
                             ("in-vain", plain("in-vain", count=2))):
        add_test("static", f"{_name}/{_variant}", lambda ctx, f=_function, v=_variant: f(ctx, v))


@test()
def test_death_by_signal(ctx):
    p = program(ctx)
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGTRAP):
        result = both(ctx, [p, "dies", number])
        equal(result.code, -number, "status")
        (end,) = result.session.events("process", "proc.exit")
        check_end(end["data"], number)


@test()
def test_child_sees_the_same(ctx):
    """The same view for a child of a shell; and the shell's own descriptors and traces of tracing."""
    p = program(ctx)
    observed(both(ctx, ["/bin/sh", "-c", f"exec 7</dev/null; {p} view; {p} ends 5; echo $?; ls /proc/$$/fd; "
                                         "grep TracerPid /proc/$$/status"]), p, 2)


@test()
def test_chains(ctx):
    """Static, dynamic and again, with the environment kept and without one."""
    links = [program(ctx, v) for v in ("static", "glibc-O2", "musl-static-pie", "musl", "static-pie", "static", "glibc-O0")]
    result = both(ctx, [links[0], "chain", *links[1:]])
    equal(result.code, 17, "status")
    equal([d["exe"] for d in starts(result)], [str(p) for p in links], "observed images")
    equal(len({b["pid"] for b in result.session.events("process", "proc.start")}), 1, "processes")


@test()
def test_scripts(ctx):
    """A static interpreter by #!, found by scope itself, by a shell, and by busybox."""
    busybox = shutil.copy(ctx.tool("busybox"), ctx.dir / "busybox")
    script = ctx.dir / "script"
    script.write_text(f"#!{busybox} sh\necho $0 $@ | {busybox} tr a-z A-Z\nexit 3\n")
    script.chmod(0o755)
    for argv in ([script, "word"], ["/bin/sh", "-c", f"{script} word; exit $?"], [busybox, "sh", "-c", f"{script} word; exit $?"]):
        result = both(ctx, argv)
        equal(result.code, 3, "status")
        check(any(d["exe"] == str(busybox) and str(script) in map(str, d["args"]) for d in starts(result)),
              "the interpreter was not observed", *starts(result), result.session.log())


@test()
def test_loader_by_hand(ctx):
    """A dynamic loader is a file without a loader too, but no static program: its program gets one probe, not two."""
    glibc = {"x86_64": "/lib64/ld-linux-x86-64.so.2", "aarch64": "/lib/ld-linux-aarch64.so.1"}[MACHINE]
    for variant, loader in (("glibc-O2", glibc), ("musl", f"/lib/ld-musl-{MACHINE}.so.1")):
        p = program(ctx, variant)
        for argv in ([loader, p, "ends", "3"], ["/bin/sh", "-c", f"{loader} {p} ends 3; exit $?"]):
            result = both(ctx, argv)
            equal(result.code, 3, "status")
            equal(sum("ends" in d["args"] and d["start"] == "exec" and d["args"][0] != "/bin/sh" for d in starts(result)), 1, "starts")


@test(timeout=120)
def test_many_at_once(ctx):
    """Two hundred at the same time from one shell, each observed to its end."""
    p = program(ctx, "musl-static")
    line = f"for i in $(seq 200); do {p} ends $((i % 50)) & done; wait; echo all"
    result = both(ctx, ["/bin/bash", "-c", line])
    observed(result, p, 200)
    ends = [b["data"]["exit_code"] for b in result.session.events("process", "proc.exit") if b["proc"] == p.name]
    equal(sorted(ends), sorted(i % 50 for i in range(1, 201)), "exit codes")


@test()
def test_little_stack(ctx):
    """Where the stack may not grow the program runs all the same."""
    p = program(ctx)
    both(ctx, ["/bin/sh", "-c", f"ulimit -s 64; {p} ends 3; echo $?; ulimit -s 16; {p} ends 4; echo $?"])


def of_an_older_linker(ctx, variant):
    """A static PIE that doesn't say that it is a program (DF_1_PIE), which the dynamic loader doesn't either."""
    p = shutil.copy(program(ctx, variant), ctx.dir / "unsaid")
    listed = ctx.run([ctx.tool("readelf"), "-dW", p], check_code=0).out.decode()
    at = int(re.search(r"Dynamic section at offset (0x[0-9a-f]+)", listed)[1], 16)
    with open(p, "r+b") as f:
        f.seek(at)
        table = f.read(4096)
        for i in range(0, len(table), 16):  # struct Elf64_Dyn
            tag, value = struct.unpack_from("<qQ", table, i)
            if tag == 0x6ffffffb:  # DT_FLAGS_1
                check(value & 0x08000000, "this linker doesn't say it either: a bad test")
                f.seek(at + i + 8)
                f.write(struct.pack("<Q", value & ~0x08000000))
                break
    check("PIE" not in ctx.run([ctx.tool("readelf"), "-dW", p], check_code=0).out.decode(), "it still says so")
    observed(both(ctx, [p, "view", "a"]), p)
    observed(both(ctx, ["/bin/sh", "-c", f"{p} view a; exit 5"]), p)


for _variant in ("static-pie", "musl-static-pie"):
    add_test("static", f"older-linker/{_variant}", lambda ctx, v=_variant: of_an_older_linker(ctx, v))


# --- left alone ---

def left_alone(ctx, result, path, why):
    result.session.wait_end()
    log = result.session.log()
    check(re.search(f"{re.escape(path.name)}.*({why})|({why}).*{re.escape(path.name)}", log), f"the log doesn't tell why: {why}", log)
    check(not any(d["exe"] == str(path) for d in starts(result)), "was observed")


@test()
def test_writable_code(ctx):
    """Whose code is writable may change it at any time: packed programs."""
    p = shutil.copy(program(ctx), ctx.dir / "writable")
    with open(p, "r+b") as f:
        head = bytearray(f.read(4096))
        for i in range(head[56]):  # e_phnum program headers of 56 bytes, elf(5)
            if head[64 + 56 * i] == 1 and head[68 + 56 * i] == 5:  # PT_LOAD, readable and executable
                head[68 + 56 * i] = 7
        f.seek(0)
        f.write(head)
    for argv in ([p, "ends", "3"], ["/bin/sh", "-c", f"{p} ends 3; exit $?"]):
        result = both(ctx, argv)
        equal(result.code, 3, "status")
        left_alone(ctx, result, p, "packed or writable")


def packed(ctx, hidden):
    """Packed programs, with the system calls of the stub in plain sight, or where nobody finds them."""
    for variant in ("static", "musl-static"):
        payload = ctx.fresh(f"payload-{variant}") / "payload"
        payload.write_bytes(bytes(b ^ 0x5a for b in program(ctx, variant, ["-no-pie"], "to-pack").read_bytes()))
        p = ctx.dir / f"packed-{variant}"
        ctx.compiler(["gcc", "-O1", "-fno-stack-protector", "-fno-tree-loop-distribute-patterns", "-nostdlib", "-static",
                      "-no-pie", "-s", "-Wl,-Ttext-segment=0x60000000", *(["-DHIDDEN"] if hidden else []),
                      '-DPAYLOAD="payload"', f"-I{payload.parent}", f"-I{TESTS}/programs/arch/{MACHINE}",
                      TESTS / "static/packed.c", "-o", p])
        for argv in ([p, "ends", "3"], [p, "chain", p, program(ctx, variant)], ["/bin/sh", "-c", f"{p} heap; {p} ends 3; exit $?"]):
            result = both(ctx, argv)
            result.session.wait_end()
            log = result.session.log()
            check(f"the program is packed or makes its code as it runs: {p}" in log, "the log doesn't tell why", log)


add_test("static", "packed/plain", lambda ctx: packed(ctx, False), arch="x86_64")
add_test("static", "packed/hidden", lambda ctx: packed(ctx, True), arch="x86_64")


@test()
def test_no_room_below(ctx):
    p = program(ctx, "static", ["-Wl,-Ttext-segment=0x20000"], "low")
    result = both(ctx, [p, "heap"])
    if MACHINE == "x86_64":  # on arm64 programs of Go are linked so low: the probe lies above them
        left_alone(ctx, result, p, "no free memory below")


@test(arch="aarch64")
def test_much_code(ctx):
    """More code than a jump reaches, the system calls together: slots need be near these only."""
    p = ctx.compile(["static/self.c", "static/filler.c"], "static", [f"-I{TESTS}/behaviour"], "much-code")
    observed(both(ctx, [p, "heap"]), p)


@test()
def test_traced_already(ctx):
    """Under a debugger or strace: as without scope."""
    p = program(ctx)
    strace = [ctx.tool("strace"), "-f", "-qq", "-o", "/dev/null"]
    result = both(ctx, [*strace, "/bin/sh", "-c", f"{p} ends 3; {p} heap; exit 4"])
    equal(result.code, 4, "status")
    result.session.wait_end()
    check("traced already" in result.session.log(), "the log doesn't tell why", result.session.log())
    bare = ctx.run([*strace, p, "ends", "3"])
    whole = ctx.run([*strace, *ctx.scope_argv([p, "ends", "3"])])
    equal((whole.code, whole.out, whole.err), (bare.code, bare.out, bare.err), "strace of scope run")


@test()
def test_unreadable(ctx):
    """Programs that may be run but not read, by a user for whom that counts: that one is static can't be known before."""
    check(os.geteuid() == 0, "this test has to be run as root")
    ctx.home.mkdir()
    os.chown(ctx.home, 65000, 65000)
    os.chmod(ctx.options.work, 0o755)
    user = [ctx.tool("setpriv"), "--reuid=65000", "--regid=65000", "--clear-groups"]
    scope = shutil.copy(ctx.scope, ctx.dir / "scope")
    for variant in ("static", "musl-static-pie", "glibc-O2"):
        p = shutil.copy(program(ctx, variant), ctx.dir / variant)
        p.chmod(0o111)
        for argv, by_shell in (([p, "ends", 3], False), (["/bin/sh", "-c", f"{p} ends 3; exit 4"], True)):
            shutil.rmtree(ctx.home / "history", ignore_errors=True)
            bare, scoped = ctx.run([*user, *argv]), ctx.run([*user, scope, "run", "--", *argv])
            equal((scoped.code, scoped.out, scoped.err), (bare.code, bare.out, bare.err), "status and output")
            equal(bare.code, 4 if by_shell else 3, "status")
            session = ctx.session()
            session.wait_end()
            log = session.log()
            if variant == "glibc-O2":
                check(any(b["data"]["exe"] == str(p) for b in session.events("process", "proc.start", sync=False)), "was not observed", log)
                check("started a program" not in log, "said to be unobserved", log)
            elif by_shell:
                check(f"not observed: its file can't be read: {p}" in log, "the log doesn't tell why", log)
                notes = [b["data"] for b in session.events("process", "proc.note", sync=False)]
                equal([n.get("file") for n in notes], [str(p)], "notes")
            else:
                check(f"{p} can't be read: not observed unless" in log, "the log doesn't tell why", log)


@test()
def test_setuid(ctx):
    """Left alone, with the rights that it has bare."""
    check(os.geteuid() == 0, "this test has to be run as root")
    p = shutil.copy(program(ctx), ctx.dir / "setuid-static")
    os.chown(p, 65534, 65534)
    os.chmod(p, 0o6755)
    for argv in ([p, "rights"], ["/bin/sh", "-c", f"{p} rights; exit 6"]):
        result = both(ctx, argv)
        equal(result.out, b"65534 65534 1\n", "rights")
        left_alone(ctx, result, p, "set-user-ID|changes its user")


# --- whoever dies ---

WAIT = "echo ready; read x;"


def waiting(ctx, line):
    """An observed shell that waits for a line of input and then runs `line`: the process, and its collector."""
    shell = subprocess.Popen(ctx.scope_argv(["/bin/sh", "-c", f"{WAIT} {line}"]), cwd=ctx.dir, env=small_env(ctx),
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    ctx.started.append(shell)
    equal(shell.stdout.readline(), b"ready\n", "first line")
    session = ctx.session()
    return shell, session, ctx.wait_for(session.collector_pid, "the collector runs")


TRACER_CALLS = "ptrace,process_vm_readv,process_vm_writev,ppoll,sendmsg,exit_group"
KILLS = 60


@test(timeout=240)
def test_tracer_killed_anywhere(ctx):
    """The tracer dies before each of the system calls that it makes: the program is what it is bare, observed or not."""
    strace = ctx.tool("strace")
    p = program(ctx)
    line = f"{p} view; exit $?"
    bare = ctx.run(["/bin/sh", "-c", f"{WAIT} {line}"], env=small_env(ctx), stdin=b"go\n")
    killed = observed_before = observed_after = 0
    for number in range(1, KILLS):
        home = ctx.fresh(f"kill-{number}")
        ctx.home = home
        shell, session, collector = waiting(ctx, line)
        tracer = ctx.start([strace, "-f", "-qq", "-e", "trace=" + TRACER_CALLS, "-e",
                            f"inject={TRACER_CALLS}:signal=SIGKILL:when={number}", "-o", ctx.dir / "strace.out", "-p", collector])
        ctx.wait_for(lambda: traced_by(collector) == tracer.pid, "strace is attached")
        out, err = shell.communicate(b"go\n", timeout=ctx.left())
        equal((shell.returncode, b"ready\n" + out, err), (bare.code, bare.out, bare.err), f"with the tracer killed before its call {number}")
        session.wait_end()
        tracer.wait(10)  # by itself; told to end it may swallow the signal that it has just seen
        if "was killed" not in session.log():
            break
        killed += 1
        seen = any(b["data"]["exe"] == str(p) for b in session.events("process", "proc.start", sync=False))
        observed_before += not seen
        observed_after += seen
    check(killed >= 20, f"only {killed} of its calls came up", session.log())
    check(observed_before and observed_after, f"{observed_before} without and {observed_after} with a probe: one can't be")


def traced_by(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return int(re.search(r"TracerPid:\s+(\d+)", f.read())[1])


@test(timeout=120)
def test_collector_killed(ctx):
    """The collector dies while static programs are being started, again and again."""
    p = program(ctx, "musl-static")
    line = f"i=0; while [ $i -lt 300 ]; do {p} ends 7 || echo -n $?; i=$((i + 1)); done"
    for delay in (0.0, 0.05, 0.15):
        ctx.home = ctx.fresh(f"home-{delay}")
        shell, session, collector = waiting(ctx, line)
        shell.stdin.write(b"go\n")
        shell.stdin.flush()
        time.sleep(delay)
        os.kill(collector, signal.SIGKILL)
        out, err = shell.communicate(timeout=ctx.left())
        equal((shell.returncode, out, err), (0, b"7" * 300, b""), "status and output")
        ctx.wait_for(lambda: not session.collector_runs(), "the lock is free")


@test(timeout=120)
def test_signals_meanwhile(ctx):
    """Signals that arrive while a thread is traced reach the program: stop and continue, and one that ends it."""
    p = program(ctx, "musl-static")

    def one(number):
        process = subprocess.Popen(ctx.scope_argv(["/bin/sh", "-c", f"while :; do {p} ends 0; done"]), cwd=ctx.dir,
                                   env=ctx.env(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, start_new_session=True)
        ctx.started.append(process)
        time.sleep(0.5)
        for i in range(40):
            os.killpg(process.pid, signal.SIGSTOP)
            time.sleep(0.001 * (i % 7))
            os.killpg(process.pid, signal.SIGCONT)
            time.sleep(0.001 * ((i + number) % 5))
        check(process.poll() is None, "ended", process.poll())
        os.killpg(process.pid, signal.SIGTERM)
        out, err = process.communicate(timeout=ctx.left())
        equal((process.returncode, out, err), (-signal.SIGTERM, b"", b""), "status and output")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, range(2)))
