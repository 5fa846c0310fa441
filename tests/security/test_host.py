# SPDX-License-Identifier: Apache-2.0
"""An unprivileged user on a host that root observes by rules (docs/security.md)."""

import errno
import json
import os
import re
import shutil
import stat

import users
from hostbox import HostBox
from scopetest import TOP, check, equal, test

RULES = "/etc/scope/rules.yml"
PRIVATE = re.compile(rb"t0ken|s3cret")


@test("host/doors", timeout=60)
def doors(ctx):
    """Nobody but root gives orders to the host's collector, whether a rule names its program or not; what root does isn't
    held up by locks on what everybody can read; nothing of /run and /usr/lib is others' to write to."""
    source = ctx.compile("security/stranger.c", "glibc-O2", [f"-I{TOP}/src", f"-I{TOP}/src/wire"])
    guest = ctx.fresh("guest") / "a-guest"
    shutil.copy(source, guest)
    with users.make(ctx, "eve") as eve, HostBox(ctx) as box:
        box.write(RULES, "allow:\n- procname: a-guest\n")
        box.scope("start")
        for program, who, may in ((source, "a stranger", ()), (guest, "a guest", (2, 4))):
            said = box.run(eve.command(program, "/run/appscope/collector", "requests", 1, "/bin/true"), check_code=0).out.decode()
            got = {int(kind): int(status) for kind, status in map(str.split, said.splitlines())}
            check(len(got) == 14, f"{who}: answers", said)
            for kind, status in got.items():
                check(kind in may or status in (-errno.EPERM, -errno.EINVAL, 1), f"{who}: {kind} got {status}")
                check(kind not in (3, 5, 6, 7, 8, 9, 10, 11) or status == -errno.EPERM, f"{who}: order {kind} got {status}")
        holder = box.start(eve.command("sh", "-c", 'exec flock --exclusive /etc/scope sh -c "echo >$1; exec sleep 60"', "sh",
                                       eve.home / "held"))
        ctx.wait_for((eve.home / "held").exists, "the directory of the rules is locked")
        box.scope("rules", "--add", "another")
        check(b"another" in box.read(RULES), "the rule")
        for top in ("/run/appscope", "/usr/lib/appscope"):
            for where, below, names in os.walk(box.path(top)):
                for path in [where, *(os.path.join(where, n) for n in below + names)]:
                    st = os.lstat(path)
                    check(st.st_uid == 0 and (stat.S_ISLNK(st.st_mode) or stat.S_ISSOCK(st.st_mode) or not st.st_mode & 0o022), path)
        holder.kill()
        box.scope("stop", "-f")


@test("host/secrets", timeout=60)
def secrets(ctx):
    """What only root may read of the rules isn't told to everybody, whatever mistake is in them."""
    with users.make(ctx, "eve") as eve, HostBox(ctx) as box:
        box.write(RULES, "allow:\n- procname: a-program\n  config:\n    cribl: {enable: true, authtoken: t0ken}\n"
                         "    otlp: {headers: {authorization: s3cret}}\n", 0o600)
        box.scope("start")
        good = box.read(RULES)
        wrong = (b"source: {authToken: [t0ken]}\n", b"source:\n  authToken: t0ken: t0ken\n", b"source: {authToken: \"t0ken\n",
                 b"- t0ken\n", b"- procname: x\n  config: {cribl: {authtoken: [t0ken]}}\n",
                 b"- procname: x\n  config: {otlp: {headers: [s3cret]}}\n",
                 b"- procname: x\n  config: {cribl: {authtoken: \"t0ken\\x01\"}}\n",
                 b"- procname: x\n  config: {otlp: {endpoint: \"http://u:s3cret@x\"}}\n")
        shown = 0
        for text in wrong:
            box.write(RULES, good + text, 0o600)
            ctx.wait_for(lambda text=text: json.loads(box.read("/run/appscope/status.json"))["rulesError"], f"{text} is read")
            shown += 1
            said = box.run(eve.command("sh", "-c", "cat /run/appscope/* 2>/dev/null; cat /var/log/appscope.log /etc/scope/*; ls /var/lib/appscope")).out
            check(not PRIVATE.search(said), f"{text} is told to everybody", PRIVATE.search(said), said[-1500:])
            box.write(RULES, good, 0o600)
            ctx.wait_for(lambda: not json.loads(box.read("/run/appscope/status.json"))["rulesError"], "the mended file is read")
        equal(shown, len(wrong), "mistakes")
        box.scope("stop", "-f")
