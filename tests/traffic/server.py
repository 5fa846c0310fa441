# SPDX-License-Identifier: Apache-2.0
"""server.py KIND PORT LOG: HTTP/1.1 servers of Python's library; LOG gets a line METHOD TARGET STATUS for each request.

KIND: threads, or forks (a child for each connection).
"""

import http.server
import socketserver
import sys

KIND, PORT, LOG = sys.argv[1], int(sys.argv[2]), sys.argv[3]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def log_request(self, code="-", size="-"):
        if int(code) >= 200:
            with open(LOG, "a", encoding="utf-8") as log:
                log.write(f"{self.command} {self.path} {int(code)}\n")

    def log_message(self, *args):
        pass

    def handle_expect_100(self):
        if not self.path.startswith("/refuses"):
            return super().handle_expect_100()
        self.answer(417)
        self.wfile.flush()
        return False

    def answer(self, status, body=b"", **fields):
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status not in (204, 304):
            self.wfile.write(body)

    def do_GET(self):
        what = self.path.split("?")[0]
        if what == "/chunked":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for n in (1, 10, 5000, 70000):
                self.wfile.write(b"%x\r\n" % n + b"HTTP/1.1 200 OK\r\n\r\n"[:n].ljust(n, b"x") + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")
        elif what == "/big":
            self.answer(200, b"GET / HTTP/1.1\r\n\r\n" * 250000)
        elif what == "/half":
            self.answer(200, b"GET / HTTP/1.1\r\n\r\n" * 30000)
        elif what.startswith("/status/"):
            self.answer(int(what[8:]), b"status", X_Test="yes", Set_Cookie="secret=1")
        else:
            self.answer(200, b"hello " + what.encode())

    do_HEAD = do_GET

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(201, b"%d" % len(body))

    do_PUT = do_POST


class Threads(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 128


class Forks(socketserver.ForkingMixIn, http.server.HTTPServer):
    pass


{"threads": Threads, "forks": Forks}[KIND](("127.0.0.1", PORT), Handler).serve_forever()
