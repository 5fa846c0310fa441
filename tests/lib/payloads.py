# SPDX-License-Identifier: Apache-2.0
"""Sessions with captured traffic, as the collector writes them (docs/data-model.md, "Payloads")."""

import json

START = 1700000000 * 10**9


class Payloads:
    """The files of one store. Times are nanoseconds after the session's beginning."""

    def __init__(self, ctx, number, **meta):
        path = ctx.home / "history" / str(number)
        path.mkdir(parents=True)
        self.session, self.dir, self.flows, self.sizes = number, path / "payloads", 0, {}
        self.dir.mkdir()
        (path / "session.json").write_text(json.dumps({
            "version": 1, "id": number, "command": "curl", "argv": ["curl"], "cwd": "/", "kind": "run", "pid": 10,
            "collector": 999999, "start_ns": START, "end_ns": START + 10**9, "payload_dir": str(self.dir),
            "exit_code": 0, "exit_signal": 0, "telemetry_stopped": False, **meta}))
        self.line(type="index", version=1, session=number, start_ns=START)

    def line(self, **members):
        with open(self.dir / "index.ndjson", "a", encoding="utf-8") as f:
            f.write(json.dumps(members) + "\n")

    def flow(self, at=0, **members):
        """Begins a flow; returns its number."""
        self.flows += 1
        members = {"pid": 42, "fd": 5, "proc": "curl", "net_transport": "IP.TCP", "tls": False, "net_peer_ip": "10.0.0.9",
                   "net_peer_port": 80, "net_host_ip": "10.0.0.5", "net_host_port": 51000 + self.flows,
                   "channel": str(START + self.flows), **members}
        members = {k: v for k, v in members.items() if v is not None}
        self.line(type="flow", flow=self.flows, time_ns=START + at, in_file=f"f{self.flows}.in",
                  out_file=f"f{self.flows}.out", **members)
        for way in ("in", "out"):
            (self.dir / f"f{self.flows}.{way}").touch()
        return self.flows

    def data(self, flow, way, data, at=0):
        path = self.dir / f"f{flow}.{way}"
        size = path.stat().st_size
        with open(path, "ab") as f:
            f.write(data)
        self.line(type="data", flow=flow, dir=way, time_ns=START + at, at=size, len=len(data))

    def gap(self, flow, way, length, at=0):
        size = (self.dir / f"f{flow}.{way}").stat().st_size
        self.line(type="gap", flow=flow, dir=way, time_ns=START + at, at=size, len=length)

    def end(self, flow, at=0, reason="local"):
        self.line(type="end", flow=flow, time_ns=START + at, reason=reason)

    def exchange(self, request, response, at=0, **members):
        """A flow of one request and its response."""
        flow = self.flow(at, **members)
        first, second = ("in", "out") if members.get("role") == "server" else ("out", "in")
        self.data(flow, first, request, at + 1000)
        self.data(flow, second, response, at + 2000)
        self.end(flow, at + 3000)
        return flow
