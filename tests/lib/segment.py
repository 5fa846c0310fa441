# SPDX-License-Identifier: Apache-2.0
"""Reads the shared segment of an observed process (src/wire/segment.h, record.h) as the collector does, without
disturbing it: records stay in the ring until it has come round."""

import contextlib
import ctypes
import mmap
import os
import re
import struct
import time

import headers

# Printed by a program that is compiled with the headers themselves.
NUMBERS = """
    SEG_MAGIC RING_CELL REC_DATA ITEM_DATA DATA_TLS_TX DATA_TLS_RX LOSS_DATA
    offsetof(struct~segment_header,ring_off) offsetof(struct~segment_header,ring_cells)
    offsetof(struct~segment_header,ring_head) offsetof(struct~segment_header,ring_tail) offsetof(struct~segment_header,loss)
    offsetof(struct~record,ret) offsetof(struct~record,arg) offsetof(struct~record,pid)
    sizeof(struct~record)
    SEG_CRASHES CRASH_FREE CRASH_TOLD CRASH_SEEN CRASH_DONE CRASH_SIGNAL CRASH_EXIT
    sizeof(struct~seg_crash) offsetof(struct~segment_header,crash)
""".split()


def numbers():
    """Constants and offsets by what they are called in C; of a member of a struct: by struct.member."""
    names = tuple(n.replace("~", " ") for n in NUMBERS)
    values = headers.values(("wire/segment.h", "wire/record.h"), names)
    return {re.sub(r"(?:offsetof|sizeof)\(struct (\w+),?(\w*)\)", r"\1.\2", n): v for n, v in zip(names, values)}


class Data:
    """A REC_DATA record; data: None if the bytes were not captured."""

    def __init__(self, pid, tid, ret, args, data):
        self.pid, self.tid, self.ret, self.data = pid, tid, ret, data
        self.fd = args[0] - (1 << 64) if args[0] >> 63 else args[0]
        self.at, self.source, self.object, self.gen = args[1], args[3], args[4], args[5]

    def __repr__(self):
        return f"Data(source={self.source} object={self.object:#x} fd={self.fd} at={self.at} ret={self.ret} {self.data!r:.80})"


class Segment:
    """A segment of a process, which stays readable after the process has ended. old: one that is still mapped, too."""

    def __init__(self, pid, old=None):
        best = None
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as f:
            for line in f:
                words = line.split(None, 5)
                if (len(words) > 5 and words[5].startswith("/memfd:scope") and "w" in words[1]
                        and not (old and old.inode == words[4])):
                    best = words
        if not best:
            raise FileNotFoundError(f"process {pid} has no segment")
        self.inode = best[4]
        lo, hi = (int(x, 16) for x in best[0].split("-"))
        self.fd = os.open(f"/proc/{pid}/map_files/{lo:x}-{hi:x}", os.O_RDONLY | os.O_CLOEXEC)
        self.n = n = numbers()
        self.head = lambda at, kind: struct.unpack(kind, os.pread(self.fd, struct.calcsize(kind), at))
        if self.head(0, "<Q")[0] != n["SEG_MAGIC"]:
            raise FileNotFoundError(f"the segment of process {pid} is being made")
        self.ring_off, = self.head(n["segment_header.ring_off"], "<I")
        self.cells, = self.head(n["segment_header.ring_cells"], "<I")

    def __del__(self):
        with contextlib.suppress(AttributeError, OSError):
            os.close(self.fd)

    def lost(self):
        return self.head(self.n["segment_header.loss"], "<8Q")

    def data(self):
        """Every REC_DATA that is still in the ring, in order; those that the collector has read only until the ring has
        gone round."""
        cell, head = self.n["RING_CELL"], self.head(self.n["segment_header.ring_head"], "<Q")[0]
        ring = os.pread(self.fd, self.cells * cell, self.ring_off)
        ring += ring  # what goes on at the start
        found, pos = [], 0 if head <= self.cells else self.head(self.n["segment_header.ring_tail"], "<Q")[0]
        while pos < head:
            at = pos % self.cells * cell
            seq, size, kind = struct.unpack_from("<QIB", ring, at)
            if seq != pos + 1 or size < 16:
                pos += 1
                continue
            if kind == self.n["REC_DATA"]:
                found.append(self._record(ring[at:at + size]))
            pos += (size + cell - 1) // cell
        return found

    def _record(self, raw):
        pid, tid = struct.unpack_from("<II", raw, self.n["record.pid"])
        ret, = struct.unpack_from("<q", raw, self.n["record.ret"])
        args = struct.unpack_from("<6Q", raw, self.n["record.arg"])
        data, at = None, self.n["record."]
        while at + 8 <= len(raw):
            kind, _, size = struct.unpack_from("<HHI", raw, at)
            if kind == self.n["ITEM_DATA"]:
                data = raw[at + 8:at + 8 + size]
            at += 8 + (size + 7) // 8 * 8
        return Data(pid, tid, ret, args, data)

    def tls(self):
        return [d for d in self.data() if d.source in (self.n["DATA_TLS_TX"], self.n["DATA_TLS_RX"])]


class Crash:
    """A place of a segment in which a thread says that it is about to die (src/wire/crash.h); answers it as the collector
    does."""

    FIELDS = "state kind pid tid signo code err status sender sender_uid addr context ticks".split()

    def __init__(self, memory, at):
        self.memory, self.at = memory, at
        values = struct.unpack_from("<4I5iIQQQ", memory, at)
        self.__dict__.update(zip(self.FIELDS, values))

    def answer(self, state):
        word = ctypes.c_uint32.from_buffer(self.memory, self.at)
        word.value = state
        ctypes.CDLL(None).syscall(202, ctypes.byref(word), 1, 1 << 30, None, None, 0)  # futex(2), FUTEX_WAKE


class Crashes:
    """Those of a segment."""

    def __init__(self, segment):
        n = numbers()
        fd = os.open(f"/proc/self/fd/{segment.fd}", os.O_RDWR | os.O_CLOEXEC)
        self.size, self.at = n["seg_crash."], n["segment_header.crash"]
        self.memory = mmap.mmap(fd, self.at + n["SEG_CRASHES"] * self.size)
        os.close(fd)

    def all(self):
        places = [Crash(self.memory, self.at + i * self.size) for i in range(numbers()["SEG_CRASHES"])]
        return [p for p in places if p.state != numbers()["CRASH_FREE"]]

    def told(self):
        return [p for p in self.all() if p.state == numbers()["CRASH_TOLD"]]


def wait_segment(pid, old=None, seconds=10):
    """The segment of a process that is just starting."""
    until = time.monotonic() + seconds
    while True:
        try:
            return Segment(pid, old)
        except (FileNotFoundError, ProcessLookupError):
            if time.monotonic() > until:
                raise
            time.sleep(0.005)


class Streams:
    """What TLS records of a segment say, put together: bytes by object and direction. A new object at an old address is
    another one."""

    def __init__(self, records):
        self.sent, self.received, self.fds, self.gaps = [], [], [], []
        current = {}
        for r in records:
            if r.ret == 0 and r.data is None:
                current.pop(r.object, None)
                continue
            if r.object not in current:
                current[r.object] = len(self.sent)
                self.sent.append(b"")
                self.received.append(b"")
                self.fds.append(set())
                self.gaps.append(0)
            i = current[r.object]
            self.fds[i].add(r.fd)
            if r.data is None:
                self.gaps[i] += r.ret
            elif r.source == numbers()["DATA_TLS_TX"]:
                self.sent[i] += r.data
            else:
                self.received[i] += r.data

    def only(self):
        assert len(self.sent) == 1, f"{len(self.sent)} connections instead of one"
        return self.sent[0], self.received[0], self.fds[0], self.gaps[0]
