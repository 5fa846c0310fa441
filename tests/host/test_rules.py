# SPDX-License-Identifier: Apache-2.0
"""scope rules: showing, adding and removing, and that it is in force when the command ends."""

import json
import os
import re

from hostbox import HostBox
from scopetest import check, equal, test

RULES = "/etc/scope/rules.yml"
MAPPED = "/run/appscope/rules"
PRELOAD = "/etc/ld.so.preload"


def rows(said):
    """The first table that is printed, as dicts by its header; columns are two blanks apart."""
    lines = said.out.decode().split("\n")
    header = re.split(r" {2,}", lines[0].strip())
    return [dict(zip(header, re.split(r" {2,}", line.strip()))) for line in lines[1:lines.index("")]]


def rules(box, *words, **how):
    return box.scope("rules", *words, stdin=how.pop("stdin", b""), **how)


def names(box):
    """What is compiled has these names of programs in it, among others."""
    return (box.read(MAPPED) or b"").split(b"\0")


@test(timeout=60)
def test_rules_nothing(ctx):
    """Without rules the command fails; what doesn't go together is refused, and nothing is made of it."""
    with HostBox(ctx) as box:
        for words in ([], ["-j"]):
            said = rules(box, *words, code=1)
            check(b"Empty rules file" in said.err and not said.out, said.describe())
        box.write(RULES, "# none\nallow:\ndeny:\n- procname: x\n")
        check(b"Empty rules file" in rules(box, code=1).err, "without allow")
        os.unlink(box.path(RULES))
        for words, text in ((["--arg", "x"], "--arg needs --add or --remove"),
                            (["--unixpath", "/x", "--remove", "a"], "--unixpath needs --add"),
                            (["-v", "3"], "--verbosity needs --add"),
                            (["--remove", "a", "-v", "3"], "--verbosity needs --add"),
                            (["--add", "a", "--remove", "a"], "--add"),
                            (["--add", "a", "-j"], "--json is for printing"),
                            (["--add", "a", "-n"], "--nobreaker is not possible"),
                            (["--add", "a", "-l", "/x"], "--librarypath is not possible"),
                            (["--add", "a", "--unixpath", "x"], "an absolute path"),
                            (["--add", "a", "-v", "10"], "--verbosity"),
                            (["--add"], "--add")):
            said = rules(box, *words, code=2)
            check(text.encode() in said.err, said.describe())
        for words, text in ((["--remove", "a"], "there is no rule for a"),
                            (["--add", "/bin/a"], "procname: \"/bin/a\": expected the program's name without its directories"),
                            (["--add", "a", "-u", "/nonexistent"], "/nonexistent")):
            said = rules(box, *words, code=1)
            check(text.encode() in said.err, said.describe())
        equal((box.read(RULES), box.read(PRELOAD), box.read(MAPPED)), (None, None, None), "files")


@test(timeout=90)
def test_rules_add_and_remove(ctx):
    """--add starts observing the host; the rule holds when it returns. --remove takes it back."""
    with HostBox(ctx) as box:
        said = rules(box, "--add", "nginx", "--arg", "--port 80", "-v", "7", "-e", "tcp://127.0.0.1:9109")
        check(b"Rule added: nginx with arg \"--port 80\"" in said.out, said.describe())
        check(box.read(PRELOAD), "ld.so.preload")
        check(b"nginx" in names(box) and b"--port 80" in names(box), names(box)[-9:])
        equal(os.stat(box.path("/etc/scope")).st_mode & 0o7777, 0o755, "mode of the directory")
        text = box.read(RULES).decode()
        equal(text[text.index("allow:"):],
              "allow:\n- procname: nginx\n  arg: \"--port 80\"\n  config:\n    metric:\n      format:\n        verbosity: 7\n"
              "    event:\n      transport:\n        type: tcp\n        host: 127.0.0.1\n        port: 9109\n"
              "        tls:\n          enable: false\n", "the file")

        # A scope.yml on standard input, comments and all; then another one in its place. In force each time.
        config = b"# mine\nmetric:\n  enable: false # why\n"
        said = rules(box, "--add", "redis-server", "--sourceid", "two", stdin=config)
        check(b"Rule added: redis-server with sourceid \"two\"" in said.out, said.describe())
        check(b"redis-server" in names(box), names(box)[-9:])
        check(b"  config:\n    # mine\n    metric:\n      enable: false # why\n" in box.read(RULES), box.read(RULES))
        box.write("/tmp-config.yml", "event: {enable: false}\n")
        said = rules(box, "--add", "redis-server", "--sourceid", "two", "-u", "/tmp-config.yml")
        check(b"Rule replaced: redis-server" in said.out, said.describe())
        os.unlink(box.path("/tmp-config.yml"))
        equal(rules(box, "--add", "redis-server", "--sourceid", "two", "-v", "3", stdin=config, code=2).out, b"", "both")
        bad = rules(box, "--add", "x", stdin=b"metric:\n  enabel: true\n", code=1)
        check(b"enabel" in bad.err and b"no rule was added" in bad.err, bad.describe())
        rules(box, "--add", "_MatchAll_", "--unixpath", "/run/edge/socket")

        model = json.loads(rules(box, "-j").out)
        equal(model["allow"][1:], [{"procname": "redis-server", "sourceid": "two", "config": {"event": {"enable": False}}},
                                   {"procname": "_MatchAll_"}], "the model")
        equal(model["allow"][0]["config"]["metric"], {"format": {"verbosity": 7}}, "the first one's configuration")
        equal(model["source"], {"UnixSocketPath": "/run/edge/socket", "AuthToken": ""}, "source")
        shown = rows(rules(box))
        equal([(r["RULE"], r["PROCNAME"], r["ARG"], r["SOURCEID"], r["CONFIG"]) for r in shown],
              [("allow", "nginx", "--port 80", "-", "own"), ("allow", "redis-server", "-", "two", "own"),
               ("allow", "_MatchAll_", "-", "-", "-")], "the table")

        # Only what is equal in all three.
        said = rules(box, "--remove", "nginx", code=1)
        check(b"there is no rule for nginx" in said.err and b"nginx with arg \"--port 80\"" in said.err
              and b"redis" not in said.err, said.describe())
        rules(box, "--remove", "_MatchAll_")
        rules(box, "--remove", "nginx", "--arg", "--port 80")
        check(b"nginx" not in names(box) and b"redis-server" in names(box), names(box)[-9:])
        said = rules(box, "--remove", "redis-server", "--sourceid", "two")
        check(b"no rule is left" in said.err, said.describe())
        check(b"redis-server" not in names(box), names(box)[-9:])
        check(b"Empty rules file" in rules(box, code=1).err, "at the end")


@test(timeout=90)
def test_rules_observed(ctx):
    """What runs and what is started is observed when the command has returned, and the table says how."""
    with HostBox(ctx) as box:
        before = box.start(["sleep", "1001"])
        box.start(["tail", "-f", "/dev/null"])
        rules(box, "--add", "sleep")
        started = box.start(["sleep", "1002"])
        equal(started.poll(), None, "it runs")

        def counts():
            return [(int(r["LOADER"]), int(r["ATTACHED"])) for r in rows(rules(box)) if r["LOADER"] != "-"]

        # The box itself has a sleep, too: two by attaching.
        ctx.wait_for(lambda: counts() == [(1, 2)], "both are observed: " + str(counts()), 30)
        equal(before.poll(), None, "it still runs")
        said = box.scope("ps")
        check(b"sleep 1001" in said.out and b"sleep 1002" in said.out and b"tail -f" not in said.out, said.describe())
        rules(box, "--remove", "sleep")
        ctx.wait_for(lambda: b"sleep 1001" not in box.scope("ps").out, "it is left alone", 30)
        equal(before.poll(), None, "it still runs")


@test(timeout=60)
def test_rules_mistakes(ctx):
    """A file with a mistake isn't edited, and the command says where it is; so does a link."""
    with HostBox(ctx) as box:
        rules(box, "--add", "one")
        good = box.read(RULES)
        box.write(RULES, good + b"- procname: [\n")
        ctx.wait_for(lambda: json.loads(box.read("/run/appscope/status.json"))["rulesError"], "the mistake is seen")
        for words in (["--add", "two"], ["--remove", "one"], [], ["-j"]):
            said = rules(box, *words, code=1)
            check(b"/etc/scope/rules.yml:" in said.err and b"not YAML" in said.err, said.describe())
        equal(box.read(RULES), good + b"- procname: [\n", "the file")
        check(b"one" in names(box), "what was good stays")
        os.rename(box.path(RULES), box.path("/etc/elsewhere.yml"))
        box.write("/etc/elsewhere.yml", good)
        os.symlink("../elsewhere.yml", box.path(RULES))
        said = rules(box, "--add", "two", code=1)
        check(b"it is a symbolic link" in said.err, said.describe())
        equal(box.read("/etc/elsewhere.yml"), good, "what it leads to")
        # Who isn't root may look, and no more.
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        said = box.run([*nobody, ctx.scope, "rules", "--add", "two"], stdin=b"")
        check(said.code == 1 and b"only root can change the rules" in said.err, said.describe())


@test(timeout=60)
def test_rules_editors_at_once(ctx):
    """Of commands that run at the same time none loses what another one has added."""
    with HostBox(ctx) as box:
        rules(box, "--add", "first")
        script = 'for i in 1 2 3 4 5 6; do "$0" rules --add p$i </dev/null & done; wait'
        said = box.run(["sh", "-c", script, ctx.scope])
        added = {r["procname"] for r in json.loads(rules(box, "-j").out)["allow"]}
        equal(added, {"first", *(f"p{i}" for i in range(1, 7))}, said.describe())


@test(timeout=90)
def test_rules_configuration(ctx):
    """Each process has the configuration of all rules that name it, and of no other; also after that has changed."""
    def tags(box):
        found = {}
        for line in box.scope("inspect", "--all", "-j", code=None).out.splitlines():
            o = json.loads(line)
            found[o["process"]["id"].split("-", 1)[1]] = o["cfg"]["current"].get("tags", {})
        return found

    with HostBox(ctx) as box:
        box.write("/etc/scope/scope.yml", "tags: {whole: all}\n")
        box.write(RULES, "allow:\n- procname: tail\n  config: {tags: {which: tail}}\n"
                         "- procname: cat\n  config: {tags: {which: cat, both: first}}\n"
                         "- arg: _here\n  config: {tags: {both: here}}\n")
        box.start(["tail", "-f", "/dev/null"])
        box.scope("start")
        fifo = box.path("/run/pipe_here")
        os.mkfifo(fifo)
        box.start(["cat", "/run/pipe_here"])
        wanted = {"tail-tail -f /dev/null": {"whole": "all", "which": "tail"},
                  "cat-cat /run/pipe_here": {"whole": "all", "which": "cat", "both": "here"}}
        ctx.wait_for(lambda: tags(box) == wanted, "each has its own", 30, 0.2)
        rules(box, "--add", "cat", stdin=b"tags: {which: other}\n")
        wanted["cat-cat /run/pipe_here"] = {"whole": "all", "which": "other", "both": "here"}
        ctx.wait_for(lambda: tags(box) == wanted, "a process that runs has what is in the file now", 30, 0.2)


@test(timeout=60)
def test_rules_secrets(ctx):
    """A file that gets a token is for root alone from then on; one that others can read is told of."""
    with HostBox(ctx) as box:
        box.write(RULES, "# mine\nallow:\n- procname: a-program\n")
        rules(box, "--add", "another")
        equal(os.stat(box.path(RULES)).st_mode & 0o7777, 0o644, "mode without secrets")
        check(b"chmod" not in rules(box).err, "told without a reason")
        rules(box, "--add", "a-program", "-c", "tcp://127.0.0.1:9", "-a", "a-token")
        check(b"a-token" in box.read(RULES), box.read(RULES))
        equal(os.stat(box.path(RULES)).st_mode & 0o7777, 0o600, "mode with a token")
        check(b"chmod" not in rules(box).err, "told without a reason")
        os.chmod(box.path(RULES), 0o644)
        check(b"`chmod 600` it" in rules(box).err, "not told")
        box.scope("stop", "-f")
