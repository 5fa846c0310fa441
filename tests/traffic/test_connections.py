# SPDX-License-Identifier: Apache-2.0
"""Connections that are hard to follow: shared by processes and threads, whose
numbers are used again, whose keys change, and which nobody has looked at yet.
"""

import os
import select
import signal
import socket
import subprocess
from collections import Counter
from pathlib import Path

from scopetest import Session, check, equal, test
from traffic import PYTHON, asked, certificate, exchanges, free_port, nothing_lost, running, server, told

HERE = Path(__file__).resolve().parent
EXACT = ["--lossless"]


def compare(ctx, program, count):
    """A Python program that gets the ports of two servers, one of them with TLS. What they were asked is what it tells,
    with the right scheme and port each."""
    secure, plain, logs = free_port(), free_port(), [ctx.dir / "secure", ctx.dir / "plain"]
    for log in logs:
        log.touch()
    with running(ctx, [PYTHON, HERE / "https.py", secure, *certificate(ctx), logs[0]], secure, output="secure.out"), \
            running(ctx, [PYTHON, HERE / "server.py", "threads", plain, logs[1]], plain, output="plain.out"):
        result = ctx.scoped([PYTHON, "-c", COMMON + program, secure, plain], EXACT, check_code=0)
    both = [asked(log) for log in logs]
    equal(sum(map(Counter.total, both)), count, "requests in the logs")
    equal(told(result.session), both[0] + both[1], "exchanges")
    for e in result.session.events(source="http.resp", sync=False):
        d = e["data"]
        equal(d["net_peer_port"], secure if d["http_scheme"] == "https" else plain, f"port of {d}")
    equal(sum(e["data"]["http_scheme"] == "https" for e in result.session.events(source="http.resp", sync=False)),
          both[0].total(), "answers over TLS")
    return result.session


COMMON = """
import http.client, os, socket, ssl, sys, threading
secure, plain = int(sys.argv[1]), int(sys.argv[2])
context = ssl._create_unverified_context()
def connect(port):
    if port == plain:
        return http.client.HTTPConnection("127.0.0.1", port)
    return http.client.HTTPSConnection("127.0.0.1", port, context=context)
def ask(c, target):
    c.request("GET", target)
    return c.getresponse().read()
"""

FORK = """
mine, childs = connect(secure), connect(secure)
for i in range(3):
    ask(mine, f"/before/{i}")
    ask(childs, f"/childs/before/{i}")
pid = os.fork()
if pid == 0:
    for i in range(300):                 # many enough for a segment of its own
        ask(childs, f"/child/{i}")
    os._exit(0)
for i in range(30):
    ask(mine, f"/parent/{i}")
assert os.waitpid(pid, 0)[1] == 0
childs.sock.detach()                     # its keys are the child's by now
for i in range(3):
    ask(mine, f"/after/{i}")
"""


@test("tls-after-fork")
def tls_after_fork(ctx):
    """A child goes on with one connection of TLS, the parent with another."""
    session = compare(ctx, FORK, 6 + 300 + 30 + 3)
    pids = {}
    for e in session.events(source="http.resp", sync=False):
        pids.setdefault(e["data"]["http_target"].split("/")[1], set()).add(e["pid"])
    check(pids["child"].isdisjoint(pids["parent"]) and pids["after"] == pids["parent"] == pids["before"], "processes", pids)


SHARED = """
shared, lock = connect(secure), threading.Lock()
def work(number):
    own = connect(secure)
    for i in range(20):
        with lock:
            ask(shared, f"/shared/{number}/{i}")
        ask(own, f"/own/{number}/{i}")
threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
for t in threads: t.start()
for t in threads: t.join()
"""


@test("tls-in-threads")
def tls_in_threads(ctx):
    """Eight threads take turns on one connection of TLS, beside their own."""
    session = compare(ctx, SHARED, 320)
    ports = {e["data"]["net_host_port"] for e in session.events(source="http.resp", sync=False)
             if e["data"]["http_target"].startswith("/shared")}
    equal(len(ports), 1, "connections that are shared")


REUSED = """
number = None
for i in range(60):
    c = connect((secure, plain)[i % 3 == 2])
    ask(c, f"/first/{i}")
    ask(c, f"/second/{i}")
    number = number or c.sock.fileno()
    assert c.sock.fileno() == number
    c.close()                            # the next one has the same number, and maybe the same SSL object
one, other = connect(secure), connect(plain)
for c in one, other:
    ask(c, "/kept")
os.dup2(other.sock.fileno(), one.sock.fileno())  # without a word to the library
other.sock.detach()
raw = socket.socket(fileno=os.dup(one.sock.fileno()))
other.sock = raw
ask(other, "/moved")
os.close(one.sock.detach())
"""


@test("numbers-used-again")
def numbers_used_again(ctx):
    """Descriptors that are closed and used again at once, by TLS and without, by open(2) and dup2(2)."""
    compare(ctx, REUSED, 123)


@test("tls-server-forks")
def tls_server_forks(ctx):
    """A server that accepts, and a child that speaks TLS, for each connection."""
    port, log = free_port(), ctx.dir / "requests"
    log.touch()
    with server(ctx, [PYTHON, HERE / "https.py", port, *certificate(ctx), log, "forks"], port, EXACT) as session:
        program = COMMON + "for i in range(8):\n    c = connect(secure)\n    for k in range(20):\n        ask(c, f'/{i}/{k}')\n"
        ctx.run([PYTHON, "-c", program, port, 0], check_code=0)
    nothing_lost(session)
    equal(asked(log).total(), 160, "requests in its log")
    equal(exchanges(session, "server"), asked(log), "exchanges")
    answers = session.events(source="http.resp", sync=False)
    equal(len({e["pid"] for e in answers}), 8, "processes")
    for e in answers:
        equal((e["data"]["http_scheme"], e["data"]["net_host_port"]), ("https", port), "scheme and port")


class Typed:
    """A program under observation that is typed to, and whose output is read up to a text."""

    def __init__(self, ctx, argv):
        before = set(ctx.sessions())
        self.ctx = ctx
        self.process = subprocess.Popen(ctx.scope_argv(argv, EXACT), cwd=ctx.dir, env=ctx.env(), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
        ctx.started.append(self.process)
        new, = ctx.wait_for(lambda: set(ctx.sessions()) - before, "its session")
        self.session = Session(ctx, new)
        self.got = b""

    def type(self, data):
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def until(self, text):
        """What it prints up to the text, which is taken."""
        while text not in self.got:
            ready, _, _ = select.select([self.process.stdout], [], [], self.ctx.left() - 1)
            more = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            check(more, f"{text} never came", self.got[-2000:])
            self.got += more
        before, _, self.got = self.got.partition(text)
        return before

    def end(self, role):
        self.process.stdin.close()
        self.process.terminate()
        self.process.wait(10)
        self.session.wait_end()
        nothing_lost(self.session)
        return exchanges(self.session, role)


def rekeyed(ctx, version, commands):
    """s_client and s_server, with a request and an answer between commands: (who gets it, command, who prints what then)."""
    port, (cert, key) = free_port(), certificate(ctx)
    both = {"server": Typed(ctx, [ctx.tool("openssl"), "s_server", "-4", "-accept", port, "-cert", cert, "-key", key, version,
                                  "-client_renegotiation"])}
    both["server"].until(b"ACCEPT")
    both["client"] = Typed(ctx, ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", version, "-msg"])
    both["server"].until(b"CIPHER is")
    want = Counter()
    for i, (who, command, printer, message) in enumerate([*commands, (None, None, None, None)]):
        for sender, receiver, text in (("client", "server", f"GET /{i} HTTP/1.1\nHost: h\n\n".replace("\n", "\r\n")),
                                       ("server", "client", f"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nanswer {i}.\n")):
            both[sender].type(text.encode())
            both[receiver].until(text.strip().encode()[-12:])
        want["GET", f"/{i}", "200"] += 1
        if command:
            both[who].type(command)
            both[printer].until(message)
    for role in ("client", "server"):
        equal(both[role].end(role), want, f"what the {role} told")


@test("tls-renegotiated", timeout=15)
def tls_renegotiated(ctx):
    rekeyed(ctx, "-tls1_2", [("client", b"R\n", "client", b"RENEGOTIATING"), ("server", b"r\n", "client", b"HelloRequest"),
                             ("client", b"R\n", "client", b"RENEGOTIATING")])


@test("tls-keys-updated", timeout=15)
def tls_keys_updated(ctx):
    rekeyed(ctx, "-tls1_3", [(who, command, "client", b"KeyUpdate") for who in ("client", "server") for command in (b"k\n", b"K\n")])


EARLY = """
c = connect(plain)
c.connect()
print("ready", flush=True)
sys.stdin.readline()
ask(c, "/half")  # fits into the ring, and is more than is kept of a connection that nobody knows
for i in range(5):
    ask(c, f"/small/{i}")
print("done", flush=True)
sys.stdin.readline()
"""


@test("before-it-is-recognised")
def before_it_is_recognised(ctx):
    """Who may make the program wait has all of a connection, however much passes before it is looked at first."""
    port, log = free_port(), ctx.dir / "requests"
    log.touch()
    with running(ctx, [PYTHON, HERE / "server.py", "threads", port, log], port):
        process = subprocess.Popen(ctx.scope_argv([PYTHON, "-c", COMMON + EARLY, 0, port], EXACT),
                                   cwd=ctx.dir, env=ctx.env(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   start_new_session=True)
        ctx.started.append(process)
        equal(process.stdout.readline(), b"ready\n", "its first line")
        session = ctx.session()
        collector = ctx.wait_for(session.collector_pid, "the collector")
        os.kill(collector, signal.SIGSTOP)
        try:
            process.stdin.write(b"\n")
            process.stdin.flush()
            equal(process.stdout.readline(), b"done\n", "its second line")
        finally:
            os.kill(collector, signal.SIGCONT)
        process.communicate(b"\n", timeout=20)
    equal(asked(log).total(), 6, "requests in the log")
    equal(told(session), asked(log), "exchanges")


MANY = """
kept = [connect(secure) for _ in range(300)]
for i, c in enumerate(kept):
    c.connect()
    c.sock.sendall(f"GET /many/{i} HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n".encode())
got = [b""] * len(kept)
while any(kept):
    for i, c in enumerate(kept):
        if c:
            got[i] += c.sock.recv(20)    # the library has the rest of what it got at once
            if got[i].endswith(b"\\r\\n\\r\\nHTTP/1.1 200 OK\\r\\n\\r\\n"):
                c.close()
                kept[i] = None
"""


@test("tls-many")
def tls_many(ctx):
    """Hundreds of connections in turn, most of whose reads need no call to the system."""
    compare(ctx, MANY, 300)


@test("go-threads", timeout=90)
def go_threads(ctx):
    """A client whose threads read and write the same connection: a response may be told before its request."""
    port, connections, each = free_port(), 20, 500
    user = "user root;" if os.geteuid() == 0 else ""
    temp = "".join(f"{k}_temp_path {ctx.dir}/t-{k};" for k in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (ctx.dir / "nginx.conf").write_text(f"""{user} daemon off; master_process off; pid {ctx.dir}/pid;
        error_log {ctx.dir}/error.log; events {{}}
        http {{ access_log off; {temp} keepalive_requests 100000;
            server {{ listen 127.0.0.1:{port}; location / {{ return 200 "answer"; }} }} }}""")
    want = Counter(("GET", f"/a?{i}-{k}", "200") for i in range(connections) for k in range(each))
    with running(ctx, [ctx.tool("nginx"), "-c", ctx.dir / "nginx.conf", "-e", ctx.dir / "error.log"], port):
        result = ctx.scoped([ctx.go_build("client"), f"http://127.0.0.1:{port}/a", connections, each], EXACT, check_code=0)
    equal(told(result.session), want, "exchanges")
    equal(sum(m["_value"] for m in result.session.metrics() if m["_metric"] == "http.req"), want.total(), "http.req of metrics")


def given(ctx, how):
    """Connections that one process accepts and another serves are told with their addresses."""
    result = ctx.scoped([PYTHON, HERE / "given.py", how], EXACT, check_code=0)
    port, *clients = map(int, result.out.split())
    result.session.wait_end()
    served = [e["data"] for e in result.session.events(source="http.resp", sync=False) if "http_server_duration" in e["data"]]
    equal(Counter((d["net_transport"], d["net_host_ip"], d["net_host_port"], d["net_peer_ip"], d["net_peer_port"],
                   d["http_target"]) for d in served),
          Counter(("IP.TCP", "127.0.0.1", port, "127.0.0.1", c, f"/{i}/{j}") for i, c in enumerate(clients) for j in range(2)),
          "what was served")
    nothing_lost(result.session)


@test("given-to-child")
def given_to_child(ctx):
    given(ctx, "fork")


@test("given-to-program")
def given_to_program(ctx):
    given(ctx, "exec")


@test("inetd")
def inetd(ctx):
    """A connection that somebody has accepted who isn't observed, as standard input and output."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        client.sendall(b"GET /once HTTP/1.1\r\nHost: here\r\n\r\n")
        with listener.accept()[0] as s:
            subprocess.run(ctx.scope_argv([PYTHON, HERE / "given.py", "once"], EXACT), stdin=s, stdout=s, env=ctx.env(),
                           timeout=60, check=True)
        check(client.recv(4096).endswith(b"given"), "no answer")
        ends = {"net_transport": "IP.TCP", "net_host_port": listener.getsockname()[1], "net_peer_port": client.getsockname()[1]}
    session = ctx.session()
    session.wait_end()
    equal(exchanges(session, "server"), Counter({("GET", "/once", "200"): 1}), "exchanges")
    response, = session.events(source="http.resp", sync=False)
    equal({k: response["data"].get(k) for k in ends}, ends, "ends")
