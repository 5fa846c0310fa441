# SPDX-License-Identifier: Apache-2.0
"""https.py PORT CERTIFICATE KEY LOG: a server for HTTPS; LOG gets a line METHOD TARGET STATUS for each request."""

import http.server
import ssl
import sys

PORT, CERTIFICATE, KEY, LOG = int(sys.argv[1]), *sys.argv[2:]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

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


server = http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(CERTIFICATE, KEY)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
