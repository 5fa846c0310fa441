# SPDX-License-Identifier: Apache-2.0
"""A host without an init system of its own, for what `scope start` changes: this machine's programs in mount and pid
namespaces, with /etc, /run, /usr/lib/appscope, /var/lib and /var/log of their own. Nothing of it is seen outside, and all
that runs in it ends with it.

    with HostBox(ctx) as box:
        box.scope("start")
        box.run(["cat", "/etc/ld.so.preload"])
"""

import contextlib
import os
from pathlib import Path

from scopetest import check

SETUP = r"""
set -e
mount --make-rprivate /
# Files come and go while others work here, such as locks of those who make users; what is missing then was no part of it.
tar -C /etc --ignore-failed-read --warning=none -cf - . 2>/dev/null | tar -C "$1/etc" --numeric-owner -xpf - || :
[ -s "$1/etc/passwd" ] && [ -s "$1/etc/group" ]
rm -f "$1"/etc/*.lock "$1"/etc/.pwd.lock "$1"/etc/passwd.[0-9]* "$1"/etc/group.[0-9]* "$1"/etc/shadow.[0-9]* "$1"/etc/gshadow.[0-9]*
rm -rf "$1/etc/systemd" "$1/etc/init.d" "$1/etc/rc.conf" "$1/etc/scope" "$1/etc/ld.so.preload"
mkdir -p "$1/upper" "$1/work"
mknod "$1/upper/appscope" c 0 0 # it isn't there
mount -t overlay -o "lowerdir=/usr/lib,upperdir=$1/upper,workdir=$1/work" lib /usr/lib
mount --bind "$1/etc" /etc
mount -t tmpfs -o mode=0755 run /run
mount -t tmpfs -o mode=0755 lib /var/lib
mount -t tmpfs -o mode=0755 log /var/log
echo ready >"$1/ready"
while :; do sleep 1000 & wait $!; done
"""


class HostBox:
    """prepare: shell commands that are run in it before anything else."""

    def __init__(self, ctx, prepare=""):
        check(os.geteuid() == 0, "needs root, for namespaces of its own")
        self.ctx, self.prepare = ctx, prepare
        self.dir = ctx.fresh(f"host-{os.urandom(4).hex()}")
        os.chmod(self.dir, 0o755)
        (self.dir / "etc").mkdir(mode=0o755)
        self.process, self.init = None, 0

    def __enter__(self):
        log = open(self.dir / "log", "wb")  # pylint: disable=consider-using-with
        with log:
            self.process = self.ctx.start(["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c",
                                           SETUP, "sh", self.dir], stdout=log, stderr=log)
        try:
            self.ctx.wait_for(lambda: self._alive() and (self.dir / "ready").exists(), "the box is set up")
            self.init = int(Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()[0])
            if self.prepare:
                self.run(["sh", "-c", self.prepare], check_code=0)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _alive(self):
        check(self.process.poll() is None, "the box ended: " + (self.dir / "log").read_text(errors="replace"))
        return True

    def __exit__(self, *_):
        if self.init:
            with contextlib.suppress(OSError):
                os.kill(self.init, 9)
        self.process.kill()
        self.process.wait(20)

    def command(self, argv):
        return ["nsenter", "-t", self.init, "-m", "-p", "--wd=/", "--", *argv]

    def env(self, **more):
        return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8",
                **{k: str(v) for k, v in more.items()}}

    def run(self, argv, env=None, **how):
        return self.ctx.run(self.command(argv), env=env or self.env(), **how)

    def start(self, argv, env=None, **how):
        return self.ctx.start(self.command(argv), env=env or self.env(), **how)

    def scope(self, *words, code=0, **how):
        result = self.run([self.ctx.scope, *words], **how)
        check(code is None or result.code == code, result.describe(), self.log())
        return result

    def path(self, name):
        """A file of the box, as seen from outside."""
        return Path(f"/proc/{self.init}/root") / str(name).lstrip("/")

    def read(self, name):
        with contextlib.suppress(FileNotFoundError):
            return self.path(name).read_bytes()
        return None

    def write(self, name, text, mode=0o644):
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        os.chmod(path, mode)

    def log(self):
        return (self.read("/var/log/appscope.log") or b"").decode(errors="replace")[-3000:]

    def files(self, *tops):
        """Names of all files below these directories."""
        found = set()
        for top in tops:
            for directory, _below, names in os.walk(self.path(top)):
                found |= {os.path.join(directory, n) for n in names}
        return found
