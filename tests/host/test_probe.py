# SPDX-License-Identifier: Apache-2.0
"""What /etc/ld.so.preload brings into every program of a host: nobody may notice who isn't named by a rule, and who is
joins the host's collector. Each test has an /etc, a /run and so on of its own, in a mount namespace; the rules are put
together here by hand, and the collector is a socket that takes what comes."""

import array
import contextlib
import functools
import json
import os
import re
import shutil
import socket
import stat
import struct
import subprocess
import threading
from pathlib import Path

from hostbox import HostBox
from hostrules import ALLOW, DENY, SETUP, compiled, numbers
from scopetest import MACHINE, TOP, Session, add_test, check, equal, test

ON, TIMING = 1, 4

class Host:
    """A host of its own: `with Host(ctx) as host`."""

    def __init__(self, ctx, entries=()):
        check(os.geteuid() == 0, "this test makes mount namespaces, which takes root")
        self.ctx = ctx
        where = ctx.fresh(f"host{len(ctx.started)}")
        self.lib = where / "lib" / "libscope.so"
        self.lib.parent.mkdir(mode=0o755)
        shutil.copy(TOP / "lib" / "linux" / MACHINE / "libscope.so", self.lib)
        self.lib.chmod(0o755)
        (where / "etc").mkdir(mode=0o755)
        self.holder = subprocess.Popen([ctx.tool("unshare"), "--mount", ctx.tool("sh"), "-c", SETUP, "sh", str(where / "etc")],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ctx.env())
        equal(self.holder.stdout.readline(), b"ready\n", "what the namespace says")
        self.root = Path(f"/proc/{self.holder.pid}/root")
        self.rules(entries)
        self.joined, self.asked = [], []
        self.ending = threading.Event()
        self.sockets = [self.listen("", self.joined), self.listen("+", self.asked)]
        self.preload(self.lib)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ending.set()
        for sock, thread in self.sockets:
            thread.join()
            sock.close()
        self.holder.stdin.close()
        self.holder.wait()
        self.holder.stdout.close()

    def file(self, path):
        return self.root / str(path).lstrip("/")

    def write(self, path, data, mode=0o644):
        to = self.file(path)
        new = to.with_name(to.name + ".new")
        new.write_bytes(data)
        new.chmod(mode)
        new.rename(to)

    def rules(self, entries, **more):
        self.write("/run/appscope/rules", compiled(entries, **more))

    def preload(self, *libs):
        if libs:
            self.write("/etc/ld.so.preload", "".join(f"{lib}\n" for lib in libs).encode())
        else:
            self.file("/etc/ld.so.preload").unlink(missing_ok=True)

    def listen(self, suffix, to):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        path = self.file("/run/appscope/collector" + suffix)
        sock.bind(str(path))
        path.chmod(0o666)
        sock.listen(128)
        sock.settimeout(0.02)
        thread = threading.Thread(target=self.serve, args=(sock, to))
        thread.start()
        return sock, thread

    def serve(self, sock, to):
        """Takes whatever comes. Who asks for something is told that there is none, so that it doesn't wait."""
        while not self.ending.is_set():
            try:
                peer, _ = sock.accept()
            except TimeoutError:
                continue
            with peer:
                peer.settimeout(5)
                who = struct.unpack("iII", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
                data, control, _, _ = peer.recvmsg(8192, 64)
                fds = array.array("i")
                for _, _, some in control:
                    fds.frombytes(some)
                magic, kind = struct.unpack_from("<II", data)
                size = [os.fstat(fd).st_size for fd in fds]
                for fd in fds:
                    os.close(fd)
                to.append({"kind": kind, "pid": who[0], "size": size, "flags": struct.unpack_from("<I", data, 20)[0]})
                if to is self.asked:
                    with contextlib.suppress(OSError):
                        peer.send(struct.pack("<Ii", magic, -2))

    def run(self, argv, **how):
        return self.ctx.run([self.ctx.tool("nsenter"), f"--mount=/proc/{self.holder.pid}/ns/mnt", "--", *argv], **how)

    def joins(self, want, what):
        """How many processes have joined since this was asked before. A program that joins has sent its segment before
        its first instruction, so only the thread that takes it may be behind."""
        self.ctx.wait_for(lambda: len(self.joined) >= want, f"{want} processes to join: {what}; {self.joined}")
        for sock, _ in self.sockets:  # what came before this one was taken
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as last:
                last.connect(sock.getsockname())
                last.send(struct.pack("<IIQI", 0, 0, 0, 0) + bytes(8))
        for to in (self.joined, self.asked):
            self.ctx.wait_for(lambda to=to: any(j["kind"] == 0 for j in to), "the last one")
            to[:] = [j for j in to if j["kind"]]
        equal(len(self.joined), want, f"processes that joined: {what}; {self.joined}")
        self.joined.clear()


def library_lines(out, lib):
    """What a program has seen (seen.c) without the library: lines, and how many anonymous mappings there were."""
    lines = [line for line in out.decode().splitlines() if str(lib) not in line]
    named = sorted(line for line in lines if line.startswith("mapped") and not line.endswith(" -"))
    anonymous = sum(line.startswith("mapped") and line.endswith(" -") for line in lines)
    return [line for line in lines if not line.startswith("mapped")], named, anonymous


def same_as_bare(host, argv, what, **how):
    """Runs a program without the library and with it: it must find, and do, the same. Both results."""
    host.preload()
    bare = host.run(argv, **how)
    host.preload(host.lib)
    there = host.run(argv, **how)
    equal(bare.err, b"", f"stderr bare: {what}")
    equal((there.code, there.err), (bare.code, bare.err), f"status and stderr: {what}")
    lines, named, anonymous = library_lines(bare.out, host.lib)
    lines2, named2, anonymous2 = library_lines(there.out, host.lib)
    equal(lines2, lines, f"what the program finds: {what}")
    equal(named2, named, f"files that are mapped: {what}")
    return bare, there, anonymous2 - anonymous


def is_loaded(host, result):
    return str(host.lib).encode() in result.out


# --- programs that no rule names ---

OTHERS = [(ALLOW, "nosuchprogram", None, ON), (ALLOW, None, "no such argument", ON), (ALLOW, "seen", "no such", ON),
          (ALLOW, "redis-server", "--port 6379", ON | TIMING)]


def unmatched(ctx, variant):
    program = ctx.compile("host/seen.c", variant)
    with Host(ctx, OTHERS) as host:
        _, there, more = same_as_bare(host, [program, "2", program], variant)
        equal(there.code, 7, "status")
        equal(is_loaded(host, there), variant.startswith("glibc"), "whether the library is loaded")
        check(more <= 3, f"{more} anonymous mappings more in three images; the library itself has one in each")
        host.rules(OTHERS * 500)  # longer than what is read at once
        same_as_bare(host, [program], f"{variant}, many rules")
        host.rules([(ALLOW, None, None, ON), (DENY, program.name, None, 0)])
        same_as_bare(host, [program], f"{variant}, denied")
        host.joins(0, "not named")
        equal(host.asked, [], "requests")


for _variant in ("glibc-O2", "glibc-O0", "static", "musl", "musl-static"):
    add_test("host", f"probe/unmatched/{_variant}", functools.partial(unmatched, variant=_variant))


@test("probe/unmatched-script")
def unmatched_script(ctx):
    """A script, and what it starts."""
    program = ctx.compile("host/seen.c")
    script = ctx.dir / "script"
    script.write_text(f"#!{ctx.tool('sh')}\n{program} 1 {program}\nexec {program} a b\n")
    script.chmod(0o755)
    with Host(ctx, OTHERS) as host:
        same_as_bare(host, [script], "script")
        host.joins(0, "not named")


@test("probe/unmatched-calls")
def unmatched_calls(ctx):
    """What a program that isn't named pays: calls that the loader makes, too, and few of them."""
    program = ctx.compile("host/seen.c")

    def calls(host, preload, entries=OTHERS):
        host.preload(*preload)
        host.rules(entries)
        out = ctx.dir / "calls"
        host.run([ctx.tool("strace"), "-qq", "-o", out, program], check_code=7)
        text = out.read_text(encoding="utf-8", errors="replace").splitlines()
        return [re.match(r"\w+", line).group() for line in text[:next(i for i, s in enumerate(text) if "waitpid" in s or "rt_sigaction" in s)]]

    with Host(ctx) as host:
        bare = calls(host, [])
        there = calls(host, [host.lib])
        check(set(there) <= set(bare) | {"munmap"}, f"other calls than the loader's: {set(there) - set(bare)}")
        check(len(there) - len(bare) <= 18, f"{len(there) - len(bare)} system calls more", *there)
        many = calls(host, [host.lib], OTHERS * 900)
        check(set(many) <= set(bare) | {"munmap"}, f"other calls than the loader's: {set(many) - set(bare)}")
        host.joins(0, "not named")


# --- programs that one names ---


@test("probe/named")
def named(ctx):
    """By name, by argument, by the name of a link; what is exec'ed is decided anew and finds what it finds bare."""
    program = ctx.compile("host/seen.c")
    link = ctx.dir / "another-name"
    link.symlink_to(program)
    script = ctx.dir / "a-script"
    script.write_text(f"#!{ctx.tool('sh')}\nexec {program}\n")
    script.chmod(0o755)
    segment = None
    with Host(ctx) as host:
        for what, entry, argv, count in (
                ("name", (ALLOW, program.name, None, ON), [program], 1),
                ("name, thrice", (ALLOW, program.name, None, ON), [program, "2", program], 3),
                ("argument", (ALLOW, None, "2 " + str(program), ON), [program, "2", program], 1),
                ("both", (ALLOW, program.name, "0 /", ON), [program, "2", program], 1),
                ("link", (ALLOW, link.name, None, ON), [link, "1", program], 1),
                ("script", (ALLOW, script.name, None, ON), [script], 1),
                ("off", (ALLOW, program.name, None, 0), [program], 0),
                ("part of a name", (ALLOW, program.name[:-1], None, ON), [program], 0)):
            host.rules([OTHERS[0], entry])
            host.preload()
            bare = host.run(argv)
            host.preload(host.lib)
            there = host.run(argv)
            equal((there.code, there.err), (bare.code, b""), what)
            equal(library_lines(there.out, host.lib)[0], library_lines(bare.out, host.lib)[0],
                  f"what the program finds: {what}")
            check(all(j["kind"] == numbers()["JOIN_SEGMENT"] and len(j["size"]) == 1 for j in host.joined), str(host.joined))
            segment = host.joined[0]["size"] if host.joined else segment
            host.joins(count, what)
    check(segment and segment[0] > 1 << 20, f"no segment: {segment}")


@test("probe/not-believed")
def not_believed(ctx):
    """Rules that others could have written, or of another build, or that make no sense: as if there were none."""
    program = ctx.compile("host/seen.c")
    yes = [(ALLOW, program.name, None, ON)]
    good = compiled(yes)
    n = numbers()
    head = n["sizeof(struct~rules_head)"]
    with Host(ctx, yes) as host:
        path = host.file("/run/appscope/rules")
        host.run([program], check_code=7)
        host.joins(1, "good rules")

        def of_others():
            os.chown(path, 65534, 0)

        def fifo():
            path.unlink()
            os.mkfifo(path, 0o644)

        def link():
            path.rename(path.with_name("elsewhere"))
            path.symlink_to("elsewhere")

        def directory():
            path.unlink()
            path.mkdir()

        def device():
            path.unlink()
            os.mknod(path, stat.S_IFCHR | 0o644, os.makedev(1, 5))

        wrong = {
            "of others": of_others, "group": lambda: path.chmod(0o664), "all": lambda: path.chmod(0o646), "fifo": fifo,
            "link": link, "directory": directory, "device": device, "none": path.unlink,
            "empty": lambda: path.write_bytes(b""), "cut": lambda: path.write_bytes(good[:-1]),
            "head": lambda: path.write_bytes(good[:head]), "short": lambda: path.write_bytes(good[:7]),
            "longer": lambda: path.write_bytes(good + b"\0"), "unterminated": lambda: path.write_bytes(good[:-1] + b"x"),
        }
        for key, values in {"magic": [0, n["RULES_MAGIC"] + 1], "table": [0, n["syscall_table_hash()"] ^ 1],
                            "size": [0, 1, len(good) + 1, 1 << 20, (1 << 32) - 1],
                            "count": [2, 4096, 4097, (1 << 32) - 1, (1 << 28) + 1],
                            "socket": [0, 8, head, len(good), (1 << 32) - 1],
                            "plans": [8, head, len(good), (1 << 32) - 1]}.items():
            for value in values:
                wrong[f"{key} {value}"] = lambda key=key, value=value: host.rules(yes, **{key: value})
        wrong["abstract socket"] = lambda: host.rules(yes, sock="scope-0123456789")
        wrong["long socket"] = lambda: host.rules(yes, sock="/run/" + "x" * 200)
        wrong["large"] = lambda: path.write_bytes(compiled(yes, size=n["RULES_SIZE_MAX"] + 1).ljust(n["RULES_SIZE_MAX"] + 1, b"\0"))
        bare = None
        for what, spoil in wrong.items():
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            host.rules(yes)
            spoil()
            there = host.run([program])
            lines = library_lines(there.out, host.lib)[0]
            bare = bare or lines
            equal((there.code, there.err, lines), (7, b"", bare), what)
            host.joins(0, what)


@test("probe/replaced")
def replaced(ctx):
    """Rules that are replaced, cut short and written to while programs start: each starts as ever."""
    program = ctx.compile("host/seen.c")
    with Host(ctx, OTHERS) as host:
        path = host.file("/run/appscope/rules")
        stop = threading.Event()
        many = compiled(OTHERS * 900)

        def spoil():
            while not stop.is_set():
                host.rules(OTHERS)
                path.write_bytes(many)  # cuts it short first
                with path.open("r+b") as f:
                    f.truncate(100)
                path.unlink()

        thread = threading.Thread(target=spoil)
        thread.start()
        try:
            result = host.run([ctx.tool("sh"), "-c", 'for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do '
                               f'{program} >/dev/null; [ $? = 7 ] || exit 1; done'])
        finally:
            stop.set()
            thread.join()
        equal((result.code, result.out, result.err), (0, b"", b""), "programs that start meanwhile")
        host.joins(0, "not named")


# --- who it is that brought the library ---


@test("probe/no-collector-of-its-own")
def no_collector_of_its_own(ctx):
    """LD_PRELOAD by hand starts a collector; ld.so.preload never does, whatever the environment says."""
    program = ctx.compile("host/seen.c")
    with Host(ctx, OTHERS) as host:
        trace = ctx.dir / "started"
        tool = host.lib.with_name("scope")
        tool.write_text(f"#!{ctx.tool('sh')}\necho \"$@\" >> {trace}\n")
        tool.chmod(0o755)

        def started(what, want, **env):
            trace.unlink(missing_ok=True)
            equal(host.run([program], env=ctx.env(**env)).code, 7, what)
            equal(trace.exists(), want, f"whether a collector was started: {what}")

        started("plain", False)
        started("SCOPE_EXEC_PATH", False, SCOPE_EXEC_PATH=tool)
        started("another library", False, LD_PRELOAD="libm.so.6")
        # What stands there can't be loaded: the loader says so, and our name means somebody else.
        host.preload(host.lib)
        trace.unlink(missing_ok=True)
        equal(host.run([program], env=ctx.env(LD_PRELOAD="libscope.so", SCOPE_EXEC_PATH=tool)).code, 7, "not found")
        check(not trace.exists(), "a collector was started for a library that was not found")
        started("by hand", True, LD_PRELOAD=host.lib)
        host.preload()
        started("by hand alone", True, LD_PRELOAD=host.lib)
        started("by a search path", True, LD_PRELOAD="libscope.so", LD_LIBRARY_PATH=host.lib.parent)
        host.joins(0, "not named")


@test("probe/left-alone")
def left_alone(ctx):
    """SCOPE_RULES=false, other rights than its starter's, no /proc, another root directory, no rights there."""
    program = ctx.compile("host/seen.c")
    with Host(ctx, [(ALLOW, None, None, ON)]) as host:
        host.preload()
        setid = ctx.dir / "set-user-id"
        shutil.copy(program, setid)
        os.chown(setid, 65534, 65534)
        setid.chmod(0o4755)
        same_as_bare(host, [setid], "set-user-ID")
        host.joins(0, "set-user-ID")  # nsenter runs before the namespace is entered
        same_as_bare(host, [program], "SCOPE_RULES=false", env=ctx.env(SCOPE_RULES="false"))
        host.joins(0, "SCOPE_RULES=false")
        for flags, count, what in ((["--net"], 1, "network namespace"), (["--user"], 0, "user namespace without root")):
            # unshare(1) itself is named by the rule, too.
            equal(host.run([ctx.tool("unshare"), *flags, program]).code, 7, what)
            host.joins(1 + count, what)
        # Not even the name can be known: it is not named. (This shell's own mount and exec come first.)
        result = host.run([ctx.tool("unshare"), "--mount", ctx.tool("sh"), "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh", program])
        equal(result.code, 7, "without /proc")
        host.joins(3, "unshare, sh and mount, but not what has no /proc")


@test("probe/limits")
def limits(ctx):
    """No descriptors to be had, none open, a small stack, no memory for files: as bare."""
    program = ctx.compile("host/seen.c")
    with Host(ctx, OTHERS) as host:
        sh = ctx.tool("sh")
        for how in ("ulimit -n 0", "ulimit -n 1", "ulimit -n 3", "ulimit -n 4", "ulimit -n 5", "exec <&-", "exec <&- >&-", "ulimit -s 64",
                    "ulimit -f 0"):
            argv = [sh, "-c", f'{how}; exec "$@"', "sh", program]
            for entries in (OTHERS, [(ALLOW, program.name, None, ON)]):
                host.rules(entries)
                host.preload()
                bare = host.run(argv)
                host.preload(host.lib)
                there = host.run(argv)
                equal((there.code, there.err, library_lines(there.out, host.lib)[0]),
                      (bare.code, bare.err, library_lines(bare.out, host.lib)[0]), how)


@test("probe/strict")
def strict(ctx):
    """A filter that ends the program at any call that it wouldn't make bare."""
    program = ctx.compile("host/seen.c")
    filtered = ctx.compile("host/strict.c")
    table = ctx.run([ctx.tool("gcc"), "-E", "-dM", "-include", "sys/syscall.h", "-x", "c", "/dev/null"], check_code=0).out.decode()
    number = {name: nr for name, nr in re.findall(r"#define __NR_(\w+) (\d+)", table)}
    with Host(ctx) as host:
        host.preload()
        out = ctx.dir / "calls"
        host.run([ctx.tool("strace"), "-qq", "-o", out, program], check_code=7)
        calls = set(re.findall(r"^(\w+)\(", out.read_text(), re.M)) | {"execve", "exit_group"}
        allowed = ",".join(sorted(number[c] for c in calls))
        for entries, what in ((OTHERS, "not named"), ([(ALLOW, program.name, None, ON)], "named"),
                              ([(ALLOW, None, None, ON)], "all named")):
            host.rules(entries)
            _, there, _ = same_as_bare(host, [filtered, allowed, program], what)
            equal(there.code, 7, what)
            host.joins(entries[0][1:] == (None, None, ON), f"{what}, under a filter; what sets it has none")
        without = ",".join(sorted(number[c] for c in calls - {"read"}))
        host.preload()
        check(host.run([filtered, without, program]).code != 7, "the filter filters nothing")


# --- sessions ---


@test("probe/session-first")
def session_first(ctx):
    """What a session observes the host's rules leave alone; what it can't any more they name."""
    program = ctx.compile("host/seen.c")
    with Host(ctx, [(ALLOW, program.name, None, ON)]) as host:
        for what in ("two files", "one file"):
            before = set(ctx.sessions())
            result = host.run([ctx.scope, "run", "--", program, "1", program])
            equal((result.code, result.err), (7, b""), what)
            new, = set(ctx.sessions()) - before
            host.joins(0, f"{what}: in a session")
            from scopetest import Session
            session = Session(ctx, new)
            session.wait_end()
            starts = [e for e in session.events() if e["source"] == "proc.start"]
            equal(len(starts), 2, f"{what}: images in the session")
            equal(session.lost(), {}, what)
            # From now on the host's library is the file that sessions use.
            lib = re.search(rb"^mapped \S+ (/\S*libscope\.so)$", result.out.replace(str(host.lib).encode(), b""), re.M)
            if lib:
                host.preload(lib.group(1).decode())
        host.preload(host.lib)
        gone = ctx.env(SCOPE_SOCKET="scope-00000000000000000000000000000000.00000000000000000000000000000000", SCOPE_MODE="5",
                       SCOPE_PLANS="/nonexistent")
        result = host.run([program], env=gone)
        equal((result.code, result.err), (7, b""), "the session's collector is gone")
        host.joins(1, "the session's collector is gone")


@test("probe/environment-of-others")
def environment_of_others(ctx):
    """Who has a set-user-ID program start another one as root leads that one nowhere by variables: neither to a session,
    which root's listener would be, nor to plans of its own. LD_PRELOAD has been taken away by the loader, and counts."""
    wrapper, program = ctx.dir / "wrapper", ctx.compile("host/seen.c")
    shutil.copy(ctx.compile("security/wrapper.c"), wrapper)
    wrapper.chmod(0o4755)
    name = f"scope-{os.urandom(16).hex()}"
    env = ctx.env(SCOPE_SOCKET=f"{name}.{'0' * 32}", SCOPE_MODE="5", SCOPE_PLANS=ctx.dir)
    with Host(ctx, OTHERS) as host, contextlib.ExitStack() as sockets:
        listening = []
        for suffix in ("", "+"):
            sock = sockets.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            sock.bind("\0" + name + suffix)
            sock.listen(128)
            sock.setblocking(False)
            listening.append(sock)

        def came():
            with contextlib.suppress(BlockingIOError):
                listening[0].accept()[0].close()
                return True
            return False

        user = [ctx.tool("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
        # setpriv is root's and has what a session gives, the library by hand, too: it takes root's word.
        result = host.run([ctx.tool("env"), "-u", "SCOPE_SOCKET", *user, ctx.tool("env"), f"SCOPE_SOCKET={env['SCOPE_SOCKET']}",
                           f"LD_PRELOAD={host.lib}", wrapper], env=env)
        equal((result.code, result.out, result.err), (0, b"0\n", b""), "the set-user-ID program")
        check(not came(), "what root runs has joined who a user named")
        check(not host.run([program], env=env).err and not came(), "a session without the library by hand")
        host.run([program], env={**env, "LD_PRELOAD": str(host.lib)})
        check(came(), "a session with it")


# --- with the host's own collector ---


@test("probe/traced", timeout=90)
def traced(ctx):
    """What a named program execs and no loader brings the probe into is observed from its first instruction if it is
    named, too, and finds what it finds bare."""
    dynamic = ctx.compile("host/seen.c")
    kinds = {v: ctx.compile("host/seen.c", v) for v in ("static", "musl", "musl-static")}
    script = ctx.dir / "seen.script"
    script.write_text(f"#!{kinds['static']} -x\n")
    script.chmod(0o755)
    other = ctx.dir / "other"
    shutil.copy(kinds["static"], other)
    link = ctx.dir / "seen.link"
    link.symlink_to(kinds["musl"])
    linked = ctx.dir / "linked"
    linked.symlink_to(ctx.tool("cat"))
    listed = "".join(f"  - procname: {p.name}\n" for p in (dynamic, *kinds.values(), script, link, linked))
    with HostBox(ctx) as box:
        runs = {what: [dynamic, "1", program] for what, program in (*kinds.items(), ("script", script), ("link", link), ("other", other))}
        runs["another user"] = ["setpriv", "--reuid", "65534", *runs["static"]]
        bare = {what: box.run(argv) for what, argv in runs.items()}
        box.write("/etc/scope/rules.yml", f"allow:\n{listed}")
        box.scope("start")
        try:
            lib = box.read("/etc/ld.so.preload").decode().strip().rsplit("/", 2)[0]
            for what, argv in runs.items():
                there = box.run(argv)
                equal((there.code, there.err), (bare[what].code, bare[what].err), what)
                lines, named, _ = library_lines(there.out, lib)
                lines2, named2, _ = library_lines(bare[what].out, lib)
                equal(lines, lines2, f"what the program finds: {what}")
                segment = "mapped rw-s /memfd:scope (deleted)"
                equal(set(named) - {segment}, set(named2), f"files that are mapped: {what}")  # patches divide mappings
                equal(named.count(segment), 1 if what == "other" else 2, f"images that are observed at their start: {what}")
            # Other users' programs are let in by what the kernel says of them.
            box.run(["setpriv", "--reuid", "65534", linked, "/dev/null"], check_code=0)
        finally:
            box.scope("stop", "-f", code=None)
        log = box.run(["sh", "-c", "cat /var/lib/appscope/history/*/scope.log"]).out.decode()
        for word in ("not observed", "refused"):
            check(word not in log, log)
        lines = box.run([ctx.scope, "events", "--host", "-a", "-j"], check_code=0).out.decode().splitlines()
        events = [json.loads(line)["body"] for line in lines]
        starts = [e["data"]["args"][0] for e in events if e["source"] == "proc.start" and e["data"]["start"] == "exec"]
        for what, program in kinds.items():
            check(str(program) in starts, f"{what}: no start of {program} in the session", starts)
        check(str(linked) in starts, f"no start of {linked} as another user", starts, log)
        check(str(other) not in starts, f"{other}: it is not named", starts)


@test("probe/attached", timeout=90)
def attached(ctx):
    """A program that ran before and has been attached to: what it starts is decided by the rules, and finds what it
    would find bare."""
    seen = {v: ctx.compile("host/seen.c", v) for v in ("glibc-O2", "static")}
    shell = ctx.dir / "a-shell"
    shutil.copy(ctx.tool("dash", "bash"), shell)
    script = "".join(f"{program}; " for program in seen.values()) + "exit 3"
    with HostBox(ctx) as box:
        bare = box.run([shell, "-c", script])
        equal(bare.code, 3, "bare")
        go, out = ctx.dir / "go", ctx.dir / "out"
        os.mkfifo(go)
        running = box.start([shell, "-c", f"read x < {go}; exec > {out}; {script}"])
        box.write("/etc/scope/rules.yml", "allow:\n" + "".join(f"  - procname: {p.name}\n" for p in (shell, *seen.values())))
        box.scope("start")
        try:
            def is_attached():
                told = json.loads(box.read("/run/appscope/reach.json") or "{}")
                return any(rule["procname"] == shell.name and rule["attached"] for rule in told.get("rules", []))
            ctx.wait_for(is_attached, "the shell is attached to", 30)
            lib = box.read("/etc/ld.so.preload").decode().strip().rsplit("/", 2)[0]
            go.write_text("x\n")
            equal(running.wait(30), 3, "status")
            there = out.read_bytes()
            equal(library_lines(there, lib)[0], library_lines(bare.out, lib)[0], "what programs find")
            equal(there.count(b"mapped rw-s /memfd:scope"), 2, "programs that are observed at their start")
        finally:
            box.scope("stop", "-f", code=None)
