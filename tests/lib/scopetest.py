# SPDX-License-Identifier: Apache-2.0
"""Whole-program tests: what a test can use, and how tests are found and run.

A test is a function with the decorator @test in a file named test_*.py below
tests/. It gets a Context: a private directory, a private session store, the
path of the tool, and helpers that run programs bare and observed. It fails by
raising; Skip is only for tests that need files outside the repository.
"""

import collections
import contextlib
import errno
import fcntl
import fnmatch
import functools
import importlib.util
import json
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import elsewhere

TESTS = Path(__file__).resolve().parent.parent
TOP = TESTS.parent
MACHINE = os.uname().machine
TOO_LATE = ("no patch plan in time", "did not answer in time", "no answer from the kernel within")
# Timeouts are for what hangs, and are given as they suit an idle machine: a busy one may take this many times as long, an
# emulated one longer.
EMULATED = elsewhere.OUTSIDE.is_dir()
SLACK = 20 if EMULATED else 4
# So many failures may be others' doing, who want the same CPUs: more are the program's. Of a long run, one in a hundred.
SECOND_CHANCES = 3
TESTS_A_SECOND_CHANCE = 100
# The kernel's headers (linux/...) come behind musl's own.
MUSL_KERNEL = ["-idirafter", "/usr/include", "-idirafter", f"/usr/include/{MACHINE}-linux-gnu"]


class Skip(Exception):
    """The test can't be run here for a reason that is not the program's: printed, and not counted."""


def _auxiliary(kind):
    """A value that the kernel has given to this process (getauxval(3)), 0 if it hasn't."""
    words = Path("/proc/self/auxv").read_bytes()
    return dict(struct.iter_unpack("QQ", words)).get(kind, 0)


# Without these instructions (or a kernel that lets programs have them: AT_HWCAP2, bit 1) neither static programs nor Go
# code can be observed. scope says so, and a test that fails while it does so tells nothing.
NO_FSGSBASE = MACHINE == "x86_64" and not _auxiliary(26) & 2


@functools.cache
def kernel_tells_ends():
    """Whether the kernel tells how a process has ended when its parent has waited for it: Linux 6.15, PIDFD_GET_INFO with
    PIDFD_INFO_EXIT. Before, it is known from a parent that is observed, or one that hasn't waited yet."""
    with subprocess.Popen(["true"]) as process:
        pidfd = os.pidfd_open(process.pid)
        process.wait()
    info = bytearray(struct.pack("Q56x", 1 << 3))
    try:
        fcntl.ioctl(pidfd, 0xC040FF0B, info)
    except OSError:
        return False
    finally:
        os.close(pidfd)
    return bool(struct.unpack("Q56x", info)[0] & 1 << 3)


def check_end(data, number):
    """The fields of the proc.exit of a process that a signal has ended, whose parent isn't observed and waits for it."""
    told = data.get("signal")
    check("exit_code" not in data and (told == signal.Signals(number).name or (told is None and not kernel_tells_ends())),
          f"proc.exit says signal {told!r}, not {number}", data)


class Failure(Exception):
    """A check that did not hold."""


_ports_given = set()


def free_port():
    """A port that is free for TCP and UDP, and not among those that the kernel gives to clients (32768 and up): another
    test's connections can't take it before it is used."""
    while True:
        port = random.randrange(15000, 32000)
        if port in _ports_given:
            continue
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp, contextlib.suppress(OSError):
            tcp.bind(("127.0.0.1", port))
            udp.bind(("127.0.0.1", port))
            _ports_given.add(port)
            return port


class Test:
    def __init__(self, function, name, timeout, serial, arch=None):
        self.function, self.name, self.timeout, self.serial, self.arch = function, name, timeout, serial, arch


_found = []


def test(name=None, timeout=60, serial=False, arch=None):
    """Registers a test. timeout: seconds for the whole test on an idle machine (SLACK). serial: never beside another one.
    arch: the only architecture whose programs this is about ("x86_64"); on others the runner names and counts it."""
    def wrap(function):
        area = Path(sys.modules[function.__module__].__file__).parent.name
        title = name or function.__name__.removeprefix("test_")
        _found.append(Test(function, f"{area}/{title}", timeout, serial, arch))
        return function
    return wrap


def add_test(area, name, function, timeout=60, serial=False, arch=None):
    """The same for tests that are made in a loop."""
    _found.append(Test(function, f"{area}/{name}", timeout, serial, arch))


def check(condition, message, *details):
    if not condition:
        raise Failure("\n".join([str(message), *[str(d) for d in details]]))


def equal(got, want, what="value"):
    if got != want:
        raise Failure(f"{what} differs\n  got  {got!r:.2000}\n  want {want!r:.2000}")


class Result:
    """What a program did: code (negative: died of that signal), out, err (bytes)."""

    def __init__(self, code, out, err, argv):
        self.code, self.out, self.err, self.argv = code, out, err, argv
        self.session = None

    def describe(self):
        return (f"{' '.join(map(str, self.argv))[:300]}\n  status {self.code}\n  stdout {self.out[-1500:]!r}\n"
                f"  stderr {self.err[-1500:]!r}")


class Process(subprocess.Popen):
    """A process whose timeouts are those of an idle machine (SLACK)."""

    def wait(self, timeout=None):
        return super().wait(timeout if timeout is None else timeout * SLACK)

    def communicate(self, input=None, timeout=None):  # pylint: disable=redefined-builtin
        return super().communicate(input, timeout if timeout is None else timeout * SLACK)


def asked(ctx, argv, **how):
    """Runs a command of the tool that has the collector write out what it has; on a busy machine that may take longer than
    the tool waits, which it says."""
    for _ in range(SLACK):
        result = ctx.run([ctx.scope, *argv], **how)
        if b"its collector does not answer" not in result.err:
            break
    return result


def kept(ctx, directory, name):
    """Lines of NDJSON (bytes) of "events.json" or "metrics.json" from the journal of a session's directory."""
    words = {"events.json": ["events", "-a"], "metrics.json": ["metrics"]}[name]
    directory = Path(directory)
    if not (directory / "journal").exists():
        return []
    with contextlib.suppress(OSError, ValueError):
        meta = json.loads((directory / "session.json").read_text())
        if not (meta["event_dest" if words[0] == "events" else "metric_dest"] or "").startswith("journal:"):
            return []  # it went elsewhere
    command = [*words, "-j", "--id", directory.name]
    result = asked(ctx, command, env=ctx.env(SCOPE_HOME=directory.parent.parent))
    if result.code and b"symbolic link" in result.err:  # another user's, which root doesn't follow
        with tempfile.TemporaryDirectory(dir=ctx.options.work) as home:
            copy = Path(home) / "history" / directory.name
            copy.mkdir(parents=True)
            shutil.copy(directory / "journal", copy)
            result = asked(ctx, command, env=ctx.env(SCOPE_HOME=home))
    if result.code:
        raise Failure(f"the session in {directory} can't be read: {result.describe()}")
    return [line for line in result.out.split(b"\n") if line.startswith(b"{")]  # else they went elsewhere, it says


class Session:
    """A session directory of the tool."""

    def __init__(self, ctx, path):
        self.ctx, self.dir = ctx, Path(path)
        self.id = int(self.dir.name)

    @property
    def meta(self):
        return json.loads((self.dir / "session.json").read_text())

    def sync(self):
        """Has everything recorded so far written out, as `scope events` does."""
        asked(self.ctx, ["events", "--id", str(self.id), "-n", "1", "-j"], check_code=0)

    def store(self, directory=None):
        """The file that holds its events."""
        directory = directory or self.dir
        return directory / ("journal" if (directory / "journal").exists() else "events.json")

    def lines(self, name):
        """The lines of NDJSON (bytes) of "events.json" or "metrics.json": of the file if the session has one, else of its
        journal as the tool prints them, which has it written out what was recorded so far."""
        path = self.dir / name
        if path.exists():
            return path.read_bytes().split(b"\n")
        return kept(self.ctx, self.dir, name)

    def _lines(self, name):
        found = []
        for number, line in enumerate(self.lines(name), 1):
            if not line:
                continue
            try:
                found.append(json.loads(line.decode("utf-8")))
            except ValueError as e:
                raise Failure(f"{name}:{number}: not JSON: {e}\n{line[:500]!r}") from None
        return found

    def events(self, sourcetype=None, source=None, sync=True):
        """Bodies of events, in the order written."""
        if sync and (self.dir / "events.json").exists():
            self.sync()
        found = [e["body"] for e in self._lines("events.json") if e.get("type") == "evt"]
        return [b for b in found if (sourcetype is None or b["sourcetype"] == sourcetype)
                and (source is None or b["source"] == source)]

    def raw(self, name):
        return self._lines(name)

    def metrics(self, wait=True):
        """Bodies of metrics; by default once the collector has ended, so that the sums are final."""
        if wait:
            self.wait_end()
        return [m["body"] for m in self._lines("metrics.json") if m.get("type") == "metric"]

    def log(self):
        path = self.dir / "scope.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait_end(self, seconds=15):
        """Waits until the collector has ended."""
        until = time.monotonic() + seconds * SLACK
        while time.monotonic() < until:
            if not self.collector_runs():
                return
            time.sleep(0.02)
        raise Failure(f"the collector of {self.dir} (pid {self.collector_pid()}) is still there after {seconds} s")

    def collector_runs(self):
        """The collector holds a lock on <session>/lock (OFD, fcntl(2)) while it runs, whatever its pid is here."""
        try:
            with open(self.dir / "lock", "rb") as f:
                lock = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
                found = fcntl.fcntl(f, 36, lock)  # F_OFD_GETLK
                return struct.unpack("hhqqi4x", found)[0] != fcntl.F_UNLCK
        except FileNotFoundError:
            return False

    def collector_pid(self):
        """Process that runs the collector, 0 if none does."""
        with contextlib.suppress(OSError, ValueError):
            return self.meta.get("collector", 0) if self.collector_runs() else 0
        return 0

    def lost(self, unseen=False):
        """Losses by kind. unseen: also output that nobody can see, as the kernel moves it (cat and cp let it)."""
        return {k: n for k, n in (self.meta.get("lost") or {}).items() if unseen or k != "moved"}


class Context:
    def __init__(self, options, name, timeout):
        self.options = options
        self.name = name
        self.deadline = time.monotonic() + timeout * SLACK
        self.scope = str(options.scope)
        self.dir = Path(tempfile.mkdtemp(prefix=re.sub(r"\W+", "-", name)[:60] + "-", dir=options.work))
        os.chmod(self.dir, 0o755)
        self.home = self.dir / "scope-home"
        self.started = []
        # What the sessions of this test hold is compared with docs/schemas when it is over, unless valid is False (the
        # test writes into them itself, or filters fields). tags: names of the custom tags that it sets.
        self.valid, self.tags = True, ()

    # --- environment ---

    def env(self, **more):
        """The environment of programs under test: what surroundings.settle() has left, a home, and nothing of ours but
        SCOPE_HOME."""
        base = {k: v for k, v in os.environ.items() if not k.startswith(("SCOPE_", "LD_"))}
        base.update(HOME=str(self.dir), SCOPE_HOME=str(self.home))
        base.update({k: str(v) for k, v in more.items() if v is not None})
        return base

    def fresh(self, name):
        path = self.dir / name
        path.mkdir()
        os.chmod(path, 0o755)
        return path

    def tool(self, *names):
        """Path of a program that the test needs; the first name that is installed. Missing: a failure."""
        for name in names:
            path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/local/sbin")
            if path:
                return path
        raise Failure(f"{' or '.join(names)}: not installed (install_build_tools.sh installs what tests need)")

    # --- running ---

    def left(self):
        return max(1.0, self.deadline - time.monotonic())

    def run(self, argv, cwd=None, env=None, stdin=b"", timeout=None, check_code=None, pass_fds=(), preexec=None):
        """Runs to the end. The process gets a group of its own, killed if it takes too long."""
        argv = [str(a) for a in argv]
        process = subprocess.Popen(argv, cwd=cwd or self.dir, env=env or self.env(), stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
                                   pass_fds=pass_fds, preexec_fn=preexec)
        try:
            out, err = process.communicate(stdin, timeout=min((timeout or 1e9) * SLACK, self.left()))
        except subprocess.TimeoutExpired:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            raise Failure(f"took too long: {' '.join(argv)[:300]}\n  stdout {out[-800:]!r}\n  stderr {err[-800:]!r}"
                          ) from None
        result = Result(process.returncode, out, err, argv)
        if check_code is not None and result.code != check_code:
            raise Failure(f"ended with {result.code} instead of {check_code}: {result.describe()}")
        return result

    def start(self, argv, cwd=None, env=None, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec=None):
        """Starts a process in a group of its own that is ended when the test is over."""
        process = Process([str(a) for a in argv], cwd=cwd or self.dir, env=env or self.env(),
                          stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True,
                          preexec_fn=preexec)
        self.started.append(process)
        return process

    def tool_run(self, *argv, check_code=0):
        """Runs the tool itself."""
        return self.run([self.scope, *argv], check_code=check_code)

    def scope_argv(self, argv, flags=()):
        return [self.scope, "run", *map(str, flags), "--", *map(str, argv)]

    def scoped(self, argv, flags=(), **how):
        """Runs a program observed; result.session is its session."""
        before = set(self.sessions())
        result = self.run(self.scope_argv(argv, flags), **how)
        new = sorted(set(self.sessions()) - before)
        if len(new) != 1:
            raise Failure(f"{len(new)} new sessions instead of one: {result.describe()}")
        result.session = Session(self, new[0])
        return result

    def sessions(self):
        history = self.home / "history"
        return [str(p) for p in history.iterdir() if p.is_dir()] if history.is_dir() else []

    def session(self):
        found = self.sessions()
        check(len(found) == 1, f"{len(found)} sessions instead of one")
        return Session(self, found[0])

    def wait_for(self, condition, what, seconds=20, interval=0.02):
        until = time.monotonic() + min(seconds * SLACK, self.left())
        while time.monotonic() < until:
            value = condition()
            if value:
                return value
            time.sleep(interval)
        raise Failure(f"did not happen within {seconds} s: {what}")

    # --- programs ---

    VARIANTS = {
        "glibc-O0": ["gcc", "-O0"],
        "glibc-O2": ["gcc", "-O2", "-fPIE", "-pie"],
        "musl": ["musl-gcc", "-O2", *MUSL_KERNEL],
        "static": ["gcc", "-O2", "-static"],
        "static-pie": ["gcc", "-O2", "-fPIE", "-static-pie"],
        "musl-static": ["musl-gcc", "-O2", "-static", *MUSL_KERNEL],
        # musl-gcc knows nothing of -static-pie.
        "musl-static-pie": ["musl-gcc", "-O2", "-fPIE", "-static", "-nostartfiles", "-Wl,-pie", "-Wl,--no-dynamic-linker",
                            *(f"/usr/lib/{MACHINE}-linux-musl/{o}.o" for o in ("rcrt1", "crti", "crtn")), *MUSL_KERNEL],
    }
    _compile_lock = threading.Lock()
    _compile_locks = {}
    _ninja_lock = threading.Lock()
    _go_lock = threading.Lock()  # one build at a time: what it has compiled of the library the next one finds in the cache

    @contextlib.contextmanager
    def building(self, lock, *more):
        """Holds a lock, or several, since tests run side by side; what is built, or waited for, meanwhile doesn't count
        against the test's time."""
        began = time.monotonic()
        with contextlib.ExitStack() as stack:
            for lock in (lock, *more):
                stack.enter_context(lock)
            self.deadline += time.monotonic() - began
            began = time.monotonic()
            try:
                yield
            finally:
                self.deadline += time.monotonic() - began

    def compile(self, sources, variant="glibc-O2", flags=(), name=None, shared=False):
        """Compiles C sources (paths below tests/) once per run; returns the path of the program."""
        sources = [TESTS / s for s in ([sources] if isinstance(sources, (str, Path)) else sources)]
        name = name or sources[0].stem
        # The same source may be compiled with several flags.
        how = zlib.crc32(repr((sources, list(map(str, flags)), shared)).encode())
        out = Path(self.options.work) / "programs" / f"{sources[0].parent.name}-{how:08x}" / f"{name}.{variant}"
        with Context._compile_lock:
            lock = Context._compile_locks.setdefault(str(out), threading.Lock())
        with self.building(lock):
            if not out.exists():
                out.parent.mkdir(parents=True, exist_ok=True)
                compiler = self.VARIANTS[variant]
                if shared:
                    compiler = [w for w in compiler if w not in ("-fPIE", "-pie")] + ["-shared", "-fPIC"]
                command = [*compiler, "-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra",
                           f"-I{TESTS}/programs", f"-I{TESTS}/programs/arch/{MACHINE}",
                           *map(str, sources), "-o", f"{out}.new", "-pthread", *flags]
                self.compiler(command)
                os.rename(f"{out}.new", out)
        return out

    def compiler(self, argv, cwd=None, env=None, stdin=b"", timeout=120):
        """Runs a compiler (gcc, g++, musl-gcc, go, rustc) to make a program of a test, not to observe it. In the emulated
        machine the cross compiler outside does that (dev/armvm). What is made is named by -o."""
        argv = [str(a) for a in argv]
        cwd = cwd or self.dir
        if EMULATED:
            elsewhere.compiled(argv, Path(cwd), env or {}, stdin, timeout * SLACK)
            return
        self.tool(argv[0])
        self.run(argv, cwd=cwd, env=self.env(**env) if env else None, stdin=stdin, timeout=timeout, check_code=0)

    def built(self, target):
        """A program of the build directory that is for developers, and that no test of another kind has built."""
        with self.building(Context._ninja_lock):
            self.run(["ninja", "-C", TOP / "build", target], timeout=300, check_code=0)
        return TOP / "build" / target

    # How Go programs are linked: with cgo through the C library, without it statically unless as PIE.
    GO_VARIANTS = {
        "cgo": ("1", []),
        "cgo-stripped": ("1", ["-ldflags=-s -w"]),
        "cgo-external-pie": ("1", ["-ldflags=-linkmode=external", "-buildmode=pie"]),
        "pie": ("0", ["-buildmode=pie"]),
        "static": ("0", []),
        "static-stripped": ("0", ["-ldflags=-s -w"]),
        "cgo-static": ("1", ["-ldflags=-linkmode=external -extldflags=-static"]),
        "race": ("1", ["-race"]),
        "plugin": ("1", ["-buildmode=plugin"]),
    }

    def go_build(self, package, variant="cgo"):
        """Builds tests/go/PACKAGE once per run; returns the path of the program. Uses the standard library only."""
        cgo, flags = self.GO_VARIANTS[variant]
        out = Path(self.options.work) / "programs" / f"go-{package}.{variant}"
        with Context._compile_lock:
            lock = Context._compile_locks.setdefault(str(out), threading.Lock())
        with self.building(lock, Context._go_lock):
            if not out.exists():
                out.parent.mkdir(exist_ok=True)
                cache = Path(self.options.work) / "go-cache"
                self.compiler(["go", "build", *flags, "-o", f"{out}.new", "."], cwd=TESTS / "go" / package, timeout=300,
                              env=dict(CGO_ENABLED=cgo, GO111MODULE="off", GOFLAGS="", GOCACHE=cache, GOTOOLCHAIN="local"))
                os.rename(f"{out}.new", out)
        return out

    def runs_32bit(self):
        """Whether this kernel runs 32-bit programs (CONFIG_IA32_EMULATION, ia32_emulation=)."""
        source, path = self.dir / "empty.c", self.dir / "empty-32"
        source.write_text("void _start(void) { __asm__ volatile(\"int $0x80\" : : \"a\"(1), \"b\"(0)); }")
        self.run([self.tool("gcc"), "-m32", "-nostdlib", "-static", "-fno-pic", "-no-pie", source, "-o", path], check_code=0)
        try:
            return self.run([path]).code == 0
        except OSError as e:
            if e.errno != errno.ENOEXEC:
                raise
            return False

    # --- the end ---

    def finish(self):
        """Ends what the test started and says what was left behind."""
        problems = []
        for process in self.started:
            if process.poll() is None:
                with contextlib.suppress(OSError):
                    os.killpg(process.pid, signal.SIGTERM)
        for process in self.started:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait(5)
        for path in self.sessions():
            session = Session(self, path)
            try:
                session.wait_end(10)
            except Failure as e:
                problems.append(str(e))
                pid = session.collector_pid()
                if pid:
                    with contextlib.suppress(OSError):
                        os.kill(pid, signal.SIGKILL)
        return problems + (self.invalid() if self.valid else [])

    def files(self, name):
        """All files of that name in the test's directory, but those in trees that are deeper than a path can be long."""
        found = []
        for directory, below, files in os.walk(self.dir):
            if len(directory) > 1000:
                below.clear()
            elif name in files:
                found.append(Path(directory) / name)
        return sorted(found)

    def invalid(self):
        """What docs/schemas doesn't allow among the events and metrics of all sessions below the test's directory."""
        import schemas  # needs this module
        found = []
        for name in ("events.json", "metrics.json", "journal"):
            for path in self.files(name):
                if path.parent.parent.name != "history" or not path.is_file() or path.is_symlink():
                    continue
                if name != "journal":
                    found += schemas.problems(path, path.read_bytes().split(b"\n"), self.tags)
                    continue
                for lines in ("events.json", "metrics.json"):
                    found += schemas.problems(path.parent / lines, kept(self, path.parent, lines), self.tags)
        if found:
            found.append("(what is new, or no longer so, belongs into dev/schemas and docs/data-model.md)")
        return found


def _load(path):
    name = "scope_tests_" + re.sub(r"\W", "_", str(path.relative_to(TESTS)))
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


def collect():
    for area in ("protocol", "plan", "cli", "report", "security", "programs", "behaviour", "static", "attach", "namespaces", "containers",
                 "traffic", "tls", "conformance", "apps", "k8s", "lambda", "host"):
        for path in sorted((TESTS / area).glob("test_*.py")):
            _load(path)
    return _found


class Runner:
    """Runs tests. options: work, jobs, keep, no_second_chance, and what a Context needs. say: takes a line."""

    def __init__(self, options, say=None):
        self.options = options
        self.say = say or (lambda line: print(line, flush=True))
        self.passed = self.skipped = 0
        self.failures = []  # tests, with the first line of why
        self.unsteady = []  # the same: failed beside others, passed alone
        self.others = []  # tests of other architectures
        self.times = {}  # of the areas: seconds, tests
        self.lock = threading.Lock()

    @property
    def failed(self):
        return len(self.failures)

    def one(self, t, again=False):
        """Runs a test, says and counts how it has ended: "ok", "FAIL", "skip"."""
        ctx = Context(self.options, t.name, t.timeout)
        began = time.monotonic()
        word, why = "ok", ""
        try:
            try:
                t.function(ctx)
            finally:
                problems = ctx.finish()
            if problems:
                raise Failure("\n".join(problems))
        except Skip as e:
            word, why = "skip", str(e)
        except Failure as e:
            word, why = "FAIL", str(e)
        except Exception:  # pylint: disable=broad-except
            word, why = "FAIL", traceback.format_exc()
        # A program that starts waits for its plan, or for being traced, for a second, which may not be enough on a busy
        # machine: the log says so. The plan is there the next time.
        if word == "FAIL" and not again and any(self.said(ctx, why, what) for what in TOO_LATE):
            self.say(f"     {t.name}: once more: scope said that it was too slow for a program\n{why[:1000]}")
            return self.one(t, again=True)
        if word == "FAIL" and NO_FSGSBASE and self.said(ctx, why, "FSGSBASE"):
            word, why = "skip", "this CPU or kernel has no FSGSBASE, and scope said so"
        took = time.monotonic() - began
        with self.lock:
            area = self.times.setdefault(t.name.split("/")[0], [0.0, 0])
            area[0] += took
            area[1] += 1
            first, _, rest = why.partition("\n")
            self.say(f"{word:4} {t.name} ({took:.1f} s){': ' + first if first else ''}")
            if word == "FAIL":
                self.failures.append((t, first))
                for line in rest.splitlines()[:60]:
                    self.say(f"       {line}")
                self.say(f"       files: {ctx.dir}")
            else:
                self.passed += word == "ok"
                self.skipped += word == "skip"
                if not self.options.keep:
                    shutil.rmtree(ctx.dir, ignore_errors=True)
        return word

    def print_sums(self):
        """Where the time goes (tests of several areas, and several of one, run at a time), which tests were unsteady and which
        have failed, the total."""
        for area, (seconds, tests) in sorted(self.times.items(), key=lambda row: -row[1][0]):
            self.say(f"     {area}: {tests} tests, {seconds:.0f} s together")
        for t, why in self.unsteady:
            self.say(f"unsteady (failed beside others, passed alone): {t.name}: {why}")
        for t, why in self.failures:
            self.say(f"failed: {t.name}: {why}")
        for t in self.others:
            self.say(f"not of {MACHINE}: {t.name} (only {t.arch})")
        if self.others:
            self.say(f"{len(self.others)} not of {MACHINE}")
        if self.skipped:
            self.say(f"{self.skipped} skipped")
        self.say(f"{self.passed} passed, {self.failed} failed")

    @staticmethod
    def said(ctx, why, what):
        if what in why:
            return True
        return any(what in p.read_text(errors="replace") for p in ctx.files("scope.log"))

    def run(self, tests):
        self.others = [t for t in tests if t.arch not in (None, MACHINE)]
        tests = [t for t in tests if t not in self.others]
        # From the one that may take longest down: none of those shall be left when everything else is over. Every other
        # worker begins at the other end: long ones are busy, short ones wait, and so they suit each other.
        beside = collections.deque(sorted((t for t in tests if not t.serial), key=lambda t: -t.timeout))

        def work(take):
            while True:
                try:
                    t = take()
                except IndexError:
                    return
                self.one(t)

        with ThreadPoolExecutor(self.options.jobs) as pool:
            list(pool.map(work, [beside.pop if i % 2 else beside.popleft for i in range(self.options.jobs)]))
        for t in tests:
            if t.serial:
                self.one(t)
        if len(tests) > 1 and not self.options.no_second_chance:
            self.second_chance(max(SECOND_CHANCES, len(tests) // TESTS_A_SECOND_CHANCE))

    def second_chance(self, chances):
        """Runs those that have failed once more, alone, if they are few."""
        if self.failed > chances:
            return
        failures, self.failures = self.failures, []
        for t, why in failures:
            self.say(f"     {t.name}: once more, with nothing beside it")
            word = self.one(t)
            if word == "ok":
                self.unsteady.append((t, why))
            elif word == "skip":  # which explains no failure
                self.failures.append((t, why))


def select(tests, patterns):
    if not patterns:
        return tests
    return [t for t in tests if any(p in t.name or fnmatch.fnmatch(t.name, p) for p in patterns)]
