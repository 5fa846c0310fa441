# SPDX-License-Identifier: Apache-2.0
"""Plaintext as hooks have seen it, beside what src/protocol/tls_open.c makes of the same connection's ciphertext with the keys
that the other side has logged: byte for byte the same, and what the other side says."""

import hashlib
import hmac
import json
import re
import socket
import ssl
import struct
import threading

from scopetest import TESTS, add_test, check, equal
from tlstest import certificate

SUITES = {"TLS_AES_128_GCM_SHA256": 0x1301, "TLS_AES_256_GCM_SHA384": 0x1302, "ECDHE-RSA-AES128-GCM-SHA256": 0xC02F,
          "ECDHE-RSA-AES256-GCM-SHA384": 0xC030, "ECDHE-ECDSA-AES128-GCM-SHA256": 0xC02B,
          "ECDHE-ECDSA-AES256-GCM-SHA384": 0xC02C}


class Connection:
    """At the server's end."""

    def __init__(self):
        self.pieces = []  # (the client sends it, bytes)
        self.got = self.sent = b""
        self.suite = self.version = None


class Peer:
    """A server that answers with the body that it gets, or one of its own, in capitals; has the ciphertext pass through its own hands."""

    def __init__(self, ctx, maximum=None):
        cert, key = certificate(ctx)
        self.log = ctx.dir / "keys.log"
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(cert, key)
        self.context.keylog_filename = str(self.log)
        if maximum:
            self.context.maximum_version = maximum
            self.context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256")
        self.connections, self.errors = {}, []
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            try:
                plain, (_, port) = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(plain, port), daemon=True).start()

    def _serve(self, plain, port):
        c = Connection()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self.context.wrap_bio(incoming, outgoing, server_side=True)
        rest = b""

        def flush():
            data = outgoing.read()
            if data:
                c.pieces.append((False, data))
                plain.sendall(data)

        def step(function):
            while True:
                try:
                    value = function()
                    flush()
                    return value
                except ssl.SSLWantReadError:
                    flush()
                data = plain.recv(50000)
                if not data:
                    raise EOFError
                c.pieces.append((True, data))
                incoming.write(data)

        try:
            plain.settimeout(30)
            step(tls.do_handshake)
            c.version, c.suite = tls.version(), tls.cipher()[0]
            self.connections[port] = c
            while True:
                data = step(lambda: tls.read(65536))
                if not data:
                    break
                c.got, rest = c.got + data, rest + data
                while b"\r\n\r\n" in rest:
                    head, _, after = rest.partition(b"\r\n\r\n")
                    size = re.search(rb"(?i)content-length: *(\d+)", head)
                    size = int(size[1]) if size else 0
                    if len(after) < size:
                        break
                    body, rest = after[:size] or b"x" * 20000, after[size:]
                    reply = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body.upper()
                    tls.write(reply)
                    c.sent += reply
                    flush()
        except (EOFError, ConnectionResetError, ssl.SSLZeroReturnError, ssl.SSLEOFError):
            pass
        except (OSError, ssl.SSLError) as e:
            self.errors.append(e)


def block(secret, text, size, digest):
    """P_hash of RFC 5246, section 5."""
    a, out = text, b""
    while len(out) < size:
        a = hmac.new(secret, a, digest).digest()
        out += hmac.new(secret, a + text, digest).digest()
    return out[:size]


def keys_of(c, log):
    """Of AES, from the secrets that the peer has logged for the ClientHello's random (RFC 8446, section 7; RFC 5246, 6.3)."""
    hello = next(data for sent, data in c.pieces if sent)
    answer = next(data for sent, data in c.pieces if not sent)
    client, server = hello[11:43], answer[11:43]
    size, digest = (32, hashlib.sha384) if "AES256" in c.suite.replace("_", "") else (16, hashlib.sha256)
    found = []
    for label, random, secret in (line.split() for line in log.read_text().splitlines() if not line.startswith("#")):
        if bytes.fromhex(random) != client:
            continue
        secret = bytes.fromhex(secret)
        if label == "CLIENT_RANDOM":
            both = block(secret, b"key expansion" + server + client, 2 * size, digest)
            found += [both[:size], both[size:]]
        elif "TRAFFIC_SECRET" in label:
            name = b"tls13 key"
            found.append(hmac.new(secret, struct.pack(">HB", size, len(name)) + name + b"\0\1", digest).digest()[:size])
    return found


def opened(ctx, c, log, port):
    """What the client has received and sent, as tls_open has it."""
    source = TESTS.parent / "src"
    program = ctx.compile(["tls/opens.c", source / "protocol/tls_open.c", source / "base/mem.c"], "glibc-O2",
                          ["-I", source, "-lcrypto"])
    at = {name: ctx.dir / f"{name}-{port}" for name in ("keys", "pieces", "rx", "tx")}
    at["keys"].write_text("".join(key.hex() + "\n" for key in keys_of(c, log)))
    at["pieces"].write_bytes(b"".join((b"t" if sent else b"r") + struct.pack("=I", len(data)) + data for sent, data in c.pieces))
    ctx.run([program, {"TLSv1.3": "304", "TLSv1.2": "303"}[c.version], f"{SUITES[c.suite]:x}", *at.values()], check_code=0)
    return at["rx"].read_bytes(), at["tx"].read_bytes()


def captured(session, way):
    """The same, by the client's port, as hooks have it."""
    found, directory = {}, session.dir / "payloads"
    for line in (directory / "index.ndjson").read_text(encoding="utf-8").splitlines():
        flow = json.loads(line)
        check(flow["type"] != "gap", "a gap", flow)
        if flow["type"] == "flow" and flow["tls"]:
            equal(flow["tls_plaintext"], way, "the way")
            found[flow["net_host_port"]] = tuple((directory / flow[f]).read_bytes() if flow.get(f) else b""
                                                 for f in ("in_file", "out_file"))
    return found


def agree(ctx, way, count, argv, out, maximum=None):
    """argv(port): a client that is hooked; out: what it has to print."""
    peer = Peer(ctx, maximum)
    result = ctx.scoped(argv(peer.port), ["--payloads", "--lossless"], check_code=0)
    check(re.search(out, result.out), "its output", result.out[:300])
    result.session.wait_end()
    peer.socket.close()
    equal(peer.errors, [], "errors of the peer")
    asked = {port: c for port, c in peer.connections.items() if c.got}
    check(len(asked) >= count, "connections", asked)
    hooks = captured(result.session, way)
    equal(sorted(hooks), sorted(asked), "connections that were seen")
    for port, c in asked.items():
        received, sent = opened(ctx, c, peer.log, port)
        check(sent == c.got == hooks[port][1], f"port {port}: sent", len(sent), len(c.got), len(hooks[port][1]))
        check(received == c.sent == hooks[port][0], f"port {port}: received", len(received), len(c.sent), len(hooks[port][0]))
    equal(result.session.lost(), {}, "losses")


def add_opinions(name, way, count, client, out, **kw):
    """Tests of one client, with both versions of TLS. client(ctx): argv of agree()."""
    for version, maximum in (("1.3", None), ("1.2", ssl.TLSVersion.TLSv1_2)):
        add_test("tls", f"opinion-{name}-{version}", lambda ctx, m=maximum: agree(ctx, way, count, client(ctx), out, m), timeout=60, **kw)
