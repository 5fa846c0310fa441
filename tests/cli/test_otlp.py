# SPDX-License-Identifier: Apache-2.0
"""Configuration of OTLP as people meet it: flags, OpenTelemetry's variables, what is shown, and that secrets aren't."""

import json
import os
import stat

from scopetest import check, equal, test

NOWHERE = "http://127.0.0.1:1"  # refuses connections
SECRETS = {"OTEL_EXPORTER_OTLP_ENDPOINT": NOWHERE + "/x?key=sesame1", "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20sesame2",
           "SCOPE_OTLP_LOGS_HEADERS": "x-key=sesame3"}


def text_of(ctx, *argv, env=None, code=0):
    return ctx.run([ctx.scope, *argv], env=env, check_code=code).out.decode()


def otlp_of(ctx, pid):
    return json.loads(text_of(ctx, "inspect", pid))["cfg"]["current"]["otlp"]


@test()
def otlp_urls(ctx):
    """A URL that can't be used is an error as with other destinations; passwords in it are not shown."""
    for url, word in (("ftp://h", "unknown scheme"), ("h:4317", "scheme is missing"), ("", "scheme is missing"),
                      ("grpc://h:1/x", "gRPC has no path"), ("http://ann:sesame@h", "user name or password"),
                      ("http://::1:4318", "brackets"), ("http://h:99999", "port")):
        for command in (["run"], ["watch", "-i", "5s"]):
            result = ctx.run([ctx.scope, *command, f"--otlp={url}", "true"])
            message = result.err.decode()
            check(result.code == 2 and word in message and "--otlp" in message and "sesame" not in message, result.describe())
        result = ctx.run([ctx.scope, "attach", f"--otlp={url}", os.getpid()])
        check(result.code == 2 and word in result.err.decode(), result.describe())
        result = ctx.run([ctx.scope, "extract", f"--otlp={url}", ctx.dir])
        check(result.code == 2 and word in result.err.decode(), result.describe())
    conflict = ctx.run([ctx.scope, "run", "-u", "f", "--otlp", "true"])
    check(conflict.code == 2 and b"--userconfig and --otlp" in conflict.err, conflict.describe())
    check(not ctx.sessions(), "a usage error made a session")


@test()
def otlp_flag(ctx):
    """With a URL behind it or without; the environment that it stands above is the program's, unchanged."""
    for flags, env, where in (
            (["--otlp", NOWHERE], {}, f"traces, metrics, logs to {NOWHERE}"),
            ([f"--otlp={NOWHERE}/base/"], {}, f"traces, metrics, logs to {NOWHERE}/base"),
            (["--otlp", "grpc://127.0.0.1:1"], {}, "traces, metrics, logs to grpc://127.0.0.1:1"),
            (["--otlp", NOWHERE], {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://h"},
             f"traces, metrics, logs to {NOWHERE}"),
            (["--otlp"], {"SCOPE_OTLP_ENDPOINT": NOWHERE}, f"traces, metrics, logs to {NOWHERE}"),
            (["--otlp"], {"OTEL_EXPORTER_OTLP_ENDPOINT": NOWHERE, "OTEL_SDK_DISABLED": "true", "OTEL_LOGS_EXPORTER": "none"},
             f"traces, metrics to {NOWHERE}"),
            ([], {"OTEL_EXPORTER_OTLP_ENDPOINT": NOWHERE, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": NOWHERE + "/own"},
             f"traces to {NOWHERE}/own; metrics, logs to {NOWHERE}"),
            ([], {"OTEL_EXPORTER_OTLP_ENDPOINT": NOWHERE, "OTEL_SDK_DISABLED": "true"}, None)):
        result = ctx.scoped(["env"], flags, env=ctx.env(**env), check_code=0)
        equal(result.err, b"", "messages")
        got = dict(line.split("=", 1) for line in result.out.decode().splitlines() if line.startswith("OTEL_"))
        equal(got, {k: v for k, v in env.items() if k.startswith("OTEL_")}, "what the program has")
        number = result.session.meta["id"]
        equal(result.session.meta.get("otlp_dest"), where, "session.json")
        told = text_of(ctx, "history", "-i", number)
        check((where in told and "\nOTLP:" in told) if where else "OTLP" not in told, told)
        equal(json.loads(text_of(ctx, "history", "-j", "-i", number))["otlp_dest"], where or "")


@test()
def otlp_secrets(ctx):
    """Headers and queries are in no file and no answer; an update of a running process keeps them."""
    go = ctx.dir / "go"
    os.mkfifo(go)
    shell = ctx.start(ctx.scope_argv(["sh", "-c", f"read -r line <{go}"]), env=ctx.env(**SECRETS))
    ctx.wait_for(lambda: ctx.sessions() and ctx.tool_run("inspect", shell.pid, check_code=None).code == 0, "shell observed")
    before = otlp_of(ctx, shell.pid)
    equal(before["traces"]["headers"], {"authorization": "***"})
    equal(before["logs"]["headers"], {"x-key": "***"}, "in place of those of all signals")
    equal(before["traces"]["endpoint"], NOWHERE + "/x/v1/traces?***")
    new = ctx.dir / "new.yml"
    new.write_text("otlp: {timeout: 77}\n")
    ctx.tool_run("update", shell.pid, "-c", new)
    after = otlp_of(ctx, shell.pid)
    equal(after["traces"], {**before["traces"], "timeout": 77}, "after an update")
    equal(after["logs"]["headers"], {"x-key": "***"}, "after an update")
    everything = text_of(ctx, "inspect", shell.pid) + text_of(ctx, "history", "-j") + text_of(ctx, "config", "show", env=ctx.env(**SECRETS))
    check("sesame" not in everything, "secrets are shown", everything)
    shell.kill()
    shell.wait()
    ctx.session().wait_end()
    for path in ctx.session().dir.rglob("*"):
        if path.is_file():
            check(b"sesame" not in path.read_bytes(), f"{path} has a secret")
    equal(stat.S_IMODE(ctx.session().dir.stat().st_mode), 0o700, "mode of the session")


@test()
def otlp_mistakes(ctx):
    """Each is named once, with what happens instead, in the log; the program runs as ever."""
    wrong = {"OTEL_EXPORTER_OTLP_ENDPOINT": NOWHERE, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json",
             "OTEL_EXPORTER_OTLP_TIMEOUT": "soon", "OTEL_EXPORTER_OTLP_HEADERS": "a b=sesame", "OTEL_TRACES_SAMPLER": "xray",
             "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://ann:sesame@h", "OTEL_METRIC_EXPORT_INTERVAL": "-5"}
    result = ctx.scoped(["sh", "-c", "echo done; exit 7"], env=ctx.env(**wrong))
    equal((result.code, result.out, result.err), (7, b"done\n", b""), "the program")
    log = text_of(ctx, "logs")
    for name, instead in (("PROTOCOL", "http/protobuf is used instead"), ("TIMEOUT", "10000 is used instead"),
                          ("HEADERS", "such headers aren't sent"), ("LOGS_ENDPOINT", "this signal is off")):
        lines = [line for line in log.splitlines() if f"OTEL_EXPORTER_OTLP_{name}: " in line]
        check(len(lines) == 1 and instead in lines[0], f"what is said of {name}", log)
    check(log.count("OTEL_TRACES_SAMPLER: ") == 1 and log.count("OTEL_METRIC_EXPORT_INTERVAL: ") == 1, log)
    check("sesame" not in log, log)
    equal(result.session.meta["otlp_dest"], f"traces, metrics to {NOWHERE}")
    # They are the program's affair as long as nothing is sent.
    quiet = ctx.scoped(["true"], env=ctx.env(OTEL_EXPORTER_OTLP_PROTOCOL="http/json", OTEL_TRACES_SAMPLER="xray"))
    check("OTEL_" not in (quiet.session.dir / "scope.log").read_text(), "while it is off")
    file = ctx.dir / "wrong.yml"
    file.write_text("otlp:\n  endpoint: ftp://h\n  metrics: {temporality: detla}\n  headers: {a b: sesame}\n  logs: {events: [spans]}\n")
    checked = ctx.run([ctx.scope, "config", "check", file], check_code=1).err.decode()
    for line, word in ((2, "unknown scheme"), (3, "did you mean delta?"), (4, '"a b" is not the name of a header'),
                       (5, "expected console, file")):
        check(any(f"{file}:{line}: " in one and word in one for one in checked.splitlines()), f"line {line}", checked)
    check("sesame" not in checked, checked)


@test()
def otlp_without_a_session(ctx):
    """Where no session can be stored, what OTLP tells is told all the same."""
    blocked = ctx.dir / "file"
    blocked.write_text("")
    result = ctx.run([ctx.scope, "run", "--otlp", NOWHERE, "echo", "done"], env=ctx.env(SCOPE_HOME=blocked / "x"), check_code=0)
    equal(result.out, b"done\n")
    check(b"nothing else is kept" in result.err and b"unobserved" not in result.err, result.describe())


@test()
def otlp_extract(ctx):
    where = ctx.fresh("where")
    ctx.tool_run("extract", "--otlp", "https://h:4318/x", where)
    text = (where / "scope.yml").read_text()
    check("endpoint: 'https://h:4318/x'" in text, text)
    equal(text_of(ctx, "config", "check", where / "scope.yml"), f"{where}/scope.yml: good\n")
    shown = text_of(ctx, "config", "show", env=ctx.env(OTEL_EXPORTER_OTLP_ENDPOINT=NOWHERE, SCOPE_OTLP_TIMEOUT=5))
    check(f"endpoint: '{NOWHERE}'  # environment OTEL_EXPORTER_OTLP_ENDPOINT" in shown, "where it came from", shown)
    check("timeout: 5  # environment SCOPE_OTLP_TIMEOUT" in shown, "where it came from", shown)
