# SPDX-License-Identifier: Apache-2.0
"""How a connection begins when connect(2) doesn't wait for it, or isn't what begins it: each is told once, before what
passes on it, and so is each that doesn't come about."""

from collections import Counter

from scopetest import check, equal, test
from traffic import PYTHON, exchanges, nothing_lost

# ways: how a client learns what has become of its connection; each takes an address and returns nothing.
PROGRAM = r"""
import errno, os, select, socket, sys

REQUEST = b"GET /%s HTTP/1.1\r\nHost: h\r\n\r\n"

def begin(to):
    s = socket.socket()
    s.setblocking(False)
    s.connect_ex(to)
    return s

def ready(s):
    select.select([], [s], [], 10)
    return s

def talk(s, name):
    s.setblocking(True)
    s.sendall(REQUEST % name)
    s.recv(1000)

def ask(to): # as nc -z does
    s = ready(begin(to))
    s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

def again(to):
    s = ready(begin(to))
    s.connect_ex(to)

def early(to): # an answer that says nothing
    s = begin(to)
    s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    ready(s).getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

def never(to):
    ready(begin(to))

def duplicate(to):
    s = ready(begin(to))
    with s.dup():
        pass

def use(to):
    s = ready(begin(to))
    try:
        talk(s, b"use")
    except OSError:
        pass

def fast(to):
    with socket.socket() as s:
        try:
            s.sendto(REQUEST % b"fast", 0x20000000, to)
            s.recv(1000)
        except OSError:
            pass

def fastmsg(to):
    with socket.socket() as s:
        try:
            s.sendmsg([REQUEST % b"fastmsg"], [], 0x20000000, to)
            s.recv(1000)
        except OSError:
            pass

def deferred(to):
    with socket.socket() as s:
        s.setsockopt(socket.IPPROTO_TCP, 30, 1) # TCP_FASTOPEN_CONNECT
        try:
            s.connect(to)
            talk(s, b"deferred")
        except OSError:
            pass

WAYS = [ask, again, early, never, duplicate, use, fast, fastmsg, deferred]
with socket.socket() as l:
    l.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 5)
    l.bind(("127.0.0.1", 0))
    l.listen()
    to = l.getsockname()
    closed = socket.socket()
    closed.bind(("127.0.0.1", 0)) # refuses: nobody listens
    for way in WAYS:
        for round in range(2): # of TCP Fast Open the second one has a cookie
            pid = os.fork()
            if not pid:
                l.close()
                way(to if sys.argv[1] == "open" else closed.getsockname())
                os._exit(0)
            if sys.argv[1] == "open":
                with l.accept()[0] as c:
                    if c.recv(1000):
                        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            os.waitpid(pid, 0)
    goal = to if sys.argv[1] == "open" else closed.getsockname()
    left = [ready(begin(goal)) for i in range(2)] # nobody closes them
    print(to[1], closed.getsockname()[1], " ".join(w.__name__ for w in WAYS), "left", flush=True)
    os._exit(0)
"""
HTTP = ("use", "fast", "fastmsg", "deferred")


def run(ctx, what, flags):
    result = ctx.scoped([PYTHON, "-c", PROGRAM, what], flags, check_code=0)
    port, closed, *ways = result.out.decode().split()
    return result.session, int(port), int(closed), ways


@test("connect-open", timeout=90)
def connect_open(ctx):
    """Connections that come about: one net.open and one net.close each, the first before all HTTP on its channel."""
    session, port, _, ways = run(ctx, "open", ["--lossless"])
    session.wait_end()
    nothing_lost(session)
    opens, closes, begun = Counter(), Counter(), set()
    for line in session.raw("events.json"):
        e = line.get("body", {})
        if line.get("type") != "evt" or "data" not in e:
            continue
        d, channel = e["data"], line["_channel"]
        if e["source"] == "net.open" and d.get("net_peer_port") == port:
            opens[channel] += 1
            begun.add(channel)
            check(d.get("net_host_port"), "no address of its own", d)
        elif e["source"] == "net.close" and d.get("net_peer_port") == port:
            closes[channel] += 1
        elif e["source"].startswith("http.") and d.get("net_peer_port") == port:
            check(channel in begun, "HTTP before net.open", d)
    equal(sorted(opens.values()), [1] * 2 * len(ways), "net.open of each connection")
    equal(closes, opens, "net.close")
    equal(exchanges(session, "client", proxy=True), {("GET", f"/{w}", "200"): 2 for w in HTTP}, "what was asked")
    equal([m for m in session.metrics() if m["_metric"] == "net.error"], [], "errors")


@test("connect-refused", timeout=90)
def connect_refused(ctx):
    """Connections that are refused: no net.open, and one error of a connection each."""
    session, _, closed, ways = run(ctx, "refused", ["--lossless"])
    session.wait_end()
    equal([e["data"] for e in session.events("net", sync=False) if e["data"].get("net_peer_port") == closed], [], "net events")
    errors = Counter()
    for m in session.metrics():
        if m["_metric"] == "net.error":
            errors[m["class"]] += m["_value"]
    equal(errors, {"connection": 2 * len(ways)}, "errors")


@test("connect-in-time")
def connect_in_time(ctx):
    """It is told when its outcome is known, not with the next summary; without HTTP, by the first byte that passes."""
    go = ctx.dir / "go"
    code = f"""if 1:
        import os, select, socket, time
        with socket.create_server(("127.0.0.1", 0)) as l:
            for how in ("ask", "send"):
                s = socket.socket()
                s.setblocking(False)
                s.connect_ex(l.getsockname())
                select.select([], [s], [])
                s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if how == "ask" else s.send(b"x")
                while not os.path.exists("{go}-" + how):
                    time.sleep(0.02)
                s.close()
        """
    # no summary
    process = ctx.start(ctx.scope_argv([PYTHON, "-c", code]), env=ctx.env(SCOPE_SUMMARY_PERIOD=3600, SCOPE_EVENT_HTTP="false"))
    ctx.wait_for(ctx.sessions, "a session")
    session = ctx.session()
    for n, how in enumerate(("ask", "send"), 1):
        ctx.wait_for(lambda n=n: len(session.events(source="net.open")) == n, "net.open", 15, 0.1)
        (ctx.dir / f"go-{how}").touch()
    process.wait(20)
    session.wait_end()
    equal([e["source"] for e in session.events(sync=False) if e["source"] in ("net.open", "net.close")],
          ["net.open", "net.close"] * 2, "events, in order")
