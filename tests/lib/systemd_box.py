# SPDX-License-Identifier: Apache-2.0
"""A real systemd, as process 1 of a container that the test makes, with services of Debian's packages in it.

    with Box(ctx, etc=["nginx"], var=["lib/nginx", "log/nginx"]) as box:
        box.unit("web.service", "[Service]\\nExecStart=/usr/sbin/nginx -g 'daemon off;'\\n")
        box.systemctl("start", "web.service")
        box.run(["scope", "ps"])

Its root directory is one of the test's: /usr is the machine's below an overlay, so that changes to it stay there, the
rest is made anew. Mounts, pids, network, host name, IPC and cgroups are its own; what a process 1 could change of the
machine's kernel (/proc/sys, the clock, modules) is read-only or out of its capabilities. When the test is over, or is
killed, the kernel ends all that is in it. Files can be read and written from outside as box.root / "etc/...". It needs
root, and a cgroup2 hierarchy that can be written to.
"""

import contextlib
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

from scopetest import Skip, check

# What belongs to hardware, seats and the machine's kernel, or takes time for nothing.
MASKED = """
    systemd-udevd.service systemd-udev-trigger.service systemd-udevd-control.socket systemd-udevd-kernel.socket
    systemd-sysctl.service systemd-modules-load.service modprobe@.service systemd-random-seed.service systemd-hwdb-update.service
    systemd-timesyncd.service systemd-logind.service getty.target systemd-remount-fs.service systemd-journal-flush.service
    systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-networkd.service systemd-pstore.service
    systemd-journald-audit.socket systemd-initctl.socket systemd-binfmt.service systemd-machine-id-commit.service
    systemd-ask-password-console.path systemd-ask-password-wall.path systemd-firstboot.service ldconfig.service
    dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount
    sys-kernel-config.mount proc-sys-fs-binfmt_misc.automount tmp.mount
""".split()
ETC = ["ld.so.cache", "ld.so.conf", "ld.so.conf.d", "nsswitch.conf", "passwd", "group", "shadow", "alternatives", "pam.d",
       "localtime", "security", "login.defs", "services", "protocols", "dbus-1", "ssl/openssl.cnf"]
# Out of the bounding set: what reaches beyond namespaces.
TAKEN = "-sys_time,-sys_module,-sys_rawio,-mac_admin,-mac_override,-syslog,-wake_alarm,-block_suspend,-audit_control"

# $1: the root directory, $2: the overlay's directory, $3: capabilities, then process 1.
BOOT = r"""
set -e
mount --make-rprivate /
cd "$1"
mount --bind . .
cd "$1"
mount -t overlay -o lowerdir=/usr,upperdir="$2/upper",workdir="$2/work" usr usr
mount -t proc -o nosuid,noexec,nodev proc proc
for kept in sys sysrq-trigger bus fs irq; do
    mount --bind proc/$kept proc/$kept && mount -o remount,bind,ro,nosuid,noexec,nodev proc/$kept
done
mount -t sysfs -o ro,nosuid,noexec,nodev sysfs sys
mount -t cgroup2 -o nosuid,noexec,nodev cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755,nosuid dev dev
for node in null zero full random urandom tty; do : >dev/$node; mount --bind /dev/$node dev/$node; done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=1777,nosuid,nodev shm dev/shm
ln -s /proc/self/fd dev/fd
for n in 0 1 2; do ln -s fd/$n dev/$(echo in out err | cut -d' ' -f$((n + 1)) | sed s/^/std/); done
mount -t tmpfs -o mode=755,nosuid,nodev run run
mkdir -p run/old
pivot_root . run/old
cd /
umount -l run/old
rmdir run/old
ip link set lo up
taken=$3
shift 3
exec env -i container=scopetest PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    setpriv --bounding-set="$taken" --inh-caps="$taken" "$@"
"""


def _cgroup():
    """Directory of this process in the cgroup2 hierarchy."""
    mounts = Path("/proc/self/mountinfo").read_text()
    mine = re.search(r"^0::(.*)$", Path("/proc/self/cgroup").read_text(), re.M)
    for line in mounts.splitlines():
        fields = line.split()
        if mine and fields[fields.index("-") + 1] == "cgroup2":
            return Path(fields[4]) / os.path.relpath(mine.group(1), fields[3])
    raise Skip("no cgroup2 hierarchy, which a systemd in a container needs")


class Box:
    """etc, var: files and directories of the machine's /etc and /var that are copied. files: path -> text, there before
    systemd starts. target: what it reaches before the box can be used. init: another process 1 (its words), for a host
    without systemd."""

    def __init__(self, ctx, etc=(), var=(), files=None, target="basic.target", init=None):
        check(os.geteuid() == 0, "needs root, to boot systemd in a container")
        self.ctx, self.process, self.init = ctx, None, 0
        self.booted = init is None
        self.first = init or ["/usr/lib/systemd/systemd", "--system", f"--unit={target}", "--log-target=console",
                              "--show-status=0"]
        ctx.valid = False  # sessions in it have the names of files as they are in it
        self.root = ctx.fresh(f"box-{os.urandom(4).hex()}")
        self.overlay = ctx.fresh(f"{self.root.name}-usr")
        for name in ("upper", "work"):
            (self.overlay / name).mkdir(mode=0o755)
        for name in ("usr", "etc/systemd/system", "etc/default", "dev", "proc", "sys", "run", "tmp", "var/lib", "var/log",
                     "var/cache", "root", "home", "mnt", "srv", "opt"):
            (self.root / name).mkdir(parents=True)
        for name in ("bin", "sbin", "lib", "lib64"):
            (self.root / name).symlink_to(f"usr/{name}")
        (self.root / "var/run").symlink_to("/run")
        os.chmod(self.root / "tmp", 0o1777)
        os.chmod(self.root / "root", 0o700)
        for name in [f"etc/{n}" for n in (*ETC, *etc)] + [f"var/{n}" for n in var]:
            self._copy(name)
        for name in MASKED if self.booted else ():
            (self.root / "etc/systemd/system" / name).symlink_to("/dev/null")
        for name, text in {"etc/machine-id": os.urandom(16).hex() + "\n", "etc/hostname": "box\n", "etc/fstab": "",
                           "etc/hosts": "127.0.0.1 localhost box\n::1 localhost\n",
                           # A test is over in seconds; what is killed at its end needs no grace.
                           "etc/systemd/journald.conf": "[Journal]\nStorage=volatile\nRateLimitBurst=0\nReadKMsg=no\n",
                           **(files or {})}.items():
            self.write(name, text)
        (self.overlay / "upper/bin").mkdir()
        shutil.copy(ctx.scope, self.overlay / "upper/bin/scope")
        self.log = ctx.dir / f"{self.root.name}.log"

    def _copy(self, name):
        source, to = Path("/") / name, self.root / name
        if not source.exists():
            return
        to.parent.mkdir(parents=True, exist_ok=True)
        # With owners and times.
        subprocess.run(["cp", "-a", source, to], check=True)

    def write(self, name, text, mode=0o644):
        path = self.root / str(name).lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.chmod(path, mode)
        return path

    # --- running ---

    def __enter__(self):
        above = _cgroup()
        self.group = above / f"scope-{self.root.name}"
        try:
            self.group.mkdir()
        except OSError as e:
            raise Skip(f"no cgroup can be made in {above}: {e.strerror}") from None
        try:
            with open(self.log, "wb") as log:
                argv = ["sh", "-c", f'echo $$ >"$0/cgroup.procs" && exec unshare --mount --pid --fork --kill-child --uts '
                        '--ipc --net --cgroup sh -c "$@"', self.group, BOOT, "sh", self.root, self.overlay, TAKEN, *self.first]
                self.process = self.ctx.start(argv, stdout=log, stderr=log)
            self.init = self.ctx.wait_for(self._find_init, "a process 1")
            self.ctx.wait_for(self._up, "systemd is up", seconds=30, interval=0.05)
        except BaseException as e:
            self.__exit__(None, None, None)
            raise type(e)(f"{e}\n{self.log.read_text(errors='replace')[-3000:]}") if isinstance(e, Exception) else e
        return self

    def _find_init(self):
        check(self.process.poll() is None, f"systemd did not start: {self.log.read_text(errors='replace')}")
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return len(children) == 1 and int(children[0])

    def _up(self):
        check(self.process.poll() is None, f"systemd ended: {self.log.read_text(errors='replace')}")
        comm = Path(f"/proc/{self.init}/comm").read_text()
        if not self.booted:
            return comm == Path(self.first[0]).name[:15] + "\n"
        return (comm == "systemd\n" and self.run(["systemctl", "is-system-running"]).out.strip() in (b"running", b"degraded"))

    def __exit__(self, *_):
        if self.init:
            with contextlib.suppress(OSError):
                os.kill(self.init, 9)
        if self.process:
            self.process.kill()
            self.process.wait(20)
        # The kernel takes the last processes out of their groups a moment later.
        for _attempt in range(200):
            with contextlib.suppress(OSError):
                for directory, _below, _files in os.walk(self.group, topdown=False):
                    os.rmdir(directory)
            if not self.group.exists():
                break
            time.sleep(0.05)

    def command(self, argv):
        """What runs a command in the box, as root."""
        return ["nsenter", "-t", self.init, "-m", "-p", "-u", "-i", "-n", "-C", "-r", "-w", "--", *argv]

    def env(self, **more):
        return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "HOME": "/root", "LC_ALL": "C.UTF-8",
                "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0", **{k: str(v) for k, v in more.items()}}

    def run(self, argv, env=None, **how):
        return self.ctx.run(self.command(argv), env=env or self.env(), **how)

    def start(self, argv, env=None, **how):
        return self.ctx.start(self.command(argv), env=env or self.env(), **how)

    def systemctl(self, *words, check_code=0):
        """Its output; a failure comes with what the unit has said."""
        result = self.run(["systemctl", "--no-pager", *words])
        if check_code is not None and result.code != check_code:
            check(False, result.describe(), self.log.read_text(errors="replace")[-2000:], self.journal()[-3000:])
        return result.out.decode()

    def unit(self, name, text):
        """Writes a unit file and has systemd read it."""
        self.write(f"etc/systemd/system/{name}", text)
        self.systemctl("daemon-reload")

    def show(self, unit, *names):
        """Properties of a unit: a dictionary."""
        out = self.systemctl("show", unit, *(f"-p{name}" for name in names))
        return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)

    def journal(self, unit=None):
        words = ["-u", unit] if unit else []
        return self.run(["journalctl", "--no-pager", "-o", "cat", *words]).out.decode(errors="replace")

    def pid(self, inside):
        """A process's number outside of the box."""
        for path in Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError):
                ns = re.search(r"^NSpid:\s*(.*)$", path.read_text(), re.M).group(1).split()
                if len(ns) == 2 and int(ns[1]) == int(inside) and (os.readlink(path.parent / "ns/pid")
                                                                   == os.readlink(f"/proc/{self.init}/ns/pid")):
                    return int(ns[0])
        return 0
