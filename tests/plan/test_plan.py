# SPDX-License-Identifier: Apache-2.0
"""What the planner decides about real programs and libraries of arm64, on any machine.

Counts are pinned for the very files that they were found with: by their build-id, where a release of Debian may bring
another one; what npm brings is always the same. Of any file the shares hold that are promised. Each site that is patched
is run, beside what it was, by user-mode emulation (run_patched.c), and each that isn't has one of the reasons that were
looked at:

  no stack to run on   musl's __unmapself: the thread has just given back its stack, and only ends
  no register is free  calls that a compiler has inlined into large functions that need all of them (Bun), or that
                       jump by tables in text with data (musl's posix_spawn, where nothing tells functions apart)
"""

import os
import re
import threading
from pathlib import Path

from foreign import program
from scopetest import MACHINE, TOP, Skip, add_test, check, equal

SYSROOT = TOP / "build-aarch64/sysroot" if MACHINE != "aarch64" else None
TRIXIE = TOP / "build/arm64/trixie"
LIBRARIES = "usr/lib/aarch64-linux-gnu"

# Of a build-id, or a name of a file that is always the same: sites that are after, moved, caller, function; refused.
COUNTS = {
    "6f268ff546c56d7f14e9501a55698cc2d0ab4732": (186, 8, 0, 0, {}),                          # glibc 2.36
    "49057df2bb24947d2dfb9f4e21ff2a2545d30ad8": (26, 4, 0, 0, {}),                           # its ld.so
    "44736b4af91f03f11921c05e26ade4982b45f8cb": (179, 23, 1, 0, {"no stack to run on": 1}),  # musl 1.2.3
    "dfbd3ffa068e3f5fc228d6716b4ff3f0f61eb82c": (116, 13, 1, 0, {}),                         # glibc 2.41
    "60bbb34848839d158b97de3debcf3f65955faa10": (28, 2, 0, 0, {}),                           # its ld.so
    "d60de70deeab1fa5a250f63ccf355be2f03d6628": (180, 21, 1, 0, {"no stack to run on": 1}),  # musl 1.2.5
    "419a1f1ffeecc4b7831296cd2e3102f944a90343": (1, 93, 1, 0, {}),                           # busybox, static glibc 2.41
    "arm64/bun": (0, 682, 0, 0, {"no register is free": 18}),
    "arm64/deno": (0, 6, 0, 0, {}),
    "arm64/node": (0, 0, 0, 25, {}),
    "arm64/esbuild-go1.26-stripped": (11, 3, 0, 0, {}),
    "arm64/tsgo-go1.26": (11, 3, 0, 0, {}),
    "arm64/lefthook-go1.27": (11, 3, 0, 0, {}),
    "arm64/biome-rust-musl": (3, 79, 0, 0, {"no register is free": 8, "no stack to run on": 1}),
}


# What several tests share is made by one of them, while the others wait.
making = threading.Lock()


def sysroot(ctx):
    """Headers and libraries of Debian's arm64, of the release that this machine has."""
    if MACHINE == "aarch64":
        return "/"
    with ctx.building(making):
        ctx.run([TOP / "dev/cross/sysroot", "aarch64", SYSROOT], timeout=300, check_code=0)
    return SYSROOT


def trixie(ctx):
    """What the tests look at of Debian 13's arm64."""
    if not os.path.exists("/usr/share/keyrings/debian-archive-trixie-stable.gpg"):
        raise Skip("this machine has no keys of Debian 13")
    made, packages = TRIXIE / ".made-of", ["libc6", "musl", "ripgrep", "busybox-static"]
    with ctx.building(making):
        if not made.exists() or made.read_text() != " ".join(packages):
            ctx.run([TOP / "dev/cross/unpack", "-r", "trixie", "aarch64", TRIXIE, *packages], timeout=300, check_code=0)
            made.write_text(" ".join(packages))
    return TRIXIE


def explained(ctx, file):
    """What plan-explain says of a file, and the plan: sites by method, refused ones by reason, names of their calls."""
    plan = ctx.dir / "plan"
    lines = ctx.run([ctx.built("src/plan/plan-explain"), "-o", plan, file], timeout=60, check_code=0).out.decode().split("\n")
    methods, refused, names = {}, {}, set()
    for line in lines[2:-2]:
        _, name, method, reason, _ = (line[a:b].strip() for a, b in ((0, 18), (19, 47), (48, 59), (60, 90), (91, None)))
        if reason == "not observed":
            continue
        names.add(name)
        if method == "left alone":
            refused[reason] = refused.get(reason, 0) + 1
        else:
            methods[method] = methods.get(method, 0) + 1
    return plan, methods, refused, names


def emulated(ctx, argv):
    return argv if MACHINE == "aarch64" else [ctx.tool("qemu-aarch64-static"), *argv]


def runner(ctx):
    root = sysroot(ctx)
    out = ctx.dir / "run_patched"
    libraries, headers = f"{root}/{LIBRARIES}", f"{root}/usr/include"
    cross = [] if MACHINE == "aarch64" else [f"--sysroot={root}", "-isystem", f"{headers}/aarch64-linux-gnu", "-isystem", headers,
                                             f"-B{libraries}", f"-L{libraries}"]
    ctx.run([compiler(ctx), *cross, "-std=gnu11", "-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra", "-static", f"-I{TOP}/src",
             TOP / "tests/plan/run_patched.c", "-o", out], timeout=120, check_code=0)
    return out


def compiler(ctx):
    return ctx.tool("gcc") if MACHINE == "aarch64" else ctx.tool("aarch64-linux-gnu-gcc-12", "aarch64-linux-gnu-gcc")


def build_id(ctx, file):
    found = re.search(rb"Build ID: ([0-9a-f]+)", ctx.run([ctx.tool("readelf"), "-n", file]).out)
    return found[1].decode() if found else None


def judge(ctx, file, counts, share, named=()):
    plan, methods, refused, names = explained(ctx, file)
    patched = sum(methods.values())
    if counts:
        equal((*(methods.get(m, 0) for m in ("after", "moved", "caller", "function")), refused), counts, f"sites of {file}")
    check(patched and patched >= share * (patched + sum(refused.values())), f"{file}: {methods}, {refused}")
    check(set(named) <= names, f"calls of {file} have other names: {sorted(names)}")
    result = ctx.run(emulated(ctx, [runner(ctx), file, plan]), timeout=200, check_code=0)
    check(f"{patched} sites, {patched * 8} runs, 0 wrong".encode() in result.out, result.describe())


def debian(place, path, share, named):
    def run(ctx):
        file = (place(ctx) / path).resolve()
        judge(ctx, file, COUNTS.get(build_id(ctx, file)), share, named)
    return run


COMMON = ("openat", "close", "read", "write")
for release, where in (("bookworm", sysroot), ("trixie", trixie)):
    # glibc 2.41 makes the calls of cancellation points in one place, with any number.
    own = COMMON if release == "bookworm" else ("openat", "close", "any", "clone3")
    add_test("plan", f"arm64/{release}/glibc", debian(where, f"{LIBRARIES}/libc.so.6", 0.98, own), timeout=300)
    add_test("plan", f"arm64/{release}/loader", debian(where, f"{LIBRARIES}/ld-linux-aarch64.so.1", 0.98, COMMON), timeout=300)
    add_test("plan", f"arm64/{release}/musl", debian(where, "usr/lib/aarch64-linux-musl/libc.so", 0.97, ("openat", "close", "any")), timeout=300)
add_test("plan", "arm64/trixie/static", debian(trixie, "usr/bin/busybox", 0.98, ("openat", "close", "any")), timeout=300)


def rust(ctx):
    """ripgrep makes all its calls by the C library."""
    _, methods, refused, _ = explained(ctx, trixie(ctx) / "usr/bin/rg")
    equal((methods, refused), ({}, {}), "sites")


add_test("plan", "arm64/trixie/ripgrep", rust, timeout=300)


def foreign(name, path, share):
    return lambda ctx: judge(ctx, program(name, path), COUNTS[name], share)


for name, path, share in (("bun", "bin/bun", 0.97), ("deno", "deno", 1), ("node", "bin/node", 1),
                          ("esbuild-go1.26-stripped", "bin/esbuild", 1), ("tsgo-go1.26", "lib/tsgo", 1),
                          ("lefthook-go1.27", "bin/lefthook", 1), ("biome-rust-musl", "biome", 0.9)):
    add_test("plan", f"arm64/{name}", foreign("arm64/" + name, path, share), timeout=300)


def go_program(cgo, flags):
    def run(ctx):
        root, libraries, headers = sysroot(ctx), f"{sysroot(ctx)}/{LIBRARIES}", f"{sysroot(ctx)}/usr/include"
        cross = "" if MACHINE == "aarch64" else (f" --sysroot={root} -isystem {headers}/aarch64-linux-gnu -isystem {headers}"
                                                 f" -B{libraries} -L{libraries}")
        out = ctx.dir / "server"
        ctx.run([ctx.tool("go"), "build", *flags, "-o", out, "."], cwd=TOP / "tests/go/server",
                env=ctx.env(CGO_ENABLED=cgo, GO111MODULE="off", GOFLAGS="", GOTOOLCHAIN="local", GOARCH="arm64",
                            GOCACHE=Path(ctx.options.work) / "go-cache", CC=f"{compiler(ctx)}{cross}"), timeout=800, check_code=0)
        judge(ctx, out, None, 1, COMMON)
    return run


for name, cgo, flags in (("static", "0", []), ("pie", "0", ["-buildmode=pie"]), ("stripped", "0", ["-ldflags=-s -w"]), ("cgo", "1", [])):
    add_test("plan", f"arm64/go/{name}", go_program(cgo, flags), timeout=900)
