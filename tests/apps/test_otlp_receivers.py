# SPDX-License-Identifier: Apache-2.0
"""The receivers that tests of OTLP rely on find what is wrong, or such a test would say nothing."""

import http.client
import threading

from needed import needed
from otlp import Receiver
from scopetest import Failure, check, equal, test

grpc = needed("grpc")

TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


def field(tag, content):
    """A field of protobuf: a varint for an int, else bytes with their length."""
    def varint(n):
        return bytes([n & 127]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)
    return varint(tag << 3) + varint(content) if isinstance(content, int) else varint(tag << 3 | 2) + varint(len(content)) + content


def traces(name, more=b""):
    times = b"".join(bytes([tag << 3 | 1]) + t.to_bytes(8, "little") for tag, t in ((7, 1 << 60), (8, (1 << 60) + 5000000)))
    attribute = field(1, b"http.response.status_code") + field(2, field(3, 404))
    span = (field(1, bytes(range(16))) + field(2, bytes(range(8))) + field(5, name) + field(6, 2) + times +
            field(9, attribute) + field(15, field(3, 2)) + more)
    resource = field(1, field(1, field(1, b"service.name") + field(2, field(1, b"x"))))
    return field(1, resource + field(2, field(2, span))) * 2


def post(receiver, body, kind="application/x-protobuf", path="/v1/traces"):
    c = http.client.HTTPConnection("127.0.0.1", receiver.port, timeout=60)
    c.request("POST", path, body, {"Content-Type": kind})
    r = c.getresponse()
    r.read()
    c.close()
    return r.status


@test("otlp-receivers", timeout=60)
def receivers(ctx):
    """What was sent comes out; a wrong field, text or message is told."""
    for protocol in ("http", "grpc", "http2"):
        receiver = Receiver(ctx, protocol, ["14:1", "ok"] if protocol == "grpc" else None)

        def send(body, to=receiver):
            if to.protocol == "http":
                equal(post(to, body), 200, "status")
                return
            with grpc.insecure_channel(f"127.0.0.1:{to.port}") as channel:
                channel.unary_unary(TRACES)(body, timeout=60)
        if protocol == "grpc":
            try:
                send(traces(b"x"))
                raise Failure("a call that is to fail has not")
            except grpc.RpcError as e:
                equal(e.code(), grpc.StatusCode.UNAVAILABLE, "status of gRPC")
                check(b"RetryInfo" in dict(e.trailing_metadata())["grpc-status-details-bin"], "no RetryInfo")
        send(traces("GET /gr\xfc\xdfe".encode()))
        got = [(s["name"], s["kind"], s["trace"], s["span"], s["parent"], s["duration"], s["error"], s["attributes"], s["resource"])
               for s in receiver.items_spans()]
        equal(got, [("GET /gr\xfc\xdfe", "server", bytes(range(16)).hex(), bytes(range(8)).hex(), "", 0.005, True,
                     {"http.response.status_code": 404}, {"service.name": "x"})] * 2, "spans")
        for bad in (traces(b"\xff"), traces(b"x", field(99, 1)), traces(b"x")[:-1], b"\xff" * 20):
            before = receiver.file.read_bytes()
            send(bad)
            try:
                receiver.requests()
            except Failure:
                receiver.file.write_bytes(before)
            else:
                raise Failure(f"{protocol}: not found to be wrong", bad)


@test("otlp-receivers-faults", timeout=60)
def faults(ctx):
    """What a receiver over HTTP is to do wrong it does."""
    receiver = Receiver(ctx, "http", ["503:1", "close", "truncated", "partial:1", "garbage", "ok"])
    body = traces(b"x")
    equal(post(receiver, body), 503, "status")
    for _ in range(2):
        try:
            post(receiver, body)
            raise Failure("a whole answer")
        except (OSError, http.client.HTTPException):
            pass
    equal([post(receiver, body) for _ in range(3)], [200] * 3, "status")
    equal(len(receiver.taken("traces")), 3, "requests that were taken")
    equal(post(receiver, body, "application/json"), 415, "status")
    equal(post(receiver, body, path="/v1/other"), 404, "status")
    slow = Receiver(ctx, "http", ["hang"])
    thread = threading.Thread(target=lambda: hanging(slow))
    thread.start()
    slow.wait("a request that is not answered", lambda r: r.requests())
    check(thread.is_alive(), "an answer")
    slow.stop()
    thread.join(60)


def hanging(receiver):
    try:
        post(receiver, traces(b"x"))
    except (OSError, http.client.HTTPException):
        pass
