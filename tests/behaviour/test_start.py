# SPDX-License-Identifier: Apache-2.0
"""What the start of an observed program asks of the kernel and of the collector: counted, not timed."""

import os
from pathlib import Path

from scopetest import check, test

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
