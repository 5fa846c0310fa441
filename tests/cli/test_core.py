# SPDX-License-Identifier: Apache-2.0
"""Cores of programs: the one that the kernel writes of the same process at the same moment says what must be in ours.

core.c runs a program under ptrace(2), writes a core by src/crash/core.h when a signal is about to end it, and lets it
die of it.
"""

import errno
import os
import re
import resource
import subprocess
from pathlib import Path

import elfcore
from scopetest import MACHINE, TOP, check, equal, test

PC, SP, KEPT = {"x86_64": ("rip", "rsp", "rbx"), "aarch64": ("pc", "sp", "x19")}[MACHINE]
VARIANTS = ["glibc-O0", "glibc-O2", "musl", "static", "static-pie", "musl-static"]


def tool(ctx):
    return ctx.compile(["cli/core.c", *(f"../src/{f}.c" for f in ("crash/core", f"crash/arch/{MACHINE}/machine", "base/buf", "base/mem"))],
                       flags=[f"-I{TOP}/src", f"-I{TOP}/src/crash/arch/{MACHINE}", f"-I{TOP}/src/inject/arch/{MACHINE}"])


PIECE = 1 << 20


class Written:
    """What the tool has printed."""

    def __init__(self, out):
        words = [int(w) for w in out.split(b"\n")[-2].split()]
        self.error, self.size, self.written, self.unreadable, self.cut, self.threads, self.ms = words


def crash(ctx, argv, most=0, before=(), name="ours"):
    """Runs a program that crashes: what the tool says, our core, the kernel's."""
    where = ctx.dir / f"{name}-core"
    where.mkdir()
    ours = where / "ours"
    with elfcore.pattern(str(where / "kernel.%p")):
        result = ctx.run([*before, tool(ctx), ours, most, *argv], cwd=where, check_code=0)
    kernel = [p for p in where.iterdir() if p.name.startswith("kernel.")]
    check(len(kernel) == 1, f"the kernel has written {kernel}")
    return Written(result.out), ours, kernel[0]


def gdb(ctx, program, core, *commands):
    words = [w for c in commands for w in ("-ex", c)]
    result = ctx.run([ctx.tool("gdb"), "-nx", "-q", "-batch", "-ex", "set width 0", *words, program, core])
    return result.out.decode(errors="replace")


def by_thread(text):
    """What is said of each thread, whatever their order: the kernel's is another one than theirs."""
    blocks = re.split(r"\nThread \d+ \(|\nTID ", text.partition(f"\n{PC} ")[2] or text)
    # Where a call is to be begun again, the thread may stand before it or behind.
    return sorted(re.sub(r"\[New LWP.*\n|(?<=#0) +0x[0-9a-f]+(?= )", "", b).strip() for b in blocks)


def compare(ours, kernel):
    """All that both can say must be the same."""
    a, b = elfcore.Core(ours), elfcore.Core(kernel)
    equal(a.machine, b.machine, "machine")
    # In the same order; of arm64 the kernel's have some that nobody reads (breakpoints, keys of pointer authentication).
    equal([n for n, _ in a.notes], [n for n, _ in b.notes if n != "XSAVE_LAYOUT" and n not in elfcore.UNREAD], "the notes")
    equal(list(a.threads())[0], list(b.threads())[0], "the crashing thread")
    for tid, registers in b.threads().items():
        for kind, value in registers.items():
            got = a.threads()[tid][kind]
            if kind == "PRSTATUS" and tid != list(b.threads())[0]:
                # A thread that waits is stopped within its call, which then is to be begun again: result, number and
                # program counter where the kernel has seen to that already.
                got, value = elfcore.settled(got), elfcore.settled(value)
            if kind == "XSTATE":
                got, value = elfcore.in_use(got), elfcore.in_use(value)
            check(got == value, f"{kind} of thread {tid} differs", got.hex(), value.hex())
    for name in ("SIGINFO", "AUXV", "FILE"):
        equal(a.note(name), b.note(name), name)
    for x, y in zip(a.note("PRPSINFO"), b.note("PRPSINFO")):
        equal((x[1:4], x[16:]), (y[1:4], y[16:]), "PRPSINFO")
    equal([(x[0], x[1], x[4]) for x in a.loads], [(x[0], x[1], x[4]) for x in b.loads], "the mappings")
    for x, y in zip(a.loads, b.loads):
        if x[3] > 1 << 30:
            equal(x[3], y[3], f"bytes at {x[0]:#x}")
            continue  # what is in it, other tests look at
        if x[3] == y[3]:
            for at in range(0, x[3], PIECE):
                p, q = a.at(x[2] + at, min(PIECE, x[3] - at)), b.at(y[2] + at, min(PIECE, x[3] - at))
                # The kernel notes in each thread's memory on which CPU it is (rseq(2)).
                check(p == q or sum(m != n for m, n in zip(p, q)) <= 16, f"memory at {x[0] + at:#x} differs")
            continue
        # The kernel reserves room for [vvar] and what isn't there, too.
        check(x[3] == 0 and not any(b.at(y[2], y[3])), f"{x[3]} bytes at {x[0]:#x} instead of {y[3]}")
    return a, b


for variant in VARIANTS:
    @test(f"core_{variant}", timeout=120)
    def core(ctx, variant=variant):
        """Threads, registers, memory, and what gdb and eu-stack read of them."""
        program = ctx.compile("cli/crashes.c", variant, flags=["-g"])
        said, ours, kernel = crash(ctx, [program])
        equal((said.error, said.cut, said.threads), (0, 0, 5), "error, cut, threads")
        a, _ = compare(ours, kernel)
        equal(said.size, a.size, "the file's size")
        check(said.written < 8 << 20 and a.blocks < 8 << 20, f"{said.written} bytes written, {a.blocks} on the disk")
        equal(os.stat(ours).st_mode & 0o777, 0o600, "mode")
        asked = ["p chosen", "p said", "p $_siginfo.si_signo", "p $_siginfo._sifields._sigfault.si_addr",
                 f"info registers {PC} {SP} {KEPT}", "thread apply all bt"]
        got, want = (gdb(ctx, program, core, *asked) for core in (ours, kernel))
        equal(by_thread(got), by_thread(want), "what gdb says")
        check(re.search(r"\n#0 .*fall ", got) and "= 4711" in got and "what it has said" in got and "= (void *) 0x18" in got
              and (got.count("wait_here") >= 4 or "musl" in variant), "gdb doesn't find its way", got)
        got, want = (ctx.run([ctx.tool("eu-stack"), f"--core={core}", f"--executable={program}"]).out.decode()
                     for core in (ours, kernel))
        # (Of static PIEs it finds no symbols, in either.)
        equal(by_thread(got.partition("\n")[2]), by_thread(want.partition("\n")[2]), "what eu-stack says")
        check(got.count("TID ") == 5 and ("fall" in got or variant == "static-pie"), "eu-stack doesn't find its way", got)


@test("core_filter", timeout=120)
def core_filter(ctx):
    """coredump_filter decides what is in it, as for the kernel."""
    program = ctx.compile("cli/crashes.c", "glibc-O2", flags=["-g"])
    sizes = {}
    for mask in (0x00, 0x01, 0x02, 0x04, 0x08, 0x10, 0x33, 0x7F):
        # The file that is inherited over fork and exec.
        shell = ["sh", "-c", f'echo {mask:#x} > /proc/self/coredump_filter && exec "$@"', "sh"]
        said, ours, kernel = crash(ctx, [program], before=shell, name=hex(mask))
        equal(said.error, 0, "error")
        a, _ = compare(ours, kernel)
        sizes[mask] = sum(x[3] for x in a.loads)
        for path in (ours, kernel):
            path.unlink()
    check(sizes[0] < sizes[0x10] < sizes[0x33] < sizes[0x7F], "the mask changes little", sizes)


def only(ctx, argv, most=0, before=(), name="only"):
    """The same without the kernel's: what the tool says, our core."""
    ours = ctx.dir / name
    return Written(ctx.run([*before, tool(ctx), ours, most, "-k", *argv], check_code=0).out), ours


def backtraces(ctx, program, core):
    """Whether gdb finds all functions of all threads."""
    text = gdb(ctx, program, core, "thread apply all bt")
    check(re.search(r"\n#0 .*fall ", text) and text.count("wait_here") == 4, f"{core}: gdb doesn't find its way", text)


@test("core_sparse", timeout=120)
def core_sparse(ctx):
    """Ranges of 3 GiB that were hardly touched, private ones and a memfd, take a few pages, and the program no more."""
    program = ctx.compile("cli/crashes.c", "glibc-O2", flags=["-g"])
    said, ours = only(ctx, [program, "sparse"])
    core = elfcore.Core(ours)
    equal((said.error, said.cut), (0, 0), "error, cut")
    check(core.size > 6 << 30 and core.blocks < 8 << 20 and said.written < 8 << 20,
          f"{core.size} bytes, {core.blocks} on the disk, {said.written} written")
    large = [x for x in core.loads if x[3] == 3 << 30]
    equal(len(large), 2, "mappings of 3 GiB")
    found = {core.at(x[2] + at, 1) for x in large for at in (3 << 29, 3 << 20)}
    check({b"m", b"p"} <= found, "what was written is not there", found)
    # A page of the memfd that the process itself has not touched.
    check(any(core.at(x[2] + (1 << 20), 5) == b"memfd" for x in large), "what only the file has is not there")


@test("core_bounded", timeout=120)
def core_bounded(ctx):
    """A core that may not become larger, or has no room, is cut: what is in it can be read, stacks above all."""
    program = ctx.compile("cli/crashes.c", "glibc-O2", flags=["-g"])
    whole, ours = only(ctx, [program, "small"], name="whole")
    backtraces(ctx, program, ours)
    said, ours = only(ctx, [program, "small"], most=whole.written - 150_000, name="cut")
    equal(said.error, -errno.EFBIG, "error with a bound")
    check(0 < said.written <= whole.written - 150_000 and said.cut > 0, "written, cut", vars(said))
    backtraces(ctx, program, ours)
    core = elfcore.Core(ours)
    check(all(x[2] + x[3] <= core.size for x in core.loads), "headers promise more than there is")
    said, ours = only(ctx, [program, "small"], most=1000, name="nothing")
    equal((said.error, said.size, ours.stat().st_size), (-errno.EFBIG, 0, 0), "error, sizes with a bound that is too low")
    # The same by a limit on files, and on a disk that has no room for it but for the 256 KiB that are left to others.
    blocks = (whole.written - 100_000) // 512
    said, ours = only(ctx, [program, "small"], before=["sh", "-c", f'ulimit -f {blocks} && exec "$@"', "sh"], name="limit")
    equal(said.error, -errno.EFBIG, "error with a limit on files")
    disk, kept = ctx.fresh("disk"), ctx.dir / "kept"
    script = (f"mount -t tmpfs -o size={(whole.written - 100_000) // 4096 * 4096 + (256 << 10)} none {disk} && "
              f'"$@" && cp --sparse=always {disk}/core {kept}')
    result = ctx.run(["unshare", "--mount", "sh", "-c", script, "sh", tool(ctx), disk / "core", "0", "-k", program, "small"],
                     check_code=0)
    said = Written(result.out)
    equal(said.error, -errno.ENOSPC, "error on a full disk")
    check(said.cut > 0 and said.written <= whole.written - 100_000, "nothing is missing on a full disk", vars(said))
    backtraces(ctx, program, kept)


@test("core_go", timeout=240)
def core_go(ctx):
    """A Go program that runs: all of its threads, and large ranges that are only reserved."""
    program = ctx.go_build("standing", "static")
    process = ctx.start([program], stdout=subprocess.PIPE)
    equal(process.stdout.readline(), b"ready\n", "what it says")
    ours = ctx.dir / "ours"
    said = Written(ctx.run([tool(ctx), ours, "0", "-p", process.pid], check_code=0).out)
    core = elfcore.Core(ours)
    equal((said.error, said.cut, said.threads), (0, 0, len(core.threads())), "error, cut, threads")
    check(said.threads >= 3 and core.blocks < 64 << 20, f"{said.threads} threads, {core.blocks} bytes")
    text = gdb(ctx, program, ours, "thread apply all bt 4")
    equal(len(re.findall(r"\nThread \d+ \(", text)), said.threads, "threads that gdb shows")
    check("main.stands" in text or "main.inner" in text, "gdb doesn't find the function", text)
    text = ctx.run([ctx.tool("eu-stack"), f"--core={ours}", f"--executable={program}"]).out.decode()
    equal(text.count("TID "), said.threads, "threads that eu-stack shows")
    check(process.poll() is None, "it hasn't gone on")


@test("core_observed", timeout=120)
def core_observed(ctx):
    """The core of a program that crashes in a session: the registers of the signal, vector registers too, not those of the
    handler that told it."""
    source = b"""int main(void)
    {
        double v[4] = {47.11, 1, 2, 3};
        __asm__ volatile("movsd %0, %%xmm7; fldl %1; movl $4711, 0x18" : : "m"(v[0]), "m"(v[2]));
        return 0;
    }"""
    program = ctx.dir / "falls"
    ctx.compiler(["gcc", "-O1", "-g", "-x", "c", "-o", program, "-"], stdin=source)
    with elfcore.pattern(str(ctx.dir / "kernel")):
        result = ctx.scoped([program], ["--coredump"], preexec=lambda: resource.setrlimit(resource.RLIMIT_CORE, (-1, -1)))
    equal(result.code, -11, "the program's end")
    result.session.wait_end()
    ours, = Path(result.session.dir).glob("crash/*/core")
    asked = ["p $xmm7.v2_double[0]", "p $st0", "p $rip", "p $rsp", "p $_siginfo._sifields._sigfault.si_addr", "bt"]
    got, want = (gdb(ctx, program, core, *asked) for core in (ours, ctx.dir / "kernel"))
    check("= 47.1" in want, "gdb doesn't find the register in the kernel's", want)
    equal(by_thread(got), by_thread(want), "what gdb says")
