# SPDX-License-Identifier: Apache-2.0
"""Has the machine around this emulated one compile: dev/armvm, class Compilers, answers.

A request is a directory with request.json and the files that only this machine has. Files of the checkout, which is at
the same place on both sides, are named only.
"""

import itertools
import json
import os
import re
import shutil
import time
from pathlib import Path

# Where the emulated machine hands out what is to be compiled. Not there: this is no such machine.
OUTSIDE = Path("/run/armvm/compile")
_serial = itertools.count()
_CHECKOUT = Path(__file__).resolve().parents[2]


class CompilerFailed(Exception):
    """What the compiler said."""


def _bring(word, request, cwd):
    """The word of a command with the files that it names copied into the request; what both sides have is left."""
    m = re.match(r"^(-(?:I|L|include|isystem|Wl,-rpath,)?)?(.*)$", word, re.S)
    option, name = m[1] or "", m[2]
    if option.startswith("-Wl") or not name or option == "-":
        return word
    path = cwd / name
    try:
        if not path.exists() or path.is_relative_to(_CHECKOUT) or not path.is_relative_to("/tmp"):
            return word
    except OSError:  # too long for a name: no file
        return word
    copy = request / "files" / str(path.resolve()).lstrip("/")
    copy.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.copytree(path, copy, dirs_exist_ok=True, ignore_dangling_symlinks=True)
    else:
        shutil.copy(path, copy)
    return option + str(copy)


def compiled(argv, cwd, env, stdin, seconds, where=OUTSIDE):
    """Compiles; what -o names is there then. Raises CompilerFailed."""
    request = where / f"{os.getpid()}-{next(_serial)}"
    request.mkdir()
    made = None
    words = [argv[0]]
    for before, word in zip(argv, argv[1:]):
        if before == "-o":
            made = cwd / word
            words.append(str(request / "made"))
        else:
            words.append(_bring(word, request, cwd))
    inside = cwd if cwd.is_relative_to(_CHECKOUT) else request
    text = json.dumps({"argv": words, "cwd": str(inside), "env": {k: str(v) for k, v in env.items()}, "input": stdin.decode()})
    (request / "request.new").write_text(text)
    os.rename(request / "request.new", request / "request.json")
    answer = request / "answer.json"
    until = time.monotonic() + seconds
    while not answer.exists():
        if time.monotonic() > until:
            raise CompilerFailed(f"no answer from outside in {seconds} s: {' '.join(argv)}")
        time.sleep(0.05)
    said = json.loads(answer.read_text())
    if said["code"]:
        raise CompilerFailed(f"{' '.join(argv)}\n{said['out']}")
    if made:
        shutil.copy(request / "made", made)
    shutil.rmtree(request, ignore_errors=True)
