# SPDX-License-Identifier: Apache-2.0
"""The layer for AWS Lambda in an emulated execution environment (tests/lib/lambdaenv.py)."""

import json
import re
import socket
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from lambdaenv import RUNTIMES, Layer, environment
from otlp import Receiver
from scopetest import SLACK, TOP, check, equal, test

# Each file that the function writes, and nothing else.
FILES = """
event:
  watch:
    - type: fs
      name: .*
      field: .*
      value: .*
    - type: http
"""


def written(events, n):
    """The function's file n was opened and closed with n bytes in it."""
    name = f"/tmp/work-{n}"
    of = [e["data"] for e in events if e["data"].get("file") == name]
    return [d for d in of if d.get("file_write_bytes") == n]


def all_written(report, steps):
    """What each invocation did had been told when it was frozen."""
    for step, invocation in zip(steps, report.invocations):
        check(written(report.events(until=invocation["lines"]), step["n"]), f"invocation {step['n']} was frozen before it was told",
              report.describe())


def same_as_bare(ctx, runtime, steps, **how):
    observed = environment(ctx, runtime, steps, files={"scope.yml": FILES}, **how)
    bare = environment(ctx, runtime, steps, observed=False, **how)
    equal((observed.answers(), observed.lines("runtime"), observed.lines("runtime.err"), observed.errors),
          (bare.answers(), bare.lines("runtime"), bare.lines("runtime.err"), bare.errors), "what the function does; " + observed.describe())
    equal(observed.all["runtime_status"], bare.all["runtime_status"], "status of the runtime")
    return observed


def each_runtime(runtime, layer=lambda ctx: None):
    def run(ctx):
        steps = [{"n": n} for n in range(1, 6)]
        report = same_as_bare(ctx, runtime, steps, layer=layer(ctx))
        equal(report.all["registered"], ["appscope", {"events": ["INVOKE", "SHUTDOWN"]}], "registration")
        all_written(report, steps)
        check(report.all["shutdown_s"] < 2, "took too long to shut down", report.describe())
        equal((report.all["extension_status"], report.lines("extension.err")), (0, []), "the extension")
        starts = [e for e in report.events() if e["source"] == "http.req"]
        equal({(e["faas.name"], e["faas.version"], e["cloud.region"]) for e in starts}, {("shop", "$LATEST", "eu-central-1")}, "tags")
    return run


def with_plans_of(program):
    """A layer made with a program and its libraries: nothing has to be found out about them at the start."""
    def layer_of(ctx):
        root = ctx.fresh("runtime")
        listed = ctx.run([ctx.tool("ldd"), program], check_code=0).out.decode()
        files = [Path(p).resolve() for p in (program, *re.findall(r"(/\S+)", listed))]
        for path in files:
            to = root / ("usr/bin" if path.parent.name == "bin" else "usr/lib64") / path.name
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(path.read_bytes())
        made = Layer(ctx, root, Path(program).name)
        equal(len(list((made.opt / "plans").iterdir())), len(files), "plans")
        return made
    return layer_of


for _name in RUNTIMES:
    # What node takes to plan is more than a busy machine has time for.
    test(f"runtime/{_name}")(each_runtime(_name, *([with_plans_of("/usr/bin/node")] if _name == "node" else [])))


@test("shipped_plans")
def shipped_plans(ctx):
    report = environment(ctx, "node", [{"n": 1, "do": "environment"}], layer=with_plans_of("/usr/bin/node")(ctx))
    equal((report.errors, report.answers()), ([], [["response", '{"plans":"/opt/plans"}']]), report.describe())
    result = ctx.run([TOP / "dev/lambda-layer", "--scope", ctx.scope, "--runtime", ctx.fresh("nothing")])
    check(result.code == 1 and b"has none of a runtime's programs" in result.err, result.describe())


@test("freezes")
def freezes(ctx):
    """Fifty of them: everything in front of each, each thing once, in order."""
    steps = [{"n": n} for n in range(1, 51)]
    report = environment(ctx, "python", steps, files={"scope.yml": FILES}, freeze=0.005)
    equal(report.errors, [], report.describe())
    all_written(report, steps)
    told = [e["data"]["file_write_bytes"] for e in report.events()
            if e["source"] == "fs.close" and e["data"]["file"].startswith("/tmp/work-")]
    equal(told, list(range(1, 51)), "files")
    posts = [e["data"]["http_target"] for e in report.events() if e["source"] == "http.req" and e["data"]["http_method"] == "POST"]
    equal(posts, [f"/2018-06-01/runtime/invocation/{i['id']}/response" for i in report.invocations], "what the runtime answered")
    report.all["waits"] = [i["extension_asked"] - i["runtime_asked"] for i in report.invocations]
    check(sorted(report.all["waits"])[25] < 0.1 * SLACK, "the extension is late", report.all["waits"])


@test("background")
def background(ctx):
    """A thread that goes on when the invocation has been answered is frozen with everything else; an error that the function
    tells Lambda is an answer like others."""
    steps = [{"n": 1, "do": "thread"}, {"n": 2, "do": "raise"}, {"n": 3}, {"n": 4}]
    report = same_as_bare(ctx, "python", steps)
    equal([kind for kind, _ in report.answers()], ["response", "error", "response", "response"], "answers")
    all_written(report, steps)


class Sink:
    """Takes lines over TCP; when they came. reads: or only the connection."""

    def __init__(self, reads=True):
        self.lines, self.reads = [], reads
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"tcp://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        connection, _ = self.socket.accept()
        self.connection = connection
        if not self.reads:
            return
        with connection.makefile("rb") as stream:
            for line in stream:
                self.lines.append((time.monotonic(), line))


@test("tcp", serial=True)  # what is told at the end has two seconds of real time, as Lambda gives
def tcp(ctx):
    """Sent elsewhere it has left the environment before the freeze: nothing is sent while it lasts, so what is in time has
    come when it begins."""
    sink, metrics = Sink(), Sink()
    steps = [{"n": n} for n in range(1, 11)]
    report = environment(ctx, "python", steps, files={"scope.yml": FILES}, freeze=0.1,
                         env={"SCOPE_EVENT_DEST": sink.url, "SCOPE_METRIC_DEST": metrics.url, "SCOPE_METRIC_FORMAT": "statsd"})
    equal((report.errors, report.lines("extension"), report.lines("extension.err")), ([], [], []), report.describe())
    ctx.wait_for(lambda: any(b"proc.exit" in line or b"work-10" in line for _, line in sink.lines), "the last lines")
    ctx.wait_for(lambda: any(b"proc.cpu" in line and b"faas.name:shop" in line for _, line in metrics.lines), "metrics at the end")
    for step, invocation in zip(steps, report.invocations):
        in_time = [json.loads(line)["body"] for t, line in sink.lines if t < invocation["frozen"] + 0.09 and b'"evt"' in line]
        check(written(in_time, step["n"]), f"invocation {step['n']} was frozen before it was told")


class Shop(BaseHTTPRequestHandler):
    def log_message(self, *args):  # pylint: disable=arguments-differ
        pass

    def do_GET(self):  # pylint: disable=invalid-name
        self.send_response(204)
        self.end_headers()


@test("otlp")
def otlp(ctx):
    """Spans have arrived, too; the resource says which function it was."""
    receiver, shop = Receiver(ctx), ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    threading.Thread(target=shop.serve_forever, daemon=True).start()
    to = f"127.0.0.1:{shop.server_port}"
    steps = [{"n": n, "do": "http", "to": to} for n in range(1, 4)]
    report = environment(ctx, "python", steps, env={"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "SCOPE_OTLP_ENABLE": "true"})
    equal((report.errors, report.lines("extension"), report.lines("extension.err")), ([], [], []), report.describe())
    spans = [s for s in receiver.spans() if s["attributes"].get("url.full", "").startswith(f"http://{to}/price/")]
    equal(sorted(s["attributes"]["url.full"].rpartition("/")[2] for s in spans), ["1", "2", "3"], "spans")
    equal([s["attributes"].get("faas.invocation_id") for s in sorted(spans, key=lambda s: s["attributes"]["url.full"])],
          [i["id"] for i in report.invocations], "invocations")
    want = {"service.name": "shop", "faas.name": "shop", "faas.version": "$LATEST", "cloud.provider": "aws",
            "cloud.platform": "aws_lambda", "cloud.region": "eu-central-1",
            "faas.instance": "2026/01/02/[$LATEST]0123456789abcdef"}
    equal({k: v for k, v in spans[0]["resource"].items() if k in want}, want, "resource")


@test("collector_killed")
def collector_killed(ctx):
    """The function goes on unobserved, and Lambda, which would end the environment with an extension, sees none end."""
    steps = [{"event": {"n": 1}}, {"event": {"n": 2}, "kill": "collector"}, {"event": {"n": 3}}, {"event": {"n": 4}}]
    report = environment(ctx, "python", steps)
    equal([a[1] for a in report.answers()], [json.dumps({"twice": 2 * n}) for n in range(1, 5)], "answers")
    equal((report.errors, report.lines("runtime.err"), report.all["extension_status"]), ([], [], 0), report.describe())
    equal(report.lines("extension.err"),
          ["scope: the collector has ended (signal 9): what the function does is no longer told"], "what is said")
    check(report.all["shutdown_s"] < 2, "took too long to shut down", report.describe())


@test("extension_killed")
def extension_killed(ctx):
    """Lambda would end the environment; whatever it does, the function notices nothing."""
    steps = [{"event": {"n": 1}}, {"event": {"n": 2}, "kill": "extension"}, {"event": {"n": 3}}]
    report = environment(ctx, "python", steps, forgiving=True)
    equal([a[1] for a in report.answers()], [json.dumps({"twice": 2 * n}) for n in range(1, 4)], "answers")
    equal((report.errors, report.lines("runtime.err"), report.all["runtime_status"]), ([], [], -15), report.describe())


@test("register_refused")
def register_refused(ctx):
    report = environment(ctx, "python", [], refuse=True)
    equal((report.errors, report.all["extension_status"]), (["Extension.Crash"], 1), "what Lambda sees")
    equal(report.lines("extension.err"), ["scope: extension/register: answered with 500 Internal Server Error"], "what is said")


@test("init_error")
def init_error(ctx):
    """A function whose initialisation fails: it says so to Lambda, and what it did until then is told."""
    report = same_as_bare(ctx, "python", [{"n": 1}], env={"INIT": "raise"})
    equal((report.all["shutdown"], report.all["extension_status"]), ("failure", 0), report.describe())
    check(any(e["source"] == "http.req" and e["data"]["http_target"].endswith("/init/error") for e in report.events()),
          "what it did", report.describe())


@test("exits")
def exits(ctx):
    """A function that ends its runtime in the middle of an invocation."""
    steps = [{"n": 1}, {"n": 2, "do": "exit"}]
    report = same_as_bare(ctx, "python", steps)
    equal((report.errors, report.all["runtime_status"], report.all["shutdown"]), (["Runtime.ExitError"], 3, "failure"), report.describe())
    check(written(report.events(), 2), "what it did", report.describe())


@test("timeout")
def timeout(ctx):
    """An invocation that takes longer than it may."""
    steps = [{"n": 1}, {"event": {"n": 2, "do": "sleep"}, "timeout": 1}]
    report = environment(ctx, "python", steps, files={"scope.yml": FILES})
    equal((report.errors, report.all["shutdown"], report.all["extension_status"]), (["Sandbox.Timedout"], "timeout", 0), report.describe())
    check(written(report.events(), 2), "what it did", report.describe())
    check(report.all["shutdown_s"] < 2, "took too long to shut down", report.describe())


@test("slow_destination")
def slow_destination(ctx):
    """Two seconds are all there is to shut down in, even if somebody takes nothing."""
    sink = Sink(reads=False)
    for url in (sink.url, "tcp://127.0.0.1:1"):
        report = environment(ctx, "python", [{"n": 1}], env={"SCOPE_EVENT_DEST": url, "SCOPE_METRIC_DEST": url})
        equal((report.errors, report.all["extension_status"]), ([], 0), report.describe())
        check(report.all["shutdown_s"] < 2, "took too long to shut down", report.describe())


@test("alone")
def alone(ctx):
    """The wrapper without the extension, and the other way round: the function runs, and one of them says why it isn't
    observed."""
    report = environment(ctx, "python", [{"n": 1}], extension=None)
    equal((report.errors, report.answers()[0][1], report.lines("runtime.err")),
          ([], '{"twice": 2}', ["scope: /usr/bin/python3 runs unobserved: no extension of AppScope runs here"]), report.describe())
    report = environment(ctx, "python", [{"n": 1}, {"n": 2}, {"n": 3}], wrapper=[])
    equal((report.errors, report.events(), report.lines("extension.err")), ([], [], []), report.describe())
    for invocation in report.invocations[1:]:
        check(invocation["extension_asked"] - invocation["began"] < 0.5 * SLACK, "it waits for nothing", report.describe())


@test("no_ptrace")
def no_ptrace(ctx):
    """If nothing may be traced there a static function runs unobserved, and a line says so."""
    report = environment(ctx, "c", [{"n": 1}, {"n": 2}],
                         change=lambda box: box.seccomp(TOP / "tests/containers/seccomp-podman.json"))
    equal((report.errors, [a[1] for a in report.answers()]), ([], ['{"twice": 2}', '{"twice": 4}']), report.describe())
    equal(report.lines("runtime.err"), [], "the function's errors")
    said = report.lines("extension.err")
    check(len(said) == 1 and "trace" in said[0], "what is said", report.describe())


@test("bad_config")
def bad_config(ctx):
    report = environment(ctx, "python", [{"n": 1}], files={"scope.yml": "event:\n  watch: 5\n"})
    equal((report.errors, report.answers()[0][1], report.lines("runtime.err")), ([], '{"twice": 2}', []), report.describe())
    check(any("/var/task/scope.yml:2" in line for line in report.lines("extension.err")), "what is said", report.describe())


@test("layer")
def layer(ctx):
    """The zip is the same each time, small, and has what Lambda starts where Lambda looks for it."""
    one = Layer(ctx).zip.read_bytes()
    ctx.run([TOP / "dev/lambda-layer", "--scope", ctx.scope, "--output", ctx.dir / "again.zip"], env=ctx.env(TZ="Asia/Kolkata"),
            check_code=0)
    equal((ctx.dir / "again.zip").read_bytes() == one, True, "the same bytes")
    check(len(one) < 20_000_000, "size", len(one))
    with zipfile.ZipFile(ctx.dir / "again.zip") as archive:
        modes = {i.filename: oct(i.external_attr >> 16) for i in archive.infolist()}
    equal(modes, {"appscope": "0o100755", "extensions/appscope": "0o100755", "scope_exec": "0o100755",
                  "lib/libscope.so": "0o100755", "share/doc/scope/LICENSE": "0o100644"}, "what is in it")
    result = ctx.run([TOP / "dev/lambda-layer", "--arch", "mips"])
    check(result.code == 1 and b"Lambda has no mips" in result.err, result.describe())
    result = ctx.run([ctx.scope, "lambda-extension", "/opt/extensions/appscope"])
    check(result.code == 1 and b"AWS_LAMBDA_RUNTIME_API is not set" in result.err, result.describe())
