# SPDX-License-Identifier: Apache-2.0
"""A program on the screen of a terminal emulator: what a person would see, and keys."""

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time

from scopetest import check, equal


class Screen:
    """Runs a command on a terminal of its own, of some size. pyte knows no repetition (REP), which xterm has: so it is a
    screen(1)."""

    def __init__(self, ctx, argv, columns=80, rows=24, env=None):
        import pyte  # pylint: disable=import-outside-toplevel  # the emulated machine, where nothing is shown, has none

        self.raw = b""
        self.screen = pyte.Screen(columns, rows)
        self.stream = pyte.ByteStream(self.screen)
        self.master, slave = pty.openpty()
        self._size(columns, rows)
        self.modes = termios.tcgetattr(slave)
        env = {**ctx.env(TERM="screen-256color", LANG="C.UTF-8"), **(env or {})}
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setsid()
                fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
                for fd in (0, 1, 2):
                    os.dup2(slave, fd)
                os.closerange(3, 256)
                os.chdir(ctx.dir)
                os.execve(str(argv[0]), [str(a) for a in argv], env)
            finally:
                os._exit(99)
        self.slave = slave  # kept open: the modes are looked at when the program has ended

    def _size(self, columns, rows):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns, rows):
        self.screen.resize(rows, columns)
        self._size(columns, rows)

    def read(self, seconds):
        """Takes what comes within some time; False: nothing has come."""
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        try:
            piece = os.read(self.master, 65536)
        except OSError:
            return False
        self.raw += piece
        self.stream.feed(piece)
        return bool(piece)

    @property
    def lines(self):
        return [line.rstrip() for line in self.screen.display]

    @property
    def text(self):
        return "\n".join(self.lines)

    def wait(self, condition, what, seconds=30):
        """Until the screen fulfils a condition (a text that is on it, or a function of its text)."""
        fits = condition if callable(condition) else lambda text: condition in text
        deadline = time.monotonic() + seconds
        while not fits(self.text):
            check(time.monotonic() < deadline, f"{what}: not on the screen", self.text)
            self.read(0.1)
        return self.text

    def type(self, keys):
        os.write(self.master, keys if isinstance(keys, bytes) else keys.encode())

    def restored(self):
        """The terminal is as it was before: modes, cursor, main screen."""
        equal(termios.tcgetattr(self.slave)[:4], self.modes[:4], "modes of the terminal")
        check(self.raw.count(b"\x1b[?1049h") == self.raw.count(b"\x1b[?1049l"), "the alternate screen was left", self.raw[-300:])
        check(self.raw.rfind(b"\x1b[?25l") < self.raw.rfind(b"\x1b[?25h") or b"\x1b[?25l" not in self.raw, "the cursor is shown",
              self.raw[-300:])

    def end(self, status=0):
        """Waits for its end; a status below 0 is a signal."""
        deadline = time.monotonic() + 30
        while True:
            self.read(0.05)
            pid, got = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                break
            check(time.monotonic() < deadline, "it has ended", self.text)
        while self.read(0.05):
            pass
        self.pid = 0
        equal(os.waitstatus_to_exitcode(got), status, "exit status")

    def close(self):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.master)
        os.close(self.slave)
