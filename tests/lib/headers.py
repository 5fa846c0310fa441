# SPDX-License-Identifier: Apache-2.0
"""What constants and offsets of our headers are, as the compiler says."""

import functools
import os
import subprocess
import tempfile
from pathlib import Path

import elsewhere

TOP = Path(__file__).resolve().parents[2]


@functools.lru_cache(maxsize=None)
def values(headers, expressions):
    """Values of C expressions, in their order. headers: of src/, expressions: tuples of text."""
    lines = "".join(f'printf("%llu\\n", (unsigned long long)({e}));\n' for e in expressions)
    includes = "".join(f"#include {h}\n" for h in ("<stdbool.h>", "<stddef.h>", "<stdio.h>", *(f'"{h}"' for h in headers)))
    with tempfile.TemporaryDirectory() as d:
        program = os.path.join(d, "values")
        source = f"{includes}int main(void) {{ {lines} return 0; }}"
        command = ["gcc", "-I", str(TOP / "src"), "-x", "c", "-", "-o", program]
        if elsewhere.OUTSIDE.is_dir():
            elsewhere.compiled(command, Path(d), {}, source.encode(), 600)
        else:
            subprocess.run(command, input=source, text=True, check=True)
        return [int(v) for v in subprocess.run([program], capture_output=True, check=True).stdout.split()]
