/* SPDX-License-Identifier: Apache-2.0 */
#include "inject/probe_image.h"

#include <elf.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "base/mem.h"
#include "inject/launch.h"

#define PAGE UINT64_C(4096)

/* Within [0, size): a range of the file, or of the image. */
static bool inside(uint64_t at, uint64_t len, uint64_t size)
{
    return at <= size && len <= size - at;
}

/* Lays out the segments. It is our own file, but whoever changes how it is built shall not find out the hard way. */
int probe_image_make(struct probe_image *im)
{
    const Elf64_Ehdr *eh;
    const Elf64_Phdr *ph;
    size_t size;
    const unsigned char *file = launch_probe(&size);

    *im = (struct probe_image){0};
    if (!size)
        return -ENOENT;
    eh = (const Elf64_Ehdr *)(const void *)file;
    if (size < sizeof(*eh) || eh->e_phentsize != sizeof(*ph) || !inside(eh->e_phoff, eh->e_phnum * sizeof(*ph), size))
        return -ELIBBAD;
    ph = (const Elf64_Phdr *)(const void *)(file + eh->e_phoff);
    for (unsigned i = 0; i < eh->e_phnum; i++) {
        const Elf64_Phdr *p = &ph[i];

        if (p->p_type == PT_TLS || p->p_type == PT_INTERP || (p->p_flags & (PF_W | PF_X)) == (PF_W | PF_X))
            return -ELIBBAD;
        if (p->p_type != PT_LOAD)
            continue;
        if (!inside(p->p_offset, p->p_filesz, size) || p->p_filesz > p->p_memsz ||
            !inside(p->p_vaddr, p->p_memsz, INT_MAX))
            return -ELIBBAD;
        if (p->p_vaddr + p->p_memsz > im->span)
            im->span = p->p_vaddr + p->p_memsz;
    }
    im->bytes = xcalloc(im->span + 1, 1);
    for (unsigned i = 0; i < eh->e_phnum; i++)
        if (ph[i].p_type == PT_LOAD)
            memcpy(im->bytes + ph[i].p_vaddr, file + ph[i].p_offset, ph[i].p_filesz);
    im->entry = eh->e_entry;
    return 0;
}

/* The headers lie in the first segment: the image begins with its file's beginning. */
static const Elf64_Ehdr *header(const struct probe_image *im)
{
    return (const Elf64_Ehdr *)(const void *)im->bytes;
}

static const Elf64_Phdr *headers(const struct probe_image *im)
{
    return (const Elf64_Phdr *)(const void *)(im->bytes + header(im)->e_phoff);
}

static unsigned header_count(const struct probe_image *im)
{
    return header(im)->e_phnum;
}

/* Relocations that need no symbol; there are no others. */
int probe_image_relocate(struct probe_image *im, uint64_t base)
{
    const Elf64_Phdr *ph = headers(im);
    const unsigned count = header_count(im);
    uint64_t rela = 0, size = 0;

    for (unsigned i = 0; i < count; i++) {
        const Elf64_Dyn *d = (const Elf64_Dyn *)(const void *)(im->bytes + ph[i].p_vaddr);

        if (ph[i].p_type != PT_DYNAMIC)
            continue;
        if (!inside(ph[i].p_vaddr, ph[i].p_memsz, im->span))
            return -ELIBBAD;
        for (size_t n = ph[i].p_memsz / sizeof(*d); n && d->d_tag != DT_NULL; n--, d++) {
            switch (d->d_tag) {
            case DT_RELA:
                rela = d->d_un.d_ptr;
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
    }
    if (!inside(rela, size, im->span))
        return -ELIBBAD;
    for (uint64_t at = rela; size >= sizeof(Elf64_Rela); at += sizeof(Elf64_Rela), size -= sizeof(Elf64_Rela)) {
        Elf64_Rela r;
        uint64_t value;

        memcpy(&r, im->bytes + at, sizeof(r));
        if (ELF64_R_TYPE(r.r_info) != ARCH_RELATIVE || !inside(r.r_offset, sizeof(value), im->span))
            return -ELIBBAD;
        value = base + (uint64_t)r.r_addend;
        memcpy(im->bytes + r.r_offset, &value, sizeof(value));
    }
    return 0;
}

const struct probe_info *probe_image_info(const struct probe_image *im)
{
    const struct probe_info *info;
    int32_t distance;

    if (im->entry < sizeof(distance) || im->entry > im->span)
        return NULL;
    memcpy(&distance, im->bytes + im->entry - sizeof(distance), sizeof(distance));
    if (!inside(im->entry + (uint64_t)(int64_t)distance, sizeof(*info), im->span))
        return NULL;
    info = (const struct probe_info *)(const void *)(im->bytes + im->entry + distance);
    return info->magic == PROBE_INFO_MAGIC && info->probe_size == sizeof(struct probe) &&
                   info->process_size == sizeof(struct process)
               ? info
               : NULL;
}

void *probe_image_at(const struct probe_image *im, uint64_t base, const void *address)
{
    return im->bytes + ((uint64_t)(uintptr_t)address - base);
}

void probe_image_free(struct probe_image *im)
{
    free(im->bytes);
    im->bytes = NULL;
}

/* Writes what isn't zero: the memory is new, and most of the probe is room. */
int probe_image_write(const struct trace *t, const struct probe_image *im, uint64_t base)
{
    const unsigned char *bytes = im->bytes;
    size_t size = im->span;
    static const unsigned char zero[PAGE];
    size_t at = 0;

    while (at < size) {
        size_t from = at;

        while (at < size && memcmp(bytes + at, zero, size - at < PAGE ? size - at : PAGE) != 0)
            at += PAGE;
        if (at > size)
            at = size;
        if (at > from) {
            int ret = trace_write(t, base + from, bytes + from, at - from);

            if (ret < 0)
                return ret;
        } else {
            at += PAGE;
        }
    }
    return 0;
}

int probe_image_protect(struct trace *t, struct trace_thread *th, const struct probe_image *im, uint64_t base)
{
    const Elf64_Phdr *ph = headers(im);

    for (unsigned i = 0; i < header_count(im); i++) {
        const Elf64_Phdr *p = &ph[i];
        uint64_t from = p->p_vaddr & ~(PAGE - 1), to = (p->p_vaddr + p->p_memsz + PAGE - 1) & ~(PAGE - 1);
        int prot = ((p->p_flags & PF_R) ? PROT_READ : 0) | ((p->p_flags & PF_X) ? PROT_EXEC : 0);
        int64_t got;
        int ret;

        if (p->p_type != PT_LOAD || (p->p_flags & PF_W))
            continue;
        ret = trace_call(t, th, SYS_mprotect, (const uint64_t[6]){base + from, to - from, (uint64_t)prot}, &got);
        if (ret < 0 || got < 0)
            return ret < 0 ? ret : (int)got;
    }
    return 0;
}
