# SPDX-License-Identifier: Apache-2.0
"""Attaching to Go programs of other releases than the one that Debian has, while they serve."""

import os
import signal
import subprocess
import time
import urllib.request

import foreign
from attaching import attach, cycles, detach, free_port, listens, ours
from scopetest import add_test, check, equal, test

CYCLES = 12


def serve(ctx, release):
    """esbuild builds anew for each request, with the garbage collector at work all the time: every answer is the same."""
    work, port = ctx.fresh("work"), free_port()
    foreign.js_project(work, 60)
    program = foreign.esbuild(release)
    bare = ctx.run([program, "--bundle", "main.js"], cwd=work, check_code=0)
    with open(ctx.dir / "said", "wb") as said:
        process = subprocess.Popen([program, f"--serve=127.0.0.1:{port}", "--bundle", "main.js", "--outdir=out"], cwd=work,
                                   env=ctx.env(GOGC=5), stdin=subprocess.PIPE, stdout=said, stderr=said, start_new_session=True)
    ctx.started.append(process)
    ctx.wait_for(lambda: listens(port), "it listens")

    def request():
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/main.js", timeout=10) as answer:
            check(answer.read() == bare.out, "another answer")

    request()
    time.sleep(0.5)  # older releases answer from what they have built less than 250 ms ago, and build at the start
    session = attach(ctx, process.pid, "--lossless").session
    for n in range(60):
        os.utime(work / f"lib/m{n}.js", (1_700_000_000, 1_700_000_000))  # what hasn't changed may not be read again
    request()
    session.sync()
    detach(ctx, process.pid)
    session.wait_end()
    opened = {b["data"]["file"] for b in session.events("fs", "fs.open", sync=False)}
    read = {f"{work}/lib/m{n}.js" for n in range(60)}
    check(read <= opened, f"{len(read - opened)} of its files are missing", *sorted(opened))
    check(session.events("net", "net.open", sync=False), "no connection was seen")
    equal({k: n for k, n in session.lost().items() if n}, {}, "losses")

    cycles(ctx, process.pid, request, CYCLES)
    equal(ours(process.pid), [], "mappings that are left")
    process.send_signal(signal.SIGTERM)
    equal(process.wait(10), -signal.SIGTERM, "status")
    said = (ctx.dir / "said").read_text()
    check("panic" not in said and "goroutine" not in said, "it complains", said[-3000:])


def waiting(ctx, argv, given, **how):
    """A program that waits for what it is given, and is attached to and detached from meanwhile: as bare."""
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
                               **how)
    ctx.started.append(process)
    time.sleep(0.5)
    for _ in range(CYCLES):
        attach(ctx, process.pid)
        detach(ctx, process.pid)
    session = attach(ctx, process.pid).session
    out, err = process.communicate(given, timeout=ctx.left())
    ends = [b["data"].get("exit_code") for b in session.events("process", "proc.exit") if b["pid"] == process.pid]
    equal(ends, [process.returncode], "its end")
    return process.returncode, out, err


@test("foreign/esbuild-go1.15")
def oldest(ctx):
    """Has no server yet."""
    argv = [foreign.esbuild("go1.15"), "--minify", "--loader=ts"]
    given = b"export const value: number = 1;\n" + b"console.log('text');\n" * 1000
    bare = ctx.run(argv, stdin=given, check_code=0)
    equal(waiting(ctx, argv, given, env=ctx.env(GOGC=5)), (0, bare.out, bare.err), "status and output")


@test("foreign/rust-musl")
def rust(ctx):
    """Static PIE of Rust, musl, with threads of its own pool."""
    argv = [foreign.program("biome-rust-musl", "biome"), "format", "--stdin-file-path=x.js"]
    given = b"var   a = [ 1,2 ];" * 2000
    bare = ctx.run(argv, stdin=given, check_code=0)
    equal(waiting(ctx, argv, given, env=ctx.env()), (0, bare.out, bare.err), "status and output")


@test("foreign/lefthook-go1.27")
def newest(ctx):
    """Waits for a command."""
    work = ctx.fresh("work")
    (work / "lefthook.yml").write_text("pre-commit:\n  commands:\n    one:\n      run: read x && echo got $x && exit 3\n      use_stdin: true\n")
    ctx.run([ctx.tool("git"), "init", "-q"], cwd=work, check_code=0)
    argv = [foreign.program("lefthook-go1.27", "bin/lefthook"), "run", "pre-commit", "--force", "--no-tty", "--no-auto-install",
            "--colors", "off"]
    env = ctx.env(HOME=work, GIT_CONFIG_NOSYSTEM=1)
    code, out, _ = waiting(ctx, argv, b"something\n", cwd=work, env=env)
    check(code == 1 and b"got something" in out and b"exit status 3" in out, "another end", code, out)


for _release in foreign.SERVING:
    add_test("attach", f"foreign/esbuild-{_release}", lambda ctx, r=_release: serve(ctx, r), timeout=240)
