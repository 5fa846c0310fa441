# SPDX-License-Identifier: Apache-2.0
"""Notices: each kind by a real program, none when they are off, none by ordinary work, and what is held back is told."""

import os
import shutil
import signal
import socket
import threading
from contextlib import contextmanager, suppress

from scopetest import Session, check, equal, free_port, test
from traffic import CURL, PYTHON, running

NOTICES = ["--notices"]


def notices(session):
    """(source, data) of each, in order."""
    session.wait_end()
    found = [(e["source"], e["data"]) for e in session.events("notice", sync=False)]
    for source, data in found:
        check(data["rule"].startswith(("notice.file.system" if source == "notice.file.mode" else "notice." if source in ("notice.held", "notice.dns") else source)),
              "source and rule", (source, data))
    return found


def brief(found, *fields):
    return [(source, *(os.path.basename(str(data.get(f))) for f in fields)) for source, data in found]


def home(ctx, *names):
    """A home directory with these files, and the environment for it."""
    top = ctx.fresh("user")
    for name in names:
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("secret\n")
    return top, ctx.env(HOME=top)


@test("notices_files")
def notices_files(ctx):
    """What reads a secret, and what writes to the system, each once and by its own name."""
    top, env = home(ctx, ".ssh/id_x", ".ssh/id_x.pub", ".ssh/known_hosts", ".aws/credentials", "app/.env", "libc.so.6", "a b.c..d", ".bashrc")
    system = ctx.fresh("system")
    (system / "old").write_text("")
    env.update(SCOPE_NOTICE_FILE_WRITE=f"default,{system}", SCOPE_NOTICE_FILE_SYSTEM=f"{system}")
    result = ctx.scoped(["sh", "-ec", f"""
        cat .ssh/id_x .ssh/id_x.pub .ssh/known_hosts libc.so.6 'a b.c..d' .aws/credentials app/../app/.env
        ls .ssh
        echo >>{system}/new
        echo >>.bashrc
        chmod 4755 {system}/new
        chmod 666 {system}/old
        cat {system}/old
        mv {system}/new {system}/newer
        mv libc.so.6 {system}/libc.so.6
        rm {system}/newer
        mkdir {system}/directory
        chmod 2755 {system}/directory
        ln .ssh/id_x harmless
        ln -s {top}/.aws/credentials link
        rm harmless link
        """], NOTICES, cwd=top, env=env, check_code=0)
    equal(brief(notices(result.session), "why", "file", "rule"), [
        ("notice.file.read", "opened for reading", "id_x", "notice.file.read: .ssh"),
        ("notice.file.read", "opened for reading", "credentials", "credentials"),
        ("notice.file.read", "opened for reading", ".env", "notice.file.read: .env"),
        ("notice.file.write", "opened for writing", "new", "system"),
        ("notice.file.write", "opened for writing", ".bashrc", "notice.file.write: .bashrc"),
        ("notice.file.write", "changed", "new", "system"),
        ("notice.file.mode", "becomes set-user-ID", "new", "system"),
        ("notice.file.write", "changed", "old", "system"),
        ("notice.file.mode", "becomes writable by everybody", "old", "system"),
        ("notice.file.mode", "everybody can write to it", "old", "system"),
        ("notice.file.write", "renamed", "new", "system"),
        ("notice.file.write", "another file was given this name", "libc.so.6", "system"),
        ("notice.file.write", "removed", "newer", "system"),
        ("notice.file.write", "made", "directory", "system"),
        ("notice.file.write", "changed", "directory", "system"),
        ("notice.file.read", "linked under another name", "id_x", "notice.file.read: .ssh"),
        ("notice.file.read", "a symbolic link to it was made", "credentials", "credentials"),
    ], "notices")
    # The same without the switch.
    (top / "libc.so.6").write_text("")
    result = ctx.scoped(["sh", "-c", f"cat .ssh/id_x; echo >>{system}/new; chmod 4755 {system}/new"], cwd=top, env=env, check_code=0)
    equal(notices(result.session), [], "notices when they are off")


@test("notices_exec")
def notices_exec(ctx):
    """Programs that others can change, and such as have no file."""
    true = shutil.which("true")
    places = {}
    for name, mode, owner in (("private", 0o755, 0), ("open", 0o777, 0), ("sticky", 0o1777, 0), ("others", 0o755, 65533)):
        places[name] = ctx.fresh(name)
        shutil.copy(true, places[name] / "program")
        os.chmod(places[name], mode)
        os.chown(places[name], owner, -1)
    (places["open"] / "below").mkdir(mode=0o755)
    (places["sticky"] / "below").mkdir(mode=0o755)
    for name in ("open", "sticky"):
        shutil.copy(true, places[name] / "below" / "program")
    script = places["open"] / "script"
    script.write_text("#!/bin/sh\n:\n")
    script.chmod(0o755)
    shutil.copy(true, places["private"] / "writable")
    os.chmod(places["private"] / "writable", 0o777)
    shutil.copy(true, places["private"] / "foreign")
    os.chown(places["private"] / "foreign", 65533, -1)
    os.symlink(places["sticky"] / "program", places["private"] / "link")
    result = ctx.scoped(["sh", "-ec", """
        for p in private/program private/link open/program sticky/program others/program open/below/program sticky/below/program open/script \\
                 private/writable private/foreign; do
            $PWD/$p
        done
        cp sticky/program private/here
        cd private
        ./here"""], NOTICES, check_code=0)
    found = [(data["file"].removeprefix(f"{ctx.dir}/"), data["place"].removeprefix(f"{ctx.dir}/"), data["why"])
             for source, data in notices(result.session)]
    directory, above = "everybody can write to the program's directory", "everybody can write to a directory above the program"
    equal(found, [
        ("sticky/program", "sticky", directory), # by the link, which is in order
        ("open/program", "open", directory),
        ("sticky/program", "sticky", directory),
        ("others/program", "others", "a directory that the program lies in belongs to another user"),
        ("open/below/program", "open", above),
        ("open/script", "open", directory),
        ("private/writable", "private/writable", "everybody can write to the program"),
        ("private/foreign", "private/foreign", "the program belongs to another user"),
    ], "notices")
    memory = """if 1:
        import os
        fd = os.memfd_create("in memory")
        os.write(fd, open("private/program", "rb").read())
        os.execve(fd, ["x"], dict(os.environ))"""
    result = ctx.scoped([PYTHON, "-c", memory], NOTICES, check_code=0)
    (source, data), = notices(result.session)
    equal((source, data["why"], data["file"]), ("notice.exec", "the program is in memory only", "/memfd:in memory"), "memfd")
    equal(data["rule"], "notice.exec.deleted", "rule")


@test("notices_deleted")
def notices_deleted(ctx):
    """A program whose file is removed: by itself, at once; by somebody else, when the next period ends."""
    place = ctx.fresh("private")
    shutil.copy(shutil.which("rm"), place / "remove")
    shutil.copy(shutil.which("sleep"), place / "wait (deleted)") # the name is no proof
    shutil.copy(shutil.which("sleep"), place / "wait")
    result = ctx.scoped([place / "remove", place / "remove"], NOTICES, check_code=0)
    equal([(d["why"], d["file"]) for _, d in notices(result.session)], [("the program removes its own file", f"{place}/remove")], "notices")
    before = set(ctx.sessions())
    process = ctx.start(ctx.scope_argv([PYTHON, "-c", f"""if 1:
        import os, subprocess
        both = [subprocess.Popen([{str(place)!r} + name, "1000"]) for name in ("/wait", "/wait (deleted)")]
        os.unlink({str(place / "wait")!r})
        for p in both:
            p.wait()"""], NOTICES), env=ctx.env(SCOPE_SUMMARY_PERIOD=1))
    session = Session(ctx, ctx.wait_for(lambda: [*set(ctx.sessions()) - before], "a session")[0])
    found = ctx.wait_for(lambda: session.events("notice"), "a notice", 60)
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(20)
    equal([(e["data"]["why"], e["data"]["file"], e["proc"]) for e in found],
          [("the file of the program was removed", f"{place}/wait", "wait")], "notices")


@contextmanager
def resolver(answer):
    """A name server that sends answer(query, its question) back, on the loopback interface; yields its port."""
    with socket.socket(type=socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        s.settimeout(120)

        def serve():
            with suppress(OSError):
                while True:
                    query, peer = s.recvfrom(4096)
                    end = query.index(b"\0", 12) + 5
                    s.sendto(answer(query[:2], query[12:end]), peer)
        threading.Thread(target=serve, daemon=True).start()
        yield s.getsockname()[1]


def record(kind, data):
    return b"\xc0\x0c" + kind.to_bytes(2, "big") + b"\0\1\0\0\0\x3c" + len(data).to_bytes(2, "big") + data


def response(number, question, *records):
    return number + b"\x81\x80\0\1" + len(records).to_bytes(2, "big") + b"\0\0\0\0" + question + b"".join(records)


# Looks up the names of its arguments, and connects to what it is told.
LOOK_UP = """if 1:
    import os, socket, sys
    port, names = int(sys.argv[1]), sys.argv[2:]
    for number, name in enumerate(names):
        with socket.socket(type=socket.SOCK_DGRAM) as s:
            s.settimeout(60)
            s.connect(("127.0.0.1", port))
            labels = b"".join(bytes([len(l)]) + l for l in os.fsencode(name).split(b"."))
            s.send(number.to_bytes(2, "big") + b"\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0" + labels + b"\\0\\0\\1\\0\\1")
            answer = s.recv(4096)
        if answer[-6:-4] == b"\\0\\4":
            with socket.socket() as s:
                s.connect_ex((socket.inet_ntoa(answer[-4:]), 9))
"""


@test("notices_net")
def notices_net(ctx):
    """Connections to peers that are denied, by address and by name, and to such as aren't allowed."""
    port = free_port()
    with running(ctx, [PYTHON, "-m", "http.server", "--bind", "127.0.0.1", port], port):
        result = ctx.scoped([*CURL, f"http://127.0.0.1:{port}/"], NOTICES, env=ctx.env(SCOPE_NOTICE_NET_DENY="127.0.0.0/9"), check_code=0)
        (source, data), = notices(result.session)
        equal((source, data["rule"], data["net_peer_ip"], data["net_peer_port"]),
              ("notice.net", "notice.net.deny: 127.0.0.0/9", "127.0.0.1", port), "denied")
        env = ctx.env(SCOPE_NOTICE_NET_DENY="127.128.0.0/9,10.0.0.0/8", SCOPE_NOTICE_NET_ALLOW="192.0.2.0/24")
        result = ctx.scoped([*CURL, f"http://127.0.0.1:{port}/"], NOTICES, env=env, check_code=0)
        equal(notices(result.session), [], "this host is allowed")
    # Nothing is sent: a datagram socket is only told its peer. Where there is no route the attempt is told.
    code = """if 1:
        import socket
        for family, to in ((socket.AF_INET, "192.0.2.7"), (socket.AF_INET, "198.51.100.7"), (socket.AF_INET6, "::1")):
            with socket.socket(family, socket.SOCK_DGRAM) as s:
                s.connect_ex((to, 9))"""
    env = ctx.env(SCOPE_NOTICE_NET_DENY="[::1]", SCOPE_NOTICE_NET_ALLOW="192.0.2.0/24")
    found = notices(ctx.scoped([PYTHON, "-c", code], NOTICES, env=env, check_code=0).session)
    equal([(d["rule"], d["net_peer_ip"]) for _, d in found],
          [("notice.net.allow", "198.51.100.7"), ("notice.net.deny: [::1]", "::1")], "not allowed")
    with resolver(lambda number, question: response(number, question, record(1, bytes([127, 0, 0, question[1]])))) as port:
        env = ctx.env(SCOPE_NOTICE_NET_DENY="*.bad.test", SCOPE_EVENT_DNS="false", SCOPE_METRIC_DNS="false")
        names = ["a.good.test", "B.Bad.test", "c.bad.test.example", "bad.test"]
        found = notices(ctx.scoped([PYTHON, "-c", LOOK_UP, port, *names], NOTICES, env=env, check_code=0).session)
        equal([(s, d["rule"], d["domain"], d["net_peer_ip"]) for s, d in found], [
            ("notice.dns", "notice.net.deny: *.bad.test", "B.Bad.test", "127.0.0.1"),
            ("notice.net", "notice.net.deny: *.bad.test", "B.Bad.test", "127.0.0.66"),
        ], "by name")


@test("notices_dns")
def notices_dns(ctx):
    """Messages that are too long, of an unusual kind, or not well formed."""
    def answer(number, question):
        kind = question[1:3]
        if kind == b"nu":
            return response(number, question, record(10, b"hidden"))
        if kind == b"lo":
            return response(number, question, *(record(16, b"\xff" + b"x" * 255) for _ in range(10)))
        if kind == b"cu":
            return response(number, question, record(1, b"\x7f\0\0\1"))[:-3]
        if kind == b"un":
            return response(number, question[:-3])
        return response(number, question, record(1, b"\x7f\0\0\1"))

    names = ["plain.test", "b\udcff.test", ".".join("a" * 60), ".".join(["x" * 50] * 3), "nu.test", "lo.test", "cu.test", "un.test",
             "_service._tcp.a-b.test", "9." * 32 + "ip6.arpa", "a b.test"]
    with resolver(answer) as port:
        result = ctx.scoped([PYTHON, "-c", LOOK_UP, port, *names], NOTICES, check_code=0)
    found = {}
    for source, data in notices(result.session):
        equal(source, "notice.dns", "source")
        equal((data.get("role", "client"), data["net_peer_port"]), ("client", port), "whose")
        found.setdefault(data.get("domain"), set()).add((data["rule"].rpartition(".")[2], data.get("length"), data.get("labels"), data.get("record_type")))
    equal(found.pop(None), {("malformed", None, None, None)}, "not even the question")
    (rule, length, _, _), = found.pop("lo.test")
    check(rule == "maxlength" and 2048 < length < 4096, "length", (rule, length))
    equal(found, {
        "b\\255.test": {("malformed", None, None, None)},
        ".".join("a" * 60): {("maxlabels", None, 60, None)},
        ".".join(["x" * 50] * 3): {("maxname", 152, None, None)},
        "nu.test": {("types", None, None, "TYPE10")},
        "cu.test": {("malformed", None, None, None)},
    }, "notices")


@test("notices_send")
def notices_send(ctx):
    """A secret that leaves by sendfile(2); other files, and other ways, are not told."""
    _, env = home(ctx, ".ssh/id_x", "page.html", ".aws/credentials")
    code = """if 1:
        import os, socket
        server = socket.create_server(("127.0.0.1", 0))
        inet = socket.create_connection(server.getsockname()), server.accept()
        unix = socket.socketpair()
        for name in (".ssh/id_x", "page.html"):
            with open(os.environ["HOME"] + "/" + name, "rb") as f:
                for s in (unix[0], inet[0]):
                    f.seek(0)
                    assert os.sendfile(s.fileno(), f.fileno(), 0, 7) == 7
        last = open(os.environ["HOME"] + "/.aws/credentials", "r+b")
        os.sendfile(inet[0].fileno(), last.fileno(), 0, 3)
        os._exit(0)"""
    found = notices(ctx.scoped([PYTHON, "-c", code], NOTICES, env=env, check_code=0).session)
    equal(brief(found, "file", "rule"), [("notice.file.read", "id_x", "notice.file.read: .ssh"),
                                         ("notice.file.send", "id_x", "notice.file.send: .ssh"),
                                         ("notice.file.read", "credentials", "credentials"),
                                         ("notice.file.send", "credentials", "credentials")], "notices")
    equal((found[1][1]["bytes"], found[1][1]["net_peer_ip"], found[1][1]["op"]), (14, "127.0.0.1", "sendfile"), "what was sent")
    # Not closed, and writable: by whom it went is not known then.
    equal((found[3][1]["bytes"], "net_peer_ip" in found[3][1], found[3][1]["why"]), (3, False, "sent through a socket"), "at the end")


@test("notices_limit")
def notices_limit(ctx):
    """What is held back is counted by rule; the sum is what happened. A flood of other events hides nothing."""
    top, env = home(ctx, ".ssh/id_x", ".aws/credentials")
    env.update(SCOPE_NOTICE_MAXPERRULE=5, SCOPE_EVENT_MAXEPS=1)
    env = {k: str(v) for k, v in env.items()}
    code = """if 1:
        for i in range(500):
            open(".ssh/id_x").close()
            open("/dev/null").close()
        open(".aws/credentials").close()"""
    session = ctx.scoped([PYTHON, "-c", code], NOTICES, cwd=top, env=env, check_code=0).session
    found = notices(session)
    told = [d["rule"] for s, d in found if s == "notice.file.read"]
    held = [d for s, d in found if s == "notice.held"]
    equal(told.count("notice.file.read: .ssh") + sum(d["held"] for d in held), 500, "told and held back")
    check(5 <= told.count("notice.file.read: .ssh") < 500, "told", told)
    equal(told.count("notice.file.read: .aws/credentials"), 1, "the other rule")
    equal({d["rule"] for d in held}, {"notice.file.read: .ssh"}, "rules with something held back")
    equal(held[-1]["held_total"], sum(d["held"] for d in held), "total")
    report = ctx.tool_run("report")
    check(b"Notices: 2" in report.out and b"notice.file.read: .ssh" in report.out, "scope report", report.describe())


@test("notices_hostile")
def notices_hostile(ctx):
    """Names may be any bytes: none gets to the terminal as it is, each notice is one line of valid JSON."""
    top, env = home(ctx, ".ssh/id_x")
    code = r"""if 1:
        import os
        for name in (b"a\nnotice: all is well", b"\x1b]0;title\x07\x1b[2J", b"\xff\xfe\xc0\x80", b"\xe2\x80\xae\xc2\x9b31m", b"\"\\,'"):
            with open(b".ssh/" + name, "w"):
                pass
            open(b".ssh/" + name).close()
        os.chdir(".ssh")
        for _ in range(17):
            os.mkdir("d" * 240)
            os.chdir("d" * 240)
        open("deep", "w").close()
        open("deep").close()"""
    session = ctx.scoped([PYTHON, "-c", code], NOTICES, cwd=top, env=dict(env, SCOPE_NOTICE_MAXPERRULE="0"), check_code=0).session
    found = [d["file"] for s, d in notices(session) if s == "notice.file.read"]
    equal(len(found), 6, "reads")
    equal(found[0], f"{top}/.ssh/a\nnotice: all is well", "newline")
    check(found[5].endswith("/deep") and len(found[5]) > 4096, "a deep name", found[5][-300:])
    shown = ctx.tool_run("events", "-a", "-t", "notice", "--color=never").out
    equal(shown.count(b"\n"), len(notices(session)), "lines")
    check(not any(c in shown for c in (b"\x1b", b"\x07", b"\xe2\x80\xae", b"\xc2\x9b")), "control characters", shown[:2000])
    shown = ctx.tool_run("report").out
    check(b"\x1b" not in shown and b"\x07" not in shown, "control characters in the report", shown[:2000])


@test("notices_ordinary", timeout=120)
def notices_ordinary(ctx):
    """Work that is nobody's business: git, a compiler, Python, a web server. The lists are the default ones."""
    top, env = home(ctx, "site/index.html", "site/libc.so.6")
    result = ctx.scoped(["sh", "-ec", """
        git init -q repo
        cd repo
        printf 'int main(void) { return 0; }\\n' >main.c
        git add main.c
        git -c user.name=a -c user.email=a@b.test commit -qm 'a commit'
        git log >/dev/null
        gcc -O2 -o main main.c
        ./main
        python3 -c 'import json, socket, subprocess; subprocess.run(["ls", "-l"], stdout=subprocess.DEVNULL)'
        tar -cf ../repo.tar .
        """], NOTICES, cwd=top, env=env, check_code=0)
    equal(notices(result.session), [], "notices")
    port, place = free_port(), ctx.fresh("nginx")
    (place / "nginx.conf").write_text(f"""
        daemon off; pid {place}/pid; error_log {place}/error.log;
        events {{ }}
        http {{
            access_log {place}/access.log; sendfile on;
            client_body_temp_path {place}/t1; proxy_temp_path {place}/t2; fastcgi_temp_path {place}/t3;
            uwsgi_temp_path {place}/t4; scgi_temp_path {place}/t5;
            server {{ listen 127.0.0.1:{port}; root {top}/site; }}
        }}""")
    with running(ctx, [ctx.tool("nginx"), "-p", place, "-c", place / "nginx.conf", "-e", place / "error.log"], port, NOTICES,
                 stop=signal.SIGQUIT, env=env) as session:
        ctx.run([*CURL, f"http://127.0.0.1:{port}/libc.so.6", "-o", "/dev/null", f"http://127.0.0.1:{port}/index.html"], check_code=0)
    equal(notices(session), [], "notices of nginx")


@test("notices_config")
def notices_config(ctx):
    """Lists are checked; what is wrong is named with what to do."""
    path = ctx.dir / "scope.yml"
    path.write_text("notice:\n  enable: true\n  file:\n    read:\n      - default\n      - /srv/../key\n  net:\n    deny: [10.0.0.0/33, '*.example.com']\n")
    result = ctx.tool_run("config", "check", path, check_code=1)
    text = (result.out + result.err).decode()
    for word in (f"{path}:6: notice.file.read: \"/srv/../key\": write the path without", f"{path}:8: notice.net.deny: \"10.0.0.0/33\": the prefix of an IPv4"):
        check(word in text, "message", text)
    path.write_text("notice:\n  enable: true\n  file:\n    read: [/etc/hostname]\n  maxpersec: 3\n")
    result = ctx.run([ctx.scope, "run", "-u", path, "--", "cat", "/etc/hostname", "/etc/hosts"])
    text = ctx.tool_run("config", "show", path).out.decode()
    check("read: [/etc/hostname]" in text and "deny: []" in text, "config show", text)
