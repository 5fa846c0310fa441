# SPDX-License-Identifier: Apache-2.0
"""Servers of which test_go.py, test_java.py and test_keys.py don't know."""

import os

from scopetest import add_test
from tlsscale import REQUESTS, scale
from tlstest import certificate, free_port


def nginx(ctx):
    cert, key = certificate(ctx)
    port = free_port()
    conf = ctx.dir / "nginx.conf"
    conf.write_text(f"""
        {"user root;" if os.geteuid() == 0 else ""} daemon off; worker_processes 2; pid {ctx.dir}/pid; error_log {ctx.dir}/error.log;
        events {{}}
        http {{ access_log off; client_body_temp_path {ctx.dir}/body; proxy_temp_path {ctx.dir}/proxy;
            fastcgi_temp_path {ctx.dir}/f; uwsgi_temp_path {ctx.dir}/u; scgi_temp_path {ctx.dir}/s; keepalive_requests {REQUESTS};
            server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {cert}; ssl_certificate_key {key};
                location / {{ return 200 "{'answer ' * 50}"; }} }} }}""")
    scale(ctx, [ctx.tool("nginx"), "-c", conf, "-e", ctx.dir / "error.log"], port)


add_test("tls", "scale-openssl", nginx, timeout=120)
