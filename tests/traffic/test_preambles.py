# SPDX-License-Identifier: Apache-2.0
"""HTTP behind something else on the same connection: the header of the PROXY protocol, SOCKS, what nobody knows."""

import os
import signal
import socket
from collections import Counter
from pathlib import Path

from scopetest import check, equal, test
from traffic import CURL, PYTHON, asked, certificate, exchanges, free_port, listening, nothing_lost, running, server, urls

HERE = Path(__file__).resolve().parent
CLIENT = "127.0.0.9" # of curl, as nobody else here


def apps(session, protocol):
    return [e["data"] for e in session.events(source="net.app", sync=False) if e["data"]["protocol"] == protocol]


def client_of(session, protocol=None):
    """How many requests of a session came from whom, as far as they say."""
    return Counter((e["data"].get("http_client_ip"), e["data"].get("net_client_ip"), "net_client_port" in e["data"])
                   for e in session.events(source="http.req", sync=False)
                   if protocol is None or e["data"]["http_scheme"] == protocol)


@test("proxy-protocol", timeout=90)
def proxy_protocol(ctx):
    """HAProxy in front of nginx, by versions 1 and 2, plain and TLS: both know the client, as nginx itself does."""
    plain, secure, log = free_port(), free_port(), ctx.dir / "access"
    one, two, tls = free_port(), free_port(), free_port()
    cert, key = certificate(ctx)
    temp = "".join(f"{k}_temp_path {ctx.dir}/t-{k};" for k in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (ctx.dir / "nginx.conf").write_text(f"""{"user root;" if os.geteuid() == 0 else ""} daemon off; master_process off;
        pid {ctx.dir}/pid; error_log {ctx.dir}/error.log; events {{}}
        http {{ log_format short '$request_method $request_uri $status $proxy_protocol_addr'; access_log {log} short; {temp}
            server {{ listen 127.0.0.1:{plain} proxy_protocol; listen 127.0.0.1:{secure} ssl http2 proxy_protocol;
                      ssl_certificate {cert}; ssl_certificate_key {key}; location / {{ return 200 "yes\\n"; }} }} }}""")
    (ctx.dir / "haproxy.cfg").write_text(f"""
defaults
    timeout connect 5s
    timeout client 20s
    timeout server 20s
    option http-ignore-probes
listen one
    mode http
    bind 127.0.0.1:{one}
    server n 127.0.0.1:{plain} send-proxy
listen two
    mode http
    bind 127.0.0.1:{two}
    server n 127.0.0.1:{plain} send-proxy-v2 proxy-v2-options unique-id,crc32c
listen tls
    mode tcp
    bind 127.0.0.1:{tls}
    server n 127.0.0.1:{secure} send-proxy-v2
""")
    nginx, haproxy = [ctx.tool("nginx"), "-c", ctx.dir / "nginx.conf", "-e", ctx.dir / "error.log"], \
        [ctx.tool("haproxy"), "-f", ctx.dir / "haproxy.cfg"]
    with server(ctx, nginx, plain, stop=signal.SIGQUIT, output="nginx.out") as behind, server(ctx, haproxy, one) as before:
        for port, scheme, how in ((one, "http", "--http1.1"), (two, "http", "--http1.1"), (tls, "https", "--http1.1"),
                                  (tls, "https", "--http2")):
            ctx.run([*CURL, "-k", "--interface", CLIENT, how, *urls(port, "/a", "/b", scheme=scheme)], check_code=0)
        ctx.wait_for(lambda: asked(log).total() == 8, "nginx's log")
    nothing_lost(behind)
    nothing_lost(before)
    equal({k[3] for k in asked(log)}, {CLIENT}, "the client as nginx has it")
    equal(Counter(k[:3] for k in asked(log).elements()), exchanges(behind, "server"), "what nginx was asked")
    equal(client_of(behind), {(CLIENT, CLIENT, True): 8}, "clients, by nginx")
    equal(Counter(a["proxy_version"] for a in apps(behind, "PROXY")), {1: 1, 2: 3}, "PROXY headers of nginx")
    equal({(a["net_client_ip"], a["proxy_host_ip"]) for a in apps(behind, "PROXY")}, {(CLIENT, "127.0.0.1")}, "in them")
    equal({e["data"].get("net_peer_ip") for e in behind.events(source="http.req", sync=False)}, {"127.0.0.1"}, "the proxy")
    ends = [e["data"].get("net_client_ip") for e in behind.events(source="net.close", sync=False)]
    equal(ends.count(CLIENT), 4, "net.close with a client")
    # HAProxy: what it was asked comes from the client itself, and what it asks goes behind a header of its own.
    equal(exchanges(before, "server", proxy=True), exchanges(before, "client", proxy=True), "what HAProxy passed on")
    equal(client_of(before), {(None, None, False): 4, (CLIENT, CLIENT, True): 4}, "clients, by HAProxy")
    equal(Counter(a["proxy_version"] for a in apps(before, "PROXY")), {1: 1, 2: 3}, "PROXY headers of HAProxy")


@test("proxy-protocol-client")
def proxy_protocol_client(ctx):
    """curl as a client that sends such a header itself."""
    port = free_port()
    with socket.create_server(("127.0.0.1", port)) as s:
        process = ctx.start(ctx.scope_argv(["curl", "-s", "--haproxy-protocol", f"http://127.0.0.1:{port}/x"]))
        c, _ = s.accept()
        with c:
            got = b""
            while b"\r\n\r\n" not in got:
                got += c.recv(4096)
            check(got.startswith(b"PROXY TCP4 "), "what curl sends", got)
            c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        process.wait(15)
    session = ctx.session()
    session.wait_end()
    equal(exchanges(session, "client"), {("GET", "/x", "200"): 1}, "what curl asked")
    equal(client_of(session), {("127.0.0.1", "127.0.0.1", True): 1}, "the client")


@test("socks", timeout=90)
def socks(ctx):
    """curl through a proxy, by each version: client and proxy tell the requests, plain and TLS."""
    port, behind, log = free_port(), free_port(), ctx.dir / "requests"
    log.touch()
    how = {"socks4": "4", "socks4a": "4a", "socks5": "5", "socks5h": "5h"}
    want = Counter(("GET", f"/{k}", "200") for k in how)
    want["GET", "/password", "200"] = 1
    with running(ctx, [PYTHON, HERE / "server.py", "threads", behind, log], behind, output="behind.out"), \
            server(ctx, [PYTHON, HERE / "socks.py", port], port) as proxy:
        clients = [ctx.scoped([*CURL, "-x", f"{k}://127.0.0.1:{port}", *urls(behind, f"/{k}")], check_code=0).session
                   for k in how]
        clients.append(ctx.scoped([*CURL, "-x", f"socks5h://user:word@127.0.0.1:{port}", f"http://a.test:{behind}/password"],
                                  check_code=0).session)
        refused = ctx.scoped([*CURL, "-x", f"socks5://127.0.0.1:{port}", "http://127.0.0.1:1/"], check_code=97).session
    equal(asked(log), want, "requests of the server's log")
    nothing_lost(proxy)
    equal(exchanges(proxy, "server", proxy=True), want, "what the proxy was asked")
    equal(exchanges(proxy, "client", proxy=True), want, "what the proxy passed on")
    equal(Counter((a["socks_version"], a["socks_reply"]) for a in apps(proxy, "SOCKS")), {(4, 90): 2, (5, 0): 3, (5, 5): 1},
          "SOCKS of the proxy")
    told = Counter()
    for session in clients:
        session.wait_end()
        nothing_lost(session)
        told += exchanges(session, "client")
        app, = apps(session, "SOCKS")
        equal((app["socks_command"], app["socks_target_port"]), ("connect", behind), "whom a client asks for")
    equal(told, want, "what the clients asked")
    equal(app["socks_target"], "a.test", "a name")
    refused.wait_end()
    app, = apps(refused, "SOCKS")
    equal((app["socks_target"], app["socks_target_port"], app["socks_reply"]), ("127.0.0.1", 1, 5), "a request refused")
    equal(refused.events("http", sync=False), [], "HTTP of a refused client")


@test("unknown-preamble")
def unknown_preamble(ctx):
    """A protocol that nobody knows, which turns into HTTP once both sides have spoken."""
    port = free_port()
    code = f"""if 1:
        import socket
        with socket.create_server(("127.0.0.1", {port})) as s:
            for i in range(2):
                c, _ = s.accept()
                with c:
                    while i and c.recv(100)[-1:] != b"!":
                        pass
                    c.sendall(b"\\x01OK" if i else b"")
                    if b"GET" in c.recv(1000):
                        c.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nhi")
        """
    with server(ctx, [PYTHON, "-c", code], port, ready=listening) as session: # which is its first connection
        with socket.create_connection(("127.0.0.1", port)) as s:
            s.sendall(b"\1\2\3\4")
            s.sendall(b"magic!")
            equal(s.recv(100), b"\1OK", "its answer")
            s.sendall(b"GET /behind HTTP/1.1\r\nHost: h\r\n\r\n")
            check(s.recv(1000).endswith(b"hi"), "its other answer")
            equal(s.recv(10), b"", "its end")  # else it is ended while it still sends, by the kernel's count
    equal(exchanges(session, "server"), {("GET", "/behind", "200"): 1}, "requests")
