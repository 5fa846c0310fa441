# SPDX-License-Identifier: Apache-2.0
"""Root directories for programs in containers and the like, and what is expected of those that run there."""

import re
import shutil
import subprocess

from scopetest import check, equal


def copy(root, path, to=None):
    target = root / str(to or path).lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, target)


def make_root(ctx, variant, busybox=True, program="namespaces/inner.c", root="root"):
    """A root directory that holds one program as /inner, what its loader needs, and a file."""
    root = ctx.fresh(root)
    program = ctx.compile(program, variant)
    copy(root, program, "inner")
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    if variant.startswith("glibc"):
        for path in re.findall(r"(/\S+)", listed):
            copy(root, path)
    elif variant == "musl":
        copy(root, re.search(rb"/lib/ld-musl[\w.-]+", program.read_bytes()).group().decode())
    (root / "old").mkdir()
    if busybox:
        copy(root, ctx.tool("busybox"), "bin/busybox")
    (root / "greeting").write_text("from inside\n")
    return root


def both(ctx, argv, **how):
    bare = ctx.run(argv, **how)
    equal(bare.code, 0, "status of the bare run: " + bare.describe())
    scoped = ctx.scoped(argv, **how)
    check((bare.code, bare.out, bare.err) == (scoped.code, scoped.out, scoped.err), "output or status differs",
          "bare: " + bare.describe(), "observed: " + scoped.describe(), scoped.session.log()[-2000:])
    return scoped


def followed(result, path, file, count):
    """`count` images of the program were observed, each with its file and its connection, and nothing was lost."""
    events = result.session.events()
    starts = [e for e in events if e["source"] == "proc.start" and e["data"]["start"] == "exec"
              and e["data"]["args"][0] == path]
    log = result.session.log()
    equal(len(starts), count, f"observed starts of {path}; log: {log}")
    mine = {s["cmd"] for s in starts}
    equal(len(mine), count, "command lines")
    for cmd in mine:
        of = [e for e in events if e["cmd"] == cmd]
        equal([e["data"]["file"] for e in of if e["source"] == "fs.open" and e["data"]["file"] == file], [file],
              f"opened by {cmd}")
        closed = [e["data"] for e in of if e["source"] == "fs.close" and e["data"]["file"] == file]
        equal([c["file_read_bytes"] for c in closed], [12], f"read by {cmd}")
        equal(sum(e["source"] == "net.open" for e in of), 2, f"connections of {cmd}")
        equal(sum(e["source"] == "proc.exit" for e in of), 1, f"ends of {cmd}")
    result.session.wait_end()
    check("not observed" not in log, "something was not observed", log)
    check(not any(result.session.lost().values()), f"lost: {result.session.lost()}")
    return starts
