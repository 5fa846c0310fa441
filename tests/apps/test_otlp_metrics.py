# SPDX-License-Identifier: Apache-2.0
"""Metrics in OTLP (docs/otlp-metrics.md) told in many intervals: what they sum up to is what the program has done."""

from otlp import Receiver
from scopetest import check, equal, test
from traffic import PYTHON, nothing_lost

CUMULATIVE, DELTA = 2, 1
REQUESTS = 30

PROGRAM = """
import http.client, http.server, socket, threading, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(404 if self.path == "/9" else 200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")
    def log_message(self, *args):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sink.bind(("127.0.0.1", 0))
statsd = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
statsd.connect(sink.getsockname())
client = http.client.HTTPConnection("127.0.0.1", server.server_port)
for n in range(%d):
    client.request("GET", "/%%d" %% n)
    client.getresponse().read()
    statsd.send(b"jobs:2|c|#queue:a")
    statsd.send(b"depth:%%d|g" %% n)
    statsd.send(b"wait:7|ms")
    statsd.send(b"users:u%%d|s" %% n)
    time.sleep(0.02)
""" % REQUESTS


def run(ctx, **more):
    receiver = Receiver(ctx)
    env = receiver.env(SCOPE_OTLP_METRICS_INTERVAL="100", **more)
    result = ctx.scoped([PYTHON, "-c", PROGRAM], ["--lossless"], env=env, check_code=0)
    result.session.wait_end(60)
    nothing_lost(result.session)
    return receiver


def own(receiver, name):
    """Points of the program; the interpreter may be started by others."""
    found = [p for p in receiver.points(name) if p["resource"]["service.name"] != "scope"]
    check(found, f"no {name}", sorted({p["name"] for p in receiver.points()}))
    return found


@test("otlp-metrics-delta", timeout=90)
def deltas(ctx):
    """Intervals follow each other, and their sums are those of all that was done; histograms are exponential."""
    receiver = run(ctx, SCOPE_OTLP_METRICS_TEMPORALITY="delta", SCOPE_OTLP_METRICS_HISTOGRAM="exponential")
    for side in ("server", "client"):
        points = own(receiver, f"http.{side}.request.duration")
        equal({(p["type"], p["unit"], p["temporality"]) for p in points}, {("exponentialHistogram", "s", DELTA)}, "histograms")
        equal(sum(p["count"] for p in points), REQUESTS, f"requests of the {side}")
        equal(sum(p["count"] for p in points if p["attributes"]["http.response.status_code"] == 404), 1, "404")
        for p in points:
            counts = list(map(int, p["positive"]["bucketCounts"]))
            equal(sum(counts) + int(p.get("zeroCount", 0)), p["count"], "buckets")
            base = 2 ** (2 ** -p["scale"])
            low = p["positive"].get("offset", 0)
            check(base ** low < p["min"] * 1.000001 and p["max"] < base ** (low + len(counts)) * 1.000001, "bounds", p)
    by_series = {}
    for p in receiver.points():
        if p["temporality"] == DELTA:
            by_series.setdefault((p["name"], str(p["attributes"]), str(p["resource"])), []).append(p)
    check(by_series, "no deltas")
    for series, points in by_series.items():
        for before, after in zip(points, points[1:]):
            check(before["at"] <= after["start"] < after["at"], "intervals", series, before, after)
    equal(sum(p["count"] for p in own(receiver, "http.client.response.body.size")), REQUESTS, "bodies")
    equal(sum(p["sum"] for p in own(receiver, "http.client.response.body.size")), 5 * REQUESTS, "bytes of bodies")
    equal({p["temporality"] for p in own(receiver, "process.memory.usage")}, {CUMULATIVE}, "what it is")


@test("otlp-metrics-statsd", timeout=90)
def captured(ctx):
    """A program's own metrics have their own names; those that can't be told are counted."""
    receiver = run(ctx)
    jobs = [p for p in own(receiver, "jobs")]
    equal({(p["type"], p["monotonic"], p["attributes"].get("queue"), p["temporality"]) for p in jobs}, {("sum", True, "a", CUMULATIVE)},
          "the counter")
    # sent and received: both are of this process
    equal(jobs[-1]["value"] % (2 * REQUESTS), 0, "its sum")
    check(jobs[-1]["value"] > 0, "its sum", jobs[-1])
    depth = own(receiver, "depth")
    equal((depth[-1]["type"], depth[-1]["value"]), ("gauge", REQUESTS - 1), "the gauge")
    wait = own(receiver, "wait")
    equal((wait[-1]["type"], wait[-1]["unit"], wait[-1]["min"], wait[-1]["max"]), ("histogram", "ms", 7, 7), "the timer")
    lost = [p for p in receiver.points("appscope.lost") if p["attributes"]["appscope.lost.kind"] == "statsd_metric"]
    equal(lost[-1]["value"] % REQUESTS, 0, "sets")
    check(lost[-1]["value"] > 0 and not receiver.points("users"), "sets", lost[-1])
    equal(receiver.last("appscope.processes")[-1]["value"], 0, "processes at the end")
