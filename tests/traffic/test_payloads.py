# SPDX-License-Identifier: Apache-2.0
"""`scope run --payloads`: the bytes that passed, in their files."""

import json
import socket
import ssl
import threading
from contextlib import contextmanager
from pathlib import Path

from scopetest import check, equal, test

HERE = Path(__file__).resolve().parent
PYTHON = "/usr/bin/python3"
PAYLOADS = ["--payloads", "--lossless"]
CURL = ["curl", "-sS", "--max-time", "20"]


def urls(port, *targets):
    return [w for t in targets for w in (f"http://127.0.0.1:{port}{t}", "-o", "/dev/null")]


def start_server(ctx, prefix=lambda argv: argv):
    """The server in server.py; the process and its port."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    (ctx.dir / "requests").touch()
    process = ctx.start(prefix([PYTHON, HERE / "server.py", "threads", port, ctx.dir / "requests"]))

    def listens():
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) == 0
    ctx.wait_for(listens, "the server listens", 30)
    return process, port


def nothing_lost(session):
    equal({k: v for k, v in session.lost().items() if v}, {}, "losses")


def flows(ctx, session, headers=False):
    """The flows, each with its bytes, after a check of what the index says about them."""
    text = ctx.tool_run("flows", "-i", str(session.id), "-a", "-j").out.decode()
    found = [json.loads(line) for line in text.splitlines()]
    for f in found:
        for way, name, missing in (("in", "recv", "missing_recv"), ("out", "sent", "missing_sent")):
            file = f.get(f"{way}_file")
            f[way] = (session.dir / "payloads" / file).read_bytes() if file else b""
            if not headers:
                equal(len(f[way]) + f[missing], f[f"net_bytes_{name}"], f"bytes of {file}")
    return found


@contextmanager
def listener(kind=socket.SOCK_STREAM, wrap=None):
    """A server outside of what is observed, which answers in capitals, and closes first."""
    with socket.socket(type=kind) as s:
        s.bind(("127.0.0.1", 0))
        s.settimeout(30)

        def serve():
            try:
                while kind == socket.SOCK_DGRAM:
                    data, peer = s.recvfrom(1 << 16)
                    s.sendto(data.upper(), peer)
                s.listen()
                while True:
                    c = s.accept()[0]
                    c.settimeout(30)
                    try:
                        with (wrap(c) if wrap else c) as c:
                            while data := c.recv(1 << 16):
                                c.sendall(data.upper())
                    except OSError:
                        pass
            except OSError:
                pass
        threading.Thread(target=serve, daemon=True).start()
        yield s.getsockname()[1]
        if kind == socket.SOCK_STREAM:
            s.shutdown(socket.SHUT_RDWR)


def sockets(ctx, kind, *ports, flags=PAYLOADS, **how):
    result = ctx.scoped([PYTHON, HERE / "sockets.py", kind, *ports], flags, check_code=0, **how)
    result.session.wait_end()
    return flows(ctx, result.session, "env" in how), result.session


@test(timeout=120)
def both_sides(ctx):
    """What a client says and hears is what its server hears and says, byte for byte, body and all."""
    process, port = start_server(ctx, lambda argv: ctx.scope_argv(argv, PAYLOADS))
    session = ctx.session()
    result = ctx.scoped([*CURL, *urls(port, "/hello", "/big", "/chunked"), "-d", "x" * 100000], PAYLOADS, check_code=0)
    process.terminate()
    process.wait(15)
    session.wait_end()
    result.session.wait_end()
    client = flows(ctx, result.session)
    equal(len(client), 1, "flows of the client")
    served = [f for f in flows(ctx, session) if f["net_peer_port"] == client[0]["net_host_port"]]
    equal(len(served), 1, "flows of the server with it")
    a, b = client[0], served[0]
    check(a["out"] == b["in"] and a["in"] == b["out"], "the bytes of both sides differ",
          [len(x) for x in (a["out"], b["in"], a["in"], b["out"])])
    check(a["out"].count(b"POST /") == 3 and a["out"].count(b"x" * 100000) == 3, "requests")
    equal([a["role"], b["role"]], ["client", "server"], "roles")
    equal([a["missing_recv"], a["missing_sent"], b["missing_recv"], b["missing_sent"]], [0] * 4, "missing bytes")
    equal(a["net_protocol"], "HTTP", "protocol")
    check(a["channel"] in {e["_channel"] for e in result.session.raw("events.json") if e.get("type") == "evt"
                           and e["body"]["source"] == "net.open"}, "the channel isn't that of its net.open")
    nothing_lost(result.session)
    nothing_lost(session)


@test(timeout=120)
def without_the_flag(ctx):
    with listener() as port:
        result = ctx.scoped([PYTHON, HERE / "sockets.py", "again", port], check_code=0)
    result.session.wait_end()
    equal(list((result.session.dir / "payloads").iterdir()), [], "files")


@test(timeout=120)
def peers_of_a_datagram_socket(ctx):
    with listener(socket.SOCK_DGRAM) as one, listener(socket.SOCK_DGRAM) as two:
        found, session = sockets(ctx, "peers", one, two)
    found.sort(key=lambda f: f["net_peer_port"] != one)
    equal([f["net_peer_port"] for f in found], [one, two], "peers")
    for f in found:
        port = f["net_peer_port"]
        equal(f["out"], b"one to %dtwo to %d" % (port, port), "sent")
        equal(f["in"], f["out"].upper(), "received")
        equal(f["net_transport"], "IP.UDP", "transport")
    sizes = [json.loads(line)["len"] for line in (session.dir / "payloads" / "index.ndjson").read_text().splitlines()
             if '"type":"data"' in line]
    equal(len(sizes), 8, "datagrams")


@test(timeout=120)
def datagrams(ctx):
    """Nothing of them is missing when their sockets are closed, or end with the program."""
    with listener(socket.SOCK_DGRAM) as one, listener(socket.SOCK_DGRAM) as two:
        found, session = sockets(ctx, "datagrams", one, two)
    asked = [f for f in found if f["net_transport"] == "IP.UDP"]
    equal({f["net_peer_port"]: f.get("net_protocol") for f in asked}, {one: "DNS", two: "DNS"}, "protocols")
    text = b"datagram 0datagram 1datagram 2"
    equal(sorted((f["out"], f["in"]) for f in found if f["net_transport"] == "Unix.UDP"), [(b"", text), (text, b"")], "the pair's")
    equal({(f["missing_recv"], f["missing_sent"]) for f in found}, {(0, 0)}, "missing bytes")
    nothing_lost(session)


@test(timeout=120)
def ports_that_are_used_again(ctx):
    with listener() as port:
        found, _ = sockets(ctx, "again", port)
    equal([(f["out"], f["in"]) for f in found], [(b"first", b"FIRST"), (b"second", b"SECOND")], "flows")
    equal(found[0]["net_host_port"], found[1]["net_host_port"], "ports")


@test(timeout=120)
def what_is_not_captured_is_a_gap(ctx):
    with listener() as port:
        found, session = sockets(ctx, "file", port)
    equal([f["out"] for f in found], [b"beforeafter"], "bytes")
    equal([f["missing_sent"] for f in found], [100000], "missing bytes")
    index = [json.loads(line) for line in (session.dir / "payloads" / "index.ndjson").read_text().splitlines()]
    equal([(x["type"], x["at"], x["len"]) for x in index if x.get("dir") == "out"],
          [("data", 0, 6), ("gap", 6, 100000), ("data", 6, 5)], "index")


@test(timeout=120)
def unix_sockets(ctx):
    found, _ = sockets(ctx, "pair")
    pairs = {(f["out"], f["in"]) for f in found if f["net_transport"] == "Unix.TCP"}
    equal(pairs, {(b"unix", b"UNIX"), (b"UNIX", b"unix")}, "flows of both ends")


@test(timeout=120)
def headers(ctx):
    with listener() as port:
        found, _ = sockets(ctx, "again", port, env=ctx.env(SCOPE_PAYLOAD_HEADER="true"))
    decoder = json.JSONDecoder()
    for f, text in zip(found, ("first", "second")):
        # the index leads to the bytes, without what is in front of them
        equal([f["net_bytes_sent"], f["net_bytes_recv"]], [len(text)] * 2, "bytes")
        for way, src, want in (("out", "nettx", text), ("in", "netrx", text.upper())):
            data = f[way].decode()
            header, end = decoder.raw_decode(data)
            equal(data[end:], want, "what follows the header")
            equal({k: header[k] for k in ("type", "pid", "src", "_channel", "len", "remotep", "localp")},
                  {"type": "payload", "pid": f["pid"], "src": src, "_channel": f["channel"], "len": len(text),
                   "remotep": f["net_peer_port"], "localp": f["net_host_port"]}, "header")


@test(timeout=120)
def one_protocol(ctx):
    """`payload: true` keeps what is recognised, from its first byte, and nothing else."""
    process, port = start_server(ctx)
    for name, regex, wanted in (("HTTP", "^GET /[a-z]+ HTTP/1", True), ("Other", "^OTHER", False)):
        directory, config = ctx.dir / f"payloads-{name}", ctx.dir / f"{name}.yml"
        config.write_text("event:\n  transport: {type: file, path: /dev/null}\nmetric:\n  enable: false\n"
                          f"payload: {{enable: false, dir: {directory}}}\nlibscope: {{lossless: true}}\n"
                          f"protocol:\n- {{name: {name}, regex: '{regex}', payload: true}}\n")
        result = ctx.scoped([*CURL, *urls(port, "/hello")], ["-u", config], check_code=0)
        result.session.wait_end()
        files = sorted(p.name for p in directory.iterdir()) if directory.exists() else []
        equal(len(files), 3 if wanted else 0, f"files of {name}: {files}")
        if wanted:
            sent = next(directory.glob("*.out")).read_bytes()
            check(sent.startswith(b"GET /hello HTTP/1.1\r\n") and sent.endswith(b"\r\n\r\n"), sent)
            check(next(directory.glob("*.in")).read_bytes().endswith(b"hello /hello"), "the response")
            equal(json.loads(ctx.tool_run("flows", "-j").out)["net_protocol"], "HTTP", "protocol")
    process.terminate()


@test(timeout=120)
def no_ciphertext(ctx):
    """Records of TLS are not kept."""
    key, cert = ctx.dir / "key.pem", ctx.dir / "cert.pem"
    ctx.run([ctx.tool("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "1",
             "-subj", "/CN=localhost"], check_code=0)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with listener(wrap=lambda c: context.wrap_socket(c, server_side=True)) as port:
        client = (f"import socket, ssl; s = ssl._create_unverified_context().wrap_socket("
                  f"socket.create_connection(('127.0.0.1', {port}))); s.sendall(b'secret'); assert s.recv(10) == b'SECRET'")
        result = ctx.scoped([PYTHON, "-c", client], PAYLOADS, check_code=0)
    result.session.wait_end()
    raw = [f for f in flows(ctx, result.session) if not f["tls"]]
    equal([f["net_peer_port"] for f in raw if f["net_peer_port"] == port], [], "flows of ciphertext")


@test(timeout=120)
def ciphertext_in_pieces(ctx):
    """What may be TLS is held back until it is known, and then lost or kept as a whole."""
    with listener() as port:
        found, session = sockets(ctx, "pieces", port)
    equal([f["out"] for f in found], [b"\x16\x03\x01 is no TLS"], "flows")
    nothing_lost(session)


@test(timeout=120)
def a_full_disk(ctx):
    """What can't be written is counted, and the program doesn't notice."""
    with listener() as port:
        result = ctx.scoped([PYTHON, HERE / "sockets.py", "again", port], PAYLOADS,
                            env=ctx.env(SCOPE_PAYLOAD_DIR="/dev/null/x"), check_code=0)
    result.session.wait_end()
    equal(result.session.lost().get("payload"), 2 * len("firstsecond"), "bytes that were lost")
    check("payloads can't be written to /dev/null/x" in result.session.log(), "the log", result.session.log())
