# SPDX-License-Identifier: Apache-2.0
"""Two ends of a connection that talk at once, in pieces of any size: `talk.py BYTES BYTES`, for each one what it sends. The
files got-a and got-b say what each one got; their ports are printed."""

import random
import socket
import sys
import threading

random.seed(7)
sent = [random.randbytes(int(n)) for n in sys.argv[1:3]]
listener = socket.create_server(("127.0.0.1", 0))
a = socket.create_connection(listener.getsockname())
b = listener.accept()[0]


def talk(s, out, n, into):
    def sender():
        at = 0
        while at < len(out):
            at += s.send(out[at:at + random.randrange(1, 50000)])
    t = threading.Thread(target=sender)
    t.start()
    got = bytearray()
    while len(got) < n:
        got += s.recv(random.randrange(1, 100000))
    t.join()
    with open(into, "wb") as f:
        f.write(got)


x = threading.Thread(target=talk, args=(a, sent[0], len(sent[1]), "got-a"))
x.start()
talk(b, sent[1], len(sent[0]), "got-b")
x.join()
print(a.getsockname()[1], b.getsockname()[1])
