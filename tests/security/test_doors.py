# SPDX-License-Identifier: Apache-2.0
"""Strangers, and programs that were invited and turn out hostile, at the socket of root's collector (docs/security.md)."""

import contextlib
import errno
import os
import re
import signal
import struct
import time

import users
from scopetest import MACHINE, SLACK, TOP, Session, check, equal, test

NAMES = ["JOIN", "SEGMENT", "PLAN", "SYNC", "TRACE", "INSPECT", "UPDATE", "ATTACH", "LEAVE", "CRASHES", "KNOWN", "RELOAD", "LAST", "unknown"]


def stranger(ctx):
    """The attacker's program, where everybody can run it."""
    return ctx.compile("security/stranger.c", "glibc-O2", [f"-I{TOP}/src", f"-I{TOP}/src/wire"])


@contextlib.contextmanager
def session_of_root(ctx, argv=("sleep", "60"), flags=()):
    """A session of root's whose program runs; yields session, address with secret, the program's pid."""
    process = ctx.start(ctx.scope_argv(argv, flags))
    ctx.wait_for(lambda: ctx.sessions() and (ctx.session().dir / "session.json").exists()
                 and ctx.session().meta.get("socket") and ctx.session().events(source="proc.start", sync=False), "a session")
    session = ctx.session()
    try:
        yield session, session.meta["socket"], process.pid
    finally:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGTERM)


def public(address):
    return address.split(".")[0]


@test("doors/strangers")
def strangers(ctx):
    """Another user gets nothing for a name that everybody can read, whatever it asks for; nothing is written, no process
    is touched, and the session goes on."""
    attacker = stranger(ctx)
    with users.make(ctx, "stranger") as eve, session_of_root(ctx) as (session, address, pid):
        with open("/proc/net/unix", encoding="utf-8", errors="replace") as f:
            listed = f.read()
        check(public(address) in listed and address not in listed, "the secret stands in /proc/net/unix")
        out = ctx.run(eve.command(attacker, public(address), "requests", pid, "/dev/null"), env=eve.env(), check_code=0).out
        equal([line.split()[1] for line in out.decode().splitlines()], [str(-errno.EPERM)] * len(NAMES), "answers")
        guess = public(address) + "." + "0" * 32
        out = ctx.run(eve.command(attacker, guess, "requests", pid, "/dev/null"), env=eve.env(), check_code=0).out
        equal({line.split()[1] for line in out.decode().splitlines()}, {str(-errno.EPERM)}, "answers to a guess")
        ctx.run(eve.command(attacker, public(address), "forge", 0, "/usr/sbin/sshd", 0), env=eve.env())
        ctx.run(eve.command(attacker, public(address), "knock", 500), env=eve.env(), check_code=0)
        check(not any(e["proc"] == "sshd" or e["data"].get("file") == "/forged" for e in session.events()), "a stranger's events")
        log = session.log()
    session.wait_end()
    log = session.log()
    lines = [line for line in log.splitlines() if "refused" in line]
    check(1 <= len(lines) <= 7, f"{len(lines)} lines about refusals", log)
    check(re.search(r"\d{3} more requests were refused", log), "how many there were", log)


@test("doors/guests")
def guests(ctx):
    """Who was invited may join, and speaks for itself only: no orders about others."""
    attacker = stranger(ctx)
    with users.make(ctx, "guest") as mallory, session_of_root(ctx) as (_, address, pid):
        out = ctx.run(mallory.command(attacker, address, "requests", pid, "/bin/true"), env=mallory.env(), check_code=0).out
        got = dict(line.split() for line in out.decode().splitlines())
        for kind in ("SYNC", "INSPECT", "UPDATE", "ATTACH", "LEAVE", "CRASHES", "KNOWN", "RELOAD", "LAST"):
            equal(got[str(NAMES.index(kind))], str(-errno.EPERM), kind)
        check(not ctx.tool_run("inspect", str(pid)).err, "it is still observed")


def same_user_without_rights(ctx, *argv):
    """root without capabilities, as it is in containers that share the network."""
    return [ctx.tool("setpriv"), "--bounding-set=-all", "--inh-caps=-all", "--", *argv]


@test("doors/root_without_rights")
def root_without_rights(ctx):
    """An order is taken only from whom has all the rights that it will be carried out with."""
    attacker = stranger(ctx)
    with session_of_root(ctx) as (_, address, pid):
        out = ctx.run(same_user_without_rights(ctx, attacker, public(address), "requests", pid, "/dev/null"), check_code=0).out
        got = dict(line.split() for line in out.decode().splitlines())
        for kind in ("INSPECT", "UPDATE", "ATTACH", "LEAVE", "KNOWN", "RELOAD", "LAST"):
            equal(got[str(NAMES.index(kind))], str(-errno.EPERM), kind)


def with_file_capabilities(path):
    """As setcap(8) does: cap_setuid, cap_setgid, permitted and effective (VFS_CAP_REVISION_2)."""
    os.setxattr(path, "security.capability", struct.pack("<IIIII", 0x02000001, 1 << 6 | 1 << 7, 0, 0, 0))


def wrappers(ctx):
    """Programs that make who runs them root: (name, path)."""
    where = ctx.fresh("wrappers")
    for variant in ("glibc-O2", "musl", "static", "musl-static"):
        built = ctx.compile("security/wrapper.c", variant)
        path = where / f"set-user-id.{variant}"
        ctx.run(["cp", built, path], check_code=0)
        os.chmod(path, 0o6755)
        yield path.name, path
        if variant.endswith("static"):
            path = where / f"capabilities.{variant}"
            ctx.run(["cp", built, path], check_code=0)
            os.chmod(path, 0o755)
            with_file_capabilities(path)
            yield path.name, path


@test("doors/set-id", timeout=120)
def set_id(ctx):
    """Whoever asks to be traced and then becomes root by a set-user-ID program can't have a library of its choice loaded
    there: as a stranger or a guest, before or after that program has begun, by itself or by a child."""
    attacker = stranger(ctx)
    marks = ctx.fresh("marks")
    os.chmod(marks, 0o777)
    library = ctx.compile("security/mark.c", "glibc-O2", [f'-DMARK_DIRECTORY="{marks}"'], f"mark-{ctx.dir.name}", shared=True)
    ctx.run(["env", f"LD_PRELOAD={library}", "/bin/true"], check_code=0)
    equal(os.listdir(marks), ["0"], "the library works")
    os.unlink(marks / "0")
    with users.make(ctx, "eve") as eve, session_of_root(ctx) as (session, address, _):
        running = []
        for name, path in wrappers(ctx):
            for who in (public(address), address):
                for how in ("child", "self"):
                    env = eve.env(STRANGER_LIBRARY=library)
                    running.append((name, how, ctx.start(eve.command(attacker, who, "trace", how, path), env=env)))
            while len(running) > 8:
                running.pop(0)[2].wait(30)
        for _, _, process in running:
            process.wait(30)
        check("0" not in os.listdir(marks), "a stranger's library was loaded by root", session.log())
        # Run observed, in the hostile program's own session: its children, too.
        ctx.run(ctx.scope_argv(eve.command(attacker, address, "trace", "self", "/bin/sh", "-c", "/bin/true"), []),
                env=ctx.env(STRANGER_LIBRARY=library, SCOPE_HOME=ctx.dir / "other"))
        check("0" not in os.listdir(marks), "a stranger's library was loaded by root")


@test("doors/invited")
def invited(ctx):
    """Programs that root starts as another user are observed, whatever their kind: they know the secret."""
    static = ctx.compile("static/self.c", "musl-static", [f"-I{TOP}/tests/behaviour"], "self-invited")
    with users.make(ctx, "guest") as user:
        for path, *arguments in ((ctx.tool("cat"), "/dev/null"), (ctx.tool("busybox"), "true"), (static,)):
            result = ctx.scoped([*user.command("sh", "-c", '"$@"; exit $?', "sh", path, *arguments)])
            session = result.session
            started = {(os.path.realpath(e["data"]["exe"]), e["data"]["uid"]) for e in session.events(source="proc.start")}
            check((os.path.realpath(path), user.uid) in started, f"{path} is not observed", session.log(), result.describe())
            check("refused" not in session.log(), session.log())
            equal(session.lost(), {}, "losses")


@test("doors/flood", timeout=90)
def flood(ctx):
    """A thousand connections that say nothing, and others that ask for nothing, one after the other, don't keep the
    collector from answering its owner."""
    attacker = stranger(ctx)
    with users.make(ctx, "eve") as eve, session_of_root(ctx) as (session, address, _):
        silence = ctx.start(eve.command(attacker, public(address), "silent", 1000, 20), env=eve.env())
        knock = ctx.start(eve.command(attacker, public(address), "knock", 20000), env=eve.env())
        began = time.monotonic()
        ctx.tool_run("events", "--id", str(session.id), "-n", "1")
        check(time.monotonic() - began < 10 * SLACK, "the collector doesn't answer its owner")
        check(silence.poll() is None, "the flood is over")
        knock.wait(60)
        check(len([line for line in session.log().splitlines() if "refused" in line]) <= 12, session.log())


@test("doors/flood_and_joins", timeout=90)
def flood_and_joins(ctx):
    """Beside such a flood the processes of the session join as ever: none is missing."""
    attacker = stranger(ctx)
    count = 100
    script = f"sleep 2; i=0; while [ $i -lt {count} ]; do /bin/true; i=$((i + 1)); done; sleep 0.1"
    with users.make(ctx, "eve") as eve, session_of_root(ctx, ["sh", "-c", script]) as (session, address, _):
        ctx.start(eve.command(attacker, public(address), "silent", 1000, 15), env=eve.env())
        ctx.start(eve.command(attacker, public(address), "knock", 20000), env=eve.env())
        session.wait_end(60)
    starts = [e for e in session.events(source="proc.start", sync=False) if e["proc"] == "true"]
    equal(len(starts), count, "processes")
    equal(session.lost(), {}, "losses")


@test("doors/plans", timeout=90)
def plans(ctx):
    """A guest that asks for many plans gets a few; who has gone is not worked for; root's programs get theirs at once."""
    attacker = stranger(ctx)
    big = max((p for p in (ctx.tool("node"), ctx.tool("tshark"), ctx.scope) if p), key=os.path.getsize)
    with users.make(ctx, "mallory") as mallory, session_of_root(ctx) as (session, address, _):
        out = ctx.run(mallory.command(attacker, address, "plans", big, 50), env=mallory.env(), check_code=0).out
        check(int(out) >= 40, f"only {int(out)} of 50 were refused")
        ctx.wait_for(lambda: not workers(session, mallory), "the work for askers that are gone has ended", 15)


def workers(session, user):
    """Children of the collector that have become this user."""
    pid = session.collector_pid()
    with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
        return [child for child in f.read().split() if is_of(child, user)]
    return []


def is_of(pid, user):
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status", encoding="ascii") as f:
        return f"Uid:\t{user.uid}\t" in f.read()
    return False


@test("doors/forged")
def forged(ctx):
    """An invited program that says that it is root's sshd is told as what it is."""
    attacker = stranger(ctx)
    with users.make(ctx, "mallory") as mallory, session_of_root(ctx) as (session, address, _):
        ctx.run(mallory.command(attacker, address, "forge", 0, "/usr/sbin/sshd", 2), env=mallory.env(), check_code=0)
        opened = [e for e in session.events(source="fs.open") if e["data"].get("file") == "/forged"]
        check(opened, "what it says that it did is not recorded")
        start = [e for e in session.events(source="proc.start") if e["pid"] == opened[0]["pid"]]
        equal([e["data"]["uid"] for e in start], [mallory.uid], "user")
        equal([e["data"]["exe"] for e in start], [str(attacker)], "executable")
        equal([e["data"]["proc_uid"] for e in opened], [mallory.uid], "user of the events")


@test("doors/slow_to_close", timeout=60)
def slow_to_close(ctx):
    """A socket that a stranger sends, and whose closing takes long, is not waited for."""
    attacker = stranger(ctx)
    with users.make(ctx, "eve") as eve, session_of_root(ctx) as (session, address, _):
        slow = ctx.start(eve.command(attacker, public(address), "linger", 60), env=eve.env())
        ctx.wait_for(lambda: "refused" in session.log(), "the stranger was told no")
        began = time.monotonic()
        ctx.tool_run("events", "--id", str(session.id), "-n", "1")
        check(time.monotonic() - began < 20 and slow.poll() is None, "the collector waited for the stranger's socket")


@test("doors/stopped_worker", timeout=90)
def stopped_worker(ctx):
    """A guest that stops the process that traces it doesn't keep the session from ending."""
    attacker = stranger(ctx)
    with users.make(ctx, "mallory") as mallory, session_of_root(ctx, ["sleep", "3"]) as (session, address, _):
        out = ctx.run(mallory.command(attacker, address, "stop"), env=mallory.env(), check_code=0).out
        equal(out, b"stopped\n", "the worker")
        session.wait_end(40)


@test("doors/claims", timeout=60)
def claims(ctx):
    """Nobody can be claimed as a child: neither is anything told under another's number, nor does the session wait for it."""
    attacker = stranger(ctx)
    victim = ctx.start(["sleep", "1000"])
    with users.make(ctx, "mallory") as mallory, session_of_root(ctx, ["sleep", "4"]) as (session, address, _):
        ctx.run(mallory.command(attacker, address, "claim", victim.pid), env=mallory.env(), check_code=0)
        session.wait_end(30)
        check(victim.poll() is None, "the other process is still there")
    known = [e for e in session.raw("events.json") if e.get("body", {}).get("data", {}).get("hostPid") == victim.pid]
    equal(known, [], "events of the other process")


@test("doors/log_lines", timeout=60)
def log_lines(ctx):
    """What others do wrong doesn't fill the log."""
    attacker = stranger(ctx)
    with users.make(ctx, "mallory") as mallory, session_of_root(ctx) as (session, address, _):
        ctx.run(mallory.command(attacker, address, "lines", 5000), env=mallory.env(), check_code=0)
        ctx.tool_run("events", "--id", str(session.id), "-n", "1")
        count = session.log().count("\n")
        check(count <= 2100, f"{count} lines")
