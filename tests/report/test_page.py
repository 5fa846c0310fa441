# SPDX-License-Identifier: Apache-2.0
"""`scope report --html`: what is in the page, seen by a browser, whatever the session holds; and the file it is in."""

import base64
import hashlib
import json
import os
import re
import stat
import time

from scopetest import TESTS, TOP, Session, check, equal, free_port, test

NS = 1700000000_000000000


def report(ctx, file, session=None, code=0):
    return ctx.tool_run("report", *(("-i", session) if session else ()), "--html", file, check_code=code)


def page_of(ctx, name="page.html", session=None):
    path = ctx.dir / name
    report(ctx, path, session)
    return path


def data_of(text):
    return json.loads(re.search(r'<script type="application/json" id="data">\n(.*?)</script>', text, re.S).group(1))


def look(ctx, jobs):
    """What a browser saw of each page (browser.mjs)."""
    result = ctx.run([ctx.tool("node"), TESTS / "report/browser.mjs", TOP / "build/npm/node_modules", ctx.tool("chromium"),
                      ctx.fresh("profile")], stdin=json.dumps(jobs).encode(), check_code=0,
                     env=ctx.env(XDG_CONFIG_HOME=ctx.dir, XDG_CACHE_HOME=ctx.dir))
    return json.loads(result.out)


def event(kind, source, data, at=0.0, pid=10, channel="none", proc="p", cmd="p"):
    return {"type": "evt", "id": "h-p-p", "_channel": channel, "body": {
        "sourcetype": kind, "_time": 1700000000 + at, "source": source, "host": "h", "proc": proc, "cmd": cmd, "pid": pid, "data": data}}


def made_of(ctx, number, events, metrics=(), **meta):
    """A session of these events, as earlier versions kept them."""
    ctx.valid = False
    path = ctx.home / "history" / str(number)
    path.mkdir(parents=True)
    for name, lines in (("events.json", events), ("metrics.json", metrics)):
        with open(path / name, "wb") as f:
            for line in lines:
                f.write((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n")
    (path / "session.json").write_text(json.dumps({
        "version": 1, "id": number, "command": "p", "argv": ["p"], "cwd": "/", "kind": "run", "pid": 10, "collector": 999999,
        "start_ns": NS, "end_ns": NS + 5 * 10**9, "event_dest": f"file://{path}/events.json",
        "metric_dest": f"file://{path}/metrics.json", "metric_format": "ndjson", "exit_code": 0, **meta}))
    return path


HOSTILE = ["<script>window.hacked=1</script>", "</script><script>window.hacked=2</script>", "<img src=x onerror=window.hacked=3>",
           "\"'><svg/onload=window.hacked=4>", "' onmouseover='window.hacked=5", "\u202egpj.exe\u202c\u2066", "\x1b[31m\x07\x00\x7f\x9b",
           "javascript:window.hacked=6", "__proto__", "<!--", "]]>", "&lt;b&gt;&amp;", "\u2028\u2029", "\ufffd\ufffd", "x" * 4096, "/" * 4096,
           "\u202e" * 4096, "\U0001f600" * 1024, "{{7*7}}", "", " ", "\n\r\t", "constructor"]


def hostile_events():
    n = 0
    for i, name in enumerate(HOSTILE):
        at, pid, channel, text = i / 10, 100 + i, str(1000 + i), name.replace("\0", "\u0001")

        def add(kind, source, data, shift=0.0, at=at, pid=pid, channel=channel, text=text):
            return event(kind, source, data, at + shift, pid, channel, text, text)

        ends = {"net_transport": text or "IP.TCP", "net_peer_ip": text, "net_peer_port": 80, "net_host_ip": text, "net_host_port": 40000 + i}
        yield add("process", "proc.start", {"args": [text], "exe": text, "cwd": text, "ppid": 100, "uid": 0, "gid": 0, "start": "fork" if i % 2 else "exec"})
        yield add("fs", "fs.open", {"file": "/" + text, "op": "open"})
        yield add("fs", "fs.close", {"file": "/" + text, "file_read_bytes": 10**6 * (i + 1), "file_read_ops": 1, "file_write_bytes": 5, "file_write_ops": 1, "duration": 1})
        yield add("fs", "fs.rename", {"file": text, "file_to": "/d/" + text, "op": text})
        yield add("net", "net.open", ends, 0.01)
        yield add("net", "net.app", {"protocol": "TLS", "tls_client_server_name": text, "tls_protocol_version": text}, 0.02)
        yield add("net", "net.app", {"protocol": text}, 0.02)
        yield add("http", "http.req", {"http_method": text, "http_target": text, "http_host": text, **ends}, 0.03)
        yield add("http", "http.resp", {"http_method": text, "http_target": text, "http_host": text, "http_status_code": 500, "http_client_duration": 4, **ends}, 0.034)
        yield add("net", "net.close", {**ends, "net_bytes_sent": 5, "net_bytes_recv": 6, "net_close_reason": text, "duration": 2}, 0.05)
        yield add("dns", "dns.req", {"domain": text, "qtype": text, "role": text}, 0.01)
        yield add("dns", "dns.resp", {"domain": text, "qtype": text, "rcode": text, "role": text, "addrs": [text], "duration": 3}, 0.01)
        yield add("console", "stdout", {"message": text}, 0.04)
        yield add("process", "proc.note", {"text": text + " isn't observed", "file": text})
        yield add("process", "proc.crash", {"signal": text, "at": text, "dir": text})
        yield add("notice", "notice.file.read", {"rule": text, "why": text, "file": text})
        yield add("syscall", text or "open", {"op": text, "errno": text or "ENOENT", "file": text, "args": []})
        yield add("process", "proc.exit", {"signal": text, "duration": 50, "cpu": 5}, 0.06)
        n += 1
    # What no JSON library would write: bytes that aren't UTF-8, numbers and types where texts belong.
    yield event("fs", "fs.close", {"file": "/odd/BYTES", "file_read_bytes": 5}).__repr__().replace("'", '"').replace("BYTES", "\xff\xfe\xc0").encode("latin-1")
    yield event("fs", "fs.open", {"file": 5})
    yield event("http", "http.resp", {"http_status_code": "<b>", "http_client_duration": -5, "http_method": ["GET"]})
    yield event("net", "net.close", {"net_transport": "IP.TCP", "net_peer_port": 2**62, "net_bytes_sent": 2**62, "net_bytes_recv": -1})
    yield event("process", "proc.exit", {"exit_code": -2**62, "duration": 2**62, "cpu": 2**62}, pid=-5)
    yield b"{torn"


def many_processes():
    yield event("process", "proc.start", {"args": ["make"], "ppid": 1, "start": "exec"}, proc="make")
    for i in range(10000):
        yield event("process", "proc.start", {"args": ["cc"], "ppid": 10 if i < 5000 else 20000 + i - 5000, "start": "fork"}, i / 5000, 20000 + i, proc=f"cc{i}")
        yield event("fs", "fs.close", {"file": f"/src/{i % 700}/{i}.o", "file_write_bytes": i, "file_write_ops": 1}, i / 5000, 20000 + i)
        if i % 2:
            yield event("process", "proc.exit", {"exit_code": 0, "duration": 3, "cpu": 1000}, i / 5000 + .003, 20000 + i)


def judge(name, seen, charts):
    """What holds for every page."""
    check(not seen["console"] and not seen["errors"], f"{name}: the console is empty", seen["console"], seen["errors"])
    equal([u for u in seen["requests"] if not u.startswith("file:///")], [], f"{name}: requests beyond the file")
    equal(len(seen["requests"]), 1, f"{name}: requests")
    equal((seen["violations"], seen["dialogs"], seen["hacked"]), ([], [], None), f"{name}: what a policy forbids")
    equal(seen["drawn"], "1", f"{name}: the script came to its end")
    equal(sorted(seen["charts"]), sorted("chart-" + c for c in charts), f"{name}: charts")
    for chart, how in seen["charts"].items():
        check(how["drawn"] > 500 and how["colors"] > 3, f"{name}: {chart} is drawn", how)
        check(chart == "chart-timeline" or (how["tip"] and how["closed"]), f"{name}: {chart} tells what is under the pointer", how)
    for key in ("narrow", "wide"):
        check(seen[key][0] <= seen[key][1], f"{name}: {key}: nothing is wider than the window", seen[key])
    equal(seen["nameless"], [], f"{name}: what has no name for a screen reader")
    allowed = {"a", "bdi", "br", "button", "canvas", "caption", "code", "dd", "details", "div", "dl", "dt", "figcaption", "figure", "footer", "g", "h1",
               "h2", "header", "input", "li", "line", "main", "nav", "p", "path", "pre", "rect", "script", "section", "span", "strong", "summary",
               "svg", "table", "tbody", "td", "text", "th", "thead", "tr", "ul"}
    equal(sorted(set(seen["elements"]) - allowed), [], f"{name}: elements that nobody has written")
    equal((seen["light"], seen["dark"], seen["chosen"]), ("rgb(250, 250, 248)", "rgb(20, 23, 28)", "rgb(250, 250, 248)"), f"{name}: colours")
    equal(seen["printed"], {"nav": "none", "cut": 0, "background": "rgb(255, 255, 255)"}, f"{name}: printed")
    for table, how in seen["tables"].items():
        number = how["sort"] == "descending"
        value = float if number else lambda v: v.lower().encode("utf-16-be")  # as JavaScript compares
        equal([value(v) for v in how["first"]], sorted(map(value, how["first"]), reverse=number), f"{name}: {table} is sorted")
        equal([value(v) for v in how["second"]], sorted(map(value, how["second"]), reverse=not number), f"{name}: {table} the other way")
        check(how.get("nothing", 0) == 0 and how.get("filtered", 1) >= 1, f"{name}: {table} is filtered", how)


def judge_timeline(seen):
    t = seen["timeline"]
    width = [d["domain"][1] - d["domain"][0] for d in (t["before"], t["wheel"], t["dragged"], t["reset"], t["key"])]
    check(width[1] < width[0] and width[4] < width[0] and width[3] == width[0], "the timeline is zoomed", t)
    check(abs(width[2] - width[1]) < 1 and t["dragged"]["domain"][0] > t["wheel"]["domain"][0], "the timeline is moved", t)
    check(t["hover"] and t["selected"], "the timeline tells what is under the pointer, and what is selected", t)
    check(t["none"]["rows"] == 0 and t["all"]["rows"] == t["before"]["rows"] > 0, "the timeline is filtered", t)
    check(t["kind"], "a kind of marks goes away", t)
    check(seen["darkTimeline"]["drawn"] > 500, "the timeline is drawn in the dark", seen["darkTimeline"])


@test("browser", timeout=240)
def browser(ctx):
    """A real session, a hostile one, one of 10,000 processes and an empty one, in Chromium."""
    port = free_port()
    www = ctx.fresh("www")
    (www / "index.html").write_text("hello\n")
    (ctx.dir / "get.py").write_text(f"""
import http.client, http.server, os, signal, subprocess, sys, threading, time
class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *a): pass
pid = os.fork()
if pid == 0:
    os.chdir({str(www)!r})
    http.server.HTTPServer(("127.0.0.1", {port}), Quiet).serve_forever()
for i in range(200):
    try:
        c = http.client.HTTPConnection("127.0.0.1", {port})
        c.request("GET", "/index.html?secret=geheim" if i % 3 else "/missing")
        r = c.getresponse(); r.read()
        c.close()
    except ConnectionRefusedError:
        time.sleep(.05)
    if i > 30: break
print("a line of output")
subprocess.run(["sh", "-c", "kill -SEGV $$"])
subprocess.run(["sh", "-c", "exit 3"])
os.kill(pid, signal.SIGTERM)
os.wait()
""")
    result = ctx.scoped([ctx.tool("python3"), ctx.dir / "get.py"], ["--payloads"], check_code=0)
    result.session.wait_end()
    real = page_of(ctx, "real.html")
    ctx.valid = False
    made_of(ctx, 7, hostile_events(), command=HOSTILE[0], argv=[h.replace("\0", "\u0001") for h in HOSTILE[:8] + [HOSTILE[14]]], cwd=HOSTILE[3],
            metrics=[{"type": "metric", "body": {"_metric": "fs.error", "_metric_type": "counter", "_value": 3, "proc": h, "pid": 1, "class": h, "op": h, "file": h,
                                                 "errno": h}} for h in HOSTILE],
            lost=[{"kind": HOSTILE[1], "count": 5}])
    made_of(ctx, 8, many_processes())
    made_of(ctx, 9, [])
    jobs = [{"file": str(real), "plain": True}, *({"file": str(page_of(ctx, f"{n}.html", n))} for n in (7, 8, 9))]
    seen = look(ctx, jobs)
    judge("real", seen[0], ["timeline", "map", "latency", "tree"])
    judge_timeline(seen[0])
    text = seen[0]["text"]
    for words in ("ended well", "Nothing was lost", "a signal", "exited with an error"):
        check(words in text, f"the summary says {words!r}", text[:1000])
    check("127.0.0.1" in text and "/missing" in text and "404" in text and "get.py" in text, "tables name what there was", text[:3000])
    check("geheim" not in real.read_text(), "what follows the ? of a target is in the page")
    check(seen[0]["plain"]["rows"] > 50 and "/missing" in seen[0]["plain"]["text"] and "drawn by a script" in seen[0]["plain"]["text"],
          "without scripts", seen[0]["plain"]["text"][:500])
    # Both ends of these connections were observed: one edge, between the two programs.
    edges = [e for e in data_of(real.read_text())["edges"]["rows"] if e[4] == port]
    equal([(e[1], e[2] is not None) for e in edges], [(0, True)], "edges of the server's port")
    equal(edges[0][12], edges[0][9], "a request for each connection")
    flows = re.search(r'<table id="t-flows".*?</table>', real.read_text(), re.S).group(0).split("<tr>")[2:]
    for flow in flows:  # began, lasted, sent, received, captured, ...
        sent, received, captured = (float(v) for v in re.findall(r'data-v="([^"]*)"', flow)[2:5])
        check(captured == sent + received > 0, "what was captured is what passed", flow)
    judge("hostile", seen[1], ["timeline", "map", "latency", "tree"])
    check("\u202e" not in (ctx.dir / "7.html").read_text(), "characters that turn the direction are in the page")
    for part in ("<script>window.hacked=1</script>", "javascript:window.hacked=6", "&lt;b&gt;&amp;"):
        check(part in seen[1]["text"], f"{part} is shown as it is", seen[1]["text"][:2000])
    judge("many", seen[2], ["timeline", "tree"])
    equal(seen[2]["timeline"]["before"]["rows"], 2000, "processes that are drawn")
    check(re.search("The first [0-9,]+ of 10,001 processes are shown", seen[2]["text"]) and "The first 2,000 of 10,001 processes are drawn" in seen[2]["text"],
          "what is cut is said", seen[2]["text"][:3000])
    judge("empty", seen[3], [])
    check("No event was recorded" in seen[3]["text"], "an empty session", seen[3]["text"])
    for job in jobs:
        check(os.path.getsize(job["file"]) < 2_000_000, f"{job['file']} has {os.path.getsize(job['file'])} bytes")


@test("policy")
def policy(ctx):
    """Nothing but these scripts and styles may run, the page has no address of anything, and the data are JSON."""
    ctx.scoped(["sh", "-c", "ls / >/dev/null; cat /nonexistent; echo done"]).session.wait_end()
    text = page_of(ctx).read_text()
    csp = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text).group(1)
    rules = {r.split()[0]: r.split()[1:] for r in csp.split(";")}

    def hashes(tag):
        return sorted("'sha256-%s'" % base64.b64encode(hashlib.sha256(m.encode()).digest()).decode()
                      for m in re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.S))

    equal(rules["default-src"], ["'none'"], "default-src")
    equal(sorted(rules["script-src"]), hashes("script"), "hashes of scripts")
    equal(sorted(rules["style-src"]), hashes("style"), "hashes of styles")
    equal((rules["base-uri"], rules["form-action"], rules["img-src"]), (["'none'"], ["'none'"], ["data:"]), "other rules")
    markup = re.sub(r"<(script|style)\b.*?</\1>", "", text, flags=re.S)
    equal(re.findall(r'(?:src|href)="(?!#|data:,")[^"]*"', markup), [], "addresses")
    equal(re.findall(r"<[^>]* (?:style|on\w+)=", markup), [], "attributes that the policy forbids")
    check("Redistribution and use in source and binary forms" in markup, "the licence of d3")
    data = data_of(text)
    names = [r[2] for r in data["processes"]["rows"]]
    check("ls" in names and "cat" in names, "processes", names)
    check("fs open_close" in markup, "errors by metrics")
    rows = re.search(r'<table id="t-files".*?</table>', markup, re.S).group(0).count("<tr>") - 1
    told = [json.loads(line) for line in ctx.tool_run("report", "-j").out.splitlines()]
    equal(rows, len([r for r in told if r["type"] == "file"]), "as many files as in the report")


@test("file")
def file(ctx):
    """It is written in one step, for its owner; what isn't a file of its own is left alone."""
    ctx.scoped(["true"]).session.wait_end()
    path = page_of(ctx)
    equal(stat.S_IMODE(path.stat().st_mode), 0o600, "mode")
    path.write_text("old")
    path.chmod(0o644)
    with open(path, encoding="utf-8") as old:
        report(ctx, path)
        equal(old.read(), "old", "who has the old one open keeps it")
    equal(stat.S_IMODE(path.stat().st_mode), 0o600, "mode of one that was replaced")
    equal(ctx.tool_run("report", "--html", "-").out[:15], b"<!DOCTYPE html>", "to standard output")
    link, pipe = ctx.dir / "link", ctx.dir / "pipe"
    link.symlink_to(path)
    os.mkfifo(pipe)
    for name, why in ((link, b"is a link"), (pipe, b"is not a regular file"), (ctx.dir, b"is a directory"), ("/dev/full", b"is not a regular file"),
                      (ctx.dir / "none" / "x", b"No such file"), (Session(ctx, ctx.sessions()[0]).store(), b"the session's own file")):
        result = report(ctx, name, code=1)
        check(why in result.err and str(name).encode() in result.err, f"{name} is refused", result.describe())
    for words in (("--html", "x", "--json"), ("--html", "x", "--touched"), ("--html", "")):
        equal(ctx.tool_run("report", *words, check_code=None).code, 2, f"{words}")
    check(b"Nothing" not in ctx.tool_run("events", "-n", "1").out, "the session is as it was")
    # A full disk.
    full = ctx.fresh("full")
    result = ctx.run(["unshare", "-m", "sh", "-c", f"mount -t tmpfs -o size=64k none {full} && echo old >{full}/page.html &&"
                      f"! {ctx.scope} report --html {full}/page.html && cat {full}/page.html && ls -A {full}"], check_code=0)
    equal(result.out, b"old\npage.html\n", "what is left on a full disk")
    check(b"can't write" in result.err and b"No space left" in result.err, "a full disk is told", result.describe())


@test("running")
def running(ctx):
    """A session that is still written, and one that was torn off."""
    ctx.valid = False
    process = ctx.start(ctx.scope_argv(["sh", "-c", "exec sleep 1000"]))
    ctx.wait_for(lambda: ctx.sessions() and b"sleep" in ctx.tool_run("events", "-s", "proc.start", check_code=None).out, "it runs")
    text = page_of(ctx, "running.html").read_text()
    check(re.search(r"is still running</strong>, as of \d{4}-", text), "it says that it runs", text[-3000:])
    check(data_of(text)["running"], "the data say so, too")
    os.killpg(process.pid, 15)
    session = ctx.session()
    session.wait_end()
    text = page_of(ctx, "ended.html").read_text()
    check("is still running" not in text and "was killed by signal 15" in text, "it says how it ended")
    journal = session.store()
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-20])
    result = ctx.tool_run("report", "--html", ctx.dir / "torn.html")
    check(b"journal ends within a block" in result.err, "what is missing is told", result.describe())
    check("Summary" in (ctx.dir / "torn.html").read_text(), "a page is written")


@test("elsewhere")
def elsewhere(ctx):
    """Events that went elsewhere make no page."""
    ctx.valid = False
    made_of(ctx, 3, [], event_dest="tcp://127.0.0.1:9")
    result = report(ctx, ctx.dir / "x.html", code=1)
    check(b"127.0.0.1" in result.out + result.err, "it says where they are", result.describe())
    check(not (ctx.dir / "x.html").exists(), "no file is left")


@test("bounded", timeout=120)
def bounded(ctx):
    """A page has a size, and says what it leaves out, whatever is in the session."""
    def events():
        for i in range(30000):
            name = f"/{'d' * 100}{i % 5000}/{'f' * 900}{i}"
            yield event("fs", "fs.close", {"file": name, "file_read_bytes": 1, "file_read_ops": 1}, i / 10000, 10 + i % 3000)
            yield event("console", "stdout", {"message": "m" * 600 + str(i)}, i / 10000, 10 + i % 3000)
            yield event("dns", "dns.resp", {"domain": f"{i}.{'x' * 200}", "rcode": "NXDOMAIN"}, i / 10000)

    made_of(ctx, 4, events())
    path = page_of(ctx)
    check(path.stat().st_size < 2_000_000, f"{path.stat().st_size} bytes")
    text = path.read_text()
    for words in ("of 30,000 files are shown", "of 10,000 names are shown", "20,000 times there was no room"):
        check(words in text, f"it says {words!r}")
    data = data_of(text)
    equal((data["lines"]["left_out"] + len(data["lines"]["rows"])), 30000, "lines")
    equal(sum(d[1] for d in data["dirs"]["rows"]) + data["dirs_rest"][0], 30000, "files in directories")
    equal(time.gmtime(data["start"] / 1000).tm_year, 2023, "the session's beginning is that of its events")
