# SPDX-License-Identifier: Apache-2.0
"""Receivers of OTLP for tests (tests/apps/otlp_receiver.js), and what came there, as Python values."""

import base64
import json
import time

from scopetest import SLACK, TESTS, TOP, Failure, check, equal, free_port

KINDS = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}
PROTOCOLS = {"http": "http/protobuf", "grpc": "grpc", "http2": "grpc"}
# Answers that say that a request was taken.
TAKEN = ("ok", "slow", "partial", "garbage", "huge", "201")


def number(text):
    return int(text) if isinstance(text, str) else text


def value(any_value):
    """What an AnyValue holds."""
    for kind, v in any_value.items():
        if kind == "intValue":
            return number(v)
        if kind == "arrayValue":
            return [value(x) for x in v.get("values", [])]
        if kind == "kvlistValue":
            return attributes(v.get("values"))
        if kind == "bytesValue":
            return base64.b64decode(v)
        return v
    return None


def attributes(pairs):
    names = [p["key"] for p in pairs or []]
    check(len(names) == len(set(names)), "the same attribute twice", names)
    return {p["key"]: value(p.get("value") or {}) for p in pairs or []}


def hexadecimal(text):
    return base64.b64decode(text or "").hex()


class Receiver:
    """One that runs. answers, tls, brief: see otlp_receiver.js. enter: what stands in front of its command."""

    def __init__(self, ctx, protocol="http", answers=None, tls=None, brief=False, port=None, enter=()):
        self.ctx, self.protocol, self.port = ctx, protocol, port or free_port()
        name = f"otlp-{protocol}-{self.port}"
        self.file = ctx.dir / f"{name}.ndjson"
        options = {"protocol": protocol, "port": self.port, "file": str(self.file), "brief": brief,
                   "answers": list(answers or ["ok"])}
        if tls:
            options["tls"] = {k: str(v) for k, v in tls.items()}
        self.out = ctx.dir / f"{name}.out"
        with open(self.out, "ab") as out:
            self.process = ctx.start([*enter, ctx.tool("node"), TESTS / "apps/otlp_receiver.js", json.dumps(options)],
                                     env=ctx.env(NODE_PATH=TOP / "build/npm/node_modules"), stdout=out, stderr=out)
        ctx.wait_for(self.ready, f"the receiver listens ({self.out})", 60)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    def ready(self):
        said = self.out.read_text()
        check(self.process.poll() is None, "the receiver has ended", said)
        return said.endswith("ready\n")

    def env(self, **more):
        """An environment that has everything sent here."""
        return self.ctx.env(OTEL_EXPORTER_OTLP_ENDPOINT=self.url, OTEL_EXPORTER_OTLP_PROTOCOL=PROTOCOLS[self.protocol], **more)

    def stop(self):
        self.process.terminate()
        self.process.wait(30)

    # --- what came ---

    def requests(self, signal=None, answered=None):
        """Lines of the receiver. answered: only those that got this answer. All must be what the protocol says."""
        found = []
        if self.file.exists():
            text = self.file.read_text()
            for line in text[:text.rfind("\n") + 1].splitlines():
                found.append(json.loads(line))
        for r in found:
            if "bytes" in r and "items" in r or r.get("wrong"):
                equal((r.get("wrong"), r.get("unknown"), r.get("badText")), (None, 0, 0), f"what is wrong with a request of {r['signal']}")
            check(r["signal"] in ("traces", "metrics", "logs"), "a request that OTLP doesn't have", r)
        return [r for r in found if signal in (None, r["signal"]) and answered in (None, r["answer"])]

    def taken(self, signal):
        """Requests that were answered as taken."""
        return [r for r in self.requests(signal) if r["answer"] in TAKEN]

    def items(self, signal, lists):
        for r in self.taken(signal):
            for resource in r["request"].get(lists[0], []):
                about = attributes((resource.get("resource") or {}).get("attributes"))
                for scope in resource.get(lists[1], []):
                    for item in scope.get(lists[2], []):
                        yield {**item, "resource": about, "scope": scope.get("scope") or {},
                               "schema": (resource.get("schemaUrl"), scope.get("schemaUrl"))}

    def spans(self, kind=None):
        """Spans, with kind, ids (hex), attributes, times (ns) and duration (seconds) as they are best compared."""
        found = self.items_spans(kind)
        ids = [(s["trace"], s["span"]) for s in found]
        if {r["answer"] for r in self.requests()} <= {"ok", "slow"}:  # else it may have to come twice
            equal(len(ids), len(set(ids)), "different ids of spans")
        return found

    def items_spans(self, kind=None):
        """The same, of which some may be there twice."""
        found = []
        for s in self.items("traces", ("resourceSpans", "scopeSpans", "spans")):
            start, end = int(s["startTimeUnixNano"]), int(s["endTimeUnixNano"])
            check(start <= end, "a span that ends before it starts", s)
            s.update(kind=KINDS[s["kind"]], trace=hexadecimal(s["traceId"]), span=hexadecimal(s["spanId"]),
                     parent=hexadecimal(s.get("parentSpanId")), attributes=attributes(s.get("attributes")),
                     start=start, end=end, duration=(end - start) / 1e9, error=(s.get("status") or {}).get("code") == 2)
            check(len(s["trace"]) == 32 and set(s["trace"]) != {"0"}, "not a trace id", s)
            check(len(s["span"]) == 16 and set(s["span"]) != {"0"}, "not a span id", s)
            check(len(s["parent"]) in (0, 16) and set(s["parent"]) != {"0"}, "not a parent's id", s)
            if kind in (None, s["kind"]):
                found.append(s)
        return found

    def logs(self):
        found = []
        for r in self.items("logs", ("resourceLogs", "scopeLogs", "logRecords")):
            r.update(attributes=attributes(r.get("attributes")), body=value(r.get("body") or {}),
                     trace=hexadecimal(r.get("traceId")), span=hexadecimal(r.get("spanId")))
            found.append(r)
        return found

    def points(self, name=None):
        """Data points of metrics, in the order they came: each with name, unit, type, attributes, time, and what it has."""
        found = []
        for m in self.items("metrics", ("resourceMetrics", "scopeMetrics", "metrics")):
            kind = next((k for k in ("gauge", "sum", "histogram", "exponentialHistogram", "summary") if k in m), None)
            check(kind, "a metric without data", m)
            for p in m[kind].get("dataPoints", []):
                start, at = int(p.get("startTimeUnixNano", 0)), int(p["timeUnixNano"])
                check(start <= at, "a point before its start", p)
                if name in (None, m["name"]):
                    found.append({**p, "name": m["name"], "unit": m.get("unit", ""), "type": kind, "resource": m["resource"],
                                  "attributes": attributes(p.get("attributes")), "start": start, "at": at,
                                  "count": number(p.get("count", 0)), "temporality": m[kind].get("aggregationTemporality"),
                                  "monotonic": m[kind].get("isMonotonic", False),
                                  "value": p.get("asDouble", number(p.get("asInt", 0)))})
        return found

    def last(self, name):
        """The last point of each series of a cumulative metric."""
        found = {}
        for p in self.points(name):
            found[(json.dumps(p["resource"], sort_keys=True), json.dumps(p["attributes"], sort_keys=True))] = p
        return list(found.values())

    def wait(self, what, condition, seconds=60):
        """Waits until condition(self) holds of what has come, and gives what it gave."""
        until = time.monotonic() + min(seconds * SLACK, self.ctx.left())
        pause = 0.1
        while True:
            found = condition(self)
            if found:
                return found
            if time.monotonic() > until:
                raise Failure(f"did not come within {seconds} s: {what}", self.summary())
            time.sleep(pause)
            pause = min(pause * 1.3, 1)  # parsing takes time, too

    def summary(self):
        """For messages of failures."""
        return [(r["signal"], r["answer"], r.get("items")) for r in self.requests()][-40:]
