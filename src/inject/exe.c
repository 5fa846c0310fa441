/* SPDX-License-Identifier: Apache-2.0 */
#include "inject/exe.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/mem.h"

#define PHDR_MAX 512
#define DYN_MAX 4096
#define NEEDED_MAX 256
#define SCRIPT_DEPTH 4 /* the kernel allows as many (BINPRM depth) */

/* The header of this executable, from the linker: programs of the same machine can be observed. */
extern const Elf64_Ehdr __ehdr_start __attribute__((visibility("hidden")));

/* Reads exactly len bytes; false if the file is shorter. */
static bool read_at(int fd, void *to, size_t len, uint64_t offset)
{
    char *p = to;

    while (len) {
        ssize_t n = offset > INT64_MAX ? 0 : pread(fd, p, len, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        p += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return true;
}

/* A NUL-terminated string of at most PATH_MAX bytes; NULL if there is none. */
static char *read_string(int fd, uint64_t offset, uint64_t size_limit)
{
    char text[PATH_MAX];
    ssize_t n;

    if (size_limit > sizeof(text))
        size_limit = sizeof(text);
    if (offset > INT64_MAX)
        return NULL;
    n = pread(fd, text, (size_t)size_limit, (off_t)offset);
    if (n <= 0 || !memchr(text, '\0', (size_t)n))
        return NULL;
    return xstrdup(text);
}

static uint64_t file_offset(const Elf64_Phdr *ph, unsigned count, uint64_t vaddr)
{
    for (unsigned i = 0; i < count; i++)
        if (ph[i].p_type == PT_LOAD && vaddr >= ph[i].p_vaddr && vaddr - ph[i].p_vaddr < ph[i].p_filesz)
            return ph[i].p_offset + (vaddr - ph[i].p_vaddr);
    return UINT64_MAX;
}

/* Whether others can find symbols in it: its table for that (DT_GNU_HASH: numbers of buckets, of the first symbol, of
 * 64-bit words of a filter; a shift; the filter; the buckets) isn't the one that linkers write for none. */
static bool exports(int fd, uint64_t table)
{
    uint32_t head[4], bucket;

    return !read_at(fd, head, sizeof(head), table) || head[0] != 1 ||
           !read_at(fd, &bucket, sizeof(bucket), table + sizeof(head) + UINT64_C(8) * head[2]) || bucket != 0;
}

/* DT_NEEDED names; *ret_program tells whether the linker made it as a program. Older linkers don't say so (DF_1_PIE),
 * but what has no name for others and nothing that they could use is no library. */
static void read_dynamic(int fd, const Elf64_Phdr *ph, unsigned count, const Elf64_Phdr *dyn, struct exe *ret,
                         bool *ret_program)
{
    size_t entries = dyn->p_filesz / sizeof(Elf64_Dyn);
    uint64_t strings = UINT64_MAX, size = 0, table = UINT64_MAX;
    bool pie = false, named = false;
    Elf64_Dyn *d;

    if (entries > DYN_MAX)
        entries = DYN_MAX;
    d = xcalloc(entries, sizeof(*d));
    if (!read_at(fd, d, entries * sizeof(*d), dyn->p_offset))
        entries = 0;
    for (size_t i = 0; i < entries && d[i].d_tag != DT_NULL; i++) {
        if (d[i].d_tag == DT_STRTAB)
            strings = file_offset(ph, count, d[i].d_un.d_ptr);
        else if (d[i].d_tag == DT_STRSZ)
            size = d[i].d_un.d_val;
        else if (d[i].d_tag == DT_FLAGS_1)
            pie = d[i].d_un.d_val & DF_1_PIE;
        else if (d[i].d_tag == DT_GNU_HASH)
            table = file_offset(ph, count, d[i].d_un.d_ptr);
        else if (d[i].d_tag == DT_SONAME)
            named = true;
    }
    *ret_program = pie || (!named && table != UINT64_MAX && !exports(fd, table));
    if (strings != UINT64_MAX) {
        for (size_t i = 0; i < entries && d[i].d_tag != DT_NULL && ret->needed_count < NEEDED_MAX; i++) {
            char *name = NULL;

            if (d[i].d_tag == DT_NEEDED && d[i].d_un.d_val < size)
                name = read_string(fd, strings + d[i].d_un.d_val, size - d[i].d_un.d_val);
            if (name) {
                ret->needed = xrealloc(ret->needed, ret->needed_count + 1, sizeof(char *));
                ret->needed[ret->needed_count++] = name;
            }
        }
    }
    free(d);
}

int exe_read(int fd, struct exe *ret)
{
    Elf64_Ehdr eh;
    Elf64_Phdr *ph;
    const Elf64_Phdr *dyn = NULL;
    bool program = false;
    ssize_t n;

    *ret = (struct exe){.kind = EXE_UNKNOWN};
    n = pread(fd, &eh, sizeof(eh), 0);
    if (n < 0)
        return -errno;
    if (n < (ssize_t)sizeof(Elf32_Ehdr) || memcmp(eh.e_ident, ELFMAG, SELFMAG) != 0)
        return 0;
    if (eh.e_ident[EI_CLASS] != ELFCLASS64) { /* e_machine lies at the same place in both classes */
        bool ours = eh.e_machine == EM_386 || eh.e_machine == EM_ARM || eh.e_machine == __ehdr_start.e_machine;

        ret->kind = ours ? EXE_32BIT : EXE_OTHER_ARCH;
        return 0;
    }
    if (n < (ssize_t)sizeof(eh))
        return 0;
    if (eh.e_machine != __ehdr_start.e_machine || eh.e_ident[EI_DATA] != ELFDATA2LSB) {
        ret->kind = EXE_OTHER_ARCH;
        return 0;
    }
    if (eh.e_phentsize != sizeof(Elf64_Phdr) || eh.e_phnum == 0 || eh.e_phnum > PHDR_MAX)
        return 0;
    ph = xcalloc(eh.e_phnum, sizeof(*ph));
    if (read_at(fd, ph, eh.e_phnum * sizeof(*ph), eh.e_phoff)) {
        for (unsigned i = 0; i < eh.e_phnum; i++) {
            if (ph[i].p_type == PT_INTERP && !ret->interpreter)
                ret->interpreter = read_string(fd, ph[i].p_offset, ph[i].p_filesz);
            else if (ph[i].p_type == PT_DYNAMIC)
                dyn = &ph[i];
        }
        if (dyn)
            read_dynamic(fd, ph, eh.e_phnum, dyn, ret, &program);
        /* The dynamic loader itself can be run with a program as its argument: it is a library, a static PIE is none. */
        ret->kind = ret->interpreter || (eh.e_type == ET_DYN && !program) ? EXE_DYNAMIC : EXE_STATIC;
    }
    free(ph);
    return 0;
}

void exe_clear(struct exe *e)
{
    free(e->interpreter);
    for (size_t i = 0; i < e->needed_count; i++)
        free(e->needed[i]);
    free(e->needed);
    *e = (struct exe){0};
}

/* Whether exec would run the file with other rights than ours, so that the dynamic loader goes into secure mode
 * (getauxval(3), AT_SECURE). */
static bool changes_rights(int fd, const struct stat *st)
{
    struct statvfs fs;
    bool secure = false;

    if ((st->st_mode & S_ISUID) && st->st_uid != getuid())
        secure = true;
    if ((st->st_mode & S_ISGID) && (st->st_mode & S_IXGRP) && st->st_gid != getgid())
        secure = true;
    if (!secure && getuid() != 0 && fgetxattr(fd, "security.capability", NULL, 0) > 0)
        secure = true;
    if (!secure)
        return false;
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1)
        return false;
    return !(fstatvfs(fd, &fs) == 0 && (fs.f_flag & ST_NOSUID));
}

/* The interpreter named by a "#!" line (execve(2)); NULL if it is none. */
static char *script_interpreter(int fd)
{
    char line[257];
    ssize_t n = pread(fd, line, sizeof(line) - 1, 0);
    char *p = line + 2, *end;

    if (n < 3 || line[0] != '#' || line[1] != '!')
        return NULL;
    line[n] = '\0';
    p += strspn(p, " \t");
    end = p + strcspn(p, " \t\n");
    if (end == p)
        return NULL;
    return xstrndup(p, (size_t)(end - p));
}

int launch_classify(const char *path, enum exe_kind *ret_kind, char **ret_image)
{
    char *image = xstrdup(path);
    int rc = 0;

    *ret_kind = EXE_UNKNOWN;
    for (int depth = 0;; depth++) {
        struct exe e = {0};
        struct stat st;
        char *next;
        int fd = open(image, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

        if (fd < 0) {
            rc = errno == EACCES && access(image, X_OK) == 0 ? 0 : -errno;
            break;
        }
        if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
            rc = -EACCES;
            close(fd);
            break;
        }
        next = script_interpreter(fd);
        if (next) {
            close(fd);
            free(image);
            image = next;
            if (depth == SCRIPT_DEPTH) {
                rc = -ELOOP;
                break;
            }
            continue;
        }
        rc = exe_read(fd, &e);
        *ret_kind = e.kind;
        if (rc == 0 && changes_rights(fd, &st))
            *ret_kind = EXE_SETID;
        exe_clear(&e);
        close(fd);
        break;
    }
    if (rc == 0 && ret_image)
        *ret_image = image;
    else
        free(image);
    return rc;
}

const char *launch_reason(enum exe_kind kind)
{
    switch (kind) {
    case EXE_32BIT:
        return "is a 32-bit program";
    case EXE_OTHER_ARCH:
        return "is a program for another architecture";
    case EXE_SETID:
        return "changes its user, group or capabilities when it starts";
    case EXE_DYNAMIC:
    case EXE_STATIC:
    case EXE_UNKNOWN:
        break;
    }
    return NULL;
}

bool launch_preloads(enum exe_kind kind)
{
    return kind == EXE_DYNAMIC || kind == EXE_STATIC || kind == EXE_UNKNOWN;
}
