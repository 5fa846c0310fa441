# SPDX-License-Identifier: Apache-2.0
"""Reads the shared segment of an observed process (src/wire/segment.h, record.h) as the collector does, without
disturbing it: records stay in the ring until it has come round."""

import contextlib
import os
import struct
import time

MAGIC = 0x3147455365706353
RING_TAIL, RING_HEAD, LOSS = 192, 256, 320  # offsets in struct segment_header
CELL = 32
REC_DATA = 4
ITEM_DATA = 5
DATA_TLS_TX, DATA_TLS_RX = 3, 4


class Data:
    """A REC_DATA record; data: None if the bytes were not captured."""

    def __init__(self, pid, tid, ret, args, data):
        self.pid, self.tid, self.ret, self.data = pid, tid, ret, data
        self.fd = args[0] - (1 << 64) if args[0] >> 63 else args[0]
        self.at, self.source, self.object, self.gen = args[1], args[3], args[4], args[5]

    def __repr__(self):
        return f"Data(source={self.source} object={self.object:#x} fd={self.fd} at={self.at} ret={self.ret} {self.data!r:.80})"


class Segment:
    """The newest segment of a process. It stays readable after the process has ended."""

    def __init__(self, pid):
        best = None
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as f:
            for line in f:
                words = line.split(None, 5)
                if len(words) > 5 and words[5].startswith("/memfd:scope") and "w" in words[1]:
                    lo, hi = (int(x, 16) for x in words[0].split("-"))
                    best = max(best or (0, 0, 0), (int(words[4]), lo, hi))
        if not best:
            raise FileNotFoundError(f"process {pid} has no segment")
        self.fd = os.open(f"/proc/{pid}/map_files/{best[1]:x}-{best[2]:x}", os.O_RDONLY | os.O_CLOEXEC)
        head = os.pread(self.fd, 512, 0)
        magic, self.version, _, self.size, _ = struct.unpack_from("<QIIQQ", head)
        if magic != MAGIC:
            raise FileNotFoundError(f"the segment of process {pid} is being made")
        self.ring_off, self.cells = struct.unpack_from("<II", head, 40)

    def __del__(self):
        with contextlib.suppress(AttributeError, OSError):
            os.close(self.fd)

    def lost(self):
        return struct.unpack("<8Q", os.pread(self.fd, 64, LOSS))

    def data(self):
        """Every REC_DATA that is still in the ring, in order. The ring must not have gone round yet."""
        head = struct.unpack("<Q", os.pread(self.fd, 8, RING_HEAD))[0]
        assert head <= self.cells, "the ring has gone round: the test makes too many records"
        ring = os.pread(self.fd, head * CELL, self.ring_off)
        found, pos = [], 0
        while pos < head:
            seq, size, kind = struct.unpack_from("<QIB", ring, pos * CELL)
            if seq != pos + 1 or size < 16:
                pos += 1
                continue
            if kind == REC_DATA:
                found.append(self._record(ring[pos * CELL:pos * CELL + size]))
            pos += (size + CELL - 1) // CELL
        return found

    @staticmethod
    def _record(raw):
        pid, tid, _, ret, _ = struct.unpack_from("<IIQqQ", raw, 16)
        args = struct.unpack_from("<6Q", raw, 48)
        data, at = None, 96
        while at + 8 <= len(raw):
            kind, _, size = struct.unpack_from("<HHI", raw, at)
            if kind == ITEM_DATA:
                data = raw[at + 8:at + 8 + size]
            at += 8 + (size + 7) // 8 * 8
        return Data(pid, tid, ret, args, data)

    def tls(self):
        return [d for d in self.data() if d.source in (DATA_TLS_TX, DATA_TLS_RX)]


def wait_segment(pid, seconds=10):
    """The segment of a process that is just starting."""
    until = time.monotonic() + seconds
    while True:
        try:
            return Segment(pid)
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
            elif r.source == DATA_TLS_TX:
                self.sent[i] += r.data
            else:
                self.received[i] += r.data

    def only(self):
        assert len(self.sent) == 1, f"{len(self.sent)} connections instead of one"
        return self.sent[0], self.received[0], self.fds[0], self.gaps[0]
