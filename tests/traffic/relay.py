# SPDX-License-Identifier: Apache-2.0
"""relay.py socket|pipe PORT COMMAND...: passes one connection of COMMAND on to PORT; %d in COMMAND is where to. With "pipe" by
two processes that have pipes between them. A TLS library is loaded, and not used."""

import os
import socket
import ssl  # noqa: F401
import subprocess
import sys
import threading
from contextlib import suppress


def copy(read, write, end):
    while data := read(65536):
        write(data)
    end()


def both(a, b):
    """Two ends, each a way to read, to write and to end."""
    back = threading.Thread(target=copy, args=(b[0], a[1], a[2]))
    back.start()
    copy(a[0], b[1], b[2])
    back.join()


def end_of(s):
    def end():
        with suppress(OSError): # it has hung up
            s.shutdown(socket.SHUT_WR)
    return s.recv, s.sendall, end


def end_of_pipe(read, write):
    return lambda n: os.read(read, n), lambda data: os.write(write, data), lambda: os.close(write)


how, port, *command = sys.argv[1:]
listener = socket.create_server(("127.0.0.1", 0))
client = subprocess.Popen([a % listener.getsockname()[1] if "%d" in a else a for a in command])
if how == "pipe":
    there, back = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(there[1])
        os.close(back[0])
        with socket.create_connection(("127.0.0.1", int(port))) as s:
            both(end_of_pipe(there[0], back[1]), end_of(s))
        os._exit(0)
    os.close(there[0])
    os.close(back[1])
with listener.accept()[0] as s:
    if how == "pipe":
        both(end_of(s), end_of_pipe(back[0], there[1]))
        os.waitpid(child, 0)
    else:
        with socket.create_connection(("127.0.0.1", int(port))) as to:
            both(end_of(s), end_of(to))
sys.exit(client.wait())
