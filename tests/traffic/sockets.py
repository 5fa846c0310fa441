# SPDX-License-Identifier: Apache-2.0
"""sockets.py KIND PORT...: sends and receives in ways that are hard to record."""

import os
import socket
import sys
import tempfile
import time

KIND, PORTS = sys.argv[1], [int(p) for p in sys.argv[2:]]


def peers():
    """One datagram socket, two peers, which answer in capitals."""
    with socket.socket(type=socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        for text in (b"one", b"two"):
            for port in PORTS:
                s.sendto(text + b" to %d" % port, ("127.0.0.1", port))
                s.recvfrom(100)


def datagrams():
    """A question to each port from one socket, and a pair of sockets that nobody closes."""
    question = b"\0\1\1\0\0\1\0\0\0\0\0\0\4name\4test\0\0\1\0\1"
    with socket.socket(type=socket.SOCK_DGRAM) as s:
        for port in PORTS:
            s.sendto(question, ("127.0.0.1", port))
            s.recvfrom(100)
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for i in range(3):
        a.send(b"datagram %d" % i)
    for i in range(3):
        b.recv(100)
    os._exit(0)


def again():
    """The same pair of ports for two connections."""
    local = None
    for text in (b"first", b"second"):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            for _ in range(100):
                try:
                    s.bind(local or ("127.0.0.1", 0))
                    break
                except OSError: # another program has a connection on it just now
                    time.sleep(0.05)
            s.connect(("127.0.0.1", PORTS[0]))
            local = s.getsockname()
            s.sendall(text)
            assert s.recv(100) == text.upper()
            # the peer doesn't wait for it (TIME-WAIT)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def file():
    """A file between two texts, which no buffer of the program holds."""
    with socket.socket() as s, tempfile.TemporaryFile() as f:
        f.write(b"f" * 100000)
        f.flush()
        s.connect(("127.0.0.1", PORTS[0]))
        s.sendall(b"before")
        assert os.sendfile(s.fileno(), f.fileno(), 0, 100000) == 100000
        s.sendall(b"after")


def pieces():
    """What begins as TLS and is none, and a ClientHello, byte after byte."""
    hello = bytes.fromhex("1603010200010001fc0303") + bytes(506)
    for text in (b"\x16\x03\x01 is no TLS", hello):
        with socket.socket() as s:
            s.connect(("127.0.0.1", PORTS[0]))
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for i in range(15):
                s.sendall(text[i:i + 1])
            s.sendall(text[15:])


def pair():
    """A unix socket, whose other end is a child's."""
    a, b = socket.socketpair()
    if os.fork() == 0:
        a.close()
        b.sendall(b.recv(100).upper())
        os._exit(0)
    b.close()
    a.sendall(b"unix")
    assert a.recv(100) == b"UNIX"
    os.wait()


{"peers": peers, "datagrams": datagrams, "again": again, "file": file, "pieces": pieces, "pair": pair}[KIND]()
