# SPDX-License-Identifier: Apache-2.0
"""A runtime and its function, which does what the event says."""

import http.client
import json
import os
import sys
import threading
import time

api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
PATH = "/2018-06-01/runtime/invocation/"


def ask(method, path, body=None):
    api.request(method, path, body)
    answer = api.getresponse()
    return answer, answer.read()


def background():
    while True:
        time.sleep(0.01)


def handle(event):
    do = event.get("do")
    with open(f"/tmp/work-{event['n']}", "w", encoding="ascii") as f:
        f.write("x" * event["n"])
    if do == "raise":
        raise ValueError("as asked")
    if do == "exit":
        os._exit(3)
    if do == "sleep":
        time.sleep(600)
    if do == "thread":
        threading.Thread(target=background, daemon=True).start()
    if do == "http":
        client = http.client.HTTPConnection(event["to"], timeout=60)
        client.request("GET", f"/price/{event['n']}")
        return {"status": client.getresponse().status}
    return {"twice": 2 * event["n"]}


def main():
    if os.environ.get("INIT") == "raise":
        ask("POST", "/2018-06-01/runtime/init/error", json.dumps({"errorMessage": "no", "errorType": "Runtime.No"}))
        sys.exit(1)
    print("function is ready", flush=True)
    while True:
        answer, body = ask("GET", PATH + "next")
        id_ = answer.getheader("Lambda-Runtime-Aws-Request-Id")
        try:
            ask("POST", f"{PATH}{id_}/response", json.dumps(handle(json.loads(body))))
        except ValueError as e:
            ask("POST", f"{PATH}{id_}/error", json.dumps({"errorMessage": str(e), "errorType": "ValueError"}))


main()
