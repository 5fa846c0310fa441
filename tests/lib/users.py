# SPDX-License-Identifier: Apache-2.0
"""Users that a test makes, and removes again: real ones, with a name, a group and a home directory of their own.

    with users.make(ctx, "stranger") as stranger:
        ctx.run(stranger.command("sh", "-c", "id"))

Needs root, as all of tests/security does.
"""

import contextlib
import os
import pwd
import random
import subprocess

from scopetest import check


class User:
    def __init__(self, ctx, name, home):
        entry = pwd.getpwnam(name)
        self.ctx, self.name, self.uid, self.gid, self.home = ctx, name, entry.pw_uid, entry.pw_gid, home

    def command(self, *argv):
        """What runs a command as this user, without privileges and without a session of its own (no PAM)."""
        return [self.ctx.tool("setpriv"), f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups", "--", *argv]

    def env(self, **more):
        """The environment that goes with it: a home and a session store of its own."""
        return self.ctx.env(**{"HOME": self.home, "SCOPE_HOME": self.home / ".scope", "USER": self.name, **more})

    def directory(self, name, mode=0o755):
        """A new directory of this user's below its home."""
        path = self.home / name
        path.mkdir(parents=True)
        os.chown(path, self.uid, self.gid)
        os.chmod(path, mode)
        return path


def _account(*argv):
    # Several tests at once: useradd(8) and userdel(8) wait for /etc/.pwd.lock themselves.
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    check(done.returncode == 0, f"{' '.join(map(str, argv))}: {done.stdout}")


@contextlib.contextmanager
def make(ctx, role):
    """A user for the time of a test; its home lies in the test's directory. role: a word that its name begins with."""
    check(os.geteuid() == 0, "this test makes users: it needs root")
    name = f"{role[:12]}-{random.randrange(1 << 32):08x}"
    home = ctx.dir / f"home-{role}"
    home.mkdir()
    _account(ctx.tool("useradd"), "--no-create-home", "--home-dir", home, "--shell", "/bin/sh", "--user-group", name)
    try:
        user = User(ctx, name, home)
        os.chown(home, user.uid, user.gid)
        os.chmod(home, 0o755)
        yield user
    finally:
        _account(ctx.tool("userdel"), "--force", name)
