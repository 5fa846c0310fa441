# SPDX-License-Identifier: Apache-2.0
"""scope start, scope stop, and the supervisor."""

import contextlib
import json
import os
import re
import signal
import stat
import time

from hostbox import HostBox
from scopetest import check, equal, test
from systemd_box import Box

LIB = re.compile(rb"^/usr/lib/appscope/[^/\s]+/\$PLATFORM/libscope\.so$", re.M)
PRELOAD = "/etc/ld.so.preload"
RULES = "allow:\n  - procname: sleep\n"


def status(box):
    return json.loads(box.read("/run/appscope/status.json") or b"{}")


def supervisor(box):
    return status(box).get("pid", 0)


@test(timeout=60)
def test_start_and_stop(ctx):
    with HostBox(ctx) as box:
        places = ("/etc", "/run", "/usr/lib/appscope", "/var/lib", "/var/log")
        before = box.files(*places)
        said = box.scope("start")
        check(b"Started: 0 rules in force" in said.out, said.describe())
        equal(said.err, b"", "standard error")
        check(LIB.fullmatch(box.read(PRELOAD).strip()), box.read(PRELOAD))
        true = box.run(["/bin/true"])
        equal((true.code, true.out, true.err), (0, b"", b""), "a program")
        check(status(box)["ready"], status(box))
        equal(os.stat(box.path("/run/appscope/collector")).st_mode & 0o777, 0o666, "mode of the socket")
        equal(os.stat(box.path("/run/appscope")).st_mode & 0o777, 0o755, "mode of its directory")

        # Once more: nothing changes, nobody is started anew.
        pid = supervisor(box)
        line = box.read(PRELOAD)
        box.scope("start")
        equal((supervisor(box), box.read(PRELOAD)), (pid, line), "after a second start")

        would = box.scope("stop")
        check(b"This would" in would.out and b"scope stop -f" in would.out, would.describe())
        equal(box.read(PRELOAD), line, "after `scope stop` without -f")

        box.scope("stop", "-f")
        equal(box.read(PRELOAD), None, "ld.so.preload")
        equal(supervisor(box), 0, "the supervisor")
        equal(box.read("/run/appscope/rules"), None, "compiled rules")
        box.scope("stop", "-f")
        box.scope("start")
        box.scope("stop", "-f", "--uninstall", "--purge")
        equal(box.files(*places) ^ before, set(), "files that came or went")
        check(not box.path("/usr/lib/appscope").exists() and not box.path("/run/appscope").exists(), "directories stay")


@test(timeout=60)
def test_other_entries(ctx):
    """What others have in ld.so.preload stays, byte for byte, with mode, owner and attributes."""
    with HostBox(ctx) as box:
        text = b"# ours: /usr/lib/appscope/1/libscope.so\n /lib/x86_64-linux-gnu/libm.so.6:\t"
        box.write(PRELOAD, text, 0o640)
        os.chown(box.path(PRELOAD), 0, 4)
        os.setxattr(box.path(PRELOAD), "trusted.mark", b"kept")
        box.scope("start")
        line = LIB.search(box.read(PRELOAD))
        check(line, box.read(PRELOAD))
        equal(box.read(PRELOAD), text + b"\n" + line.group(), "the file")
        st = os.stat(box.path(PRELOAD))
        equal((st.st_mode & 0o7777, st.st_uid, st.st_gid), (0o640, 0, 4), "mode and owner")
        equal(os.getxattr(box.path(PRELOAD), "trusted.mark"), b"kept", "an extended attribute")
        box.scope("stop", "-f")
        equal(box.read(PRELOAD), text, "the file afterwards")


def ready(ctx, box):
    ctx.wait_for(lambda: status(box).get("ready"), "the collector is ready")


def observed(ctx, box):
    """Command lines that the host's sessions have events of, with their tag `kept`."""
    found = set()
    env = box.env(SCOPE_HOME="/var/lib/appscope")
    for number in os.listdir(box.path("/var/lib/appscope/history")):
        if number.isdigit():
            lines = box.run([ctx.scope, "events", "-a", "-j", "--id", number], env=env).out.splitlines()
            bodies = [json.loads(line)["body"] for line in lines if line.startswith(b"{")]
            found |= {(b["cmd"], b.get("kept")) for b in bodies if "cmd" in b}
    return found


def child_of(process):
    """What nsenter(1) has started, once that is scope."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="latin-1") as f:
            pid = int(f.read().split()[0])
        with open(f"/proc/{pid}/comm", encoding="latin-1") as f:
            return f.read() == "scope\n" and pid
    return process.poll() is not None and -1


def outside(box, inside):
    """A process of the box by its number in there."""
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{entry}/status", encoding="latin-1") as f:
                ns = re.search(r"^NSpid:\s*(.*)$", f.read(), re.M).group(1).split()
            if len(ns) == 2 and int(ns[1]) == inside and (os.readlink(f"/proc/{entry}/ns/pid")
                                                          == os.readlink(f"/proc/{box.init}/ns/pid")):
                return int(entry)
        except (OSError, AttributeError, ValueError):
            pass
    return 0


@test(timeout=60)
def test_supervisor(ctx):
    """Who ends is started again; rules are read when they change, and mistakes leave the last good ones in force."""
    with HostBox(ctx) as box:
        box.write("/etc/scope/rules.yml", RULES + "    config:\n      tags: {kept: yes}\n")
        said = box.scope("start")
        check(b"Started: 1 rule in force" in said.out, said.describe())
        first = status(box)
        os.kill(outside(box, first["collector"]), signal.SIGKILL)
        ctx.wait_for(lambda: status(box)["restarts"] == 1, "the collector's end is noticed")
        ready(ctx, box)
        check("can't be kept" not in box.log(), box.log())
        check(status(box)["collector"] != first["collector"], status(box))
        equal(status(box)["pid"], first["pid"], "the supervisor")
        check("was ended by signal 9" in box.log(), box.log())
        ctx.wait_for(lambda: status(box)["reach"], "reach is there")
        os.kill(outside(box, status(box)["reach"]), signal.SIGKILL)
        ctx.wait_for(lambda: status(box)["restarts"] == 2, "reach's end is noticed")

        rules = box.read("/run/appscope/rules")
        box.write("/etc/scope/rules.yml", RULES + "  - procname: [\n")
        ctx.wait_for(lambda: status(box)["rulesError"], "the mistake is noticed")
        check(re.search(r"rules\.yml:[34]: ", status(box)["rulesError"]), status(box)["rulesError"])
        equal(box.read("/run/appscope/rules"), rules, "rules in force")
        said = box.run([ctx.scope, "doctor"])
        check(b"the rules from before are in force" in said.out, said.describe())
        refused = box.scope("start", code=1)
        check(b"rules.yml" in refused.err, refused.describe())
        check(status(box)["ready"] and LIB.search(box.read(PRELOAD)), "what ran was stopped")

        # A collector that is started anew meanwhile has the rules that are in force.
        os.kill(outside(box, status(box)["collector"]), signal.SIGKILL)
        ctx.wait_for(lambda: status(box)["restarts"] == 3, "the collector's end is noticed")
        ready(ctx, box)
        box.run(["sleep", "0.02"], check_code=0)
        ctx.wait_for(lambda: ("sleep 0.02", "yes") in observed(ctx, box), "what is started is observed, as its rule says")

        # As an editor does it: a new file, renamed.
        box.write("/etc/scope/new", RULES + "  - procname: top\n")
        os.rename(box.path("/etc/scope/new"), box.path("/etc/scope/rules.yml"))
        ctx.wait_for(lambda: status(box)["rules"] == 2 and not status(box)["rulesError"], "the new rules are in force")
        check(box.read("/run/appscope/rules") != rules, "the compiled rules are the same")

        # Killed, its children end, too; programs start as ever, and the next one takes over.
        pid = outside(box, status(box)["pid"])
        others = [outside(box, status(box)[n]) for n in ("collector", "reach") if status(box)[n]]
        os.kill(pid, signal.SIGKILL)
        ctx.wait_for(lambda: not any(os.path.exists(f"/proc/{p}/exe") and os.access(f"/proc/{p}/exe", os.F_OK)
                                     for p in others), "its children have ended")
        true = box.run(["/bin/true"])
        equal((true.code, true.err), (0, b""), "a program without a supervisor")
        said = box.run([ctx.scope, "doctor"])
        check(b"the service appscope doesn't run" in said.out, said.describe())
        box.scope("start")
        check(status(box)["ready"], status(box))


@test(timeout=60)
def test_broken_library(ctx):
    """Our line goes when programs don't start with it any more, and comes back with `scope start`."""
    with HostBox(ctx) as box:
        box.write(PRELOAD, "# kept\n")
        box.scope("start")
        line = LIB.search(box.read(PRELOAD)).group().decode()
        lib = line.replace("/$PLATFORM", "")
        box.write(lib + ".new", b"no library")
        os.rename(box.path(lib + ".new"), box.path(lib))
        ctx.wait_for(lambda: box.read(PRELOAD) == b"# kept\n", "the line is taken out")
        ctx.wait_for(lambda: status(box)["preloadError"], "it is told")
        check("it was taken out" in box.log(), box.log())
        said = box.run([ctx.scope, "doctor"])
        check(b"our line was taken out" in said.out, said.describe())
        box.scope("start")
        check(LIB.search(box.read(PRELOAD)), box.read(PRELOAD))
        ctx.wait_for(lambda: not status(box)["preloadError"], "all is well again")

        # Removed with all of its directory.
        box.run(["rm", "-r", os.path.dirname(lib)], check_code=0)
        ctx.wait_for(lambda: box.read(PRELOAD) == b"# kept\n", "the line is taken out again")

        # Somebody else's mistake isn't ours.
        box.scope("start")
        with open(box.path(PRELOAD), "ab") as f:
            f.write(b"/nowhere/lib.so\n")
        true = box.run(["/bin/true"])
        check(b"/nowhere/lib.so" in true.err, true.describe())
        pid = outside(box, supervisor(box))
        os.kill(pid, signal.SIGHUP)
        time.sleep(0.5)
        check(LIB.search(box.read(PRELOAD)), "our line was taken out for what isn't its fault")


def running(box, name):
    """Numbers in the box of the processes that have this name, children of the supervisor or theirs."""
    lines = box.run(["ps", "-e", "-o", "pid=,comm="]).out.decode().split("\n")
    return [int(line.split()[0]) for line in lines if line.split()[1:] == [name]]


@test(timeout=90)
def test_no_verdict(ctx):
    """What looks after ld.so.preload is killed, or can't be started, as when somebody uses up all that the host has: our
    line stays, and is looked after again."""
    slow = ctx.compile("host/slow_start.c", "glibc-O2", (), f"slow-{ctx.dir.name}", shared=True)
    with HostBox(ctx) as box:
        box.scope("start")
        line = box.read(PRELOAD)

        def there(name, but=()):
            check(LIB.search(box.read(PRELOAD) or b""), "the line was taken out: " + box.log())
            return set(running(box, name)) - set(but)

        box.write(PRELOAD, line + f"{slow}\n".encode())
        first = ctx.wait_for(lambda: there("scope-check"), "the line is looked after")
        for pid in first:
            box.run(["kill", "-KILL", pid], check_code=0)
        second = ctx.wait_for(lambda: there("scope-check", first), "it is looked after again")
        for pid in ctx.wait_for(lambda: there("true"), "a program is started for trial"):
            box.run(["kill", "-KILL", pid], check_code=0)
        ctx.wait_for(lambda: not there("scope-check") & second, "it has been looked at")
        there("scope-check")

        # No process can be made.
        box.write(PRELOAD, line)
        ctx.wait_for(lambda: not there("scope-check"), "nothing is looked at")
        out, go = ctx.dir / "full", ctx.dir / "go"
        os.mkfifo(go)
        full = box.start(["python3", "-c", FULL, out, go, ])
        ctx.wait_for(lambda: out.exists(), "there is no number for another process")
        lib = box.path(LIB.search(line).group().decode().replace("/$PLATFORM", ""))
        new = lib.with_name("new")
        new.write_bytes(b"no library")
        new.rename(lib)
        time.sleep(0.5)
        check(box.read(PRELOAD) == line, "the line was taken out")
        go.write_bytes(b"x")
        full.wait(20)
        ctx.wait_for(lambda: box.read(PRELOAD) is None, "the line is taken out now: " + box.log())


# As many processes as there can be in the box's pid namespace, until somebody writes to the second file.
FULL = """
import os, signal, sys
with open("/proc/sys/kernel/pid_max", "w") as f:
    f.write("400")
children = []
try:
    while True:
        pid = os.fork()
        if not pid:
            signal.pause()
        children.append(pid)
except OSError:
    os.close(os.open(sys.argv[1], os.O_CREAT))
open(sys.argv[2]).read()
for pid in children:
    os.kill(pid, 9)
    os.waitpid(pid, 0)
"""


@test(timeout=60)
def test_long_log(ctx):
    """The log of a host without a journal doesn't grow for ever: what stood in it is kept once."""
    with HostBox(ctx) as box:
        box.scope("start")
        log, old = box.path("/var/log/appscope.log"), box.path("/var/log/appscope.log.1")
        with open(log, "ab") as f:
            f.write(b"0123456789abcde\n" * (17 << 16) + b"the last line\n")
        box.write(PRELOAD, box.read(PRELOAD))  # is a reason to look
        ctx.wait_for(lambda: os.stat(log).st_size < 1 << 20, "the log is short again")
        check(old.read_bytes().startswith(b"20") and b"\nthe last line\n" in old.read_bytes(), "what stood in it is lost")
        equal(stat.S_IMODE(os.stat(old).st_mode), 0o600, "mode")
        box.run(["sh", "-c", "kill -HUP $(cat /run/appscope/supervisor)"], check_code=0)
        ctx.wait_for(lambda: "rules in force" in box.log(), "it goes on")
        box.scope("stop", "-f", "--uninstall")
        check(not old.exists() and not log.exists(), "it stays")


@test(timeout=90)
def test_interrupted(ctx):
    """A start that is ended in the middle leaves all or nothing; stop beside start, two at once: one after the other."""
    with HostBox(ctx) as box:
        before = box.files("/etc")

        def consistent():
            runs, line = bool(supervisor(box)), box.read(PRELOAD)
            check(runs or line is None, f"a line without a supervisor: {line}")
            true = box.run(["/bin/true"])
            equal((true.code, true.err), (0, b""), "a program")
            return runs

        for ms in (0, 10, 40, 100, 250):
            process = box.start([ctx.scope, "start"])
            pid = ctx.wait_for(lambda: child_of(process), "the command runs")
            time.sleep(ms / 1000)
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL if ms == 40 else signal.SIGTERM)
            process.wait(30)
            if not consistent():
                equal(box.files("/etc") ^ before, set(), "files of /etc after an undone start")
            box.scope("stop", "-f")
            check(not consistent(), "it runs after `scope stop -f`")
        pair = [box.start([ctx.scope, "start"]) for _ in range(2)]
        equal([p.wait(30) for p in pair], [0, 0], "two starts at once")
        check(consistent() and box.read(PRELOAD).count(b"\n") == 1, box.read(PRELOAD))
        pair = [box.start([ctx.scope, *w]) for w in (["stop", "-f"], ["start"], ["stop", "-f"], ["start"])]
        equal([p.wait(60) for p in pair], [0, 0, 0, 0], "stops and starts at once")
        equal(consistent(), box.read(PRELOAD) is not None, "on or off")
        box.scope("stop", "-f")
        check(not consistent(), "it runs")


@test("systemd", timeout=120)
def under_systemd(ctx):
    """The real one: enabled, started, watched, reloaded, restarted when it is killed, stopped, and nothing is left."""
    ctx.valid = False  # its paths are those of the box
    box = Box(ctx)
    # A whiteout of overlayfs: what others put there on this machine is none of the box's, and may change while it is removed.
    (box.overlay / "upper/lib").mkdir(mode=0o755)
    os.mknod(box.overlay / "upper/lib/appscope", stat.S_IFCHR, os.makedev(0, 0))
    with box:
        def read(name):
            path = box.root / name.lstrip("/")
            return path.read_bytes() if path.exists() else None

        def told():
            return json.loads(box.run(["cat", "/run/appscope/status.json"]).out or b"{}")

        def observed():
            lines = box.run(["scope", "events", "-a", "-j"], env=box.env(SCOPE_HOME="/var/lib/appscope")).out.splitlines()
            return {json.loads(line)["body"].get("cmd") for line in lines if line.startswith(b"{")}

        def scope(*words, code=0):
            result = box.run(["scope", *words])
            check(result.code == code, result.describe(), box.journal("appscope.service")[-3000:])
            return result

        box.write("etc/scope/rules.yml", RULES)
        running = box.start(["sleep", "1000"])
        box.unit("caged.service", "[Service]\nExecStart=sleep 2000\nDynamicUser=yes\nMemoryDenyWriteExecute=yes\n"
                 "SystemCallFilter=@system-service\nSystemCallFilter=~@privileged\n")
        box.systemctl("start", "caged.service")
        before = {p for p in (box.root / "etc").rglob("*")}
        said = scope("start")
        check(b"service appscope (systemd)" in said.out, said.describe())
        check(LIB.fullmatch(read(PRELOAD).strip()), read(PRELOAD))
        for unit in ("appscope.service", "appscope.socket"):
            equal(box.systemctl("is-enabled", unit).strip(), "enabled", unit)
            equal(box.systemctl("is-active", unit).strip(), "active", unit)
        shown = box.show("appscope.service", "StatusText", "NRestarts", "MainPID", "WatchdogTimestampMonotonic")
        equal((shown["StatusText"], shown["NRestarts"]), ("1 rule in force", "0"), "what it says")
        sockets = box.run(["ls", "-la", "/run/appscope"]).out
        check(re.search(rb"^srw-rw-rw- .* collector$", sockets, re.M), sockets)
        # What its restrictions don't let it do would be told; where pids are others' no events come from the kernel.
        errors = [line for line in box.journal("appscope.service").splitlines()
                  if re.search("ended|refused|denied|permitted|failed", line) and "/proc is looked through" not in line]
        equal(errors, [], "in its journal")

        # By the loader, and by being attached to, in a sandbox too.
        box.run(["sleep", "0.01"], check_code=0)
        ctx.wait_for(lambda: {"sleep 0.01", "sleep 1000", "sleep 2000"} <= observed(), "all are observed")

        checked = box.run(["systemd-analyze", "verify", "/etc/systemd/system/appscope.service",
                           "/etc/systemd/system/appscope.socket"])
        equal((checked.code, checked.out + checked.err), (0, b""), "systemd-analyze verify")
        rated = box.run(["systemd-analyze", "security", "--no-pager", "appscope.service"]).out
        level = re.search(rb"Overall exposure level for appscope.service: ([0-9.]+)", rated)
        check(level and float(level.group(1)) <= 8.4, rated.decode())

        box.write("etc/scope/rules.yml", RULES + "  - {\n")
        box.systemctl("reload", "appscope.service")
        ctx.wait_for(lambda: "rules.yml:" in box.show("appscope.service", "StatusText")["StatusText"], "the mistake is told")
        box.write("etc/scope/rules.yml", RULES)
        ctx.wait_for(lambda: box.show("appscope.service", "StatusText")["StatusText"] == "1 rule in force", "it is mended")

        box.systemctl("kill", "--kill-who=main", "--signal=SIGKILL", "appscope.service")
        ctx.wait_for(lambda: box.show("appscope.service", "NRestarts")["NRestarts"] == "1" and told().get("ready"),
                     "systemd has started it again")
        scope("start")
        equal(box.show("appscope.service", "NRestarts")["NRestarts"], "1", "restarts after another `scope start`")

        scope("stop", "-f")
        check(running.poll() is None, "a program that was observed has ended")
        equal(read(PRELOAD), None, "ld.so.preload")
        for unit in ("appscope.service", "appscope.socket"):
            equal(box.systemctl("is-enabled", unit, check_code=1).strip(), "disabled", unit)
            equal(box.systemctl("is-active", unit, check_code=3).strip(), "inactive", unit)
        scope("stop", "-f", "--uninstall")
        equal({p for p in (box.root / "etc").rglob("*")} ^ before, set(), "files of /etc that came or went")
        equal(box.systemctl("is-active", "appscope.service", check_code=None).strip(), "inactive", "the service")
        equal(box.run(["ls", "/usr/lib/appscope", "/run/appscope"]).out, b"", "files of ours")


@test(timeout=60)
def test_init_script(ctx):
    """Where init scripts start services."""
    with HostBox(ctx, prepare="mkdir -p /etc/init.d /etc/rc0.d /etc/rc2.d /etc/rc3.d") as box:
        before = box.files("/etc")
        said = box.scope("start")
        check(b"service appscope (init scripts)" in said.out, said.describe())
        check(any(n.endswith("rc2.d/S01appscope") for n in box.files("/etc")), "no link in /etc/rc2.d")
        script = ["/etc/init.d/appscope"]
        pid = supervisor(box)
        for word, code in (("status", 0), ("start", 0), ("reload", 0), ("stop", 0), ("stop", 0), ("status", 3), ("reload", 1),
                           ("start", 0), ("status", 0), ("nonsense", 2)):
            result = box.run([*script, word])
            equal(result.code, code, f"{word}: {result.describe()}")
            if word == "start":
                ready(ctx, box)
            if word == "reload" and code == 0:
                equal(supervisor(box), pid, "the supervisor after a reload")
        box.scope("stop", "-f", "--uninstall", "--purge")
        equal(box.files("/etc") ^ before, set(), "files of /etc that came or went")


@test(timeout=60, arch="x86_64")
def test_other_word_size(ctx):
    """Programs of i386 find a library of theirs, and say nothing."""
    loader = "/lib/ld-linux.so.2"
    check(os.path.exists(loader), f"{loader} is missing (libc6-i386)")
    source = ctx.dir / "hello.c"
    source.write_text('#include <stdio.h>\nint main(void) { return puts("hello") < 0; }\n')
    ctx.run([ctx.tool("gcc"), "-m32", "-o", ctx.dir / "hello", source], check_code=0)
    with HostBox(ctx) as box:
        box.scope("start")
        run = [] if ctx.runs_32bit() else [ctx.tool("qemu-i386-static")]
        result = box.run([*run, ctx.dir / "hello"])
        equal((result.code, result.out, result.err), (0, b"hello\n", b""), "the program")
        listed = box.run([*run, loader, "--list", ctx.dir / "hello"])
        check(re.search(rb"/i[3-6]86/libscope\.so", listed.out), listed.describe())
        where = b"".join(LIB.findall(box.read(PRELOAD))).decode().replace("$PLATFORM", "i686")
        described = box.run(["readelf", "-W", "-h", "-l", "-d", where])
        equal((described.code, described.err), (0, b""), "readelf")
        # As it would be with a plain path.
        box.write(PRELOAD, where.replace("i686", "x86_64") + "\n")
        plain = box.run([*run, ctx.dir / "hello"])
        check(b"wrong ELF class" in plain.err, plain.describe())


@test(timeout=60)
def test_refused(ctx):
    """What can't be done is said, and nothing is left of the attempt."""
    with HostBox(ctx) as box:
        before = box.files("/etc", "/usr/lib/appscope")
        for prepare, what in (("ln -s elsewhere /etc/ld.so.preload", b"symbolic link"),
                              ("printf 'a\\0b\\n' >/etc/ld.so.preload", b"NUL"),
                              ("mkdir -p /etc/scope && echo 'allow: 5' >/etc/scope/rules.yml", b"rules.yml:1:"),
                              ("mkdir -m 777 /usr/lib/appscope", b"/usr/lib/appscope")):
            box.run(["sh", "-c", prepare], check_code=0)
            refused = box.scope("start", code=1)
            check(what in refused.err and refused.out == b"", prepare, refused.describe())
            equal(supervisor(box), 0, f"a supervisor after {prepare}")
            box.run(["rm", "-r", "/etc/ld.so.preload"])
            box.run(["rm", "-r", "/etc/scope"])
            box.run(["rmdir", "/usr/lib/appscope"])
            equal(box.files("/etc", "/usr/lib/appscope") ^ before, set(), f"files that came or went after {prepare}")
        user = box.run(["setpriv", "--reuid=65534", "--clear-groups", ctx.scope, "start"])
        check(user.code == 1 and b"only root" in user.err, user.describe())
        equal(box.run([ctx.scope, "stop", "--purge"]).code, 2, "--purge without --uninstall")


@test(timeout=60)
def test_from_a_container(ctx):
    """-R: a root directory with nothing in it but scope, where the host's is mounted below /hostfs."""
    inside = r"""
mkdir -p /run/c/hostfs /run/c/proc && cp "$0" /run/c/scope && mount --rbind / /run/c/hostfs && mount --rbind /proc /run/c/proc &&
exec chroot /run/c /scope "$@"
"""
    with HostBox(ctx) as box:
        def scope(*words):
            return box.run(["unshare", "--mount", "sh", "-c", inside, ctx.scope, *words], check_code=0)

        scope("start", "-R", "/hostfs")
        check(LIB.fullmatch(box.read(PRELOAD).strip()), box.read(PRELOAD))
        check(status(box)["ready"], status(box))
        root = box.run(["readlink", f"/proc/{supervisor(box)}/root", f"/proc/{supervisor(box)}/exe"]).out.split()
        check(root[0] == b"/" and root[1].startswith(b"/usr/lib/appscope/"), root)
        scope("stop", "-f", "-R", "/hostfs")
        equal((box.read(PRELOAD), supervisor(box)), (None, 0), "after `scope stop -f -R`")
