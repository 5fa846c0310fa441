/* SPDX-License-Identifier: Apache-2.0 */
#include "descriptors.h"

#include <asm/stat.h>

#define HIDDEN __attribute__((visibility("hidden")))

HIDDEN uint8_t guest_fds[GUEST_FDS];

HIDDEN enum fd_kind guest_kind(int fd)
{
    return is_guest() && (unsigned)fd < GUEST_FDS ? guest_fds[fd] & ~GUEST_READS : FDK_UNKNOWN;
}

HIDDEN bool guest_reads(int fd)
{
    return is_guest() && (unsigned)fd < GUEST_FDS && guest_fds[fd] & GUEST_READS;
}

HIDDEN void guest_prepare(struct segment_header *s)
{
    for (unsigned fd = 0; fd < GUEST_FDS && fd < s->fd_high; fd++) {
        const struct fd_entry *e = fd_entry(s, fd);

        guest_fds[fd] = e ? (uint8_t)(e->kind | (e->state & FDS_READS || e->kind == FDK_SOCKET ? GUEST_READS : 0)) : 0;
    }
}

/* /dev/null, and who knows what other device, doesn't read what is written to it, and takes any address. */
HIDDEN enum fd_kind kind_of_fd(int fd, struct fd_entry *e)
{
    struct stat st;
    uint64_t major;
    bool terminal;

    if (probe.sandboxed)
        return e ? FDK_UNKNOWN : guest_kind(fd);
    if (SYS2(__NR_fstat, fd, &st) < 0)
        return FDK_UNKNOWN;
    major = (st.st_rdev >> 8) & 0xfff;
    terminal = major == 4 || major == 5 || (major >= 136 && major <= 143); /* admin-guide/devices.txt */
    if (e && ((st.st_mode & 0170000) != 0020000 || terminal))
        e->state |= FDS_READS;
    switch (st.st_mode & 0170000) {
    case 0100000: return FDK_FILE;
    case 0040000: return FDK_DIR;
    case 0010000: return FDK_PIPE;
    case 0140000: return FDK_SOCKET;
    default: return FDK_OTHER;
    }
}
