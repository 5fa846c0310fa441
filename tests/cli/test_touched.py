# SPDX-License-Identifier: Apache-2.0
"""scope report --touched: what real installers leave behind, as strace saw it, and who did what."""

import json
import os
import re
import shutil
import socket
import threading

from scopetest import check, equal, test
from terminal import Terminal


def touched(ctx, result):
    """The findings of a session by kind, and what the last line says."""
    result.session.wait_end()
    lines = [json.loads(line) for line in ctx.tool_run("report", "--touched", "-j").out.splitlines()]
    check(all(line["type"] == "touched" for line in lines), "type", lines)
    check([i for i, line in enumerate(lines) if line["kind"] == "end"] == [len(lines) - 1], "the end is last, once", lines)
    found = {}
    for line in lines[:-1]:
        found.setdefault(line["kind"], []).append(line)
    return found, lines[-1]


def by_name(findings, key="file"):
    names = [f[key] for f in findings]
    check(len(set(names)) == len(names), "a name twice", names)
    return {f[key]: f for f in findings}


def names(finding):
    return [w["proc"] for w in finding["who"]]


# --- beside strace ---

CALLS = ("open,openat,openat2,creat,mkdir,mkdirat,mknod,mknodat,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,"
         "unlinkat,rmdir,chmod,fchmod,fchmodat,chown,fchown,lchown,fchownat,utime,utimes,utimensat,futimesat,truncate,"
         "ftruncate,fallocate,execve,execveat,chdir")
LINE = re.compile(r"^(\d+) +(\w+)\((.*)\) += (\d+)(?:<.*>)?$")
AT = re.compile(r'(?:(?:AT_FDCWD|\d+)(?:<((?:[^<>\\]|\\.)*)>)?, )?"((?:[^"\\]|\\.)*)"')
SINKS = ("/dev/null", "/dev/tty", "/dev/pts")


def strace_touched(ctx, command, cwd):
    """(names written or made, names removed, programs) of a command as strace tells them. Names are whole in what is run."""
    out = ctx.dir / "strace.out"
    ctx.run([ctx.tool("strace"), "-f", "-y", "-qq", "-e", "trace=" + CALLS, "-e", "signal=none", "-o", out, *command], cwd=cwd,
            check_code=0)
    written, removed, programs, at = set(), set(), [], {}
    for line in out.read_text().splitlines():
        m = LINE.match(line)
        if not m:
            continue
        pid, call, args = m[1], m[2], m[3]
        paths = [os.path.normpath(os.path.join(d or at.get(pid, str(cwd)), p)) for d, p in AT.findall(args)]
        of_fd = re.match(r"\d+<([^>]*)>", args)
        if call == "chdir":
            at[pid] = paths[0]
        elif call in ("open", "openat", "openat2", "creat"):
            if re.search(r"O_CREAT|O_TRUNC|O_WRONLY\|O_APPEND", args) and "O_TMPFILE" not in args or call == "creat":
                written.add(paths[0])
        elif call in ("mkdir", "mkdirat", "mknod", "mknodat"):
            written.add(paths[0])
        elif call.startswith("rename"):
            written.add(paths[1])
            removed.add(paths[0])
        elif call.startswith(("link", "symlink")):
            written.add(paths[-1])
        elif call in ("unlink", "unlinkat", "rmdir"):
            removed.add(paths[0])
        elif call.startswith("exec"):
            programs.append(os.path.realpath(paths[0]))
        elif paths or of_fd:
            written.add(paths[0] if paths else of_fd[1])
    return written, removed, programs


def outside(found, cwd):
    return {p for p in found if not p.startswith((str(cwd) + "/", *SINKS)) and p != str(cwd)}


def beside_strace(ctx, prepare, command, cwd):
    """The same command under strace and under scope, each in a state that prepare() makes."""
    prepare()
    written, removed, programs = strace_touched(ctx, command, cwd)
    prepare()
    found, end = touched(ctx, ctx.scoped(command, ["--lossless"], cwd=cwd, check_code=0))
    equal((end["lost"], end["cut"]), (0, {}), "nothing is missing")
    ours = {f["file"] for f in found.get("write", ()) if set(f["how"]) != {"written"}}
    equal(sorted(outside(ours, cwd)), sorted(outside(written, cwd)), "files written")
    equal({f["file"] for f in found.get("delete", ()) if set(f["how"]) & {"removed", "renamed"}}, removed, "files deleted or renamed")
    equal(sorted({f["exe"] for f in found["program"]}), sorted(set(programs)), "programs")
    equal(sum(f["count"] for f in found["program"]), len(programs), "times that programs were run")
    return found


@test("touched_make_install", timeout=90)
def touched_make_install(ctx):
    """make install: what it leaves, as strace saw it, with whom and how much."""
    source, to = ctx.fresh("source"), ctx.dir / "prefix"
    (source / "tool").write_text("#!/bin/sh\necho tool\n")
    (source / "Makefile").write_text(f"""install:
\tinstall -d {to}/bin {to}/share
\tinstall -m 755 tool {to}/bin/tool
\tln -sf tool {to}/bin/tool-1
\techo setting >{to}/share/conf.new
\tmv {to}/share/conf.new {to}/share/conf
\tcp tool {to}/share/copy
\trm {to}/old
\techo built >built
""")

    def prepare():
        shutil.rmtree(to, ignore_errors=True)
        to.mkdir()
        (to / "old").write_text("before\n")

    found = beside_strace(ctx, prepare, ["make", "-s", "install"], source)
    written = by_name([f for f in found["write"] if not f.get("gone")])
    equal({os.path.basename(p): f["bytes"] for p, f in written.items() if f["bytes"]}, {"tool": 20, "copy": 20}, "bytes")
    check("renamed" in written[f"{to}/share/conf"]["how"] and written[f"{to}/share/conf"]["file_other"] == f"{to}/share/conf.new",
          "the new name", written)
    equal(names(written[f"{to}/bin/tool"])[-1], "install", "who")
    equal(names(written[f"{to}/bin/tool"])[0], "make", "who has started it")
    check("?[" not in ctx.tool_run("report", "--touched").out.decode(), "the first one's parent is no part of it")
    equal(sorted(f["cmd"].split(" -c ")[1] for f in found["program"] if " -c " in f["cmd"]),
          ["echo built >built", f"echo setting >{to}/share/conf.new"], "commands of one shell are told apart")
    gone = [f for f in found["write"] if f.get("gone")]
    equal([f["file"] for f in gone], [f"{to}/share/conf.new"], "is called otherwise now")
    deleted = by_name(found["delete"])
    check(not deleted[f"{to}/old"].get("own") and names(deleted[f"{to}/old"])[-1] == "rm", "what was there before", deleted)
    check(deleted[f"{to}/share/conf.new"].get("own"), "what it had written itself", deleted)
    text = ctx.tool_run("report", "--touched").out.decode()
    check(f"Files written outside of {source}: " in text and "1 more gone again (--all)" in text, "text", text)
    check("Files written inside of the working directory: 1" in text, "what is its own", text)
    check(f"{to}/old" in text and "conf.new  " not in text.split("Files deleted")[1].split("\n\n")[0], "deleted", text)
    check(f"{to}/share/conf.new" in ctx.tool_run("report", "--touched", "--all").out.decode().split("Files deleted")[1], "--all")


@test("touched_dpkg", timeout=90)
def touched_dpkg(ctx):
    """A package of Debian's is installed into a directory."""
    tree, root, deb = ctx.fresh("tree"), ctx.dir / "root", ctx.dir / "hello.deb"
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN" / "control").write_text("Package: hello-touched\nVersion: 1\nArchitecture: all\nMaintainer: A <a@example.org>\n"
                                              "Description: nothing\n")
    (tree / "usr" / "share").mkdir(parents=True)
    (tree / "usr" / "share" / "hello").write_text("hello\n")
    ctx.run(["dpkg-deb", "--root-owner-group", "-b", tree, deb], check_code=0)

    def prepare():
        shutil.rmtree(root, ignore_errors=True)
        (root / "var/lib/dpkg/info").mkdir(parents=True)
        (root / "var/lib/dpkg/updates").mkdir()
        (root / "var/lib/dpkg/status").write_text("")
        (root / "var/lib/dpkg/available").write_text("")

    cwd = ctx.fresh("elsewhere")
    found = beside_strace(ctx, prepare, ["dpkg", f"--root={root}", "--force-all", "--log=/dev/null", "-i", deb], cwd)
    left = by_name([f for f in found["write"] if not f.get("gone") and names(f)[-1] == "dpkg" and len(f["who"]) == 1])
    check(left[f"{root}/usr/share/hello"]["how"] and os.path.exists(f"{root}/usr/share/hello"), "the package's file", left)
    for name in left:
        check(os.path.lexists(name), f"{name} is said to be there, and isn't")
    for f in found["write"]:
        check(not f.get("gone") or not os.path.lexists(f["file"]), f"{f['file']} is said to be gone, and is there")


@test("touched_npm", timeout=150)
def touched_npm(ctx):
    """A package of npm's whose script looks around: secrets, a host, a file of the user's, a program, and by whom."""
    home, package, project = ctx.fresh("user"), ctx.fresh("package"), ctx.fresh("project")
    (home / ".ssh").mkdir()
    (home / ".ssh" / "id_ed25519").write_text("private\n")
    (home / ".ssh" / "id_ed25519.pub").write_text("public\n")
    (home / ".bashrc").write_text("alias l=ls\n")
    (home / "notes").write_text("mine\n")
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    received = []

    def serve():
        peer = listener.accept()[0]
        received.append(peer.recv(100))
        peer.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    (package / "package.json").write_text(json.dumps({"name": "helpful", "version": "1.0.0", "scripts": {"install": "sh look.sh"}}))
    (package / "look.sh").write_text(f"""cat {home}/.ssh/id_ed25519 {home}/.ssh/id_ed25519.pub >/dev/null
echo alias ls=true >>{home}/.bashrc
rm {home}/notes
exec node look.js
""")
    (package / "look.js").write_text(f"""require("net").connect({port}, "127.0.0.1", function () {{ this.end("0123456789") }})
require("http").createServer().listen(0, "127.0.0.1", function () {{ this.close() }})
""")
    ctx.run(["npm", "pack", "--silent", package], cwd=ctx.dir, env=ctx.env(HOME=home), check_code=0, timeout=60)
    result = ctx.scoped([ctx.tool("npm"), "install", "--offline", "--no-audit", "--no-fund", "--foreground-scripts",
                         ctx.dir / "helpful-1.0.0.tgz"], cwd=project, env=ctx.env(HOME=home), check_code=0, timeout=100)
    thread.join(10)
    equal(received, [b"0123456789"], "what the script has sent")
    found, end = touched(ctx, result)
    equal((end["dir"], end["lost"]), (str(project), 0))
    check(end["files_inside"] >= 3 and (project / "node_modules/helpful/look.sh").exists(), "files of the project", end)
    secrets = by_name(found["secret"])
    equal(list(secrets), [f"{home}/.ssh/id_ed25519"], "secrets")
    secret = secrets[f"{home}/.ssh/id_ed25519"]
    equal((secret["bytes"], secret["count"], secret["how"], secret["entry"]), (8, 1, ["opened", "read"], "id_ed25519"))
    check(names(secret)[-1] == "cat" and names(secret)[-2] == "sh" and len(secret["who"]) >= 3, "by whom", secret)
    written = [f for f in found["write"] if f["file"] == f"{home}/.bashrc"]
    equal([(f["bytes"], names(f)[-1]) for f in written], [(14, "sh")], "the user's file")
    check(not any(f["file"].startswith(str(project)) for f in found["write"]), "files of the project are its own", found["write"])
    equal([(f["file"], names(f)[-1]) for f in found["delete"] if f["file"].startswith(f"{home}/n")], [(f"{home}/notes", "rm")], "deleted")
    hosts = [f for f in found["host"] if f["port"] == port]
    equal([(f["ip"], f["bytes_sent"], f["bytes_received"], f["direction"], f["count"]) for f in hosts],
          [("127.0.0.1", 10, 0, "out", 1)], "hosts")
    equal(names(hosts[0])[-1], "node")
    equal([(f["ip"], f["net_transport"], names(f)[-1]) for f in found["listen"]], [("127.0.0.1", "IP.TCP", "node")], "ports")
    equal(sorted({os.path.basename(f["exe"]) for f in found["program"]} & {"cat", "rm", "node"}), ["cat", "node", "rm"], "programs")
    for f in found["program"] + found["write"]:
        pids = [w["pid"] for w in f["who"]]
        check(len(set(pids)) == len(pids) and "ppid" in f["who"][0], "a chain", f)
    lines = Terminal(ctx, "report", "--touched", columns=80).end().splitlines()
    check(all(len(line) <= 80 or " outside of " in line for line in lines), "wider than the terminal", lines)
    check(any("…" in line and line.endswith(f"cat[{secret['who'][-1]['pid']}]") for line in lines), "a secret, and who, in 80 columns", lines)


# --- what has names in other ways, and what is missing ---

@test("touched_names")
def touched_names(ctx):
    """Relative names, links, copies of descriptors, directories, devices, names with strange bytes."""
    top = ctx.fresh("user")
    work, other = top / "work", top / "other"
    work.mkdir()
    other.mkdir()
    (top / ".env").write_text("TOKEN=1\n")
    (top / ".env.example").write_text("TOKEN=\n")
    (other / "there").write_text("x")
    result = ctx.scoped(["sh", "-ec", f"""
        cat ../.env ../.env.example ./../work/../.env
        echo 1 >../other/plain
        cd ../other
        echo 2 >./relative
        exec 3>>{other}/appended 4>&3
        echo 3 >&4
        ln ../.env harmless
        ln -s ../.env symbolic
        cat symbolic
        : <there
        mkdir made
        rmdir made
        mv there "$(printf 'two\\nlines')"
        echo >/dev/null
        ls -a .. >/dev/null
        touch -d @0 plain
        """], cwd=work, env=ctx.env(HOME=top), check_code=0)
    found, _ = touched(ctx, result)
    read = by_name([f for f in found["secret"] if names(f)[-1] == "cat"])
    equal({k: (f["count"], f["bytes"]) for k, f in read.items()}, {f"{top}/.env": (2, 16)}, "secrets that were opened by their names")
    equal([(f["file"], f["how"], f["count"]) for f in found["secret"] if names(f)[-1] == "ln"], [(f"{top}/.env", ["linked"], 2)],
          "got other names")
    equal(sorted({os.path.relpath(f["file"], other) for f in found["write"] if not f.get("gone")}),
          ["appended", "harmless", "plain", "relative", "symbolic", "two\nlines"], "written")
    equal([(f["file"], f["how"]) for f in found["write"] if f.get("gone")], [(f"{other}/made", ["made"])], "made and removed")
    equal({os.path.basename(f["file"]): (f["how"], f.get("own", False)) for f in found["delete"]},
          {"made": (["removed"], True), "there": (["renamed"], False)}, "deleted")
    text = ctx.tool_run("report", "--touched").out.decode()
    check("two\\nlines" in text and "\ntwo" not in text, "a name with a newline", text)


@test("touched_says_what_is_missing")
def touched_says_what_is_missing(ctx):
    """Events that were held back, a session without any, and events that went elsewhere."""
    limited = ctx.scoped(["sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do echo >>../f$i; done"], cwd=ctx.fresh("a"),
                         env=ctx.env(SCOPE_EVENT_MAXEPS="5"), check_code=0)
    _, end = touched(ctx, limited)
    check(end["lost"] > 0, "events held back", end)
    text = ctx.tool_run("report", "--touched").out.decode()
    check(f"This list may be incomplete: {end['lost']} events were held back" in text, "text", text)
    off = ctx.scoped(["true"], env=ctx.env(SCOPE_EVENT_ENABLE="false"), check_code=0)
    off.session.wait_end()
    equal(ctx.tool_run("report", "--touched").out, b"Nothing was recorded\n")


@test("touched_uses_the_list_of_the_session")
def touched_uses_the_list_of_the_session(ctx):
    """notice.file.read of the configuration that the session was recorded with, also where notices are off."""
    for name in ("mine.secret", ".env"):
        (ctx.dir / name).write_text("x\n")
    result = ctx.scoped(["cat", "mine.secret", ".env"], env=ctx.env(SCOPE_NOTICE_FILE_READ="*.secret"), check_code=0)
    found, _ = touched(ctx, result)
    equal([(os.path.basename(f["file"]), f["entry"]) for f in found["secret"]], [("mine.secret", "*.secret")])


@test("touched_of_a_service")
def touched_of_a_service(ctx):
    """What has come in is told from what went out by the ports that somebody listens at; listening again is no other port."""
    result = ctx.scoped([ctx.tool("python3"), "-c", """
import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
s.listen(1)
s.listen(2)
c = socket.create_connection(s.getsockname())
a = s.accept()[0]
c.sendall(b"12345")
a.sendall(a.recv(9)[:2])
c.recv(9)
u = socket.socket(socket.AF_UNIX)
u.bind("\\0touched-%d" % __import__("os").getpid())
u.listen()
"""], check_code=0)
    found, _ = touched(ctx, result)
    equal([(f["count"], f["net_transport"]) for f in found["listen"]], [(1, "IP.TCP")], "ports")
    equal([(f["direction"], f["bytes_sent"], f["bytes_received"], f["port"] == found["listen"][0]["port"]) for f in found["host"]],
          [("out", 5, 2, True), ("in", 2, 5, True)], "both ends")
