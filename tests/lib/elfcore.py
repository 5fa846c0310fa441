# SPDX-License-Identifier: Apache-2.0
"""ELF cores (elf(5), core(5)), and the host's setting of what becomes of those that the kernel writes."""

import contextlib
import fcntl
import os
import struct
from pathlib import Path

from scopetest import MACHINE, Skip, check

PT_LOAD, PT_NOTE = 1, 4
GENERAL = {"x86_64": 27 * 8, "aarch64": 34 * 8}[MACHINE]  # bytes of the registers in PRSTATUS
NOTES = {1: "PRSTATUS", 2: "FPREGSET", 3: "PRPSINFO", 6: "AUXV", 0x202: "XSTATE", 0x205: "XSAVE_LAYOUT",
         0x46494C45: "FILE", 0x53494749: "SIGINFO", 0x401: "TLS", 0x402: "HW_BREAK", 0x403: "HW_WATCH", 0x404: "SYSTEM_CALL",
         0x405: "SVE", 0x406: "PAC_MASK", 0x407: "PACA_KEYS", 0x408: "PACG_KEYS", 0x409: "TAGGED_ADDR", 0x40A: "PAC_ENABLED",
         0x40B: "SSVE", 0x40C: "ZA"}
UNREAD = {"HW_BREAK", "HW_WATCH", "SYSTEM_CALL", "PACA_KEYS", "PACG_KEYS", "TAGGED_ADDR", "PAC_ENABLED", "SSVE", "ZA"}
PATTERN = Path("/proc/sys/kernel/core_pattern")


def settled(registers):
    """Without those that a thread's waiting in a call changes: rax, orig_rax, rip; x0, x8, pc."""
    if MACHINE == "x86_64":
        return registers[:80] + registers[88:120] + registers[136:]
    return registers[8:64] + registers[72:256] + registers[264:]


def in_use(xstate):
    """Of an XSAVE area (Intel SDM, volume 1, chapter 13), without the bits of SSE's and AVX's parts that say nothing: a CPU
    may call one in use that has its initial value, 0, at one moment and not at the next."""
    flags = int.from_bytes(xstate[512:520], "little")
    for bit, start in ((1, 160), (2, 576)):
        if not any(xstate[start:start + 256]):
            flags &= ~(1 << bit)
    return xstate[:512] + flags.to_bytes(8, "little") + xstate[520:]


class Core:
    """What is in a core: notes [(name, bytes)] in their order, loads [(address, flags, offset, in the file, in memory)]."""

    def __init__(self, path):
        self.file = open(path, "rb")  # pylint: disable=consider-using-with
        self.size = os.fstat(self.file.fileno()).st_size
        self.blocks = os.fstat(self.file.fileno()).st_blocks * 512
        head = self.at(0, 64)
        check(head[:7] == b"\x7fELF\x02\x01\x01", f"{path} is no ELF file", head[:16])
        kind, self.machine, _, _, phoff, _, _, _, phentsize, phnum = struct.unpack_from("<HHIQQQIHHH", head, 16)
        check(kind == 4, f"{path} is no core")
        self.notes, self.loads = [], []
        for i in range(phnum):
            kind, flags, offset, address, _, filesz, memsz, _ = struct.unpack("<IIQQQQQQ", self.at(phoff + i * phentsize, 56))
            if kind == PT_LOAD:
                self.loads.append((address, flags, offset, filesz, memsz))
            elif kind == PT_NOTE:
                self.read_notes(self.at(offset, filesz))

    def at(self, offset, size):
        return os.pread(self.file.fileno(), size, offset)

    def read_notes(self, text):
        at = 0
        while at + 12 <= len(text):
            namesz, descsz, kind = struct.unpack_from("<III", text, at)
            at += 12 + (namesz + 3 & ~3)
            self.notes.append((NOTES.get(kind, hex(kind)), text[at:at + descsz]))
            at += descsz + 3 & ~3

    def note(self, name):
        return [desc for kind, desc in self.notes if kind == name]

    def threads(self):
        """{tid: (registers, floating point registers, vector registers)}, the crashing one first."""
        found, tid = {}, 0
        for name, desc in self.notes:
            if name == "PRSTATUS":
                tid = struct.unpack_from("<i", desc, 32)[0]
                found[tid] = {"PRSTATUS": desc[112:112 + GENERAL]}
            elif name in ("FPREGSET", "XSTATE", "TLS", "SVE", "PAC_MASK"):
                found[tid][name] = desc
        return found

    def files(self):
        """[(start, end, offset, name)] of NT_FILE."""
        desc = self.note("FILE")[0]
        count, page = struct.unpack_from("<QQ", desc)
        names = desc[16 + 24 * count:].split(b"\0")
        return [(*struct.unpack_from("<QQ", desc, 16 + 24 * i),
                 struct.unpack_from("<Q", desc, 32 + 24 * i)[0] * page, names[i]) for i in range(count)]

    def memory(self, address, size):
        """Bytes at an address, None if they aren't all in it."""
        for start, _, offset, filesz, _ in self.loads:
            if start <= address and address + size <= start + filesz:
                return self.at(offset + address - start, size)
        return None


@contextlib.contextmanager
def pattern(value=None):
    """Sets kernel.core_pattern, which is one for the whole host, for as long as this lasts; whoever else wants to waits.
    None: nothing is changed, but it is no other test's meanwhile. Yields what was there."""
    try:
        with open(PATTERN, "r+b"):
            pass
    except OSError as e:
        raise Skip(f"{PATTERN} can't be set here ({e.strerror})") from None
    with open("/run/lock/scope-test-core-pattern", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = PATTERN.read_bytes()
        try:
            if value is not None:
                PATTERN.write_text(value)
            yield before.rstrip(b"\n").decode(errors="surrogateescape")
        finally:
            if PATTERN.read_bytes() != before:
                PATTERN.write_bytes(before)
