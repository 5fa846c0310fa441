# SPDX-License-Identifier: Apache-2.0
"""OTLP (docs/otlp.md) of real servers and clients, as receivers decode it that we haven't written (otlp_receiver.js): how
many spans there are, what they say and how long they took is what the peers have logged; metrics sum up to the same.
"""

import os
import re
import statistics
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from otlp import Receiver
from scopetest import add_test, check, equal, free_port, test
from traffic import PYTHON, nothing_lost, running
from web import Nginx

HERE = Path(__file__).parent
RPC = HERE.parent / "traffic/rpc.py"
BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]
CUMULATIVE, DELTA = 2, 1


def parent(n):
    """traceparent of the nth request of a client that is none of ours: header, trace id, id of its span."""
    trace, span = f"{n + 1:032x}", f"{0xabc000 + n:016x}"
    return f"00-{trace}-{span}-01", trace, span


def traced(n):
    """Each third request is part of a trace of its own."""
    return {"traceparent": parent(n)[0]} if n % 3 == 0 else {}


def ours(span):
    """Where a span of HTTP belongs to: the number that its request had."""
    return int(re.search(r"n=(\d+)", span["attributes"]["url.query"]).group(1))


def end_of(session):
    session.wait_end(60)
    return session


def server_counts(receiver, name="http.server.request.duration"):
    counts = Counter()
    for p in receiver.last(name):
        counts[(p["attributes"]["http.request.method"], p["attributes"].get("http.response.status_code"))] += p["count"]
    return counts


def with_nginx(ctx, protocol):
    """Server spans and the histogram of an nginx are its access log; ids are those of traceparent."""
    web, receiver = Nginx(ctx), Receiver(ctx, protocol)
    with web.running(receiver.env(OTEL_SERVICE_NAME="shop", OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=te%2Cst")) as session:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda k: web.ask(range(k * 100, k * 100 + 100), traced), range(4)))
        receiver.wait("all spans, while nginx runs", lambda r: len(r.spans("server")) >= 400)
    logged = {int(t.split("n=")[1]): (m, t, s, d, at) for m, t, s, d, at in web.log()}
    equal(len(logged), 400, "requests that nginx has logged")
    spans = receiver.spans("server")
    equal(sorted(map(ours, spans)), list(range(400)), "requests with a span")
    late = []
    for span in spans:
        n, a = ours(span), span["attributes"]
        method, target, status, seconds, ended = logged[n]
        path, query = target.split("?")
        equal((a["http.request.method"], a["http.response.status_code"], a["url.path"], a["url.query"], a["url.scheme"]),
              (method, status, path, query, "http"), "the request")
        equal((a["server.address"], a["server.port"], a["network.protocol.version"]), ("127.0.0.1", web.port, "1.1"), "the server")
        equal(span["name"], method, "name")
        check(not span["error"] and "error.type" not in a, "an answer below 500 is no error of a server", span)
        equal((span["trace"], span["parent"]), parent(n)[1:] if n % 3 == 0 else (span["trace"], ""), "trace and parent")
        equal((span["resource"]["service.name"], span["resource"]["deployment.environment.name"]), ("shop", "te,st"), "resource")
        check(span["resource"].get("process.pid") and span["resource"].get("service.instance.id"), "whose it is", span)
        late.append(span["duration"] - seconds)
        check(abs(span["end"] / 1e9 - ended) < 10, "the time of its end", span, ended)
    # nginx's clock stands still while it works, and this machine may: most of them agree nonetheless
    check(abs(statistics.median(late)) <= 0.005, "durations", sorted(late))
    equal(len({s["trace"] for s in spans}), 400, "traces")
    counted = Counter((m, s) for m, _, s, _, _ in web.log())
    equal(server_counts(receiver), counted, "requests of the histogram")
    for p in receiver.last("http.server.request.duration"):
        equal((p["unit"], p["type"], p["temporality"], p["explicitBounds"]), ("s", "histogram", CUMULATIVE, BOUNDS), "the histogram")
        equal(sum(map(int, p["bucketCounts"])), p["count"], "buckets")
    told = sum(p["sum"] for p in receiver.last("http.server.request.duration"))
    check(abs(told - sum(s["duration"] for s in spans)) < 0.001 * len(spans), "sum of durations", told)
    nothing_lost(session)


for _protocol in ("http", "grpc"):
    add_test("apps", f"otlp-nginx-{_protocol}", lambda ctx, protocol=_protocol: with_nginx(ctx, protocol), timeout=90)


SLOW = """
import http.server, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    def do_GET(self):
        began = time.monotonic()
        wait = int(self.path.split("/")[1])
        time.sleep(wait / 1000)
        print("ERROR asked for", self.path, flush=True)
        self.send_response(500 if self.path.endswith("fail") else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
        with open(sys.argv[2], "a") as f:
            print(self.path, time.monotonic() - began, file=f)
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@test("otlp-durations", timeout=90)
def durations(ctx):
    """Of a server and of its client: neither much shorter than what the server waits, nor far from what it measures; an answer of
    500 is an error of both; lines that the server prints meanwhile are logs of its span."""
    port, log, receiver = free_port(), ctx.dir / "log", Receiver(ctx)
    with running(ctx, [PYTHON, "-c", SLOW, port, log], port, ["--lossless"], env=receiver.env()) as server:
        paths = [f"/{ms}/{what}" for ms in (0, 50, 100, 250) for what in ("good", "fail")]
        argv = ["curl", "-s", "--max-time", "60", *[w for p in paths for w in (f"http://127.0.0.1:{port}{p}", "-o", "/dev/null")]]
        client = ctx.scoped(argv, ["--lossless"], env=receiver.env(), check_code=0).session
    end_of(client)
    logged = dict(line.split() for line in log.read_text().splitlines())
    equal(set(logged), set(paths), "what the server has logged")
    for kind in ("server", "client"):
        spans = receiver.spans(kind)
        where = [s["attributes"]["url.path"] if kind == "server" else re.sub("^http://[^/]*", "", s["attributes"]["url.full"])
                 for s in spans]
        equal(sorted(where), sorted(paths), f"{kind} spans")
        late = []
        for path, span in zip(where, spans):
            # A span begins when the call that sent the request has returned, which may be late on a busy machine.
            check(span["duration"] >= 0.75 * int(path.split("/")[1]) / 1000 - 0.02, f"a {kind} span that is too short", span)
            late.append(span["duration"] - float(logged[path]))
            failed = path.endswith("fail")
            equal((span["error"], span["attributes"].get("error.type")), (failed, "500" if failed else None), "error")
        check(statistics.median(map(abs, late)) < 0.02, f"durations of {kind} spans", late)
    of = {s["attributes"]["url.path"]: s for s in receiver.spans("server")}
    lines = {r["body"].rstrip("\n"): r for r in receiver.logs() if "asked for" in str(r["body"])}
    equal(set(lines), {f"ERROR asked for {p}" for p in paths}, "logs")
    for path in paths:
        r = lines[f"ERROR asked for {path}"]
        equal((r["trace"], r["span"]), (of[path]["trace"], of[path]["span"]), "whose log it is")
        equal((r["attributes"].get("log.iostream"), r.get("severityNumber"), r.get("severityText")), ("stdout", 17, "ERROR"), "the line")
    for session in (server, client):
        nothing_lost(session)


BOTH = """
{server} &
server=$!
i=0
while [ $i -lt 200 ] && ! {curl} -o /dev/null "$URL/0/up" 2>/dev/null; do sleep 0.1; i=$((i + 1)); done
for n in 1 2 3; do {curl} -o /dev/null "$URL/0/$n"; done
{curl} -o /dev/null -H "traceparent: $PARENT" "$URL/0/4"
kill $server
"""


@test("otlp-both-ends", timeout=90)
def both_ends(ctx):
    """Who is called is a child of who calls: both are observed by one collector. A parent that the caller names is one."""
    receiver, port = Receiver(ctx, "grpc"), free_port()
    (ctx.dir / "server.py").write_text(SLOW)
    script = BOTH.format(server=f"{PYTHON} {ctx.dir}/server.py {port} {ctx.dir}/log", curl="curl -s --max-time 60")
    env = receiver.env(URL=f"http://127.0.0.1:{port}", PARENT=parent(7)[0])
    session = end_of(ctx.scoped(["sh", "-c", script], ["--lossless"], env=env).session)
    server = {s["attributes"]["url.path"]: s for s in receiver.spans("server")}
    client = {s["attributes"]["url.full"].split(str(port))[1]: s for s in receiver.spans("client") if not s["error"]}
    for n in (1, 2, 3):
        s, c = server[f"/0/{n}"], client[f"/0/{n}"]
        equal((s["trace"], s["parent"]), (c["trace"], c["span"]), "the server's parent is the client's span")
        equal(c["parent"], "", "the client has none")
        check(s["start"] <= c["end"], "times", c, s)
    # The id that the program sends is that of its own span; it is known to nobody else as ours
    equal({server["/0/4"]["trace"], client["/0/4"]["trace"]}, {parent(7)[1]}, "trace of a program that has spans of its own")
    check(server["/0/4"]["parent"] in (parent(7)[2], client["/0/4"]["span"]), "parent", server["/0/4"])
    equal({s["resource"]["service.name"] for s in server.values()} & {s["resource"]["service.name"] for s in client.values()},
          set(), "services")
    nothing_lost(session)


@test("otlp-rpc", timeout=120)
def with_rpc(ctx):
    """Calls of gRPC, of both sides: method and status as the client says."""
    receiver, port = Receiver(ctx, "grpc"), free_port()
    with running(ctx, [PYTHON, RPC, "serve", port], port, ["--lossless"], env=receiver.env()) as server:
        result = ctx.scoped([PYTHON, RPC, "call", port], ["--lossless"], env=receiver.env(), check_code=0)
    end_of(result.session)
    names = {0: "OK", 4: "DEADLINE_EXCEEDED", 5: "NOT_FOUND", 12: "UNIMPLEMENTED"}
    want = Counter((name, names[int(status)]) for name, status in (line.split() for line in result.out.decode().splitlines()))
    answered = Counter({k: n for k, n in want.items() if k[0] != "Sleep"})
    for kind in ("server", "client"):
        spans = [s for s in receiver.spans(kind) if "rpc.method" in s["attributes"]]
        for s in spans:
            equal((s["attributes"]["rpc.system.name"], s["name"]), ("grpc", s["attributes"]["rpc.method"]), "system and name")
        told = Counter((s["attributes"]["rpc.method"].removeprefix("test.v1.Greeter/"),
                        s["attributes"].get("rpc.status_code")) for s in spans)
        equal(Counter({k: n for k, n in told.items() if k[0] != "Sleep"}), answered, f"{kind} spans")
        equal(sum(n for k, n in told.items() if k[0] == "Sleep"), 1, f"{kind} spans of the call that was given up")
        counts = Counter()
        for p in receiver.last(f"rpc.{kind}.call.duration"):
            equal((p["unit"], p["type"]), ("s", "histogram"), "the metric")
            counts[(p["attributes"]["rpc.method"].removeprefix("test.v1.Greeter/"),
                    p["attributes"].get("rpc.status_code"))] += p["count"]
        equal(Counter({k: n for k, n in counts.items() if k[0] != "Sleep"}), answered, f"rpc.{kind}.call.duration")
    nothing_lost(server)
    nothing_lost(result.session)


@test("otlp-http2", timeout=90)
def with_http2(ctx):
    """Requests that share a connection: as many server and client spans as h2load and nghttpd have had."""
    receiver, port, root = Receiver(ctx), free_port(), ctx.fresh("root")
    (root / "small").write_text("small\n")
    with running(ctx, [ctx.tool("nghttpd"), "--no-tls", "-d", root, port], port, ["--lossless"], env=receiver.env()) as server:
        client = ctx.scoped([ctx.tool("h2load"), "-n", "300", "-c", "3", "-m", "10", f"http://127.0.0.1:{port}/small"], ["--lossless"],
                            env=receiver.env(), check_code=0)
        # what a receiver is too slow for at the end of a session is lost, and this machine may be slow
        receiver.wait("the server's spans", lambda r: len(r.spans("server")) == 300)
    end_of(client.session)
    check(b"300 total, 300 started, 300 done, 300 succeeded" in client.out, "h2load", client.describe())
    for kind in ("server", "client"):
        spans = receiver.spans(kind)
        equal(Counter((s["attributes"]["http.request.method"], s["attributes"]["http.response.status_code"],
                       s["attributes"]["network.protocol.version"]) for s in spans), {("GET", 200, "2"): 300}, f"{kind} spans")
        equal(server_counts(receiver, f"http.{kind}.request.duration"), {("GET", 200): 300}, f"the {kind}'s histogram")
    nothing_lost(server)
    nothing_lost(client.session)


def load(ctx, web, requests):
    r = ctx.run([ctx.tool("ab"), "-q", "-k", "-n", requests, "-c", "8", f"http://127.0.0.1:{web.port}/small"], check_code=0)
    check(b"Failed requests:        0\n" in r.out, "ab", r.describe())


# What receivers do before they take everything: all of it arrives nonetheless.
FAULTS = {
    "slow": ("http", ["slow:2000"] * 3 + ["ok"]),
    "refused": ("http", ["503:1", "ok", "429", "502", "504:1", "ok"]),
    "broken": ("http", ["close", "ok", "truncated", "ok"]),
    "answers": ("http", ["201", "huge", "garbage", "ok"]),
    "grpc-slow": ("grpc", ["slow:2000"] * 3 + ["ok"]),
    "grpc-refused": ("grpc", ["14:1", "ok", "14", "4", "10", "8:1", "ok"]),
    "grpc-goaway": ("http2", ["ok", "goaway", "ok", "goaway", "close", "ok"]),
    "grpc-broken": ("http2", ["truncated", "ok", "close", "ok"]),
    "grpc-answers": ("http2", ["garbage", "ok"]),
}


def with_faults(ctx, name):
    """Nothing is lost, whatever the receiver does."""
    protocol, answers = FAULTS[name]
    web, receiver = Nginx(ctx), Receiver(ctx, protocol, answers)
    with web.running(receiver.env(OTEL_METRICS_EXPORTER="none", OTEL_LOGS_EXPORTER="none")) as session:
        for _ in range(len(answers) + 2):  # some in each request
            load(ctx, web, 50)
            asked = len(receiver.requests())
            receiver.wait("a request", lambda r, n=asked: len(r.requests()) > n)
    wanted = len(web.log())
    spans = receiver.items_spans("server")
    ids = {(s["trace"], s["span"]) for s in spans}
    equal(len(ids), wanted, f"spans ({receiver.summary()})")
    if not {"close", "truncated", "huge", "garbage"} & {a.split(":")[0] for a in answers}:
        equal(len(spans), wanted, f"spans that came twice ({receiver.summary()})")
    nothing_lost(session)


for _name in FAULTS:
    add_test("apps", f"otlp-faults-{_name}", lambda ctx, name=_name: with_faults(ctx, name), timeout=120)


@test("otlp-partial", timeout=60)
def partial(ctx):
    """What a receiver takes but rejects is a loss, as many as it says."""
    for protocol in ("http", "grpc"):
        web, receiver = Nginx(ctx), Receiver(ctx, protocol, ["partial:3", "ok"])
        with web.running(receiver.env(OTEL_METRICS_EXPORTER="none", OTEL_LOGS_EXPORTER="none")) as session:
            load(ctx, web, 50)
        equal(sum(session.lost().values()), 3, f"losses: {session.lost()}")
        equal(len(receiver.spans("server")), 50, "spans")
        check("some were not to our taste" in session.log(), "what the receiver says is in the log", session.log())
        for path in web.dir.rglob("*.log"):
            path.unlink()
        os.rename(web.dir, f"{web.dir}-{protocol}")


@test("otlp-wrong-port", timeout=120)
def wrong_port(ctx):
    """gRPC to a server of HTTP/1, HTTP to one of gRPC, nobody at all: the program runs and ends, and all is a counted loss."""
    http1, grpc = Receiver(ctx, "http"), Receiver(ctx, "grpc")
    for port, protocol in ((http1.port, "grpc"), (grpc.port, "http/protobuf"), (free_port(), "grpc"), (free_port(), "http/protobuf")):
        env = ctx.env(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}", OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
                      OTEL_METRICS_EXPORTER="none", OTEL_TRACES_EXPORTER="none")
        result = ctx.scoped(["sh", "-c", "for i in 1 2 3 4 5 6 7; do echo line $i; done; exit 3"], env=env)
        equal((result.code, result.out), (3, b"".join(b"line %d\n" % i for i in range(1, 8))), "the program")
        end_of(result.session)
        lost = result.session.lost()
        equal(sum(lost.values()), 7, f"losses of {protocol}: {lost}")
        check(str(port) in result.session.log(), "the log names the receiver", result.session.log())
    equal((http1.taken("logs"), grpc.taken("logs")), ([], []), "requests")


def authority(ctx, name):
    """A CA, and a certificate of it for 127.0.0.1 and for a client."""
    d, openssl = ctx.fresh(name), ctx.tool("openssl")
    ctx.run([openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", d / "ca.key", "-out", d / "ca.pem", "-days", "2",
             "-subj", f"/CN={name}"], check_code=0)
    (d / "ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for who in ("server", "client"):
        ctx.run([openssl, "req", "-newkey", "rsa:2048", "-nodes", "-keyout", d / f"{who}.key", "-out", d / f"{who}.csr",
                 "-subj", f"/CN={who}"], check_code=0)
        ctx.run([openssl, "x509", "-req", "-in", d / f"{who}.csr", "-CA", d / "ca.pem", "-CAkey", d / "ca.key", "-CAcreateserial",
                 "-days", "2", "-extfile", d / "ext", "-out", d / f"{who}.pem"], check_code=0)
    return d


@test("otlp-tls", timeout=120)
def with_tls(ctx):
    """TLS and mutual TLS; a server whose certificate is another's gets nothing, nor does one that wants to know the client."""
    good, other = authority(ctx, "good"), authority(ctx, "other")
    server = {"cert": good / "server.pem", "key": good / "server.key"}
    client = {"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": good / "client.pem", "OTEL_EXPORTER_OTLP_CLIENT_KEY": good / "client.key"}
    for protocol in ("http", "grpc"):
        for mutual in (False, True):
            receiver = Receiver(ctx, protocol, tls={**server, **({"ca": good / "ca.pem"} if mutual else {})})
            for ca, who, works in ((good, client if mutual else {}, True), (other, client, False), (good, {}, not mutual)):
                before = len(receiver.logs())
                env = receiver.env(OTEL_EXPORTER_OTLP_CERTIFICATE=ca / "ca.pem", **who)
                what = f"{protocol}, {'mutual TLS' if mutual else 'TLS'}, CA {ca.name}, {len(who)} files of the client"
                s = end_of(ctx.scoped(["echo", "hello"], env=env, check_code=0).session)
                lines = [r["body"].strip() for r in receiver.logs()[before:] if isinstance(r["body"], str)]
                equal(lines.count("hello"), int(works), f"{what}: logs")
                equal(bool(s.lost()), not works, f"{what}: losses {s.lost()}")
            receiver.stop()


@test("otlp-gzip", timeout=60)
def compressed(ctx):
    for protocol in ("http", "grpc"):
        receiver = Receiver(ctx, protocol)
        env = receiver.env(OTEL_EXPORTER_OTLP_COMPRESSION="gzip", OTEL_EXPORTER_OTLP_HEADERS="x-team=a%20b,x-more=1")
        session = end_of(ctx.scoped(["sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do echo a line of text, number $i; done"], env=env,
                                    check_code=0).session)
        lines = [r["body"].strip() for r in receiver.logs() if isinstance(r["body"], str)]
        equal(lines, [f"a line of text, number {i}" for i in range(1, 10)], "logs")
        for r in receiver.requests():
            equal((r["headers"]["x-team"], r["headers"]["x-more"]), ("a b", "1"), "headers")
            check("scope" in r["headers"]["user-agent"].lower(), "user agent", r["headers"])
            if protocol == "http":
                equal(r["headers"]["content-encoding"], "gzip", "encoding")
        if protocol == "http":
            check(all(r["sent"] < r["bytes"] for r in receiver.requests("logs")), "nothing became smaller", receiver.summary())
        nothing_lost(session)


@test("otlp-destinations", timeout=60)
def destinations(ctx):
    """The flag, and what the variables say about single signals: each goes where it shall, or nowhere."""
    web, one, two = Nginx(ctx), Receiver(ctx), Receiver(ctx)
    argv = ["sh", "-c", f"echo hello; curl -s -o /dev/null http://127.0.0.1:{web.port}/small"]
    every = ["logs", "metrics", "traces"]

    def told(flags=(), **env):
        before = [len(r.requests()) for r in (one, two)]
        nothing_lost(end_of(ctx.scoped(argv, flags, env=ctx.env(**env), check_code=0).session))
        return [sorted({q["signal"] for q in r.requests()[b:]}) for r, b in zip((one, two), before)]
    with web.running(None, None):
        equal(told(), [[], []], "without anything")
        equal(told(["--otlp", one.url]), [every, []], "the flag")
        equal(told(OTEL_EXPORTER_OTLP_ENDPOINT=one.url + "/"), [every, []], "the variable")
        equal(told(OTEL_EXPORTER_OTLP_ENDPOINT=one.url, OTEL_SDK_DISABLED="true"), [[], []], "OTEL_SDK_DISABLED")
        equal(told(OTEL_EXPORTER_OTLP_ENDPOINT=one.url, OTEL_LOGS_EXPORTER="none"), [["metrics", "traces"], []], "no logs")
        equal(told(OTEL_EXPORTER_OTLP_ENDPOINT=one.url, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=two.url + "/v1/traces"),
              [["logs", "metrics"], ["traces"]], "traces elsewhere")
        equal(told(OTEL_EXPORTER_OTLP_LOGS_ENDPOINT=two.url + "/v1/logs"), [[], ["logs"]], "logs alone")


@test("otlp-many", timeout=180)
def many(ctx):
    """Some thousand requests, to a receiver that is slow in between: as many server spans as nginx has logged."""
    web, receiver, number = Nginx(ctx), Receiver(ctx, "grpc", ["ok"] * 3 + ["slow:2000", "ok"], brief=True), 10000

    def spans(r):
        return sum(q["kinds"].get("2", 0) for q in r.taken("traces"))
    with web.running(receiver.env(OTEL_LOGS_EXPORTER="none")) as session:
        load(ctx, web, number)
        receiver.wait("all spans", lambda r: spans(r) >= number)
    equal((spans(receiver), len(web.log())), (number, number), "server spans")
    nothing_lost(session)
