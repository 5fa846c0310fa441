# SPDX-License-Identifier: Apache-2.0
"""The dashboard under a terminal emulator: what is on the screen, each key, and the terminal afterwards."""

import json
import os
import re
import shutil
import signal
import socket
import time
from contextlib import contextmanager

from scopetest import Session, check, equal, free_port, test
from screen import Screen
from traffic import CURL, PYTHON

KEYS_SHOWN = "q quit ? help"
COLOUR = rb"\x1b\[(?:\d+;)*3[0-7](?:;\d+)*m"


@contextmanager
def dash(ctx, *argv, wait="8 Events", **how):
    screen = Screen(ctx, [ctx.scope, "dash", *argv], **how)
    try:
        if wait:
            screen.wait(lambda text: wait in text and "READING" not in text, wait)
        yield screen
    finally:
        screen.close()


def quit_by(screen, keys="q", status=0):
    screen.type(keys)
    screen.end(status)
    screen.restored()


def recorded(ctx, script, flags=()):
    """A session that is over."""
    session = ctx.scoped(["sh", "-c", script], flags=list(flags), check_code=0).session
    session.wait_end()
    return session


@contextmanager
def recording(ctx, script):
    """A session that goes on until the file `stop` is there."""
    before = set(ctx.sessions())
    with open(ctx.dir / "output", "ab") as output:  # of /dev/null nothing is told
        process = ctx.start([ctx.scope, "run", "--", "sh", "-c", f"{script}; until [ -e stop ]; do sleep .05; done"], cwd=ctx.dir,
                            stdout=output)
    path, = ctx.wait_for(lambda: set(ctx.sessions()) - before, "the session")
    session = Session(ctx, path)
    ctx.wait_for(lambda: (session.dir / "session.json").exists() and session.collector_runs(), "the collector")
    try:
        yield session
    finally:
        (ctx.dir / "stop").touch()
        process.wait(30)
        (ctx.dir / "stop").unlink()


@test("dash/live")
def live(ctx):
    """What a program does is on the screen while it runs, and that it has ended."""
    with recording(ctx, "while [ ! -e stop ]; do cat /etc/hostname >/dev/null; echo to the console; sleep .05; done"), \
            dash(ctx, columns=120, rows=40) as s:
        s.wait("LIVE", "the state")
        s.wait(re.compile(r"[1-9][0-9.]* events/s").search, "the rate of events")
        s.wait("to the console", "a line of the console")
        s.wait("fs.open", "an event")
        check(KEYS_SHOWN in s.lines[-1], "the keys at the bottom", s.text)
        check(s.lines[1].startswith("Lost: "), "losses at the top", s.text)
        s.type("6")
        s.wait("/etc/hostname", "the busiest file")
        s.type("1")
        s.wait(re.compile(r"^ *\d+ .*  sh", re.M).search, "the process")
        quit_by(s)


@test("dash/http")
def http(ctx):
    """Requests by their answers, targets and durations; the connection that is open."""
    port = free_port()
    (ctx.dir / "page").write_text("page")
    server = ctx.start([ctx.scope, "run", "--", PYTHON, "-m", "http.server", "--bind", "127.0.0.1", str(port)], cwd=ctx.dir)
    ctx.wait_for(lambda: ctx.run([*CURL, f"http://127.0.0.1:{port}/page"]).code == 0, "the server")
    with socket.create_connection(("127.0.0.1", port)) as idle, dash(ctx, columns=160, rows=50) as s:
        idle.sendall(b"GET /page HTTP/1.1\r\nHost: a.test\r\n")
        for path in ("page", "page", "missing?secret=1"):
            ctx.run([*CURL, f"http://127.0.0.1:{port}/{path}"], check_code=0)
        s.wait(lambda text: f"GET 127.0.0.1:{port}/page" in text and f"GET 127.0.0.1:{port}/missing" in text, "targets")
        check("secret" not in text_of(s, "4 HTTP", "5 DNS"), "queries aren't part of a target", s.text)
        s.wait(re.compile(r"p50 \d+ms  p95 \d+ms  p99 \d+ms").search, "percentiles")
        s.wait(lambda text: "3 Connections: 1 open" in text and f":{idle.getsockname()[1]}" in text, "the connection that is open")
        s.type("4")
        # Python's server has answered three requests of the page, and one for which there is none.
        s.wait(lambda text: re.search(rf"^ +3 +0 .*GET 127.0.0.1:{port}/page$", text, re.M)
               and re.search(rf"^ +1 +1 .*GET 127.0.0.1:{port}/missing$", text, re.M), "counts and errors")
        quit_by(s)
    server.terminate()
    server.wait(20)


def text_of(screen, begin, end):
    """What stands between two titles."""
    return screen.text.partition(begin)[2].partition(end)[0]


@test("dash/appears")
def appears(ctx):
    """Without an argument: sessions that begin later, too; several at once."""
    with recording(ctx, "true"), dash(ctx, "--color=never", columns=100, rows=30) as s:
        s.wait("all sessions", "what is shown")
        with recording(ctx, "while [ ! -e stop ]; do echo from the second; sleep .1; done"):
            s.wait("from the second", "the second session")
            (ctx.dir / "stop").touch()
        quit_by(s)


def clock(screen):
    found = re.search(r"(\d\d):(\d\d):(\d\d) ", screen.lines[0])
    check(found, "the time", screen.text)
    hours, minutes, seconds = map(int, found.groups())
    return hours * 3600 + minutes * 60 + seconds


@test("dash/keys", timeout=120)
def keys(ctx):
    """Every key, in a session that is over: its end, then back."""
    recorded(ctx, "echo begin; cat /etc/hostname; sleep 3; cat /etc/passwd >/dev/null; echo end")
    with dash(ctx, "-i", "1") as s:
        s.wait("ENDED", "a session that is over stands still")
        for key, title in enumerate(("Processes", "Network", "Connections", "HTTP", "DNS", "Files", "Console", "Events"), 1):
            s.type(str(key))
            s.wait(lambda text, t=f"{key} {title}": s.lines[2].startswith(t), title)  # pylint: disable=cell-var-from-loop
        s.type("\t")
        s.wait(lambda text: "2 Network" in text and "8 Events" in text, "all panels")
        s.type("\t")
        s.wait(lambda text: "1 Processes" in text and "8 Events" not in text, "the first panel")
        s.type("s")
        s.wait("(by CPU)", "another order")
        s.type("sss")
        s.wait("(tree)", "the first order")
        s.type("?")
        s.wait("ten seconds back, forward", "help")
        s.type("\x1b")
        s.wait(lambda text: "ten seconds back" not in text and "1 Processes" in text, "no help")
        s.type("8")
        s.wait("passwd", "an event")
        s.type("/hostname\n")
        s.wait(lambda text: "filter: hostname" in text and "hostname" in s.lines[3] and "passwd" not in text, "only what passes the filter")
        s.type("/")
        s.wait("/hostname_", "the filter, to be changed")
        s.type("\x15pass\x7f\x7f")
        s.wait("/pa_", "what was typed and taken back")
        s.type("\x1b")
        s.wait(lambda text: "filter: hostname" in text and KEYS_SHOWN in text, "as it was")
        s.type("/\x15\n")
        s.wait(lambda text: "filter" not in s.lines[2] and "passwd" in text, "no filter")
        end = clock(s)
        s.type("\x1b[1~")
        s.wait(lambda text: clock(s) < end and "passwd" not in text, "the beginning")
        begin = clock(s)
        check(end - begin >= 3, "as long as the session", begin, end)
        s.type(" ")
        s.wait("x1", "time goes on")
        s.type("+")
        s.wait("x2", "faster")
        s.type("-")
        s.wait("x1", "slower")
        s.wait(lambda text: "passwd" in text and "ENDED" in text, "played to its end")
        s.type("\x1b[D")
        s.wait(lambda text: clock(s) == begin, "ten seconds back: the beginning")
        s.type("\x1b[C")
        s.wait(lambda text: clock(s) == end, "forward")
        s.type("[")
        s.wait(lambda text: clock(s) == begin, "a minute back")
        s.type("]")
        s.wait(lambda text: clock(s) == end, "a minute forward")
        s.type("[\x1b[4~")
        s.wait(lambda text: clock(s) == end, "End")
        s.type("1")
        s.wait(re.compile(r"^ *\d+ .* cat", re.M).search, "processes")
        s.type("\x1b[B\n")
        s.wait("scope dash  process ", "only the selected one")
        s.type("a")
        s.wait(lambda text: "scope dash  session 1" in text, "all processes")
        for key in ("\x1b[A", "\x1b[5~", "\x1b[6~", "0"):
            s.type(key)
        s.wait("8 Events", "all panels")
        quit_by(s, "\x1b")


@test("dash/sizes")
def sizes(ctx):
    """Resized at any moment; too small, and large again."""
    recorded(ctx, "echo hello")
    with dash(ctx) as s:
        for columns, rows in ((120, 40), (200, 60), (81, 25), (300, 100), (80, 24)):
            s.resize(columns, rows)
            s.wait(lambda text, n=columns: KEYS_SHOWN in s.lines[-1] and "2 Network" in text and text.count("7 Console") == 1
                   and len(s.screen.display[0].rstrip()) > n - 4, f"{columns}x{rows}")
        for columns, rows in ((79, 24), (80, 23), (20, 5)):
            s.resize(columns, rows)
            s.wait(f"this is {columns}x{rows}", "what it needs")
        s.resize(1, 1)
        s.read(1)
        s.resize(80, 24)
        s.wait("2 Network", "back")
        quit_by(s)


def stop_and_continue(ctx):
    """^Z, the shell, and fg."""
    line = '"$0" dash -i 1; echo "stopped $?"; sleep .3; fg >/dev/null; echo "ended $?"'
    s = Screen(ctx, [shutil.which("bash"), "-mc", line, ctx.scope])
    try:
        s.wait("8 Events", "the dashboard")
        s.type("\x1a")
        s.wait("stopped 148", "the shell again")
        check(b"\x1b[?1049l" in s.raw, "the alternate screen was left", s.raw[-300:])
        s.wait(lambda text: "8 Events" in text and s.raw.count(b"\x1b[?1049h") == 2, "the dashboard again")
        s.type("q")
        s.wait("ended 0", "its end")
        s.end(0)
        s.restored()
    finally:
        s.close()


@test("dash/ends", timeout=120)
def ends(ctx):
    """The terminal is restored whatever ends it, and the exit status says what."""
    recorded(ctx, "echo hello")
    for keys_typed, status in (("q", 0), ("Q", 0), ("\x1b", 0), ("\x03", -signal.SIGINT), ("\x1c", -signal.SIGQUIT)):
        with dash(ctx) as s:
            quit_by(s, keys_typed, status)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS):
        with dash(ctx) as s:
            os.kill(s.pid, number)
            s.end(-number)
            s.restored()
    stop_and_continue(ctx)
    with dash(ctx) as s:  # the terminal goes away
        os.close(s.master)
        deadline = time.monotonic() + 20
        while (done := os.waitpid(s.pid, os.WNOHANG))[0] == 0:
            check(time.monotonic() < deadline, "it ends without its terminal")
            time.sleep(0.05)
        check(os.waitstatus_to_exitcode(done[1]) in (1, -signal.SIGHUP), "exit status", done)
        s.pid, s.master = 0, os.dup(s.slave)


@test("dash/refusals")
def refusals(ctx):
    """No terminal, or one that can't do it: a message with the remedy, and nothing has been changed."""
    recorded(ctx, "true")
    result = ctx.run([ctx.scope, "dash"], check_code=1)
    check(b"terminal" in result.err and b"scope events -f" in result.err and not result.out, result.describe())
    for term, said in (("", "TERM isn't set"), ("no-such-terminal", "terminfo doesn't know"), ("dumb", "TERM")):
        with dash(ctx, wait=None, env={"TERM": term}) as s:
            s.wait(lambda text, t=said: t.replace(" ", "") in text.replace("\n", "").replace(" ", ""), said)
            s.end(1)
            s.restored()
            check(b"\x1b[" not in s.raw, "no control sequences", s.raw)
    for argv, said in ((["-i", "99"], "session 99 not found"), (["-i", "1", "2"], "process once"), (["--pid", "0"], "pid"),
                       (["4194303"], "neither a session nor")):
        with dash(ctx, *argv, wait=None) as s:
            s.wait(said, said)
            s.end(2 if said in ("process once", "pid") else 1)
    path = ctx.dir / "elsewhere"
    recorded(ctx, "true", ["-e", f"file://{path}", "-m", f"file://{path}"])
    with dash(ctx, "-i", "2", wait=None) as s:
        s.wait("not kept in a journal", "a session without a journal")
        s.end(1)


@test("dash/damaged")
def damaged(ctx):
    """Torn, spoilt, empty and missing journals: what there is, and what isn't."""
    ctx.valid = False
    session = recorded(ctx, "for i in 1 2 3; do echo line $i; sleep .4; done")
    journal = ctx.home / "history" / "1" / "journal"
    whole = journal.read_bytes()
    journal.write_bytes(whole[:len(whole) * 2 // 3])
    with dash(ctx, "-i", "1") as s:
        s.wait("line 1", "what is whole")
        quit_by(s)
    spoilt = bytearray(whole)
    spoilt[len(whole) // 2] ^= 0xff
    journal.write_bytes(spoilt)
    with dash(ctx, "-i", "1") as s:
        s.wait("blocks are damaged", "damage is told")
        quit_by(s)
    journal.write_bytes(b"")
    with dash(ctx, "-i", "1") as s:
        s.wait("8 Events: 0/s", "nothing")
        quit_by(s)
    journal.write_bytes(b"no journal" * 100)
    with dash(ctx, "-i", "1", wait=None) as s:
        s.wait("it is no journal", "what it is")
        s.end(1)
    journal.write_bytes(whole)
    meta = journal.parent / "session.json"
    meta.write_text(json.dumps({**session.meta, "lost": {"record": 12, "data\u202e\u001b": 7}}))
    with dash(ctx, "-i", "1") as s:
        check(s.lines[1].startswith(r"LOST: record 12, data\u202e\x1b 7"), "losses by kind", s.text)
        quit_by(s)
    journal.unlink()
    with dash(ctx, "-i", "1", wait=None) as s:
        s.end(1)
    equal(session.meta["id"], 1)


@test("dash/plain")
def plain(ctx):
    """Only ASCII where the locale has no more, no colours with NO_COLOR, and names that mean harm in both."""
    name = ctx.dir / "\u4f60\u597d\u202e\x1b]0;x\x07e\u0301"
    name.write_text("x" * 300000)  # the busiest
    raw = os.fsencode(ctx.dir) + b"/\xff\xfe"
    with open(raw, "w", encoding="ascii"):
        pass
    recorded(ctx, "for f in ./*; do cat \"$f\" >/dev/null 2>&1; done; printf '\\033[2J\\302\\2332J%s\\n' " + "x" * 4096)
    for locale, ascii_only in (("C", True), ("C.UTF-8", False), ("xx_YY.UTF-8", False)):
        with dash(ctx, "-i", "1", columns=160, rows=50, env={"LANG": locale, "LC_ALL": locale, "NO_COLOR": "1", "TERM": "linux"}) as s:
            for key in ("0", "1", "7", "8", "6"):
                s.type(key)
                s.wait(lambda text: KEYS_SHOWN in s.lines[-1], "the keys")
            s.wait(r"\x1b]0;x\x07", "what acts on a terminal made visible")
            check(s.text.isascii() == ascii_only, f"characters in {locale}", s.text)
            check(ascii_only or "\u4f60" in s.text, "wide characters", s.text)
            check("\u202e" not in s.text, "direction", s.text)
            quit_by(s)
            check(not re.search(COLOUR, s.raw), "no colours", s.raw[-2000:])
            check(b"\x1b]0;" not in s.raw, "nothing of a name acts on the terminal", s.raw[-2000:])
    with dash(ctx, "-i", "1") as s:
        quit_by(s)
        check(re.search(COLOUR, s.raw), "colours", s.raw[-2000:])


@test("dash/process")
def process(ctx):
    """One process of a session, by its number or name; numbers of sessions come first."""
    with recording(ctx, "while [ ! -e stop ]; do echo said; cat /etc/hostname >/dev/null; sleep .1; done") as session:
        pid = ctx.wait_for(lambda: [e["pid"] for e in session.events("console")], "an event")[0]
        with dash(ctx, str(pid), columns=120, rows=40) as s:
            s.wait(lambda text: f"process {pid}, all sessions" in text and "said" in text, "the process")
            check("cat[" not in s.text, "nothing of its children", s.text)
            quit_by(s)
        with dash(ctx, "--pid", "1", wait=None) as s:
            s.wait("process 1 is not observed", "who isn't observed")
            s.end(1)
    with dash(ctx, "1") as s:
        s.wait("session 1", "a session by its number")
        quit_by(s)
    with dash(ctx, "-i", "1", "--pid", pid, columns=120, rows=40) as s:  # it has ended since
        s.wait(lambda text: f"process {pid}, session 1" in text and "said" in text and "cat[" not in text, "a process of a session")
        quit_by(s)
