/* SPDX-License-Identifier: Apache-2.0 */
#include "crash/modules.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

#define PHDRS_MAX 64
#define FAR 2 /* mappings between those of one file: holes that the loader leaves */

int module_rebuild(int (*read)(void *ctx, uint64_t address, void *to, size_t size), void *ctx, uint64_t base,
                   uint64_t end, size_t max, void **ret, size_t *ret_size)
{
    Elf64_Phdr ph[PHDRS_MAX];
    uint64_t first = UINT64_MAX, size = 0;
    Elf64_Ehdr e;
    uint8_t *bytes;

    if (read(ctx, base, &e, sizeof(e)) < 0)
        return -EFAULT;
    if (memcmp(e.e_ident, ELFMAG, SELFMAG) != 0 || e.e_ident[EI_CLASS] != ELFCLASS64 || !e.e_phnum ||
        e.e_phnum > PHDRS_MAX || e.e_phentsize != sizeof(*ph) || e.e_phoff > end - base)
        return -ENOEXEC;
    if (read(ctx, base + e.e_phoff, ph, e.e_phnum * sizeof(*ph)) < 0)
        return -EFAULT;
    for (unsigned i = 0; i < e.e_phnum; i++) {
        if (ph[i].p_type != PT_LOAD)
            continue;
        if (ph[i].p_filesz > max || ph[i].p_offset > max || ph[i].p_vaddr < ph[i].p_offset)
            return -EFBIG;
        if (first == UINT64_MAX)
            first = ph[i].p_vaddr - ph[i].p_offset; /* where offset 0 would be */
        size = ph[i].p_offset + ph[i].p_filesz > size ? ph[i].p_offset + ph[i].p_filesz : size;
    }
    if (first == UINT64_MAX || size < sizeof(e))
        return -ENOEXEC;
    if (size > max)
        return -EFBIG;
    bytes = xcalloc(1, size);
    for (unsigned i = 0; i < e.e_phnum; i++) {
        uint64_t at = base + (ph[i].p_vaddr - first);

        /* What is missing stays zero: data has changed anyway, and the rest says what it can. */
        if (ph[i].p_type == PT_LOAD && at >= base && at < end && ph[i].p_filesz <= end - at &&
            read(ctx, at, bytes + ph[i].p_offset, ph[i].p_filesz) < 0)
            memset(bytes + ph[i].p_offset, 0, ph[i].p_filesz);
    }
    memcpy(bytes, &e, sizeof(e));
    if (e.e_phoff <= size && size - e.e_phoff >= e.e_phnum * sizeof(*ph))
        memcpy(bytes + e.e_phoff, ph, e.e_phnum * sizeof(*ph));
    if (e.e_shoff > size || (uint64_t)e.e_shnum * sizeof(Elf64_Shdr) > size - e.e_shoff) {
        Elf64_Ehdr *head = (Elf64_Ehdr *)(void *)bytes;

        head->e_shoff = 0;
        head->e_shnum = head->e_shstrndx = 0;
    }
    *ret = bytes;
    *ret_size = size;
    return 0;
}

static int read_process(void *ctx, uint64_t address, void *to, size_t size)
{
    return process_read(*(pid_t *)ctx, address, to, size);
}

static bool same_file(const struct process_map *a, const struct process_map *b)
{
    return a->inode && a->inode == b->inode && a->dev == b->dev && strcmp(a->name, b->name) == 0;
}

/* The mappings of one file that belong together: [i, *ret_end), and whether there is code among them. */
static bool group(const struct process_maps *maps, size_t i, size_t *ret_end)
{
    const struct process_map *first = &maps->v[i];
    bool code = first->execute;

    *ret_end = i + 1;
    for (size_t j = i + 1; j < maps->count && j <= *ret_end + FAR; j++) {
        if (!same_file(first, &maps->v[j]))
            continue;
        if (maps->v[j].offset == 0 && maps->v[j].lo != maps->v[*ret_end - 1].hi)
            break; /* the same file once more */
        code |= maps->v[j].execute;
        *ret_end = j + 1;
    }
    return code;
}

void modules_take(struct modules *m, pid_t pid, const struct process_maps *maps)
{
    struct process_probe probe = {0};
    bool observed = process_find_probe(pid, maps, &probe, NULL);
    uint64_t images = 0;
    size_t room = 0, end;

    *m = (struct modules){0};
    for (size_t i = 0; i < maps->count; i = end) {
        const struct process_map *v = &maps->v[i];
        struct module mod = {.lo = v->lo, .fd = -1};
        bool vdso = strcmp(v->name, "[vdso]") == 0, code = group(maps, i, &end);

        mod.probe = observed && v->lo - probe.base < probe.span;
        if (mod.probe) /* without a file it is several nameless mappings */
            while (end < maps->count && maps->v[end].lo - probe.base < probe.span)
                end++;
        mod.hi = maps->v[end - 1].hi;
        if (!vdso && !mod.probe && (!v->inode || !code))
            continue;
        if (m->count == MODULES_MAX) {
            m->left_out++;
            continue;
        }
        if (v->inode)
            mod.fd = process_open_map(pid, v);
        if (mod.fd < 0) {
            uint64_t max =
                MODULE_IMAGES_MAX - images < MODULE_IMAGE_MAX ? MODULE_IMAGES_MAX - images : MODULE_IMAGE_MAX;

            mod.fd = -1;
            if (module_rebuild(read_process, &pid, mod.lo, mod.hi, max, &mod.image, &mod.image_size) == 0)
                images += mod.image_size;
        }
        mod.name = xstrdup(v->name);
        if (m->count == room) {
            room = room ? 2 * room : 32;
            m->v = xrealloc(m->v, room, sizeof(mod));
        }
        m->v[m->count++] = mod;
    }
}

const struct module *modules_at(const struct modules *m, uint64_t address)
{
    for (size_t i = 0; i < m->count; i++)
        if (address - m->v[i].lo < m->v[i].hi - m->v[i].lo)
            return &m->v[i];
    return NULL;
}

void modules_free(struct modules *m)
{
    for (size_t i = 0; i < m->count; i++) {
        free(m->v[i].name);
        free(m->v[i].image);
        if (m->v[i].fd >= 0)
            close(m->v[i].fd);
    }
    free(m->v);
    *m = (struct modules){0};
}
