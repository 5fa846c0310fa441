# SPDX-License-Identifier: Apache-2.0
"""A web server for tests, which says itself what it was asked."""

import http.client
import os
import signal

from scopetest import free_port
from traffic import running


class Nginx:
    """An nginx that logs what it was asked, and how long that took: as seconds with three digits."""

    def __init__(self, ctx, more=""):
        self.ctx, self.port, self.dir = ctx, free_port(), ctx.fresh("nginx")
        (self.dir / "root").mkdir()
        (self.dir / "root" / "small").write_bytes(b"x" * 100)
        user = "user root;" if os.geteuid() == 0 else ""
        temp = "".join(f"{k}_temp_path {self.dir}/t-{k};" for k in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (self.dir / "nginx.conf").write_text(f"""{user} worker_processes 2; daemon off;
            pid {self.dir}/pid; error_log {self.dir}/error.log;
            events {{ worker_connections 256; }}
            http {{ log_format own '$request_method $request_uri $status $request_time $msec';
                    access_log {self.dir}/access.log own; {temp} keepalive_requests 1000000;
                    server {{ listen 127.0.0.1:{self.port}; root {self.dir}/root; {more} }} }}""")
        self.argv = [ctx.tool("nginx"), "-c", self.dir / "nginx.conf", "-p", self.dir]

    def running(self, env, flags=("--lossless",)):
        return running(self.ctx, self.argv, self.port, flags, signal.SIGQUIT, env)

    def log(self):
        """(method, target, status, seconds, time of the end) of each request."""
        lines = (self.dir / "access.log").read_text().splitlines()
        return [(m, t, int(s), float(d), float(at)) for m, t, s, d, at in (line.split() for line in lines)]

    def ask(self, numbers, headers=lambda n: {}):
        """Requests over one connection, each with a number that it can be known by."""
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=100)
        for n in numbers:
            method, path = ("HEAD", "/small") if n % 10 == 1 else ("GET", "/missing" if n % 10 == 2 else "/small")
            c.request(method, f"{path}?n={n}", headers=headers(n))
            c.getresponse().read()
        c.close()
