# SPDX-License-Identifier: Apache-2.0
"""`scope run` as process 1 of a container, in front of a program that would be it: the program gets the signals, the
orphans and the end of everything that process 1 gets, and what was recorded arrives before the container is gone."""

import json
import socket
import threading

from oci import boxed
from scopetest import Session, check, equal, test


RUN = ("/scope", "run", "--")


def first(ctx, *words, scope=RUN, change=lambda box: None):
    box, store = boxed(ctx, "glibc-O2", words, change, scope, "containers/first.c")
    return box, store / "home"


def both(ctx, *words):
    """Runs it bare and observed, which is the same to see from outside: the session."""
    bare = first(ctx, *words, scope=())[0].run()
    box, home = first(ctx, *words)
    result = box.run()
    equal((result.code, result.out, result.err), (bare.code, bare.out, bare.err), "status and output")
    ctx.home = home
    session = Session(ctx, home / "history" / "1")
    check(not session.collector_runs(), "the collector has not finished")
    meta = json.loads((session.dir / "session.json").read_text())
    check(meta["end_ns"] > 0, "end", meta)
    return result, meta


@test("first/orphans")
def orphans(ctx):
    result, meta = both(ctx, "orphans")
    equal((result.code, result.out), (5, b"child ended with 16\norphan ended with 17\nNo child processes\n"), "what it says")
    equal(meta["exit_code"], 5, "status in the session")


@test("first/left_behind")
def left_behind(ctx):
    """What still runs when process 1 ends is killed at once."""
    result, meta = both(ctx, "leave")
    equal((result.code, result.out, meta["exit_code"]), (7, b"first\n", 7), "status and output")


@test("first/crash")
def crash(ctx):
    result, meta = both(ctx, "crash")
    equal((result.code, meta["exit_signal"]), (139, 11), "status")


@test("first/signals")
def signals(ctx):
    """SIGTERM, which it doesn't catch, doesn't end it; SIGUSR1 arrives, though it is blocked for most of the time."""
    for scope in ((), RUN):
        box, _ = first(ctx, "signals", 2, scope=scope)
        out = ctx.dir / f"out-{len(scope)}"
        with open(out, "wb") as to:
            process, _ = box.start(stdout=to)
        said = b"ready\n"
        for count in range(3):
            ctx.wait_for(lambda out=out, said=said: out.read_bytes() == said, f"{said} of the program")
            said += b"got %d\n" % (count + 1)
            if count < 2:
                box.kill("TERM")
                box.kill("USR1")
        equal(process.wait(20), 6, "status")


@test("first/killed")
def killed(ctx):
    """SIGKILL from outside ends the collector, too, in the middle of its work: what it has recorded can be read."""
    box, ctx.home = first(ctx, "signals", 1, change=lambda box: box.host("network"))  # its collector can be asked from here
    process, _ = box.start()
    session = ctx.wait_for(lambda: ctx.home.exists() and ctx.sessions(), "a session")[0]
    session = Session(ctx, session)

    def said():
        return [e["data"] for e in session.events(sync=False) if e["source"] in ("stdout", "console")]
    ctx.wait_for(lambda: (session.dir / "journal").exists() and said(), "what it says is recorded")
    before = said()
    box.kill("KILL")
    equal(process.wait(20), 137, "status")
    check(not session.collector_runs(), "the collector goes on")
    equal(said(), before, "what was recorded")


class Receiver:
    """Takes what comes over one TCP connection."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port, self.data = self.listener.getsockname()[1], b""
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        connection, _ = self.listener.accept()
        with connection:
            while piece := connection.recv(65536):
                self.data += piece


@test("first/network")
def network(ctx):
    """Of what goes over the network nothing is lost by the end of the container; also where no session can be stored."""
    def nowhere(box):
        box.read_only().without_env("SCOPE_HOME", "HOME").tmpfs("/tmp", "ro")
    for change in (lambda box: None, nowhere):
        receiver = Receiver()
        box, home = first(ctx, "orphans", scope=("/scope", "run", "-e", f"tcp://127.0.0.1:{receiver.port}", "--"),
                          change=lambda box, change=change: (box.host("network"), change(box)))
        result = box.run()
        equal((result.code, result.out.splitlines()[-1:]), (5, [b"No child processes"]), result.describe())
        equal(home.exists(), change is not nowhere, "a session")
        receiver.thread.join(20)
        events = [json.loads(line)["body"] for line in receiver.data.decode().splitlines() if '"body"' in line]
        equal(sum(e["source"] == "proc.exit" for e in events), 3, f"ends that arrive; {result.err}")
