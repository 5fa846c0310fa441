# SPDX-License-Identifier: Apache-2.0
"""The image that `make image` writes: what is in it, that it is the same each time, and what is done with it."""

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import zipfile

from image import Image, blob, image_of, make, opened
from scopetest import MACHINE, TOP, Session, check, equal, test


@test("image/reproducible")
def reproducible(ctx):
    """Times, order, owners and compression are fixed, whoever makes it; what differs shows."""
    program = ctx.compile("namespaces/inner.c", "static")
    one, said = make(ctx, "one", "--scope", program, SOURCE_DATE_EPOCH=1000000000)
    copy = ctx.dir / "copy"
    copy.write_bytes(program.read_bytes())
    copy.chmod(0o700)
    again, _ = make(ctx, "again", "--scope", copy, SOURCE_DATE_EPOCH=1000000000, TZ="Asia/Kolkata", LC_ALL="C.UTF-8")
    equal(one.read_bytes() == again.read_bytes(), True, "the same bytes")
    check(opened(one)[2] in said.splitlines(), "the digest is told", said)
    later, _ = make(ctx, "later", "--scope", program, "--name", "registry.example.org:5000/tools/scope", SOURCE_DATE_EPOCH=1000000001)
    config, _, digest, tags = opened(later)
    check(digest != opened(one)[2], "another time is another image")
    equal(config["created"], "2001-09-09T01:46:41Z", "its time")
    check(tags[0].startswith("registry.example.org:5000/tools/scope:2"), "its name", tags)
    result = ctx.run([TOP / "dev/image", "--scope", ctx.dir / "none"])
    check(result.code == 1 and b"none is missing: run make" in result.err, result.describe())


@test("image/architectures")
def architectures(ctx):
    """Of several architectures: the name stands for an index, in which each node finds its own image. What is in it for
    another machine is taken as it is given: what strips it is a copy here."""
    top, tools = ctx.fresh("top"), ctx.fresh("tools")
    other = {"x86_64": "aarch64", "aarch64": "x86_64"}[MACHINE]
    for name in ("LICENSE", "meson.build", "dev/image"):
        (top / name).parent.mkdir(exist_ok=True)
        shutil.copy(TOP / name, top / name)
    program = ctx.compile("namespaces/inner.c", "static")
    for arch in (MACHINE, other):
        for directory, name in (("bin", "scope"), ("lib", "libscope.so")):
            (top / directory / "linux" / arch).mkdir(parents=True)
            shutil.copy(program, top / directory / "linux" / arch / name)
    (top / "bin/linux" / other / "scope").write_text("of another machine")
    (tools / f"{other}-linux-gnu-objcopy").write_text('#!/bin/sh\ncp "$2" "$3"\n')
    (tools / f"{other}-linux-gnu-objcopy").chmod(0o755)
    env = ctx.env(SOURCE_DATE_EPOCH=1000000000, PATH=f"{tools}:{os.environ['PATH']}")

    def made(arches, *more):
        return ctx.run([top / "dev/image", "--arch", arches, *more], env=env)
    result = made(f"{MACHINE},{other}")
    equal(result.code, 0, result.describe())
    path = top / "build/image/scope.tar"
    with tarfile.open(path) as archive:
        entry, = json.loads(archive.extractfile("index.json").read())["manifests"]
        equal(entry["mediaType"], "application/vnd.oci.image.index.v1+json", "what the name stands for")
        check(entry["digest"] in result.out.decode().splitlines(), "the digest is told", result.describe())
        found = json.loads(blob(archive, entry))["manifests"]
        platforms, scopes = [], []
        for manifest in found:
            config, data = image_of(archive, manifest)
            equal(config["architecture"], manifest["platform"]["architecture"], "architecture")
            platforms.append((config["os"], config["architecture"]))
            with tarfile.open(fileobj=io.BytesIO(data)) as layer:
                scopes.append(layer.extractfile("usr/local/bin/scope").read() == b"of another machine")
        equal(platforms, [("linux", {"x86_64": "amd64", "aarch64": "arm64"}[a]) for a in (MACHINE, other)], "platforms")
        equal(scopes, [False, True], "whose scope is the other machine's")
        older, = json.loads(archive.extractfile("manifest.json").read())
        equal(older["Config"].rpartition("/")[2], json.loads(blob(archive, found[0]))["config"]["digest"].partition(":")[2],
              "what docker without an image store loads: the first one")
    # Each is the image that is made of it alone.
    equal(made(other).code, 0, "status")
    equal(opened(top / "build/image" / f"scope-{other}.tar")[2], found[1]["digest"], "digest of the other one alone")
    for arches, more, word in ((f"{MACHINE},mips", (), b"no image for mips"), (f"{MACHINE},{other}", ("--scope", program), b"one architecture")):
        result = made(arches, *more)
        check(result.code == 1 and word in result.err, result.describe())


@test("image/builder")
def builder(ctx):
    """make build: the engine is asked for an image of the Containerfile, and to run the command in it on the sources. There is
    no engine in a test: one that notes what it is told stands for it."""
    engine, notes = ctx.dir / "podman", ctx.dir / "notes"
    engine.write_text(f"""#!/bin/sh
[ "$1" = --version ] && echo "docker version 1" && exit
[ "$1" = build ] && eval 'context=${{'"$#"'}}' && ls "$context" >>{notes}
printf '%s\\n' "$*" >>{notes}
""")
    engine.chmod(0o755)
    ctx.run([TOP / "dev/builder", "--arch", "aarch64", "make image"], env=ctx.env(ENGINE=engine, BASE="debian:12"), check_code=0)
    copied, build, run = notes.read_text().splitlines()
    equal(copied, "install_build_tools.sh", "what the Containerfile can copy")
    for words, line in (("--platform linux/arm64", build), ("--build-arg BASE=debian:12", build), ("-f dev/Containerfile", build),
                        ("--platform linux/arm64", run), (f"--user {os.getuid()}:{os.getgid()}", run), (f"-v {TOP}:/src", run),
                        ("sh -c make image", run)):
        check(words in line, f"'{words}' is missing", line)
    containerfile = (TOP / "dev/Containerfile").read_text()
    check("COPY install_build_tools.sh" in containerfile and "install_build_tools.sh --build" in containerfile, containerfile)
    result = ctx.run([TOP / "dev/builder", "--arch", "mips"], env=ctx.env(ENGINE=engine))
    check(result.code == 1 and b"no builder for 'mips'" in result.err, result.describe())


@test("image/contents")
def contents(ctx):
    image = Image(ctx)
    check(image.size < 20e6 and image.unpacked < 20e6, f"{image.size} bytes, {image.unpacked} unpacked")
    equal([m.name for m in image.members if m.isfile()],
          ["etc/group", "etc/passwd", "etc/ssl/certs/ca-certificates.crt", "usr/local/bin/scope", "usr/local/lib/libscope.so",
           "usr/share/doc/scope/LICENSE"], "files")
    equal({(m.uid, m.gid, m.mode & 0o022) for m in image.members if m.name != "tmp"}, {(0, 0, 0)}, "owners, and who may write")
    equal((image.config["architecture"], image.config["os"]), ({"x86_64": "amd64", "aarch64": "arm64"}[MACHINE], "linux"), "platform")
    labels = image.config["config"]["Labels"]
    equal(labels["org.opencontainers.image.licenses"], "Apache-2.0", "licence")
    equal(labels["org.opencontainers.image.version"].encode() + b"\n", ctx.run([ctx.scope, "version", "--summary"]).out, "version")
    check("Healthcheck" not in image.config["config"] and "User" not in image.config["config"], image.config)


@test("image/arm64")
def arm64(ctx):
    """An image for another architecture, and a layer for Lambda: of a program that stands for scope."""
    program, library = ctx.dir / "scope", ctx.dir / "libscope.so"
    (ctx.dir / "scope.c").write_text("int main(void) { return 0; }\n")
    compiler = ctx.tool("gcc") if MACHINE == "aarch64" else ctx.tool("aarch64-linux-gnu-gcc-12", "aarch64-linux-gnu-gcc")
    ctx.run([compiler, "-g", "-ffreestanding", "-nostdlib", "-static", "-Wl,-e,main", ctx.dir / "scope.c", "-o", program], check_code=0)
    library.write_bytes(b"a library")
    options = ("--arch", "aarch64", "--scope", program, "--library", library)
    path, _ = make(ctx, "arm64", *options)
    config, data, _, _ = opened(path)
    platform = {"architecture": "arm64", "variant": "v8", "os": "linux"}
    equal({name: config.get(name) for name in platform}, platform, "platform")
    with tarfile.open(path) as archive:
        entry, = json.loads(archive.extractfile("index.json").read())["manifests"]
    equal(entry["platform"], platform, "platform in the index")
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        inside = {m.name: m.size for m in archive.getmembers() if m.isfile()}
    check(0 < inside["usr/local/bin/scope"] < program.stat().st_size, "the program isn't stripped", inside)
    equal(inside["usr/local/lib/libscope.so"], 9, "size of the library")
    ctx.run([TOP / "dev/lambda-layer", *options, "--output", ctx.dir / "layer.zip"], check_code=0)
    with zipfile.ZipFile(ctx.dir / "layer.zip") as archive:
        equal((archive.read("appscope")[18:20], archive.read("lib/libscope.so")), (b"\xb7\0", b"a library"), "e_machine, and the library")
    if MACHINE != "aarch64":
        result = ctx.run([TOP / "dev/lambda-layer", *options, "--runtime", "/"])
        check(result.code == 1 and b"make it on a machine with aarch64" in result.err, result.describe())


@test("image/commands")
def commands(ctx):
    """With or without the word scope, at the prompt or as arguments, as root or as anybody."""
    image = Image(ctx)
    version = ctx.run([ctx.scope, "version", "--summary"]).out
    for words in (["version", "--summary"], ["scope", "version", "--summary"]):
        result = image.box(*words).run()
        equal((result.code, result.out, result.err), (0, version, b""), " ".join(words))
        result = image.box(*words).user(4711).no_new_privileges().read_only().run()
        equal((result.code, result.out, result.err), (0, version, b""), " ".join(words) + " as another user")
    script = b"scope version --summary\n version '--summary'  # again\n\nscope run -- /usr/local/bin/scope version --su\"mm\"ary\nnothing\n"
    result = image.box().tmpfs("/root").run(stdin=script)
    equal((result.code, result.out), (127, version * 3), "the prompt")
    check(b"'nothing' is neither a command nor a program" in result.err and result.err.count(b"\n") == 2, result.describe())
    result = image.box().run(stdin=b"'open\nexit\nversion\n")
    check(result.code == 2 and b"a quote isn't closed" in result.err and not result.out, result.describe())
    check(image.box().run().out.startswith(b"scope shows what"), "started without a terminal it doesn't help")


def targets(ctx):
    """A program on the host, and what it says to whoever attaches to it."""
    ctx.home.mkdir()
    file = ctx.dir / "greeting"
    file.write_text("from inside\n")
    program = ctx.compile("namespaces/steady.c")
    return ctx.start([program, file])


def attached(ctx, process, box, command):
    box.config["process"]["env"].append(f"SCOPE_HOME={ctx.home}")
    result = box.run(stdin=command.encode() + b"\n")
    check(result.code == 0 and b"Attaching to pid" in result.err, result.describe())
    session = Session(ctx, ctx.wait_for(ctx.sessions, "a session on the host")[0])
    ctx.wait_for(lambda: len(session.events("fs", "fs.open")) > 10, "its file", 10)
    ctx.run([ctx.scope, "detach", process.pid], check_code=0)
    session.wait_end()


@test("image/host")
def host(ctx):
    """docker run -it --pid=host --privileged -v /:/hostfs:ro IMAGE, then scope attach --rootdir /hostfs PID: the session is
    the host's, and goes on when the container has ended."""
    image, process = Image(ctx), targets(ctx)
    box = image.box().privileged().host("pid").volume("/", "/hostfs", "rbind", "ro")
    attached(ctx, process, box, f"scope attach --rootdir /hostfs {process.pid}")


class Manager:
    """What systemd does for systemd-run: it runs on the host what it is told to over a socket, as the script that is
    called so here tells it. It stands for one, as there is none in a test: the options are for systemd-run(1) to know."""

    def __init__(self, ctx):
        self.bin, self.asked = ctx.fresh("fake"), []
        at = self.bin / "socket"
        script = self.bin / "systemd-run"
        script.write_text(f"""#!{sys.executable}
import json, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect({str(at)!r})
s.sendall(json.dumps(sys.argv[1:]).encode() + b"\\n")
code, out, err = json.loads(s.makefile().readline())
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(code)
""")
        script.chmod(0o755)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(at))
        self.listener.listen()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            connection, _ = self.listener.accept()
            with connection:
                words = json.loads(connection.makefile().readline())
                self.asked.append(words)
                env = dict(w.removeprefix("--setenv=").split("=", 1) for w in words if w.startswith("--setenv="))
                command = words[next(i for i, w in enumerate(words) if not w.startswith("--")):]
                done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
                connection.sendall(json.dumps([done.returncode, done.stdout, done.stderr]).encode() + b"\n")


@test("image/host_apart")
def host_apart(ctx):
    """Without --pid=host the host's systemd starts the command; where there is none scope says what is missing."""
    image, process = Image(ctx), targets(ctx)
    command = f"scope attach --rootdir /hostfs -v 5 {process.pid}"

    def box(path):
        box = image.box().privileged().volume("/", "/hostfs", "rbind", "ro").without_env("PATH")
        box.config["process"]["env"].append(f"PATH=/usr/local/bin:{path}")
        return box
    result = box("/nowhere").run(stdin=command.encode())
    check(result.code == 1 and b"docker run --pid=host" in result.err, result.describe())
    manager = Manager(ctx)
    attached(ctx, process, box(manager.bin), command)
    asked, = manager.asked
    equal(asked[-4:], ["attach", "--verbosity=5", "--", str(process.pid)], "command")
    check("--property=KillMode=process" in asked and "--wait" in asked, asked)


@test("image/host_by_pid")
def host_by_pid(ctx):
    """With --pid=host alone, the host's root directory is that of its process 1, and of most others."""
    image, process = Image(ctx), targets(ctx)
    box = image.box().privileged().host("pid")
    attached(ctx, process, box, f"attach --rootdir /proc/{process.pid}/root {process.pid}")
