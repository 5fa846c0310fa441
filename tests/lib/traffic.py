# SPDX-License-Identifier: Apache-2.0
"""Servers and clients under observation, and what they asked and were asked, by their own account and by ours."""

import signal
import socket
from collections import Counter
from contextlib import contextmanager

from scopetest import Session, check, equal, free_port  # noqa: F401 (for those who import this)
from tlstest import certificate  # noqa: F401 (the same)

PYTHON = "/usr/bin/python3"
CURL = ["curl", "-sS", "--max-time", "20", "-o", "/dev/null"]


def listening(port):
    with socket.socket() as s:
        s.settimeout(0.5)
        return s.connect_ex(("127.0.0.1", port)) == 0


def urls(port, *targets, scheme="http"):
    return [w for t in targets for w in (f"{scheme}://127.0.0.1:{port}{t}", "-o", "/dev/null")]


@contextmanager
def running(ctx, argv, port, observe=None, stop=signal.SIGTERM, env=None, ready=listening, output="server.out", **how):
    """Runs a server, whose output goes to a file in the test's directory; observed if there are flags of `scope run`,
    then yields its session, which is complete when the block is left."""
    before = set(ctx.sessions())
    command = argv if observe is None else ctx.scope_argv(argv, observe)
    with open(ctx.dir / output, "wb") as out:
        process = ctx.start(command, env=env, stdout=out, stderr=out, **how)

    def up():
        check(process.poll() is None, f"{argv[0]} ended with {process.returncode}", (ctx.dir / output).read_text())
        return ready(port)
    ctx.wait_for(up, f"{argv} listens", 30, 0.1)
    new = set(ctx.sessions()) - before
    equal(len(new), 0 if observe is None else 1, "new sessions")
    session = Session(ctx, new.pop()) if new else None
    yield session
    process.send_signal(stop)
    process.wait(15)
    if session:
        session.wait_end(30)


def server(ctx, argv, port, flags=(), **how):
    """The same, observed."""
    return running(ctx, argv, port, flags, **how)


def asked(log):
    """Of a log with a line METHOD TARGET STATUS for each request."""
    return Counter(tuple(line.split()) for line in log.read_text().splitlines())


def exchanges(session, role, proxy=False):
    """(method, target, status) of each http.resp, after a check of what every event must have. A proxy has both roles:
    those of one of them only."""
    requests, responses = session.events(source="http.req", sync=False), session.events(source="http.resp", sync=False)
    other = {"server": "client", "client": "server"}[role]
    for e in requests + responses:
        equal(e["sourcetype"], "http", "sourcetype")
    for e in responses:
        check((f"http_{role}_duration" in e["data"]) != (f"http_{other}_duration" in e["data"]), "no or both durations", e)
        check(proxy or f"http_{role}_duration" in e["data"], f"no http_{role}_duration", e)
    told = Counter((e["data"]["http_method"], e["data"]["http_target"]) for e in requests)
    # What answers a request with a change of protocol is followed by the answer in that.
    answered = Counter((e["data"]["http_method"], e["data"]["http_target"]) for e in responses
                       if e["data"]["http_status_code"] != 101)
    equal(told, answered, "requests and responses")
    return Counter((e["data"]["http_method"], e["data"]["http_target"], str(e["data"]["http_status_code"]))
                   for e in responses if f"http_{role}_duration" in e["data"])


def nothing_lost(session):
    equal({k: v for k, v in session.lost().items() if v}, {}, "losses")


def told(*clients):
    """What clients asked and were answered. Collectors take a while to end, all of them at the same time."""
    found = Counter()
    for session in clients:
        session.wait_end()
        nothing_lost(session)
        found += exchanges(session, "client")
    return found


def configured(ctx, text):
    """A scope.yml; what it makes is in the files of the session once adopt() was called."""
    path = ctx.dir / "own.yml"
    to = "  transport: {{type: file, path: {}}}\n"
    text = text.replace("event:\n", "event:\n" + to.format(ctx.dir / "own-events.json"), 1)
    path.write_text(text.replace("metric:\n", "metric:\n  format: {type: ndjson}\n" + to.format(ctx.dir / "own-metrics.json"), 1))
    return ["-u", path]


def adopt(session):
    session.wait_end()
    for name in ("events.json", "metrics.json"):
        (session.ctx.dir / f"own-{name}").replace(session.dir / name)
