# SPDX-License-Identifier: Apache-2.0
"""Where telemetry goes: tcp, udp, unix sockets, files; StatsD lines and their datagrams; the rate limit."""

import json
import os
import re
import socket
import threading

from scopetest import check, equal, free_port, test

WORK = "for i in 1 2 3 4 5; do cat /etc/passwd >/dev/null; done; ls / >/dev/null"

# Name ":" value "|" type, then tags: DogStatsD.
STATSD = re.compile(r"^[A-Za-z_][\w.]*:-?\d+(\.\d+)?\|(c|g|ms|h|s|d)(\|#[^,|#]+:[^,|]*(,[^,|]+:[^,|]*)*)?$")


class Receiver:
    """Listens, and keeps what arrives."""

    def __init__(self, family, kind, address):
        self.socket = socket.socket(family, kind)
        self.socket.bind(address)
        self.chunks, self.connections = [], 0
        if kind == socket.SOCK_STREAM:
            self.socket.listen(8)
        self.thread = threading.Thread(target=self.stream if kind == socket.SOCK_STREAM else self.datagrams, daemon=True)
        self.thread.start()

    def stream(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.read, args=(connection,), daemon=True).start()

    def read(self, connection):
        while True:
            data = connection.recv(65536)
            if not data:
                return
            self.chunks.append(data)

    def datagrams(self):
        while True:
            try:
                self.chunks.append(self.socket.recv(65536))
            except OSError:
                return

    def text(self):
        return b"".join(self.chunks).decode()

    def close(self):
        self.socket.close()


def run(ctx, *flags, line=WORK, **env):
    result = ctx.scoped(["/bin/sh", "-c", line], flags, env=ctx.env(**env))
    equal(result.code, 0, "status")
    equal(result.err, b"", "stderr")
    result.session.wait_end()
    return result


def complete(ctx, text, what):
    """The events of WORK are all there."""
    events = [json.loads(line) for line in text.splitlines()]
    opened = [e for e in events if e.get("type") == "evt" and e["body"]["source"] == "fs.open"
              and e["body"]["data"]["file"] == "/etc/passwd"]
    equal(len(opened), 5, f"fs.open events of /etc/passwd, {what}")


@test("destinations/events-tcp")
def events_tcp(ctx):
    for family, address, url in ((socket.AF_INET, "127.0.0.1", "tcp://127.0.0.1"), (socket.AF_INET6, "::1", "tcp://[::1]"),
                                 (socket.AF_INET, "127.0.0.1", "tcp://localhost")):
        try:
            r = Receiver(family, socket.SOCK_STREAM, (address, 0))
        except OSError:
            check(family == socket.AF_INET6, "cannot listen")
            continue
        run(ctx, "-e", f"{url}:{r.socket.getsockname()[1]}")
        ctx.wait_for(lambda r=r: '"proc.exit"' in r.text(), f"events arrive at {url}")
        complete(ctx, r.text(), url)
        equal(r.connections, 1, "connections")
        r.close()


@test("destinations/events-unix")
def events_unix(ctx):
    path = str(ctx.dir / "events.sock")
    abstract = f"scope-test-{os.getpid()}-{id(ctx)}"
    for address, url in ((path, f"unix://{path}"), ("\0" + abstract, f"unix://@{abstract}")):
        r = Receiver(socket.AF_UNIX, socket.SOCK_STREAM, address)
        run(ctx, "-e", url)
        ctx.wait_for(lambda r=r: '"proc.exit"' in r.text(), f"events arrive at {url}")
        complete(ctx, r.text(), url)
        r.close()


@test("destinations/late-listener")
def late_listener(ctx):
    """Nobody listens at first: what was queued arrives once somebody does."""
    port = free_port()
    process = ctx.start(ctx.scope_argv(["/bin/sh", "-c", WORK + "; sleep 6"], ["-e", f"tcp://127.0.0.1:{port}"]))
    ctx.wait_for(ctx.sessions, "the session starts")
    threading.Event().wait(1)
    r = Receiver(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", port))
    equal(process.wait(30), 0, "status")
    ctx.wait_for(lambda: r.text().count('"proc.exit"') >= 7, "events arrive")
    complete(ctx, r.text(), "after a late start")
    r.close()


@test("destinations/statsd-udp")
def statsd_udp(ctx):
    """Each line is well formed, each datagram within the limit, and the sums are those of the file."""
    r = Receiver(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))
    line = WORK + "; touch 'a,b|c#d:e'; cat 'a,b|c#d:e'"
    run(ctx, "-m", f"udp://127.0.0.1:{r.socket.getsockname()[1]}", "--metricformat", "statsd", "--metricprefix", "pre", "-v", "9",
        line=line)
    ctx.wait_for(lambda: "proc.mem" in r.text() or "fs.open" in r.text(), "metrics arrive")
    threading.Event().wait(0.3)
    r.close()
    lines = r.text().splitlines()
    check(len(lines) > 50, f"only {len(lines)} lines")
    for text in lines:
        check(STATSD.match(text), "not a StatsD line", text)
        check(text.startswith("pre."), "the prefix is missing", text)
    check(max(map(len, r.chunks)) <= 1432, f"a datagram of {max(map(len, r.chunks))} bytes")
    check(len(r.chunks) < len(lines), "lines are not packed into datagrams")
    opens = sum(int(t.split(":")[1].split("|")[0]) for t in lines if t.startswith("pre.fs.open:"))
    reference = run(ctx, line=line)
    metrics = [m for m in reference.session.metrics() if m["_metric"] == "fs.open"]
    equal(opens, sum(m["_value"] for m in metrics), "sum of fs.open")


@test("destinations/unwritable")
def unwritable(ctx):
    """A destination that takes nothing costs the program nothing, and the loss is told."""
    result = run(ctx, "-e", "file:///dev/full")
    told = result.session.log() + json.dumps(result.session.meta)
    check("lost" in told or "No space" in told, "nothing tells of the loss", told[-2000:])


@test("destinations/rate-limit")
def rate_limit(ctx):
    """At most maxeventpersec events a second; the notice says how many were held back."""
    config = ctx.dir / "limited.yml"
    config.write_text("event:\n  enable: true\n  transport:\n    type: file\n    path: " + str(ctx.dir / "events.json") +
                      "\n  format:\n    maxeventpersec: 50\n  watch:\n    - type: fs\n      name: .*\n"
                      "metric:\n  enable: false\ncribl:\n  enable: false\n")
    line = "i=0; while [ $i -lt 300 ]; do read x </etc/hostname; i=$((i+1)); done"
    result = ctx.scoped(["/bin/sh", "-c", line], ["-u", config])
    equal((result.code, result.err), (0, b""), "status and stderr")
    result.session.wait_end()
    events = [json.loads(t) for t in (ctx.dir / "events.json").read_text().splitlines()]
    per_second = {}
    notices = [e for e in events if e.get("body", {}).get("source") == "notice"]
    for e in events:
        if e.get("type") == "evt" and e["body"]["source"] != "notice":
            per_second[int(e["body"]["_time"])] = per_second.get(int(e["body"]["_time"]), 0) + 1
    check(max(per_second.values()) <= 100, "more than the limit in a second", per_second)
    check(sum(per_second.values()) < 400, "hardly anything was held back", per_second)
    check(notices, "no notice")
    check(result.session.meta["held_back"] > 100, "the session does not say how many", result.session.meta)
