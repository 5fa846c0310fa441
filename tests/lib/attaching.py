# SPDX-License-Identifier: Apache-2.0
"""Attaching to running processes and detaching from them, as tests do it: with all checks that hold for any process."""

import os
import re
import socket
import subprocess
import threading
import time

from scopetest import Session, check, equal, free_port  # noqa: F401 (for those who import this)


def status(pid, key):
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as f:
        return next(line.split(":", 1)[1].strip() for line in f if line.startswith(key + ":"))


def ours(pid):
    """Mappings of the probe's making: the segment; code that is no file's; stacks."""
    with open(f"/proc/{pid}/maps", encoding="ascii", errors="replace") as f:
        rows = [line.split(None, 5) for line in f]
    found = [" ".join(r).strip() for r in rows
             if (len(r) > 5 and r[5].startswith("/memfd:scope")) or ("x" in r[1] and len(r) < 6)]
    with open(f"/proc/{pid}/smaps", encoding="ascii", errors="replace") as f:  # stacks for hooks of Go code
        return found + [line.strip() for line in f if line.startswith("VmFlags:") and {"wf", "nh"} <= set(line.split())]


def start(ctx, argv, **how):
    """Starts a program and waits for its first line, "ready"."""
    process = ctx.start(argv, stdout=subprocess.PIPE, **how)
    equal(process.stdout.readline(), b"ready\n", "first line")
    return process


def asleep(ctx, process, name=None):
    """Waits until a process that was started stands in a call of its program (called NAME): it has loaded its libraries."""
    want, seen = os.path.basename(name or str(process.args[0])), [0]

    def waits():
        check(process.poll() is None, f"ended with {process.returncode}")
        with open(f"/proc/{process.pid}/cmdline", "rb") as f:
            mine = os.path.basename(f.read().split(b"\0")[0].decode(errors="replace")) == want
        seen[0] = seen[0] + 1 if mine and status(process.pid, "State").startswith("S") else 0
        return seen[0] > 2
    ctx.wait_for(waits, f"{want} waits for something", interval=0.05)


def attach(ctx, pid, *flags, code=0, env=None):
    before = set(ctx.sessions())
    result = ctx.run([ctx.scope, "attach", *flags, str(pid)], check_code=code, env=env)
    new = set(ctx.sessions()) - before
    if code == 0:
        check(b"Attaching to pid" in result.err, "the message", result.describe())
        equal(len(new), 1, "new sessions")
        result.session = Session(ctx, new.pop())
    return result


def detach(ctx, pid, *flags, code=0):
    result = ctx.run([ctx.scope, "detach", *flags, str(pid)], check_code=code)
    if code == 0:
        check(f"Detaching from pid {pid}".encode() in result.err, "the message", result.describe())
        n = re.search(rb"(\d+) bytes of code are those of their files", result.err)
        check(n and int(n.group(1)) > 4096, "the number of bytes compared", result.describe())
        check(b"differ" not in result.err and b"stays in its memory" not in result.err, "not as before", result.describe())
        equal(ours(pid), [], "mappings that are left")
    return result


class Load:
    """Clients that make requests until stopped; a request that fails is kept as text."""

    def __init__(self, request, clients=3):
        self.failed, self.count, self.stop = [], 0, False
        self.threads = [threading.Thread(target=self.run, args=(request,)) for _ in range(clients)]
        for t in self.threads:
            t.start()

    def run(self, request):
        while not self.stop and len(self.failed) < 10:
            try:
                request()
                self.count += 1
            except Exception as e:  # pylint: disable=broad-except
                self.failed.append(repr(e))

    def end(self):
        self.stop = True
        for t in self.threads:
            t.join()
        check(not self.failed, "requests failed", *self.failed)
        check(self.count > 100, f"only {self.count} requests")


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def cycles(ctx, pid, request, count, *flags):
    load = Load(request)
    try:
        for _ in range(count):
            attach(ctx, pid, *flags)
            time.sleep(0.02)
            result = ctx.run([ctx.scope, "detach", *flags, str(pid)], check_code=0)
            check(b"differ" not in result.err and b"stays in its memory" not in result.err, "not as before", result.describe())
    finally:
        load.end()
