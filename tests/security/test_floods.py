# SPDX-License-Identifier: Apache-2.0
"""What processes of another user can do to root's collector with what they are let in for: their segments. It goes on
reading the others', loses nothing of theirs, and answers. (Who is let in at all is another question: the attackers are
started by an observed program of root.)"""

import contextlib
import ctypes
import errno
import os
import struct
import subprocess
import threading
import time

import users
from scopetest import TOP, Failure, check, equal, test

OPENS = 200000


def attacker(ctx, user, how, count, seconds, name="/x"):
    """A shell command that starts attackers of that user and waits until they have handed over their segments."""
    program = ctx.compile("security/attacker.c", flags=["-I", TOP / "src"])
    argv = user.command("env", "-u", "LD_PRELOAD", program, "-", how, count, seconds, name)
    words = " ".join(f"'{a}'" for a in argv)
    return f"{words} >joined & for i in $(seq 1000); do grep -q joined joined && break; sleep 0.02; done; cat joined; "


def opened(session, proc):
    return sum(m["_value"] for m in session.metrics() if m["_metric"] == "fs.open" and m.get("proc") == proc)


def busy_beside(ctx, stack):
    """Something else to do for each CPU."""
    for _ in range(os.cpu_count()):
        process = stack.enter_context(subprocess.Popen(["yes"], stdout=subprocess.DEVNULL))
        stack.callback(process.kill)


def flooded(ctx, how, busy=False):
    """Attackers of all those kinds, beside a program of root that opens a file OPENS times. Lossless: a writer that finds
    its ring full waits, for a second at most. Returns the session."""
    with contextlib.ExitStack() as stack:
        stranger = stack.enter_context(users.make(ctx, "flood"))
        opens = ctx.compile("security/opens.c")
        env = ctx.env(SCOPE_EVENT_ENABLE="false")
        alone = ctx.scoped([opens, 1], ["--lossless"], env=env).session
        alone.wait_end(60)
        others = opened(alone, opens.name) - 1  # the loader's
        if busy:
            busy_beside(ctx, stack)
        # Its plan first: it is made by a worker, for which there may be no time beside a hundred others.
        script = f"{opens} 1; " + attacker(ctx, stranger, how, 100, 100) + f"{opens} {OPENS}; kill $!; exit 0"
        result = ctx.scoped(["sh", "-c", script], ["--lossless"], env=env)
    equal(result.code, 0, "status")
    check(b"opens in" in result.out, "the program didn't end", result.describe())
    check(b"joined 1" in result.out, "the attackers got nowhere", result.describe())
    session = result.session
    session.wait_end(120)
    equal(opened(session, opens.name), OPENS + 1 + 2 * others, f"opens that were told, {result.out} {session.lost()}")
    return session


@test("floods", timeout=300, serial=True)
def floods(ctx):
    """A hundred segments of all kinds that are no probe's: each open is told, and the session ends."""
    session = flooded(ctx, "thpdfkc")
    check("makes no sense" in session.log(), "nothing was refused", session.log())
    check(session.log().count("makes no sense") <= 5, "each line is another's work", session.log())
    check("more lines about segments" in session.log(), "nothing says how many there were", session.log())


@test("record-floods", timeout=300, serial=True)
def record_floods(ctx):
    """All of them write records as fast as they can, cheap ones and dear ones, and others want the CPUs, too."""
    flooded(ctx, "ffk", busy=True)


class HungFiles:
    """A file system (FUSE, linux/fuse.h) in which names are looked up for ever. It ends with the test in any case: closing the connection ends all requests."""

    LOOKUP, FORGET, GETATTR, INIT, INTERRUPT, BATCH_FORGET = 1, 2, 3, 26, 36, 42

    def __init__(self, directory):
        self.directory = directory
        self.asked = set()

    def __enter__(self):
        self.fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        libc = ctypes.CDLL(None, use_errno=True)
        options = f"fd={self.fd},rootmode=40755,user_id=0,group_id=0,allow_other".encode()
        if libc.mount(b"hung", str(self.directory).encode(), b"fuse", 0, options):
            os.close(self.fd)
            raise Failure(f"mount: {os.strerror(ctypes.get_errno())}")
        self.libc = libc
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.libc.umount2(str(self.directory).encode(), 1 | 2)  # MNT_FORCE, which ends all requests, and MNT_DETACH
        os.close(self.fd)

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                request = os.read(self.fd, 1 << 20)
                _, opcode, unique, node = struct.unpack_from("<IIQQ", request)
                self.asked.add(opcode)
                answer = self.answer(opcode, node)
                if answer is not None:
                    os.write(self.fd, struct.pack("<IiQ", 16 + len(answer), 0, unique) + answer)
                elif opcode not in (self.LOOKUP, self.FORGET, self.INTERRUPT, self.BATCH_FORGET):
                    os.write(self.fd, struct.pack("<IiQ", 16, -errno.ENOSYS, unique))

    @staticmethod
    def attributes(node):
        mode = 0o40755 if node == 1 else 0o100644
        return struct.pack("<6Q10I", node, 1 << 20, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)

    def answer(self, opcode, node):
        if opcode == self.INIT:
            return struct.pack("<4I2H2I2H8I", 7, 31, 4096, 0, 8, 8, 4096, 1, 1, 0, *[0] * 8)
        if opcode == self.GETATTR:
            return struct.pack("<Q2I", 3600, 0, 0) + self.attributes(node)
        return None


@test("hung-name", timeout=120)
def hung_name(ctx):
    """The name of a file that was opened leads into a file system that doesn't answer, as that of an honest program does
    whose server is away. What a program does that runs beside is told as ever, and who asks gets an answer."""
    check(os.geteuid() == 0, "mounts a file system: needs root")
    directory = ctx.fresh("hung")
    with users.make(ctx, "hang") as stranger, HungFiles(directory) as files:
        script = attacker(ctx, stranger, "n", 3, 100, directory / "nowhere")
        script += "sleep 1; cat /proc/uptime; : >ready; while [ ! -e over ]; do sleep 0.05; done; kill $!; exit 0"
        process = ctx.start([*ctx.scope_argv(["sh", "-c", script])], cwd=ctx.dir)
        ctx.wait_for((ctx.dir / "ready").exists, "the program has done its work", seconds=60)
        session = ctx.session()
        before = time.monotonic()
        ctx.wait_for(lambda: [e for e in session.events("fs") if e["data"].get("file") == "/proc/uptime"], "it was told", 15)
        check(time.monotonic() - before < 15, "it took too long")
        (ctx.dir / "over").touch()
        equal(process.wait(20), 0, "status")
        session.wait_end(30)
        check(session.lost().get("answer", 0) > 0, "nothing says what isn't known", session.lost(), files.asked)
        check("no answer from the kernel" in session.log(), "the log doesn't tell", session.log())
