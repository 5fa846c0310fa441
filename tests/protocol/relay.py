#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a client with a relay between it and its server, which records what passes.

    relay.py udp|tcp [ADDRESS:]LISTEN_PORT SERVER_PORT FILE CLIENT [ARG...]

FILE gets a line for each piece or datagram: "tx" or "rx" (as the client sees
it), nanoseconds, hexadecimal digits. Connections follow each other in it after
a line "--". Output and exit status are the client's.
"""

import socket
import subprocess
import sys
import threading
import time


class Recorder:
    def __init__(self, path):
        self.file, self.lock = open(path, "w", encoding="ascii"), threading.Lock()

    def note(self, direction, data):
        with self.lock:
            self.file.write(f"{direction} {time.monotonic_ns()} {data.hex()}\n")
            self.file.flush()

    def next(self):
        with self.lock:
            self.file.write("--\n")
            self.file.flush()


def pump(source, target, direction, recorder):
    try:
        while data := source.recv(65536):
            recorder.note(direction, data)
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def relay_tcp(listener, port, recorder):
    while True:
        client, _ = listener.accept()
        with client, socket.create_connection(("127.0.0.1", port)) as server:
            back = threading.Thread(target=pump, args=(server, client, "rx", recorder), daemon=True)
            back.start()
            pump(client, server, "tx", recorder)
            back.join()
        recorder.next()


def relay_udp(front, port, recorder):
    """One socket towards the server for each client."""
    behind = {}

    def answers(server, client):
        while True:
            data = server.recv(65536)
            recorder.note("rx", data)
            front.sendto(data, client)

    while True:
        data, client = front.recvfrom(65536)
        recorder.note("tx", data)
        if client not in behind:
            behind[client] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            behind[client].connect(("127.0.0.1", port))
            threading.Thread(target=answers, args=(behind[client], client), daemon=True).start()
        behind[client].send(data)


def main():
    kind, listen, port, path, *client = sys.argv[1:]
    address, _, number = listen.rpartition(":")
    front = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    front.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    front.bind((address or "127.0.0.1", int(number)))
    if kind == "tcp":
        front.listen()
    target = relay_tcp if kind == "tcp" else relay_udp
    threading.Thread(target=target, args=(front, int(port), Recorder(path)), daemon=True).start()
    code = subprocess.call(client)
    time.sleep(0.2)  # what is still under way
    sys.exit(code)


main()
