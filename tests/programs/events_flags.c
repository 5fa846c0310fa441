/* SPDX-License-Identifier: Apache-2.0 */
/* Calls on names that do different things, by their flags. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MUST(c) ((c) ? (void)0 : (perror(#c), _exit(99)))

int main(void)
{
    int a, b;

    MUST((a = open("a", O_CREAT | O_RDWR, 0600)) >= 0 && (b = open("b", O_CREAT | O_RDWR, 0600)) >= 0);
    MUST(write(a, "text", 4) == 4 && !mkdir("d", 0700));
    MUST(!syscall(SYS_renameat2, AT_FDCWD, "a", AT_FDCWD, "b", 2 /* RENAME_EXCHANGE */));
    MUST(!syscall(SYS_renameat2, AT_FDCWD, "a", AT_FDCWD, "c", 1 /* RENAME_NOREPLACE */));
    MUST(!rename("c", "a"));
    MUST(!linkat(AT_FDCWD, "a", AT_FDCWD, "hard", AT_SYMLINK_FOLLOW));
    MUST(!symlink("a", "soft"));
    MUST(!fchownat(AT_FDCWD, "soft", (uid_t)-1, (gid_t)-1, AT_SYMLINK_NOFOLLOW));
    MUST(!fallocate(a, 3 /* FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE */, 0, 4));
    MUST(!unlinkat(AT_FDCWD, "hard", 0) && !unlinkat(AT_FDCWD, "d", AT_REMOVEDIR));
    return 0;
}
