# SPDX-License-Identifier: Apache-2.0
"""The payload connection of a Cribl destination: what the receiver puts together is what passed, and what it doesn't get
is marked where it is missing."""

import json
import socket
import ssl
import threading
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

from scopetest import check, equal, test

PYTHON = "/usr/bin/python3"

TALK = (Path(__file__).resolve().parent / "talk.py").read_text()


class Receiver:
    """What a Cribl worker does: takes connections, tells them apart by their first line. The connection whose number
    (of those with payloads) is in `cut` is closed after so many bytes."""

    def __init__(self, listener, context=None, cut=None, wait=None):
        self.listener, self.context, self.cut, self.wait = listener, context, cut or {}, wait
        self.starts, self.pieces, self.errors, self.payload_connections = [], [], [], 0
        self.threads = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with suppress(OSError):
            while True:
                s = self.listener.accept()[0]
                self.threads.append(threading.Thread(target=self.serve, args=(s,), daemon=True))
                self.threads[-1].start()

    def serve(self, s):
        try:
            s.settimeout(60)
            if self.context:
                s = self.context.wrap_socket(s, server_side=True)
            with s, s.makefile("rb") as f:
                start = json.loads(f.readline())
                self.starts.append(start)
                if start["format"] != "scope":
                    while f.read(65536):
                        pass
                    return
                number, taken = self.payload_connections, 0
                self.payload_connections += 1
                if self.wait:
                    self.wait.wait(60)
                while line := f.readline():
                    header = json.loads(line)
                    equal(header["type"], "payload", "type")
                    data = f.read(header["len"])
                    if len(data) < header["len"]:
                        break # cut off: it comes again
                    self.pieces.append((header, data))
                    taken += len(line) + len(data)
                    if taken > self.cut.get(number, 1 << 40):
                        s.shutdown(socket.SHUT_RDWR)
                        break
        except Exception as e: # pylint: disable=broad-except
            self.errors.append(repr(e))

    def done(self):
        self.listener.close()
        for t in self.threads:
            t.join(60)
        equal(self.errors, [], "errors of the receiver")

    def flows(self):
        """(channel, src): the bytes, and what is missing as (place, length). Pieces that come twice are known by their offset."""
        flows, missing = defaultdict(bytearray), defaultdict(list)
        for header, data in self.pieces:
            key = header["_channel"], header["src"]
            have, lost = flows[key], header.get("missing", 0)
            at = len(have) + sum(n for _, n in missing[key])
            if header["offset"] + len(data) <= at and (data or not lost):
                continue
            if self.cut: # what this side's kernel had taken when it hung up: nobody else can know of that
                lost = header["offset"] - at
            equal(header["offset"] - lost, at, f"offset of a piece of {key}")
            if lost:
                missing[key].append((len(have), lost))
            have += data
        return flows, missing

    def named(self):
        """The bytes by port of this side, port of the other, and direction."""
        keys = {(h["_channel"], h["src"]): (h["localp"], h["remotep"], h["src"]) for h, _ in self.pieces}
        flows, missing = self.flows()
        return {keys[k]: bytes(v) for k, v in flows.items()}, {keys[k]: v for k, v in missing.items() if v}


def config(ctx, transport, **more):
    path = ctx.dir / "cribl.yml"
    path.write_text(json.dumps({"event": {"watch": [{"type": "net"}]}, "payload": {"enable": True, "dir": str(ctx.dir / "disk")},
                                "libscope": {"lossless": True},
                                "cribl": {"enable": True, "authtoken": "T0KEN", "transport": transport}, **more}))
    return ["-u", path]


def tcp():
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, {"type": "tcp", "host": "127.0.0.1", "port": listener.getsockname()[1]}


def talked(ctx, out, receiver):
    """What arrived is what the two ends sent to each other, but for what is marked as missing. Returns how much that is."""
    a, b = map(int, out.split())
    flows, missing = receiver.named()
    got_a, got_b = (ctx.dir / "got-a").read_bytes(), (ctx.dir / "got-b").read_bytes()
    total = 0
    for name, want in (((a, b, "netrx"), got_a), ((b, a, "nettx"), got_a), ((b, a, "netrx"), got_b), ((a, b, "nettx"), got_b)):
        at = begun = 0
        for place, n in [*missing.get(name, []), (len(flows[name]), 0)]:
            check(flows[name][at:place] == want[begun:begun + place - at], f"bytes of {name} from {at} to {place}")
            begun += place - at + n
            at = place
            total += n
        equal(begun, len(want), f"bytes of {name}, with those that are missing")
        del flows[name]
    equal(flows, {}, "other flows")
    return total


@test("payload_connection", timeout=180)
def connection(ctx):
    """Byte for byte, both directions of both ends, over each transport; events have a connection of their own."""
    key, cert = ctx.dir / "key.pem", ctx.dir / "cert.pem"
    ctx.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"], check_code=0)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    for kind in ("tcp", "tls", "unix", "edge"):
        env = {}
        if kind in ("tcp", "tls"):
            listener, transport = tcp()
            if kind == "tls":
                transport["tls"] = {"enable": True, "validateserver": True, "cacertpath": str(cert)}
        else:
            path = ctx.dir / "socket" if kind == "unix" else ctx.dir / "cribl" / "state" / "appscope.sock"
            path.parent.mkdir(parents=True, exist_ok=True)
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(path))
            listener.listen()
            transport = {"type": "unix", "path": str(path)} if kind == "unix" else {"type": "edge"}
            env = {"CRIBL_HOME": ctx.dir / "cribl"} if kind == "edge" else {}
        receiver = Receiver(listener, context if kind == "tls" else None)
        result = ctx.scoped([PYTHON, "-c", TALK, 4000000, 2000000], config(ctx, transport), env=ctx.env(**env), check_code=0)
        result.session.wait_end(30)
        receiver.done()
        equal(talked(ctx, result.out, receiver), 0, "missing bytes")
        equal(sorted((s["format"], s.get("authToken")) for s in receiver.starts if s.get("format") == "scope"), [("scope", "T0KEN")],
              f"start messages of payload connections ({kind})")
        equal(len(receiver.starts), 2, "connections")
        equal({k: v for k, v in result.session.lost().items() if v}, {}, "losses")
        check(not (ctx.dir / "disk").exists(), "files, too")
        for header, _ in receiver.pieces[:1]:
            equal((header["fd"] >= 0, header["pid"] > 0, header["localip"], header["protocol"]), (True, True, "127.0.0.1", ""), "header")


@test("payload_connection_breaks", timeout=120)
def breaks(ctx):
    """A receiver that goes away again and again gets all that it had not taken, and nothing glued together."""
    listener, transport = tcp()
    receiver = Receiver(listener, cut={0: 300000, 1: 1000000})
    result = ctx.scoped([PYTHON, "-c", TALK + "\nimport time\ntime.sleep(6)\n", 4000000, 2000000], config(ctx, transport), check_code=0)
    result.session.wait_end(30)
    receiver.done()
    equal(receiver.payload_connections, 3, "payload connections")
    missing = talked(ctx, result.out, receiver)
    check(missing < 8000000, "only what a kernel takes may be missing", missing)
    equal([s["format"] for s in receiver.starts].count("scope"), 3, "start messages")
    equal(result.session.lost().get("payload"), None, "losses")


@test("payload_connection_is_slow", timeout=120)
def slow(ctx):
    """What a receiver doesn't take in time is lost, counted, shown, and marked where it is missing."""
    listener, transport = tcp()
    go = threading.Event()
    receiver = Receiver(listener, wait=go)
    process = ctx.start(ctx.scope_argv([PYTHON, "-c", TALK + "\nimport time\ntime.sleep(8)\n", 60000000, 30000000], config(ctx, transport)),
                        stdout=open(ctx.dir / "out", "wb"))
    ctx.wait_for(lambda: (ctx.dir / "got-b").exists() and (ctx.dir / "got-b").stat().st_size == 60000000, "the talk is over", 40)
    time.sleep(0.5)
    found = json.loads(ctx.tool_run("inspect", str(process.pid)).out)
    shown = [i for i in found["interfaces"] if i["name"] == "payload"]
    equal([(i["config"], i["connected"], i["lost_queue"] > 0) for i in shown],
          [(f"tcp://127.0.0.1:{transport['port']}", True, True)], "scope inspect")
    go.set()
    process.wait(60)
    session = ctx.session()
    session.wait_end(30)
    receiver.done()
    total = talked(ctx, (ctx.dir / "out").read_text(), receiver)
    check(total > 0, "nothing was lost")
    equal(session.lost().get("payload"), total, "what the session says")


@test("payload_connection_to_disk", timeout=60)
def to_disk(ctx):
    """SCOPE_PAYLOAD_TO_DISK: files, although there is a Cribl destination."""
    listener, transport = tcp()
    receiver = Receiver(listener)
    result = ctx.scoped([PYTHON, "-c", TALK, 100000, 50000], config(ctx, transport), env=ctx.env(SCOPE_PAYLOAD_TO_DISK="true"), check_code=0)
    result.session.wait_end(30)
    receiver.done()
    equal([s["format"] for s in receiver.starts], ["ndjson"], "connections")
    equal(sorted(p.stat().st_size for p in (ctx.dir / "disk").iterdir() if p.suffix in (".in", ".out")), [50000, 50000, 100000, 100000], "files")


@test("payload_connection_nobody", timeout=60)
def nobody(ctx):
    """Nobody listens: the program doesn't wait, and what could not be delivered is counted."""
    listener, transport = tcp()
    listener.close()
    result = ctx.scoped([PYTHON, "-c", TALK, 100000, 50000], config(ctx, transport), check_code=0)
    result.session.wait_end(30)
    check(result.session.lost().get("payload_destination", 0) > 0, "losses", result.session.lost())
