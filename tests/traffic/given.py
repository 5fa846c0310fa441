# SPDX-License-Identifier: Apache-2.0
"""given.py fork|exec: gives connections that it has accepted to a child (SCM_RIGHTS), forked only or another program, and is
their client itself. Prints the port of the server and those of the clients.
given.py serve: the child; what it gets connections through is its standard input.
given.py once: one request, read from standard input, is answered on standard output, as inetd(8) wants it."""

import os
import socket
import subprocess
import sys

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\ngiven"


def serve(pair):
    while fds := socket.recv_fds(pair, 1, 1)[1]:
        with socket.socket(fileno=fds[0]) as s:
            while s.recv(4096):
                s.sendall(ANSWER)


def give(how):
    mine, childs = socket.socketpair()
    if how == "exec":
        child = subprocess.Popen([sys.executable, __file__, "serve"], stdin=childs).pid
    elif not (child := os.fork()):
        mine.close()
        serve(childs)
        os._exit(0)
    childs.close()
    listener = socket.create_server(("127.0.0.1", 0))
    ports = [listener.getsockname()[1]]
    for i in range(3):
        with socket.create_connection(listener.getsockname()) as client:
            with listener.accept()[0] as s:
                socket.send_fds(mine, [b"x"], [s.fileno()])
            for j in range(2):
                client.sendall(b"GET /%d/%d HTTP/1.1\r\nHost: here\r\n\r\n" % (i, j))
                assert client.recv(4096) == ANSWER
            ports.append(client.getsockname()[1])
    mine.close()
    os.waitpid(child, 0)
    print(*ports)


if sys.argv[1] == "serve":
    serve(socket.socket(fileno=0))
elif sys.argv[1] == "once":
    os.read(0, 4096)
    os.write(1, ANSWER)
else:
    give(sys.argv[1])
