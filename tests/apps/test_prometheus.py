# SPDX-License-Identifier: Apache-2.0
"""The scrape endpoint (docs/prometheus.md), as Debian's Prometheus, promtool and the Python client see it, and as it
stands scrapers that mean no good. What is told is compared with what the client of the observed server has counted.
"""

import http.client
import json
import os
import re
import resource
import signal
import socket
import subprocess
import threading
import time
import urllib.parse
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from scopetest import Session, check, equal, free_port, test

SILENT = 4096
HTTP = "scope_http_server_request_duration_seconds"


def get(port, path, accept=None, timeout=60):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    c.request("GET", path, headers={"Accept": accept} if accept else {})
    r = c.getresponse()
    body = r.read()
    c.close()
    return r.status, r.getheader("Content-Type"), body.decode()


def scrape(port, accept=None):
    status, _, text = get(port, "/metrics", accept)
    equal(status, 200, "status of a scrape")
    return text


def values(text, name):
    """(labels, value) of each series of that name."""
    found = []
    for labels, value in re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", text, re.M):
        found.append((dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels)), float(value)))
    return found


def requests_by_status(text):
    told = Counter()
    for labels, value in values(text, f"{HTTP}_count"):
        told[(labels["http_request_method"], labels["http_response_status_code"])] += int(value)
    return told


def endpoint(ctx, session):
    """The port that the collector has found."""
    def port():
        try:
            url = session.meta.get("metric_dest") or ""
        except (OSError, ValueError):  # not yet written
            return 0
        return int(url.rsplit(":", 1)[1]) if url.startswith("prometheus://") else 0
    return ctx.wait_for(port, "the port in session.json", 60)


class Web:
    """An observed nginx."""

    def __init__(self, ctx):
        self.ctx, self.port, self.dir = ctx, free_port(), ctx.fresh("nginx")
        (self.dir / "root").mkdir()
        (self.dir / "root" / "small").write_bytes(b"x" * 100)
        user = "user root;" if os.geteuid() == 0 else ""
        temp = "".join(f"{k}_temp_path {self.dir}/t-{k};" for k in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (self.dir / "nginx.conf").write_text(f"""{user} worker_processes 2; daemon off;
            pid {self.dir}/pid; error_log {self.dir}/error.log;
            events {{ worker_connections 256; }}
            http {{ access_log off; {temp} keepalive_requests 100000;
                    server {{ listen 127.0.0.1:{self.port}; root {self.dir}/root; }} }}""")
        argv = [ctx.tool("nginx"), "-c", self.dir / "nginx.conf", "-p", self.dir]
        self.process = ctx.start(ctx.scope_argv(argv, ("-m", "prometheus://127.0.0.1:0")),
                                 env=ctx.env(SCOPE_SUMMARY_PERIOD=1))
        ctx.wait_for(self.listens, "nginx listens", 60, 0.1)
        self.session = Session(ctx, ctx.sessions()[-1])
        self.metrics = endpoint(ctx, self.session)

    def listens(self):
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    def load(self, threads, each):
        """What the client has got: by method and status."""
        def one(_):
            counted = Counter()
            c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            for i in range(each):
                method, path = ("HEAD", "/small") if i % 10 == 1 else ("GET", "/missing" if i % 10 == 2 else "/small")
                c.request(method, path)
                r = c.getresponse()
                r.read()
                counted[(method, str(r.status))] += 1
            c.close()
            return counted
        with ThreadPoolExecutor(threads) as pool:
            return sum(pool.map(one, range(threads)), Counter())

    def told(self, wanted):
        """Waits until the scrapes say so; the last text."""
        def right():
            self.text = scrape(self.metrics)
            return requests_by_status(self.text) == wanted
        try:
            self.ctx.wait_for(right, "all requests are told", 30, 0.1)
        finally:
            equal(requests_by_status(self.text), wanted, "requests by method and status")
        return self.text

    def stop(self):
        self.process.send_signal(signal.SIGQUIT)
        equal(self.process.wait(60), 0, "status of nginx")


def promtool_check(ctx, text):
    r = ctx.run([ctx.tool("promtool"), "check", "metrics"], stdin=text.encode())
    equal((r.code, r.out, r.err), (0, b"", b""), "what promtool finds")


OPENMETRICS = """
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
for family in text_string_to_metric_families(sys.stdin.read()):
    for sample in family.samples:
        print(family.type, family.unit or "-", sample.name, sample.value)
"""


@test("prometheus", timeout=180)
def with_prometheus(ctx):
    """nginx under load, scraped by a Prometheus: it has what the client has counted."""
    web, port = Web(ctx), free_port()
    directory = ctx.fresh("prometheus")
    (directory / "prometheus.yml").write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        f"scrape_configs: [{{job_name: appscope, static_configs: [{{targets: ['127.0.0.1:{web.metrics}']}}]}}]\n")
    ctx.start([ctx.tool("prometheus"), f"--config.file={directory}/prometheus.yml", "--storage.tsdb.path",
               directory / "data", f"--web.listen-address=127.0.0.1:{port}"], cwd=directory)

    def ask(query):
        try:
            status, _, text = get(port, "/api/v1/query?query=" + urllib.parse.quote(query))
        except OSError:
            return {}
        if status != 200:
            return {}
        return {tuple(v for k, v in sorted(r["metric"].items()) if k != "__name__"): float(r["value"][1])
                for r in json.loads(text)["data"]["result"]}

    ctx.wait_for(lambda: ask("up").get(("127.0.0.1:%d" % web.metrics, "appscope")) == 1, "a scrape", 60, 0.2)
    wanted = web.load(4, 250)
    text = web.told(wanted)
    query = f"sum by (http_request_method, http_response_status_code) ({HTTP}_count)"
    ctx.wait_for(lambda: ask(query) == wanted, "the Prometheus has all requests", 60, 0.2)
    equal(ask(f'sum({HTTP}_bucket{{le="+Inf"}})'), {(): 1000}, "the last bucket")
    check(ask(f"sum({HTTP}_sum)")[()] > 0, "requests took no time")
    equal(ask("sum(scope_http_response_body_bytes_total) >= bool 80000"), {(): 1}, "bytes of bodies")
    sizes = [r for r in values(text, "scope_process_resident_memory_bytes") if r[0]["proc"] == "nginx"]
    check(sizes and all(v > 1 << 20 for _, v in sizes), "memory of nginx", sizes)
    promtool_check(ctx, text)

    status, kind, text = get(web.metrics, "/metrics", "application/openmetrics-text; version=1.0.0, text/plain; q=0.5")
    equal((status, kind), (200, "application/openmetrics-text; version=1.0.0; charset=utf-8"), "OpenMetrics")
    r = ctx.run(["/usr/bin/python3", "-c", OPENMETRICS], stdin=text.encode(), check_code=0)
    parsed = [line.split() for line in r.out.decode().splitlines()]
    equal(sum(float(v) for _, _, name, v in parsed if name == f"{HTTP}_count"), 1000.0, "requests, as the client parses them")
    check(["info", "-", "scope_build_info"] in [p[:3] for p in parsed], "scope_build_info", text[:1000])
    check(any(p[:3] == ["counter", "bytes", "scope_network_io_bytes_total"] for p in parsed), "bytes of sockets")
    r = ctx.tool_run("metrics", check_code=None)
    check(b"went to prometheus://127.0.0.1:%d" % web.metrics in r.out, "scope metrics says where they went", r.describe())
    web.stop()
    web.session.wait_end(90)  # the Prometheus comes once more
    equal(web.session.lost(), {}, "losses")


@test("prometheus-silent", timeout=180)
def silent_scrapers(ctx):
    """Thousands that connect and say nothing, while the traffic goes on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = SILENT + 512 if hard == resource.RLIM_INFINITY else min(SILENT + 512, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    web, open_ones, stop = Web(ctx), [], threading.Event()

    def connect():
        while len(open_ones) < wanted - 512 and not stop.is_set():
            try:
                open_ones.append(socket.create_connection(("127.0.0.1", web.metrics), timeout=30))
            except OSError:
                time.sleep(0.01)

    try:
        threads = [threading.Thread(target=connect) for _ in range(4)]
        for t in threads:
            t.start()
        counted = web.load(4, 250)
        for t in threads:
            t.join(120)
        check(len(open_ones) >= wanted - 512, f"only {len(open_ones)} could connect")
        counted += web.load(2, 50)
        text = web.told(counted)
        fds = len(os.listdir(f"/proc/{web.session.collector_pid()}/fd"))
        check(fds < 200, f"the collector has {fds} descriptors")
        promtool_check(ctx, text)
    finally:
        stop.set()
        for s in open_ones:
            s.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    equal(values(text, "scope_lost_total"), [], "losses")
    web.stop()
    web.session.wait_end(90)
    equal(web.session.lost(), {}, "losses")


def talk(port, sent, finish=False):
    """All that comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as s:
        try:
            s.sendall(sent)
            if finish:
                s.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        got = b""
        try:
            while piece := s.recv(65536):
                got += piece
        except ConnectionResetError:
            pass
        return got


CLOSE = b"Host: localhost\r\nConnection: close\r\n\r\n"
ODD_REQUESTS = [
    (b"GET /metrics HTTP/1.1\r\n" + CLOSE, 200),
    (b"GET /metrics?x=1 HTTP/1.1\r\n" + CLOSE, 200),
    (b"GET http://localhost/metrics HTTP/1.1\r\n" + CLOSE, 200),
    (b"\r\n\r\nGET /metrics HTTP/1.1\r\n" + CLOSE, 200),
    (b"GET /metrics HTTP/1.0\r\n\r\n", 200),
    (b"GET /metrics HTTP/1.0\n\n", 200),
    (b"HEAD /metrics HTTP/1.1\r\n" + CLOSE, 200),
    (b"GET /metrics HTTP/1.1\r\nContent-Length: 5\r\n" + CLOSE + b"hello", 200),
    (b"GET / HTTP/1.1\r\n" + CLOSE, 404),
    (b"GET /metricsx HTTP/1.1\r\n" + CLOSE, 404),
    (b"POST /metrics HTTP/1.1\r\nContent-Length: 100000\r\n" + CLOSE + b"x" * 100000, 405),
    (b"get /metrics HTTP/1.1\r\n" + CLOSE, 405),
    (b"GET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
    (b"GET /metrics HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    (b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", 403),
    (b"GET /metrics HTTP/1.1\r\nHost: evil.example:80\r\nConnection: close\r\n\r\n", 403),
    (b"GET /metrics HTTP/1.1\r\nHost: [::1]:9109\r\nConnection: close\r\n\r\n", 200),
    (b"GET /metrics HTTP/1.1\r\nHost: 10.1.2.3:1\r\nConnection: close\r\n\r\n", 200),
    (b"GET /metrics HTTP/1.1\r\nHost : localhost\r\n\r\n", 400),
    (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n folded: x\r\n\r\n", 400),
    (b"GET /metrics\r\n\r\n", 400),
    (b"GET  /metrics HTTP/1.1\r\n\r\n", 400),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n", 400),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 8192, 431),
    (b"GET /" + b"a" * 100000, 431),
]


@test("prometheus-requests", timeout=180)
def odd_requests(ctx):
    """What isn't a scrape gets the answer that HTTP has for it, and nobody waits for whom else."""
    ctx.start(ctx.scope_argv(["sleep", "170"], ("-m", "prometheus://127.0.0.1:0")))
    ctx.wait_for(lambda: ctx.sessions(), "a session", 60)
    session = ctx.session()
    port = endpoint(ctx, session)
    for sent, status in ODD_REQUESTS:
        got = talk(port, sent)
        check(got.startswith(b"HTTP/1.1 %d " % status), f"not {status}", sent[:80], got[:200])
        head, _, body = got.partition(b"\r\n\r\n")
        length = int(re.search(rb"Content-Length: (\d+)", head).group(1))
        equal(len(body), 0 if sent.startswith(b"HEAD") else length, f"bytes of the answer to {sent[:40]}")
        check(status != 405 or b"\r\nAllow: GET, HEAD\r\n" in head + b"\r\n", "which methods there are", head)
    equal(len(re.findall(rb"^HTTP/1.1 200 ", talk(port, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3 +
                                                  b"GET /metrics HTTP/1.1\r\n" + CLOSE), re.M)), 4, "answers to four at once")
    # Some that stop in the middle, and some that read nothing: who comes then is served all the same.
    waiting = []
    for i in range(48):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        s.connect(("127.0.0.1", port))
        s.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 8 if i % 2 else b"GET /metr")
        waiting.append(s)
    check("scope_processes 1\n" in scrape(port), "a scrape among those that wait")
    for s in waiting:
        s.close()
    equal(session.lost(), {}, "losses")


@test("prometheus-taken", timeout=120)
def taken_port(ctx):
    """A port that is taken is told before the program starts, which runs, and used as soon as it is free."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        r = ctx.run(ctx.scope_argv(["sh", "-c", "exit 7"], ("-m", f"prometheus://127.0.0.1:{port}")))
        equal(r.code, 7, "status of the program")
        check(b"can't be scraped at 127.0.0.1 port %d: the port is taken\n" % port in r.err, "the message", r.describe())
        ctx.session().wait_end()
        p = ctx.start(ctx.scope_argv(["sleep", "100"], ("-m", f"prometheus://127.0.0.1:{port}")))
        ctx.wait_for(lambda: len(ctx.sessions()) == 2, "the second session", 60)
        session = Session(ctx, max(ctx.sessions(), key=lambda d: int(d.rsplit("/", 1)[1])))
        ctx.wait_for(lambda: "the port is taken" in session.log(), "a line in the log", 60)
    text = ctx.wait_for(lambda: attempt(port), "the port", 60, 0.2)
    check('proc="sleep"' in text or "scope_processes 1\n" in text, "its metrics", text[:500])
    p.terminate()
    p.wait(60)


def attempt(port):
    try:
        return scrape(port)
    except OSError:
        return None


@test("prometheus-ended", timeout=120)
def ended_programs(ctx):
    """What a program did last is told, if somebody comes, and the collector ends behind that."""
    p = ctx.start(ctx.scope_argv(["sh", "-c", "read x <fifo; cat /etc/passwd; exit 0"], ("-m", "prometheus://127.0.0.1:0")),
                  cwd=fifo_in(ctx))
    ctx.wait_for(lambda: ctx.sessions(), "a session", 60)
    session = ctx.session()
    port = endpoint(ctx, session)
    scrape(port)
    time.sleep(8)  # an interval, of which two are waited for
    scrape(port)
    (ctx.dir / "pipe" / "fifo").write_text("go\n")
    equal(p.wait(60), 0, "status")
    ctx.wait_for(lambda: session.meta["end_ns"], "the session's end", 60)
    time.sleep(4)  # longer than it stays if nobody is expected
    check(session.collector_runs(), "the collector didn't wait")
    text = scrape(port)
    check("scope_processes 0\n" in text, "there are still processes", text[:1000])
    read = [v for labels, v in values(text, "scope_file_io_bytes_total") if labels["proc"] == "cat" and
            labels["direction"] == "read"]
    check(read and sum(read) >= os.path.getsize("/etc/passwd"), "what cat has read", text)
    session.wait_end(60)


def fifo_in(ctx):
    directory = ctx.fresh("pipe")
    os.mkfifo(directory / "fifo")
    return directory


@test("prometheus-labels", timeout=60)
def odd_names(ctx):
    """Names of programs may have any bytes."""
    directory = ctx.fresh("odd")
    path = os.fsencode(directory) + b'/a"b\\c\nd\xff'
    os.symlink("/bin/sleep", path)
    argv = [ctx.scope, "run", "-m", "prometheus://127.0.0.1:0", "--", path, "50"]

    process = subprocess.Popen(argv, env=ctx.env(SCOPE_SUMMARY_PERIOD=1), cwd=ctx.dir, stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        ctx.wait_for(lambda: ctx.sessions(), "a session", 60)
        port = endpoint(ctx, ctx.session())
        text = ctx.wait_for(lambda: (lambda t: t if "scope_process_threads{" in t else None)(scrape(port)), "its metrics", 30)
        check('proc="a\\"b\\\\c\\nd\ufffd"' in text, "the name", text[:3000])
        promtool_check(ctx, text)
    finally:
        process.terminate()
        process.wait(30)
