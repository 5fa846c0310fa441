# SPDX-License-Identifier: Apache-2.0
"""Execution environments as AWS Lambda has them, emulated: a sandbox of runc with a read-only root directory, only /tmp to
write to, no /dev/shm, another user than root without capabilities, the limits that Lambda has; in it, as process 1,
tests/lambda/rapid.py. It needs root."""

import json
import os
import subprocess
import threading
import zipfile
from pathlib import Path

from oci import Container
from scopetest import SLACK, TESTS, TOP, Process, check, free_port

USER = 993  # what Lambda calls sbx_user1051
WRAPPER = "/opt/scope_exec"
EXTENSION = "/opt/extensions/appscope"
RUNTIMES = {
    "python": ["/usr/bin/python3", "/var/task/function.py"],
    "node": ["/usr/bin/node", "/var/task/function.mjs"],
    "c": ["/var/task/bootstrap"],
    "go": ["/var/task/go"],
}
LIMITS = {"RLIMIT_NOFILE": 1024, "RLIMIT_NPROC": 1024, "RLIMIT_CORE": 0}


class Layer:
    """The zip, made and unpacked once for all tests of a run that want it. runtime: with plans of what is in this root
    directory; then it has a name."""

    _lock = threading.Lock()

    def __init__(self, ctx, runtime=None, name="plain"):
        self.zip = Path(ctx.options.work) / f"lambda-{name}.zip"
        self.opt = self.zip.with_suffix(".opt")
        with Layer._lock:
            if not self.opt.exists():
                ctx.run([TOP / "dev/lambda-layer", "--scope", ctx.scope, "--output", self.zip,
                         *(("--runtime", runtime) if runtime else ())], check_code=0)
                new = self.opt.with_suffix(".new")
                with zipfile.ZipFile(self.zip) as archive:
                    for info in archive.infolist():
                        os.chmod(archive.extract(info, new), info.external_attr >> 16)
                for path in (new, *(p for p in new.rglob("*") if p.is_dir())):
                    path.chmod(0o755)
                os.rename(new, self.opt)


def task(ctx):
    """The function's package."""
    path = ctx.fresh(f"task-{os.urandom(4).hex()}")
    for name in ("function.py", "function.mjs"):
        (path / name).write_bytes((TESTS / "lambda" / name).read_bytes())
    return path


class Report:
    """What rapid.py has printed."""

    def __init__(self, text, err):
        check(text.strip(), "the environment has told nothing", err)
        self.all = json.loads(text)
        self.err = err
        self.errors = self.all["errors"]
        self.invocations = self.all["invocations"]

    def lines(self, who, since=None, until=None):
        """What a process has said, by the number of lines that there were."""
        return [text for _, name, text in self.all["lines"][since:until] if name == who]

    def events(self, since=None, until=None):
        """Events on the extension's standard output."""
        found = [json.loads(line) for line in self.lines("extension", since, until)]
        return [e["body"] for e in found if e.get("type") == "evt"]

    def answers(self):
        return [i.get("answer") for i in self.invocations]

    def describe(self):
        return json.dumps({k: v for k, v in self.all.items() if k != "lines"}, indent=1) + "\n" + "\n".join(
            f"{t:.3f} {who}: {text[:300]}" for t, who, text in self.all["lines"][-60:]) + "\n" + self.err[-2000:]


def environment(ctx, runtime, invocations, observed=True, env=(), files=(), change=lambda box: None, layer=None, **plan):
    """Lets a function live through these invocations: each an event, or a dictionary {"event": ...} with more of what
    rapid.py knows. files: of the package, {name: text}. observed: with the layer, and with its wrapper. change: of the
    sandbox. layer: another Layer."""
    package = task(ctx)
    for name, text in dict(files).items():
        (package / name).write_text(text)
    if runtime == "c":
        (package / "bootstrap").write_bytes(ctx.compile("lambda/bootstrap.c", "musl-static").read_bytes())
        (package / "bootstrap").chmod(0o755)
    if runtime == "go":
        (package / "go").write_bytes(ctx.go_build("lambda", "static").read_bytes())
        (package / "go").chmod(0o755)
    log = ctx.fresh(f"environment-{os.urandom(4).hex()}")
    root = ctx.fresh(f"root-{log.name}")
    for name in ("usr", "opt", "var/task", "proc", "dev", "sys", "tmp", "emulation"):
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    for name in ("bin", "lib", "lib64", "sbin"):
        if Path("/" + name).is_symlink():
            (root / name).symlink_to("usr/" + name)
        else:
            (root / name).mkdir()
    plan = {
        "extension": EXTENSION if observed else None, "wrapper": [WRAPPER] if observed else [], "command": RUNTIMES[runtime],
        "patience": 10 * SLACK, **plan,
        "env": {"PATH": "/usr/local/bin:/usr/bin:/bin:/opt/bin", "LD_LIBRARY_PATH": "/lib64:/usr/lib64:/var/task/lib:/opt/lib",
                "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{free_port()}", "AWS_LAMBDA_FUNCTION_NAME": "shop",
                "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST", "AWS_REGION": "eu-central-1", "LANG": "en_US.UTF-8", "TZ": ":UTC",
                "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/shop", "LAMBDA_TASK_ROOT": "/var/task", "_HANDLER": "index.handler",
                "AWS_LAMBDA_LOG_STREAM_NAME": "2026/01/02/[$LATEST]0123456789abcdef", **dict(env)},
        "invocations": [step if "event" in step else {"event": step} for step in invocations],
    }
    (log / "plan.json").write_text(json.dumps(plan))
    box = Container(ctx, root, ["/usr/bin/python3", "-B", "/emulation/rapid.py", "/log/plan.json"])
    (root / "log").mkdir()
    box.config["mounts"] = [m for m in box.config["mounts"] if m["destination"] in ("/proc", "/dev", "/sys")]
    box.user(USER).read_only().without_capabilities().no_new_privileges().host("network")
    box.volume("/usr", "/usr", "ro").volume((layer or Layer(ctx)).opt, "/opt", "ro").volume(package, "/var/task", "ro")
    box.volume(TESTS / "lambda", "/emulation", "ro").volume(log, "/log", "ro")
    for name in ("lib", "lib64", "bin", "sbin"):
        if not Path("/" + name).is_symlink() and Path("/" + name).exists():
            box.volume("/" + name, "/" + name, "ro")
    box.tmpfs("/tmp", "nosuid", "nodev", "mode=1777", "size=512m")
    box.config["process"]["rlimits"] = [{"type": name, "hard": n, "soft": n} for name, n in LIMITS.items()]
    box.config["process"]["cwd"] = "/"
    change(box)
    argv = [str(a) for a in box.argv]
    process = Process(argv, cwd=ctx.dir, env=ctx.env(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                      stderr=subprocess.PIPE, start_new_session=True)
    ctx.started.append(process)
    out, err = process.communicate(timeout=ctx.left())
    return Report(out.decode(), err.decode(errors="replace"))

