# SPDX-License-Identifier: Apache-2.0
"""Plaintext of Go's crypto/tls. Truth is what a program says itself: the SHA-256 of all that its user has read and
written on each connection, at both ends (tests/go/tls)."""

import hashlib
import json
from collections import Counter

from scopetest import Session, add_test, check, equal, test
from tlstest import finish, start

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
