# SPDX-License-Identifier: Apache-2.0
"""A host of a test's own: the rules that probes read, put together by hand (src/wire/rules.h), and the mounts that it takes."""

import struct

import headers

ALLOW, DENY = 1, 2
NAMES = ("RULES_MAGIC syscall_table_hash() sizeof(struct~rules_head) sizeof(struct~rules_entry) JOIN_SEGMENT JOIN_PLAN "
         "JOIN_TRACE JOIN_F_HOST RULES_SIZE_MAX").split()

# Private copies of what tells programs about the library, and of where the rules and the socket are.
SETUP = """set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 none /run
mkdir -m 755 /run/appscope
mount -t tmpfs -o mode=755 none "$1"
cp -a /etc/ld.so.* /etc/passwd /etc/group /etc/nsswitch.conf /etc/alternatives "$1"
mount --bind "$1" /etc
rm -f /etc/ld.so.preload
echo ready
exec cat
"""


def numbers():
    names = tuple(n.replace("~", " ") for n in NAMES)
    return dict(zip(NAMES, headers.values(("wire/rules.h", "wire/join.h", "wire/syscalls.h"), names)))


def compiled(entries, sock="/run/appscope/collector", plan_dir="", **wrong):
    """Rules as probes read them; entries: (kind, name, argument, mode), wrong: other values in the head."""
    n = numbers()
    begin = n["sizeof(struct~rules_head)"] + n["sizeof(struct~rules_entry)"] * len(entries)
    text = bytearray()

    def offset(what):
        if not what:
            return 0
        text.extend(what.encode() + b"\0")
        return begin + len(text) - len(what) - 1

    at_sock, at_plans = offset(sock), offset(plan_dir)
    body = b"".join(struct.pack("<IIII", kind, offset(name), offset(arg), mode) for kind, name, arg, mode in entries)
    head = {"magic": n["RULES_MAGIC"], "table": n["syscall_table_hash()"], "size": begin + len(text), "count": len(entries),
            "socket": at_sock, "plans": at_plans, "generation": 1, **wrong}
    return struct.pack("<QQIIIIQ", *head.values()) + body + bytes(text)
