# SPDX-License-Identifier: Apache-2.0
"""Commands: what they print, their exit statuses, and how they read sessions that the test has written by hand."""

import contextlib
import errno
import fcntl
import json
import os
import re
import resource
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

from scopetest import TOP, Skip, check, equal, test
from terminal import Terminal, on_terminal
from tlstest import certificate

EVENTS = [
    {"sourcetype": "fs", "source": "fs.open", "proc": "cat", "cmd": "cat /etc/hosts", "pid": 10,
     "data": {"proc": "cat", "pid": 10, "host": "h1", "file": "/etc/hosts", "file_perms": 644, "op": "openat"}},
    {"sourcetype": "fs", "source": "fs.close", "proc": "cat", "cmd": "cat /etc/hosts", "pid": 10,
     "data": {"file": "/etc/hosts", "file_read_bytes": 200, "file_read_ops": 2, "file_write_bytes": 0,
              "file_write_ops": 0, "duration": 3, "op": "close"}},
    {"sourcetype": "console", "source": "stdout", "proc": "cat", "cmd": "cat /etc/hosts", "pid": 10,
     "data": {"message": "127.0.0.1 localhost \u00fc \u001b[31mred"}},
    {"sourcetype": "net", "source": "net.open", "proc": "curl", "cmd": "curl x", "pid": 11,
     "data": {"net_transport": "IP.TCP", "net_peer_ip": "10.0.0.9", "net_peer_port": 80, "net_host_ip": "10.0.0.5",
              "net_host_port": 51022}},
    {"sourcetype": "fs", "source": "fs.close", "proc": "curl", "cmd": "curl x", "pid": 11,
     "data": {"file": "/tmp/out", "file_read_bytes": 0, "file_read_ops": 0, "file_write_bytes": 5000,
              "file_write_ops": 5, "duration": 9, "op": "close"}},
    {"sourcetype": "metric", "source": "notice", "proc": "curl", "cmd": "curl x", "pid": 11,
     "data": "Truncated metrics. Your rate exceeded 10 metrics per second"},
]

METRICS = [
    ("fs.read", "counter", 200, {"proc": "cat", "pid": 10, "host": "h1", "unit": "byte", "summary": "true"}),
    ("proc.cpu_perc", "gauge", 1.25, {"proc": "cat", "pid": 10, "host": "h1", "unit": "percent"}),
    ("fs.read", "counter", 300, {"proc": "cat", "pid": 10, "host": "h1", "unit": "byte", "summary": "true"}),
    ("net.duration", "timer", 7, {"proc": "curl", "pid": 11, "host": "h1", "unit": "millisecond"}),
]

START = {"format": "ndjson", "info": {"process": {"pid": 10, "uid": 1000, "gid": 100, "username": "ann",
                                                   "groupname": "users", "procname": "cat"}}}


def write_session(ctx, number, events=None, metrics=None, log="", **meta):
    """A session directory as the collector leaves it, with as little in it as the test needs."""
    ctx.valid = False
    path = ctx.home / "history" / str(number)
    path.mkdir(parents=True)
    lines = [json.dumps(START)] if events else []
    for i, body in enumerate(events or []):
        body = {"sourcetype": body["sourcetype"], "_time": 1700000000.25 + i, "source": body["source"], "host": "h1",
                **{k: v for k, v in body.items() if k not in ("sourcetype", "source")}}
        lines.append(json.dumps({"type": "evt", "id": "h1-x", "_channel": str(i + 1), "body": body},
                                separators=(",", ":"), ensure_ascii=False))
    (path / "events.json").write_text("".join(line + "\n" for line in lines))
    (path / "metrics.json").write_text(metrics if isinstance(metrics, str) else "".join(
        json.dumps({"type": "metric", "body": {"_metric": name, "_metric_type": kind, "_value": value, **tags,
                                               "_time": 1700000010.5 + i}}, separators=(",", ":")) + "\n"
        for i, (name, kind, value, tags) in enumerate(metrics or [])))
    (path / "scope.log").write_text(log)
    (path / "session.json").write_text(json.dumps({
        "version": 1, "id": number, "command": "cat", "argv": ["cat", "/etc/hosts"], "cwd": "/", "kind": "run",
        "pid": 10, "collector": 999999, "start_ns": 1700000000 * 10**9, "end_ns": 1700000007 * 10**9,
        "event_dest": f"file://{path}/events.json", "metric_dest": f"file://{path}/metrics.json",
        "metric_format": "ndjson", "events": len(events or []), "metrics": 4, "processes": 2, "held_back": 0,
        "lost": {}, "exit_code": 0, "exit_signal": 0, "telemetry_stopped": False, **meta}))
    return path


def out(ctx, *argv, code=0):
    return ctx.tool_run(*argv, check_code=code).out.decode()


def err(ctx, *argv, code):
    result = ctx.tool_run(*argv, check_code=code)
    equal(result.out, b"", "standard output of a command that failed")
    return result.err.decode()


def objects(ctx, *argv):
    # Not splitlines(): text may hold other characters that end lines for Python.
    return [json.loads(line) for line in out(ctx, *argv).split("\n") if line]


def bodies(ctx, *argv):
    return [o["body"] for o in objects(ctx, *argv)]


# --- the command line itself ---

@test()
def help_everywhere(ctx):
    overview = out(ctx)
    equal(out(ctx, "--help"), overview)
    equal(out(ctx, "-h"), overview)
    equal(out(ctx, "help"), overview)
    commands = re.findall(r"^  ([a-z]+) {2,}\S", overview.split("Commands:")[1].split("Options:")[0], re.M)
    check("collector" not in commands, "a hidden command is listed")
    for wanted in ("run watch events metrics history ps logs prune extract config doctor version completion "
                   "help").split():
        check(wanted in commands, f"{wanted} is not listed", overview)
    for command in commands:
        text = out(ctx, command, "--help")
        equal(out(ctx, "help", command), text)
        equal(out(ctx, command, "-h"), text)
        check(f"usage: scope {command}" in text and "--help" in text, f"help of {command}", text)


@test()
def usage_errors(ctx):
    for argv, text in [
        (["events", "--souce", "x"], "did you mean --source?"),
        (["events", "-n"], "needs a value"),
        (["events", "-n", "many"], "--last takes a whole number"),
        (["events", "-n", "1e3"], "--last takes a whole number"),
        (["events", "-n", "5", "-a"], "Cannot specify --last and --all"),
        (["events", "--follow", "--sort", "pid"], "Cannot specify --follow and --sort"),
        (["events", "--json=yes"], "--json takes no value"),
        (["events", "a", "b"], "one argument too many"),
        (["events", "--color=purple"], "always|never|auto"),
        (["events", "-e", "1 +"], "--eval"),
        (["metrics", "-g"], "--graph needs --metric"),
        (["prune"], "exactly one of"),
        (["prune", "-a", "-k", "1"], "exactly one of"),
        (["run"], "an argument is missing"),
        (["run", "-v", "10", "true"], "0 to 9"),
        (["run", "--verbosty", "3", "true"], "did you mean --verbosity?"),
        (["run", "-u", "f", "-e", "tcp://h:1", "true"], "Cannot specify --userconfig and --eventdest"),
        (["run", "-c", "edge", "-m", "tcp://h:1", "true"], "Cannot specify --cribldest and --metricdest"),
        (["run", "-e", "carrier-pigeon://x", "true"], "--eventdest"),
        (["watch", "true"], "--interval is missing"),
        (["watch", "-i", "soon", "true"], "--interval takes a time"),
        (["extract"], "an argument is missing"),
        (["config", "chekc"], "none of check, show, default"),
        (["completion", "fish"], "bash and zsh"),
        (["help", "evnts"], "did you mean `scope help events`?"),
        (["-x"], "there is no option -x"),
        (["--"], "missing"),
    ]:
        message = err(ctx, *argv, code=2)
        check(text in message, f"{argv}: the message does not say {text!r}", message)
    check(not ctx.sessions(), "a usage error made a session")


@test()
def words_that_are_no_command(ctx):
    check("did you mean `scope history`?" in err(ctx, "histori", code=127), "no suggestion")
    check("scope help" in err(ctx, "no-such-program-anywhere", code=127), "no pointer to help")


@test()
def commands_of_1_4_that_are_not_built(ctx):
    """They never run a program of that name; who wants that program says so."""
    programs = ctx.fresh("programs")
    former = "bolton prom".split()
    for name in former:
        (programs / name).write_text('#!/bin/sh\necho "program $*"\n')
        (programs / name).chmod(0o755)
    env = ctx.env(PATH=f"{programs}:{os.environ['PATH']}")
    for name in former:
        for argv in ([name], [name, "nginx"], [name, "--help"], ["help", name], ["--help", name]):
            result = ctx.run([ctx.scope, *argv], env=env, check_code=2)
            message = result.err.decode()
            check(result.out == b"" and f"'{name}'" in message and "not built" in message
                  and f"scope run -- {name}" in message, result.describe())
        equal(ctx.run([ctx.scope, "run", "--", name, "x"], env=env, check_code=0).out, b"program x\n")
        equal(ctx.run([ctx.scope, "--", name, "y"], env=env, check_code=0).out, b"program y\n")
        check(f"| {name} |" in out(ctx, "help", "--markdown"), f"{name} in the documentation")
    check("scope attach PID" in err(ctx, "--ldattach", "1", code=2), "an option of the loader of 1.4")
    check("did you mean" in err(ctx, "--help", "evnts", code=2), "help of a misspelt command")
    # An empty part of PATH is the working directory, for the short form as well.
    (ctx.dir / "here").write_text("#!/bin/sh\necho here\n")
    (ctx.dir / "here").chmod(0o755)
    result = ctx.run([ctx.scope, "here"], cwd=ctx.dir, env=ctx.env(PATH=f":{os.environ['PATH']}"), check_code=0)
    equal(result.out, b"here\n", result.describe())


@test()
def exit_statuses_of_run(ctx):
    plain = ctx.dir / "plain"
    plain.write_text("x")
    for argv, code in [(["run", "no-such-program-x"], 127), (["run", "/nonexistent/x"], 127),
                       (["run", str(plain)], 126), (["run", str(ctx.dir)], 126), (["run", ""], 127)]:
        message = err(ctx, *argv, code=code)
        check(message.startswith("scope: "), "message", message)
    check(not ctx.sessions(), "a program that can't be run made a session")
    # As bash has it: whatever is there and can't be executed is 126.
    (ctx.dir / "loop").symlink_to("loop")
    err(ctx, "run", str(ctx.dir / "loop"), code=126)
    err(ctx, "run", str(plain / "x"), code=126)
    equal(ctx.run([ctx.scope, "run", "sh", "-c", "exit 7"]).code, 7, "status")
    equal(ctx.run([ctx.scope, "sh", "-c", "exit 8"]).code, 8, "status of the bare form")
    equal(ctx.run([ctx.scope, "--", "sh", "-c", "exit 9"]).code, 9, "status behind --")
    equal(ctx.run([ctx.scope, "run", "sh", "-c", "kill -TERM $$"]).code, -signal.SIGTERM, "death by signal")
    equal(len(ctx.sessions()), 4, "sessions")


@test()
def priority_of_the_collector(ctx):
    for value in ("5", "0"):
        script = ("p=$(sed -n 's/.*\"collector\": *\\([0-9]*\\).*/\\1/p' \"$SCOPE_HOME\"/history/*/session.json | tail -1);"
                  " cut -d' ' -f19 /proc/$p/stat")
        ran = ctx.run(["env", "SCOPE_COLLECTOR_PRIORITY=" + value, ctx.scope, "run", "sh", "-c", script])
        equal(ran.out.decode().strip(), value, "nice value")


@test()
def files_that_the_kernel_does_not_execute(ctx):
    """Scripts without "#!" go to sh, other files don't: of a program for another machine sh would make commands."""
    def statuses(content):
        file = ctx.dir / "file"
        file.write_bytes(content)
        file.chmod(0o755)
        bare = ctx.run(["bash", "-c", '"$@"', "bash", file, "x y"])
        observed = ctx.run([ctx.scope, "run", file, "x y"])
        equal((observed.code, observed.out), (bare.code, bare.out), observed.describe())
        return observed

    equal(statuses(b'echo "$1"; exit 7\n\0\0').out, b"x y\n", "output of a script")
    statuses(b"")
    for content in (b"\x7fELF\necho command\n", b"echo \0 command\n"):
        result = statuses(content)
        check(result.code == 126 and b"Exec format error" in result.err, result.describe())
    result = statuses(b"#!/nonexistent/interpreter\n")
    check(b"interpreter" in result.err, result.describe())


@test()
def options_of_the_program_are_its_own(ctx):
    equal(out(ctx, "run", "echo", "-n", "--help", "-v"), "--help -v", "output")
    equal(out(ctx, "run", "-v", "3", "--", "echo", "--", "x"), "-- x\n", "output")
    equal(out(ctx, "echo", "-e", "x"), "x\n", "output")


@test()
def program_is_not_disturbed(ctx):
    script = ('echo out; echo err >&2; echo "$0 $*"; cat; '
              'for f in /proc/$$/fd/*; do echo "${f##*/}"; done; env | grep -c ^LD_PRELOAD=; wait; cut -d" " -f14-17 /proc/self/stat >/dev/null')
    bare = ctx.run(["sh", "-c", script, "a", "b c"], stdin=b"input\n", env=ctx.env(LD_PRELOAD=""))
    scoped = ctx.run([ctx.scope, "run", "sh", "-c", script, "a", "b c"], stdin=b"input\n")
    equal((scoped.code, scoped.out, scoped.err), (bare.code, bare.out, bare.err), "what the program prints")
    # No child of ours, not even one that was waited for. (python3 in PATH may be a script with children of its own.)
    code = ("import os, resource as r; u = r.getrusage(r.RUSAGE_CHILDREN); print(u.ru_maxrss, u.ru_minflt)\n"
            "try: os.waitpid(-1, os.WNOHANG)\nexcept ChildProcessError: print('none')")
    equal(out(ctx, "run", sys.executable, "-c", code), "0 0\nnone\n", "traces of children")


@test()
def errors_one_by_one(ctx):
    """Also of a program that has ended before its collector could say what it wants."""
    files = {f"/nonexistent-{i}" for i in range(24)}
    script = "".join(f"/bin/cat {f} 2>&-;" for f in sorted(files))
    for flags, env in ((["-v", "5"], {}), ([], {"SCOPE_EVENT_METRIC": "true", "SCOPE_EVENT_METRIC_NAME": "fs.error"})):
        session = ctx.scoped(["sh", "-c", script], flags, env=ctx.env(**env), check_code=1).session
        samples = session.metrics()
        told = [e["data"] for e in session.events("metric", "fs.error", sync=False)] if env else samples
        missing = files - {m.get("file") for m in told}
        check(not missing, f"{flags} {env}: errors of single operations are missing", sorted(missing))


@test()
def sessions_that_cannot_be_stored(ctx):
    """The program runs all the same; scope says why nothing is recorded."""
    blocked = ctx.dir / "file"
    blocked.write_text("")
    result = ctx.run([ctx.scope, "run", "echo", "done"], env=ctx.env(SCOPE_HOME=blocked / "x"), check_code=0)
    equal(result.out, b"done\n", "output")
    message = result.err.decode()
    check("can't store a session" in message and "unobserved" in message and "SCOPE_HOME" in message, message)
    message = ctx.run([ctx.scope, "events"], env=ctx.env(SCOPE_HOME=blocked)).err.decode()
    check(f"can't read the sessions in {blocked}: Not a directory" in message, message)

    # A name that configuration can't have.
    result = ctx.run([ctx.scope, "run", "echo", "done"], env=ctx.env(SCOPE_HOME=f"{ctx.dir}/new\nline"), check_code=0)
    message = result.err.decode()
    check("can't store a session" in message and "unobserved" in message and message.count("scope: ") == 2, message)

    # One that can't stand in LD_PRELOAD.
    for name in ("with space", "with:colon"):
        result = ctx.run([ctx.scope, "run", "-l", ctx.fresh(name), "echo", "done"], check_code=0)
        check(b"can't install the library" in result.err and b"ld.so" not in result.err, result.describe())
        shutil.rmtree(ctx.home / "history")

    # What is relative to a directory that has been removed is nowhere, least of all below "/".
    gone = ["bash", "-c", 'mkdir gone && cd gone && rmdir ../gone && exec "$@"', "bash", ctx.scope]
    result = ctx.run([*gone, "run", "/bin/echo", "done"], env=ctx.env(SCOPE_HOME="gone"), check_code=0)
    check(result.out == b"done\n" and b"can't store a session" in result.err, result.describe())
    result = ctx.run([*gone, "run", "-e", "./events.json", "/bin/echo", "done"], check_code=2)
    check(b"the working directory is gone" in result.err, result.describe())

    # Begun and not finished: the reason is told, and nothing is left that readers would take for the last session.
    result = ctx.run(["bash", "-c", f"ulimit -f 1; exec {ctx.scope} run echo done"], check_code=0)
    message = result.err.decode()
    check("scope.yml: File too large" in message, message)
    equal(ctx.sessions(), [], "sessions")


def in_mounts(ctx, script, *argv):
    """Runs a shell script as root in a mount namespace of its own."""
    unshare = [ctx.tool("unshare"), *([] if os.geteuid() == 0 else ["-r"]), "-m"]
    if ctx.run([*unshare, "mount", "-t", "tmpfs", "none", ctx.dir]).code != 0:
        raise Skip("file systems can't be mounted here")
    return ctx.run([*unshare, "sh", "-ec", script, "sh", *argv], env=ctx.env(SCOPE_HOME=""))


@test()
def homes_that_are_not_there(ctx):
    """Neither HOME nor /tmp is made by us: its rights would be wrong for everybody else."""
    home = ctx.dir / "nobody"
    result = ctx.run([ctx.scope, "run", "echo", "done"], env=ctx.env(SCOPE_HOME="", HOME=home), check_code=0)
    check(result.out == b"done\n" and str(home).encode() in result.err, result.describe())
    check(not home.exists(), "HOME was made")
    # A root directory without /tmp, and HOME isn't set.
    script = ('r=$1/root; mkdir "$r"; for d in usr bin lib lib64 proc dev etc; do [ -e "/$d" ] || continue; mkdir "$r/$d"; '
              'mount --rbind "/$d" "$r/$d"; done; mkdir "$r/tool"; mount --bind "$2" "$r/tool"; '
              'chroot "$r" /usr/bin/env -u HOME -u TMPDIR /tool/scope run echo done; ! [ -e "$r/tmp" ]')
    result = in_mounts(ctx, script, ctx.dir, os.path.dirname(os.path.realpath(ctx.scope)))
    check(result.code == 0 and result.out == b"done\n" and b"can't store a session" in result.err, result.describe())
    shutil.rmtree(ctx.dir / "root", ignore_errors=True)


@test()
def destinations_need_no_session(ctx):
    """Where no session can be stored, what goes elsewhere is told there, and what isn't kept is said."""
    blocked = ctx.dir / "file"
    blocked.write_text("")
    process = ctx.start(["sleep", "1000"])
    for argv in (["run"], ["attach"]):
        target = ["cat", "/dev/null"] if argv == ["run"] else [process.pid]
        for flags, missing in ((["-e"], b"metrics are not kept"), (["-m"], b"events are not kept"), (["-c"], None), (["-e", "-m"], None)):
            s, url = receiver("tcp")
            flags = [word for flag in flags for word in (flag, url)]
            result = ctx.run([ctx.scope, *argv, *flags, *target], env=ctx.env(SCOPE_HOME=blocked / "x"), check_code=0)
            check(b"can't store a session" in result.err and b"unobserved" not in result.err, result.describe())
            check((missing in result.err) if missing else b"not kept" not in result.err, result.describe())
            check(b'"proc.start"' in received(s, "tcp", b'"proc.start"'), f"{argv} {flags}: what came")
            s.close()
            if argv == ["attach"]:
                ctx.run([ctx.scope, "detach", process.pid], check_code=0)
    result = ctx.run([ctx.scope, "attach", process.pid], env=ctx.env(SCOPE_HOME=blocked / "x"), check_code=1)
    check(b"can't store a session" in result.err, result.describe())


@test()
def readers_do_not_wait_for_refused_destinations(ctx):
    """A second after a run whose destination is refused, and while its collector ends."""
    for pause in (0, 1, 2.5):
        session = ctx.scoped(["true"], ["-e", "tcp://127.0.0.1:1"]).session
        time.sleep(pause)
        begun = time.monotonic()
        result = ctx.tool_run("metrics")
        equal(result.err, b"", f"messages {pause} s after the run")
        # It stays two seconds after the program's end, and is asked before.
        check(pause or session.collector_runs() or time.monotonic() - begun < 1.5, "the reader waited until the end")


@test()
def no_breaker(ctx):
    """Cribl is asked by the first message of a connection; the program's environment stays what it was."""
    s, url = receiver("tcp")
    result = ctx.run([ctx.scope, "run", "-n", "-c", url, "env"], check_code=0)
    check(b"BREAKER" not in result.out and result.err == b"", result.describe())
    check(b'"breaker":"Cribl - Do Not Break Ruleset"' in received(s, "tcp", b"\n"), "the message")


@test()
def a_store_in_disorder(ctx):
    """Neither what lies in the place of a file nor a command that was stopped keeps programs from starting."""
    ctx.home.mkdir(exist_ok=True)
    os.mkfifo(ctx.home / "count")
    equal(ctx.run([ctx.scope, "run", "echo", "done"], timeout=20).out, b"done\n", "output with a FIFO")
    holder = os.open(ctx.home / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(holder, fcntl.LOCK_EX)
    equal(ctx.run([ctx.scope, "run", "echo", "done"], timeout=20).out, b"done\n", "output while the store is locked")
    os.close(holder)
    equal(len(ctx.sessions()), 2, "sessions")


@test(timeout=60)
def a_disk_that_becomes_full(ctx):
    """What could not be kept is told all the same, by the session and not by a killed collector."""
    disk = ctx.fresh("disk")
    script = ('mount -t tmpfs -o size=256k none "$1" || exit 77; export SCOPE_HOME=$1/home; scope=$2; '
              'hold() { while "$scope" history -r -j | grep -q .; do sleep 0.1; done; }; '
              '"$scope" run sh -c \'i=0; while [ $i -lt 100000 ]; do : </dev/null; i=$((i+1)); done; exit 3\' || echo "status $?"; '
              # the last that the collector has to say is what was lost
              'hold; a=; until b=$("$scope" events -c); [ "$a" = "$b" ]; do a=$b; sleep 1; done; '
              '"$scope" history -i 1 -j; "$scope" events -c; "$scope" events -a -j | wc -l; "$scope" metrics -j | wc -l')
    result = ctx.run([ctx.tool("unshare"), *([] if os.geteuid() == 0 else ["-r"]), "-m", "sh", "-c", script, "sh", disk, ctx.scope])
    if result.code != 0 and not result.out:
        raise Skip("file systems can't be mounted here")
    status, text, *numbers = result.out.decode().split("\n")[:-1]
    equal(status, "status 3", result.describe())
    session = json.loads(text)
    check(session["lost"].get("destination", 0) > 1000, "what was lost", session)
    check(session["exit_code"] == 3 and not session["telemetry_stopped"], "how it ended", session)
    counted, events, metrics = map(int, numbers)
    check(events == counted > 500, "what was kept can be read", result.describe())
    check(events + metrics + session["lost"]["destination"] >= session["events"] + session["metrics"], "all is there or told", result.describe())


@test()
def limits_of_the_program(ctx):
    """Limits that scope itself runs into do not keep the program from running as it would."""
    limits = ["-f 0", "-n 8"]
    if b"__asan_init" not in Path(ctx.scope).read_bytes():  # which needs terabytes of address space for itself
        limits.append("-v 40000")
    for limit in limits:
        result = ctx.run(["bash", "-c", f"ulimit {limit}; exec {ctx.scope} run echo done"])
        equal((result.code, result.out), (0, b"done\n"), f"with ulimit {limit}: {result.describe()}")
    # Arguments of the greatest length that there may be: ours must not make them too many.
    stack = lambda: resource.setrlimit(resource.RLIMIT_STACK, (512 << 10, 512 << 10))

    def run(prefix, length):
        try:
            return ctx.run([*prefix, "/bin/echo", *["x" * 1000] * (length // 1009), "y" * (length % 1009)], preexec=stack)
        except OSError as error:
            equal(error.errno, errno.E2BIG, "error")
            return None

    fits, fails = 10000, 1 << 20
    while fails - fits > 1:
        length = (fits + fails) // 2
        fits, fails = (length, fails) if run([], length) else (fits, length)
    prefix = [str(ctx.scope), "run", "--"]
    fits -= sum(len(word) + 1 + 8 for word in prefix) + len(prefix[0])  # 8: of a pointer; the file's name is there once more
    fits -= 32  # alignment, length of what remains
    observed, bare = run(prefix, fits), run([], fits)
    equal((observed.code, observed.out), (0, bare.out), "with long arguments")
    check(b"unobserved" in observed.err, observed.err)
    result = ctx.run([ctx.scope, "run", "sh", "-c", "exec grep -E '^Sig(Ign|Blk|Cgt)' /proc/self/status"])
    bare = ctx.run(["sh", "-c", "exec grep -E '^Sig(Ign|Blk|Cgt)' /proc/self/status"])
    equal(result.out, bare.out, "signal dispositions")


@test()
def process_1_of_a_container(ctx):
    """Scope stays, the program is its child, signals arrive, and everything is recorded before the container ends."""
    unshare = [ctx.tool("unshare"), *([] if os.geteuid() == 0 else ["-r"]), "--pid", "--fork", "--mount-proc",
               "--kill-child"]
    if ctx.run([*unshare, "true"]).code != 0:
        raise Skip("pid namespaces can't be made here")
    env = ctx.env(SCOPE_HOME=ctx.dir / "inside")  # its process ids mean others out here
    result = ctx.run([*unshare, ctx.scope, "run", "sh", "-c", "(sleep 0.1; echo late) & wait; echo $$; exit 5"], env=env)
    equal(result.code, 5, "status")
    check(result.out.startswith(b"late\n") and result.out != b"late\n1\n", result.out)
    meta = json.loads((ctx.dir / "inside" / "history" / "1" / "session.json").read_text())
    check(meta["end_ns"] > 0, "the collector could not finish", meta)
    text = ctx.run([ctx.scope, "events", "-t", "console", "-a"], env=env).out
    check(b"late" in text, "what was recorded", text)
    for sig, code in ((signal.SIGTERM, 9), (signal.SIGKILL, 137)):
        mark = ctx.dir / f"mark-{code}"
        process = ctx.start([*unshare, ctx.scope, "run", "sh", "-c",
                             f"trap 'exit 9' TERM; touch {mark}; while :; do sleep 0.05; done"], env=env)
        ctx.wait_for(mark.exists, "the program")
        if sig == signal.SIGTERM:  # process 1 gets it
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            os.kill(int(children[0]), sig)
        else:
            one = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0]
            for child in Path(f"/proc/{one}/task/{one}/children").read_text().split():
                with contextlib.suppress(OSError): # one that helped to start it may end meanwhile
                    if "trap" in Path(f"/proc/{child}/cmdline").read_text():
                        os.kill(int(child), sig)
        equal(process.wait(15), code, f"status after {sig.name}")


@test()
def mistakes_in_the_environment(ctx):
    """They are told in the log, not among the program's messages."""
    result = ctx.run([ctx.scope, "run", "echo", "done"], env=ctx.env(SCOPE_METRIC_VERBOSITY="much"))
    equal((result.code, result.out, result.err), (0, b"done\n", b""), "the program")
    check("SCOPE_METRIC_VERBOSITY" in out(ctx, "logs"), "the log")


@test()
def user_config(ctx):
    missing = ctx.run([ctx.scope, "run", "-u", ctx.dir / "none.yml", "true"])
    equal(missing.code, 125, "status with a missing file")
    equal(missing.err.count(b"none.yml"), 1, f"messages: {missing.err}")
    good = ctx.dir / "good.yml"
    events = ctx.dir / "own-events.json"
    good.write_text(f"event:\n  transport:\n    type: file\n    path: {events}\n")
    ctx.run([ctx.scope, "run", "-u", good, "true"], check_code=0)
    meta = ctx.session().meta
    equal(meta["event_dest"], f"file://{events}", "destination")
    check("path: " + str(events) in (ctx.session().dir / "scope.yml").read_text().replace("'", "").replace('"', ""),
          "the session's scope.yml does not name it")


@test()
def destinations(ctx):
    relative = ctx.fresh("here")
    result = ctx.run([ctx.scope, "run", "-e", "file://./e.json", "-m", "udp://127.0.0.1:9", "--metricformat", "statsd",
                      "true"], cwd=relative)
    if result.code == 2:  # a relative path may be refused, but with a reason
        check(b"--eventdest" in result.err, result.err)
        ctx.run([ctx.scope, "run", "-m", "udp://127.0.0.1:9", "--metricformat", "statsd", "true"], check_code=0)
    meta = ctx.session().meta
    equal((meta["metric_dest"], meta["metric_format"]), ("udp://127.0.0.1:9", "statsd"), "destination")
    equal(out(ctx, "metrics"), f"The metrics of session {meta['id']} went to udp://127.0.0.1:9\n", "what metrics says")


class TlsReceiver:
    """Takes TLS connections and keeps what comes."""

    def __init__(self, ctx):
        self.cert, key = certificate(ctx)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.cert, key)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.data = b""
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            connection, _ = self.listener.accept()
            try:
                with self.context.wrap_socket(connection, server_side=True) as tls:
                    while piece := tls.recv(65536):
                        self.data += piece
            except OSError:  # refused by the client
                connection.close()


@test()
def flags_leave_how_servers_are_verified(ctx):
    """A flag names the destination; the variables say which certificates are trusted."""
    server = TlsReceiver(ctx)
    for flag, variables in (("-e", "SCOPE_EVENT"), ("-m", "SCOPE_METRIC"), ("-c", "SCOPE_CRIBL")):
        for name, value in (("TLS_CA_CERT_PATH", server.cert), ("TLS_VALIDATE_SERVER", "false")):
            server.data = b""
            env = ctx.env(**{f"{variables}_{name}": value})
            ctx.run([ctx.scope, "run", flag, f"tls://localhost:{server.port}", "cat", "/dev/null"], env=env, check_code=0)
            ctx.wait_for(lambda: b"cat" in server.data, f"{flag} with {variables}_{name}: something is received")


@test()
def flags_without_effect(ctx):
    result = ctx.run([ctx.scope, "run", "-e", "tcp://127.0.0.1:1", "true"], check_code=0,
                     env=ctx.env(SCOPE_CRIBL="tcp://127.0.0.1:1"))
    check(b"--eventdest has no effect" in result.err and b"SCOPE_CRIBL_ENABLE" in result.err, result.describe())


@test()
def private_sessions(ctx):
    ctx.run([ctx.scope, "run", "true"], check_code=0, preexec=lambda: os.umask(0))
    session = ctx.session()
    session.wait_end()
    for path in [session.dir, *session.dir.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        equal(oct(mode), oct(0o700 if path.is_dir() else 0o600), f"mode of {path}")
    meta = session.meta
    equal((meta["command"], meta["argv"], meta["kind"], meta["cwd"]), ("true", ["true"], "run", str(ctx.dir)), "metadata")


# --- events ---

def events_of(ctx, *argv):
    return [e["source"] for e in bodies(ctx, "events", "-j", *argv)]


@test()
def events_text(ctx):
    write_session(ctx, 3, EVENTS)
    lines = out(ctx, "events").splitlines()
    equal(len(lines), len(EVENTS), "lines")
    check(re.fullmatch(r"\[\w+\] Nov 14 22:13:20 cat fs fs\.open file:/etc/hosts", lines[0]), lines[0])
    check(lines[1].endswith("fs fs.close file:/etc/hosts file_read_bytes:200 file_read_ops:2 file_write_bytes:0 "
                            "file_write_ops:0"), lines[1])
    check(lines[2].endswith("console stdout message:127.0.0.1 localhost \u00fc \\x1b[31mred"), lines[2])
    check(lines[5].endswith("metric notice Truncated metrics. Your rate exceeded 10 metrics per second"), lines[5])
    check("\x1b" not in "".join(lines), "an escape sequence of the program reached the terminal")
    check(out(ctx, "events", "--fields", "op,file", "-n", "6").splitlines()[0].endswith("op:openat file:/etc/hosts"),
          "--fields")
    check(out(ctx, "events", "--allfields").splitlines()[1].endswith(" [[duration:3 op:close]]"), "--allfields")
    check("\x1b[" in out(ctx, "events", "--color"), "no colour with --color")
    check("\x1b[" not in out(ctx, "events", "--color=never"), "colour with --color=never")
    forced = ctx.run([ctx.scope, "events"], env=ctx.env(CLICOLOR_FORCE=1), check_code=0).out
    check(b"\x1b[" in forced, "no colour with CLICOLOR_FORCE")
    forced = ctx.run([ctx.scope, "events"], env=ctx.env(CLICOLOR_FORCE=1, NO_COLOR=1), check_code=0).out
    check(b"\x1b[" not in forced, "colour with NO_COLOR")


@test()
def events_json(ctx):
    """The very lines that are kept."""
    path = write_session(ctx, 3, EVENTS, METRICS)
    lines = (path / "events.json").read_text().splitlines()[1:]
    equal(out(ctx, "events", "-j").splitlines(), lines, "lines")
    equal(out(ctx, "events", "-j", "-n", "2").splitlines(), lines[-2:], "the last ones")
    equal(out(ctx, "events", "-j", "-s", "net.").splitlines(), lines[3:4], "selected ones")
    equal(out(ctx, "metrics", "-j"), (path / "metrics.json").read_text(), "metrics")


@test()
def events_selected(ctx):
    """By process and time; and how many there are."""
    write_session(ctx, 3, EVENTS)
    equal(events_of(ctx, "-p", "11"), ["net.open", "fs.close", "notice"])
    equal(events_of(ctx, "-p", "10,11", "-t", "net"), ["net.open"])
    equal(events_of(ctx, "-p", "12"), [])
    equal(events_of(ctx, "--since", "1700000002"), ["stdout", "net.open", "fs.close", "notice"])
    equal(events_of(ctx, "--since", "1700000001.25", "--until", "1700000002.25"), ["fs.close", "stdout"], "both included")
    equal(events_of(ctx, "--until", "1700000001", "-n", "1"), ["fs.open"])
    equal(events_of(ctx, "--since", "1h"), [], "ago")
    equal(len(events_of(ctx, "--since", "2023-11-14", "--until", "2023-11-16 00:00:00")), len(EVENTS), "dates")
    local = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(1700000003))
    equal(events_of(ctx, "--since", local), ["net.open", "fs.close", "notice"], "local time")
    for flags in (["--since", "soon"], ["--until", "25:99"], ["-p", "x"], ["-p", "0"], ["-c", "-f"], ["-c", "-n", "2"]):
        err(ctx, "events", *flags, code=2)
    equal(out(ctx, "events", "-c"), "6\n")
    equal(out(ctx, "events", "--count", "-t", "fs"), "3\n")
    equal(out(ctx, "events", "--count", "-e", "pid == 11"), "3\n")
    equal(objects(ctx, "events", "-c", "-j", "-m", "hosts"), [{"events": 3}])


@test()
def events_filters(ctx):
    write_session(ctx, 3, EVENTS)
    equal(events_of(ctx, "-s", "fs.close"), ["fs.close"] * 2)
    equal(events_of(ctx, "-s", "fs.,net"), ["fs.open", "fs.close", "net.open", "fs.close"])
    equal(events_of(ctx, "-t", "net,console"), ["stdout", "net.open"])
    check("no kind 'n'; there are console, dns," in err(ctx, "events", "-t", "fs,n", code=2), "a kind that there is not")
    equal(events_of(ctx, "-t", "fs", "-s", "fs.close", "-m", "/tmp/out"), ["fs.close"])
    equal(events_of(ctx, "-m", "10.0.0.9"), ["net.open"])
    equal(events_of(ctx, "-n", "2"), ["fs.close", "notice"])
    equal(events_of(ctx, "-t", "fs", "-n", "1"), ["fs.close"])
    equal([e["pid"] for e in bodies(ctx, "events", "-j", "-t", "fs", "-n", "1")], [11])
    equal(events_of(ctx, "-a", "-t", "fs"), ["fs.open", "fs.close", "fs.close"])
    many = [dict(EVENTS[0], pid=n) for n in range(100)]
    write_session(ctx, 4, many)
    equal(len(events_of(ctx)), 20, "events shown by default")
    equal(len(events_of(ctx, "-a")), 100)
    equal(len(events_of(ctx, "-m", "openat")), 100, "a filter shows all that match")
    equal([e["pid"] for e in bodies(ctx, "events", "-j", "-n", "3")], [97, 98, 99])
    equal(len(events_of(ctx, "-i", "3")), len(EVENTS))


@test()
def events_eval(ctx):
    write_session(ctx, 3, EVENTS)
    equal(events_of(ctx, "-e", "pid == 11"), ["net.open", "fs.close", "notice"])
    equal(events_of(ctx, "-e", "data.file_write_bytes"), ["fs.close"], "truthy values match")
    equal(events_of(ctx, "-e", "sourcetype == 'fs' && data.file_read_bytes > 100"), ["fs.close"])
    equal(events_of(ctx, "-e", "username == 'ann' && _time > 1700000001"), ["fs.close", "stdout"])
    equal(events_of(ctx, "-e", "typeof data == 'string' // notices"), ["notice"])
    equal(events_of(ctx, "-n", "1", "-e", "pid == 10"), ["stdout"], "-n counts after --eval")
    equal(events_of(ctx, "-e", "args.indexOf('hosts') > 0").count("fs.open"), 1)
    result = ctx.tool_run("events", "-j", "-e", "data.file.length > 3")
    equal(len(result.out.splitlines()), 3, "events where the expression does not throw")
    check(b"3 of 6 events" in result.err, result.err)
    check("nonsuch" in ctx.tool_run("events", "-e", "nonsuch == 1", check_code=2).err.decode(), "a name that is never there")
    err(ctx, "events", "-e", "1) || (2", code=2)


@test()
def events_eval_errors(ctx):
    """What is wrong stands where the user has written it."""
    for expression, text in (("1 +", "expression:1: the expression ends too early"), ("pid ||\n", "expression:2: the expression ends"),
                             ("1 ||\n|| 2", "expression:2: unexpected token in expression: '||'"),
                             ("1)", "expression:1: unexpected token: ')'"), ("1]", "expression:1: unexpected token: ']'"),
                             ("1) || (2", "expression:1:"), ("\n\n}", "expression:3:"), ("'abc", "expression:1: string not"),
                             ("f(1,\n2", "expression:2: the expression ends too early"), ("", "the expression ends too early")):
        message = err(ctx, "events", "-e", expression, code=2)
        check(text in message, f"{expression!r}: {text}", message)
    check(not ctx.sessions(), "no session is needed")
    write_session(ctx, 3, EVENTS)
    equal(len(bodies(ctx, "events", "-j", "-e", "pid == 10 // the first")), 3, "a comment at the end")


@test()
def events_sort(ctx):
    write_session(ctx, 3, EVENTS)
    got = bodies(ctx, "events", "-j", "--sort", "file_write_bytes")
    equal([e["data"]["file_write_bytes"] for e in got[:2]], [5000, 0])
    equal(len(got), 6, "events without the field come last")
    # Of the last two that pass the filters, whatever the order in which they are shown.
    for flags, want in (([], [5000, 0]), (["-r"], [0, 5000]), (["-n", "2"], [5000, 0]), (["-n", "2", "-r"], [0, 5000]),
                        (["-n", "1"], [5000]), (["-n", "1", "-r"], [5000])):
        got = bodies(ctx, "events", "-j", "-s", "fs.close", "--sort", "file_write_bytes", *flags)
        equal([e["data"]["file_write_bytes"] for e in got], want, " ".join(flags))
    equal([e["source"] for e in bodies(ctx, "events", "-j", "--sort", "pid", "-n", "4", "-r")],
          ["stdout", "net.open", "fs.close", "notice"], "the last four, the smallest first")
    equal([e["pid"] for e in bodies(ctx, "events", "-j", "--sort", "_time", "-n", "2")], [11, 11])
    equal(events_of(ctx, "--sort", "source", "-r", "-t", "fs"), ["fs.close", "fs.close", "fs.open"])
    equal(events_of(ctx, "--sort", "data.file", "-n", "2")[0], "fs.close", "as --eval writes it")
    result = ctx.tool_run("events", "--sort", "flie")
    check(b"none of these events has a member flie" in result.err, result.describe())
    equal([e["pid"] for e in bodies(ctx, "events", "-j", "--sort", "pid", "-a", "-r")], [10, 10, 10, 11, 11, 11], "all")
    many = [dict(EVENTS[0], pid=(n * 7919) % 20011) for n in range(12000)]
    write_session(ctx, 4, many)
    equal([e["pid"] for e in bodies(ctx, "events", "-j", "--sort", "pid", "-n", "3")],
          sorted((e["pid"] for e in many[-3:]), reverse=True))


@test()
def events_by_id(ctx):
    path = write_session(ctx, 3, EVENTS)
    raw = (path / "events.json").read_bytes()
    ids = re.findall(r"^\[(\w+)\]", out(ctx, "events"), re.M)
    for number, event in zip(ids, objects(ctx, "events", "-j"), strict=True):
        equal(objects(ctx, "events", "-j", number), [event], "the event with that id")
        value = sum("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ".index(c) * 62 ** i
                    for i, c in enumerate(number))
        check(raw[value:].startswith(b'{"type":"evt"') and raw[value - 1:value] == b"\n", "id is the offset of the line")
    text = out(ctx, "events", ids[3])
    for row in ("Proc: *curl", "Pid: *11", "Command: *curl x", "Source: *net.open", "Sourcetype: *net", "Host: *h1",
                "Channel: *4", "Data:", "  net_peer_ip: *10.0.0.9"):
        check(re.search("^" + row, text, re.M), f"no row {row}", text)
    for wrong in ("1", "zzzzzz", "!", "99999999999999999999"):
        check("there is no event" in err(ctx, "events", wrong, code=1), "message")
    # An event can be the first line.
    (path / "events.json").write_bytes(raw[raw.index(b"\n") + 1:])
    equal([e["source"] for e in bodies(ctx, "events", "-j", "0")], ["fs.open"], "event 0")


@test()
def events_of_any_bytes(ctx):
    """Console text may hold every character, and numbers may be large."""
    message = "".join(map(chr, range(0, 0x250))) + "\U0001f600"
    write_session(ctx, 3, [{**EVENTS[2], "data": {"message": message, "big": 2**63 + 2**62}}])
    got = bodies(ctx, "events", "-j", "-t", "console")
    equal(got[0]["data"]["message"], message)
    result = ctx.tool_run("events")
    equal(result.err, b"", "messages")
    line = result.out.decode().rstrip("\n")
    check("\\x00\\x01" in line and "\\x1b" in line and "\\x9b" in line, line)
    check(not re.search("[\x00-\x1f\x7f-\x9f]", line), "a control character reached the terminal", repr(line))


@test()
def events_being_written(ctx):
    path = write_session(ctx, 3, EVENTS)
    with open(path / "events.json", "ab") as f:
        f.write(b'{"type":"evt","id":"h1-x","_channel":"1","body":{"source')
    equal(len(bodies(ctx, "events", "-j")), len(EVENTS), "a partial last line is left out")
    with open(path / "events.json", "ab") as f:
        f.write(b'\n' + b"x" * 20 + b'\n\xff\xfe\n{"type":"evt","body":5}\n')
    result = ctx.tool_run("events", "-j", "-t", "fs")
    equal(len(result.out.splitlines()), 3, "damaged lines are left out")
    check(b"lines are damaged" in result.err, result.err)


@test()
def events_elsewhere(ctx):
    write_session(ctx, 3, EVENTS, event_dest="tcp://h:9109")
    equal(out(ctx, "events"), "The events of session 3 went to tcp://h:9109\n")
    write_session(ctx, 4, EVENTS, event_dest="file:///nonexistent/events.json")
    check("/nonexistent/events.json" in err(ctx, "events", code=1), "message")


@test()
def events_follow(ctx):
    """Goes on while the collector holds its lock, shows each event once, and ends by itself."""
    path = write_session(ctx, 3, EVENTS, end_ns=0)
    holder = ctx.start([ctx.tool("python3"), "-c", (
        "import fcntl, os, struct, sys, time\n"
        "fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
        "fcntl.fcntl(fd, 37, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0))\n"  # F_OFD_SETLK
        "open(sys.argv[1] + '.held', 'w').close()\ntime.sleep(60)"), path / "lock"])
    ctx.wait_for((path / "lock.held").exists, "the lock")
    reader = subprocess.Popen([ctx.scope, "events", "-f", "-j", "-n", "1"], env=ctx.env(), stdout=subprocess.PIPE)
    equal(json.loads(reader.stdout.readline())["body"]["source"], "notice", "the last event at first")
    line = json.dumps({"type": "evt", "id": "x", "_channel": "9", "body": dict(EVENTS[0], host="h1", _time=1.5)},
                      separators=(",", ":"))
    with open(path / "events.json", "a") as f:
        f.write(line[:30])
        f.flush()
        time.sleep(0.3)
        f.write(line[30:] + "\n")
    equal(json.loads(reader.stdout.readline())["body"]["_time"], 1.5, "the new event")
    check(reader.poll() is None, "it ended while the collector runs")
    for command in ("events", "logs"):  # nothing more comes that could not be written
        quitter = subprocess.Popen([ctx.scope, command, "-f"], env=ctx.env(), stdout=subprocess.PIPE)
        quitter.stdout.close()
        quitter.wait(timeout=10)
    holder.kill()
    holder.wait()
    rest, _ = reader.communicate(timeout=10)
    equal((rest, reader.returncode), (b"", 0), "the end")


# --- metrics ---

@test()
def metrics_tables(ctx):
    write_session(ctx, 3, None, METRICS)
    lines = out(ctx, "metrics").splitlines()
    equal(lines[0].split(), ["TIME", "NAME", "VALUE", "TYPE", "UNIT", "PID", "TAGS"], "header")
    equal(lines[1].split(None, 8)[:8], ["Nov", "14", "22:13:30", "fs.read", "200", "Count", "byte", "10"], "row")
    check(lines[1].endswith("host: h1, proc: cat, summary: true"), lines[1])
    check(" 1.25 " in lines[2] and "Gauge" in lines[2], lines[2])
    equal([line.split()[3] for line in out(ctx, "metrics", "-u").splitlines()[1:]], ["fs.read", "proc.cpu_perc", "net.duration"])
    equal([line.split()[4] for line in out(ctx, "metrics", "-m", "fs.read").splitlines()[1:]], ["200", "300"])
    equal(out(ctx, "metrics", "-m", "fs.rea"), "No metrics available\n", "names are exact")
    for flags in ([], ["-c"], ["-g"], ["-j"]):
        result = ctx.tool_run("metrics", "-m", "fs.raed", *flags)
        check(b"no samples of fs.raed" in result.err and b"did you mean fs.read?" in result.err, result.describe())
    result = ctx.tool_run("metrics", "-m", "fs.read,something.else")
    check(b"something.else" in result.err and b"metrics -u" in result.err and b"fs.read" in result.out, result.describe())
    equal([line.split() for line in out(ctx, "metrics", "-c", "-m", "fs.read,net.duration").splitlines()],
          [["fs.read", "net.duration"], ["200", "7"], ["300"]])
    equal([m["body"]["_value"] for m in objects(ctx, "metrics", "-j")], [200, 1.25, 300, 7])
    write_session(ctx, 4)
    equal(out(ctx, "metrics"), "No metrics available\n")


@test()
def metrics_graph(ctx):
    wave = [("g", "gauge", 10 + n % 5, {"unit": "thing"}) for n in range(50)]
    write_session(ctx, 3, None, wave)
    lines = out(ctx, "metrics", "-m", "g", "-g").splitlines()
    equal(len(lines), 22, "20 rows, the axis and the legend")
    equal((lines[0].split()[0], lines[19].split()[0]), ("14", "10"), "labels of top and bottom")
    equal(sum(line.count("*") for line in lines), 50, "points")
    check("g [thing], 50 samples" in lines[-1], lines[-1])
    write_session(ctx, 4, None, [("g", "gauge", 5, {})])
    equal(sum(line.count("*") for line in out(ctx, "metrics", "-m", "g", "-g").splitlines()), 1, "a single sample")
    write_session(ctx, 5, None, [("g", "gauge", n, {}) for n in range(5000)])
    lines = out(ctx, "metrics", "-m", "g", "-g").splitlines()
    check(max(map(len, lines)) <= 160, "wider than the terminal that is assumed")


@test()
def metrics_statsd(ctx):
    write_session(ctx, 3, None, "fs.read:8245|c|#proc:httpd,pid:77,unit:byte,file:/a b\nproc.cpu_perc:1.25|g\nrubbish\n"
                                "net.duration:3|ms|@0.5|#unit:millisecond\n", metric_format="statsd")
    result = ctx.tool_run("metrics")
    rows = [line.split() for line in result.out.decode().splitlines()[1:]]
    equal(rows[0], ["-", "fs.read", "8245", "Count", "byte", "77", "file:", "/a", "b,", "proc:", "httpd"])
    equal(rows[1], ["-", "proc.cpu_perc", "1.25", "Gauge"])
    equal(rows[2], ["-", "net.duration", "3", "Timer", "millisecond"])
    check(b"1 lines are damaged" in result.err, result.err)
    equal(objects(ctx, "metrics", "-j")[0]["body"]["_metric"], "fs.read")


# --- sessions ---

@test()
def history(ctx):
    check("no session" in err(ctx, "events", code=1), "message without sessions")
    equal(out(ctx, "history").splitlines()[1].split()[:4], ["ID", "COMMAND", "CMDLINE", "PID"])
    write_session(ctx, 1, EVENTS)
    write_session(ctx, 2, EVENTS, event_dest="tcp://h:1", exit_code=-1, exit_signal=9, lost={"ring": 4, "queue": 1},
                  argv=["cat", "x" * 100])
    write_session(ctx, 10, [], exit_code=-1, end_ns=0)
    for name in ("notes", "007", "cat_4_99_12345"):
        (ctx.home / "history" / name).mkdir()
    (ctx.home / "history" / "11").mkdir()
    (ctx.home / "history" / "11" / "session.json").write_text("{")
    lines = out(ctx, "history").splitlines()
    equal(lines[0], "Displaying last 20 sessions")
    check(re.match(r"ID +COMMAND +CMDLINE +PID +AGE +DURATION +TOTAL EVENTS +EXIT +LOST$", lines[1]), lines[1])
    rows = [re.split(r" {2,}", line) for line in lines[2:]]
    equal([row[0] for row in rows], ["1", "2", "10", "11"], "ids, oldest first")
    equal((rows[0][5:]), ["7s", "6", "0", "0"])
    equal(rows[1][2], "cat " + "x" * 100, "the whole where there is no terminal")
    equal(rows[1][6:], ["NA", "SIGKILL", "5"])
    equal(rows[2][5], "?", "duration of a session whose collector was killed")
    equal(rows[3][1], "?", "command of a damaged session")
    equal(len(out(ctx, "history", "-n", "2").splitlines()), 4)
    equal(out(ctx, "history", "-d"), str(ctx.home / "history" / "11") + "\n")
    equal(out(ctx, "hist", "-i", "2", "-d"), str(ctx.home / "history" / "2") + "\n")
    equal(out(ctx, "history", "-r").splitlines()[1:], [], "none runs")
    text = out(ctx, "history", "-i", "2")
    for row in ("ID: *2", "Command: *cat", "Exit: *SIGKILL", "  ring: *4", "Total Events: *6", "WorkDir: */",
                "Events: *tcp://h:1"):
        check(re.search("^" + row, text, re.M), f"no row {row}", text)
    check("collector was killed" in out(ctx, "history", "-i", "10"), "telemetry that stopped is told")
    got = objects(ctx, "history", "-j")
    equal([s["id"] for s in got], [1, 2, 10, 11])
    equal((got[1]["lost"], got[1]["exit_signal"], got[2]["telemetry_stopped"]), ({"ring": 4, "queue": 1}, 9, True))
    check("session 5 not found" in err(ctx, "history", "-i", "5", code=1), "message")
    err(ctx, "history", "-i", "0", code=2)
    for name in ("notes", "007", "cat_4_99_12345"):
        (ctx.home / "history" / name).rmdir()


@test()
def tables_on_narrow_terminals(ctx):
    """Texts give way, numbers and words that matter don't; on a wide terminal everything is there."""
    long = "/opt/" + "directory/" * 10 + "program"
    path = write_session(ctx, 3, EVENTS + [
        {"sourcetype": "fs", "source": "fs.close", "proc": "c", "cmd": "c", "pid": 12,
         "data": {"file": long, "file_read_bytes": 12345678, "file_read_ops": 1, "file_write_bytes": 0, "file_write_ops": 0}}],
        METRICS, command="program-with-a-long-name", argv=[long, *["argument"] * 20], lost={"ring": 987654},
        exit_code=0, exit_signal=signal.SIGTERM) / "session.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "events": 123456789}))
    for columns in (80, 100, 132):
        lines = on_terminal(ctx, columns, "history")
        equal(lines[1].split()[-2:], ["EXIT", "LOST"], f"{columns} columns")
        equal(lines[2].split()[-3:], ["123456789", "SIGTERM", "987654"], f"{columns} columns")
        check("…" in lines[2] and max(map(len, lines)) > columns - 3, f"{columns} columns are used", lines)
        lines = on_terminal(ctx, columns, "report")
        check(any(re.match(r"12345678 .*….*/program$", line) for line in lines), "the end of a path", lines)
        lines = on_terminal(ctx, columns, "metrics")
        check(any(re.search("net.duration +7 +Timer +millisecond +11 ", line) for line in lines), "samples", lines)
    text = "\n".join(on_terminal(ctx, 400, "history"))
    check(f"{long} {' '.join(['argument'] * 20)} " in text and "…" not in text, "all of it", text)


@test()
def tables_without_a_terminal(ctx):
    """Nothing is cut, and one long line is no reason to pad the others."""
    for n, argv in ((3, ["cat"]), (4, ["cat", "x" * 3000])):
        write_session(ctx, n, argv=argv)
    lines = out(ctx, "history").splitlines()
    check(len(lines[2]) < 160 and "x" * 3000 in lines[3], "lengths", [len(line) for line in lines])
    ctx.start(ctx.scope_argv(["sh", "-c", "while sleep 1; do :; done", "x" * 3000]))
    short = ctx.start(ctx.scope_argv(["sleep", "1000"]))

    def row():
        text = out(ctx, "ps")
        return "x" * 3000 in text and re.search(rf"^\d+ +{short.pid} .*$", text, re.M)

    found = ctx.wait_for(row, "processes").group()
    check(len(found) < 120, "padded to the longest", found)
    lines = [line for line in on_terminal(ctx, 80, "ps") if "xxx" in line]
    check(lines and all(re.search(r"… +(\d+|-)$", line) for line in lines), "ps on a terminal", lines)


@test()
def history_of_what_runs(ctx):
    """Not of what has ended a moment ago, whose collector is still there."""
    session = ctx.scoped(["true"]).session
    check(session.collector_runs(), "the collector is there")
    equal(objects(ctx, "history", "-r", "-j"), [], "nothing runs")
    equal([s["running"] for s in objects(ctx, "history", "-j")], [False], "and nothing is called running")
    process = ctx.start(ctx.scope_argv(["sleep", "1000"]))
    ctx.wait_for(lambda: [s["pid"] for s in objects(ctx, "history", "-r", "-j")] == [process.pid], "the one that runs")


@test()
def prune(ctx):
    def ids():
        return sorted(int(p.name) for p in (ctx.home / "history").iterdir())

    for n in range(1, 7):
        write_session(ctx, n, EVENTS)
    equal(out(ctx, "prune", "-k", "6", "-f"), "Removed 0 sessions.\n")
    equal(out(ctx, "prune", "-k", "100", "-f"), "Removed 0 sessions.\n")
    equal(ids(), [1, 2, 3, 4, 5, 6], "keeping more than there are removes nothing")
    check(out(ctx, "prune", "-a").endswith("Removed 0 sessions.\n"), "without an answer nothing is removed")
    result = ctx.run([ctx.scope, "prune", "-k", "4"], stdin=b"no\n", check_code=0)
    check(b"prune all but 4 sessions? (y/yes): " in result.out and result.out.endswith(b"Removed 0 sessions.\n"), result.out)
    result = ctx.run([ctx.scope, "prune", "-k", "4"], stdin=b"y\n", check_code=0)
    check(result.out.endswith(b"Removed 2 sessions.\n"), result.out)
    equal(ids(), [3, 4, 5, 6], "the oldest are gone")
    equal(out(ctx, "prune", "-d", "1", "-f"), "Removed 1 sessions.\n")
    equal(ids(), [3, 4, 5], "the last is gone")
    equal(objects(ctx, "prune", "-a", "-f", "-j"), [{"removed": 3, "running": 0, "failed": 0}])
    equal(ids(), [])


@test()
def ids_go_on_after_prune(ctx):
    ctx.run([ctx.scope, "run", "true"], check_code=0)
    ctx.session().wait_end()
    out(ctx, "prune", "-a", "-f")
    ctx.run([ctx.scope, "run", "true"], check_code=0)
    equal(ctx.session().id, 2, "the number of the next session")


@test()
def logs(ctx):
    lines = [f"2023-11-14T22:13:{n:02}.123+0000 warning text {n}" for n in range(30)]
    write_session(ctx, 3, log="".join(line + "\n" for line in lines))
    equal(out(ctx, "logs").splitlines(), lines[-20:], "the last 20 lines")
    equal(out(ctx, "logs", "-n", "2").splitlines(), lines[-2:])
    equal(out(ctx, "logs", "-a").splitlines(), lines)
    equal(objects(ctx, "logs", "-j", "-n", "1"),
          [{"time": "2023-11-14T22:13:29.123+0000", "level": "warning", "text": "text 29"}])
    write_session(ctx, 4)
    equal(out(ctx, "logs"), "No logs generated\n")
    equal(len(out(ctx, "logs", "-i", "3", "-a").splitlines()), 30)
    equal(out(ctx, "logs", "--scope", "-s", "-i", "3"), out(ctx, "logs", "-i", "3"), "the log by its former name")
    check("no sessions of a service" in err(ctx, "logs", "-S", "no-such-service", code=1), "a service that was never set up")


def receiver(kind, path=None):
    """A socket that waits for a log, and its URL."""
    if kind == "unix":
        s = socket.socket(socket.AF_UNIX)
        s.bind(path)
        url = f"unix://{path}"
    else:
        s = socket.socket(type=socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
        s.bind(("127.0.0.1", 0))
        url = f"{kind}://127.0.0.1:{s.getsockname()[1]}"
    if kind != "udp":
        s.listen()
    s.settimeout(20)
    return s, url


def received(s, kind, text):
    """What has come up to the line with this text."""
    data = b""
    if kind != "udp":
        s, _ = s.accept()
        s.settimeout(20)
    while text not in data:
        piece = s.recv(65536)
        check(piece, "the connection ended", data)
        data += piece
        check(kind != "udp" or piece.count(b"\n") == 1, "a datagram is a line", piece)
    return data


@test()
def logs_elsewhere(ctx):
    """libscope.log.transport, with a session, which keeps its log as well, and without."""
    wanted = b" warning tcp://127.0.0.1:1: can't connect"
    for kind in ("tcp", "unix", "udp"):
        for argv in (["run"], ["-z"]):
            s, url = receiver(kind, f"{ctx.dir}/socket{len(argv[0])}")
            env = ctx.env(SCOPE_LOG_DEST=url, SCOPE_EVENT_DEST="tcp://127.0.0.1:1")
            ctx.run([ctx.scope, *argv, "true"], env=env, check_code=0)
            data = received(s, kind, wanted)
            check(re.match(rb"\d{4}-\d\d-\d\dT\S+ \w+ ", data), f"{argv} {url}", data)
            s.close()
    for session in ctx.sessions():
        check(wanted in (Path(session) / "scope.log").read_bytes(), "the session's own log")
    for argv in (["run"], ["-z"]):
        log = ctx.dir / f"log{argv[0]}"
        env = ctx.env(SCOPE_LOG_DEST=f"file://{log}", SCOPE_EVENT_DEST="tcp://127.0.0.1:1")
        ctx.run([ctx.scope, *argv, "true"], env=env, check_code=0)
        ctx.wait_for(lambda: log.exists() and wanted in log.read_bytes(), f"{argv}: the line in the file")
        check(stat.S_IMODE(log.stat().st_mode) == 0o600, "mode of the log", oct(log.stat().st_mode))
    yml = ctx.dir / "scope.yml"
    yml.write_text(f"event: {{transport: {{type: tcp, host: 127.0.0.1, port: 1}}}}\n"
                   f"libscope: {{log: {{transport: {{type: file, path: {ctx.dir}/third}}}}}}\n")
    ctx.run([ctx.scope, "run", "-u", yml, "true"], check_code=0)
    third = ctx.dir / "third"
    ctx.wait_for(lambda: third.exists() and wanted in third.read_bytes(), "the line in the file that scope.yml names")


@test()
def a_log_that_nobody_takes(ctx):
    """The session says so."""
    session = ctx.scoped(["true"], env=ctx.env(SCOPE_LOG_DEST="tcp://127.0.0.1:1")).session
    session.wait_end()
    check("did not get to tcp://127.0.0.1:1" in session.log(), session.log())


# --- the rest ---

@test()
def extract(ctx):
    where = ctx.dir / "a" / "b"
    check("does not exist or is not a directory" in err(ctx, "extract", str(where), code=1), "message")
    equal(out(ctx, "extract", "-p", str(where)), f"Successfully extracted to {where}.\n")
    equal(sorted(p.name for p in where.iterdir()), ["libscope.so", "scope", "scope.yml"])
    equal(oct(stat.S_IMODE((where / "libscope.so").stat().st_mode)), oct(0o755))
    equal((where / "libscope.so").read_bytes()[:4], b"\x7fELF")
    equal((where / "scope.yml").read_text(), out(ctx, "config", "default"), "the documented default file")
    out(ctx, "config", "check", str(where / "scope.yml"))
    out(ctx, "extract", "-e", "tcp://h:9109", str(where))
    equal(sorted(p.name for p in where.iterdir()), ["libscope.so", "scope", "scope.yml", "scope_example.yml"])
    text = (where / "scope.yml").read_text()
    check(re.search(r"event:(.|\n)*transport:\n +type: tcp\n +host: h\n +port: '?9109", text), "the destination", text)
    out(ctx, "config", "check", str(where / "scope.yml"))
    equal(out(ctx, "excrete", str(where)), f"Successfully extracted to {where}.\n", "an old name of it")
    equal((where / "scope").read_bytes(), Path(ctx.scope).read_bytes(), "scope itself")
    ctx.run([where / "scope", "extract", where], check_code=0)  # from where it lies


@test()
def config(ctx):
    wrong = ctx.dir / "wrong.yml"
    wrong.write_text("metric:\n  format:\n    verbosty: 3\n    type: xml\n")
    result = ctx.tool_run("config", "check", str(wrong), check_code=1)
    message = result.err.decode()
    check(f"{wrong}:3: metric.format.verbosty" in message and f"{wrong}:4: metric.format.type" in message, message)
    got = objects_of(ctx.tool_run("config", "check", "-j", str(wrong), check_code=1))
    equal([(p["line"], p["error"]) for p in got], [(3, True), (4, True)])
    right = ctx.dir / "right.yml"
    right.write_text("metric:\n  format:\n    verbosity: 3\n")
    equal(out(ctx, "config", "check", str(right)), f"{right}: good\n")
    check("/nonexistent.yml" in err(ctx, "config", "check", "/nonexistent.yml", code=1), "message")
    # <(COMMAND) of a shell: a pipe whose writer has nothing to say yet.
    piped = ctx.run(["bash", "-c", f"{ctx.scope} config check <(sleep 0.3; echo 'event: {{enabel: true}}')"], check_code=1)
    check(b"event.enabel" in piped.err, piped.err)
    shown = ctx.run([ctx.scope, "config", "show", right], env=ctx.env(SCOPE_SUMMARY_PERIOD=3), check_code=0).out.decode()
    check(re.search(r"verbosity: 3 +#.*right\.yml", shown), "the origin of a value of the file", shown)
    check(re.search(r"summaryperiod: 3 +#.*SCOPE_SUMMARY_PERIOD", shown), "the origin of a value of the environment", shown)
    current = json.loads(out(ctx, "config", "show", "-j", str(right)))
    equal(current["metric"]["format"]["verbosity"], 3)
    equal(out(ctx, "config", "default"), (TOP / "conf" / "scope.yml").read_text(), "conf/scope.yml")


def objects_of(result):
    return [json.loads(line) for line in result.out.decode().splitlines()]


@test()
def version(ctx):
    lines = out(ctx, "version").splitlines()
    check(lines[0].startswith("Version: ") and lines[1].startswith("Build Date: "), lines)
    equal(out(ctx, "--version").splitlines(), lines)
    equal(out(ctx, "-V").splitlines(), lines)
    equal("Version: " + out(ctx, "version", "--summary").strip(), lines[0])
    equal("Build Date: " + out(ctx, "version", "--date").strip(), lines[1])


@test()
def completion(ctx):
    script = ctx.dir / "complete"
    script.write_text(out(ctx, "completion", "bash"))
    ctx.run(["bash", "-n", script], check_code=0)

    def complete(*words):
        code = (f"source {script}; COMP_WORDS=({' '.join(repr(w) for w in words)}); COMP_CWORD={len(words) - 1}; _scope; "
                'printf "%s\\n" "${COMPREPLY[@]}"')
        return ctx.run(["bash", "-c", code], check_code=0).out.decode().split()

    check("events" in complete("scope", "ev"), "commands")
    equal(complete("scope", "events", "--sou"), ["--source", "--sourcetype"])
    equal(complete("scope", "run", "--metricformat", ""), ["ndjson", "statsd"])
    equal(complete("scope", "config", "ch"), ["check"])
    check("echo" in complete("scope", "run", "--lossless", "ech"), "programs")
    check("--verbosity" in complete("scope", "run", "--lossless", "--v"), "options behind an option")
    check("--verbosity" not in complete("scope", "run", "ls", "--v"), "options of scope for the program")
    check("--verbosity" not in complete("scope", "run", "--lossless", "ls", "--v"), "options of scope for the program")
    check(out(ctx, "completion", "zsh").startswith("#compdef scope\n"), "zsh")


@test()
def pages_are_made_from_the_table(ctx):
    equal((TOP / "docs" / "cli.md").read_text(), out(ctx, "help", "--markdown"), "docs/cli.md (scope help --markdown)")
    page = out(ctx, "help", "--man")
    check(page.count("\n.SH ") > 14 and '.TH SCOPE 1' in page, "man page", page[:500])
    for line in page.splitlines():
        check(not re.match(r"[.'](?!\\\"|TH |SH |B |BR |RB |RI |I |br$|PP$|TP$)", line), "a line that roff takes for a request", line)


@test()
def watch(ctx):
    marks = ctx.dir / "marks"
    result = ctx.run([ctx.scope, "watch", "-i", "300ms", "-n", "3", "--", "sh", "-c", f"date +%s%N >> {marks}; echo ran; exit 4"])
    equal((result.code, result.out), (4, b"ran\n" * 3), "status and output")
    times = [int(line) / 1e9 for line in marks.read_text().split()]
    check(all(0.15 < b - a < 2 for a, b in zip(times, times[1:])), "intervals", times)
    equal(sorted(s["id"] for s in objects(ctx, "history", "-j")), [1, 2, 3], "a session for each run")
    equal({s["kind"] for s in objects(ctx, "history", "-j")}, {"watch"})
    equal(ctx.run([ctx.scope, "watch", "-i", "1s", "no-such-program-x"]).code, 127, "a program that isn't there")
    endless = ctx.start([ctx.scope, "watch", "-i", "200ms", "sh", "-c", f"echo x >> {marks}"])
    ctx.wait_for(lambda: marks.read_text().count("x") >= 2, "two runs")
    endless.send_signal(signal.SIGTERM)
    equal(endless.wait(5), -signal.SIGTERM, "the end by a signal")


@test()
def ps_without_processes(ctx):
    lines = out(ctx, "ps").splitlines()
    equal(lines[0].split(), ["ID", "PID", "USER", "COMMAND", "SESSION"], "header")
    objects(ctx, "ps", "-j")


@test()
def collector_is_not_for_people(ctx):
    err(ctx, "collector", code=2)
    message = err(ctx, "collector", "--socket-fd", "77", "--ready-fd", "78", code=1)
    check("descriptor 77" in message, message)


@test()
def closed_descriptors(ctx):
    """Started with standard descriptors closed: the program finds them closed, and nothing of ours lands there."""
    def close_all():
        for fd in (0, 1, 2):
            os.close(fd)

    seen = ctx.dir / "seen"
    code = f"for f in /proc/$$/fd/*; do l=$(readlink $f) && echo \"${{f##*/}} $l\"; done > {seen}"
    process = subprocess.Popen([ctx.scope, "run", "sh", "-c", code], env=ctx.env(), preexec_fn=close_all)
    equal(process.wait(30), 0, "status")
    listed = [line for line in seen.read_text().splitlines() if line.split()[0] in "012" and str(seen) not in line]
    check(not any("scope" in line or "socket" in line or "null" in line for line in listed), "descriptors", listed)


@test()
def output_that_cannot_be_written(ctx):
    write_session(ctx, 3, EVENTS)
    with open("/dev/full", "wb") as full:
        process = subprocess.run([ctx.scope, "events"], env=ctx.env(), stdout=full, stderr=subprocess.PIPE, check=False)
    equal(process.returncode, 1, "status")
    check(b"can't write to standard output" in process.stderr, process.stderr)
    target = ctx.fresh("extracted")
    limited = ctx.run(["bash", "-c", f"ulimit -f 0; {ctx.scope} extract {target}; exit $?"])
    check(limited.code == 1 and b"File too large" in limited.err, limited.describe())


@test()
def sudo_is_told_on_a_terminal_only(ctx):
    result = ctx.run([ctx.scope, "run", "true"], env=ctx.env(SUDO_UID=1000), check_code=0)
    equal(result.err, b"", "messages without a terminal")


@test()
def doctor(ctx):
    result = ctx.tool_run("doctor", "-j", check_code=None)
    got = {line["check"]: line for line in objects_of(result)}
    for name in ("kernel", "/proc", "shared memory", "sockets", "sessions", "library", "LD_PRELOAD", "observing", "clock",
                 "tracing", "capabilities", "ptrace_scope", "seccomp", "SELinux", "AppArmor"):
        check(name in got, f"nothing about {name}", result.describe())
    equal(result.code, 1 if any(line["verdict"] == "bad" for line in got.values()) else 0, "status")
    check(not ctx.sessions(), "it left sessions")
    blocked = ctx.dir / "file"
    blocked.write_text("")
    result = ctx.run([ctx.scope, "doctor", "-j"], env=ctx.env(SCOPE_HOME=blocked), check_code=1)
    line = [json.loads(text) for text in result.out.splitlines() if b'"sessions"' in text][0]
    equal(line["verdict"], "bad")
    check("SCOPE_HOME" in line["remedy"], line)


@test()
def doctor_of_program(ctx):
    """How TLS of a program would be read, without running it."""
    def told(program, code=0, **env):
        result = ctx.run([ctx.scope, "doctor", "-j", program], env=ctx.env(**env), check_code=code)
        return objects_of(result), result.err.decode()
    def ways(program, **env):
        return {line["text"].partition(":")[0] for line in told(program, **env)[0] if line["check"] == "TLS" and line["verdict"] == "ok"}
    plain = "/bin/true"
    equal(ways("curl"), {"library"}, "curl")
    equal(ways(plain), set(), "a program without TLS")
    check(any("no TLS library" in line["text"] for line in told(plain)[0]), "why not")
    script = ctx.dir / "script"
    script.write_text(f"#!{shutil.which('openssl')}\n")
    script.chmod(0o755)
    equal(ways(script), {"library"}, "a script, by its interpreter")
    hostile = ctx.dir / "hostile"
    hostile.write_bytes(b"\x7fELF" + bytes(range(256)) * 8)
    hostile.chmod(0o755)
    told(hostile)
    check(not ctx.sessions(), "something ran")
    check("no such program" in told("no-such-program", 1)[1], "message")
    check("No such file" in told("/no/such/program", 1)[1], "message")
    # A library that isn't where the loader finds it is named; LD_LIBRARY_PATH helps.
    library = ctx.dir / "lib"
    library.mkdir()
    (ctx.dir / "own.c").write_text("int own(void) { return 1; }")
    (ctx.dir / "user.c").write_text("int own(void); int main(void) { return own(); }")
    ctx.run(["gcc", "-shared", "-fPIC", "-Wl,-soname,libown-not-there.so", "-o", library / "libown-not-there.so", ctx.dir / "own.c"], check_code=0)
    ctx.run(["gcc", "-o", ctx.dir / "user", ctx.dir / "user.c", library / "libown-not-there.so"], check_code=0)
    missing = lambda **env: [x["text"] for x in told(ctx.dir / "user", **env)[0] if x["check"] == "library"]
    check(missing() and missing()[0].startswith("libown-not-there.so: not looked at here"), "the library", missing())
    equal(missing(LD_LIBRARY_PATH=str(library)), [], "the library, named")


def observed_shell(ctx):
    """A shell, observed, that appends a line to a file whenever it gets one on the way named `go`."""
    go = ctx.dir / "go"
    os.mkfifo(go)
    shell = ctx.start(ctx.scope_argv(["sh", "-c", f"exec 3<>{go}; while read -r line <&3; do echo $line >>{ctx.dir}/$line; done"]))
    ctx.wait_for(lambda: ctx.sessions() and ctx.tool_run("inspect", shell.pid, check_code=None).code == 0, "shell observed")
    return shell, lambda word: (go.write_text(word + "\n"), ctx.wait_for((ctx.dir / word).exists, word))


def inspected(ctx, *argv):
    return json.loads(out(ctx, "inspect", *argv))


@test()
def inspect(ctx):
    shell, _ = observed_shell(ctx)
    one = inspected(ctx, shell.pid)
    equal(one["process"]["pid"], shell.pid)
    equal(one["process"]["exe"], os.path.realpath("/bin/sh"))
    equal([i["name"] for i in one["interfaces"]], ["events,metrics"])
    check(all(i["connected"] for i in one["interfaces"]), "connected", one["interfaces"])
    check(one["probe"]["sites_patched"] > 100, "sites", one["probe"])
    equal(set(one["probe"]["lost"].values()), {0}, "lost")
    images = {os.path.basename(i["path"]): i for i in one["probe"]["by_image"]}
    equal(sum(sum(i["patched"].values()) for i in images.values()), one["probe"]["sites_patched"], "patched, of all images")
    equal(sum(sum(i["refused"].values()) for i in images.values()), one["probe"]["sites_left"], "refused, of all images")
    equal(one["probe"]["images_unlisted"], 0)
    check(images["libc.so.6"]["patched"]["after"] > 100 and re.fullmatch("[0-9a-f]{40}", images["libc.so.6"]["build_id"]),
          "the C library", one["probe"])
    equal(one["cfg"]["current"]["metric"]["format"]["verbosity"], 4)
    check(shell.pid in [o["process"]["pid"] for o in inspected(ctx, "--all")], "all")
    check(one["process"] in [o["process"] for o in objects(ctx, "inspect", "-a", "-j")], "all, one in a line")
    away = ctx.run([ctx.scope, "inspect", "-a", "-j"], env=ctx.env(SCOPE_HOME=ctx.fresh("away")), check_code=0).out
    check(shell.pid in [json.loads(line)["process"]["pid"] for line in away.splitlines()], "of a session that is stored elsewhere")
    equal(inspected(ctx, "sh")["process"], one["process"])
    check("not observed" in err(ctx, "inspect", "1", code=1), "another process")
    check("is called nobody-is" in err(ctx, "inspect", "nobody-is", code=1), "a name")
    check(str(shell.pid) in err(ctx, "inspect", code=2), "the list of those that can be named")
    err(ctx, "inspect", "0", code=2)
    err(ctx, "inspect", "--all", "sh", code=2)


def row_of(text, pid):
    """The ID that a table of processes has for a pid."""
    return re.search(rf"^(\d+) +{pid} ", text, re.M).group(1)


@test()
def choosing_on_a_terminal(ctx):
    """Of several processes one can be chosen; where nobody can be asked they are listed."""
    program = ctx.dir / "some-sleeper"
    program.symlink_to(ctx.tool("sleep"))
    one, two = ctx.start([program, "1000"]), ctx.start([program, "1000"])
    ctx.wait_for(lambda: all("some-sleeper" in Path(f"/proc/{p.pid}/comm").read_text() for p in (one, two)), "start")
    for answer in ("0", "3", "x", "", "1x"):
        t = Terminal(ctx, "attach", "some-sleeper")
        t.read(b"from the list: ")
        t.type(answer + "\n")
        check("invalid selection" in t.end(code=1), answer)
    check(not ctx.sessions(), "nothing was attached to")
    t = Terminal(ctx, "attach", "some-sleeper")
    text = t.read(b"from the list: ")
    check(re.search(r"^ID +PID +USER +SCOPED +COMMAND$", text, re.M) and str(one.pid) in text, text)
    t.type(row_of(text, two.pid) + "\n")
    check(f"Attaching to pid {two.pid}" in t.end(), "the chosen one")
    text = ctx.run([ctx.scope, "attach", "some-sleeper"], check_code=1).err.decode()
    check(re.search(rf"{one.pid} +\S+ +false", text) and re.search(rf"{two.pid} +\S+ +true", text), text)
    ctx.run([ctx.scope, "attach", str(one.pid)], check_code=0)
    for argv, done in ((["inspect"], f'"pid": {two.pid}'), (["inspect", "some-sleeper"], f'"pid": {two.pid}'),
                       (["detach"], f"Detaching from pid {two.pid}")):
        t = Terminal(ctx, *argv)
        text = t.read(b"from the list: ")
        t.type(row_of(text, two.pid) + "\n")
        check(done in t.end(), f"{argv}: the chosen one", t.text)
    ctx.wait_for(lambda: ctx.tool_run("inspect", two.pid, check_code=None).code == 1, "only one was detached from")
    ctx.run([ctx.scope, "inspect", one.pid], check_code=0)
    check(str(one.pid) in err(ctx, "detach", code=2), "the list of those that can be named")
    ctx.run([ctx.scope, "detach", "-w", one.pid], check_code=0)


@test()
def attach_reads_standard_input(ctx):
    """A scope.yml there configures the session; other input that says nothing does not."""
    process = ctx.start(["sleep", "1000"])
    yml = ctx.dir / "own.yml"
    yml.write_text("event: {enable: false}\nmetric: {format: {verbosity: 7}, transport: {type: file, path: ./here}}\n")

    def attached(stdin, flags=(), code=0):
        result = subprocess.run([ctx.scope, "attach", *flags, str(process.pid)], cwd=ctx.dir, env=ctx.env(), stdin=stdin,
                                stderr=subprocess.PIPE, stdout=subprocess.PIPE, timeout=60)
        equal(result.returncode, code, result.stderr)
        return result

    def verbosity():
        ctx.wait_for(lambda: ctx.tool_run("inspect", process.pid, check_code=None).code == 0, "observed")
        found = inspected(ctx, process.pid)["cfg"]["current"]
        ctx.run([ctx.scope, "detach", process.pid], check_code=0)
        return found["metric"]["format"]["verbosity"]

    with open(yml, "rb") as f:
        attached(f)
        equal(f.tell(), 0, "what is left of the file for others")
    equal(verbosity(), 7, "from a file")
    slow = subprocess.Popen(["sh", "-c", f"sleep 0.3; cat {yml}; sleep 0.1; echo '# end'"], stdout=subprocess.PIPE)
    attached(slow.stdout)
    slow.wait()
    equal(verbosity(), 7, "from a pipe")
    reader, writer = os.pipe()  # one that somebody holds open and says nothing
    attached(reader)
    os.close(writer)
    equal(verbosity(), 4, "of a pipe that says nothing")
    os.close(reader)
    with open(yml, "rb") as f:
        check(b"--verbosity" in attached(f, ["-v", "3"], code=2).stderr, "together with options")
    yml.write_text("17\n42\n")
    with open(yml, "rb") as f:
        check(b"standard input" in attached(f, code=1).stderr, "what is no scope.yml")
    yml.write_text("\n \n")
    with open(yml, "rb") as f:
        attached(f)
    equal(verbosity(), 4, "blanks")
    other = ctx.dir / "other.yml"
    other.write_text("event: {enable: false}\nmetric: {enable: false, format: {verbosity: 2}}\n")
    yml.write_text("metric: {format: {verbosity: 7}}\n")
    with open(yml, "rb") as f:
        attached(f, ["-u", other])
    equal(verbosity(), 2, "-u comes first")


@test()
def inspect_with_attach_and_update(ctx):
    process = ctx.start(["sleep", "1000"])
    err(ctx, "attach", "-j", str(process.pid), code=2)
    one = objects(ctx, "attach", "--inspect", "-j", process.pid)
    equal([o["process"]["pid"] for o in one], [process.pid], "attach --inspect")
    more = ctx.dir / "more.yml"
    more.write_text("metric: {format: {verbosity: 6}}\n")
    updated = json.loads(out(ctx, "update", "-i", "-c", more, process.pid))
    equal(updated["cfg"]["current"]["metric"]["format"]["verbosity"], 6, "update --inspect")
    equal(len(objects(ctx, "update", "-ij", "-c", more, process.pid)), 1, "update --inspect --json")
    err(ctx, "update", "-j", "-c", str(more), str(process.pid), code=2)
    ctx.run([ctx.scope, "detach", "--wait", process.pid], check_code=0)
    equal(json.loads(out(ctx, "attach", "-i", process.pid))["process"]["pid"], process.pid, "for people")
    ctx.run([ctx.scope, "detach", process.pid], check_code=0)


@test()
def idle(ctx):
    """A collector of programs that do nothing does next to nothing, and is there as soon as they do something."""
    shell, step = observed_shell(ctx)
    collector = ctx.session().collector_pid()

    def wakes():
        status = Path(f"/proc/{collector}/status").read_text()
        return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)$", status, re.M).group(1))

    def quiet():
        before = wakes()
        time.sleep(1)
        return wakes() - before < 40
    ctx.wait_for(quiet, "the collector sleeps")
    step("one")
    ctx.wait_for(quiet, "the collector sleeps again")
    check(b'"pid"' in ctx.tool_run("inspect", shell.pid).out, "it answers while it sleeps")
    go = [b["data"]["file"] for b in ctx.session().events("fs", "fs.open")]
    check(str(ctx.dir / "one") in go, "what was done in between", go[-3:])


@test()
def update(ctx):
    shell, step = observed_shell(ctx)
    step("one")
    new, other = ctx.dir / "new.yml", ctx.dir / "other.json"
    new.write_text(f"event:\n  transport: {{type: file, path: {other}}}\n  watch: [{{type: fs, name: fs.close}}]\n")
    check("success" in err(ctx, "update", str(shell.pid), "-c", str(new), code=0), "message")
    step("two")
    equal(inspected(ctx, shell.pid)["cfg"]["current"]["event"]["transport"]["path"], str(other))
    equal(inspected(ctx, shell.pid)["cfg"]["current"]["metric"]["format"]["type"], "ndjson", "what was not named stays")
    new.write_text("payload: {dir: here}\n")
    ctx.run([ctx.scope, "update", shell.pid, "-c", new], cwd=ctx.fresh("cwd"), check_code=0)
    current = inspected(ctx, shell.pid)["cfg"]["current"]
    equal((current["payload"]["dir"], current["event"]["transport"]["path"]), (f"{ctx.dir}/cwd/here", str(other)), "a relative path")
    for text, word in (("event: [", "YAML"), ("metric: {format: {verbosity: x}}", "verbosity"), ("nothing: 1", "nothing")):
        new.write_text(text)
        check(word in err(ctx, "update", str(shell.pid), "-c", str(new), code=1), text)
    equal(inspected(ctx, shell.pid)["cfg"]["current"]["event"]["transport"]["path"], str(other), "nothing was changed")
    check("not observed" in err(ctx, "update", "1", "-c", "/dev/null", code=1), "another process")
    session = ctx.session()
    session.sync()
    before = [e for e in session.events("fs", "fs.open") if e["data"]["file"] == f"{ctx.dir}/one"]
    check(before, "before the update")
    equal([e for e in session.events() if "/two" in json.dumps(e)], [], "after it, at the old place")
    lines = [json.loads(line) for line in other.read_text().splitlines()]
    after = [e["body"] for e in lines if e.get("type") == "evt"]
    equal({e["source"] for e in after}, {"fs.close"}, "after it, at the new place")
    check(any(e["data"]["file"] == f"{ctx.dir}/two" for e in after), "the file that was written after it")
    shell.kill()
    shell.wait()
    session.wait_end()
    opened = sum(m["_value"] for m in session.metrics() if m["_metric"] == "fs.open")
    closed = sum(m["_value"] for m in session.metrics() if m["_metric"] == "fs.close")
    check(opened >= 2 and closed >= 2, "totals go on", opened, closed)


@test()
def command_file(ctx):
    shell, step = observed_shell(ctx)
    directory = ctx.session().dir / "cmd"
    new, loose = directory / f"scope.{shell.pid}", ctx.dir / "loose"
    (directory / "scope.1").write_text("SCOPE_METRIC_VERBOSITY=2\n")
    new.write_text("SCOPE_SUMMARY_PERIOD=1\nSCOPE_PAYLOAD_DIR=here\n")
    ctx.wait_for(lambda: not new.exists(), "command file read")
    equal(inspected(ctx, shell.pid)["cfg"]["current"]["payload"]["dir"], f"{ctx.dir}/here", "a relative path")
    equal(inspected(ctx, shell.pid)["cfg"]["current"]["libscope"]["summaryperiod"], 1)
    loose.write_text("SCOPE_METRIC_VERBOSITY=3\n")
    loose.chmod(0o666)
    loose.rename(new)
    ctx.wait_for(lambda: "not read" in ctx.session().log(), "a file that others may write")
    new.unlink()
    (ctx.dir / "more.yml").write_text("metric: {format: {statsdprefix: hello}}\n")
    loose.write_text(f"SCOPE_CONF_RELOAD={ctx.dir}/more.yml\nSCOPE_METRIC_VERBOSITY=5\n")
    loose.chmod(0o600)
    loose.rename(new)
    ctx.wait_for(lambda: not new.exists(), "second command file read")
    got = inspected(ctx, shell.pid)["cfg"]["current"]["metric"]["format"]
    equal((got["verbosity"], got["statsdprefix"]), (5, "hello."))
    check((directory / "scope.1").exists(), "a file for another process")
    step("still-alive")


@test()
def rights(ctx):
    """Of another user's process nothing is told or changed but to root; its owner may, wherever the session is stored."""
    check(os.geteuid() == 0, "this test has to be run as root")
    os.chmod(ctx.options.work, 0o755)
    scope = shutil.copy(ctx.scope, ctx.dir / "scope")
    homes = {user: ctx.fresh(f"home-{user}") for user in (0, 65000, 65001)}
    config = ctx.dir / "new.yml"
    config.write_text("metric: {format: {verbosity: 7}}\n")

    def command(user, home, *argv):
        become = [ctx.tool("setpriv"), f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
        return [*become, "env", f"SCOPE_HOME={home}", scope, *argv]
    for user, home in homes.items():
        os.chown(home, user, user)
    process = ctx.start(command(65000, homes[65000], "run", "--", "sleep", 1000))
    ctx.wait_for(lambda: ctx.run(command(65000, homes[65000], "inspect", process.pid)).code == 0, "observed")
    asked = (["inspect", process.pid], ["update", process.pid, "-c", config])

    for words in (*asked, ["detach", process.pid]):
        refused = ctx.run(command(65001, homes[65001], *words), check_code=1)
        check(not refused.out and (b"another user's: only that user and root may" in refused.err
                                   or b"may not be traced by this user" in refused.err), "refusal", refused.describe())
    for user, home in ((65000, homes[65000]), (65000, homes[65001]), (0, homes[0])):
        for words in asked:
            ctx.run(command(user, home, *words), check_code=0)
        got = json.loads(ctx.run(command(user, home, "inspect", process.pid), check_code=0).out)
        equal((got["process"]["pid"], got["cfg"]["current"]["metric"]["format"]["verbosity"]), (process.pid, 7), "told")

    # Who is neither its owner nor root is not believed to observe it, nor told the configuration.
    fake = "import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.bind('\\0scope-0+'); s.listen(); s.accept()"
    other = ctx.start(["sleep", 1000])
    ctx.start([ctx.tool("setpriv"), "--reuid=65001", "--clear-groups", "/usr/bin/python3", "-c", fake])
    ctx.wait_for(lambda: "@scope-0+" in Path("/proc/net/unix").read_text(encoding="ascii", errors="replace"), "the impostor listens")
    for words in asked:
        result = ctx.run(command(0, homes[0], words[0], other.pid, *words[2:]), check_code=1)
        check(b"is not observed" in result.err, "the impostor was asked", result.describe())

    ctx.run(command(65000, homes[65000], "detach", process.pid), check_code=0)
    ctx.home = homes[65000]


LINE = "id -u; cat /etc/hostname; /bin/busybox cat /etc/hostname; exit 5"


@test()
def becoming_another_user(ctx):
    """Root's su, sudo and the like: what they start as another user is observed as before, dynamic and static."""
    check(os.geteuid() == 0, "this test has to be run as root")
    ctx.tool("busybox")
    for argv in (["su", "nobody", "-s", "/bin/sh", "-c", LINE], [ctx.tool("sudo"), "-u", "nobody", "sh", "-c", LINE],
                 [ctx.tool("sudo"), "-u", "nobody", "-i", "/bin/sh", "-c", "exit 0"],
                 [ctx.tool("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups", "env", "-i", "/bin/sh", "-c", LINE],
                 [ctx.tool("runuser"), "-u", "nobody", "--", "sh", "-c", LINE]):
        bare, scoped = ctx.run(argv), ctx.scoped(argv)
        equal((scoped.code, scoped.out, scoped.err), (bare.code, bare.out, bare.err), f"status and output of {argv}")
        log = scoped.session.log()
        check("not observed" not in log and "left alone" not in log, "something was not observed", log)
        if LINE not in argv:
            continue
        equal((bare.code, bare.out.split(b"\n")[0]), (5, b"65534"), "what it does")
        opened = [e["proc"] for e in scoped.session.events("fs", "fs.open") if e["data"]["file"] == "/etc/hostname"]
        equal(sorted(opened), ["busybox", "cat"], f"who has opened the file in {argv}")
        ids = [e for e in scoped.session.events("process", "proc.start") if e["data"]["args"][:1] == ["id"]]
        check(ids, f"id was not observed in {argv}")


@test()
def programs_with_other_rights(ctx):
    """An ordinary user's su, sudo, passwd: as without scope, nothing is said but in the session, and the shell goes on."""
    check(os.geteuid() == 0, "this test has to be run as root")
    os.chmod(ctx.options.work, 0o755)
    scope, home = shutil.copy(ctx.scope, ctx.dir / "scope"), ctx.fresh("home")
    os.chown(home, 65534, 65534)
    become = [ctx.tool("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups", "env", f"SCOPE_HOME={home}"]
    line = f"{ctx.tool('sudo')} -n id; echo $?; passwd -S; echo $?; /bin/true; exit 6"
    bare = ctx.run([*become, "/bin/sh", "-c", line])
    scoped = ctx.run([*become, scope, "run", "--", "/bin/sh", "-c", line])
    equal((scoped.code, scoped.out, scoped.err), (bare.code, bare.out, bare.err), "status and output")
    check(bare.code == 6 and b"nobody" in bare.out, "what it does", bare.describe())
    ctx.home = home
    session = ctx.session()
    session.wait_end()
    notes = [e["data"] for e in session.events("process", "proc.note", sync=False)]
    equal([os.path.basename(n["file"]) for n in notes], ["sudo", "passwd"], "notes")
    check(all("set-user-ID" in n["text"] for n in notes), "their text", notes)
    check(any(e["data"]["exe"].endswith("/true") for e in session.events("process", "proc.start", sync=False)), "/bin/true afterwards")
    direct = ctx.run([*become, scope, "run", "--", ctx.tool("sudo"), "-n", "id"])
    plain = ctx.run([*become, ctx.tool("sudo"), "-n", "id"])
    equal((direct.code, direct.out, direct.err), (plain.code, plain.out, plain.err), "status and output of sudo itself")
    logs = [(Path(s) / "scope.log").read_text() for s in ctx.sessions()]
    check(any("changes its user" in text for text in logs), "sudo itself", *logs)


# A machine with Yama as far as /proc tells; that ptrace is refused is strace's doing.
YAMA = """set -e
mount -t tmpfs none /proc/sys/kernel
mkdir /proc/sys/kernel/yama
echo $1 >/proc/sys/kernel/yama/ptrace_scope
shift
exec "$@"
"""


def under_yama(ctx, scope, *argv, user=None):
    become = [ctx.tool("setpriv"), f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
    return ctx.run([ctx.tool("unshare"), "-m", "sh", "-c", YAMA, "sh", scope, *become, *argv])


@test()
def yama(ctx):
    """kernel.yama.ptrace_scope is named, with what helps, by doctor, attach and the log of a session."""
    check(os.geteuid() == 0, "this test has to be run as root")
    os.chmod(ctx.options.work, 0o755)
    scope, strace = shutil.copy(ctx.scope, ctx.dir / "scope"), ctx.tool("strace")
    refuse = [strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace=ptrace", "-e", "inject=ptrace:error=EPERM"]
    sleeper = ctx.start(["sleep", 1000])
    for number, as_root, as_user, said in ((0, "ok", "ok", b"or to be its owner"), (1, "ok", "note", b"ptrace_scope is 1; if it were 0"),
                                           (2, "ok", "note", b"CAP_SYS_PTRACE, as kernel.yama.ptrace_scope is 2"),
                                           (3, "note", "note", b"is 3; only a restart")):
        for user, verdict in ((None, as_root), (65000, as_user)):
            result = under_yama(ctx, number, "env", f"SCOPE_HOME={ctx.dir}/nowhere", scope, "doctor", "-j", user=user)
            got = {line["check"]: line for line in objects_of(result)}["ptrace_scope"]
            equal(got["verdict"], verdict, f"verdict for {user}: {got}")
            check(verdict == "ok" or "remedy" in got and str(number) in got["text"], "text and remedy", got)
        refused = under_yama(ctx, number, *refuse, ctx.scope, "attach", sleeper.pid)
        check(refused.code == 1 and said in refused.err, f"refusal under {number}", refused.describe())
    equal(sleeper.poll(), None, "the process")


@test()
def yama_static(ctx):
    """A static program that may not be traced runs as it does alone, and the session's log says why."""
    check(os.geteuid() == 0, "this test has to be run as root")
    strace, busybox = ctx.tool("strace"), ctx.tool("busybox")
    for number, said in ((0, "a sandbox without ptrace"), (2, "kernel.yama.ptrace_scope isn't 0")):
        ctx.home = ctx.fresh(f"home-{number}")
        shell = subprocess.Popen([ctx.tool("unshare"), "-m", "sh", "-c", YAMA, "sh", str(number),
                                  *ctx.scope_argv(["sh", "-c", f"echo ready; read x; {busybox} echo done; exit 3"])],
                                 cwd=ctx.dir, env=ctx.env(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        ctx.started.append(shell)
        equal(shell.stdout.readline(), b"ready\n", "first line")
        collector = ctx.wait_for(ctx.session().collector_pid, "the collector runs")
        tracer = ctx.start([strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace=ptrace", "-e", "inject=ptrace:error=EPERM", "-p", collector])
        ctx.wait_for(lambda: f"TracerPid:\t{tracer.pid}" in Path(f"/proc/{collector}/status").read_text(), "strace is attached")
        out, _ = shell.communicate(b"go\n", timeout=ctx.left())
        equal((shell.returncode, out), (3, b"done\n"), "status and output")
        ctx.session().wait_end()
        log = ctx.session().log()
        check(re.search(f"static program: not observed: .*{said}.*busybox", log), "the log doesn't tell why", log)
