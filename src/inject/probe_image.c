/* SPDX-License-Identifier: Apache-2.0 */
#include "inject/probe_image.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"
#include "inject/launch.h"

#define PAGE ARCH_PAGE
#define CHUNK 4096u /* bytes that are looked at at once for being zero */

/* Within [0, size): a range of the file, or of the image. */
static bool inside(uint64_t at, uint64_t len, uint64_t size)
{
    return at <= size && len <= size - at;
}

/* It is our own file, but whoever changes how it is built shall not find out the hard way. */
int probe_image_make(struct probe_image *im)
{
    size_t size;

    *im = (struct probe_image){0};
    im->file = launch_probe(&size);
    if (!size)
        return -ENOENT;
    im->eh = (const Elf64_Ehdr *)(const void *)im->file;
    if (size < sizeof(*im->eh) || im->eh->e_phentsize != sizeof(*im->ph) ||
        !inside(im->eh->e_phoff, im->eh->e_phnum * sizeof(*im->ph), size))
        return -ELIBBAD;
    im->ph = (const Elf64_Phdr *)(const void *)(im->file + im->eh->e_phoff);
    for (unsigned i = 0; i < im->eh->e_phnum; i++) {
        const Elf64_Phdr *p = &im->ph[i];

        if (p->p_type == PT_TLS || p->p_type == PT_INTERP || (p->p_flags & (PF_W | PF_X)) == (PF_W | PF_X))
            return -ELIBBAD;
        if (p->p_type != PT_LOAD)
            continue;
        if (!inside(p->p_offset, p->p_filesz, size) || p->p_filesz > p->p_memsz ||
            !inside(p->p_vaddr, p->p_memsz, INT_MAX) || ((p->p_flags & PF_W) && im->data_ph))
            return -ELIBBAD;
        if (p->p_flags & PF_W)
            im->data_ph = p;
        if (p->p_vaddr + p->p_memsz > im->span)
            im->span = p->p_vaddr + p->p_memsz;
    }
    if (!im->data_ph)
        return -ELIBBAD;
    im->data = xmalloc(im->data_ph->p_filesz + 1);
    memcpy(im->data, im->file + im->data_ph->p_offset, im->data_ph->p_filesz);
    return 0;
}

/* What lies at an address of the image as bytes of the file, of at least len; NULL if it isn't there. */
static const void *probe_at(const struct probe_image *im, uint64_t vaddr, uint64_t len)
{
    for (unsigned i = 0; i < im->eh->e_phnum; i++)
        if (im->ph[i].p_type == PT_LOAD && vaddr >= im->ph[i].p_vaddr &&
            inside(vaddr - im->ph[i].p_vaddr, len, im->ph[i].p_filesz))
            return im->file + im->ph[i].p_offset + (vaddr - im->ph[i].p_vaddr);
    return NULL;
}

/* Relocations of data that need no symbol; there are no others. */
static struct probe_info *find_info(const struct probe_image *im);

int probe_image_relocate(struct probe_image *im, uint64_t base, uint64_t mapped)
{
    const Elf64_Dyn *d = NULL;
    const unsigned char *rela;
    uint64_t at = 0, size = 0;

    for (unsigned i = 0; i < im->eh->e_phnum; i++)
        if (im->ph[i].p_type == PT_DYNAMIC)
            d = probe_at(im, im->ph[i].p_vaddr, im->ph[i].p_memsz);
    if (!d)
        return -ELIBBAD;
    for (; d->d_tag != DT_NULL; d++) { /* the linker ends it */
        switch (d->d_tag) {
        case DT_RELA:
            at = d->d_un.d_ptr;
            break;
        case DT_RELASZ:
            size = d->d_un.d_val;
            break;
        case DT_NEEDED:
        case DT_REL:
        case DT_RELR:
        case DT_JMPREL:
        case DT_TEXTREL:
            return -ELIBBAD;
        }
    }
    rela = probe_at(im, at, size);
    if (!rela || !find_info(im))
        return -ELIBBAD;
    find_info(im)->mapped = mapped;
    for (; size >= sizeof(Elf64_Rela); rela += sizeof(Elf64_Rela), size -= sizeof(Elf64_Rela)) {
        Elf64_Rela r;
        uint64_t value;

        memcpy(&r, rela, sizeof(r));
        if (ELF64_R_TYPE(r.r_info) != ARCH_RELATIVE || r.r_offset < im->data_ph->p_vaddr ||
            !inside(r.r_offset - im->data_ph->p_vaddr, sizeof(value), im->data_ph->p_filesz))
            return -ELIBBAD;
        value = base + (uint64_t)r.r_addend;
        memcpy(im->data + (r.r_offset - im->data_ph->p_vaddr), &value, sizeof(value));
    }
    return 0;
}

void probe_image_free(struct probe_image *im)
{
    free(im->data);
    im->data = NULL;
}

static struct probe_info *find_info(const struct probe_image *im)
{
    const void *before = probe_at(im, im->eh->e_entry - sizeof(int32_t), sizeof(int32_t));
    struct probe_info *info;
    int32_t distance;
    uint64_t at;

    if (!before)
        return NULL;
    memcpy(&distance, before, sizeof(distance));
    at = im->eh->e_entry + (uint64_t)(int64_t)distance - im->data_ph->p_vaddr;
    if (!inside(at, sizeof(*info), im->data_ph->p_filesz))
        return NULL;
    info = (struct probe_info *)(void *)(im->data + at);
    return info->magic == PROBE_INFO_MAGIC && info->probe_size == sizeof(struct probe) &&
                   info->process_size == sizeof(struct process)
               ? info
               : NULL;
}

const struct probe_info *probe_image_info(const struct probe_image *im)
{
    return find_info(im);
}

void probe_image_untimed(struct probe_image *im)
{
    find_info(im)->entry[PLAN_ENTRY_TIMED] = 0;
}

/* Writes what isn't zero: the memory is new, and most of the probe is room. */
static int write_segment(const struct trace *t, uint64_t base, const unsigned char *bytes, size_t size)
{
    static const unsigned char zero[CHUNK];
    size_t at = 0;

    while (at < size) {
        size_t from = at;

        while (at < size && memcmp(bytes + at, zero, size - at < CHUNK ? size - at : CHUNK) != 0)
            at += CHUNK;
        if (at > size)
            at = size;
        if (at > from) {
            int ret = trace_write(t, base + from, bytes + from, at - from);

            if (ret < 0)
                return ret;
        } else {
            at += CHUNK;
        }
    }
    return 0;
}

int probe_image_write(const struct trace *t, const struct probe_image *im, uint64_t base)
{
    int ret = 0;

    for (unsigned i = 0; ret == 0 && i < im->eh->e_phnum; i++)
        if (im->ph[i].p_type == PT_LOAD)
            ret =
                write_segment(t, base + im->ph[i].p_vaddr,
                              &im->ph[i] == im->data_ph ? im->data : im->file + im->ph[i].p_offset, im->ph[i].p_filesz);
    return ret;
}

/* Code for a process whose memory may not become executable later (MemoryDenyWriteExecute): in fresh memory that is so
 * from the start, and written as a debugger does, whatever its protection. */
static int write_code(struct trace *t, struct trace_thread *th, uint64_t at, size_t size, int prot,
                      const unsigned char *bytes, size_t len)
{
    char path[64];
    int64_t got;
    int fd, ret = trace_call(t, th, SYS_mmap,
                             (const uint64_t[6]){at, size, (uint64_t)prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
                                                 UINT64_MAX, 0},
                             &got);

    if (ret < 0 || got < 0)
        return ret < 0 ? ret : -ELIBEXEC;
    snprintf(path, sizeof(path), "/proc/%d/mem", (int)t->pid);
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return -ELIBEXEC;
    ret = pwrite(fd, bytes, len, (off_t)at) == (ssize_t)len ? 0 : -ELIBEXEC;
    close(fd);
    return ret;
}

int probe_image_protect(struct trace *t, struct trace_thread *th, const struct probe_image *im, uint64_t base)
{
    for (unsigned i = 0; i < im->eh->e_phnum; i++) {
        const Elf64_Phdr *p = &im->ph[i];
        uint64_t from = p->p_vaddr & ~(PAGE - 1), to = (p->p_vaddr + p->p_memsz + PAGE - 1) & ~(PAGE - 1);
        int prot = ((p->p_flags & PF_R) ? PROT_READ : 0) | ((p->p_flags & PF_X) ? PROT_EXEC : 0);
        int64_t got;
        int ret;

        if (p->p_type != PT_LOAD || (p->p_flags & PF_W))
            continue;
        ret = trace_call(t, th, SYS_mprotect, (const uint64_t[6]){base + from, to - from, (uint64_t)prot}, &got);
        if (ret == 0 && (got == -EACCES || got == -EPERM) && (prot & PROT_EXEC)) {
            ret = write_code(t, th, base + from, to - from, prot, im->file + p->p_offset - (p->p_vaddr - from),
                             p->p_filesz + (p->p_vaddr - from));
            got = 0;
        }
        if (ret < 0 || got < 0)
            return ret < 0 ? ret : (int)got;
    }
    return 0;
}
