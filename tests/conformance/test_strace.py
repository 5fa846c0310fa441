# SPDX-License-Identifier: Apache-2.0
"""Agreement with strace on real commands.

Each command runs several times under strace and once under scope (--lossless), always in a
fresh directory of the same name, prepared alike. Compared is the multiset of
(operation, path or address, bytes, result). Exceptions, all of them:

1. What the dynamic loader does before the first constructor of an image runs
   (calls.strace_calls says where that ends): the probe is loaded by the loader.
2. Calls that two strace runs of the same command do not agree on themselves,
   because they depend on the order in which processes happen to run (wait4,
   sizes of reads from pipes, polling): a tuple has to be there as often as
   strace saw it in its runs, between the smallest and the greatest number.
   At least STABLE of the calls must be certain in this sense, else the test
   fails for being a bad test.
3. Numbers that differ from run to run: process ids in results and in /proc
   names, new descriptors (compared as "a descriptor"), addresses of mappings,
   and the random names listed with each command.
4. Commands that read from a pipe or a connection get what is there at that
   moment, in as many pieces as it happens: for the calls named as in_pieces the
   sum of the bytes is compared instead of each call's.
5. How many threads a Go program starts, and how often it looks in vain whether a
   pipe has something to read (EAGAIN), is up to its scheduler; and esbuild reads
   the directories above its own, where others make files: by_chance.
6. What reads its own /proc/self/maps finds more there when it is observed: gawk
   does, so awk is called by the name of one that doesn't.
7. mmap of no file, and the commands of fcntl and ioctl that neither make nor
   mark a descriptor: not observed (calls.observed).
"""

import errno
import os
import shutil
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import calls
import foreign
from scopetest import EMULATED, Failure, add_test, check

STABLE = 0.97
RUNS = 3


class Command:
    """A command line, how its directory is prepared, and what differs from run to run."""

    def __init__(self, name, line, prepare=None, random=(), in_pieces=(), tools=(), stable=STABLE, timeout=180,
                 by_chance=()):
        self.name, self.line, self.prepare, self.random = name, line, prepare, random
        self.in_pieces, self.tools, self.stable, self.timeout = in_pieces, tools, stable, timeout
        self.by_chance = by_chance  # operations, or (operation, result)


def tree(ctx, work):
    for d in range(8):
        (work / f"dir{d}" / "sub").mkdir(parents=True)
        for f in range(10):
            (work / f"dir{d}" / f"file{f}.txt").write_text(f"file {f} of {d}\n" * (f * 50 + 1))
        os.symlink(f"../file{d}.txt", work / f"dir{d}" / "sub" / "link")
    for base, dirs, names in os.walk(work):
        for n in dirs + names:
            os.utime(os.path.join(base, n), (1_700_000_000, 1_700_000_000), follow_symlinks=False)


def c_project(ctx, work):
    (work / "main.c").write_text('#include <stdio.h>\n#include "part.h"\nint main(void) { printf("%d\\n", part(3)); }\n')
    (work / "part.h").write_text("int part(int);\n")
    (work / "part.c").write_text('#include "part.h"\nint part(int x) { return x * 2; }\n')
    (work / "Makefile").write_text("prog: main.o part.o\n\tcc -o $@ $^\n%.o: %.c part.h\n\tcc -O1 -c -o $@ $<\n"
                                   "check: prog\n\t./prog >out\n\ttest `cat out` = 6\n")


def script(ctx, work):
    (work / "script").write_text("""#!/bin/bash
for i in {1..100}; do
    x=$(echo $i)
    (exit 3)
    cat in >/dev/null
    echo $x >>out
done
while read line; do [[ -e $line ]]; done <out
sort -n out | tail -1
""")
    (work / "in").write_text("text\n")


PYTHON = r'''
import os, subprocess, sys, threading, tempfile, json, socket
results = []
def work(n):
    with open(f"data-{n}", "w") as f:
        f.write("x" * (1000 * n))
    with open(f"data-{n}") as f:
        results.append(len(f.read()))
    out = subprocess.run(["/bin/echo", str(n)], stdout=subprocess.PIPE, check=True).stdout
    results.append(int(out))
for n in range(1, 9):
    t = threading.Thread(target=work, args=(n,))
    t.start()
    t.join()
assert sum(results) == 36036
subprocess.run(["/bin/sh", "-c", "cat data-3 | wc -c > count"], check=True)
os.rename("count", "counted"); os.mkdir("d"); os.symlink("x", "d/l"); os.unlink("d/l"); os.rmdir("d")
a, b = socket.socketpair()
a.sendall(b"12345"); assert b.recv(100) == b"12345"
for name in os.listdir("."):
    os.stat(name)
print(json.dumps(sorted(results)))
'''


def python_script(ctx, work):
    (work / "script.py").write_text(PYTHON)


def ed_script(ctx, work):
    (work / "text").write_text("".join(f"line {i} of the text\n" for i in range(500)))
    (work / "commands").write_text("1,$s/line/LINE/\n100,200d\n$a\nthe end\n.\nw out\nq\n")


def sql(ctx, work):
    rows = "".join(f"INSERT INTO t VALUES({i}, 'name {i}');\n" for i in range(200))
    (work / "in.sql").write_text("PRAGMA journal_mode=DELETE;\nCREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT);\nBEGIN;\n"
                                 + rows + "COMMIT;\nCREATE INDEX i ON t(b);\nDELETE FROM t WHERE a % 3 = 0;\n"
                                 "SELECT count(*) FROM t;\nVACUUM;\n")


def table(ctx, work):
    (work / "in").write_text("".join(f"{i * 7919 % 1000} {i}\n" for i in range(3000)))


def go_files(variant):
    def prepare(ctx, work):
        shutil.copy2(ctx.go_build("files", variant), work / "files")
    return prepare


def bundled(release):
    def prepare(ctx, work):
        foreign.js_project(work, 20)
        shutil.copy2(foreign.esbuild(release), work / "esbuild")
    return prepare


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + b"x" * 9000)

    def log_message(self, *args):
        pass


GIT = ("export HOME=$PWD GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_DATE='1700000000 +0000' GIT_COMMITTER_DATE='1700000000 +0000';"
       "git -c init.defaultBranch=main init -q repo && cd repo && git config user.email a@b.c && git config user.name A &&"
       "cp -rp ../dir1 ../dir2 . && git add . && git commit -q -m first && echo more >>dir1/file1.txt && touch -d @1700000100 dir1/file1.txt &&"
       "git commit -qam second && git log --stat >../log && git status --short && git diff HEAD~1 >../diff &&"
       # What git-gc(1) does, which would write its process number, a digit more or less, into a file.
       "git pack-refs --all --prune && git reflog expire --all && git repack -q -d -l -a && git prune --expire 2.weeks.ago")

COMMANDS = [
    Command("list", "ls -lR . /etc >out 2>&1", tree),
    Command("archive", "tar czf a.tar.gz dir0 dir1 dir2 dir3 && mkdir x && tar xzf a.tar.gz -C x", tree, tools=["tar", "gzip"],
            in_pieces=["read", "write"]),
    Command("compile", "gcc -O2 -c main.c && gcc -O2 -c part.c && gcc main.o part.o -o prog && ./prog", c_project,
            random=[(r"/cc\w{6}\b", "/ccTEMP")], tools=["gcc"]),
    Command("git", GIT, tree, random=[(r"tmp_obj_\w+", "tmp_obj"), (r"\.git/t\w{6}$", ".git/tTEMP"), (r"(refs|packs)_\w{6}$", r"\1_TEMP"), (r"tmp_(pack|idx|rev)_\w+", r"tmp_\1"),
                                      (r"\.tmp-\d+-", ".tmp-N-"),
                                      (r"t-multi-pack\w+", "t-multi-pack"), (r"\d+$", "N")], tools=["git"]),
    Command("python", "/usr/bin/python3 -I -B script.py", python_script, tools=["/usr/bin/python3"]),
    Command("bash-300-forks", "bash ./script", script, tools=["bash"]),
    Command("packages", "dpkg -l >out; dpkg -L bash >>out; apt-cache policy bash >>out", None, tools=["dpkg", "apt-cache"],
            random=[(r"fileutl\.message\.\w+", "fileutl.message"), (r"pkgcache\.bin\.\w+", "pkgcache.bin")]),
    Command("editor", "ed -s text <commands && sed -i 's/text/TEXT/' out && "
                      "ex -u NONE -i NONE -n -s -c '%s/LINE/Line/' -c 'wq' out", ed_script, tools=["ed", "sed", "ex"],
            random=[(r"/sed\w{6}$", "/sedTEMP"), (r"/ed\.\w{6}$", "/ed.TEMP"), (r"/v\w{6}/\d+$", "/vTEMP/N"),
                    (r"/v\w{6}$", "/vTEMP"), (r"/tmpf\w{6}$", "/tmpfTEMP")]),
    Command("database", "sqlite3 test.db <in.sql >out && sqlite3 test.db .dump >dump", sql, tools=["sqlite3"]),
    Command("find-xargs", ": >out; find . -type f -name 'file*' -print0 | sort -z | xargs -0 -n 10 wc -c >out; find dir1 -delete", tree,
            tools=["find", "xargs"]),
    Command("make", "make -j1 check", c_project, random=[(r"/cc\w{6}\b", "/ccTEMP"), (r"/GMfifo\d+", "/GMfifoN"),
                                                        (r"/GmXXXXXX|/Gm\w{6}$", "/GmTEMP")], tools=["make", "gcc"]),
    Command("perl", r"""perl -e 'open F, "<", "in"; while (<F>) { $h{$1}++ if /^(\d)/ } close F; open O, ">", "out";
            print O "$_ $h{$_}\n" for sort keys %h; close O; mkdir "d"; rename "out", "d/out"; print `cat d/out`;
            $p = fork; exit 5 unless $p; waitpid $p, 0; system "true"; unlink "d/out"; rmdir "d"'""", table, tools=["perl"]),
    Command("awk-sort", "mawk '{ s[$1 % 10] += $2 } END { for (i in s) print i, s[i] }' in | sort -n >out; "
                        "sort -R --random-source=in in | sort -k2n -u -o out2; cut -d' ' -f1 in | uniq -c >out3",
            table, tools=["mawk", "sort"], in_pieces=["read", "write"]),
    Command("curl", "for i in 1 2 3; do curl -s -o out$i http://127.0.0.1:$PORT/file$i || exit 9; done; cat out1 out2 >both", None,
            tools=["curl"], in_pieces=["recvfrom"]),
    *(Command(f"go-{variant}", "./files >out", go_files(variant), in_pieces=["read"], timeout=400,
              by_chance=["clone", "clone3", ("read", -errno.EAGAIN)])
      for variant in ("cgo", "cgo-stripped", "cgo-external-pie", "pie", "static", "static-stripped")),
    *(Command(f"esbuild-{release}", "./esbuild --bundle main.js --outfile=out.js --log-level=error && cat out.js", bundled(release),
              in_pieces=["read"], timeout=400, by_chance=["clone", "clone3", ("read", -errno.EAGAIN), "getdents64"])
      for release in foreign.ESBUILD),
    Command("busybox", "busybox tar cf a.tar dir0 dir1 dir2 && busybox mkdir x && busybox tar xf a.tar -C x &&"
                       "busybox ls -lR . >list && busybox gzip -c dir1/file9.txt >z && busybox cp -a dir3 copy &&"
                       "busybox find . -name 'file*' -exec busybox wc -c {} + >sizes && busybox sort -o sorted sizes &&"
                       "busybox sh -c 'for i in 1 2 3; do echo $i >f$i; (cat f$i); done; busybox rm -r x; exec busybox md5sum sorted' >out",
            tree, tools=["busybox"]),
    Command("initdb", None, None, tools=[], in_pieces=["read", "write"], timeout=400,
            random=[(r"xlogtemp\.\d+", "xlogtemp.N"), (r"/PostgreSQL\.\d+", "/PostgreSQL.N"), (r"pgsql_tmp\w+", "pgsql_tmp")]),
]


def postgres_tool(ctx, name):
    found = sorted(os.listdir("/usr/lib/postgresql"))[-1:] if os.path.isdir("/usr/lib/postgresql") else []
    path = f"/usr/lib/postgresql/{found[0]}/bin/{name}" if found else None
    check(path and os.access(path, os.X_OK), f"{name}: not installed (install_build_tools.sh installs what tests need)")
    return path


def shell_line(ctx, command):
    if command.name != "initdb":
        return command.line
    # Refuses to run as root.
    tool = postgres_tool(ctx, "initdb")
    line = f"{tool} -D data -A trust -U postgres --locale=C --no-sync >log 2>&1"
    return line if os.geteuid() else f"setpriv --reuid=65534 --regid=65534 --clear-groups sh -c '{line}'"


def prepared(ctx, command):
    work = ctx.dir / "work"
    if work.exists():
        shutil.rmtree(work)
    work.mkdir()
    os.chmod(work, 0o777 if command.name == "initdb" else 0o755)
    if command.prepare:
        command.prepare(ctx, work)
    return work


def seen_by_strace(ctx, command, line, number, env):
    work = prepared(ctx, command)
    shutil.rmtree(ctx.dir / f"strace-{number}", ignore_errors=True)
    out = ctx.fresh(f"strace-{number}")
    result = ctx.run([ctx.tool("strace"), "-ff", "-xx", "-s", "5000", "-e", "trace=" + calls.STRACE_SET, "-o", out / "t",
                      "/bin/sh", "-c", line], cwd=work, env=env)
    threads = calls.strace_calls(out, "t")
    # strace itself execs the shell: its first call.
    return result, [c for calls_of in threads.values() for c in calls_of]


def counted(all_calls, command):
    kept = [c for c in all_calls if c.op in calls.TABLE and c.op not in command.by_chance
            and (c.op, c.result) not in command.by_chance]
    found = calls.multiset(kept, command.random, command.in_pieces)
    for op in command.in_pieces:
        found[(op, "sum of bytes", None, None, sum(c.bytes or 0 for c in kept if c.op == op))] = 1
        # What fails is not a matter of pieces.
        found.update(calls.key(c, command.random) for c in kept if c.op == op and c.result is not None and c.result < 0)
    return found


def digits_of_pids():
    with open("/proc/loadavg", encoding="ascii") as f:
        return len(f.read().split()[-1])  # proc_loadavg(5): the process number given last


def undisturbed(compare):
    """What programs do is compared by running them several times. Most of them read /etc/passwd, and other tests make users;
    some write their process number, a digit more or less, into a file (postmaster.pid). What differs while /etc changes, or
    the numbers of new processes get longer or shorter, is compared once more."""
    def state():
        return [digits_of_pids(), *(os.stat(path).st_mtime_ns for path in ("/etc", "/etc/passwd", "/etc/group"))]

    def several_times(ctx, command):
        for _ in range(20):
            before = state()
            try:
                return compare(ctx, command)
            except Failure:
                if state() == before:
                    raise
        raise Failure("bad test: /etc or the length of process numbers changed twenty times")
    return several_times


@undisturbed
def agree(ctx, command):
    for t in command.tools:
        ctx.tool(t)
    line = shell_line(ctx, command)
    server = None
    env = ctx.env()
    if command.name == "curl":
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        env = ctx.env(PORT=server.server_port)
    try:
        runs = []
        for number in range(RUNS):
            bare, seen = seen_by_strace(ctx, command, line, number, env)
            check(bare.code == 0, "the command failed under strace", bare.describe())
            runs.append(counted(seen, command))
        work = prepared(ctx, command)
        result = ctx.scoped(["/bin/sh", "-c", line], ["--syscalls", "--lossless"], cwd=work, env=env)
        check((result.code, result.out, result.err) == (bare.code, bare.out, bare.err), "output or status differs",
              "strace: " + bare.describe(), "scope: " + result.describe())
    finally:
        if server:
            server.shutdown()
            server.server_close()
    got = counted([calls.from_event(b) for b in result.session.events("syscall")], command)
    # strace sees its own exec of the shell; for scope that exec is before the program.
    keys = set(got).union(*runs)
    low = {k: min(r[k] for r in runs) for k in keys}
    high = {k: max(r[k] for r in runs) for k in keys}
    all_calls = sum(high.values())
    certain = sum(low[k] for k in keys if low[k] == high[k])
    wrong = [(k, got[k], low[k], high[k]) for k in keys if not low[k] <= got[k] <= high[k]
             and not (k[0] == "execve" and low[k] - got[k] == 1 and k[1] == "/bin/sh")]
    # Uncertain ones: their number must fit as a whole, per operation.
    wrong = [w for w in wrong if w[2] == w[3] or out_of_range(w[0], got, runs)]
    wrong.sort(key=lambda w: -abs(w[1] - w[2]))
    summary = (f"{command.name}: {all_calls} calls, {100 * certain / max(1, all_calls):.1f} % certain, "
               f"{sum(got.values())} seen by scope, {len(wrong)} differ")
    if ctx.options.keep:
        print("      " + summary, flush=True)
    if wrong:
        by_op = Counter()
        for k, n, lo, hi in wrong:
            by_op[k[0]] += n - hi if n > hi else n - lo
        raise Failure("\n".join([summary, f"by operation: {dict(by_op)}",
                                 *[f"scope {n}, strace {lo}..{hi}: {k}" for k, n, lo, hi in wrong[:40]]]))
    check(certain >= command.stable * all_calls, f"bad test: {summary}",
          *[f"{low[k]}..{high[k]} {k}" for k in keys if low[k] != high[k]][:40])
    result.session.wait_end()
    lost = result.session.lost()
    if EMULATED:  # too slow to tell the owner of each file in time
        lost.pop("answer", None)
    check(not lost, f"lost: {lost}")


def out_of_range(k, got, runs):
    """For a tuple that varies from run to run: is even the number of calls of its kind, on its name, impossible?"""
    def like(counter):
        return sum(n for other, n in counter.items() if other[:4] == k[:4])
    numbers = [like(r) for r in runs]
    slack = 2 + max(numbers) // 5
    return not min(numbers) - slack <= like(got) <= max(numbers) + slack


for _command in COMMANDS:
    add_test("conformance", f"strace/{_command.name}", lambda ctx, c=_command: agree(ctx, c), timeout=_command.timeout)


# --- sums of metrics ---

GROUP_METRIC = {"OPG_STAT": "fs.stat", "OPG_SEEK": "fs.seek", "OPG_DELETE": "fs.delete", "OPG_CREATE": "fs.create",
                "OPG_RENAME": "fs.rename", "OPG_CHANGE": "fs.change", "OPG_SYNC": "fs.sync"}
ERROR_CLASS = {"OPG_OPEN_CLOSE": "open_close", "OPG_READ_WRITE": "read_write", "OPG_SYNC": "sync", "OPG_SEEK": "seek",
               "OPG_STAT": "stat", "OPG_DELETE": "delete", "OPG_CREATE": "create", "OPG_RENAME": "rename",
               "OPG_CHANGE": "change"}
NO_ERROR = {-11, -4, -115, -114}  # EAGAIN, EINTR, EINPROGRESS, EALREADY


def sums_of_strace(all_calls):
    """What the metrics of a session without socket traffic have to add up to."""
    sums = Counter()
    for c in all_calls:
        row = calls.TABLE[c.op]
        if c.result is None:
            continue
        if c.result < 0:
            if row.group in ERROR_CLASS and c.result not in NO_ERROR:
                sums["fs.error " + ERROR_CLASS[row.group]] += 1
            continue
        if row.group in GROUP_METRIC:
            sums[GROUP_METRIC[row.group]] += 1
        if row.shape in ("SHP_READ", "SHP_READV") or row.shape in ("SHP_SENDFILE", "SHP_SPLICE", "SHP_COPY"):
            sums["fs.read"] += c.bytes
        if row.shape in ("SHP_WRITE", "SHP_WRITEV", "SHP_VMSPLICE", "SHP_SENDFILE", "SHP_SPLICE", "SHP_COPY"):
            sums["fs.write"] += c.bytes
    return sums


@undisturbed
def sums_agree(ctx, command):
    line = shell_line(ctx, command)
    seen = []
    for number in range(2):
        bare, found = seen_by_strace(ctx, command, line, number, ctx.env())
        check(bare.code == 0, "the command failed under strace", bare.describe())
        seen.append(sums_of_strace([c for c in found if c.op in calls.TABLE]))
    check(seen[0] == seen[1], "bad test: two strace runs differ", seen)
    result = ctx.scoped(["/bin/sh", "-c", line], ["--lossless"], cwd=prepared(ctx, command))
    check(result.code == 0, "the command failed", result.describe())
    got = Counter()
    for m in result.session.metrics():
        name = m["_metric"]
        if name == "fs.error":
            name += " " + m.get("class", "?")
        if name in seen[0] or name.startswith("fs.error ") and name.split()[1] in ERROR_CLASS.values():
            got[name] += m["_value"]
    wrong = [f"{name}: scope {got[name]}, strace {seen[0][name]}" for name in sorted(set(got) | set(seen[0]))
             if got[name] != seen[0][name]]
    check(not wrong, "sums differ", *wrong)


for _command in COMMANDS:
    if _command.name in ("list", "compile", "database", "find-xargs", "perl", "packages"):
        add_test("conformance", f"sums/{_command.name}", lambda ctx, c=_command: sums_agree(ctx, c), timeout=120)
