# SPDX-License-Identifier: Apache-2.0
"""A session that was recorded on one architecture says the same on another: scope of arm64, by user-mode emulation."""

import re

from scopetest import MACHINE, TOP, Skip, check, equal, test

OTHER = "aarch64"


@test("other-arch/reads", timeout=200)
def reads(ctx):
    other = TOP / "bin/linux" / OTHER / "scope"
    if MACHINE == OTHER or not other.is_file():
        raise Skip(f"there is no {other.relative_to(TOP)} of another architecture (make ARCH={OTHER})")
    emulator = ctx.tool(f"qemu-{OTHER}-static")
    file = ctx.dir / "wörd"
    ctx.scoped(["sh", "-c", f"mkdir d; echo x >'{file}'; cat '{file}' /nothing; kill -SEGV $$"], ["--syscalls", "--payloads"])
    for words in (["events", "--json", "--all"], ["report", "--json"], ["metrics"], ["history"], ["flows"]):
        own = ctx.run([ctx.scope, *words], env=ctx.env(TZ="UTC"))
        there = ctx.run([emulator, other, *words], env=ctx.env(TZ="UTC"), timeout=100)
        # The session gets older, from milliseconds to seconds.
        seen, want = (re.sub(rb"AGE +| [0-9a-z]+ +(?=[0-9a-z]+ +[0-9]+ +SIGSEGV)", b" AGE ", r.out) for r in (there, own))
        equal((there.code, seen), (own.code, want), " ".join(words))
        check(words[0] != "events" or (own.out.count(b"\n") > 20 and b"w\xc3\xb6rd" in own.out), own.describe())
