# SPDX-License-Identifier: Apache-2.0
"""Programs whose TLS can't be read are told of, once each and with the reason; nobody else is: neither programs whose
plaintext is seen, nor those that came no further than the handshake."""

import json
import re
import socket
import ssl
import threading
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path

from attaching import attach
from scopetest import check, equal, test
from tlstest import certificate
from traffic import PYTHON, nothing_lost

HERE = Path(__file__).resolve().parent
OWN = ("TLS of this program can't be read: it is written in Go, and no crypto/tls is found in it that can be observed here; or it "
       "passes on what others encrypt")
BEFORE = ("TLS of this program can't be read: the connection was open before the program was observed; or it passes on what others "
          "encrypt")
OTHER = ("TLS of this program can't be read: its plaintext does not pass through the TLS library that is observed in it, but through "
         "another one; or it passes on what others encrypt")
# Go has ChaCha20-Poly1305 then, whose keys aren't found in memory.
CHACHA = {"GODEBUG": "cpu.aes=off"}
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


@contextmanager
def web(ctx, version, close=True, served=None):
    """A server, unobserved. Yields its port; each answer becomes an entry of `served`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(ctx))
    context.minimum_version = context.maximum_version = version
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n%s\r\nok" % (b"Connection: close\r\n" if close else b"")

    def serve(plain):
        with suppress(OSError), plain:
            plain.settimeout(30)
            with context.wrap_socket(plain, server_side=True) as s:
                while s.recv(65536):
                    s.sendall(answer)
                    if served is not None:
                        served.append(1)
                    if close:
                        break

    def accept():
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


def own(ctx, variant):
    """A client in Go whose functions of crypto/tls are called otherwise: one with a TLS library of its own."""
    program, name = ctx.dir / f"own-{variant}", b"crypto/tls.(*Conn)."
    if not program.exists():
        image = ctx.go_build("client", variant).read_bytes()
        check(name in image, "no such functions")
        program.write_bytes(image.replace(name, b"crypto/own.(*Conn)."))
        program.chmod(0o755)
    return program


def notes(session):
    session.wait_end()
    return [(e["data"]["text"], e["data"]["file"]) for e in session.events("process", "proc.note", sync=False)]


def counted(ctx, session):
    """Connections that could not be read, by reason; all that show it must agree."""
    session.wait_end()
    found = session.meta["tls_unread"]
    listed = json.loads(ctx.tool_run("history", "-i", str(session.id), "-j").out)
    equal(listed["tls_unread"], found, "history -j")
    shown = ctx.tool_run("history", "-i", str(session.id)).out.decode()
    for why, n in found.items():
        check(re.search(rf"^  {why}: +{n}: \w", shown, re.M), f"history shows {why}", shown)
    check(("TLS Not Read:" in shown) == bool(found), "history", shown)
    return found


def flows(ctx, session):
    return [json.loads(x) for x in ctx.tool_run("flows", "-i", str(session.id), "-a", "-j").out.splitlines()]


@test("unread", timeout=120)
def unread(ctx):
    """A client in Go: some connections, one note; flows have their bytes, and no content."""
    cert, _ = certificate(ctx)
    for version in VERSIONS:
        for variant in ("static", "cgo"):
            program = own(ctx, variant)
            with web(ctx, version, close=False) as port: # kept, so that no request is told after the end of its connection
                session = ctx.scoped([program, f"https://127.0.0.1:{port}/a", 3, 4], ["--payloads"],
                                     env=ctx.env(SSL_CERT_FILE=cert, **CHACHA), check_code=0).session
            equal(notes(session), [(OWN, str(program))], f"notes ({version}, {variant})")
            check(OWN in session.log(), "the log", session.log())
            found = flows(ctx, session)
            closed = [e["data"] for e in session.events(source="net.close", sync=False) if e["data"].get("net_peer_port") == port]
            got = Counter((f["net_protocol"], f["tls"], f["net_peer_port"], f["net_bytes_recv"], f["missing_recv"], f["net_bytes_sent"],
                           f["missing_sent"]) for f in found)
            want = Counter(("TLS", False, port, c["net_bytes_recv"], c["net_bytes_recv"], c["net_bytes_sent"], c["net_bytes_sent"])
                           for c in closed)
            equal({f.get("tls_unread") for f in found}, {"unknown-go"}, "reasons of flows")
            equal({"tls_plaintext" in f for f in found}, {False}, "a way")
            one = ctx.tool_run("flows", "-i", str(session.id), str(found[0]["id"])).out.decode()
            check(re.search(r"^TLS Not Read: +it is written in Go", one, re.M), "one flow", one)
            check("TLS (not read: unknown-go)" in ctx.tool_run("flows", "-i", str(session.id)).out.decode(), "the list")
            equal(counted(ctx, session), {"unknown-go": len(found)}, "connections by reason")
            check(got.total() >= 2 and got <= want, "flows", got, want) # Go may make connections that it has no use for
            equal([p.name for p in session.dir.glob("payloads/*") if p.name != "index.ndjson"], [], "files")
            nothing_lost(session)


@test("unread_goes_on", timeout=60)
def goes_on(ctx):
    """A connection that isn't closed is told of with a summary."""
    cert, _ = certificate(ctx)
    with web(ctx, VERSIONS[1], close=False) as port:
        client = ctx.start(ctx.scope_argv([own(ctx, "static"), f"https://127.0.0.1:{port}/a", 1, 1000000000]),
                           env=ctx.env(SSL_CERT_FILE=cert, SCOPE_SUMMARY_PERIOD="1", **CHACHA))
        session = ctx.wait_for(lambda: ctx.sessions() and ctx.session(), "a session")
        ctx.wait_for(lambda: session.events("process", "proc.note"), "a note", interval=0.5)
        told = json.loads(ctx.tool_run("inspect", own(ctx, "static").name).out)["tls"]
        equal((told["ways"], told["seen"], told["not_read"]), ([], [], "unknown-go"), "inspect")
        check(told["why"] in OWN, "why", told)
        client.terminate()
    equal([text for text, _ in notes(session)], [OWN], "notes")
    equal(counted(ctx, session), {"unknown-go": 1}, "connections by reason") # once, although told of while it was open


@test("unread_open_before", timeout=60)
def open_before(ctx):
    """A connection that was open before attaching is told of as such."""
    cert, _ = certificate(ctx)
    served = []
    with web(ctx, VERSIONS[1], close=False, served=served) as port:
        client = ctx.start([own(ctx, "static"), f"https://127.0.0.1:{port}/a", 1, 1000000000], env=ctx.env(SSL_CERT_FILE=cert, **CHACHA))
        ctx.wait_for(lambda: served, "an answer")
        attached = attach(ctx, client.pid)
        seen = len(served)
        ctx.wait_for(lambda: len(served) > seen + 10, "more answers")
        client.terminate()
    equal(notes(attached.session), [(BEFORE, str(own(ctx, "static")))], "notes")
    equal(counted(ctx, attached.session), {"open-before": 1}, "connections by reason")


@test("unread_found", timeout=60, arch="x86_64")
def found(ctx):
    """The same with AES, whose keys are found in memory while the connection goes on: it is read, and nobody is told of."""
    cert, _ = certificate(ctx)
    with web(ctx, VERSIONS[1], close=False) as port:
        client = ctx.start(ctx.scope_argv([own(ctx, "static"), f"https://127.0.0.1:{port}/a", 1, 1000000000]),
                           env=ctx.env(SSL_CERT_FILE=cert, SCOPE_SUMMARY_PERIOD="1"))
        session = ctx.wait_for(lambda: ctx.sessions() and ctx.session(), "a session")
        ctx.wait_for(lambda: session.events("http", "http.resp"), "responses", interval=0.5)
        client.terminate()
    equal(notes(session), [], "notes")


@test("unread_none", timeout=120)
def none(ctx):
    """Who reads is seen; who came no further than the handshake has nothing to be read; who passes on can't read it."""
    cert, _ = certificate(ctx)
    go = own(ctx, "static")
    node = f"require('https').get({{port: %d, host: '127.0.0.1', ca: require('fs').readFileSync('{cert}')}}, r => r.resume())"
    for version in VERSIONS:
        with web(ctx, version) as port:
            url = f"https://127.0.0.1:{port}/"
            for argv, code in ((["curl", "-sS", "--cacert", cert, url, url], 0),
                               (["curl", "-sS", url], 60),
                               (["openssl", "s_client", "-connect", f"127.0.0.1:{port}"], 0),
                               ([ctx.tool("gnutls-cli"), "--insecure", "-p", port, "127.0.0.1"], 0),
                               ([ctx.tool("node"), "-e", node % port], 0),
                               ([go, url, 1, 1], None)): # it doesn't trust the certificate; Go may end before it has panicked
                session = ctx.scoped(argv, ["--payloads"], check_code=code).session
                equal(notes(session), [], f"notes of {argv[:3]} ({version})")
                equal([f for f in flows(ctx, session) if not f["tls"]], [], f"flows of {argv[:3]} ({version})")


@test("unread_relay", timeout=60)
def relay(ctx):
    """A proxy can't read what it passes on, and isn't told of; one that has it from elsewhere is, and why isn't known."""
    cert, _ = certificate(ctx)
    for how, want in (("socket", []), ("pipe", [OTHER])):
        with web(ctx, VERSIONS[1]) as port:
            argv = [PYTHON, HERE / "relay.py", how, port, "curl", "-sS", "--cacert", cert, "--connect-to", "::127.0.0.1:%d",
                    "https://localhost/"]
            result = ctx.scoped(argv, check_code=0)
        equal(result.out, b"ok", "answer")
        equal([text for text, _ in notes(result.session)], want, how)
