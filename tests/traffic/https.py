# SPDX-License-Identifier: Apache-2.0
"""https.py PORT CERTIFICATE KEY LOG [forks]: a server for HTTPS; LOG gets a line METHOD TARGET STATUS for each request.

Each connection has a thread of its own, or a process.
"""

import http.server
import socketserver
import ssl
import sys

PORT, CERTIFICATE, KEY, LOG = int(sys.argv[1]), *sys.argv[2:5]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def log_request(self, code="-", size="-"):
        with open(LOG, "a", encoding="utf-8") as log:
            log.write(f"{self.command} {self.path} {int(code)}\n")

    def do_GET(self):
        body = b"HTTP/1.1 200 OK\r\n\r\n" * (200000 if self.path == "/big" else 1)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(303)
        self.send_header("Location", "/after")
        self.send_header("Content-Length", "0")
        self.end_headers()


class Secure:
    def finish_request(self, request, client_address):
        with context.wrap_socket(request, server_side=True) as secure:
            super().finish_request(secure, client_address)

    def handle_error(self, request, client_address):
        pass


class Threads(Secure, socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True


class Forks(Secure, socketserver.ForkingMixIn, http.server.HTTPServer):
    pass


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(CERTIFICATE, KEY)
(Forks if sys.argv[5:] else Threads)(("127.0.0.1", PORT), Handler).serve_forever()
