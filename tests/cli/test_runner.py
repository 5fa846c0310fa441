# SPDX-License-Identifier: Apache-2.0
"""What tests/run and tests/all do with tests that fail."""

import importlib.machinery
import importlib.util
import json
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import elsewhere
import scopetest
from scopetest import TESTS, Failure, Skip, check, equal, test


def tests_that(ends):
    """A test for each list: how it ends the first time, the second time, ..."""
    def one(number, words):
        words = iter(words)

        def function(_):
            word = next(words)
            if word != "ok":
                raise {"fail": Failure, "skip": Skip}[word](f"{word} of {number}\ndetails of {number}")
        return scopetest.Test(function, f"made/{number}", timeout=number, serial=number % 2 == 1)
    return [one(number, words) for number, words in enumerate(ends)]


def ran(ctx, ends, **options):
    """Runs such tests; returns the runner and the lines that it has said."""
    lines = []
    given = {"work": ctx.dir, "scope": ctx.scope, "jobs": 2, "keep": False, "no_second_chance": False, **options}
    runner = scopetest.Runner(types.SimpleNamespace(**given), lines.append)
    runner.run(tests_that(ends))
    runner.print_sums()
    return runner, lines


def named(lines):
    return [line for line in lines if line.startswith("unsteady")]


@test("runner/second-chance")
def second_chance(ctx):
    """Of three that have failed, one passes alone: it counts as passed, is named, and why it had failed is to be read."""
    runner, lines = ran(ctx, [["ok"], ["fail", "fail"], ["fail", "ok"], ["fail", "skip"], ["ok"], ["skip"]])
    equal((runner.passed, runner.failed), (3, 2), "\n".join(lines))
    equal(lines[-1], "3 passed, 2 failed", "the last line")
    equal(named(lines), ["unsteady (failed beside others, passed alone): made/2: fail of 2"], "unsteady ones")
    equal(lines[-5:-2], [*named(lines), "failed: made/1: fail of 1", "failed: made/3: fail of 3"], "where they are named")
    for what in ("FAIL made/2 (0.0 s): fail of 2", "       details of 2", "ok   made/2 (0.0 s)"):
        equal(lines.count(what), 1, what)
    check(len([line for line in lines if line.startswith("       files: ")]) == 4, "files of those that failed", *lines)


@test("runner/no-second-chance")
def no_second_chance(ctx):
    """None for many, none for one that had nothing beside it, none for who doesn't want it."""
    twice = ["fail", "ok"]
    for ends, options in (([twice] * 4, {}), ([twice], {}), ([twice, ["ok"]], {"no_second_chance": True})):
        runner, lines = ran(ctx, ends, **options)
        equal((runner.failed, named(lines)), (ends.count(twice), []), f"failures of {ends} with {options}")
    runner, lines = ran(ctx, [twice] * 3)
    equal((runner.passed, runner.failed, len(named(lines))), (3, 0, 3), "three")
    for many, unsteady in ((5, 5), (6, 0)):
        runner, lines = ran(ctx, [twice] * many + [["ok"]] * (500 - many))
        equal((runner.failed, len(named(lines))), (many - unsteady, unsteady), f"{many} of 500")


@test("runner/order")
def order(ctx):
    """Those that may take longest don't come last; serial ones have nothing beside them."""
    _, lines = ran(ctx, [["ok"]] * 8, jobs=1)
    equal([line.split()[1] for line in lines if line.startswith("ok ")],
          [f"made/{n}" for n in (6, 4, 2, 0, 1, 3, 5, 7)], "order")


@test("runner/other-architectures")
def other_architectures(ctx):
    """A test of another architecture isn't run: it is named, and counted apart."""
    lines = []
    given = types.SimpleNamespace(work=ctx.dir, scope=ctx.scope, jobs=2, keep=False, no_second_chance=False)
    runner = scopetest.Runner(given, lines.append)
    ours, others = (scopetest.Test(lambda _: None, f"made/{arch}", 1, False, arch) for arch in (scopetest.MACHINE, "vax"))
    runner.run([ours, others])
    runner.print_sums()
    equal((runner.passed, runner.failed), (1, 0), "\n".join(lines))
    for line in (f"not of {scopetest.MACHINE}: made/vax (only vax)", f"1 not of {scopetest.MACHINE}"):
        check(line in lines, line, *lines)
    check(not any("ok   made/vax" in line for line in lines), "it was run", *lines)


@test("runner/compiler")
def compiler(ctx):
    """In an emulated machine what is to be compiled is handed out, with the files that the other side doesn't have."""
    outside = ctx.fresh("outside")
    source = ctx.dir / "made.c"
    source.write_text("int main(void) { return 7; }\n")

    def answer():
        request, = ctx.wait_for(lambda: list(outside.glob("*/request.json")), "a request")
        asked = json.loads(request.read_text())
        program = Path(asked["argv"][asked["argv"].index("-o") + 1])
        check(program.parent == request.parent, "what is made lies elsewhere", asked)
        code = 1 if "-wrong" in asked["argv"] else ctx.run(asked["argv"], stdin=asked["input"].encode()).code
        (request.parent / "answer.new").write_text(json.dumps({"code": code, "out": "said"}))
        (request.parent / "answer.new").rename(request.parent / "answer.json")
    with ThreadPoolExecutor() as pool:
        for words, stdin in ((["gcc", source], b""), (["gcc", "-x", "c", "-"], source.read_bytes())):
            answered = pool.submit(answer)
            elsewhere.compiled([*map(str, words), "-o", str(ctx.dir / "made")], ctx.dir, {}, stdin, 60, outside)
            answered.result()
            equal(ctx.run([ctx.dir / "made"]).code, 7, "what was made")
        answered = pool.submit(answer)
        try:
            elsewhere.compiled(["gcc", "-wrong", "-o", "x"], ctx.dir, {}, b"", 60, outside)
        except elsewhere.CompilerFailed as e:
            check("said" in str(e), "what the compiler said", e)
        else:
            raise Failure("a failure went by")


@test("runner/compiles")
def compiles(ctx):
    """The same source with other flags is another program, of the same name."""
    source = ctx.dir / "made.c"
    source.write_text("int main(void) { return STATUS; }\n")
    programs = [ctx.compile(source, flags=[f"-DSTATUS={status}"]) for status in (3, 4, 3)]
    equal([ctx.run([p]).code for p in programs], [3, 4, 3], "statuses")
    equal({p.name for p in programs}, {"made.glibc-O2"}, "names")


@test("runner/units")
def units(ctx):
    """Unit tests that have failed are run once more if they are few; nothing that meson says is lost."""
    def counted(first, second=None, status=1):
        loader = importlib.machinery.SourceFileLoader("scope_tests_all", str(TESTS / "all"))
        everything = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
        loader.exec_module(everything)
        asked = []

        def run(build, names=()):
            asked.append(sorted(names))
            return (second if names else first), status
        return *everything.unit_tests("/b/build", run=run, say=lambda *_, **__: None), asked[1:], everything.unsteady

    equal(counted({"a": True, "b": True}, status=0), (2, 0, [], []), "all pass")
    equal(counted({"a": True, "b": True}), (2, 1, [], []), "meson fails though all pass")
    equal(counted(None), (0, 1, [], []), "no log")
    equal(counted({"a": True, "b": False, "c": False}, {"b": True, "c": False}),
          (2, 1, [["b", "c"]], ["unsteady (failed beside others, passed alone): build/b"]), "two fail, one of them again")
    equal(counted({"a": True, "b": False}, None), (1, 1, [["b"]], []), "no log the second time")
    equal(counted({"a": True, "b": False, "c": False, "d": False}), (1, 3, [], []), "three fail")
    equal(counted({"a": False}, {"a": True}), (0, 1, [], []), "it was alone")
