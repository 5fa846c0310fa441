# SPDX-License-Identifier: Apache-2.0
"""What helps people: the examples of the help, run as they are printed; `scope` alone; tables that fit; progress."""

import os
import re
import signal
import stat

from scopetest import TOP, check, equal, free_port, test
from terminal import Terminal, on_terminal
from traffic import running

SHOP = """
import http.server
class Shop(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503)
        self.end_headers()
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", %d), Shop).serve_forever()
"""


def tasks(ctx):
    """Title and commands of each, as they are printed."""
    found = []
    for block in ctx.tool_run("help", "examples").out.decode().rstrip("\n").split("\n\n"):
        title, *lines = block.split("\n")
        check(lines and all(line.startswith("    scope ") for line in lines), "a task", block)
        found.append((title, [line.strip() for line in lines]))
    return found


def task(ctx, word):
    found = [lines for title, lines in tasks(ctx) if word in title]
    equal(len(found), 1, f"tasks with {word}")
    return found[0]


def program(ctx, text, name="app"):
    path = ctx.dir / name
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def follow(ctx, word, port=None, code=0):
    """Runs a task's commands in a shell as somebody would type them; what the last one has printed. port: where what it
    names by a number is in this test."""
    lines = task(ctx, word)
    bin_dir = ctx.dir / "bin"
    if not bin_dir.exists():
        bin_dir.mkdir()
        os.symlink(ctx.scope, bin_dir / "scope")
    env = ctx.env(PATH=f"{bin_dir}:{os.environ['PATH']}")
    for i, line in enumerate(lines):
        if port:
            line = re.sub(r"\b(8080|5353)\b", str(port), line)
        result = ctx.run(["bash", "-c", line], env=env, check_code=code if i == 0 else 0)
    return result.out.decode()


def shop(ctx, port):
    return running(ctx, [ctx.tool("python3"), "-c", SHOP % port], port)


RUN = {}


def example(word):
    """Marks the function that runs the task with this word in its title."""
    def add(fn):
        RUN[word] = fn
        return test("example_" + re.sub(r"\W+", "_", word).lower(), timeout=60)(fn)
    return add


@example("A request fails")
def request_fails(ctx):
    port = free_port()
    with shop(ctx, port):
        text = follow(ctx, "A request fails", port)
    check(re.search(r"http\.req .*http_method:GET.*http_target:/orders", text), "what was asked", text)
    check(re.search(r"http\.resp .*http_status_code:503", text), "what was the answer", text)


@example("Who writes this file")
def who_writes(ctx):
    program(ctx, "#!/bin/sh\ncat /dev/null app.log\nsh -c 'echo 123456789 >>app.log'\nsed -i s/1/2/ other\n")
    (ctx.dir / "app.log").write_text("")
    (ctx.dir / "other").write_text("1")
    lines = follow(ctx, "Who writes this file").splitlines()
    equal(len(lines), 1, "lines")
    check(re.search(r" sh fs fs\.close file:\S*/app\.log file_write_bytes:10$", lines[0]), "who", lines)


@example("this installer")
def installer(ctx):
    place = ctx.fresh("place")
    (ctx.dir / "install.sh").write_text(f"cp /etc/hostname {place}/tool\ncat .env >/dev/null\n")
    (ctx.dir / ".env").write_text("TOKEN=x\n")
    work = ctx.fresh("work")
    os.rename(ctx.dir / "install.sh", work / "install.sh")
    os.symlink("work/install.sh", ctx.dir / "install.sh")
    text = follow(ctx, "this installer")
    check(re.search(r"^Secrets read: 1$", text, re.M) and re.search(r"/\.env +\.env +sh\[\d+\] > cat\[\d+\]$", text, re.M), "secret", text)
    check(re.search(r"^Programs run: 3$", text, re.M), "programs", text)


@example("Which names")
def names_looked_up(ctx):
    port = free_port()
    with running(ctx, [ctx.tool("dnsmasq"), "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", f"--port={port}",
                       "--listen-address=127.0.0.1", "--bind-interfaces", "--address=/shop.example/192.0.2.7", "--pid-file=",
                       "--user=" + os.environ.get("USER", "root")], port):
        text = follow(ctx, "Which names", port)
    check(re.search(r"dns\.req .*domain:shop\.example.*qtype:A\b", text), "what was asked", text)
    check(re.search(r"dns\.resp .*192\.0\.2\.7", text) and "rcode:NOERROR" in text, "what it was told", text)


@example("It starts slowly")
def starts_slowly(ctx):
    program(ctx, "#!/bin/sh\ntrue\nsleep 0.7\ntrue\n")
    lines = follow(ctx, "It starts slowly").splitlines()
    found = {m[1]: int(m[2]) for line in lines if (m := re.search(r"(\S+) process proc\.exit duration:(\d+)", line))}
    check(found.get("sleep", 0) >= 700 and "exit_code:0" in lines[0], "the slow one", lines)


@example("Which configuration")
def which_configuration(ctx):
    program(ctx, "#!/bin/sh\ncat app.conf >/dev/null\ncat missing.conf 2>/dev/null\ntrue\n")
    (ctx.dir / "app.conf").write_text("x\n")
    lines = [line for line in follow(ctx, "Which configuration").splitlines() if " cat " in line]
    check(len(lines) == 1 and lines[0].endswith("/app.conf"), "the one that there is", lines)


@example("over the network")
def over_the_network(ctx):
    port = free_port()
    with shop(ctx, port):
        text = follow(ctx, "over the network", port)
    check(text.startswith("GET /orders HTTP/1.1\r\n") and f"Host: localhost:{port}\r\n" in text, "what it has said", text)


@example("Why did it crash")
def why_did_it_crash(ctx):
    (ctx.dir / "app.c").write_text("int price(int *p) { return *p; }\nint main(int n, char **v) { return price(n > 5 ? &n : 0); }\n")
    ctx.compiler(["gcc", "-g", "-O0", "app.c", "-o", ctx.dir / "app"])
    text = follow(ctx, "Why did it crash", code=-signal.SIGSEGV)
    check("SIGSEGV" in text and re.search(r"#0 .*price.*app\.c:1", text), "where", text)


@example("that runs already")
def that_runs_already(ctx):
    program(ctx, "#!/bin/sh\nwhile :; do cat /etc/hostname; sleep 0.1; done\n")
    process = ctx.start(["./app"], cwd=ctx.dir)
    ctx.wait_for(lambda: (ctx.dir / "bin").exists() or os.path.exists(f"/proc/{process.pid}/exe"), "the program")
    lines = task(ctx, "that runs already")
    env = ctx.env()
    # Other tests may have a program of this name: this one is named by its number.
    ctx.run([ctx.scope, *lines[0].replace(" app", f" {process.pid}").split()[1:]], env=env, check_code=0)
    ctx.wait_for(lambda: b"/etc/hostname" in ctx.run([ctx.scope, "events", "-a"], env=env).out, "an event")
    text = ctx.run([ctx.scope, *lines[1].split()[1:]], env=env, check_code=0).out.decode()
    equal(len(text.splitlines()), 5, "events")
    ctx.run([ctx.scope, *lines[2].replace(" app", f" {process.pid}").split()[1:]], env=env, check_code=0)
    check(process.poll() is None, "it goes on")


@example("most often")
def most_often(ctx):
    (ctx.dir / "data").write_text("x\n")
    program(ctx, f"#!{ctx.tool('python3')}\nfor i in range(300):\n    open('data').close()\n")
    first = follow(ctx, "most often").splitlines()[0].split()
    equal((first[0], os.path.basename(first[1])), ("300", "data"))


@test("examples_are_all_run")
def examples_are_all_run(ctx):
    """Ten, each of which has a test of its own; and they are in the page."""
    found = tasks(ctx)
    equal(len(found), 10)
    for title, lines in found:
        equal(len([w for w in RUN if w in title]), 1, f"tests of {title}")
    page = (TOP / "docs" / "cli.md").read_text()
    for title, lines in found:
        check(title in page and all(line in page for line in lines), "the page", title)


@test("examples_come_first")
def examples_come_first(ctx):
    """In each help, in the man page and in docs/cli.md."""
    page, man = (ctx.tool_run("help", how).out.decode() for how in ("--markdown", "--man"))
    sections = re.split(r"^## scope ", page, flags=re.M)[1:]
    check(len(sections) > 20, "sections", len(sections))
    for section in sections:
        name, text = section.split("\n", 1)
        check(text.startswith("\n    ") and text.index("\n    ") < text.index("Usage:"), f"examples of {name} in the page", text[:200])
        shown = ctx.tool_run(name, "--help").out.decode()
        check(0 < shown.index("Examples:") < shown.index("usage:"), f"examples of {name}", shown)
        part = man.split(f'.SH "SCOPE {name}"')[1].split(".SH ")[0]
        check("Examples:" in part and part.index("Examples:") < part.index("\\-\\-help"), f"examples of {name} in the man page", part)


@test("scope_alone")
def scope_alone(ctx):
    """On a terminal: the last sessions, and what to do next; elsewhere the overview."""
    overview = ctx.tool_run("help").out
    equal(Terminal(ctx).end(), overview.decode(), "without any session")
    for i in range(6):
        ctx.scoped(["echo", f"number-{i}"], check_code=0).session.wait_end()
    equal(ctx.tool_run().out, overview, "without a terminal")
    text = "\n".join(on_terminal(ctx, 80))
    equal(re.findall(r"^(\d+) .*echo number-(\d)", text, re.M), [(str(i + 1), str(i)) for i in range(1, 6)], "the last five")
    for command in re.findall(r"^  scope ((?:report|events|metrics|help)(?: \S+)?)  ", text, re.M):
        ctx.run([ctx.scope, *command.split()], check_code=0)
    check("scope report --touched" in text and "scope help examples" in text, "what to do next", text)
    hostile = "\x1b]0;title\x07"
    ctx.scoped(["echo", hostile], check_code=0).session.wait_end()
    check("\x1b" not in "\n".join(on_terminal(ctx, 80)), "an escape sequence reached the terminal")


@test("what_is_left_out_is_said")
def what_is_left_out_is_said(ctx):
    """Columns that a terminal is too narrow for are named below the table; not elsewhere."""
    ctx.scoped(["true"], check_code=0).session.wait_end()
    narrow = on_terminal(ctx, 66, "history")
    check(narrow[-1].startswith("(too narrow for ") and narrow[-1].endswith(")"), "a note", narrow)
    for name in re.findall(r"[A-Z][A-Z ]+", narrow[-1]):
        check(name not in narrow[0], f"{name} is there", narrow)
    check("too narrow" not in ctx.tool_run("history").out.decode(), "a note without a terminal")
    check("too narrow" not in "\n".join(on_terminal(ctx, 300, "history")), "a note on a wide terminal")


# --- progress ---

SLOW = "(function () { var t = Date.now(); while (Date.now() - t < %d); return true })()"
LINE = re.compile(r"reading events: (?:(\d+) %, )?(\d+) s *\r")


def on_both(ctx, *argv, shell=""):
    """What a command writes to its terminal, as it is; shell: redirections."""
    pid, fd = os.forkpty()
    if pid == 0:
        try:
            os.execve("/bin/sh", ["sh", "-c", f'"$@" {shell}', "sh", ctx.scope, *argv], ctx.env(TERM="dumb"))
        finally:
            os._exit(99)
    text = b""
    while True:
        try:
            piece = os.read(fd, 65536)
        except OSError:  # EIO: the other side is closed
            break
        if not piece:
            break
        text += piece
    equal(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0, "exit status")
    os.close(fd)
    return text.decode()


@test("progress_of_what_takes_long", timeout=60)
def progress_of_what_takes_long(ctx):
    """One line, from the second second on, and nothing of it is left; none where it would be mixed with output."""
    ctx.scoped(["sh", "-c", "for i in 1 2 3 4 5 6 7 8; do : </etc/hostname; done"], check_code=0).session.wait_end()
    count = int(ctx.tool_run("events", "-c").out)
    slow = SLOW % (2000 // count + 1)  # two seconds at least, however fast the machine is
    text = on_both(ctx, "events", "-c", "-e", slow)
    shown = LINE.findall(text)
    check(shown and all(int(seconds) >= 1 for _, seconds in shown), "a line while it reads, not before a second is over", text)
    check(re.search(r"\r +\r%d\r\n$" % count, text), "wiped, then the answer", text)
    check("\x1b" not in text, "escapes on a dumb terminal", text)
    check(all(int(percent) <= 100 for percent, _ in shown if percent), "percent", shown)
    check(LINE.search(on_both(ctx, "events", "-a", "-e", slow, shell=">/dev/null")), "output that goes elsewhere")
    check(not LINE.search(on_both(ctx, "events", "-a", "-e", slow)), "mixed with events")
    check(not LINE.search(on_both(ctx, "events", "-c", "-e", slow, shell="2>/dev/null")), "to a stdout")
    result = ctx.run([ctx.scope, "events", "-c", "-e", slow], check_code=0)
    equal((result.out, result.err), (b"%d\n" % count, b""), "without a terminal")


@test("progress_of_planning", timeout=60)
def progress_of_planning(ctx):
    """A large program is looked through before it starts for the first time: the line is gone when it does."""
    place = ctx.fresh("place")
    pid, fd = os.forkpty()
    if pid == 0:
        try:
            os.execve(ctx.scope, ["scope", "run", "--librarypath", str(place), "--", ctx.tool("node"), "-e", "console.log('begun')"],
                      ctx.env(TERM="dumb", NO_COLOR="1"))
        finally:
            os._exit(99)

    def planner():
        """This test's: others have some, too."""
        for child in (int(p) for p in os.listdir("/proc") if p.isdigit()):
            try:
                with open(f"/proc/{child}/comm") as f:
                    if f.read() != "scope-planner\n":
                        continue
                with open(f"/proc/{child}/environ", "rb") as f:
                    if b"SCOPE_HOME=%s\0" % os.fsencode(ctx.home) in f.read():
                        return child
            except OSError:
                continue
        return None

    child = ctx.wait_for(planner, "a planner", interval=0)
    os.kill(child, signal.SIGSTOP)  # so that it takes long on every machine
    text = b""
    while b"looking through" not in text:
        text += os.read(fd, 4096)
    os.kill(child, signal.SIGCONT)
    while True:
        try:
            piece = os.read(fd, 4096)
        except OSError:  # EIO: the other side is closed
            break
        text += piece
    equal(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0, "exit status")
    os.close(fd)
    check(re.search(rb"looking through \S*node: \d+ s\r", text), "the line", text)
    check(re.search(rb"\r +\rbegun\r\n$", text), "wiped before the program begins", text)
