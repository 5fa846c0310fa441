# SPDX-License-Identifier: Apache-2.0
"""The collector of a host: its sessions, who may join it, what it does when it is told of other rules."""

import errno
import json
import os
import signal
import time

import users
from hostbox import HostBox
from scopetest import check, equal, test

STORE = "/var/lib/appscope/history"


def sessions(box):
    """Metadata of the host's sessions, oldest first."""
    found = []
    top = box.path(STORE)
    for name in sorted(os.listdir(top), key=int) if top.exists() else []:
        text = box.read(f"{STORE}/{name}/session.json")
        if text:
            found.append(json.loads(text))
    return found


def logs(box):
    return b"".join(box.read(f"{STORE}/{s['id']}/scope.log") or b"" for s in sessions(box)).decode(errors="replace")


def events(box, *words, session=None):
    words = [*words, *(["--id", str(session)] if session else [])]
    out = box.scope("events", "--host", "-a", "-j", *words, code=None).out
    return [json.loads(line)["body"] for line in out.splitlines()]


def starts(box, program, **which):
    """Numbers of the processes of which it is told that this program has begun in them."""
    return [e["pid"] for e in events(box, **which) if e["source"] == "proc.start" and e["proc"] == program]


def metadata(box):
    return sessions(box)[-1]


def started(box, rules):
    box.write("/etc/scope/rules.yml", rules)
    box.scope("start")
    return box


def reloaded(ctx, box, rules, condition, what):
    """Other rules; the supervisor looks at the file now and then, and `scope start` has it look at once."""
    box.write("/etc/scope/rules.yml", rules)
    box.scope("start")
    return ctx.wait_for(condition, what)


@test(timeout=60)
def test_collector_sessions(ctx):
    """One session for all programs that rules name; it ends with the collector."""
    with HostBox(ctx) as box:
        started(box, "allow:\n  - procname: seq\n  - procname: date\n")
        for _ in range(3):
            box.run(["seq", "3"], check_code=0)
        box.run(["date"], check_code=0)
        box.run(["sleep", "0"], check_code=0)
        ctx.wait_for(lambda: (len(set(starts(box, "seq"))), len(starts(box, "date"))) == (3, 1), "all are told")
        equal({e["proc"] for e in events(box)} - {"scope"}, {"seq", "date"}, "programs that are told of")
        equal([(s["kind"], s["command"], s["pid"], s["end_ns"]) for s in sessions(box)], [("host", "host", 0, 0)], "sessions")
        equal(os.stat(box.path("/var/lib/appscope")).st_mode & 0o777, 0o700, "mode of the store")
        check(b"host" in box.scope("history", "--host").out, "scope history --host")
        box.scope("stop", "-f")
        last = metadata(box)
        check(last["end_ns"] > last["start_ns"] and not last["telemetry_stopped"] and not last["lost"], last)


@test(timeout=60)
def test_collector_guests(ctx):
    """Programs of any user are let in if a rule names them, scripts by their own names; others are refused."""
    with users.make(ctx, "guest") as user, HostBox(ctx) as box:
        box.write("/usr/lib/tally", "#!/bin/sh -e\n:\n", 0o755)
        started(box, "allow:\n  - procname: seq\n  - procname: tally\n")
        box.run(user.command("seq", "3"), check_code=0)
        box.run(user.command("/usr/lib/tally", "x"), check_code=0)
        box.run(user.command("date"), check_code=0)
        ctx.wait_for(lambda: starts(box, "seq") and [e for e in events(box) if "/usr/lib/tally" in e["cmd"]], "both are told")
        told = events(box)
        check("date" not in {e["proc"] for e in told}, "a program that no rule names")
        equal({e["data"]["uid"] for e in told if e["source"] == "proc.start"}, {user.uid}, "users")
        equal(metadata(box)["lost"], {}, "losses")
        # A program that no rule names asks by itself.
        asked = box.run(user.command("python3", "-c", ASK, "/run/appscope/collector+", "2"), check_code=0)
        equal(int(asked.out), -errno.EPERM, "answer to PLAN of a program that no rule names")
        asked = box.run(user.command("python3", "-c", ASK, "/run/appscope/collector+", "10"), check_code=0)
        equal(int(asked.out), -errno.EPERM, "answer to KNOWN of a stranger")
        ctx.wait_for(lambda: "no rule names its program" in logs(box), "refusals are told")
        # What root's sessions hold is root's.
        refused = box.run(user.command(ctx.scope, "events", "--host"))
        check(refused.code == 1 and b"root" in refused.err, refused.describe())


# A request (wire/join.h); prints the answer.
ASK = """
import socket, struct, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(sys.argv[1])
s.send(struct.pack("=IIQII", 0x314e4a53, int(sys.argv[2]), 0, int((sys.argv[3:] or [0])[0]), 0) + bytes(32 + 256))
print(struct.unpack("=Ii", s.recv(64)[:8])[1])
"""


def ended(process):
    """Ends what runs below nsenter(1)."""
    for child in open(f"/proc/{process.pid}/task/{process.pid}/children").read().split():
        os.kill(int(child), signal.SIGKILL)
    process.wait(20)


def numbers(box, session):
    """Of the files that a program has opened, closed and removed, in their order, as a session tells of them."""
    told = {source: [] for source in ("fs.open", "fs.close", "fs.delete")}
    for e in events(box, session=session):
        if e["source"] in told and "/files/n" in e["data"].get("file", ""):
            told[e["source"]].append(int(e["data"]["file"].rsplit("/n", 1)[1]))
    return told


@test(timeout=90)
def test_collector_rotation(ctx):
    """A session that has become too big is followed by another: each event is in one of both, and none is missing."""
    directory = ctx.fresh("files")
    # Slow enough for both sessions to stay within what all may take, until the store has been looked at once or twice.
    script = (r'for ($i = 0; ; $i++) { open(F, ">", "%s/n$i"); close(F); unlink("%s/n$i"); '
              r'select(undef, undef, undef, 0.05) if $i %% 20 == 0 }' % (directory, directory))
    with HostBox(ctx) as box:
        started(box, "allow:\n  - procname: perl\nsessions:\n  maxsize: 4M\n  days: 7\n")
        program = box.start(["perl", "-e", script])
        ctx.wait_for(lambda: len(sessions(box)) >= 2, "another session", 60)
        ctx.wait_for(lambda: metadata(box)["events"] > 300, "it has events", 30)
        ended(program)
        box.scope("stop", "-f")
        told = {s["id"]: s for s in sessions(box)}
        check(min(told) == 1, "the first session isn't there any more", list(told))
        seen = {i: numbers(box, i) for i in told}
        for i, s in told.items():
            check(s["end_ns"] >= s["start_ns"] and not s["telemetry_stopped"] and not s["lost"], s)
            check(s["events"] >= sum(len(n) for n in seen[i].values()), s)
        check(sum(1 for n in seen.values() if n["fs.open"]) > 1, "told in one session only", {i: len(n["fs.open"]) for i, n in seen.items()})
        counts = []
        for source in ("fs.open", "fs.close", "fs.delete"):
            every = [n for i in sorted(seen) for n in seen[i][source]]
            equal(every, list(range(len(every))), f"numbers that are told by {source}")
            counts.append(len(every))
        check(max(counts) - min(counts) <= 1, "it was ended between two calls", counts)


SLOW = """
#include <time.h>
static int nothing(void) { return 0; }
static int (*chosen(void))(void) { nanosleep(&(struct timespec){%d, 0}, 0); return nothing; }
int slow(void) __attribute__((ifunc("chosen")));
"""


@test(timeout=60)
def test_collector_slow_start(ctx):
    """A program that is still being loaded is attached to. The library that its loader brings then leaves it at that."""
    with HostBox(ctx) as box:
        box.write("/run/slow.c", SLOW % 3)
        box.write("/run/main.c", "#include <unistd.h>\nint slow(void);\nint main(void) { return slow() + pause(); }\n")
        # The loader asks which function is meant before it runs any constructor, ours too.
        box.run(["sh", "-ec", "cd /run; gcc -shared -fPIC -o libslow.so slow.c; "
                 "gcc -o slowly main.c -Wl,--no-as-needed -L. -lslow -Wl,-z,now -Wl,-rpath,/run"], check_code=0)
        started(box, "allow:\n  - procname: slowly\n")
        program = box.start(["/run/slowly"])
        ctx.wait_for(lambda: starts(box, "slowly"), "it is observed")
        equal([e["data"]["start"] for e in events(box) if e["source"] == "proc.start"], ["attach"], "how it began")
        pid = starts(box, "slowly")[0]
        ctx.wait_for(lambda: "libslow" in (box.read(f"/proc/{pid}/maps") or b"").decode(), "it is loaded")
        time.sleep(4)  # its start is over, whatever becomes of it
        maps = box.run(["cat", f"/proc/{pid}/maps"], check_code=0).out.decode()
        equal(len({line.split()[4] for line in maps.splitlines() if "/memfd:scope" in line}), 1, "segments of it")
        check("not the bytes of its file" not in logs(box), logs(box))
        equal(program.poll(), None, "status of the program")


@test(timeout=60)
def test_collector_killed(ctx):
    """The next one begins a new session; that the old one was cut off is written down. Programs go on."""
    with HostBox(ctx) as box:
        started(box, "allow:\n  - procname: sleep\n  - procname: seq\n")
        program = box.start(["sleep", "1000"])
        ctx.wait_for(lambda: starts(box, "sleep"), "it is observed")
        first = metadata(box)
        pid = collector_pid(box)
        os.kill(pid, signal.SIGKILL)
        ctx.wait_for(lambda: metadata(box)["id"] > first["id"], "a new session", 30)
        equal(program.poll(), None, "status of the program")
        old = next(s for s in sessions(box) if s["id"] == first["id"])
        check(old["telemetry_stopped"] and old["end_ns"] >= old["start_ns"], old)
        box.run(["seq", "3"], check_code=0)
        ctx.wait_for(lambda: starts(box, "seq", session=metadata(box)["id"]), "it observes")
        ctx.wait_for(lambda: starts(box, "sleep", session=metadata(box)["id"]), "the program is observed again", 30)
        equal(program.poll(), None, "status of the program")


def collector_pid(box):
    """Of the host's collector, as we see it."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if (os.readlink(f"/proc/{name}/ns/pid") == os.readlink(f"/proc/{box.init}/ns/pid")
                        and f"NSpid:\t{name}\t{metadata(box)['collector']}\n" in open(f"/proc/{name}/status").read()):
                    return int(name)
            except OSError:
                pass
    raise AssertionError("there is no collector")


@test(timeout=60)
def test_collector_reload(ctx):
    """Other rules: what runs gets their configuration, in the session that there is; wrong ones change nothing."""
    rules = "allow:\n  - procname: seq\n  - procname: sleep\n    config:\n      tags:\n        team: %s\n"

    def team(program):
        return [e.get("team") for e in events(box) if e["proc"] == program]

    with HostBox(ctx) as box:
        started(box, rules % "one")
        box.run(["sleep", "0"], check_code=0)
        ctx.wait_for(lambda: "one" in team("sleep"), "the rule's configuration")
        box.run(["seq", "1"], check_code=0)
        reloaded(ctx, box, rules % "two", lambda: logs(box).count("rules are in force") == 1, "other rules")
        box.run(["sleep", "0"], check_code=0)
        ctx.wait_for(lambda: "two" in team("sleep"), "the other configuration")
        equal(set(team("seq")), {None}, "of a program that another rule names")
        equal(len(sessions(box)), 1, "sessions")


@test(timeout=60)
def test_collector_detached(ctx):
    """What the user has detached stays so while rules name it, until it executes another program."""
    with HostBox(ctx) as box:
        started(box, "allow:\n  - procname: sh\n")
        program = box.start(["sh", "-c", "while ! [ -e /run/go ]; do /bin/sleep 0.05; done; exec sh -c 'sleep 100; :'"])
        pid = ctx.wait_for(lambda: next(iter(starts(box, "sh")), 0), "it is observed")

        def known():
            return int(box.run(["python3", "-c", ASK, "/run/appscope/collector+", "10", str(pid)], check_code=0).out)

        equal(known(), 0, "KNOWN of an observed process")
        box.scope("detach", pid)
        equal(known(), -errno.ECANCELED, "KNOWN of a detached process")
        box.write("/run/go", "")
        ctx.wait_for(lambda: known() == 0, "the next program is observed")
        equal(program.poll(), None, "status of the program")
