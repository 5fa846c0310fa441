# SPDX-License-Identifier: Apache-2.0
"""`scope run` as process 1 of containers that may do little: what docs/containers.md says of each is so.

The profiles of seccomp are those lists that the manuals of docker and podman give of what is refused, and nothing else.
They need root, and control groups that runc can make.
"""

import json

from oci import boxed
from scopetest import TESTS, Session, add_test, check, equal

HERE = TESTS / "containers"
IMAGES = 3  # /inner starts itself so often


def observed(ctx, store):
    """Everything that a program and the images that it starts have done."""
    ctx.home = store / "home"
    session = Session(ctx, ctx.home / "history" / "1")
    check(not session.collector_runs(), "the collector has not finished")
    events = session.events(sync=False)
    log = session.log()
    starts = [e for e in events if e["source"] == "proc.start" and e["data"]["start"] == "exec"]
    equal([e["data"]["args"] for e in starts], [["/inner", "/greeting", str(n)] for n in reversed(range(IMAGES))], f"images; log: {log}")
    closed = [e["data"]["file_read_bytes"] for e in events if e["source"] == "fs.close" and e["data"]["file"] == "/greeting"]
    equal(closed, [12] * IMAGES, f"bytes read; log: {log}")
    equal(sum(e["source"] == "proc.exit" for e in events), IMAGES, f"ends; log: {log}")
    meta = json.loads((session.dir / "session.json").read_text())
    check(meta["end_ns"] > 0 and meta["exit_code"] == 0 and not any(session.lost().values()), "metadata", meta, log)
    return log


def by_docker(box):
    box.seccomp(HERE / "seccomp-docker.json")


def by_podman(box):
    box.seccomp(HERE / "seccomp-podman.json")


def by_podman_traced(box):
    """With --cap-add SYS_PTRACE its profile allows what the capability is for."""
    by_podman(box)
    for rule in box.config["linux"]["seccomp"]["syscalls"]:
        rule["names"] = [n for n in rule["names"] if n not in ("kcmp", "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace")]
    for capabilities in box.config["process"]["capabilities"].values():
        capabilities.append("CAP_SYS_PTRACE")


def all_of_it(box):
    by_docker(box)
    box.read_only().without_capabilities().no_new_privileges().tmpfs("/tmp").user(65000)


# What stands in the table of docs/containers.md.
CASES = {
    "docker": by_docker,
    "podman": by_podman,
    "no-capabilities": lambda box: (by_docker(box), box.without_capabilities()),
    "no-new-privileges": lambda box: (by_docker(box), box.no_new_privileges()),
    "read-only": lambda box: (by_docker(box), box.read_only()),
    "noexec-tmp": lambda box: (by_docker(box), box.read_only().tmpfs("/tmp")),
    "tiny-tmp": lambda box: (by_docker(box), box.read_only().tmpfs("/tmp", "size=64k", "mode=1777")),
    "no-home": lambda box: (by_docker(box), box.without_env("HOME")),
    "other-user": lambda box: (by_docker(box), box.user(65000)),
    "memory": lambda box: (by_docker(box), box.limit(memory={"limit": 64 << 20, "swap": 64 << 20})),
    "pids": lambda box: (by_docker(box), box.limit(pids={"limit": 12})),
    "all": all_of_it,
    "podman-ptrace": lambda box: (by_podman_traced(box), box.read_only()),
    "podman-read-only": lambda box: (by_podman(box), box.read_only()),
}
# What takes a tracer, which podman's profile doesn't allow without the capability.
UNTRACED = {("podman", "static"), ("podman-read-only", "static"), ("podman-read-only", "glibc-O2")}
# Where it also has no place for the library, it says so.
TOLD = {("podman-read-only", "glibc-O2"): b"no place for the library, and it may not be traced: a sandbox without ptrace"}


def run_in(ctx, variant, change, said=b""):
    """Bare and observed, which is the same for the program: where the sessions are. said: by scope, before."""
    words = ["/greeting", IMAGES - 1]
    box, _ = boxed(ctx, variant, words, change, scope=())
    bare = box.run()
    equal(bare.code, 0, bare.describe())
    box, store = boxed(ctx, variant, words, change)
    result = box.run()
    equal((result.code, result.out), (bare.code, bare.out), "status and output")
    check(said in result.err and bool(said) == bool(result.err), "messages", result.describe())
    return store


def hardened(ctx, variant, case):
    store = run_in(ctx, variant, CASES[case], TOLD.get((case, variant), b""))
    if (case, variant) not in UNTRACED:
        observed(ctx, store)
        return
    log = (store / "home/history/1/scope.log").read_text()
    check("not observed" in log and "--cap-add SYS_PTRACE" in log, "the log doesn't tell", log)


for _case in CASES:
    for _variant in ("glibc-O2", "static"):
        add_test("containers", f"hardened/{_case}/{_variant}", lambda ctx, v=_variant, c=_case: hardened(ctx, v, c))
