# SPDX-License-Identifier: Apache-2.0
"""Reads a journal by what docs/journal.md says, and shares nothing with src/journal. Strict: damage is an error.

    journal.py FILE     prints the records, one a line, as tests/unit/test_journal.c does
"""
import collections
import ctypes
import ctypes.util
import struct
import sys

EVENT, NOTICE, METRIC = 0, 1, 2
WHO, OWNER, INT, UINT, HUNDREDTHS, NUM, STR, LIST, BOOL = 0x00, 0x01, 0x10, 0x11, 0x12, 0x20, 0x30, 0x40, 0x50
CONTINUES, ZSTD = 0x1, 0x10000

Record = collections.namedtuple("Record", "kind time_ns process channel type source tags fields")
Head = collections.namedtuple("Head", "length flags number back from_ns to_ns base_ns records body raw body_crc index index_crc")

_table = []
for byte in range(256):
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    _table.append(byte)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def decompress(data, length):
    library = ctypes.CDLL(ctypes.util.find_library("zstd") or "libzstd.so.1")
    library.ZSTD_decompress.restype = ctypes.c_size_t
    out = ctypes.create_string_buffer(length)
    got = library.ZSTD_decompress(out, ctypes.c_size_t(length), data, ctypes.c_size_t(len(data)))
    assert got == length, "a body that can't be decompressed"
    return out.raw


class Bytes:
    """Takes values off the front."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def more(self):
        return self.at < len(self.data)

    def take(self, n):
        assert n <= len(self.data) - self.at, "a length that goes too far"
        self.at += n
        return self.data[self.at - n : self.at]

    def byte(self):
        return self.take(1)[0]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def zigzag(self):
        value = self.varint()
        return value >> 1 ^ -(value & 1)


class Shape:
    def __init__(self, data, strings):
        b = Bytes(data)
        self.kind, self.type, self.source = b.byte(), strings[b.varint()], strings[b.varint()]
        self.tags = [(strings[b.varint()], strings[b.varint()]) for _ in range(b.varint())]
        self.fields = []
        while b.more():
            self.fields.append((strings[b.varint()], b.byte()))
        empty = {STR: b"", LIST: [], NUM: bytes(8), WHO: None, OWNER: None}
        self.values = [empty.get(wire, 0) for _, wire in self.fields]
        self.channel = 0


def wrap(wire, value):
    value &= (1 << 64) - 1
    return value - (1 << 64) if wire != UINT and value >> 63 else value


def value_of(b, wire, before, strings):
    if wire in (INT, UINT, HUNDREDTHS):
        return wrap(wire, before + b.zigzag())
    if wire == NUM:
        return b.take(8)
    if wire == STR:
        return strings[b.varint()]
    if wire == LIST:
        return [strings[b.varint()] for _ in range(b.varint())]
    assert wire == BOOL, "unknown type %#x" % wire
    return 1 - before


class Group:
    def __init__(self):
        self.strings, self.processes, self.shapes = [b""], [], []

    def process(self, data):
        b, members = Bytes(data), {}
        while b.more():
            name, wire = self.strings[b.varint()], b.byte()
            members[name.decode()] = value_of(b, wire, 0, self.strings)
        return members

    def block(self, head, raw):
        lengths = struct.unpack("<III", raw[:12])
        b = Bytes(raw[12:])
        strings, processes, shapes = (Bytes(b.take(n)) for n in lengths)
        while strings.more():
            self.strings.append(strings.take(strings.varint()))
            assert strings.byte() == 0
        while processes.more():
            self.processes.append(self.process(processes.take(processes.varint())))
        while shapes.more():
            self.shapes.append(Shape(shapes.take(shapes.varint()), self.strings))
        time, process = head.base_ns, None
        for _ in range(head.records):
            record = Bytes(b.take(b.varint()))
            number = record.varint()
            shape = self.shapes[number >> 2]
            time = time + record.zigzag() & (1 << 64) - 1
            if number & 1:
                process = self.processes[record.varint()]
            if number & 2:
                shape.channel = shape.channel + record.zigzag() & (1 << 64) - 1
            mask = int.from_bytes(record.take((len(shape.fields) + 7) // 8), "little")
            for i, (_, wire) in enumerate(shape.fields):
                if mask >> i & 1:
                    shape.values[i] = value_of(record, wire, shape.values[i], self.strings)
            assert not record.more() and not mask >> len(shape.fields)
            fields = [(name, wire, value) for (name, wire), value in zip(shape.fields, shape.values)]
            yield Record(shape.kind, time, process, shape.channel, shape.type, shape.source, shape.tags, fields)
        assert not b.more(), "something behind the records"


def index_of(data):
    """{(kind, sourcetype, source): records}, {(pid, host_pid): records}"""
    b, sources, processes = Bytes(data), collections.Counter(), collections.Counter()
    for _ in range(b.varint()):
        kind = b.byte()
        sourcetype, source = b.take(b.varint()), b.take(b.varint())
        sources[kind, sourcetype, source] += b.varint()
    for _ in range(b.varint()):
        pid, host_pid = b.varint(), b.varint()
        processes[pid, host_pid] += b.varint()
    assert not b.more()
    return sources, processes


def blocks(data):
    """Head, body, index of each block, what can be checked being right."""
    assert data[:8] == b"SCOPEJNL", "no journal"
    version, crc = struct.unpack("<II", data[8:16])
    assert crc == crc32c(data[:12]) and version == 1, "version %d" % version
    at, begin, number = 16, 16, 0
    while at < len(data):
        assert data[at : at + 4] == b"\x97SJ\x1a", "no block at %d" % at
        assert struct.unpack("<I", data[at + 4 : at + 8])[0] == crc32c(data[at + 8 : at + 80])
        head = Head(*struct.unpack("<IIQQQQQIIIIII", data[at + 8 : at + 80]))
        body = data[at + 80 : at + 80 + head.body]
        index = data[at + 80 + head.body : at + 80 + head.body + head.index]
        assert head.length == 80 + head.body + head.index + 8 and at + head.length <= len(data)
        assert crc32c(body) == head.body_crc and crc32c(index) == head.index_crc
        assert data[at + head.length - 8 : at + head.length] == struct.pack("<I", head.length) + b"\x97JE\x1a"
        if not head.flags & CONTINUES:
            begin = at
        assert head.back == at - begin and head.number == number
        assert not head.flags & ~(CONTINUES | ZSTD)
        raw = decompress(body, head.raw) if head.flags & ZSTD else body
        assert len(raw) == head.raw
        yield head, raw, index
        at += head.length
        number += 1


def records(data):
    group = None
    for head, raw, index in blocks(data):
        if not head.flags & CONTINUES:
            group = Group()
        sources, processes, times = collections.Counter(), collections.Counter(), []
        for record in group.block(head, raw):
            sources[record.kind, b"" if record.kind == METRIC else record.type, record.source] += 1
            processes[record.process["pid"], record.process["host_pid"]] += 1
            times.append(record.time_ns)
            yield record
        assert (sources, processes) == index_of(index), "an index that isn't true"
        assert (min(times), max(times)) == (head.from_ns, head.to_ns)


def text_of(wire, value):
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return ",".join(v.hex() for v in value)
    return str(value)


def line_of(r):
    words = [str(r.kind), str(r.time_ns), str(r.channel), r.type.hex(), r.source.hex()]
    words += ["%s=%s" % (k, v.hex() if isinstance(v, bytes) else v) for k, v in sorted(r.process.items())]
    words += ["%s:%s" % (name.hex(), value.hex()) for name, value in r.tags]
    words += ["%s/%02x/%s" % (name.hex(), wire, text_of(wire, value)) for name, wire, value in r.fields]
    return " ".join(words)


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as f:
        for each in records(f.read()):
            print(line_of(each))
