/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data in the text, and two functions behind it that make any system call: one that is called, and one of which nothing
 * but the address is there, so that nobody can prove that it is code. Opens a file by each. With the argument "data"
 * there is another address instead: that of more data.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ANY "mov %rdi,%rax\n mov %rsi,%rdi\n mov %rdx,%rsi\n mov %rcx,%rdx\n syscall\n cmp $-4096,%rax\n ret\n"
__asm__(".pushsection .text\n"
        "bytes: .rept 16\n .byte 0x06,0x07,0x0e,0x16,0x17,0x1e,0x0f,0x05\n .endr\n .p2align 4\n"
        "called: xor %r10d,%r10d\n " ANY ".byte 6,6,6,6\n .p2align 4\n"
#ifndef DATA
        "taken: xor %r8d,%r8d\n " ANY
#endif
        " .popsection\n");
long called(long nr, long a, long b, long c) __attribute__((visibility("hidden")));
#ifndef DATA
long taken(long nr, long a, long b, long c) __attribute__((visibility("hidden")));
static long (*volatile function)(long nr, long a, long b, long c) = taken;
#endif
extern const unsigned char bytes[] __attribute__((visibility("hidden")));
static const unsigned char *volatile data = bytes;

int main(void)
{
    long fd = called(SYS_openat, AT_FDCWD, (long)"/etc/hostname", O_RDONLY);

    if (fd < 0 || close((int)fd))
        return 1;
#ifndef DATA
    fd = function(SYS_openat, AT_FDCWD, (long)"/etc/passwd", O_RDONLY);
    if (fd < 0 || close((int)fd))
        return 2;
#endif
    return data[6] == 0x0f ? 0 : 3;
}
