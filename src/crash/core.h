/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An ELF core of a process that stands: what gdb, eu-stack and the like open.
 *
 * It is laid out as the kernel's own (elf(5), core(5), fs/binfmt_elf.c of Linux): ELF header, program headers, one
 * PT_NOTE with the registers of all threads and what else is known of the process, then a PT_LOAD for each mapping.
 * What of a mapping is in it says /proc/PID/coredump_filter, and MADV_DONTDUMP of madvise(2). Pages that are all zero,
 * were never touched or can't be read are holes.
 *
 * What matters most is written first: the stack of the thread that it is about, those of others, then what programs and
 * libraries have written to their own data, then the rest; in each what is small first. So a core that had to be cut has
 * whole backtraces. A mapping that is cut keeps its beginning (p_filesz says how much), so that readers take nothing for
 * zero that isn't.
 *
 * The private part of memory is found by /proc/PID/pagemap, without touching pages that the process has never used.
 * Shared memory is read through its file where that may be opened (/proc/PID/map_files, CAP_CHECKPOINT_RESTORE); else
 * what the process itself has used of it is in the core, and not what others have, as reading it would make it grow.
 */
#ifndef SCOPE_CRASH_CORE_H
#define SCOPE_CRASH_CORE_H

#include <stdint.h>

#include "crash/view.h"

struct core_result {
    uint64_t size;       /* of the file, holes included */
    uint64_t written;    /* bytes, without holes */
    uint64_t unreadable; /* bytes that should be there and are holes, as they couldn't be read */
    uint64_t cut;     /* bytes of memory that are missing because of `error`, or of max; at most: some may be holes */
    unsigned threads; /* whose registers are in it */
    int error;        /* as returned */
};

/*
 * Writes it to a new file that is open for writing (its position isn't used). max: bytes that are written at most,
 * holes don't count; 0: no bound. 0, or -errno, which says why something is missing: -EFBIG max (or the file system's
 * bound) was reached, -ETIMEDOUT view->deadline was, -ENOSPC (an eighth of what the disk has left stays free, 64 MiB at most),
 * -EDQUOT, -EIO, ...; what has been written is a valid core then, unless *ret says that it has 0 bytes. -ESRCH:
 * the process is gone. The caller ignores SIGXFSZ.
 */
int core_write(const struct crash_view *view, int fd, uint64_t max, struct core_result *ret);

#endif
