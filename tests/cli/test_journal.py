# SPDX-License-Identifier: Apache-2.0
"""Sessions that are kept as a journal: what commands read from it, also if it is damaged, written to, or removed."""

import json
import os
import re
import resource
import shutil
import struct
import subprocess
import time
from pathlib import Path

from journal import crc32c
from scopetest import Session, check, equal, test


def observed(ctx, argv, name="j"):
    """A session, over, whose events and metrics are in a journal of its own; the journal's path."""
    path = ctx.dir / name
    session = ctx.scoped(argv, flags=["-e", f"journal://{path}", "-m", f"journal://{path}"], check_code=0).session
    session.wait_end()
    return session, path


def several_blocks(ctx):
    """Each pause is longer than what is gathered for a block."""
    return observed(ctx, ["sh", "-c", "for i in 1 2 3 4 5; do cat /etc/hostname >/dev/null; sleep .2; done"])


def lines(ctx, *argv, code=0):
    return ctx.tool_run(*argv, check_code=code).out.split(b"\n")[:-1]


def handmade(ctx, number, journal, **meta):
    """A session around a journal (bytes); its directory."""
    ctx.valid = False
    path = ctx.home / "history" / str(number)
    path.mkdir(parents=True)
    (path / "journal").write_bytes(journal)
    (path / "session.json").write_text(json.dumps({
        "version": 1, "id": number, "command": "sh", "argv": ["sh"], "cwd": "/", "kind": "run", "pid": 10, "collector": 999999,
        "start_ns": 1, "end_ns": 2, "event_dest": f"journal://{path}/journal", "metric_dest": f"journal://{path}/journal",
        "metric_format": "ndjson", **meta}))
    return path


def without_numbers(some):
    return [re.sub(rb"\d+(\.\d+)?", b"0", re.sub(rb'"uuid":"[^"]*"', b"", line)) for line in some]


@test("journal/same-lines")
def same_lines(ctx):
    """What a file destination gets, and what is printed of a journal."""
    script = ["sh", "-c", "cat /etc/hostname; echo x >y; rm y"]
    observed(ctx, script)
    events, metrics = lines(ctx, "events", "-a", "-j"), lines(ctx, "metrics", "-j")
    to = [ctx.dir / "events", ctx.dir / "metrics"]
    ctx.scoped(script, flags=["-e", f"file://{to[0]}", "-m", f"file://{to[1]}"], check_code=0).session.wait_end()

    def written(path):
        return [line for line in path.read_bytes().split(b"\n")[:-1] if line.startswith(b'{"type"')]

    # The two processes may come in another order.
    for process in (b"sh", b"cat"):
        mark = b'"proc":"%s"' % process
        equal(without_numbers(line for line in events if mark in line),
              without_numbers(line for line in written(to[0]) if mark in line), "events")

    def names(of):
        """Without what is read from /proc: whether a short process is still there then isn't certain."""
        return sorted(set(re.findall(rb'"_metric":"([^"]*)"', b"".join(of))) - {b"proc.fd", b"proc.mem", b"proc.thread"})

    equal(names(metrics), names(written(to[1])), "metrics")
    sample = re.compile(rb'{"type":"metric","body":{"_metric":"fs.open","_metric_type":"counter","_value":\d+,"proc":"cat".*')
    equal(without_numbers(filter(sample.match, metrics)), without_numbers(filter(sample.match, written(to[1]))), "a metric")


@test("journal/selected")
def selected(ctx):
    """Every way of selecting gives what a look at all events gives."""
    several_blocks(ctx)
    everything = lines(ctx, "events", "-a", "-j")
    bodies = [json.loads(line)["body"] for line in everything]
    check(len(everything) > 50, "events", len(everything))

    def those(wanted):
        return [line for line, body in zip(everything, bodies) if wanted(body)]

    pid = next(b["pid"] for b in bodies if b["proc"] == "cat")
    middle = bodies[len(bodies) // 2]["_time"]
    exact = f"{middle:.6f}"
    for flags, want in (
            (["-a"], those(lambda b: True)),
            (["-n", "7"], everything[-7:]),
            (["-n", "100000"], everything),
            (["-s", "fs.op"], those(lambda b: b["source"].startswith("fs.op"))),
            (["-s", "fs.op,proc."], those(lambda b: b["source"].startswith(("fs.op", "proc.")))),
            (["-t", "process"], those(lambda b: b["sourcetype"] == "process")),
            (["-t", "process,net", "-n", "3"], those(lambda b: b["sourcetype"] == "process")[-3:]),
            (["-t", "fs", "-s", "proc"], []),
            (["-p", str(pid)], those(lambda b: b["pid"] == pid)),
            (["-p", str(pid), "-n", "2", "-s", "fs.close"],
             those(lambda b: b["pid"] == pid and b["source"] == "fs.close")[-2:]),
            (["--since", exact], those(lambda b: b["_time"] >= middle)),
            (["--until", exact, "-n", "4"], those(lambda b: b["_time"] <= middle)[-4:]),
            (["--since", exact, "--until", exact], those(lambda b: b["_time"] == middle)),
            (["--since", "1h"], everything),
            (["-m", "/etc/hostname"], those(lambda b: "/etc/hostname" in json.dumps(b))),
            (["-m", "/etc/hostname", "-n", "3"], those(lambda b: "/etc/hostname" in json.dumps(b))[-3:]),
            (["-e", "source == 'proc.exit' && username == 'root' && uid == 0"],
             those(lambda b: b["source"] == "proc.exit")),
            (["-e", "source == 'proc.exit'", "-n", "1"], those(lambda b: b["source"] == "proc.exit")[-1:]),
    ):
        equal(lines(ctx, "events", "-j", *flags), want, " ".join(flags))
        if "-n" not in flags:
            equal(lines(ctx, "events", "-c", *flags), [b"%d" % len(want)], " ".join(flags) + " -c")
    samples = lines(ctx, "metrics", "-j")
    opened = [line for line in samples if b'"_metric":"fs.open"' in line]
    check(samples and opened, "metrics", samples)
    equal(lines(ctx, "metrics", "-j", "-m", "fs.open"), opened, "one metric")
    check(b"did you mean fs.open?" in ctx.tool_run("metrics", "-m", "fs.opne").err, "a metric that there is not")


@test("journal/ids")
def ids(ctx):
    """Each event has an id by which it is found again, by whoever reads the journal in whatever way."""
    several_blocks(ctx)
    everything = lines(ctx, "events", "-a", "-j")
    found = re.findall(r"^\[(\w+)\]", ctx.tool_run("events", "-a").out.decode(), re.M)
    equal(len(set(found)), len(everything), "ids")
    for number in (0, 1, len(found) // 2, len(found) - 1):
        equal(lines(ctx, "events", "-j", found[number]), [everything[number]], found[number])
    wanted = [i for i, line in zip(found, everything) if b'"fs.open"' in line]
    equal(re.findall(r"^\[(\w+)\]", ctx.tool_run("events", "-s", "fs.open", "-n", "5").out.decode(), re.M), wanted[-5:], "selected")
    text = ctx.tool_run("events", found[0]).out.decode()
    check(re.search("^Source: *proc.start", text, re.M), text)
    for wrong in ("zzzzzzzzz", "!", "ZZZZ"):  # the last: of the first block, behind all that it can hold
        check(b"there is no event" in ctx.tool_run("events", wrong, check_code=1).err, wrong)
    # Sorting is by members, and goes back by id.
    order = sorted(everything, key=lambda line: -json.loads(line)["body"]["pid"])
    equal([json.loads(line)["body"]["pid"] for line in lines(ctx, "events", "-j", "-a", "--sort", "pid")],
          [json.loads(line)["body"]["pid"] for line in order], "sorted")
    equal(lines(ctx, "events", "-j", "--sort", "id", "-r", "-n", "9"), everything[-9:], "sorted by id")


@test("journal/report")
def report(ctx):
    """The same as of the lines."""
    observed(ctx, ["sh", "-c", "cat /etc/hostname /etc/passwd >out; rm out"])
    mine = ctx.tool_run("report", "-j", "-a").out
    check(b'"/etc/passwd"' in mine and b'"counter"' in mine, mine)
    events, metrics = lines(ctx, "events", "-a", "-j"), lines(ctx, "metrics", "-j")
    path = handmade(ctx, 9, b"", event_dest=None, metric_dest=None)
    (path / "journal").unlink()
    (path / "events.json").write_bytes(b"".join(line + b"\n" for line in events))
    (path / "metrics.json").write_bytes(b"".join(line + b"\n" for line in metrics))
    equal(ctx.tool_run("report", "-j", "-a", "-i", "9").out, mine, "report")


@test("journal/export")
def export(ctx):
    several_blocks(ctx)
    away = ctx.dir / "a" / "b"
    check(b"--parents" in ctx.tool_run("export", away, check_code=1).err, "a directory that there is not")
    printed = ctx.tool_run("export", "-p", away).out
    equal((away / "events.json").read_bytes().split(b"\n")[:-1], lines(ctx, "events", "-a", "-j"), "events")
    equal((away / "metrics.json").read_bytes().split(b"\n")[:-1], lines(ctx, "metrics", "-j"), "metrics")
    check(str(away).encode() in printed, printed)
    # A session of lines is not written over by itself.
    path = handmade(ctx, 9, b"", event_dest=None, metric_dest=None)
    (path / "journal").unlink()
    shutil.copy(away / "events.json", path)
    shutil.copy(away / "metrics.json", path)
    check(b"own file" in ctx.tool_run("export", path, check_code=1).err, "its own directory")
    equal((path / "events.json").read_bytes(), (away / "events.json").read_bytes(), "the session")
    equal(json.loads(ctx.tool_run("export", "-j", ctx.dir).out)["session"], 9, "JSON")
    equal((ctx.dir / "events.json").read_bytes(), (away / "events.json").read_bytes(), "the same lines again")
    if os.path.exists("/dev/full"):
        os.symlink("/dev/full", ctx.dir / "full")
        full = ctx.fresh("f")
        os.symlink("/dev/full", full / "events.json")
        check(b"No space left" in ctx.tool_run("export", full, check_code=1).err, "a full disk")


@test("journal/torn")
def torn(ctx):
    """Wherever it ends, all whole blocks are read, and it is said once that something is missing."""
    _, path = several_blocks(ctx)
    whole = path.read_bytes()
    everything = lines(ctx, "events", "-a", "-j")
    journal = handmade(ctx, 9, whole) / "journal"
    equal(ctx.tool_run("events", "-a", "-j").err, b"", "of a whole one")
    sizes, complete = set(), 0
    for size in sorted({*range(0, len(whole), max(1, len(whole) // 30)), len(whole) - 1, 1, 15, 16, 17}):
        journal.write_bytes(whole[:size])
        result = ctx.tool_run("events", "-a", "-j")
        got = result.out.split(b"\n")[:-1]
        equal(got, everything[:len(got)], f"the first events of {size} bytes")
        messages = result.err.count(b"scope: ")
        check(messages <= 1, result.describe())
        complete += messages == 0
        if messages:
            check(b"journal ends within a block" in result.err, result.describe())
        sizes.add(len(got))
        equal(lines(ctx, "events", "-j", "-n", "3"), got[-3:], "the last ones")
        equal(lines(ctx, "events", "-c"), [b"%d" % len(got)], "how many")
    check(len(sizes) > 3, "there were few blocks", sizes)
    check(complete <= len(sizes) + 1, "ends that were not told", complete)


@test("journal/damaged")
def damaged(ctx):
    """What can't be read is left out and told once; the rest is there."""
    _, path = several_blocks(ctx)
    whole = path.read_bytes()
    everything = lines(ctx, "events", "-a", "-j")
    journal = handmade(ctx, 9, whole) / "journal"
    missing = 0
    for at in range(20, len(whole), max(1, len(whole) // 25)):
        journal.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1:])
        result = ctx.tool_run("events", "-a", "-j")
        got = result.out.split(b"\n")[:-1]
        rest = iter(everything)
        check(all(line in rest for line in got), f"byte {at}: events that were not written", result.describe())
        if len(got) < len(everything):
            missing += 1
            equal(result.err.count(b"scope: "), 1, f"byte {at}: messages: {result.err}")
        check(ctx.tool_run("report").code == 0, "report")
    check(missing > 10, "damage that was not seen", missing)


def _crc32c(data):
    value = 0xffffffff
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82f63b78 if value & 1 else 0)
    return value ^ 0xffffffff


@test("journal/versions")
def versions(ctx):
    """One that can't be read is named, with what to do; and what is no journal."""
    handmade(ctx, 9, b"")
    equal(ctx.tool_run("events").out, b"", "an empty one")
    equal(ctx.tool_run("metrics").out, b"No metrics available\n", "an empty one")
    journal = ctx.home / "history" / "9" / "journal"
    head = b"SCOPEJNL" + struct.pack("<I", 77)
    journal.write_bytes(head + struct.pack("<I", _crc32c(head)) + b"x" * 100)
    for command in (["events"], ["metrics"], ["report"], ["events", "-c"], ["export", ctx.dir]):
        result = ctx.tool_run(*command, check_code=1)
        check(b"version 77" in result.err and b"newer" in result.err, result.describe())
    journal.write_bytes(b"something else, longer than a head is")
    check(b"no journal" in ctx.tool_run("events", check_code=1).err, "what is no journal")
    journal.unlink()
    check(b"No such file" in ctx.tool_run("events", check_code=1).err, "a journal that is gone")


@test("journal/follow")
def follow(ctx):
    """Events of a running program, while they come; its end."""
    path, go = ctx.dir / "j", ctx.dir / "go"
    os.mkfifo(go)
    program = ctx.start(ctx.scope_argv(["sh", "-c", "while read x; do cat /etc/$x >/dev/null; done <go"],
                                       ["-e", f"journal://{path}", "-m", f"journal://{path}"]))
    with open(go, "w", encoding="ascii") as to:
        ctx.wait_for(lambda: ctx.sessions() and Session(ctx, ctx.sessions()[0]).collector_runs(), "the session")
        reader = subprocess.Popen([ctx.scope, "events", "-f", "-j", "-s", "fs.open", "-m", "/etc/"], env=ctx.env(),
                                  stdout=subprocess.PIPE)
        delays = []
        for _ in range(3):
            for name in ("hostname", "passwd"):
                to.write(name + "\n")
                to.flush()
                while True:
                    line = json.loads(reader.stdout.readline())["body"]
                    if line["data"]["file"] == f"/etc/{name}":
                        delays.append(time.time() - line["_time"])
                        break
        check(min(delays) < 1, "events came late", delays)
    program.wait(20)
    rest, _ = reader.communicate(timeout=60)
    check(b'"/etc/hostname"' not in rest and reader.returncode == 0, "the end", rest)


@test("journal/pruned")
def pruned(ctx):
    """Who reads a session that is removed meanwhile gets all of it."""
    script = "import os\nfor i in range(3000):\n os.close(os.open('/etc/hostname', 0))"
    session, path = observed(ctx, [ctx.tool("python3"), "-c", script])
    everything = ctx.tool_run("events", "-a", "-j").out
    shutil.copy(path, session.dir / "journal")
    meta = session.meta
    (session.dir / "session.json").write_text(json.dumps({**meta, "event_dest": f"journal://{session.dir}/journal"}))
    reader = subprocess.Popen([ctx.scope, "events", "-a", "-j"], env=ctx.env(), stdout=subprocess.PIPE)
    begin = os.read(reader.stdout.fileno(), 1)
    equal(json.loads(ctx.tool_run("prune", "-a", "-f", "-j").out)["removed"], 1, "removed")
    equal(begin + reader.communicate(timeout=60)[0], everything, "what is read")
    equal(reader.returncode, 0, "status")
    check(b"there is no session" in ctx.tool_run("events", check_code=1).err, "afterwards")


def varint(n):
    bytes_ = bytearray()
    while n >= 0x80:
        bytes_.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes([*bytes_, n])


def sized(text):
    return varint(len(text)) + text


def written(strings, processes, shapes, records):
    """A journal of one block, as docs/journal.md says. strings: from number 1 on; the rest: definitions and records."""
    texts = b"".join(sized(text) + b"\0" for text in strings)
    parts = [b"".join(map(sized, some)) for some in (processes, shapes, records)]
    body = struct.pack("<3I", len(texts), len(parts[0]), len(parts[1])) + texts + b"".join(parts)
    index = varint(1) + b"\0" + sized(b"fs") + sized(b"fs.open") + varint(len(records)) + varint(0)
    length = 80 + len(body) + len(index) + 8
    head = struct.pack("<2I5Q6I", length, 0, 0, 0, 10**18, 10**18, 10**18, len(records), len(body), len(body), crc32c(body),
                       len(index), crc32c(index))
    start = b"SCOPEJNL" + struct.pack("<I", 1)
    return (start + struct.pack("<I", crc32c(start)) + b"\x97SJ\x1a" + struct.pack("<I", crc32c(head)) + head + body + index +
            struct.pack("<I", length) + b"\x97JE\x1a")


EVENT = b"\0" + varint(1) + varint(2) + varint(0)  # shape of an event whose sourcetype and source are the first two strings


@test("journal/hostile")
def hostile(ctx):
    """Few bytes that stand for a lot of memory are damage; names of fields reach no terminal as they are."""
    big, names = b"A" * (1 << 20), [b"host", b"proc", b"cmd", b"cgroup", b"exe", b"username"]
    members = b"".join(varint(5 + i) + b"\x30" + varint(4) for i in range(len(names)))
    processes = [varint(3) + b"\x11" + varint(2 * i) + members for i in range(1, 400)]
    handmade(ctx, 1, written([b"fs", b"fs.open", b"pid", big, *names], processes, [EVENT], [b"\1\0\0"]))
    handmade(ctx, 2, written([b"fs", b"fs.open", big], [b""], [EVENT + (varint(3) + b"\x10") * 5000], [b"\1\0\0" + bytes(625)]))
    own = b"__asan_init" in Path(ctx.scope).read_bytes()  # needs terabytes of address space for itself
    limit = None if own else lambda: resource.setrlimit(resource.RLIMIT_AS, (1500 << 20, 1500 << 20))
    for number in ("1", "2"):
        for argv in (["events", "-a", "-j"], ["events", "-a"], ["report"]):
            result = ctx.run([ctx.scope, *argv, "-i", number], env=ctx.env(), preexec=limit)
            check(result.code in (0, 1) and b"damaged" in result.err, number, argv, result.describe())
    escape = b"\x1b]0;x\x07"
    metric = b"\2" + varint(4) + varint(5) + b"\0\0\x10"
    handmade(ctx, 3, written([b"fs", b"fs.open", escape, b"counter", b"fs.read"], [b""], [EVENT + varint(3) + b"\x30", metric],
                             [b"\1\0\0\1" + varint(3), b"\4\0\1\2", b"\0\0\0"]))
    equal(len(lines(ctx, "events", "-a", "-j", "-i", "3")), 2, "events")
    for argv in (["-a"], ["0"], ["2"]):
        out = ctx.tool_run("events", "-i", "3", *argv, check_code=0).out
        check(out and not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", out), argv, out)
    check(b"there is no event" in ctx.tool_run("events", "-i", "3", "1", check_code=1).err, "the number of a metric")
