# SPDX-License-Identifier: Apache-2.0
"""gRPC, without generated code: `rpc.py serve PORT` or `rpc.py call PORT`. The client prints METHOD STATUS of each call."""

import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc

SERVICE = "test.v1.Greeter"


def say(request, context):
    return request.upper()


def fail(request, context):
    context.set_trailing_metadata((("reason", "a long one: " + "x" * 300),))
    context.abort(grpc.StatusCode.NOT_FOUND, "nobody of that name")


def count(request, context):
    for i in range(int(request)):
        yield b"%d" % i * 1000


def chat(requests, context):
    for r in requests:
        yield r


def sleep(request, context):
    threading.Event().wait(3)
    return b"late"


def serve(port):
    handlers = {"Say": grpc.unary_unary_rpc_method_handler(say), "Fail": grpc.unary_unary_rpc_method_handler(fail),
                "Count": grpc.unary_stream_rpc_method_handler(count), "Chat": grpc.stream_stream_rpc_method_handler(chat),
                "Sleep": grpc.unary_unary_rpc_method_handler(sleep)}
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    if not server.add_insecure_port(f"127.0.0.1:{port}"):
        sys.exit("the port is taken")
    done = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: done.set())
    server.start()
    done.wait()
    server.stop(1).wait()


def call(port):
    def outcome(name, what):
        try:
            what()
            print(name, 0)
        except grpc.RpcError as e:
            print(name, e.code().value[0])
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        at = f"/{SERVICE}/"
        outcome("Say", lambda: channel.unary_unary(at + "Say")(b"hello"))
        outcome("Fail", lambda: channel.unary_unary(at + "Fail")(b"x"))
        outcome("Count", lambda: list(channel.unary_stream(at + "Count")(b"50")))
        outcome("Chat", lambda: list(channel.stream_stream(at + "Chat")(iter([b"a", b"b", b"c" * 100000]))))
        outcome("Nothing", lambda: channel.unary_unary(at + "Nothing")(b"x"))
        outcome("Sleep", lambda: channel.unary_unary(at + "Sleep")(b"x", timeout=0.5))
        outcome("Say", lambda: channel.unary_unary(at + "Say")(b"again"))


{"serve": serve, "call": call}[sys.argv[1]](int(sys.argv[2]))
