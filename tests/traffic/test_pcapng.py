# SPDX-License-Identifier: Apache-2.0
"""`scope flows --pcapng`: what tshark sees in it is what passed."""

import re
import struct
import zlib

from payloads import START, Payloads
from scopetest import check, equal, test

CHECKSUMS = ["-o", "tcp.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"]


def tshark(ctx, path, where, *fields, more=()):
    """Values of fields, one list for each packet that passes the filter."""
    argv = [ctx.tool("tshark"), "-n", "-r", path, *CHECKSUMS, *more, "-Y", where, "-T", "fields", "-E", "separator=|"]
    for field in fields:
        argv += ["-e", field]
    env = ctx.env(HOME=ctx.dir, XDG_CONFIG_HOME=ctx.dir)
    text = ctx.run(argv, env=env, check_code=0).out.decode()
    return [line.split("|") for line in text.splitlines()]


def packets(ctx, payloads, *flows):
    path = ctx.dir / "out.pcapng"
    ctx.tool_run("flows", "-i", str(payloads.session), "--pcapng", path, *map(str, flows))
    equal(path.stat().st_mode & 0o777, 0o600, "mode of the file")
    return path


def all_good(ctx, path, but="tcp.analysis.lost_segment"):
    for where in ("_ws.malformed", "ip.checksum.status == 0", "tcp.checksum.status == 0", "udp.checksum.status == 0",
                  f"tcp.analysis.flags && !({but})"):
        equal(tshark(ctx, path, where, "frame.number", "_ws.col.Info"), [], where)
    checked = tshark(ctx, path, "tcp.checksum.status == 1 || udp.checksum.status == 1", "frame.number")
    equal(len(checked), len(tshark(ctx, path, "frame", "frame.number")), "packets with a checksum that was verified")


def request(path, host="a.test", method="GET"):
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


def response(body, status="200 OK"):
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def noise(size):
    """Bytes that no dissector takes for anything."""
    return b"".join(struct.pack("<I", zlib.crc32(struct.pack("<I", i))) for i in range(size // 4))


@test("packets_http", timeout=180)
def http(ctx):
    """Requests of clear text and TLS, IPv4, IPv6 and unix sockets, of clients and servers."""
    p = Payloads(ctx, 1)
    p.exchange(request("/plain"), response(b"x"), at=123456789)
    p.exchange(request("/tls"), response(b"x"), tls=True, net_peer_port=443)
    p.exchange(request("/v6"), response(b"x"), net_peer_ip="2001:db8::9", net_host_ip="2001:db8::5")
    p.exchange(request("/served", method="POST"), response(b"", "404 Not Found"), role="server", pid=77, proc="nginx",
               net_host_port=8080, net_peer_port=40000)
    p.exchange(request("/unix"), response(b"x"), net_transport="Unix.TCP", unix_peer_inode=17, unix_local_inode=18,
               net_peer_ip=None, net_host_ip=None, role="client")
    p.exchange(request("/nowhere"), response(b"x"), net_peer_ip=None, net_host_ip=None, role="client")
    path = packets(ctx, p)
    equal(tshark(ctx, path, "http.request", "http.request.method", "http.host", "http.request.uri"),
          [["POST" if u == "/served" else "GET", "a.test", u]
           for u in ("/plain", "/tls", "/v6", "/served", "/unix", "/nowhere")], "requests")
    equal(tshark(ctx, path, "http.response", "http.response.code"),
          [["404" if i == 3 else "200"] for i in range(6)], "responses")
    equal(tshark(ctx, path, 'http.request.uri == "/plain"', "frame.time_epoch", "ip.src", "tcp.srcport", "ip.dst",
                 "tcp.dstport", "frame.interface_name", "frame.comment"),
          [[f"{START // 10**9}.{123456789 + 1000:09}", "10.0.0.5", "51001", "10.0.0.9", "80", "curl[42]",
            "curl, pid 42, descriptor 5, flow 1"]], "the first request")
    equal(tshark(ctx, path, 'http.request.uri == "/tls"', "tcp.dstport", "frame.comment"),
          [["80", "curl, pid 42, descriptor 5, flow 2, plaintext of TLS of port 443"]], "the plaintext of TLS")
    equal(tshark(ctx, path, 'http.request.uri == "/served"', "tcp.dstport", "frame.interface_name"),
          [["8080", "nginx[77]"]], "the request that was served")
    equal(tshark(ctx, path, 'http.request.uri == "/unix"', "ipv6.src", "ipv6.dst"),
          [["fd73:636f:7065:1::12", "fd73:636f:7065:1::11"]], "addresses of unix sockets")
    equal(len(tshark(ctx, path, "tcp.flags.syn == 1", "frame.number")), 12, "SYN")
    equal(len(tshark(ctx, path, "tcp.flags.fin == 1", "frame.number")), 12, "FIN")
    all_good(ctx, path)
    # only one of them
    path = packets(ctx, p, 4)
    equal(tshark(ctx, path, "http.request", "http.request.uri"), [["/served"]], "requests of flow 4")
    # on standard output
    out = ctx.tool_run("flows", "--pcapng", "-", "4").out
    equal(out, path.read_bytes(), "on standard output")


@test("packets_segments", timeout=180)
def segments(ctx):
    """A body longer than packets can be arrives whole."""
    p = Payloads(ctx, 1)
    body = noise(300000)
    flow = p.flow()
    p.data(flow, "out", request("/big"), 1)
    p.data(flow, "in", response(body), 2)
    p.end(flow, 3, "remote")
    path = packets(ctx, p)
    all_good(ctx, path)
    check(len(tshark(ctx, path, "tcp.len > 0", "frame.number")) > 4, "not cut into segments")
    argv = [ctx.tool("tshark"), "-n", "-r", path, "-q", "-z", "follow,tcp,raw,0"]
    text = ctx.run(argv, env=ctx.env(HOME=ctx.dir), check_code=0).out.decode()
    got = bytes.fromhex("".join(re.findall(r"^\t([0-9a-f]+)$", text, re.M)))
    equal(len(got), len(response(body)), "bytes that were received")
    check(got == response(body), "the bytes differ")
    first = tshark(ctx, path, "tcp.flags.fin == 1", "ip.src")
    equal(first[0], ["10.0.0.9"], "who closes first")


@test("packets_gaps", timeout=180)
def gaps(ctx):
    """What was not captured is a missing range, and what follows has its place."""
    p = Payloads(ctx, 1)
    flow = p.flow()
    p.data(flow, "out", request("/a"), 1)
    p.data(flow, "in", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", 2)
    p.gap(flow, "in", 100000, 3)
    p.data(flow, "out", request("/b"), 4)
    p.data(flow, "in", response(b"second"), 5)
    p.end(flow, 6)
    path = packets(ctx, p)
    equal(tshark(ctx, path, "http.request", "http.request.uri"), [["/a"], ["/b"]], "requests")
    lost = tshark(ctx, path, "tcp.analysis.lost_segment", "tcp.seq", "tcp.len")
    head = len(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    equal(lost, [[str(1 + head + 100000), str(len(response(b"second")))]], "the packet behind the gap")
    all_good(ctx, path, "tcp.analysis.lost_segment || tcp.analysis.ack_lost_segment")


@test("packets_reused_and_seen_twice", timeout=180)
def reused_and_seen_twice(ctx):
    """A pair of ports that is used again is another conversation; one that both sides saw is the same."""
    p = Payloads(ctx, 1)
    for i in range(3):
        p.exchange(request(f"/{i}"), response(b"x"), at=i * 10000, net_host_port=50000)
    path = packets(ctx, p)
    equal(tshark(ctx, path, "http.request", "http.request.uri", "tcp.stream"),
          [[f"/{i}", str(i)] for i in range(3)], "requests of a pair that is used again")

    p = Payloads(ctx, 2)
    both = {"net_peer_ip": "127.0.0.1", "net_host_ip": "127.0.0.1"}
    a = p.flow(0, **both, net_host_port=50000, role="client")
    b = p.flow(1, **both, net_host_port=80, net_peer_port=50000, role="server", pid=77, proc="nginx")
    for way, other, data in (("out", "in", request("/loop")), ("in", "out", response(b"x"))):
        sender, receiver = (a, b) if way == "out" else (b, a)
        p.data(sender, "out", data, 10)
        p.data(receiver, "in", data, 20)
    p.end(a, 30, "remote")
    p.end(b, 31, "local")
    path = packets(ctx, p)
    equal(tshark(ctx, path, "http.request", "http.request.uri"), [["/loop"]], "a request that both sides saw")
    equal(tshark(ctx, path, "http.response", "http.response.code"), [["200"]], "its response")
    for where in ("_ws.malformed", "tcp.checksum.status == 0"):
        equal(tshark(ctx, path, where, "frame.number"), [], where)


def h2_frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def h2_literal(name, value):
    """A header field without indexing, no Huffman code (RFC 7541, section 6.2.2)."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


@test("packets_http2", timeout=180)
def http2(ctx):
    p = Payloads(ctx, 1)
    ask = h2_literal(b":method", b"GET") + h2_literal(b":path", b"/two") + h2_literal(b":scheme", b"https") + \
        h2_literal(b":authority", b"a.test")
    for port in (443, 8443):
        flow = p.flow(net_peer_port=port, tls=True, net_protocol="HTTP/2")
        p.data(flow, "out", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + h2_frame(4, 0, 0, b"") + h2_frame(1, 5, 1, ask))
        p.data(flow, "in", h2_frame(4, 0, 0, b"") + h2_frame(1, 5, 1, h2_literal(b":status", b"200")))
        p.end(flow)
    path = packets(ctx, p)
    equal(tshark(ctx, path, "http2.headers.path", "http2.headers.path", "tcp.dstport"), [["/two", "80"]],
          "requests, as tshark finds them by itself")
    as_http2 = ["-d", "tcp.port==80,http2", "-d", "tcp.port==8443,http2"]
    equal(tshark(ctx, path, "http2.headers.path", "http2.headers.path", "tcp.dstport", more=as_http2),
          [["/two", "80"], ["/two", "8443"]], "requests, with Decode As")
    equal(tshark(ctx, path, "http2.headers.status", "http2.headers.status", more=as_http2), [["200"], ["200"]], "status")
    all_good(ctx, path)


def dns_query(number, name):
    labels = b"".join(bytes([len(x)]) + x.encode() for x in name.split("."))
    return struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", 1, 1)


@test("packets_datagrams", timeout=180)
def datagrams(ctx):
    """DNS over UDP and TCP, datagrams without data and the longest ones, sockets without addresses."""
    p = Payloads(ctx, 1)
    flow = p.flow(net_transport="IP.UDP", net_peer_port=53, net_host_port=40000)
    p.data(flow, "out", dns_query(1, "one.test"))
    p.data(flow, "out", dns_query(2, "two.test"))
    p.gap(flow, "in", 100)
    p.end(flow)
    flow = p.flow(tls=True, net_peer_port=853)
    for number, name in ((3, "three.test"), (4, "four.test")):
        q = dns_query(number, name)
        p.data(flow, "out", struct.pack(">H", len(q)) + q)
    p.end(flow)
    flow = p.flow(net_transport="IP.UDP", net_peer_port=9999, net_host_ip=None, net_host_port=None)
    p.data(flow, "out", b"")
    p.data(flow, "out", noise(65504))
    p.data(flow, "in", b"odd")
    p.end(flow)
    flow = p.flow(net_transport="Unix.UDP", net_peer_ip=None, net_host_ip=None, unix_peer_inode=3, unix_local_inode=0)
    p.data(flow, "out", b"\x01\x02")
    path = packets(ctx, p)
    equal(tshark(ctx, path, "dns", "dns.id", "dns.qry.name"),
          [[f"0x{i:04x}", f"{n}.test"] for i, n in enumerate(("one", "two", "three", "four"), 1)], "DNS")
    equal(tshark(ctx, path, "udp.port == 9999", "udp.length", "ip.src"),
          [["8", "0.0.0.0"], [str(8 + 65504), "0.0.0.0"], ["11", "10.0.0.9"]], "datagrams")
    equal(tshark(ctx, path, "ipv6", "ipv6.src", "ipv6.dst", "udp.length"),
          [["fd73:636f:7065:2::4", "fd73:636f:7065:1::3", "10"]], "a unix datagram")
    equal(tshark(ctx, path, "udp && tcp.flags.syn == 1", "frame.number"), [], "handshakes of datagrams")
    all_good(ctx, path)


@test("packets_damaged_files", timeout=180)
def damaged_files(ctx):
    """What is there is written; what isn't is told, and is a gap."""
    p = Payloads(ctx, 1)
    flow = p.exchange(request("/a"), response(b"x" * 100))
    whole = (p.dir / f"f{flow}.in").read_bytes()
    (p.dir / f"f{flow}.in").write_bytes(whole[:50])
    gone = p.exchange(request("/b"), response(b"x"))
    (p.dir / f"f{gone}.in").unlink()
    path = ctx.dir / "out.pcapng"
    result = ctx.tool_run("flows", "--pcapng", path, check_code=1)
    check(b"f1.in is shorter than its index says" in result.err and b"1 more pieces" in result.err, "no message",
          result.describe())
    equal(tshark(ctx, path, "http.request", "http.request.uri"), [["/a"], ["/b"]], "requests")
    equal(tshark(ctx, path, "_ws.malformed || tcp.checksum.status == 0", "frame.number"), [], "bad packets")
    # a full disk
    check(b"can't write" in ctx.tool_run("flows", "--pcapng", "/dev/full", check_code=1).err, "no message")
