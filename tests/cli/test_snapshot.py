# SPDX-License-Identifier: Apache-2.0
"""scope snapshot: programs stand at places that are known, and the trace must name them, as gdb and eu-stack do."""

import json
import os
import re
import signal
import stat
import subprocess
from pathlib import Path

from scopetest import TESTS, check, equal, test

SOURCE = Path(__file__).parent


def line_of(source, word):
    """The number of the line that has this word as its comment."""
    lines = source.read_text().splitlines()
    return next(i for i, text in enumerate(lines, 1) if re.search(rf"(/\* {word} \*/|// {word})\s*$", text))


def asleep(pid):
    states = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        states.append((task / "stat").read_text().rpartition(")")[2].split()[0])
    return all(s == "S" for s in states)


class Standing:
    """A program that has said that it is ready."""

    def __init__(self, ctx, argv, sleeps=True, **how):
        self.ctx, self.process = ctx, subprocess.Popen([str(a) for a in argv], stdin=subprocess.PIPE, cwd=ctx.dir,
                                                       stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                                       env=how.pop("env", ctx.env()), **how)
        self.pid = self.process.pid
        equal(self.process.stdout.readline(), b"ready\n", "what it says")
        if sleeps:
            ctx.wait_for(lambda: asleep(self.pid), "all threads wait")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def goes_on(self):
        self.process.stdin.write(b"x")
        self.process.stdin.flush()
        equal(self.process.wait(60), 0, "its exit status")


class Snapshot:
    """What was written of a process."""

    def __init__(self, ctx, pid, *flags, code=0, name="snapshot", env=None):
        self.dir = ctx.dir / name
        self.result = ctx.run([ctx.scope, "snapshot", "-o", self.dir, *flags, pid], check_code=code, env=env)
        self.text = (self.dir / "backtrace.txt").read_text()
        self.json = json.loads((self.dir / "snapshot.json").read_text())

    def threads(self):
        return {t["tid"]: t["frames"] for t in self.json["threads"]}

    def frames(self, source, tid=None):
        """(function, line) of the frames that are in that source, of the first thread or of another."""
        frames = self.json["threads"][0]["frames"] if tid is None else self.threads()[tid]
        return [(f.get("function", "?"), f["line"]) for f in frames if f.get("file", "").endswith(source.name)]


def places(source, *pairs):
    return [(function, line_of(source, word)) for function, word in pairs]


C = SOURCE / "standing.c"
MAIN = places(C, ("reads", "reads"), ("handler", "handler"), ("raises", "raises"), ("main", "main"))
WAITS = places(C, ("hold", "hold"), ("inlined", "inlined"), ("outer", "outer"), ("waits", "waits"))
POLLS = places(C, ("polls", "polls"), ("poller", "poller"))


def by_gdb(ctx, pid, source):
    """What gdb says: the same as Snapshot.frames(), by thread."""
    result = ctx.run([ctx.tool("gdb"), "-nx", "-q", "-batch", "-ex", "set width 0", "-ex", "thread apply all bt", "-p", pid])
    found, tid = {}, pid
    for line in result.out.decode(errors="replace").splitlines():
        m = re.match(r"Thread \d+ \(.*(?:LWP|process) (\d+)\)", line)
        tid = int(m[1]) if m else tid
        m = re.match(r"#\d+ +(?:0x[0-9a-f]+ in )?(.+?) \(.*\) at (\S+):(\d+)$", line)
        if m and m[2].endswith(source.name):
            found.setdefault(tid, []).append((m[1], int(m[3])))
    return found


def by_eu_stack(ctx, pid):
    """Program counters by thread."""
    found = {}
    for line in ctx.run([ctx.tool("eu-stack"), "-p", pid]).out.decode().splitlines():
        m = re.match(r"TID (\d+)", line)
        if m:
            pcs = found.setdefault(int(m[1]), [])
        m = re.match(r"#\d+ +0x([0-9a-f]+)", line)
        if m:
            pcs.append(int(m[1], 16))
    return found


def of_c(variant, stack, flags=("-g",), gdb=True, eu_stack=True):
    @test(f"c_{variant}{'_' + stack if stack else ''}", timeout=90)
    def check_c(ctx):
        """Threads, inlined functions, a signal's handler; gdb and eu-stack say the same; the program goes on."""
        program = ctx.compile("cli/standing.c", variant, flags=flags)
        with Standing(ctx, [program, 3, stack]) as s:
            snapshot = Snapshot(ctx, s.pid)
            equal(len(snapshot.threads()), 4, "threads")
            # Below a signal's handler, frames of musl are guesses: whatever was left on the stack may mislead them.
            certain = 2 if "musl" in variant else len(MAIN)
            equal(snapshot.frames(C)[:certain], MAIN[:certain], "the main thread")
            got = sorted(snapshot.frames(C, tid) for tid in snapshot.threads() if tid != s.pid)
            equal(got, sorted([WAITS, WAITS, POLLS]), "the others")
            first = snapshot.json["threads"][0]["frames"]
            guesses = [i for i, f in enumerate(first) if f.get("guessed")]
            check("musl" in variant or not guesses, "nothing is guessed", first)
            # Whatever is wrong is said to rest on a guess, and where that is.
            right = snapshot.frames(C) == MAIN and len([f for f in first if f.get("signal")]) == 1
            check(right or guesses, "wrong, and nothing says so", first)
            for thread in snapshot.json["threads"]:
                of_it = [i for i, f in enumerate(thread["frames"]) if f.get("guessed")]
                equal(thread.get("guessedFrom"), of_it[0] if of_it else None, "guessedFrom")
                section = re.search(rf"^Thread \d+: {thread['tid']}\b(.*?)(?:\n\n|\Z)", snapshot.text, re.M | re.S)[1]
                equal(re.findall(r"^  \(#(\d+) is a guess", section, re.M), [str(i) for i in of_it[:1]], "the text")
            came = [i for i, f in enumerate(first) if f.get("signal")]
            check(len(came) == 1 or (came and "musl" in variant), "signals", first)
            equal(first[came[0] - 1]["function"], "handler", "below the signal")
            if gdb:
                for tid, frames in by_gdb(ctx, s.pid, C).items():
                    equal(snapshot.frames(C, tid), frames, f"thread {tid} by gdb")
            if eu_stack:
                for tid, pcs in by_eu_stack(ctx, s.pid).items():
                    ours = [int(f["pc"], 16) for f in snapshot.threads()[tid] if not f.get("inlined")]
                    trampoline = [p for p in pcs if p not in ours]  # where a handler returns to, which isn't shown
                    equal([p for p in pcs if p not in trampoline], ours, f"thread {tid} by eu-stack")
                    check(len(trampoline) == (tid == s.pid), f"eu-stack has other frames of thread {tid}", pcs, ours)
            if not gdb and not eu_stack:  # they do disturb it
                s.goes_on()


for args in (("glibc-O2", ""), ("glibc-O2", "alternate"), ("static", ""), ("static-pie", "alternate")):
    of_c(*args)
for args in (("musl", ""), ("musl-static", "alternate")):
    of_c(*args, gdb=False, eu_stack=False)


@test(timeout=90)
def without_unwind_information(ctx):
    """No unwind information, no frame pointers: what is guessed is marked as such, and is right here."""
    program = ctx.compile("cli/standing.c", flags=["-fno-asynchronous-unwind-tables", "-fomit-frame-pointer"], name="bare")
    with Standing(ctx, [program, 2]) as s:
        snapshot = Snapshot(ctx, s.pid)
        frames = [f for f in snapshot.json["threads"][0]["frames"] if f["module"].endswith("bare.glibc-O2")]
        equal([f["function"] for f in frames], ["reads", "handler", "raises", "main", "_start"], "functions")
        check(frames[1].get("guessed") and not frames[0].get("guessed"), "what is guessed", frames)
        check("(guessed)" in snapshot.text, "the text")
        s.goes_on()


@test(timeout=90)
def separate_debug_information(ctx):
    """A stripped program: names from .gnu_debugdata alone, and lines from a separate file by its build id."""
    program, bare, mini = ctx.compile("cli/standing.c", flags=["-g"]), ctx.dir / "bare", ctx.dir / "mini"
    ctx.run([ctx.tool("objcopy"), "--only-keep-debug", program, ctx.dir / "debug"], check_code=0)
    ctx.run([ctx.tool("objcopy"), "-S", "--remove-section=.comment", program, bare], check_code=0)
    names = ctx.dir / "names"
    ctx.run([ctx.tool("objcopy"), "-S", "--keep-symbol=reads", "--keep-symbol=raises", "--keep-symbol=handler", program, names],
            check_code=0)
    ctx.run([ctx.tool("xz"), "-k", names], check_code=0)
    ctx.run([ctx.tool("objcopy"), f"--add-section=.gnu_debugdata={names}.xz", bare, mini], check_code=0)
    with Standing(ctx, [mini, 0]) as s:
        functions = [f.get("function") for f in Snapshot(ctx, s.pid, name="mini.out").json["threads"][0]["frames"]]
        for name in ("reads", "raises", "handler"):
            check(name in functions, f"{name} isn't in", functions)
    # The link says the name; it lies beside the program, as its build id proves.
    (ctx.dir / ".debug").mkdir()
    os.rename(ctx.dir / "debug", ctx.dir / ".debug" / "linked.debug")
    linked = ctx.dir / "linked"
    ctx.run([ctx.tool("objcopy"), f"--add-gnu-debuglink={ctx.dir}/.debug/linked.debug", bare, linked], check_code=0)
    with Standing(ctx, [linked, 0]) as s:
        equal(Snapshot(ctx, s.pid, name="linked.out").frames(C), MAIN, "by a link")


@test(timeout=90)
def cplusplus(ctx):
    """Namespaces, templates, virtual functions, a lambda, an inlined function: all of them named."""
    source, program = SOURCE / "standing.cc", ctx.dir / "standing"
    ctx.compiler(["g++", "-O2", "-g", source, "-o", program], timeout=120)
    with Standing(ctx, [program]) as s:
        snapshot = Snapshot(ctx, s.pid)
        frames = snapshot.frames(source)
        equal([line for _, line in frames], [line_of(source, w) for w in ("hold", "twice", "lambda", "work", "main")], "lines")
        names = [f for f, _ in frames]
        check(names[0].startswith("place::Box<double>::hold(std::"), "the template", names)
        equal(names[1], "place::twice", "the inlined one")
        equal(names[3], "place::Derived::work(int)", "the method")
        equal([line for _, line in by_gdb(ctx, s.pid, source)[s.pid]], [line for _, line in frames], "lines by gdb")


@test(timeout=120)
def rust(ctx):
    """Modules, a method of a trait, an inlined function; both ways in which Rust mangles names."""
    source = SOURCE / "standing.rs"
    for mangling in ("v0", None):
        program = ctx.dir / f"standing-{mangling}"
        ctx.compiler(["rustc", "--edition=2021", "-g", "-O", *(["-C", f"symbol-mangling-version={mangling}"] if mangling else []),
                 source, "-o", program], timeout=120)
        with Standing(ctx, [program]) as s:
            frames = Snapshot(ctx, s.pid, name=f"out-{mangling}").frames(source)
            equal([line for _, line in frames], [line_of(source, w) for w in ("stay", "mid", "go", "main")], "lines")
            for name, word in zip([f for f, _ in frames], ("deep::stay", "deep::mid", "go", "::main")):
                check(word in name and not name.startswith("_"), f"not a readable name of {word}", name)


GO = TESTS / "go" / "standing"


def of_go(variant):
    @test(f"go_{variant}", timeout=300)
    def check_go(ctx):
        """A goroutine, in C code with cgo: names and lines are there although the program may be stripped."""
        cgo = variant.startswith("cgo")
        stands = GO / ("c.go" if cgo else "noc.go")
        with Standing(ctx, [ctx.go_build("standing", variant)], sleeps=False) as s:
            def look():
                look.count += 1
                snapshot = Snapshot(ctx, s.pid, name=f"out{look.count}")
                found = [t for t in snapshot.json["threads"] if any(f.get("function", "").startswith("main.stands") for f in t["frames"])]
                return (snapshot, found[0]) if found else None

            look.count = 0
            snapshot, thread = ctx.wait_for(look, "it stands in the function", interval=0.2)
            of_main = [f for f in thread["frames"] if f["function"].startswith("main.") and "_Cfunc" not in f["function"]]
            names = [f["function"] for f in of_main]
            equal(names[0::2], ["main.stands", "main.main.func2"], "functions")
            equal(names[1], "main.inner", "functions")
            equal([f["line"] for f in of_main[1:]], [line_of(GO / "main.go", w) for w in ("inner", "goroutine")], "lines")
            if cgo:
                equal(of_main[0]["line"], line_of(stands, "stands"), "the line")
            check(not any(f.get("guessed") for f in thread["frames"]), "nothing is guessed", thread["frames"])
            check(thread["frames"][-1]["function"].startswith("runtime.goexit"), "up to the goroutine's end", names)
            if "stripped" not in variant:
                check(int(thread["goroutine"]) > 1, "the goroutine", thread["goroutine"])


for args in ("static", "static-stripped", "pie", "cgo", "cgo-stripped"):
    of_go(args)


@test(timeout=120)
def generated_code(ctx):
    """What a JIT compiler has made: named by its perf map, which only the process's own user may have written."""
    script = ctx.dir / "hot.js"
    script.write_text("function hotInner(n) { let s = 0; for (let i = 0; i < 1e6; i++) s += i % n; return s; }\n"
                      "function hotOuter() { for (let r = 0;;) { r += hotInner(7); } }\n"
                      "console.log('ready');\nhotOuter();\n")
    with Standing(ctx, [ctx.tool("node"), "--perf-basic-prof", "--interpreted-frames-native-stack", script], sleeps=False) as s:
        try:
            def look():
                look.count += 1
                names = [f.get("function", "") for f in
                         Snapshot(ctx, s.pid, name=f"out{look.count}").json["threads"][0]["frames"]]
                return any("hotOuter" in n for n in names)

            look.count = 0
            ctx.wait_for(look, "its functions are named", interval=0.3)
            os.chown(f"/tmp/perf-{s.pid}.map", 12345, 12345)
            names = [f.get("function", "") for f in Snapshot(ctx, s.pid, name="not").json["threads"][0]["frames"]]
            check(not any("hotOuter" in n for n in names), "a stranger's file was read", names)
        finally:
            Path(f"/tmp/perf-{s.pid}.map").unlink(missing_ok=True)


# --- files and rights ---


@test(timeout=90)
def files_are_the_owners(ctx):
    """Who can read them, where they go, what they hold; nothing is overwritten."""
    program = ctx.compile("cli/standing.c", flags=["-g"])
    env = ctx.env(SOME_TOKEN="s3cr3t", LINK="http://me:s3cr3t@host/", PLAIN="visible")
    with Standing(ctx, [program, 1], env=env) as s:
        top = ctx.dir / "kept"
        result = ctx.run([ctx.scope, "snapshot", "-j", s.pid], env=ctx.env(SCOPE_CRASH_DIR=top), check_code=0,
                         preexec=lambda: os.umask(0))
        told = json.loads(result.out)
        equal((told["pid"], told["threads"]), (s.pid, 2), "what is told")
        directory = Path(told["directory"])
        equal(directory.parent, top, "where it is")
        for path, mode in ((top, 0o700), (directory, 0o700), (directory / "snapshot.json", 0o600), (directory / "backtrace.txt", 0o600)):
            equal(oct(stat.S_IMODE(path.stat().st_mode)), oct(mode), str(path))
        found = json.loads((directory / "snapshot.json").read_text())
        both = (directory / "snapshot.json").read_text() + (directory / "backtrace.txt").read_text()
        check("Environment" not in found and "visible" not in both and "s3cr3t" not in both, "the environment was kept")
        for name in ("Time", "Version", "Arch", "Kernel", "ProcessName", "ProcessArgs", "Pid", "Uid", "Gid", "Hostname"):
            check(name in found, f"{name} is missing", list(found))
        equal(found["Pid"], s.pid, "Pid")
        equal(found["ProcessArgs"], f"{program} 1", "ProcessArgs")
        equal(found["Directory"], str(ctx.dir), "Directory")
        pipes = {d["fd"]: d["name"] for d in found["descriptors"]}
        equal(pipes[0], os.readlink(f"/proc/{s.pid}/fd/0"), "a descriptor")
        check(any(m["name"] == str(program) and m["access"] == "r-xp" for m in found["mappings"]), "its code isn't in the mappings")
        snapshot = Snapshot(ctx, s.pid, "--environment")
        check("PLAIN=visible" in snapshot.json["Environment"], "a variable", snapshot.json["Environment"])
        check("SOME_TOKEN=(struck out)" in snapshot.json["Environment"], "a secret", snapshot.json["Environment"])
        check("LINK=http://(struck out)@host/" in snapshot.json["Environment"], "a password in a URL", snapshot.json["Environment"])
        check("s3cr3t" not in snapshot.text, "a secret is in the text")
        again = ctx.run([ctx.scope, "snapshot", "-o", snapshot.dir, s.pid], check_code=1)
        check(b"already" in again.err, "a second one over the first", again.err)
        equal(json.loads((snapshot.dir / "snapshot.json").read_text()), snapshot.json, "the first one")
        s.goes_on()


@test(timeout=90)
def in_the_session(ctx):
    """Of a process that is observed: into its session."""
    program = ctx.compile("cli/standing.c", flags=["-g"])
    with Standing(ctx, [ctx.scope, "run", "--", program, 2]) as s:
        told = json.loads(ctx.run([ctx.scope, "snapshot", "-j", s.pid], check_code=0).out)
        directory = Path(told["directory"])
        equal(str(directory.parent.parent), str(ctx.session().dir), "the session")
        found = json.loads((directory / "snapshot.json").read_text())
        frames = [(f.get("function"), f.get("line")) for f in found["threads"][0]["frames"] if f.get("file", "").endswith(C.name)]
        equal(frames, MAIN, "the main thread")
        check(not any(f.get("module", "").endswith("libscope.so") for t in found["threads"] for f in t["frames"]), "frames of ours")
        s.goes_on()


@test()
def refused(ctx):
    """Without the right to trace, of nobody, of what is traced already: a message says what is missing."""
    program = ctx.compile("cli/standing.c", flags=["-g"])
    with Standing(ctx, [program, 1]) as s:
        public = ctx.fresh("public")
        os.chmod(ctx.dir, 0o755)
        os.chown(public, 65534, 65534)
        result = ctx.run([ctx.scope, "snapshot", "-o", public / "x", s.pid], env=ctx.env(SCOPE_HOME=public / "home", HOME=public),
                         preexec=lambda: (os.setgroups([]), os.setresgid(65534, 65534, 65534), os.setresuid(65534, 65534, 65534)))
        equal(result.code, 1, result.describe())
        check(b"can't look at process" in result.err or b"trac" in result.err, "the message", result.err)
        result = ctx.run([ctx.scope, "snapshot", "nobody-is-called-so"], check_code=1)
        check(b"no process is called" in result.err, "an unknown name", result.err)
        result = ctx.run([ctx.scope, "snapshot", "-o", ctx.dir / "none", 4194304], check_code=1)
        check(b"no such process" in result.err, "an unknown pid", result.err)
        ctx.run([ctx.scope, "snapshot"], check_code=2)
        s.goes_on()


@test(timeout=90)
def many_threads(ctx):
    """64 threads: all of them, and for how long they stood is told."""
    program = ctx.compile("cli/standing.c", flags=["-g"])
    with Standing(ctx, [program, 63]) as s:
        snapshot = Snapshot(ctx, s.pid)
        equal(len(snapshot.threads()), 64, "threads")
        equal(sum(snapshot.frames(C, tid) == WAITS for tid in snapshot.threads()), 62, "those that wait")
        stopped = snapshot.json["StoppedNs"]
        print(f"64 threads stood for {stopped / 1e6:.1f} ms")
        check(0 < stopped < 20e9, "for how long they stood", stopped)
        s.goes_on()


@test()
def stopped_by_job_control(ctx):
    """A process that was stopped stays so."""
    program = ctx.compile("cli/standing.c", flags=["-g"])
    with Standing(ctx, [program, 1]) as s:
        os.kill(s.pid, signal.SIGSTOP)
        ctx.wait_for(lambda: Path(f"/proc/{s.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", "it is stopped")
        equal(Snapshot(ctx, s.pid).frames(C), MAIN, "the main thread")
        equal(Path(f"/proc/{s.pid}/stat").read_text().rpartition(")")[2].split()[0], "T", "its state")
        os.kill(s.pid, signal.SIGCONT)
        s.goes_on()


# --- hostile programs ---


def spoilt(ctx, name, change):
    """A program that runs, and whose file is something else by then."""
    program = ctx.compile("cli/standing.c", flags=["-g"])
    path = ctx.dir / name
    path.write_bytes(program.read_bytes())
    path.chmod(0o755)
    with Standing(ctx, [path, 2]) as s:
        change(s.pid, path)
        result = ctx.run([ctx.scope, "snapshot", "-o", ctx.dir / f"{name}.out", s.pid], timeout=40)
        found = json.loads((ctx.dir / f"{name}.out" / "snapshot.json").read_text())
        equal(len(found["threads"]), 3, f"threads ({result.describe()})")
        check(all(int(t["registers"]["rip"], 16) for t in found["threads"]), "registers")
        check(len(found["mappings"]) > 10, "mappings")
        s.goes_on()
        return found


@test(timeout=120)
def files_that_lie(ctx):
    """A program's file that was removed, cut, or overwritten while it runs: registers and mappings are there."""
    def gone(_, path):
        path.unlink()

    def in_place(offset, data):
        def change(pid, path):
            # ETXTBSY: the running file itself can't be written, so a debug file's contents are what is spoilt below.
            copy = path.read_bytes()
            end = len(copy) if offset < 0 else offset
            path.unlink()
            path.write_bytes(copy[:end] + data + copy[end + len(data):])
        return change

    found = spoilt(ctx, "gone", gone)
    equal([f["function"] for f in found["threads"][0]["frames"] if f.get("file", "").endswith(C.name)], [f for f, _ in MAIN], "of a removed file")
    spoilt(ctx, "other", in_place(0, b"\x7fELF" + b"\xff" * 4000))


@test(timeout=200)
def libraries_that_lie(ctx):
    """A library that is cut or spoilt while a thread stands in it, by all who read its file: the rest is there."""
    source, main = ctx.dir / "lib.c", ctx.dir / "main.c"
    source.write_text('#include <stdio.h>\n#include <unistd.h>\nint k; void in_library(void);\n'
                      'void in_library(void) { puts("ready"); fflush(stdout); pause(); k = 1; }\n')
    main.write_text("void in_library(void);\nint main(void) { in_library(); return 0; }\n")
    library, program = ctx.dir / "liblies.so", ctx.dir / "main"
    ctx.compiler(["gcc", "-O1", "-g", "-shared", "-fPIC", source, "-o", library])
    ctx.compiler(["gcc", "-O1", "-g", main, library, "-o", program])
    good = library.read_bytes()
    noise = bytes((i * 2654435761 >> 9) & 255 for i in range(len(good)))
    cases = {"cut": good[:5000], "empty": b"", "headers": good[:64] + noise[64:1000] + good[1000:], "noise": noise,
             "tail": good[:-3000] + noise[-3000:], "magic": good[:4] + b"\xff" * 60 + good[64:]}
    for name, contents in cases.items():
        library.write_bytes(good)
        with Standing(ctx, [program]) as s:
            with open(library, "r+b") as f:
                f.truncate(0)
                f.write(contents)
            ctx.run([ctx.scope, "snapshot", "-o", ctx.dir / name, s.pid], timeout=40)
            found = json.loads((ctx.dir / name / "snapshot.json").read_text())
            thread = found["threads"][0]
            check(int(thread["registers"]["rip"], 16) and len(found["mappings"]) > 10, f"{name}: registers and mappings")
            check(any(d["fd"] == 1 for d in found["descriptors"]), f"{name}: descriptors")
            check("pause" in thread["frames"][0]["function"] if thread["frames"] else found["Missing"], f"{name}: the first frame", thread["frames"][:1])


def rewrite(ctx, name, sections):
    """The program with other contents of some sections: it runs as before."""
    program, path = ctx.compile("cli/standing.c", flags=["-g"]), ctx.dir / name
    argv = [ctx.tool("objcopy")]
    for section, data in sections.items():
        contents = ctx.dir / f"{name}{section}"
        if data is None:
            argv.append(f"--remove-section={section}")
            continue
        contents.write_bytes(data)
        argv.append(f"--update-section={section}={contents}")
    ctx.run([*argv, program, path], check_code=0)
    return path


@test(timeout=200)
def debug_information_that_lies(ctx):
    """Debug information of noise, loops, or nothing: what can be known of the process is there, in bounded time."""
    noise = bytes((i * 2654435761 >> 7) & 255 for i in range(60000))
    cases = {
        "noise": {".debug_info": noise, ".debug_abbrev": noise, ".debug_line": noise},
        "zero": {".debug_info": b"\0" * 4096, ".debug_abbrev": b"\0" * 64},
        "ones": {".debug_info": b"\xff" * 4096, ".debug_line": b"\xff" * 4096, ".debug_str": b"\xff" * 4096},
        "none": {".debug_abbrev": b"\0", ".debug_str": b"x", ".debug_line": b"\1"},
    }
    for name, sections in cases.items():
        with Standing(ctx, [rewrite(ctx, name, sections), 1]) as s:
            ctx.run([ctx.scope, "snapshot", "-o", ctx.dir / f"{name}.out", s.pid], timeout=40)
            found = json.loads((ctx.dir / f"{name}.out" / "snapshot.json").read_text())
            functions = [f.get("function") for f in found["threads"][0]["frames"]]
            check("raises" in functions and "main" in functions or found.get("Missing"), f"{name}: symbols are there still", functions, found.get("Missing"))
            check(int(found["threads"][0]["registers"]["rsp"], 16), "registers")
            check((ctx.dir / f"{name}.out" / "backtrace.txt").read_text().startswith("Process:"), "the text")
            s.goes_on()


@test(timeout=90)
def huge_names(ctx):
    """A symbol of 100,000 characters, and one that is a demangler's nightmare."""
    source, program = ctx.dir / "names.c", ctx.dir / "names"
    long, deep = "f" + "x" * 100000, "_Z1fILi" + "P" * 4000 + "iE"
    source.write_text('#include <stdio.h>\n#include <unistd.h>\nstatic volatile int k;\n'
                      f'__attribute__((noinline)) void {long}(void) {{ puts("ready"); fflush(stdout); pause(); k = 1; }}\n'
                      f'__attribute__((noinline)) void deep(void) __asm__("{deep}");\n'
                      f'__attribute__((noinline)) void deep(void) {{ {long}(); k = 2; }}\n'
                      'int main(void) { deep(); return k; }\n')
    ctx.compiler(["gcc", "-O1", source, "-o", program])
    with Standing(ctx, [program]) as s:
        snapshot = Snapshot(ctx, s.pid)
        frames = snapshot.json["threads"][0]["frames"]
        names = [f["function"] for f in frames if f["module"].endswith("/names")]
        check(any(n.startswith("fxxx") and len(n) <= 1024 for n in names), "the long one", [n[:20] for n in names])
        check("main" in names, "main", [n[:20] for n in names])
        check(max(map(len, snapshot.text.splitlines())) < 4000, "lines of the text")
