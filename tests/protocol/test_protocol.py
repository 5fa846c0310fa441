# SPDX-License-Identifier: Apache-2.0
"""The decoders of src/protocol against real clients and servers.

A relay (relay.py) records what passes between them; tell.c decodes it, as it
was recorded and in pieces of 1 and 7 bytes. What is told is compared with what
the client says itself.
"""

import json
import os
import re
import socket
import sys
from pathlib import Path

from scopetest import check, equal, free_port, test

HERE = Path(__file__).resolve().parent
SRC = HERE.parent.parent / "src"
RELAY = [sys.executable, HERE / "relay.py"]


def tell(ctx, kind, record):
    """What is told of each recorded connection: a list of lists of objects."""
    program = ctx.compile(["protocol/tell.c", *(f"../src/{f}.c" for f in (
        "protocol/dns", "protocol/dns_message", "protocol/tls", "base/buf", "base/mem"))], flags=[f"-I{SRC}"])
    connections = []
    for lines in record.read_text().split("--\n"):
        if not lines:
            continue
        told = [ctx.run([program, kind, chunk], stdin=lines.encode(), check_code=0).out for chunk in (0, 1, 7)]
        equal(told[1], told[0], "what is told byte by byte")
        equal(told[2], told[0], "what is told in pieces of 7")
        connections.append([json.loads(line) for line in told[0].decode().splitlines()])
    return connections


# --- DNS ---

ZONE = """
no-resolv
no-hosts
bind-interfaces
listen-address=127.0.0.1
local=/scope.test/
local-ttl=600
max-ttl=600
host-record=www.scope.test,192.0.2.1,2001:db8::1
host-record=a.scope.test,b.scope.test,192.0.2.2
cname=alias.scope.test,www.scope.test
mx-host=scope.test,mail.scope.test,10
srv-host=_ldap._tcp.scope.test,ldap.scope.test,389,1,2
txt-record=txt.scope.test,"v=one two","quote"
ptr-record=_http._tcp.scope.test,"some printer._http._tcp.scope.test"
caa-record=scope.test,0,issue,ca.example
dns-rr=rare.scope.test,65280,0102ff
dns-rr=scope.test,65,000100000100030268320003000201bb
naptr-record=naptr.scope.test,10,20,s,x,!^.*$!y!,target.scope.test
"""


def start_dnsmasq(ctx, port):
    conf = ctx.dir / "dnsmasq.conf"
    long = "".join(f"host-record=many.scope.test,10.0.{i // 200}.{i % 200 + 1}\n" for i in range(60))
    conf.write_text(ZONE + long)
    argv = [ctx.tool("dnsmasq"), "--no-daemon", f"--conf-file={conf}", f"--port={port}", "--user=", "--pid-file="]
    process = ctx.start(argv)

    def answers():
        check(process.poll() is None, "dnsmasq ended")
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) == 0
    ctx.wait_for(answers, "dnsmasq answers")


def dig(ctx, kind, port, *args):
    listen, record = free_port(), ctx.dir / f"record-{free_port()}"
    argv = [*RELAY, kind, listen, port, record, ctx.tool("dig"), "-p", listen, "@127.0.0.1", "+time=5", *args]
    return ctx.run(argv, check_code=0).out.decode(), tell(ctx, f"dns-{kind}", record)


def without_dots(text):
    return " ".join(word[:-1] if word.endswith(".") and len(word) > 1 else word for word in text.split())


def dig_answers(output):
    """The answer section as dig prints it: [name, ttl, type, data]."""
    section = re.search(r";; ANSWER SECTION:\n(.*?)\n\n", output, re.S)
    rows = [line.split(None, 4) for line in section[1].splitlines()] if section else []
    return sorted([without_dots(r[0]), int(r[1]), r[3], without_dots(r[4])] for r in rows)


def check_dig(ctx, kind, port, *args):
    output, connections = dig(ctx, kind, port, *args)
    told = [t for c in connections for t in c]
    header = re.search(r"opcode: (\w+), status: (\w+), id: (\d+)", output)
    check(header, "dig printed no header", output)
    equal([t["told"] for t in told], ["query", "response"], "what was told")
    query, response = told
    question = re.search(r";; QUESTION SECTION:\n;(\S+)\s+(\S+)\s+(\S+)", output)
    for message in told:
        equal(message["id"], int(header[3]), "id")
        equal(message["name"], without_dots(question[1]), "name")
        equal(message["type"], question[3], "type")
        equal(message["malformed"], 0, "malformed")
    equal(query["rd"], 1, "recursion desired")
    equal((query["dir"], response["dir"]), ("tx", "rx"), "directions")
    equal(response["rcode"], header[2], "rcode")
    equal(response["matched"], 1, "matched")
    check(0 < response["duration_ns"] < 5e9, f"duration {response['duration_ns']}")
    got = sorted([a[0], a[1], a[2], without_dots(a[3])] for a in response["answers"])
    equal(got, dig_answers(output), "answers")
    equal(response["ttl"], min((a[1] for a in got), default=-1), "least ttl")
    return query, response


def check_zone(ctx, kind, *flags):
    port = free_port()
    start_dnsmasq(ctx, port)
    for name, kind_of in [("www", "A"), ("www", "AAAA"), ("alias", "A"), ("", "MX"), ("_ldap._tcp", "SRV"), ("txt", "TXT"),
                          ("", "CAA"), ("naptr", "NAPTR"), ("nothing", "A"), ("a", "ANY")]:
        name = f"{name}.scope.test".lstrip(".")
        query, response = check_dig(ctx, kind, port, *flags, name, kind_of)
        check(query["edns_size"] > 0, "dig asks with EDNS")
        check(response["answers"] or name.startswith("nothing"), f"{name} {kind_of}: no answer")
    query, response = check_dig(ctx, kind, port, *flags, "nothing.scope.test", "A")
    equal(response["rcode"], "NXDOMAIN", "rcode")
    _, response = check_dig(ctx, kind, port, *flags, "_http._tcp.scope.test", "PTR")
    equal(response["answers"][0][3], "some\\032printer._http._tcp.scope.test", "PTR")
    # dig prints these in another way than we do.
    _, ((_, response),) = dig(ctx, kind, port, *flags, "rare.scope.test", "TYPE65280")
    equal(response["answers"], [["rare.scope.test", 600, "TYPE65280", "\\# 3 0102ff"]], "TYPE65280")
    _, ((_, response),) = dig(ctx, kind, port, *flags, "scope.test", "HTTPS")
    equal(response["answers"], [["scope.test", 600, "HTTPS", "1 . alpn=h2 port=443"]], "HTTPS")
    query, response = check_dig(ctx, kind, port, *flags, "+noedns", "WWW.Scope.TEST", "A")
    equal(query["edns_size"], -1, "EDNS")


@test(timeout=120)
def test_dig_udp(ctx):
    check_zone(ctx, "udp", "+notcp")


@test(timeout=120)
def test_dig_tcp(ctx):
    check_zone(ctx, "tcp", "+tcp")
    # Several on one connection.
    port = free_port()
    start_dnsmasq(ctx, port)
    output, connections = dig(ctx, "tcp", port, "+tcp", "+keepopen", "www.scope.test", "A", "alias.scope.test", "AAAA",
                              "many.scope.test", "A")
    equal(len(connections), 1, "connections")
    told = connections[0]
    equal([t["told"] for t in told], ["query", "response"] * 3, "what was told")
    equal(len(told[5]["answers"]), 60, "answers")
    equal([t["matched"] for t in told[1::2]], [1, 1, 1], "matched")


@test()
def test_dns_truncated(ctx):
    port = free_port()
    start_dnsmasq(ctx, port)
    _, ((query, response),) = dig(ctx, "udp", port, "+ignore", "+noedns", "many.scope.test", "A")
    equal((response["truncated"], response["matched"], response["rcode"]), (1, 1, "NOERROR"), "truncated response")


@test()
def test_dns_retransmission(ctx):
    """Nobody answers: dig asks three times, with one id."""
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent.bind(("127.0.0.1", 0))
    listen, record = free_port(), ctx.dir / "record"
    ctx.run([*RELAY, "udp", listen, silent.getsockname()[1], record, ctx.tool("dig"), "-p", listen, "@127.0.0.1",
             "+time=1", "+tries=3", "www.scope.test"], check_code=9)
    lines = record.read_text().splitlines()
    equal(len(lines), 3, "datagrams")
    told = tell(ctx, "dns-udp", record)[0]
    if len({line.split()[2][:4] for line in lines}) == 1:
        equal([t["told"] for t in told], ["query", "unanswered"], "what was told")
        equal(told[1]["transmissions"], 3, "transmissions")
    else:  # newer versions take another id each time
        equal([t["told"] for t in told], ["query"] * 3 + ["unanswered"] * 3, "what was told")


@test()
def test_host(ctx):
    port, listen, record = free_port(), free_port(), ctx.dir / "record"
    start_dnsmasq(ctx, port)
    out = ctx.run([*RELAY, "udp", listen, port, record, ctx.tool("host"), "-p", listen, "www.scope.test", "127.0.0.1"],
                  check_code=0).out.decode()
    check("has address 192.0.2.1" in out and "2001:db8::1" in out, out)
    told = tell(ctx, "dns-udp", record)[0]
    answers = {a[3] for t in told for a in t["answers"]}
    equal(answers, {"192.0.2.1", "2001:db8::1"}, "addresses")
    equal(sorted(t["type"] for t in told if t["told"] == "query"), ["A", "AAAA", "MX"], "queries")


@test()
def test_getent(ctx):
    """The C library's own resolver: two questions at once through one socket, port 53. In namespaces of its own."""
    resolv, record, pid_file, port = ctx.dir / "resolv.conf", ctx.dir / "record", ctx.dir / "pid", 5353
    resolv.write_text("nameserver 127.0.0.1\n")
    nss = ctx.dir / "nsswitch.conf"
    nss.write_text("hosts: dns\n")
    conf = ctx.dir / "dnsmasq.conf"
    conf.write_text(ZONE)
    script = """set -e
    ip link set lo up
    mount --bind "$1" /etc/resolv.conf
    mount --bind "$2" /etc/nsswitch.conf
    "$3" --conf-file="$4" --port=$5 --user= --pid-file="$6"
    trap 'kill $(cat "$6")' EXIT
    "$7" "$8" udp 53 $5 "$9" getent ahosts alias.scope.test
    """
    unshare = [ctx.tool("unshare"), "-n", "-m"] + ([] if os.geteuid() == 0 else ["-U", "-r"])
    out = ctx.run([*unshare, "sh", "-c", script, "sh", resolv, nss, ctx.tool("dnsmasq"), conf, port, pid_file, *RELAY,
                   record], check_code=0).out.decode()
    check("192.0.2.1" in out and "2001:db8::1" in out, out)
    told = tell(ctx, "dns-udp", record)[0]
    equal(sorted(t["type"] for t in told if t["told"] == "query"), ["A", "AAAA"], "queries")
    responses = [t for t in told if t["told"] == "response"]
    equal([t["matched"] for t in responses], [1, 1], "matched")
    for t in responses:
        equal([a[2] for a in t["answers"]], ["CNAME", t["type"]], "types of answers")
        equal(t["answers"][0][3], "www.scope.test", "target")


# --- TLS ---

def certificate(ctx):
    key, cert = ctx.dir / "key.pem", ctx.dir / "cert.pem"
    ctx.run([ctx.tool("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
             "-subj", "/CN=scope.test"], check_code=0)
    return key, cert


def wait_for_port(ctx, port):
    def listens():
        rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()]
        return any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)
    ctx.wait_for(listens, f"somebody listens on port {port}")


def start_openssl(ctx, *flags):
    key, cert = certificate(ctx)
    port = free_port()
    ctx.start([ctx.tool("openssl"), "s_server", "-accept", f"127.0.0.1:{port}", "-key", key, "-cert", cert, "-quiet", "-www",
               *flags])
    wait_for_port(ctx, port)
    return port


def s_client(ctx, port, *flags, stdin=b"", code=0):
    listen, record = free_port(), ctx.dir / f"record-{free_port()}"
    ran = ctx.run([*RELAY, "tcp", listen, port, record, ctx.tool("openssl"), "s_client", "-connect", f"127.0.0.1:{listen}",
                   *flags], stdin=stdin, check_code=code)
    return ran.out.decode(errors="replace"), tell(ctx, "tls", record)[0]


GET = b"GET / HTTP/1.0\r\n\r\n"


def check_openssl(ctx, version, *flags):
    port = start_openssl(ctx, "-alpn", "http/1.1", *flags)
    session = ctx.dir / "session"
    for extra, state in [(["-sess_out", session], "new"), (["-sess_in", session], "resumed")]:
        out, told = s_client(ctx, port, "-servername", "www.scope.test", "-alpn", "h2,http/1.1", "-ign_eof", *flags, *extra,
                             stdin=GET)
        client, server, end = told
        said = re.search(r"(New|Reused), (TLSv[\d.]+), Cipher is (\S+)", out)
        check(said, "openssl did not say what was agreed upon", out)
        equal(said[1], {"new": "New", "resumed": "Reused"}[state], "openssl's session")
        equal(end, {"told": "hellos", "alert": None}, "end")
        equal((client["dir"], client["name"], client["alpn"]), ("tx", "www.scope.test", ["h2", "http/1.1"]), "client")
        equal(client["version"], version, "highest version offered")
        equal((server["dir"], server["version"], server["session"]), ("rx", version, state), "server")
        name = ctx.run([ctx.tool("openssl"), "ciphers", "-stdname"], check_code=0).out.decode()
        names = {line.split()[2]: line.split()[0] for line in name.splitlines()}
        equal(server["cipher"], names[said[3]], "cipher suite")
        equal(server["alpn"], "http/1.1" if version == "TLS 1.2" else None, "protocol chosen")
        check(server["duration_ns"] > 0, "duration")


@test()
def test_openssl_tls13(ctx):
    check_openssl(ctx, "TLS 1.3", "-tls1_3")


@test()
def test_openssl_tls12(ctx):
    check_openssl(ctx, "TLS 1.2", "-tls1_2")


@test()
def test_openssl_retry(ctx):
    """The client guesses a group that the server doesn't take."""
    port = start_openssl(ctx, "-groups", "P-384")
    _, told = s_client(ctx, port, "-groups", "X25519:P-384", "-ign_eof", stdin=GET)
    equal([t["told"] for t in told], ["client", "server", "hellos"], "what was told")
    equal(told[1]["retried"], 1, "retried")


@test()
def test_openssl_refused(ctx):
    port = start_openssl(ctx, "-tls1_3")
    _, told = s_client(ctx, port, "-tls1_2", code=1)
    equal(told[1:], [{"told": "alert", "alert": "protocol_version"}], "end")


@test()
def test_gnutls(ctx):
    key, cert = certificate(ctx)
    port = free_port()
    ctx.start([ctx.tool("gnutls-serv"), "--http", "--port", port, "--x509keyfile", key, "--x509certfile", cert, "--quiet"])
    wait_for_port(ctx, port)
    for priority, version in [("NORMAL", "TLS 1.3"), ("NORMAL:-VERS-ALL:+VERS-TLS1.2", "TLS 1.2")]:
        listen, record = free_port(), ctx.dir / f"record-{version[-1]}"
        out = ctx.run([*RELAY, "tcp", listen, port, record, ctx.tool("gnutls-cli"), "--insecure", "--sni-hostname",
                       "gnu.scope.test", "--priority", priority, "--alpn", "h2", "--alpn", "http/1.1", "-p", listen,
                       "127.0.0.1"], stdin=GET).out.decode(errors="replace")
        said = re.search(r"Description: \(TLS([\d.]+)\S*\)-.*-\((\S+)\)", out)
        check(said, "gnutls-cli did not say what was agreed upon", out)
        client, server, end = tell(ctx, "tls", record)[0]
        equal(end["told"], "hellos", "end")
        equal((client["name"], client["alpn"]), ("gnu.scope.test", ["h2", "http/1.1"]), "client")
        equal((client["version"], server["version"], "TLS " + said[1]), (version, version, version), "versions")
        check(said[2].replace("-", "_") in server["cipher"], f"{server['cipher']} is not {said[2]}")
        equal(server["session"], "new", "session")
