# SPDX-License-Identifier: Apache-2.0
"""scope service: what is put into a host's files and taken out again, on directory trees; services under a real systemd
(systemd_box.py) in their sandboxes; scripts of /etc/init.d and OpenRC."""

import json
import os
import re
import shutil
import stat

import users
from scopetest import TOP, Failure, check, equal, test
from systemd_box import Box

STORE = "var/lib/appscope-service"


# --- directory trees ---

class Tree:
    """A root directory without anything but files and scope."""

    def __init__(self, ctx, files):
        check(os.geteuid() == 0, "needs root, as the command does")
        self.ctx, self.root = ctx, ctx.fresh(f"tree-{os.urandom(4).hex()}")
        for name in ("proc", "dev", "usr/bin"):
            (self.root / name).mkdir(parents=True)
        os.link(ctx.scope, self.root / "usr/bin/scope")
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                path.mkdir()
            elif isinstance(text, tuple):
                path.symlink_to(text[0])
            else:
                path.write_bytes(text.encode())

    def service(self, *words, stdin=b"", code=0):
        # In mount and pid namespaces of its own, with /proc for the path of the tool.
        argv = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"', self.root,
                "/usr/bin/scope", "service", *words]
        return self.ctx.run(argv, stdin=stdin, check_code=code)

    def state(self):
        found = {}
        for directory, below, files in os.walk(self.root):
            for name in below + files:
                path = f"{directory}/{name}"
                st = os.lstat(path)
                text = os.readlink(path) if stat.S_ISLNK(st.st_mode) else \
                    open(path, "rb").read() if stat.S_ISREG(st.st_mode) else b""  # pylint: disable=consider-using-with
                found[path] = (stat.filemode(st.st_mode), st.st_uid, st.st_gid, text)
        return found

    def text(self, name):
        return (self.root / name).read_text()


UNITS = {
    "run/systemd/system": None,
    "usr/lib/systemd/system/redis-server.service": "[Unit]\nDescription=x\n[Service]\nUser=redis\nExecStart=/usr/bin/redis\n",
    "etc/systemd/system/redis.service": ("/usr/lib/systemd/system/redis-server.service",),
    "usr/lib/systemd/system/getty@.service": "[Service]\nExecStart=-/sbin/agetty\n",
    "usr/lib/systemd/system/early.service": "[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/x\n",
    "etc/systemd/system/masked.service": ("/dev/null",),
    "usr/lib/systemd/user/mine.service": "[Service]\nExecStart=/x\n",
    "usr/lib/systemd/system/boxed.service": "[Service]\nExecStart=/x\nSystemCallFilter=@basic-io\n"
                                            "RestrictAddressFamilies=AF_INET\nNoExecPaths=/\nRootDirectory=/srv\n"
                                            "Environment=A=b \"LD_PRELOAD=/usr/lib/admins.so\"\n",
    "usr/lib/systemd/system/hidden.service": "[Service]\nExecStart=/x\nInaccessiblePaths=-/run\n",
    "usr/lib/systemd/system/reset.service": "[Service]\nExecStart=/x\nSystemCallFilter=@basic-io\n",
    "etc/systemd/system/reset.service.d/override.conf": "[Service]\nSystemCallFilter=\n",
    "etc/passwd": "root:x:0:0::/:/bin/sh\nredis:x:103:105::/:/bin/sh\nother:x:104:106::/:/bin/sh\n",
    "etc/group": "root:x:0:\n",
}


@test("service_files_systemd")
def files_systemd(ctx):
    """A drop-in and two units come, an update changes them, undoing leaves the tree as it was to the byte."""
    tree = Tree(ctx, UNITS)
    before = tree.state()
    asked = tree.service("redis", stdin=b"n\n", code=1)
    check(b"Ready to proceed? [y/n]: " in asked.out and b"create /etc/systemd/system/redis-server.service.d/" in asked.out,
          "what will be done isn't told", asked.describe())
    equal(tree.state(), before, "state after a refusal")
    tree.service("redis", stdin=b"y\n")
    drop_in = "etc/systemd/system/redis-server.service.d/zz-appscope.conf"
    check("EnvironmentFile=-/run/appscope/environment/redis-server/service\n" in tree.text(drop_in), tree.text(drop_in))
    check("SystemCallFilter" not in tree.text(drop_in), "a filter where there was none", tree.text(drop_in))
    first = tree.state()
    check(b"set up already" in tree.service("redis-server.service", "--force").out, "a second time isn't told")
    equal(tree.state(), first, "state after the same again")
    tree.service("redis", "--force", "-e", "tcp://collector.example:9109", "-a", "s3cret", "-c", "tcp://x:1", code=2)
    tree.service("redis", "--force", "-c", "tls://collector.example:10090", "-a", "s$cret")
    yml = tree.root / "etc/scope/redis-server/scope.yml"
    check("collector.example" in yml.read_text() and "s\\\\$cret" in yml.read_text(), yml.read_text())
    equal(stat.S_IMODE(yml.stat().st_mode), 0o600, "mode of a file with a token")
    tree.service("redis", "--force", "-e", "udp://other.example:1", "-u", "redis")
    check("other.example" in yml.read_text() and "collector.example" not in yml.read_text(), "it isn't updated")
    check("--user redis\n" in tree.text("etc/systemd/system/appscope-redis-server.service"), "its user")
    equal(tree.service("--list").out, b"redis-server\n", "list")
    tree.service("--undo", "redis", "--force")
    equal(tree.state(), before, "state after undoing")
    check(b"isn't set up" in tree.service("--undo", "redis", "--force", code=1).err, "undone twice")


@test("service_files_kept")
def files_kept(ctx):
    """What is others' stays: drop-ins, an edited scope.yml, the directory; undoing works when the unit is gone."""
    tree = Tree(ctx, {**UNITS, "etc/systemd/system/redis-server.service.d/override.conf": "[Service]\nNice=1\n",
                      "etc/scope/redis-server/note": "mine\n"})
    before = tree.state()
    tree.service("redis", "--force", "-e", "udp://a.example:1")
    tree.service("--undo", "redis", "--force")
    equal(tree.state(), before)
    tree.service("redis", "--force", "-e", "udp://a.example:1")
    yml = tree.root / "etc/scope/redis-server/scope.yml"
    yml.write_text(yml.read_text() + "tags:\n  team: a\n")
    os.unlink(tree.root / "usr/lib/systemd/system/redis-server.service")
    result = tree.service("--undo", "redis-server", "--force")
    check(b"stays: it was edited" in result.err and yml.exists(), "an edited file", result.describe())
    check(not (tree.root / "etc/systemd/system/redis-server.service.d/zz-appscope.conf").exists(), "the drop-in is left")
    # A link where a file of ours belongs is nobody's business but its maker's.
    tree = Tree(ctx, UNITS)
    os.mkdir(tree.root / "etc/systemd/system/redis-server.service.d")
    (tree.root / "etc/systemd/system/redis-server.service.d/zz-appscope.conf").symlink_to("/etc/passwd")
    passwd = tree.text("etc/passwd")
    tree.service("redis", "--force", code=1)
    equal(tree.text("etc/passwd"), passwd, "what a link leads to")


@test("service_sandbox_lines")
def sandbox_lines(ctx):
    """Only lists that a unit has are added to; each is told before."""
    tree = Tree(ctx, UNITS)
    result = tree.service("boxed", "--force")
    text = tree.text("etc/systemd/system/boxed.service.d/zz-appscope.conf")
    for line in ("SystemCallFilter=.*memfd_create", "RestrictAddressFamilies=AF_UNIX", "ExecPaths=/usr/lib/appscope",
                 "BindReadOnlyPaths=-/usr/lib/appscope -/run/appscope/service/boxed"):
        check(re.search(f"^{line}", text, re.M), f"no {line}", text)
        check(re.search(line.split("=", maxsplit=1)[0].encode() + b"=", result.err), f"{line} isn't told", result.describe())
    tree.service("reset", "--force")
    check("SystemCallFilter" not in tree.text("etc/systemd/system/reset.service.d/zz-appscope.conf"),
          "a filter that an override has taken away comes back")
    check(b"hides" in tree.service("hidden", "--force", code=1).err, "what can't be reached isn't told")


@test("service_names")
def names(ctx):
    """Names that are none, or of what can't be set up: a reason, and nothing changed."""
    tree = Tree(ctx, UNITS)
    before = tree.state()
    for name, reason in {"redi": "did you mean redis?", "../redis": "not a file", "a b": "letters, digits", "a\x1b[2J": "letters",
                         "": "no name", ".": "dot", "..": "dot", "x" * 300: "no name", "redis.socket": "kind (.socket)",
                         "masked": "is masked", "mine": "systemctl --user", "early": "early boot", "@": "no name",
                         "a\nb": "letters", "appscope-x": "no service"}.items():
        result = tree.service("--force", "--", name, code=1)
        check(reason in result.err.decode() and "\x1b" not in result.err.decode(), f"{name!r}: {reason}", result.describe())
        tree.service("--undo", "--force", "--", name, code=1)
    check(b"there is no user nobody-here" in tree.service("redis", "--force", "-u", "nobody-here", code=1).err, "user")
    check(b"no right to observe" in tree.service("redis", "--force", "-u", "other", code=1).err, "another user")
    tree.service(code=2)
    tree.service("--list", "redis", code=2)
    equal(tree.state(), before)
    for name in ("getty@", "getty@tty1", "getty@tty1.service"):
        tree.service(name, "--force")
    equal(sorted(tree.service("--list").out.split()), [b"getty@", b"getty@tty1"])
    check("appscope/service/getty:40tty1/" in tree.text("etc/systemd/system/appscope-getty:40tty1.socket"), "an instance")
    tree.service("--undo", "getty@tty1", "--force")
    tree.service("--undo", "getty@", "--force")
    equal(tree.state(), before)
    with users.make(ctx, "stranger") as stranger:
        result = ctx.run(stranger.command(ctx.scope, "service", "redis"), env=stranger.env())
        check(result.code == 1 and b"must be run as root" in result.err, result.describe())


SCRIPT = """#!/bin/sh
[ -r /etc/default/web ] && . /etc/default/web
case "$1" in
start) /srv/steady /etc/hostname >/dev/null 2>&1 </dev/null & echo $! >/run/web.pid ;;
stop) kill $(cat /run/web.pid) ;;
status) kill -0 $(cat /run/web.pid) ;;
esac
"""


@test("service_files_scripts")
def files_scripts(ctx):
    """/etc/init.d and OpenRC: a block at the end of the settings, whatever their end is like; the file's mode stays."""
    for kind, name in (("sysv", "etc/default/web"), ("sysv", "etc/sysconfig/web"), ("openrc", "etc/conf.d/web")):
        for text in (None, "", "A=1\n", "A=1", "# only\n\n\nLD_PRELOAD=/x\n") if name == "etc/default/web" else (None, "A=1"):
            tree = Tree(ctx, {"etc/init.d/web": SCRIPT.replace("etc/default", "etc/sysconfig") if "sysconfig" in name else SCRIPT,
                              "etc/default" if name.startswith("etc/sysc") else os.path.dirname(name): None,
                              **({"etc/sysconfig": None} if "sysconfig" in name else {}),
                              **({"run/openrc": None} if kind == "openrc" else {}),
                              "etc/passwd": "root:x:0:0::/:/bin/sh\n"})
            if text is not None:
                (tree.root / name).write_text(text)
                os.chmod(tree.root / name, 0o640)
            before = tree.state()
            result = tree.service("web", "--force")
            equal(result.err, b"", "complaints")
            now = tree.text(name)
            check(now.startswith(text or "") and "/usr/bin/scope collector --service web --start" in now, now)
            ctx.run(["sh", "-n", tree.root / name], check_code=0)
            equal(tree.service("--list").out, b"web\n")
            once = tree.state()
            tree.service("web", "--force")
            equal(tree.state(), once, "the same again")
            tree.service("web", "--force", "-u", "root", "-e", "udp://x.example:1")
            equal(tree.text(name).count(">>> appscope"), 1, "blocks")
            tree.service("--undo", "web", "--force")
            equal(tree.state(), before, f"{name} {text!r}")
    tree = Tree(ctx, {"etc/init.d/web": "#!/bin/sh\n", "etc/default": None})
    check(b"doesn't seem to read /etc/default/web" in tree.service("web", "--force").err, "a script that reads nothing")
    check(b"did you mean web" in tree.service("wed", "--force", code=1).err, "a name that is near")
    tree.service("../init.d/web", "--force", code=1)


# --- under systemd ---

def reader(box, *words, service="steady", code=0):
    return box.run(["scope", *words], env=box.env(SCOPE_HOME=f"/{STORE}/{service}"), check_code=code)


def events(box, service):
    out = reader(box, "events", "-a", "-j", service=service).out
    return [json.loads(line)["body"] if "body" in json.loads(line) else json.loads(line) for line in out.splitlines()]


def opened(box, service, path="/etc/hostname"):
    if not (box.root / STORE / service / "history").exists():
        return 0
    result = box.run(["scope", "events", "-a", "-j"], env=box.env(SCOPE_HOME=f"/{STORE}/{service}"))
    return result.out.count(f'"{path}"'.encode()) if result.code == 0 else 0


SANDBOXES = {
    "none": "",
    "ProtectSystem": "User=www-data\nProtectSystem=strict\nProtectHome=yes\nReadOnlyPaths=/\nPrivateTmp=yes\nPrivateDevices=yes\n"
                     "ProtectKernelTunables=yes\nProtectKernelModules=yes\nProtectKernelLogs=yes\nProtectControlGroups=yes\n"
                     "ProtectClock=yes\nProtectHostname=yes\nUMask=0777",
    "DynamicUser": "DynamicUser=yes",
    "NoNewPrivileges": "User=www-data\nNoNewPrivileges=yes\nCapabilityBoundingSet=\nAmbientCapabilities=\nRestrictNamespaces=yes\n"
                       "LockPersonality=yes\nRestrictRealtime=yes\nRestrictSUIDSGID=yes\nKeyringMode=private",
    "SystemCallFilter": "User=www-data\nSystemCallFilter=@system-service\nSystemCallFilter=~@privileged @resources",
    "SystemCallFilter-narrow": "User=www-data\nSystemCallFilter=@default open openat read write close fstat newfstatat "
                               "access pread64 readlink readlinkat nanosleep clock_nanosleep",
    "SystemCallFilter-errno": "User=www-data\nSystemCallFilter=~@ipc @network-io\nSystemCallErrorNumber=EPERM",
    "MemoryDenyWriteExecute": "User=www-data\nMemoryDenyWriteExecute=yes",
    "PrivateNetwork": "User=www-data\nPrivateNetwork=yes\nIPAddressDeny=any\nPrivateIPC=yes",
    "RestrictAddressFamilies": "User=www-data\nRestrictAddressFamilies=AF_INET AF_INET6",
    "RestrictAddressFamilies-none": "User=www-data\nRestrictAddressFamilies=none",
    "ProtectProc": "User=www-data\nProtectProc=invisible\nProcSubset=pid\nPrivateUsers=yes",
    "NoExecPaths": "User=www-data\nNoExecPaths=/\nExecPaths=/usr/bin /usr/lib /usr/lib64 /srv",
    "TemporaryFileSystem": "User=www-data\nTemporaryFileSystem=/run /var",
    "RootDirectory": "User=www-data\nRootDirectory=/srv/root\nMountAPIVFS=yes\nBindReadOnlyPaths=/usr /srv/steady",
    "chroot-of-its-own": "ExecStart=\nExecStart=/usr/sbin/chroot /srv/root /srv/steady /etc/hostname\n"
                         "BindReadOnlyPaths=/usr:/srv/root/usr /srv/steady:/srv/root/srv/steady",
    "LimitNOFILE": "User=www-data\nLimitNOFILE=16\nLimitMEMLOCK=0\nLimitCORE=0\nTasksMax=1",
    "everything": "DynamicUser=yes\nProtectSystem=strict\nProtectHome=yes\nPrivateTmp=yes\nPrivateDevices=yes\n"
                  "PrivateNetwork=yes\nPrivateUsers=yes\nNoNewPrivileges=yes\nSystemCallFilter=@system-service\n"
                  "MemoryDenyWriteExecute=yes\nRestrictAddressFamilies=AF_INET\nRestrictNamespaces=yes\n"
                  "ProtectProc=invisible\nProcSubset=pid\nProtectKernelTunables=yes\nProtectKernelModules=yes\n"
                  "ProtectControlGroups=yes\nLockPersonality=yes\nRestrictRealtime=yes\nCapabilityBoundingSet=\n"
                  "SystemCallArchitectures=native\nUMask=0077\nKeyringMode=private",
}


def sandboxed(box, programs):
    """A root directory for some, and services for each sandbox: their names, of each program."""
    for name in ("usr", "proc", "dev", "sys", "etc", "tmp", "run", "srv"):
        (box.root / "srv/root" / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64", "sbin"):
        (box.root / "srv/root" / name).symlink_to(f"usr/{name}")
    for name in ("etc/hostname", "etc/passwd", "etc/group"):
        shutil.copy(box.root / name, box.root / "srv/root" / name)
    (box.root / "srv/said").mkdir()
    units = []
    for kind, program in programs.items():
        shutil.copy(program, box.root / "srv" / kind)
        (box.root / "srv/root/srv" / kind).touch()
        for name, options in SANDBOXES.items():
            unit = f"{kind}-{name}.service"
            options = options.replace("/srv/steady", f"/srv/{kind}")
            box.write(f"etc/systemd/system/{unit}", f"[Service]\nExecStart=/srv/{kind} /etc/hostname\nStandardOutput=append:"
                      f"/srv/said/{unit}\nStandardError=append:/srv/said/{unit}\n{options}\n")
            units.append(unit)
    box.systemctl("daemon-reload")
    return units


def states(box, units, *names):
    """Properties of several units: in their order."""
    out = box.systemctl("show", *units, *(f"-p{name}" for name in names))
    return [dict(line.split("=", 1) for line in part.splitlines()) for part in out.strip().split("\n\n")]


def said(box, unit):
    path = box.root / "srv/said" / unit
    return path.read_text() if path.exists() else ""


ALIVE = ("ActiveState", "SubState", "Result", "NRestarts")
DEAD = ("ActiveState", "Result", "ExecMainStatus", "ExecMainCode")


def all_events(box, units):
    """Unit -> the lines of its events, by one command in the box for all."""
    script = 'for u; do echo "=$u"; SCOPE_HOME="/$0/${u%.service}" scope events -a -j 2>/dev/null; done'
    found, unit = {u: [] for u in units}, None
    for line in box.run(["sh", "-c", script, STORE, *units]).out.decode(errors="replace").splitlines():
        if line.startswith("="):
            unit = line[1:]
        else:
            found[unit].append(line)
    return found


@test("service_sandboxes", timeout=120)
def sandboxes(ctx):
    """Each sandbox option, of a program with a loader and a static one: the service's state, output and end are as bare, and
    it is observed, to its end. All in one box, as booting takes longer than a service."""
    with Box(ctx) as box:
        units = sandboxed(box, {"loader": ctx.compile("host/steady.c", "glibc-O2"), "static": ctx.compile("host/steady.c", "static")})
        box.systemctl("start", *units)
        for unit in units:
            ctx.wait_for(lambda unit=unit: said(box, unit) == "up\n", f"{unit} is up, bare: {said(box, unit)}")
        bare = states(box, units, *ALIVE)
        box.systemctl("stop", *units)
        ends = states(box, units, *DEAD)
        # Each would have systemd read all units again.
        box.run(["sh", "-c", "mv /usr/bin/systemctl /usr/bin/kept && for u; do scope service $u --force || exit 1; done; "
                 "mv /usr/bin/kept /usr/bin/systemctl", "sh", *units], check_code=0)
        box.systemctl("daemon-reload")
        box.systemctl("start", *units)
        left = list(units)

        def observed():
            for unit, lines in all_events(box, left).items():
                if sum('"/etc/hostname"' in line for line in lines) > 4:
                    left.remove(unit)
            return not left

        try:
            ctx.wait_for(observed, "all are observed", interval=0.3)
        except Failure as e:
            raise Failure(f"{e}; {left} are not: {box.journal()[-3000:]}") from None
        for unit in units:
            equal(said(box, unit), "up\nup\n", f"output of {unit}")
        equal(states(box, units, *ALIVE), bare, "states")
        box.systemctl("stop", *units)
        equal(states(box, units, *DEAD), ends, "ends")
        collectors = [f"appscope-{unit}" for unit in units]
        ctx.wait_for(lambda: all(s["ActiveState"] == "inactive" for s in states(box, collectors, "ActiveState")),
                     "the collectors end after the services")
        for unit, lines in all_events(box, units).items():
            told = [e.get("body", e) for e in map(json.loads, lines)]
            equal([e["data"].get("signal") for e in told if e["source"] == "proc.exit"], ["SIGTERM"], f"what has ended {unit}")
        equal(box.run(["ls", "/run/appscope/environment"]).out, b"", "environments that are left")


@test("service_probe_calls")
def probe_calls(ctx):
    """A SystemCallFilter= is told of each call that the probe makes: it kills who makes another one."""
    default = set(ctx.run([ctx.tool("systemd-analyze"), "syscall-filter", "@default"]).out.decode().split())
    text = "".join(p.read_text() for p in (TOP / "src/probe").rglob("*.[ch]"))
    # What only starts a collector is never reached by a service, which has one.
    spawn = text[text.index("/* ---- a collector of our own ---- */"):]
    spawn = spawn[:spawn.index("\n}\n", spawn.index("bool join_spawn("))]
    made = set(re.findall(r"__NR_(\w+)", text.replace(spawn, ""))) - default
    source = (TOP / "src/host/service.c").read_text()
    listed = set(re.search(r"define PROBE_CALLS((?:.*\\\n)+.*)", source).group(1).replace('"', "").replace("\\", "").split())
    equal(sorted(made - listed), [], "calls of the probe that a filter isn't told of")
    equal(sorted(listed - made), [], "calls that it is told of for nothing")


@test("service_packages", timeout=60)
def packages(ctx):
    """nginx and redis of Debian, with their packages' units: answers and states as bare, across restarts and reloads."""
    with Box(ctx, etc=["nginx", "redis", "default"]) as box:
        for name in ("var/log/nginx", "var/lib/nginx/body", "var/log/redis", "var/lib/redis"):
            (box.root / name).mkdir(parents=True, exist_ok=True)
            if "redis" in name:
                shutil.chown(box.root / name, "redis", "redis")
        units = ["nginx.service", "redis-server.service"]

        def round_of(word):
            box.systemctl(word, *units)
            answers = [box.run(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1/"]).out,
                       ctx.wait_for(lambda: box.run(["redis-cli", "ping"]).out == b"PONG\n", "redis answers")]
            return answers, states(box, units, "ActiveState", "SubState", "Result", "StatusText", "Type")

        bare = round_of("start")
        equal(bare[1][0]["ActiveState"], "active", "nginx, bare")
        box.systemctl("stop", *units)
        ends = states(box, units, *DEAD)
        for unit in units:
            box.run(["scope", "service", unit, "--force"], check_code=0)
        equal(round_of("start"), bare, "observed")
        equal(round_of("restart"), bare, "started again")
        box.systemctl("reload", "nginx")
        box.systemctl("stop", *units)
        equal(states(box, units, *DEAD), ends, "ends")
        for unit, sources in (("nginx", {"http.req", "http.resp"}), ("redis-server", {"net.open", "net.close"})):
            listed = reader(box, "history", service=unit).out.decode()
            equal(len(listed.splitlines()), 3, f"sessions of {unit}: {listed}")
            told = {e["source"] for e in events(box, unit)}
            check(sources <= told, f"events of {unit}: {told}")
        for unit in units:
            box.run(["scope", "service", "--undo", unit, "--force"], check_code=0)
        equal(round_of("start"), bare, "after undoing")
        pid = box.show("redis-server", "MainPID")["MainPID"]
        check("libscope" not in box.run(["cat", f"/proc/{pid}/maps"]).out.decode(), "it is still observed")


@test("service_alone", timeout=60)
def alone(ctx):
    """Whatever becomes of the collector, the service runs; its secret and sessions are nobody else's."""
    with Box(ctx, files={"etc/systemd/system/web.service":
                         "[Service]\nUser=www-data\nExecStart=/srv/steady /etc/hostname\nRestart=always\nRestartSec=100ms\n"
                         "Environment=LD_PRELOAD=/usr/lib/none.so A=1\n"}) as box:
        shutil.copy(ctx.compile("host/steady.c", "glibc-O2"), box.root / "srv/steady")
        box.run(["scope", "service", "web", "--force"], check_code=0)
        box.systemctl("start", "web")
        ctx.wait_for(lambda: opened(box, "web") > 2, "it is observed")
        pid = box.show("web", "MainPID")["MainPID"]
        env = dict(e.split("=", 1) for e in box.run(["cat", f"/proc/{pid}/environ"]).out.decode().split("\0") if "=" in e)
        check(env["LD_PRELOAD"].endswith("/libscope.so:/usr/lib/none.so") and env["A"] == "1", f"environment: {env}")
        secret = env["SCOPE_SOCKET"].rsplit(".", maxsplit=1)[1]
        stranger = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "sh", "-c"]
        for path in ("/run/appscope/environment/web/service", f"/{STORE}/web/history"):
            check(box.run([*stranger, f"cat {path} || ls {path}"]).code != 0, f"{path} can be read by others")
        shown = box.run([*stranger, "systemctl show web appscope-web; cat /etc/systemd/system/*/*.conf /etc/systemd/system/*.s*"])
        check(secret.encode() not in shown.out + shown.err, "the secret is shown")
        # Restarts go on in the same session.
        box.systemctl("kill", "-s", "KILL", "web")
        ctx.wait_for(lambda: box.show("web", "NRestarts", "SubState") == {"NRestarts": "1", "SubState": "running"}, "a restart")
        ctx.wait_for(lambda: len([e for e in events(box, "web") if e["source"] == "proc.exit"
                                  and e["data"].get("signal") == "SIGKILL"]) == 1, "its end by a signal is told")
        equal(len(list((box.root / STORE / "web/history").glob("[0-9]*"))), 1, "sessions")
        # Its collector dies: the service doesn't notice, and the next start is observed again.
        box.systemctl("kill", "-s", "KILL", "appscope-web")
        ctx.wait_for(lambda: box.show("appscope-web", "NRestarts", "SubState") == {"NRestarts": "1", "SubState": "running"},
                     "another collector")
        equal(box.show("web", "NRestarts", "ActiveState"), {"NRestarts": "1", "ActiveState": "active"})
        box.systemctl("kill", "-s", "KILL", "web")
        ctx.wait_for(lambda: box.show("web", "NRestarts", "SubState") == {"NRestarts": "2", "SubState": "running"}, "a restart")
        seen = opened(box, "web")
        ctx.wait_for(lambda: opened(box, "web") > seen, "observed by the second collector")
        # The unit has changed: rather not observed than killed by its new filter.
        box.write("etc/systemd/system/web.service.d/later.conf", "[Service]\nSystemCallFilter=@default open openat read write close "
                  "writev fstat newfstatat access pread64 nanosleep clock_nanosleep\n")
        box.systemctl("daemon-reload")
        box.systemctl("restart", "web")
        pid = box.show("web", "MainPID")["MainPID"]
        ctx.wait_for(lambda: b"steady" in box.run(["cat", f"/proc/{pid}/comm"]).out, "it runs")
        equal(box.show("web", "ActiveState", "NRestarts"), {"ActiveState": "active", "NRestarts": "0"}, "with a new filter")
        equal(box.show("web", "MainPID")["MainPID"], pid, "the process")
        check("has SystemCallFilter= now" in box.journal("appscope-web:check"), box.journal("appscope-web:check"))
        box.run(["scope", "service", "web", "--force"], check_code=0)
        box.systemctl("restart", "web")
        seen = opened(box, "web")
        ctx.wait_for(lambda: opened(box, "web") > seen, "observed with the filter")
        # The tool is gone.
        box.systemctl("stop", "web")
        box.run(["rm", "/usr/bin/scope"], check_code=0)
        box.systemctl("start", "web")
        equal(box.show("web", "ActiveState", "NRestarts"), {"ActiveState": "active", "NRestarts": "0"}, "without the tool")
        pid = box.show("web", "MainPID")["MainPID"]
        check(b"SCOPE_" not in box.run(["cat", f"/proc/{pid}/environ"]).out, "an environment without a collector")


@test("service_user", timeout=60)
def user(ctx):
    """-u: the collector is the service's user, who owns the sessions. A template."""
    with Box(ctx, files={"etc/systemd/system/web@.service": "[Service]\nUser=www-data\nExecStart=/srv/steady /etc/%i\n"}) as box:
        shutil.copy(ctx.compile("host/steady.c", "glibc-O2"), box.root / "srv/steady")
        box.run(["scope", "service", "web@", "--force", "-u", "www-data"], check_code=0)
        box.systemctl("start", "web@hostname", "web@passwd")
        ctx.wait_for(lambda: opened(box, "web:40") > 2 and opened(box, "web:40", "/etc/passwd") > 2,
                     f"both instances are observed: {box.journal()[-2000:]}")
        pid = box.show("appscope-web:40", "MainPID")["MainPID"]
        status = box.run(["cat", f"/proc/{pid}/status"]).out.decode()
        equal(set(re.search(r"^Uid:\s*(.*)$", status, re.M).group(1).split()), {"33"}, "user of the collector")
        as_user = ["setpriv", "--reuid=www-data", "--regid=www-data", "--clear-groups", "scope", "history", "--service", "web@"]
        check(b"web@" in box.run(as_user, check_code=0).out, "its user can't read the sessions")


@test("service_again", timeout=90)
def again(ctx):
    """A collector that is killed: what runs is observed by the next one, without a restart. A configuration that is given
    while it runs is in force at once; `scope ps` names the service."""
    with Box(ctx, etc=["nginx"]) as box:
        for name in ("var/log/nginx", "var/lib/nginx/body", "srv/seen"):
            (box.root / name).mkdir(parents=True, exist_ok=True)
        box.run(["scope", "service", "nginx", "--force"], check_code=0)
        box.systemctl("start", "nginx")
        before = box.systemctl("show", "nginx", "-pMainPID", "-pNRestarts", "-pActiveEnterTimestampMonotonic")
        workers = box.run(["pgrep", "-P", box.show("nginx", "MainPID")["MainPID"]]).out

        def seen():
            box.run(["curl", "-sS", "-o", "/dev/null", "http://127.0.0.1/"], check_code=0)
            return [e for e in events(box, "nginx") if e["source"] == "http.req"]

        ctx.wait_for(seen, "it is observed")
        for count in (1, 2):
            box.systemctl("kill", "-s", "KILL", "appscope-nginx")
            ctx.wait_for(lambda: len(list((box.root / STORE / "nginx/history").glob("[0-9]*"))) == count + 1, "another session")
            ctx.wait_for(seen, "it is observed again", interval=0.3)
            equal(box.systemctl("show", "nginx", "-pMainPID", "-pNRestarts", "-pActiveEnterTimestampMonotonic"), before, "nginx")
            equal(box.run(["pgrep", "-P", box.show("nginx", "MainPID")["MainPID"]]).out, workers, "its workers")
        told = [e for e in events(box, "nginx") if e["source"] == "proc.start"]
        equal({e["data"]["start"] for e in told}, {"attach"}, "how it came")
        table = box.run(["scope", "ps"], check_code=0).out.decode()
        check(re.search(r"nginx: master.* nginx:3\n", table) and not re.search(r" -\n", table), table)
        ours = [json.loads(line) for line in box.run(["scope", "ps", "-j"]).out.splitlines()]
        equal({(p["session"], p["service"]) for p in ours}, {(3, "nginx")}, "scope ps -j")
        # Another destination.
        result = box.run(["scope", "service", "nginx", "--force", "-e", "file:///srv/seen/events"], check_code=0)
        check(b"by its new configuration" in result.out, result.describe())
        box.run(["curl", "-sS", "-o", "/dev/null", "http://127.0.0.1/"], check_code=0)
        ctx.wait_for(lambda: (box.root / "srv/seen/events").exists() and "http.req" in (box.root / "srv/seen/events").read_text(),
                     "events go there")
        # It is told where people look.
        doctor = box.run(["scope", "doctor"]).out.decode()
        check(re.search(r"nginx: .*", doctor), doctor)
        box.systemctl("stop", "nginx")
        equal(box.show("nginx", "ActiveState", "Result"), {"ActiveState": "inactive", "Result": "success"}, "its end")


@test("service_changes", timeout=90)
def changes(ctx):
    """What becomes of a service that is set up: its unit is replaced by an upgrade, masked, its set-up undone while it runs.
    It is a static program of Go, in a sandbox where neither the tool nor the collector's directory can be seen."""
    unit = "[Service]\nUser=www-data\nWorkingDirectory=/srv\nExecStart=/srv/web 7000\nTemporaryFileSystem=/run /usr\n"
    with Box(ctx) as box:
        shutil.copy(ctx.go_build("server", "static"), box.root / "srv/web")
        (box.root / "srv/root").mkdir()
        (box.root / "srv/root/index.html").write_text("here")

        def upgrade(text):
            box.run(["sh", "-c", "cat >/usr/lib/systemd/system/new && mv /usr/lib/systemd/system/new "
                     "/usr/lib/systemd/system/web.service"], stdin=text.encode(), check_code=0)
            box.systemctl("daemon-reload")

        def answers():
            return box.run(["curl", "-sS", "http://127.0.0.1:7000/"]).out == b"here"

        def seen():
            check(answers(), "the service doesn't answer")
            return sum(e["source"] == "http.req" for e in events(box, "web"))

        def doctor():
            return next(line for line in box.run(["scope", "doctor"]).out.decode().splitlines() if "web:" in line)

        upgrade(unit)
        result = box.run(["scope", "service", "web", "--force"], check_code=0)
        check(b"statically linked" in result.err, result.describe())
        box.systemctl("start", "web")
        ctx.wait_for(answers, "it answers")
        ctx.wait_for(lambda: (box.root / STORE / "web/history/1/journal").exists() and seen(), f"it is observed: {box.journal()}")
        check("has" not in doctor(), doctor())
        pid = box.show("web", "MainPID")
        # systemd reads its files again: nothing happens.
        box.systemctl("daemon-reload")
        count = seen()
        ctx.wait_for(lambda: seen() > count, "still observed")
        box.systemctl("kill", "-s", "KILL", "appscope-web")
        ctx.wait_for(lambda: len(list((box.root / STORE / "web/history").glob("[0-9]*"))) == 2 and seen(), "observed again",
                     interval=0.3)
        equal(box.show("web", "MainPID"), pid, "the process")
        # An upgrade with another sandbox: rather not observed than ended, and told.
        upgrade(unit + "SystemCallFilter=@system-service\n")
        check("has SystemCallFilter= now" in doctor(), doctor())
        box.systemctl("restart", "web")
        ctx.wait_for(answers, "it answers")
        ctx.wait_for(lambda: box.show("appscope-web", "ActiveState")["ActiveState"] != "active", "its collector ends")
        pid = box.show("web", "MainPID")["MainPID"]
        check("memfd:scope" not in box.run(["cat", f"/proc/{pid}/maps"]).out.decode(), "it is observed")
        box.run(["scope", "service", "web", "--force"], check_code=0)
        box.systemctl("restart", "web")
        ctx.wait_for(answers, "it answers")
        ctx.wait_for(lambda: len(list((box.root / STORE / "web/history").glob("[0-9]*"))) == 3 and seen(), "observed anew",
                     interval=0.3)
        # Undone while it runs.
        pid = box.show("web", "MainPID")
        result = box.run(["scope", "service", "--undo", "web", "--force"], check_code=0)
        ctx.wait_for(lambda: box.show("appscope-web", "ActiveState")["ActiveState"] in ("inactive", "failed"),
                     f"the collector ends: {result.describe()}")
        check(answers(), "it doesn't answer any more")
        check("memfd:scope" not in box.run(["cat", f"/proc/{pid['MainPID']}/maps"]).out.decode(), "something is left in it")
        equal((box.show("web", "MainPID"), box.show("web", "ActiveState", "NRestarts")),
              (pid, {"ActiveState": "active", "NRestarts": "0"}), "the service")
        box.systemctl("stop", "web")
        equal(box.show("web", "Result"), {"Result": "success"}, "its end")
        # Masked.
        box.run(["scope", "service", "web", "--force"], check_code=0)
        box.systemctl("mask", "web")
        check("masked" in doctor(), doctor())
        check(b"web" in box.run(["scope", "history", "--service", "web"], check_code=0).out, "its sessions can't be read")
        box.run(["scope", "service", "--undo", "web", "--force"], check_code=0)
        equal(box.run(["scope", "service", "--list"]).out, b"", "list")


KINDS = {
    "pu": "[Service]\nPrivateUsers=yes\nExecStart=/srv/steady /etc/hostname\n",
    "dyn": "[Service]\nDynamicUser=yes\nStateDirectory=dyn\n"
           "ExecStart=/bin/sh -c 'echo x >>$STATE_DIRECTORY/f; exec /srv/steady /etc/hostname'\n",
    "pre": "[Service]\nUser=www-data\nExecStartPre=/bin/cat /etc/fstab\nExecStartPre=+/bin/cat /etc/group\n"
           "ExecStart=/srv/steady /etc/hostname\nExecReload=/bin/cat /etc/passwd\nExecStopPost=/bin/cat /etc/hosts\n",
    "once": "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/bash -c 'cat /etc/hostname; exit 0'\n",
    "fails": "[Service]\nType=oneshot\nExecStart=/bin/bash -c 'cat /etc/hostname; exit 3'\n",
    "limit": "[Unit]\nStartLimitIntervalSec=60\nStartLimitBurst=3\n[Service]\nRestart=on-failure\nRestartSec=50ms\n"
             "ExecStart=/bin/sh -c 'cat /etc/hostname; exit 4'\n",
}
SEEN = {"pre": {"/etc/fstab": "33", "/etc/group": "0", "/etc/passwd": "33", "/etc/hosts": "33"},
        "once": {"/etc/hostname": "0"}, "fails": {"/etc/hostname": "0"}, "limit": {"/etc/hostname": "0"}}


@test("service_kinds", timeout=90)
def kinds(ctx):
    """Kinds of services: states, results, ends as bare; all commands of the unit are observed, with the users that they have.
    One that D-Bus starts, in the sandbox that Debian gives it."""
    with Box(ctx, files={f"etc/systemd/system/{name}.service": text for name, text in KINDS.items()}) as box:
        shutil.copy(ctx.compile("host/steady.c", "glibc-O2"), box.root / "srv/steady")
        units = [f"{name}.service" for name in KINDS]

        def round_of():
            box.systemctl("start", *units, check_code=None)
            ctx.wait_for(lambda: box.show("limit", "ActiveState", "NRestarts") == {"ActiveState": "failed", "NRestarts": "3"},
                         f"it stops trying: {box.show('limit', 'ActiveState', 'NRestarts')}")
            box.systemctl("reload", "pre")
            name = box.run(["hostnamectl", "--static"])
            alive = states(box, [*units, "systemd-hostnamed.service"], *ALIVE, "ExecMainStatus")
            box.systemctl("stop", *units, "systemd-hostnamed", check_code=None)
            dead = states(box, units, *DEAD)
            box.systemctl("reset-failed", check_code=None)
            return alive, dead, (name.code, name.out, name.err), (box.root / "var/lib/private/dyn/f").read_text()

        bare = round_of()
        for unit in ("once", "fails"):
            check(b"not observed" not in box.run(["scope", "service", unit, "--force"], check_code=0).err, "a script")
        for unit in (*units, "systemd-hostnamed"):
            box.run(["scope", "service", unit, "--force", *(["-u", "www-data"] if unit == "pre.service" else [])], check_code=0)
        observed = round_of()
        equal(observed[:3], bare[:3], "observed")
        equal(observed[3], bare[3] * 2, "its state")
        for name, files in SEEN.items():
            def users_of(name=name):
                found = {}
                for e in events(box, name):
                    if e["source"] == "proc.start" and e["data"]["start"] == "exec" and e["data"]["args"][0].endswith("cat"):
                        found[e["data"]["args"][1]] = str(e["data"]["uid"])
                return found
            ctx.wait_for(lambda: users_of() == files, f"commands of {name}: {users_of()}", interval=0.2)  # pylint: disable=cell-var-from-loop
        for name in ("pu", "dyn", "systemd-hostnamed"):
            ctx.wait_for(lambda: opened(box, name, "/etc/hostname"), f"{name} is observed: {box.journal('appscope-' + name)}",  # pylint: disable=cell-var-from-loop
                         interval=0.2)
        # Nothing can be brought into a static program that has ended by then: it is told.
        shutil.copy(ctx.compile("host/steady.c", "static"), box.root / "srv/static")
        box.unit("short.service", "[Service]\nType=oneshot\nExecStart=/srv/static\n")
        result = box.run(["scope", "service", "short", "--force"], check_code=0)
        check(b"it is not observed" in result.err, result.describe())
        check(re.search(r"short: .*not observed", box.run(["scope", "doctor"]).out.decode()), "scope doctor doesn't tell")


@test("service_ssh", timeout=60)
def ssh(ctx):
    """sshd: privileges are separated, and a login over loopback is, as bare; its programs are observed as the user."""
    with Box(ctx, etc=["ssh"], files={"etc/nologin": ""}) as box:
        (box.root / "etc/nologin").unlink()
        for name, line in {"passwd": "guest:x:1500:1500::/home/guest:/bin/sh\n", "group": "guest:x:1500:\n",
                           "shadow": "guest:*:19000:0:99999:7:::\n"}.items():
            with open(box.root / "etc" / name, "a", encoding="utf-8") as f:
                f.write(line)
        box.run(["sh", "-ec", "rm -f /etc/ssh/ssh_host_* /run/nologin; ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key;"
                 "ssh-keygen -q -N '' -t ed25519 -f /root/key; mkdir -p /home/guest/.ssh; cp /root/key.pub "
                 "/home/guest/.ssh/authorized_keys; chown -R 1500:1500 /home/guest; chmod 700 /home/guest /home/guest/.ssh"], check_code=0)

        def login():
            box.systemctl("start", "ssh")
            script = "id; pwd; env | grep -v -e ^SSH_ -e ^SCOPE_ -e ^LD_PRELOAD; grep -E ^Cap /proc/self/status; cat; exit 7"
            result = ctx.wait_for(lambda: (r := box.run(["ssh", "-q", "-o", "StrictHostKeyChecking=no", "-o",
                                                         "UserKnownHostsFile=/dev/null", "-i", "/root/key", "guest@127.0.0.1", script],
                                                        stdin=b"typed\n")).code != 255 and r, f"a login: {box.journal('ssh')}")
            refused = box.run(["ssh", "-q", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o",
                               "UserKnownHostsFile=/dev/null", "-i", "/nonexistent", "guest@127.0.0.1", "id"])
            box.systemctl("stop", "ssh")
            return result.code, result.out, refused.code, refused.out

        bare = login()
        check(bare[0] == 7 and b"uid=1500(guest)" in bare[1] and bare[2] == 255, f"bare: {bare}")
        box.run(["scope", "service", "ssh", "--force"], check_code=0)
        equal(login(), bare, "observed")
        told = events(box, "ssh")
        check(any(e["source"] == "proc.start" and e["data"]["args"][0] == "id" and e["data"]["uid"] == 1500 for e in told),
              "what the user runs isn't observed")
        check(b"ssh" in box.run(["scope", "history", "--service", "ssh"]).out, "history")


CONNECT = """
import socket
for i in range(12):
    s = socket.create_connection(("127.0.0.1", 7000))
    while s.recv(100):
        pass
"""


@test("service_accept", timeout=60)
def accept(ctx):
    """Accept=yes: each of many short connections is observed, by one collector, in one session."""
    with Box(ctx, files={"etc/systemd/system/hello.socket": "[Socket]\nListenStream=127.0.0.1:7000\nAccept=yes\n",
                         "etc/systemd/system/hello@.service": "[Service]\nExecStart=-/usr/bin/cat /etc/hostname\n"
                         "StandardInput=socket\nUser=www-data\n"}) as box:
        before = {p: p.read_bytes() for p in (box.root / "etc/systemd").rglob("*") if p.is_file() and not p.is_symlink()}
        box.run(["scope", "service", "hello@", "--force"], check_code=0)
        box.systemctl("start", "hello.socket")
        box.run(["python3", "-c", CONNECT], check_code=0)
        ctx.wait_for(lambda: len([e for e in events(box, "hello:40") if e["source"] == "proc.exit"]) == 12,
                     f"each is observed: {box.journal('appscope-hello:40')}")
        equal(len(list((box.root / STORE / "hello:40/history").glob("[0-9]*"))), 1, "sessions")
        box.systemctl("stop", "hello.socket")
        ctx.wait_for(lambda: box.show("appscope-hello:40", "ActiveState")["ActiveState"] == "inactive", "the collector ends")
        box.run(["scope", "service", "--undo", "hello@", "--force"], check_code=0)
        after = {p: p.read_bytes() for p in (box.root / "etc/systemd").rglob("*") if p.is_file() and not p.is_symlink()}
        equal(after, before, "after undoing")
        check(not (box.root / "etc/systemd/system/hello.socket.d").exists(), "a directory is left")


def scripted(ctx, kind, settings):
    """A script of /etc/init.d that starts a program in the background."""
    script = f"""#!/bin/sh
sourcex() {{ . "$1"; }}
{'sourcex' if kind == 'openrc' else '.'} /{settings}
case "$1" in
start) /srv/steady /etc/hostname >/srv/said 2>&1 </dev/null & echo $! >/run/web.pid ;;
stop) kill $(cat /run/web.pid) ;;
restart) sh $0 stop; sh $0 start ;;
status) kill -0 $(cat /run/web.pid) ;;
esac
"""
    with Box(ctx, init=["/usr/bin/sleep", "inf"], files={"etc/init.d/web": script, settings: "A=1\n"}) as box:
        shutil.copy(ctx.compile("host/steady.c", "glibc-O2"), box.root / "srv/steady")
        shutil.rmtree(box.root / "etc/systemd")
        if kind == "openrc":
            box.run(["mkdir", "/run/openrc"], check_code=0)
        before = (box.root / settings).read_text()
        result = box.run(["scope", "service", "web", "--force"], check_code=0)
        equal(result.err, b"", "complaints")
        for word in ("stop", "status"):
            box.run(["sh", "/etc/init.d/web", word])
        check(not (box.root / STORE).exists(), "a collector for nothing")
        box.run(["sh", "/etc/init.d/web", "start"], check_code=0)
        ctx.wait_for(lambda: opened(box, "web") > 2, "it is observed")
        modes = box.run(["stat", "-c", "%a", "/run/appscope", "/run/appscope/environment"], check_code=0).out.split()
        equal(modes, [b"755", b"700"], "modes of /run/appscope, which a host's collector uses, too, and of what is in it")
        if kind == "sysv":
            box.run(["sh", "/etc/init.d/web", "restart"], check_code=0)
        else:
            box.run(["sh", "/etc/init.d/web", "stop"], check_code=0)
            box.run(["sh", "/etc/init.d/web", "start"], check_code=0)
        ctx.wait_for(lambda: len([e for e in events(box, "web") if e["source"] == "proc.start"
                                  and e["data"]["args"][0] == "/srv/steady" and e["data"]["start"] == "exec"]) == 2, "a restart")
        equal(len(list((box.root / STORE / "web/history").glob("[0-9]*"))), 1, "sessions")
        box.run(["scope", "service", "--undo", "web", "--force"], check_code=0)
        equal((box.root / settings).read_text(), before, settings)
        box.run(["sh", "/etc/init.d/web", "stop"], check_code=0)


@test("service_sysv")
def sysv(ctx):
    """A script that reads /etc/default."""
    scripted(ctx, "sysv", "etc/default/web")


@test("service_openrc")
def openrc(ctx):
    """A script that reads /etc/conf.d as OpenRC does, within a function."""
    scripted(ctx, "openrc", "etc/conf.d/web")
