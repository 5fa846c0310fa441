/* SPDX-License-Identifier: Apache-2.0 */
#include "plan/plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "plan/elf.h"
#include "plan/emit.h"
#include "plan/functions.h"
#include "plan/machine.h"

/* Larger files are no programs. */
#define MAX_FILE_SIZE (UINT64_C(2) << 30)
/* A build-id is 20 bytes as a rule; one that doesn't fit a key is not used. */
#define MAX_ID ((PLAN_KEY_MAX - 1) / 2)

int plan_key(const void *image, size_t size, const void *stat_of_file, char key[PLAN_KEY_MAX])
{
    static const char hex[] = "0123456789abcdef";
    const struct stat *st = stat_of_file;
    const uint8_t *id;
    size_t n = elf_build_id(image, size, &id);

    if (n && n <= MAX_ID) {
        for (size_t i = 0; i < n; i++) {
            key[2 * i] = hex[id[i] >> 4];
            key[2 * i + 1] = hex[id[i] & 15];
        }
        key[2 * n] = 0;
        return 0;
    }
    if (size < SELFMAG || memcmp(image, ELFMAG, SELFMAG) != 0 || !st)
        return -ENOEXEC;
    if (snprintf(key, PLAN_KEY_MAX, "f-%llx-%llx-%llx-%llx", (unsigned long long)st->st_dev,
                 (unsigned long long)st->st_ino,
                 (unsigned long long)st->st_mtim.tv_sec * 1000000000ull + (unsigned long long)st->st_mtim.tv_nsec,
                 (unsigned long long)st->st_size) >= (int)PLAN_KEY_MAX)
        return -ENOEXEC;
    return 0;
}

static int has_call(const struct elf_image *elf, const struct plan_machine *m)
{
    for (unsigned i = 0; i < elf->text_count; i++)
        if (memmem(elf->text[i].bytes, elf->text[i].size, m->call, m->call_size))
            return 1;
    return 0;
}

/* Where AES keys are set up. A module that is certified (FIPS 140) compares its text with a hash, when it starts or is asked
 * to, and aborts if that differs: BoringCrypto and aws-lc have this text for it (crypto/fipsmodule/bcm.c). */
static void find_keys(const struct elf_image *elf, const struct plan_machine *m, struct functions *ret)
{
    static const char checks_itself[] = "FIPS integrity test";

    m->keys(elf, ret);
    if (ret->count && memmem(elf->image, elf->size, checks_itself, sizeof(checks_itself) - 1))
        for (size_t i = 0; i < ret->count; i++)
            ret->v[i].reason = PLAN_R_SELF_CHECK;
}

int plan_image(const void *image, size_t size, const char *key, void **ret_plan, size_t *ret_size)
{
    struct elf_image elf;
    struct functions functions;
    struct emit e = {0};
    int r = elf_open(image, size, &elf);
    const struct plan_machine *m = r < 0 ? NULL : plan_machine(elf.machine);

    if (r < 0)
        return r;
    if (!m)
        return -ENOEXEC;
    functions_find(&elf, &functions);
    if (!functions.count && m->keys)
        find_keys(&elf, m, &functions);
    if ((has_call(&elf, m) || functions.count) && !elf_text_relocations(&elf))
        r = m->sites(&elf, &functions, &e);
    functions_free(&functions);
    if (!r)
        r = emit_finish(&e, m->arch, m->table_hash(), key, ret_plan, ret_size);
    emit_free(&e);
    return r;
}

/* Reads len bytes at off; a file that is shorter is an error. */
static int read_exactly(int fd, void *to, size_t len, uint64_t off)
{
    char *p = to;

    while (len) {
        ssize_t n = pread(fd, p, len, (off_t)off);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -ENOEXEC;
        p += n;
        len -= (size_t)n;
        off += (size_t)n;
    }
    return 0;
}

/* Bytes to look for, and how many there are. */
struct needle {
    const char *bytes;
    size_t size;
};

/* Whether [off, end) of the file holds one of the needles (of at most NEEDLE_MAX bytes): 1, 0 or -errno. */
static int file_holds(int fd, uint64_t off, uint64_t end, const struct needle *needles, unsigned count)
{
    enum { CHUNK = 256 * 1024, NEEDLE_MAX = 64 };
    uint8_t *buf = malloc(CHUNK);
    int r = buf ? 0 : -ENOMEM;

    while (r == 0 && off < end) {
        size_t n = end - off < CHUNK ? (size_t)(end - off) : CHUNK;

        r = read_exactly(fd, buf, n, off);
        for (unsigned i = 0; r == 0 && i < count; i++)
            r = memmem(buf, n, needles[i].bytes, needles[i].size) != NULL;
        if (n < CHUNK)
            break;
        off += n - NEEDLE_MAX; /* it may lie across two chunks */
    }
    free(buf);
    return r;
}

/* Whether a name that makes functions worth looking for is in one of the file's tables of strings: 1, 0 or -errno. */
static int file_has_functions(int fd, uint64_t size, const Elf64_Ehdr *eh)
{
    static const char *const names[FNF_MAX] = FN_WITNESSES;
    struct needle needles[FNF_MAX];
    unsigned count = 0;
    int r = 0;

    for (unsigned i = 0; i < FNF_MAX; i++)
        if (*names[i])
            needles[count++] = (struct needle){names[i], strlen(names[i]) + 1};
    if (eh->e_shentsize != sizeof(Elf64_Shdr) || eh->e_shoff > size ||
        (uint64_t)eh->e_shnum * sizeof(Elf64_Shdr) > size - eh->e_shoff)
        return 0;
    for (unsigned i = 0; i < eh->e_shnum && r == 0; i++) {
        Elf64_Shdr sh;

        r = read_exactly(fd, &sh, sizeof(sh), eh->e_shoff + (uint64_t)i * sizeof(sh));
        if (r == 0 && sh.sh_type == SHT_STRTAB && sh.sh_offset <= size && sh.sh_size <= size - sh.sh_offset)
            r = file_holds(fd, sh.sh_offset, sh.sh_offset + sh.sh_size, needles, count);
    }
    return r;
}

/* Whether an executable segment of the file holds the bytes of a syscall instruction, or it may define functions that
 * are observed: 1, 0 or -errno. Most libraries do neither, and need not be read into memory at once. */
static int file_matters(int fd, uint64_t size, const struct plan_machine **ret)
{
    const struct plan_machine *m;
    struct needle call;
    Elf64_Ehdr eh;
    uint64_t total = 0;
    int r = read_exactly(fd, &eh, sizeof(eh), 0);

    if (r < 0)
        return r;
    if (memcmp(eh.e_ident, ELFMAG, SELFMAG) != 0 || eh.e_ident[EI_CLASS] != ELFCLASS64 ||
        !(m = plan_machine(eh.e_machine)) || eh.e_phentsize != sizeof(Elf64_Phdr) || eh.e_phnum > ELF_MAX_PHDRS)
        return -ENOEXEC;
    *ret = m;
    call = (struct needle){(const char *)m->call, m->call_size};
    for (unsigned i = 0; i < eh.e_phnum && r == 0; i++) {
        Elf64_Phdr ph;
        uint64_t end;

        r = read_exactly(fd, &ph, sizeof(ph), eh.e_phoff + (uint64_t)i * sizeof(ph));
        if (r < 0 || ph.p_type != PT_LOAD || !(ph.p_flags & PF_X) || ph.p_offset >= size)
            continue;
        end = ph.p_filesz < size - ph.p_offset ? ph.p_offset + ph.p_filesz : size;
        total += end - ph.p_offset;
        if (total > ELF_MAX_TEXT_SPAN)
            r = -EFBIG;
        else
            r = file_holds(fd, ph.p_offset, end, &call, 1);
    }
    return r ? r : file_has_functions(fd, size, &eh);
}

int plan_file(int fd, const char *key, void **ret_plan, size_t *ret_size)
{
    const struct plan_machine *m = NULL;
    struct emit empty = {0};
    struct stat st;
    void *image;
    int r;

    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode) || st.st_size < (off_t)sizeof(Elf64_Ehdr))
        return -ENOEXEC;
    if ((uint64_t)st.st_size > MAX_FILE_SIZE)
        return -EFBIG;
    r = file_matters(fd, (uint64_t)st.st_size, &m);
    if (r < 0)
        return r;
    if (r == 0)
        return emit_finish(&empty, m->arch, m->table_hash(), key, ret_plan, ret_size);
    /* Read, not mapped: the file may be cut short at any time, and that must not be a SIGBUS. */
    image = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (image == MAP_FAILED)
        return -ENOMEM;
    r = read_exactly(fd, image, (size_t)st.st_size, 0);
    if (!r)
        r = plan_image(image, (size_t)st.st_size, key, ret_plan, ret_size);
    munmap(image, (size_t)st.st_size);
    return r;
}
