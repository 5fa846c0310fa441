# SPDX-License-Identifier: Apache-2.0
"""Plaintext of Java's own TLS (JSSE): flows and events against what the program itself says of each connection
(tests/java/Tls.java), which must not notice. Java is Debian's; another JDK: SCOPE_TEST_ENV=SCOPE_TEST_JDK
SCOPE_TEST_JDK=/usr/lib/jvm/... tests/run -k tls/java."""

import collections
import hashlib
import json
import os
import subprocess
import threading
from pathlib import Path

from scopetest import SLACK, TESTS, Session, add_test, check, equal, test
from tlsopinion import add_opinions
from tlsscale import scale
from tlstest import certificate, free_port, listens

FLAGS = ["--payloads", "--lossless"]
MEMORY = ["-Xmx256m", "-XX:TieredStopAtLevel=1"]  # which is what takes these short programs least time
_lock = threading.Lock()


def jdk_tool(ctx, name):
    home = os.environ.get("SCOPE_TEST_JDK")
    return os.path.join(home, "bin", name) if home else ctx.tool(name)


def java(ctx, *argv, options=(), main="Tls"):
    """A command line of tests/java, compiled once, with its key in this test's directory."""
    cert, key = certificate(ctx)
    if not (ctx.dir / "store.p12").exists():
        ctx.run([ctx.tool("openssl"), "pkcs12", "-export", "-in", cert, "-inkey", key, "-out", ctx.dir / "store.p12",
                 "-passout", "pass:secret"], check_code=0)
    classes = Path(ctx.options.work) / "programs/java-Tls"
    with ctx.building(_lock):
        if not classes.exists():
            ctx.run([jdk_tool(ctx, "javac"), "-d", f"{classes}.new", *TESTS.glob("java/*.java")], timeout=120, check_code=0)
            os.rename(f"{classes}.new", classes)
    return [jdk_tool(ctx, "java"), *MEMORY, *options, "-cp", classes, main, *argv]


def flows(ctx, session):
    text = ctx.tool_run("flows", "-i", str(session.id), "-a", "-j").out.decode()
    return [json.loads(line) for line in text.splitlines()]


def plaintext(session, flow, way):
    name = flow.get(f"{way}_file")
    return (session.dir / "payloads" / name).read_bytes() if name else b""


def is_truth(ctx, session, count):
    """What each end of each connection got and gave, which its line in the file "truth" says, is in the flow with its
    ports."""
    found = {(f["net_host_port"], f["net_peer_port"]): f for f in flows(ctx, session) if f.get("net_peer_port")}
    lines = [line.split() for line in (ctx.dir / "truth").read_text().splitlines()]
    equal(len(lines), count, "ends of connections")
    for port, peer, in_sum, received, out_sum, sent in lines:
        flow = found.get((int(port), int(peer)))
        check(flow, f"no flow of ports {port} and {peer}", *found)
        for way, want, size in (("in", in_sum, received), ("out", out_sum, sent)):
            got = plaintext(session, flow, way)
            equal((len(got), hashlib.sha256(got).hexdigest()), (int(size), want), f"{way} of ports {port} and {peer}")


def nothing_lost(session):
    equal({k: v for k, v in session.lost().items() if v}, {}, "losses")
    equal([e["data"] for e in session.events(source="proc.note")], [], "notes")


def observed(ctx, *argv, options=()):
    argv = java(ctx, *argv, options=options)
    (ctx.dir / "truth").unlink(missing_ok=True)
    result = ctx.scoped(argv, flags=FLAGS, check_code=0)
    equal(result.err, b"", "stderr")
    result.session.wait_end()
    return result


@test("java-streams", timeout=60, arch="x86_64")
def streams(ctx):
    """SSLSocket, both ends, readers and writers at once."""
    result = observed(ctx, "streams", 12, 100)
    equal(result.out, b"streams 12 bad 0\n", "stdout")
    is_truth(ctx, result.session, 24)
    nothing_lost(result.session)


@test("java-engines", timeout=60, arch="x86_64")
def engines(ctx):
    """SSLEngine over channels: several buffers a call, direct ones, slices, read-only ones."""
    result = observed(ctx, "engines", 12, 60)
    equal(result.out, b"engines 12 bad 0\n", "stdout")
    is_truth(ctx, result.session, 24)
    nothing_lost(result.session)


@test("java-checked", timeout=60, arch="x86_64")
def checked(ctx):
    """The VM verifies what we make of its classes, and watches over how JNI is used; what it thinks it would say."""
    for mode in ("streams", "engines"):
        result = observed(ctx, mode, 3, 40, options=["-Xcheck:jni", "-XX:+UnlockDiagnosticVMOptions",
                                                     "-XX:+BytecodeVerificationLocal", "-XX:+DisableAttachMechanism"])
        equal(result.out, f"{mode} 3 bad 0\n".encode(), "stdout")
        is_truth(ctx, result.session, 6)


@test("java-http", timeout=60, arch="x86_64")
def http(ctx):
    """HttpsServer, HttpsURLConnection and HttpClient: each exchange is seen at both ends."""
    count = 15
    result = observed(ctx, "http", count)
    equal(result.out, b"http %d bad 0\n" % count, "stdout")
    for source in ("http.req", "http.resp"):
        found = [e["data"] for e in result.session.events("http", source)]
        equal(len(found), 4 * count, f"events of {source}")
        lacking = [e for e in found if not (e.get("net_peer_port") and e.get("net_host_port"))]
        equal(lacking, [], "without addresses")
    equal({e["data"]["http_status_code"] for e in result.session.events("http", "http.resp")}, {200}, "statuses")
    equal({e["data"].get("tls_plaintext") for e in result.session.events("net", "net.app")} - {None}, {"jsse"}, "the way")
    nothing_lost(result.session)


@test("java-http2", timeout=60, arch="x86_64")
def http2(ctx):
    """HttpClient speaks HTTP/2 with another server."""
    count, port = 40, free_port()
    cert, key = certificate(ctx)
    (ctx.dir / "root").mkdir()
    (ctx.dir / "root/page").write_bytes(b"x" * 5000)
    ctx.start([ctx.tool("nghttpd"), "-d", ctx.dir / "root", "-a", "127.0.0.1", port, key, cert])
    ctx.wait_for(lambda: listens(port), "the server listens")
    result = observed(ctx, "http2", count, f"https://localhost:{port}/page")
    equal(result.out, b"http2 {HTTP_2 200 5000=%d}\n" % count, "stdout")
    targets = collections.Counter(e["data"]["http_target"] for e in result.session.events("http", "http.req"))
    equal(targets, collections.Counter(f"/page?{i}" for i in range(count)), "requests")
    equal(len(result.session.events("http", "http.resp")), count, "responses")
    nothing_lost(result.session)


@test("java-unnoticed", timeout=60)
def unnoticed(ctx):
    """A handshake that fails is told by the program as without us, to the last line of its stack trace; the arguments of
    the VM are what they were."""
    argv = java(ctx, "failure")
    bare = ctx.run(argv, check_code=0)
    check(b"AppOutputStream.write" in bare.err and b"arguments [" in bare.out, "not what the test is about", bare.describe())
    result = ctx.scoped(argv, flags=FLAGS, check_code=0)
    equal(result.err, bare.err, "stderr")
    equal(result.out, bare.out, "stdout")


class Waiting:
    """The program in its mode "wait"."""

    def __init__(self, ctx, *argv):
        self.ctx = ctx
        self.process = subprocess.Popen(list(map(str, java(ctx, "wait", *argv))), cwd=ctx.dir, env=ctx.env(), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        ctx.started.append(self.process)
        self.pid = self.process.pid
        self.port, self.engine_port = map(int, self.process.stdout.readline().split()[1:])

    def step(self, word):
        """One more exchange and the mode; what it prints."""
        self.process.stdin.write(word.encode() + b"\n")
        self.process.stdin.flush()
        said = []
        while (line := self.process.stdout.readline()) not in (b"done\n", b""):
            said.append(line)
        return b"".join(said)

    def end(self):
        out, err = self.process.communicate(timeout=self.ctx.left())
        equal((self.process.returncode, out, err), (0, b"", b""), "how it ended")


@test("java-attach", timeout=120, arch="x86_64")
def attach(ctx):
    """Attached to, detached from, and once more: connections made while we are there are seen whole, one that was open
    from its next call on, an engine's by its next record; the program says nothing."""
    program = Waiting(ctx, "streams", 3, 20)
    equal(program.step("bare"), b"streams 3 bad 0\n", "bare")
    for turn in ("first", "second"):
        (ctx.dir / "truth").write_bytes(b"")
        known = set(ctx.sessions())
        ctx.run([ctx.scope, "attach", *FLAGS, program.pid], check_code=0)
        session = Session(ctx, (set(ctx.sessions()) - known).pop())
        equal(program.step(turn), b"streams 3 bad 0\n", turn)
        told = json.loads(ctx.tool_run("inspect", program.pid).out)["tls"]
        check("jsse" in {w["way"] for w in told["ways"]}, "ways that inspect tells", told)
        equal((told["seen"], "not_read" in told), (["jsse"], False), "inspect")
        out = ctx.run([ctx.scope, "detach", program.pid], check_code=0)
        check(b"differ" not in out.err, "the code differs", out.describe())
        session.wait_end()
        is_truth(ctx, session, 6)
        open_one = [f for f in flows(ctx, session) if f.get("net_host_port") == program.port]
        again = turn.encode() + b" again\n"
        equal([(plaintext(session, f, "out"), plaintext(session, f, "in")) for f in open_one], [(again, again)],
              "what passed on the open connection")
        both = turn.encode() + b"\n" + again
        open_one = [f for f in flows(ctx, session) if f.get("net_host_port") == program.engine_port]
        equal([(plaintext(session, f, "out"), plaintext(session, f, "in")) for f in open_one], [(both, both)],
              "what passed on that of an engine")
        equal(program.step("alone"), b"streams 3 bad 0\n", "afterwards")
    program.end()


def calls_in(ctx, pid):
    """How many calls of ours a class has, as the VM holds it."""
    name = "sun/security/ssl/SSLEngineImpl.class"
    ctx.run([jdk_tool(ctx, "jhsdb"), "clhsdb", "--pid", pid], stdin=b"dumpclass sun.security.ssl.SSLEngineImpl\nquit\n", timeout=60)
    out = ctx.run([jdk_tool(ctx, "javap"), "-c", "-p", ctx.dir / name], check_code=0).out
    check(b"wrap(" in out, "the class could not be looked at")
    (ctx.dir / name).unlink()
    return sum(b"invokestatic" in line and b"appscope/probe/Jsse" in line for line in out.splitlines())


@test("java-restored", timeout=120, arch="x86_64")
def restored(ctx):
    """After detaching the classes are what they were, as an observer of the VM's memory says."""
    program = Waiting(ctx, "streams", 1, 5)
    ctx.run([ctx.scope, "attach", *FLAGS, program.pid], check_code=0)
    program.step("observed")
    equal(calls_in(ctx, program.pid), 4, "calls, attached")
    ctx.run([ctx.scope, "detach", program.pid], check_code=0)
    program.step("alone")
    equal(calls_in(ctx, program.pid), 0, "calls, detached")
    program.end()


@test("java-tables", timeout=60)
def tables(ctx):
    """Functions of JNI and JVM TI are called by their places, which a JDK's own headers say, too."""
    include = Path(os.path.realpath(jdk_tool(ctx, "javac"))).parent.parent / "include"
    program = ctx.compile([TESTS / "java/tables.c"], "glibc-O2",
                          ["-I", TESTS.parent / "src", "-I", include, "-I", include / "linux"])
    equal(ctx.run([program], check_code=0).out, b"50 compared\n", "places")


def class_library(ctx, out, which):
    """Classes of java.base (a regular expression), unpacked, and the options by which a VM takes those in `out` instead, which
    gets the class that changed ones call."""
    image = ctx.dir / "image/java.base"
    ctx.run([jdk_tool(ctx, "jimage"), "extract", "--dir", image.parent, "--include", f"regex:/java.base/{which}",
             Path(os.path.realpath(jdk_tool(ctx, "java"))).parent.parent / "lib/modules"], check_code=0, timeout=120)
    source = ctx.dir / "source/java/lang/Counted.java"
    source.parent.mkdir(parents=True)
    source.write_text("package java.lang; public class Counted { public static long in, out; "
                      "public static void enter() { in++; } public static void leave() { out++; } }")
    ctx.run([jdk_tool(ctx, "javac"), "--patch-module", f"java.base={ctx.dir / 'source'}", "-d", out, source], check_code=0)
    return image, ["--patch-module", f"java.base={out}", "-XX:+UnlockDiagnosticVMOptions", "-XX:+BytecodeVerificationLocal"]


def rewrite(ctx, image, out, names, *only):
    program = ctx.compile([TESTS / "java/rewrite.c", TESTS.parent / "src/probe/classfile.c"], "glibc-O2",
                          ["-I", TESTS.parent / "src"])
    for directory in {n.parent for n in names}:
        (out / directory).mkdir(parents=True, exist_ok=True)
    result = ctx.run([program, image, out, *only], stdin=b"".join(str(n).encode() + b"\n" for n in names), check_code=0)
    equal(result.out, b"%d rewritten, 0 left alone\n" % len(names), "classes")


@test("java-refused", timeout=60, arch="x86_64")
def refused(ctx):
    """A class library that is not as it is known, in one method of three classes: all of them are left alone, and a note says
    so; the program runs as ever."""
    changed = "sun/security/ssl/SSLEngineImpl.class"
    image, options = class_library(ctx, ctx.dir / "base", changed)
    rewrite(ctx, image, ctx.dir / "base", [Path(changed)], "unwrap",
            "([Ljava/nio/ByteBuffer;II[Ljava/nio/ByteBuffer;II)Ljavax/net/ssl/SSLEngineResult;")
    for mode in ("streams", "engines"):
        result = observed(ctx, mode, 2, 10, options=options)
        equal(result.out, f"{mode} 2 bad 0\n".encode(), "stdout")
        notes = [e["data"] for e in result.session.events(source="proc.note")]
        check(any("not as it is known" in n["text"] and n.get("file") == "sun.security.ssl.SSLEngineImpl" for n in notes),
              "no note", notes)
        equal([f for f in flows(ctx, result.session) if f["tls"]], [], "plaintext")


@test("java-classes", timeout=120)
def classes(ctx):
    """Every method of java.base gets a call at its entry and in front of each return; the VM, told to verify its own classes,
    takes them all, and a program that runs on them does what it does. Without those that HotSpot knows by heart."""
    image, options = class_library(ctx, ctx.dir / "base", ".*")
    names = [p.relative_to(image) for p in image.rglob("*.class")]
    names = [n for n in names if n.name != "module-info.class" and n.parent != Path("java/lang")
             and n.parts[:3] != ("jdk", "internal", "vm")]
    check(len(names) > 5000, f"only {len(names)} classes")
    rewrite(ctx, image, ctx.dir / "base", names)
    result = ctx.run(java(ctx, "http", 2, main="Counting", options=options), check_code=0)
    equal((result.out, result.err), (b"http 2 bad 0\ncounted\n", b""), "what the program says")


def asks(ctx):
    command = java(ctx, "http2", 10)
    return lambda port: [*command, f"https://localhost:{port}/"]


add_opinions("java", "jsse", 1, asks, rb"^http2 \{HTTP_1_1 200 20000=10\}\n$", arch="x86_64")

add_test("tls", "scale-java", lambda ctx: scale(ctx, java(ctx, "serve", 0)), timeout=120, arch="x86_64")
