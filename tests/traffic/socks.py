# SPDX-License-Identifier: Apache-2.0
"""socks.py PORT: a SOCKS proxy (versions 4, 4a and 5, with a password if one is offered) that connects to 127.0.0.1
whatever it is asked for, and refuses port 1."""

import socket
import struct
import sys
import threading


def exactly(s, n):
    data = b""
    while len(data) < n:
        more = s.recv(n - len(data))
        if not more:
            raise OSError
        data += more
    return data


def text(s):
    found = b""
    while (byte := exactly(s, 1)) != b"\0":
        found += byte
    return found


def asked4(c):
    _, port, ip = struct.unpack(">BH4s", exactly(c, 7))
    text(c)
    if ip[:3] == b"\0\0\0":
        text(c)
    return port, b"\0\x5a" + bytes(6), b"\0\x5b" + bytes(6)


def asked5(c):
    methods = exactly(c, exactly(c, 1)[0])
    password = 2 in methods
    c.sendall(b"\5\2" if password else b"\5\0")
    if password:
        exactly(c, 1)
        exactly(c, exactly(c, 1)[0])
        exactly(c, exactly(c, 1)[0])
        c.sendall(b"\1\0")
    kind = exactly(c, 4)[3]
    exactly(c, {1: 4, 4: 16}.get(kind) or exactly(c, 1)[0])
    port, = struct.unpack(">H", exactly(c, 2))
    return port, b"\5\0\0\1" + bytes(6), b"\5\5\0\1" + bytes(6)


def pump(source, to):
    try:
        while data := source.recv(65536):
            to.sendall(data)
        to.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def serve(c):
    with c:
        port, yes, no = asked5(c) if exactly(c, 1) == b"\5" else asked4(c)
        if port == 1:
            c.sendall(no)
            return
        with socket.create_connection(("127.0.0.1", port)) as to:
            c.sendall(yes)
            back = threading.Thread(target=pump, args=(to, c))
            back.start()
            pump(c, to)
            back.join()


with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
