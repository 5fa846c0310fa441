# SPDX-License-Identifier: Apache-2.0
"""What goes through sockets: HTTP, DNS, StatsD and other protocols, as the
events and metrics that come of it, compared with what the servers themselves
say that they have been asked.
"""

import http.client
import json
import re
import signal
import socket
import ssl
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path

from scopetest import Session, check, equal, test
from traffic import (CURL, PYTHON, adopt, asked, certificate, configured, exchanges, free_port, listening, nothing_lost, server,
                     told, urls)

HERE = Path(__file__).resolve().parent


def ours(ctx, kind="threads"):
    """Port, log and command of the server in server.py."""
    port, log = free_port(), ctx.dir / "requests"
    log.touch()
    return port, log, [PYTHON, HERE / "server.py", kind, port, log]


@test("each_call")
def each_call(ctx):
    """Each way of sending and receiving, with lengths only where the bytes are nowhere to be seen."""
    for variant in ("glibc-O2", "musl-static"):
        result = ctx.scoped([ctx.compile("traffic/calls.c", variant)], check_code=0)
        result.session.wait_end()
        nothing_lost(result.session)
        seen = Counter()
        for e in result.session.events("http", sync=False):
            d = e["data"]
            seen[d["http_target"], e["source"], "http_server_duration" in d, "http_client_duration" in d] += 1
        want = Counter()
        targets = [f"/{s}/{r}/{n}" for s in ("write", "send", "writev", "sendmsg", "sendmmsg", "emptyv") for r in
                   ("read", "recv", "recvfrom", "readv", "recvmsg", "recvmmsg", "peek", "little") for n in (0, 44, 88)]
        targets += ["/file/sendfile/0", "/file/splice/1", "/file/sendfile/2", "/file/splice/3", "/trunc/0", "/trunc/1", "/trunc/2"]
        for t in targets:
            want[t, "http.req", False, False] = 2
            want[t, "http.resp", True, False] = want[t, "http.resp", False, True] = 1
        equal(seen, want, f"events ({variant})")


@test("client_and_server", timeout=120)
def client_and_server(ctx):
    """curl observed against a server observed: keep-alive, HEAD, 304, 204, chunked, big bodies, uploads."""
    port, log, argv = ours(ctx)
    upload = ctx.dir / "upload"
    upload.write_bytes(b"POST / HTTP/1.1\r\n\r\n" * 100000)
    with server(ctx, argv, port, ["--lossless"]) as session:
        runs = [urls(port, "/a", "/b?x=1&y=%20", "/chunked", "/big", "/status/404", "/status/204", "/status/304", "/c"),
                ["-I", *urls(port, "/head", "/big")],
                ["-d", "a=b", *urls(port, "/form", "/form2")],
                ["-T", upload, f"http://127.0.0.1:{port}/put"],
                ["--data-binary", f"@{upload}", "-H", "Expect: 100-continue", f"http://127.0.0.1:{port}/expect"],
                ["--http1.0", *urls(port, "/old")]]
        clients = [ctx.scoped([*CURL, *run], ["--lossless"], check_code=0).session for run in runs]
    want = asked(log)
    equal(sum(want.values()), 15, "requests")
    nothing_lost(session)
    equal(exchanges(session, "server"), want, "what the server was asked")
    equal(told(*clients), want, "what the clients asked")


@test("fields", timeout=60)
def fields(ctx):
    """All fields of a request and its response; header fields only if they are asked for, secrets only by name."""
    port, _, argv = ours(ctx)
    lines = "X-Test: a\r\nX-AppScope: app=x\r\nX-Forwarded-For: 10.1.2.3\r\nAuthorization: Basic YTpi\r\nCookie: c=d\r\n" \
            "X-Forwarded-Host: Host: other\r\nx-test: b\r\nnet_peer_ip: 6.6.6.6\r\nHTTP_Method: PUT\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"

    def ask():
        with socket.create_connection(("127.0.0.1", port)) as s:
            s.sendall(f"GET /status/418?q HTTP/1.1\r\nHost: h:{port}\r\nUser-Agent: test\r\n{lines}Connection: close\r\n\r\n".encode())
            while s.recv(65536):
                pass
            return None

    def both(patterns):
        flags = configured(ctx, "metric:\nevent:\n  watch: [{type: http" +
                           (f", headers: {json.dumps(patterns)}" if patterns else "") + "}]\n")
        with server(ctx, argv, port, flags) as session:
            ask()
        adopt(session)
        request, = session.events(source="http.req", sync=False)
        response, = session.events(source="http.resp", sync=False)
        return request["data"], response["data"], session

    request, response, session = both([])
    net = {"net_transport": "IP.TCP", "net_peer_ip": "127.0.0.1", "net_peer_port": request["net_peer_port"],
           "net_host_ip": "127.0.0.1", "net_host_port": port}
    about = {"http_host": f"h:{port}", "http_user_agent": "test", "http_client_ip": "10.1.2.3", "x-appscope": "app=x",
             "trace_id": "0af7651916cd43dd8448eb211c80319c", "parent_id": "b7ad6b7169203331"}
    first = {"http_method": "GET", "http_target": "/status/418?q", "http_scheme": "http"}
    equal(request, {**first, "http_flavor": "1.1", **about, **net}, "http.req")
    duration = response.pop("http_server_duration")
    check(0 <= duration < 5000, "duration", duration)
    equal(response, {**first, "http_flavor": "1.1", "http_status_code": 418, "http_status_text": "I'm a Teapot", **about,
                     "http_response_content_length": 6, **net}, "http.resp")
    metrics = {m["_metric"]: m for m in session.metrics() if m["_metric"].startswith("http.")}
    equal(sorted(metrics), ["http.duration.server", "http.req", "http.resp.content_length"], "metrics")
    for m in metrics.values():
        equal(m["http_target"], "/status/418", "http_target of metrics")
    equal((metrics["http.req"]["_value"], metrics["http.req"]["http_status_code"]), (1, 418), "http.req")
    equal(metrics["http.resp.content_length"]["_value"], 6, "http.resp.content_length")

    request, response, _ = both([".*"])
    equal(request["X-Test"], "a", "a header field")
    equal(response["X-Forwarded-Host"], "Host: other", "a request's field in the response")
    for data in (request, response):
        names = [name.lower() for name in data]
        twice = {n for n in names if names.count(n) > 1} | {"host", "user-agent", "x-forwarded-for", "content-length"} & set(names)
        check(not twice, "told twice, or under two names", twice, data)
        equal((data["net_peer_ip"], data["http_method"]), ("127.0.0.1", "GET"), "fields that a header is named like")
    text = json.dumps([request, response])
    check(not re.search("Authorization|Basic|Cookie|c=d|secret", text), "a secret that nobody asked for", text)
    request, response, _ = both(["(?i)^authorization:", "^Set-Cookie"])
    equal(request["Authorization"], "Basic YTpi", "a secret that was asked for")
    check("Cookie" not in request, "Cookie", request)
    equal(response["Set-Cookie"], "secret=1", "a secret that was asked for")


@test("pipelined", timeout=60)
def pipelined(ctx):
    """Many requests in one piece, and heads in the smallest pieces."""
    port, log, argv = ours(ctx)
    with server(ctx, argv, port) as session:
        with socket.create_connection(("127.0.0.1", port)) as s:
            s.sendall(b"".join(b"GET /pipe/%d HTTP/1.1\r\nHost: h\r\n\r\n" % i for i in range(200)))
            s.shutdown(socket.SHUT_WR)
            while s.recv(65536):
                pass
        with socket.create_connection(("127.0.0.1", port)) as s:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n":
                s.sendall(bytes([byte]))
                time.sleep(0.005)
            check(b"200 OK" in s.recv(65536), "no answer")
    equal(exchanges(session, "server"), asked(log), "exchanges")
    equal(asked(log).total(), 201, "requests")
    order = [e["data"]["http_target"] for e in session.events(source="http.resp", sync=False)]
    equal(order[:200], [f"/pipe/{i}" for i in range(200)], "order")
    nothing_lost(session)


@test("forking_server", timeout=60)
def forking_server(ctx):
    """Connections that are handled by children, in the parent's ring and in rings of their own."""
    port, log, argv = ours(ctx, "forks")
    with server(ctx, argv, port) as session:
        for i in range(4):
            c = http.client.HTTPConnection("127.0.0.1", port)
            for k in range(5 if i else 300): # many enough for a segment of its own
                c.request("GET", f"/fork/{i}/{k}")
                c.getresponse().read()
            c.close()
    nothing_lost(session)
    equal(exchanges(session, "server"), asked(log), "exchanges")
    pids = {e["pid"] for e in session.events(source="http.resp", sync=False)}
    equal(len(pids), 4, "processes")


NGINX = """worker_processes 2; daemon off; master_process on; error_log {d}/error.log; pid {d}/pid;
events {{ worker_connections 256; }}
http {{ log_format short '$request_method $request_uri $status'; access_log {d}/requests short;
  sendfile {sendfile}; keepalive_requests 1000000; client_max_body_size 10m;
  client_body_temp_path {d}/t1; proxy_temp_path {d}/t2; fastcgi_temp_path {d}/t3; uwsgi_temp_path {d}/t4; scgi_temp_path {d}/t5;
  server {{ listen 127.0.0.1:{port}; root {d}/www; location /text {{ return 200 "text"; }} }} }}
"""


@contextmanager
def nginx(ctx, sendfile, flags=()):
    port = free_port()
    where = ctx.fresh(f"nginx-{port}")
    (where / "www").mkdir()
    (where / "www" / "small").write_text("small\n")
    (where / "www" / "big").write_bytes(b"HTTP/1.1 200 OK\r\n\r\n" * 400000)
    (where / "conf").write_text(NGINX.format(d=where, port=port, sendfile=sendfile))
    with server(ctx, [ctx.tool("nginx"), "-c", where / "conf"], port, flags, stop=signal.SIGQUIT) as session:
        yield port, where / "requests", session


@test("nginx", timeout=120)
def with_nginx(ctx):
    """Bodies by sendfile and by writev; bodies aren't copied, so a large one costs nothing and loses nothing."""
    for sendfile in ("on", "off"):
        with nginx(ctx, sendfile, ["--lossless"]) as (port, log, session):
            ctx.run([*CURL, *urls(port, *["/small", "/big", "/text", "/nothing"] * 5)], check_code=0)
            ctx.run([*CURL, "-I", *urls(port, "/small", "/big")], check_code=0)
            ctx.run([*CURL, "-r", "5-17", *urls(port, "/big", "/small")], check_code=0)
            with socket.create_connection(("127.0.0.1", port)) as s: # one whose client goes away
                s.sendall(b"GET /big HTTP/1.1\r\nHost: h\r\n\r\n")
                s.recv(1000)
        want = asked(log)
        equal(want.total(), 25, "requests")
        equal(exchanges(session, "server"), want, f"exchanges (sendfile {sendfile})")
        nothing_lost(session)


@test("load", timeout=240, serial=True)
def load(ctx):
    """20,000 requests and more, as fast as they can be made: each has one request and one response."""
    ctx.valid = False  # as many of the same events, which with_nginx() has, too
    for tool in ("ab", "wrk"):
        with nginx(ctx, "on", ["--lossless"]) as (port, log, session):
            url = f"http://127.0.0.1:{port}/small?{tool}"
            ctx.run(["ab", "-q", "-k", "-n", "20000", "-c", "16", url] if tool == "ab" else
                    ["wrk", "-t2", "-c32", "-d1s", url], timeout=90, check_code=0)
        want = asked(log)
        check(tool == "wrk" or want.total() >= 20000, "too few requests", want)
        equal(exchanges(session, "server"), want, f"exchanges ({tool})")
        equal({k: v for k, v in session.lost().items() if v and k in ("traffic", "message", "record")}, {}, "losses")
        told = sum(m["_value"] for m in session.metrics() if m["_metric"] == "http.req")
        equal(told, want.total(), "metric http.req")


NODE = """const http = require('http'), fs = require('fs');
http.createServer((q, r) => { let n = 0; q.on('data', d => n += d.length); q.on('end', () => {
  const s = q.url == '/teapot' ? 418 : 200; fs.appendFileSync(process.argv[3], `${q.method} ${q.url} ${s}\\n`);
  r.writeHead(s, {'X-N': n}); r.write('a'.repeat(n)); setTimeout(() => r.end('end'), 5); }); }).listen(+process.argv[2], '127.0.0.1');
process.on('SIGTERM', () => process.exit(0));
"""


@test("node", timeout=60)
def node(ctx):
    port, log = free_port(), ctx.dir / "requests"
    (ctx.dir / "server.js").write_text(NODE)
    with server(ctx, [ctx.tool("node"), ctx.dir / "server.js", port, log], port) as session:
        ctx.run([*CURL, *urls(port, "/a", "/teapot", "/b")], check_code=0)
        ctx.run([*CURL, "-d", "x" * 1000, *urls(port, "/p1", "/p2")], check_code=0)
        ctx.run([*CURL, "-H", "Transfer-Encoding: chunked", "-d", "y" * 9000, *urls(port, "/chunked")], check_code=0)
    equal(exchanges(session, "server"), asked(log), "exchanges")
    equal(asked(log).total(), 6, "requests")
    nothing_lost(session)


@test("attached", timeout=60)
def attached(ctx):
    """A connection that was there before is understood from its next request on."""
    port, log, argv = ours(ctx)
    process = ctx.start(argv)
    ctx.wait_for(lambda: listening(port), "the server listens")
    c = http.client.HTTPConnection("127.0.0.1", port)
    c.request("GET", "/before")
    c.getresponse().read()
    ctx.run([ctx.scope, "attach", str(process.pid)], check_code=0)
    for i in range(20):
        c.request("GET", f"/after/{i}")
        c.getresponse().read()
    time.sleep(0.3) # the answer is there before its call has returned
    c.close()
    process.terminate()
    process.wait(10)
    session = ctx.session()
    session.wait_end()
    want = asked(log)
    del want["GET", "/before", "200"]
    equal(exchanges(session, "server"), want, "exchanges")
    nothing_lost(session)


@test("nothing_wanted", timeout=60)
def nothing_wanted(ctx):
    """Without the watches there is no event, and nothing is captured."""
    port, _, argv = ours(ctx)
    with server(ctx, argv, port, configured(ctx, "event:\n  watch: [{type: fs}]\nmetric:\n  watch: [{type: fs}]\n")) as session:
        ctx.run([*CURL, *urls(port, "/a", "/big")], check_code=0)
    adopt(session)
    check(session.events("fs", sync=False), "no event at all")
    equal(session.events("http", sync=False) + session.events("net", sync=False), [], "events")
    nothing_lost(session)


@test("own_protocol", timeout=60)
def own_protocol(ctx):
    """net.app of protocols that the user defines, of those that are built in, and none of others."""
    flags = configured(ctx, "metric:\nevent:\n  enable: true\nprotocol:\n- {name: Greeting, regex: '^HELLO [a-z]+'}\n- {name: Silent, regex: '^QUIET', detect: false}\n"
                      "- {name: Bytes, regex: '^00ff', binary: true}\n")
    code = """
import socket
for first in (b"HELLO world\\r\\n", b"QUIET\\r\\n", b"\\x00\\xff\\x01", b"GET / HTTP/1.1\\r\\n\\r\\n", b"nothing known\\r\\n"):
    a, b = socket.socketpair()
    for i in range(3):
        a.sendall(first)
        b.recv(100)
        b.sendall(b"?\\r\\n")
        a.recv(100)
    a.close()
    b.close()
"""
    result = ctx.scoped([PYTHON, "-c", code], flags, check_code=0)
    adopt(result.session)
    found = [e["data"] for e in result.session.events(source="net.app", sync=False)]
    equal(Counter(d["protocol"] for d in found), Counter({"Greeting": 2, "Bytes": 2, "HTTP": 2}), "net.app")
    for d in found:
        equal(sorted(d), ["fd", "host", "pid", "proc", "protocol"], "fields")


@test("dns", timeout=60)
def dns(ctx):
    """dig against a local server, over UDP and TCP; both sides are observed."""
    port = free_port()
    argv = [ctx.tool("dnsmasq"), "-d", "-C", "/dev/null", "-p", port, "-a", "127.0.0.1", "--bind-interfaces", "--no-resolv",
            "--no-hosts", "--local=/test/", "--host-record=host.test,192.0.2.1,2001:db8::1", "--host-record=two.test,192.0.2.2", "-u", "root"]
    dig = ["dig", "@127.0.0.1", "-p", str(port), "+tries=1", "+time=5", "+nocookie"]

    def answers(_):
        return ctx.run([*dig, "+short", "ready.test"]).code == 0
    with server(ctx, argv, port, ready=answers) as session:
        clients = [ctx.scoped([*dig, *q], check_code=0) for q in
                   (["host.test"], ["host.test", "AAAA"], ["two.test", "+tcp"], ["_no.test", "TXT"])]
    found = []
    for c in clients:
        c.session.wait_end()
        request, = c.session.events(source="dns.req", sync=False)
        response, = c.session.events(source="dns.resp", sync=False)
        equal((request["sourcetype"], response["sourcetype"]), ("dns", "dns"), "sourcetype")
        q, a = request["data"], response["data"]
        equal((q["role"], a["role"], a["domain"], a["qtype"]), ("client", "client", q["domain"], q["qtype"]), "query and response")
        check(0 <= a["duration"] < 5000, "duration", a)
        equal(a["net_peer_port"], port, "port")
        found.append((q["domain"], q["qtype"], a["rcode"], a.get("addrs")))
        metrics = {m["_metric"]: m["_value"] for m in c.session.metrics()}
        equal(metrics["dns.req"], 1, "metric dns.req")
        check(metrics["dns.duration"] >= 0, "metric dns.duration")
    equal(found, [("host.test", "A", "NOERROR", ["192.0.2.1"]), ("host.test", "AAAA", "NOERROR", ["2001:db8::1"]),
                  ("two.test", "A", "NOERROR", ["192.0.2.2"]), ("_no.test", "TXT", "NXDOMAIN", None)], "DNS")
    served = Counter((e["data"]["domain"], e["data"]["qtype"]) for e in session.events(source="dns.resp", sync=False)
                     if e["data"]["domain"] != "ready.test")
    equal(served, Counter((d, t) for d, t, _, _ in found), "what the server answered")


SILENT = """
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.sendto(b"\\x12\\x34\\x01\\0\\0\\x01\\0\\0\\0\\0\\0\\0\\x04slow\\x04test\\0\\0\\x1c\\0\\x01", ("127.0.0.1", int(sys.argv[1])))
time.sleep(17)
print("closing", flush=True)
"""

CARES = """const dns = require('dns');
const r = new dns.Resolver({timeout: 500, tries: 1});
r.setServers(['127.0.0.1:' + process.argv[2]]);
r.resolve4('cares.test', e => console.log(e ? e.code : 'answered'));
"""


def dns_answerer(rcode):
    """A resolver that has the same answer for everything; None: it has none. Returns its socket."""
    s = socket.socket(type=socket.SOCK_DGRAM)
    s.bind(("127.0.0.1", 0))
    s.settimeout(40)

    def serve():
        with suppress(OSError):
            while True:
                query, peer = s.recvfrom(4096)
                if rcode is not None and query:
                    end = query.index(b"\0", 12) + 5
                    s.sendto(query[:2] + bytes([0x81, 0x80 | rcode, 0, 1, 0, 0, 0, 0, 0, 0]) + query[12:end], peer)
    threading.Thread(target=serve, daemon=True).start()
    return s


# In namespaces of its own: the C library asks port 53 of what /etc/resolv.conf names, and nothing else.
LIBC = """
set -e
ip link set lo up
printf 'nameserver 127.0.0.1\\noptions timeout:1 attempts:2\\n' >resolv.conf
mount --bind resolv.conf /etc/resolv.conf
%(python)s -c "
import socket
s = socket.socket(type=socket.SOCK_DGRAM)
s.bind(('127.0.0.1', 53))
open('ready', 'w').close()
while True:
    q, peer = s.recvfrom(4096)
    if b'refused' in q:
        s.sendto(q[:2] + bytes([0x81, 0x83]) + q[4:], peer)
" & server=$!
while [ ! -e ready ]; do sleep 0.1; done
%(scope)s run -- getent ahosts refused.test. || true
%(scope)s run -- getent ahosts silent.test. || true
kill $server
"""


def libc_resolver(ctx):
    before = set(ctx.sessions())
    script = LIBC % {"python": PYTHON, "scope": ctx.scope}
    ctx.run([ctx.tool("unshare"), "--mount", "--net", "sh", "-c", script], timeout=40, check_code=0)
    new = set(ctx.sessions()) - before
    equal(len(new), 2, "sessions")
    for path in new:
        session = Session(ctx, path)
        session.wait_end()
        nothing_lost(session)
        asked, told = ([e["data"] for e in session.events(source=s, sync=False)] for s in ("dns.req", "dns.resp"))
        names = {d["domain"] for d in asked}
        check(names in ({"refused.test"}, {"silent.test"}), "names", names)
        equal({d["qtype"] for d in asked}, {"A", "AAAA"}, "types")
        equal(Counter((d["domain"], d["qtype"]) for d in told), Counter((d["domain"], d["qtype"]) for d in asked), f"answers: {names}")
        equal({d.get("rcode", d.get("error")) for d in told}, {"NXDOMAIN" if names == {"refused.test"} else "closed"}, "what came of them")
        equal({d["net_peer_port"] for d in told}, {53}, "port")


@test("dns_failures", timeout=120)
def dns_failures(ctx):
    """Each query has its dns.resp: with the code of a refusal, or with what became of it if nobody answered."""
    def asked_of(rcode, argv):
        with dns_answerer(rcode) as s:
            port = s.getsockname()[1]
            result = ctx.scoped([str(port) if a == "PORT" else a for a in argv], check_code=None)
            result.session.wait_end()
            nothing_lost(result.session)
            queries, answers = (Counter(), Counter())
            for e in result.session.events("dns", sync=False):
                d = e["data"]
                equal((d["role"], d["net_peer_port"]), ("client", port), "role and port")
                if e["source"] == "dns.req":
                    queries[d["domain"], d["qtype"]] += 1
                    continue
                check(("rcode" in d) != ("error" in d), "a code or an error", d)
                answers[d["domain"], d["qtype"]] += 1
            check(queries, "no query", result.describe())
            equal(answers, queries, "what became of each query")
            errors = sum(m["_value"] for m in result.session.metrics() if m["_metric"] == "net.error" and m["class"] == "dns")
            equal(errors, answers.total(), "metric net.error")
            return [e["data"] for e in result.session.events(source="dns.resp", sync=False)], result

    dig = ["dig", "@127.0.0.1", "-p", "PORT", "+tries=1", "+time=1", "+nocookie", "dig.test", "MX"]
    for rcode, name in ((2, "SERVFAIL"), (3, "NXDOMAIN")):
        found, _ = asked_of(rcode, dig)
        equal({d["rcode"] for d in found}, {name}, "codes")
    found, result = asked_of(None, dig)
    equal(result.code, 9, "dig's status")
    equal([(d["domain"], d["qtype"], d["error"]) for d in found], [("dig.test", "MX", "closed")], "dig")
    check(900 <= found[0]["duration"] < 5000, "duration", found)
    (ctx.dir / "cares.js").write_text(CARES)
    for rcode, word in ((None, "ETIMEOUT"), (3, "ENOTFOUND"), (2, "ESERVFAIL")):
        found, result = asked_of(rcode, [ctx.tool("node"), ctx.dir / "cares.js", "PORT"])
        equal(result.out.decode().strip(), word, "what c-ares says")
        equal({d["domain"] for d in found}, {"cares.test"}, "names")
    libc_resolver(ctx)
    # one whose socket stays open is told of while the program runs
    found, _ = asked_of(None, [PYTHON, "-c", SILENT, "PORT"])
    equal([(d["domain"], d["qtype"], d["error"]) for d in found], [("slow.test", "AAAA", "timeout")], "given up")
    check(15000 <= found[0]["duration"] < 17000, "duration", found)


@test("statsd", timeout=60)
def statsd(ctx):
    """Metrics that a program sends itself go the way of ours."""
    code = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sink.bind(("127.0.0.1", 0))
s.connect(sink.getsockname())
for text in (b"a.count:1|c\\na.time:3.5|ms|#k:v,w", b"a.gauge:-7|g", b"a.sampled:2|c|@0.5", b"a.set:x y|s"):
    s.send(text)
"""
    result = ctx.scoped([PYTHON, "-c", code], check_code=0)
    found = {m["_metric"]: m for m in result.session.metrics() if m["_metric"].startswith("a.")}
    equal({n: (m["_value"], m["_metric_type"]) for n, m in found.items()},
          {"a.count": (1, "counter"), "a.time": (3.5, "timer"), "a.gauge": (-7, "gauge"), "a.sampled": (4, "counter"),
           "a.set": ("x y", "set")}, "metrics")
    equal((found["a.time"]["k"], found["a.time"]["w"], found["a.time"]["proc"]), ("v", "", "python3"), "dimensions")


NODE2 = """const http2 = require('http2'), fs = require('fs');
const s = http2.createServer(); s.on('stream', (q, h) => { let n = 0; q.on('data', d => n += d.length); q.on('end', () => {
  const status = h[':path'] == '/teapot' ? 418 : 200;
  fs.appendFileSync(process.argv[3], `${h[':method']} ${h[':path']} ${status}\\n`);
  q.respond({':status': status, 'x-n': String(n)}); q.end('b'.repeat(h[':path'] == '/big' ? 3000000 : 5)); }); });
s.listen(+process.argv[2], '127.0.0.1'); process.on('SIGTERM', () => process.exit(0));
"""


@test("http2", timeout=60)
def http2(ctx):
    """HTTP/2 without TLS: several streams of one connection, both sides observed."""
    port, log = free_port(), ctx.dir / "requests"
    (ctx.dir / "server.js").write_text(NODE2)
    with server(ctx, [ctx.tool("node"), ctx.dir / "server.js", port, log], port, ["--lossless"]) as session:
        base = f"http://127.0.0.1:{port}"
        clients = [ctx.scoped(argv, ["--lossless"], check_code=0).session for argv in
                   ([ctx.tool("nghttp"), "-n", *[f"{base}/p{i}" for i in range(20)]],
                    ["nghttp", "-n", f"{base}/big", f"{base}/teapot", f"{base}/a?b"],
                    [*CURL, "--http2-prior-knowledge", "-d", "x" * 100000, f"{base}/post"])]
    nothing_lost(session)
    equal(exchanges(session, "server"), asked(log), "what the server was asked")
    equal(asked(log).total(), 24, "requests")
    equal(told(*clients), asked(log), "what the clients asked")
    for e in session.events(source="http.req", sync=False):
        d = e["data"]
        equal((d["http_flavor"], d["http_frame"], d["http_scheme"], d["http_stream"] % 2), ("2.0", "HEADERS", "http", 1), "fields")


TALK = (HERE / "talk.py").read_text() + """
tls = bytes.fromhex("1603010200010001fc0303") + bytes(506)
for first in (b"LINE one\\n", tls):
    c, d = socket.socketpair()
    c.sendall(first)
    d.recv(1000)
    d.sendall(b"LINE two\\n")
    c.recv(1000)
"""


def payloads_of(session):
    index = [json.loads(line) for line in (session.dir / "payloads" / "index.ndjson").read_text().splitlines()]
    return {p.name: p.read_bytes() for p in (session.dir / "payloads").glob("*.*") if p.suffix in (".in", ".out")}, index


@test("payloads", timeout=60)
def payloads(ctx):
    """Every byte of every connection; nothing of TLS."""
    result = ctx.scoped([PYTHON, "-c", TALK, 3000000, 2000000], ["--payloads", "--lossless"], check_code=0)
    a, b = map(int, result.out.split())
    result.session.wait_end()
    nothing_lost(result.session)
    files, index = payloads_of(result.session)
    name = {p.split("_", 1)[1]: data for p, data in files.items()}
    got_a, got_b = (ctx.dir / "got-a").read_bytes(), (ctx.dir / "got-b").read_bytes()
    one, other = f"127.0.0.1:{a}", f"127.0.0.1:{b}"
    check(name[f"{other}_{one}.in"] == got_a and name[f"{one}_{other}.out"] == got_a, "what b sent to a")
    check(name[f"{one}_{other}.in"] == got_b and name[f"{other}_{one}.out"] == got_b, "what a sent to b")
    unix = [data for n, data in name.items() if not n.startswith("127.")]
    equal(Counter(unix), Counter({b"LINE one\n": 2, b"LINE two\n": 2}), "the other connections")
    equal([e for e in index if e["type"] == "gap"], [], "missing bytes")
    equal(sorted(e[f] for e in index if e["type"] == "flow" for f in ("in_file", "out_file") if f in e), sorted(files),
          "files in the index")
    for p in (result.session.dir / "payloads").iterdir():
        equal(p.stat().st_mode & 0o777, 0o600, f"mode of {p.name}")


@test("payloads_missing", timeout=60)
def payloads_missing(ctx):
    """What nobody could capture is not glued over: the index says where it is missing, and how much."""
    with nginx(ctx, "on", ["--payloads", "--lossless"]) as (port, _, session):
        ctx.run([*CURL, *urls(port, "/small", "/text")], check_code=0)
    files, index = payloads_of(session)
    out, = (data for n, data in files.items() if n.endswith(".out") and f"127.0.0.1:{port}" in n)
    gap, = (e for e in index if e["type"] == "gap")
    equal(gap["len"], len("small\n"), "missing bytes")
    check(out[:gap["at"]].endswith(b"\r\n\r\n") and out[gap["at"]:].startswith(b"HTTP/1.1 200"), "where", gap, out)
    check(session.lost().get("payload", 0) == 6, "it is told", session.lost())


@test("payloads_of_a_protocol", timeout=60)
def payloads_of_a_protocol(ctx):
    where = ctx.fresh("payloads")
    flags = configured(ctx, f"metric:\nevent:\n  enable: true\npayload: {{dir: '{where}'}}\n"
                       "protocol: [{name: Lines, regex: '^LINE', payload: true}]\n")
    result = ctx.scoped([PYTHON, "-c", TALK, 3000000, 2000000], flags, check_code=0)
    result.session.wait_end()
    equal(sorted(p.read_bytes() for p in where.glob("*_af_unix:*")), [b"LINE one\n"] * 2 + [b"LINE two\n"] * 2, "payloads")
    equal(len(list(where.iterdir())), 5, "files")


@test("https", timeout=90)
def https(ctx):
    """The plaintext of TLS on both sides, with the addresses of its connection; what is kept of it is plaintext."""
    port, log = free_port(), ctx.dir / "requests"
    log.touch()
    targets = [f"https://127.0.0.1:{port}{t}" for t in ("/a", "/big", "/b?c")]
    with server(ctx, [PYTHON, HERE / "https.py", port, *certificate(ctx), log], port, ["--lossless"]) as session:
        client = ctx.scoped(["curl", "-skS", "--max-time", "20", *[w for t in targets for w in (t, "-o", "/dev/null")]],
                            ["--payloads", "--lossless"], check_code=0).session
        # The client has its answer before the server comes back from SSL_write, where a signal would end it.
        ctx.wait_for(lambda: len(session.events(source="http.resp")) >= 3, "the server's responses", 10, 0.1)
    client.wait_end()
    want = asked(log)
    equal(want.total(), 3, "requests")
    equal(exchanges(session, "server"), want, "what the server was asked")
    equal(exchanges(client, "client"), want, "what the client asked")
    nothing_lost(session)
    nothing_lost(client)
    for e in session.events(source="http.resp", sync=False):
        equal((e["data"]["http_scheme"], e["data"]["net_host_port"]), ("https", port), "scheme and port")
    files = [*client.dir.glob("payloads/*.in"), *client.dir.glob("payloads/*.out")]
    equal(len(files), 2, "payload files")
    for f in files:
        data = f.read_bytes()
        check(data.startswith(b"HTTP/1.1 200 OK" if f.suffix == ".in" else b"GET /a HTTP/1.1"), f.name, data[:100])
        check(b"\x17\x03\x03" not in data, "ciphertext")


def tls_server(key, cert, version):
    """A server that says what it has agreed upon. Returns its socket, and a list of (version, server name, protocol, cipher)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["http/1.1"])
    names, agreed = [], []
    context.sni_callback = lambda s, name, c: names.append(name)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with suppress(OSError):
            while True:
                plain = listener.accept()[0]
                plain.settimeout(20)
                with suppress(OSError), context.wrap_socket(plain, server_side=True) as s:
                    agreed.append((s.version(), names[-1], s.selected_alpn_protocol(), s.cipher()[0]))
                    while s.recv(65536):
                        s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    threading.Thread(target=serve, daemon=True).start()
    return listener, agreed


@test("tls_hellos", timeout=120)
def tls_hellos(ctx):
    """net.app of TLS: versions, names and protocols are what the peers themselves say; a 1.3 server's choice is encrypted."""
    cert, key = certificate(ctx)
    for version, number in ((ssl.TLSVersion.TLSv1_2, "1.2"), (ssl.TLSVersion.TLSv1_3, "1.3")):
        listener, agreed = tls_server(key, cert, version)
        port = listener.getsockname()[1]
        for argv, offer in ((["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "host.test", "-alpn", "h2,http/1.1"],
                             ["h2", "http/1.1"]),
                            (["curl", "-sk", "--max-time", "20", "--connect-to", f"::127.0.0.1:{port}", "https://host.test/"], ["h2", "http/1.1"]),
                            ([ctx.tool("gnutls-cli"), "--insecure", "--sni-hostname", "host.test", "--alpn", "http/1.1", "-p", str(port),
                              "127.0.0.1"], ["http/1.1"])):
            del agreed[:]
            result = ctx.scoped(argv, stdin=b"Q\n", check_code=None)
            result.session.wait_end()
            check(agreed, "no connection", result.describe())
            told = [e["data"] for e in result.session.events(source="net.app", sync=False) if e["data"]["protocol"] == "TLS"]
            equal(len(told), 1, f"net.app of {argv[0]}")
            d = told[0]
            said, name, chosen, cipher = agreed[0]
            equal(said, f"TLSv{number}", "version")
            equal((d["tls_protocol_version"], d["tls_client_server_name"], d["tls_client_alpn"]), (number, name, offer), argv[0])
            equal(d.get("tls_next_protocol"), None if number == "1.3" else chosen, "protocol")
            # of those before 1.3 OpenSSL has names of its own: ECDHE-RSA-AES256-GCM-SHA384
            equal(re.sub("^TLS_|_WITH|_|-", "", d["tls_cipher"]), re.sub("^TLS_|_|-", "", cipher), "cipher")
            nothing_lost(result.session)
        listener.close()
    # both sides observed; what is spoken inside is another net.app of the same connection
    port, log = free_port(), ctx.dir / "requests"
    log.touch()
    with server(ctx, [PYTHON, HERE / "https.py", port, cert, key, log], port) as session:
        client = ctx.scoped(["curl", "-sk", "--max-time", "20", "--connect-to", f"::127.0.0.1:{port}", "https://host.test/a"], check_code=0).session
    client.wait_end()
    for s in (session, client):
        apps = [e for e in s.events(source="net.app", sync=False)]
        told = [e["data"] for e in apps if e["data"]["protocol"] == "TLS"]
        equal([d["tls_client_server_name"] for d in told], ["host.test"], "server names")
        equal({e["data"]["protocol"] for e in apps}, {"TLS", "HTTP"}, "protocols")
    equal(*({k: v for k, v in e["data"].items() if k.startswith("tls_")} for s in (session, client)
            for e in s.events(source="net.app", sync=False) if e["data"]["protocol"] == "TLS"), "what both sides tell")


@test("tls_own_rule", timeout=60)
def tls_own_rule(ctx):
    """An entry of the user's that is named TLS stands for what is built in: its name, and whether it is told."""
    cert, key = certificate(ctx)
    listener, agreed = tls_server(key, cert, ssl.TLSVersion.TLSv1_2)
    port = listener.getsockname()[1]
    for detect, want in (("true", ["tls"]), ("false", [])):
        flags = configured(ctx, f"metric:\nevent:\n  enable: true\nprotocol: [{{name: tls, regex: '^1603', binary: true, detect: {detect}}}]\n")
        session = ctx.scoped(["curl", "-sk", "--max-time", "20", f"https://127.0.0.1:{port}/"], flags, check_code=0).session
        adopt(session)
        apps = [e["data"] for e in session.events(source="net.app", sync=False)]
        equal([d["protocol"] for d in apps if d["protocol"] != "HTTP"], want, f"detect: {detect}")
        for d in apps:
            equal(d.get("tls_protocol_version"), "1.2" if d["protocol"] == "tls" else None, "version")
        check(len(session.events(source="http.resp", sync=False)) == 1, "the plaintext")
    listener.close()


@test("grpc", timeout=90)
def with_grpc(ctx):
    """Calls of both sides: service, method and status, also of those that fail, stream, or are given up."""
    port = free_port()
    with server(ctx, [PYTHON, HERE / "rpc.py", "serve", port], port, ["--lossless"]) as session:
        result = ctx.scoped([PYTHON, HERE / "rpc.py", "call", port], ["--lossless"], check_code=0)
    result.session.wait_end()
    want = [(name, int(status)) for name, status in (line.split() for line in result.out.decode().splitlines())]
    equal(Counter(want), Counter({("Say", 0): 2, ("Fail", 5): 1, ("Count", 0): 1, ("Chat", 0): 1, ("Nothing", 12): 1, ("Sleep", 4): 1}),
          "what the client says")
    for s in (session, result.session):
        requests, responses = ([e["data"] for e in s.events(source=f"http.{w}", sync=False)] for w in ("req", "resp"))
        for d in requests + responses:
            equal((d["rpc_system"], d["rpc_service"]), ("grpc", "test.v1.Greeter"), "service")
            equal(d["http_target"], f"/test.v1.Greeter/{d['rpc_method']}", "method")
        equal(Counter(d["rpc_method"] for d in requests), Counter(name for name, _ in want), "http.req")
        for d in requests:
            check("rpc_grpc_status_code" not in d, "a status before there is one", d)
        # of the call that the client has given up no status passes; nor any response
        equal(Counter((d["rpc_method"], d["rpc_grpc_status_code"]) for d in responses if d["rpc_method"] != "Sleep"),
              Counter(w for w in want if w[0] != "Sleep"), "http.resp")
        for d in responses:
            equal(d["http_status_code"], 200, "http_status_code")
        nothing_lost(s)


STARTTLS = """
import socket, ssl, sys
kind, port, cert, key = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert, key)
s = socket.create_server(("127.0.0.1", port)).accept()[0]
f = s.makefile("rb", buffering=0)
if kind == "smtp":
    s.sendall(b"220 mail.test ESMTP\\r\\n")
    assert f.readline().startswith(b"EHLO")
    s.sendall(b"250-mail.test\\r\\n250 STARTTLS\\r\\n")
    assert f.readline() == b"STARTTLS\\r\\n"
    s.sendall(b"220 go ahead\\r\\n")
elif kind == "imap":
    s.sendall(b"* OK ready\\r\\n")
    tag = f.readline().split()[0]
    s.sendall(b"* CAPABILITY IMAP4rev1 STARTTLS\\r\\n" + tag + b" OK\\r\\n")
    tag = f.readline().split()[0]
    s.sendall(tag + b" OK\\r\\n")
else:
    assert f.read(8) == bytes([0, 0, 0, 8, 4, 210, 22, 47])
    s.sendall(b"S")
t = context.wrap_socket(s, server_side=True)
t.sendall(t.recv(65536).upper())
"""

CLEAR = {"smtp": (b"220 mail.test ESMTP\r\n250-mail.test\r\n250 STARTTLS\r\n220 go ahead\r\n", b"STARTTLS\r\n"),
         "imap": (b"* OK ready\r\n* CAPABILITY IMAP4rev1 STARTTLS\r\n. OK\r\n. OK\r\n", b". STARTTLS\r\n"),
         "postgres": (b"S", bytes([0, 0, 0, 8, 4, 210, 22, 47]))}


@test("starttls", timeout=180)
def starttls(ctx):
    """Clear text that goes over to TLS: what was spoken before is recognised and kept, TLS is told, and what is encrypted is
    neither kept nor taken for anything; the plaintext is."""
    cert, key = certificate(ctx)
    rules = "protocol:\n- {name: SMTP, regex: '^220 .* ESMTP'}\n- {name: PostgreSQL, regex: '^0000000804d2162f', binary: true, len: 8}\n"
    for kind in ("smtp", "imap", "postgres"):
        for payload in ("true", "false"):
            port = free_port()
            directory = ctx.fresh(f"{kind}-{payload}")
            flags = configured(ctx, f"metric:\nevent:\n  enable: true\nlibscope: {{lossless: true}}\n"
                               f"payload: {{enable: {payload}, dir: '{directory}'}}\n{rules}")
            process = ctx.start(ctx.scope_argv([PYTHON, "-c", STARTTLS, kind, port, cert, key], flags))
            ctx.wait_for(lambda p=port: f":{p:04X} 00000000:0000 0A" in open("/proc/net/tcp").read(), "the server listens", 30)
            client = ctx.run(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-starttls", kind, "-servername", "in.test",
                              "-quiet"], stdin=b"hello\n", timeout=20)
            check(b"HELLO" in client.out, "the client", client.describe())
            equal(process.wait(30), 0, f"the server ({kind})")
            session = Session(ctx, sorted(ctx.sessions(), key=lambda p: int(Path(p).name))[-1])
            adopt(session)
            apps = [(e["data"]["protocol"], e["data"].get("tls_client_server_name")) for e in session.events(source="net.app", sync=False)]
            equal(apps, {"smtp": [("SMTP", None)], "imap": [], "postgres": [("PostgreSQL", None)]}[kind] + [("TLS", "in.test")],
                  f"net.app ({kind}, payload {payload})")
            nothing_lost(session)
            flows = {p.name.split("_", 1)[1]: p.read_bytes() for p in directory.glob("*.*") if p.suffix in (".in", ".out")}
            if payload == "false":
                equal(flows, {}, "payload files")
                continue
            sent, received = (sorted(d for n, d in flows.items() if n.endswith(w)) for w in (".out", ".in"))
            equal(sorted(sent), sorted([CLEAR[kind][0], b"HELLO\n"]), f"sent ({kind})")
            equal(len(received), 2, "flows")
            check(b"hello\n" in received and any(r.endswith(CLEAR[kind][1]) for r in received), f"received ({kind})", received)

