/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of observed system calls (syscalls.def) as enums and as data.
 * Usable freestanding. Everything here is constant.
 */
#ifndef SCOPE_WIRE_SYSCALLS_H
#define SCOPE_WIRE_SYSCALLS_H

#include <stdint.h>

#include "wire/functions.h"
#include "wire/unistd.h"

/* What a call is counted as. Failed calls of a group form an error class
 * (docs/data-model.md, fs.error and net.error). */
enum op_group {
    OPG_NONE,
    OPG_OPEN_CLOSE, OPG_READ_WRITE, OPG_SYNC, OPG_SEEK, OPG_STAT, OPG_DELETE, OPG_CREATE, OPG_RENAME,
    OPG_CHANGE, OPG_DESC, OPG_MAP, OPG_CONNECTION, OPG_RX_TX, OPG_PROCESS, OPG_URING,
};

/* Argument layout. "fd" alone means argument 0. */
enum op_shape {
    SHP_NONE,
    SHP_ARGS,        /* nothing but numbers */
    SHP_FDOP,        /* fd, numbers */
    SHP_PATHS,       /* paths as the row says, numbers */
    SHP_OPEN,        /* returns a descriptor for a path */
    SHP_CLOSE,       /* fd */
    SHP_CLOSE_RANGE, /* first, last, flags */
    SHP_READ,        /* fd, buffer, size: returns bytes */
    SHP_WRITE,
    SHP_READV,       /* fd, iovec, count: returns bytes */
    SHP_WRITEV,
    SHP_SENDFILE,    /* out fd, in fd */
    SHP_SPLICE,      /* in fd, offset, out fd, offset */
    SHP_TEE,         /* in fd, out fd */
    SHP_VMSPLICE,    /* fd, iovec, count */
    SHP_COPY,        /* in fd, offset, out fd, offset */
    SHP_READLINK,    /* path and output buffer */
    SHP_DUP,         /* fd: returns a descriptor */
    SHP_DUP2,        /* fd, fd */
    SHP_FCNTL,       /* fd, command: F_DUPFD, F_DUPFD_CLOEXEC, F_SETFD matter */
    SHP_IOCTL,       /* fd, command: FIOCLEX, FIONCLEX matter */
    SHP_PIPE,        /* int[2] */
    SHP_MAKE,        /* returns a descriptor without a path in the file system */
    SHP_MMAP,        /* address, length, prot, flags, fd, offset */
    SHP_SOCKET,      /* domain, type, protocol: returns a descriptor */
    SHP_SOCKETPAIR,  /* domain, type, protocol, int[2] */
    SHP_ADDRESS,     /* fd, sockaddr, length */
    SHP_CONNECT,
    SHP_SOCKOPT,     /* fd, level, option, value out, length in/out */
    SHP_ACCEPT,      /* fd, sockaddr out, length in/out: returns a descriptor */
    SHP_SENDTO,      /* fd, buffer, size, flags, sockaddr, length */
    SHP_RECVFROM,
    SHP_SENDMSG,     /* fd, msghdr, flags */
    SHP_RECVMSG,
    SHP_SENDMMSG,    /* fd, mmsghdr[], count, flags: returns messages */
    SHP_RECVMMSG,
    SHP_CLONE,
    SHP_EXEC,
    SHP_EXIT,
    SHP_WAIT,        /* writes a status to argument 1 (wait4) or a siginfo to argument 2 (waitid) */
    SHP_PRCTL,
    SHP_URING_SETUP,
    SHP_URING_ENTER,
    SHP_AIO,         /* io_setup(2) and its relatives */
    SHP_SIGNAL,      /* rt_sigaction(2), sigaltstack(2) */
};

enum op_flag {
    SCF_RECORD   = 1 << 0, /* a successful call has a record in every mode */
    SCF_ENTER    = 1 << 1, /* the probe must act before the call */
    SCF_TIMED    = 1 << 2, /* the probe acts before the call when timing is on */
    SCF_NORETURN = 1 << 3, /* never comes back: there is no exit hook */
    SCF_VIRTUAL  = 1 << 4, /* hooked only with SEG_M_CRASH, to change what the program sees; never recorded nor counted */
};

#define PATH_ARG(n) (1 << (n))

enum op_id {
    OP_NONE,
#define SYSCALL(name, group, shape, paths, flags) OP_##name,
#include "wire/syscalls.def"
#undef SYSCALL
    OP_MAX
};

struct op_desc {
    int16_t nr;     /* number on this architecture; below 0: it has none */
    uint8_t group;  /* enum op_group */
    uint8_t shape;  /* enum op_shape */
    uint8_t paths;  /* PATH_ARG() bits */
    uint8_t flags;  /* enum op_flag */
};

static const struct op_desc op_table[OP_MAX] __attribute__((unused)) = {
#define SYSCALL(name, group, shape, paths, flags) [OP_##name] = {__NR_##name, group, shape, paths, flags},
#include "wire/syscalls.def"
#undef SYSCALL
};

#define OP_NR_MAX 512

/* Where a table by numbers keeps a call; such as have no number lie behind all others. */
#define OP_NR_PLACE(nr) ((nr) < 0 ? OP_NR_MAX - 1 - (nr) : (nr))
#define OP_NR_PLACES    (OP_NR_MAX + NR_LACKING_MAX)

static const uint8_t op_of_nr_table[OP_NR_PLACES] __attribute__((unused)) = {
#define SYSCALL(name, group, shape, paths, flags) [OP_NR_PLACE(__NR_##name)] = OP_##name,
#include "wire/syscalls.def"
#undef SYSCALL
};

_Static_assert(OP_MAX <= 256, "op_of_nr_table holds bytes");

/* The op of a system call number; OP_NONE if it isn't observed. */
static inline enum op_id op_of_nr(int64_t nr)
{
    return nr >= 0 && nr < OP_NR_MAX ? op_of_nr_table[nr] : OP_NONE;
}

/* Whether a call that fails leaves everything as it was, so that counting it by its group tells all. (The others: what
 * was closed may be closed all the same; an address, a peer that has gone, a process are news.) */
static inline int op_failure_counted(enum op_id op)
{
    switch (op_table[op].group) {
    case OPG_OPEN_CLOSE:
        return op_table[op].shape != SHP_CLOSE && op_table[op].shape != SHP_CLOSE_RANGE;
    case OPG_SYNC: case OPG_SEEK: case OPG_STAT: case OPG_DELETE: case OPG_CREATE: case OPG_RENAME: case OPG_CHANGE:
    case OPG_DESC: case OPG_MAP:
        return 1;
    default:
        return 0;
    }
}

/* The name of an op, as strace prints it; for the collector side only. */
static inline const char *op_name(enum op_id op)
{
    static const char *const names[OP_MAX] = {
        [OP_NONE] = "none",
#define SYSCALL(name, group, shape, paths, flags) [OP_##name] = #name,
#include "wire/syscalls.def"
#undef SYSCALL
    };
    return (unsigned)op < OP_MAX && names[op] ? names[op] : "none";
}

/* FNV-1a over the table and that of functions: differs when any row does. Probe,
 * planner and collector refuse to work with a partner that has other tables. */
static inline uint64_t syscall_table_hash(void)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);

    for (unsigned i = 0; i < OP_MAX; i++) {
        h = (h ^ (uint16_t)op_table[i].nr) * UINT64_C(0x100000001b3);
        h = (h ^ op_table[i].group) * UINT64_C(0x100000001b3);
        h = (h ^ op_table[i].shape) * UINT64_C(0x100000001b3);
        h = (h ^ op_table[i].paths) * UINT64_C(0x100000001b3);
        h = (h ^ op_table[i].flags) * UINT64_C(0x100000001b3);
    }
    return fn_table_hash(h);
}

#endif
