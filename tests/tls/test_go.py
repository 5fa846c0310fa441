# SPDX-License-Identifier: Apache-2.0
"""Plaintext of Go's crypto/tls. Truth is what a program says itself: the SHA-256 of all that its user has read and
written on each connection, at both ends (tests/go/tls)."""

import hashlib
import json
import socket
import ssl
from collections import Counter

from foreign import esbuild
from scopetest import Session, add_test, check, equal, test
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
    program = ctx.go_build("tls", variant)
    result = ctx.scoped([program, "streams", connections, 48, *options], ["--payloads", "--lossless"], env=ctx.env(**BUSY), check_code=0)
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


@test("go_http", arch="x86_64")
def http(ctx):
    """Server and client, both versions of HTTP: each request is told at both ends, once."""
    program, count = ctx.go_build("tls", "static"), 100
    before = set(ctx.sessions())
    server = start(ctx, [program, "serve"], env=BUSY)
    port = int(server.stdout.readline())
    (number,) = set(ctx.sessions()) - before
    url = f"https://127.0.0.1:{port}"
    result = ctx.scoped([program, "get", url, count], ["--lossless"], env=ctx.env(**BUSY), check_code=0)
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
