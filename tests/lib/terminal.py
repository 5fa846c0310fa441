# SPDX-License-Identifier: Apache-2.0
"""The tool on a terminal, as people use it."""

import fcntl
import os
import pty
import select
import struct
import termios
import time

from scopetest import check, equal


class Terminal:
    """Runs the tool on a terminal of its own of some width."""

    def __init__(self, ctx, *argv, columns=80, env=None):
        self.text = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                os.chdir(ctx.dir)
                fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
                os.execve(ctx.scope, [str(a) for a in (ctx.scope, *argv)], {**ctx.env(TERM="dumb"), **(env or {})})
            finally:
                os._exit(99)

    def read(self, until):
        """What it says, up to a text; None: all of it."""
        deadline = time.monotonic() + 20
        while until is None or until not in self.text:
            check(time.monotonic() < deadline, f"no {until!r} on the terminal", self.text)
            if select.select([self.fd], [], [], 0.5)[0]:
                try:
                    piece = os.read(self.fd, 65536)
                except OSError:  # EIO: the other side is closed
                    piece = b""
                if not piece:
                    check(until is None, f"no {until!r} on the terminal", self.text)
                    break
                self.text += piece
        return self.text.replace(b"\r\n", b"\n").decode()

    def type(self, text):
        os.write(self.fd, text.encode())

    def end(self, code=0):
        """All that it has said."""
        text = self.read(None)
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.fd)
        equal(status, code, f"exit status; {text}")
        return text


def on_terminal(ctx, columns, *argv):
    """The lines of a command on a terminal; none may be wider than that."""
    lines = Terminal(ctx, *argv, columns=columns).end().splitlines()
    check(all(len(line) <= columns for line in lines), f"{argv}: wider than {columns}", lines)
    return lines
