# SPDX-License-Identifier: Apache-2.0
"""Plaintext of Go's crypto/tls. Truth is what a program says itself: the SHA-256 of all that its user has read and
written on each connection, at both ends (tests/go/tls)."""

import contextlib
import hashlib
import json
import socket
import ssl
import subprocess
import threading
from collections import Counter

from attaching import attach, detach
from foreign import esbuild, program
from scopetest import Failure, Session, add_test, check, equal, test
from tlsopinion import add_opinions
from tlsscale import scale
from tlstest import WANTED, certificate, finish, free_port, listens, start

# Buffers and stacks move all the time.
BUSY = {"GOGC": "1"}


def flows_of(session):
    """By the addresses of both ends: what was kept of (in, out), and how many pieces are missing."""
    directory = session.dir / "payloads"
    flows, gaps = {}, Counter()
    for line in (directory / "index.ndjson").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if entry["type"] == "flow":
            ends = [f"{entry['net_%s_ip' % end]}:{entry['net_%s_port' % end]}" for end in ("host", "peer")]
            check(entry["tls"], "a connection whose plaintext is not known", entry)
            check(tuple(ends) not in flows, "two flows of one connection", entry)
            flows[tuple(ends)] = [directory / entry[f"{way}_file"] for way in ("in", "out")]
        elif entry["type"] == "gap":
            gaps[entry["flow"]] += 1
    equal(gaps, Counter(), "gaps")
    return flows


def streams(ctx, variant, connections, *options):
    tls = ctx.go_build("tls", variant)
    result = ctx.scoped([tls, "streams", connections, 48, *options], ["--payloads", "--lossless"], env=ctx.env(**BUSY), check_code=0)
    result.session.wait_end()
    equal(result.err, b"", "standard error")
    flows = flows_of(result.session)
    lines = [line.split() for line in result.out.decode().splitlines()]
    equal(len(lines), 2 * connections, "ends of connections")
    for here, there, *rest in lines:
        for file, size, truth in zip(flows.pop((here, there)), (rest[1], rest[4]), (rest[2], rest[5])):
            got = file.read_bytes() if file.exists() else b""
            equal((len(got), hashlib.sha256(got).hexdigest()), (int(size), truth), f"{file.name}: bytes and hash")
    equal(flows, {}, "flows of other connections")


for _variant in ("static", "static-stripped", "pie", "cgo-stripped", "cgo-external-pie", "cgo-static"):
    add_test("tls", f"go_streams-{_variant}", lambda ctx, v=_variant: streams(ctx, v, 24), arch="x86_64")
add_test("tls", "go_streams-tls12", lambda ctx: streams(ctx, "static", 24, "tls12"), arch="x86_64")
add_test("tls", "go_panics", lambda ctx: streams(ctx, "static", 40, "panics"), arch="x86_64")
add_test("tls", "go_profile", lambda ctx: streams(ctx, "static", 40, "profile"), arch="x86_64")


@test("go_mapped", arch="x86_64")
def mapped(ctx):
    """Memory that is gone when Write returns is told all the same."""
    result = ctx.scoped([ctx.go_build("tls", "static"), "mapped"], ["--payloads", "--lossless"], check_code=0)
    result.session.wait_end()
    equal((result.out.split()[:1], result.err), ([b"ok"], b""), "output")
    port = int(result.out.rpartition(b":")[2])
    lines = [json.loads(line) for line in (result.session.dir / "payloads/index.ndjson").read_text(encoding="utf-8").splitlines()]
    flow, = [x for x in lines if x["type"] == "flow" and x.get("net_host_port") == port and x["tls"]]
    want = b"".join(bytes([ord("a") + i % 26]) * 8000 for i in range(400))
    equal((result.session.dir / "payloads" / flow["out_file"]).read_bytes(), want, "bytes")
    equal(result.session.lost(), {}, "losses")


@test("go_blocked", arch="x86_64")
def blocked(ctx):
    """A Write that had begun before attaching is counted; what comes behind it is told."""
    process = subprocess.Popen([ctx.go_build("tls", "static"), "blocked"], env=ctx.env(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, start_new_session=True)
    ctx.started.append(process)
    equal(process.stdout.readline(), b"writing\n", "first line")
    session = attach(ctx, process.pid, "--payloads", "--lossless").session
    process.stdin.write(b"\n")
    process.stdin.flush()
    equal(process.stdout.readline(), b"done\n", "second line")
    process.stdin.close()
    equal((process.wait(ctx.left()), process.stderr.read()), (0, b""), "its end")
    session.wait_end()
    equal(session.lost().get("data"), 32 << 20, "counted")
    sent = [f.read_bytes() for f in session.dir.glob("payloads/*.out")]
    check(b"after" in sent, "what comes behind", [s[:20] for s in sent])


@test("go_http", arch="x86_64")
def http(ctx):
    """Server and client, both versions of HTTP: each request is told at both ends, once."""
    tls, count = ctx.go_build("tls", "static"), 100
    before = set(ctx.sessions())
    server = start(ctx, [tls, "serve"], env=BUSY)
    port = int(server.stdout.readline())
    (number,) = set(ctx.sessions()) - before
    url = f"https://127.0.0.1:{port}"
    result = ctx.scoped([tls, "get", url, count], ["--lossless"], env=ctx.env(**BUSY), check_code=0)
    equal(result.out, b"ok %d\n" % count, "answers")
    finish(ctx, server, "the server")
    want = Counter(f"/{i}" for i in range(count))
    for session, peer in ((result.session, "net_peer_port"), (Session(ctx, number), "net_host_port")):
        session.wait_end()
        for source in ("http.req", "http.resp"):
            told = [e["data"] for e in session.events(source=source, sync=False)]
            equal(Counter(d["http_target"] for d in told), want, f"{source}: targets")
            equal({(d["http_scheme"], d[peer]) for d in told}, {("https", port)}, f"{source}: scheme and port")
            equal(Counter(d["http_flavor"] for d in told), {"1.1": count // 2, "2.0": count // 2}, f"{source}: versions")
        equal({e["data"].get("tls_plaintext") for e in session.events(source="net.app", sync=False)} - {None}, {"go"}, "the way")


def asked(port, count, size):
    """A connection to a server of HTTP/1.1: its port here, and all that was sent and received."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    sent = received = b""
    with context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=20)) as s:
        here = s.getsockname()[1]
        for _ in range(count):
            request = b"GET /big.txt HTTP/1.1\r\nHost: localhost\r\n\r\n"
            s.sendall(request)
            sent, answer = sent + request, b""
            while b"\r\n\r\n" not in answer or len(answer.partition(b"\r\n\r\n")[2]) < size:
                more = s.recv(65536)
                check(more, "the server has ended the connection", answer[-200:])
                answer += more
            received += answer
        s.unwrap()
    return here, sent, received


def released(ctx, release):
    """A server that others have built, with a later release of Go: what it got and sent is what the other side says."""
    (ctx.dir / "www").mkdir()
    (ctx.dir / "www/big.txt").write_bytes(b"0123456789abcdef\n" * 2000)
    cert, key = certificate(ctx)
    port = free_port()
    server = start(ctx, [esbuild(release), f"--serve=127.0.0.1:{port}", "--servedir=www", f"--certfile={cert}",
                         f"--keyfile={key}"], env=dict(WANTED, **BUSY))
    ctx.wait_for(lambda: server.poll() is not None or listens(port), "the server")
    want = {}
    for _ in range(4):
        here, *bytes_ = asked(port, 5, 34000)
        want[here] = bytes_
    finish(ctx, server, "esbuild")
    session = ctx.session()
    session.wait_end()
    flows = {int(there.rpartition(":")[2]): files for (_, there), files in flows_of(session).items()}
    equal(sorted(flows), sorted(want), "connections")
    for here, files in flows.items():
        equal([f.read_bytes() == b for f, b in zip(files, want[here])], [True, True], f"connection {here}: received, sent")


for _release in ("go1.20", "go1.22", "go1.23", "go1.26-stripped"):
    add_test("tls", f"go_{_release}", lambda ctx, r=_release: released(ctx, r), arch="x86_64")


class Client:
    """A connection that is kept; each request has a name of its own."""

    def __init__(self, port):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.socket = context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=20))

    def ask(self, name, body=b"hello"):
        self.socket.sendall(f"POST /{name} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = b""
        while not answer.endswith(body.upper()):
            more = self.socket.recv(65536)
            check(more, f"{name}: the server has ended the connection", answer[-200:])
            answer += more
        check(answer.startswith(b"HTTP/1.1 200 "), f"{name}: no answer", answer[:200])
        return f"/{name}"


@contextlib.contextmanager
def load(port, connections):
    """Requests all the time, none of which may fail; every now and then over a new connection."""
    over, failed = threading.Event(), []

    def run(number):
        try:
            while not over.is_set():
                client = Client(port)
                for i in range(40):
                    client.ask(f"load/{number}/{i}", bytes([97 + i % 26]) * (1 + i * 37 % 3000))
                    if over.wait(0.01):
                        break
                client.socket.close()
        except (Failure, OSError) as e:
            failed.append(e)
    threads = [threading.Thread(target=run, args=(i,)) for i in range(connections)]
    for t in threads:
        t.start()
    try:
        yield
    finally:
        over.set()
        for t in threads:
            t.join()
    equal(failed, [], "failed requests")


def attached(ctx, variant, times):
    """What passes between attaching and detaching is told, from the first request on: over connections on which the server
    waits since before, and over new ones."""
    with open(ctx.dir / "said", "wb") as said:
        server = subprocess.Popen([ctx.go_build("tls", variant), "serve"], env=ctx.env(**BUSY), stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, stderr=said, start_new_session=True)
    ctx.started.append(server)
    port = int(server.stdout.readline())
    old = [Client(port) for _ in range(3)]
    with load(port, 3):
        for turn in range(times):
            for i, c in enumerate(old):
                c.ask(f"before/{turn}/{i}")
            session = attach(ctx, server.pid, "--lossless").session
            want = [c.ask(f"in/{turn}/old{i}/{k}") for k in range(2) for i, c in enumerate(old)]
            new = Client(port)
            want += [new.ask(f"in/{turn}/new/{k}") for k in range(2)]
            told = json.loads(ctx.tool_run("inspect", server.pid).out)["tls"]
            equal([(w["way"], w["functions"], w["hooked"]) for w in told["ways"]], [("go", 2, 2)], "ways that inspect tells")
            equal((told["seen"], "not_read" in told), (["go"], False), "inspect")
            detach(ctx, server.pid)
            session.wait_end()
            new.ask(f"after/{turn}")
            for source in ("http.req", "http.resp"):
                told = [e["data"]["http_target"] for e in session.events(source=source, sync=False)]
                equal(sorted(t for t in told if t.startswith("/in/")), sorted(want), f"{source}, turn {turn}")
                equal([t for t in told if t.startswith(("/before/", "/after/"))], [], f"{source} of other times")
    server.stdin.close()
    equal(server.wait(20), 0, "the server's end")
    equal((ctx.dir / "said").read_bytes(), b"", "what the server has said")


for _variant in ("static", "cgo-external-pie"):
    add_test("tls", f"go_attach-{_variant}", lambda ctx, v=_variant: attached(ctx, v, 4), arch="x86_64")


# What the planner finds: in each release all that the program uses of these, hooked, also in processes that run.
BOTH = ["client_handshake", "close", "read", "server_handshake", "write"]
CLIENT = [f for f in BOTH if f != "server_handshake"]
PLANNED = {("esbuild", "go1.15"): ([], ""), ("esbuild", "go1.16"): (CLIENT, ", on the stack"), ("esbuild", "go1.17"): (CLIENT, ""),
           ("esbuild", "go1.20"): (BOTH, ""), ("esbuild", "go1.22"): (BOTH, ""), ("esbuild", "go1.23"): (BOTH, ""),
           ("esbuild", "go1.26-stripped"): (BOTH, ""), ("lefthook", "go1.27"): (CLIENT, ""), ("tsgo", "go1.26"): ([], "")}


@test("go_planned", arch="x86_64")
def planned(ctx):
    """A release of Go that compiles these functions otherwise is noticed here."""
    explain = ctx.built("src/plan/plan-explain")
    paths = {"tsgo": "lib/tsgo"}
    files = {(name, release): (program(f"{name}-{release}", paths.get(name, f"bin/{name}")), *want)
             for (name, release), want in PLANNED.items()}
    files["tls", "static"] = ctx.go_build("tls", "static"), BOTH, ""
    for what, (path, functions, convention) in files.items():
        lines = ctx.run([explain, path], check_code=0, timeout=60).out.decode().splitlines()
        told = sorted(" ".join(line.split()[1:]) for line in lines if " go_tls_" in line)
        equal(told, [f"go_tls_{f} function go{convention}{', arguments kept' if f == 'read' else ''}" for f in functions], what)


def asks(ctx):
    program = ctx.go_build("tls", "static")
    return lambda port: [program, "get", f"https://127.0.0.1:{port}", 40]


# The half of the clients that wants HTTP/2 gets HTTP/1.1.
add_opinions("go", "go", 2, asks, rb"^ok 20\n$", arch="x86_64")

add_test("tls", "scale-go", lambda ctx: scale(ctx, [ctx.go_build("tls", "static"), "serve"]), timeout=120, arch="x86_64")
