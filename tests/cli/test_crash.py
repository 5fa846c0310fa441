# SPDX-License-Identifier: Apache-2.0
"""What is kept of a program that crashes, told, and shown: the collector's side and the command line's. (How programs die,
and that they don't notice, is in tests/behaviour.)"""

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time

import users
from scopetest import TESTS, TOP, Session, Skip, add_test, check, equal, kernel_tells_ends, test

LINE = next(n for n, line in enumerate((TESTS / "cli/crash.c").read_text().split("\n"), 1) if "/* LINE */" in line)


def program(ctx):
    return ctx.compile("cli/crash.c", variant="glibc-O0", flags=["-g"])


def crashes(session):
    return session.events(source="proc.crash")


def text(ctx, *argv, code=0):
    return ctx.tool_run(*argv, check_code=code).out.decode()


def modes(directory):
    """Name: mode and owner of what is in a directory, and of itself (".")."""
    found = {}
    for name in [".", *os.listdir(directory)]:
        st = os.lstat(os.path.join(directory, name))
        found[name] = (oct(stat.S_IMODE(st.st_mode)), st.st_uid)
    return found


@test("crash", timeout=120)
def crash(ctx):
    """The program's fate and output are its own; event, files, and the command that shows them say where it crashed."""
    argv = [program(ctx), "segv", "/etc/passwd"]
    bare = ctx.run(argv)
    result = ctx.scoped(argv, ["--backtrace", "--coredump"])
    equal((result.code, result.out, result.err), (bare.code, bare.out, bare.err), "the program's end")
    equal(result.code, -signal.SIGSEGV)
    session = result.session
    session.wait_end(60)
    (event,) = crashes(session)
    data, pid = event["data"], event["pid"]
    equal((data["signal"], data["signo"], data["address"], data["where"]), ("SIGSEGV", 11, "0x18", "NULL + 0x18"))
    check(data["code"].startswith("SEGV_MAPERR: "), data["code"])
    check(re.match(rf"write_there\+0x[0-9a-f]+ at \S*crash\.c:{LINE} in crash\.", data["at"]), data["at"])
    equal(data["frames"][0], data["at"])
    check(data["frames"][1].startswith("main+"), data["frames"])
    equal((data["tid"], data["threads"]), (pid, 1))
    check(0 < data["stopped_ms"] < 60000 and "missing" not in data, data)
    names = [e["source"] for e in session.events("process")]
    check(names.index("proc.crash") < names.index("proc.exit"), names)
    # Files: the owner's alone.
    equal(data["dir"], f"{session.dir}/crash/{pid}-1")
    equal(sorted(data["files"]), ["backtrace.txt", "core", "events.json", "snapshot.json"])
    equal(modes(data["dir"]), {".": ("0o700", os.geteuid()), **{n: ("0o600", os.geteuid()) for n in data["files"]}})
    equal(modes(f"{session.dir}/crash")["."], ("0o700", os.geteuid()))
    check(0 < data["core_bytes"] <= os.stat(f"{data['dir']}/core").st_size, data)
    # The flight record is what the process did before, as lines of `scope events -j`.
    lines = text(ctx, "events", "-j", "-a", "--id", str(session.id)).split("\n")
    before = lines[:next(i for i, line in enumerate(lines) if '"proc.crash"' in line)]
    flight = open(f"{data['dir']}/events.json", encoding="utf-8").read().split("\n")
    equal(flight[:-1], [line for line in before if json.loads(line).get("type") == "evt"])
    check(any("/etc/passwd" in line for line in flight), flight)
    # What people see.
    trace = text(ctx, "crash")
    check(f"crash.c:{LINE}" in trace and "SIGSEGV" in trace, trace)
    check(re.search(r"^Last events.*\n(  .*\n)*  \S+ fs\.open file:/etc/passwd", trace, re.M), trace)
    for argv in (["crash", str(pid)], ["crash", str(session.id)], ["crash", "-i", str(session.id)]):
        equal(text(ctx, *argv), trace, argv)
    check(isinstance(json.loads(text(ctx, "crash", "-j")), dict), "snapshot.json")
    equal(text(ctx, "crash", "-D"), f"{data['dir']}\n")
    listed = text(ctx, "crash", "--list").split("\n")
    check(len(listed) == 3 and re.search(rf"{pid} .*SIGSEGV .*write_there", listed[1]), listed)
    equal(json.loads(text(ctx, "crash", "--list", "-j"))["data"], data)
    line = text(ctx, "events", "--id", str(session.id)).split("\n")
    check(any("proc.crash signal:SIGSEGV code:SEGV_MAPERR" in s and "write_there" in s for s in line), line)
    report = text(ctx, "report")
    check(re.search(rf"^Crashes: 1\n.*\n{pid} +SIGSEGV .*write_there", report, re.M), report)
    check(any(json.loads(s).get("type") == "crash" for s in text(ctx, "report", "-j").split("\n") if s), "report -j")
    check(re.search(r" SIGSEGV +\d+$", text(ctx, "history"), re.M), "history")


@test("crash-off")
def crash_off(ctx):
    """Nothing is kept unless somebody asks for it; and then only of crashes."""
    off = ctx.scoped([program(ctx), "segv"]).session
    on = ctx.scoped([program(ctx), "exit"], ["-b"]).session
    killed = ctx.start(ctx.scope_argv([program(ctx), "wait", "/etc/passwd"], ["-b"]))
    ctx.wait_for(lambda: len(ctx.sessions()) == 3, "the session")
    third = Session(ctx, max(ctx.sessions(), key=lambda s: int(os.path.basename(s))))
    ctx.wait_for(lambda: any(e["data"].get("file") == "/etc/passwd" for e in third.events("fs")), "it runs")
    killed.send_signal(signal.SIGTERM)
    killed.wait(20)
    for session in (off, on, third):
        session.wait_end(30)
        equal(crashes(session), [])
        check(not (session.dir / "crash").exists(), f"{session.dir}/crash")
    equal(text(ctx, "crash", "--list"), "Nothing has crashed\n")
    for argv in (["crash"], ["crash", "4711"], ["crash", "-i", str(on.id)]):
        check("crash" in ctx.tool_run(*argv, check_code=1).err.decode(), argv)
    check("is no number" in ctx.tool_run("crash", "x", check_code=2).err.decode(), "usage")


@test("crash-keys")
def crash_keys(ctx):
    """scope.yml and environment switch it on, too; without the trace being wanted there is a core all the same, and it is
    cut where it shall be."""
    result = ctx.scoped([program(ctx), "abort"], env=ctx.env(SCOPE_SNAPSHOT_COREDUMP="true", SCOPE_SNAPSHOT_COREMAX="64KiB"))
    equal(result.code, -signal.SIGABRT)
    result.session.wait_end(60)
    (event,) = crashes(result.session)
    data = event["data"]
    equal((data["signal"], data["sender_pid"]), ("SIGABRT", event["pid"]))
    check(data["code"].startswith("SI_TKILL"), data["code"])
    check(data["core_bytes"] <= 64 << 10 and "missing" in data, data)


def children(pid):
    """None: it has ended."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
            return [int(word) for word in f.read().split()]
    except FileNotFoundError:
        return None


def stopped_worker(session, victim):
    """Kills a process of a session, and stops who looks at it; None if that was over before."""
    collector = session.collector_pid()
    before = children(collector)
    victim.send_signal(signal.SIGSEGV)
    while (now := children(collector)) is not None:
        for worker in set(now) - set(before):
            tell(worker, signal.SIGSTOP)
            return worker
    return None


def tell(pid, sig):
    """Somebody who may just have ended, or been ended because it took too long."""
    try:
        os.kill(pid, sig)
    except ProcessLookupError:
        pass


@test("crash-pending", timeout=200)
def crash_pending(ctx):
    """Who asks for a crash that is still being looked at waits for it, and is told why; a list names it."""
    big = ctx.compile("cli/crashes.c", variant="glibc-O0", flags=["-g", "-pthread"])
    caught = False
    for _ in range(20):
        victim = ctx.start(ctx.scope_argv([big, "big", 48], ["--coredump"]), stdout=subprocess.PIPE)
        equal(victim.stdout.readline(), b"ready\n")
        session = Session(ctx, max(ctx.sessions(), key=lambda s: int(os.path.basename(s))))
        worker = stopped_worker(session, victim)
        if not worker:
            continue
        try:
            listed = text(ctx, "crash", "-i", str(session.id), "--list")
            caught = "(is being looked at)" in listed
            if caught:
                check(re.search(rf"^{session.id} .* {victim.pid} .*SIGSEGV ", listed, re.M), listed)
                one = json.loads(text(ctx, "crash", "-i", str(session.id), "--list", "-j"))
                equal((one["pid"], one["data"]["signal"], one["session"]), (victim.pid, "SIGSEGV", session.id))
                check(one["pending"] in ("stands", "names"), one)
                shows = [ctx.start([ctx.scope, "crash", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                         for words in ([], [str(victim.pid)], ["-D"])]
                # One of another process doesn't wait.
                check("no crash" in ctx.tool_run("crash", str(2**31 - 1), check_code=1).err.decode(), "another process")
                time.sleep(1)  # for what they say; whether they wait doesn't depend on it
                check(all(show.poll() is None for show in shows), "they wait")
        finally:
            tell(worker, signal.SIGCONT)
        equal(victim.wait(60), -signal.SIGSEGV)
        if caught:
            break
    check(caught, "none could be stopped in time")
    ends = [(show.communicate(timeout=90), show.returncode) for show in shows]
    (event,) = crashes(session)
    for (out, err), code in ends:
        equal(code, 0, err)
        check(f"(process {victim.pid}) has crashed and is being looked at" in err.decode(), err)
        check(event["data"]["dir"] in out.decode() or "SIGSEGV" in out.decode(), out)
    equal(ends[0][0][0], ends[1][0][0], "by its number, and the last one")
    check("being looked at" not in text(ctx, "crash", "--list"), "the list")


@test("crash-untold")
def crash_untold(ctx):
    """One that couldn't say so: told all the same, with the reason why there is no trace."""
    result = ctx.scoped([program(ctx), "blocked"], ["--backtrace"])
    equal(result.code, -signal.SIGSEGV)
    result.session.wait_end(30)
    if not kernel_tells_ends():
        raise Skip("this kernel doesn't tell how a process has ended (before Linux 6.15)")
    (event,) = crashes(result.session)
    equal((event["data"]["signal"], event["data"].get("dir")), ("SIGSEGV", None))
    check(event["data"]["missing"].startswith("no trace: "), event)
    shown = text(ctx, "crash")
    check("SIGSEGV" in shown and "no trace: " in shown, shown)
    check("there are no files" in ctx.tool_run("crash", "-D", check_code=1).err.decode(), "-D")


def go_ends(ctx, variant, how, function):
    """A Go program whose runtime gives up, wherever that happens: told with the function that was to blame."""
    result = ctx.scoped([ctx.go_build("crash", variant), how], ["--backtrace"])
    equal((result.code, result.out), (2, b"begins\n"), result.describe())
    result.session.wait_end(60)
    (event,) = crashes(result.session)
    equal(event["data"].get("exit_code"), 2, event)
    check(any(frame.startswith(function) for frame in event["data"]["frames"]), event)
    check("missing" not in event["data"], event)


for _variant, _how, _function in (("static", "panic", "main.main+"), ("static", "sent", "main.main+"), ("cgo", "c", "main._Cfunc_fall+")):
    add_test("cli", f"crash-go/{_how}/{_variant}", timeout=300,
             function=lambda ctx, v=_variant, h=_how, f=_function: go_ends(ctx, v, h, f))


def each_is_told(session, count):
    """So many crashes, each with its trace."""
    session.wait_end(200)
    found = crashes(session)
    equal(len(found), count, "crashes that were told")
    equal(len({e["pid"] for e in found}), count, "processes")
    for e in found:
        check("write_there" in e["data"].get("at", "") and os.path.exists(f"{e['data']['dir']}/backtrace.txt"), e)
        check(os.path.exists(f"{e['data']['dir']}/events.json"), f"no flight record in {e['data']['dir']}")


@test("crash-loop", timeout=400)
def crash_loop(ctx):
    """One after the other: each is told, with its trace, and the shell sees how each has ended."""
    count = 60
    script = f'for i in $(seq {count}); do "$0" segv; [ $? = 139 ] || exit 7; done 2>/dev/null; exit 4'
    result = ctx.scoped(["bash", "-c", script, program(ctx)], ["--backtrace"])
    equal((result.code, result.out), (4, b"hello\n" * count), result.describe())
    each_is_told(result.session, count)


@test("crash-storm", timeout=400, serial=True)
def crash_storm(ctx):
    """Fifty at the same time."""
    count = 50
    script = f'for i in $(seq {count}); do "$0" segv & p="$p $!"; done 2>/dev/null; for i in $p; do wait $i; [ $? = 139 ] || exit 7; done; exit 4'
    result = ctx.scoped(["bash", "-c", script, program(ctx)], ["--backtrace"])
    equal((result.code, result.out), (4, b"hello\n" * count), result.describe())
    session = result.session
    session.wait_end(200)
    found = crashes(session)
    equal(len(found), count, "crashes that were told")
    # On a machine that is busy enough some may have waited too long for a worker: which they say.
    for e in found:
        check("write_there" in e["data"].get("at", "") or "missing" in e["data"], e)


@test("crash-of-a-guest", timeout=120)
def crash_of_a_guest(ctx):
    """A program of another user in root's session: looked at with that user's rights, kept where only root reads it."""
    with users.make(ctx, "crash") as guest:
        argv = guest.command(program(ctx), "segv")
        result = ctx.scoped(["sh", "-c", '"$@"; echo $?', "sh", *argv], ["--backtrace"])
    check(result.out.endswith(b"hello\n139\n"), result.describe())
    result.session.wait_end(60)
    (event,) = crashes(result.session)
    check("write_there" in event["data"].get("at", ""), event)
    found = modes(event["data"]["dir"])
    equal(set(found.values()), {("0o700", 0), ("0o600", 0)}, found)


@test("crash-forged", timeout=200)
def crash_forged(ctx):
    """Another user says over and over that threads of all kinds of processes die: none of those is looked at, and the
    crash of an honest program beside it is."""
    attacker = ctx.compile("security/attacker.c", flags=["-I", TOP / "src"])
    with users.make(ctx, "forge") as stranger:
        words = " ".join(f"'{a}'" for a in stranger.command("env", "-u", "LD_PRELOAD", attacker, "-", "z", 3, 60))
        script = (f'{words} >joined & for i in $(seq 1000); do grep -q joined joined && break; sleep 0.02; done; '
                  '"$0" segv 2>/dev/null; kill $!; exit 0')
        result = ctx.scoped(["sh", "-c", script, program(ctx)], ["--backtrace"])
    equal(result.code, 0, result.describe())
    session = result.session
    session.wait_end(100)
    honest = [e for e in crashes(session) if not e["proc"].startswith("attacker")]
    equal(len(honest), 1, "crashes of the honest program")
    check("write_there" in honest[0]["data"].get("at", ""), honest)
    victims = {e["pid"] for e in crashes(session)} - {honest[0]["pid"]}
    own = {e["pid"] for e in session.events(source="proc.start") if e["proc"].startswith("attacker")}
    check(victims <= own, "processes that are not the attacker's", victims, own)
    check("says that a thread is about to die" in session.log(), session.log())
    check(session.log().count("says that a thread is about to die") <= 10, "each line is another's work")


@test("crash-on-a-full-disk", timeout=120)
def crash_on_a_full_disk(ctx):
    """The core has no room: it is cut, which is told, and the program has died as ever."""
    unshare = [ctx.tool("unshare"), "--mount", *([] if os.geteuid() == 0 else ["-r"])]
    # The trace of the next one still has room, as its event.
    script = ('mount -t tmpfs -o size=1m none "$1" || exit 77; export SCOPE_HOME=$1/home; '
              '"$2" run --coredump -- "$3" segv; echo "code $?"; '
              'for i in $(seq 600); do "$2" events -a -j | grep -q proc.exit && break; sleep 0.1; done; "$2" events -a -j')
    result = ctx.run([*unshare, "sh", "-c", script, "sh", ctx.fresh("small"), ctx.scope, program(ctx)])
    if result.code == 77:
        raise Skip("file systems can't be mounted here")
    out = result.out.decode()
    check("hello\ncode 139\n" in out, result.describe())
    events = [json.loads(line)["body"] for line in out.split("\n") if line.startswith('{"type":"evt"')]
    (event,) = [e for e in events if e["source"] == "proc.crash"]
    check("missing" in event["data"], event)


@test("crash-silent-files", timeout=300)
def crash_silent_files(ctx):
    """The program lies on a file system in user space that answers no more (as one of its own may): it has died long before
    somebody gives up reading its names, and the rest of the trace is there."""
    if os.geteuid() != 0 or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise Skip("needs root and /dev/fuse")
    where, padding, padded = ctx.fresh("fuse"), ctx.dir / "padding", ctx.dir / "padded"
    padding.write_bytes(os.urandom(1 << 20) * 6)  # what a reader of the file's tables needs is behind it
    ctx.run([ctx.tool("objcopy"), "--add-section", f"padding={padding}", program(ctx), padded], check_code=0)
    server = ctx.start([sys.executable, TESTS / "lib/fuse.py", where, padded, str(3 << 20)], stdout=subprocess.PIPE)
    if server.stdout.readline() != b"ready\n":
        raise Skip("file systems can't be mounted here")
    try:
        victim = ctx.start(ctx.scope_argv([f"{where}/file", "wait"], ["--backtrace"]), stdout=subprocess.PIPE)
        equal(victim.stdout.readline(), b"hello\n")
        session = ctx.session()
        server.send_signal(signal.SIGUSR1)
        equal(server.stdout.readline(), b"silent\n")
        victim.send_signal(signal.SIGSEGV)
        equal(victim.wait(60), -signal.SIGSEGV)
        ctx.wait_for(lambda: crashes(session), "the crash", seconds=150, interval=1)
        (event,) = crashes(session)
        check("a file system does not answer" in event["data"].get("missing", ""), event)
        with open(f"{event['data']['dir']}/snapshot.json", encoding="utf-8") as f:
            check(json.load(f)["threads"][0]["registers"]["rip"], "registers")
    finally:
        server.kill()
        server.wait()
        ctx.run([ctx.tool("umount"), "-l", where])
    session.wait_end(60)


@test("crash-without-collector", timeout=120)
def crash_without_collector(ctx):
    """The collector was killed: the program dies as ever, after a second at most and what a busy machine adds."""
    fifo = ctx.dir / "fifo"
    os.mkfifo(fifo)
    process = ctx.start(ctx.scope_argv(["bash", "-c", f': >ready; read x <"{fifo}"; exec "$0" segv', program(ctx)], ["--backtrace"]))
    ctx.wait_for((ctx.dir / "ready").exists, "it runs")
    session = ctx.session()
    os.kill(session.collector_pid(), signal.SIGKILL)
    with open(fifo, "w", encoding="utf-8") as f:
        f.write("\n")
    equal(process.wait(60), -signal.SIGSEGV)
