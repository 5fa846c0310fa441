# SPDX-License-Identifier: Apache-2.0
"""Many requests over many connections of TLS at once: as many requests and responses are told as the client counts."""

import os
import re
import signal
import subprocess

from scopetest import check, equal
from tlstest import listens

REQUESTS, CONNECTIONS = 10000, 100
# Nothing is to give way, and nothing is to be held back.
FLAGS = ["--lossless"]
ENV = {"SCOPE_EVENT_MAXEPS": "0"}


def start(ctx, argv, flags):
    process = subprocess.Popen([str(a) for a in ctx.scope_argv(argv, flags)], cwd=ctx.dir, env=ctx.env(**ENV), stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
    ctx.started.append(process)
    return process


def scale(ctx, argv, port=None):
    """argv: of a server, which prints its port if none is given, and ends with its input, or by SIGTERM."""
    process = start(ctx, argv, FLAGS)
    if port:
        ctx.wait_for(lambda: process.poll() is not None or listens(port), "the server")
    else:
        port = int(process.stdout.readline())
    asked = ctx.run([ctx.tool("h2load"), "--h1", "-n", REQUESTS, "-c", CONNECTIONS, f"https://127.0.0.1:{port}/scale"], check_code=0,
                    timeout=ctx.left())
    said = re.search(rb"requests: (\d+) total, (\d+) started, (\d+) done, (\d+) succeeded", asked.out)
    check(said and {int(n) for n in said.groups()} == {REQUESTS}, "what the client says", asked.describe())
    session = ctx.session()
    # The client has an answer before the server's call has returned.
    ctx.wait_for(lambda: len(session.events(source="http.resp")) >= REQUESTS, "all responses", 30, 1)
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=ctx.left())
    session.wait_end()
    for source in ("http.req", "http.resp"):
        told = session.events(source=source, sync=False)
        equal(len(told), REQUESTS, source)
        equal({(e["data"]["http_target"], e["data"]["http_scheme"]) for e in told}, {("/scale", "https")}, f"targets of {source}")
    equal({e["data"]["http_status_code"] for e in session.events(source="http.resp", sync=False)}, {200}, "status")
    equal({k: n for k, n in session.lost().items() if n}, {}, "losses")
    equal(session.meta["tls_unread"], {}, "connections that could not be read")
