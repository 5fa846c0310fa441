# SPDX-License-Identifier: Apache-2.0
"""Connections that are passed from process to process: each ends with its last holder, with all that went through it,
whoever has done it."""

import signal
import socket
import threading
from collections import Counter

from scopetest import Session, check, equal, test
from traffic import PYTHON, free_port, nothing_lost, server

REQUEST = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nhi\n"
WHOLE = (len(REQUEST), len(ANSWER))
COUNT = 8
# Takes connections from a unix socket and answers them; accepts them and gives them away.
TAKE = f"""if 1:
    import socket, sys
    with socket.socket(socket.AF_UNIX) as l:
        l.bind(sys.argv[1])
        l.listen()
        come, _ = l.accept()
        for _ in range({COUNT}):
            with socket.socket(fileno=socket.recv_fds(come, 1, 1)[1][0]) as s:
                s.recv(4096)
                s.sendall({ANSWER!r})
    """
GIVE = f"""if 1:
    import socket, sys, time
    with socket.socket(socket.AF_UNIX) as to, socket.create_server(("127.0.0.1", int(sys.argv[2]))) as l:
        while to.connect_ex(sys.argv[1]):
            time.sleep(0.02)
        for i in range({COUNT}):
            c, _ = l.accept()
            with c:
                socket.send_fds(to, [b"x"], [c.fileno()])
        to.recv(1) # until it is done
    """


def ask(port, count=COUNT):
    def one():
        with socket.create_connection(("127.0.0.1", port)) as s:
            s.sendall(REQUEST)
            got = b""
            while more := s.recv(1000):
                got += more
            answers.append(got)
    answers, threads = [], [threading.Thread(target=one) for _ in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return answers


def connections(session, port):
    """net.open and net.close of the server's connections, with what went through them, by channel."""
    opens, closes = {}, {}
    for line in session.raw("events.json"):
        body = line.get("body", {})
        if line.get("type") != "evt" or body["source"] not in ("net.open", "net.close"):
            continue
        data, to = body["data"], opens if body["source"] == "net.open" else closes
        if data.get("net_host_port") == port:
            check(line["_channel"] not in to, "told twice", body)
            to[line["_channel"]] = (data.get("net_bytes_recv"), data.get("net_bytes_sent"))
    return opens, closes


def listens(port):
    with open("/proc/net/tcp", encoding="ascii") as f:
        return f":{port:04X} 00000000:0000 0A" in f.read()


def exchange(ctx, name, both=(), take=(), give=()):
    """Runs taker and giver: both by one command, or each by its own; the session that there is, and the port."""
    port, path = free_port(), ctx.dir / f"{name}.sock"
    commands = [[*take, PYTHON, "-c", TAKE, path], [*give, PYTHON, "-c", GIVE, path, port]]
    if both:
        commands = [[*both, "sh", "-c", "\"$1\" -c \"$2\" \"$4\" & \"$1\" -c \"$3\" \"$4\" \"$5\"; wait", "sh", PYTHON, TAKE,
                     GIVE, path, port]]
    before = set(ctx.sessions())
    processes = [ctx.start(c) for c in commands]
    ctx.wait_for(lambda: listens(port), "the giver listens", 30)
    equal(ask(port), [ANSWER] * COUNT, "answers")
    equal([p.wait(20) for p in processes], [0] * len(processes), "statuses")
    session, = (Session(ctx, s) for s in set(ctx.sessions()) - before)
    session.wait_end()
    nothing_lost(session)
    return session, port


@test("passed-on", timeout=90)
def passed_on(ctx):
    """From one observed process to another."""
    session, port = exchange(ctx, "both", both=ctx.scope_argv([], ["--lossless"]))
    opens, closes = connections(session, port)
    equal(len(opens), COUNT, "net.open")
    equal(sorted(closes.values()), [WHOLE] * COUNT, "net.close")
    equal(opens.keys(), closes.keys(), "channels")
    equal(len(session.events(source="http.resp", sync=False)), COUNT, "http.resp")


@test("passed-out-of-sight", timeout=90)
def passed_out_of_sight(ctx):
    """Only the one that accepts is observed, or only the one that answers: each tells what it has seen."""
    session, port = exchange(ctx, "give", give=ctx.scope_argv([], ["--lossless"]))
    opens, closes = connections(session, port)
    equal((len(opens), list(closes.values())), (COUNT, [(0, 0)] * COUNT), "connections of the giver")
    equal(opens.keys(), closes.keys(), "channels")
    session, port = exchange(ctx, "take", take=ctx.scope_argv([], ["--lossless"]))
    opens, closes = connections(session, port)
    equal((len(opens), list(closes.values())), (0, [WHOLE] * COUNT), "connections of the taker")
    equal(len(session.events(source="http.resp", sync=False)), COUNT, "http.resp")


@test("node-cluster", timeout=90)
def node_cluster(ctx):
    """Node's workers get their connections from the primary process, which has accepted them."""
    port, count = free_port(), 20
    program, both = ctx.dir / "cluster.js", ctx.dir / "both"
    program.write_text(f"""
        const cluster = require("cluster"), http = require("http");
        cluster.schedulingPolicy = cluster.SCHED_RR;
        if (cluster.isPrimary) {{
            const workers = [cluster.fork(), cluster.fork()];
            let listen = 0; // a worker that isn't there yet gets no connections
            cluster.on("listening", () => {{ if (++listen == 2) require("fs").writeFileSync("{both}", ""); }});
            process.on("SIGTERM", () => cluster.disconnect(() => process.exit(0)));
        }} else {{
            http.createServer((q, a) => {{ a.sendDate = false; a.setHeader("Connection", "close"); a.end("hi\\n"); }})
                .listen({port}, "127.0.0.1");
        }}""")
    with server(ctx, [ctx.tool("node"), program], port, ["--lossless"], stop=signal.SIGTERM,
                ready=lambda p: listens(p) and both.exists()) as session:
        answers = ask(port, count)
    nothing_lost(session)
    size, = {len(a) for a in answers}
    opens, closes = connections(session, port)
    equal(len(opens), count, "net.open")
    equal(Counter(closes.values()), {(len(REQUEST), size): count}, "net.close")
    equal(opens.keys(), closes.keys(), "channels")
    pids = {e["pid"] for e in session.events(source="http.resp", sync=False)}
    equal(len(session.events(source="http.resp", sync=False)), count, "http.resp")
    check(len(pids) == 2, "workers", pids)
