# SPDX-License-Identifier: Apache-2.0
"""Each observed system call, made by programs that print what they expect.

Every program is built for glibc (without and with optimisation) and musl, with
and without a dynamic loader, and makes its calls from its own text or through
libc's syscall(2). Beside scope, strace is asked once per program: it must agree
with the expectations too, so that a wrong expectation can't hide a wrong event.
"""

import json

from calls import FD_FIRST, LACKING, TABLE, from_event, strace_calls
from scopetest import Failure, add_test, check, test

PROGRAMS = ["open", "transfer", "stat", "names", "attributes", "descriptors", "network", "processes", "uring", "aio"]
VARIANTS = ["glibc-O0", "glibc-O2", "musl", "static", "static-pie", "musl-static", "musl-static-pie"]
BEGIN, END = "/scope-test-begin", "/scope-test-end"

# Rows that no program can make succeed, or fail, everywhere; each with its reason.
NEVER_FAILS = {
    "fork": "only for want of memory or processes", "vfork": "as fork", "exit": "does not return",
    "exit_group": "does not return", "eventfd": "takes any number", "inotify_init": "only for want of instances",
    "fcntl": "", "dup2": "",
}
NEVER_SUCCEEDS = {"open_by_handle_at": "needs CAP_DAC_READ_SEARCH", "pidfd_getfd": "needs ptrace rights"}


def expectations(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def build(ctx, name, variant):
    return ctx.compile([f"programs/{name}.c", "programs/expect.c"], variant)


def between_marks(threads):
    """Calls after the first mark and before the second; threads without marks whole, if born between them."""
    kept = {}
    for tid, calls in threads.items():
        begin = [i for i, c in enumerate(calls) if c.path == BEGIN]
        end = [i for i, c in enumerate(calls) if c.path == END]
        if begin:
            check(len(begin) == 1 and len(end) == 1, f"marks seen {len(begin)} and {len(end)} times, not once each")
            calls = calls[begin[0] + 1:end[0]]
        kept[tid] = calls
    return kept


def differs(want, got):
    """Why an observed call is not the expected one, or None."""
    if got.op not in want["op"].split("|"):
        return "op"
    if "result" in want and got.result != want["result"]:
        return "result"
    for member in ("path", "path2", "file", "file2", "fd", "addr"):
        if member in want:
            value = getattr(got, member)
            if member.startswith("file") and value is None:
                continue  # scope resolves names only where an event needs it
            if value is None and (member == "addr" or got.text and got.text.startswith("syscall_0x")):
                continue  # strace doesn't know this call's arguments
            if member == "fd" and value is None and (want["fd"] < 0 or TABLE[got.op].shape not in FD_FIRST):
                continue
            if (value or None) != (want[member] or None):  # an empty path is not told
                return member
    if "bytes" in want and got.bytes is not None and got.bytes != want["bytes"]:
        return "bytes"
    if "bytes" in want and got.bytes is None and want["bytes"]:
        return "bytes"
    return None


def compare(want, threads, who):
    """want: expectations; threads: {tid: [Call]}. Compared in order, thread by thread."""
    by_tid = {}
    for w in want:
        by_tid.setdefault(w["tid"], []).append(w)
    used = {op for w in want for op in w["op"].split("|")}
    problems = []
    for tid, wanted in by_tid.items():
        # Calls that libc makes on its own account: what no expectation of this program names.
        got = [c for c in threads.get(tid, []) if c.op in used
               and not own_account(c, wanted)]
        at = 0
        for i, w in enumerate(wanted):
            reason = "nothing more" if at >= len(got) else differs(w, got[at])
            if reason is None:
                at += 1
                continue
            # Find where they agree again: is one missing, or is one too many?
            if any(at + k < len(got) and differs(w, got[at + k]) is None for k in (1, 2)):
                skip = 1 if differs(w, got[at + 1]) is None else 2
                problems += [f"{who}: thread {tid}: not expected: {c}" for c in got[at:at + skip]]
                at += skip + 1
            elif i + 1 < len(wanted) and at < len(got) and differs(wanted[i + 1], got[at]) is None:
                problems.append(f"{who}: thread {tid}: missing: {w}")
            elif at < len(got):
                problems.append(f"{who}: thread {tid}: {reason}: expected {w}\n    got {got[at]}")
                at += 1
            else:
                problems.append(f"{who}: thread {tid}: missing: {w}")
        problems += [f"{who}: thread {tid}: not expected: {c}" for c in got[at:]]
        if len(problems) > 40:
            break
    if problems:
        raise Failure("\n".join([f"{len(problems)} differences", *problems[:40]]))


def own_account(call, wanted):
    """Start-up of an image that a child exec'ed, and thread set-up of libc, in a thread's list."""
    last = wanted[-1]["op"]
    return last.startswith("exec") and call.op not in ("execve", "execveat") and not any(
        call.op in w["op"].split("|") for w in wanted)


def cut_after_exec(threads, want):
    """Children that exec are followed by scope: their list ends, for the comparison, with the exec."""
    ends = {w["tid"] for w in want if w["op"] in ("execve", "execveat") and "result" not in w}
    for tid in ends:
        calls = threads.get(tid, [])
        for i, c in enumerate(calls):
            if c.op.startswith("exec") and (c.result is None or c.result >= 0):
                threads[tid] = calls[:i + 1]
                break
    return threads


def from_strace(ctx, program, way):
    """Runs the program under strace; returns expectations and calls."""
    work, out = ctx.fresh("strace"), ctx.fresh("strace-out")
    expect = ctx.dir / "expect-strace.json"
    ctx.run([ctx.tool("strace"), "-ff", "-xx", "-s", "5000", "-o", out / "t", program, way], cwd=work,
            env=ctx.env(EXPECT=expect), check_code=0)
    return expectations(expect), strace_calls(out, "t", images=False)


def observe(ctx, program, way):
    """Runs the program under scope; returns expectations and calls."""
    work = ctx.fresh("scope")
    expect = ctx.dir / "expect-scope.json"
    result = ctx.scoped([program, way], ["--syscalls"], cwd=work, env=ctx.env(EXPECT=expect))
    check(result.code == 0, "the program failed under scope", result.describe())
    check(result.out == b"" and result.err == b"", "output appeared", result.describe())
    threads = {}
    for body in result.session.events("syscall"):
        call = from_event(body)
        threads.setdefault(call.tid, []).append(call)
    return expectations(expect), threads


def against_strace(ctx, name):
    for way in ("inline",):
        want, threads = from_strace(ctx, build(ctx, name, "glibc-O2"), way)
        threads = {t: [c for c in calls if c.op in TABLE] for t, calls in threads.items()}
        compare(want, cut_after_exec(between_marks(threads), want), "strace")


def against_scope(ctx, name, variant, way):
    want, threads = observe(ctx, build(ctx, name, variant), way)
    check(any(c.path == BEGIN for calls in threads.values() for c in calls),
          f"the mark {BEGIN} was not seen: {sum(map(len, threads.values()))} syscall events of {len(threads)} threads")
    compare(want, cut_after_exec(between_marks(threads), want), "scope")


for _name in PROGRAMS:
    add_test("programs", f"{_name}/strace", lambda ctx, n=_name: against_strace(ctx, n))
    for _variant in VARIANTS:
        for _way in ("inline", "syscall"):
            add_test("programs", f"{_name}/{_variant}/{_way}",
                     lambda ctx, n=_name, v=_variant, w=_way: against_scope(ctx, n, v, w))


@test()
def test_every_row_is_expected(ctx):
    """Each row of src/wire/syscalls.def is expected by some program, once succeeding and once failing."""
    good, bad = set(), set()
    for name in PROGRAMS:
        expect = ctx.dir / f"{name}.json"
        ctx.run([build(ctx, name, "glibc-O2"), "inline"], cwd=ctx.fresh(name), env=ctx.env(EXPECT=expect), check_code=0)
        for w in expectations(expect):
            for op in w["op"].split("|"):
                (bad if w.get("result", 0) < 0 else good).add(op)
    missing = [f"{op}: success" for op in TABLE if op not in good and op not in NEVER_SUCCEEDS and op not in LACKING]
    missing += [f"{op}: failure" for op in TABLE if op not in bad and op not in NEVER_FAILS and op not in LACKING]
    check(not missing, "rows that no program covers", *missing)
