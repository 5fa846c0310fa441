#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A file system in user space (fuse(4), <linux/fuse.h>) with one file, whose end stops to be readable at some point.

  fuse.py DIRECTORY FILE OFFSET     mounts at DIRECTORY a copy of FILE, called "file"; says "ready"

After SIGUSR1 what lies at OFFSET or behind is forgotten by the kernel, and never read again: who wants to, hangs; it says "silent". It ends, and
with it all that hang, when it is killed."""

import ctypes
import errno
import os
import signal
import struct
import sys

LOOKUP, FORGET, GETATTR, OPEN, READ, INIT, OPENDIR, INTERRUPT, BATCH_FORGET = 1, 2, 3, 14, 15, 26, 27, 36, 42
FLUSH, RELEASE, RELEASEDIR = 25, 18, 29
INVAL_INODE = 2
HOUR = 3600


def attributes(inode, size):
    directory = inode == 1
    return struct.pack("=6Q10I", inode, size, size // 512, 0, 0, 0, 0, 0, 0, 0o40755 if directory else 0o100755,
                       2 if directory else 1, os.geteuid(), os.getegid(), 0, 4096, 0)


def main():
    where, name, offset = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with open(name, "rb") as f:
        content = f.read()
    fuse = os.open("/dev/fuse", os.O_RDWR)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={fuse},rootmode=40000,user_id={os.geteuid()},group_id={os.getegid()},default_permissions,allow_other"
    if libc.mount(b"scope-test", where.encode(), b"fuse", 6, options.encode()) < 0:
        sys.exit(os.strerror(ctypes.get_errno()))
    hangs = []

    def hang(*_):
        hangs.append(True)
        body = struct.pack("=QqqI", 2, offset, 0, 0)[:24]
        os.write(fuse, struct.pack("=IiQ", 16 + len(body), INVAL_INODE, 0) + body)
        print("silent", flush=True)

    signal.signal(signal.SIGUSR1, hang)
    print("ready", flush=True)
    while True:
        request = os.read(fuse, 1 << 20)
        _, op, unique, node = struct.unpack_from("=IIQQ", request)
        body, error = b"", 0
        if op in (FORGET, BATCH_FORGET, INTERRUPT):
            continue
        if op == INIT:
            body = struct.pack("=4IHH2IHH8I", 7, 31, 65536, 0, 16, 12, 65536, 1, 16, 0, *[0] * 8)
        elif op == LOOKUP and request[40:] == b"file\0":
            body = struct.pack("=4Q2I", 2, 1, HOUR, HOUR, 0, 0) + attributes(2, len(content))
        elif op == LOOKUP:
            error = -errno.ENOENT
        elif op == GETATTR:
            body = struct.pack("=QII", HOUR, 0, 0) + attributes(node, len(content) if node == 2 else 0)
        elif op in (OPEN, OPENDIR):
            body = struct.pack("=QII", 0, 2, 0)  # FOPEN_KEEP_CACHE
        elif op == READ:
            at, size = struct.unpack_from("=QI", request, 48)
            if hangs and at + size > offset:
                continue
            body = content[at:at + size]
        elif op not in (FLUSH, RELEASE, RELEASEDIR):
            error = -errno.ENOSYS
        os.write(fuse, struct.pack("=IiQ", 16 + len(body), error, unique) + body)


main()
