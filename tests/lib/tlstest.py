# SPDX-License-Identifier: Apache-2.0
"""What tests of TLS share: a certificate, ports, programs that run observed while the test goes on."""

import os
import signal
import socket
import subprocess

from scopetest import Failure, check, free_port  # noqa: F401 (for those who import this)

WANTED = {"SCOPE_PAYLOAD_ENABLE": "true"}


def certificate(ctx):
    cert, key = ctx.dir / "cert.pem", ctx.dir / "key.pem"
    if not cert.exists():
        ctx.run([ctx.tool("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert,
                 "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
                check_code=0)
    return cert, key


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def start(ctx, argv, env=WANTED, stdin=subprocess.PIPE):
    process = subprocess.Popen(list(map(str, ctx.scope_argv(argv))), cwd=ctx.dir, env=ctx.env(**env), stdin=stdin,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    ctx.started.append(process)
    return process


def finish(ctx, process, what, code=0, stdin=b""):
    try:
        out, err = process.communicate(stdin, timeout=ctx.left())
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise Failure(f"{what} took too long", out[-2000:], err[-2000:]) from None
    check(process.returncode == code, f"{what} ended with {process.returncode}", out[-2000:], (err or b"")[-2000:])
    return out, err
