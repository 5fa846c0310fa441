# SPDX-License-Identifier: Apache-2.0
"""Real servers, each bare and then observed: the same answers to some hundred
requests, a clean stop, nothing left behind, and net.open and net.close of every
connection. Servers listen on free ports of the loopback interface; all their
files are in the test's directory.
"""

import hashlib
import http.client
import os
import pwd
import re
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from scopetest import Failure, Session, add_test, check, equal, free_port, test

REQUESTS = 300


def listening(port):
    with socket.socket() as s:
        s.settimeout(0.5)
        return s.connect_ex(("127.0.0.1", port)) == 0


class Server:
    """A server program in a directory of its own."""

    stop_signal = signal.SIGTERM
    stop_status = (0, -15)
    flags = ()  # of scope run

    def __init__(self, ctx, kind):
        self.ctx, self.kind, self.port = ctx, kind, free_port()
        self.dir = ctx.fresh(f"{type(self).__name__}-{kind}")
        self.process = self.session = None

    def prepare(self):
        """Writes configuration and data."""

    def command(self):
        raise NotImplementedError

    def env(self):
        return self.ctx.env()

    def ready(self):
        return listening(self.port)

    def start(self):
        self.prepare()
        argv = self.command()
        if self.kind == "scoped":
            before = set(self.ctx.sessions())
            argv = self.ctx.scope_argv(argv, self.flags)
        with open(self.dir / "output", "wb") as out:
            self.process = self.ctx.start(argv, cwd=self.dir, env=self.env(), stdout=out, stderr=out)

        def up():
            check(self.process.poll() is None, f"{argv[0]} ended with {self.process.returncode}", self.output())
            return self.ready()
        self.ctx.wait_for(up, f"{argv} listens", 60, 0.1)
        if self.kind == "scoped":
            new = set(self.ctx.sessions()) - before
            equal(len(new), 1, "new sessions")
            self.session = Session(self.ctx, new.pop())

    def output(self):
        return (self.dir / "output").read_text(errors="replace")[-3000:]

    def stop(self):
        check(self.process.poll() is None, f"the server had ended with {self.process.returncode}", self.output())
        self.process.send_signal(self.stop_signal)
        try:
            status = self.process.wait(30)
        except subprocess.TimeoutExpired:
            raise Failure(f"the server does not stop after {self.stop_signal.name}\n{self.output()}") from None
        check(status in self.stop_status, f"ended with {status}", self.output())
        if self.session:
            self.session.wait_end(30)

    def requests(self):
        """Makes the requests; what was answered, in a form that is equal from run to run."""
        raise NotImplementedError

    def look_closer(self):
        """What else the session of this server has to tell."""

    connections = None  # TCP connections that requests() makes to the server


def fetch(port, path, connection=None):
    c = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    c.request("GET", path)
    r = c.getresponse()
    body = r.read()
    if not connection:
        c.close()
    return r.status, hashlib.sha256(body).hexdigest(), len(body)


class Web(Server):
    """HTTP servers: files of several sizes and a missing one, on new connections and on a kept one."""

    connections = REQUESTS + 1

    def files(self, root):
        root.mkdir(exist_ok=True)
        for name, size in (("small", 100), ("middle", 20_000), ("large", 1_500_000)):
            (root / name).write_bytes((name.encode() * size)[:size])

    def requests(self):
        names = ["/small", "/middle", "/large", "/missing"]
        weights = [names[i % 4] if i % 4 != 2 or i % 12 == 2 else "/small" for i in range(REQUESTS)]
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda n: fetch(self.port, n), weights))
        kept = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        answers += [fetch(self.port, "/small", kept)]
        kept.close()
        # Pages about errors may tell the time or the port.
        return [(s, h, n) if s == 200 else (s,) for s, h, n in answers]


class Nginx(Web):
    stop_signal = signal.SIGQUIT
    stop_status = (0,)
    workers = 2

    def prepare(self):
        self.files(self.dir / "root")
        os.chmod(self.dir / "root", 0o755)
        (self.dir / "logs").mkdir()
        user = "user root;" if os.geteuid() == 0 else ""
        temp = "".join(f"{k}_temp_path {self.dir}/t-{k};" for k in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (self.dir / "nginx.conf").write_text(f"""{user} worker_processes {self.workers}; daemon off;
            pid {self.dir}/pid; error_log {self.dir}/logs/error.log;
            events {{ worker_connections 256; }}
            http {{ access_log {self.dir}/logs/access.log; {temp} sendfile on;
                    server {{ listen 127.0.0.1:{self.port}; root {self.dir}/root; }} }}""")

    def command(self):
        return [self.ctx.tool("nginx"), "-c", self.dir / "nginx.conf", "-p", self.dir]


    def look_closer(self):
        """Every line of the access log is a file event."""
        path = str(self.dir / "logs/access.log")
        told = [b["data"]["message"] for b in self.session.events("file", sync=False) if b["source"] == path]
        lines = (self.dir / "logs/access.log").read_text().splitlines()
        missing = Counter(lines) - Counter(told)
        check(not missing, f"{sum(missing.values())} of {len(lines)} lines of the access log are no events", *list(missing)[:5])


class Apache(Web):
    stop_status = (0,)

    def prepare(self):
        self.files(self.dir / "root")
        modules = "/usr/lib/apache2/modules"
        load = "".join(f"LoadModule {m}_module {modules}/mod_{m}.so\n" for m in ("mpm_event", "authz_core", "dir", "mime"))
        (self.dir / "httpd.conf").write_text(f"""{load}
            ServerName localhost
            Listen 127.0.0.1:{self.port}
            PidFile {self.dir}/pid
            ErrorLog {self.dir}/error.log
            DocumentRoot {self.dir}/root
            TypesConfig /etc/mime.types
            User www-data
            Group www-data
            DefaultRuntimeDir {self.dir}
            Mutex file:{self.dir} default
            <Directory />
                Require all granted
            </Directory>
            """)

    def command(self):
        return [self.ctx.tool("apache2"), "-f", self.dir / "httpd.conf", "-DFOREGROUND"]


class HaProxy(Web):
    """A proxy before nginx, so it accepts and connects."""
    stop_status = (0, -15, 143)

    def prepare(self):
        self.behind = Nginx(self.ctx, "bare")
        self.behind.start()
        (self.dir / "haproxy.cfg").write_text(f"""
global
    maxconn 200
defaults
    mode http
    timeout connect 5s
    timeout client 20s
    timeout server 20s
frontend in
    bind 127.0.0.1:{self.port}
    default_backend out
backend out
    server one 127.0.0.1:{self.behind.port}
""")

    def command(self):
        return [self.ctx.tool("haproxy"), "-f", self.dir / "haproxy.cfg"]

    def stop(self):
        super().stop()
        self.behind.stop()
        os.rename(self.behind.dir, self.ctx.dir / f"nginx-of-{self.kind}")


class PythonHttp(Web):
    stop_signal = signal.SIGINT
    stop_status = (0, -2, 130)
    connections = REQUESTS + 1

    def prepare(self):
        self.files(self.dir / "root")

    def command(self):
        return ["/usr/bin/python3", "-m", "http.server", "-b", "127.0.0.1", "-d", self.dir / "root", self.port]


NODE = """
const http = require('http'), fs = require('fs'), path = require('path');
http.createServer((q, r) => fs.readFile(path.join('root', q.url), (e, d) => {
    r.writeHead(e ? 404 : 200); r.end(e ? 'no' : d);
})).listen(Number(process.argv[2]), '127.0.0.1');
process.on('SIGTERM', () => process.exit(0));
"""


class Node(Web):
    stop_status = (0,)

    def prepare(self):
        self.files(self.dir / "root")
        (self.dir / "server.js").write_text(NODE)

    def command(self):
        return [self.ctx.tool("node", "nodejs"), self.dir / "server.js", self.port]


JAVA = """
import com.sun.net.httpserver.*;
import java.io.*;
import java.net.*;
import java.nio.file.*;
import java.util.concurrent.*;

public class Server {
    public static void main(String[] a) throws Exception {
        HttpServer s = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(a[0])), 100);
        s.setExecutor(Executors.newFixedThreadPool(16));
        s.createContext("/", q -> {
            Path p = Paths.get("root" + q.getRequestURI().getPath());
            boolean there = Files.isRegularFile(p);
            byte[] d = there ? Files.readAllBytes(p) : "no".getBytes();
            q.sendResponseHeaders(there ? 200 : 404, d.length);
            try (OutputStream o = q.getResponseBody()) { o.write(d); }
        });
        s.start();
    }
}
"""


class Java(Web):
    stop_status = (143, -15)

    def prepare(self):
        self.files(self.dir / "root")
        (self.dir / "Server.java").write_text(JAVA)
        self.ctx.run([self.ctx.tool("javac"), "-d", self.dir, self.dir / "Server.java"], timeout=120, check_code=0)

    def command(self):
        return [self.ctx.tool("java"), "-Xmx128m", "-cp", self.dir, "Server", self.port]


class Go(Web):
    stop_status = (0,)

    def prepare(self):
        self.files(self.dir / "root")

    def command(self):
        return [self.ctx.go_build("server"), self.port]


class Redis(Server):
    stop_status = (0,)
    connections = 8

    def command(self):
        return [self.ctx.tool("redis-server"), "--port", self.port, "--bind", "127.0.0.1", "--dir", self.dir, "--save", "",
                "--io-threads", 2, "--appendonly", "yes"]

    def requests(self):
        def client(number):
            answers = []
            with socket.create_connection(("127.0.0.1", self.port), timeout=20) as s:
                f = s.makefile("rb")
                for i in range(100):
                    for words in (("SET", f"k{number}-{i}", "v" * (i * 50)), ("GET", f"k{number}-{i}"), ("INCR", f"n{number}")):
                        s.sendall(f"*{len(words)}\r\n".encode() + b"".join(f"${len(w)}\r\n{w}\r\n".encode() for w in words))
                        line = f.readline()
                        answers.append(line if line[:1] != b"$" else f.read(int(line[1:]) + 2))
            return answers
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(client, range(8)))


class Postgres(Server):
    """initdb, server, pgbench; as an unprivileged user, since PostgreSQL refuses to be root."""
    stop_signal = signal.SIGINT  # fast shutdown
    stop_status = (0,)

    def tool(self, name):
        base = "/usr/lib/postgresql"
        for version in sorted(os.listdir(base), reverse=True) if os.path.isdir(base) else []:
            if os.access(f"{base}/{version}/bin/{name}", os.X_OK):
                return f"{base}/{version}/bin/{name}"
        raise Failure(f"{name}: not installed (install_build_tools.sh installs what tests need)")

    def as_user(self, argv):
        if os.geteuid() != 0:
            return argv
        user = pwd.getpwnam("postgres")
        return [self.ctx.tool("setpriv"), f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", *argv]

    def prepare(self):
        if os.geteuid() == 0:
            os.chown(self.dir, pwd.getpwnam("postgres").pw_uid, -1)
        self.ctx.run(self.as_user([self.tool("initdb"), "-D", self.dir / "data", "-A", "trust", "-U", "postgres", "--no-sync"]),
                     cwd=self.dir, check_code=0, timeout=120)

    def command(self):
        return self.as_user([self.tool("postgres"), "-D", self.dir / "data", "-p", str(self.port), "-h", "127.0.0.1", "-k",
                             self.dir, "-F"])

    def ready(self):
        return self.sql("select 1", check_code=None).code == 0

    def sql(self, text, check_code=0):
        return self.ctx.run([self.tool("psql"), "-h", "127.0.0.1", "-p", self.port, "-U", "postgres", "-At", "-c", text],
                            cwd=self.dir, check_code=check_code)

    def requests(self):
        bench = [self.tool("pgbench"), "-h", "127.0.0.1", "-p", self.port, "-U", "postgres"]
        self.ctx.run([*bench, "-i", "-q", "postgres"], cwd=self.dir, check_code=0, timeout=60)
        done = self.ctx.run([*bench, "-c", 4, "-t", 50, "-n", "postgres"], cwd=self.dir, check_code=0, timeout=60)
        count = re.search(rb"actually processed: (\d+/\d+)", done.out)
        same = self.sql("select sum(abalance) = (select sum(bbalance) from pgbench_branches), count(*) from pgbench_accounts")
        history = self.sql("select count(*) from pgbench_history")
        return [count and count[1], same.out, history.out]


class Sshd(Server):
    """A login over the loopback interface with a key made for the test."""
    stop_status = (0, -15, 255)
    connections = None

    def prepare(self):
        keygen = self.ctx.tool("ssh-keygen")
        for name in ("host", "user"):
            self.ctx.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", self.dir / name], check_code=0)
        (self.dir / "authorized").write_text((self.dir / "user.pub").read_text())
        os.chmod(self.dir / "authorized", 0o600)
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)
        (self.dir / "config").write_text(f"""Port {self.port}
            ListenAddress 127.0.0.1
            HostKey {self.dir}/host
            AuthorizedKeysFile {self.dir}/authorized
            PidFile {self.dir}/pid
            UsePAM no
            StrictModes no
            PermitRootLogin yes
            PasswordAuthentication no
            """.replace("            ", ""))

    def command(self):
        return [self.ctx.tool("sshd"), "-D", "-e", "-f", self.dir / "config"]

    def requests(self):
        answers = []
        name = pwd.getpwuid(os.geteuid()).pw_name
        for i in range(5):
            r = self.ctx.run([self.ctx.tool("ssh"), "-F", "none", "-i", self.dir / "user", "-p", self.port, "-o",
                              "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={self.dir}/known", "-o", "BatchMode=yes",
                              "-o", "IdentitiesOnly=yes", f"{name}@127.0.0.1",
                              f"echo login {i}; cat /etc/hostname; head -c 100000 /dev/zero | wc -c; exit {i + 3}"], timeout=30)
            answers.append((r.code, r.out))
        equal([a[0] for a in answers], [3, 4, 5, 6, 7], "statuses of ssh")
        return answers


def connections_of(server):
    """Accepted connections that a session tells of, by the peer's port: how often opened, how often closed. Where a
    process accepts and its child serves, both hold the connection; it is told by one of them."""
    opened, closed = Counter(), Counter()
    for b in server.session.events("net", sync=False):
        d = b["data"]
        if d.get("net_host_port") == server.port and d.get("net_transport") == "IP.TCP":
            if b["source"] == "net.open":
                opened[d.get("net_peer_port")] += 1
            elif b["source"] == "net.close":
                closed[d.get("net_peer_port")] += 1
    return opened, closed


def lost_nothing(session):
    lost = {k: n for k, n in session.lost().items() if n}
    check(not lost, f"lost: {lost}")


def both(ctx, kind):
    answers = []
    for how in ("bare", "scoped"):
        server = kind(ctx, how)
        if kind.connections: # each is counted, however busy the machine is
            server.flags = (*kind.flags, "--lossless")
        server.start()
        answers.append(server.requests())
        server.stop()
    for i, (a, b) in enumerate(zip(*answers)):
        check(a == b, f"answer {i} differs", f"bare     {a!r:.500}", f"observed {b!r:.500}")
    equal(len(answers[1]), len(answers[0]), "number of answers")
    check("ld.so" not in server.output() and "preload" not in server.output(), "complaints of the loader", server.output())
    opened, closed = connections_of(server)
    if kind.connections:
        # One more per look whether the server listens already.
        looks = sum(opened.values()) - kind.connections
        check(0 <= looks <= 40, f"{sum(opened.values())} net.open events of {kind.connections} connections")
    check(sum(opened.values()) > 0, "no net.open event")
    equal(set(opened.values()), {1}, "net.open events per connection")
    equal(closed, opened, "net.close events")
    server.look_closer()
    lost_nothing(server.session)


for _kind in (Nginx, Apache, HaProxy, PythonHttp, Node, Java, Go, Redis, Postgres, Sshd):
    add_test("apps", _kind.__name__.lower(), lambda ctx, k=_kind: both(ctx, k), timeout=240)


@contextmanager
def load(port, threads=4):
    """Clients that fetch without a pause; yields a dict with the number of answers and the failures."""
    state = {"answers": 0, "failures": [], "stop": False}
    lock = threading.Lock()

    def client():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        n = 0
        while not state["stop"]:
            try:
                status, _, length = fetch(port, "/middle", connection if n % 10 else None)
                good = status == 200 and length == 20_000
            except (OSError, http.client.HTTPException) as e:
                good, status = False, repr(e)
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            n += 1
            with lock:
                state["answers"] += 1
                if not good:
                    state["failures"].append(status)
    workers = [threading.Thread(target=client) for _ in range(threads)]
    for w in workers:
        w.start()
    try:
        yield state
    finally:
        state["stop"] = True
        for w in workers:
            w.join()


def wrk(ctx, port, name):
    """All the requests that wrk can make in a second; none may fail. Their number."""
    said = ctx.run([ctx.tool("wrk"), "-t1", "-c64", "-d1s", "--timeout", "60s", f"http://127.0.0.1:{port}/{name}"], check_code=0).out.decode()
    check("Non-2xx" not in said and "Socket errors" not in said, "requests failed", said)
    return int(re.search(r"(\d+) requests in", said)[1])


def go_under_load(ctx, variant):
    """A Go server under full load, bare and observed: no request fails, and each connection is told."""
    class Loaded(Go):
        flags = ("--lossless",)

        def command(self):
            return [self.ctx.go_build("server", variant), self.port]

    for how in ("bare", "scoped"):
        server = Loaded(ctx, how)
        server.start()
        counts = [wrk(ctx, server.port, name) for name in ("small", "large")]
        time.sleep(0.3)  # a thread that dies while it writes a record loses it
        server.stop()
        check(min(counts) > 20, f"{counts} requests", server.output())
        check("panic" not in server.output() and "fatal" not in server.output(), "complaints of Go", server.output())
    opened, closed = connections_of(server)
    check(sum(opened.values()) >= 128, f"{sum(opened.values())} net.open events of 128 connections and more")
    equal(closed, opened, "net.close events")
    lost_nothing(server.session)


for _variant in ("cgo", "cgo-external-pie", "pie", "static", "cgo-static"):
    add_test("apps", f"go-under-load/{_variant}", lambda ctx, v=_variant: go_under_load(ctx, v), timeout=400)


@contextmanager
def transactions(server):
    """pgbench without a pause; what fails is raised at the end."""
    bench = [server.tool("pgbench"), "-h", "127.0.0.1", "-p", server.port, "-U", "postgres"]
    server.ctx.run([*bench, "-i", "-q", "postgres"], cwd=server.dir, check_code=0, timeout=60)
    done = threading.Event()

    def client():
        count = 0
        while not done.is_set():
            server.ctx.run([*bench, "-c", 2, "-t", 100, "-n", "postgres"], cwd=server.dir, check_code=0, timeout=60)
            count += 1
        return count
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(client)
        try:
            yield
        finally:
            done.set()
        check(result.result() > 0, "no transactions")
    same = server.sql("select sum(abalance) = (select sum(bbalance) from pgbench_branches) from pgbench_accounts")
    equal(same.out, b"t\n", "balances")


def attached_under_load(ctx, kind, count=20):
    """Attached to and detached from, with all children, while clients make requests: none fails."""
    def cycles():
        for _ in range(count):
            ctx.run([ctx.scope, "attach", "--children", server.process.pid], check_code=0)
            time.sleep(0.05)
            result = ctx.run([ctx.scope, "detach", "--children", server.process.pid], check_code=0)
            check(b"differ" not in result.err and b"stays in" not in result.err, "not as before", result.describe())

    server = kind(ctx, "bare")
    server.start()
    if kind is Postgres:
        with transactions(server):
            cycles()
    else:
        with load(server.port, 2) as state:
            cycles()
        equal(state["failures"], [], "failed requests")
        check(state["answers"] > 2 * count, f"only {state['answers']} answers")
    server.stop()


for _kind in (Java, Postgres):
    add_test("apps", f"attach-{_kind.__name__.lower()}", lambda ctx, k=_kind: attached_under_load(ctx, k), timeout=240)


# As src/probe/stacks.h has it.
STACK_SIZE, STACK_COUNT, HEAD_TAKEN = 16384, 256, 16384 - 128 + 96


def hook_stacks(pid):
    """Where a process has its stacks for hooks, and how much of them is in memory (KiB). Nothing else in a Go program
    is wiped on fork and kept from huge pages."""
    parts, rss = [], 0
    with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as f:
        for line in f:
            name, _, value = line.partition(":")
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                area, size = [int(x, 16) for x in line.split()[0].split("-")], 0
            elif name == "Rss":
                size = int(value.split()[0])
            elif name == "VmFlags" and {"wf", "nh"} <= set(value.split()):
                parts.append(area)
                rss += size
    check(parts, "no stacks for hooks")
    equal(parts[-1][1] - parts[0][0], STACK_SIZE * STACK_COUNT, "size of the stacks for hooks")
    return parts[0][0], rss


@contextmanager
def standing_still(pid):
    """The process stopped, and its memory."""
    os.kill(pid, signal.SIGSTOP)
    try:
        while open(f"/proc/{pid}/stat", encoding="utf-8").read().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.01)
        with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
            yield memory
    finally:
        os.kill(pid, signal.SIGCONT)


@test("go-without-stacks", timeout=300)
def go_without_stacks(ctx):
    """Hooks of Go code take little memory; where they find no stack the program goes on, and what isn't seen counts."""
    server = Go(ctx, "scoped")
    server.start()
    pid = server.process.pid
    wrk(ctx, server.port, "small")
    base, rss = hook_stacks(pid)
    check(rss <= 1024, f"{rss} KiB of stacks")
    taken = []
    with standing_still(pid) as memory:
        for at in range(base + HEAD_TAKEN, base + STACK_SIZE * STACK_COUNT, STACK_SIZE):
            memory.seek(at)
            if memory.read(4) == bytes(4):
                memory.seek(at)
                memory.write(b"\1\0\0\0")
                taken.append(at)
    for _ in range(10):
        equal(fetch(server.port, "/middle")[::2], (200, 20_000), "answer")
    with standing_still(pid) as memory:
        for at in taken:
            memory.seek(at)
            memory.write(bytes(4))
    before = sum(connections_of(server)[0].values())
    equal(fetch(server.port, "/middle")[::2], (200, 20_000), "answer")
    server.session.sync()
    after = sum(connections_of(server)[0].values())
    equal(after - before, 1, "net.open events of a connection made afterwards")
    server.stop()
    check(server.session.lost().get("slot", 0) >= 20, "losses", server.session.lost())


@test("collector-killed-under-load", timeout=120)
def collector_killed(ctx):
    """nginx under load; its collector is killed: no request fails."""
    server = Nginx(ctx, "scoped")
    server.start()
    with load(server.port) as state:
        time.sleep(1)
        pid = server.session.collector_pid()
        check(pid, "no collector")
        before = state["answers"]
        os.kill(pid, signal.SIGKILL)
        killed = time.time()
        time.sleep(2)
        check(state["answers"] > before + 50, f"{state['answers'] - before} answers after the collector had gone")
    equal(state["failures"], [], "failed requests")
    server.stop()
    shown = ctx.tool_run("history").out + ctx.tool_run("history", "-j").out + ctx.tool_run("logs").out
    check(b"stopped" in shown or b"telemetry" in shown, "nothing says that telemetry stopped", shown.decode())
    events = server.session.events(sync=False)
    check(events and max(b["_time"] for b in events) > killed - 1, "events of the last second before the end are missing")


@test("collector-suspended-under-load", timeout=120)
def collector_suspended(ctx):
    """nginx under load; its collector stands still for two seconds: no request fails, none is late."""
    server = Nginx(ctx, "scoped")
    server.start()
    with load(server.port) as state:
        time.sleep(0.5)
        pid = server.session.collector_pid()
        check(pid, "no collector")
        os.kill(pid, signal.SIGSTOP)
        try:
            before = state["answers"]
            time.sleep(2)
            served = state["answers"] - before
        finally:
            os.kill(pid, signal.SIGCONT)
    check(served > 100, f"only {served} answers in two seconds")
    equal(state["failures"], [], "failed requests")
    server.stop()
