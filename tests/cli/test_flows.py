# SPDX-License-Identifier: Apache-2.0
"""`scope flows` and `scope report` on sessions that the test has written by hand."""

import json
import os
import re

from payloads import START, Payloads
from scopetest import check, equal, test
from terminal import on_terminal


def out(ctx, *argv, code=0):
    return ctx.tool_run(*argv, check_code=code).out


def objects(ctx, *argv):
    return [json.loads(line) for line in out(ctx, *argv).decode().split("\n") if line]


def err(ctx, *argv, code=1):
    return ctx.tool_run(*argv, check_code=code).err.decode()


def some_flows(ctx):
    """Three flows: closed HTTP with a gap, TLS over IPv6 that is still open, a unix socket."""
    p = Payloads(ctx, 1)
    p.flow(10**6, net_protocol="HTTP", role="client")
    p.data(1, "out", b"GET / HTTP/1.1\r\n\r\n", 2 * 10**6)
    p.data(1, "in", b"HTTP/1.1 200 OK\0\xff", 3 * 10**6)
    p.gap(1, "in", 1000, 4 * 10**6)
    p.data(1, "in", b"tail", 5 * 10**6)
    p.end(1, 251 * 10**6, "remote")
    p.flow(10**9, net_peer_ip="2001:db8::9", net_host_ip="2001:db8::5", net_peer_port=443, tls=True, pid=43, proc="a\u001b[31mb")
    p.data(2, "out", b"x" * 500, 10**9 + 7)
    p.flow(2 * 10**9, net_transport="Unix.TCP", net_peer_ip=None, net_peer_port=None, net_host_ip=None,
           net_host_port=None, unix_peer_inode=17, unix_local_inode=18)
    return p


@test()
def flows_list(ctx):
    some_flows(ctx)
    lines = out(ctx, "flows").decode().splitlines()
    equal(lines[0].split("  ")[0], "ID", "header")
    equal(len(lines), 4, "lines")
    equal(lines[1].split(), ["1", "10.0.0.5", "51001", "10.0.0.9", "80", "Nov", "14", "22:13:20", "250ms", "1021", "18",
                             "HTTP", "curl[42]"], "the first flow")
    check("2001:db8::9" in lines[2] and " TLS" in lines[2] and "\033" not in lines[2], lines[2])
    check("unix" in lines[3] and "17" in lines[3] and "18" in lines[3], lines[3])
    equal([o["id"] for o in objects(ctx, "flows", "-j")], [1, 2, 3], "ids")
    first = objects(ctx, "flows", "-j", "1")
    equal(first, [{"id": 1, "pid": 42, "proc": "curl", "fd": 5, "channel": str(START + 1), "net_transport": "IP.TCP",
                   "net_protocol": "HTTP", "tls": False, "role": "client", "net_host_ip": "10.0.0.5",
                   "net_host_port": 51001, "net_peer_ip": "10.0.0.9", "net_peer_port": 80, "start_time": 1700000000.001,
                   "last_sent_time": 1700000000.002, "duration": 250000000, "net_bytes_recv": 1021,
                   "net_bytes_sent": 18, "missing_recv": 1000, "missing_sent": 0, "net_close_reason": "remote",
                   "basedir": first[0]["basedir"], "in_file": "f1.in", "out_file": "f1.out"}], "as JSON")
    check(os.path.isdir(first[0]["basedir"]), first[0]["basedir"])
    text = out(ctx, "flows", "1").decode()
    for part in ("10.0.0.9 port 80", "1021, 1000 of them not captured", "remote", "f1.in", "250ms"):
        check(part in text, f"no {part} in", text)
    check("still open" in out(ctx, "flows", "2").decode(), "flow 2 is open")


@test()
def flows_of_tls(ctx):
    """How plaintext was had, or why not; names that aren't known, as of a later version, are shown as they are."""
    p = Payloads(ctx, 1)
    p.flow(10**6, net_protocol="HTTP", tls=True, tls_plaintext="keys")
    p.flow(2 * 10**6, net_protocol="TLS", tls=False, tls_unread="cipher-suite")
    p.flow(3 * 10**6, net_protocol="TLS", tls=False, tls_unread="x\u001b[31my", tls_plaintext=17)
    lines = out(ctx, "flows").decode().splitlines()
    for line, part in zip(lines[1:], ("HTTP TLS (keys)", "TLS (not read: cipher-suite)", "TLS (not read: x")):
        check(part in line and "\033" not in line, part, line)
    equal([(o.get("tls_plaintext"), o.get("tls_unread")) for o in objects(ctx, "flows", "-j")],
          [("keys", None), (None, "cipher-suite"), (None, "x\x1b[31my")], "as JSON")
    check(re.search(r"^TLS Not Read: +keys of its TLS library are seen, but only those of AES-GCM", out(ctx, "flows", "2").decode(), re.M),
          "in words")
    check("TLS Not Read" not in out(ctx, "flows", "3").decode() + out(ctx, "flows", "1").decode(), "others")


@test()
def tables_of_traffic_on_narrow_terminals(ctx):
    """Peers, bytes and protocols are there at 80 columns, which leave no room for all that is known."""
    some_flows(ctx)
    for columns in (80, 100):
        lines = on_terminal(ctx, columns, "flows")
        check(all(name in lines[0] for name in ("PEER IP", "PEER PORT", "BYTES RECV", "BYTES SENT", "PROTOCOL")), lines)
        for entry in objects(ctx, "flows", "-j"):
            line = next(line for line in lines if line.startswith(f"{entry['id']} "))
            numbers = [str(entry.get(key, 0)) for key in ("net_bytes_recv", "net_bytes_sent")]
            check(re.search(r" +".join(numbers), line), "bytes", line, entry)
    check("HOST IP" in on_terminal(ctx, 200, "flows")[0], "all of them on a wide one")
    write_events(ctx, 9, some_events())
    lines = on_terminal(ctx, 80, "report", "-i", "9")
    header = next(line for line in lines if "PEER IP" in line)
    check(all(name in header for name in ("SENT", "RECEIVED", "PORT", "PROTOCOL", "NAMES")), header)


@test()
def flows_selected(ctx):
    some_flows(ctx)

    def ids(*argv):
        return [o["id"] for o in objects(ctx, "flows", "-j", *argv)]

    equal(ids("-n", "1"), [3], "-n")
    equal(ids("-n", "2"), [2, 3], "-n")
    equal(ids("-a"), [1, 2, 3], "-a")
    equal(ids("-p", "10.0.0.0/8"), [1], "--peer")
    equal(ids("-p", "10.0.0.9"), [1], "--peer of one address")
    equal(ids("-p", "10.0.0.8/31"), [1], "--peer")
    equal(ids("-p", "10.0.0.10/31"), [], "--peer")
    equal(ids("-p", "0.0.0.0/0"), [1], "--peer")
    equal(ids("-p", "2001:db8::/32", "-n", "1"), [2], "--peer before -n")
    equal(ids("-s", "net_bytes_sent"), [2, 1, 3], "--sort")
    equal(ids("-s", "net_bytes_sent", "-r"), [3, 1, 2], "--reverse")
    equal(ids("-s", "net_bytes_sent", "-n", "1"), [2], "--sort with -n")
    equal(ids("-s", "net_peer_ip"), [2, 1, 3], "--sort by text; without it last")
    equal(ids("2", "3"), [2, 3], "several")
    for argv, text in [
        (["--in"], "needs the number of one flow"), (["--in", "--out", "1"], "Cannot specify --in and --out"),
        (["--in", "-j", "1"], "Cannot specify --in and --json"), (["x"], "not the number"), (["0"], "not the number"),
        (["1", "2"], "one argument too many"), (["-p", "10.0.0.0/33"], "--peer takes"), (["-p", "10.0.0.0/"], "--peer takes"),
        (["-p", "host"], "--peer takes"), (["-s", "net_bytes_snt"], "did you mean net_bytes_sent?"),
        (["-r"], "--reverse goes with --sort"), (["--pcapng", "f", "-j"], "Cannot specify --pcapng and --json"),
        (["-n", "1", "-a"], "Cannot specify --last and --all"),
    ]:
        check(text in err(ctx, "flows", *argv, code=2), f"{argv}: no {text!r}")
    check("no flow 4 in session 1" in err(ctx, "flows", "4"), "no message")
    check("no flow 9 in session 1" in err(ctx, "flows", "--in", "9"), "no message")


@test()
def flows_bytes(ctx):
    p = some_flows(ctx)
    equal(out(ctx, "flows", "--out", "1"), b"GET / HTTP/1.1\r\n\r\n", "--out")
    result = ctx.tool_run("flows", "--in", "1")
    equal(result.out, b"HTTP/1.1 200 OK\0\xfftail", "--in")
    check(b"after 17 bytes, 1000 bytes were not captured" in result.err, "the gap isn't told", result.describe())
    # headers in the files aren't part of the data
    p.flow(net_host_port=1)
    path = p.dir / "f4.in"
    path.write_bytes(b'{"type":"payload"}abc')
    p.line(type="data", flow=4, dir="in", time_ns=START, at=18, len=3)
    equal(out(ctx, "flows", "--in", "4"), b"abc", "without the headers")
    p.data(1, "out", b"x" * 30000)  # more than stays in a buffer to the end
    check("can't write /dev/full: No space left on device" in err(ctx, "flows", "--pcapng", "/dev/full"), "no reason")
    path.write_bytes(b'{"type":"payload"}a')
    result = ctx.tool_run("flows", "--in", "4", check_code=1)
    equal(result.out, b"a", "what there is")
    check(b"f4.in is shorter than its index says" in result.err, result.describe())
    path.unlink()
    path.symlink_to("/etc/passwd")
    result = ctx.tool_run("flows", "--in", "4", check_code=1)
    equal(result.out, b"", "what a link leads to")


@test()
def flows_without_payloads(ctx):
    p = Payloads(ctx, 1)
    equal(out(ctx, "flows").decode().splitlines()[1:], [], "flows of an empty index")
    (p.dir / "index.ndjson").unlink()
    message = err(ctx, "flows")
    check("session 1 has no payloads" in message and "--payloads" in message, message)
    # those of another session in the same directory aren't this one's
    Payloads(ctx, 2, payload_dir=str(p.dir))
    check("session 2 has no payloads" in err(ctx, "flows"), "no message")
    (p.dir / "index.ndjson").write_text(json.dumps({"type": "index", "version": 1, "session": 2, "start_ns": START}) +
                                        '\n{"type":"flow","flow":1,"time_ns":1,"pid":1}\nrubbish\n{"type":"fl')
    result = ctx.tool_run("flows", "-j")
    equal([json.loads(x)["id"] for x in result.out.splitlines()], [1], "flows")
    check(b"1 lines of the index" in result.err and b"damaged" in result.err, result.describe())


# --- report ---

def net(source, ip, port, host_port, channel, **data):
    return ("net", source, {"net_transport": "IP.TCP", "net_peer_ip": ip, "net_peer_port": port, "net_host_ip": "10.0.0.5",
                            "net_host_port": host_port, **data}, channel)


def http(source, method, host, ip="10.0.0.9", port=80, **data):
    return ("http", source, {"http_method": method, "http_host": host, "http_target": "/", "net_transport": "IP.TCP",
                             "net_peer_ip": ip, "net_peer_port": port, "net_host_ip": "10.0.0.5", "net_host_port": 51000,
                             **data}, "77")


def some_events():
    def closed(file, read, written, ops=2):
        return ("fs", "fs.close", {"file": file, "file_read_bytes": read, "file_read_ops": ops, "file_write_bytes": written,
                                   "file_write_ops": 0, "duration": 3, "op": "close"}, "1")
    return [
        ("process", "proc.start", {"args": ["curl", "x"], "start": "exec"}, "none"),
        ("fs", "fs.open", {"file": "/etc/hosts", "op": "openat"}, "1"), closed("/etc/hosts", 200, 0),
        ("fs", "fs.open", {"file": "/etc/hosts", "op": "openat"}, "2"), closed("/etc/hosts", 100, 0),
        ("fs", "fs.open", {"file": "/tmp/big", "op": "openat"}, "3"), closed("/tmp/big", 1, 5000),
        ("fs", "fs.rename", {"file": "/tmp/big", "file_to": "/tmp/b\u001b[31mig2", "op": "rename"}, "none"),
        ("console", "stdout", {"message": '"body":{"sourcetype":"fs"'}, "4"),
        ("dns", "dns.resp", {"domain": "a.test", "addrs": ["10.0.0.9"], "rcode": "NOERROR"}, "5"),
        net("net.open", "10.0.0.9", 80, 51000, "77"),
        ("net", "net.app", {"proc": "curl", "pid": 10, "protocol": "HTTP"}, "77"),
        http("http.req", "GET", "www.a.test"),
        http("http.resp", "GET", "www.a.test", http_status_code=200, http_client_duration=10,
             http_response_content_length=1000),
        http("http.req", "GET", "www.a.test"),
        http("http.resp", "GET", "www.a.test", http_status_code=200, http_client_duration=30),
        http("http.req", "POST", "www.a.test:80"), http("http.req", "PUT", "10.0.0.9:80"), http("http.req", "PUT", "[::1]:80"),
        net("net.close", "10.0.0.9", 80, 51000, "77", net_bytes_sent=10, net_bytes_recv=20, duration=1500),
        *[net("net.open", "10.0.0.7", 40000 + i, 8080, str(100 + i)) for i in range(3)],
        *[net("net.close", "10.0.0.7", 40000 + i, 8080, str(100 + i), net_bytes_sent=1000, net_bytes_recv=1, duration=5)
          for i in range(3)],
        ("process", "proc.exit", {"exit_code": 3, "duration": 7000, "cpu": 1234567, "mem_peak": 2048}, "none"),
        ("process", "proc.start", {"args": ["again"], "start": "exec"}, "none"),
        ("process", "proc.exit", {"signal": "SIGKILL", "duration": 1, "cpu": 2}, "none"),
    ]


def write_events(ctx, number, events, more=""):
    path = Payloads(ctx, number).dir.parent
    ctx.valid = False
    (path / "events.json").write_text("".join(json.dumps(
        {"type": "evt", "id": "h1-x", "_channel": channel,
         "body": {"sourcetype": kind, "_time": 1700000000.5, "source": source, "host": "h1", "proc": "curl",
                  "cmd": "curl x", "pid": 10, "data": data}}, separators=(",", ":")) + "\n"
        for kind, source, data, channel in events) + more)
    metric = '{"type":"metric","body":{"_metric":"%s","_metric_type":"%s","_value":%s,"unit":"byte"}}\n'
    (path / "metrics.json").write_text(metric % ("fs.read", "counter", 200) + metric % ("fs.read", "counter", 101) +
                                       metric % ("proc.mem", "gauge", 5) + "net.tx:7|c|#unit:byte\n")
    return path


@test()
def report(ctx):
    write_events(ctx, 1, some_events())
    found = objects(ctx, "report", "-j")

    def of(kind):
        return [{k: v for k, v in o.items() if k != "type"} for o in found if o["type"] == kind]

    equal(of("file"), [
        {"file": "/tmp/big", "opens": 1, "bytes_read": 1, "bytes_written": 5000, "reads": 2, "writes": 0, "changes": 1,
         "duration_us": 6},
        {"file": "/etc/hosts", "opens": 2, "bytes_read": 300, "bytes_written": 0, "reads": 4, "writes": 0, "changes": 0,
         "duration_us": 12},
        {"file": "/tmp/b\u001b[31mig2", "opens": 0, "bytes_read": 0, "bytes_written": 0, "reads": 0, "writes": 0,
         "changes": 1, "duration_us": 0}], "files")
    equal(of("endpoint"), [
        {"ip": "10.0.0.7", "net_transport": "IP.TCP", "port": 8080, "direction": "in", "names": [], "connections": 3,
         "duration": 15, "bytes_sent": 3000, "bytes_received": 3},
        {"ip": "10.0.0.9", "net_transport": "IP.TCP", "port": 80, "direction": "out", "net_protocol": "HTTP",
         "names": ["www.a.test", "a.test"], "connections": 1, "duration": 1500, "bytes_sent": 10, "bytes_received": 20}],
          "endpoints")
    equal(of("http"), [
        {"http_method": "GET", "http_host": "www.a.test", "http_status_code": 200, "role": "client", "count": 2,
         "duration_mean": 20, "duration_max": 30, "response_content_length": 1000},
        {"http_method": "POST", "http_host": "www.a.test:80", "count": 1, "response_content_length": 0},
        {"http_method": "PUT", "http_host": "10.0.0.9:80", "count": 1, "response_content_length": 0},
        {"http_method": "PUT", "http_host": "[::1]:80", "count": 1, "response_content_length": 0}], "HTTP")
    equal(of("process"), [
        {"pid": 10, "proc": "curl", "cmd": "curl x", "starts": 1, "duration": 7000, "cpu": 1234567, "mem_peak": 2048,
         "exit_code": 3},
        {"pid": 10, "proc": "curl", "cmd": "curl x", "starts": 1, "duration": 1, "cpu": 2, "mem_peak": 0,
         "signal": "SIGKILL"}], "processes")
    equal(of("counter"), [{"metric": "fs.read", "total": 301, "unit": "byte"},
                          {"metric": "net.tx", "total": 7, "unit": "byte"}], "counters")
    text = out(ctx, "report").decode()
    check("\033" not in text, "control characters", text)
    for part in ("Files: 3\n", "Network: 2\n", "HTTP: 4\n", "Processes: 2\n", "/tmp/big", "www.a.test a.test", "1s", "SIGKILL"):
        check(part in text, f"no {part} in", text)
    text = out(ctx, "report", "-n", "1").decode()
    check("Files: 3, the first 1\n" in text and "/tmp/big" in text and "/etc/hosts" not in text, text)
    equal(len(objects(ctx, "report", "-j", "-n", "1")), 5, "one of each")


@test()
def report_of_damaged_files(ctx):
    hostile = json.dumps({"type": "evt", "_channel": 5, "body": {
        "sourcetype": "net", "source": "net.open", "pid": "x", "data": {
            "net_transport": "a\x1fb", "net_peer_ip": "1\x1f2\"", "net_peer_port": -1, "net_host_port": 1e99}}}) + "\n"
    path = write_events(ctx, 1, some_events()[:3], "rubbish\n[1]\n" + hostile + '{"type":"evt","bo')
    result = ctx.tool_run("report", "-j")
    check(b"2 lines are damaged" in result.err, result.describe())
    found = [json.loads(line) for line in result.out.decode().split("\n") if line]
    equal([o["file"] for o in found if o["type"] == "file"], ["/etc/hosts"], "files")
    equal(sum(o["type"] == "endpoint" for o in found), 1, "endpoints")
    (path / "events.json").write_text("")
    (path / "metrics.json").write_text("")
    equal(out(ctx, "report"), b"Nothing was recorded\n", "an empty session")
    (path / "events.json").unlink()
    check("can't read the events" in err(ctx, "report"), "no message")
    meta = json.loads((path / "session.json").read_text())
    (path / "session.json").write_text(json.dumps({**meta, "event_dest": "tcp://h:1"}))
    equal(out(ctx, "report"), b"The events of session 1 went to tcp://h:1\n", "events that went elsewhere")
