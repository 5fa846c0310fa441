# SPDX-License-Identifier: Apache-2.0
"""Programs in namespaces and root directories that were made after the session began.

They need root, or user namespaces for everybody; where there is neither they fail and say so. What they mount is in
mount namespaces of their own, which end with the program.
"""

import json
import os
import shutil

from roots import both, followed, make_root
from scopetest import add_test, check, equal, test

PIVOT = """set -e
mount --make-rprivate /
mount --bind "$1" "$1"
cd "$1"
shift
pivot_root . old
cd /
exec "$@"
"""
READ_ONLY = PIVOT.replace("pivot_root", "mount -o remount,bind,ro .\npivot_root")
# A root that has nothing left of the old one, as a container's.
DETACHED = PIVOT.replace('exec "$@"', 'exec /bin/busybox sh -c \'/bin/busybox umount -l /old && exec "$@"\' sh "$@"')


def allowed(ctx, *flags):
    """Fails where such namespaces can't be made."""
    how = ["unshare", *flags]
    result = ctx.run([ctx.tool("unshare"), *flags, "true"])
    check(result.code == 0, f"{' '.join(how)}: these tests need root or user namespaces for everybody "
          "(kernel.unprivileged_userns_clone, user.max_user_namespaces, AppArmor)", result.describe())


def unshare(ctx, *flags):
    if os.geteuid() and not any("U" in f for f in flags):
        flags = ("-Ur", *flags)
    allowed(ctx, *flags)
    return [ctx.tool("unshare"), *flags]


VARIANTS = ("glibc-O2", "musl", "static", "musl-static")
DEPTH = 3  # execs of its own, by fork and by vfork, with an environment that has nothing of ours


def shared_root(flags):
    def run(ctx, variant):
        program = ctx.compile("namespaces/inner.c", variant)
        file = ctx.dir / "greeting"
        file.write_text("from inside\n")
        result = both(ctx, [*unshare(ctx, *flags), program, file, DEPTH])
        followed(result, str(program), str(file), DEPTH + 1)
    return run


def own_root(flags, script, busybox=True):
    def run(ctx, variant):
        root = make_root(ctx, variant, busybox)
        result = both(ctx, [*unshare(ctx, *flags), ctx.tool("sh"), "-c", script, "sh", root, "/inner", "/greeting", DEPTH])
        followed(result, "/inner", "/greeting", DEPTH + 1)
    return run


def changed_root(ctx, variant):
    root = make_root(ctx, variant)
    argv = [ctx.tool("chroot"), root, "/inner", "/greeting", DEPTH]
    followed(both(ctx, argv if os.geteuid() == 0 else [*unshare(ctx, "-Ur"), *argv]), "/inner", "/greeting", DEPTH + 1)


for _variant in VARIANTS:
    for _name, _function in (
            ("net", shared_root(["-n"])),
            ("pid", shared_root(["-pf", "--mount-proc"])),
            ("user", shared_root(["-Ur"])),
            ("user-net", shared_root(["-Urn"])),
            ("chroot", changed_root),
            ("pivot", own_root(["-m"], PIVOT)),
            ("pivot-net", own_root(["-mn"], PIVOT)),
            ("all", own_root(["-Urnmpfiu"], PIVOT)),
            ("read-only", own_root(["-Urnmpf"], READ_ONLY, busybox=False)),
            ("detached", own_root(["-Urnmpf"], DETACHED))):
        add_test("namespaces", f"{_name}/{_variant}", lambda ctx, f=_function, v=_variant: f(ctx, v))


@test()
def test_nested(ctx):
    """A namespace in a namespace, each with its own network, users and pids."""
    program = ctx.compile("namespaces/inner.c", "glibc-O2")
    file = ctx.dir / "greeting"
    file.write_text("from inside\n")
    once = unshare(ctx, "-Urnpf")
    starts = followed(both(ctx, [*once, *once, program, file, 0]), str(program), str(file), 1)
    equal(starts[0]["pid"], 1, "pid inside")


@test()
def test_busybox_in_root(ctx):
    """A root directory with nothing but a static busybox that is its own shell."""
    root = make_root(ctx, "static")
    script = "/bin/busybox cat /greeting; /bin/busybox cat /greeting | /bin/busybox wc -c; /inner /greeting 0"
    result = both(ctx, [*unshare(ctx, "-Urnmpf"), ctx.tool("sh"), "-c", PIVOT, "sh", root, "/bin/busybox", "sh", "-c", script])
    followed(result, "/inner", "/greeting", 1)
    opened = [e for e in result.session.events(source="fs.open") if e["proc"] == "busybox" and e["data"]["file"] == "/greeting"]
    equal(len(opened), 2, "opened by busybox")


@test()
def test_both_pids(ctx):
    """Events of a process in a pid namespace tell its number inside and outside."""
    program = ctx.compile("namespaces/inner.c", "glibc-O2")
    file = ctx.dir / "greeting"
    file.write_text("from inside\n")
    result = both(ctx, [*unshare(ctx, "-pf", "--mount-proc"), program, file, 1])
    starts = followed(result, str(program), str(file), 2)
    equal([s["pid"] for s in starts], [1, 2], "pids inside")
    for start in starts:
        check(start.get("hostPid", 0) > 2, f"no hostPid: {start}")
        equal(start["data"].get("hostPid"), start["hostPid"], "hostPid of proc.start")
    outer = [e for e in result.session.events(source="proc.start") if e["data"]["start"] == "exec"][0]
    check("hostPid" not in outer, f"hostPid where there is one number only: {outer}")
    forks = [e["pid"] for e in result.session.events(source="proc.start") if e["data"]["start"] == "fork"]
    equal(len(forks), 2, f"forked processes told: {forks}")


@test()
def test_other_user(ctx):
    """A user without rights: user, network, mount and pid namespaces of its own."""
    check(os.geteuid() == 0, "needs root, to become another user")
    root = make_root(ctx, "glibc-O2")
    ctx.home.mkdir(exist_ok=True)
    os.chown(ctx.home, 65000, 65000)
    os.chmod(ctx.options.work, 0o755)
    become = [ctx.tool("setpriv"), "--reuid", "65000", "--regid", "65000", "--clear-groups"]
    inner = [ctx.tool("unshare"), "-Urnmpf", ctx.tool("sh"), "-c", PIVOT, "sh", root, "/inner", "/greeting", "1"]
    bare = ctx.run([*become, *inner])
    equal(bare.code, 0, "status of the bare run: " + bare.describe())
    scope = ctx.dir / "scope"
    shutil.copy(ctx.scope, scope)
    result = ctx.run([*become, scope, "run", "--", *inner])
    equal((result.code, result.out, result.err), (bare.code, bare.out, bare.err), "status and output")
    result.session = ctx.session()
    followed(result, "/inner", "/greeting", 2)


@test()
def test_user_of_root(ctx):
    """A user namespace in which the collector's user has no number, so that nothing can be seen to be root's."""
    check(os.geteuid() == 0, "needs root, to become another user")
    program = ctx.compile("namespaces/inner.c", "glibc-O2")
    file = ctx.dir / "greeting"
    file.write_text("from inside\n")
    os.chmod(ctx.options.work, 0o755)
    for flags in ("-Ur", "-Urn"):
        shutil.rmtree(ctx.home, ignore_errors=True)
        result = both(ctx, [ctx.tool("setpriv"), "--reuid", "65000", "--regid", "65000", "--clear-groups",
                            ctx.tool("unshare"), flags, program, file, 1])
        followed(result, str(program), str(file), 2)


@test()
def test_server_and_client(ctx):
    """A server inside a network namespace, and a client that comes later by its own way, like `ip netns exec`."""
    server = ("import socket,sys\ns=socket.create_server(('127.0.0.1',5000))\nprint('ready',flush=True)\n"
              "c,_=s.accept()\nc.sendall(c.recv(100).upper())\nc.close()\n")
    client = ("import socket\nc=socket.create_connection(('127.0.0.1',5000))\nc.sendall(b'hello')\nprint(c.recv(100))\n")
    script = (f"{ctx.tool('ip')} link set lo up; (\"$1\" -c \"$2\"; echo served) > \"$4\" & "
              "until grep -qs ready \"$4\"; do sleep 0.05; done; "
              f"{ctx.tool('nsenter')} --net=/proc/$$/ns/net \"$1\" -c \"$3\"; wait; cat \"$4\"")
    python = ctx.tool("python3")
    result = both(ctx, [*unshare(ctx, "-n"), ctx.tool("sh"), "-c", script, "sh", python, server, client, ctx.dir / "out"])
    opened = [e["data"] for e in result.session.events(source="net.open") if "python" in e["proc"]]
    ports = [(d.get("net_host_port"), d.get("net_peer_port")) for d in opened]
    check(any(p[0] == 5000 for p in ports) and any(p[1] == 5000 for p in ports), f"connections: {opened}", result.session.log())
    check("not observed" not in result.session.log(), result.session.log())
    check(not any(result.session.lost().values()), f"lost: {result.session.lost()}")


@test()
def test_back_again(ctx):
    """A program that comes back into the first network namespace."""
    program = ctx.compile("namespaces/inner.c", "glibc-O2")
    file = ctx.dir / "greeting"
    file.write_text("from inside\n")
    back = [ctx.tool("nsenter"), f"--net=/proc/{os.getpid()}/ns/net"]
    check(os.geteuid() == 0, "needs root, to come back")
    result = both(ctx, [*unshare(ctx, "-n"), *back, program, file, 1])
    followed(result, str(program), str(file), 2)


@test()
def test_collector_gone(ctx):
    """Nobody comes for the connection: everything goes on as bare, after bounded waits."""
    root = make_root(ctx, "glibc-O2")
    script = ("kill -9 $(sed -n 's/.*\"collector\":\\([0-9]*\\).*/\\1/p' \"$SCOPE_HOME\"/history/*/session.json); shift 0; "
              + PIVOT.replace("set -e\n", ""))
    result = ctx.run(ctx.scope_argv([*unshare(ctx, "-mn"), ctx.tool("sh"), "-c", script, "sh", root, "/inner", "/greeting", 1]))
    equal((result.code, result.out.count(b"hello inside")), (0, 2), result.describe())


@test("rootdir")
def rootdir(ctx):
    """From a container that shares the host's pid namespace: attach, ps, inspect, detach on the host."""
    host, script = ctx.dir / "hostfs", ctx.dir / "container"
    host.mkdir()
    ctx.home.mkdir(exist_ok=True)
    sleeper = ctx.start(["sleep", "60"])
    script.write_text(f"""set -e
mount --rbind / {host}
mount -t tmpfs none {ctx.home}
scope=$1
"$scope" attach -R {host} {sleeper.pid}
"$scope" ps -R {host} | grep -q ' {sleeper.pid} '
"$scope" inspect -R {host} {sleeper.pid} >/dev/null
echo 'metric: {{format: {{verbosity: 7}}}}' | "$scope" update -R {host} {sleeper.pid}
ls {ctx.home}
""")
    result = ctx.run(["unshare", "--mount", "--net", "sh", script, ctx.scope], check_code=0)
    equal(result.out, b"", "nothing is stored inside")
    got = json.loads(ctx.tool_run("inspect", sleeper.pid).out)
    equal(got["cfg"]["current"]["metric"]["format"]["verbosity"], 7, "updated, and seen from the host")
    ctx.run(["unshare", "--mount", "sh", "-c", f'mount --rbind / {host}; exec {ctx.scope} detach -R {host} {sleeper.pid}'], check_code=0)
    apart = ctx.run(["unshare", "--mount", "--pid", "--fork", "sh", "-c",
                     f'mount --rbind / {host}; mount -t proc proc /proc; exec {ctx.scope} attach -R {host} {sleeper.pid}'])
    equal(apart.code, 1)
    check(b"--pid=host" in apart.err, "remedy", apart.describe())
    check(b"no process with root" in ctx.run([ctx.scope, "ps", "-R", ctx.dir], check_code=1).err, "no such host")
