# SPDX-License-Identifier: Apache-2.0
"""Whose connection it is: programs that give OpenSSL memory for its transport (asyncio, Node) and carry the bytes to
sockets themselves. Every HTTP event must have the addresses that the other side knows."""

import json
import os
import re
import signal
import socket
import ssl
import sys
import threading

from scopetest import add_test, check, equal, test
from tlstest import certificate, finish, free_port, listens, start

PYTHON = os.path.realpath(sys.executable)
COUNT = 50
NO_PAYLOADS = {}

# All handshakes are under way together; two requests on each connection, the second in another order.
ASYNC_CLIENT = """
import asyncio, ssl, sys
async def ask(r, w, target):
    w.write(b"GET %s HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n" % target.encode())
    head = await r.readuntil(b"\\r\\n\\r\\n")
    await r.readexactly(int(head.lower().split(b"content-length: ")[1].split()[0]))
async def main(port, count):
    c = ssl._create_unverified_context()
    all = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", port, ssl=c) for _ in range(count)))
    await asyncio.gather(*(ask(*a, f"/first/{i}") for i, a in enumerate(all)))
    await asyncio.gather(*(ask(*a, f"/second/{i}") for i, a in reversed(list(enumerate(all)))))
    for _, w in all:
        w.close()
    for i in range(5):  # objects and descriptors are used again
        r, w = await asyncio.open_connection("127.0.0.1", port, ssl=c)
        await ask(r, w, f"/again/{i}")
        w.close()
asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
"""

# Later connections resume the session of those before.
NODE_CLIENT = """
const https = require("https"), [port, count] = process.argv.slice(1).map(Number);
const ask = (agent, path) => new Promise((done, fail) => https.get({port, host: "127.0.0.1", rejectUnauthorized: false, agent, path},
    r => { r.resume(); r.on("end", done); }).on("error", fail));
const all = (agent, name, n) => Promise.all([...Array(n).keys()].map(i => ask(agent, `/${name}/${i}`)));
(async () => {
    const kept = new https.Agent({keepAlive: true}), once = new https.Agent({keepAlive: false});
    await all(kept, "first", count);
    await all(kept, "second", count);
    kept.destroy();
    for (let i = 0; i < 5; i++) await ask(once, `/again/${i}`);
})();
"""

ASYNC_SERVER = """
import asyncio, ssl, sys
async def serve(r, w):
    try:
        while True:
            await r.readuntil(b"\\r\\n\\r\\n")
            w.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 6\\r\\n\\r\\nanswer")
    except (asyncio.IncompleteReadError, ConnectionError):
        w.close()
async def main():
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    c.load_cert_chain(sys.argv[1], sys.argv[2])
    await (await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[3]), ssl=c)).serve_forever()
asyncio.run(main())
"""


NODE_SERVER = """
const fs = require("fs");
require("https").createServer({cert: fs.readFileSync(process.argv[1]), key: fs.readFileSync(process.argv[2])},
    (q, r) => { r.setHeader("Content-Length", 6); r.end("answer"); }).listen(+process.argv[3], "127.0.0.1");
"""


def nginx(ctx, curve):
    """A server that says from which port each request came; returns its port and the log. With secp384r1 it answers
    clients that offer a share of X25519 only with a HelloRetryRequest."""
    cert, key = certificate(ctx)
    port, log, conf = free_port(), ctx.dir / "requests", ctx.dir / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    conf.write_text(f"""
        {user} daemon off; master_process off; pid {ctx.dir}/pid; error_log {ctx.dir}/error.log;
        events {{}}
        http {{ log_format ports '$remote_port $uri $ssl_session_reused'; access_log {log} ports;
            client_body_temp_path {ctx.dir}/body; proxy_temp_path {ctx.dir}/proxy; fastcgi_temp_path {ctx.dir}/f;
            uwsgi_temp_path {ctx.dir}/u; scgi_temp_path {ctx.dir}/s;
            server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {cert}; ssl_certificate_key {key};
                ssl_ecdh_curve {curve}; ssl_protocols TLSv1.2 TLSv1.3;
                location / {{ return 200 "{'answer ' * 500}"; }} }} }}""")
    ctx.start([ctx.tool("nginx"), "-c", conf, "-e", ctx.dir / "error.log"])
    ctx.wait_for(lambda: listens(port), "the server")
    return port, log


def addresses(session, ours, theirs, server_port):
    """Of each request and response: its target, with the port of the client; the other port must be the server's.
    ours, theirs: which field says which."""
    found = {"http.req": [], "http.resp": []}
    for source, list_ in found.items():
        for e in session.events(source=source, sync=False):
            data = e["data"]
            equal((data.get("net_transport"), data.get("net_peer_ip"), data.get("net_host_ip"), data.get(ours)),
                  ("IP.TCP", "127.0.0.1", "127.0.0.1", server_port), f"addresses of {source} {data.get('http_target')}")
            list_.append((data["http_target"], data[theirs]))
    return sorted(found["http.req"]), sorted(found["http.resp"])


def client(ctx, argv, curve="X25519", resumes=False):
    port, log = nginx(ctx, curve)
    result = ctx.scoped([*argv, port, COUNT], ["--payloads", "--lossless"], check_code=0)
    result.session.wait_end()
    lines = [line.split() for line in log.read_text(encoding="ascii").splitlines()]
    want = sorted((target, int(client_port)) for client_port, target, _ in lines)
    equal(len(want), 2 * COUNT + 5, "requests in the server's log")
    equal(len({p for _, p in want}), COUNT + 5, "connections")
    equal({r for _, t, r in lines if "/again/" in t}, {"r", "."} if resumes else {"."}, "resumption")
    requests, responses = addresses(result.session, "net_peer_port", "net_host_port", port)
    equal(requests, want, "requests")
    equal(responses, want, "responses")
    for e in result.session.events(source="http.req", sync=False):
        equal(e["data"]["http_scheme"], "https", "scheme")
    index = (result.session.dir / "payloads/index.ndjson").read_text(encoding="utf-8")
    flows = [f for f in map(json.loads, index.splitlines()) if f["type"] == "flow"]
    equal({(f["net_peer_port"], f["net_host_port"], f["tls"]) for f in flows}, {(port, p, True) for _, p in want}, "flows")
    for f in (result.session.dir / "payloads").glob("*_*"):
        check(b"\x17\x03\x03" not in f.read_bytes(), f"{f.name}: ciphertext")


for _name, _argv, _how in [("asyncio", [PYTHON, "-c", ASYNC_CLIENT], {}),
                           ("asyncio-retry", [PYTHON, "-c", ASYNC_CLIENT], {"curve": "secp384r1"}),
                           ("node", ["node", "-e", NODE_CLIENT], {"resumes": True})]:
    add_test("tls", f"addresses-{_name}", lambda ctx, a=_argv, h=_how: client(ctx, [ctx.tool(a[0]), *a[1:]], **h))


def server(ctx, argv):
    """All clients connect before any of them asks; each asks twice."""
    cert, key = certificate(ctx)
    port = free_port()
    process = start(ctx, [*argv, cert, key, port], env=NO_PAYLOADS)
    ctx.wait_for(lambda: process.poll() is not None or listens(port), "the server")
    context = ssl._create_unverified_context()
    want, errors = [], []
    together = threading.Barrier(COUNT)

    def ask(i):
        try:
            with context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=30)) as s:
                together.wait(30)
                for turn in ("first", "second"):
                    s.sendall(b"GET /%s/%d HTTP/1.1\r\nHost: x\r\n\r\n" % (turn.encode(), i))
                    got = b""
                    while b"\r\n\r\n" not in got or len(got.partition(b"\r\n\r\n")[2]) < length(got):
                        more = s.recv(65536)
                        check(more, "hung up", got[-100:])
                        got += more
                    want.append((f"/{turn}/{i}", s.getsockname()[1]))
        except Exception as e:  # any is the test's
            errors.append(e)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(COUNT)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    equal(errors, [], "errors of clients")
    session = ctx.session()
    # A client has an answer before the server's call has returned: then it must not be ended yet.
    ctx.wait_for(lambda: len(session.events(source="http.resp")) >= len(want), "all responses", 20, 0.2)
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=ctx.left())
    session.wait_end()
    requests, responses = addresses(session, "net_host_port", "net_peer_port", port)
    equal(requests, sorted(want), "requests")
    equal(responses, sorted(want), "responses")


def length(got):
    """Of the answer's body."""
    chunked = re.search(rb"(?i)transfer-encoding: *chunked", got)
    check(not chunked, "its answers have no length", got[:300])
    return int(re.search(rb"(?i)content-length: *(\d+)", got)[1])


for _name, _argv in [("asyncio-server", [PYTHON, "-c", ASYNC_SERVER]), ("node-server", ["node", "-e", NODE_SERVER])]:
    add_test("tls", f"addresses-{_name}", lambda ctx, a=_argv: server(ctx, [ctx.tool(a[0]), *a[1:]]))


@test("attach-memory", timeout=90)
def attach_memory(ctx):
    """A connection that was there before, and one that comes after. Of the first the addresses aren't known, but what
    it carries through its socket is no payload."""
    cert, key = certificate(ctx)
    port = free_port()
    process = ctx.start([ctx.tool(PYTHON), "-c", ASYNC_SERVER, cert, key, port])
    ctx.wait_for(lambda: listens(port), "the server")
    context = ssl._create_unverified_context()

    def ask(s, target):
        s.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % target)
        got = b""
        while not got.endswith(b"\r\n\r\nanswer"):
            more = s.recv(65536)
            check(more, "hung up", got[-100:])
            got += more

    with context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=30)) as old:
        ask(old, b"/before")
        ctx.run([ctx.scope, "attach", "--payloads", "--lossless", process.pid], check_code=0, env=ctx.env())
        for i in range(20):
            ask(old, b"/old/%d" % i)
        with context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=30)) as new:
            ask(new, b"/new")
            new_port = new.getsockname()[1]
    session = ctx.session()
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=ctx.left())
    session.wait_end()
    found = [(e["data"]["http_target"], e["data"].get("net_peer_port")) for e in session.events(source="http.req", sync=False)]
    equal(found, [(f"/old/{i}", None) for i in range(20)] + [("/new", new_port)], "requests")
    files = list((session.dir / "payloads").glob("*_*"))
    check(any(b"GET /old/0 " in f.read_bytes() for f in files), "plaintext of the old connection")
    for f in files:
        check(b"\x17\x03\x03" not in f.read_bytes(), f"{f.name}: ciphertext")
