# SPDX-License-Identifier: Apache-2.0
"""Real programs that others have built (tests/npm.packages), and something for them to do."""

from scopetest import TOP, check

# esbuild by the release of Go that made it.
ESBUILD = ("go1.15", "go1.16", "go1.17", "go1.20", "go1.22", "go1.23", "go1.26-stripped")
# Since esbuild 0.8.7.
SERVING = ESBUILD[1:]


def program(name, path):
    found = TOP / "build/npm" / name / path
    check(found.is_file(), f"{found}: not there (install_build_tools.sh unpacks what tests need)")
    return found


def esbuild(release):
    return program(f"esbuild-{release}", "bin/esbuild")


def js_project(work, modules):
    """main.js, which imports so many modules; each exports what it is worth."""
    (work / "lib").mkdir(parents=True)
    for n in range(modules):
        other = f'import {{ f{n // 2} }} from "./m{n // 2}.js";\n' if n else ""
        (work / f"lib/m{n}.js").write_text(other + "".join(f"const table{i} = [{', '.join(map(str, range(i, i + 40)))}];\n" for i in range(10))
                                           + f"export function f{n}(x) {{ return table3[x % 40] + {f'f{n // 2}(x)' if n else 0}; }}\n")
    imports = "".join(f'import {{ f{n} }} from "./lib/m{n}.js";\n' for n in range(modules))
    (work / "main.js").write_text(imports + "console.log(" + " + ".join(f"f{n}({n})" for n in range(modules)) + ");\n")
