# SPDX-License-Identifier: Apache-2.0
"""Real programs without a dynamic loader that others have built: Go of many releases, Rust with glibc and with musl."""

import re

import foreign
from scopetest import add_test, check, equal, test

MODULES = 300


def complete(result, hidden=0):
    """Nothing was lost, nothing was complained of, but for so many places in the program that no hook fits."""
    result.session.wait_end()
    told = [line for line in result.session.log().splitlines() if "not observed" in line]
    check(len(told) == bool(hidden) and all(f"calls made at {hidden} places" in line for line in told),
          "something was not observed", result.session.log())
    equal({k: n for k, n in result.session.lost().items() if n}, {"site": hidden} if hidden else {}, "losses")


def opened(result, proc):
    return {b["data"]["file"] for b in result.session.events("fs", "fs.open") if b["proc"] == proc}


def bundle(ctx, release):
    """Hundreds of files by many goroutines, with the garbage collector at work all the time."""
    work = ctx.fresh("work")
    foreign.js_project(work, MODULES)
    argv = [foreign.esbuild(release), "--bundle", "--minify", "--sourcemap=inline", "main.js"]
    bare = ctx.run(argv, cwd=work, check_code=0)
    for gc in (1, 100):
        scoped = ctx.scoped(argv, ["--lossless"], cwd=work, env=ctx.env(GOGC=gc))
        equal(scoped.code, 0, "status: " + scoped.describe())
        check((scoped.out, scoped.err) == (bare.out, bare.err), "another output", scoped.err[-2000:])
        missing = {f"{work}/lib/m{n}.js" for n in range(MODULES)} - opened(scoped, "esbuild")
        check(not missing, f"{len(missing)} of its files are missing", *sorted(missing))
        complete(scoped)


def fails(ctx, release):
    """An error, with its message and status."""
    (ctx.dir / "wrong.js").write_text('let x = ;\n')
    argv = [foreign.esbuild(release), "--bundle", "wrong.js"]
    bare, scoped = ctx.run(argv), ctx.scoped(argv)
    equal((scoped.code, scoped.out, scoped.err), (bare.code, bare.out, bare.err), "status and output")
    check(bare.code == 1 and b"Unexpected" in bare.err, "this was no error", bare.describe())
    complete(scoped)


for _release in foreign.ESBUILD:
    add_test("static", f"foreign/bundle/{_release}", lambda ctx, r=_release: bundle(ctx, r), timeout=120)
    add_test("static", f"foreign/fails/{_release}", lambda ctx, r=_release: fails(ctx, r))


@test("foreign/typescript", timeout=120)
def typescript(ctx):
    """A compiler: hundreds of type declarations, many threads, and an error that it has to find."""
    work = ctx.fresh("work")
    foreign.js_project(work, 100)
    (work / "wrong.ts").write_text("const x: number = document.title;\nexport const y: string = x.toFixed(2);\n")
    argv = [foreign.program("tsgo-go1.26", "lib/tsgo"), "--noEmit", "--allowJs", "--checkJs", "--pretty", "false", "main.js", "wrong.ts"]
    bare = ctx.run(argv, cwd=work)
    check(b"wrong.ts(1,7): error TS2322" in bare.out, "the error", bare.describe())
    for gc in (5, 100):
        scoped = ctx.scoped(argv, ["--lossless"], cwd=work, env=ctx.env(GOGC=gc))
        equal((scoped.code, scoped.out, scoped.err), (bare.code, bare.out, bare.err), "status and output")
        missing = {f"{work}/lib/m{n}.js" for n in range(100)} - opened(scoped, "tsgo")
        check(not missing, f"{len(missing)} of its files are missing", *sorted(missing))
        complete(scoped)


HOOKS = """pre-commit:
  commands:
    one:
      run: cat given | wc -c
    two:
      run: exit 3
"""


@test("foreign/commands")
def commands(ctx):
    """Go's way of starting programs (a pidfd of each since 1.23): shells, and what they start, with their statuses."""
    work = ctx.fresh("work")
    (work / "lefthook.yml").write_text(HOOKS)
    (work / "given").write_text("12345")
    ctx.run([ctx.tool("git"), "init", "-q"], cwd=work, check_code=0)
    argv = [foreign.program("lefthook-go1.27", "bin/lefthook"), "run", "pre-commit", "--force", "--no-tty", "--no-auto-install",
            "--colors", "off"]
    env = ctx.env(HOME=work, GIT_CONFIG_NOSYSTEM=1)

    def said(result):
        return re.sub(rb"[\d.]+ seconds", b"N seconds", result.out), result.err, result.code
    bare, scoped = ctx.run(argv, cwd=work, env=env), ctx.scoped(argv, cwd=work, env=env)
    equal(said(scoped), said(bare), "status and output")
    check(b"exit status 3" in bare.out and b"\n5\n" in bare.out, "what the commands say", bare.describe())
    starts = [b["data"]["args"] for b in scoped.session.events("process", "proc.start") if b["data"]["start"] == "exec"]
    for words in (["cat", "given"], ["wc", "-c"], ["sh", "-c", "exit 3 "]):
        check(words in starts, f"{words} was not observed", *starts)
    ends = [b["data"].get("exit_code") for b in scoped.session.events("process", "proc.exit")]
    check(3 in ends, "the exit status of a command", ends)
    complete(scoped)


# --- Rust ---

RUST = r"""
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::{fs, panic, process, thread};

fn main() {
    let work: Vec<_> = (0..8)
        .map(|n| {
            thread::spawn(move || {
                let name = format!("file-{}", n);
                fs::write(&name, vec![b'x'; 1000 * (n + 1)]).unwrap();
                let size = fs::read(&name).unwrap().len();
                let _ = fs::File::open("nowhere").unwrap_err();
                size
            })
        })
        .collect();
    let sizes: Vec<usize> = work.into_iter().map(|t| t.join().unwrap()).collect();
    println!("{:?}", sizes);
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let client = thread::spawn(move || TcpStream::connect(address).unwrap().write_all(b"hello").unwrap());
    let mut said = String::new();
    server.accept().unwrap().0.read_to_string(&mut said).unwrap();
    client.join().unwrap();
    println!("{}", said);
    let child = process::Command::new("/bin/sh").args(["-c", "echo child; exit 4"]).output().unwrap();
    println!("{:?} {:?}", child.status.code(), String::from_utf8_lossy(&child.stdout));
    panic::set_hook(Box::new(|_| ()));
    println!("{}", panic::catch_unwind(|| fs::read("nowhere").unwrap()).is_err());
    process::exit(5);
}
"""


def rust(ctx, relocation):
    """A static program by Debian's compiler, which links the C library and unwinds on its own."""
    source, program = ctx.dir / "some.rs", ctx.dir / "some"
    source.write_text(RUST)
    ctx.compiler(["rustc", "--edition=2021", "-O", "-C", "target-feature=+crt-static", "-C", f"relocation-model={relocation}",
             "-o", program, source], timeout=100)
    check(b"INTERP" not in ctx.run([ctx.tool("readelf"), "-lW", program], check_code=0).out, "it isn't static")
    bare, scoped = ctx.run([program]), ctx.scoped([program], ["--lossless"])
    equal((scoped.code, scoped.out, scoped.err), (bare.code, bare.out, bare.err), "status and output")
    equal((bare.code, bare.out.count(b"\n")), (5, 4), "what it does")
    seen = [b["data"] for b in scoped.session.events("fs", "fs.close")]
    for n in range(8):
        of = [d for d in seen if d["file"] == f"{ctx.dir}/file-{n}"]
        equal(sorted((d["file_read_bytes"], d["file_write_bytes"]) for d in of), [(0, 1000 * (n + 1)), (1000 * (n + 1), 0)],
              f"bytes of file-{n}")
    equal(len(scoped.session.events("net", "net.open")), 2, "ends of a connection")
    complete(scoped)


add_test("static", "foreign/rust/static", lambda ctx: rust(ctx, "static"), timeout=120)
add_test("static", "foreign/rust/static-pie", lambda ctx: rust(ctx, "pie"), timeout=120)


@test("foreign/rust-musl", timeout=120)
def rust_musl(ctx):
    """A static PIE with musl and an allocator of its own, many threads: checks and rewrites files."""
    program = foreign.program("biome-rust-musl", "biome")

    def work(name):
        ctx.fresh(name)
        foreign.js_project(ctx.dir / name, 100)
        (ctx.dir / name / "wrong.js").write_text("var   a = 1;  if (a == 2) { debugger }\n")
        return ctx.dir / name

    def said(result):
        return re.sub(rb"in \d+\S*\.", b"in N.", result.out), re.sub(rb"in \d+\S*\.", b"in N.", result.err), result.code
    first, second = work("first"), work("second")
    for words in (["lint", "--max-diagnostics=3", "wrong.js"], ["format", "--write", "."]):
        bare, scoped = ctx.run([program, *words], cwd=first), ctx.scoped([program, *words], ["--lossless"], cwd=second)
        equal(said(scoped), said(bare), "status and output")
        complete(scoped, hidden=3)  # fcntl after socketpair on old kernels, chdir in a posix_spawn
    check(b"Formatted 102 files" in bare.out, "what it has done", bare.describe())
    wrote = {b["data"]["file"] for b in scoped.session.events("fs", "fs.close") if b["data"]["file_write_bytes"]}
    changed = {str(second / p.relative_to(first)) for p in first.rglob("*.js")}
    check(changed <= wrote, f"{len(changed - wrote)} of its files are missing", *sorted(changed - wrote))
    for p in first.rglob("*.js"):
        equal((second / p.relative_to(first)).read_bytes(), p.read_bytes(), str(p))
