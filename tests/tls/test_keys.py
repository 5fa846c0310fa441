# SPDX-License-Identifier: Apache-2.0
"""TLS that is linked into stripped programs: what is told of the connection must be, byte for byte, what the server got
and sent, and the program must not notice. OpenSSL (form of Debian's libssl.a), BoringSSL (Bun), aws-lc (Deno)."""

import hashlib
import hmac
import json
import os
import re
import signal
import socket
import ssl
import threading

import foreign
from scopetest import add_test, check, equal, test
from tlsscale import scale
from tlstest import certificate, free_port, listens

PAYLOADS = ["--payloads", "--lossless"]
BODY = b"".join(b"line %d\n" % i for i in range(2000))


class Server:
    """Answers requests; knows by the client's port what it got and sent."""

    def __init__(self, ctx, maximum=None):
        cert, key = certificate(ctx)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(cert, key)
        if maximum:
            self.context.maximum_version = maximum
        self.got, self.sent, self.errors = {}, {}, []
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=256)
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
        got = sent = rest = b""
        try:
            plain.settimeout(30)
            with self.context.wrap_socket(plain, server_side=True) as s:
                while data := s.recv(65536):
                    got, rest = got + data, rest + data
                    while b"\r\n\r\n" in rest:
                        head, _, rest = rest.partition(b"\r\n\r\n")
                        reply = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
                        s.sendall(reply)
                        sent += reply
                        if re.search(rb"(?i)connection: close", head):
                            raise EOFError
        except (EOFError, ConnectionResetError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
            pass  # clients may open more connections than they need, and leave without a word
        except OSError as e:
            self.errors.append(e)
        if got:
            self.got[port], self.sent[port] = got, sent

    def close(self):
        self.socket.close()


def payloads(session):
    """Of each connection, by the port of the program's end: what it received and sent; each must be one flow of TLS."""
    found = {}
    directory = session.dir / "payloads"
    for line in (directory / "index.ndjson").read_text(encoding="utf-8").splitlines():
        flow = json.loads(line)
        if flow["type"] != "flow":
            check(flow["type"] != "gap", "a gap", flow)
            continue
        check(flow["tls"], "not of TLS", flow)
        check(flow.get("tls_plaintext") == "keys", "not by keys", flow)
        check(flow["net_host_port"] not in found, "two flows of one connection", flow)
        found[flow["net_host_port"]] = tuple(
            (directory / flow[f]).read_bytes() if flow.get(f) and (directory / flow[f]).exists() else b""
            for f in ("in_file", "out_file"))
    return found


def compare(session, server, count):
    equal(server.errors, [], "errors of the server")
    equal(len(server.got), count, "connections of the server")
    found = payloads(session)
    equal(sorted(found), sorted(server.got), "connections")
    for port, (received, sent) in found.items():
        check(sent == server.got[port], f"port {port}: what was sent differs", sent[:300], server.got[port][:300])
        check(received == server.sent[port], f"port {port}: what was received differs", received[:300], len(received))
    equal(session.lost(), {}, "losses")


def requests(session):
    """Targets of requests, and of the responses with their status."""
    def of(source, *fields):
        return sorted(tuple(e["data"].get(f) for f in fields) for e in session.events(source=source, sync=False))
    for e in session.events(source="http.req", sync=False):
        equal(e["data"]["http_scheme"], "https", "scheme")
    return of("http.req", "http_target"), of("http.resp", "http_target", "http_status_code")


def linked(ctx):
    """The client, stripped."""
    program = ctx.compile("tls/linked.c", variant="glibc-O2", name="linked",
                          flags=["-static-pie", "-s", "-Wl,--no-warnings", "-lssl", "-lcrypto"])
    return program


def run_linked(ctx, count, *argv, how=""):
    server = Server(ctx)
    program = linked(ctx)
    result = ctx.scoped([program, server.port, count, *argv], PAYLOADS, check_code=0, env=ctx.env(LINKED_HOW=how))
    equal(result.out, b"%d\n" % (count * (len(BODY) + len(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY)))),
          "its output")
    result.session.wait_end()
    ctx.wait_for(lambda: len(server.got) == count, "the server's log")
    server.close()
    compare(result.session, server, count)
    asked, answered = requests(result.session)
    want = sorted(f"/linked/{i}" for i in range(count))
    equal(asked, [(t,) for t in want], "requests")
    equal(answered, [(t, 200) for t in want], "responses")


for _name, _argv in [("1.3-aes256", ["1.3"]), ("1.3-aes128", ["1.3", "TLS_AES_128_GCM_SHA256"]),
                     ("1.2-aes128", ["1.2", "ECDHE-RSA-AES128-GCM-SHA256"]),
                     ("1.2-aes256", ["1.2", "ECDHE-RSA-AES256-GCM-SHA384"])]:
    add_test("tls", f"keys_linked-{_name}", lambda ctx, a=_argv: run_linked(ctx, 3, *a), arch="x86_64")
add_test("tls", "keys_linked-fork", lambda ctx: run_linked(ctx, 3, how="fork"), arch="x86_64")
add_test("tls", "keys_linked-fork-1.2", lambda ctx: run_linked(ctx, 3, "1.2", how="fork"), arch="x86_64")


def resumed(ctx, how, *argv):
    """Two requests on each connection, of which the first one may be early data. Truth is s_server's output."""
    cert, key = certificate(ctx)
    port = free_port()
    out = open(ctx.dir / "s_server.out", "wb")
    server = ctx.start(["/bin/sh", "-c", f"sleep 100 | {ctx.tool('openssl')} s_server -quiet -early_data -accept {port} -cert {cert} "
                        f"-key {key}"], stdout=out)  # without input it hangs up
    ctx.wait_for(lambda: server.poll() is not None or listens(port), "the server")
    result = ctx.scoped([linked(ctx), port, 3, *argv], PAYLOADS, check_code=0, env=ctx.env(LINKED_HOW=how))
    result.session.wait_end()
    out.close()
    said = (ctx.dir / "s_server.out").read_bytes()
    want = [f"/linked/{i}" for i in range(6)]
    equal(re.findall(rb"GET (\S+) ", said), [t.encode() for t in want], "what the server got")
    sent = sorted((f[1] for f in payloads(result.session).values() if f[1]), key=lambda text: said.find(text))
    check(len(sent) == 3 and b"".join(sent) in said, "what was sent", sent, said)
    equal(requests(result.session)[0], [(t,) for t in want], "requests")


add_test("tls", "keys_linked-early", lambda ctx: resumed(ctx, "early"), arch="x86_64")
add_test("tls", "keys_linked-resume", lambda ctx: resumed(ctx, "resume"), arch="x86_64")
add_test("tls", "keys_linked-resume-1.2", lambda ctx: resumed(ctx, "resume", "1.2"), arch="x86_64")
add_test("tls", "keys_linked-100", lambda ctx: run_linked(ctx, 100), arch="x86_64")


@test("keys_secret", arch="x86_64")
def secret(ctx):
    """Neither keys nor what they come from is in anything that a session leaves behind; the program prints its secrets
    itself, into a file that isn't observed."""
    server = Server(ctx)
    out = ctx.dir / "secrets"
    ctx.scoped(["/bin/sh", "-c", f"exec {linked(ctx)} {server.port} 2 1.3 >{out}"],
               ["--payloads", "--lossless"], env=ctx.env(LINKED_KEYS="1"), check_code=0)
    session = ctx.session()
    session.wait_end()
    server.close()
    secrets = [bytes.fromhex(line.split()[1]) for line in out.read_text(encoding="ascii").splitlines() if line.startswith("key ")]
    equal(len(secrets), 4, "secrets")
   # Half of them are the client's, half the server's. HKDF-Expand-Label(secret, "key", "", 32), RFC 8446, section 7.1
    label = b"\x00\x20\x09tls13 key\x00"
    keys = [hmac.new(s, label + b"\x01", hashlib.sha384 if len(s) == 48 else hashlib.sha256).digest()[:32] for s in secrets]
    equal(len(payloads(session)), 2, "connections")  # they were read
    files = [f for f in session.dir.rglob("*") if f.is_file()]
    check(len(files) > 3, "the session's files", files)
    for f in files:
        data = f.read_bytes()
        for k in keys:
            check(k[:16] not in data and k.hex()[:32].encode() not in data, f"{f}: a key")


@test("keys_chacha", arch="x86_64")
def chacha(ctx):
    """Another suite: told, not guessed."""
    server = Server(ctx)
    result = ctx.scoped([linked(ctx), server.port, 2, "1.3", "TLS_CHACHA20_POLY1305_SHA256"], PAYLOADS, check_code=0)
    result.session.wait_end()
    server.close()
    equal(requests(result.session), ([], []), "requests")
    told = [e["data"]["text"] for e in result.session.events(source="proc.note", sync=False)]
    equal(len(told), 1, "notices")
    check("another cipher suite" in told[0], "the reason", told)
    equal(result.session.meta["tls_unread"], {"cipher-suite": 2}, "connections by reason")


@test("keys_form", arch="x86_64")
def form(ctx):
    """One instruction that differs, and nothing is hooked; nor where an image checks its own text."""
    image = linked(ctx).read_bytes()
    at = image.find(b"\x66\x0f\x3a\xdf")
    check(at > 0, "no aeskeygenassist")
    explain = ctx.built("src/plan/plan-explain")

    def row(name, data):
        (ctx.dir / name).write_bytes(data)
        rows = [w for w in ctx.run([explain, ctx.dir / name], check_code=0).out.decode().splitlines() if "aes_set_encrypt_key" in w]
        equal(len(rows), 1, f"rows of {name}")
        return rows[0]

    check(" function " in row("as-is", image), "not hooked", row("as-is", image))
    # The round constant of the first aeskeygenassist; the register that another instruction writes.
    for name, place, bits in (("constant", at + 5, 0x40), ("register", at + 4, 0x08)):
        other = bytearray(image)
        other[place] ^= bits
        check("left alone  instructions aren't known" in row(name, bytes(other)), f"{name}: hooked")
    check("left alone  it checks its own code" in row("fips", image + b"FIPS integrity test"), "hooked in spite of the veto")
    own = bytearray(image + b"FIPS integrity test") # ... and told of as that; plans are kept by build id
    note = own.find(b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0")
    check(note > 0, "no build id")
    own[note + 16] ^= 1
    (ctx.dir / "fips").write_bytes(own)
    (ctx.dir / "fips").chmod(0o755)
    server = Server(ctx)
    session = ctx.scoped([ctx.dir / "fips", server.port, 2], PAYLOADS, check_code=0).session
    session.wait_end()
    server.close()
    equal(session.meta["tls_unread"], {"self-check": 2}, "connections by reason")


# --- programs of others ---

BUN_CLIENT = """
const [port, count] = process.argv.slice(2).map(Number);
const one = async i => {
    const r = await fetch(`https://127.0.0.1:${port}/bun/${i}`, {tls: {rejectUnauthorized: false}, headers: {connection: "close"}});
    return (await r.text()).length;
};
console.log((await Promise.all([...Array(count).keys()].map(one))).join(" "));
"""

DENO_CLIENT = """
const [port, count] = Deno.args.map(Number);
const one = async i => (await (await fetch(`https://localhost:${port}/deno/${i}`)).text()).length;
console.log((await Promise.all([...Array(count).keys()].map(one))).join(" "));
"""


def bun(ctx, script):
    (ctx.dir / "script.js").write_text(script)
    return [foreign.program("bun", "bin/bun"), ctx.dir / "script.js"]


def deno(ctx, script):
    (ctx.dir / "script.js").write_text(script)
    return [foreign.program("deno", "deno"), "run", "-A", "--quiet", "--no-lock", "--unsafely-ignore-certificate-errors",
            ctx.dir / "script.js"]


def client(ctx, argv, prefix, count):
    server = Server(ctx)
    result = ctx.scoped([*argv, server.port, count], PAYLOADS, check_code=0,
                        env=ctx.env(DENO_DIR=str(ctx.dir / "deno"), DENO_NO_UPDATE_CHECK="1", BUN_INSTALL_CACHE_DIR=str(ctx.dir)))
    equal(result.out.split(), [b"%d" % len(BODY)] * count, "its output")
    result.session.wait_end()
    # A connection that is kept alive serves several requests.
    ctx.wait_for(lambda: sum(g.count(b"GET ") for g in server.got.values()) == count, "the server's log")
    server.close()
    compare(result.session, server, len(server.got))
    asked, answered = requests(result.session)
    want = sorted(f"/{prefix}/{i}" for i in range(count))
    equal(asked, [(t,) for t in want], "requests")
    equal(answered, [(t, 200) for t in want], "responses")


add_test("tls", "keys_bun", lambda ctx: client(ctx, bun(ctx, BUN_CLIENT), "bun", 100), arch="x86_64")
add_test("tls", "keys_deno", lambda ctx: client(ctx, deno(ctx, DENO_CLIENT), "deno", 100), arch="x86_64")


@test("keys_deno-http2", arch="x86_64")
def deno_http2(ctx):
    """Truth is nghttpd's log."""
    cert, key = certificate(ctx)
    port = free_port()
    (ctx.dir / "root/deno").mkdir(parents=True)
    for i in range(20):
        (ctx.dir / "root/deno" / str(i)).write_bytes(BODY)
    log = open(ctx.dir / "nghttpd.log", "wb")
    ctx.start([ctx.tool("nghttpd"), "-v", "-a", "127.0.0.1", "-d", ctx.dir / "root", port, key, cert], stdout=log)
    ctx.wait_for(lambda: listens(port), "the server")
    result = ctx.scoped([*deno(ctx, DENO_CLIENT), port, 20], PAYLOADS, check_code=0,
                        env=ctx.env(DENO_DIR=str(ctx.dir / "deno"), DENO_NO_UPDATE_CHECK="1"))
    equal(result.out.split(), [b"%d" % len(BODY)] * 20, "its output")
    result.session.wait_end()
    log.close()
    want = sorted(re.findall(r":path: (\S+)", (ctx.dir / "nghttpd.log").read_text()))
    equal(len(want), 20, "requests in the server's log")
    asked, answered = requests(result.session)
    equal(asked, [(t,) for t in want], "requests")
    equal(answered, [(t, 200) for t in want], "responses")
    equal({e["data"].get("http_flavor") for e in result.session.events(source="http.req", sync=False)}, {"2.0"}, "flavor")
    equal(result.session.lost(), {}, "losses")


BUN_SERVER = """
Bun.serve({port: +process.argv[2], hostname: "127.0.0.1", tls: {cert: Bun.file(process.argv[3]), key: Bun.file(process.argv[4])},
    fetch: q => new Response("answer to " + new URL(q.url).pathname)});
"""


def ask(port, targets, errors, maximum=None):
    """Asks on one connection."""
    context = ssl._create_unverified_context()
    if maximum:
        context.maximum_version = maximum
    try:
        with context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=30)) as s:
            for target in targets:
                s.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % target.encode())
                got = b""
                while not got.endswith(b"answer to " + target.encode()):
                    more = s.recv(65536)
                    check(more, "hung up", got[-100:])
                    got += more
    except Exception as e:  # any is the test's
        errors.append(e)


def together(port, count, maximum=None):
    """So many connections at once, two requests on each. Returns the targets."""
    errors = []
    want = [[f"/{turn}/{i}" for turn in ("first", "second")] for i in range(count)]
    threads = [threading.Thread(target=ask, args=(port, targets, errors, maximum)) for targets in want]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    equal(errors, [], "errors of clients")
    return sorted(t for targets in want for t in targets)


def mappings(pid):
    """Of the segment, as /proc/PID/smaps has them."""
    with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as f:
        return [m for m in re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", f.read(), flags=re.M) if "/memfd:scope" in m.partition("\n")[0]]


def bun_server(ctx, count, maximum=None, attach=False):
    cert, key = certificate(ctx)
    port = free_port()
    argv = [*bun(ctx, BUN_SERVER), port, cert, key]
    process = ctx.start(argv if attach else ctx.scope_argv(argv, PAYLOADS))
    ctx.wait_for(lambda: process.poll() is not None or listens(port), "the server")
    if attach:
        ctx.run([ctx.scope, "attach", *PAYLOADS, process.pid], check_code=0, env=ctx.env())
    want = together(port, count, maximum)
    session = ctx.session()
    # A client has an answer before the server's call has returned: then it must not be ended yet.
    ctx.wait_for(lambda: len(session.events(source="http.resp")) >= len(want), "all responses", 20, 0.2)
    told = json.loads(ctx.tool_run("inspect", process.pid if attach else "bun").out)["tls"]
    equal({(w["way"], w["hooked"] == w["functions"] > 0) for w in told["ways"]}, {("keys", True)}, "ways that inspect tells")
    equal((told["seen"], "not_read" in told), (["keys"], False), "inspect")
    check(any(" dd" in m.partition("VmFlags:")[2].partition("\n")[0] for m in mappings(process.pid)), "keys would be in a core")
    if attach:
        ctx.run([ctx.scope, "detach", process.pid], check_code=0, env=ctx.env())
        together(port, 5, maximum)
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(ctx.left())
    session.wait_end()
    equal(session.lost(), {}, "losses")
    asked, answered = requests(session)
    equal(asked, [(t,) for t in want], "requests")
    equal(answered, [(t, 200) for t in want], "responses")


add_test("tls", "keys_bun-server", lambda ctx: bun_server(ctx, 50), arch="x86_64")
add_test("tls", "keys_bun-server-1.2", lambda ctx: bun_server(ctx, 10, ssl.TLSVersion.TLSv1_2), arch="x86_64")
add_test("tls", "keys_bun-attach", lambda ctx: bun_server(ctx, 10, attach=True), arch="x86_64")


# --- connections that are open at `scope attach` ---

class Client:
    """A connection that is kept: asks now and again. What has passed since `attached` is what must be told."""

    def __init__(self, port, maximum=None, cipher=None):
        context = ssl._create_unverified_context()
        if maximum:
            context.maximum_version = maximum
        if cipher:
            context.set_ciphers(cipher)
        self.socket = context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=30))
        self.port = self.socket.getsockname()[1]
        self.sent = self.got = b""

    def ask(self, target):
        request = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % target.encode()
        self.socket.sendall(request)
        got = b""
        while not got.endswith(b"answer to " + target.encode()):
            more = self.socket.recv(65536)
            check(more, "hung up", got[-100:])
            got += more
        self.sent += request
        self.got += got

    def attached(self):
        self.sent = self.got = b""


DENO_SERVER = """
Deno.serve({port: +Deno.args[0], hostname: "127.0.0.1", onListen() {}, cert: Deno.readTextFileSync(Deno.args[1]),
    key: Deno.readTextFileSync(Deno.args[2])}, q => new Response("answer to " + new URL(q.url).pathname));
"""


def attach_open(ctx, argv, count, turns=3, env=None, **how):
    """Connections that are open, and some that come afterwards: byte for byte what their clients have sent and got since."""
    cert, key = certificate(ctx)
    port = free_port()
    process = ctx.start([*argv, port, cert, key], env=env)
    ctx.wait_for(lambda: process.poll() is not None or listens(port), "the server", 20)
    clients = [Client(port, **how) for _ in range(count)]
    for i, c in enumerate(clients):
        for turn in range(i % 3 + 1):
            c.ask(f"/before/{i}/{turn}")
    ctx.run([ctx.scope, "attach", *PAYLOADS, process.pid], check_code=0, env=ctx.env())
    for c in clients:
        c.attached()
    clients.append(Client(port, **how))
    want = []
    for turn in range(turns):
        for i, c in enumerate(clients):
            want.append(f"/after/{i}/{turn}")
            c.ask(want[-1])
    session = ctx.session()
    ctx.wait_for(lambda: len(session.events(source="http.resp")) >= len(want), "all responses", 20, 0.2)
    for c in clients:
        c.socket.close()
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(ctx.left())
    session.wait_end()
    asked, answered = requests(session)
    equal(asked, sorted((t,) for t in want), "requests")
    equal(answered, sorted((t, 200) for t in want), "responses")
    equal(session.lost(), {}, "losses")
    found = payloads_of_server(session)
    equal(sorted(found), sorted(c.port for c in clients), "connections")
    for c in clients:
        check(found[c.port] == (c.sent, c.got), f"port {c.port}", found[c.port][0][:200], found[c.port][1][:200])


def payloads_of_server(session):
    """By the port of the client's end: what the program received and sent."""
    found = {}
    directory = session.dir / "payloads"
    for line in (directory / "index.ndjson").read_text(encoding="utf-8").splitlines():
        flow = json.loads(line)
        if flow["type"] == "flow" and flow["net_transport"] == "IP.TCP":
            check(flow["net_peer_port"] not in found, "two flows of one connection", flow)
            found[flow["net_peer_port"]] = tuple(
                (directory / flow[f]).read_bytes() if flow.get(f) and (directory / flow[f]).exists() else b""
                for f in ("in_file", "out_file"))
    return found


add_test("tls", "keys_open-bun", lambda ctx: attach_open(ctx, bun(ctx, BUN_SERVER), 5), arch="x86_64")
add_test("tls", "keys_open-bun-1.2", lambda ctx: attach_open(ctx, bun(ctx, BUN_SERVER), 5, maximum=ssl.TLSVersion.TLSv1_2),
         arch="x86_64")
add_test("tls", "keys_open-bun-many", lambda ctx: attach_open(ctx, bun(ctx, BUN_SERVER), 100, 2), arch="x86_64")
add_test("tls", "keys_open-deno", lambda ctx: attach_open(
    ctx, deno(ctx, DENO_SERVER), 5, env=ctx.env(DENO_DIR=str(ctx.dir / "deno"), DENO_NO_UPDATE_CHECK="1")), arch="x86_64")


# --- no form is known ---

def searched(ctx, maximum=None):
    """An image in which nothing may be hooked: keys are found in memory while a connection lives, all of its data are told."""
    cert, key = certificate(ctx)
    port = free_port()
    program, script = bun(ctx, BUN_SERVER)
    image = ctx.dir / "vetoed"
    data = open(program, "rb").read()
    identity = bytes.fromhex(re.search(r"Build ID: (\w+)", ctx.run(["readelf", "-n", program], check_code=0).out.decode())[1])
    check(data.count(identity) == 1, "build id", data.count(identity))
    image.write_bytes(data.replace(identity, hashlib.sha1(identity).digest()[:len(identity)]) + b"FIPS integrity test")  # plans are kept by it
    image.chmod(0o755)
    process = ctx.start(ctx.scope_argv([image, script, port, cert, key], PAYLOADS))
    ctx.wait_for(lambda: process.poll() is not None or listens(port), "the server", 20)
    clients = [Client(port, maximum) for _ in range(3)]
    session = ctx.session()
    want = []
    for turn in range(2):
        for i, c in enumerate(clients):
            want.append(f"/searched/{i}/{turn}")
            c.ask(want[-1])
        ctx.wait_for(lambda: len(session.events(source="http.resp")) >= len(want), "all responses", 20, 0.2)
    for c in clients:
        c.socket.close()
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(ctx.left())
    session.wait_end()
    asked, answered = requests(session)
    equal(asked, sorted((t,) for t in want), "requests")
    equal(answered, sorted((t, 200) for t in want), "responses")
    found = payloads_of_server(session)
    for c in clients:
        check(found[c.port] == (c.sent, c.got), f"port {c.port}", found[c.port][0][:200], found[c.port][1][:200])
    equal(session.lost(), {}, "losses")


add_test("tls", "keys_searched", searched, arch="x86_64")
add_test("tls", "keys_searched-1.2", lambda ctx: searched(ctx, ssl.TLSVersion.TLSv1_2), arch="x86_64")


def bun_scale(ctx):
    port = free_port()
    scale(ctx, [*bun(ctx, BUN_SERVER), port, *certificate(ctx)], port)


add_test("tls", "scale-bun", bun_scale, timeout=120, arch="x86_64")
