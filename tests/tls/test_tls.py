# SPDX-License-Identifier: Apache-2.0
"""Plaintext of TLS connections: what the probe tells of the functions of TLS libraries must be, byte for byte, what the
program and its peer gave and got, and the program must not notice. Records are read from the segment itself."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

from scopetest import MACHINE, SLACK, TESTS, Failure, Skip, add_test, check, equal, test
from segment import Streams, wait_segment
from tlstest import WANTED, certificate, finish, free_port, listens, start
from tracing import count_instructions, park, symbol

PYTHON = os.path.realpath(sys.executable)
UNWANTED = {"SCOPE_EVENT_ENABLE": "false", "SCOPE_METRIC_ENABLE": "false"}
NSS = ["-I/usr/include/nss", "-I/usr/include/nspr", "-lssl3", "-lnss3", "-lnspr4"]


def segment_of(process, old=None):
    """The segment of a process that `scope run` has become."""
    try:
        return wait_segment(process.pid, old)
    except PermissionError as e:
        raise Skip("/proc/PID/map_files needs root") from e


def same(got, want):
    """Of connections: pairs of what was sent and received."""
    equal(len(got), len(want), "number of connections")
    for i, (a, b) in enumerate(zip(got, want)):
        for x, y, word in ((a[0], b[0], "sent"), (a[1], b[1], "received")):
            at = next((k for k in range(min(len(x), len(y))) if x[k] != y[k]), min(len(x), len(y)))
            check(x == y, f"connection {i}, {word}: {len(x)} bytes told, {len(y)} passed; they differ from byte {at} on",
                  x[at:at + 100], y[at:at + 100])


def no_losses(segment):
    equal([n for i, n in enumerate(segment.lost()) if n and i < 5], [], "losses")


class Peer:
    """The other end, unobserved: a server that logs what it got and what it sent."""

    def __init__(self, ctx, answer, before_close=None, maximum=None):
        cert, key = certificate(ctx)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(cert, key)
        if maximum:
            self.context.maximum_version = maximum
        self.answer, self.before_close = answer, before_close
        self.got, self.sent, self.errors = [], [], []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while True:
            try:
                plain, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain):
        got = sent = b""
        try:
            plain.settimeout(30)
            with self.context.wrap_socket(plain, server_side=True) as s:
                while True:
                    data = s.recv(65536)
                    got += data
                    reply = self.answer(got, data)
                    if not data or reply is None:
                        break
                    if reply:
                        s.sendall(reply)
                        sent += reply
                if self.before_close:
                    self.before_close()
        except OSError as e:
            self.errors.append(e)
        self.got.append(got)
        self.sent.append(sent)

    def close(self):
        self.socket.close()


def http(got, _):
    """An answer once the request is complete; None (hang up) to what comes after."""
    head, end, body = got.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    if not end or len(body) < int(length[1] if length else 0):
        return b""
    body = b"".join(b"line %d\n" % i for i in range(5000))
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body


# --- clients that people use ---

def client(ctx, argv, answer=http, maximum=None, connected=True, stdin=b"", check_out=True, records=1):
    """Runs a client against a server of ours; compares what is told with what the server knows. The segment is opened
    while the client is connected: programs end at once."""
    found = {}

    def before_answer(got, data):
        reply = answer(got, data)
        if reply and "segment" not in found:
            found["segment"] = segment_of(process)
        return reply

    peer = Peer(ctx, before_answer, maximum=maximum)
    ready = threading.Event()
    original = peer.answer
    peer.answer = lambda got, data: ready.wait(10) and original(got, data)
    process = start(ctx, [a.replace("PORT", str(peer.port)) if isinstance(a, str) else a for a in argv])
    ready.set()
    out, err = finish(ctx, process, argv[0], stdin=stdin)
    ctx.wait_for(lambda: len(peer.got) == 1, "the server's log")
    peer.close()
    check("segment" in found, "the client never asked", out[-1000:], err[-1000:], peer.errors)
    streams = Streams(found["segment"].tls())
    sent, received, fds, gaps = streams.only()
    equal(sent, peer.got[0], "what was sent")
    equal(received, peer.sent[0], "what was received")
    equal(gaps, 0, "gaps")
    equal([fd >= 0 for fd in fds], [connected], "descriptor")
    no_losses(found["segment"])
    check(len(sent) > 4 and len(received) > 1000, "too little passed to be a test")
    if check_out:
        check(peer.sent[0].partition(b"\r\n\r\n")[2] == out, "the client's output differs")
    return streams


@test("curl")
def curl(ctx):
    client(ctx, [ctx.tool("curl"), "-skS", "https://127.0.0.1:PORT/", "-d", "x" * 3000])


@test("wget")
def wget(ctx):
    """Debian's uses GnuTLS."""
    client(ctx, [ctx.tool("wget"), "-q", "-O", "-", "--no-check-certificate", "https://127.0.0.1:PORT/"])


@test("mbedtls", arch="x86_64")  # the emulated machine lacks the library
def mbedtls(ctx):
    """Its transport are functions that have the socket."""
    client(ctx, [ctx.compile("tls/mbedtls.c", flags=["-lmbedtls", "-lmbedx509", "-lmbedcrypto"]), "PORT"])


@test("wolfssl", arch="x86_64")
def wolfssl(ctx):
    client(ctx, [ctx.compile("tls/wolfssl.c", flags=["-lwolfssl"]), "PORT"])


@test("wolfssl-1.2", arch="x86_64")
def wolfssl_12(ctx):
    """wolfSSL_send, wolfSSL_recv, and a look at what stays."""
    client(ctx, [ctx.compile("tls/wolfssl.c", flags=["-lwolfssl"]), "PORT", "recv"], maximum=ssl.TLSVersion.TLSv1_2)


def echo(got, data):
    return None if not data else b"echo " + data if len(got) % 5 else b"echo " + data + b"." * 2000


@test("s-client")
def s_client(ctx):
    """With a renegotiation in TLS 1.2, between two lines."""
    peer_test(ctx, ["s_client", "-connect", "127.0.0.1:PORT", "-tls1_2", "-no_ign_eof"],
              [(b"first\n", b"tsrif\n"), (b"R\n", b""), (b"second\n", b"dnoces\n"), (b"Q\n", b"")], [b"first\n", b"second\n"])


def peer_test(ctx, argv, lines, expect):
    """openssl s_client: what it reads from its terminal, line by line."""
    cert, key = certificate(ctx)
    port = free_port()
    server = ctx.start([ctx.tool("openssl"), "s_server", "-accept", str(port), "-cert", cert, "-key", key, "-rev",
                        "-client_renegotiation"])
    ctx.wait_for(lambda: listens(port), "the server")
    process = start(ctx, [ctx.tool("openssl"), *(a.replace("PORT", str(port)) for a in argv)])
    segment = segment_of(process)
    out = b""
    for line, answer in lines:
        time.sleep(0.3)  # until it has read the line before, and it alone
        process.stdin.write(line)
        process.stdin.flush()
        while answer not in out:
            more = os.read(process.stdout.fileno(), 4096)
            check(more, "it has ended", out[-2000:])
            out += more
    _, err = finish(ctx, process, "s_client")
    check(b"RENEGOTIATING" in err, "no renegotiation", err[-2000:])
    streams = Streams(segment.tls())
    sent, received, fds, _ = streams.only()
    equal(sent, b"".join(expect), "what was sent")
    equal(received, b"".join(e.rstrip()[::-1] + b"\n" for e in expect), "what was received")
    check(min(fds) >= 0, "no descriptor", fds)
    check(server.poll() is None, "the server has ended")


PY_BLOCKING = """
import ssl, socket, sys
c = ssl._create_unverified_context()
with c.wrap_socket(socket.create_connection(("127.0.0.1", int(sys.argv[1])))) as s:
    s.sendall(b"GET / HTTP/1.1\\r\\n\\r\\n")
    while d := s.recv(10000):
        got = globals().get("got", b"") + d
        if len(got) > 48000: break
sys.stdout.buffer.write(got.partition(b"\\r\\n\\r\\n")[2])
"""

PY_HTTP = """
import http.client, ssl, sys
c = http.client.HTTPSConnection("127.0.0.1", int(sys.argv[1]), context=ssl._create_unverified_context())
c.request("POST", "/x", body=b"y" * 20000)
sys.stdout.buffer.write(c.getresponse().read())
"""

PY_ASYNC = """
import asyncio, ssl, sys
async def main():
    r, w = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]), ssl=ssl._create_unverified_context())
    w.write(b"GET / HTTP/1.1\\r\\n\\r\\n")
    got = await r.readuntil(b"\\r\\n\\r\\n")
    sys.stdout.buffer.write(await r.readexactly(int(got.split(b"Content-Length: ")[1].split()[0])))
asyncio.run(main())
"""

NODE = """
const https = require("https");
const q = https.request({port: process.argv[1], host: "127.0.0.1", method: "POST", rejectUnauthorized: false}, r =>
    r.on("data", d => process.stdout.write(d)));
q.end("z".repeat(5000));
"""

for _name, _argv, _connected in [
        ("python", [PYTHON, "-c", PY_BLOCKING, "PORT"], True),
        ("python-http", [PYTHON, "-c", PY_HTTP, "PORT"], True),
        ("python-asyncio", [PYTHON, "-c", PY_ASYNC, "PORT"], False)]:
    add_test("tls", _name, lambda ctx, a=_argv, c=_connected: client(ctx, a, connected=c))


@test("node")
def node(ctx):
    """Its library is linked into it; its transport is memory."""
    client(ctx, [ctx.tool("node"), "-e", NODE, "PORT"], connected=False)


@test("tls12")
def tls12(ctx):
    client(ctx, [ctx.tool("curl"), "-skS", "https://127.0.0.1:PORT/", "-d", "y" * 100], maximum=ssl.TLSVersion.TLSv1_2)


# --- servers ---

NODE_SERVER = """
const fs = require("fs");
require("https").createServer({cert: fs.readFileSync(process.argv[1]), key: fs.readFileSync(process.argv[2])}, (q, r) => {
    let n = 0; q.on("data", d => n += d.length); q.on("end", () => r.end("got " + n + " " + "w".repeat(40000)));
}).listen(+process.argv[3], "127.0.0.1");
"""

PY_SERVER = """
import ssl, socketserver, sys
class H(socketserver.BaseRequestHandler):
    def handle(self):
        with c.wrap_socket(self.request, server_side=True) as s:
            got = b""
            while not got.endswith(b"!"):
                got += s.recv(1000)
            s.sendall(b"HTTP/1.1 200 OK\\r\\n\\r\\n" + got[::-1])
class S(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
c.load_cert_chain(sys.argv[1], sys.argv[2])
S(("127.0.0.1", int(sys.argv[3])), H).serve_forever()
"""


def server(ctx, argv, connected, port=None):
    """A server that gets certificate, key and port as arguments, or knows them already if there is a port."""
    cert, key = certificate(ctx)
    process = start(ctx, argv if port else [*argv, cert, key, port := free_port()])
    ctx.wait_for(lambda: process.poll() is not None or listens(port), "the server")
    segment = segment_of(process)
    plain = ssl.create_default_context(cafile=cert)
    expect = []
    for i in range(5):
        with plain.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="localhost") as s:
            body = b"%d" % i * (1000 * i) + b"!"
            request = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            s.sendall(request)
            got = b""
            with contextlib.suppress(ssl.SSLEOFError):
                while data := s.recv(65536):
                    got += data
            check(got.startswith(b"HTTP/1.1 200"), "the answer", got[:100])
            expect.append((request, got))
    ctx.wait_for(lambda: len(Streams(segment.tls()).sent) == 5, "five connections")
    streams = Streams(segment.tls())
    equal(list(zip(streams.received, streams.sent)), expect, "what passed")
    equal([fd >= 0 for fds in streams.fds for fd in fds], [connected] * sum(map(len, streams.fds)), "descriptors")
    no_losses(segment)
    os.killpg(process.pid, signal.SIGTERM)


@test("node-server")
def node_server(ctx):
    server(ctx, [ctx.tool("node"), "-e", NODE_SERVER], False)


@test("python-server")
def python_server(ctx):
    server(ctx, [PYTHON, "-c", PY_SERVER], True)


@test("nginx")
def nginx(ctx):
    cert, key = certificate(ctx)
    port = free_port()
    conf = ctx.dir / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    conf.write_text(f"""
        {user} daemon off; master_process off; pid {ctx.dir}/pid; error_log {ctx.dir}/error.log;
        events {{}}
        http {{ access_log off; client_body_temp_path {ctx.dir}/body; proxy_temp_path {ctx.dir}/proxy;
            fastcgi_temp_path {ctx.dir}/f; uwsgi_temp_path {ctx.dir}/u; scgi_temp_path {ctx.dir}/s;
            server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {cert}; ssl_certificate_key {key};
                location / {{ return 200 "{'answer ' * 500}"; }} }} }}""")
    server(ctx, [ctx.tool("nginx"), "-c", conf, "-e", ctx.dir / "error.log"], True, port)


@test("s-server")
def s_server(ctx):
    cert, key = certificate(ctx)
    port = free_port()
    process = start(ctx, [ctx.tool("openssl"), "s_server", "-accept", port, "-cert", cert, "-key", key, "-quiet"])
    segment = segment_of(process)
    ctx.wait_for(lambda: process.poll() is not None or listens(port), "the server")
    with ssl._create_unverified_context().wrap_socket(socket.create_connection(("127.0.0.1", port))) as s:
        s.sendall(b"question\n")
        equal(process.stdout.readline(), b"question\n", "the server's output")
        process.stdin.write(b"answer\n")
        process.stdin.flush()
        equal(s.recv(100), b"answer\n", "answer")
    ctx.wait_for(lambda: b"answer\n" in Streams(segment.tls()).sent, "the answer's record")
    equal(Streams(segment.tls()).only()[:2], (b"answer\n", b"question\n"), "what passed")
    os.killpg(process.pid, signal.SIGKILL)


# --- programs of ours ---

def parse(out):
    """The log of a program: connections in the order that they begin, what was sent and received on each, gaps."""
    current, found = {}, []
    gaps = 0
    for line in out.decode().splitlines():
        words = line.split(" ")
        if words[0] == "new":
            current[words[1]] = len(found)
            found.append({"tx": b"", "rx": b""})
        elif words[0] == "gap":
            gaps += int(words[1])
        elif len(words) == 3 and words[1] in ("tx", "rx"):
            found[current[words[0]]][words[1]] += bytes.fromhex(words[2])
    return [(c["tx"], c["rx"]) for c in found if c["tx"] or c["rx"]], gaps


def ours(ctx, program, *args, connected=True):
    """Runs a program bare and observed, compares what it says with what is told."""
    bare = ctx.run([program, *args], check_code=0)
    process = start(ctx, [program, *args])
    segment = segment_of(process)
    out = b""
    while b"end\n" not in out[-5:]:
        more = os.read(process.stdout.fileno(), 65536)
        if not more:
            break
        out += more
    rest, err = finish(ctx, process, program)
    out += rest
    check(out.endswith(b"end\n"), "the program's output", out[-500:], err[-2000:])
    wanted, gaps = parse(out)
    equal(sorted((len(a), len(b)) for a, b in wanted), sorted((len(a), len(b)) for a, b in parse(bare.out)[0]),
          "what the program does when it runs alone")
    streams = Streams(segment.tls())
    same(sorted(zip(streams.sent, streams.received)), sorted(wanted))
    equal(sum(streams.gaps), gaps, "gaps")
    equal({fd >= 0 for fds in streams.fds for fd in fds}, {connected}, "descriptors")
    no_losses(segment)
    return out, bare.out, segment


def openssl_program(ctx, mode, variant="glibc-O2", flags=(), **how):
    flags = [*flags, "-lssl", "-lcrypto"]
    program = ctx.compile("tls/openssl.c", variant, [*flags, "-ldl"] if "static" in variant else flags)
    return ours(ctx, program, mode, *certificate(ctx), **how)


for _mode in ("calls", "bio", "threads", "cancel"):
    add_test("tls", _mode, lambda ctx, m=_mode: openssl_program(ctx, m) and None)


@test("memory")
def memory(ctx):
    openssl_program(ctx, "memory", connected=False)


@test("leave")
def leave(ctx):
    """Out of SSL_read by longjmp; calls inside calls; and a backtrace through the wrapper that is one frame longer."""
    out, bare, _ = openssl_program(ctx, "leave")
    depth = [int(re.search(rb"^depth (\d+)$", o, re.M)[1]) for o in (out, bare)]
    equal(depth[0], depth[1] + 1, "frames of the stack")


@test("forked")
def forked(ctx):
    _, _, segment = openssl_program(ctx, "forked")
    equal(len({r.pid for r in segment.tls() if r.ret}), 2, "processes")


@test("static")
def static(ctx):
    """The library is part of the program."""
    openssl_program(ctx, "threads", "static")
    openssl_program(ctx, "bio", "static")


@test("gnutls")
def gnutls(ctx):
    ours(ctx, ctx.compile("tls/gnutls.c", flags=["-lgnutls"]), *certificate(ctx))


@test("nss")
def nss(ctx):
    peer = Peer(ctx, echo)
    program = ctx.compile("tls/nss.c", flags=NSS)
    process = start(ctx, [program, peer.port])
    segment = segment_of(process)
    out, _ = finish(ctx, process, "nss", stdin=b"")
    wanted, _ = parse(out)
    streams = Streams(segment.tls())
    equal(list(zip(streams.sent, streams.received)), wanted, "what passed")
    check(len(wanted) == 1 and wanted[0][0] == b"hellobye", "what the program did", out)
    no_losses(segment)
    peer.close()


# Functions begin with landing pads for indirect calls, and sign their return addresses.
PROTECTED = {"x86_64": "-fcf-protection=full", "aarch64": "-mbranch-protection=standard"}[MACHINE]


def fake(ctx, variant, flags=()):
    """Registers, stack, errno; cancellation, jumps out of handlers, and calls inside handlers."""
    program = ctx.compile("tls/fake.c", variant, flags=[*flags, *(["-rdynamic"] if "static" not in variant else [])])
    ctx.run([program], check_code=0)
    process = start(ctx, [program])
    segment = segment_of(process)
    out, _ = finish(ctx, process, program)
    match = re.search(rb"^reader (\S+) writer (\S+)$", out, re.M)
    records = [r for r in segment.tls() if r.ret]
    for name, source, wanted in ((match[1], 4, b"x" + b"h" * 100), (match[2], 3, b"bytesx" + b"h" * 100)):
        mine = [r for r in records if r.object == int(name, 16)]
        equal({r.source for r in mine}, {source}, "directions")
        equal(b"".join(r.data for r in mine), wanted, "what passed")
    no_losses(segment)


for _variant in ("glibc-O2", "musl", "static", "musl-static"):
    add_test("tls", f"fake-{_variant}", lambda ctx, v=_variant: fake(ctx, v))
for _variant in ("glibc-O2", "static"):
    add_test("tls", f"fake-protected-{_variant}", lambda ctx, v=_variant: fake(ctx, v, [PROTECTED]))


@test("instructions")
def instructions(ctx):
    """What a captured call of 16 bytes costs: about 760 instructions, some 35 ns."""
    program = ctx.compile("tls/fake.c", "static", flags=["-no-pie"], name="fake-fixed")
    entry = symbol(program, "SSL_write_ex")
    for env, low, high in ((UNWANTED, 10, 30), (WANTED, 300, 800)):
        process = start(ctx, [program, "loop"], env=env)
        equal(process.stdout.readline(), b"ready\n", "first line")
        time.sleep(0.2)
        count = count_instructions(process.pid, entry)
        check(low < count < high, f"{count} instructions")
        process.send_signal(signal.SIGTERM)
        finish(ctx, process, "the program")


@test("exception")
def exception(ctx):
    """C++: thrown in a callback of the library, caught by who called it; destructors on the way run."""
    program = ctx.dir / "exception"
    ctx.compiler(["g++", "-O2", TESTS / "tls/exception.cc", "-o", program, "-lssl", "-lcrypto"],
            timeout=60)
    bare = ctx.run([program], check_code=0)
    observed = ctx.scoped([program], env=ctx.env(**WANTED), check_code=0)
    equal(observed.out, bare.out, "output")


@test("unwanted")
def unwanted(ctx):
    """Nothing is patched or told without a reason; and functions that only have the names are left alone."""
    program = ctx.compile("tls/openssl.c", flags=["-lssl", "-lcrypto"])
    process = start(ctx, [program, "waiting", *certificate(ctx)], env=UNWANTED)
    segment = segment_of(process)
    equal(process.stdout.readline()[:3], b"new", "output")
    process.stdin.write(b".")
    process.stdin.flush()
    finish(ctx, process, "the program")
    equal(segment.tls(), [], "records")


@test("names-only")
def names_only(ctx):
    """SSL_read, SSL_write_ex and SSL_CTX_new of a program's own: bytes that aren't there, results that are none."""
    program = ctx.compile("tls/names.c", flags=["-rdynamic"])
    bare = ctx.run([program], check_code=0)
    observed = ctx.scoped([program], env=ctx.env(**WANTED), check_code=0)
    equal(observed.out, bare.out, "output")


# --- attaching and detaching ---

def mapped_code(pid):
    with open(f"/proc/{pid}/maps", encoding="ascii", errors="replace") as f:
        rows = [line.split(None, 5) for line in f]
    return [r for r in rows if "x" in r[1] and len(r) < 6]


def running(ctx, mode):
    program = ctx.compile("tls/openssl.c", flags=["-lssl", "-lcrypto"])
    process = subprocess.Popen([program, mode, *certificate(ctx)], cwd=ctx.dir, env=ctx.env(), stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, start_new_session=True)
    ctx.started.append(process)
    while process.stdout.readline() != b"ready\n":
        check(process.poll() is None, "it has ended")
    return process


def tell(process, text):
    process.stdin.write(text)
    process.stdin.flush()
    got = b""
    while f"got {text.decode()}\n".encode() not in got:
        line = process.stdout.readline()
        check(line, "it has ended")
        got += line


@test("attach", timeout=90)
def attach(ctx):
    """A thread waits in SSL_read when somebody attaches, and when somebody detaches."""
    process = running(ctx, "waiting")
    tell(process, b"a")
    ctx.run([ctx.scope, "attach", process.pid], check_code=0, env=ctx.env(**WANTED))
    tell(process, b"b")  # answered by the call that was there before
    tell(process, b"c")
    segment = segment_of(process)
    ctx.wait_for(lambda: b"".join(Streams(segment.tls()).sent) == b"bc", "what was sent")
    streams = Streams(segment.tls())
    equal(b"".join(streams.received), b"c", "what was received")
    told = json.loads(ctx.tool_run("inspect", process.pid).out)["tls"]
    ways = {w["path"].rpartition("/")[2].partition(".")[0]: (w["way"], w["functions"], w["hooked"]) for w in told["ways"]}
    check(ways.get("libssl", ("", 0, 0))[0] == "library" and ways["libssl"][1] == ways["libssl"][2] > 4, "inspect: the library", told)
    equal((told["seen"], "not_read" in told), (["library"], False), "inspect")
    began = time.monotonic()
    out = ctx.run([ctx.scope, "detach", process.pid], check_code=0)
    check(time.monotonic() - began < 15 * SLACK, "detaching took too long")
    check(b"stays in its memory" in out.err and b"TLS" in out.err, "what remains is not told", out.describe())
    check(b"differ" not in out.err, "the code differs", out.describe())
    told = len(segment.tls())
    for c in b"de":
        tell(process, bytes([c]))
    equal(len(segment.tls()), told, "records afterwards")
    check(mapped_code(process.pid), "the wrapper's code is gone")
    ctx.run([ctx.scope, "attach", process.pid], check_code=0, env=ctx.env(**WANTED))  # and all again
    tell(process, b"f")  # the call that returns to the first wrapper, if no other has come between
    tell(process, b"g")
    segment = segment_of(process, segment)
    ctx.wait_for(lambda: b"".join(Streams(segment.tls()).sent) == b"fg", "what was sent")
    equal(b"".join(Streams(segment.tls()).received), b"g", "what was received")
    process.stdin.write(b".")
    finish(ctx, process, "the program")


@test("detach-run", timeout=90)
def detach_run(ctx):
    """The same where the loader has brought the probe; once nobody is inside it goes entirely."""
    program = ctx.compile("tls/openssl.c", flags=["-lssl", "-lcrypto"])
    process = start(ctx, [program, "waiting", *certificate(ctx)])
    tell(process, b"a")
    segment = segment_of(process)
    out = ctx.run([ctx.scope, "detach", process.pid], check_code=0)
    check(b"TLS" in out.err, "what remains is not told", out.describe())
    told = len(segment.tls())
    tell(process, b"b")
    tell(process, b"c")
    equal(len(segment.tls()), told, "records afterwards")
    process.stdin.write(b".")
    finish(ctx, process, "the program")


@test("attach-dlopen", timeout=90)
def attach_dlopen(ctx):
    """A library that is loaded after somebody has attached."""
    peer = Peer(ctx, http)
    program = f"import sys; print('ready', flush=True); sys.stdin.readline()\n{PY_HTTP}"
    process = subprocess.Popen([PYTHON, "-c", program, str(peer.port)], cwd=ctx.dir, env=ctx.env(),
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    ctx.started.append(process)
    equal(process.stdout.readline(), b"ready\n", "first line")
    ctx.run([ctx.scope, "attach", process.pid], check_code=0, env=ctx.env(**WANTED))
    segment = segment_of(process)
    out, _ = finish(ctx, process, "the program", stdin=b"\n")
    ctx.wait_for(lambda: len(peer.got) == 1, "the server's log")
    peer.close()
    equal(Streams(segment.tls()).only()[:2], (peer.got[0], peer.sent[0]), "what passed")
    check(out == peer.sent[0].partition(b"\r\n\r\n")[2] and len(out) > 1000, "the program's output")
    no_losses(segment)


@test("kernel-tls", timeout=60)
def kernel_tls(ctx):
    """Where the library leaves encryption to the kernel, plaintext passes its functions and the socket: it is told once,
    and not as what the socket carries."""
    program = ctx.compile("tls/ktls.c", flags=["-rdynamic"])
    process = subprocess.Popen([program], cwd=ctx.dir, env=ctx.env(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               start_new_session=True)
    ctx.started.append(process)
    equal(process.stdout.readline(), b"ready\n", "first line")
    ctx.run([ctx.scope, "attach", process.pid], check_code=0, env=ctx.env(**WANTED))
    process.stdin.write(b"x")
    process.stdin.flush()
    equal(process.stdout.readline(), b"end\n", "last line")
    finish(ctx, process, "the program")
    session = ctx.session()
    session.wait_end()
    for source in ("http.req", "http.resp"):
        found = [(e["data"]["http_target"], e["data"]["http_scheme"]) for e in session.events(source=source, sync=False)]
        equal(found, [("/once", "https")] * 6, source)  # three times, at both ends
    flows = [line for line in read_index(session.dir / "payloads") if line["type"] == "flow"]
    equal({f["tls"] for f in flows}, {True}, "flows")
    equal(len({f["flow"] for f in flows}), 2, "flows")


@test("losses")
def losses(ctx):
    """What doesn't fit into the ring is counted, to the byte."""
    program = ctx.compile("tls/openssl.c", flags=["-lssl", "-lcrypto"])
    process = start(ctx, [program, "bulk", *certificate(ctx)])
    total = 0
    while (line := process.stdout.readline()) != b"ready\n":
        check(line, "it has ended")
        total = int(line.split()[1]) if line.startswith(b"bulk") else total
    segment = segment_of(process)
    collector = ctx.session().collector_pid()
    os.kill(collector, signal.SIGSTOP)
    try:
        process.stdin.write(b"x")
        process.stdin.flush()
        equal(process.stdout.readline(), b"end\n", "last line")
        told = sum(len(r.data) for r in segment.tls() if r.data)
        lost = segment.lost()[segment.n["LOSS_DATA"]]
    finally:
        os.kill(collector, signal.SIGCONT)
    finish(ctx, process, "the program")
    check(told > 1 << 19 and lost > 1 << 20, f"{told} told, {lost} lost")  # encrypted bytes are in the ring, too
    console = len(b"end\n")  # found no room either, or did: the ring was full, then read
    check(told + lost in (2 * total, 2 * total + console), f"{told} bytes told and {lost} lost of {2 * total}")


@test("needless")
def needless(ctx):
    """Plaintext of what isn't recognised isn't copied any more; but that of the next connection at its address is, and all
    of it if payloads are wanted."""
    program = ctx.compile("tls/openssl.c", flags=["-lssl", "-lcrypto"])
    for env, silent in ({}, True), (WANTED, False):
        process = start(ctx, [program, "needless", *certificate(ctx)], env=env)
        equal(process.stdout.readline(), b"ready\n", "line")
        segment = segment_of(process)
        session = ctx.session()
        session.sync()
        told = len(segment.tls())
        process.stdin.write(b"x")
        process.stdin.flush()
        equal(process.stdout.readline(), b"silent\n", "line")
        equal(len(segment.tls()) - told, 0 if silent else 200, "records of what nobody wants")
        process.stdin.write(b"x")
        process.stdin.flush()
        finish(ctx, process, "the program")
        session.wait_end()
        requests = session.events(source="http.req", sync=False)
        equal([e["data"]["http_target"] for e in requests], ["/wanted"] * 2, "requests")
        shutil.rmtree(session.dir)


def with_holes(ctx, mode):
    """Runs a mode of openssl.c that passes much between two lines, while the collector is stopped. Returns the session
    and the number in its first line."""
    program = ctx.compile("tls/openssl.c", flags=["-lssl", "-lcrypto"])
    process = start(ctx, [program, mode, *certificate(ctx)])
    number = int(process.stdout.readline().split()[1])
    equal(process.stdout.readline(), b"ready\n", "line")
    segment, session = segment_of(process), ctx.session()
    session.sync()
    collector = session.collector_pid()
    os.kill(collector, signal.SIGSTOP)
    try:
        process.stdin.write(b"x")
        process.stdin.flush()
        equal(process.stdout.readline(), b"full\n", "line")
    finally:
        os.kill(collector, signal.SIGCONT)
    lost = segment.lost()[segment.n["LOSS_DATA"]]
    check(lost > 1 << 20, f"{lost} bytes lost")
    session.sync()
    process.stdin.write(b"x")
    process.stdin.flush()
    finish(ctx, process, "the program")
    session.wait_end()
    return session, number


@test("holes", timeout=60)
def holes(ctx):
    """What doesn't fit into the ring is a gap in its place, of its length: what comes behind it is understood, and nothing
    is put together that doesn't belong together; also where the end of a connection is among what is lost."""
    session, size = with_holes(ctx, "holes")
    requests = session.events(source="http.req", sync=False)
    # each passes twice: sent by the client's object, received by the server's
    equal(sorted(e["data"]["http_target"] for e in requests), ["/anew"] * 2 + ["/behind"] * 2 + ["/big"] * 2, "requests")
    equal({e["data"]["http_host"] for e in requests}, {"h"}, "hosts")
    body = b"".join(b"%07d\n" % i for i in range(size // 8))
    big = 0
    for flow, way, pieces in kept(session.dir / "payloads"):
        whole = b"".join(p if isinstance(p, bytes) else b"\0" * p for p in pieces)
        check(not (b"/cut" in whole and b"/anew" in whole), f"flow {flow}, {way}: two connections in one", whole[:200])
        if not whole.startswith(b"POST /big"):
            continue
        head, _, rest = whole.partition(b"\r\n\r\n")
        check(rest[size:].startswith(b"GET /behind"), f"flow {flow}, {way}: what follows the body", rest[size:][:100])
        same = sum(rest[i:i + 8] in (body[i:i + 8], b"\0" * 8) for i in range(0, size, 8))
        equal(same, size // 8, f"flow {flow}, {way}: numbers in their place after {head}")
        check(sum(p for p in pieces if isinstance(p, int)) > 1 << 20, "no gap")
        big += 1
    equal(big, 2, "flows with the large request")


def read_index(directory):
    return [json.loads(line) for line in (directory / "index.ndjson").read_text(encoding="utf-8").splitlines()]


def kept(directory):
    """What the index of a directory of payloads says: flow, direction, and what passed: bytes, or the length of a gap."""
    lines = read_index(directory)
    files = {(f["flow"], way): (directory / f[f"{way}_file"]).read_bytes()
             for f in lines if f["type"] == "flow" for way in ("in", "out") if f"{way}_file" in f}
    pieces = {key: [] for key in files}
    for line in lines:
        if line["type"] in ("data", "gap"):
            key, at = (line["flow"], line["dir"]), line["at"]
            pieces[key].append(files[key][at:at + line["len"]] if line["type"] == "data" else line["len"])
    return [(*key, p) for key, p in pieces.items()]


@test("many-holes", timeout=60)
def many_holes(ctx):
    """Where there are too many to remember each, no connection is taken to be whole: all go on as if joined half-way."""
    session, count = with_holes(ctx, "many-holes")
    requests = session.events(source="http.req", sync=False)
    equal([e["data"]["http_target"] for e in requests], ["/anew"] * 2 * count, "requests")
    behind = 0
    for flow, way, pieces in kept(session.dir / "payloads"):
        whole = b"".join(p if isinstance(p, bytes) else b"\0" * p for p in pieces)
        check(b"Host: the end" not in whole, f"flow {flow}, {way}: something is missing", whole[:200])
        behind += b"the end of a bodyGET /anew" in whole
    equal(behind, 2 * count, "flows")


@test("attach-inside", timeout=90)
def attach_inside(ctx):
    """A thread stands among the first instructions of a function, which are about to be replaced."""
    program = ctx.compile("tls/fake.c", "static", flags=["-no-pie"], name="fake-fixed")
    process = subprocess.Popen([program, "loop"], cwd=ctx.dir, env=ctx.env(), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, start_new_session=True)
    ctx.started.append(process)
    equal(process.stdout.readline(), b"ready\n", "first line")
    entry = symbol(program, "SSL_read")
    park(process.pid, lambda pc: entry < pc < entry + 5, signal.SIGSTOP)
    out = ctx.run([ctx.scope, "attach", process.pid], check_code=0, env=ctx.env(**WANTED))
    check(b"1 calls are not observed because a thread stood in their code" in out.err, "no thread was found there",
          out.describe())
    segment = segment_of(process)
    process.send_signal(signal.SIGCONT)
    ctx.wait_for(lambda: len(segment.tls()) > 10, "records")
    equal({r.source for r in segment.tls()}, {3}, "directions: only what is sent can be seen")
    ctx.run([ctx.scope, "detach", process.pid], check_code=0)
    ctx.run([ctx.scope, "attach", process.pid], check_code=0, env=ctx.env(**WANTED))
    segment = segment_of(process)
    ctx.wait_for(lambda: {r.source for r in segment.tls()} == {3, 4}, "records of both directions")
    process.send_signal(signal.SIGTERM)
    out, _ = finish(ctx, process, "the program")
    equal(out, b"done\n", "its last words")


@test("detach-child", timeout=90)
def detach_child(ctx):
    """Threads of its parent that wait inside functions keep nobody from leaving a child."""
    program = ctx.compile("tls/openssl.c", flags=["-lssl", "-lcrypto"])
    process = start(ctx, [program, "fork-waiting", *certificate(ctx)])
    pid = 0
    while (line := process.stdout.readline()) != b"ready\n":
        check(line, "it has ended")
        pid = int(line.split()[1]) if line.startswith(b"child") else pid
    ctx.wait_for(lambda: ctx.tool_run("ps").out.find(b"%d" % pid) >= 0, "the child in the list")
    out = ctx.run([ctx.scope, "detach", pid], check_code=0)
    check(b"stays in its memory" not in out.err, "something stays", out.describe())
    finish(ctx, process, "the program")


@test("attach-cancel", timeout=90)
def attach_cancel(ctx):
    """Threads are cancelled inside functions while the loader doesn't know the probe's code."""
    process = running(ctx, "late-cancel")
    ctx.run([ctx.scope, "attach", process.pid], check_code=0, env=ctx.env(**WANTED))
    process.stdin.write(b"x")
    process.stdin.flush()
    out, _ = finish(ctx, process, "the program")
    check(out.endswith(b"done\n"), "its last words", out[-100:])


@test("detach-busy", timeout=90)
def detach_busy(ctx):
    """Calls under way end soon: nothing stays. Four times, under load."""
    process = running(ctx, "busy")
    for _ in range(4):
        ctx.run([ctx.scope, "attach", process.pid], check_code=0, env=ctx.env(**WANTED))
        segment = segment_of(process)
        ctx.wait_for(lambda s=segment: len(s.tls()) > 100, "records")
        out = ctx.run([ctx.scope, "detach", process.pid], check_code=0)
        check(b"stays in its memory" not in out.err, "something stays", out.describe())
        equal(mapped_code(process.pid), [], "code that is left")
    out, _ = finish(ctx, process, "the program")
    check(out.endswith(b"done\n"), "its last words", out[-100:])
