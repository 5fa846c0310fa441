# SPDX-License-Identifier: Apache-2.0
"""Events about files, connections, console lines and processes, and the sums of metrics."""

import getpass
import json
import os
import re
import sys
import time
from collections import Counter

from scopetest import add_test, check, equal, test

VARIANTS = ["glibc-O0", "glibc-O2", "musl"]


def run(ctx, name, variant, flags=()):
    """Runs tests/programs/NAME.c observed; the result and what the program expects."""
    expect = ctx.dir / "expect.json"
    work = ctx.fresh("work")
    result = ctx.scoped([ctx.compile(f"programs/{name}.c", variant)], flags, cwd=work, env=ctx.env(EXPECT=expect))
    check(result.code == 0, "the program failed", result.describe())
    lines = [json.loads(line) for line in expect.read_text().splitlines()] if expect.exists() else []
    result.work = str(work)
    return result, lines


def inside(result, body):
    return body["data"].get("file", "").startswith(result.work + "/")


def total(metrics, name, **tags):
    """Sum of a counter over a session."""
    return sum(m["_value"] for m in metrics if m["_metric"] == name and all(m.get(k) == v for k, v in tags.items()))


def files(ctx, variant):
    result, expected = run(ctx, "events_files", variant)
    events = result.session.events("fs")
    want = Counter((e["file"], *e["read"], *e["write"]) for e in expected if e["event"] == "fs.close")
    got = Counter((b["data"]["file"], b["data"]["file_read_bytes"], b["data"]["file_read_ops"],
                   b["data"]["file_write_bytes"], b["data"]["file_write_ops"])
                  for b in events if b["source"] == "fs.close" and inside(result, b)
                  and not b["data"]["file"].endswith("/sub"))
    equal(got - want, Counter(), "fs.close events that are not expected")
    equal(want - got, Counter(), "fs.close events that are missing")
    for e in expected:
        if e["event"] == "fs.close":
            continue
        found = [b["data"] for b in events if b["source"] == e["event"] and
                 (b["data"].get("file") == e.get("file") or "ends" in e and b["data"].get("file", "").endswith(e["ends"]))
                 and (b["data"].get("op") in (e["op"], e["op"] + "at", e["op"] + "at2", e["op"] + "2"))]
        equal(len(found), 1, f"events {e}")
        if "file_to" in e:
            equal(found[0].get("file_to"), e["file_to"], f"file_to of {e}")
    failed = [b for b in events if b["data"].get("file", "").endswith("/not-there")]
    check(all(b["source"] == "fs.error" for b in failed), "an event tells of a file that is not there", failed)
    # Each open has its close, on the same channel.
    opened = Counter(e["_channel"] for e in result.session.raw("events.json") if e.get("body", {}).get("source") == "fs.open")
    closed = Counter(e["_channel"] for e in result.session.raw("events.json") if e.get("body", {}).get("source") == "fs.close")
    check(all(n == 1 for n in opened.values()), "two fs.open events share a channel", opened)
    check(all(n == 1 for n in closed.values()), "two fs.close events share a channel", closed)
    # The whole: metrics add up to the events.
    metrics = result.session.metrics()
    equal(total(metrics, "fs.open"), sum(1 for b in events if b["source"] == "fs.open"), "sum of metric fs.open")
    equal(total(metrics, "fs.close"), sum(1 for b in events if b["source"] == "fs.close"), "sum of metric fs.close")


def names(ctx, variant):
    """Files are called by where they are, however they were reached; and only log files are log files."""
    result, expected = run(ctx, "events_names", variant)
    events = result.session.events("fs")
    got = Counter((b["source"], b["data"]["file"]) for b in events)
    want = Counter((e["event"], e["file"]) for e in expected)
    equal(want - got, Counter(), "names that are not told")
    odd = [b["data"] for b in events if "/.." in b["data"]["file"] or b["data"].get("file_unresolved") or
           "//" in b["data"]["file"] or b["data"]["file"] not in ("stdin", "stdout", "stderr") and
           not b["data"]["file"].startswith("/")]
    # When somebody asks, this directory isn't there any more.
    equal([(d["file"], d["file_unresolved"]) for d in odd], [(f"{result.work}/gone/../gone", True)],
          "names that aren't resolved")
    lines = {b["source"]: b["data"]["message"] for b in result.session.events("file")}
    equal(lines, {f"{result.work}/v/log/open.txt": "not secret"}, "lines of log files")


def sockets(ctx, variant):
    result, expected = run(ctx, "events_sockets", variant)
    events = result.session.events("net")
    for source in ("net.open", "net.close"):
        for e in expected:
            if e["role"] == "udp":
                continue
            found = [b["data"] for b in events if b["source"] == source and
                     [b["data"].get("net_host_ip"), b["data"].get("net_host_port")] == e["host"] and
                     [b["data"].get("net_peer_ip"), b["data"].get("net_peer_port")] == e["peer"]]
            equal(len(found), 1, f"{source} events of {e}")
            equal(found[0]["net_transport"], "IP.TCP", "net_transport")
            if source == "net.close":
                equal((found[0]["net_bytes_sent"], found[0]["net_bytes_recv"]), (e["sent"], e["received"]),
                      f"bytes of {e}")
    tcp = [b for b in events if b["data"].get("net_transport") == "IP.TCP"]
    streams = sum(e["role"] != "udp" for e in expected)
    for source in ("net.open", "net.close"):
        equal(sum(b["source"] == source for b in tcp), streams, f"{source} events of TCP connections")
    udp = [e for e in expected if e["role"] == "udp"][0]
    found = [b["data"] for b in events if b["source"] == "net.open" and b["data"].get("net_transport") == "IP.UDP"
             and [b["data"].get("net_peer_ip"), b["data"].get("net_peer_port")] == udp["peer"]]
    check(found, "no net.open of the UDP client", [b["data"] for b in events])
    unix = [b["data"] for b in events if b["source"] == "net.close" and b["data"].get("net_transport") == "Unix.TCP"]
    equal(sorted((d["net_bytes_sent"], d["net_bytes_recv"]) for d in unix), [(7, 9), (9, 7)], "net.close of unix sockets")
    metrics = result.session.metrics()
    for name, member in (("net.tx", "sent"), ("net.rx", "received")):
        want = sum(e[member] for e in expected if e["role"] != "udp")
        equal(total(metrics, name, **{"class": "inet_tcp"}), want, f"sum of {name}, class inet_tcp")
        equal(total(metrics, name, **{"class": "unix_tcp"}), 16, f"sum of {name}, class unix_tcp")
        equal(total(metrics, name, **{"class": "inet_udp"}), 110, f"sum of {name}, class inet_udp")
    equal(total(metrics, "net.open"), sum(b["source"] == "net.open" for b in events), "sum of metric net.open")
    equal(total(metrics, "net.close"), sum(b["source"] == "net.close" for b in events), "sum of metric net.close")
    check(total(metrics, "net.error") >= 1, "the refused connect is in no net.error metric")


def console(ctx, variant):
    result, _ = run(ctx, "events_console", variant)
    got = {}
    for b in result.session.events():
        if b["sourcetype"] in ("console", "file"):
            got.setdefault(b["source"], []).append(b["data"]["message"].rstrip("\n"))
    want = ["first", "in three pieces", "two in one", "write", "\u00e4\u00f6\u20ac \U0001f427", "\u00fc cut",
            "tab\there \"quoted\" back\\slash \033[1mbold\033[0m", "vector", "second of vector"]
    want += [chr(ord("a") + i % 26) * 1999 for i in range(100)] + ["through a duplicate"]
    equal([m for m in got.get("stdout", []) if m], want, "lines on stdout")
    equal([m for m in got.get("stderr", []) if m], ["to stderr", "no end of line"], "lines on stderr")
    equal(got.get(result.work + "/some.log"), ["line in a log", "another one"], "lines in the log file")
    equal(sorted(got), sorted(["stdout", "stderr", result.work + "/some.log"]), "sources")


STREAMS = '''
echo out; echo err >&2
echo devstdout >/dev/stdout; echo procfd2 >/proc/self/fd/2
echo by-link >>logs/access.log; echo by-link-2 >>logs/error.log
exec 3>&1; echo third >&3
sh -c 'echo kept >&3'
(echo subshell >&2)
echo null >/dev/null; sh -c 'echo child null; echo child null error >&2' >/dev/null 2>&1
exec >file; echo in the file; echo saved >&3; sh -c 'echo begins in the file'
exec >&3; echo back
"$PYTHON" -S -E talk.py
'''
SOCKET = r'''
import os, socket, subprocess
l = socket.create_server(("127.0.0.1", 0)); c = socket.create_connection(l.getsockname()); s = l.accept()[0]
subprocess.run(["sh", "-c", "echo over a socket"], stdout=c)
assert s.recv(100) == b"over a socket\n"
'''


@test("events/streams")
def streams(ctx):
    """What is written to stdout and stderr, by whatever name or number; and nothing else."""
    work = ctx.fresh("work")
    (work / "logs").mkdir()
    (work / "logs/access.log").symlink_to("/dev/stdout")
    (work / "logs/error.log").symlink_to("/dev/stderr")
    (work / "talk.py").write_text(SOCKET)
    result = ctx.scoped(["/bin/sh", "-c", STREAMS], cwd=work, env=ctx.env(PYTHON=sys.executable))
    equal(result.code, 0, result.describe())
    got = {}
    for b in result.session.events():
        if b["sourcetype"] in ("console", "file"):
            got.setdefault(b["source"], []).append(b["data"]["message"])
    # What a link leads to is known if the descriptor was still open when it was asked; else the name is the program's.
    for stream, name in (("stdout", "access"), ("stderr", "error")):
        got[stream] += got.pop(f"{work}/logs/{name}.log", [])
    # In whatever order: what processes have written within a moment is read one ring after the other.
    equal({source: sorted(lines) for source, lines in got.items()},
          {"stdout": sorted(["out", "devstdout", "by-link", "third", "kept", "saved", "begins in the file", "back", "over a socket"]),
           "stderr": sorted(["err", "procfd2", "by-link-2", "subshell"])}, "lines")
    opened = [b["data"]["file"] for b in result.session.events("fs", "fs.open")]
    closed = [b["data"]["file"] for b in result.session.events("fs", "fs.close")]
    for name in ("/dev/stdout", f"{work}/logs/access.log"):
        equal((opened.count(name), closed.count(name)), (2, 2), f"fs.open and fs.close of {name}: itself, and as number 1")


def moved(ctx, variant):
    """What AIO transfers is counted, and output whose content can't be seen is told as lost."""
    result, expected = run(ctx, "events_moved", variant)
    close, lost = expected
    got = [b["data"] for b in result.session.events("fs", "fs.close") if b["data"]["file"] == close["file"]]
    equal([[d[f"file_{way}_{what}"] for what in ("bytes", "ops")] for d in got for way in ("read", "write")],
          [close["read"], close["write"]], "bytes and operations of the file that AIO has used")
    lines = [(b["source"], b["data"]["message"]) for b in result.session.events() if b["sourcetype"] in ("console", "file")]
    equal(lines, [(f"{result.work}/some.log", "seen")], "lines")
    result.session.wait_end()
    equal(result.session.lost(unseen=True), lost, "what is lost")


@test("events/binary")
def binary(ctx):
    """Binary data on the console: a few events that say how many bytes, next to lines of text."""
    work = ctx.fresh("work")
    (work / "in").write_bytes(os.urandom(2_000_000))
    result = ctx.scoped(["/bin/sh", "-c", "echo before; sleep 0.3; dd if=in bs=20000 2>/dev/null; sleep 0.3; echo behind"],
                        cwd=work)
    equal(len(result.out), 2_000_014, "bytes of output")
    lines = [b["data"]["message"] for b in result.session.events("console", "stdout")]
    equal((lines[0], lines[-1]), ("before", "behind"), "lines")
    bursts = [re.fullmatch(r"-- (\d+) bytes of binary data --", m) for m in lines[1:-1]]
    check(all(bursts) and 1 <= len(bursts) <= 5, "bursts", lines[1:-1])
    result.session.wait_end()
    equal(sum(int(m[1]) for m in bursts) + result.session.lost().get("data", 0), 2_000_000, "bytes told and bytes lost")


OWN_DIRECTORIES = """
import ctypes, os, threading
there, back = threading.Event(), threading.Event()

def elsewhere():
    ctypes.CDLL(None).unshare(0x200) # CLONE_FS
    os.chdir("../var/log")
    there.set()
    back.wait()

os.chdir("here")
thread = threading.Thread(target=elsewhere)
thread.start()
there.wait()
open("no-log", "w").write("secret\\n")
back.set()
thread.join()
"""


@test("events/own-directories")
def own_directories(ctx):
    """Where a thread has a working directory of its own, relative names are marked, and nothing is taken for a log file."""
    for name in ("here", "var/log"):
        (ctx.dir / "work" / name).mkdir(parents=True)
    session = ctx.scoped([sys.executable, "-c", OWN_DIRECTORIES], cwd=ctx.dir / "work", check_code=0).session
    opened = [e["data"] for e in session.events(source="fs.open") if e["data"]["file"].endswith("no-log")]
    equal([(e["file"], e.get("file_unresolved")) for e in opened], [("no-log", True)], "the file")
    equal([e for e in session.events("file", sync=False) if "secret" in str(e)], [], "content")


@test("events/flags")
def flags(ctx):
    """What a call on names does depends on its flags."""
    work = ctx.fresh("work")
    result = ctx.scoped([ctx.compile("programs/events_flags.c")], cwd=work)
    equal(result.code, 0, result.describe())
    got = [(b["data"]["op"], b["data"]["file"].rpartition("/")[2], b["data"].get("flags"))
           for b in result.session.events("fs") if b["source"] in ("fs.rename", "fs.create", "fs.delete", "fs.change")]
    equal(got, [("mkdir", "d", None), ("renameat2", "a", ["RENAME_EXCHANGE"]), ("renameat2", "a", ["RENAME_NOREPLACE"]),
                ("rename", "c", None), ("linkat", "hard", ["AT_SYMLINK_FOLLOW"]),
                ("symlink", "soft", None), ("fchownat", "soft", ["AT_SYMLINK_NOFOLLOW"]),
                ("fallocate", "a", ["FALLOC_FL_KEEP_SIZE", "FALLOC_FL_PUNCH_HOLE"]),
                ("unlinkat", "hard", None), ("unlinkat", "d", ["AT_REMOVEDIR"])], "op, file and flags")


def uring(ctx, variant):
    """I/O through io_uring's rings is observed like the calls that it stands for, or it is said that it was not seen."""
    result, _ = run(ctx, "events_uring", variant)
    check(result.out in (b"done\n", b"no io_uring\n"), "unexpected output", result.describe())
    if result.out == b"no io_uring\n":
        return
    closes = [b["data"] for b in result.session.events("fs", "fs.close") if b["data"]["file"].endswith("/through-the-ring")]
    if closes:
        equal([(d["file_read_bytes"], d["file_write_bytes"]) for d in closes], [(1000, 1000)], "fs.close of the file")
        return
    notes = " ".join(str(b["data"]) for b in result.session.events("process", "proc.note"))
    check("io_uring" in notes + result.session.log(), "neither seen, nor said that it was not", notes, result.session.log())


for _name, _function in (("files", files), ("names", names), ("uring", uring), ("moved", moved), ("sockets", sockets), ("console", console)):
    for _variant in VARIANTS:
        add_test("programs", f"events/{_name}/{_variant}", lambda ctx, f=_function, v=_variant: f(ctx, v))


@test("events/envelope")
def envelope(ctx):
    """Members of every event and metric, time stamps, order, uuid."""
    before = time.time()
    result = ctx.scoped(["/bin/sh", "-c", "sleep 0.4; cat /etc/hostname >copy; ls -l copy; sleep 0.4; rm copy"])
    after = time.time()
    equal(result.code, 0, "status")
    events = [e for e in result.session.raw("events.json") if e.get("type") == "evt"]
    result.session.sync()
    events = [e for e in result.session.raw("events.json") if e.get("type") == "evt"]
    check(len(events) > 10, "hardly any event", len(events))
    for e in events:
        equal(sorted(e), ["_channel", "body", "id", "type"], f"members of {e}")
        b = e["body"]
        for member in ("sourcetype", "_time", "source", "host", "proc", "cmd", "pid", "data"):
            check(member in b, f"no {member}", e)
        check(isinstance(e["_channel"], str), "_channel is a string", e)
        check(before - 0.01 <= b["_time"] <= after + 0.01, f"_time {b['_time']} is not between {before} and {after}", e)
        equal(b["host"], os.uname().nodename, "host")
    # _time is when it happened, not when it was written: the deletion is 0.4 s after the listing.
    of = {b["source"] + "/" + b["proc"]: b["_time"] for b in (e["body"] for e in events)}
    check(of["fs.delete/rm"] - of["fs.open/cat"] > 0.39, "fs.delete is not 0.4 s after fs.open", of)
    start = [e["body"] for e in events if e["body"]["source"] == "proc.start"]
    names = [b["proc"] for b in start]
    for name in ("sh", "sleep", "cat", "ls", "rm"):
        check(name in names, f"no proc.start of {name}", names)
    uuids = [b["data"].get("uuid") for b in start]
    check(all(u and re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", u)
              for u in uuids), "uuid is not a random one", uuids)
    own = [b for b in start if b["proc"] == "ls"][0]["data"]
    equal(own["uid"], os.getuid(), "uid")
    equal(own["username"], getpass.getuser(), "username")
    ends = [e["body"]["data"] for e in events if e["body"]["source"] == "proc.exit"]
    check(all(d.get("exit_code") == 0 for d in ends), "exit codes", ends)


@test("events/complete-at-once")
def complete_at_once(ctx):
    """`scope events` right after the program has ended shows everything."""
    for i in range(5):
        result = ctx.scoped(["/bin/sh", "-c", "i=0; while [ $i -lt 30 ]; do cat /etc/hostname >/dev/null; i=$((i+1)); done"])
        shown = ctx.tool_run("events", "-j", "-a", "--id", str(result.session.id)).out.splitlines()
        opened = sum(1 for line in shown if b'"/etc/hostname"' in line and b'"fs.open"' in line)
        equal(opened, 30, f"fs.open events of /etc/hostname, run {i}")
        ends = sum(1 for line in shown if b'"proc.exit"' in line)
        equal(ends, 31, f"proc.exit events, run {i}")


@test("events/exact-sums")
def exact_sums(ctx):
    """Bytes copied by a pipeline of processes: metrics, events and the truth agree."""
    work = ctx.fresh("work")
    (work / "in").write_bytes(os.urandom(3_000_000))
    result = ctx.scoped(["/bin/sh", "-c", "cat in | dd of=out bs=700 2>/dev/null; dd if=in of=out2 bs=1000 2>/dev/null"], cwd=work)
    equal((work / "out").read_bytes(), (work / "in").read_bytes(), "the copy")
    events = result.session.events("fs", "fs.close")
    for name, member, want in (("in", "file_read_bytes", 6_000_000), ("out", "file_write_bytes", 3_000_000),
                               ("out2", "file_write_bytes", 3_000_000)):
        got = sum(b["data"][member] for b in events if b["data"]["file"] == f"{work}/{name}")
        equal(got, want, f"{member} of {name}")
    ops = sum(b["data"]["file_write_ops"] for b in events if b["data"]["file"] == f"{work}/out2")
    equal(ops, 3000, "writes of dd")


@test("events/verbosity")
def verbosity(ctx):
    """Sums do not depend on verbosity; levels 0 and 9 of the same program."""
    sums = {}
    for level in ("0", "4", "9"):
        work = ctx.fresh(f"work-{level}")
        (work / "in").write_bytes(b"x" * 100_000)
        result = ctx.scoped(["/bin/sh", "-c", "cat in >out; head -c 10 in >out2; ls >/dev/null; test -e no"], ["-v", level],
                            cwd=work)
        metrics = result.session.metrics()
        sums[level] = {n: total(metrics, n) for n in ("fs.open", "fs.close", "fs.read", "fs.write", "fs.stat", "fs.seek")}
        equal(result.session.lost(), {}, f"lost at verbosity {level}")
    equal(sums["9"], sums["4"], "sums at verbosity 9 and 4")
    equal(sums["0"], sums["4"], "sums at verbosity 0 and 4")
    check(sums["4"]["fs.write"] >= 100_010, "fs.write is too small", sums["4"])
