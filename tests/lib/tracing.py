# SPDX-License-Identifier: Apache-2.0
"""Puts threads where a test wants them: ptrace(2), and symbols of programs."""

import ctypes
import os
import re
import subprocess

from scopetest import MACHINE, Failure

PTRACE_CONT, PTRACE_SINGLESTEP, PTRACE_DETACH = 7, 9, 17
PTRACE_GETREGSET, PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4204, 0x4206, 0x4207
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
LIBC.ptrace.restype = ctypes.c_long


def ptrace(request, pid, addr=0, data=0):
    if LIBC.ptrace(request, pid, addr, data) < 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request:#x}")


# NT_PRSTATUS: how many words, and which are program counter, stack pointer, and the register that holds the return address
# where calls don't leave it on the stack.
WORDS, PC, SP, LINK = {"x86_64": (27, 16, 19, None), "aarch64": (34, 32, 31, 30)}[MACHINE]


def registers(pid):
    words = (ctypes.c_ulonglong * WORDS)()
    area = (ctypes.c_ulonglong * 2)(ctypes.addressof(words), ctypes.sizeof(words))
    ptrace(PTRACE_GETREGSET, pid, 1, ctypes.addressof(area))  # struct iovec
    return words


def park(pid, arrived, sig):
    """Lets the process run until its program counter is where it should be, then leaves it with a signal that it gets
    there."""
    ptrace(PTRACE_SEIZE, pid)
    ptrace(PTRACE_INTERRUPT, pid)
    for _ in range(100_000):
        os.waitpid(pid, 0x40000000)
        if arrived(registers(pid)[PC]):
            ptrace(PTRACE_DETACH, pid, 0, sig)
            return
        ptrace(PTRACE_SINGLESTEP, pid)
    raise Failure("it never came there")


def count_instructions(pid, entry):
    """How many instructions a function at that address executes, from its first to its return."""
    count, back = 0, None
    ptrace(PTRACE_SEIZE, pid)
    ptrace(PTRACE_INTERRUPT, pid)
    for _ in range(100_000):
        os.waitpid(pid, 0x40000000)
        regs = registers(pid)
        pc, sp = regs[PC], regs[SP]
        if pc == back:
            ptrace(PTRACE_DETACH, pid)
            return count
        if back is None and pc == entry and LINK is not None:
            back = regs[LINK]
        elif back is None and pc == entry:
            with open(f"/proc/{pid}/mem", "rb") as f:
                f.seek(sp)
                back = int.from_bytes(f.read(8), "little")
        count += back is not None
        ptrace(PTRACE_SINGLESTEP, pid)
    raise Failure("it never came there")


def symbol(path, what):
    out = subprocess.run(["nm", path], capture_output=True, check=True, text=True).stdout
    return int(re.search(rf"^([0-9a-f]+) \w {what}$", out, re.M).group(1), 16)
