# SPDX-License-Identifier: Apache-2.0
"""System calls as three parties tell them, in one form: the `syscall` events of
scope, the output of strace, and the lists that the programs in tests/programs
print. Which argument is a path comes from src/wire/syscalls.def.
"""

import errno
import functools
import json
import re
import struct
from collections import Counter, namedtuple

from scopetest import MACHINE, TOP

Row = namedtuple("Row", "name group shape paths")


def _table():
    rows = {}
    for line in (TOP / "src/wire/syscalls.def").read_text().splitlines():
        m = re.match(r"SYSCALL\((\w+),\s*(\w+),\s*(\w+),", line)
        if m and "SCF_VIRTUAL" not in line:  # those are not told
            rows[m[1]] = Row(m[1], m[2], m[3], [int(n) for n in re.findall(r"PATH_ARG\((\d)\)", line)])
    return rows


TABLE = _table()


def _lacking():
    """Those that this architecture doesn't have: src/wire/unistd.h gives them numbers below 0."""
    if MACHINE == "x86_64":
        return set()
    return set(re.findall(r"^#define __NR_(\w+) -\d+$", (TOP / "src/wire/unistd.h").read_text(), re.M))


LACKING = _lacking()

FD_FIRST = {"SHP_FDOP", "SHP_CLOSE", "SHP_READ", "SHP_WRITE", "SHP_READV", "SHP_WRITEV", "SHP_DUP", "SHP_DUP2",
            "SHP_FCNTL", "SHP_IOCTL", "SHP_ADDRESS", "SHP_CONNECT", "SHP_SOCKOPT", "SHP_ACCEPT", "SHP_SENDTO", "SHP_RECVFROM",
            "SHP_SENDMSG", "SHP_RECVMSG", "SHP_SENDMMSG", "SHP_RECVMMSG", "SHP_SENDFILE", "SHP_VMSPLICE",
            "SHP_URING_ENTER"}
TRANSFER = {"SHP_READ", "SHP_WRITE", "SHP_READV", "SHP_WRITEV", "SHP_SENDFILE", "SHP_SPLICE", "SHP_TEE",
            "SHP_VMSPLICE", "SHP_COPY", "SHP_SENDTO", "SHP_RECVFROM", "SHP_SENDMSG", "SHP_RECVMSG"}
# Calls whose result is a new descriptor, a process or an address: compared as such, not as a number.
NEW_FD = {"SHP_OPEN", "SHP_DUP", "SHP_MAKE", "SHP_SOCKET", "SHP_ACCEPT", "SHP_URING_SETUP"}
NO_RESULT = {"exit", "exit_group"}


class Call:
    """One call. Members that are not known are None."""

    __slots__ = ("op", "tid", "pid", "path", "path2", "file", "file2", "fd", "bytes", "result", "addr", "text")

    def __init__(self, op, tid, **members):
        self.op, self.tid = op, tid
        for name in self.__slots__[2:]:
            setattr(self, name, members.get(name))

    def __str__(self):
        shown = [f"{n}={getattr(self, n)!r}" for n in self.__slots__[3:-1] if getattr(self, n) is not None]
        return f"{self.op}[{self.tid}] " + " ".join(shown)


def from_event(body):
    """A `syscall` event."""
    d = body["data"]
    result = d.get("result")
    name = d.get("errno")
    if name:
        result = -getattr(errno, name) if hasattr(errno, name) else result
    addr = d.get("addr")
    if addr is None and d.get("net_peer_ip"):
        addr = f"{d['net_peer_ip']}:{d['net_peer_port']}"
    return Call(d.get("op", body["source"]), d.get("tid"), pid=body["pid"], path=d.get("path"), path2=d.get("path2"),
                file=d.get("file"), file2=d.get("file2") or d.get("file_to"), fd=d.get("fd"), bytes=d.get("bytes"),
                result=result, addr=addr, text=json.dumps(d))


# --- strace ---

# Calls that are newer than the strace of Debian 12, which shows them by number (x86_64) and without their paths.
UNKNOWN_TO_STRACE = {"syscall_0x1c4": "fchmodat2"}

_LINE = re.compile(r"^(\w+)\((.*)\)\s+= (\?|-?\d+|0x[0-9a-f]+)(?: ([A-Z][A-Z0-9_]+))?(?:[ <(].*)?$", re.S)


def _split(text):
    """Top-level arguments of a call as strace prints them. Strings are in hexadecimal (-xx), so they hold no quotes."""
    found, depth, quoted, start = [], 0, False, 0
    for i, c in enumerate(text):
        if c == '"':
            quoted = not quoted
        elif quoted:
            continue
        elif c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        elif c == "," and depth == 0:
            found.append(text[start:i].strip())
            start = i + 1
    if text:
        found.append(text[start:].strip())
    return found


def _string(text):
    """The text of a quoted argument, None for a pointer that strace could not follow."""
    m = re.match(r'^"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?', text)
    if not m:
        return None
    return bytes.fromhex(m[1].replace("\\x", "")).decode("utf-8", "replace")


def _address(text):
    text = re.sub(r'"((?:\\x[0-9a-f]{2})*)"',
                  lambda m: '"' + bytes.fromhex(m[1].replace("\\x", "")).decode("latin-1") + '"', text)
    port = re.search(r"(?:sin6?_port)=htons\((\d+)\)", text)
    ip = re.search(r'inet_addr\("([^"]+)"\)', text) or re.search(r'inet_pton\(AF_INET6, "([^"]+)"', text)
    if port and ip:
        return f"{ip[1].removeprefix('::ffff:') if '.' in ip[1] else ip[1]}:{port[1]}"
    path = re.search(r'sun_path=@?"([^"]+)"', text)
    return path[1] if path else None


def observed(op, args):
    """Of fcntl and ioctl, only what makes or marks a descriptor is observed; of mmap, only maps of files."""
    if op in ("fcntl", "ioctl"):
        return len(args) > 1 and args[1] in ("F_DUPFD", "F_DUPFD_CLOEXEC", "F_SETFD", "FIOCLEX", "FIONCLEX")
    return op != "mmap" or len(args) > 4 and not args[4].startswith("-") and "MAP_ANONYMOUS" not in args[3]


def strace_line(line, tid):
    """A line of `strace -xx -ff`; None for lines that tell of no call, and for calls that aren't observed."""
    m = _LINE.match(line)
    if not m:
        return None
    op = UNKNOWN_TO_STRACE.get(m[1], m[1])
    row = TABLE.get(op)
    if not row:
        return None
    args = _split(m[2])
    if not observed(op, args):
        return None
    result = None if m[3] == "?" else int(m[3], 0)
    if m[4] and result == -1:
        result = -getattr(errno, m[4], 9999)
    call = Call(op, tid, result=result, text=line[:300])
    paths = [_string(args[n]) if n < len(args) else None for n in row.paths]
    if paths:
        call.path = paths[0]
    if len(paths) > 1:
        call.path2 = paths[1]
    if row.shape in FD_FIRST and args:
        with_number = re.match(r"-?\d+", args[0])
        call.fd = int(with_number[0]) if with_number else None
    elif row.shape == "SHP_MMAP" and len(args) > 4:
        call.fd = int(re.match(r"-?\d+", args[4])[0])
    if row.shape in ("SHP_CONNECT", "SHP_ADDRESS") and len(args) > 1:
        call.addr = _address(args[1])
    elif row.shape == "SHP_SENDTO" and len(args) > 4:
        call.addr = _address(args[4])
    if row.shape in TRANSFER and result is not None:
        call.bytes = max(result, 0)
    elif row.shape in ("SHP_SENDMMSG", "SHP_RECVMMSG") and result is not None:
        call.bytes = sum(int(n) for n in re.findall(r"msg_len=(\d+)", m[2])[:max(result, 0)])
    return call


# "?": an older strace need not know the call.
STRACE_SET = ",".join("?" + op for op in sorted(TABLE)) + ",munmap"


@functools.lru_cache(None)
def has_loader(path):
    """False for a file that is known to be a static program."""
    if path == "/proc/self/exe":  # busybox runs itself so
        return False
    try:
        with open(path, "rb") as f:
            head = f.read(4096)
    except (OSError, TypeError):
        return True
    if head[:5] != b"\x7fELF\x02":
        return True
    phoff, phentsize, phnum = *struct.unpack_from("<Q", head, 32), *struct.unpack_from("<HH", head, 54)
    return any(struct.unpack_from("<I", head, phoff + i * phentsize)[0] == 3 for i in range(phnum))  # PT_INTERP


def strace_calls(directory, prefix, images=True):
    """Calls of `strace -ff -o DIRECTORY/PREFIX`, thread by thread: {tid: [Call]}.

    With images=True, what the dynamic loader does before the first constructor
    of an image runs is left out, as scope cannot see it: the probe is loaded by
    the loader. The rule: everything from exec to the munmap of /etc/ld.so.cache,
    which is the last thing that glibc's loader does before it runs constructors
    (glibc, elf/rtld.c: dl_main ends with _dl_unload_cache, _dl_init follows).
    Programs without a loader are seen from their first call.
    An image without libraries doesn't need the cache: there it ends with the
    look for /etc/ld.so.preload.
    """
    threads = {}
    for path in sorted(directory.glob(prefix + ".*")):
        tid = int(path.name.rsplit(".", 1)[1])
        calls, loading, cache, fd, no_libraries = [], False, None, None, []
        for line in path.read_text(errors="replace").splitlines():
            if images and line.startswith("execve") and line.rstrip().endswith("= 0"):
                call = strace_line(line, tid)
                calls += [*no_libraries, call] if loading else [call]
                loading, cache, fd, no_libraries = has_loader(call.path), None, None, []
                continue
            if loading:
                if line.startswith("munmap(") and cache and line.split("(")[1].split(",")[0] == cache:
                    loading = False
                call = strace_line(line, tid)
                if call and call.path == "/etc/ld.so.cache" and (call.result or -1) >= 0:
                    fd = str(call.result)
                elif call and call.op == "mmap" and fd and _split(line[5:line.rindex(")")])[4] == fd:
                    cache, fd = line.rsplit("= ", 1)[1].strip(), None
                if call:
                    no_libraries = [] if cache or fd or call.path == "/etc/ld.so.preload" else [*no_libraries, call]
                continue
            call = strace_line(line, tid)
            if call:
                calls.append(call)
        threads[tid] = calls + no_libraries if loading else calls
    return threads


# --- comparing ---

def key(call, substitutions=()):
    """What has to be equal, as a tuple: operation, path(s) or address, bytes, result."""
    row = TABLE[call.op]
    result = call.result
    if call.op in NO_RESULT or (row.shape == "SHP_EXEC" and (result is None or result >= 0)):
        result = None
    elif result is not None and result >= 0:
        if row.shape in NEW_FD or (row.shape == "SHP_FCNTL"):
            result = "ok"
        elif row.shape in ("SHP_CLONE", "SHP_WAIT"):
            result = "pid" if result > 0 else 0
        elif row.shape == "SHP_MMAP":
            result = "address"
    def tidy(text):
        if not text:
            return None  # scope leaves out an empty path
        text = re.sub(r"^/proc/\d+", "/proc/PID", text)
        for pattern, with_text in substitutions:
            text = re.sub(pattern, with_text, text)
        return text
    return (call.op, tidy(call.path), tidy(call.path2), call.addr if row.shape == "SHP_CONNECT" else None, result)


def multiset(calls, substitutions=(), leave_out=()):
    return Counter(key(c, substitutions) for c in calls if c.op not in leave_out)
