# SPDX-License-Identifier: Apache-2.0
"""What the start of an observed program asks of the kernel and of the collector: counted, not timed."""

import os
import re
from pathlib import Path

from scopetest import check, equal, test

SOURCE = "int main(int argc, char **argv) { (void)argv; return argc > 8; }\n"


def fresh_program(ctx):
    """A program that nobody has planned yet, and its build id."""
    build_id = os.urandom(20).hex()
    source = ctx.dir / "short.c"
    source.write_text(SOURCE, encoding="ascii")
    path = ctx.dir / "short"
    ctx.run([ctx.tool("cc"), "-O2", f"-Wl,--build-id=0x{build_id}", "-o", path, source], check_code=0)
    return path, build_id


@test("start/plan-is-kept")
def plan_is_kept(ctx):
    """The plan of a program that another one starts is made once, not at each start."""
    program, build_id = fresh_program(ctx)
    result = ctx.scoped([ctx.tool("sh"), "-c", f'{program}; printf %s "$SCOPE_PLANS"'])
    result.session.wait_end()
    plan = Path(result.out.decode()) / f"{build_id}.plan"
    check(plan.is_file(), f"{plan} was not written")
    plan.unlink()


def calls_of(ctx, name, argv, program, env):
    """System calls of the process that becomes `program`, from its birth, by name; what is observed runs elsewhere."""
    out = ctx.dir / f"{name}.strace"
    ctx.run([ctx.tool("strace"), "-f", "-qq", "-o", out, *argv], env=env, check_code=0)
    calls, who = {}, None
    for line in out.read_text(encoding="utf-8", errors="replace").splitlines():
        m = re.match(r"(\d+) +(\w+)\((.*)", line)  # not what is resumed, signals, exits
        if not m:
            continue
        pid, call, rest = m.groups()
        calls.setdefault(pid, []).append(call)
        if call == "execve" and rest.startswith(f'"{program}"'):
            who = pid  # the last one: its plan has been made by then
    check(who, f"{program} was not started")
    return calls[who]


@test("start/system-calls")
def system_calls(ctx):
    """A start makes no more system calls than it has to, waits for nobody, and doesn't ask for each variable."""
    program, _ = fresh_program(ctx)
    script = [ctx.tool("sh"), "-c", f"{program}; {program}; {program}; true"]
    few = ctx.env(**{f"V{i}": "x" * 10 for i in range(10)})
    many = ctx.env(**{f"V{i}": "x" * 10 for i in range(400)})
    ctx.scoped(script).session.wait_end()
    bare = calls_of(ctx, "bare", script, program, few)
    seen = [calls_of(ctx, name, ctx.scope_argv(script), program, env) for name, env in (("few", few), ("many", many))]
    for calls in seen:
        for waits in ("ppoll", "nanosleep", "recvmsg", "futex"):
            equal(calls.count(waits), 0, f"calls of {waits}")
    more = len(seen[0]) - len(bare)
    check(more <= 145, f"{more} system calls more than bare", *seen[0])
    grown = len(seen[1]) - len(seen[0])
    check(grown <= 20, f"{grown} system calls more with 390 variables more", *seen[1])
