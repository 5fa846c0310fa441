# SPDX-License-Identifier: Apache-2.0
"""Servers and clients that others have written, of each TLS library, and what
they say themselves that passed: in their logs, or in what they print.
"""

import os
import pwd
import re
import signal
import socket
import ssl
import subprocess
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

from scopetest import Session, check, equal, test
from traffic import (CURL, PYTHON, adopt, asked, certificate, configured, exchanges, free_port, nothing_lost,
                     running, server, told, urls)

HERE = Path(__file__).resolve().parent
EXACT = ["--lossless"]
INSECURE = "import ssl; context = ssl._create_unverified_context()\n"


def observe(ctx, *argv, **how):
    """Runs a client observed; its session, which is complete after told(), and what it printed."""
    result = ctx.scoped(list(argv), EXACT, check_code=0, **how)
    return result.session, result.out


def listening_in_proc(port):
    """On all addresses; without a connection, which some servers would take for their client."""
    with open("/proc/net/tcp", encoding="ascii") as f:
        return f"00000000:{port:04X} 00000000:0000 0A" in f.read()


def where(session, **wanted):
    """Members that each http.resp of a session must have."""
    for e in session.events(source="http.resp", sync=False):
        equal({k: e["data"].get(k) for k in wanted}, wanted, "members of http.resp")


@contextmanager
def https(ctx):
    """A server that nobody observes; its port and its log."""
    port, log = free_port(), ctx.dir / "requests"
    log.touch()
    with running(ctx, [PYTHON, HERE / "https.py", port, *certificate(ctx), log], port):
        yield port, log


def nginx_conf(ctx, log, inside):
    """Configuration of one process with one server, whose directives are given but for the certificate's."""
    cert, key = certificate(ctx)
    temp = "".join(f"{k}_temp_path {ctx.dir}/t-{k};" for k in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    conf = ctx.dir / "nginx.conf"
    conf.write_text(f"""{"user root;" if os.geteuid() == 0 else ""} daemon off; master_process off; pid {ctx.dir}/pid;
        error_log {ctx.dir}/error.log; events {{}}
        http {{ log_format short '$request_method $request_uri $status'; access_log {log} short; {temp}
            server {{ {inside} ssl_certificate {cert}; ssl_certificate_key {key}; }} }}""")
    return conf


# --- servers of HTTP/1 and HTTP/2, with TLS and without ---

def apache_conf(ctx, root, log, ports, modules, directives):
    """Configuration of Apache for a port without TLS and one with it."""
    cert, key = certificate(ctx)
    load = "".join(f"LoadModule {m}_module /usr/lib/apache2/modules/mod_{m}.so\n"
                   for m in ("authz_core", "socache_shmcb", "ssl", *modules))
    conf = ctx.dir / "httpd.conf"
    conf.write_text(f"""{load}
        ServerName localhost
        Listen 127.0.0.1:{ports[0]}
        Listen 127.0.0.1:{ports[1]}
        PidFile {ctx.dir}/pid
        ErrorLog {ctx.dir}/error.log
        LogFormat "%m %U%q %>s" short
        CustomLog {log} short
        DocumentRoot {root}
        User www-data
        Group www-data
        DefaultRuntimeDir {ctx.dir}
        Mutex file:{ctx.dir} default
        {directives}
        <VirtualHost 127.0.0.1:{ports[1]}>
            SSLEngine on
            SSLCertificateFile {cert}
            SSLCertificateKeyFile {key}
        </VirtualHost>
        <Directory />
            Require all granted
        </Directory>
        """)
    return conf


@test("apache")
def apache(ctx):
    """HTTP/1, upgraded to HTTP/2, and HTTP/2 at once; then the same with TLS (mod_ssl, mod_http2)."""
    root, plain, secure, log = ctx.fresh("apache"), free_port(), free_port(), ctx.dir / "requests"
    (root / "small").write_text("small\n")
    (root / "large").write_bytes(b"HTTP/1.1 200 OK\r\n\r\n" * 50000)
    conf = apache_conf(ctx, root, log, (plain, secure), ("mpm_event", "http2"), "Protocols h2 h2c http/1.1\nH2Direct on")
    clients = []
    with server(ctx, [ctx.tool("apache2"), "-f", conf, "-DFOREGROUND"], plain, EXACT) as session:
        for port, scheme in ((plain, "http"), (secure, "https")):
            targets = ("/small", f"/large?{scheme}", "/missing")
            clients.append(observe(ctx, *CURL, "-k", "--http1.1", *urls(port, *targets, scheme=scheme))[0])
            for target in targets:  # this curl can't use a connection of HTTP/2 without TLS twice
                clients.append(observe(ctx, *CURL, "-k", "--http2-prior-knowledge", *urls(port, target, scheme=scheme))[0])
            clients.append(observe(ctx, *CURL, "-k", "--http2", *urls(port, "/small?either", scheme=scheme))[0])
            clients.append(observe(ctx, "nghttp", "-n", *(f"{scheme}://127.0.0.1:{port}/small?{i}" for i in range(30)))[0])
    nothing_lost(session)
    want = asked(log)
    equal(want.total(), 2 * (7 + 30) + 1, "requests in its log") # one is there twice: with 101 and in HTTP/2
    equal(exchanges(session, "server"), want, "what the server was asked")
    equal(told(*clients), want, "what the clients asked")
    flavors = Counter((e["data"]["http_flavor"], e["data"]["http_scheme"]) for e in session.events(source="http.resp", sync=False))
    equal(flavors, Counter({("1.1", "https"): 3, ("2.0", "https"): 34, ("1.1", "http"): 4, ("2.0", "http"): 34}), "versions")


@test("expectation-refused")
def expectation_refused(ctx):
    """curl repeats a request that was answered by 417, on the same connection; it has not sent the body of the first one."""
    port, log, large = free_port(), ctx.dir / "requests", ctx.dir / "large"
    log.touch()
    large.write_bytes(b"x" * 1500000) # for which it expects 100 by itself
    with server(ctx, [PYTHON, HERE / "server.py", "threads", port, log], port, EXACT) as session:
        client = observe(ctx, *CURL, "--data-binary", f"@{large}", *urls(port, "/refuses", "/accepts"))[0]
    nothing_lost(session)
    equal(asked(log), Counter({("POST", "/refuses", "417"): 1, ("POST", "/refuses", "201"): 1, ("POST", "/accepts", "201"): 1}),
          "requests in the log")
    equal(exchanges(session, "server"), asked(log), "what the server was asked")
    equal(told(client), asked(log), "what the client asked")


@test("http2-push")
def http2_push(ctx):
    """What a server pushes it has served, and its client has got."""
    root, port = ctx.fresh("www"), free_port()
    (root / "page").write_text("page\n")
    (root / "style").write_text("style\n")
    with server(ctx, [ctx.tool("nghttpd"), "--no-tls", "-d", root, "-p/page=/style", port], port, EXACT) as session:
        client = observe(ctx, "nghttp", "-n", f"http://127.0.0.1:{port}/page")[0]
    nothing_lost(session)
    want = Counter({("GET", "/page", "200"): 1, ("GET", "/style", "200"): 1})
    equal(exchanges(session, "server"), want, "what the server answered")
    equal(told(client), want, "what the client got")


@test("apache-prefork")
def apache_prefork(ctx):
    """A process for each connection, which serves others later. None is let go as superfluous: Apache wakes those by
    requests of its own, after a second with more than MaxSpareServers."""
    root, plain, secure, log = ctx.fresh("apache"), free_port(), free_port(), ctx.dir / "requests"
    (root / "small").write_text("small\n")
    conf = apache_conf(ctx, root, log, (plain, secure), ("mpm_prefork",), "StartServers 4\nMaxSpareServers 20\nMaxRequestWorkers 12\nMaxKeepAliveRequests 20")
    with server(ctx, [ctx.tool("apache2"), "-f", conf, "-DFOREGROUND"], plain, EXACT) as session:
        for port, scheme in ((plain, "http"), (secure, "https")):
            out = ctx.run([ctx.tool("ab"), "-q", "-k", "-n", "1000", "-c", "6", f"{scheme}://127.0.0.1:{port}/small?{scheme}"],
                          check_code=0).out
            check(b"Complete requests:      1000\nFailed requests:        0\n" in out, "what ab says", out)
    nothing_lost(session)
    check(asked(log).total() >= 2000, "requests in its log", asked(log)) # ab sends some more than it counts
    equal(exchanges(session, "server"), asked(log), "what the server was asked")
    check(len({e["pid"] for e in session.events(source="http.resp", sync=False)}) > 2, "processes")


@test("haproxy")
def haproxy(ctx):
    """It ends TLS, speaks HTTP/2 and HTTP/1 in front, HTTP/1 behind: both roles in one process."""
    plain, secure, behind, log, own = free_port(), free_port(), free_port(), ctx.dir / "requests", ctx.dir / "haproxy.out"
    both = ctx.dir / "both.pem"
    both.write_text("".join(p.read_text() for p in certificate(ctx)))
    log.touch()
    (ctx.dir / "haproxy.cfg").write_text(f"""
global
    log stdout format raw daemon
defaults
    mode http
    log global
    log-format "%HM %HU %ST"
    timeout connect 5s
    timeout client 20s
    timeout server 20s
    option http-ignore-probes
frontend in
    bind 127.0.0.1:{plain}
    bind 127.0.0.1:{secure} ssl crt {both} alpn h2,http/1.1
    http-request deny deny_status 403 if {{ path /denied }}
    default_backend out
backend out
    server one 127.0.0.1:{behind}
""")
    with running(ctx, [PYTHON, HERE / "server.py", "threads", behind, log], behind, output="behind.out"), \
            server(ctx, [ctx.tool("haproxy"), "-f", ctx.dir / "haproxy.cfg"], plain, EXACT, output=own.name) as session:
        for port, scheme in ((plain, "http"), (secure, "https")):
            for how in ("--http1.1", "--http2"):
                ctx.run([*CURL, "-k", how, *urls(port, "/a", "/status/404", "/denied", "/chunked", "/big", scheme=scheme)],
                        check_code=0)
            ctx.run([*CURL, "-k", "-d", "x" * 50000, *urls(port, "/form", scheme=scheme)], check_code=0)
        out = ctx.run([ctx.tool("h2load"), "-n", "600", "-c", "8", "-m", "10", f"https://127.0.0.1:{secure}/many"], check_code=0).out
        check(b"600 succeeded" in out, "what h2load says", out)
        # It says so after it has answered.
        ctx.wait_for(lambda: len(re.findall(r"(?m)^[A-Z]+ \S+ \d+$", own.read_text())) >= 622, "haproxy's log", 20, 0.1)
    nothing_lost(session)
    # In HTTP/2 a request has no target of its own: it writes the whole address.
    told = Counter(tuple(re.sub(r"https?://[^/ ]+", "", line).split()) for line in own.read_text().splitlines()
                   if re.fullmatch(r"[A-Z]+ \S+ \d+", line))
    equal(told.total(), 622, "requests in its log")
    equal(exchanges(session, "server", proxy=True), told, "what it was asked")
    equal(exchanges(session, "client", proxy=True), asked(log), "what it asked the server behind it")


@test("nginx-tls")
def nginx_tls(ctx):
    """Files by HTTP/1 and HTTP/2, some of the load of h2load, and a proxy that is a client of TLS itself."""
    root, front, log = ctx.fresh("www"), free_port(), ctx.dir / "access"
    (root / "small").write_text("small\n")
    (root / "large").write_bytes(b"HTTP/1.1 200 OK\r\n\r\n" * 50000)
    with https(ctx) as (behind, behind_log):
        conf = nginx_conf(ctx, log, f"""listen 127.0.0.1:{front} ssl http2; root {root};
            location /behind/ {{ proxy_pass https://127.0.0.1:{behind}/; proxy_http_version 1.1; proxy_set_header Connection ""; }}""")
        with server(ctx, [ctx.tool("nginx"), "-c", conf, "-e", ctx.dir / "error.log"], front, EXACT, stop=signal.SIGQUIT) as session:
            targets = ("/small", "/large", "/missing", "/behind/a", "/behind/big")
            for how in ("--http1.1", "--http2"):
                ctx.run([*CURL, "-k", how, *urls(front, *targets, scheme="https")], check_code=0)
            for how in ("--h1", "--npn-list=h2"):
                ctx.run(["h2load", how, "-n", "400", "-c", "8", *(["-m", "10"] if how != "--h1" else []),
                         f"https://127.0.0.1:{front}/small?{how[2:4]}"], check_code=0)
    nothing_lost(session)
    equal(asked(log).total(), 810, "requests in its log")
    equal(exchanges(session, "server", proxy=True), asked(log), "what it was asked")
    equal(exchanges(session, "client", proxy=True), asked(behind_log), "what it asked the server behind it")


def table_of_nghttp(out):
    """Targets and statuses of what `nghttp -s` prints: id, two or three times, code, size, target."""
    return Counter((m[2].decode(), m[1].decode()) for m in re.finditer(rb"^ *\d+ .*\s(\d{3})\s+\S+\s+(/\S*)$", out, re.M))


@test("nghttp2")
def nghttp2(ctx):
    """nghttpd with h2load and nghttp, 1,500 streams of several connections at once, with TLS and without."""
    root, log = ctx.fresh("www"), ctx.dir / "h2load.log"
    (root / "small").write_text("small\n")
    (root / "large").write_bytes(b"x" * 300000)
    cert, key = certificate(ctx)
    for scheme, how in (("http", ["--no-tls"]), ("https", [])):
        port, log = free_port(), ctx.dir / f"h2load.{scheme}"
        end = [] if how else [key, cert]
        with server(ctx, [ctx.tool("nghttpd"), *how, "-d", root, "-a", "127.0.0.1", port, *end], port, EXACT) as session:
            base = f"{scheme}://127.0.0.1:{port}"
            targets = ["/small", "/large", "/missing?" + "q" * 500]
            load_session, _ = observe(ctx, "h2load", "-n", "600", "-c", "6", "-m", "20", f"--log-file={log}",
                                            *(base + t for t in targets))
            some_session, printed = observe(ctx, "nghttp", "-ns", *(f"{base}/small?{i}" for i in range(150)))
        nothing_lost(session)
        load, some = told(load_session), told(some_session)
        statuses = Counter(line.split()[1] for line in log.read_text().splitlines())
        equal((statuses.total(), set(statuses)), (600, {"200", "404"}), "statuses in h2load's log")
        by_status = Counter()
        for (_, _, status), n in load.items():
            by_status[status] += n
        equal(by_status, statuses, "statuses that h2load got")
        equal(Counter((t, s) for _, t, s in some.elements()), table_of_nghttp(printed), "what nghttp asked")
        equal(len(some), 150, "targets of nghttp")
        equal(exchanges(session, "server"), load + some, "what the server was asked")
        for s in (session, load_session):
            where(s, http_flavor="2.0", http_scheme=scheme)


NODE_SERVER = """const fs = require('fs'), [cert, key] = process.argv.slice(4).map(f => fs.readFileSync(f)), log = process.argv[3];
const s = require('http2').createSecureServer({cert, key, allowHTTP1: true}, (q, r) => { let n = 0; q.on('data', d => n += d.length);
  q.on('end', () => { const status = q.url == '/teapot' ? 418 : 200; fs.appendFileSync(log, `${q.method} ${q.url} ${status}\\n`);
    r.writeHead(status); r.end('c'.repeat(q.url == '/big' ? 2000000 : n)); }); });
s.listen(+process.argv[2], '127.0.0.1'); process.on('SIGTERM', () => process.exit(0));
"""

NODE_HTTP2 = """const c = require('http2').connect('https://127.0.0.1:' + process.argv[2], {rejectUnauthorized: false}); let left = 40;
for (let i = 0; i < left; i++) { const method = i % 2 ? 'POST' : 'GET', path = ['/n' + i, '/big', '/teapot'][i % 10 < 2 ? i % 10 + 1 : 0];
  const q = c.request({':method': method, ':path': path}); q.on('response', h => console.log(method, path, h[':status']));
  q.resume(); q.on('close', () => --left || c.close()); q.end(method == 'POST' ? 'd'.repeat(30000) : undefined); }
"""

NODE_HTTPS = """const https = require('https'), agent = new https.Agent({keepAlive: true, maxSockets: 2});
let left = 12; for (let i = 0; i < left; i++) { const method = i % 2 ? 'POST' : 'GET', path = i % 5 ? '/k' + i : '/teapot';
  const q = https.request({port: process.argv[2], host: '127.0.0.1', method, path, agent, rejectUnauthorized: false}, r => {
    console.log(method, path, r.statusCode); r.resume(); r.on('end', () => --left || agent.destroy()); });
  q.end(method == 'POST' ? 'e'.repeat(20000) : undefined); }
"""


@test("node-tls")
def node_tls(ctx):
    """Node.js at both ends of HTTP/2 and HTTPS. It hands TLS memory, not a socket."""
    port, log = free_port(), ctx.dir / "requests"
    for name, text in (("server", NODE_SERVER), ("http2", NODE_HTTP2), ("https", NODE_HTTPS)):
        (ctx.dir / f"{name}.js").write_text(text)
    node = ctx.tool("node")
    with server(ctx, [node, ctx.dir / "server.js", port, log, *certificate(ctx)], port, EXACT) as session:
        for name, count, flavor in (("http2", 40, "2.0"), ("https", 12, "1.1")):
            client, out = observe(ctx, node, ctx.dir / f"{name}.js", port)
            found = told(client)
            equal(found, Counter(tuple(line.split()) for line in out.decode().splitlines()), f"what the {name} client says")
            equal(found.total(), count, "requests")
            where(client, http_flavor=flavor, http_scheme="https")
    nothing_lost(session)
    equal(asked(log).total(), 52, "requests in its log")
    equal(exchanges(session, "server"), asked(log), "what the server was asked")


# --- clients, each against a server that logs what it was asked ---

REQUESTS = """
import requests, sys, urllib3
urllib3.disable_warnings()
base, session = sys.argv[1], requests.Session()
session.verify = session.trust_env = False
for target in ("/one", "/big", "/two?x=y"):
    print(len(session.get(base + target).content))
print(session.post(base + "/form", data=b"z" * 70000).status_code)
with session.get(base + "/big", stream=True) as answer:
    for piece in answer.iter_content(1000000):
        break
"""

HTTP_CLIENT = INSECURE + """
import http.client, sys
c = http.client.HTTPSConnection(sys.argv[1].partition("//")[2], context=context)
for target in ("/one", "/big", "/two?x=y"):
    c.request("GET", target)
    print(len(c.getresponse().read()))
c.request("POST", "/form", body=b"z" * 70000)
c.getresponse().read()
c.request("GET", "/last")
print(c.getresponse().read())
"""

PYCURL = """
import pycurl, sys
assert "GnuTLS" in pycurl.version, pycurl.version
c = pycurl.Curl()
c.setopt(c.SSL_VERIFYPEER, 0)
c.setopt(c.SSL_VERIFYHOST, 0)
for target in ("/one", "/big", "/two?x=y"):
    got = []
    c.setopt(c.URL, sys.argv[1] + target)
    c.setopt(c.WRITEFUNCTION, got.append)
    c.perform()
    print(sum(map(len, got)))
c.setopt(c.POSTFIELDS, "z" * 70000)
c.setopt(c.URL, sys.argv[1] + "/form")
c.perform()
"""


def compare_client(ctx, count, *argv, **how):
    """A client that gets the server's address as its last argument, and makes so many requests."""
    with https(ctx) as (port, log):
        session, out = observe(ctx, *argv, f"https://127.0.0.1:{port}", **how)
    equal(asked(log).total(), count, "requests in the server's log")
    equal(told(session), asked(log), "what the client asked")
    where(session, http_scheme="https", net_peer_ip="127.0.0.1", net_peer_port=port)
    return out


@test("python-requests")
def python_requests(ctx):
    """A session of kept connections, one that is redirected, and an answer that it doesn't read to the end."""
    compare_client(ctx, 6, PYTHON, "-c", REQUESTS)


@test("python-http-client")
def python_http_client(ctx):
    compare_client(ctx, 5, PYTHON, "-c", HTTP_CLIENT)


@test("curl-gnutls")
def curl_gnutls(ctx):
    """libcurl with GnuTLS, in Python."""
    compare_client(ctx, 4, PYTHON, "-c", PYCURL)


@test("wget-https")
def wget_https(ctx):
    """Pages, a form whose answer leads elsewhere; Debian's wget uses GnuTLS."""
    compare_client(ctx, 2, ctx.tool("wget"), "-q", "-O", "/dev/null", "--no-check-certificate", "--post-data=a=b")


@test("git-https")
def git_https(ctx):
    """git clones over HTTPS by libcurl with GnuTLS, in a process that it starts."""
    port, root, log = free_port(), ctx.fresh("www"), ctx.dir / "access"
    git = [ctx.tool("git"), "-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "init.defaultBranch=main"]
    ctx.run([*git, "init", "-q", root / "work"], check_code=0)
    (root / "work" / "file").write_bytes(os.urandom(200000))
    for words in (["add", "file"], ["commit", "-q", "-m", "one"], ["update-server-info"]):
        ctx.run([*git, *words], cwd=root / "work", check_code=0)
    conf = nginx_conf(ctx, log, f"listen 127.0.0.1:{port} ssl; root {root};")
    with running(ctx, [ctx.tool("nginx"), "-c", conf, "-e", ctx.dir / "error.log"], port, stop=signal.SIGQUIT):
        session, _ = observe(ctx, *git, "-c", "http.sslVerify=false", "clone", "-q",
                                    f"https://127.0.0.1:{port}/work/.git", ctx.dir / "clone")
    equal((ctx.dir / "clone" / "file").read_bytes(), (root / "work" / "file").read_bytes(), "the clone")
    check(asked(log).total() >= 5, "too few requests", asked(log))
    equal(told(session), asked(log), "what git asked")
    equal({e["proc"] for e in session.events(source="http.req", sync=False)}, {"git-remote-https"}, "processes")
    where(session, http_scheme="https", net_peer_port=port)


# --- the programs that come with the libraries, each at both ends ---

def ask(port, *targets):
    """Requests of ours, each on a connection of its own; statuses and bodies."""
    context, found = ssl._create_unverified_context(), []
    for target in targets:
        with context.wrap_socket(socket.create_connection(("127.0.0.1", port), 20)) as s:
            s.sendall(f"GET {target} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            got = b""
            try:
                while data := s.recv(65536):
                    got += data
            except ssl.SSLEOFError:
                pass
        found.append(got)
    return found


def answered(found, *targets):
    return Counter(("GET", t, got.split()[1].decode()) for t, got in zip(targets, found))


@test("openssl-www")
def openssl_www(ctx):
    """s_server as a web server: it reads and writes a BIO that is a connection."""
    (cert, key), port, root = certificate(ctx), free_port(), ctx.fresh("www")
    (root / "small").write_text("small\n")
    (root / "large").write_bytes(b"HTTP/1.1 200 OK\r\n\r\n" * 20000)
    argv = [ctx.tool("openssl"), "s_server", "-4", "-accept", port, "-cert", cert, "-key", key, "-WWW", "-quiet"]
    targets = ["/small", "/large", "/missing"] * 3
    with server(ctx, argv, port, [*EXACT, "--payloads"], ready=listening_in_proc, cwd=root) as session:
        for target in targets:
            ctx.run([*CURL, "-k", "--http1.0", *urls(port, target, scheme="https")], check_code=0)
    session.wait_end()
    nothing_lost(session)
    equal(exchanges(session, "server"), Counter(("GET", t, "200") for t in targets), "what it was asked") # it knows no 404
    where(session, http_scheme="https", net_transport="IP.TCP", net_host_ip="127.0.0.1", net_host_port=port)
    sent = [f.read_bytes() for f in sorted((session.dir / "payloads").glob("*.out"))]
    equal(len(sent), len(targets), "connections")
    for name in ("small", "large"):
        equal(sum(b.endswith(b"\r\n\r\n" + (root / name).read_bytes()) for b in sent), 3, f"payloads with {name}")


@test("openssl")
def openssl(ctx):
    """s_client asks s_server, both observed; the answer is typed into the server."""
    port, (cert, key) = free_port(), certificate(ctx)
    programs = []
    for role, argv in (("server", ["s_server", "-4", "-accept", port, "-cert", cert, "-key", key, "-quiet"]),
                       ("client", ["s_client", "-connect", f"127.0.0.1:{port}", "-quiet"])):
        before = set(ctx.sessions())
        process = subprocess.Popen(ctx.scope_argv([ctx.tool("openssl"), *argv], EXACT), cwd=ctx.dir, env=ctx.env(),
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                   start_new_session=True)
        ctx.started.append(process)
        if role == "server":
            ctx.wait_for(lambda: listening_in_proc(port), "s_server listens")
        new, = ctx.wait_for(lambda b=before: set(ctx.sessions()) - b, "its session")
        programs.append((process, role, Session(ctx, new)))
    (server_process, _, _), (client_process, _, _) = programs
    for i in range(3):
        for sender, receiver, text in ((client_process, server_process, f"GET /{i} HTTP/1.1\r\nHost: h\r\n\r\n"),
                                       (server_process, client_process,
                                        f"HTTP/1.1 20{i} fine\r\nContent-Length: 20000\r\n\r\n" + "x" * 20000)):
            sender.stdin.write(text.encode())
            sender.stdin.flush()
            equal(receiver.stdout.read(len(text)).decode(), text, "what the other one printed")
    client_process.stdin.close()
    for process, role, session in programs:
        process.terminate()
        process.wait(10)
        session.wait_end()
        nothing_lost(session)
        equal(exchanges(session, role), Counter(("GET", f"/{i}", f"20{i}") for i in range(3)), f"what the {role} told")
        where(session, http_scheme="https", **{{"server": "net_host_port", "client": "net_peer_port"}[role]: port})


@test("gnutls-programs")
def gnutls_programs(ctx):
    """gnutls-serv, which tells about the connection whatever it is asked, by us and by gnutls-cli."""
    port, (cert, key), targets = free_port(), certificate(ctx), ("/one", "/two?a")
    with server(ctx, [ctx.tool("gnutls-serv"), "--http", "-a", "-p", port, "--x509certfile", cert, "--x509keyfile", key],
                port, EXACT) as session:
        want = answered(ask(port, *targets), *targets)
        client, out = observe(ctx, "gnutls-cli", "--insecure", "-p", port, "127.0.0.1", "--logfile", ctx.dir / "cli.log",
                                   stdin=b"GET /three HTTP/1.0\r\n\r\n")
    check(b"HTTP/1.0 200 OK" in out, "what gnutls-cli printed", out[-500:])
    got = told(client)
    equal(got, Counter({("GET", "/three", "200"): 1}), "what gnutls-cli asked")
    nothing_lost(session)
    equal(exchanges(session, "server"), want + got, "what the server was asked")
    for s, name in ((session, "net_host_port"), (client, "net_peer_port")):
        where(s, http_scheme="https", **{name: port})


@test("nss-programs")
def nss_programs(ctx):
    """selfserv, asked by us and by tstclnt. It answers by PR_Writev."""
    port, base, targets = free_port(), ctx.fresh("nss"), ("/one", "/two?a")
    cert, key = certificate(ctx)
    ctx.run(["openssl", "pkcs12", "-export", "-in", cert, "-inkey", key, "-name", "us", "-out", ctx.dir / "us.p12",
             "-passout", "pass:x"], check_code=0)
    ctx.run([ctx.tool("certutil"), "-N", "-d", base, "--empty-password"], check_code=0)
    ctx.run([ctx.tool("pk12util"), "-i", ctx.dir / "us.p12", "-d", base, "-W", "x", "-K", ""], check_code=0)
    with server(ctx, [ctx.tool("selfserv"), "-d", base, "-n", "us", "-p", port, "-V", "tls1.2:tls1.3", "-v"], port, EXACT) as session:
        want = answered(ask(port, *targets), *targets)
        (ctx.dir / "request").write_bytes(b"GET /three HTTP/1.0\r\n\r\n")
        client, out = observe(ctx, ctx.tool("tstclnt"), "-h", "127.0.0.1", "-p", port, "-d", base, "-o",
                                   "-V", "tls1.2:tls1.3", "-A", ctx.dir / "request")
    check(b"HTTP/1.0 200 OK" in out, "what tstclnt printed", out[-500:])
    got = told(client)
    equal(got, Counter({("GET", "/three", "200"): 1}), "what tstclnt asked")
    nothing_lost(session)
    equal(exchanges(session, "server"), want + got, "what the server was asked")
    for s, name in ((session, "net_host_port"), (client, "net_peer_port")):
        where(s, http_scheme="https", **{name: port})


# --- protocols of the user's own ---

OWN = """metric:
event:
  enable: true
payload: {{dir: '{where}'}}
libscope: {{lossless: true}}
protocol:
- {{name: Redis, regex: '^\\*[1-9][0-9]*\\r\\n\\$', payload: true}}
- {{name: PostgreSQL, regex: '^000000[0-9a-f]{{2}}00030000', binary: true, len: 8}}
"""


def own_protocols(ctx):
    """Flags for rules of ours; where the payloads go."""
    directory = ctx.fresh("payloads")
    return configured(ctx, OWN.format(where=directory)), directory


def apps(session):
    return Counter(e["data"]["protocol"] for e in session.events(source="net.app", sync=False))


@test("redis-by-regex")
def redis(ctx):
    """Payloads of all that matches, to the byte that Redis counts itself, and of nothing else."""
    flags, directory = own_protocols(ctx)
    port = free_port()
    argv = [ctx.tool("redis-server"), "--port", port, "--bind", "127.0.0.1", "--dir", ctx.dir, "--save", "", "--appendonly", "no"]
    with server(ctx, argv, port, flags) as session:
        cli = [ctx.tool("redis-cli"), "-p", port]
        ctx.run([*cli, "set", "key", "v" * 100000], check_code=0)
        ctx.run([*cli, "-r", "20", "incr", "n"], check_code=0)
        with socket.create_connection(("127.0.0.1", port)) as s: # by hand, as Redis allows: that doesn't match
            s.sendall(b"GET n\r\n")
            equal(s.recv(100), b"$2\r\n20\r\n", "its answer")
        asked_info = b"*2\r\n$4\r\nINFO\r\n$5\r\nstats\r\n"
        with socket.create_connection(("127.0.0.1", port)) as s:
            s.sendall(asked_info)
            stats = s.recv(100000)
            while b"total_net_input_bytes" not in stats:
                stats += s.recv(100000)
    adopt(session)
    equal(apps(session), Counter({"Redis": 3}), "net.app")
    received, sent = ([p.read_bytes() for p in directory.glob(f"*.{way}")] for way in ("in", "out"))
    equal(sum(map(len, received)), int(re.search(rb"total_net_input_bytes:(\d+)", stats)[1]) - len(b"GET n\r\n"),
          "bytes that it received")
    check(b"".join(received).count(b"incr") == 20 and b"v" * 100000 in b"".join(received), "what it received")
    equal(sorted(p.count(b":") for p in sent if not p.startswith(b"$")), [0, 20], "what it answered")


@test("postgres-by-bytes", timeout=90)
def postgres(ctx):
    """psql speaks to PostgreSQL and to Redis; both are known, of one of them payloads are kept."""
    bin_dir = max(Path("/usr/lib/postgresql").glob("*/bin"))
    data, port, redis_port = ctx.fresh("postgres"), free_port(), free_port()
    as_user = []
    if os.geteuid() == 0:  # which PostgreSQL refuses to be
        user = pwd.getpwnam("postgres")
        os.chown(data, user.pw_uid, -1)
        as_user = [ctx.tool("setpriv"), f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    ctx.run([*as_user, bin_dir / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "--no-sync"], cwd=data, check_code=0)
    psql = [bin_dir / "psql", "-h", "127.0.0.1", "-p", port, "-U", "postgres", "-At"]
    script = f"""for i in 1 2 3; do {' '.join(map(str, psql))} -c "select 'query ' || $i"; done
                 {ctx.tool("redis-cli")} -p {redis_port} ping"""
    plain = ctx.env(PGSSLMODE="disable", PGGSSENCMODE="disable")

    def ready(_):
        return ctx.run([*psql, "-c", ""], env=plain).code == 0
    flags, directory = own_protocols(ctx)
    with running(ctx, [*as_user, bin_dir / "postgres", "-D", data, "-p", port, "-h", "127.0.0.1", "-k", data, "-F",
                       "-c", "log_connections=on"], port, ready=ready, stop=signal.SIGINT, cwd=data), \
            running(ctx, [ctx.tool("redis-server"), "--port", redis_port, "--bind", "127.0.0.1", "--save", ""], redis_port,
                    output="redis.out"):
        log = ctx.dir / "server.out"
        before = log.read_text().count("connection authorized")
        result = ctx.scoped(["sh", "-c", script], flags, env=plain, check_code=0)
        connections = log.read_text().count("connection authorized") - before
    equal(result.out, b"query 1\nquery 2\nquery 3\nPONG\n", "what they printed")
    adopt(result.session)
    equal((apps(result.session), connections), (Counter({"PostgreSQL": 3, "Redis": 1}), 3), "net.app, and connections")
    equal(sorted(p.read_bytes() for p in directory.glob("*.out")), [b"*1\r\n$4\r\nping\r\n"], "payloads that were sent")
    equal(sorted(p.read_bytes() for p in directory.glob("*.in")), [b"+PONG\r\n"], "payloads that were received")
