#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What AWS Lambda does in an execution environment, as its documentation says: process 1 of the sandbox.

    rapid.py PLAN

Starts the extension and, when that has registered, the runtime; serves the Runtime API and the Extensions API on
AWS_LAMBDA_RUNTIME_API; stops all other processes (SIGSTOP) as soon as runtime and extension have asked for what comes next,
and lets them go on with the next invocation; shuts down. PLAN is a file of JSON, see test_lambda.py; what happened is
printed as JSON. Times are CLOCK_MONOTONIC seconds, which are those of the host.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

RUNTIME, EXTENSION = "/2018-06-01/runtime/", "/2020-01-01/extension/"
NOT_RUNTIME = ("AWS_LAMBDA_RUNTIME_API", "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_VERSION", "AWS_REGION")


class Ended(Exception):
    """The environment ends: reason of SHUTDOWN."""


class Environment:
    def __init__(self, plan):
        self.plan = plan
        self.changed = threading.Condition()
        self.runtime_asks = self.extension_asks = self.registered = False
        self.invocation = None       # for the runtime: (id, bytes, deadline)
        self.event = None            # for the extension
        self.answers = {}            # by id: (kind, text)
        self.lines = []              # [time, who, text]
        self.report = {"invocations": [], "lines": self.lines, "errors": [], "registered": None, "shutdown": None}
        self.identifier = str(uuid.uuid4())
        self.programs = {}
        self.readers = []

    # --- processes ---

    def start(self, who, argv, env):
        program = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env,
                                   cwd="/var/task", start_new_session=True)
        self.programs[who] = program
        for stream, name in ((program.stdout, who), (program.stderr, who + ".err")):
            reader = threading.Thread(target=self.read, args=(stream, name), daemon=True)
            reader.start()
            self.readers.append(reader)

    def read(self, stream, who):
        for line in stream:
            with self.changed:
                self.lines.append([time.monotonic(), who, line.decode(errors="replace").rstrip("\n")])

    def ended(self, who):
        return who in self.programs and self.programs[who].poll() is not None

    def wait(self, condition, seconds, what):
        """With self.changed held. What ends meanwhile ends the environment."""
        until = time.monotonic() + seconds
        while not condition():
            if self.ended("runtime"):
                raise Ended("failure", "Runtime.ExitError")
            if self.ended("extension") and not self.plan.get("forgiving"):
                raise Ended("failure", "Extension.Crash")
            left = until - time.monotonic()
            if left <= 0:
                raise Ended("timeout", what)
            self.changed.wait(min(left, 0.05))

    def stop_all(self):
        os.kill(-1, signal.SIGSTOP)
        for name in os.listdir("/proc"):
            while name.isdigit() and name != "1":
                try:
                    with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as f:
                        if f.read().rpartition(")")[2].split()[0] in "TZX":
                            break
                except OSError:
                    break
                time.sleep(0.001)

    def both_ask(self):
        return self.runtime_asks and (self.extension_asks or not self.plan.get("extension") or self.ended("extension"))

    # --- phases ---

    def init(self):
        plan, began = self.plan, time.monotonic()
        env = dict(plan["env"])
        if plan.get("extension"):
            for_extension = {k: v for k, v in env.items() if k in NOT_RUNTIME or not k.startswith(("AWS_LAMBDA_", "_", "LAMBDA_"))}
            self.start("extension", [plan["extension"]], for_extension)
            with self.changed:
                self.wait(lambda: self.registered, plan["patience"], "Extension.InitError")
        self.report["registered_s"] = time.monotonic() - began
        began = time.monotonic()
        self.start("runtime", [*plan["wrapper"], *plan["command"]], env)
        with self.changed:
            self.wait(self.both_ask, plan["patience"], "Sandbox.Timedout")
        self.report["init_s"] = time.monotonic() - began

    def invoke(self, step):
        id_, began = str(uuid.uuid4()), time.monotonic()
        timeout = step.get("timeout", self.plan["patience"])
        deadline = int((time.time() + timeout) * 1000)
        what = {"id": id_, "began": began}
        self.report["invocations"].append(what)
        with self.changed:
            self.invocation = (id_, json.dumps(step["event"]).encode(), deadline)
            self.event = {"eventType": "INVOKE", "deadlineMs": deadline, "requestId": id_,
                          "invokedFunctionArn": "arn:aws:lambda:eu-central-1:123456789012:function:shop",
                          "tracing": {"type": "X-Amzn-Trace-Id", "value": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700"}}
            self.runtime_asks = self.extension_asks = False
            self.changed.notify_all()
        if step.get("kill"):
            self.kill(step["kill"])
        with self.changed:
            self.wait(lambda: id_ in self.answers, timeout, "Sandbox.Timedout")
            what.update(answer=self.answers[id_], answered=time.monotonic())
            self.wait(lambda: self.runtime_asks, self.plan["patience"], "Sandbox.Timedout")
            what["runtime_asked"] = time.monotonic()
            self.wait(self.both_ask, self.plan["patience"], "Sandbox.Timedout")
            what["extension_asked"] = time.monotonic()

    def kill(self, who):
        """"extension", or its child, the "collector"."""
        pid = self.programs["extension"].pid
        if who == "collector":
            with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
                pid = int(f.read().split()[0])
        os.kill(pid, signal.SIGKILL)

    def freeze(self, what):
        self.stop_all()
        time.sleep(0.01)  # what is in pipes is read
        with self.changed:
            what["frozen"] = time.monotonic()
            what["lines"] = len(self.lines)
        time.sleep(self.plan.get("freeze", 0.02))
        os.kill(-1, signal.SIGCONT)

    def shut_down(self, reason):
        runtime, extension = self.programs.get("runtime"), self.programs.get("extension")
        if runtime:
            runtime.terminate() if reason == "spindown" else runtime.kill()
            try:
                runtime.wait(0.3)
            except subprocess.TimeoutExpired:
                runtime.kill()
            self.report["runtime_status"] = runtime.wait()
        began = time.monotonic()
        if extension:
            with self.changed:
                self.event = {"eventType": "SHUTDOWN", "shutdownReason": reason, "deadlineMs": int(time.time() * 1000) + 2000}
                self.changed.notify_all()
            try:
                extension.wait(self.plan["patience"])
            except subprocess.TimeoutExpired:
                extension.kill()
            self.report["extension_status"] = extension.wait()
        self.report["shutdown"] = reason
        self.report["shutdown_s"] = time.monotonic() - began

    def live(self):
        try:
            self.init()
            init = {}
            self.freeze(init)
            self.report["init"] = init
            for step in self.plan["invocations"]:
                self.invoke(step)
                self.freeze(self.report["invocations"][-1])
            self.shut_down("spindown")
        except Ended as e:
            self.report["errors"].append(e.args[1])
            self.shut_down(e.args[0])
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            pass
        for reader in self.readers:
            reader.join(5)
        with self.changed:
            print(json.dumps(self.report), flush=True)


class Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args):  # pylint: disable=arguments-differ
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):  # pylint: disable=invalid-name
        env = self.server.environment
        with env.changed:
            if self.path == RUNTIME + "invocation/next":
                env.runtime_asks = True
                env.changed.notify_all()
                while not env.invocation:
                    env.changed.wait()
                (id_, body, deadline), env.invocation = env.invocation, None
            elif self.path == EXTENSION + "event/next":
                if self.headers["Lambda-Extension-Identifier"] != env.identifier or not env.registered:
                    return self.answer(403, b'{"errorType":"Extension.UnknownExtensionIdentifier"}')
                env.extension_asks = True
                env.changed.notify_all()
                while not env.event:
                    env.changed.wait()
                body, env.event = json.dumps(env.event).encode(), None
                id_ = None
            else:
                return self.answer(404)
        if not id_:
            return self.answer(200, body, Lambda_Extension_Event_Identifier=str(uuid.uuid4()), Content_Type="application/json")
        return self.answer(200, body, Lambda_Runtime_Aws_Request_Id=id_, Lambda_Runtime_Deadline_Ms=str(deadline),
                           Content_Type="application/json")

    def do_POST(self):  # pylint: disable=invalid-name
        env = self.server.environment
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        with env.changed:
            if self.path == EXTENSION + "register":
                name = self.headers["Lambda-Extension-Name"]
                env.report["registered"] = [name, json.loads(body)]
                if name != os.path.basename(env.plan["extension"]):
                    return self.answer(403, b'{"errorType":"Extension.InvalidExtensionName"}')
                if env.plan.get("refuse"):
                    return self.answer(500, b"no")
                env.registered = True
                env.changed.notify_all()
                return self.answer(200, b'{"functionName":"shop","functionVersion":"$LATEST","handler":"index.handler"}',
                                   Lambda_Extension_Identifier=env.identifier, Content_Type="application/json")
            if self.path in (EXTENSION + "init/error", EXTENSION + "exit/error"):
                env.report["errors"].append([self.path.removeprefix(EXTENSION),
                                             self.headers["Lambda-Extension-Function-Error-Type"], json.loads(body)])
            elif self.path == RUNTIME + "init/error":
                env.report["errors"].append(["runtime", body.decode()])
            elif self.path.startswith(RUNTIME + "invocation/"):
                id_, kind = self.path.removeprefix(RUNTIME + "invocation/").split("/")
                env.answers[id_] = [kind, body.decode()]
            else:
                return self.answer(404)
            env.changed.notify_all()
        return self.answer(202, b'{"status":"OK"}\n', Content_Type="application/json")


def main():
    with open(sys.argv[1], encoding="utf-8") as f:
        plan = json.load(f)
    environment = Environment(plan)
    host, _, port = plan["env"]["AWS_LAMBDA_RUNTIME_API"].rpartition(":")
    server = ThreadingHTTPServer((host, int(port)), Api)
    server.daemon_threads = True
    server.environment = environment
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment.live()
    os._exit(0)


if __name__ == "__main__":
    main()
