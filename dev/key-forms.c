/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prints where AES keys may be set up in ELF files of x86_64, and the form of each
 * place, as src/plan/arch/x86_64/keys.c has it: key-forms FILE...
 *
 * A row becomes one of its table once a key that was taken there has opened a TLS
 * connection of that program (tests/tls/test_keys.py): link Debian's libssl.a into
 * a client; `npm pack` bun, deno, dprint and whatever else brings a library.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "plan/arch/x86_64/keys.h"

static void print(void *arg, uint64_t vaddr, bool begins)
{
    const struct elf_image *elf = arg;
    uint64_t hash[X86_STREAM_MAX];
    unsigned n = begins ? x86_stream_function(elf, vaddr) : 0;

    if (!begins)
        printf("  %#" PRIx64 "  aeskeygenassist\n", vaddr);
    else if (n && x86_stream(elf, vaddr, hash) >= n)
        printf("  %#" PRIx64 "  {%u, UINT64_C(%#018" PRIx64 ")}\n", vaddr, n, hash[n - 1]);
}

static int print_file(const char *name)
{
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    struct functions known = {0};
    struct elf_image elf;
    struct stat st;
    void *p;

    if (fd < 0 || fstat(fd, &st))
        return -errno;
    p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (p == MAP_FAILED)
        return -errno;
    if (elf_open(p, (size_t)st.st_size, &elf) || elf.machine != EM_X86_64) {
        munmap(p, (size_t)st.st_size);
        return -ENOEXEC;
    }
    printf("%s\n", name);
    x86_key_places(&elf, print, &elf);
    x86_find_keys(&elf, &known);
    for (size_t i = 0; i < known.count; i++)
        printf("  %#" PRIx64 "  %s\n", known.v[i].vaddr, known.v[i].reason == PLAN_OK ? "known" : "near none that is known");
    functions_free(&known);
    munmap(p, (size_t)st.st_size);
    return 0;
}

int main(int argc, char **argv)
{
    int status = argc < 2 ? 2 : 0;

    if (argc < 2)
        fprintf(stderr, "usage: key-forms FILE...\n");
    for (int i = 1; i < argc; i++) {
        int r = print_file(argv[i]);

        if (r) {
            fprintf(stderr, "key-forms: %s: %s\n", argv[i], strerror(-r));
            status = 1;
        }
    }
    return status;
}
