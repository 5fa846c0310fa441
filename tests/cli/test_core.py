# SPDX-License-Identifier: Apache-2.0
"""Cores of programs: the one that the kernel writes of the same process at the same moment says what must be in ours.

core.c runs a program under ptrace(2), writes a core by src/crash/core.h when a signal is about to end it, and lets it
die of it.
"""

import os
import re
import subprocess
from pathlib import Path

import elfcore
from scopetest import MACHINE, TOP, check, equal, test

VARIANTS = ["glibc-O0", "glibc-O2", "musl", "static", "static-pie", "musl-static"]


def tool(ctx):
    return ctx.compile(["cli/core.c", *(f"../src/{f}.c" for f in ("crash/core", "base/buf", "base/mem"))],
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
    blocks = re.split(r"\nThread \d+ \(|\nTID ", text.partition("\nrip ")[2] or text)
    return sorted(re.sub(r"\[New LWP.*\n", "", b).strip() for b in blocks)


def compare(ours, kernel):
    """All that both can say must be the same."""
    a, b = elfcore.Core(ours), elfcore.Core(kernel)
    equal(a.machine, b.machine, "machine")
    equal([n for n, _ in a.notes], [n for n, _ in b.notes if n != "XSAVE_LAYOUT"], "the notes")
    equal(list(a.threads())[0], list(b.threads())[0], "the crashing thread")
    for tid, registers in b.threads().items():
        for kind, value in registers.items():
            got = a.threads()[tid][kind]
            if kind == "PRSTATUS" and tid != list(b.threads())[0]:
                # A thread that waits is stopped within its call, which then is to be begun again.
                got, value = got[:80] + got[88:120] + got[128:], value[:80] + value[88:120] + value[128:]
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
                 "info registers rip rsp rbx", "thread apply all bt"]
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
