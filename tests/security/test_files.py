# SPDX-License-Identifier: Apache-2.0
"""What root writes, removes and reads must be where root means it, whatever other users have put in the way."""

import json
import os
import shlex
import shutil
import stat

import users
from scopetest import Session, check, equal, test


def _victim(ctx):
    """A directory and a file of root's that nobody else may touch."""
    place = ctx.fresh("of-root")
    (place / "file").write_text("root's\n")
    tree = place / "tree" / "1"
    tree.mkdir(parents=True)
    (tree / "kept").write_text("root's\n")
    return place


def _untouched(place):
    found = sorted(str(p.relative_to(place)) for p in place.rglob("*"))
    equal(found, ["file", "tree", "tree/1", "tree/1/kept"], "what lies in root's directory")
    for name in ("file", "tree/1/kept"):
        equal((place / name).read_text(), "root's\n", f"content of {name}")


def _everybodys(ctx, name="everybody"):
    path = ctx.fresh(name)
    os.chmod(path, 0o1777)
    return path


def _as(user, *argv):
    user.ctx.run(user.command(*argv), check_code=0)


def _refused(result, *texts):
    equal(result.code, 0, "the program's status")
    check(b"runs unobserved" in result.err, "not refused", result.describe())
    for text in texts:
        check(str(text).encode() in result.err, f"the message doesn't name {text}", result.describe())


@test()
def store_made_by_somebody_else(ctx):
    """The store that root would make itself lies there already, and leads to root's files."""
    victim, tmp = _victim(ctx), _everybodys(ctx)
    store = tmp / ".scope"
    with users.make(ctx, "stranger") as stranger:
        _as(stranger, "mkdir", "-m", "777", store)
        _as(stranger, "ln", "-s", victim / "tree", store / "history")
        env = ctx.env(SCOPE_HOME=None, HOME=None, TMPDIR=tmp)
        for name in ("SCOPE_HOME", "HOME"):
            env.pop(name, None)
        _refused(ctx.run([ctx.scope, "run", "true"], env=env), store, stranger.uid)
        removed = ctx.run([ctx.scope, "prune", "--all", "--force"], env=env)
        _untouched(victim)
        check(b"symbolic link" in removed.err, "the reason isn't told", removed.describe())

        # A link of the stranger's in its place, and one at each place above it.
        for place in (store, tmp / "a", tmp / "a" / "b"):
            home = place if place == store else tmp / "a" / "b" / "store"
            for path in (store, tmp / "a"):
                shutil.rmtree(path, ignore_errors=True)
            if place.parent == tmp / "a":
                _as(stranger, "mkdir", tmp / "a")
            _as(stranger, "ln", "-s", victim, place)
            _refused(ctx.run([ctx.scope, "run", "true"], env=ctx.env(SCOPE_HOME=home)))
            ctx.run([ctx.scope, "prune", "--all", "--force"], env=ctx.env(SCOPE_HOME=home))
            _untouched(victim)
            os.unlink(place)


@test()
def store_in_tmp(ctx):
    """/tmp/.scope-0, where there is no home directory, in a /tmp of its own."""
    with users.make(ctx, "stranger") as stranger:
        prepare = " && ".join([
            "mount -t tmpfs -o mode=1777 tmpfs /tmp", "mkdir -m 700 /tmp/victim", "mkdir /tmp/victim/1",
            "echo kept > /tmp/victim/1/file",
            shlex.join(stranger.command("sh", "-c", "mkdir -m 755 /tmp/.scope-0; ln -s /tmp/victim /tmp/.scope-0/history")),
            "env -u HOME -u TMPDIR -u SCOPE_HOME /scope run true",
            "{ env -u HOME -u TMPDIR -u SCOPE_HOME /scope prune -a -f || :; }", "cat /tmp/victim/1/file", "ls /tmp/victim"])
        # The tool lies elsewhere: /tmp is hidden, and so may be where it was built.
        tool = ctx.dir / "scope"
        shutil.copy(ctx.scope, tool)
        prepare = prepare.replace("/scope ", "/proc/self/fd/9 ")
        result = ctx.run([ctx.tool("unshare"), "-m", "sh", "-c", f"exec 9<{shlex.quote(str(tool))}; {prepare}"])
        check(b"/tmp/.scope-0" in result.err and b"unobserved" in result.err, "not refused", result.describe())
        check(result.out.endswith(b"kept\n1\n"), "root's tree", result.describe())


@test()
def home_of_another_user(ctx):
    """With HOME left from sudo's caller, root keeps its sessions at home; SCOPE_HOME there is refused."""
    with users.make(ctx, "stranger") as stranger:
        lines = ["mount -t tmpfs -o mode=700 tmpfs /root", f"{shlex.quote(ctx.scope)} run true", "ls /root/.scope"]
        env = ctx.env(HOME=stranger.home)
        env.pop("SCOPE_HOME")
        result = ctx.run([ctx.tool("unshare"), "-m", "sh", "-c", " && ".join(lines)], env=env, check_code=0)
        equal(result.out.split(), [b"count", b"history", b"lock"], "root's own store")
        check(not os.listdir(stranger.home), "something was written to the stranger's home", os.listdir(stranger.home))
        _refused(ctx.run([ctx.scope, "run", "true"], env=ctx.env(SCOPE_HOME=stranger.home / ".scope")), stranger.home,
                 "SCOPE_HOME names another directory")
        below = stranger.home / "sub"
        below.mkdir()  # root's own, but in a directory of the stranger's
        _refused(ctx.run([ctx.scope, "run", "true"], env=ctx.env(SCOPE_HOME=below)), stranger.home)
        check(not os.listdir(below), "something was written there", os.listdir(below))


@test()
def directory_that_others_can_write(ctx):
    """A component with everybody's write permission is one that anybody can exchange, unless it is sticky."""
    open_ = ctx.fresh("open")
    home = open_ / "store"
    os.chmod(open_, 0o777)
    _refused(ctx.run([ctx.scope, "run", "true"], env=ctx.env(SCOPE_HOME=home)), open_)
    os.chmod(open_, 0o1777)
    ctx.home = home
    ctx.scoped(["true"], check_code=0)


def _swapper(user, script):
    """Runs a shell loop as that user."""
    return user.ctx.start(user.command("sh", "-c", f"while :; do {script}; done"))


@test()
def destinations_swapped_in_a_loop(ctx):
    """A destination of root's in another user's directory, whose parts become links to root's files again and again."""
    victim = _victim(ctx)
    program = ["sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do cat /etc/hostname >/dev/null; sleep .2; done"]
    with users.make(ctx, "stranger") as stranger:
        out = stranger.directory("out")
        swap = [
            # the file: away, a link there, away again
            _swapper(stranger, f"cd {out} && ln -sf {victim}/file e && mv -f e events.json && ln -sf {victim}/new e && "
                               f"mv -f e events.json && rm -f events.json && sleep .01"),
            # the directory
            _swapper(stranger, f"cd {stranger.home} && mkdir -p d && sleep .01; mv d d.old 2>/dev/null && ln -s {victim} d; "
                               f"sleep .01; rm -f d; rm -rf d.old")]
        runs = [ctx.start([ctx.scope, "run", "-e", f"file://{path}", "--", *program])
                for path in (out / "events.json", stranger.home / "d" / "events.json", stranger.home / "d" / "file") * 2]
        for run in runs:
            equal(run.wait(30), 0, "the program's status")
        for path in ctx.sessions():
            Session(ctx, path).wait_end()
        for process in swap:
            process.kill()
    _untouched(victim)


@test()
def session_exchanged_while_recorded(ctx):
    """Who could rename the session's directory (here root) can't make the collector write elsewhere."""
    victim = _victim(ctx)
    process = ctx.start(ctx.scope_argv(["sh", "-c", "for i in 1 2 3 4 5; do cat /etc/hostname; sleep .5; done"]))
    session = ctx.wait_for(lambda: ctx.sessions() and Session(ctx, ctx.sessions()[0]), "the session")
    ctx.wait_for(lambda: session.collector_runs() and session.meta.get("events"), "events")
    moved = ctx.home / "moved"
    os.rename(session.dir, moved)
    session.dir.mkdir()
    store = session.store(moved).name
    names = sorted({store, "metrics.json", "session.json", "lock", "payloads", "cmd"})
    for name in names:
        os.symlink(victim / "file" if name == store else victim / name, session.dir / name)
    size = (moved / store).stat().st_size
    process.wait(20)
    ended = Session(ctx, session.dir)
    ended.dir = moved
    ended.wait_end()
    _untouched(victim)
    check((moved / store).stat().st_size > size, "the session went on in its directory")
    equal(sorted(os.listdir(session.dir)), names, "what lies under its old name")
    shutil.rmtree(session.dir)


@test()
def made_anew_with_the_same_mode(ctx):
    """Files that were moved away are made anew, for nobody else to read if they weren't before."""
    own = ctx.dir / "own.json"
    own.touch()
    os.chmod(own, 0o640)
    stop = ctx.dir / "stop"
    loop = f"until [ -e {stop} ]; do cat /etc/hostname; sleep .2; done" # a file is made anew when there is something to write
    for flags, name, mode in (([], None, 0o600), (["-e", f"file://{own}"], own, 0o640)):
        stop.unlink(missing_ok=True)
        before = set(ctx.sessions())
        process = ctx.start(ctx.scope_argv(["sh", "-c", loop], flags), preexec=lambda: os.umask(0o022))
        path = ctx.wait_for(lambda: set(ctx.sessions()) - before, "the session")
        session = Session(ctx, path.pop())
        # Its directory is there before what is in it.
        path = name or ctx.wait_for(lambda s=session: s.store().exists() and s.store(), "the session's file")
        ctx.wait_for(lambda: path.exists() and path.stat().st_size, "events")
        os.rename(path, f"{path}.1")
        ctx.wait_for(lambda: path.exists() and path.stat().st_size, "the file made anew")
        equal(oct(stat.S_IMODE(path.stat().st_mode)), oct(mode), f"mode of {path.name}")
        stop.touch()
        process.wait(20)


@test()
def nothing_for_others_whatever_the_umask(ctx):
    for mask in (0, 0o277):
        session = ctx.scoped(["true"], preexec=lambda m=mask: os.umask(m), check_code=0).session
        session.wait_end()
        for path in (session.dir, *session.dir.rglob("*")):
            mode = stat.S_IMODE(path.stat().st_mode)
            equal(oct(mode), oct(0o700 if path.is_dir() else 0o600), f"mode of {path.name} with umask {mask:o}")


@test()
def named_files_of_others(ctx):
    """Links, second names, pipes and files that others have put where root's destination is to be."""
    victim, shared = _victim(ctx), _everybodys(ctx)
    with users.make(ctx, "stranger") as stranger:
        def prepare(kind, path):
            if kind == "link":
                _as(stranger, "ln", "-s", victim / "file", path)
            elif kind == "new":
                _as(stranger, "ln", "-s", victim / "new", path)
            elif kind == "second name":
                os.link(victim / "file", path)  # what fs.protected_hardlinks=0 lets the stranger do
            elif kind == "pipe":
                _as(stranger, "mkfifo", "-m", "666", path)
            else:
                _as(stranger, "sh", "-c", f"echo mine > {path}; chmod 666 {path}")
        for i, kind in enumerate(("link", "new", "second name", "pipe", "file")):
            path = shared / f"{i}.json"
            prepare(kind, path)
            session = ctx.scoped(["cat", "/etc/hostname"], flags=["-e", f"file://{path}"], check_code=0).session
            session.wait_end()
            check(str(path) in session.log(), f"{kind}: nothing is told", session.log())
            if kind == "file":
                equal(path.read_text(), "mine\n", "the stranger's file")
            got = ctx.run([ctx.scope, "extract", path])
            check(got.code == 1, f"extracted to a {kind}", got.describe())
        os.unlink(shared / "2.json")
        _untouched(victim)

        # To a directory of the stranger's it may be written, but not through what lies there.
        target = stranger.directory("target")
        _as(stranger, "ln", "-s", victim / "file", target / "libscope.so")
        _as(stranger, "ln", "-s", victim / "file", target / "scope.yml")
        ctx.tool_run("extract", target)
        check(not (target / "libscope.so").is_symlink(), "the link is replaced")
        _as(stranger, "ln", "-s", victim, stranger.home / "out")
        result = ctx.tool_run("extract", stranger.home / "out", check_code=1)
        check(b"symbolic link" in result.err, "message", result.describe())
        _untouched(victim)


@test()
def links_that_are_followed(ctx):
    """Links of root's own, and for other users their own: a path is still the user's to choose."""
    real = ctx.fresh("real")
    os.symlink(real, ctx.dir / "link")
    os.symlink(real / "target.json", real / "events.json")
    ctx.scoped(["true"], flags=["-e", f"file://{ctx.dir}/link/events.json"], check_code=0).session.wait_end()
    check("proc.start" in (real / "target.json").read_text(), "events")
    ctx.home = ctx.dir / "link" / "store"
    ctx.scoped(["true"], check_code=0)
    result = ctx.run([ctx.scope, "run", "-e", "file:///dev/stderr", "--", "true"], check_code=0)
    session = max(ctx.sessions(), key=lambda p: int(os.path.basename(p)))
    Session(ctx, session).wait_end()
    with users.make(ctx, "somebody") as somebody:
        data = somebody.directory("data")
        _as(somebody, "ln", "-s", data, somebody.home / ".scope")
        scope = shutil.copy(ctx.scope, ctx.dir / "scope")
        result = ctx.run(somebody.command(scope, "run", "true"), env=somebody.env(), check_code=0)
        check((data / "history" / "1").is_dir() and not result.err, "a session", result.describe())
        ctx.home = data


@test()
def prune_stays_inside(ctx):
    victim = _victim(ctx)
    session = ctx.scoped(["true"], check_code=0).session
    session.wait_end()
    os.symlink(victim / "tree", session.dir / "payloads" / "link")
    os.symlink(victim / "tree" / "1", session.dir.parent / "77")
    with users.make(ctx, "stranger") as stranger:
        theirs = session.dir.parent / "78"
        theirs.mkdir()
        (theirs / "file").touch()
        os.chown(theirs, stranger.uid, stranger.gid)
        result = ctx.tool_run("prune", "--all", "--force", check_code=1)
        check(b"Removed 1 " in result.out and b"session 78" in result.err, "told", result.describe())
        check((theirs / "file").exists() and not session.dir.exists(), "what was removed")
        shutil.rmtree(theirs)
    os.unlink(session.dir.parent / "77")
    history = ctx.home / "history"
    os.rename(history, ctx.home / "away")
    os.symlink(victim / "tree", history)
    ctx.run([ctx.scope, "prune", "--all", "--force"])
    _untouched(victim)
    os.unlink(history)


@test()
def library_of_another_user(ctx):
    """-l DIR is where code for other programs comes from: not from where a stranger could exchange it."""
    with users.make(ctx, "stranger") as stranger:
        lib = stranger.directory("lib")
        (stranger.home / "of-root").mkdir()
        for path in (lib, stranger.home / "of-root"):
            _refused(ctx.run([ctx.scope, "run", "-l", path, "true"]), stranger.uid)
            check(not os.listdir(path), "something was written", os.listdir(path))
        shared = _everybodys(ctx)
        ctx.run([ctx.scope, "run", "-l", shared, "true"], check_code=0)
        version = os.listdir(shared)[0]
        shutil.rmtree(shared / version)
        _as(stranger, "mkdir", "-m", "755", shared / version)
        _refused(ctx.run([ctx.scope, "run", "-l", shared, "true"]), version)


@test()
def reading_somebody_elses_store(ctx):
    """Root looks at a stranger's sessions, which lead to root's secrets, to pipes and devices: shown is none of it."""
    secret = ctx.dir / "secret"
    secret.write_text('{"type":"evt","id":"x","body":{"_time":1,"source":"SECRET","sourcetype":"fs","host":"h","proc":"p",'
                      '"cmd":"c","pid":1,"data":{"file":"SECRET"}}}\n' * 3)
    os.chmod(secret, 0o600)
    with users.make(ctx, "stranger") as stranger:
        store = stranger.directory(".scope")
        stranger.directory(".scope/history")
        env = ctx.env(SCOPE_HOME=store)

        def session(number, **more):
            path = stranger.directory(f".scope/history/{number}")
            meta = {"version": 1, "id": number, "command": "evil", "argv": ["evil"], "kind": "run", "pid": 1, "start_ns": 1,
                    "end_ns": 2, "event_dest": f"file://{path}/events.json", "payload_dir": f"{path}/payloads", **more}
            (path / "session.json").write_text(json.dumps(meta))
            os.chown(path / "session.json", stranger.uid, stranger.gid)
            return path
        links = session(1)
        for name in ("events.json", "metrics.json", "scope.log"):
            _as(stranger, "ln", "-s", secret, links / name)
        _as(stranger, "ln", "-s", ctx.dir, links / "payloads")
        pipes = session(2)
        for name in ("events.json", "metrics.json", "scope.log", "lock"):
            _as(stranger, "mkfifo", pipes / name)
        pipe = stranger.directory(".scope/history/3")
        _as(stranger, "mkfifo", pipe / "session.json")
        session(4, event_dest=f"file://{secret}", metric_dest=f"file://{secret}", payload_dir=str(ctx.dir))
        _as(stranger, "ln", "-s", ctx.dir, store / "history" / "5")
        _as(stranger, "mkfifo", store / "count")
        for number in (1, 2, 3, 4, 5):
            for command in (["events"], ["metrics"], ["logs"], ["flows"], ["history"], ["report"]):
                result = ctx.run([ctx.scope, command[0], "--id", number, *command[1:]], env=env, timeout=10)
                check(b"SECRET" not in result.out + result.err, f"{command[0]} of session {number}", result.describe())
        listed = ctx.run([ctx.scope, "history"], env=env, timeout=10, check_code=0)
        equal(listed.out.count(b"evil"), 6, f"sessions listed: {listed.describe()}")
        ctx.run([ctx.scope, "prune", "-a", "-f"], env=env)
        check((links / "session.json").exists() and secret.exists(), "something was removed")


NAME = "x\n2026-01-01T00:00:00.000+0000 error forged \x1b[2J\u009b31m\u202e\u2066\u200f\u061c\u2028\x7fé"
SHOWN = "x\\n2026-01-01T00:00:00.000+0000 error forged \\x1b[2J\\x9b31m\\u202e\\u2066\\u200f\\u061c\\u2028\\x7fé"


def _clean(data, what):
    text = data.decode()
    bad = [c for c in text if (ord(c) < 0x20 and c != "\n") or 0x7f <= ord(c) < 0xa0
           or c in "\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"]
    check(not bad, f"{what}: {bad!r}", repr(text[:2000]))
    check("\n2026-01-01" not in text, f"{what}: a forged line", repr(text[:2000]))
    return text


@test()
def names_neither_forge_nor_drive(ctx):
    """What is in names reaches log and terminal as text: one line, no controls, in no other direction."""
    setuid = ctx.dir / NAME  # left alone, which is told by its name
    shutil.copy("/bin/true", setuid)
    os.chown(setuid, 65534, 65534)
    os.chmod(setuid, 0o4755)
    session = ctx.scoped(["sh", "-c", './x*; cat ./x* >/dev/null; printf "%s\\n" x*'], cwd=ctx.dir, check_code=0).session
    session.wait_end()
    log = _clean((session.dir / "scope.log").read_bytes(), "scope.log")
    check(SHOWN in log, "the name isn't in the log", log)
    for words in (["logs"], ["events", "-a"], ["history"], ["report"], ["metrics"], ["events", "-a", "-j"], ["logs", "-j"],
                  ["metrics", "-j"], ["report", "-j"], ["history", "-j"]):
        _clean(ctx.tool_run(*words).out, " ".join(words))
    _clean(b"\n".join(session.lines("events.json")), "events.json")
    check(SHOWN in ctx.tool_run("events", "-a").out.decode(), "the name isn't among the events")
    names = {e["body"]["data"].get("file") for e in map(json.loads, ctx.tool_run("events", "-a", "-j").out.splitlines())
             if isinstance(e["body"]["data"], dict)}
    check(str(setuid) in names, "the JSON has another name", repr(names))
    for words in (["run", "--", f"./{NAME}-missing"], ["events", "--eval", f"{NAME}("], ["run", "-l", NAME, "true"],
                  ["extract", NAME + "/"], ["flows", NAME], ["attach", NAME], ["config", "check", NAME]):
        result = ctx.run([ctx.scope, *words])
        check(result.err, f"{words[0]} says nothing", result.describe())
        for line in _clean(result.err, f"messages of {words[0]}").splitlines():
            check("forged" not in line or "x\\n2026" in line, "a line of its own", repr(line))


@test(timeout=120)
def eval_has_limits(ctx):
    ctx.scoped(["true"], check_code=0).session.wait_end()
    # On a busy machine the time is over before the memory is.
    for expression, texts in (('/(a+)+$/.test("' + "a" * 40 + 'b")', (b"more than 2 s",)),
                              ('(function(){var a="x";for(;;)a+=a;})()', (b"more than 256 MiB", b"more than 2 s"))):
        result = ctx.run([ctx.scope, "events", "--eval", expression])
        equal(result.code, 1, f"status of {expression}")
        check(any(t in result.err for t in texts) and result.err.count(b"\n") == 1, expression, result.describe())
    check(ctx.tool_run("events", "--eval", "source == 'proc.start'").out, "an expression that is none of these")


@test()
def configuration_that_others_wrote(ctx):
    """scope.yml says where root writes: one that merely lies where root works, and is a stranger's, isn't read."""
    victim, work = _victim(ctx), _everybodys(ctx, "work")
    text = f"event: {{transport: {{type: file, path: {victim}/new}}}}\nmetric: {{enable: false}}\n"
    env = ctx.env(HOME="/nonexistent", SCOPE_LOG_DEST=f"file://{ctx.dir}/log")
    env.pop("SCOPE_HOME")

    def run(**more):
        ctx.run([ctx.scope, "run", "-z", "--", "cat", "/etc/hostname"], cwd=work, env={**env, **more}, check_code=0)
    with users.make(ctx, "stranger") as stranger:
        _as(stranger, "sh", "-c", f"echo {shlex.quote(text)} > {work}/scope.yml")
        run()
        ctx.wait_for(lambda: (ctx.dir / "log").exists() and "scope.yml belongs to user" in (ctx.dir / "log").read_text(),
                     "the reason in the log")
        _untouched(victim)
        os.unlink(work / "scope.yml")
        (work / "scope.yml").write_text(text)  # root's own
        run()
        ctx.wait_for(lambda: (victim / "new").exists() and "proc.start" in (victim / "new").read_text(), "root's own file")


@test("files/rootdir")
def rootdir(ctx):
    """--rootdir doesn't enter what a user has mounted in a namespace of its own, where any program may be any other."""
    with users.make(ctx, "mounter") as user:
        root = user.directory("root")
        (root / "proc").mkdir()
        shutil.copy(ctx.compile("host/waits.c", "static"), root / "waits")
        shell = 'mount --rbind /proc "$1/proc" && exec chroot "$1" /waits 60'
        process = ctx.start(user.command(ctx.tool("unshare"), "--user", "--map-root-user", "--mount", "sh", "-c", shell, "sh", root),
                            env=user.env())
        ctx.wait_for(lambda: os.path.basename(os.readlink(f"/proc/{process.pid}/exe")) == "waits", "it is there")
        said = ctx.run([ctx.scope, "ps", "--rootdir", f"/proc/{process.pid}/root"])
        check(said.code == 1 and b"no process with root directory" in said.err, said.describe())
