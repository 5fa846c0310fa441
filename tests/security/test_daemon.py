# SPDX-License-Identifier: Apache-2.0
"""scope daemon: crashes of programs that nobody observes, by kernel.core_pattern, which is one for the whole host.

Each test holds a lock on that setting and puts it back. Programs that crash meanwhile and aren't this test's get what
they would have got: the daemon hands on.
"""

import contextlib
import json
import os
import random
import shutil
import socket
import stat
import struct
import subprocess
import tempfile
import threading
from pathlib import Path

import elfcore
import users
from scopetest import check, equal, test

STATE = Path("/var/lib/scope/daemon.json")
DUMPABLE = Path("/proc/sys/fs/suid_dumpable")


class Daemon:
    """An installed one, with a place of its own."""

    def __init__(self, ctx, place, previous):
        self.ctx, self.place, self.previous = ctx, place, previous
        self.scope = place / "scope"
        self.store = place / "crash"

    def run(self, *argv, check_code=0):
        return self.ctx.run([self.scope, "daemon", *argv], check_code=check_code)

    def install(self, *flags):
        self.run("--install", "-o", self.store, *flags)
        value = elfcore.PATTERN.read_text()
        check(value.startswith(f"|{self.scope} daemon "), "not installed", value)

    def status(self):
        return json.loads(self.run("-j").out)

    def crashes(self, name):
        """Directories of a program of this name: others may crash meanwhile, too."""
        return sorted(p for p in self.store.iterdir() if p.name.endswith(f"-{name}"))

    def wait(self, name, count):
        """Until so many of its crashes are complete."""
        def done():
            found = self.crashes(name)
            whole = [p for p in found if (p / "snapshot.json").exists() and (p / "snapshot.json").stat().st_size]
            return found if len(whole) == len(found) == count else None
        return self.ctx.wait_for(done, f"{count} crashes of {name} that are kept ({self.store})", 60, interval=0.1)


@contextlib.contextmanager
def daemon(ctx, previous="core"):
    check(os.geteuid() == 0, "kernel.core_pattern is root's: this test needs root")
    with elfcore.pattern(previous):
        place = Path(tempfile.mkdtemp(prefix="scope-", dir="/var/tmp"))
        kept = STATE.read_bytes() if STATE.exists() else None
        try:
            os.chmod(place, 0o755)
            shutil.copy(ctx.scope, place / "scope")
            STATE.unlink(missing_ok=True)
            yield Daemon(ctx, place, previous)
        finally:
            STATE.unlink(missing_ok=True)
            if kept is not None:
                STATE.write_bytes(kept)
            shutil.rmtree(place, ignore_errors=True)


def copy_of(ctx, program):
    """A copy under a name of its own, of which no other program that crashes is."""
    path = ctx.dir / f"t{random.randrange(1 << 32):08x}"
    shutil.copy(program, path)
    return path


def crashes(ctx):
    return copy_of(ctx, ctx.compile("cli/crashes.c", "glibc-O2", flags=["-g"]))


def dies(ctx, source=b"int main(void) { __builtin_trap(); }"):
    ctx.compiler(["gcc", "-x", "c", "-o", ctx.dir / "dies", "-"], stdin=source)
    return copy_of(ctx, ctx.dir / "dies")


def limit(soft):
    """A limit of core files, as a command in front."""
    return ["sh", "-c", f'ulimit -c {soft} && exec "$@"', "sh"]


@test(serial=True, timeout=120)
def daemon_install(ctx):
    """What was there comes back exactly, however often it is installed; who isn't root, or whose file isn't, can't."""
    before = "/var/crash/core of %e.%p%%"
    with daemon(ctx, before) as d:
        equal(d.status(), {"installed": False, "corePattern": before}, "status before")
        d.install()
        d.install("--rate", "7")
        s = d.status()
        equal((s["installed"], s["previous"], s["rate"], s["directory"]), (True, before, 7, str(d.store)), "status")
        equal(stat.S_IMODE(STATE.stat().st_mode), 0o600, "mode of what is kept of it")
        equal(stat.S_IMODE(d.store.stat().st_mode), 0o700, "mode of the directory")
        d.run("--remove")
        equal(elfcore.PATTERN.read_text(), before + "\n", "the setting after --remove")
        d.run("--remove", check_code=1)
        # Somebody else's setting is left alone.
        d.install()
        elfcore.PATTERN.write_text("other")
        check(not d.status()["installed"], "another's setting counts as ours")
        d.run("--remove")
        equal(elfcore.PATTERN.read_text(), "other\n", "another's setting after --remove")
        os.chmod(d.scope, 0o777)
        result = d.run("--install", check_code=1)
        check(b"what the kernel starts as root" in result.err, "a file that anybody can write to is installed", result.err)
        os.chmod(d.scope, 0o755)
        elfcore.PATTERN.write_text("@/run/somebody.sock")
        check(b"socket" in d.run("--install", check_code=1).err, "a socket is replaced")
        elfcore.PATTERN.write_text("core")
        with users.make(ctx, "stranger") as stranger:
            check(b"only root" in ctx.run(stranger.command(d.scope, "daemon", "--install"), check_code=1).err, "anybody installs it")
        # Only a pipe that the kernel made has a core in it.
        equal(ctx.run([d.scope, "daemon", "--crash", "1", "1", "0", "0", "11", "0", "0", "x"]).code, 2, "by hand")


@test(serial=True, timeout=120)
def daemon_crash(ctx):
    """A crash is kept, with a trace and a core that agree with what the program that was there before gets."""
    program = crashes(ctx)
    handler = ctx.dir / "handler"
    handler.write_text('#!/bin/sh\nd="$1"; shift\nprintf "%s\\n" "$@" > "$d.arguments"\ncat > "$d.new" && mv "$d.new" "$d"\n')
    handler.chmod(0o755)
    link = Path(tempfile.mkdtemp(prefix="scope-", dir="/var/tmp"))
    try:
        (link / "d").symlink_to(ctx.dir)
        with daemon(ctx, f"|{link}/d/handler {link}/d/got %p %P %s %u %c %e %E end") as d:
            got = ctx.dir / "got"
            d.install("--coredump")
            result = ctx.run([*limit(0), program, "small"])
            equal(result.code, -11, "the program's end")
            where, = d.wait(program.name, 1)
            check(d.status()["crashes"] >= 1, "the status doesn't count it")
            ctx.wait_for(got.exists, "what the handler before has got")
            equal(sorted(p.name for p in where.iterdir()), ["backtrace.txt", "core", "snapshot.json"], "files")
            for p in (where, *where.iterdir()):
                equal((p.stat().st_uid, p.stat().st_mode & 0o077), (0, 0), f"owner and mode of {p}")
            text = (where / "backtrace.txt").read_text()
            check("SIGSEGV" in text and "fall" in text and text.count("wait_here") == 4 and "NULL + 0x18" in text, "trace", text)
            snapshot = json.loads((where / "snapshot.json").read_text())
            check(str(program) in json.dumps(snapshot), "the program's file", snapshot)
            ours, theirs = elfcore.Core(where / "core"), elfcore.Core(got)
            last = max(x[2] + x[3] for x in theirs.loads)
            equal(theirs.size, last, "size of the core that was handed on")
            pid = list(theirs.threads())[0]
            equal(ours.threads(), theirs.threads(), "threads")
            for name in ("SIGINFO", "AUXV", "FILE"):
                equal(ours.note(name), theirs.note(name), name)
            for x, y in zip(ours.loads, theirs.loads):
                check(x[0] == y[0] and (x[3] > 1 << 30 or x[3] != y[3] or ours.at(*x[2:4]) == theirs.at(*y[2:4])),
                      f"memory at {x[0]:#x}")
            name = program.name[:15]
            equal((ctx.dir / "got.arguments").read_text().split("\n")[:-1],
                  [str(pid), str(pid), "11", "0", "0", name, str(program).replace("/", "!"), "end"], "its arguments")
            d.run("--remove")
    finally:
        shutil.rmtree(link)


@test(serial=True, timeout=120)
def daemon_file(ctx):
    """Where the kernel wrote a file before, the same file is there: with its owner, and within the limit."""
    program = crashes(ctx)
    with daemon(ctx, "core.%p") as d, users.make(ctx, "crasher") as user:
        d.install("--rate", "100")
        for soft, size in ((0, None), (64, 32768), ("unlimited", 0)):
            where = user.directory(f"cwd-{soft}")
            ctx.run(user.command(*limit(soft), program, "small"), cwd=where)
            found = list(where.iterdir())
            if size is None:
                equal(found, [], "files without a limit for them")
                continue
            equal(len(found), 1, "files")
            st = found[0].stat()
            equal((st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)), (user.uid, user.gid, 0o600), "owner and mode")
            if size:
                equal(st.st_size, size, "size of a file with a limit")
            else:
                core = elfcore.Core(found[0])
                equal((core.size, len(core.threads())), (max(x[2] + x[3] for x in core.loads), 5), "size, threads")
                check(core.blocks < 32 << 20, f"{core.blocks} bytes on the disk")
            check(found[0].name.startswith("core.") and found[0].name[5:].isdigit(), found[0].name)
        closed = ctx.fresh("closed")  # root's: the program can't write there
        ctx.run(user.command(*limit("unlimited"), program, "small"), cwd=closed)
        equal(list(closed.iterdir()), [], "files where the program may not write")
        d.wait(program.name, 4)
        d.run("--remove")


@test(serial=True, timeout=240)
def daemon_storm(ctx):
    """Fifty at once; a loop of crashes is limited, and counted."""
    program = dies(ctx)
    with daemon(ctx) as d:
        d.install("--rate", "100")
        processes = [ctx.start([program]) for _ in range(50)]
        for p in processes:
            equal(p.wait(), -4, "a program's end")
        # On a machine that is busy some may be left out, and are counted.
        ctx.wait_for(lambda: len([p for p in d.crashes(program.name) if (p / "snapshot.json").exists()
                                  and (p / "snapshot.json").stat().st_size]) + d.status()["busy"] >= 50, "50 crashes", 60)
        d.store = d.place / "second"
        d.install("--rate", "2")
        for _ in range(7):
            equal(ctx.run([program]).code, -4, "a program's end")
        s = ctx.wait_for(lambda: (s := d.status())["limited"] + len(d.crashes(program.name)) >= 7 and s, "7 crashes", 60)
        check(s["limited"] >= 1 and d.crashes(program.name), "not limited", s)
        d.run("--remove")


@test(serial=True, timeout=120)
def daemon_strangers(ctx):
    """Names of a stranger's choice, set-uid programs, other pid namespaces: all of it stays root's, and in its place."""
    source = b"""#include <sys/prctl.h>
int main(int n, char **v) { prctl(PR_SET_NAME, v[n - 1]); __builtin_trap(); }"""
    program = dies(ctx, source)
    with daemon(ctx, "core") as d, users.make(ctx, "stranger") as stranger:
        d.install("--rate", "100")
        for name in ("../../../x", "$(touch /x)", "\n--install", "%n%s", "\x1b[2J\xff", "", "."):
            ctx.run(stranger.command(program, name), cwd=stranger.home)
        mine = ctx.wait_for(lambda: len(p := [p for p in d.store.iterdir() if f"-{stranger.uid}-" in p.name]) >= 7 and p, "7 crashes")
        for where in mine:
            _, pid, uid, name = where.name.split("-", 3)
            check(uid == str(stranger.uid) and pid.isdigit() and all(c.isalnum() or c in "._-" for c in name), where.name)
        own = list(stranger.home.iterdir())
        equal(own, [], "files of the stranger")
        # A program whose user may not see what it knows.
        before = DUMPABLE.read_text()
        setuid = d.place / "setuid"
        shutil.copy(program, setuid)
        os.chmod(setuid, 0o4755)
        try:
            DUMPABLE.write_text("2")
            ctx.run(stranger.command(*limit("unlimited"), setuid, "setuid"), cwd=stranger.home)
        finally:
            DUMPABLE.write_text(before)
        last, = d.wait("setuid", 1)
        equal(list(stranger.home.iterdir()), [], "what the kernel writes to absolute paths only")
        for path in (last, last / "backtrace.txt"):
            check(ctx.run(stranger.command("ls" if path is last else "cat", path)).code, f"{path} is readable")
        # Its number is the host's.
        inner = program.name[::-1]
        ctx.run(["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", f'"$0" {inner}; exit 0', program])
        last, = d.wait(inner, 1)
        check("SIGILL" in (last / "backtrace.txt").read_text() and last.name.split("-")[2] == "0", "trace of a process in a namespace")
        d.run("--remove")


@test(serial=True, timeout=120)
def daemon_sends(ctx):
    """--filedest and --sendcore: a line for each file, and for each piece of a core. A server that is away holds nobody
    up."""
    program = crashes(ctx)
    received, done = bytearray(), []
    with daemon(ctx) as d, socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]

        def serve():
            while not done:
                connection, _ = server.accept()
                with connection:
                    received.clear()
                    while piece := connection.recv(1 << 16):
                        received.extend(piece)
                if f"-{program.name}/".encode() in received:
                    done.append(True)

        threading.Thread(target=serve, daemon=True).start()
        d.install("-s", "-f", f"tcp://127.0.0.1:{port}")
        ctx.run([program])
        where, = d.wait(program.name, 1)
        ctx.wait_for(lambda: done, "the core's end", 60)
        rest, objects, core = bytes(received), [], bytearray()
        while rest:
            line, _, rest = rest.partition(b"\n")
            o = json.loads(line)
            (name, value), = o.items()
            if not name.endswith("/core"):
                objects.append((name, value))
                continue
            equal((name, value["size"]), (f"{where.name}/core", (where / "core").stat().st_size), "name and size of the core")
            with open(where / "core", "rb") as f:
                f.seek(value["at"])
                check(f.read(value["bytes"]) == rest[:value["bytes"]] and rest[value["bytes"]:][:1] == b"\n", "the core differs")
            core += rest[:value["bytes"]]
            rest = rest[value["bytes"] + 1:]
        equal([n for n, _ in objects], [f"{where.name}/{n}" for n in ("snapshot.json", "backtrace.txt")], "files")
        equal(objects[0][1], json.loads((where / "snapshot.json").read_text()), "snapshot.json")
        equal(objects[1][1], (where / "backtrace.txt").read_text().split("\n")[:-1], "backtrace.txt")
        check(100_000 < len(core) < 8 << 20, f"{len(core)} bytes of the core")
        server.close()
        d.install("-f", f"127.0.0.1:{port}")
        equal(ctx.run([program, "small"], timeout=20).code, -11, "a crash without a server")
        ctx.wait_for(lambda: str(port) in d.status()["error"], "a server that is away is told", 60)
        d.run("--remove")


@test(serial=True, timeout=120)
def daemon_keeps(ctx):
    """The oldest ones of the user who has most are removed; others, and what isn't a crash, stay."""
    program = dies(ctx)
    with daemon(ctx) as d:
        d.install("--keep-size", "3", "--keep-days", "2000")
        for name, mib in (("20240101T000000.000001Z-1-5-one", 1), ("20240102T000000.000001Z-2-7-two", 2),
                          ("20240103T000000.000001Z-3-7-three", 2), ("20010101T000000.000001Z-4-5-old", 1), ("mine", 9)):
            (d.store / name).mkdir()
            (d.store / name / "core").write_bytes(os.urandom(mib << 20))
        ctx.run([program])
        d.wait(program.name, 1)
        ctx.wait_for(lambda: d.status()["removed"] >= 3, "what is too much is removed")
        left = [n for n in ("one", "two", "three", "old") if d.crashes(n)]
        check((d.store / "mine").exists() and left == ["one"], "what is left", left)
        d.run("--remove")


@test(serial=True, timeout=120)
def daemon_told(ctx):
    """A crash that a session has been told of isn't kept twice; one of a session that doesn't ask for it is."""
    program = dies(ctx)
    with daemon(ctx) as d:
        d.install()
        before = d.status()["told"]
        result = ctx.scoped([program], ["--backtrace"])
        equal(result.code, -4, "the program's end")
        result.session.wait_end()
        ctx.wait_for(lambda: d.status()["told"] > before, "it is known to have been told")
        equal(d.crashes(program.name), [], "kept once more")
        check(list(Path(result.session.dir).glob("crash/*/backtrace.txt")), "the session doesn't have it")
        ctx.scoped([program])
        d.wait(program.name, 1)
        d.run("--remove")


@contextlib.contextmanager
def by_hand(ctx, previous, started):
    """What would be installed, without the kernel's setting: nothing that crashes comes here. Yields where crashes would
    be kept, and what starts it as the kernel does. started: what a program that gets the core makes first."""
    check(os.geteuid() == 0, "only root may start it")
    with elfcore.pattern():  # no other test's meanwhile
        place = Path(tempfile.mkdtemp(prefix="scope-", dir="/var/tmp"))
        kept = STATE.read_bytes() if STATE.exists() else None
        try:
            os.chmod(place, 0o755)
            store = place / "crash"
            store.mkdir(mode=0o700)
            STATE.parent.mkdir(exist_ok=True)
            STATE.write_text(json.dumps({"previous": previous, "pattern": "|none", "directory": str(store), "core": True,
                                         "rate": 100, "coreMax": 1 << 30, "keepNs": 86400 * 10**9, "keepBytes": 1 << 30}))
            STATE.chmod(0o600)

            def crash(pid, uid, gid, core, mode=1, closed=False):
                """core: no more than a pipe takes. closed: the kernel has closed its end already."""
                argv = [ctx.scope, "daemon", "--crash", pid, pid, uid, gid, 11, 0, 2**64 - 1, mode]
                started.unlink(missing_ok=True)
                ends = os.pipe()
                with open(ends[0], "rb") as r, open(ends[1], "wb") as w:
                    w.write(core)
                    w.flush()
                    if closed:
                        w.close()
                    with subprocess.Popen([str(a) for a in argv], stdin=r, stdout=subprocess.DEVNULL,
                                          stderr=subprocess.PIPE, cwd="/") as p:
                        r.close()
                        ctx.wait_for(lambda: p.poll() is not None or started.exists(), "it has looked at the process", 60)
                        w.close()
                        p.wait(ctx.left())
                        equal(p.returncode, 0, f"its end: {p.stderr.read()}")

            yield store, crash
        finally:
            STATE.unlink(missing_ok=True)
            if kept is not None:
                STATE.write_bytes(kept)
            shutil.rmtree(place, ignore_errors=True)


@test(serial=True, timeout=120)
def daemon_reused_number(ctx):
    """The process is gone, and its number is that of a set-uid program of root's that runs in a directory of the
    stranger's choice: no file of root's appears there, nothing is kept, and why is told."""
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 4, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    core = head + struct.pack("<IIQQQQQQ", elfcore.PT_NOTE, 0, 120, 0, 0, 20, 0, 4) + bytes(20) + b"* * * * * root x\n" * 99
    where, got, started = ctx.fresh("where"), ctx.dir / "got", ctx.dir / "started"
    os.chmod(where, 0o777)
    with users.make(ctx, "stranger") as stranger:
        other = ctx.start(["sleep", "600"], cwd=where)
        handler = ctx.dir / "handler"
        handler.write_text(f"#!/bin/sh\n: > {started}\ncat > {got}\n")
        handler.chmod(0o755)
        for previous in ("core", f"|{handler}"):
            with by_hand(ctx, previous, started) as (store, crash):
                def error():
                    return json.loads((store / "counts.json").read_text())["error"]
                crash(other.pid, stranger.uid, stranger.gid, core)
                equal(list(where.iterdir()), [], "files with a stranger's text that are root's")
                check("another process has its number" in error(), error())
                crash(other.pid, 0, 0, core)  # as if it were root's own
                check("another process has its number" in error(), error())
                crash(other.pid, stranger.uid, stranger.gid, core, mode=2)
                crash(other.pid, stranger.uid, stranger.gid, core, closed=True)
                equal(list(where.iterdir()), [], "files")
                equal([p.name for p in store.iterdir() if "Z-" in p.name], [], "what is kept")
                equal(json.loads((store / "counts.json").read_text())["failed"], 4, "told")
        equal(got.read_bytes(), core, "what a program gets all the same")
